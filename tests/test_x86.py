"""Intel's conversions and float16 arithmetic: against the specification, and by hand."""

import random

import numpy as np
import pytest
from click.testing import CliRunner

from emulator import cli, exact, live, x86
from emulator.exact.x86 import nan_code
from emulator.formats import FORMATS

F32, F16, BF16 = FORMATS["float32"], FORMATS["float16"], FORMATS["bfloat16"]
MODES = x86.ROUNDINGS


def specified(total, nans, rounding):
    """One rounding of an exact result, or the first NaN."""
    if total.kind == "nan":
        return nan_code(F16, next((n for n in nans if n.kind == "nan"), None))
    return exact.encode(F16, total, rounding)


def summed(x, y, rounding):
    total = exact.add(x, y)
    opposite = total.kind == "finite" and not total.sig and x.negative != y.negative
    return total._replace(negative=rounding == "rd") if opposite else total


@pytest.mark.parametrize("rounding", MODES)
def test_arithmetic_is_the_specification(rounding):
    rng = random.Random(MODES.index(rounding))
    near = [rng.randrange(0x3800, 0x4400) | rng.choice((0, 0x8000)) for _ in range(900)]
    codes = near + [rng.getrandbits(16) for _ in range(600)] + [0, 0x8000, 0x7C00, 0xFC00, 0x7C01, 0xFE05, 1] * 30
    x, y, z = (np.array(rng.sample(codes, len(codes)), np.uint16) for _ in range(3))
    minus = {n: exact.decode(F16, n ^ 0x8000) for n in set(y.tolist())}
    a, b, c = ([exact.decode(F16, n) for n in codes.tolist()] for codes in (x, y, z))
    for function, want in (
            (x86.vaddph, [specified(summed(i, j, rounding), (i, j), rounding) for i, j in zip(a, b)]),
            (x86.vsubph, [specified(summed(i, minus[code], rounding), (i, j), rounding) for i, j, code in zip(a, b, y.tolist())]),
            (x86.vmulph, [specified(exact.multiply(i, j), (i, j), rounding) for i, j in zip(a, b)])):
        assert function(x, y, rounding).tolist() == want, function
    fused = [(summed(exact.multiply(i, j), k, rounding), (i, j, k)) for i, j, k in zip(a, b, c)]
    want = [specified(total, nans, rounding) for total, nans in fused]
    assert x86.vfmadd213ph(y, x, z, rounding).tolist() == want            # x * y + z, in each form's order of operands
    assert x86.vfmadd132ph(x, z, y, rounding).tolist() == want
    assert x86.vfmadd231ph(z, x, y, rounding).tolist() == want


def test_which_nan_an_fma_returns():
    """The factors in the order of the mnemonic's digits, then the addend; Inf * 0 beside a NaN addend is that NaN."""
    one, two, three = (np.array([code], np.uint16) for code in (0x7C01, 0xFC02, 0x7C03))
    assert [f(one, two, three)[0] for f in (x86.vfmadd132ph, x86.vfmadd213ph, x86.vfmadd231ph)] == [0x7E01, 0xFE02, 0xFE02]
    zero, inf = np.array([0], np.uint16), np.array([0x7C00], np.uint16)
    assert x86.vfmadd231ph(three, inf, zero) == [0x7E03] and x86.vfmadd231ph(zero, inf, zero) == [0xFE00]
    assert x86.vsubph(zero, one) == [0x7E01]                                # subtraction flips no sign


@pytest.mark.parametrize("function, came, want", [
    (x86.vcvtneps2bf16, [0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x807FFFFF, 0x7F800001, 0xFFC12345],
     [0x3F80, 0x3F82, 0x3F81, 0x7F80, 0x8000, 0x7FC0, 0xFFC1]),
    (x86.vcvtps2phx, [0x3F801000, 0x3F803000, 0x33000000, 0x33000001, 0x477FF000, 0x477FEFFF, 0xFF802001, 0x7F800001],
     [0x3C00, 0x3C02, 0x0000, 0x0001, 0x7C00, 0x7BFF, 0xFE01, 0x7E00]),
    (x86.vcvtph2ps, [0x3C01, 0x0001, 0x83FF, 0x7C01, 0xFE03, 0xFC00],
     [0x3F802000, 0x33800000, 0xB87FC000, 0x7FC02000, 0xFFC06000, 0xFF800000]),
])
def test_conversions(function, came, want):
    source = F16 if function is x86.vcvtph2ps else F32
    assert function(np.array(came, source.code_dtype)).tolist() == want


def test_rounding_of_vcvtps2ph():
    """The immediate's low bits are MXCSR.RC's: nearest, down, up, zero; bit 2 asks MXCSR. DAZ matters upward."""
    x = np.array([0x3F800001, 0xBF800001, 0x477FFFFF, 0x00000001], np.uint32)
    up, down, zero = [0x3C01, 0xBC00, 0x7C00, 0x0001], [0x3C00, 0xBC01, 0x7BFF, 0], [0x3C00, 0xBC00, 0x7BFF, 0]
    nearest = [0x3C00, 0xBC00, 0x7C00, 0]
    for immediate, want in enumerate((nearest, down, up, zero)):
        assert x86.vcvtps2ph(x, immediate, rounding="ru").tolist() == want
        assert x86.vcvtps2ph(x, 4, MODES[immediate]).tolist() == x86.vcvtps2phx(x, MODES[immediate]).tolist() == want
    assert x86.vcvtps2ph(x, 2, daz=True)[3] == 0


def test_the_second_operand_goes_to_the_low_half():
    x, y = np.full((2, 16), 0x3F800000, np.uint32), np.full((2, 16), 0x40000000, np.uint32)
    assert x86.vcvtne2ps2bf16(x, y).tolist() == [[0x4000] * 16 + [0x3F80] * 16] * 2


@pytest.mark.skipif(not live.lacking(), reason="this CPU has AVX-512 or AMX")
def test_verify_live_says_what_is_lacking():
    done = CliRunner().invoke(cli.main, ["verify", "--live"])
    assert done.exit_code == 2 and live.lacking() in done.output
