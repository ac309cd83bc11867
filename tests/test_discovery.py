"""Discovery: series, fits with known answers, rounding, flags, agreement, and the four commands."""

import dataclasses
import io
import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from graftsim import cli, corrections, documents, expressions, problems, trajectory
from graftsim.cli import experimenting, pipes
from graftsim.errors import GraftsimError
from graftsim.experiments.discovery import (
    agreement,
    applying,
    finding,
    fits,
    flags,
    pictures,
    recording,
    rounding,
    series,
)
from graftsim.experiments.discovery.finding import Choice
from graftsim.experiments.discovery.series import Series
from graftsim.simulate import simulate
from tests.test_corrections import record

ROOT = Path(__file__).parent.parent

# -- series ------------------------------------------------------------------------------------------------------------

LENGTHS = arrays.arrays(
    np.float64, (6, 2), elements=st.one_of(st.sampled_from([0.0, math.inf, math.nan, 5e-324, 1e308]), st.floats(0, 1e3))
)


@given(LENGTHS, LENGTHS)
@settings(max_examples=50)
def test_a_ratio_is_never_made_up(n_m, n_d):
    """NaN where the direction is zero or a norm is not finite; elsewhere the quotient, or NaN if that overflows."""
    found = Series(np.arange(1, 7), ("a", "b"), n_m, n_d)
    for m, d, ratio in zip(n_m.ravel().tolist(), n_d.ravel().tolist(), found.ratios.ravel().tolist(), strict=True):
        want = m / d if d > 0 and math.isfinite(d) else math.nan
        assert ratio == want if math.isfinite(want) else math.isnan(ratio)
    assert (found.used == np.isfinite(found.ratios).sum(axis=0)).all()
    for column, median in zip(found.ratios.T, found.medians, strict=True):
        kept = sorted(x for x in column if math.isfinite(x))
        middle = kept[len(kept) // 2 - 1 + len(kept) % 2 : len(kept) // 2 + 1]
        assert math.isnan(median) if not kept else middle[0] <= median <= middle[-1]


def test_all_groups_together_are_the_whole_step():
    found = series.of(record([[3.0, 4.0], [3e200, 4e200]], [[1.0, 0.0], [6e200, 8e200]])).together()
    assert found.ratios.tolist() == [[5.0], [0.5]]


def test_the_running_median_reflects_its_edges():
    x = np.random.default_rng(0).lognormal(size=(60, 2))
    x[7, 0] = math.nan
    padded = np.concatenate([x[3:0:-1], x, x[-2:-5:-1]])
    want = [[np.nanmedian(padded[i : i + 7, j]) for j in range(2)] for i in range(60)]
    assert (series.smoothed(x, 7) == want).all()
    assert np.isnan(series.smoothed(np.full((9, 1), math.nan), 3)).all()
    assert (series.smoothed(np.full((5, 1), 2.0), 51) == 2.0).all(), "shorter than the window"
    for width in (0, 4, -3):
        with pytest.raises(GraftsimError, match="odd and at least 1"):
            series.smoothed(x, width)


def test_the_running_median_of_51_takes_noise_out():
    """Of the logarithm of log-normal noise 1 / sqrt(51) sqrt(pi / 2) = 0.1755 is left in the limit of many."""
    x = np.random.default_rng(0).lognormal(size=(20000, 1))
    left = float(np.log(series.smoothed(x)).std())
    assert abs(left - 0.1755) < 0.01


def test_spread_is_in_decades():
    assert series.spread(np.array([0.01, 10.0, math.nan, 0.0, 1.0])) == 3
    assert math.isnan(series.spread(np.array([math.nan])))


# -- fits --------------------------------------------------------------------------------------------------------------

GENERATORS = {
    "constant": (lambda t: np.ones_like(t), 0.5, 1.0),
    "sqrt(2t - 1)": (lambda t: np.sqrt(2 * t - 1), 1.0, 1.0),
    "t^0.25": (lambda t: t**0.25, 0.75, math.sqrt(2 / 3)),
    "t^-0.23": (lambda t: t**-0.23, 0.27, math.sqrt(1 / 0.54)),
}
"""Gradients of one coordinate for which SGD's step is longer than AdaGrad's by sqrt(sum of squares): alpha and c."""


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """What SGD#AdaGrad records of each generator, over 4000 steps."""
    folder, found = tmp_path_factory.mktemp("streams"), {}
    for number, (name, (gradient, _, _)) in enumerate(GENERATORS.items()):
        path = folder / f"{number}.npz"
        np.savez(path, w=gradient(np.arange(1.0, 4001))[:, None])
        run = simulate(f"recorded(path={str(path)!r})", "sgd(lr=1)#adagrad(lr=1, eps=0)", 4000, keep_every=4000)
        found[name] = finding.find(run, partition="tensor").groups[0]
    return found


@pytest.mark.parametrize("name", GENERATORS)
def test_exponents_of_known_generators(name, generated):
    """To 0.01; that of t^-0.23 is above its limit by 0.005, since a sum of powers is one in the limit only."""
    _, alpha, c = GENERATORS[name]
    found = generated[name].power
    assert abs(found.factor.alpha - alpha) < 0.01
    assert found.factor.c == pytest.approx(c, rel=0.05)
    assert found.r2 > 0.9999
    assert found.points == 3901, "from step 100"
    assert not generated[name].growth.exponential
    assert name != "t^-0.23" or 0.004 < found.factor.alpha - alpha < 0.006


def test_the_line_of_a_known_generator(generated):
    found = generated["sqrt(2t - 1)"].line
    assert abs(found.factor.c1 - 1) < 1e-9
    assert abs(found.factor.c0) < 1e-9
    assert (found.r2, found.points) == (1.0, 4000)
    assert found.residual < 1e-9


@given(st.floats(-5, 5), st.floats(0.01, 100), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_swapping_both_sides_negates_the_exponent(alpha, c, seed):
    steps = np.arange(1, 300)
    ratios = c * steps**alpha * np.random.default_rng(seed).lognormal(0, 0.1, 299)
    there, back = fits.power(steps, ratios, 1), fits.power(steps, 1 / ratios, 1)
    assert there.factor.alpha == pytest.approx(-back.factor.alpha, abs=1e-9)
    assert there.factor.alpha == pytest.approx(alpha, abs=0.05)
    assert there.residual == pytest.approx(0.1, rel=0.3)


def test_fits_leave_out_what_is_not_there():
    steps, ratios = np.arange(1, 9), np.array([1, 9, math.nan, 4, 0, 6, 7, 8.0])
    ratios[1] = 2
    line, power = fits.line(steps, ratios), fits.power(steps, ratios, 2)
    assert (line.points, power.points) == (7, 5)
    assert power.factor.alpha == pytest.approx(1)
    assert fits.line(steps[:2], ratios[:2]) is None
    assert fits.power(steps[:5], ratios[:5], 3) is None
    assert fits.power(steps, np.exp(80.0 * steps), 1) is None, "t^100 is no correction"
    assert fits.line(steps, np.full(8, 2.5)).r2 == 1


# -- rounding ----------------------------------------------------------------------------------------------------------


POWERS = [float(f"1e{k}") for k in range(-323, 309)]


@given(st.one_of(st.floats(POWERS[0], allow_infinity=False), st.sampled_from(POWERS)))
def test_the_largest_power_of_ten_below(value):
    assert rounding.power_of_ten(value) == max(power for power in POWERS if power <= value)


def test_edges_of_rounding_down():
    values = [999.9999999999999, 1000.0, 0.1, 0.001, np.nextafter(10, 0), np.nextafter(0.1, 0), 1e23, 479.54, 0.0]
    assert [rounding.power_of_ten(x) for x in values] == [100, 1000, 0.1, 0.001, 1, 0.01, 1e23, 100, 0]


def test_the_printed_medians_round_to_five_values():
    """Table 5 of the 2021 paper, at batch size 8192: {0.1, 1, 10, 100, beta}, for every group of 168 scalars."""
    table = documents.read_yaml(documents.spec() / "papers" / "2021_table_5.yaml")
    rows = {f"{name} {layer or ''}".strip(): median for name, layer, median, _ in table["rows"]}
    found = finding.choose(_findings(rows), Choice(rounded=True, tied=["Attention*"], beta=500.0))
    assert len(rows) == 168
    assert {factor.c0 for factor in found.factors.values()} == {0.1, 1, 10, 100, 500}
    assert found.factors["Word embeddings"].c0 == 100
    free = finding.choose(_findings(rows), Choice(rounded=True))
    assert {factor.c0 for factor in free.factors.values()} == {0.1, 1, 10, 100, 1000, 100000}


def _findings(medians, **more):
    groups = tuple(
        finding.Group(
            name, median, 0 if math.isnan(median) else 9, 0, None, None, None, None, name in more.get("null", ())
        )
        for name, median in medians.items()
    )
    return finding.Findings(groups, groups[0], 0.0, 0.0, "tensor", {})


def test_ties_and_fixed_factors():
    found = _findings(
        {"att.q": 3.0, "att.k": 5.0, "att.k_bias": 1e6, "head": 49.0, "off": math.nan}, null=["att.k_bias"]
    )
    tied = finding.choose(found, Choice(rounded=True, tied=["att.*"], fixed={"off": 0.0, "*k_bias": 2.0}))
    assert {name: factor.c0 for name, factor in tied.factors.items()} == {
        "att.q": 4.0, "att.k": 4.0, "att.k_bias": 2.0, "head": 10.0, "off": 0.0
    }  # fmt: skip
    for choice, says in [
        (Choice(), "group 'off' must have a step whose direction is not zero"),
        (Choice(tied=["attn.*"]), r"no group matches 'attn\.\*'"),
        (Choice(tied=["off"]), "beta must be given"),
        (Choice(form="linear"), "form must be one of constant, line, power; received 'linear'; did you mean 'line'"),
        (Choice(form="line", rounded=True), "only constants are rounded"),
        (Choice(form="power", fixed={"off": 1.0}), "at least 3 ratios above 0 for a power"),
    ]:
        with pytest.raises(GraftsimError, match=says) as caught:
            finding.choose(found, choice)
        assert "\n" not in str(caught.value)


# -- flags -------------------------------------------------------------------------------------------------------------


@given(st.floats(0.02, 0.2), st.floats(-3, 3), st.floats(0, 0.5), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_exponential_growth_is_told_from_powers(rate, alpha, noise, seed):
    """Over the 300 last steps of 600 a rate of 0.02 is a factor of 400, and t^3 one of 8."""
    steps = np.arange(1, 601)
    factors = np.random.default_rng(seed).lognormal(0, noise, 600)
    grows = flags.growth(steps, np.exp(rate * np.maximum(steps - 200, 0)) * factors)
    assert grows.exponential
    assert grows.rate == pytest.approx(rate, abs=0.01)
    assert not flags.growth(steps, steps.astype(float) ** alpha * factors).exponential
    assert not flags.growth(steps, np.exp(-rate * steps) * factors).exponential


def test_steep_powers_and_few_steps_are_no_exponentials():
    steps = np.arange(1, 601)
    steep = flags.growth(steps, steps.astype(float) ** 6)
    assert steep.factor > 10
    assert not steep.exponential
    assert flags.growth(steps[:6], np.exp(steps[:6].astype(float))) is None
    assert flags.growth(steps, np.full(600, math.nan)) is None


def test_groups_whose_gradient_is_rounding_are_flagged(tmp_path):
    """The same stream is noise if its numbers are float32, and a small gradient if they are float64."""
    rng = np.random.default_rng(1)
    weight, bias = rng.standard_normal((40, 6)), 1e-9 * rng.standard_normal((40, 2))
    for dtype, null in ((np.float32, True), (np.float64, False)):
        np.savez(tmp_path / "g.npz", weight=weight.astype(dtype), bias=bias.astype(dtype))
        run = recording.record(f"recorded(path={str(tmp_path / 'g.npz')!r})", "adam#sgd", 40)
        found = finding.find(run, partition="tensor")
        assert [group.null for group in found.groups] == [False, null]
        assert 1e-10 < found.groups[1].share < 1e-9
        assert found.spread > 5
        assert (found.spread_without_null < 1) == null
        assert found.groups[1].median > 1e5 * found.groups[0].median, "what Adam makes of it"
    plain = finding.find(simulate(run.meta.problem, "adam#sgd", 40), partition="tensor")
    assert [group.share for group in plain.groups] == [None, None]


def test_the_biases_of_attention_keys_are_flagged_and_nothing_else():
    """From the first steps on, where queries and keys have small gradients too."""
    problem = "masked_text(layers=1, width=16, heads=2, length=16, batch=4)"
    found = finding.find(recording.record(problem, "adam#sgd", 5), partition="tensor")
    assert [group.name for group in found.groups if group.null] == ["layer0.attention.key.bias"]
    shares = {group.name: group.share for group in found.groups}
    assert shares["layer0.attention.key.weight"] < 1e-3
    assert max(found.groups, key=lambda group: group.median).null


# -- recordings --------------------------------------------------------------------------------------------------------


def test_a_recording_is_the_run_and_the_norms_of_its_gradients():
    problem, machine = "logistic(batch=50)", "graft(adam, momentum(lr=0.1), partition=global)"
    found = recording.record(problem, f"in_place({machine})", 30, seed=3, record_every=4)
    run = simulate(problem, f"in_place({machine})", 30, seed=3, record_every=4)
    assert (found.last == run.last).all()
    assert all((found.info[path] == run.info[path]).all() for path in run.info)
    assert found.kept.tolist() == [0, 30], "weights at the ends only"
    assert found.steps.tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 30]
    parsed, weights = problems.parse(problem), simulate(problem, machine, 30, seed=3).weights
    for row, step in enumerate(found.steps[1:]):
        gradient = parsed.gradients(weights[step - 1], int(step), 3)
        assert found.info["gradient.norm"][row, 0] == pytest.approx(np.linalg.norm(gradient), rel=1e-14)
    assert set(found.info["gradient.unit"].ravel()) == {2.0**-53}
    assert recording.path_of(found, None) == "inner"
    groups = series.of(found, "inner")
    assert recording.partition_of(found, groups, "inner", None) == "global"
    with pytest.raises(GraftsimError, match="discovered by a graft, such as adam#sgd; received sgd"):
        recording.record(problem, "sgd", 3)


def test_lengths_neither_overflow_nor_vanish():
    from graftsim import partitions
    from graftsim.layouts import Layout

    tensors = partitions.by_tensor(Layout.of({"a": (2,), "b": (1,)}))
    assert recording.lengths(np.array([3e200, 4e200, 0.0]), tensors).tolist() == pytest.approx([5e200, 0.0])
    assert recording.lengths(np.array([3e-300, 4e-300, 0.0]), tensors).tolist() == pytest.approx([5e-300, 0.0])
    assert recording.lengths(np.zeros(3), tensors).tolist() == [0, 0]
    assert np.isnan(recording.lengths(np.array([1.0, math.inf, 1.0]), tensors)).all()


def test_the_groups_of_recordings_of_adapters():
    """They say what they like as the machine."""
    run = record([[1.0, 2.0]] * 4, [[1.0, 1.0]] * 4)
    odd = dataclasses.replace(run, meta=dataclasses.replace(run.meta, machine="my own optimizer"))
    assert recording.partition_of(odd, series.of(odd), "", None) == "tensor"
    sets = "pattern(a='a', b='b')"
    assert recording.partition_of(odd, series.of(odd), "", sets) == sets
    with pytest.raises(GraftsimError, match="must be the one of the recorded groups, a, b; received global"):
        recording.partition_of(odd, series.of(odd), "", "global")


def test_corrections_of_equal_directions_give_the_magnitude_back():
    """Bit for bit: 0.5 g and 2 g differ by a power of two, so do their norms, and a median of equal ratios is one."""
    problem = "digits(hidden=[8])"
    run = recording.record(problem, "sgd(lr=0.5)#sgd(lr=2)", 12)
    found = finding.choose(finding.find(run, partition="tensor"), Choice())
    assert {factor.c0 for factor in found.factors.values()} == {0.25}
    machine = applying.corrected("sgd(lr=2)", found, problems.parse(problem).layout)
    corrected = simulate(problem, machine, 20)
    assert (corrected.weights == simulate(problem, "sgd(lr=0.5)", 20).weights).all()


def test_a_discovered_line_gives_a_schedule_back():
    problem, line = "quadratic(dimension=3, condition=2)", "linear_correction(c0=0.01, c1=0.001)"
    run = recording.record(problem, f"sgd(lr={line})#sgd(lr=1)", 40)
    found = finding.choose(finding.find(run, partition="tensor"), Choice(form="line"))
    assert found.factors["w"].c0 == pytest.approx(0.01, rel=1e-9)
    machine = applying.corrected("sgd(lr=1)", found, problems.parse(problem).layout)
    want = simulate(problem, f"sgd(lr={line})", 40).last
    assert simulate(problem, machine, 40).last == pytest.approx(want, rel=1e-9)


# -- agreement ---------------------------------------------------------------------------------------------------------


def test_runs_that_go_the_same_way_and_the_opposite_way():
    problem = "quadratic(eigenvalues=[1, 1, 1])"
    run, twice, back, still = (simulate(problem, f"sgd(lr={lr})", 6) for lr in (0.125, 0.25, 0.125, 0))
    same = agreement.agree(run, run)
    assert (same.distance == 0).all()
    assert same.updates[1:] == pytest.approx(1, abs=1e-15)
    assert same.ways[1:] == pytest.approx(1, abs=1e-15)
    assert np.isnan(same.updates[0])
    faster = agreement.agree(twice, run)
    assert faster.lengths[1] == 2
    assert faster.updates[1:] == pytest.approx(1, abs=1e-15)
    opposite = agreement.agree(run, dataclasses.replace(back, weights=2 - back.weights))  # reflected about the start
    assert opposite.updates[1:] == pytest.approx(-1, abs=1e-15)
    assert opposite.relative[1:] == pytest.approx(2, abs=1e-15)
    assert np.isnan(agreement.agree(run, still).updates).all()
    assert opposite.losses[0] == run.loss[-1]


def test_what_cannot_be_compared():
    run = simulate("quadratic(dimension=2)", "sgd", 6)
    with pytest.raises(GraftsimError, match=r"same tensors.*1 tensors of 2 weights \(w\) and 1 tensors of 3"):
        agreement.agree(run, simulate("quadratic(dimension=3)", "sgd", 6))
    with pytest.raises(GraftsimError, match="kept their weights at two steps or more"):
        agreement.agree(run, simulate("quadratic(dimension=2)", "sgd", 8, keep_every=8))
    sparse = agreement.agree(run, simulate("quadratic(dimension=2)", "sgd", 6, keep_every=3))
    assert sparse.steps.tolist() == [0, 3, 6]


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_pictures_of_few_and_of_many_groups():
    rng = np.random.default_rng(0)
    for count in (3, 20):
        names = tuple(f"layer {i}" for i in range(count))
        found = Series(np.arange(1, 201), names, rng.lognormal(size=(200, count)), np.ones((200, count)))
        chosen = corrections.Corrections({names[0]: corrections.Factor(c=2, alpha=0.5)}, "tensor", "")
        drawn = [io.BytesIO() for _ in range(2 if count == 3 else 1)]
        for buffer in drawn:
            pictures.ratio_curves(found, chosen, buffer, 7)
        assert drawn[0].getvalue() == drawn[-1].getvalue(), "equal data, equal bytes"
        assert drawn[0].getvalue().startswith(b"<?xml")


@given(arrays.arrays(np.float64, (4, 5), elements=st.floats(0, 1e3)))
def test_longer_steps_of_m_are_darker(n_m):
    shown = pictures.opacities(Series(np.arange(1, 5), tuple("abcde"), n_m, np.ones((4, 5))))
    weight = (n_m**2).mean(axis=0)
    assert ((shown >= 0.1) & (shown <= 1)).all()
    order = np.argsort(weight)
    assert (np.diff(shown[order]) >= 0).all()
    assume(weight.max() > 1e-3)
    assert shown[weight.argmax()] == 1


# -- commands ----------------------------------------------------------------------------------------------------------


PROBLEM = ["--problem", "digits(hidden=[8])", "--steps", "60"]


def test_record_fit_apply_compare(run, tmp_path):
    assert run("record", "adam(lr=0.01)#sgd", *PROBLEM, "--out", "run.npz")[0] == 0
    code, out, err = run(
        *["fit", "run.npz", "--first", "40", "--round", "--tie", "*bias", "--beta", "3", "--fix", "output.weight=0.5"],
        *["--out", "found.yaml", "--json", "found.json", "--plot", "ratios.svg", "--scale", "0.5"],
    )
    assert (code, err) == (0, "")
    assert "the first 40 steps" in out
    assert "saved found.yaml" in out
    found = corrections.read(tmp_path / "found.yaml")
    medians = corrections.discover(trajectory.load(tmp_path / "run.npz"), 40)
    assert found.constants("") == {
        "hidden0.weight": 0.5 * rounding.power_of_ten(medians["hidden0.weight"]),
        "hidden0.bias": 1.5, "output.weight": 0.25, "output.bias": 1.5,
    }  # fmt: skip
    assert found.origin["digest"] == trajectory.load(tmp_path / "run.npz").digest
    assert found.origin["steps"] == 40
    written = json.loads((tmp_path / "found.json").read_text())
    assert [group["median"] for group in written["groups"]] == list(medians.values())
    assert (tmp_path / "ratios.svg").stat().st_size > 1000
    code, out, _ = run("apply", "found.yaml", "sgd", *PROBLEM, "--out", "applied.npz")
    assert code == 0
    assert "sgd, corrected by found.yaml" in out
    machine = applying.corrected("sgd", found, problems.parse(PROBLEM[1]).layout)
    assert trajectory.load(tmp_path / "applied.npz").digest == simulate(PROBLEM[1], machine, 60).digest
    run("record", "in_place(adam(lr=0.01)#sgd)", *PROBLEM, "--keep-every", "20", "--out", "kept.npz")
    assert run("fit", "kept.npz")[0] == 0
    code, out, _ = run("compare", "kept.npz", "applied.npz", "--json", "same.json", "--plot", "same.svg")
    assert code == 0
    assert "cosine of updates" in out
    assert json.loads((tmp_path / "same.json").read_text())["steps"] == [0, 20, 40, 60]


@pytest.mark.parametrize("out", ["", " --out -"])
def test_the_three_commands_pipe(tmp_path, out):
    """As a shell does it: bytes and YAML on the standard output, words for people on the standard error."""
    program = f"{sys.executable} -m graftsim"
    problem = "--problem 'quadratic(dimension=4)'"
    done = subprocess.run(
        f"{program} record 'adam(lr=0.1)#sgd' {problem} --steps 50{out} | {program} fit - --form line{out} "
        f"| {program} apply - sgd {problem} --steps 20",
        shell=True, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "corrected by the standard input" in done.stdout
    assert "50 steps" in done.stderr
    assert ("median" in done.stderr) == bool(out)
    assert not list(tmp_path.iterdir())


def test_what_fit_prints_is_a_file_of_corrections(run, tmp_path, monkeypatch):
    """The table as comments above it, whatever the names of groups are; and plain, whatever colours are asked for."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    run("record", "adam(lr=0.01)#sgd", *PROBLEM, "--out", "run.npz")
    code, out, err = run("fit", "run.npz", "--json", "found.json")
    assert (code, err) == (0, "")
    (tmp_path / "piped.yaml").write_text(out)
    assert run("fit", "run.npz", "--out", "found.yaml")[0] == 0
    piped, found = (corrections.read(tmp_path / name) for name in ("piped.yaml", "found.yaml"))
    assert (piped.factors, piped.origin) == (found.factors, found.origin)
    table = [line for line in out.splitlines() if line.startswith("# ")]
    assert any(line.startswith("# hidden0.weight ") for line in table)
    assert table[-1] == "# written found.json"
    assert "\x1b" not in out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("FORCE_COLOR")
    code, shown, _ = run("fit", "run.npz")
    assert code == 0
    assert "hidden0.weight" in shown
    assert "#" not in shown.replace("adam(lr=0.01)#sgd", "")
    assert "factors:" not in shown


def test_comments_begin_every_line_once(capsys):
    comments = pipes.Comments()
    for text in ("a", "b\nc\n", "", "d\u2028e", "\n\n", "f\n"):
        comments.write(text)
    assert capsys.readouterr().out == "# ab\n# c\n# d\u2028# e\n# \n# f\n"


def test_nobody_is_waited_for_on_a_terminal(monkeypatch, capsys):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    for arguments in (["fit", "-"], ["apply", "-", "sgd", *PROBLEM], ["compare", "-", "-"]):
        monkeypatch.setattr(sys, "argv", ["graftsim", *arguments])
        monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO()))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        err = capsys.readouterr().err
        assert (stop.value.code, err.count("\n")) == (2, 1)
        assert "the standard input must be" in err
        assert "it is a terminal: name a file" in err


def test_a_machine_with_a_factor_for_each_of_many_groups_is_shown_briefly(run, tmp_path):
    """Written out it has more characters than an expression may have."""
    many = ["--problem", f"digits(hidden={[4] * 16})", "--steps", "2"]
    run("record", "adam#sgd", *many, "--out", "run.npz")
    assert run("fit", "run.npz", "--fix", "*=0.5", "--out", "found.yaml")[0] == 0
    code, out, _ = run("apply", "found.yaml", "sgd", *many, "--out", "applied.npz")
    assert code == 0
    assert "sgd, corrected by found.yaml" in out
    assert len(trajectory.load(tmp_path / "applied.npz").meta.machine) > expressions.LENGTH
    code, out, _ = run("compare", "applied.npz", "applied.npz")
    assert code == 0
    assert "applied.npz: corrected(sgd(lr=0.01), c0={34 groups}, c1={34 groups}, c={34 groups}, alpha=0" in out
    assert max(map(len, out.splitlines())) < 400


def test_a_few_values_are_shown_one_by_one():
    few = "corrected(sgd(lr=[0.1, 0.2]), c0={'w': 1.0, 'b': 2.0}, partition=sets(a={'w': [0]}))"
    assert experimenting.brief(few) == few
    assert experimenting.brief("sgd(lr=[1, 2, 3, 4, 5])#adam") == "sgd(lr=[5 values])#adam"


def test_a_line_and_a_power_for_all_groups(run, tmp_path):
    run("record", "adam(lr=0.01)#sgd", *PROBLEM, "--out", "run.npz")
    for form in ("line", "power"):
        code, _, _ = run("fit", "run.npz", "--together", "--form", form, "--since", "5", "--out", "all.yaml")
        assert code == 0
        found = corrections.read(tmp_path / "all.yaml")
        assert found.partition == "global"
        assert list(found.factors) == ["all"]
        assert not found.constant
        assert run("apply", "all.yaml", "sgd", *PROBLEM)[0] == 0


MISTAKES = {
    "a recording that is too short": (["fit", "run.npz", "--first", "61"], "the first 61 steps must lie in the record"),
    "no steps": (["fit", "run.npz", "--first", "0"], "the first 0 steps must lie"),
    "a record of no graft": (["fit", "plain.npz"], "discovered from the record of a graft; received info []"),
    "no graft": (["record", "sgd", *PROBLEM, "--out", "x.npz"], "discovered by a graft"),
    "another graft": (["fit", "run.npz", "--at", "direction"], "a graft at direction"),
    "no such file": (["fit", "none.npz"], "cannot read none.npz"),
    "not a recording": (["fit", "-"], "the standard input must be a whole .npz archive"),
    "corrections as a recording": (["fit", "found.yaml"], "must be a whole .npz archive"),
    "a recording as corrections": (["apply", "run.npz", "sgd", *PROBLEM], "must be UTF-8 text"),
    "nothing as corrections": (["apply", "-", "sgd", *PROBLEM], "the standard input: a file of corrections must have"),
    "corrections for other tensors": (
        ["apply", "found.yaml", "sgd", "--problem", "quadratic(dimension=2)"],
        "there must be one factor for each group",
    ),
    "ratios that are never finite": (["fit", "still.npz"], "group 'w' must have a step whose direction is not zero"),
    "a fit of nothing": (["fit", "still.npz", "--form", "power"], "group 'w' must have a step whose direction"),
    "a pattern of nothing": (["fit", "run.npz", "--tie", "*attention*"], "no group matches '*attention*'"),
    "a factor that is none": (["fit", "run.npz", "--fix", "a=b"], "--fix must be PATTERN=NUMBER"),
    "a factor below 0": (["fit", "run.npz", "--fix", "*=-1"], "a number that is at least 0; received '*=-1'"),
    "an even width": (["fit", "run.npz", "--width", "4", "--plot", "x.svg"], "odd and at least 1; received 4"),
    "other runs": (["compare", "run.npz", "still.npz"], "must have the same tensors"),
    "a picture of another kind": (["fit", "run.npz", "--plot", "x.gif"], "received x.gif"),
    "a place that cannot be written": (["fit", "run.npz", "--out", "/proc/none/x.yaml"], "cannot write"),
}


def test_a_mistake_is_one_line_and_exit_code_2(run):
    run("record", "adam(lr=0.01)#sgd", *PROBLEM, "--out", "run.npz")
    run("run", "sgd", *PROBLEM, "--out", "plain.npz")
    run("record", "adam#sgd(lr=0)", "--problem", "quadratic(dimension=2)", "--out", "still.npz")
    run("fit", "run.npz", "--out", "found.yaml")
    for name, (arguments, says) in MISTAKES.items():
        code, _, err = run(*arguments)
        assert (code, err.count("\n")) == (2, 1), (name, err)
        assert err.startswith("graftsim: "), name
        assert says in err, (name, err)


def test_bytes_are_not_written_on_a_terminal(run, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for out in ([], ["--out", "-"]):
        code, _, err = run("record", "adam#sgd", *PROBLEM, *out)
        assert (code, err.count("\n")) == (2, 1)
        assert "a recording is not text: pipe it, or name a file with --out" in err
        assert "graftsim record ... --out run.npz" in err


def test_the_commands_of_the_guide(monkeypatch, capsysbinary, tmp_path):
    """In order, in one folder, as a reader would type them; what is piped goes from one to the next."""
    text = (ROOT / "docs" / "discovery.md").read_text()
    commands = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines()
    assert sum("|" in command for command in commands) == 1
    monkeypatch.chdir(tmp_path)
    for command in commands:
        out = b""
        for part in command.split(" | "):
            monkeypatch.setattr(sys, "argv", shlex.split(part))
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(out)))
            assert sys.argv[0] == "graftsim"
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert not stop.value.code
            out, _ = capsysbinary.readouterr()
        assert out, command
