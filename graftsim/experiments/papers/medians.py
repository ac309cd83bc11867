"""Table 5 of the 2021 paper: medians of corrections, their rounding, and how many there are."""

from __future__ import annotations

import math
from decimal import Decimal

from graftsim.experiments.discovery.rounding import power_of_ten
from graftsim.experiments.papers.tables import load
from graftsim.experiments.papers.verdicts import Check, Line, Verdict, line, rounds_to

TIED = "Attention"
"""Groups whose name begins so have the one value beta (section 5)."""


def values() -> Check:
    """The set of values: powers of ten below the medians, and beta for all that is tied."""
    table = load("2021_table_5")
    free = [(name, m) for name, m in zip(table.column("group"), table.numbers("8192"), strict=True) if name[:9] != TIED]  # type: ignore[index]
    found = sorted({power_of_ten(median) for _, median in free})
    text = ", ".join([f"{value:g}" for value in found] + ["beta"])
    lines = [line("values at batch size 8192", "0.1, 1, 10, 100, beta", text)]
    lines += [Line(f"{name}, median {m:g}", "", f"{power_of_ten(m):g}") for name, m in free]
    near = sum(10.0 ** round(math.log10(median)) != power_of_ten(median) for _, median in free)
    note = (
        f"Rounding to the nearest power on a log scale would change {near} of the {len(free)} values and give 1000 for "
        "the output bias. The ten pooled rows of the attention layers must be tied too: their K bias would add 100000."
    )
    return Check(
        "five-values", 2021, "Table 5, section 5", "Do the medians round to the five values?", tuple(lines), note
    )


def printed() -> Check:
    """The table of roundings beside Figure 5 against Table 5."""
    table, shown, lines = load("2021_table_5"), load("2021_roundings"), []
    for row in shown.rows:
        name, median, rounded, group, layer = row
        exact = table.cell("8192", group=group, layer=layer)
        what = f"{name}: {group}{f' of layer {layer}' if layer else ''} in Table 5"
        agrees = rounds_to(float(median or 0), Decimal(repr(exact)), shown.decimals("median"))
        lines.append(Line(what, f"{median}", f"{exact:g}", Verdict.AGREES if agrees else Verdict.MISPRINT))
        wanted = 500.0 if str(group).startswith(TIED) else power_of_ten(exact)
        lines.append(line(f"{name}: rounded", f"{float(rounded or 0):g}", f"{wanted:g}"))
    note = "312.9 is the median of the word embeddings, a row above; layer 1's V has 48.61."
    question = "Are the medians those of Table 5, and rounded as said?"
    return Check("rounding-table", 2021, "Figure 5b against Table 5", question, tuple(lines), note)


def count() -> Check:
    """The rows of Table 5, one for each scalar."""
    groups = load("2021_table_5").column("group")
    layers = [layer for layer in load("2021_table_5").column("layer") if layer is not None]
    pooled = sum(str(group).startswith(TIED) for group in groups) - len(layers)
    parts = f"{len(groups) - pooled - len(layers)} + {pooled} pooled + {len(layers)} of 24 layers"
    lines = (line("scalars in the correction", 168, len(groups)), Line("of these", "", parts))
    question = "Is the correction a 168-dimensional hyperparameter?"
    return Check("dimensions", 2021, "Figure 5b against Table 5", question, lines)
