"""The smallest input on which two units differ: found by search, then made smaller as long as they still differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from . import cases, exact, show
from .errors import BadOperand
from .formats import Float, Integer
from .instructions import Instruction
from .unit import Unit

__all__ = ["UnitDiff", "unit_diff"]

Row = tuple[tuple[int, ...], ...]       # codes of a, b, (c,), scale_a, scale_b: one dot product
_STARTS = 3                             # differing rows that are made smaller, so that one bad start does no harm


@dataclass(frozen=True)
class UnitDiff:
    """What unit_diff found. a, b, c, scale_a, scale_b: codes of one dot product on which x and y differ, or None where
    none was found; d: the code from each; tried: how many inputs both computed."""

    x: Instruction
    y: Instruction
    tried: int
    row: Row | None = None
    d: tuple[int, int] = (0, 0)

    @property
    def equal(self) -> bool:
        """No difference was found."""
        return self.row is None

    def __str__(self) -> str:
        if self.row is None:
            return f"{self.x}\n{self.y}\n  no difference found in {self.tried:,} inputs"
        a, b, (c,), scale_a, scale_b = self.row
        last = max((i + 1 for i, pair in enumerate(zip(a, b)) if any(pair)), default=1)
        lines = [f"found in {self.tried:,} inputs; nothing simpler near it tells them apart"]
        for i in range(last):
            if a[i] or b[i]:
                lines.append(f"  k {i}: {show.describe(self.x.a, a[i])} x {show.describe(self.x.b, b[i])}")
        lines.append(f"  C: {show.describe(self.x.c, c)}")
        words = [f"--a {','.join(show.code(self.x.a, i) for i in a[:last])}",
                 f"--b {','.join(show.code(self.x.b, i) for i in b[:last])}", f"--c {show.code(self.x.c, c)}"]
        for name, scales in (("scale-a", scale_a), ("scale-b", scale_b)):
            if scales:
                text = ",".join(f"{i:#04x}" for i in scales)
                lines.append(f"  {name}: {text}")
                words.append(f"--{name} {text}")
        lines += [f"  {show.describe(ins.d, d)}  {ins}" for ins, d in zip((self.x, self.y), self.d)]
        return "\n".join([*lines, f"  emulator explain UNIT {' '.join(words)}"])


def unit_diff(x: Unit, y: Unit, tries: int = 4096, seed: int = 0) -> UnitDiff:
    """The smallest input found on which two units differ, as one dot product over the k that both have.

    Searched: every directed probe (emulator.cases) aimed at either unit's columns, and `tries` cases of its classes for
    each. A differing input is made smaller step by step: fewer products, C zero, powers of two, exponents nearer to
    zero, positive, lower k. The same arguments give the same answer.
    Raises BadOperand for units that do not read and write the same formats.
    """
    for name in ("a", "b", "c", "d", "scale", "block"):
        if getattr(x, name) != getattr(y, name):
            raise BadOperand(f"{x} has {name} = {getattr(x, name)}, {y} {getattr(y, name)}; only units over the same "
                             "formats can be compared bit for bit")
    k = min(x.k, y.k)
    found: list[Row] = []
    tried = 0
    for ins in (x, y):
        made = cases.generate(replace(ins, m=1, n=1, k=k), cases.probe_tiles(replace(ins, m=1, n=1, k=k)) + tries, seed)
        rows: list[Any] = [made.a[:, 0], made.b[:, :, 0], made.c[:, 0]]
        rows += [None if scales is None else scales.reshape(len(made), -1) for scales in (made.scale_a, made.scale_b)]
        tried += len(made)
        for i in np.flatnonzero(_both(x, y, rows)[2])[:_STARTS]:
            found.append(tuple(() if codes is None else tuple(int(j) for j in codes[i]) for codes in rows))
    if not found:
        return UnitDiff(x, y, tried)
    for i, row in enumerate(found):
        while smaller := _simpler(x, row):
            tried += len(smaller)
            still = [other for other, differs in zip(smaller, _both(x, y, _columns(x, smaller))[2]) if differs]
            if not still:
                break
            row = min(still, key=partial(_size, x))
        found[i] = row
    best = min(found, key=partial(_size, x))
    dx, dy, _ = _both(x, y, _columns(x, [best]))
    return UnitDiff(x, y, tried, best, (int(dx[0]), int(dy[0])))


def _both(x: Unit, y: Unit, rows: list[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each unit makes of the rows, and where they differ."""
    a, b, c, scale_a, scale_b = rows
    dx, dy = (unit.dot_codes(a, b, c[:, 0], scale_a, scale_b) for unit in (x, y))
    return dx, dy, dx != dy


def _columns(ins: Instruction, rows: list[Row]) -> list[Any]:
    formats: tuple[Any, ...] = (ins.a, ins.b, ins.c, ins.scale, ins.scale)
    return [None if fmt is None else np.array(codes, fmt.code_dtype) for fmt, codes in zip(formats, zip(*rows))]


def _one(fmt: Float | None) -> int:
    return fmt and cases.code_of(fmt, 1) or 0


@lru_cache(1 << 16)
def _weight(fmt: Float | Integer, code: int) -> tuple[int, int, int]:
    """How far a code is from a plain number: special, bits of its significand, distance of its exponent from zero."""
    found = exact.decode(fmt, code)
    if found.kind != "finite":
        return 1, 0, 0
    if not found.sig:
        return 0, 0, int(found.negative)
    zeros = (found.sig & -found.sig).bit_length() - 1
    return 0, found.sig.bit_length() - zeros + found.negative, abs(found.exp + found.sig.bit_length() - 1)


