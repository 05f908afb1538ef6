"""Every number format, one row each. A row answers one question: which number is this code?

Names are those of ml_dtypes; PTX and OCP spellings are aliases. Sources: IEEE 754-2019 (float64, float32, float16);
OCP 8-bit Floating Point Specification 1.0 (e5m2, e4m3fn); OCP Microscaling Formats 1.0 (e3m2, e2m3, e2m1, e8m0);
Noune et al. 2022, arXiv 2206.02915 (fnuz); NVIDIA PTX ISA, section 5.2.3 "alternate floating-point data formats"
(tf32, ue4m3); ml_dtypes (e4m3, e3m4, e4m3b11fnuz); Dettmers et al. 2023, "QLoRA", arXiv 2305.14314, appendix E (nf4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property

import numpy as np

from .errors import UnknownFormat

__all__ = ["ALIASES", "FORMATS", "SPECIALS", "Float", "Format", "Integer", "Table", "number_format"]

SPECIALS = {
    "ieee": "all-ones exponent: infinity where the fraction is zero, else NaN",
    "fn": "all ones is NaN, no infinity",
    "fnuz": "the code of minus zero is NaN, no infinity, one zero",
    "finite": "no infinity, no NaN",
    "exponent": "a bare exponent: no zero, no subnormals, all ones is NaN",
}


@dataclass(frozen=True)
class Float:
    """A binary floating-point format: sign, exponent and fraction fields, and a policy for special codes.

    name: canonical name. exp_bits, frac_bits: field widths. bias: 2**(exp_bits-1) - 1 unless given. specials: a key of
    SPECIALS. signed: whether there is a sign bit. low_pad, high_pad: container bits below and above the number that
    the hardware ignores (TF32 travels in a 32-bit register, UE4M3 in a byte).
    Raises UnknownFormat for a description that is no format.
    """

    name: str
    exp_bits: int
    frac_bits: int
    bias: int | None = None
    specials: str = "ieee"
    signed: bool = True
    low_pad: int = 0
    high_pad: int = 0

    def __post_init__(self) -> None:
        if self.specials not in SPECIALS:
            raise UnknownFormat(f"{self.name}: specials {self.specials!r} is not one of {', '.join(SPECIALS)}")
        least = {"ieee": (2, 1), "exponent": (2, 0)}.get(self.specials, (1, 0))
        if self.exp_bits < least[0] or self.frac_bits < least[1] or min(self.low_pad, self.high_pad) < 0:
            raise UnknownFormat(f"{self.name}: exp_bits={self.exp_bits}, frac_bits={self.frac_bits} is too narrow for "
                                f"{self.specials!r} specials, which need at least {least[0]} and {least[1]}")
        if self.specials == "exponent" and (self.frac_bits or self.signed):
            raise UnknownFormat(f"{self.name}: a bare exponent has no fraction and no sign")
        if self.specials == "fnuz" and not self.signed:
            raise UnknownFormat(f"{self.name}: fnuz puts NaN at minus zero, so it needs a sign")
        if self.specials == "fn" and self.exp_bits + self.frac_bits < 2:
            raise UnknownFormat(f"{self.name}: with one bit and one NaN nothing is left but zero")
        if self.bias is None:
            object.__setattr__(self, "bias", (1 << (self.exp_bits - 1)) - 1)

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:          # of many keys of caches; equal formats have one name
        return hash(self.name)

    @cached_property
    def bits(self) -> int:
        """Width of the container in bits."""
        return self.high_pad + self.signed + self.exp_bits + self.frac_bits + self.low_pad

    @cached_property
    def magnitude(self) -> int:
        """Mask of the exponent and fraction fields, in place."""
        return ((1 << (self.exp_bits + self.frac_bits)) - 1) << self.low_pad

    @cached_property
    def sign(self) -> int:
        """Mask of the sign bit, in place; 0 for an unsigned format."""
        return self.signed << (self.exp_bits + self.frac_bits + self.low_pad)

    @cached_property
    def emin(self) -> int:
        """Exponent of the smallest normal number."""
        return (0 if self.specials == "exponent" else 1) - self.bias  # type: ignore[operator]

    @cached_property
    def emax(self) -> int:
        """Exponent of the largest finite number."""
        field = self.max_code >> (self.low_pad + self.frac_bits)
        return max(field - self.bias, self.emin)  # type: ignore[operator]

    @cached_property
    def max_code(self) -> int:
        """Code of the largest finite number."""
        ones = self.magnitude >> self.low_pad
        below = {"ieee": 1 << self.frac_bits, "fn": 1, "exponent": 1}.get(self.specials, 0)
        return (ones - below) << self.low_pad

    @cached_property
    def inf_code(self) -> int | None:
        """Code of plus infinity, or None."""
        return self.max_code + (1 << self.low_pad) if self.specials == "ieee" else None

    @cached_property
    def nan_code(self) -> int | None:
        """Code of the quiet NaN with a clear sign and no payload, or None."""
        quiet = {"ieee": self.max_code + ((1 + (1 << self.frac_bits >> 1)) << self.low_pad),
                 "fn": self.magnitude, "exponent": self.magnitude, "fnuz": self.sign}
        return quiet.get(self.specials)

    @cached_property
    def all_ones_nan(self) -> int | None:
        """Code of the NaN whose exponent and fraction are all ones, or None; NVIDIA's canonical NaN."""
        return self.magnitude if self.specials in ("ieee", "fn", "exponent") else self.nan_code

    @cached_property
    def has_negative_zero(self) -> bool:
        return self.signed and self.specials != "fnuz"

    @cached_property
    def code_dtype(self) -> np.dtype:
        """The unsigned numpy type that holds a code."""
        return _code_dtype(self.bits)


