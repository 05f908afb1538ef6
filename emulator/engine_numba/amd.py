"""The methods of `exact.amd` for the Numba engine: whole arrays in double precision, each step proven exact.

A number is a double, and so is the power of two that it claims in the alignment: see engine_numba, whose (1) and (2)
hold here too. Arrays do the work, a k at a time; nothing is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..errors import EngineUnavailable
from ..exact.amd import SUM_FRAC
from ..instructions import Instruction
from . import _F32, _claims, _codes, _values

__all__ = ["METHODS", "dots"]

Array = np.ndarray

_LEAST = math.ldexp(1.0, _F32.emin)  # type: ignore[union-attr]


def _single(x: Array) -> Array:
    """Rounded to float32, to nearest."""
    return x.astype(np.float32).astype(np.float64)


def _groups(ins: Instruction, k: int) -> Iterator[range]:
    """The k of each group, instruction after instruction."""
    for first in range(0, k, ins.k):
        for start in range(first, first + ins.k, ins.terms):
            yield range(start, min(start + ins.terms, first + ins.k))


def _products(a: Array, b: Array, group: range) -> list[Array]:
    """Exact: no product here has more than 22 bits."""
    return [a[:, :, k, None] * b[:, None, k] for k in group]


# --- CDNA1 -----------------------------------------------------------------------------------------------------------

def _two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """fl(x + y) and its error, exactly (Knuth, TAOCP 2, 4.2.2, theorem B)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _sum_to_odd(addends: list[Array]) -> Array:
    """The exact sum rounded to odd: it may be rounded once more, to 51 bits or fewer, as if it were exact (Boldo and
    Melquiond 2008, doi 10.1109/TC.2007.70819).

    Errors move down and sums up the list until nothing moves: then each number is at most half a last bit of the next,
    so that the last one is the sum but for less than its last bit, in the direction of the one before. Infinities and
    NaN make NaN.
    """
    parts = list(addends)
    moving = True
    while moving:
        moving = False
        for i in range(len(parts) - 1):
            total, error = _two_sum(parts[i + 1], parts[i])
            moving = moving or not np.array_equal(total, parts[i + 1], equal_nan=True)
            parts[i + 1], parts[i] = total, error
    most, rest = parts[-1], parts[-2]
    even = most.view(np.uint64) & np.uint64(1) == 0
    return np.where(even & (rest != 0), np.nextafter(most, np.copysign(np.inf, rest)), most)


