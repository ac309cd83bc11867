"""Which graftsim this is: results of two that differ are not mixed."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
from hashlib import sha256
from pathlib import Path


@functools.cache
def version() -> str:
    """The version of graftsim and a digest of its sources and machines, on which every result depends."""
    sha = sha256()
    for package in ("graftsim", "graftsim_spec"):
        folder = Path(str(importlib.resources.files(package)))
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".yaml")):
            sha.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return f"{importlib.metadata.version('graftsim')}, sources {sha.hexdigest()[:12]}"
