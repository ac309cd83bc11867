"""The examples in docstrings hold."""

import doctest
import importlib
import pkgutil

import pytest

import graftsim

MODULES = [module.name for module in pkgutil.walk_packages(graftsim.__path__, "graftsim.")]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__") and ".bench" not in name])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
