"""The Numba engine: `exact.dot` over arrays, in double precision and proven exact.

Ordinary numbers take a faster road: in fused sums `lanes`, in IEEE chains `fmas`. All else is done here.

It shares no step with the other engines. A code becomes a double through a table that `exact.decode` filled. The
exponent a number claims in the alignment is a double as well, the power of two itself: so a product's claim is a
product, the alignment a maximum and one division, infinities and NaN take care of themselves, and no field is taken
apart. The IEEE chains are the exception: they run on integers, two limbs of 64 bits.

WHY EACH STEP OF A FUSED SUM IS EXACT. Let F = adder.frac, and E the exponent the sum is aligned to. `_refusal` holds
every row to the bounds (1) to (3) before anything is computed.
(1) A product, scales included, has at most 53 bits: f16's 11 + 11, or e4m3's 4 + 4 and two scales' 1 + 1. So has the
    sum of an exact group, in units of its smallest product. A floating-point operation whose exact result is a double
    returns it (IEEE 754-2019, 4.3), in any order: the scales may be multiplied into a and b beforehand.
(2) From the smallest number or unit (2**-286: subnormal e5m2 twice, e8m0 twice) to the largest (2**292) it is less than
    1000 powers of two, F included. So nothing overflows or becomes a subnormal double, and multiplying or dividing by a
    power of two, above all by 2**(F - E), moves an exponent and no more.
(3) Cut by `trunc`, which is exact, an addend is an integer below 2**(F + 2): a product is less than 4 times its claim,
    C less than 2 times. An exact group, which claims its scales alone, is below 2**(F + 12). All of them together stay
    below 2**53, so integers are added and no addition rounds.
One rounding follows, `_round`: it scales by powers of two (2) and rounds to an integer (IEEE 754-2019, 5.9) between. An
infinity or NaN passes through all this as IEEE 754 rules: Inf * 0 and Inf - Inf are NaN, finite addends change neither
and, by (2), make none. That is what `exact.fused_sum` says of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numba
import numpy as np

from .. import exact
from ..errors import EngineUnavailable
from ..formats import FORMATS, Float, Integer
from ..instructions import Instruction
from ..rounding import MODES
from ..threads import spread
from . import fmas, lanes

__all__ = ["METHODS", "dots"]

RNE, RNA, RZ, RD, RU, RO = (MODES.index(mode) for mode in ("rne", "rna", "rz", "rd", "ru", "ro"))

Array = np.ndarray
_jit = numba.njit(cache=True, nogil=True)


# --- codes and doubles -----------------------------------------------------------------------------------------------

_F16, _F32, _F64 = FORMATS["float16"], FORMATS["float32"], FORMATS["float64"]
_HOST: dict[Any, np.dtype] = {
    _F16: np.dtype("f2"), _F32: np.dtype("f4"), FORMATS["tfloat32"]: np.dtype("f4"), _F64: np.dtype("f8")}


@cache
def _table(fmt: Float | Integer) -> Array:
    """The value of every code."""
    def value(code: int) -> float:
        number = exact.decode(fmt, code)
        size = math.ldexp(number.sig, number.exp) if number.kind == "finite" else float(number.kind)
        return -size if number.negative else size
    return np.array([value(code) for code in range(1 << fmt.bits)])


def _values(fmt: Float | Integer, codes: Array) -> Array:
    """What the codes are worth: by table, or as the host reads them where they are wide."""
    if fmt.bits <= 16:
        return _table(fmt)[codes]
    if isinstance(fmt, Integer):
        return (codes.view(codes.dtype.str.replace("u", "i")) if fmt.signed else codes).astype(np.float64)
    return (codes & ~codes.dtype.type((1 << fmt.low_pad) - 1)).view(_HOST[fmt]).astype(np.float64)


def _codes(fmt: Any, values: Array) -> Array:
    """The codes of numbers of `fmt`; an infinity that the format lacks was an overflow, and NaN is canonical."""
    if fmt in _HOST:
        codes = values.astype(_HOST[fmt]).view(fmt.code_dtype)
    else:
        ladder = _table(fmt)[:fmt.max_code + 1:1 << fmt.low_pad]            # ascends
        codes = np.searchsorted(ladder, np.abs(values)) << fmt.low_pad
        codes = np.where(np.signbit(values) & ((codes > 0) | fmt.has_negative_zero), codes | fmt.sign, codes)
        if fmt.inf_code is None:
            overflow = fmt.nan_code if fmt.specials == "fnuz" else codes & fmt.sign | fmt.nan_code
            codes = np.where(np.isinf(values), overflow, codes)
    return np.where(np.isnan(values), fmt.all_ones_nan, codes)


def _claims(fmt: Any, values: Array) -> Array:
    """The power of two that each number claims: of its leading bit or the least normal; 0 where it claims none."""
    power = (values.view(np.int64) & 0x7FF0_0000_0000_0000).view(np.float64)
    return np.where(np.isfinite(values) & (values != 0), np.maximum(power, math.ldexp(1.0, fmt.emin)), 0.0)


# --- the fused sum ---------------------------------------------------------------------------------------------------

@_jit
def _power(exp):
    """2.0**exp from its bits, -1022 <= exp <= 1023."""
    return np.int64((exp + 1023) << 52).view(np.float64)


@_jit
def _exponent(x):
    """floor(log2(abs(x))) of a normal double; -1023 for zero."""
    return (np.float64(x).view(np.int64) >> 52 & 0x7FF) - 1023


@_jit
def _claim(x, emin):
    """`_claims`, of one number."""
    return _power(max(_exponent(x), emin)) if x != 0 and abs(x) < np.inf else 0.0


@_jit
def _round(x, kept, emin, mode):
    """x rounded to `kept` fraction bits, with exponents from `emin` up and no end; infinity and NaN stay.

    y, x in units of the last bit kept, is exact (2), and so is the way back. y - trunc(y) is exact too: y's low bits.
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
        up = rest >= 0.5 if mode == RNA else rest > 0 and np.trunc(whole / 2) == whole / 2
        y = whole + math.copysign(1.0, y) if up else whole
    return y * _power(exponent - kept)


