"""Grafting as one would write it with NumPy alone, PyTorch or JAX, in other orders of operations than the reference's.

Nothing here reads a machine's file. These are the implementations that must never be called wrong.
"""

from __future__ import annotations

import math

import numpy as np

# -- children: (weights, gradient, state, hyperparameters) of one tensor to (step, state); state is changed nowhere ----


def quotient(a, b):
    """a / b, and 0 where b is 0: the pseudo-inverse."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def start(w, names, counter=True):
    return {**({"t": 0} if counter else {}), **{name: np.zeros_like(w) for name in names}}


class Sgd:
    def init(self, w, h):
        return {}

    def step(self, w, g, state, h):
        return g * -h["lr"], {}


class Momentum:
    """torch.optim.SGD: the first gradient is copied into the buffer, dampening or not."""

    def init(self, w, h):
        return start(w, ["b"])

    def step(self, w, g, state, h):
        b = g.copy() if state["t"] == 0 else g * (1 - h["dampening"]) + state["b"] * h["momentum"]
        return b * -h["lr"], {"t": state["t"] + 1, "b": b}


class Adam:
    """Means as torch's lerp forms them, from the nearer end, and the learning rate over the first correction."""

    def init(self, w, h):
        return start(w, ["m", "v"])

    def step(self, w, g, state, h):
        t = state["t"] + 1
        beta, m = h["beta1"], state["m"]
        m = m + (1 - beta) * (g - m) if beta >= 0.5 else g - beta * (g - m)
        v = h["beta2"] * state["v"] + ((1 - h["beta2"]) * g) * g
        root = np.sqrt(v) / math.sqrt(1 - h["beta2"] ** t) + h["eps"]
        return -(h["lr"] / (1 - h["beta1"] ** t)) * quotient(m, root), {"t": t, "m": m, "v": v}


class Adagrad:
    def init(self, w, h):
        return {"t": 0, "a": np.full_like(w, h["initial_accumulator"])}

    def step(self, w, g, state, h):
        a = np.square(g) + state["a"]
        rate = h["lr"] / (state["t"] * h["lr_decay"] + 1)
        return quotient(g * -rate, h["eps"] + np.sqrt(a)), {"t": state["t"] + 1, "a": a}


class Rmsprop:
    def init(self, w, h):
        return {"v": np.full_like(w, h["initial_accumulator"])}

    def step(self, w, g, state, h):
        v = state["v"] * h["rho"] + np.square(g) * (1 - h["rho"])
        return quotient(g, np.sqrt(v) + h["eps"]) * -h["lr"], {"v": v}


class Lion:
    def init(self, w, h):
        return start(w, ["m"], counter=False)

    def step(self, w, g, state, h):
        look = state["m"] * h["beta1"] + g * (1 - h["beta1"])
        return -h["lr"] * np.sign(look), {"m": g * (1 - h["beta2"]) + state["m"] * h["beta2"]}


CHILDREN = {
    "sgd": Sgd(),
    "momentum(first_step=copy)": Momentum(),
    "adam": Adam(),
    "adagrad": Adagrad(),
    "rmsprop": Rmsprop(),
    "lion": Lion(),
}

# -- norms and groups --------------------------------------------------------------------------------------------------


def norm(x):
    """The Euclidean norm in float64, with a power of two taken out so that no square leaves the range."""
    x = x.astype(np.float64)
    largest = np.abs(x).max(initial=0.0)
    if largest == 0 or not np.isfinite(largest):
        return math.nan if np.isnan(x).any() else float(largest)
    _, exponent = math.frexp(largest)
    half = exponent // 2  # 2 ** exponent itself may not be a number
    return float(np.linalg.norm(x * 2.0**-half * 2.0 ** (half - exponent))) * 2.0**half * 2.0 ** (exponent - half)


def numpys_norm(x):
    """What most people write; squares leave the range of the dtype."""
    return float(np.linalg.norm(x))


def number_of_groups(partition, shapes):
    """For each tensor the number of each coordinate's group, flat, and how many groups there are."""
    found, count = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        match partition:
            case "global":
                local = np.zeros(size, int)
            case "tensor":
                local, count = np.full(size, count), count + 1
            case "coordinate":
                local, count = count + np.arange(size), count + size
            case "block(2)":
                local, count = count + np.arange(size) // 2, count + -(-size // 2)
            case "row" | "axis(-1)":
                axis = 0 if partition == "row" else len(shape) - 1
                many = shape[axis] if len(shape) > 1 else 1
                index = np.indices(shape)[axis].reshape(-1) if len(shape) > 1 else np.zeros(size, int)
                local, count = count + index, count + many
        found[name] = local
    return found, 1 if partition == "global" else count


# -- machines: dictionaries of all tensors; a tensor whose gradient is None takes no part ------------------------------


