"""Arithmetic in any floating-point format: an operation without error, then one rounding.

Operations, their specials and their signs of zero are those of IEEE 754-2019 (sections 5.3.1, 5.4.1, 5.10, 5.11, 6.3,
9.6); a NaN result is positive. Two routes lead to the same code. Through float64: the operation, its error beside it,
both joined by rounding to odd, then `convert`: what is rounded to odd with two bits more than a format has rounds right
in every mode after that (Boldo and Melquiond 2008, doi 10.1109/TC.2007.70819). Formats too wide for this go one by one
through the integers of `exact`, save where the processor's own float64 operation is the answer.

x, y, z: arrays as `convert` takes them, that broadcast; with source=, codes of that format. to: the result's format;
needed where the operands' formats differ. rounding, overflow and the other options of `convert` (nan, ftz, daz, seed,
random, profile, engine ...) mean what they mean there. Raises BadOperand.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from . import engine_c, engines, exact, noise
from .arrays import any_codes, from_codes
from .convert import CHUNK, FLOAT64, Draw, convert_codes, is_nan, policy_for, random_words, source_format, target_format
from .errors import BadOperand
from .exact import Number, decode
from .formats import Float
from .record import COUNTS, Conversion, conversion
from .rounding import Policy

__all__ = ["ORDERS", "add", "div", "dot", "equal", "fma", "less", "less_equal", "maximum", "maximum_number", "minimum",
           "minimum_number", "mul", "next_down", "next_up", "sqrt", "sub", "sum", "total_order", "unordered"]

# --- in float64 -------------------------------------------------------------------------------------------------------

# A function of doubles gives the result rounded to nearest, and a double of the sign of what the exact one has more,
# or 0. Its operands come from `_narrow` formats: of at most 25 bits, and zero or of magnitude 2**-256 up to 2**256, so
# that nothing underflows or overflows. Beside infinities and NaN the error is NaN, which counts as none.
_Doubles = tuple[np.ndarray, np.ndarray]


def _narrow(fmt: Float) -> bool:
    return fmt.frac_bits <= 24 and fmt.emin - fmt.frac_bits >= -256 and fmt.emax < 256


def _two_sum(x: np.ndarray, y: np.ndarray) -> _Doubles:
    """Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B: x + y = total + error."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _product(x: np.ndarray, y: np.ndarray) -> _Doubles:
    """25 + 25 bits: exact."""
    return x * y, np.zeros(())


def _quotient(x: np.ndarray, y: np.ndarray) -> _Doubles:
    """x / y = q + r / y. q is cut in two parts of 26 and 27 bits, so their products with y are exact. x - high * y is
    exact, the two being within a factor of two (Sterbenz). r is a multiple of ulp(q) times the weight of y's 25th bit,
    and at most ulp(q) * |y| / 2: fewer than 2**25 of those units, so it is a double, and the last subtraction exact."""
    q = x / y
    high = _high(q)
    return q, ((x - high * y) - (q - high) * y) * np.copysign(1, y)


def _root(x: np.ndarray) -> _Doubles:
    """x = s**2 + r. With 2**k <= s < 2**(k+1), s = high + low of 26 and 27 bits, so the three products are exact.
    x - high**2 is exact (Sterbenz). Then r + low**2 is left, a multiple of 2**(2k-77) below 2**(2k-49), and then r, a
    multiple of 2**(2k-104) and at most 2**(2k-51), s being the nearest double: both are doubles, so exact."""
    s = np.sqrt(x)
    high = _high(s)
    low = s - high
    return s, ((x - high * high) - 2 * high * low) - low * low


def _high(x: np.ndarray) -> np.ndarray:
    """x cut to its first 26 bits."""
    return (x.view(np.int64) & np.int64(-1 << 27)).view(np.float64)


