"""The optimizers of the frameworks as machines: their dialects hold, their papers' identities hold, nothing is NaN."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import math
import re

import mpmath
import numpy as np
import optax
import pytest
import torch

import graftsim
from graftsim import scalars
from graftsim.bounds import Bounds
from graftsim.errors import GraftsimError
from graftsim_conformance import candidates, dialects, golden, probes
from graftsim_conformance.cases import settled
from graftsim_conformance.check import check
from graftsim_conformance.dialects import Row, fixed
from graftsim_conformance.follow import BUDGET, follow, record
from tests.every_machine import ARGUMENTS, LAYOUT, MATRICES, choices, expressions, in_pairs

U = 2.0**-53
ELSEWHERE = [f"torch.optim:{name}" for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")]
ELSEWHERE += [f"optax:{name}" for name in ("sgd", "adagrad", "rmsprop", "adam", "adamw")]
OURS = {path: target for path, target in dialects.targets().items() if path.startswith(("torch.optim:", "optax:"))}
CARRIED = {"optax:adafactor": {"r", "c", "v"}}
"""State that cannot be read."""
NARROW = {"torch.optim:NAdam": {"product"}}
"""State that is kept in float32, beside torch's counters."""
TARGETS = [path for path in OURS if path not in ELSEWHERE]

# -- dialects ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_equivalent_under_its_dialect(target: str) -> None:
    report = check(target)
    for row in report.rows:
        assert row.passed != bool(row.known), "\n".join(row.lines())
        assert row.cases == 6
        assert row.comparisons >= 700
        assert row.undecided == 0
        assert set(row.unread) <= CARRIED.get(target, set())
        assert {path.split(".")[-1] for path in row.float32} <= NARROW.get(target, set()) | (
            {"t"} if target.startswith("torch") else set()
        )


def test_every_optimizer_of_the_frameworks_is_a_target_or_said_to_be_absent() -> None:
    """An optimizer that a release adds shows here, and so does a reason that no longer holds."""
    base = torch.optim.Optimizer
    found = {name for name, one in vars(torch.optim).items() if inspect.isclass(one) and issubclass(one, base)}
    targets = {path.split(":")[1] for path in dialects.targets() if path.startswith("torch")}
    assert targets | set(dialects.absent()["torch"]) == found - {"Optimizer"}
    assert not targets & set(dialects.absent()["torch"])
    chains = {name for name, one in vars(optax).items() if getattr(one, "__module__", "") == optax.adam.__module__}
    chains |= {name for name, one in vars(optax).items() if isinstance(one, functools.partial)}
    targets = {path.split(":")[1] for path in dialects.targets() if path.startswith("optax")}
    assert targets | set(dialects.absent()["optax"]) == chains
    assert not targets & set(dialects.absent()["optax"])


def test_an_absent_optimizer_is_refused_with_the_reason() -> None:
    with pytest.raises(GraftsimError, match=r"no dialect of 'torch\.optim:LBFGS' \(evaluates the loss several times"):
        check("torch.optim:LBFGS")


