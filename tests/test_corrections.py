"""Corrections without a framework: files of them, the machine that applies them, and the adapters beside it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR

import graftsim
import graftsim_jax
import graftsim_torch
from graftsim import corrections, documents
from graftsim.corrections import Factor
from graftsim.experiments.discovery import applying
from graftsim.layouts import Layout
from graftsim.trajectory import Meta, Trajectory

GROUPS = ("a", "b")


def record(n_m, n_d, steps=None):
    """A trajectory with nothing in it but norms, of rows of two groups."""
    n_m, n_d = np.array(n_m, np.float64), np.array(n_d, np.float64)
    rows = np.array([0, *(steps or range(1, len(n_m) + 1))])
    groups = {"n_m": GROUPS, "n_d": GROUPS}
    meta = Meta("adam#sgd", "", Layout.of({"a": (1,), "b": (1,)}), "float64", 0, 1, int(rows[-1]), True, groups)
    loss = np.full(len(rows), math.nan)
    return Trajectory(meta, rows, np.array([0]), np.zeros((1, 2)), loss, {}, {"n_m": n_m, "n_d": n_d})


def test_medians_of_steps_with_a_direction():
    n_m = [[2.0, 1.0], [9.0, math.inf], [8.0, 5.0], [3.0, 7.0]]
    n_d = [[1.0, 4.0], [0.0, 1.0], [2.0, math.nan], [1.0, 1.0]]
    assert corrections.discover(record(n_m, n_d)) == {"a": 3.0, "b": (0.25 + 7.0) / 2}
    assert corrections.discover(record(n_m, n_d), steps=3) == {"a": 3.0, "b": 0.25}
    assert corrections.discover(record(n_m, n_d, steps=[5, 10, 15, 20]), steps=9) == {"a": 2.0, "b": 0.25}


def test_a_group_without_a_direction_has_no_correction():
    with pytest.raises(ValueError, match="'b' must have a step whose direction is not zero"):
        corrections.discover(record([[1.0, 1.0]], [[1.0, 0.0]]))
    plain = record([[1.0, 1.0]], [[1.0, 1.0]])
    del plain.info["n_d"]
    with pytest.raises(ValueError, match=r"the record of a graft; received info \['n_m'\]"):
        corrections.discover(plain)


def test_silent_groups():
    assert corrections.silent(record([[1.0, 1.0]] * 3, [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])) == {"a": 1, "b": 3}
    assert corrections.silent(record([[1.0, 1.0]], [[1.0, math.nan]])) == {}


# -- files -------------------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
POSITIVE, ANY = st.floats(0, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False)
FACTORS = st.one_of(
    st.builds(Factor, c0=POSITIVE),
    st.builds(Factor, c0=ANY, c1=ANY),
    st.builds(Factor, c=st.floats(0, exclude_min=True, allow_infinity=False), alpha=st.floats(-10, 10)),
)


@given(st.dictionaries(NAMES, FACTORS, min_size=1), POSITIVE)
def test_what_is_saved_is_read(tmp_path_factory, factors, scale):
    """Every digit, and names with quotes, colons and what YAML would take for a number."""
    path, origin = tmp_path_factory.mktemp("corrections") / "found.yaml", {"machine": "adam#sgd # it's", "steps": 3}
    corrections.save(path, factors, "pattern(a='x', rest=None)", scale, origin)
    found = corrections.read(path)
    assert (found.factors, found.partition, found.where) == (factors, "pattern(a='x', rest=None)", str(path))
    assert (found.scale, found.origin) == (scale, origin)


@pytest.mark.parametrize("name", ["'", "a: b", "1e-3", "no", "- x", "#", "~"])
def test_names_that_yaml_reads_otherwise(name, tmp_path):
    corrections.save(tmp_path / "found.yaml", {name: 0.1}, "tensor")
    assert corrections.read(tmp_path / "found.yaml").constants("") == {name: 0.1}


MISTAKES = [
    ("factors: [1]\n", "must have the keys"),
    ("partition: tensor\n", "must have the keys"),
    ("factors: {a: 1.0}\nlr: 3\n", "must have the keys"),
    ("- 1\n", "must have the keys"),
    ("partition: 3\nfactors: {a: 1.0}\n", "must be text such as tensor; received 3"),
    ("factors: {a: -1.0}\n", "the factor of 'a' must be a finite number that is at least 0"),
    ("factors: {a: 1e999}\n", "finite"),
    ("factors: {a: true}\n", "finite number"),
    ("factors: {a: one}\n", "received 'one'"),
    (f"factors: {{a: 1{'0' * 400}}}\n", "finite number"),
    ("factors: {a: {c0: 1.0}}\n", "a line {c0, c1} or a power {c, alpha}; received the keys c0"),
    ("factors: {a: {c0: 1.0, c1: 1.0, c: 1.0, alpha: 1.0}}\n", "a line {c0, c1} or a power"),
    ("factors: {a: {}}\n", "received the keys none"),
    ("factors: {a: {c0: 1.0, c1: 1e999}}\n", "c1 in the factor of 'a' must be a finite number"),
    ("factors: {a: {c: -1.0, alpha: 1.0}}\n", "c in the factor of 'a' must be a finite number that is at least 0"),
    ("factors: {a: {c: 1.0, alpha: -11}}\n", "alpha in the factor of 'a' must lie in [-10, 10]; received -11"),
    ("factors: {a: 1.0}\nscale: -1\n", "the scale must be a finite number that is at least 0"),
    ("factors: {a: 1.0}\norigin: {who: me}\n", "'who' was unexpected"),
    ("factors: {}\n", "at factors"),
]


@pytest.mark.parametrize(("text", "says"), MISTAKES)
def test_mistakes_in_files(text, says, tmp_path):
    (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(ValueError, match="file") as found:
        corrections.read(tmp_path / "file.yaml")
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_the_schema_says_the_same():
    """It is for programs of other languages; numbers that are not finite are not JSON."""
    for text, _ in MISTAKES:
        if "e999" not in text and "000" not in text:
            with pytest.raises(ValueError, match="file"):
                documents.validate(documents.parse_yaml(text, "file"), "corrections", "file")


def test_a_mistake_writes_no_file(tmp_path):
    with pytest.raises(ValueError, match="finite number"):
        corrections.save(tmp_path / "found.yaml", {"a": math.nan}, "tensor")
    with pytest.raises(ValueError, match="262144 bytes; 30000 groups"):
        corrections.save(tmp_path / "found.yaml", {f"w[{i}]": 0.125 for i in range(30000)}, "coordinate")
    assert not list(tmp_path.iterdir())


def test_there_is_one_factor_for_each_group():
    found = corrections.read({"a.weight": 1, "b": 2.0})
    found.check_groups(["b", "a.weight", "b"])
    with pytest.raises(ValueError, match=r"'a\.wait' has no factor; did you mean 'a\.weight'"):
        found.check_groups(["a.weight", "b", "a.wait"])
    with pytest.raises(ValueError, match="'b' is no group"):
        found.check_groups(["a.weight"])


# -- applied -----------------------------------------------------------------------------------------------------------

SHAPES = {"w": (2, 3), "b": (3,), "s": (), "e": (2,)}
MIXED = {
    "w": {"c": 2.0, "alpha": -0.27},
    "b": {"c0": 0.5, "c1": 0.25},
    "s": {"c0": 0.5, "c1": -0.25},  # 0 from step 2 on
    "e": 0.1,
}
RNG = np.random.default_rng(5)
STREAM = [{name: RNG.standard_normal(shape) for name, shape in SHAPES.items()} for _ in range(5)]
PARTITION = "pattern(w='w', b='b', s='s', e='e')"


def simulated(found, dtype="float64", machine="sgd(lr=0.5)"):
    """The weights after each step, by the machine ``corrected``."""
    layout = Layout.of(SHAPES)
    program = graftsim.build(applying.corrected(machine, found, layout), layout, dtype)
    engine, weights = graftsim.Engine(program), np.zeros(layout.size, dtype)
    state, rows = engine.initial_state(), []
    for step, gradients in enumerate(STREAM, 1):
        done = engine.step(weights, [gradients[name].astype(dtype) for name in layout.names], state, step)
        weights, state = done.weights, done.state
        rows.append(weights)
    return np.array(rows)


def by_hand(found, dtype="float64"):
    """Each step's product of a float64 factor and a step rounded once."""
    parts = []
    for name, shape in SHAPES.items():
        w, rows = np.zeros(shape, dtype), []
        for step, gradients in enumerate(STREAM, 1):
            delta = -(np.asarray(0.5, dtype) * gradients[name].astype(dtype))
            factor = found.scale * found.factors[name].at(step)
            w = w + (factor * delta.astype(np.float64)).astype(dtype)
            rows.append(w.reshape(-1))
        parts.append(np.array(rows))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_simulator_applies_constants_lines_and_powers(dtype):
    """Bit for bit; Python's power of a float64 may differ from the correctly rounded one in the last bit, by one more
    in the product with c, and the powers here do not."""
    found = corrections.from_document({"partition": PARTITION, "scale": 0.5, "factors": MIXED}, "here")
    assert (simulated(found, dtype) == by_hand(found, dtype)).all()


