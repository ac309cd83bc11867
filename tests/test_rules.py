"""The prose and ``rules.json`` are equal, ids are cited as they are stated, and each way to break this is noticed."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from graftsim import rules
from graftsim.errors import GraftsimError

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "spec"
CITING = {
    "graftsim": "*.py",
    "spec": "*.*",
    "conformance": "*.*",
    "tests": "*.py",
    "docs": "*.md",
    "adapters": "*.py",
}
LANGUAGE_FILE = "language.md"


@pytest.fixture(scope="module")
def prose():
    return rules.extract(SPEC)


def copy_of_spec(tmp_path):
    for path in SPEC.glob("*.md"):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path


def doctored(tmp_path, old, new):
    """A copy of the prose with one text of ``language.md`` replaced."""
    path = copy_of_spec(tmp_path) / LANGUAGE_FILE
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return tmp_path


def test_prose_and_data_are_equal(prose):
    assert rules.first_difference(prose, rules.read(SPEC / "graftsim_spec" / "rules.json")) is None


def test_the_file_is_what_write_would_write(prose):
    assert (SPEC / "graftsim_spec" / "rules.json").read_text("utf-8") == prose.text()


def test_every_cited_id_is_stated(prose):
    cited = {
        (identifier, str(path.relative_to(ROOT)))
        for folder, files in CITING.items()
        for path in (ROOT / folder).rglob(files)
        if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".json"}
        for identifier in rules.ID.findall(path.read_text("utf-8"))
    }
    assert len(cited) > len(prose.rules)
    assert {(name, path) for name, path in cited if name not in prose.rules} == set()


def test_every_rule_is_a_sentence(prose):
    odd = [rule.id for rule in prose.rules.values() if not rule.text.endswith(".") or len(rule.text) < 15]
    assert odd == []


def test_every_normative_file_states_rules(prose):
    stated = {rule.file for rule in prose.rules.values()}
    assert stated == {path.name for path in SPEC.glob("*.md")} - {"README.md"}


def test_load_and_sentence():
    assert rules.load()["GS-norm"].file == "reductions.md"
    assert rules.sentence("GS-graft-zero-direction").startswith("Where the direction's step is zero")
    with pytest.raises(GraftsimError, match="did you mean 'GS-graft-zero-direction'"):
        rules.sentence("GS" + "-graft-zero-directon")


def test_a_changed_word_is_named(tmp_path, prose):
    other = rules.extract(doctored(tmp_path, "has no randomness and reads", "may have randomness and reads"))
    assert rules.first_difference(other, prose).startswith("GS-language-deterministic differs: language.md has")


def test_line_breaks_change_nothing(tmp_path, prose):
    other = rules.extract(doctored(tmp_path, "has no randomness and reads", "has no\nrandomness   and reads"))
    assert rules.first_difference(other, prose) is None


def test_a_renamed_rule_is_named_from_both_sides(tmp_path, prose):
    renamed = "GS" + "-language-random"
    other = rules.extract(doctored(tmp_path, "**[GS-language-deterministic]**", f"**[{renamed}]**"))
    assert rules.first_difference(other, prose) == f"{renamed} stands in the prose and not in rules.json"
    smaller = dataclasses.replace(prose, rules={k: v for k, v in other.rules.items() if k != renamed})
    assert (
        rules.first_difference(smaller, prose) == "GS-language-deterministic stands in rules.json and not in the prose"
    )


def test_a_moved_rule_is_noticed(prose):
    turned = dataclasses.replace(prose, rules=dict(reversed(prose.rules.items())))
    assert rules.first_difference(turned, prose) == "the rules stand in another order in rules.json"


def test_another_edition_is_noticed(prose):
    assert "edition 9.9" in rules.first_difference(dataclasses.replace(prose, number="9.9"), prose)


def test_one_id_twice(tmp_path):
    copy_of_spec(tmp_path)
    with (tmp_path / LANGUAGE_FILE).open("a") as file:
        file.write("\n**[GS-norm]** A norm is something else.\n")
    with pytest.raises(GraftsimError, match="GS-norm is stated twice"):
        rules.extract(tmp_path)


@pytest.mark.parametrize(
    "paragraph",
    [
        "**[GS_language]** an id with another sign.",
        "**[gs-language-x]** an id in small letters.",
        "Words before it **[" + "GS" + "-language-x]** and a rule inside a paragraph.",
        "**[" + "GS" + "-language-x]** one rule.\n**[" + "GS" + "-language-y]** and another without a blank line.",
        "**[" + "GS" + "-language-x]**",
    ],
)
def test_what_is_almost_a_rule_is_refused(tmp_path, paragraph):
    copy_of_spec(tmp_path)
    with (tmp_path / LANGUAGE_FILE).open("a") as file:
        file.write(f"\n{paragraph}\n")
    with pytest.raises(GraftsimError, match="a rule must be a paragraph"):
        rules.extract(tmp_path)


def test_a_specification_has_an_edition(tmp_path):
    copy_of_spec(tmp_path)
    (tmp_path / "README.md").write_text("# The specification\n")
    with pytest.raises(GraftsimError, match="must have a line such as 'Edition"):
        rules.extract(tmp_path)


def test_a_broken_data_file_is_refused(tmp_path, prose):
    path = tmp_path / "rules.json"
    path.write_text(prose.text().replace('"edition"', '"version"'))
    with pytest.raises(GraftsimError, match=r"rules\.json"):
        rules.read(path)


def test_an_id_twice_in_the_data_file_is_refused(tmp_path, prose):
    path = tmp_path / "rules.json"
    first = prose.text().split("\n")[3]
    path.write_text(prose.text().replace(first, first + "\n" + first))
    with pytest.raises(GraftsimError, match="stands twice"):
        rules.read(path)


def test_the_command_tells_by_its_exit_code(tmp_path, monkeypatch, capsys):
    copy_of_spec(tmp_path)
    data = tmp_path / "graftsim_spec"
    shutil.copytree(SPEC / "graftsim_spec" / "schema", data / "schema")
    monkeypatch.setattr(rules.documents, "spec", lambda: data)
    assert rules.main([]) == 1
    assert "cannot read" in capsys.readouterr().err
    assert rules.main(["--write"]) == 0
    assert (data / "rules.json").read_bytes() == (SPEC / "graftsim_spec" / "rules.json").read_bytes()
    path = tmp_path / LANGUAGE_FILE
    path.write_text(path.read_text().replace("reads no clock", "reads a clock"))
    capsys.readouterr()
    assert rules.main([]) == 1
    error = capsys.readouterr().err
    assert "GS-language-deterministic differs" in error
    assert error.count("\n") == 1
