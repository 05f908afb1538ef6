"""Integer and table quantisation: INT8/4/2, NF4, ternary, binary, fixed point; by tensor, by channel, by group.

Numbers that share a scale (and a zero point) are a group. A row of INTEGERS says what an element is and which rule of
RULES chooses the scale; an element is its number over the scale, rounded once, plus the zero point, and saturates.
Sources: Jacob et al. 2018, arXiv 1712.05877 (affine); PyTorch torch.ao.quantization observers (full); Dettmers et al.
2023, "QLoRA", arXiv 2305.14314 (NF4, groups of 64, double quantisation); Dettmers et al. 2021, "8-bit Optimizers via
Block-wise Quantization", arXiv 2110.02861, and bitsandbytes' create_dynamic_map (dynamic levels); Ma et al. 2024,
"BitNet b1.58", arXiv 2402.17764 (absmean); Li et al. 2016, "Ternary weight networks", arXiv 1605.04711 (threshold);
Rastegari et al. 2016, "XNOR-Net", arXiv 1603.05279 (sign); Lloyd 1982, doi 10.1109/TIT.1982.1056489 and Max 1960, doi
10.1109/TIT.1960.1057548 (levels).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from . import arrays, engine_c, noise
from .blocks import (
    CHUNK,
    Slices,
    amax_of,
    at_,
    divided,
    floats,
    front,
    gather,
    over,
    pieces,
    rescaled,
    scale_shape,
    scatter,
    twos_complement_of,
    whole_numbers,
)
from .convert import Report, above, convert, nearest, random_words, signed, source_format
from .errors import BadOperand, UnknownFormat
from .formats import FORMATS, Float, Integer, Table, number_format
from .rounding import Policy
from .threads import spread

__all__ = ["INTEGERS", "RULES", "DoubleScales", "ScaledArray", "ScaledFormat", "clipping", "dynamic_levels",
           "dynamic_table", "exact_sums", "fixed_point", "from_twos_complement", "hadamard", "lloyd_max",
           "normal_float", "sqnr", "twos_complement", "wrap"]

Array = np.ndarray

# --- scales -----------------------------------------------------------------------------------------------------------


class Scale(NamedTuple):
    """For each group: its scale before it is rounded to float32, its zero point, and its elements where the rule itself
    makes them, not the quotient."""

    scale: Array
    zero: Array | int = 0
    elements: Array | None = None


# Of groups (count, n) of finite numbers, float32 or float64, and the element.
Rule = Callable[[Array, "Integer | Table"], Scale]


def _largest(element: Integer | Table) -> float:
    return element.max if isinstance(element, Integer) else max(map(abs, element.values))


def symmetric(x: Array, element: Integer | Table) -> Scale:
    """The largest magnitude becomes the largest element."""
    return Scale(divided(_amax(x), _largest(element)))


def full(x: Array, element: Integer | Table) -> Scale:
    """The largest magnitude lies in the middle between those of the two ends, as in PyTorch: 127.5 of int8."""
    return Scale(divided(_amax(x), (2**element.bits - 1) / 2))


def affine(x: Array, element: Integer | Table) -> Scale:
    """The range of the numbers and 0, in float64, becomes that of the integers; the zero point is one of them."""
    low, high = x.min(1, initial=0).astype(np.float64), x.max(1, initial=0).astype(np.float64)
    scale = _float32(divided(high - low, element.max - element.min))
    zero = element.min - convert(divided(low, np.where(scale == 0, 1, scale)), "int32")
    return Scale(scale, np.clip(zero, element.min, element.max))


def absmean(x: Array, element: Integer | Table) -> Scale:
    """BitNet b1.58: the mean magnitude is 1, and what is beyond it saturates."""
    return Scale(_mean(np.abs(x), x.shape[1]))


def threshold(x: Array, element: Integer | Table) -> Scale:
    """Ternary weight networks: beyond 0.7 of the mean magnitude 1 or -1, else 0; the scale is the mean of those."""
    magnitude = np.abs(x)
    beyond = magnitude > 0.7 * _mean(magnitude, x.shape[1])[:, None]
    magnitude *= beyond
    return Scale(_mean(magnitude, beyond.sum(1)), 0, np.where(np.signbit(x), np.int8(-1), np.int8(1)) * beyond)


def sign(x: Array, element: Integer | Table) -> Scale:
    """XNOR-Net: 1 from zero up, else -1, times the mean magnitude."""
    return Scale(_mean(np.abs(x), x.shape[1]), 0, (x >= 0).view(np.int8))


def unit(x: Array, element: Integer | Table) -> Scale:
    """1: the numbers themselves. Fixed point has a power of two instead, given as scale."""
    return Scale(np.ones(len(x)))


NARROW = ("symmetric", "absmean", "threshold")          # rules under which the least integer is not made
RULES: dict[str, Rule] = {rule.__name__: rule for rule in (symmetric, full, affine, absmean, threshold, sign, unit)}


def _amax(x: Array) -> Array:
    return amax_of(x, None if engine_c.available() else "numba").astype(np.float64)


def _mean(x: Array, count: Array | int) -> Array:
    """Of the exact sum, so in any order of the numbers."""
    return exact_sums(x) / np.maximum(count, 1)


def exact_sums(x: Array) -> Array:
    """The sum of each row of finite numbers (rows, n), exact and then rounded to float64.

    A number to which a large power of two is added and taken away again is cut to few enough bits for sums of them to
    be exact; so bit by bit (Rump, Ogita and Oishi 2008, doi 10.1137/050645671, ExtractVector).
    """
    parts: list[list[Array]] = [[] for _ in x]
    found = np.zeros(len(x))
    for where, at, _ in pieces(x.shape, (1,), x.shape[1:], CHUNK // 8, inside=True):
        rest, sums = x[where].astype(np.float64), []
        top = np.abs(rest).max(1, initial=0)
        if top.max() > 2.0**900:
            sums = [np.array([math.fsum(row) for row in rest.tolist()])]
            rest = rest[:, :0]
        while rest.size and (top > 0).any():
            sigma = np.ldexp(1.0, np.frexp(top)[1] + int(rest.shape[1] + 2).bit_length())[:, None]
            cut = (sigma + rest) - sigma
            sums.append(cut.sum(1))
            rest -= cut
            top = np.abs(rest).max(1)
        if len(sums) <= 2 and rest.shape[1] == x.shape[1]:
            found[at[0]] = sum(sums)                        # two numbers: their sum is rounded right
        else:
            for i, row in enumerate(np.array(sums).T.tolist(), at[0].start):
                parts[i] += row
    return np.array([math.fsum(row) if row else one for row, one in zip(parts, found.tolist())])


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
        if isinstance(fmt.element, Table) and rounding != "rne":
            raise BadOperand(f"rounding is {rounding}; a table takes the nearest of its numbers, rne")
        found, source = np.asarray(x), source_format(x, source)
        axes, block = fmt._groups(found.shape, channel, group, axis)
        draw, bits = random_words(rounding, seed, random, random_bits, found)
        words = draw(0, found.size)
        words = None if words is None else words.reshape(found.shape)
        order, grid = front(axes, found.ndim), scale_shape(found.shape, axes, block)
        own, given = tuple(grid[order.index(a)] for a in range(found.ndim)), fmt.scale if scale is None else scale
        scales = np.ones(own) if given is None else _spread(given, own, "scale", np.float32)
        if not (np.isfinite(scales) & (scales > 0)).all():
            raise BadOperand("scale holds a number that is not positive and finite")
        zeros = np.zeros(own, np.int32) if zero_point is None else _spread(zero_point, own, "zero_point", np.int32)
        job = _Elements(fmt, Policy(rounding, "saturate", "zero", random_bits=bits), engine, return_report)
        elements, ones = np.empty(found.shape, fmt.element.code_dtype), (1,) * len(axes)

        def work(part: tuple[Slices, Slices, tuple[int, ...]]) -> Array:
            where, at, size = part
            piece = at_(found, where)
            values = gather(floats(piece, source), axes, size)
            seen, infinite, nans = values, None, 0
            if not np.isfinite(amax_of(values, engine)).all():
                isnan = np.isnan(values)
                nans, values = int(isnan.sum()), np.where(isnan, values.dtype.type(0), values)
                if nans and nan == "error":
                    first = np.argwhere(scatter(isnan, piece.shape, axes, size))[0].tolist()
                    first = [i + part.start for i, part in zip(first, where)]
                    raise BadOperand(f"x{first or ''} is nan, and {fmt.element} has none; choose nan='zero'")
                infinite = np.isinf(values)
                seen = np.where(infinite, values.dtype.type(0), values)
            chosen = RULES[fmt.rule](seen, fmt.element)
            pair = [gather(at_(each, at), axes, ones)[:, 0] for each in (scales, zeros)]
            if given is None:
                pair[0] = np.where(chosen.scale > 0, np.maximum(_float32(chosen.scale), 2.0**-149), 1)
            if zero_point is None:
                pair[1] = np.broadcast_to(np.asarray(chosen.zero), pair[1].shape)
            for each, one in zip((scales, zeros), pair):
                at_(each, at)[...] = scatter(one[:, None], at_(each, at).shape, axes, ones)
            drawn = None if words is None else gather(at_(words, where), axes, size)
            own_elements = chosen.elements if given is None else None
            if own_elements is not None and infinite is not None:
                least = -1 if isinstance(fmt.element, Integer) else 0
                own_elements = np.where(infinite, np.where(values > 0, 1, least), own_elements)
            codes, counts = job.run(values, pair[0], pair[1], drawn, own_elements)
            at_(elements, where)[...] = scatter(codes, piece.shape, axes, size)
            return np.append(counts, nans)

        parts = spread(work, pieces(found.shape, axes, block))
        result = ScaledArray(fmt, arrays.from_codes(elements, fmt.element), scales.astype(np.float32),
                             zeros.astype(np.int32) if zeros.any() else None, axes, block)
        saturated, flushed, nans = map(int, np.array(parts, np.int64).reshape(-1, 3).sum(0))
        return (result, Report(found.size, saturated, 0, flushed, nans)) if return_report else result

    def _groups(self, shape: tuple[int, ...], channel: int | None, group: int | None,
                axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes that groups lie along, and their sizes there."""
        if channel is not None and group is not None:
            raise BadOperand("channel and group are both given; a scale is shared by one or the other")
        group = self.group if group is None and channel is None else group
        for name, number in (("channel", channel), ("group", group), ("axis", axis)):
            if number is not None and len(whole_numbers(number, name)) != 1:
                raise BadOperand(f"{name} is {number!r}; it takes one integer")
        for name, number in (("channel", channel), ("axis", axis if group is not None else None)):
            if number is not None and not -len(shape) <= number < len(shape):
                raise BadOperand(f"{name} is {number}; x has shape {shape}"
                                 + " and no axes: give it one, as x[None] does" * (not shape))
        if group is not None:
            if group < 1:
                raise BadOperand(f"group is {group}; it takes 1 or more")
            return (axis % len(shape),), (group,)
        axes = tuple(a for a in range(len(shape)) if channel is None or a != channel % len(shape))
        return axes, tuple(max(shape[a], 1) for a in axes)


