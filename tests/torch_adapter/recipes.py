"""Optimizers of torch with the machines that they are, streams of gradients, and runs."""

from functools import partial

import numpy as np
import torch
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

SHAPES = {"a.weight": (3, 4), "a.bias": (4,), "scalar": (), "empty": (0, 3), "deep": (2, 3, 2)}

RECIPES = {
    "sgd(lr=0.1)": partial(SGD, lr=0.1),
    "momentum(lr=0.1, momentum=0.9, form=heavy_ball, first_step=copy)": partial(SGD, lr=0.1, momentum=0.9),
    "momentum(lr=0.1, momentum=0.9, form=heavy_ball, first_step=copy, dampening=0, nesterov=on)": partial(
        SGD, lr=0.1, momentum=0.9, nesterov=True
    ),
    "decay_in_gradient(sgd(lr=0.1), weight_decay=0.3)": partial(SGD, lr=0.1, weight_decay=0.3),
    "adam(lr=0.01)": partial(Adam, lr=0.01),
    "decay_in_gradient(adam(lr=0.01), weight_decay=0.3)": partial(Adam, lr=0.01, weight_decay=0.3),
    "amsgrad(lr=0.01, maximum=raw, eps_placement=corrected)": partial(Adam, lr=0.01, amsgrad=True),
    "decay_decoupled(adam(lr=0.01), weight_decay=0.3)": partial(AdamW, lr=0.01, weight_decay=0.3),
    "adagrad(lr=0.1, eps=1e-10, eps_placement=outside, initial_accumulator=0)": partial(Adagrad, lr=0.1),
    "rmsprop(lr=0.01, rho=0.99, eps=1e-8, eps_placement=outside, initial_accumulator=0, centered=on, "
    "momentum=0.9, momentum_form=heavy_ball)": partial(RMSprop, lr=0.01, centered=True, momentum=0.9),
}


def parameters(dtype=torch.float64, seed=1, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [torch.nn.Parameter(torch.tensor(rng.standard_normal(shape)).to(dtype)) for shape in shapes.values()]


def named(params, shapes=SHAPES):
    return list(zip(shapes, params, strict=True))


def stream(steps=6, seed=2, missing=True, shapes=SHAPES):
    """Gradients over several magnitudes; the second tensor has none at step 3, the first is zero at step 4."""
    rng = np.random.default_rng(seed)
    rows = []
    for step in range(steps):
        row = [rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3) for shape in shapes.values()]
        if missing and step == 2:
            row[1] = None
        if step == 3:
            row[0] = np.zeros_like(row[0])
        rows.append(row)
    return rows


def give(params, row):
    for param, gradient in zip(params, row, strict=True):
        param.grad = None if gradient is None else torch.tensor(gradient).to(param.dtype)


def run(optimizer, params, rows):
    for row in rows:
        give(params, row)
        optimizer.step()
    return flat(params)


def flat(params):
    return torch.cat([param.detach().reshape(-1) for param in params])
