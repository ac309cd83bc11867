"""Which golden grafts a framework is judged on, as which optimizers of its own."""

import numpy as np
import pytest

from graftsim import notation
from graftsim_conformance import golden, posing, recipes
from graftsim_conformance.verdicts import CandidateError, Verdict

KERAS, OPTAX, TORCH = "keras.optimizers:", "optax:", "torch.optim:"


def part(machine: str, framework: str) -> recipes.Part:
    return recipes.part(notation.parse(machine), framework)


def test_adam_of_keras_is_judged_in_both_roles_and_where_gradients_lack() -> None:
    found = [notation.parse(machine) for machine in recipes.grafts(KERAS, recipes.with_all_gradients())]
    for role in recipes.ROLES:
        roles = [graft for graft in found if graft.children[role].machine.name == "adam"]
        assert {graft.children[role].option("missing") for graft in roles} == {"hold", "advance"}
        assert any("missing" in golden.stored(case).needs for graft in roles for case in golden.names_of(graft))
    partitions = {graft.partition.partition("(")[0] for graft in found if "hat" in str(graft)}
    assert partitions == {"tensor", "global", "row", "block", "coordinate"}


def test_one_count_for_all_tensors_is_an_optimizer_of_its_own() -> None:
    """Keras's Adam is another machine where gradients lack, and torch's is the same."""
    counted = "adam(eps_placement=hat, missing=advance)"
    found = part(f"{counted}#sgd", KERAS)
    assert [leaf.row.target for leaf in found.leaves()] == [f"{KERAS}Adam", f"{KERAS}SGD"]
    assert found.children[0].row.machine == counted
    values = {"lr": 0.5, "beta1": 0.25, "beta2": 0.75, "eps": 0.125}
    native = {"learning_rate": 0.5, "beta_1": 0.25, "beta_2": 0.75, "epsilon": 0.125}
    assert found.children[0].native({f"magnitude.{name}": value for name, value in values.items()}) == native
    with pytest.raises(CandidateError, match=r"no optimizer of torch\.optim is adam"):
        part("adam(missing=advance)#sgd", TORCH)


@pytest.mark.parametrize(
    ("machine", "right"),
    [
        ("adam(eps_placement=hat, missing=advance)#sgd", True),
        ("adam(eps_placement=hat)#sgd", False),
        ("lion#sgd", True),
        ("sgd#(lion#momentum(form=lr_inside))", False),
        ("decay_decoupled(adam(eps_placement=hat))#sgd", False),
    ],
)
def test_missing_gradients_are_taken_where_no_counter_would_hold(machine: str, right: bool) -> None:
    assert part(machine, KERAS).counts_missing is right


def test_a_child_stands_beside_the_attribute_of_its_role() -> None:
    class Held:
        def __init__(self, name, **children):
            self.name = name
            self.__dict__ |= children

    inner = Held("inner", magnitude=Held("lion"), direction=Held("sgd"))
    held = Held("outer", magnitude=inner, direction=Held("adam"))
    found = [(part.prefix, of.name) for part, of in part("(lion#sgd)#adam", OPTAX).beside(held)]
    assert found == [
        ("", "outer"),
        ("magnitude.", "inner"),
        ("magnitude.magnitude.", "lion"),
        ("magnitude.direction.", "sgd"),
        ("direction.", "adam"),
    ]


def test_cases_with_missing_gradients_are_known_without_their_files() -> None:
    said = posing.with_missing()
    names = [*said, *list(posing.names())[::20]]
    assert {name for name in names if "missing" in golden.stored(name).needs} == said


def test_laws_are_tried_once_for_each_machine_and_partition() -> None:
    first, second, other = "adam#sgd", "lion#sgd", "graft(lion, sgd, partition=row)"
    eager, always = (recipes.lawful((first, second, other), compiled) for compiled in (False, True))
    assert [eager(machine, "") for machine in (first, second, other)] == [True, False, True]
    assert [always(machine, "jit") for machine in (first, second, other)] == [True, False, True]
    assert not eager(first, "jit")


def test_what_tensors_share_is_one_number() -> None:
    assert recipes.shared("t", np.array([3.0, 3.0])) == 3
    with pytest.raises(CandidateError, match="its t is one number for all tensors") as refused:
        recipes.shared("t", np.array([3.0, 3.0, 2.0]))
    assert refused.value.verdict is Verdict.NOT_SUPPORTED
