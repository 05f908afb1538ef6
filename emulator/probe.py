"""Which row is it? A machine behind a function is asked until one row is left, and what no question settles is said.

First its summation tree, by masks: a number, its negative and a tiny third tell whether the third was added before the
other two met (FPRev, arXiv 2411.00442, here for sums of many terms and for C; Fasi et al., doi 10.7717/peerj-cs.330).
Then the bits an adder keeps, and then every other column, by the directed and random cases of emulator.cases: a value
stays only if the unit that has it gives the machine's answer to every one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import cases, show
from .define import Defined, define
from .errors import BadOperand, EmulatorError, Mismatch
from .exact import METHODS, Number, dot, encode
from .formats import Float, number_format
from .instructions import ARCHS, Instruction, table
from .rounding import MODES, STOCHASTIC
from .unit import Unit, instruction

__all__ = ["Finding", "Node", "match", "probe", "tree_text"]

Box = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
_EXACT = 10_000         # the fraction bits of a sum that cuts nothing


@dataclass(frozen=True)
class Node:
    """One addition of the tree: indices of k (C is k itself) and earlier additions. frac: fraction bits kept below its
    largest addend, as measured; _EXACT if nothing was lost, None if its two addends cannot show it."""

    children: tuple[int | Node, ...]
    frac: int | None = None

    @property
    def leaves(self) -> list[int]:
        return sorted(child for child in self.children if isinstance(child, int))

    @property
    def nodes(self) -> list[Node]:
        return [child for child in self.children if isinstance(child, Node)]


@dataclass(frozen=True)
class Finding:
    """What was found. tree: the measured sum, None for captured answers. unit: one that gives every answer, or None;
    rows: those of the table that do. columns: of the unit; unsettled: the other values of a column that no question
    refuted; observed: answers that need no model; nearest: where nothing answers all, how far the nearest are off."""

    tree: Node | None
    k: int
    asked: int
    unit: Unit | None
    rows: tuple[Unit, ...]
    columns: dict[str, Any]
    unsettled: dict[str, list[Any]]
    observed: dict[str, str]
    nearest: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.asked:,} questions"]
        lines += [f"  {'sum':12} {tree_text(self.tree, self.k)}"] if self.tree else []
        lines += [f"  {name:12} {told}" for name, told in self.observed.items()]
        if self.unit is None:
            nearest = [f"  {story}" for story in self.nearest]
            return "\n".join([*lines, "no unit known here gives every answer; the nearest:", *nearest])
        lines.append(f"method {self.columns['method']}")
        for name, value in list(self.columns.items())[1:]:
            others = ", ".join(map(str, self.unsettled.get(name, ())))
            lines.append(f"  {name:12} {value!s:6}{f' unsettled; as well: {others}' * bool(others)}".rstrip())
        rows = [f"  {row}" for row in self.rows] or ["  none"]
        return "\n".join([*lines, "rows of the table that give every answer:", *rows])


def probe(dot: Box, *, a: Any, b: Any, d: Any, k: int, c: Any = None, tries: int = 1500, seed: int = 0) -> Finding:
    """Find the row of a machine. dot(a (N, k), b (N, k), c (N,)) -> d (N,), all unsigned codes; it is asked many times.

    a, b, c, d: formats, c being d unless given. k: products of one dot product; tries: random cases beside the directed
    ones. For a block-scaled unit let `dot` set all scales to one. Raises BadOperand for integers (their sums are exact)
    and for answers of another shape, Mismatch for a machine that does not repeat itself.
    """
    machine = _Machine(dot, _floats(a, b, d if c is None else c, d), k)
    tree = _measure(machine, machine.tree())
    vectors = _vectors(machine, tree, tries, seed)
    want = machine.ask(*vectors)
    return _settle(machine, tree, vectors, want, machine.observe())


def match(a_codes: np.ndarray, b_codes: np.ndarray, c_codes: np.ndarray, d_codes: np.ndarray, *, a: Any, b: Any,
          d: Any, c: Any = None) -> Finding:
    """As `probe`, for captured answers: codes a, b (N, k), c, d (N,). What they do not ask stays unsettled."""
    formats = _floats(a, b, d if c is None else c, d)
    machine = _Machine(lambda *_: d_codes, formats, a_codes.shape[1], len(d_codes))
    return _settle(machine, None, (a_codes, b_codes, c_codes), d_codes, {})


def _floats(*formats: Any) -> Any:
    found = tuple(number_format(x) for x in formats)
    if not all(isinstance(fmt, Float) for fmt in found):
        raise BadOperand(f"the formats are {', '.join(map(str, found))}; sums of integers are exact, so there is no "
                         "row to find: compare the answers with emulator.compare")
    return found


def _settle(machine: _Machine, tree: Node | None, vectors: Vectors, want: np.ndarray,
            observed: dict[str, str]) -> Finding:
    """The unit that gives every answer: one of the measured tree, a row, or a method that needs no adder."""
    rows = tuple(row for row in _rows(machine) if _first_difference(row, vectors, want) is None)
    named = [*rows, *_named(machine)]
    columns = _general(machine, tree) if tree else next(filter(None, map(_columns, rows)), None)
    found: Unit | None = None
    if columns and (columns["frac"] is not None or not rows):
        columns, wrong = _descend(columns, vectors, want)
        found = None if wrong else _build(columns)
    if found is None:
        found = next((unit for unit in named if _first_difference(unit, vectors, want) is None), None)
        if found is None:
            near = [*([_build(columns)] if columns else []), *_rows(machine), *_named(machine)]
            nearest = tuple(told for _, told in sorted({_story(unit, vectors, want) for unit in near})[:3])
            return Finding(tree, machine.k, machine.asked, None, (), {}, {}, observed, nearest)
        columns = _columns(found)
    method = next((row.method for row in (*rows, found) if isinstance(row.method, str)), "composed")
    if not columns:
        return Finding(tree, machine.k, machine.asked, found, rows, {"method": method}, {}, observed)
    unsettled = _unsettled(columns, vectors, want)
    known = _columns(rows[0]) if rows else None
    for name, others in unsettled.items():      # where several values answer alike, the table's
        if known and known.get(name) in others:
            unsettled[name] = [columns[name] if value == known[name] else value for value in others]
            columns[name] = known[name]
    shown = {"method": method, "terms": found.terms, **{name: columns[name] for name in _choices(columns)}}
    shown |= {"join": columns["join"]} if "join" in columns else {"rounding": columns["rounding"]}
    return Finding(tree, machine.k, machine.asked, found, rows, shown, unsettled, observed)


# --- the machine ------------------------------------------------------------------------------------------------------

@dataclass
class _Machine:
    dot: Box
    formats: tuple[Float, Float, Float, Float]
    k: int
    asked: int = 0

    def __post_init__(self) -> None:
        self.a, self.b, self.c, self.d = self.formats

    @property
    def top(self) -> int:
        """Exponent of the largest number in the masks."""
        return min(self.a.emax + self.b.emax, self.c.emax, self.d.emax - 1)

    @property
    def low(self) -> int:
        """Exponent of the smallest one: normal, and so is what makes it."""
        return max(self.a.emin + self.b.emin, self.c.emin, self.d.emin)

    def factors(self, sign: int, exp: int) -> tuple[int, int]:
        """Codes of a and b, powers of two, whose product is sign * 2**exp."""
        half = min(max(exp // 2, self.a.emin, exp - self.b.emax), self.a.emax, exp - self.b.emin)
        return _power(self.a, sign, half), _power(self.b, 1, exp - half)

    def ask(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        self.asked += len(a)
        found = np.asarray(self.dot(a, b, c))
        if found.shape != (len(a),) or found.dtype.kind != "u":
            raise BadOperand(f"the machine answers {found.dtype.name} {found.shape}; for N = {len(a)} it is to answer "
                             f"unsigned codes of {self.d} ({len(a)},)")
        sample = slice(None, None, max(1, len(a) // 64))
        if not np.array_equal(found[sample], np.asarray(self.dot(a[sample], b[sample], c[sample]))):
            raise Mismatch("the machine does not repeat its answers: the same codes gave other results")
        return found.astype(self.d.code_dtype)

    def products(self, terms: list[dict[int, tuple[int, int]]]) -> np.ndarray:
        """Answers to sums of powers of two: each {place: (sign, exponent)}, the place k being C."""
        a, b = (np.zeros((len(terms), self.k), fmt.code_dtype) for fmt in (self.a, self.b))
        c = np.zeros(len(terms), self.c.code_dtype)
        for row, term in enumerate(terms):
            for place, (sign, exp) in term.items():
                if place == self.k:
                    c[row] = _power(self.c, sign, exp)
                else:
                    a[row, place], b[row, place] = self.factors(sign, exp)
        return self.ask(a, b, c)

    # --- the tree ---

    def tree(self) -> Node:
        """From which thirds are lost between each two leaves; in the root's frac nothing is measured yet."""
        leaves = range(self.k + 1)
        triples = [(i, j, t) for i, j in itertools.combinations(leaves, 2) for t in leaves if t not in (i, j)]
        tiny = _power(self.d, 1, self.low)
        kept: list[bool] = []
        for start in range(0, len(triples), 1 << 14):
            part = triples[start:start + (1 << 14)]
            answers = self.products([{i: (1, self.top), j: (-1, self.top), t: (1, self.low)} for i, j, t in part])
            kept += (answers == tiny).tolist()
        lost: dict[tuple[int, int], set[int]] = {pair: set() for pair in itertools.combinations(leaves, 2)}
        for (i, j, t), survived in zip(triples, kept):
            if not survived:
                lost[i, j].add(t)
        return _grow(list(leaves), lambda i, j: lost[min(i, j), max(i, j)])       # type: ignore[return-value]

    # --- what a few sums show ---

    def observe(self) -> dict[str, str]:
        """What becomes of zeros, subnormals, infinity and NaN, where the formats can ask."""
        a, b, c, d = self.a, self.b, self.c, self.d
        least_a, least_c, least_d = a.emin - a.frac_bits, c.emin - c.frac_bits, d.emin - 1
        asks: dict[str, tuple[list[tuple[int, int]], int]] = {}
        if b.emin <= max(0, d.emin - least_a) <= b.emax:
            asks["subnormal a"] = [(1 << a.low_pad, _power(b, 1, max(0, d.emin - least_a)))], 0
        if c.emin <= d.emin and least_c >= d.emin - d.frac_bits:
            asks["subnormal C"] = [], 1 << c.low_pad
        if a.emin + b.emin <= least_d:
            asks["subnormal D"] = [self.factors(1, least_d)], 0
        if c.has_negative_zero:
            asks["C = -0"] = [], c.sign
            if self.k > 1:
                asks["1 - 1 - 0"] = [self.factors(1, 0), self.factors(-1, 0)], c.sign
        if c.inf_code is not None:
            asks["C = Inf"] = [], c.inf_code
            asks["C = -NaN"] = [], c.sign | c.inf_code | 1 << c.low_pad
        if a.nan_code is not None:
            asks["a = NaN"] = [(a.nan_code, _power(b, 1, b.emin))], 0
        if c == d and self.top >= d.emax - d.frac_bits:
            asks["overflow"] = [self.factors(1, d.emax - d.frac_bits)], c.max_code
        wide = np.zeros((2, len(asks), self.k), np.uint64)
        for row, (products, _) in enumerate(asks.values()):
            for place, pair in enumerate(products):
                wide[:, row, place] = pair
        answers = self.ask(wide[0].astype(a.code_dtype), wide[1].astype(b.code_dtype),
                           np.array([code for _, code in asks.values()], c.code_dtype))
        told = {name: show.describe(d, int(code)) for name, code in zip(asks, answers)}
        words = {name: "kept" if int(code) & d.magnitude else "flushed" for name, code in zip(asks, answers)}
        return {name: f"{words[name]}: {text}" if name.startswith("sub") else text for name, text in told.items()}


