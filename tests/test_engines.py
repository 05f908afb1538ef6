"""Every engine against the specification: all rows, chained rows, generated formats and adders, shapes, threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from directed import all_rows, directed
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from emulator import cases, engine_c
from emulator.engine_numba import fmas, lanes
from emulator.engines import ENGINES
from emulator.errors import EngineUnavailable
from emulator.formats import FORMATS, Float, Integer
from emulator.instructions import Adder, Instruction, find

pytestmark = pytest.mark.sanitize
no_c = pytest.mark.skipif(not engine_c.available(), reason=f"no C engine: {engine_c.why_not()}")
engines = pytest.mark.parametrize("engine", ["numba", pytest.param("c", marks=no_c)])
ISAS = ("portable", "avx2", "avx512", "avx512fp16")     # the last one last: after a test, all is allowed again


class Operands(NamedTuple):
    """What an engine takes: codes a (B, m, k), b (B, n, k), c (B, m, n), scales (B, m or n, k / block) or None."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    scale_a: np.ndarray | None = None
    scale_b: np.ndarray | None = None


def run(engine: str, row: Instruction, operands: Operands) -> np.ndarray:
    d = np.full(operands.c.shape, 0xA5, row.d.code_dtype)
    before = [None if x is None else x.copy() for x in operands]
    ENGINES[engine](row, *operands, d)
    for x, y in zip(operands, before):
        assert x is None or np.array_equal(x, y), "an operand was overwritten"
    return d


def check(row: Instruction, operands: Operands, got: np.ndarray, want: np.ndarray) -> None:
    """Equal, or a failure that can be pasted: the first element that differs, with its operands."""
    wrong = np.argwhere(got != want)
    if len(wrong):
        batch, i, j = (int(x) for x in wrong[0])
        places = (batch, i), (batch, j), (batch, i, j), (batch, i), (batch, j)
        listed = "\n".join(f"  {name} = {[hex(code) for code in np.atleast_1d(x[place])]}"
                           for name, x, place in zip(Operands._fields, operands, places) if x is not None)
        pytest.fail(f"{len(wrong)} of {got.size} elements of {row} differ; d[{batch}, {i}, {j}] is {got[batch, i, j]:#x}, "
                    f"the specification says {want[batch, i, j]:#x}\n{listed}")


def arithmetic(row: Instruction) -> Instruction:
    """The row without what no arithmetic reads: rows that agree in the rest must give the same bits."""
    return replace(row, arch="", name="", m=3, n=3, sources=(), recorded="", note="")


ARITHMETICS = {arithmetic(row): str(row) for row in reversed(all_rows())}
arithmetics = pytest.mark.parametrize("row", ARITHMETICS, ids=ARITHMETICS.values())


