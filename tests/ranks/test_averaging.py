"""Gradients are averaged exactly and rounded once: the cut of the batch over ranks moves no bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graftsim
from graftsim import GraftsimError
from graftsim.ranks import averaging, simulated


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