def _power(fmt: Float, sign: int, exp: int) -> int:
    return encode(fmt, Number(sign < 0, 1, exp), "rz", "error")


def _grow(leaves: list[int], lost: Callable[[int, int], set[int]]) -> int | Node:
    """The tree over `leaves`, from what is lost between each two of them.

    Two leaves meet in the smaller subtree the less is lost. From the first leaf upwards, those that meet it at the same
    size join in one addition, in parts that met among themselves before; a part of which nothing is lost was not
    rounded before, so its leaves are addends themselves.
    """
    node: int | Node = leaves[0]
    first, rest = leaves[0], leaves[1:]
    for size in sorted({len(lost(first, j)) for j in rest}):
        here = [j for j in rest if len(lost(first, j)) == size]
        parts: list[list[int]] = []
        for j in here:
            near = [part for part in parts if any(len(lost(i, j)) < size for i in part)]
            parts = [part for part in parts if part not in near] + [[j, *itertools.chain(*near)]]
        children: list[int | Node] = [node]
        for part in parts:
            if len(part) > 1 and lost(first, part[0]) & set(part):
                children.append(_grow(sorted(part), lost))
            else:
                children += part
        node = Node(tuple(children))
    return node


def _measure(machine: _Machine, node: Node) -> Node:
    """The tree with the fraction bits that each addition keeps: a pair that cancels, and a third ever further below."""
    children = tuple(_measure(machine, child) if isinstance(child, Node) else child for child in node.children)
    kept = None
    places = [child if isinstance(child, int) else _any_leaf(child) for child in children]
    if len(places) > 2:
        products = sorted(places)[:3] if machine.k in sorted(places)[:2] else sorted(places)
        i, j, t = products[:3]
        downs = range(1, machine.top - machine.low + 1)
        top = machine.top
        answers = machine.products([{i: (1, top), j: (-1, top), t: (1, top - q)} for q in downs])
        whole = [q for q, code in zip(downs, answers) if code == _power(machine.d, 1, machine.top - q)]
        lost = [q for q in downs if q not in whole]
        kept = _EXACT if not lost else max((q for q in whole if q < lost[0]), default=0)
    return Node(children, kept)


