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
arXiv 2412.19437 (promotion every 128 of k).
"""

from __future__ import annotations

from dataclasses import dataclass

from .casts import Cast, Plain, Scaled

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
    weights. loss_scale: dynamic loss scaling. arch: the architecture that the recipe is about, None for any.
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
    arch: str | None = None


def _everywhere(name: str, gemm: Gemm, weights: Cast | None = None, loss_scale: bool = False) -> Recipe:
    return Recipe(name, gemm, gemm, gemm, gemm, (), gemm, weights, loss_scale)


def _fp8(name: str, history: int = 0, promote: int = 0, arch: str | None = None) -> Recipe:
    e4m3, e5m2 = Scaled("float8_e4m3fn", history=history), Scaled("float8_e5m2", history=history)
    return Recipe(name, Gemm(e4m3, e4m3, promote=promote), Gemm(e5m2, e4m3, promote=promote),
                  Gemm(e4m3, e5m2, promote=promote), arch=arch)


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
)}
