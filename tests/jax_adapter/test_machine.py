"""machine(): the equations of the spec on JAX arrays, beside the reference and its bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from graftsim_jax import Recorder, graft, machine
from graftsim_jax.machine import MachineState
from tests.jax_adapter.trees import BUDGET, Reference, distance, flat, gradients, tree

EXPRESSIONS = [
    "adam(lr=0.1 / sqrt(step), eps=0.01)",
    "lamb(lr=0.1, weight_decay=0.1, eps=0.01)",
    "lion(lr=0.1)",
    "nadam(lr=0.1, eps=0.01)",
    "novograd(lr=0.1, eps=0.01, weight_decay=0.1)",
    "radam(lr=0.1, beta2=0.75, threshold=4.5, eps=0.01)",
    "graft(adam(lr=0.1), momentum(lr=0.5), partition=row, eps=0.25, scale=1 / step)",
    "graft(rmsprop, sgd, partition=block(5))",
    "graft(adam, sgd, partition=sets(a={'dense.kernel': [0, 3], 'scalar': [0]}, rest=None))",
    "graft(lamb(lr=0.1), novograd(eps=0), partition=pattern(d='dense.*', rest=None))#sgd",
    "scaled(adam(lr=0.1), factor={'all': 2.5}, partition=global)",
    "sgd(lr=0.1 * staircase_2021(steps_per_epoch=2))",
]


RUNS = [(expression, "float64") for expression in EXPRESSIONS] + [
    (expression, "float32") for expression in EXPRESSIONS if expression.startswith(("adam", "novograd", "graft"))
]
"""In float32 those with counters, group values and norms, which are float64 there too."""


@pytest.mark.parametrize(("expression", "dtype"), RUNS)
def test_steps_lie_within_the_bounds(expression: str, dtype: str) -> None:
    """Float32 with JAX's 64-bit mode off. Each step starts from the reference's weights and state."""
    with jax.enable_x64(dtype == "float64"):
        reference, optimizer = Reference(expression, dtype), machine(expression)
        state = optimizer.init(tree(reference.weights))
        update = jax.jit(optimizer.update)
        for gradient in gradients(dtype, 3):
            weights = tree(reference.weights)
            want = reference.step(gradient)
            updates, state = update(tree(gradient), state, weights)
            assert distance(want.delta, flat(updates)) <= BUDGET
            for path, bound in want.state.items():
                assert distance(bound, read(state.slots[path])) <= BUDGET
            state = state._replace(
                slots={path: written(reference.state[path], slot) for path, slot in state.slots.items()}
            )


def read(slot) -> np.ndarray:
    if getattr(slot, "dtype", None) == np.uint32:
        return np.asarray(slot).view("float64")[:, 0]
    return flat(slot)


def written(values: np.ndarray, slot):
    if isinstance(slot, dict):
        return tree(values)
    bits = slot.dtype == np.uint32
    return jnp.asarray(values.view(np.uint32).reshape(-1, 2) if bits else values.astype(slot.dtype))


def test_keyword_arguments_say_what_the_notation_says() -> None:
    gradient, weights = tree(gradients("float32")[1]), tree(np.full(28, 0.5, np.float32))

    def moved(optimizer):
        return flat(jax.jit(optimizer.update)(gradient, optimizer.init(weights), weights)[0])

    want = moved(machine("adam(lr=0.25, eps_placement=inside)"))
    assert (moved(machine("adam", lr=0.25, eps_placement="inside")) == want).all()
    assert (moved(machine("adam", lr=jnp.array(0.25), eps_placement="inside")) == want).all()
    assert (moved(machine("adam", lr=lambda count: 0.25 / (count + 1), eps_placement="inside")) == want).all()
    assert (moved(machine("adam", lr="0.25 / step", eps_placement="inside")) == want).all()
    graft_of = moved(machine("adam#sgd", **{"magnitude.lr": 0.25, "scale": 0.5}))
    assert (graft_of == moved(machine("graft(adam(lr=0.25), sgd, scale=0.5)"))).all()


def test_the_machine_graft_equals_graft_of_machines() -> None:
    gradient, weights = tree(gradients("float32")[1]), tree(np.full(28, 0.5, np.float32))
    found = []
    for optimizer in (machine("adam#momentum"), graft(machine("adam"), machine("momentum"))):
        updates, state = jax.jit(optimizer.update)(gradient, optimizer.init(weights), weights)
        found.append((flat(updates), Recorder(weights).row(state)))
    assert np.allclose(found[0][0], found[1][0], rtol=2.0**-22, atol=0)
    assert set(found[0][1]) == set(found[1][1]) == {"n_m", "n_d", "ratio"}
    assert all(np.allclose(found[0][1][name], found[1][1][name], rtol=2.0**-20) for name in found[0][1])


def test_matrices_are_taken_where_the_spec_has_them() -> None:
    weights = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
    optimizer = machine("shampoo", lr=0.1, eps=0.01)
    state = optimizer.init(weights)
    updates, after = jax.jit(optimizer.update)(weights, state, weights)
    reference = Reference("shampoo(lr=0.1, eps=0.01)", "float32", {"b": (2,), "w": (3, 2)}, 1.0)
    assert distance(reference.step(np.ones(8, np.float32)).delta, flat(updates)) <= BUDGET
    assert jax.tree.structure(state) == jax.tree.structure(after)


def test_it_compiles_once_scans_and_vmaps() -> None:
    optimizer, stream = machine("lamb#novograd"), jnp.asarray(gradients("float32"))
    weights, compiled = {"w": jnp.ones(28)}, []

    def step(state, gradient):
        compiled.append(1)
        updates, state = optimizer.update({"w": gradient}, state, weights)
        return state, updates["w"]

    start = optimizer.init(weights)
    assert isinstance(start, MachineState)
    _, moved = jax.jit(lambda: jax.lax.scan(step, start, stream))()
    assert len(compiled) == 1
    many = jax.jit(jax.vmap(lambda gradient: step(start, gradient)[1]))(stream)
    assert np.allclose(many[0], moved[0], rtol=2.0**-20)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: machine("adamm"), "did you mean 'adam'"),
        (lambda: machine("adam", lr=-1.0), "lr must lie in >= 0"),
        (lambda: machine("adam", rate=1.0), "adam has no 'rate'"),
        (lambda: machine("adam#sgd", **{"magnitude.rate": 1.0}), "no 'rate'"),
        (lambda: machine("adam#sgd", partition="row"), "inside the expression"),
        (lambda: machine("adam", eps_placement="nowhere"), "must be one of"),
    ],
)
def test_mistakes_have_one_line(call, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_weights_are_asked_for_only_where_they_are_read() -> None:
    ones = {"w": jnp.ones(3)}
    adam, lamb = machine("adam"), machine("lamb")
    adam.update(ones, adam.init(ones))
    with pytest.raises(ValueError, match="reads the weights"):
        lamb.update(ones, lamb.init(ones))
    with pytest.raises(TypeError, match="'w' is int32"):
        adam.init({"w": jnp.ones(3, jnp.int32)})
    empty, _ = adam.update({}, adam.init({}))
    assert empty == {}


def test_a_rate_may_be_a_schedule_of_optax() -> None:
    schedule = optax.linear_schedule(0.0, 1.0, 4)
    optimizer = machine("sgd", lr=schedule)
    ones = {"w": jnp.ones(3)}
    state = optimizer.init(ones)
    for count in range(3):
        updates, state = optimizer.update(ones, state)
        assert np.asarray(updates["w"]).tolist() == [-count / 4] * 3
