"""Block formats: narrow elements that share a scale. MX, NVFP4, and any row of the same kind.

A block is `element` times `scale`, times one float32 per tensor where there are two levels. A row of BLOCKS says which
formats; a rule of POWERS, or a rounding mode, says how a block's largest magnitude becomes its scale; then each element
is its number over the scale, rounded once. Sources: OCP Microscaling Formats (MX) 1.0, sections 5 and 6.3 (the formats,
floor); pytorch/ao 0.18, mx_formats (the names floor, ceil, even, rceil; mode torchao); NVIDIA cuBLAS documentation,
"1D block scaling factors layout" (rceil, the 128x4 layout); NVIDIA TransformerEngine at 0718c01, common/cast/nvfp4
(mode te); Cook et al. 2025, "Four Over Six", arXiv 2512.02010.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from . import arrays, engine_c, engines
from .arrays import carriers, from_codes, pack
from .convert import Draw, Report, convert, policy_for, random_words, run, source_format, target_format
from .errors import BadOperand, UnknownFormat
from .exact import decode
from .formats import Float, Format, Integer, Table, number_format
from .record import COUNTS, conversion
from .rounding import MODES, STOCHASTIC, Policy
from .threads import spread, thread_count

__all__ = ["BLOCKS", "POWERS", "BlockArray", "BlockFormat", "from_128x4", "to_128x4"]

Array = np.ndarray
CHUNK = 1 << 20         # elements that one thread quantises at a time, or some more
_F32_MAX = np.finfo(np.float32).max

# Rules that make the scale a power of two: 2**(e - emax of the element), e being the exponent of amax, plus one if the
# fraction of amax is at least what the rule says. Stated as that fraction in units of 2**-52; 2**52 is never.
POWERS: dict[str, Callable[[Float], int]] = {
    "floor": lambda element: 1 << 52,                                       # OCP MX: amax may lie beyond the largest
    "ceil": lambda element: 1,
    "even": lambda element: (1 << 52) - (1 << 51 - element.frac_bits),      # amax rounded to the element's fraction
    "rceil": lambda element: _fraction(element) + 1,                        # the least scale that saturates nothing
}


def _fraction(element: Float) -> int:
    """The fraction of the element's largest number in units of 2**-52."""
    sig = decode(element, element.max_code).sig
    return (sig << 53 - sig.bit_length()) - (1 << 52)


