"""convert: three engines alike over whole formats, and against Fractions, ml_dtypes, torch and NVIDIA's own headers."""

import glob
import importlib
import importlib.util
import itertools
import os
import pathlib
import shutil
import subprocess
import time
from dataclasses import replace
from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats import FLOATS, TYPED, _floats, value
from test_rounding import by_definition

import emulator
from emulator import (
    BadOperand,
    EngineUnavailable,
    Float,
    Integer,
    Policy,
    Table,
    UnknownFormat,
    convert,
    differences,
    engine_c,
    number_format,
)
from emulator.arrays import carriers, pack, unpack
from emulator.exact import Number, decode
from emulator.formats import ALIASES, FORMATS
from emulator.record import COUNTS, conversion
from emulator.rounding import MODES, OVERFLOWS, POLICIES, STOCHASTIC

room = importlib.import_module("emulator.convert")         # the module; emulator.convert is the function
SMALL_SOURCES = [f for f in FORMATS.values() if f.bits <= 8 and not isinstance(f, Table)]
INTEGERS = [f for f in FORMATS.values() if isinstance(f, Integer)]
SOURCES_16 = [FORMATS[name] for name in ("float16", "bfloat16", "int16", "uint16")]
USER = [Float("user_unsigned", 3, 2, specials="finite", signed=False), Float("user_bare", 4, 0, specials="finite"),
        Float("user_wide", 11, 40, low_pad=12), Float("user_e9m20", 9, 20), Float("user_e15m48", 15, 48),
        Float("user_bias", 5, 3, bias=-3), Float("user_high", 8, 3, bias=120), Float("user_e10", 10, 0, None, "exponent", False)]
TARGETS = [*FLOATS, *USER]
ISAS = ("portable", "avx2", "avx512")
BEST = "avx512fp16"
# A covering set: every choice of every field at least once, in company that changes
POLICY_SET = [
    Policy(overflow="ieee", nan="zero", random_bits=16),
    Policy(overflow="infinity", nan="flipped_zero", nan_sign="keep", zero="nan", random_bits=8),
    Policy(overflow="saturate", nan="max", nan_code="ones", negative="abs", random_bits=29),
    Policy(overflow="propagate", nan="max", ftz=True, daz=True, random_bits=13),
    Policy(overflow="saturate", nan="zero", negative="nan", nan_code="ones", nan_sign="keep", ftz=True, random_bits=1),
    Policy(overflow="ieee", nan="max", negative="abs", zero="nan", daz=True, random_bits=32),
]


def test_the_policy_set_covers_every_choice():
    for field, choices in {"overflow": OVERFLOWS, **POLICIES}.items():
        assert {getattr(p, field) for p in POLICY_SET} == set(choices) - {"error", "high_bit"}     # high_bit: integers alone


boundaries = cache(room.boundaries)


def codes_of(fmt):
    return np.arange(1 << fmt.bits, dtype=fmt.code_dtype)


def run(engine, how, x, random=None, isa=None):
    """(codes, counts) of one engine; for C at most with that instruction set, and alike where nothing is counted.
    Counting takes exact as long again."""
    y, counts = np.empty(x.size, how.target.code_dtype), np.zeros(len(COUNTS), np.int64)
    if engine == "exact" and how.policy.rounding not in ("rne", "ru", "src"):
        counts = None
    if engine == "c":
        engine_c.limit_isa(isa or BEST)
    random = random if how.policy.rounding in STOCHASTIC else None
    room._ENGINES[engine](how, x, random, y, counts)
    if engine == "c":
        room._ENGINES[engine](how, x, random, uncounted := np.empty_like(y), None)
        engine_c.limit_isa(BEST)
        assert (uncounted == y).all(), f"{how}, {isa}: {x[uncounted != y][0]:#x} depends on whether C counts"
    return y, counts


def words(size, bits, seed=0):
    return (np.random.default_rng(seed).integers(0, 1 << 32, size, np.uint32) >> np.uint32(32 - bits)).astype(np.uint32)


def agree(how, x, engines=("c", "numba"), isa=None):
    random = words(x.size, how.policy.random_bits)
    first, *others = (run(engine, how, x, random, isa if engine == "c" else None) for engine in engines)
    for engine, other in zip(engines[1:], others):
        wrong = np.flatnonzero(first[0] != other[0])
        assert not wrong.size, (f"{how.source} to {how.target}, {how.policy}, {isa}: {x[wrong[0]]:#x} is "
                                f"{first[0][wrong[0]]:#x} in {engines[0]}, {other[0][wrong[0]]:#x} in {engine}")
        if first[1] is not None and other[1] is not None:
            assert (first[1] == other[1]).all(), (how, engine)


# --- engines ----------------------------------------------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("source", [*SMALL_SOURCES, *SOURCES_16], ids=str)
def test_c_and_numba_agree_on_every_code(source):
    """Every code to every format in every mode, under the policies and instruction sets in turn."""
    x = codes_of(source)
    turn = itertools.cycle(itertools.product(POLICY_SET, ISAS)) if source.bits > 8 else None
    for target, mode in itertools.product(TARGETS, MODES):
        for policy, isa in [next(turn)] if turn else zip(POLICY_SET, itertools.cycle(ISAS)):
            agree(conversion(source, target, replace(policy, rounding=mode)), x, isa=isa)


@pytest.mark.exhaustive
@pytest.mark.parametrize("source", SOURCES_16, ids=str)
def test_c_and_numba_agree_on_every_code_under_every_policy(source):
    for target, mode, policy, isa in itertools.product(TARGETS, MODES, POLICY_SET, ISAS):
        agree(conversion(source, target, replace(policy, rounding=mode)), codes_of(source), isa=isa)


def _three_ways(source, x):
    turn = itertools.cycle(itertools.product(POLICY_SET, ISAS))
    for target, mode in itertools.product(TARGETS, MODES):
        policy, isa = next(turn)
        agree(conversion(source, target, replace(policy, rounding=mode)), x, ("exact", "c", "numba"), isa)


@pytest.mark.parametrize("source", SMALL_SOURCES, ids=str)
def test_three_engines_agree_on_every_small_code(source):
    _three_ways(source, codes_of(source))


@pytest.mark.parametrize("source", SOURCES_16, ids=str)
def test_three_engines_agree_on_a_sample_of_16_bits(source):
    _three_ways(source, np.unique(np.concatenate([codes_of(source)[::331], codes_of(source)[-3:], codes_of(source)[:3]])))


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("source", SOURCES_16, ids=str)
def test_three_engines_agree_on_every_16_bit_code(source, mode):
    """Under every policy, to every target: ten minutes of the specification's time for each source and mode."""
    for target, (policy, isa) in itertools.product(TARGETS, zip(POLICY_SET, itertools.cycle(ISAS))):
        agree(conversion(source, target, replace(policy, rounding=mode)), codes_of(source), ("exact", "c", "numba"), isa)


