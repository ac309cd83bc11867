"""Any machine of the spec as a Keras optimizer on TensorFlow, evaluated from the same equations as everywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

import graftsim
from graftsim import notation
from graftsim.interpreter import evaluate, initial_state
from graftsim.layouts import Layout
from graftsim.notation import Instance
from graftsim.program import Node, Program, Rank
from graftsim_tf import backends
from graftsim_tf.backends import Tensor
from graftsim_tf.composite import Composite
from graftsim_tf.partitions import names_of

SERIALIZED = keras.saving.serialize_keras_object
DESERIALIZED = keras.saving.deserialize_keras_object
COMMON = ("lr", "magnitude.lr", "inner.lr")


def machine(expression: str, **hyperparameters: Any) -> Machine:
    """A machine of the spec, such as ``machine("lamb", lr=1e-3)`` or ``machine("adam(lr=1e-3)#sgd")``.

    Coordinates are computed in the dtype of the variables, scalars, group values and norms in float64.

    Args:
        expression: a machine's name, or an expression in the notation of ``spec/language.md``.
        hyperparameters: by name, or by path as in ``**{"magnitude.lr": 0.1}``: a number, or a ``LearningRateSchedule``,
            a function of the number of steps done whose values are not checked. Options and the spec's own schedules
            are text inside the expression.

    Raises:
        ValueError: an unknown machine or hyperparameter, a number outside its domain; another backend than tensorflow.
    """
    return Machine(expression, hyperparameters)


@keras.saving.register_keras_serializable(package="graftsim")
class Machine(Composite):
    """What :func:`machine` returns.

    ``learning_rate`` is the machine's ``lr``, else that of its magnitude or inner machine, and may be set; ``info`` has
    recorded values of the last step by path, one for each group, whose names are ``group_names(path)``.
    """

    def __init__(
        self, expression: str, hyperparameters: Mapping[str, Any], *, name: str = "machine", **options: Any
    ) -> None:
        if backends.NAME != "tensorflow":
            raise ValueError(
                f"machine() needs Keras's tensorflow backend; it is {backends.NAME}: graftsim_jax and graftsim_torch "
                "have machine() for theirs"
            )
        if options.get("weight_decay") is not None:
            raise ValueError("a machine's weight decay is part of its expression, as in decay_decoupled(adam)")
        instance = notation.parse(expression)
        scheduled = {path: value for path, value in hyperparameters.items() if isinstance(value, LearningRateSchedule)}
        for path, value in hyperparameters.items():
            instance = notation.with_number(instance, path, None if path in scheduled else float(value))
        super().__init__(name=name, **options)
        self.expression, self._given = expression, dict(hyperparameters)
        self._evaluated = _Evaluated(instance, scheduled)
        self._slots: list[Any] = []
        self._infos: list[Any] = []
        self._rate: Any = None

    def optimizers(self) -> list[Any]:
        return []

    def prepare(self, variables: Sequence[Any]) -> None:
        made = self._evaluated.build(variables)
        program, arithmetic = made.program, made.arithmetic
        told = {path: float(backends.numpy(schedule(0))) for path, schedule in made.scheduled.items()}
        first = initial_state(program, arithmetic, told)
        for path, slot in program.slots.items():
            dtype = program.dtype.name if slot.kind.rank >= Rank.COORDINATE else "float64"
            variable = self.add_variable((slot.kind.count(program.layout),), dtype=dtype, name=path.replace(".", "_"))
            self.assign(variable, ops.broadcast_to(first[path], variable.shape))
            self._slots.append(variable)
        for path, name in program.info.items():
            count = program.kinds[name].count(program.layout)
            self._infos.append(self.add_variable((count,), dtype="float64", name=f"info_{path.replace('.', '_')}"))
        if made.rate is not None:
            self._rate = self.add_variable((), dtype="float64", name="learning_rate")
            self.assign(self._rate, backends.number(made.program.parameters[made.rate].node.data))

    @backends.as_written
    def propose(self, gradients: Sequence[Tensor], weights: Sequence[Any], count: Tensor) -> list[Tensor]:
        made = self._evaluated
        program, arithmetic = made.program, made.arithmetic
        if len(weights) != len(program.layout.tensors):
            raise ValueError(f"a machine needs a gradient for each of its variables; {len(weights)} have one")
        values: dict[str, Any] = {"step": ops.reshape(ops.cast(count, "float64") + 1, (1,))}
        for path, parameter in program.parameters.items():
            told = made.scheduled.get(path)
            value = evaluate(parameter.node, values, arithmetic) if told is None else backends.wide(told(count))
            values[path] = value if told is None else ops.reshape(value, (1,))
        if made.rate is not None:
            values[made.rate] = ops.reshape(ops.convert_to_tensor(self._rate), (1,))
        values |= {"w": made.flat(weights), "g": made.flat(gradients)}
        for slot, variable in zip(program.slots.values(), self._slots, strict=True):
            values[slot.old] = ops.convert_to_tensor(variable)
        present = np.ones(program.layout.size, bool)
        for statements, reductions in program.by_level:
            for statement in statements:
                values[statement.target] = evaluate(statement.node, values, arithmetic)
            asked = [(r, [evaluate(operand, values, arithmetic) for operand in r.operands]) for r in reductions]
            found = arithmetic.reduce(asked, present)
            values |= {r.target: value for r, value in zip(reductions, found, strict=True)}
        for slot, variable in zip(program.slots.values(), self._slots, strict=True):
            self.assign(variable, ops.broadcast_to(values[slot.new], variable.shape))
        for name, variable in zip(program.info.values(), self._infos, strict=True):
            self.assign(variable, ops.broadcast_to(values[name], variable.shape))
        return made.split(values[program.delta])

    @property
    def learning_rate(self) -> Any:
        """The machine's ``lr``, else that of its magnitude or inner machine; 0 where there is none."""
        return self._rate if self._rate is not None else 0.0

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if self._rate is None:
            raise ValueError("the learning rate can be set once the machine is built, and where it is a number")
        self._rate.assign(ops.cast(value, "float64"))

    @property
    def info(self) -> dict[str, Any]:
        """Recorded values of the last step, float64, by path."""
        program = self._evaluated.program
        return {path: backends.numpy(v) for path, v in zip(program.info, self._infos, strict=True)}

    def group_names(self, path: str) -> tuple[str, ...]:
        """The names of the groups of an info path."""
        program = self._evaluated.program
        return program.kinds[program.info[path]].partition.names

    def get_config(self) -> dict[str, Any]:
        given = {path: SERIALIZED(value) for path, value in self._given.items()}
        return {**super().get_config(), "expression": self.expression, "hyperparameters": given}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Machine:
        given = config["hyperparameters"]
        made = {path: DESERIALIZED(value, custom_objects=custom_objects) for path, value in given.items()}
        return cls(**{**config, "hyperparameters": made})


