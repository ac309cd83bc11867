"""Train a small convolutional network on scikit-learn's digits with SGD, Adam, and the graft Adam#SGD.

    python train_digits_torch.py --epochs 12 --plot digits.png

Prints a table of losses and accuracies on held-out images, and draws the curves. Adam#SGD moves as far as Adam and
where SGD with momentum points; its direction needs no learning rate of its own.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from graftsim_torch import Graft, Recorder, silent

OPTIMIZERS = {
    "SGD": partial(SGD, lr=0.05, momentum=0.9),
    "Adam": partial(Adam, lr=3e-3),
    "Adam#SGD": partial(Graft, magnitude=partial(Adam, lr=3e-3), direction=partial(SGD, lr=1.0, momentum=0.9)),
}


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """1797 images of 8 by 8, shuffled, and their digits."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    return x[order], torch.tensor(digits.target)[order]


def network() -> Module:
    """The same initial weights every time."""
    torch.manual_seed(1)
    return Sequential(
        Conv2d(1, 16, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(16, 32, 3, padding=1), ReLU(), MaxPool2d(2),
        Flatten(), Linear(128, 10),
    )  # fmt: skip


def train(name: str, epochs: int, steps: int | None = None) -> tuple[list[float], list[float], Recorder | None]:
    """Mean training loss and held-out accuracy after each epoch, and the record of a graft."""
    x, y = images()
    train_x, train_y, test_x, test_y = x[:1500], y[:1500], x[1500:], y[1500:]
    net = network()
    optimizer = OPTIMIZERS[name](net.named_parameters())
    per_epoch = steps or len(train_x) // 50
    scheduler = CosineAnnealingLR(optimizer, epochs * per_epoch)
    recorder = Recorder(optimizer, problem="digits") if isinstance(optimizer, Graft) else None
    losses, accuracies = [], []
    shuffle = torch.Generator().manual_seed(2)
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(train_x), generator=shuffle).split(50)[:per_epoch]:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(train_x[batch]), train_y[batch])
            loss.backward()
            optimizer.step()
            scheduler.step()
            if recorder:
                recorder.record(loss)
            total += float(loss.detach())
        with torch.no_grad():
            accuracies.append(float((net(test_x).argmax(1) == test_y).float().mean()))
        losses.append(total / per_epoch)
    return losses, accuracies, recorder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, help="steps an epoch, for a quick look")
    parser.add_argument("--plot", help="where to write a picture of the curves")
    options = parser.parse_args()
    curves = {}
    for name in OPTIMIZERS:
        losses, accuracies, recorder = train(name, options.epochs, options.steps)
        curves[name] = losses
        print(f"{name:10} loss {losses[-1]:.4f}  held-out accuracy {accuracies[-1]:.4f}")
        if recorder:
            record = recorder.trajectory()
            first, last = record.info["ratio"][0], record.info["ratio"][-1]
            for group, a, b in zip(record.meta.groups["ratio"], first, last, strict=True):
                print(f"  {group:10} ratio of lengths |Adam| / |SGD|: first {a:.3g}, last {b:.3g}")
            print(f"  tensors without a direction: {silent(record) or 'none'}")
    if options.plot:
        draw(curves, options.plot)


def draw(curves: dict[str, list[float]], path: str) -> None:
    """Training losses by epoch, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, losses in curves.items():
        axes.semilogy(range(1, len(losses) + 1), losses, label=name, marker="o", markersize=3)
    axes.set(xlabel="epoch", ylabel="mean training loss", title="digits")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
