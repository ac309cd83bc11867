"""Search with equal budgets, and transfer: spaces, points, budgets, ask and tell, the gap, and the command."""

import dataclasses
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, qmc

from graftsim import GraftsimError, documents, notation
from graftsim.experiments import trials
from graftsim.experiments.jobs import Job
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.search import gap, metrics, points, spaces
from graftsim.experiments.search import transfer as transfers
from graftsim.experiments.search.budget import Accounts, Budget
from graftsim.experiments.search.grafting import SCALE, grafted, rule
from graftsim.experiments.search.metrics import Metric
from graftsim.experiments.search.parameters import Choices, Range
from graftsim.experiments.search.spaces import Space
from graftsim.experiments.search.study import Study
from graftsim.experiments.trials import Outcome, Trial

LOSS, DISTANCE = Metric("loss", highest=False), Metric("distance", highest=False)
ACCURACY = Metric("selection accuracy", highest=True)
SGD = Space("wild", "sgd(lr={lr})", {"lr": Range(1e-3, 1e13, log=True)}, "lr")
MOMENTUM = Space(
    "heavy",
    "momentum(lr={lr}, momentum={momentum})",
    {"lr": Range(1e-3, 10, log=True), "momentum": Range(0.1, 0.9, log=False)},
    "lr",
)
ADAM = Space(
    "adam", "adam(lr={lr}, beta1={beta1})", {"lr": Range(1e-3, 1, True), "beta1": Range(0.1, 1, True, True)}, "lr"
)
BASE = Trial("quadratic(dimension=4)", "", 24, 0, "float64", 12)


def plan(**changes):
    chosen = transfers.Plan(BASE, ADAM, MOMENTUM, 4, 3, LOSS, DISTANCE)
    return dataclasses.replace(chosen, **changes)


def outcome(value=0.5, diverged=False, steps=24, name="selection accuracy"):
    return Outcome([0, steps], [1.0, math.nan if diverged else 0.1], {name: value}, diverged, "")


@pytest.fixture
def done(monkeypatch):
    """The training runs that are really done."""
    seen = []
    real = trials._run
    monkeypatch.setattr(trials, "_run", lambda trial: seen.append(trial) or real(trial))
    return seen


