"""blocks and quantize: every rule against its definition in Fractions, hand-derived cases, layouts, instructions."""

import importlib
import itertools
import math
from dataclasses import replace
from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats import value
from test_rounding import by_definition

import emulator
from emulator import (
    BLOCKS,
    BadOperand,
    BlockFormat,
    Float,
    UnknownFormat,
    cli,
    convert,
    engine_c,
    number_format,
    quantize,
)
from emulator.arrays import unpack
from emulator.blocks import POWERS, from_128x4, to_128x4
from emulator.exact import decode
from emulator.record import conversion
from emulator.rounding import MODES, STOCHASTIC

MX = [name for name in BLOCKS if name != "nvfp4"]
E8M0, UE4M3, F32 = (number_format(name) for name in ("ue8m0", "ue4m3", "f32"))
BELOW_8 = float(np.nextafter(np.float32(8), np.float32(0)))
USER = BlockFormat("user", Float("user_e3m1", 3, 1, specials="finite"), (5,), Float("user_e5m3", 5, 3, signed=False),
                   "ru", two_level=True)


# --- the reference: definitions over Fractions, one element at a time -------------------------------------------------

@cache
def numbers(fmt: Float) -> list[Fraction]:
    return [value(decode(fmt, code)) for code in range(fmt.max_code + 1)]


def floor_log2(x: Fraction) -> int:
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def power(rule: str, amax: Fraction, element: Float) -> int:
    """The exponent of the scale as each rule is defined, for amax > 0."""
    e = floor_log2(amax)
    if rule == "ceil":
        e += Fraction(2) ** e < amax
    if rule == "even":                          # amax rounded to the element's fraction bits, half up
        unit = Fraction(2) ** (e - element.frac_bits)
        e = floor_log2(unit * math.floor(amax / unit + Fraction(1, 2)))
    if rule == "rceil":
        e = floor_log2(amax / numbers(element)[-1])
        return e + (numbers(element)[-1] * Fraction(2) ** e < amax)
    return e - element.emax


def rounded(fmt: Float, x: Fraction, mode: str) -> int:
    """The code, saturated, of a nonzero x that is rounded by definition."""
    magnitude = fmt.max_code if abs(x) >= numbers(fmt)[-1] else by_definition(fmt, x, mode)
    return magnitude | (fmt.sign if x < 0 else 0)


def reference(fmt: BlockFormat, block: list[float], tensor: Fraction = Fraction(1), mode: str = "rne"):
    """(code of the scale, codes of the grid) of a block of finite numbers."""
    exact = [Fraction(float(x)) for x in block]
    amax = max(map(abs, exact)) / tensor
    if fmt.rule in POWERS:
        lo, hi = fmt.scale.emin - fmt.scale.frac_bits, fmt.scale.emax
        wanted = power(fmt.rule, amax, fmt.grid) if amax else lo
        scale = numbers(fmt.scale).index(Fraction(2) ** min(max(wanted, lo), hi))
    elif not amax:
        scale = 0
    else:
        scale = rounded(fmt.scale, amax / numbers(fmt.grid)[-1], fmt.rule)
    unit = numbers(fmt.scale)[scale] * tensor
    return scale, [fmt.grid.sign * (math.copysign(1, x) < 0) if not x or not unit else rounded(fmt.grid, y / unit, mode)
                   for x, y in zip(block, exact)]


def grid_codes(q) -> np.ndarray:
    """Codes of the grid, sign and magnitude, of any element; -0 of an integer is +0."""
    if isinstance(q.format.element, Float):
        return q.codes
    signed = q.elements.astype(np.int64)
    return np.abs(signed) | np.where(signed < 0, q.format.grid.sign, 0)


def agrees(fmt: BlockFormat, x: np.ndarray, mode: str = "rne", engine: str | None = None, **options) -> None:
    """Every block of x (blocks, size), finite, is what the definitions say."""
    q = fmt.quantize(x, block=x.shape[1], rounding=mode, engine=engine, **options)
    tensor = Fraction(1) if q.tensor_scale is None else Fraction(float(q.tensor_scale))
    scales, found = convert(q.scales, "float64", source=fmt.scale)[:, 0], grid_codes(q)
    sign = 0 if isinstance(fmt.element, Float) else fmt.grid.sign
    for i, block in enumerate(x.tolist()):
        scale, codes = reference(q.format, block, tensor, mode)
        assert scales[i] == numbers(fmt.scale)[scale], (fmt, mode, block, scales[i])
        assert [0 if code == sign else code for code in codes] == found[i].tolist(), (fmt, mode, block)


def adversarial(size: int = 8) -> np.ndarray:
    """Blocks of float32 whose amax lies at and beside every power of two, with ties and small numbers below it."""
    ones = np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32)
    amax = np.concatenate([ones, np.nextafter(ones, np.float32(0)), np.nextafter(ones, np.float32(np.inf))])
    rng = np.random.default_rng(5)
    x = amax[:, None] * rng.choice([0, -0.0, 0.125, -0.25, 0.375, 0.5, 0.625, 0.875, -1, 1e-9, 0.3], (amax.size, size))
    x[:, rng.integers(size)] = amax
    return x.astype(np.float32)


