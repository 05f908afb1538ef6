"""A tiled GEMM at the level of thread blocks and warps: every byte takes the way it takes on a GPU.

Global memory -> (quantise) -> shared memory, swizzled -> ldmatrix or descriptors -> registers or the matrix unit ->
instruction -> fragments -> epilogue. The bits are those of `matmul` with the same schedule; a layout mistake on the way
changes them, as it would on silicon. Three families, by the instruction: mma.sync (cp.async and ldmatrix, Ampere's
way), wgmma (TMA and descriptors, Hopper's), tcgen05 (also tensor memory and block scales, Blackwell's). Sources as in
fragments and shared; the shapes of tiles and the order of K as in NVIDIA CUTLASS 3.9, gemm/collective.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from . import arrays, sm
from .errors import BadOperand
from .fragments import Fragment, fragment
from .matmul import IN_ORDER, Promote, Schedule, SplitK, StreamK, epilogue, matmul, product_shape
from .shared import (
    SWIZZLES,
    Access,
    Descriptor,
    Panels,
    SharedMemory,
    TensorMap,
    access,
    from_rows,
    scale_offsets,
    to_rows,
)
from .staging import Stage
from .trace import Occupancy, Trace
from .unit import Unit

__all__ = ["Kernel", "Run"]

Array = np.ndarray
_AT_ONCE = 64           # thread blocks emulated side by side
_ADDRESSING = 40        # registers per thread taken for addresses and loop counters: an assumption


@dataclass(frozen=True, eq=False)
class Run:
    """The product, typed, and its Trace. tensor_scales: of A and B quantised on load in two levels, or None."""

    d: Array
    trace: Trace
    tensor_scales: tuple[Any, Any] = (None, None)


# --- the kernel ------------------------------------------------------------------------------------------------------

@dataclass(frozen=True, eq=False)
class Kernel:
    """How a GEMM is cut into thread blocks and warps, and where its tiles lie in shared memory.

    tile: M, N, K of a thread block (default: 128, 128 or the instruction's n, 128 bytes of K). warps: across M and N:
    warps of mma.sync (default 2, 2), warpgroups of wgmma (each 64 rows). swizzle: a key of SWIZZLES, of panels as wide
    as its span; mma.sync without one keeps rows whole, with `pad` bytes after each. stages: buffers of the pipeline.
    major_b: "K" (columns of B contiguous, "col") or "MN" (rows contiguous, 16-bit operands): how B lies in memory.

    Mistakes can be put in: read_swizzle is what the reading side takes the tiles to be swizzled by, and `fragments`
    maps operands (a, b, d, scale_a, scale_b) to the Fragment that the reading side takes the registers for.
    Raises BadOperand for what the instruction, the layouts or the architecture's capacity do not allow.
    """

    on: Unit
    tile: tuple[int, int, int] = (0, 0, 0)
    warps: tuple[int, int] = (0, 0)
    swizzle: str = "128B"
    stages: int = 2
    pad: int = 0
    major_b: str = "K"
    read_swizzle: str | None = None
    fragments: dict[str, Fragment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        on = self.on
        if self.family not in ("mma", "wgmma", "tcgen05"):
            raise BadOperand(f"{on}: kernels are known of mma.sync, wgmma and tcgen05.mma")
        if self.family == "mma" and (self.step not in (16, 32) or on.a.bits == 64 or on.arch == "sm_70"):
            raise BadOperand(f"{on}: ldmatrix cannot fill its registers; kernels take instructions with 16 or 32 "
                             "bytes of K")
        if self.swizzle not in SWIZZLES or "96" in self.swizzle or "FLIP" in self.swizzle:
            raise BadOperand(f"swizzle {self.swizzle!r}: kernels take {', '.join(s for s in SWIZZLES if s[0] != '9')}")
        m, n, k = (given or default for given, default in zip(self.tile, (
            128, 128 if self.family == "mma" else on.n, 128 * 8 // self.place)))
        warps = self.warps if any(self.warps) else (2, 2) if self.family == "mma" else (m // on.m, 1)
        object.__setattr__(self, "tile", (m, n, k))
        object.__setattr__(self, "warps", warps)
        down, across = (warps[0] * on.m, warps[1] * on.n)
        if self.family != "mma":
            down, across = on.m, on.n
        if m % down or n % across or k % on.k or min(m, n, k, *warps, self.stages) < 1:
            raise BadOperand(f"tile {m} x {n} x {k} for {warps[0]} x {warps[1]} warps: {on} takes multiples of {down} "
                             f"x {across} x {on.k}")
        if self.family == "wgmma" and warps != (m // 64, 1):
            raise BadOperand(f"warps {warps}: wgmma has one warpgroup for each 64 rows, here {m // 64}, 1")
        if self.width % self.span:
            raise BadOperand(f"tile K of {k} is {self.width} bytes; swizzle {self.swizzle} takes multiples of "
                             f"{self.span}")
        if on.block and k % (4 * on.block):
            raise BadOperand(f"tile K of {k}: scales come four at a time, so K is a multiple of {4 * on.block}")
        if self.major_b not in ("K", "MN") or (self.major_b == "MN" and (self.place != 16 or self.pad)):
            raise BadOperand(f"major_b is {self.major_b!r}: K, or MN where operands have 16 bits, without padding")
        if self.pad % 16 or self.pad < 0 or (self.pad and (self.family != "mma" or self.swizzle != "none")):
            raise BadOperand(f"pad is {self.pad}: a multiple of 16 bytes, for mma.sync without a swizzle")
        SharedMemory(self.shared_bytes, on.arch)
        if self.threads > 1024 or self.occupancy.columns > 512:
            raise BadOperand(f"{self.threads} threads and {self.occupancy.columns} columns of tensor memory; a thread "
                             "block has at most 1024 and 512")

    # --- shape ---

    @property
    def family(self) -> str:
        return self.on.name.split(".")[0]

    @cached_property
    def padded(self) -> bool:
        """FP6 and FP4 that travel a byte each."""
        return bool(re.search("kind::(mx)?f8f6f4", self.on.name))

    @cached_property
    def place(self) -> int:
        """Bits of shared memory per element of K."""
        return 8 if self.padded else self.on.a.bits

    @property
    def width(self) -> int:
        """Bytes of K in a tile."""
        return self.tile[2] * self.place // 8

    @property
    def step(self) -> int:
        """Bytes of K in an instruction."""
        return self.on.k * self.place // 8

    @cached_property
    def span(self) -> int:
        """Bytes of a row in a panel."""
        return self.width if self.family == "mma" and self.swizzle == "none" else SWIZZLES[self.swizzle][1]

    @property
    def threads(self) -> int:
        return {"mma": 32 * math.prod(self.warps), "wgmma": 128 * self.warps[0], "tcgen05": 128}[self.family]

    @cached_property
    def panels(self) -> dict[str, Panels]:
        """Where the tiles of a and b lie in the first stage, as the writing side has it."""
        m, n, k = self.tile
        a = Panels(m, self.width, self.span, self.swizzle, self.pad)
        b = replace(a, rows=n, base=-(-a.size // 1024) * 1024)
        if self.major_b == "MN":
            span = 2 * n if self.span == self.width and self.swizzle == "none" else self.span
            b = replace(b, rows=k, width=2 * n, span=span)
            if 2 * n % span:
                raise BadOperand(f"tile N of {n} is {2 * n} bytes; swizzle {self.swizzle} takes multiples of {span}")
        return {"a": a, "b": b}

    @cached_property
    def scale_bases(self) -> tuple[int, int]:
        """Where the scales of A and B lie in a stage; as many bytes each as 128 x 4 blocks take."""
        start = self.panels["b"].base + -(-self.panels["b"].size // 1024) * 1024
        return start, start + self._scale_bytes(self.tile[0])

    def _scale_bytes(self, rows: int) -> int:
        return -(-rows // 128) * 512 * (self.tile[2] // self.on.block // 4) if self.on.block else 0

    @cached_property
    def stage_bytes(self) -> int:
        return -(-(self.scale_bases[1] + self._scale_bytes(self.tile[1])) // 1024) * 1024

    @property
    def shared_bytes(self) -> int:
        return self.stages * self.stage_bytes

    @cached_property
    def occupancy(self) -> Occupancy:
        """Registers: accumulators, two sets of operand fragments and an assumed 40 for addresses, in eights."""
        on, machine = self.on, sm.machine(self.on.arch)
        m, n, _ = self.tile
        sums = m * n * on.d.bits // 32 // self.threads if self.family != "tcgen05" else 32
        held = 0
        if self.family == "mma":
            down, across = m // self.warps[0] // on.m, n // self.warps[1] // on.n
            held = 2 * (down * fragment(on, "a").registers + across * fragment(on, "b").registers)
        registers = -(-(sums + held + _ADDRESSING) // 8) * 8
        columns = 0
        if self.family == "tcgen05":
            scales = sum(self._scale_bytes(rows) // 128 for rows in (m, n))
            columns = max(32, 1 << (m // on.m * n + scales - 1).bit_length())
        limits = {"shared memory": machine.shared * 1024 // (self.shared_bytes + machine.reserved * 1024),
                  "registers": machine.registers // (min(registers, machine.per_thread) * self.threads),
                  "warps": machine.warps * 32 // self.threads, "thread blocks": machine.blocks}
        if columns:
            limits["tensor memory"] = 512 // columns
        limit = min(limits, key=lambda name: limits[name])
        return Occupancy(self.shared_bytes, registers, self.threads, columns, limits[limit], limit, machine)

    # --- running it ---

    def __call__(self, a: Any, b: Any, c: Any = None, *, scale_a: Any = None, scale_b: Any = None,
                 alpha: float | None = None, beta: float | None = None, out: str | None = None,
                 schedule: Schedule = IN_ORDER, stage_a: Stage | None = None, stage_b: Stage | None = None,
                 threads: int | None = None, engine: str | None = None) -> Run:
        """a (M, K) times b (K, N) plus c, as `matmul` takes them, through thread blocks of this kernel.

        Plain products start from c; alpha, beta, out and schedules as for `matmul`. stage_a, stage_b: quantise the
        operand on load: a, b are then float32, bfloat16 or float16, and the scales of block formats come from there.
        A tensor scale of two levels is of the whole operand, and Run.tensor_scales has it: alpha is not touched.
        What a tile has beyond M, N and K reads as zero; instructions wholly beyond K are not issued. Raises BadOperand.
        """
        plain = schedule is IN_ORDER and alpha is None and beta is None and out is None
        on, trace = self.on, Trace(self.on, self.tile, self.occupancy)
        if not plain and on.d.name != "float32":
            raise BadOperand(f"{on} accumulates in {on.d}; schedules and epilogues take float32 accumulators")
        rows_a, rows_b, start, shape = self._operands(a, b, c if plain else None, scale_a, scale_b, stage_a, stage_b)
        written, chains = shape[0] * shape[1] * on.d.bits // 8, []
        trace.compulsory = rows_a.bytes + rows_b.bytes + written * (1 + (c is not None))

        def chain(lo: int, hi: int, at: tuple[slice, slice] | None = None) -> Array:
            chains.append(lo)
            x, y = (rows_a, rows_b) if at is None else (rows_a.part(at[0]), rows_b.part(at[1]))
            return self._mainloop(x, y, start, (x.rows, y.rows), (lo, hi), trace, threads, engine)

        if plain:
            d = chain(0, rows_a.k)
        else:
            with np.errstate(all="ignore"):         # infinities and NaN are results here
                d = schedule.run(chain, epilogue(c, shape, alpha, beta, out), (*shape, rows_a.k), on.k)
        parts = len(chains) if isinstance(schedule, SplitK) else 1          # each of a thread block that writes it
        trace.blocks = -(-shape[0] // self.tile[0]) * -(-shape[1] // self.tile[1]) * parts
        if isinstance(schedule, StreamK):
            trace.blocks = schedule.units
        trace.move("registers -> global", written * parts)
        return Run(d, trace, (rows_a.tensor_scale, rows_b.tensor_scale))

    def sample(self, a: Any, b: Any, c: Any = None, *, tiles: Sequence[tuple[int, int]], **options: Any
               ) -> list[tuple[tuple[slice, slice], Run]]:
        """Some thread blocks of a large product: for each (i, j) of `tiles`, which rows and columns it computes, and
        their Run. Options as for a call, c and scales those of the whole product. Raises BadOperand."""
        x, y, found = np.asarray(a), np.asarray(b), []
        m, n, _ = self.tile
        if isinstance(options.get("schedule"), StreamK):
            raise BadOperand("stream-K cuts K by the place in the whole product; run that, not a sample of it")
        for i, j in tiles:
            if not (0 <= i * m < x.shape[0] and 0 <= j * n < y.shape[1]):
                raise BadOperand(f"tile ({i}, {j}): the product has {-(-x.shape[0] // m)} x {-(-y.shape[1] // n)} of "
                                 "them")
            rows, columns = slice(i * m, min((i + 1) * m, x.shape[0])), slice(j * n, min((j + 1) * n, y.shape[1]))
            given, schedule = dict(options), options.get("schedule")
            for name, axis, part, whole in (("a", -2, rows, x), ("b", -1, columns, y)):
                given[f"scale_{name}"] = _part(options.get(f"scale_{name}"), axis, part)
                if options.get(f"stage_{name}"):
                    given[f"stage_{name}"] = options[f"stage_{name}"].of(whole)
            if isinstance(schedule, Promote):
                given["schedule"] = replace(schedule, scale_a=_part(schedule.scale_a, -2, rows),
                                            scale_b=_part(schedule.scale_b, -1, columns))
            start = None if c is None else np.asarray(c)[rows, columns]
            found.append(((rows, columns), self(x[rows], y[:, columns], start, **given)))
        return found

    def _operands(self, a: Any, b: Any, c: Any, scale_a: Any, scale_b: Any, stage_a: Stage | None,
                  stage_b: Stage | None) -> tuple[_Rows, _Rows, Array | None, tuple[int, int]]:
        """Both operands as rows along K, codes of the start value, and the shape of the product."""
        on = self.on
        x, scales_x = self._given("a", a, scale_a, stage_a)
        y, scales_y = self._given("b", b, scale_b, stage_b)
        start = None if c is None else arrays.codes(c, on.c, "c")
        if x.ndim != 2 or y.ndim != 2 or on.c != on.d:
            raise BadOperand(f"a is {x.shape} and b is {y.shape}; a kernel takes (M, K) and (K, N), of an instruction "
                             f"whose C and D share a format")
        shape = product_shape(on, x, y, start, scales_x, scales_y)
        if self.major_b == "MN" and stage_b is not None:
            raise BadOperand("stage_b: quantise on load lays B out along K; take major_b='K'")
        rows_b = _Rows(self, "b", y.T, None if scales_y is None else scales_y.T, stage_b)
        return _Rows(self, "a", x, scales_x, stage_a), rows_b, start, (shape[-2], shape[-1])

    def _given(self, name: str, x: Any, scales: Any, how: Stage | None) -> tuple[Array, Array | None]:
        """Codes of an operand and of its scales; the numbers themselves where they are quantised on load."""
        on, fmt = self.on, getattr(self.on, name)
        if how is not None:
            same = how.block.scale == on.scale and how.block.block == (on.block,) if how.block else not on.block
            if how.element != fmt or not same or scales is not None:
                raise BadOperand(f"stage_{name} makes {how.to} of {name}; {on} reads {fmt}" + (
                    f" with one {on.scale} per {on.block} of k, which come from there" if on.block else ""))
            return np.asarray(x), None
        if (scales is None) == bool(on.block):
            wants = f"needs one {on.scale} per {on.block} elements of k" if on.block else "has no scales"
            raise BadOperand(f"scale_{name} is {'missing' if scales is None else 'given'}; {on} {wants}")
        return arrays.codes(x, fmt, name), arrays.codes(scales, on.scale, f"scale_{name}") if on.scale else None

    def _mainloop(self, a: _Rows, b: _Rows, c: Array | None, shape: tuple[int, int], k_range: tuple[int, int],
                  trace: Trace, threads: int | None, engine: str | None) -> Array:
        """The accumulators of all thread blocks over a range of k, typed, as an array of `shape`."""
        on, (m, n, k), (lo, hi) = self.on, self.tile, k_range
        grid = -(-shape[0] // m), -(-shape[1] // n)
        padded = None if c is None else np.pad(c, [(0, g * t - s) for g, t, s in zip(grid, (m, n), shape)])
        d = np.empty((grid[0], m, grid[1], n), on.d.code_dtype)
        corners = np.array([(i, j) for i in range(grid[0]) for j in range(grid[1])], int).reshape(-1, 2)
        for part in np.array_split(corners, max(1, -(-len(corners) // _AT_ONCE))):
            i, j = part.T
            memory = SharedMemory(self.shared_bytes, on.arch, (len(part),))
            sums = np.zeros((len(part), m, n), on.d.code_dtype)
            if padded is not None:
                sums = padded.reshape(grid[0], m, grid[1], n)[i, :, j]
                trace.move("global -> registers", sums.nbytes)
            sums = self._to_warps(sums)
            for count, first in enumerate(range(lo, hi, k)):
                base = count % self.stages * self.stage_bytes
                self._load("a", a, memory, base, i * m, (first, hi), trace)
                self._load("b", b, memory, base, j * n, (first, hi), trace)
                steps = -(-(min(first + k, hi) - first) // on.k)
                sums = self._multiply(memory, base, steps, sums, threads, engine)
                issued = len(part) * (m // on.m) * (n // on.n) * steps
                trace.issue(on.name, issued)
                trace.flops += 2 * issued * on.m * on.n * on.k
            d[i, :, j] = self._from_warps(sums)
            for name, cost in memory.log.items():
                trace.shared[name] = trace.shared.get(name, Access()) + cost
                way = {"ldmatrix": "shared -> registers", "scales": "shared -> registers",
                       "descriptor": "shared -> matrix unit"}.get(name)
                if way:
                    trace.move(way, cost.bytes)
                if name not in ("descriptor", "scale factors"):
                    trace.issue({"store": "st.shared", "scales": "ld.shared"}.get(name, name), cost.requests)
        return arrays.from_codes(np.ascontiguousarray(d.reshape(grid[0] * m, -1)[:shape[0], :shape[1]]), on.d)

    # --- global to shared memory ---

    def _load(self, name: str, x: _Rows, memory: SharedMemory, base: int, rows: Array, k_range: tuple[int, int],
              trace: Trace) -> None:
        """One tile of an operand, and its scales, of every thread block."""
        first, hi = k_range
        panels = replace(self.panels[name], base=self.panels[name].base + base)
        count, k, block = self.tile[name == "b"], self.tile[2], self.on.block
        inside = int(np.minimum(count, x.rows - rows).sum())
        way = "global -> registers" if x.stage else "global -> shared"
        trace.move(way, int(inside * min(k, hi - first) * x.item))
        scales = None
        if x.scales is not None:
            scales = _box(x.scales, rows, count, first // block, k // block, -(-hi // block))
            trace.move(way, inside * -(-min(k, hi - first) // block))
        if x.stage:
            tile, scales = x.quantized(rows, count, first, k, hi)
            self._write(panels, tile, memory, plain=True)
        else:
            box, corner = x.box(rows, count, first, k, hi)
            if self.family == "mma":
                self._write(panels, box.read(*corner).view(np.uint8), memory, plain=self.on.arch == "sm_75")
            else:
                span = panels.span // 8
                for panel in range(panels.width // panels.span):
                    TensorMap(box.x, (panels.rows, span), self.swizzle).copy(
                        memory, panels.base + panel * panels.panel, corner[0], corner[1] + panel * span)
        if scales is not None:
            at = self.scale_bases[name == "b"] + base + scale_offsets(*scales.shape[1:])
            memory.data[:, at] = scales
            lines = -(-at.size // 128)
            memory.add("scale factors", Access(at.size, 1, lines, lines, 1).times(len(rows)))

    def _write(self, panels: Panels, tile: Array, memory: SharedMemory, plain: bool) -> None:
        """Bytes (blocks, rows, width) by the threads of a block, 16 each at a time: cp.async, or st.shared."""
        chunks = np.arange(panels.rows * panels.width // 16)
        at = panels.address(chunks // (panels.width // 16), chunks % (panels.width // 16) * 16)
        short = -len(at) % 32
        at = np.pad(at, (0, short), constant_values=-1).reshape(-1, 32)
        lines = np.pad(tile.reshape(len(tile), -1, 16), ((0, 0), (0, short), (0, 0))).reshape(len(tile), -1, 32, 16)
        (memory.store if plain else memory.cp_async)(at, lines)

    # --- shared memory to the matrix unit ---

    def _multiply(self, memory: SharedMemory, base: int, steps: int, sums: Array, threads: int | None,
                  engine: str | None) -> Array:
        """The sums of every warp after `steps` instructions along K on the tiles of a stage."""
        on = self.on
        read = self._from_registers if self.family == "mma" else self._from_descriptors
        a, b = (arrays.from_codes(read(name, memory, base, steps), getattr(on, name)) for name in "ab")
        scale_a = scale_b = None
        if on.scale:
            scale_a, scale_b = (arrays.from_codes(self._scales_of(x, memory, base, steps), on.scale) for x in "ab")
            scale_b = np.swapaxes(scale_b, -1, -2)
        d = matmul(a, np.swapaxes(b, -1, -2), arrays.from_codes(sums, on.c), on=on, scale_a=scale_a, scale_b=scale_b,
                   threads=threads, engine=engine)
        return arrays.codes(d, on.d, "d")

    def _warp_rows(self, name: str) -> tuple[int, int]:
        """Warps along M or N, and rows or columns of each."""
        axis = int(name == "b")
        return self.warps[axis], self.tile[axis] // self.warps[axis]

    def _over_warps(self, name: str, x: Array) -> Array:
        """(blocks, warps, rows, k) of A or B, with an axis for the warps of the other."""
        return x[:, :, None] if name == "a" else x[:, None]

    def _from_registers(self, name: str, memory: SharedMemory, base: int, steps: int) -> Array:
        """ldmatrix into fragments, and what the instruction takes them for: codes (blocks, wm, wn, rows, k)."""
        on, halves = self.on, self.step // 16
        warps, rows = self._warp_rows(name)
        size = on.m if name == "a" else 8
        tall = size // 8
        pairs = 2 if name == "b" and rows % 16 == 0 else 1              # fragments of B that one ldmatrix loads
        count = tall * halves * pairs
        lane = np.arange(32)
        matrix = lane // 8 % count
        row = (matrix // (tall * halves) * size + matrix % tall * 8 + lane % 8)
        byte = matrix // tall % halves * 16
        warp, piece, step = np.ix_(np.arange(warps), np.arange(rows // size // pairs), np.arange(steps))
        first, along = (warp * rows + piece * size * pairs)[..., None], (step * self.step)[..., None]
        panels = replace(self.panels[name], base=self.panels[name].base + base,
                         swizzle=self.read_swizzle or self.swizzle)
        transposed = name == "b" and self.major_b == "MN"
        if transposed:                                                  # rows of the matrices run along K
            at = panels.address(along // 2 + byte // 2 + lane % 8, 2 * (first + row - lane % 8))
        else:
            at = panels.address(first + row, along + byte)
        packed = {6: "b8x16.b6x16_p32", 4: "b8x16.b4x16_p64"}.get(getattr(on, name).bits) if self.padded else None
        form = f"ldmatrix.m8n16.x{count}.{packed}" if packed else f"ldmatrix.m8n8.x{count}{'.trans' * transposed}.b16"
        others = self.warps[name == "a"]                                # warps that load the same rows
        words = memory.ldmatrix(at, form)
        memory.add("ldmatrix", access(at[..., :8 * count], 16).times(len(words) * (others - 1)))
        if packed and getattr(on, name).bits == 4:
            words = words << 2                                          # as CUTLASS does before the instruction
        words = np.swapaxes(words.reshape(*words.shape[:-1], pairs, -1), -2, -3)
        found = self.fragments.get(name, fragment(on, name)).unpack(np.ascontiguousarray(words))
        if name == "a":
            found = found[..., 0, :, :]                                 # (blocks, warps, pieces, steps, rows, k)
        else:
            found = np.swapaxes(np.swapaxes(found, -1, -2), 3, 4).reshape(
                *found.shape[:2], -1, steps, 8, on.k)                   # (blocks, warps, pieces * pairs, steps, n, k)
        found = np.swapaxes(found, 3, 4).reshape(*found.shape[:2], rows, steps * on.k)
        return self._over_warps(name, found)

    def _from_descriptors(self, name: str, memory: SharedMemory, base: int, steps: int) -> Array:
        """What the matrix unit reads from shared memory through descriptors: codes (blocks, wm, wn, rows, k)."""
        on, panels = self.on, self.panels[name]
        size, whole = (on.m, self.tile[0]) if name == "a" else (on.n, self.tile[1])
        fmt = getattr(on, name)
        mode, span = self.read_swizzle or self.swizzle, panels.span
        mn = name == "b" and self.major_b == "MN"
        rows = []
        for first in range(0, whole, size):
            found = []
            for step in range(steps):
                if mn:
                    start = 2 * first // span * panels.panel + 2 * first % span + step * on.k * span
                    offsets = (128, panels.panel) if span == 16 else (panels.panel, 8 * span)
                else:
                    byte = step * self.step
                    start = byte // span * panels.panel + first * span + byte % span
                    offsets = (panels.panel if span == 16 else 16), 8 * span
                descriptor = Descriptor(base + panels.base + start, *offsets, mode, self.family)
                found.append(memory.read(descriptor, size, on.k, 2, "MN") if mn else
                             memory.read(descriptor, size, self.step))
            rows.append(from_rows(np.concatenate(found, -1), fmt.bits, self.padded))
        x = np.concatenate(rows, -2).astype(fmt.code_dtype, copy=False)
        warps, each = self._warp_rows(name)
        return self._over_warps(name, x.reshape(len(x), warps, each, -1))

    def _scales_of(self, name: str, memory: SharedMemory, base: int, steps: int) -> Array:
        """Codes of the block scales (blocks, wm, wn, rows, blocks of k) that instructions of these steps read."""
        on, chunks = self.on, self.on.k // self.on.block
        start = self.scale_bases[name == "b"] + base
        whole, fours = self.tile[name == "b"], self.tile[2] // on.block // 4
        warps, rows = self._warp_rows(name)
        if self.family != "mma":
            # tcgen05.cp puts 512 bytes as 32 lanes x 4 columns into tensor memory: rows 32 c + lane in column c
            tall = -(-whole // 128)
            tmem = memory.data[:, start:start + tall * fours * 512].reshape(-1, tall, fours, 32, 4, 4)
            found = tmem.transpose(0, 1, 4, 3, 2, 5).reshape(-1, tall * 128, fours * 4)[:, :whole, :steps * chunks]
            return self._over_warps(name, found.reshape(len(found), warps, rows, -1))
        lane = np.arange(32)
        size = on.m if name == "a" else 8
        own = lane // 4 + (lane % 2 * 8 if name == "a" else 0)          # the row or column whose scales a lane holds
        warp, piece, four = np.ix_(np.arange(warps), np.arange(rows // size), np.arange(-(-steps * chunks // 4)))
        row = (warp * rows + piece * size)[..., None] + own
        at = start + scale_offsets(whole, fours * 4)[row, 4 * four[..., None]]
        words = memory.load(at, 4, "scales").view("<u4")
        memory.add("scales", access(at, 4).times(len(words) * (self.warps[name == "a"] - 1)))
        parts = []
        for step in range(steps):
            held = fragment(on, f"scale_{name}", byte_id=step * chunks % 4)
            part = self.fragments.get(f"scale_{name}", held).unpack(words[:, :, :, step * chunks // 4])
            parts.append(part if name == "a" else np.swapaxes(part, -1, -2))
        x = np.concatenate(parts, -1)
        return self._over_warps(name, x.reshape(len(x), warps, rows, -1))

    # --- accumulators ---

    def _to_warps(self, x: Array) -> Array:
        """(blocks, m, n) as (blocks, wm, wn, rows, columns)."""
        (down, rows), (across, columns) = self._warp_rows("a"), self._warp_rows("b")
        return x.reshape(len(x), down, rows, across, columns).swapaxes(2, 3)

    def _from_warps(self, sums: Array) -> Array:
        """The accumulators, which lie in registers or tensor memory as fragments of D, as (blocks, m, n)."""
        held = fragment(self.on, "d")
        taken = self.fragments.get("d", held)
        (down, rows), (across, columns) = self._warp_rows("a"), self._warp_rows("b")
        pieces = sums.reshape(len(sums), down, across, rows // held.rows, held.rows, columns // held.cols, held.cols)
        found = taken.unpack(held.pack(np.ascontiguousarray(pieces.swapaxes(4, 5))))
        return found.swapaxes(4, 5).reshape(len(sums), down, across, rows, columns).swapaxes(2, 3).reshape(
            len(sums), self.tile[0], self.tile[1])


def _part(x: Any, axis: int, where: slice) -> Any:
    """Rows (axis -2) or columns (-1) of scales; all of them where they are broadcast, or there are none."""
    if x is None or np.shape(x)[axis] == 1:
        return x
    return np.asarray(x)[(..., where) if axis == -1 else (..., where, slice(None))]


class _Rows:
    """An operand in global memory, as rows along K: its bytes, or the numbers that are quantised on load.

    Where B has major "MN" the bytes of each k lie in a row of their own.
    """

    def __init__(self, kernel: Kernel, name: str, x: Array, scales: Array | None, how: Stage | None) -> None:
        self.rows, self.k = x.shape
        self.kernel, self.name, self.values, self.scales, self.stage = kernel, name, x, scales, how and how.of(x)
        self.across = name == "b" and kernel.major_b == "MN"
        self.bits = getattr(kernel.on, name).bits
        self.item = x.itemsize if how else self.bits / 8            # bytes of an element in global memory
        self.bytes = int(x.size * self.item) + (0 if scales is None else scales.size)
        self.tensor_scale = None
        if how is None:
            lines = x.T if self.across else np.pad(x, ((0, 0), (0, -x.shape[1] % (128 // kernel.place))))
            found = to_rows(lines, self.bits, kernel.padded)
            self.lines = np.pad(found, ((0, 0), (0, -found.shape[1] % 16))).view(np.uint64)
        elif how.block:
            self.tensor_scale = how.block.quantize(x[:0], axis=-1, **self.stage.options).tensor_scale

    def part(self, where: slice) -> _Rows:
        """Some of its rows."""
        scales = None if self.scales is None else self.scales[where]
        return _Rows(self.kernel, self.name, self.values[where], scales, self.stage)

    def box(self, rows: Array, count: int, first: int, k: int, hi: int) -> tuple[TensorMap, tuple[Any, Any]]:
        """Global memory in words of 8 bytes, cut at k = hi, with a box of `count` rows by k; corners of the tiles."""
        if self.across:
            return TensorMap(self.lines[:hi], (k, count // 4)), (first, rows // 4)
        place = self.kernel.place
        return (TensorMap(self.lines[:, :-(-hi * place // 128) * 2], (count, k * place // 64)),
                (rows, first * place // 64))

    def quantized(self, rows: Array, count: int, first: int, k: int, hi: int) -> tuple[Array, Array | None]:
        """Bytes of the tiles (blocks, count, width), zeros beyond the edges, and their scales (blocks, count, ...)."""
        tile = _box(self.values, rows, count, first, k, hi)
        codes, scales = self.stage.codes(tile)          # type: ignore[union-attr]
        return to_rows(codes, self.bits, self.kernel.padded), scales


def _box(x: Array, rows: Array, count: int, first: int, k: int, hi: int) -> Array:
    """x[row:row + count, first:first + k] for each row of `rows`, zeros beyond x and from column hi on."""
    row, column = rows[:, None, None] + np.arange(count)[:, None], first + np.arange(k)
    inside = (row < x.shape[0]) & (column < min(hi, x.shape[1]))
    return np.where(inside, x[np.minimum(row, x.shape[0] - 1), np.minimum(column, x.shape[1] - 1)], x.dtype.type(0))
