"""The specification, in Python integers: what every row of the two tables means. Slow, and readable in one sitting.

No floating-point number of the host appears here. A code becomes a Number, Numbers are added and multiplied without
error, and one rounding leads back to a code. The rules of the matrix units cite their primary sources:

[FHMP] Fasi, Higham, Mikaitis, Pranesh 2021, "Numerical behavior of NVIDIA tensor cores", doi 10.7717/peerj-cs.330.
[KM]   Khattak, Mikaitis 2026, doi 10.1145/3830409 (arXiv 2512.07004), with recorded GPU rows (MATLAB-tensor-core).
[XMMA] Xie et al. 2025, "MMA-Sim", arXiv 2511.10909, and its program mmasim 2.1.1.
[TC5]  sf-tensor/tcgen05 (B200 result words), commit 8fce64d.
[PTX]  NVIDIA PTX ISA 9.0, section 9.7.14 "warp-level matrix instructions".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .errors import BadOperand
from .formats import FORMATS, Float, Integer
from .rounding import Policy, check, round_shift

if TYPE_CHECKING:
    from .instructions import Instruction

__all__ = ["METHODS", "Number", "Step", "add", "convert", "decode", "dot", "encode", "fma", "fused_sum", "multiply",
           "settle"]


class Number(NamedTuple):
    """(-1)**negative * sig * 2**exp, or an infinity, or NaN. `sig` is never normalised: exp is the weight of its last
    bit, so exp + frac_bits is the exponent the hardware sees, also for a subnormal."""

    negative: bool
    sig: int
    exp: int
    kind: str = "finite"     # or "inf" or "nan"


NAN = Number(False, 0, 0, "nan")
ZERO = Number(False, 0, 0)


# --- codes and numbers -----------------------------------------------------------------------------------------------

def decode(fmt: Float | Integer, code: int) -> Number:
    """The number that `code` is in `fmt` (IEEE 754-2019, section 3.4; specials by the format's policy).

    Pad bits are ignored. Raises BadOperand if the code is wider than the format.
    """
    if not 0 <= code < 1 << fmt.bits:
        raise BadOperand(f"{code:#x} is not a {fmt.bits}-bit code of {fmt}")
    if isinstance(fmt, Integer):
        value = code - (1 << fmt.bits) if fmt.signed and code >> (fmt.bits - 1) else code
        return Number(value < 0, abs(value), 0)
    negative, magnitude = bool(code & fmt.sign), code & fmt.magnitude
    if fmt.specials == "fnuz" and negative and not magnitude:
        return NAN._replace(negative=True)
    if magnitude > fmt.max_code:
        return Number(negative, 0, 0, "inf" if magnitude == fmt.inf_code else "nan")
    field, frac = divmod(magnitude >> fmt.low_pad, 1 << fmt.frac_bits)
    if fmt.specials == "exponent":
        return Number(negative, 1, field + fmt.emin)
    hidden = (field > 0) << fmt.frac_bits
    return Number(negative, hidden + frac, fmt.emin + max(field, 1) - 1 - fmt.frac_bits)


def encode(fmt: Float, number: Number, rounding: str = "rne", overflow: str = "ieee", *, precision: int | None = None,
           nan: str = "error", random: int = 0, random_bits: int = 0) -> int:
    """The code of `number` rounded once to `fmt`.

    rounding: a mode of rounding.MODES; the stochastic ones read `random`, a number of `random_bits` bits. overflow: a
    policy of rounding.OVERFLOWS, applied after rounding with an unbounded exponent. precision: fraction bits kept, if
    fewer than the format has. nan: what a format without NaN does with one: error, zero or max.
    It is the code that is rounded, as the integer that it is: so ties go to an even code and ro makes an odd one, which
    for a format of one significant bit (E8M0) means the exponent (P3109 interim report v4.0, "code parity").
    A format without zero takes its smallest number instead; an unsigned one makes NaN of what is below zero.
    Raises BadOperand.
    """
    check(rounding, overflow)
    if number.kind == "nan" or (number.negative and not fmt.signed and (number.sig or number.kind == "inf")):
        return _encode_nan(fmt, nan)
    if number.kind == "inf":
        magnitude = fmt.magnitude + 1
    else:
        kept = fmt.frac_bits if precision is None else min(precision, fmt.frac_bits)
        exponent = max(number.sig.bit_length() - 1 + number.exp, fmt.emin) if number.sig else fmt.emin
        cut = exponent - kept - number.exp                      # bits of sig below the last one kept
        below = max(cut, 0)
        hidden = fmt.specials == "exponent"                     # code 0 is already a normal number
        code = ((exponent - fmt.emin - hidden) << (kept + below)) + (number.sig << (below - cut))
        code = round_shift(number.negative, code, below, rounding, random, random_bits)
        magnitude = max(code, 0) << (fmt.frac_bits - kept + fmt.low_pad)
    sign = fmt.sign if number.negative and (magnitude or fmt.has_negative_zero) else 0
    if magnitude <= fmt.max_code:
        return sign | magnitude
    infinite = number.kind == "inf"
    toward_zero = rounding == "rz" or rounding == ("ru" if number.negative else "rd") or rounding == "ro"
    if overflow == "error" and not (infinite and fmt.inf_code is not None):
        what = "an infinity" if infinite else f"{'-' * number.negative}{number.sig} * 2**{number.exp}"
        raise BadOperand(f"{what} overflows {fmt}, whose largest number is code {fmt.max_code:#x}; choose "
                         "overflow='saturate' or 'infinity'")
    stays = {"saturate": True, "propagate": not infinite, "ieee": toward_zero and not infinite}
    if stays.get(overflow, False):
        return sign | fmt.max_code
    if fmt.inf_code is not None:
        return sign | fmt.inf_code
    if fmt.nan_code is not None:
        return fmt.nan_code if fmt.specials == "fnuz" else sign | fmt.nan_code
    return sign | fmt.max_code


def _encode_nan(fmt: Float, policy: str) -> int:
    if fmt.nan_code is not None:
        return fmt.nan_code
    if policy not in ("zero", "max"):
        raise BadOperand(f"{fmt} has no NaN; choose nan='zero' or nan='max'")
    return 0 if policy == "zero" else fmt.max_code


def settle(fmt: Float, number: Number, policy: Policy, random: int = 0) -> int:
    """The code of `number` in `fmt` under every choice of `policy` but daz, which is `convert`'s. Raises BadOperand."""
    if not fmt.signed and policy.negative == "abs":
        number = number._replace(negative=False)
    code = fmt.all_ones_nan if policy.nan_code == "ones" else fmt.nan_code
    if number.kind == "nan" and code is not None:
        return code | (fmt.sign if number.negative and policy.nan_sign == "keep" else 0)
    if number.kind == "nan" and policy.nan == "flipped_zero":
        return 0 if number.negative else fmt.sign
    has_zero = fmt.specials != "exponent"
    if not has_zero and policy.zero == "nan" and number.kind == "finite" and not number.sig:
        return fmt.nan_code
    nan = "zero" if policy.nan == "flipped_zero" else policy.nan
    code = encode(fmt, number, policy.rounding, policy.overflow, nan=nan, random=random, random_bits=policy.random_bits)
    if policy.ftz and has_zero and 0 < code & fmt.magnitude < 1 << (fmt.frac_bits + fmt.low_pad):
        return code & fmt.sign if fmt.has_negative_zero else 0
    return code


def convert(source: Float | Integer, target: Float, code: int, policy: Policy, random: int = 0) -> int:
    """The code in `target` of the number that `code` is in `source`. Raises BadOperand where the policy refuses it."""
    number = decode(source, code)
    if policy.daz and isinstance(source, Float) and source.specials != "exponent" and number.kind == "finite":
        if number.sig >> source.frac_bits == 0:
            number = number._replace(sig=0)
    return settle(target, number, policy, random)


# --- exact arithmetic and the IEEE operations ------------------------------------------------------------------------

def multiply(x: Number, y: Number) -> Number:
    """The exact product; NaN for infinity times zero."""
    negative = x.negative != y.negative
    if "nan" in (x.kind, y.kind):
        return NAN
    if "inf" in (x.kind, y.kind):
        zero = (x.kind == "finite" and not x.sig) or (y.kind == "finite" and not y.sig)
        return NAN if zero else Number(negative, 0, 0, "inf")
    return Number(negative, x.sig * y.sig, x.exp + y.exp)


def add(*numbers: Number) -> Number:
    """The exact sum; NaN for infinities of both signs. An exact zero is +0 unless every number is a negative zero."""
    kinds = {(n.kind, n.negative) for n in numbers if n.kind != "finite"}
    if any(kind == "nan" for kind, _ in kinds) or len(kinds) > 1:
        return NAN
    if kinds:
        return Number(kinds.pop()[1], 0, 0, "inf")
    unit = min(n.exp for n in numbers)
    total = sum((-n.sig if n.negative else n.sig) << (n.exp - unit) for n in numbers)
    negative = total < 0 or (total == 0 and all(n.negative for n in numbers))
    return Number(negative, abs(total), unit)


def fma(fmt: Float, x: Number, y: Number, z: Number, rounding: str = "rne") -> Number:
    """x * y + z rounded once to `fmt` (IEEE 754-2019, section 5.4.1), subnormals kept."""
    product = multiply(x, y)
    total = add(product, z)
    if total.kind == "nan":
        return NAN
    if total.kind == "finite" and not total.sig and product.negative != z.negative:
        total = total._replace(negative=rounding == "rd")           # section 6.3
    return decode(fmt, encode(fmt, total, rounding))


# --- the fused sum of a matrix unit ----------------------------------------------------------------------------------

class Addend(NamedTuple):
    """A number and the exponent it claims in the alignment; None claims nothing."""

    number: Number
    claim: int | None


class Step(NamedTuple):
    """One fused sum or one IEEE operation, for `explain`: what went in, the unit 2**unit of the sum, what came out."""

    what: str
    addends: tuple[Addend, ...]
    top: int | None
    unit: int | None
    total: Number
    code: int


def fused_sum(addends: Sequence[Addend], frac: int, floor: int) -> tuple[Number, int]:
    """Align to the largest exponent, cut, add: the sum and the exponent E it was aligned to.

    Every addend is cut toward zero to a multiple of 2**(E - frac), E being the largest claim but at least `floor`; the
    cut addends are summed without error. [FHMP] section 4 finds the missing guard bits, [KM] section IV and [XMMA]
    section 4 the whole rule; a product of 2 or more is not normalised before it is aligned [KM].
    Infinities and NaN are decided first, on the addends [XMMA][TC5].
    """
    special = add(*(a.number for a in addends if a.number.kind != "finite"), ZERO)
    top = max([floor, *(a.claim for a in addends if a.claim is not None)])
    if special.kind != "finite":
        return special, top
    unit = top - frac
    total = 0
    for number, _ in addends:
        cut = round_shift(number.negative, number.sig, unit - number.exp, "rz")
        total += -cut if number.negative else cut
    return Number(total < 0, abs(total), unit), top


def _addend(number: Number, frac_bits: int) -> Addend:
    """A number that claims its own exponent: a zero claims none, whatever its fields say ([XMMA], mmasim 2.1)."""
    return Addend(number, number.exp + frac_bits if number.kind == "finite" and number.sig else None)


def _finish(ins: Instruction, total: Number) -> int:
    """Round a fused sum to the output: overflow gives infinity in every rounding mode, zero is +0, NaN is canonical
    ([XMMA][TC5]; NVIDIA's canonical NaN 0x7FFFFFFF / 0x7FFF is documented for cvt and mma in [PTX])."""
    fmt = ins.d
    if total.kind == "nan":
        return fmt.all_ones_nan
    code = encode(fmt, total, ins.rounding, "infinity", precision=ins.precision)
    return 0 if code == fmt.sign and fmt.has_negative_zero else code


def _fused(ins: Instruction, what: str, addends: list[Addend], trace: list[Step] | None) -> int:
    total, top = fused_sum(addends, ins.adder.frac, ins.floor)
    code = _finish(ins, total)
    if trace is not None:
        trace.append(Step(what, tuple(addends), top, top - ins.adder.frac, total, code))
    return code


def _ieee(fmt: Float, what: str, x: Number, y: Number, z: Number, rounding: str, trace: list[Step] | None) -> Number:
    """One fused multiply-add as a step; the NaN it makes is encoded by the caller."""
    result = fma(fmt, x, y, z, rounding)
    if trace is not None:
        product = multiply(x, y)
        code = fmt.all_ones_nan if result.kind == "nan" else encode(fmt, result, rounding)
        trace.append(Step(what, (Addend(product, None), Addend(z, None)), None, None, add(product, z), code))
    return result


# --- instructions: how a row composes a longer K ---------------------------------------------------------------------

Operands = Sequence[Number]
ONE = Number(False, 1, 0)


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
        addends = [*(_addend(p, product_frac) for p in products), _addend(c, c_frac)]
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
    return _fused(ins, "four groups of 16 and C", [*addends, _addend(c, ins.c.frac_bits)], trace)


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
        addends = [*(_addend(multiply(a[i], b[i]), product_frac) for i in group), _addend(partial, frac_bits)]
        code = _fused(ins, f"k mod 4 in {{{pair}, {pair + 1}}}", addends, trace)
        partial = decode(ins.d, code)
    return _canonical(ins.d, _ieee(ins.d, "IEEE add of C", partial, ONE, c, "rne", trace))


def simt_f32(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
             trace: list[Step] | None) -> int:
    """mma.m8n8k4 with an F32 result on sm_80 and later: FFMA over ascending k from +0, then FADD of C (SASS)."""
    total = ZERO
    for k, (x, y) in enumerate(zip(a, b)):
        total = _ieee(ins.d, f"FFMA k {k}", x, y, total, "rne", trace)
    return _canonical(ins.d, _ieee(ins.d, "FADD of C", total, ONE, c, "rne", trace))


def simt_f16(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
             trace: list[Step] | None) -> int:
    """mma.m8n8k4 with an F16 result on sm_80 and later: two pair sums in F32 (FMUL, FFMA), two FADDs onto C, one
    conversion (SASS of CUDA 13.0)."""
    f32 = FORMATS["float32"]
    total = c
    for k in range(0, len(a), 2):
        pair = _ieee(f32, f"FMUL k {k}", a[k], b[k], Number(a[k].negative != b[k].negative, 0, 0), "rne", trace)
        pair = _ieee(f32, f"FFMA k {k + 1}", a[k + 1], b[k + 1], pair, "rne", trace)
        total = _ieee(f32, f"FADD k {k}..{k + 1}", pair, ONE, total, "rne", trace)
    return _canonical(ins.d, total)


def fma_chain(ins: Instruction, a: Operands, b: Operands, c: Number, sa: Operands, sb: Operands,
              trace: list[Step] | None) -> int:
    """FP64: one IEEE fma after another in ascending k ([PTX]: "a true fused multiply-add"; [FHMP] section 4.3)."""
    for k, (x, y) in enumerate(zip(a, b)):
        c = _ieee(ins.d, f"DFMA k {k}", x, y, c, ins.rounding, trace)
    return _canonical(ins.d, c, ins.rounding)


def _canonical(fmt: Float, number: Number, rounding: str = "rne") -> int:
    return fmt.all_ones_nan if number.kind == "nan" else encode(fmt, number, rounding)


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


METHODS: dict[str, Callable[..., int]] = {f.__name__: f for f in (
    chain, exact_groups, fp8_through_f16, simt_f32, simt_f16, fma_chain, integer, xor_popc, and_popc)}


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
    return METHODS[ins.method](ins, a, b, decode(ins.c, int(c_code)), sa, sb, trace)