class TestSpaces:
    @pytest.mark.parametrize("name", spaces.names())
    def test_every_file_is_a_machine_all_over_its_cube(self, name):
        space = spaces.load(name)
        assert space.name == name
        for corner in (0.0, 0.3, 0.5, 0.999, 1.0):
            values = space.at([corner] * space.dimensions)
            assert space.checked(values) == values
            notation.parse(space.filled(values, 1000))

    def test_the_table_of_the_2021_paper(self):
        """Table 3, as printed; A.1 sets the power to 1 at batch size 32K."""
        rate, decay = Range(1e-5, 1.0, log=True), Range(1e-6, 1e-3, log=True)
        beta, power = Range(1e-3, 0.5, log=True, one_minus=True), Choices((1.0, 2.0))
        adam = {"lr": rate, "beta1": beta, "beta2": beta, "weight_decay": decay}
        sgd = {"lr": rate, "momentum": beta, "weight_decay": decay}
        for name, table in (("adam", adam), ("sgd", sgd)):
            assert dict(spaces.load(f"bert-{name}-8k").parameters) == {"power": power, **table}
            assert dict(spaces.load(f"bert-{name}-32k").parameters) == table
            assert "eps=1e-11" in spaces.load(f"bert-{name}-8k").machine or name == "sgd"

    def test_the_weight_decays_that_were_used_are_a_space_of_their_own(self):
        """The ends of the trials of Tables 7 and 11 (Adam) and 8 (SGD)."""
        for name, ends in (("bert-adam-used", (0.001138, 7.421835)), ("bert-sgd-used", (0.001704, 4.299596))):
            for end in ends:
                assert end in spaces.load(name).parameters["weight_decay"]
                assert end not in spaces.load(name.replace("used", "8k")).parameters["weight_decay"]

    def test_where_only_the_rate_is_tuned(self):
        for name in ("imagenet-adagrad-2021", "cifar-adagrad-2021", "imagenet-adagrad-2020"):
            assert list(spaces.load(name).parameters) == ["lr"]

    @given(st.floats(0, 1), st.booleans(), st.booleans())
    def test_values_lie_in_the_range_and_are_short(self, unit, log, one_minus):
        row = Range(1e-3, 0.5, log, one_minus)
        value = row.at(unit)
        assert value in row
        drawn = 1 - value if one_minus else value
        assert f"{drawn:.6g}" == f"{drawn:.9g}"
        assert f"{value!r}" == repr(float(f"{value:.9g}"))

    def test_the_middle_of_a_logarithmic_range_is_the_geometric_mean(self):
        assert Range(1e-4, 1, log=True).at(0.5) == 0.01
        assert Range(0.1, 0.3, log=False).at(0.5) == 0.2
        assert Range(1e-3, 0.1, log=True, one_minus=True).at(0.5) == 0.99
        assert [Choices((1.0, 2.0)).at(unit) for unit in (0, 0.49, 0.5, 1)] == [1, 1, 2, 2]

    def test_lengths_of_a_run(self):
        space = spaces.load("bert-adam-8k")
        assert space.lengths(600) == {"steps": 600, "warmup": 60, "decay": 540}
        assert "polynomial_warmup(steps=60, power=1) * polynomial_decay(steps=540, power=1, begin=60)" in space.filled(
            space.at([0.1] * 5), 600
        )
        assert spaces.load("imagenet-sgd-2021").lengths(900)["epoch"] == 10

    def test_a_machine_with_its_settings_has_nothing_to_tune(self):
        space = spaces.load("adam(lr=0.1)#sgd")
        assert (space.dimensions, space.filled({}, 10)) == (0, "adam(lr=0.1)#sgd")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"machine": "sgd(lr={lrr})"}, r"\{lrr\}, which is no parameter; did you mean 'lr'"),
            ({"machine": "sgd(lr=1)"}, r"no \{lr\}, although lr is a parameter"),
            ({"machine": "sgd(rate={lr})"}, "sgd has no 'rate'"),
            ({"machine": "sgd(lr=-{lr})"}, "must lie in"),
            ({"machine": "sgd(lr={lr.__class__})"}, "is no parameter"),
            ({"machine": "sgd(lr={lr} * linear_warmup(steps={warmup}))"}, r"\{warmup\}, which is no parameter"),
            ({"rate": "eta"}, "the rate must be one of the parameters"),
            ({"parameters": {}}, "parameters"),
            ({"parameters": {"lr": {"range": [0, 1], "scale": "log"}}}, "must be positive and rise"),
            ({"parameters": {"lr": {"range": [1, 1], "scale": "linear"}}}, "must rise"),
            ({"parameters": {"lr": {"range": [1, 2]}}}, "parameters.lr"),
            ({"parameters": {"lr": {"choices": [1, 1]}}}, "parameters.lr"),
            ({"parameters": {"steps": {"choices": [1]}}, "machine": "sgd(lr={steps})", "rate": "steps"}, "is a length"),
            ({"seed": 3}, "'seed' was unexpected"),
        ],
    )
    def test_a_bad_file_gets_one_line(self, tmp_path, change, message):
        document = {
            **{"search": "mine", "title": "t", "source": "s", "machine": "sgd(lr={lr})", "rate": "lr"},
            **{"parameters": {"lr": {"range": [1e-3, 1], "scale": "log"}}},
        }
        path = tmp_path / "mine.yaml"
        path.write_text(json.dumps(document))
        assert spaces.load(path).name == "mine"
        path.write_text(json.dumps({**document, **change}))
        with pytest.raises(GraftsimError, match=message) as caught:
            spaces.load(str(path))
        assert "\n" not in str(caught.value)
        assert "mine.yaml" in str(caught.value)

    def test_unknown_names(self):
        with pytest.raises(GraftsimError, match="unknown search 'momentun'; did you mean 'momentum'"):
            spaces.load("momentun")
        with pytest.raises(GraftsimError, match="unknown machine"):
            spaces.load("adamm(lr=1)")
        with pytest.raises(GraftsimError, match="must be 2 numbers from 0 to 1"):
            MOMENTUM.at([0.5, 1.5])


