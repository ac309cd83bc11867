"""Certificates of the project's own adapters: renewed, and compared with the files.

python -m graftsim_conformance.certificates                         renew all, compare, and list what changed
python -m graftsim_conformance.certificates graftsim_torch          those of an adapter, or of these names
python -m graftsim_conformance.certificates --write graftsim_torch  and accept what was found
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from graftsim.errors import GraftsimError
from graftsim_conformance import certificate
from graftsim_conformance.certificates import table
from graftsim_conformance.certificates.changes import changes
from graftsim_conformance.certificates.table import Row

TAIL = 12
"""How many lines are shown of what a check says that ends without a certificate."""
SECONDS = 1800.0
"""How long a check may take; the longest takes a tenth of it on one core."""


def renewed(row: Row, processes: int) -> dict[str, Any]:
    """A new certificate of a row, from a process of its own: a backend is chosen once a process.

    Raises:
        GraftsimError: there is none now, with the reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / row.file
        command = [sys.executable, "-m", "graftsim", "check", row.target, "--certificate", str(path)]
        command += ["--dtype", row.dtype] if row.dtype else []
        command += ["--mode", row.mode] if row.mode else []
        command += ["-j", str(processes), "--fresh"]
        environment = {**os.environ, **row.environment}
        try:
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise GraftsimError(f"{' '.join(command[2:])} took longer than {SECONDS:.0f} s") from None
        if ended.returncode or not path.exists():
            said = (ended.stdout + ended.stderr).strip().splitlines()[-TAIL:]
            raise GraftsimError("\n  ".join([f"{' '.join(command[2:])} ended with {ended.returncode}:", *said]))
        return certificate.read(path)


def compared(row: Row, folder: Path, new: dict[str, Any]) -> list[str]:
    """What changed since the file was written."""
    path = folder / row.file
    if not path.exists():
        return ["there is no file yet; --write makes it"]
    try:
        return changes(certificate.read(path), new)
    except GraftsimError as error:
        return [str(error)]


def largest(document: dict[str, Any]) -> float:
    return max(float(claim["largest"]) for claim in document["claims"])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="graftsim_conformance.certificates", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("names", nargs="*", help="certificates or adapters; all where none is given")
    parser.add_argument("--write", action="store_true", help="accept what is found now")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="how many processes judge at a time, a row each")
    parser.add_argument("--folder", type=Path, default=table.HERE, help="of table.yaml and the certificates")
    asked = parser.parse_args(arguments)
    try:
        chosen = table.chosen(asked.names, table.rows(asked.folder / "table.yaml"))
    except GraftsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    bad = _renew(chosen, asked.folder, asked.jobs, asked.write)
    print(f"{len(chosen) - len(bad)} of {len(chosen)} certificates stand" + (f"; not {', '.join(bad)}" if bad else ""))
    return 1 if bad else 0


def _renew(chosen: list[Row], folder: Path, jobs: int, write: bool) -> list[str]:
    """Renew the certificates and print what changed, each as it is done; the names of those that do not stand.

    A row has a process to itself where there are enough rows: what it imports is imported once.
    """
    each, bad = max(1, jobs // len(chosen)), []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(_done, row, folder, each, write): row for row in chosen}
        for future in concurrent.futures.as_completed(running):
            stands, lines = future.result()
            print("\n".join(lines), flush=True)
            bad += [] if stands else [running[future].name]
    return [row.name for row in chosen if row.name in bad]


def _done(row: Row, folder: Path, processes: int, write: bool) -> tuple[bool, list[str]]:
    """Renew a certificate: whether it stands, or is written now, and what is to be said of it."""
    began = time.perf_counter()
    try:
        new = renewed(row, processes)
        lines = compared(row, folder, new)
    except GraftsimError as error:
        return False, [f"{row.name}: no certificate: {error}"]
    said = f"largest error {largest(new):.3g} bounds, {time.perf_counter() - began:.0f} s"
    if write:
        certificate.write(new, folder / row.file)
    said = f"{row.name}: {'changed' if lines else 'as committed'}; {said}"
    return write or not lines, [said, *(f"  {line}" for line in lines)]


if __name__ == "__main__":
    sys.exit(main())
