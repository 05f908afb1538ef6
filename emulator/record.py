"""A row as plain integers: the struct `emu_row` of csrc/emulator.h and the array that the Numba engine reads.

Every field is an int32. Names of methods, rounding modes and special policies become their position in exact.METHODS,
rounding.MODES and formats.SPECIALS.
"""

from __future__ import annotations

import numpy as np

from .exact import METHODS
from .formats import SPECIALS, Float, Integer
from .instructions import Instruction
from .rounding import MODES

__all__ = ["FIELDS", "FORMAT_FIELDS", "record"]

FORMAT_FIELDS = ("is_float", "bits", "is_signed", "exp_bits", "frac_bits", "bias", "specials", "low_pad")
_OPERANDS = ("a", "b", "c", "d", "scale")
FIELDS = ("method", "k", "terms", "frac", "floor", "precision", "rounding", "saturate", "block",
          *(f"{operand}_{field}" for operand in _OPERANDS for field in FORMAT_FIELDS))


def _format(fmt: Float | Integer | None) -> tuple[int, ...]:
    if fmt is None:
        return (0,) * len(FORMAT_FIELDS)
    if isinstance(fmt, Integer):
        return (0, fmt.bits, fmt.signed, 0, 0, 0, 0, 0)
    return (1, fmt.bits, fmt.signed, fmt.exp_bits, fmt.frac_bits, fmt.bias, list(SPECIALS).index(fmt.specials),  # type: ignore[return-value]
            fmt.low_pad)


def record(ins: Instruction) -> np.ndarray:
    """The row as int32 values in the order of FIELDS."""
    row = [list(METHODS).index(ins.method), ins.k, ins.terms, ins.adder.frac if ins.adder else 0, ins.floor,
           ins.precision or 0, MODES.index(ins.rounding), ins.saturate, ins.block]
    for operand in _OPERANDS:
        row.extend(_format(getattr(ins, operand)))
    return np.array(row, np.int32)
