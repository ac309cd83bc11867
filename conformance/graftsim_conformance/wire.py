"""Numbers as the line protocol writes and reads them (GS-protocol-floats, GS-protocol-values)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graftsim.layouts import Array, Shape
from graftsim_conformance.hexfloat import to_hex
from graftsim_conformance.verdicts import CandidateError, Verdict

_HEX = re.compile(r"([+-]?)0x([0-9a-f]+)(?:\.([0-9a-f]*))?p([+-]?[0-9]{1,6})", re.IGNORECASE)
_SPECIAL = re.compile(r"([+-]?)(inf|infinity|nan)", re.IGNORECASE)


def line(message: Mapping[str, Any]) -> bytes:
    """A message as one line of ASCII, keys in the order of the mapping, no spaces."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def parse(reply: bytes) -> dict[str, Any]:
    """The object on a line.

    Raises:
        CandidateError: crashed; not UTF-8, not JSON, not an object, a key twice, a NaN or Infinity literal.
    """
    try:
        found = json.loads(reply.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_no_doubles)
        if isinstance(found, dict):
            return found
        problem = f"it is a {type(found).__name__}"
    except (ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())[:100]
    text = reply[:60].decode("utf-8", "backslashreplace")
    raise CandidateError(Verdict.CRASHED, f"a reply must be a JSON object; received {text!r} ({problem})")


def _refuse(literal: str) -> None:
    raise ValueError(f"{literal} is not JSON; it must be a string")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def texts(values: Array) -> list[str]:
    """A flat list of the elements in C order."""
    return [to_hex(x) for x in np.asarray(values).reshape(-1).tolist()]


def lists(parts: Iterable[Array]) -> list[list[str]]:
    """Values by tensor: one list for each, in C order."""
    return [texts(part) for part in parts]


def again(value: Any) -> Any:
    """Nested lists of floats, each in the form of requests."""
    return [again(part) for part in value] if isinstance(value, list) else to_hex(read_number(value, np.float64, ""))


def read_by_tensor(value: Any, names: Sequence[str], shapes: Sequence[Shape], dtype: Any, place: str) -> Array:
    """A flat array of the dtype.

    Raises:
        CandidateError: different, where tensors or sizes are wrong or a value is none of the dtype; crashed, where it
            is no list of lists of floats.
    """
    if not isinstance(value, list) or not all(isinstance(part, list) for part in value):
        raise CandidateError(Verdict.CRASHED, f"{place} must be a list with one list a tensor; received {value!r:.60}")
    if len(value) != len(names):
        raise _different(f"{place} must have {len(names)} tensors; received {len(value)}")
    for part, name, shape in zip(value, names, shapes, strict=True):
        if len(part) != math.prod(shape):
            raise _different(f"{place}, tensor {name!r}, must have {math.prod(shape)} values; received {len(part)}")
    return np.array([read_number(x, dtype, place) for part in value for x in part], dtype)


def read_by_group(value: Any, count: int | None, place: str) -> Array:
    """One float64 for each group, so many if a count is given; raises as :func:`read_by_tensor`."""
    if not isinstance(value, list):
        raise CandidateError(Verdict.CRASHED, f"{place} must be a list; received {value!r:.60}")
    if count not in (None, len(value)):
        raise _different(f"{place} must have {count} values; received {len(value)}")
    return np.array([read_number(x, np.float64, place) for x in value], np.float64)


def read_loose(value: Any, dtype: Any, place: str) -> Array:
    """What no machine says the shape of: lists of lists flat in the dtype, a list as float64."""
    nested = isinstance(value, list) and bool(value) and isinstance(value[0], list)
    if not nested:
        return read_by_group(value, None, place)
    flat = [x for part in value for x in (part if isinstance(part, list) else [part])]
    return np.array([read_number(x, dtype, place) for x in flat], dtype)


def read_number(text: Any, dtype: Any, place: str) -> float:
    """The value of a C99 hexadecimal float, which must be one of the dtype."""
    if isinstance(text, str) and (match := _SPECIAL.fullmatch(text)):
        return math.copysign(math.nan if match[2].lower() == "nan" else math.inf, -1 if match[1] == "-" else 1)
    if not isinstance(text, str) or not (match := _HEX.fullmatch(text)):
        raise CandidateError(
            Verdict.CRASHED, f"{place}: a float must be text such as '0x1.8p-4', 'inf' or 'nan'; received {text!r:.60}"
        )
    sign, whole, fraction, power = match[1], match[2], match[3] or "", int(match[4])
    digits, exponent = int(whole + fraction, 16), power - 4 * len(fraction)
    zeros = (digits & -digits).bit_length() - 1 if digits else 0
    digits, exponent = digits >> zeros, exponent + zeros
    kind = np.finfo(dtype)
    fits = digits.bit_length() <= kind.nmant + 1 and exponent >= kind.minexp - kind.nmant
    if digits and not (fits and exponent + digits.bit_length() <= kind.maxexp):
        raise _different(f"{place}: {text:.60} is not a value of {np.dtype(dtype)}")
    return math.copysign(math.ldexp(digits, exponent) if digits else 0.0, -1 if sign == "-" else 1)


def _different(reason: str) -> CandidateError:
    return CandidateError(Verdict.DIFFERENT, reason)
