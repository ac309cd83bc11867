"""One step of a run, by the engine that was asked for. No bit depends on which."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from graftsim import engine
from graftsim.errors import GraftsimError
from graftsim.problems.problem import Gradients, Problem
from graftsim.program import Program
from graftsim.record import Moment

ENGINES = ("numpy", "compiled")
LONG, LARGE = 50_000, 10**8
"""From so many steps on where a whole run can be one loop, or so many coordinates times steps, compiling saves time."""

Stepper = Callable[[Moment, Gradients], Moment]
"""The moment after the next step. What it is given may be overwritten, so that an interrupt must wait for its end."""


def chosen(name: str, program: Program, stacklevel: int = 2) -> str:
    """The engine of this name, or where it cannot run the program the reference, with one warning.

    Raises:
        GraftsimError: there is none of that name.
    """
    if name not in ENGINES:
        raise GraftsimError(f"engine must be {' or '.join(ENGINES)}; received {name!r}")
    if name == "compiled" and program.has_matrices:
        warnings.warn(f"run by the reference engine, since {engine.MATRICES}", stacklevel=stacklevel + 1)
        return "numpy"
    return name


def quickest(program: Program, problem: Problem, steps: int) -> str:
    """The engine that should be done first with a run, compilation included."""
    if program.has_matrices:
        return "numpy"
    loop = steps >= LONG and getattr(problem, "kernel", None) is not None
    return "compiled" if loop or steps * program.layout.size >= LARGE else "numpy"


def stepper(name: str, program: Program, exchange: engine.Exchange = engine.alone) -> Stepper:
    """How an engine steps a program, or a rank's part of one."""
    if name == "numpy":
        reference = engine.Engine(program, exchange)
        return lambda before, g: before.after(reference.step(before.weights, g, before.state, before.step + 1))
    from graftsim.compiled.engine import CompiledEngine  # Numba is imported when the first program is compiled

    compiled = CompiledEngine(program, exchange=exchange)

    def in_place(moment: Moment, gradients: Gradients) -> Moment:
        info = compiled.step(moment.weights, gradients, moment.state, moment.step + 1)
        return Moment(moment.step + 1, moment.weights, moment.state, info)

    return in_place
