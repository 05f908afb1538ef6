"""The methods of `exact.gaudi` for the Numba engine: whole arrays in double precision, each step proven exact.

A number is a double, and so is the power of two that it claims in the alignment: see engine_numba, whose (1) and (2)
hold here too. A sum of cut products is one of integers below 2**53 in units of a power of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..instructions import Instruction
from . import _F32
from .amd import _flushed, _groups, _products, _single, _sum_to_odd, _unit, fill

__all__ = ["METHODS", "dots"]

Array = np.ndarray


def _claims(x: Array, least: int = -126) -> Array:
    """The power of two that each number claims: of its leading bit, but at least 2**least; 0 where it claims none."""
    power = (x.view(np.int64) & 0x7FF0_0000_0000_0000).view(np.float64)
    return np.where(np.isfinite(x) & (x != 0), np.maximum(power, math.ldexp(1.0, least)), 0.0)


def _digits(fmt: Any, x: Array, claims: Array, width: int) -> list[Array]:
    """The numbers' digits of `width` bits, lowest first, each with its weight and sign; of infinities and NaN 0."""
    unit = np.where(claims > 0, claims, 1.0) * math.ldexp(1.0, -fmt.frac_bits)
    rest, digits = np.where(np.isfinite(x), x, 0.0) / unit, []
    for _ in range(0, fmt.frac_bits + 1, width):
        high = np.trunc(rest * math.ldexp(1.0, -width))
        digits.append((rest - high * math.ldexp(1.0, width)) * unit)
        rest, unit = high, unit * math.ldexp(1.0, width)
    return digits


def _pairs(ins: Instruction, a: Array, b: Array, claims: tuple[Array, Array], width: int) -> list[tuple[Array, Array]]:
    """The digits that are multiplied with each other."""
    xs, ys = _digits(ins.a, a, claims[0], width), _digits(ins.b, b, claims[1], width)
    return [(x, y) for x in xs for y in ys]


def _cut_sum(pairs: list[tuple[Array, Array]], group: range, unit: Array) -> Array:
    return sum(np.trunc(p / unit) for x, y in pairs for p in _products(x, y, group)) * unit


def digit_chain(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    """C and the products of digits of 8 bits in one fused sum, which is cut to float32."""
    claims = _claims(a), _claims(b)
    pairs, floor, largest = _pairs(ins, a, b, claims, 8), math.ldexp(1.0, ins.floor), float(np.finfo(np.float32).max)
    for group in _groups(ins, a.shape[2]):
        products = _products(a, b, group)
        plain = sum(products) + c                                           # infinite or NaN where the result is
        unit = _unit(ins, np.maximum.reduce([_claims(c), *_products(*claims, group), np.full_like(c, floor)]))
        total = _cut_sum(pairs, group, unit) + np.trunc(np.where(np.isfinite(c), c, 0.0) / unit) * unit
        last = np.maximum(_claims(total), math.ldexp(1.0, -126)) * math.ldexp(1.0, -23)
        total = np.trunc(total / last) * last + 0.0
        c = np.where(np.isfinite(plain), np.where(np.abs(total) > largest, total * np.inf, total), plain)
    return c


def sum_then_c(ins: Instruction, a: Array, b: Array, c: Array) -> Array:
    """The sum of products, rounded to odd with C and then to nearest, flushed."""
    least, width = (-14, 24) if ins.a.bits == 8 else (-126, 12 if ins.a.frac_bits == 23 else 24)  # type: ignore[union-attr]
    a, b, c = (_flushed(x) for x in (a, b, c))
    claims = _claims(a, least), _claims(b, least)
    pairs = _pairs(ins, a, b, claims, width)
    for group in _groups(ins, a.shape[2]):
        products = _products(a, b, group)
        plain = sum(products) + c
        total = _cut_sum(pairs, group, _unit(ins, np.maximum.reduce(_products(*claims, group))))
        total = _sum_to_odd([np.where(np.isfinite(c), c, 0.0), total])
        zero = np.where(np.logical_and.reduce([np.signbit(p) for p in products]) & np.signbit(c), -0.0, 0.0)
        c = np.where(np.isfinite(plain), np.where(total == 0, zero, _flushed(_single(total))), plain)
    return c


METHODS: dict[str, Callable[..., Array]] = {f.__name__: f for f in (digit_chain, sum_then_c)}


def _refusal(ins: Instruction) -> str:
    """Why this engine would not be exact for a row; empty for every row of the table."""
    formats: list[Any] = [ins.a, ins.b]
    if not ins.c == ins.d == _F32 or ins.rounding != {"digit_chain": "rz", "sum_then_c": "rne"}[ins.method]:
        return "C and D must be float32, rounded as the chip does"
    if any(f.frac_bits > 23 or f.emin < -126 or f.emax > 127 for f in formats):
        return "operands have at most 23 fraction bits, and exponents of 8"
    frac: int = ins.adder.frac  # type: ignore[union-attr]
    if not 23 <= frac or frac + 2 + ins.terms.bit_length() > 53 or ins.method == "digit_chain" and ins.precision != 23:
        return f"it has 53 bits, and sums of {ins.terms} products keep {frac} below the largest"
    return ""


def dots(ins: Instruction, a: Array, b: Array, c: Array, scale_a: Any, scale_b: Any, d: Array) -> None:
    """As engine_numba.dots, which hands these methods on."""
    fill(_refusal(ins), METHODS, ins, a, b, c, d)
