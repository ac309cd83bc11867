"""Named schedules: exact values, step conventions, expansion, and one line for each mistake."""

from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graftsim
from graftsim import documents, expressions, notation, schedules
from graftsim.bounds import Bounded, Bounds, arbitrary
from graftsim.compiled import tables
from graftsim.compiled.engine import CompiledEngine
from graftsim.compiled.lowering import lower
from graftsim.errors import GraftsimError
from graftsim.interpreter import evaluate

LIBRARY = schedules.library()
EXAMPLES = [(schedule.name, example) for schedule in LIBRARY.values() for example in schedule.examples]


def program(text: str):
    return graftsim.build(f"scaled(sgd, factor={text})", {"w": (1,)})


def values(text: str, steps) -> list[float]:
    built = program(text)
    engine, node = graftsim.Engine(built), built.parameter("factor").node
    with np.errstate(all="ignore"):
        return [float(engine.scalar(node, step).reshape(-1)[0]) for step in steps]


def in_tables(text: str, count: int) -> list[float]:
    table = tables.make(lower(program(text)), {}, 1, count, {})["factor"].reshape(-1)
    return np.broadcast_to(table, count).tolist()


def nearest(value: Fraction) -> float:
    return value.numerator / value.denominator


# -- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=lambda value: getattr(value, "call", None))
def test_examples_of_the_spec(name: str, example) -> None:
    assert example.call.startswith(name)
    steps = [step for step, _ in example.values]
    assert values(example.call, steps) == [value for _, value in example.values]


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=lambda value: getattr(value, "call", None))
def test_compiled_tables_have_the_bits_of_the_reference(name: str, example) -> None:
    """Also past the first 64 steps, where tables compute powers in blocks."""
    assert in_tables(example.call, 300) == values(example.call, range(1, 301))


EXACT = {
    "inverse()": lambda t: Fraction(1, t),
    "linear_warmup(steps=7)": lambda t: Fraction(min(t, 7), 7),
    "linear_warmup(steps=7, first=0)": lambda t: Fraction(min(t - 1, 7), 7),
    "exponential(c=0.75)": lambda t: Fraction(3, 4) ** t,
    "exponential_decay(c=1.25)": lambda t: Fraction(5, 4) ** -t,
    "polynomial_warmup(steps=8, power=2)": lambda t: Fraction(min(t, 8), 8) ** 2,
    "polynomial_warmup(steps=8, power=2, first=0)": lambda t: Fraction(min(t - 1, 8), 8) ** 2,
    "polynomial_decay(steps=8, power=2)": lambda t: Fraction(8 - min(t - 1, 8), 8) ** 2,
    "polynomial_decay(steps=8, power=2, first=1)": lambda t: Fraction(8 - min(t, 8), 8) ** 2,
    "linear_correction(c0=0.25, c1=0.125)": lambda t: Fraction(1, 4) + Fraction(t, 8),
    "power_correction(alpha=2)": lambda t: Fraction(t) ** 2,
    "power_correction(alpha=-1)": lambda t: Fraction(1, t),
    "drop(after=5, factor=0.25)": lambda t: Fraction(1) if t <= 5 else Fraction(1, 4),
    "inverse(begin=4)": lambda t: Fraction(1, max(t - 4, 1)),
    "where(step <= 7, linear_warmup(steps=7), inverse(begin=7))": lambda t: (
        Fraction(t, 7) if t <= 7 else Fraction(1, t - 7)
    ),
    "linear_warmup(steps=8) * polynomial_decay(steps=8, begin=8)": lambda t: (
        Fraction(t, 8) if t <= 8 else Fraction(max(8 - (t - 9), 0), 8)
    ),
}
"""Formulas that are rounded once only, or not at all, beside exact rationals."""


@pytest.mark.parametrize("call", EXACT)
def test_nearest_to_exact_rationals(call: str) -> None:
    assert values(call, range(1, 25)) == [nearest(EXACT[call](t)) for t in range(1, 25)]


def mpmath_nearest(value: mpmath.mpf) -> float:
    return nearest(Fraction(*mpmath.libmp.to_rational(value._mpf_)))


