"""The papers' printed tables as data, the checks that a program makes of them, and the misprints."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from graftsim import documents, rules
from graftsim.errors import GraftsimError
from graftsim.experiments.papers import checks, comparisons, errata, medians, proofs, regret, tables, trials
from graftsim.experiments.papers.verdicts import Verdict, rounds_to

VERDICTS = {
    "agrees": [
        *("variance-shares", "better-than-both", "wilson-blocks", "five-values", "dimensions", "power-of-ten"),
        *("zero-step-per-group", "decay-epochs"),
    ],
    "differs": ["best-trials-imagenet", "polynomial-power", "equal-budgets", "failed-trials"],
    "misprint": [
        *("appendix-a-adagrad", "replication-ranks", "ascent-sign", "inclusive-accumulator", "regret-square"),
        *("regret-rate", "rare-replacement", "rare-step-size", "wilson-closed-form", "rounding-table"),
        *("best-trials-bert", "printed-twice", "best-trials-cifar", "search-space"),
    ],
}


@functools.cache
def check(name):
    return checks.run(name)


@pytest.fixture
def edited(monkeypatch):
    """Tables as if a cell were printed differently."""

    def edit(name, column, value, **where):
        table = tables.load(name)
        places = [[one.name for one in table.columns].index(key) for key in where]
        at = [one.name for one in table.columns].index(column)
        rows = [
            (*row[:at], value, *row[at + 1 :])
            if all(row[p] == v for p, v in zip(places, where.values(), strict=True))
            else row
            for row in table.rows
        ]
        assert rows != list(table.rows)
        changed = dataclasses.replace(table, rows=tuple(rows))
        for module in (trials, medians, comparisons):
            real = module.load
            monkeypatch.setattr(module, "load", lambda asked, real=real: changed if asked == name else real(asked))

    return edit


def found(name, what):
    return [(line.found, line.verdict) for line in check(name).lines if what in line.what]


@pytest.mark.parametrize("name", tables.names())
def test_every_table_is_well_formed(name):
    table = tables.load(name)
    assert table.name == name
    assert name.startswith(str(table.paper))
    assert table.number in table.title
    for place, column in enumerate(table.columns):
        kinds = {isinstance(row[place], str) for row in table.rows if row[place] is not None}
        assert len(kinds) == 1, f"{column.name} holds words and numbers"


def test_all_tables_of_both_papers_are_there():
    numbers = {(table.paper, table.number) for table in map(tables.load, tables.names())}
    assert {(2021, str(n)) for n in range(1, 22)} <= numbers
    assert {(2020, str(n)) for n in range(2, 7)} <= numbers
    assert len(numbers) == len(tables.names()) == 28


def test_search_tables_are_sorted_by_accuracy():
    """As they are printed: a row that was entered twice, cut, or with two digits exchanged would stand out."""
    for number in (7, 8, 9, 10, 11, 12, 13, 16, 17):
        values = tables.load(f"2021_table_{number}").numbers("accuracy")
        assert values == sorted(values), number


def test_search_tables_have_as_many_trials_as_printed():
    rows = {n: len(tables.load(f"2021_table_{n}").rows) for n in range(7, 22)}
    assert rows == {
        **{7: 24, 8: 35, 9: 25, 10: 26, 11: 32, 12: 25, 13: 13, 14: 44, 15: 30, 16: 35, 17: 59, 18: 60},
        **{19: 17, 20: 20, 21: 20},
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["rows"][0].pop(), "row 1 must have 3 cells; it has 2"),
        (lambda d: d.update(paper=2019), "paper"),
        (lambda d: d["rows"][0].append([1]), "rows"),
        (lambda d: d.pop("caption"), "caption"),
        (lambda d: d.update(note="x"), "note"),
    ],
)
def test_a_table_file_is_refused_in_one_line(change, words):
    document = documents.read_yaml(documents.spec() / "papers" / "2021_table_1.yaml")
    change(document)
    with pytest.raises(GraftsimError, match=words) as error:
        tables.from_document(document, "mine.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda t: t.column("accurcy"), "no column 'accurcy'; did you mean 'accuracy'"),
        (lambda t: t.cell("accuracy", power=1.0), "one row must have"),
        (lambda t: t.decimals("accuracy"), "to how many decimals"),
        (lambda t: tables.load("2021_table_31"), "unknown table"),
        (lambda t: tables.load("2021_table_1").numbers("algorithm"), "must hold numbers"),
        (lambda t: checks.run("ranks"), "unknown check 'ranks'"),
    ],
)
def test_mistakes_are_one_line(act, words):
    with pytest.raises(GraftsimError, match=words) as error:
        act(tables.load("2021_table_7"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("verdict", "name"), [(v, name) for v, names in VERDICTS.items() for name in names])
def test_verdict(verdict, name):
    assert check(name).verdict == verdict
    assert check(name).id == name


def test_every_check_has_its_verdict_here():
    assert sorted(name for names in VERDICTS.values() for name in names) == sorted(checks.CHECKS)


def test_trials_outside_the_stated_space():
    """As counted by hand from the printed tables."""
    outside = {
        7: "24 of 24",
        8: "35 of 35",
        9: "18 of 25",
        10: "20 of 26",
        11: "32 of 32",
        12: "14 of 25",
        13: "0 of 13",
    }
    for number, text in outside.items():
        assert found("search-space", f"weight decay from 1e-06 to 0.001: trials of Table {number} ")[0][0] == text
    rates = {n: found("search-space", f"lr from 1e-05 to 1: trials of Table {n} ")[0][0] for n in outside}
    assert rates == {**{n: "0" + text[text.index(" ") :] for n, text in outside.items()}, 10: "3 of 26"}
    assert all(line.verdict == "agrees" for line in check("search-space").lines if "beta" in line.what)


def test_shares_of_the_printed_tables():
    shares = [line.found for line in check("variance-shares").lines]
    assert shares == ["0.973 and 0.014", "0.978 and 0.009", "0.857 and 0.101"]


def test_the_shares_notice_another_table(edited):
    edited("2020_table_2", "top-1", 60.0, magnitude="Adam", direction="Adam")
    assert comparisons.variance().verdict == "differs"


def test_medians_give_exactly_the_five_values(edited):
    assert found("five-values", "values at batch size 8192") == [("0.1, 1, 10, 100, beta", "agrees")]
    edited("2021_table_5", "8192", 1479.54, group="MLM output bias")
    assert medians.values().verdict == "misprint"


def test_the_rounding_table_has_one_wrong_median(edited):
    wrong = [line for line in check("rounding-table").lines if line.verdict != "agrees"]
    assert [(line.what.split(":")[0], line.printed, line.found) for line in wrong] == [("Layer 1 V", "312.9", "48.61")]
    edited("2021_table_5", "8192", 312.94, group="Attention V weights", layer=1)
    assert medians.printed().verdict == "agrees"


def test_the_correction_has_168_numbers(edited):
    assert [line.found for line in check("dimensions").lines] == ["168", "14 + 10 pooled + 144 of 24 layers"]


def test_best_trials():
    lines = {line.what: (line.printed, line.found, line.verdict) for line in check("best-trials-bert").lines}
    assert lines["Table 1, SGD at 8192: best trial of Table 8"] == ("63.3", "63.2697", "agrees")
    assert lines["Table 4, Adam at 32768: best trial of Table 11"] == ("70.8", "70.8929", "misprint")
    assert lines["Table 1, SGD at 32768: best trial of Table 12"] == ("48.3", "49.0207", "differs")
    wrong = {line.what for line in check("best-trials-cifar").lines if line.verdict != "agrees"}
    assert wrong == {"Table 6, SGD#AdaGrad at 2048: best trial of Table 21"}
    agree = [line.what for line in check("best-trials-imagenet").lines if line.verdict == "agrees"]
    assert len(agree) == 3
    assert all("at 1024" in what for what in agree)


def test_ranks_and_taus():
    assert found("replication-ranks", "Table 4, replication: ranks") == [("2 1 5 3 4", "misprint")]
    taus = [line.found for line in check("replication-ranks").lines if "tau" in line.what]
    assert taus == ["+0.8", "+0.0", "+0.6"]
    assert sum(line.verdict == "misprint" for line in check("replication-ranks").lines) == 1


def test_kendalls_tau_is_scipys():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = (rng.permutation(7).tolist() for _ in range(2))
        assert comparisons.kendall(first, second) == pytest.approx(kendalltau(first, second).statistic, abs=1e-12)


@pytest.mark.parametrize(
    ("printed", "value", "decimals", "holds"),
    [
        *((63.3, "63.2697", 1, True), (89.81, "89.818", 2, False), (89.81, "89.814", 2, True)),
        *((193.9, "193.95", 1, True), (194.0, "193.95", 1, True), (0.1, "0.1500001", 1, False)),
    ],
)
def test_rounding(printed, value, decimals, holds):
    from decimal import Decimal

    assert rounds_to(printed, Decimal(value), decimals) is holds


def test_the_order_as_printed_breaks_the_lemma_and_the_right_one_does_not():
    """g = (1e-3, 1, -1): 1 + 1000 + ... against 2 tr H = 2.83; and on random streams the bounds hold only one way."""
    lines = check("inclusive-accumulator").lines
    assert [line.verdict for line in lines] == ["misprint", "agrees"]
    assert float(lines[0].found) == pytest.approx(1001, abs=0.5)
    assert float(lines[1].found) == pytest.approx(1e-3 + 1 + np.sqrt(0.5), abs=1e-3)
    gradients = regret.stream("gaussian", 40, 4, 0)
    right, wrong = (regret.play(m, gradients, np.zeros(4), 1.0) for m in (regret.ADAGRAD, regret.AS_PRINTED))
    assert right.curvature <= right.lemma < wrong.curvature


def test_a_check_that_a_run_makes_can_come_out_the_other_way(monkeypatch):
    """With the right machine in the printed one's place there is no misprint to be seen."""
    monkeypatch.setattr(regret, "AS_PRINTED", regret.ADAGRAD)
    assert proofs.accumulator().verdict == "agrees"