def _any_leaf(node: Node) -> int:
    first = node.children[0]
    return first if isinstance(first, int) else _any_leaf(first)


# --- questions --------------------------------------------------------------------------------------------------------

Vectors = tuple[np.ndarray, np.ndarray, np.ndarray]


def _vectors(machine: _Machine, tree: Node, count: int, seed: int) -> Vectors:
    """Every directed probe and `count` cases of emulator.cases, one dot product each, aimed at what was measured."""
    fracs = sorted({f for f in _fracs(tree) if f < _EXACT}) or [machine.d.frac_bits + 2]
    parts = []
    for frac in fracs:
        stub = define("probe", **_base(machine), frac=frac)
        made = cases.generate(stub, cases.probe_tiles(stub) + count, seed)
        parts.append((made.a[:, 0], made.b[:, :, 0], made.c[:, 0, 0]))
    a, b, c = (np.concatenate(part) for part in zip(*parts))
    return a, b, c


def _fracs(node: Node) -> Iterator[int]:
    if node.frac is not None:
        yield node.frac
    for child in node.nodes:
        yield from _fracs(child)


def _answers(unit: Unit, vectors: Vectors, part: slice = slice(None)) -> np.ndarray:
    a, b, c = (x[part] for x in vectors)
    return unit.dot_codes(a, b, c)


