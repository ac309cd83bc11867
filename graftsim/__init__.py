"""The reference simulator of learning-rate grafting: optimizers as data, every bit defined."""

from graftsim.compiler import build as build
from graftsim.engine import Engine as Engine
from graftsim.errors import GraftsimError as GraftsimError
from graftsim.layouts import Layout as Layout
