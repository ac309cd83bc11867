"""Every command and every example in README.md and docs/ runs as a reader would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INSTALLS = "python3 -m venv"
"""Commands that make an environment; .ci/run takes them from the README and runs them."""


def commands() -> list[tuple[str, str, int]]:
    found = []
    for page in PAGES:
        for language, mark, body in BLOCK.findall(page.read_text()):
            code = int(mark.strip().removeprefix("exit=") or 0)
            if language == "sh":
                found += [(page.name, line, code) for line in body.splitlines() if not line.startswith(INSTALLS)]
    return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with the files that the pages show: a YAML block whose first line is its name."""
    folder = tmp_path_factory.mktemp("desk")
    for page in PAGES:
        for language, _, body in BLOCK.findall(page.read_text()):
            name = re.match(r"# (\S+\.yaml)\n", body)
            if language == "yaml" and name:
                (folder / name[1]).write_text(body)
    return folder


@pytest.mark.parametrize(("page", "command", "code"), commands())
def test_command(page: str, command: str, code: int, desk: Path) -> None:
    assert command.startswith("graftsim "), f"{page}: cannot run {command!r}"
    program = Path(sys.executable).parent / "graftsim"
    done = subprocess.run(
        f"{program}{command.removeprefix('graftsim')}",
        shell=True,
        cwd=desk,
        env={**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"},  # for what is piped
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout or code == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples(page: Path, desk: Path) -> None:
    for language, _, body in BLOCK.findall(page.read_text()):
        if language == "python":
            done = subprocess.run([sys.executable, "-W", "error", "-c", body], cwd=desk, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "spec").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
