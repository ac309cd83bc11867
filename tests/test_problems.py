"""Problems: gradients are those of the loss, draws are pure, expressions read back, bad input gets one line."""

import sys
import zipfile

import numpy as np
import pytest

from graftsim import GraftsimError, problems
from graftsim.problems import randomness
from graftsim.problems.logistic import breast_cancer
from graftsim.simulate import simulate

EXPRESSIONS = [
    "quadratic(eigenvalues=[1, 2, 4])",
    "quadratic(dimension=5, condition=1e3, rotation=3)",
    "quadratic(eigenvalues=[1, 100], begin=[0.5, -1e-3])",
    "wilson(positives=5, negatives=3, batch=3, reflected=True)",
    "wilson(samples=20, p=0.65, draw=7)",
    "rare(coordinates=20, share=0.5, replacement=True, draw=1)",
    "least_squares(samples=12, dimension=5, noise=0.5, batch=5, draw=2)",
    "logistic(batch=64)",
    "logistic",
    "not_descent",
    "divergent()",
]
SMOOTH = [text for text in EXPRESSIONS if "rare" not in text and "batch" not in text]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_the_expression_of_a_problem_reads_back(text):
    """A field that str leaves out, or prints with too few digits, gives another problem."""
    problem = problems.parse(text)
    again = problems.parse(str(problem))
    assert again == problem
    assert str(again) == str(problem)
    weights = problem.start(0, np.float64) + 0.5
    assert (problem.gradients(weights, 2, 3) == again.gradients(weights, 2, 3)).all()


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_gradients_are_pure_and_rounded_once(text):
    """The same call gives the same bits, whatever was asked in between; float32 is float64's answer rounded."""
    problem = problems.parse(text)
    weights = np.random.default_rng(0).standard_normal(problem.layout.size).astype(np.float32)
    first = problem.gradients(weights, 3, 9)
    for step in (1, 40, 2):
        problem.gradients(weights, step, 9)
    again = problem.gradients(weights, 3, 9)
    wide = problem.gradients(weights.astype(np.float64), 3, 9)
    assert first.dtype == np.float32
    assert first.tobytes() == again.tobytes() == wide.astype(np.float32).tobytes()


@pytest.mark.parametrize(
    "text", ["wilson(positives=9, negatives=7, batch=4)", "least_squares(batch=5)", "rare(coordinates=40)"]
)
def test_the_seed_chooses_the_batches(text):
    problem = problems.parse(text)
    weights = problem.start(0, np.float64)
    assert any((problem.gradients(weights, t, 0) != problem.gradients(weights, t, 1)).any() for t in range(1, 6))


@pytest.mark.parametrize("text", SMOOTH)
def test_gradients_are_slopes_of_the_loss(text):
    """Central differences of a loss F at h: F' is off by h^2 F''' / 6 and 2 u F / h. At h = 1e-4 the second is 1e-12 F,
    and third derivatives, 0 but in the logistic loss, are below 1 there for standardised features: 1e-7 suffices."""
    problem, h = problems.parse(text), 1e-4
    weights = 0.1 * np.random.default_rng(1).standard_normal(problem.layout.size)
    gradient = problem.gradients(weights, 1, 0)
    for place, unit in enumerate(np.eye(len(weights))):
        slope = (problem.loss(weights + h * unit) - problem.loss(weights - h * unit)) / (2 * h)
        assert abs(slope - gradient[place]) <= 1e-7 * (1 + abs(gradient[place]))


def test_draws_are_the_same_everywhere_and_always():
    """Philox is the same on every machine; a draw from a shared or global generator changes from call to call."""
    for _ in range(2):
        randomness.shuffled.cache_clear()
        assert randomness.shuffled(8, 5, randomness.ORDER, 1).tolist() == [7, 2, 4, 3, 5, 1, 0, 6]
        assert randomness.generator(5, randomness.DATA).random(2).tolist() == [0.7337459554446363, 0.5905206445727093]


def test_sgd_on_a_quadratic_is_exact():
    """With eigenvalues 1, 2, 4 and lr 1/8 the weights are (7/8)^t, (6/8)^t, (4/8)^t, exact numbers up to t = 18."""
    run = simulate("quadratic(eigenvalues=[1, 2, 4])", "sgd(lr=0.125)", 18)
    assert (run.weights == np.array([7 / 8, 6 / 8, 4 / 8]) ** np.arange(19)[:, None]).all()
    assert (run.loss == 0.5 * (np.array([1, 2, 4]) * run.weights * run.weights).sum(axis=1)).all()


