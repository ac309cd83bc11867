"""Pictures of experiments: what is drawn, with which bytes, and what cannot be drawn."""

import io
import subprocess
import sys

import numpy as np
import pytest

from graftsim.errors import GraftsimError
from graftsim.experiments import figures, geometry, pictures
from graftsim.experiments.diagnosis import Diagnosis, DiagnosisResult
from graftsim.experiments.grid import Grid, GridResult
from graftsim.experiments.plans import Plan
from graftsim.experiments.sweep import Sweep, SweepResult
from graftsim.experiments.trials import Outcome
from graftsim.experiments.zoo import Zoo, ZooResult
from graftsim.simulate import simulate

PROBLEM = "logistic(batch=64)"
MACHINE = "graft(adam(lr=0.01), sgd(lr=0.1), partition={})"


@pytest.fixture(scope="module")
def run():
    return simulate(PROBLEM, MACHINE.format("block(5)"), 12)


def drawn(draw):
    """What ``draw`` leaves on an axis, before it is written."""
    buffer = io.BytesIO()
    with figures.sheet(buffer) as axes:
        draw(axes[0, 0])
        axis = axes[0, 0]
    assert buffer.getvalue().startswith(b"<?xml")
    return axis


# -- sheets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", figures.FORMATS)
def test_equal_data_give_equal_bytes(tmp_path, suffix, run):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        with figures.sheet(path, title="a title") as axes:
            figures.layer_curves(axes[0, 0], run)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert len(first) > 5000
    if suffix == ".svg":
        assert b"<dc:date>" not in first
        assert b"<text" not in first  # letters are outlines: no font is needed to read them