def test_errata_name_checks_and_rules_that_there_are():
    known, rows = rules.load(), errata.load()
    assert len({row.id for row in rows}) == len(rows)
    assert {row.check for row in rows} - {""} <= set(checks.CHECKS)
    assert {row.rule for row in rows} - {""} == {name for name in known if name.split("-")[1] == "erratum"}


def test_every_check_that_finds_a_misprint_has_an_erratum():
    named = {row.check for row in errata.load()}
    assert {name for name in checks.CHECKS if check(name).verdict != Verdict.AGREES} <= named


def test_the_command_prints_a_check_and_a_table(run, tmp_path):
    code, out, _ = run("papers", "dimensions", "--json", str(tmp_path / "found.json"))
    assert code == 0
    assert "168" in out
    document = json.loads((tmp_path / "found.json").read_text())
    assert [row["id"] for row in document["checks"]] == ["dimensions"]
    assert document["checks"][0]["verdict"] == "agrees"
    assert "0.676234" in run("papers", "2021_table_13")[1]


def test_the_command_prints_all(run, monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "CHECKS", {name: lambda name=name: check(name) for name in checks.CHECKS})
    code, out, _ = run("papers", "--json", str(tmp_path / "found.json"))
    assert code == 0
    assert all(name in out for name in checks.CHECKS)
    document = json.loads((tmp_path / "found.json").read_text())
    assert len(document["errata"]) == len(errata.load())
    assert len(document["checks"]) == len(checks.CHECKS)


def test_an_unknown_name_is_one_line(run):
    code, _, err = run("papers", "2021_tabel_13")
    assert code == 2
    assert err.count("\n") == 1
    assert "did you mean" in err