PRIMES = (2, 3, 5, 7, 11)
GOLDEN_SHIFT = ["0x1.3f0cebea63e80p-8", "0x1.051acbbf39660p-5"]
GOLDEN_POINT = [0.504868323895, 0.36520646217]


def van_der_corput(number, base):
    """The radical inverse, exactly."""
    found, place = Fraction(0), Fraction(1, base)
    while number:
        number, digit = divmod(number, base)
        found, place = found + digit * place, place / base
    return found


class TestPoints:
    def test_halton_is_the_radical_inverse_in_each_prime(self):
        """A sum of k rounded terms below 1 is off by less than k + 1 units of 2^-53; 1000 has at most 10 digits."""
        for number in (0, 1, 2, 3, 7, 100, 1000):
            for got, base in zip(points.halton(5, number), PRIMES, strict=True):
                assert abs(Fraction(got) - van_der_corput(number, base)) <= Fraction(11, 2**53)
        assert points.halton(2, 1) == [1 / 2, 1 / 3]

    def test_points_are_shifted_modulo_1_after_the_skip(self):
        shift = points.shift(3, 7)
        for index in range(20):
            at = points.halton(3, index + points.SKIP)
            assert points.point(3, index, 7) == [(x + by) % 1 for x, by in zip(at, shift, strict=True)]
        assert points.SKIP == 1

    def test_golden(self):
        """What seed 0 gives, in bits; another version of numpy or of this module must not give anything else."""
        assert [x.hex() for x in points.shift(2, 0)] == GOLDEN_SHIFT
        assert points.shift(5, 0)[:2] == points.shift(2, 0)
        assert [round(x, 12) for x in points.point(2, 0, 0)] == GOLDEN_POINT

    def test_the_discrepancy_is_below_that_of_independent_points(self):
        found = qmc.discrepancy(np.array(points.points(4, 64, 3, Ledger())))
        independent = [qmc.discrepancy(np.random.default_rng(seed).random((64, 4))) for seed in range(20)]
        assert found < min(independent)

    def test_every_stretch_of_a_rate_is_searched(self):
        """Of 2^k successive points, one lies in each of 2^k equal parts of the circle."""
        xs = [point[0] for point in points.points(1, 16, 5, Ledger())]
        assert sorted(np.floor(16 * ((np.array(xs) - points.shift(1, 5)[0]) % 1) + 1e-9).astype(int)) == list(range(16))

    def test_the_ledger_s_points_are_read_and_never_drawn_again(self, tmp_path, monkeypatch):
        path = tmp_path / "l.jsonl"
        with Ledger(path) as ledger:
            first = points.points(2, 3, 1, ledger)
        monkeypatch.setattr(points, "halton", lambda dimensions, number: [0.25, 0.75])  # another scipy
        with Ledger(path) as ledger:
            again = points.points(2, 4, 1, ledger)
        assert again[:3] == first
        assert again[3] == tuple((x + by) % 1 for x, by in zip((0.25, 0.75), points.shift(2, 1), strict=True))

    @pytest.mark.parametrize("row", [[0.1], [0.1, 1.0], [0.1, math.nan], "ab", [0.1, None]])
    def test_a_ledger_that_holds_something_else_is_refused(self, row):
        ledger = Ledger()
        ledger.add(Job("graftsim.experiments.search.points:point", {"dimensions": 2, "index": 0, "seed": 0}), row)
        with pytest.raises(GraftsimError, match=r"a point in the ledger must be 2 numbers in \[0, 1\)"):
            points.points(2, 1, 0, ledger)

    def test_sizes_are_bounded(self):
        for dimensions, count in ((0, 1), (21, 1), (1, 0), (1, 100_001)):
            with pytest.raises(GraftsimError, match="1 to 20 dimensions"):
                points.points(dimensions, count, 0, Ledger())


