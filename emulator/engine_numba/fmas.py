"""The Numba engine's fast road for IEEE chains: x * y + z rounded once to nearest, from additions and products alone.

The C engine computes with the processor's own fma, the slow road with integers of two limbs; here is neither. `dots`
says False to infinities, NaN, extreme exponents and other rounding modes.

WHY IT IS EXACT. x and y are zero or in 2**-400..2**400, C is zero or in 2**-900..2**900. So every number here is a
multiple of 2**-1000 and below 2**1000: no operation overflows, and none meets a subnormal that it must round.
(1) p + e = x * y: p is the product rounded, e its error, from halves of 26 bits (Dekker 1971, doi 10.1007/BF01397083).
(2) s + t = p + z and r + d = t + e: TwoSum (Knuth, TAOCP volume 2, section 4.2.2, theorem B). So x * y + z = s + r + d.
(3) If e = 0 the answer is s, with the sign of zero that IEEE 754 wants. If t = 0, then r = e, d = 0, and s + r rounds
    once. Otherwise p + z was not a double, and ulp(s) >= ulp(p) / 2: p + z is a multiple of the lesser ulp, u, and so
    above 2**53 u; if u = ulp(z) <= ulp(p) / 4, then |z| < 2**51 ulp(p) <= |p| / 2 and |p + z| > 2**51 ulp(p).
    So |e| <= ulp(p) / 2 <= ulp(s), |t| <= ulp(s) / 2 and |t + e| <= 1.5 ulp(s): it lies 50 places below s. Rounded to
    odd, which r becomes by d's sign, it rounds on with s as if it were exact (Boldo and Melquiond 2008,
    doi 10.1109/TC.2007.70819).
(4) Of float32, e = 0: s and t alone, and s rounded to odd with 53 >= 24 + 2 bits rounds on to float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from ..formats import FORMATS
from ..instructions import Instruction
from ..threads import spread
from .lanes import FEWEST, LANES, ROWS, _panels, _wide

__all__ = ["dots", "knows"]

Array = np.ndarray
_jit = numba.njit(cache=True, nogil=True)


@_jit
def _halves(x):
    high = x * 134217729.0                                              # 2**27 + 1 (Veltkamp)
    high = high - (high - x)
    return high, x - high


@_jit
def _two_sum(x, y):
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


@_jit
def _odd(x, error):
    """x + error, whose nearest double is x, rounded to odd: one down if x is too large, then the last bit is set."""
    bits = np.float64(x).view(np.int64)
    down = np.int64(bits ^ np.float64(error).view(np.int64)) >> np.int64(63)     # -1 if the signs differ
    return np.int64((bits + down) | np.int64(1) if error != 0 else bits).view(np.float64)


@_jit
def _fma(x, x_high, x_low, y, y_high, y_low, z):
    p = x * y
    e = x_low * y_low - (((p - x_high * y_high) - x_low * y_high) - x_high * y_low)
    s, t = _two_sum(p, z)
    r, d = _two_sum(t, e)
    total = s + _odd(r, d)
    return total if e != 0 else s


@_jit
def _fma_of_singles(x, y, z):
    s, t = _two_sum(x * y, z)
    return np.float64(np.float32(_odd(s, t)))


@cache
def _kernel(single: bool) -> Callable[..., None]:
    @_jit
    def rows(first, last, m, a, b, x):
        """Rows first..last-1 of x (rows, panels * LANES), C on entry and D on exit. a: (rows, k); b: (batch * panels,
        k, LANES)."""
        _wide()  # type: ignore[call-arg]
        sums, high, low = np.empty((ROWS, LANES)), np.empty(LANES), np.empty(LANES)
        panels = x.shape[1] // LANES
        for panel in range(panels):
            left, start = panel * LANES, first
            while start < last:
                stop = min(min(start + ROWS, last), (start // m + 1) * m)
                for row in range(start, stop):
                    for j in range(LANES):
                        sums[row - start, j] = x[row, left + j]
                for k in range(a.shape[1]):
                    y = b[start // m * panels + panel, k]
                    for j in range(LANES):
                        high[j], low[j] = _halves(y[j])
                    for row in range(start, stop):
                        z, w = sums[row - start], a[row, k]
                        w_high, w_low = _halves(w)
                        for j in range(LANES):
                            if single:
                                z[j] = _fma_of_singles(w, y[j], z[j])
                            else:
                                z[j] = _fma(w, w_high, w_low, y[j], high[j], low[j], z[j])
                for row in range(start, stop):
                    for j in range(LANES):
                        x[row, left + j] = sums[row - start, j]
                start = stop
    return rows


def _within(x: Array, limit: int) -> bool:
    size = np.abs(x)
    return bool(((size == 0) | (size >= 2.0 ** -limit) & (size <= 2.0 ** limit)).all())


def knows(ins: Instruction, columns: int) -> bool:
    """Whether this road may take such a row, and is worth it."""
    return columns >= FEWEST and ins.method == "fma_chain" and ins.rounding == "rne"


def dots(ins: Instruction, a: Array, b: Array, c: Array, scale_a: Any, scale_b: Any, d: Array, threads: int) -> bool:
    """engine_numba.dots if nothing stands in the way; False, and d as it was, if something does."""
    if not knows(ins, b.shape[1]):
        return False
    single = ins.d == FORMATS["float32"]
    rows, n, host = c.shape[0] * c.shape[1], c.shape[2], np.float32 if single else np.float64
    values: list[Any] = [codes.view(host).astype(np.float64) for codes in (a, b, c)]
    if not all(_within(x, limit) for x, limit in zip(values, (400, 400, 900))):
        return False
    x = np.zeros((rows, -(-n // LANES) * LANES))
    x[:, :n] = values[2].reshape(rows, n)
    kernel, lines, panels = _kernel(single), values[0].reshape(rows, -1), _panels(values[1])
    edges = [rows * i // threads for i in range(threads + 1)]
    spread(lambda part: kernel(*part, a.shape[1], lines, panels, x), list(zip(edges, edges[1:])), threads)
    if not np.isfinite(x).all():                        # float32 overflowed; what followed is not what it should be
        return False
    d[...] = x[:, :n].astype(host).view(d.dtype).reshape(d.shape)
    return True
