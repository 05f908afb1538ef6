"""The Numba engine's fast road: fused sums over ordinary numbers, 64 columns abreast.

It takes what most calls hold: finite numbers whose products and sums stay far inside float32's range. `dots` says False
to the rest, infinities and NaN above all, and engine_numba goes its own way, with the same bits. From the C engine it
differs in method: exponents come from tables that `exact.decode` filled and are compared as 16-bit integers, a sum is
rounded in double precision, by clearing bits, and no rounding mode or flushing of the processor is touched.

WHY IT IS EXACT. F = frac; E, the exponent a sum is aligned to; LEAST = -85, HIGH = 60. `dots` has seen that every
product that is not zero, and C, if it is not, claims an exponent in LEAST + F..HIGH.
(1) A product has at most 11 + 11 bits, and the smallest is above 2**(LEAST - 20): float32 holds it exactly. So it does
    the sum of an exact group, whose 24 bits or fewer `_sums` has counted; a product and a sum may become one fma.
(2) E >= LEAST + F if a product is not zero; then the sum, a multiple of 2**(E - F), is zero or at least 2**LEAST. If
    every product is zero C keeps its leading bit. So a sum that is not zero never falls below 2**LEAST, and in 2**30 k
    it cannot reach 2**(HIGH + 40). E lies between: F <= 35, so 2**(F - E) and 2**(E - F) are normal float32.
(3) Scaling by 2**(F - E) is exact in float32 down to 2**-126, and what falls below is less than 1 and cut to 0 anyway.
    The conversion to int32 cuts toward zero, as `exact.fused_sum` does. A cut product is below 4 * 2**F, so that 16 of
    them stay below 2**31, F <= 25. Exact groups, with larger F, are cut as doubles. Sixteens, groups and C are added in
    double: below 2**53 (engine_numba, 3).
(4) The total is an integer in double, and once rounded a number of float32, whose product with 2**(E - F) is exact.
    Toward zero: clearing the low 52 - kept bits of a normal double cuts its magnitude. To nearest: see `_nearest`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from .. import exact
from ..formats import FORMATS
from ..instructions import Instruction
from ..threads import spread

__all__ = ["dots", "knows"]

Array = np.ndarray
_jit = numba.njit(cache=True, nogil=True)

LANES = 64                          # columns abreast; their sums and scales stay in the first-level cache
FEWEST = 16                         # columns that are worth it
ROWS = 32                           # of a block that works on one group of k before the next
LEAST, HIGH = -85, 60               # of the exponents that sums and products claim
HIGHEST = 100                       # claims of operands, scales included: they are normal numbers of float32
NONE = -8192                        # the exponent of zero: below all others, also after adding any
SPECIAL = 8192                      # of an infinity or NaN
MOST = int(np.float32(65504).view(np.int32))                # the largest float16, as bits
_F16, _F32, _TF32 = FORMATS["float16"], FORMATS["float32"], FORMATS["tfloat32"]


# --- codes into planes -----------------------------------------------------------------------------------------------

@cache
def _table(fmt: Any) -> tuple[Array, Array]:
    """The value of every code, and the exponent that it claims."""
    numbers = [exact.decode(fmt, code) for code in range(1 << fmt.bits)]
    claims = [SPECIAL if x.kind != "finite" else x.exp + fmt.frac_bits if x.sig else NONE for x in numbers]
    values = [math.ldexp(-x.sig if x.negative else x.sig, x.exp) if abs(claim) <= HIGHEST else 0.0
              for x, claim in zip(numbers, claims)]
    return np.array(values, np.float32), np.array(claims, np.int16)


def _plane(fmt: Any, codes: Array) -> tuple[Array, Array]:
    """Values and claims of an array of codes."""
    if fmt.bits <= 16:
        values, claims = _table(fmt)
        return values.take(codes), claims.take(codes)
    codes = codes & ~codes.dtype.type((1 << fmt.low_pad) - 1)
    claims = (codes >> 23 & 255).astype(np.int16)
    np.subtract(np.maximum(claims, 1), 127, out=claims, where=claims < 255)
    claims[codes << 1 == 0] = NONE
    claims[claims == 255] = SPECIAL
    return codes.view(np.float32), claims


def _range(claims: Array) -> tuple[int, int]:
    """The least and the largest claim of numbers that are not zero; (0, 0) if all are zero."""
    top = int(claims.max(initial=NONE))
    return (0, 0) if top == NONE else (int(np.where(claims == NONE, np.int16(SPECIAL), claims).min()), top)


def _panels(codes: Array) -> Array:
    """(batch, n, k) as (batch * panels, k, LANES), the last panel of each filled up with zeros."""
    batch, n, k = codes.shape
    panels = -(-n // LANES)
    if n < panels * LANES:
        codes = np.concatenate((codes, np.zeros((batch, panels * LANES - n, k), codes.dtype)), 1)
    return np.ascontiguousarray(codes.reshape(batch * panels, LANES, k).swapaxes(1, 2))


# --- the kernel ------------------------------------------------------------------------------------------------------

@numba.extending.intrinsic
def _wide(context):
    """Asks LLVM for vectors of 512 bits where there are any; it would take 256, and half as long again."""
    def code(context, builder, signature, arguments):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')      # a name that llvmlite does not list
        return context.get_dummy_value()
    return numba.types.none(), code


@_jit
def _nearest(x, least):
    """x, below 2**500, rounded to 11 bits, ties to even, or to multiples of 2**(least - 1033) if that is coarser.

    Adding 1.5 * 2**(p + 52) to x, |x| < 2**(p + 11), and taking it away leaves the nearest multiple of 2**p: the sum
    lies where doubles are 2**p apart, and what is added is an even multiple. p is x's exponent less 10, or more.
    """
    field = np.int64(np.float64(x).view(np.int64) & np.int64(0x7FF << 52))
    power = np.int64(max(field, least << np.int64(52)) + np.int64(42 << 52) | np.int64(1 << 51)).view(np.float64)
    return (x + power) - power


# The two inner sums of `_kernel`, inlined before LLVM sees them. Written out in the loop over columns, their counters
# make it peel off the first column, and vectors no longer fit the rest.

@numba.njit(inline="always")
def _cut_products(x, y, j, s, first, last):
    total = np.int32(0)
    for i in range(first, last):
        total = np.int32(total + np.int32(x[i] * y[i, j] * s))
    return total


@numba.njit(inline="always")
def _cut_groups(x, j, s, terms):
    total = 0.0
    for i in range(terms):
        total += np.trunc(np.float64(x[i, j]) * s)
    return total


@cache
def _kernel(terms: int, inner: int, half: bool) -> Callable[..., bool]:
    """The kernel for sums of `terms` addends, each of `inner` products, into float16 if `half`, else float32.

    All three are constants to the compiler: a sum is then one loop over columns without branches, which becomes
    vectors. In it each integer says its width, or Numba makes 64 bits of it.
    """
    run = min(terms * inner, 16)

    @numba.njit(cache=True, nogil=True, fastmath={"contract"})
    def rows(first, last, m, a, claims_a, b, claims_b, x, frac, lowest, emin, kept, pairs):
        """Rows first..last-1 of x (rows, panels * LANES), C on entry and D on exit. a: (rows, k); b: (batch * panels,
        k, LANES). Exponents are biased by 127: claims_b, lowest, emin.

        pairs: two groups at a time are summed from zero, then added to C as IEEE 754 adds. True: a sum left float16.
        """
        _wide()  # type: ignore[call-arg]
        old, sums = np.zeros((ROWS, LANES), np.float32), np.zeros((ROWS, LANES), np.float32)
        top, part = np.empty(LANES, np.int16), np.empty((terms, LANES), np.float32)
        base, least, unit = np.int32(254 + frac), np.int32(lowest), np.int32(frac)
        mask, most = np.int64(-1) << np.int64(52 - kept), np.int32(0)
        panels, group = x.shape[1] // LANES, terms * inner
        for panel in range(panels):
            left = panel * LANES
            start = first
            while start < last:
                batch = start // m
                at = batch * panels + panel
                stop = min(min(start + ROWS, last), (batch + 1) * m)
                for row in range(start, stop):
                    for j in range(LANES):
                        sums[row - start, j] = x[row, left + j]
                for k in range(0, a.shape[1], group):
                    if pairs and k // group % 2 == 0:
                        old[:] = sums
                        sums[:] = 0
                    y = b[at, k:k + group].reshape(group, LANES)        # tells the compiler how long a row is
                    claims_y = claims_b[at, k:k + group].reshape(group, LANES)
                    for row in range(start, stop):
                        total_of, w, claims_w = sums[row - start], a[row, k:k + group], claims_a[row, k:k + group]
                        for h in range(0, group, run):
                            for j in range(LANES):
                                claim = top[j] if h else np.int16(NONE)
                                for i in range(h, h + run):
                                    claim = max(claim, np.int16(claims_w[i] + claims_y[i, j]))
                                top[j] = claim
                        if inner > 1:
                            for g in range(terms):
                                f, z = w[g * inner:(g + 1) * inner], y[g * inner:(g + 1) * inner]
                                for j in range(LANES):
                                    p = np.float32(0)
                                    for i in range(inner):
                                        p += f[i] * z[i, j]
                                    part[g, j] = p
                        for j in range(LANES):
                            c = np.float32(total_of[j])
                            own = np.int32(c.view(np.int32) >> np.int32(23)) & np.int32(255)    # a zero's: below lowest
                            if half and c != 0:
                                own = max(own, np.int32(emin))
                            exp = max(max(np.int32(top[j]), np.int32(own)), least)
                            s = np.int32(np.int32(base - exp) << np.int32(23)).view(np.float32)
                            back = np.int32(np.int32(exp - unit) << np.int32(23)).view(np.float32)
                            if inner > 1:
                                total = np.trunc(np.float64(c) * s) + _cut_groups(part, j, s, terms)
                            else:
                                total = np.float64(np.int32(c * s)) + _cut_products(w, y, j, s, 0, min(terms, 16))
                                if terms > 16:
                                    total += _cut_products(w, y, j, s, 16, terms)
                            if half:
                                total = _nearest(total, np.int64(emin + frac + 1023) - exp)
                            else:
                                total = np.int64(np.float64(total).view(np.int64) & mask).view(np.float64)
                            result = np.float32(total) * back
                            total_of[j] = result
                            if half:
                                most = max(most, np.float32(result).view(np.int32) & np.int32(0x7FFF_FFFF))
                    if pairs and k // group % 2:
                        for line in range(stop - start):
                            for j in range(LANES):
                                result = np.float32(sums[line, j] + old[line, j])
                                if half:
                                    result = np.float32(_nearest(result, np.int64(emin - 127 + 1023)))
                                    most = max(most, np.float32(result).view(np.int32) & np.int32(0x7FFF_FFFF))
                                sums[line, j] = result
                for row in range(start, stop):
                    for j in range(LANES):
                        x[row, left + j] = sums[row - start, j]
                start = stop
        return most > MOST

    return rows


# --- the call --------------------------------------------------------------------------------------------------------

@cache
def _sums(ins: Instruction) -> tuple[int, int] | None:
    """How many addends a fused sum has and how many products an addend; None for a row that this road does not know."""
    frac: Any = ins.adder and ins.adder.frac
    operands: list[Any] = [ins.a, ins.b]
    known = ins.method in ("chain", "fp8_through_f16", "exact_groups") and ins.c == ins.d in (_F16, _F32)
    if not known or any(f.bits > 16 and f != _TF32 or f.frac_bits > 10 for f in operands):
        return None
    if ins.rounding != ("rz" if ins.d == _F32 else "rne"):
        return None
    if ins.method == "exact_groups":
        bits = sum(f.frac_bits + 1 + f.emax - f.emin for f in operands) + 2 * (ins.scale.frac_bits + 1) + 4
        small = all(f.emin - f.frac_bits >= -4 and f.emax <= 4 for f in operands)       # they claim nothing
        return (ins.terms, 16) if bits <= 24 and small and frac <= 35 and ins.d == _F32 else None
    terms = ins.k // 2 if ins.method == "fp8_through_f16" else ins.terms
    whole = terms in (4, 8, 16, 32) and ins.k % terms == 0 and frac <= 25
    return (terms, 1) if whole and not (ins.block and ins.scale.frac_bits) else None


def _operand(ins: Instruction, fmt: Any, codes: Array, scales: Any, axis: int) -> tuple[Array, Array] | None:
    """The planes of an operand, its block scales multiplied in; None where they would not be exact."""
    values, claims = _plane(fmt, codes)
    if scales is not None:
        factors, shifts = _plane(ins.scale, scales)
        if max(_range(claims)[1], _range(shifts)[1]) > HIGHEST:
            return None
        factors, shifts = (x.repeat(ins.block, axis) for x in (factors, shifts))
        values = values * factors
        claims = np.where(claims == NONE, claims, shifts if ins.method == "exact_groups" else claims + shifts)
    low, high = _range(claims)
    return (values, claims) if -HIGHEST <= low and high <= HIGHEST else None


def knows(ins: Instruction, columns: int) -> bool:
    """Whether this road may take such a row, and is worth it."""
    return columns >= FEWEST and _sums(ins) is not None


def dots(ins: Instruction, a: Array, b: Array, c: Array, scale_a: Any, scale_b: Any, d: Array, threads: int) -> bool:
    """engine_numba.dots if nothing stands in the way; False, and d as it was, if something does."""
    sums = _sums(ins)
    if not sums:
        return False
    batch, m, k = a.shape
    rows, n, pairs, half = batch * m, b.shape[1], ins.method == "fp8_through_f16", ins.d == _F16
    if pairs:                                               # by instruction, then pair, then k
        at = np.arange(k)
        order = np.lexsort((at, at % 4 // 2, at // ins.k))
        a, b = a[:, :, order], b[:, :, order]
    of_a = _operand(ins, ins.a, a.reshape(rows, k), None if scale_a is None else scale_a.reshape(rows, -1), 1)
    of_b = of_a and _operand(ins, ins.b, _panels(b), None if scale_b is None else _panels(scale_b), 1)
    if not of_a or not of_b:
        return False
    (low_a, high_a), (low_b, high_b) = _range(of_a[1]), _range(of_b[1])
    start, own = _plane(ins.c, c.reshape(rows, n))
    low_c, high_c = _range(own)
    low = LEAST + ins.adder.frac
    if not (low <= low_a + low_b and high_a + high_b <= HIGH and low <= low_c and high_c <= HIGH and k < 1 << 30):
        return False
    x = np.zeros((rows, -(-n // LANES) * LANES), np.float32)
    x[:, :n] = start
    kernel = _kernel(*sums, half)

    def work(first: int, last: int) -> bool:
        return kernel(first, last, m, *of_a, of_b[0], of_b[1] + np.int16(127), x, ins.adder.frac,
                      max(ins.floor, LEAST) + 127, ins.d.emin + 127, ins.precision, pairs)

    edges = [rows * i // threads for i in range(threads + 1)]
    bad = any(spread(lambda part: work(*part), list(zip(edges, edges[1:])), threads))
    if not bad:
        d[...] = (x[:, :n].astype(np.float16) if half else x[:, :n]).view(d.dtype).reshape(d.shape)
    return not bad
