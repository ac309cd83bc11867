"""The parts that ranks are made of: cuts, carried sums, agreement, lockstep, launchers."""

import dataclasses
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graftsim
from graftsim import GraftsimError, Layout, partitions, sums
from graftsim.program import Kind, Node, Rank, Statement
from graftsim.ranks import agreement, cuts, launcher, running, simulated
from graftsim.ranks.communicator import carried, exchange
from graftsim.ranks.sharding import Sharding
from tests.ranks import bodies

shapes = st.lists(st.lists(st.integers(0, 4), max_size=2), max_size=6)


class TestCuts:
    @given(shapes, st.integers(1, 9))
    def test_balanced(self, shapes, ranks):
        layout = Layout.of({f"t{i}": shape for i, shape in enumerate(shapes)})
        sizes = np.diff(cuts.balanced(layout, ranks).bounds)
        assert sizes.sum() == layout.size
        assert sizes.max() - sizes.min() <= 1

    @given(shapes, st.integers(1, 9))
    def test_whole_tensors_lie_on_one_rank_each_and_near_the_balance(self, shapes, ranks):
        layout = Layout.of({f"t{i}": shape for i, shape in enumerate(shapes)})
        cut = cuts.whole_tensors(layout, ranks)
        assert cut.tensors[0] == 0
        assert cut.tensors[-1] == len(shapes)
        assert list(cut.tensors) == sorted(cut.tensors)
        assert cut.bounds == tuple(layout.offsets[tensor] for tensor in cut.tensors)
        for rank, bound in enumerate(cut.bounds):
            goal = Fraction(layout.size * rank, ranks)
            assert abs(bound - goal) == min(abs(offset - goal) for offset in layout.offsets)

    @pytest.mark.parametrize("bounds", [[0, 3], [1, 18], [0, 9, 8, 18], [18], [0, -1, 18]])
    def test_refused(self, bounds):
        with pytest.raises(GraftsimError, match="must rise from 0 to 18; received"):
            cuts.at(bodies.Ragged().layout, bounds)

    def test_for_another_number_of_ranks(self):
        work = lambda world: running.simulate(world, bodies.Ragged(), "sgd", 1, bounds=[0, 18])  # noqa: E731
        with pytest.raises(GraftsimError, match="one shard for each of 2 ranks; received 1"):
            simulated.run(2, work)


def test_a_group_that_looks_single_on_its_shard_is_still_added():
    """Groups 0, 1, 1, 0 cut after two coordinates: the first shard has one coordinate of each of its groups."""
    program = graftsim.build("graft(sgd, adam, partition=sets(a={'w': [0, 3]}, b={'w': [1, 2]}))", {"w": (4,)})
    shard = Sharding(program, cuts.balanced(program.layout, 2)).of_rank(0)
    assert not any(each.partition.single for each in shard.reductions)


def test_groups_that_live_with_their_coordinates_take_no_memory_elsewhere():
    program = graftsim.build("graft(adam, sgd, partition=coordinate)", {"w": (1000,)})
    shard = Sharding(program, cuts.balanced(program.layout, 10)).of_rank(3)
    assert max(each.partition.count for each in shard.reductions) == 100
    assert shard.reductions[0].partition.names[0] == "w[300]"


class TestLifts:
    """From partitions whose groups are coordinates; no machine of the library has such a lift, a user's may."""

    LAYOUT = {"a": (1,), "w": (5, 1), "e": (0,)}  # noqa: RUF012

    def program(self, coarse, fine, shapes):
        program = graftsim.build(f"graft(adam, sgd, partition={coarse})", shapes)
        one, other = (partitions.build(text, program.layout) for text in (coarse, fine))
        index = partitions.coarsening(other, one)
        read = Node("read", (), Kind(Rank.GROUP, one), "x")
        lift = Node("lift", (read,), Kind(Rank.GROUP, other), index)
        return dataclasses.replace(program, statements=(*program.statements, Statement("y", lift, 1, "")))

    def test_to_another_such_partition_counts_from_the_shard(self):
        program = self.program("row", "block(1)", self.LAYOUT | {"e": ()})
        whole = Sharding(program, cuts.balanced(program.layout, 3))
        for rank in range(3):
            index = whole.of_rank(rank).statements[-1].node.data
            assert index.tolist() == list(range(np.diff(whole.cut.bounds)[rank]))

    def test_to_groups_that_every_rank_has_needs_all_values(self):
        program = self.program("block(1)", "tensor", {"a": (), "b": (), "e": (0,)})
        assert partitions.build("block(1)", program.layout).single
        assert Sharding(program, cuts.balanced(program.layout, 2)).local == frozenset()


class TestSums:
    @given(
        st.lists(st.lists(st.integers(-(2**62), 2**62), min_size=4, max_size=4), min_size=1, max_size=3),
        st.integers(1, 40),
    )
    def test_full_limbs_add_without_overflow(self, limbs, ranks):
        """A row's limbs may be almost full on every rank; the value of the sum is that of the integers."""
        rows = np.array([[*each, 0, 0, 0, 1, 2, 3] for each in limbs], np.int64)
        want = [ranks * sum(n << 32 * i for i, n in enumerate(each)) for each in limbs]
        for found in simulated.run(ranks, lambda world: exchange(world)([rows])[0]):
            assert [sum(int(n) << 32 * i for i, n in enumerate(row[:7])) for row in found] == want
            assert (found[:, 7:] == ranks * np.array([1, 2, 3])).all()

    def test_limbs_are_small_when_they_leave_a_rank(self):
        x = np.array([-3e38, 1e-40, 7.5], np.float32)
        rows = carried(sums.rows(x, x[::-1], np.zeros(3, np.int64), 1))
        assert ((rows[0, :19] >= 0) & (rows[0, :19] < 2**32)).all()
        assert rows[0, 19] in (-1, 0)

    def test_several_sums_travel_as_one(self):
        first, second = np.arange(8).reshape(2, 4), np.arange(4).reshape(1, 4)
        for a, b in simulated.run(3, lambda world: exchange(world)([first, second])):
            assert (a == 3 * first).all()
            assert (b == 3 * second).all()


