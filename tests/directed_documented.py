"""Directed vectors for Arm's and IBM's rows, with results derived by hand from the vendors' pseudocode and IEEE 754-2019."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from directed import Vector, code, vector

from emulator.instructions import Instruction


def vectors(row: Instruction) -> Iterator[Vector]:
    yield from _common(row)
    yield from {"odd_pairs": _odd, "fused_pairs": _fused, "scaled_sum": _scaled, "arm_fma": _arm_fma,
                "power_pairs": _power, "power_fma": _power}[row.method](row)
    if row.method == "power_pairs":
        yield from _fused(row)


def half(row: Instruction, c: int) -> tuple[Fraction, int]:
    """Half a unit in the last place of the number that C's code is, and that code."""
    return Fraction(2) ** (((c & row.d.magnitude) >> row.d.frac_bits) - row.d.bias - row.d.frac_bits - 1), c


def split(row: Instruction, x: Fraction) -> tuple[Fraction, Fraction]:
    """Factors of a power of two: A takes what B cannot."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    in_b = max(min(e // 2, row.b.emax), row.b.emin - row.b.frac_bits)
    return Fraction(2) ** (e - in_b), Fraction(2) ** in_b


def _common(row: Instruction) -> Iterator[Vector]:
    one, minus, nan, inf = code(row.d, 1), row.d.sign, row.d.nan_code, row.d.inf_code
    zero_a = ("code", row.a.sign)
    yield vector(row, "nothing", 0)
    yield vector(row, "every k counts once", code(row.d, row.k + 1), {k: (1, 1) for k in range(row.k)}, one)
    yield vector(row, "C passes through", one + 5, {}, one + 5)
    yield vector(row, "C = -0 meets +0", 0, {}, minus)
    yield vector(row, "zeros that are all -0", minus, {k: (zero_a, 1) for k in range(row.k)}, minus)
    yield vector(row, "exact cancellation is +0", 0, {0: (1, -1)}, one)
    yield vector(row, "C infinite", inf | minus, {0: (1, 1)}, inf | minus)
    payload = row.method in ("arm_fma", "power_fma", "power_pairs")
    yield vector(row, "C a NaN", nan | (minus | 5 if payload else 0), {}, minus | inf | 5)
    for side, fmt in enumerate((row.a, row.b)):
        came = ("code", fmt.sign | (fmt.max_code + 1 if fmt.inf_code is None else fmt.inf_code + 1))
        want = nan | (minus | 1 << (row.d.frac_bits - fmt.frac_bits) if payload else 0)
        for k in (0, row.k - 1):
            yield vector(row, "a NaN operand", want, {k: (0, came) if side else (came, 0)})
        if fmt.inf_code is not None:
            big = ("code", fmt.inf_code)
            pair = {0: (1, big) if side else (big, 1)}
            yield vector(row, "Inf * 1", inf, pair, one)
            yield vector(row, "Inf - Inf", nan, pair, inf | minus)
            yield vector(row, "Inf * 0", nan, {0: (0, big) if side else (big, 0)}, one)


def _odd(row: Instruction) -> Iterator[Vector]:
    one, least, tiny = 0x3F800000, 2.0 ** -126, ("code", 1)
    yield vector(row, "a sum is rounded to odd", one + 1, {0: (2.0 ** -12, 2.0 ** -20)}, one)
    yield vector(row, "an odd one stays", one + 1, {0: (2.0 ** -12, 2.0 ** -12)}, one + 1)
    yield vector(row, "also below", one - 1, {0: (-2.0 ** -12, 2.0 ** -30)}, one)
    yield vector(row, "two products are rounded before C", one + 1, {0: (1, 1), 1: (2.0 ** -30, 1)})
    yield vector(row, "and then C: 1 + 2**-30 became 1 + 2**-23", 0x34000000, {0: (1, 1), 1: (2.0 ** -30, 1)}, one | 1 << 31)
    yield vector(row, "a subnormal C counts as zero", 0, {}, 0x007FFFFF)
    yield vector(row, "so does a subnormal operand", 0, {0: (tiny, 2.0 ** 127)})
    yield vector(row, "on either side", 0, {0: (2.0 ** 127, tiny)})
    yield vector(row, "a product below 2**-126 is flushed before rounding", 0, {0: (least, 1 - 2.0 ** -8)})
    yield vector(row, "with its sign", 1 << 31, {k: (-least, 0.5) for k in range(row.k)}, 1 << 31)
    yield vector(row, "so is a sum", 0, {0: (least, 1.5)}, 0x80800000)
    yield vector(row, "2**128 is infinite", 0x7F800000, {0: (2.0 ** 64, 2.0 ** 64)})
    yield vector(row, "what is less is not", 0x7F7FFFFF, {0: (2.0 ** 51, 2.0 ** 52)}, 0x7F7FFFFF)


def _fused(row: Instruction) -> Iterator[Vector]:
    one, big = 0x3F800000, 2.0 ** 12
    yield vector(row, "two products are rounded before C", one, {0: (1, 1), 1: (2.0 ** -12, 2.0 ** -12)}, 0x33800000)
    yield vector(row, "and added without error", 0x33800000, {0: (1 + 2.0 ** -7, 1), 1: (-1 - 2.0 ** -7, 1), **(
        {2: (2.0 ** -12, 2.0 ** -12)} if row.k > 2 else {})}, 0 if row.k > 2 else 0x33800000)
    yield vector(row, "to nearest, ties to even", 0x4B800000, {0: (big, big), 1: (1, 1)})
    yield vector(row, "three quarters go up", 0x4B800001, {0: (big, big), 1: (1.5, 1)})
    yield vector(row, "C comes after", 0, {0: (big, big), 1: (1, 1)}, 0xCB800000)
    yield vector(row, "a subnormal C stays", 1, {}, 1)
    yield vector(row, "half a unit above the largest", 0x7F7FFFFF, {0: (1, 1)}, 0x7F7FFFFF)
    if row.a.name == "bfloat16":
        yield vector(row, "subnormal results stay", 1, {0: (2.0 ** -75, 2.0 ** -74)})
        yield vector(row, "subnormal operands count", 0x00800000, {0: (("code", 1), 2.0 ** 7)})
        yield vector(row, "half a unit above the largest", 0x7F800000, {0: (2.0 ** 51, 2.0 ** 52)}, 0x7F7FFFFF)
    else:
        yield vector(row, "subnormal operands count", 0x33800000, {0: (("code", 1), 1)})


def _scaled(row: Instruction) -> Iterator[Vector]:
    h, c = half(row, code(row.d, 2.0 ** (row.d.frac_bits + 1)))        # h is 1
    yield vector(row, "a tie goes to even", c, {0: (h, 1)}, c)
    yield vector(row, "up", c + 2, {0: (h, 1)}, c + 1)
    yield vector(row, "one and a half of it go up", c + 1, {0: (1.5, h)}, c)
    if row.k > 1:
        yield vector(row, "products are added to C without error", c + 1, {0: (.75, 1), row.k - 1: (1, .75)}, c)
        yield vector(row, "whatever their order", c, {0: (8, 8), 1: (-8, 8)}, c)
    if row.block:
        yield vector(row, "the scale 2**-3", code(row.d, 1), {0: (4, 2)}, 0, {0: (124, 127)})
        yield vector(row, "is not C's", code(row.d, 1.5), {0: (4, 2)}, code(row.d, .5), {0: (124, 127)})
        yield vector(row, "the scale 2**-127", 0x00400000 if row.d.bits == 32 else 0, {0: (1, 1)}, 0, {0: (0, 127)})
    if row.d.name == "float16":
        yield vector(row, "65504 + 8", 0x7BFF, {0: (2, 4)}, 0x7BFF)
        yield vector(row, "65504 + 16 is infinite", 0x7C00, {0: (4, 4)}, 0x7BFF)
        yield vector(row, "a subnormal result stays", 1, {0: (2.0 ** -6, 2.0 ** -6)}, 0, {0: (115, 127)})
        yield vector(row, "half of it ties to zero", 0, {0: (2.0 ** -6, 2.0 ** -6)}, 0, {0: (114, 127)})
    else:
        yield vector(row, "a subnormal C stays", 1, {}, 1)
        yield vector(row, "half a unit above the largest", 0x7F7FFFFF, {0: (1, 1)}, 0x7F7FFFFF)
    if row.a == row.d:
        yield vector(row, "one rounding", code(row.d, -2.0 ** -46), {0: (1 + 2.0 ** -23, 1 - 2.0 ** -23)}, code(row.d, -1))
        yield vector(row, "half a unit above the largest", 0x7F800000, {0: (2.0 ** 51, 2.0 ** 52)}, 0x7F7FFFFF)
    else:
        least_a, least_b = ("code", 1), ("code", 1)
        size = row.a.frac_bits - row.a.emin + row.b.frac_bits - row.b.emin
        want = code(row.d, 2.0 ** -size) if row.d.name == "float32" or size <= 24 else 0       # 2**-25 ties to it
        yield vector(row, "subnormal operands count", want, {0: (least_a, least_b)})
        yield vector(row, "the least A", code(row.d, Fraction(2) ** (row.a.emin - row.a.frac_bits)), {0: (least_a, 1)})
        yield vector(row, "the least B", code(row.d, Fraction(2) ** (row.b.emin - row.b.frac_bits)), {0: (1, least_b)})


def _fma(row: Instruction) -> Iterator[Vector]:
    one = code(row.d, 1)
    unit = Fraction(2) ** (-row.d.frac_bits - 1)
    yield vector(row, "a tie goes to even", one, {0: split(row, unit)}, one)
    yield vector(row, "up", one + 2, {0: split(row, unit)}, one + 1)
    yield vector(row, "a subnormal C stays", 1, {}, 1)
    if row.a.bits > 16:
        yield vector(row, "one rounding", code(row.d, -unit * unit * 4), {0: (1 + 2 * unit, 1 - 2 * unit)}, code(row.d, -1))
    else:
        yield vector(row, "a subnormal result stays", 1, {0: (2.0 ** -75, 2.0 ** -74)})


def _arm_fma(row: Instruction) -> Iterator[Vector]:
    yield from _fma(row)
    quiet, signalling, other = ("code", 0x7FC1), ("code", 0xFF82), ("code", 0x7F83)
    yield vector(row, "a signalling NaN goes before a quiet C", 0xFFC20000, {0: (signalling, 1)}, 0x7FC00007)
    yield vector(row, "a signalling C before that", 0x7FC00007, {0: (signalling, 1)}, 0x7F800007)
    yield vector(row, "a quiet C before a quiet A", 0x7FC00007, {0: (quiet, 1)}, 0x7FC00007)
    yield vector(row, "A before B", 0xFFC20000, {0: (signalling, other)})
    yield vector(row, "a signalling B before a quiet A", 0x7FC30000, {0: (quiet, other)})
    yield vector(row, "Inf * 0 beside a quiet C is the default NaN", 0x7FC00000, {0: (("code", 0x7F80), 0)}, 0xFFC00007)
    yield vector(row, "beside a signalling one it is that", 0xFFC00007, {0: (("code", 0x7F80), 0)}, 0xFF800007)


def _power(row: Instruction) -> Iterator[Vector]:
    inf, c_nan = ("code", row.a.inf_code), row.d.inf_code | 7
    first, second = (("code", row.a.nan_code | n) for n in (1, 2))
    wide = [row.d.nan_code | n << (row.d.frac_bits - row.a.frac_bits) for n in (1, 2)]
    yield vector(row, "A's NaN before B's", wide[0], {0: (first, second)})
    yield vector(row, "and before C's", wide[0], {0: (first, 1)}, c_nan)
    if row.method == "power_fma":
        yield from _fma(row)
        yield vector(row, "C's before B's", row.d.nan_code | 7, {0: (1, first)}, c_nan)
        yield vector(row, "and beside Inf * 0", row.d.nan_code | 7, {0: (inf, 0)}, c_nan)
        return
    yield vector(row, "B's before C's", wide[0], {0: (1, first)}, c_nan)
    yield vector(row, "the even A before the odd B", wide[1], {0: (second, 1), 1: (1, first)})
    yield vector(row, "the odd A before the even B", wide[1], {0: (1, first), 1: (second, 1)})
    yield vector(row, "an invalid odd product before the even B", row.d.nan_code, {0: (1, first), 1: (inf, 0)})
    yield vector(row, "not before the even A", wide[0], {0: (first, 1), 1: (inf, 0)})
