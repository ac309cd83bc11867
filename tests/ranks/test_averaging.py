"""Gradients are averaged exactly and rounded once: the cut of the batch over ranks moves no bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graftsim
from graftsim import GraftsimError, problems, sums
from graftsim.problems import averaged
from graftsim.ranks import averaging, running, simulated
from graftsim.simulate import simulate
from tests.ranks import bodies


def mean(examples, cuts=()):
    parts = np.split(examples, cuts)
    first, *others = simulated.run(len(parts), lambda world: averaging.mean(world, parts[world.rank]))
    for other in others:
        assert other.tobytes() == first.tobytes()
    return first


def nearest(exact: Fraction, dtype) -> bool:
    """The number of the dtype nearest to a rational, by comparing neighbours."""
    guess = dtype(float(exact))
    near = [guess, np.nextafter(guess, dtype(np.inf)), np.nextafter(guess, dtype(-np.inf))]
    errors = [abs(Fraction(float(one)) - exact) for one in near]
    ties = [one for one, error in zip(near, errors, strict=True) if error == min(errors)]
    even = [one for one in ties if not int(one.view(f"u{one.itemsize}")) & 1]
    return (even or ties)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_nearest_to_the_exact_mean_for_every_cut(dtype, data):
    width = 8 * np.dtype(dtype).itemsize
    limit = float(np.finfo(dtype).max) / 8
    number = st.floats(-limit, limit, width=32 if width == 32 else 64) if width == 64 else st.floats(
        -(2.0**120), 2.0**120, width=32
    )  # fmt: skip
    batch = data.draw(st.integers(1, 7))
    examples = np.array(data.draw(st.lists(number, min_size=batch, max_size=batch)), dtype).reshape(-1, 1)
    want = nearest(sum(map(Fraction, examples[:, 0].astype(float).tolist())) / batch, dtype)
    for cuts in ((), (1,), (0, batch), tuple(range(1, batch))):
        got = mean(examples, cuts)[0]
        assert got == want
        assert got.dtype == dtype


def test_a_float32_mean_is_not_rounded_twice():
    """1 + 2^-24 + 2^-60 lies just above the middle of two float32; through float64 it would become the even one."""
    rows = np.float32([[1], [2.0**-24], [2.0**-60]])
    assert mean(np.concatenate([rows, np.zeros((1, 1), np.float32)]) * np.float32(4))[0] == np.float32(1 + 2.0**-23)


def test_edges():
    inf, nan = np.inf, np.nan
    examples = np.array([[1e308, inf, inf, nan, -0.0, 5e-324, 1.0], [1e308, 1, -inf, 1, -0.0, 0, -1.0]])
    got = mean(examples, (1,))
    assert got[[0, 1]].tolist() == [1e308, inf]
    assert np.isnan(got[[2, 3]]).all()
    assert got[4:].tolist() == [0, 0, 0]
    assert not np.signbit(got[4:]).any()


def test_refused():
    with pytest.raises(GraftsimError, match="an example on some rank; there is none"):
        mean(np.zeros((0, 3)), (0,))
    with pytest.raises(GraftsimError, match=r"shape \(examples, coordinates\) .* received \(3,\) and float64"):
        simulated.run(2, lambda world: averaging.mean(world, np.zeros(3)))


def test_a_run_does_not_depend_on_the_number_of_ranks():
    """Logistic examples, one gradient each, in float32, where sums in another order would differ."""
    source = np.random.default_rng(1)
    x, y = source.standard_normal((24, 5)).astype(np.float32), source.standard_normal(24).astype(np.float32)

    def work(world, bounds):
        engine = graftsim.Engine(graftsim.build("adam(lr=0.1)#sgd", {"w": (5,)}, "float32"))
        weights, state = np.zeros(5, np.float32), engine.initial_state()
        mine = slice(bounds[world.rank], bounds[world.rank + 1])
        for step in range(1, 6):
            residuals = (x[mine] * weights).cumsum(axis=1)[:, -1] - y[mine]
            out = engine.step(weights, averaging.mean(world, residuals[:, None] * x[mine]), state, step)
            weights, state = out.weights, out.state
        return weights.tobytes()

    cuts = [[0, 24], [0, 5, 24], [0, 8, 16, 24], [0, 0, 1, 1, 7, 20, 23, 24]]
    found = {bits for bounds in cuts for bits in simulated.run(len(bounds) - 1, lambda w: work(w, bounds))}  # noqa: B023
    assert len(found) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_all_at_once_as_one_by_one(dtype, data):
    """The long division of all rows gives what Python's integers give, at any exponents."""
    bits = np.uint32 if dtype == np.float32 else np.uint64
    seed, batch = data.draw(st.integers(0, 2**32)), data.draw(st.sampled_from([1, 2, 3, 5, 7, 64, 100, 257]))
    source = np.random.default_rng(seed)
    examples = source.integers(0, np.iinfo(bits).max, (batch, 40), bits, endpoint=True).view(dtype)
    near = data.draw(st.integers(np.finfo(dtype).minexp - np.finfo(dtype).nmant, np.finfo(dtype).maxexp - 1))
    examples[:, 10:] = np.ldexp(source.integers(-(2**20), 2**20, (batch, 30)).astype(dtype), near - 20)
    examples[:, 30:] = examples[:1, 30:]  # sums that have an exact mean
    flat = np.ascontiguousarray(examples).reshape(-1)
    with np.errstate(all="ignore"):
        rows = sums.rows(flat, np.ones_like(flat), np.tile(np.arange(40), batch), 40)
        want = np.array([averaging._quotient(row, batch, np.dtype(dtype)) for row in rows], dtype)
        got = averaging.mean(None, examples)
    assert got.dtype == dtype
    same = (got.view(bits) == want.view(bits)) | (np.isnan(got) & np.isnan(want))
    assert same.all()