# --- rules ------------------------------------------------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("rule", POWERS)
@pytest.mark.parametrize("name", MX)
def test_rules_by_definition(name, rule):
    agrees(replace(BLOCKS[name], rule=rule), adversarial()[list(POWERS).index(rule)::5])


@pytest.mark.parametrize("rule", POWERS)
def test_the_scale_at_every_power_of_two(rule):
    """And one step of float32 below and above it."""
    amax = adversarial(1)
    amax = amax[amax[:, 0] > 0]
    for name in MX:
        scales = quantize(amax, name, rule=rule).scales.view(np.uint8)[:, 0].astype(int) - 127
        want = [min(max(power(rule, Fraction(float(x)), BLOCKS[name].grid), -127), 127) for x in amax[:, 0]]
        assert scales.tolist() == want, name


@pytest.mark.parametrize("mode", ["rna", "rz", "rd", "ru", "ro"])
@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e5m2", "mxint8", "nvfp4"])
def test_roundings_by_definition(name, mode):
    agrees(BLOCKS[name], adversarial()[::11], mode)


@settings(max_examples=60)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4),
       st.sampled_from([BLOCKS["nvfp4"], USER, replace(BLOCKS["nvfp4"], rule="ru"), BLOCKS["mxfp6_e2m3"],
                        replace(BLOCKS["nvfp4"], rule="rceil"), replace(BLOCKS["mxfp8_e4m3"], two_level=True)]))
def test_any_numbers(block, fmt):
    agrees(fmt, np.array([block, [1, 2, 3, -4]], np.float32))


@settings(max_examples=40)
@given(st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3), st.sampled_from(["nvfp4", "mxfp4", "mxint8"]))
def test_float64_is_rounded_once(block, name):
    agrees(BLOCKS[name], np.array([block]))
    agrees(BLOCKS[name], np.array([block]), "ru")


def test_hand_cases():
    q = quantize(np.array([BELOW_8, 0.25, *[0] * 30], np.float32), "mxfp4")
    assert q.dequantize()[:2].tolist() == [6, 0] and q.scales.tolist() == [1]       # 2**(2 - 2); microxcaling: 8
    amax_7 = np.array([7.0, 1])
    assert [quantize(amax_7, "mxfp4", rule=rule).dequantize()[0] for rule in POWERS] == [6, 8, 8, 8]
    q = quantize(np.array([1.984375 * 2**-10, 2**-12], ml_dtypes.bfloat16), "mxfp4")
    assert q.dequantize().tolist() == [0.00146484375, 2**-12]                       # 6 * 2**-12; microxcaling: 2**-9
    # the bottom of the range: 2**-127 is a scale like any other (torchao decodes to half)
    q = quantize(np.array([2**-126, 2**-127]), "mxfp4")
    assert q.scales.view(np.uint8).tolist() == [0] and q.dequantize("float64").tolist() == [2**-126, 2**-127]
    q = quantize(np.array([1.5 * 2**-124]), "mxfp8_e4m3")
    assert q.dequantize("float64").tolist() == [1.5 * 2**-124]
    # amax = max * 2**k and one step up, rceil from the bits, not from a logarithm
    q = quantize(np.array([float.fromhex("0x1.800002p-98")], np.float32), "mxfp4", rule="rceil")
    assert float(q.scales[0]) == 2**-99
    top = np.array([np.finfo(np.float32).max], np.float32)
    q = quantize(top, "mxfp4", rule="ceil")
    assert q.dequantize()[0] == np.inf and q.dequantize("float64")[0] == 2**128     # 4 * 2**126
    assert quantize(np.array([-1.999, 1.999]), "mxint8").elements.tolist() == [-127, 127]


def test_hand_cases_of_nvfp4():
    """Tensor amax 2688 makes the tensor scale 1. A block of 0.01: 0.01 / 6 = 0.85 * 2**-9, so the scale is 2**-9."""
    x = np.full((2, 16), 0.01, np.float32)
    x[0, 0] = 2688
    for mode, code, number in (("exact", 1, 0.01171875), ("te", 1, 0.01171875), ("torchao", 8, 0.0078125)):
        q = quantize(x, "nvfp4", mode=mode)
        assert q.tensor_scale == 1 and q.scales.view(np.uint8).tolist() == [[126], [code]], mode
        assert q.dequantize()[1].tolist() == [number] * 16, mode
    one = quantize(x, "nvfp4", two_level=False)
    assert one.tensor_scale is None and one.dequantize()[0, 0] == 2688
    zeros = np.array([[0.0, -0.0] * 8], np.float32)
    for mode in ("exact", "te"):
        q = quantize(zeros, "nvfp4", mode=mode)
        assert q.tensor_scale == 1 and q.scales.view(np.uint8).tolist() == [[0]] and q.codes.tolist() == [[0, 8] * 8]
    assert np.isnan(quantize(zeros, "nvfp4", mode="torchao").scales.astype(np.float32)).all()


