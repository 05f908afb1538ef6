"""An instruction one can call: arrays in, arrays out, on a chosen engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np

from . import arrays, engine_c, engines
from .errors import BadOperand
from .instructions import Instruction, find

__all__ = ["Unit", "instruction"]

Array = np.ndarray


class Unit(Instruction):
    """A row of the instruction table that runs. Leading dimensions of operands are batches and broadcast.

    Raises BadOperand for operands of another type or shape, EngineUnavailable for an engine that is not there.
    """

    def __call__(self, a: Any, b: Any, c: Any = None, *, scale_a: Any = None, scale_b: Any = None,
                 engine: str | None = None) -> Array:
        """One instruction per batch: D (..., m, n) from a (..., m, k), b (..., k, n), c (..., m, n) or None for zeros.

        Block scaled: scale_a (..., m, k / block) and scale_b (..., k / block, n). D has the type of format `d`.
        """
        if (engine or engines.default()) == "c":
            d = self._quick(a, b, c, scale_a, scale_b)
            if d is not None:
                return d
        return arrays.from_codes(self._tiles(self.operands(a, b, c, scale_a, scale_b), engine), self.d)

    def dot(self, a: Any, b: Any, c: Any = None, *, scale_a: Any = None, scale_b: Any = None,
            engine: str | None = None) -> Array:
        """Rows: d (...) from a and b (..., k') with k' <= k (the rest is zero) and c (...) or None for zeros.

        Block scaled: scale_a and scale_b (..., k / block), for the whole of k.
        """
        return arrays.from_codes(self._rows(self.operands(a, b, c, scale_a, scale_b), engine), self.d)

    def codes(self, a: Any, b: Any, c: Any = None, scale_a: Any = None, scale_b: Any = None,
              engine: str | None = None) -> Array:
        """As calling the instruction, on unsigned codes instead of typed arrays."""
        return self._tiles(self.operands(a, b, c, scale_a, scale_b, arrays.check_codes), engine)

    def dot_codes(self, a: Any, b: Any, c: Any = None, scale_a: Any = None, scale_b: Any = None,
                  engine: str | None = None) -> Array:
        """As `dot`, on unsigned codes instead of typed arrays."""
        return self._rows(self.operands(a, b, c, scale_a, scale_b, arrays.check_codes), engine)

    @cached_property
    def _typed(self) -> tuple[tuple, tuple, tuple]:
        """What `_quick` compares a and b (and scales), c and makes d of: shapes and types."""
        blocks = self.k // self.block if self.block else 0
        shapes = [(self.m, self.k), (self.k, self.n), (self.m, self.n), (self.m, blocks), (blocks, self.n)]
        formats = self.a, self.b, self.c, self.scale, self.scale
        a, b, c, *scales = ((shape, arrays.carriers(fmt)[0]) for shape, fmt in zip(shapes, formats) if fmt)
        return sum((a, b, *scales), ()), c, (c[0], arrays.carriers(self.d)[0])

    def _quick(self, a: Any, b: Any, c: Any, scale_a: Any, scale_b: Any) -> Array | None:
        """D at the least cost, by C, if each operand is one contiguous tile of the preferred type; else None."""
        inputs, of_c, of_d = self._typed
        try:
            found: tuple = a.shape, a.dtype, b.shape, b.dtype
            if scale_a is not None:
                found += scale_a.shape, scale_a.dtype, scale_b.shape, scale_b.dtype
            if found != inputs or (c is not None and (c.shape, c.dtype) != of_c):
                return None
            d = np.empty(*of_d)
            engine_c.tile(self, a, b, c, scale_a, scale_b, d)
        except (AttributeError, ValueError):                                # no arrays, or not contiguous
            return None
        return d

    def operands(self, a: Any, b: Any, c: Any, scale_a: Any, scale_b: Any,
                 read: Callable[..., Array] = arrays.codes) -> tuple:
        """Each operand as codes; scales must be there exactly where the instruction has them."""
        for name, scale in (("scale_a", scale_a), ("scale_b", scale_b)):
            if (scale is None) == bool(self.block):
                wants = f"needs it: one {self.scale} per {self.block} elements of k" if self.block else "has no scales"
                raise BadOperand(f"{name} is {'missing' if scale is None else 'given'}; {self} {wants}")
        a, b, c = read(a, self.a, "a"), read(b, self.b, "b"), None if c is None else read(c, self.c, "c")
        if not self.block:
            return a, b, c, None, None
        return a, b, c, read(scale_a, self.scale, "scale_a"), read(scale_b, self.scale, "scale_b")

    def _tiles(self, operands: tuple, engine: str | None) -> Array:
        a, b, c, scale_a, scale_b = operands
        self._shape("a", a, (self.m, self.k), "(..., m, k)")
        self._shape("b", b, (self.k, self.n), "(..., k, n)")
        if c is not None:
            self._shape("c", c, (self.m, self.n), "(..., m, n)")
        if self.block:
            self._shape("scale_a", scale_a, (self.m, self.k // self.block), "(..., m, k / block)")
            self._shape("scale_b", scale_b, (self.k // self.block, self.n), "(..., k / block, n)")
        return self._run(operands, engine)

    def _rows(self, operands: tuple, engine: str | None) -> Array:
        a, b, c, scale_a, scale_b = operands
        if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-1] or a.shape[-1] > self.k:
            raise BadOperand(f"a is {a.shape} and b is {b.shape}; a dot product of {self} takes rows of one length "
                             f"k' <= {self.k} from each")
        if self.block:
            self._shape("scale_a", scale_a, (self.k // self.block,), "(..., k / block)")
            self._shape("scale_b", scale_b, (self.k // self.block,), "(..., k / block)")
            scale_a, scale_b = scale_a[..., None, :], scale_b[..., None]
        c = None if c is None else c[..., None, None]
        return self._run((a[..., None, :], b[..., None], c, scale_a, scale_b), engine)[..., 0, 0]

    def _shape(self, name: str, x: Array, last: tuple[int, ...], words: str) -> None:
        if x.shape[-len(last):] != last or x.ndim < len(last):
            raise BadOperand(f"{name} is {x.shape}; {self} takes {words} with ... any batch, that is (..., "
                             f"{', '.join(map(str, last))})")

    def _run(self, operands: tuple, engine: str | None) -> Array:
        a, b, c, scale_a, scale_b = operands
        d = np.empty((*self.batch(*operands), a.shape[-2], b.shape[-1]), self.d.code_dtype)
        self.fill(operands, d, engine)
        return d

    def fill(self, operands: tuple, d: Array, engine: str | None = None, threads: int | None = None) -> None:
        """`engines.product` by this unit: every result comes through here, or through `_quick`."""
        a, b, c, scale_a, scale_b = operands
        engines.product(self, a, b, c, scale_a, scale_b, d, engine, threads)

    @staticmethod
    def batch(*operands: Array | None) -> tuple[int, ...]:
        """What all dimensions but the last two of these broadcast to. Raises BadOperand if they do not."""
        batches = [x.shape[:-2] for x in operands if x is not None]
        try:
            return np.broadcast_shapes(*batches) if any(batches) else ()
        except ValueError:
            raise BadOperand(f"the batch dimensions {' '.join(map(str, batches))} do not broadcast together") from None


def instruction(arch: str, name: str) -> Unit:
    """The instruction of that name on that architecture, ready to call.

    `instruction("sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3")`; PTX spellings and aliases as instructions.find takes them.
    Raises UnknownInstruction, naming what the architecture takes instead.
    """
    row = find(arch, name)
    return Unit(**{field.name: getattr(row, field.name) for field in fields(row)})
