"""The transformer of ``masked_text``: post-norm blocks as in BERT (Devlin et al. 2019), in torch, of flat weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graftsim.layouts import Layout, Shape
from graftsim.problems.threads import torch_module
from graftsim.problems.torch_models import Tensors

EPSILON = 1e-12
"""Added to the variance in a norm, as in BERT."""


@dataclass(frozen=True)
class Transformer:
    """Codes and positions are embedded and normed; each layer is ``h = norm(h + attention(h))``, then
    ``h = norm(h + feed_forward(h))`` with 4 ``width`` units and GELU; the head is a layer with GELU and a norm, and
    scores are products with the codes' embeddings, plus a bias. ``codes`` counts the mask."""

    codes: int
    layers: int
    width: int
    heads: int
    length: int

    @cached_property
    def layout(self) -> Layout:
        """Names such as ``layer0.attention.key.bias``; weights are (out, in)."""
        d = self.width
        shapes: dict[str, Shape] = {
            "embedding.code.weight": (self.codes, d),
            "embedding.position.weight": (self.length, d),
        }
        shapes |= _norm("embedding.norm", d)
        for layer in range(self.layers):
            for part in ("query", "key", "value", "output"):
                shapes |= _linear(f"layer{layer}.attention.{part}", d, d)
            shapes |= _norm(f"layer{layer}.attention.norm", d)
            shapes |= _linear(f"layer{layer}.feed_forward.inner", 4 * d, d)
            shapes |= _linear(f"layer{layer}.feed_forward.outer", d, 4 * d)
            shapes |= _norm(f"layer{layer}.feed_forward.norm", d)
        shapes |= _linear("head.dense", d, d) | _norm("head.norm", d) | {"head.bias": (self.codes,)}
        return Layout.of(shapes)

    def scores(self, tensors: Tensors, codes: Any, wanted: Any) -> Any:
        """Scores of the codes at some places, shape (places, codes).

        Args:
            tensors: weights by name.
            codes: what is seen, shape (windows, length).
            wanted: flat indices into ``codes``; the head is not computed elsewhere.
        """
        f = torch_module().nn.functional
        h = f.embedding(codes, tensors["embedding.code.weight"]) + tensors["embedding.position.weight"]
        h = self._normed(tensors, "embedding.norm", h)
        for layer in range(self.layers):
            h = self._normed(tensors, f"layer{layer}.attention.norm", h + self._attention(tensors, layer, h))
            inner = f.gelu(_applied(tensors, f"layer{layer}.feed_forward.inner", h), approximate="tanh")
            h = self._normed(
                tensors,
                f"layer{layer}.feed_forward.norm",
                h + _applied(tensors, f"layer{layer}.feed_forward.outer", inner),
            )
        h = f.gelu(_applied(tensors, "head.dense", h.reshape(-1, self.width)[wanted]), approximate="tanh")
        return f.linear(self._normed(tensors, "head.norm", h), tensors["embedding.code.weight"], tensors["head.bias"])

    def _attention(self, tensors: Tensors, layer: int, h: Any) -> Any:
        windows, length, d = h.shape

        def heads(part: str) -> Any:
            found = _applied(tensors, f"layer{layer}.attention.{part}", h)
            return found.view(windows, length, self.heads, d // self.heads).transpose(1, 2)

        attend = torch_module().nn.functional.scaled_dot_product_attention
        mixed = attend(heads("query"), heads("key"), heads("value")).transpose(1, 2).reshape(windows, length, d)
        return _applied(tensors, f"layer{layer}.attention.output", mixed)

    def _normed(self, tensors: Tensors, name: str, h: Any) -> Any:
        norm = torch_module().nn.functional.layer_norm
        return norm(h, (self.width,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], EPSILON)


def _applied(tensors: Tensors, name: str, h: Any) -> Any:
    return torch_module().nn.functional.linear(h, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _linear(name: str, out: int, into: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