class TestBudgets:
    def test_unequal_budgets_are_refused(self):
        accounts = Accounts(Budget(2, 100))
        accounts.spend("D", 100)
        accounts.spend("D", 100)
        accounts.spend("M#D", 100)
        with pytest.raises(
            GraftsimError, match=r"equal budgets, 2 trials of 100 steps for each of D, M#D; M#D has had 1"
        ):
            accounts.settle("D", "M#D")
        with pytest.raises(GraftsimError, match="D: the budget of 2 trials of 100 steps is spent"):
            accounts.spend("D", 100)
        with pytest.raises(GraftsimError, match="M#D: every trial must have 100 steps; received one of 200"):
            accounts.spend("M#D", 200)
        accounts.spend("M#D", 100)
        accounts.settle("D", "M#D")
        assert accounts.spent == {"D": 2, "M#D": 2}

    def test_a_budget_is_of_something(self):
        for trials_, steps in ((0, 1), (1, 0)):
            with pytest.raises(GraftsimError, match="at least 1"):
                Budget(trials_, steps)


class TestMetrics:
    def test_which_end_is_good(self):
        assert metrics.parse("test accuracy") == Metric("test accuracy", highest=True)
        assert metrics.parse("selection loss") == Metric("selection loss", highest=False)
        assert metrics.parse("min distance") == DISTANCE
        assert metrics.parse("max score(+1)") == Metric("score(+1)", highest=True)
        for text in ("distance", "", "max"):
            with pytest.raises(GraftsimError, match="which end is good"):
                metrics.parse(text)

    @pytest.mark.parametrize(
        ("metric", "worst"), [(ACCURACY, 0.0), (LOSS, math.inf), (Metric("score", True), -math.inf)]
    )
    def test_a_diverged_trial_counts_as_the_worst(self, metric, worst):
        name = metric.name if metric.name != "loss" else "selection accuracy"
        assert metric.of(outcome(0.9, diverged=True, name=name)) == worst
        if metric is not LOSS:
            assert metric.of(outcome(math.nan, name=name)) == worst
            assert metric.of(outcome(0.25, name=name)) == 0.25

    def test_the_loss_is_the_last(self):
        assert LOSS.of(outcome()) == 0.1
        with pytest.raises(GraftsimError, match="no measure 'selection accurac'; did you mean 'selection accuracy'"):
            Metric("selection accurac", highest=True).of(outcome())

    def test_nobody_selects_by_what_is_reported(self):
        with pytest.raises(GraftsimError, match="must be different measures; both are 'test accuracy'"):
            metrics.check_apart(metrics.parse("test accuracy"), metrics.parse("max test accuracy"))


class TestStudy:
    def study(self, count=4, space=MOMENTUM, select=ACCURACY):
        return Study("D", space, BASE, select, Accounts(Budget(count, 24)), Ledger(), seed=3)

    def test_it_asks_for_its_points_in_order(self):
        study = self.study()
        asked = [study.ask() for _ in range(4)]
        drawn = points.points(2, 4, 3, Ledger())
        assert [row.values for row in asked] == [MOMENTUM.at(point) for point in drawn]
        assert asked[1].trial == dataclasses.replace(BASE, machine=MOMENTUM.filled(asked[1].values, 24))
        with pytest.raises(GraftsimError, match="budget of 4 trials of 24 steps is spent"):
            study.ask()

    def test_another_tuner_drives_it(self):
        """A climb by chance, with real training runs: each proposal depends on what was told."""
        study, luck = self.study(6, select=LOSS), random.Random(0)
        values = {"lr": 0.01, "momentum": 0.5}
        for _ in range(6):
            proposal = study.ask(values)
            study.tell(proposal, trials.outcomes([proposal.trial], Ledger())[0])
            values = {**study.best.proposal.values, "lr": study.best.proposal.values["lr"] * luck.choice((0.5, 2.0))}
        assert len(study.told) == 6
        assert study.best.metric == min(row.metric for row in study.told) < study.told[0].metric

    def test_values_that_are_refused_cost_nothing(self):
        study = self.study(1)
        for values, message in [
            ({"lr": 0.1}, "needs a value for each of lr, momentum; momentum is missing"),
            ({"lr": 0.1, "momentun": 0.5}, "has no parameter 'momentun'; did you mean"),
            ({"lr": 100, "momentum": 0.5}, r"heavy, lr: must lie in \[0.001, 10\], log; received 100"),
            ({"lr": math.nan, "momentum": 0.5}, "received nan"),
        ]:
            with pytest.raises(GraftsimError, match=message):
                study.ask(values)
        assert study.accounts.spent == {}
        study.ask({"lr": 0.1, "momentum": 0.5})

    def test_diverged_trials_are_kept_and_never_the_best(self):
        study = self.study()
        asked = [study.ask() for _ in range(4)]
        rows = [outcome(0.9, diverged=True), outcome(0.0), outcome(math.nan), outcome(0.9, diverged=True)]
        for proposal, row in reversed(list(zip(asked, rows, strict=True))):  # in any order
            study.tell(proposal, row)
        assert [row.metric for row in study.told] == [0.0, 0.0, 0.0, 0.0]
        assert [row.diverged for row in study.told] == [True, False, False, True]
        assert study.best.proposal == asked[1]  # the first of equals

    def test_where_all_diverged_the_best_says_so(self):
        study = self.study(2)
        for _ in range(2):
            study.tell(study.ask(), outcome(diverged=True))
        assert study.best.diverged
        assert study.best.metric == 0

    def test_what_may_not_be_told(self):
        study, other = self.study(), self.study(1)
        with pytest.raises(GraftsimError, match="no trial was told"):
            _ = study.best
        one = study.ask()
        with pytest.raises(GraftsimError, match="a proposal that this study asked for"):
            study.tell(dataclasses.replace(other.ask(), values={}), outcome())
        with pytest.raises(GraftsimError, match="must have 24 steps; received one of 240"):
            study.tell(one, outcome(steps=240))
        study.tell(one, outcome())
        with pytest.raises(GraftsimError, match="told before"):
            study.tell(one, outcome())


