"""What holds on every backend: the reference, the table of Keras's optimizers, edges of the rule, configs, errors."""

import math

import keras
import numpy as np
from keras import ops
from keras.optimizers.schedules import ExponentialDecay, PiecewiseConstantDecay

from graftsim.corrections import read
from graftsim_tf import Graft, corrections
from tests.tf_adapter.variables import (
    BACKEND,
    DTYPES,
    SHAPES,
    adam,
    assert_raises,
    flat,
    follow,
    gradients,
    made,
    run,
    same,
    sgd,
    split,
    tensors,
    weights,
)

K = keras.optimizers
PARTITIONS = [
    "tensor", "global", "row", "axis(-1)", "fan_out", "coordinate", "block(5)", "pool(0)",
    "pattern(biases='*bias', kernels=['*kernel', 'out'], rest=None)",
]  # fmt: skip

ADDED = {
    "sgd": lambda lr: K.SGD(lr),
    "momentum": lambda lr: K.SGD(lr, momentum=0.9, nesterov=True),
    "adam": lambda lr: K.Adam(lr, amsgrad=True),
    "adamw": lambda lr: K.AdamW(lr, weight_decay=0.0),
    "adagrad": K.Adagrad,
    "adadelta": K.Adadelta,
    "adamax": K.Adamax,
    "nadam": K.Nadam,
    "rmsprop": lambda lr: K.RMSprop(lr, momentum=0.5, centered=True),
    "lion": K.Lion,
    "muon": lambda lr: K.Muon(lr, weight_decay=None, adam_weight_decay=None),
}
"""Optimizers that add a step which does not read the weights."""

READING = {
    "lamb": K.Lamb,
    "adafactor": lambda lr: K.Adafactor(lr, relative_step=False),
    "ftrl": K.Ftrl,
    "schedule_free": lambda lr: K.ScheduleFreeAdamW(lr, warmup_steps=2),
    "decayed adam": lambda lr: K.Adam(lr, weight_decay=0.25),
    "decayed muon": lambda lr: K.Muon(lr, weight_decay=0.25, adam_weight_decay=0.5),
}


def alone(optimizer, start, gradient_rows):
    """Variables of a plain Keras optimizer that is put at given weights before each step, and their moves."""
    variables, moves = made(start[0]), []
    for begin, gradient in zip(start, gradient_rows, strict=True):
        for variable, part in zip(variables, tensors(begin), strict=True):
            variable.assign(part)
        optimizer.apply(tensors(gradient), variables)
        moves.append(flat(variables))
    return moves


def check_it_is_the_reference() -> None:
    for dtype in DTYPES:
        for partition in PARTITIONS if BACKEND == "tensorflow" else ("tensor", "global", "fan_out", "block(5)"):
            spec = "axis(-1)" if partition == "fan_out" else partition
            pair = "momentum(lr=0.5, momentum=0.75, form=lr_inside), sgd(lr=0.25)"
            optimizer = Graft(sgd(0.5, momentum=0.75), sgd(0.25), partition=partition, eps=0.25, scale=0.5)
            follow(f"graft({pair}, partition={spec}, eps=0.25, scale=0.5)", optimizer, dtype)


def check_other_pairs_are_the_reference_too() -> None:
    for dtype in DTYPES:
        adagrad = "adagrad(lr=0.5, initial_accumulator=0.125, eps=0.0009765625, eps_placement=inside)"
        child = K.Adagrad(0.5, initial_accumulator_value=0.125, epsilon=2.0**-10)
        follow(f"{adagrad}#sgd(lr=1)", Graft(child, sgd(1.0)), dtype)
        nested = Graft(Graft(sgd(0.5), child.from_config(child.get_config())), sgd(0.5, momentum=0.5))
        nested.magnitude.partition = "global"
        inner = f"graft(sgd(lr=0.5), {adagrad}, partition=global)"
        follow(f"graft({inner}, momentum(lr=0.5, momentum=0.5, form=lr_inside))", nested, dtype)