@pytest.mark.parametrize(
    ("call", "function"),
    [
        ("quarter_cosine_2021(steps_per_epoch=1)", lambda t: mpmath.cospi(mpmath.mpf(t - 1) / 400)),
        ("quarter_cosine_2021(steps_per_epoch=1, first=1)", lambda t: mpmath.cospi(mpmath.mpf(t) / 400)),
        ("cosine_2020(n=350, rate=3, offset=-10)", lambda t: mpmath.cospi(mpmath.mpf(3 * t - 10) / 350)),
        ("power_correction(alpha=-0.27)", lambda t: mpmath.mpf(t) ** mpmath.mpf(-0.27)),
        ("polynomial_warmup(steps=256, power=1.5)", lambda t: (min(mpmath.mpf(t), 256) / 256) ** 1.5),
    ],
)
def test_nearest_to_the_real_value(call: str, function) -> None:
    steps = [1, 2, 3, 50, 99, 100, 101, 150, 199]
    with mpmath.workprec(400):
        assert values(call, steps) == [mpmath_nearest(function(t)) for t in steps]


def test_the_staircases_of_the_two_papers_are_two() -> None:
    """Each value of a whole run of 90 epochs, and the steps at which they change."""
    last, of_2021, of_2020 = 90 * 20, "staircase_2021(steps_per_epoch=20)", "staircase_2020(steps_per_epoch=20)"
    drops = {of_2021: (30, 50, 80), of_2020: (30, 60, 80)}
    for call, epochs in drops.items():
        found = values(call, range(1, last + 1))
        peak = 6.4 if call == of_2020 else 1.0
        assert found[:100] == [peak * (t / 100) for t in range(1, 101)]
        changes = [step for step, (a, b) in enumerate(pairwise(found), 1) if a != b and step >= 100]
        assert changes == [20 * epoch for epoch in epochs]
        levels = [found[20 * epoch] / peak for epoch in (5, *epochs)]
        assert levels == pytest.approx([1, 0.1, 0.01, 0.001], rel=4 * 2.0**-52)  # three products, one quotient


def test_the_quarter_cosine_is_the_root_of_annealing() -> None:
    steps = range(1, 220)
    quarter = np.array(values("quarter_cosine_2021(steps_per_epoch=1)", steps))
    annealing = np.array(values("cosine_annealing(epochs=200)", steps))
    assert np.abs(quarter**2 - annealing).max() <= 2 * 2.0**-53  # a square and a sum, each within u of at most 1
    assert (quarter[100], annealing[100]) == (0.5**0.5, 0.5)


def test_epochs_begin_after_whole_epochs() -> None:
    found = values("quarter_cosine_2021(steps_per_epoch=7, epochs=4)", range(1, 36))
    assert found == [value for epoch in range(5) for value in 7 * [float(graftsim.scalars.cospi(epoch, 8))]]


def test_before_its_begin_a_schedule_holds_its_first_value() -> None:
    for _, example in EXAMPLES:
        shifted = f"{example.call[:-1]}{'' if example.call.endswith('()') else ', '}begin=3)"
        if "begin" not in example.call:
            first, *later = values(example.call, range(1, 30))
            assert values(shifted, range(1, 33)) == [first] * 4 + later


def test_translation_joins_warm_up_and_decay() -> None:
    found = np.array(values("warmup_inverse_sqrt(steps=400)", range(1, 2000)))
    assert found.argmax() == 399
    assert found[399] == 1
    assert (np.diff(found[399:]) < 0).all()


# -- engines ---------------------------------------------------------------------------------------------------------

SCHEDULED = [
    "adam(lr=0.1 * staircase_2021(steps_per_epoch=1))#sgd(lr=power_correction(alpha=-0.27))",
    "momentum(lr=0.5 * quarter_cosine_2021(steps_per_epoch=2, epochs=9) + 1e-3 * warmup_inverse_sqrt(steps=4))",
    "scaled(adagrad, factor=linear_correction(c0=0.2, c1=1e-4) * exponential_decay(c=1.5, begin=2))",
    "graft(adam, sgd, scale=polynomial_warmup(steps=3, power=1.7) * cosine_annealing(epochs=9, begin=3))",
]


