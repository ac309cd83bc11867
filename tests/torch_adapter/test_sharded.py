"""Sharded and replicated runs in real processes over gloo are the run of one process."""

import torch

from tests.torch_adapter import sharded


def test_ranks(tmp_path):
    torch.multiprocessing.spawn(sharded.everything, (str(tmp_path),), nprocs=sharded.RANKS)
