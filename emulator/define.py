"""Units of one's own: a row written in Python or TOML runs, explains itself and makes vectors as the table's rows do.

    emulator.define("mine", shape="m16n8k16", a="float16", b="float16", d="float32", terms=8, frac=24, rounding="rz")
    emulator.define("wider", base="sm_90 mma.m16n8k16.f32.f16.f16.f32", frac=30)
    emulator.load_unit("mine.toml")             # the same columns, one a line
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import engines, exact
from .errors import BadUnit, EngineUnavailable, UnknownFormat
from .formats import FORMATS, Float, Integer, number_format
from .instructions import Adder, Instruction, find
from .rounding import MODES, STOCHASTIC
from .unit import Array, Unit

__all__ = ["Defined", "define", "load_unit", "row_of"]

JOINS = {"with": "C is an addend of the first fused sum, each rounded sum one of the next",
         "each": "each fused sum starts from nothing and is added to C by an IEEE addition",
         "last": "the fused sums chain from nothing, and C is added at the end by an IEEE addition"}
ORDERS = {"ascending": "groups of consecutive k", "descending": "the same, the last group first",
          "strided": "group i takes every k that is i modulo the number of groups"}
_HOSTS: dict[Any, type] = {FORMATS["float32"]: np.float32, FORMATS["float16"]: np.float16}
_ROUNDINGS = tuple(mode for mode in MODES if mode not in STOCHASTIC)


@dataclass(frozen=True)
class Defined(Unit):
    """A row whose columns are all stated, none derived. `groups`, `join`, `cut`: what exact.composed reads."""

    terms: int = 1                      # type: ignore[assignment]
    floor: int = 0                      # type: ignore[assignment]
    precision: int | None = None        # type: ignore[assignment]
    rounding: str = "rne"               # type: ignore[assignment]
    groups: tuple[tuple[int, ...], ...] = ()
    join: str = "with"
    cut: str = "rz"
    evidence = property(lambda self: f"assumed: {self.note or 'defined by its user'}")     # type: ignore[assignment]

    @property
    def direct(self) -> bool:
        """Do the engines know its method by name?"""
        return not callable(self.method)

    def fill(self, operands: tuple, d: Array, engine: str | None = None, threads: int | None = None) -> None:
        """As Unit.fill, on the engine asked for, or else the fastest one that can do the row exactly."""
        for name in [engine] if engine else dict.fromkeys((engines.default(), "c", "numba")):
            try:
                run = super().fill if self.direct or name == "exact" else self._rearranged
                run(operands, d, name, threads)
                return
            except EngineUnavailable:
                if engine:
                    raise
        super().fill(operands, d, "exact", threads)

    def _quick(self, a: Any, b: Any, c: Any, scale_a: Any, scale_b: Any) -> Array | None:
        return None                                         # it would not ask whether C can do the row

    # A chain over rearranged k, and IEEE additions: so every engine runs exact.composed.
    @cached_property
    def _chain(self) -> Defined:
        if self.method is not exact.composed or self.cut != "rz" or self.block:
            raise EngineUnavailable(f"{self} runs on engine='exact' alone: no other has its "
                                    f"{'cut' if self.method is exact.composed else 'method'}")
        sums = 1 if self.join == "each" else len(self.groups)
        return replace(self, method="chain", groups=(), join="with", k=sums * self.terms)  # type: ignore[arg-type]

    def _rearranged(self, operands: tuple, d: Array, engine: str | None, threads: int | None) -> None:
        chain, nothing = self._chain, self.k                # k = nothing: an operand that is zero and claims nothing
        order = [k for group in self.groups for k in (*group, *[nothing] * (self.terms - len(group)))]
        a, b, c, *scales = operands

        def lines(x: Array) -> Array:
            steps = max(1, -(-x.shape[-1] // self.k))
            x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, steps * self.k - x.shape[-1])])
            x = np.pad(x.reshape(*x.shape[:-1], steps, self.k), [(0, 0)] * x.ndim + [(0, 1)])
            return x[..., order].reshape(*x.shape[:-2], -1)
        a, b = lines(a), lines(b.swapaxes(-1, -2)).swapaxes(-1, -2)
        if self.join == "with":
            chain.fill((a, b, c, *scales), d, engine, threads)
            return
        total, fmt = np.zeros(d.shape, self.c.code_dtype) if c is None else np.broadcast_to(c, d.shape), self.c
        for start in range(0, a.shape[-1], chain.k):
            part = np.empty_like(d)
            over = slice(start, start + chain.k)
            chain.fill((a[..., over], b[..., over, :], None, *scales), part, engine, threads)
            total, fmt = self._add(part, total, fmt), self.d
        d[...] = total

    def _add(self, x: Array, y: Array, y_fmt: Any) -> Array:
        """The IEEE sum of codes x of D and y of `y_fmt`: the host's where it has one, else the specification's."""
        fmt: Any = self.d
        rounding, host = self.rnd or "rne", _HOSTS.get(fmt)
        if host and y_fmt == fmt and rounding == "rne":
            with np.errstate(all="ignore"):
                total: Array = x.view(host) + np.ascontiguousarray(y).view(host)
            return np.where(np.isnan(total), x.dtype.type(fmt.all_ones_nan), total.view(x.dtype))

        def one(p: int, q: int) -> int:
            total: Any = exact.fma(fmt, exact.decode(fmt, p), exact.ONE, exact.decode(y_fmt, q), rounding)
            return fmt.all_ones_nan if total.kind == "nan" else exact.encode(fmt, total, rounding)
        return np.vectorize(one, otypes=[x.dtype])(x.astype(object), y.astype(object))


def row_of(ins: Instruction) -> dict[str, Any]:
    """The arguments that make `define` a unit with the arithmetic of `ins`; plain values, fit for JSON or TOML."""
    row: dict[str, Any] = {"name": ins.name, "shape": f"m{ins.m}n{ins.n or 8}k{ins.k}"}
    row |= {operand: _plain(getattr(ins, operand)) for operand in "abcd"}
    if ins.block:
        row |= {"scale": _plain(ins.scale), "block": ins.block}
    if callable(ins.method) and ins.method is not exact.composed:
        row["method"] = ins.method
    elif not callable(ins.method) and (ins.method != "chain" or ins.saturate):
        row["method"] = ins.method
    if isinstance(ins.d, Float):
        row["terms"] = ins.terms
    if ins.adder:
        row |= {"frac": ins.adder.frac, "floor": ins.floor, "precision": ins.precision}
    if isinstance(ins.d, Float):
        row["rounding"] = ins.rounding
    if isinstance(ins, Defined) and ins.groups:
        row |= {"order": [list(group) for group in ins.groups], "join": ins.join, "cut": ins.cut, "add": ins.rnd}
        del row["terms"]
    row = {column: value for column, value in row.items() if value is not None}
    return {**row, "saturate": True} if ins.saturate else row


def _plain(fmt: Any) -> Any:
    if FORMATS.get(fmt.name) == fmt:
        return fmt.name
    return {field.name: getattr(fmt, field.name) for field in fields(fmt)}


def define(name: str, *, base: str | Instruction | None = None, **columns: Any) -> Defined:
    """A unit of one's own, ready to call.

    base: a row to start from, "ARCH INSTRUCTION" or an instruction; the columns given replace its own.
    shape: "m16n8k16". a, b, c, d: formats, by name, as Float or Integer, or as a table of Float's arguments; c is d
    unless given. scale, block: the format of block scales, and how many k share one.
    terms: products of one fused sum (k unless given). frac: fraction bits kept below the largest exponent; without it
    nothing is cut. cut: how an addend is cut there (rz, rd for two's complement, rne ...). floor: the least exponent
    of an alignment, or carry, the integer bits above it: floor = emin of d - carry. rounding, precision: of a sum to d,
    and the fraction bits it keeps. order: ascending, descending, strided, or lists of k, one a group. join: with, each
    or last (JOINS); add: the rounding of those additions. method: instead of order, join and cut a name of
    exact.METHODS or a function like them: (ins, a, b, c, scale_a, scale_b, trace) -> code of d.
    saturate: integers clamp. arch, note: words. Overflow gives infinity, a zero sum is +0, NaN has all bits set.
    Raises BadUnit, or what `find` raises for the base.
    """
    if base is not None:
        row = row_of(find(*_two_words(base)) if isinstance(base, str) else base)
        if "order" in columns or "terms" in columns:
            row = {key: value for key, value in row.items() if key not in ("order", "terms")}
        if "carry" in columns:
            row.pop("floor", None)
        columns = {**row, **columns}
    columns = {**columns, "name": name}
    try:
        return _build(**columns)
    except TypeError as error:
        raise BadUnit(f"{name}: {str(error).replace('_build()', 'a unit')}; the columns are {', '.join(_COLUMNS)}, "
                      "and base") from None


def _two_words(base: str) -> list[str]:
    words = base.split()
    if len(words) != 2:
        raise BadUnit(f"base is {base!r}; it takes an architecture and an instruction: \"sm_90 mma.m16n8k16...\"")
    return words


def _build(name: str, *, shape: str, a: Any, b: Any, d: Any, c: Any = None, scale: Any = None, block: int = 0,
           terms: int | None = None, frac: int | None = None, carry: int | None = None, floor: int | None = None,
           cut: str = "rz", rounding: str = "rne", precision: int | None = None, order: Any = "ascending",
           join: str = "with", add: str = "rne", method: str | Callable | None = None, saturate: bool = False,
           arch: str = "user", note: str = "") -> Defined:
    def refuse(column: str, value: object, takes: str) -> BadUnit:
        return BadUnit(f"{name}: {column} is {value!r}; it takes {takes}")

    size = re.fullmatch(r"m(\d+)n(\d+)k(\d+)", str(shape))
    if not size or 0 in map(int, size.groups()):
        raise refuse("shape", shape, "m, n and k: m16n8k16")
    m, n, k = map(int, size.groups())
    a, b, d = _format(name, "a", a), _format(name, "b", b), _format(name, "d", d)
    c = d if c is None else _format(name, "c", c)
    scale = None if scale is None else _format(name, "scale", scale)
    whole = {"block": block, "terms": terms, "frac": frac, "carry": carry, "floor": floor, "precision": precision}
    for column, value in whole.items():
        if value is not None and (type(value) is not int or (value < 0 and column != "floor")):
            raise refuse(column, value, "a whole number")
    if (block == 0) != (scale is None) or (block and k % block):
        raise BadUnit(f"{name}: scale is {scale} and block {block}; block scales take both, and k = {k} is whole "
                      "blocks")
    for column, word, names in (("cut", cut, _ROUNDINGS), ("rounding", rounding, _ROUNDINGS), ("add", add, _ROUNDINGS),
                                ("join", join, tuple(JOINS))):
        if word not in names:
            raise refuse(column, word, " ".join(names))
    integers = isinstance(a, Integer)
    if any(isinstance(x, Integer) != integers for x in (b, c, d)):
        raise BadUnit(f"{name}: a, b, c, d are {a}, {b}, {c}, {d}; they are all integers, or all floats")
    if method is None and integers:
        method = "integer"
    if isinstance(method, str) and method not in exact.METHODS:
        raise refuse("method", method, f"{' '.join(exact.METHODS)}, or a function")
    if not integers and d.nan_code is None:
        raise refuse("d", str(d), "a format that has a NaN")
    if not integers and "exponent" in (a.specials, b.specials):
        raise refuse("a, b", f"{a}, {b}", "formats that have a zero, which fills what is missing of k")
    groups, given = _groups(name, order, k, terms), terms
    terms = max(map(len, groups))
    common: Any = {"arch": arch, "name": name, "m": m, "n": n, "k": k, "a": a, "b": b, "c": c, "d": d, "scale": scale,
                   "block": block, "saturate": saturate, "note": note}
    if integers or (method is not None and frac is None and given is None):
        return Defined(**common, method=method, terms=terms, rounding=rounding, rnd=rounding)   # type: ignore[arg-type]
    if floor is not None and carry is not None and d.emin - carry != floor:
        raise BadUnit(f"{name}: floor is {floor} and carry {carry}; floor = {d.emin} - carry, so give one of them")
    carry = d.emin - floor if floor is not None else (4 * terms + 2).bit_length() if carry is None else carry
    if frac is None and method is None:
        frac = _lossless(a, b, c, d, scale, d.emin - carry)
    adder = Adder(name, terms * max(8, a.bits), frac, carry)
    kept = min(x for x in (frac, precision, d.frac_bits) if x is not None)
    sums: Any = {"adder": adder, "terms": terms, "floor": d.emin - carry, "precision": kept, "rounding": rounding,
                 "rnd": add}
    plain = groups == _groups(name, "ascending", k, terms) and join == "with" and cut == "rz"
    if method is not None or plain:
        return Defined(**common, **sums, method=method or "chain")                           # type: ignore[arg-type]
    return Defined(**common, **sums, method=exact.composed, groups=groups, join=join, cut=cut)  # type: ignore[arg-type]


_COLUMNS = tuple(dict.fromkeys(("name", *(_build.__kwdefaults__ or ()), "shape", "a", "b", "d")))


def _format(name: str, operand: str, which: Any) -> Any:
    """A format by name, as such, or as a table of its fields."""
    try:
        if isinstance(which, Mapping):
            kind = Integer if "bits" in which else Float
            return kind(**{"name": f"{name}.{operand}", **which})
        return number_format(which)
    except (TypeError, UnknownFormat) as error:
        raise BadUnit(f"{name}: {operand}: {error}") from None


def _groups(name: str, order: Any, k: int, terms: int | None) -> tuple[tuple[int, ...], ...]:
    """The k of each fused sum."""
    if isinstance(order, str):
        if order not in ORDERS:
            raise BadUnit(f"{name}: order is {order!r}; it takes {' '.join(ORDERS)}, or lists of k, one a group")
        each = k if terms is None else min(terms, k)
        if each < 1:
            raise BadUnit(f"{name}: terms is {terms}; a fused sum takes at least one product")
        count = -(-k // each)
        if order == "strided":
            return tuple(tuple(range(start, k, count)) for start in range(count))
        found = [tuple(range(start, min(start + each, k))) for start in range(0, k, each)]
        return tuple(found[::-1] if order == "descending" else found)
    lists = isinstance(order, Sequence) and all(isinstance(group, Sequence) and len(group) for group in order)
    if not lists or sorted(i for group in order for i in group) != list(range(k)):
        raise BadUnit(f"{name}: order is {order!r}; as lists of k, one a group, it names each of 0..{k - 1} once")
    return tuple(tuple(group) for group in order)


def _lossless(a: Float, b: Float, c: Float, d: Float, scale: Float | None, floor: int) -> int:
    """Fraction bits that cut nothing: from the largest claim to the last bit of the smallest number."""
    pair: list[Any] = [a, b] + [scale, scale] * (scale is not None)     # type: ignore[list-item]
    high = max(sum(f.emax for f in pair), c.emax, d.emax, floor)
    low = min(sum(f.emin - f.frac_bits for f in pair), c.emin - c.frac_bits, d.emin - d.frac_bits)
    return high - low


def load_unit(path: str | Path) -> Defined:
    """The unit that a TOML file describes: the columns of `define`, a format of one's own as a table of Float's fields.

    Its name is the file's unless the file says one. Raises BadUnit, naming the file.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        row = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadUnit(f"{path} cannot be read: {error}") from None
    try:
        return define(row.pop("name", Path(path).stem), **row)
    except BadUnit as error:
        raise BadUnit(f"{path}: {error}") from None
