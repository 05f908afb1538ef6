"""Special values of every row, and directed vectors, against results derived by hand from the published rules.

The rules: Khattak and Mikaitis (doi 10.1145/3830409), MMA-Sim (arXiv 2511.10909), Fasi et al. (doi
10.7717/peerj-cs.330), PTX ISA 9.7.14; each vector names the rival rule it decides against.
"""

from fractions import Fraction

import pytest

from emulator import ARCHS, exact, find, table
from emulator.formats import Float
from emulator.instructions import generic, legal_n

ROWS = [row for arch in ARCHS for row in table(arch).values() if isinstance(row.d, Float)]
FUSED = [row for row in ROWS if row.adder]
IDS = dict(ids=str)


def code(fmt: Float, x: float | Fraction) -> int:
    """The code of exactly x."""
    x = Fraction(x)
    assert x.denominator & (x.denominator - 1) == 0
    number = exact.Number(x < 0, abs(x.numerator), 1 - x.denominator.bit_length())
    found = exact.encode(fmt, number, "rz", "error")
    back = exact.decode(fmt, found)
    assert back.sig * Fraction(2) ** back.exp == abs(x), f"{x} is no {fmt}"
    return found


def dot(row, products=(), c=0, scales=None):
    """D's code for products {k: (a, b)} of exact values (or ("code", n)), C a code, scales {block: (a, b)} of codes."""
    a, b = [0] * row.k, [0] * row.k
    for k, (x, y) in dict(products).items():
        a[k] = x[1] if isinstance(x, tuple) else code(row.a, x)
        b[k] = y[1] if isinstance(y, tuple) else code(row.b, y)
    blocks = row.k // row.block if row.block else 0
    one = code(row.scale, 1) if blocks else 0
    sa, sb = ([(scales or {}).get(i, (one, one))[side] for i in range(blocks)] for side in (0, 1))
    return exact.dot(row, a, b, c, sa, sb)


def nan(row):
    """NVIDIA's canonical NaN: every bit set but the sign."""
    return (1 << (row.d.bits - 1)) - 1


@pytest.mark.parametrize("row", ROWS, **IDS)
def test_zeros(row):
    minus_zero = row.c.sign
    assert dot(row) == 0
    want = row.d.sign if row.rounding == "rd" else 0                    # IEEE 754-2019, 6.3: only FP64 .rm
    assert dot(row, c=minus_zero) == want                               # -0 plus the +0 of the products
    assert dot(row, {0: (1, 1), 1: (1, -1)}, minus_zero) == want        # exact cancellation
    assert dot(row, {0: (1, -1)}, code(row.c, 1)) == want
    if row.method != "fma_chain":
        assert dot(row, {0: (("code", row.a.sign), 1)}, minus_zero) == 0    # a product that is -0 is nothing


@pytest.mark.parametrize("row", ROWS, **IDS)
def test_nan_is_canonical_and_poisons_zero(row):
    for k in (0, row.k - 1):
        if row.a.nan_code is not None:
            assert dot(row, {k: (("code", row.a.all_ones_nan | row.a.sign), 0)}) == nan(row)
            assert dot(row, {k: (("code", row.a.nan_code), 1)}, row.c.inf_code) == nan(row)
        if row.b.nan_code is not None:
            assert dot(row, {k: (0, ("code", row.b.all_ones_nan))}) == nan(row)
    payload = row.c.sign | row.c.inf_code | (0x1345 & (row.c.magnitude >> 4))
    assert dot(row, {}, payload) == nan(row)


@pytest.mark.parametrize("row", [row for row in ROWS if row.a.inf_code is not None and row.b.inf_code is not None], **IDS)
def test_infinities(row):
    inf, minus_inf = ("code", row.a.inf_code), ("code", row.a.inf_code | row.a.sign)
    d_inf, d_minus_inf = row.d.inf_code, row.d.inf_code | row.d.sign
    c_inf, c_minus_inf = row.c.inf_code, row.c.inf_code | row.c.sign
    assert dot(row, {1: (inf, 0)}) == nan(row)                          # Inf * 0
    assert dot(row, {1: (inf, 1)}) == d_inf
    assert dot(row, {1: (minus_inf, 1)}, code(row.c, 1)) == d_minus_inf
    assert dot(row, {0: (inf, 1), 1: (minus_inf, 1)}) == nan(row)
    assert dot(row, {1: (inf, 1)}, c_minus_inf) == nan(row)
    assert dot(row, {1: (inf, -1)}, c_minus_inf) == d_minus_inf
    assert dot(row, {}, c_inf) == d_inf