def check_numbers_of_the_graft_keep_all_their_digits() -> None:
    for dtype in DTYPES:
        for eps, scale in ((0.1, 0.3), (1e-3, 1 / 3)):
            optimizer = Graft(sgd(0.5), sgd(0.25), eps=eps, scale=scale)
            follow(f"graft(sgd(lr=0.5), sgd(lr=0.25), eps={eps!r}, scale={scale!r})", optimizer, dtype)


def check_decay_around_a_graft_is_beside_the_step() -> None:
    for dtype in DTYPES:
        optimizer = Graft(sgd(0.5), sgd(0.25), weight_decay=0.1)
        follow("decay_outside(graft(sgd(lr=0.5), sgd(lr=0.25)), rate=0.5, weight_decay=0.1)", optimizer, dtype)


def check_each_optimizer_that_adds_its_step_is_read_to_the_bit() -> None:
    rows, zeros = gradients()[1:], np.zeros_like(weights())
    for name, make in ADDED.items():
        moves = alone(make(0.125), [zeros] * len(rows), rows)
        optimizer = Graft(make(0.125), sgd(1.0))
        variables = made(weights())
        optimizer.build(variables)
        for gradient, move in zip(rows, moves, strict=True):
            (child, _), parts = optimizer.children, tensors(gradient)
            got = child.begin(0), child.propose(parts, variables, 0), child.advance()
            assert same(np.concatenate([ops.convert_to_numpy(x).reshape(-1) for x in got[1]]), move), name


def check_each_optimizer_has_the_state_that_it_would_have_alone() -> None:
    rows = gradients()[1:]
    for name, make in {**ADDED, **READING}.items():
        optimizer = Graft(adam(0.125), make(0.0625))
        variables, starts = made(weights()), []
        for gradient in rows:
            starts.append(flat(variables))
            optimizer.apply(tensors(gradient), variables)
        for child, plain in ((optimizer.magnitude, adam(0.125)), (optimizer.direction, make(0.0625))):
            alone(plain, starts, rows)
            assert len(plain.variables) == len(child.variables), name
            for a, b in zip(plain.variables, child.variables, strict=True):
                assert same(ops.convert_to_numpy(a), ops.convert_to_numpy(b)), (name, a.path)


def check_optimizers_that_read_weights_move_as_they_do_alone() -> None:
    rows, start = gradients()[1:2], weights()
    for name, make in READING.items():
        (moved,) = alone(make(0.125), [start], rows)
        optimizer = Graft(make(0.125), make(0.125))
        variables = made(start)
        optimizer.apply(tensors(rows[0]), variables)
        size = np.maximum(np.abs(moved), np.abs(start))
        # the alone one rounds into the weights twice where it decays, and this one once, after an addition of steps
        assert (np.abs(flat(variables) - moved) <= 4 * 2.0**-24 * size).all(), name


def check_the_learning_rate_of_the_direction_cannot_be_seen() -> None:
    for name, make in {**ADDED, "lamb": K.Lamb, "adafactor": READING["adafactor"]}.items():
        found = []
        for rate in (2.0**-7, 2.0**-40):
            optimizer = Graft(sgd(0.5, momentum=0.5), make(rate))
            variables = made(100 * weights())
            for gradient in gradients()[1:]:
                optimizer.apply(tensors(gradient), variables)
            found.append(flat(variables))
        assert same(*found), name


def check_a_graft_of_itself_is_itself_at_any_length() -> None:
    for dtype in DTYPES:
        for size in (1.0, 1e-30, 1e30) if dtype == "float32" else (1.0, 1e-200, 1e200):
            steps = (np.asarray(gradients(dtype), dtype) * np.asarray(size, dtype)).astype(dtype)
            start = np.zeros_like(weights(dtype))
            for partition in ("tensor", "block(5)") if size == 1 else ("global",):
                got = run(Graft(sgd(0.5), sgd(0.5), partition=partition), dtype, steps, start)
                assert same(got, run(sgd(0.5), dtype, steps, start)), (dtype, size, partition)


