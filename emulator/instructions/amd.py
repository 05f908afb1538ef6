"""AMD's matrix instructions (MFMA) of CDNA1 to 3, one row each, under the names that LLVM's assembler gives them.

m, n and k are those of the name and describe one block. Where an instruction computes several blocks (32x32x1 two,
16x16x1 four, 4x4x1 sixteen; gfx942 says so in the name: 2b, 4b, 16b) they are independent products, in the row as in
its `note`: give them as a batch, a (blocks, m, k), b (blocks, k, n), c and d (blocks, m, n).
"""

from __future__ import annotations

import itertools
import re
from functools import cache

from ..formats import number_format
from .row import Adder, Instruction

__all__ = ["ADDERS", "ARCHS", "NOT_MODELLED", "canonical", "rows"]

# Products per group: [XMMA] table 4, [KM]. CDNA1 adds without error, CDNA2 in F32 steps: nothing is cut.
ADDERS = {adder.name: adder for adder in (
    Adder("cdna1", 64, None, 0),
    Adder("cdna1_bf16", 32, None, 0),
    Adder("cdna2", 64, None, 0),
    Adder("cdna2_bf16", 32, None, 0),
    Adder("cdna3", 128, 24, 0),
)}

ARCHS = {
    "gfx908": ("CDNA1", "cdna1 mi100"),
    "gfx90a": ("CDNA2", "cdna2 mi200 mi210 mi250 mi250x"),
    "gfx942": ("CDNA3", "cdna3 mi300 mi300a mi300x mi325x gfx940 gfx941"),
}
NOT_MODELLED = dict.fromkeys(("gfx950", "cdna4", "mi350", "mi350x", "mi355x"), (
    "AMD documents its formats (OCP FP8, FP6, FP4, E8M0 scales per 32) and that subnormals are kept, but nobody has "
    "published how many products it sums at once, to how many bits, or where the scales join")) | dict.fromkeys(
        ("gfx1100", "gfx1151", "gfx1200", "gfx1201"), "nobody has published how RDNA's WMMA adds, to the bit")

# Shapes with more than one block first, as gfx942 names them.
_SHAPES = {
    "f32": "32x32x1_2b 16x16x1_4b 4x4x1_16b 32x32x2 16x16x4",
    "f16": "32x32x4_2b 16x16x4_4b 4x4x4_16b 32x32x8 16x16x16",
    "bf16": "32x32x2_2b 16x16x2_4b 4x4x2_16b 32x32x4 16x16x8",
    "bf16_1k": "32x32x4_2b 16x16x4_4b 4x4x4_16b 32x32x8 16x16x16",
    "i8": "32x32x4_2b 16x16x4_4b 4x4x4_16b 32x32x8 16x16x16",
    "f64": "16x16x4 4x4x4_4b",
}
_OF_GFX942 = {
    "i8": "32x32x4_2b 16x16x4_4b 4x4x4_16b 32x32x16 16x16x32",
    "bf16": _SHAPES["bf16_1k"],
    "xf32": "16x16x8 32x32x4",
    **{f"{a}_{b}": "16x16x32 32x32x16" for a, b in itertools.product(("bf8", "fp8"), repeat=2)},
}
_FORMATS = {"f64": "float64", "f32": "float32", "xf32": "tfloat32", "f16": "float16", "bf16": "bfloat16", "i8": "int8",
            "fp8": "float8_e4m3fnuz", "bf8": "float8_e5m2fnuz"}

