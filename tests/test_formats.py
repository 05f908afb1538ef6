"""Formats against ml_dtypes and numpy (all codes), and against the definitions in their standards."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator import FORMATS, BadOperand, Float, Table, UnknownFormat, number_format
from emulator.exact import Number, decode, encode

FLOATS = [f for f in FORMATS.values() if isinstance(f, Float)]
TYPED = {f.name: np.dtype(getattr(ml_dtypes, f.name, None) or getattr(np, f.name, None)) for f in FLOATS
         if hasattr(ml_dtypes, f.name) or hasattr(np, f.name)}
SMALL = [f for f in FLOATS if f.bits <= 16 and f.name in TYPED]


def value(number: Number) -> Fraction | None:
    if number.kind != "finite":
        return None
    return (-1) ** number.negative * number.sig * Fraction(2) ** number.exp


def test_every_ml_dtypes_float_is_there():
    names = {n for n in dir(ml_dtypes) if n.startswith(("float", "bfloat"))}
    assert names and names <= set(FORMATS)


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_decode_all_codes_like_ml_dtypes(fmt):
    codes = np.arange(1 << fmt.bits, dtype=fmt.code_dtype)
    values = codes.view(TYPED[fmt.name]).astype(np.float64)
    for code, want in zip(codes.tolist(), values.tolist()):
        got = decode(fmt, code)
        if np.isnan(want):
            assert got.kind == "nan", hex(code)
        elif np.isinf(want):
            assert (got.kind, got.negative) == ("inf", want < 0), hex(code)
        else:
            assert value(got) == Fraction(want), hex(code)
            assert got.negative == bool(np.signbit(want)), hex(code)


@pytest.mark.parametrize("name, unsigned", [("float32", np.uint32), ("float64", np.uint64)])
def test_decode_wide_formats_like_numpy(name, unsigned):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, np.iinfo(unsigned).max, 3000, unsigned, endpoint=True)
    edges = [0, 1, FORMATS[name].max_code, FORMATS[name].inf_code, FORMATS[name].nan_code, FORMATS[name].inf_code + 1]
    codes = np.concatenate([codes, np.array([e | s for e in edges for s in (0, FORMATS[name].sign)], unsigned)])
    for code, want in zip(codes.tolist(), codes.view(name).tolist()):
        got = decode(FORMATS[name], code)
        assert value(got) == Fraction(want) if np.isfinite(want) else got.kind == ("nan" if np.isnan(want) else "inf")


@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_round_trip_and_finfo(fmt):
    for code in range(1 << fmt.bits):
        number = decode(fmt, code)
        if number.kind != "nan":
            assert encode(fmt, number, overflow="infinity") == code
    info = ml_dtypes.finfo(TYPED[fmt.name])
    assert (info.bits, info.nmant) == (max(fmt.bits, info.bits), fmt.frac_bits)
    assert value(decode(fmt, fmt.max_code)) == Fraction(float(info.max))
    assert value(decode(fmt, (fmt.specials != "exponent") << fmt.low_pad)) == Fraction(float(info.smallest_subnormal))
    assert Fraction(2) ** fmt.emin == Fraction(float(info.smallest_normal))


def test_tf32_ignores_the_low_13_bits_before_it_looks_for_nan():
    tf32 = number_format("tf32")
    assert decode(tf32, 0x3F801FFF) == decode(tf32, 0x3F800000)
    assert decode(tf32, 0x7F800001).kind == "inf"        # a NaN of float32, an infinity once truncated (PTX, wgmma)
    assert (tf32.max_code, value(decode(tf32, 0x2000))) == (0x7F7FE000, Fraction(2) ** -136)


def test_ue4m3_ignores_the_sign_bit():
    ue4m3 = number_format("ue4m3")
    for code in range(128):
        assert decode(ue4m3, code | 0x80) == decode(ue4m3, code)
    assert (ue4m3.max_code, ue4m3.nan_code, value(decode(ue4m3, 0x7E))) == (0x7E, 0x7F, 448)


# OCP OFP8 1.0 table 1, OCP MX 1.0 tables 2 to 5, PTX ISA table "alternate floating-point data formats"
@pytest.mark.parametrize("name, largest, smallest_normal, smallest, inf, nan", [
    ("e4m3", 448, Fraction(2) ** -6, Fraction(2) ** -9, None, 0x7F),
    ("e5m2", 57344, Fraction(2) ** -14, Fraction(2) ** -16, 0x7C, 0x7E),
    ("e2m3", Fraction("7.5"), 1, Fraction("0.125"), None, None),
    ("e3m2", 28, Fraction("0.25"), Fraction("0.0625"), None, None),
    ("e2m1", 6, 1, Fraction("0.5"), None, None),
    ("ue8m0", Fraction(2) ** 127, Fraction(2) ** -127, Fraction(2) ** -127, None, 0xFF),
    ("float16", 65504, Fraction(2) ** -14, Fraction(2) ** -24, 0x7C00, 0x7E00),
    ("float8_e4m3fnuz", 240, Fraction(2) ** -7, Fraction(2) ** -10, None, 0x80),
    ("float8_e5m2fnuz", 57344, Fraction(2) ** -15, Fraction(2) ** -17, None, 0x80),
])
def test_documented_limits(name, largest, smallest_normal, smallest, inf, nan):
    fmt = number_format(name)
    first = fmt.specials != "exponent"
    assert value(decode(fmt, fmt.max_code)) == largest
    assert Fraction(2) ** fmt.emin == smallest_normal
    assert value(decode(fmt, int(first))) == smallest
    assert (fmt.inf_code, fmt.nan_code) == (inf, nan)
    assert Fraction(2) ** fmt.emax <= largest < Fraction(2) ** (fmt.emax + 1)


def test_names():
    assert number_format("e4m3") is number_format("float8_e4m3fn") is number_format(ml_dtypes.float8_e4m3fn)
    assert number_format(np.dtype(ml_dtypes.bfloat16)) is number_format("BF16") is FORMATS["bfloat16"]
    assert number_format(np.float16) is number_format("half")
    assert number_format("float8_e4m3") is not number_format("e4m3")       # the IEEE-like one of ml_dtypes
    with pytest.raises(UnknownFormat, match="'e9m9' is not a number format; the formats are float64"):
        number_format("e9m9")


def _floats():
    def build(specials, exp_bits, frac_bits, signed, bias):
        return Float("user", exp_bits, frac_bits, bias, specials, signed)
    return st.one_of(
        st.builds(build, st.just("ieee"), st.integers(2, 6), st.integers(1, 5), st.booleans(), st.integers(-3, 20)),
        st.builds(build, st.sampled_from(["fn", "finite"]), st.integers(2, 6), st.integers(0, 5), st.booleans(),
                  st.integers(-3, 20)),
        st.builds(build, st.just("fnuz"), st.integers(1, 6), st.integers(0, 5), st.just(True), st.integers(-3, 20)),
        st.builds(build, st.just("exponent"), st.integers(2, 8), st.just(0), st.just(False), st.integers(-3, 130)))


@given(_floats())
def test_generated_formats_are_monotonic_and_round_trip(fmt):
    """A format is a strictly increasing map from magnitude codes to numbers, whatever its widths, bias and specials."""
    values = [value(decode(fmt, code)) for code in range(fmt.max_code + 1)]
    assert None not in values and all(x < y for x, y in zip(values, values[1:]))
    assert (values[0] == 0) == (fmt.specials != "exponent")
    specials = [decode(fmt, code).kind for code in range(fmt.max_code + 1, fmt.magnitude + 1)]
    assert specials.count("inf") == (fmt.inf_code is not None)
    if fmt.nan_code is not None:
        assert decode(fmt, fmt.nan_code).kind == decode(fmt, fmt.all_ones_nan).kind == "nan"
    for code in range(1 << fmt.bits):
        if decode(fmt, code).kind != "nan":
            assert encode(fmt, decode(fmt, code), overflow="infinity") == code


@pytest.mark.parametrize("arguments, sentence", [
    (dict(exp_bits=1, frac_bits=3), "too narrow for 'ieee' specials, which need at least 2 and 1"),
    (dict(exp_bits=4, frac_bits=3, specials="ocp"), "specials 'ocp' is not one of ieee, fn, fnuz, finite, exponent"),
    (dict(exp_bits=8, frac_bits=1, specials="exponent", signed=False), "a bare exponent has no fraction and no sign"),
    (dict(exp_bits=4, frac_bits=3, specials="fnuz", signed=False), "fnuz puts NaN at minus zero, so it needs a sign"),
])
def test_descriptions_that_are_no_format(arguments, sentence):
    with pytest.raises(UnknownFormat, match=sentence):
        Float("user", **arguments)


@pytest.mark.parametrize("values, sentence", [
    ((1,), "a table has 2 to 65536 finite numbers; these are 1"), ((1, np.nan), "finite numbers"),
    ((0, 2, 1), "numbers of a table ascend; 1.0 comes after 2.0"), ((1, 1 + 1e-9), "ascend"),
    ((2.0**-100, 1), "the middle between .* has more than 52 bits"),
])
def test_descriptions_that_are_no_table(values, sentence):
    with pytest.raises(UnknownFormat, match=sentence):
        Table("mine", values)


def test_codes_out_of_range():
    with pytest.raises(BadOperand, match="0x100 is not a 8-bit code of float8_e5m2"):
        decode(number_format("e5m2"), 0x100)
