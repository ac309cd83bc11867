"""Programs in any language as candidates, over the line protocol of ``spec/protocol.md``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graftsim import notation
from graftsim.layouts import Array, Layout
from graftsim.program import Kind
from graftsim_conformance import claim, wire
from graftsim_conformance.channel import LINE_BYTES, Channel, Limits
from graftsim_conformance.hexfloat import to_hex
from graftsim_conformance.verdicts import CandidateError, Verdict

PROTOCOL = 1
ABILITIES = ("restore", "missing", "stateless")
DTYPES = ("float64", "float32")

Gradients = Array | Sequence[Any]
"""Flat, or one array a tensor with None where it is missing."""


class ExecutableCandidate:
    """A program that claims to be a machine.

    One process serves many runs; after a failure the next run gets a new one. Every failure is a
    :class:`~graftsim_conformance.verdicts.CandidateError`. Close it after use, or use it in a ``with`` statement.

    Args:
        command: program and arguments; no shell reads them.
        machine: the machine that it is judged as; hyperparameters come with each run, but tables of one value a group
            or coordinate are those of the expression.
        limits: time and sizes.
    """

    def __init__(self, command: Sequence[str], machine: str, limits: Limits | None = None) -> None:
        self._command, self._machine = list(command), notation.parse(machine)
        self._limits = limits or Limits()
        self._text = claim.text(self._machine)
        self._channel: Channel | None = None
        self._spent = 0.0
        self._described: Mapping[str, Any] = {}

    # -- what a candidate does -----------------------------------------------------------------------------------------

    def start(self, layout: Layout, weights: Array, arguments: Mapping[str, Any]) -> None:
        dtype = str(weights.dtype)
        if reason := self.supports(dtype):
            raise CandidateError(Verdict.NOT_SUPPORTED, reason)
        self._program = claim.program_of(self._machine, layout, dtype, arguments)
        self._weights, self._step = weights.copy(), 0
        self._state: dict[str, Array] = {}
        self._info: dict[str, Array] = {}
        self._shown: dict[str, Any] = {}
        self._tables = {path: self._encoded(kind, x) for path, (kind, x) in claim.tables(self._program).items()}
        self._posed = self._pose(layout, dtype, arguments)
        self._ready({"message": "start", **self._posed, "weights": wire.lists(layout.unflatten(weights))})

    def step(self, gradients: Gradients, arguments: Mapping[str, Any]) -> Array:
        layout = self._program.layout
        parts = layout.unflatten(gradients) if isinstance(gradients, np.ndarray) else list(gradients)
        if any(part is None for part in parts) and "missing" not in self.abilities:
            raise CandidateError(Verdict.NOT_SUPPORTED, "it does not declare missing gradients")
        self._step += 1
        carried = {**self._posed, "weights": wire.lists(layout.unflatten(self._weights)), "state": self._shown}
        request = {
            "message": "step",
            **(carried if "stateless" in self.abilities else {}),
            "step": self._step,
            "hyperparameters": self._numbers(arguments),
            "gradients": [None if part is None else wire.texts(part) for part in parts],
        }
        self._take(self._ask(request, "stepped", ["weights"], ["state", "info"]))
        return self._weights.copy()

    def read_state(self, names: Mapping[str, str]) -> dict[str, Array]:
        return {slot: self._state[name].copy() for slot, name in names.items() if name in self._state}

    # -- what a candidate may be able to do ----------------------------------------------------------------------------

    def write_state(self, weights: Array, state: Mapping[str, Array], step: int) -> None:
        """Stand as after a step, within a run that :meth:`start` began (GS-protocol-restore)."""
        if not {"restore", "stateless"} & set(self.abilities):
            raise CandidateError(Verdict.NOT_SUPPORTED, "it does not declare that its state can be set")
        layout, slots = self._program.layout, self._program.slots
        self._weights, self._step = weights.copy(), step
        self._state = {path: np.array(state[path]) for path in slots if path in state}
        self._shown = {path: self._encoded(slots[path].kind, value) for path, value in self._state.items()}
        if "stateless" not in self.abilities:
            whole = {"step": step, "weights": wire.lists(layout.unflatten(weights)), "state": self._shown}
            self._ready({"message": "restore", **whole})

    def info(self) -> dict[str, Array]:
        """What the last step showed, by path: flat for coordinates, else one number a group."""
        return {path: value.copy() for path, value in self._info.items()}

    def supports(self, dtype: str) -> str:
        """Why a dtype is not supported; empty if it is."""
        return "" if dtype in self.dtypes else f"it declares {', '.join(self.dtypes)}, and not {dtype}"

    @property
    def name(self) -> str:
        return str(self._describe()["name"])

    @property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(self._describe()["dtypes"])

    @property
    def abilities(self) -> tuple[str, ...]:
        return tuple(self._describe()["abilities"])

    def close(self) -> None:
        """Say ``bye`` and end the process."""
        if self._channel is not None and self._channel.alive:
            self._channel.say(wire.line({"message": "bye"}))
            self._channel.end(self._limits.end_seconds)

    def __enter__(self) -> ExecutableCandidate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- messages ------------------------------------------------------------------------------------------------------

    def _open(self) -> Channel:
        """The running process, a new one if the last has gone; it has been greeted."""
        if self._channel is None or not self._channel.alive:
            self._channel = Channel(self._command, self._limits)
            request = {"message": "hello", "protocol": PROTOCOL}
            reply = self._ask(request, "describe", ["protocol", "name", "dtypes", "abilities"], [])
            problem = _misdescribed(reply)
            if problem:
                raise self._channel.failed(Verdict.CRASHED, problem)
            self._described = reply
        return self._channel

    def _describe(self) -> Mapping[str, Any]:
        if not self._described:
            self._open()
        return self._described

    def _pose(self, layout: Layout, dtype: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        found = claim.partitions(self._program)
        return {
            "machine": self._text,
            "dtype": dtype,
            "names": list(layout.names),
            "shapes": [list(shape) for shape in layout.shapes],
            "groups": {key: {"count": one.count, "of": one.group_of.tolist()} for key, one in found.items()},
            "hyperparameters": self._numbers(arguments),
        }

    def _numbers(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {**{path: to_hex(value) for path, value in arguments.items()}, **self._tables}

    def _encoded(self, kind: Kind, value: Array) -> list[Any]:
        if not claim.by_tensor(kind):
            return wire.texts(value)
        return wire.lists(claim.split(value, claim.shapes(kind, self._program.layout)))

    def _ready(self, request: Mapping[str, Any]) -> None:
        """Send ``start`` or ``restore``; what it then shows of its state takes the place of what was known."""
        reply = self._ask(request, "ready", [], ["state"])
        if "state" in reply:
            self._take(reply)

    def _ask(
        self, request: Mapping[str, Any], message: str, needed: Sequence[str], optional: Sequence[str]
    ) -> dict[str, Any]:
        """The reply to a request, which must be this message with these keys."""
        line = wire.line(request)
        if len(line) > LINE_BYTES:
            reason = f"a request has at most {LINE_BYTES} bytes (GS-protocol-lines); this case needs {len(line)}"
            raise CandidateError(Verdict.NOT_SUPPORTED, reason)
        greeting = request["message"] == "hello"
        channel = self._channel if greeting and self._channel else self._open()
        left = self._limits.total_seconds - self._spent
        if left <= 0:
            allowed = self._limits.total_seconds
            raise channel.failed(Verdict.TIMED_OUT, f"all its replies together took more than {allowed:.3g} s")
        began = time.monotonic()
        try:
            answer = channel.ask(line, min(left, self._limits.reply_seconds))
        finally:
            self._spent += time.monotonic() - began
        try:
            reply = wire.parse(answer)
            _same_keys(reply, message, needed, optional)
        except CandidateError as error:
            raise channel.failed(error.verdict, error.reason) from None
        if reply["message"] == "unsupported":
            raise CandidateError(Verdict.NOT_SUPPORTED, _words(reply["reason"]))
        if reply["message"] == "error":
            raise channel.failed(Verdict.CRASHED, f"it reports an error: {_words(reply['reason'])}")
        return reply

    def _take(self, reply: Mapping[str, Any]) -> None:
        """Read the values of a reply, all of them before any is kept."""
        layout, dtype = self._program.layout, self._weights.dtype
        try:
            shown, looked = _object(reply, "state"), _object(reply, "info")
            weights = self._weights
            if "weights" in reply:
                weights = wire.read_by_tensor(reply["weights"], layout.names, layout.shapes, dtype, "weights")
            self._state = {path: self._slot(path, value) for path, value in shown.items()}
            self._info = {path: wire.read_loose(value, dtype, f"info {path:.60}") for path, value in looked.items()}
            self._shown = {path: wire.again(value) for path, value in shown.items()}
        except CandidateError as error:
            raise self._open().failed(error.verdict, error.reason) from None
        self._weights = weights

    def _slot(self, path: str, value: Any) -> Array:
        layout, place = self._program.layout, f"state {path:.60}"
        if path not in self._program.slots:
            return wire.read_loose(value, self._weights.dtype, place)
        kind = self._program.slots[path].kind
        if claim.by_tensor(kind):
            return wire.read_by_tensor(value, layout.names, claim.shapes(kind, layout), self._weights.dtype, place)
        return wire.read_by_group(value, kind.partition.count, place)


def _misdescribed(reply: Mapping[str, Any]) -> str:
    if reply["protocol"] != PROTOCOL or not isinstance(reply["name"], str):
        return f"describe must have protocol {PROTOCOL} and a name; received {reply!r:.100}"
    for key, known in (("dtypes", DTYPES), ("abilities", ABILITIES)):
        if not isinstance(reply[key], list) or not all(word in known for word in reply[key]):
            return f"{key} must be a list out of {', '.join(known)}; received {reply[key]!r:.100}"
    return ""


def _same_keys(reply: Mapping[str, Any], message: str, needed: Sequence[str], optional: Sequence[str]) -> None:
    """Whether a reply is the message that is due, or one of the two that always may come."""
    if reply.get("message") in ("unsupported", "error"):
        message, needed, optional = reply["message"], ["reason"], []
    if reply.get("message") != message:
        raise CandidateError(
            Verdict.CRASHED, f"the reply must be {message!r}; received the message {reply.get('message')!r:.60}"
        )
    odd = (set(reply) - {"message", *needed, *optional}) | (set(needed) - set(reply))
    if odd:
        has = ", ".join(["message", *needed, *optional])
        raise CandidateError(Verdict.CRASHED, f"{message} must have the keys {has}; {min(odd)[:60]!r} differs")


def _object(reply: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = reply.get(key, {})
    if not isinstance(found, dict):
        raise CandidateError(Verdict.CRASHED, f"{key} must be an object; received {found!r:.60}")
    return found


def _words(reason: object) -> str:
    return " ".join(str(reason).split())[:300] or "it gives no reason"