LANES = 64      # columns at a time, so that their sums stay in the first-level cache
TILE = 128      # rows or columns, from which on it pays to look for the part that a fast road takes


@_jit
def _fused_rows(first, last, m, a, a_claims, b, b_claims, x, edges, inner, frac, floor, kept, mode, emin_c, emin,
                largest, has_inf):
    """Rows first..last-1 of x: C on entry, D on exit. a, a_claims: (rows, k); b, b_claims: (rows / m, k, n).

    An addend is the sum of `inner` consecutive products (1, or 16 in an exact group) and claims the largest of their
    claims. Addends edges[g] <= i < edges[g + 1] and x make the g-th fused sum. The inner loops run over columns: the
    compiler turns them into vectors without reordering a sum.
    """
    unit, lowest = _power(frac), _power(floor)
    top, scale, part, total = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    for left in range(0, x.shape[1], LANES):
        width = min(LANES, x.shape[1] - left)
        right = left + width
        for row in range(first, last):
            batch, sums = row // m, x[row, left:right]
            for g in range(len(edges) - 1):
                for j in range(width):
                    if g > 0 and not has_inf and abs(sums[j]) == np.inf:
                        sums[j] = np.nan                                    # as which an overflow is encoded and read
                    top[j] = max(_claim(sums[j], emin_c if g == 0 else emin), lowest)
                for i in range(edges[g] * inner, edges[g + 1] * inner):
                    claim, claims = a_claims[row, i], b_claims[batch, i, left:right]
                    for j in range(width):
                        top[j] = max(top[j], claim * claims[j])
                for j in range(width):
                    scale[j] = unit / top[j]                                # 2**(F - E)
                    total[j] = np.trunc(sums[j] * scale[j])
                for i in range(edges[g] * inner, edges[g + 1] * inner, inner):
                    value, values = a[row, i], b[batch, i, left:right]
                    for j in range(width):
                        part[j] = value * values[j]
                    for s in range(i + 1, i + inner):
                        value, values = a[row, s], b[batch, s, left:right]
                        for j in range(width):
                            part[j] += value * values[j]
                    for j in range(width):
                        total[j] += np.trunc(part[j] * scale[j])
                for j in range(width):
                    y = _round(total[j] / scale[j], kept, emin, mode) + 0.0     # + 0.0: a zero result is +0
                    sums[j] = math.copysign(np.inf, y) if abs(y) > largest else y


