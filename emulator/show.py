"""Codes and numbers as text, and text as codes: hex beside value, the same everywhere a person reads or types one."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

from .errors import BadOperand
from .exact import Number, decode, encode
from .formats import Float, Format, Integer, Table

__all__ = ["code", "describe", "inspect", "number", "parse", "value"]

_TERM = re.compile(r"(?P<sign>[+-]?)(?:(?P<word>inf|nan)|2\^(?P<power>[+-]?\d{1,5})|"
                   r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,4})?)(?:\*2\^(?P<times>[+-]?\d{1,5}))?)")


def code(fmt: Format, bits: int) -> str:
    """`0x7e`: as many hex digits as the format has."""
    return f"{int(bits):#0{2 + -(-fmt.bits // 4)}x}"


def value(fmt: Format, bits: int) -> str:
    """`448.0`: nine digits, or as many as tell the codes of the format apart."""
    found = decode(fmt, int(bits))
    if isinstance(fmt, Integer):
        return str(_signed(found))
    if isinstance(fmt, Table):
        return number(found, 9)
    return number(found, max(9, 2 + (fmt.frac_bits + 1) * 30103 // 100000))


def describe(fmt: Format, bits: int) -> str:
    """`0x7e 448.0`."""
    return f"{code(fmt, bits)} {value(fmt, bits)}"


def number(x: Number, digits: int = 17) -> str:
    """A Number in decimal with at most `digits` digits; `~` marks what no double holds exactly."""
    if x.kind != "finite":
        return "-" * (x.negative and x.kind == "inf") + x.kind
    zeros = (x.sig & -x.sig).bit_length() - 1 if x.sig else 0
    sig, exp = _signed(x) >> zeros, x.exp + zeros
    try:
        near = math.ldexp(sig, exp)
    except OverflowError:
        near = math.inf
    if math.isinf(near) or (sig and not near):
        return f"~{Decimal(sig) * Decimal(2) ** exp:.{digits - 1}e}"
    text = f"{math.copysign(near, -1 if x.negative else 1):.{digits}g}"
    exactly = Fraction(near) == sig * Fraction(2) ** exp
    return "~" * (not exactly) + text + ".0" * (not re.search(r"[.en]", text))


def inspect(fmt: Format, bits: int) -> str:
    """What a code is: its fields, value, class and neighbours, a line each."""
    rows = _fields(fmt, bits) if isinstance(fmt, Float) else [("bits", f"{bits:0{fmt.bits}b}")]
    if isinstance(fmt, Table):
        rows.append(("value", f"number {bits} of {len(fmt.values)}: {number(decode(fmt, bits))}"))
    around = [(name, _neighbour(fmt, bits, step)) for name, step in (("below", -1), ("above", 1))]
    return "\n".join([f"{fmt} {describe(fmt, bits)}", *(f"  {name:8} {line}" for name, line in [*rows, *around])])


def _fields(fmt: Float, bits: int) -> list[tuple[str, str]]:
    found = decode(fmt, bits)
    magnitude = bits & fmt.magnitude
    field, frac = divmod(magnitude >> fmt.low_pad, 1 << fmt.frac_bits)
    hidden = int(field > 0 or fmt.specials == "exponent")
    rows = [("sign", str(int(bits & fmt.sign > 0)))] * fmt.signed
    rows.append(("exponent", f"{field:0{fmt.exp_bits}b}, {field} with bias {fmt.bias}"))
    rows += [("fraction", f"{frac:0{fmt.frac_bits}b}")] * (fmt.frac_bits > 0)
    for end, width, pad in (("low", fmt.low_pad, bits), ("high", fmt.high_pad, bits >> (fmt.bits - fmt.high_pad))):
        rows += [("ignored", f"{pad & ((1 << width) - 1):0{width}b}, the {end} {width}")] * (width > 0)
    if found.kind == "finite":
        fraction = f".{frac:0{fmt.frac_bits}b}" * (fmt.frac_bits > 0)
        rows.append(("value", f"{'-' * found.negative}{hidden}{fraction} * 2^{found.exp + fmt.frac_bits}"
                     f" = {_signed(found)} * 2^{found.exp} = {number(found)}"))
        words = "zero" if not found.sig else "normal" if hidden else "subnormal"
        words += ", the largest magnitude" * (magnitude == fmt.max_code)
    else:
        words = "infinity" if found.kind == "inf" else "NaN"
        words += ", the one that NVIDIA's matrix units return" * (bits == fmt.magnitude and fmt.specials == "ieee")
    return [*rows, ("class", words)]


def _neighbour(fmt: Format, bits: int, step: int) -> str:
    """The next number in value, up or down; both zeros are one number, and NaN has no neighbours."""
    found = decode(fmt, bits)
    if isinstance(fmt, Integer):
        other = _signed(found) + step
        return describe(fmt, other & ((1 << fmt.bits) - 1)) if fmt.min <= other <= fmt.max else "none"
    if isinstance(fmt, Table):
        return describe(fmt, bits + step) if 0 <= bits + step < len(fmt.values) else "none"
    if found.kind == "nan":
        return "none"
    magnitude = (bits & fmt.magnitude) >> fmt.low_pad
    rank = (-magnitude if bits & fmt.sign else magnitude) + step
    other = abs(rank) << fmt.low_pad | (fmt.sign if rank < 0 else 0)
    beyond = abs(rank) << fmt.low_pad > fmt.magnitude or (rank < 0 and not fmt.signed)
    return "none" if beyond or decode(fmt, other).kind == "nan" else describe(fmt, other)


def parse(text: str, fmt: Format, name: str) -> int:
    """The code that `text` means: a code (`0x7e`) or a value that the format holds (`1.5`, `-2^-13`, `3*2^4`, `inf`).

    Raises BadOperand, naming operand `name` and the neighbours of a value that is not exactly representable.
    """
    word = text.strip().lower()
    if re.fullmatch(r"0x[0-9a-f]+", word):
        bits = int(word, 16)
        if bits >> fmt.bits:
            raise BadOperand(f"{name}: {text} is wider than the {fmt.bits} bits of {fmt}")
        return bits
    found = _TERM.fullmatch(word)
    if not found:
        raise BadOperand(f"{name}: {text!r} is neither a code (0x7e) nor a value (1.5, -2^-13, 3*2^4, 1e-3, inf, nan)")
    negative = found["sign"] == "-"
    if isinstance(fmt, Integer):
        exactly = None if found["word"] else _fraction(found)
        if exactly is None or exactly.denominator != 1 or not fmt.min <= exactly <= fmt.max:
            raise BadOperand(f"{name}: {text} is not one of the {fmt} values {fmt.min}..{fmt.max}")
        return int(exactly) & ((1 << fmt.bits) - 1)
    if isinstance(fmt, Table):
        return _parse_of_table(text, fmt, name, found)
    if found["word"]:
        special = fmt.nan_code if found["word"] == "nan" else fmt.inf_code
        if special is None:
            raise BadOperand(f"{name}: {fmt} has no {found['word']}")
        return special | (fmt.sign if negative else 0)
    exactly = abs(_fraction(found))
    if negative and not (fmt.signed if exactly else fmt.has_negative_zero):
        raise BadOperand(f"{name}: {fmt} has no negative {'numbers' if exactly else 'zero'}, so not {text}")
    twos = (exactly.denominator & -exactly.denominator).bit_length() - 1
    if exactly.denominator == 1 << twos:
        wanted = Number(negative, exactly.numerator, -twos)
        bits = encode(fmt, wanted, "rz", "saturate")
        if _same(decode(fmt, bits), wanted):
            return bits
    fine = 4096                                     # 1/3 lies between the same neighbours as its first 4096 bits
    wanted = Number(negative, (exactly.numerator << fine) // exactly.denominator * 2 + 1, -fine - 1)
    near = sorted({encode(fmt, wanted, mode, "saturate") for mode in ("rd", "ru")}, reverse=negative)
    raise BadOperand(f"{name}: {text} is not a {fmt} value; nearest: {', '.join(describe(fmt, n) for n in near)}. "
                     "Round it first, or give a code")


def _parse_of_table(text: str, fmt: Table, name: str, found: re.Match) -> int:
    """A number of the table, in decimal with as many digits as tell float32 numbers apart."""
    wanted = math.inf if found["word"] else float(_fraction(found))
    near = sorted(range(len(fmt.values)), key=lambda i: abs(fmt.values[i] - wanted))
    if f"{fmt.values[near[0]]:.8e}" != f"{wanted:.8e}":
        raise BadOperand(f"{name}: {text} is not a {fmt} value; nearest: "
                         f"{', '.join(describe(fmt, i) for i in sorted(near[:2]))}. Round it first, or give a code")
    return near[0]


def _fraction(found: re.Match) -> Fraction:
    """The exact value of a matched number."""
    size = Fraction(2) ** int(found["power"]) if found["power"] else Fraction(found["number"])
    return (-1 if found["sign"] == "-" else 1) * size * Fraction(2) ** int(found["times"] or 0)


def _same(x: Number, y: Number) -> bool:
    return x.kind == y.kind == "finite" and x.negative == y.negative and (
        x.sig * Fraction(2) ** x.exp == y.sig * Fraction(2) ** y.exp)


def _signed(x: Number) -> int:
    return -x.sig if x.negative else x.sig
