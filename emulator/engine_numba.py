"""The Numba engine: `exact.dot` over arrays, in double precision and proven exact.

It shares no step with the other engines. A code becomes a double through a table that `exact.decode` filled; the exponent
that a number claims in the alignment is a double too, the power of two itself. So a product's claim is a product, the
alignment is a maximum and one division, infinities and NaN take care of themselves, and no field is ever taken apart.
The IEEE chains are the exception: a double cannot check a double, so they run on integers, two limbs of 64 bits.

WHY EACH STEP OF A FUSED SUM IS EXACT. Let F = adder.frac, E the exponent that the sum aligns to. `_refusal` holds every
row to the bounds (1) to (3) before anything is computed.
(1) A product, with its scales, has at most 53 bits: they are f16's 11 + 11, or e4m3's 4 + 4 and the scales' 1 + 1. So has
    the sum of the 16 products of an exact group, on the unit of its smallest. Floating-point operations whose exact result
    is a double return it (IEEE 754-2019, 4.3), in any order: scales may be multiplied into a and b beforehand.
(2) Between the smallest number or unit (2**-286: two subnormal e5m2 under two e8m0) and the largest (2**288) lie less than
    1000 powers of two, F included. So nothing overflows or falls to subnormal doubles, and multiplying or dividing by a
    power of two, 2**(F - E) above all, only moves an exponent.
(3) Cut by `trunc`, which is exact, an addend is an integer below 2**(F + 2): a product is less than 4 times its claim, C
    less than 2 times. An exact group claims its scales alone and is below 2**(F + 12). All addends together stay below
    2**53 (at most F + carry = 48 bits in the table), so integers are added and no addition rounds.
Then one rounding, `_round`, and it scales by powers of two, rounds to an integer with IEEE's own roundToIntegral (5.9) and
scales back. An infinity or NaN goes through all this as IEEE 754 rules: Inf - Inf and Inf * 0 are NaN, a finite addend
changes neither, and finite addends never overflow (2): that is what `exact.fused_sum` says of special addends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba
import numpy as np

from . import exact
from .errors import EngineUnavailable
from .formats import FORMATS, Float, Integer
from .instructions import Instruction
from .rounding import MODES

__all__ = ["METHODS", "dots"]

RNE, RNA, RZ, RD, RU, RO, _ = range(len(MODES))
assert MODES == ("rne", "rna", "rz", "rd", "ru", "ro", "sr")

Array = np.ndarray
_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


# --- codes and doubles -------------------------------------------------------------------------------------------------

_F16, _F32, _F64 = (FORMATS[name] for name in ("float16", "float32", "float64"))
_HOST = {_F16: np.dtype("f2"), _F32: np.dtype("f4"), _F64: np.dtype("f8"), FORMATS["tfloat32"]: np.dtype("f4")}


@cache
def _table(fmt: Float | Integer) -> Array:
    """The value of every code, as a double."""
    def value(code: int) -> float:
        number = exact.decode(fmt, code)
        size = math.ldexp(number.sig, number.exp) if number.kind == "finite" else float(number.kind)
        return -size if number.negative else size
    table = np.array([value(code) for code in range(1 << fmt.bits)])
    table.setflags(write=False)
    return table


def _values(fmt: Float | Integer, codes: Array) -> Array:
    """What the codes are worth, as doubles: by table, or for wide formats as the host reads them."""
    if fmt.bits <= 16:
        return _table(fmt)[codes]
    if isinstance(fmt, Integer):
        return (codes.view(codes.dtype.str.replace("u", "i")) if fmt.signed else codes).astype(np.float64)
    ignored = codes.dtype.type((1 << fmt.low_pad) - 1)
    return (codes & ~ignored).view(_HOST[fmt]).astype(np.float64)


def _codes(fmt: Float, values: Array) -> Array:
    """The codes of numbers of `fmt`; an infinity that the format lacks is an overflow, and NaN is canonical."""
    if fmt in _HOST:
        codes = values.astype(_HOST[fmt]).view(fmt.code_dtype)
    else:
        ladder = _table(fmt)[:fmt.max_code + 1:1 << fmt.low_pad]        # ascends
        codes = np.searchsorted(ladder, np.abs(values)) << fmt.low_pad
        codes |= np.where(np.signbit(values) & (fmt.has_negative_zero | (codes > 0)), fmt.sign, 0)
        if fmt.inf_code is None:
            codes = np.where(np.isinf(values), codes & fmt.sign | fmt.nan_code if fmt.specials != "fnuz" else fmt.nan_code,
                             codes)
    return np.where(np.isnan(values), fmt.all_ones_nan, codes)


def _claims(fmt: Float, values: Array) -> Array:
    """The power of two that each number claims: of its leading bit or the least normal; 0 where it claims none."""
    power = (values.view(np.int64) & 0x7FF0_0000_0000_0000).view(np.float64)
    return np.where(np.isfinite(values) & (values != 0), np.maximum(power, math.ldexp(1.0, fmt.emin)), 0.0)


# --- the fused sum -----------------------------------------------------------------------------------------------------

@_jit
def _power(exp):
    """2.0**exp, from its bits; -1022 <= exp <= 1023."""
    return np.int64((exp + 1023) << 52).view(np.float64)


@_jit
def _exponent(x):
    """floor(log2(abs(x))) of a normal double; -1023 for zero, 1024 for infinity and NaN."""
    return (np.float64(x).view(np.int64) >> 52 & 0x7FF) - 1023


@_jit
def _claim(x, emin):
    """`_claims` of one number, by another road."""
    return _power(max(_exponent(x), emin)) if x != 0 and abs(x) < np.inf else 0.0


@_jit
def _round(x, kept, emin, mode):
    """x rounded to `kept` fraction bits, its exponent at least `emin` and unbounded above; infinity and NaN as they are.

    y = x / quantum is exact (2); rint, trunc, floor and ceil are exact roundings to an integer; that times the quantum is
    exact again. In the other modes y - trunc(y) is exact: it is the low bits of y.
    """
    if not abs(x) < np.inf:
        return x
    exponent = max(_exponent(x), emin)
    y = x * _power(kept - exponent)
    if mode == RNE:
        y = np.rint(y)
    elif mode == RZ:
        y = np.trunc(y)
    elif mode == RD:
        y = np.floor(y)
    elif mode == RU:
        y = np.ceil(y)
    else:
        whole = np.trunc(y)
        rest = abs(y - whole)
        up = rest >= 0.5 if mode == RNA else rest > 0 and np.trunc(0.5 * whole) == 0.5 * whole
        y = whole + math.copysign(1.0, y) if up else whole
    return y * _power(exponent - kept)


LANES = 64      # columns at a time: their sums stay in the first-level cache


@_jit
def _fused_rows(first, last, m, a, a_claims, b, b_claims, x, edges, inner, frac, floor, kept, mode, emin_c, emin,
                largest, has_inf):
    """Rows first..last-1 of x: C on entry, D on exit. a, a_claims: (rows, k); b, b_claims: (rows / m, k, n).

    An addend is the sum of `inner` consecutive products (1, or 16 in an exact group) and claims the largest of their
    claims; addends edges[g] <= i < edges[g + 1] and x make the g-th fused sum. The inner loops run over columns, so that
    the compiler makes vectors of them without reordering a sum.
    """
    unit, lowest = _power(frac), _power(floor)
    top, scale, part, total = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    for left in range(0, x.shape[1], LANES):
        width = min(LANES, x.shape[1] - left)
        right = left + width
        for row in range(first, last):
            group, sums = row // m, x[row, left:right]
            for g in range(len(edges) - 1):
                for j in range(width):
                    if g > 0 and not has_inf and abs(sums[j]) == np.inf:
                        sums[j] = np.nan                    # what the overflow of the sum before was encoded to
                    top[j] = max(_claim(sums[j], emin_c if g == 0 else emin), lowest)
                for i in range(edges[g] * inner, edges[g + 1] * inner):
                    claim, claims = a_claims[row, i], b_claims[group, i, left:right]
                    for j in range(width):
                        top[j] = max(top[j], claim * claims[j])
                for j in range(width):
                    scale[j] = unit / top[j]
                    total[j] = np.trunc(sums[j] * scale[j])
                for i in range(edges[g], edges[g + 1]):
                    value, column = a[row, i * inner], b[group, i * inner, left:right]
                    for j in range(width):
                        part[j] = value * column[j]
                    for s in range(i * inner + 1, (i + 1) * inner):
                        value, column = a[row, s], b[group, s, left:right]
                        for j in range(width):
                            part[j] += value * column[j]
                    for j in range(width):
                        total[j] += np.trunc(part[j] * scale[j])
                for j in range(width):
                    y = _round(total[j] / scale[j], kept, emin, mode) + 0.0     # + 0.0 makes a zero positive
                    sums[j] = y if abs(y) <= largest or y != y else math.copysign(np.inf, y)


# --- IEEE fma, on two limbs --------------------------------------------------------------------------------------------

@_jit
def _left(hi, lo, shift):
    """The 128 bits hi:lo shifted left; 0 <= shift < 128. Shift counts of 64 would wrap, so both ends are kept from them."""
    if shift >= 64:
        return lo << np.uint64(shift - 64), np.uint64(0)
    if shift == 0:
        return hi, lo
    return hi << np.uint64(shift) | lo >> np.uint64(64 - shift), lo << np.uint64(shift)


@_jit
def _right(hi, lo, shift):
    """The 128 bits hi:lo shifted right; the last bit is set if anything nonzero fell off ("jamming")."""
    if shift == 0:
        return hi, lo
    if shift > 127:
        return np.uint64(0), np.uint64((hi | lo) != 0)
    lost_hi, lost_lo = _left(hi, lo, 128 - shift)
    if shift >= 64:
        hi, lo = np.uint64(0), hi >> np.uint64(shift - 64)
    else:
        hi, lo = hi >> np.uint64(shift), lo >> np.uint64(shift) | hi << np.uint64(64 - shift)
    return hi, lo | np.uint64((lost_hi | lost_lo) != 0)


@_jit
def _normal(hi, lo, exp, top):
    """hi:lo * 2**exp, not zero, with its leading bit moved left to place `top`."""
    limb, length = (hi, 64) if hi else (lo, 0)
    for step in (32, 16, 8, 4, 2, 1):
        if limb >> np.uint64(step):
            limb >>= np.uint64(step)
            length += step
    hi, lo = _left(hi, lo, top - length)
    return hi, lo, exp - (top - length)


@_jit
def _apart(x):
    """abs(x) = sig * 2**exp; also of a subnormal."""
    bits = np.float64(x).view(np.uint64)
    field = np.int64(bits >> np.uint64(52) & np.uint64(0x7FF))
    sig = bits & np.uint64(0xF_FFFF_FFFF_FFFF) | np.uint64(field > 0) << np.uint64(52)
    return sig, max(field, 1) - 1075


@_jit
def _fma(x, y, z, mode):
    """x * y + z rounded once to a double (IEEE 754-2019, 5.4.1), without a floating-point operation on finite numbers.

    Product and z are brought to bit 126 of 128; the one below is shifted right with jamming. Bits are lost only where it
    lies at least 21 places lower, as both end in that many zeros at least; then the difference loses one leading place at
    most, the jammed last bit stays odd, and no rounding boundary lies between it and the truth.
    """
    if not (abs(x) < np.inf and abs(y) < np.inf):
        return x * y + z                                            # IEEE's rules for infinities, the host's as well
    if not abs(z) < np.inf:
        return z
    negative, z_negative = math.copysign(1.0, x) != math.copysign(1.0, y), math.copysign(1.0, z) < 0
    if x == 0 or y == 0:
        if z == 0 and negative != z_negative:
            return -0.0 if mode == RD else 0.0                      # section 6.3
        return z
    (x_sig, x_exp), (y_sig, y_exp), (z_sig, z_exp) = _apart(x), _apart(y), _apart(z)
    half, low = np.uint64(32), np.uint64(0xFFFF_FFFF)               # 53 by 53 bits: the school's way, digits of 32 bits
    units = (x_sig & low) * (y_sig & low)
    cross = (x_sig >> half) * (y_sig & low) + (units >> half)
    other = (x_sig & low) * (y_sig >> half) + (cross & low)
    hi, lo, exp = _normal((x_sig >> half) * (y_sig >> half) + (cross >> half) + (other >> half),
                          other << half | units & low, x_exp + y_exp, 126)
    if z != 0:
        z_hi, z_lo, z_exp = _normal(np.uint64(0), z_sig, z_exp, 126)
        if exp < z_exp or (exp == z_exp and (hi < z_hi or (hi == z_hi and lo < z_lo))):
            hi, lo, exp, negative, z_hi, z_lo, z_exp, z_negative = z_hi, z_lo, z_exp, z_negative, hi, lo, exp, negative
        z_hi, z_lo = _right(z_hi, z_lo, exp - z_exp)
        if negative == z_negative:
            lo += z_lo
            hi += z_hi + np.uint64(lo < z_lo)
        else:
            hi -= z_hi + np.uint64(lo < z_lo)
            lo -= z_lo
            if hi == 0 and lo == 0:
                return -0.0 if mode == RD else 0.0                  # section 6.3
        hi, lo, exp = _normal(hi, lo, exp, 127)
    else:
        hi, lo, exp = _normal(hi, lo, exp, 127)
    exponent = exp + 127
    sunk = min(max(-1022 - exponent, 0), 60)                        # a subnormal result; past 60 only stickiness is left
    sig, _ = _right(hi, lo, sunk)
    sticky = (sig & np.uint64(0x7FF)) << np.uint64(1) | np.uint64(_ != 0)
    kept, tie = sig >> np.uint64(11), np.uint64(0x800)
    odd = kept & np.uint64(1) != 0
    if mode == RNE:
        up = sticky > tie or (sticky == tie and odd)
    elif mode == RNA:
        up = sticky >= tie
    elif mode == RO:
        up = sticky != 0 and not odd
    else:
        up = sticky != 0 and mode == (RD if negative else RU)
    field = max(exponent + 1022, 0)                                 # the hidden bit adds the one that is missing
    bits = (np.uint64(field) << np.uint64(52)) + kept + np.uint64(up)
    if field > 2045 or bits >= np.uint64(0x7FF) << np.uint64(52):
        toward_zero = mode == RZ or mode == RO or mode == (RU if negative else RD)
        bits = (np.uint64(0x7FF) << np.uint64(52)) - np.uint64(toward_zero)
    return (bits | np.uint64(negative) << np.uint64(63)).view(np.float64)


@_jit
def _fma_rows(first, last, m, a, b, x, start, stop, single, mode):
    """Rows first..last-1 of x: one fma after another over start <= k < stop, onto what x holds; shapes as above.

    With `single` every fma is rounded to float32, to nearest: once to odd in double, then by the host. Rounding to odd
    first is harmless where it keeps two bits more (Boldo and Melquiond 2008, doi 10.1109/TC.2007.70819).
    """
    for row in range(first, last):
        for j in range(x.shape[1]):
            total = x[row, j]
            for i in range(start, stop):
                total = _fma(a[row, i], b[row // m, i, j], total, RO if single else mode)
                if single:
                    total = np.float64(np.float32(total))
            x[row, j] = total
