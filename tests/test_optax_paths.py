"""optax compiled and in float32: what its dialects say holds there too, and where it does not, exactly why."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from graftsim import compiler, scalars
from graftsim.bounds import Bounds
from graftsim.engine import Engine
from graftsim.errors import GraftsimError
from graftsim.profiles import PLAIN, Profile, together
from graftsim.program import Node, Program
from graftsim_conformance import candidates, dialects, golden
from graftsim_conformance.cases import in_dtype, settled
from graftsim_conformance.check import check
from graftsim_conformance.follow import BUDGET, Recorded, follow, record
from graftsim_conformance.probes import LAYOUT

ROWS = {
    f"{row.target.partition(':')[2]} {row.variant}": row for row in dialects.rows() if row.target.startswith("optax:")
}


def corrects_squares(row: dialects.Row) -> bool:
    """Whether the machine forms 1 - beta2 ** t, in which 0.999 leaves float32 three digits."""
    statements = compiler.build(row.instance, LAYOUT).statements
    return any(statement.target.split(".")[-1] in ("c2", "c3") for statement in statements)


NARROW = {name for name, row in ROWS.items() if corrects_squares(row)}
"""Rows that need the profile scalars-in-float32 where JAX has no 64 bits."""
every_row = pytest.mark.parametrize("name", ROWS)


@functools.cache
def trial(name: str, stream: str, mode: str, dtype: str) -> tuple[Program, list[Recorded]]:
    """What a native does over one stream, and the machine that its row says it is."""
    row = ROWS[name]
    (case,) = [in_dtype(case, dtype) for case in golden.of_machine(row.instance) if case.name.endswith(f".{stream}")]
    native = candidates.wrap("optax", candidates.load(row.target), mode)
    steps = record(native, row, case, dialects.fixed(row.instance))
    return compiler.build(settled(row.instance, steps[0].settings), case.layout, case.dtype), steps


def largest(name: str, mode: str, dtype: str, stream: str = "mixed", profile: Profile = PLAIN) -> float:
    """The largest distance over a stream, in bounds. All six streams run eagerly in float64, in test_zoo."""
    program, steps = trial(name, stream, mode, dtype)
    found = follow(program, steps, ROWS[name].float32, profile=profile)
    return max(float(one.units.max(initial=0)) for one in found)


# -- compiled ----------------------------------------------------------------------------------------------------------


@every_row
def test_a_compiled_step_in_float64_is_the_same_machine(name: str) -> None:
    """XLA fuses multiplications and additions and shares divisions; the budget grants that."""
    assert (largest(name, "jit", "float64", "mixed-zero") <= BUDGET) != ("float64" in ROWS[name].not_expressible)


@every_row
def test_float32_is_the_same_machine_under_the_profile_alone(name: str) -> None:
    for mode in ("", "jit"):
        assert largest(name, mode, "float32") <= BUDGET or name in NARROW, mode
        assert largest(name, mode, "float32", profile=together(["scalars-in-float32"])) <= BUDGET, mode


def test_a_verdict_names_the_profile_that_it_needs() -> None:
    (plain, *_) = check("optax:adam", dtype="float32").rows
    assert (plain.passed, plain.profile) == (True, "scalars-in-float32")
    (sgd, *_) = check("optax:sgd", dtype="float32").rows
    assert (sgd.passed, sgd.profile) == (True, "")
    (subnormal, *_) = check("optax:sgd", chosen=["sgd.subnormal", "sgd.subnormal-zero"]).rows
    assert (subnormal.passed, subnormal.profile) == (True, "flush-to-zero")


@pytest.mark.parametrize("machine", ["adam(eps_placement=hat)", "adam(eps_placement=clamp)", "adam(beta2=0.9)"])
def test_a_profile_hides_no_mistake(machine: str) -> None:
    assert not check("optax:adam", machine, dtype="float32").passed


@pytest.mark.parametrize("name", sorted(NARROW))
def test_with_64_bits_enabled_float32_is_the_same_machine(name: str) -> None:
    """Nothing else than the width of scalars is different then."""
    assert largest(name, "x64", "float32") <= BUDGET


# -- what float32 makes of scalars -------------------------------------------------------------------------------------


def corrections(program: Program, settings: dict[str, float], t: int) -> dict[str, float]:
    """Bias corrections as float32 gives them: beta, its power and the difference rounded, the power once."""
    exponents = {"c1": ("beta1", t), "c2": ("beta2", t), "c3": ("beta3", t), "c_next": ("beta1", t + 1)}
    found = {}
    for statement in program.statements:
        *children, last = statement.target.split(".")
        if last in exponents:
            beta, exponent = exponents[last]
            rounded = float(np.float32(settings[".".join([*children, beta])]))
            found[statement.target] = float(np.float32(1) - np.float32(scalars.power(rounded, exponent)))
    return found


def rectifier(beta2: float, count: int) -> tuple[jax.Array, jax.Array]:
    """RAdam's length of the average and its factor, by the same operations as optax, in the dtype that JAX has."""
    last = 2.0 / (1.0 - beta2) - 1.0
    power = beta2**count
    rho = last - 2 * count * power / (1 - power)
    return rho, jnp.sqrt((rho - 4.0) * (rho - 2.0) * last / ((last - 4.0) * (last - 2.0) * rho))


