"""A job that tells how long another took."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from graftsim.experiments.jobs import Job

DO = "graftsim.experiments.reproduce.timed:do"


def do(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a job, and the seconds that it took."""
    job = Job(function, arguments)
    start = time.perf_counter()
    result = json.loads(job.do())
    return {"seconds": round(time.perf_counter() - start, 3), "result": result}


def timed(job: Job) -> Job:
    """The job that does ``job`` and takes its time."""
    return Job(DO, {"function": job.function, "arguments": job.arguments})
