"""Convert arrays from any format to any format, from the source's own bits, every choice in the open.

A conversion is decode, one rounding, encode (`exact.convert`). What the number does not decide, a `Policy` does; what
others chose is a row of PROFILES. Sources of the rows: OCP 8-bit Floating Point Specification 1.0 and Microscaling
Formats 1.0, section 6.3 (ocp); ml_dtypes 0.6 and PyTorch 2.13 on CPU, both as observed (ml_dtypes, torch); ONNX notes
"Float stored in 8 bits", "... in 4 bits" and operator Cast-25 (onnx); PTX ISA, instruction cvt, and the host code in
NVIDIA's cuda_fp8.hpp, cuda_fp6.hpp, cuda_fp4.hpp, cuda_fp16.hpp and cuda_bf16.hpp (cuda).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from . import engine_c, engines, exact, noise
from .arrays import any_codes, from_codes
from .errors import BadOperand, EngineUnavailable, UnknownFormat
from .exact import Number, decode, encode
from .formats import Float, Format, Integer, Table, number_format
from .record import COUNTS, Conversion, conversion
from .rounding import STOCHASTIC, Policy
from .show import describe
from .threads import spread

__all__ = ["PROFILES", "Differences", "Draw", "Report", "above", "boundaries", "convert", "convert_codes",
           "differences", "is_nan", "nearest", "policy_for", "random_words", "signed", "source_format", "target_format"]

FLOAT32, FLOAT64 = Float("float32", 8, 23), Float("float64", 11, 52)
CHUNK = 1 << 20                 # elements that one thread converts at a time
SEED_BITS = 24                  # random bits per element drawn from a seed: as many as float32 ever cuts from a normal

# --- policies ---------------------------------------------------------------------------------------------------------

# A profile's choices where they are not those of Policy: row "*" for every target without a row of its own; "float64 to
# int8" where the source matters.
_FP8, _FNUZ = ("float8_e4m3fn", "float8_e5m2"), ("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3b11fnuz")
_NARROW = (*_FP8, "float6_e3m2fn", "float6_e2m3fn", "float4_e2m1fn")
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32)]
_LONG = ("int64", "uint64")
_Rows = dict[str, dict[str, str]]


def _rows(names: Iterable[str], **choices: str) -> _Rows:
    return dict.fromkeys(names, choices)


PROFILES: dict[str, _Rows] = {
    "ocp": {                    # OFP8 leaves saturation to the caller: its saturating mode; MX scales are rounded down
        **_rows(_NARROW, overflow="saturate"),
        "float8_e8m0fnu": {"rounding": "rz", "overflow": "saturate"},
    },
    "ml_dtypes": {              # its double roundings are not repeated here, nor numpy's NaN payloads in float16
        "*": {"overflow": "infinity", "nan": "flipped_zero", "nan_sign": "keep"},
        "float8_e8m0fnu": {"rounding": "rna", "overflow": "infinity", "zero": "nan"},
    },
    "torch": {                  # 2.12 and later; before, float8_e4m3fn overflowed to NaN
        "*": {"overflow": "infinity", "nan_sign": "keep"},
        "bfloat16": {"overflow": "infinity", "nan_sign": "drop"},
        "float8_e4m3fn": {"overflow": "saturate", "nan_sign": "keep"},
        "float8_e5m2": {"overflow": "infinity", "nan_sign": "keep", "nan_code": "ones"},
        "float8_e8m0fnu": {"rounding": "rna", "overflow": "infinity", "negative": "abs"},
    },
    "onnx": {                   # Cast with its defaults: saturate=1, round_mode="up" (that is for E8M0 alone)
        "*": {"overflow": "infinity", "nan_sign": "keep"},
        **_rows(_FNUZ, overflow="propagate"),
        **_rows(_NARROW, overflow="saturate", nan="max", nan_sign="keep"),
        "float8_e8m0fnu": {"rounding": "ru", "overflow": "saturate"},
    },
    "cuda": {                   # .satfinite, which PTX demands for the narrow formats; the sign of a NaN is dropped
        **_rows(_INTEGERS, overflow="saturate", nan="zero"),
        **_rows([*_LONG, *(f"float64 to {name}" for name in _INTEGERS)], overflow="saturate", nan="high_bit"),
        "*": {"nan_code": "ones"},
        "tfloat32": {"rounding": "rna", "nan_code": "ones"},
        **_rows(_NARROW, overflow="saturate", nan="max", nan_code="ones"),
        "float8_e8m0fnu": {"rounding": "ru", "overflow": "saturate", "negative": "abs"},
    },
}


@lru_cache(1024)
def policy_for(to: Any, profile: str | None = None, source: Any = None, **choices: Any) -> Policy:
    """The Policy of a conversion to format `to`: the choices given, over the profile's, over the format's defaults.
    source: the format that it is from, which matters to profile cuda and integers.

    The default is IEEE 754's: rne, and overflow "ieee", infinity or else the format's NaN; a format with neither (E2M1,
    E3M2, E2M3, integers, tables) saturates, and refuses NaN. Choices that are None count as not given. Raises
    BadOperand for a profile or choice that is not known.
    """
    target = number_format(to)
    if profile is not None and profile not in PROFILES:
        raise BadOperand(f"profile {profile!r} is not known; the profiles are {', '.join(PROFILES)}")
    rows = PROFILES[profile] if profile else {}
    floating = isinstance(target, Float)
    if profile and not floating and target.name not in rows:
        raise BadOperand(f"profile {profile} says nothing of {target}; give the choices one by one")
    row: dict[str, Any] = {"overflow": "saturate"} if not floating or target.specials == "finite" else {}
    own = rows.get(target.name, rows.get("*", {}))
    row |= own if source is None else rows.get(f"{number_format(source)} to {target}", own)
    policy = Policy(**row | {name: choice for name, choice in choices.items() if choice is not None})
    if policy.nan == "high_bit" and not isinstance(target, Integer):
        raise BadOperand(f"nan is 'high_bit', which is for integers; {target} is none. Choose nan='zero' or nan='max'")
    return policy


def target_format(to: Any) -> Float:
    """`to` as a floating-point format that a result can have. Raises UnknownFormat, BadOperand."""
    target = number_format(to)
    if not isinstance(target, Float):
        raise BadOperand(f"to is {target}, which is no floating-point format")
    if target.exp_bits > 15 or target.frac_bits > 62 or abs(target.bias or 0) > 1 << 16:
        raise UnknownFormat(f"{target}: convert takes at most 15 exponent bits, 62 fraction bits and a bias of 65536")
    return target


# --- the conversion ---------------------------------------------------------------------------------------------------

Draw = Callable[[int, int], "np.ndarray | None"]            # (start, stop) -> uint32 words of those elements

@dataclass(frozen=True)
class Report:
    """What a conversion did to numbers that the target cannot hold, as counts of elements.

    elements: all of them. saturated: beyond the range, or infinite, and now the largest number. overflowed: beyond the
    range (in an unsigned format: below zero), or infinite, and now an infinity or NaN; not infinities that stayed such.
    flushed: another number than zero, and now zero. nan: NaNs that came, whatever they became.
    """

    elements: int
    saturated: int
    overflowed: int
    flushed: int
    nan: int


def convert(x: Any, to: Any, rounding: str | None = None, overflow: str | None = None, nan: str | None = None, *,
            source: Any = None, seed: int | None = None, random: Any = None, random_bits: int | None = None,
            nan_code: str | None = None, nan_sign: str | None = None, negative: str | None = None,
            zero: str | None = None, ftz: bool = False, daz: bool = False, profile: str | None = None,
            engine: str | None = None, return_report: bool = False) -> Any:
    """`x` in format `to`, rounded once: an array of x's shape and of the target's numpy or ml_dtypes type.

    x: a numpy or ml_dtypes array of a floating or integer type, any layout and byte order; Python numbers are float64
    or int64. Where the target has no numpy type the result holds its codes, unsigned; TF32 travels in float32, UE4M3 in
    float8_e4m3fn. source: the format of x where its type does not say it: x then holds codes (or its carrier type).
    to: a format's name, alias or dtype, or a Float of one's own, with at most 64 bits; an integer, or a
    Table, which takes the nearest of its numbers. Both saturate, below zero too, unless overflow is "error".

    rounding: rne (default) rna rz rd ru ro, or the stochastic sr srb src (rounding.MODES). overflow: infinity saturate
    propagate ieee error (rounding.OVERFLOWS). nan, nan_code, nan_sign, negative, zero: rounding.POLICIES. ftz, daz:
    subnormal results, subnormal inputs become zeros of their sign. profile: ocp, ml_dtypes, torch, onnx or cuda instead
    of the defaults (`policy_for`), under the choices given here.

    Stochastic modes take their bits from `random`, integers that broadcast to x's shape, of `random_bits` bits
    each (1..32; default: all its type has, at most 32), or from `seed` (0..2**64 - 1): the element at flat index i uses
    the upper random_bits (default 24) bits of word i of noise.words. engine: exact, numba or c; all give the same bits.

    return_report: return (array, Report). Raises BadOperand for an input that is not as described or that the policy
    refuses, naming it, before anything is returned; UnknownFormat; EngineUnavailable.
    """
    target, found, fmt = number_format(to), np.asarray(x), source_format(x, source)
    target = target_format(target) if isinstance(target, Float) else target
    policy = policy_for(target, profile, fmt, rounding=rounding, overflow=overflow, nan=nan, nan_code=nan_code,
                        nan_sign=nan_sign, negative=negative, zero=zero, ftz=ftz, daz=daz)
    draw, drawn_bits = random_words(policy.rounding, seed, random, random_bits, found)
    policy = replace(policy, random_bits=drawn_bits) if drawn_bits else policy
    code = any_codes(found, fmt, "x")
    if isinstance(fmt, Table):
        if code.size and int(code.max()) >= len(fmt.values):
            raise BadOperand(f"x holds {int(code.max()):#x}; codes of {fmt} lie in 0..{len(fmt.values) - 1:#x}")
        values = np.array(fmt.values, np.float32)
        fmt, code = FLOAT32, values.view(np.uint32)[code]
    if isinstance(target, Float):
        how = conversion(fmt, target, policy)
        y, counts = convert_codes(how, code, draw, engine, return_report)
        report = _report(how, found.size, counts) if return_report else None
    else:
        y, report = _to_others(fmt, target, policy, code, draw, engine, return_report)
    result = from_codes(y, target)
    return (result, report) if return_report else result


def convert_codes(how: Conversion, codes: np.ndarray, draw: Draw, engine: str | None = None,
                  counted: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The target's codes of the source's codes, and how many of them each of COUNTS counts, if that is asked for.

    draw: random words by position. Raises BadOperand for the first element that the policy refuses.
    """
    flat = np.ascontiguousarray(codes).reshape(-1)
    refuses = None in (*how.over, *how.infinity, how.nan[0])
    y, counts = run(how, flat, draw, engine, counted or refuses, counted)
    if refuses:
        _refuse(how, counts, flat, codes.shape, draw, engine)
    return y.reshape(codes.shape), counts


