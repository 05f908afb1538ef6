"""An instruction one can call: arrays in, arrays out, on a chosen engine."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from . import arrays, engines
from .errors import BadOperand
from .instructions import Instruction, find

__all__ = ["Unit", "instruction"]

Array = np.ndarray


class Unit(Instruction):
    """A row of the instruction table that runs. Leading dimensions of operands are batches and broadcast.

    Raises BadOperand for operands of another type or shape, EngineUnavailable for an engine that is not there.
    """

    def __call__(self, a: object, b: object, c: object = None, *, scale_a: object = None, scale_b: object = None,
                 engine: str | None = None) -> Array:
        """One instruction per batch: D (..., m, n) from a (..., m, k), b (..., k, n), c (..., m, n) or None for zeros.

        Block scaled: scale_a (..., m, k / block) and scale_b (..., k / block, n). D has the type of format `d`.
        """
        return arrays.from_codes(self.codes(*self._typed(a, b, c, scale_a, scale_b), engine=engine), self.d)

    def dot(self, a: object, b: object, c: object = None, *, scale_a: object = None, scale_b: object = None,
            engine: str | None = None) -> Array:
        """Rows: d (...) from a and b (..., k') with k' <= k (the rest is zero) and c (...) or None for zeros.

        Block scaled: scale_a and scale_b (..., k / block), for the whole of k.
        """
        return arrays.from_codes(self.dot_codes(*self._typed(a, b, c, scale_a, scale_b), engine=engine), self.d)

    def codes(self, a: object, b: object, c: object = None, scale_a: object = None, scale_b: object = None,
              engine: str | None = None) -> Array:
        """As calling the instruction, on unsigned codes instead of typed arrays."""
        a, b, c, scale_a, scale_b = self._coded(a, b, c, scale_a, scale_b)
        blocks = self.k // self.block if self.block else 0
        self._shape("a", a, (self.m, self.k), "(..., m, k)")
        self._shape("b", b, (self.k, self.n), "(..., k, n)")
        if c is not None:
            self._shape("c", c, (self.m, self.n), "(..., m, n)")
        if blocks:
            self._shape("scale_a", scale_a, (self.m, blocks), "(..., m, k / block)")
            self._shape("scale_b", scale_b, (blocks, self.n), "(..., k / block, n)")
            scale_b = np.swapaxes(scale_b, -1, -2)
        return self._run(a, np.swapaxes(b, -1, -2), c, scale_a, scale_b, engine)

    def dot_codes(self, a: object, b: object, c: object = None, scale_a: object = None, scale_b: object = None,
                  engine: str | None = None) -> Array:
        """As `dot`, on unsigned codes instead of typed arrays."""
        a, b, c, scale_a, scale_b = self._coded(a, b, c, scale_a, scale_b)
        blocks = self.k // self.block if self.block else 0
        if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-1] or a.shape[-1] > self.k:
            raise BadOperand(f"a is {a.shape} and b is {b.shape}; a dot product of {self} takes rows of one length k' <= "
                             f"{self.k} from each")
        rest = [(0, self.k - a.shape[-1])]
        a, b = (np.pad(x, [(0, 0)] * (x.ndim - 1) + rest)[..., None, :] for x in (a, b))
        if blocks:
            self._shape("scale_a", scale_a, (blocks,), "(..., k / block)")
            self._shape("scale_b", scale_b, (blocks,), "(..., k / block)")
            scale_a, scale_b = scale_a[..., None, :], scale_b[..., None, :]
        return self._run(a, b, None if c is None else c[..., None, None], scale_a, scale_b, engine)[..., 0, 0]

    def _typed(self, a: object, b: object, c: object, scale_a: object, scale_b: object) -> tuple:
        return self._each(arrays.codes, a, b, c, scale_a, scale_b)

    def _coded(self, a: object, b: object, c: object, scale_a: object, scale_b: object) -> tuple:
        return self._each(arrays.check_codes, a, b, c, scale_a, scale_b)

    def _each(self, read: object, a: object, b: object, c: object, scale_a: object, scale_b: object) -> tuple:
        """Each operand through `read`; scales must be there exactly where the instruction has them."""
        for name, scale in (("scale_a", scale_a), ("scale_b", scale_b)):
            if (scale is None) == bool(self.block):
                wanted = f"needs it: one {self.scale} per {self.block} elements of k" if self.block else "has no block scales"
                raise BadOperand(f"{name} is {'missing' if scale is None else 'given'}; {self} {wanted}")
        operands = (("a", a, self.a), ("b", b, self.b), ("c", c, self.c), ("scale_a", scale_a, self.scale),
                    ("scale_b", scale_b, self.scale))
        return tuple(None if x is None else read(x, fmt, name) for name, x, fmt in operands)  # type: ignore[operator]

    def _shape(self, name: str, x: Array, last: tuple[int, ...], words: str) -> None:
        if x.shape[-len(last):] != last or x.ndim < len(last):
            raise BadOperand(f"{name} is {x.shape}; {self} takes {words} with ... any batch, that is (..., "
                             f"{', '.join(map(str, last))})")

    def _run(self, a: Array, b: Array, c: Array | None, scale_a: Array | None, scale_b: Array | None,
             engine: str | None) -> Array:
        """a (..., m, k), b (..., n, k), c (..., m, n), scales (..., m or n, blocks): broadcast the batch, fill d."""
        dots = engines.choose(engine)
        operands = [x for x in (a, b, c, scale_a, scale_b) if x is not None]
        try:
            batch = np.broadcast_shapes(*(x.shape[:-2] for x in operands))
        except ValueError:
            raise BadOperand(f"the batch dimensions {' '.join(str(x.shape[:-2]) for x in operands)} do not broadcast "
                             "to one shape") from None

        def flat(x: Array | None) -> Array | None:
            if x is None:
                return None
            whole = np.broadcast_to(x, batch + x.shape[-2:])
            return np.ascontiguousarray(whole).reshape(-1, *x.shape[-2:])

        m, n = a.shape[-2], b.shape[-2]
        if c is None:
            c = np.zeros((m, n), self.c.code_dtype)
        d = np.zeros((*batch, m, n), self.d.code_dtype)
        if d.size:
            dots(self, flat(a), flat(b), flat(c), flat(scale_a), flat(scale_b), d.reshape(-1, m, n))
        return d


def instruction(arch: str, name: str) -> Unit:
    """The instruction of that name on that architecture, ready to call.

    `instruction("sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3")`; PTX spellings and aliases as instructions.find takes them.
    Raises UnknownInstruction, naming what the architecture takes instead.
    """
    row = find(arch, name)
    return Unit(**{field.name: getattr(row, field.name) for field in fields(row)})
