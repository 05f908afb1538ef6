"""What a format can hold: numpy's finfo for every floating-point format, the fields people miss, tables of values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import numpy as np

from .arrays import carriers
from .convert import convert
from .errors import BadOperand
from .exact import Number, decode
from .formats import Float, Table, number_format

__all__ = ["FormatInfo", "finfo", "values"]

Value = float | Fraction


@dataclass(frozen=True)
class FormatInfo:
    """The limits of a format. Values are floats; Fractions where no float64 holds them.

    The first fields are numpy's finfo, by its definitions: eps and epsneg, the distances from 1 to its neighbours, are
    2**machep and 2**negep; minexp is the exponent of the smallest normal number, maxexp that of the first power of two
    beyond the largest; precision, the decimal digits that every number of the format keeps, is that of eps, resolution
    10**-precision. An unsigned format's min is its smallest number.
    """

    format: Float
    dtype: np.dtype                     # the type that carries it
    bits: int
    eps: Value
    epsneg: Value
    max: Value
    min: Value
    tiny: Value
    smallest_normal: Value
    smallest_subnormal: Value
    nmant: int
    nexp: int
    iexp: int
    machep: int
    negep: int
    minexp: int
    maxexp: int
    precision: int
    resolution: float
    bias: int
    signed: bool
    has_inf: bool
    has_nan: bool
    has_zero: bool
    has_negative_zero: bool
    has_subnormals: bool
    max_code: int
    inf_code: int | None
    nan_code: int | None                # the quiet one that the emulator makes by default
    nan_codes: int                      # how many codes are NaN, bits that the format ignores left out
    finite_values: int                  # how many numbers there are, both zeros counted as one
    largest_integer: int                # the largest up to which every whole number from 1 on is there; 0 if 1 is not
    round_trip_digits: int              # decimal digits that tell all its numbers apart
    binades: int                        # powers of two from the smallest number to the largest
    dynamic_range_db: float             # 20 log10 of the largest over the smallest

    def __str__(self) -> str:
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        lines = [f"{told.pop('format')}"]
        for name, value in told.items():
            if name.endswith("_code") and value is not None:
                value = f"{value:#x}"
            elif isinstance(value, float):
                value = f"{value:.10g}"
            lines.append(f"  {name:18} {value}")
        return "\n".join(lines)


def finfo(which: Any) -> FormatInfo:
    """The limits of a floating-point format: its name, alias, dtype, an array or scalar of its type, or a Float.

    Raises UnknownFormat, BadOperand for an integer format or a table.
    """
    if not isinstance(which, (str, Float, np.dtype, type)):
        which = getattr(which, "dtype", which)
    fmt = number_format(which)
    if not isinstance(fmt, Float):
        raise BadOperand(f"{fmt} is no floating-point format; finfo is about those")
    bare = fmt.specials == "exponent"
    frac, last = fmt.frac_bits, fmt.max_code >> fmt.low_pad
    smallest = Fraction(2) ** (fmt.emin - frac)
    normal = Fraction(2) ** fmt.emin
    largest = _fraction(decode(fmt, fmt.max_code))
    above, below = (max(step, fmt.emin - frac) if not bare else step for step in (-frac, -frac - 1))
    magnitudes = fmt.magnitude >> fmt.low_pad
    nans = (1 + fmt.signed) * (magnitudes - last - (fmt.inf_code is not None))
    return FormatInfo(
        format=fmt, dtype=carriers(fmt)[0], bits=fmt.bits, eps=2.0**above, epsneg=2.0**below, max=_value(largest),
        min=_value(-largest if fmt.signed else smallest if bare else Fraction(0)), tiny=_value(normal),
        smallest_normal=_value(normal), smallest_subnormal=_value(smallest), nmant=frac, nexp=fmt.exp_bits,
        iexp=fmt.exp_bits, machep=above, negep=below, minexp=fmt.emin, maxexp=fmt.emax + 1,
        precision=math.floor(frac * math.log10(2)), resolution=10.0 ** -math.floor(frac * math.log10(2)),
        bias=int(fmt.bias or 0), signed=fmt.signed, has_inf=fmt.inf_code is not None, has_nan=fmt.nan_code is not None,
        has_zero=not bare, has_negative_zero=fmt.has_negative_zero and not bare, has_subnormals=not bare and frac > 0,
        max_code=fmt.max_code, inf_code=fmt.inf_code, nan_code=fmt.nan_code,
        nan_codes=1 if fmt.specials == "fnuz" else nans, finite_values=(1 + fmt.signed) * (last + 1) - fmt.signed,
        largest_integer=min(2 << frac, math.floor(largest)) if smallest <= 1 <= largest else 0,
        round_trip_digits=math.ceil(1 + (frac + 1) * math.log10(2)), binades=fmt.emax - (fmt.emin - frac) + 1,
        dynamic_range_db=20 * (math.log10(largest.numerator * smallest.denominator)
                               - math.log10(largest.denominator * smallest.numerator)))


def values(which: Any) -> tuple[np.ndarray, np.ndarray]:
    """Every code of a format of at most 16 bits, ascending, and the float64 that it is. Raises BadOperand."""
    fmt = number_format(which)
    if fmt.bits > 16:
        raise BadOperand(f"{fmt} has {fmt.bits} bits; a table of values is for at most 16")
    codes = np.arange(len(fmt.values) if isinstance(fmt, Table) else 1 << fmt.bits).astype(fmt.code_dtype)
    return codes, convert(codes, "float64", source=fmt)


def _fraction(x: Number) -> Fraction:
    return (-1 if x.negative else 1) * x.sig * Fraction(2) ** x.exp


def _value(x: Fraction) -> Value:
    try:
        return float(x) if Fraction(float(x)) == x else x
    except OverflowError:
        return x
