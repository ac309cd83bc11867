"""Correctly rounded scalar functions, from Python integers alone (GS-scalar-correctly-rounded).

Each function brackets the real value between two integers times a power of two, rounds both ends, and raises the
precision until they agree (Ziv's strategy); the arguments at which the value is itself a float or a tie, where
that loop would not end, are taken out first. No C library is asked, so the bits are the same on every machine.
A float argument stands for the dyadic rational that it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

Bracket = tuple[int, int, int]
"""``(n, k, err)``: the value lies in [(n - err) 2^k, (n + err) 2^k]."""

EXACT_BITS = 4096
"""Below this many bits a power is formed exactly."""


def round_scaled(n: int, k: int) -> float:
    """The float64 nearest to n 2^k, ties to even, infinite beyond the range."""
    try:
        return float(n << k) if k >= 0 else n / (1 << -k)  # CPython rounds both correctly
    except OverflowError:
        return math.inf if n > 0 else -math.inf


def _ziv(bracket: Callable[[int], Bracket], precision: int = 96) -> float:
    while True:
        n, k, err = bracket(precision)
        low, high = round_scaled(n - err, k), round_scaled(n + err, k)
        if low == high:
            return low
        precision *= 2


def _odd(b: float) -> tuple[int, int]:
    """b = m 2^e with m odd, for b > 0."""
    n, d = b.as_integer_ratio()
    z = (n & -n).bit_length() - 1
    return n >> z, z - (d.bit_length() - 1)


def _power_bracket(m: int, e: int, t: int, precision: int) -> Bracket:
    """(m 2^e)^t in [n, n + err] 2^k, by squaring, keeping ``precision`` bits, rounding down."""
    n, k, err = 1, 0, 0
    for bit in bin(t)[2:]:
        err = 2 * n * err + err * err
        n, k = n * n, 2 * k
        if bit == "1":
            n, err, k = n * m, err * m, k + e
        surplus = n.bit_length() - precision
        if surplus > 0:
            n, err, k = n >> surplus, (err >> surplus) + 2, k + surplus
    return n, k, err


@lru_cache(maxsize=1 << 16)
def power(b: float, t: int) -> float:
    """The float64 nearest to b^t for an integer t; NaN for a NaN base; b^0 is 1.

    A negative exponent is 1 / b^-t, correctly rounded as one function.
    """
    if t == 0 or b == 1:
        return 1.0
    if math.isnan(b):
        return b
    if b < 0:
        return power(-b, t) * (-1 if t % 2 else 1)
    if b == 0 or math.isinf(b):
        return 0.0 if (b == 0) == (t > 0) else math.inf
    m, e = _odd(b)
    size = t * math.log2(b)
    if size < -1100:
        return 0.0
    if size > 1100:
        return math.inf
    if t < 0:
        return _inverse_power(m, e, -t)
    if m == 1 or m.bit_length() * t <= EXACT_BITS:  # floats and ties live here: they need m^t below 55 bits
        return round_scaled(m**t, e * t)
    return _ziv(lambda p: _power_bracket(m, e, t, p))


def power_remainder(b: float, t: int) -> float:
    """b^t - power(b, t) to about 53 bits, for 0 < b < 1 and t >= 1: the second part of a double-double number."""
    m, e = _odd(b)
    n, k, _ = _power_bracket(m, e, t, 220)
    high, scale = power(b, t).as_integer_ratio()
    shift = scale.bit_length() - 1
    if -k >= shift:
        return round_scaled(n - (high << (-k - shift)), k)
    return round_scaled((n << (shift + k)) - high, -shift)


def _inverse_power(m: int, e: int, t: int) -> float:
    if m == 1:
        return round_scaled(1, -e * t)

    def bracket(p: int) -> Bracket:
        n, k, err = _power_bracket(m, e, t, p)
        top = 1 << (2 * p)
        return top // n, -k - 2 * p, (top * err) // (n * n) + 2

    return _ziv(bracket)


@lru_cache(maxsize=1 << 16)
def one_minus_power(b: float, t: int) -> float:
    """The float64 nearest to 1 - b^t for an integer t; accurate where b^t is near 1.

    >>> one_minus_power(0.999, 1)
    0.0010000000000000009
    """
    if t == 0 or b == 1:
        return 0.0
    if not 0 <= b < 1 or t < 0:
        value = power(b, t)
        return 1.0 - value if math.isnan(value) or math.isinf(value) else _one_minus_fraction(b, t)
    if b == 0:
        return 1.0
    m, e = _odd(b)
    if t * math.log2(b) < -70:  # nearer to 1 than half an ulp
        return 1.0
    if m == 1 or m.bit_length() * t <= EXACT_BITS:
        return round_scaled((1 << (-e * t)) - m**t, e * t)

    def bracket(p: int) -> Bracket:
        n, k, err = _power_bracket(m, e, t, p)
        return (1 << -k) - n, k, err

    return _ziv(bracket)


def _one_minus_fraction(b: float, t: int) -> float:
    """Outside [0, 1) the power has at most a few thousand bits, being in range: exact rationals do."""
    value = 1 - Fraction(b) ** t
    return value.numerator / value.denominator


@lru_cache(maxsize=64)
def _pi(q: int) -> int:
    """pi 2^q by Machin's formula, off by less than one unit."""
    guard = q + 24
    return 4 * (4 * _arctan_of_inverse(5, guard) - _arctan_of_inverse(239, guard)) >> 24


