"""``model.fit`` on every backend: options, saving, mixed precision, recording, corrections."""

import keras
import numpy as np

from graftsim_tf import Graft, GraftRecorder, Recorder, corrections, discover, save_corrections, silent
from tests.tf_adapter.variables import BACKEND, adam, assert_raises, same, sgd

K, L = keras.optimizers, keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((32, 4)).astype("float32"), RNG.integers(0, 3, 32)
CLOSE = {"rtol": 1e-4, "atol": 1e-6} if BACKEND == "jax" else {"rtol": 0, "atol": 0}
"""XLA contracts the last addition to a fused one in a plain optimizer; elsewhere the bits are the same."""


def model(optimizer, **options):
    keras.utils.set_random_seed(1)
    net = keras.Sequential(
        [keras.Input((4,)), L.Dense(5, activation="tanh", name="a", kernel_constraint="non_neg"), L.Dense(3, name="b")]
    )
    net.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    return net


def fit(net, epochs=2, **options):
    return net.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **options)


def weights_of(net):
    return np.concatenate([part.reshape(-1) for part in net.get_weights()])


def check_fit_is_that_of_the_optimizer_where_both_are_one() -> None:
    got, want = (
        model(optimizer, jit_compile=BACKEND == "jax")
        for optimizer in (Graft(sgd(0.25, momentum=0.5), sgd(0.25, momentum=0.5)), sgd(0.25, momentum=0.5))
    )
    fit(got), fit(want)
    assert np.allclose(weights_of(got), weights_of(want), **CLOSE)
    assert weights_of(got)[:20].min() >= 0  # the constraint


def check_fit_with_xla_and_several_steps_a_call() -> None:
    if BACKEND == "torch":
        return
    plain, fast = (
        model(Graft(adam(0.01), sgd(1.0))),
        model(Graft(adam(0.01), sgd(1.0)), jit_compile=True, steps_per_execution=2),
    )
    fit(plain), fit(fast)
    # the same formulas, contracted and reassociated by the compiler, over 8 steps of at most 0.01 a weight
    assert np.allclose(weights_of(plain), weights_of(fast), rtol=1e-3, atol=1e-5)


def check_a_saved_model_goes_on_with_the_same_bits(folder) -> None:
    first = model(Graft(adam(0.01), K.Nadam(1.0), partition="global", weight_decay=0.01))
    fit(first, 1)
    first.save(folder / f"{BACKEND}.keras")
    second = keras.saving.load_model(folder / f"{BACKEND}.keras")
    assert isinstance(second.optimizer, Graft)
    fit(first, 1), fit(second, 1)
    assert same(weights_of(first), weights_of(second))


def check_mixed_precision() -> None:
    for policy, wrapped in (("mixed_float16", True), ("mixed_bfloat16", False)):
        keras.mixed_precision.set_global_policy(policy)
        try:
            net = model(Graft(adam(0.01), sgd(1.0)))
        finally:
            keras.mixed_precision.set_global_policy("float32")
        before = weights_of(net)
        fit(net, 1)
        assert isinstance(net.optimizer, K.LossScaleOptimizer) is wrapped
        assert np.isfinite(weights_of(net)).all()
        assert not same(weights_of(net), before)


def check_the_recorder_and_what_it_finds(folder) -> None:
    recorder, record = GraftRecorder(problem="noise", machine="adam(lr=0.01)#sgd"), folder / f"{BACKEND}.npz"
    assert_raises(ValueError, "no record before", recorder.trajectory)
    net = model(Graft(Graft(adam(0.01), sgd(1.0)), sgd(2.0), partition="pattern(bias='*bias', rest=None)"))
    start = weights_of(net)
    history = fit(net, callbacks=[recorder]).history
    found = recorder.trajectory()
    found.save(record)
    assert found.steps.tolist() == list(range(9))
    assert set(found.info) == {f"{path}{name}" for path in ("", "magnitude.") for name in ("n_m", "n_d", "ratio")}
    assert np.allclose(found.info["ratio"] * found.info["n_d"], found.info["n_m"], rtol=1e-6)
    assert found.meta.groups["ratio"] == ("bias", "rest")
    assert len(found.meta.groups["magnitude.ratio"]) == 4
    assert np.allclose(history["ratio/rest"], np.median(found.info["ratio"].reshape(2, 4, 2), axis=1)[:, 1])
    assert np.isfinite(found.loss[:-1]).all()
    assert len(set(found.loss[:-1])) == 8
    assert same(found.weights[0], start)
    assert same(found.weights[-1], weights_of(net))
    assert silent(found) == {}
    save_corrections(folder / "corrections.yaml", discover(found), "pattern(bias='*bias', rest=None)")
    corrected = model(corrections(sgd(2.0), folder / "corrections.yaml"))
    assert np.isfinite(fit(corrected).history["loss"]).all()
    assert not same(weights_of(corrected), start)
    assert_raises(TypeError, "records a Graft", lambda: Recorder(sgd(0.5)))
    assert_raises(ValueError, "must be built", lambda: Recorder(Graft("sgd", "sgd")))
