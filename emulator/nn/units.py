"""Which instruction of an architecture multiplies operands of given formats."""

from __future__ import annotations

from functools import cache

from ..errors import UnknownInstruction
from ..instructions import legal_n, table
from ..unit import Unit, instruction

__all__ = ["unit_for"]

_ORDER = {"fma": 0, "tcgen05": 1, "wgmma": 2, "mma": 3}


@cache
def unit_for(arch: str, a: str, b: str, scale: str = "", block: int = 0) -> Unit:
    """The instruction of `arch` for operands of formats a and b, into float32 or int32; all are names of formats.

    tcgen05 before wgmma before mma, then the longest k and the most rows. Raises UnknownInstruction.
    """
    rows = [row for row in table(arch).values()
            if (row.a.name, row.b.name, row.c) == (a, b, row.d) and row.d.name in ("float32", "int32")
            and (row.scale.name if row.scale else "", row.block) == (scale, block) and not row.saturate]
    if not rows:
        scaled = f" with a {scale} scale for each {block} of k" if block else ""
        raise UnknownInstruction(f"{arch} has no instruction that multiplies {a} by {b}{scaled} into float32 or int32; "
                                 f"emulator instructions {arch} lists what it has")
    best = min(rows, key=lambda row: (_ORDER.get(row.name.split(".")[0], 9), -row.k, -row.m))
    return instruction(best.arch, best.name if best.n else best.name.replace("nNk", f"n{max(legal_n(best))}k"))