class TestAgreement:
    def test_what_one_rank_alone_finds_wrong_all_learn(self):
        heard = []

        def work(world):
            def look():
                if world.rank == 2:
                    raise GraftsimError("no such file")

            try:
                agreement.together(world, look)
            except agreement.AgreedError as error:
                heard.append(str(error))

        simulated.run(4, work)
        assert heard == ["rank 2 of 4: no such file"] * 4

    def test_what_all_find_wrong_is_said_once_and_plainly(self):
        def look():
            raise GraftsimError("no such file")

        with pytest.raises(agreement.AgreedError) as caught:
            simulated.run(3, lambda world: agreement.together(world, look))
        assert str(caught.value) == "no such file"

    @pytest.mark.parametrize(
        ("other", "what"),
        [
            ({"steps": 4}, "run"),
            ({"seed": 1}, "run"),
            ({"machine": "adam(lr=0.01)#sgd(lr=0.5)"}, "machine"),
            ({"machine": "graft(adam, sgd, partition=row)"}, "machine"),
            ({"dtype": "float32"}, "dtype"),
            ({"problem": bodies.Ragged(missing=False)}, "problem"),
        ],
    )
    def test_a_rank_with_another_run_is_named(self, other, what):
        same = {"problem": bodies.Ragged(), "machine": "adam#sgd", "steps": 3}
        work = lambda world: running.simulate(world, **(same | (other if world.rank == 1 else {})))  # noqa: E731
        with pytest.raises(GraftsimError, match=f"the same {what}; rank 1 of 3 has another than rank 0"):
            simulated.run(3, work)

    def test_a_machine_file_with_another_equation_is_named(self, monkeypatch):
        """One name, two definitions: expressions agree and programs do not."""
        write = agreement.text
        ranks = iter(range(3))
        monkeypatch.setattr(agreement, "text", lambda program: write(program) + "!" * (next(ranks) == 2))
        with pytest.raises(GraftsimError, match="the same program; rank 2 of 3 has another"):
            simulated.run(3, lambda world: running.simulate(world, bodies.Ragged(), "adam", 1))

    def test_the_text_of_a_program_shows_tables_groups_and_equations(self):
        def text(machine):
            return agreement.text(graftsim.build(machine, {"w": (4,)}))

        assert text("adam#sgd") == text("adam#sgd")
        pairs = [
            ("rank_one(v=[1, 2, 3, 4])", "rank_one(v=[1, 2, 3, 5])"),
            ("adam(eps_placement=hat)", "adam"),
            ("graft(adam, sgd, partition=block(2))", "graft(adam, sgd, partition=block(3))"),
        ]
        for one, other in pairs:
            assert text(one).split("\n")[1:] != text(other).split("\n")[1:]


class TestLockstep:
    def test_a_failure_ends_all_and_is_the_one_raised(self):
        def work(world):
            world.gather(np.zeros(1), [1] * 5)
            if world.rank == 3:
                raise OSError("no disk")
            world.gather(np.zeros(1), [1] * 5)
            raise AssertionError("nobody may come here")

        with pytest.raises(OSError, match="no disk") as caught:
            simulated.run(5, work)
        assert caught.value.__notes__ == ["raised on rank 3 of 5"]

    @pytest.mark.parametrize("odd", [0, 1, 2])
    def test_a_rank_that_leaves_early_does_not_hang(self, odd):
        def work(world):
            if world.rank != odd:
                world.gather(np.zeros(1), [1] * 3)

        with pytest.raises(RuntimeError, match="ranks must make the same calls"):
            simulated.run(3, work)

    def test_ranks_that_say_different_things(self):
        with pytest.raises(RuntimeError, match=r"rank 0 adds int64 of shape \(1,\), rank 2 adds int64 of shape \(2,\)"):
            simulated.run(3, lambda world: world.add(np.zeros(1 + (world.rank == 2), np.int64)))


class TestLauncher:
    def test_what_started_this_process(self):
        assert launcher.started({}) is None
        assert launcher.started({"PMI_SIZE": "3"}) == ("mpiexec of MPICH or Intel MPI", 3)
        assert launcher.started({"OMPI_COMM_WORLD_SIZE": "4"}) == ("mpiexec of Open MPI", 4)
        assert launcher.started({"SLURM_NTASKS": "4"}) is None  # a batch script that starts no ranks

    def test_a_launcher_of_another_mpi(self):
        launcher.check("srun", 4, 4, "MPICH")
        with pytest.raises(GraftsimError, match="the 4 processes that srun started; it sees 1"):
            launcher.check("srun", 4, 1, "MPICH")

    def test_without_mpi4py(self, monkeypatch):
        monkeypatch.setenv("PMI_SIZE", "2")
        monkeypatch.setitem(sys.modules, "mpi4py", None)
        monkeypatch.delitem(sys.modules, "graftsim.ranks.mpi", raising=False)
        with pytest.raises(GraftsimError, match=r"need mpi4py, .* pip install 'graftsim\[mpi\]'"):
            launcher.session().__enter__()
