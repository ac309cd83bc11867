"""Starting ranks under mpiexec from a test: with a time limit, without a terminal, one thread each."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"
GRAFTSIM = str(Path(sys.executable).parent / "graftsim")


def mpiexec(*arguments: str, seconds: int = 120) -> subprocess.CompletedProcess[str]:
    """Run mpiexec of the environment that the tests run in; it comes with the mpich wheel."""
    one = dict.fromkeys(("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    return subprocess.run(
        [MPIEXEC, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        env={**os.environ, **one, "MPIEXEC_TIMEOUT": str(seconds)},
        cwd=ROOT,
        check=False,
    )


def python(ranks: int, code: str, *arguments: str, seconds: int = 60) -> subprocess.CompletedProcess[str]:
    """A few lines of Python on each rank."""
    return mpiexec("-n", str(ranks), sys.executable, "-W", "error", "-c", code, *arguments, seconds=seconds)
