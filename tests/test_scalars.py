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
