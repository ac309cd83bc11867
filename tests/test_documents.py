"""Files of strangers fail politely: bounded, no tags, no aliases, no double keys; writes are atomic."""

from pathlib import Path

import pytest

from graftsim import documents
from graftsim.errors import GraftsimError

BOMB = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n"

REFUSED = {
    "a bomb of aliases": (BOMB, "aliases are not allowed"),
    "an alias loop": ("&a [*a]", "aliases are not allowed"),
    "a Python object": ("!!python/object/apply:os.system ['true']", "not allowed"),
    "a tag of one's own": ("!include x", "not allowed"),
    "a merge key": ("<<: {a: 1}", ""),
    "a binary": ("!!binary aGVsbG8=", "not allowed"),
    "a date tag": ("!!timestamp 2020-01-01", "not allowed"),
    "double keys": ("a: 1\na: 2\n", "second time"),
    "a key that is no string": ("1: a\n", "a key must be a string"),
    "deep nesting": ("[" * 40 + "]" * 40, "levels of nesting"),
    "absurd nesting": ("[" * 100_000, ""),
    "two documents": ("a: 1\n---\nb: 2\n", ""),
    "broken syntax": ("a: [1, 2", ""),
    "a hidden comment": ("machine: adam # sgd\n", "quote a graft"),
    "a hidden comment after a call": ("machine: adam(lr=1e-3) # sgd\n", "quote a graft"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_yaml_refused_in_one_line(text: str, problem: str) -> None:
    if text == "<<: {a: 1}":
        assert documents.parse_yaml(text, "file.yaml") == {"<<": {"a": 1}}  # an ordinary key
        return
    with pytest.raises(GraftsimError, match=r"file\.yaml") as caught:
        documents.parse_yaml(text, "file.yaml")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_numbers_and_words() -> None:
    text = "a: 1e-3\nb: no\nc: true\nd: 1_000\ne: 0x10\nf: 12:30\ng: .5\nh: -2\ni: 2020-01-01\nj: ~\n"
    assert documents.parse_yaml(text, "x") == {
        **{"a": 1e-3, "b": "no", "c": True, "d": "1_000", "e": "0x10", "f": "12:30"},
        **{"g": 0.5, "h": -2, "i": "2020-01-01", "j": None},
    }


def test_quoted_grafts_and_grafts_without_blanks_are_read_whole() -> None:
    text = "a: 'adam # sgd'\nb: adam#sgd\nc: \"adam # sgd\"  # a comment\nd: sgd\n# a comment\n"
    assert documents.parse_yaml(text, "x") == {"a": "adam # sgd", "b": "adam#sgd", "c": "adam # sgd", "d": "sgd"}


def test_too_large_and_missing_and_binary_files(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_bytes(b"a" * (documents.YAML_BYTES + 1))
    with pytest.raises(GraftsimError, match="at most 262144 bytes"):
        documents.read_yaml(file)
    with pytest.raises(GraftsimError, match="No such file"):
        documents.read_yaml(tmp_path / "none.yaml")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(GraftsimError, match="UTF-8"):
        documents.read_yaml(file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": NaN}', "NaN"),
        ("[" * 100_000, "JSON"),
        ('{"a": ', "JSON"),
        ("", "JSON"),
        ("9" * 5000, "JSON"),
    ],
)
def test_json_refused_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    with pytest.raises(GraftsimError, match=problem) as caught:
        documents.read_json(file)
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    file = tmp_path / "kept.txt"
    documents.write_atomically(file, lambda out: out.write(b"old"))

    def fail(out) -> None:
        out.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        documents.write_atomically(file, fail)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GraftsimError, match="cannot write"):
        documents.write_atomically(tmp_path / "file" / "below", lambda out: out.write(b""))
