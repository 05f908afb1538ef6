"""Directed vectors for every row, with results derived by hand from the published rules; each names what it decides.

The rules: Khattak and Mikaitis (doi 10.1145/3830409), MMA-Sim (arXiv 2511.10909), Fasi et al. (doi 10.7717/peerj-cs.330),
IEEE 754-2019, PTX ISA 9.7.14. No result here was computed by the emulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from emulator import ARCHS, exact, find, table
from emulator.formats import Float
from emulator.instructions import Instruction


class Vector(NamedTuple):
    why: str
    a: list[int]
    b: list[int]
    c: int
    scale_a: list[int]
    scale_b: list[int]
    want: int


def all_rows() -> list[Instruction]:
    """Every row, with n = 16 where the name takes any."""
    return [row if row.n else find(arch, row.name.replace("nNk", "n16k")) for arch in ARCHS for row in table(arch).values()]


def code(fmt: Float, x: float | Fraction) -> int:
    """The code of exactly x."""
    x = Fraction(x)
    assert x.denominator & (x.denominator - 1) == 0
    number = exact.Number(x < 0, abs(x.numerator), 1 - x.denominator.bit_length())
    found = exact.encode(fmt, number, "rz", "error")
    back = exact.decode(fmt, found)
    assert back.sig * Fraction(2) ** back.exp == abs(x), f"{x} is no {fmt}"
    return found


def vector(row: Instruction, why: str, want: int, products: dict = {}, c: int = 0, scales: dict = {}) -> Vector:  # noqa: B006
    """products {k: (a, b)} of exact values, or of codes as ("code", n); c, want and scales {block: (a, b)} are codes."""
    a, b = [0] * row.k, [0] * row.k
    for k, pair in products.items():
        a[k], b[k] = (x[1] if isinstance(x, tuple) else code(fmt, x) for fmt, x in zip((row.a, row.b), pair))
    blocks = row.k // row.block if row.block else 0
    one = code(row.scale, 1) if blocks else 0
    sa, sb = ([scales.get(i, (one, one))[side] for i in range(blocks)] for side in (0, 1))
    return Vector(why, a, b, c, sa, sb, want)


def directed(row: Instruction) -> list[Vector]:
    """All directed vectors of a row."""
    import directed_amd
    import directed_documented
    import directed_gaudi
    import directed_x86

    if not isinstance(row.d, Float):
        return [*_integers(row)]
    if row.arch.startswith("gaudi"):
        return [*directed_gaudi.vectors(row)]
    if row.arch.startswith("gfx") and row.d.bits == 32:
        return [*directed_amd.vectors(row)]
    if row.arch == "x86_64":
        return [*directed_x86.vectors(row)]
    if row.arch in ("armv9-a", "power10"):
        return [*directed_documented.vectors(row)]
    if row.k == 1:
        return [*_ffma(row)]
    return [*_specials(row), *_fused(row), *_alignment(row), *_fp4(row), *_fp64(row), *_listed(row)]


def exponents(fmt: Float) -> tuple[int, int]:
    return fmt.emin - fmt.frac_bits, fmt.emax


def spread(row: Instruction, e: int) -> tuple[Fraction, Fraction]:
    """Two operands, powers of two, with product 2**e."""
    (low_a, high_a), (low_b, high_b) = exponents(row.a), exponents(row.b)
    x = min(max(e // 2, low_a, e - high_b), high_a, e - low_b)
    return Fraction(2) ** x, Fraction(2) ** (e - x)


def _specials(row: Instruction) -> Iterator[Vector]:
    """What holds for every floating-point row."""
    one, minus_zero = code(row.c, 1), row.c.sign
    nan = (1 << (row.d.bits - 1)) - 1       # NVIDIA's canonical NaN: every bit set but the sign
    zero = row.d.sign if row.rounding == "rd" else 0            # IEEE 754-2019, 6.3: only FP64 .rm
    yield vector(row, "nothing", 0)
    yield vector(row, "C = -0 plus the +0 of the products", zero, {}, minus_zero)
    yield vector(row, "exact cancellation, C = -0", zero, {0: (1, 1), 1: (1, -1)}, minus_zero)
    yield vector(row, "cancellation against C", zero, {0: (1, -1)}, one)
    yield vector(row, "every k counts once", code(row.d, row.k + 1), {k: (1, 1) for k in range(row.k)}, one)
    if row.method != "fma_chain" and row.a.has_negative_zero:
        yield vector(row, "a product that is -0 is nothing", 0, {0: (("code", row.a.sign), 1)}, minus_zero)
    for k in (0, row.k - 1):
        if row.a.nan_code is not None:
            yield vector(row, "NaN * 0", nan, {k: (("code", row.a.all_ones_nan | row.a.sign), 0)})
            yield vector(row, "NaN beside C = Inf", nan, {k: (("code", row.a.nan_code), 1)}, row.c.inf_code)
        if row.b.nan_code is not None:
            yield vector(row, "0 * NaN", nan, {k: (0, ("code", row.b.all_ones_nan))})
    yield vector(row, "C a NaN with sign and payload", nan, {}, row.c.sign | row.c.inf_code | (row.c.magnitude >> 12 & 0x135))
    yield vector(row, "C infinite", row.d.inf_code, {}, row.c.inf_code)
    for side, fmt in enumerate((row.a, row.b)):
        if fmt.low_pad:                                         # PTX, wgmma: "the lower 13 bits are ignored"
            for low, want in ((0x3F801FFF, 0x3F800000), (0x7F800001, 0x7F800000)):
                pair = (("code", low), 1) if side == 0 else (1, ("code", low))
                yield vector(row, "TF32 operands lose 13 bits before anything else", want, {0: pair})
    if row.a.inf_code is not None and row.b.inf_code is not None:
        inf, minus_inf = ("code", row.a.inf_code), ("code", row.a.inf_code | row.a.sign)
        yield vector(row, "Inf * 0", nan, {1: (inf, 0)})
        yield vector(row, "Inf * 1", row.d.inf_code, {1: (inf, 1)})
        yield vector(row, "-Inf * 1 + 1", row.d.inf_code | row.d.sign, {1: (minus_inf, 1)}, one)
        yield vector(row, "Inf - Inf among products", nan, {0: (inf, 1), 1: (minus_inf, 1)})
        yield vector(row, "Inf - Inf against C", nan, {1: (inf, 1)}, row.c.inf_code | row.c.sign)
        yield vector(row, "-Inf - Inf", row.d.inf_code | row.d.sign, {1: (inf, -1)}, row.c.inf_code | row.c.sign)


def _fused(row: Instruction) -> Iterator[Vector]:
    """What holds for rows on a fused adder."""
    if row.c == row.d:
        cut = 10 if row.adder and row.adder.name.endswith("fp8") and row.d.name == "float32" else 0
        for c in (1, 5, 1 << (row.d.frac_bits - 1), row.d.max_code, code(row.d, 1) + 1, code(row.d, 1) + 0x3FF):
            magnitude = c >> cut << cut     # 13 bits of an FP8 accumulator: SageAttention issue 287, DeepSeek-V3 3.3.2
            for sign in (0, row.d.sign):
                yield vector(row, "C passes through", magnitude | sign if magnitude else 0, {}, c | sign)
    if row.method != "chain" or row.block or row.c != row.d:
        return
    if row.d.name == "float16":
        both = {0: (1.5, 1), group(row) - 1: (1.5, 1)}
        yield vector(row, "a unit of C gathers over the whole group", code(row.d, 4100), both, code(row.d, 4096))
        yield vector(row, "65504 + 8 is nearest to 65504", 0x7BFF, {0: (2, 4)}, 0x7BFF)
        yield vector(row, "65504 + 16 ties to infinity", 0x7C00, {0: (2, 4), 1: (4, 2)}, 0x7BFF)
        yield vector(row, "-65504 - 16", 0xFC00, {0: (-2, 4), 1: (-4, 2)}, 0xFBFF)
    elif row.a.emax == 127:
        yield vector(row, "half a unit above the largest is cut", 0x7F7FFFFF, {0: (2.0 ** 54, 2.0 ** 49)}, 0x7F7FFFFF)
        yield vector(row, "a whole unit above is infinity", 0x7F800000, {0: (2.0 ** 55, 2.0 ** 49)}, 0x7F7FFFFF)
        yield vector(row, "2**128", 0x7F800000, {0: (2.0 ** 64, 2.0 ** 64)})
        yield vector(row, "-2**128", 0xFF800000, {0: (-2.0 ** 64, 2.0 ** 64)})
        seen = row.d.emin - {"volta": 5, "ampere": 6, "hopper": 7}[row.adder.name] - row.adder.frac
        for q, want in ((seen, 0), (seen - 1, 1)):
            yield vector(row, "the alignment exponent has a floor: 2**q is seen, or not", want,
                         {0: (2.0 ** -75, 2.0 ** -74), 1: (-2.0 ** -80, Fraction(2) ** (q + 80))})
    if row.a.emax >= 7 and row.b.emax >= 7:
        x, y = 2.0 ** 7, 2.0 ** -9 if row.a.bits >= 16 else 2.0 ** -6
        for j in range(row.k):
            after = row.k - min(row.k, (j // group(row) + 1) * group(row))
            products = {k: (x, x) if k == j else (y, y) for k in range(row.k)}
            yield vector(row, "groups are consecutive and ascending: C = -X**2 meets X**2 at j, what comes later is kept",
                         code(row.d, y * y * after), products, code(row.d, -x * x))


def group(row: Instruction) -> int:
    return min(row.k, GROUPS[row.adder.name] // max(row.a.bits, 8))


def _alignment(row: Instruction) -> Iterator[Vector]:
    """F fraction bits below the largest exponent, each addend cut toward zero; then one rounding."""
    if row.adder is None:
        return
    places = {"chain": (0, 1, 2, 3, 4), "fp8_through_f16": (0, 1, 4, 5, 8), "exact_groups": (0, 16, 32, 48)}[row.method]
    bits, kept = FRACTION[row.adder.name], row.d.frac_bits if row.adder.frac >= 23 else min(row.d.frac_bits, 13)
    top, bottom = exponents(row.a)[1] + exponents(row.b)[1], exponents(row.a)[0] + exponents(row.b)[0]
    high = min(top, 14)
    low = high - bits
    if row.method != "exact_groups" and group(row) > 2 and low > bottom:
        x, y = spread(row, high)
        pair = {places[0]: (x, y), places[1]: (-x, y)}
        yield vector(row, "2**-F of the largest is kept", code(row.d, Fraction(2) ** low), {**pair, places[2]: spread(row, low)})
        x, y = spread(row, low - 1)
        yield vector(row, "half of that is cut", 0, {**pair, places[2]: (x, y)})
        yield vector(row, "and cut toward zero, not down", 0, {**pair, places[2]: (-x, y)})
    if row.method == "fp8_through_f16":
        if row.d.name == "float32":
            yield vector(row, "C is added last and to nearest", 0x43800001, {0: (1.5 * 2.0 ** -8, 2.0 ** -8)}, code(row.d, 256))
            small = (1.5 * 2.0 ** -4, 2.0 ** -4)
            yield vector(row, "the sums before it are cut", code(row.d, 2.0 ** 16), {**{k: (2.0 ** 7, 2.0 ** 7) for k in places[:4]}, 8: small})
        else:
            small = (1.5 * 2.0 ** -3, 2.0 ** -4)
            yield vector(row, "to nearest", code(row.d, 16) + 1, {**{k: (2, 2) for k in places[:4]}, 8: small})
            yield vector(row, "each half is rounded to F16", 0x3C00, {0: (1, 1), 1: (2.0 ** -5, 2.0 ** -6), 2: (2.0 ** -5, 2.0 ** -6)})
        return
    # four products of 2**h and three quarters of a unit of their sum, as C
    h = min(top, 2) if row.d.name == "float16" else 0
    c = code(row.d, 3 * Fraction(2) ** (h - kept)) if row.c == row.d else None
    if c is not None and group(row) >= 4:
        up = row.d.name == "float16"
        total = code(row.d, Fraction(2) ** (h + 2)) + up
        yield vector(row, "three quarters of a unit go up in F16, are cut in F32", total, {k: spread(row, h) for k in places[:4]}, c)
    # C far above: sub-units of its last bit count if they are above the cut and of one sum
    if row.d.name == "float32" and row.c == row.d and bits > kept and row.method == "chain":
        low = min(top, 0)
        parts = 1 << (bits - kept)                              # products of 2**low that make one unit of C
        c = code(row.d, Fraction(2) ** (low + bits))
        size = group(row)
        if 2 * parts <= size:
            yield vector(row, "parts of a unit of C add up", c + 1, {k: spread(row, low) for k in range(size - parts, size)}, c)
            if low - 1 >= bottom:
                yield vector(row, "parts below the cut do not", c, {k: spread(row, low - 1) for k in range(2 * parts)}, c)
            halves = [*range(parts // 2), *range(size - parts // 2, size)]
            yield vector(row, "they add up over the whole group", c + 1, {k: spread(row, low) for k in halves}, c)
        if row.k > size:
            over = range(size - parts // 2, size + parts // 2)
            yield vector(row, "and not beyond it", c, {k: spread(row, low) for k in over}, c)


# bits of one operand per sum: 4, 8 and 16 products of 16 bits (FHMP 2021; KM section IV)
GROUPS = {"volta": 64, "ampere": 128, "ada_fp8": 128, "hopper": 256, "hopper_fp8": 256, "blackwell_fp4": 256}
FRACTION = {"volta": 23, "ampere": 24, "ada_fp8": 13, "hopper": 25, "hopper_fp8": 13, "blackwell_fp4": 35}   # KM, XMMA

F16 = "mma.m16n8k16.f32.f16.f16.f32"
F16F16 = "mma.m16n8k16.f16.f16.f16.f16"
BF16 = "mma.m16n8k16.f32.bf16.bf16.f32"
TF32 = "mma.m16n8k8.f32.tf32.tf32.f32"
E4M3 = "mma.m16n8k32.f32.e4m3.e4m3.f32"
MXFP8 = "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0"
TINY, HUGE = 0x01, 0x78       # UE4M3 2**-9 and 2**8

# (architectures, row, why, products, C, result[, scales])
LISTED = [
    ("sm_90", F16, "products of 2 or more are not normalised", {0: (96, 192), 1: (-96, 192), 2: (1, 2.0 ** -12)}, 0, 0x39800000),
    ("sm_90 sm_100 sm_120", BF16, "a subnormal C claims its unnormalised exponent", {k: (2.0 ** -76, 2.0 ** -76) for k in range(16)}, 1, 1),
    ("sm_80 sm_90", BF16, "a zero operand does not lend its partner's exponent", {0: (0, 2.0 ** 127), 1: (2.0 ** -60, 2.0 ** -60)}, 0, 0x03800000),
    ("sm_80 sm_89 sm_90 sm_100", F16, "F32 results are cut", {k: (64, 64) for k in range(4)}, 0x3AC00000, 0x46800000),
    ("sm_80 sm_89 sm_90 sm_100", F16F16, "F16 results go to nearest", {0: (1, 1), 1: (1.5 * 2.0 ** -11, 1)}, 0, 0x3C01),
    ("sm_80 sm_89 sm_90 sm_100", F16F16, "ties to even", {0: (1, 1), 1: (2.0 ** -11, 1)}, 0, 0x3C00),
    ("sm_90", BF16, "products beyond the range of F32 cancel", {0: (2.0 ** 64, 2.0 ** 64), 1: (-2.0 ** 64, 2.0 ** 64 * (1 - 2.0 ** -8))}, 0, 0x7B800000),
    ("sm_90", BF16, "and take C with them", {0: (2.0 ** 100, 2.0 ** 100), 1: (-2.0 ** 100, 2.0 ** 100)}, 0x3F800000, 0),
    ("sm_80 sm_86 sm_89", BF16, "an infinity made in the first of two groups stays", {0: (2.0 ** 64, 2.0 ** 64), 8: (-2.0 ** 64, 2.0 ** 64)}, 0, 0x7F800000),
    ("sm_90 sm_100 sm_120", BF16, "in one group there is none", {0: (2.0 ** 64, 2.0 ** 64), 8: (-2.0 ** 64, 2.0 ** 64)}, 0, 0),
    ("sm_90", BF16, "a negative sum that is cut to nothing is +0", {0: (-2.0 ** -75, 2.0 ** -75)}, 0, 0),
    ("sm_90", BF16, "an overflowing product is no infinity beside C = -Inf", {0: (2.0 ** 127, 2.0 ** 127)}, 0xFF800000, 0xFF800000),
    # 2**-25 alone is half a unit of an F16 result and ties to zero; one bit at the bottom of the adder tips it
    *(("sm_70", "mma.m8n8k4.f16.f16.f16.f16", "floor", {0: (2.0 ** -12, 2.0 ** -13), 1: (2.0 ** -23, 2.0 ** q)}, 0, want) for q, want in ((-19, 1), (-20, 0))),
    *(("sm_80 sm_86 sm_89", F16F16, "floor", {0: (2.0 ** -12, 2.0 ** -13), 1: (2.0 ** -23, 2.0 ** q)}, 0, want) for q, want in ((-21, 1), (-22, 0))),
    *(("sm_75 sm_80 sm_86 sm_89", "mma.m16n8k8.f16.f16.f16.f16", "floor", {0: (2.0 ** -12, 2.0 ** -13), 1: (2.0 ** -23, 2.0 ** q)}, 0, want) for q, want in ((-21, 1), (-22, 0))),
    *((arch, name, "floor", {0: (2.0 ** -12, 2.0 ** -13), 1: (2.0 ** -23, 2.0 ** q)}, 0, want) for q, want in ((-23, 1), (-24, 0))
      for arch, name in (("sm_90 sm_100 sm_120", F16F16), ("sm_90 sm_100 sm_120", "mma.m16n8k8.f16.f16.f16.f16"),
                         ("sm_90", "wgmma.m64n16k16.f16.f16.f16"), ("sm_100", "tcgen05.mma.m64n16k16.kind::f16.f16.f16.f16"))),
    # FP8 accumulators of 13 fraction bits
    ("sm_89", E4M3, "13 fraction bits", {0: (1, 1), 1: (2.0 ** -6, 2.0 ** -7)}, 0, 0x3F800400),
    ("sm_89", E4M3, "and no more", {0: (1, 1), 1: (2.0 ** -7, 2.0 ** -7)}, 0, 0x3F800000),
    ("sm_90", "wgmma.m64n16k32.f16.e4m3.e4m3", "13 bits before the F16 result", {0: (1, 1), 1: (-1, 1), 2: (2.0 ** -6, 2.0 ** -7)}, 0, 0x0800),
    ("sm_90", "wgmma.m64n16k32.f16.e4m3.e4m3", "and no more", {0: (1, 1), 1: (-1, 1), 2: (2.0 ** -7, 2.0 ** -7)}, 0, 0),
    # FP8 mma.sync without a unit
    ("sm_90 sm_100", "mma.m16n8k32.f32.e5m2.e5m2.f32", "k mod 4 in {0, 1} comes first", {0: (2.0 ** 13, 2.0 ** 13), 1: (-2.0 ** 13, 2.0 ** 13), 2: (1, 1), 19: (1, 1)}, 0, 0x40000000),
    ("sm_90 sm_100", "mma.m16n8k32.f32.e5m2.e5m2.f32", "{2, 3} second", {2: (2.0 ** 13, 2.0 ** 13), 3: (-2.0 ** 13, 2.0 ** 13), 0: (1, 1)}, 0, 0),
    ("sm_90 sm_100", "mma.m16n8k32.f32.e5m2.e5m2.f32", "C is added last and to nearest", {0: (1.5 * 2.0 ** -12, 2.0 ** -12)}, 0x3F800000, 0x3F800001),
    # TF32 operands lose 13 bits before anything else
    ("sm_80 sm_90 sm_100", TF32, "cut", {0: (("code", 0x3F801FFF), 1)}, 0, 0x3F800000),
    ("sm_80 sm_90 sm_100", TF32, "a NaN that is an infinity once cut", {0: (("code", 0x7F800001), 1)}, 0, 0x7F800000),
    # CUDA-core code
    *(("sm_80 sm_86 sm_89 sm_90 sm_100 sm_120", f"mma.m8n8k4.f32.f16.f16.{c}", "C comes last", {0: (2.0 ** -12, 2.0 ** -12), 1: (2.0 ** -12, 2.0 ** -12)}, one, 0x3F800001)
      for c, one in (("f32", 0x3F800000), ("f16", 0x3C00))),
    ("sm_70 sm_75", "mma.m8n8k4.f32.f16.f16.f16", "F32 results are cut", {k: (64, 64) for k in range(4)}, 0x1600, 0x46800000),
    ("sm_80 sm_86 sm_89 sm_90 sm_100 sm_120", "mma.m8n8k4.f32.f16.f16.f32", "ascending k", {0: (2.0 ** 12, 2.0 ** 12), 1: (1, 1), 2: (-2.0 ** 12, 2.0 ** 12)}, 0, 0),
    ("sm_80 sm_86 sm_89 sm_90 sm_100 sm_120", "mma.m8n8k4.f32.f16.f16.f32", "each step to nearest", {0: (2.0 ** 13, 2.0 ** 11), 1: (1, 1), 2: (1, 1)}, 0, 0x4B800000),
    ("sm_80 sm_86 sm_89 sm_90 sm_100 sm_120", "mma.m8n8k4.f16.f16.f16.f16", "one rounding to F16", {0: (1, 1), 1: (2.0 ** -11, 1), 2: (2.0 ** -11, 1)}, 0, 0x3C01),
    # MXFP8: scales take part in the exponents
    ("sm_120", MXFP8, "2**254", {0: (1, 1)}, 0, 0x7F800000, {0: (254, 254)}),
    ("sm_120", MXFP8, "2**-254 beside the smallest C", {0: (1, 1)}, 1, 1, {0: (0, 0)}),
    ("sm_120", MXFP8, "a NaN scale poisons zero data", {}, 0x3F800000, 0x7FFFFFFF, {0: (0xFF, 127)}),
    ("sm_120", MXFP8, "floor: 2**-149 less 2**-158", {0: (1, 1), 1: (-2.0 ** -4, 2.0 ** -5)}, 0, 0, {0: (0, 127 - 22)}),
    ("sm_120", MXFP8, "floor: 2**-149 less 2**-159", {0: (1, 1), 1: (-2.0 ** -5, 2.0 ** -5)}, 0, 1, {0: (0, 127 - 22)}),
]


def _fp4(row: Instruction) -> Iterator[Vector]:
    """Block-scaled FP4: the window hangs on the scales and C alone, groups are 16 long and exact (MMA-Sim, mmasim 2.1)."""
    if row.method != "exact_groups":
        return
    second = 16 // row.block if row.block == 16 else 1          # the block of k = `start`, another than that of k = 0
    start = second * row.block
    if row.scale.name == "float8_ue4m3":
        apart = {0: (HUGE, HUGE), second: (TINY, TINY)}         # 2**16 and 2**-18
        yield vector(row, "C below the scales' exponent", 0, {0: (6, 6), 1: (-6, 4), start: (1, 1)}, 0xC9400000, apart)
        yield vector(row, "UE4M3 ignores its sign bit", 0x3F800000, {0: (1, 1)}, 0, {0: (0xB8, 0x38)})
        yield vector(row, "a NaN scale poisons zero data", 0x7FFFFFFF, {}, 0x3F800000, {3: (0x7F, 0x38)})
        yield vector(row, "a zero scale", 0, {0: (6, 6)}, 0, {0: (0x00, 0x38)})
        doubled = {1: (0x40, 0x38), 2: (0x40, 0x40), 3: (0x40, 0x48)}
        yield vector(row, "each block its own scale", 0x41700000, {k: (1, 1) for k in (0, 16, 32, 48)}, 0, doubled)
        kept = 0x36000000                                       # 2**-19
    else:
        apart = {0: (127 + 8, 127 + 8), second: (127 - 9, 127 - 9)}
        yield vector(row, "a NaN scale poisons zero data", 0x7FFFFFFF, {}, 0x3F800000, {1: (127, 0xFF)})
        total = code(row.d, 1 + 1 + 4 + 4 if row.block == 32 else 1 + 4 + 1 + 1)
        yield vector(row, "each block its own scale", total, {k: (1, 1) for k in (0, 16, 32, 48)}, 0, {1: (128, 128)})
        floor = {0: (0, 127 - 22), second: (0, 127 - 47)}       # emin - 13 - 35 = -174
        yield vector(row, "floor: 2**-149 less 2**-174", 0, {0: (1, 1), start: (-1, 1)}, 0, floor)
        yield vector(row, "floor: 2**-149 less 2**-175", 1, {0: (1, 1), start: (-.5, 1)}, 0, floor)
        kept = 0x36000000
    zero = {0: (1, 1), 1: (-1, 1)}
    yield vector(row, "a group that sums to zero claims its exponent", 0, {**zero, start: (.5, .5)}, 0, apart)
    yield vector(row, "35 bits below it are kept", kept, {**zero, start: (.5, 1)}, 0, apart)
    yield vector(row, "an all-zero group claims nothing", 0x35800000, {start: (.5, .5)}, 0, apart)
    quads = {start + k: (.5, .5) for k in (0, 4, 8, 12)}
    yield vector(row, "16 products are summed exactly", 0x36800000, {**zero, **quads}, 0, apart)


def _fp64(row: Instruction) -> Iterator[Vector]:
    """FP64: one IEEE fma after another, ascending k, in the rounding the name says."""
    if row.method != "fma_chain":
        return
    one, last = 0x3FF0000000000000, row.k - 1
    yield vector(row, "1 + 2**-54", one + (row.rounding == "ru"), {0: (1, 1), last: (2.0 ** -54, 1)})
    yield vector(row, "1 + 3 * 2**-54", one + (row.rounding in ("rne", "ru")), {0: (1, 1), last: (3 * 2.0 ** -54, 1)})
    yield vector(row, "-1 - 2**-54", (one | 1 << 63) + (row.rounding == "rd"), {0: (1, -1), last: (2.0 ** -54, -1)})
    small = {"rne": 0, "rz": 0, "rd": 0, "ru": 3}[row.rounding]
    yield vector(row, "1 first, then thrice 2**-53", one + small, {0: (1, 1), **{k: (2.0 ** -53, 1) for k in (1, 2, 3)}})
    small = {"rne": 2, "rz": 1, "rd": 1, "ru": 2}[row.rounding]     # 1 + 3 * 2**-53: a tie, to even
    yield vector(row, "thrice 2**-53 first, then 1", one + small, {last: (1, 1), **{k: (2.0 ** -53, 1) for k in range(3)}})
    yield vector(row, "C before the rest (Khattak and Mikaitis, A100)", one + 1, {0: (2.0 ** -53, 1), 1: (1, 1)}, 0x3CA0000000000000)


def _ffma(row: Instruction) -> Iterator[Vector]:
    """fma.rn.f32: IEEE 754-2019, 5.4.1, and NVIDIA's canonical NaN (PTX, fma)."""
    def step(why: str, x: object, y: object, z: float, want: float) -> Vector:
        return vector(row, why, code(row.d, want), {0: (x, y)}, code(row.c, z))

    minus, nan, inf, up = 1 << 31, 0x7FFFFFFF, 0x7F800000, Fraction(1) + Fraction(2) ** -23
    yield vector(row, "+0 and -0", 0, {}, minus)
    yield vector(row, "-0 and -0", minus, {0: (("code", minus), 1)}, minus)
    yield step("cancels to +0", 1, -1, 1, 0)
    yield step("the product is not rounded", up, 2 - up, -1, -(Fraction(2) ** -46))
    yield step("a tie, to even", 2 ** 24, 1, 1, 2 ** 24)
    yield step("to nearest", 1, 3, 2 ** 24, 2 ** 24 + 4)
    beside = 1 + Fraction(2) ** -12
    yield step("a tie in the product", beside, beside, 0, 1 + Fraction(2) ** -11)
    yield step("no tie, 36 places down", beside, beside, Fraction(2) ** -60, up + Fraction(2) ** -11)
    yield step("the smallest number", Fraction(2) ** -100, Fraction(2) ** -49, 0, Fraction(2) ** -149)
    yield step("half of it, to even", Fraction(2) ** -100, Fraction(2) ** -50, 0, 0)
    yield step("subnormal operands count", Fraction(2) ** -149, 2 ** 100, 0, Fraction(2) ** -49)
    yield vector(row, "overflow", inf, {0: (2 ** 127, 1)}, code(row.c, 2 ** 127))
    for why, want, x, y, z in (("Inf * 0", nan, inf, 0, 0), ("Inf - Inf", nan, inf, 0x3F800000, minus | inf), ("-Inf", minus | inf, minus | inf, 0x3F800000, 0),
                               ("NaN a", nan, 0xFF800001, 0, 0), ("NaN b", nan, 0, 0xFFC00000, 0), ("NaN c", nan, 0, 0, 0xFFABCDEF), ("C infinite", inf, 0, 0, inf)):
        yield vector(row, why, want, {0: (("code", x), ("code", y))}, z)