_NAN = "which NaN a result is, is assumed"
_MODE = "subnormals kept, as [XMMA] does: A and B follow MODE.denorm [CDNA]"
_NOTES = {
    "cdna1": "MMA-Sim of January 2026 (c785138) rounds pairwise sums; [XMMA] 2.1.1, [KM] and [FTTN] have one exact sum",
    "cdna2": "subnormals and -0 of A, B and C count as +0 [XMMA]; that -0 does is assumed",
    "cdna3": "[KM]'s models and MMA-Sim of January 2026 floor the products' sum at 31 bits, and nothing after C is "
             "added; they also differ from [XMMA] 2.1.1 for zero and for overflowing products",
    "xf32": "the CDNA3 manual speaks of rounding and of truncation; ROCm/rocm-libraries 9176 and [XMMA] truncate",
    "fp8": "in mmasim 2.1.1 an infinite or NaN C is lost beside large products; here it stays",
    "i8": "that it wraps is assumed",
}


def rows(arch: str) -> list[Instruction]:
    """Every row of one of ARCHS."""
    if arch == "gfx942":
        shapes = {**{types: _SHAPES[types] for types in ("f32", "f16", "f64")}, **_OF_GFX942}
    else:
        shapes = {types: s for types, s in _SHAPES.items() if arch == "gfx90a" or types not in ("f64", "bf16_1k")}
    return [_row(arch, shape, types) for types, several in shapes.items() for shape in several.split()]


def _row(arch: str, shape: str, types: str) -> Instruction:
    """One Instruction: 32x32x1_2b of f32."""
    generation = ARCHS[arch][0].lower()
    first = types.split("_")[0]
    d = {"i8": "i32", "f64": "f64"}.get(types, "f32")
    adder, note, sources = generation + "_bf16" * (types == "bf16" and arch != "gfx942"), _NOTES[generation], "XMMA KM"
    method = {"gfx908": "exact_sums", "gfx90a": "flushed_pairs", "gfx942": "cut_then_floor"}[arch]
    if types == "i8":
        method, adder, note, sources = "integer", "", _NOTES["i8"], "CDNA"
    elif types == "f32":
        method, adder, note = "fma_chain", "", _MODE
    elif types == "f64":
        method, adder, note, sources = "fma_chain", "", "", "XMMA"
    elif first in ("fp8", "bf8"):
        method, note, sources = "even_and_odd", _NOTES["fp8"], "XMMA"
    elif types == "xf32":
        note = f"{note}; {_NOTES['xf32']}"
    sources += {"exact_sums": " FTTN", "flushed_pairs": " ROCM"}.get(method, "")
    shape, _, blocks = shape.partition("_")
    notes = [f"{blocks[:-1]} blocks, each a product of this shape" if blocks else "", note, _NAN * (types != "i8")]
    name = "_".join(filter(None, (shape, blocks, types))) if arch == "gfx942" else shape + types
    m, n, k = map(int, shape.split("x"))
    a, b, c = (number_format(_FORMATS.get(t, "int32")) for t in (first, types.split("_")[-1], d))
    if types == "bf16_1k":
        b = a
    return Instruction(arch, f"v_mfma_{d}_{name}", m, n, k, a, b, c, c, method, ADDERS.get(adder), rnd="rne",
                       sources=tuple(sources.split()), note="; ".join(filter(None, notes)))


# --- names -----------------------------------------------------------------------------------------------------------

@cache
def _spellings(arch: str) -> dict[str, str]:
    """The names of an architecture by what is left of them when squeezed."""
    return {_squeezed(arch, row.name): row.name for row in rows(arch)}


def _squeezed(arch: str, name: str) -> str:
    """Without v_, underscores, dots and the number of blocks; gfx942's bf16 is what gfx90a calls bf16_1k."""
    bare = re.sub(r"[_.\s]", "", re.sub(r"_\d+b(?=_)", "", name.lower())).removeprefix("v")
    return bare.removesuffix("1k") if arch == "gfx942" else bare


def canonical(arch: str, name: str) -> str:
    """The table's name for a spelling: with or without v_, underscores and the number of blocks; the compiler's
    builtins (__builtin_amdgcn_mfma_f32_32x32x8f16) too. Any other name as it is."""
    bare = name.strip().removeprefix("__builtin_amdgcn_").removeprefix("llvm.amdgcn.")
    return _spellings(arch).get(_squeezed(arch, bare), bare)
