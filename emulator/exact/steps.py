"""What the methods of all machines are made of: a fused sum, an IEEE step, and the trace that `explain` tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..formats import Float
from ..rounding import round_shift
from .numbers import ZERO, Number, add, encode, fma, multiply

__all__ = ["Addend", "Operands", "Step", "addend", "canonical", "fused_sum", "ieee"]

Operands = Sequence[Number]


class Addend(NamedTuple):
    """A number and the exponent it claims in the alignment; None claims nothing."""

    number: Number
    claim: int | None


class Step(NamedTuple):
    """One fused sum or one IEEE operation, for `explain`: what went in, the unit 2**unit of the sum, what came out.

    unit: None where nothing is cut before the rounding. code: None where nothing is rounded yet. how: the sentence that
    says how the addends are cut, where it is not each toward zero to a multiple of 2**unit.
    """

    what: str
    addends: tuple[Addend, ...]
    top: int | None
    unit: int | None
    total: Number
    code: int | None
    how: str = ""


def fused_sum(addends: Sequence[Addend], frac: int, floor: int, cut: str = "rz") -> tuple[Number, int]:
    """Align to the largest exponent, cut, add: the sum and the exponent E it was aligned to.

    Every addend is cut toward zero (or rounded as `cut` says) to a multiple of 2**(E - frac), E being the largest claim
    but at least `floor`; the cut addends are summed without error. [FHMP] section 4 finds the missing guard bits, [KM]
    section IV and [XMMA] section 4 the whole rule; a product of 2 or more is not normalised before it is aligned [KM].
    Infinities and NaN are decided first, on the addends [XMMA][TC5].
    """
    special = add(*(a.number for a in addends if a.number.kind != "finite"), ZERO)
    top = max([floor, *(a.claim for a in addends if a.claim is not None)])
    if special.kind != "finite":
        return special, top
    unit = top - frac
    total = 0
    for number, _ in addends:
        kept = round_shift(number.negative, number.sig, unit - number.exp, cut)
        total += -kept if number.negative else kept
    return Number(total < 0, abs(total), unit), top


def addend(number: Number, frac_bits: int) -> Addend:
    """A number that claims its own exponent: a zero claims none, whatever its fields say ([XMMA], mmasim 2.1)."""
    return Addend(number, number.exp + frac_bits if number.kind == "finite" and number.sig else None)


def ieee(fmt: Float, what: str, x: Number, y: Number, z: Number, rounding: str, trace: list[Step] | None) -> Number:
    """One fused multiply-add as a step; the NaN it makes is encoded by the caller."""
    result = fma(fmt, x, y, z, rounding)
    if trace is not None:
        product = multiply(x, y)
        code = fmt.all_ones_nan if result.kind == "nan" else encode(fmt, result, rounding)
        trace.append(Step(what, (Addend(product, None), Addend(z, None)), None, None, add(product, z), code))
    return result


def canonical(fmt: Float, number: Number, rounding: str = "rne") -> int:
    """The code of a step's result; every NaN becomes the format's NaN of all ones."""
    return fmt.all_ones_nan if number.kind == "nan" else encode(fmt, number, rounding)
