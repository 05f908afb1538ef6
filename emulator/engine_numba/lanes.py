"""The Numba engine's fast road: fused sums over ordinary numbers, 64 columns abreast.

It takes what most calls hold: finite numbers whose products and sums stay far inside float32's range. `dots` says False
to the rest, infinities and NaN above all, and engine_numba goes its own way, with the same bits. From the C engine it
differs in method: exponents come from tables that `exact.decode` filled and are compared as 16-bit integers, a sum is
rounded in double precision, by clearing bits, and no rounding mode or flushing of the processor is touched.

WHY IT IS EXACT. F = frac; E, the exponent a sum is aligned to; LOW = -60, HIGH = 60. `dots` has seen that every product
that is not zero, and C, if it is not, claims an exponent in LOW..HIGH.
(1) A product has at most 11 + 11 bits, and the smallest is 2**(LOW - 20): float32 holds it exactly.
(2) E >= LOW if a product is not zero; then the sum, a multiple of 2**(E - F), is zero or at least 2**LEAST, LEAST =
    LOW - 25. If every product is zero C passes unchanged. So a sum that is not zero never falls below 2**LEAST, and in
    2**30 steps it cannot reach 2**(HIGH + 34). E lies between LEAST and that: 2**(F - E) is a normal float32.
(3) Scaling by 2**(F - E) is exact in float32 down to 2**-126, and what falls below is less than 1 and cut to 0 anyway.
    The conversion to int32 cuts toward zero, as `exact.fused_sum` does. A cut product is below 4 * 2**F; `run` of them
    stay within 32 bits, run * 4 * 2**F <= 2**31. Runs and C, which is below 2 * 2**F, are added in double: below 2**53.
(4) The total is exact in double, so is its product with 2**(E - F). Toward zero: clearing the low 52 - kept bits of a
    normal double cuts its magnitude. To nearest, for float16: `_nearest` rounds in units of the last bit kept.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numba
import numpy as np

from .. import exact
from ..formats import FORMATS
from ..instructions import Instruction
from ..threads import spread

__all__ = ["dots"]

Array = np.ndarray
_jit = numba.njit(cache=True, nogil=True)

LANES = 64                          # columns abreast; their sums and scales stay in the first-level cache
FEWEST = 16                         # columns that are worth it
ROWS = 32                           # of a block that works on one group of k before the next
LOW, HIGH = -60, 60                 # claims of products
LEAST = LOW - 25
HIGHEST = 100                       # claims of operands, scales included: they are normal numbers of float32
NONE = -8192                        # the exponent of zero: below all others, also after adding any
SPECIAL = 8192                      # of an infinity or NaN
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
        return values[codes], claims[codes]
    codes = codes & ~codes.dtype.type((1 << fmt.low_pad) - 1)
    claims = (codes >> 23 & 255).astype(np.int16)
    np.subtract(np.maximum(claims, 1), 127, out=claims, where=claims < 255)
    claims[codes << 1 == 0] = NONE
    claims[claims == 255] = SPECIAL
    return codes.view(np.float32), claims


def _range(claims: Array) -> tuple[int, int]:
    """The least and the largest claim of numbers that are not zero; (0, 0) if all are zero."""
    top = int(claims.max(initial=NONE))
    return (0, 0) if top == NONE else (int(claims.min(initial=SPECIAL, where=claims != NONE)), top)


def _panels(codes: Array) -> Array:
    """(batch, n, k) as (batch * panels, k, LANES), the last panel of each filled up with zeros."""
    batch, n, k = codes.shape
    panels = -(-n // LANES)
    if n < panels * LANES:
        codes = np.concatenate((codes, np.zeros((batch, panels * LANES - n, k), codes.dtype)), 1)
    return np.ascontiguousarray(codes.reshape(batch * panels, LANES, k).swapaxes(1, 2))


# --- the kernel ------------------------------------------------------------------------------------------------------

@_jit
def _power(exp):
    """2.0**exp from its bits, -1022 <= exp <= 1023."""
    return np.int64((exp + 1023) << 52).view(np.float64)


@_jit
def _nearest(x, emin):
    """x rounded to float16's 10 fraction bits, ties to even, exponents from emin up and no end."""
    exponent = max((np.float64(x).view(np.int64) >> 52 & 0x7FF) - 1023, emin)
    return np.rint(x * _power(10 - exponent)) * _power(exponent - 10) + 0.0


