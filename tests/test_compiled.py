"""The compiled engine has the bits of the reference: every machine, option, partition, dtype and thread count."""

import numpy as np
import pytest

import graftsim
from graftsim.compiled import plan, tables
from graftsim.compiled.engine import CompiledEngine
from graftsim.compiled.lowering import lower
from graftsim.errors import GraftsimError
from tests.every_machine import GRAFTS, LAYOUT, MATRICES, expressions

SHAPES = {"a": (3, 5), "b": (4,), "s": (), "e": (0, 2), "c": (2, 3, 2)}
PARTITIONS = [
    "global",
    "tensor",
    "coordinate",
    "row",
    "block(3)",
    "pattern(x=['a', 'c'], rest=None)",
    "sets(x={'a': [0, 7, 3], 's': [0]}, rest=None)",
]
SPECIAL = [0.0, -0.0, 5e-324, -1e-310, 1e-45, 1e-38, 3e38, 1e308, -1e200, 1e-200, np.inf, -np.inf, np.nan]


def gradients(size: int, dtype: str, special: bool):
    """Six gradients over many magnitudes; with ``special``, zeros, subnormals, extremes and non-finite ones too."""
    rng = np.random.default_rng(11)
    out = rng.standard_normal((6, size)) * 10.0 ** rng.integers(-4, 4, (6, size))
    if special:
        out[3:].flat[rng.permutation(3 * size)[: size // 2]] = rng.choice(SPECIAL, size // 2)
        out[1] = 0
    with np.errstate(over="ignore", under="ignore"):
        return out.astype(dtype)


def canonical(array) -> bytes:
    """The bits, with one NaN for all (GS-arithmetic-nan-bits)."""
    return np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array).tobytes()


def assert_same(expression: str, layout, dtype: str, threads: int, special: bool, missing: bool = False) -> None:
    program = graftsim.build(expression, layout, dtype)
    reference, compiled = graftsim.Engine(program), CompiledEngine(program, threads)
    weights = np.linspace(-1, 1, program.layout.size).astype(dtype)
    state, fast, fast_state = reference.initial_state(), weights.copy(), compiled.initial_state()
    for step, flat in enumerate(gradients(program.layout.size, dtype, special), 1):
        given = flat
        if missing and step % 2 == 0:
            given = [None if n == step % 3 else part for n, part in enumerate(program.layout.unflatten(flat))]
        out = reference.step(weights, given, state, step)
        info = compiled.step(fast, given, fast_state, step)
        weights, state = out.weights, out.state
        assert canonical(fast) == canonical(weights), (expression, step, "weights")
        for path, value in state.items():
            assert canonical(fast_state[path]) == canonical(value), (expression, step, path)
        for path, value in out.info.items():
            assert canonical(info[path]) == canonical(value), (expression, step, path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "expression", [each for each in [*expressions(), *GRAFTS] if not each.startswith(MATRICES)], ids=str
)
def test_every_machine(expression: str, dtype: str) -> None:
    assert_same(expression, LAYOUT, dtype, 1, special=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_every_partition(partition: str, dtype: str) -> None:
    assert_same(f"graft(adam(eps=0.01), momentum, partition={partition})", SHAPES, dtype, 1, special=True)
    assert_same(f"graft(adam, rmsprop, partition={partition}, eps=0.1)#sgd", SHAPES, dtype, 2, special=True)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_missing_gradients(partition: str) -> None:
    assert_same(f"graft(adam, momentum(missing=advance), partition={partition})", SHAPES, "float64", 2, False, True)


def test_group_state_and_reductions_inside_a_child() -> None:
    assert_same("novograd(lr=0.1)#lamb", SHAPES, "float64", 2, False, True)
    assert_same("lamb(lr=0.1)#novograd", SHAPES, "float32", 1, special=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_chunks_are_invisible(dtype: str, threads: int, monkeypatch) -> None:
    monkeypatch.setattr(plan, "CHUNK", 3000)
    layout = {"a": (5000,), "b": (3,), "c": (70, 100), "d": (2048,)}
    for partition in ("global", "tensor", "block(2500)", "row"):
        assert_same(f"graft(adam, momentum, partition={partition})", layout, dtype, threads, special=False)


def test_tables_of_many_steps_have_the_bits_of_single_ones() -> None:
    program = graftsim.build("adam(lr=1/sqrt(step), beta2=0.9999)#momentum(nesterov=on)", {"a": (2,), "b": (2,)})
    lowered, engine = lower(program), graftsim.Engine(program)
    state = engine.initial_state()
    state["magnitude.t"] = np.array([0.0, 500.0])
    many = tables.make(lowered, state, 1, 3000, {})
    for k in (0, 1, 7, 1023, 1024, 1025, 2999):
        single = {path: value + k if path.endswith(".t") else value for path, value in state.items()}
        one = tables.make(lowered, single, 1 + k, 1, {})
        for name, table in one.items():
            row = many[name][k if len(many[name]) > 1 else 0]
            assert row.tobytes() == table[0].tobytes(), (name, k)


@pytest.mark.parametrize("base", [0.9, 0.999, 0.9999, 0.5, 1 - 2.0**-40, 0.1])
def test_runs_of_powers_are_correctly_rounded(base: float) -> None:
    from graftsim import scalars

    for minus, exact in ((False, scalars.power), (True, scalars.one_minus_power)):
        run = tables._run_of_powers(base, 1, 5000, minus)
        assert run.tolist() == [exact(base, t) for t in range(1, 5001)]


def test_the_second_start_compiles_nothing(tmp_path, monkeypatch) -> None:
    import subprocess
    import sys

    monkeypatch.setenv("GRAFTSIM_CACHE", str(tmp_path))
    program = (
        "import numpy as np, graftsim\nfrom graftsim.compiled.engine import CompiledEngine\n"
        "p = graftsim.build('adam#sgd', {'w': (5,)})\ne = CompiledEngine(p)\n"
        "e.step(np.zeros(5), np.ones(5), e.initial_state(), 1)\n"
        "print(sum(sum(f.stats.cache_misses.values()) for n, f in vars(e.module).items() if hasattr(f, 'stats')))\n"
    )
    first, second = (
        int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
        for _ in range(2)
    )
    assert first > 0
    assert second == 0


def test_a_cache_that_cannot_be_written_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setenv("GRAFTSIM_CACHE", "/proc/none")
    with pytest.raises(graftsim.GraftsimError, match=r"cannot write .*; set GRAFTSIM_CACHE to a folder"):
        CompiledEngine(graftsim.build("scaled(scaled(scaled(momentum)))", {"w": (2,)}))


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("sgd", [(2, 1)]),
        ("adam", [(4, 3)]),
        ("adam#momentum", [(4, 3), (2, 1)]),
        ("momentum#adam", [(4, 3), (3, 1)]),
        ("adam#sgd", [(3, 2), (2, 1)]),
    ],
)
def test_words_moved(expression: str, words: list[tuple[int, int]]) -> None:
    """The plan moves what a careful person would: read and write each array once a pass, recompute the direction."""
    assert lower(graftsim.build(expression, {"w": (4,)})).words() == words


def test_a_value_whose_operands_were_overwritten_is_kept() -> None:
    """A direction that reads state from before the step, as Lion's does, cannot be repeated in the second pass."""
    program = graftsim.build("adam#lion", {"w": (7,)})
    assert [each.stores for each in lower(program).passes] == [("direction.delta",), ()]
    for direction in ("lion", "adadelta", "lamb"):
        assert_same(f"adam#{direction}(lr=0.1)", SHAPES, "float64", 1, special=True)


def test_fast_math_is_nowhere() -> None:
    from pathlib import Path

    folder = Path(graftsim.__file__).parent
    assert not [path for path in folder.rglob("*.py") if "fastmath" in path.read_text()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forks_and_pools(dtype: str) -> None:
    """Tensors of rank 0 to 3 take their own lists of equations; rows and columns of each are pooled."""
    for expression in ("adafactor(least_size=2, momentum_form=step)#lars(least_rank=2)", "decay_first(adafactor)"):
        assert_same(expression, SHAPES, dtype, 2, special=True)
        assert_same(expression, SHAPES, dtype, 1, special=False, missing=True)


def test_matrices_are_refused() -> None:
    program = graftsim.build("shampoo", {"w": (2, 2)})
    with pytest.raises(GraftsimError, match="not compiled; run shampoo on the numpy engine"):
        CompiledEngine(program)
