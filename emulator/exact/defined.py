"""The general fused unit of emulator.define: the groups of k, the cut of an addend and the place of C are columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .numbers import ONE, Number, decode, multiply
from .nvidia import _fused
from .steps import Operands, Step, addend, canonical, ieee

if TYPE_CHECKING:
    from ..define import Defined

__all__ = ["composed"]


def composed(ins: Defined, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
             trace: list[Step] | None) -> int:
    """Groups of k in the order of `groups`, each a fused sum; C joins the first one, each one, or comes last.

    join = with: C is an addend of the first sum, each rounded sum an addend of the next. last: the first sum starts
    from nothing, and C is added to the last one by an IEEE addition rounded as `rnd` says. each: every sum starts from
    nothing and is added to C so.
    """
    code, running = 0, addend(c, ins.c.frac_bits) if ins.join == "with" else None
    for group in ins.groups:
        products = [multiply(a[i], b[i]) for i in group]
        if ins.block:
            products = [multiply(p, multiply(sa[i // ins.block], sb[i // ins.block])) for p, i in zip(products, group)]
        addends = [addend(p, ins.a.frac_bits + ins.b.frac_bits) for p in products] + [running] * (running is not None)
        what = f"k {' '.join(map(str, group))}{' and C' * (ins.join == 'with')}"
        code = _fused(ins, what, addends, trace, ins.cut)
        if ins.join == "each":
            c = ieee(ins.d, "IEEE add to C", decode(ins.d, code), ONE, c, ins.rnd, trace)
        else:
            running = addend(decode(ins.d, code), ins.d.frac_bits)
    if ins.join == "last":
        c = ieee(ins.d, "IEEE add of C", decode(ins.d, code), ONE, c, ins.rnd, trace)
    return code if ins.join == "with" else canonical(ins.d, c, ins.rnd)
