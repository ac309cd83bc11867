"""Grids of all pairs, the shares of variance, and the commands of experiments as a user meets them."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftsim.errors import GraftsimError
from graftsim.experiments import grid as grids
from graftsim.experiments import ledger as ledgers
from graftsim.experiments import plans, setups, shares, summaries
from graftsim.experiments.grid import Grid
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.plans import Plan
from graftsim.experiments.trials import Outcome

LOGISTIC = "logistic(batch=64)"
TRIO = {"sgd": "momentum(lr=0.1)", "adam": "adam(lr=0.01, eps=0)", "adagrad": "adagrad(lr=0.1, eps=0)"}
RARE = {"sgd": "sgd(lr=1/sqrt(step))", "adagrad": "adagrad(lr=1, eps=0)"}


# -- shares ------------------------------------------------------------------------------------------------------------


def test_shares_of_known_tables():
    assert shares.shares([[1, 1], [3, 3]]) == shares.Shares(1.0, 0.0)
    assert shares.shares([[1, 3], [1, 3]]) == shares.Shares(0.0, 1.0)
    assert shares.shares([[1, -1], [-1, 1]]) == shares.Shares(0.0, 0.0)  # interaction alone
    assert shares.shares([[0, 2], [4, 6]]) == shares.Shares(0.8, 0.2)  # sums of squares 16 and 4 of 20
    assert math.isnan(shares.shares([[2, 2], [2, 2]]).magnitude)


numbers = st.integers(-50, 50)


@given(st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=4, max_size=4), st.lists(numbers, min_size=3))
def test_shares_turn_with_the_table_and_ignore_the_common_curve(rows, common):
    table = np.array(rows, float).reshape(4, 2, 3)
    found, turned = shares.shares(table), shares.shares(table.transpose(1, 0, 2))
    if not math.isnan(found.magnitude):
        assert (turned.magnitude, turned.direction) == pytest.approx((found.direction, found.magnitude), abs=1e-12)
        assert -1e-12 <= found.rest <= 1
    moved = shares.shares(table + np.array(common[:3], float))  # integers and means over 8: no rounding
    assert (moved.magnitude == found.magnitude or math.isnan(found.magnitude)) or moved == pytest.approx(found)


def test_only_finite_tables_have_shares():
    with pytest.raises(GraftsimError, match=r"finite values of shape \(M, D\)"):
        shares.shares([[1, math.nan], [1, 2]])
    with pytest.raises(GraftsimError, match=r"received shape \(2,\)"):
        shares.shares([1, 2])


def test_a_diverged_curve_counts_as_ten_times_its_start():
    found, held = shares.log_curves([[2.0, 1.0, 0.5], [2.0, 40.0, math.nan], [2.0, math.inf, 0.0]])
    ten = math.log(10) + math.log(2)
    expected = [[math.log(2), 0, -math.log(2)], [math.log(2), ten, ten], [math.log(2), ten, -51 * math.log(2)]]
    assert np.allclose(found, expected, rtol=1e-15, atol=1e-15)
    assert held == 4
    for start in (0.0, -1.0, math.nan):
        with pytest.raises(GraftsimError, match="positive loss at the start"):
            shares.log_curves([[start, 1.0]])


# -- summaries ---------------------------------------------------------------------------------------------------------


def test_what_diverged_is_counted_and_not_averaged():
    assert summaries.summary([1.0, 3.0]) == summaries.Summary(2.0, math.sqrt(2), 2, 0)
    some = summaries.summary([1.0, math.inf, 3.0])
    assert (some.mean, some.n, some.diverged) == (2.0, 3, 1)
    assert some.text() == "2 ± 1.4 (1 of 3 diverged)"
    assert summaries.summary([math.nan, math.nan]).text() == "diverged (2 of 2)"
    assert summaries.summary([0.25]).text() == "0.25"


def test_the_sign_test():
    assert summaries.sign_test(0, 0) == 1
    assert summaries.sign_test(4, 0) == 1 / 16
    assert summaries.sign_test(4, 1) == 6 / 32
    assert summaries.sign_test(0, 5) == 1


# -- plans -------------------------------------------------------------------------------------------------------------


def test_labels_are_names_where_they_tell_apart():
    assert plans.labels(["sgd(lr=0.1)", "adam"]) == {"sgd": "sgd(lr=0.1)", "adam": "adam"}
    assert list(plans.labels(["sgd(lr=1)", "sgd(lr=2)", "adam"])) == ["sgd(lr=1)", "sgd(lr=2)", "adam"]
    with pytest.raises(GraftsimError, match="must differ; sgd was given twice"):
        plans.labels(["sgd", "sgd"])


def test_an_experiment_is_bounded(monkeypatch):
    monkeypatch.setattr(plans, "RUNS", 5)
    with pytest.raises(GraftsimError, match="at most 5 runs; this one would have 6"):
        plans.run_all({"a": Plan("rare", 1, 6).trials("sgd")}, Ledger(None))


def outcome(loss, weights="a", diverged=False, ratios=None):
    return Outcome(list(range(len(loss))), loss, {"loss": loss[-1], "test error": 0.5}, diverged, weights, ratios)


def test_a_value_of_a_diverged_run_is_no_number():
    runs = [outcome([1.0, 0.5]), outcome([1.0, 7.0], diverged=True)]
    assert plans.quantities(runs) == ["final loss", "test error"]
    assert [plans.summarised(runs, name).diverged for name in plans.quantities(runs)] == [1, 1]
    assert plans.summarised(runs, "final loss").mean == 0.5


def test_equal_runs_are_one_seed():
    one, other = outcome([1.0]), outcome([1.0], weights="b")
    assert plans.independent([[one, one], [one, one]]) == 1
    assert plans.independent([[one, one], [one, other]]) == 2


# -- grids -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result():
    """A grid on real data, with mini-batches and momentum."""
    return grids.run(Grid(Plan(LOGISTIC, 25, 2, 5), TRIO, ("global", "tensor", "block(7)")), Ledger(None))


def test_the_diagonal_is_the_plain_run_to_the_bit(result):
    rows = result.diagonal()
    assert len(rows) == 9
    assert all((row.equal, row.differ, row.not_compared) == (2, 0, 0) for row in rows)


def test_a_grid_has_every_pair_once(result):
    grid = result.grid
    assert grid.runs == sum(len(runs) for runs in result.found.values()) == 2 * (3 + 9 * 3)
    machines = {trials[0].machine for trials in grid.trials().values()}
    assert len(machines) == 3 + 27
    trials = grid.trials()["block(7)", "adam", "sgd"]
    assert trials[1].machine == "graft(adam(lr=0.01, eps=0), momentum(lr=0.1), partition=block(7))"
    assert [trial.seed for trial in trials] == [0, 1]
    digests = {runs[0].weights for key, runs in result.found.items() if len(set(key)) == len(key)}
    assert len(digests) == 3 + 18  # off the diagonal all pairs end elsewhere


def test_the_start_is_the_same_for_all_pairs_of_a_seed(result):
    assert len({runs[0].loss[0] for runs in result.found.values()}) == 1
    assert result.independent == 2


def test_where_all_directions_are_one_m_explains_all():
    """On rare coordinates a gradient has one coordinate, so that every D has the same direction ."""
    found = grids.run(Grid(Plan("rare(coordinates=40)", 20, 3, 2), RARE), Ledger(None))
    for partition in ("global", "tensor"):
        for share in found.shares(partition):
            assert share.magnitude == pytest.approx(1, abs=1e-12)
            assert abs(share.direction) < 1e-12
    assert found.worst("global")[0] == pytest.approx(1, rel=1e-12)


def test_on_digits_m_explains_the_curves():
    """The papers' first claim, here on a smaller network for fewer steps than ``graftsim grid digits`` runs."""
    setup = setups.load("digits(hidden=[16], batch=64)")
    found = grids.run(Grid(Plan(setup.problem, 100, 2, 10), setup.optimizers, ("tensor",)), Ledger(None))
    for share in found.shares("tensor"):
        assert share.magnitude > 0.8
        assert share.magnitude > 5 * share.direction
    assert all(row.equal == 2 for row in found.diagonal())