def source_format(x: Any, source: Any) -> Format:
    """The format of x: `source`, or that of x's type."""
    dtype = np.asarray(x).dtype
    if source is not None:
        return number_format(source)
    try:
        return number_format(dtype)
    except UnknownFormat:
        raise BadOperand(f"x is {dtype.name}; convert takes the floating-point and integer types of numpy and "
                         "ml_dtypes, or codes with source=") from None


def random_words(rounding: str, seed: int | None, random: Any, random_bits: int | None,
                 x: np.ndarray) -> tuple[Draw, int]:
    """Where an element's random bits come from, and how many they are; 0 in a mode that reads none."""
    if rounding not in STOCHASTIC:
        if not seed is random is random_bits is None:
            raise BadOperand(f"rounding {rounding} reads no random bits; those that do are {' '.join(STOCHASTIC)}")
        return lambda start, stop: None, 0
    if (seed is None) == (random is None):
        raise BadOperand(f"rounding {rounding} takes its random bits from seed= or from random=, one of them")
    if random_bits is not None and not 1 <= random_bits <= 32:
        raise BadOperand(f"random_bits is {random_bits}; it takes 1..32")
    if seed is not None:
        bits = random_bits or SEED_BITS
        noise.words(seed, 0, 0)                             # refuses a bad seed
        return lambda start, stop: noise.words(seed, start, stop - start) >> np.uint32(32 - bits), bits
    given = np.asarray(random)
    if given.dtype.kind not in "ui":
        raise BadOperand(f"random is {given.dtype.name}; it takes integers of random_bits bits")
    bits = random_bits or min(32, 8 * given.dtype.itemsize)
    if given.size and (int(given.min()) < 0 or int(given.max()) >> bits):
        raise BadOperand(f"random holds {int(given.min())}..{int(given.max())}; with random_bits={bits} it takes "
                         f"0..{(1 << bits) - 1}")
    try:
        words = np.ascontiguousarray(np.broadcast_to(given, x.shape), np.uint32).reshape(-1)
    except ValueError:
        raise BadOperand(f"random has shape {given.shape}; it must broadcast to {x.shape}, the shape of x") from None
    return lambda start, stop: words[start:stop], bits