class TestGrafting:
    values = ADAM.at([0.5, 0.5])

    def test_the_papers_rule(self):
        """A.2, A.3: AdaGrad has nothing but its rate, so that M's is tuned; A.1: else the overall factor is."""
        assert rule(spaces.load("adagrad")) == rule(spaces.load("imagenet-adagrad-2021")) == "magnitude"
        assert rule(spaces.load("bert-sgd-8k")) == rule(MOMENTUM) == "scale"

    def test_m_s_rate_is_open_and_the_rest_of_m_fixed(self):
        space = grafted(ADAM, self.values, SGD, 120, "global", "magnitude")
        assert space.parameters == {"magnitude_lr": ADAM.parameters["lr"]}
        assert (
            space.filled({"magnitude_lr": 0.5}, 120)
            == "graft(adam(lr=0.5, beta1=0.683772), sgd(lr=1), partition=global)"
        )

    def test_an_overall_factor_takes_the_place_of_d_s_rate(self):
        space = grafted(ADAM, self.values, MOMENTUM, 120, "tensor", "scale")
        assert space.parameters == {"scale": SCALE, "momentum": MOMENTUM.parameters["momentum"]}
        assert space.filled({"scale": 2, "momentum": 0.25}, 120) == (
            "graft(adam(lr=0.0316228, beta1=0.683772), momentum(lr=1, momentum=0.25), partition=tensor, scale=2)"
        )
        assert SCALE.at(0.5) == 1

    def test_nothing_takes_it(self):
        space = grafted(ADAM, self.values, MOMENTUM, 120, "tensor", "none")
        assert list(space.parameters) == ["momentum"]
        assert space.rate is None

    def test_the_lengths_are_those_of_each_one_s_own_space(self):
        m, d = spaces.load("imagenet-sgd-2021"), spaces.load("bert-sgd-8k")
        text = grafted(m, m.at([0.5]), d, 900, "tensor", "scale")
        found = text.filled(text.at([0.5] * text.dimensions), 900)
        assert "steps_per_epoch=10" in found
        assert "polynomial_warmup(steps=90" in found
        notation.parse(found)

    @pytest.mark.parametrize(
        ("m", "d", "rate", "message"),
        [
            (ADAM, MOMENTUM, "scales", "one of scale, magnitude, none; received 'scales'; did you mean 'scale'"),
            (ADAM, SGD, "none", "nothing is left to tune: wild has only its learning rate"),
            (spaces.load("adam(lr=0.1)"), SGD, "magnitude", "give M as a search space with a rate"),
            (
                ADAM,
                dataclasses.replace(MOMENTUM, parameters={"lr": SCALE, "scale": SCALE}),
                "scale",
                "may be named scale",
            ),
        ],
    )
    def test_what_cannot_be_tuned(self, m, d, rate, message):
        with pytest.raises(GraftsimError, match=message):
            grafted(m, m.at([0.5] * m.dimensions), d, 120, "tensor", rate)


