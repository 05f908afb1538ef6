"""A whole matrix product as a given instruction performs it: output tiles, K in the instruction's own order."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import arrays
from .errors import BadOperand
from .unit import Unit

__all__ = ["matmul"]


def matmul(a: Any, b: Any, c: Any = None, *, on: Unit, engine: str | None = None) -> np.ndarray:
    """a (..., M, K) times b (..., K, N) plus c (..., M, N) or None for zeros, by instruction `on`, in ascending k.

    M, N and K are free: edge tiles do not change the bits of what is inside, and a tail of K is filled with zeros. Each
    instruction's D is the next one's C, as kernels chain them (CUTLASS mainloops). The result has format `on.d`.
    Raises BadOperand for other types or shapes, and for instructions whose C and D differ or that need block scales.
    """
    if on.block:
        raise BadOperand(f"{on} is block scaled; call the instruction itself with scale_a and scale_b")
    if on.c != on.d:
        raise BadOperand(f"{on} reads C as {on.c} and writes D as {on.d}; a chain needs one format for both")
    a, b = arrays.codes(a, on.a, "a"), arrays.codes(b, on.b, "b")
    c = None if c is None else arrays.codes(c, on.c, "c")
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise BadOperand(f"a is {a.shape} and b is {b.shape}; a product takes (..., M, K) and (..., K, N)")
    if c is not None and c.shape[-2:] != (a.shape[-2], b.shape[-1]):
        raise BadOperand(f"c is {c.shape}; the product is (..., {a.shape[-2]}, {b.shape[-1]})")
    tail = (0, -a.shape[-1] % on.k if a.shape[-1] else on.k)
    a = np.pad(a, [(0, 0)] * (a.ndim - 1) + [tail])
    b = np.pad(np.swapaxes(b, -1, -2), [(0, 0)] * (b.ndim - 1) + [tail])
    return arrays.from_codes(on.run(a, b, c, engine=engine), on.d)
