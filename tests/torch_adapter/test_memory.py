"""A step takes one temporary of the size of the parameters at most, two for coordinates and where weights are read."""

from functools import partial

import pytest
import torch
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

from graftsim.bench.torch_memory import peak
from graftsim_torch import Graft, chunks, declare, norms, steps
from tests.torch_adapter.test_contract import Quiet

SIZE, PIECE = 80_000, 1 << 10
CHILDREN = {
    "adam#sgd": (Adam, SGD),
    "adam#momentum": (Adam, partial(SGD, momentum=0.9)),
    "sgd#adam": (SGD, partial(Adam, amsgrad=True)),
    "adamw#adagrad": (partial(AdamW, weight_decay=0.1), Adagrad),
    "rmsprop#rmsprop": (RMSprop, partial(RMSprop, centered=True)),
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    for module in (chunks, norms, steps):
        monkeypatch.setattr(module, "PIECE", PIECE)


def words(children, partition, tensors):
    """Of a second step, in words of float32 for each parameter."""
    params = [torch.nn.Parameter(torch.ones(SIZE // tensors // 1000, 1000)) for _ in range(tensors)]
    for param in params:
        param.grad = torch.ones_like(param)
    graft = Graft(params, *children, partition=partition)
    graft.step()
    return peak(graft.step) / 4 / SIZE


def test_the_count():
    made = torch.ones(SIZE)

    def work():
        a = torch.zeros(SIZE)
        b = a.view(2, -1) + 1
        del a
        made.mul_(2)
        b.double()

    assert peak(work) == 4 * SIZE * 3  # b and its double; a was given up, and the other was there before


@pytest.mark.parametrize("children", CHILDREN.values(), ids=list(CHILDREN))
@pytest.mark.parametrize("partition", ["tensor", "global", "axis(0)", "coordinate"])
@pytest.mark.parametrize("tensors", [1, 8])
def test_one_temporary(children, partition, tensors):
    """And what pieces take, at most seven of PIECE numbers in float64: 0.18."""
    assert words(children, partition, tensors) <= (2 if partition == "coordinate" else 1) + 0.2


def test_many_tensors_take_less():
    assert words(CHILDREN["adamw#adagrad"], "tensor", 80) <= 0.15


def test_a_direction_that_reads_weights_takes_two():
    assert words((Adam, declare(Quiet)), "tensor", 1) <= 2.15
