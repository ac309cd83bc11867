"""Any number of ranks gives the bits of one: every machine, partition, dtype and cut."""

import numpy as np
import pytest

import graftsim
from graftsim import GraftsimError, trajectory
from graftsim.ranks import running, simulated
from graftsim.ranks.communicator import Counted
from graftsim.ranks.engine import RankEngine
from graftsim.record import Moment
from graftsim.simulate import simulate
from tests import every_machine
from tests.ranks import bodies

SIZE = bodies.Ragged().layout.size
RAGGED = [[0, SIZE], [0, 0, SIZE], [0, SIZE, SIZE], [0, 1, 1, 13, SIZE], [0, 5, 6, 6, 7, 12, 12, SIZE]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("machine", bodies.MACHINES)
def test_balanced_shards(machine, dtype):
    whole = bodies.alone(machine, dtype)
    assert len(np.unique(whole.weights, axis=0)) == len(whole.kept)  # it moves
    for ranks in (1, 2, 3, 7):
        found, *others = simulated.run(ranks, lambda world: bodies.over(world, machine, dtype))
        assert found.digest == whole.digest
        assert others == [None] * (ranks - 1)


@pytest.mark.parametrize("machine", bodies.MACHINES)
def test_ragged_and_empty_shards(machine):
    """Cut at no tensor's end, inside a group, all on the first or the last rank."""
    whole = bodies.alone(machine, "float32")
    for bounds in RAGGED:
        found = simulated.run(len(bounds) - 1, lambda world: bodies.over(world, machine, "float32", bounds))  # noqa: B023
        assert found[0].digest == whole.digest, bounds


@pytest.mark.parametrize("machine", bodies.COMPILED)
def test_the_compiled_engine(machine):
    """The same cuts; then with the reference on every other rank, whose part of a sum is the same number."""
    whole = bodies.alone(machine, "float32")
    for bounds in RAGGED:
        for engines in (("compiled",), ("numpy", "compiled")):
            found = simulated.run(
                len(bounds) - 1,
                lambda world: bodies.over(world, machine, "float32", bounds, engines[world.rank % len(engines)]),  # noqa: B023
            )
            assert found[0].digest == whole.digest, (bounds, engines)


def test_a_thousand_ranks_for_eighteen_coordinates():
    arguments = (bodies.Ragged(False), "graft(momentum, sgd, partition=row)", 1, 0, "float32")
    found = simulated.run(1000, lambda world: running.simulate(world, *arguments))
    assert found[0].digest == simulate(*arguments).digest


@pytest.mark.parametrize("machine", every_machine.expressions() + every_machine.GRAFTS)
def test_every_machine(machine):
    """One vector cut in three: tables, info of every kind, state of groups and coordinates, and slots of matrices."""
    program = graftsim.build(machine, every_machine.LAYOUT, "float32")
    agrees(program)
    if not machine.startswith(every_machine.MATRICES):
        agrees(program, "compiled")


ROWS_AND_COLUMNS = [
    text for text in every_machine.expressions() + every_machine.GRAFTS if "row" in text or "fac" in text
]


@pytest.mark.parametrize("shapes", [{"w": (7, 1)}, {"w": (1, 7)}, {"w": (1, 7, 1)}, {"a": (1,), "w": (6, 1)}])
@pytest.mark.parametrize("machine", ROWS_AND_COLUMNS)
def test_partitions_whose_groups_are_coordinates_by_chance(machine, shapes):
    """Values of such groups live with their coordinates, and are lifted to each other and to groups of all ranks."""
    agrees(graftsim.build(machine, shapes, "float32"))


def agrees(program, engine="numpy"):
    """Three ranks have the weights, state and info of one after three steps."""
    gradients = [np.float32([1, -2, 0.5, 3, 0, 0.25, -1]) * np.float32(k) for k in (1, 0.5, -3)]
    reference, weights = graftsim.Engine(program), np.linspace(-1, 2, 7).astype(np.float32)
    first = Moment(0, weights, reference.initial_state(), {})
    want = first
    for step, gradient in enumerate(gradients, 1):
        want = want.after(reference.step(want.weights, gradient, want.state, step))

    def work(world):
        one = RankEngine(program, world, engine=engine)
        moment = one.shard(first)
        for gradient in gradients:
            moment = one.step(moment, gradient)
        return one.gathered(moment, one.weights(moment), state=True)

    for got in simulated.run(3, work):
        same(got.weights, want.weights)
        assert got.state.keys() == want.state.keys()
        assert got.info.keys() == want.info.keys()
        for path, value in want.state.items():
            same(got.state[path], value)
        for path, value in want.info.items():
            same(got.info[path], np.broadcast_to(value, got.info[path].shape))


def same(got, want):
    """Bit by bit, signs of zero included."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert np.array_equal(got, want, equal_nan=True)
    zeros = want == 0
    assert (np.signbit(got[zeros]) == np.signbit(want[zeros])).all()


MATRICES = {"a": (2, 3), "b": (3,), "e": (0, 3), "c": (), "d": (4, 2)}


@pytest.mark.parametrize("machine", ["shampoo(eps=0.01)", "full_adagrad(lr=0.1)#sgd"])
@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_matrices_keep_whole_tensors(machine, ranks):
    """On this machine with the bits of one rank."""
    program = graftsim.build(machine, MATRICES)
    size = program.layout.size
    gradients = [np.cos(np.arange(size) * 1.5 + k) for k in range(3)]
    engine = graftsim.Engine(program)
    want = first = Moment(0, np.linspace(-1, 2, size), engine.initial_state(), {})
    for step, gradient in enumerate(gradients, 1):
        want = want.after(engine.step(want.weights, gradient, want.state, step))

    def work(world):
        one = RankEngine(program, world)
        moment = one.shard(first)
        for gradient in gradients:
            moment = one.step(moment, gradient)
        return one.program.layout.sizes, one.gathered(moment, one.weights(moment), state=True)

    found = simulated.run(ranks, work)
    for sizes in zip(*(layout for layout, _ in found), strict=True):
        assert sum(size > 0 for size in sizes) <= 1
    for _, got in found:
        same(got.weights, want.weights)
        for path, value in want.state.items():
            same(got.state[path], value)


def test_matrices_are_run_by_the_reference():
    arguments = (bodies.Ragged(), "full_adagrad(lr=0.1)", 2)
    with pytest.warns(UserWarning, match=r"run by the reference engine, since machines with matrices") as warned:
        found, _ = simulated.run(2, lambda world: running.simulate(world, *arguments, engine="compiled"))
    assert found.digest == simulate(*arguments).digest
    assert len(warned) == 1


def test_a_cut_through_a_tensor_of_matrices_is_refused():
    def work(world):
        running.simulate(world, bodies.Ragged(), "full_adagrad(lr=0.1)", 1, bounds=[0, 3, SIZE])

    with pytest.raises(GraftsimError, match=r"has matrices, so each tensor must be whole .*GS-matrix-place"):
        simulated.run(2, work)


@pytest.mark.parametrize(("machine", "levels"), [("adam", 0), ("adam#sgd", 1), ("(adam#sgd)#(rmsprop#adagrad)", 2)])
@pytest.mark.parametrize("copies", [1, 30])
@pytest.mark.parametrize(("dtype", "width"), [("float32", 23), ("float64", 137)])
@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_one_addition_a_level_whatever_the_number_of_tensors(machine, levels, copies, dtype, width, engine):
    program = graftsim.build(machine, {f"t{i}": (2,) for i in range(copies)}, dtype)
    first = Moment(0, np.ones(2 * copies, dtype), graftsim.Engine(program).initial_state(), {})

    def work(world):
        counted = Counted(world)
        one = RankEngine(program, counted, engine=engine)
        one.step(one.shard(first), np.ones(2 * copies, dtype))
        return counted

    for counted in simulated.run(3, work):
        sums = [sum(r.partition.count for r in reductions) for _, reductions in program.by_level if reductions]
        assert counted.additions == [8 * width * count for count in sums]
        assert len(counted.additions) == levels
        assert counted.gathered == []


@pytest.mark.parametrize("made_by", [1, 4])
def test_a_checkpoint_of_four_ranks_goes_on_with_three_or_one(made_by, tmp_path):
    machine = "graft(graft(adam, sgd, partition=coordinate), momentum, partition=row)"
    whole = simulate(bodies.Ragged(), machine, 9, record_every=2)
    part, *_ = simulated.run(
        made_by, lambda world: running.simulate(world, bodies.Ragged(), machine, 5, record_every=2)
    )
    part.save(tmp_path / "part.npz")
    for ranks in (1, 3):
        for at in (None, 2):
            again, *_ = simulated.run(
                ranks,
                lambda world: running.resume(world, trajectory.load(tmp_path / "part.npz"), bodies.Ragged(), 9, at),  # noqa: B023
            )
            assert again.digest == whole.digest


def test_runs_of_no_steps_and_of_compact_records():
    for steps, every, keep in ((0, 1, 1), (7, 3, 6), (6, 3, 6)):
        arguments = (bodies.Ragged(), "adam#sgd", steps)
        whole = simulate(*arguments, record_every=every, keep_every=keep)
        found, _ = simulated.run(
            2,
            lambda world: running.simulate(world, *arguments, record_every=every, keep_every=keep),  # noqa: B023
        )
        assert found.digest == whole.digest
