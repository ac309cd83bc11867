"""A sample of what the certificates of graftsim_tf stand for; all of it is renewed in CI."""

import os

import keras

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


COUNTED = "graft(adam(eps_placement=hat, missing=advance), lion, partition=global)"


def missing(machine: str = COUNTED):
    asked = Asked("graftsim_conformance.tf_adapter:Grafts", (machine,), dtype="float64", only="*.missing*")
    return suite.run(asked)


def check_missing_gradients_are_judged(home) -> None:
    os.environ["GRAFTSIM_CACHE"] = str(home / "cache")
    (claim,) = missing().ran
    assert claim.passed, "\n".join(missing().lines())
    assert {one.case for one in claim.results} == {
        f"keras-missing-global.missing{edge}" for edge in ("", "-zero", "_first", "_first-zero")
    }
    assert len(claim.composition) == 4


def check_a_missing_gradient_that_is_taken_for_a_zero_is_found(home) -> None:
    os.environ["GRAFTSIM_CACHE"] = str(home / "cache")
    right = graft.Graft.apply

    def filled(self, grads, trainable_variables=None):
        pairs = zip(grads, trainable_variables, strict=True)
        given = [keras.ops.zeros_like(variable) if grad is None else grad for grad, variable in pairs]
        right(self, given, trainable_variables)

    graft.Graft.apply = filled
    try:
        report = missing()
    finally:
        graft.Graft.apply = right
    assert not report.passed
    assert Verdict.DIFFERENT in {one.verdict for claim in report.ran for one in claim.results}


def check_missing_gradients_are_not_declared_where_a_counter_should_hold() -> None:
    assert tf_adapter.Grafts(COUNTED).abilities == ("missing",)
    assert tf_adapter.Grafts("adam(eps_placement=hat)#sgd").abilities == ()


def check_every_machine_is_judged_and_grafts_of_all_kinds() -> None:
    assert len(tf_adapter.Machines.machines) > 190
    grafts = " ".join(tf_adapter.Grafts.machines)
    assert all(
        word in grafts
        for word in ("adam", "rmsprop", "adadelta", "momentum", "lion", "lamb", "sgd", "block(2)", "row", "pattern")
    )
