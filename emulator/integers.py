"""Integer and table quantisation: INT8/4/2, NF4, ternary, binary, fixed point; by tensor, by channel, by group.

Numbers that share a scale (and a zero point) are a group. A row of INTEGERS says what an element is and which rule of
RULES chooses the scale; an element is its number over the scale, rounded once, plus the zero point, and saturates.
Sources: Jacob et al. 2018, arXiv 1712.05877 (affine); PyTorch torch.ao.quantization observers (full); Dettmers et al.
2023, "QLoRA", arXiv 2305.14314 (NF4, groups of 64); Ma et al. 2024, "BitNet b1.58", arXiv 2402.17764 (absmean); Li et
al. 2016, "Ternary weight networks", arXiv 1605.04711 (threshold); Rastegari et al. 2016, "XNOR-Net", arXiv 1603.05279
(sign); Lloyd 1982, doi 10.1109/TIT.1982.1056489 and Max 1960, doi 10.1109/TIT.1960.1057548 (levels).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from . import arrays, noise
from .blocks import back, divided, floats, front, gather, scale_shape, scatter
from .convert import Report, convert, random_words, source_format
from .errors import BadOperand, UnknownFormat
from .formats import FORMATS, Integer, Table

__all__ = ["INTEGERS", "RULES", "ScaledArray", "ScaledFormat", "clipping", "fixed_point", "from_twos_complement",
           "hadamard", "lloyd_max", "normal_float", "sqnr", "twos_complement", "wrap"]

Array = np.ndarray

# --- scales -----------------------------------------------------------------------------------------------------------


class Scale(NamedTuple):
    """For each group: its scale before it is rounded to float32, its zero point, and its elements where the rule itself
    makes them, not the quotient."""

    scale: Array
    zero: Array | int = 0
    elements: Array | None = None


# Of groups (count, n) of finite numbers, zeros where there is none; how many numbers each has; and the element.
Rule = Callable[[Array, Array, "Integer | Table"], Scale]


def _largest(element: Integer | Table) -> float:
    return element.max if isinstance(element, Integer) else max(map(abs, element.values))


def symmetric(x: Array, count: Array, element: Integer | Table) -> Scale:
    """The largest magnitude becomes the largest element."""
    return Scale(divided(_amax(x), _largest(element)))


def full(x: Array, count: Array, element: Integer | Table) -> Scale:
    """The largest magnitude lies in the middle between those of the two ends, as in PyTorch: 127.5 of int8."""
    return Scale(divided(_amax(x), (2**element.bits - 1) / 2))


def affine(x: Array, count: Array, element: Integer | Table) -> Scale:
    """The range of the numbers and 0, in float64, becomes that of the integers; the zero point is one of them."""
    low, high = np.minimum(x.min(1, initial=0), 0), np.maximum(x.max(1, initial=0), 0)
    scale = _float32(divided(high - low, element.max - element.min))
    zero = element.min - convert(divided(low, np.where(scale == 0, 1, scale)), "int32")
    return Scale(scale, np.clip(zero, element.min, element.max))


def absmean(x: Array, count: Array, element: Integer | Table) -> Scale:
    """BitNet b1.58: the mean magnitude is 1, and what is beyond it saturates."""
    return Scale(_mean(np.abs(x), count))


def threshold(x: Array, count: Array, element: Integer | Table) -> Scale:
    """Ternary weight networks: beyond 0.7 of the mean magnitude 1 or -1, else 0; the scale is the mean of those."""
    beyond = np.abs(x) > 0.7 * _mean(np.abs(x), count)[:, None]
    return Scale(_mean(np.where(beyond, np.abs(x), 0), beyond.sum(1)), 0, np.where(beyond, np.sign(x), 0).astype(int))


def sign(x: Array, count: Array, element: Integer | Table) -> Scale:
    """XNOR-Net: 1 from zero up, else -1, times the mean magnitude."""
    return Scale(_mean(np.abs(x), count), 0, (x >= 0).astype(int))


def unit(x: Array, count: Array, element: Integer | Table) -> Scale:
    """1: the numbers themselves. Fixed point has a power of two instead, given as scale."""
    return Scale(np.ones(len(x)))


NARROW = ("symmetric", "absmean", "threshold")          # rules under which the least integer is not made
RULES: dict[str, Rule] = {rule.__name__: rule for rule in (symmetric, full, affine, absmean, threshold, sign, unit)}


def _amax(x: Array) -> Array:
    return np.abs(x).max(1, initial=0)


def _mean(x: Array, count: Array) -> Array:
    """Of the exact sum (math.fsum), so in any order of the numbers."""
    return np.array([math.fsum(row) for row in x.tolist()]) / np.maximum(count, 1)


def _float32(x: Array) -> Array:
    return convert(x, "float32", overflow="saturate").astype(np.float64)


# --- rows -------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class ScaledFormat:
    """A row. element: an Integer of at most 16 bits, or a Table. rule: a key of RULES. group: how many elements along
    an axis share a scale, unless `quantize` is told otherwise; None: all. scale: where it is fixed. Raises
    UnknownFormat."""

    name: str
    element: Integer | Table
    rule: str
    group: int | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UnknownFormat(f"{self.name}: rule {self.rule!r} is not known; the rules are {', '.join(RULES)}")
        if self.element.bits > 16 or (self.rule in ("affine", "full") and isinstance(self.element, Table)):
            raise UnknownFormat(f"{self.name}: rule {self.rule} and elements {self.element} do not go together; "
                                "elements are tables, or integers of at most 16 bits")

    def __str__(self) -> str:
        return self.name

    def quantize(self, x: Any, *, channel: int | None = None, group: int | None = None, axis: int = -1,
                 rule: str | None = None, scale: Any = None, zero_point: Any = None, rounding: str = "rne",
                 nan: str = "error", source: Any = None, seed: int | None = None, random: Any = None,
                 random_bits: int | None = None, engine: str | None = None, return_report: bool = False) -> Any:
        """x in this format: a ScaledArray of x's shape.

        What shares a scale: the elements of one index of axis `channel`; or `group` neighbours along `axis`, the last
        group maybe shorter; or (neither, and no group in the row) the whole array. rule: the row's unless given. scale,
        zero_point: given instead of found; they broadcast to the array's scales. Scales are float32, at least 2**-149;
        that of a group of zeros is 1. Infinities are not seen by the rule, and saturate. nan: error, or zero.
        rounding, source, seed, random, random_bits, engine: as for `convert`; a table takes the nearest, rne.

        return_report: return (ScaledArray, Report). Raises BadOperand.
        """
        try:
            fmt = self if rule in (None, self.rule) else replace(self, rule=rule)
        except UnknownFormat as error:
            raise BadOperand(str(error)) from None
        if nan not in ("error", "zero"):
            raise BadOperand(f"nan is {nan!r}; integers and tables have none: error or zero")
        found = np.asarray(x)
        axes, block = fmt._groups(found.shape, channel, group, axis)
        draw, bits = random_words(rounding, seed, random, random_bits, found)
        values = gather(np.asarray(floats(x, source_format(x, source)), np.float64), axes, block)
        there = gather(np.ones(found.shape, bool), axes, block)
        isnan = np.isnan(values)
        if nan == "error" and isnan.any():
            i = np.flatnonzero(np.isnan(scatter(values, found.shape, axes, block)))[0]
            raise BadOperand(f"x{[int(j) for j in np.unravel_index(i, found.shape)] or ''} is nan, and {fmt.element} "
                             "has none; choose nan='zero'")
        values[isnan] = 0
        shape = scale_shape(found.shape, axes, block)
        chosen = RULES[fmt.rule](np.where(np.isinf(values), 0, values), there.sum(1), fmt.element)
        given = fmt.scale if scale is None else scale
        if given is None:
            scales = np.where(chosen.scale > 0, np.maximum(_float32(chosen.scale), 2.0**-149), 1)
        else:
            scales = _spread(given, shape, axes, found.ndim, "scale")
        if not (np.isfinite(scales) & (scales > 0)).all():
            raise BadOperand("scale holds a number that is not positive and finite")
        zero = np.broadcast_to(np.asarray(chosen.zero), scales.shape) if zero_point is None else _spread(
            zero_point, shape, axes, found.ndim, "zero_point").astype(np.int64)
        if chosen.elements is None or given is not None:
            drawn: dict[str, Any] = {}
            if (words := draw(0, found.size)) is not None:
                drawn = {"random": gather(words.reshape(found.shape), axes, block), "random_bits": bits}
            wide = "int32" if isinstance(fmt.element, Integer) else fmt.element
            codes = convert(divided(values, scales[:, None]), wide, rounding, engine=engine, **drawn).astype(np.int64)
        else:
            codes = chosen.elements
        y, beyond = fmt._saturate(codes + zero[:, None], values, scales[:, None])
        elements = scatter(y.astype(fmt.element.code_dtype), found.shape, axes, block)
        grid = [each.reshape(shape).transpose(back(axes, found.ndim)) for each in (scales, zero)]
        result = ScaledArray(fmt, arrays.from_codes(elements, fmt.element), grid[0].astype(np.float32),
                             grid[1].astype(np.int32) if zero.any() else None, axes, block)
        if not return_report:
            return result
        flushed = (result.dequantize("float64") == 0) & (scatter(values, found.shape, axes, block) != 0)
        counts = [int(n) for n in ((beyond & there).sum(), 0, flushed.sum(), isnan.sum())]
        return result, Report(found.size, *counts)

    def _groups(self, shape: tuple[int, ...], channel: int | None, group: int | None,
                axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes that groups lie along, and their sizes there."""
        if channel is not None and group is not None:
            raise BadOperand("channel and group are both given; a scale is shared by one or the other")
        group = self.group if group is None and channel is None else group
        for name, number in (("channel", channel), ("axis", axis if group is not None else None)):
            if number is not None and not -len(shape) <= number < len(shape):
                raise BadOperand(f"{name} is {number}; x has shape {shape}")
        if group is not None:
            if group < 1:
                raise BadOperand(f"group is {group}; it takes 1 or more")
            return (axis % len(shape),), (group,)
        axes = tuple(a for a in range(len(shape)) if channel is None or a != channel % len(shape))
        return axes, tuple(max(shape[a], 1) for a in axes)

    def _saturate(self, found: Array, x: Array, scale: Array) -> tuple[Array, Array]:
        """Codes of elements, and which saturated."""
        if isinstance(self.element, Table):
            return found, (np.abs(x) > _largest(self.element) * scale) & (self.rule != "sign")
        low, high = self.element.min, self.element.max
        low = -high if self.rule in NARROW else low
        return np.clip(found, low, high) & ((1 << self.element.bits) - 1), (found < low) | (found > high)