def _first_difference(unit: Unit, vectors: Vectors, want: np.ndarray) -> int | None:
    """The first question to which the unit has another answer; asked in growing parts, as most units soon fail."""
    start, size = 0, 64
    while start < len(want):
        part = slice(start, start + size)
        wrong = np.flatnonzero(_answers(unit, vectors, part) != want[part])
        if len(wrong):
            return start + int(wrong[0])
        start, size = start + size, size * 2
    return None


def _story(unit: Unit, vectors: Vectors, want: np.ndarray) -> tuple[int, str]:
    """How many answers are wrong, and the first of them in words."""
    got = _answers(unit, vectors)
    wrong = np.flatnonzero(got != want)
    where = int(wrong[0])
    asked = ", ".join(f"{name} {' '.join(hex(code) for code in np.atleast_1d(x[where]))}"
                      for name, x in zip("abc", vectors))
    mine, machines = (show.describe(unit.d, int(x[where])) for x in (got, want))
    return len(wrong), (f"{unit}: {len(wrong):,} of {len(got):,} answers differ, first {mine} for the machine's "
                        f"{machines}: {asked}")


# --- candidates -------------------------------------------------------------------------------------------------------

def _rows(machine: _Machine) -> list[Unit]:
    """The rows of every architecture with this k and these formats."""
    formats = machine.a, machine.b, machine.c, machine.d
    return [instruction(arch, name if row.n else name.replace("nNk", "n16k"))
            for arch in ARCHS for name, row in table(arch).items()
            if row.k == machine.k and not row.block and (row.a, row.b, row.c, row.d) == formats]


