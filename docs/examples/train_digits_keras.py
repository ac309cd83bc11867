"""Train a small convolutional network on scikit-learn's digits with SGD, Adam, and the graft Adam#SGD.

    KERAS_BACKEND=tensorflow python train_digits_keras.py --epochs 12

Prints a table of losses and accuracies on held-out images. Adam#SGD moves as far as Adam and where SGD with momentum
points; its direction needs no learning rate of its own. It runs on Keras's jax and torch backends too.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
from keras import layers
from keras.optimizers import SGD, Adam
from keras.optimizers.schedules import CosineDecay
from sklearn.datasets import load_digits

from graftsim_tf import Graft, GraftRecorder, silent

OPTIMIZERS = {
    "SGD": lambda steps: SGD(CosineDecay(0.05, steps), momentum=0.9),
    "Adam": lambda steps: Adam(CosineDecay(3e-3, steps)),
    "Adam#SGD": lambda steps: Graft(Adam(CosineDecay(3e-3, steps)), SGD(1.0, momentum=0.9)),
}


def images() -> tuple[np.ndarray, np.ndarray]:
    """1797 images of 8 by 8, shuffled, and their digits."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    return digits.images[order, :, :, None].astype("float32") / 16, digits.target[order]


def network() -> keras.Model:
    """The same initial weights every time."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="first"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="second"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, name="head"),
        ]
    )


def train(name: str, epochs: int, images_used: int = 1500) -> tuple[dict[str, list[float]], GraftRecorder | None]:
    """What Keras's history holds after training, and the record of a graft."""
    x, y = images()
    model = network()
    model.compile(
        OPTIMIZERS[name](epochs * (images_used // 50)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    recorder = GraftRecorder(problem="digits") if isinstance(model.optimizer, Graft) else None
    history = model.fit(
        x[:images_used], y[:images_used], batch_size=50, epochs=epochs, validation_data=(x[1500:], y[1500:]),
        callbacks=[recorder] if recorder else [], verbose=0,
    )  # fmt: skip
    return history.history, recorder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=1500, help="training images, for a quick look")
    options = parser.parse_args()
    for name in OPTIMIZERS:
        history, recorder = train(name, options.epochs, options.images)
        print(f"{name:10} loss {history['loss'][-1]:.4f}  held-out accuracy {history['val_accuracy'][-1]:.4f}")
        if recorder:
            record = recorder.trajectory()
            first, last = record.info["ratio"][0], record.info["ratio"][-1]
            for group, a, b in zip(record.meta.groups["ratio"], first, last, strict=True):
                print(f"  {group:24} ratio of lengths |Adam| / |SGD|: first {a:.3g}, last {b:.3g}")
            print(f"  variables without a direction: {silent(record) or 'none'}")


if __name__ == "__main__":
    main()
