"""The expression language refuses all but its whitelist, and prints what it reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftsim.errors import GraftsimError
from graftsim.expressions import Apply, Name, Number, parse, unparse

REFUSED = {
    "a call of anything else": ("__import__('os')", "not a function of the language"),
    "a method": ("g.mean()", "not allowed"),
    "two dots": ("a.b.c", "not allowed"),
    "an index": ("g[0]", "not allowed"),
    "a lambda": ("lambda: 1", "not allowed"),
    "a comprehension": ("[x for x in g]", "not allowed"),
    "a conditional": ("1 if g else 2", "not allowed"),
    "an assignment expression": ("(y := 1)", "not allowed"),
    "a keyword argument": ("sqrt(x=1)", "by position"),
    "starred arguments": ("max(*g)", "takes 2 argument"),
    "an f-string": ("f'{g}'", "not allowed"),
    "a string": ("'g'", "not a number"),
    "a boolean": ("True", "not a number"),
    "a complex number": ("1j", "not a number"),
    "a partition of no reduction": ("sqrt(g, over=tensor)", "by position"),
    "and": ("g > 0 and w > 0", "not allowed"),
    "a chain": ("0 < g < 1", "two sides"),
    "is": ("g is w", "not allowed"),
    "two few arguments": ("where(g > 0, 1)", "takes 3 argument"),
    "an unknown function": ("squrt(g)", "did you mean 'sqrt'?"),
    "two expressions": ("g; w", "not an expression"),
    "nothing": ("", "not an expression"),
    "a huge integer": ("1" + "0" * 400, "too large"),
    "deep nesting": ("-" * 60 + "g", "nesting"),
    "very deep nesting": ("(" * 900 + "g" + ")" * 900, "not an expression"),
    "a long text": ("g + " * 600 + "g", "characters"),
    "a null byte": ("g\0", "not an expression"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(GraftsimError) as caught:
        parse(text, "machine.yaml, step 1")
    assert problem in str(caught.value)
    assert "machine.yaml, step 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_minus_a_power_is_one_operation() -> None:
    assert parse("1 - b ** t", "") == Apply("one_minus_pow", (Name("b"), Name("t")))
    assert parse("2 - b ** t", "") == Apply("sub", (Number(2.0), Apply("pow", (Name("b"), Name("t")))))


def test_order_of_operations_is_as_written() -> None:
    assert parse("a - b - c", "") == Apply("sub", (Apply("sub", (Name("a"), Name("b"))), Name("c")))
    assert parse("-a * b", "") == Apply("mul", (Apply("neg", (Name("a"),)), Name("b")))


trees = st.recursive(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False).map(Number),
        st.sampled_from(["g", "w", "inner.delta"]).map(Name),
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["add", "sub", "mul", "div", "pow", "quotient", "max"]), inner, inner).map(
            lambda row: Apply(row[0], row[1:])
        ),
        st.tuples(st.sampled_from(["sqrt", "abs", "neg"]), inner).map(lambda row: Apply(row[0], row[1:])),
        st.tuples(inner, inner, inner).map(lambda row: Apply("where", (Apply("lt", row[:2]), row[1], row[2]))),
    ),
    max_leaves=12,
)


def normal(tree):
    """What a parser can tell apart: a minus before a literal is part of it, 1 - b ** t is one operation."""
    if not isinstance(tree, Apply):
        return tree
    arguments = tuple(normal(argument) for argument in tree.arguments)
    if tree.operator == "neg" and isinstance(arguments[0], Number):
        return Number(-arguments[0].value)
    if tree.operator == "sub" and arguments[0] == Number(1.0) and getattr(arguments[1], "operator", "") == "pow":
        return Apply("one_minus_pow", arguments[1].arguments)
    return Apply(tree.operator, arguments)


@given(trees)
def test_printed_text_reads_back_as_the_same_tree(tree) -> None:
    tree = normal(tree)
    assert parse(unparse(tree), "") == tree
