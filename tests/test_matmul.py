"""Whole matrix products: the fast kernels against emu_dots (which test_engines holds to the specification) on every
instruction set, shapes and strides, threads, schedules and epilogues, refusals."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np
import pytest

import emulator
from emulator import IN_ORDER, BadOperand, EngineUnavailable, Promote, SplitK, StreamK, cases, engine_c, engines, exact
from emulator.formats import FORMATS, Float
from emulator.instructions import find

pytestmark = pytest.mark.usefixtures("c_engine")
matmul = sys.modules["emulator.matmul"]

# A row for each kind of arithmetic that has a kernel, and two that have none.
FAMILIES = {row.name: row for row in (find(*name.split()) for name in """
    sm_90 wgmma.m64n8k16.f32.f16.f16
    sm_90 wgmma.m64n8k16.f32.bf16.bf16
    sm_90 wgmma.m64n8k8.f32.tf32.tf32
    sm_80 mma.m16n8k16.f32.f16.f16.f32
    sm_80 mma.m16n8k16.f32.bf16.bf16.f32
    sm_80 mma.m16n8k8.f32.tf32.tf32.f32
    sm_70 mma.m8n8k4.f32.f16.f16.f32
    sm_90 wgmma.m64n8k32.f32.e4m3.e4m3
    sm_90 wgmma.m64n8k32.f32.e5m2.e4m3
    sm_89 mma.m16n8k32.f32.e5m2.e5m2.f32
    sm_100 tcgen05.mma.m64n8k32.kind::f8f6f4.f32.e4m3.e4m3
    sm_100 tcgen05.mma.m64n8k32.kind::f8f6f4.f32.e5m2.e3m2
    sm_100 tcgen05.mma.m64n8k32.kind::f8f6f4.f32.e2m3.e2m1
    sm_100 tcgen05.mma.m64n8k32.kind::f8f6f4.f32.e3m2.e3m2
    sm_90 wgmma.m64n8k16.f16.f16.f16
    sm_80 mma.m16n8k16.f16.f16.f16.f16
    sm_70 mma.m8n8k4.f16.f16.f16.f16
    sm_90 wgmma.m64n8k32.f16.e4m3.e5m2
    sm_100 tcgen05.mma.m64n8k32.kind::f8f6f4.f16.e5m2.e5m2
    sm_90 mma.m16n8k32.f32.e4m3.e4m3.f32
    sm_90 mma.m16n8k16.f32.e5m2.e5m2.f32
    sm_90 mma.m16n8k32.f16.e5m2.e4m3.f16
    sm_120 mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0
    sm_120 mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e5m2.e2m1.f32.ue8m0
    sm_120 mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0
    sm_120 mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3
    sm_80 mma.m16n8k32.s32.s8.u8.s32
    sm_80 mma.m16n8k32.s32.s8.s8.s32.satfinite
    sm_80 mma.m16n8k64.s32.u4.s4.s32.satfinite
    sm_80 mma.m8n8k4.f64.f64.f64.f64
    sm_90 mma.m16n8k8.rm.f64.f64.f64.f64
    sm_100 fma.rn.f32
    sm_80 mma.m8n8k4.f16.f16.f16.f16
    sm_80 mma.m16n8k256.s32.b1.b1.s32.xor.popc
