"""Both papers on one page: claims, the experiments behind them, and the report, which is opened in a real browser."""

import dataclasses
import functools
import json
import math
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from graftsim import problems
from graftsim.errors import GraftsimError
from graftsim.experiments.jobs import Job
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.papers import checks, regret
from graftsim.experiments.reproduce import (
    algebra,
    claims,
    corrections,
    forms,
    grids,
    language,
    recorded,
    report,
    running,
    schedules,
    theory,
    toys,
    trajectories,
    transfers,
    vision,
    zoos,
)
from graftsim.experiments.reproduce.findings import (
    Claim,
    Finding,
    Number,
    Picture,
    Size,
    Verdict,
    counted,
    over_seeds,
    trained,
)
from graftsim.experiments.reproduce.pictures import Drawing
from graftsim.experiments.reproduce.running import Result
from graftsim.experiments.reproduce.timed import timed
from graftsim.experiments.trials import Trial, check

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUICK = Size(quick=True)
TINY = Trial("quadratic(dimension=2)", "sgd(lr=0.001)", 3)


def asked(claim_id, size=QUICK, ledger=None):
    """What is found of one claim."""
    (result,) = running.run(claims.chosen([claim_id]), size, ledger or Ledger())
    return result.finding


# -- claims at work --------------------------------------------------------------------------------------------------


def in_rounds(size):
    """A claim that asks twice: for one trial and then, by what came of it, for two, one of them again."""
    first = yield from trained({"one": [TINY]})
    more = dataclasses.replace(TINY, seed=round(first["one"][0].loss[0]))
    found = yield from trained({"two": [TINY, more]})
    same = first["one"][0] == found["two"][0]
    return Finding(Verdict.of(same), (over_seeds("loss", [run.loss[-1] for run in found["two"]]),))


def claim(ask, name="mine"):
    return Claim(name, 2021, "Section 0", "It holds.", "By asking.", "It holds.", ask)


def test_claims_ask_in_rounds_and_equal_jobs_are_done_once(monkeypatch):
    ledger = Ledger()
    told = []
    two = [claim(in_rounds, "first"), claim(in_rounds, "second")]
    results = running.run(two, QUICK, ledger, progress=lambda done, total: told.append((done, total)))
    assert [one.finding.verdict for one in results] == [Verdict.REPRODUCED] * 2
    assert [one.jobs for one in results] == [2, 2]
    assert len(ledger) == 2
    assert told[-1] == (6, 6)
    assert all(done <= total for done, total in told)
    assert results[0].finding == results[1].finding


def test_a_stopped_report_goes_on_where_it_was(tmp_path, monkeypatch):
    path, real, done = tmp_path / "kept.jsonl", Job.do, []

    def stops(job):
        if job.arguments.get("arguments", {}).get("seed"):
            raise KeyboardInterrupt
        done.append(job)
        return real(job)

    monkeypatch.setattr(Job, "do", stops)
    with Ledger(path) as ledger, pytest.raises(KeyboardInterrupt):
        running.run([claim(in_rounds)], QUICK, ledger)
    before = len(done)
    monkeypatch.setattr(Job, "do", lambda job: done.append(job) or real(job))
    with Ledger(path) as ledger:
        (result,) = running.run([claim(in_rounds)], QUICK, ledger)
    assert result.finding.verdict == Verdict.REPRODUCED
    again = [job for job in done[before:] if job == timed(TINY.job())]
    assert not again, "what the ledger had was done again"


def test_seconds_are_those_of_the_jobs():
    ledger = Ledger()
    (result,) = running.run([claim(in_rounds)], QUICK, ledger)
    job = timed(TINY.job())
    assert 0 <= ledger[job]["seconds"] <= result.seconds
    assert ledger[job]["result"] == json.loads(TINY.job().do())


def test_no_number_that_depends_on_chance_stands_on_one_seed():
    for make in (lambda: over_seeds("x", [1.0]), lambda: counted("x", [True]), lambda: Number("x", "1", 1)):
        with pytest.raises(GraftsimError, match="at least 2 seeds"):
            make()
    assert over_seeds("x", [1.0, 3.0]).text == "2 ± 1.4"
    assert over_seeds("x", [1.0, math.nan, 3.0]).text == "2 ± 1.4 (1 of 3 diverged)"
    assert counted("x", [True, False, True]) == Number("x", "2 of 3", 3)


def test_claims_are_complete_and_names_are_unique():
    names = [one.id for one in claims.CLAIMS]
    assert len(set(names)) == len(names)
    for one in claims.CLAIMS:
        assert one.paper in (2020, 2021)
        assert min(map(len, (one.place, one.statement, one.test, one.rule))) > 4, one.id
        assert one.statement[-1] in ".?"
    with pytest.raises(GraftsimError, match="unknown claim 'zo'; did you mean 'zoo'"):
        claims.chosen(["zo"])
    assert [one.id for one in claims.chosen(["algebra", "zoo"])] == ["zoo", "algebra"]