def test_diverging_runs_stay_in_the_grid():
    optimizers = {"sgd": "sgd(lr=1e3)", "adam": "adam(lr=0.1)"}
    found = grids.run(Grid(Plan("quadratic(dimension=3)", 120, 1, 10), optimizers, ("global",)), Ledger(None))
    assert found.diverged("global") == 2  # sgd#sgd and sgd#adam
    first, second = found.diagonal()
    assert (first.equal, first.not_compared) == (0, 1)
    assert second.equal == 1
    assert plans.summarised(found.found["global", "sgd", "adam"], plans.LOSS).diverged == 1
    assert found.held("global") > 0
    assert found.shares("global")[0].magnitude > 0.9


def test_what_is_not_the_same_is_said():
    grid = Grid(Plan("rare", 1, 5), {"a": "sgd", "b": "adam"}, ("global",))
    alone = [outcome([1.0, 0.5 if seed < 4 else math.nan], str(seed)) for seed in range(5)]
    one = {"ratio": [[1.0, 0.0]]}
    pair = [
        outcome([1.0, 0.5], "0", ratios=one),
        outcome([1.0, 0.5], "other", ratios=one),
        outcome([1.0, 0.5], "2", ratios={"ratio": [[1.0, math.nextafter(1, 2)]]}),
        outcome([1.0, 0.4], "3", ratios=one),
        outcome([1.0, -math.nan], "4", ratios=one),
    ]
    found = grids.GridResult(
        grid, {("a",): alone, ("b",): alone, ("global", "a", "a"): pair, ("global", "b", "b"): pair}
    )
    assert found.diagonal()[0] == grids.Diagonal("global", "a", equal=2, differ=2, not_compared=1)


