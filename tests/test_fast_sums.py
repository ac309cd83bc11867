"""The compiled sums: the same values as ``graftsim.sums`` on every path, cut, block edge and thread count."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import graftsim
from graftsim import fast_cuts, fast_sums, sums
from graftsim.errors import GraftsimError
from graftsim.fast_sums import LIMBS, NARROW, WIDE, WINDOWS

DTYPES = (np.float32, np.float64)
BLOCK = fast_sums.BLOCK


def row_for(dtype):
    return np.zeros(sums.REGISTERS[np.dtype(dtype).name].width, np.int64)


def squares(x):
    row = row_for(x.dtype)
    fast_sums.add_squares(x, row)
    return row


def exact(x, y):
    return sums.rows(x, y, np.zeros(x.size, np.int64), 1)


def same_row(got, want) -> bool:
    """Are both the same number with the same non-finite terms? Carried rows are unique."""
    got, want = got.copy(), want.reshape(-1).copy()
    fast_sums.carry(got)
    fast_sums.carry(want)
    return got.tolist() == want.tolist()


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else np.float64(value).tobytes()


def check(x, y=None) -> None:
    """Every compiled sum of x (and of x y) is the definition's, as a row and rounded."""
    y = x[::-1].copy() if y is None else y
    one = np.ones_like(x)
    for operator, add, operands, pair in (
        ("norm", fast_sums.add_squares, (x,), (x, x)),
        ("sum", fast_sums.add_terms, (x,), (x, one)),
        ("dot", fast_sums.add_products, (x, y), (x, y)),
    ):
        row, want = row_for(x.dtype), exact(*pair)
        add(*operands, row)
        assert same_row(row, want), operator
        finish = fast_sums.root if operator == "norm" else fast_sums.total
        assert bits(finish(row)) == bits(sums.rounded(operator, want, x.dtype)[0]), operator