@pytest.mark.exhaustive
@pytest.mark.parametrize("target", INTEGERS, ids=str)
@pytest.mark.parametrize("source", [*SMALL_SOURCES, *SOURCES_16], ids=str)
def test_every_code_to_integers(source, target):
    """In every mode, by each engine's way and by exact.convert."""
    x = codes_of(source)
    for mode, policy in zip(MODES, itertools.cycle(POLICY_SET)):
        policy = replace(policy, rounding=mode, random_bits=16 * (mode in STOCHASTIC), daz=False)
        random = words(x.size, 16)
        drawn = dict(random=random, random_bits=16) if mode in STOCHASTIC else {}
        want = [emulator.exact.convert(source, target, c, policy, r * (mode in STOCHASTIC))
                for c, r in zip(x.tolist(), random.tolist())]
        for engine in ("c", "numba"):
            found = convert(x, target, mode, policy.overflow, policy.nan, source=source, engine=engine, **drawn)
            found = found.view(np.uint8 if target.bits < 8 else target.code_dtype)
            assert (found & target.code_dtype.type((1 << target.bits) - 1)).tolist() == want, (mode, engine)


@pytest.mark.sanitize
@pytest.mark.parametrize("most", [20_000, pytest.param(1 << 30, marks=pytest.mark.exhaustive, id="all")])
@pytest.mark.parametrize("source", ["float64", "float32", "tfloat32"])
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_wide_sources_at_every_number_midpoint_and_neighbour(source, target, most):
    """float64, float32 and TF32 at every boundary of the target, or at `most` of those of a wide one: C and Numba on
    all, exact on a sample."""
    source = FORMATS[source]
    x = boundaries(source, target)
    x = x[:: x.size // most + 1].copy()
    sample = x[np.linspace(0, x.size - 1, 40).astype(int)]
    for mode, policy, isa in zip(MODES, itertools.cycle(POLICY_SET), itertools.cycle(ISAS)):
        how = conversion(source, target, replace(policy, rounding=mode))
        agree(how, x, isa=isa)
        agree(how, sample, ("exact", "c", "numba"), isa)


def _ever_less_ordinary(source, size):
    """Numbers within every target's range, positive ones first; then larger ones, and any codes."""
    rng, third = np.random.default_rng(7), size // 3
    codes = codes_of(source) if source.bits <= 16 else rng.integers(0, 1 << source.bits, third, np.uint64)
    if source.bits <= 16:
        numbers = [(c, decode(source, c)) for c in codes.tolist()]
        large = np.array([c for c, x in numbers if x.kind == "finite"])
        small = np.array([c for c, x in numbers if x.kind == "finite" and x.sig * 2.0**x.exp < 2])
    else:
        large = np.ldexp(rng.uniform(-2, 2, third), rng.integers(-170, 15, third))
        large[::3] = large[::3].astype(ml_dtypes.bfloat16)              # on the grid, and half-way between
        small = np.where(np.abs(large) < 2, large, large / 2**14)
        large, small = (x.astype(source.name).view(source.code_dtype) for x in (large, small))
    small = rng.choice(small, third).astype(source.code_dtype)
    small[:third // 2] &= source.code_dtype.type((1 << source.bits - 1) - 1)
    return np.concatenate([small, rng.choice(large, third), rng.choice(codes, size - 2 * third)]).astype(source.code_dtype)


@pytest.mark.sanitize
@pytest.mark.usefixtures("c_engine")
@pytest.mark.parametrize("size", [5_003, 800_017])
@pytest.mark.parametrize("source, target", [
    *itertools.product(["float32", "float64"], [f.name for f in FLOATS if f.bits <= 16]),
    *itertools.product(["float16", "bfloat16"], ["float8_e4m3fn", "float8_e4m3fnuz", "float6_e3m2fn"]),
    ("float32", "float64"), ("float64", "float32"), ("float32", "tfloat32"),
    *((f.name, "float32") for f in FLOATS if f.bits <= 16)])
def test_strips(source, target, size):
    """What C does in strips of 16 where all is ordinary, and writes past the cache where that is too small and the
    codes lie right: every instruction set like Numba. What a policy refuses is counted, whatever else is not."""
    x, offset = _ever_less_ordinary(FORMATS[source], size), 3
    for policy in (Policy(), Policy(overflow="saturate", nan="zero"), Policy(overflow="error", nan="error")):
        how = conversion(FORMATS[source], FORMATS[target], policy)
        y, want = np.empty(size + offset, how.target.code_dtype), np.empty(size, how.target.code_dtype)
        room._ENGINES["numba"](how, x, None, want, of_all := np.zeros(len(COUNTS), np.int64))
        refused = [code is None for code in room._outcomes(how).values()]
        for isa in ISAS:
            engine_c.limit_isa(isa)
            for found, counts in ((y[:size], None), (y[offset:], np.zeros(len(COUNTS), np.int64))):
                found[:] = 0
                room._ENGINES["c"](how, x, None, found, counts, False)
                wrong = np.flatnonzero(found != want)
                assert not wrong.size, (policy, isa, wrong[0], hex(x[wrong[0]]), hex(found[wrong[0]]), hex(want[wrong[0]]))
                assert counts is None or (counts[:5] == of_all[:5])[refused].all()
        engine_c.limit_isa(BEST)


@pytest.mark.sanitize
@pytest.mark.parametrize("policy", POLICY_SET, ids=str)
@pytest.mark.parametrize("target", ["bfloat16", "tfloat32", "float32", "float16"])
@pytest.mark.parametrize("source", ["float64", "float32", "float16", "bfloat16"])
def test_the_upper_end_in_rne_under_every_policy(source, target, policy):
    """Between the largest number and infinity, where a bound or a carry may make the wrong one of it."""
    source, target = FORMATS[source], FORMATS[target]
    x = boundaries(source, target)[-3000:]
    kinds = np.array([decode(source, code).kind for code in x.tolist()])
    for kind in ("finite", "inf"):                  # each alone: a NaN among them takes the slow way
        agree(conversion(source, target, policy), x[kinds == kind][-100:].copy(), ("exact", "c", "numba"))


@pytest.mark.sanitize
@pytest.mark.parametrize("source", ["int64", "uint64", "int32", "uint32", *(f.name for f in USER)])
def test_other_wide_sources(source):
    source = next((f for f in USER if f.name == source), None) or FORMATS[source]
    rng = np.random.default_rng(2)
    x = rng.integers(0, (1 << 64) - 1, 3000, np.uint64, endpoint=True) >> rng.integers(0, 64, 3000).astype(np.uint64)
    x = np.concatenate([x, ~x, x ^ (x >> np.uint64(1))]) & np.uint64((1 << source.bits) - 1)
    x = x.astype(source.code_dtype)
    for target, policy, isa in zip(TARGETS, itertools.cycle(POLICY_SET), itertools.cycle(ISAS)):
        for mode in MODES:
            how = conversion(source, target, replace(policy, rounding=mode))
            agree(how, x, isa=isa)
            agree(how, x[::900].copy(), ("exact", "c", "numba"), isa)


# --- against the definition -------------------------------------------------------------------------------------------

@settings(max_examples=150)
@given(_floats(), st.sampled_from([m for m in MODES if m not in STOCHASTIC]), st.data())
def test_generated_formats_against_fractions(fmt, mode, data):
    """Doubles inside the range of a generated format, from its own grid and beside it, by the definition of the mode."""
    largest = value(decode(fmt, fmt.max_code))
    grid = st.integers(0, fmt.max_code).map(lambda code: value(decode(fmt, code)))
    drawn = data.draw(st.lists(st.tuples(grid, grid, st.integers(0, 8), st.sampled_from([0, 0, 2**-52, -2**-53]),
                                         st.booleans()), min_size=8, max_size=8))
    x = [float(a + (b - a) * part / 8) * (1 + off) * (-1 if minus and fmt.signed else 1)
         for a, b, part, off, minus in drawn]
    x = [v for v in x if abs(Fraction(v)) <= largest and (abs(v) > 2.0**-1000 or v == 0)]
    for engine in ("c", "numba"):
        found = convert(np.array(x, np.float64), fmt, mode, engine=engine).view(fmt.code_dtype)
        for v, code in zip(x, found.tolist()):
            below = fmt.specials == "exponent" and Fraction(v) < value(decode(fmt, 0))
            magnitude = 0 if below else by_definition(fmt, Fraction(v), mode)
            negative = np.signbit(v) and (magnitude or fmt.has_negative_zero) and fmt.signed
            assert code == magnitude | (fmt.sign if negative else 0), (v, mode, engine)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("source", ["float64", "float32"])
@pytest.mark.parametrize("target", [pytest.param(f, marks=[pytest.mark.exhaustive] * (f.bits > 8)) for f in FLOATS
                                    if f.bits <= 16 and f.specials != "exponent"], ids=str)
def test_every_number_midpoint_and_neighbour_by_search_in_the_table_of_values(source, target):
    """In doubles, which hold all those numbers and midpoints: no step is shared with the engines or with exact."""
    x = boundaries(FORMATS[source], target)
    wide = x.view(source).astype(np.float64)
    x, wide = (each[~np.isnan(wide) & (target.signed | ~np.signbit(wide))] for each in (x, wide))
    grid = np.array([np.ldexp(float(n.sig), n.exp) for n in (decode(target, c) for c in range(target.max_code + 1))])
    low = np.searchsorted(grid, np.abs(wide), "right") - 1
    high = np.minimum(low + 1, target.max_code)
    inexact, middle, negative = grid[low] < np.abs(wide), (grid[low] + grid[high]) / 2, np.signbit(wide)
    tie, above, odd = np.abs(wide) == middle, np.abs(wide) > middle, low % 2 == 1
    for mode, up in (("rne", above | (tie & odd)), ("rna", above | tie), ("rz", False), ("rd", negative), ("ru", ~negative),
                     ("ro", ~odd)):
        magnitude = np.where(inexact & up, high, low)
        want = magnitude | np.where(negative & ((magnitude > 0) | target.has_negative_zero), target.sign, 0)
        found = convert(x, target, mode, "saturate", source=source).view(target.code_dtype)
        wrong = found != want
        assert not wrong.any(), (mode, wide[wrong][0].hex(), hex(found[wrong][0]), hex(want[wrong][0]))


@pytest.mark.parametrize("mode", STOCHASTIC)
def test_stochastic_mean_follows_the_fraction(mode):
    x = np.full(1 << 16, np.float32(1 + 5 / 64))            # 5/8 of the way from 1 to 1.125
    ups = (convert(x, "e4m3", mode, seed=3).astype(np.float32) > 1).mean()
    assert abs(ups - 5 / 8) < 0.01


@pytest.mark.parametrize("engine", ["exact", "numba", "c"])
def test_seeds_do_not_depend_on_chunks_or_engine(engine, monkeypatch):
    x = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    whole = convert(x, "e5m2", "sr", seed=11)
    monkeypatch.setattr(room, "CHUNK", 777)
    assert (convert(x, "e5m2", "sr", seed=11, engine=engine).view(np.uint8) == whole.view(np.uint8)).all()


# --- against others ---------------------------------------------------------------------------------------------------

def as_ml_dtypes(x, target):
    with np.errstate(all="ignore"):
        return x.astype(TYPED[target.name]).view(target.code_dtype)


# numpy, which makes float16, keeps payload bits of a NaN; nothing else here differs from profile ml_dtypes
NOT_LIKE_NUMPY = ("float16", "float32", "float64")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("target", [f for f in FLOATS if f.name in TYPED], ids=str)
def test_ml_dtypes_on_every_code(target):
    for source in [f for f in FLOATS if f.bits <= 16 and f.name in TYPED and f is not target]:
        x = codes_of(source).view(TYPED[source.name])
        bare = "exponent" in (source.specials, target.specials)     # which has casts to and from float32 alone
        want, found = as_ml_dtypes(x.astype(np.float32) if bare else x, target), convert(x, target, profile="ml_dtypes").view(target.code_dtype)
        wrong = want != found
        nan = np.isnan(x.astype(np.float32))
        if target.name in NOT_LIKE_NUMPY:
            wrong &= ~nan
        if target.specials == "exponent":       # named: its float32 subnormals round up from 2^-127 on
            wide = x.astype(np.float32)
            wrong &= ~((wide > 2.0**-127) & (wide < 1.5 * 2.0**-127))
        assert not wrong.any(), (source, x[wrong][:4], want[wrong][:4], found[wrong][:4])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("target", [f for f in FLOATS if f.name in TYPED and f.bits <= 16], ids=str)
def test_ml_dtypes_on_float32_boundaries_and_its_double_rounding_of_float64(target):
    x = boundaries(FORMATS["float32"], target).view(np.float32)
    keep = ~np.isnan(x) if target.name in NOT_LIKE_NUMPY else np.ones(x.size, bool)
    if target.specials == "exponent":
        keep &= ~((x > 2.0**-127) & (x < 1.5 * 2.0**-127))
    assert (as_ml_dtypes(x, target) == convert(x, target, profile="ml_dtypes").view(target.code_dtype))[keep].all()

    x = boundaries(FORMATS["float64"], target).view(np.float64)
    with np.errstate(all="ignore"):
        through = x.astype(np.float32)
    keep = ~np.isnan(x)
    if target.specials == "exponent":
        keep &= ~((through > 2.0**-127) & (through < 1.5 * 2.0**-127))
    found = convert(x, target, profile="ml_dtypes").view(target.code_dtype)
    twice = convert(through, target, profile="ml_dtypes").view(target.code_dtype)
    want = as_ml_dtypes(x, target)
    exactly = found if target.name == "float16" else twice  # numpy converts float64 to float16 in one step
    assert (want == exactly)[keep].all()
    assert (twice != found)[keep].any()                     # the boundary set does see double rounding


def test_double_roundings_that_others_make():
    """Reproducers: each is right in one rounding, wrong through float32."""
    x = np.array([float.fromhex("0x1.d000000000001p+8"), float.fromhex("0x1.5000000000001p-2")])
    assert convert(x, "e4m3").view(np.uint8).tolist() == [0x7F, 0x2B]
    assert x.astype(ml_dtypes.float8_e4m3fn).view(np.uint8).tolist() == [0x7E, 0x2A]
    assert float(convert(np.array([float.fromhex("0x1.0000000000001p-25")]), "f16")[0]) == 2.0**-24
    assert float(convert(np.array([float.fromhex("0x1.dfffffffffffep+15")]), "e5m2")[0]) == 57344
    assert float(convert(np.array([16973823]), "bf16")[0]) == 16908288


@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz",
                                  "float8_e8m0fnu"])