@pytest.mark.parametrize("expression", SCHEDULED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_engines_and_oracle_agree(expression: str, dtype: str) -> None:
    built = graftsim.build(expression, {"a": (3,), "b": (2, 2)}, dtype)
    reference, compiled, oracle = graftsim.Engine(built), CompiledEngine(built), Bounds(built, arbitrary(60))
    weights = np.linspace(-1, 1, 7).astype(dtype)
    fast, state, fast_state = weights.copy(), reference.initial_state(), compiled.initial_state()
    rng = np.random.default_rng(5)
    for step in range(1, 12):
        g = rng.standard_normal(7).astype(dtype)
        parts = built.layout.unflatten(g)
        exact, _ = oracle.step(oracle.exact(weights), parts, {k: oracle.exact(v) for k, v in state.items()}, step)
        out = reference.step(weights, g, state, step)
        compiled.step(fast, g, fast_state, step)
        assert fast.tobytes() == out.weights.tobytes()
        gap = np.abs((exact.value - out.weights.astype(object)).astype(float))
        assert (gap <= exact.error).all()
        weights, state = out.weights, out.state


@pytest.mark.parametrize("x", [0.3, 1.0, 2.5, 1e6])
@pytest.mark.parametrize("y", [-2.5, -0.27, 0.5, 3.0])
@pytest.mark.parametrize(("e", "f"), [(1e-3, 0.0), (0.0, 1e-3), (0.2, 0.1)])
def test_an_error_of_the_base_or_the_exponent_is_carried(x: float, y: float, e: float, f: float) -> None:
    """Every corner of the box of errors lies within the bound; where one error is small, some corner reaches half."""
    arithmetic = Bounds(program("1"))._arithmetic
    found = arithmetic._rpow(Bounded(np.array([x]), np.array([e])), Bounded(np.array([y]), np.array([f])))
    value, error = found.value[0], found.error[0]
    moves = [abs((x + i * e) ** (y + j * f) - value) for i in (-1, 1) for j in (-1, 1)]
    assert max(moves) <= error + 4 * 2.0**-52 * (value + max(moves))
    assert max(moves) >= error / 2 or e == 0.2 or (e == 0 and x == 1)


def test_an_error_that_reaches_zero_leaves_a_power_without_bound() -> None:
    arithmetic = Bounds(program("1"))._arithmetic
    exact = Bounded(np.array([0.5]), np.zeros(1))
    with np.errstate(all="ignore"):
        assert arithmetic._rpow(Bounded(np.array([1.0]), np.array([1.0])), exact).error[0] == np.inf
        assert arithmetic._rpow(Bounded(np.zeros(1), np.zeros(1)), exact).error[0] == 0


def test_whole_divisions_are_exact_and_count_no_rounding() -> None:
    """Beside Python's integers; the oracle's bound stays 0, so that nothing that counts epochs is ever in doubt."""
    built = program("(step - 5) // 7 * 2 - -step // 3")
    oracle = Bounds(built, arbitrary(50))._arithmetic
    steps = [1, 4, 5, 11, 12, 2**53 - 1]
    for step in steps:
        clock = oracle.constant(np.array([float(step)]), built.kinds["step"])
        found = evaluate(built.parameter("factor").node, {"step": clock}, oracle)
        assert (found.value[0], found.error[0]) == ((step - 5) // 7 * 2 - -step // 3, 0)
    assert values("(step - 5) // 7 * 2 - -step // 3", steps) == [(t - 5) // 7 * 2 - -t // 3 for t in steps]


# -- expansion -------------------------------------------------------------------------------------------------------


def written_out(text: str) -> str:
    return expressions.unparse(notation.parse(f"scaled(sgd, factor={text})").settings["factor"])


@pytest.mark.parametrize(
    ("call", "plain"),
    [
        ("constant(level=3)", "3"),
        ("linear_warmup(steps=5 * 1251)", "min(step, 6255) / 6255"),
        ("linear_warmup(steps=5, first=0)", "min(step - 1, 5) / 5"),
        ("0.1 * inverse_sqrt() + inverse(begin=2)", "0.1 * (1 / sqrt(step)) + 1 / max(step - 2, 1)"),
        ("linear_correction(c0=-1, c1=-(1 / 4))", "(-1) + (-0.25) * step"),
        ("exponential_decay(c=2)", "2 ** (-step)"),
        (
            "staircase(steps_per_epoch=2, drop1=6, drop2=7, drop3=8, begin=4)",
            "min(max(step - 4, 1), 10) / 10 * where(max(step - 4, 1) <= 12, 1, 0.1)"
            " * where(max(step - 4, 1) <= 14, 1, 0.1) * where(max(step - 4, 1) <= 16, 1, 0.1)",
        ),
    ],
)
def test_a_call_stands_for_a_plain_expression(call: str, plain: str) -> None:
    assert written_out(call) == plain


def test_a_constant_call_is_a_number() -> None:
    assert notation.parse("adam(beta1=constant(level=0.5))") == notation.parse("adam(beta1=0.5)")


call_texts = st.sampled_from(
    [
        *(example.call for _, example in EXAMPLES),
        "step",
        "inverse(begin=3)",
        "constant(level=-2)",
        "linear_correction(c0=-0.0, c1=-2)",
        "(1 - exponential(c=0.5))",
    ]
)
sums = st.recursive(
    call_texts,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda row: f"({row[0]}) {row[1]} ({row[2]})"),
        inner.map(lambda text: f"-({text})"),
        st.tuples(inner, inner, inner).map(lambda row: f"where({row[0]} < {row[1]}, {row[2]}, 1)"),
    ),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None)
@given(sums)
def test_what_is_printed_reads_back_as_itself(text: str) -> None:
    instance = notation.parse(f"scaled(sgd, factor={text})")
    again = notation.parse(str(instance))
    assert again.setting("factor") == instance.setting("factor")
    assert str(again) == str(instance)


# -- mistakes --------------------------------------------------------------------------------------------------------

REFUSED = {
    "unknown schedule": ("linear_warmpu(steps=5)", "is not a function of the language or a schedule; did you mean 'li"),
    "unknown argument": ("linear_warmup(step=5)", "linear_warmup has no argument 'step'; did you mean 'steps'?"),
    "missing argument": ("linear_warmup()", "linear_warmup needs its steps: linear_warmup(steps=...)"),
    "by position": ("linear_warmup(5)", "takes its arguments by name: steps, first, begin"),
    "double stars": ("linear_warmup(**{'steps': 5})", "takes its arguments by name"),
    "outside the domain": ("linear_warmup(steps=0)", "linear_warmup, steps: must lie in [1, 1e9]; received 0"),
    "not an integer": ("linear_warmup(steps=2.5)", "linear_warmup, steps: must be an integer; received 2.5"),
    "a negative begin": ("inverse(begin=-1)", "begin: must lie in [0, 1e15]"),
    "not finite": ("constant(level=1e999)", "level: must lie in (-inf, inf); received inf"),
    "an argument in step": ("linear_warmup(steps=step)", "unknown name 'step'"),
    "a call in an argument": ("linear_warmup(steps=inverse())", "'inverse' is not a function"),
    "a function in an argument": ("constant(level=sqrt(2))", "must be a number, or + - * / of numbers"),
    "division by zero": ("constant(level=1 / 0)", "must be a number, or + - * / of numbers"),
    "out of a nested domain": ("staircase_2021(steps_per_epoch=1e9)", "steps: must lie in [1, 1e9]; received 5e+09"),
    "not called": ("linear_warmup", "call it, linear_warmup(...)"),
    "a function by name": ("sqrt(x=2)", "sqrt takes its arguments by position"),
    "as a comparison": ("inverse() < 1", "a comparison is no number"),
    "an open divisor": ("(step // step)", "must be an integer literal above 0"),
    "a divisor of 0": ("step // 0", "must be an integer literal above 0"),
    "a part of a step": ("(step / 2) // 2", "must be made of counters and integers"),
    "too long": (" + ".join(["staircase(steps_per_epoch=1251, drop1=1, drop2=2, drop3=3)"] * 20), "2000 characters"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(GraftsimError) as caught:
        program(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_given_twice() -> None:
    with pytest.raises(GraftsimError, match="steps"):
        program("linear_warmup(steps=1, steps=2)")


def test_a_machine_file_calls_no_schedule() -> None:
    with pytest.raises(GraftsimError, match="not a function of the language"):
        expressions.parse("g * linear_warmup(steps=5)", "mine.yaml")


def test_a_schedule_stands_only_where_one_may() -> None:
    with pytest.raises(GraftsimError, match="not schedulable"):
        notation.parse("adam(beta1=linear_warmup(steps=5))")


def test_outside_the_domain_is_found_at_its_step() -> None:
    built = graftsim.build("sgd(lr=cosine_2020(n=4))", {"w": (1,)})
    one = np.ones(1)
    graftsim.Engine(built).step(one, one, {}, 2)
    with pytest.raises(GraftsimError, match=r"lr must lie in >= 0; at step 3 it is -0\.7"):
        graftsim.Engine(built).step(one, one, {}, 3)


# -- files -----------------------------------------------------------------------------------------------------------

FILE = """
schedule: mine
title: t
source: s
arguments: {n: {about: a number}}
let: {x: t + n}
value: x * 2
examples: [{call: mine(n=1), values: [[1, 4]]}]
"""


def mine(old: str = "", new: str = "") -> schedules.Schedule:
    assert old in FILE
    return schedules.from_document(documents.parse_yaml(FILE.replace(old, new), "mine.yaml"), "mine.yaml")


def called(text: str, *known: schedules.Schedule) -> str:
    calls = schedules.calls({schedule.name: schedule for schedule in known})
    return expressions.unparse(expressions.from_ast(expressions.python_ast(text, "here"), text, "here", calls=calls))


def test_a_file_is_read() -> None:
    assert called("mine(n=1, begin=2)", mine()) == "(max(step - 2, 1) + 1) * 2"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("about: a number", "default: 3, domain: '< 5', about: n", "a domain is"),
        ("about: a number", "default: 3, domain: '> 5', about: n", "default: must lie in > 5; received 3"),
        ("about: a number", "default: 0.5, integer: true, about: n", "default: must be an integer"),
        ("x: t + n", "n: t + n", "'n' has another meaning"),
        ("x: t + n", "t: n", "'t' has another meaning"),
        ("x: t + n", "begin: n", "'begin' has another meaning"),
        ("schedule: mine", "schedule: sqrt", "'sqrt' has another meaning"),
        ("value: x * 2", "vaule: x * 2", "vaule"),
        ("title: t", "title: [t]", "title"),
    ],
)
def test_mistakes_in_a_file(old: str, new: str, problem: str) -> None:
    with pytest.raises(GraftsimError) as caught:
        mine(old, new)
    assert problem in str(caught.value)
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("y * 2", "unknown name 'y'"),
        ("step", "unknown name 'step'"),
        ("mine(n=1)", "a schedule must not call itself: mine -> mine"),
        ("f()", "'f' is not a function"),
    ],
)
def test_mistakes_in_equations(value: str, problem: str) -> None:
    with pytest.raises(GraftsimError) as caught:
        called("mine(n=1)", mine("x * 2", value))
    assert problem in str(caught.value)