def test_a_rotation_keeps_the_eigenvalues_and_fills_the_hessian():
    problem = problems.parse("quadratic(eigenvalues=[1, 10, 100], rotation=5)")
    hessian = np.array([problem.gradients(unit, 1, 0) for unit in np.eye(3)])
    assert np.allclose(np.linalg.eigvalsh(hessian), [1, 10, 100], rtol=0, atol=1e-12)
    assert (np.abs(hessian) > 0.1).all()


def test_least_squares_ends_at_the_minimum():
    """Gradient descent at 1 / L for 40 condition numbers; the normal equations hold there."""
    problem = problems.parse("least_squares(samples=60, dimension=4)")
    curvature = np.linalg.eigvalsh(problem.data[0].T @ problem.data[0] / 60)
    steps = int(40 * curvature[-1] / curvature[0])
    run = simulate(problem, f"sgd(lr={float(1 / curvature[-1])!r})", steps, record_every=steps)
    found, wanted = problem.measures(run.last), problem.predictions()["minimum"]
    assert found["distance"] <= 1e-13
    assert abs(found["loss"] - wanted["loss"]) <= 1e-15
    assert problem.loss(problem.solution) < problem.loss(run.weights[0])


def test_logistic_learns_real_data():
    problem = problems.parse("logistic(batch=32)")
    x, y, x_new, _ = breast_cancer()
    assert (x.shape, len(y), len(x_new)) == ((456, 30), 456, 113)
    assert np.abs(x.mean(axis=0)).max() < 1e-12
    found = problem.measures(simulate(problem, "adam(lr=0.03)", 150, record_every=150).last)
    assert found["loss"] < 0.1
    assert found["test error"] <= 0.05


def test_logistic_without_scikit_learn_names_the_extra(monkeypatch):
    breast_cancer.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(GraftsimError, match=r"pip install 'graftsim\[data\]'"):
        simulate("logistic", "sgd", 1)


# -- recorded streams ------------------------------------------------------------------------------------------------


def stream(folder, **arrays):
    path = folder / "stream.npz"
    np.savez(path, **arrays)
    return problems.parse(f"recorded(path={str(path)!r})")


def test_a_recorded_stream_is_what_the_machine_sees(tmp_path):
    """lr = 1 shows each gradient; where a tensor had none its weights and counter stand still."""
    a, b = np.arange(1.0, 7).reshape(3, 2), np.float32([0.5, 0.25, 0.125])
    start = {"a@start": np.array([10.0, 20.0])}
    problem = stream(tmp_path, a=a, b=b, **{"b@present": np.array([True, False, True])}, **start)
    run = simulate(problem, "momentum(lr=1, momentum=0)", 3)
    assert problem.layout.tensors == (("a", (2,)), ("b", ()))
    assert (run.weights[:, :2] == start["a@start"] - np.vstack([np.zeros(2), a.cumsum(axis=0)])).all()
    assert run.weights[:, 2].tolist() == [0, -0.5, -0.5, -0.625]
    assert run.state["t"].tolist() == [[0, 0], [1, 1], [2, 1], [3, 2]]
    assert np.isnan(run.loss).all()
    with pytest.raises(GraftsimError, match="gradients of 3 steps; step 4 was asked for"):
        simulate(problem, "sgd", 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "there must be an array of gradients"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, "'a' has 3, 'b' has 4"),
        ({"a": np.zeros(3, int)}, "must be float32 or float64"),
        ({"a": np.float64(1)}, "must be float32 or float64"),
        ({"a": np.array([None])}, "must hold numbers"),
        ({"a": np.zeros(3), "a@present": np.ones(2, bool)}, r"'a@present' must be booleans of shape \(3,\)"),
        ({"a": np.zeros((3, 2)), "a@start": np.zeros(3)}, r"'a@start' must be floats of shape \(2,\)"),
        ({"a": np.zeros(3), "b@start": np.zeros(())}, "'b@start' must be NAME@present or NAME@start"),
        ({"a": np.zeros(3), "a@begin": np.zeros(())}, "'a@begin' must be NAME@present or NAME@start"),
    ],
)
def test_a_bad_stream_gets_one_line(tmp_path, arrays, message):
    with pytest.raises(GraftsimError, match=message) as caught:
        simulate(stream(tmp_path, **arrays), "sgd", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], r"must be a whole \.npz archive"),
        (lambda data: data.replace(b"(3, 2)", b"(9, 2)"), r"must be a whole \.npz archive"),  # the checksum
        (lambda data: b"", r"must be a whole \.npz archive"),
        (lambda data: b"not an archive at all", r"must be a whole \.npz archive"),
        (None, "cannot read"),
    ],
)
def test_a_damaged_stream_gets_one_line(tmp_path, damage, message):
    problem = stream(tmp_path, a=np.ones((3, 2)))
    path = tmp_path / "stream.npz"
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(GraftsimError, match=message):
        simulate(problem, "sgd", 1)


