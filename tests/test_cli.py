"""The command line as a user meets it: what it prints, its exit codes, and one line for each mistake."""

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from graftsim import cli, trajectory

BOMB = "machine: m\ntitle: &a [x, x]\nsource: [*a, *a]\nstep: [delta = g]\n"
LOOP = "machine: &a [*a]\n"
OUTSIDE = "machine: m\ntitle: t\nsource: s\nstep: [\"delta = __import__('os').system('true')\"]\n"
UNKNOWN = "machine: m\ntitle: t\nsource: s\nstep: [delta = gg]\n"
MISMATCH = "machine: m\ntitle: t\nsource: s\nstep: [delta = g ** 2]\n"


MISTAKES = {
    "unknown machine": (["show", "adamm"], "unknown machine 'adamm'; did you mean 'adam'?"),
    "unknown machine in a graft": (["show", "adam#sgdd"], "did you mean 'sgd'?"),
    "wrong domain": (["show", "adam(beta1=1.5)"], "beta1: must lie in [0, 1); received 1.5"),
    "unknown command": (["shwo"], 'Did you mean "show"?'),
    "unknown option": (["show", "adam", "--verbos"], "verbos"),
    "a missing argument": (["show"], "machine"),
    "unknown run": (["run", "adagrad-vs-sdg"], "did you mean 'adagrad-vs-sgd'?"),
    "a machine without a problem": (["run", "adam#sgd"], "name a problem"),
    "unknown problem": (["run", "sgd", "--problem", "quadratics()"], "did you mean 'quadratic'?"),
    "code in a problem": (["run", "sgd", "--problem", "__import__('os')"], "arguments are given by name"),
    "a bad dtype": (["run", "sgd", "--problem", "quadratic(dimension=2)", "--dtype", "float16"], "float32 or float64"),
    "a bad engine": (["run", "sgd", "--problem", "quadratic(dimension=2)", "--engine", "cuda"], "numpy or compiled"),
    "a negative number of steps": (["run", "sgd", "--problem", "quadratic(dimension=2)", "--steps", "-1"], "steps"),
    "a picture of another kind": (
        ["run", "sgd", "--problem", "quadratic(dimension=2)", "--plot", "x.gif"],
        "--plot must end in .png, .svg, .pdf; received x.gif",
    ),
    "a place that cannot be written": (
        ["run", "sgd", "--problem", "quadratic(dimension=2)", "--out", "/proc/none/x.npz"],
        "cannot write",
    ),
    "overlapping groups": (
        [
            *["run", "graft(sgd, sgd, partition=sets(a={'w': [0]}, b={'w': [0, 1]}))"],
            *["--problem", "quadratic(dimension=2)"],
        ],
        "coordinate w[0] is in a and in b",
    ),
    "values of the wrong shape": (
        ["run", "sgd(lr=[1, 2, 3])", "--problem", "quadratic(dimension=2)"],
        "tensor 'w' must have shape (2,); received (3,)",
    ),
    "a bomb": (["show", "m", "--machine-file", "bomb.yaml"], "aliases are not allowed"),
    "a loop": (["show", "m", "--machine-file", "loop.yaml"], "aliases are not allowed"),
    "a call of anything": (["show", "m", "--machine-file", "outside.yaml"], "not allowed"),
    "an unknown name": (["show", "m", "--machine-file", "unknown.yaml"], "unknown name 'gg'"),
    "a kind mismatch": (["show", "m", "--machine-file", "mismatch.yaml"], "kind mismatch"),
    "no such file": (["show", "m", "--machine-file", "none.yaml"], "No such file"),
    "cyclic children": (["show", "first", "--machine-file", "first.yaml", "--machine-file", "second.yaml"], "cyclic"),
    "a run file with an unknown key": (["run", "bad.yaml"], "'steps' is a required property"),
    "a target without a module": (["check", "Adam"], "module:attribute"),
    "a target that cannot be imported": (["check", "no.such.module:Adam"], "cannot import no.such.module"),
    "a target that is not there": (["check", "torch.optim:Adan"], "did you mean 'Adam'?"),
    "a target without a dialect": (["check", "torch.optim:LBFGS"], "LBFGS"),
    "a machine of another kind": (["check", "torch.optim:Adam", "--as", "sgd"], "sgd"),
    "a bench that is none": (["bench", "stepp"], "step"),
}


