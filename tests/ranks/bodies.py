"""What every kind of ranks must do: cases with one answer, run by threads in one test and by mpiexec in another.

As a program: ``python -m tests.ranks.bodies cases.json`` on each rank; rank 0 writes the digests.
"""

import json
import sys
from dataclasses import dataclass

import numpy as np

from graftsim.documents import write_atomically
from graftsim.layouts import Layout
from graftsim.ranks import running
from graftsim.simulate import simulate

ONE_LEVEL = [
    "adam(lr=0.1)",
    "adam#sgd",
    *(
        f"graft(momentum, adam, partition={partition})"
        for partition in ("global", "coordinate", "row", "axis(-1)", "pool(0)", "block(3)", "block(1)")
    ),
    "graft(adam, sgd, partition=pattern(some='[wb]', rest=None))",
    "graft(adam, sgd, partition=sets(a={'w': [0, 11], 'v': [2]}, rest=None))",
    "graft(rmsprop, momentum, partition=tensor, eps=0.01, scale=1/step)",
    "novograd(lr=0.1, partition=coordinate)",  # state of groups that live with their coordinates
    "scaled(sgd, factor={'w': 0.5, 'b': 2, 'e': 1, 'v': 3}, partition=tensor)",
]
TWO_LEVELS = [
    "(adam#sgd)#(rmsprop#adagrad)",
    "graft(graft(adam, sgd, partition=row), momentum, partition=global)",
    "graft(graft(adam, sgd, partition=coordinate), graft(sgd, adagrad, partition=block(4)), partition=row)",
    "momentum_after(sgd#adagrad(eps=0), nesterov=on)",
]
MACHINES = ONE_LEVEL + TWO_LEVELS
COMPILED = [
    "adam#sgd",
    "graft(momentum, adam, partition=coordinate)",
    "graft(adam, sgd, partition=sets(a={'w': [0, 11], 'v': [2]}, rest=None))",
    "novograd(lr=0.1, partition=coordinate)",
    "(adam#sgd)#graft(momentum, rmsprop, partition=sets(a={'w': [0, 11], 'v': [2]}, rest=None))",
    "graft(graft(adam, sgd, partition=coordinate), graft(sgd, adagrad, partition=block(4)), partition=row)",
]
"""By the compiled engine: sums in long runs and not, both in one level, and groups that are coordinates."""


@dataclass(frozen=True)
class Ragged:
    """Tensors of rank 0 to 2, one of them empty; a step may leave one out. All is done coordinate by coordinate."""

    missing: bool = True

    def __str__(self) -> str:
        return f"ragged(missing={self.missing})"

    @property
    def layout(self) -> Layout:
        return Layout.of({"w": (3, 4), "b": (), "e": (0, 2), "v": (5,)})

    def start(self, seed, dtype):
        return np.linspace(-2, 3, self.layout.size).astype(dtype)

    def gradients(self, weights, step, seed):
        scale = 2.0 ** np.arange(weights.size).astype(weights.dtype)
        parts = self.layout.unflatten((weights * scale - weights.dtype.type(step)) / weights.dtype.type(7))
        if self.missing and step in (2, 3):
            parts[(step + seed) % 4] = None
        return parts

    def loss(self, weights):
        return float(weights[0])

    def measures(self, weights):
        return {}

    def predictions(self):
        return {}


STEPS = 5


def alone(machine: str, dtype: str):
    """The answer: one process, the reference engine."""
    return simulate(Ragged(), machine, STEPS, dtype=dtype, record_every=2, keep_every=4)


def over(communicator, machine: str, dtype: str, bounds=None, engine: str = "numpy"):
    """The same over ranks; the trajectory on rank 0, None elsewhere."""
    every = {"record_every": 2, "keep_every": 4}
    return running.simulate(communicator, Ragged(), machine, STEPS, dtype=dtype, **every, bounds=bounds, engine=engine)


def main(out: str) -> None:
    from pathlib import Path

    from graftsim.ranks.mpi import World

    world = World()
    found = {}
    for dtype in ("float32", "float64"):
        for machine in MACHINES:
            done = over(world, machine, dtype)
            found[f"{machine} {dtype}"] = done.digest if done else ""
    for machine in COMPILED:
        done = over(world, machine, "float64", engine="compiled")
        found[f"{machine} compiled"] = done.digest if done else ""
    if world.rank == 0:
        write_atomically(Path(out), lambda file: file.write(json.dumps(found).encode()))


if __name__ == "__main__":
    main(sys.argv[1])
