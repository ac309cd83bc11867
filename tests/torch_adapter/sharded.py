"""What each rank of a sharded run does and checks; :mod:`test_sharded` starts the ranks.

Four processes are started once; the first 2, 3 and 4 of them make up the meshes of the checks.
"""

from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW

from graftsim_torch import Graft, Recorder, declare
from tests.torch_adapter.recipes import parameters, stream

SHAPES = {"w": (3, 4), "b": (5,), "deep": (2, 3, 2), "one": (1,), "big": (7, 2)}
PARTITIONS = [
    "tensor", "global", "axis(0)", "axis(-1)", "fan_out", "coordinate", "block(3)", "pattern(p=['w', 'b'], rest=None)",
]  # fmt: skip
CHILDREN = {
    "closed": (partial(Adam, lr=0.01), partial(SGD, lr=3.0, momentum=0.9)),
    "decay": (partial(AdamW, lr=0.01, weight_decay=0.3), partial(Adagrad, lr=0.1, weight_decay=0.1)),
    "black box": (partial(Adadelta, lr=0.5), partial(Graft, magnitude=Adagrad, direction=Adam, partition="axis(0)")),
}


class Counted:
    """Counts the all-reduces while it is open."""

    def __enter__(self):
        self.true, self.count = dist.all_reduce, 0

        def counted(*args, **kwargs):
            self.count += 1
            return self.true(*args, **kwargs)

        dist.all_reduce = counted
        return self

    def __exit__(self, *_):
        dist.all_reduce = self.true


def distributed(mesh, placements):
    """The parameters, each under the placement of its turn, and streams of their gradients."""
    turns = [placements[i % len(placements)] for i in range(len(SHAPES))]
    turns = [
        [Shard(0) if isinstance(one, Shard) and one.dim >= len(shape) else one for one in turn]
        for turn, shape in zip(turns, SHAPES.values(), strict=True)
    ]
    whole = parameters(shapes=SHAPES)
    params = [
        torch.nn.Parameter(distribute_tensor(param.detach(), mesh, turn))
        for param, turn in zip(whole, turns, strict=True)
    ]

    def give(row):
        for param, turn, gradient in zip(params, turns, row, strict=True):
            param.grad = None if gradient is None else distribute_tensor(torch.tensor(gradient), mesh, turn)

    return params, give


def alone(make, rows):
    params = parameters(shapes=SHAPES)
    graft = make(list(zip(SHAPES, params, strict=True)))
    for row in rows:
        for param, gradient in zip(params, row, strict=True):
            param.grad = None if gradient is None else torch.tensor(gradient)
        graft.step()
    return params, graft


def same_as_one_process(mesh, placements, partitions=PARTITIONS, children=CHILDREN):
    rows = stream(3, shapes=SHAPES)
    for partition in partitions:
        for name, (m, d) in children.items():
            if name != "closed" and partition not in ("tensor", "block(3)"):
                continue

            def make(params, m=m, d=d, partition=partition):
                return Graft(params, m, d, partition=partition)

            want, reference = alone(make, rows)
            params, give = distributed(mesh, placements)
            graft = make(list(zip(SHAPES, params, strict=True)))
            for row in rows:
                give(row)
                with Counted() as reductions:
                    graft.step()
                if name != "black box" and mesh.ndim == 1:
                    assert reductions.count == (partition != "coordinate"), (partition, reductions.count)
            for one, other in zip(params, want, strict=True):
                # norms of at most 41 numbers, summed in another order: 1e-14 of steps below 10
                torch.testing.assert_close(one.full_tensor(), other.detach(), rtol=1e-13, atol=1e-13)
            if partition != "coordinate":
                assert graft.info.groups == reference.info.groups
                torch.testing.assert_close(graft.info.ratio, reference.info.ratio, rtol=1e-12, atol=0)
                assert torch.equal(graft.info.missing, reference.info.missing)


def refusals(mesh):
    params, _ = distributed(mesh, [[Shard(0)]])
    matrix = [torch.nn.Parameter(distribute_tensor(torch.ones(4, 3), mesh, [Shard(0)]))]
    for make in (
        lambda: Graft(matrix, Adam, torch.optim.Muon),
        lambda: Graft(params, Adam, declare(SGD)) and Graft(params, Adam, declare(Mine)),
    ):
        with pytest.raises(ValueError, match="is not known to work on each coordinate alone"):
            make()
    Graft(params, Adam, declare(Mine, elementwise=True))
    whole = [torch.nn.Parameter(distribute_tensor(torch.ones(4, 3), mesh, [Replicate()]))]
    whole[0].grad = distribute_tensor(torch.ones(4, 3), mesh, [Replicate()])
    with Counted() as reductions:
        Graft(whole, Adam, SGD).step()
    assert reductions.count == 0


class Mine(SGD):
    pass


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3, bias=False)).double()


