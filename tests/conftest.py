"""Settings of all tests, and the command line as they call it."""

import io
import sys

import pytest
from hypothesis import settings

from graftsim import cli

# The first call of a compiled function compiles it, and machines are busy: time tells nothing about an example.
settings.register_profile("graftsim", deadline=None)
settings.load_profile("graftsim")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs the command line in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, columns: int = 200, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["graftsim", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """Nothing that another run left is found; what is compiled, is compiled anew."""
    monkeypatch.setenv("GRAFTSIM_CACHE", str(tmp_path / "cache"))
