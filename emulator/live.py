"""This CPU beside the emulator: Intel's instructions executed and emulated on the same operands, bit for bit.

What this CPU has, csrc/silicon.c finds out: AMX tiles, AVX512-BF16, AVX512-VNNI, AVX512-FP16, and F16C's conversions in
their AVX-512 form. The classes of operands look where float32 steps differ: ties, sums around 2**-126 before and after
rounding, overflow, cancellation, NaN of every payload and place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from . import engine_c, x86
from .errors import EngineUnavailable
from .formats import Integer
from .golden import Vectors, command
from .instructions import table
from .threads import spread
from .unit import Unit, instruction

__all__ = ["FAMILIES", "Check", "available", "cases", "check", "classes", "execute", "execute_dots", "lacking", "run"]

Array = np.ndarray

FAMILIES = {
    "AMX-BF16": ("tdpbf16ps",),
    "AMX-INT8": ("tdpbssd", "tdpbsud", "tdpbusd", "tdpbuud"),
    "AVX512-BF16": ("vdpbf16ps", "vcvtneps2bf16", "vcvtne2ps2bf16"),
    "AVX512-VNNI": ("vpdpbusd", "vpdpbusds", "vpdpwssd", "vpdpwssds"),
    "AVX512F": ("vcvtps2ph", "vcvtph2ps"),
    "AVX512-FP16": ("vaddph", "vsubph", "vmulph", "vfmadd132ph", "vfmadd213ph", "vfmadd231ph", "vcvtps2phx",
                    "vcvtph2psx"),
}


# --- execution --------------------------------------------------------------------------------------------------------

def available() -> tuple[str, ...]:
    """The instructions of FAMILIES that this CPU has, and the C library can run."""
    if not engine_c.available():
        return ()
    pointers = itertools.takewhile(lambda name: name != engine_c.ffi.NULL,
                                   map(engine_c.lib.emu_live_name, itertools.count()))
    here = {engine_c.ffi.string(pointer).decode().partition("_")[0] for pointer in pointers}
    return tuple(name for names in FAMILIES.values() for name in names if name in here)


def lacking() -> str:
    """Why nothing can be executed here, as a sentence; empty where something can."""
    if not engine_c.available():
        return f"no instruction of this CPU can be run: the C library is not here: {engine_c.why_not()}"
    if "live" not in engine_c.ffi.string(engine_c.lib.emu_parts()).decode().split():
        return "no instruction of this CPU can be run: it is no x86-64, or the compiler knew no AMX and AVX512-FP16"
    return "" if available() else "this CPU has neither AMX nor AVX-512"


def _run(name: str, mxcsr: int, count: int, shape: tuple[int, int, int], operands: Sequence[Array | None],
         d: Array) -> Array:
    view, null = engine_c.ffi.from_buffer, engine_c.ffi.NULL
    pointers = [null if x is None else view(np.ascontiguousarray(x)) for x in operands]
    status = engine_c.lib.emu_live(name.encode(), mxcsr, count, *shape, *pointers, view(d, require_writable=True))
    if status:
        raise EngineUnavailable(f"{name} cannot be run: {engine_c.ffi.string(engine_c.lib.emu_why(status)).decode()}")
    return d


def _mxcsr(rounding: str = "rne", daz: bool = False, ftz: bool = False) -> int:
    """The register's value with every exception masked."""
    return 0x1F80 | x86.ROUNDINGS.index(rounding) << 13 | daz << 6 | ftz << 15