def test_the_worst_pair():
    grid = Grid(Plan("rare", 1, 1), {"a": "sgd", "b": "adam"}, ("global",))
    losses = {("a",): 1.0, ("b",): 2.0, ("global", "a", "a"): 1.0, ("global", "a", "b"): 3.0}
    losses |= {("global", "b", "a"): 5.0, ("global", "b", "b"): 2.0}
    runs = {key: [outcome([9.0, loss])] for key, loss in losses.items()}
    assert grids.GridResult(grid, runs).worst("global") == (3.0, "a", "b")
    runs["global", "b", "a"] = [outcome([9.0, 1.0], diverged=True)]
    assert grids.GridResult(grid, runs).worst("global") == (math.inf, "b", "a")


# -- setups ------------------------------------------------------------------------------------------------------------


def test_a_setup_by_problem_and_by_file(tmp_path):
    plain = setups.load("digits")
    assert set(plain.optimizers) == {"sgd", "adam", "adagrad"}
    assert plain.recorded_every(plain.steps) == 20
    assert plain.recorded_every(10) == 1
    other = setups.load("digits(batch=32)")
    assert (other.optimizers, "batch=32" in other.problem) == (plain.optimizers, True)
    assert setups.load("rare").optimizers == {}
    path = tmp_path / "mine.yaml"
    path.write_text('title: t\nproblem: rare\nsteps: 7\noptimizers: {a: "sgd", b: "adam # sgd"}\n')
    mine = setups.load(str(path))
    assert (mine.steps, mine.optimizers["b"]) == (7, "adam # sgd")
    path.write_text("title: t\nproblem: rare\nsteps: 7\noptimizers: {a: sgd}\n")
    with pytest.raises(GraftsimError, match=r"mine.yaml: at optimizers"):
        setups.load(str(path))


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(run, own_cache):
    return run


PAIR = ("--optimizers", "sgd(lr=0.1)", "adam(lr=0.01)", "--steps", "6", "--partitions", "global")


def test_the_printed_grid(run, tmp_path):
    code, out, err = run("grid", LOGISTIC, *PAIR, "--seeds", "2", "--json", "grid.json", "--plot", "grid.svg")
    assert (code, err) == (0, "")
    for text in (
        "mean ± deviation of 2 seeds",
        "M explains",
        "(n = 2 seeds",
        "to the bit in 4 of 4 runs",
        "test error",
    ):
        assert text in out
    document = json.loads((tmp_path / "grid.json").read_text())
    pairs = document["partitions"]["global"]["pairs"]
    assert [(pair["magnitude"], pair["direction"]) for pair in pairs] == [
        (m, d) for m in ("sgd", "adam") for d in ("sgd", "adam")
    ]
    losses = [run["loss"][-1] for run in pairs[1]["runs"]]
    assert summaries.summary(losses).text() in out
    assert (tmp_path / "grid.svg").read_text().startswith("<?xml")
    assert not list((tmp_path / "cache").rglob("*.jsonl"))  # all is done: nothing to go on with


def test_nothing_is_claimed_of_one_seed(run):
    _, out, _ = run("grid", LOGISTIC, *PAIR, "--seeds", "1")
    assert "not decidable with one seed" in out
    assert "explains" not in out
    assert "±" not in out
    _, out, _ = run("grid", "quadratic(dimension=3)", *PAIR)  # which draws nothing
    assert "not decidable with one seed, and all seeds give the same runs" in out
    assert "explains" not in out


def test_a_diverging_run_is_printed_as_such(run):
    code, out, err = run("grid", LOGISTIC, "--optimizers", "sgd(lr=1e200)", "adam", "--steps", "9", "--plot", "a.svg")
    assert (code, err) == (0, "")
    assert "diverged (3 of 3)" in out
    assert "of 12 runs diverged; a loss counts for at most 10 times that of the start" in out
    assert "not compared, since a ratio is not 1" in out


