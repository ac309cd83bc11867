"""Candidates: what is judged. A wrapped native optimizer steps on flat arrays and shows its state."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from graftsim.errors import GraftsimError, nearest
from graftsim.layouts import Array, Layout


class Candidate(Protocol):
    """An optimizer under test. Weights and gradients are flat, in the layout's order, and are not kept or changed."""

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        """Begin a run. ``arguments`` are the native's own keywords at the first step."""

    def step(self, gradients: Array, arguments: Mapping[str, Any]) -> Array:
        """The weights after one more step, under the keywords in force at that step."""
        ...

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        """The native state that ``names`` (slot: native name) asks for: flat for coordinates, else one number a tensor.

        A slot that the native has not made yet is left out.
        """
        ...


def load(target: str) -> Any:
    """The object that ``module:attribute`` names.

    Raises:
        GraftsimError: not of that form; the module cannot be imported; it has no such attribute.
    """
    module_name, colon, attribute = target.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module_name.split("."), *attribute.split(".")]):
        raise GraftsimError(
            f"a target must be written as module:attribute, such as torch.optim:Adam; received {target!r}"
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise GraftsimError(
            f"cannot import {module_name}: there is no module {error.name!r}; install it first"
        ) from None
    except Exception as error:
        raise GraftsimError(
            f"cannot import {module_name}: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from None
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise GraftsimError(f"{module_name} has no {attribute!r}{nearest(name, _public(found))}")
        found = getattr(found, name)
    if not callable(found) and not hasattr(found, "step"):
        raise GraftsimError(f"{target} must be an optimizer that can be called; it is a {type(found).__name__}")
    return found


def _public(found: Any) -> list[str]:
    return [name for name in dir(found) if not name.startswith("_")]


def wrap(framework: str, native: Any, mode: str = "") -> Candidate:
    """The candidate of a native optimizer; imports its framework.

    ``mode`` is one of the framework's own ways to run a step (``foreach``, ``jit``); the empty one is its default.
    """
    return _WRAPPERS[framework](native, mode)


def _torch(native: Any, mode: str) -> Candidate:
    from graftsim_conformance.torch_native import TorchCandidate

    return TorchCandidate(native, mode)


def _optax(native: Any, mode: str) -> Candidate:
    from graftsim_conformance.optax_native import OptaxCandidate

    return OptaxCandidate(native, mode)


def _keras(native: Any, mode: str) -> Candidate:
    from graftsim_conformance.keras_native import KerasCandidate

    return KerasCandidate(native, mode)


def _tensorflow(native: Any, mode: str) -> Candidate:
    from graftsim_conformance.tf_keras_native import TensorFlowCandidate

    return TensorFlowCandidate(native, mode)


_WRAPPERS: dict[str, Callable[[Any, str], Candidate]] = {
    "torch": _torch,
    "optax": _optax,
    "keras": _keras,
    "tf_keras": _tensorflow,
    "tensorflow": _tensorflow,
}


def backend(framework: str) -> tuple[str, str] | None:
    """Name and version of what a framework runs on in this process; None if it is itself that."""
    if framework == "keras":
        from graftsim_conformance import keras_native

        return keras_native.backend()
    if framework in ("tf_keras", "tensorflow"):
        from graftsim_conformance import tf_keras_native

        return tf_keras_native.backend()
    return None