def test_nothing_opens_a_window_and_no_style_stays():
    program = """
import io, sys
import matplotlib
from graftsim.experiments import figures
def style():
    return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}  # which loads pyplot
before = style()
with figures.sheet(io.BytesIO()) as axes:
    axes[0, 0].plot([1, 2])
assert style() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_cannot_be_drawn_is_said_early(tmp_path, monkeypatch):
    with pytest.raises(GraftsimError, match=r"must end in \.svg, \.png, \.pdf; received a\.gif"):
        figures.check(figures.Path("a.gif"))
    with pytest.raises(GraftsimError, match="cannot write"):
        figures.check(figures.Path("/proc/none/a.svg"))
    figures.check(tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(GraftsimError, match=r"pip install 'graftsim\[plot\]'"):
        figures.check(tmp_path / "a.svg")


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_are_told_apart_from_each_other_and_from_white():
    assert len(set(figures.COLORS)) == len(figures.COLORS) == len({str(style) for style in figures.STYLES})
    for color in figures.COLORS:
        assert 1.05 / (luminance(color) + 0.05) > 1.9  # contrast with white, as WCAG reckons it


# -- curves ------------------------------------------------------------------------------------------------------------


def test_a_band_is_the_geometric_mean_and_the_range():
    axis = drawn(lambda axis: figures.band(axis, [0, 1], [[1.0, 4.0], [1.0, 1.0]], "x", "#0072B2"))
    assert axis.lines[0].get_ydata() == pytest.approx([1, 2], rel=1e-15)
    heights = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 4)


def test_a_curve_that_blows_up_ends_with_a_cross():
    losses = [[1.0, 2.0, 1e300, np.inf, np.nan], [1.0, 2.0, 3.0, 4.0, 5.0]]

    def draw(axis):
        figures.band(axis, range(5), losses, "x", "#0072B2")
        figures.log_scale(axis)

    axis = drawn(draw)  # and without a warning, which would be an error
    line, cross = axis.lines
    assert np.isfinite(line.get_ydata()).tolist() == [True, True, True, False, False]
    assert (cross.get_xdata()[0], cross.get_marker()) == (2, "x")
    assert axis.get_ylim()[0] < cross.get_ydata()[0] <= axis.get_ylim()[1]


def test_a_loss_axis_is_cut_where_only_rounding_is_left():
    def draw(axis):
        figures.band(axis, [0, 1, 2], [[1.0, 1e-5, 1e-31]], "x", "#0072B2")
        figures.log_scale(axis)

    low, high = drawn(draw).get_ylim()
    assert 1e-21 < low < 1e-20
    assert 1 < high < 2
    drawn(figures.log_scale)  # nothing at all


# -- layer curves ------------------------------------------------------------------------------------------------------


def test_layer_curves_are_darker_for_longer_steps_of_m(run):
    axis = drawn(lambda axis: figures.layer_curves(axis, run))
    groups = axis.lines[: run.info["ratio"].shape[1]]
    weights = {}
    for line in groups:
        (column,) = (g for g in range(len(groups)) if np.array_equal(line.get_ydata(), run.info["ratio"][:, g]))
        weights[column] = line.get_alpha()
    squares = (run.info["n_m"] ** 2).mean(axis=0)
    order = np.argsort(squares)
    shades = [weights[group] for group in order]
    assert shades == sorted(shades)
    assert shades[-1] == 1
    assert 0.1 <= shades[0] < 0.9


def test_the_global_ratio_is_that_of_the_global_graft(run):
    """At the first step both grafts stand at the same weights. Each norm is rounded once, and so are some ten
    operations on them: 20 u."""
    axis = drawn(lambda axis: figures.layer_curves(axis, run))
    as_one = axis.lines[-1].get_ydata()
    whole = simulate(PROBLEM, MACHINE.format("global"), 1).info["ratio"][0, 0]
    assert as_one[0] == pytest.approx(whole, rel=20 * 2.0**-53)
    assert axis.get_yscale() == "log"


def test_a_group_that_does_not_move_has_no_curve():
    run = simulate("rare(coordinates=6, share=0.5)", "graft(adam, sgd, partition=block(1))", 3)
    axis = drawn(lambda axis: figures.layer_curves(axis, run))
    shown = np.array([line.get_ydata() for line in axis.lines[:6]])
    assert np.isnan(shown).all(axis=1).sum() == 3  # coordinates that are never seen
    assert (shown[~np.isnan(shown)] > 0).all()


def test_only_recorded_grafts_have_layer_curves(run):
    nested = simulate(PROBLEM, "(adam#momentum)#sgd", 3)
    inner = drawn(lambda axis: figures.layer_curves(axis, nested, "magnitude"))
    assert len(inner.lines) == 2 + nested.info["magnitude.ratio"].shape[1]
    assert figures.norms(nested, "magnitude")[0] is nested.info["magnitude.n_m"]
    for path, bad in (("", simulate(PROBLEM, "sgd", 2)), ("direction", nested)):
        with pytest.raises(GraftsimError, match="must be of a graft"):
            figures.norms(bad, path)
    with pytest.raises(GraftsimError, match="a recorded step after the start"):
        figures.norms(simulate(PROBLEM, "adam#sgd", 0))


# -- geometry ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 4])
def test_the_steps_are_those_of_the_run(step):
    m, d, problem = "adam(lr=0.3)", "momentum(lr=0.01)", "quadratic(eigenvalues=[1, 8])"
    found = geometry.steps_at(problem, m, d, step)
    run = simulate(problem, f"graft({m}, {d}, partition=global)", step)
    assert np.array_equal(found.weights, run.weights[step - 1])
    assert np.array_equal(found.weights + found.grafted, run.last)
    # |delta|, by one square root of a sum of two squares: within 2 u of the rounded norm of the record.
    for delta, norm in ((found.magnitude, "n_m"), (found.direction, "n_d")):
        assert np.sqrt((delta * delta).sum()) == pytest.approx(run.info[norm][-1, 0], rel=4 * 2.0**-53)
    ratio = run.info["ratio"][-1, 0]
    assert np.array_equal(found.grafted, ratio * found.direction)


def test_m_d_and_the_graft_in_the_plane():
    found = geometry.steps_at("quadratic(eigenvalues=[1, 8])", "adam(lr=0.3)", "sgd(lr=0.06)", 2)
    steps = (found.magnitude, found.direction, found.grafted)
    axis = drawn(lambda axis: figures.geometry(axis, *steps, names=("Adam", "SGD")))
    arrows = [arrow for arrow in axis.collections if hasattr(arrow, "U")]
    assert [(float(a.U[0]), float(a.V[0])) for a in arrows] == [tuple(step) for step in steps]
    assert axis.patches[0].radius == pytest.approx(float(np.hypot(*found.grafted)), rel=1e-15)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["Adam", "SGD", "Adam#SGD"]
    for bad in ([1, 2, 3], [1, np.nan]):
        with pytest.raises(GraftsimError, match="2 finite numbers"):
            figures.geometry(axis, bad, bad, bad)
    figures.geometry(axis, [0, 0], [1, 0], [0, 0])


# -- pictures of experiments -------------------------------------------------------------------------------------------


def runs(*losses):
    return [Outcome([0, 1], [9.0, loss], {"score": loss}, False, str(loss)) for loss in losses]


PLAN = Plan("rare", 1, 2)


def test_a_dollar_sign_is_no_mathematics():
    pattern = r"groups({'a': '\\w$', 'b': '^\\q$'})"
    grid = Grid(Plan("rare", 1, 1), {"a": "sgd", "$\\frac$": "adam"}, (pattern,))
    result = GridResult(grid, {key: runs(1.0) for key in grid.trials()})
    pictures.grid_curves(result, io.BytesIO())
    with figures.sheet(io.BytesIO(), title="recorded(path='$\\frac$')"):
        pass


def test_a_grid_is_coloured_by_m(monkeypatch):
    grid = Grid(PLAN, {"a": "sgd", "b": "adam"}, ("global", "tensor"))
    found = {key: runs(1.0, 2.0) for key in grid.trials()}
    lines = []
    monkeypatch.setattr(pictures.figures, "legend_below", lambda axis, columns: lines.extend(axis.lines))
    pictures.grid_curves(GridResult(grid, found), io.BytesIO())
    curves = [(line.get_color(), line.get_linestyle()) for line in lines[:4]]
    first, second = figures.COLORS[:2]
    assert curves == [(first, "-"), (first, "--"), (second, "-"), (second, "--")]
    assert {line.get_label(): line.get_color() for line in lines if line.get_label().startswith("M = ")} == {
        "M = a": first,
        "M = b": second,
    }


def test_the_other_pictures():
    directions = {"a": "sgd", "b": "adam"}
    zoo = Zoo(PLAN, "adam", directions)
    asked = Diagnosis(PLAN, "adam", ("sgd", "sgd(lr=1)"))
    sweeps = [
        Sweep(PLAN, "sgd", "lr", values) for values in (("0", "1", "1e4"), ("1", "2"), ("1/step", "1"), ("-1", "5"))
    ]
    draws = [
        lambda target: pictures.zoo_curves(ZooResult(zoo, {key: runs(1.0, 2.0) for key in zoo.trials()}), target),
        lambda target: pictures.diagnosis_curves(
            DiagnosisResult(asked, {key: runs(1.0, 2.0) for key in asked.trials()}), target
        ),
        *(
            lambda target, swept=swept: pictures.sweep_figure(
                SweepResult(swept, {v: runs(1.0, 2.0) for v in swept.values}, {"form": {"score": 1.5}}), target, "score"
            )
            for swept in sweeps
        ),
    ]
    for draw in draws:
        buffer = io.BytesIO()
        draw(buffer)
        assert buffer.getvalue().count(b"<path") > 10
