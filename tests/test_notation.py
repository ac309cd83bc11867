"""Machine expressions: what they mean, how they print, and how each mistake reads."""

import pytest

from graftsim import notation
from graftsim.errors import GraftsimError
from graftsim.machines import Library, library


def children(instance) -> object:
    return (instance.machine.name, *(children(child) for child in instance.children.values()))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("adam#sgd", ("graft", ("adam",), ("sgd",))),
        ("adam # sgd # adagrad", ("graft", ("graft", ("adam",), ("sgd",)), ("adagrad",))),
        ("adam#(sgd#adagrad(eps=0))", ("graft", ("adam",), ("graft", ("sgd",), ("adagrad",)))),
        ("graft(direction=sgd, magnitude=adam)", ("graft", ("adam",), ("sgd",))),
        ("graft(adam, direction=sgd, partition=global)", ("graft", ("adam",), ("sgd",))),
        ("in_place(sgd)#scaled(adam, factor=2)", ("graft", ("in_place", ("sgd",)), ("scaled", ("adam",)))),
    ],
)
def test_structure(text: str, tree: object) -> None:
    assert children(notation.parse(text)) == tree


@pytest.mark.parametrize(
    "text",
    [
        "adam(lr=1e-3)#(sgd#adagrad(eps=0))",
        "graft(adam, sgd, partition=pattern(biases='*#bias', rest=None), eps=1e-8)",
        "graft(adam, sgd, partition=global, scale=where(step <= 10, step / 10, 1))",
        "sgd(lr=[1.9, 1e-4])#sgd(lr=[1e-3, 0.019])",
        "scaled(sgd, factor={'w': 2, 'b': 1})",
    ],
)
def test_the_canonical_form_reads_back_as_itself(text: str) -> None:
    canonical = str(notation.parse(text))
    assert str(notation.parse(canonical)) == canonical


def test_sugar_is_the_explicit_graft() -> None:
    sugar = notation.parse("adam(lr=1e-3)#(sgd#adagrad(eps=0))")
    explicit = notation.parse("graft(adam(lr=1e-3), graft(sgd, adagrad(eps=0)), partition=tensor)")
    assert str(sugar) == str(explicit)
    assert sugar == explicit


def test_the_magnitude_comes_first() -> None:
    graft = notation.parse("adam#sgd")
    assert graft.children["magnitude"].machine.name == "adam"
    assert graft.children["direction"].machine.name == "sgd"


REFUSED = {
    "unknown machine": ("adamm", "unknown machine 'adamm'; did you mean 'adam'?"),
    "unknown hyperparameter": ("adam(beta=1)", "adam has no 'beta'; did you mean 'beta"),
    "unknown option value": ("adam(eps_placement=outside)", "must be one of corrected, hat, inside, clamp"),
    "outside the domain": ("adam(beta1=1)", "beta1: must lie in [0, 1); received 1"),
    "negative": ("sgd(lr=-1)", "must lie in >= 0; received -1"),
    "not finite": ("sgd(lr=1e999)", "must lie in >= 0; received inf"),
    "a missing child": ("graft(adam)", "graft needs its direction"),
    "a surplus child": ("adam(sgd)", "adam takes no children"),
    "a child twice": ("graft(adam, sgd, magnitude=sgd)", "was given its magnitude twice"),
    "a machine for a number": ("sgd(lr=adam)", "unknown 'adam'"),
    "a number for a machine": ("adam#1", "is not a machine"),
    "arithmetic on machines": ("adam + sgd", "is not a machine"),
    "an at sign": ("adam @ sgd", "written with '#'"),
    "a schedule where none may be": ("adam(beta1=1/step)", "not schedulable"),
    "double stars": ("adam(**{'lr': 1})", "'**' is not allowed"),
    "an unknown partition": ("graft(adam, sgd, partition=tensors)", "did you mean 'tensor'?"),
    "code in a partition": ("graft(adam, sgd, partition=block(f()))", "is not a partition"),
    "code in a list": ("sgd(lr=[f()])", "must hold numbers"),
    "words in a list": ("sgd(lr=['a'])", "must hold numbers"),
    "nothing": (" ", "must be text"),
    "half an expression": ("adam#(", "'adam#(' is not an expression"),
    "an attribute": ("adam.lr", "is not a machine"),
    "very deep": ("adam" + "#(adam" * 40 + ")" * 40, "levels"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(GraftsimError) as caught:
        notation.parse(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cyclic_children_are_named(tmp_path) -> None:
    for name, child in (("first", "second"), ("second", "first")):
        (tmp_path / f"{name}.yaml").write_text(
            f"machine: {name}\ntitle: t\nsource: s\nchildren: {{inner: {child}}}\nstep: [delta = inner.delta]\n"
        )
    machines = Library([tmp_path / "first.yaml", tmp_path / "second.yaml"])
    with pytest.raises(GraftsimError, match="cyclic: first -> second -> first"):
        notation.parse("first", machines)


def test_a_default_child_may_be_replaced(tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "machine: mine\ntitle: t\nsource: s\nchildren: {inner: adam(lr=0.5)}\nstep: [delta = inner.delta]\n"
    )
    machines = Library([tmp_path / "mine.yaml"])
    assert children(notation.parse("mine", machines)) == ("mine", ("adam",))
    assert children(notation.parse("mine(sgd)", machines)) == ("mine", ("sgd",))


@pytest.mark.parametrize("name", library().names())
def test_every_machine_of_the_spec_is_read(name: str) -> None:
    assert library()[name].name == name