def test_a_named_ledger_is_kept_and_extended(run, tmp_path, monkeypatch):
    from graftsim.experiments import trials

    done = []
    real = trials.simulate
    monkeypatch.setattr(trials, "simulate", lambda *args, **more: done.append(args) or real(*args, **more))
    first = run("grid", LOGISTIC, *PAIR, "--seeds", "1", "--ledger", "runs.jsonl")
    assert len(done) == 6
    assert run("grid", LOGISTIC, *PAIR, "--seeds", "1", "--ledger", "runs.jsonl") == first
    assert len(done) == 6
    run("grid", LOGISTIC, *PAIR, "--seeds", "2", "--ledger", "runs.jsonl")
    assert len(done) == 12
    # The optimizers alone are runs of a zoo as well: 3 x 2 more here, of which sgd's two are known.
    zoo = ("zoo", LOGISTIC, "--m", "sgd(lr=0.1)", "--optimizers", "sgd", "adam(lr=0.01)", *PAIR[3:], "--seeds", "2")
    assert run(*zoo, "--ledger", "runs.jsonl")[0] == 0
    assert len(done) == 12 + 2 + 2 + 0


def test_an_interrupted_grid_goes_on(run, tmp_path, monkeypatch):
    from graftsim.experiments import trials

    whole = run("grid", LOGISTIC, *PAIR)
    real, done = trials.simulate, []

    def interrupted(*args, **more):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(args)
        return real(*args, **more)

    monkeypatch.setattr(trials, "simulate", interrupted)
    code, out, err = run("grid", LOGISTIC, *PAIR)
    assert (code, out) == (130, "")
    assert "4 results are kept in" in err
    assert len(list((tmp_path / "cache").rglob("*.jsonl"))) == 1
    monkeypatch.setattr(trials, "simulate", lambda *args, **more: done.append(args) or real(*args, **more))
    assert run("grid", LOGISTIC, *PAIR) == whole
    assert len(done) == 18
    assert not list((tmp_path / "cache").rglob("*.jsonl"))


def test_processes_change_nothing(run):
    one = run("grid", LOGISTIC, *PAIR, "--seeds", "1")
    assert run("grid", LOGISTIC, *PAIR, "--seeds", "1", "-j", "2") == one


MISTAKES = {
    "unknown problem": (["grid", "logistics"], "unknown problem 'logistics'; did you mean 'logistic'?"),
    "no optimizers": (["grid", "rare"], "name the tuned optimizers, --optimizers sgd adam adagrad"),
    "one optimizer": (["grid", "rare", "--optimizers", "sgd"], "at least 2 optimizers; received 1"),
    "one optimizer twice": (["grid", "rare", "--optimizers", "sgd", "sgd"], "sgd was given twice"),
    "unknown optimizer": (["grid", "rare", "--optimizers", "sgd", "adm"], "did you mean 'adam'?"),
    "unknown partition": (["grid", "digits", "--partitions", "globl"], "did you mean 'global'?"),
    "a partition twice": (["grid", "digits", "--partitions", "row", "row"], "the partitions must differ"),
    "no seeds": (["grid", "digits", "--seeds", "0"], "seeds: must be an integer from 1 to 1000; received 0"),
    "no steps": (["grid", "digits", "--steps", "0"], "steps: must be an integer from 1 to"),
    "a dtype": (["grid", "digits", "--dtype", "float16"], "float32 or float64"),
    "a picture": (["grid", "digits", "--plot", "a.gif"], "must end in .svg, .png, .pdf; received a.gif"),
    "a measure": (["grid", "rare", *PAIR[:5], "--measures", "f1"], "no measure 'f1'; known are test error, test hinge"),
    "a zoo without M": (["zoo", "rare"], "name M and the optimizers"),
    "unknown hyperparameter": (["sweep", "epz", "rare", "adagrad", "--values", "1", "2"], "did you mean 'eps'?"),
    "a value outside": (
        ["sweep", "eps", "rare", "adagrad", "--values", "1", "-1"],
        "eps: must lie in >= 0; received -1",
    ),
    "one value": (["sweep", "eps", "rare", "adagrad", "--values", "1"], "at least 2 values; received 1"),
    "no such child": (["sweep", "m.eps", "rare", "adam#sgd", "--values", "1", "2"], "graft has no child 'm'"),
    "unknown A": (["diagnose", "adamx", "--problem", "rare"], "did you mean 'adamax'?"),
    "no ledger": (["grid", "digits", "--ledger", "/proc/none/l.jsonl"], "cannot write"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(run, mistake, tmp_path):
    arguments, expected = MISTAKES[mistake]
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("graftsim: ")
    assert err.count("\n") == 1
    assert expected in err
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_ledger_of_something_else_is_refused(run, tmp_path):
    Ledger(tmp_path / "other.jsonl", "something else").close()
    code, _, err = run("grid", LOGISTIC, *PAIR, "--ledger", "other.jsonl")
    assert code == 2
    assert "must be of this study" in err
    assert ledgers.place("a") != ledgers.place("b")
