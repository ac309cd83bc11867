"""Mutants of behaviour: what is wrong around right equations. A row is a name, a group, and what is done otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graftsim.program import Node
from graftsim_conformance.cases import Array, Gradients
from graftsim_conformance.mutated import (
    Changes,
    ReferenceCandidate,
    Settings,
    State,
    by_group,
    counters,
    in_dtype,
    last_group_for_all,
    magnitudes_step,
    of,
    rounded_to,
    running_sum_in,
    seen_by_direction,
    taken_again,
)


def _clipped(run: ReferenceCandidate, gradients: Gradients) -> Gradients:
    if isinstance(gradients, np.ndarray):
        return np.clip(gradients, -1, 1)
    return [None if part is None else np.clip(part, -1, 1) for part in gradients]


def _zero_for_missing(run: ReferenceCandidate, gradients: Gradients) -> Gradients:
    layout = run.program.layout
    parts = layout.unflatten(gradients) if isinstance(gradients, np.ndarray) else gradients
    pairs = zip(parts, layout.shapes, strict=True)
    return [np.zeros(shape, run.weights.dtype) if part is None else part for part, shape in pairs]


def _aliased(run: ReferenceCandidate, gradients: Gradients) -> Gradients:
    """The buffer of the first step is kept, and read again in each."""
    run.lent = gradients if run.lent is None else run.lent
    return run.lent


def _changed_in_place(run: ReferenceCandidate, gradients: Gradients) -> Gradients:
    """Decay that is added to the caller's own buffer."""
    for part in [gradients] if isinstance(gradients, np.ndarray) else gradients:
        if part is not None:
            part *= 0.5
    return gradients


def _read_once(run: ReferenceCandidate, settings: Settings) -> Settings:
    return run.history[0]


def _one_step_late(run: ReferenceCandidate, settings: Settings) -> Settings:
    return run.history[-2] if len(run.history) > 1 else settings


def _rates_of_magnitude_for_both(run: ReferenceCandidate, settings: Settings) -> Settings:
    lr = settings.get("magnitude.lr")
    return {**settings, "direction.lr": lr} if lr is not None and "direction.lr" in settings else settings


def _largest_rate_so_far(run: ReferenceCandidate, settings: Settings) -> Settings:
    """Warm-up that is ignored from the second step on."""
    return {path: max(row.get(path, value) for row in run.history) for path, value in settings.items()}


def _frozen(child: str, until: int = 1 << 62) -> Changes:
    def state(run: ReferenceCandidate, old: State, new: State) -> State:
        return {**new, **of(child, old)} if run.taken <= until else new

    return Changes(state=state)


def _every_third_update_skipped(run: ReferenceCandidate, old: State, new: State) -> State:
    return old if run.taken % 3 == 0 else new


def _shared(run: ReferenceCandidate, old: State, new: State) -> State:
    """Children with slots of one name share them, as two optimizers do that keep state under the tensor alone."""
    ours = {path.partition(".")[2]: value for path, value in of("magnitude", new).items()}
    return {**new, **{path: ours.get(path.partition(".")[2], value) for path, value in of("direction", new).items()}}


def _counter_in_float32(run: ReferenceCandidate, old: State, new: State) -> State:
    narrow = {path: (value.astype(np.float32) + np.float32(1)).astype(float) for path, value in counters(old).items()}
    return {**new, **narrow}


def _counter_in_a_byte(run: ReferenceCandidate, old: State, new: State) -> State:
    return {**new, **{path: value % 256 for path, value in counters(new).items()}}


def _one_counter_for_all(run: ReferenceCandidate, old: State, new: State) -> State:
    """The counter of the tensors that had a gradient, for the others too."""
    return {**new, **{path: np.full_like(value, value.max()) for path, value in counters(new).items()}}


def _forgets(run: ReferenceCandidate, old: State, new: State) -> State:
    return run.engine.initial_state()


def _one_step_behind(run: ReferenceCandidate, delta: Array) -> Array:
    before = getattr(run, "before", np.zeros_like(delta)) if run.taken > 1 else np.zeros_like(delta)
    run.before = delta  # type: ignore[attr-defined]
    return before


def _delta_in_float32(run: ReferenceCandidate, delta: Array) -> Array:
    return delta.astype(np.float32).astype(delta.dtype)


def _delta_in_half(run: ReferenceCandidate, delta: Array) -> Array:
    with np.errstate(over="ignore"):
        return delta.astype(np.float16).astype(delta.dtype)


