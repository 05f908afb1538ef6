"""Arm's and IBM's dot products, as [ARM], in its shared pseudocode, and [POWER] say; FPCR and FPSCR are zero.

Nobody has measured these rows here. [QEMU] computes the same bits where it has the instruction; tests/test_qemu.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..formats import Float
from .numbers import ONE, Number, add, decode, encode, multiply
from .steps import Addend, Operands, Step
from .x86 import nan_code

if TYPE_CHECKING:
    from ..instructions import Instruction

__all__ = ["METHODS"]


def _step(fmt: Float, what: str, addends: list[Number], nans: list[Number], trace: list[Step] | None,
          rounded: Callable[[Float, Number], int] = encode) -> Number:
    """A sum without error, rounded once. NaN is the first of `nans` that is one, made quiet, else the default NaN."""
    total = add(*addends)
    found = next((x for x in nans if x.kind == "nan"), None)
    code = rounded(fmt, total) if total.kind != "nan" else nan_code(fmt, found) if found else fmt.nan_code
    if trace is not None:
        trace.append(Step(what, tuple(Addend(x, None) for x in addends), None, None, total, code))
    return decode(fmt, code)


def _code(fmt: Float, number: Number) -> int:
    return nan_code(fmt, number) if number.kind == "nan" else encode(fmt, number)


def _wide(source: Float, fmt: Float, number: Number) -> Number:
    """A NaN's payload where `fmt` has it."""
    return number._replace(sig=number.sig << (fmt.frac_bits - source.frac_bits)) if number.kind == "nan" else number


def _to_odd(fmt: Float, number: Number) -> int:
    """BFRound of [ARM]: what is less than the smallest normal number is flushed, before rounding; else rounded to odd;
    what the exponent cannot hold is infinite."""
    if number.kind == "finite" and number.sig.bit_length() - 1 + number.exp < fmt.emin:
        number = number._replace(sig=0)
    return encode(fmt, number, "ro", "infinity")


def _flushed(fmt: Float, number: Number) -> Number:
    small = number.kind == "finite" and number.sig.bit_length() - 1 + number.exp < fmt.emin
    return number._replace(sig=0) if small else number


def odd_pairs(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
              trace: list[Step] | None) -> int:
    """BFDotAdd without FEAT_EBF16: each product, the sum of two and the sum with C are rounded to odd ([ARM]).

    Subnormals come in and go out as zeros of their sign; the default NaN.
    """
    a, b = ([_flushed(fmt, x) for x in row] for fmt, row in ((ins.a, a), (ins.b, b)))
    c = _flushed(ins.d, c)
    for k in range(0, len(a), 2):
        products = [_step(ins.d, f"product k {i}", [multiply(a[i], b[i])], [], trace, _to_odd) for i in (k, k + 1)]
        pair = _step(ins.d, f"k {k} + k {k + 1}", products, [], trace, _to_odd)
        c = _step(ins.d, f"C + k {k}..{k + 1}", [c, pair], [], trace, _to_odd)
    return ins.d.nan_code if c.kind == "nan" else encode(ins.d, c)


def fused_pairs(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
                trace: list[Step] | None) -> int:
    """BFDotAdd of FEAT_EBF16, FPDotAdd_ZA: two products are added without error and rounded, then added to C ([ARM]).

    Roundings go to nearest, subnormals are kept; the default NaN.
    """
    for k in range(0, len(a), 2):
        pair = _step(ins.d, f"k {k} + k {k + 1}", [multiply(a[i], b[i]) for i in (k, k + 1)], [], trace)
        c = _step(ins.d, f"C + k {k}..{k + 1}", [c, pair], [], trace)
    return ins.d.nan_code if c.kind == "nan" else encode(ins.d, c)


def scaled_sum(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
               trace: list[Step] | None) -> int:
    """FP8DotAdd and FPMulAdd: all products, scaled, and C are added without error and rounded once ([ARM]).

    The scale is 2**-FPMR.LSCALE: that of A here, with 1 for B's. To nearest; FPMR.OSM = 0: what overflows is infinite.
    Subnormals are kept; the default NaN.
    """
    scale = multiply(sa[0], sb[0]) if ins.block else ONE
    products = [multiply(multiply(x, y), scale) for x, y in zip(a, b)]
    found = _step(ins.d, "the products and C", [*products, c], [], trace)
    return ins.d.nan_code if found.kind == "nan" else encode(ins.d, found)


def arm_fma(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
            trace: list[Step] | None) -> int:
    """FPMulAdd: fused multiply-adds to nearest, subnormals kept ([ARM]).

    Of NaN operands the signalling ones come first, in the order C, A, B; Inf * 0 beside a quiet C is the default NaN.
    """
    for k, (x, y) in enumerate(zip(a, b)):
        nans = [c, _wide(ins.a, ins.d, x), _wide(ins.b, ins.d, y)]
        quiet = 1 << (ins.d.frac_bits - 1)
        product = multiply(x, y)
        if product.kind == "nan" and "nan" not in (x.kind, y.kind) and c.sig & quiet:
            nans = []
        c = _step(ins.d, f"FMA k {k}", [product, c], sorted(nans, key=lambda n: bool(n.sig & quiet)), trace)
    return _code(ins.d, c)


def power_pairs(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
                trace: list[Step] | None) -> int:
    """Two products are added without error and rounded, then added to C; to nearest, subnormals kept ([POWER]).

    Which NaN comes out is [QEMU]'s reading: the first of A's even k, the odd k's product (A's, B's, an invalid one),
    B's even k, C.
    """
    for k in range(0, len(a), 2):
        x, y, even, odd = a[k], b[k], multiply(a[k], b[k]), multiply(a[k + 1], b[k + 1])
        nans = [_wide(ins.a, ins.d, n) for n in (x, a[k + 1], b[k + 1])]
        nans += [decode(ins.d, ins.d.nan_code)] * (odd.kind == "nan") + [_wide(ins.b, ins.d, y)]
        pair = _step(ins.d, f"k {k} + k {k + 1}", [even, odd], nans, trace)
        c = _step(ins.d, f"k {k}..{k + 1} + C", [pair, c], [pair, c], trace)
    return _code(ins.d, c)


def power_fma(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
              trace: list[Step] | None) -> int:
    """A fused multiply-add, to nearest, subnormals kept; of NaN operands the first of A, C, B ([POWER])."""
    for k, (x, y) in enumerate(zip(a, b)):
        c = _step(ins.d, f"FMA k {k}", [multiply(x, y), c], [x, c, y], trace)
    return _code(ins.d, c)


METHODS: dict[str, Callable[..., int]] = {f.__name__: f for f in (
    odd_pairs, fused_pairs, scaled_sum, arm_fma, power_pairs, power_fma)}
