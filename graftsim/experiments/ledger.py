"""The ledger: which jobs are done, and what came of them, so that work that was stopped goes on where it was.

It is a :mod:`graftsim.journal`, like the suite's in ``graftsim_conformance.ledger``. They are two classes because what
cannot be written down is an error here, where hours of work are at stake that the user may have named a file for, and
costs a check, whose verdict counts, nothing but the possibility to go on.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

from graftsim import documents
from graftsim.experiments.jobs import Job
from graftsim.experiments.queue_ranks import lead
from graftsim.journal import Journal
from graftsim.versions import version

FORMAT = "graftsim ledger 1"


def place(study: str) -> Path:
    """Where the ledger of a study is by default: under a digest of what is studied and of graftsim's version."""
    digest = sha256(json.dumps([study, version()]).encode()).hexdigest()
    return documents.cache_folder() / "experiments" / f"{digest[:32]}.jsonl"


class Ledger:
    """Results by job.

    Args:
        path: the file; None keeps all in memory. Over the ranks of MPI it is rank 0's, and the others serve from here
            on; see :func:`graftsim.experiments.queue_ranks.lead`.
        study: what is studied, in one line; a file that was begun for something else is refused.

    Raises:
        GraftsimError: a file that cannot be written, is no ledger, is that of another study or version, is too large,
            or is being written by another process.
    """

    def __init__(self, path: Path | None = None, study: str = "") -> None:
        self.path = path
        self._found: dict[str, str] = {}
        self._journal: Journal | None = None
        if path is not None:
            lead()  # the file is rank 0's
            header = {"format": FORMAT, "graftsim": version(), "study": study}
            self._journal = Journal(path, header, self._take)

    def __contains__(self, job: Job) -> bool:
        return job.id in self._found

    def __getitem__(self, job: Job) -> Any:
        """The result of a job, each time anew."""
        return json.loads(self._found[job.id])

    def __len__(self) -> int:
        return len(self._found)

    def add(self, job: Job, result: Any) -> None:
        """Write down the result of a job, a value that JSON can hold."""
        self.write(job, json.dumps(result))

    def write(self, job: Job, result: str) -> None:
        """As :meth:`add`, of a result that is JSON text already. The row is with the operating system on return."""
        if self._journal is not None:
            told = json.dumps({"job": job.id, "function": job.function, "arguments": job.arguments})
            self._journal.append(f'{told[:-1]}, "result": {result}}}')
        self._found[job.id] = result

    def close(self) -> None:
        """Let others write the file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, row: Any) -> None:
        if Job(row["function"], row["arguments"]).id == row["job"]:
            self._found[row["job"]] = json.dumps(row["result"])