# --- IEEE fma, on two limbs ------------------------------------------------------------------------------------------

@_jit
def _left(hi, lo, shift):
    """The 128 bits hi:lo shifted left, 0 <= shift < 128. A count of 64 would wrap to 0, so it never gets there."""
    if shift >= 64:
        return lo << np.uint64(shift - 64), np.uint64(0)
    if shift == 0:
        return hi, lo
    return hi << np.uint64(shift) | lo >> np.uint64(64 - shift), lo << np.uint64(shift)


@_jit
def _right(hi, lo, shift):
    """The 128 bits hi:lo shifted right, shift >= 0; the last bit is set where anything but zeros fell off (jamming)."""
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
def _raise(hi, lo, exp, place):
    """hi:lo * 2**exp, not zero, with its leading bit moved up to `place`."""
    limb, leading = (hi, 64) if hi else (lo, 0)
    for step in (32, 16, 8, 4, 2, 1):
        if limb >> np.uint64(step):
            limb >>= np.uint64(step)
            leading += step
    hi, lo = _left(hi, lo, place - leading)
    return hi, lo, exp - (place - leading)


@_jit
def _apart(x):
    """(sig, exp): abs(x) = sig * 2**exp, of subnormals too."""
    bits = np.float64(x).view(np.uint64)
    field: Any = np.int64(bits >> np.uint64(52) & np.uint64(0x7FF))
    return bits & np.uint64(0xF_FFFF_FFFF_FFFF) | np.uint64(field > 0) << np.uint64(52), max(field, 1) - 1075