def test_a_header_that_promises_more_than_there_is_allocates_nothing(tmp_path):
    """numpy.load would reserve 8 PB here before it finds the data missing."""
    path = tmp_path / "forged.npz"
    header = str({"descr": "<f8", "fortran_order": False, "shape": (10**15,)}).ljust(117).encode() + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(GraftsimError, match=r"must be a whole \.npz archive"):
        simulate(f"recorded(path={str(path)!r})", "sgd", 1)


# -- expressions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wilsn(positives=3)", "unknown problem 'wilsn'; did you mean 'wilson'"),
        ("wilson(positive=3)", "wilson has no argument 'positive'; did you mean 'positives'"),
        ("not_descent(x=1)", "not_descent has no argument 'x'; it takes no arguments"),
        ("wilson(3, 4)", "arguments are given by name"),
        ("wilson(**{'positives': 3})", r"'\*\*' is not allowed"),
        ("wilson(positives=len('abc'))", "must be a literal"),
        ("wilson(positives=True, negatives=1)", "positives: must be an integer from 0"),
        ("wilson(positives=2.0, negatives=1)", "positives: must be an integer from 0"),
        ("wilson(positives=-1, negatives=1)", "positives: must be an integer from 0"),
        ("wilson(positives=0, negatives=0)", "there must be at least one sample"),
        ("wilson(negatives=3)", "wilson, positives: must be an integer from 0 to 1000000; received nothing"),
        ("wilson", "needs either positives=a"),
        ("wilson(positives=3, samples=4)", "needs either positives=a"),
        ("wilson(samples=4, p=1.5)", "p: must be a number from 0 to 1; received 1.5"),
        ("wilson(positives=3, negatives=2, batch=6)", "batch: must be an integer from 1 to 5"),
        ("wilson(positives=3, negatives=2, reflected=1)", "reflected: must be True or False"),
        ("rare(coordinates=10, share=0.25)", "share \\* coordinates must be a whole number"),
        ("rare(share=0)", "share \\* coordinates must be a whole number from 1"),
        ("quadratic", "needs either eigenvalues"),
        ("quadratic(eigenvalues=[1, -1])", r"eigenvalues\[1\]: must be a number of at least 0; received -1"),
        ("quadratic(eigenvalues=[1, 1e999])", r"eigenvalues\[1\]: must be a number of at least 0; received inf"),
        ("quadratic(eigenvalues=[])", "eigenvalues: must be a list of numbers"),
        ("quadratic(eigenvalues=[1, 2], begin=[1])", "begin: must be a list of 2 numbers"),
        ("quadratic(dimension=1000000000)", "dimension: must be an integer from 1"),
        ("least_squares(samples=10000, dimension=10000)", "dimension: must be an integer from 1 to 1000"),
        ("logistic(batch=1000)", "batch: must be an integer from 1 to 456"),
        ("recorded", "must be the path of an .npz file"),
        ("problems.wilson()", "is not a problem"),
        ("wilson(", "is not an expression"),
        ("", "a problem must be text"),
        ("wilson(positives=" + "(" * 500 + "1" + ")" * 500 + ")", "a problem"),
    ],
)
def test_a_bad_expression_gets_one_line(text, message):
    with pytest.raises(GraftsimError, match=message) as caught:
        problems.parse(text)
    assert "\n" not in str(caught.value)
