"""Calls of native optimizers as text: ``torch.optim.Adagrad(lr=0.1)`` parsed without running it, printed in full.

Only literals are read. Printing spells out every argument, so that no default of the framework is left to be known.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graftsim import expressions
from graftsim.errors import GraftsimError, nearest
from graftsim_conformance import candidates
from graftsim_conformance.dialects import Target, absent, targets

PARAMETERS_FIRST = ("torch", "pytorch_optimizer", "heavyball")
"""Packages whose optimizers take the weights as their first argument."""

HOW_NOT_WHAT = ("foreach", "fused", "capturable", "differentiable", "name")
"""Arguments that choose a way of computing the same numbers."""


@dataclass(frozen=True)
class Constructor:
    """A call of a native optimizer: every argument that its dialect knows, with its value."""

    target: Target
    arguments: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The native as users write it: ``torch.optim.Adam``."""
        return dotted(self.target.path)

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.name}({given})"


def dotted(path: str) -> str:
    """``torch.optim:Adam`` as users write it, ``torch.optim.Adam``."""
    return path.replace(":", ".")


def package(path: str) -> str:
    """The package of an import path: what a call is translated to, ``torch`` or ``pytorch_optimizer``."""
    return re.split("[.:]", path)[0]


def packages() -> list[str]:
    """All packages that have dialects."""
    return sorted({package(path) for path in targets()})


# -- reading -----------------------------------------------------------------------------------------------------------


def is_native(text: str) -> bool:
    """Whether a call is one of a framework's: a machine has no dot or colon before its arguments."""
    return bool(re.match(r"\s*\w+[.:]\w", text))


def parse(text: str) -> Constructor:
    """The constructor that a call denotes; a name alone is the call with all defaults.

    Raises:
        GraftsimError: not a call; an optimizer or argument that no dialect knows; an argument that is not a literal.
    """
    tree = expressions.python_ast(re.sub(r"^(\s*[\w.]+):(?=[A-Za-z_])", r"\1.", text), "an optimizer")
    call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
    if not isinstance(call.func, ast.Attribute | ast.Name):
        raise GraftsimError(f"an optimizer is written as torch.optim.Adam(lr=1e-3); received {text.strip()[:120]!r}")
    target = _target(ast.unparse(call.func))
    return complete(target, _given(target, call))


def _target(name: str) -> Target:
    """The target that a dotted name denotes; ``optim.Adam`` will do where it is the end of one name only."""
    known = {dotted(path): target for path, target in targets().items()}
    name = re.sub(r"^(tf|tensorflow)\.keras\.", "keras.", re.sub(r"^tf\.compat\.", "tensorflow.compat.", name))
    fits = [name] if name in known else [path for path in known if path.endswith(f".{name}")]
    if len(fits) == 1:
        return known[fits[0]]
    reason = absent().get(name.partition(".")[0], {}).get(name.rpartition(".")[2])
    if reason:
        raise GraftsimError(f"there is no dialect of {name}: {reason}")
    raise GraftsimError(f"there is no dialect of {name}{nearest(name, fits or known)}")


def _given(target: Target, call: ast.Call) -> dict[str, Any]:
    name = dotted(target.path)
    places: Sequence[ast.expr] = call.args
    if package(target.path) in PARAMETERS_FIRST and places:
        if isinstance(places[0], ast.Constant):
            raise GraftsimError(
                f"the first argument of {name} is the weights; received {ast.unparse(places[0])}: write it by name"
            )
        places = places[1:]
    order = _order(target) if places else []
    if len(places) > len(order):
        raise GraftsimError(f"{name} takes {len(order)} values by position; received {len(places)}")
    given: dict[str, Any] = {}
    for keyword, tree in [*zip(order, places, strict=False), *((each.arg, each.value) for each in call.keywords)]:
        if keyword is None:
            raise GraftsimError(f"{name}: '**' is not allowed")
        if keyword in given:
            raise GraftsimError(f"{name} was given its {keyword} twice")
        if keyword != "params":
            given[keyword] = _literal(tree, f"{name}, {keyword}")
    return given


def _literal(tree: ast.expr, where: str) -> Any:
    try:
        value = ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise GraftsimError(
            f"{where}: must be a number or another literal; received {ast.unparse(tree)[:60]!r} (a schedule is "
            "translated by itself: give the number that it begins with)"
        ) from None
    return tuple(value) if isinstance(value, list) else value


def _order(target: Target) -> list[str]:
    """The arguments by position: those of the native's signature where it is installed, else those of the dialect."""
    signature = _signature(target)
    if signature is None:
        return names(target)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in signature.parameters.values() if each.kind in positional and each.name != "params"]


def _signature(target: Target) -> inspect.Signature | None:
    try:
        return inspect.signature(candidates.load(target.path))
    except (GraftsimError, ValueError, TypeError):
        return None


def names(target: Target) -> list[str]:
    """The arguments that a dialect knows: those without a default first, as in every signature."""
    mapped = dict.fromkeys(name for row in target.rows for name in row.arguments)
    required = [name for name in mapped if name not in target.defaults]
    return [*required, *target.defaults]


def complete(target: Target, given: Mapping[str, Any]) -> Constructor:
    """The constructor with the target's defaults for what is not given."""
    known = names(target)
    for name in [name for name in given if name not in known]:
        _refuse_unless_idle(target, name, given[name])
    missing = [name for name in known if name not in target.defaults and name not in given]
    if missing:
        raise GraftsimError(f"{dotted(target.path)} needs its {missing[0]}, which has no default")
    defaults = {name: as_tuple(value) for name, value in target.defaults.items()}
    return Constructor(target, {name: given.get(name, defaults.get(name)) for name in known})


def _refuse_unless_idle(target: Target, name: str, value: Any) -> None:
    """An argument that no row describes must be at the native's default, or say only how to compute."""
    if name in HOW_NOT_WHAT:
        return
    signature, optimizer = _signature(target), dotted(target.path)
    if signature is None or name not in signature.parameters:
        raise GraftsimError(f"{optimizer} has no argument {name!r}{nearest(name, names(target))}")
    default = signature.parameters[name].default
    if value != default:
        raise GraftsimError(f"no row of the dialect of {optimizer} has {name}={value!r}; its default is {default!r}")


def as_tuple(value: Any) -> Any:
    """A list of a dialect file as frameworks want it, a tuple."""
    return tuple(value) if isinstance(value, list) else value