class TestAveraged:
    """A problem whose batches are shared out among ranks."""

    TEXT = "averaged(of='least_squares(samples=30, dimension=4, noise=0.1, batch=4, draw=0)', batches=5)"

    def test_an_expression_like_any_problem(self):
        problem = problems.parse('averaged(of="least_squares(samples=30, dimension=4, batch=4)", batches=5)')
        assert str(problem) == self.TEXT
        assert problems.parse(str(problem)) == problem
        of = problems.parse("least_squares(samples=30, dimension=4, batch=4)")
        weights = np.arange(4.0)
        assert problem.loss(weights) == of.loss(weights)
        assert problem.measures(weights) == of.measures(weights)
        assert problem.predictions() == {}

    def test_the_gradient_is_the_mean_of_the_next_batches(self):
        problem, weights = problems.parse(self.TEXT), np.float32([1, -2, 3, 0.1])
        parts = np.array([problem.of.gradients(weights, 10 + number, 7) for number in range(1, 6)])
        assert len({part.tobytes() for part in parts}) == 5
        want = [nearest(sum(map(Fraction, column.astype(float).tolist())) / 5, np.float32) for column in parts.T]
        assert problem.gradients(weights, 3, 7).tolist() == [float(value) for value in want]

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_the_trajectory_does_not_depend_on_the_number_of_ranks(self, dtype):
        """With seven ranks some have no part of the batch. Ranks compute their own parts and no other."""
        machine = "graft(adam, sgd, partition=block(3))"
        one = simulate(self.TEXT, machine, 6, dtype=dtype)
        asked = []

        class Watched(type(problems.parse(self.TEXT))):
            def parts(self, weights, step, seed, numbers):
                asked.append(numbers)
                return super().parts(weights, step, seed, numbers)

        found = problems.parse(self.TEXT)
        for ranks in (1, 2, 3, 7):
            asked.clear()
            watched = Watched(found.of, found.batches)
            many = simulated.run(
                ranks,
                lambda world, watched=watched: running.simulate(world, watched, machine, 6, dtype=dtype),
            )
            assert many[0].digest == one.digest
            first = [number for numbers in asked[:ranks] for number in numbers]
            assert first == list(range(5))
            assert len(asked) == 6 * ranks
        assert one.digest != simulate(str(found.of), machine, 6, dtype=dtype).digest

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("averaged(of=3)", "averaged, of: must be a problem as text"),
            ("averaged(of='quadratix')", "unknown problem 'quadratix'; did you mean 'quadratic'"),
            ("averaged(of='averaged')", "must be a problem that is not averaged itself; received averaged"),
            ("averaged(batches=0)", "averaged, batches: must be an integer from 1"),
        ],
    )
    def test_refused(self, text, said):
        with pytest.raises(GraftsimError, match=said):
            problems.parse(text)

    def test_a_tensor_without_gradient(self):
        problem = averaged.Averaged(bodies.Ragged(), 2)
        with pytest.raises(GraftsimError, match="averaged needs the gradient of every tensor at every step; ragged"):
            problem.gradients(np.zeros(18), 1, 0)
