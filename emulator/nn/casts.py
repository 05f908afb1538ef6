"""How an operand of a product gets from float32 into its format: one small row each, called with an array.

A cast decides no bit of its own: it asks `convert` and `quantize`, and multiplies by scales in float32. It gives codes
for the instruction, and what the result must be multiplied by afterwards. Sources: Micikevicius et al. 2018, arXiv
1710.03740, and 2022, arXiv 2209.05433 (scaling); NVIDIA TransformerEngine, common/recipe (current and delayed scaling;
NVFP4: blocks of 16, tiles of 16x16 for weights, Hadamard transform and its signs); Wen et al. 2017, arXiv 1705.07878
(ternary gradients); Bengio et al. 2013, arXiv 1308.3432 (straight through).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import ml_dtypes
import numpy as np

from ..convert import convert
from ..errors import BadOperand
from ..exact import decode
from ..formats import number_format
from ..matmul import matmul
from ..quantize import quantize
from .functions import key
from .units import unit_for

__all__ = ["Blocks", "Cast", "Hadamard", "Integers", "Operand", "Plain", "Scaled", "StraightThrough", "TernaryNoise",
           "Where"]

Array = np.ndarray
F32 = np.float32


class Operand(NamedTuple):
    """An operand as an instruction takes it.

    codes: of x's shape, numbers of `format`. scale: float32 that broadcasts to codes; the operand is codes * scale, and
    the product's result is multiplied by it after the sum, so it is one number, or one for each row of a, or column of
    b. blocks: scales that the instruction itself applies, of `block_format`, one for `block` elements along k.
    source: what was quantised, where that is not x.
    """

    codes: Array
    format: str
    scale: Any = None
    blocks: Array | None = None
    block_format: str = ""
    block: int = 0
    source: Array | None = None

    def values(self, axis: int) -> Array:
        """What the operand stands for, in float32; axis: the one that the product sums, of the block scales."""
        x = self.codes.astype(F32)
        if self.blocks is not None:
            x *= np.repeat(self.blocks.astype(F32), self.block, axis).take(range(x.shape[axis]), axis)
        return x if self.scale is None else x * self.scale


class Where(NamedTuple):
    """Whose operand it is: for random bits, and for what a cast remembers from step to step."""

    seed: int
    step: int
    name: str                           # of the layer, the product and the operand
    memory: dict[str, Array]
    arch: str = "sm_100"

    @property
    def key(self) -> int:
        return key(self.seed, self.name, self.step)


class Cast(Protocol):
    """A function from float32 (..., rows, columns), the axis along which the product sums, and whose it is."""

    def __call__(self, x: Array, axis: int, where: Where) -> Operand: ...


def _converted(x: Array, to: str, rounding: str, where: Where, overflow: str | None = None) -> Array:
    """x in format `to`; a transposed array as it lies in memory."""
    turned = x.ndim == 2 and x.flags.f_contiguous
    seed = where.key if rounding == "sr" else None
    y = convert(x.T if turned else x, to, rounding=rounding, overflow=overflow, seed=seed)
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
            codes = _converted(x * scale, self.format, self.rounding, where, "saturate")
        return Operand(codes, self.format, F32(1) / scale)

    def _scale(self, amax: Any) -> Any:
        """The largest number over amax in float32; 1 if amax is zero, infinite or NaN [TransformerEngine]."""
        if not 0 < amax < np.inf:
            return F32(1)
        most = decode(number_format(self.format), number_format(self.format).max_code)  # type: ignore[union-attr]
        with np.errstate(over="ignore"):
            scale = np.minimum(F32(most.sig * 2.0 ** most.exp) / amax, np.finfo(F32).max)
        return (scale.view(np.uint32) & np.uint32(0x7F800000)).view(F32) if self.power else scale


@dataclass(frozen=True)
class Blocks:
    """A block format by its name in emulator.BLOCKS, with block scales along the summed axis for the instruction.

    tile: squares of 16x16 share a scale, so that the transposed matrix has the same codes. rule, mode: as quantize
    takes them. A tensor scale, where there is one, is applied to the result.
    """

    format: str
    rounding: str = "rne"
    tile: bool = False
    rule: str | None = None
    mode: str = "exact"

    def __call__(self, x: Array, axis: int, where: Where) -> Operand:
        seed = where.key if self.rounding == "sr" else None
        axes: Any = (-2, -1) if self.tile else axis
        q = quantize(x, self.format, axis=axes, block=(16, 16) if self.tile else None, rule=self.rule, mode=self.mode,
                     rounding=self.rounding, seed=seed)
        block = q.format.block[q.axes.index(axis % x.ndim)]
        scales = q.scales_along(axis)
        return Operand(q.elements, q.format.element.name, q.tensor_scale, scales, q.format.scale.name, block)


@dataclass(frozen=True)
class Hadamard:
    """The cast of x after a random Hadamard transform of every 16 along the summed axis: x diag(s) H / 4.

    As TransformerEngine does it: a product in bfloat16, rounded to bfloat16; signs s are -1 where the mask 0xD7E8
    has a 1. Both operands of a product are transformed, which leaves it as it is. Raises BadOperand where that axis is
    not a multiple of 16.
    """

    cast: Cast

    def __call__(self, x: Array, axis: int, where: Where) -> Operand:
        if x.shape[axis] % 16:
            raise BadOperand(f"{where.name}: {x.shape[axis]} is no multiple of 16; the Hadamard transform takes 16s")
        rows = _converted(np.moveaxis(x, axis, -1), "bfloat16", "rne", where)
        y = matmul(rows.reshape(-1, 16), _HADAMARD, on=unit_for(where.arch, "bfloat16", "bfloat16"), out="bfloat16")
        turned = np.moveaxis(y.astype(F32).reshape(rows.shape), -1, axis)
        return self.cast(turned, axis, where)._replace(source=turned)


_HADAMARD = np.array([[(-1) ** (bin(i & j).count("1") + (0xD7E8 >> i)) / 4 for j in range(16)]
                      for i in range(16)]).astype(ml_dtypes.bfloat16)                       # exact


@dataclass(frozen=True)
class Integers:
    """A row of emulator.integers by its name (int8, int4, ternary, binary ...), with one float32 scale.

    by "channel": for each row of a or column of b; "tensor": for all; "group": for `group` neighbours along the
    summed axis, which is for StraightThrough alone. Narrow integers travel as int8, as sm_90 and later read them.
    """

    format: str
    by: str = "channel"
    group: int = 32

    def __call__(self, x: Array, axis: int, where: Where) -> Operand:
        shared: dict[str, Any] = {"channel": {"channel": -3 - axis}, "group": {"group": self.group, "axis": axis}}.get(
            self.by, {})
        q = quantize(x, self.format, **shared)
        codes = convert(q.elements, "int8", source=q.format.element)
        if self.by != "group":
            return Operand(codes, "int8", q.scales)
        return Operand(codes, "int8", np.repeat(q.scales, self.group, axis).take(range(x.shape[axis]), axis))


@dataclass(frozen=True)
class TernaryNoise:
    """-1, 0 and 1 times the largest magnitude, rounded stochastically, so that the mean is x (TernGrad)."""

    def __call__(self, x: Array, axis: int, where: Where) -> Operand:
        amax = np.abs(x).max(initial=F32(0))
        scale = amax if 0 < amax < np.inf else F32(1)
        return Operand(convert(x / scale, "int8", rounding="sr", seed=where.key), "int8", scale)


@dataclass(frozen=True)
class StraightThrough:
    """The values that another cast gives, in bfloat16: weights that are stored narrow and multiplied wide, and the
    backward pass of a product whose forward pass was quantised, as if quantisation were the identity.

    turned: the operand is transposed, and was quantised along its other axis.
    """

    cast: Cast
    turned: bool = False

    def __call__(self, x: Array, axis: int, where: Where) -> Operand:
        along = -3 - axis if self.turned else axis
        return Operand(_converted(self.cast(x, along, where).values(along), "bfloat16", "rne", where), "bfloat16")
