"""Intel's dot product instructions: AMX tiles, AVX512-BF16, VNNI. Names are the SDM's mnemonics.

A tile instruction is a whole tile: 16 by 16, K 64 bytes. A vector instruction is m = 1: its 16 lanes are the columns of
B and D, A the pair or quadruple of the first source, the same in every lane; `dot` gives each lane an A of its own.
"""

from __future__ import annotations

from ..formats import number_format
from .row import Instruction

__all__ = ["ARCHS", "NOT_MODELLED", "canonical", "rows"]

ARCHS = {"x86_64": ("Intel x86-64: AMX, AVX-512", "x86-64 intel sapphire-rapids emerald-rapids granite-rapids")}
NOT_MODELLED = {"diamond-rapids": "the order in which AMX-FP8 adds its products is not published"}

_FP16 = "not measured; that a subnormal C counts as zero is read as for tdpbf16ps, as Bochs reads it too"


def rows(arch: str) -> list[Instruction]:
    """Every row of one of ARCHS."""
    def row(name: str, m: int, k: int, a: str, b: str, method: str, d: str = "float32", note: str = "") -> Instruction:
        return Instruction(arch, name, m, 16, k, number_format(a), number_format(b), number_format(d), number_format(d),
                           method, saturate=name.endswith("ds"), sources=("SDM",), note=note)

    return [
        row("tdpbf16ps", 16, 32, "bfloat16", "bfloat16", "two_chains"),
        row("tdpfp16ps", 16, 32, "float16", "float16", "two_chains", note=_FP16),
        *(row(f"tdpb{a}{b}d", 16, 64, sign[a], sign[b], "integer", "int32")
          for sign in [{"s": "int8", "u": "uint8"}] for a in sign for b in sign),
        row("vdpbf16ps", 1, 2, "bfloat16", "bfloat16", "odd_then_even"),
        *(row(f"vpdpbusd{s}", 1, 4, "uint8", "int8", "integer", "int32") for s in ("", "s")),
        *(row(f"vpdpwssd{s}", 1, 2, "int16", "int16", "integer", "int32") for s in ("", "s")),
    ]


def canonical(arch: str, name: str) -> str:
    """A mnemonic as the table writes it."""
    return name.strip().lower()