@_jit
def _rows(first, last, m, a, claims_a, b, claims_b, x, group, run, frac, lowest, emin, kept, half, pairs):
    """Rows first..last-1 of x (rows, panels * LANES), C on entry and D on exit. a: (rows, k); b: (batch * panels, k,
    LANES). Exponents are biased by 127: claims_b, lowest, emin.

    pairs: two groups at a time are summed from zero, then added to C as IEEE 754 adds. True: some sum left float16.
    In the loops over columns each integer says its width, or Numba makes 64 bits of it. Around them there are no slices
    of arrays, whose references would be counted, and no calls: each costs as much as ten products.
    """
    old, sums = np.zeros((ROWS, LANES), np.float32), np.zeros((ROWS, LANES), np.float32)
    top, exp, scale = np.empty(LANES, np.int16), np.empty(LANES, np.int32), np.empty(LANES, np.float32)
    part, total = np.empty(LANES, np.int32), np.empty(LANES)
    base, least, normal, unit = np.int32(254 + frac), np.int32(lowest), np.int32(emin), np.int32(frac)
    mask = np.int64(-1) << np.int64(52 - kept)
    bad = False
    panels = x.shape[1] // LANES
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
                    for line in range(stop - start):
                        for j in range(LANES):
                            old[line, j] = sums[line, j]
                            sums[line, j] = 0
                for line in range(stop - start):
                    row = start + line
                    for j in range(LANES):
                        top[j] = NONE
                    for i in range(k, k + group, 4):
                        e0, e1 = claims_a[row, i], claims_a[row, i + 1]
                        e2, e3 = claims_a[row, i + 2], claims_a[row, i + 3]
                        for j in range(LANES):
                            e01 = max(np.int16(e0 + claims_b[at, i, j]), np.int16(e1 + claims_b[at, i + 1, j]))
                            e23 = max(np.int16(e2 + claims_b[at, i + 2, j]), np.int16(e3 + claims_b[at, i + 3, j]))
                            top[j] = max(top[j], max(e01, e23))
                    for j in range(LANES):                          # C's own claim; a zero's lies below lowest
                        own = np.int32(np.float32(sums[line, j]).view(np.int32) >> np.int32(23)) & np.int32(255)
                        exp[j] = max(max(np.int32(top[j]), np.int32(own)), least)
                    if half:
                        for j in range(LANES):
                            exp[j] = max(exp[j], normal) if sums[line, j] != 0 else exp[j]
                    for j in range(LANES):
                        s = np.int32(np.int32(base - exp[j]) << np.int32(23)).view(np.float32)
                        scale[j] = s
                        total[j] = np.int32(sums[line, j] * s)
                    for here in range(k, k + group, run):
                        for j in range(LANES):
                            part[j] = 0
                        for i in range(here, here + run, 4):
                            a0, a1, a2, a3 = a[row, i], a[row, i + 1], a[row, i + 2], a[row, i + 3]
                            for j in range(LANES):
                                s = scale[j]
                                y = np.int32(a0 * b[at, i, j] * s) + np.int32(a1 * b[at, i + 1, j] * s)
                                z = np.int32(a2 * b[at, i + 2, j] * s) + np.int32(a3 * b[at, i + 3, j] * s)
                                part[j] += np.int32(y + z)
                        for j in range(LANES):
                            total[j] += part[j]
                    if half:
                        for j in range(LANES):
                            w = _nearest(total[j] / np.float64(scale[j]), emin - 127)
                            bad |= abs(w) > 65504
                            sums[line, j] = w
                    else:
                        for j in range(LANES):
                            w = np.int64(np.float64(total[j]).view(np.int64) & mask).view(np.float64)
                            s = np.int32(np.int32(exp[j] - unit) << np.int32(23)).view(np.float32)
                            sums[line, j] = np.float32(w) * s
                if pairs and k // group % 2:
                    for line in range(stop - start):
                        for j in range(LANES):
                            w = np.float64(np.float32(sums[line, j] + old[line, j]))
                            if half:
                                w = _nearest(w, emin - 127)
                                bad |= abs(w) > 65504
                            sums[line, j] = w
            for row in range(start, stop):
                for j in range(LANES):
                    x[row, left + j] = sums[row - start, j]
            start = stop
    return bad


