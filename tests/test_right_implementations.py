"""No false alarm: right implementations in other orders of operations pass every case, edges included."""

import fnmatch
import functools

import numpy as np
import pytest

from graftsim import notation
from graftsim_conformance import golden, posing
from graftsim_conformance.cases import in_dtype
from graftsim_conformance.edge_machines import CHOSEN, PARTITIONS
from graftsim_conformance.judge import Mode, judge
from graftsim_conformance.python_candidate import PythonCandidate
from graftsim_conformance.verdicts import Verdict
from tests import right_implementations as right

SHORT = {"momentum": "momentum(first_step=copy)"}
PAIRS = [
    *("adam-sgd", "momentum-adagrad", "sgd-momentum", "lion-sgd", "sgd-adam", "momentum-lion"),
    *("rmsprop-adam", "adam-lion", "lion-rmsprop", "adagrad-momentum", "sgd-sgd", "adagrad-adagrad"),
]
DTYPES = ("float64", "float32")


def children(pair):
    return [SHORT.get(name, name) for name in pair.split("-")]


def cases(pattern, dtype):
    """The golden cases of a pattern; in float32 also those of float64, but for late ones, whose state is float64."""
    found = [golden.stored(name) for name in posing.names() if fnmatch.fnmatchcase(name, pattern)]
    with np.errstate(over="ignore"):  # a large number may be an infinity in float32, which is an edge as good as any
        return [
            in_dtype(case, dtype) for case in found if case.dtype == dtype or (dtype == "float32" and not case.taken)
        ]


def wrong(optimizer, posed, modes=(Mode.FOLLOW,)):
    """Cases that do not pass, with why; each is of one machine."""
    found = {}
    for case in posed:
        make = functools.partial(PythonCandidate, optimizer, case.machine)
        for result in judge(make, notation.parse(case.machine), [case], modes=modes):
            if not result.passed:
                found[result.case, result.mode] = result
    return found


def lines(found):
    return [f"{case} {mode}: {result.verdict}: {result.reason}" for (case, mode), result in found.items()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pair", PAIRS)
def test_numpy(pair, dtype):
    posed = cases(f"pair-{pair}.*", dtype)
    assert len(posed) > 1, "the pair has cases"
    modes = (Mode.FOLLOW, Mode.RESTORE) if dtype == "float64" else (Mode.FOLLOW,)
    assert lines(wrong(right.graft(*children(pair)), posed, modes)) == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["global", "coordinate", "row", "last_axis", "block"])
def test_numpy_over_other_partitions(name, dtype):
    posed = cases(f"partition-{name}-momentum-adagrad.*", dtype)
    assert posed, "the partition has cases"
    optimizer = right.graft("momentum(first_step=copy)", "adagrad", PARTITIONS[name])
    assert lines(wrong(optimizer, posed, (Mode.FOLLOW, Mode.RESTORE))) == []


def alone(child):
    return right.Right(right.Each(right.CHILDREN[child]))


def of_machine(expression, dtype):
    return [case for name in golden.names_of(notation.parse(expression)) for case in cases(name, dtype)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(CHOSEN.keys() - {"lamb"}))
def test_numpy_without_a_graft(name, dtype):
    posed = of_machine(CHOSEN[name], dtype)
    assert len(posed) > 10, "the machine has its streams and edges"
    assert lines(wrong(alone(SHORT.get(name, name)), posed)) == []


# -- a norm whose squares leave the range is right but for the rule about ranges ---------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpys_own_norm_fails_where_squares_leave_the_range_and_nowhere_else(dtype):
    posed = [case for pair in ("adam-sgd", "sgd-momentum") for case in cases(f"pair-{pair}.*", dtype)]
    for pair in ("adam-sgd", "sgd-momentum"):
        optimizer = right.graft(*children(pair), norm=right.numpys_norm)
        found = wrong(optimizer, [case for case in posed if case.name.startswith(f"pair-{pair}.")])
        assert found, "numpy.linalg.norm squares in the dtype of the array"
        about = {case.name: set(case.rules) for case in posed}
        assert {name for name, _ in found if not about[name] & {"GS-graft-range", "GS-sum-range"}} == set()


# -- other libraries ---------------------------------------------------------------------------------------------------


def settled(found):
    return [line for line in lines(found) if f"{Verdict.NOT_SUPPORTED}: it does not declare missing" not in line]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [right.Torch, right.Jax])
def test_other_libraries(make, dtype):
    posed = cases("pair-adam-sgd.*", dtype)
    assert len(posed) > 1
    assert settled(wrong(make(), posed)) == []
