"""The program that runs the checks of some parts on the backend that the environment names."""

import importlib
import os

from tests.tf_adapter import programs

if __name__ == "__main__":
    checks = {}
    for part in os.environ["PARTS"].split():
        module = importlib.import_module(f"tests.tf_adapter.{part}")
        checks |= {f"{part}.{name}": getattr(module, name) for name in programs.names(part)}
    programs.main(checks)
