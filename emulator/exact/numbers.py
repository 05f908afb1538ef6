"""Codes, the numbers that they are, and one rounding back: IEEE 754-2019 for any format, in Python integers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import isqrt
from typing import NamedTuple

from ..errors import BadOperand
from ..formats import Float, Format, Integer, Table
from ..rounding import Policy, check, round_shift

__all__ = ["NAN", "ONE", "ZERO", "Number", "add", "convert", "decode", "divide", "encode", "fma", "multiply", "settle",
           "square_root"]


class Number(NamedTuple):
    """(-1)**negative * sig * 2**exp, or an infinity, or NaN. `sig` is never normalised: exp is the weight of its last
    bit, so exp + frac_bits is the exponent the hardware sees, also for a subnormal. That of a NaN which was decoded is
    its fraction field."""

    negative: bool
    sig: int
    exp: int
    kind: str = "finite"     # or "inf" or "nan"


NAN = Number(False, 0, 0, "nan")
ZERO = Number(False, 0, 0)
ONE = Number(False, 1, 0)


# --- codes and numbers -----------------------------------------------------------------------------------------------

def decode(fmt: Format, code: int) -> Number:
    """The number that `code` is in `fmt` (IEEE 754-2019, section 3.4; specials by the format's policy).

    Pad bits are ignored. Raises BadOperand if the code is wider than the format.
    """
    if not 0 <= code < (len(fmt.values) if isinstance(fmt, Table) else 1 << fmt.bits):
        raise BadOperand(f"{code:#x} is not a {fmt.bits}-bit code of {fmt}")
    if isinstance(fmt, Table):
        numerator, denominator = fmt.values[code].as_integer_ratio()
        return Number(numerator < 0, abs(numerator), 1 - denominator.bit_length())
    if isinstance(fmt, Integer):
        value = code - (1 << fmt.bits) if fmt.signed and code >> (fmt.bits - 1) else code
        return Number(value < 0, abs(value), 0)
    negative, magnitude = bool(code & fmt.sign), code & fmt.magnitude
    if fmt.specials == "fnuz" and negative and not magnitude:
        return NAN._replace(negative=True)
    field, frac = divmod(magnitude >> fmt.low_pad, 1 << fmt.frac_bits)
    if magnitude > fmt.max_code:
        return Number(negative, 0, 0, "inf") if magnitude == fmt.inf_code else Number(negative, frac, 0, "nan")
    if fmt.specials == "exponent":
        return Number(negative, 1, field + fmt.emin)
    hidden = (field > 0) << fmt.frac_bits
    return Number(negative, hidden + frac, fmt.emin + max(field, 1) - 1 - fmt.frac_bits)


def encode(fmt: Float, number: Number, rounding: str = "rne", overflow: str = "ieee", *, precision: int | None = None,
           nan: str = "error", random: int = 0, random_bits: int = 0) -> int:
    """The code of `number` rounded once to `fmt`.

    rounding: a mode of rounding.MODES; the stochastic ones read `random`, a number of `random_bits` bits. overflow: a
    policy of rounding.OVERFLOWS, applied after rounding with an unbounded exponent. precision: fraction bits kept, if
    fewer than the format has. nan: what a format without NaN does with one: error, zero or max.
    It is the code that is rounded, as the integer that it is: so ties go to an even code and ro makes an odd one, which
    for a format of one significant bit (E8M0) means the exponent (P3109 interim report v4.0, "code parity").
    A format without zero takes its smallest number instead; an unsigned one makes NaN of what is below zero.
    Raises BadOperand.
    """
    check(rounding, overflow)
    if number.kind == "nan" or (number.negative and not fmt.signed and (number.sig or number.kind == "inf")):
        return _encode_nan(fmt, nan)
    if number.kind == "inf":
        magnitude = fmt.magnitude + 1
    else:
        kept = fmt.frac_bits if precision is None else min(precision, fmt.frac_bits)
        exponent = max(number.sig.bit_length() - 1 + number.exp, fmt.emin) if number.sig else fmt.emin
        cut = exponent - kept - number.exp                      # bits of sig below the last one kept
        below = max(cut, 0)
        hidden = fmt.specials == "exponent"                     # code 0 is already a normal number
        code = ((exponent - fmt.emin - hidden) << (kept + below)) + (number.sig << (below - cut))
        code = round_shift(number.negative, code, below, rounding, random, random_bits)
        magnitude = max(code, 0) << (fmt.frac_bits - kept + fmt.low_pad)
    sign = fmt.sign if number.negative and (magnitude or fmt.has_negative_zero) else 0
    if magnitude <= fmt.max_code:
        return sign | magnitude
    infinite = number.kind == "inf"
    toward_zero = rounding == "rz" or rounding == ("ru" if number.negative else "rd") or rounding == "ro"
    if overflow == "error" and not (infinite and fmt.inf_code is not None):
        what = "an infinity" if infinite else f"{'-' * number.negative}{number.sig} * 2**{number.exp}"
        raise BadOperand(f"{what} overflows {fmt}, whose largest number is code {fmt.max_code:#x}; choose "
                         "overflow='saturate' or 'infinity'")
    stays = {"saturate": True, "propagate": not infinite, "ieee": toward_zero and not infinite}
    if stays.get(overflow, False):
        return sign | fmt.max_code
    if fmt.inf_code is not None:
        return sign | fmt.inf_code
    if fmt.nan_code is not None:
        return fmt.nan_code if fmt.specials == "fnuz" else sign | fmt.nan_code
    return sign | fmt.max_code


def _encode_nan(fmt: Float, policy: str) -> int:
    if fmt.nan_code is not None:
        return fmt.nan_code
    if policy not in ("zero", "max"):
        raise BadOperand(f"{fmt} has no NaN; choose nan='zero' or nan='max'")
    return 0 if policy == "zero" else fmt.max_code


def settle(fmt: Format, number: Number, policy: Policy, random: int = 0) -> int:
    """The code of `number` in `fmt` under every choice of `policy` but daz, which is `convert`'s. Raises BadOperand.

    In an integer format overflow "error" refuses what is beyond its range, every other saturates; of NaN `nan` makes 0,
    the largest, or the highest bit. A table gives its nearest number, the smaller of two as near, and is else like an
    integer.
    """
    if not isinstance(fmt, Float):
        return _settle_integer(fmt, number, policy, random)
    if not fmt.signed and policy.negative == "abs":
        number = number._replace(negative=False)
    code = fmt.all_ones_nan if policy.nan_code == "ones" else fmt.nan_code
    if number.kind == "nan" and code is not None:
        return code | (fmt.sign if number.negative and policy.nan_sign == "keep" else 0)
    if number.kind == "nan" and policy.nan == "flipped_zero":
        return 0 if number.negative else fmt.sign
    has_zero = fmt.specials != "exponent"
    if not has_zero and policy.zero == "nan" and number.kind == "finite" and not number.sig:
        return fmt.nan_code
    nan = "zero" if policy.nan == "flipped_zero" else policy.nan
    code = encode(fmt, number, policy.rounding, policy.overflow, nan=nan, random=random, random_bits=policy.random_bits)
    if policy.ftz and has_zero and 0 < code & fmt.magnitude < 1 << (fmt.frac_bits + fmt.low_pad):
        return code & fmt.sign if fmt.has_negative_zero else 0
    return code


def _settle_integer(fmt: Integer | Table, number: Number, policy: Policy, random: int) -> int:
    low, high = (fmt.min, fmt.max) if isinstance(fmt, Integer) else (0, len(fmt.values) - 1)
    if number.kind == "nan":
        if policy.nan == "high_bit" and isinstance(fmt, Integer):
            return 1 << fmt.bits - 1
        if policy.nan in ("error", "high_bit"):
            raise BadOperand(f"{fmt} has no NaN; choose nan='zero' or nan='max'")
        number = ZERO if policy.nan != "max" else Number(False, 0, 0, "inf")
        policy = replace(policy, overflow="saturate")
    sign = -1 if number.negative else 1
    if number.kind == "inf":
        found, beyond = (low, high)[sign > 0], True
    elif isinstance(fmt, Integer):
        found = sign * round_shift(number.negative, number.sig, -number.exp, policy.rounding, random,
                                   policy.random_bits)
        beyond = not low <= found <= high
    else:
        exactly = sign * number.sig * Fraction(2) ** number.exp
        found = sum(exactly > (Fraction(x) + Fraction(y)) / 2 for x, y in zip(fmt.values, fmt.values[1:]))
        beyond = not fmt.values[0] <= exactly <= fmt.values[-1]
    if beyond and policy.overflow == "error":
        what = "an infinity" if number.kind == "inf" else f"{'-' * number.negative}{number.sig} * 2**{number.exp}"
        raise BadOperand(f"{what} overflows {fmt}; choose overflow='saturate'")
    return min(max(found, low), high) & ((1 << fmt.bits) - 1)


def convert(source: Format, target: Format, code: int, policy: Policy, random: int = 0) -> int:
    """The code in `target` of the number that `code` is in `source`. Raises BadOperand where the policy refuses it."""
    number = decode(source, code)
    if policy.daz and isinstance(source, Float) and source.specials != "exponent" and number.kind == "finite":
        if number.sig >> source.frac_bits == 0:
            number = number._replace(sig=0)
    return settle(target, number, policy, random)


# --- exact arithmetic and the IEEE operations ------------------------------------------------------------------------

def multiply(x: Number, y: Number) -> Number:
    """The exact product; NaN for infinity times zero."""
    negative = x.negative != y.negative
    if "nan" in (x.kind, y.kind):
        return NAN
    if "inf" in (x.kind, y.kind):
        zero = (x.kind == "finite" and not x.sig) or (y.kind == "finite" and not y.sig)
        return NAN if zero else Number(negative, 0, 0, "inf")
    return Number(negative, x.sig * y.sig, x.exp + y.exp)


def divide(x: Number, y: Number, bits: int) -> Number:
    """The quotient, exact or rounded to odd with more than `bits` bits; infinite for a number divided by zero."""
    negative = x.negative != y.negative
    if "nan" in (x.kind, y.kind) or x.kind == y.kind == "inf":
        return NAN
    if x.kind == "inf" or y.kind == "inf":
        return Number(negative, 0, 0, x.kind)
    if not y.sig:
        return Number(negative, 0, 0, "inf") if x.sig else NAN
    shift = max(0, bits + y.sig.bit_length() - x.sig.bit_length())
    quotient, rest = divmod(x.sig << shift, y.sig)
    return Number(negative, 2 * quotient + (rest > 0), x.exp - y.exp - shift - 1)


def square_root(x: Number, bits: int) -> Number:
    """The square root, exact or rounded to odd with more than `bits` bits; that of -0 is -0, below it NaN."""
    if x.kind == "nan" or (x.negative and (x.sig or x.kind == "inf")):
        return NAN
    if x.kind == "inf" or not x.sig:
        return x
    shift = max(0, 2 * bits - x.sig.bit_length())
    shift += (x.exp - shift) % 2
    root = isqrt(x.sig << shift)
    return Number(False, 2 * root + (root * root != x.sig << shift), (x.exp - shift) // 2 - 1)


def add(*numbers: Number, rounding: str = "rne") -> Number:
    """The exact sum; NaN for infinities of both signs. An exact zero is +0 unless every number is a negative zero; for
    rounding rd it is -0 if any is negative (IEEE 754-2019, section 6.3)."""
    kinds = {(n.kind, n.negative) for n in numbers if n.kind != "finite"}
    if any(kind == "nan" for kind, _ in kinds) or len(kinds) > 1:
        return NAN
    if kinds:
        return Number(kinds.pop()[1], 0, 0, "inf")
    unit = min(n.exp for n in numbers)
    total = sum((-n.sig if n.negative else n.sig) << (n.exp - unit) for n in numbers)
    negative = total < 0 or (total == 0 and (any if rounding == "rd" else all)(n.negative for n in numbers))
    return Number(negative, abs(total), unit)


def fma(fmt: Float, x: Number, y: Number, z: Number, rounding: str = "rne") -> Number:
    """x * y + z rounded once to `fmt` (IEEE 754-2019, section 5.4.1), subnormals kept."""
    total = add(multiply(x, y), z, rounding=rounding)
    if total.kind == "nan":
        return NAN
    return decode(fmt, encode(fmt, total, rounding))
