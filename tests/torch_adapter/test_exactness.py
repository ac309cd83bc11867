"""The direction's learning rate does not matter; nothing overflows or underflows; zero steps do what the rules say."""

import math
from functools import partial

import pytest
import torch
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop

from graftsim_torch import Graft, children, chunks, declare, norms, recovery
from tests.torch_adapter.recipes import RECIPES, flat, give, parameters, run, stream

RATES = [1e-12, 1e-8, 1e-3, 7.0, 1e12]
WITH_RATE = [partial(SGD, momentum=0.9), Adam, Adagrad, RMSprop, Adadelta, Adamax, NAdam, RAdam]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("direction", WITH_RATE, ids=lambda d: getattr(d, "__name__", "momentum"))
def test_the_rate_of_the_direction_does_not_matter(direction, dtype):
    """A power of two changes no bit. Another rate changes a step's roundings: at most three of u each where D's step
    is formed, 2 u through its norm, and the products' with the ratio; 12 u of the step |w - w0| of each tensor."""
    rows = stream(3)
    for power in (-40, 40):
        two = []
        for rate in (1.0, 2.0**power):
            params = parameters(dtype)
            two.append(run(Graft(params, partial(Adam, lr=0.01), partial(direction, lr=rate)), params, rows))
        assert torch.equal(*two)
    start = flat(parameters(dtype)).double()
    for rate in RATES:
        params = parameters(dtype)
        got = run(Graft(params, partial(Adam, lr=0.01), partial(direction, lr=rate)), params, rows).double()
        params = parameters(dtype)
        want = run(Graft(params, partial(Adam, lr=0.01), partial(direction, lr=1.0)), params, rows).double()
        room = 12 * 2**-24 * 0.1 * 3 + 3 * (2**-24 if dtype is torch.float32 else 2**-8) * (want.abs() + 0.1)
        assert not torch.equal(start, got)
        assert (got - want).abs().le(room).all()


def test_in_place_recovery_would_lose_it():
    """What the scratch parameters are there for: stepped from the weights, a step of 1e-8 is lost."""
    rows = stream(1)
    honest, lossy = parameters(torch.float32), parameters(torch.float32)
    run(Graft(honest, partial(SGD, lr=0.1), partial(SGD, lr=1e-9)), honest, rows)
    run(Graft(lossy, partial(SGD, lr=0.1), declare(partial(Unlisted, lr=1e-9))), lossy, rows)
    assert (flat(honest) - flat(lossy)).abs().max() > 0.01


class Unlisted(SGD):
    """An optimizer that stands in no table."""


def test_a_weight_reading_direction_that_is_linear_is_run_near_one():
    rows = stream(1)
    honest, amplified = parameters(torch.float32), parameters(torch.float32)
    run(Graft(honest, partial(SGD, lr=0.1), partial(SGD, lr=1)), honest, rows)
    graft = Graft(amplified, partial(SGD, lr=0.1), declare(partial(Unlisted, lr=1e-12), linear_in_lr=True))
    run(graft, amplified, rows)
    assert graft.direction.param_groups[0]["lr"] == 1e-12
    error = graft.info.direction_error
    assert error is not None
    for name, want, got, bound in zip("abcd", honest, amplified, error.tolist(), strict=False):
        gap = (want - got).norm() / (0.1 * want.grad.norm()).clamp(min=1e-30)
        assert gap <= 4 * bound + 2**-21, name  # the step is lost to u |w| / |d|, then rounded into the weights


def test_the_error_of_a_weight_reading_direction_is_reported():
    params = parameters(torch.float32)
    graft = Graft(params, partial(SGD, lr=0.1), declare(partial(Unlisted, lr=1e-9)))
    give(params, stream(1)[0])
    graft.step()
    n_w = torch.stack([p.detach().double().norm() for p in params])
    assert graft.info.direction_error[0] > 0.1 * 2**-24 * n_w[0] / (1e-9 * params[0].grad.double().norm())
    plain = Graft(params, SGD, SGD)
    plain.step()
    assert plain.info.direction_error is None


BLIND = {
    "SGD": partial(SGD, lr=0.1, momentum=0.9, nesterov=True), "Adam": partial(Adam, lr=0.01, amsgrad=True),
    "AdamW": partial(AdamW, lr=0.01), "Adagrad": partial(Adagrad, lr=0.1), "Adadelta": partial(Adadelta, lr=0.1),
    "RMSprop": partial(RMSprop, lr=0.01, centered=True, momentum=0.9), "Adamax": Adamax, "NAdam": NAdam,
    "RAdam": RAdam, "Rprop": Rprop,
}  # fmt: skip
if hasattr(torch.optim, "Muon"):
    BLIND["Muon"] = torch.optim.Muon


