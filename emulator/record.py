"""A row as plain integers: the structs of csrc/emulator.h and the arrays that the Numba engine reads.

Every field is an int32. Names of methods, rounding modes and special policies become their position in exact.METHODS,
rounding.MODES and formats.SPECIALS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .errors import BadOperand
from .exact import METHODS, Number, settle
from .formats import SPECIALS, Float, Integer
from .instructions import Instruction
from .rounding import MODES, Policy

__all__ = ["COUNTS", "FIELDS", "FORMAT_FIELDS", "Conversion", "conversion", "format_record", "record"]

FORMAT_FIELDS = ("is_float", "bits", "is_signed", "exp_bits", "frac_bits", "bias", "specials", "low_pad")
_OPERANDS = ("a", "b", "c", "d", "scale")
FIELDS = ("method", "k", "terms", "frac", "floor", "precision", "rounding", "saturate", "block",
          *(f"{operand}_{field}" for operand in _OPERANDS for field in FORMAT_FIELDS))


def format_record(fmt: Float | Integer | None) -> tuple[int, ...]:
    if fmt is None:
        return (0,) * len(FORMAT_FIELDS)
    if isinstance(fmt, Integer):
        return (0, fmt.bits, fmt.signed, 0, 0, 0, 0, 0)
    return (1, fmt.bits, fmt.signed, fmt.exp_bits, fmt.frac_bits, fmt.bias, list(SPECIALS).index(fmt.specials),  # type: ignore[return-value]
            fmt.low_pad)


def record(ins: Instruction) -> np.ndarray:
    """The row as int32 values in the order of FIELDS."""
    row = [list(METHODS).index(ins.method), ins.k, ins.terms, (ins.adder.frac or 0) if ins.adder else 0, ins.floor,
           ins.precision or 0, MODES.index(ins.rounding), ins.saturate, ins.block]
    for operand in _OPERANDS:
        row.extend(format_record(getattr(ins, operand)))
    return np.array(row, np.int32)


# What an engine counts: finite numbers beyond the range and infinities that came, each by sign, NaNs that came, and
# numbers that became zero; emu_convert counts in the same order.
COUNTS = ("over", "over_negative", "infinite", "infinite_negative", "nan", "flushed")
_Codes = tuple["int | None", "int | None"]


@dataclass(frozen=True, eq=False)       # one object for each, found quickly by caches
class Conversion:
    """A conversion and what its policy makes of special numbers: pairs of codes, the second for a minus sign.

    nan, infinity: what came as such. over: a number beyond the largest or, without a sign, below zero. None: refused.
    """

    source: Float | Integer
    target: Float
    policy: Policy
    nan: _Codes
    infinity: _Codes
    over: _Codes
    zero: _Codes


@lru_cache(256)
def conversion(source: Float | Integer, target: Float, policy: Policy) -> Conversion:
    """The Conversion between two formats, its special codes as `exact.settle` rules them."""
    def code(number: Number) -> int | None:
        try:
            return settle(target, number, policy)
        except BadOperand:
            return None

    def codes(sig: int, exp: int, kind: str) -> _Codes:
        return code(Number(False, sig, exp, kind)), code(Number(True, sig, exp, kind))

    return Conversion(source, target, policy, codes(0, 0, "nan"), codes(0, 0, "inf"),
                      codes(1, target.emax + 1, "finite"), codes(0, 0, "finite"))
