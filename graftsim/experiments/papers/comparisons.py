"""The 2020 paper's tables: shares of variance, grafts against their parents, ranks of replications."""

from __future__ import annotations

import numpy as np

from graftsim.experiments.papers.tables import PaperTable, load
from graftsim.experiments.papers.verdicts import Check, Line, Verdict
from graftsim.experiments.shares import Shares, shares

OPTIMIZERS = ("SGD", "Adam", "AdaGrad")
MEASURES = ((2, "top-1"), (2, "top-5"), (3, "BLEU"))


def square(table: PaperTable, measure: str) -> list[list[float]]:
    """The 3 x 3 table of a measure: rows M, columns D."""
    return [[table.cell(measure, magnitude=m, direction=d) for d in OPTIMIZERS] for m in OPTIMIZERS]


def variance() -> Check:
    """The shares of M and D in the variance of Tables 2 and 3."""
    lines = []
    for number, measure in MEASURES:
        found = shares(square(load(f"2020_table_{number}"), measure))
        verdict = Verdict.AGREES if found.magnitude > 0.8 and found.magnitude > 5 * found.direction else Verdict.DIFFERS
        lines.append(
            Line(f"Table {number}, {measure}: shares of M and D", "M, much more than D", _pair(found), verdict)
        )
    return Check(
        "variance-shares",
        2020,
        "Tables 2 and 3",
        "Do final results depend on M more than on D?",
        tuple(lines),
        "Two-way analysis without interaction; agrees where M has more than 0.8 and more than 5 times D's share.",
    )


def _pair(found: Shares) -> str:
    return f"{found.magnitude:.3f} and {found.direction:.3f}"


def beyond() -> Check:
    """Which grafts are better than both of their parents."""
    lines = []
    for number, measure in MEASURES:
        table = load(f"2020_table_{number}")
        better = [
            f"{m}#{d} ({table.cell(measure, magnitude=m, direction=d):g})"
            for m in OPTIMIZERS
            for d in OPTIMIZERS
            if table.cell(measure, magnitude=m, direction=d)
            > max(table.cell(measure, magnitude=one, direction=one) for one in (m, d))
        ]
        said = "there are some" if measure == "BLEU" else "not said"
        holds = measure != "BLEU" or bool(better)
        found = ", ".join(better) or "none"
        lines.append(Line(f"Table {number}, {measure}: better than both parents", said, found, _verdict(holds)))
    note = "AdaGrad#Adam's lead on AdaGrad, 0.2, is about one deviation of the three trials."
    question = "Can a graft be better than both of its parents?"
    return Check("better-than-both", 2020, "Section 3.3, Table 3", question, tuple(lines), note)


def appendix() -> Check:
    """Appendix A: "the M = AdaGrad grafting instances perform better than plain AdaGrad"."""
    lines = []
    for number, measure in MEASURES:
        table = load(f"2020_table_{number}")
        plain = table.cell(measure, magnitude="AdaGrad", direction="AdaGrad")
        for given in ("magnitude", "direction"):
            other = "direction" if given == "magnitude" else "magnitude"
            found = [table.cell(measure, **{given: "AdaGrad", other: name}) for name in ("SGD", "Adam")]
            what = f"Table {number}, {measure}: AdaGrad as {given} with SGD and Adam, plain AdaGrad"
            text = f"{found[0]:g} and {found[1]:g}, {plain:g}"
            if given == "magnitude":
                lines.append(Line(what, "better", text, _verdict(min(found) > plain, Verdict.MISPRINT)))
            else:
                lines.append(Line(what, "not said", text))
    note = "On ResNet the sentence is true of D = AdaGrad, which may be meant; on the Transformer of neither."
    question = "Are grafts with M = AdaGrad better than plain AdaGrad?"
    return Check("appendix-a-adagrad", 2020, "Appendix A against Tables 2 and 3", question, tuple(lines), note)


def _verdict(holds: bool, otherwise: Verdict = Verdict.DIFFERS) -> Verdict:
    return Verdict.AGREES if holds else otherwise


def ranks(values: list[float]) -> list[int]:
    """1 for the smallest; no two are equal in these tables.

    >>> ranks([7.76, 7.64, 11.57])
    [2, 1, 3]
    """
    return [int(place) + 1 for place in np.argsort(np.argsort(values))]


def kendall(first: list[int], second: list[int]) -> float:
    """Kendall's tau of two orders without ties: concordant less discordant pairs, over all pairs.

    >>> kendall([1, 2, 3], [1, 3, 2])
    0.3333333333333333
    """
    n = len(first)
    signs = [(first[i] - first[j]) * (second[i] - second[j]) > 0 for i in range(n) for j in range(i)]
    return (2 * sum(signs) - len(signs)) / len(signs)


def replications() -> Check:
    """The ranks of Tables 4 to 6, and how well two reports of one experiment agree."""
    lines = []
    for number in (4, 5, 6):
        table = load(f"2020_table_{number}")
        known = [i for i, value in enumerate(table.column("original")) if value is not None]
        found = {}
        for which in ("original", "replication"):
            values, stated = ([table.column(name)[i] for i in known] for name in (which, f"{which} rank"))
            found[which] = ranks([float(value or 0) for value in values])
            text = " ".join(map(str, stated)), " ".join(map(str, found[which]))
            verdict = _verdict(text[0] == text[1], Verdict.MISPRINT)
            lines.append(Line(f"Table {number}, {which}: ranks", text[0], text[1], verdict))
        tau = kendall(found["original"], found["replication"])
        lines.append(Line(f"Table {number}: Kendall's tau of original and replication", "", f"{tau:+.1f}"))
    note = (
        "Table 4 calls 7.76 first and 7.64 second. Optimizers in order: SGD, HB, AdaGrad, RMSprop, Adam. Of the "
        "parsing runs section B.2 says 'positive replication' and Figure 14 'failed replication'."
    )
    return Check("replication-ranks", 2020, "Tables 4 to 6", "Are the ranks those of the values?", tuple(lines), note)