def _listed(row: Instruction) -> Iterator[Vector]:
    for archs, name, why, products, c, want, *scales in LISTED:
        if row.arch in archs.split() and row.name == name:
            yield vector(row, why, want, products, c, *scales)


def _integers(row: Instruction) -> Iterator[Vector]:
    """Exact sums: PTX ISA, mma and wgmma integer forms."""
    def codes(why: str, want: int, products: dict, c: int) -> Vector:
        return vector(row, why, want % (1 << 32), {k: (("code", x), ("code", y)) for k, (x, y) in products.items()}, c)

    last, top = row.k - 1, (1 << row.a.bits) - 1
    if row.a.bits == 1:
        xor = row.method == "xor_popc"
        yield codes("one of both, both, neither", 5 + (2 if xor else 1), {0: (1, 0), 1: (1, 1), last: (0, 1)}, 5)
        yield codes("all of K", row.k, {k: (1, 0 if xor else 1) for k in range(row.k)}, 0)
        yield codes("wraps", 0, {0: (1, 0 if xor else 1)}, 0xFFFFFFFF)
        return
    a, b = (-1 if fmt.signed else top for fmt in (row.a, row.b))
    yield codes("all ones", row.k * a * b + 3, {k: (top, top) for k in range(row.k)}, 3)
    yield codes("the largest positive in k = 0 and the last", 2 * row.a.max * row.b.max, {0: (row.a.max, row.b.max), last: (row.a.max, row.b.max)}, 0)
    high, low = 0x7FFFFFFF, 0x80000000
    yield codes("past the top", high if row.saturate else high + 1, {0: (1, 1)}, high)
    if row.a.signed:
        yield codes("past the bottom", low if row.saturate else low - 1, {0: (top, 1)}, low)
        yield codes("the exact sum is clamped, once", high - 5, {0: (row.a.max, row.b.max), last: ((-row.a.max) & top, row.b.max)}, high - 5)
