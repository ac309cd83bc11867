"""Recorder and corrections: from a scanned loop to a trajectory, to a file, to a transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from graftsim import trajectory
from graftsim_jax import Recorder, corrections, discover, graft, machine, save_corrections, silent
from tests.jax_adapter.trees import SHAPES, flat, gradients, tree


def recorded(optimizer, partition="tensor", steps: int = 4):
    weights = tree(np.full(28, 0.5, np.float32))
    recorder = Recorder(weights, partition, machine="adam#sgd", problem="a stream")
    stream = [tree(gradient) for gradient in gradients("float32", steps)]
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *stream)

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), (jnp.sum(gradient["scalar"]), recorder.row(state))

    (last, _), (losses, rows) = jax.jit(lambda: jax.lax.scan(step, (weights, optimizer.init(weights)), stacked))()
    return recorder.trajectory(weights, last, losses, rows), last


def test_a_scanned_loop_becomes_a_trajectory_file(tmp_path) -> None:
    found, last = recorded(graft(optax.adam(0.1), optax.sgd(1.0)))
    found.save(tmp_path / "run.npz")
    loaded = trajectory.load(tmp_path / "run.npz")
    assert loaded.digest == found.digest
    assert loaded.meta.groups["ratio"] == tuple(SHAPES)
    assert loaded.info["ratio"].shape == (4, 5)
    assert (loaded.last == flat(last)).all()
    assert (loaded.weights[0] == 0.5).all()
    assert loaded.steps.tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(loaded.loss[-1])
    assert np.isfinite(loaded.loss[:-1]).all()
    kernel, empty = list(SHAPES).index("dense.kernel"), list(SHAPES).index("empty")
    assert (loaded.info["n_d"][1:, kernel] > 0).all()
    used = loaded.info["n_d"] > 0
    want = loaded.info["n_m"][used] / loaded.info["n_d"][used]
    assert np.allclose(loaded.info["ratio"][used], want, rtol=2.0**-22)
    assert silent(loaded) == {"dense.kernel": 1, "empty": 4}
    assert loaded.info["ratio"][0, kernel] == loaded.info["ratio"][0, empty] == 0


def test_groups_stand_in_the_order_of_the_partition() -> None:
    partition = "pattern(z='dense.*', a=None)"  # a dict would put a first
    found, _ = recorded(graft(optax.adam(0.1), optax.sgd(1.0), partition=partition), partition)
    assert found.meta.groups["n_d"] == ("z", "a")
    dense = [np.linalg.norm(gradient[:15]) for gradient in gradients("float32")]
    assert np.allclose(found.info["n_d"][:, 0], dense, rtol=1e-6)
    rows, _ = recorded(graft(optax.adam(0.1), optax.sgd(1.0), partition="row"), "row")
    assert rows.meta.groups["ratio"][:3] == ("dense.bias", "dense.kernel[0,:]", "dense.kernel[1,:]")


def test_nested_grafts_partitions_and_machines_have_paths() -> None:
    nested, _ = recorded(graft(graft(optax.adam(0.1), optax.sgd(1.0), partition="global"), machine("lamb")))
    names = {"n_m", "n_d", "ratio"}
    assert set(nested.info) == names | {f"magnitude.{n}" for n in names} | {
        f"direction.{n}" for n in ("n_w", "n_u", "ratio")
    }
    assert nested.meta.groups["magnitude.ratio"] == ("0",)
    weights = {"a": jnp.ones(2), "b": jnp.ones(2)}
    split = optax.partition({"x": graft(optax.adam(0.1), optax.sgd(1.0)), "y": optax.sgd(0.1)}, {"a": "x", "b": "y"})
    assert set(Recorder(weights).row(split.init(weights))) == {"x.n_m", "x.n_d", "x.ratio"}
    with pytest.raises(ValueError, match="must hold the state of a graft"):
        Recorder(weights).row(optax.sgd(0.1).init(weights))


def test_corrections_are_medians_and_make_the_direction_as_long(tmp_path) -> None:
    keep = {name: shape for name, shape in SHAPES.items() if name != "empty"}
    weights = {name: jnp.ones(shape) for name, shape in keep.items()}
    optimizer, recorder = graft(optax.sgd(0.5), optax.sgd(2.0)), Recorder(weights)
    _, state = optimizer.update(weights, optimizer.init(weights))
    rows = {path: values[None] for path, values in recorder.row(state).items()}
    found = discover(recorder.trajectory(weights, weights, [1.0], rows))
    assert found == dict.fromkeys(keep, 0.25)
    path = tmp_path / "corrections.yaml"
    save_corrections(path, found)
    corrected = optax.chain(optax.sgd(2.0), corrections(path))
    updates, _ = jax.jit(corrected.update)(weights, corrected.init(weights))
    assert all((np.asarray(leaf) == -0.5).all() for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize("partition", ["row", "block(2)", "coordinate", "pattern(a='x', b=None)", "sets"])
def test_corrections_in_other_partitions(partition: str) -> None:
    tree = {"x": jnp.ones((2, 3), jnp.bfloat16), "y": jnp.ones(2)}
    if partition == "sets":
        with pytest.raises(ValueError, match="sets"):
            corrections({"a": 1.0}, partition)
        return
    names = Recorder(tree, partition).groups
    factors = {name: float(i + 1) for i, name in enumerate(names)}
    updates, _ = corrections(factors, partition).update(tree, optax.EmptyState())
    assert updates["x"].dtype == jnp.bfloat16
    want = {
        "row": [1, 1, 1, 2, 2, 2, 3, 3],
        "block(2)": [1, 1, 2, 2, 3, 3, 4, 4],
        "coordinate": [1, 2, 3, 4, 5, 6, 7, 8],
        "pattern(a='x', b=None)": [1, 1, 1, 1, 1, 1, 2, 2],
    }
    assert [float(x) for leaf in (updates["x"], updates["y"]) for x in leaf.reshape(-1)] == want[partition]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("factors: {w: .nan}", "finite number"),
        ("factors: {w: -1}", "at least 0"),
        ("factors: {w: true}", "finite number"),
        ("factors: {v: 1}", "'v' is no group"),
        ("partition: global\nfactors: {w: 1}", "'all' has no factor"),
        ("partition: [1]\nfactors: {w: 1}", "partition must be text"),
        ("weights: {w: 1}", "keys partition and factors"),
        ("[1, 2]", "keys partition and factors"),
        ("factors: &a {w: *a}", "aliases"),
    ],
)
def test_files_of_corrections_are_checked(tmp_path, text: str, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        corrections(path).init({"w": jnp.ones(2)})
    assert "\n" not in str(caught.value)