WRONG = [
    # target, what is claimed, where it shows first, which step, the hint
    ("torch.optim:Adam", "amsgrad(maximum=corrected)", "x", 1, "maximum=raw"),
    ("torch.optim:Adam", "amsgrad(maximum=raw, eps_placement=hat)", "weights", 1, "eps_placement=corrected"),
    ("torch.optim:AdamW", "decay_in_gradient(amsgrad(maximum=raw))", "inner.m", 1, "decay_decoupled"),
    ("torch.optim:Adadelta", "adadelta(rho=0.95)", "v", 1, "rho=0.9"),
    ("torch.optim:Adadelta", "decay_decoupled(adadelta)", "inner.v", 1, "decay_in_gradient"),
    ("torch.optim:Adamax", "adamax(eps_placement=outside)", "u", 1, "eps_placement=in_max"),
    ("torch.optim:Adamax", "decay_decoupled(adamax)", "inner.m", 1, "decay_in_gradient"),
    ("torch.optim:NAdam", "nadam(form=constant)", "weights", 1, "form=scheduled"),
    ("torch.optim:NAdam", "nadam(momentum_decay=1)", "product", 1, "momentum_decay=0.004"),
    ("torch.optim:RAdam", "radam(eps_placement=corrected, threshold=5)", "weights", 6, "eps_placement=hat"),
    ("torch.optim:RAdam", "radam(otherwise=skip, threshold=5)", "weights", 1, "otherwise=momentum"),
    ("torch.optim:RAdam", "radam(threshold=4)", "weights", 5, "own defaults"),
    ("optax:rmsprop", "rmsprop(eps_placement=outside, bias_correction=on)", "weights", 1, "bias_correction=off"),
    ("optax:nadam", "nadam(form=scheduled, momentum_decay=0)", "weights", 1, "form=constant"),
    ("optax:nadamw", "decay_in_gradient(nadam(form=constant))", "inner.m", 1, "decay_decoupled"),
    ("optax:amsgrad", "amsgrad(maximum=raw)", "x", 1, "maximum=corrected"),
    ("optax:amsgrad", "amsgrad(maximum=corrected, eps_placement=hat)", "weights", 1, "eps_placement=corrected"),
    ("optax:adamax", "adamax(eps_placement=outside)", "u", 1, "eps_placement=in_max"),
    ("optax:adamaxw", "decay_decoupled(adamax(eps_placement=outside))", "inner.u", 1, "eps_placement=in_max"),
    ("optax:radam", "radam(rectified=at_least, eps_placement=hat)", "weights", 6, "eps_placement=corrected"),
    ("optax:adadelta", "decay_decoupled(adadelta)", "inner.v", 1, "decay_in_gradient"),
    ("optax:yogi", "yogi(initial_accumulator=0)", "m", 0, "own defaults"),
    ("optax:novograd", "novograd(averaging=on)", "m", 2, "averaging=off"),
    ("optax:lars", "lars(norm_of=separate)", "b", 1, "norm_of=combined"),
    ("optax:lars", "lars(form=heavy_ball)", "b", 1, "form=lr_inside"),
    ("optax:lars", "lars(norm_of=separate, nesterov=on)", "b", 1, "norm_of=combined"),
    ("optax:lamb", "lamb(bias_correction=in_rate, ratio_eps=0)", "weights", 1, "bias_correction=on"),
    ("optax:lamb", "lamb(weight_norm=clamped, ceiling=1, ratio_eps=0)", "weights", 1, "weight_norm=plain"),
    ("optax:lamb", "lamb(ratio_eps=0.001)", "weights", 1, "own defaults"),
    ("optax:lion", "decay_in_gradient(lion)", "inner.m", 1, "decay_decoupled"),
    ("optax:sign_sgd", "sgd", "weights", 1, "no other options"),
    ("optax:signum", "signum(momentum=0.99)", "b", 1, "beta=0.9"),
]


@pytest.mark.parametrize(("target", "machine", "place", "step", "hint"), WRONG)
def test_not_equivalent_under_a_neighbour(target: str, machine: str, place: str, step: int, hint: str) -> None:
    (row,) = check(target, machine).rows
    assert row.failure is not None
    assert (row.failure.place, row.failure.step) == (place, step)
    assert row.failure.units > 1e5
    assert hint in row.hint


def trial(row: Row, stream: str):
    """A native optimizer's record over one stream."""
    framework = dialects.targets()[row.target].framework
    (case,) = [case for case in golden.of_machine(row.instance) if case.name.endswith(f".{stream}")]
    held = fixed(row.instance)
    return case, record(candidates.wrap(framework, candidates.load(row.target)), row, case, held)


def largest(row: Row, case, steps, float32=()) -> float:
    """The largest distance between a record and the row's machine, in bounds."""
    program = graftsim.build(settled(row.instance, steps[0].settings), case.layout)
    return max(float(one.units.max(initial=0)) for one in follow(program, steps, float32))


