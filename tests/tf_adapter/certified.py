"""A sample of what the certificates of graftsim_tf stand for; all of it is renewed in CI."""

import os

from graftsim_conformance import suite, tf_adapter
from graftsim_conformance.subjects import Asked
from graftsim_conformance.verdicts import Verdict
from graftsim_tf import graft

SAMPLE = {
    "Machines": ("graft(momentum(form=heavy_ball, first_step=copy), adagrad(eps_placement=outside), partition=row)",),
    "Grafts": (
        "lion#sgd",
        "graft(lamb(bias_correction=on, weight_norm=plain, weight_decay=0, ratio_eps=0), sgd, partition=row)",
    ),
}


def judged(kind: str, mode: str, dtype: str, only: str = "*.[dg][ir][va]*"):
    """Over the ordinary edges, which are named grafted or divided."""
    return suite.run(Asked(f"graftsim_conformance.tf_adapter:{kind}", SAMPLE[kind], mode=mode, dtype=dtype, only=only))


def check_a_sample_passes(home) -> None:
    os.environ["GRAFTSIM_CACHE"] = str(home / "cache")
    for kind in SAMPLE:
        for mode in tf_adapter.MODES:
            report = judged(kind, mode, "float64")
            assert report.passed, "\n".join(report.lines())
            for claim in report.ran:
                assert claim.results
                assert not claim.unread
                assert not claim.unsupported, [one.reason for one in claim.unsupported]
                assert kind == "Machines" or claim.composition
    assert judged("Grafts", "compiled", "float32", "pair-lion-sgd.*").passed


def check_a_mistake_in_the_graft_is_found_in_its_composition(home) -> None:
    os.environ["GRAFTSIM_CACHE"] = str(home / "cache")
    right = graft._ratio
    graft._ratio = lambda n_m, n_d, eps: right(n_d, n_m, eps)
    try:
        report = judged("Grafts", "", "float64")
    finally:
        graft._ratio = right
    assert not report.passed
    assert Verdict.DIFFERENT in {one.verdict for claim in report.ran for one in claim.composition}


def check_every_machine_is_judged_and_grafts_of_all_kinds() -> None:
    assert len(tf_adapter.Machines.machines) > 190
    assert sum(tf_adapter.Machines.lawful(machine, "") for machine in tf_adapter.Machines.machines) > 30
    grafts = " ".join(tf_adapter.Grafts.machines)
    assert all(word in grafts for word in ("lion", "lamb", "sgd", "block(2)", "row", "pattern"))
