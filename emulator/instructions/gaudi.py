"""Intel Gaudi 2 and 3: one step of the matrix engine (MME) for one output element, a row per data type.

Intel names no instruction: these names are `mme`, the type of D and those of A and B as Intel's software spells them
(fp8_143 has 4 exponent and 3 fraction bits; b3, b11, b15 an exponent bias other than 7). K is cut into steps of k in
ascending order, D of one being C of the next and the first C +0: that is what `matmul` does.
"""

from __future__ import annotations

from ..formats import FORMATS, Float
from .row import Adder, Instruction

__all__ = ["ADDERS", "ARCHS", "NOT_MODELLED", "canonical", "rows"]

# The chip functions call their trees N8_K26 and the like: N products, and 20 + K fraction bits. Gaudi 3's accumulator
# has 6 integer bits.
ADDERS = {adder.name: adder for adder in (
    Adder("gaudi3", 128, 24, 6),
    Adder("gaudi3_fp8", 64, 24, 6),
    Adder("gaudi3_fp16", 32, 24, 6),
    Adder("gaudi3_tf32", 64, 24, 6),
    Adder("gaudi3_fp32", 32, 24, 6),
    Adder("gaudi2", 128, 46, 0),
    Adder("gaudi2_fp8", 128, 24, 0),
    Adder("gaudi2_fp32", 64, 46, 0),
)}

ARCHS = {"gaudi2": ("Intel Gaudi 2", "gaudi-2 hl-225"), "gaudi3": ("Intel Gaudi 3", "gaudi-3 hl-325")}
NOT_MODELLED = {"gaudi": "Intel's model of it sums in four interleaved FMA chains; it has not been written here yet",
                "gaudi1": "Intel's model of it sums in four interleaved FMA chains; it has not been written here yet"}

_FORMATS = {"bf16": "bfloat16", "fp16": "float16", "tf32": "tfloat32", "fp32": "float32", "fp8_152": "float8_e5m2",
            "fp8_143": "float8_e4m3", "fp8_143fn": "float8_e4m3fn"}
_BIASES = {f"fp8_143b{bias}": Float(f"fp8_143b{bias}", 4, 3, bias=bias) for bias in (3, 11, 15)}
_TF32 = "the MME first rounds float32 to TF32, to nearest: emulator.convert(x, 'tfloat32'); the row ignores lower bits"
_PATHS = ("[GAUDI] has two product paths, of raw and of normalised exponents (its default); this is the raw one, which "
          "its FP8, its FP32 and all of Gaudi 3 have: only sums that cancel some 46 bits differ, and signs of zero")


def rows(arch: str) -> list[Instruction]:
    """Every row of one of ARCHS."""
    found = [_row(arch, types, types) for types in ("bf16", "fp16", "tf32", "fp32", "fp8_152", "fp8_143", *_BIASES)]
    if arch == "gaudi3":
        pairs = (("fp8_143fn", "fp8_143fn"), ("fp8_143", "fp8_152"), ("fp8_152", "fp8_143"))
        found += [_row(arch, *pair) for pair in pairs]
    return found


def _row(arch: str, a: str, b: str) -> Instruction:
    kind = a.split("_")[0]
    adder = ADDERS.get(f"{arch}_{kind}", ADDERS[arch])
    notes = [_TF32 * (kind == "tf32"), _PATHS * (arch == "gaudi2" and kind in ("bf16", "fp16", "tf32"))]
    of_a, of_b = (_BIASES.get(types) or FORMATS[_FORMATS[types]] for types in (a, b))
    f32, k = FORMATS["float32"], adder.bus // of_a.bits
    method = "sum_then_c" if arch == "gaudi2" else "chain" if kind == "bf16" else "digit_chain"
    return Instruction(arch, f"mme.fp32.{a}.{b}", 1, 1, k, of_a, of_b, f32, f32, method, adder,
                       rnd="rne" if arch == "gaudi2" else None, sources=("GAUDI",), note="; ".join(filter(None, notes)))


def canonical(arch: str, name: str) -> str:
    """The table's name: lower case, and one type may stand for both."""
    words = name.strip().lower().split(".")
    return ".".join([*words, words[-1]] if len(words) == 3 else words)