def test_a_missing_library_is_said_before_anything_is_run(monkeypatch):
    real = claims.importlib.util.find_spec
    monkeypatch.setattr(claims.importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    claims.check_installed(claims.CLAIMS, quick=True)
    with pytest.raises(GraftsimError, match=r"needs torch; install it with pip install 'graftsim\[torch\]'"):
        claims.check_installed(claims.CLAIMS, quick=False)


# -- exact claims, and that each can come out the other way ----------------------------------------------------------


@pytest.mark.parametrize("name", ["geometry", "no-descent", "known-corrections", "bias-correction", "regret"])
def test_exact_claims_are_reproduced(name):
    finding = asked(name)
    assert finding.verdict == Verdict.REPRODUCED
    assert finding.numbers
    assert all("<svg" in picture.svg for picture in finding.pictures)


def test_the_algebra(monkeypatch):
    monkeypatch.setattr(algebra, "STEPS", 10)
    monkeypatch.setattr(algebra, "SEEDS", 2)
    finding = asked("algebra")
    assert finding.verdict == Verdict.REPRODUCED
    assert [n.text for n in finding.numbers if n.what.startswith(("SGD#SGD", "Adam#Adam"))] == ["0, the same bits"] * 2
    monkeypatch.setattr(algebra, "SLOWED", "adam(lr=0.1)")
    assert asked("algebra").verdict == Verdict.NOT


def test_another_order_breaks_the_regret_bound(monkeypatch):
    monkeypatch.setattr(regret, "ADAGRAD", regret.AS_PRINTED)
    assert asked("regret").verdict == Verdict.NOT


def test_another_factor_is_not_adams(monkeypatch):
    monkeypatch.setattr(forms, "factor", lambda beta2, steps: np.sqrt(-np.expm1(steps * math.log(beta2))))
    assert asked("bias-correction").verdict == Verdict.NOT


def test_another_exponent_is_noticed(monkeypatch):
    form, _, text = forms.GENERATORS["constant"]
    monkeypatch.setitem(forms.GENERATORS, "constant", (form, 0.52, text))
    assert asked("known-corrections").verdict == Verdict.NOT


def test_a_longer_step_is_not_ms(monkeypatch):
    real = theory._steps
    monkeypatch.setattr(theory, "_steps", lambda gradient: [*real(gradient)[:2], 1.001 * real(gradient)[2]])
    assert asked("geometry").verdict == Verdict.NOT


def test_which_half_decides(monkeypatch):
    for name, value in (("DRAWS", 2), ("STEPS", 150), ("COORDINATES", 200)):
        monkeypatch.setattr(toys, name, value)
    finding = asked("two-by-two")
    assert finding.verdict == Verdict.REPRODUCED
    values = {number.what.split(": ")[0][0] + number.what.split(": ")[1]: number.text for number in finding.numbers}
    assert values["WSGD"] == values["WAdaGrad#SGD"] == "0 ± 0"
    assert values["WAdaGrad"] == values["WSGD#AdaGrad"] != "0 ± 0"
    assert values["rAdaGrad"] == "0.5 ± 0"
    monkeypatch.setattr(toys, "ADAGRAD_ON_WILSON", "adagrad(lr=1, eps=100)")
    assert asked("two-by-two").verdict == Verdict.NOT


def test_what_takes_minutes_is_left_out_of_the_quick_report():
    results = running.run(claims.LATER, QUICK, Ledger())
    assert {one.finding.verdict for one in results} == {Verdict.UNDECIDED}
    assert {one.jobs for one in results} == {0}
    assert all("--quick" in one.finding.note for one in results)


# -- trained claims at a size at which nothing can be claimed --------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """A few steps of the smallest models, two seeds: whether all is asked for, counted and drawn."""
    monkeypatch.setattr(Size, "seeds", lambda self, full=5: 2)
    for module, name, value in (
        *((vision, "STEPS", 16), (vision, "DROP", 12), (language, "STEPS", 16), (language, "FIRST", 12)),
        (vision, "PROBLEM", "conv(data='digits', channels=[2], dense=4, batch=16)"),
        (language, "PROBLEM", "masked_text(layers=1, width=8, heads=2, length=8, batch=4)"),
        *((transfers, "STEPS", 5), (transfers, "BUDGET", 2), (transfers, "SEEDS", 2)),
        (transfers, "PROBLEM", "next_word(words=10, width=2, batch=8)"),
        (grids, "plan", lambda size: grids.Plan("digits(hidden=[4], batch=64)", 20, 2, record_every=10)),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(trajectories, "plan", grids.plan)
    return Size(quick=False)


@pytest.mark.parametrize("module", [grids, zoos, trajectories, transfers, vision, schedules, language, corrections])
def test_trained_claims_are_found_whatever_comes_out(small, module):
    for result in running.run(module.CLAIMS, small, Ledger()):
        finding = result.finding
        assert finding.numbers
        assert finding.pictures, result.claim.id
        assert result.jobs > 0
        assert {number.seeds for number in finding.numbers} <= {0, 2}
        assert all("nan" not in number.what for number in finding.numbers)


def test_the_verdict_on_clusters_follows_the_shares(small):
    finding = asked("clusters", small)
    shares = {n.what: float(n.text.split(" ")[0]) for n in finding.numbers if n.what.startswith("share")}
    assert len(shares) == 4
    assert all(0 <= share <= 1 for share in shares.values())
    equal = next(number.text for number in finding.numbers if "has the bits" in number.what)
    assert equal == "12 of 12"


def test_a_correction_is_used_in_another_run_than_its_own():
    assert recorded.others([1, 2, 3]) == [2, 3, 1]


def test_simplified_corrections_tie_the_layers_and_round_the_rest():
    def group(name, median, rounded):
        return {"name": name, "median": median, "rounded": rounded}

    groups = [
        group("embedding.code.weight", 31.0, 10.0),
        group("layer0.attention.key.weight", 3.0, 1.0),
        group("layer0.attention.value.weight", 5.0, 1.0),
        group("layer0.attention.key.bias", 5e6, 1e6),
        group("layer0.attention.norm.weight", 0.1, 0.1),
    ]
    assert corrections.beta(groups) == 4.0
    wanted = {"embedding.code.weight": 10.0, **{g["name"]: 8.0 for g in groups[1:]}}
    assert corrections.simplified(groups, 2.0) == wanted


def test_corrections_of_the_real_model_fit_an_expression():
    """An expression has at most 2000 characters; the widest numbers of four digits have nine."""
    problem = problems.parse(language.PROBLEM)
    factors = dict.fromkeys(problem.layout.names, 1.2345678e-200)
    trial = Trial(language.PROBLEM, f"corrected({language.UNIT}, c0={recorded.table(factors)})", 1)
    check([trial])
    assert "1.235e-200" in trial.machine


# -- the page --------------------------------------------------------------------------------------------------------

PROBE = """<script>
const colour = (element, name) => getComputedStyle(element)[name];
const ids = [...document.querySelectorAll("[id]")].map(element => element.id);
const details = document.querySelector("details"), inside = details.querySelector("table");
const before = inside.checkVisibility(); details.querySelector("summary").click();
const result = {
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  ink: colour(document.body, "color"), paper: colour(document.body, "backgroundColor"),
  badges: [...document.querySelectorAll(".badge")].map(one => [colour(one, "color"), colour(one, "backgroundColor")]),
  twice: ids.length - new Set(ids).size,
  dangling: [...document.querySelectorAll("a")].filter(a => !document.querySelector(a.getAttribute("href"))).length,
  links: document.querySelectorAll("a").length,
  pictures: [...document.querySelectorAll("svg")].map(one => one.getBoundingClientRect().width),
  text: [...document.querySelectorAll("svg text")].map(one => colour(one, "fill")),
  unfolds: [before, inside.checkVisibility()],
  requests: performance.getEntriesByType("resource").length,
  rows: [...document.querySelectorAll(".summary tbody tr")].map(row =>
    [...row.cells].map(one => one.textContent.trim()).join(" ")),
};
document.body.textContent = "found:" + JSON.stringify(result) + ":end";
</script>"""


def drawn():
    drawing = Drawing(2)
    with drawing as axes:
        axes[0].plot([1, 2, 3], [1, 10, 100], label="a & b")
        axes[0].set_yscale("log")
        axes[0].legend()
        axes[1].bar(["one", "two"], [1, 2])
    return drawing.svg


def words(size):
    yield []


RESULTS = [
    Result(
        dataclasses.replace(
            claim(words, f"claim-{i}"), statement=f"Is it <b>{verdict}</b> & so on, in a line that is long?"
        ),
        Finding(verdict, (Number("a <i>number</i>", "1 ± 2", 5),), (Picture("It <falls>.", drawn()),), "Note <this>."),
        12.3,
        4,
    )
    for i, verdict in enumerate(Verdict)
]


@pytest.fixture(scope="module")
def page():
    shown = [checks.run(name) for name in ("rounding-table", "dimensions", "failed-trials")]
    return report.text(RESULTS, shown, quick=True)


@pytest.fixture(scope="module")
def look(page, tmp_path_factory):
    """What a browser finds, in a window of so many pixels."""
    browser = next(filter(None, map(shutil.which, [os.environ.get("GRAFTSIM_BROWSER", ""), *BROWSERS])), None)
    if browser is None:
        pytest.fail("the report is tested in Chromium; install it (apt-get install chromium) or set GRAFTSIM_BROWSER")
    folder = tmp_path_factory.mktemp("page")
    path = folder / "probed.html"
    without_policy = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)
    assert without_policy != page, "the page must forbid scripts and every request"
    path.write_text(without_policy.replace("</body>", f"{PROBE}</body>"))

    def look(pixels, dark=False):
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        command += [f"--window-size={pixels},900", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        found = re.search("found:(.*):end", done.stdout, re.DOTALL)
        assert found, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))

    return look


