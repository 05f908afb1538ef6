"""Recipes for training in low precision: one row each, saying for every product its formats, scales and instruction.

A recipe of your own is a row of your own:

>>> from emulator.nn import Gemm, Plain, Recipe, Scaled, train
>>> e5m2 = Scaled("float8_e5m2")
>>> mine = Recipe("all-e5m2", Gemm(e5m2, e5m2), Gemm(e5m2, e5m2), Gemm(e5m2, Plain("float8_e5m2", "sr")))
>>> run = train("digits", mine, steps=3, seed=1)
>>> run.step
3

Sources: Micikevicius et al. 2018, arXiv 1710.03740 (fp16: loss scaling, float32 master weights); Kalamkar et al. 2019,
arXiv 1905.12322 (bf16); Zamirai et al. 2020, arXiv 2010.06192 (bf16 weights, stochastic rounding); Micikevicius et al.
2022, arXiv 2209.05433, and NVIDIA TransformerEngine (fp8: E4M3 forward, E5M2 gradients, scaling); DeepSeek-AI 2024,
arXiv 2412.19437 (promotion every 128 of k); Mishra et al. 2025, arXiv 2506.08027 (MXFP8: E4M3
throughout, scales rounded up); NVIDIA 2025, arXiv 2509.25149 (NVFP4: tiles for weights, Hadamard, stochastic rounding,
last layers kept); Ma et al. 2024, arXiv 2402.17764 (ternary: BitNet b1.58); and those of casts.py and integers.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from .casts import Blocks, Cast, Hadamard, Integers, Plain, Scaled, StraightThrough, TernaryNoise

__all__ = ["BF16", "FP32", "HOST", "RECIPES", "Gemm", "Recipe"]


@dataclass(frozen=True)
class Gemm:
    """How a product is done: the casts of both operands, which are float32 before.

    on: the instruction by its name, "numpy" for numpy's own matmul; unless given the architecture's for these formats.
    promote: into a float32 sum after every so many k (matmul.Promote), or 0.
    """

    a: Cast
    b: Cast
    on: str = ""
    promote: int = 0


_SINGLE, _BFLOAT, _HALF = Plain("float32"), Plain("bfloat16"), Plain("float16")
FP32, BF16, FP16 = Gemm(_SINGLE, _SINGLE), Gemm(_BFLOAT, _BFLOAT), Gemm(_HALF, _HALF)
HOST = Gemm(_SINGLE, _SINGLE, on="numpy")


@dataclass(frozen=True)
class Recipe:
    """A row. Of a layer y = x w: forward is x w, dgrad is dy w^T, wgrad is x^T dy, with casts in this order.

    attention: the products inside attention. keep: names of layers, with wildcards (blocks.-1 is the last block), whose
    products are done by `kept` instead. weights: what weights are stored in after an update, None for float32 master
    weights. loss_scale: dynamic loss scaling. gradient: what becomes of a weight matrix's gradient before the optimiser
    sees it. arch: the architecture that the recipe is about, None for any.
    """

    name: str
    forward: Gemm
    dgrad: Gemm
    wgrad: Gemm
    attention: Gemm = BF16
    keep: tuple[str, ...] = ("head",)
    kept: Gemm = BF16
    weights: Cast | None = None
    loss_scale: bool = False
    gradient: Cast | None = None
    arch: str | None = None


def _everywhere(name: str, gemm: Gemm, weights: Cast | None = None, loss_scale: bool = False) -> Recipe:
    return Recipe(name, gemm, gemm, gemm, gemm, (), gemm, weights, loss_scale)


def _linear(name: str, cast: Cast) -> Recipe:
    return Recipe(name, Gemm(cast, cast), Gemm(cast, cast), Gemm(cast, cast))


def _fp8(name: str, history: int = 0, promote: int = 0, arch: str | None = None,
         formats: tuple[str, str] = ("float8_e4m3fn", "float8_e5m2")) -> Recipe:
    e4m3, e5m2 = (Scaled(each, history=history) for each in formats)
    return Recipe(name, Gemm(e4m3, e4m3, promote=promote), Gemm(e5m2, e4m3, promote=promote),
                  Gemm(e4m3, e5m2, promote=promote), arch=arch)


def _integers(name: str, x: Cast | None, w: Cast) -> Recipe:
    """Forward in integers (x None: in bfloat16, weights alone quantised); backward straight through, in bfloat16."""
    forward = Gemm(x, w) if x else Gemm(_BFLOAT, StraightThrough(w))
    return Recipe(name, forward, Gemm(_BFLOAT, StraightThrough(w, turned=True)),
                  Gemm(StraightThrough(x, turned=True) if x else _BFLOAT, _BFLOAT))


_MXFP8, _MXFP4 = Blocks("mxfp8_e4m3", rule="rceil"), Blocks("mxfp4")
_NVFP4, _NVFP4_SR = Blocks("nvfp4", mode="te"), Blocks("nvfp4", "sr", mode="te")
_NVFP4_TILE = Blocks("nvfp4", tile=True, mode="te")
_INT8 = Integers("int8")

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (
    _everywhere("numpy", HOST),                                     # for its speed: its bits depend on the machine
    _everywhere("fp32", FP32),
    _everywhere("bf16", BF16),
    _everywhere("bf16-weights", BF16, Plain("bfloat16")),
    _everywhere("bf16-weights-sr", BF16, Plain("bfloat16", "sr")),
    _everywhere("fp16", FP16, loss_scale=True),
    _fp8("fp8"),
    _fp8("fp8-delayed", history=16),
    _fp8("fp8-hopper", arch="sm_90"),
    _fp8("fp8-hopper-promote", promote=128, arch="sm_90"),
    _fp8("fp8-fnuz", arch="gfx942", formats=("float8_e4m3fnuz", "float8_e5m2fnuz")),
    _linear("mxfp8", _MXFP8),
    _linear("mxfp4", _MXFP4),
    Recipe("nvfp4", Gemm(_NVFP4, _NVFP4_TILE), Gemm(_NVFP4_SR, _NVFP4_TILE),
           Gemm(Hadamard(_NVFP4), Hadamard(_NVFP4_SR)), keep=("head", "blocks.-1.*")),
    _linear("nvfp4-nearest", _NVFP4),
    _integers("int8-weights", None, _INT8),
    _integers("int4-weights", None, Integers("int4", "group")),
    _integers("int8", _INT8, _INT8),
    _integers("int4", _INT8, Integers("int4")),
    _integers("ternary", _INT8, Integers("ternary", "tensor")),
    _integers("binary", _INT8, Integers("binary", "tensor")),
    Recipe("ternary-gradients", BF16, BF16, BF16, gradient=TernaryNoise()),
)}