# --- engines ----------------------------------------------------------------------------------------------------------

def hard(size: int) -> np.ndarray:
    """Blocks of float32: adversarial ones, random bits, ties of every format's grid, zeros, infinities, NaNs."""
    rng = np.random.default_rng(9)
    x = np.concatenate([adversarial(size)[::11], rng.integers(0, 1 << 32, (40, size), np.uint32).view(np.float32),
                        rng.integers(-1100, 1100, (30, size)).astype(np.float32) / 16, np.zeros((4, size), np.float32)])
    x[-1, 0], x[-2, -1], x[-3, 0], x[-4] = np.inf, np.nan, -0.0, 2**-149
    return x


@pytest.mark.sanitize
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"], indirect=True)
def test_c_is_numpy_bit_for_bit(isa):
    for i, (name, rounding) in enumerate(itertools.product([*BLOCKS, "user"], MODES)):
        fmt, size = BLOCKS.get(name, USER), (16, 32, 5, 33)[i % 4]
        options = {"rounding": rounding, "block": size, "return_report": i % 3 > 0, "nan": ("block", "max")[i % 2]}
        if rounding in STOCHASTIC:
            options |= {"seed": i, "random_bits": (32, 8, 24)[i % 3]}
        x = hard(size)
        with np.errstate(invalid="ignore"):                # signalling NaNs
            x = x.astype(np.float64) if i % 5 == 4 else x
        results = [fmt.quantize(x, engine=engine, **options) for engine in ("c", "numba")]
        c, numpy = (r[0] if options["return_report"] else r for r in results)
        assert (c.codes == numpy.codes).all(), (name, options, np.argwhere(c.codes != numpy.codes)[:3])
        assert c.scales.tobytes() == numpy.scales.tobytes() and c.tensor_scale == numpy.tensor_scale
        assert not options["return_report"] or results[0][1] == results[1][1], (name, options)


@pytest.mark.sanitize
@pytest.mark.usefixtures("c_engine")
@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("name", MX)
def test_many_blocks_in_one_pass_of_c(name, nan):
    """C makes power-of-two scales itself, some 32 thousand numbers at a time; numpy makes them elsewhere."""
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((2, 40_003)) * 2.0 ** rng.integers(-140, 125, (2, 40_003))).astype(np.float32)
    x[0, [0, 39_000]], x[1, 31:70] = np.inf, 0
    x[1, 35_000] = np.nan if nan else -np.inf
    words = rng.integers(0, 1 << 16, x.shape, np.uint32)
    for rule, block, options in (("floor", 32, {}), ("ceil", 7, {"rounding": "rz"}), ("even", 1500, {}), ("rceil", 1, {}),
                                 ("floor", 40_003, {"rounding": "sr", "random": words, "random_bits": 16})):
        c, other = (quantize(x, name, rule=rule, block=block, engine=engine, **options) for engine in ("c", "numba"))
        assert np.array_equal(c.codes, other.codes), (rule, block)
        assert np.array_equal(c.scales.view(np.uint8), other.scales.view(np.uint8)), (rule, block)


@pytest.mark.sanitize
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"], indirect=True)
def test_any_divisor_in_c(isa):
    """Against Fractions: E2M1 of any float32 over any divisor of up to 40 bits, in any mode that is not random."""
    e2m1, rng = number_format("e2m1"), np.random.default_rng(2)
    divisors = np.ldexp(rng.integers(1, 1 << 40, 60).astype(np.float64), rng.integers(-60, 20, 60))
    divisors[:20] = np.ldexp(1.0, rng.integers(-126, 120, 20))
    near = divisors[:, None] * rng.choice([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6, 7, 0.5, 3], (60, 8))
    x = np.nextafter(near.astype(np.float32), rng.choice([-np.inf, 0, np.inf, 1e-30], near.shape).astype(np.float32))
    for mode in set(MODES) - set(STOCHASTIC):
        y = np.empty(x.shape, np.uint8)
        how = conversion(F32, e2m1, emulator.Policy(mode, "saturate", "zero"))
        engine_c.converts_over(how, x, divisors, None, y, None)
        for i, j in np.ndindex(x.shape):
            exact = Fraction(float(x[i, j])) / Fraction(float(divisors[i]))
            assert y[i, j] == (rounded(e2m1, exact, mode) if exact else 0), (mode, x[i, j], divisors[i])
    for bad in (0.0, -1.0, np.nan, 1 + 2.0**-45, 2.0**600):
        with pytest.raises(emulator.EngineUnavailable):
            engine_c.converts_over(how, x[:1], np.array([bad]), None, y, None)


# --- modes, as their sources compute ----------------------------------------------------------------------------------

