"""A whole matrix product as kernels perform it on a given instruction: output tiles, the order of K, the epilogue.

The order in which K is summed decides the bits. Inside one instruction it is the machine's; between instructions it is
the kernel's, and here a Schedule. Sources: [CUTLASS] NVIDIA CUTLASS 3.9: gemm/kernel/gemm.h, reduction/kernel/
reduce_split_k.h, epilogue/thread/linear_combination.h, gemm/collective/fp8_accumulation.hpp, gemm/kernel/
sm90_tile_scheduler_stream_k.hpp; [DeepGEMM] deepseek-ai/DeepGEMM: sm90_fp8_gemm_1d2d.cuh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import arrays
from .convert import convert
from .engines import ranges
from .errors import BadOperand
from .formats import Float, number_format
from .unit import Unit

__all__ = ["IN_ORDER", "Promote", "Schedule", "SplitK", "StreamK", "matmul"]

Array = np.ndarray
Chain = Callable[..., Array]        # (lo, hi, at): the sum over k in lo..hi-1 from zero, in float32; at: an output tile
Finish = Callable[[Array, Array | None], Array]         # the epilogue of a sum, with C or what was written before



# --- schedules -------------------------------------------------------------------------------------------------------

class Schedule:
    """In which order K is summed. This one: one chain of instructions over ascending k, as most kernels do."""

    def run(self, chain: Chain, finish: Finish, shape: tuple[int, ...], step: int) -> Array:
        """The result (..., M, N) of shape (..., M, N, K), from a mainloop over parts of K, of which an instruction
        takes `step`, and an epilogue."""
        return finish(chain(0, shape[-1]), None)


IN_ORDER = Schedule()


@dataclass(frozen=True)
class SplitK(Schedule):
    """K in `ways` parts of whole tiles of `tile` k (default: one instruction), each a chain of its own [CUTLASS].

    Parallel: the float32 sums are added to zero in ascending order, and one epilogue follows. Serial: each part's
    epilogue adds its sum to what the part before it wrote in the output format, so a 16-bit output rounds between
    parts; C enters with the first.
    """

    ways: int
    serial: bool = False
    tile: int | None = None

    def run(self, chain: Chain, finish: Finish, shape: tuple[int, ...], step: int) -> Array:
        k, tile = shape[-1], self.tile or step
        if self.ways < 1 or tile < 1 or tile % step:
            raise BadOperand(f"{self}: ways must be at least 1, and tile a multiple of the instruction's k = {step}")
        sums = (chain(lo, hi) for lo, hi in ranges(k, math.ceil(math.ceil(k / tile) / self.ways) * tile))
        if self.serial:
            d = finish(next(sums), None)
            for part in sums:
                d = finish(part, d)
            return d
        total = np.zeros((), np.float32)
        for part in sums:
            total = total + part
        return finish(total, None)


@dataclass(frozen=True)
class StreamK(Schedule):
    """The k tiles of all output tiles in one line, dealt out in `units` runs of equal length, the first ones one longer
    where they do not come out even; a run ends inside an output tile and the next begins there [Osama et al. 2023,
    arXiv 2301.03598; CUTLASS, its deterministic reduction].

    Output tiles of tile = (m, n, k) elements, a batch after another, stand in line along n, or with `along_m` along m.
    Only the first `shared` of them are dealt out so (default: all); each later one is one chain, as data-parallel tiles
    are. In a tile that several runs meet, the first stores its sum and each next one adds its own in float32, in
    ascending k. So the bits depend on where in the product a tile stands. One epilogue follows.
    """

    units: int
    tile: tuple[int, int, int] = (128, 128, 64)
    shared: int | None = None
    along_m: bool = False

    def cuts(self, shape: tuple[int, ...], step: int) -> Iterator[tuple[tuple, list[int]]]:
        """Each output tile, as an index into (..., M, N), and the k at which its parts begin and the last one ends."""
        *batch, m, n, k = shape
        if self.units < 1 or min(self.tile) < 1 or self.tile[2] % step or (self.shared or 0) < 0:
            raise BadOperand(f"{self}: units and tile must be at least 1, shared at least 0, and the k of a tile a "
                             f"multiple of the instruction's k = {step}")
        down, across = ([slice(*part) for part in ranges(size, of)] for size, of in zip((m, n), self.tile))
        order = [(i, j) for j in across for i in down] if self.along_m else [(i, j) for i in down for j in across]
        tiles = [(*lead, *tile) for lead in np.ndindex(*batch) for tile in order]
        shared = len(tiles) if self.shared is None else min(self.shared, len(tiles))
        depth = max(1, math.ceil(k / self.tile[2]))
        size, longer = divmod(shared * depth, self.units)
        starts = {unit * size + min(unit, longer) for unit in range(self.units)}
        for i, tile in enumerate(tiles):
            inside = [x for x in range(1, depth) if i < shared and i * depth + x in starts]
            yield tile, [0, *(x * self.tile[2] for x in inside), k]

    def run(self, chain: Chain, finish: Finish, shape: tuple[int, ...], step: int) -> Array:
        total = np.empty(shape[:-1], np.float32)
        for at, cuts in self.cuts(shape, step):
            sums = (chain(lo, hi, at) for lo, hi in zip(cuts, cuts[1:]))
            total[at] = next(sums)
            for part in sums:
                total[at] += part
        return finish(total, None)


@dataclass(frozen=True, eq=False)
class Promote(Schedule):
    """FP8 in two levels: after every `every` k the tensor core's sum goes into a float32 one, and starts from zero.

    Without scales, main += sum: one FADD [CUTLASS]. With float32 scales for each `every` of k, scale_a (..., M, parts)
    and scale_b (..., parts, N): main = fma(sum * scale_a, scale_b, main), or fma(sum, scale, main) if there is one of
    them [CUTLASS, blockwise scaling]; with `joined`, main = fma(scale_a * scale_b, sum, main) [DeepGEMM].
    """

    every: int = 128
    scale_a: Any = None
    scale_b: Any = None
    joined: bool = False

    def run(self, chain: Chain, finish: Finish, shape: tuple[int, ...], step: int) -> Array:
        if self.every < 1 or self.every % step:
            raise BadOperand(f"Promote: every is {self.every}; it takes a multiple of the instruction's k = {step}")
        parts = ranges(shape[-1], self.every)
        a, b = self._scales("scale_a", -1, len(parts)), self._scales("scale_b", -2, len(parts))
        main = np.zeros((), np.float32)
        for i, (lo, hi) in enumerate(parts):
            part = chain(lo, hi)
            scales = [x[at] for x, at in ((a, np.s_[..., i:i + 1]), (b, np.s_[..., i:i + 1, :])) if x is not None]
            if not scales:
                main = main + part
            elif self.joined:
                main = _fma(math.prod(scales), part, main)
            else:
                main = _fma(part * scales[0] if len(scales) == 2 else part, scales[-1], main)
        return finish(main, None)

    def _scales(self, name: str, axis: int, parts: int) -> Array | None:
        given = getattr(self, name)
        if given is None:
            return None
        x = np.asarray(given)
        if x.dtype != np.float32 or x.ndim < 2 or x.shape[axis] != parts:
            raise BadOperand(f"Promote: {name} is {x.dtype.name} {x.shape}; it takes float32, one for each "
                             f"{self.every} of k, {parts} along axis {axis}")
        return x


# --- the float32 arithmetic of an epilogue ---------------------------------------------------------------------------

def _fma(x: Any, y: Any, z: Any) -> Array:
    """x * y + z of float32, rounded once to nearest even.

    The product is exact in float64. Their float64 sum is made odd where it is inexact, by the error of the addition
    (Knuth's TwoSum); rounding that to float32 is as good as rounding the exact sum, since 53 >= 24 + 2 (Boldo and
    Melquiond 2008, doi 10.1109/TC.2007.70819).
    """
    product, z = np.multiply(x, y, dtype=np.float64), np.asarray(z, np.float64)
    total = np.asarray(product + z)
    back = total - product
    error = (product - (total - back)) + (z - back)
    even = total.view(np.int64) & 1 == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where(np.isfinite(total) & (error != 0) & even, odd, total).astype(np.float32)


# --- the product -----------------------------------------------------------------------------------------------------

def matmul(a: Any, b: Any, c: Any = None, *, on: Unit, scale_a: Any = None, scale_b: Any = None,
           alpha: float | None = None, beta: float | None = None, out: str | None = None,
           schedule: Schedule = IN_ORDER, threads: int | None = None, engine: str | None = None) -> Array:
    """a (..., M, K) times b (..., K, N) plus c (..., M, N) or None for zeros, by instruction `on`.

    M, N and K are free: edge tiles do not change the bits of what is inside, and a tail of K is filled with zeros.
    Each instruction's D is the next one's C, as kernels chain them. Leading dimensions are batches and broadcast;
    operands have any strides. Block scaled: scale_a (..., M, K / block), scale_b (..., K / block, N), rounded up.

    Plain, the chain starts from c, and the result has format `on.d`. With alpha, beta, out or a schedule other than
    IN_ORDER it starts from zero, and an epilogue follows: fma(alpha, sum, beta * c) in float32, then the conversion to
    `out` (default float32) as CUDA converts: to nearest even, saturating below 16 bits. alpha and beta are 1 unless
    given; c has the format of `out` or float32, and is not read if beta is 0.

    threads: EMULATOR_THREADS or every core, unless given; the bits do not depend on it.
    Raises BadOperand for other types or shapes, and for instructions whose C and D differ.
    """
    plain = schedule is IN_ORDER and alpha is None and beta is None and out is None
    if on.c != on.d:
        raise BadOperand(f"{on} reads C as {on.c} and writes D as {on.d}; a chain needs one format for both")
    if not plain and on.d.name != "float32":
        raise BadOperand(f"{on} accumulates in {on.d}; schedules and epilogues take float32 accumulators")
    a, b, start, scale_a, scale_b = on.operands(a, b, c if plain else None, scale_a, scale_b)
    shape = product_shape(on, a, b, start, scale_a, scale_b)

    def whole_chain(operands: tuple, shape: tuple) -> Array:
        d = np.empty(shape, on.d.code_dtype)
        on.fill(operands, d, engine, threads)
        return arrays.from_codes(d, on.d)

    if plain:
        return whole_chain((a, b, start, scale_a, scale_b), shape)

    def chain(lo: int, hi: int, at: tuple = np.s_[:, :]) -> Array:
        *lead, rows, columns = at
        over, blocks = slice(lo, hi), slice(lo // on.block, math.ceil(hi / on.block)) if on.block else slice(0)
        cuts = (rows, over), (over, columns), (), (rows, blocks), (blocks, columns)

        def part(x: Array | None, cut: tuple) -> Any:
            whole = np.broadcast_to(x, shape[:-2] + x.shape[-2:])[tuple(lead)] if x is not None and lead else x
            return None if whole is None else whole[(..., *cut)]

        given = tuple(part(x, cut) for x, cut in zip((a, b, None, scale_a, scale_b), cuts))
        return whole_chain(given, (*(() if lead else shape[:-2]), given[0].shape[-2], given[1].shape[-1]))

    with np.errstate(all="ignore"):         # infinities and NaN are results here
        return schedule.run(chain, epilogue(c, shape, alpha, beta, out), (*shape, a.shape[-1]), on.k)


def product_shape(on: Unit, a: Array, b: Array, c: Array | None, scale_a: Array | None, scale_b: Array | None) -> tuple:
    """The shape of the product. Raises BadOperand for operands that do not fit together."""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise BadOperand(f"a is {a.shape} and b is {b.shape}; a product takes (..., M, K) and (..., K, N)")
    rows, columns = a.shape[-2], b.shape[-1]
    if c is not None and c.shape[-2:] != (rows, columns):
        raise BadOperand(f"c is {c.shape}; the product is (..., {rows}, {columns})")
    blocks = math.ceil(a.shape[-1] / on.block) if on.block else 0
    for name, x, want in (("scale_a", scale_a, (rows, blocks)), ("scale_b", scale_b, (blocks, columns))):
        if x is not None and x.shape[-2:] != want:
            raise BadOperand(f"{name} is {x.shape}; one scale per {on.block} of k is (..., {want[0]}, {want[1]})")
    return *on.batch(a, b, c, scale_a, scale_b), rows, columns


def epilogue(c: Any, shape: tuple, alpha: float | None, beta: float | None, out: str | None) -> Finish:
    """alpha * sum + beta * C into the format `out`: FMUL, FFMA, then cvt.rn [CUTLASS]."""
    fmt = number_format(out or "float32")
    if not isinstance(fmt, Float):
        raise BadOperand(f"out is {fmt}; an epilogue writes floating-point formats")
    c = None if c is None else np.asarray(c)
    if c is not None and c.dtype not in (np.dtype(np.float32), arrays.carriers(fmt)[0]):
        raise BadOperand(f"c is {c.dtype.name} {c.shape}; an epilogue that writes {fmt} reads {fmt} or float32")
    if c is not None and (c.shape[-2:] != shape[-2:] or any(x not in (1, y) for x, y in zip(c.shape[::-1], shape[::-1]))
                          or c.ndim > len(shape)):
        raise BadOperand(f"c is {c.shape}; the product is {shape}")
    first, second = np.float32(1 if alpha is None else alpha), np.float32(1 if beta is None else beta)

    def finish(total: Array, before: Array | None) -> Array:
        if before is not None:
            total = _fma(first, total, before.astype(np.float32))
        elif c is not None and second:
            total = _fma(first, total, second * c.astype(np.float32))
        else:
            total = first * total
        return convert(total, fmt, profile="cuda")

    return finish
