"""Scalar functions are the float64 nearest to the real value: compared with exact rationals and with mpmath."""

import math
from fractions import Fraction

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftsim import scalars


def nearest(value: Fraction) -> float:
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return math.inf if value > 0 else -math.inf


bases = st.one_of(
    st.sampled_from([0.9, 0.99, 0.999, 0.9999, 0.5, 0.25, 1 - 2.0**-53, 1 - 2.0**-20, 0.1, 5e-324, 0.75]),
    st.floats(0, 1, exclude_max=True, allow_subnormal=True),
)


@given(bases, st.integers(0, 300))
def test_powers_equal_exact_rationals(base: float, t: int) -> None:
    exact = Fraction(base) ** t
    assert scalars.power(base, t) == nearest(exact)
    assert scalars.one_minus_power(base, t) == nearest(1 - exact)


@given(st.floats(1, 4), st.integers(-40, 40))
def test_powers_beyond_the_unit_interval(base: float, t: int) -> None:
    exact = Fraction(base) ** t
    assert scalars.power(base, t) == nearest(exact)
    assert scalars.power(-base, t) == nearest(Fraction(-base) ** t)
    assert scalars.one_minus_power(base, t) == nearest(1 - exact)


def mpmath_nearest(value: mpmath.mpf) -> float:
    sign, mantissa, exponent, _ = value._mpf_
    return (-1) ** sign * scalars.round_scaled(int(mantissa), int(exponent))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0.9, 0.999, 0.9999, 1 - 2.0**-30]), st.integers(1, 3_000_000))
def test_powers_at_large_steps(base: float, t: int) -> None:
    with mpmath.workprec(900):
        exact = mpmath.mpf(base) ** t
        assert scalars.power(base, t) == mpmath_nearest(exact)
        assert scalars.one_minus_power(base, t) == mpmath_nearest(1 - exact)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_cosine(a: int, n: int) -> None:
    with mpmath.workprec(400):
        assert scalars.cospi(a, n) == mpmath_nearest(mpmath.cospi(mpmath.mpf(a) / n))


@given(st.floats(-760, 720))
def test_exponential(x: float) -> None:
    with mpmath.workprec(400):
        assert scalars.exp(x) == mpmath_nearest(mpmath.exp(mpmath.mpf(x)))


@st.composite
def powers_in_range(draw) -> tuple[float, float]:
    """A base, near 1 or of any size, and an exponent that keeps the power within float64."""
    near_one = st.builds(lambda sign, k: 1 + sign * 2.0**-k, st.sampled_from([-1, 1]), st.integers(1, 52))
    x = draw(st.one_of(near_one, st.floats(5e-324, 1e308), st.integers(2, 10**6).map(float)))
    most = 1080 / max(abs(math.log2(x)), 1e-300)
    return x, draw(st.one_of(st.floats(-most, most), st.floats(-min(most, 2), min(most, 2))))


@settings(max_examples=300, deadline=None)
@given(powers_in_range())
def test_real_powers(pair: tuple[float, float]) -> None:
    x, y = pair
    with mpmath.workprec(600):
        assert scalars.real_power(x, y) == mpmath_nearest(mpmath.mpf(x) ** mpmath.mpf(y))


@settings(deadline=None)
@given(st.integers(1, 2**20), st.integers(-5, 5), st.integers(1, 5), st.integers(-9, 9).map(lambda k: 2 * k + 1))
def test_real_powers_that_are_rational_are_found_and_exact(root: int, shift: int, q: int, p: int) -> None:
    """s^(2^q) to the power p / 2^q is s^p: where the loop over precisions would not end."""
    s = Fraction(root) * Fraction(2) ** shift
    x = s ** (2**q)
    if x.numerator < 2**53 and x.denominator < 2**53:
        assert scalars.real_power(float(x), p / 2**q) == nearest(s**p)


@given(st.floats(-4, 4), st.integers(-40, 40))
def test_real_powers_of_integers_are_powers(base: float, t: int) -> None:
    assert scalars.real_power(base, float(t)) == scalars.power(base, t)


def test_a_real_power_next_to_a_tie() -> None:
    """sqrt((1 + u)^2 - u^2) and its like lie 2^-107 from the middle of two floats: the first precision is too low."""
    for x in (1 + 2.0**-52, 1 - 2.0**-53, 1 + 3 * 2.0**-52, 4 - 2.0**-51):
        with mpmath.workprec(300):
            assert scalars.real_power(x, 0.5) == math.sqrt(x) == mpmath_nearest(mpmath.sqrt(mpmath.mpf(x)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (scalars.power(0.0, 0), 1.0),
        (scalars.power(0.0, 3), 0.0),
        (scalars.power(0.0, -3), math.inf),
        (scalars.power(math.inf, -1), 0.0),
        (scalars.power(2.0, 1024), math.inf),
        (scalars.power(2.0, -1074), 5e-324),
        (scalars.power(2.0, -1075), 0.0),  # a tie: to even
        (scalars.power(-2.0, 3), -8.0),
        (scalars.one_minus_power(0.999, 1), 0.0010000000000000009),
        (scalars.one_minus_power(0.9, 10**9), 1.0),
        (scalars.one_minus_power(1.0, 7), 0.0),
        (scalars.real_power(2.25, 1.5), 3.375),
        (scalars.real_power(5e-324, 0.5), 2.0**-537),
        (scalars.real_power(2.0**40, -0.125), 2.0**-5),
        (scalars.real_power(0.0, 0.5), 0.0),
        (scalars.real_power(-0.0, -0.5), math.inf),
        (scalars.real_power(math.inf, 0.5), math.inf),
        (scalars.real_power(math.inf, -0.5), 0.0),
        (scalars.real_power(0.5, math.inf), 0.0),
        (scalars.real_power(0.5, -math.inf), math.inf),
        (scalars.real_power(2.0, math.inf), math.inf),
        (scalars.real_power(2.0, -math.inf), 0.0),
        (scalars.real_power(0.0, -math.inf), math.inf),
        (scalars.real_power(1.0, math.nan), 1.0),
        (scalars.real_power(math.nan, 0.0), 1.0),
        (scalars.real_power(2.0, 1e300), math.inf),
        (scalars.real_power(2.0, -1074.5), 5e-324),
        (scalars.real_power(2.0, -1075.5), 0.0),
        (scalars.real_power(3.0, 1e-300), 1.0),
        (scalars.exp(710.0), math.inf),
        (scalars.exp(-746), 0.0),
        (scalars.cospi(1, 3), 0.5),
        (scalars.cospi(2, 3), -0.5),
        (scalars.cospi(1, 2), 0.0),
        (scalars.cospi(5, 1), -1.0),
    ],
)
def test_special_values(value: float, expected: float) -> None:
    assert value == expected


def test_not_a_number_passes_through() -> None:
    assert math.isnan(scalars.power(math.nan, 2))
    assert math.isnan(scalars.one_minus_power(math.nan, 2))
    assert math.isnan(scalars.exp(math.nan))
    assert math.isnan(scalars.cospi(1, 0))
    assert math.isnan(scalars.real_power(math.nan, 0.5))
    assert math.isnan(scalars.real_power(2.0, math.nan))
    assert math.isnan(scalars.real_power(-2.0, 0.5))
    assert math.isnan(scalars.real_power(-2.0, math.inf))
