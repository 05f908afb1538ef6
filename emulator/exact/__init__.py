"""The specification, in Python integers: what every row of the two tables means. Slow, and readable in one sitting.

No floating-point number of the host appears here. A code becomes a Number, Numbers are added and multiplied without
error, and one rounding leads back to a code. The rules of the matrix units cite their primary sources:

[FHMP] Fasi, Higham, Mikaitis, Pranesh 2021, "Numerical behavior of NVIDIA tensor cores", doi 10.7717/peerj-cs.330.
[KM]   Khattak, Mikaitis 2026, doi 10.1145/3830409 (arXiv 2512.07004), with recorded GPU rows (MATLAB-tensor-core).
[XMMA] Xie et al. 2025, "MMA-Sim", arXiv 2511.10909, and its program mmasim 2.1.1.
[TC5]  sf-tensor/tcgen05 (B200 result words), commit 8fce64d.
[PTX]  NVIDIA PTX ISA 9.0, section 9.7.14 "warp-level matrix instructions".
[SDM]  Intel 64 and IA-32 Architectures Software Developer's Manual.
[ARM]  Arm Architecture Reference Manual for A-profile (DDI 0487), shared pseudocode.   [POWER]  Power ISA 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import BadOperand
from . import amd, documented, gaudi, nvidia, x86
from .defined import composed
from .numbers import NAN, ONE, ZERO, Number, add, convert, decode, divide, encode, fma, multiply, settle, square_root
from .steps import Addend, Step, fused_sum

if TYPE_CHECKING:
    from ..instructions import Instruction

__all__ = ["METHODS", "NAN", "ONE", "ZERO", "Addend", "Number", "Step", "add", "composed", "convert", "decode",
           "divide", "dot", "encode", "fma", "fused_sum", "method", "multiply", "settle", "square_root"]

# How a row composes its K: each a function (ins, a, b, c, scale_a, scale_b, trace) -> code of D, on Numbers.
METHODS: dict[str, Callable[..., int]] = {**nvidia.METHODS, **x86.METHODS, **amd.METHODS, **gaudi.METHODS,
                                          **documented.METHODS}


def method(ins: Instruction) -> Callable[..., int]:
    """The function that composes K for a row: by its name in METHODS, or the function itself (emulator.define)."""
    return ins.method if callable(ins.method) else METHODS[ins.method]


def dot(ins: Instruction, a_codes: Sequence[int], b_codes: Sequence[int], c_code: int = 0,
        scale_a: Sequence[int] = (), scale_b: Sequence[int] = (), trace: list[Step] | None = None) -> int:
    """One element of D as a code: the row a_codes times the column b_codes plus c_code, as `ins` computes it.

    a_codes, b_codes: k' <= k codes each; the rest of K is zero. scale_a, scale_b: one code per block of `ins.block`
    elements where the instruction is block scaled, k / block of them. trace: a list that receives the Steps.
    Raises BadOperand for wrong lengths or codes wider than their format.
    """
    if len(a_codes) != len(b_codes) or len(a_codes) > ins.k:
        raise BadOperand(f"{len(a_codes)} codes of a and {len(b_codes)} of b; {ins} takes as many of each, at most "
                         f"{ins.k}")
    blocks = ins.k // ins.block if ins.block else 0
    if not len(scale_a) == len(scale_b) == blocks:
        raise BadOperand(f"{len(scale_a)} scales of a and {len(scale_b)} of b; {ins} takes {blocks} of each")
    rest = [0] * (ins.k - len(a_codes))
    a = [decode(ins.a, int(code)) for code in (*a_codes, *rest)]
    b = [decode(ins.b, int(code)) for code in (*b_codes, *rest)]
    sa = [decode(ins.scale, int(code)) for code in scale_a]
    sb = [decode(ins.scale, int(code)) for code in scale_b]
    return method(ins)(ins, a, b, decode(ins.c, int(c_code)), sa, sb, trace)