def uniform(row: Instruction, tiles: int, seed: int, k: int | None = None) -> Operands:
    """Any bits at all: a NaN in most rows of the wider formats, garbage in the bits that a format ignores."""
    rng, k = np.random.default_rng(seed), k or row.k
    shapes = [(row.a, (tiles, row.m, k)), (row.b, (tiles, row.n, k)), (row.c, (tiles, row.m, row.n))]
    if row.scale:
        shapes += [(row.scale, (tiles, row.m, k // row.block)), (row.scale, (tiles, row.n, k // row.block))]
    return Operands(*(rng.integers(0, (1 << f.bits) - 1, s, np.uint64, endpoint=True).astype(f.code_dtype)
                      for f, s in shapes))


def generated(row: Instruction, tiles: int, seed: int, probes: bool = False) -> Operands:
    """The classes of emulator.cases: close exponents, cancellation, ties, the floor, overflow, NaN ..."""
    made = cases.generate(row, tiles, seed, probes)
    b, scale_b = (None if x is None else np.ascontiguousarray(x.swapaxes(1, 2)) for x in (made.b, made.scale_b))
    return Operands(made.a, b, made.c, made.scale_a, scale_b)


@cache
def judged(row: Instruction, kind: str, tiles: int, seed: int, chained: int = 1) -> tuple[Operands, np.ndarray]:
    """Operands and what the specification makes of them, once for all engines."""
    if kind == "uniform":
        operands = uniform(row, tiles, seed, row.k * chained)
        if chained > 1 and isinstance(row.d, Integer):
            operands.c[:] = row.d.max               # every instruction overflows that does not take away: clamped each?
    else:
        parts = [generated(row, tiles, seed + i, kind == "probes") for i in range(chained)]
        joined = [None if parts[0][i] is None else np.concatenate([part[i] for part in parts], 2) for i in range(5)]
        operands = Operands(*joined)._replace(c=parts[0].c)
    return operands, run("exact", row, operands)


@engines
@pytest.mark.parametrize("row", all_rows(), ids=str)
def test_every_row_on_directed_vectors(row, engine):
    vectors = directed(row)
    operands = Operands(*(np.array([[vector[i]] for vector in vectors], f.code_dtype) if f else None
                          for i, f in ((1, row.a), (2, row.b))),
                        np.array([[[vector.c]] for vector in vectors], row.c.code_dtype),
                        *(np.array([[vector[i]] for vector in vectors], row.scale.code_dtype) if row.scale else None
                          for i in (4, 5)))
    check(row, operands, run(engine, row, operands), np.array([[[v.want]] for v in vectors], row.d.code_dtype))


@engines
@arithmetics
def test_every_arithmetic_on_generated_cases(row, engine):
    for kind, tiles in (("uniform", 2), ("cases", 13)):
        operands, want = judged(row, kind, tiles, seed=1)
        check(row, operands, run(engine, row, operands), want)
        for isa in ISAS if engine == "c" else ():
            engine_c.limit_isa(isa)
            check(row, operands, product(row, operands), want)


def product(row: Instruction, operands: Operands) -> np.ndarray:
    """What the kernels for whole products make of it, on the instruction set that is allowed."""
    d = np.full(operands.c.shape, 0xA5, row.d.code_dtype)
    a, b, c, scale_a, scale_b = operands
    engine_c.product(row, a, b.swapaxes(1, 2), c, scale_a, None if scale_b is None else scale_b.swapaxes(1, 2), d)
    return d


@engines
@arithmetics
def test_every_arithmetic_chained(row, engine):
    """k = 3 ins.k: the instruction three times, each D the next C."""
    if row.c == row.d:
        for kind in ("uniform", "cases"):
            small = replace(row, m=2, n=2)
            operands, want = judged(small, kind, 2 + 4 * (kind == "cases"), seed=2, chained=3)
            check(small, operands, run(engine, small, operands), want)


@pytest.mark.exhaustive
@engines
@arithmetics
def test_every_arithmetic_on_many_cases(row, engine):
    tile = replace(row, m=8, n=8)
    for seed in range(3):
        for kind, tiles in (("uniform", 4), ("cases", 52), ("probes", 90)):
            operands, want = judged.__wrapped__(tile, kind, tiles, seed)
            check(tile, operands, run(engine, tile, operands), want)


# --- generated formats and adders ------------------------------------------------------------------------------------

@st.composite
def floats(draw, specials=("ieee", "fn", "fnuz", "finite", "exponent"), signed=None):
    """A float format of 3 to 9 bits, its bias up to 20 off the middle, sometimes in a wider container."""
    policy = draw(st.sampled_from(specials))
    signed = policy != "exponent" and (policy == "fnuz" or (draw(st.booleans()) if signed is None else signed))
    exp_bits = draw(st.integers(2, 8 if policy == "exponent" else 6))
    least = max(policy == "ieee", 3 - exp_bits - signed)
    frac_bits = 0 if policy == "exponent" else draw(st.integers(least, 9 - exp_bits - signed))
    bias = (1 << (exp_bits - 1)) - 1 + draw(st.integers(-20, 20) | st.just(0))
    pads = draw(st.tuples(*[st.sampled_from([0, 0, 0, 1, 3])] * 2)) if policy != "exponent" else (0, 0)
    return Float("generated", exp_bits, frac_bits, bias, policy, signed, *pads)


@st.composite
def rows(draw):
    """A chain over a generated adder between generated formats, some block scaled; D can say NaN."""
    a, b = draw(floats()), draw(floats())
    d = draw(floats(specials=("ieee", "fn", "fnuz"), signed=True) | st.sampled_from([FORMATS["float16"], FORMATS["float32"]]))
    c = draw(st.just(d) | floats())
    frac = draw(st.integers(0, 40))
    adder = Adder("generated", draw(st.sampled_from([16, 32, 64, 128, 256])), frac, draw(st.integers(0, 52 - frac)))
    block = draw(st.sampled_from([0, 0, 1, 2, 4]))
    k = draw(st.integers(1, 3)) * (block or draw(st.integers(1, 7)))
    scale = draw(floats(specials=("exponent",))) if block else None
    rnd = draw(st.sampled_from([None, "rne", "rna", "rz", "rd", "ru", "ro"]))
    return Instruction("generated", "chain", 2, 2, k, a, b, c, d, "chain", adder, scale, block, rnd)


@st.composite
def problems(draw):
    row = draw(rows())
    times = draw(st.integers(1, 2)) if row.c == row.d else 1

    def codes(fmt, *shape):
        size = int(np.prod(shape))
        return np.array(draw(st.lists(st.integers(0, (1 << fmt.bits) - 1), min_size=size, max_size=size)),
                        fmt.code_dtype).reshape(1, *shape)
    scales = [codes(row.scale, 2, times * row.k // row.block) for _ in "ab"] if row.block else [None, None]
    return row, Operands(codes(row.a, 2, times * row.k), codes(row.b, 2, times * row.k), codes(row.c, 2, 2), *scales)


def compare(engine: str, row: Instruction, operands: Operands) -> None:
    try:
        got = run(engine, row, operands)
    except EngineUnavailable as refusal:
        assert "cannot do" in str(refusal)
        reject()
    check(row, operands, got, run("exact", row, operands))


@engines
@settings(max_examples=200)
@given(problem=problems())
def test_generated_rows(engine, problem):
    compare(engine, *problem)


@pytest.mark.exhaustive
@engines
@settings(max_examples=20_000)
@given(problem=problems())
def test_many_generated_rows(engine, problem):
    compare(engine, *problem)


@engines
def test_a_result_without_fraction_bits_is_refused(engine):
    """Its ties go to the even exponent, which exact alone knows: 3 * 2**-5 becomes 2**-4 (field 6), not 2**-3."""
    operand, d = Float("operand", 3, 0, 3, "exponent", False), Float("result", 4, 1, 10)
    adder = Adder("generated", 32, 0, 0)
    row = Instruction("generated", "chain", 1, 1, 3, operand, operand, d, d, "chain", adder, None, 0, None)
    operands = Operands(np.ones((1, 1, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 1), np.uint8), None, None)
    assert run("exact", row, operands) == 6 << 1
    with pytest.raises(EngineUnavailable, match="cannot do"):
        run(engine, row, operands)


DOUBLES = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1.0, 2.0**-1022, 5e-324, 2.0**-537, 2.0**1023, 1 + 2.0**-52])


@engines
@settings(max_examples=400)
@given(x=DOUBLES, y=DOUBLES, z=DOUBLES, near=st.sampled_from(["", "product", "tail"]),
       rnd=st.sampled_from(["rne", "rna", "rz", "rd", "ru", "ro"]))
def test_fma_of_doubles(engine, x, y, z, near, rnd):
    """Also where z takes away the product rounded, so that its tail remains, or the tail, so that nothing remains."""
    with np.errstate(all="ignore"):
        rounded = np.float64(x) * y
    if near == "product":
        z = -rounded
    elif near == "tail" and np.isfinite(rounded):
        z = float(Fraction(float(rounded)) - Fraction(x) * Fraction(y))
    f64 = FORMATS["float64"]
    row = Instruction("generated", f"fma {rnd}", 1, 1, 1, f64, f64, f64, f64, "fma_chain", rnd=rnd)
    compare(engine, row, Operands(*np.array([x, y, z]).view(np.uint64).reshape(3, 1, 1, 1)))


SINGLES = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 2.0**-126, 2.0**-149, 2.0**-74, 2.0**127, 1 + 2.0**-23])


@engines
@settings(max_examples=400)
@given(x=SINGLES, y=SINGLES, z=SINGLES, near=st.booleans())
def test_fma_of_singles(engine, x, y, z, near):
    """Also where z takes away the product rounded, so that its tail remains."""
    x, y, z = np.array([x, y, z], np.float32)
    with np.errstate(all="ignore"):
        z = -(x * y) if near else z
    row = find("sm_90", "fma.rn.f32")
    compare(engine, row, Operands(*np.array([x, y, z]).view(np.uint32).reshape(3, 1, 1, 1)))


# --- shapes, threads, refusals ---------------------------------------------------------------------------------------

SHAPED = [("sm_90", "wgmma.m64n8k16.f32.f16.f16"), ("sm_90", "mma.m16n8k32.f16.e4m3.e4m3.f16"),
          ("sm_120", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3"),
          ("sm_80", "mma.m8n8k4.f64.f64.f64.f64"), ("sm_80", "fma.rn.f32"), ("sm_80", "mma.m8n8k4.f16.f16.f16.f16"),
          ("sm_80", "mma.m16n8k32.s32.s8.s8.s32.satfinite")]


@engines
@pytest.mark.parametrize("arch, name", SHAPED)
def test_an_element_does_not_depend_on_its_place(engine, arch, name):
    """A large product, whose rows and columns are cut for caches, vectors and threads, against its elements one by one;
    and the same from four threads at once."""
    row = replace(find(arch, name), m=67, n=131)
    large = generated(row, 2, seed=3)
    whole = run(engine, row, large)
    single = replace(row, m=1, n=1)
    a, scale_a = (None if x is None else np.repeat(x.reshape(2 * 67, 1, -1), 131, 0) for x in (large.a, large.scale_a))
    b, scale_b = (None if x is None else np.tile(x.reshape(2, 1, 131, -1), (1, 67, 1, 1)).reshape(2 * 67 * 131, 1, -1)
                  for x in (large.b, large.scale_b))
    alone = run(engine, single, Operands(a, b, large.c.reshape(-1, 1, 1), scale_a, scale_b))
    assert np.array_equal(whole, alone.reshape(whole.shape))
    with ThreadPoolExecutor(4) as pool:
        for again in pool.map(lambda _: run(engine, row, large), range(4)):
            assert np.array_equal(again, whole)


@engines
def test_no_elements(engine):
    row = find("sm_80", "mma.m16n8k16.f32.f16.f16.f32")
    for tiles, m, n in ((0, 16, 8), (1, 0, 8), (1, 16, 0)):
        operands = Operands(np.zeros((tiles, m, 16), "u2"), np.zeros((tiles, n, 16), "u2"), np.zeros((tiles, m, n), "u4"))
        assert run(engine, row, operands).shape == (tiles, m, n)


def test_numba_refuses_by_name_where_doubles_would_not_do():
    row = find("sm_80", "mma.m16n8k16.f32.f16.f16.f32")
    f64, wide = FORMATS["float64"], Float("wide", 11, 4)
    for change in (dict(a=f64, b=f64), dict(adder=Adder("wide", 128, 50, 6)), dict(a=wide, b=wide), dict(rnd="sr"),
                   dict(c=Float("odd", 8, 20), d=Float("odd", 8, 20)), dict(d=FORMATS["float4_e2m1fn"])):
        strange = replace(row, m=1, n=1, **change)
        with pytest.raises(EngineUnavailable, match="the Numba engine cannot do sm_80 mma.m16n8k16"):
            run("numba", strange, uniform(strange, 1, 0))


# --- the Numba engine's fast road ------------------------------------------------------------------------------------

LANED = {row.name: row for row in (find(*name.split()) for name in """
    sm_90 wgmma.m64n8k16.f32.f16.f16
    sm_90 wgmma.m64n8k16.f32.bf16.bf16
    sm_90 wgmma.m64n8k8.f32.tf32.tf32
    sm_80 mma.m16n8k16.f32.f16.f16.f32
    sm_70 mma.m8n8k4.f32.f16.f16.f32
    sm_90 wgmma.m64n8k32.f32.e4m3.e5m2
    sm_100 tcgen05.mma.m64n8k32.kind::f8f6f4.f32.e4m3.e4m3
    sm_100 tcgen05.mma.m64n8k32.kind::f8f6f4.f32.e2m3.e2m1
    sm_90 wgmma.m64n8k16.f16.f16.f16
    sm_100 tcgen05.mma.m64n8k32.kind::f8f6f4.f16.e5m2.e5m2
    sm_90 mma.m16n8k32.f32.e4m3.e4m3.f32
    sm_90 mma.m16n8k32.f16.e5m2.e4m3.f16
    sm_120 mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0
    sm_120 mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0
    sm_120 mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3
""".strip().splitlines())}


def narrowed(rng, fmt, codes, spread):
    """The codes with random exponents within `spread` of 1, and a tenth of them zero."""
    exp = rng.integers(max(fmt.emin, -spread) - 1, min(fmt.emax, spread), codes.shape, endpoint=True)
    field = np.clip(exp - fmt.emin + 1, 0, None).astype(np.uint64) << np.uint64(fmt.frac_bits + fmt.low_pad)
    low = np.uint64((1 << fmt.frac_bits) - 1 << fmt.low_pad)
    made = codes.astype(np.uint64) & (low | np.uint64(fmt.sign)) | field
    made = np.minimum(made & np.uint64(fmt.magnitude), np.uint64(fmt.max_code)) | made & np.uint64(fmt.sign)
    return np.where(rng.random(codes.shape) < 0.1, 0, made).astype(codes.dtype)


@pytest.mark.parametrize("row", LANED.values(), ids=LANED)
def test_the_fast_road_of_numba(row):
    """Numbers close and far, cancelling C, all zero; 17 columns; whether it says yes, and then the specification's bits."""
    tile = replace(row, m=5, n=17)
    rng = np.random.default_rng([3, row.k])
    taken = 0
    for spread in (1, 4, 12, 30, 200):
        x = uniform(tile, 2, spread, 2 * row.k)
        made = [narrowed(rng, fmt, codes, spread) for fmt, codes in zip((row.a, row.b, row.c), x)]
        scales = [None if s is None else (row.scale.bias + rng.integers(-min(spread, 40), min(spread, 40), s.shape))
                  .astype(s.dtype) for s in (x.scale_a, x.scale_b)]
        for cancel in (False, True):
            operands = Operands(*made, *scales)
            if cancel:                                              # C is what the products sum to, with another sign
                operands = operands._replace(c=run("numba", tile, operands._replace(c=0 * x.c)) ^ x.c.dtype.type(row.c.sign))
            d = np.full(x.c.shape, 0xA5, row.d.code_dtype)
            yes = lanes.dots(tile, *operands, d, 2)
            taken += yes
            if yes:
                check(tile, operands, d, run("exact", tile, operands))
            else:
                assert (d == 0xA5).all()
    assert taken >= 4
    tile = replace(row, m=1, n=16)
    cases, want = judged(tile, "cases", 39, seed=5, chained=2)
    for i in range(39):                                             # each alone: one NaN sends all of them another way
        operands, d = Operands(*(x if x is None else x[i:i + 1] for x in cases)), want[i:i + 1].copy()
        lanes.dots(tile, *operands, d, 1)
        check(tile, operands, d, want[i:i + 1])


def test_the_fast_road_of_numba_with_a_subnormal_half_for_c():
    """C = 2**-24 claims 2**-14, so -2**-40 is cut away and 2**-25 makes a tie; the even neighbour lies above."""
    row = replace(LANED["wgmma.m64n8k16.f16.f16.f16"], m=1, n=16)
    operands = Operands(np.zeros((1, 1, 16), "u2"), np.zeros((1, 16, 16), "u2"), np.full((1, 1, 16), 1, "u2"))
    operands.a[..., :2] = np.array([2.0**-12, -(2.0**-20)], "f2").view("u2")
    operands.b[..., :2] = np.array([2.0**-13, 2.0**-20], "f2").view("u2")
    d = np.empty((1, 1, 16), "u2")
    assert lanes.dots(row, *operands, d, 1) and (d == 2).all()
    check(row, operands, d, run("exact", row, operands))


def test_the_fast_road_of_numba_refuses_what_it_cannot_do():
    row = replace(LANED["wgmma.m64n8k16.f32.bf16.bf16"], m=2, n=16)
    mx = replace(LANED["mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0"], m=2, n=16)
    half = replace(LANED["wgmma.m64n8k16.f16.f16.f16"], m=2, n=16)

    def refused(row, change, value):
        operands = Operands(*(np.full(shape, code, fmt.code_dtype) for fmt, shape, code in (
            (row.a, (1, 2, row.k), row.a.bias << row.a.frac_bits), (row.b, (1, 16, row.k), row.b.bias << row.b.frac_bits),
            (row.c, (1, 2, 16), 0))))
        if row.block:
            operands = operands._replace(scale_a=np.full((1, 2, 1), 127, "u1"), scale_b=np.full((1, 16, 1), 127, "u1"))
        d = np.full(operands.c.shape, 0xA5, row.d.code_dtype)
        assert lanes.dots(row, *operands, d.copy(), 1)
        getattr(operands, change).flat[-1] = value
        assert not lanes.dots(row, *operands, d, 1) and (d == 0xA5).all()
        check(row, operands, run("numba", row, operands), run("exact", row, operands))

    for change, value in (("a", 0x7F80), ("b", 0x7FC0), ("a", 0x6000), ("b", 0x1000), ("a", 1), ("c", 0x7F800000),
                          ("c", 0x7FFFFFFF), ("c", 1), ("c", 0x7F000000)):
        refused(row, change, value)
    for change, value in (("a", 0x7F), ("scale_a", 255), ("scale_b", 255), ("scale_a", 0), ("scale_b", 250)):
        refused(mx, change, value)
    for change, value in (("a", 0x7C00), ("c", 0x7BFF), ("b", 0x7BFF)):          # the last two leave the range of float16
        if value == 0x7BFF:
            row = half
            operands = Operands(np.full((1, 2, 16), 0x3C00, "u2"), np.full((1, 16, 16), 0x3C00, "u2"), np.zeros((1, 2, 16), "u2"))
            getattr(operands, change)[:] = value
            assert not lanes.dots(row, *operands, np.empty((1, 2, 16), "u2"), 1)
            check(row, operands, run("numba", row, operands), run("exact", row, operands))
        else:
            refused(half, change, value)


@pytest.mark.parametrize("row", [find("sm_80", "mma.m8n8k4.f64.f64.f64.f64"), find("sm_80", "fma.rn.f32")], ids=str)
def test_the_fast_road_of_numba_for_chains(row):
    """Ties, tails, exact and inexact products, what cancels them, zeros; against the specification."""
    tile = replace(row, m=12, n=20, k=4)
    rng, host = np.random.default_rng(6), np.float32 if row.d == FORMATS["float32"] else np.float64

    def numbers(*shape):
        """With exponents within 4, and all but some leading bits zero."""
        x = rng.uniform(1, 2, shape) * 2.0 ** rng.integers(-2, 3, shape) * rng.choice([-1.0, 1.0], shape)
        return (x.view(np.int64) & np.int64(-1) << rng.choice([0, 0, 26, 29, 29, 40, 51], shape)).view(np.float64)
    for tail in (1.0, 0.0, -0.0, 2.0**-45):                         # of the products of k = 1, 2, 3
        a, b = (numbers(6, size, 4).astype(host) for size in (12, 20))
        a[:, :, 1:] *= host(tail)
        a[1] *= 0                                               # and C with it: which zero comes out?
        c = (a[:, :, None, 0] * b[:, None, :, 0]) * rng.choice([-1.0, -1.0, 1.0, -0.5, 2.0, 4.0, 0.0, -0.0], (6, 12, 20))
        c[::2] += 2.0 ** -rng.integers(22, 54, (3, 12, 20)).astype(np.float64)
        c[-1] = 2.0**-800 if host == np.float64 else 2.0**-149
        operands = Operands(*(x.astype(host).view(row.d.code_dtype) for x in (a, b, c)))
        d = np.empty_like(operands.c)
        assert fmas.dots(tile, *operands, d, 2)
        check(tile, operands, d, run("exact", tile, operands))


def test_the_fast_road_of_numba_for_chains_refuses_what_it_cannot_do():
    double, single = (replace(find("sm_80", name), m=1, n=16, k=4)
                      for name in ("mma.m8n8k4.f64.f64.f64.f64", "fma.rn.f32"))
    for row, a, b, c in ((double, 2.0**401, 1, 1), (double, 1, 2.0**-401, 1), (double, 1, 1, 2.0**901), (double, 1, np.inf, 0),
                         (double, 1, 1, np.nan), (double, 5e-324, 0, 0), (single, 3e38, 2, 1), (single, np.inf, 2, 1),
                         (replace(double, rnd="rz"), 1, 1, 1)):
        operands = Operands(*(np.full(shape, x, f"f{row.d.bits // 8}").view(row.d.code_dtype)
                              for x, shape in ((a, (1, 1, 4)), (b, (1, 16, 4)), (c, (1, 1, 16)))))
        d = np.full(operands.c.shape, 0xA5, row.d.code_dtype)
        assert not fmas.dots(row, *operands, d, 1) and (d == 0xA5).all()
        check(row, operands, run("numba", row, operands), run("exact", row, operands))


@pytest.mark.parametrize("row", [LANED["wgmma.m64n8k16.f16.f16.f16"], find("sm_80", "mma.m8n8k4.f64.f64.f64.f64"), LANED[
    "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3"]], ids=str)
def test_the_fast_road_of_numba_around_what_it_cannot_do(row, monkeypatch):
    """A NaN in A, one in B (or their scales) and one in C: the tiles without them go fast, all have the same bits."""
    shape = 1, 300, 270
    tile = replace(row, m=shape[1], n=shape[2])
    x = uniform(tile, 1, 7)
    made = [narrowed(np.random.default_rng(8), fmt, codes, 2) for fmt, codes in zip((row.a, row.b, row.c), x)]
    scales = [None if s is None else s % 8 + 52 for s in (x.scale_a, x.scale_b)]
    operands = Operands(*made, *scales)
    nans = ((operands.scale_a, row.scale), (operands.scale_b, row.scale)) if row.block else (
        (operands.a, row.a), (operands.b, row.b))
    for where, fmt in (*nans, (operands.c, row.c)):
        where.flat[where.size // 5] = fmt.nan_code
    for road in (lanes, fmas):
        monkeypatch.setattr(road, "dots", lambda *args, dots=road.dots: dots(*args) and (done.append(args[6].size) or True))
    done: list[int] = []
    got = run("numba", tile, operands)
    assert 0.4 < sum(done) / got.size < 0.9
    monkeypatch.setattr(lanes, "knows", lambda *_: False)
    monkeypatch.setattr(fmas, "knows", lambda *_: False)
    check(tile, operands, got, run("numba", tile, operands))