def check_a_zero_direction_stays_where_it_is() -> None:
    for bad in (math.nan, math.inf, 1.0):
        optimizer = Graft(sgd(0.5), sgd(0.5, momentum=0.0))
        variables = [keras.Variable(np.ones(2, "float32")), keras.Variable(np.ones(2, "float32"))]
        optimizer.build(variables)
        zero, other = ops.zeros((2,)), ops.ones((2,))
        m, d = [ops.multiply(other, bad), other], [zero, other]
        moved = optimizer.combine([m, d], [0, 1], 0)
        assert same(moved[0], [0.0, 0.0])
        assert same(moved[1], [1.0, 1.0])
        assert optimizer.info.ratio.tolist() == [0.0, 1.0]


def check_nan_stays_in_its_group() -> None:
    optimizer = Graft(sgd(0.5), sgd(1.0))
    variables = [keras.Variable(np.ones(2, "float32")), keras.Variable(np.ones(2, "float32"))]
    optimizer.apply([ops.convert_to_tensor(np.array([math.nan, 1], "float32")), ops.ones((2,))], variables)
    assert same(flat(variables), [math.nan, math.nan, 0.5, 0.5])


def check_a_variable_without_gradient_takes_no_part() -> None:
    for partition, ratio in (("tensor", [0.0, 0.5]), ("global", [0.5])):
        optimizer = Graft(sgd(0.5), sgd(1.0), partition=partition)
        variables = [keras.Variable(np.ones(2, "float32")), keras.Variable(np.ones(2, "float32"))]
        optimizer.apply([None, ops.ones((2,))], variables)
        assert same(flat(variables), [1.0, 1.0, 0.5, 0.5])
        assert same(optimizer.info.ratio, ratio)


