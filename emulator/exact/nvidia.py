"""NVIDIA: how each matrix instruction composes its K. The sources' keys are those of instructions.SOURCES."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..formats import FORMATS
from .numbers import ONE, ZERO, Number, add, decode, encode, multiply
from .steps import Addend, Operands, Step, addend, canonical, fused_sum, ieee

if TYPE_CHECKING:
    from ..instructions import Instruction

__all__ = ["METHODS"]


def _finish(ins: Instruction, total: Number) -> int:
    """Round a fused sum to the output: overflow gives infinity in every rounding mode, zero is +0, NaN is canonical
    ([XMMA][TC5]; NVIDIA's canonical NaN 0x7FFFFFFF / 0x7FFF is documented for cvt and mma in [PTX])."""
    fmt = ins.d
    if total.kind == "nan":
        return fmt.all_ones_nan
    code = encode(fmt, total, ins.rounding, "infinity", precision=ins.precision)
    return 0 if code == fmt.sign and fmt.has_negative_zero else code


def _fused(ins: Instruction, what: str, addends: list[Addend], trace: list[Step] | None, cut: str = "rz") -> int:
    total, top = fused_sum(addends, ins.adder.frac, ins.floor, cut)
    code = _finish(ins, total)
    if trace is not None:
        trace.append(Step(what, tuple(addends), top, top - ins.adder.frac, total, code))
    return code


def chain(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
          trace: list[Step] | None) -> int:
    """Groups of `terms` consecutive k; each group's rounded result is the next one's C ([KM] section IV, [XMMA]).

    With block scales (kind::mxf8f6f4) both scales multiply every product and take part in its exponent [XMMA][TC5].
    """
    code, c_frac = 0, ins.c.frac_bits
    product_frac = ins.a.frac_bits + ins.b.frac_bits
    for start in range(0, len(a), ins.terms):
        group = range(start, min(start + ins.terms, len(a)))
        products = [multiply(a[i], b[i]) for i in group]
        if ins.block:
            products = [multiply(p, multiply(sa[i // ins.block], sb[i // ins.block])) for p, i in zip(products, group)]
        addends = [*(addend(p, product_frac) for p in products), addend(c, c_frac)]
        code = _fused(ins, f"k {group.start}..{group.stop - 1} and C", addends, trace)
        c, c_frac = decode(ins.d, code), ins.d.frac_bits
    return code


def exact_groups(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
                 trace: list[Step] | None) -> int:
    """Block-scaled FP4: 16 products are summed without error, scaled, and enter as one addend each [XMMA][TC5].

    The addend claims the exponents of its two scales alone. A group with a nonzero product and nonzero scales claims
    them even if its sum is zero (mmasim 2.0.2 and later, [TC5]).
    """
    addends = []
    for start in range(0, len(a), 16):
        products = [multiply(a[i], b[i]) for i in range(start, start + 16)]
        scales = sa[start // ins.block], sb[start // ins.block]
        scale = multiply(*scales)
        claim = scale.exp + 2 * ins.scale.frac_bits if scale.sig and any(p.sig for p in products) else None
        addends.append(Addend(multiply(add(*products), scale), claim))
    return _fused(ins, "four groups of 16 and C", [*addends, addend(c, ins.c.frac_bits)], trace)


def fp8_through_f16(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
                    trace: list[Step] | None) -> int:
    """FP8 mma.sync where no FP8 unit answers to it (sm_90, sm_100): two F16 sums from zero, then an IEEE add of C.

    ptxas unpacks the low byte pair of every register, then the high one, so k mod 4 in {0, 1} comes first and {2, 3}
    second (SASS of CUDA 13.0: F2FP.UNPACK, 2 HMMA, FADD or HADD2; NVIDIA/cutlass issue 1986). The rows recorded on
    H100 and B200 [KM] confirm it.
    """
    product_frac = ins.a.frac_bits + ins.b.frac_bits
    partial, frac_bits = ZERO, ins.d.frac_bits
    for pair in (0, 2):
        group = [i for i in range(len(a)) if i % 4 in (pair, pair + 1)]
        addends = [*(addend(multiply(a[i], b[i]), product_frac) for i in group), addend(partial, frac_bits)]
        code = _fused(ins, f"k mod 4 in {{{pair}, {pair + 1}}}", addends, trace)
        partial = decode(ins.d, code)
    return canonical(ins.d, ieee(ins.d, "IEEE add of C", partial, ONE, c, "rne", trace))


def simt_f32(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
             trace: list[Step] | None) -> int:
    """mma.m8n8k4 with an F32 result on sm_80 and later: FFMA over ascending k from +0, then FADD of C (SASS)."""
    total = ZERO
    for k, (x, y) in enumerate(zip(a, b)):
        total = ieee(ins.d, f"FFMA k {k}", x, y, total, "rne", trace)
    return canonical(ins.d, ieee(ins.d, "FADD of C", total, ONE, c, "rne", trace))


def simt_f16(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
             trace: list[Step] | None) -> int:
    """mma.m8n8k4 with an F16 result on sm_80 and later: two pair sums in F32 (FMUL, FFMA), two FADDs onto C, one
    conversion (SASS of CUDA 13.0)."""
    f32 = FORMATS["float32"]
    total = c
    for k in range(0, len(a), 2):
        pair = ieee(f32, f"FMUL k {k}", a[k], b[k], Number(a[k].negative != b[k].negative, 0, 0), "rne", trace)
        pair = ieee(f32, f"FFMA k {k + 1}", a[k + 1], b[k + 1], pair, "rne", trace)
        total = ieee(f32, f"FADD k {k}..{k + 1}", pair, ONE, total, "rne", trace)
    return canonical(ins.d, total)


def fma_chain(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
              trace: list[Step] | None) -> int:
    """FP64, and FP32 on CUDA cores: one IEEE fma after another in ascending k ([PTX]: "a true fused multiply-add";
    [FHMP] section 4.3)."""
    for k, (x, y) in enumerate(zip(a, b)):
        c = ieee(ins.d, f"{'DFMA' if ins.d.bits == 64 else 'FFMA'} k {k}", x, y, c, ins.rounding, trace)
    return canonical(ins.d, c, ins.rounding)


def integer(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
            trace: list[Step] | None) -> int:
    """The exact sum, wrapped to 32 bits, or clamped once with .satfinite ([PTX]; the clamp point: [TC5])."""
    return _integer_result(ins, add(*(multiply(x, y) for x, y in zip(a, b)), c), trace)


def xor_popc(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
             trace: list[Step] | None) -> int:
    """C plus the number of k where the two bits differ [PTX]."""
    return _integer_result(ins, add(Number(False, sum(x.sig != y.sig for x, y in zip(a, b)), 0), c), trace)


def and_popc(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
             trace: list[Step] | None) -> int:
    """C plus the number of k where both bits are set [PTX]."""
    return _integer_result(ins, add(Number(False, sum(x.sig & y.sig for x, y in zip(a, b)), 0), c), trace)


def _integer_result(ins: Instruction, total: Number, trace: list[Step] | None) -> int:
    value = -total.sig if total.negative else total.sig
    if ins.saturate:
        value = min(max(value, ins.d.min), ins.d.max)
    code = value & ((1 << ins.d.bits) - 1)
    if trace is not None:
        trace.append(Step("exact integer sum", (), None, 0, total, code))
    return code


METHODS = {f.__name__: f for f in (
    chain, exact_groups, fp8_through_f16, simt_f32, simt_f16, fma_chain, integer, xor_popc, and_popc)}
