"""Run files, and the packaged comparison of AdaGrad and SGD (issue 2)."""

import pytest

from graftsim import GraftsimError, runs


def test_the_packaged_comparison_agrees_with_every_closed_form():
    """Ten runs at 1e-10; a graft whose magnitude and direction were exchanged would be off by 0.2 and more."""
    assert "adagrad-vs-sgd" in runs.names()
    found = runs.load("adagrad-vs-sgd")
    results = [runs.execute(run) for run in found.runs]
    assert [result.run for result in results] == list(found.runs)
    assert all(result.error is not None and result.error <= 1e-10 for result in results)
    wilson = [result.measures["test error"] for result in results[:4]]
    hinge = [round(result.measures["test hinge"], 3) for result in results[4:8]]
    assert wilson == [0, 14 / 40, 14 / 40, 0]
    assert hinge == [0.966, 0.5, 0.966, 0.5]


def test_a_single_run_from_a_file(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text('problem: not_descent\nmachine: "sgd#adam"\nsteps: 3\nseed: 5\ndtype: float32\nrecord_every: 2\n')
    found = runs.load(path)
    assert found == runs.load(str(path))
    assert found.runs == (runs.Run("not_descent", "sgd#adam", 3, 5, "float32", 2),)
    seen = []
    result = runs.execute(found.runs[0], seen.append)
    assert seen == [1, 2, 3]
    assert result.trajectory.meta.dtype == "float32"
    assert result.trajectory.steps.tolist() == [0, 2, 3]
    assert (result.prediction, result.error) == (None, None)
    assert result.measures == {"loss": result.trajectory.loss[-1]}


ONE = "problem: not_descent\nmachine: sgd\nsteps: 3\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("problem: not_descent\nmachine: adam # sgd\nsteps: 3\n", "reads what follows 'adam' as a comment"),
        ("machine: sgd\nsteps: 3\n", "'problem' is a required property"),
        (ONE + "stepz: 4\n", "'stepz' was unexpected"),
        (ONE.replace("3", "-3"), "-3 is less than the minimum"),
        (ONE + "dtype: float16\n", "'float16' is not one of"),
        (ONE + "record_every: 0\n", "0 is less than the minimum"),
        ("title: t\nruns: []\n", "should be non-empty"),
        ("runs:\n  - {problem: not_descent, machine: sgd, steps: 1}\n", "'title' is a required property"),
        ("title: t\nruns:\n  - {problem: not_descent, steps: 1}\n", r"runs\[0\].*'machine' is a required property"),
        ("- 1\n", "is not of type 'object'"),
    ],
)
def test_a_bad_file_gets_one_line(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(GraftsimError, match=message) as caught:
        runs.load(path)
    assert "\n" not in str(caught.value)
    assert "bad.yaml" in str(caught.value)


def test_unknown_names_get_the_nearest():
    with pytest.raises(GraftsimError, match="did you mean 'adagrad-vs-sgd'"):
        runs.load("adagrad-vs-sdg")
    with pytest.raises(GraftsimError, match="cannot read"):
        runs.load("missing.yaml")
    run = runs.Run("wilson(positives=3, negatives=2)", "sgd", 1, prediction="row spam")
    with pytest.raises(GraftsimError, match="makes no prediction 'row spam'; did you mean 'row span'"):
        runs.execute(run)
    with pytest.raises(GraftsimError, match="makes no prediction 'sign ray'"):  # positives must outnumber negatives
        runs.execute(runs.Run("wilson(positives=2, negatives=2)", "sgd", 1, prediction="sign ray"))
