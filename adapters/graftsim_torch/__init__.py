"""Grafting for PyTorch: the step length of one optimizer, the direction of another.

Importing it needs torch alone; what reads machines and files (:func:`machine`, :class:`Recorder`, :func:`corrections`
and their like) is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from graftsim_torch.graft import Graft as Graft
from graftsim_torch.info import Info as Info
from graftsim_torch.recovery import declare as declare

if TYPE_CHECKING:
    from graftsim_torch.corrections import corrections as corrections
    from graftsim_torch.corrections import discover as discover
    from graftsim_torch.corrections import save_corrections as save_corrections
    from graftsim_torch.corrections import scheduled_corrections as scheduled_corrections
    from graftsim_torch.machine import machine as machine
    from graftsim_torch.recorder import Recorder as Recorder
    from graftsim_torch.recorder import silent as silent

_LATER = {
    "corrections": "corrections",
    "discover": "corrections",
    "save_corrections": "corrections",
    "scheduled_corrections": "corrections",
    "machine": "machine",
    "Recorder": "recorder",
    "silent": "recorder",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"graftsim_torch.{_LATER[name]}"), name)
    globals()[name] = found  # a submodule of the same name would otherwise stand in its place
    return found