@pytest.mark.parametrize("pixels", [500, 1200])
def test_the_page_fits_narrow_and_wide_windows(look, pixels):
    """500 pixels are the narrowest window of headless Chromium."""
    found = look(pixels)
    assert found["overflow"] <= 0, "the page scrolls sideways"
    assert found["twice"] == 0, "two elements have one id"
    assert found["dangling"] == 0
    assert found["links"] > 3
    assert found["requests"] == 0
    assert found["unfolds"] == [False, True]
    assert len(found["pictures"]) == 3
    assert min(found["pictures"]) >= 400


def luminance(colour):
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    return sum(
        weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
        for weight, part in zip((0.2126, 0.7152, 0.0722), (red, green, blue), strict=True)
    )


def contrast(first, second):
    light, deep = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (deep + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_readable_in_light_and_dark(look, dark):
    """Contrasts of WCAG: enhanced for text, also inside pictures, and the least for verdicts, which are bold."""
    found = look(900, dark)
    assert (luminance(found["paper"]) < luminance(found["ink"])) == dark
    assert contrast(found["ink"], found["paper"]) >= 7
    assert min(contrast(colour, found["paper"]) for colour in found["text"]) >= 7
    assert min(contrast(*pair) for pair in found["badges"]) >= 4.5


def test_the_summary_has_a_row_for_each_claim(look):
    rows = look(900)["rows"]
    assert len(rows) == len(RESULTS)
    for row, verdict in zip(rows, ("reproduced", "not reproduced", "not decidable"), strict=True):
        assert f" 2021 {verdict} 5 12 s" in row


def test_the_page_asks_for_nothing_outside(page):
    class References(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            assert tag not in ("script", "link", "img", "iframe", "object", "form", "image")
            self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "xlink:href")]

    reader = References()
    reader.feed(page)
    assert reader.found
    assert all(value.startswith("#") for value in reader.found)
    assert not re.search(r"@import|https?://", page)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_words_are_text(page):
    assert "Is it &lt;b&gt;reproduced&lt;/b&gt; &amp; so on" in page
    for markup in ("<b>", "<i>number", "<falls>", "<this>"):
        assert markup not in page
    assert "a &amp; b" in page