def below(hyperparameters, child):
    """A child's hyperparameters."""
    return {path.removeprefix(f"{child}."): x for path, x in hyperparameters.items() if path.startswith(f"{child}.")}


class Each:
    """A child, tensor by tensor."""

    def __init__(self, rule):
        self.rule = rule

    def init(self, weights, h):
        return {name: self.rule.init(w, h) for name, w in weights.items()}

    def step(self, weights, gradients, state, h):
        deltas, after = {}, {}
        for name, w in weights.items():
            deltas[name], after[name] = np.zeros_like(w), state[name]
            if gradients[name] is not None:
                deltas[name], after[name] = self.rule.step(w, gradients[name], state[name], h)
        return deltas, after, {}

    def shown(self, state):
        slots = next(iter(state.values()))
        return {slot: {name: state[name][slot] for name in state} for slot in slots}

    def hidden(self, shown, names):
        return {name: {slot: values[name] for slot, values in shown.items()} for name in names}


class Graft:
    """M#D: M's length in D's direction, group by group."""

    def __init__(self, magnitude, direction, partition="tensor", norm=norm):
        self.magnitude, self.direction, self.partition, self.norm = magnitude, direction, partition, norm

    def init(self, weights, h):
        return {
            "magnitude": self.magnitude.init(weights, below(h, "magnitude")),
            "direction": self.direction.init(weights, below(h, "direction")),
        }

    def step(self, weights, gradients, state, h):
        m, magnitude, _ = self.magnitude.step(weights, gradients, state["magnitude"], below(h, "magnitude"))
        d, direction, _ = self.direction.step(weights, gradients, state["direction"], below(h, "direction"))
        groups, count = number_of_groups(self.partition, {name: w.shape for name, w in weights.items()})
        n_m, n_d = self.norms(m, groups, count), self.norms(d, groups, count)
        ratio = np.array([0.0 if y == 0 else x / (y + h["eps"]) for x, y in zip(n_m, n_d, strict=True)])
        by = {name: (h["scale"] * ratio)[groups[name]].reshape(w.shape) for name, w in weights.items()}
        deltas = {name: (by[name] * d[name].astype(np.float64)).astype(w.dtype) for name, w in weights.items()}
        info = {"n_m": n_m, "n_d": n_d, "ratio": ratio, "magnitude.delta": m, "direction.delta": d}
        return deltas, {"magnitude": magnitude, "direction": direction}, info

    def norms(self, values, groups, count):
        x = np.concatenate([value.reshape(-1) for value in values.values()])
        where = np.concatenate([groups[name] for name in values])
        return np.array([self.norm(x[where == group]) for group in range(count)])

    def shown(self, state):
        return {child: getattr(self, child).shown(state[child]) for child in ("magnitude", "direction")}

    def hidden(self, shown, names):
        return {child: getattr(self, child).hidden(shown[child], names) for child in ("magnitude", "direction")}


class Right:
    """A machine as a candidate: functions of weights, gradients and a state that has the machine's slots."""

    abilities = ("missing",)

    def __init__(self, machine):
        self.machine = machine

    def init(self, weights, hyperparameters):
        return self.machine.shown(self.machine.init(weights, hyperparameters))

    def step(self, weights, gradients, state, step, hyperparameters):
        inner = self.machine.hidden(state, list(weights))
        deltas, inner, info = self.machine.step(weights, gradients, inner, hyperparameters)
        return {name: w + deltas[name] for name, w in weights.items()}, self.machine.shown(inner), info


def graft(magnitude, direction, partition="tensor", norm=norm):
    """The graft of two children by name, as a candidate."""
    return Right(Graft(Each(CHILDREN[magnitude]), Each(CHILDREN[direction]), partition, norm))


KNOWN = {
    "sgd": "sgd",
    "momentum(form=heavy_ball, nesterov=off, first_step=copy)": "momentum(first_step=copy)",
    "adam(eps_placement=corrected)": "adam",
    "adagrad(eps_placement=outside, momentum_on=none)": "adagrad",
    "rmsprop(eps_placement=outside, centered=off, momentum_form=none, nesterov=off, bias_correction=off)": "rmsprop",
    "lion": "lion",
}


def machine_of(instance):
    """The implementation of an instance: grafts of what is known here; anything else is not implemented."""
    if instance.machine.name == "graft":
        return Graft(*map(machine_of, instance.children.values()), instance.partition)
    options = [f"{name}={instance.option(name)}" for name in instance.machine.options if name != "missing"]
    text = f"{instance.machine.name}({', '.join(options)})" if options else instance.machine.name
    if text not in KNOWN:
        raise NotImplementedError(f"there is no {text} here")
    return Each(CHILDREN[KNOWN[text]])


# -- the same with PyTorch and JAX: Adam#SGD, as one would write it there ----------------------------------------------


