"""Rounding modes and the policies of a conversion: a name and a rule, one line each.

Every rounding in this package is one question: a magnitude lies `rest` units of 2**-shift above the integer `kept`;
does it go up to kept + 1? Sources: IEEE 754-2019 section 4.3 (rne rna rz rd ru); Boldo and Melquiond 2008,
doi 10.1109/TC.2007.70819 (ro, round to odd); IEEE P3109 interim report v4.0, section 4.7.4, StochasticA, B and C (sr
srb src).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .errors import BadOperand

__all__ = ["MODES", "OVERFLOWS", "POLICIES", "STOCHASTIC", "Policy", "check", "round_shift"]

# up?(negative, kept, rest, unit, random, random_bits): unit = 2**shift and 0 < rest < unit
_UP: dict[str, Callable[[bool, int, int, int, int, int], bool]] = {
    "rne": lambda negative, kept, rest, unit, *_: 2 * rest + (kept & 1) > unit,     # nearest, ties to even
    "rna": lambda negative, kept, rest, unit, *_: 2 * rest >= unit,                 # nearest, ties away from zero
    "rz": lambda *_: False,                                                         # toward zero
    "rd": lambda negative, *_: negative,                                            # toward minus infinity
    "ru": lambda negative, *_: not negative,                                        # toward plus infinity
    "ro": lambda negative, kept, *_: not kept & 1,                                  # inexact results become odd
    "sr": lambda negative, kept, rest, unit, random, bits: (rest << bits) // unit + random >= 1 << bits,
    "srb": lambda negative, kept, rest, unit, random, bits: (rest << bits + 1) // unit + 2 * random + 1 >= 2 << bits,
    "src": lambda negative, kept, rest, unit, random, bits: _nearest(rest << bits, unit) + random >= 1 << bits,
}
MODES = tuple(_UP)
STOCHASTIC = ("sr", "srb", "src")       # the modes that read random bits; all the others are functions of the number

OVERFLOWS = {
    "infinity": "the format's infinity; without one its NaN; without either its largest number",
    "saturate": "the largest finite number, also for an infinite input",
    "ieee": "infinity, but the largest number where the rounding direction points back (IEEE 754-2019, 7.4)",
    "error": "refuse",
    "propagate": "the largest finite number, but an infinite input as under infinity (P3109: SatPropagate)",
}

# What the value alone does not decide, beside rounding and overflow: each choice of a Policy and its rule.
POLICIES: dict[str, dict[str, str]] = {
    "nan": {
        "error": "a format without NaN refuses one",
        "zero": "a format without NaN makes it +0",
        "max": "a format without NaN makes it the largest number (PTX cvt.satfinite, ONNX)",
        "flipped_zero": "a format without NaN makes it a zero of the other sign (ml_dtypes)",
        "high_bit": "an integer sets its highest bit alone (PTX cvt from or to 64 bits, x86); other formats refuse it",
    },
    "nan_code": {
        "quiet": "the NaN with only the first fraction bit set (IEEE 754-2019, 6.2.1)",
        "ones": "the NaN with all fraction bits set (NVIDIA's canonical NaN)",
    },
    "nan_sign": {"drop": "a NaN result is positive", "keep": "a NaN result has the sign of the NaN that came"},
    "negative": {
        "nan": "an unsigned format makes NaN of what is below zero",
        "abs": "an unsigned format drops the sign",
    },
    "zero": {
        "smallest": "a format without zero takes its smallest number instead",
        "nan": "a format without zero makes it NaN",
    },
}


@dataclass(frozen=True)
class Policy:
    """Every choice a conversion makes. The names are those of MODES, OVERFLOWS and POLICIES.

    random_bits: how many random bits a stochastic mode reads per element. ftz: a subnormal result becomes a zero of its
    sign, judged after rounding. daz: a subnormal input counts as a zero of its sign. Raises BadOperand.
    """

    rounding: str = "rne"
    overflow: str = "ieee"
    nan: str = "error"
    nan_code: str = "quiet"
    nan_sign: str = "drop"
    negative: str = "nan"
    zero: str = "smallest"
    ftz: bool = False
    daz: bool = False
    random_bits: int = 0

    def __post_init__(self) -> None:
        check(self.rounding, self.overflow)
        for field, choices in POLICIES.items():
            if getattr(self, field) not in choices:
                raise BadOperand(f"{field} {getattr(self, field)!r} is not known; the choices are {' '.join(choices)}")


def check(mode: str, overflow: str = "ieee") -> None:
    """Raise BadOperand unless `mode` is a rounding mode and `overflow` an overflow policy."""
    if mode not in _UP:
        raise BadOperand(f"rounding {mode!r} is not known; the modes are {' '.join(MODES)}")
    if overflow not in OVERFLOWS:
        raise BadOperand(f"overflow {overflow!r} is not known; the policies are {' '.join(OVERFLOWS)}")


def _nearest(numerator: int, unit: int) -> int:
    return round_shift(False, numerator, unit.bit_length() - 1, "rne")


def round_shift(negative: bool, sig: int, shift: int, mode: str, random: int = 0, random_bits: int = 0) -> int:
    """The magnitude `sig` * 2**-shift rounded to an integer; a negative shift is exact.

    `random` is a number of `random_bits` bits, read by the stochastic modes alone. With sr, P(up) is the fraction cut
    to that many bits; srb compares as if half a random bit more had come; src rounds the fraction to nearest instead.
    """
    if shift <= 0:
        return sig << -shift
    kept, rest = sig >> shift, sig & ((1 << shift) - 1)
    return kept + (rest > 0 and _UP[mode](negative, kept, rest, 1 << shift, random, random_bits))
