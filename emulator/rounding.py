"""Rounding modes and overflow policies: a name and a rule, one line each.

Every rounding in this package is one question: a magnitude lies `rest` units of 2**-shift above the integer `kept`;
does it go up to kept + 1? Sources: IEEE 754-2019 section 4.3 (rne rna rz rd ru); Boldo and Melquiond 2008,
doi 10.1109/TC.2007.70819 (ro, round to odd); IEEE P3109 interim report, StochasticA (sr).
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import BadOperand

__all__ = ["MODES", "OVERFLOWS", "check", "round_shift"]

# up?(negative, kept, rest, unit, random, random_bits): unit = 2**shift and 0 < rest < unit
_UP: dict[str, Callable[[bool, int, int, int, int, int], bool]] = {
    "rne": lambda negative, kept, rest, unit, *_: 2 * rest + (kept & 1) > unit,     # nearest, ties to even
    "rna": lambda negative, kept, rest, unit, *_: 2 * rest >= unit,                 # nearest, ties away from zero
    "rz": lambda *_: False,                                                         # toward zero
    "rd": lambda negative, *_: negative,                                            # toward minus infinity
    "ru": lambda negative, *_: not negative,                                        # toward plus infinity
    "ro": lambda negative, kept, *_: not kept & 1,                                  # inexact results become odd
    "sr": lambda negative, kept, rest, unit, random, bits: (rest << bits) // unit + random >= 1 << bits,
}
MODES = tuple(_UP)

OVERFLOWS = {
    "infinity": "the format's infinity; without one its NaN; without either its largest number",
    "saturate": "the largest finite number, also for an infinite input",
    "ieee": "infinity, but the largest number where the rounding direction points back (IEEE 754-2019, 7.4)",
    "error": "refuse",
}


def check(mode: str, overflow: str = "ieee") -> None:
    """Raise BadOperand unless `mode` is a rounding mode and `overflow` an overflow policy."""
    if mode not in _UP:
        raise BadOperand(f"rounding {mode!r} is not known; the modes are {' '.join(MODES)}")
    if overflow not in OVERFLOWS:
        raise BadOperand(f"overflow {overflow!r} is not known; the policies are {' '.join(OVERFLOWS)}")


def round_shift(negative: bool, sig: int, shift: int, mode: str, random: int = 0, random_bits: int = 0) -> int:
    """The magnitude `sig` * 2**-shift rounded to an integer; a negative shift is exact.

    `random` is a number of `random_bits` bits, read by mode sr alone (P(up) = floor(fraction * 2**bits) / 2**bits).
    """
    if shift <= 0:
        return sig << -shift
    kept, rest = sig >> shift, sig & ((1 << shift) - 1)
    return kept + (rest > 0 and _UP[mode](negative, kept, rest, 1 << shift, random, random_bits))
