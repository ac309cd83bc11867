"""Single trials, zoos, sweeps and the sanity check A#SGD."""

import dataclasses
import json
import math

import numpy as np
import pytest

from graftsim import notation, problems, stepping
from graftsim.errors import GraftsimError
from graftsim.experiments import diagnosis, sweep, trials, zoo
from graftsim.experiments.diagnosis import Diagnosis, DiagnosisResult, Verdict
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.plans import LOSS, Plan, summarised
from graftsim.experiments.sweep import Sweep
from graftsim.experiments.trials import Outcome, Trial
from graftsim.experiments.zoo import Zoo
from graftsim.simulate import simulate

LOGISTIC = "logistic(batch=64)"
WILSON = "wilson(positives=23, negatives=17)"
EPS = "adagrad(lr=max(0.1, 0.01 * {eps}), eps={eps})"


# -- trials ------------------------------------------------------------------------------------------------------------


def test_an_outcome_is_that_of_the_simulator():
    trial = Trial(LOGISTIC, "adam(lr=0.1)#sgd", 10, seed=3, record_every=4, ratios=True)
    (found,) = trials.outcomes([trial], Ledger(None))
    run = simulate(LOGISTIC, "adam(lr=0.1)#sgd", 10, seed=3)
    assert found.steps == [0, 4, 8, 10]
    assert found.loss == run.loss[found.steps].tolist()
    assert found.measures == problems.parse(LOGISTIC).measures(run.last)
    assert found.ratios == {"ratio": run.info["ratio"][np.array([4, 8, 10]) - 1].tolist()}
    assert not found.diverged
    (plain,) = trials.outcomes([dataclasses.replace(trial, ratios=False)], Ledger(None))
    assert (plain.ratios, plain.weights) == (None, found.weights)
    (other,) = trials.outcomes([dataclasses.replace(trial, seed=4)], Ledger(None))
    assert other.weights != found.weights


def test_what_diverges_is_kept_and_survives_json(tmp_path):
    trial = Trial("quadratic(dimension=2)", "sgd(lr=1e9)", 60)
    with Ledger(tmp_path / "l.jsonl", "s") as ledger:
        (found,) = trials.outcomes([trial], ledger)
    assert found.diverged
    assert not math.isfinite(found.loss[-1])
    with Ledger(tmp_path / "l.jsonl", "s") as ledger:
        (again,) = trials.outcomes([trial], ledger)
    assert repr(again) == repr(found)
    json.dumps(dataclasses.asdict(found))


def test_long_runs_are_compiled_to_the_same_outcome(monkeypatch):
    trial = Trial("quadratic(dimension=3)", "adam(lr=0.1)", 30, record_every=7)
    slow = trials.run(**dataclasses.asdict(trial))
    used = []
    real = trials.simulate
    monkeypatch.setattr(stepping, "LONG", 30)
    monkeypatch.setattr(trials, "simulate", lambda *a, **more: used.append(more["engine"]) or real(*a, **more))
    assert trials.run(**dataclasses.asdict(trial)) == slow
    trials.run(**dataclasses.asdict(dataclasses.replace(trial, steps=29)))
    trials.run(**dataclasses.asdict(dataclasses.replace(trial, problem="rare(coordinates=4)")))  # it has no kernel
    monkeypatch.setattr(stepping, "LARGE", 60)
    trials.run(**dataclasses.asdict(dataclasses.replace(trial, problem="rare(coordinates=2)")))
    trials.run(**dataclasses.asdict(dataclasses.replace(trial, machine="full_adagrad", problem="rare(coordinates=2)")))
    assert used == ["compiled", "numpy", "numpy", "compiled", "numpy"]


