"""graft() under jit, vmap, scan, and over devices: same results, few compilations, one all-reduce."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from graftsim_jax import graft
from tests.jax_adapter.trees import flat, gradients, tree

OPTIMIZER = graft(optax.sgd(0.5, momentum=0.9), optax.rmsprop(1.0))


def test_jit_compiles_once_takes_donated_buffers_and_keeps_structure() -> None:
    compiled = []

    def step(updates, state):
        compiled.append(1)
        return OPTIMIZER.update(updates, state)

    update = jax.jit(step, donate_argnums=1)
    state = OPTIMIZER.init(tree(np.zeros(28, np.float32)))
    before = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    for gradient in gradients("float32"):
        _, state = update(tree(gradient), state)
    assert len(compiled) == 1
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == before
    assert int(state.count) == 4


def test_eager_equals_jit_within_the_fused_operations() -> None:
    """Fused multiply-adds differ by a rounding in the children's states; the graft adds one of its own."""
    eager = jitted = OPTIMIZER.init(tree(np.zeros(28, np.float32)))
    for gradient in gradients("float32")[:2]:
        a, eager = OPTIMIZER.update(tree(gradient), eager)
        b, jitted = jax.jit(OPTIMIZER.update)(tree(gradient), jitted)
        assert np.allclose(flat(a), flat(b), rtol=16 * 2.0**-24, atol=0)


def test_members_of_vmap_have_norms_of_their_own() -> None:
    many = jnp.asarray(gradients("float32"))
    start = OPTIMIZER.init({"w": many[0]})

    def one(gradient):
        updates, state = OPTIMIZER.update({"w": gradient}, start)
        return updates["w"], state.info.ratio["w"]

    together, ratios = jax.jit(jax.vmap(one))(many)
    for i, gradient in enumerate(many):
        alone, ratio = jax.jit(one)(gradient)
        assert np.allclose(together[i], alone, rtol=4 * 2.0**-24, atol=0)
        assert np.allclose(ratios[i], ratio, rtol=4 * 2.0**-24)


def test_a_scanned_loop_equals_single_steps() -> None:
    stream = jnp.asarray(gradients("float32"))

    def step(state, gradient):
        updates, state = OPTIMIZER.update({"w": gradient}, state)
        return state, (updates["w"], state.info.ratio["w"])

    start = OPTIMIZER.init({"w": stream[0]})
    _, (moved, ratios) = jax.jit(lambda: jax.lax.scan(step, start, stream))()
    state, single = start, jax.jit(step)
    for i, gradient in enumerate(stream):
        state, (want, ratio) = single(state, gradient)
        assert np.allclose(moved[i], want, rtol=8 * 2.0**-24, atol=0)
        assert np.allclose(ratios[i], ratio, rtol=8 * 2.0**-24)


def test_gradients_of_a_whole_run_by_the_rate() -> None:
    """The derivative of a training run, through its scan, is finite and right."""

    def last(rate):
        optimizer = graft(optax.sgd(rate), optax.sgd(1.0, momentum=0.9))

        def step(carry, _):
            w, state = carry
            updates, state = optimizer.update(2 * w, state)
            return (w + updates, state), None

        start = jnp.array([1.0, -2.0])
        (w, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=5)
        return jnp.sum(w * w)

    slope = float(jax.jit(jax.grad(last))(0.1))
    near = [float(jax.jit(last)(0.1 + h)) for h in (-0.01, 0.01)]
    assert slope == pytest.approx((near[1] - near[0]) / 0.02, rel=1e-2)  # third differences: h^2 / 6 of the curve


ON_DEVICES = Path(__file__).with_name("on_devices.py")


def run_on_devices(*arguments: str) -> dict[str, str]:
    """What on_devices.py prints: name and value a line."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ON_DEVICES), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(re.findall(r"^(\S+) (.*)$", done.stdout, re.MULTILINE))


@pytest.fixture(scope="module")
def devices() -> dict[str, str]:
    return run_on_devices()


@pytest.mark.parametrize(
    "name",
    ["jit-tensor-columns-8", "jit-global-columns-8", "jit-tensor-rows-8", "shard_map-tensor", "shard_map-global"],
)
def test_sharded_parameters_have_one_all_reduce_a_step(devices, name: str) -> None:
    assert devices[f"{name}-collectives"] == "all-reduce"


@pytest.mark.parametrize("name", ["jit-row", "jit-coordinate", "replicated", "jit-tensor-columns-1"])
def test_groups_that_lie_on_one_device_need_no_exchange(devices, name: str) -> None:
    assert devices[f"{name}-collectives"] == ""


def test_a_replicated_leaf_beside_sharded_ones_is_refused_by_name(devices) -> None:
    assert "'b' is replicated" in devices["mixed-error"]


@pytest.mark.parametrize("partition", ["jit-tensor", "jit-global", "jit-block"])
def test_any_number_of_devices_gives_the_same_within_the_order_of_float64_sums(devices, partition: str) -> None:
    """Their exact values differ by float64 roundings: the same float32, or neighbours where they round apart."""
    names = [name for name in devices if name.startswith(partition) and name.endswith("-bits")]
    names += [f"{partition.replace('jit', 'shard_map')}-bits"] * (partition != "jit-block")
    assert len(names) >= 2
    first, *others = (np.frombuffer(bytes.fromhex(devices[name]), np.float32) for name in names)
    for other in others:
        assert (np.abs(first - other) <= np.spacing(np.abs(first))).all()


def test_runs_are_bit_identical(devices) -> None:
    again = run_on_devices("again")
    assert len(again) == 4
    assert again.items() <= devices.items()