class Torch:
    """Adam#SGD tensor by tensor, with PyTorch's fused operations and its norm."""

    def init(self, weights, hyperparameters):
        zeros = {name: np.zeros_like(w) for name, w in weights.items()}
        return {"magnitude": {"t": dict.fromkeys(weights, 0), "m": zeros, "v": zeros}, "direction": {}}

    def step(self, weights, gradients, state, step, hyperparameters):
        import torch

        moved, after = {}, {"t": {}, "m": {}, "v": {}}
        for name, w in weights.items():
            before = state["magnitude"]
            m, v, t = torch.tensor(before["m"][name]), torch.tensor(before["v"][name]), int(before["t"][name]) + 1
            w, g = torch.tensor(w), torch.tensor(gradients[name])
            moved[name] = torchs_step(w, g, m, v, t, hyperparameters).numpy()
            after["t"][name], after["m"][name], after["v"][name] = t, m.numpy(), v.numpy()
        return moved, {"magnitude": after, "direction": {}}


def torchs_step(w, g, m, v, t, h):
    """The weights after a step; m and v are changed in place."""
    import torch

    m.mul_(h["magnitude.beta1"]).add_(g, alpha=1 - h["magnitude.beta1"])
    v.mul_(h["magnitude.beta2"]).addcmul_(g, g, value=1 - h["magnitude.beta2"])
    root = (v.sqrt() / math.sqrt(1 - h["magnitude.beta2"] ** t)).add_(h["magnitude.eps"])
    rate = -h["magnitude.lr"] / (1 - h["magnitude.beta1"] ** t)
    adam = torch.where(root == 0, torch.zeros_like(m), m / root).mul_(rate)
    sgd = g.mul(-h["direction.lr"])
    n_m, n_d = length(adam), length(sgd)
    ratio = 0.0 if n_d == 0 else n_m / (n_d + h["eps"])
    return w + sgd.double().mul(h["scale"] * ratio).to(w.dtype)


def length(x):
    """torch.linalg's norm of a tensor whose largest element was made 1: its squares stay in range."""
    import torch

    wide = x.double().reshape(-1)
    largest = float(wide.abs().max()) if wide.numel() else 0.0
    if largest == 0 or not math.isfinite(largest):
        return largest if not bool(wide.isnan().any()) else math.nan
    return float(torch.linalg.vector_norm(wide / largest)) * largest


class Jax:
    """Adam#SGD, jitted as a whole on a tree of tensors."""

    def __init__(self):
        self.compiled = None

    def init(self, weights, hyperparameters):
        zeros = {name: np.zeros_like(w) for name, w in weights.items()}
        return {"magnitude": {"t": 0, "m": zeros, "v": zeros}, "direction": {}}

    def step(self, weights, gradients, state, step, hyperparameters):
        import jax

        with jax.enable_x64(True):
            self.compiled = self.compiled or jax.jit(jaxs_step)
            moved, magnitude = self.compiled(weights, gradients, state["magnitude"], hyperparameters)
            magnitude = {**jax.tree.map(np.array, magnitude), "t": int(magnitude["t"])}
            return jax.tree.map(np.array, moved), {"magnitude": magnitude, "direction": {}}


def jaxs_step(weights, gradients, state, h):
    import jax.numpy as jnp

    t = state["t"] + 1
    c1, c2 = 1 - h["magnitude.beta1"] ** t, 1 - h["magnitude.beta2"] ** t
    moved, after = {}, {"t": t, "m": {}, "v": {}}
    for name, w in weights.items():
        g = gradients[name]
        m = h["magnitude.beta1"] * state["m"][name] + (1 - h["magnitude.beta1"]) * g
        v = h["magnitude.beta2"] * state["v"][name] + (1 - h["magnitude.beta2"]) * g**2
        root = jnp.sqrt(v / c2) + h["magnitude.eps"]
        adam = -h["magnitude.lr"] * jnp.where(root == 0, 0, m / c1 / jnp.where(root == 0, 1, root))
        sgd = -h["direction.lr"] * g
        n_m, n_d = jaxs_norm(adam), jaxs_norm(sgd)
        ratio = jnp.where(n_d == 0, 0.0, n_m / jnp.where(n_d == 0, 1.0, n_d + h["eps"]))
        step = (h["scale"] * ratio * sgd.astype(jnp.float64)).astype(w.dtype)
        moved[name] = w + step
        after["m"][name], after["v"][name] = m.astype(w.dtype), v.astype(w.dtype)
    return moved, after


def jaxs_norm(x):
    import jax.numpy as jnp

    wide = jnp.abs(x.astype(jnp.float64)).reshape(-1)
    largest = wide.max(initial=0.0)
    ordinary = jnp.isfinite(largest) & (largest > 0)
    divisor = jnp.where(ordinary, largest, 1.0)
    return jnp.where(ordinary, jnp.linalg.norm(wide / divisor) * divisor, largest)
