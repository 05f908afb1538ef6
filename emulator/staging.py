"""From global to shared memory with quantisation on the way: high precision there, narrow codes and scales here.

What arrives is what `convert` and `quantize` define, packed and swizzled as the matrix units read it. Per tensor:
x times a float32 scale (one FMUL), then cvt.rn.satfinite, as NVIDIA TransformerEngine casts; per block: the rule of a
row of blocks.BLOCKS.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import arrays
from .blocks import BLOCKS, BlockFormat, to_128x4
from .convert import convert
from .errors import BadOperand
from .formats import Float, number_format
from .shared import SWIZZLES, Panels, from_rows, to_rows

__all__ = ["Stage", "Staged", "stage"]

Array = np.ndarray


@dataclass(frozen=True)
class Stage:
    """How an operand is quantised on load. to: a format or a row of BLOCKS; scale: float32 factor of the tensor (not of
    blocks, whose tensor scale comes from `tensor_amax` among the options); options: of `convert`, which otherwise does
    as CUDA does, or of the row's `quantize`. Raises BadOperand, UnknownFormat.
    """

    to: str
    scale: float | None = None
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.block and self.scale is not None:
            raise BadOperand(f"stage: scale is given; {self.to} scales its blocks, and its tensor by tensor_amax=")
        if not isinstance(self.element, Float):
            raise BadOperand(f"stage: {self.to} is no floating-point format; integers are quantised before")

    @property
    def block(self) -> BlockFormat | None:
        return BLOCKS.get(self.to)

    @property
    def element(self) -> Any:
        return self.block.element if self.block else number_format(self.to)

    def of(self, x: Any) -> Stage:
        """This, with the largest finite magnitude of the operand x as tensor_amax, where a tensor scale is wanted and
        nothing given."""
        if not self.block or not self.options.get("two_level", self.block.two_level) or "tensor_amax" in self.options:
            return self
        magnitude = np.abs(np.asarray(x, np.float64))
        top = float(magnitude.max(initial=0, where=np.isfinite(magnitude)))
        return replace(self, options={**self.options, "tensor_amax": top})

    def codes(self, x: Any) -> tuple[Array, Array | None]:
        """Element codes of x (..., k), and codes of the scales (..., k / block) of a block format or None."""
        if self.block:
            found = self.block.quantize(x, axis=-1, **self.options)
            return found.codes, arrays.codes(found.scales, self.block.scale, "scales")
        if self.scale is not None:
            x = np.multiply(np.asarray(x).astype(np.float32), np.float32(self.scale))
        return arrays.codes(convert(x, self.element, **{"profile": "cuda", **self.options}), self.element, "x"), None


@dataclass(frozen=True, eq=False)
class Staged:
    """A tile in shared memory. data: the bytes of the tile from its base on; panels: where each lies; scales: bytes of
    the scales in the layout 128 x 4, or None; codes, scale_codes: what was stored, before it was packed."""

    data: Array
    scales: Array | None
    panels: Panels
    codes: Array
    scale_codes: Array | None
    bits: int
    padded: bool

    def read(self, swizzle: str | None = None) -> Array:
        """The codes back; through another swizzle than the writer's, what a kernel with that mistake would see."""
        panels = self.panels
        if swizzle is not None:
            panels = Panels(panels.rows, panels.width, panels.span, swizzle, panels.pad, panels.base)
        return from_rows(self.data[panels.address(np.arange(panels.rows)[:, None], np.arange(panels.width))],
                         self.bits, self.padded)


def stage(tile: Any, to: str, scale: float | None = None, swizzle: str = "128B", *, padded: bool = False, pad: int = 0,
          **options: Any) -> Staged:
    """Quantise a tile (rows, k) and lay it out as shared memory holds it: a row's bytes in panels of the swizzle's span
    (the whole row where there is none), each swizzled.

    to, scale, options: see Stage. padded: FP6 and FP4 a byte each, 16 in 16 bytes, as kind::f8f6f4 wants them; else
    packed. pad: bytes left free after each row. Raises BadOperand, UnknownFormat.
    """
    x = np.asarray(tile)
    if x.ndim != 2:
        raise BadOperand(f"tile is {x.shape}; it takes (rows, k)")
    how = Stage(to, scale, options)
    if swizzle not in SWIZZLES:
        raise BadOperand(f"swizzle {swizzle!r} is not one of {', '.join(SWIZZLES)}")
    codes, scales = how.codes(x)
    bits = how.element.bits
    if x.shape[1] * (8 if padded and bits < 8 else bits) % 128:
        raise BadOperand(f"tile is {x.shape}; rows of {how.element} end on a multiple of 16 bytes, and these do not")
    rows = to_rows(codes, bits, padded)
    span = rows.shape[1] if swizzle == "none" else SWIZZLES[swizzle][1]
    if rows.shape[1] % span:
        raise BadOperand(f"tile is {x.shape}, rows of {rows.shape[1]} bytes; swizzle {swizzle} takes multiples of "
                         f"{span}")
    panels = Panels(x.shape[0], rows.shape[1], span, swizzle, pad)
    data = np.zeros(panels.size, np.uint8)
    data[panels.address(np.arange(x.shape[0])[:, None], np.arange(rows.shape[1]))] = rows
    layout = None if scales is None else to_128x4(scales)
    return Staged(data, layout, panels, codes, scales, bits, padded)