def _arctan_of_inverse(x: int, q: int) -> int:
    total = term = (1 << q) // x
    n, square, sign = 3, x * x, -1
    while term:
        term //= square
        total += sign * (term // n)
        n, sign = n + 2, -sign
    return total


@lru_cache(maxsize=64)
def _ln2(q: int) -> int:
    """ln 2 in units of 2^-q: 18 artanh(1/26) - 2 artanh(1/4801) + 8 artanh(1/8749)."""
    guard = q + 24
    parts = ((18, 26), (-2, 4801), (8, 8749))
    return sum(factor * _artanh_of_inverse(x, guard) for factor, x in parts) >> 24


def _artanh_of_inverse(x: int, q: int) -> int:
    total = term = (1 << q) // x
    n, square = 3, x * x
    while term:
        term //= square
        total += term // n
        n += 2
    return total


def _alternating(x: int, q: int, first: int, n: int) -> int:
    """first - first x^2 / (n (n + 1)) + ... in q-bit fixed point, for 0 <= x < 1."""
    square = x * x >> q
    total = term = first
    sign = -1
    while term:
        term = (term * square >> q) // (n * (n + 1))
        total += sign * term
        n, sign = n + 2, -sign
    return total


@lru_cache(maxsize=1 << 16)
def cospi(a: int, n: int) -> float:
    """The float64 nearest to cos(pi a / n), for integers a and n > 0; NaN for n <= 0."""
    if n <= 0:
        return math.nan
    a %= 2 * n
    if a > n:
        a = 2 * n - a
    sign = 1
    if 2 * a > n:
        a, sign = n - a, -1
    if a == 0:
        return float(sign)
    if 2 * a == n:
        return 0.0
    if 3 * a == n:  # 0, 1/2 and 1 are the only rational values (Niven)
        return 0.5 * sign

    def bracket(p: int) -> Bracket:
        q = p + n.bit_length() + 8
        if 4 * a <= n:
            return _alternating(_pi(q) * a // n, q, 1 << q, 1), -q, 1 << 10
        x = _pi(q) * (n - 2 * a) // (2 * n)  # the sine of the complement
        return _alternating(x, q, x, 2), -q, 1 << 10

    return sign * _ziv(bracket)


@lru_cache(maxsize=1 << 16)
def exp(x: float) -> float:
    """The float64 nearest to e^x."""
    if math.isnan(x) or x == math.inf:
        return x
    if x == 0:
        return 1.0
    if x > 710:
        return math.inf
    if x < -746:
        return 0.0
    ratio = Fraction(x)

    def bracket(p: int) -> Bracket:
        q = p + 40
        return _exp_bracket((ratio.numerator << q) // ratio.denominator, q)

    return _ziv(bracket, 128)


def _exp_bracket(y: int, q: int) -> Bracket:
    """e^(y 2^-q) for |y 2^-q| < 800, where y may be off by 2^13 units."""
    k = y // _ln2(q)
    y -= k * _ln2(q)  # 0 <= y < ln 2, off by less than 2^12 units more
    halvings = 8
    y >>= halvings
    total = term = 1 << q
    n = 1
    while term:
        term = (term * y >> q) // n
        total += term
        n += 1
    for _ in range(halvings):
        total = total * total >> q
    return total, k - q, 1 << 28


@lru_cache(maxsize=1 << 16)
def real_power(x: float, y: float) -> float:
    """The float64 nearest to x^y for real y; for an integer y it is :func:`power`, and NaN for x < 0 otherwise.

    Ziv's loop ends: y = p 2^-q with p odd, so that x^y is rational only where x is a 2^q-th power of a rational s,
    and then it is s^p, an integer power; any other value is irrational, hence neither a float nor a tie.

    >>> real_power(2.25, 1.5)
    3.375
    """
    if y == 0 or x == 1:
        return 1.0
    if math.isnan(x) or math.isnan(y):
        return math.nan
    if y.is_integer():
        return power(x, int(y))
    if x < 0:
        return math.nan
    if x == 0 or math.isinf(x) or math.isinf(y):
        return math.inf if (x > 1) == (y > 0) else 0.0
    size = y * math.log2(x)
    if size < -1100:
        return 0.0
    if size > 1100:
        return math.inf
    root = _dyadic_root(x, y.as_integer_ratio()[1])
    if root is not None:
        return power(root, y.as_integer_ratio()[0])
    return _ziv(lambda p: _real_power_bracket(x, y, p))


def _dyadic_root(x: float, order: int) -> float | None:
    """The rational s with s^order = x, for an order that is a power of two; None where there is none."""
    m, e = _odd(x)
    while order > 1:
        root = math.isqrt(m)
        if e % 2 or root * root != m:
            return None
        m, e, order = root, e // 2, order // 2
    return math.ldexp(m, e)


def _real_power_bracket(x: float, y: float, precision: int) -> Bracket:
    """x^y = e^(y ln x); the logarithm has as many more bits as y has before its point."""
    q = precision + 40
    numerator, denominator = y.as_integer_ratio()
    more = int(abs(y)).bit_length()
    return _exp_bracket(_log(x, q + more) * numerator // (denominator << more), q)


def _log(x: float, q: int) -> int:
    """ln x in units of 2^-q, off by less than 2^12 of them: k ln 2 + 2 artanh((f - 1) / (f + 1)) for x = f 2^k."""
    f, k = math.frexp(x)
    if f < 0.75:
        f, k = 2 * f, k - 1  # 3/4 <= f < 3/2
    n, d = f.as_integer_ratio()
    z = ((n - d) << q) // (n + d)
    square = z * z >> q
    total = term = z
    odd = 3
    while term not in (0, -1):  # a floored negative number ends at -1
        term = term * square >> q
        total += term // odd
        odd += 2
    return k * _ln2(q) + 2 * total
