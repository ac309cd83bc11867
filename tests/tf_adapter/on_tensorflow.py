"""What holds with TensorFlow alone: compiled steps, strategies, checkpoints, sparse gradients, its own variables."""

import math
import re

import keras
import numpy as np
import tensorflow as tf

from graftsim_tf import Graft, machine
from tests.tf_adapter.variables import DTYPES, adam, flat, follow, gradients, made, run, same, sgd, tensors, weights

K = keras.optimizers
CPUS = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(CPUS[0], [tf.config.LogicalDeviceConfiguration()] * 2)


def check_compiled_steps_are_the_reference() -> None:
    for dtype in DTYPES:
        for jit in (False, True):
            for partition in ("tensor", "global", "block(5)"):
                optimizer = Graft(
                    sgd(0.5, momentum=0.75), K.Adagrad(0.25, 0.125, epsilon=2.0**-10), partition=partition
                )
                adagrad = "adagrad(lr=0.25, initial_accumulator=0.125, eps=0.0009765625, eps_placement=inside)"
                machine = f"graft(momentum(lr=0.5, momentum=0.75, form=lr_inside), {adagrad}, partition={partition})"
                follow(machine, optimizer, dtype, tf.function(jit_compile=jit))


def check_compiled_norms_of_one_number_neither_overflow_nor_vanish() -> None:
    """XLA squares factors apart where there is one number, and their square is out of range."""
    for size in (0.0, 2.0**-1000, 2.0**-600, 1.0, 2.0**600, 2.0**1000):
        variable = keras.Variable(np.zeros(1), dtype="float64")
        optimizer = Graft(sgd(1.0), sgd(0.5))
        optimizer.build([variable])
        step = tf.function(applying(optimizer, [variable]), jit_compile=True)
        step(tf.constant([size], tf.float64))
        assert float(optimizer.info.n_m[0]) == size
        assert float(variable.numpy()[0]) == -size


def check_every_number_counts_once_in_compiled_norms() -> None:
    """Of sizes that are runs of runs, with another remainder, and prime; sums of squares of such numbers are exact."""
    shapes, rng = [(1,), (31,), (32,), (33,), (8, 8), (64, 65), (3, 5, 7, 2), (4099,)], np.random.default_rng(2)
    numbers = [rng.integers(-8, 9, shape) for shape in shapes]
    norms = [math.sqrt((part**2).sum()) for part in numbers]
    for jit in (False, True):
        for dtype in DTYPES:
            variables = [keras.Variable(np.zeros(shape), dtype=dtype) for shape in shapes]
            optimizer = Graft(sgd(0.5), sgd(1.0))
            optimizer.build(variables)
            step = tf.function(applying(optimizer, variables), jit_compile=jit)
            step(*(tf.constant(part, dtype) for part in numbers))
            assert optimizer.info.n_d.tolist() == norms
            assert set(optimizer.info.ratio) == {0.5}
            assert all(same(v.numpy(), -0.5 * part) for v, part in zip(variables, numbers, strict=True))


def check_a_step_of_adam_sgd_under_xla_writes_three_arrays_and_none_in_float64() -> None:
    """Both moments and the weights: the children's steps and their squares are computed where they are read."""
    for shape, partition in [((2**14,), "tensor"), ((128, 128), "global"), ((128, 128), "axis(-1)")]:
        gradient, variable = tf.ones(shape), keras.Variable(np.zeros(shape, "float32"))
        optimizer = Graft(adam(1e-3), sgd(1.0), partition=partition)
        optimizer.build([variable])
        step = tf.function(applying(optimizer, [variable]), jit_compile=True)
        text = step.experimental_get_compiler_ir(gradient)(stage="optimized_hlo")
        found = re.findall(r"= (f\d+)\[([\d,]+)\]\S* ([\w-]+)\(", text[text.index("\nENTRY") :])
        sizes = [(dtype, math.prod(map(int, numbers.split(",")))) for dtype, numbers, name in found if name == "fusion"]
        assert [dtype for dtype, size in sizes if size >= 2**13] == ["f32"] * 3, found


def check_a_compiled_graft_of_two_equal_grafts_is_the_graft() -> None:
    """Pooled sums of both are added in the same order."""
    rng, shapes = np.random.default_rng(4), [(2, 2, 2), (3, 2), (1,), (3,)]
    rows = [[tf.constant(rng.standard_normal(shape)) for shape in shapes] for _ in range(24)]
    found = []
    for nested in (False, True):
        parts = [Graft(sgd(0.3), K.Adagrad(0.1), partition="global") for _ in range(2)]
        optimizer = Graft(*parts, partition="global") if nested else parts[0]
        variables = [keras.Variable(np.zeros(shape), dtype="float64") for shape in shapes]
        optimizer.build(variables)
        step = tf.function(applying(optimizer, variables))
        for row in rows:
            step(*row)
        found.append(flat(variables))
    assert same(*found)


def check_gradients_need_not_tell_their_shape() -> None:
    for partition in ("tensor", "axis(-1)", "block(8)"):
        variable, numbers = keras.Variable(np.zeros((16, 8)), dtype="float32"), np.full((16, 8), 3, "float32")
        optimizer = Graft(sgd(0.5), sgd(1.0), partition=partition)
        optimizer.build([variable])
        tf.function(applying(optimizer, [variable]), input_signature=[tf.TensorSpec(None)])(numbers)
        assert same(variable.numpy(), -0.5 * numbers)