@pytest.mark.parametrize(
    "row", [row for target in OURS.values() for row in target.rows], ids=lambda row: f"{row.target} {row.variant}"
)
def test_each_argument_is_seen_by_a_probe(row: Row) -> None:
    """A native whose arguments were swapped or ignored would pass if the streams did not tell values apart."""
    unseen = set().union(*map(dialects.paths, row.arguments.values()))
    for case, steps in (trial(row, "mixed-zero"), trial(row, "mixed")):
        for path in sorted(unseen):
            moved = [
                dataclasses.replace(one, settings=one.settings | {path: other(one.settings[path])}) for one in steps
            ]
            unseen -= {path} if largest(row, case, moved, row.float32) > BUDGET else set()
    assert not unseen
    assert (largest(row, case, steps, row.float32) <= BUDGET) != ("float64" in row.not_expressible)


def other(value: float) -> float:
    return value * 1.25 if value >= 1 else value * 0.5 if value else 0.25


# -- torch's NAdam keeps its product in float32 ------------------------------------------------------------------------

NADAM = dialects.targets()["torch.optim:NAdam"].rows


@pytest.fixture
def default_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("row", NADAM, ids=lambda row: row.variant)
def test_nadam_in_a_world_of_float64_is_the_formula(row: Row, default_float64) -> None:
    for stream in ("mixed", "tiny-zero", "spike"):
        assert largest(row, *trial(row, stream)) <= BUDGET


def test_what_the_float32_product_of_nadam_costs() -> None:
    """The step is that of a product with an error of 2^-25 to 2^-24; the weights are off by some 1e-9."""
    case, steps = trial(NADAM[0], "mixed")
    assert largest(NADAM[0], case, steps) > 1e6
    engine = graftsim.Engine(case.program)
    weights, state = case.weights, engine.initial_state()
    for number, one in enumerate(steps, 1):
        found = engine.step(weights, one.gradients, state, number, one.settings)
        weights, state = found.weights, found.state
        product, native = state["product"], one.new_state["product"]
        assert (native == native.astype(np.float32)).all()
        assert (np.abs(native / product - 1) <= 3 * number * 2.0**-24).all()  # two factors and a product a step
    off = np.abs(steps[-1].new_weights - weights).max() / np.abs(weights).max()
    assert 1e-11 < off < 1e-8


class Halved(torch.optim.NAdam):
    """The product in bfloat16: 2^-9 for 2^-24."""

    def step(self, closure=None):
        super().step(closure)
        for state in self.state.values():
            state["mu_product"].copy_(state["mu_product"].bfloat16())


def test_a_product_with_less_than_float32_is_refused() -> None:
    report = check(f"{__name__}:Halved", like="torch.optim:NAdam")
    assert [row.failure.place.split(".")[-1] for row in report.rows if row.failure] == ["product"] * 3


def test_the_schedule_of_nadam() -> None:
    """The state is the product of beta1 (1 - 0.96^(t psi) / 2) over the steps so far, here to thirty digits."""
    with mpmath.workdps(30):
        momenta = [0.9 * (1 - mpmath.mpf(0.96) ** (t * mpmath.mpf(0.004)) / 2) for t in range(1, 31)]
        exact = [float(mpmath.fprod(momenta[:t])) for t in range(1, 31)]
    found = [float(x.state["product"][0]) for x in runs("nadam", gradients(30))]
    assert np.allclose(found, exact, rtol=30 * 6 * U, atol=0)  # three roundings of 1 - p / 2, three of the products


# -- identities --------------------------------------------------------------------------------------------------------


def runs(expression: str, gradients, layout=LAYOUT, weights=None):
    """The weights after each step, from one half everywhere."""
    program = graftsim.build(expression, layout)
    engine = graftsim.Engine(program)
    weights, state = np.full(program.layout.size, 0.5) if weights is None else weights, engine.initial_state()
    for step, gradient in enumerate(gradients, 1):
        found = engine.step(weights, gradient, state, step)
        weights, state = found.weights, found.state
        yield found


def gradients(steps: int, size: int = 7):
    values = probes.dyadic(17, -6, 2)
    rows = [np.array(list(itertools.islice(values, size))) for _ in range(steps)]
    for row in rows[2:3]:
        row[1:3] = 0.0
    return rows