def _spread(given: Any, own: tuple[int, ...], name: str, dtype: Any) -> Array:
    """Given scales or zero points, which broadcast to those of the array, as they lie there."""
    array = np.asarray(given)
    if array.dtype.kind not in "iufb":
        raise BadOperand(f"{name} is {array.dtype.name}; it takes numbers")
    whole = array.astype(dtype)
    if name == "zero_point" and (whole != array).any():
        raise BadOperand("zero_point holds what is no integer of 32 bits")
    try:
        return np.broadcast_to(whole, own).astype(np.float64 if name == "scale" else dtype)
    except ValueError:
        raise BadOperand(f"{name} has shape {array.shape}; it must broadcast to {own}") from None


class _Elements(NamedTuple):
    """How groups (count, n) of numbers become codes, once their scales are known."""

    fmt: ScaledFormat
    policy: Policy
    engine: str | None
    counted: bool

    def run(self, x: Array, scale: Array, zero: Array, words: Array | None, own: Array | None) -> tuple[Array, Array]:
        """Codes of all, and how many saturated and were flushed; own: elements that the rule has made itself."""
        y = np.empty(x.shape, self.fmt.element.code_dtype)
        make = self._table if isinstance(self.fmt.element, Table) else self._integers

        def work(part: tuple[Slices, Slices, tuple[int, ...]]) -> tuple[int, int]:
            where, rows = part[0], part[1][0]
            if own is None:
                y[where], *counts = make(x[where], scale[rows], zero[rows], None if words is None else words[where])
                return counts[0], counts[1]
            y[where] = own[where] & np.int8((1 << self.fmt.element.bits) - 1)
            lost = isinstance(self.fmt.element, Integer) and np.count_nonzero((own[where] == 0) & (x[where] != 0))
            return 0, int(lost)

        parts = spread(work, pieces(x.shape, (1,), x.shape[1:], CHUNK // 8, inside=True))
        return y, np.array(parts, np.int64).reshape(-1, 2).sum(0)

    def _integers(self, x: Array, scale: Array, zero: Array, words: Array | None) -> tuple[Array, int, int]:
        element: Any = self.fmt.element
        if self.fmt.rule in NARROW and element.signed and element.bits > 1 and not zero.any():
            grid = Float(f"{element} in sign and magnitude", 1, element.bits - 2, 3 - element.bits, "finite")
            y = np.empty(x.shape, grid.code_dtype)
            counts = over(x, scale, grid, self.policy, words, y, self.engine, self.counted)
            return twos_complement_of(y, element.bits), int(counts[:4].sum()), int(counts[5])
        width = max(element.bits, int(np.abs(zero.astype(np.int64)).max(initial=0)).bit_length()) + 1
        width += width in (14, 30)                          # one bit left for the sum with the zero point
        grid = Float("whole numbers", 1, width, 1 - width, "finite")
        y = np.empty(x.shape, grid.code_dtype)
        over(x, scale, grid, self.policy, words, y, self.engine, False)
        found, saturated, flushed = signed(y, width + 1), 0, 0
        low, high = -element.max if self.fmt.rule in NARROW else element.min, element.max
        lost = (found == 0) & (x != 0) if self.counted else None
        if zero.any():
            found += zero[:, None].astype(found.dtype)
        if lost is not None:
            beyond = (found < low) | (found > high)
            saturated, flushed = int(np.count_nonzero(beyond)), int(np.count_nonzero(lost & ~beyond))
        found = np.clip(found, low, high, out=found).astype(element.code_dtype)
        return found & element.code_dtype.type((1 << element.bits) - 1), saturated, flushed

    def _table(self, x: Array, scale: Array, zero: Array, words: Array | None) -> tuple[Array, int, int]:
        """x is compared with the middles times the scale: exact, where those have 29 bits. Of float32 numbers it is the
        same to compare with the next float32 below."""
        values = np.array(self.fmt.element.values)          # type: ignore[union-attr]
        middles = (values[:-1] + values[1:]) / 2
        if len(middles) > 255 or (np.ldexp(np.frexp(middles)[0], 29) % 1 != 0).any():
            found = nearest(values, divided(x, scale[:, None]), self.engine)
        else:
            bounds = scale[:, None] * middles
            bounds = convert(bounds, "float32", "rd") if x.dtype == np.float32 else bounds
            found = above(x, bounds, self.engine)
        saturated = flushed = 0
        if self.counted:
            saturated = int(np.count_nonzero(np.abs(x) > _largest(self.fmt.element) * scale[:, None]))
            flushed = int(np.count_nonzero((values[found] == 0) & (x != 0)))
        return found, saturated, flushed


@dataclass(frozen=True, eq=False)
class DoubleScales:
    """Quantised scales. codes: of `format`, flat, typed or unsigned; scales: float32, one for each `group` of them;
    mean: float32; shape: that of the scales they stand for."""

    format: Float | Table
    codes: Array
    scales: Array
    group: int
    mean: np.float32
    shape: tuple[int, ...]

    def dequantize(self) -> Array:
        """The scales that they stand for, float32."""
        values = convert(self.codes, "float32", source=self.format)
        found = values * np.repeat(self.scales, self.group)[:values.size] + self.mean
        return found.reshape(self.shape)


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
    double: DoubleScales | None = None

    def with_double_scales(self, to: Any = "e4m3", group: int = 256) -> ScaledArray:
        """The same elements, their scales quantised in turn: QLoRA's double quantisation (section 3).

        What the paper says: the scales, float32, are quantised to 8-bit floats in blocks of 256, symmetrically, after
        their mean is taken away. to: a Float (default E4M3; the paper does not say which 8 bits), or a Table: with
        dynamic_table() it is what bitsandbytes does (`compress_statistics`, quantize_blockwise). What neither says is
        fixed here: the mean is the exact one, in float32; it is subtracted in float32; the scale of a block, flat, is
        float32(largest magnitude / largest number of `to`), 1 for zeros; a number is float32(value * that scale) +
        mean in float32. Elements were made with the scales as they were. Raises BadOperand.
        """
        target = number_format(to)
        if isinstance(target, Integer) or group < 1:
            raise BadOperand(f"scales become {target} in groups of {group}; it takes a Float or a Table, and 1 or more")
        flat = np.ascontiguousarray(self.scales, np.float32).reshape(1, -1)
        mean = convert(_mean(flat, flat.size), "float32")[0] if flat.size else np.float32(0)
        with np.errstate(under="ignore"):
            centred = flat[0] - mean
        codes = np.array(0 if isinstance(target, Table) else target.max_code, np.uint64)
        largest = _largest(target) if isinstance(target, Table) else float(convert(codes, "float64", source=target))
        tops = np.array([_amax(part[None])[0] for part in np.split(centred, range(group, centred.size, group))])
        scales = np.where(tops > 0, np.maximum(_float32(divided(tops, largest)), 2.0**-149), 1)
        codes = convert(divided(centred, np.repeat(scales, group)[:centred.size]), target, overflow="saturate")
        double = DoubleScales(target, codes, scales.astype(np.float32), group, mean, self.scales.shape)
        return replace(self, scales=double.dequantize(), double=double)

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
        zeros = self.zero_points                            # one product of 24-bit numbers: float32 rounds it once
        small = zeros is None or int(np.abs(zeros.astype(np.int64)).max()) < 1 << 22
        work = np.float32 if number_format(dtype).name == "float32" and small else np.float64
        return rescaled(self.elements, self.format.element, self.axes, self.block, self.scales.astype(work), zeros,
                        None, dtype)

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


def dynamic_levels(bits: int = 8) -> tuple[float, ...]:
    """Levels of dynamic tree quantisation, signed, as bitsandbytes makes them (create_dynamic_map): the middles of
    2**i equal parts of 0.1..1 times 10**(i - bits + 2), for i = 0 to bits - 2, of both signs, 0 and 1. In float64 and
    then rounded to float32; bitsandbytes computes in float32, and may differ in the last bit."""
    found = [0.0, 1.0]
    for i in range(bits - 1):
        ends = np.linspace(0.1, 1, (1 << i) + 1)
        middles = (ends[:-1] + ends[1:]) / 2 * 10.0 ** (i - bits + 2)
        found += [*middles, *-middles]
    return tuple(sorted(map(float, found)))


@cache
def dynamic_table() -> Table:
    """The 256 dynamic levels."""
    return Table("dynamic8", dynamic_levels())


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
