"""Sharded and replicated runs in real processes over gloo are the run of one process."""

import pytest
import torch

from tests.torch_adapter import sharded


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks(ranks, folder):
    """In order: two ranks save a checkpoint, three and four load it."""
    torch.multiprocessing.spawn(sharded.everything, (ranks, folder), nprocs=ranks)
