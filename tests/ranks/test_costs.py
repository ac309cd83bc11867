"""The cost model: its bytes are those that pass, and it finds back a network that it made."""

import numpy as np
import pytest

import graftsim
from graftsim import GraftsimError
from graftsim.ranks import costs, simulated
from graftsim.ranks.communicator import Counted
from graftsim.ranks.engine import RankEngine
from graftsim.record import Moment
from tests.ranks import bodies


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("machine", bodies.MACHINES)
def test_bytes_are_those_that_pass(machine, dtype):
    layout = bodies.Ragged().layout
    program = graftsim.build(machine, layout, dtype)
    first = Moment(0, np.ones(layout.size, dtype), graftsim.Engine(program).initial_state(), {})

    def work(world):
        counted = Counted(world)
        engine = RankEngine(program, counted)
        engine.weights(engine.step(engine.shard(first), np.ones(layout.size, dtype)))
        return counted

    found = simulated.run(3, work)
    for counted in found:
        assert counted.additions == costs.added_bytes(program)
        assert len(counted.additions) <= program.depth
    assert sum(sum(counted.gathered) for counted in found) == layout.size * program.dtype.itemsize


def test_sizes_of_rows():
    assert [costs.row_bytes(dtype) for dtype in ("float32", "float64")] == [184, 1096]


@pytest.mark.parametrize("ranks", [2, 5, 8])
def test_a_fit_finds_back_its_network(ranks):
    network, sizes = costs.Network(3e-6, 2e-10), [184, 18400, 10**6, 10**8]
    found = costs.fit(ranks, sizes, [costs.addition(network, ranks, size) for size in sizes])
    assert found.latency == pytest.approx(3e-6, rel=1e-9)  # lstsq of 4 by 2, condition below 1e6 after scaling
    assert found.per_byte == pytest.approx(2e-10, rel=1e-9)


def test_one_rank_sends_nothing():
    network = costs.Network(1.0, 1.0)
    assert costs.addition(network, 1, 10) == costs.gathering(network, 1, 10) == 0
    with pytest.raises(GraftsimError, match="at least 2 ranks"):
        costs.fit(1, [1], [1.0])