def same_bits(first: str, second: str) -> None:
    for a, b in zip(runs(first, gradients(12)), runs(second, gradients(12)), strict=True):
        assert a.weights.tobytes() == b.weights.tobytes()


def within_bounds(first: str, second: str, steps: int) -> float:
    """Two ways to the same real numbers stay within both bounds, carried from the start (GS-budget-first-order).

    The largest difference of the weights of a step, relative to the largest weight.
    """
    worst, sides = 0.0, []
    for expression in (first, second):
        bounds, moved = Bounds(graftsim.build(expression, LAYOUT)), []
        weights, state = bounds.exact(np.full(7, 0.5)), bounds.initial_state()
        for step, gradient in enumerate(gradients(steps), 1):
            weights, found = bounds.step(weights, [gradient], state, step)
            state = found.state
            moved.append(weights)
        sides.append(moved)
    for a, b in zip(*sides, strict=True):
        gap = np.abs(a.value - b.value)
        assert (gap <= a.error + b.error).all()
        assert (a.error + b.error < 1e-11).all()  # a bound of any size would hold
        worst = max(worst, float(gap.max() / np.abs(a.value).max()))
    return worst


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.5, 0.9), (0, 0.99), (0.9, 0.25)])
def test_the_generic_method_is_adam_under_a_rescaled_schedule(beta1: float, beta2: float) -> None:
    """eta_t = lr (1 - beta1) / sqrt(1 - beta2) sqrt(1 - beta2^t) / (1 - beta1^t), eps = 0.

    Beside the sums, which only differ by their factor, a step has the roundings of three products and a root more;
    4e-16 is two units of the largest weight.
    """
    adam = f"adam(lr=0.01, beta1={beta1}, beta2={beta2}, eps=0)"
    rate = f"0.01 * (1 - {beta1}) / sqrt(1 - {beta2}) * sqrt(1 - {beta2} ** step) / (1 - {beta1} ** step)"
    assert within_bounds(adam, f"second_moment(lr={rate}, beta1={beta1}, beta2={beta2}, eps=0)", 20) <= 4e-16


def test_adam_s_eps_under_the_root_is_no_constant_of_the_generic_method() -> None:
    """eps in Adam's corrected root is eps c2 / (1 - beta2) in the generic method, which a constant eps is not."""
    with pytest.raises(AssertionError):
        within_bounds(
            "adam(lr=0.01, beta2=0.9, eps=0.01, eps_placement=inside)",
            "second_moment(lr=0.01 * (1 - 0.9) / sqrt(1 - 0.9) * sqrt(1 - 0.9 ** step) / (1 - 0.9 ** step), "
            "beta2=0.9, eps=0.1)",
            5,
        )


def test_accumulators_with_and_without_the_factor() -> None:
    """A mean is 1 - beta times the sum; with powers of two even the bits are the same."""
    same_bits("rmsprop(lr=0.01, rho=0.75, eps=0)", "second_moment(lr=0.02, beta1=0, beta2=0.75, eps=0)")
    same_bits("momentum(form=ema, lr=0.02, momentum=0.5)", "momentum(form=heavy_ball, lr=0.01, momentum=0.5)")
    within_bounds("momentum(form=ema, lr=0.01)", "momentum(form=heavy_ball, lr=0.01 * (1 - 0.9))", 20)
    within_bounds("rmsprop(lr=0.01, eps=0)", "second_moment(lr=0.01 / sqrt(1 - 0.9), beta1=0, beta2=0.9)", 20)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("second_moment(lr=0.1, beta1=0, beta2=1, eps=0.01)", "adagrad(lr=0.1, eps=0.01, eps_placement=inside)"),
        ("second_moment(lr=0.1, beta1=0, beta2=1)", "adagrad(lr=0.1, eps=0)"),
        ("second_moment(lr=0.1, beta2=1)", "adagrad(lr=0.1, eps=0, momentum=0.9, momentum_on=raw_gradient)"),
        ("signum(lr=0.1, momentum=0)", "sign_sgd(lr=0.1)"),
        ("adam(lr=0.1, beta1=0, beta2=0, eps=0)", "sign_sgd(lr=0.1)"),
        ("lion(lr=0.1, beta1=0.5, beta2=0.5)", "signum(lr=0.1, momentum=0.5)"),
        ("adamax(lr=0.1, beta1=0, beta2=0, eps=0)", "sign_sgd(lr=0.1)"),
        ("rmsprop(lr=0.1, rho=0.9, bias_correction=on)", "adam(lr=0.1, beta1=0, beta2=0.9)"),
        ("lars(lr=0.1, trust=0, eps=1)", "sgd(lr=0)"),
        *(
            (f"adamw(lr=0.1, eps=0.01, {place})", f"decay_decoupled(adam(lr=0.1, eps=0.01, {place}))")
            for place in (f"eps_placement={value}" for value in ("corrected", "hat", "inside", "clamp"))
        ),
    ],
)
def test_one_machine_under_two_names(first: str, second: str) -> None:
    same_bits(first, second)


