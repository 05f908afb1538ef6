"""The methods of `exact.x86` for the Numba engine: float32 steps in double precision, and NaN by its place.

WHY A STEP IS EXACT. x, y and z are numbers of float32, and x and y have few bits (bfloat16, float16; or one is 1), so
x * y is a double. With s = x * y + z rounded to a double, x * y + z is exactly s + e (TwoSum: Knuth, TAOCP volume 2,
section 4.2.2, theorem B; nothing overflows, no double is subnormal here). s + e is rounded to 24 bits on the bits of
s, unless s lies halfway between two numbers of 24 bits: then e decides, and if it is zero the tie. Where s is no such
tie, |e| <= ulp(s) / 2 cannot reach one. The exponent of a double is unbounded for this purpose, so what is less than
2**-126 afterwards is flushed.

Steps know no payloads: an element that comes out as NaN is redone from the codes. Inside a chain the operand NaN of the
latest k wins, A before B, and one made by an invalid operation only where there is no other; C goes before the even
chain, and that before the odd one.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..errors import EngineUnavailable
from ..formats import FORMATS
from ..instructions import Instruction
from . import _values

__all__ = ["dots"]

Array = np.ndarray
_jit = numba.njit(cache=True, nogil=True)
_F32: Any = FORMATS["float32"]
_QUIET = np.uint32(_F32.nan_code)


@_jit
def _fma(x, y, z):
    """x * y + z rounded to float32, to nearest, with subnormal results flushed; NaN where there is any."""
    p = x * y
    s = p + z
    if not abs(s) < np.inf:
        return s
    part = s - p
    e = (p - (s - part)) + (z - part)
    bits = np.float64(s).view(np.int64)
    half = np.int64(1) << 28
    cut = bits & (2 * half - 1)
    up = cut > half
    if cut == half:
        up = (e > 0) == (s > 0) if e != 0 else (bits >> 29) & 1 == 1
    r = np.int64(bits - cut + 2 * half * np.int64(up)).view(np.float64)
    if abs(r) < 2.0**-126:
        return np.copysign(0.0, s)
    return np.copysign(np.inf, s) if abs(r) >= 2.0**128 else r


@_jit
def _two_chains(a, b, c):
    even, odd = 0.0, 0.0
    for k in range(0, len(a), 2):
        even = _fma(a[k], b[k], even)
        odd = _fma(a[k + 1], b[k + 1], odd)
    return _fma(c, 1.0, _fma(even, 1.0, odd)), even != even


@_jit
def _odd_then_even(a, b, c):
    for k in range(0, len(a), 2):
        c = _fma(a[k], b[k], _fma(a[k + 1], b[k + 1], c))
    return c, True


@_jit
def _all(a, b, c, start, stop, chains, d, even_nan):
    for i in range(d.shape[0]):
        for row in range(d.shape[1]):
            for col in range(d.shape[2]):
                x, y = a[i, row, start:stop], b[i, col, start:stop]
                if chains:
                    d[i, row, col], even_nan[i, row, col] = _two_chains(x, y, c[i, row, col])
                else:
                    d[i, row, col], even_nan[i, row, col] = _odd_then_even(x, y, c[i, row, col])


def _nans(fmt: Any, codes: Array) -> tuple[Array, Array]:
    """Which codes are NaN, and the float32 code of each as a quiet one."""
    wide = codes.astype(np.uint32)
    payload = (wide & np.uint32((1 << fmt.frac_bits) - 1)) << np.uint32(_F32.frac_bits - fmt.frac_bits)
    sign = (wide & np.uint32(fmt.sign)) << np.uint32(32 - fmt.bits)
    return (wide & np.uint32(fmt.magnitude)) > np.uint32(fmt.inf_code or 0), sign | _QUIET | payload


def _nan_codes(ins: Instruction, a: Array, b: Array, c: Array, even_nan: Array) -> Array:
    """The codes of NaN results (P,), from those of their operands a and b (P, k) and c (P,).

    even_nan (P,): the even chain came out as NaN.
    """
    def among(k: Array) -> tuple[Array, Array]:                         # the latest k first, A before B
        found = _nans(ins.a, a[:, k[::-1]]), _nans(ins.b, b[:, k[::-1]])
        is_nan, codes = (np.stack([side[i] for side in found], 2).reshape(len(a), 2 * len(k)) for i in (0, 1))
        return is_nan, codes

    def indefinite(where: Array) -> tuple[Array, Array]:
        return where[:, None], np.full((len(a), 1), _QUIET | np.uint32(_F32.sign))

    k, end = np.arange(ins.k), indefinite(np.ones(len(a), bool))
    of_c = _nans(ins.c, c[:, None])
    if ins.method == "two_chains":
        parts = [of_c, among(k[::2]), indefinite(even_nan), among(k[1::2]), end]
    else:
        parts = [among(k.reshape(-1, 2)[:, ::-1].ravel()), of_c, end]
    is_nan, codes = (np.concatenate([part[i] for part in parts], 1) for i in (0, 1))
    return codes[np.arange(len(a)), is_nan.argmax(1)]


def _numbers(fmt: Any, codes: Array) -> Array:
    """The values of the codes; a subnormal of float32 counts as a zero of its sign."""
    values = _values(fmt, codes)
    return np.where(np.abs(values) < 2.0**-126, np.copysign(0.0, values), values)


def dots(ins: Instruction, a: Array, b: Array, c: Array, scale_a: Any, scale_b: Any, d: Array) -> None:
    """As engine_numba.dots. Raises EngineUnavailable for formats in which a step would not be exact."""
    narrow = FORMATS["bfloat16"], FORMATS["float16"]
    if ins.a not in narrow or ins.b not in narrow or ins.c != _F32 or ins.d != _F32 or ins.k % 2:
        raise EngineUnavailable(f"the Numba engine cannot do {ins}: it takes this method from bfloat16 or float16 to "
                                "float32, and an even k; engine='exact' can")
    with np.errstate(all="ignore"):
        x, y, z = _numbers(ins.a, a), _numbers(ins.b, b), _numbers(_F32, c)
        result, even_nan = np.empty(d.shape), np.empty(d.shape, bool)
        for start in range(0, a.shape[2], ins.k):
            stop = start + ins.k
            _all(x, y, z, start, stop, ins.method == "two_chains", result, even_nan)
            d[...] = result.astype(np.float32).view(np.uint32)
            i, row, col = place = np.nonzero(np.isnan(result))
            d[place] = _nan_codes(ins, a[i, row, start:stop], b[i, col, start:stop], c[place], even_nan[place])
            z, c = result.copy(), d.copy()