def _spread(given: Any, shape: tuple[int, ...], axes: tuple[int, ...], ndim: int, name: str) -> Array:
    """Given scales, which broadcast to those of the array, as one per group; `shape` has the axes of a group last."""
    order = front(axes, ndim)
    own = tuple(shape[order.index(a)] for a in range(ndim))
    try:
        return np.broadcast_to(np.asarray(given, np.float32 if name == "scale" else np.int64), own).transpose(
            order).reshape(-1).astype(np.float64)
    except ValueError:
        raise BadOperand(f"{name} has shape {np.shape(given)}; it must broadcast to {own}") from None


@dataclass(frozen=True, eq=False)
class ScaledArray:
    """A quantised array. elements: of the array's shape and the element's type, codes of a table. scales: float32, one
    per group, the shape divided by `block` along `axes`, rounded up. zero_points: int32 of that shape, or None.

    An element stands for (element - zero point) * scale.
    """

    format: ScaledFormat
    elements: Array
    scales: Array
    zero_points: Array | None
    axes: tuple[int, ...]
    block: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.elements.shape

    @property
    def codes(self) -> Array:
        """The elements as unsigned codes."""
        return arrays.any_codes(self.elements, self.format.element, "elements")

    @property
    def packed(self) -> Array:
        """The codes as a stream of bits (arrays.pack) along the last axis."""
        return arrays.pack(self.codes, self.format.element.bits)

    def dequantize(self, dtype: Any = np.float32) -> Array:
        """The numbers in a floating-point format, rounded once to nearest even; those of float64 are exact."""
        values = convert(self.codes, "float64", source=self.format.element)
        numbers = gather(values, self.axes, self.block)
        order = front(self.axes, self.scales.ndim)
        if self.zero_points is not None:
            numbers = numbers - self.zero_points.transpose(order).reshape(-1, 1)
        numbers = numbers * self.scales.transpose(order).reshape(-1, 1).astype(np.float64)
        return convert(scatter(numbers, self.shape, self.axes, self.block), dtype)

    def __repr__(self) -> str:
        return f"<{self.format} {self.shape}, {self.scales.size} scales>"


