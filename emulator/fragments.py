"""Which lane and register holds element (i, j): fragments of matrix instructions, and of the copies that fill them.

A fragment is two lists of modes, as in CuTe's layouts: the number of a lane, and that of a value inside it, are counted
in mixed radix, first mode fastest, and each digit moves the element by so many rows and columns. Sources: [PTX] NVIDIA
PTX ISA 9.0, 9.7.14 and 9.7.15 (mma, wgmma, ldmatrix, stmatrix, movmatrix) and 9.7.16 (tcgen05); [CUTE] NVIDIA CUTLASS
7107b05, include/cute/atom, which also gives the order of bits where the text of [PTX] drops a modulus (m16n8k256).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from . import arrays
from .errors import BadOperand, UnknownInstruction
from .instructions import Instruction

__all__ = ["Fragment", "copy_fragment", "fragment", "movmatrix"]

Array = np.ndarray
Mode = tuple[int, ...]          # (size, rows, columns) that one step of the digit moves; (size,): a selector's digit
Modes = tuple[Mode, ...]


@dataclass(frozen=True)
class Fragment:
    """A matrix of rows x cols elements spread over the lanes of a warp (or of a warpgroup) and their registers.

    Values fill a register of `word` bits from its lowest: each has a place of `place` bits, and an element's `bits` lie
    `shift` bits above the place's lowest; the others are ignored. Where a mode is a selector's, only lanes and values
    whose digit equals that of `select`, in the order of the modes, take part.
    """

    name: str
    rows: int
    cols: int
    bits: int
    lanes: Modes
    values: Modes
    place: int = 0              # 0: as wide as the element
    shift: int = 0
    word: int = 32
    select: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def threads(self) -> int:
        return math.prod(size for size, *_ in self.lanes)

    @property
    def registers(self) -> int:
        """Registers of `word` bits in each lane."""
        return math.prod(size for size, *_ in self.values) * (self.place or self.bits) // self.word

    @cached_property
    def index(self) -> Array:
        """Element row * cols + column at [lane, value]; -1 where the hardware ignores the value."""
        lane, value = _walk(self.lanes, self.select), _walk(self.values, self.select[len(_selectors(self.lanes)):])
        row, column = (x[:, None] + y for x, y in zip(lane[:2], value[:2]))
        return np.where(lane[2][:, None] & value[2], row * self.cols + column, -1)

    @cached_property
    def inverse(self) -> Array:
        """Place lane * values + value of each element, (rows, cols)."""
        flat = self.index.ravel()
        used = np.flatnonzero(flat >= 0)
        found = np.empty(self.rows * self.cols, np.intp)
        found[flat[used]] = used
        return found.reshape(self.rows, self.cols)

    def where(self, row: int, column: int) -> tuple[int, int, int]:
        """Lane, register and lowest bit of an element. Raises BadOperand outside the matrix."""
        if not (0 <= row < self.rows and 0 <= column < self.cols):
            raise BadOperand(f"({row}, {column}) lies outside {self}, which is {self.rows} x {self.cols}")
        lane, value = divmod(int(self.inverse[row, column]), self.index.shape[1])
        register, at = divmod(value, self.word // (self.place or self.bits))
        return lane, register, at * (self.place or self.bits) + self.shift

    def pack(self, codes: Any) -> Array:
        """Registers (..., threads, registers), unsigned words, from unsigned codes (..., rows, cols).

        Registers and bits that the instruction ignores are zero. Raises BadOperand.
        """
        x = np.asarray(codes)
        if x.shape[-2:] != (self.rows, self.cols) or x.dtype.kind != "u":
            raise BadOperand(f"codes is {x.dtype.name} {x.shape}; {self} packs unsigned codes (..., {self.rows}, "
                             f"{self.cols})")
        spread = x.reshape(*x.shape[:-2], -1)[..., np.maximum(self.index, 0)]
        if self.select:
            spread = np.where(self.index >= 0, spread, 0)
        place = self.place or self.bits
        if place < 8:
            packed = arrays.pack(spread.astype(np.uint8), place)
        else:
            packed = np.ascontiguousarray(spread.astype(f"<u{place // 8}") << self.shift)
        return packed.view(f"<u{self.word // 8}").astype(f"u{self.word // 8}", copy=False)

    def unpack(self, words: Any) -> Array:
        """The codes (..., rows, cols) that lie in registers (..., threads, registers). Raises BadOperand."""
        x = np.asarray(words)
        if x.shape[-2:] != (self.threads, self.registers) or x.dtype != np.dtype(f"u{self.word // 8}"):
            raise BadOperand(f"words is {x.dtype.name} {x.shape}; {self} unpacks uint{self.word} (..., {self.threads}, "
                             f"{self.registers})")
        place = self.place or self.bits
        little = np.ascontiguousarray(x.astype(f"<u{self.word // 8}", copy=False))
        if place < 8:
            values = arrays.unpack(little.view(np.uint8), place)
        else:
            values = little.view(f"<u{place // 8}").astype(f"u{place // 8}", copy=False)
        found = values.reshape(*values.shape[:-2], -1)[..., self.inverse]
        return found if self.bits == place else found >> self.shift & ((1 << self.bits) - 1)

    def table(self) -> str:
        """The map as text, an element a cell: `lane:register`, `lane:register.bit` where a register holds several."""
        several = self.word > (self.place or self.bits)
        cells = [["", *map(str, range(self.cols))]]
        for row in range(self.rows):
            found = [self.where(row, column) for column in range(self.cols)]
            cells.append([str(row), *(f"{lane}:{reg}" + f".{bit}" * several for lane, reg, bit in found)])
        width = [max(map(len, column)) for column in zip(*cells)]
        head = (f"{self}: {self.rows} x {self.cols} elements of {self.bits} bits, {self.threads} lanes, "
                f"{self.registers} registers of {self.word} bits; lane:register" + ".bit" * several)
        return "\n".join([head, *("  ".join(c.rjust(w) for c, w in zip(line, width)) for line in cells)])


def _selectors(modes: Modes) -> list[int]:
    return [i for i, mode in enumerate(modes) if len(mode) == 1]


def _walk(modes: Modes, select: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Row, column and whether it takes part, of every number that the modes count."""
    row, column, used = np.zeros(1, np.intp), np.zeros(1, np.intp), np.ones(1, bool)
    chosen = iter(select)
    for size, *step in modes:
        digit = np.arange(size)[:, None]
        wanted = None if step else next(chosen)
        down, right = step or (0, 0)
        row, column = (row + down * digit).ravel(), (column + right * digit).ravel()
        used = (used & (True if wanted is None else digit == wanted) & (digit >= 0)).ravel()
    return row, column, used