def put(program: Program, values: dict[str, float]) -> Program:
    """The program with some scalars given, in place of their equations."""

    def replaced(each):
        if each.target not in values:
            return each
        constant = np.full(each.node.kind.partition.count, values[each.target])
        return dataclasses.replace(each, node=Node("constant", (), each.node.kind, constant))

    return dataclasses.replace(program, statements=tuple(map(replaced, program.statements)))


def explained(name: str, mode: str, given) -> float:
    """The largest distance when ``given(program, settings, step)`` stands in the program for what it names."""
    found = 0.0
    program, steps = trial(name, "mixed", mode, "float32")
    for number, step in enumerate(steps, 1):
        one_step = follow(put(program, given(program, step.settings, number)), [step])
        found = max([found, *(float(one.units.max(initial=0)) for one in one_step if one.step > 0)])
    return found


@pytest.mark.parametrize("mode", ["", "jit"])
@pytest.mark.parametrize("name", sorted(NARROW - {"radam plain"}))
def test_float32_bias_corrections_are_all_that_is_different(name: str, mode: str) -> None:
    """1 - 0.999 ** t is off by up to 2e-5 in float32; with that very number the native is within the same budget."""
    assert explained(name, mode, corrections) <= BUDGET


def test_float32_rectification_is_all_that_is_different_in_radam() -> None:
    """rho is a difference of two numbers near 2000, and eager and compiled JAX have different powers."""

    def given(program: Program, settings: dict[str, float], t: int) -> dict[str, float]:
        rho, factor = rectifier(settings["beta2"], jnp.asarray(t, jnp.int32))
        return corrections(program, settings, t) | {"rho": float(rho), "r": float(factor)}

    assert explained("radam plain", "", given) <= BUDGET
    assert explained("radam plain", "", corrections) > BUDGET
    program, steps = trial("radam plain", "mixed", "", "float32")
    (first,) = [one for one in follow(program, steps) if one.step == 6 and one.place == "weights"]
    moved = np.abs(first.want - steps[5].weights)
    assert 1e-3 < np.max(np.abs(first.got - first.want) / moved, where=moved > 0, initial=0) < 0.02


ADAFACTOR = dialects.Row(
    target="optax:adafactor",
    variant="unscaled",
    machine="adafactor(rate=plain, scale=one, decay_power=-0.8, beta2_cap=1)",
    arguments={
        "learning_rate": "lr",
        "min_dim_size_to_factor": "least_size",
        "clipping_threshold": "clip",
        "eps": "eps1",
        "multiply_by_parameter_scale": False,
    },
    state={"t": "FactoredState.count"},
)


@pytest.mark.parametrize("stream", ["mixed", "tiny-zero", "spike"])
def test_a_float32_decay_is_all_that_keeps_adafactor_from_being_its_machine(stream: str) -> None:
    """What its rows say. The state is carried by the reference, with its bound; rows and columns too."""
    (case,) = [case for case in golden.of_machine(ADAFACTOR.instance) if case.name.endswith(f".{stream}")]
    native = candidates.wrap("optax", optax.adafactor)
    steps = record(native, ADAFACTOR, case, dialects.fixed(ADAFACTOR.instance))
    program = compiler.build(settled(ADAFACTOR.instance, steps[0].settings), case.layout)
    assert max(float(one.units.max(initial=0)) for one in follow(program, steps)) > BUDGET
    state = Engine(program).initial_state()
    bounded = {path: Bounds(program).exact(value) for path, value in state.items()}
    for number, step in enumerate(steps, 1):
        beta2 = np.float32(1) - np.float32(number) ** np.float32(-0.8)
        here = put(program, {"beta2": float(beta2), "fresh": float(np.float32(1) - beta2)})
        settings = {path: value for path, value in step.settings.items() if path in program.parameters}
        want = Engine(here).step(step.weights, step.gradients, state, number, settings)
        bounds = Bounds(here)
        parts = case.layout.unflatten(step.gradients)
        weights, outcome = bounds.step(bounds.exact(step.weights), parts, bounded, number, settings)
        state, bounded = dict(want.state), dict(outcome.state)
        assert (np.abs(step.new_weights - want.weights) <= BUDGET * weights.error).all()


# -- eps = 0 and gradients of zero -------------------------------------------------------------------------------------

WITHOUT = ("eps", "eps1", "eps_root", "initial_accumulator", "min_norm", "weight_decay")
NEVER = (
    "sgd",
    "adagrad",
    "yogi",
    "lars",
    "lion",
    "sign_sgd",
    "signum",
    "fromage",
    "rprop",
    "optimistic_gradient_descent",
)
"""Targets that never give NaN without eps and gradients; radam does once it rectifies, the others at once."""


