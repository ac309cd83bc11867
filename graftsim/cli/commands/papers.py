"""``graftsim papers`` and ``reproduce``."""

from __future__ import annotations

from pathlib import Path

from graftsim.cli.options import Flag, Jobs, Kept, Several


def papers(name: str | None = None, *, json: Path | None = None) -> None:
    """Check what the papers print: tables against each other and against short runs, and list the misprints.

    Examples: graftsim papers
              graftsim papers rounding-table
              graftsim papers 2021_table_13

    Parameters
    ----------
    name:
        A check, to see what it compares; or a printed table, to see it.
    json:
        Where to write checks and misprints as JSON.
    """
    from graftsim.cli import reproducing

    reproducing.papers(name, json)


def reproduce(
    *,
    quick: Flag = False,
    only: Several = None,
    out: Path = Path("report.html"),
    json: Path | None = None,
    ledger: Kept = None,
    jobs: Jobs = 1,
) -> None:
    """Test the claims of both papers by small experiments, and write a report that opens from disk.

    Examples: graftsim reproduce --quick -j 2
              graftsim reproduce -j 2 --out grafting.html
              graftsim reproduce --only two-by-two algebra

    The whole report takes about half an hour on two cores, most of it for a
    small language model; --quick leaves that and the convolutional network out.

    Parameters
    ----------
    quick:
        Leave out what takes minutes, and take three seeds in place of five.
    only:
        Only these claims, by the names that the report prints with each.
    out:
        Where to write the report, as HTML.
    json:
        Where to write claims, checks and misprints as JSON.
    """
    from graftsim.cli import reproducing

    reproducing.reproduce(only or (), quick, out, json, ledger, jobs)