def exact_sums(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    """Products and C without error, rounded once."""
    for group in _groups(ins, a.shape[2]):
        addends = [*_products(a, b, group), c]
        plain = sum(addends)                                                # has no overflow: 2**256 is far away
        odd = _sum_to_odd(addends)
        c = np.where(np.isfinite(plain), np.where(odd == 0, 0.0, _single(odd)), plain)
    return c


# --- CDNA2 -----------------------------------------------------------------------------------------------------------

def _flushed(x: Array, least: float = _LEAST) -> Array:
    return np.where(np.abs(x) < least, np.copysign(0.0, x), x)


def flushed_pairs(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    """Steps of float32, each rounded from double, which has more than twice the bits (see engine_numba._add)."""
    a, b = (_flushed(x, math.ldexp(1.0, fmt.emin)) + 0.0 for x, fmt in ((a, ins.a), (b, ins.b)))  # type: ignore[union-attr]
    for group in _groups(ins, a.shape[2]):
        if group.start % ins.k == 0:
            c = _flushed(c) + 0.0                                           # -0 + 0 is +0
        parts = [_flushed(_single(p)) for p in _products(a, b, group)]
        while len(parts) > 1:
            parts = [_flushed(_single(x + y)) for x, y in zip(parts[::2], parts[1::2])]
        c = _flushed(_single(c + parts[0]))
    return c


# --- CDNA3 -----------------------------------------------------------------------------------------------------------

def _cut_sum(ins: Instruction, products: list[Array], claims: list[Array]) -> tuple[Array, Array]:
    """The products, cut toward zero, and the largest claim, which is 0 where no product claims anything."""
    top = np.maximum.reduce(claims)
    unit = _unit(ins, top)
    return sum(np.trunc(p / unit) for p in products) * unit, top


def _unit(ins: Instruction, top: Array) -> Array:
    """The last bit kept below `top`; of nothing, any."""
    return np.where(top > 0, top, 1.0) * math.ldexp(1.0, -ins.adder.frac)  # type: ignore[union-attr,operator]


def _onto_c(ins: Instruction, dot: Array, top: Array, c: Array, c_claim: Array) -> Array:
    """Floored, added, normalised, floored, rounded. All sums are integers below 2**40, in units of powers of two."""
    common = np.maximum(top, c_claim)
    wide, narrow = common * math.ldexp(1.0, -SUM_FRAC - 1), _unit(ins, common)
    total = np.floor(dot / wide) * wide + np.floor(c / narrow) * narrow
    unit = np.maximum(_claims(_F32, total), _LEAST) * math.ldexp(1.0, -SUM_FRAC)
    return np.where(total == 0, 0.0, _single(np.floor(total / unit) * unit))


def _claims_of(ins: Instruction, a: Array, b: Array) -> Callable[[range], list[Array]]:
    a_claims, b_claims = _claims(ins.a, a), _claims(ins.b, b)
    return lambda group: _products(a_claims, b_claims, group)


def cut_then_floor(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    """One sum of products, infinite from 2**128 up."""
    claims = _claims_of(ins, a, b)
    for group in _groups(ins, a.shape[2]):
        products = [np.where(np.abs(p) < 2.0 ** 128, p, p * np.inf) for p in _products(a, b, group)]
        dot, top = _cut_sum(ins, products, claims(group))
        c = _onto_c(ins, dot, top, c, np.maximum(_claims(_F32, c), _LEAST))
    return c


def even_and_odd(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    """Two sums of products, floored at the larger exponent; a C far below them is nothing."""
    claims = _claims_of(ins, a, b)
    for group in _groups(ins, a.shape[2]):
        (even, even_top), (odd, odd_top) = (_cut_sum(ins, _products(a, b, half), claims(half))
                                            for half in (group[::2], group[1::2]))
        top, c_claim = np.maximum(even_top, odd_top), np.maximum(_claims(_F32, c), _LEAST)
        unit = _unit(ins, top)
        dot = (np.floor(even / unit) + np.floor(odd / unit)) * unit
        far = np.isfinite(c) & (c_claim < _unit(ins, np.maximum(top, _LEAST)) / 2)
        c = _onto_c(ins, dot, top, np.where(far, 0.0, c), c_claim)
    return c


METHODS: dict[str, Callable[..., Array]] = {f.__name__: f for f in (
    exact_sums, flushed_pairs, cut_then_floor, even_and_odd)}


def _refusal(ins: Instruction) -> str:
    """Why this engine would not be exact for a row; empty for every row of the table."""
    formats: list[Any] = [ins.a, ins.b]
    if not ins.c == ins.d == _F32 or ins.rounding != "rne":
        return "C and D must be float32, rounded to nearest"
    if any(f.frac_bits > 10 or f.emin < -140 or f.emax > 140 for f in formats):
        return "operands have at most 10 fraction bits, and exponents of 8"
    if ins.method in ("cut_then_floor", "even_and_odd") and not 23 <= ins.adder.frac <= SUM_FRAC:  # type: ignore[union-attr,operator]
        return f"the adder must keep 23 to {SUM_FRAC} fraction bits"
    if ins.method == "flushed_pairs" and (ins.k % ins.terms or ins.terms & (ins.terms - 1)):
        return "groups are of 2, 4, 8 ... products"
    return ""


def fill(why: str, methods: dict[str, Callable[..., Array]], ins: Instruction, a: Array, b: Array, c: Array,
         d: Array) -> None:
    """Fill d by one of `methods`, functions of values. Raises EngineUnavailable if there is a `why` not."""
    if why:
        raise EngineUnavailable(f"the Numba engine cannot do {ins}: {why}; engine='exact' can")
    if d.size:
        with np.errstate(all="ignore"):                                     # infinities and NaN are data here
            d[...] = _codes(ins.d, methods[ins.method](
                ins, _values(ins.a, a), _values(ins.b, np.ascontiguousarray(b.swapaxes(1, 2))), _values(ins.c, c)))


def dots(ins: Instruction, a: Array, b: Array, c: Array, scale_a: Any, scale_b: Any, d: Array) -> None:
    """As engine_numba.dots, which hands these methods on."""
    fill(_refusal(ins), METHODS, ins, a, b, c, d)