def _base(machine: _Machine) -> dict[str, Any]:
    return {"shape": f"m1n1k{machine.k}", "a": machine.a, "b": machine.b, "c": machine.c, "d": machine.d}


def _named(machine: _Machine) -> list[Unit]:
    """Each method of the specification that needs no adder, over the machine's formats."""
    found: list[Unit] = []
    for method in METHODS:
        try:
            unit = define(method, **_base(machine), method=method)
            dot(unit, [0] * machine.k, [0] * machine.k)
            unit.dot_codes(*np.zeros((2, 1, machine.k), int))
        except (EmulatorError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            continue                            # a method for rows of another kind
        found.append(unit)
    return found


def _general(machine: _Machine, tree: Node) -> dict[str, Any] | None:
    """The columns of a general unit (emulator.define) with this tree, before any but frac is known; None if no such
    unit sums in this way."""
    c, groups, join = machine.k, [], "with"
    node: Node | None = tree
    if tree.leaves == [c] and len(tree.children) == 2:
        node, join = tree.nodes[0], "last"
    while node:
        leaves, nodes = [k for k in node.leaves if k != c], node.nodes
        if len(node.children) == 2 and nodes and not leaves and not nodes[-1].nodes and c not in nodes[-1].leaves:
            join = "each"                       # the sum of a group meets what came before: a sum, or C itself
            groups.append(nodes[-1].leaves)
            nodes = nodes[:-1]
        elif len(nodes) > 1 or not leaves:
            return None
        else:
            groups.append(leaves)
        node = nodes[0] if nodes else None
    kept = [frac for frac in _fracs(tree) if frac < _EXACT]
    return {**_base(machine), "order": groups[::-1], "join": join, "frac": max(kept, key=kept.count) if kept else None,
            "cut": "rz", "carry": 7, "rounding": "rz", "precision": machine.d.frac_bits, "add": "rne"}


def _columns(row: Instruction) -> dict[str, Any] | None:
    """The columns of a row of the table: as `_general` has them where it is such a unit, else those its method reads.
    None for a method that needs no adder."""
    if not row.adder:
        return None
    if row.method not in ("chain", "fp8_through_f16"):
        return {"shape": f"m1n1k{row.k}", "a": row.a, "b": row.b, "c": row.c, "d": row.d, "method": row.method,
                "terms": row.terms, "frac": row.adder.frac, "floor": row.floor, "rounding": row.rounding}
    order = [list(range(start, min(start + row.terms, row.k))) for start in range(0, row.k, row.terms)]
    if row.method != "chain":
        order = [[k for k in range(row.k) if k % 4 // 2 == half] for half in (0, 1)]
    return {"shape": f"m1n1k{row.k}", "a": row.a, "b": row.b, "c": row.c, "d": row.d, "order": order,
            "join": "with" if row.method == "chain" else "last", "frac": row.adder.frac, "cut": "rz",
            "carry": row.adder.carry, "rounding": row.rounding, "precision": row.precision, "add": "rne"}


def _build(columns: dict[str, Any]) -> Defined:
    return define("found", **columns)


def _choices(columns: dict[str, Any]) -> dict[str, list[Any]]:
    """The values that each column may have. A sum that cuts nothing has no floor and no cut."""
    modes = [mode for mode in MODES if mode not in STOCHASTIC]
    frac, bits = columns["frac"], columns["d"].frac_bits
    if "method" in columns:                     # which reads these at least
        k = int(columns["shape"].rpartition("k")[2])
        few: dict[str, list[Any]] = {"terms": [1 << i for i in range(k.bit_length())]}
        return {**few, "frac": [frac - 1, frac, frac + 1]} if frac else few
    some: dict[str, list[Any]] = {"rounding": modes, "precision": list(range(max(bits - 13, 0), bits + 1))}
    if frac is not None:
        some |= {"frac": [frac - 1, frac, frac + 1], "cut": modes, "carry": list(range(16))}
    return {**some, "add": modes} if columns["join"] != "with" else some


def _descend(columns: dict[str, Any], vectors: Vectors, want: np.ndarray) -> tuple[dict[str, Any], int]:
    """Column after column takes the value with the fewest wrong answers, until nothing changes."""
    def wrong(change: dict[str, Any]) -> int:
        return int(np.count_nonzero(_answers(_build({**columns, **change}), vectors) != want))
    best, before = wrong({}), -1
    while best and best != before:
        before = best
        for name, values in _choices(columns).items():
            for value in values if best else []:
                if value != columns[name] and (count := wrong({name: value})) < best:
                    best, columns = count, {**columns, name: value}
    return columns, best


def _unsettled(columns: dict[str, Any], vectors: Vectors, want: np.ndarray) -> dict[str, list[Any]]:
    """For each column the other values that give every answer too."""
    found = {name: [value for value in values if value != columns[name] and _first_difference(
        _build({**columns, name: value}), vectors, want) is None] for name, values in _choices(columns).items()}
    return {name: values for name, values in found.items() if values}


# --- words ------------------------------------------------------------------------------------------------------------

def tree_text(node: int | Node, k: int) -> str:
    """`{C 0..7} > {8..15}`: a sum of C and eight products, then of that and eight more; `(.. + ..)`: two sums meet."""
    if isinstance(node, int):
        return "C" if node == k else str(node)
    steps: list[list[int]] = []
    inner: Node = node
    while len(inner.nodes) == 1:
        steps.insert(0, inner.leaves)
        inner = inner.nodes[0]
    if inner.nodes:
        texts = ((child, tree_text(child, k)) for child in inner.children)
        chains = (f"({told})" if isinstance(child, Node) and len(child.nodes) == 1 else told for child, told in texts)
        text = "(" + " + ".join(chains) + ")"
    else:
        text = _set_text(inner.leaves, k)
        if len(inner.leaves) == 2 and steps and all(len(step) == 1 for step in steps):
            text = " > ".join(tree_text(i, k) for i in sorted(inner.leaves, key=lambda i: i != k))
    told = [_set_text(step, k) for step in steps]
    if len(told) > 6:
        told = [*told[:2], "...", told[-1]]
    return " > ".join([text, *told])


def _set_text(leaves: list[int], k: int) -> str:
    if len(leaves) == 1:
        return "C" if leaves[0] == k else str(leaves[0])
    runs: list[list[int]] = []
    for leaf in sorted(set(leaves) - {k}):
        if runs and leaf == runs[-1][-1] + 1:
            runs[-1].append(leaf)
        else:
            runs.append([leaf])
    words = [f"{run[0]}..{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs]
    return "{" + " ".join(["C"] * (k in leaves) + words) + "}"
