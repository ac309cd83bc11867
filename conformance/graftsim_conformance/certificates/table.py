"""The table of what is certified: for each adapter its targets, and how each is run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graftsim import documents
from graftsim.errors import GraftsimError, nearest

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One certificate: the target, dtype and mode of a check, and what its process finds in its environment."""

    name: str
    adapter: str
    target: str
    dtype: str | None = None
    mode: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return f"{self.name}.json"


@functools.cache
def rows(path: Path = HERE / "table.yaml") -> tuple[Row, ...]:
    """All rows.

    Raises:
        GraftsimError: the file is not such a table.
    """
    content = documents.read_yaml(path)
    try:
        found = [Row(name, adapter, **row) for adapter, named in content.items() for name, row in named.items()]
    except (AttributeError, TypeError) as error:
        raise GraftsimError(
            f"{path} must give each adapter rows of target, dtype, mode and environment: {error}"
        ) from None
    if len({row.name for row in found}) != len(found):
        raise GraftsimError(f"{path}: each row must have a name of its own")
    return tuple(found)


def chosen(names: list[str], among: tuple[Row, ...]) -> list[Row]:
    """The rows of these names, or of the adapters of these names; all where none is given.

    Raises:
        GraftsimError: a name that is neither.
    """
    known = {row.name for row in among} | {row.adapter for row in among}
    for name in names:
        if name not in known:
            raise GraftsimError(f"there is no certificate or adapter {name!r}{nearest(name, known)}")
    return [row for row in among if not names or row.name in names or row.adapter in names]


def targets(name: str) -> list[str]:
    """The targets of an adapter, each once; what is no adapter is a target itself."""
    return list(dict.fromkeys(row.target for row in rows() if row.adapter == name)) or [name]