def fixed_point(integer_bits: int, frac_bits: int, signed: bool = True) -> ScaledFormat:
    """Qm.n: m integer bits and n fraction bits beside the sign, in two's complement; unsigned, UQm.n. The unit is
    2**-n. Raises UnknownFormat for more than 16 bits."""
    bits = integer_bits + frac_bits + signed
    name = f"{'' if signed else 'u'}q{integer_bits}.{frac_bits}"
    if not 1 <= bits <= 16:
        raise UnknownFormat(f"{name} has {bits} bits; fixed point takes 1 to 16")
    return ScaledFormat(name, Integer(f"{'' if signed else 'u'}int{bits}", bits, signed), "unit", None, 2.0**-frac_bits)


_ROWS = [
    *(ScaledFormat(f"int{bits}", Integer(f"int{bits}", bits), "symmetric") for bits in (8, 4, 2)),
    *(ScaledFormat(f"uint{bits}", Integer(f"uint{bits}", bits, False), "affine") for bits in (8, 4, 2)),
    ScaledFormat("nf4", FORMATS["nf4"], "symmetric", 64),  # type: ignore[arg-type]
    ScaledFormat("ternary", Integer("int2", 2), "absmean"),
    ScaledFormat("twn", Integer("int2", 2), "threshold"),
    ScaledFormat("binary", Table("binary", (-1, 1)), "sign"),
    fixed_point(0, 7), fixed_point(0, 15), fixed_point(3, 4), fixed_point(7, 8),
]
INTEGERS: dict[str, ScaledFormat] = {row.name: row for row in _ROWS}