def check_a_variable_without_coordinates_is_no_obstacle() -> None:
    """Keras's own sum of two such tensors fails in a graph."""
    for compiled in (lambda function: function, tf.function, tf.function(jit_compile=True)):
        for make in (lambda: Graft(K.Lion(0.5), sgd(1.0, momentum=0.5)), lambda: machine("adam#sgd")):
            moved = []
            for shapes in ([(2,)], [(2,), (0, 3)]):
                variables = [keras.Variable(np.ones(shape, "float32")) for shape in shapes]
                optimizer = make()
                optimizer.build(variables)
                step = compiled(applying(optimizer, variables))
                for size in (1.0, 2.0):
                    step(*(tf.ones(shape) * size for shape in shapes))
                moved.append(variables[0].numpy())
                assert optimizer.info is not None
            assert same(*moved)


def applying(optimizer, variables):
    """A function of gradients; what it closes over is no argument to ``tf.function``."""
    return lambda *grads: optimizer.apply_gradients(zip(grads, variables, strict=True))


def check_state_is_built_in_the_first_call_of_a_function() -> None:
    found = []
    for compiled in (lambda function: function, tf.function):
        variables = made(weights())
        apply = compiled(applying(Graft(adam(0.125), K.Nadam(1.0)), variables))
        for gradient in gradients():
            apply(*tensors(gradient))
        found.append(flat(variables))
    # graph mode may fold constants in another order: a few roundings a step
    assert np.allclose(*found, rtol=64 * 2.0**-24, atol=64 * 2.0**-24)


def check_variables_of_tensorflow() -> None:
    variables = [tf.Variable(part) for part in (v.numpy() for v in made(weights()))]
    optimizer = Graft(adam(0.125), sgd(1.0))
    for gradient in gradients():
        count = optimizer.apply_gradients(zip(tensors(gradient), variables, strict=True))
    assert int(count) == 4
    assert same(flat(variables), run(Graft(adam(0.125), sgd(1.0))))


def check_repeated_rows_of_a_sparse_gradient_are_added_once() -> None:
    values, rows = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]], "float32"), np.array([2, 0, 2])
    whole = np.zeros((4, 2), "float32")
    np.add.at(whole, rows, values)
    for options in ({}, {"clipnorm": 0.5}, {"gradient_accumulation_steps": 2}):
        found = []
        for gradient in (tf.IndexedSlices(values, rows, (4, 2)), tf.constant(whole)):
            optimizer = Graft(adam(0.125), K.Adagrad(1.0), **options)
            variable = keras.Variable(np.ones((4, 2)), dtype="float32")
            for _ in range(2):
                optimizer.apply_gradients([(gradient, variable)])
            found.append(variable.numpy())
        assert same(*found), options
        assert not same(found[0], np.ones((4, 2)))


def check_checkpoints(folder) -> None:
    rows = gradients()
    first, before = Graft(adam(0.125), K.Nadam(1.0)), made(weights())
    for gradient in rows[:2]:
        first.apply(tensors(gradient), before)
    kept = [variable.value for variable in before]
    path = tf.train.Checkpoint(optimizer=first, weights=kept).write(str(folder / "checkpoint"))
    for gradient in rows[2:]:
        first.apply(tensors(gradient), before)
    second, after = Graft(adam(0.125), K.Nadam(1.0)), made(np.zeros_like(weights()))
    second.build(after)
    place = tf.train.Checkpoint(optimizer=second, weights=[variable.value for variable in after])
    place.read(path).assert_consumed()
    for gradient in rows[2:]:
        second.apply(tensors(gradient), after)
    assert same(flat(after), flat(before))
    for a, b in zip(first.variables, second.variables, strict=True):
        assert same(a.numpy(), b.numpy()), a.path


def on_replicas(strategy, apply):
    """A function that applies gradients on each replica; as where a loss is, they are made on its device."""
    return tf.function(lambda *grads: strategy.run(lambda: apply(*map(tf.identity, grads))))


def check_replicas_are_equal_and_exchange_gradients_alone() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    halves = [[part / 2 for part in tensors(gradient)] for gradient in gradients()]  # their sum over replicas is whole
    for partition in ("tensor", "global"):
        with strategy.scope():
            variables = made(weights())
            optimizer = Graft(adam(0.125), K.Adagrad(1.0), partition=partition)
            optimizer.build(variables)
        step = on_replicas(strategy, applying(optimizer, variables))
        for grads in halves:
            step(*grads)
        for variable in [*variables, *optimizer.magnitude.variables, *optimizer.direction.variables]:
            local = strategy.experimental_local_results(variable.value)
            assert len(local) == 2
            assert same(local[0].numpy(), local[1].numpy()), variable.path
        alone = run(Graft(adam(0.125), K.Adagrad(1.0), partition=partition))
        assert np.allclose(flat(variables), alone, rtol=64 * 2.0**-24, atol=64 * 2.0**-24)
        graph = step.get_concrete_function(*halves[0]).graph
        plain = sgd(0.5)
        with strategy.scope():
            others = made(weights())
            plain.build(others)
        bare = on_replicas(strategy, applying(plain, others))
        assert _sums(graph) == _sums(bare.get_concrete_function(*halves[0]).graph) > 0


def _sums(graph) -> int:
    """How often values of different devices are added."""
    return sum(
        "AddN" in op.type or "Collective" in op.type or "NcclAllReduce" in op.type for op in graph.get_operations()
    )