def test_torch(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12):
        pytest.skip(f"profile torch is that of 2.12 and later; this is {torch.__version__}")
    target = FORMATS[name]
    x = boundaries(FORMATS["float32"], target).view(np.float32)
    if name == "bfloat16":                                  # its vector code makes NaN 0xffff, its scalar code 0x7fc0
        x = x[~np.isnan(x)]
    if name == "float8_e8m0fnu":
        x = x[~((np.abs(x) > 2.0**-127) & (np.abs(x) < 1.5 * 2.0**-127))]
    want = torch.from_numpy(x).to(getattr(torch, name)).view(torch.uint16 if target.bits == 16 else torch.uint8).numpy()
    assert (convert(x, target, profile="torch").view(target.code_dtype) == want).all()


NVIDIA = r"""
#include <cstdio>
#include <cstring>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_fp6.h>
#include <cuda_fp4.h>
template <class T, class F> void all(F f)
{
    T x;
    while (fread(&x, sizeof x, 1, stdin)) {
        unsigned short y = f(x);
        fwrite(&y, sizeof y, 1, stdout);
    }
}
template <class T> unsigned short bits(T x) { unsigned short y; memcpy(&y, &x, 2); return y; }
int main(int, char **argv)
{
    const char *to = argv[1];
#define CASE(name, type, call) if (!strcmp(to, name)) all<type>([](type x) -> unsigned short { return call; })
    CASE("e4m3", float, __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3));
    CASE("e5m2", float, __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E5M2));
    CASE("e4m3.nosat", float, __nv_cvt_float_to_fp8(x, __NV_NOSAT, __NV_E4M3));
    CASE("e5m2.nosat", float, __nv_cvt_float_to_fp8(x, __NV_NOSAT, __NV_E5M2));
    CASE("e3m2", float, __nv_cvt_float_to_fp6(x, __NV_E3M2, cudaRoundNearest));
    CASE("e2m3", float, __nv_cvt_float_to_fp6(x, __NV_E2M3, cudaRoundNearest));
    CASE("e2m1", float, __nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundNearest));
    CASE("e3m2.rz", float, __nv_cvt_float_to_fp6(x, __NV_E3M2, cudaRoundZero));
    CASE("e2m1.rz", float, __nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundZero));
    CASE("ue8m0", float, __nv_cvt_float_to_e8m0(x, __NV_SATFINITE, cudaRoundPosInf));
    CASE("ue8m0.rz", float, __nv_cvt_float_to_e8m0(x, __NV_SATFINITE, cudaRoundZero));
    CASE("ue8m0.nosat", float, __nv_cvt_float_to_e8m0(x, __NV_NOSAT, cudaRoundPosInf));
    CASE("f16", float, bits(__float2half_rn(x)));
    CASE("f16.rz", float, bits(__float2half_rz(x)));
    CASE("f16.rd", float, bits(__float2half_rd(x)));
    CASE("f16.ru", float, bits(__float2half_ru(x)));
    CASE("bf16", float, bits(__float2bfloat16_rn(x)));
    CASE("bf16.rz", float, bits(__float2bfloat16_rz(x)));
    CASE("bf16.rd", float, bits(__float2bfloat16_rd(x)));
    CASE("bf16.ru", float, bits(__float2bfloat16_ru(x)));
    CASE("e4m3.f64", double, __nv_cvt_double_to_fp8(x, __NV_SATFINITE, __NV_E4M3));
    CASE("e5m2.f64", double, __nv_cvt_double_to_fp8(x, __NV_SATFINITE, __NV_E5M2));
    CASE("e2m1.f64", double, __nv_cvt_double_to_fp4(x, __NV_E2M1, cudaRoundNearest));
    CASE("f16.f64", double, bits(__double2half(x)));
    CASE("bf16.f64", double, bits(__double2bfloat16(x)));
    CASE("e3m2.f64", double, __nv_cvt_double_to_fp6(x, __NV_E3M2, cudaRoundNearest));
    CASE("e2m3.f64", double, __nv_cvt_double_to_fp6(x, __NV_E2M3, cudaRoundNearest));
    CASE("e2m3.rz", float, __nv_cvt_float_to_fp6(x, __NV_E2M3, cudaRoundZero));
    CASE("e4m3.f16", __half_raw, __nv_cvt_halfraw_to_fp8(x, __NV_SATFINITE, __NV_E4M3));
    CASE("e4m3.f16.nosat", __half_raw, __nv_cvt_halfraw_to_fp8(x, __NV_NOSAT, __NV_E4M3));
    CASE("e5m2.f16", __half_raw, __nv_cvt_halfraw_to_fp8(x, __NV_SATFINITE, __NV_E5M2));
    CASE("e5m2.f16.nosat", __half_raw, __nv_cvt_halfraw_to_fp8(x, __NV_NOSAT, __NV_E5M2));
    CASE("e3m2.f16", __half_raw, __nv_cvt_halfraw_to_fp6(x, __NV_E3M2, cudaRoundNearest));
    CASE("e2m3.f16", __half_raw, __nv_cvt_halfraw_to_fp6(x, __NV_E2M3, cudaRoundNearest));
    CASE("e2m1.f16", __half_raw, __nv_cvt_halfraw_to_fp4(x, __NV_E2M1, cudaRoundNearest));
    CASE("e4m3.bf16", __nv_bfloat16_raw, __nv_cvt_bfloat16raw_to_fp8(x, __NV_SATFINITE, __NV_E4M3));
    CASE("e4m3.bf16.nosat", __nv_bfloat16_raw, __nv_cvt_bfloat16raw_to_fp8(x, __NV_NOSAT, __NV_E4M3));
    CASE("e5m2.bf16", __nv_bfloat16_raw, __nv_cvt_bfloat16raw_to_fp8(x, __NV_SATFINITE, __NV_E5M2));
    CASE("e5m2.bf16.nosat", __nv_bfloat16_raw, __nv_cvt_bfloat16raw_to_fp8(x, __NV_NOSAT, __NV_E5M2));
    CASE("e3m2.bf16", __nv_bfloat16_raw, __nv_cvt_bfloat16raw_to_fp6(x, __NV_E3M2, cudaRoundNearest));
    CASE("e2m3.bf16", __nv_bfloat16_raw, __nv_cvt_bfloat16raw_to_fp6(x, __NV_E2M3, cudaRoundNearest));
    CASE("e2m1.bf16", __nv_bfloat16_raw, __nv_cvt_bfloat16raw_to_fp4(x, __NV_E2M1, cudaRoundNearest));
    CASE("ue8m0.bf16", __nv_bfloat16_raw, __nv_cvt_bfloat16raw_to_e8m0(x, __NV_SATFINITE, cudaRoundPosInf));
    CASE("ue8m0.f64", double, __nv_cvt_double_to_e8m0(x, __NV_SATFINITE, cudaRoundPosInf));
    CASE("f16.e4m3", unsigned char, __nv_cvt_fp8_to_halfraw(x, __NV_E4M3).x);
    CASE("f16.e5m2", unsigned char, __nv_cvt_fp8_to_halfraw(x, __NV_E5M2).x);
    CASE("f16.e3m2", unsigned char, __nv_cvt_fp6_to_halfraw(x, __NV_E3M2).x);
    CASE("f16.e2m3", unsigned char, __nv_cvt_fp6_to_halfraw(x, __NV_E2M3).x);
    CASE("f16.e2m1", unsigned char, __nv_cvt_fp4_to_halfraw(x, __NV_E2M1).x);
    CASE("bf16.ue8m0", unsigned char, __nv_cvt_e8m0_to_bf16raw(x).x);
}
"""
NVIDIA_CASES = [line.split('"')[1] for line in NVIDIA.splitlines() if line.strip().startswith("CASE(")]


