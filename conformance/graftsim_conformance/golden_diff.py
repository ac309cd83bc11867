"""What changes between a golden file and what the reference gives now, in a line for each quantity."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from graftsim import documents
from graftsim_conformance import case_files
from graftsim_conformance.cases import Case
from graftsim_conformance.follow import ulps

QUESTION = ("about", "rules", "machine", "dtype", "tensors", "start")


def lines(case: Case, path: Path | Traversable) -> Iterator[str]:
    """The differences of a solved case from its file, whose content is taken as it is."""
    old, new = documents.read_json(path), json.loads(case_files.text(case))
    if old.get("schema") != new["schema"]:
        yield f"was of {old.get('schema')!r}, is of {new['schema']!r}"
        return
    changed = [key for key in QUESTION if old.get(key) != new[key]]
    if changed:
        yield f"other {', '.join(changed)}"
    if len(old["steps"]) != len(new["steps"]):
        yield f"had {len(old['steps'])} steps, has {len(new['steps'])}"
    found: dict[str, list[tuple[int, str, str, str]]] = {}
    for number, (before, after) in enumerate(zip(old["steps"], new["steps"], strict=False), case.taken + 1):
        was, now = dict(flat(before)), dict(flat(after))
        for place in was.keys() | now.keys():
            if was.get(place) != now.get(place):
                quantity, _, where = place.partition("|")
                row = (number, where, was.get(place, "absent"), now.get(place, "absent"))
                found.setdefault(quantity, []).append(row)
    for quantity, rows in sorted(found.items(), key=lambda item: (min(item[1])[0], item[0])):
        yield _line(quantity, sorted(rows), case.dtype)
    if not changed and not found and len(old["steps"]) == len(new["steps"]):
        yield "the same values, written otherwise"


def flat(step: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """``quantity|place`` and text of every number of a step."""
    for key, values in step.items():
        for name, value in values.items():
            nested = isinstance(value, Mapping)
            quantity = f"{key} {name}" if nested or key == "hyperparameters" else key
            for place, inner in value.items() if nested else [("" if key == "hyperparameters" else name, value)]:
                if isinstance(inner, list):
                    yield from ((f"{quantity}|{place}[{number}]", str(one)) for number, one in enumerate(inner))
                else:
                    yield f"{quantity}|{place}", str(inner)


def _line(quantity: str, rows: list[tuple[int, str, str, str]], dtype: str) -> str:
    number, where, was, now = rows[0]
    sizes = [size for size in (_ulps(a, b, dtype) for _, _, a, b in rows) if size is not None]
    largest = f", at most {max(sizes)} ulps" if sizes else ""
    more = f"; {len(rows)} values in all{largest}" if len(rows) > 1 or sizes else ""
    return f"{quantity} at step {number}, {where or 'the value'}: {was} is now {now}{more}"


def _ulps(first: str, second: str, dtype: str) -> int | None:
    """How many numbers of the dtype lie between two texts; None where one is no number."""
    try:
        a, b = float.fromhex(first), float.fromhex(second)
    except ValueError:
        return None
    size = ulps(a, b)
    return size if size is None or dtype == "float64" else -(-size // 2**29)