class TestGap:
    def found(self, m, d, both, highest=True):
        return gap.Gap(Metric("x", highest), tuple(m), tuple(d), tuple(both))

    def test_the_share_of_the_means(self):
        assert self.found([0.9, 0.8], [0.5, 0.4], [0.8, 0.7]).closed == pytest.approx(0.75, abs=1e-15)
        assert self.found([1.0, 1.0], [3.0, 3.0], [2.5, 2.5], highest=False).closed == 0.25
        assert self.found([0.9], [0.5], [0.4]).closed == pytest.approx(-0.25, abs=1e-15)
        assert math.isnan(self.found([0.5], [0.5], [0.9]).closed)
        assert math.isnan(self.found([0.4], [0.5], [0.9]).closed)
        assert math.isnan(self.found([1.0], [math.inf], [2.0], highest=False).closed)

    def test_signs_by_hand(self):
        found = self.found([9, 9, 9, 9, 9], [1, 1, 1, 9, 10], [6, 5, 0, 9, 9])
        assert found.there == gap.Signs(3, 1, 1)
        assert found.gained == gap.Signs(2, 2, 1)
        assert found.half == gap.Signs(1, 2, 2)  # seed 4: the middle is 9.5, above M#D; seeds 2 and 4 are ties

    @given(st.integers(0, 40), st.integers(0, 40))
    def test_the_p_is_the_exact_binomial_one(self, wins, losses):
        expected = binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
        assert gap.Signs(wins, losses, 3).p == pytest.approx(expected, rel=1e-9)

    def test_a_d_that_diverged_is_beaten(self):
        found = self.found([1.0] * 5, [math.inf] * 5, [2.0] * 5, highest=False)
        assert found.half.wins == found.there.wins == 5

    def test_verdicts(self):
        def of(m, d, both, n=5):
            return self.found([m] * n, [d] * n, [both] * n).verdict

        for n in (1, 2, 3, 4):
            assert of(0.9, 0.1, 0.9, n).startswith(f"not decidable from {n} seed{'s' * (n > 1)}: a sign test")
        assert of(0.9, 0.1, 0.8).startswith("transfer:")
        assert of(0.9, 0.1, 0.3).startswith("some transfer:")
        assert of(0.9, 0.1, 0.1).startswith("no transfer is shown")
        assert of(0.9, 0.1, 0.05).startswith("no transfer is shown")
        assert of(0.1, 0.9, 0.9).startswith("no gap to close")
        assert of(0.5, 0.5, 0.9).startswith("no gap to close")
        assert gap.fewest() == 5


