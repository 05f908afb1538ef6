"""Judging a kernel: is its output what the instruction gives in the order it says, or in which order would it be?

The order in which K is summed decides the bits. Where it is known the answer is equal, or the first difference with its
trace; where it is not, a family of schedules is tried: K tiles ascending or descending, split-K and slice-K, promotion.
Sources as in matmul; tiles walked from the last to the first as in Dao-AILab/flash-attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from . import arrays, show
from .compare import Comparison
from .errors import BadOperand
from .explain import explain
from .formats import number_format
from .matmul import IN_ORDER, Promote, Schedule, SplitK, StreamK, epilogue, matmul
from .unit import Unit

__all__ = ["Candidate", "Verdict", "check_kernel", "family"]

Array = np.ndarray
_FEW = 96               # rows and columns on which schedules are ruled out before whole products are computed
_TOLD = 6               # partial sums that a trace shows


@dataclass(frozen=True, eq=False)
class Candidate:
    """A schedule with a name. order: the k of the operands in the order in which they are taken, or None: ascending.
    c_last: C is added by the epilogue where the sum could also start from it."""

    name: str
    schedule: Schedule = IN_ORDER
    order: Array | None = None
    c_last: bool = False

    def __str__(self) -> str:
        return self.name


def family(on: Unit, k: int, narrow: bool = False) -> list[Candidate]:
    """The schedules tried for a product over k: in order; descending tiles of 16 to 256 k; split-K of 2 to 16 parts,
    cut at such tiles; promotion every 32 to 512 k, which is split-K of more parts; slice-K over 2 or 4 warps. What has
    the same parts occurs once. narrow: the output has 16 bits or fewer, so serial split-K rounds between parts."""
    tiles = [tile for tile in sorted({on.k, *(2 ** i for i in range(4, 10))}) if tile % max(on.k, on.block) == 0]
    whole, found = math.ceil(k / on.k) * on.k, [Candidate("in order")]
    for tile in tiles:
        if k > tile <= 256:
            back = [np.arange(lo, min(lo + tile, whole)) for lo in reversed(range(0, whole, tile))]
            found.append(Candidate(f"tiles of {tile} k, descending", IN_ORDER, np.concatenate(back)))
    promoted = {size for size in tiles if 32 <= size < k}
    split = {math.ceil(math.ceil(k / tile) / ways) * tile for tile in tiles for ways in range(2, 17)}
    for size in sorted(promoted | {size for size in split if size < k}, reverse=True):
        parts = math.ceil(k / size)
        named = f"split-K {parts}, parts of {size} k" if size in split else ""
        either = ", or " * (size in split and size in promoted) + f"promotion every {size} k" * (size in promoted)
        found.append(Candidate(named + either, SplitK(parts, tile=size)))
        if narrow and size in split:
            found.append(Candidate(f"serial {named}", SplitK(parts, True, size)))
    for tile in tiles:
        for warps in (2, 4):
            if tile // warps % on.k == 0 and k % tile == 0 and k > tile:
                order = np.arange(k).reshape(-1, warps, tile // warps).swapaxes(0, 1).ravel()
                found.append(Candidate(f"slice-K over {warps} warps, tiles of {tile} k", SplitK(warps, tile=k // warps),
                                       order))
    return found


@dataclass(frozen=True, eq=False)
class Verdict:
    """What check_kernel found. mismatches: by schedule, elements of `total` that differ, among those `sampled` if a
    schedule was ruled out early. reproduced: elements that some schedule gives."""

    on: Unit
    got: Array
    fmt: Any
    mismatches: dict[str, int]
    reproduced: Array
    best: Candidate
    want: Array
    _trace: Callable[[Any], str]

    @property
    def schedules(self) -> list[str]:
        """The schedules that give every bit."""
        return [name for name, count in self.mismatches.items() if not count]

    @property
    def equal(self) -> bool:
        return bool(self.schedules)

    @cached_property
    def comparison(self) -> Comparison:
        """With the schedule that comes nearest."""
        return Comparison(self.got, self.want, self.fmt)

    @property
    def unexplained(self) -> list[tuple[int, ...]]:
        """The elements that no schedule gives."""
        return [tuple(map(int, place)) for place in np.argwhere(~self.reproduced)]

    @cached_property
    def trace(self) -> str:
        """How the schedule that comes nearest gets the first element that differs, step by step; or nothing."""
        missing = self.unexplained
        first = missing[0] if missing else self.comparison.first
        return "" if first is None else self._trace(first)

    def __str__(self) -> str:
        tried = len(self.mismatches)
        of = f"{tried} schedules" if tried > 1 else f"{self.best}"
        if self.equal:
            head = f"all {self.got.size:,} elements are those of {self.on}"
            return head + (f", {of}" if tried == 1 else f" by {len(self.schedules)} of {of}:\n  " +
                           "\n  ".join(self.schedules))
        lines = [f"{self.on}: {of} {'do' if tried > 1 else 'does'} not give this; nearest: {self.best}"]
        missing = self.unexplained
        if tried > 1:
            some = ", ".join(f"d{list(place)}" for place in missing[:8]) + " ..." * (len(missing) > 8)
            lines.append(f"{len(missing):,} elements are given by none of them: {some}" if missing else
                         "each element is given by some of them: parts of the output follow different ones")
        return "\n".join([*lines, str(self.comparison), "", self.trace])


def check_kernel(d: Any, a: Any, b: Any, c: Any = None, *, on: Unit, schedule: Schedule | Candidate | None = None,
                 among: Iterable[Candidate] | None = None, scale_a: Any = None, scale_b: Any = None,
                 alpha: float | None = None, beta: float | None = None, threads: int | None = None) -> Verdict:
    """Judge d (M, N), a kernel's output for a (M, K) times b (K, N) by instruction `on`.

    All arrays may be numpy, ml_dtypes, torch or speak DLPack. c, scales, alpha and beta as for `matmul`; d's type says
    the output format. schedule: what the kernel does, if it is known; without, each of `among` (default: `family`) is
    tried, and where alpha, beta and the output format leave it open whether the sum starts from c or c is added at the
    end, both. Raises BadOperand.
    """
    a, b, c, scale_a, scale_b, d = (x if x is None else arrays.as_numpy(x) for x in (a, b, c, scale_a, scale_b, d))
    if a.ndim != 2 or b.ndim != 2 or d.shape != (a.shape[0], b.shape[-1]):
        raise BadOperand(f"d is {d.shape}, a {a.shape} and b {b.shape}; they are (M, N), (M, K) and (K, N)")
    fmt = number_format(d.dtype)
    got = arrays.codes(d, fmt, "d")
    if schedule is not None:
        candidates = [schedule if isinstance(schedule, Candidate) else Candidate("the schedule given", schedule)]
    else:
        candidates = list(among) if among is not None else family(on, a.shape[1], fmt.bits <= 16)
    job = _Job(on, a, b, c, scale_a, scale_b, alpha, beta, None if fmt == on.d else fmt.name, threads)
    if c is not None and job.out is None and alpha is None and beta is None:
        candidates += [replace(x, name=f"{x}, C added at the end", c_last=True) for x in candidates
                       if x.schedule is IN_ORDER and on.d.name == "float32"]
    elif on.d.name != "float32":
        candidates = [x for x in candidates if x.schedule is IN_ORDER]
    if not candidates:
        raise BadOperand("among is empty; it takes the schedules to try (emulator.judge.family)")
    few = np.s_[:_FEW, :_FEW]
    rough = {x: int(np.count_nonzero(job.run(x, few) != got[few])) for x in candidates}
    alive = [x for x in candidates if not rough[x]]
    found = {x: job.run(x, np.s_[:, :]) for x in alive}
    if not any((codes == got).all() for codes in found.values()):
        found |= {x: job.run(x, np.s_[:, :]) for x in candidates if x not in found}
    mismatches = {x: int(np.count_nonzero(found[x] != got)) if x in found else rough[x] for x in candidates}
    best = min(found, key=lambda x: mismatches[x])
    reproduced = np.zeros(got.shape, bool)
    for codes in found.values():
        reproduced |= codes == got
    return Verdict(on, got, fmt, {x.name: count for x, count in mismatches.items()}, reproduced, best, found[best],
                   lambda place: job.trace(best, place))


@dataclass(frozen=True, eq=False)
class _Job:
    """One product in any candidate's order."""

    on: Unit
    a: Array
    b: Array
    c: Array | None
    scale_a: Array | None
    scale_b: Array | None
    alpha: float | None
    beta: float | None
    out: str | None
    threads: int | None

    def part(self, how: Candidate, where: Any) -> tuple[dict[str, Any], Schedule]:
        """Operands of rows and columns `where`, K in the candidate's order, and its schedule on them; those of the
        whole product where the parts of K depend on the place in it."""
        rows, columns = np.s_[:, :] if isinstance(how.schedule, StreamK) else where
        given: dict[str, Any] = {"a": self.a[rows], "b": self.b[:, columns]}
        if self.on.scale:
            if self.scale_a is None or self.scale_b is None:
                raise BadOperand(f"scale_a or scale_b is missing; {self.on} has block scales")
            given |= {"scale_a": self.scale_a[rows], "scale_b": self.scale_b[:, columns]}
        if how.order is not None:
            blocks = how.order[::self.on.block or 1] // (self.on.block or 1)
            given = {name: _ordered(x, blocks if name.startswith("scale") else how.order, int(not name.endswith("b")))
                     for name, x in given.items()}
        given["c"] = None if self.c is None else self.c[rows, columns]
        schedule = how.schedule
        if isinstance(schedule, Promote):
            cut = [x if x is None or np.shape(x)[axis] == 1 else np.asarray(x)[piece] for x, axis, piece in (
                (schedule.scale_a, 0, np.s_[rows]), (schedule.scale_b, 1, np.s_[:, columns]))]
            schedule = replace(schedule, scale_a=cut[0], scale_b=cut[1])
        return given, schedule

    def run(self, how: Candidate, where: Any) -> Array:
        """Codes of that part of the product."""
        given, schedule = self.part(how, where)
        given["beta"] = 1.0 if how.c_last else self.beta
        d = matmul(**given, on=self.on, alpha=self.alpha, out=self.out, schedule=schedule, threads=self.threads)
        d = d[where] if isinstance(schedule, StreamK) else d
        return arrays.codes(d, number_format(d.dtype), "d")

    def trace(self, how: Candidate, place: tuple[int, int]) -> str:
        """One element: what each part of K adds up to, and the last instruction in full."""
        i, j = place
        if isinstance(how.schedule, StreamK):
            shape = (len(self.a), self.b.shape[1], self.a.shape[1])
            cuts = next(cuts for (rows, columns), cuts in how.schedule.cuts(shape, self.on.k)
                        if rows.start <= i < rows.stop and columns.start <= j < columns.stop)
            how = replace(how, schedule=_Parts(tuple(cuts)))
        given, schedule = self.part(how, (slice(i, i + 1), slice(j, j + 1)))
        on, lines, parts = self.on, [f"d[{i}, {j}] by {how}:"], []
        plain = schedule is IN_ORDER and self.alpha is None and self.beta is None and self.out is None
        plain = plain and not how.c_last
        start = given.pop("c")

        def chain(lo: int, hi: int, keep: bool = True) -> Array:
            cut: dict[str, Any] = {name: _along(x, lo, hi, name, on.block) for name, x in given.items()}
            found = matmul(c=start if plain else None, on=on, threads=1, **cut)
            if keep:
                parts.append((lo, hi, found))
            return found

        with np.errstate(all="ignore"):
            if plain:
                chain(0, given["a"].shape[1])
            else:
                schedule.run(chain, epilogue(start, (1, 1), self.alpha, self.beta, self.out),
                             (1, 1, given["a"].shape[1]), on.k)
        for count, (lo, hi, found) in enumerate(parts):
            if count < _TOLD or count == len(parts) - 1:
                k = "k" if how.order is None else "places (in the order taken)"
                lines.append(f"  {k} {lo}..{hi - 1}, {math.ceil((hi - lo) / on.k)} instructions: "
                             f"{show.describe(on.d, int(arrays.codes(found, on.d, 'd')[0, 0]))}")
            elif count == _TOLD:
                lines.append(f"  ... {len(parts) - _TOLD - 1} more")
        lo, hi, _ = parts[-1]
        last = lo + (hi - lo - 1) // on.k * on.k if hi > lo else lo
        before = chain(lo, last, False) if last > lo else start if plain and start is not None else None
        cut = {name: _along(x, last, hi, name, on.block) for name, x in given.items()}
        told = explain(on, cut["a"][0], cut["b"][:, 0], 0 if before is None else before[0, 0],
                       cut["scale_a"][0] if on.scale else None, cut["scale_b"][:, 0] if on.scale else None)
        return "\n".join([*lines, f"the last instruction, k {last}..{hi - 1}:", str(told)])


@dataclass(frozen=True)
class _Parts(Schedule):
    """Chains between these k; the first sum is stored and each next one added to it."""

    cuts: tuple[int, ...]

    def run(self, chain: Callable[..., Array], finish: Any, shape: tuple[int, ...], step: int) -> Array:
        first, *rest = (chain(lo, hi) for lo, hi in zip(self.cuts, self.cuts[1:]))
        return finish(sum(rest, first), None)


def _ordered(x: Array, order: Array, axis: int) -> Array:
    """x with axis K in that order; zeros where the order goes beyond."""
    short = max(0, int(order.max()) + 1 - x.shape[axis])
    zeros = np.zeros((short, x.shape[1]) if axis == 0 else (x.shape[0], short), x.dtype)
    return np.take(np.concatenate([x, zeros], axis), order, axis)


def _along(x: Array, lo: int, hi: int, name: str, block: int) -> Array:
    """k from lo to hi of an operand or of its scales."""
    over = slice(lo // block, math.ceil(hi / block)) if name.startswith("scale") else slice(lo, hi)
    return x[over] if name.endswith("b") else x[:, over]
