"""Norms of a few coordinates in two floats: the bits of the definition, and the limbs where rounding is in doubt."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graftsim import fast_few, sums
from graftsim.fast_few import FEW, root_of_few
from graftsim.sums import REGISTERS

DTYPES = (np.float32, np.float64)


def few(x) -> float:
    row = np.zeros(REGISTERS[x.dtype.name].width, np.int64)
    value = root_of_few(x, row)
    assert not row.any()
    return value


def same(x) -> bool:
    return np.float64(few(x)).tobytes() == np.float64(sums.norm(x)).tobytes() or math.isnan(sums.norm(x))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_bits_of_the_definition(dtype, data) -> None:
    width = np.dtype(dtype).itemsize * 8
    x = data.draw(hnp.arrays(dtype, st.integers(0, FEW), elements=st.floats(width=width)))
    assert same(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [0, 3, 30, 300])
def test_many_random_ones(dtype, spread: int) -> None:
    rng = np.random.default_rng(spread)
    for n in (1, 2, 3, 10, 63, 64):
        for _ in range(60):
            with np.errstate(over="ignore", under="ignore"):
                x = (rng.standard_normal(n) * 10.0 ** rng.uniform(-spread, spread, n)).astype(dtype)
            assert same(x)


def next_to_midpoints():
    """Two numbers whose root lies within 2^-100 of half-way between two floats, so that two floats cannot tell."""
    rng = np.random.default_rng(0)
    while True:
        r = Fraction(float(rng.random() + 1))
        middle = r + Fraction(1, 2**53)
        a = float(middle) * float(rng.random() * 0.5 + 0.5)
        b = math.sqrt(float(middle**2 - Fraction(a) ** 2))
        left = middle**2 - Fraction(a) ** 2 - Fraction(b) ** 2  # a third and fourth number take up what is left
        if left <= 0:
            continue
        c = math.sqrt(float(left))
        rest = left - Fraction(c) ** 2
        yield np.array([a, b, c, math.sqrt(float(rest))] if rest > 0 else [a, b, c])


def test_the_limbs_decide_where_two_floats_cannot(monkeypatch) -> None:
    """The rounding test refuses what it must: roots within its slack of a midpoint."""
    asked = []

    def by_limbs(x, row):
        asked.append(x)
        return sums.norm(x)

    function = root_of_few.py_func
    monkeypatch.setitem(function.__globals__, "root_by_limbs", by_limbs)
    monkeypatch.setitem(function.__globals__, "fma", lambda x, y, z: float(Fraction(x) * Fraction(y) + Fraction(z)))
    row = np.zeros(REGISTERS["float64"].width, np.int64)
    for _, x in zip(range(40), next_to_midpoints(), strict=False):
        assert function(x, row) == sums.norm(x) == few(x)
    assert len(asked) > 20
    asked.clear()
    for seed in range(40):
        x = np.random.default_rng(seed).standard_normal(10)
        assert function(x, row) == sums.norm(x)
    assert not asked


def test_without_the_rounding_test_it_would_be_wrong(monkeypatch) -> None:
    """What the slack is for: with none, some roots next to midpoints come out one ulp off."""
    function = root_of_few.py_func
    monkeypatch.setitem(function.__globals__, "fma", lambda x, y, z: float(Fraction(x) * Fraction(y) + Fraction(z)))
    monkeypatch.setitem(function.__globals__, "SLACK", 0.0)
    monkeypatch.setitem(function.__globals__, "root_by_limbs", lambda x, row: math.nan)
    row = np.zeros(REGISTERS["float64"].width, np.int64)
    found = [(function(x, row), sums.norm(x)) for _, x in zip(range(300), next_to_midpoints(), strict=False)]
    assert any(got != want for got, want in found)
    assert fast_few.SLACK == 0.0
