"""A log-bilinear model of the next word, written by hand in NumPy."""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.problems import arguments, starts, texts
from graftsim.problems.problem import Numbers
from graftsim.problems.randomness import DATA, shuffled
from graftsim.problems.randomness import batch as rows_of
from graftsim.problems.softmaxes import Labels, judge, slope
from graftsim.problems.texts import TOPICS, Text
from graftsim.problems.threads import one_blas_thread

Floats = NDArray[np.float64]
Pairs = tuple[Labels, Labels]
LOSS_PAIRS, MEASURED_PAIRS = 1024, 10_000
"""The loss is that of so many pairs of the training text, drawn once for all; measures are of at most so many pairs."""


@dataclass(frozen=True)
class NextWord:
    """The mean cross-entropy of the next word given this one, with scores ``z = W E[word] + b``.

    The text in lower case is cut into words of letters and apostrophes. The most frequent ``words - 1`` have a number
    each, by falling frequency from 1 and then by the alphabet, all others share 0. A step sees a mini-batch of pairs of
    the training text, without replacement within a pass. All is float64; bits are the same at any number of threads.
    """

    words: int
    width: int
    batch: int
    text: Text

    def __str__(self) -> str:
        return f"next_word(words={self.words}, width={self.width}, batch={self.batch}, {self.text.arguments})"

    @cached_property
    def layout(self) -> Layout:
        return Layout.of(
            {
                "embedding.weight": (self.words, self.width),
                "output.weight": (self.words, self.width),
                "output.bias": (self.words,),
            }
        )

    @property
    def parts(self) -> tuple[Pairs, Pairs, Pairs]:
        """The pairs (word, next word) of training, selection and test, in the text's order."""
        return _parts(self.text, self.words)

    def start(self, seed: int, dtype: Any) -> Array:
        """Uniform: E of deviation 0.1, W of 0.1 / sqrt(width); b is 0."""
        deviations = {"embedding.weight": 0.1, "output.weight": 0.1 / float(np.sqrt(self.width))}
        return starts.uniform(self.layout, seed, lambda name, shape: deviations[name]).astype(dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        words, following = self.parts[0]
        rows = rows_of(len(words), self.batch, step, seed)
        words, following = words[rows], following[rows]
        embedding, output, bias = self._tensors(weights)
        flat = np.zeros(self.layout.size)
        for_embedding, for_output, for_bias = self.layout.unflatten(flat)
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            hidden = embedding[words]
            back = slope(hidden @ output.T + bias, following)
            np.add.at(for_embedding, words, back @ output)
            np.matmul(back.T, hidden, out=for_output)
            back.sum(axis=0, out=for_bias)
        return flat.astype(weights.dtype)

    def loss(self, weights: Array) -> float:
        words, following = self.parts[0]
        chosen = shuffled(len(words), 0, DATA)[:LOSS_PAIRS]
        return self._judged(weights, (words[chosen], following[chosen]))[0]

    def measures(self, weights: Array) -> Numbers:
        """Loss and accuracy (the share of pairs whose next word has the largest score): choose by selection, report
        test."""
        found = {"loss": self.loss(weights)}
        for name, part in zip(("selection", "test"), self.parts[1:], strict=True):
            found[f"{name} loss"], found[f"{name} accuracy"] = self._judged(weights, part)
        return found

    def _judged(self, weights: Array, pairs: Pairs) -> tuple[float, float]:
        words, following = (side[:MEASURED_PAIRS] for side in pairs)
        embedding, output, bias = self._tensors(weights)
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            z = embedding[words] @ output.T + bias
        return judge(z, following)

    def _tensors(self, weights: Array) -> list[Array]:
        return self.layout.unflatten(weights.astype(np.float64))

    def predictions(self) -> dict[str, Numbers]:
        return {}


@functools.lru_cache(maxsize=4)
def _parts(source: Text, words: int) -> tuple[Pairs, Pairs, Pairs]:
    found = re.findall(r"[a-z']+", source.characters.lower())
    frequent = sorted(Counter(found).items(), key=lambda item: (-item[1], item[0]))[: words - 1]
    number = {word: place for place, (word, _) in enumerate(frequent, start=1)}
    numbers = np.array([number.get(word, 0) for word in found], np.int64)
    first, second, third = (_pairs(blocks) for blocks in texts.parts(numbers))
    return first, second, third


def _pairs(blocks: list[Labels]) -> Pairs:
    return np.concatenate([block[:-1] for block in blocks]), np.concatenate([block[1:] for block in blocks])


def next_word(words: Any = 1000, width: Any = 32, batch: Any = 256, text: Any = TOPICS, digest: Any = None) -> NextWord:
    """``text`` is ``topics``, the text of Python's help, or the path of a text file."""
    count = arguments.integer("next_word, words", words, 2, 10_000)
    size = arguments.integer("next_word, width", width, 1, 4096)
    source = texts.load("next_word", text, digest)
    pairs = [len(part[0]) for part in _parts(source, count)]
    if not all(pairs):
        least = 2 * texts.BLOCKS
        raise GraftsimError(f"next_word, text: must have at least {least} words; {text!r:.60} has fewer")
    found = NextWord(count, size, arguments.integer("next_word, batch", batch, 1, pairs[0]), source)
    starts.check_size("next_word", found.layout)
    return found
