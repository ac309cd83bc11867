"""The JSON that commands write."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftsim import documents


def write_json(path: Path, document: Any) -> None:
    """Write a document of plain values, atomically, in UTF-8."""
    text = json.dumps(finite(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    documents.write_atomically(path, lambda file: file.write(text.encode()))


def finite(value: Any) -> Any:
    """A document without what JSON has no word for: NaN and infinities become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value