def cuda_include():
    """A folder with NVIDIA's headers: of the toolkit, or of its wheels."""
    nvcc = shutil.which("nvcc")
    roots = [os.environ.get("CUDA_HOME", ""), str(pathlib.Path(nvcc).resolve().parents[1]) if nvcc else "",
             *sorted(glob.glob("/usr/local/cuda*"))]
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations if spec and spec.submodule_search_locations else ():
        roots += glob.glob(f"{place}/cu*") + glob.glob(f"{place}/cuda_runtime")
    found = [f"{root}/include" for root in roots if root and os.path.exists(f"{root}/include/cuda_fp4.hpp")]
    return found[0] if found else None


@pytest.fixture(scope="module")
def nvidia(tmp_path_factory):
    include, compiler = cuda_include(), shutil.which("g++")
    if include is None or compiler is None:
        pytest.skip("no CUDA headers (cuda_fp4.hpp) in CUDA_HOME, beside nvcc, in /usr/local/cuda* or in the nvidia wheels"
                    if include is None else "no g++")
    folder = tmp_path_factory.mktemp("nvidia")
    (folder / "host.cpp").write_text(NVIDIA)
    subprocess.run([compiler, "-O1", "-w", f"-I{include}", "-o", folder / "host", folder / "host.cpp"], check=True)
    return lambda name, x: np.frombuffer(
        subprocess.run([folder / "host", name], input=x.tobytes(), capture_output=True, check=True).stdout, np.uint16)


