"""One dot product told step by step: which addends came in, which bits were cut, how the sum was rounded.

The arithmetic is exact.dot's own: its trace is drawn here, nothing is computed a second time.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import exact, show
from .compare import any_codes
from .errors import BadOperand
from .exact import Number, Step
from .formats import FORMATS, Float, Integer
from .instructions import Instruction

__all__ = ["Explanation", "explain"]

_F32: Float = FORMATS["float32"]    # type: ignore[assignment]
_CUT = 20       # bits below the cut that are drawn
_ROUNDING = {"rz": "toward zero", "rne": "to nearest, ties to even", "rd": "toward minus infinity",
             "ru": "toward plus infinity", "rna": "to nearest, ties away from zero", "ro": "to odd"}


@dataclass(frozen=True)
class Explanation:
    """The steps behind one element of D; operands and result are codes. str() tells them in about 110 columns."""

    ins: Instruction
    a: tuple[int, ...]
    b: tuple[int, ...]
    c: int
    scale_a: tuple[int, ...]
    scale_b: tuple[int, ...]
    steps: tuple[Step, ...]
    code: int

    def __str__(self) -> str:
        result = f"d = {show.describe(self.ins.d, self.code)}"
        lines = [*_head(self.ins), "", *_operands(self), "", *_steps(self), "", result]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines))


def explain(ins: Instruction, a: object, b: object, c: object = 0, scale_a: object = None,
            scale_b: object = None) -> Explanation:
    """Explain d = a . b + c as `ins` computes it.

    a, b: k' <= k elements each; c: one element; scale_a, scale_b: k / block elements where the instruction is block
    scaled. Each is typed as Unit.dot takes it, or codes (an unsigned array, Python integers).
    Raises BadOperand.
    """
    def row(x: object, fmt: Float | Integer | None, name: str) -> tuple[int, ...]:
        if x is None:
            return ()
        if fmt is None:
            raise BadOperand(f"{name} is given; {ins} has no block scales")
        found = any_codes(x, fmt, name)
        if found.ndim != (name != "c"):
            raise BadOperand(f"{name} is {found.shape}; explain takes one dot product: a (k',), b (k',), c ()")
        return tuple(int(code) for code in np.atleast_1d(found))

    a, b, (c,) = row(a, ins.a, "a"), row(b, ins.b, "b"), row(c, ins.c, "c")
    scale_a, scale_b = row(scale_a, ins.scale, "scale_a"), row(scale_b, ins.scale, "scale_b")
    trace: list[Step] = []
    code = exact.dot(ins, a, b, c, scale_a, scale_b, trace)
    return Explanation(ins, a, b, c, scale_a, scale_b, tuple(trace), code)


# --- what came in -----------------------------------------------------------------------------------------------------

def _head(ins: Instruction) -> Iterator[str]:
    yield str(ins)
    method = exact.method(ins)
    rule = " ".join(re.split(r"\.\s", method.__doc__ or "")[0].split()).rstrip(".")
    yield from textwrap.wrap(f"{method.__name__}: {rule}", 110, initial_indent="  ", subsequent_indent="    ")
    if ins.adder and ins.adder.frac is None:
        yield f"  adder {ins.adder.name}: groups of {ins.terms} products"
    elif ins.adder:
        what = "groups" if ins.method == "exact_groups" else "products"
        yield (f"  adder {ins.adder.name}: {ins.terms} {what} and C in one sum, {ins.adder.frac} fraction bits below "
               f"the largest exponent (at least {ins.floor})")


def _operands(x: Explanation) -> Iterator[str]:
    ins = x.ins
    yield f"  a ({ins.a}) x b ({ins.b}), C ({ins.c})" + f", scales ({ins.scale}) per {ins.block} k" * bool(ins.block)
    shown = [k for k, (a, b) in enumerate(zip(x.a, x.b)) if _matters(ins.a, a) or _matters(ins.b, b)]
    rows = [[f"k {k}", *_operand(ins.a, x.a[k]), "x", *_operand(ins.b, x.b[k])] for k in shown]
    if ins.a.bits == 1:
        rows = []
        for start in range(0, len(x.a), 64):
            for name, row in (("a", x.a), ("b", x.b)):
                yield f"  {name}, k {start:<3} .. " + "".join(map(str, row[start:start + 64]))
    if ins.scale:
        rows += [[f"scale {i}", *_operand(ins.scale, scale_a), "x", *_operand(ins.scale, scale_b)]
                 for i, (scale_a, scale_b) in enumerate(zip(x.scale_a, x.scale_b))]
    rows.append(["C", *_operand(ins.c, x.c)])
    yield from _table(rows, left=(0, 3, 7))
    if len(shown) < ins.k and ins.a.bits > 1:
        yield f"  the other {ins.k - len(shown)} of {ins.k} k: both operands are zero"


def _operand(fmt: Float | Integer, code: int) -> list[str]:
    """Code, value, and the exponent the hardware sees."""
    found, exponent = exact.decode(fmt, code), ""
    if isinstance(fmt, Float) and found.kind == "finite" and found.sig:
        exponent = f"2^{found.exp + fmt.frac_bits}"
    return [show.code(fmt, code), show.value(fmt, code), exponent]


def _matters(fmt: Float | Integer, code: int) -> bool:
    found = exact.decode(fmt, code)
    return bool(found.sig) or found.kind != "finite"


# --- what happened ----------------------------------------------------------------------------------------------------

def _steps(x: Explanation) -> Iterator[str]:
    ins, fmt, labels = x.ins, x.ins.d, _labels(x.ins)
    for number, step in enumerate(x.steps):
        if isinstance(fmt, Integer):
            yield from _integer_step(fmt, ins.saturate, step)
        elif step.unit is None:
            yield from _ieee_step(_F32 if ins.method == "simt_f16" else fmt, step, ins.rnd or "rne")
        else:
            yield from _fused_step(ins, fmt, step, step.unit, labels[number] if number < len(labels) else [])
    if ins.method == "simt_f16" and isinstance(fmt, Float):     # its last F32 is converted: no step of the trace
        yield "conversion"
        yield from _rounding(fmt, exact.decode(_F32, x.steps[-1].code or 0), x.code, "rne", fmt.frac_bits)


def _labels(ins: Instruction) -> list[list[str]]:
    """What the addends of each step are called, in exact.dot's order; C or the carried sum comes last."""
    if groups := getattr(ins, "groups", ()):                    # of a unit that its user defined (define.Defined)
        join = getattr(ins, "join", "with")
        names = [[f"k {k}" for k in group] for group in groups]
        if join == "each":
            return [label for group in names for label in (group, [])]
        return [[*group, *[f"sum {i}" if i else "C"] * (i > 0 or join == "with")] for i, group in enumerate(names)]
    if ins.method == "exact_groups":
        return [[*(f"k {k}..{k + 15}" for k in range(0, ins.k, 16)), "C"]]
    if ins.method == "fp8_through_f16":
        return [[*(f"k {k}" for k in range(ins.k) if k % 4 // 2 == half), f"sum {half}"] for half in (0, 1)]
    groups = [[f"k {k}" for k in range(start, min(start + ins.terms, ins.k))] for start in range(0, ins.k, ins.terms)]
    after = [f"sum {i}" if i else "C" for i in range(len(groups))]
    if ins.method == "cut_then_floor":
        return [step for ks, c in zip(groups, after) for step in (ks, ["products", c])]
    if ins.method == "even_and_odd":
        return [step for ks, c in zip(groups, after) for step in (ks[::2], ks[1::2], ["even", "odd"], ["products", c])]
    if ins.method in ("digit_chain", "sum_then_c"):
        return []                                       # products of digits: several a k
    return [[*ks, c] for ks, c in zip(groups, after)]


def _fused_step(ins: Instruction, fmt: Float, step: Step, unit: int, names: list[str]) -> Iterator[str]:
    """The addends in columns: name, value, exponent claimed, sign, bits kept | bits cut."""
    if len(names) != len(step.addends):
        names = [f"addend {i}" for i in range(len(step.addends))]
    setters = [name for name, addend in zip(names, step.addends) if addend.claim == step.top]
    more = " ..." * (len(setters) > 4)
    by = f"set by {', '.join(setters[:4])}{more}" if setters else "the floor: no addend reaches it"
    how = step.how or f"each addend is cut to a multiple of 2^{unit}"
    yield from textwrap.wrap(f"{step.what}: largest exponent {step.top}, {by}; {how}", 120, subsequent_indent="  ")
    shown = [(name, *addend) for name, addend in zip(names, step.addends)
             if addend.number.sig or addend.number.kind != "finite"]
    rows = [[name, show.number(number, 9), "" if claim is None else f"2^{claim}", *_bits(number, unit)]
            for name, number, claim in shown]
    rows.append(["sum", show.number(step.total), "", *_bits(step.total, unit)])
    wide = max(len(kept) for *_, kept, _ in rows)
    drawn = [[*row, f"{kept:>{wide}}|{cut}" if kept else ""] for *row, kept, cut in rows]
    yield from _table(drawn, left=(0, 2, 4))
    if len(shown) < len(step.addends):
        yield f"  the other {len(step.addends) - len(shown)} addends are zero and claim no exponent"
    precision = fmt.frac_bits if ins.precision is None else ins.precision
    if step.code is not None:
        yield from _rounding(fmt, step.total, step.code, ins.rounding, precision)
    yield ""


def _ieee_step(fmt: Float, step: Step, mode: str) -> Iterator[str]:
    """A product or a sum without error, mostly of a product and an addend; then one rounding."""
    told = " + ".join(show.number(a.number) for a in step.addends)
    told += f" = {show.number(step.total)}" * (len(step.addends) > 1)
    yield from textwrap.wrap(f"{step.what}: {told}", 110, subsequent_indent="    ")
    if step.code is not None:
        yield from _rounding(fmt, step.total, step.code, mode, fmt.frac_bits)


def _integer_step(fmt: Integer, saturate: bool, step: Step) -> Iterator[str]:
    total = -step.total.sig if step.total.negative else step.total.sig
    beyond = not fmt.min <= total <= fmt.max
    yield f"{step.what}: {total}" + beyond * (", clamped" if saturate else f", wrapped to {fmt.bits} bits")


def _rounding(fmt: Float, total: Number, code: int, mode: str, precision: int) -> Iterator[str]:
    """The exact sum as bits of the result | bits rounded away, which way it went, and the result."""
    result = exact.decode(fmt, code)
    unit = result.exp + fmt.frac_bits - precision
    below = unit - total.exp
    if total.kind != "finite":
        how = "an infinity came in" if total.kind == "inf" else "NaN came in, or arose from infinities"
    elif result.kind != "finite":
        how = "the sum rounds past the largest number"
    elif total.sig and not result.sig and total.sig.bit_length() + total.exp >= unit:
        how = "below the smallest normal number, flushed"
    elif below <= 0 or not total.sig & ((1 << below) - 1):
        how = "exact"
    else:
        _, kept, cut = _bits(total, unit)
        way = "up" if result.sig >> (fmt.frac_bits - precision) > total.sig >> below else "down"
        narrow = f" to {precision} fraction bits" * (precision < fmt.frac_bits)
        how = f"rounded {_ROUNDING[mode]}{narrow}; the magnitude went {way} from\n      {kept}|{cut} * 2^{unit}"
    yield f"  = {show.describe(fmt, code)} ({fmt}), {how}"


# --- drawing ----------------------------------------------------------------------------------------------------------

def _bits(x: Number, unit: int) -> tuple[str, str, str]:
    """Sign, the bits of |x| from 2**unit up, and those below it: what a cut at 2**unit keeps | drops."""
    if x.kind != "finite":
        return "", "", ""
    below = max(unit - x.exp, 0)
    kept = x.sig >> below if below else x.sig << x.exp - unit
    cut = f"{x.sig & ((1 << below) - 1):0{below}b}".rstrip("0") if below else ""
    if len(cut) > _CUT:
        cut = f"{cut[:_CUT]}... {len(cut) - _CUT} more"
    return "-" if x.negative else "+", f"{kept:b}", cut


def _table(rows: list[list[str]], left: tuple[int, ...]) -> Iterator[str]:
    """Columns as wide as they need to be; those in `left` are aligned left, the others right."""
    wide = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    for row in rows:
        cells = [cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, wide))]
        yield "  " + "  ".join(cells)