class TestTransfer:
    def test_the_protocol(self):
        """M is tuned; D and M#D have equal trials at equal points, M at its best; the seeds of the report are new."""
        found = transfers.transfer(plan(), Ledger())
        assert [len(arm.told) for arm in found.arms] == [4, 4, 4]
        assert {row.proposal.trial.steps for arm in found.arms for row in arm.told} == {24}
        assert {row.proposal.trial.seed for arm in found.arms for row in arm.told} == {0}
        best = min(found.m.told, key=lambda row: row.metric)
        assert found.m.best == best
        assert all(f"graft({best.proposal.trial.machine}, " in row.proposal.trial.machine for row in found.grafted.told)
        d, both = ([row.proposal.values["momentum"] for row in arm.told] for arm in (found.d, found.grafted))
        assert d == both
        again = [dataclasses.replace(found.grafted.best.proposal.trial, seed=seed) for seed in (1, 2, 3)]
        rows = trials.outcomes(again, Ledger())
        assert found.grafted.report == tuple(row.measures["distance"] for row in rows)

    def test_a_magnitude_that_is_given_is_not_searched(self):
        found = transfers.transfer(plan(magnitude=spaces.load("adam(lr=0.1)")), Ledger())
        assert [len(arm.told) for arm in found.arms] == [1, 4, 4]
        assert "graft(adam(lr=0.1), " in found.grafted.best.proposal.trial.machine

    def test_d_s_rate_cannot_be_seen(self):
        """Why something takes its place: powers of two in it change no bit of M#D."""
        machines = [f"graft(adam(lr=0.1), momentum(lr={lr}, momentum=0.5))" for lr in (1, 2.0**-20)]
        one, other = trials.outcomes([dataclasses.replace(BASE, machine=machine) for machine in machines], Ledger())
        assert one.weights == other.weights

    def test_diverged_trials_are_counted_and_cost_the_same(self):
        found = transfers.transfer(plan(direction=SGD, trials=8), Ledger())
        assert len(found.d.told) == 8
        assert 0 < found.d.diverged < 8
        assert all(row.metric == math.inf for row in found.d.told if row.diverged)
        assert not found.d.best.diverged
        assert found.plan.rule == "magnitude"

    def test_a_direction_that_never_trains_is_the_worst(self):
        wild = dataclasses.replace(SGD, parameters={"lr": Range(1e10, 1e12, log=True)})
        found = transfers.transfer(plan(direction=wild), Ledger())
        assert found.d.diverged == 4
        assert found.d.report == (math.inf,) * 3
        assert found.gap.half.wins == 3
        with pytest.raises(GraftsimError, match="M must train: every one of 4 trials of wild diverged"):
            transfers.transfer(plan(magnitude=wild), Ledger())

    def test_it_stops_and_goes_on_with_nothing_done_twice(self, tmp_path, done):
        whole = transfers.transfer(plan(), Ledger())
        everything, path = len(done), tmp_path / "l.jsonl"
        done.clear()

        def stop(count):
            if count == 9:
                raise KeyboardInterrupt

        with Ledger(path) as ledger, pytest.raises(KeyboardInterrupt):
            transfers.transfer(plan(), ledger, progress=stop)
        assert len(done) == 9
        with Ledger(path) as ledger:
            again = transfers.transfer(plan(), ledger)
        assert len(done) == everything == 3 * 4 + 3 * 3
        assert again == whole

    def test_a_larger_budget_begins_with_the_same_points(self, tmp_path, done):
        with Ledger(tmp_path / "l.jsonl") as ledger:
            small = transfers.transfer(plan(trials=2), ledger)
            large = transfers.transfer(plan(trials=4), ledger)
        for one, other in zip(small.arms[:2], large.arms[:2], strict=True):
            assert other.told[:2] == one.told
        assert len(done) == len({trial.job().id for trial in done})

    def test_the_progress_counts_every_trial(self):
        seen = []
        transfers.transfer(plan(), Ledger(), progress=seen.append)
        assert seen[-1] == plan().jobs == 21
        assert seen == sorted(seen)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"report": Metric("loss", highest=False)}, "must be different measures"),
            ({"select": ACCURACY}, r"quadratic.* has no measure 'selection accuracy'"),
            ({"direction": spaces.load("sgd(lr=0.1)")}, "the direction must be a search space, such as 'momentum'"),
            ({"seeds": 0}, "seeds must be from 1 to 1000; received 0"),
            ({"trials": 0}, "at least 1 of trials; received 0"),
            ({"rate": "scales"}, "received 'scales'"),
            ({"partition": "layers"}, "layers"),
            ({"base": dataclasses.replace(BASE, dtype="float8")}, "float8"),
            ({"base": dataclasses.replace(BASE, seed=2**64 - 3)}, "seed: must be an integer from 0"),
        ],
    )
    def test_mistakes_are_found_before_anything_is_run(self, changes, message, done):
        with pytest.raises(GraftsimError, match=message) as caught:
            transfers.transfer(plan(**changes), Ledger())
        assert "\n" not in str(caught.value)
        assert not done


QUADRATIC = ("--problem", "quadratic(dimension=4)", "--steps", "20", "--select", "loss", "--report", "min distance")
SMALL = ("transfer", *QUADRATIC, "--m", "adam", "--d", "momentum", "--budget", "3")