def patterns(dtype):
    unsigned = np.uint32 if dtype is np.float32 else np.uint64
    return hnp.arrays(unsigned, st.integers(0, 150)).map(lambda pattern: pattern.view(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_bit_patterns(dtype, data) -> None:
    check(data.draw(patterns(dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_patterns_near_each_other(dtype, data) -> None:
    """Exponents within a random range: hypothesis finds the paths' borders."""
    info = np.finfo(dtype)
    high = data.draw(st.integers(int(info.minexp), int(info.maxexp) - 1))
    width = data.draw(st.integers(0, 110))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    x = (1 + rng.random(100)) * np.where(rng.random(100) < 0.5, -1.0, 1.0)
    with np.errstate(under="ignore"):
        check(np.ldexp(x.astype(dtype), rng.integers(high - width, high + 1, 100)).astype(dtype))


def ones_in_every_bit(dtype, exponent: int):
    return np.ldexp(np.nextafter(dtype(2), dtype(0)), exponent)


def adversarial(dtype):
    info, inf, nan = np.finfo(dtype), dtype(np.inf), dtype(np.nan)
    tiny, tail = info.smallest_subnormal, [1.0] * 99
    with np.errstate(all="ignore"):
        yield from {
            "empty": [],
            "zeros of both signs": [0.0, -0.0] * 50,
            "minus zeros and one": [-0.0] * 80 + [3.0],
            "largest": [info.max] * BLOCK,
            "smallest normal": [info.tiny] * 100,
            "smallest": [tiny] * 100,
            "one subnormal": [0.0] * 99 + [3 * tiny],
            "a subnormal among ones": [*tail, tiny],
            "subnormals": np.arange(1, 3000) * np.float64(tiny),
            "subnormals and normals": [tiny, info.tiny, 7 * tiny, 2 * info.tiny] * 30,
            "squares that underflow": [3e-200, 4e-200, 1e-30] * 40,
            "mixed ranges": [1e308, 1e-308, 5e-324, 1.0, 1e30, 1e-44] * 20,
            "all mantissa bits": [np.nextafter(dtype(2), dtype(1))] * BLOCK,
            "all mantissa bits, three blocks": [-np.nextafter(dtype(2), dtype(1))] * (2 * BLOCK + 100),
            "half a grid": [1.5, 2.0**-25, 2.0**-26] * 700,
            "a tie that a far bit breaks": [1.0, 2.0**-27, 2.0**-70] * 40,
            "inf first": [inf, *tail],
            "inf last of a second block": [1.0] * BLOCK + [2.0] * 99 + [-inf],
            "both infinities": [inf, *tail, -inf],
            "nan": [*tail, nan],
            "nan with a sign": [*tail, -nan, 1.0],
            "nan and inf": [nan, *tail, inf],
            "inf among few": [1.0, inf],
            "all nan": [nan] * 100,
        }.items()


@pytest.mark.parametrize("dtype", DTYPES)
def test_adversarial_input(dtype) -> None:
    for name, x in adversarial(dtype):
        with np.errstate(all="ignore"):
            x = np.array(x, np.float64).astype(dtype)
        for order in (x, x[::-1].copy(), np.concatenate([np.ones(BLOCK, dtype), x])):
            try:
                check(order)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 2047, 2048, 2049, 4096, 4097, (1 << 17) - 1, (1 << 17) + 1])
def test_block_edges(dtype, size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(dtype)
    assert same_row(squares(x), exact(x, x))


def spread(dtype, high: int, binades: int):
    """Mantissas with all bits set and random ones, over exponents high down to high - binades, both ends taken."""
    rng = np.random.default_rng(binades)
    exponents = np.concatenate([[high, high - binades], rng.integers(high - binades, high + 1, 198)])
    mantissas = np.where(rng.random(200) < 0.5, ones_in_every_bit(dtype, 0), 1 + rng.random(200)).astype(dtype)
    return np.ldexp(mantissas, exponents).astype(dtype)


NARROW_REACH = {np.float32: fast_cuts.NARROW_SINGLE, np.float64: fast_cuts.NARROW_DOUBLE}
TOPS = {np.float32: (127, 60, 0, -20, -60), np.float64: (1023, 300, 0, -500, -900)}


@pytest.mark.parametrize(("dtype", "high"), [(dtype, high) for dtype in DTYPES for high in TOPS[dtype]])
def test_both_sides_of_every_reach(dtype, high: int) -> None:
    """A reach that is one too long is inexact on mantissas with all bits set."""
    narrow, wide = NARROW_REACH[dtype], fast_cuts.WIDE_REACH
    for binades, path in ((0, NARROW), (narrow, NARROW), (narrow + 1, WIDE), (wide, WIDE), (wide + 1, WINDOWS)):
        x = spread(dtype, high, binades)
        assert fast_sums.path_of(x) == path, binades
        assert same_row(squares(x), exact(x, x)), binades


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_top(dtype) -> None:
    """Grids at all heights: scales that are subnormal, and grids that reach down to the row's unit."""
    info = np.finfo(dtype)
    for high in range(int(info.minexp), int(info.maxexp), 1 if dtype is np.float32 else 7):
        for binades in (3, 24, 27, 40, 49):
            with np.errstate(under="ignore"):
                x = spread(dtype, high, binades)
            assert same_row(squares(x), exact(x, x)), (high, binades)


@pytest.mark.parametrize(
    ("dtype", "values", "path"),
    [
        (np.float32, [3e38, 1e-10, 1e-44], WINDOWS),
        (np.float32, [1e-44, 1e-40], WINDOWS),
        (np.float32, [1.0, np.inf], LIMBS),
        (np.float64, [1e300, 1.0, 1e-200], WINDOWS),
        (np.float64, [1.0, 5e-324], LIMBS),
        (np.float64, [5e-324], LIMBS),
        (np.float64, [1.0, 1e-300], LIMBS),
        (np.float64, [1.0, np.nan], LIMBS),
        (np.float64, [0.0], NARROW),
    ],
)
def test_the_fallbacks_are_taken_and_agree(dtype, values, path: int) -> None:
    x = np.array(values * 70, dtype)
    assert fast_sums.path_of(x) == path
    assert same_row(squares(x), exact(x, x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_grids_of_the_block_before_are_not_trusted(dtype) -> None:
    """Each kind of block after each other kind: what fits one must be found not to fit the next."""
    big, small = (1e30, 1e-30) if dtype is np.float32 else (1e300, 1e-280)
    rng = np.random.default_rng(0)
    plain = rng.standard_normal(BLOCK)
    kinds = [plain, plain * big, plain * small, plain * 2.0**-20, np.zeros(BLOCK), np.exp(6 * plain)]
    kinds += [np.where(np.arange(BLOCK) == 5, value, plain) for value in (np.inf, np.nan, small, 4e-324, 0.0, 9.0)]
    with np.errstate(all="ignore"):
        blocks = [kind.astype(dtype) for kind in kinds]
    rows = [squares(block) for block in blocks]
    for (first, one), (second, other) in itertools.product(enumerate(rows), repeat=2):
        assert same_row(squares(np.concatenate([blocks[first], blocks[second]])), one + other), (first, second)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unaligned_slices(dtype) -> None:
    x = np.random.default_rng(1).standard_normal(5000).astype(dtype)
    for offset in range(1, 9):
        part = x[offset : offset + 2100]
        assert same_row(squares(part), exact(part, part))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 6000), max_size=8))
def test_any_cut_adds_up_to_the_same_row(dtype, cuts) -> None:
    with np.errstate(over="ignore"):
        x = np.exp(5 * np.random.default_rng(2).standard_normal(6000)).astype(dtype)
    row = row_for(dtype)
    for part in np.split(x, sorted(cuts)):
        fast_sums.add_row(row, squares(part))
    assert same_row(row, squares(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_limbs_are_carried_before_they_overflow(dtype) -> None:
    """Rows are doubled 100 times: without carrying, int64 would wrap after about 30."""
    x = np.full(100, -ones_in_every_bit(dtype, 3), dtype)
    row, once = row_for(dtype), row_for(dtype)
    fast_sums.add_terms(x, row)
    fast_sums.add_terms(x, once)
    for _ in range(80):
        fast_sums.add_row(row, row.copy())
    assert fast_sums.total(row) == 2.0**80 * fast_sums.total(once)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_of_groups_on_one_two_and_more_threads(dtype) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(40_000).astype(dtype)
    x[rng.integers(0, x.size, 3)] = np.inf
    for starts in (
        [0, 40_000],
        [0, 0, 1, 20_000, 20_000, 20_001, 40_000, 40_000],
        [17, 39_000],
        [5, 5],
        [0],
        np.sort(rng.integers(0, 40_001, 300)),
    ):
        want = [sums.norm(x[low:high]) for low, high in itertools.pairwise(starts)]
        for threads in (1, 2, 3, 7):
            assert fast_sums.norms(x, starts, threads).tolist() == want, (starts, threads)


def test_norm_of_any_shape_and_stride() -> None:
    x = np.random.default_rng(4).standard_normal((60, 70))
    assert fast_sums.norm(x[:, ::3]) == sums.norm(x[:, ::3])
    assert fast_sums.norm(np.ldexp([3.0, 4.0], 700)) == math.ldexp(5.0, 700)


def test_roots_at_midpoints() -> None:
    """Sums at, one unit below and one above the square of a midpoint of two float64 values."""
    rng = np.random.default_rng(5)
    for _ in range(300):
        half = (1 << 53) + int(rng.integers(0, 1 << 53))
        shift = 2 * int(rng.integers(0, 2000))
        for offset in (-1, 0, 1):
            n = (half * half << shift) + offset
            row = row_for(np.float64)
            row[:-3] = [n >> 32 * limb & 0xFFFFFFFF for limb in range(row.size - 3)]
            assert bits(fast_sums.root(row.copy())) == bits(sums.rounded("norm", row[None], np.float64)[0])
            assert bits(fast_sums.total(row.copy())) == bits(sums.rounded("sum", row[None], np.float64)[0])
            assert bits(fast_sums.total(-row)) == bits(sums.rounded("sum", -row[None], np.float64)[0])


@pytest.mark.parametrize(
    ("x", "starts", "threads", "message"),
    [
        (np.ones(3, np.float16), [0, 3], 1, "float32 or float64"),
        (np.ones((3, 3)), [0, 3], 1, "flat array"),
        (np.ones(3), [0, 4], 1, "within 0 and 3"),
        (np.ones(3), [-1, 3], 1, "within 0 and 3"),
        (np.ones(3), [2, 1], 1, "must not decrease"),
        (np.ones(3), [0, 3], 0, "at least 1"),
    ],
)
def test_mistakes_are_told(x, starts, threads, message) -> None:
    with pytest.raises(GraftsimError, match=message):
        fast_sums.norms(x, starts, threads)


def test_nothing_is_compiled_with_fastmath() -> None:
    """With it, LLVM may contract and reassociate, and every proof above is void."""
    sources = list(Path(graftsim.__file__).parent.rglob("*.py"))
    assert any(source.name == "fast_sums.py" for source in sources)
    for source in sources:
        text = source.read_text(encoding="utf-8")
        assert "fastmath" not in text, source
        assert "-ffast-math" not in text, source