@dataclass(frozen=True)
class Integer:
    """A two's complement (signed) or plain binary (unsigned) integer of `bits` bits."""

    name: str
    bits: int
    signed: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    @cached_property
    def code_dtype(self) -> np.dtype:
        """The unsigned numpy type that holds a code."""
        return _code_dtype(self.bits)


@dataclass(frozen=True)
class Table:
    """A list of numbers in ascending order; the code of each is its place. NF4, Lloyd-Max levels, binary.

    A number becomes the nearest of them, the smaller of two as near; beyond the ends, the end. values: what float32
    holds, rounded to that if need be, from 2 to 65536 of them. Raises UnknownFormat for others, and where the middle
    between neighbours is no float64 with 52 bits.
    """

    name: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(np.array(self.values, np.float32).tolist())
        if not 2 <= len(values) <= 1 << 16 or not all(map(math.isfinite, values)):
            raise UnknownFormat(f"{self.name}: a table has 2 to 65536 finite numbers; these are {len(values)}")
        for x, y in zip(values, values[1:]):
            if not x < y:
                raise UnknownFormat(f"{self.name}: numbers of a table ascend; {y} comes after {x}")
            middle = (x + y) / 2
            if Fraction(middle) * 2 != Fraction(x) + Fraction(y) or np.float64(middle).view(np.uint64) & 1:
                raise UnknownFormat(f"{self.name}: the middle between {x} and {y} has more than 52 bits")
        object.__setattr__(self, "values", values)

    def __str__(self) -> str:
        return self.name

    @property
    def bits(self) -> int:
        return (len(self.values) - 1).bit_length()

    @cached_property
    def code_dtype(self) -> np.dtype:
        """The unsigned numpy type that holds a code."""
        return _code_dtype(self.bits)


Format = Float | Integer | Table


@cache
def _code_dtype(bits: int) -> np.dtype:
    if bits > 64:
        raise UnknownFormat(f"{bits}-bit codes do not fit numpy's integers; emulator.exact takes Python integers")
    return np.dtype(f"u{max(1, 1 << (bits - 1).bit_length() >> 3)}")


