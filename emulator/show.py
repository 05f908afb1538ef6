"""Codes and numbers as text, and text as codes: hex beside value, the same everywhere a person reads or types one."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from .errors import BadOperand
from .exact import Number, decode, encode
from .formats import Float, Integer

__all__ = ["code", "describe", "number", "parse", "value"]

_TERM = re.compile(r"(?P<sign>[+-]?)(?:(?P<word>inf|nan)|2\^(?P<power>[+-]?\d{1,5})|"
                   r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,4})?)(?:\*2\^(?P<times>[+-]?\d{1,5}))?)")


def code(fmt: Float | Integer, bits: int) -> str:
    """`0x7e`: as many hex digits as the format has."""
    return f"{int(bits):#0{2 + -(-fmt.bits // 4)}x}"


def value(fmt: Float | Integer, bits: int) -> str:
    """`448.0`: the shortest decimal width that tells the codes of this format apart; integers and specials in words."""
    found = decode(fmt, int(bits))
    return number(found, 2 + (fmt.frac_bits + 1) * 30103 // 100000) if isinstance(fmt, Float) else str(_signed(found))


def describe(fmt: Float | Integer, bits: int) -> str:
    """`0x7e 448.0`."""
    return f"{code(fmt, bits)} {value(fmt, bits)}"


def number(x: Number, digits: int = 17) -> str:
    """A Number in decimal with at most `digits` digits where a double holds it, else as `sig*2^exp`."""
    if x.kind != "finite":
        return "-" * (x.negative and x.kind == "inf") + x.kind
    try:
        near = math.ldexp(_signed(x), x.exp)
    except OverflowError:
        near = math.inf
    if math.isinf(near) or Fraction(near) != _signed(x) * Fraction(2) ** x.exp:
        return f"{_signed(x)}*2^{x.exp}"
    text = f"{math.copysign(near, -1 if x.negative else 1):.{digits}g}"
    return text if re.search(r"[.en]", text) else text + ".0"


def parse(text: str, fmt: Float | Integer, name: str) -> int:
    """The code that `text` means: a code (`0x7e`) or a value the format holds exactly (`1.5`, `-2^-13`, `3*2^4`, `inf`).

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


def _fraction(found: re.Match) -> Fraction:
    """The exact value of a matched number."""
    size = Fraction(2) ** int(found["power"]) if found["power"] else Fraction(found["number"])
    return (-1 if found["sign"] == "-" else 1) * size * Fraction(2) ** int(found["times"] or 0)


def _same(x: Number, y: Number) -> bool:
    return x.kind == y.kind == "finite" and x.negative == y.negative and (
        x.sig * Fraction(2) ** x.exp == y.sig * Fraction(2) ** y.exp)


def _signed(x: Number) -> int:
    return -x.sig if x.negative else x.sig
