"""How Intel's matrix and vector units compose K: IEEE fused multiply-adds in float32 that flush subnormals.

The Operation sections of TDPBF16PS, TDPFP16PS and VDPBF16PS in [SDM] give the order; what they leave open (which NaN
comes out, when a result counts as subnormal) is measured: golden/x86_64-*, `emulator verify --live`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..formats import Float
from .numbers import ONE, ZERO, Number, add, decode, encode, multiply
from .steps import Addend, Operands, Step

if TYPE_CHECKING:
    from ..instructions import Instruction

__all__ = ["METHODS", "flushed", "nan_code"]


def nan_code(fmt: Float, number: Number | None) -> int:
    """The code of a NaN of `fmt` made quiet, sign and payload kept; without one, of the NaN that Intel's invalid
    operations make, "real indefinite" ([SDM] volume 1, section 4.8.3.7)."""
    payload = number.sig << fmt.low_pad | fmt.sign * number.negative if number else fmt.sign
    return payload | (fmt.nan_code or 0)


def flushed(fmt: Float, number: Number) -> int:
    """The code of a finite number rounded to nearest, or of a zero of its sign where what it rounds to, the exponent
    being unbounded, is less than the smallest normal number ([SDM] volume 1, 4.9.1.5: tininess after rounding)."""
    wide = replace(fmt, exp_bits=fmt.exp_bits + 4, bias=None)
    number = decode(wide, encode(wide, number))
    if number.sig.bit_length() - 1 + number.exp < fmt.emin:
        number = number._replace(sig=0)
    return encode(fmt, number)


def _widened(source: Float, fmt: Float, number: Number) -> Number:
    """A number of `source` as one of `fmt`, in which a subnormal counts as a zero of its sign."""
    if number.kind == "nan":
        return number._replace(sig=number.sig << (fmt.frac_bits - source.frac_bits))
    return number._replace(sig=0) if number.sig.bit_length() + number.exp <= fmt.emin else number


def _step(fmt: Float, what: str, x: Number, y: Number, z: Number, trace: list[Step] | None) -> Number:
    """x * y + z rounded once, to nearest and flushed. The first NaN of x, y, z in this order is the result."""
    product = multiply(x, y)
    total = add(product, z)
    if total.kind == "nan":
        code = nan_code(fmt, next((n for n in (x, y, z) if n.kind == "nan"), None))
    else:
        code = flushed(fmt, total) if total.kind == "finite" else encode(fmt, total)
    if trace is not None:
        trace.append(Step(what, (Addend(product, None), Addend(z, None)), None, None, total, code))
    return decode(fmt, code)


def _ends(ins: Instruction, a: Operands, b: Operands, c: Number) -> tuple[list[Number], list[Number], Number]:
    return ([_widened(ins.a, ins.d, x) for x in a], [_widened(ins.b, ins.d, y) for y in b],
            _widened(ins.c, ins.d, c))


def _code(fmt: Float, number: Number) -> int:
    return nan_code(fmt, number) if number.kind == "nan" else encode(fmt, number)


def two_chains(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
               trace: list[Step] | None) -> int:
    """Fused multiply-adds from +0 over the even k, and over the odd k; the two sums are added, then C [SDM].

    Every step rounds to nearest and flushes subnormals, whatever MXCSR says. A tile of fewer k than 32 is one whose
    other operands are zero, but for the sign of a zero.
    """
    a, b, c = _ends(ins, a, b, c)
    sums = []
    for odd, name in enumerate(("even", "odd")):
        total = ZERO
        for k in range(odd, len(a), 2):
            total = _step(ins.d, f"{name} chain, FMA k {k}", a[k], b[k], total, trace)
        sums.append(total)
    both = _step(ins.d, "even + odd", sums[0], ONE, sums[1], trace)
    return _code(ins.d, _step(ins.d, "C + both", c, ONE, both, trace))


def odd_then_even(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
                  trace: list[Step] | None) -> int:
    """Fused multiply-adds onto C: in each pair of k the odd one, then the even one [SDM].

    Every step rounds to nearest and flushes subnormals, whatever MXCSR says.
    """
    a, b, c = _ends(ins, a, b, c)
    for pair in range(0, len(a), 2):
        for k in (pair + 1, pair):
            c = _step(ins.d, f"FMA k {k}", a[k], b[k], c, trace)
    return _code(ins.d, c)


METHODS: dict[str, Callable[..., int]] = {f.__name__: f for f in (two_chains, odd_then_even)}