@dataclass(frozen=True)
class BlockFormat:
    """A row: which elements share which scale.

    element: a Float of at most 16 bits and 8 exponent bits, or an Integer whose unit is 2**(2 - bits) (MXINT8: 2**-6;
    its least code is never made). block: elements that share a scale, along as many axes. scale: a Float of at most 16
    bits and 8 exponent bits. rule: a key of POWERS, or the rounding mode of amax / (largest element * tensor scale).
    two_level: whether a tensor has a float32 scale unless `quantize` is told otherwise. Raises UnknownFormat.
    """

    name: str
    element: Float | Integer
    block: tuple[int, ...]
    scale: Float
    rule: str
    two_level: bool = False

    def __post_init__(self) -> None:
        for what in (self.grid, self.scale):
            if what.bits > 16 or what.exp_bits > 8 or not what.emin - what.frac_bits > -200 < what.emax < 200:
                raise UnknownFormat(f"{self.name}: {what} has more than 16 bits, 8 exponent bits or a range beyond "
                                    "2**200; elements and scales are narrower")
        if not self.block or min(self.block) < 1:
            raise UnknownFormat(f"{self.name}: block is {self.block}; it takes one size of 1 or more for each axis")
        if self.rule not in POWERS and self.rule not in MODES or self.rule in STOCHASTIC:
            raise UnknownFormat(f"{self.name}: rule {self.rule!r} is not known; the rules are "
                                f"{', '.join(rule for rule in (*POWERS, *MODES) if rule not in STOCHASTIC)}")

    def __str__(self) -> str:
        return self.name

    @cached_property
    def grid(self) -> Float:
        """The element as a Float; of an Integer its numbers but the least, in sign and magnitude."""
        if isinstance(self.element, Float):
            return self.element
        if not self.element.signed or not 2 <= self.element.bits <= 16:
            raise UnknownFormat(f"{self.name}: elements {self.element} are not signed integers of 2 to 16 bits")
        return Float(f"{self.element} * 2**{2 - self.element.bits}", 1, self.element.bits - 2, 1, "finite")

    @property
    def unit(self) -> float:
        """What a 1 of the element stands for."""
        return 1.0 if isinstance(self.element, Float) else 2.0 ** (2 - self.element.bits)

    @property
    def exact_in_float32(self) -> bool:
        """Are products of an element and a scale float32 numbers, all of them?"""
        grid, scale = self.grid, self.scale
        return (grid.frac_bits + scale.frac_bits <= 22 and grid.emax + scale.emax <= 126
                and grid.emin - grid.frac_bits + scale.emin - scale.frac_bits >= -149)

    @cached_property
    def largest(self) -> float:
        number = decode(self.grid, self.grid.max_code)
        return math.ldexp(number.sig, number.exp)

    def quantize(self, x: Any, *, axis: int | tuple[int, ...] | None = None, block: int | tuple[int, ...] | None = None,
                 rule: str | None = None, rounding: str = "rne", overflow: str = "saturate", nan: str = "block",
                 two_level: bool | None = None, tensor_amax: float | None = None, scale_max: float | None = None,
                 four_over_six: str | None = None, mode: str = "exact", source: Any = None, seed: int | None = None,
                 random: Any = None, random_bits: int | None = None, engine: str | None = None,
                 return_report: bool = False) -> Any:
        """x in this format: a BlockArray of x's shape, from x's own bits.

        x, source, rounding, seed, random, random_bits, engine: as for `convert`; 64-bit integers beyond 2**53 enter
        rounded to odd. axis: along which a block lies, default the last. block: a size, or one for each axis (a tile);
        the last block of an axis may be shorter. rule: the row's, unless given. overflow: of the elements.

        two_level: the tensor scale is float32(amax of the finite numbers / (largest element * scale_max)), at least
        2**-149, 1 for a tensor of zeros. tensor_amax: that amax, if it is known already. scale_max: the largest scale
        unless given. four_over_six "mae" or "mse" (E2M1): each block takes the scale that maps its amax to 4 or to 6,
        whichever has the lower sum of absolute or squared errors; 6 if they tie. mode "exact": every quotient is
        rounded once. "te", "torchao": the float32 arithmetic of NVIDIA TransformerEngine and of torchao for NVFP4,
        operation by operation.

        A block of zeros has the smallest scale (E8M0: 2**-127; E4M3: 0, or 2**-9 by a rule of POWERS) and keeps its
        signs. A scale too small for its format becomes its smallest; where that is 0, so are the elements. An infinity
        counts as the largest amax: the scale saturates, and the infinity by `overflow`. nan="block": a NaN makes its
        block's scale NaN (OCP MX 1.0, section 6.3), with elements +0; another choice of rounding.POLICIES["nan"]: it is
        not seen by the scale, and is left to the element. Subnormals are numbers like others.

        return_report: return (BlockArray, Report): saturated and flushed elements, overflowed ones (also other numbers
        in a block whose scale is NaN), and NaNs that came. Raises BadOperand.
        """
        fmt = self._with(block, rule)
        found, given = np.asarray(x), source_format(x, source)
        axes = _axes(axis, len(fmt.block), found.ndim)
        draw, bits = random_words(rounding, seed, random, random_bits, found)
        policy = replace(policy_for(fmt.grid, rounding=rounding, overflow=overflow,
                                    nan="zero" if nan == "block" else nan), random_bits=bits)
        job = _Job(fmt, policy, nan, mode, engine, four_over_six, scale_max, return_report)
        two_level = (self.two_level if two_level is None else two_level) or tensor_amax is not None
        y, scales, tensor_scale, counts = job.run(found, given, axes, draw, two_level, tensor_amax)
        result = BlockArray(fmt, from_codes(y, fmt.element), from_codes(scales, fmt.scale), tensor_scale, axes)
        return (result, job.report(found.size, counts)) if return_report else result

    def _with(self, block: int | tuple[int, ...] | None, rule: str | None) -> BlockFormat:
        sizes = self.block if block is None else whole_numbers(block, "block")
        try:
            return self if (sizes, rule or self.rule) == (self.block, self.rule) else replace(
                self, block=sizes, rule=rule or self.rule)
        except UnknownFormat as error:
            raise BadOperand(str(error)) from None

    def stored(self, y: Array) -> Array:
        """Codes of `grid` as those of the element, in place: two's complement where it is an integer."""
        return y if isinstance(self.element, Float) else twos_complement_of(y, self.element.bits)


@dataclass(frozen=True, eq=False)
class BlockArray:
    """A quantised array. elements: of the array's shape and the element's numpy or ml_dtypes type. scales: one per
    block, the shape divided by `format.block` along `axes`, rounded up; UE4M3 in float8_e4m3fn. tensor_scale: or None.

    An element stands for element * scale * tensor_scale. Elements and scales of A quantised along its last axis, and B
    along its first, are operands of emulator.matmul on a block-scaled instruction; the tensor scales' product is alpha.
    """

    format: BlockFormat
    elements: Array
    scales: Array
    tensor_scale: np.float32 | None
    axes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.elements.shape

    @property
    def codes(self) -> Array:
        """The elements as unsigned codes."""
        return arrays.codes(self.elements, self.format.element, "elements")

    @property
    def packed(self) -> Array:
        """The codes as a stream of bits (arrays.pack) along the last of `axes`, which comes last: (..., bytes)."""
        element = self.format.element
        typed = self.elements.dtype.name == element.name
        return pack(np.moveaxis(self.elements, self.axes[-1], -1), None if typed else element.bits)

    def scales_along(self, axis: int) -> Array:
        """One scale per block of `axis` and per element of every other axis: what an instruction takes for a tile."""
        scales = self.scales
        for other, size in zip(self.axes, self.format.block):
            if other != axis % self.elements.ndim:
                scales = np.repeat(scales, size, other).take(range(self.shape[other]), other)
        return scales

    def dequantize(self, dtype: Any = np.float32) -> Array:
        """The numbers in a floating-point format, rounded once to nearest even; those of float64 are exact."""
        fmt, unit = self.format, self.tensor_scale
        plain = (fmt.scale.inf_code is None and (fmt.grid.inf_code is None or fmt.scale.specials == "exponent")
                 and (unit is None or bool(np.isfinite(unit))))                     # no infinity meets a zero
        narrow = plain and number_format(dtype).name == "float32" and (unit is None or fmt.exact_in_float32)
        work = np.dtype(np.float32 if narrow else np.float64)
        scales = convert(self.scales, work, source=fmt.scale) * work.type(fmt.unit)
        found = rescaled(self.elements, fmt.element, self.axes, fmt.block, scales, None, unit, dtype)
        return found if plain else convert(found, dtype)

    def __repr__(self) -> str:
        levels = "" if self.tensor_scale is None else f", tensor scale {self.tensor_scale!s}"
        return f"<{self.format} {self.shape}, blocks of {'x'.join(map(str, self.format.block))}{levels}>"