def test_doubling_equations_are_stopped_early() -> None:
    let = ", ".join(f"x{k + 1}: x{k} + x{k}" for k in range(19))
    with pytest.raises(GraftsimError, match="comes to more than 2000"):
        called("mine(n=1)", mine("{x: t + n}\nvalue: x", f"{{x0: t + n, {let}}}\nvalue: x19"))


def test_a_nested_schedule_runs_on_its_callers_clock() -> None:
    outer = mine("x * 2", "inner(n=n, begin=5)")
    document = documents.parse_yaml(FILE.replace("mine", "inner").replace("x * 2", "t"), "inner.yaml")
    inner = schedules.from_document(document, "inner.yaml")
    assert called("mine(n=1, begin=2)", outer, inner) == "max(max(step - 2, 1) - 5, 1)"


def test_every_file_of_the_spec_is_listed_and_complete() -> None:
    wanted = (
        "constant inverse inverse_sqrt exponential exponential_decay cosine_2020 quarter_cosine_2021 cosine_annealing"
    )
    wanted += " linear_warmup polynomial_warmup polynomial_decay drop staircase staircase_2020 staircase_2021"
    wanted += " warmup_inverse_sqrt linear_correction power_correction"
    assert set(LIBRARY) == set(wanted.split())
    assert not set(LIBRARY) & set(graftsim.machines.library().names())


def test_shown_and_listed(capsys) -> None:
    from graftsim.cli import catalogue

    catalogue.list_all()
    assert "warmup_inverse_sqrt" in capsys.readouterr().out
    catalogue.show("staircase_2020", [])
    out = capsys.readouterr().out
    assert "peak * staircase(" in out
    assert "0.06400000000000002" in out
    catalogue.show("linear_warmup(steps=4) * 2", [])
    assert "min(step, 4) / 4 * 2" in capsys.readouterr().out
