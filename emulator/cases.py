"""Test operands for one instruction: codes that look where tensor cores differ.

Uniform random bits almost never meet an alignment edge, a tie or the exponent floor, so most classes here aim:
exponents kept within the adder's window, products that cancel, sums that end exactly between two results. The `probe`
classes hold directed vectors, each of which settles one question about a datapath (how many bits, which order, where
the floor is, what becomes of NaN, signed zeros, overflow). The capture tool runs these operands on silicon, the tests
through every engine.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from .formats import Float, Integer

__all__ = ["CLASSES", "Cases", "code_of", "generate", "probe_tiles"]

CLASSES = (
    "probe",
    "random",
    "close",
    "cancel",
    "align-edge",
    "tie",
    "carry",
    "subnormal",
    "overflow",
    "nan",
    "zero-sign",
    "sparse",
    "probe order",
    "probe output",
    "probe specials",
    "probe scales",
)


@dataclass(frozen=True)
class Cases:
    """Operands as unsigned codes for N tiles.

    a (N, m, k), b (N, k, n), c (N, m, n); scale_a (N, m, k/block) and scale_b (N, k/block, n), or None; why (N,) uint8
    is an index into `classes`, the names of the case classes.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    scale_a: np.ndarray | None
    scale_b: np.ndarray | None
    why: np.ndarray
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.a)