# --- two's complement -------------------------------------------------------------------------------------------------

def wrap(x: Any, bits: int, signed: bool = True) -> Array:
    """Integers modulo 2**bits as int64: what is left of them in a register. bits: 1 to 63."""
    _check_bits(bits)
    low = np.asarray(x).astype(np.int64) & np.int64((1 << bits) - 1)
    return low - ((low >> np.int64(bits - 1)) << np.int64(bits)) if signed else low


def twos_complement(x: Any, bits: int) -> Array:
    """The codes, uint64, of integers in two's complement of `bits` bits. Raises BadOperand for one out of range."""
    _check_bits(bits)
    found = np.asarray(x)
    if found.dtype.kind not in "iu" or (wrap(found, bits) != found).any():
        raise BadOperand(f"x holds what is no integer of {bits} bits, {-(1 << bits - 1)}..{(1 << bits - 1) - 1}; "
                         "saturate it (emulator.convert) or wrap it first")
    return found.astype(np.int64).view(np.uint64) & np.uint64((1 << bits) - 1)


def from_twos_complement(codes: Any, bits: int) -> Array:
    """The integers, int64, that codes of `bits` bits are. Raises BadOperand for a wider code."""
    _check_bits(bits)
    return wrap(arrays.check_codes(codes, Integer("codes", bits, signed=False), "codes"), bits)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 63:
        raise BadOperand(f"bits is {bits}; it takes 1 to 63")


# --- levels, rotation, reports ----------------------------------------------------------------------------------------