def _odd(nearest: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Round to odd: where the result is inexact and even, the double next to it, on the side of the error."""
    code = nearest.view(np.int64)
    step = np.where(np.signbit(nearest) == np.signbit(error), 1, -1)
    return (code + step * ((np.abs(error) > 0) & (code & 1 == 0))).view(np.float64)


# --- the operations ---------------------------------------------------------------------------------------------------

# Sums by name: their two addends, exact, as doubles and as Numbers.
_SUMS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (lambda x, y: (x, y), lambda x, y: (x, y)),
    "sub": (lambda x, y: (x, -y), lambda x, y: (x, y._replace(negative=not y.negative))),
    "fma": (lambda x, y, z: (x * y, z), lambda x, y, z: (exact.multiply(x, y), z)),
}
# The others: the operation on doubles, and on Numbers with at least `bits` bits.
_OTHERS: dict[str, tuple[Callable[..., _Doubles], Callable[..., Number]]] = {
    "mul": (_product, lambda bits, x, y: exact.multiply(x, y)),
    "div": (_quotient, lambda bits, x, y: exact.divide(x, y, bits)),
    "sqrt": (_root, lambda bits, x: exact.square_root(x, bits)),
}
_PROCESSOR = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "sqrt": np.sqrt}
_Codes = tuple[Float, np.ndarray]                           # a format and an array of its codes


def _doubles(name: str, rounding: str, x: Sequence[np.ndarray]) -> _Doubles:
    if name not in _SUMS:
        return _OTHERS[name][0](*x)
    addends = _SUMS[name][0](*x)
    total, error = _two_sum(*addends)
    if rounding == "rd":                                    # section 6.3: zero of unlike addends is -0
        total = np.where((total == 0) & (np.signbit(addends[0]) != np.signbit(addends[1])), -0.0, total)
    return total, error


def _number(name: str, rounding: str, bits: int, x: Sequence[Number]) -> Number:
    if name not in _SUMS:
        return _OTHERS[name][1](bits, *x)
    return exact.add(*_SUMS[name][1](*x), rounding=rounding)


class _Rounding(NamedTuple):
    """The last step of an operation: the format of the result, and all that `convert` is told of its rounding."""

    target: Float
    policy: Policy
    draw: Draw                                              # the random words of the results
    engine: str | None

    @classmethod
    def of(cls, target: Float, shape: tuple[int, ...], rounding: str | None, overflow: str | None,
           profile: str | None = None, engine: str | None = None, seed: int | None = None, random: Any = None,
           random_bits: int | None = None, **choices: Any) -> _Rounding:
        policy = policy_for(target, profile, rounding=rounding, overflow=overflow, **choices)
        draw, bits = random_words(policy.rounding, seed, random, random_bits, np.empty(shape, np.void))
        return cls(target, replace(policy, random_bits=bits), draw, engine)

    @property
    def bits(self) -> int:
        """What a result must have, if rounded to odd, to be rounded right after that."""
        return self.target.frac_bits + 3 + self.policy.random_bits

    def __call__(self, fmt: Float, codes: np.ndarray) -> np.ndarray:
        return convert_codes(conversion(fmt, self.target, self.policy), codes, self.draw, self.engine)[0]

    def settle(self, numbers: Sequence[Number], shape: tuple[int, ...]) -> np.ndarray:
        words = self.draw(0, len(numbers))
        drawn = [0] * len(numbers) if words is None else words.tolist()
        codes = [exact.settle(self.target, x, self.policy, word) for x, word in zip(numbers, drawn)]
        return np.array(codes, self.target.code_dtype).reshape(shape)


def _operate(name: str, last: _Rounding, *operands: _Codes) -> np.ndarray:
    """The codes of the operation's results on codes of one shape."""
    formats, codes = zip(*operands)
    rounding, result = last.policy.rounding, None
    if last.engine != "exact":
        with np.errstate(all="ignore"):
            if all(map(_narrow, formats)):
                nearest, error = _doubles(name, rounding, [_double(*operand) for operand in operands])
                if last.bits <= 53 or not (np.abs(error) > 0).any():
                    result = _odd(nearest, error)
            elif {FLOAT64} == {last.target, *formats} and name in _PROCESSOR and rounding == "rne":
                if last.policy.overflow in ("infinity", "ieee", "saturate"):    # others ask where an infinity is from
                    result = _PROCESSOR[name](*(_double(*operand) for operand in operands))
    try:
        if result is not None:
            return last(FLOAT64, np.where(np.isnan(result), np.nan, result).view(np.uint64))
        rows = zip(*(code.reshape(-1).tolist() for code in codes))
        numbers = [_number(name, rounding, last.bits, [decode(*x) for x in zip(formats, row)]) for row in rows]
        return last.settle(numbers, codes[0].shape)
    except BadOperand as refusal:
        raise BadOperand(f"the result of {name}: {refusal}") from None


@functools.cache
def _to_double(fmt: Float) -> Conversion:
    return conversion(fmt, FLOAT64, Policy())


def _double(fmt: Float, codes: np.ndarray) -> np.ndarray:
    return convert_codes(_to_double(fmt), codes, lambda *_: None)[0].view(np.float64)


def _read(options: dict[str, Any], **operands: Any) -> list[_Codes]:
    """The formats and codes of the operands, broadcast to one shape; takes source and daz out of the options."""
    source, daz, found = options.pop("source", None), options.pop("daz", False), []
    for name, x in operands.items():
        fmt = source_format(x, source)
        if not isinstance(fmt, Float) or fmt.exp_bits + fmt.frac_bits > 63:
            raise BadOperand(f"{name} is {fmt}; arithmetic takes floating-point formats, of at most 63 bits beside the "
                             "sign. Convert it first, and say how: emulator.convert")
        codes = any_codes(x, fmt, name)
        if daz and fmt.specials != "exponent":
            small = (codes & fmt.magnitude) >> fmt.low_pad < 1 << fmt.frac_bits
            zero = codes & fmt.sign if fmt.has_negative_zero else np.where(codes & fmt.magnitude, 0, codes)
            codes = np.where(small, zero, codes).astype(fmt.code_dtype)
        found.append((fmt, codes))
    try:
        shape = np.broadcast_shapes(*(codes.shape for _, codes in found))
    except ValueError:
        shapes = ", ".join(f"{name} {codes.shape}" for name, (_, codes) in zip(operands, found))
        raise BadOperand(f"the operands do not broadcast to one shape: {shapes}") from None
    return [(fmt, np.broadcast_to(codes, shape)) for fmt, codes in found]


def _common(operands: Sequence[_Codes], to: Any = None) -> Float:
    """The format of a result: `to`, or that of all operands."""
    if to is not None:
        return target_format(to)
    formats = list(dict.fromkeys(fmt for fmt, _ in operands))
    if len(formats) > 1:
        raise BadOperand(f"the operands are {' and '.join(map(str, formats))}; say which format the result has, to=")
    return formats[0]


def _perform(name: str, to: Any, rounding: str | None, overflow: str | None, options: dict[str, Any],
             **operands: Any) -> np.ndarray:
    read = _read(options, **operands)
    target = _common(read, to)
    last = _Rounding.of(target, read[0][1].shape, rounding, overflow, **options)
    return from_codes(_operate(name, last, *read), target)


def add(x: Any, y: Any, to: Any = None, rounding: str | None = None, overflow: str | None = None,
        **options: Any) -> np.ndarray:
    """x + y."""
    return _perform("add", to, rounding, overflow, options, x=x, y=y)


def sub(x: Any, y: Any, to: Any = None, rounding: str | None = None, overflow: str | None = None,
        **options: Any) -> np.ndarray:
    """x - y."""
    return _perform("sub", to, rounding, overflow, options, x=x, y=y)


def mul(x: Any, y: Any, to: Any = None, rounding: str | None = None, overflow: str | None = None,
        **options: Any) -> np.ndarray:
    """x * y."""
    return _perform("mul", to, rounding, overflow, options, x=x, y=y)


def div(x: Any, y: Any, to: Any = None, rounding: str | None = None, overflow: str | None = None,
        **options: Any) -> np.ndarray:
    """x / y. A number divided by zero is infinite; where the format has no infinity, overflow= says what that is."""
    return _perform("div", to, rounding, overflow, options, x=x, y=y)


def fma(x: Any, y: Any, z: Any, to: Any = None, rounding: str | None = None, overflow: str | None = None,
        **options: Any) -> np.ndarray:
    """x * y + z, rounded once."""
    return _perform("fma", to, rounding, overflow, options, x=x, y=y, z=z)


def sqrt(x: Any, to: Any = None, rounding: str | None = None, overflow: str | None = None,
         **options: Any) -> np.ndarray:
    """The square root of x; of -0 it is -0."""
    return _perform("sqrt", to, rounding, overflow, options, x=x)


# --- order ------------------------------------------------------------------------------------------------------------

# Magnitudes of a format are ordered as their codes are, so the order of numbers is that of ranks, without decoding.

def _pair(x: Any, y: Any, source: Any) -> tuple[Float, np.ndarray, np.ndarray]:
    read = _read({"source": source}, x=x, y=y)
    return _common(read), read[0][1], read[1][1]


def _rank(fmt: Float, codes: np.ndarray) -> np.ndarray:
    """0 for zero, n for the n-th magnitude code, -n below zero."""
    magnitude = ((codes & fmt.magnitude) >> fmt.low_pad).astype(np.int64)
    return np.where(codes & fmt.sign, -magnitude, magnitude)


def unordered(x: Any, y: Any, source: Any = None) -> np.ndarray:
    """Is one of them NaN? Both are of one format, as in all comparisons."""
    fmt, x, y = _pair(x, y, source)
    return is_nan(fmt, x) | is_nan(fmt, y)


def equal(x: Any, y: Any, source: Any = None) -> np.ndarray:
    """x == y: zeros of both signs are equal, NaN equals nothing."""
    fmt, x, y = _pair(x, y, source)
    return (_rank(fmt, x) == _rank(fmt, y)) & ~is_nan(fmt, x) & ~is_nan(fmt, y)


def less(x: Any, y: Any, source: Any = None) -> np.ndarray:
    """x < y; false for NaN."""
    fmt, x, y = _pair(x, y, source)
    return (_rank(fmt, x) < _rank(fmt, y)) & ~is_nan(fmt, x) & ~is_nan(fmt, y)


def less_equal(x: Any, y: Any, source: Any = None) -> np.ndarray:
    """x <= y; false for NaN."""
    fmt, x, y = _pair(x, y, source)
    return (_rank(fmt, x) <= _rank(fmt, y)) & ~is_nan(fmt, x) & ~is_nan(fmt, y)


def total_order(x: Any, y: Any, source: Any = None) -> np.ndarray:
    """totalOrder(x, y) of section 5.10: as x <= y, with -0 below +0 and each NaN beyond the infinity of its sign."""
    fmt, x, y = _pair(x, y, source)
    return _total_rank(fmt, x) <= _total_rank(fmt, y)


def _total_rank(fmt: Float, codes: np.ndarray) -> np.ndarray:
    rank = _rank(fmt, codes) - (codes & fmt.sign > 0)
    return np.where(is_nan(fmt, codes), np.iinfo(np.int64).max, rank) if fmt.specials == "fnuz" else rank


def minimum(x: Any, y: Any, source: Any = None) -> np.ndarray:
    """The smaller, -0 below +0; NaN if one is NaN (section 9.6)."""
    return _choose(x, y, source, smaller=True, number=False)


def maximum(x: Any, y: Any, source: Any = None) -> np.ndarray:
    """The larger, +0 above -0; NaN if one is NaN (section 9.6)."""
    return _choose(x, y, source, smaller=False, number=False)


def minimum_number(x: Any, y: Any, source: Any = None) -> np.ndarray:
    """The smaller, -0 below +0; if one is NaN the other (section 9.6)."""
    return _choose(x, y, source, smaller=True, number=True)


def maximum_number(x: Any, y: Any, source: Any = None) -> np.ndarray:
    """The larger, +0 above -0; if one is NaN the other (section 9.6)."""
    return _choose(x, y, source, smaller=False, number=True)


def _choose(x: Any, y: Any, source: Any, smaller: bool, number: bool) -> np.ndarray:
    fmt, x, y = _pair(x, y, source)
    nan_x, nan_y = is_nan(fmt, x), is_nan(fmt, y)
    first = (_total_rank(fmt, x) <= _total_rank(fmt, y)) == smaller
    found = np.where(np.where(nan_x | nan_y, nan_y, first), x, y)
    nan = nan_x & nan_y if number else nan_x | nan_y
    return from_codes(np.where(nan, fmt.nan_code or 0, found).astype(fmt.code_dtype), fmt)


def next_up(x: Any, source: Any = None) -> np.ndarray:
    """The least number above x (section 5.3.1): infinity above the largest, -0 below the smallest. Where there is none
    the result is NaN, in a format without NaN x itself; above infinity there is infinity."""
    return _step(x, source, 1)


def next_down(x: Any, source: Any = None) -> np.ndarray:
    """The largest number below x, as next_up."""
    return _step(x, source, -1)


def _step(x: Any, source: Any, step: int) -> np.ndarray:
    [(fmt, codes)] = _read({"source": source}, x=x)
    infinity = -1 if fmt.inf_code is None else fmt.inf_code
    rank = _rank(fmt, codes)
    stays = np.abs(rank) << fmt.low_pad == infinity         # and stepping outward
    stays &= (rank > 0) == (step > 0)
    rank += step
    magnitude = np.abs(rank) << fmt.low_pad
    negative = (rank < 0) | ((rank == 0) & (step > 0) & fmt.has_negative_zero)
    none = ((magnitude > fmt.max_code) & (magnitude != infinity)) | ((rank < 0) & (not fmt.signed))
    found = magnitude.astype(fmt.code_dtype) | np.where(negative, fmt.sign, 0).astype(fmt.code_dtype)
    found = np.where(none | is_nan(fmt, codes), codes if fmt.nan_code is None else fmt.nan_code, found)
    return from_codes(np.where(stays, codes, found).astype(fmt.code_dtype), fmt)


# --- sums -------------------------------------------------------------------------------------------------------------

# An order of adding codes (n, ...) of one format up, n > 0: op(name, *codes) is an operation in that format.
_Op = Callable[..., np.ndarray]


def _sequential(op: _Op, terms: np.ndarray) -> np.ndarray:
    total = terms[0]
    for term in terms[1:]:
        total = op("add", total, term)
    return total


def _pairwise(op: _Op, terms: np.ndarray) -> np.ndarray:
    while len(terms) > 1:
        pairs = op("add", terms[0:-1:2], terms[1::2])
        terms = np.concatenate([pairs, terms[len(pairs) * 2:]])
    return terms[0]


def _kahan(op: _Op, terms: np.ndarray) -> np.ndarray:
    """Kahan 1965, doi 10.1145/363707.363723: what an addition lost is taken from the next term."""
    total, lost = terms[0], np.zeros_like(terms[0])
    for term in terms[1:]:
        term = op("sub", term, lost)
        above = op("add", total, term)
        lost = op("sub", op("sub", above, total), term)
        total = above
    return total


ORDERS: dict[str, Callable[[_Op, np.ndarray], np.ndarray]] = {
    "sequential": _sequential,      # ((t0 + t1) + t2) + ...
    "pairwise": _pairwise,          # neighbours, (t0 + t1) + (t2 + t3), and so on; an odd last one waits
    "kahan": _kahan,                # sequential, with Kahan's correction
}


def sum(x: Any, to: Any = None, order: str = "sequential", axis: int = -1, rounding: str | None = None,
        overflow: str | None = None, **options: Any) -> np.ndarray:
    """The sum of x along an axis, accumulated in format `to` (default: that of x).

    order: a key of ORDERS, the terms converted to `to` first and every addition rounded there; or "exact": the exact
    sum, rounded once (Kulisch's long accumulator). In BF16 4096 ones make 256 sequentially, 4096 pairwise. With a
    stochastic rounding every addition draws bits of its own from seed. The sum of nothing is +0.
    """
    read = _read(options, x=x)
    return _accumulate(read, _common(read, to), order, axis, rounding, overflow, **options)


def dot(x: Any, y: Any, to: Any = None, order: str = "sequential", axis: int = -1, rounding: str | None = None,
        overflow: str | None = None, **options: Any) -> np.ndarray:
    """The sum of x * y along an axis, as `sum`: each product is rounded to `to` first, but not in order "exact", nor in
    order "fma", where sequential fused multiply-adds follow the first product."""
    read = _read(options, x=x, y=y)
    return _accumulate(read, _common(read, to), order, axis, rounding, overflow, **options)


def _accumulate(read: list[_Codes], target: Float, order: str, axis: int, rounding: str | None, overflow: str | None,
                random: Any = None, **options: Any) -> np.ndarray:
    orders = [*ORDERS, *["fma"] * (len(read) > 1), "exact"]
    if order not in orders:
        raise BadOperand(f"order {order!r} is not known; the orders are {' '.join(orders)}")
    if order == "kahan" and not target.signed:
        raise BadOperand(f"order kahan needs differences of both signs; {target} is unsigned")
    if random is not None:
        raise BadOperand("random= holds the bits of one operation; a sum takes seed=")
    shape = read[0][1].shape
    if not -len(shape) <= axis < len(shape):
        raise BadOperand(f"axis is {axis}; x has shape {shape}")
    terms = [(fmt, np.moveaxis(codes, axis, 0)) for fmt, codes in read]
    length, *places = terms[0][1].shape
    last = _Rounding.of(target, tuple(places), rounding, overflow, **options)
    seed, drawn = options.get("seed"), 0

    def op(name: str, *operands: _Codes) -> np.ndarray:
        """An operation in `target`, with words of the seed's stream that no other one reads."""
        nonlocal drawn
        step, (fmt, codes) = last, operands[0]
        if seed is not None:
            words = noise.words(seed, drawn, codes.size) >> np.uint32(32 - last.policy.random_bits)
            drawn, step = drawn + codes.size, last._replace(draw=lambda start, stop: words[start:stop])
        return step(fmt, codes) if name == "convert" else _operate(name, step, *operands)

    def add_up(start: np.ndarray, terms: Callable[[slice], np.ndarray], kahan: bool) -> np.ndarray | None:
        """C's sum of codes `start` and the terms, doubles (steps, places) each; None where it would refuse a number."""
        total = np.ascontiguousarray(_double(target, start)).reshape(-1)
        lost, codes = np.zeros(total.size) if kahan else None, np.ascontiguousarray(start).reshape(-1).copy()
        each, counts = max(1, CHUNK // 8 // max(1, total.size)), np.zeros(len(COUNTS), np.int64)
        drawing, unread = 4 if kahan else 1, np.uint32(32 - last.policy.random_bits & 31)
        for i in range(1, length, each):
            part = np.ascontiguousarray(terms(slice(i, min(i + each, length)))).reshape(-1, total.size)
            words, at = None, drawn + (i - 1) * total.size * drawing
            if seed is not None:
                words = noise.words(seed, at, part.size * drawing) >> unread
            engine_c.accumulate(to_target, _to_double(target), part, words, total, lost, codes, counts)
        refused = [code is None for code in (*to_target.over, *to_target.infinity, to_target.nan[0])]
        return None if counts[:5][refused].any() else codes.reshape(start.shape)

    to_target = conversion(FLOAT64, target, last.policy)
    in_c = ((last.engine or engines.default()) == "c" and last.bits <= 53 and length > 1
            and all(map(_narrow, [target, *(fmt for fmt, _ in terms)])))
    if order == "exact" or not length:
        result = last.settle(_exact_sums(terms, last.policy.rounding), tuple(places))
    elif order == "fma":
        (x_format, x), (y_format, y) = terms
        first = op("mul", (x_format, x[0]), (y_format, y[0]))
        found = add_up(first, lambda i: _double(x_format, x[i]) * _double(y_format, y[i]), False) if in_c else None
        result = first if found is None else found
        for i in range(1, length) if found is None else ():
            result = op("fma", (x_format, x[i]), (y_format, y[i]), (target, result))
    else:
        start = op("mul", *terms) if len(terms) > 1 else terms[0][1]
        if len(terms) == 1 and terms[0][0] != target:
            start = op("convert", *terms)
        found = None
        if in_c and order != "pairwise":
            found = add_up(start[0], lambda i: _double(target, start[i]), order == "kahan")
        result = found if found is not None else ORDERS[order](
            lambda name, *codes: op(name, *((target, code) for code in codes)), start)
    return from_codes(result, target)


def _exact_sums(terms: list[_Codes], rounding: str) -> list[Number]:
    """The exact sum over the first axis, of terms or of products of terms, for each place of the other axes.

    An integer per place counts multiples of the smallest unit that there can be (Kulisch's accumulator).
    """
    flat = [(fmt, codes.reshape(len(codes), int(np.prod(codes.shape[1:])))) for fmt, codes in terms]
    unit = builtins.sum(fmt.emin - fmt.frac_bits for fmt, _ in flat)
    length, places = flat[0][1].shape
    total, ordinary = np.zeros(places, object), np.ones(places, bool)
    for start in range(0, length, 4096):
        sig: Any = 1
        shift: Any = -unit
        for fmt, codes in flat:
            signed, exp, finite = _integers(fmt, codes[start:start + 4096])
            sig, shift = sig * signed, shift + exp
            ordinary &= finite.all(axis=0)
        total += (sig << shift.astype(object)).sum(axis=0)
    return [Number(found < 0, abs(found), unit) if fine and found else _sum_one_by_one(flat, place, rounding)
            for place, (found, fine) in enumerate(zip(total, ordinary))]


def _integers(fmt: Float, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finite numbers as Python integers times 2**exponent; and which are finite."""
    rank = _rank(fmt, codes)
    field, frac = np.abs(rank) >> fmt.frac_bits, np.abs(rank) & ((1 << fmt.frac_bits) - 1)
    normal = (field > 0) | (fmt.specials == "exponent")
    sig = np.where(rank < 0, -1, 1) * (frac | (normal.astype(np.int64) << fmt.frac_bits))
    exp = fmt.emin - fmt.frac_bits + field - (normal & (fmt.specials != "exponent"))
    finite = (codes & fmt.magnitude <= fmt.max_code) & ~is_nan(fmt, codes)
    return np.where(finite, sig, 0).astype(object), np.where(finite, exp, fmt.emin - fmt.frac_bits), finite


def _sum_one_by_one(flat: list[_Codes], place: int, rounding: str) -> Number:
    """The sum where it has infinities or NaN, or is zero and its sign depends on the terms'."""
    rows = zip(*([decode(fmt, code) for code in codes[:, place].tolist()] for fmt, codes in flat))
    found = [functools.reduce(exact.multiply, row) for row in rows]
    return exact.add(*found, rounding=rounding) if found else exact.ZERO
