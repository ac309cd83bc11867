"""Transfer: D alone against M#D, searched with the same budget (2021 paper, section 4)."""

from __future__ import annotations

from typing import Any

from graftsim.experiments.jobs import Job
from graftsim.experiments.ledger import Ledger
from graftsim.experiments.reproduce.findings import (
    Asking,
    Claim,
    Finding,
    Number,
    Picture,
    Size,
    Verdict,
    left_out,
    over_seeds,
)
from graftsim.experiments.reproduce.pictures import PALETTE, Drawing
from graftsim.experiments.search import metrics, spaces
from graftsim.experiments.search.transfer import Plan, transfer
from graftsim.experiments.trials import Trial

PROBLEM, STEPS, BUDGET, SEEDS = "next_word", 400, 9, 5
MAGNITUDE, DIRECTION = "adam", "momentum"


def search(problem: str, steps: int, budget: int, seeds: int, magnitude: str, direction: str) -> dict[str, Any]:
    """A job: the whole comparison, and what the seeds allow to be said of it."""
    select, report = metrics.parse("selection loss"), metrics.parse("test loss")
    base = Trial(problem, "", steps, 0, "float64", steps)
    found = transfer(
        Plan(base, spaces.load(magnitude), spaces.load(direction), budget, seeds, select, report), Ledger()
    )
    gap = found.gap
    return {
        "arms": {
            arm.name: {
                "trials": [row.metric for row in arm.told],
                "diverged": arm.diverged,
                "best": arm.best.proposal.trial.machine,
                "report": list(arm.report),
            }
            for arm in found.arms
        },
        "closed": gap.closed,
        "there": gap.there.holds,
        "half": gap.half.holds,
        "signs": gap.half.text(),
        "verdict": gap.verdict,
    }


def closes(size: Size) -> Asking:
    """Adam, SGD and Adam#SGD on the next word."""
    if size.quick:
        return (yield from left_out("Left out with --quick: it has some forty runs."))
    arguments = {"problem": PROBLEM, "steps": STEPS, "budget": BUDGET, "seeds": SEEDS}
    (found,) = yield [
        Job(
            "graftsim.experiments.reproduce.transfers:search",
            {**arguments, "magnitude": MAGNITUDE, "direction": DIRECTION},
        )
    ]
    arms = found["arms"]
    numbers = [over_seeds(f"test loss of the best {name}", arm["report"], 4) for name, arm in arms.items()]
    numbers.append(Number("part of the gap between D and M that M#D closes", f"{found['closed']:.2f}", SEEDS))
    numbers.append(Number("M#D beyond the middle of the gap", found["signs"], SEEDS))
    numbers.append(Number("trials of each search", str(BUDGET)))
    drawing = Drawing()
    with drawing as (axis,):
        for i, (name, arm) in enumerate(arms.items()):
            best = [min(arm["trials"][: k + 1]) for k in range(len(arm["trials"]))]
            axis.plot(range(1, len(best) + 1), best, "o-", color=PALETTE[i], ms=4, label=name)
        axis.set(xlabel="trials", ylabel="best selection loss so far")
        axis.legend()
    verdict = Verdict.of(found["half"]) if found["there"] else Verdict.UNDECIDED
    note = f"{found['verdict'][0].upper()}{found['verdict'][1:]}. The seeds of the report are not those of the search."
    return Finding(verdict, tuple(numbers), (Picture("Best so far, by trial.", drawing.svg),), note)


CLAIMS = (
    Claim(
        "transfer",
        2021,
        "Section 4",
        "Under the same tuning protocol and budget, M#D closes the gap between D and M.",
        f"A log-bilinear model of the next word, {STEPS} steps; M = Adam, D = SGD with momentum, "
        "quasi-random searches of "
        f"{BUDGET} trials each, selection by one part of the text and report on another.",
        "More than half of the gap is closed, by a sign test over five further seeds at 5 percent. "
        "Not decidable where D is not shown to be worse than M.",
        closes,
    ),
)