@pytest.mark.parametrize(("arguments", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(run, tmp_path, arguments: list[str], problem: str) -> None:
    files = {"bomb": BOMB, "loop": LOOP, "outside": OUTSIDE, "unknown": UNKNOWN, "mismatch": MISMATCH}
    for name, child in (("first", "second"), ("second", "first")):
        files[name] = (
            f"machine: {name}\ntitle: t\nsource: s\nchildren: {{inner: {child}}}\nstep: [delta = inner.delta]\n"
        )
    files["bad"] = "problem: quadratic(dimension=2)\nmachine: sgd\nstepps: 3\n"
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    code, _, err = run(*arguments)
    assert code == 2
    assert problem in err
    assert err.startswith("graftsim: ")
    assert err.count("\n") == 1


def test_list_names_everything(run) -> None:
    code, out, _ = run("list")
    assert code == 0
    for name in ("adam", "graft", "wilson", "adagrad-vs-sgd", "torch.optim:Adam", "optax:adagrad", "block(n)"):
        assert name in out


def test_show_has_state_equations_options_source_and_dialects(run) -> None:
    _, out, _ = run("show", "adam")
    for text in ("Kingma & Ba", "m = beta1 * m + (1 - beta1) * g", "if eps_placement is hat", "[0, 1)", "optax:adam"):
        assert text in out


def test_show_prints_the_explicit_form(run) -> None:
    _, out, _ = run("show", "adam#(sgd#adagrad(eps=0))")
    assert "graft(adam(lr=0.001" in out
    assert "2 exchange(s) a step" in out
    _, again, _ = run("show", "graft(adam, graft(sgd, adagrad(eps=0)), partition=tensor)")
    assert again == out


def test_show_source(run) -> None:
    _, out, _ = run("show", "adam#momentum", "--source")
    assert "pass 0 reads 4 and writes 3 words" in out
    compile(out, "shown", "exec")


def test_run_saves_and_draws(run, tmp_path: Path) -> None:
    code, out, _ = run(
        *["run", "adam(lr=0.1)#sgd", "--problem", "quadratic(dimension=3)", "--steps", "7"],
        *["--out", "run.npz", "--plot", "run.png"],
    )
    assert code == 0
    assert "saved run.npz" in out
    assert trajectory.load(tmp_path / "run.npz").steps.tolist() == list(range(8))
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_run_file_with_several_runs(run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "title: Mine\nruns:\n"
        "  - {problem: not_descent(), machine: 'sgd(lr=[1.9, 1e-4]) # sgd(lr=[1e-3, 0.019])', steps: 1, "
        "prediction: one step, name: graft}\n"
        "  - {problem: not_descent(), machine: 'sgd(lr=[1e-3, 0.019])', steps: 1, name: direction}\n"
    )
    code, out, _ = run("run", "mine.yaml", "--out", "folder")
    assert code == 0
    assert "141.2" in out
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["01.npz", "02.npz"]


def test_check_says_equivalent_or_where_it_is_not(run, tmp_path: Path) -> None:
    code, out, _ = run("check", "torch.optim:Adam", "--json", "report.json")
    assert code == 0
    assert "equivalent" in out.splitlines()[-1]
    assert json.loads((tmp_path / "report.json").read_text())["passed"] is True
    code, out, _ = run("check", "torch.optim:Adam", "--as", "adam(eps_placement=inside)")
    assert code == 1
    for text in ("first difference", "ulps", "the spec says: adam:", "hint: it agrees with eps_placement=corrected"):
        assert text in out


def test_both_engines_print_the_same(run) -> None:
    command = ["run", "adam(lr=0.1)#momentum", "--problem", "quadratic(dimension=5)", "--steps", "50"]
    assert run(*command) == run(*command, "--engine", "compiled")


def test_help_is_quick_to_import() -> None:
    """Neither help nor ``import graftsim`` may load what only some commands need."""
    names = ("numba", "torch", "jax", "matplotlib", "sklearn", "mpmath", "jsonschema")
    heavy = f"[m for m in {names} if m in sys.modules]"
    for load in ("import graftsim", "import graftsim.cli"):
        program = f"import sys\n{load}\nassert not {heavy}, {heavy}"
        subprocess.run([sys.executable, "-c", program], check=True)


def test_an_interrupted_run_keeps_what_it_did(run, monkeypatch, tmp_path: Path) -> None:
    from graftsim.problems.quadratic import Quadratic

    real = Quadratic.gradients

    def interrupted(self, weights, step, seed):
        if step == 5:
            raise KeyboardInterrupt
        return real(self, weights, step, seed)

    monkeypatch.setattr(Quadratic, "gradients", interrupted)
    code, out, err = run("run", "sgd", "--problem", "quadratic(dimension=2)", "--steps", "9", "--out", "part.npz")
    assert code == 130
    assert err == "graftsim: stopped\n"
    assert "saved part.npz" in out
    part = trajectory.load(tmp_path / "part.npz")
    assert not part.meta.complete
    assert np.array_equal(part.steps, np.arange(5))


# -- help --------------------------------------------------------------------------------------------------------------

NAMES = [name for commands in cli.COMMANDS.values() for name in commands]


def help_of(*name: str) -> str:
    """In a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    cli.app.help_print(name, console=console)
    return console.file.getvalue()


def test_help_is_by_subject_and_names_every_command(run) -> None:
    assert run("--help")[0] == 0
    out = help_of()
    places = [out.index(f"│ {name} ") for name in NAMES]
    assert places == sorted(places)
    titles = [out.index(f"─ {subject} ─") for subject in [*cli.COMMANDS, "Options"]]
    assert titles == sorted(titles)


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command(name: str) -> None:
    """80 columns hold it, each parameter says what it is, and each example can be typed as it stands."""
    out = help_of(name)
    assert max(map(len, out.splitlines())) <= 80
    for argument in cli.app[name].assemble_argument_collection(parse_docstring=True):
        if argument.parse and "*" not in argument.name:
            assert argument.parameter.help, argument.name
    examples = re.search(r"^Examples?: (.*?)\n\n", out, re.MULTILINE | re.DOTALL)
    assert examples
    lines = re.sub(r"\\\n|\|\n", lambda found: found[0][0].replace("\\", " "), examples[1]).splitlines()
    assert any(line.strip().startswith(f"graftsim {name}") for line in lines)
    for line in lines:
        for part in line.split(" | "):
            program, *words = shlex.split(part)
            assert program == "graftsim"
            cli.app.parse_args(words, exit_on_error=False, print_error=False)


def test_help_loads_nothing_of_what_commands_do() -> None:
    program = (
        "import sys, graftsim; before = set(sys.modules); import graftsim.cli; "
        "print(*sorted(name for name in set(sys.modules) - before if name.startswith('graftsim')))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    commands = ("discovery", "experiments", "frameworks", "machines", "papers")
    expected = ["graftsim.cli", "graftsim.cli.commands", *(f"graftsim.cli.commands.{name}" for name in commands)]
    assert done.stdout.split() == [*expected, "graftsim.cli.options"]


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_warning_is_one_line_without_source(run):
    code, out, err = run(
        "run", "full_adagrad(lr=0.1)", "--problem", "quadratic(dimension=2)", "--steps", "1", "--engine", "compiled"
    )
    assert (code, err) == (0, "graftsim: run by the reference engine, since machines with matrices are not compiled\n")
    assert "loss" in out