@pytest.mark.parametrize("kind", sorted(kind.__name__ for kind in recovery.BLIND))
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("foreach", [False, True])
def test_the_table_of_optimizers_that_do_not_read_weights(kind, decay, foreach):
    """A#A of an entry, whose steps are taken from scratch parameters of zeros, walks with the native itself. float64;
    steps are of size 0.1 at most, so a few roundings of weights of size 3 are what may differ: 16 u 3 a step."""
    factory = BLIND[kind]
    extra = {} if kind == "Rprop" else {"weight_decay": decay}
    if kind == "Muon":
        shapes = {"w": (3, 4), "v": (4, 2)}
    else:
        extra |= {"foreach": foreach}
        shapes = {"w": (3, 4), "v": (4,)}
    alone, grafted = parameters(shapes=shapes), parameters(shapes=shapes)
    rows = stream(6, missing=False, shapes=shapes)
    native = partial(factory, **extra)
    want = run(native(alone), alone, rows)
    optimizer = Graft(grafted, native, native)
    assert (run(optimizer, grafted, rows) - want).abs().max() <= 6 * 16 * 2**-53 * 3
    for mine, gradient in zip(grafted, rows[-1], strict=True):
        assert torch.equal(mine.grad, torch.tensor(gradient))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("flag", ["foreach", "fused"])
def test_closed_forms_are_the_native_itself(recipe, dtype, flag):
    """The state has the native's bits. A rate that stands beside a tensor is a rounding less, of a product or of a
    quotient's numerator: 2 u; steps of Adam are formed as the native forms them, to the bit."""
    params = parameters(dtype)
    native = partial(recipe, **{flag: True}) if recipe.func in (Adam, AdamW) else recipe
    closed = children.ClosedForm(native(params))
    black = children.BlackBox(native(params), recovery.known(closed.optimizer, None), False)
    room = 0 if recipe.func in (Adam, AdamW) else torch.finfo(dtype).eps
    for row in stream():
        give(params, row)
        (chunk,) = chunks.at_once(chunks.batch(closed.optimizer.param_groups))
        mine, theirs = closed.propose(chunk), black.propose(chunk)
        for tensor, rate, want in zip(mine.tensors, mine._rates(), theirs.tensors, strict=True):
            assert ((tensor.double() * rate - want.double()).abs() <= room * want.double().abs()).all()
        for param in params:
            one, two = closed.optimizer.state[param], black.optimizer.state[param]
            assert set(one) == {name for name in two if two[name] is not None}
            assert all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(two[name])) for name in one)


def test_tensors_that_do_not_lie_one_after_another():
    """Fused kernels walk through memory as it lies, whatever the strides say."""
    plain = [torch.nn.Parameter(torch.ones(3, 4)) for _ in range(2)]
    grads = [torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).T for _ in plain]
    ends = []
    for layout in (lambda grad: grad, lambda grad: grad.contiguous()):
        params = [torch.nn.Parameter(param.detach().clone()) for param in plain]
        for param, grad in zip(params, grads, strict=True):
            param.grad = layout(grad)
        graft = Graft(params, partial(Adam, lr=0.1), partial(Adam, lr=0.1, betas=(0.5, 0.9)))
        graft.step()
        graft.step()
        ends.append(flat(params))
    assert (ends[0] - ends[1]).abs().max() <= 16 * 2**-24  # two steps of 0.1 from 1