class TestCommand:
    @pytest.fixture
    def run(self, run, own_cache):
        return run

    def test_it_prints_writes_and_draws(self, run, tmp_path):
        code, out, err = run(*SMALL, "--seeds", "5", "--json", "r.json", "--plot", "r.svg")
        assert (code, err) == (0, "")
        for text in ("3 trials of 20 steps each for D and M#D", "best loss", "distance", "verdict:", "n = 5", "p = "):
            assert text in out
        document = documents.read_json(tmp_path / "r.json")
        assert [len(document["arms"][arm]["trials"]) for arm in ("M", "D", "M#D")] == [3, 3, 3]
        assert len(document["arms"]["M#D"]["report"]) == 5
        first = (tmp_path / "r.svg").read_bytes()
        assert run(*SMALL, "--seeds", "5", "--plot", "r.svg")[0] == 0
        assert (tmp_path / "r.svg").read_bytes() == first

    def test_one_seed_decides_nothing(self, run):
        code, out, _ = run(*SMALL, "--seeds", "1")
        assert code == 0
        assert "not decidable from 1 seed" in out
        assert "gap closed" not in out
        assert "p = " not in out

    def test_diverged_trials_can_be_written_and_drawn(self, run, tmp_path):
        (tmp_path / "wild.yaml").write_text(
            'search: wild\ntitle: t\nsource: s\nmachine: "sgd(lr={lr})"\nrate: lr\n'
            "parameters:\n  lr: {range: [1e8, 1e12], scale: log}\n"
        )
        names = ("--d", "wild.yaml", "--seeds", "2", "--json", "r.json", "--plot", "r.svg")
        code, out, err = run("transfer", *QUADRATIC, "--m", "adam(lr=0.1)", "--budget", "2", "--rate", "scale", *names)
        assert (code, err) == (0, "")
        assert "diverged (2 of 2)" in out
        trials_ = documents.read_json(tmp_path / "r.json")["arms"]["D"]["trials"]
        assert [(row["metric"], row["diverged"]) for row in trials_] == [(None, True)] * 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--m", "adamm"), "unknown search 'adamm'; did you mean 'adam'?"),
            (("--d", "none.yaml"), "cannot read none.yaml"),
            (("--problem", "quadratics"), "did you mean 'quadratic'?"),
            (("--report", "loss"), "must be different measures; both are 'loss'"),
            (("--select", "distance"), "which end is good"),
            (("--budget", "0"), "at least 1 of trials; received 0"),
            (("--rate", "fixed"), "one of scale, magnitude, none; received 'fixed'"),
            (("--plot", "r.gif"), "received r.gif"),
            (("--partition", "layers"), "layers"),
            (("--steps", "0"), "received 0"),
        ],
    )
    def test_a_mistake_is_one_line(self, run, arguments, message):
        given = dict(zip(SMALL[1::2], SMALL[2::2], strict=True)) | {arguments[0]: arguments[1]}
        code, out, err = run("transfer", *(part for pair in given.items() for part in pair))
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1

    def test_killed_and_begun_again(self, tmp_path):
        """SIGKILL in the middle: what was finished is in the ledger, and the end is that of an unbroken search."""
        program = str(Path(sys.executable).parent / "graftsim")
        long = ["200" if part == "20" else part for part in SMALL]
        command = [program, *long, "--seeds", "2", "--json", "r.json", "--ledger"]
        ledger = tmp_path / "l.jsonl"
        started = subprocess.Popen([*command, ledger.name], cwd=tmp_path, stdout=subprocess.DEVNULL)
        wait_for(lambda: ledger.exists() and b"trials:run" in ledger.read_bytes())
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
        assert not (tmp_path / "r.json").exists()
        before = ledger.read_bytes()
        subprocess.run([*command, ledger.name], cwd=tmp_path, check=True, capture_output=True)
        assert ledger.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
        broken = (tmp_path / "r.json").read_bytes()
        subprocess.run([*command, "other.jsonl"], cwd=tmp_path, check=True, capture_output=True)
        assert (tmp_path / "r.json").read_bytes() == broken


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