# --- the rows --------------------------------------------------------------------------------------------------------
# q = lane % 4 and g = lane // 4 are the modes (4, ...), (8, ...) of most of them.

def _operands(e: int, k: int, n: int, m: int, chunks: int) -> dict[str, tuple[int, int, Modes, Modes]]:
    """Rows, columns, lanes and values of the operands of matrix instructions; e: elements per 32 bits (FP64: 1)."""
    over, spare = max(k // (4 * e), 1), 4 // chunks         # groups of four lanes along k; scales of other byte ids
    row_a, col_a = ((4, 1, 0), (4, 8, 0), (2, 4, 0)), ((4, 0, 1), (4, 8, 0), (2, 4, 0))
    return {
        "m16n8 a":    (16, k,   ((4, 0, e), (8, 1, 0)),             ((e, 0, 1), (2, 8, 0), (over, 0, 4 * e))),
        "m16n8 b":    (k, 8,    ((4, e, 0), (8, 0, 1)),             ((e, 1, 0), (over, 4 * e, 0))),
        "m16n8 d":    (16, 8,   ((4, 0, 2), (8, 1, 0)),             ((2, 0, 1), (2, 8, 0))),
        "m8n8 a":     (8, k,    ((4, 0, e), (8, 1, 0)),             ((e, 0, 1), (over, 0, 4 * e))),
        "m8n8 b":     (k, 8,    ((4, e, 0), (8, 0, 1)),             ((e, 1, 0), (over, 4 * e, 0))),
        "m8n8 d":     (8, 8,    ((4, 0, 2), (8, 1, 0)),             ((2, 0, 1),)),
        # Volta: quad pair p = lane // 4 % 4 holds a product of its own; the four stand on top of each other
        "volta a row": (32, 4,  row_a,                              ((4, 0, 1),)),
        "volta a col": (32, 4,  col_a,                              ((4, 1, 0),)),
        "volta b row": (16, 8,  ((4, 1, 0), (4, 4, 0), (2, 0, 4)),  ((4, 0, 1),)),
        "volta b col": (16, 8,  ((4, 0, 1), (4, 4, 0), (2, 0, 4)),  ((4, 1, 0),)),
        "volta d f16": (32, 8,  row_a,                              ((8, 0, 1),)),
        "volta d f32": (32, 8,  ((2, 1, 0), (2, 0, 2), (4, 8, 0), (2, 4, 0)), ((2, 0, 1), (2, 2, 0), (2, 0, 4))),
        "wgmma a":    (64, k,   ((4, 0, e), (8, 1, 0), (4, 16, 0)), ((e, 0, 1), (2, 8, 0), (over, 0, 4 * e))),
        "wgmma d":    (64, n,   ((4, 0, 2), (8, 1, 0), (4, 16, 0)), ((2, 0, 1), (2, 8, 0), (n // 8, 0, 8))),
        # TMEM: a lane of it and a column of 32 bits; M = 64 uses the lower half of each warp's 32 lanes
        "tmem d 128": (128, n,  ((128, 1, 0),),                     ((n, 0, 1),)),
        "tmem d 64":  (64, n,   ((16, 1, 0), (2,), (4, 16, 0)),     ((n, 0, 1),)),
        # block scales: thread-id-a picks a pair of q, thread-id-b one q; byte-id the first byte
        "scale_a":    (16, chunks, ((2, 8, 0), (2,), (8, 1, 0)),    ((chunks, 0, 1), (spare,))),
        "scale_b":    (chunks, 8,  ((4,), (8, 0, 1)),               ((chunks, 1, 0), (spare,))),
    }


def _copies(x: int) -> dict[str, tuple[int, int, int, Modes, Modes, str, str]]:
    """Rows, columns, bits, lanes, values, legal xN and targets of the copies.

    The rows of ldmatrix and stmatrix are 16 bytes each in shared memory, those of matrix m under those of m - 1; the
    address of row r comes from lane r. The rows of tcgen05 are lanes of TMEM, its columns are 32 bits wide.
    """
    new, sm100 = "sm_100 sm_120", "sm_100"                          # their a and f targets
    hopper, turing = "sm_90 " + new, "sm_75 sm_80 sm_86 sm_89 sm_90 " + new
    few, many = "1 2 4", "1 2 4 8 16 32 64 128"
    halves, bytes_, over = ((4, 0, 2), (8, 1, 0)), ((4, 0, 4), (8, 1, 0)), (x, 8, 0)
    down, fours = ((4, 2, 0), (8, 0, 1)), ((4, 4, 0), (8, 0, 1))    # transposed: a lane goes down a column
    eight, bytewise, square = ((2, 0, 1), over), ((4, 0, 1), over), ((4, 1, 0), (2, 0, 8), (x, 16, 0))
    return {
        "ldmatrix.m8n8.b16":                     (8 * x, 8, 16, halves, eight, few, turing),
        "ldmatrix.m8n8.trans.b16":               (8 * x, 8, 16, down, ((2, 1, 0), over), few, turing),
        "ldmatrix.m8n16.b8x16.b6x16_p32":        (8 * x, 16, 8, bytes_, bytewise, few, new),
        "ldmatrix.m8n16.b8x16.b4x16_p64":        (8 * x, 16, 8, bytes_, bytewise, few, new),
        "ldmatrix.m16n16.trans.b8":              (16 * x, 16, 8, fours, square, "1 2", new),
        "ldmatrix.m16n16.trans.b8x16.b6x16_p32": (16 * x, 16, 8, fours, square, "1 2", new),
        "ldmatrix.m16n16.trans.b8x16.b4x16_p64": (16 * x, 16, 8, fours, square, "1 2", new),
        "stmatrix.m8n8.b16":                     (8 * x, 8, 16, halves, eight, few, hopper),
        "stmatrix.m8n8.trans.b16":               (8 * x, 8, 16, down, ((2, 1, 0), over), few, hopper),
        "stmatrix.m16n8.trans.b8":               (8 * x, 16, 8, down, ((2, 1, 0), (2, 0, 8), over), few, new),
        "tcgen05.32x32b":   (32, x, 32,     ((32, 1, 0),),                     ((x, 0, 1),), many, sm100),
        "tcgen05.16x64b":   (16, 2 * x, 32, ((2, 8, 0), (2, 0, 1), (8, 1, 0)), ((x, 0, 2),), many, sm100),
        "tcgen05.16x128b":  (16, 4 * x, 32, ((4, 0, 1), (8, 1, 0)), ((2, 8, 0), (x, 0, 4)), many[:-4], sm100),
        "tcgen05.16x256b":  (16, 8 * x, 32, halves, ((2, 0, 1), (2, 8, 0), (x, 0, 8)), many[:-7], sm100),
        "tcgen05.16x32bx2": (16, 2 * x, 32, ((16, 1, 0), (2, 0, x)),           ((x, 0, 1),), many, sm100),
    }


# --- names to rows ---------------------------------------------------------------------------------------------------

def fragment(on: Instruction, operand: str, layout: str = "", thread_id: int = 0, byte_id: int = 0) -> Fragment:
    """The fragment of operand a, b, c, d, scale_a or scale_b of a matrix instruction.

    mma.sync: registers of a warp; wgmma: of a warpgroup (b is read from shared memory); tcgen05.mma: d in TMEM, lanes
    of which stand for threads. layout: `row` or `col` for a and b of Volta's m8n8k4 (default: row for a, col for b).
    thread_id, byte_id: the selectors of block scales. FP4 and FP6 of kind::f8f6f4 and mxf8f6f4 travel in bytes, FP4 in
    bits 5:2. Raises BadOperand for an operand that is not in registers, a selector that is not legal.
    """
    wide = {"a": on.a, "b": on.b, "c": on.c, "d": on.d, "scale_a": on.scale, "scale_b": on.scale}
    fmt = wide.get(operand)
    if fmt is None:
        raise BadOperand(f"{on} has no operand {operand!r}; it has {', '.join(x for x in wide if wide[x])}")
    op = on.name.split(".")[0]
    if op not in ("mma", "wgmma", "tcgen05"):
        raise BadOperand(f"{on}: fragments are known of mma, wgmma and tcgen05.mma")
    volta = op == "mma" and on.m == 8 and on.a.bits == 16
    if layout and not (volta and operand in "ab" and layout in ("row", "col")):
        raise BadOperand(f"layout is {layout!r}; only a and b of m8n8k4.f16 have `row` and `col`, {operand} of {on} "
                         "has one fragment")
    if op != "mma" and (operand not in "acd" or op == "tcgen05" and operand == "a"):
        place = "TMEM" if operand.startswith("scale") else "shared memory"
        raise BadOperand(f"{on} reads {operand} from {place}, not from registers: see emulator.shared")
    kind = "d" if operand in "cd" else operand
    key = {"mma": f"m{on.m}n8 {kind}", "wgmma": f"wgmma {kind}", "tcgen05": f"tmem d {on.m}"}[op]
    if volta:
        key = f"volta {kind} " + ({16: "f16", 32: "f32"}[fmt.bits] if kind == "d" else
                                  layout or {"a": "row", "b": "col"}[kind])
    chunks = on.k // on.block if on.block else 1
    if kind.startswith("scale"):
        key = kind
        ids, threads = range(0, 4, chunks), range(2 if kind == "scale_a" else 4)
        if thread_id not in threads or byte_id not in ids:
            raise BadOperand(f"thread_id {thread_id}, byte_id {byte_id}: {kind} of {on} takes thread_id in "
                             f"{list(threads)} and byte_id in {list(ids)}")
    container = bool(re.search(r"kind::(mx)?f8f6f4", on.name)) and kind in "ab"
    width = 8 if container else 32 if op == "tcgen05" else fmt.bits
    rows, cols, lanes, values = _operands(max(32 // width, 1), on.k, on.n, on.m, chunks)[key]
    select = (thread_id, byte_id // chunks) if kind.startswith("scale") else (0,) * len(_selectors(lanes))
    shift = 2 if container and fmt.bits == 4 else 0
    return Fragment(f"{on} {operand}" + f" {layout}" * bool(layout), rows, cols, fmt.bits, lanes, values, width, shift,
                    max(32, fmt.bits), select)


def copy_fragment(name: str, arch: str | None = None) -> Fragment:
    """The fragment of a copy between shared memory or TMEM and registers: `ldmatrix.m8n8.x4.trans.b16`,
    `stmatrix.m16n8.x2.trans.b8`, `tcgen05.ld.16x64b.x8`, ...; words such as sync, aligned and shared are ignored.

    rows x cols is what lies in memory: 16-byte rows of ldmatrix and stmatrix (packed FP6 and FP4 once unpacked to
    bytes), lanes and 32-bit columns of TMEM (of 16x32bx2: the first half's columns, then the second's).
    With arch, only what that architecture has. Raises UnknownInstruction, naming the legal ones.
    """
    words = [w for w in name.lower().split(".") if w not in ("sync", "aligned", "shared", "ld", "st", "shared::cta")]
    counts = [w for w in words if re.fullmatch(r"x\d+", w)]
    key, x = ".".join(w for w in words if w not in counts), int(counts[0][1:]) if counts else 1
    row = _copies(x).get(key)
    if row is None or str(x) not in row[5].split():
        legal = row and f"takes .x{', .x'.join(row[5].split())}"
        raise UnknownInstruction(f"{name}: {legal or 'no such copy; there are ' + ', '.join(_copies(1))}")
    rows, cols, bits, lanes, values, _, targets = row
    if arch and arch not in targets.split():
        raise UnknownInstruction(f"{arch} has no {name}; {', '.join(targets.split())} have it")
    return Fragment(name, rows, cols, bits, lanes, values)


def movmatrix(words: Array) -> Array:
    """movmatrix.sync.aligned.m8n8.trans.b16: the 8 x 8 fragment (..., 32, 1) of a warp, transposed."""
    return copy_fragment("ldmatrix.m8n8.x1.trans.b16").pack(copy_fragment("ldmatrix.m8n8.x1.b16").unpack(words))

