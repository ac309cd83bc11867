"""Learning-rate grafting for JAX and optax: the step length of one transformation, the direction of another."""

from graftsim_jax.corrections import corrections as corrections
from graftsim_jax.corrections import discover as discover
from graftsim_jax.corrections import save_corrections as save_corrections
from graftsim_jax.graft import GraftInfo as GraftInfo
from graftsim_jax.graft import GraftState as GraftState
from graftsim_jax.graft import graft as graft
from graftsim_jax.machine import MachineState as MachineState
from graftsim_jax.machine import machine as machine
from graftsim_jax.recorder import Recorder as Recorder
from graftsim_jax.recorder import silent as silent
