"""A sample of what the certificates of graftsim_jax stand for; all of it is renewed in CI."""

import jax
import jax.numpy as jnp
import pytest

import graftsim_jax
from graftsim_conformance import jax_adapter, suite
from graftsim_conformance.subjects import Asked
from graftsim_conformance.verdicts import Verdict

SAMPLE = {
    "Machines": ("lamb(bias_correction=on, weight_norm=plain)#rmsprop(eps_placement=outside)", "shampoo"),
    "Grafts": ("adam(eps_placement=corrected)#sgd", "graft(lamb(ratio_eps=0), sgd, partition=row)"),
}
CASES = "*.*i[xv]*"
"""The mixed streams, and divided groups."""


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFTSIM_CACHE", str(tmp_path))


def judged(kind: str, mode: str, dtype: str, only: str = CASES):
    return suite.run(Asked(f"graftsim_conformance.jax_adapter:{kind}", SAMPLE[kind], mode=mode, dtype=dtype, only=only))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mode", jax_adapter.MODES)
@pytest.mark.parametrize("kind", SAMPLE)
def test_a_sample_passes(kind: str, mode: str, dtype: str) -> None:
    report = judged(kind, mode, dtype)
    assert report.passed, "\n".join(report.lines())
    for claim in report.ran:
        assert not claim.unread
        assert claim.results
        assert not claim.unsupported
    assert kind == "Machines" or all(claim.composition for claim in report.ran)


def test_every_machine_is_judged_and_grafts_of_all_kinds() -> None:
    assert len(jax_adapter.Machines.machines) > 190
    grafts = " ".join(jax_adapter.Grafts.machines)
    for word in ("adam", "lamb", "rmsprop", "lion", "novograd", "decay_decoupled", "graft(graft(", "block(2)", "row"):
        assert word in grafts


def test_a_mistake_in_the_graft_is_found_in_its_composition(monkeypatch) -> None:
    """The ratio of sums of sizes in place of norms."""
    right = graftsim_jax.graft.__globals__["norms"]

    def wrong(groups, axis, *sides):
        with jax.enable_x64(True):
            return tuple(tuple(jnp.abs(x).astype("float64").sum() for x in leaves) for leaves in sides)

    monkeypatch.setitem(graftsim_jax.graft.__globals__, "norms", wrong)
    report = judged("Grafts", "", "float64", "graft-adam-sgd.mixed")
    assert not report.passed
    assert {one.verdict for claim in report.ran for one in claim.composition} == {Verdict.DIFFERENT}
    monkeypatch.setitem(graftsim_jax.graft.__globals__, "norms", right)
    assert judged("Grafts", "", "float64", "graft-adam-sgd.mixed").passed
