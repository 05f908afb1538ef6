"""Shared memory: bytes in 32 banks, swizzles, canonical layouts and descriptors, copies into it, exact conflict counts.

Addresses are bytes, data are unsigned codes. Sources: [PTX] NVIDIA PTX ISA 9.0, 5.5 (tensors, swizzling modes), 9.7.9
(cp.async), 9.7.14 to 9.7.16 (ldmatrix, matrix and instruction descriptors); [CUTE] NVIDIA CUTLASS 7107b05,
include/cute: swizzle.hpp, arch/mma_sm90_desc.hpp, arch/mma_sm100_desc.hpp; [CG] CUDA C++ Programming Guide, shared
memory: one wavefront serves one 4-byte word of each bank, to as many lanes as ask for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import arrays, sm
from .errors import BadOperand
from .fragments import copy_fragment
from .instructions import Instruction

__all__ = ["BANKS", "SWIZZLES", "Access", "Descriptor", "Panels", "SharedMemory", "TensorMap", "access",
           "from_rows", "instruction_descriptor", "pad16", "scale_offsets", "swizzle",
           "to_rows", "unpad16"]

Array = np.ndarray
BANKS = 32                      # of 4 bytes each

# name: XOR rules (mask of the bits that are read, distance down to those they flip), span of a row, repeats every
SWIZZLES: dict[str, tuple[tuple[tuple[int, int], ...], int, int]] = {
    "none":                  ((), 16, 16),
    "32B":                   (((0x080, 3),), 32, 256),
    "64B":                   (((0x180, 3),), 64, 512),
    "128B":                  (((0x380, 3),), 128, 1024),
    "128B_ATOM_32B":         (((0x180, 2),), 128, 512),
    "128B_ATOM_32B_FLIP_8B": (((0x180, 2), (0x080, 4)), 128, 512),
    "128B_ATOM_64B":         (((0x080, 1),), 128, 256),
    "96B":                   (((0x080, 3),), 96, 256),
}


def swizzle(address: Any, mode: str, base: int = 0) -> Any:
    """Where mode `mode` puts the byte that lies at `address` without it; its own inverse.

    base: the descriptor's base offset, where a pattern does not start at a multiple of its size: the row counts from
    there. Raises BadOperand.
    """
    rows, out = address - (base << 7), address
    for mask, down in _rule(mode)[0]:
        out = out ^ (rows & mask) >> down
    return out


def _rule(mode: str) -> tuple[tuple[tuple[int, int], ...], int, int]:
    if mode not in SWIZZLES:
        raise BadOperand(f"swizzle {mode!r} is not one of {', '.join(SWIZZLES)}")
    return SWIZZLES[mode]


# --- accesses --------------------------------------------------------------------------------------------------------

@dataclass
class Access:
    """What accesses of warps cost: bytes moved, requests, phases (one wavefront each at best), wavefronts needed.

    ways: wavefronts of the worst phase, 1 without conflicts.
    """

    bytes: int = 0
    requests: int = 0
    phases: int = 0
    wavefronts: int = 0
    ways: int = 0

    @property
    def conflicts(self) -> int:
        """Wavefronts beyond one per phase."""
        return self.wavefronts - self.phases

    def __add__(self, other: Access) -> Access:
        return Access(self.bytes + other.bytes, self.requests + other.requests, self.phases + other.phases,
                      self.wavefronts + other.wavefronts, max(self.ways, other.ways))

    def times(self, count: int) -> Access:
        return Access(self.bytes * count, self.requests * count, self.phases * count, self.wavefronts * count,
                      self.ways)


def access(addresses: Any, width: int) -> Access:
    """The cost of warp accesses of `width` bytes per lane at byte addresses (..., up to 32 lanes); -1: lane inactive.

    Up to 4 bytes the whole warp is one phase, 8 bytes are served by half warps, 16 by groups of 8 lanes (so are the
    8-row matrices of ldmatrix) [CG]. Hardware may merge phases further; that is not modelled.
    Raises BadOperand for an address that is not a multiple of the width.
    """
    found = degrees(addresses, width)
    requests = math.prod(np.shape(addresses)[:-1])
    active = int(np.count_nonzero(np.asarray(addresses) >= 0))
    worst = found.max(-1)
    return Access(active * width, requests, int(np.count_nonzero(worst)), int(worst.sum()),
                  int(worst.max(initial=0)))


def degrees(addresses: Any, width: int) -> Array:
    """Distinct words that each bank must give in each phase, (phases, 32)."""
    x = np.asarray(addresses)
    if width not in (1, 2, 4, 8, 16):
        raise BadOperand(f"width is {width}; a lane moves 1, 2, 4, 8 or 16 bytes")
    if x.dtype.kind not in "iu" or not x.ndim or x.shape[-1] > 32:
        raise BadOperand(f"addresses is {x.dtype.name} {x.shape}; it takes integers (..., up to 32 lanes)")
    x = x.astype(np.int64)
    if (x[x >= 0] % width).any():
        raise BadOperand(f"address {int(x[(x >= 0) & (x % width > 0)][0]):#x} is not a multiple of the {width} bytes "
                         "that each lane moves")
    together = 32 if width <= 4 else 128 // width
    x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % together)], constant_values=-1)
    x = x.reshape(-1, together)
    words = np.where(x[..., None] >= 0, x[..., None] // 4 + np.arange(max(1, width // 4)), -1).reshape(len(x), -1)
    words.sort(-1)
    first = np.ones(words.shape, bool)
    first[:, 1:] = words[:, 1:] != words[:, :-1]
    first &= words >= 0
    place = np.arange(len(x))[:, None] * BANKS + words % BANKS
    return np.bincount(place[first], minlength=len(x) * BANKS).reshape(-1, BANKS)


class SharedMemory:
    """The shared memory of thread blocks that run alike: `data` is (*blocks, size) bytes; `log` counts each kind.

    Raises BadOperand where an architecture lets no block have that much, naming it.
    """

    def __init__(self, size: int, arch: str | None = None, blocks: tuple[int, ...] = ()) -> None:
        if arch is not None and size > sm.machine(arch).block * 1024:
            most = sm.machine(arch).block
            raise BadOperand(f"{size:,} bytes of shared memory: a thread block of {sm.machine(arch).arch} has at most "
                             f"{most} KB, {most * 1024:,} bytes. Use smaller tiles or fewer stages")
        self.arch = arch
        self.data = np.zeros((*blocks, -(-size // 16) * 16), np.uint8)
        self.log: dict[str, Access] = {}

    @property
    def blocks(self) -> tuple[int, ...]:
        return self.data.shape[:-1]

    def load(self, addresses: Any, width: int, name: str = "load") -> Array:
        """Bytes (*blocks, ..., lanes, width) at byte addresses (..., lanes); zeros for inactive lanes (-1)."""
        at = self._count(name, addresses, width)
        unit = np.dtype("c16") if width == 16 else np.dtype(f"u{width}")        # any 16-byte type: it is only moved
        found = np.take(self.data.view(unit), np.maximum(at, 0) // width, axis=-1)
        found = found[..., None].view(np.uint8)
        return found if (at >= 0).all() else found * (at >= 0)[..., None]

    def store(self, addresses: Any, values: Array, name: str = "store") -> None:
        """Write values (*blocks, ..., lanes, width), uint8. Of lanes that write one byte, the last one wins here;
        hardware does not say which."""
        width = values.shape[-1]
        at = self._count(name, addresses, width)
        unit = np.dtype("c16") if width == 16 else np.dtype(f"u{width}")
        moved = np.ascontiguousarray(values).view(unit)[..., 0]
        keep = at >= 0
        self.data.view(unit)[..., at[keep] // width] = moved[..., keep]

    def _count(self, name: str, addresses: Any, width: int) -> Array:
        at = np.asarray(addresses)
        self.add(name, access(at, width).times(math.prod(self.blocks)))
        if at.size and int(at.max()) + width > self.data.shape[-1]:
            raise BadOperand(f"address {int(at.max()):#x}: this shared memory has {self.data.shape[-1]:#x} bytes")
        return at

    def add(self, name: str, cost: Access) -> None:
        """Count accesses of a kind."""
        self.log[name] = self.log.get(name, Access()) + cost

    def cp_async(self, addresses: Any, source: Array, size: Any = None, cache: str = "ca") -> None:
        """cp.async: source (*blocks, ..., lanes, width) bytes, of which only the first `size` (default: all; an array
        (*blocks, ..., lanes) or a number) are read and the rest filled with zeros. Raises BadOperand [PTX]."""
        width = source.shape[-1]
        if width not in ((16,) if cache == "cg" else (4, 8, 16)):
            raise BadOperand(f"cp.async.{cache} of {width} bytes; .ca copies 4, 8 or 16, .cg 16")
        if self.arch is not None and sm.machine(self.arch).arch in ("sm_70", "sm_75"):
            raise BadOperand(f"{self.arch} has no cp.async; it arrives with sm_80")
        if size is not None:
            source = np.where(np.arange(width) < np.asarray(size)[..., None], source, 0).astype(np.uint8)
        self.store(addresses, source, "cp.async")

    def ldmatrix(self, addresses: Any, name: str) -> Array:
        """Registers (*blocks, ..., 32, registers) of a ldmatrix (`ldmatrix.m8n8.x4.b16`, ...); addresses (..., 32), of
        which lane r gives that of the 16-byte row r. Raises UnknownInstruction, BadOperand."""
        form = copy_fragment(name, self.arch and sm.machine(self.arch).arch)
        rows = np.asarray(addresses)[..., :form.rows]
        found = self.load(rows, 16, "ldmatrix")
        for source, bits in (("b6x16_p32", 6), ("b4x16_p64", 4)):
            if source in name:
                found = unpad16(found, bits)
        return form.pack(found.view(f"<u{form.bits // 8}"))

    def stmatrix(self, addresses: Any, words: Array, name: str) -> None:
        """The inverse of ldmatrix. Raises UnknownInstruction, BadOperand."""
        form = copy_fragment(name, self.arch and sm.machine(self.arch).arch)
        rows = np.ascontiguousarray(form.unpack(words).astype(f"<u{form.bits // 8}", copy=False))
        self.store(np.asarray(addresses)[..., :form.rows], rows.view(np.uint8), "stmatrix")

    def read(self, descriptor: Descriptor, rows: int, k: int, item: int = 1, major: str = "K") -> Array:
        """The operand (*blocks, rows, k * item) bytes that a matrix unit reads through a descriptor: rows of M or N by
        k elements of `item` bytes (packed codes: bytes). Major "MN": rows are contiguous in memory instead."""
        at = descriptor.addresses(rows, k, item, major)
        if int(at.max()) + item > self.data.shape[-1]:
            raise BadOperand(f"{descriptor} reaches address {int(at.max()):#x}; this shared memory has "
                             f"{self.data.shape[-1]:#x} bytes")
        chunk = 8 if "FLIP" in descriptor.swizzle else 16       # contiguous bytes in every layout
        unit = np.dtype("c16" if chunk == 16 else "u8")
        lines, each = (at, item) if major == "K" else (at.T, item)
        first = lines[:, ::chunk // each] // chunk
        found = np.take(self.data.view(unit), first, axis=-1)[..., None].view(np.uint8)
        found = found.reshape(*self.blocks, *lines.shape, each)
        size = rows * k * item
        self.add("descriptor", Access(size, 1, -(-size // 128), -(-size // 128), 1).times(math.prod(self.blocks)))
        if major != "K":
            found = np.swapaxes(found, -2, -3)
        return found.reshape(*self.blocks, rows, k * item)


# --- packed sub-byte rows and scale factors in memory ----------------------------------------------------------------

def pad16(codes: Array, bits: int) -> Array:
    """6- or 4-bit codes (..., 16 j) as TMA and ldmatrix want them in shared memory: each 16 in 12 or 8 bytes, little
    end first, then 4 or 8 of padding (p32, p64), here zero: (..., 16 j) bytes."""
    packed = arrays.pack(codes.reshape(*codes.shape[:-1], -1, 16), bits)
    return np.pad(packed, [(0, 0)] * (packed.ndim - 1) + [(0, 16 - packed.shape[-1])]).reshape(codes.shape)


def unpad16(rows: Array, bits: int) -> Array:
    """The codes (..., 16 j), a byte each, that lie in such rows; the padding is ignored."""
    groups = np.ascontiguousarray(rows.reshape(*rows.shape[:-1], -1, 16)[..., :2 * bits])
    return arrays.unpack(groups, bits).reshape(rows.shape)


def to_rows(codes: Array, bits: int, padded: bool = False) -> Array:
    """Codes (..., k) of `bits` bits as rows of bytes (..., width), the first code lowest: whole codes of 8 bits or
    more; narrower ones packed, or `padded` (pad16) as kind::f8f6f4 and mxf8f6f4 read FP6 and FP4."""
    if bits >= 8:
        return np.ascontiguousarray(codes.astype(f"<u{bits // 8}", copy=False)).view(np.uint8)
    return pad16(codes, bits) if padded else arrays.pack(codes, bits)


def from_rows(rows: Array, bits: int, padded: bool = False) -> Array:
    """The codes in such rows."""
    if bits >= 8:
        return np.ascontiguousarray(rows).view(f"<u{bits // 8}").astype(f"u{bits // 8}", copy=False)
    return unpad16(rows, bits) if padded else arrays.unpack(rows, bits)


def scale_offsets(rows: int, blocks: int) -> Array:
    """Byte offset of the scale of row r and block c of K, (rows, blocks), in the layout that tcgen05.cp, cuBLASLt and
    CUTLASS read: 128 rows x 4 blocks in 512 bytes, ((32, 4), 4) : ((16, 4), 1); K inside, rows outside."""
    r, c = np.arange(rows)[:, None], np.arange(blocks)
    across = -(-blocks // 4)
    return (r // 128 * across + c // 4) * 512 + r % 32 * 16 + r // 32 % 4 * 4 + c % 4


# --- tiles in memory -------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Panels:
    """A tile of rows x width bytes: cut along its width into panels of `span` bytes, each row after row.

    span: that of the swizzle (a TMA box), or the whole width where there is none and rows stay whole. pad: bytes left
    free after each row of a panel. base: address of the tile.
    """

    rows: int
    width: int
    span: int
    swizzle: str = "none"
    pad: int = 0
    base: int = 0

    @property
    def panel(self) -> int:
        return self.rows * (self.span + self.pad)

    @property
    def size(self) -> int:
        """Bytes, up to a whole pattern of the swizzle."""
        whole = -(-self.width // self.span) * self.panel
        return -(-whole // max(_rule(self.swizzle)[2], 128)) * max(_rule(self.swizzle)[2], 128)

    def address(self, row: Any, byte: Any) -> Any:
        """Where byte `byte` of row `row` lies; arrays broadcast."""
        flat = byte // self.span * self.panel + row * (self.span + self.pad) + byte % self.span
        return swizzle(self.base + flat, self.swizzle)


# --- descriptors -----------------------------------------------------------------------------------------------------

_LAYOUT_CODES = {"wgmma": {"none": 0, "128B": 1, "64B": 2, "32B": 3},
                 "tcgen05": {"none": 0, "128B_ATOM_32B": 1, "128B": 2, "64B": 4, "32B": 6}}
_FIELDS = {"start": (0, 14), "leading": (16, 14), "stride": (32, 14)}


@dataclass(frozen=True)
class Descriptor:
    """A shared-memory matrix descriptor of wgmma or tcgen05: where an operand starts, and its strides, in bytes.

    leading, stride: the leading-dimension and stride byte offsets (LBO, SBO) of the canonical layouts. base: base
    offset. Raises BadOperand for what the 64 bits cannot say or the mode does not allow.
    """

    start: int
    leading: int
    stride: int
    swizzle: str = "none"
    kind: str = "wgmma"
    base: int = 0
    absolute: bool = False          # leading-offset mode of tcgen05

    def __post_init__(self) -> None:
        modes = _LAYOUT_CODES.get(self.kind)
        if modes is None or self.swizzle not in modes:
            raise BadOperand(f"a {self.kind} descriptor with swizzle {self.swizzle}; wgmma takes "
                             f"{', '.join(_LAYOUT_CODES['wgmma'])}, tcgen05 {', '.join(_LAYOUT_CODES['tcgen05'])}")
        for name, value in (("start", self.start), ("leading", self.leading), ("stride", self.stride)):
            if not 0 <= value < 1 << 18 or value % 16:
                raise BadOperand(f"descriptor: {name} is {value:#x}; it takes multiples of 16 below 2^18")
        if not 0 <= self.base < 8:
            raise BadOperand(f"descriptor: base offset is {self.base}; it takes 0..7")
        if self.absolute and self.kind != "tcgen05":
            raise BadOperand("descriptor: the absolute leading offset is a mode of tcgen05")

    def __str__(self) -> str:
        return (f"{self.kind} descriptor {self.encode():#018x} (start {self.start:#x}, leading {self.leading}, stride "
                f"{self.stride}, {self.swizzle})")

    def encode(self) -> int:
        """The 64 bits [CUTE]."""
        out = self.start >> 4 | self.leading >> 4 << 16 | self.stride >> 4 << 32 | self.base << 49
        if self.kind == "wgmma":
            return out | _LAYOUT_CODES["wgmma"][self.swizzle] << 62
        return out | 1 << 46 | self.absolute << 52 | _LAYOUT_CODES["tcgen05"][self.swizzle] << 61

    @classmethod
    def decode(cls, bits: int, kind: str = "wgmma") -> Descriptor:
        """The descriptor that 64 bits mean. Raises BadOperand for reserved bits and codes."""
        if kind not in _LAYOUT_CODES:
            raise BadOperand(f"kind is {kind!r}; descriptors are those of {' and '.join(_LAYOUT_CODES)}")
        code = bits >> 62 if kind == "wgmma" else bits >> 61
        names = {number: name for name, number in _LAYOUT_CODES[kind].items()}
        start, leading, stride = ((bits >> low & 0x3FFF) << 4 for low in (0, 16, 32))
        found = None
        if code in names:
            found = cls(start, leading, stride, names[code], kind, bits >> 49 & 7, bool(bits >> 52 & (kind != "wgmma")))
        if found is None or found.encode() != bits:
            raise BadOperand(f"{bits:#018x} is no {kind} descriptor: a reserved bit or layout code is set")
        return found

    def advance(self, count: int) -> Descriptor:
        """The same with a start address `count` bytes on, as kernels step along K inside a swizzled tile."""
        return replace(self, start=self.start + count)

    def addresses(self, rows: int, k: int, item: int = 1, major: str = "K") -> Array:
        """Byte address of element (row, k), (rows, k): the canonical layouts [CUTE mma_sm90_desc.hpp], in which T
        elements make 16 bytes and a core matrix is 8 rows of them.

        K none:    ((8, m), (T, 2)) : ((T, SBO), (1, LBO))   K swizzled:  ((8, m), (T, w)) : ((wT, SBO), (1, T))
        MN none:   ((T, m), (8, k)) : ((1, SBO), (T, LBO))   MN swizzled: ((T, w, m), (8, k)) : ((1, T, LBO), (wT, SBO))
        """
        if item not in (1, 2, 4) or major not in ("K", "MN"):
            raise BadOperand(f"item {item}, major {major!r}: elements of 1, 2 or 4 bytes, K or MN major")
        row, column = np.arange(rows)[:, None], np.arange(k)[None]
        span = SWIZZLES[self.swizzle][1]
        inner, outer = (column * item, row) if major == "K" else (row * item, column)   # contiguous bytes; across
        if major == "K":
            across = outer % 8 * span + outer // 8 * self.stride
            along = inner if span > 16 else inner % 16 + inner // 16 * self.leading
        elif span > 16:
            across, along = outer % 8 * span + outer // 8 * self.stride, inner % span + inner // span * self.leading
        else:
            across, along = outer % 8 * 16 + outer // 8 * self.leading, inner % 16 + inner // 16 * self.stride
        return swizzle(self.start + across + along, self.swizzle, self.base)


_TYPES = {"f16": {"float16": 0, "bfloat16": 1}, "tf32": {"tfloat32": 2}, "i8": {"uint8": 0, "int8": 1},
          "f8f6f4": {"float8_e4m3fn": 0, "float8_e5m2": 1, "float6_e2m3fn": 3, "float6_e3m2fn": 4, "float4_e2m1fn": 5},
          "mxf4": {"float4_e2m1fn": 1}}
_TYPES |= {"mxf8f6f4": _TYPES["f8f6f4"], "mxf4nvf4": _TYPES["mxf4"]}


def instruction_descriptor(on: Instruction, transpose_a: bool = False, transpose_b: bool = False,
                           negate_a: bool = False, negate_b: bool = False, scale_id_a: int = 0,
                           scale_id_b: int = 0) -> int:
    """The 32-bit instruction descriptor of a tcgen05.mma [PTX 9.7.16.4.2]: types, majorness, shape, scale selectors.

    Raises BadOperand for other instructions and for selectors that do not exist.
    """
    if not on.name.startswith("tcgen05.mma"):
        raise BadOperand(f"{on} has no instruction descriptor; tcgen05.mma has")
    kind = on.name.split("kind::")[1].split(".")[0]
    fields = [(7, _TYPES[kind][on.a.name]), (10, _TYPES[kind][on.b.name]), (13, negate_a), (14, negate_b),
              (15, transpose_a), (16, transpose_b), (17, on.n >> 3), (24, on.m >> 4)]
    if on.block:
        if not (0 <= scale_id_a < 4 and 0 <= scale_id_b < 4):
            raise BadOperand(f"scale factor ids {scale_id_a}, {scale_id_b}: they lie in 0..3")
        fields += [(4, scale_id_b), (23, on.scale.name == "float8_e8m0fnu"), (29, scale_id_a)]
    else:
        fields += [(3, on.saturate), (4, {"float16": 0, "float32": 1, "int32": 2}[on.d.name])]
    return sum(int(value) << low for low, value in fields)


# --- TMA -------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True, eq=False)
class TensorMap:
    """A tiled tensor map over a global array of codes, and box copies through it.

    x: unsigned codes of 1, 2, 4 or 8 bytes, rank 1 to 5, innermost dimension last and contiguous. box, steps: extent
    and element stride of the box, in the order of x's dimensions. fill: what elements out of bounds read as, `zero` or
    `nan` (all ones below the sign: assumed, no document says which NaN). Raises BadOperand for what
    cuTensorMapEncodeTiled refuses [PTX 5.5].
    """

    x: Array
    box: tuple[int, ...]
    swizzle: str = "none"
    steps: tuple[int, ...] = ()
    fill: str = "zero"

    def __post_init__(self) -> None:
        x, inner = self.x, self.box[-1] * self.x.itemsize if self.box else 0
        span = _rule(self.swizzle)[1] if self.swizzle != "none" else 256 * 8
        strided = x.strides[-1:] != (x.itemsize,) and x.shape[-1:] > (1,)
        for came, takes, bad in (
                (f"rank {x.ndim} and box {self.box}", "1 to 5 dimensions in both",
                 not 1 <= x.ndim <= 5 or len(self.box) != x.ndim),
                (x.dtype.name, "unsigned codes", x.dtype.kind != "u"),
                (f"box {self.box}", "1 to 256 in each dimension", not all(1 <= b <= 256 for b in self.box)),
                (f"element strides {self.steps}", "1 to 8 in each dimension",
                 bool(self.steps) and (len(self.steps) != x.ndim or not all(1 <= s <= 8 for s in self.steps))),
                (f"an inner box of {inner} bytes", f"a multiple of 16, with swizzle {self.swizzle} at most {span}",
                 inner % 16 != 0 or inner > span),
                (f"strides {x.strides}", "contiguous elements inside, multiples of 16 bytes below 2^40 outside",
                 x.size > 0 and (strided or any(s % 16 or not 0 <= s < 1 << 40 for s in x.strides[:-1]))),
                (f"fill {self.fill!r}", "zero or nan", self.fill not in ("zero", "nan"))):
            if bad:
                raise BadOperand(f"tensor map: {came}; it takes {takes}")

    def read(self, *corner: Any) -> Array:
        """The boxes at corners, one array of coordinates (...) per dimension of x: codes (..., *box)."""
        if len(corner) != self.x.ndim:
            raise BadOperand(f"{len(corner)} coordinates; this tensor has {self.x.ndim} dimensions")
        steps = self.steps or (1,) * self.x.ndim
        first = np.broadcast_arrays(*(np.asarray(c) for c in corner))
        rank = self.x.ndim
        at, inside = [], np.ones((), bool)
        for axis, (start, size, step) in enumerate(zip(first, self.box, steps)):
            here = (start[..., None] + np.arange(size) * step).reshape(
                *start.shape, *(size if i == axis else 1 for i in range(rank)))
            at.append(np.clip(here, 0, self.x.shape[axis] - 1))
            inside = inside & (here >= 0) & (here < self.x.shape[axis])
        outside = self.x.dtype.type((1 << self.x.itemsize * 8 - 1) - 1 if self.fill == "nan" else 0)
        if not self.x.size:
            return np.full(inside.shape, outside)
        return np.where(inside, self.x[tuple(at)], outside)

    def copy(self, to: SharedMemory, address: int, *corner: Any) -> None:
        """cp.async.bulk.tensor: boxes into shared memory at `address`, row after row, swizzled by the address bits.

        Coordinates are (*blocks) arrays or numbers, one per dimension. Raises BadOperand.
        """
        if to.arch is not None and int(sm.machine(to.arch).arch[3:]) < 90:
            raise BadOperand(f"{to.arch} has no TMA; it arrives with sm_90")
        if address % 128:
            raise BadOperand(f"address {address:#x}: a TMA copy starts at a multiple of 128 bytes")
        boxes = self.read(*corner)
        boxes = np.broadcast_to(boxes, to.blocks + self.box) if boxes.shape == self.box else boxes
        moved = np.ascontiguousarray(boxes).view(np.uint8).reshape(*to.blocks, -1)
        unit = 8 if "FLIP" in self.swizzle else 16
        if address + moved.shape[-1] > to.data.shape[-1]:
            raise BadOperand(f"a box of {moved.shape[-1]} bytes at {address:#x}: this shared memory has "
                             f"{to.data.shape[-1]:#x} bytes")
        at = swizzle(address + np.arange(0, moved.shape[-1], unit), self.swizzle)
        kind = np.dtype("c16" if unit == 16 else "u8")
        to.data.view(kind)[..., at // unit] = moved.view(kind)
        lines = -(-moved.shape[-1] // 128)
        to.add("TMA", Access(moved.shape[-1], 1, lines, lines, 1).times(math.prod(to.blocks)))