@pytest.mark.parametrize("case", NVIDIA_CASES)
def test_nvidia_headers(nvidia, case):
    name, *how = case.split(".")
    target, source = number_format(name), number_format(how[0] if how and how[0] in ALIASES else "float32")
    choices = {"rounding": next((word for word in how if word in MODES), None)}
    if "nosat" in how:
        choices["overflow"] = "infinity"
    x = boundaries(source, target)
    if source.bits > 16:
        noise = np.random.default_rng(4).integers(0, 1 << source.bits, 20000, np.uint64).astype(x.dtype)
        x = np.concatenate([x, noise])
    found = convert(x, target, source=source, profile="cuda", **choices).view(target.code_dtype)
    want = nvidia(case, x)
    wrong = found != want
    if case in ("e4m3.f64", "e5m2.f64"):        # named: only these keep a NaN's sign, and make e5m2's 7E; PTX has no such cvt
        wrong &= ~np.isnan(x.view(np.float64))
    assert not wrong.any(), [tuple(map(hex, row)) for row in zip(x[wrong][:5], found[wrong], want[wrong])]


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("name", ["bf16", "f16", "e4m3", "e5m2", "e2m1"])
def test_every_float32_like_ml_dtypes(name):
    target, size = number_format(name), 1 << 24
    for start in range(0, 1 << 32, size):
        x = np.arange(start, start + size, dtype=np.uint64).astype(np.uint32).view(np.float32)
        wrong = as_ml_dtypes(x, target) != convert(x, target, profile="ml_dtypes").view(target.code_dtype)
        if name == "f16":
            wrong &= ~np.isnan(x)
        assert not wrong.any(), hex(start + int(np.flatnonzero(wrong)[0]))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["bf16", "f16", "e4m3", "e5m2", "e2m1"])
