"""Whether this process is one of many, and how a job of many ends when one of them fails."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from graftsim.errors import GraftsimError
from graftsim.ranks.agreement import AgreedError

if TYPE_CHECKING:
    from graftsim.ranks.mpi import World

LAUNCHERS = {
    "PMI_SIZE": "mpiexec of MPICH or Intel MPI",
    "OMPI_COMM_WORLD_SIZE": "mpiexec of Open MPI",
    "SLURM_STEP_NUM_TASKS": "srun",
}
"""The variable in which a launcher tells each process how many there are; srun sets its own in job steps only."""


def started(environment: Mapping[str, str] = os.environ) -> tuple[str, int] | None:
    """The launcher that started this process among others, and how many it started; None for a process of its own."""
    for variable, name in LAUNCHERS.items():
        if environment.get(variable, "").isdigit():
            return name, int(environment[variable])
    return None


def check(launcher: str, wanted: int, found: int, library: str) -> None:
    """A launcher of another MPI starts processes that do not know of each other; each would do the whole run.

    Raises:
        GraftsimError: MPI has another number of ranks than the launcher started.
    """
    if found != wanted:
        raise GraftsimError(
            f"MPI must see the {wanted} processes that {launcher} started; it sees {found}, since mpi4py found another "
            f"MPI ({library}): use the launcher of that one"
        )


@contextmanager
def session() -> Iterator[World | None]:
    """The ranks that were started together, or None for a process of its own.

    What a rank raises inside ends the whole job: it says which rank it was and why, and MPI ends the others. A mistake
    that all ranks have learnt of is told by rank 0, with exit code 2, as by one process.

    Raises:
        GraftsimError: started by a launcher, and mpi4py is missing or found another MPI.
    """
    launched = started()
    if launched is None:
        yield None
        return
    from graftsim.ranks.mpi import World, library

    world = World()
    check(*launched, world.size, library())
    with ended_together(world.rank, world.size, world.abort):
        yield world


@contextmanager
def ended_together(rank: int, size: int, abort: Callable[[int], object]) -> Iterator[None]:
    """End all ranks when this one fails; see :func:`session`."""
    try:
        yield
    except AgreedError:
        if rank == 0:
            raise
        sys.exit(2)
    except BaseException as error:  # others wait for this rank, whatever it was
        code, why = outcome(error)
        _say(f"graftsim: rank {rank} of {size}: {why}")
        abort(code)
        raise


def outcome(error: BaseException) -> tuple[int, str]:
    """The exit code of a rank that raised this, and the reason."""
    match error:
        case GraftsimError():
            return 2, str(error)
        case KeyboardInterrupt():
            return 130, "stopped"
        case SystemExit(code=int() as code):
            return code or 1, f"left with exit code {code} while others waited"
    return 1, "".join(traceback.format_exception(error)).strip()


def _say(text: str) -> None:
    """One write, so that lines of several ranks do not mix."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
