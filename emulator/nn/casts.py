"""How an operand of a product gets from float32 into its format: one small row each, called with an array.

A cast decides no bit of its own: it asks `convert`, and multiplies by scales in float32. It returns codes for the
instruction, and what the result must be multiplied by afterwards. Sources: Micikevicius et al. 2018, "Mixed precision
training", arXiv 1710.03740; Micikevicius et al. 2022, "FP8 formats for deep learning", arXiv 2209.05433; NVIDIA
TransformerEngine, common/recipe (current and delayed scaling).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..convert import convert
from ..exact import decode
from ..formats import number_format
from .functions import key

__all__ = ["Cast", "Operand", "Plain", "Scaled", "Where"]

Array = np.ndarray
F32 = np.float32


class Operand(NamedTuple):
    """An operand as an instruction takes it.

    codes: of x's shape, numbers of `format`. scale: float32 that broadcasts to codes; the operand is codes * scale, and
    the product's result is multiplied by it after the sum, so it is one number, or one for each row of a, or column of
    b. blocks: scales that the instruction itself applies, of `block_format`, one for `block` elements along k.
    """

    codes: Array
    format: str
    scale: Array | None = None
    blocks: Array | None = None
    block_format: str = ""
    block: int = 0


class Where(NamedTuple):
    """Whose operand it is: for random bits, and for what a cast remembers from step to step."""

    seed: int
    step: int
    name: str                           # of the layer, the product and the operand
    memory: dict[str, Array]

    @property
    def key(self) -> int:
        return key(self.seed, self.name, self.step)


class Cast(Protocol):
    """A function from float32 (..., rows, columns), the axis along which the product sums, and whose it is."""

    def __call__(self, x: Array, axis: int, where: Where) -> Operand: ...


def _converted(x: Array, to: str, rounding: str, where: Where, profile: str | None = None) -> Array:
    """x in format `to`; a transposed array as it lies in memory."""
    turned = x.ndim == 2 and x.flags.f_contiguous
    seed = where.key if rounding == "sr" else None
    y = convert(x.T if turned else x, to, rounding=rounding, profile=profile, seed=seed)
    return y.T if turned else y


@dataclass(frozen=True)
class Plain:
    """The nearest number of the format (or another rounding), as IEEE 754 converts: too large is infinite."""

    format: str
    rounding: str = "rne"

    def __call__(self, x: Array, axis: int, where: Where) -> Operand:
        codes = x if self.format == "float32" else _converted(x, self.format, self.rounding, where)
        return Operand(codes, self.format)


@dataclass(frozen=True)
class Scaled:
    """One float32 scale for a tensor, by which its largest magnitude, amax, becomes the format's largest number.

    history 0: amax of the tensor itself (current scaling); otherwise the largest of so many steps before (delayed
    scaling), and a scale of 1 as long as there is none. What is beyond saturates. power: scales are rounded down to
    powers of two.
    """

    format: str
    rounding: str = "rne"
    history: int = 0
    power: bool = False

    def __call__(self, x: Array, axis: int, where: Where) -> Operand:
        amax = np.abs(x).max(initial=F32(0))
        if self.history:
            before = where.memory.get(where.name, np.zeros(0, F32))
            where.memory[where.name] = np.append(before, amax)[-self.history:]
            amax = before.max(initial=F32(0))
        scale = self._scale(amax)
        with np.errstate(all="ignore"):
            codes = _converted(x * scale, self.format, self.rounding, where, "cuda")
        return Operand(codes, self.format, F32(1) / scale)

    def _scale(self, amax: Any) -> Any:
        """The largest number over amax in float32; 1 if amax is zero, infinite or NaN [TransformerEngine]."""
        if not 0 < amax < np.inf:
            return F32(1)
        most = decode(number_format(self.format), number_format(self.format).max_code)  # type: ignore[union-attr]
        with np.errstate(over="ignore"):
            scale = np.minimum(F32(most.sig * 2.0 ** most.exp) / amax, np.finfo(F32).max)
        return (scale.view(np.uint32) & np.uint32(0x7F800000)).view(F32) if self.power else scale
