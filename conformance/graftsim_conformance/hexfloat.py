"""Exact floats as text: the shortest C99 hexadecimal form of a value of a dtype, and back.

One value has one text (GS-trajectory-floats): the leading digit is 1, trailing zeros are left out, zero is ``0x0p+0``;
``inf``, ``-inf``, ``nan``. ``strtod`` of C, ``float.fromhex`` of Python and a dozen lines anywhere else read it.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from graftsim.errors import GraftsimError

PATTERN = r"-?(0x0p\+0|0x1(\.[0-9a-f]{0,12}[1-9a-f])?p[+-](0|[1-9][0-9]{0,3})|inf)|nan"


def to_hex(value: float) -> str:
    """The text of a value; a float32 is a float64 with zeros at the end, so it needs no case of its own.

    >>> to_hex(0.1), to_hex(-0.0), to_hex(5e-324)
    ('0x1.999999999999ap-4', '-0x0p+0', '0x1p-1074')
    """
    value = float(value)
    if math.isnan(value):
        return "nan"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if math.isinf(value):
        return f"{sign}inf"
    if value == 0:
        return f"{sign}0x0p+0"
    fraction, exponent = math.frexp(abs(value))
    digits = (2 * fraction).hex().removesuffix("p+0").rstrip("0").rstrip(".")
    return f"{sign}{digits}p{exponent - 1:+d}"


def from_hex(text: str, dtype: Any, where: str) -> float:
    """The value of a text, which must be the shortest form of a value of ``dtype``.

    Raises:
        GraftsimError: another form, or a value that the dtype does not have; ``where`` names the place.
    """
    if not isinstance(text, str) or not re.fullmatch(PATTERN, text):
        raise GraftsimError(
            f"{where}: a float must be text such as '0x1.8p-4', '0x0p+0' or 'inf'; received {text!r:.60}"
        )
    try:
        value = float.fromhex(text)
    except OverflowError:
        raise GraftsimError(f"{where}: {text} is beyond the range of {np.dtype(dtype)}") from None
    with np.errstate(over="ignore"):
        exact = math.isnan(value) or float(np.dtype(dtype).type(value)) == value
    if not exact or to_hex(value) != text:
        raise GraftsimError(f"{where}: {text} must be the shortest form of a {np.dtype(dtype)}; it is not one")
    return value