class _Evaluated:
    """An instance of a machine with its schedules, and its program once there are variables."""

    def __init__(self, instance: Instance, scheduled: Mapping[str, LearningRateSchedule]) -> None:
        self.instance, self.scheduled = instance, scheduled
        self.program: Program
        self.arithmetic: Any
        self.rate: str | None = None

    def build(self, variables: Sequence[Any]) -> _Evaluated:
        from graftsim_tf.arithmetic import Arithmetic

        dtypes = {keras.backend.standardize_dtype(variable.dtype) for variable in variables}
        if len(dtypes) != 1:
            raise ValueError(f"the variables of a machine must have one dtype; received {', '.join(sorted(dtypes))}")
        shapes = [tuple(variable.shape) for variable in variables]
        layout = Layout.of(dict(zip(names_of(variables), shapes, strict=True)))
        self.program = graftsim.build(self.instance, layout, dtypes.pop())
        self.arithmetic = Arithmetic(self.program)
        found = [path for path in COMMON if path in self.program.parameters]
        nodes = {path: self.program.parameters[path].node for path in found if path not in self.scheduled}
        self.rate = next((path for path, node in nodes.items() if _plain(node)), None)
        return self

    def flat(self, parts: Sequence[Any]) -> Tensor:
        dtype = self.program.dtype.name
        flat = [ops.reshape(ops.cast(ops.convert_to_tensor(part), dtype), (-1,)) for part in parts]
        return ops.concatenate(flat)

    def split(self, flat: Tensor) -> list[Tensor]:
        layout = self.program.layout
        whole, offsets = ops.broadcast_to(flat, (layout.size,)), layout.offsets
        return [
            ops.reshape(whole[start:stop], shape)
            for start, stop, shape in zip(offsets, offsets[1:], layout.shapes, strict=False)
        ]


def _plain(node: Node) -> bool:
    return node.operator == "number"
