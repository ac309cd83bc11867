"""graft() inside and around what optax and training loops are made of."""

import io
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

from graftsim_jax import GraftState, graft, machine
from tests.jax_adapter.trees import flat, gradients, tree

M, D = optax.adam(0.1), optax.sgd(1.0, momentum=0.9)


def run(optimizer, steps: int = 3, start=None):
    """The last updates and state of a few jitted steps."""
    weights = tree(np.ones(28, np.float32)) if start is None else start
    state, update = optimizer.init(weights), jax.jit(optimizer.update)
    for gradient in gradients("float32")[:steps]:
        updates, state = update(tree(gradient), state, weights)
    return updates, state


def same(a, b) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert all(
        (np.asarray(x) == np.asarray(y)).all() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_chain_multiplies_afterwards() -> None:
    half, _ = run(optax.chain(graft(M, D), optax.scale(0.5)))
    full, _ = run(graft(M, D))
    same(half, jax.tree.map(lambda x: x * 0.5, full))


def test_scale_takes_numbers_arrays_and_schedules() -> None:
    schedule = optax.linear_schedule(0.0, 1.0, 4)  # at the third step, count 2: 0.5
    number, _ = run(graft(M, D, scale=0.5))
    scheduled, state = run(graft(M, D, scale=schedule))
    array, _ = run(graft(M, D, scale=jnp.array(0.5)))
    same(number, scheduled)
    same(number, array)
    assert int(state.count) == 3


def test_inject_hyperparams_changes_scale_and_eps_between_steps_without_a_compilation() -> None:
    optimizer = optax.inject_hyperparams(graft)(M, D, scale=0.5, eps=0.0)
    weights = tree(np.ones(28, np.float32))
    state, compiled = optimizer.init(weights), []

    def step(updates, state):
        compiled.append(1)
        return optimizer.update(updates, state)

    update = jax.jit(step)
    first, _ = update(tree(gradients("float32")[1]), state)
    state.hyperparams["scale"] = jnp.asarray(0.25, jnp.float32)
    second, _ = update(tree(gradients("float32")[1]), state)
    assert len(compiled) == 1
    same(second, jax.tree.map(lambda x: x * 0.5, first))


def test_a_machine_is_injected_by_a_function_that_names_its_hyperparameters() -> None:
    optimizer = optax.inject_hyperparams(lambda lr: machine("adam", lr=lr))(lr=0.5)
    weights, gradient = tree(np.ones(28, np.float32)), tree(gradients("float32")[1])
    state, update = optimizer.init(weights), jax.jit(optimizer.update)
    first, _ = update(gradient, state)
    state.hyperparams["lr"] = jnp.asarray(0.25, jnp.float32)
    second, _ = update(gradient, state)
    same(second, jax.tree.map(lambda x: x * 0.5, first))
    with pytest.raises(TypeError, match="name them, as in inject_hyperparams"):
        optax.inject_hyperparams(machine)("adam", lr=0.5).init(weights)


def test_a_train_state_of_flax_steps_and_replaces_like_any_other() -> None:
    optimizer, weights = graft(M, machine("lamb", lr=0.5)), tree(np.ones(28, np.float32))
    state = TrainState.create(apply_fn=None, params=weights, tx=optimizer)
    step = jax.jit(lambda state, gradient: state.apply_gradients(grads=gradient))
    params, own, update = weights, optimizer.init(weights), jax.jit(optimizer.update)
    for gradient in map(tree, gradients("float32")[:2]):
        state = step(state, gradient)
        updates, own = update(gradient, own, params)
        params = optax.apply_updates(params, updates)
    assert int(state.step) == 2
    assert np.allclose(flat(state.params), flat(params), rtol=4 * 2.0**-24, atol=0)  # the sum may be fused
    assert jax.tree.structure(state.opt_state) == jax.tree.structure(own)


def test_an_injected_rate_of_the_magnitude_is_the_graft_s() -> None:
    schedule = optax.exponential_decay(0.1, 1, 0.5)
    injected = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
    a, _ = run(graft(injected, D))
    b, _ = run(graft(optax.sgd(schedule), D))
    assert np.allclose(flat(a), flat(b), rtol=4 * 2.0**-24, atol=0)


def test_partition_and_masked_leave_other_leaves_alone() -> None:
    labels = {"dense": "graft", "empty": "graft", "out": "plain", "scalar": "plain", "nothing": None}
    split, _ = run(optax.partition({"graft": graft(M, D), "plain": optax.sgd(0.5)}, labels))
    full, _ = run(graft(M, D))
    same(split["dense"], full["dense"])
    assert (np.asarray(split["out"]) == -0.5 * np.asarray(tree(gradients("float32")[2])["out"])).all()
    mask = {"dense": True, "empty": True, "out": False, "scalar": False, "nothing": None}
    masked, _ = run(optax.masked(graft(M, D), mask))
    same(masked["dense"], full["dense"])
    assert (np.asarray(masked["out"]) == np.asarray(tree(gradients("float32")[2])["out"])).all()


def test_integer_leaves_can_be_masked_out() -> None:
    weights = {"steps": jnp.ones(2, jnp.int32), "w": jnp.ones(2)}
    optimizer = optax.masked(graft(M, D), {"steps": False, "w": True})
    updates, _ = optimizer.update(weights, optimizer.init(weights), weights)
    assert updates["steps"].dtype == jnp.int32


def test_multi_steps_grafts_the_mean_gradient() -> None:
    optimizer = optax.MultiSteps(graft(M, D), every_k_schedule=2)
    weights = tree(np.ones(28, np.float32))
    state = optimizer.init(weights)
    a, b = (tree(g) for g in gradients("float32")[:2])
    none, state = jax.jit(optimizer.update)(a, state, weights)
    assert (flat(none) == 0).all()
    updates, _ = jax.jit(optimizer.update)(b, state, weights)
    mean = jax.tree.map(lambda x, y: (x + y) / 2, a, b)
    want, _ = jax.jit(graft(M, D).update)(mean, graft(M, D).init(weights), weights)
    assert np.allclose(flat(updates), flat(want), rtol=1e-5)


def test_apply_if_finite_keeps_the_state_of_both_children() -> None:
    optimizer = optax.apply_if_finite(graft(M, D), max_consecutive_errors=3)
    weights = tree(np.ones(28, np.float32))
    _, good = optimizer.update(tree(gradients("float32")[1]), optimizer.init(weights), weights)
    updates, after = optimizer.update(tree(gradients("float32")[1] * np.nan), good, weights)
    assert (flat(updates) == 0).all()
    same(after.inner_state, good.inner_state)


def test_a_checkpoint_by_leaves_resumes_to_the_same_bits() -> None:
    optimizer = graft(M, graft(optax.rmsprop(0.1), D), partition="row")
    weights = tree(np.ones(28, np.float32))
    update, state = jax.jit(optimizer.update), optimizer.init(weights)
    stream = [tree(g) for g in gradients("float32")]
    for gradient in stream[:2]:
        _, state = update(gradient, state, weights)
    file = io.BytesIO()
    np.savez(file, *jax.tree.leaves(state))
    file.seek(0)
    loaded = np.load(file, allow_pickle=False)
    restored = jax.tree.unflatten(jax.tree.structure(state), [jnp.asarray(loaded[name]) for name in loaded.files])
    for gradient in stream[2:]:
        a, state = update(gradient, state, weights)
        b, restored = update(gradient, restored, weights)
        same(a, b)
    same(state, restored)


def test_nested_grafts_have_partitions_of_their_own() -> None:
    _, state = run(graft(graft(M, D, partition="global"), optax.rmsprop(0.1), partition="row"))
    assert isinstance(state.magnitude, GraftState)
    assert set(state.magnitude.info.ratio) == {"all"}
    assert state.info.ratio["dense"]["kernel"].shape == (4,)


def test_parameters_and_state_are_one_carry_of_a_scanned_loop() -> None:
    tx = graft(M, D)

    def step(carry, gradient):
        params, opt_state = carry
        updates, opt_state = tx.update({"w": gradient}, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), opt_state.info.ratio["w"]

    params = {"w": jnp.ones(28)}
    stream = jnp.asarray(gradients("float32"))
    (last, _), ratios = jax.jit(lambda: jax.lax.scan(step, (params, tx.init(params)), stream))()
    assert ratios.shape == (4,)
    assert np.isfinite(last["w"]).all()


def test_mixed_dtypes_keep_theirs() -> None:
    weights = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(3, jnp.float16), "c": jnp.ones(3)}
    for optimizer in (graft(optax.sgd(0.5), optax.sgd(1.0), partition="global"), machine("sgd(lr=0.5)#sgd")):
        updates, _ = optimizer.update(weights, optimizer.init(weights), weights)
        assert {key: value.dtype for key, value in updates.items()} == {
            key: value.dtype for key, value in weights.items()
        }
        assert all((np.asarray(value, np.float32) == -0.5).all() for value in updates.values())


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, graftsim_jax; print([m for m in ('numba', 'jsonschema', 'torch', 'flax') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_object_as_both_children_has_two_states() -> None:
    _, state = run(graft(D, D), steps=2)
    same(state.magnitude, state.direction)
    alone, own = run(D, steps=2)
    same(state.magnitude, own)
    assert np.allclose(flat(run(graft(D, D), steps=2)[0]), flat(alone), rtol=2.0**-22)


@pytest.mark.parametrize("name", ["adam", "lamb"])
def test_machines_go_into_grafts_and_chains(name: str) -> None:
    updates, _ = run(optax.chain(optax.clip_by_global_norm(1.0), graft(machine(name, lr=0.1), optax.sgd(1.0))))
    assert np.isfinite(flat(updates)).all()
