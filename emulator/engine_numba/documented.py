"""The methods of `exact.documented` for the Numba engine: in double precision, every error kept.

WHY IT IS EXACT. The products here are doubles. A sum of two is s + e exactly (TwoSum: Knuth, TAOCP volume 2, section
4.2.2, theorem B; no double overflows or is subnormal). s, rounded to odd by e, has 53 bits, and float32 or float16
rounds that as it would s + e (Boldo and Melquiond 2008, doi 10.1109/TC.2007.70819: two bits more suffice). FP8 products
are multiples of 2**-32 and, up to eight, below 2**35: their whole parts and their fractions add up without error.
NaN is decided from the codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import EngineUnavailable
from ..formats import FORMATS
from ..instructions import Instruction
from . import RNE, _by_rows, _fma_rows, _values

__all__ = ["dots"]

Array = np.ndarray
_BF16, _F16, _F32, _F64 = (FORMATS[name] for name in ("bfloat16", "float16", "float32", "float64"))
_FP8 = FORMATS["float8_e4m3fn"], FORMATS["float8_e5m2"]
_HOST = {_F16: np.float16, _F32: np.float32}
_Nan = tuple[Array, Array]      # where a NaN is, and its code


# --- sums ------------------------------------------------------------------------------------------------------------

def _two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    s = x + y
    part = s - x
    return s, (x - (s - part)) + (y - part)


def _odd(s: Array, e: Array) -> Array:
    """s + e rounded to odd: where s is even and not all, the double next to it on the side of e."""
    bits = s.view(np.int64)
    step = np.where(np.signbit(s) == np.signbit(e), 1, -1)
    return (bits + step * ((np.abs(e) > 0) & (bits & 1 == 0))).view(np.float64)


def _odd_single(x: Array) -> Array:
    """x rounded to an odd float32; below 2**-126 flushed, from 2**128 on infinite."""
    bits = x.view(np.int64)
    low = bits & 0x1FFF_FFFF
    cut = (bits - low | np.where(low > 0, 0x2000_0000, 0)).view(np.float64)
    cut = np.where(np.abs(x) >= 2.0**128, np.copysign(np.inf, x), np.where(np.isnan(x), x, cut))
    return np.where(np.abs(x) < 2.0**-126, np.copysign(0.0, x), cut)


def _flushed(x: Array) -> Array:
    return np.where(np.abs(x) < 2.0**-126, np.copysign(0.0, x), x)


def _single(x: Array, y: Array) -> Array:
    """x + y as a float32, to nearest."""
    return _odd(*_two_sum(x, y)).astype(np.float32).astype(np.float64)


def _total(products: list[Array], scale: Array, c: Array, to: Any) -> Array:
    """All of `products`, times a power of two, and c, rounded once to nearest."""
    if len(products) == 1:
        s, e = products[0] * scale, np.zeros_like(c)
    else:
        whole = [np.rint(p) for p in products]
        s, e = (x * scale for x in _two_sum(sum(whole[1:], whole[0]), sum(p - w for p, w in zip(products, whole))))
    t, u = _two_sum(c, s)                       # c + s + e = t + u + e; were u not zero, t would be far above e
    v, w = _two_sum(u, e)
    t, v = _two_sum(t, v)                       # v is a multiple of ulp(v) before, so more than w, or zero
    odd = np.where((t == 0) & (v == 0), w, _odd(t, np.where(v != 0, v, w)))
    plain = sum(products[1:], products[0]) * scale + c
    odd = np.where(np.isfinite(plain), odd, plain)
    minus = np.signbit(c)
    for p in products:
        minus = minus & np.signbit(p)           # an exact zero is -0 only of zeros that are all -0
    return np.where(odd == 0, np.where(minus, -0.0, 0.0), odd).astype(_HOST[to]).astype(np.float64)


# --- NaN --------------------------------------------------------------------------------------------------------------

def _nan(fmt: Any, to: Any, codes: Array) -> _Nan:
    """Which codes of fmt are NaN, and those of `to`, quiet, that keep sign and payload."""
    wide = codes.astype(np.uint64)
    frac = (wide & np.uint64((1 << fmt.frac_bits) - 1)) << np.uint64(to.frac_bits - fmt.frac_bits)
    sign = (wide & np.uint64(fmt.sign)) << np.uint64(to.bits - fmt.bits)
    return (wide & np.uint64(fmt.magnitude)) > np.uint64(fmt.inf_code), sign | frac | np.uint64(to.nan_code)


def _first(found: list[_Nan], default: int) -> Array:
    return np.select([where for where, _ in found], [code for _, code in found], np.uint64(default))


# --- steps: one instruction's K --------------------------------------------------------------------------------------
#
# Values x (batch, m, k), y (batch, n, k), c (batch, m, n) and their codes a, b, c_codes; they return values, and codes
# of what is NaN.

def _products(x: Array, y: Array) -> list[Array]:
    return [x[:, :, None, k] * y[:, None, :, k] for k in range(x.shape[2])]


def _spread(a: Array, b: Array, shape: tuple[int, ...], k: int) -> tuple[Array, Array]:
    return np.broadcast_to(a[:, :, None, k], shape), np.broadcast_to(b[:, None, :, k], shape)


def _step(ins: Instruction, x: Array, y: Array, c: Array, scale: Any, a: Array, b: Array,
          c_codes: Array) -> tuple[Array, Array]:
    d: Any = ins.d
    default = np.full(c.shape, d.nan_code, np.uint64)
    if ins.method == "odd_pairs":
        p, c = [_odd_single(p) for p in _products(_flushed(x), _flushed(y))], _flushed(c)
        for k in range(0, len(p), 2):
            pair = _odd_single(_odd(*_two_sum(p[k], p[k + 1])))
            c = _odd_single(_odd(*_two_sum(c, pair)))
        return c, default
    p = _products(x, y)
    if ins.method == "fused_pairs":
        for k in range(0, len(p), 2):
            c = _single(c, _single(p[k], p[k + 1]))
        return c, default
    if ins.method == "scaled_sum":
        return _total(p, scale, c, d), default
    (a0, b0), of_c = _spread(a, b, c.shape, 0), _nan(d, d, c_codes)
    of_a, of_b = _nan(ins.a, d, a0), _nan(ins.b, d, b0)
    if ins.method == "power_pairs":
        a1, b1 = _spread(a, b, c.shape, 1)
        pair = _single(p[0], p[1])
        odd = _nan(ins.a, d, a1), _nan(ins.b, d, b1), (np.isnan(p[1]), default)
        return _single(pair, c), _first([of_a, *odd, of_b, (np.isnan(pair), default), of_c], d.nan_code)
    if d == _F64:
        result = c.copy()
        _by_rows(_fma_rows, x, np.ascontiguousarray(y.swapaxes(1, 2)), result.reshape(-1, c.shape[2]), RNE,
                 False, macs=c.size)
    else:
        result = _single(p[0], c)
    if ins.method == "power_fma":
        return result, _first([of_a, of_c, of_b], d.nan_code)
    quiet = [(codes & np.array(1 << (f.frac_bits - 1), codes.dtype)) > 0 for f, codes in ((d, c_codes), (ins.a, a0),
                                                                                       (ins.b, b0))]
    order = [of_c, of_a, of_b]
    signalling = [(where & ~q, code) for (where, code), q in zip(order, quiet)]
    invalid = (np.isnan(p[0]) & ~of_a[0] & ~of_b[0], default)
    return result, _first([*signalling, invalid, *order], d.nan_code)


def _refusal(ins: Instruction) -> str:
    pairs = ins.method in ("odd_pairs", "fused_pairs", "power_pairs")
    operands = {ins.a, ins.b}
    narrow = operands <= {_BF16, _F16} and ins.d == _F32
    fp8 = operands <= set(_FP8) and ins.d in (_F16, _F32) and ins.k <= 8
    same, double = operands == {ins.d} == {_F32}, operands == {ins.d} == {_F64}
    fits = {"scaled_sum": fp8 or (ins.k == 1 and (narrow or same)), "power_fma": narrow or same or double}
    if ins.c != ins.d or not fits.get(str(ins.method), narrow) or (pairs and ins.k % 2):
        return "it takes this method in the table's formats alone"
    return "it takes one step of this method at a time" if ins.k > (2 if pairs else 1) and ins.method in (
        "power_pairs", "power_fma", "arm_fma") else ""


def dots(ins: Instruction, a: Array, b: Array, c: Array, scale_a: Any, scale_b: Any, d: Array) -> None:
    """As engine_numba.dots. Raises EngineUnavailable for formats in which a step would not be exact."""
    if why := _refusal(ins):
        raise EngineUnavailable(f"the Numba engine cannot do {ins}: {why}; engine='exact' can")
    with np.errstate(all="ignore"):
        x, y, z = _values(ins.a, a), _values(ins.b, b), _values(ins.d, c)
        for step, start in enumerate(range(0, a.shape[2], ins.k)):
            part, scale = slice(start, start + ins.k), np.ones(())
            if ins.scale:
                scale = _values(ins.scale, scale_a)[:, :, None, step] * _values(ins.scale, scale_b)[:, None, :, step]
            z, nans = _step(ins, x[:, :, part], y[:, :, part], z, scale, a[:, :, part], b[:, :, part], c)
            host: Any = _HOST.get(ins.d, np.float64)        # type: ignore[call-overload]
            codes = z.astype(host).view(ins.d.code_dtype)
            c = d[...] = np.where(np.isnan(z), nans.astype(ins.d.code_dtype), codes)
            z = np.where(np.isnan(z), np.nan, z)