@pytest.mark.parametrize("row", [row for row in ROWS if row.c == row.d], **IDS)
def test_c_alone_passes_but_for_bits_the_adder_lacks(row):
    """FP8 on Ada and wgmma cuts C to 13 fraction bits (SageAttention issue 287, DeepSeek-V3 report 3.3.2)."""
    fmt, cut = row.d, 10 if row.precision == 13 else 0
    for c in (1, 5, 1 << (fmt.frac_bits - 1), fmt.magnitude >> 2, fmt.max_code, code(fmt, 1) + 1, code(fmt, 1) + 0x3FF):
        for sign in (0, fmt.sign):
            magnitude = c >> cut << cut
            assert dot(row, {}, c | sign) == (magnitude | sign if magnitude else 0)


CHAINS = [row for row in FUSED if row.method == "chain" and not row.block and row.c == row.d]


@pytest.mark.parametrize("row", [row for row in CHAINS if row.d.name == "float16"], **IDS)
def test_overflow_of_f16_results(row):
    """65504 + 8 is nearest to 65504; 65504 + 16 is the tie, and goes to infinity."""
    assert dot(row, {0: (2, 4)}, 0x7BFF) == 0x7BFF
    assert dot(row, {0: (2, 4), 1: (4, 2)}, 0x7BFF) == 0x7C00
    assert dot(row, {0: (-2, 4), 1: (-4, 2)}, 0xFBFF) == 0xFC00


@pytest.mark.parametrize("row", [row for row in CHAINS if row.a.emax == 127], **IDS)
def test_overflow_of_f32_results_also_toward_zero(row):
    """The largest number plus half a unit is cut, plus a whole unit is infinity: rounding toward zero does not saturate."""
    assert dot(row, {0: (2.0 ** 54, 2.0 ** 49)}, 0x7F7FFFFF) == 0x7F7FFFFF
    assert dot(row, {0: (2.0 ** 55, 2.0 ** 49)}, 0x7F7FFFFF) == 0x7F800000
    assert dot(row, {0: (2.0 ** 64, 2.0 ** 64)}) == 0x7F800000
    assert dot(row, {0: (-2.0 ** 64, 2.0 ** 64)}) == 0xFF800000


def exponents(fmt: Float) -> tuple[int, int]:
    return fmt.emin - fmt.frac_bits, fmt.emax


