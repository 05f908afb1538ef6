"""The Numba engine's conversion: a number taken apart, the rest compared with one half, and put together again.

It shares no step with csrc/convert*: there a bias is added to the source's own bits and a carry decides, here the
significand is divided into what is kept and a rest, and the rest is compared. All is uint64 (bits) and int64
(exponents), the two never mixed: together they would make a float64. Written from `exact.decode` and `exact.encode`.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np

from ..errors import EngineUnavailable
from ..formats import Float, Integer
from ..record import Conversion
from ..rounding import MODES

__all__ = ["converts"]

RNE, RNA, RZ, RD, RU, RO, SR, SRB, SRC = range(9)
assert MODES == ("rne", "rna", "rz", "rd", "ru", "ro", "sr", "srb", "src")

OVER, INFINITE, NAN, FLUSHED = 0, 2, 4, 5           # the counters, in the order of record.COUNTS
FINITE_NUMBER, INFINITY, NOT_A_NUMBER = 0, 1, 2
CHUNK = 1 << 16                                     # elements widened to uint64 at a time

_jit = numba.njit(cache=True, nogil=True)
U = np.uint64


@_jit
def _length(x):
    """The number of bits of x."""
    bits = 0
    for step in (32, 16, 8, 4, 2, 1):
        if x >> U(step) > U(0):
            x >>= U(step)
            bits += step
    return bits + (x > U(0))


@_jit
def _decode(code, bits, exps):
    """(negative, significand, exponent of its last bit, kind, subnormal?) of a source code."""
    sign, magnitude_mask, max_code, inf_code, pad, frac_bits = bits[0], bits[1], bits[2], bits[3], bits[4], bits[5]
    is_float, emin, fnuz, bare = exps[0], exps[1], exps[2], exps[3]
    negative = code & sign != U(0)
    if is_float == 0:
        magnitude = (~code + U(1)) & magnitude_mask if negative else code & magnitude_mask
        return negative, magnitude, np.int64(0), FINITE_NUMBER, False
    magnitude = code & magnitude_mask
    if magnitude > max_code:
        return negative, U(0), np.int64(0), INFINITY if magnitude == inf_code else NOT_A_NUMBER, False
    if fnuz == 1 and negative and magnitude == U(0):
        return negative, U(0), np.int64(0), NOT_A_NUMBER, False
    magnitude >>= pad
    field, frac = np.int64(magnitude >> frac_bits), magnitude & ((U(1) << frac_bits) - U(1))
    if bare == 1:
        return False, U(1), field + emin, FINITE_NUMBER, False
    if field == 0:
        return negative, frac, emin - np.int64(frac_bits), FINITE_NUMBER, True
    return negative, frac | U(1) << frac_bits, emin + field - 1 - np.int64(frac_bits), FINITE_NUMBER, False


@_jit
def _goes_up(mode, negative, odd, rest, shift, random, given):
    """rounding._UP: `shift` bits were cut and were `rest`, not zero; from 64 on, less than half of the unit."""
    wide = shift >= 65
    half = U(0) if wide else U(1) << U(shift - 1)
    if mode == RNE:
        return not wide and (rest > half or (rest == half and odd))
    if mode == RNA:
        return not wide and rest >= half
    if mode == RZ:
        return False
    if mode == RD:
        return negative
    if mode == RU:
        return not negative
    if mode == RO:
        return not odd
    if mode == SRB:
        random, given = random * U(2) + U(1), given + 1
    below = shift - given                           # bits of the rest below those that the random bits meet
    if below <= 0:
        first = rest << U(-below)
    elif below >= 64:
        first = U(0)
        if mode == SRC and below == 64:             # the rest itself may be above half of 2**64
            first = U(rest > U(1) << U(63))
    else:
        first = rest >> U(below)
        if mode == SRC:
            under, middle = rest & ((U(1) << U(below)) - U(1)), U(1) << U(below - 1)
            if under > middle or (under == middle and first & U(1) == U(1)):
                first += U(1)
    return first + random >= U(1) << U(given)


@_jit
def _kernel(x, random, y, source_bits, source_exps, target_bits, target_exps, special, counts):
    sign, max_code, pad, frac_bits = target_bits[0], target_bits[1], target_bits[2], target_bits[3]
    emin, emax, bare = target_exps[0], target_exps[1], target_exps[2]
    mode, given, ftz, daz, ignores_sign = target_exps[3], target_exps[4], target_exps[5], target_exps[6], target_exps[7]
    source_length = np.int64(source_bits[5]) + 1          # of a normal number's significand
    for i in range(x.size):
        negative, sig, exp, kind, subnormal = _decode(x[i], source_bits, source_exps)
        side = 1 if negative and ignores_sign == 0 else 0
        if kind == NOT_A_NUMBER:
            counts[NAN] += 1
            y[i] = special[0, side]
            continue
        if kind == INFINITY:
            counts[INFINITE + side] += 1
            y[i] = special[1, side]
            continue
        came = sig != U(0)
        if daz == 1 and subnormal:
            sig = U(0)
        code, zero, over = U(0), sig == U(0), False
        if not zero:
            length = source_length if sig >> U(source_length - 1) == U(1) else _length(sig)
            exponent = max(length - 1 + exp, emin)
            over = exponent > emax or (side == 1 and sign == U(0))
            if not over:
                shift = exponent - np.int64(frac_bits) - exp
                low = exponent - emin - bare
                if shift <= 0:
                    kept, rest = sig << U(-shift), U(0)
                elif shift >= 64:
                    kept, rest = U(0), sig
                else:
                    kept = sig >> U(shift)
                    rest = sig & ((U(1) << U(shift)) - U(1))
                if low >= 0:
                    code = (U(low) << frac_bits) + kept
                elif kept == U(0):                  # a format without zero has nothing below its code 0
                    rest = U(0)
                if rest != U(0):
                    code += U(_goes_up(mode, side == 1, code & U(1) == U(1), rest, shift, random[i], given))
                if ftz == 1 and bare == 0 and code >> frac_bits == U(0):
                    code = U(0)
                over = code << pad > max_code
                zero = code == U(0) and bare == 0
        if over:
            counts[OVER + side] += 1
            y[i] = special[2, side]
        elif zero:
            counts[FLUSHED] += came and bare == 0
            y[i] = special[3, side]
        else:
            y[i] = code << pad | (sign if side == 1 else U(0))


@cache
def _source(fmt: Float | Integer) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(fmt, Integer):
        sign = 1 << (fmt.bits - 1) if fmt.signed else 0
        return np.array([sign, (1 << fmt.bits) - 1, 0, 0, 0, 0], np.uint64), np.zeros(4, np.int64)
    bits = [fmt.sign, fmt.magnitude, fmt.max_code, fmt.inf_code or 0, fmt.low_pad, fmt.frac_bits]
    exps = [1, fmt.emin, fmt.specials == "fnuz", fmt.specials == "exponent"]
    return np.array(bits, np.uint64), np.array(exps, np.int64)


def converts(how: Conversion, x: np.ndarray, random: np.ndarray | None, y: np.ndarray,
             counts: np.ndarray | None, every: bool = True) -> None:
    """As engine_c.converts. Raises EngineUnavailable for exponents or significands beyond 64-bit arithmetic."""
    target, policy = how.target, how.policy
    for fmt in (how.source, target):
        if isinstance(fmt, Float) and (fmt.exp_bits > 15 or fmt.frac_bits > 62):
            raise EngineUnavailable(f"the Numba engine cannot convert {how.source} to {target}: it takes formats of at "
                                    "most 15 exponent and 62 fraction bits")
    target_bits = np.array([target.sign, target.max_code, target.low_pad, target.frac_bits], np.uint64)
    target_exps = np.array([target.emin, target.emax, target.specials == "exponent", MODES.index(policy.rounding),
                            policy.random_bits, policy.ftz, policy.daz,
                            not target.signed and policy.negative == "abs"], np.int64)
    special = np.array([[code or 0 for code in pair] for pair in (how.nan, how.infinity, how.over, how.zero)],
                       np.uint64)
    counted = np.zeros(6, np.int64) if counts is None else counts
    for start in range(0, x.size, CHUNK):
        chunk = slice(start, start + CHUNK)
        codes = x[chunk].astype(np.uint64)
        drawn = codes if random is None else random[chunk].astype(np.uint64)
        found = np.empty_like(codes)
        _kernel(codes, drawn, found, *_source(how.source), target_bits, target_exps, special, counted)
        y[chunk] = found
