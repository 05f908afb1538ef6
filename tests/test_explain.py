"""explain: the story is readable, complete and exact.dot's own. The drawings below were worked out by hand."""

import ml_dtypes
import numpy as np
import pytest

from emulator import exact
from emulator.errors import BadOperand
from emulator.explain import explain
from emulator.instructions import ARCHS, find, table

# MMA-Sim (arXiv 2511.10909), equation 10
A = np.array([-(2.0**13), -0.5, -0.25, -0.125], np.float16)
B = np.array([2.0**10, 1, 1, 1], np.float16)
C = np.float32(2.0**23)


def lines(explanation):
    return str(explanation).splitlines()


def test_cut_bits_on_ampere():
    """F = 24: the unit is 2^(23 - 24), so 0.25 and 0.125 are cut and the second group adds nothing."""
    found = explain(find("sm_80", "mma.m16n8k16.f32.f16.f16.f32"), A, B, C)
    assert found.code == 0xBF000000
    assert lines(found) == [
        "sm_80 mma.m16n8k16.f32.f16.f16.f32",
        "  chain: Groups of `terms` consecutive k; each group's rounded result is the next one's C ([KM] section IV,",
        "    [XMMA])",
        "  adder ampere: 8 products and C in one sum, 24 fraction bits below the largest exponent (at least -132)",
        "",
        "  a (float16) x b (float16), C (float32)",
        "  k 0      0xf000    -8192.0  2^13  x  0x6400  1024.0  2^10",
        "  k 1      0xb800       -0.5  2^-1  x  0x3c00     1.0  2^0",
        "  k 2      0xb400      -0.25  2^-2  x  0x3c00     1.0  2^0",
        "  k 3      0xb000     -0.125  2^-3  x  0x3c00     1.0  2^0",
        "  C    0x4b000000  8388608.0  2^23",
        "  the other 12 of 16 k: both operands are zero",
        "",
        "k 0..7 and C: largest exponent 23, set by k 0, C; each addend is cut to a multiple of 2^-1",
        "  k 0  -8388608.0  2^23  -  1000000000000000000000000|",
        "  k 1        -0.5  2^-1  -                          1|",
        "  k 2       -0.25  2^-2  -                          0|1",
        "  k 3      -0.125  2^-3  -                          0|01",
        "  C     8388608.0  2^23  +  1000000000000000000000000|",
        "  sum        -0.5        -                          1|",
        "  the other 4 addends are zero and claim no exponent",
        "  = 0xbf000000 -0.5 (float32), exact",
        "",
        "k 8..15 and C: largest exponent -1, set by sum 1; each addend is cut to a multiple of 2^-25",
        "  sum 1  -0.5  2^-1  -  1000000000000000000000000|",
        "  sum    -0.5        -  1000000000000000000000000|",
        "  the other 8 addends are zero and claim no exponent",
        "  = 0xbf000000 -0.5 (float32), exact",
        "",
        "d = 0xbf000000 -0.5",
    ]


def test_more_bits_on_hopper():
    """F = 25 keeps 0.25 and cuts 0.125."""
    told = lines(explain(find("h100", "mma.m16n8k16.f32.f16.f16.f32"), A, B, C))
    assert "  k 2       -0.25  2^-2  -                           1|" in told
    assert "  k 3      -0.125  2^-3  -                           0|1" in told
    assert told[-1] == "d = 0xbf400000 -0.75"


def test_rounding_is_drawn():
    """1 + 2^-11 + 2^-12 in float16: the tie's upper side rounds up to 1 + 2^-10."""
    ins = find("sm_80", "mma.m16n8k8.f16.f16.f16.f16")
    a = np.array([1, 2.0**-11, 2.0**-12], np.float16)
    told = lines(explain(ins, a, np.ones(3, np.float16)))
    at = told.index("  = 0x3c01 1.00097656 (float16), rounded to nearest, ties to even; the magnitude went up from")
    assert told[at + 1] == "      10000000000|11 * 2^-10"


