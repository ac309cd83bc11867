"""Certificates of the project's own adapters: renewed, and compared with the files.

python -m graftsim_conformance.certificates                         renew all, compare, and list what changed
python -m graftsim_conformance.certificates graftsim_torch          those of an adapter, or of these names
python -m graftsim_conformance.certificates --write graftsim_torch  and accept what was found
"""

from __future__ import annotations

import argparse
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
        ended = subprocess.run(command, env={**os.environ, **row.environment}, capture_output=True, text=True)
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
    parser.add_argument("-j", "--jobs", type=int, default=1, help="how many processes judge at a time")
    parser.add_argument("--folder", type=Path, default=table.HERE, help="of table.yaml and the certificates")
    asked = parser.parse_args(arguments)
    try:
        chosen = table.chosen(asked.names, table.rows(asked.folder / "table.yaml"))
    except GraftsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    bad = [row.name for row in chosen if not _done(row, asked.folder, asked.jobs, asked.write)]
    print(f"{len(chosen) - len(bad)} of {len(chosen)} certificates stand" + (f"; not {', '.join(bad)}" if bad else ""))
    return 1 if bad else 0


def _done(row: Row, folder: Path, processes: int, write: bool) -> bool:
    """Renew a certificate and say what changed; whether it stands, or is written now."""
    began = time.perf_counter()
    try:
        new = renewed(row, processes)
        lines = compared(row, folder, new)
    except GraftsimError as error:
        print(f"{row.name}: no certificate: {error}", flush=True)
        return False
    said = f"largest error {largest(new):.3g} bounds, {time.perf_counter() - began:.0f} s"
    print(f"{row.name}: {'changed' if lines else 'as committed'}; {said}", flush=True)
    print("".join(f"  {line}\n" for line in lines), end="", flush=True)
    if write:
        certificate.write(new, folder / row.file)
    return write or not lines


if __name__ == "__main__":
    sys.exit(main())