def _size(ins: Instruction, row: Row) -> tuple[int, ...]:
    """What is to be made small: specials, numbers, significand bits and signs, exponents, places in k."""
    a, b, c, scale_a, scale_b = row
    one = _one(ins.scale)
    here: list[Any] = [(ins.a, i) for i in a if i] + [(ins.b, i) for i in b if i] + [(ins.c, c[0])]
    here += [(ins.scale, i) for i in (*scale_a, *scale_b) if i != one]
    weights = [_weight(fmt, code) for fmt, code in here]
    count = sum(1 for _, code in here if code)
    places = sum(i for i, pair in enumerate(zip(a, b)) if any(pair))
    return sum(w[0] for w in weights), count, sum(w[1] for w in weights), sum(w[2] for w in weights), places


def _simpler(ins: Instruction, row: Row) -> list[Row]:
    """Rows that are one step smaller."""
    a, b, c, scale_a, scale_b = row
    one = _one(ins.scale)
    made: list[Row] = []

    def add(**change: tuple[int, ...]) -> None:
        new = tuple({"a": a, "b": b, "c": c, "scale_a": scale_a, "scale_b": scale_b, **change}.values())
        made.append(new)

    def put(codes: tuple[int, ...], i: int, code: int) -> tuple[int, ...]:
        return (*codes[:i], code, *codes[i + 1:])
    live = [i for i, pair in enumerate(zip(a, b)) if any(pair)]
    for half in (live[:len(live) // 2], live[len(live) // 2:], *([i] for i in live)):       # fewer products
        add(**{name: tuple(0 if i in half else x for i, x in enumerate(codes)) for name, codes in (("a", a), ("b", b))})
    for i in live:
        for j in {j for j in (0, *(j - 1 for j in live), i - 1) if 0 <= j < i and j not in live}:      # a lower k
            add(a=put(put(a, j, a[i]), i, 0), b=put(put(b, j, b[i]), i, 0))
        for name, fmt, codes in (("a", ins.a, a), ("b", ins.b, b)):
            for code in _nearer(fmt, codes[i]):
                add(**{name: put(codes, i, code)})
    for code in _nearer(ins.c, c[0]):
        add(c=(code,))
    for name, codes in (("scale_a", scale_a), ("scale_b", scale_b)):
        for i, x in enumerate(codes):
            for code in {one, *_nearer(ins.scale, x)} - {x}:
                add(**{name: put(codes, i, code)})
    if isinstance(ins.a, Float):
        for step in (8, 1, -1, -8):                         # all exponents together: of the products, and C with them
            for name, fmt, codes in (("a", ins.a, a), ("b", ins.b, b)):
                moved = [_scaled(fmt, code, step) for code in codes], _scaled(ins.c, c[0], step)
                if None not in (*moved[0], moved[1]):
                    add(**{name: tuple(moved[0]), "c": (moved[1],)})        # type: ignore[arg-type]
        for i in live:                                      # from one operand to the other
            for step in (8, 1, -1, -8):
                one_up, one_down = _scaled(ins.a, a[i], step), _scaled(ins.b, b[i], -step)
                if one_up is not None and one_down is not None:
                    add(a=put(a, i, one_up), b=put(b, i, one_down))
    size = _size(ins, row)
    return [other for other in dict.fromkeys(made) if _size(ins, other) < size]


@lru_cache(1 << 16)
def _nearer(fmt: Float | Integer, code: int) -> set[int]:
    """Codes like this one but simpler: zero, positive, a power of two, fewer bits, an exponent nearer to zero."""
    if not code:
        return set()
    if isinstance(fmt, Integer):
        return {0, 1, code >> 1, code & (code - 1)}
    found = exact.decode(fmt, code)
    if found.kind != "finite":
        return {0, fmt.inf_code or 0, fmt.nan_code or 0, code & fmt.magnitude}
    simpler = {0, code & fmt.magnitude, _one(fmt)}
    magnitude = (code & fmt.magnitude) >> fmt.low_pad
    kept = code & ~fmt.magnitude
    for fewer in (magnitude >> fmt.frac_bits << fmt.frac_bits, magnitude & (magnitude - 1),
                  magnitude | ((1 << fmt.frac_bits) - 1) if magnitude & (magnitude + 1) else 0):
        simpler.add(kept | fewer << fmt.low_pad)
    for step in (8, 1, -1, -8):
        nearer = _scaled(fmt, code, step)
        simpler |= set() if nearer is None else {nearer}
    return simpler - {code}


@lru_cache(1 << 16)
def _scaled(fmt: Float, code: int, step: int) -> int | None:
    """The code of 2**step times a number, exactly; a zero or a special is itself."""
    found = exact.decode(fmt, code)
    if found.kind != "finite" or not found.sig:
        return code
    try:
        moved = exact.encode(fmt, found._replace(exp=found.exp + step), "rz", "error")
    except BadOperand:
        return None
    back = exact.decode(fmt, moved)
    up = back.exp - found.exp - step
    exactly = back.sig << max(up, 0) == found.sig << max(-up, 0)
    return moved if back.sig and exactly else None