def check_options_act_around_the_graft_as_around_any_optimizer() -> None:
    for options in (
        {"clipnorm": 0.5}, {"global_clipnorm": 0.25}, {"clipvalue": 0.125}, {"loss_scale_factor": 8.0},
        {"use_ema": True, "ema_momentum": 0.5}, {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
        {"gradient_accumulation_steps": 2},
    ):  # fmt: skip
        child = {"learning_rate": 0.5, "momentum": 0.5}
        got, want = Graft(sgd(**child), sgd(**child), **options), sgd(**child, **options)
        ends = []
        for optimizer in (got, want):
            variables = made(weights())
            for gradient in gradients():
                optimizer.apply(tensors(gradient), variables)
            before = flat(variables)
            optimizer.finalize_variable_values(variables)
            ends.append((before, flat(variables)))
        assert same(ends[0][0], ends[1][0]), options
        assert same(ends[0][1], ends[1][1]), options


def check_clipping_of_a_child_is_its_own() -> None:
    steps = gradients()[1:2]
    got = run(Graft(sgd(0.5, clipnorm=0.25), sgd(0.5)), steps=steps, start=np.zeros_like(weights()))
    lengths = [np.linalg.norm(part.astype(float)) for part in split(got)]
    kept = [0.5 * min(0.25, np.linalg.norm(part.astype(float))) for part in split(steps[0])]
    # the clipped gradient is rounded a few times; its norm is 0.25 but for that
    assert np.allclose(lengths, kept, rtol=8 * 2.0**-24, atol=0)


def check_excluded_variables_do_not_decay() -> None:
    for place in ("around", "inside"):
        plain = run(Graft(sgd(0.5), sgd(0.5)))
        if place == "around":
            optimizer = Graft(sgd(0.5), sgd(0.5), weight_decay=0.25)
            optimizer.exclude_from_weight_decay(var_names=["bias"])
        else:
            children = sgd(0.5, weight_decay=0.25), sgd(0.5, weight_decay=0.25)
            for child in children:
                child.exclude_from_weight_decay(var_names=["bias"])
            optimizer = Graft(*children)
        got = run(optimizer)
        assert same(got[:3], plain[:3])
        assert not same(got[3:], plain[3:])


def check_schedules() -> None:
    rate = PiecewiseConstantDecay([1, 2], [0.5, 0.25, 0.125])
    for options in ({}, {"gradient_accumulation_steps": 2}):
        got = run(Graft(sgd(rate, momentum=0.5), sgd(rate, momentum=0.5), **options))
        assert same(got, run(sgd(rate, momentum=0.5, **options))), options
    halves = PiecewiseConstantDecay([1], [1.0, 0.5])
    scaled, plain = (run(Graft(sgd(0.5), sgd(1.0), scale=s), steps=gradients()[1:2]) for s in (halves, 1.0))
    assert same(scaled, plain)
    scaled = run(Graft(sgd(0.5), sgd(1.0), scale=PiecewiseConstantDecay([0], [0.5, 0.25])), steps=gradients()[1:2])
    assert same(scaled, run(Graft(sgd(0.25), sgd(1.0)), steps=gradients()[1:2]))


def check_the_learning_rate_is_the_magnitude_s() -> None:
    optimizer = Graft(sgd(0.5), sgd(0.25))
    assert float(ops.convert_to_numpy(optimizer.learning_rate)) == 0.5
    optimizer.learning_rate = 0.125
    assert float(ops.convert_to_numpy(optimizer.magnitude.learning_rate)) == 0.125
    assert float(ops.convert_to_numpy(optimizer.direction.learning_rate)) == 0.25
    assert same(run(optimizer), run(Graft(sgd(0.125), sgd(1.0))))


def check_configs_make_the_same_optimizer() -> None:
    schedule = ExponentialDecay(0.5, 2, 0.5)
    options = {"weight_decay": 0.1, "clipnorm": 1.0, "use_ema": True, "ema_momentum": 0.75, "name": "mine"}
    first = Graft(adam(schedule, beta_1=0.5), Graft("sgd", "lion"), partition="row", eps=0.1, scale=schedule, **options)
    for again in (
        Graft.from_config(first.get_config()),
        K.deserialize(K.serialize(first)),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(first)),
    ):
        assert isinstance(again, Graft)
        assert again.get_config() == first.get_config()
        assert isinstance(again.direction.direction, K.Lion)
        assert again.magnitude.beta_1 == 0.5
        assert again.magnitude is not first.magnitude
    assert same(run(Graft.from_config(first.get_config())), run(first))
    factors = dict.fromkeys(("bias", "kernel", "out", "scalar"), 0.5)
    corrected = corrections(sgd(0.5), factors)
    assert same(run(type(corrected).from_config(corrected.get_config())), run(corrected))


def check_the_variables_are_all_of_the_state() -> None:
    first, second = Graft(adam(0.125), K.Nadam(1.0)), Graft(adam(0.125), K.Nadam(1.0))
    rows = gradients()
    halfway = run(first, steps=rows[:2])
    second.build(made(weights()))
    second.set_weights([ops.convert_to_numpy(variable) for variable in first.variables])
    second = _over(second, halfway, rows[2:])
    assert same(second, run(Graft(adam(0.125), K.Nadam(1.0)), steps=rows))
    assert_raises(ValueError, "one weight for each", lambda: first.set_weights([]))


def _over(optimizer, start, rows):
    variables = optimizer._trainable_variables
    for variable, part in zip(variables, tensors(start), strict=True):
        variable.assign(part)
    for gradient in rows:
        optimizer.apply(tensors(gradient), variables)
    return flat(variables)


def check_one_object_twice_is_two_optimizers() -> None:
    child = adam(0.125)
    optimizer = Graft(child, child)
    assert optimizer.magnitude is not optimizer.direction
    assert same(run(optimizer), run(Graft(adam(0.125), adam(0.125))))


