"""The documented example trains, and its files can be read; the benchmark measures."""

import runpy
from pathlib import Path

from graftsim import trajectory
from graftsim.bench import jax_adapter
from graftsim.bench.cases import Case
from graftsim_jax import corrections
from graftsim_jax.benchmark import ratios

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "train_digits_jax.py"


def test_the_digits_for_a_few_steps(tmp_path, capsys) -> None:
    example = runpy.run_path(str(EXAMPLE))
    example["main"](12, tmp_path)
    out = capsys.readouterr().out
    assert all(f"{name} " in out for name in ("sgd", "adam", "adam#sgd", "sgd, corrected"))
    record = trajectory.load(tmp_path / "digits.npz")
    assert record.info["ratio"].shape == (12, 6)
    assert record.loss[11] < record.loss[0]
    # behind a last layer of zeros nothing has a gradient at the first step
    idle = dict(zip(record.meta.groups["n_d"], record.info["n_d"][0] == 0, strict=True))
    assert idle == {name: not name.startswith("layer2") for name in idle}
    corrections(tmp_path / "corrections.yaml").init(example["parameters"]())


def test_the_benchmark_gives_quotients() -> None:
    found = ratios(coordinates=1000, tensors=2, repeats=2)
    assert set(found) == {"graft/both", "graft/adam", "milliseconds"}
    assert all(value > 0 for value in found.values())


def test_the_benchmark_s_field_checks_the_graft_it_times() -> None:
    field = jax_adapter.prepare(Case("jax", {"size": 1000, "tensors": 2, "adam_lr": 1e-3}), 1)
    assert 0 < field.check()["graft(adam, sgd)"] <= 2.0**-23
    assert len(field.contestants) == 4
    assert not field.absent