def test_thirteen_bits_on_ada_fp8():
    """1 + 2^-13 - 2^-14 at 13 fraction bits: the last addend is cut away, its exponent notwithstanding."""
    a = np.array([1, 2.0**-6, -(2.0**-7)]).astype(ml_dtypes.float8_e4m3fn)
    b = np.array([1, 2.0**-7, 2.0**-7]).astype(ml_dtypes.float8_e4m3fn)
    told = lines(explain(find("sm_89", "mma.m16n8k32.f32.e4m3.e4m3.f32"), a, b))
    assert "  k 1        0x08    0.015625  2^-6  x  0x04  0.0078125  2^-6" in told     # 2^-7 is subnormal: exponent -6
    assert "  k 1   0.000122070312  2^-12  +               1|" in told
    assert "  k 2  -6.10351562e-05  2^-12  -               0|1" in told
    assert told[-1] == "d = 0x3f800400 1.00012207"


def test_the_floor_speaks():
    """C = 0 and one product of 2^-149: no exponent reaches emin - 6 = -132, so the floor sets the unit."""
    ins = find("sm_80", "mma.m16n8k8.f32.bf16.bf16.f32")
    told = lines(explain(ins, *(np.array([x]).astype(ml_dtypes.bfloat16) for x in (2.0**-75, 2.0**-74))))
    assert any("largest exponent -132, the floor: no addend reaches it" in line for line in told)
    assert told[-1].startswith("d = 0x00000001 ")


def test_block_scales():
    """Two of the four groups: 36 * 2^16 and 0.25 * 2^-18; the unit is 2^(16 - 35), which cuts the second."""
    ins = find("sm_100", "tcgen05.mma.m64n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.ue4m3")
    a = np.zeros(64).astype(ml_dtypes.float4_e2m1fn)
    a[0], a[16] = 6, 0.5
    scale = np.array([256, 2.0**-9, 0, 0]).astype(ml_dtypes.float8_e4m3fn)
    found = explain(ins, a, a, np.float32(0), scale, scale)
    told = lines(found)
    at = told.index("four groups of 16 and C: largest exponent 16, set by k 0..15; each addend is cut to a multiple of 2^-19")
    assert told[at + 1:at + 3] == [
        "  k 0..15        2359296.0  2^16   +  10010000000000000000000000000000000000000|",
        "  k 16..31  9.53674316e-07  2^-12  +                                          0|1"]
    assert found.code == int(np.float32(36 * 2.0**16).view(np.uint32))


def test_ieee_steps():
    """sm_80's m8n8k4 is CUDA-core code: four FFMAs, each rounded, and an FADD of C."""
    told = lines(explain(find("sm_80", "mma.m8n8k4.f32.f16.f16.f32"), A, B, C))
    assert [line.split(":")[0] for line in told if line.startswith("F")] == [
        "FFMA k 0", "FFMA k 1", "FFMA k 2", "FFMA k 3", "FADD of C"]
    assert "FFMA k 1: -0.5 + -8388608.0 = -8388608.5" in told
    assert "      100000000000000000000000|1 * 2^0" in told
    assert told[-1] == "d = 0x00000000 0.0"


def test_the_last_conversion_of_simt_f16():
    """1024 + 0.5 + 2^-2 becomes a float16 at the very end: 1025 (units of 1 there)."""
    a = np.array([0.5, 0.25, 0, 0], np.float16)
    found = explain(find("sm_80", "mma.m8n8k4.f16.f16.f16.f16"), a, np.ones(4, np.float16), np.float16(1024))
    told = lines(found)
    assert "conversion" in told and "      10000000000|11 * 2^0" in told
    assert told[-1] == "d = 0x6401 1025.0"


def test_fp8_through_f16_names_its_halves():
    a = np.ones(32).astype(ml_dtypes.float8_e4m3fn)
    told = lines(explain(find("h100", "mma.m16n8k32.f32.e4m3.e4m3.f32"), a, a, np.float32(1)))
    first = told.index(next(line for line in told if line.startswith("k mod 4 in {0, 1}")))
    second = told.index(next(line for line in told if line.startswith("k mod 4 in {2, 3}")))
    assert [line.split()[1] for line in told[first + 1:first + 17]] == [str(k) for k in range(32) if k % 4 < 2]
    assert [line.split()[1] for line in told[second + 1:second + 17]] == [str(k) for k in range(32) if k % 4 >= 2]
    assert told[second + 17].startswith("  sum 1")
    assert "IEEE add of C: 32.0 + 1.0 = 33.0" in told