@_jit
def _fma(x, y, z, mode):
    """x * y + z rounded once to a double (IEEE 754-2019, 5.4.1); finite numbers meet no floating-point operation.

    Product and z are raised to bit 126 of 128 and end in 21 zeros or more, so jamming the lower one loses bits only if
    it is at least 22 places below. Then the difference loses at most one leading place, its jammed last bit is odd, and
    no boundary of rounding lies between it and the truth.
    """
    if not (abs(x) < np.inf and abs(y) < np.inf):
        return x * y + z                                                    # the host has IEEE's infinities and NaN
    if not abs(z) < np.inf:
        return z
    negative, z_negative = (math.copysign(1.0, x) < 0) != (math.copysign(1.0, y) < 0), math.copysign(1.0, z) < 0
    if x == 0 or y == 0:
        if z == 0 and negative != z_negative:
            return -0.0 if mode == RD else 0.0                              # section 6.3
        return z
    (x_sig, x_exp), (y_sig, y_exp), (z_sig, z_exp) = _apart(x), _apart(y), _apart(z)
    digit, low = np.uint64(32), np.uint64(0xFFFF_FFFF)                      # multiply as at school: digits of 32 bits
    units = (x_sig & low) * (y_sig & low)
    cross = (x_sig >> digit) * (y_sig & low) + (units >> digit)
    other = (x_sig & low) * (y_sig >> digit) + (cross & low)
    hi = (x_sig >> digit) * (y_sig >> digit) + (cross >> digit) + (other >> digit)
    hi, lo, exp = _raise(hi, other << digit | units & low, x_exp + y_exp, 126)
    if z != 0:
        z_hi, z_lo, z_exp = _raise(np.uint64(0), z_sig, z_exp, 126)
        if exp < z_exp or (exp == z_exp and hi < z_hi):                     # z_lo is 0: z has 53 bits
            hi, lo, exp, negative, z_hi, z_lo, z_exp, z_negative = z_hi, z_lo, z_exp, z_negative, hi, lo, exp, negative
        z_hi, z_lo = _right(z_hi, z_lo, exp - z_exp)
        if negative == z_negative:
            lo += z_lo
            hi += z_hi + np.uint64(lo < z_lo)                               # the carry
        else:
            hi -= z_hi + np.uint64(lo < z_lo)                               # the borrow
            lo -= z_lo
            if hi == 0 and lo == 0:
                return -0.0 if mode == RD else 0.0                          # section 6.3
    hi, lo, exp = _raise(hi, lo, exp, 127)
    exponent = exp + 127
    hi, lo = _right(hi, lo, min(max(-1022 - exponent, 0), 60))              # subnormal; 60 places down all is lost
    kept, odd = hi >> np.uint64(11), hi & np.uint64(0x800) != 0
    rest, half = (hi & np.uint64(0x7FF)) << np.uint64(1) | np.uint64(lo != 0), np.uint64(0x800)
    if mode == RNE:
        up = rest > half or (rest == half and odd)
    elif mode == RNA:
        up = rest >= half
    elif mode == RO:
        up = rest != 0 and not odd
    else:
        up = rest != 0 and mode == (RD if negative else RU)
    inf = np.uint64(0x7FF) << np.uint64(52)
    field = min(max(exponent + 1022, 0), 2046)                              # kept's hidden bit adds the missing 1
    bits = (np.uint64(field) << np.uint64(52)) + kept + np.uint64(up)
    if bits >= inf:
        bits = inf - np.uint64(mode == RZ or mode == RO or mode == (RU if negative else RD))
    return np.uint64(bits | np.uint64(negative) << np.uint64(63)).view(np.float64)


