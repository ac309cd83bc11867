"""Test files that run in a process of their own: Keras has one backend a process, and imports are expensive.

A part is a module of functions ``check_...``; the program calls those of some parts and prints what was raised.
"""

import ast
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

FOLDER = Path(__file__).parent


def names(part: str) -> list[str]:
    """The checks of a part, which is not imported."""
    tree = ast.parse((FOLDER / f"{part}.py").read_text())
    found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [name for name in found if name.startswith("check_")]


def start(home: Path, **environment: str) -> dict[str, str]:
    """What each check raised; nothing where it passed."""
    variables = {**os.environ, "KERAS_HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    command = [sys.executable, "-m", "tests.tf_adapter.program", str(home)]
    done = subprocess.run(command, cwd=FOLDER.parents[1], env=variables, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def main(checks: dict) -> None:
    """Run checks by name; one that takes an argument gets a folder to write to."""
    found = {}
    for name, check in checks.items():
        try:
            check(*[Path(sys.argv[1])][: check.__code__.co_argcount])
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
    print(json.dumps(found))