# --- layout -----------------------------------------------------------------------------------------------------------

def _axes(axis: int | tuple[int, ...] | None, count: int, ndim: int) -> tuple[int, ...]:
    if ndim < count:
        raise BadOperand(f"x has {ndim} axes, and blocks lie along {count}; give it more of them, as x[None] does")
    wanted = tuple(range(-count, 0)) if axis is None else whole_numbers(axis, "axis")
    if len(wanted) != count or not all(-ndim <= a < ndim for a in wanted) or len({a % ndim for a in wanted}) < count:
        raise BadOperand(f"axis is {axis}; blocks along {count} of {ndim} axes take {count} of {-ndim}..{ndim - 1}")
    return tuple(a % ndim for a in wanted)


def whole_numbers(given: Any, name: str) -> tuple[int, ...]:
    """One integer, or several. Raises BadOperand."""
    try:
        return tuple(map(operator.index, given if isinstance(given, tuple | list) else (given,)))
    except TypeError:
        raise BadOperand(f"{name} is {given!r}; it takes an integer, or one for each axis") from None


def front(axes: tuple[int, ...], ndim: int) -> list[int]:
    """The order of axes in which those of a block come last."""
    return [a for a in range(ndim) if a not in axes] + list(axes)


def back(axes: tuple[int, ...], ndim: int) -> list[int]:
    return np.argsort(front(axes, ndim)).tolist()