def _flushed(run: ReferenceCandidate, delta: Array) -> Array:
    """Subnormal steps are zero."""
    return np.where(np.abs(delta) < np.finfo(delta.dtype).tiny, 0, delta).astype(delta.dtype)


def _first_step_skipped(run: ReferenceCandidate, delta: Array) -> Array:
    return np.zeros_like(delta) if run.taken == 1 else delta


def _plus(a: Node, b: Node) -> Node:
    return Node("add", (a, b), a.kind)


BEHAVIOURS: Mapping[str, Mapping[str, Changes]] = {
    "norm": {
        "largest_size": Changes(sums=by_group(lambda x: float(np.abs(x).max(initial=0)))),
        "first_coordinates_only": Changes(sums=by_group(lambda x: float(np.linalg.norm(x[:2].astype(float))))),
        "last_groups_norm_for_all": Changes(sums=last_group_for_all),
        "squares_that_overflow": Changes(sums=by_group(lambda x: float(np.sqrt(np.sum(x * x))))),
        "squares_in_float32": Changes(sums=by_group(running_sum_in(np.float32))),
        "squares_in_float16": Changes(sums=by_group(running_sum_in(np.float16))),
        "not_a_number_counts_as_zero": Changes(
            sums=by_group(lambda x: float(np.linalg.norm(np.nan_to_num(x.astype(float), nan=0.0))))
        ),
    },
    "ratio": {
        "in_float16": Changes(program=rounded_to("float16", "ratio")),
        "in_bfloat16": Changes(program=rounded_to("bfloat16", "ratio")),
        "in_float32": Changes(program=rounded_to("float32", "ratio")),
    },
    "inputs": {
        "direction_sees_moved_weights": Changes(
            program=seen_by_direction("w", lambda w, program: _plus(w, magnitudes_step(program)))
        ),
        "direction_fed_with_magnitudes_step": Changes(
            program=seen_by_direction("g", lambda g, program: magnitudes_step(program))
        ),
        "gradients_clipped": Changes(gradients=_clipped),
        "gradient_buffer_kept": Changes(gradients=_aliased),
        "gradients_changed_in_place": Changes(gradients=_changed_in_place),
        "missing_gradient_as_zero": Changes(gradients=_zero_for_missing),
    },
    "rates": {
        "read_once": Changes(settings=_read_once),
        "one_step_late": Changes(settings=_one_step_late),
        "magnitudes_rate_for_both": Changes(settings=_rates_of_magnitude_for_both),
        "warm_up_ignored": Changes(settings=_largest_rate_so_far),
    },
    "state": {
        "magnitude_updated_twice": Changes(state=taken_again("magnitude")),
        "direction_updated_twice": Changes(state=taken_again("direction")),
        "magnitude_frozen": _frozen("magnitude"),
        "direction_frozen": _frozen("direction"),
        "direction_frozen_at_first": _frozen("direction", 2),
        "every_third_update_skipped": Changes(state=_every_third_update_skipped),
        "shared_by_the_children": Changes(state=_shared),
        "never_kept": Changes(state=_forgets),
        "in_float32": Changes(state=in_dtype(np.float32)),
        "in_float16": Changes(state=in_dtype(np.float16)),
        "counter_in_float32": Changes(state=_counter_in_float32),
        "counter_in_a_byte": Changes(state=_counter_in_a_byte),
        "one_counter_for_all_tensors": Changes(state=_one_counter_for_all),
    },
    "step": {
        "one_step_behind": Changes(moved=_one_step_behind),
        "in_float32": Changes(moved=_delta_in_float32),
        "in_float16": Changes(moved=_delta_in_half),
        "subnormal_numbers_flushed": Changes(moved=_flushed),
        "first_step_skipped": Changes(moved=_first_step_skipped),
    },
    "checkpoint": {
        "without_counters": Changes(rest=lambda fresh, given: {**given, **counters(fresh)}),
        "without_the_directions_state": Changes(rest=lambda fresh, given: {**given, **of("direction", fresh)}),
        "without_the_magnitudes_state": Changes(rest=lambda fresh, given: {**given, **of("magnitude", fresh)}),
        "without_any_state": Changes(rest=lambda fresh, given: {}),
        "children_swapped": Changes(
            rest=lambda fresh, given: {
                **given,
                **{
                    path: given[f"magnitude.{path.partition('.')[2]}"]
                    for path in of("direction", given)
                    if f"magnitude.{path.partition('.')[2]}" in given
                },
            }
        ),
    },
}
