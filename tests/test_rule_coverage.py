"""Every rule of the specification is tested: by a golden case, or by a test named here, or it is said why by none."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from graftsim import notation, rules
from graftsim.machines import library
from graftsim_conformance import golden, posing

ROOT = Path(__file__).resolve().parent.parent
CASES = "tests/test_golden.py::test_the_files_are_what_the_reference_gives_now"

_TESTS: dict[str, dict[str, tuple[str, ...]]] = {
    "test_bounds": {
        "test_the_engine_lies_within_the_oracle_s_bound": (
            *("budget-first-order", "budget-unit", "budget-operations", "budget-power", "budget-reduction"),
        ),
        "test_an_open_condition_covers_both_branches": ("budget-open-condition",),
    },
    "test_schedules": {
        "test_an_error_of_the_base_or_the_exponent_is_carried": ("budget-real-power",),
        "test_whole_divisions_are_exact_and_count_no_rounding": ("scalar-floor",),
        "test_every_file_of_the_spec_is_listed_and_complete": ("schedule-file",),
        "test_examples_of_the_spec": ("schedule-example",),
        "test_mistakes_in_a_file": ("schedule-names",),
        "test_refused_in_one_line": ("schedule-arguments",),
        "test_a_call_stands_for_a_plain_expression": ("schedule-folding",),
        "test_a_nested_schedule_runs_on_its_callers_clock": ("schedule-nested", "schedule-nested-clock"),
        "test_doubling_equations_are_stopped_early": ("schedule-bounds",),
        "test_the_staircases_of_the_two_papers_are_two": ("erratum-decay-epochs",),
    },
    "test_check_torch": {
        "test_broken_ports_are_found": ("budget-comparison",),
        "test_state_that_cannot_be_read_is_carried_and_said": ("budget-one-step",),
    },
    "test_edges": {
        "test_one_verdict_whatever_it_does": ("graft-ownership", "trajectory-lent"),
        "test_late_runs_stand_where_they_say": ("trajectory-start",),
        "test_the_reference_is_exact_in_every_mode": ("trajectory-case-modes",),
    },
    "test_algebra": {"test_grafting_is_no_descent_method": ("graft-not-descent",)},
    "test_engine": {
        "test_one_exchange_a_level_for_all_groups": ("graft-sharding", "partition-sharding"),
        "test_a_schedule_that_leaves_the_domain_says_when": ("language-domain",),
    },
    "test_regret": {"test_lemma_and_theorem": ("erratum-regret-square", "erratum-regret-rate")},
    "test_rare": {
        "test_without_replacement_the_unseen_share_is_one_minus_c": ("erratum-rare-replacement",),
        "test_sgd_with_a_large_rate_is_as_good_as_adagrad": ("erratum-rare-step-size",),
        "test_sgd_with_a_decaying_rate": ("erratum-rare-larger",),
    },
    "test_wilson": {
        "test_gradient_and_loss_are_those_of_the_matrix": ("erratum-wilson-blocks",),
        "test_row_span_on_all_576_class_counts": ("erratum-wilson-closed-form",),
    },
    "test_discovery": {
        "test_a_ratio_is_never_made_up": ("correction-ratio",),
        "test_all_groups_together_are_the_whole_step": ("correction-together",),
        "test_the_running_median_reflects_its_edges": ("correction-smoothing",),
        "test_the_largest_power_of_ten_below": ("correction-rounding", "erratum-power-of-ten"),
    },
    "test_corrections": {
        "test_medians_of_steps_with_a_direction": ("correction-median",),
        "test_mistakes_in_files": ("correction-file",),
        "test_the_simulator_applies_constants_lines_and_powers": ("correction-factor", "correction-applied"),
        "test_corrections_for_other_tensors": ("correction-groups",),
    },
    "test_machines": {
        "test_refused_in_one_line": ("language-file", "language-names", "language-errors", "language-when"),
        "test_values_of_the_wrong_shape": ("language-hyperparameter-kinds",),
    },
    "test_documents": {
        "test_yaml_refused_in_one_line": ("language-bounds",),
        "test_yaml_numbers_and_words": ("language-yaml-numbers",),
        "test_quoted_grafts_and_grafts_without_blanks_are_read_whole": ("notation-yaml-comment",),
    },
    "test_expressions": {"test_refused_in_one_line": ("language-expression", "language-no-evaluation")},
    "test_compiled": {"test_forks_and_pools": ("language-tensor-constants", "partition-pool")},
    "test_notation": {
        "test_cyclic_children_are_named": ("language-child-cycle",),
        "test_structure": ("notation-call",),
        "test_refused_in_one_line": ("notation-scanner",),
    },
    "test_partitions": {"test_refused_in_one_line": ("partition-cover", "partition-disjoint")},
    "test_matrices": {
        "test_shampoo_is_its_formula": ("matrix-functions",),
        "test_blocks_lie_one_after_another_in_c_order": ("matrix-blocks",),
        "test_rank_three_is_refused_by_name": ("matrix-rank",),
        "test_the_power_drops_what_counts_as_zero": ("matrix-power",),
        "test_the_movement_covers_a_perturbation": ("budget-matrix",),
        "test_bounds_of_a_float32_run_are_wider": ("matrix-equivalent",),
    },
    "test_optax_paths": {"test_a_verdict_names_the_profile_that_it_needs": ("budget-profile",)},
    "test_sums": {"test_chunks_are_invisible": ("sum-row",)},
    "test_simulate": {
        "test_a_record_holds_what_the_engine_gave": ("trajectory-content",),
        "test_the_digest_sees_signs_of_zero_and_one_nan": ("trajectory-equality", "trajectory-digest"),
        "test_an_altered_file_gets_one_line": ("trajectory-no-code",),
    },
    "test_executable": {
        "test_the_reference_over_the_protocol_has_its_own_bits": (
            *("protocol-lines", "protocol-requests", "protocol-turns", "protocol-values", "protocol-hello"),
            *("protocol-start", "protocol-hyperparameters", "protocol-step", "protocol-bye"),
        ),
        "test_every_way_to_write_a_float_is_read": ("protocol-floats",),
        "test_expected_values_and_case_names_are_never_sent": ("protocol-blind",),
        "test_the_machine_is_told_in_one_form": ("protocol-machine",),
        "test_groups_are_told": ("protocol-groups",),
        "test_state_info_and_missing_gradients_come_through": (
            *("protocol-missing", "protocol-state", "protocol-info"),
        ),
        "test_steps_are_numbered_on_from_where_the_state_was_set": ("protocol-restore",),
        "test_state_of_its_own_is_carried_for_a_stateless_candidate": ("protocol-stateless",),
        "test_it_declares_what_it_does_not_support": ("protocol-unsupported",),
        "test_whatever_a_program_does_is_a_verdict": (
            *("protocol-error", "protocol-unknown-keys", "protocol-verdicts"),
        ),
        "test_no_shell_reads_the_command": ("protocol-no-shell",),
        "test_all_replies_together_have_a_limit": ("protocol-limits",),
        "test_a_suite_goes_on_with_a_new_process_after_each_failure": ("protocol-next-case",),
    },
    "ranks/test_simulated": {"test_matrices_keep_whole_tensors": ("matrix-place",)},
    "test_papers": {
        "test_the_rounding_table_has_one_wrong_median": ("erratum-layer-1-value",),
        "test_trials_outside_the_stated_space": ("erratum-decay-range",),
        "test_ranks_and_taus": ("erratum-replication",),
        "test_best_trials": ("erratum-table-13",),
    },
}
TESTS = {
    f"GS-{rule}": f"tests/{module}.py::{test}"
    for module, tests in _TESTS.items()
    for test, tested in tests.items()
    for rule in tested
}
"""Rules about files, notation, errors and records, which no trajectory shows."""

STATED = {
    **dict.fromkeys(
        ["GS-gradient-sparse", "GS-gradient-complex"],
        "of adapters alone: the engine takes dense real arrays, and has no way to be given others",
    ),
    **dict.fromkeys(
        ["GS-erratum-transfer-direction", "GS-erratum-step-count"],
        "about the text or a table of a paper; nothing here computes it",
    ),
}
"""Rules that nothing tests, with the reason."""


@functools.cache
def asked() -> dict[str, tuple[tuple[str, ...], str]]:
    """The rules of each case, and what it is for."""
    return {case.name: (case.rules, case.about) for case in posing.every()}


def by_cases() -> set[str]:
    """The rules that some case names."""
    return {rule for named, _ in asked().values() for rule in named}


def test_every_rule_is_tested_or_said_not_to_be():
    known = rules.load()
    tested = by_cases() | TESTS.keys() | STATED.keys()
    assert [rule for rule in known if rule not in tested] == []


def test_nothing_names_a_rule_that_is_not_there():
    known = rules.load().keys()
    assert by_cases() - known == set()
    assert TESTS.keys() | STATED.keys() <= known


def test_no_table_holds_what_another_one_has():
    assert STATED.keys() & (TESTS.keys() | by_cases()) == set()
    assert sum(len(tested) for tests in _TESTS.values() for tested in tests.values()) == len(TESTS)


@pytest.mark.parametrize("test", sorted({*TESTS.values(), CASES}))
def test_the_tests_exist(test):
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_stored_files_name_the_same_rules():
    for name in ("pair-adam-sgd.zero_all", "graft-adam-sgd.mixed", "nested-left.nested"):
        assert (golden.stored(name).rules, golden.stored(name).about) == asked()[name]


def test_every_case_says_what_it_is_for():
    assert set(asked()) == set(posing.names())
    for named, about in asked().values():
        assert len(about) >= 10
        assert named == tuple(sorted(set(named)))


def test_every_machine_and_every_value_of_its_options_is_in_a_case():
    chosen = {each for machine in posing.names().values() for each in posing.chosen_options(notation.parse(machine))}
    for name in library().names():
        if posing.has_matrix(library()[name]):
            continue
        for option, values in library()[name].options.items():
            assert {(name, option, value) for value in values} <= chosen
        assert (name, "", "") in chosen


def test_cases_can_be_chosen_by_rule():
    assert "pair-adam-sgd.nan" in golden.chosen(only="pair-adam-sgd.*", rules=["GS-graft-nan"])
    assert golden.chosen(only="sgd.*", rules=["GS-arithmetic-update"], quick=True) == ["sgd.mixed", "sgd.tiny-zero"]
    with pytest.raises(golden.GraftsimError, match="did you mean 'GS-graft-nan'"):
        golden.chosen(rules=["GS-" + "graft-nam"])
    with pytest.raises(golden.GraftsimError, match="no golden case is left"):
        golden.chosen(only="nothing.*")
