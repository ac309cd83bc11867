"""Edges: short streams on which an optimizer that is right on ordinary gradients goes wrong.

Every edge is a row of a table: a stream, hyperparameters, the machines that it is run on, the mistake that it is there
for, and the rules that decide it. All share one layout, with tensors of ranks 0 to 4, one of a single coordinate and
one of none. Each has a twin that starts at zero weights, unless it is about weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graftsim_conformance.edge_machines import (
    ALL,
    CHOSEN,
    COUNTED,
    DECAYED,
    DECAYING,
    DIVIDED,
    GRAFTS,
    KEPT,
    NESTED,
    OF_KERAS,
    PAIRS,
    SINGLES,
)
from graftsim_conformance.edge_streams import LAYOUT, Stream, ordinary, put, then_zero, without

BOTH = ("float64", "float32")
VALUES: Mapping[str, Any] = {
    "lr": [0.125, 0.0625, 0.25],
    **{"momentum": 0.75, "dampening": 0.25, "beta1": 0.75, "beta2": 0.9375, "rho": 0.9375, "eps": 2.0**-10},
    **{"weight_decay": 0.5, "lr_decay": 0.125, "initial_accumulator": 0.0, "scale": 1.0, "graft.eps": 0.0},
    **{"ratio_eps": 0.0, "ceiling": 10.0, "trust": 0.125, "rate": 0.25, "factor": 0.5},
}
"""Hyperparameters where an edge does not say otherwise; a decay is seen, since lr * weight_decay >= 2^-8."""


@dataclass(frozen=True)
class Edge:
    """A row of the table. ``taken`` steps came before; the state is then what a short run leaves behind."""

    name: str
    about: str
    rules: tuple[str, ...]
    machines: tuple[str, ...]
    stream: Stream
    values: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float64",)
    zero: tuple[str, ...] | None = ()
    """Tensors whose weights start at zero; None where there is no twin, because the case is about weights."""
    taken: int = 0


def _rule(*names: str) -> tuple[str, ...]:
    return tuple(f"GS-{name}" for name in names)


ZERO = _rule("graft-zero-direction", "graft-zero-magnitude", "graft-zero-is-exact", "arithmetic-quotient")
FAULT = _rule("arithmetic-non-finite", "arithmetic-nan-bits", "sum-non-finite")
MISSING = _rule(
    "missing-gradient",
    "missing-state",
    "missing-counter",
    "sum-missing",
    "graft-missing-gradient",
    "trajectory-gradients",
)
RANGE = _rule("graft-range", "sum-range", "graft-zero-is-exact", "graft-direction-scale")
SCHEDULE = _rule(
    "language-schedule",
    "schedule-clock",
    "schedule-value",
    "schedule-call",
    "schedule-expansion",
    "language-two-clocks",
    "graft-learning-rate",
)
STARTED = _rule(
    "language-two-clocks", "language-counter", "scalar-one-minus-power", "trajectory-resume", "trajectory-steps"
)

EDGES: tuple[Edge, ...] = (
    # -- zeros
    Edge(
        "zero_all",
        "0/0 where nothing moves: every gradient is zero",
        ZERO + _rule("sum-zero"),
        ALL,
        put(ordinary(), 0.0),
    ),
    Edge(
        "zero_tensor",
        "a zero test on the whole model, or on the last tensor: one tensor never has a gradient but zero",
        ZERO + _rule("erratum-zero-step-per-group"),
        ALL,
        put(ordinary(), 0.0, ("k",)),
    ),
    Edge(
        "zero_coordinate",
        "0/0 in one coordinate that never has a gradient",
        ZERO,
        ALL,
        put(ordinary(), 0.0, ("c", "b"), first=True),
        dtypes=BOTH,
    ),
    Edge(
        "zero_first",
        "state that starts at zero is divided by: the first gradient is zero everywhere",
        ZERO,
        ALL,
        put(ordinary(), 0.0, steps=(0,)),
    ),
    Edge(
        "zero_after",
        "a zero step of D beside one of M that is not, and the reverse: after step 1 only memory moves",
        ZERO + _rule("graft-not-commutative"),
        (*SINGLES, "pair-momentum-sgd", "pair-sgd-momentum", "pair-lion-sgd", "pair-adam-sgd"),
        then_zero(),
    ),
    Edge(
        "zero_layer",
        "a weight norm of zero: one layer starts at zero",
        _rule("arithmetic-where", "norm"),
        ("lamb", "lars-combined", "pair-lamb-sgd", "pair-sgd-lamb", *DECAYING),
        ordinary(),
        zero=("k", "s"),
    ),
    # -- range
    Edge(
        "tiny_direction",
        "a small step of D taken for zero, or squares that underflow: D's lr is tiny",
        RANGE,
        ("pair-adam-sgd", "pair-sgd-momentum", "pair-lion-sgd"),
        ordinary(),
        {"direction.lr": 2.0**-600},
    ),
    Edge(
        "tiny_direction32",
        "a small step of D taken for zero, or squares that underflow: D's lr is tiny",
        RANGE,
        ("pair-adam-sgd", "pair-sgd-momentum", "pair-lion-sgd"),
        ordinary(),
        {"direction.lr": 2.0**-90},
        ("float32",),
    ),
    Edge(
        "huge_direction",
        "squares of D's step that overflow: D's lr is huge",
        RANGE,
        ("pair-adam-sgd", "pair-sgd-momentum", "pair-lion-sgd"),
        ordinary(),
        {"direction.lr": 2.0**600},
    ),
    Edge(
        "huge_direction32",
        "squares of D's step that overflow: D's lr is huge",
        RANGE,
        ("pair-adam-sgd", "pair-sgd-momentum", "pair-lion-sgd"),
        ordinary(),
        {"direction.lr": 2.0**90},
        ("float32",),
    ),
    Edge(
        "wide_ratio32",
        "a ratio that float32 cannot hold between two steps that it can",
        RANGE + _rule("arithmetic-group-times-coordinate"),
        ("pair-sgd-momentum", "pair-lion-sgd"),
        ordinary(),
        {"magnitude.lr": 2.0**70, "direction.lr": 2.0**-70},
        ("float32",),
    ),
    Edge(
        "huge_gradient",
        "norms that overflow when squared: gradients of 2^600",
        RANGE,
        ("sgd", "momentum-copy", "lion", "pair-sgd-momentum", "pair-momentum-lion"),
        ordinary(exponent=600),
    ),
    Edge(
        "huge_gradient32",
        "norms that overflow when squared: gradients of 2^80",
        RANGE,
        ("sgd", "momentum-copy", "lion", "pair-sgd-momentum", "pair-momentum-lion"),
        ordinary(exponent=80),
        {},
        ("float32",),
    ),
    Edge(
        "subnormal",
        "subnormal numbers flushed to zero: gradients of 2^-1060",
        RANGE + _rule("arithmetic-coordinate"),
        ("sgd", "momentum-copy", "lion", "pair-sgd-momentum", "pair-lion-sgd"),
        ordinary(exponent=-1056),
    ),
    Edge(
        "subnormal32",
        "subnormal numbers flushed to zero: gradients of 2^-140",
        RANGE + _rule("arithmetic-coordinate"),
        ("sgd", "momentum-copy", "lion", "pair-sgd-momentum", "pair-lion-sgd"),
        ordinary(exponent=-132),
        {},
        ("float32",),
    ),
    Edge(
        "direction_rate",
        "D's learning rate seen in the step, or M's lost: the two differ by 2^40",
        _rule("graft-learning-rate", "graft-direction-scale", "graft-not-commutative"),
        ("pair-adam-sgd", "pair-sgd-adam", "pair-momentum-adagrad"),
        ordinary(),
        {"magnitude.lr": 2.0**-7, "direction.lr": 2.0**33},
        BOTH,
    ),
    # -- eps
    Edge(
        "eps_none",
        "an eps that is added though it is 0",
        _rule("graft-epsilon", "arithmetic-quotient"),
        (*GRAFTS, "adam-corrected", "adagrad-outside"),
        ordinary(),
        {"eps": 0.0},
    ),
    Edge(
        "eps_none_zero",
        "0/0 inside a child whose eps is 0: some coordinates never have a gradient",
        ZERO + _rule("graft-epsilon"),
        GRAFTS,
        put(ordinary(), 0.0, ("c", "b"), first=True),
        {"eps": 0.0},
    ),
    Edge(
        "eps_small",
        "an eps of 1e-8 in another place",
        _rule("graft-epsilon"),
        ALL,
        ordinary(exponent=-20, spread=8),
        {"eps": 1e-8, "graft.eps": 1e-8},
    ),
    Edge(
        "eps_large", "an eps of 0.01 in another place", _rule("graft-epsilon"), GRAFTS, ordinary(), {"graft.eps": 0.01}
    ),
    Edge(
        "eps_9475",
        "an eps of 9475, which outweighs every norm",
        _rule("graft-epsilon"),
        ALL,
        ordinary(),
        {"eps": 9475.0, "graft.eps": 9475.0},
    ),
    Edge(
        "eps_zero_direction",
        "eps as a guard of a zero direction: M moves, D does not",
        ZERO + _rule("graft-epsilon"),
        ("pair-momentum-sgd", "pair-adam-sgd"),
        then_zero(),
        {"graft.eps": 0.25},
    ),
    # -- not finite
    Edge(
        "nan",
        "a NaN that is masked, or reaches another group: one coordinate of one tensor",
        FAULT + _rule("graft-nan"),
        (*ALL, "faults-global"),
        put(ordinary(), np.nan, ("k",), (1,), first=True),
    ),
    Edge(
        "infinity",
        "an infinity that is clipped or reaches another group",
        FAULT + _rule("graft-infinite-both"),
        ("sgd", "momentum-copy", "adam-corrected", "pair-momentum-sgd", "pair-sgd-momentum", "faults-global"),
        put(ordinary(), -np.inf, ("b",), (1,), first=True),
        dtypes=BOTH,
    ),
    Edge(
        "infinite_direction",
        "D's step overflows and M's is finite",
        FAULT + _rule("graft-infinite-direction"),
        ("pair-lion-sgd",),
        put(ordinary(), 2.0**500, ("k",), (1,)),
        {"direction.lr": 2.0**600},
    ),
    Edge(
        "infinite_magnitude",
        "M's step overflows and D's is finite",
        FAULT + _rule("graft-infinite-magnitude"),
        ("pair-sgd-lion",),
        put(ordinary(), 2.0**500, ("k",), (1,)),
        {"magnitude.lr": 2.0**600},
    ),
    Edge(
        "nan_zero_direction",
        "NaN times a ratio of 0: M's step is NaN where D's is zero",
        FAULT + ZERO,
        ("faults-momentum-sgd",),
        put(put(then_zero(), 0.0, ("k",), (1,)), np.nan, ("k",), (0,), first=True),
    ),
    # -- missing gradients
    Edge(
        "missing",
        "a missing gradient taken for a zero: state decays, counters and norms move",
        MISSING,
        (*ALL, *KEPT, *COUNTED),
        without(ordinary(steps=4), {1: ("k", "s"), 2: ("k", "b", "none")}),
    ),
    Edge(
        "missing_first",
        "state made at the first step instead of before it: a tensor has its first gradient late",
        MISSING + _rule("missing-group"),
        (*SINGLES, *GRAFTS, *KEPT, *COUNTED),
        without(ordinary(), {0: ("c", "one"), 1: ("c",)}),
    ),
    Edge(
        "missing_always",
        "a frozen tensor in a norm",
        MISSING + _rule("partition-frozen"),
        ("missing-graft-global", "pair-momentum-adagrad"),
        without(ordinary(), {0: ("k",), 1: ("k",), 2: ("k",)}),
    ),
    Edge(
        "missing_all",
        "a step without any gradient, which moves nothing and still counts",
        MISSING,
        ("adam-corrected", "pair-adam-sgd"),
        without(ordinary(), {1: LAYOUT.names}),
    ),
    # -- composition
    Edge(
        "grafted",
        "M and D swapped, one of them ignored, a norm of another kind, the ratio inverted",
        _rule(
            "graft-definition",
            "graft-ratio-first",
            "graft-recorded-ratio",
            "graft-not-commutative",
            "graft-none",
            "notation-graft",
        ),
        tuple(PAIRS),
        ordinary(),
    ),
    Edge(
        "grafted",
        "M and D swapped, one of them ignored, in float32",
        _rule("graft-dtypes", "graft-dtype"),
        ("pair-adam-sgd", "pair-sgd-adam", "pair-lamb-lion", "pair-rmsprop-adagrad", "pair-momentum-momentum"),
        ordinary(),
        {},
        ("float32",),
    ),
    Edge(
        "self",
        "A#A that is not A",
        _rule("graft-self", "graft-same-direction"),
        tuple(f"pair-{name}-{name}" for name in CHOSEN),
        ordinary(seed=23, spread=6),
        dtypes=BOTH,
        zero=None,
    ),
    Edge(
        "divided",
        "norms over other groups than those of the partition",
        _rule("partition", "graft-partition", "partition-empty", "partition-scalar", "graft-empty", "sum-empty"),
        tuple(DIVIDED),
        ordinary(),
    ),
    Edge(
        "coordinate",
        "opposite signs of M and D",
        _rule("graft-coordinate"),
        ("partition-coordinate-momentum-adagrad",),
        ordinary(seed=29, steps=4),
    ),
    Edge(
        "nested",
        "an inner graft whose norm is not its child's",
        _rule("graft-nesting", "language-flatten", "notation-graft"),
        tuple(NESTED),
        ordinary(),
    ),
    Edge(
        "decayed",
        "decay in another place, twice, without the rate, or inside the norm where it stands outside",
        _rule("graft-decay", "graft-position", "graft-point-full-step", "graft-point-preconditioned"),
        tuple(DECAYED),
        ordinary(),
    ),
    Edge(
        "scaled_down",
        "the overall scale forgotten, applied twice, or read once",
        _rule("graft-scale"),
        GRAFTS,
        ordinary(),
        {"scale": [0.5, 0.0, 2.0], "graft.eps": 0.25},
        zero=None,
    ),
    # -- the optimizers of another framework
    Edge(
        "placed",
        "eps after Adam's bias correction, or outside of a root, where Keras and TensorFlow have it before and inside",
        _rule("language-option", "graft-definition"),
        (*OF_KERAS, *COUNTED),
        ordinary(),
        {"eps": 0.0625},
    ),
    Edge(
        "placed",
        "eps after Adam's bias correction, where Keras and TensorFlow have it before, in float32",
        _rule("language-option", "graft-dtypes"),
        ("keras-adam-momentum", "keras-momentum-adam"),
        ordinary(),
        {"eps": 0.0625},
        ("float32",),
    ),
    # -- schedules
    Edge(
        "warm_up_from_zero",
        "M's first step is zero because its rate is",
        SCHEDULE + ZERO + _rule("erratum-polynomial-power"),
        GRAFTS,
        ordinary(steps=4),
        {"magnitude.lr": "0.5 * polynomial_warmup(steps=3, power=2, first=0)", "direction.lr": 0.25},
    ),
    Edge(
        "warm_up_of_direction",
        "D's first step is zero because its rate is",
        SCHEDULE + ZERO,
        GRAFTS,
        ordinary(steps=4),
        {"magnitude.lr": 0.25, "direction.lr": "0.5 * linear_warmup(steps=3, first=0)"},
    ),
    Edge(
        "scheduled",
        "a rate that is read once, or a schedule that starts a step late",
        SCHEDULE + _rule("schedule-begin", "schedule-epoch", "scalar-cospi"),
        ("adam-corrected", "momentum-copy", "pair-adam-sgd"),
        ordinary(steps=5),
        {
            "lr": "0.5 * linear_warmup(steps=2) * cosine_annealing(epochs=4, begin=2)",
            "direction.lr": "0.25 * inverse_sqrt()",
        },
    ),
    # -- late starts
    Edge(
        "late_10000",
        "a counter that is lost, or 1 - beta^t in low precision: the run stands at step 10,000",
        STARTED,
        ("adam-corrected", "pair-adam-sgd", "pair-sgd-adam", "nadam-constant", "radam-above-hat"),
        ordinary(),
        {"beta2": 0.999, "beta1": 0.9},
        taken=10_000,
    ),
    Edge(
        "late_1000000",
        "a counter kept in too few bits: the run stands at step 1,000,000",
        STARTED,
        ("adam-corrected", "pair-adam-sgd", "rmsprop-inside-bias_correction"),
        ordinary(),
        {"beta2": 0.999999, "rho": 0.999999},
        taken=10**6,
    ),
    Edge(
        "late_16777216",
        "a counter in float32, which stops at 2^24",
        STARTED,
        ("adam-corrected", "adagrad-outside", "pair-adam-sgd"),
        ordinary(),
        {"beta2": 1 - 2.0**-24, "lr_decay": 2.0**-20},
        BOTH,
        taken=2**24 - 1,
    ),
)


def posed() -> list[tuple[Edge, str, str, bool]]:
    """Edge, machine's name, dtype, and whether it is the twin, of every case of the table."""
    return [
        (edge, machine, dtype, twin)
        for edge in EDGES
        for dtype in edge.dtypes
        for machine in edge.machines
        for twin in ((False,) if edge.zero is None or edge.zero else (False, True))
    ]


def name_of(edge: Edge, machine: str, dtype: str, twin: bool) -> str:
    """The name of a case, such as ``pair-adam-sgd.zero_all-zero-float32``."""
    return f"{machine}.{edge.name}" + "-zero" * twin + f"-{dtype}" * (dtype != "float64")
