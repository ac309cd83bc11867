"""Grafting for Keras 3 and TensorFlow: the step length of one optimizer, the direction of another."""

from graftsim.corrections import silent as silent
from graftsim_tf.corrections import Corrected as Corrected
from graftsim_tf.corrections import corrections as corrections
from graftsim_tf.corrections import discover as discover
from graftsim_tf.corrections import save_corrections as save_corrections
from graftsim_tf.graft import Graft as Graft
from graftsim_tf.graft import Info as Info
from graftsim_tf.machine import Machine as Machine
from graftsim_tf.machine import machine as machine
from graftsim_tf.recorder import GraftRecorder as GraftRecorder
from graftsim_tf.recorder import Recorder as Recorder
