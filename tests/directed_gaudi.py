"""Directed vectors for the matrix engines of Intel Gaudi 2 and 3, with results derived by hand from the rules of Intel's
functional model (HabanaAI/Intel_Gaudi3_Software at e6cef1c: coral-sim, fs_fma; mme_reference, chip_fma)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from directed import Vector, _specials, code, exponents, vector
from directed_amd import INF, MINUS, NAN, products, two

from emulator.instructions import Instruction


def vectors(row: Instruction) -> Iterator[Vector]:
    if row.k > 1 and row.a.emax >= 0:
        yield from _specials(row)
    yield from _few(row)
    yield from (_gaudi2 if row.arch == "gaudi2" else _gaudi3)(row)


def reach(row: Instruction) -> tuple[int, int]:
    """Exponents of the smallest product and the largest power of two."""
    (low_a, high_a), (low_b, high_b) = exponents(row.a), exponents(row.b)
    return low_a + low_b, high_a + high_b


def _few(row: Instruction) -> Iterator[Vector]:
    """What _specials holds, where 1 is no operand or there is one product."""
    large, inf = two(row.a.emax), row.a.inf_code
    yield vector(row, "nothing", 0)
    yield vector(row, "C = -0 and products +0", 0, {}, MINUS)
    yield vector(row, "NaN * 0", NAN, {0: (("code", row.a.nan_code | row.a.sign), 0)})
    yield vector(row, "0 * NaN", NAN, {row.k - 1: (0, ("code", row.b.all_ones_nan))})
    yield vector(row, "C a NaN with sign and payload", NAN, {}, 0xFFA00135)
    yield vector(row, "C infinite", INF | MINUS, {0: (large, large)} if row.a == row.b else {}, INF | MINUS)
    if inf:
        yield vector(row, "Inf * 0", NAN, {0: (("code", inf), 0)})
        yield vector(row, "Inf against C", NAN, {0: (("code", inf), two(row.b.emax))}, INF | MINUS)
        yield vector(row, "-Inf", INF | MINUS, {row.k - 1: (("code", inf | row.a.sign), two(row.b.emax))}, code(row.d, 1))
    for sign in (0, MINUS):
        for c in (0x00800000, 0x3F800001, 0x7F7FFFFF):
            yield vector(row, "C passes through", c | sign, {}, c | sign)


def _gaudi3(row: Instruction) -> Iterator[Vector]:
    """Products of digits and C, all cut to 24 bits below the largest exponent; the sum cut to float32."""
    bottom, top = reach(row)
    high, last = min(top, 14), row.k - 1
    unit, whole = two(high - 24), code(row.d, two(high))
    yield vector(row, "the sum is cut", whole + 1, products(row, {0: high}), code(row.d, 3 * unit))
    yield vector(row, "below zero too", (whole | MINUS) + 1, products(row, {0: (-1, high)}), code(row.d, -3 * unit))
    yield vector(row, "a zero sum is +0", 0, products(row, {0: high}), code(row.d, -two(high)))
    yield vector(row, "also of zeros below zero", 0, {k: (("code", row.a.sign), two(row.b.emax)) for k in range(row.k)}, MINUS)
    for c in (1, 5, 0x80000005):
        yield vector(row, "C may be subnormal", c, {}, c)
    if row.k > 1:
        pair = products(row, {0: high, last: (-1, high)})
        yield vector(row, "C's 24th bit below the largest product is kept", code(row.d, unit), pair, code(row.d, unit))
        yield vector(row, "its 25th is not", 0, pair, code(row.d, unit / 2))
        yield vector(row, "toward zero", 0, pair, code(row.d, -unit / 2))
        wide = products(row, {0: (Fraction(3, 2), high), last: (Fraction(-3, 2), high)})
        wide = {k: (x, y * Fraction(3, 2)) for k, (x, y) in wide.items()}
        yield vector(row, "a product of 2 or more is not normalised", code(row.d, unit), wide, code(row.d, unit))
        low = exponents(row.a)[0]                   # a subnormal
        tiny = {0: (two(low), two(row.b.emax)), last: (-two(low), two(row.b.emax))}
        claim = (low if row.a.bits < 16 or row.a.emax == 15 else row.a.emin) + row.b.emax
        yield vector(row, "a subnormal claims float32's exponent", code(row.d, two(claim - 24)), tiny, code(row.d, two(claim - 24)))
        yield vector(row, "and no less", 0, tiny, code(row.d, two(claim - 25)))
    else:
        beside = 1 + two(-12)
        yield vector(row, "24 bits are kept", code(row.d, two(-24)), {0: (beside, beside)}, code(row.d, -1 - two(-11)))
        yield vector(row, "and no more", 0, {0: (beside, 1 + two(-13))}, code(row.d, -1 - two(-12) - two(-13)))
    if row.a.frac_bits == 10:                       # digits of 3 and 8 bits
        beside = 1 + two(-10)
        yield vector(row, "each product of two digits is cut", code(row.d, 1 - two(15)), {0: (beside, beside)}, code(row.d, -two(15)))
    if row.a.frac_bits == 23:                       # digits of 8, 8 and 8 bits
        beside = 1 + two(-15)
        yield vector(row, "each product of two digits is cut", code(row.d, 1 - two(10)), {0: (beside, beside)}, code(row.d, -two(10)))
    if row.a.emax == 127:
        if row.k > 1:
            yield vector(row, "the least exponent is -132: 2**-156 is seen", 0, products(row, {0: -149, last: (-1, -156)}))
            yield vector(row, "2**-157 is not", 1, products(row, {0: -149, last: (-1, -157)}))
        yield vector(row, "but C's is -126: 2**-150 is seen", 0, products(row, {0: (-1, -150)}), 1)
        yield vector(row, "2**-151 is not", 1, products(row, {0: (-1, -151)}), 1)
        yield vector(row, "cut to a subnormal", 1, products(row, {last: (3, -150)}))
        yield vector(row, "and to +0", 0, products(row, {last: (-1, -150)}))
        yield vector(row, "half a unit above the largest is cut", 0x7F7FFFFF, products(row, {0: 103}), 0x7F7FFFFF)
        yield vector(row, "a whole one is infinite", INF, products(row, {0: 104}), 0x7F7FFFFF)
        yield vector(row, "-2**128", INF | MINUS, products(row, {0: (-1, 128)}))


def _gaudi2(row: Instruction) -> Iterator[Vector]:
    """Products cut below the largest of them; then C, one rounding, and no subnormals."""
    bottom, top = reach(row)
    frac, last, float32 = 24 if row.a.bits == 8 else 46, row.k - 1, row.a.emax == 127
    high = min(top, max(14, bottom + frac + 2))
    c = code(row.d, -two(high))
    yield vector(row, f"{frac} bits below the largest product are kept", code(row.d, two(high - frac)),
                 products(row, {0: high, last: high - frac}), c)
    yield vector(row, "the next is cut", 0, products(row, {0: high, last: high - frac - 1}), c)
    yield vector(row, "toward zero", 0, products(row, {0: high, last: (-1, high - frac - 1)}), c)
    middle = min(max(bottom + 12, -10), top)        # half of the last bit of C
    c = code(row.d, two(middle + 24))
    yield vector(row, "a tie, to even", c, products(row, {0: middle}), c)
    yield vector(row, "a tie, to even, up", c + 2, products(row, {last: middle}), c + 1)
    yield vector(row, "three quarters go up", c + 1, products(row, {0: (3, middle - 1)}), c)
    yield vector(row, "a hair above the tie", c + 1, products(row, {0: middle, last: middle - 10}), c)
    yield vector(row, "a hair below", c, products(row, {0: middle, last: (-1, middle - 10)}), c)
    yield vector(row, "products meet before C", c + 1, products(row, {0: middle, last: middle}), c)
    yield vector(row, "nothing of C is cut", code(row.d, two(-100)), products(row, {0: high, last: (-1, high)}), code(row.d, two(-100)))
    zeros = {k: (("code", row.a.sign), two(row.b.emax)) for k in range(row.k)}
    yield vector(row, "-0 throughout", MINUS, zeros, MINUS)
    yield vector(row, "a subnormal C counts as zero of its sign", MINUS, zeros, 0x807FFFFF)
    yield vector(row, "one +0", 0, {k: pair for k, pair in zeros.items() if k}, MINUS)
    yield vector(row, "a subnormal C", 0, {}, 0x007FFFFF)
    tiny = ("code", 1 << row.a.low_pad), two(row.b.emax)
    low = exponents(row.a)[0]
    yield vector(row, "a subnormal operand counts" + " as zero" * float32, 0 if float32 else code(row.d, two(low + row.b.emax)), {0: tiny})
    if row.a.name == "float8_e5m2":
        pair = {0: (two(-16), two(15)), 1: (two(-12), two(-11))}
        yield vector(row, "2**-16 claims the exponent -14: 24 bits below", code(row.d, two(-23)), pair, code(row.d, -two(-1)))
        yield vector(row, "and no less", 0, {**pair, 1: (two(-12), two(-12))}, code(row.d, -two(-1)))
    if row.a.frac_bits == 23:
        beside = 1 + two(-12)
        yield vector(row, "each product of digits of 12 bits is cut", code(row.d, 1), {**products(row, {0: 35}), 1: (beside, beside)}, code(row.d, -two(35)))
    if float32:
        yield vector(row, "a subnormal result is flushed", 0, products(row, {0: -127}))
        yield vector(row, "with its sign", MINUS, products(row, {0: -127}), 0x80800000)
        yield vector(row, "a tie below 2**-126 goes up, and stays", 0x00800000, products(row, {0: (-1, -150)}), 0x00800000)
        yield vector(row, "a hair less does not", 0, products(row, {0: (-1, -150), last: (-1, -170)}), 0x00800000)
        yield vector(row, "half a unit above the largest", INF, products(row, {0: 103}), 0x7F7FFFFF)
        yield vector(row, "products beyond the range of float32 cancel", code(row.d, 1), products(row, {0: 200, last: (-1, 200)}), code(row.d, 1))