@every_row
def test_without_eps_and_gradients_the_native_is_nan_where_the_notes_say_so(name: str) -> None:
    row = ROWS[name]
    program, steps = trial(name, "mixed", "", "float64")
    values = {path: 0.0 if path.split(".")[-1] in WITHOUT else x for path, x in steps[0].settings.items()}
    native = candidates.wrap("optax", candidates.load(row.target))
    arguments = row.native(values, dialects.fixed(row.instance))
    native.start(LAYOUT, np.ones(LAYOUT.size), arguments)
    moved = [native.step(np.zeros(LAYOUT.size), arguments) for _ in range(7)]
    first = next((step for step, weights in enumerate(moved, 1) if np.isnan(weights).any()), 0)
    target = row.target.partition(":")[2]
    assert first == (0 if target in NEVER else 6 if target == "radam" else 1)
    notes = " ".join(dialects.targets()[row.target].notes)
    assert ("NaN" in notes) == (first > 0)

    engine = Engine(compiler.build(settled(row.instance, values), LAYOUT))
    weights, state = np.ones(LAYOUT.size), engine.initial_state()
    settings = {path: value for path, value in values.items() if path in program.parameters}
    for step in range(1, 8):
        out = engine.step(weights, np.zeros(LAYOUT.size), state, step, settings)
        weights, state = out.weights, out.state
        assert np.isfinite(weights).all()


# -- known mistakes of this release, which the rows reproduce ----------------------------------------------------------


def test_rprop_moves_one_step_late() -> None:
    """Gradients 1, 1, 1, -1, 1: the step sizes are 0.125, 0.15625, 0.1953125, half of that, and again that."""
    native = candidates.wrap("optax", optax.rprop)
    native.start(LAYOUT, np.zeros(LAYOUT.size), {"learning_rate": 0.125, "eta_plus": 1.25})
    moved = [native.step(np.full(LAYOUT.size, g), {"learning_rate": 0.125})[0] for g in (1.0, 1.0, 1.0, -1.0, 1.0)]
    assert np.diff([0.0, *moved]).tolist() == [0.0, -0.125, -0.15625, 0.0, 0.0]


def test_adan_looks_ahead_by_the_wrong_share_unless_it_is_a_half() -> None:
    target = "optax:adan"
    assert not check(target, "decay_decoupled(adan(lookahead=kept))").passed
    (row,) = check(target, "decay_decoupled(adan(lookahead=kept))").rows
    assert row.failure is not None
    assert (row.failure.place, row.failure.step) == ("inner.n", 2)
    assert "lookahead=new" in row.hint


# -- ways to run -------------------------------------------------------------------------------------------------------


def counting(learning_rate, **arguments):
    """A port whose count lives in Python: right eagerly, and frozen in a compiled step."""
    inner = optax.adam(lambda count: learning_rate(jnp.asarray(taken[0] - 1)), **arguments)
    taken = [0]

    def update(updates, state, params=None):
        taken[0] += 1
        return inner.update(updates, state, params)

    return optax.GradientTransformation(inner.init, update)


def test_a_port_that_breaks_when_it_is_compiled_is_found() -> None:
    port = f"{__name__}:counting"
    assert check(port, "adam", like="optax:adam").passed
    (row,) = check(port, "adam", like="optax:adam", mode="jit").rows
    assert row.failure is not None
    assert (row.failure.place, row.failure.step) == ("weights", 3)  # the first step with another learning rate


@pytest.mark.parametrize("mode", ["", "jit", "x64"])
def test_the_framework_is_left_as_it_was(mode: str) -> None:
    for dtype in ("float64", "float32"):
        assert largest("sgd plain", mode, dtype) <= BUDGET
        assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(("mode", "dtype"), [("", "float32"), ("jit", "float32"), ("x64", "float32"), ("", "float64")])
def test_arrays_have_the_dtype_that_was_asked_for(mode: str, dtype: str) -> None:
    seen = []

    def spy(learning_rate):
        inner = optax.sgd(learning_rate)

        def update(updates, state, params):
            seen.append((updates[0].dtype, params[0].dtype, jax.config.jax_enable_x64))
            return inner.update(updates, state, params)

        return optax.GradientTransformation(inner.init, update)

    native = candidates.wrap("optax", spy, mode)
    native.start(LAYOUT, np.ones(LAYOUT.size, dtype), {"learning_rate": 0.5})
    native.step(np.ones(LAYOUT.size, dtype), {"learning_rate": 0.5})
    assert seen == [(dtype, dtype, dtype == "float64" or mode == "x64")]


def test_mistakes_are_named() -> None:
    with pytest.raises(GraftsimError, match=r"^mode must be one of jit, x64; received 'foreach'$"):
        candidates.wrap("optax", optax.sgd, "foreach")
    native = candidates.wrap("optax", optax.rprop)
    native.start(LAYOUT, np.ones(LAYOUT.size), {"learning_rate": 0.5})
    with pytest.raises(GraftsimError, match="learning_rate must not change"):
        native.step(np.ones(LAYOUT.size), {"learning_rate": 0.25})
