"""A masked language model over characters: a small transformer as BERT's, in torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftsim.errors import GraftsimError
from graftsim.layouts import Array, Layout
from graftsim.problems import arguments, starts, texts, torch_models
from graftsim.problems.problem import Numbers
from graftsim.problems.randomness import DATA, MASKS, generator
from graftsim.problems.texts import TOPICS, Codes, Text
from graftsim.problems.threads import torch_module
from graftsim.problems.torch_models import Tensors
from graftsim.problems.transformer import Transformer

Windows = tuple[Codes, NDArray[np.bool_]]
_MEASURED = (
    ("loss", "training accuracy", 64),
    ("selection loss", "selection accuracy", 256),
    ("test loss", "test accuracy", 256),
)
"""Of each part of the text: the names of its measures, and of how many windows they are. These windows and their masks
are drawn once for all."""
DEVIATION = 0.02
CHARACTERS = 5000


@dataclass(frozen=True)
class MaskedText:
    """The mean cross-entropy of masked characters, given the others of their window.

    A step sees ``batch`` windows of ``length`` characters, which begin anywhere in the training text; each character is
    masked with probability ``masks``. Windows and masks are drawn by the run's seed and the step's number alone. torch
    computes in float32 on one thread: bits are the same on one machine with one torch, whatever its threads.
    """

    layers: int
    width: int
    heads: int
    length: int
    batch: int
    masks: float
    text: Text

    def __str__(self) -> str:
        sizes = ", ".join(f"{key}={getattr(self, key)!r}" for key in _SIZES)
        return f"masked_text({sizes}, masks={self.masks!r}, {self.text.arguments})"

    @cached_property
    def model(self) -> Transformer:
        """The transformer; its last code is the mask."""
        return Transformer(len(_characters(self.text)) + 1, self.layers, self.width, self.heads, self.length)

    @property
    def layout(self) -> Layout:
        return self.model.layout

    @property
    def parts(self) -> tuple[Codes, Codes, Codes]:
        """The codes of the characters of training, selection and test."""
        return _parts(self.text)

    def start(self, seed: int, dtype: Any) -> Array:
        """Uniform weights of deviation 0.02, as BERT's; norms are 1, biases 0."""
        return starts.uniform(self.layout, seed, lambda name, shape: DEVIATION).astype(dtype)

    def gradients(self, weights: Array, step: int, seed: int) -> Array:
        windows = self._drawn(self.parts[0], self.batch, generator(seed, MASKS, step))
        found = torch_models.gradient(self.layout, weights, lambda tensors: self._judged(tensors, windows)[0])
        return found.astype(weights.dtype)

    def loss(self, weights: Array) -> float:
        return self._measured(weights, 0)[0]

    def measures(self, weights: Array) -> Numbers:
        """Loss and accuracy (the share of masked characters with the largest score): choose by selection, report
        test."""
        found: Numbers = {}
        for place, (loss, accuracy, _) in enumerate(_MEASURED):
            found[loss], found[accuracy] = self._measured(weights, place)
        return found

    def predictions(self) -> dict[str, Numbers]:
        """``plateau``: where training can stay: scores that are the logarithms of each character's share of the
        training text, whatever is seen; then the most frequent character is always the answer."""
        shares = np.bincount(self.parts[0], minlength=self.model.codes) / len(self.parts[0])
        found: Numbers = {}
        for place, (loss, accuracy, _) in enumerate(_MEASURED):
            codes, masked = self._fixed(place)
            with np.errstate(divide="ignore"):  # a character that the training text has not
                found[loss] = float(-np.log(shares[codes[masked]]).mean())
            found[accuracy] = float((codes[masked] == shares.argmax()).mean())
        return {"plateau": found}

    def _drawn(self, codes: Codes, count: int, source: np.random.Generator) -> Windows:
        """Windows, and what is masked in them: at least one character."""
        begins = np.floor(source.random(count) * (len(codes) - self.length + 1)).astype(np.int64)
        masked = source.random((count, self.length)) < self.masks
        masked[0, 0] |= not masked.any()
        return codes[begins[:, None] + np.arange(self.length)], masked

    def _fixed(self, part: int) -> Windows:
        return self._drawn(self.parts[part], _MEASURED[part][2], generator(part, DATA))

    def _measured(self, weights: Array, part: int) -> tuple[float, float]:
        windows = self._fixed(part)
        judged = torch_models.value(
            self.layout, weights, lambda tensors: torch_module().stack(self._judged(tensors, windows))
        )
        return float(judged[0]), float(judged[1])

    def _judged(self, tensors: Tensors, windows: Windows) -> tuple[Any, Any]:
        """The mean cross-entropy of masked characters, and the share that has the largest score."""
        torch, (codes, masked) = torch_module(), windows
        seen = torch.from_numpy(np.where(masked, self.model.codes - 1, codes))
        z = self.model.scores(tensors, seen, torch.from_numpy(np.flatnonzero(masked)))
        wanted = torch.from_numpy(codes[masked])
        right = (z.argmax(1) == wanted) & torch.isfinite(z).all(1)
        return torch.nn.functional.cross_entropy(z, wanted), right.float().mean()


_SIZES = ("layers", "width", "heads", "length", "batch")


@functools.lru_cache(maxsize=4)
def _characters(source: Text) -> tuple[str, ...]:
    return tuple(sorted(set(source.characters)))


@functools.lru_cache(maxsize=4)
def _parts(source: Text) -> tuple[Codes, Codes, Codes]:
    number = {character: code for code, character in enumerate(_characters(source))}
    codes = np.array([number[character] for character in source.characters], np.int64)
    first, second, third = (np.concatenate(blocks) for blocks in texts.parts(codes))
    return first, second, third


def masked_text(
    layers: Any = 2, width: Any = 64, heads: Any = 4, length: Any = 64, batch: Any = 32, masks: Any = 0.15,
    text: Any = TOPICS, digest: Any = None,
) -> MaskedText:  # fmt: skip
    """``text`` is ``topics``, the text of Python's help, or the path of a text file."""
    highest = {"layers": 24, "width": 1024, "heads": 64, "length": 1024, "batch": 4096}
    given = zip(_SIZES, (layers, width, heads, length, batch), strict=True)
    sizes = {key: arguments.integer(f"masked_text, {key}", value, 1, highest[key]) for key, value in given}
    if width % heads:
        raise GraftsimError(f"masked_text, heads: must divide width; received {heads} heads at width {width}")
    share, source = arguments.real("masked_text, masks", masks, 0, 1), texts.load("masked_text", text, digest)
    if len(_characters(source)) > CHARACTERS:
        raise GraftsimError(f"masked_text, text: must have at most {CHARACTERS} distinct characters")
    shortest = min(len(part) for part in _parts(source))
    if shortest < length:
        raise GraftsimError(
            f"masked_text, length: must be at most {shortest}, the characters of a part of the text; received {length}"
        )
    found = MaskedText(**sizes, masks=share, text=source)
    starts.check_size("masked_text", found.layout)
    return found
