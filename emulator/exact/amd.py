"""AMD: how each generation's matrix cores compose K. The sources' keys are those of instructions.SOURCES.

Three generations, three algorithms, each after [XMMA], who ran the instructions. No source says which NaN a result is:
it is all ones here, and an exact zero is +0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..formats import Float
from ..rounding import round_shift
from .numbers import ZERO, Number, add, decode, encode, multiply
from .steps import Addend, Operands, Step, addend, fused_sum

if TYPE_CHECKING:
    from ..instructions import Instruction

__all__ = ["METHODS"]

SUM_FRAC = 31                # CDNA3: fraction bits of the normalised sum, and one more of the products' sum
_NOTHING = -(1 << 20)           # the exponent of no product


def _groups(ins: Instruction) -> Iterator[range]:
    for start in range(0, ins.k, ins.terms):
        yield range(start, min(start + ins.terms, ins.k))


def _round(ins: Instruction, total: Number) -> int:
    """To nearest (the row says so), subnormals kept; exactly zero is +0, rounded to zero is not."""
    if total.kind == "nan":
        return ins.d.all_ones_nan
    return encode(ins.d, total, ins.rounding) if total.sig or total.kind == "inf" else 0


def exact_sums(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
               trace: list[Step] | None) -> int:
    """CDNA1: `terms` products and C are summed without error and rounded once, to nearest ([XMMA][KM][FTTN]).

    Each group's result is the next one's C.
    """
    for group in _groups(ins):
        numbers = [*(multiply(a[i], b[i]) for i in group), c]
        total = add(*numbers)
        code = _round(ins, total)
        if trace is not None:
            what = f"k {group.start}..{group.stop - 1} and C, summed without error"
            trace.append(Step(what, tuple(Addend(x, None) for x in numbers), None, None, total, code))
        c = decode(ins.d, code)
    return code


def flushed_pairs(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
                     trace: list[Step] | None) -> int:
    """CDNA2: subnormal operands count as zero; each product and each sum is rounded to F32, to nearest, and flushed:
    (p0 + p1) + (p2 + p3), then onto C ([XMMA][KM][ROCM]).

    A subnormal result becomes a zero of its sign; of A, B and C subnormals and zeros come in as +0. Groups of two have
    p0 + p1 alone.
    """
    fmt = ins.d

    def rounded(what: str, total: Number, *addends: Number) -> Number:
        result = total
        if total.kind != "nan":     # a product has 22 bits, a subnormal sum is exact: it matters not when to flush
            result = _flushed(fmt, decode(fmt, encode(fmt, total, ins.rounding)))
        if trace is not None:
            code = fmt.all_ones_nan if result.kind == "nan" else encode(fmt, result)
            trace.append(Step(what, tuple(Addend(x, None) for x in addends), None, None, total, code))
        return result

    a, b = ([_flushed(own, x, keep_sign=False) for x in side] for own, side in ((ins.a, a), (ins.b, b)))
    c = _flushed(ins.c, c, keep_sign=False)
    for group in _groups(ins):
        sums = [rounded(f"product k {k}", product, product) for k in group for product in [multiply(a[k], b[k])]]
        while len(sums) > 1:
            each = len(group) // len(sums)      # k in a sum
            sums = [rounded(f"k {k}..{k + 2 * each - 1}", add(x, y), x, y)
                    for k, x, y in zip(group[::2 * each], sums[::2], sums[1::2])]
        c = rounded(f"C and k {group.start}..{group.stop - 1}", add(c, sums[0]), c, sums[0])
    return fmt.all_ones_nan if c.kind == "nan" else encode(fmt, c)


def _flushed(fmt: Float, x: Number, keep_sign: bool = True) -> Number:
    """Zero instead of a subnormal."""
    if x.kind == "finite" and not x.sig >> fmt.frac_bits:
        return ZERO._replace(negative=x.negative and keep_sign)
    return x


def cut_then_floor(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
                        trace: list[Step] | None) -> int:
    """CDNA3: products are cut toward zero and summed; that sum and C are floored, added, floored again and rounded to
    nearest ([XMMA]).

    The products' sum has F fraction bits below its own largest exponent. A product of 2**128 or more is infinite.
    """
    product_frac = ins.a.frac_bits + ins.b.frac_bits
    for group in _groups(ins):
        products = [_in_range(ins.d, multiply(a[i], b[i])) for i in group]
        dot, top = _cut_sum(ins, f"k {group.start}..{group.stop - 1}", products, product_frac, trace)
        code = _onto_c(ins, dot, top, c, trace)
        c = decode(ins.d, code)
    return code


def even_and_odd(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
                 trace: list[Step] | None) -> int:
    """CDNA3, FP8: even k and odd k are summed apart, as products cut toward zero; both sums are floored at the larger
    exponent and added, and then go onto C as those of F16 do ([XMMA]).

    A C more than F + 1 places below counts for nothing, though it be negative.
    """
    frac, product_frac = ins.adder.frac, ins.a.frac_bits + ins.b.frac_bits
    for group in _groups(ins):
        halves, tops = zip(*(_cut_sum(ins, f"{name} k of {group.start}..{group.stop - 1}",
                                      [multiply(a[i], b[i]) for i in group[odd::2]], product_frac, trace)
                             for odd, name in enumerate(("even", "odd"))))
        top = max(tops)
        dot = add(*(_floor(half, top - frac) for half in halves))
        if trace is not None:
            trace.append(Step("even and odd", tuple(map(Addend, halves, tops)), top, top - frac, dot, None,
                              f"each sum is floored to a multiple of 2^{top - frac}"))
        far = c.kind == "finite" and _exponent(ins, c) < max(top, ins.floor) - frac - 1
        code = _onto_c(ins, dot, top, ZERO if far else c, trace)
        c = decode(ins.d, code)
    return code


def _in_range(fmt: Float, product: Number) -> Number:
    """Infinite from 2**(emax + 1) up: before anything is summed."""
    over = product.kind == "finite" and product.sig.bit_length() + product.exp > fmt.emax + 1
    return Number(product.negative, 0, 0, "inf") if over else product


def _cut_sum(ins: Instruction, what: str, products: list[Number], product_frac: int,
             trace: list[Step] | None) -> tuple[Number, int]:
    """Products cut toward zero, F bits below the largest exponent among them; their sum and that exponent."""
    addends = [addend(p, product_frac) for p in products]
    total, top = fused_sum(addends, ins.adder.frac, _NOTHING)
    if trace is not None and top > _NOTHING:
        trace.append(Step(f"products of {what}", tuple(addends), top, top - ins.adder.frac, total, None))
    return total, top


def _exponent(ins: Instruction, c: Number) -> int:
    """The exponent that C has in the alignment: a zero and a subnormal have the least normal one."""
    return c.exp + ins.d.frac_bits if c.sig else ins.floor


def _floor(x: Number, unit: int) -> Number:
    """x, or the next multiple of 2**unit below it."""
    if x.kind != "finite":
        return x
    sig = round_shift(x.negative, x.sig, unit - x.exp, "rd")
    return Number(x.negative and sig > 0, sig, unit)


def _onto_c(ins: Instruction, dot: Number, top: int, c: Number, trace: list[Step] | None) -> int:
    """The sum `dot` of products, aligned to `top`, and C: floored, added, normalised, floored and rounded."""
    common = max(top, _exponent(ins, c), ins.floor)
    wide, narrow = common - SUM_FRAC - 1, common - ins.adder.frac
    cut = add(_floor(dot, wide), _floor(c, narrow))
    last = max(cut.sig.bit_length() - 1 + cut.exp, ins.floor) - SUM_FRAC
    total = _floor(cut, last)
    code = _round(ins, total)
    if trace is not None:
        how = (f"the sum of products is floored to a multiple of 2^{wide}, C to one of 2^{narrow}, their sum to one of "
               f"2^{last}")
        addends = Addend(dot, top if top > _NOTHING else None), addend(c, ins.d.frac_bits)
        trace.append(Step("sum and C", addends, common, wide, total, code, how))
    return code


METHODS = {f.__name__: f for f in (exact_sums, flushed_pairs, cut_then_floor, even_and_odd)}