def execute_dots(ins: Unit, a: Array, b: Array, c: Array, **mxcsr: Any) -> Array:
    """The codes that this CPU answers for a row of the table: tiles a (N, m, k), b (N, k, n), c (N, m, n), of any m, n
    and k that a tile register holds, or the lanes of vectors a, b (N, k), c (N,). Raises EngineUnavailable.
    """
    pieces = 4 * 8 // ins.a.bits                                        # elements to 32 bits
    d = np.empty_like(c)
    if ins.name.startswith("tdp"):
        pairs = b.reshape(len(b), ins.k // pieces, pieces, ins.n).swapaxes(2, 3)
        return _run(ins.name, _mxcsr(**mxcsr), len(a), (ins.m, ins.n, ins.k // pieces), (a, pairs, c), d)
    rest = -len(c) % 16
    a, b, c = (np.concatenate([x, np.zeros((rest, *x.shape[1:]), x.dtype)]) for x in (a, b, c))
    return _run(ins.name, _mxcsr(**mxcsr), len(c) // 16, (0, 0, 0), (a, b, c), np.empty_like(c))[:len(d)]


def execute(name: str, *operands: Array, immediate: int = 4, **mxcsr: Any) -> Array:
    """The codes that this CPU answers for an instruction of x86.INSTRUCTIONS: operands (..., lanes) of whole vectors,
    16 lanes where 32 bits take part, else 32. Raises EngineUnavailable.
    """
    operation = x86.INSTRUCTIONS[name]
    lanes = 32 if operation.operands[0].bits == operation.result.bits else 16
    widest = len(operands) * operands[0].shape[-1] if name == "vcvtne2ps2bf16" else operands[0].shape[-1]
    d = np.empty((*operands[0].shape[:-1], widest), operation.result.code_dtype)
    a, b, c = (*operands, None, None)[:3]
    if len(operands) == 3:
        a, b, c = b, c, a                                               # the first operand is where the result goes
    mnemonic = f"{name}_{immediate}" if name == "vcvtps2ph" else name
    return _run(mnemonic, _mxcsr(**mxcsr), operands[0].size // lanes, (0, 0, 0), (a, b, c), d)


# --- operands ---------------------------------------------------------------------------------------------------------

class _Class(NamedTuple):
    """Exponents that A, B and C draw from; few: fractions of one bit, or all but one; shares of zeros and specials."""

    a: Sequence[int]
    b: Sequence[int]
    c: Sequence[int]
    few: bool = False
    zero: float = 0.0
    special: float = 0.0


_CLASSES = {                    # by products in float32
    "random": _Class((), (), ()),
    "near": _Class(range(-1, 2), range(-1, 2), range(-3, 6)),
    "wide": _Class(range(-20, 21), range(-20, 21), range(-40, 41), zero=0.05),
    "tie": _Class(range(-6, 7), range(-6, 7), range(-24, 25), few=True, zero=0.5),
    "subnormal": _Class(range(-66, -60), range(-66, -60), range(-130, -120), zero=0.1),
    "floor": _Class((-63, -75, -76), (-63, -75, -76), (-127, -126, -126, -125), few=True, zero=0.6),
    "overflow": _Class(range(61, 66), range(61, 66), range(124, 128), zero=0.3),
    "nan": _Class(range(-1, 2), range(-1, 2), range(-3, 6), special=0.03),
    "special": _Class((0,), (0,), (0,), special=0.6),
    "zero-sign": _Class((0, -75), (0, -75), (0, -126), few=True, zero=0.8),
}


def _floats(rng: np.random.Generator, fmt: Any, shape: tuple[int, ...], exponents: Sequence[int], how: _Class) -> Array:
    """Random codes; with no exponents, any code at all."""
    if not exponents:
        return rng.integers(0, 1 << fmt.bits, shape, fmt.code_dtype)

    def pick(codes: Any, count: Any = shape) -> Array:
        pool = np.fromiter(map(int, codes), np.uint64).astype(fmt.code_dtype)
        return pool[rng.integers(0, len(pool), count, np.uint16)]

    ones = (1 << fmt.frac_bits) - 1
    fields = np.clip(np.array(exponents) + fmt.bias, 0, fmt.max_code >> fmt.frac_bits) << fmt.frac_bits
    codes = pick(fields) | pick([0, fmt.sign])
    few = [0, 0, 1, ones, 1 << (fmt.frac_bits - 1), ones - 1]
    codes |= pick(few) if how.few else rng.integers(0, ones + 1, shape, fmt.code_dtype)
    if how.zero:
        codes[rng.random(shape, np.float32) < how.zero] &= fmt.code_dtype.type(fmt.sign)
    if how.special:
        pool = [0, 1, ones, fmt.inf_code, fmt.inf_code, fmt.nan_code, fmt.inf_code + 1, fmt.magnitude]
        pool += [fmt.inf_code + frac for frac in rng.integers(1, ones, 24).tolist()]
        there = rng.random(shape, np.float32) < how.special
        codes[there] = pick([code | sign for code in pool for sign in (0, fmt.sign)], int(there.sum()))
    return codes


def _integers(rng: np.random.Generator, fmt: Integer, shape: tuple[int, ...], name: str) -> Array:
    """Random codes, or only the ends of the range."""
    if name == "random":
        return rng.integers(0, 1 << fmt.bits, shape, fmt.code_dtype)
    ends = np.array([fmt.min, fmt.max, fmt.max, fmt.max - 1, 0]) & ((1 << fmt.bits) - 1)
    return ends.astype(fmt.code_dtype)[rng.integers(0, len(ends), shape, np.uint8)]


def classes(ins: Unit) -> tuple[str, ...]:
    """The classes of operands for a row of the table."""
    return ("random", "ends") if isinstance(ins.a, Integer) else tuple(_CLASSES)


def cases(ins: Unit, shapes: Sequence[tuple[int, ...]], name: str, seed: Sequence[int]) -> tuple[Array, Array, Array]:
    """Codes for a, b and c of these shapes, of the class `name`: the same for the same arguments."""
    rng = np.random.default_rng(seed)
    formats: Any = (ins.a, ins.b, ins.c)
    if isinstance(ins.a, Integer):
        kinds = (name, name, "random" if name == "random" else "ends")
        a, b, c = (_integers(rng, fmt, shape, kind) for fmt, shape, kind in zip(formats, shapes, kinds))
    else:
        how = _CLASSES[name]
        a, b, c = (_floats(rng, fmt, shape, exps, how) for fmt, shape, exps in zip(formats, shapes, how[:3]))
    return a, b, c


# --- the comparison ---------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Check:
    """An instruction run and emulated on `outputs` elements; story: the first that differs, empty where none does."""

    family: str
    name: str
    outputs: int
    mismatches: int
    story: str


_SHAPES = ((16, 16, 16), (16, 16, 1), (16, 16, 2), (7, 13, 5), (1, 16, 16), (16, 1, 8), (3, 3, 11))    # of tiles
_SETTINGS = [{"rounding": mode, "daz": bit, "ftz": bit} for mode in x86.ROUNDINGS for bit in (False, True)]
_Result = tuple[int, int, str]  # outputs, mismatches, story


def check(name: str, outputs: int, seed: int = 0, batch: int = 1 << 17) -> Check:
    """Run and emulate (by the default engine) an instruction on at least so many outputs, each class a batch in turn.

    Raises EngineUnavailable.
    """
    family = next(family for family, names in FAMILIES.items() if name in names)
    one: Callable[[int], _Result]
    if name in table("x86_64"):
        ins = instruction("x86_64", name)
        one = lambda i: _dots(ins, batch, i, (seed, i))  # noqa: E731
    else:
        one = lambda i: _operation(name, batch, i, (seed, i))  # noqa: E731
    results = spread(one, list(range(-(-outputs // batch))))
    return Check(family, name, sum(found[0] for found in results), sum(found[1] for found in results),
                 next((found[2] for found in results if found[1]), ""))


def _dots(ins: Unit, batch: int, i: int, seed: tuple[int, ...]) -> _Result:
    names = classes(ins)
    kind, mxcsr = names[i % len(names)], _SETTINGS[i % len(_SETTINGS)]
    if ins.m == 1:
        a, b, c = cases(ins, ((batch, ins.k), (batch, ins.k), (batch,)), kind, seed)
        want = ins.dot_codes(a, b, c)
    else:
        m, n, k = _SHAPES[i // len(names) % len(_SHAPES)]
        ins = replace(ins, m=m, n=n, k=k * 32 // ins.a.bits)
        count = -(-batch // (m * n))
        a, b, c = cases(ins, ((count, m, ins.k), (count, ins.k, n), (count, m, n)), kind, seed)
        want = ins.codes(a, b, c)
    got = execute_dots(ins, a, b, c, **mxcsr)
    differ = np.flatnonzero(got != want)
    if not differ.size:
        return want.size, 0, ""
    x = Vectors(a, b, c, want)
    return want.size, differ.size, (f"class {kind!r}: executed {got.flat[differ[0]]:#010x}, emulated "
                                    f"{want.flat[differ[0]]:#010x}; {command(ins, x, int(differ[0]))}")


_OPERANDS = {                   # of x86.INSTRUCTIONS: float16, or float32 on its way to it
    "random": _Class((), (), ()),
    "near": _Class(range(-4, 5), range(-4, 5), range(-8, 9)),
    "tie": _Class(range(-8, 5), range(-8, 5), range(-16, 9), few=True),
    "subnormal": _Class(range(-28, -12), range(-4, 5), range(-26, -12)),
    "overflow": _Class(range(13, 17), range(-2, 3), range(13, 17)),
    "tiny": _Class(range(-150, -120), range(-30, -10), range(-30, -10), few=True),
    "nan": _Class(range(-4, 5), range(-4, 5), range(-8, 9), special=0.4),
}


def _operation(name: str, batch: int, i: int, seed: tuple[int, ...]) -> _Result:
    operation, rng = x86.INSTRUCTIONS[name], np.random.default_rng(seed)
    kind = tuple(_OPERANDS)[i % len(_OPERANDS)]
    mxcsr: dict[str, Any] = _SETTINGS[i // len(_OPERANDS) % len(_SETTINGS)]
    lanes = 32 if operation.operands[0].bits == operation.result.bits else 16
    how, shape = _OPERANDS[kind], (batch // lanes, lanes)
    x = [_floats(rng, fmt, shape, exps, how) for fmt, exps in zip(operation.operands, how[:3])]
    choice = {"immediate": i % 5} if "immediate" in operation.reads else {}
    read = {key: value for key, value in mxcsr.items() if key in operation.reads}
    want, got = operation.function(*x, **choice, **read), execute(name, *x, **choice, **mxcsr)
    differ = np.flatnonzero(got != want)
    if not differ.size:
        return want.size, 0, ""
    at = int(differ[0]) % x[0].size
    words = ", ".join(f"{codes.flat[at]:#x}" for codes in x)
    return want.size, differ.size, (f"class {kind!r}: of {words} with {choice | mxcsr} executed "
                                    f"{got.flat[differ[0]]:#x}, emulated {want.flat[differ[0]]:#x}")


def run(outputs: int, seed: int = 0) -> Iterator[Check]:
    """A Check of each instruction that is here."""
    for name in available():
        yield check(name, outputs, seed)
