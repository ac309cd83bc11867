"""The suite finds every mutant, and does not accuse the reference."""

import re

import pytest

from graftsim import notation
from graftsim.errors import GraftsimError
from graftsim_conformance import golden, mutants
from graftsim_conformance.judge import Mode, judge
from graftsim_conformance.mutated import Changes, ReferenceCandidate
from graftsim_conformance.verdicts import Verdict

CATALOGUE = mutants.catalogue()


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_mutant_is_killed_by_a_named_case(name: str) -> None:
    assert mutants.survivors([name]) == []


def test_the_matrix_is_of_this_catalogue() -> None:
    """A mutant that is taken out leaves the matrix too."""
    assert set(mutants.stored()) == set(CATALOGUE)
    assert len(CATALOGUE) > 150


def test_what_cannot_be_seen_has_a_proof_and_the_rest_is_killed() -> None:
    matrix = mutants.stored()
    assert {name for name in matrix if not matrix[name]} == {name for name, one in CATALOGUE.items() if one.same}
    assert all(len(one.same) > 60 for one in CATALOGUE.values() if one.same)


@pytest.mark.parametrize(
    "case", ["pair-adam-sgd.zero_tensor", "pair-adam-sgd.late_10000", "pair-momentum-adagrad.missing_always"]
)
def test_the_reference_is_exact_with_its_own_bits(case: str) -> None:
    stored = golden.stored(case)
    claim = notation.parse(stored.machine)
    for found in judge(lambda: ReferenceCandidate(stored.machine), claim, [stored], modes=list(Mode)):
        assert found.verdict is Verdict.EXACT, found


def test_changes_that_change_nothing_are_exact() -> None:
    """So that what kills a mutant is its mistake, and not the way in which it is run."""
    stored = golden.stored("pair-adam-sgd.zero_tensor")
    idle = Changes(sums=lambda reduction, values, present: None)
    (found,) = judge(lambda: ReferenceCandidate(stored.machine, None, idle), notation.parse(stored.machine), [stored])
    assert found.verdict is Verdict.EXACT


def test_a_mutant_of_text_that_is_gone_is_refused() -> None:
    with pytest.raises(GraftsimError, match=re.escape("its file must have the text 'no such text'")):
        mutants.altered("graft", {"no such text": ""})


def test_a_crash_does_not_count() -> None:
    def explode(run, delta):
        raise ZeroDivisionError

    mutant = mutants.Mutant("behaviour.step.explodes", "graft", Changes(moved=explode))
    assert not mutants.killed_by(mutant, golden.stored("pair-adam-sgd.zero_tensor"))