_ROWS: list[Format] = [
    Float("float64", 11, 52),
    Float("float32", 8, 23),
    Float("tfloat32", 8, 10, low_pad=13),
    Float("bfloat16", 8, 7),
    Float("float16", 5, 10),
    Float("float8_e5m2", 5, 2),
    Float("float8_e5m2fnuz", 5, 2, bias=16, specials="fnuz"),
    Float("float8_e4m3", 4, 3),
    Float("float8_e4m3fn", 4, 3, specials="fn"),
    Float("float8_e4m3fnuz", 4, 3, bias=8, specials="fnuz"),
    Float("float8_e4m3b11fnuz", 4, 3, bias=11, specials="fnuz"),
    Float("float8_e3m4", 3, 4),
    Float("float8_e8m0fnu", 8, 0, specials="exponent", signed=False),
    Float("float8_ue4m3", 4, 3, specials="fn", signed=False, high_pad=1),
    Float("float6_e3m2fn", 3, 2, specials="finite"),
    Float("float6_e2m3fn", 2, 3, specials="finite"),
    Float("float4_e2m1fn", 2, 1, specials="finite"),
    *(Integer(f"{'' if signed else 'u'}int{bits}", bits, bool(signed))
      for bits in (64, 32, 16, 8, 4, 2, 1) for signed in (1, 0)),
    Table("nf4", (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
                  -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
                  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
                  0.7229568362236023, 1.0)),
]
FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}

ALIASES = {
    # PTX
    "f64": "float64", "f32": "float32", "tf32": "tfloat32", "bf16": "bfloat16", "f16": "float16",
    "e5m2": "float8_e5m2", "e4m3": "float8_e4m3fn", "e3m2": "float6_e3m2fn", "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn", "ue8m0": "float8_e8m0fnu", "ue4m3": "float8_ue4m3",
    "s32": "int32", "s8": "int8", "u8": "uint8", "s4": "int4", "u4": "uint4", "b1": "uint1",
    # OCP and everyday spellings
    "fp64": "float64", "double": "float64", "fp32": "float32", "float": "float32", "single": "float32",
    "fp16": "float16", "half": "float16", "e8m0": "float8_e8m0fnu", "fp8_e5m2": "float8_e5m2",
    "fp8_e4m3": "float8_e4m3fn", "fp6_e3m2": "float6_e3m2fn", "fp6_e2m3": "float6_e2m3fn", "fp4": "float4_e2m1fn",
    "fp4_e2m1": "float4_e2m1fn", "e4m3fn": "float8_e4m3fn", "e4m3fnuz": "float8_e4m3fnuz",
    "e5m2fnuz": "float8_e5m2fnuz", "e3m4": "float8_e3m4", "e4m3b11fnuz": "float8_e4m3b11fnuz",
    "e2m1fn": "float4_e2m1fn", "e3m2fn": "float6_e3m2fn", "e2m3fn": "float6_e2m3fn", "e8m0fnu": "float8_e8m0fnu",
}


def number_format(which: str | Format | np.dtype | type) -> Format:
    """The format of that name, alias (upper or lower case) or numpy / ml_dtypes dtype; a format is returned as it is.

    Raises UnknownFormat, naming the known ones.
    """
    if isinstance(which, Format):
        return which
    return (_known if isinstance(which, (str, np.dtype, type)) else _known.__wrapped__)(which)


@cache
def _known(which: str | np.dtype | type) -> Format:
    name: str = which if isinstance(which, str) else getattr(which, "name", None) or str(getattr(which, "__name__", ""))
    row = FORMATS.get(name) or FORMATS.get(ALIASES.get(name.lower(), name.lower()))
    if row is None:
        raise UnknownFormat(f"{which!r} is not a number format; the formats are {', '.join(FORMATS)} "
                            "(aliases: emulator formats). Make your own with emulator.Float(name, exp_bits, frac_bits)")
    return row