# --- the call --------------------------------------------------------------------------------------------------------

@cache
def _run(ins: Instruction) -> int:
    """How many products fit in 32 bits; 0 for a row that this road does not know."""
    known = ins.method in ("chain", "fp8_through_f16") and ins.c == ins.d in (_F16, _F32)
    operands = [ins.a, ins.b]
    if not known or any(f.bits > 16 and f != _TF32 or f.frac_bits > 10 for f in operands) or ins.adder.frac > 25:
        return 0
    if ins.rounding != ("rz" if ins.d == _F32 else "rne") or (ins.block and ins.scale.specials != "exponent"):
        return 0
    group = ins.k // 2 if ins.method == "fp8_through_f16" else ins.terms
    run = min(group, 1 << 29 >> ins.adder.frac)
    return run if run % 4 == 0 and group % run == 0 and ins.k % group == 0 else 0


def _operand(fmt: Any, codes: Array, scale: Any, scales: Any, axis: int) -> tuple[Array, Array] | None:
    """The planes of an operand, its block scales multiplied in; None where they would not be exact."""
    values, claims = _plane(fmt, codes)
    if scales is not None:
        factors, shifts = _plane(scale, scales)
        if max(_range(claims)[1], _range(shifts)[1]) > HIGHEST:
            return None
        times = codes.shape[axis] // scales.shape[axis]
        values = values * factors.repeat(times, axis)
        claims = np.where(claims == NONE, np.int16(NONE), claims + shifts.repeat(times, axis))
    low, high = _range(claims)
    return (values, claims) if -HIGHEST <= low and high <= HIGHEST else None


def dots(ins: Instruction, a: Array, b: Array, c: Array, scale_a: Any, scale_b: Any, d: Array, threads: int) -> bool:
    """engine_numba.dots if nothing stands in the way; False, and d as it was, if something does."""
    run = _run(ins)
    if not run or b.shape[1] < FEWEST:
        return False
    batch, m, k = a.shape
    rows, n, pairs, half = batch * m, b.shape[1], ins.method == "fp8_through_f16", ins.d == _F16
    if pairs:                                               # by instruction, then pair, then k
        at = np.arange(k)
        order = np.lexsort((at, at % 4 // 2, at // ins.k))
        a, b = a[:, :, order], b[:, :, order]
    of_a = _operand(ins.a, a.reshape(rows, k), ins.scale, None if scale_a is None else scale_a.reshape(rows, -1), 1)
    of_b = of_a and _operand(ins.b, _panels(b), ins.scale, None if scale_b is None else _panels(scale_b), 1)
    if not of_a or not of_b:
        return False
    (low_a, high_a), (low_b, high_b) = _range(of_a[1]), _range(of_b[1])
    sums, own = _plane(ins.c, c.reshape(rows, n))
    low_c, high_c = _range(own)
    if not (LOW <= low_a + low_b and high_a + high_b <= HIGH and LOW <= low_c and high_c <= HIGH and k < 1 << 30):
        return False
    x = np.zeros((rows, -(-n // LANES) * LANES), np.float32)
    x[:, :n] = sums
    group = k and (ins.k // 2 if pairs else ins.terms)

    def work(first: int, last: int) -> bool:
        return _rows(first, last, m, *of_a, of_b[0], of_b[1] + np.int16(127), x, group, run, ins.adder.frac,
                     max(ins.floor, LEAST) + 127, ins.d.emin + 127, ins.precision, half, pairs)

    edges = [rows * i // threads for i in range(threads + 1)]
    bad = any(spread(lambda part: work(*part), list(zip(edges, edges[1:])), threads))
    if not bad:
        d[...] = (x[:, :n].astype(np.float16) if half else x[:, :n]).view(d.dtype).reshape(d.shape)
    return not bad