def train(net, optimizer, steps, rank=0, ranks=1):
    """Steps on batches that are cut over ranks; the mean over ranks is the mean over all."""
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(12, 5, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        net(x[rank::ranks]).square().mean().backward()
        optimizer.step()


def fully_sharded(mesh, rank, ranks, folder):
    for partition in ("tensor", "global"):
        net, single = model(), model()
        for layer in net:
            fully_shard(layer, mesh=mesh)
        fully_shard(net, mesh=mesh)
        graft = Graft(net.named_parameters(), partial(Adam, lr=0.01), partial(SGD, lr=2.0), partition=partition)
        want = Graft(single.named_parameters(), partial(Adam, lr=0.01), partial(SGD, lr=2.0), partition=partition)
        recorder = Recorder(graft)
        for start in range(0, 3):
            train(net, graft, start + 1, rank, ranks)
            train(single, want, start + 1)
            recorder.record()
        for one, other in zip(net.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(one.full_tensor(), other.detach(), rtol=1e-12, atol=1e-12)
        record = recorder.trajectory()
        assert record.weights.shape == (2, sum(p.numel() for p in single.parameters()))


def replicated(group, rank, ranks):
    net, single = model(), model()
    wrapped = torch.nn.parallel.DistributedDataParallel(net, process_group=group)
    graft = Graft(net.parameters(), partial(Adam, lr=0.01), partial(SGD, lr=2.0), partition="global")
    want = Graft(single.parameters(), partial(Adam, lr=0.01), partial(SGD, lr=2.0), partition="global")
    for _ in range(2):
        train(wrapped, graft, 2, rank, ranks)
        train(single, want, 2)
        with Counted() as reductions:
            graft.step()
        want.step()
        assert reductions.count == 0
    mine = torch.cat([param.detach().reshape(-1) for param in net.parameters()])
    others = [torch.zeros_like(mine) for _ in range(ranks)]
    dist.all_gather(others, mine, group=group)
    assert all(torch.equal(mine, other) for other in others)
    theirs = torch.cat([param.detach().reshape(-1) for param in single.parameters()])
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def sharded_model(mesh):
    net = model()
    for layer in net:
        fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net, Graft(net.named_parameters(), partial(Adadelta, lr=0.5), partial(Adam, lr=2.0))


def save(mesh, rank, ranks, folder):
    """Two steps, a distributed checkpoint, two more; what came out is left for the other number of ranks."""
    net, graft = sharded_model(mesh)
    train(net, graft, 2, rank, ranks)
    state = {"model": net.state_dict(), "optimizer": get_optimizer_state_dict(net, graft)}
    dcp.save(state, checkpoint_id=folder, process_group=mesh.get_group())
    train(net, graft, 2, rank, ranks)
    whole = [param.full_tensor() for param in net.parameters()]
    if rank == 0:
        torch.save(whole, f"{folder}.pt")


def load(mesh, rank, ranks, folder):
    net, graft = sharded_model(mesh)
    state = {"model": net.state_dict(), "optimizer": get_optimizer_state_dict(net, graft)}
    dcp.load(state, checkpoint_id=folder, process_group=mesh.get_group())
    net.load_state_dict(state["model"])
    set_optimizer_state_dict(net, graft, state["optimizer"])
    slot = graft.state[next(iter(net.parameters()))]["magnitude.square_avg"]
    assert isinstance(slot, DTensor)
    train(net, graft, 2, rank, ranks)
    for param, want in zip(net.parameters(), torch.load(f"{folder}.pt", weights_only=True), strict=True):
        torch.testing.assert_close(param.full_tensor(), want, rtol=1e-12, atol=1e-12)


RANKS = 4


def everything(rank, folder):
    """Two ranks save a checkpoint; three and four load it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    try:
        lines = {ranks: DeviceMesh("cpu", list(range(ranks))) for ranks in (2, 3, RANKS)}
        square = DeviceMesh("cpu", [[0, 1], [2, 3]])
        for ranks, mesh in lines.items():
            if rank < ranks:
                checks(mesh, rank, ranks, folder)
            dist.barrier()
        few = {"closed": CHILDREN["closed"]}
        for placements in ([[Replicate(), Shard(0)]], [[Shard(0), Shard(1)], [Shard(1), Replicate()]]):
            same_as_one_process(square, placements, ["tensor", "global", "axis(0)", "block(3)"], few)
    finally:
        dist.destroy_process_group()


def checks(mesh, rank, ranks, folder):
    same_as_one_process(mesh, [[Shard(0)], [Shard(1)]])
    same_as_one_process(mesh, [[Shard(0)], [Replicate()]], ["global"])
    refusals(mesh)
    fully_sharded(mesh, rank, ranks, folder)
    replicated(mesh.get_group(), rank, ranks)
    if ranks == 2:
        save(mesh, rank, ranks, f"{folder}/checkpoint")
    else:
        load(mesh, rank, ranks, f"{folder}/checkpoint")
