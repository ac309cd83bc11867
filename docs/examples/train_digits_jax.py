"""SGD, Adam and Adam#SGD on scikit-learn's digits, then SGD alone with the corrections that the graft discovered.

python docs/examples/train_digits_jax.py [steps] [folder]
"""

import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from graftsim_jax import Recorder, corrections, discover, graft, save_corrections

WIDTHS = (64, 128, 64, 10)
BATCH = 128


def data():
    """1,797 images of 8 by 8 pixels: 1,440 to train on, the others to test."""
    images, labels = load_digits(return_X_y=True)
    images = (images - images.mean()) / images.std()
    order = jax.random.permutation(jax.random.key(0), len(images))
    images, labels = jnp.asarray(images, jnp.float32)[order], jnp.asarray(labels)[order]
    return (images[:1440], labels[:1440]), (images[1440:], labels[1440:])


def parameters():
    """He's initial weights; the last layer is zero, so that a direction of zero occurs at the first step."""
    keys = jax.random.split(jax.random.key(1), len(WIDTHS))
    layers = {}
    for i, (rows, cols) in enumerate(itertools.pairwise(WIDTHS)):
        scale = 0 if cols == WIDTHS[-1] else (2 / rows) ** 0.5
        layers[f"layer{i}"] = {"kernel": scale * jax.random.normal(keys[i], (rows, cols)), "bias": jnp.zeros(cols)}
    return layers


def logits(params, images):
    *hidden, last = params.values()
    for layer in hidden:
        images = jax.nn.relu(images @ layer["kernel"] + layer["bias"])
    return images @ last["kernel"] + last["bias"]


def loss(params, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()


def train(optimizer, steps, recorder=None):
    """The last parameters, the losses, and what the recorder took from each step; one compiled loop."""
    (images, labels), _ = data()

    def step(carry, key):
        params, state = carry
        batch = jax.random.randint(key, (BATCH,), 0, len(images))
        value, gradients = jax.value_and_grad(loss)(params, images[batch], labels[batch])
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), (value, recorder.row(state) if recorder else {})

    params = parameters()
    keys = jax.random.split(jax.random.key(2), steps)
    (params, _), (losses, rows) = jax.jit(jax.lax.scan, static_argnums=0)(step, (params, optimizer.init(params)), keys)
    return params, losses, rows


def main(steps=500, folder="."):
    _, (images, labels) = data()

    def report(name, params, losses):
        accuracy = float((logits(params, images).argmax(axis=1) == labels).mean())
        print(f"{name:<20} last loss {float(losses[-20:].mean()):.4f}, test accuracy {accuracy:.3f}")

    adam, sgd = optax.adam(1e-2), optax.sgd(1e-2)
    recorder = Recorder(parameters(), machine="adam(lr=0.01)#sgd(lr=0.01)", problem="digits")
    for name, optimizer in (("sgd", sgd), ("adam", adam)):
        report(name, *train(optimizer, steps)[:2])
    params, losses, rows = train(graft(adam, sgd), steps, recorder)
    report("adam#sgd", params, losses)

    record = recorder.trajectory(parameters(), params, losses, rows)
    record.save(Path(folder) / "digits.npz")
    factors = discover(record)
    save_corrections(Path(folder) / "corrections.yaml", factors)
    for name, factor in factors.items():
        print(f"  {name:<16} {factor:8.2f}")
    corrected = optax.chain(sgd, corrections(Path(folder) / "corrections.yaml"))
    report("sgd, corrected", *train(corrected, steps)[:2])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:3])