def test_every_float32_by_the_middles_between_values(name):
    """Between two middles of the table of values every float32 has one result: each of 2**32, to nearest even."""
    target, size = number_format(name), 1 << 24
    grid = np.array([np.ldexp(float(n.sig), n.exp) for n in (decode(target, c) for c in range(target.max_code + 1))])
    middles = (grid + np.append(grid[1:], 2 * grid[-1] - grid[-2])) / 2
    near = middles.astype(np.float32)
    up = (near < middles) | ((near == middles) & (np.arange(middles.size) % 2 == 0))    # a tie stays at an even code
    first = np.concatenate([[0], near.view(np.uint32).astype(np.int64) + up, [0x7F800001, 1 << 31]])
    beyond = target.max_code if target.specials == "finite" else target.max_code + 1    # infinity, in e4m3 NaN
    results = np.append(np.arange(target.max_code + 1), beyond)
    for sign in (0, 1):
        nan = (1 - sign) * target.sign if target.nan_code is None else target.nan_code | sign * target.sign
        codes = np.append(results | sign * target.sign, nan).astype(target.code_dtype)
        for start in range(0, 1 << 31, size):
            counts = np.diff(np.clip(first, start, start + size))
            x = np.arange(start, start + size, dtype=np.uint32) | np.uint32(sign << 31)
            found = convert(x.view(np.float32), target, profile="ml_dtypes").view(target.code_dtype)
            wrong = found != np.repeat(codes, counts)
            assert not wrong.any(), hex(x[wrong][0])


# --- the face ---------------------------------------------------------------------------------------------------------

def test_layouts_types_and_shapes():
    x = np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
    want = x.astype(ml_dtypes.float8_e4m3fn)
    for view in (x, x.T, x[::2, ::-1], x.astype(">f4"), np.asfortranarray(x), x[:0], x[0, 0], np.float32(x[1, 2])):
        found = convert(view, "e4m3")
        assert found.dtype == np.dtype(ml_dtypes.float8_e4m3fn) and found.shape == np.shape(view)
        assert (found.view(np.uint8) == np.asarray(view).astype("f4").astype(want.dtype).view(np.uint8)).all()
    assert convert([1.1, 2], "bf16").tolist() == [ml_dtypes.bfloat16(1.1), 2]
    assert convert([1, 2], "e5m2").dtype == np.dtype(ml_dtypes.float8_e5m2)
    assert convert(x, "tf32").dtype == np.float32 and not (convert(x, "tf32").view(np.uint32) & 0x1FFF).any()
    assert convert(x, "ue4m3", negative="abs").dtype == carriers(FORMATS["float8_ue4m3"])[0]
    mine = Float("mine", 5, 6)
    there = convert(x, mine)
    assert there.dtype == np.uint16 and (convert(there, "f32", source=mine) == convert(convert(x, mine), "f64", source=mine)).all()
    assert (convert(np.array([0x7E], np.uint8), "f32", source="e4m3") == 448).all()
    assert (convert(np.array([1.0 + 2**-12], np.float32), "f32", source="tf32") == 1).all()


def test_threads_and_chunks_change_nothing(monkeypatch):
    x = np.random.default_rng(1).standard_normal(100_001).astype(np.float32) * 300
    want, told = convert(x, "e4m3", return_report=True)
    monkeypatch.setattr(room, "CHUNK", 4099)
    found, again = convert(x, "e4m3", return_report=True)
    assert (found.view(np.uint8) == want.view(np.uint8)).all() and told == again


def test_report():
    x = np.array([np.nan, np.inf, -np.inf, 1e9, -1e9, 1e-9, -0.0, 1, 448, 464], np.float32)
    _, told = convert(x, "e4m3", overflow="saturate", return_report=True)
    assert vars(told) == dict(elements=10, saturated=4, overflowed=0, flushed=1, nan=1)
    _, told = convert(x, "e4m3", return_report=True)
    assert vars(told) == dict(elements=10, saturated=0, overflowed=4, flushed=1, nan=1)
    _, told = convert(x, "e5m2", overflow="propagate", return_report=True)
    assert vars(told) == dict(elements=10, saturated=2, overflowed=0, flushed=1, nan=1)
    _, told = convert([2.0**-15, 2.0**-130, -3], "ue4m3", ftz=True, daz=True, return_report=True)
    assert vars(told) == dict(elements=3, saturated=0, overflowed=1, flushed=2, nan=0)


def test_e8m0_in_each_rounding():
    x = np.array([0, 2.0**-140, 1, 1.25, 1.5, 2.5, 3, 6, 2.0**127 * 1.5, np.inf, -1, np.nan])

    def to(**choices):
        return convert(x, "ue8m0", **choices).view(np.uint8).tolist()

    assert to(rounding="rne") == [0, 0, 127, 127, 128, 128, 128, 130, 254, 255, 255, 255]      # ties to the even code
    assert to(rounding="rna") == [0, 0, 127, 127, 128, 128, 129, 130, 255, 255, 255, 255]
    assert to(rounding="ru") == [0, 0, 127, 128, 128, 129, 129, 130, 255, 255, 255, 255]
    assert to(rounding="rz") == [0, 0, 127, 127, 127, 128, 128, 129, 254, 255, 255, 255]
    assert to(profile="cuda") == [0, 0, 127, 128, 128, 129, 129, 130, 254, 254, 127, 255]
    assert to(profile="ml_dtypes")[:1] == [255] and to(profile="torch")[10] == 127
    assert to(profile="onnx")[-4:-2] == [254, 254] and to(profile="ocp")[4] == 127


def test_defaults_and_profiles():
    assert room.policy_for("e2m1").overflow == "saturate" and room.policy_for("e4m3").overflow == "ieee"
    assert room.policy_for("e4m3", "torch").overflow == "saturate"
    assert room.policy_for("e4m3", "torch", overflow="infinity").overflow == "infinity"
    assert room.policy_for("e2m1", "onnx").nan == "max" and room.policy_for("e2m1").nan == "error"
    found = differences("torch", "ml_dtypes", "e4m3")
    assert len(found) and all(abs(np.array([code], np.uint32).view(np.float32)[0]) > 464 for code, *_ in found.rows)
    assert not differences("ocp", "cuda", "float16", "float8_e5m2").rows[:0]
    assert [row[1:] for row in differences("ocp", "onnx", "e2m1", "bfloat16").rows][0] == (None, 7)
    assert "torch and ml_dtypes differ on" in str(found)
    assert {to for rows in emulator.PROFILES.values() for name in rows for to in name.split(" to ")} <= {*FORMATS, "*"}


