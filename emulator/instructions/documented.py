"""Arm's and IBM's matrix and dot product instructions, known from the vendors' documents.

Names are mnemonics, and what tells forms apart behind a dot: types (D, A, B), `ebf` for FPCR.EBF = 1.

Vector instructions are m = 1, a column a lane of 128 bits; `dot` gives each lane an A of its own. SME's outer products
have the size of a 512-bit streaming vector. FP8 scales: scale_a = 2**-FPMR.LSCALE as E8M0, scale_b = 1.
"""

from __future__ import annotations

from itertools import product

from ..formats import number_format
from .row import Instruction

__all__ = ["ARCHS", "NOT_MODELLED", "canonical", "rows"]

ARCHS = {
    "armv9-a": ("Arm A-profile: BF16, SME, FP8", "arm aarch64 armv8.6-a"),
    "power10": ("IBM POWER10 MMA", "ibm ppc64le"),
}
NOT_MODELLED: dict[str, str] = {}
_NEGATED = "pn, np and nn are this with C, A or both negated, but for NaN"


def rows(arch: str) -> list[Instruction]:
    """Every row of one of ARCHS."""
    def row(name: str, m: int, n: int, k: int, types: str, method: str, sources: str, note: str = "") -> Instruction:
        d, a, b = (number_format(t) for t in types.split("."))
        scale = number_format("e8m0") if a.bits == 8 else None
        return Instruction(arch, name, m, n, k, a, b, d, d, method, None, scale, k if scale else 0,
                           sources=tuple(sources.split()), note=note)  # type: ignore[arg-type]

    if arch == "power10":
        return [
            row("xvbf16ger2pp", 4, 4, 2, "f32.bf16.bf16", "power_pairs", "POWER QEMU", _NEGATED),
            row("xvf16ger2pp", 4, 4, 2, "f32.f16.f16", "power_pairs", "POWER QEMU", _NEGATED),
            row("xvf32gerpp", 4, 4, 1, "f32.f32.f32", "power_fma", "POWER QEMU"),
            row("xvf64gerpp", 4, 2, 1, "f64.f64.f64", "power_fma", "POWER QEMU"),
        ]
    found = []
    for name, m, n, k in (("bfdot", 1, 4, 2), ("bfmmla", 2, 2, 4), ("bfmopa", 16, 16, 2)):
        found.append(row(name, m, n, k, "f32.bf16.bf16", "odd_pairs", "ARM QEMU"))
        found.append(row(f"{name}.ebf", m, n, k, "f32.bf16.bf16", "fused_pairs", "ARM"))
    found += [row(f"bfmlal{which}", 1, 4, 1, "f32.bf16.bf16", "arm_fma", "ARM QEMU") for which in "bt"]
    found.append(row("fmopa.f32.f16.f16", 16, 16, 2, "f32.f16.f16", "fused_pairs", "ARM QEMU"))
    found.append(row("fmopa.f32.f32.f32", 16, 16, 1, "f32.f32.f32", "scaled_sum", "ARM QEMU"))
    fp8 = (("fdot", 1, 4, 4, "f32"), ("fdot", 1, 8, 2, "f16"), ("fmlall", 1, 4, 1, "f32"), ("fmlal", 1, 8, 1, "f16"),
           ("fmmla", 2, 2, 8, "f32"), ("fmmla", 2, 2, 4, "f16"),
           ("fmopa", 16, 16, 4, "f32"), ("fmopa", 32, 32, 2, "f16"))
    for (name, m, n, k, d), a, b in product(fp8, ("e4m3", "e5m2"), ("e4m3", "e5m2")):
        found.append(row(f"{name}.{d}.{a}.{b}", m, n, k, f"{d}.{a}.{b}", "scaled_sum", "ARM"))
    return found


def canonical(arch: str, name: str) -> str:
    """A mnemonic as the table writes it."""
    return name.strip().lower()