def test_constants_are_what_scaled_does():
    factors = {"w": 3.0, "b": 0.1, "s": 0.0, "e": 7.5}
    found = corrections.Corrections({name: Factor(value) for name, value in factors.items()}, "tensor", "here")
    scaled = corrections.read(dict.fromkeys(SHAPES, 1.0))
    want = simulated(scaled, "float32", f"scaled(sgd(lr=0.5), factor={factors})")
    assert (simulated(found, "float32") == want).all()


def test_groups_with_several_exponents():
    alphas = {"w": 1, "b": 2, "s": 0.5, "e": 1}
    factors = {name: {"c": 1.5 + alpha, "alpha": alpha} for name, alpha in alphas.items()}
    found = corrections.from_document({"factors": factors}, "here")
    assert np.allclose(simulated(found), by_hand(found), rtol=2.0**-50, atol=0)
    many = Layout.of({str(i): () for i in range(30)})
    steep = corrections.read({str(i): {"c": 1.0, "alpha": i / 30} for i in range(30)})
    with pytest.raises(ValueError, match="at most 20 different exponents; received 30"):
        applying.corrected("sgd", steep, many)


def test_corrections_for_other_tensors():
    with pytest.raises(ValueError, match=r"'head' is no group; known are b, e, s, w") as caught:
        applying.corrected("sgd", corrections.read({**MIXED, "head": 1.0}), Layout.of(SHAPES))
    assert "\n" not in str(caught.value)


