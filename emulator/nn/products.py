"""Every matrix product of a network, forward and backward, on emulated instructions as a recipe says.

The flow of data is a kernel's: float32 operands are quantised on load, the instruction multiplies and accumulates, the
epilogue applies float32 scales, and what leaves is float32.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

import numpy as np

from ..matmul import IN_ORDER, Promote, matmul
from ..unit import instruction
from .casts import Operand, Where
from .recipes import Gemm, Recipe
from .units import unit_for

__all__ = ["Products"]

Array = np.ndarray
F32 = np.float32


class Products:
    """The products of a network: called with a role (forward, dgrad, wgrad), the name of a layer, and the operands.

    recipe: a row of recipes.RECIPES, or one's own. arch: the recipe's, else sm_100, unless given. depth: how many
    blocks the network has, so that a recipe may call the last one blocks.-1. seed: of all random bits. engine, threads:
    as for `matmul`; they change no bits. step: of the run, counted up by who trains. memory: what casts keep from
    step to step. watch: called with role, name, side (a or b), array and Operand of whatever is quantised.
    Raises UnknownInstruction where the architecture has no instruction for a product.
    """

    def __init__(self, recipe: Recipe, arch: str | None = None, *, depth: int = 0, seed: int = 0,
                 engine: str | None = None, threads: int | None = None) -> None:
        self.recipe, self.depth, self.seed, self.engine, self.threads = recipe, depth, seed, engine, threads
        self.arch = arch or recipe.arch or "sm_100"
        self.step = 0
        self.memory: dict[str, Array] = {}
        self.watch: Callable[[str, str, str, Array, Operand], None] | None = None

    def gemm(self, role: str, name: str) -> Gemm:
        """How the recipe does the product of this role in the layer of this name."""
        block = re.match(r"blocks\.(\d+)(.*)", name)
        names = [name] + ([f"blocks.{int(block[1]) - self.depth}{block[2]}"] if block else [])
        if ".attention." in name:
            return self.recipe.attention
        if any(fnmatchcase(each, pattern) for each in names for pattern in self.recipe.keep):
            return self.recipe.kept
        return getattr(self.recipe, role)

    def __call__(self, role: str, name: str, a: Array, b: Array) -> Array:
        """a (..., M, K) times b (..., K, N), both float32, in float32."""
        gemm = self.gemm(role, name)
        if gemm.on == "numpy":
            return a @ b
        left, right = (self._operand(gemm, side, role, name, x) for side, x in (("a", a), ("b", b)))
        unit = instruction(self.arch, gemm.on) if gemm.on else unit_for(
            self.arch, left.format, right.format, left.block_format, left.block)
        schedule = Promote(gemm.promote) if gemm.promote else IN_ORDER
        y = matmul(left.codes, right.codes, on=unit, scale_a=left.blocks, scale_b=right.blocks, schedule=schedule,
                   threads=self.threads, engine=self.engine)
        y = y if y.dtype == F32 else y.astype(F32)
        if left.scale is not None is not right.scale and left.scale.size == right.scale.size == 1:
            return y * (left.scale * right.scale)           # one number, as cuBLAS's alpha
        for scale in (left.scale, right.scale):
            y = y if scale is None else y * scale
        return y

    def gradient(self, name: str, dw: Array) -> Array:
        """The gradient of a weight matrix as the recipe passes it on to the optimiser."""
        if self.recipe.gradient is None:
            return dw
        return self.recipe.gradient(dw, -1, self.where(f"{name}/gradient")).values(-1)

    def where(self, name: str) -> Where:
        """Whose operand it is."""
        return Where(self.seed, self.step, name, self.memory, self.arch)

    def _operand(self, gemm: Gemm, side: str, role: str, name: str, x: Array) -> Operand:
        where = self.where(f"{name}/{role}/{side}")
        operand = getattr(gemm, side)(x, -1 if side == "a" else -2, where)
        if self.watch is not None:
            self.watch(role, name, side, x, operand)
        return operand
