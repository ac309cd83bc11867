"""Reading of files that strangers may have written: YAML and JSON, bounded, without tags or aliases.

Nothing is ever constructed but mappings, lists, strings, numbers, booleans and null.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
import re
import tempfile
from collections.abc import Callable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any

import yaml

from graftsim.errors import GraftsimError

YAML_BYTES = 1 << 18
JSON_BYTES = 1 << 26
DEPTH = 32


def cache_folder() -> Path:
    """Where graftsim keeps what it can make again: ``GRAFTSIM_CACHE``, else the user's cache folder."""
    base = os.environ.get("GRAFTSIM_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "graftsim"


def spec() -> Traversable:
    """The folder of the data-only package ``graftsim_spec``."""
    return importlib.resources.files("graftsim_spec")


def read_text(path: Path | Traversable, limit: int) -> str:
    """The UTF-8 text of a file of at most ``limit`` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise GraftsimError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > limit:
        raise GraftsimError(f"{path} must have at most {limit} bytes; it is larger")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise GraftsimError(f"{path} must be UTF-8 text; it has bytes that are not") from None


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and booleans: ``1e-3`` is a number, ``no`` is a string."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, an instance variable in the base class

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, "aliases are not allowed; write the value out", event.start_mark)
        self._depth = getattr(self, "_depth", 0) + 1
        if self._depth > DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, f"at most {DEPTH} levels of nesting are allowed", mark)
        try:
            node = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        if node is not None and str(node.tag) not in _TAGS:
            raise yaml.MarkedYAMLError(None, None, f"the tag {node.tag} is not allowed", node.start_mark)
        _refuse_hidden_graft(node)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if not isinstance(key, str):
                mark = node.value[position][0].start_mark
                raise yaml.MarkedYAMLError(None, None, f"a key must be a string, received {key!r}", mark)
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise yaml.MarkedYAMLError(None, None, f"the key {key!r} stands here a second time", mark)
        return super().construct_mapping(node, deep=True)


_TAGS = {f"tag:yaml.org,2002:{tag}" for tag in ("map", "seq", "str", "int", "float", "bool", "null")}
for _tag, _pattern, _first in [
    ("bool", r"^(?:true|false)$", "tf"),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _refuse_hidden_graft(node: Any) -> None:
    """``adam # sgd`` without quotes is ``adam`` and a comment: refuse it rather than run something else."""
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return
    mark = node.end_mark
    rest = mark.buffer[mark.pointer :].split("\n", 1)[0] if mark.buffer else ""
    if re.match(r"[ \t]+#", rest) and re.fullmatch(r".*#.*|\(*[A-Za-z_]\w*(\(.*|\)*)", str(node.value)):
        raise yaml.MarkedYAMLError(
            None,
            None,
            f"YAML reads what follows {node.value!r} as a comment; quote a graft ('a # b'), "
            "and put a comment on a line of its own",
            mark,
        )


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML document. ``where`` names the file in an error."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}, line {mark.line + 1}" if mark else where
        raise GraftsimError(f"{place}: {_one_line(error.problem or 'not YAML')}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise GraftsimError(f"{where}: must be YAML: {_one_line(error)}") from None
    finally:
        loader.dispose()


def read_yaml(path: Path | Traversable) -> Any:
    """The value of a YAML file (at most 256 KiB, no aliases, no tags, no double keys)."""
    return parse_yaml(read_text(path, YAML_BYTES), str(path))


def read_json(path: Path | Traversable) -> Any:
    """The value of a JSON file (at most 64 MiB, no double keys, no NaN or Infinity literals)."""

    def no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise GraftsimError(f"{path}: a JSON object has one key twice")
        return found

    def refuse(literal: str) -> None:
        raise GraftsimError(f"{path}: {literal} is not JSON; write it as a string")

    try:
        return json.loads(read_text(path, JSON_BYTES), object_pairs_hook=no_doubles, parse_constant=refuse)
    except GraftsimError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, or an integer of thousands of digits
        raise GraftsimError(f"{path}: must be JSON: {_one_line(error)}") from None


@functools.cache
def _validator(schema: str) -> Any:
    import jsonschema

    text = (spec() / "schema" / f"{schema}.json").read_text("utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def validate(document: Any, schema: str, where: str) -> None:
    """Check a document against ``graftsim_spec/schema/<schema>.json``; an error names the place in the document."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator(schema).iter_errors(document))
    if error is None:
        return
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    raise GraftsimError(f"{where}: at {place.lstrip('.') or 'the top'}: {_one_line(error.message)[:300]}")


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside its place and move it there, so that no reader ever sees half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise GraftsimError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written before work is done whose result would go there."""
    write_atomically(path.with_name(f".{path.name}.try"), lambda file: None)
    path.with_name(f".{path.name}.try").unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