def spread(rows=64, columns=256, seed=3):
    """Numbers over many binades, and ones on an NVFP4 grid."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) * np.exp2(rng.integers(-20, 8, (rows, 1)))
    x[::4] = np.round(x[::4] * 8) / 8 * 3
    return x.astype(np.float32)


def scalar_te(x, amax, four_over_six=None, scale_max=448):
    """One block as the kernels compute it, in numpy's float32 scalars. (scale, element values)"""
    f = np.float32
    enc = min(f(f(scale_max) * f(6)) / f(amax), np.finfo(f).max)
    block = max(abs(v) for v in x)

    def encode(level):
        scale = convert(level, "ue4m3", overflow="saturate")
        times = min(f(1) / f(f(scale) * f(f(1) / enc)), np.finfo(f).max)
        return scale, [f(convert(f(v * times), "e2m1", overflow="saturate")) for v in x]

    if not four_over_six:
        return encode(f(block * f(enc * f(f(1) / f(6)))))
    best = None
    for level in (f(f(block / f(6)) * enc), f(f(f(block / f(6)) * enc) * f(1.5))):
        scale, values = encode(min(level, f(448)))
        total = f(0)
        for v, e in zip(x, values):
            diff = f(f(f(f(e * f(scale)) * f(amax)) / f(f(6) * f(scale_max))) - v)
            total = f(total + (abs(diff) if four_over_six == "mae" else f(diff * diff)))
        if best is None or total < best[0]:
            best = total, scale, values
    return best[1:]


@pytest.mark.parametrize("four_over_six, scale_max", [(None, None), ("mae", None), ("mse", 256)])
def test_te_operation_by_operation(four_over_six, scale_max):
    x = spread(8, 64)
    q = quantize(x, "nvfp4", mode="te", four_over_six=four_over_six, scale_max=scale_max)
    amax = np.abs(x).max()
    with np.errstate(all="ignore"):
        for i, j in np.ndindex(8, 4):
            scale, values = scalar_te(x[i, 16 * j:16 * j + 16], amax, four_over_six, scale_max or 448)
            assert q.scales[i, j] == scale and q.elements[i, 16 * j:16 * j + 16].astype(np.float32).tolist() == values


def test_torchao_operation_by_operation():
    x, f = spread(8, 64), np.float32
    for two_level in (True, False):
        q = quantize(x, "nvfp4", mode="torchao", two_level=two_level)
        unit = f(np.abs(x).max()) / f(2688) if two_level else f(1)
        assert q.tensor_scale == (unit if two_level else None)
        for i, j in np.ndindex(8, 4):
            block = x[i, 16 * j:16 * j + 16]
            scale = f(convert(min(max(f(f(np.abs(block).max() / f(6)) / unit), f(2**-6)), f(448)), "ue4m3"))
            times = f(f(f(1) / unit) / scale)
            want = [f(convert(f(v * times), "e2m1")) for v in block]
            assert q.scales[i, j] == scale and q.elements[i, 16 * j:16 * j + 16].astype(f).tolist() == want


@pytest.mark.sanitize
@pytest.mark.usefixtures("c_engine")
@pytest.mark.parametrize("options", [dict(), dict(overflow="propagate"), dict(rounding="rz"), dict(rounding="ru", rule="even"),
                                     dict(tensor_amax=1e-40), dict(nan="zero", axis=0)], ids=str)
@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e5m2", "mxint8", "nvfp4"])
def test_engines_report_alike(name, options):
    """Numbers beyond the scale, what underflows beside them, infinities and NaN; float32 and float64, whose ends too."""
    x = adversarial(48)[::11]
    x[5, 7], x[9, 3], x[11, 2:4] = np.nan, -np.inf, (np.inf, -np.nan)
    wide = x.astype(np.float64) * np.exp2(np.linspace(-900, 890, len(x)).astype(int))[:, None]
    for numbers in (x, wide, x.astype(ml_dtypes.bfloat16)):
        (a, told), *others = (quantize(numbers, name, engine=engine, return_report=True, **options) for engine in ("numba", "c"))
        for b, also in others:
            assert also == told and (a.codes == b.codes).all() and a.scales.tobytes() == b.scales.tobytes()
        assert (quantize(numbers, name, **options).codes == a.codes).all()      # counted or not
        assert told.nan == 2 and told.elements == x.size


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name, options", [("mxfp8_e4m3", dict(block=7)), ("nvfp4", dict(axis=0)), ("mxint8", dict(axis=1, block=5)),
                                           ("nvfp4", dict(block=(16, 16), axis=(0, 2))), ("mxfp8_e5m2", dict(two_level=True))])
def test_dequantized_by_definition(name, options, dtype, monkeypatch):
    """element * scale * tensor scale in float64, where it is exact, rounded once; also cut into many small pieces."""
    x = adversarial(6)[:720].reshape(40, 3, 36) * np.float32(0.37)
    x[3, 1, 2] = np.nan
    q = quantize(x, name, **options)
    scale = convert(q.scales, "float64", source=q.format.scale)
    for axis, size in zip(q.axes, q.format.block):
        scale = np.repeat(scale, size, axis).take(range(x.shape[axis]), axis)
    want = convert(q.elements, "float64", source=q.format.element) * scale * q.format.unit
    want = convert(want if q.tensor_scale is None else want * float(q.tensor_scale), dtype)
    assert q.dequantize(dtype).tobytes() == want.tobytes()
    whole = emulator.blocks.pieces
    monkeypatch.setattr(emulator.blocks, "pieces", lambda shape, axes, block, limit=0, inside=False: whole(shape, axes, block, 50, inside))
    assert q.dequantize(dtype).tobytes() == want.tobytes()
    again = quantize(x, name, **options)
    assert again.codes.tobytes() == q.codes.tobytes() and again.scales.tobytes() == q.scales.tobytes()