@pytest.mark.parametrize("call, sentence", [
    (lambda: convert(["a"], "e4m3"), "x is str32; convert takes the floating-point and integer types"),
    (lambda: convert(np.zeros(2, complex), "e4m3"), "x is complex128; convert takes"),
    (lambda: convert([1.0], "e2m1", nan="high_bit"), "nan is 'high_bit', which is for integers; float4_e2m1fn is none"),
    (lambda: convert([1.0, 2.0**63], "int64", overflow="error"), r"x\[1\] is 0x43e0000000000000 9.2233720368547758e.18: .* overflows int64"),
    (lambda: convert([[0, 200.0]], "int8", overflow="error"), r"x\[0, 1\] is 0x4069000000000000 200.0: .* overflows int8; choose"),
    (lambda: convert([1.0, np.nan], "int4"), r"x\[1\] is 0x7ff8000000000000 nan: int4 has no NaN; choose nan='zero' or nan='max'"),
    (lambda: convert([1.0], "nf4", "rz"), "rounding is rz; a table takes the nearest of its numbers, rne"),
    (lambda: convert([1.0, 1.1], "nf4", overflow="error"), "overflows nf4"),
    (lambda: convert([1.0], "int8", profile="torch"), "profile torch says nothing of int8; give the choices one by one"),
    (lambda: convert(np.array([5], np.uint8), "f32", source=Table("five", range(5))), "x holds 0x5; codes of five lie in 0..0x4"),
    (lambda: convert([1.0], "e4m3", "nearest"), "rounding 'nearest' is not known"),
    (lambda: convert([1.0], "e4m3", overflow="wrap"), "overflow 'wrap' is not known"),
    (lambda: convert([1.0], "e4m3", nan="keep"), "nan 'keep' is not known; the choices are error zero max flipped_zero"),
    (lambda: convert([1.0], "e4m3", profile="jax"), "profile 'jax' is not known; the profiles are ocp, ml_dtypes, torch"),
    (lambda: convert([[0, np.nan]], "e2m1"), r"x\[0, 1\] is 0x7ff8000000000000 nan: float4_e2m1fn has no NaN"),
    (lambda: convert([1, 500.0], "e4m3", overflow="error"), r"x\[1\] is 0x407f400000000000 500.0: .* overflows float8_e4m3fn"),
    (lambda: convert([1.0], "e4m3", "sr"), "rounding sr takes its random bits from seed= or from random=, one of them"),
    (lambda: convert([1.0], "e4m3", seed=1), "rounding rne reads no random bits; those that do are sr srb src"),
    (lambda: convert([1.0], "e4m3", "sr", seed=1, random_bits=40), "random_bits is 40; it takes 1..32"),
    (lambda: convert([1.0], "e4m3", "sr", random=[256], random_bits=8), r"random holds 256..256; with random_bits=8"),
    (lambda: convert([1.0], "e4m3", "sr", random=[1.5]), "random is float64; it takes integers"),
    (lambda: convert([1.0], "e4m3", "sr", random=[1, 2], random_bits=4), r"random has shape \(2,\); it must broadcast to \(1,\)"),
    (lambda: convert(np.array([300]), "f32", source="e4m3"), "x holds 0x12c; codes of float8_e4m3fn lie in 0..0xff"),
])
def test_refusals(call, sentence):
    with pytest.raises(BadOperand, match=sentence):
        call()


def test_refused_elements_far_in_are_named():
    x = np.zeros((3, 5000), np.float32)
    x[2, 4321] = np.nan
    with pytest.raises(BadOperand, match=r"x\[2, 4321\] is 0x7fc00000 nan: float6_e3m2fn has no NaN"):
        convert(x, "e3m2")


def test_other_refusals():
    with pytest.raises(EngineUnavailable, match="engine 'gpu' is not known; the engines are exact, numba, c"):
        convert([1.0], "e4m3", engine="gpu")
    with pytest.raises(UnknownFormat, match="convert takes at most 15 exponent bits"):
        convert([1.0], Float("vast", 20, 4))
    with pytest.raises(BadOperand, match="boundaries are those of a floating-point format or of at most 16 bits"):
        room.boundaries("int64", "e4m3")


# --- integers and tables ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target", [*INTEGERS, FORMATS["nf4"], Table("mine", (-3, -1.5, 0.1, 2**-10 * 1025, 7e4))], ids=str)
def test_integers_and_tables_like_the_specification(target):
    """Halves, ends of the range and their neighbours, in every mode, by each engine's way and by exact.convert."""
    ends = [float(v) for v in (target.values if isinstance(target, Table) else (target.min, target.max, 0, 1, 2, 3))]
    points = {s * (e + off) for e in ends for off in (0, 0.25, 0.5, 0.75, 1, 1.5, 300) for s in (1, -1)} | {1e300, 1e-300}
    points |= {(a + b) / 2 for a in ends for b in ends}
    x = np.array(sorted(p for v in points for p in (np.nextafter(v, -9e9), v, np.nextafter(v, 9e9))) + [np.inf, -np.inf, -0.0])
    random = words(x.size, 16)
    for mode, policy in zip(MODES, itertools.cycle(POLICY_SET)):
        if isinstance(target, Table) and mode != "rne":
            continue
        stochastic = mode in STOCHASTIC
        policy = replace(policy, rounding=mode, random_bits=16 * stochastic, daz=False)
        want = [emulator.exact.convert(FORMATS["float64"], target, int(c), policy, int(r) * stochastic)
                for c, r in zip(x.view(np.uint64), random)]
        for engine in ("exact", "numba", "c"):
            drawn = dict(random=random, random_bits=16) if stochastic else {}
            found = convert(x, target, mode, policy.overflow, policy.nan, engine=engine, **drawn)
            assert found.dtype == carriers(target)[0]
            code = found.view(np.uint8 if target.bits < 8 else target.code_dtype) & target.code_dtype.type((1 << target.bits) - 1)
            assert code.tolist() == want, (mode, engine)


def test_integers_like_numpy_and_cuda():
    x = np.random.default_rng(0).standard_normal(5000).astype(np.float32) * 90
    assert (convert(x, "int8") == np.clip(np.rint(x), -128, 127).astype(np.int8)).all()
    assert (convert(x, "uint8", "rz") == np.clip(np.trunc(x), 0, 255).astype(np.uint8)).all()
    assert (convert(x, "int32", "rd") == np.floor(x).astype(np.int32)).all()
    assert convert(np.float32([np.nan, np.inf, -1e9]), "s8", profile="cuda").tolist() == [0, 127, -128]
    found, told = convert([np.nan, 1e9, -np.inf, 0.25, 1], "int4", nan="zero", return_report=True)
    assert found.tolist() == [0, 7, -8, 0, 1] and vars(told) == dict(elements=5, saturated=2, overflowed=0, flushed=1, nan=1)
    assert convert(np.array([[1 << 40, -7]]), "int16").tolist() == [[32767, -7]]


