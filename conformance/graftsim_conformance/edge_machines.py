"""The machines of the edges, by name: every ordered pair as a graft, partitions, nesting, decay, missing gradients."""

from __future__ import annotations

from collections.abc import Mapping

from graftsim_conformance.probes import NATIVE, REFERENCE

CHOSEN: Mapping[str, str] = {
    "sgd": "sgd",
    "momentum": NATIVE["momentum-copy"],
    "adam": NATIVE["adam-corrected"],
    "adagrad": NATIVE["adagrad-outside"],
    "lamb": NATIVE["lamb"],
    "rmsprop": NATIVE["rmsprop-outside"],
    "lion": "lion",
}
"""The machines of which every ordered pair is grafted."""

PAIRS: Mapping[str, str] = {
    f"pair-{m}-{d}": f"graft({first}, {second}, partition=tensor)"
    for m, first in CHOSEN.items()
    for d, second in CHOSEN.items()
}

PARTITIONS: Mapping[str, str] = {
    "global": "global",
    "coordinate": "coordinate",
    "row": "row",
    "last_axis": "axis(-1)",
    "block": "block(2)",
    "pattern": "pattern(pooled=['c', 'o*', 'none'], scalar='s', rest=None)",
    "sets": "sets(first={'c': [0, 3], 'b': [1]}, second={'k': [1]}, rest=None)",
}
DIVIDED: Mapping[str, str] = {
    f"partition-{name}-{m}-{d}": f"graft({CHOSEN[m]}, {CHOSEN[d]}, partition={text})"
    for name, text in PARTITIONS.items()
    for m, d in (("momentum", "adagrad"), ("lamb", "sgd"))
}

NESTED: Mapping[str, str] = {
    "nested-left": "(momentum#adam)#lion",
    "nested-right": "adagrad#(momentum#lion)",
    "nested-self": "(adam#sgd)#(adam#sgd)",
    "nested-partitions": "graft(graft(momentum, adagrad, partition=global), graft(lion, sgd, partition=row))",
}

DECAYED: Mapping[str, str] = {
    "decay-in_gradient-magnitude": "decay_in_gradient(adam)#momentum",
    "decay-in_gradient-direction": "momentum#decay_in_gradient(adam)",
    "decay-decoupled-magnitude": "decay_decoupled(adam)#momentum",
    "decay-decoupled-direction": "momentum#decay_decoupled(adam)",
    "decay-both": "decay_decoupled(sgd)#decay_in_gradient(lion)",
    "decay-outside": "decay_outside(adam#momentum)",
    "decay-second_point": "decay_outside(scaled(momentum_after(rmsprop#adagrad, nesterov=on)))",
    "decay-black_box": "in_place(decay_decoupled(adam))#in_place(momentum)",
}

TABLES: Mapping[str, str] = {
    "table-groups": "scaled(adam#sgd, factor={'w': 0.5, 'b': 2, 's': 0.25})",
    "table-corrected": "corrected(adam#sgd, c0={'w': 0.5, 'b': 0, 's': 0.25}, c1={'w': 0.125, 'b': 0, 's': -0.0625}, "
    "c={'w': 0, 'b': 2, 's': 0}, alpha=-0.27)",
    "table-coordinates": "rank_one(v={'w': [[0.5, -2, 1, 0.25], [-0.75, 3, 1, -1], [0.125, 2, -0.5, 1.5]], "
    "'b': [0.75, -3, 1, 0.5, 2], 's': -1})",
}
"""Hyperparameters of one value a group or coordinate; they stand over the layout of the ordinary streams."""

KEPT: Mapping[str, str] = {
    "missing-adam-advance": "adam(missing=advance)",
    "missing-graft-advance": "adam(missing=advance)#momentum(first_step=copy)",
    "missing-graft-global": "graft(momentum, adam, partition=global)",
    "missing-graft-pattern": "graft(momentum, adam, partition=pattern(pooled=['c', 'o*', 'none'], rest=None))",
    "missing-novograd-global": "novograd(partition=global)#adam",
}

ADAM_OF_KERAS = "adam(eps_placement=hat)"
MOMENTUM_OF_KERAS = "momentum(form=lr_inside)"
OF_KERAS: Mapping[str, str] = {
    "keras-adam-momentum": f"{ADAM_OF_KERAS}#{MOMENTUM_OF_KERAS}",
    "keras-momentum-adam": f"{MOMENTUM_OF_KERAS}#{ADAM_OF_KERAS}",
    "keras-rmsprop-adagrad": "rmsprop(eps_placement=inside)#adagrad(eps_placement=inside)",
    "keras-adagrad-rmsprop": "adagrad(eps_placement=inside)#rmsprop(eps_placement=inside)",
    "keras-adamax-adadelta": "adamax(eps_placement=outside)#adadelta",
    "keras-adadelta-adamax": "adadelta#adamax(eps_placement=outside)",
    **{
        f"keras-{name}-adam-momentum": f"graft({ADAM_OF_KERAS}, {MOMENTUM_OF_KERAS}, partition={PARTITIONS[name]})"
        for name in ("global", "row", "block", "coordinate")
    },
}
"""Grafts of the optimizers of Keras and TensorFlow, which place eps and the learning rate otherwise than torch."""

COUNTED: Mapping[str, str] = {
    "keras-missing-adam-sgd": "adam(eps_placement=hat, missing=advance)#sgd",
    "keras-missing-sgd-adam": "sgd#adam(eps_placement=hat, missing=advance)",
    "keras-missing-global": "graft(adam(eps_placement=hat, missing=advance), lion, partition=global)",
}
"""Where gradients lack, Adam of Keras is another machine than where they do not: one count serves all tensors."""

SPREAD: Mapping[str, str] = {
    "faults-global": "graft(momentum, sgd, partition=global)",
    "faults-sgd-lion": "sgd#lion",
    "faults-lion-sgd": "lion#sgd",
    "faults-momentum-sgd": "momentum#sgd",
}

SINGLES = ("sgd", "momentum-copy", "adagrad-outside", "rmsprop-outside", "adam-corrected", "lamb", "lion")
GRAFTS = ("pair-adam-sgd", "pair-momentum-adagrad", "pair-lamb-rmsprop")
MACHINES: Mapping[str, str] = {
    **{**NATIVE, **REFERENCE},
    **{**PAIRS, **DIVIDED, **NESTED, **DECAYED, **KEPT, **SPREAD},
    **{**OF_KERAS, **COUNTED},
}
ALL = (*SINGLES, *GRAFTS)
DECAYING = ("decay_in_gradient-adam-corrected", "decay_decoupled-adam-corrected", "decay_decoupled-lion")
