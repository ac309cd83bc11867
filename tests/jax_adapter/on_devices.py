"""Run by test_transforms.py with 8 host devices: prints updates and collectives over 1, 2, 4 and 8 of them."""

import re
import sys

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from graftsim_jax import graft

SPECS = {
    "rows": {"a": P("x"), "b": P("x"), "c": P("x")},
    "columns": {"a": P(None, "x"), "b": P("x"), "c": P(None, None, "x")},
}
COLLECTIVE = re.compile(r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")


def parameters() -> dict[str, np.ndarray]:
    """c is large enough to be summed by halves on one device."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in
            {"a": (16, 24), "b": (40,), "c": (8, 24, 32)}.items()}  # fmt: skip


def mesh(count: int) -> jax.sharding.Mesh:
    return jax.make_mesh((count,), ("x",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:count])


def report(name: str, compiled: jax.stages.Compiled, updates: dict[str, jax.Array]) -> None:
    print(f"{name}-collectives", ",".join(COLLECTIVE.findall(compiled.as_text())))
    print(f"{name}-bits", b"".join(np.asarray(updates[key]).tobytes() for key in sorted(updates)).hex())


def jitted(name: str, partition: str, specs: dict[str, P], count: int = 8) -> None:
    devices = mesh(count)
    optimizer = graft(optax.rmsprop(0.5), optax.sgd(1.0), partition=partition)
    given = {key: jax.device_put(value, NamedSharding(devices, specs[key])) for key, value in parameters().items()}
    state = jax.tree.map(
        lambda x: x if isinstance(x.sharding, NamedSharding) else jax.device_put(x, NamedSharding(devices, P())),
        optimizer.init(given),
    )
    places = {key: NamedSharding(devices, spec) for key, spec in specs.items()}

    def step(updates, state):
        moved, state = optimizer.update(updates, state)
        return jax.lax.with_sharding_constraint(moved, places), state

    compiled = jax.jit(step).lower(given, state).compile()
    report(name, compiled, compiled(given, state)[0])


def mapped(name: str, partition: str, count: int = 8) -> None:
    """Inside shard_map norms are of shards unless axis_name says otherwise."""
    optimizer = graft(optax.rmsprop(0.5), optax.sgd(1.0), partition=partition, axis_name="x")
    specs, devices = SPECS["columns"], mesh(count)

    def step(updates):
        return optimizer.update(updates, optimizer.init(updates))[0]

    sharded = jax.shard_map(step, mesh=devices, in_specs=(specs,), out_specs=specs)
    given = {key: jax.device_put(value, NamedSharding(devices, specs[key])) for key, value in parameters().items()}
    compiled = jax.jit(sharded).lower(given).compile()
    report(name, compiled, compiled(given))


def mixed() -> None:
    """A replicated leaf beside sharded ones would be counted eight times in a pooled norm."""
    optimizer = graft(optax.rmsprop(0.5), optax.sgd(1.0), partition="global", axis_name="x")
    specs = SPECS["columns"] | {"b": P()}

    def step(updates):
        return optimizer.update(updates, optimizer.init(updates))[0]

    try:
        jax.shard_map(step, mesh=mesh(8), in_specs=(specs,), out_specs=specs)(parameters())
    except ValueError as error:
        print("mixed-error", error)


def replicated() -> None:
    """One replica a device: the same update on each, and no exchange."""
    optimizer = graft(optax.rmsprop(0.5), optax.sgd(1.0))
    given = {key: np.stack([value] * 8) for key, value in parameters().items()}
    step = jax.pmap(lambda updates: optimizer.update(updates, optimizer.init(updates))[0])
    compiled = step.lower(given).compile()
    updates = compiled(given)
    assert all((np.asarray(value) == np.asarray(value)[:1]).all() for value in updates.values())
    report("replicated", compiled, {key: value[0] for key, value in updates.items()})


def again() -> None:
    """Few enough to be run twice."""
    mapped("shard_map-global", "global")
    jitted("jit-tensor-columns-8", "tensor", SPECS["columns"])


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(again())
    for partition in ("tensor", "global"):
        mapped(f"shard_map-{partition}", partition)
    for count in (1, 2, 4, 8):
        jitted(f"jit-tensor-columns-{count}", "tensor", SPECS["columns"], count)
    for count in (1, 8):
        jitted(f"jit-global-columns-{count}", "global", SPECS["columns"], count)
        jitted(f"jit-block-rows-{count}", "block(7)", SPECS["rows"], count)
    jitted("jit-tensor-rows-8", "tensor", SPECS["rows"])
    jitted("jit-row", "row", {"a": P("x"), "b": P(), "c": P("x")})
    jitted("jit-coordinate", "coordinate", SPECS["columns"])
    replicated()
    mixed()