def scale_shape(shape: tuple[int, ...], axes: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, ...]:
    """Of the scales, the axes of a block last."""
    return *(n for a, n in enumerate(shape) if a not in axes), *(-(-shape[a] // b) for a, b in zip(axes, block))


Slices = tuple[slice, ...]


def pieces(shape: tuple[int, ...], axes: tuple[int, ...], block: tuple[int, ...], limit: int = 0,
           inside: bool = False) -> list[tuple[Slices, Slices, tuple[int, ...]]]:
    """Parts of an array, of about `limit` elements, 0: as many as are cheap to gather. Where each lies in it, where its
    scales lie in theirs, and the size of its blocks, which are all alike: those at an edge may be smaller. Of whole
    blocks, or if `inside` of parts of them."""
    sizes = {a: max(1, min(b, shape[a])) for a, b in zip(axes, block)}
    limit = limit or (CHUNK if axes in ((), (len(shape) - 1,)) else CHUNK // 8)
    room, cuts = limit if inside else max(1, limit // math.prod(sizes.values())), []
    for a in reversed(range(len(shape))):
        unit, size = 1 if inside else sizes.get(a, 1), sizes.get(a, 1)
        count = max(1, min(-(-shape[a] // unit), room))
        room = max(1, room // count)
        cuts.append(_cuts(shape[a], size, count * unit))
    return [(tuple(slice(*cut[:2]) for cut in way), tuple(slice(*cut[2:4]) for cut in way),
             tuple(way[a][4] for a in axes)) for way in itertools.product(*reversed(cuts))]


def _cuts(length: int, size: int, step: int) -> list[tuple[int, int, int, int, int]]:
    """0..length in steps of about `step`, blocks being `size`: start, stop, those of the blocks, and their size."""
    if step < size:                                         # inside of blocks
        return [(at, min(at + step, end), i, i + 1, min(at + step, end) - at) for i in range(-(-length // size))
                for end in (min((i + 1) * size, length),) for at in range(i * size, end, step)]
    step, whole = step // size * size, length // size * size
    found = [(at, min(at + step, whole), at // size, min(at + step, whole) // size, size)
             for at in range(0, whole, step)]
    return found + [(whole, length, whole // size, whole // size + 1, length - whole)] * (whole < length)


def gather(x: Array, axes: tuple[int, ...], block: tuple[int, ...]) -> Array:
    """x, of whole blocks, as contiguous (blocks, elements of a block)."""
    grid, lead = scale_shape(x.shape, axes, block), x.ndim - len(axes)
    moved = x.transpose(front(axes, x.ndim))
    if len(axes) == 1 and axes[0] != x.ndim - 1 and block[0] > 64:      # by tiles that fit the cache
        moved, cut = np.empty(moved.shape, x.dtype), (slice(None),) * axes[0]
        for i in range(0, moved.shape[-1], 64):
            tile = np.ascontiguousarray(x[(*cut, slice(i, i + 64))])
            moved[..., i:i + 64] = tile.transpose(front(axes, x.ndim))
    split = moved.reshape((*grid[:lead], *(size for pair in zip(grid[lead:], block) for size in pair)))
    order = [*range(lead), *range(lead, split.ndim, 2), *range(lead + 1, split.ndim, 2)]
    return np.ascontiguousarray(split.transpose(order)).reshape(math.prod(grid), math.prod(block))


def scatter(y: Array, shape: tuple[int, ...], axes: tuple[int, ...], block: tuple[int, ...]) -> Array:
    """Back from (blocks, elements of a block) to an array of that shape."""
    grid, k = scale_shape(shape, axes, block), len(axes)
    lead = len(grid) - k
    order = [*range(lead), *(a for i in range(k) for a in (lead + i, lead + k + i))]
    whole = y.reshape((*grid, *block)).transpose(order).reshape((*grid[:lead], *(shape[a] for a in axes)))
    return whole.transpose(back(axes, len(shape)))


def rescaled(elements: Array, element: Format, axes: tuple[int, ...], block: tuple[int, ...], scales: Array,
             zeros: Array | None, factor: Any, dtype: Any) -> Array:
    """(element - zero) * scale, times `factor` if there is one, in the type of the scales, and that rounded to `dtype`;
    scales and zeros as they lie in a BlockArray."""
    work, target = scales.dtype, target_format(dtype)
    out = np.empty(elements.shape, work if target.name == work.name else carriers(target)[0])
    fast = engine_c.available() and element.bits <= 8 and work == np.float32 == out.dtype
    table = np.arange(1 << element.bits, dtype=np.uint8)
    values = convert(table, work, source=element) if element.bits <= 8 and not isinstance(element, Table) else None
    if isinstance(element, Table):
        values = np.array(element.values, work)
    codes = arrays.any_codes(elements, element, "elements")
    last = tuple(range(elements.ndim - len(axes), elements.ndim))

    def work_on(part: tuple[Slices, Slices, tuple[int, ...]]) -> None:
        where, at, size = part
        given, scale, there = at_(codes, where), at_(scales, at), at_(out, where)
        zero = None if zeros is None else at_(zeros, at).astype(work)
        runs = axes == last and given.shape[len(given.shape) - len(axes) + 1:] == size[1:]
        if fast and runs and values is not None and given.flags.c_contiguous and there.flags.c_contiguous:
            engine_c.scaled(given, values, zero, np.ascontiguousarray(scale), 1.0 if factor is None else float(factor),
                            there)
            return
        numbers = (values.take(given) if values is not None else convert(given, work, source=element))
        split, flat = _split(numbers.shape, axes, size)
        numbers = numbers.reshape(split)
        with np.errstate(all="ignore"):
            if zero is not None:
                numbers -= zero.reshape(flat)
            numbers *= scale.reshape(flat)
            if factor is not None:
                numbers *= work.type(factor)
        numbers = numbers.reshape(given.shape)
        there[...] = numbers if out.dtype == work else convert(numbers, target)

    spread(work_on, pieces(elements.shape, axes, block, CHUNK // 4, inside=True))
    return out


def at_(x: Array, where: Slices) -> Array:
    """x[where], an array also where x has no axes."""
    index: Any = (*where, ...)
    return x[index]


def _split(shape: tuple[int, ...], axes: tuple[int, ...], block: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The shape of whole blocks, and that of their scales."""
    split, flat = [], []
    for a, n in enumerate(shape):
        size = dict(zip(axes, block)).get(a, 0)
        split += [n // size, size] if size else [n]
        flat += [n // size, 1] if size else [n]
    return split, flat


def twos_complement_of(y: Array, bits: int) -> Array:
    """Codes in sign and magnitude, of that many bits, as two's complement, in place."""
    negative = y >> y.dtype.type(bits - 1)
    y &= y.dtype.type((1 << bits - 1) - 1)
    y ^= y.dtype.type(0) - negative
    y += negative
    y &= y.dtype.type((1 << bits) - 1)
    return y


def to_128x4(scales: Any) -> Array:
    """Scales (..., rows, columns), columns along k, as cuBLASLt reads them: (..., padded rows * padded columns).

    Tiles of 128 rows by 4 columns, zeros beyond the edges, one after the other along a row of tiles; in a tile the
    scale of row r and column c lies at r % 32 * 16 + r // 32 * 4 + c. Raises BadOperand.
    """
    array = np.asarray(scales)
    if array.ndim < 2 or array.dtype.itemsize != 1:
        raise BadOperand(f"scales are {array.dtype.name} {array.shape}; the layout takes bytes (..., rows, columns)")
    rows, columns = array.shape[-2:]
    down, across = -(-rows // 128), -(-columns // 4)
    padded = np.zeros((*array.shape[:-2], down * 128, across * 4), np.uint8)
    padded[..., :rows, :columns] = array.view(np.uint8)
    tiles = padded.reshape(*array.shape[:-2], down, 4, 32, across, 4)
    order = [*range(array.ndim - 2), *(array.ndim - 2 + i for i in (0, 3, 2, 1, 4))]
    return tiles.transpose(order).reshape(*array.shape[:-2], -1).view(array.dtype)


def from_128x4(scales: Any, rows: int, columns: int) -> Array:
    """The scales (..., rows, columns) that `to_128x4` put there. Raises BadOperand."""
    array = np.ascontiguousarray(scales)
    down, across = -(-rows // 128), -(-columns // 4)
    if array.ndim < 1 or array.dtype.itemsize != 1 or array.shape[-1] != down * across * 512:
        raise BadOperand(f"scales are {array.dtype.name} {array.shape}; {rows} rows and {columns} columns take bytes "
                         f"(..., {down * across * 512})")
    tiles = array.view(np.uint8).reshape(*array.shape[:-1], down, across, 32, 4, 4)
    lead = array.ndim - 1
    whole = tiles.transpose([*range(lead), *(lead + i for i in (0, 3, 2, 1, 4))])
    found = whole.reshape(*array.shape[:-1], down * 128, across * 4)[..., :rows, :columns]
    return np.ascontiguousarray(found).view(array.dtype)


# --- arithmetic -------------------------------------------------------------------------------------------------------

def floats_type(source: Format) -> np.dtype:
    """float32 if that holds all numbers of the format, else float64."""
    f32 = number_format("float32")
    fits = (source.emax <= f32.emax and source.emin - source.frac_bits >= f32.emin - 23 and source.frac_bits <= 23
            if isinstance(source, Float) else isinstance(source, Table) or source.bits <= 24)
    return np.dtype(np.float32 if fits else np.float64)


def floats(x: Any, source: Format) -> Array:
    """x in that type, wide integers rounded to odd."""
    wanted, array = floats_type(source), np.asarray(x)
    if array.dtype.newbyteorder("=") == wanted and source.name == wanted.name:
        return array.astype(wanted, copy=False)
    return convert(x, wanted, "ro", source=source)


def divided(x: Any, divisor: Any) -> Array:
    """x / divisor in float64, rounded to odd; divisors are positive, or infinite: they make zeros of numbers.

    What is rounded to nearest is made odd where it is inexact, by its remainder. On significands, where nothing leaves
    the range, q * divisor is two floats exactly (Dekker 1971, doi 10.1007/BF01397083), and so the remainder is one.
    Rounding to odd loses nothing that a later rounding to 51 bits or fewer, in any mode, would see (Boldo and Melquiond
    2008, doi 10.1109/TC.2007.70819). Exponents stop at -1000, far below every format's.
    """
    with np.errstate(all="ignore"):
        top, below = np.frexp(np.asarray(x, np.float64)), np.frexp(np.asarray(divisor, np.float64))
        q = top[0] / below[0]
        high = [part - (part - whole) for whole in (q, below[0]) for part in (whole * 134217729.0,)]    # 2**27 + 1
        low = [whole - part for whole, part in zip((q, below[0]), high)]
        product = q * below[0]
        error = ((high[0] * high[1] - product) + high[0] * low[1] + low[0] * high[1]) + low[0] * low[1]
        rest = (top[0] - product) - error
        code = np.asarray(q).view(np.int64)
        step = np.where((rest > 0) == (q > 0), 1, -1)
        code += np.where((rest != 0) & np.isfinite(rest) & (code & 1 == 0), step, 0)
        q = np.ldexp(code.view(np.float64), np.maximum(top[1] - below[1], -1000))
        return np.where(np.isinf(divisor) & np.isfinite(x), np.copysign(0.0, x), q)


def in_c(engine: str | None) -> bool:
    return (engine or engines.default()) == "c"


def amax_of(x: Array, engine: str | None) -> Array:
    """The largest magnitude of each row of contiguous x, float32 or float64; a NaN is larger than all."""
    if in_c(engine):
        engine_c.amax(x, top := np.empty(len(x), x.dtype))
        return top
    code = x.view(f"u{x.dtype.itemsize}")
    return (code & code.dtype.type((1 << 8 * x.dtype.itemsize - 1) - 1)).max(axis=1, initial=0).view(x.dtype)


def over(x: Array, divisor: Array, target: Float, policy: Policy, words: Array | None, y: Array, engine: str | None,
         counted: bool) -> Array:
    """Fill y with the codes of x / divisor, one float64 divisor a row, rounded once; counts as of COUNTS. Raises
    BadOperand where the policy refuses a number."""
    if not in_c(engine):
        return _rounded(divided(x, divisor[:, None]), target, policy, words, y, engine, counted)
    counts, strict = np.zeros(len(COUNTS), np.int64), "error" in (policy.overflow, policy.nan)
    how = conversion(number_format(x.dtype), target, policy)
    engine_c.converts_over(how, x, divisor, words, y, counts if counted or strict else None)
    if _refuses(policy, counts):
        _rounded(divided(x, divisor[:, None]), target, policy, words, y, engine, counted)
    return counts


def _refuses(policy: Policy, counts: Array) -> bool:
    *beyond, nan, _ = counts
    return (policy.overflow == "error" and any(beyond)) or (policy.nan == "error" and bool(nan))


def _rounded(x: Array, target: Float, policy: Policy, words: Array | None, y: Array, engine: str | None,
             counted: bool) -> Array:
    """Fill y with the codes of x, rounded once; counts."""
    source, strict = number_format(x.dtype), "error" in (policy.overflow, policy.nan)
    flat = np.ascontiguousarray(x).reshape(-1).view(source.code_dtype)
    drawn = None if words is None else words.reshape(-1)
    found, counts = run(conversion(source, target, policy), flat,
                        lambda start, stop: None if drawn is None else drawn[start:stop], engine, counted or strict)
    y[:] = found.reshape(x.shape)
    if _refuses(policy, counts):
        mode = "rz" if policy.rounding in STOCHASTIC else policy.rounding
        try:
            convert(x, target, mode, policy.overflow, policy.nan)
        except BadOperand as error:
            raise BadOperand(f"an element over its scale, by block and position in it: {error}") from None
    return counts


# --- modes ------------------------------------------------------------------------------------------------------------

class _Tensor(NamedTuple):
    """The upper level: amax of the tensor, its scale, and in mode te what numbers are multiplied by."""

    amax: float
    scale: np.float32
    encode: np.float32 = np.float32(1)


# A mode is two functions. One makes of the tensor's amax the _Tensor; the other makes of each block's amax, which
# becomes the element `limit`, the scale and what the block's numbers are divided (exact) or multiplied by.

def _exact_tensor(job: _Job, amax: float) -> _Tensor:
    quotient = divided(amax, job.fmt.largest * job.scale_max) if amax else 1.0
    return _Tensor(amax, np.maximum(convert(quotient, "float32", overflow="saturate"), np.float32(2**-149))[()])


def _exact(job: _Job, amax: Array, tensor: _Tensor | None, limit: float) -> tuple[Array, Array]:
    fmt, unit = job.fmt, 1.0 if tensor is None else float(tensor.scale)
    if fmt.rule in POWERS:
        level = amax if tensor is None else divided(amax, unit)
        code = _power_codes(fmt, level)
    else:
        code = np.empty(amax.shape, fmt.scale.code_dtype)
        job.over(amax[None], np.array([limit * unit]), fmt.scale, Policy(fmt.rule, "saturate"), None, code[None])
    return from_codes(code, fmt.scale), _divisors(fmt.scale, unit).take(code)


@lru_cache(64)
def _divisors(scale: Float, unit: float) -> Array:
    """What each code of a scale divides by; infinity where nothing is left: for a scale of 0 (or NaN)."""
    values = convert(np.arange(1 << scale.bits, dtype=scale.code_dtype), "float64", source=scale) * unit
    return np.where(values > 0, values, np.inf)


@lru_cache(64)
def _powers(fmt: BlockFormat, dtype: np.dtype) -> tuple[Array, Any]:
    """The scale's code for each exponent field of amax, and what is to be added to amax before the field is read."""
    frac, bias = (23, 127) if dtype == np.float32 else (52, 1023)
    exponents = np.arange(2 * bias + 2) - bias - fmt.grid.emax
    exponents = np.append(exponents, fmt.scale.emax)            # and one for infinities
    clipped = np.clip(exponents, fmt.scale.emin - fmt.scale.frac_bits, fmt.scale.emax)
    table = arrays.codes(convert(np.ldexp(1.0, clipped), fmt.scale), fmt.scale, "the scales")
    up = (1 << frac) - -(-POWERS[fmt.rule](fmt.grid) >> 52 - frac)
    return table, dtype.type(0).view(f"u{dtype.itemsize}").dtype.type(up)


def _power_codes(fmt: BlockFormat, amax: Array) -> Array:
    # a float32 below 2**-126 has no exponent to read: no matter if its scale, and the next, are the smallest
    if amax.dtype == np.float32 and fmt.grid.emax + fmt.scale.emin - fmt.scale.frac_bits < -126:
        amax = amax.astype(np.float64)
    table, up = _powers(fmt, amax.dtype)
    code = table.take(amax.view(up.dtype) + up >> up.dtype.type(23 if amax.dtype == np.float32 else 52))
    code[np.isinf(amax)] = table[-1]
    return code


def _te_tensor(job: _Job, amax: float) -> _Tensor:
    encode = np.float32(job.scale_max * 6) / np.float32(amax)
    encode = np.fmin(encode, _F32_MAX) if amax and encode else np.float32(1)
    return _Tensor(amax, np.float32(1) / encode, encode)


def _te(job: _Job, amax: Array, tensor: _Tensor | None, limit: float) -> tuple[Array, Array]:
    encode, six = np.float32(1) if tensor is None else tensor.encode, np.float32(6)
    if job.four_over_six:
        level = np.fmin(amax / six * encode * np.float32(six / limit), np.float32(448))
    else:
        level = np.fmin(amax * (encode * (np.float32(1) / six)), _F32_MAX)
    scales = convert(level, job.fmt.scale, overflow="saturate")
    decoded = convert(scales, "float32", source=job.fmt.scale) * (np.float32(1) / encode)
    return scales, np.fmin(np.float32(1) / decoded, _F32_MAX)


def _torchao_tensor(job: _Job, amax: float) -> _Tensor:
    return _Tensor(amax, np.float32(amax) / np.float32(job.scale_max * 6))


def _torchao(job: _Job, amax: Array, tensor: _Tensor | None, limit: float) -> tuple[Array, Array]:
    unit, six = np.float32(1) if tensor is None else tensor.scale, np.float32(6)
    level = np.clip(amax / six / unit, np.float32(2**-6), np.float32(448))
    scales = convert(level, job.fmt.scale, overflow="saturate")
    return scales, np.float32(1) / unit / convert(scales, "float32", source=job.fmt.scale)


_MODES = {"exact": (_exact_tensor, _exact), "te": (_te_tensor, _te), "torchao": (_torchao_tensor, _torchao)}


@dataclass(frozen=True)
class _Job:
    """One quantisation of blocks x (blocks, elements of a block) in float32 or float64."""

    fmt: BlockFormat
    policy: Policy
    nan: str
    mode: str
    engine: str | None
    four_over_six: str | None
    given_scale_max: float | None
    counted: bool

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise BadOperand(f"mode {self.mode!r} is not known; the modes are {', '.join(_MODES)}")
        nvfp4 = self.fmt.grid.name == "float4_e2m1fn" and self.fmt.scale.name == "float8_ue4m3"
        if self.mode != "exact" and (not nvfp4 or self.fmt.rule != "rne"):
            raise BadOperand(f"mode {self.mode} is arithmetic of NVFP4, E2M1 with E4M3 scales to nearest even; "
                             f"{self.fmt}, rule {self.fmt.rule}, is not")
        if self.given_scale_max is not None and not 0 < self.given_scale_max < math.inf:
            raise BadOperand(f"scale_max is {self.given_scale_max}; it takes a positive number, the largest scale")
        if self.four_over_six not in (None, "mae", "mse"):
            raise BadOperand(f"four_over_six is {self.four_over_six!r}; it takes mae or mse")
        if self.four_over_six and (self.fmt.grid.name != "float4_e2m1fn" or self.fmt.rule in POWERS
                                   or self.policy.rounding in STOCHASTIC or self.mode == "torchao"):
            raise BadOperand("four_over_six chooses between scales that are not powers of two, for E2M1 elements, "
                             "rounded the same way each time, in mode exact or te")

    @property
    def one_pass(self) -> bool:
        """Does C make the scales of float32 blocks itself: a table's entry for each exponent of amax?"""
        return (self.mode == "exact" and self.fmt.rule in POWERS and self.fmt.scale.bits <= 8 and not self.counted
                and self.fmt.grid.emax + self.fmt.scale.emin - self.fmt.scale.frac_bits >= -126 and in_c(self.engine)
                and "error" not in (self.policy.overflow, self.policy.nan))

    @property
    def scale_max(self) -> float:
        number = decode(self.fmt.scale, self.fmt.scale.max_code)
        return self.given_scale_max or math.ldexp(number.sig, number.exp)

    def run(self, x: Array, given: Format, axes: tuple[int, ...], draw: Draw, two_level: bool,
            tensor_amax: float | None) -> tuple[Array, Array, np.float32 | None, Array]:
        """Codes of the elements, codes of the scales, the tensor scale, and counts as of COUNTS and `lost`."""
        if self.mode != "exact" and (wide := floats_type(given)) != np.float32:
            raise BadOperand(f"x needs {wide.name}, and mode {self.mode} computes in float32; convert it first")
        words = draw(0, x.size)
        words = None if words is None else words.reshape(x.shape)
        along, tensor = axes == (x.ndim - 1,), None
        room = min(4 * CHUNK, max(CHUNK, -(-x.size // thread_count()))) if along else 0
        parts = pieces(x.shape, axes, self.fmt.block, room)
        levels: list[Array | None] = [None] * len(parts)

        def level(part: tuple[Slices, Slices, tuple[int, ...]]) -> tuple[float, Array | None]:
            values = floats(x[part[0]], given)
            if not along:
                return self.top(values), None
            amax = amax_of(gather(values, axes, part[2]), self.engine)
            most = float(amax.max(initial=0))               # a NaN, if there is one
            return most if math.isfinite(most) else self.top(values), amax

        if two_level:
            top = tensor_amax
            if top is None:
                found = spread(level, parts)
                levels = [amax for _, amax in found]
                top = max((most for most, _ in found), default=0.0)
            if not 0 <= top:
                raise BadOperand(f"tensor_amax is {top}; it takes a magnitude, 0 or more")
            with np.errstate(all="ignore"):
                tensor = _MODES[self.mode][0](self, top)
        y = np.empty(x.shape, self.fmt.element.code_dtype)
        grid = scale_shape(x.shape, axes, self.fmt.block)
        scales = np.empty([grid[front(axes, x.ndim).index(a)] for a in range(x.ndim)], self.fmt.scale.code_dtype)

        def work(task: tuple[tuple[Slices, Slices, tuple[int, ...]], Array | None]) -> Array:
            (where, at, size), amax = task
            values = gather(floats(x[where], given), axes, size)
            drawn = None if words is None else gather(words[where], axes, size)
            there = y[where]
            straight = there.flags.c_contiguous and axes == (x.ndim - 1,)
            codes = there.reshape(values.shape) if straight else np.empty(values.shape, y.dtype)
            with np.errstate(all="ignore"):
                found, counts = self.chunk(values, amax, tensor, drawn, codes, size)
            self.fmt.stored(codes)
            if not straight:
                y[where] = scatter(codes, there.shape, axes, size)
            scales[at] = scatter(arrays.codes(found, self.fmt.scale, "scales")[:, None], scales[at].shape, axes,
                                 (1,) * len(axes))
            return counts

        counts = np.array(spread(work, list(zip(parts, levels))), np.int64).reshape(-1, len(COUNTS) + 1).sum(axis=0)
        return y, scales, tensor and tensor.scale, counts

    def top(self, x: Array) -> float:
        """The largest magnitude of all numbers; in mode exact of the finite ones."""
        found = amax_of(np.ascontiguousarray(x).reshape(1, -1), self.engine)[0]
        if np.isfinite(found) or (self.mode != "exact" and not np.isnan(found)):
            return float(found)
        seen = np.isfinite(x) if self.mode == "exact" else ~np.isnan(x)
        return float(np.abs(x[seen]).max(initial=0))

    def chunk(self, x: Array, amax: Array | None, tensor: _Tensor | None, words: Array | None, y: Array,
              size: tuple[int, ...]) -> tuple[Array, Array]:
        """Fill y with the codes of a few blocks of that size: their scales, counts, and numbers lost to NaN scales."""
        if tensor is None and self.one_pass and x.dtype == np.float32 and len(x):
            table, up = _powers(self.fmt, x.dtype)
            how, scales = conversion(number_format("float32"), self.fmt.grid, self.policy), np.empty(len(x), np.uint8)
            if engine_c.converts_by_powers(how, x, int(up), table, _divisors(self.fmt.scale, 1.0), words, y, scales):
                return from_codes(scales, self.fmt.scale), np.zeros(len(COUNTS) + 1, np.int64)
        amax = amax_of(x, self.engine) if amax is None else amax
        bad, nans = np.flatnonzero(np.isnan(amax)), 0
        if bad.size:                                        # rare, so there may be copies
            x, isnan = x.copy(), np.isnan(x[bad])
            amax[bad] = 0 if self.nan == "block" else np.where(isnan, 0, np.abs(x[bad])).max(axis=1)
            x[bad] = 0 if self.nan == "block" else x[bad]
            nans = int(isnan.sum()) if self.nan == "block" else 0
        make = _MODES[self.mode][1]
        scales, factor = make(self, amax, tensor, self.fmt.largest)
        if self.four_over_six:
            others, other = make(self, amax, tensor, 4.0)
            worse = self.error(x, scales, factor, tensor, y, size) > self.error(x, others, other, tensor, y, size)
            scales = np.where(worse, others.view(np.uint8), scales.view(np.uint8)).view(scales.dtype)
            factor = np.where(worse, other, factor)
        counts = self.elements(x, factor, words, y)
        if bad.size and self.nan == "block":
            scales[bad] = from_codes(np.array([self.fmt.scale.nan_code], self.fmt.scale.code_dtype), self.fmt.scale)
            counts[COUNTS.index("nan")] += nans
        return scales, np.append(counts, x[bad].size - nans if self.nan == "block" else 0)

    def error(self, x: Array, scales: Array, factor: Array, tensor: _Tensor | None, y: Array,
              size: tuple[int, ...]) -> Array:
        """What each block would lose: the sum of its errors in ascending order, in float64, or as TransformerEngine. y
        is room for codes."""
        te, squared, grid = self.mode == "te", self.four_over_six == "mse", self.fmt.grid
        real = np.float32 if te else np.float64
        self.elements(x, factor, None, y)
        scale = convert(scales, real, source=self.fmt.scale)
        if tensor is not None and not te:
            scale *= float(tensor.scale)                    # 16 bits times 24: exact
        rows = size[0] if te and self.fmt.block == (16, 16) else 1
        lines, codes, scale = x.reshape(len(x) * rows, -1), y.reshape(len(x) * rows, -1), np.repeat(scale, rows)
        factors = (tensor.amax, float(np.float32(6 * self.scale_max))) if te and tensor is not None else (1.0, 1.0)
        if in_c(self.engine):
            values = convert(np.arange(1 << grid.bits, dtype=np.uint8), real, source=grid)
            lost = engine_c.errors(lines, codes, values, scale, squared, factors if te else None)
        else:
            decoded = convert(codes, real, source=grid) * scale[:, None]
            if te and tensor is not None:
                decoded = decoded * real(factors[0]) / real(factors[1])
            each = decoded - lines
            lost = np.add.accumulate(each * each if squared else np.abs(each), axis=1)[:, -1]
        if rows == 1:
            return lost
        sums = np.zeros((len(x), 16), real)                 # the rows' sums are added pair by pair
        sums[:, :rows] = lost.reshape(len(x), rows)
        while sums.shape[1] > 1:
            sums = sums[:, :sums.shape[1] // 2] + sums[:, sums.shape[1] // 2:]
        return sums[:, 0]

    def elements(self, x: Array, factor: Array, words: Array | None, y: Array) -> Array:
        """Fill y with the codes of x divided by factor (exact) or multiplied in float32; counts."""
        if self.mode != "exact":
            return _rounded(x * factor[:, None], self.fmt.grid, self.policy, words, y, self.engine, self.counted)
        counts = self.over(x, factor, self.fmt.grid, self.policy, words, y)
        if self.counted and np.isinf(factor).any():
            counts[COUNTS.index("flushed")] += np.count_nonzero(x[np.isinf(factor)])
        return counts

    def over(self, x: Array, divisor: Array, target: Float, policy: Policy, words: Array | None, y: Array) -> Array:
        return over(x, divisor, target, policy, words, y, self.engine, self.counted)

    def report(self, elements: int, counts: Array) -> Report:
        *known, lost = map(int, counts)
        count = dict(zip(COUNTS, known))
        how = conversion(number_format("float64"), self.fmt.grid, self.policy)
        saturated = overflowed = 0
        for name, code in dict(zip(COUNTS, (*how.over, *how.infinity))).items():
            kind = decode(self.fmt.grid, code or 0).kind
            saturated += count[name] * (kind == "finite")
            overflowed += count[name] * (kind == "nan" or (kind == "inf" and not name.startswith("infinite")))
        return Report(elements, saturated, overflowed + lost, count["flushed"], count["nan"])


def _rows(*rows: tuple[str, str, tuple[int, ...], str, str, bool]) -> dict[str, BlockFormat]:
    return {name: BlockFormat(name, number_format(element), block, number_format(scale), rule, two)  # type: ignore[arg-type]
            for name, element, block, scale, rule, two in rows}


BLOCKS = _rows(
    # name         element  block     scale    rule     two levels
    ("mxfp8_e4m3", "e4m3", (32,), "ue8m0", "floor", False),
    ("mxfp8_e5m2", "e5m2", (32,), "ue8m0", "floor", False),
    ("mxfp6_e3m2", "e3m2", (32,), "ue8m0", "floor", False),
    ("mxfp6_e2m3", "e2m3", (32,), "ue8m0", "floor", False),
    ("mxfp4",      "e2m1", (32,), "ue8m0", "floor", False),
    ("mxint8",     "int8", (32,), "ue8m0", "floor", False),
    ("nvfp4",      "e2m1", (16,), "ue4m3", "rne",   True),
)
