"""Intel Gaudi 2 and 3: the matrix engine (MME), after the functional model that Intel publishes and verifies its chips
with ([GAUDI]: coral-sim, fs_fma, and mme_reference, chip_fma). The sources' keys are those of instructions.SOURCES.

Operands are widened to float32 on their way in, so a subnormal of FP8 or FP16 claims its own leading bit there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..formats import Float
from .numbers import ZERO, Number, add, decode, encode, multiply
from .nvidia import _fused
from .steps import Addend, Operands, Step, addend, fused_sum

if TYPE_CHECKING:
    from ..instructions import Instruction

__all__ = ["METHODS"]

_NOTHING = -(1 << 20)           # the exponent of no product


def digit_chain(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
                trace: list[Step] | None) -> int:
    """Gaudi 3: significands in digits of 8 bits; each product of two digits, cut toward zero at the exponent of the
    whole, and C make one fused sum, which is cut too ([GAUDI]).

    FP8 has one digit, FP16 and TF32 two, FP32 three. (The chip leaves the product of FP32's two lowest digits out: it
    would be cut to nothing.)
    """
    a, b = ([_widened(fmt, x, -126) for x in side] for fmt, side in ((ins.a, a), (ins.b, b)))
    for start in range(0, len(a), ins.terms):
        group = range(start, min(start + ins.terms, len(a)))
        addends = [p for i in group for p in _digits(ins, a[i], b[i], 8)] + [addend(c, 23)]
        code = _fused(ins, f"k {group.start}..{group.stop - 1} and C", addends, trace)
        c = decode(ins.d, code)
    return code


def sum_then_c(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
               trace: list[Step] | None) -> int:
    """Gaudi 2: products, cut toward zero at the largest exponent among them, are summed; C is added without error, the
    result rounded to nearest, and flushed if subnormal ([GAUDI]).

    What is subnormal in float32 counts as zero; FP8 has no exponent below -14. FP32 is multiplied in digits of 12 bits.
    """
    least = -14 if ins.a.bits == 8 else -126
    a, b = ([_flushed(_widened(fmt, x, least), -126) for x in side] for fmt, side in ((ins.a, a), (ins.b, b)))
    c = _flushed(c, -126)
    for start in range(0, len(a), ins.terms):
        group = range(start, min(start + ins.terms, len(a)))
        addends = [p for i in group for p in _digits(ins, a[i], b[i], 12 if ins.a.frac_bits == 23 else 24)]
        dot, top = fused_sum(addends, ins.adder.frac, _NOTHING)
        if trace is not None and top > _NOTHING:
            what = f"products of k {group.start}..{group.stop - 1}"
            trace.append(Step(what, tuple(addends), top, top - ins.adder.frac, dot, None))
        total = add(dot, c)
        if total.kind == "finite" and not total.sig:
            total = ZERO._replace(negative=c.negative and all(p.number.negative for p in addends))
        code = ins.d.all_ones_nan
        if total.kind != "nan":
            rounded = _flushed(decode(ins.d, encode(ins.d, total, ins.rounding)), -126)
            code = encode(ins.d, rounded)
        if trace is not None:
            trace.append(Step("sum and C", (Addend(dot, None), Addend(c, None)), None, None, total, code))
        c = decode(ins.d, code)
    return code


def _widened(fmt: Float, x: Number, least: int) -> Number:
    """A number with its leading bit in the place of the hidden one, as far as its exponent stays `least` or above."""
    if x.kind != "finite" or not x.sig:
        return x
    left = max(min(fmt.frac_bits + 1 - x.sig.bit_length(), x.exp + fmt.frac_bits - least), 0)
    return x._replace(sig=x.sig << left, exp=x.exp - left)


def _flushed(x: Number, least: int) -> Number:
    """A zero of the same sign for what is below 2**least."""
    return x._replace(sig=0) if x.kind == "finite" and x.sig.bit_length() - 1 + x.exp < least else x


def _digits(ins: Instruction, x: Number, y: Number, width: int) -> Iterator[Addend]:
    """The product of x and y in products of their digits of `width` bits; each claims the exponent of the whole."""
    product = multiply(x, y)
    whole = addend(product, ins.a.frac_bits + ins.b.frac_bits)
    counts = [-(-(fmt.frac_bits + 1) // width) for fmt in (ins.a, ins.b)]
    if whole.claim is None or counts == [1, 1]:
        yield whole
        return
    for i in range(counts[0]):
        for j in range(counts[1]):
            digits = (x.sig >> width * i & ((1 << width) - 1)) * (y.sig >> width * j & ((1 << width) - 1))
            yield Addend(Number(product.negative, digits, product.exp + width * (i + j)), whole.claim)


METHODS = {f.__name__: f for f in (digit_chain, sum_then_c)}
