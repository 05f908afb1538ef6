"""Which engine runs: exact (Python integers), numba or c. All return identical bits.

An engine is a function dots(ins, a, b, c, scale_a, scale_b, d) on contiguous unsigned codes: a (B, m, k), b (B, n, k),
c and d (B, m, n), scales (B, m or n, k / block) or None; d is filled. k is a multiple of ins.k: the instruction is
chained, each D being the next C.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import engine_c, exact
from .errors import EngineUnavailable
from .instructions import Instruction
from .threads import spread, thread_count

__all__ = ["ENGINES", "choose", "default", "product"]

Dots = Callable[..., None]


def _exact(ins: Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray, scale_a: np.ndarray | None,
           scale_b: np.ndarray | None, d: np.ndarray) -> None:
    blocks = ins.k // ins.block if ins.block else 0
    for batch, i, j in np.ndindex(d.shape):
        code = int(c[batch, i, j])
        for step, k in enumerate(range(0, a.shape[2], ins.k)):
            block = slice(step * blocks, (step + 1) * blocks)
            scales = [x[batch, row, block].tolist() for x, row in ((scale_a, i), (scale_b, j)) if x is not None]
            row, column = a[batch, i, k:k + ins.k].tolist(), b[batch, j, k:k + ins.k].tolist()
            code = exact.dot(ins, row, column, code, *scales)
        d[batch, i, j] = code


def _numba(*args: Any) -> None:
    from . import engine_numba  # numba takes a third of a second to import: only when it is used

    engine_numba.dots(*args)


_TILE = 16 * 8      # outputs from which taking operands apart into planes pays


def _c(ins: Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray, scale_a: np.ndarray | None,
       scale_b: np.ndarray | None, d: np.ndarray) -> None:
    if a.shape[1] * b.shape[1] < _TILE:
        engine_c.dots(ins, a, b, c, scale_a, scale_b, d)
    else:
        engine_c.product(ins, a, b.swapaxes(1, 2), c, scale_a, None if scale_b is None else scale_b.swapaxes(1, 2), d)


ENGINES: dict[str, Dots] = {"exact": _exact, "numba": _numba, "c": _c}


def default() -> str:
    """The engine used where none is asked for: EMULATOR_ENGINE, else c where it is built, else numba."""
    return os.environ.get("EMULATOR_ENGINE") or ("c" if engine_c.available() else "numba")


def choose(name: str | None = None) -> Dots:
    """The engine of that name, or the default one. Raises EngineUnavailable for an unknown name."""
    chosen = name or default()
    if chosen not in ENGINES:
        origin = "" if name else " (from EMULATOR_ENGINE)"
        raise EngineUnavailable(f"engine {chosen!r}{origin} is not known; the engines are {', '.join(ENGINES)}")
    return ENGINES[chosen]


# --- products of any size --------------------------------------------------------------------------------------------

_SMALL = 1 << 21                    # products of two elements up to which one thread is as fast as many
_ROWS, _COLUMNS = 32, 64            # of a block that the C engine computes at a time


def product(ins: Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray | None, scale_a: np.ndarray | None,
            scale_b: np.ndarray | None, d: np.ndarray, engine: str | None = None, threads: int | None = None) -> None:
    """Fill d (..., m, n) from codes a (..., m, k), b (..., k, n), c (..., m, n) or None for zeros, and where the row is
    block scaled scale_a (..., m, blocks) and scale_b (..., blocks, n).

    Batches are broadcast to d's. Strides are any, and so is k: the instruction is chained, and what the last one lacks
    is zero. C works in `threads` threads: elements do not depend on each other. Raises EngineUnavailable.
    """
    dots = choose(engine)
    large = dots is _c and d.size * a.shape[-1] > _SMALL
    workers = thread_count(threads) if large or threads is not None else 1
    workers = workers if large else 1
    if not d.size:
        return
    tiled = dots is _c and d.shape[-2] * d.shape[-1] >= _TILE
    if tiled and workers == 1 and d.ndim == 2:          # one call, without the cost of cutting
        engine_c.product(ins, a, b, c, scale_a, scale_b, d)
        return
    batch = d.shape[:-2]
    operands = [x if x is None or x.shape[:-2] == batch else np.broadcast_to(x, batch + x.shape[-2:])
                for x in (a, b, c, scale_a, scale_b)]
    if not batch:
        batch, d, operands = (1,), d[None], [x if x is None else x[None] for x in operands]
    if not tiled:
        _contiguous(dots, ins, operands, d, workers)
        return

    def piece(where: tuple) -> None:
        *index, rows, columns = where
        tile = np.s_[:, rows, columns]
        cuts = np.s_[:, rows], np.s_[:, :, columns], tile, np.s_[:, rows], np.s_[:, :, columns], tile
        given: list[Any] = [x if x is None else x[tuple(index)][cut] for x, cut in zip((*operands, d), cuts)]
        engine_c.product(ins, *given)

    spread(piece, list(_pieces(batch, d.shape[-2], d.shape[-1], workers)), workers)


def _contiguous(dots: Dots, ins: Instruction, operands: list[Any], d: np.ndarray, workers: int) -> None:
    """`product` on an engine that takes one batch, contiguous rows of A and columns of B, and whole instructions."""
    a, b, c, scale_a, scale_b = operands
    steps = max(1, math.ceil(a.shape[-1] / ins.k))

    def lines(x: np.ndarray | None, length: int) -> np.ndarray | None:
        if x is not None and x.shape[-1] < length:
            x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, length - x.shape[-1])])
        return x if x is None else np.ascontiguousarray(x).reshape(-1, *x.shape[-2:])

    down = [None if x is None else x.swapaxes(-1, -2) for x in (b, scale_b)]
    blocks = steps * (ins.k // ins.block) if ins.block else 0
    c = np.zeros(d.shape, ins.c.code_dtype) if c is None else c
    flat: list[Any] = [lines(a, steps * ins.k), lines(down[0], steps * ins.k), lines(c, 0), lines(scale_a, blocks),
                       lines(down[1], blocks), d.reshape(-1, *d.shape[-2:])]
    spread(lambda part: dots(ins, *(x if x is None else x[slice(*part)] for x in flat)),
            ranges(len(flat[-1]), math.ceil(len(flat[-1]) / workers)), workers)


def ranges(size: int, each: int) -> list[tuple[int, int]]:
    """0..size cut into pieces of `each`; one empty piece if there is nothing to cut."""
    return [(lo, min(lo + each, size)) for lo in range(0, size, each)] if size else [(0, 0)]


def _pieces(batch: tuple[int, ...], rows: int, columns: int, workers: int) -> Iterator[tuple]:
    """Parts of the output, at least one for each worker if there are as many blocks: an index into all batches but the
    last, a slice of that, one of rows, one of columns.

    Each piece takes its rows of A and its columns of B apart anew, A in half as much time again as B, so few and square
    ones are best.
    """
    cut = min(batch[-1], math.ceil(workers / max(1, math.prod(batch[:-1]))))
    each = math.ceil(workers / max(1, math.prod(batch[:-1]) * cut))
    down = min((n for n in range(1, each + 1) if each % n == 0), key=lambda n: 2 * n * columns + 3 * (each // n) * rows)
    cuts = [[slice(*part) for part in ranges(size, math.ceil(size / (of * block)) * block)]
            for size, of, block in ((batch[-1], cut, 1), (rows, down, _ROWS), (columns, each // down, _COLUMNS))]
    return ((*lead, *part) for lead in np.ndindex(batch[:-1]) for part in itertools.product(*cuts))
