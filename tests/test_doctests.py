"""The examples in docstrings hold."""

import doctest
import importlib
import pkgutil

import pytest

import graftsim
import graftsim_conformance

PACKAGES = (graftsim, graftsim_conformance)
MODULES = [name for one in PACKAGES for _, name, _ in pkgutil.walk_packages(one.__path__, f"{one.__name__}.")]
APART = (".bench", ".keras_native", ".tf_keras_native", ".ranks")
"""Modules that need a machine, a backend or a launcher of their own."""


@pytest.mark.parametrize(
    "name", [name for name in MODULES if not name.endswith("__main__") and not any(part in name for part in APART)]
)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