def check_corrections_multiply_steps() -> None:
    names = ("bias", "kernel", "out", "scalar")
    factors = {name: 0.5**i for i, name in enumerate(names)}
    got = [part for part in split(run(corrections(sgd(0.5), factors), start=np.zeros_like(weights()))) if part.size]
    for i, part in enumerate(got):
        plain = split(run(sgd(0.5 * 0.5**i), start=np.zeros_like(weights())))
        assert same(part, [one for one in plain if one.size][i])
    got = run(corrections(sgd(0.5), {"biases": 0.5, "rest": 1.0}, "pattern(biases='bias', rest=None)"))
    assert same(got[3:], run(sgd(0.5))[3:])
    assert same(got[:3], run(sgd(0.25))[:3])


def check_corrections_may_change_from_step_to_step() -> None:
    """A step in float32 is rounded when it is formed and when it is added: 2 u of all that is added, and as much again
    for the rate."""
    factors = {"bias": {"c0": 0.5, "c1": 0.25}, "kernel": {"c": 2.0, "alpha": -0.27}, "scalar": 2.0}
    factors["out"] = {"c0": 0.5, "c1": -0.25}  # 0 from the second step on
    given, start = read(factors).factors, np.zeros_like(weights())
    terms = [
        np.concatenate([0.5 * given[n].at(t) * x.ravel() for n, x in zip(SHAPES, split(row), strict=True) if x.size])
        for t, row in enumerate(gradients().astype(float), 1)
    ]
    first = corrections(sgd(0.5), factors)
    for optimizer in (first, type(first).from_config(first.get_config())):
        got = run(optimizer, start=start)
        assert (np.abs(got + np.sum(terms, 0)) <= 4 * 2.0**-24 * len(terms) * np.abs(terms).sum(0)).all()
    half = type(first)(sgd(0.5), factors, scale=0.5)
    assert same(run(half, start=start), got / 2)


def check_mistakes_are_told() -> None:
    built = sgd(0.5)
    built.build(made(weights()))
    assert_raises(ValueError, "must be a new optimizer", lambda: Graft(built, "sgd"))
    assert_raises(TypeError, "magnitude must be a Keras optimizer", lambda: Graft(3, "sgd"))
    assert_raises(TypeError, "direction must be a Keras optimizer", lambda: Graft("sgd", "nothing"))
    assert_raises(ValueError, "put the graft inside it", lambda: Graft("sgd", K.LossScaleOptimizer(sgd(0.5))))
    assert_raises(ValueError, "use_ema", lambda: Graft(sgd(0.5, use_ema=True), "sgd"))
    assert_raises(ValueError, "gradient_accumulation", lambda: Graft("sgd", sgd(0.5, gradient_accumulation_steps=2)))
    assert_raises(ValueError, "did you mean", lambda: Graft("sgd", "sgd", partition="tensr"))
    assert_raises(TypeError, "partition must be text", lambda: Graft("sgd", "sgd", partition=3))
    assert_raises(ValueError, "partition must be one of", lambda: Graft("sgd", "sgd", partition="sets(a={'x': [0]})"))
    assert_raises(ValueError, "eps must be", lambda: Graft("sgd", "sgd", eps=-1.0))
    assert_raises(ValueError, "scale must be", lambda: Graft("sgd", "sgd", scale=math.nan))
    assert_raises(ValueError, "has no axis 2", lambda: Graft("sgd", "sgd", partition="axis(2)").build(made(weights())))
    half = [keras.Variable(np.ones(2), dtype="bfloat16")]
    assert_raises(ValueError, "mixed_bfloat16", lambda: Graft("sgd", "sgd").build(half))
    assert_raises(ValueError, "has no factor", lambda: corrections("sgd", {"bias": 1.0}).build(made(weights())))
    assert_raises(ValueError, "at least 0", lambda: corrections("sgd", {"bias": -1.0}))
    if BACKEND == "tensorflow":
        assert_raises(ValueError, "not supported", lambda: Graft("sgd", "sgd").stateless_apply([], [], []))