def test_equal_data_draw_equal_pictures():
    first, second = (re.sub(r"p\d+-", "", drawn()) for _ in range(2))
    assert first == second
    assert "#010203" not in first
    assert "<metadata" not in first


@pytest.fixture
def run(run, own_cache):
    return functools.partial(run, "reproduce")


def test_the_command_writes_the_report(run, tmp_path):
    code, out, _ = run("--only", "geometry", "no-descent", "--out", "both.html", "--json", "both.json")
    assert code == 0
    assert "geometry" in out
    assert "<svg" in (tmp_path / "both.html").read_text()
    document = json.loads((tmp_path / "both.json").read_text())
    assert [row["id"] for row in document["claims"]] == ["geometry", "no-descent"]
    assert {row["verdict"] for row in document["claims"]} == {"reproduced"}
    assert not list((tmp_path / "cache").rglob("*.jsonl")), "a finished report leaves no ledger behind"


def test_an_interrupted_command_keeps_what_it_did(run, monkeypatch, tmp_path):
    real, count = Job.do, []

    def stops(job):
        count.append(job)
        if len(count) == 5:
            raise KeyboardInterrupt
        return real(job)

    monkeypatch.setattr(Job, "do", stops)
    code, _, err = run("--only", "no-descent")
    assert code == 130
    assert "the same command goes on" in err
    assert list((tmp_path / "cache").rglob("*.jsonl"))
    monkeypatch.setattr(Job, "do", real)
    assert run("--only", "no-descent")[0] == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--only", "algebr"), "unknown claim 'algebr'; did you mean 'algebra'"),
        (("--only", "geometry", "--out", "/proc/nowhere/report.html"), "cannot write"),
        (("--only", "no-descent", "-j", "0"), "workers"),
    ],
)
def test_a_mistake_is_one_line(run, given, words):
    code, _, err = run(*given)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
