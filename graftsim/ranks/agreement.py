"""What ranks must agree on before they work together, and mistakes that all of them learn of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from graftsim.errors import GraftsimError
from graftsim.program import Node, Program
from graftsim.ranks.communicator import Communicator

Result = TypeVar("Result")
MESSAGE = 2000
"""Of a mistake's message, so many bytes are passed on."""


class AgreedError(GraftsimError):
    """A mistake that every rank raises alike, with one message: none waits for another, and one may tell the user."""


def together(communicator: Communicator, work: Callable[[], Result]) -> Result:
    """``work`` on every rank. If some ranks raise GraftsimError, all raise AgreedError, which names the first of them
    unless all have made the same mistake. ``work`` must not speak to other ranks.
    """
    found: list[Result] = []
    text = b""
    try:
        found.append(work())
    except GraftsimError as error:
        text = str(error).encode()[:MESSAGE]
    length = np.array([-1 if found else len(text)], np.int64)
    lengths = communicator.gather(length, [1] * communicator.size)
    wrong = np.flatnonzero(lengths >= 0)
    if not len(wrong):
        return found[0]
    sizes = np.maximum(lengths, 0).tolist()
    texts = communicator.gather(np.frombuffer(text, np.uint8), sizes).tobytes()
    messages = {texts[end - size : end] for size, end in zip(sizes, np.cumsum(sizes), strict=True)}
    first = texts[: sizes[wrong[0]]].decode(errors="replace")
    if len(wrong) == communicator.size and len(messages) == 1:
        raise AgreedError(first)
    raise AgreedError(f"rank {wrong[0]} of {communicator.size}: {first}")


def agree(communicator: Communicator, topics: Mapping[str, str | bytes]) -> None:
    """Compare what each rank was given, by digest. All ranks must pass the same topics.

    Raises:
        AgreedError: a rank differs from rank 0; it names the first such rank and topic.
    """
    digests = [hashlib.sha256(it if isinstance(it, bytes) else it.encode()).digest() for it in topics.values()]
    mine = np.frombuffer(b"".join(digests), np.uint8)
    rows = communicator.gather(mine, [mine.size] * communicator.size).reshape(communicator.size, len(topics), -1)
    for rank, topic in np.argwhere((rows != rows[0]).any(axis=2)).tolist():
        raise AgreedError(
            f"all ranks must be given the same {list(topics)[topic]}; rank {rank} of {communicator.size} has another "
            "than rank 0; start all with the same files, arguments and version"
        )


def text(program: Program) -> str:
    """All that a program says, so that two programs with one text compute the same."""
    lines = [str(program.instance), str(program.layout.tensors), str(program.dtype), program.delta, str(program.info)]
    lines += [f"{path} = {_written(each.node)} in {each.domain.text}" for path, each in program.parameters.items()]
    lines += [
        f"{path}: {slot.kind} {_written(slot.initial)} {slot.old} {slot.new} {slot.counter} {slot.advance_missing}"
        for path, slot in program.slots.items()
    ]
    lines += [f"{each.level} {each.target} = {_written(each.node)}" for each in program.statements]
    for each in program.reductions:
        groups = hashlib.sha256(each.partition.group_of.tobytes()).hexdigest()
        operands = ", ".join(map(_written, each.operands))
        lines.append(f"{each.level} {each.target} = {each.operator}({operands}) over {each.partition.key} {groups}")
    return "\n".join(lines)


def _written(node: Node) -> str:
    data = hashlib.sha256(node.data.tobytes()).hexdigest() if isinstance(node.data, np.ndarray) else repr(node.data)
    return f"{node.operator}[{node.kind} {data}]({', '.join(map(_written, node.arguments))})"