def normal_float(bits: int) -> tuple[float, ...]:
    """Levels of k-bit NormalFloat from quantiles of the normal distribution (QLoRA, section 3 and its program): 0,
    2**(k-1) above and one fewer below, evenly spaced in probability from 1/2 to 1 - d with
    d = (2**-(k+1) + 1 / (2**(k+1) - 2)) / 2, over the largest. normal_float(4) is NF4 to 1e-6."""
    half = 1 << (bits - 1)
    end = 1 - (0.25 / half + 1 / (4 * half - 2)) / 2
    found = [0.0]
    for side, steps in ((1, half), (-1, half - 1)):
        found += [side * NormalDist().inv_cdf(end + (0.5 - end) * i / steps) for i in range(steps)]
    return tuple(sorted(level / max(found) for level in found))


def lloyd_max(x: Any, count: int, iterations: int = 1000) -> tuple[float, ...]:
    """`count` levels for the numbers in x with a small mean squared error, for Table: each level becomes the mean of
    the numbers nearest to it, from evenly spread quantiles on, until none moves. Raises BadOperand."""
    data = np.sort(np.asarray(x, np.float64).reshape(-1))
    if count < 2 or len(np.unique(data)) < count or not np.isfinite(data).all():
        raise BadOperand(f"{count} levels take that many different finite numbers, at least 2")
    sums = np.concatenate([[0.0], np.cumsum(data)])
    levels = np.unique(data)[np.linspace(0, len(np.unique(data)) - 1, count).astype(int)]
    for _ in range(iterations):
        cuts = np.concatenate([[0], np.searchsorted(data, (levels[:-1] + levels[1:]) / 2, "right"), [len(data)]])
        sizes = np.diff(cuts)
        moved = np.where(sizes > 0, np.diff(sums[cuts]) / np.maximum(sizes, 1), levels)
        if (moved == levels).all():
            break
        levels = moved
    return tuple(levels.tolist())


def hadamard(x: Any, seed: int | None = None, axis: int = -1, inverse: bool = False) -> Array:
    """x rotated along an axis whose length n is a power of two, in float64: the Walsh-Hadamard matrix over sqrt(n), and
    before it, with a seed (0..2**64 - 1), random signs (the lowest bits of noise.words). The matrix is orthonormal;
    `inverse` undoes it, exactly but for the rounding of float64. Raises BadOperand."""
    y = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    n = y.shape[-1]
    if n < 1 or n & (n - 1):
        raise BadOperand(f"axis {axis} has length {n}; a Hadamard rotation takes a power of two")
    signs = 1.0 if seed is None else 1.0 - 2.0 * (noise.words(seed, 0, n) & np.uint32(1))
    shape, y = y.shape, y if inverse else y * signs
    step = 1
    while step < n:
        pairs = y.reshape(*shape[:-1], n // (2 * step), 2, step)
        y = np.stack([pairs[..., 0, :] + pairs[..., 1, :], pairs[..., 0, :] - pairs[..., 1, :]], -2).reshape(shape)
        step *= 2
    y = y / math.sqrt(n)
    return np.moveaxis(y * signs if inverse else y, -1, axis)


def sqnr(x: Any, y: Any) -> float:
    """Signal to quantisation noise in decibels, 10 log10(sum x**2 / sum (x - y)**2); infinite where y is x."""
    x, y = (np.asarray(each, np.float64).reshape(-1) for each in (x, y))
    noise_power, power = math.fsum(((x - y) ** 2).tolist()), math.fsum((x**2).tolist())
    return math.inf if not noise_power else -math.inf if not power else 10 * math.log10(power / noise_power)


def clipping(x: Any, limit: float) -> dict[str, float]:
    """What clipping x to [-limit, limit] does: `clipped` elements, their `share` of all, and the share of the `energy`
    (the sum of squares) that is lost."""
    magnitude = np.abs(np.asarray(x, np.float64)).reshape(-1)
    power = math.fsum((magnitude**2).tolist())
    lost = math.fsum((np.maximum(magnitude - limit, 0) ** 2).tolist())
    clipped = int((magnitude > limit).sum())
    return {"clipped": clipped, "share": clipped / max(magnitude.size, 1), "energy": lost / power if power else 0.0}