@_jit
def _fma_rows(first, last, m, a, b, x, mode, single):
    """Rows first..last-1 of x, C on entry and D on exit: one fma after another; shapes as above.

    single: of float32, to nearest; what was rounded to odd with 53 >= 24 + 2 bits rounds on as if it were exact (Boldo
    and Melquiond 2008, doi 10.1109/TC.2007.70819).
    """
    for row in range(first, last):
        for j in range(x.shape[1]):
            total = x[row, j]
            for i in range(a.shape[1]):
                total = _fma(a[row, i], b[row // m, i, j], total, RO if single else mode)
                if single:
                    total = np.float64(np.float32(total))
            x[row, j] = total


# --- instructions: the functions of exact.py, over arrays ------------------------------------------------------------
#
# Values, not codes: a (batch, m, k), b (batch, k, n), c (batch, m, n), which a method may overwrite, and the scales
# sa (batch, m, k / block) and sb (batch, k / block, n), or None. A method returns codes of D.

def _threads(rows: int, macs: int) -> int:
    return max(1, min(rows, numba.config.NUMBA_NUM_THREADS, macs >> 20))         # type: ignore[attr-defined]


def _by_rows(kernel: Callable[..., None], a: Array, *args: Any, macs: int) -> None:
    """Run `kernel` over all rows, in as many threads as the work is worth. A row is one thread's, so their number
    changes nothing. No prange: its default scheduler ends the process when two threads enter it at once."""
    batch, m, k = a.shape
    rows = batch * m
    threads = _threads(rows, macs)
    edges = [rows * i // threads for i in range(threads + 1)]

    spread(lambda part: kernel(*part, m, a.reshape(rows, k), *args), list(zip(edges, edges[1:])), threads)


def _edges(k: int, chunk: int, group: int) -> Array:
    """Where the groups begin and the last one ends: k cut into instructions of `chunk`, those into groups."""
    return np.array([i for start in range(0, k, chunk) for i in range(start, start + chunk, group)] + [k])


def _fused(ins: Instruction, a: Array, a_claims: Array, b: Array, b_claims: Array, c: Array, edges: Array,
           inner: int = 1) -> Array:
    """C overwritten by the result of the fused sums, as values of D; an overflow is infinite."""
    largest = float(_values(ins.d, np.array([ins.d.max_code], ins.d.code_dtype))[0])
    _by_rows(_fused_rows, a, a_claims.reshape(-1, a.shape[2]), b, b_claims, c.reshape(-1, c.shape[2]), edges, inner,
             ins.adder.frac, ins.floor, ins.precision, MODES.index(ins.rounding), ins.c.emin, ins.d.emin, largest,
             ins.d.inf_code is not None, macs=c.size * int(edges[-1] - edges[0]) * inner)
    return c


def chain(ins: Instruction, a: Array, b: Array, c: Array, sa: Any, sb: Any) -> Array:
    """Groups of `terms`, each result the next one's C. Block scales go into the values and the claims of a and b."""
    a_claims, b_claims = _claims(ins.a, a), _claims(ins.b, b)
    if ins.block:
        last_bit = math.ldexp(1.0, -ins.scale.frac_bits)                    # a scale weighs in with its last bit
        factors = (np.repeat(sa, ins.block, 2), np.repeat(sb, ins.block, 1))
        a, b = a * factors[0], b * factors[1]
        a_claims, b_claims = (claims * _claims(ins.scale, factor) * last_bit
                              for claims, factor in zip((a_claims, b_claims), factors))
    return _codes(ins.d, _fused(ins, a, a_claims, b, b_claims, c, _edges(a.shape[2], ins.k, ins.terms)))


def exact_groups(ins: Instruction, a: Array, b: Array, c: Array, sa: Any, sb: Any) -> Array:
    """Addends of 16 products, which claim their scales alone, and nothing where every product is zero."""
    a_scales, b_scales = np.repeat(sa, ins.block, 2), np.repeat(sb, ins.block, 1)
    a_claims, b_claims = (np.where(x != 0, _claims(ins.scale, scales), 0.0)
                          for x, scales in ((a, a_scales), (b, b_scales)))
    edges = _edges(a.shape[2] // 16, ins.k // 16, ins.terms)
    return _codes(ins.d, _fused(ins, a * a_scales, a_claims, b * b_scales, b_claims, c, edges, inner=16))


def _add(fmt: Any, x: Array, y: Array) -> Array:
    """The IEEE sum, to nearest, of two numbers of `fmt`, float32 or float16: the host's in double, rounded again.

    Rounding twice does no harm where the first keeps 2 p + 2 bits (Figueroa 1995, doi 10.1145/221332.221334); 53 >= 50.
    """
    return (x + y).astype(_HOST[fmt]).astype(np.float64)


def fp8_through_f16(ins: Instruction, a: Array, b: Array, c: Array, sa: Any, sb: Any) -> Array:
    """k mod 4 in {0, 1}, then in {2, 3}, from zero; then an IEEE add of C."""
    k = np.arange(a.shape[2])
    order = np.lexsort((k, k % 4 // 2, k // ins.k))                         # by instruction, then pair, then k
    a, b = np.ascontiguousarray(a[:, :, order]), np.ascontiguousarray(b[:, order])
    a_claims, b_claims = _claims(ins.a, a), _claims(ins.b, b)
    for start in range(0, len(k), ins.k):
        edges = start + _edges(ins.k, ins.k, ins.k // 2)
        c = _add(ins.d, _fused(ins, a, a_claims, b, b_claims, np.zeros_like(c), edges), c)
    return _codes(ins.d, c)


def _products(a: Array, b: Array, k: int) -> Array:
    """The products of one k. Two f16 make 22 bits, a number of f32: FMUL is exact, and FFMA no more than an FADD."""
    return a[:, :, k, None] * b[:, None, k]


def simt_f32(ins: Instruction, a: Array, b: Array, c: Array, sa: Any, sb: Any) -> Array:
    """FFMA over ascending k from +0, then FADD of C."""
    for start in range(0, a.shape[2], ins.k):
        total = np.zeros_like(c)
        for k in range(start, start + ins.k):
            total = _add(_F32, _products(a, b, k), total)
        c = _add(_F32, total, c)
    return _codes(ins.d, c)


def simt_f16(ins: Instruction, a: Array, b: Array, c: Array, sa: Any, sb: Any) -> Array:
    """FMUL and FFMA for two k, FADD onto C, all in F32; a conversion at the end of each instruction."""
    for k in range(0, a.shape[2], 2):
        c = _add(_F32, _add(_F32, _products(a, b, k + 1), _products(a, b, k)), c)
        if (k + 2) % ins.k == 0:
            c = c.astype(np.float16).astype(np.float64)
    return _codes(ins.d, c)


def fma_chain(ins: Instruction, a: Array, b: Array, c: Array, sa: Any, sb: Any) -> Array:
    """One fma after another in ascending k."""
    _by_rows(_fma_rows, a, b, c.reshape(-1, c.shape[2]), MODES.index(ins.rounding), ins.d == _F32,
             macs=16 * c.size * a.shape[2])
    return _codes(ins.d, c)


def integer(ins: Instruction, a: Array, b: Array, c: Array, sa: Any, sb: Any) -> Array:
    """The exact sum, wrapped, or clamped after each instruction. Below 2**53 BLAS may add integers in any order: so it
    adds 2**20 products of 16 bits and 16 at a time."""
    step = ins.k if ins.saturate else 1 << 20
    for start in range(0, a.shape[2], step):
        c = c + a[:, :, start:start + step] @ b[:, start:start + step]
        c = np.clip(c, ins.d.min, ins.d.max) if ins.saturate else np.remainder(c, 2.0 ** ins.d.bits)
    return c.astype(np.int64) & ((1 << ins.d.bits) - 1)


def xor_popc(ins: Instruction, a: Array, b: Array, c: Array, sa: Any, sb: Any) -> Array:
    """C plus the number of k where the bits are 1 and 0, or 0 and 1."""
    return integer(ins, np.concatenate((a, 1 - a), 2), np.concatenate((1 - b, b), 1), c, sa, sb)


def and_popc(ins: Instruction, a: Array, b: Array, c: Array, sa: Any, sb: Any) -> Array:
    """C plus the number of k where both bits are 1."""
    return integer(ins, a, b, c, sa, sb)


METHODS: dict[str, Callable[..., Array]] = {f.__name__: f for f in (
    chain, exact_groups, fp8_through_f16, simt_f32, simt_f16, fma_chain, integer, xor_popc, and_popc)}


@cache
def _refusal(ins: Instruction) -> str:
    """Why this engine would not be exact for a row; empty for every row of the table."""
    if isinstance(ins.a, Integer):
        narrow = ins.a.bits + ins.b.bits <= (2 if "popc" in ins.method else 32) and {ins.c.bits, ins.d.bits} == {32}
        return "" if narrow else "it takes operands of 16 bits and sums of 32"
    operands: list[Any] = [ins.a, ins.b]
    scales: list[Any] = [ins.scale] * 2 if ins.block else []
    formats = {*operands, *scales, ins.c, ins.d}
    single = ins.method == "fma_chain" and ins.d == _F32
    ieee = {"simt_f32": (_F16, _F16, _F32), "simt_f16": (_F16,) * 3,
            "fma_chain": (_F32 if single else _F64,) * 3}.get(ins.method)
    if (ieee and ((ins.a, ins.b, ins.d) != ieee or ins.c not in ieee) or single and ins.rounding != "rne"
            or ins.method == "fp8_through_f16" and not ins.c == ins.d in (_F16, _F32)):
        return "it takes this method in the table's formats alone"
    wide = [f for f in formats if f.bits > 16 and f not in _HOST]
    if wide or not (ins.d.nan_code and ins.d.signed and ins.d.frac_bits) or ins.precision == 0:
        return "results need a sign, a fraction and a NaN, and formats of more than 16 bits must be the host's"
    if ins.rounding == "sr":
        return "it has no random bits"
    if ieee:
        return ""
    frac, group = ins.adder.frac, ins.method == "exact_groups"
    width = sum(f.frac_bits + 1 for f in operands + scales) + group * (4 + sum(f.emax - f.emin for f in operands))
    above = 6 + sum(f.emax + 1 for f in operands) if group else 2 + sum(f.frac_bits for f in scales)
    sums = frac + max(above, 1) + ((ins.terms if group else ins.k) + 1).bit_length()
    if max(width, sums) > 53:
        return f"it has 53 bits, and products take {width}, sums {sums}"
    low = min(sum(min(f.emin - f.frac_bits, 0) for f in operands + scales), ins.floor - frac,
              *(f.emin - f.frac_bits for f in (ins.c, ins.d)))
    high = max(4 + sum(max(f.emax + 1, 0) for f in operands + scales), ins.c.emax + 1, ins.d.emax + 1)
    return f"it cannot span 2**{low} to 2**{high}" if low < -960 or high > 960 or high - low + frac > 1000 else ""


def dots(ins: Instruction, a: Array, b: Array, c: Array, scale_a: Any, scale_b: Any, d: Array) -> None:
    """Fill d with the codes of a times b, transposed, plus c, as `ins` computes them.

    a: (batch, m, k); b: (batch, n, k); c, d: (batch, m, n); scale_a: (batch, m, k / block) and scale_b: (batch, n,
    k / block), or None. All are C-contiguous arrays of codes in their formats' code_dtype. k is a multiple of ins.k:
    an instruction's D is the next one's C. Methods of other vendors than NVIDIA are in modules of their own. Raises
    EngineUnavailable for a row where this engine would not be exact.
    """
    vendor = exact.METHODS[ins.method].__module__.rpartition(".")[2]
    if vendor != "nvidia":
        import_module(f"{__name__}.{vendor}").dots(ins, a, b, c, scale_a, scale_b, d)
        return
    if why := _refusal(ins):
        raise EngineUnavailable(f"the Numba engine cannot do {ins}: {why}; engine='exact' can")
    if d.size:
        roads = [road for road in (lanes, fmas) if road.knows(ins, b.shape[1])]
        _tile(ins, roads, [a, b, c, scale_a, scale_b, d])


def _tile(ins: Instruction, roads: list[Any], operands: list[Any]) -> None:
    """`dots` by a fast road, or, where it does not take what a small tile holds, by a method. A large tile is halved:
    what stands in the way is mostly in a few rows of A or columns of B."""
    a, b, c, scale_a, scale_b, d = operands
    threads = _threads(len(a) * a.shape[1], d.size * a.shape[2])
    if any(road.dots(ins, *operands, threads) for road in roads):
        return
    axis = max(range(3), key=lambda i: d.shape[i])
    if roads and d.shape[axis] > TILE:
        for part in (slice(d.shape[axis] // 2), slice(d.shape[axis] // 2, None)):
            batch, rows, columns = (part if i == axis else slice(None) for i in range(3))
            cuts = 2 * ((batch, rows), (batch, columns), (batch, rows, columns))
            _tile(ins, roads, [x if x is None else x[cut] for x, cut in zip(operands, cuts)])
        return

    def down(codes: Array) -> Array:
        return np.ascontiguousarray(codes.swapaxes(1, 2))
    scales = (_values(ins.scale, scale_a), _values(ins.scale, down(scale_b))) if ins.scale else (None, None)
    with np.errstate(all="ignore"):                                         # infinities and NaN are data here
        d[...] = METHODS[ins.method](ins, _values(ins.a, a), _values(ins.b, down(b)), _values(ins.c, c), *scales)