@pytest.mark.parametrize("size", [3, norms.SMALL + 130])
def test_norms_beyond_the_range_of_squares(size):
    for dtype, largest, least in ((torch.float32, 3e38, 1e-45), (torch.float64, 1.7e308, 5e-324)):
        for value in (largest, least, 0.0, math.inf, math.nan):
            tensor = torch.full((size,), value, dtype=dtype)
            power = norms.power_of_two(tensor[:1].double())
            want = float((tensor[0].double() * power).item() * math.sqrt(size) / power.item())
            assert norms.norms([tensor])[0].item() == pytest.approx(want, rel=1e-13, abs=0, nan_ok=True), value
        mixed = torch.full((size,), float(torch.tensor(1.0, dtype=dtype)), dtype=dtype)
        mixed[0] = largest
        assert norms.norms([mixed])[0].item() == pytest.approx(mixed[0].item(), rel=1e-13, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms_of_tensors_small_and_large(dtype):
    """Of every way that a norm is taken. Sums in float64 are off by 2^-53 for each of n terms at most; rows of 128
    float32 by 16 of their u, which halve in the root, and 1.5 for the root's and the squares' own."""
    sizes = [0, 1, 5, norms.SMALL, norms.SMALL + 1, norms.PIECE + 3]
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(size, generator=generator, dtype=dtype) for size in sizes]
    want = [math.sqrt(math.fsum((tensor.double() ** 2).tolist())) for tensor in tensors]
    for chosen in ([0, 1, 2, 3], [4, 5], [0, 4, 1, 5, 2, 3]):
        for i, got in zip(chosen, norms.norms([tensors[i] for i in chosen]).tolist(), strict=True):
            rows = dtype is torch.float32 and sizes[i] > norms.SMALL
            assert got == pytest.approx(want[i], rel=9.5 * 2**-24 if rows else sizes[i] * 2**-53, abs=0)
    matrix = tensors[-1][: norms.PIECE].reshape(-1, 64).repeat(1, 3)
    for axis in (0, 1):
        wide = matrix.double().square().sum(1 - axis).sqrt()
        assert torch.allclose(norms.norms_along(matrix, axis), wide, rtol=2e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_zero_gradients(dtype):
    params = parameters(dtype)
    start = flat(params)
    graft = Graft(params, Adam, Adagrad)
    for _ in range(2):
        give(params, [torch.zeros(p.shape).numpy() for p in params])
        graft.step()
    assert torch.equal(flat(params), start)
    assert (graft.info.ratio == 0).all()


@pytest.mark.parametrize(("dtype", "sizes"), [(torch.float32, (1e-36, 1e38)), (torch.float64, (1e-300, 1e300))])
@pytest.mark.parametrize("partition", ["tensor", "global", "axis(0)", "block(2)"])
def test_lengths_do_not_leave_the_range(dtype, sizes, partition):
    """SGD at lr 1 moves by g, whatever g is; 4 u of what it moves by."""
    for size in sizes:
        params = [torch.nn.Parameter(torch.zeros(3, 4, dtype=dtype)) for _ in range(2)]
        rows = [[torch.linspace(1, 2, 12, dtype=torch.float64).reshape(3, 4).numpy() * s for s in (size, size / 4)]]
        run(Graft(params, partial(SGD, lr=1.0), partial(SGD, lr=0.5), partition=partition), params, rows)
        for param, row in zip(params, rows[0], strict=True):
            want = -torch.tensor(row)
            assert (param.detach() - want).abs().le(4 * torch.finfo(dtype).eps * want.abs()).all()


def test_ratios_beyond_float32():
    param = torch.nn.Parameter(torch.zeros(4))
    param.grad = torch.full((4,), 2.0**-140)
    Graft([param], partial(SGD, lr=2.0**120), partial(SGD, lr=1.0)).step()
    assert torch.equal(param.detach(), torch.full((4,), -(2.0**-20)))
    param.grad = torch.full((4,), 2.0**-140)
    big = Graft([param], Constant, partial(SGD, lr=1.0))
    big.step()
    assert torch.allclose(param.detach(), torch.full((4,), -1 - 2.0**-20))
    assert big.info.ratio.item() == 2.0**140


class Constant(torch.optim.Optimizer):
    """A step of ones."""

    def __init__(self, params):
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param.add_(1.0)


class Given(Constant):
    """A step that is the sign-turned gradient's replacement: what the test puts into ``values``."""

    values = 0.0

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param.add_(torch.as_tensor(self.values, dtype=param.dtype))


INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("m", "d", "want"),
    [
        ([3.0, 4.0], [0.0, 0.0], [0.0, 0.0]),
        ([NAN, 1.0], [0.0, 0.0], [0.0, 0.0]),
        ([INF, 1.0], [0.0, 0.0], [0.0, 0.0]),
        ([0.0, 0.0], [1.0, 2.0], [0.0, 0.0]),
        ([1.0, NAN], [1.0, 2.0], [NAN, NAN]),
        ([1.0, 1.0], [1.0, NAN], [NAN, NAN]),
        ([3.0, 4.0], [INF, 2.0], [NAN, 0.0]),
        ([INF, 1.0], [-1.0, 0.0], [-INF, NAN]),
        ([INF, 1.0], [INF, 1.0], [NAN, NAN]),
        ([3.0, 4.0], [1e30, 0.0], [5.0, 0.0]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("partition", ["tensor", "global", "block(2)"])
def test_the_rules_of_zero_and_of_what_is_not_finite(m, d, want, dtype, partition):
    """GS-graft-zero-direction to GS-graft-infinite-both."""
    param = torch.nn.Parameter(torch.zeros(2, dtype=dtype))
    param.grad = torch.ones(2, dtype=dtype)
    children_of = [declare(type("Fixed", (Given,), {"values": values}), reads_weights=False) for values in (m, d)]
    Graft([param], *children_of, partition=partition).step()
    assert torch.allclose(param.detach(), torch.tensor(want, dtype=dtype), equal_nan=True)


def test_sums_of_squares_in_three_ranges():
    lengths = torch.tensor([0.0, 5e-324, 1e-200, 3e-160, 1.0, 1e170, 1.7e308, INF, NAN], dtype=torch.float64)
    assert torch.allclose(norms.from_buckets(norms.buckets(lengths)), lengths, rtol=4 * 2**-53, atol=0, equal_nan=True)
    pair = norms.buckets(torch.tensor([3e-200, 4e-200], dtype=torch.float64)).sum(1, keepdim=True)
    assert math.isclose(norms.from_buckets(pair).item(), 5e-200, rel_tol=1e-15)
    mixed = norms.buckets(torch.tensor([3.0, 4.0, 1e-200], dtype=torch.float64)).sum(1, keepdim=True)
    assert norms.from_buckets(mixed).item() == 5.0


def test_self_graft_has_the_bits_of_the_native():
    """Adam is fused on a CPU unless a flag says otherwise."""
    for recipe in (partial(Adam, lr=0.01, fused=True), partial(Adam, lr=0.01, foreach=True, amsgrad=True)):
        alone, grafted = parameters(torch.float32), parameters(torch.float32)
        assert torch.equal(run(recipe(alone), alone, stream()), run(Graft(grafted, recipe, recipe), grafted, stream()))
