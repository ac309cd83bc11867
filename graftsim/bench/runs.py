"""Whole runs on a quadratic, alone (kind ``run``) and many at once (kind ``ensemble``), beside optax and torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from graftsim import build, problems
from graftsim.bench import machine
from graftsim.bench.cases import Case
from graftsim.bench.field import Field, difference
from graftsim.bench.timing import Absent, Contestant
from graftsim.bench.workload import Equations, Rates
from graftsim.errors import GraftsimError
from graftsim.layouts import Array
from graftsim.problems.quadratic import Quadratic
from graftsim.simulate import simulate
from graftsim.trajectory import Trajectory

BOUND, ROWS = 1e-9, 50
"""How closely how many steps are compared: float64's roundings, which a run multiplies but little so early."""

SMALLEST = 1e-100
"""No value of a run may come nearer to zero (and be non-zero): squares of smaller ones are subnormal before long, which
costs a CPU dearly, and which XLA flushes to zero."""

NO_OPTAX = "not installed: pip install graftsim[jax]"
NO_TORCH = "not installed: pip install graftsim[torch]"


class Simulation:
    """A run of ours from the start at each call, which keeps weights and state at both ends alone."""

    def __init__(self, rates: Rates, problem: Quadratic, steps: int, record_every: int) -> None:
        self.problem, self.steps, self.record_every = problem, steps, record_every
        self.program = build(rates.machine, problem.layout, "float64")
        self.last: Trajectory | None = None

    def __call__(self) -> Trajectory:
        self.last = self.run("compiled")
        return self.last

    def run(self, engine: str) -> Trajectory:
        return simulate(
            *(self.problem, self.program, self.steps),
            record_every=self.record_every,
            keep_every=self.record_every * self.steps,
            engine=engine,
        )


def single(case: Case, threads: int) -> Field:
    """The contestants of a case of kind ``run``; ours and torch use one thread, XLA what it likes."""
    del threads
    values, rates = case.values, Rates.of(case.values)
    problem, steps, eager = (
        _quadratic(values["dimension"]),
        values["steps"],
        min(values["eager_steps"], values["steps"]),
    )
    ours = Simulation(rates, problem, steps, 1)
    bare = Simulation(rates, problem, steps, steps)
    contestants = [Contestant("graftsim, recorded", ours, steps), Contestant("graftsim, unrecorded", bare, steps)]
    others: dict[str, Callable[[], Array]] = {}
    absent = []
    if machine.has("optax"):
        from graftsim.bench import optax_side

        recorded = optax_side.runner(rates.adam, rates.momentum, problem.spectrum, steps, True)
        unrecorded = optax_side.runner(rates.adam, rates.momentum, problem.spectrum, steps, False)
        others["optax scan, recorded"] = recorded
        contestants += [
            Contestant("optax scan, recorded", recorded, steps),
            Contestant("optax scan, unrecorded", unrecorded, steps),
        ]
    else:
        absent += [Absent("optax scan", NO_OPTAX)]
    if machine.has("torch"):
        from graftsim.bench import torch_side

        others["torch eager, recorded"] = torch_side.runner(rates, problem.spectrum, eager)
        contestants.append(Contestant("torch eager, recorded", others["torch eager, recorded"], eager))
    else:
        absent += [Absent("torch eager", NO_TORCH)]

    def check() -> dict[str, float]:
        for contestant in contestants:
            contestant()
        rows = min(ROWS, steps, eager)
        want = expected(rates, problem.spectrum, rows)
        found = ours()
        _same_bits(ours)
        _far_from_subnormal([found])
        result = {"graftsim, recorded": difference("graftsim, recorded", series(found)[:rows], want, BOUND)}
        for name, run in others.items():
            result[name] = difference(name, run()[:rows], want, BOUND)
        return result

    remarks = [f"torch runs {eager} steps a call, the others {steps}; steps are compared up to {ROWS}"]
    return Field(contestants, check, absent, remarks=remarks)


def several(case: Case, threads: int) -> Field:
    """The contestants of a case of kind ``ensemble``: members differ in Adam's learning rate."""
    from graftsim.ensemble import ensemble

    values, rates = case.values, Rates.of(case.values)
    problem, steps, members = _quadratic(values["dimension"]), values["steps"], values["members"]
    spread = [rates.adam * (1 + k / members) for k in range(members)]
    machines = [Rates(lr, rates.momentum).machine for lr in spread]

    def run() -> list[Trajectory]:
        return ensemble(problem, machines, steps, threads=threads, keep_every=steps)

    contestants = [Contestant("graftsim ensemble", run, steps * members)]
    others: dict[str, Callable[[], Array]] = {}
    absent = []
    if machine.has("optax"):
        from graftsim.bench import optax_side

        others["optax vmap of scan"] = optax_side.many(np.array(spread), rates.momentum, problem.spectrum, steps)
        contestants.append(Contestant("optax vmap of scan", others["optax vmap of scan"], steps * members))
    else:
        absent = [Absent("optax vmap of scan", NO_OPTAX)]

    def check() -> dict[str, float]:
        for contestant in contestants:
            contestant()
        rows, looked_at = min(ROWS, steps), sorted({0, members - 1})
        found = run()
        _far_from_subnormal(found)
        want = {k: expected(Rates(spread[k], rates.momentum), problem.spectrum, rows) for k in looked_at}
        ours = [difference("graftsim ensemble", series(found[k])[:rows], want[k], BOUND) for k in looked_at]
        result = {"graftsim ensemble": max(ours)}
        for name, work in others.items():
            got = work()
            result[name] = max(difference(name, got[k][:rows], want[k], BOUND) for k in looked_at)
        return result

    return Field(contestants, check, absent, unit="step of one member")


def series(found: Trajectory) -> NDArray[np.float64]:
    """Rows (loss before the step, n_m, n_d, ratio), shape (steps, 4)."""
    info = [found.info[name][:, 0] for name in ("n_m", "n_d", "ratio")]
    return np.stack([found.loss[:-1], *info], axis=1)


def expected(rates: Rates, h: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """The same rows by the equations in NumPy."""
    equations, loss = Equations(rates, np.ones_like(h)), []
    for _ in range(steps):
        w = equations.weights
        loss.append(0.5 * float((h * w * w).sum()))
        equations.graft(h * w)
    return np.column_stack([loss, np.array(equations.record)])


def _quadratic(dimension: int) -> Quadratic:
    found = problems.parse(f"quadratic(dimension={dimension})")
    assert isinstance(found, Quadratic)
    return found


def _same_bits(ours: Simulation) -> None:
    """The compiled run against the reference, over the first steps."""
    short = copy.copy(ours)
    short.steps = min(ROWS, ours.steps)
    if short.run("compiled").digest != short.run("numpy").digest:
        raise GraftsimError("bench: the compiled run must have the reference's bits; it has others: please report this")


def _far_from_subnormal(found: Sequence[Trajectory]) -> None:
    for each in found:
        for name, values in {"weights": each.weights, **each.state, **each.info}.items():
            sizes = np.abs(values[values != 0])
            if sizes.size and float(sizes.min()) < SMALLEST:
                raise GraftsimError(
                    f"bench: the values of a run must stay above {SMALLEST:g}; {name} comes to {sizes.min():.3g}: "
                    "give it fewer steps or smaller learning rates"
                )