def test_pieces_cover_an_array_once():
    for shape, axes, block in (((7, 5, 9), (1,), (2,)), ((7, 5, 9), (0, 2), (3, 4)), ((11,), (0,), (32,)), ((), (), ()), ((3, 0), (1,), (4,))):
        for inside in (False, True):
            seen, scales = np.zeros(shape, int), np.zeros([-(-n // dict(zip(axes, block)).get(a, 1)) for a, n in enumerate(shape)], int)
            for where, at, size in emulator.blocks.pieces(shape, axes, block, 12, inside):
                seen[where] += 1
                scales[at] += 1
                part = seen[(*where, ...)].shape
                assert all(part[a] % n == 0 and part[a] // n == scales[(*at, ...)].shape[a] for a, n in zip(axes, size))
            assert (seen == 1).all() and (scales > 0).all() and (inside or (scales == 1).all())


@pytest.mark.parametrize("name", [name for name in MX if name != "mxint8"])
def test_microxcaling_but_below_powers_of_two(name):
    """Its log2 in float32 takes what lies just below 2**k for 2**k: the scale of such a block is twice ours."""
    ops = pytest.importorskip("mx.mx_ops", reason="microxcaling (github.com/microsoft/microxcaling) is not on the path")
    # microxcaling, the judge, computes on torch tensors alone
    torch = pytest.importorskip("torch", reason="torch, on which microxcaling stands, is not installed")
    specs = importlib.import_module("mx.specs").get_default_mx_specs()

    def theirs(x, how):
        return ops.quantize_mx_op(torch.from_numpy(x), specs, name.removeprefix("mx"), 32, [-1], how).numpy()

    rng = np.random.default_rng(3)
    x = (rng.standard_normal((2000, 32)) * np.exp2(rng.integers(-100, 100, (2000, 1)))).astype(np.float32)
    for how, rounding in (("even", "rne"), ("nearest", "rna"), ("floor", "rz")):
        assert (theirs(x, how) == quantize(x, name, rounding=rounding).dequantize()).all()
    below = np.zeros((1, 32), np.float32)
    below[0, :2] = BELOW_8, 0.25
    q = quantize(below, name)
    assert theirs(below, "even")[0, 0] == 8 and q.dequantize()[0, 0] == q.format.largest * float(q.scales[0, 0]) < 8


def test_torchao_itself():
    torchao = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor", reason="torchao, the judge, is not installed")
    torch = pytest.importorskip("torch", reason="torch, the judge, is not installed")
    x = spread()
    for two_level in (True, False):
        unit = torchao.per_tensor_amax_to_scale(torch.tensor(np.abs(x).max())) if two_level else None
        scales, packed = torchao.nvfp4_quantize(torch.from_numpy(x), 16, unit)
        q = quantize(x, "nvfp4", mode="torchao", two_level=two_level)
        assert (scales.view(torch.uint8).numpy().reshape(64, 16) == q.scales.view(np.uint8)).all()
        assert (packed.numpy().reshape(64, -1) == q.packed).all()


def test_modes_differ_where_they_should():
    """On bfloat16 numbers quotients often are ties, and a reciprocal misses them."""
    x = np.random.default_rng(8).standard_normal((64, 256)).astype(ml_dtypes.bfloat16)
    x[:8] = 2**-14
    exact, te, torchao = (quantize(x, "nvfp4", mode=mode) for mode in ("exact", "te", "torchao"))
    assert (exact.scales != torchao.scales).any()           # torchao's stop at 2**-6
    used = exact.scales > 0                                 # where the scale is 0, te saturates and exact flushes
    differ = (exact.elements != te.elements).reshape(64, 16, 16)[used]
    assert (exact.scales == te.scales).mean() > 0.99 and 0 < differ.mean() < 0.005


def test_four_over_six_lowers_the_error():
    x = spread()
    plain = quantize(x, "nvfp4", scale_max=256)

    def lost(q, norm):
        return (np.abs(q.dequantize("float64") - x) ** norm).reshape(-1, 16).sum(1)

    for name, norm in (("mae", 1), ("mse", 2)):
        for mode in ("exact", "te"):
            best = quantize(x, "nvfp4", scale_max=256, four_over_six=name, mode=mode)
            assert lost(best, norm).sum() < lost(plain, norm).sum() and (best.scales != plain.scales).any()
        best = quantize(x, "nvfp4", scale_max=256, four_over_six=name)
        assert (lost(best, norm) <= lost(plain, norm) * (1 + 1e-12)).all()
    tile = quantize(x, "nvfp4", block=(16, 16), scale_max=256, four_over_six="mse", mode="te")
    assert ((tile.dequantize() - x) ** 2).sum() < ((quantize(x, "nvfp4", block=(16, 16)).dequantize() - x) ** 2).sum()


# --- zero, subnormal, NaN, infinity, tails ----------------------------------------------------------------------------

@pytest.mark.sanitize
@pytest.mark.parametrize("name", BLOCKS)
def test_special_blocks(name):
    size = BLOCKS[name].block[0]
    x = np.zeros((5, size), np.float32)
    x[0, 1] = -0.0
    x[1, :2] = np.nan, 3
    x[2, :3] = np.inf, -np.inf, 1
    x[3, :3] = 1, -2, 3
    q, report = quantize(x, name, two_level=False, return_report=True)
    scales = convert(q.scales, "float64", source=q.format.scale)[:, 0]
    largest = q.format.largest
    assert scales[0] == scales[4] == (2.0**-127 if q.format.scale == E8M0 else 0)
    assert np.signbit(q.dequantize()[0]).tolist() == [False, name != "mxint8"] + [False] * (size - 2)
    assert np.isnan(scales[1]) and not q.codes[1].any() and np.isnan(q.dequantize()[1]).all()
    top = 2.0**127 if q.format.scale == E8M0 else 448
    assert scales[2] == top and q.dequantize("float64")[2, :3].tolist() == [largest * top, -largest * top, 0]
    assert q.dequantize()[3, :3].tolist() == [1, -2, 3]
    assert report == emulator.Report(5 * size, saturated=2, overflowed=size - 1, flushed=1, nan=1)


def test_nan_left_to_the_element():
    x = np.array([np.nan, 3, -np.nan, 1], np.float32)
    with pytest.raises(BadOperand, match="NaN"):
        quantize(x, "mxfp4", nan="error")
    for nan, code in (("zero", 0), ("max", 7)):
        assert quantize(x, "mxfp4", nan=nan).codes[0] == code and quantize(x, "mxfp4", nan=nan).dequantize()[1] == 3
    q, report = quantize(x, "mxfp8_e4m3", nan="zero", return_report=True)
    assert np.isnan(q.dequantize()).tolist() == [True, False, True, False] and report.nan == 2


def test_overflow_can_be_refused():
    with pytest.raises(BadOperand, match="block and position"):
        quantize(np.array([7.5, 1]), "mxfp4", overflow="error")
    assert quantize(np.array([7.5, 1]), "mxfp4", overflow="error", rule="rceil").dequantize()[0] == 8
    q = quantize(np.array([np.inf, 1]), "mxfp8_e5m2", overflow="infinity")
    assert q.dequantize()[0] == np.inf


def test_infinity_does_not_reach_other_blocks_of_nvfp4():
    x = np.ones((2, 16), np.float32)
    x[0, 3] = np.inf
    q = quantize(x, "nvfp4")
    assert q.tensor_scale == np.float32(1 / 2688) and (q.dequantize()[1] == quantize(x[1:], "nvfp4").dequantize()).all()


@pytest.mark.parametrize("axis, shape", [(-1, (3, 37)), (0, (37, 3)), (1, (2, 37, 3)), (0, (1,)), (1, (3, 0)), (0, (0, 4))])
def test_axes_and_tails(axis, shape):
    """A tail is a block of its own: the array is as its pieces."""
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    q = quantize(x, "mxfp4", axis=axis)
    assert q.shape == shape and q.scales.shape == tuple(-(-n // 32) if a == axis % x.ndim else n
                                                        for a, n in enumerate(shape))
    moved, got = np.moveaxis(x, axis, -1), np.moveaxis(q.dequantize(), axis, -1)
    for start in range(0, moved.shape[-1], 32):
        piece = moved[..., start:start + 32]
        assert (quantize(piece, "mxfp4").dequantize() == got[..., start:start + 32]).all()
    packed = q.packed
    assert (unpack(packed, 4, shape[axis]) == np.moveaxis(q.codes, axis, -1)).all()


def test_tiles():
    x = spread(40, 50)
    q = quantize(x, "nvfp4", block=(16, 16))
    assert q.scales.shape == (3, 4)
    for i, j in np.ndindex(3, 4):
        tile = np.s_[16 * i:16 * i + 16, 16 * j:16 * j + 16]
        flat = quantize(x[tile].reshape(1, -1), "nvfp4", block=256, tensor_amax=np.abs(x).max())
        assert (flat.elements.reshape(x[tile].shape) == q.elements[tile]).all() and flat.scales[0, 0] == q.scales[i, j]
    wide = q.scales_along(1)
    assert wide.shape == (40, 4) and (wide[17] == q.scales[1]).all() and q.scales_along(0).shape == (3, 50)
    other = quantize(x.T, "nvfp4", block=(16, 16), axis=(1, 0))
    assert (other.elements == q.elements.T).all() and (other.scales == q.scales.T).all()
    cube = quantize(spread(32, 64).reshape(8, 4, 64), "mxfp4", block=(4, 2, 8), axis=(0, 1, 2))
    assert cube.scales.shape == (2, 2, 8) and np.abs(cube.dequantize()).max() > 0


# --- sources ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8, np.int32, np.int64,
                                  np.float64, ">f4"])
def test_any_source_from_its_own_bits(kind):
    x = np.array([3.0, -1, 2, 0, 5, 7, 96, -0.5]).astype(kind)
    for name in BLOCKS:
        want = quantize(x.astype(np.float64), name)
        got = quantize(x, name)
        assert (got.codes == want.codes).all() and got.scales.tobytes() == want.scales.tobytes()


def test_double_roundings_that_do_not_happen():
    """Just beside the midpoint 2.5 of E2M1 (scale 1: the amax is 4), where float32 would have made a tie of it."""
    x = np.array([4, 2.5 + 2**-40, -2.5 - 2**-40, 2.5])
    assert quantize(x, "mxfp4").dequantize().tolist() == [4, 3, -3, 2]
    big = np.array([2**62, (5 << 59) + 1, 5 << 59], np.int64)
    assert quantize(big, "mxfp4").dequantize("float64").tolist() == [2**62, 3 * 2**60, 2**61]


def test_stochastic_bits_belong_to_positions():
    x = spread(8, 64)
    q = quantize(x, "mxfp4", rounding="sr", seed=7)
    assert (q.elements == quantize(x, "mxfp4", rounding="sr", seed=7).elements).all()
    bits = np.random.default_rng(0).integers(0, 1 << 16, x.shape, np.uint16)
    across = quantize(x.T, "nvfp4", axis=0, rounding="sr", random=bits.T)
    assert (across.elements.T == quantize(x, "nvfp4", rounding="sr", random=bits).elements).all()
    many = np.full((4096, 32), 1.3, np.float32)
    many[:, 0] = 4
    assert abs(quantize(many, "mxfp4", rounding="sr", seed=1).dequantize()[:, 1:].mean() - 1.3) < 0.003


# --- laws -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_quantised_already_stays(name):
    x = quantize(spread(16, 96), name).dequantize("float64")
    again = quantize(x, name, rule="rceil" if name in MX else None)
    if name in MX:                                          # a smaller power of two may do: the numbers are the same
        assert (again.dequantize("float64") == x).all()
    else:
        assert np.allclose(again.dequantize("float64"), x, rtol=0.1)


@pytest.mark.parametrize("name", MX)
def test_powers_of_two_pass_through(name):
    x = spread(16, 96)
    for k in (-30, 17):
        assert (quantize(x * np.float32(2.0**k), name).elements == quantize(x, name).elements).all()
    assert (quantize(-x, name).dequantize() == -quantize(x, name).dequantize()).all()


@pytest.mark.parametrize("name", BLOCKS)
def test_dequantize_is_the_product(name):
    q = quantize(spread(4, 64), name)
    scale = np.repeat(convert(q.scales, "float64", source=q.format.scale), q.format.block[0], 1)
    element = q.elements.astype(np.float64) * (2.0**-6 if name == "mxint8" else 1)
    want = element * scale * (1 if q.tensor_scale is None else float(q.tensor_scale))
    assert (q.dequantize("float64") == want).all()
    assert (q.dequantize() == want.astype(np.float32)).all()
    assert q.dequantize(ml_dtypes.bfloat16).dtype == ml_dtypes.bfloat16


# --- layouts, instructions, the front door ----------------------------------------------------------------------------

@pytest.mark.parametrize("rows, columns", [(128, 4), (1, 1), (130, 9), (256, 8)])
def test_128x4(rows, columns):
    scales = np.arange(rows * columns).astype(np.uint8).reshape(rows, columns).view(ml_dtypes.float8_e8m0fnu)
    laid = to_128x4(scales)
    tiles = -(-columns // 4)
    for r, c in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3)):
        at = (r // 128 * tiles + c // 4) * 512 + r % 32 * 16 + r % 128 // 32 * 4 + c % 4
        assert laid.view(np.uint8)[at] == scales.view(np.uint8)[r, c]
    assert laid.dtype == scales.dtype and (from_128x4(laid, rows, columns).view(np.uint8) == scales.view(np.uint8)).all()
    with pytest.raises(BadOperand):
        from_128x4(laid[:-1], rows, columns)


@pytest.mark.parametrize("scheme, name", [
    ("mxfp8_e4m3", "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0"),
    ("mxfp6_e2m3", "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e2m3.e2m3.f32.ue8m0"),
    ("mxfp4", "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0"),
    ("nvfp4", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3")])
def test_results_are_operands(scheme, name):
    """On numbers that the format holds, with products that the sum holds, the instruction gives the exact product."""
    ins = emulator.instruction("sm_120", name)
    rng = np.random.default_rng(4)
    a, b = rng.integers(-3, 4, (20, 130)).astype(np.float32), rng.integers(-3, 4, (130, 12)).astype(np.float32)
    a[:, ::ins.block], b[::ins.block] = 6, 6                # every block's amax: the tensor's, too
    qa, qb = quantize(a, scheme), quantize(b, scheme, axis=0)
    alpha = None if qa.tensor_scale is None else qa.tensor_scale * qb.tensor_scale
    d = emulator.matmul(qa.elements, qb.elements, scale_a=qa.scales, scale_b=qb.scales, alpha=alpha, on=ins)
    if scheme == "nvfp4":                                   # 6 / 2688 is no float32: the tensor scales are a rounding off
        assert np.allclose(d, a @ b, rtol=1e-6, atol=1e-4)
        tiled = quantize(a, scheme, block=(16, 16))
        assert (emulator.matmul(tiled.elements, qb.elements, scale_a=tiled.scales_along(1), scale_b=qb.scales, on=ins,
                                alpha=alpha) == d).all()
    else:
        assert (d == a @ b).all()


def test_bad_input_is_named():
    x = np.ones((4, 4), np.float32)
    for options, words in (({"axis": 2}, "axis is 2"), ({"block": (2, 2), "axis": 0}, "axis is 0"), ({"block": 0}, "block"),
                           ({"rule": "floor2"}, "floor2"), ({"mode": "amd"}, "the modes are"), ({"mode": "te"}, "NVFP4"),
                           ({"four_over_six": "mse"}, "powers of two"), ({"rounding": "sr"}, "seed"), ({"block": 2.5}, "block is 2.5"),
                           ({"axis": "k"}, "axis is 'k'; it takes an integer"), ({"scale_max": -1.0}, "scale_max is -1.0; it takes a positive")):
        with pytest.raises(BadOperand, match=words):
            quantize(x, "mxfp4", **options)
    with pytest.raises(BadOperand, match="x has 0 axes, and blocks lie along 1; give it more of them"):
        quantize(x[0, 0], "mxfp4")
    with pytest.raises(BadOperand, match="float32"):
        quantize(x.astype(np.float64), "nvfp4", mode="te")
    with pytest.raises(UnknownFormat, match="mxfp8_e4m3, .*nvfp4"):
        quantize(x, "mxfp5")
    with pytest.raises(UnknownFormat, match="rule"):
        replace(BLOCKS["mxfp4"], rule="sr")
    with pytest.raises(BadOperand, match="complex"):
        quantize(x.astype(complex), "mxfp4")


@pytest.mark.parametrize("scheme, options", [("mxfp6_e2m3", {}), ("nvfp4", {"axis": 0}), ("mxint8", {"axis": -2}), ("int8", {"channel": -2}),
                                             ("uint4", {"group": 4, "axis": 0}), ("nf4", {}), ("ternary", {})])
def test_any_array_is_what_its_numbers_are(scheme, options):
    """Types, layouts and byte orders: the codes are those of the same numbers in contiguous float64."""
    base = spread(6, 70).reshape(6, 7, 10)
    read_only = base.copy()
    read_only.setflags(write=False)
    for x in (base.T, base[::-1, :, ::-2], read_only, base.astype(">f4"), base.astype(np.float16), base.astype(ml_dtypes.bfloat16),
              base.astype(">f8") * 1.0000000001, (base * 20).astype(np.int8), base.astype(ml_dtypes.float8_e4m3fn), base[:0],
              base[:, :, :0], np.asfortranarray(base), base[:1, :1, :1]):
        q, want = quantize(x, scheme, **options), quantize(np.ascontiguousarray(convert(x, "f64")), scheme, engine="numba", **options)
        assert (q.codes == want.codes).all() and (q.scales.astype(float) == want.scales.astype(float)).all()
        assert q.dequantize().shape == x.shape == q.shape


def test_a_row_of_ones_own():
    q = USER.quantize(spread(3, 11))
    assert q.scales.shape == (3, 3) and q.tensor_scale is not None
    assert quantize(spread(3, 11), USER).scales.tobytes() == q.scales.tobytes()
    four = BlockFormat("mxint4", number_format("int4"), (32,), E8M0, "floor")
    assert four.quantize([1.75, -1.75, 0.3]).elements.tolist() == [7, -7, 1]


def test_command():
    done = CliRunner().invoke(cli.main, ["quantize", "7", "0.25", "-1", "nan", "mxfp4", "--block", "3"])
    assert done.exit_code == 0 and done.output.splitlines() == [
        "scale 0x7f 1.0", "  0x401c000000000000 7.0 -> 0x7 6.0, that is 6.0",
        "  0x3fd0000000000000 0.25 -> 0x0 0.0, that is 0.0", "  0xbff0000000000000 -1.0 -> 0xa -1.0, that is -1.0",
        "scale 0xff nan", "  0x7ff8000000000000 nan -> 0x0 0.0, that is nan", "1 saturated, 1 flushed, 1 nan"]
    refused = CliRunner().invoke(cli.main, ["quantize", "7", "mxfp5"])
    assert refused.exit_code == 2 and "mxfp8_e4m3" in refused.output