""".strip().splitlines())}
families = pytest.mark.parametrize("row", FAMILIES.values(), ids=FAMILIES)
HOPPER, FP8, NVFP4 = (FAMILIES[name] for name in (
    "wgmma.m64n8k16.f32.f16.f16", "wgmma.m64n8k32.f32.e4m3.e4m3",
    "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3"))


@cache
def isas() -> tuple[str, ...]:
    """The instruction sets that this build and this CPU have."""
    known = ("portable", "avx2", "avx512", "avx512fp16")
    found = tuple(name for name in known if engine_c.limit_isa(name) == name)
    engine_c.limit_isa(known[-1])
    return found


@pytest.fixture
def each_isa():
    yield isas()
    engine_c.limit_isa("avx512fp16")


# --- operands ----------------------------------------------------------------------------------------------------------

def codes_of(fmt, x):
    """Numbers into codes, by numpy's or ml_dtypes' cast; what is too large becomes the largest."""
    x = np.clip(x, -2.0 ** min(fmt.emax, 300), 2.0 ** min(fmt.emax, 300))
    if fmt.name == "tfloat32":
        return x.astype(np.float32).view(np.uint32)
    return x.astype(getattr(ml_dtypes, fmt.name, None) or getattr(np, fmt.name)).view(fmt.code_dtype)


def any_codes(rng, fmt, shape):
    return rng.integers(0, (1 << fmt.bits) - 1, shape, np.uint64, endpoint=True).astype(fmt.code_dtype)


def draw(rng, fmt, shape, kind):
    """Codes of one kind of data; bits: anything at all."""
    if kind == "bits" or not isinstance(fmt, Float):
        return any_codes(rng, fmt, shape)
    normal, uniform = rng.standard_normal(shape), rng.random(shape)
    x = {
        "normal": normal,
        "sparse": normal * (uniform < 0.1),
        "positive": 1.9 + 0.099 * uniform,
        "constant": np.full(shape, 1.999),
        "spread": normal * 2.0 ** rng.integers(-10, 10, shape),
        "wide": normal * 2.0 ** rng.integers(-60, 60, shape),
        "subnormal": normal * 2.0 ** (fmt.emin - 1 + 2 * (uniform < 0.3)),
        "sweep": normal * 2.0 ** rng.integers(-38, 38, shape),
        "nan": normal,
        "zeros": np.copysign(0.0, normal),
    }[kind]
    codes = codes_of(fmt, x)
    return np.where(rng.random(shape) < 0.002, any_codes(rng, fmt, shape), codes) if kind == "nan" else codes


def scales(rng, row, shape, kind):
    if kind in ("bits", "nan"):
        return any_codes(rng, row.scale, shape) if kind == "bits" else np.where(
            rng.random(shape) < 0.01, row.scale.nan_code, row.scale.bias).astype(np.uint8)
    spread = {"wide": 40, "spread": 6}.get(kind, 0)
    exponent = rng.integers(-spread, spread, shape, endpoint=True)
    if row.scale.frac_bits:
        return np.clip((exponent % 15 << 3) + rng.integers(0, 8, shape), 0, 0x7E).astype(np.uint8)
    return (row.scale.bias + exponent).astype(np.uint8)


KINDS = ("normal", "sparse", "positive", "constant", "spread", "wide", "subnormal", "nan", "bits")
C_KINDS = (None, "normal", "sweep", "zeros", "bits")


def operands(rng, row, m, n, k, kind, c_kind=None):
    """Codes a (m, k), b (k, n), c (m, n) or None, and scales or None: in a random memory order."""
    a, b = draw(rng, row.a, (m, k), kind), draw(rng, row.b, (k, n), kind)
    c = None if c_kind is None else draw(rng, row.c, (m, n), c_kind)
    blocks = -(-k // row.block) if row.block else 0
    scale_a, scale_b = (scales(rng, row, s, kind) if row.block else None for s in ((m, blocks), (blocks, n)))
    return [np.asfortranarray(x) if x is not None and rng.random() < 0.5 else x for x in (a, b, c, scale_a, scale_b)]


def generic(row, a, b, c, scale_a=None, scale_b=None):
    """emu_dots on the padded operands: slow, and held to exact.dot elsewhere."""
    return padded(engine_c.dots, row, a, b, c, scale_a, scale_b)


def padded(dots, row, a, b, c, scale_a=None, scale_b=None):
    """One product by an engine that takes contiguous rows and columns of whole instructions."""
    k = max(1, -(-a.shape[1] // row.k)) * row.k

    def lines(x, count):
        return None if x is None else np.ascontiguousarray(np.pad(x, [(0, 0), (0, count - x.shape[1])]))[None]

    d = np.zeros((1, a.shape[0], b.shape[1]), row.d.code_dtype)
    c = np.zeros(d.shape, row.c.code_dtype) if c is None else np.ascontiguousarray(c)[None]
    blocks = k // row.block if row.block else 0
    dots(row, lines(a, k), lines(b.T, k), c, lines(scale_a, blocks),
         None if scale_b is None else lines(scale_b.T, blocks), d)
    return d[0]


def product(row, a, b, c, scale_a=None, scale_b=None):
    d = np.full((a.shape[0], b.shape[1]), 0xA5, row.d.code_dtype)
    engine_c.product(row, a, b, c, scale_a, scale_b, d)
    return d


def check_rows(row, given, want, what):
    """Pairs of a row and a column, as many as the longer side has: their dot products side by side."""
    m, n, whole = len(given[0]), given[1].shape[1], max(1, -(-given[0].shape[1] // row.k))
    at = np.arange(max(m, n))

    def lines(x, places, length):
        return np.ascontiguousarray(np.pad(x[places], [(0, 0), (0, length - x.shape[1])])[:, None])

    a, b, c, scale_a, scale_b = given
    blocks = whole * row.k // row.block if row.block else 0
    d = np.full((len(at), 1, 1), 0xA5, row.d.code_dtype)
    engine_c.dots(row, lines(a, at % m, whole * row.k), lines(b.T, at % n, whole * row.k),
                  np.zeros_like(d, row.c.code_dtype) if c is None else c[at % m, at % n][:, None, None],
                  scale_a if scale_a is None else lines(scale_a, at % m, blocks),
                  scale_b if scale_b is None else lines(scale_b.T, at % n, blocks), d)
    wrong = np.flatnonzero(d[:, 0, 0] != want[at % m, at % n])
    assert not len(wrong), f"{what}: rows {wrong} of {row} differ: {d[wrong[0], 0, 0]:#x}"


def check(row, given, want, isa, what):
    engine_c.limit_isa(isa)
    check_rows(row, given, want, (isa, what))
    got = product(row, *given)
    wrong = np.argwhere(got != want)
    if len(wrong):
        i, j = (int(x) for x in wrong[0])
        pytest.fail(f"{isa}: {len(wrong)} of {got.size} elements of {row} differ on {what}, {given[0].shape} x "
                    f"{given[1].shape}; d[{i}, {j}] is {got[i, j]:#x}, emu_dots says {want[i, j]:#x}")


# --- the same bits on every path ---------------------------------------------------------------------------------------

@families
def test_every_family_on_adversarial_data(row, each_isa):
    """All kinds of operands with all kinds of C: cancelling, sparse, near overflow, far apart, special."""
    rng = np.random.default_rng([1, row.k])
    for kind in KINDS if isinstance(row.a, Float) else ("bits",):
        for c_kind in C_KINDS if row.c == row.d else (None,):
            k = int(rng.integers(1, 4 * row.k)) if row.c == row.d else row.k
            given = operands(rng, row, int(rng.integers(20, 50)), int(rng.integers(20, 90)), k, kind, c_kind)
            want = generic(row, *given)
            for isa in each_isa:
                check(row, given, want, isa, (kind, c_kind))


@pytest.mark.sanitize
@families
def test_every_family_on_generated_cases(row, each_isa):
    """The classes of emulator.cases, and its directed probes, tile by tile."""
    tile = replace(row, m=9, n=5)
    made = cases.generate(tile, 60, seed=4)
    for i in range(len(made)):
        given = [None if x is None else x[i] for x in (made.a, made.b, made.c, made.scale_a, made.scale_b)]
        want = generic(row, *given)
        for isa in each_isa:
            check(row, given, want, isa, made.classes[made.why[i]])


@pytest.mark.parametrize("m, n, k", [
    *((m, 70, 40) for m in (1, 31, 32, 33, 64, 65)), *((3, n, 40) for n in (1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129)),
    *((3, 20, k) for k in (0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 511, 512, 513, 1025)), (2, 1023, 5), (2, 1024, 5),
    (2, 1025, 5), (33, 1100, 530)])
def test_sizes_around_block_edges(m, n, k, each_isa):
    rng = np.random.default_rng([m, n, k])
    for row in (HOPPER, FP8, NVFP4, FAMILIES["mma.m16n8k32.f32.e4m3.e4m3.f32"], FAMILIES["mma.m8n8k4.f64.f64.f64.f64"]):
        if m * n * k < 1e6 or row is HOPPER:
            given = operands(rng, row, m, n, k, "normal", "normal")
            want = generic(row, *given)
            for isa in each_isa:
                check(row, given, want, isa, "normal")


@pytest.mark.sanitize
@families
def test_a_special_line_does_not_touch_its_neighbours(row, each_isa):
    """A few bad rows and columns are redone one by one, many by the tile; either way nothing else changes."""
    rng = np.random.default_rng(7)
    for bad in (1, 3, 12):
        k = 2 * row.k if row.c == row.d else row.k
        given = operands(rng, row, 40, 70, k, "normal", "normal" if row.c == row.d else None)
        for x, axis in ((given[0], 0), (given[1], 1), (given[2], 0)):
            if x is not None:
                for line in rng.choice(x.shape[axis], bad, False):
                    x[(line, int(rng.integers(x.shape[1]))) if axis == 0 else (int(rng.integers(x.shape[0])), line)] = (
                        x.dtype.type((1 << row.a.bits) - 1) if x is not given[2] else 1)
        want = generic(row, *given)
        for isa in each_isa:
            check(row, given, want, isa, f"{bad} special lines")


@pytest.mark.exhaustive
@families
def test_many_dot_products(row, each_isa):
    """A million for each family: more than ten million for each instruction set, C cancelling or huge or special."""
    rng = np.random.default_rng(11)
    done = 0
    while done < 1_000_000:
        kind = str(rng.choice(KINDS)) if isinstance(row.a, Float) else "bits"
        c_kind = C_KINDS[rng.integers(len(C_KINDS))] if row.c == row.d else None
        k = int(rng.integers(1, 3 * row.k)) if row.c == row.d else row.k
        given = operands(rng, row, 500, 500, k, kind, c_kind)
        want = generic(row, *given)
        done += want.size
        for isa in each_isa:
            check(row, given, want, isa, (kind, c_kind))


def test_the_environment_caps_the_instruction_set():
    def run(isa):
        code = ("import numpy as np, emulator; from emulator import engine_c;"
                "F = emulator.instruction('sm_90', 'wgmma.m64n8k16.f32.f16.f16'); x = np.ones((64, 64), np.float16);"
                "print(emulator.matmul(x, x, on=F, engine='c').sum(), engine_c.ffi.string(engine_c.lib.emu_isa()).decode())")
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={**os.environ, "EMULATOR_ISA": isa})
    for isa in isas():
        assert run(isa).stdout.split() == ["262144.0", isa]
    assert "portable, avx2, avx512 and avx512fp16 (EMULATOR_ISA)" in run("avx9").stderr
    with pytest.raises(EngineUnavailable, match="'avx9' is no instruction set"):
        engine_c.limit_isa("avx9")


# --- matmul: shapes, strides, batches, threads -------------------------------------------------------------------------

UNIT = emulator.instruction("sm_90", "wgmma.m64n8k16.f32.f16.f16")
QGMMA = emulator.instruction("sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3")
FP4 = emulator.instruction("sm_120", NVFP4.name)


def halves(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def fp8(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(ml_dtypes.float8_e4m3fn)


@pytest.mark.parametrize("engine", ["exact", "numba", "c"])
def test_batches_strides_and_orders(engine):
    a, b, c = halves((2, 3, 9, 21)), halves((3, 21, 7), 1), halves((9, 7), 2).astype(np.float32)
    want = np.array([[padded(engines.ENGINES["exact"], UNIT, a[i, j].view(np.uint16), b[j].view(np.uint16), c.view(np.uint32))
                      for j in range(3)] for i in range(2)]).view(np.float32)
    wide = np.zeros((2, 3, 18, 63), np.float16)
    wide[:, :, ::2, ::3] = a
    for a_view in (a, wide[:, :, ::2, ::3], a.swapaxes(2, 3).copy().swapaxes(2, 3), a[..., ::-1].copy()[..., ::-1]):
        for b_view in (b, b.swapaxes(1, 2).copy().swapaxes(1, 2), np.broadcast_to(b, (2, *b.shape))):
            got = emulator.matmul(a_view, b_view, c, on=UNIT, engine=engine)
            np.testing.assert_array_equal(got, want)
    assert got.dtype == np.float32 and got.shape == (2, 3, 9, 7)


@pytest.mark.parametrize("engine", ["numba", "c"])
def test_block_scales_with_a_tail(engine):
    rng = np.random.default_rng(3)
    a, b, c, sa, sb = operands(rng, NVFP4, 20, 30, 150, "normal", "normal")
    typed = [x.view(ml_dtypes.float4_e2m1fn) for x in (a, b)]
    got = emulator.matmul(*typed, c.view(np.float32), on=FP4, scale_a=sa, scale_b=sb, engine=engine)
    np.testing.assert_array_equal(got.view(np.uint32), generic(NVFP4, a, b, c, sa, sb))


def test_the_bits_do_not_depend_on_threads(monkeypatch):
    a, b, c = halves((3, 200, 100)), halves((100, 330), 1), halves((200, 330), 2).astype(np.float32)
    want = emulator.matmul(a, b, c, on=UNIT, threads=1, engine="c")
    for threads in (2, 3, 4, 7, 64):
        np.testing.assert_array_equal(emulator.matmul(a, b, c, on=UNIT, threads=threads, engine="c"), want)
    monkeypatch.setenv("EMULATOR_THREADS", "5")
    np.testing.assert_array_equal(emulator.matmul(a, b, c, on=UNIT, engine="c"), want)
    monkeypatch.setenv("EMULATOR_THREADS", "many")
    with pytest.raises(BadOperand, match="EMULATOR_THREADS is 'many'"):
        emulator.matmul(a, b, on=UNIT)
    monkeypatch.setenv("EMULATOR_THREADS", "0")
    with pytest.raises(BadOperand, match="EMULATOR_THREADS is 0; it takes 1 or more"):
        emulator.matmul(a, b, on=UNIT)


MEMORY = """
import resource, sys
import numpy as np, ml_dtypes, emulator
unit = emulator.instruction("sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3")
a, b = (np.full(s, 0x38, np.uint8).view(ml_dtypes.float8_e4m3fn) for s in ((64, 24576), (24576, 4096)))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
emulator.matmul(a[:, :64], b[:64], on=unit, threads=2)
before = peak()
emulator.matmul(a, b[:, ::-1], on=unit, threads=2)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="getrusage counts in KiB on Linux")
def test_memory_is_bounded():
    """B is 96 MiB of codes, 384 MiB as floats. Each thread takes a panel of it apart at a time."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24 * 1024


def test_the_interpreter_is_free_meanwhile():
    """The C library runs without the GIL: another thread counts on while a product is computed."""
    a, b = fp8((256, 4096)), fp8((4096, 1024), 1)
    done, counts = threading.Event(), [0]

    def count():
        while not done.is_set():
            counts[0] += 1
            time.sleep(0)

    other = threading.Thread(target=count)
    other.start()
    try:
        before = counts[0]
        engine_c.product(QGMMA, a.view(np.uint8), b.view(np.uint8), None, None, None, np.empty((256, 1024), np.uint32))
        during = counts[0] - before
    finally:
        done.set()
        other.join()
    assert during > 100


def test_pieces_cover_the_product_once():
    for batch, rows, columns, workers in (((1,), 1, 1, 4), ((1,), 200, 330, 4), ((2, 3), 33, 65, 8), ((1,), 64, 4096, 6),
                                          ((1,), 4096, 64, 5), ((7,), 5, 5, 2), ((3,), 64, 64, 4)):
        seen = np.zeros((*batch, rows, columns), int)
        for *lead, at, down, across in engines._pieces(batch, rows, columns, workers):
            seen[tuple(lead)][at, down, across] += 1
        assert (seen == 1).all()


@pytest.mark.parametrize("engine", sorted(engines.ENGINES))
def test_empty_products(engine):
    assert emulator.matmul(halves((0, 5)), halves((5, 4)), on=UNIT, engine=engine).shape == (0, 4)
    assert emulator.matmul(halves((2, 0)), halves((0, 4)), on=UNIT, engine=engine).tolist() == [[0] * 4] * 2
    c = np.ones((2, 4), np.float32)
    for schedule in (IN_ORDER, SplitK(3), StreamK(3), Promote(16)):
        got = emulator.matmul(halves((2, 0)), halves((0, 4)), c, on=UNIT, engine=engine, schedule=schedule, alpha=2)
        assert got.tolist() == c.tolist()


# --- schedules and epilogues -------------------------------------------------------------------------------------------

def test_fma_is_rounded_once():
    """Against the specification: random bits, near-cancelling sums, subnormals, overflow, NaN and infinities."""
    f32 = FORMATS["float32"]
    rng = np.random.default_rng(5)
    x, y, z = (rng.integers(0, 1 << 32, 20000, np.uint64).astype(np.uint32).view(np.float32) for _ in "xyz")
    with np.errstate(all="ignore"):
        near = -(x.astype(np.float64) * y).astype(np.float32)
        far = np.nextafter(near, np.float32(0)) * np.float32(2.0) ** rng.integers(-30, 30, len(x)).astype(np.float32)
        for third in (z, near, far):
            got = matmul._fma(x, y, third).view(np.uint32)
            for i in range(0, len(x), 7):
                numbers = [exact.decode(f32, int(v[i : i + 1].view(np.uint32)[0])) for v in (x, y, third)]
                want = exact.fma(f32, *numbers)
                if want.kind == "nan":
                    assert np.isnan(got[i : i + 1].view(np.float32)[0])
                else:
                    assert got[i] == exact.encode(f32, want), numbers


def test_split_k():
    """The sums of the parts, added in order to zero; or, serial, through the 16-bit output."""
    a, b, c = halves((40, 200)), halves((200, 50), 1), halves((40, 50), 2)
    parts = [emulator.matmul(a[:, lo:lo + 80], b[lo:lo + 80], on=UNIT) for lo in (0, 80, 160)]
    want = (np.float32(0) + parts[0]) + parts[1] + parts[2]
    np.testing.assert_array_equal(emulator.matmul(a, b, on=UNIT, schedule=SplitK(3)), want)
    got = emulator.matmul(a, b, c, on=UNIT, schedule=SplitK(3), out="float16")
    np.testing.assert_array_equal(got, (want + c.astype(np.float32)).astype(np.float16))
    d = c
    for part in parts:
        d = (part + d.astype(np.float32)).astype(np.float16)
    got = emulator.matmul(a, b, c, on=UNIT, schedule=SplitK(3, serial=True), out="float16")
    np.testing.assert_array_equal(got, d)
    assert (got != emulator.matmul(a, b, c, on=UNIT, schedule=SplitK(3), out="float16")).any()
    tiles = emulator.matmul(a, b, on=UNIT, schedule=SplitK(2, tile=64))         # 4 tiles of 64: 128 and 72
    two = [emulator.matmul(a[:, lo:hi], b[lo:hi], on=UNIT) for lo, hi in ((0, 128), (128, 200))]
    np.testing.assert_array_equal(tiles, two[0] + two[1])


def test_stream_k():
    """Each output tile composed by hand, on the specification, from where its runs begin: listed for 2 x 3 tiles of 3 k
    tiles among 4 units, 18 = 5 + 5 + 4 + 4."""
    a, b, c = halves((30, 80)), halves((80, 40), 1), halves((30, 40), 2).astype(np.float32)
    by_hand = [[0, 80], [0, 64, 80], [0, 80], [0, 32, 80], [0, 64, 80], [0, 80]]     # runs begin at 0, 5, 10, 14
    tiles = [np.s_[i:min(i + 16, 30), j:min(j + 16, 40)] for i in (0, 16) for j in (0, 16, 32)]
    want = np.empty((30, 40), np.float32)
    for tile, cuts in zip(tiles, by_hand):
        sums = [emulator.matmul(a[tile[0], lo:hi], b[lo:hi, tile[1]], on=UNIT, engine="exact") for lo, hi in zip(cuts, cuts[1:])]
        want[tile] = sums[0] if len(sums) == 1 else sums[0] + sums[1]
    schedule = StreamK(4, (16, 16, 32))
    assert list(schedule.cuts((30, 40, 80), 16)) == list(zip(tiles, by_hand))
    np.testing.assert_array_equal(emulator.matmul(a, b, on=UNIT, schedule=schedule), want)
    np.testing.assert_array_equal(emulator.matmul(a, b, c, on=UNIT, schedule=schedule, alpha=2), 2 * want + c)
    assert (want != emulator.matmul(a, b, on=UNIT)).any()

    assert [cuts for _, cuts in StreamK(4, (16, 16, 32), shared=2).cuts((30, 40, 80), 16)] == [
        [0, 64, 80], [0, 32, 64, 80], *[[0, 80]] * 4]                                # 6 = 2 + 2 + 1 + 1
    along = [tile for tile, _ in StreamK(4, (16, 16, 32), along_m=True).cuts((30, 40, 80), 16)]
    assert along == [tiles[i] for i in (0, 3, 1, 4, 2, 5)]
    many = emulator.matmul(a, b, on=UNIT, schedule=StreamK(1000, (16, 16, 32)))      # a unit for each k tile: three parts
    parts = [emulator.matmul(a[:, lo:lo + 32], b[lo:lo + 32], on=UNIT) for lo in (0, 32, 64)]
    np.testing.assert_array_equal(many, parts[0] + parts[1] + parts[2])
    np.testing.assert_array_equal(emulator.matmul(a, b, on=UNIT, schedule=StreamK(1, (16, 16, 32))),
                                  emulator.matmul(a, b, on=UNIT))
    batch = emulator.matmul(np.stack([a, -a]), b, on=UNIT, schedule=StreamK(2, (16, 16, 32)))   # a whole product each
    np.testing.assert_array_equal(batch, np.stack([emulator.matmul(x, b, on=UNIT) for x in (a, -a)]))
    typed = [x.view(ml_dtypes.float4_e2m1fn) for x in operands(np.random.default_rng(3), NVFP4, 20, 30, 150, "normal")[:2]]
    scales = dict(scale_a=np.full((20, 10), 0x38, np.uint8), scale_b=np.full((10, 30), 0x40, np.uint8))
    got = emulator.matmul(*typed, on=FP4, schedule=StreamK(2, (32, 32, 64)), **scales)
    halves_of_k = [emulator.matmul(typed[0][:, k], typed[1][k], on=FP4, scale_a=scales["scale_a"][:, s], scale_b=scales["scale_b"][s])
                   for k, s in ((np.s_[:128], np.s_[:8]), (np.s_[128:], np.s_[8:]))]
    np.testing.assert_array_equal(got, halves_of_k[0] + halves_of_k[1])


def test_promotion():
    a, b = fp8((30, 300)), fp8((300, 20), 1)
    parts = [emulator.matmul(a[:, lo:lo + 128], b[lo:lo + 128], on=QGMMA) for lo in (0, 128, 256)]
    np.testing.assert_array_equal(emulator.matmul(a, b, on=QGMMA, schedule=Promote()), parts[0] + parts[1] + parts[2])
    rng = np.random.default_rng(6)
    sa, sb = rng.random((30, 3)).astype(np.float32), rng.random((3, 20)).astype(np.float32)

    def exactly(order):
        """Each element in Fractions, rounded where the kernel rounds."""
        want = np.zeros((30, 20), np.float32)
        for i, j in np.ndindex(want.shape):
            main = np.float32(0)
            for p, part in enumerate(parts):
                x, y = order(part[i, j], sa[i, p], sb[p, j])
                total = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(main))
                number = exact.Number(total < 0, abs(total.numerator), 1 - total.denominator.bit_length())
                main = np.uint32(exact.encode(FORMATS["float32"], number)).view(np.float32)
            want[i, j] = main
        return want

    got = emulator.matmul(a, b, on=QGMMA, schedule=Promote(128, sa, sb))
    np.testing.assert_array_equal(got, exactly(lambda part, x, y: (part * x, y)))
    joined = emulator.matmul(a, b, on=QGMMA, schedule=Promote(128, sa, sb, joined=True))
    np.testing.assert_array_equal(joined, exactly(lambda part, x, y: (part, x * y)))
    assert (got != joined).any()
    one = emulator.matmul(a, b, on=QGMMA, schedule=Promote(128, sa))
    np.testing.assert_array_equal(one, exactly(lambda part, x, y: (part, x)))


def test_epilogue():
    a, b, c = halves((20, 33)), halves((33, 10), 1), halves((20, 10), 2).astype(np.float32)
    acc = emulator.matmul(a, b, on=UNIT)
    alpha, beta = np.float32(0.7), np.float32(-1.3)
    want = matmul._fma(alpha, acc, beta * c)
    np.testing.assert_array_equal(emulator.matmul(a, b, c, on=UNIT, alpha=alpha, beta=beta), want)
    half = emulator.matmul(a, b, c, on=UNIT, alpha=alpha, beta=beta, out="bfloat16")
    assert half.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(half, want.astype(ml_dtypes.bfloat16))
    narrow = emulator.matmul(a, b, on=UNIT, alpha=1000, out="e4m3")             # saturates
    np.testing.assert_array_equal(narrow, np.clip(1000 * acc, -448, 448).astype(ml_dtypes.float8_e4m3fn))
    np.testing.assert_array_equal(emulator.matmul(a, b, on=UNIT, alpha=alpha), alpha * acc)
    nan = np.full_like(c, np.nan)
    np.testing.assert_array_equal(emulator.matmul(a, b, nan, on=UNIT, beta=0), acc)
    assert set(emulator.matmul(a, b, nan, on=UNIT, beta=1, out="float16").view(np.uint16).ravel()) == {0x7FFF}


BAD = [
    (lambda a, b: emulator.matmul(a, b, on=emulator.instruction("sm_80", "mma.m8n8k4.f32.f16.f16.f16")),
     "reads C as float16 and writes D as float32; a chain needs one format for both"),
    (lambda a, b: emulator.matmul(a, b, on=emulator.instruction("sm_90", "wgmma.m64n8k16.f16.f16.f16"), alpha=2),
     "accumulates in float16; schedules and epilogues take float32 accumulators"),
    (lambda a, b: emulator.matmul(a, b, on=UNIT, threads=0), "threads is 0; it takes 1 or more"),
    (lambda a, b: emulator.matmul(a, b, on=UNIT, schedule=SplitK(0)), "ways must be at least 1"),
    (lambda a, b: emulator.matmul(a, b, on=UNIT, schedule=SplitK(2, tile=24)), "a multiple of the instruction's k = 16"),
    (lambda a, b: emulator.matmul(a, b, on=UNIT, schedule=StreamK(0)), "units and tile must be at least 1"),
    (lambda a, b: emulator.matmul(a, b, on=UNIT, schedule=StreamK(2, (16, 16, 24))), "the instruction's k = 16"),
    (lambda a, b: emulator.matmul(a, b, on=UNIT, schedule=Promote(100)), "every is 100; it takes a multiple"),
    (lambda a, b: emulator.matmul(a, b, on=UNIT, schedule=Promote(32, np.ones((4, 2)))),
     "scale_a is float64 (4, 2); it takes float32, one for each 32 of k, 1 along axis -1"),
    (lambda a, b: emulator.matmul(a, b, on=UNIT, out="int8"), "out is int8; an epilogue writes floating-point formats"),
    (lambda a, b: emulator.matmul(a, b, np.ones((4, 5)), on=UNIT, out="float16"), "reads float16 or float32"),
    (lambda a, b: emulator.matmul(a, b, np.ones((5, 4), np.float32), on=UNIT, beta=2), "the product is (4, 5)"),
    (lambda a, b: emulator.matmul(a, b, np.ones((5, 4), np.float32), on=UNIT), "c is (5, 4); the product is (..., 4, 5)"),
    (lambda a, b: emulator.matmul(a, b.T, on=UNIT), "a is (4, 20) and b is (5, 20); a product takes (..., M, K)"),
    (lambda a, b: emulator.matmul(a, b, on=FP4), "scale_a is missing"),
    (lambda a, b: emulator.matmul(a.astype(ml_dtypes.float4_e2m1fn), b.astype(ml_dtypes.float4_e2m1fn), on=FP4,
                                  scale_a=np.ones((4, 3), np.uint8), scale_b=np.ones((2, 5), np.uint8)),
     "scale_a is (4, 3); one scale per 16 of k is (..., 4, 2)"),
]


@pytest.mark.parametrize("call, sentence", BAD, ids=[sentence[:40] for _, sentence in BAD])
def test_bad_operands_are_refused_by_name(call, sentence):
    with pytest.raises(BadOperand) as refusal:
        call(halves((4, 20)), halves((20, 5)))
    assert sentence in str(refusal.value)
