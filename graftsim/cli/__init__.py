"""The command line: ``graftsim list``, ``show``, ``run``, ``check`` and ``bench``, and the experiments."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from cyclopts import App, CycloptsError, Group

from graftsim.cli.commands import discovery, experiments, frameworks, machines, papers
from graftsim.errors import GraftsimError

COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Machines and runs": {
        "list": machines.list_,
        "show": machines.show,
        "run": machines.run,
        "bench": machines.bench,
    },
    "Optimizers of frameworks": {"check": frameworks.check, "translate": frameworks.translate},
    "Experiments": {
        "grid": experiments.grid,
        "zoo": experiments.zoo,
        "sweep": experiments.sweep,
        "diagnose": experiments.diagnose,
        "transfer": experiments.transfer,
    },
    "Discovery of schedules": {
        "record": discovery.record,
        "fit": discovery.fit,
        "apply": discovery.apply,
        "compare": discovery.compare,
    },
    "The papers": {"papers": papers.papers, "reproduce": papers.reproduce},
}
"""By subject, in the order of the help."""

app = App(
    name="graftsim",
    help="""The reference for learning-rate grafting: optimizers as data, and a simulator whose every bit is defined.

Machines are written as expressions: adam(lr=1e-3)#sgd is the step length of Adam in the direction of SGD. Quote them.
""",
    help_format="plaintext",
    group_commands=Group("Options", sort_key=len(COMMANDS)),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)
for place, (subject, commands) in enumerate(COMMANDS.items()):
    group = Group(subject, sort_key=place)
    for order, (name, command) in enumerate(commands.items()):
        app.command(command, name=name, group=group, sort_key=order)


def _say(message: Warning | str, *where: Any, **more: Any) -> None:
    """A warning without the line of source that it came from, which says nothing to whoever typed the command."""
    print(f"graftsim: {' '.join(str(message).split())}", file=sys.stderr)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2, and a warning is one line."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say
            app(sys.argv[1:], exit_on_error=False, print_error=False)
    except (GraftsimError, CycloptsError) as error:
        print(f"graftsim: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("graftsim: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
