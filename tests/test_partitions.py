"""Partitions: groups, names, refinement, and the errors of groups that overlap or leave a coordinate out."""

import numpy as np
import pytest

from graftsim import partitions
from graftsim.errors import GraftsimError
from graftsim.layouts import Layout

LAYOUT = Layout.of({"a.weight": (2, 3), "a.bias": (3,), "b.weight": (2, 2, 2), "s": (), "e": (0, 3)})


@pytest.mark.parametrize(
    ("text", "groups", "names"),
    [
        ("global", [[*range(18)]], ["all"]),
        ("tensor", [[*range(6)], [6, 7, 8], [*range(9, 17)], [17], []], [*LAYOUT.names]),
        (
            "row",
            [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16], [17]],
            ["a.weight[0,:]", "a.weight[1,:]", "a.bias", "b.weight[0,:,:]", "b.weight[1,:,:]", "s"],
        ),
        (
            "axis(1)",
            [[0, 3], [1, 4], [2, 5], [6, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16], [17], [], [], []],
            None,
        ),
        ("axis(-1)", [[0, 3], [1, 4], [2, 5], [6, 7, 8], [9, 11, 13, 15], [10, 12, 14, 16], [17], [], [], []], None),
        (
            "block(4)",
            [[0, 1, 2, 3], [4, 5], [6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16], [17]],
            ["a.weight[0:4]", "a.weight[4:6]", "a.bias[0:3]", "b.weight[0:4]", "b.weight[4:8]", "s[0:1]"],
        ),
        (
            "pattern(biases='*.bias', weights=['a.w*', 'b.w*'], rest=None)",
            [[6, 7, 8], [*range(6), *range(9, 17)], [17]],
            ["biases", "weights", "rest"],
        ),
        ("sets(first={'a.bias': [2, 0], 's': [0]}, rest=None)", [[6, 8, 17], [*range(6), 7, *range(9, 17)]], None),
    ],
)
def test_groups(text: str, groups: list[list[int]], names: list[str] | None) -> None:
    partition = partitions.build(text, LAYOUT)
    assert [np.flatnonzero(partition.group_of == g).tolist() for g in range(partition.count)] == groups
    assert names is None or list(partition.names) == names


def test_coordinate_partition() -> None:
    partition = partitions.build("coordinate", LAYOUT)
    assert partition.single
    assert partition.names[4] == "a.weight[1,1]"
    assert partition.names[17] == "s"


@pytest.mark.parametrize("text", ["global", "tensor", "row", "block(4)", "coordinate"])
def test_missing_tensors_touch_no_group(text: str) -> None:
    partition = partitions.build(text, LAYOUT)
    present = np.array([True, False, False, True, False])
    touched = partition.touched(present)
    for group in range(partition.count):
        members = partition.group_of == group
        tensors = np.repeat(np.arange(5), LAYOUT.sizes)[members]
        if tensors.size:
            assert touched[group] == present[tensors].any()


@pytest.mark.parametrize("first", ["global", "tensor", "row", "axis(1)", "block(4)", "coordinate"])
@pytest.mark.parametrize("second", ["global", "tensor", "sets(x={'a.weight': [0, 5], 's': [0]}, rest=None)"])
def test_meet_is_the_common_refinement(first: str, second: str) -> None:
    if first == "axis(1)":
        first = "axis(-1)"
    a, b = partitions.build(first, LAYOUT), partitions.build(second, LAYOUT)
    met = partitions.meet(a, b)
    same = lambda p: p.group_of[:, None] == p.group_of[None, :]  # noqa: E731
    assert (same(met) == (same(a) & same(b))).all()
    for coarse in (a, b):
        assert (partitions.coarsening(met, coarse)[met.group_of] == coarse.group_of).all()


REFUSED = {
    "overlap": (
        "sets(x={'a.bias': [0, 1]}, y={'a.bias': [1, 2]}, rest=None)",
        "coordinate a.bias[1] is in x and in y",
    ),
    "a gap": ("sets(x={'a.bias': [0]})", "a.weight[0,0] is in none of x"),
    "patterns that overlap": ("pattern(x='a.*', y='*.bias', rest=None)", "coordinate a.bias[0] is in x and in y"),
    "patterns with a gap": ("pattern(x='a.*')", "b.weight[0,0,0] is in none of x"),
    "two rests": ("pattern(x=None, y=None)", "only one group may be None; received x and y"),
    "an unknown tensor": ("sets(x={'a.wieght': [0]}, rest=None)", "did you mean 'a.weight'?"),
    "an index out of range": ("sets(x={'s': [1]}, rest=None)", "index 1 of tensor 's', whose indices are 0 to 0"),
    "an axis that is not there": ("axis(2)", "tensor 'a.weight' of shape (2, 3) has no axis 2"),
    "a block of none": ("block(0)", "block must be written as block(n) with an integer n >= 1"),
    "a block of halves": ("block(0.5)", "block must be written as"),
    "an unknown name": ("layer", "unknown partition 'layer'"),
    "code": ("__import__('os')", "unknown partition"),
    "a set of words": ("sets(x={'s': ['0']}, rest=None)", "must be {'tensor': [index, ...]} or None"),
    "a pattern of numbers": ("pattern(x=1)", "must be a glob, a list of globs, or None"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(GraftsimError) as caught:
        partitions.build(text, LAYOUT)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
