"""Large leaves on one CPU: every number counts once, and nothing but what must be is written to memory."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from graftsim_jax import graft
from graftsim_jax.halves import LEAST, pays
from graftsim_jax.norms import norms
from graftsim_jax.partitions import groups_of


@pytest.mark.parametrize("size", [LEAST, LEAST + 1, LEAST + 2, LEAST + 3])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_number_counts_once(size: int, dtype) -> None:
    m, d = jnp.ones(size, dtype), jnp.full(size, 2.0**-100, dtype)
    assert pays([m, d])
    ((n_m,), (n_d,)) = norms(groups_of("tensor", [m]), None, [m], [d])
    assert float(n_m) == math.sqrt(size)
    assert float(n_d) == math.sqrt(size) * 2.0**-100
    for i in (0, size // 2, size - 1):
        ((n_m,), _) = norms(groups_of("tensor", [m]), None, [m.at[i].set(np.inf)], [d])
        assert float(n_m) == np.inf


def test_members_groups_and_shapes_keep_their_own_sums() -> None:
    rng = np.random.default_rng(5)
    many = rng.standard_normal((3, 80, 64)).astype(np.float32)
    small = np.ones(3, np.float32)
    optimizer = graft(optax.sgd(0.5), optax.sgd(1.0), partition="global")

    def one(x):
        tree = {"large": x, "small": jnp.asarray(small)}
        return optimizer.update(tree, optimizer.init(tree))[1].info.direction_norm["all"]

    want = [math.sqrt(math.fsum(float(v) ** 2 for v in x.reshape(-1)) + 3) for x in many]
    assert np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(many))).tolist() == np.float32(want).tolist()
    assert [float(one(x)) for x in many] == np.float32(want).tolist()


def test_float64_and_small_leaves_are_summed_plainly() -> None:
    assert not pays([jnp.ones(LEAST - 1)])
    with jax.enable_x64(True):
        assert not pays([jnp.ones(LEAST), jnp.ones(LEAST, jnp.float32)])


def test_a_step_of_adam_sgd_writes_four_arrays_and_none_in_float64() -> None:
    """Both moments, Adam's update, which is summed, and the graft's: as many as Adam and SGD write without a graft."""
    optimizer, gradient = graft(optax.adam(1e-3), optax.sgd(1.0)), jnp.ones(2**14)
    text = jax.jit(optimizer.update).lower(gradient, optimizer.init(gradient)).compile().as_text()
    entry = text[text.index("\nENTRY") :]
    written = re.findall(r"= (f\d+)\[16384\]\S* (\w+)\(", entry)
    assert [dtype for dtype, operation in written if operation != "parameter"] == ["f32"] * 4
