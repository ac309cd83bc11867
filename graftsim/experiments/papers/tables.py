"""The printed tables of both papers, as data in ``graftsim_spec/papers``: numbers as they stand on the page."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from graftsim import documents
from graftsim.errors import GraftsimError, nearest

Cell = float | str | None


@dataclass(frozen=True)
class Column:
    """A column: its name, to how many decimals it is printed (None where that says nothing), and what it holds."""

    name: str
    decimals: int | None = None
    about: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table: ``rows`` hold one cell a column, a number, a word, or None where the page has nothing."""

    name: str
    paper: int
    number: str
    place: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    about: str = ""

    @property
    def title(self) -> str:
        """``2021, Table 7``; what is no table on the page has a name of its own, such as Figure 5b."""
        return f"{self.paper}, {'Table ' if self.number.isdigit() else ''}{self.number}"

    def column(self, name: str) -> list[Cell]:
        """The cells of a column, from top to bottom."""
        place = self._place(name)
        return [row[place] for row in self.rows]

    def numbers(self, name: str) -> list[float]:
        """A column that holds numbers only."""
        return [_number(cell, self.name, name) for cell in self.column(name)]

    def cell(self, name: str, **where: Cell) -> float:
        """The number in column ``name`` of the one row whose other columns have these cells."""
        places = {self._place(key): value for key, value in where.items()}
        found = [row for row in self.rows if all(row[place] == value for place, value in places.items())]
        if len(found) != 1:
            raise GraftsimError(f"{self.name}: one row must have {where}; {len(found)} have")
        return _number(found[0][self._place(name)], self.name, name)

    def decimals(self, name: str) -> int:
        """To how many decimals a column is printed."""
        found = self.columns[self._place(name)].decimals
        if found is None:
            raise GraftsimError(f"{self.name}: column {name!r} does not say to how many decimals it is printed")
        return found

    def _place(self, name: str) -> int:
        names = [column.name for column in self.columns]
        if name not in names:
            raise GraftsimError(f"{self.name} has no column {name!r}{nearest(name, names)}")
        return names.index(name)


def names() -> list[str]:
    """The tables that there are."""
    folder = documents.spec() / "papers"
    found = (file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
    return sorted(name for name in found if name != "errata")


@functools.cache
def load(name: str) -> PaperTable:
    """A table by name, such as ``2021_table_7``.

    Raises:
        GraftsimError: unknown name, or a file that is not as the schema ``paper_table.json`` says.
    """
    if name not in names():
        raise GraftsimError(f"unknown table {name!r}{nearest(name, names())}")
    return from_document(documents.read_yaml(documents.spec() / "papers" / f"{name}.yaml"), name)


def from_document(document: Mapping[str, object], where: str) -> PaperTable:
    """The table of a YAML document; ``where`` names the file in errors."""
    documents.validate(document, "paper_table", where)
    fields = dict(document)
    columns = tuple(Column(**column) for column in fields.pop("columns"))  # type: ignore[attr-defined]
    rows = tuple(tuple(row) for row in fields.pop("rows"))  # type: ignore[attr-defined]
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise GraftsimError(f"{where}: row {number} must have {len(columns)} cells; it has {len(row)}")
    return PaperTable(fields.pop("table"), columns=columns, rows=rows, **fields)  # type: ignore[arg-type]


def _number(cell: Cell, table: str, column: str) -> float:
    if isinstance(cell, str) or cell is None:
        raise GraftsimError(f"{table}: column {column!r} must hold numbers; received {cell!r}")
    return float(cell)