@pytest.mark.sanitize
@pytest.mark.parametrize("target", ["int64", "uint64", Integer("int63", 63), Integer("uint63", 63, False), "int32"], ids=str)
@pytest.mark.parametrize("source", ["float64", "float32", "bfloat16", "float8_e8m0fnu", "user_wide", Float("user_e8m55", 8, 55),
                                    "int64", "uint64", "int8", "uint4"], ids=str)
def test_long_integers_like_the_specification(source, target):
    """2**62, 2**63, 2**64, their halves, neighbours and beyond, by each engine."""
    source = next((f for f in USER if f.name == source), None) or emulator.number_format(source)
    target = emulator.number_format(target)
    if isinstance(source, Integer):
        near = [(end + off) % (1 << source.bits) for end in (0, 1 << source.bits - 1, 1 << 31, 1 << 32) for off in range(-2, 3)]
    else:
        powers = [emulator.exact.encode(source, Number(False, 1, e), "rz", "saturate") for e in (-1, 0, 1, 31, 32, 52, 53, 62, 63, 64, 65)]
        near = [min(max(code + off, 0), source.magnitude) | sign for code in [*powers, source.max_code, source.max_code + 1]
                for off in range(-2, 3) for sign in {0, source.sign}]
    x = np.array(sorted(set(near)), np.uint64).astype(source.code_dtype)
    for mode, nan in (("rne", "zero"), ("rd", "max"), ("ru", "high_bit"), ("sr", "flipped_zero")):
        random = words(x.size, 16)
        drawn = dict(random=random, random_bits=16) if mode == "sr" else {}
        policy = Policy(mode, "saturate", nan, random_bits=16 if drawn else 0)
        want = [emulator.exact.convert(source, target, int(c), policy, int(r) * bool(drawn)) for c, r in zip(x, random)]
        strict = replace(policy, overflow="error")
        beyond = 0
        for c, r in zip(x, random):
            try:
                emulator.exact.convert(source, target, int(c), strict, int(r) * bool(drawn))
            except BadOperand:
                beyond += 1
        for engine in ("exact", "numba", "c"):
            found, told = convert(x, target, mode, nan=nan, source=source, engine=engine, return_report=True, **drawn)
            found = found.view(target.code_dtype) & target.code_dtype.type((1 << target.bits) - 1)
            assert found.tolist() == want and told.saturated == beyond, (mode, engine)


def test_integers_by_profile_cuda():
    """PTX ISA 9.0, cvt: a NaN becomes 0 where neither side has 64 bits, else the highest bit; what is beyond is clamped."""
    for source, target, nan in (("float32", "int32", 0), ("float32", "uint8", 0), ("float32", "int64", -(1 << 63)),
                                ("float16", "uint64", 1 << 63), ("float64", "int32", -(1 << 31)), ("float64", "uint16", 1 << 15)):
        x = np.array([np.nan, np.inf, -np.inf, 2.5], source)
        ends = np.iinfo(target)
        assert convert(x, target, profile="cuda").tolist() == [nan, ends.max, ends.min, 2]
        assert convert(x, target, profile="cuda", nan="max").tolist()[0] == ends.max


def test_many_saturated_numbers_take_no_longer():
    x = np.full(1 << 20, 1e9, np.float32)
    for target in ("int8", "nf4", "int64"):
        start = time.perf_counter()
        convert(x, target)
        assert time.perf_counter() - start < 2              # one by one it would be ten and more


def test_nf4_is_the_published_table_with_the_published_thresholds():
    """bitsandbytes compares with these middles, strictly: a tie goes down."""
    middles = np.array([-0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544,
                        -0.23460740596055984, -0.13791173323988914, -0.045525018125772476, 0.03979014977812767,
                        0.1202552504837513, 0.2035212516784668, 0.2920137718319893, 0.3893125355243683, 0.5016634166240692,
                        0.6427869200706482, 0.8614784181118011], np.float32)
    assert convert(np.nextafter(middles, np.float32(-2)), "nf4").tolist() == list(range(15))
    assert convert(np.nextafter(middles, np.float32(2)), "nf4").tolist() == list(range(1, 16))
    tie = Table("tie", (0, 1, 3))
    assert convert([0.5, np.nextafter(0.5, 1), 2.0, 9], tie).tolist() == [0, 1, 1, 2]
    assert convert(np.arange(16, dtype=np.uint8), "f64", source="nf4").tolist() == list(FORMATS["nf4"].values)
    found, told = convert([2.0, -5, 0.01, 0, np.nan], "nf4", nan="zero", return_report=True)
    assert found.tolist() == [15, 0, 7, 7, 7] and vars(told) == dict(elements=5, saturated=2, overflowed=0, flushed=1, nan=1)


# --- packing ----------------------------------------------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("engine", ["c", "numpy"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_pack_and_unpack(bits, engine, monkeypatch):
    if engine == "numpy":
        monkeypatch.setattr("emulator.engine_c.available", lambda: False)
    rng = np.random.default_rng(bits)
    for shape in ((0,), (1,), (7,), (64,), (3, 8), (2, 3, 5), (4, 0)):
        codes = rng.integers(0, 1 << bits, shape, np.uint8, endpoint=False)
        packed = pack(codes, bits)
        assert packed.shape == (*shape[:-1], -(-shape[-1] * bits // 8)) and packed.dtype == np.uint8
        assert (unpack(packed, bits, shape[-1]) == codes).all()
        rows = int(np.prod(shape[:-1]))
        for row, line in zip(codes.reshape(rows, shape[-1]), packed.reshape(rows, packed.shape[-1])):
            stream = sum(int(code) << (i * bits) for i, code in enumerate(row))
            assert int.from_bytes(line.tobytes(), "little") == stream


def test_packing_typed_arrays_and_refusals():
    x = convert([0.5, -6.0, 1.5], "e2m1")
    assert pack(x).tolist() == [0xF1, 0x03]
    with pytest.raises(BadOperand, match="packing takes codes of 1 to 8 bits"):
        pack(np.zeros(3, np.float16))
    with pytest.raises(BadOperand, match="x holds 0x10; codes of codes lie in 0..0xf"):
        pack(np.array([16], np.uint8), 4)
    with pytest.raises(BadOperand, match="bits is 9; a packed code has 1 to 8"):
        unpack(np.zeros(3, np.uint8), 9)
    with pytest.raises(BadOperand, match="count is 7; 3 bytes hold 0..6 codes of 4 bits"):
        unpack(np.zeros(3, np.uint8), 4, 7)