CURVE = {
    0.95: (20, 0.911799),
    0.98: (14, 0.643574),
    0.99: (13, 0.469246),
    0.999: (12, 0.152241),
    0.9999: (12, 0.048262),
}


@pytest.mark.parametrize("beta2", CURVE)
def test_adam_s_bias_correction_is_a_schedule(beta2: float) -> None:
    """Adam's step is the uncorrected one times sqrt(1 - beta2^t) / (1 - beta1^t), which falls before it climbs."""
    plain = f"second_moment(lr={1 - 0.9} / sqrt(1 - {beta2}), beta2={beta2})"
    found = [
        float(np.median(a.delta / b.delta))
        for a, b in zip(
            runs(f"adam(lr=1, beta2={beta2}, eps=0)", gradients(100)), runs(plain, gradients(100)), strict=True
        )
    ]
    with mpmath.workdps(30):
        exact = [mpmath.sqrt(1 - mpmath.mpf(beta2) ** t) / (1 - mpmath.mpf(0.9) ** t) for t in range(1, 101)]
    assert max(abs(a - b) for a, b in zip(found, exact, strict=True)) < 1e-12
    lowest, value = CURVE[beta2]
    assert int(np.argmin(found)) + 1 == lowest
    assert round(min(found), 6) == value
    assert found[0] == pytest.approx(math.sqrt(1 - beta2) / (1 - 0.9), rel=1e-12)


# -- machines with norms -----------------------------------------------------------------------------------------------

SHAPES = {"a": (2, 3), "b": (4,), "s": ()}


def test_norms_of_the_steps_of_lamb_and_lars() -> None:
    """Without decay and momentum a tensor's step has the norm lr |w|, or lr trust |w|, but for few roundings."""
    weights = np.array(list(itertools.islice(probes.dyadic(5, -3, 3), 11)))
    weights[6:10] = 0  # a tensor of zeros moves by the bare direction
    for expression, factor in (("lamb(lr=0.1)", 0.1), ("lars(lr=0.1, momentum=0, trust=0.5)", 0.05)):
        (found,) = runs(expression, gradients(1, 11), SHAPES, weights)
        for name, place in (("a", slice(0, 6)), ("s", slice(10, 11))):
            norm, wanted = np.linalg.norm(found.delta[place]), factor * np.linalg.norm(weights[place])
            assert norm == pytest.approx(wanted, rel=20 * U), name
        assert found.info["ratio"][1] == 1
        assert (found.delta[6:10] != 0).all()


def test_novograd_counts_by_group() -> None:
    """The first step of a group is its own: v is the square itself, also where a tensor begins late."""
    engine = graftsim.Engine(graftsim.build("novograd(lr=0.1)", SHAPES))
    weights, state = np.zeros(11), engine.initial_state()
    for step in (1, 2, 3):
        given = [np.ones((2, 3)), np.full(4, 2.0) if step == 3 else None, np.array(3.0)]
        found = engine.step(weights, given, state, step)
        weights, state = found.weights, found.state
    assert state["t"].tolist() == [3, 1, 3]
    assert state["v"].tolist() == [6, 16, 9]
    assert weights[6:10].tolist() == [-0.1 * (2 / (4 + 1e-6))] * 4