def test_an_interrupted_run_is_no_outcome(monkeypatch):
    from graftsim.problems.quadratic import Quadratic

    def interrupted(self, weights, step, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(Quadratic, "gradients", interrupted)
    ledger = Ledger(None)
    with pytest.raises(KeyboardInterrupt):
        trials.outcomes([Trial("quadratic(dimension=2)", "sgd", 5)], ledger)
    assert len(ledger) == 0


def test_mistakes_are_found_before_anything_is_run(monkeypatch):
    monkeypatch.setattr(trials, "simulate", lambda *a, **more: pytest.fail("a run was begun"))
    good = Trial("rare", "sgd", 5)
    for bad in (
        Trial("rares", "sgd", 5),
        Trial("rare", "graft(sgd, sgd, partition=nothing)", 5),
        Trial("rare", "sgd", 0),
        Trial("rare", "sgd", 5, dtype="float16"),
    ):
        with pytest.raises(GraftsimError):
            trials.outcomes([good, bad], Ledger(None))


# -- zoos --------------------------------------------------------------------------------------------------------------


def test_under_one_m_the_rate_of_a_direction_is_nothing():
    """D's own scale does not matter, and for powers of two not in one bit."""
    found = zoo.run(
        Zoo(Plan(LOGISTIC, 12, 2), "adagrad(lr=0.1)", {"one": "momentum(lr=0.5)", "other": "momentum(lr=2)"}),
        Ledger(None),
    )
    for partition in ("global", "tensor"):
        one, other = (found.found[partition, label] for label in ("one", "other"))
        assert [run.weights for run in one] == [run.weights for run in other]
        spread = found.spread(partition)
        assert (spread.mean, spread.n) == (0, 2)
    assert found.spread(None).mean > 0.1
    assert len(found.found) == 1 + 2 + 4


def test_a_zoo_separates_directions():
    """Under Adam's steps Adam's own direction is Adam, and another's is not."""
    found = zoo.run(Zoo(Plan(LOGISTIC, 12, 2), "adam", {"adam": "adam", "sign": "signum"}, ("global",)), Ledger(None))
    alone, same, sign = found.found[()], found.found["global", "adam"], found.found["global", "sign"]
    assert [run.weights for run in alone] == [run.weights for run in same]
    assert all(a.weights != b.weights for a, b in zip(alone, sign, strict=True))
    assert found.spread("global").mean > 0


def test_no_spread_is_told_where_a_run_diverged():
    found = zoo.run(Zoo(Plan(LOGISTIC, 9, 2), "sgd", {"far": "sgd(lr=1e200)", "adam": "adam"}), Ledger(None))
    assert found.spread(None).text() == "diverged (2 of 2)"
    assert found.spread("global").diverged == 0


# -- sweeps ------------------------------------------------------------------------------------------------------------


def test_epsilon_leads_from_adagrad_to_sgd():
    """Figure 9 of the 2020 paper where it is exact: full-batch AdaGrad on Wilson's construction. At eps = 0 it ends on
    the sign ray, at a score of 1/4 for an unseen negative, and for large eps where gradient descent ends, -0.8682."""
    values = ("0", "1e-8", "1e-2", "1", "100", "1e4", "1e7")
    found = sweep.run(Sweep(Plan(WILSON, 300, 1, 300), EPS, "eps", values), Ledger(None))
    scores = [summarised(found.found[value], "score(-1)").mean for value in values]
    ray, span = found.predictions["sign ray"]["score(-1)"], found.predictions["row span"]["score(-1)"]
    assert scores[0] == pytest.approx(ray, abs=1e-14)
    assert scores == sorted(scores, reverse=True)
    assert [round(score, 3) for score in scores[3:6]] == [0.084, -0.814, -0.868]
    # 1 / (sqrt(a) + eps) leaves 1 / eps by the part sqrt(a) / eps at most, here below 60 / 1e7.
    assert scores[-1] == pytest.approx(span, abs=1e-5)
    assert round(span, 4) == -0.8682
    assert all(summarised(runs, LOSS).mean < 1e-28 for runs in found.found.values())


def test_a_hyperparameter_is_found_by_its_path():
    machine = "graft(adam(lr=0.1), sgd, eps=1)"
    plan = Plan("rare", 1, 1)
    for path, expected in {
        "eps": "graft(adam(lr=0.1), sgd, eps=7)",
        "magnitude.eps": "graft(adam(lr=0.1, eps=7), sgd, eps=1)",
        "direction.lr": "graft(adam(lr=0.1), sgd(lr=7), eps=1)",
    }.items():
        written = Sweep(plan, machine, path, ("7", "8")).machines()["7"]
        assert str(notation.parse(written)) == str(notation.parse(expected))
    schedule = Sweep(plan, "sgd", "lr", ("1/sqrt(step)", "1")).machines()
    assert str(notation.parse(schedule["1/sqrt(step)"])) == str(notation.parse("sgd(lr=1/sqrt(step))"))
    holes = Sweep(plan, "adam(lr={x})#sgd(lr={x})", "x", ("1", "2")).machines()
    assert holes == {"1": "adam(lr=1)#sgd(lr=1)", "2": "adam(lr=2)#sgd(lr=2)"}
    for path in ("beta", "magnitude.beta", "child.eps", "magnitude.", ""):
        with pytest.raises(GraftsimError, match="has no"):
            Sweep(plan, machine, path, ("1", "2")).machines()


def test_the_distance_of_curves():
    found = sweep.run(Sweep(Plan(LOGISTIC, 8, 2), "sgd", "lr", ("0.1", "0.10", "1")), Ledger(None))
    assert found.distance("0.10").mean == 0
    losses = [np.log10([run.loss for run in found.found[value]]) for value in ("0.1", "1")]
    assert found.distance("1").mean == pytest.approx(np.abs(losses[0] - losses[1]).max(axis=1).mean(), rel=1e-12)


# -- the sanity check --------------------------------------------------------------------------------------------------


def given(a, sgd, graft, distinct=True):
    """A diagnosis whose final losses are these, one a seed."""

    def runs(losses):
        return [
            Outcome([0, 1], [9.0, loss], {}, not math.isfinite(loss), str(seed if distinct else 0))
            for seed, loss in enumerate(losses)
        ]

    asked = Diagnosis(Plan("rare", 1, len(a)), "adam", ("sgd",), ("global",))
    return DiagnosisResult(asked, {(): runs(a), ("sgd",): runs(sgd), ("global", "adam"): runs(graft)})


CASES = {
    "all of the gain": ([0.1] * 5, [1.0] * 5, [0.1] * 5, Verdict.STEP_SIZE),
    "none of the gain": ([0.1] * 5, [1.0] * 5, [1.0] * 5, Verdict.DIRECTION),
    "a graft that diverges": ([0.1] * 5, [1.0] * 5, [math.nan] * 5, Verdict.DIRECTION),
    "no gain": ([1.0] * 5, [0.1] * 5, [1.0] * 5, Verdict.NO_GAIN),
    "A diverges": ([math.nan] * 5, [0.1] * 5, [1.0] * 5, Verdict.NO_GAIN),
    "equal": ([1.0] * 5, [1.0] * 5, [1.0] * 5, Verdict.NO_GAIN),
    "a gain on some seeds": ([0.1] * 3 + [1.0] * 2, [0.5] * 5, [0.1] * 5, Verdict.UNDECIDED),
    "closed on some seeds": ([0.1] * 5, [1.0] * 5, [0.1] * 3 + [1.0] * 2, Verdict.UNDECIDED),
    "four seeds": ([0.1] * 4, [1.0] * 4, [0.1] * 4, Verdict.UNDECIDED),
    "one seed": ([0.1], [1.0], [0.1], Verdict.UNDECIDED),
    "one seed without gain": ([1.0], [0.1], [1.0], Verdict.UNDECIDED),
    "SGD diverges": ([0.1] * 5, [math.inf] * 5, [0.1] * 5, Verdict.UNDECIDED),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_over_seeds(case):
    a, sgd, graft, expected = CASES[case]
    assert given(a, sgd, graft).verdict("global") is expected


def test_one_run_many_times_is_one_seed():
    assert given([0.1] * 5, [1.0] * 5, [0.1] * 5, distinct=False).verdict("global") is Verdict.UNDECIDED


def test_the_part_of_the_gap():
    found = given([0.01, 0.01, 2.0], [1.0] * 3, [0.1, 1.0, 0.1]).closed("global")
    assert found[:2] == pytest.approx([0.5, 0], abs=1e-15)
    assert math.isnan(found[2])  # a seed without a gain has no gap
    assert given([0.01, 0.01, 2.0], [1.0] * 3, [0.1, 1.0, 0.1]).gap("global").n == 2


def test_adagrad_on_rare_coordinates_is_its_step_size():
    """All directions are one there (constructions, D.1), so that AdaGrad#SGD is AdaGrad."""
    baselines = ("sgd(lr=0.1/sqrt(step))", "sgd(lr=1/sqrt(step))")
    asked = Diagnosis(Plan("rare(coordinates=40)", 20, 5, 20), "adagrad(lr=1, eps=0)", baselines)
    found = diagnosis.run(asked, Ledger(None))
    assert found.baseline == baselines[1]
    for partition in ("global", "tensor"):
        assert found.closed(partition) == pytest.approx([1] * 5, abs=1e-12)
        assert found.verdict(partition) is Verdict.STEP_SIZE