def test_graftsim_torch_by_a_scheduler():
    """The bits of the reference in float64 up to the order of lr, factor and gradient: 2 roundings a step."""
    params = {name: torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for name, shape in SHAPES.items()}
    with pytest.raises(ValueError, match=r"of 'w' is 2 t\^-0.27.*scheduled_corrections"):
        graftsim_torch.corrections(params.items(), MIXED, lr=0.5)
    groups, factors = graftsim_torch.scheduled_corrections(params.items(), MIXED, lr=0.5)
    optimizer = torch.optim.SGD(groups)
    scheduler = LambdaLR(optimizer, factors)
    rows = []
    for gradients in STREAM:
        for name, param in params.items():
            param.grad = torch.from_numpy(np.array(gradients[name]))
        optimizer.step()
        scheduler.step()
        rows.append(np.concatenate([param.detach().numpy().reshape(-1) for param in params.values()]))
    want = simulated(corrections.read(MIXED))
    assert np.allclose(rows, want, rtol=2.0**-46, atol=2.0**-50)


def test_graftsim_jax_counts_the_steps():
    """In float32, whose product with a float64 factor is rounded once; XLA's power is within 2 ulp of float64."""
    corrected = optax.chain(optax.sgd(0.5), graftsim_jax.corrections(MIXED))
    params = {name: jnp.zeros(shape, jnp.float32) for name, shape in SHAPES.items()}
    state, rows = corrected.init(params), []
    step = jax.jit(corrected.update)
    for gradients in STREAM:
        updates, state = step({name: jnp.asarray(g, jnp.float32) for name, g in gradients.items()}, state)
        params = optax.apply_updates(params, updates)
        rows.append(np.concatenate([np.asarray(params[name]).reshape(-1) for name in SHAPES]))
    assert (np.array(rows) == simulated(corrections.read(MIXED), "float32")).all()
    constant = graftsim_jax.corrections(dict.fromkeys(SHAPES, 1.0))
    assert constant.init(params) == optax.EmptyState()