# --- integers and tables ----------------------------------------------------------------------------------------------

def _to_others(fmt: Float | Integer, target: Integer | Table, policy: Policy, code: np.ndarray, draw: Draw,
               engine: str | None, counted: bool) -> tuple[np.ndarray, Report]:
    """Raises BadOperand for the first element beyond the range, or NaN, that the policy refuses."""
    make = _nearest if isinstance(target, Table) else _whole if isinstance(fmt, Integer) else _rounded
    flat = np.ascontiguousarray(code).reshape(-1)
    found = np.empty(flat.shape, target.code_dtype)
    refused = np.array([policy.overflow == "error", False, policy.nan == "error"])

    def work(chunk: slice) -> list[int]:
        words = draw(chunk.start, chunk.stop)
        found[chunk], *counts = make(fmt, target, policy, flat[chunk], words, engine, counted or bool(refused[0]))
        return counts

    counts = np.array(spread(work, _chunks(flat.size, CHUNK // 8)), np.int64).reshape(-1, 3).sum(axis=0)
    if (counts > 0)[refused].any():
        for chunk in _chunks(flat.size, 4096):
            if not (np.array(work(chunk)) > 0)[refused].any():
                continue
            for i in range(chunk.start, chunk.stop):
                words, bits = draw(i, i + 1), int(flat[i])
                try:
                    exact.convert(fmt, target, bits, policy, 0 if words is None else int(words[0]))
                except BadOperand as error:
                    raise BadOperand(f"x{_index(i, code.shape)} is {describe(fmt, bits)}: {error}") from None
    saturated, flushed, nan = map(int, counts)
    return found.reshape(code.shape), Report(code.size, saturated, 0, flushed, nan)


# Codes of an array's chunk in an integer or table, and how many saturated, if that is counted; were flushed; were NaN.
_Made = tuple[np.ndarray, int, int, int]


def _whole(fmt: Any, target: Any, policy: Policy, code: np.ndarray, words: Any, engine: str | None,
           counted: bool) -> _Made:
    """Integers of integers."""
    _known(engine)
    room = 8 * code.itemsize - fmt.bits
    found = (code << code.dtype.type(room)).view(f"{'i' if fmt.signed else 'u'}{code.itemsize}") >> room
    ends = np.iinfo(found.dtype)
    low, high = max(target.min, int(ends.min)), min(target.max, int(ends.max))
    beyond = int(np.count_nonzero((found < low) | (found > high))) if counted else 0
    return _masked(np.clip(found, low, high), target), beyond, 0, 0


def _rounded(fmt: Any, target: Any, policy: Policy, code: np.ndarray, words: Any, engine: str | None,
             counted: bool) -> _Made:
    """By way of a floating-point format whose magnitude codes are the whole numbers below 2**(bits + 1): with one
    exponent bit all of them have one unit, which the bias makes 1. Long integers take those of 50 bits, for speed, and
    what saturates there once more."""
    bits = min(target.bits, 50)
    wide = replace(policy, overflow="saturate", nan="zero", ftz=False)
    y, events = _on_grid(fmt, bits, 0, wide, code, words, engine)
    count = dict(zip(COUNTS, map(int, events)))
    top = y.dtype.type((2 << bits) - 1)
    big = np.flatnonzero((y & top) == top) if target.bits > bits else np.empty(0, int)
    y[big] = 0
    found = signed(y, bits + 1)
    low, high = target.min, min(target.max, np.iinfo(found.dtype).max)
    beyond = int(np.count_nonzero((found < low) | (found > high))) if counted else 0
    found = _masked(np.clip(found, low, high, out=found), target)
    if big.size:
        found[big], more = _long(fmt, target, wide, code[big], None if words is None else words[big], engine)
        beyond += more
    if count["nan"] and policy.nan in ("max", "high_bit"):
        found[is_nan(fmt, code)] = target.max if policy.nan == "max" else 1 << target.bits - 1
    return found, beyond, count["flushed"], count["nan"]


def signed(y: np.ndarray, bits: int) -> np.ndarray:
    """The integers that codes in sign and magnitude, of 1 + `bits` bits, are, in place."""
    found = y.view(f"i{y.itemsize}")
    negative = found >> bits & 1
    found &= (1 << bits) - 1
    found ^= -negative
    found += negative
    return found


def _on_grid(fmt: Float, bits: int, shift: int, policy: Policy, code: np.ndarray, words: Any,
             engine: str | None) -> tuple[np.ndarray, np.ndarray]:
    grid = Float(f"multiples of 2**{shift}", 1, bits, 1 - bits - shift, "finite")
    return run(conversion(fmt, grid, policy), code, lambda *_: words, engine, True)


def _long(fmt: Float, target: Integer, policy: Policy, code: np.ndarray, words: Any,
          engine: str | None) -> tuple[np.ndarray, int]:
    """Up to 2**63 in the same way. What is beyond has a unit of 2 or more: half of it is such a code again."""
    top, cut = np.uint64(1 << 63), replace(policy, rounding="rz")
    y = _on_grid(fmt, 62, 0, policy, code, words, engine)[0]
    size = np.abs(run(conversion(fmt, FLOAT64, cut), code, lambda *_: None, engine, False)[0].view(np.float64))
    halves = _on_grid(fmt, 62, 1, cut, code, None, engine)[0]
    negative, magnitude = y >= top, np.where(size >= 2.0**63, halves << np.uint64(1), y & ~top)
    bound = np.where(negative, np.uint64(-target.min), np.uint64(target.max))
    beyond = (magnitude > bound) | (size >= 2.0**64)
    magnitude = np.where(beyond, bound, magnitude)
    return _masked(np.where(negative, 0 - magnitude, magnitude), target), int(np.count_nonzero(beyond))


def _masked(found: np.ndarray, target: Integer) -> np.ndarray:
    found = found.astype(target.code_dtype, copy=False)
    return found if target.bits in (8, 16, 32, 64) else found & target.code_dtype.type((1 << target.bits) - 1)


def _nearest(fmt: Any, target: Any, policy: Policy, code: np.ndarray, words: Any, engine: str | None,
             counted: bool) -> _Made:
    """In float64, rounded to odd: so numbers stay on their side of the middles, which are even."""
    if policy.rounding != "rne":
        raise BadOperand(f"rounding is {policy.rounding}; a table takes the nearest of its numbers, rne")
    y, counts = run(conversion(fmt, FLOAT64, Policy("ro", daz=policy.daz)), code, lambda *_: None, engine, True)
    x, values = y.view(np.float64), np.array(target.values)
    found = nearest(values, x, engine).astype(target.code_dtype, copy=False)
    nan = int(counts[COUNTS.index("nan")])
    if nan:
        found[np.isnan(x)] = nearest(values, np.zeros(1), engine)[0] if "zero" in policy.nan else len(values) - 1
    if not counted:
        return found, 0, 0, nan
    flushed, beyond = (values[found] == 0) & (x != 0) & (x == x), (x < values[0]) | (x > values[-1])
    return found, int(np.count_nonzero(beyond)), int(np.count_nonzero(flushed)), nan


def nearest(values: np.ndarray, x: np.ndarray, engine: str | None) -> np.ndarray:
    """The places of those of `values`, which ascend, that are nearest to float64 x, the smaller of two as near."""
    middles = (values[:-1] + values[1:]) / 2
    if len(middles) > 255:
        return np.searchsorted(middles, x)
    return above(np.ascontiguousarray(x).reshape(1, -1), middles[None], engine).reshape(x.shape)


def above(x: np.ndarray, bounds: np.ndarray, engine: str | None) -> np.ndarray:
    """How many of its row's at most 255 bounds (rows, count), which ascend, each number of x (rows, size) is above."""
    found = np.zeros(x.shape, np.uint8)
    if (engine or engines.default()) == "c":
        engine_c.above(x, bounds, found)
    elif len(x) == 1:
        found[:] = np.searchsorted(bounds[0], x)
    else:
        for bound in bounds.T:
            found += x > bound[:, None]
    return found


def is_nan(fmt: Float, codes: np.ndarray) -> np.ndarray:
    """Which codes of a floating-point format are NaN."""
    magnitude = codes & fmt.magnitude
    if fmt.specials == "fnuz":
        return (magnitude == 0) & (codes & fmt.sign > 0)
    return magnitude > (fmt.max_code if fmt.inf_code is None else fmt.inf_code)


def _index(i: int, shape: tuple[int, ...]) -> str:
    return str([int(j) for j in np.unravel_index(i, shape)] or "")


# --- engines ----------------------------------------------------------------------------------------------------------

# An engine is a function engine_c.converts(how, x, random, y, counts, every) on contiguous codes. An element that
# the policy refuses becomes code 0 and is counted: `_refuse` speaks of it.

def _exact(how: Conversion, x: np.ndarray, random: np.ndarray | None, y: np.ndarray, counts: np.ndarray | None,
           every: bool = True) -> None:
    strict = replace(how.policy, overflow="error", nan="error", zero="smallest")
    for i, code in enumerate(x.tolist()):
        word = 0 if random is None else int(random[i])
        try:
            y[i] = exact.convert(how.source, how.target, code, how.policy, word)
        except BadOperand:
            y[i] = 0
        if counts is not None and (event := _event(how, strict, code, word)):
            counts[COUNTS.index(event)] += 1


def _event(how: Conversion, strict: Policy, code: int, word: int) -> str:
    """Which counter an element belongs to, by what a strict policy makes of it; "" for none."""
    number = decode(how.source, code)
    minus = "_negative" if number.negative and (how.target.signed or how.policy.negative == "nan") else ""
    if number.kind != "finite":
        return "nan" if number.kind == "nan" else "infinite" + minus
    try:
        found = decode(how.target, exact.convert(how.source, how.target, code, strict, word))
    except BadOperand:
        return "over" + minus
    if found.kind == "nan":                                 # below zero in an unsigned format
        return "over" + minus
    return "flushed" if number.sig and not found.sig else ""


def _numba(*args: Any) -> None:
    # numba takes a third of a second to import: only when it is used
    from .engine_numba import convert as numba_convert

    numba_convert.converts(*args)


_ENGINES: dict[str, Callable[..., None]] = {"exact": _exact, "numba": _numba, "c": engine_c.converts}


def _known(engine: str | None) -> str:
    name = engine or engines.default()
    if name not in _ENGINES:
        raise EngineUnavailable(f"engine {name!r} is not known; the engines are {', '.join(_ENGINES)}")
    return name


def run(how: Conversion, x: np.ndarray, draw: Draw, engine: str | None, counted: bool,
        every: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The codes of the one-dimensional x in the target, and the counts (zeros where they are not asked for)."""
    name = _known(engine)
    y = np.empty(x.shape, how.target.code_dtype)

    def work(chunk: slice) -> np.ndarray:
        counts = np.zeros(len(COUNTS), np.int64)
        _ENGINES[name](how, x[chunk], draw(chunk.start, chunk.stop), y[chunk], counts if counted else None, every)
        return counts

    if x.size <= CHUNK:
        return y, work(slice(0, x.size))
    return y, reduce(np.add, spread(work, _chunks(x.size), 1 if name == "exact" else None))


def _chunks(size: int, each: int = CHUNK) -> list[slice]:
    return [slice(start, min(start + each, size)) for start in range(0, size, each)]


def _outcomes(how: Conversion) -> dict[str, int | None]:
    """By counter, the code of its elements, None if refused; the flushed ones are as they are."""
    return dict(zip(COUNTS, (*how.over, *how.infinity, how.nan[0])))


def _refuse(how: Conversion, counts: np.ndarray, code: np.ndarray, shape: tuple[int, ...], draw: Draw,
            engine: str | None) -> None:
    """Raise BadOperand for the first element that the policy refuses, if there is one."""
    refused = [i for i, outcome in enumerate(_outcomes(how).values()) if outcome is None]
    if not counts[refused].any():
        return
    for start in range(0, code.size, 4096):
        stop = min(start + 4096, code.size)
        words = draw(start, stop)
        found = run(how, code[start:stop], lambda *_, words=words: words, engine, True)[1]
        if not found[refused].any():
            continue
        for i in range(start, stop):
            word = 0 if words is None else int(words[i - start])
            try:
                exact.convert(how.source, how.target, int(code[i]), how.policy, word)
            except BadOperand as error:
                raise BadOperand(f"x{_index(i, shape)} is {describe(how.source, int(code[i]))}: {error}") from None


def _report(how: Conversion, elements: int, counts: np.ndarray) -> Report:
    count = dict(zip(COUNTS, map(int, counts)))
    saturated = overflowed = 0
    for name, code in _outcomes(how).items():
        if name != "nan" and code is not None:
            kind = decode(how.target, code).kind
            saturated += count[name] * (kind == "finite")
            overflowed += count[name] * (kind == "nan" or (kind == "inf" and not name.startswith("infinite")))
    return Report(elements, saturated, overflowed, count["flushed"], count["nan"])


# --- where profiles differ --------------------------------------------------------------------------------------------

def boundaries(source: Any, to: Any) -> np.ndarray:
    """The codes of `source` at which conversions to `to` can differ, ascending: all of them up to 16 bits.

    Wider ones: every number of the target (of targets above 16 bits: the first and last three of each exponent), every
    midpoint between two, the midpoint above the largest, the two neighbours of each on both sides, zeros, the ends of
    the source's range, infinities and NaNs, with both signs.
    """
    fmt, target = number_format(source), target_format(to)
    if fmt.bits <= 16 and not isinstance(fmt, Table):
        return np.arange(1 << fmt.bits, dtype=fmt.code_dtype)
    if not isinstance(fmt, Float):
        raise BadOperand(f"source is {fmt}; boundaries are those of a floating-point format or of at most 16 bits")
    found: set[int] = set()
    for magnitude in _magnitudes(target):
        number = _extended(target, magnitude)
        for point in (number, Number(False, 2 * number.sig + 1, number.exp - 1)):
            code = encode(fmt, point, "rz", "saturate")
            found.update(range(code - 2, code + 3))
    nan, top = fmt.nan_code or 0, fmt.magnitude
    found.update((0, 1, 2, 1 << fmt.frac_bits, fmt.max_code, fmt.max_code + 1, fmt.max_code + 2, nan, nan + 1, top))
    both = {code | sign for code in found if 0 <= code <= top for sign in (0, fmt.sign)}
    return np.array(sorted(both), fmt.code_dtype)


def _magnitudes(target: Float) -> Iterable[int]:
    """Magnitude codes without pads up to one beyond the largest."""
    last = (target.max_code >> target.low_pad) + 1
    if last < 1 << 16:
        return range(last + 1)
    ends = (0, 1, 2, *((1 << target.frac_bits) - i for i in (3, 2, 1)))
    return [code for field in range(0, last, 1 << target.frac_bits) for end in ends if (code := field + end) <= last]


def _extended(target: Float, magnitude: int) -> Number:
    """The number that a magnitude code would be if nothing were an infinity or NaN."""
    field, frac = divmod(magnitude, 1 << target.frac_bits)
    if target.specials == "exponent":
        return Number(False, 1, field + target.emin)
    hidden = (field > 0) << target.frac_bits
    return Number(False, hidden + frac, target.emin + max(field, 1) - 1 - target.frac_bits)


@dataclass(frozen=True)
class Differences:
    """Inputs on which two profiles differ: codes of `source`, and the codes that each makes of them, None: refused."""

    profiles: tuple[str, str]
    source: Format
    target: Float
    tried: int
    rows: list[tuple[int, int | None, int | None]]

    def __len__(self) -> int:
        return len(self.rows)

    def lines(self, limit: int | None = None) -> list[str]:
        """A heading, and a line for each input, at most `limit`."""
        a, b = self.profiles
        lines = [f"{self.source} to {self.target}: {a} and {b} differ on {len(self)} of {self.tried} inputs"]
        for code, *results in self.rows[:limit]:
            made = ["refused" if result is None else describe(self.target, result) for result in results]
            lines.append(f"  {describe(self.source, code):34} {a}: {made[0]:18} {b}: {made[1]}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines(20) + [f"  and {len(self) - 20} more"] * (len(self) > 20))


def differences(profile_a: str, profile_b: str, to: Any, source: Any = "float32") -> Differences:
    """The inputs among `boundaries(source, to)` that two PROFILES convert to different codes. Raises BadOperand."""
    target, fmt, inputs = target_format(to), number_format(source), boundaries(source, to)

    def results(profile: str) -> np.ndarray:
        how = conversion(fmt, target, policy_for(target, profile))
        made = run(how, inputs, lambda *_: None, None, False)[0].astype(object)
        if how.nan[0] is None:
            made[[decode(fmt, code).kind == "nan" for code in inputs.tolist()]] = None
        return made

    a, b = results(profile_a), results(profile_b)
    differ = np.flatnonzero(a != b)
    return Differences((profile_a, profile_b), fmt, target, inputs.size,
                       list(zip(inputs[differ].tolist(), a[differ].tolist(), b[differ].tolist())))
