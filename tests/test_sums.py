"""Exact sums: against rational arithmetic, over every cut and order."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graftsim import sums

DTYPES = (np.float32, np.float64)


def nearest(value: Fraction) -> float:
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def nearest_root(square: Fraction) -> float:
    """The float64 nearest to sqrt(square), by exact comparison with midpoints."""
    if square == 0:
        return 0.0
    scale = Fraction(4) ** ((square.denominator.bit_length() - square.numerator.bit_length()) // 2 + 60)
    root = math.isqrt((square * scale).numerator // (square * scale).denominator)
    guess = nearest(Fraction(root) / _root(scale))
    if guess == math.inf:
        return guess
    below, above = math.nextafter(guess, 0), math.nextafter(guess, math.inf)
    if square < ((Fraction(below) + Fraction(guess)) / 2) ** 2:
        return below
    if math.isfinite(above) and square > ((Fraction(guess) + Fraction(above)) / 2) ** 2:
        return above
    return guess


def _root(power_of_four: Fraction) -> Fraction:
    return Fraction(math.isqrt(power_of_four.numerator), math.isqrt(power_of_four.denominator))


def value(operator: str, x, y=None) -> float:
    x = np.asarray(x)
    y = (x if operator == "norm" else np.ones_like(x)) if y is None else np.asarray(y)
    return float(sums.rounded(operator, sums.rows(x, y, np.zeros(x.size, np.int64), 1), x.dtype)[0])


def arrays(dtype, **keywords):
    width = np.dtype(dtype).itemsize * 8
    return hnp.arrays(dtype, st.integers(0, 40), elements=st.floats(width=width, **keywords))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_norm_is_the_nearest_float64(dtype, data) -> None:
    x = data.draw(arrays(dtype, allow_nan=False, allow_infinity=False))
    assert value("norm", x) == nearest_root(sum((Fraction(float(v)) ** 2 for v in x), Fraction(0)))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_sum_and_dot_are_the_nearest_float64(dtype, data) -> None:
    x = data.draw(arrays(dtype, allow_nan=False, allow_infinity=False))
    y = data.draw(
        hnp.arrays(dtype, x.shape, elements=st.floats(width=x.itemsize * 8, allow_nan=False, allow_infinity=False))
    )
    assert value("sum", x) == nearest(sum((Fraction(float(v)) for v in x), Fraction(0)))
    assert value("dot", x, y) == nearest(
        sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True)), Fraction(0))
    )


def random_bits(dtype, n: int, seed: int):
    unsigned = np.uint32 if dtype == np.float32 else np.uint64
    x = np.random.default_rng(seed).integers(0, np.iinfo(unsigned).max, n, unsigned, endpoint=True).view(dtype)
    return np.where(np.isfinite(x), x, dtype(1))


ADVERSARIAL = {
    "empty": [],
    "one": [-3.0],
    "three four five": [3.0, 4.0],
    "zeros of both signs": [0.0, -0.0],
    "largest": [np.finfo(np.float32).max] * 5,
    "smallest": [np.finfo(np.float32).smallest_subnormal] * 3,
    "smallest double": [5e-324] * 3,
    "squares that overflow": [3e200, 4e200],
    "squares that underflow": [3e-200, 4e-200],
    "mixed ranges": [1e308, 1e-308, 5e-324, 1.0],
    "a tie that a far bit breaks": [1.0, 2.0**-27, 2.0**-500],
    "all mantissa bits": [np.nextafter(2.0, 1.0)] * 7,
}


@pytest.mark.parametrize("x", ADVERSARIAL.values(), ids=ADVERSARIAL)
@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_of_adversarial_input(dtype, x) -> None:
    with np.errstate(over="ignore", under="ignore"):
        x = np.array(x, np.float64).astype(dtype)
    x = x[np.isfinite(x)]
    assert value("norm", x) == nearest_root(sum((Fraction(float(v)) ** 2 for v in x), Fraction(0)))


def test_norm_at_rounding_midpoints() -> None:
    """Sums of squares placed at, just below and just above the square of a midpoint of two floats."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        low = float(rng.random() + 1)
        middle = (Fraction(low) + Fraction(math.nextafter(low, 2))) / 2
        for offset in (-1, 0, 1):
            square = middle**2 + offset * Fraction(2) ** -400
            scaled = square * Fraction(4) ** 600
            assert scaled.denominator == 1
            got = sums._root(scaled.numerator, -1200)
            expected = nearest_root(square)
            assert got == expected, (low, offset)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_order_and_no_cut_can_be_seen(dtype) -> None:
    x, y = random_bits(dtype, 3000, 1), random_bits(dtype, 3000, 2)
    group = np.random.default_rng(3).integers(0, 7, 3000)
    whole = sums.rows(x, y, group, 7)
    expected = {operator: sums.rounded(operator, whole, dtype) for operator in ("sum", "dot")}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        order = rng.permutation(3000)
        cuts = np.split(order, np.sort(rng.integers(0, 3000, rng.integers(1, 9))))
        added = sum(sums.rows(x[cut], y[cut], group[cut], 7) for cut in cuts)
        for operator, want in expected.items():
            assert sums.rounded(operator, added, dtype).tobytes() == want.tobytes()


def test_chunks_are_invisible(monkeypatch) -> None:
    x = random_bits(np.float64, 100, 4)
    whole = value("norm", x)
    monkeypatch.setattr(sums, "CHUNK", 7)
    assert value("norm", x) == whole


@pytest.mark.parametrize("dtype", DTYPES)
def test_non_finite_terms(dtype) -> None:
    inf, nan = np.inf, np.nan
    assert value("norm", np.array([1, -inf], dtype)) == inf
    assert math.isnan(value("norm", np.array([inf, nan], dtype)))
    assert value("sum", np.array([1, -inf], dtype)) == -inf
    assert math.isnan(value("sum", np.array([inf, -inf], dtype)))
    assert math.isnan(value("dot", np.array([inf], dtype), np.array([0], dtype)))
    big = np.array([np.finfo(dtype).max] * 2, dtype)
    assert math.isfinite(value("dot", big, np.array([1, -1], dtype)))


@pytest.mark.parametrize("operator", ["norm", "sum", "dot"])
def test_an_exact_zero_is_plus_zero(operator: str) -> None:
    zero = value(operator, np.array([-0.0, -0.0]), np.array([1.0, 1.0]) if operator == "dot" else None)
    assert math.copysign(1, zero) == 1
    assert math.copysign(1, value("sum", np.array([1.0, -1.0]))) == 1


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_norm_of_one_coordinate_is_its_size(x: float) -> None:
    assert sums.norm(np.array([x])) == abs(x)


@given(hnp.arrays(np.float64, 6, elements=st.floats(-1e3, 1e3)), st.integers(-200, 200))
def test_norm_scales_by_powers_of_two(x, k: int) -> None:
    if all(abs(v) > 1e-200 or v == 0 for v in x):
        assert sums.norm(np.ldexp(x, k)) == math.ldexp(sums.norm(x), k)