@pytest.mark.parametrize(("suffix", "sentence", "result"), [
    ("", "exact integer sum: 2147499776, wrapped to 32 bits", "d = 0x80003f00 -2147467520"),
    (".satfinite", "exact integer sum: 2147499776, clamped", "d = 0x7fffffff 2147483647"),
])
def test_integers(suffix, sentence, result):
    ins = find("sm_80", f"mma.m16n8k32.s32.s8.s8.s32{suffix}")
    told = lines(explain(ins, np.array([127], np.int8), np.array([127], np.int8), np.int32(2**31 - 1)))
    assert sentence in told and told[-1] == result


def test_bits():
    ins = find("sm_80", "mma.m8n8k128.s32.b1.b1.s32.xor.popc")
    told = lines(explain(ins, [1, 0, 1, 1], [0, 0, 1, 0], 5))
    assert "  a, k 0   .. 1011" in told and "  b, k 0   .. 0010" in told
    assert told[-1] == "d = 0x00000007 7"


def test_special_values_are_named():
    ins = find("sm_80", "mma.m16n8k8.f32.f16.f16.f32")
    inf = np.array([np.inf, 1], np.float16)
    assert "  = 0x7f800000 inf (float32), an infinity came in" in lines(explain(ins, inf, np.ones(2, np.float16)))
    told = lines(explain(ins, inf, np.zeros(2, np.float16)))
    assert "  = 0x7fffffff nan (float32), NaN came in, or arose from infinities" in told
    ins = find("sm_80", "mma.m16n8k8.f16.f16.f16.f16")
    told = lines(explain(ins, np.full(8, 65504, np.float16), np.ones(8, np.float16)))
    assert "  = 0x7c00 inf (float16), the sum rounds past the largest number" in told


def random_codes(rng, fmt, count):
    return [int(code) for code in rng.integers(0, 1 << min(fmt.bits, 63), count)]


METHODS = {row.method: row for arch in ARCHS for row in table(arch).values()}


@pytest.mark.parametrize("method", exact.METHODS)
def test_every_method_is_told_in_full(method):
    """Whatever the codes: the code is exact.dot's, every step is there, no line is wider than 120 columns."""
    row = METHODS[method]
    rng = np.random.default_rng(1)
    for _ in range(30):
        a, b = random_codes(rng, row.a, row.k), random_codes(rng, row.b, row.k)
        (c,) = random_codes(rng, row.c, 1)
        scales = [random_codes(rng, row.scale, row.k // row.block) if row.scale else None for _ in "ab"]
        found = explain(row, a, b, c, *scales)
        assert found.code == exact.dot(row, a, b, c, *(scale or () for scale in scales))
        told = str(found)
        assert all(step.what in told for step in found.steps)
        assert max(map(len, told.splitlines())) <= 120


@pytest.mark.parametrize(("a", "b", "c", "scale", "sentence"), [
    (np.zeros(4), np.zeros(4, np.float16), 0, None, "a is float64 (4,); it takes float16"),
    (np.zeros((2, 2), np.float16), np.zeros(4, np.float16), 0, None, "a is (2, 2); explain takes one dot product"),
    (np.zeros(4, np.float16), np.zeros(4, np.float16), np.zeros(1, np.float32), None, "c is (1,); explain takes one"),
    (np.zeros(3, np.float16), np.zeros(4, np.float16), 0, None, "3 codes of a and 4 of b"),
    ([0x10000], [0], 0, None, "a holds 0x10000; codes of float16 lie in 0..0xffff"),
    ([0], [0], 0, [1], "scale_a is given"),
])
def test_refusals(a, b, c, scale, sentence):
    with pytest.raises(BadOperand) as caught:
        explain(find("sm_80", "mma.m16n8k8.f32.f16.f16.f32"), a, b, c, scale)
    assert sentence in str(caught.value)
