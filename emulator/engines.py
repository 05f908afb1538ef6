"""Which engine runs: exact (Python integers), numba or c. All return identical bits.

An engine is a function dots(ins, a, b, c, scale_a, scale_b, d) on contiguous unsigned codes: a (B, m, k), b (B, n, k),
c and d (B, m, n), scales (B, m or n, k / block) or None; d is filled. k is a multiple of ins.k: the instruction is
chained, each D being the next C.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from . import engine_c, exact
from .errors import EngineUnavailable
from .instructions import Instruction

__all__ = ["ENGINES", "choose", "default"]

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
    if not engine_c.available():
        raise EngineUnavailable(f"the C engine is not available: {engine_c.why_not()}; use engine='numba'")
    if a.shape[1] * b.shape[1] < _TILE:
        engine_c.dots(ins, a, b, c, scale_a, scale_b, d)
        return
    for i in range(len(d)):
        engine_c.product(ins, a[i], b[i].T, c[i], None if scale_a is None else scale_a[i],
                         None if scale_b is None else scale_b[i].T, d[i])


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
