"""Machines of the spec as Keras optimizers on TensorFlow, beside the reference."""

import keras
import numpy as np
import tensorflow as tf

from graftsim_tf import machine
from tests.tf_adapter.variables import (
    DTYPES,
    assert_raises,
    flat,
    follow,
    gradients,
    made,
    recorded,
    run,
    same,
    tensors,
    weights,
)


def check_machines_are_the_reference() -> None:
    for expression in (
        "lamb(lr=0.01)",
        "adam(lr=0.1)#sgd",
        "graft(adafactor, lion, partition=row, eps=0.1)",
        "decay_outside(momentum(lr=0.1, momentum=0.9), rate=0.5)",
    ):
        for dtype in DTYPES:
            for compiled in (lambda function: function, tf.function):
                follow(expression, machine(expression), dtype, compiled)


def check_matrix_machines() -> None:
    optimizer, variables = machine("shampoo(lr=0.1)"), [keras.Variable(np.ones((3, 2)), dtype="float64")]
    for step in (1, 2):
        optimizer.apply([tf.constant(np.arange(6.0).reshape(3, 2) * step)], variables)
    assert np.isfinite(flat(variables)).all()
    assert not same(flat(variables), np.ones(6))


def check_hyperparameters() -> None:
    given = machine("adam#sgd", **{"magnitude.lr": 0.25})
    assert same(run(given), run(machine("adam(lr=0.25)#sgd")))
    later = machine("adam#sgd")
    later.build(made(weights()))
    later.learning_rate = 0.25
    for gradient in gradients():
        later.apply(tensors(gradient), later._trainable_variables)
    assert same(flat(later._trainable_variables), run(machine("adam(lr=0.25)#sgd")))
    assert later.group_names("ratio") == ("bias", "kernel", "out", "scalar")
    assert recorded(later.info)["ratio"].shape == (4,)
    again = type(given).from_config(given.get_config())
    assert same(run(again), run(machine("adam(lr=0.25)#sgd")))
    assert_raises(ValueError, "did you mean", lambda: machine("adm"))
    assert_raises(ValueError, "has no 'momentm'", lambda: machine("momentum", momentm=0.9))
    assert_raises(ValueError, "must lie in", lambda: machine("adam", beta1=1.5))
    assert_raises(ValueError, "decay_decoupled", lambda: type(given)("adam", {}, weight_decay=0.1))
    two = [keras.Variable(np.ones(2)), keras.Variable(np.ones(2))]
    assert_raises(ValueError, "needs a gradient for each", lambda: machine("adam").apply([None, tf.ones(2)], two))