def spread(row, e: int) -> tuple[Fraction, Fraction]:
    """Two operands, powers of two, with product 2**e."""
    (low_a, high_a), (low_b, high_b) = exponents(row.a), exponents(row.b)
    x = min(max(e // 2, low_a, e - high_b), high_a, e - low_b)
    return Fraction(2) ** x, Fraction(2) ** (e - x)


def span(row) -> int:
    """Binades between the largest and the smallest power of two that are products of the row's operands."""
    return exponents(row.a)[1] + exponents(row.b)[1] - exponents(row.a)[0] - exponents(row.b)[0]


@pytest.mark.parametrize("row", [row for row in CHAINS if row.terms > 2 and span(row) > row.adder.frac], **IDS)
def test_alignment_keeps_f_bits_and_cuts_the_rest(row):
    """P, -P and a rest of 2**-F P: kept; of half that: cut, whatever its sign (floor or nearest would give -1 unit)."""
    high = min(exponents(row.a)[1] + exponents(row.b)[1], 14)
    low = high - row.adder.frac
    x, y = spread(row, high)
    pair = {0: (x, y), 1: (-x, y)}
    assert dot(row, {**pair, 2: spread(row, low)}) == code(row.d, Fraction(2) ** low)
    x, y = spread(row, low - 1)
    assert dot(row, {**pair, 2: (x, y)}) == 0
    assert dot(row, {**pair, 2: (-x, y)}) == 0


@pytest.mark.parametrize("row", [row for row in FUSED if row.a.emin < -60 and row.b.emin < -60 and not row.block], **IDS)
def test_the_alignment_exponent_has_a_floor(row):
    """C = 0, a product of one unit of the result and a negative one at the bottom of the adder: 2**(floor - F) is seen
    (the result truncates to zero), half of it is not. Without the floor both would be seen."""
    seen = row.floor - row.adder.frac
    pair = {0: (2.0 ** -75, 2.0 ** -74)}
    for q, want in ((seen, 0), (seen - 1, 1)):
        assert dot(row, {**pair, 1: (-2.0 ** -80, Fraction(2) ** (q + 80))}) == want


@pytest.mark.parametrize("arch, name, q", [("sm_70", "mma.m8n8k4.f16.f16.f16.f16", -42), ("sm_75", "mma.m16n8k8.f16.f16.f16.f16", -44),
                                           ("sm_80", "mma.m16n8k16.f16.f16.f16.f16", -44),
                                           ("sm_90", "mma.m16n8k16.f16.f16.f16.f16", -46),
                                           ("sm_90", "wgmma.m64n8k16.f16.f16.f16", -46)])
def test_the_floor_with_f16_results(arch, name, q):
    """2**-25 alone is half a unit and ties to zero; one more bit at the bottom of the adder tips it, half that does not."""
    row = find(arch, name)
    assert dot(row, {0: (2.0 ** -12, 2.0 ** -13)}) == 0
    assert dot(row, {0: (2.0 ** -12, 2.0 ** -13), 1: (2.0 ** -23, Fraction(2) ** (q + 23))}) == 1
    assert dot(row, {0: (2.0 ** -12, 2.0 ** -13), 1: (2.0 ** -23, Fraction(2) ** (q + 22))}) == 0


@pytest.mark.parametrize("row", [row for row in CHAINS if row.a.emax >= 7 and row.b.emax >= 7], **IDS)
def test_groups_are_consecutive_and_ascending(row):
    """C = -X**2 meets X * X at k = j: what comes before j's group is lost against C, what comes after is kept whole."""
    x, y = 2.0 ** 7, 2.0 ** -9 if row.a.bits >= 16 else 2.0 ** -6
    for j in range(row.k):
        products = {k: (x, x) if k == j else (y, y) for k in range(row.k)}
        after = row.k - (j // row.terms + 1) * row.terms
        assert dot(row, products, code(row.d, -x * x)) == code(row.d, y * y * after)


H, A = "sm_90", "sm_80"
BF16, F16, TF32 = "mma.m16n8k16.f32.bf16.bf16.f32", "mma.m16n8k16.f32.f16.f16.f32", "mma.m16n8k8.f32.tf32.tf32.f32"


@pytest.mark.parametrize("arch, name, products, c, want", [
    # products of 2 or more are not normalised: the third is just above the cut that normalising would make
    (H, F16, {0: (96, 192), 1: (-96, 192), 2: (1, 2.0 ** -12)}, 0, 0x39800000),
    # subnormal operands are aligned by their unnormalised exponent
    (H, BF16, {k: (2.0 ** -76, 2.0 ** -76) for k in range(16)}, 1, 0x00000001),
    # a zero operand does not lend its partner's exponent
    (H, BF16, {0: (0, 2.0 ** 127), 1: (2.0 ** -60, 2.0 ** -60)}, 0, 0x03800000),
    (A, BF16, {0: (0, 2.0 ** 127), 1: (2.0 ** -60, 2.0 ** -60)}, 0, 0x03800000),
    # F32 results are cut, not rounded
    (H, F16, {k: (64, 64) for k in range(4)}, 0x3AC00000, 0x46800000),
    # products beyond the range of F32 cancel
    (H, BF16, {0: (2.0 ** 64, 2.0 ** 64), 1: (-2.0 ** 64, 2.0 ** 64 * (1 - 2.0 ** -8))}, 0, 0x7B800000),
    (H, BF16, {0: (2.0 ** 100, 2.0 ** 100), 1: (-2.0 ** 100, 2.0 ** 100)}, 0x3F800000, 0),
    # an infinity made inside a chain stays (two groups on Ampere), one group cancels (Hopper)
    (A, BF16, {0: (2.0 ** 64, 2.0 ** 64), 8: (-2.0 ** 64, 2.0 ** 64)}, 0, 0x7F800000),
    (H, BF16, {0: (2.0 ** 64, 2.0 ** 64), 8: (-2.0 ** 64, 2.0 ** 64)}, 0, 0),
    # a negative sum that is cut to nothing is +0
    (H, BF16, {0: (-2.0 ** -75, 2.0 ** -75)}, 0, 0),
    (H, BF16, {0: (2.0 ** 127, 2.0 ** 127)}, 0xFF800000, 0xFF800000),
    # F32 accumulators of FP8 on Ada and wgmma: 13 fraction bits
    ("sm_89", "mma.m16n8k32.f32.e4m3.e4m3.f32", {0: (1, 1), 1: (2.0 ** -6, 2.0 ** -7)}, 0, 0x3F800400),
    ("sm_89", "mma.m16n8k32.f32.e4m3.e4m3.f32", {0: (1, 1), 1: (2.0 ** -7, 2.0 ** -7)}, 0, 0x3F800000),
    (H, "wgmma.m64n8k32.f32.e4m3.e4m3", {}, 0xBF8007FF, 0xBF800400),
    (H, "wgmma.m64n8k32.f32.e5m2.e5m2", {}, 0x7F7FFFFF, 0x7F7FFC00),
    (H, "wgmma.m64n8k32.f16.e4m3.e4m3", {0: (1, 1), 1: (-1, 1), 2: (2.0 ** -6, 2.0 ** -7)}, 0, 0x0800),
    (H, "wgmma.m64n8k32.f16.e4m3.e4m3", {0: (1, 1), 1: (-1, 1), 2: (2.0 ** -7, 2.0 ** -7)}, 0, 0),
    # FP8 mma.sync without a unit: k mod 4 in {0, 1} first, then {2, 3}, C added last and rounded to nearest
    (H, "mma.m16n8k32.f32.e5m2.e5m2.f32", {0: (2.0 ** 13, 2.0 ** 13), 1: (-2.0 ** 13, 2.0 ** 13), 2: (1, 1), 19: (1, 1)}, 0, 0x40000000),
    (H, "mma.m16n8k32.f32.e5m2.e5m2.f32", {2: (2.0 ** 13, 2.0 ** 13), 3: (-2.0 ** 13, 2.0 ** 13), 0: (1, 1)}, 0, 0),
    (H, "mma.m16n8k32.f32.e5m2.e5m2.f32", {0: (1.5 * 2.0 ** -12, 2.0 ** -12)}, 0x3F800000, 0x3F800001),
    # TF32 operands lose 13 bits before anything else
    (H, TF32, {0: (("code", 0x3F801FFF), 1)}, 0, 0x3F800000),
    (H, TF32, {0: (("code", 0x7F800001), 1)}, 0, 0x7F800000),
    # FP64: one fma after another, ascending k
    (A, "mma.m8n8k4.f64.f64.f64.f64", {0: (1, 1), 1: (2.0 ** -53, 1), 2: (2.0 ** -53, 1), 3: (2.0 ** -53, 1)}, 0, 0x3FF0000000000000),
    (A, "mma.m8n8k4.f64.f64.f64.f64", {3: (1, 1), 0: (2.0 ** -53, 1), 1: (2.0 ** -53, 1), 2: (2.0 ** -53, 1)}, 0, 0x3FF0000000000002),
    (A, "mma.m8n8k4.rp.f64.f64.f64.f64", {0: (1, 1), 1: (2.0 ** -60, 1)}, 0, 0x3FF0000000000001),
    (A, "mma.m8n8k4.rm.f64.f64.f64.f64", {0: (1, 1), 1: (1, -1)}, 0, 0x8000000000000000),
])
def test_directed_vectors(arch, name, products, c, want):
    assert dot(find(arch, name), products, c) == want


NVFP4 = "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3"
MXFP4 = "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0"
MXFP8 = "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0"
TINY, HUGE = 0x01, 0x78       # UE4M3 2**-9 and 2**8


@pytest.mark.parametrize("name, products, c, scales, want", [
    # the window hangs on the scales and C alone, not on the products; groups of 16, not of 4
    (NVFP4, {0: (6, 6), 1: (-6, 4), 16: (1, 1)}, 0xC9400000, {0: (HUGE, HUGE), 1: (TINY, TINY)}, 0),
    (NVFP4, {0: (1, 1), 1: (-1, 1), 16: (.5, .5), 20: (.5, .5), 24: (.5, .5), 28: (.5, .5)}, 0,
     {0: (HUGE, HUGE), 1: (TINY, TINY)}, 0x36800000),
    # a group that sums to zero claims its exponent, an all-zero group does not
    (NVFP4, {0: (1, 1), 1: (-1, 1), 16: (.5, .5)}, 0, {0: (HUGE, HUGE), 1: (TINY, TINY)}, 0),
    (NVFP4, {16: (.5, .5)}, 0, {0: (HUGE, HUGE), 1: (TINY, TINY)}, 0x35800000),
    # UE4M3 ignores its sign bit; a NaN scale poisons zero data
    (NVFP4, {0: (1, 1)}, 0, {0: (0xB8, 0x38)}, 0x3F800000),
    (NVFP4, {}, 0x3F800000, {3: (0x7F, 0x38)}, 0x7FFFFFFF),
    (NVFP4, {0: (6, 6)}, 0, {0: (0x00, 0x38)}, 0),
    (MXFP4, {}, 0x3F800000, {1: (127, 0xFF)}, 0x7FFFFFFF),
    # the floor of the fp4 path: block 0 sums to 2**-149, block 1 to -2**-174, then to -2**-175
    (MXFP4, {0: (1, 1), 32: (-1, 1)}, 0, {0: (0, 127 - 22), 1: (0, 127 - 47)}, 0),
    (MXFP4, {0: (1, 1), 32: (-.5, 1)}, 0, {0: (0, 127 - 22), 1: (0, 127 - 47)}, 1),
    # MXFP8: scales take part in the exponents
    (MXFP8, {0: (1, 1)}, 0, {0: (254, 254)}, 0x7F800000),
    (MXFP8, {0: (1, 1)}, 1, {0: (0, 0)}, 1),
    (MXFP8, {}, 0x3F800000, {0: (0xFF, 127)}, 0x7FFFFFFF),
    (MXFP8, {0: (1, 1), 1: (2.0 ** -9, 1)}, 0, {0: (0, 127 - 22)}, 1),
    (MXFP8, {0: (1, 1), 1: (-2.0 ** -4, 2.0 ** -5)}, 0, {0: (0, 127 - 22)}, 0),
    (MXFP8, {0: (1, 1), 1: (-2.0 ** -5, 2.0 ** -5)}, 0, {0: (0, 127 - 22)}, 1),
])
def test_directed_block_scaled_vectors(name, products, c, scales, want):
    assert dot(find("sm_120", name), products, c, scales) == want


@pytest.mark.parametrize("arch, name, products, c, want", [
    (A, "mma.m16n8k32.s32.s8.s8.s32", {k: (0x80, 0x80) for k in range(32)}, 0, 32 * 128 * 128),
    (A, "mma.m16n8k32.s32.s8.u8.s32", {0: (0xFF, 0xFF)}, 0, (1 << 32) - 255),
    (A, "mma.m16n8k32.s32.s8.s8.s32", {0: (127, 127)}, 0x7FFFFFFF, 0x80000000 + 127 * 127 - 1),
    (A, "mma.m16n8k32.s32.s8.s8.s32.satfinite", {0: (127, 127)}, 0x7FFFFFFF, 0x7FFFFFFF),
    (A, "mma.m16n8k32.s32.s8.s8.s32.satfinite", {0: (127, 127), 31: (0x81, 127)}, 0x7FFFFF9B, 0x7FFFFF9B),
    (A, "mma.m16n8k32.s32.s8.s8.s32.satfinite", {0: (0x80, 127)}, 0x80000000, 0x80000000),
    ("sm_75", "mma.m8n8k32.s32.s4.u4.s32", {0: (0x8, 0xF), 31: (7, 1)}, 0, (1 << 32) - 120 + 7),
    (A, "mma.m16n8k256.s32.b1.b1.s32.xor.popc", {0: (1, 0), 1: (1, 1), 255: (0, 1)}, 5, 7),
    (A, "mma.m16n8k256.s32.b1.b1.s32.and.popc", {0: (1, 0), 1: (1, 1), 255: (1, 1)}, 0xFFFFFFFF, 1),
])
def test_directed_integer_vectors(arch, name, products, c, want):
    row = find(arch, name)
    a, b = ([dict(products).get(k, (0, 0))[side] for k in range(row.k)] for side in (0, 1))
    assert exact.dot(row, a, b, c) == want


def test_every_integer_row_is_plain_arithmetic():
    """Against Python: the sum of products and C, modulo 2**32 or clamped."""
    import random
    rng = random.Random(5)
    for arch in ARCHS:
        for row in table(arch).values():
            if isinstance(row.d, Float):
                continue
            name = row.name.replace("nNk", f"n{legal_n(row)[0]}k")
            assert generic(name) == row.name
            for c in (0, 0x7FFFFFFF, 0x80000000, rng.getrandbits(32)):
                a, b = ([rng.getrandbits(f.bits) for _ in range(row.k)] for f in (row.a, row.b))
                signed = [[x - (1 << f.bits) if f.signed and x >> (f.bits - 1) else x for x in xs]
                          for f, xs in ((row.a, a), (row.b, b))]
                total = (c ^ 1 << 31) - (1 << 31)
                if "xor" in name:
                    total += sum(x ^ y for x, y in zip(a, b))
                else:
                    total += sum(x * y for x, y in zip(*signed))
                want = min(max(total, -1 << 31), (1 << 31) - 1) if "satfinite" in name else total
                assert exact.dot(row, a, b, c) == want % (1 << 32), name