def generate(ins: Any, tiles: int, seed: int = 0, probes: bool = True) -> Cases:
    """`tiles` tiles of operands for an instruction row: the directed probes first (at most two thirds of the tiles,
    none with probes=False), then every class in turn. The same arguments give the same codes.
    """
    rng = np.random.default_rng([seed, zlib.crc32(ins.name.encode())])
    parts: list[tuple[Any, ...]] = []
    why: list[int] = []
    if probes:
        directed = _pack(ins, _probes(ins))[: tiles * 2 // 3]
        parts += [tile for _, tile in directed]
        why += [CLASSES.index(topic) for topic, _ in directed]
    integer = isinstance(ins.a, Integer)
    names = ("random", "cancel", "carry", "overflow") if integer else (*_FLOATS, "close", "cancel", "align-edge")
    rest = tiles - len(why)
    for i, name in enumerate(names):
        count = rest // len(names) + (i < rest % len(names))
        if count:
            operands = (_integers if integer else _FLOATS[name])(rng, ins, count, name)
            parts += zip(*operands, *_scales(rng, ins, count, name))
            why += [CLASSES.index(name)] * count
    stacked: list[Any] = [None if same[0] is None else np.stack(same) for same in zip(*parts)]
    a, b, c, scale_a, scale_b = stacked
    return Cases(a, b, c, scale_a, scale_b, np.array(why, np.uint8))


def probe_tiles(ins: Any) -> int:
    """How many tiles all directed probes of the instruction take."""
    return len(_pack(ins, _probes(ins)))


# ------------------------------------------------------------------------------------------------ codes from fields


def _assemble(f: Float, negative: np.ndarray, exp: np.ndarray, frac: np.ndarray) -> np.ndarray:
    """Codes of +-(1 + frac / 2**frac_bits) * 2**exp, cut to what the format holds: low exponents become subnormals
    (or zero), high ones the largest finite exponent. Arrays of one shape.
    """
    exp = np.clip(exp, f.emin - f.frac_bits, f.emax).astype(np.int64)
    sig = (np.uint64(1 << f.frac_bits) | frac.astype(np.uint64)) >> np.maximum(f.emin - exp, 0).astype(np.uint64)
    if f.specials == "exponent":
        return (np.maximum(exp, f.emin) + f.bias).astype(f.code_dtype)
    magnitude = sig + (np.maximum(exp - f.emin, 0).astype(np.uint64) << np.uint64(f.frac_bits))
    magnitude = np.minimum(magnitude, np.uint64(f.max_code >> f.low_pad)) << np.uint64(f.low_pad)
    return (magnitude | np.where(negative, np.uint64(f.sign), np.uint64(0))).astype(f.code_dtype)


def _coin(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape) < 0.5


def _bits(rng: np.random.Generator, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, (1 << bits) - 1, shape, dtype=np.uint64, endpoint=True)


def _fracs(rng: np.random.Generator, f: Float, shape: tuple[int, ...]) -> np.ndarray:
    """Fractions: mostly uniform, some all zeros or all ones."""
    frac, pick = _bits(rng, f.frac_bits, shape), rng.integers(0, 8, shape)
    return np.where(pick == 0, np.uint64(0), np.where(pick == 1, np.uint64((1 << f.frac_bits) - 1), frac))


def _draw(rng: np.random.Generator, f: Float, exp: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Codes of random sign and fraction with these exponents (broadcast to `shape`)."""
    return _assemble(f, _coin(rng, shape), np.broadcast_to(exp, shape), _fracs(rng, f, shape))


def _uniform(rng: np.random.Generator, f: Float, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform bit patterns without Inf and NaN; bits the hardware ignores below the number are random too."""
    code = _bits(rng, f.bits - f.high_pad, shape)
    too_high = (code & np.uint64(f.magnitude)) > np.uint64(f.max_code | ((1 << f.low_pad) - 1))
    step = 1 << (f.low_pad + (f.frac_bits if f.specials == "ieee" else 0))
    code = np.where(too_high, code ^ np.uint64(step), code)
    if f.specials == "fnuz":
        code = np.where(code == np.uint64(f.sign), np.uint64(0), code)
    return code.astype(f.code_dtype)


def _sprinkle(rng: np.random.Generator, f: Float, x: np.ndarray, share: float) -> np.ndarray:
    """Turn a share of the codes into signed zeros, and the same share into subnormals."""
    if f.specials == "exponent":
        return x
    sign = np.where(_coin(rng, x.shape), np.uint64(f.sign if f.has_negative_zero else 0), np.uint64(0))
    zero = sign.astype(x.dtype)
    tiny = ((_bits(rng, f.frac_bits, x.shape) << np.uint64(f.low_pad)) | sign).astype(x.dtype)
    if f.specials == "fnuz":
        tiny &= x.dtype.type(f.magnitude)
    pick = rng.random(x.shape)
    return np.where(pick < share, zero, np.where(pick < 2 * share, tiny, x))


def _negated(f: Float, x: np.ndarray) -> np.ndarray:
    return x ^ x.dtype.type(f.sign)


# ------------------------------------------------------------------------------------------------ the float classes


def _window(ins: Any) -> int:
    """Fraction bits the adder keeps below the largest addend, as far as the row says."""
    frac = getattr(getattr(ins, "adder", None), "frac", None)
    return frac if frac else ins.d.frac_bits + 2 if ins.d.frac_bits > 23 else 25


def _windows(rng: np.random.Generator, ins: Any, tiles: int) -> np.ndarray:
    """A window per tile (tiles, 1, 1): the row's own, sometimes another machine's."""
    own = _window(ins)
    return np.where(rng.random((tiles, 1, 1)) < 0.75, own, rng.choice([own, 13, 23, 24, 25], (tiles, 1, 1)))


def _bases(
    rng: np.random.Generator, ins: Any, tiles: int, low: int | None = None, high: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Exponents for A and B, (tiles, 1, 1) each, whose sum lies in [low, high] as far as the formats allow (by
    default where sums of products stay finite and normal in D).
    """
    low = ins.d.emin if low is None else low
    high = ins.d.emax - 6 if high is None else high
    low = min(max(low, ins.a.emin + ins.b.emin), ins.a.emax + ins.b.emax)
    high = max(min(high, ins.a.emax + ins.b.emax), low)
    total = rng.integers(low, high, (tiles, 1, 1), endpoint=True)
    least, most = np.maximum(ins.a.emin, total - ins.b.emax), np.minimum(ins.a.emax, total - ins.b.emin)
    exp_a = least + (rng.random((tiles, 1, 1)) * (most - least + 1)).astype(np.int64)
    return exp_a, total - exp_a


def _shapes(ins: Any, tiles: int) -> tuple[tuple[int, int, int], ...]:
    return (tiles, ins.m, ins.k), (tiles, ins.k, ins.n), (tiles, ins.m, ins.n)


def _random(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """Uniform bit patterns, in every other tile with exponents low enough that sums stay finite; C uniform, near the
    products, or zero.
    """
    sa, sb, sc = _shapes(ins, tiles)
    most_a = min(ins.a.emax, (ins.d.emax - 6) // 2)
    most_b = min(ins.b.emax, ins.d.emax - 6 - most_a)
    wide = np.arange(tiles)[:, None, None] % 2 == 1

    def operand(f: Float, most: int, shape: tuple[int, ...]) -> np.ndarray:
        lower = _draw(rng, f, rng.integers(max(f.emin, -40), most, shape, endpoint=True), shape)
        return np.where(wide, _uniform(rng, f, shape), lower)

    near = _draw(rng, ins.c, most_a + most_b - rng.integers(0, 30, sc), sc)
    pick = rng.random(sc)
    c = np.where(pick < 0.25, _uniform(rng, ins.c, sc), np.where(pick < 0.8, near, near.dtype.type(0)))
    return operand(ins.a, most_a, sa), operand(ins.b, most_b, sb), c


def _close(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """Product exponents within the adder's window of each other, many zeros and subnormals, C of like size or zero."""
    sa, sb, sc = _shapes(ins, tiles)
    window = _windows(rng, ins, tiles)
    exp_a, exp_b = _bases(rng, ins, tiles)
    spread = window // 2 * rng.choice([0, 1, 1, 2], (tiles, 1, 1)) // 2 + 1
    a = _sprinkle(rng, ins.a, _draw(rng, ins.a, exp_a - rng.integers(0, spread, sa), sa), 0.08)
    b = _sprinkle(rng, ins.b, _draw(rng, ins.b, exp_b - rng.integers(0, spread, sb), sb), 0.08)
    c = _draw(rng, ins.c, exp_a + exp_b + rng.integers(-window - 2, 4, sc), sc)
    return a, b, _sprinkle(rng, ins.c, c, 0.15)


def _cancel(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """Pairs of products that cancel or nearly do, and small rests at the alignment edge below them; k shuffled."""
    sa, sb, sc = _shapes(ins, tiles)
    window = _windows(rng, ins, tiles)
    exp_a, exp_b = _bases(rng, ins, tiles)
    depth = rng.choice([1, 1, 3, 8], (tiles, 1, 1))
    a, b = _draw(rng, ins.a, exp_a - rng.integers(0, depth, sa), sa), _draw(rng, ins.b, exp_b, sb)
    half = ins.k // 2
    pairs = max(half - rng.integers(1, max(half, 2)), 1) if half else 0
    a[:, :, half : half + pairs] = a[:, :, :pairs]
    b[:, half : half + pairs] = _negated(ins.b, b[:, :pairs])
    nearly = rng.random((tiles, ins.m, pairs)) < 0.1
    a[:, :, :pairs] ^= (nearly.astype(np.uint64) << np.uint64(ins.a.low_pad)).astype(a.dtype)
    for first in (pairs, half + pairs):
        rest = slice(first, half if first < half else ins.k)
        below = _split(window + rng.integers(-3, 3, (tiles, 1, 1)), exp_a, exp_b, ins)
        a[:, :, rest] = _sprinkle(rng, ins.a, _draw(rng, ins.a, below[0], a[:, :, rest].shape), 0.1)
        b[:, rest] = _draw(rng, ins.b, below[1], b[:, rest].shape)
    c = _draw(rng, ins.c, exp_a + exp_b - window + rng.integers(-2, 4, sc), sc)
    c = np.where(rng.random(sc) < 0.6, c.dtype.type(0), c)
    order = rng.permutation(ins.k)
    return a[:, :, order], b[:, order], c


def _split(down: np.ndarray, exp_a: np.ndarray, exp_b: np.ndarray, ins: Any) -> tuple[np.ndarray, np.ndarray]:
    """Exponents for A and B whose sum is `down` below exp_a + exp_b, the step down shared as the formats allow."""
    target = exp_a + exp_b - down
    low_a = np.maximum(exp_a - down // 2, ins.a.emin - ins.a.frac_bits)
    low_b = np.clip(target - low_a, ins.b.emin - ins.b.frac_bits, ins.b.emax)
    return np.clip(target - low_b, ins.a.emin - ins.a.frac_bits, ins.a.emax), low_b


def _align_edge(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """One large product, every other one within a few bits of where the adder stops keeping bits."""
    sa, sb, sc = _shapes(ins, tiles)
    window = _windows(rng, ins, tiles)
    low = min(ins.a.emin + ins.b.emin + _window(ins), ins.a.emax + ins.b.emax)
    exp_a, exp_b = _bases(rng, ins, tiles, low=max(low, ins.d.emin))
    low_a, low_b = _split(window + rng.integers(-2, 2, (tiles, 1, 1)), exp_a, exp_b, ins)
    a = _draw(rng, ins.a, low_a + rng.integers(-1, 2, sa), sa)
    b = _draw(rng, ins.b, low_b + rng.integers(-1, 2, sb), sb)
    where = int(rng.integers(ins.k))
    a[:, :, where], b[:, where] = (
        _draw(rng, ins.a, exp_a[:, :, 0], (tiles, ins.m)),
        _draw(rng, ins.b, exp_b[:, 0], (tiles, ins.n)),
    )
    near = np.where(rng.random(sc) < 0.3, 0, -window) + rng.integers(-1, 2, sc)
    return _sprinkle(rng, ins.a, a, 0.05), b, _sprinkle(rng, ins.c, _draw(rng, ins.c, exp_a + exp_b + near, sc), 0.15)


def _tie(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """A sum halfway between two results, a hair above or a hair below: product, half of its last bit, a tiny third."""
    sa, sb, sc = _shapes(ins, tiles)
    exp_a, exp_b = _bases(
        rng, ins, tiles, low=min(ins.a.emin + ins.b.emin + ins.d.frac_bits + 2, ins.a.emax + ins.b.emax)
    )
    a, b = np.zeros(sa, ins.a.code_dtype), _draw(rng, ins.b, exp_b, sb)
    one = np.zeros((tiles, 1, ins.n), np.uint64)
    kept = np.uint64((1 << ins.a.frac_bits) - 1 & ~1)
    order = rng.permutation(ins.k)
    for k, down in zip(order, (0, ins.d.frac_bits + 1, ins.d.frac_bits + 3)):
        low_a, low_b = _split(np.full((tiles, 1, 1), down), exp_a, exp_b, ins) if down else (exp_a, exp_b)
        shape = (tiles, ins.m, 1)
        frac = np.zeros(shape, np.uint64) if down else _bits(rng, ins.a.frac_bits, shape) & kept
        column = _assemble(ins.a, _coin(rng, shape), np.broadcast_to(low_a, shape), frac)
        a[:, :, k : k + 1] = np.where(
            rng.random(shape) < (0.3 if down > ins.d.frac_bits + 1 else 0), column.dtype.type(0), column
        )
        b[:, k : k + 1] = _assemble(ins.b, _coin(rng, one.shape), np.broadcast_to(low_b, one.shape), one)
    total = np.broadcast_to(exp_a + exp_b, sc)
    half = _assemble(ins.c, _coin(rng, sc), total - ins.d.frac_bits - rng.integers(0, 3, sc), np.zeros(sc, np.uint64))
    return a, b, np.where(rng.random(sc) < 0.6, half.dtype.type(0), half)


def _carry(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """All of one sign and near the largest significand: the sum grows as far as it can."""

    def near_full(f: Float, exp: np.ndarray, shape: tuple[int, ...], negative: np.ndarray) -> np.ndarray:
        top = (1 << f.frac_bits) - 1
        frac = np.maximum(top - rng.integers(0, 3, shape), 0)
        return _assemble(f, np.broadcast_to(negative, shape), np.broadcast_to(exp, shape), frac)

    sa, sb, sc = _shapes(ins, tiles)
    exp_a, exp_b = _bases(rng, ins, tiles)
    negative = rng.random((tiles, ins.m, 1)) < 0.5
    lower = rng.integers(0, 2, (tiles, 1, 1)) * rng.integers(0, 3, sa)
    a, b = near_full(ins.a, exp_a - lower, sa, negative), near_full(ins.b, exp_b, sb, np.array(False))
    return a, b, near_full(ins.c, exp_a + exp_b + rng.integers(-2, 3, sc), sc, negative)


def _subnormal(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """Products around the smallest result and the exponent floor below it; C subnormal or zero."""
    sa, sb, sc = _shapes(ins, tiles)
    last = ins.d.emin - ins.d.frac_bits
    exp_a, exp_b = _bases(rng, ins, tiles, low=last - 10, high=last + 20)
    a = _sprinkle(rng, ins.a, _draw(rng, ins.a, exp_a + rng.integers(-4, 3, sa), sa), 0.15)
    b = _sprinkle(rng, ins.b, _draw(rng, ins.b, exp_b + rng.integers(-4, 3, sb), sb), 0.05)
    c = _draw(rng, ins.c, last + rng.integers(-1, ins.d.frac_bits + 3, sc), sc)
    return a, b, np.where(_coin(rng, sc), c.dtype.type(0), c)


def _overflow(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """Sums around the largest finite result: by the products where the formats reach so far, else by C."""
    sa, sb, sc = _shapes(ins, tiles)
    exp_a, exp_b = _bases(rng, ins, tiles, low=ins.d.emax - 4, high=ins.d.emax + 2)
    a = _draw(rng, ins.a, exp_a - rng.integers(0, 3, sa), sa)
    b = _draw(rng, ins.b, exp_b - rng.integers(0, 2, sb), sb)
    c = _draw(rng, ins.c, ins.c.emax - rng.integers(0, 3, sc), sc)
    c = np.where(rng.random(sc) < 0.3, c.dtype.type(ins.c.max_code) ^ (c & c.dtype.type(ins.c.sign)), c)
    return a, b, _sprinkle(rng, ins.c, c, 0.1)


def _nan(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """The close class with a few NaN (any payload) and infinities: at most one per row of A and column of B."""
    a, b, c = _close(rng, ins, tiles, name)
    columns = np.ascontiguousarray(b.swapaxes(1, 2)).reshape(-1, ins.k)
    for f, x, count in ((ins.a, a.reshape(-1, ins.k), 0.4), (ins.b, columns, 0.15), (ins.c, c.reshape(-1, 1), 0.1)):
        if f.nan_code is None:
            continue
        rows = np.flatnonzero(rng.random(len(x)) < count)
        space = (f.magnitude >> f.low_pad) - (f.max_code >> f.low_pad)
        picked = np.uint64((f.max_code >> f.low_pad) + 1) + _below(rng, space, rows.shape)
        infinite = rng.random(rows.shape) < 0.5
        picked = np.where(infinite, np.uint64((f.inf_code or f.nan_code) >> f.low_pad), picked) << np.uint64(f.low_pad)
        picked |= np.where(_coin(rng, rows.shape), np.uint64(f.sign), np.uint64(0))
        x[rows, rng.integers(0, x.shape[1], rows.shape)] = picked.astype(x.dtype)
    return a, np.ascontiguousarray(columns.reshape(tiles, ins.n, ins.k).swapaxes(1, 2)), c


def _below(rng: np.random.Generator, limit: int, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, max(limit, 1), shape, dtype=np.uint64)


def _zero_sign(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """Signed zeros, ones and the smallest numbers: which zero comes out?"""

    def pick(f: Float, shape: tuple[int, ...], ones: float) -> np.ndarray:
        magnitude = np.where(rng.random(shape) < ones, np.uint64(code_of(f, 1) or 0), np.uint64(0))
        magnitude = np.where(rng.random(shape) < 0.05, np.uint64(1 << f.low_pad), magnitude)
        sign = np.uint64(f.sign if f.has_negative_zero else 0)
        return (magnitude | np.where(_coin(rng, shape), sign, np.uint64(0))).astype(f.code_dtype)

    sa, sb, sc = _shapes(ins, tiles)
    return pick(ins.a, sa, 0.25), pick(ins.b, sb, 0.4), pick(ins.c, sc, 0.1)


def _sparse(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """The close class with 30 % signed zeros and as many subnormals: what uniform bits never show of either."""
    a, b, c = _close(rng, ins, tiles, name)
    return _sprinkle(rng, ins.a, a, 0.3), _sprinkle(rng, ins.b, b, 0.3), _sprinkle(rng, ins.c, c, 0.3)


_FLOATS: dict[str, Callable[[np.random.Generator, Any, int, str], tuple[np.ndarray, ...]]] = {
    "random": _random,
    "close": _close,
    "cancel": _cancel,
    "align-edge": _align_edge,
    "tie": _tie,
    "carry": _carry,
    "subnormal": _subnormal,
    "overflow": _overflow,
    "nan": _nan,
    "zero-sign": _zero_sign,
    "sparse": _sparse,
}


def _scales(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[Iterable[Any], Iterable[Any]]:
    """Block scales (tiles, m, k/block) and (tiles, k/block, n), or Nones."""
    f = ins.scale
    if f is None:
        return [None] * tiles, [None] * tiles
    shapes = (tiles, ins.m, ins.k // ins.block), (tiles, ins.k // ins.block, ins.n)
    if name == "random":
        a, b = (_uniform(rng, f, shape) for shape in shapes)
    else:
        centre = {"overflow": 62, "subnormal": -70}.get(name, 0)
        reach = {"tie": 1, "carry": 1, "zero-sign": 2}.get(name, _window(ins) // 2)
        a, b = (_draw(rng, f, centre + rng.integers(-reach, reach + 1, shape), shape) for shape in shapes)
    if name == "nan" and f.nan_code is not None:
        for x in (a, b):
            x[rng.random(x.shape) < 0.03] = f.nan_code
    return a, b


# ---------------------------------------------------------------------------------------------- the integer classes


def _integers(rng: np.random.Generator, ins: Any, tiles: int, name: str) -> tuple[np.ndarray, ...]:
    """random: uniform. carry: only extreme values. overflow: C near the ends of its range. cancel: both, with the
    sign of A changing half way through k, so that a sum that clamps on the way shows.
    """

    def uniform(f: Integer, shape: tuple[int, ...]) -> np.ndarray:
        return _bits(rng, f.bits, shape).astype(f.code_dtype)

    def extreme(f: Integer, shape: tuple[int, ...]) -> np.ndarray:
        mask = (1 << f.bits) - 1
        ends = np.array([f.max & mask, f.max & mask, f.min & mask, (f.max - 1) & mask], np.uint64)
        return rng.choice(ends, shape).astype(f.code_dtype)

    sa, sb, sc = _shapes(ins, tiles)
    if name == "random":
        small = rng.integers(-(1 << 16), 1 << 16, sc).astype(np.int32).view(np.uint32)
        return uniform(ins.a, sa), uniform(ins.b, sb), np.where(_coin(rng, sc), small, uniform(ins.c, sc))
    a, b = extreme(ins.a, sa), extreme(ins.b, sb)
    if name == "cancel":
        ends = np.array([ins.a.max, ins.a.min if ins.a.signed else 0], np.int64) & ((1 << ins.a.bits) - 1)
        falling = rng.random((tiles, ins.m, 1)) < 0.5
        a = ends[((np.arange(ins.k) >= ins.k // 2) ^ falling).astype(int)].astype(a.dtype)
        b = np.full(sb, ins.b.max, b.dtype)
    elif name == "overflow":
        mixed = rng.random((tiles, 1, 1)) < 0.5
        a, b = np.where(mixed, uniform(ins.a, sa), a), np.where(mixed, uniform(ins.b, sb), b)
    reach = 2 * ins.k * (ins.a.max + 1) * (ins.b.max + 1)
    near = rng.integers(0, reach, sc)
    c = np.where(_coin(rng, sc), ins.c.max - near, ins.c.min + near) if name != "carry" else near - reach // 2
    return a, b, c.astype(np.int32).view(np.uint32)


# -------------------------------------------------------------------------------------------------------- the probes


class Raw(int):
    """A code given as it is."""


Number = Any  # Fraction | int | Raw
Product = Any  # Number, or a pair of Numbers


def code_of(f: Float | Integer, x: Number) -> int | None:
    """The code of exactly x, or None where the format has no such number."""
    if isinstance(x, Raw):
        return int(x)
    if isinstance(f, Integer):
        return int(x) & ((1 << f.bits) - 1) if x == int(x) and f.min <= x <= f.max else None
    x = Fraction(x)
    if x == 0:
        return None if f.specials == "exponent" else 0
    if x < 0 and not f.signed:
        return None
    size = abs(x)
    exp = size.numerator.bit_length() - size.denominator.bit_length()
    exp = max(exp - (Fraction(2) ** exp > size), f.emin)
    sig = size / Fraction(2) ** (exp - f.frac_bits)
    code = int(sig) + ((exp - f.emin) << f.frac_bits) - (f.specials == "exponent")
    if sig.denominator != 1 or code > f.max_code >> f.low_pad:
        return None
    return code << f.low_pad | (f.sign if x < 0 else 0)


def _factors(ins: Any, product: Product) -> tuple[int, int] | None:
    """Codes of a and b whose product it is: as given if a pair, else b a power of two: both normal if they
    can be, and b as near 1 as the formats allow."""
    if isinstance(product, tuple):
        a, b = code_of(ins.a, product[0]), code_of(ins.b, product[1])
        return None if a is None or b is None else (a, b)
    if isinstance(ins.a, Integer):
        return _factors(ins, (product, 1))
    product = Fraction(product)
    top = product.numerator.bit_length() - product.denominator.bit_length()
    low, high = ins.b.emin - ins.b.frac_bits, ins.b.emax
    least, most = top - ins.a.emax - 1, top - ins.a.emin + ins.a.frac_bits + 1  # outside, no a can be right

    def preference(exp: int) -> tuple[bool, int]:
        return exp < ins.b.emin or top - exp < ins.a.emin, abs(exp)

    for exp in sorted(range(max(low, least), min(high, most) + 1), key=preference):
        a, b = code_of(ins.a, product / _two(exp)), code_of(ins.b, _two(exp))
        if a is not None and b is not None:
            return a, b
    return None


@dataclass
class _Probes:
    """Dot products a . b + c as codes; those an instruction cannot state are left out."""

    ins: Any
    rows: list[tuple[tuple[int, ...], tuple[int, ...], int, tuple[int, ...], tuple[int, ...], str]] = field(
        default_factory=list
    )
    topic: str = "probe"

    def add(
        self,
        products: Mapping[int, Product],
        c: Number = 0,
        scale_a: Iterable[Number] = (),
        scale_b: Iterable[Number] = (),
    ) -> None:
        ins = self.ins
        one = code_of(ins.b, 1)
        a, b = [0] * ins.k, [one or 0] * ins.k
        for k, product in products.items():
            both = _factors(ins, product)
            if both is None or not 0 <= k < ins.k:
                return
            a[k], b[k] = both
        code = code_of(ins.c, c)
        scales: list[tuple[Any, ...]] = []
        for given in (scale_a, scale_b):
            chunks: list[int | None] = [code_of(ins.scale, 1)] * (ins.k // ins.block) if ins.scale else []
            for j, x in enumerate(given if chunks else ()):
                if j < len(chunks):
                    chunks[j] = code_of(ins.scale, x)
            scales.append(tuple(chunks))
        if code is not None and None not in scales[0] + scales[1]:
            self.rows.append((tuple(a), tuple(b), code, scales[0], scales[1], self.topic))


def _pack(ins: Any, probes: _Probes) -> list[tuple[str, tuple[np.ndarray | None, ...]]]:
    """Tiles that hold the probes, by topic: each probe has a row (A, C) of its own and shares a column with those of
    the same B."""
    tiles: list[tuple[str, tuple[np.ndarray | None, ...]]] = []
    row, columns = ins.m, {}  # type: int, dict[Any, int]
    for a, b, c, scale_a, scale_b, topic in probes.rows:
        if row == ins.m or topic != tiles[-1][0] or ((b, scale_b) not in columns and len(columns) == ins.n):
            shapes = (ins.m, ins.k), (ins.k, ins.n), (ins.m, ins.n)
            tile: list[np.ndarray | None] = [np.zeros(s, f.code_dtype) for s, f in zip(shapes, (ins.a, ins.b, ins.c))]
            chunks = ins.k // ins.block if ins.scale else 0
            tile += [
                np.full(s, code_of(ins.scale, 1), np.uint8) if chunks else None
                for s in ((ins.m, chunks), (chunks, ins.n))
            ]
            tiles.append((topic, tuple(tile)))
            row, columns = 0, {}
        column = columns.setdefault((b, scale_b), len(columns))
        ta, tb, tc, tsa, tsb = tiles[-1][1]
        ta[row], tb[:, column], tc[row] = a, b, c  # type: ignore[index]
        if tsa is not None and tsb is not None:
            tsa[row], tsb[:, column] = scale_a, scale_b
        row += 1
    return tiles


def _two(exp: int) -> Fraction:
    return Fraction(2) ** exp


def _probes(ins: Any) -> _Probes:
    """Every directed vector that the instruction can state."""
    p = _Probes(ins)
    if isinstance(ins.a, Integer):
        _probe_integers(p)
    elif ins.d.frac_bits > 23:
        _probe_double(p)
        _probe_specials(p)
    else:
        _probe_window(p)
        _probe_order(p)
        _probe_output(p)
        _probe_specials(p)
        if ins.scale:
            _probe_scaled(p)
    return p


def _probe_window(p: _Probes) -> None:
    """How many bits are kept below the largest addend, at each k; how C joins; subnormals; the exponent floor."""
    ins, window = p.ins, _window(p.ins)
    top = min(14, ins.a.emax + ins.b.emax)
    big = _two(top)
    for i in range(ins.k if ins.k > 2 else 0):
        x, y = [k for k in range(ins.k) if k != i][:2]
        for down in (window, window + 1):
            p.add({x: big, y: -big, i: _two(top - down)})
    for other in {12, 13, 14, 22, 23, 24, 25, 26, 34, 35, 36}:
        p.add({0: big, 1: -big, 2: _two(top - other)})
        p.add({0: big, 1: -big}, c=_two(top - other))
    for down in (window, window + 1):
        p.add({0: big, 1: -big}, c=_two(top - down))
        p.add({0: big, 1: -big, 2: -3 * _two(top - down - 1)})
        p.add({0: big, 1: -big, 2: _two(top - down), 3: _two(top - down)})
        half = Fraction(3, 2)
        p.add(
            {
                0: (half * _two(6), half * _two(7)),
                1: (-half * _two(6), half * _two(7)),
                2: _two(13 - down),
                3: _two(14 - down),
            }
        )
        # A subnormal operand: does its product count with the raw or the normalised exponent?
        least = _two(ins.a.emin - ins.a.frac_bits)
        for high in range(min(15, ins.b.emax), 0, -7):
            edge = _two(ins.a.emin + high - down)
            p.add({0: (least, _two(high)), 1: (-least, _two(high)), 2: edge, 3: edge})
    last = ins.d.emin - ins.d.frac_bits
    p.add({k: _two(last - 3) for k in range(ins.k)}, c=_two(ins.c.emin - ins.c.frac_bits))
    p.add({0: (0, _two(ins.b.emax)), 1: (_two(-60), _two(-60))})
    p.add({0: (0, _two(ins.b.emax)), 1: (_two(ins.a.emin), _two(ins.b.emin))})
    for carry in range(3, 10):
        floor = ins.d.emin - carry - window
        for sign in (-1, 1):
            p.add({0: _two(last), 1: sign * _two(floor)})
            p.add({0: _two(last - 1), 1: sign * _two(floor)})


def _probe_order(p: _Probes) -> None:
    """Which k are summed together and in what order: the numbers after the group of j survive, those before drown."""
    p.topic = "probe order"
    ins = p.ins
    for x, y in ((7, -9), (8, -6)):
        for j in range(ins.k):
            p.add({k: (_two(x), _two(x)) if k == j else (_two(y), _two(y)) for k in range(ins.k)}, c=-_two(2 * x))
    for top, s in ((26, 0), (12, -14), (14, -14), (10, -10)):
        big = _two(top // 2)
        for plus, minus, first, second in ((0, 1, 2, 19), (2, 3, 0, 17), (0, 1, 2, 9), (2, 3, 0, 1), (0, 1, 4, 5)):
            p.add({plus: (big, big), minus: (-big, big), first: _two(s), second: _two(s)})
        for j in range(1, ins.k):
            p.add({0: (big, big), j: (-big, big), (j + 1) % ins.k or 1: _two(s)})
    over = _two(ins.d.emax + 1)
    for j in (1, 2, ins.k // 4, ins.k // 2, ins.k - 1):
        p.add({0: over, j: -over})


def _probe_output(p: _Probes) -> None:
    """Rounding, overflow, what an accumulator word keeps."""
    p.topic = "probe output"
    ins, d = p.ins, p.ins.d
    for low in (Fraction(3, 4), Fraction(1, 2), Fraction(1, 4), Fraction(3, 2)):
        for sign in (1, -1):
            p.add({k: sign * _two(12) for k in range(4)}, c=sign * low * _two(14 - d.frac_bits))
            p.add({0: sign, 1: sign * low * _two(-d.frac_bits)})
            p.add({0: sign * (1 + _two(-1)), 1: sign * low * _two(-13)})
            p.add({0: sign * low * _two(-13)}, c=sign)
            p.add({0: low * sign * _two(d.emax - d.frac_bits)}, c=Raw(ins.c.max_code | (ins.c.sign if sign < 0 else 0)))
            p.add({0: low * sign * _two(d.emin - d.frac_bits)})
            p.add({0: low * sign * _two(-13 - 10), 1: -sign, 2: sign})
    p.add({0: _two(d.emax + 1)})
    p.add({0: -_two(d.emax + 1)})
    p.add({0: (_two(64), _two(64)), 1: (-_two(64), _two(64) * (1 - _two(-7)))})
    p.add({0: (_two(100), _two(100)), 1: (-_two(100), _two(100))}, c=1)
    p.add(
        {
            0: (_two(d.emax // 2 + 1), _two(d.emax - d.emax // 2)),
            1: (-_two(d.emax // 2 + 1), _two(d.emax - d.emax // 2)),
        },
        c=1,
    )
    words = (
        (
            0x3F800001,
            0x3F8003FF,
            0x3F800400,
            0xBF8007FF,
            0x7F7FFFFF,
            0x3FF,
            0x400,
            0x7FFFFF,
            0x80000001,
            0x00800001,
            0x80000000,
        )
        if ins.c.frac_bits == 23
        else (0x3C01, 0xBC01, 0x7BFF, 0x0001, 0x8001, 0x03FF, 0x0401, 0x8000)
    )
    for word in words:
        p.add({}, c=Raw(word))


def _probe_specials(p: _Probes) -> None:
    """NaN, infinities, signed zeros."""
    p.topic = "probe specials"
    ins, c, d = p.ins, p.ins.c, p.ins.d
    plus, minus = Raw(c.inf_code), Raw(c.inf_code | c.sign)
    c_nan = Raw(c.nan_code | c.sign | 0x123 >> (0 if c.frac_bits > 10 else 4))
    tiny = _two((ins.a.emin + ins.b.emin) // 2)
    for value in (Raw(c.sign), 0, Raw(c.sign | 1), minus, plus, c_nan):
        p.add({}, c=value)
        p.add({0: (-1, 0), 1: (0, -1)}, c=value)
        p.add({0: -1, 1: 1}, c=value)
        if ins.a.signed and ins.a.has_negative_zero:
            p.add({k: (Raw(ins.a.sign), 1) for k in range(ins.k)}, c=value)
            p.add({k: (Raw(ins.a.sign), Raw(ins.b.sign)) for k in range(ins.k)}, c=value)
        p.add({0: (-tiny, tiny)}, c=value)
        p.add({0: -_two(d.emin - d.frac_bits - 2)}, c=value)
        p.add({0: _two(ins.a.emax + ins.b.emax)}, c=value)
    for k in (0, ins.k - 1):
        if ins.a.nan_code is not None:
            last = 1 << ins.a.low_pad
            for nan in {
                ins.a.nan_code,
                ins.a.max_code + 2 * last if ins.a.inf_code else ins.a.nan_code,
                ins.a.nan_code | ins.a.sign,
            }:
                p.add({k: (Raw(nan), 1)})
                p.add({k: (Raw(nan), 0)}, c=1)
                p.add({k: (Raw(nan), 1)}, c=c_nan)
        if ins.b.nan_code is not None:
            p.add({k: (0, Raw(ins.b.nan_code))}, c=1)
        if ins.a.inf_code is not None:
            inf = Raw(ins.a.inf_code)
            for other in (1, -1, 0, tiny):
                for value in (1, plus, minus):
                    p.add({k: (inf, other)}, c=value)
            p.add({0: (inf, 1), ins.k - 1: (inf, -1)})
            p.add({0: (inf, 1), ins.k - 1: (inf, 1)}, c=-1)
    if ins.a.low_pad:
        for word in (0x3F801FFF, 0x3F800FFF, 0xBF801000, 0x7F800001, 0x7F801FFF, 0x7F802000, 0x00001FFF, 0x00002000):
            p.add({0: (Raw(word), 1)})
            p.add({0: (1, Raw(word))})


def _probe_scaled(p: _Probes) -> None:
    """Block scales: the window, the group, NaN scales over zeros, the floor (kinds mxf8f6f4, mxf4, mxf4nvf4)."""
    p.topic = "probe scales"
    block, high, low = p.ins.block, _two(8), _two(-9)
    first, group = (high, low), (block + 0, block + 4, block + 8, block + 12)
    quarter = {k: (Fraction(1, 2), Fraction(1, 2)) for k in group}
    p.add({0: (6, 6), 1: (6, -4), block: (1, 1)}, -12 * _two(16), first, first)
    p.add({0: 1, 1: -1, **quarter}, 0, first, first)
    p.add({0: 1, 1: -1, block: (Fraction(1, 2), Fraction(1, 2))}, 0, first, first)
    p.add({block: (Fraction(1, 2), Fraction(1, 2))}, 0, first, first)
    nan = Raw(p.ins.scale.nan_code)
    p.add({}, 1, (nan,))
    p.add({}, 1, (), (nan,))
    p.add({0: 1}, 1, (Raw(0xB8),))
    for down in (-174, -175, -158, -159, -160):
        p.add({0: 1, block: -1}, 0, (_two(-74), _two(down // 2)), (_two(-75), _two(down - down // 2)))
    p.add({0: 1}, 0, (_two(127),), (_two(127),))
    p.add({0: 1}, Raw(1), (_two(-127),), (_two(-127),))


def _probe_integers(p: _Probes) -> None:
    """Where a saturating sum clamps: a climb in one part of k, a fall in another, C near the end of the range."""
    ins = p.ins
    up, down = (ins.a.max, ins.b.max), (ins.a.min if ins.a.signed else 0, ins.b.max)
    for parts in (2, 4, 8):
        for turn in range(parts):
            step = max(ins.k // parts, 1)
            for rising in (up, down):
                falling = down if rising is up else up
                steps = {
                    k: rising if k // step == turn else falling if k // step == (turn + 1) % parts else (0, 0)
                    for k in range(ins.k)
                }
                for c in (ins.c.max - 100, ins.c.min + 100, ins.c.max, ins.c.min, 0):
                    p.add(steps, c)


def _probe_double(p: _Probes) -> None:
    """The order of a chain of fused multiply-adds, and its rounding."""
    ins = p.ins
    for small in (_two(-53), _two(-54), 3 * _two(-54)):
        for sign in (1, -1):
            for j in range(ins.k):
                p.add({k: 1 if k == j else sign * small for k in range(ins.k)})
                p.add({k: sign * small for k in range(ins.k) if k >= j}, c=1)
    p.add({0: (1 + _two(-30), 1 + _two(-30)), 1: -1}, c=-_two(-29))
    p.add({0: _two(1023), 1: _two(1023), 2: -_two(1023)})
    p.add({0: _two(1023), 1: -_two(1023)}, c=_two(1023))
    for exp in (-1074, -1075, -1076):
        p.add({0: (_two(-500), _two(exp + 500)), 1: (-_two(-600), _two(-600))})