def test_when_radam_rectifies() -> None:
    """At beta2 = 0.999 from step 6; and a length that is the threshold itself is above nothing, but at least it."""

    def plain_steps(text: str, steps: int) -> list[bool]:
        """Whether each step is that of the corrected mean alone."""
        found = enumerate(runs(text, gradients(steps)), 1)
        return [bool((x.delta == -(x.state["m"] / scalars.one_minus_power(0.9, t))).all()) for t, x in found]

    assert plain_steps("radam(lr=1)", 8) == [True] * 5 + [False] * 3
    last = 2 / (1 - 0.9) - 1
    edge = last - 2 * 8 * scalars.power(0.9, 8) / scalars.one_minus_power(0.9, 8)
    above = plain_steps(f"radam(lr=1, beta2=0.9, threshold={edge!r})", 9)
    assert above == [True] * 8 + [False]
    assert plain_steps(f"radam(lr=1, beta2=0.9, threshold={edge!r}, rectified=at_least)", 9) == [True] * 7 + [False] * 2
    skipped = list(runs("radam(lr=1, otherwise=skip)", gradients(8)))
    assert [bool(found.delta.any()) for found in skipped] == [False] * 5 + [True] * 3


# -- zeros and NaN -----------------------------------------------------------------------------------------------------

MOVES = ("decay_decoupled", "decay_first", "decay_in_gradient", "decay_outside", "fromage")
BARE = {name: re.sub(r"(\beps1?|eps_root|initial_accumulator|weight_decay|ratio_eps)=[^,)]*", r"\1=0", text)
        for name, text in ARGUMENTS.items()}  # fmt: skip


@pytest.mark.parametrize("expression", expressions(BARE))
def test_zero_gradients_give_no_nan_without_eps(expression: str) -> None:
    """0 / 0 in a denominator, a root, a ratio of norms: frameworks have each of them."""
    assert "eps=0.01" not in expression.replace("adam(lr=0.1, eps=0.01)", "")
    expression = expression.replace("eps=0.01", "eps=0")
    for start in (0.0, 0.5):
        weights = np.full(7, start)
        for found in runs(expression, [np.zeros(7)] * 8, weights=weights):
            assert np.isfinite(found.weights).all()
            assert all(np.isfinite(value).all() for value in found.state.values())
            assert not any(np.isnan(value).any() for value in found.info.values())
            if not expression.startswith(MOVES):
                assert not found.delta.any()


@pytest.mark.parametrize("expression", expressions())
def test_a_nan_gradient_stays_visible(expression: str) -> None:
    """In its own coordinate for elementwise machines, everywhere that a norm carries it for others; never swallowed."""
    given = gradients(10)
    given[7][3] = np.nan
    program = graftsim.build(expression, LAYOUT)
    for step, found in enumerate(runs(expression, given), 1):
        spoilt = np.isnan(found.weights)
        if step < 8 + ("form=late" in expression):  # a step that the gradient before asked for
            assert not spoilt.any()
        else:
            assert spoilt[3]
            assert program.reductions or expression.startswith(MATRICES) or spoilt.sum() == 1


def test_skipping_radam_hides_a_nan_from_the_weights_and_not_from_its_state() -> None:
    given = gradients(3)
    given[0][3] = np.nan
    *_, last = runs("radam(otherwise=skip)", given)
    assert not np.isnan(last.weights).any()
    assert np.isnan(last.state["m"]).nonzero()[0].tolist() == [3]


# -- the table of machines ---------------------------------------------------------------------------------------------


def test_pairs_cover_every_two_values() -> None:
    options = {"a": "xyz", "b": "xy", "c": "xy", "d": "xyz"}
    every = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
    chosen = in_pairs(every)
    assert len(chosen) < len(every) / 2
    for (one, first), (two, second) in itertools.combinations(options.items(), 2):
        assert {(row[one], row[two]) for row in chosen} == set(itertools.product(first, second))
    assert choices({"a": ["x", "y"], "missing": ["hold", "advance"]}) == [
        {"a": "x"}, {"a": "y"}, {"a": "y", "missing": "advance"},
    ]  # fmt: skip
