"""Capture golden vectors from an NVIDIA GPU: every matrix instruction, conversion and special function, to the bit.

You need an NVIDIA GPU, the CUDA toolkit (nvcc; cuobjdump, if it is there, adds which SASS opcode ran) and Python with
numpy and this project installed. One command, some minutes; send the folder that it writes.

    python tools/capture.py golden/sm_90-NVIDIA_H100_80GB_HBM3          # everything the GPU in this machine can run
    python tools/capture.py /tmp/h100 --only 'wgmma.*e4m3' --tiles 64   # some forms, more tiles
    python tools/capture.py /tmp/h100 --compare 2000                    # fresh tiles, GPU against emulator
    python tools/capture.py /tmp/build --arch sm_120 --compile-only     # no GPU: does every form compile?

One kernel is generated per PTX form (mma.sync, wgmma, tcgen05; names follow `emulator instructions`) and per conversion
or function (operations.py), compiled by nvcc with capture.cuh, and called through ctypes. Operands lie in global memory
as plain row-major codes; the kernel itself packs them into fragments, shared or tensor memory. Before a form is
captured it must multiply small integers exactly as numpy does, which proves that every element sits where we think;
then each launch runs three times over differently initialised outputs, and what does not repeat itself is refused.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import datetime
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import emulator  # noqa: E402
from emulator import cases, formats  # noqa: E402

sys.path.insert(0, str(HERE))

from operations import Operation, inputs, operations, table_source  # noqa: E402
from operations import file_name as operation_file  # noqa: E402

VERSION = "2"
LICENCE = "Apache-2.0 OR MIT"
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")

# Bits an element takes in a register; a narrower code sits at the bottom of its container, e2m1 in a byte at bits 5:2.
WIDTH = {"f64": 64, "f32": 32, "tf32": 32, "s32": 32, "f16": 16, "bf16": 16, "s4": 4, "u4": 4, "b1": 1}
NARROW = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")
DATAPATH = re.compile(
    r"^(HMMA|QMMA|IMMA|BMMA|DMMA|OMMA|HGMMA|QGMMA|IGMMA|BGMMA|UTC\w*MMA|FADD|FMUL|FFMA|HADD2|HFMA2|DADD|DFMA|DMUL|F2F|F2FP|MUFU)\b"
)


class CaptureError(Exception):
    """A capture that cannot go on, in a sentence."""


@dataclasses.dataclass(frozen=True)
class Form:
    """One PTX form: its name in the emulator, its PTX spelling, shape and PTX types (`types` = d, a, b, c)."""

    name: str
    ptx: str
    m: int
    n: int
    k: int
    types: tuple[str, str, str, str]
    scale_type: str | None = None
    block: int = 0
    adder: object = None

    d = property(lambda self: formats.number_format(self.types[0]))
    a = property(lambda self: formats.number_format(self.types[1]))
    b = property(lambda self: formats.number_format(self.types[2]))
    c = property(lambda self: formats.number_format(self.types[3]))
    scale = property(lambda self: self.scale_type and formats.number_format(self.scale_type))

    @property
    def warpgroup(self) -> bool:
        return self.name.startswith("wgmma")

    @property
    def tensor(self) -> bool:
        return self.name.startswith("tcgen05")

    @property
    def quads(self) -> bool:
        """m8n8k4 with f16: four tiles per warp, with fragments of its own."""
        return self.name.startswith("mma.m8n8k4.") and self.types[1] == "f16"

    def width(self, ptx_type: str) -> int:
        """Register bits per element."""
        packed = "kind::mxf4" in self.name
        return WIDTH.get(ptx_type, 4 if packed else 8)


def forms(arch: str, n: int = 8) -> Iterator[Form]:
    """Every form `arch` takes (PTX ISA: "mma", "wgmma.mma_async", "tcgen05.mma"; n: of the wgmma and tcgen05 forms, of
    which those of m = 128 take multiples of 16)."""
    sm = int(arch[3:])

    def mma(shape: str, types: str, before: str = "", after: str = "", name: str | None = None, **more: object) -> Form:
        m, n, k = map(int, re.findall(r"\d+", shape))
        d, a, b, c = types.split(".")
        kind = before if before.startswith(".kind") else ""
        return Form(
            name or f"mma.{shape}{kind}.{types}{after}",
            f"mma.sync.aligned.{shape}.row.col{before}.{types}{after}",
            m,
            n,
            k,
            (d, a, b, c),
            **more,
        )

    def pairs(*types: str) -> Iterator[str]:
        return (f"{a}.{b}" for a in types for b in types)

    for types in ("f32.f16.f16.f32", "f16.f16.f16.f16", "f32.f16.f16.f16"):
        yield mma("m8n8k4", types)
    for types in ("f32.f16.f16.f32", "f16.f16.f16.f16", "f32.bf16.bf16.f32"):
        for k in (8, 16):
            if sm >= 80 or (k == 8 and "bf16" not in types):
                yield mma(f"m16n8k{k}", types)
    if sm >= 80:
        for k in (4, 8):
            yield mma(f"m16n8k{k}", "f32.tf32.tf32.f32")
        for shape in ("m8n8k4", "m16n8k4", "m16n8k8", "m16n8k16"):
            for rounding in ("", ".rz", ".rm", ".rp"):
                if shape == "m8n8k4" or sm >= 90:
                    types = "f64.f64.f64.f64"
                    yield mma(shape, types, before=rounding, name=f"mma.{shape}{rounding}.{types}")
    for element, shapes in (("8", "m8n8k16 m16n8k16 m16n8k32"), ("4", "m8n8k32 m16n8k32 m16n8k64")):
        for shape in shapes.split():
            for ab in pairs("s" + element, "u" + element):
                for saturate in ("", ".satfinite"):
                    if sm >= 80 or shape.startswith("m8"):
                        yield mma(shape, f"s32.{ab}.s32", before=saturate, name=f"mma.{shape}.s32.{ab}.s32{saturate}")
    for shape in ("m8n8k128", "m16n8k128", "m16n8k256"):
        for operation in (".xor.popc", ".and.popc"):
            if sm >= 80 or (shape == "m8n8k128" and operation == ".xor.popc"):
                yield mma(shape, "s32.b1.b1.s32", after=operation)
    if sm >= 89:
        for shape in ("m16n8k16", "m16n8k32"):
            for ab in pairs("e4m3", "e5m2"):
                for cd in ("f32", "f16"):
                    yield mma(shape, f"{cd}.{ab}.{cd}")
    if sm >= 100:
        for ab in pairs(*(NARROW if sm >= 120 else NARROW[:2])):
            for cd in ("f32", "f16"):
                yield mma("m16n8k32", f"{cd}.{ab}.{cd}", before=".kind::f8f6f4")
    if sm >= 120:
        scaled = [("m16n8k32", "mxf8f6f4", "1X", ab, "ue8m0", 32) for ab in pairs(*NARROW)]
        scaled += [
            ("m16n8k64", "mxf4", "2X", "e2m1.e2m1", "ue8m0", 32),
            ("m16n8k64", "mxf4nvf4", "2X", "e2m1.e2m1", "ue8m0", 32),
            ("m16n8k64", "mxf4nvf4", "4X", "e2m1.e2m1", "ue4m3", 16),
        ]
        for shape, kind, vec, ab, scale, block in scaled:
            yield mma(
                shape,
                f"f32.{ab}.f32",
                before=f".kind::{kind}.block_scale.scale_vec::{vec}",
                after=f".{scale}",
                name=f"mma.{shape}.kind::{kind}.scale_vec::{vec}.f32.{ab}.f32.{scale}",
                scale_type=scale,
                block=block,
            )
    if sm == 90:

        def wgmma(k: int, d: str, ab: str, before: str = "", after: str = "") -> Form:
            a, b = ab.split(".")
            shape = f"m64n{n}k{k}"
            return Form(
                f"wgmma.{shape}.{d}.{ab}{before}{after}",
                f"wgmma.mma_async.sync.aligned.{shape}{before}.{d}.{ab}{after}",
                64,
                n,
                k,
                (d, a, b, d),
            )

        yield from (
            wgmma(16, "f32", "f16.f16"),
            wgmma(16, "f16", "f16.f16"),
            wgmma(16, "f32", "bf16.bf16"),
            wgmma(8, "f32", "tf32.tf32"),
        )
        yield from (wgmma(32, d, ab) for ab in pairs("e4m3", "e5m2") for d in ("f32", "f16"))
        if n in (8, 16, 24) or n % 16 == 0:
            yield from (
                wgmma(32, "s32", ab, before=saturate) for ab in pairs("s8", "u8") for saturate in ("", ".satfinite")
            )
            yield wgmma(256, "s32", "b1.b1", after=".and.popc")
    if sm == 100:

        def tensor(
            k: int, kind: str, d: str, ab: str, *, scale: str = "", vec: int = 0, after: str = ""
        ) -> Iterator[Form]:
            a, b = ab.split(".")
            for m in (128,) if vec else (64, 128):
                shape = f"m{m}n{n if m == 64 else -(-n // 16) * 16}k{k}"
                scaled = f".scale_vec::{vec}X" * bool(vec)
                yield Form(
                    f"tcgen05.mma.{shape}.kind::{kind}{scaled}.{d}.{ab}{'.' + scale if scale else ''}{after}",
                    f"tcgen05.mma.cta_group::1.kind::{kind}" + f".block_scale{scaled}" * bool(vec),
                    *map(int, re.findall(r"\d+", shape)),
                    (d, a, b, d),
                    scale_type=scale or None,
                    block=k // vec if vec else 0,
                )

        for d, ab in (("f32", "f16.f16"), ("f16", "f16.f16"), ("f32", "bf16.bf16")):
            yield from tensor(16, "f16", d, ab)
        yield from tensor(8, "tf32", "f32", "tf32.tf32")
        for ab in pairs(*NARROW):
            for d in ("f32", "f16"):
                yield from tensor(32, "f8f6f4", d, ab)
            yield from tensor(32, "mxf8f6f4", "f32", ab, scale="ue8m0", vec=1)
        if n in (8, 16, 24) or n % 16 == 0:
            for ab in pairs("s8", "u8"):
                for saturate in ("", ".satfinite"):
                    yield from tensor(32, "i8", "s32", ab, after=saturate)
        for kind, vec, scale in (("mxf4", 2, "ue8m0"), ("mxf4nvf4", 2, "ue8m0"), ("mxf4nvf4", 4, "ue8m0"),
                                 ("mxf4nvf4", 4, "ue4m3")):
            yield from tensor(64, kind, "f32", "e2m1.e2m1", scale=scale, vec=vec)


def instruction_descriptor(form: Form) -> int:
    """The 32 bits that say shape and formats of a tcgen05.mma (PTX ISA, "Instruction descriptor")."""
    packed = "kind::mxf4" in form.name
    types = {"f16": 0, "bf16": 1, "tf32": 2, "e4m3": 0, "e5m2": 1, "e2m3": 3, "e3m2": 4, "e2m1": 1 if packed else 5}
    types |= {"u8": 0, "s8": 1}
    word = types[form.types[1]] << 7 | types[form.types[2]] << 10 | form.n >> 3 << 17 | form.m >> 4 << 24
    if form.block:
        return word | (form.scale_type == "ue8m0") << 23
    return word | {"f16": 0, "f32": 1, "s32": 2}[form.types[0]] << 4 | form.name.endswith(".satfinite") << 3


# ---------------------------------------------------------------------------------------------------------- kernels


def kernel_source(form: Form, number: int) -> str:
    """The CUDA kernel `form_<number>` that loads a tile, runs the instruction once and stores the result."""
    if form.tensor:
        return tensor_source(form, number)
    td, ta, tb, tc = form.types
    code = {t: f"u{max(8, form.width(t))}" for t in form.types}
    lanes = 128 if form.warpgroup else 32
    wide = {t: "u64" if t == "f64" else "u32" for t in form.types}

    def fragment(t: str, elements: int, role: str) -> tuple[str, int, str]:
        """Map, registers, and the template arguments of gather / scatter for `elements` per lane."""
        width = form.width(t)
        register = 64 if t == "f64" else 32
        if form.quads:
            grid = "QuadF32" if t == "f32" else "Quad"
        elif role == "accumulator":
            grid = f"Grid<{1 if form.m == 8 else 2}, 2>"
        else:
            grid = f"Grid<{2 if role == 'a' and form.m == 16 else 1}, {register // width}>"
        shift = 2 if t == "e2m1" and width == 8 else 0
        return grid, elements * width // register, f"{grid}, {elements}, {width}" + (f", {shift}" if shift else "")

    def operand(name: str, t: str, r: int) -> str:
        cast = {"f32": "float", "f64": "double"}.get(t)
        letter = {"f32": "f", "f64": "d"}.get(t, "r")
        return f'"{"+" if name == "d" else ""}{letter}"' + (
            f"(reinterpret_cast<{cast} &>({name}[{r}]))" if cast else f"({name}[{r}])"
        )

    share = 8 if form.quads else lanes
    per_lane = form.m * form.n // share
    _, dr, dargs = fragment(td, per_lane, "accumulator")
    _, cr, cargs = fragment(tc, per_lane, "accumulator")
    tile = {True: "blockIdx.x", False: "blockIdx.x * 4 + threadIdx.x / 32"}[form.warpgroup]
    if form.quads:
        tile = "(blockIdx.x * 4 + threadIdx.x / 32) * 4 + threadIdx.x % 16 / 4"
    lines = [
        f"// {form.name}",
        f"__global__ void form_{number}(Operands x, int tiles) {{",
        f"    int tile = {tile};",
        "    if (tile >= tiles) return;" if not form.quads else "    bool mine = tile < tiles; tile = mine ? tile : 0;",
        f"    auto *pa = (const {code[ta]} *)x.a + tile * {form.m * form.k};",
        f"    auto *pb = (const {code[tb]} *)x.b + tile * {form.k * form.n};",
    ]
    rows = f" + threadIdx.x / 32 * {16 * form.n}" if form.warpgroup else ""
    lines += [
        f"    auto *pc = (const {code[tc]} *)x.c + tile * {form.m * form.n}{rows};",
        f"    auto *pd = ({code[td]} *)x.d + tile * {form.m * form.n}{rows};",
        f"    {wide[tc]} c[{cr}];",
        f"    gather<{cargs}>(c, pc, {form.n}, 1);",
        f"    {wide[td]} d[{dr}];",
    ]
    if form.warpgroup:
        flags = {"f16": "1, 1, 0, 0", "bf16": "1, 1, 0, 0", "s8": "", "u8": "", "b1": ""}.get(ta, "1, 1")
        regs = ", ".join(f"%{r}" for r in range(dr))
        lines += [
            f"    __shared__ __align__(1024) u8 sa[{form.m * 32}], sb[{form.n * 32}];",
            f"    stage<{form.width(ta)}>(sa, pa, {form.m}, {form.k}, 1);",
            f"    stage<{form.width(tb)}>(sb, pb, {form.n}, 1, {form.n});",
            f"    for (int r = 0; r < {dr}; r++) d[r] = c[r];",
            '    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");',
            "    __syncthreads();",
            '    asm volatile("{ .reg .pred p; setp.eq.u32 p, 0, 0; wgmma.fence.sync.aligned; "',
            f'                 "{form.ptx} {{{regs}}}, %{dr}, %{dr + 1}, p{", " + flags if flags else ""}; "',
            '                 "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; }"',
            f"                 : {', '.join(operand('d', td, r) for r in range(dr))}"
            ' : "l"(descriptor(sa)), "l"(descriptor(sb)) : "memory");',
        ]
    else:
        _, ar, aargs = fragment(ta, form.m * form.k // share, "a")
        _, br, bargs = fragment(tb, form.k * form.n // share, "b")
        lines += [
            f"    {wide[ta]} a[{ar}], b[{br}];",
            f"    gather<{aargs}>(a, pa, {form.k}, 1);",
            f"    gather<{bargs}>(b, pb, 1, {form.n});",
            f"    for (int r = 0; r < {dr}; r++) d[r] = 0;",
        ]
        inputs = (
            [operand("a", ta, r) for r in range(ar)]
            + [operand("b", tb, r) for r in range(br)]
            + [operand("c", tc, r) for r in range(cr)]
        )
        groups, at = [], 0
        for count in (dr, ar, br, cr):
            groups.append("{" + ", ".join(f"%{r}" for r in range(at, at + count)) + "}")
            at += count
        if form.block:
            chunks = form.k // form.block
            lines += [
                f"    auto *psa = (const u8 *)x.scale_a + tile * {form.m * chunks};",
                f"    auto *psb = (const u8 *)x.scale_b + tile * {chunks * form.n};",
                "    int lane = threadIdx.x % 32;",
                f"    u32 sa = scales(psa + (lane / 4 + lane % 2 * 8) * {chunks}, {chunks}, 1);",
                f"    u32 sb = scales(psb + lane / 4, {chunks}, {form.n});",
            ]
            inputs += ['"r"(sa)', '"r"(sb)']
            groups += [f"%{at}, {{0, 0}}", f"%{at + 1}, {{0, 0}}"]
        lines += [
            f'    asm volatile("{form.ptx} {", ".join(groups)};"',
            f"                 : {', '.join(operand('d', td, r) for r in range(dr))}",
            f"                 : {', '.join(inputs)});",
        ]
    guard = "if (mine) " if form.quads else ""
    lines += [f"    {guard}scatter<{dargs}>(d, pd, {form.n});", "}"]
    return "\n".join(lines)


def tensor_source(form: Form, number: int) -> str:
    """The kernel of a tcgen05 form: one tile a block of 128 threads; all but the instruction is in capture.cuh."""
    td, ta, tb, tc = form.types
    chunks = form.k // form.block if form.block else 0

    def code(t: str) -> str:
        return f"u{max(8, form.width(t))}"

    def staged(name: str, t: str, lines: int, strides: str) -> str:
        bits = formats.number_format(t).bits
        how = f"stage_padded<{bits}>" if bits < 8 == form.width(t) else f"stage<{form.width(t)}>"
        return f"    {how}(s{name}, (const {code(t)} *)x.{name} + blockIdx.x * {lines * form.k}, {lines}, {strides});"

    scale_operands = ", [%5], [%6]" if chunks else ""
    scale_inputs = ', "r"(scale_a), "r"(scale_b)' if chunks else ""
    scales = ("x.scale_a", form.m), ("x.scale_b", form.n)
    given = ", ".join(
        f"(const u8 *){name} + blockIdx.x * {lines * chunks}" if chunks else "nullptr" for name, lines in scales
    )
    operands = f"(const {code(tc)} *)x.c + tile, ({code(td)} *)x.d + tile"
    descriptor = f"{instruction_descriptor(form):#x}"
    tile = f"blockIdx.x * {form.m * form.n}"
    return "\n".join([
        f"// {form.name}",
        f"__global__ void form_{number}(Operands x, int tiles) {{",
        f"    __shared__ __align__(1024) u8 sa[{form.m * 32}], sb[{form.n * 32}];",
        staged("a", ta, form.m, f"{form.k}, 1"),
        staged("b", tb, form.n, f"1, {form.n}"),
        f"    int tile = {tile};",
        f"    tensor_tile<{form.m}, {form.n}, {chunks}>(sa, sb, {operands},",
        f"        {given}, [](u32 d, u64 a, u64 b, u32 scale_a, u32 scale_b) {{",
        '        asm volatile("{ .reg .pred p; setp.ne.u32 p, %4, 0; "',
        f'                     "{form.ptx} [%0], %1, %2, %3{scale_operands}, p; }}"',
        f'                     :: "r"(d), "l"(a), "l"(b), "r"({descriptor}), "r"(1){scale_inputs} : "memory");',
        "    });",
        "}",
    ])


def source(chosen: list[Form], ops: list[Operation]) -> str:
    """The whole .cu file: one kernel per form, then the table; and those of the operations."""
    kernels = "\n\n".join(kernel_source(form, i) for i, form in enumerate(chosen))
    table = "\n".join(
        f'    {{"{form.name}", form_{i}, 128, {1 if form.warpgroup or form.tensor else 16 if form.quads else 4}}},'
        for i, form in enumerate(chosen)
    )
    table = table or '    {"", nullptr, 1, 1},'
    head = '#include "capture.cuh"'
    return f'{head}\n\n{kernels}\n\nextern "C" const Form forms[] = {{\n{table}\n}};\n\n' + table_source(ops)


def cuda_tool(name: str) -> str | None:
    """The path of a CUDA tool: from PATH, CUDA_HOME, or beside nvcc."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which(name) or shutil.which(name, path=f"{home}/bin")


def compile_forms(chosen: list[Form], ops: list[Operation], arch: str, folder: Path) -> Path:
    """Write and compile the kernels; returns the shared library."""
    nvcc = cuda_tool("nvcc")
    if not nvcc:
        raise CaptureError("nvcc was not found: put the CUDA toolkit's bin folder on PATH or set CUDA_HOME")
    folder.mkdir(parents=True, exist_ok=True)
    file, library = folder / f"forms_{arch}.cu", folder / f"forms_{arch}.so"
    file.write_text(source(chosen, ops))
    real = arch[3:] + ("a" if int(arch[3:]) >= 90 else "")
    command = [
        nvcc,
        "-std=c++17",
        "-shared",
        "-Xcompiler",
        "-fPIC",
        "-gencode",
        f"arch=compute_{real},code=sm_{real}",
        "--split-compile=0",
        "-I",
        str(HERE),
        "-o",
        str(library),
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CaptureError(
            f"nvcc refused the kernels for sm_{real}: {shlex.join(command)}\n{(done.stderr + done.stdout)[-6000:]}"
        )
    return library


def opcodes(library: Path, chosen: list[Form], ops: list[Operation]) -> dict[str, dict[str, int]]:
    """Per form and operation the arithmetic SASS opcodes it became, with counts; empty where cuobjdump is missing."""
    tool = cuda_tool("cuobjdump")
    if not tool:
        print("cuobjdump was not found: machine.json will not say which SASS opcodes ran", file=sys.stderr)
        return {}
    text = subprocess.run([tool, "-sass", str(library)], capture_output=True, text=True, check=True).stdout
    found: dict[str, Counter[str]] = {}
    for line in text.splitlines():
        if function := re.search(r"Function : _Z(\d+)([a-z]\w+)", line):
            kind, number = function[2][: int(function[1])].rsplit("_", 1)
            names = {"form": chosen, "operation": ops}.get(kind)
            counts = found.setdefault(names[int(number)].name, Counter()) if names else Counter()
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", line):
            if DATAPATH.match(instruction[1]):
                counts[instruction[1]] += 1
    return {name: dict(sorted(counts.items())) for name, counts in found.items()}


# ------------------------------------------------------------------------------------------------------------- the GPU


class Gpu:
    """The compiled forms on device 0."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.run_form.restype = self.library.describe.restype = ctypes.c_char_p
        self.library.run_operation.restype = ctypes.c_char_p
        name, numbers = ctypes.create_string_buffer(256), (ctypes.c_int * 4)()
        why = self.library.describe(name, numbers)
        if why:
            raise CaptureError(f"no GPU to capture from: {why.decode()} (--compile-only needs none)")
        self.name = name.value.decode()
        self.major, self.minor, driver, runtime = numbers
        self.cuda_driver, self.cuda_runtime = (f"{v // 1000}.{v % 1000 // 10}" for v in (driver, runtime))

    def run(self, number: int, form: Form, x: cases.Cases, fill: int = 0) -> np.ndarray:
        """D (N, m, n) as codes. Bytes the kernel does not write come back as `fill`."""
        d = np.full((len(x), form.m, form.n), 0, form.d.code_dtype)
        d.view(np.uint8)[...] = fill
        arrays = [None if y is None else np.ascontiguousarray(y) for y in (x.a, x.b, x.c, x.scale_a, x.scale_b)] + [d]
        host = (ctypes.c_void_p * 6)(*(None if y is None else y.ctypes.data for y in arrays))
        sizes = (ctypes.c_uint64 * 6)(*(0 if y is None else y.nbytes for y in arrays))
        why = self.library.run_form(number, len(x), host, sizes)
        if why:
            raise CaptureError(f"{form.name} failed on {self.name}: {why.decode()}")
        return d

    def run_repeatedly(self, number: int, form: Form, x: cases.Cases) -> np.ndarray:
        """D, after three launches that gave the same bits."""
        d, *others = (self.run(number, form, x, fill) for fill in (0x00, 0xFF, 0xA5))
        for other in others:
            if not np.array_equal(d, other):
                raise Refused(
                    f"{form.name}: {np.count_nonzero(d != other)} of {d.size} results did not repeat; refused"
                )
        return d

    def run_operation(self, number: int, op: Operation, seed: int) -> dict[str, np.ndarray]:
        """x, y (N, lanes) and where they are random words (N,), of launches that gave the same bits; of a function of
        float32 also `sums`, the checksums of every input (256,)."""
        x, random = inputs(op, seed)
        wide = np.ascontiguousarray(x, np.uint32)

        def pointer(array: np.ndarray | None) -> int | None:
            return None if array is None else array.ctypes.data

        results = []
        for fill in (0, 0xFFFFFFFF, 0xA5A5A5A5):
            y = np.full_like(wide, fill)
            sums = np.zeros(256, np.uint64) if op.function and op.source == "f32" else None
            for out in (y, sums):
                if out is None:
                    continue
                why = self.library.run_operation(
                    ctypes.c_int(number), ctypes.c_int(len(x)), ctypes.c_void_p(pointer(wide)),
                    ctypes.c_void_p(pointer(random)), ctypes.c_void_p(pointer(y) if out is y else None),
                    ctypes.c_void_p(pointer(sums)),
                )
                if why:
                    raise CaptureError(f"{op.name} failed on {self.name}: {why.decode()}")
            results.append((y, sums))
        (y, sums), *others = results
        if not all(np.array_equal(y, z) and (sums is None or np.array_equal(sums, s)) for z, s in others):
            raise Refused(f"{op.name}: results did not repeat; refused")
        found = {"x": x, "y": y.astype(op.d.code_dtype), "random": random, "sums": sums}
        return {name: array for name, array in found.items() if array is not None}

    def check_placement(self, number: int, form: Form) -> None:
        """Small integers must multiply exactly as numpy multiplies them, or elements do not sit where we think."""
        rng = np.random.default_rng(number)
        values, codes = {}, {}
        for name, f, reach in (("a", form.a, 2), ("b", form.b, 2), ("c", form.c, 8)):
            least = -reach if f.signed else 0
            most = min(reach, f.max) if isinstance(f, formats.Integer) else reach
            table = np.array([cases.code_of(f, v) for v in range(least, most + 1)], f.code_dtype)
            shape = {"a": (8, form.m, form.k), "b": (8, form.k, form.n), "c": (8, form.m, form.n)}[name]
            values[name] = rng.integers(least, most + 1, shape)
            codes[name] = table[values[name] - least]
        products = values["a"][:, :, :, None] * values["b"][:, None]
        if form.name.endswith("xor.popc"):
            products = values["a"][:, :, :, None] ^ values["b"][:, None]
        scales = [None, None]
        if form.block:
            chunks = form.k // form.block
            table = np.array([cases.code_of(form.scale, 1 << e) for e in range(3)], np.uint8)
            powers = rng.integers(0, 3, (8, form.m, chunks)), rng.integers(0, 3, (8, chunks, form.n))
            scales = [table[p] for p in powers]
            products = products << (
                np.repeat(powers[0], form.block, 2)[..., None] + np.repeat(powers[1], form.block, 1)[:, None]
            )
        want = products.sum(2) + values["c"]
        d = self.run(number, form, cases.Cases(codes["a"], codes["b"], codes["c"], *scales, why=np.zeros(8, np.uint8)))
        got = d.view({"f64": np.float64, "f32": np.float32, "f16": np.float16, "s32": np.int32}[form.types[0]])
        if not np.array_equal(got, want):
            where = tuple(int(i[0]) for i in np.nonzero(got != want))
            raise Refused(
                f"{form.name}: {np.count_nonzero(got != want)} of {d.size} sums of small integers are wrong, first at "
                f"[tile, row, column] = {list(where)}: got {got[where]}, want {want[where]}; an operand is misplaced"
            )


class Refused(CaptureError):
    """One form whose results cannot be trusted."""


def driver_version() -> str:
    """The driver's version as it reports it, or 'unknown'."""
    smi = shutil.which("nvidia-smi")
    if smi:
        done = subprocess.run(
            [smi, "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
        )
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.split()[0]
    proc = Path("/proc/driver/nvidia/version")
    found = re.search(r"\d+\.\d+(\.\d+)?", proc.read_text()) if proc.exists() else None
    return found[0] if found else "unknown"


def toolkit_version() -> str:
    text = subprocess.run([cuda_tool("nvcc") or "nvcc", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release .*?, V([\d.]+)", text)
    return found[1] if found else "unknown"


# ------------------------------------------------------------------------------------------------------------- capture


def row(arch: str, form: Form) -> object:
    """The emulator's row for the form, or the form itself where it has none yet (shape and formats are enough)."""
    try:
        return emulator.instruction(arch, form.name)
    except emulator.UnknownInstruction:
        return form


def tiles_for(ins: object, form: Form) -> int:
    """So many tiles that a file stays within about 150 KB: the probes (mostly zeros), and random ones by their size."""
    size = sum(
        f.code_dtype.itemsize * count
        for f, count in (
            (form.a, form.m * form.k),
            (form.b, form.k * form.n),
            (form.c, form.m * form.n),
            (form.d, form.m * form.n),
        )
    )
    directed = cases.probe_tiles(ins)
    budget = (
        30_000
        if form.types[0] == "s32"
        else 45_000
        if form.types[0] == "f64"
        else 120_000
        if form.warpgroup or form.tensor
        else 80_000
    )
    return directed + max(budget // size, directed // 2, 22)


def arrays_of(x: cases.Cases, d: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """What a golden file holds: a b c d [scale_a scale_b] why classes instruction."""
    scales = {} if x.scale_a is None else {"scale_a": x.scale_a, "scale_b": x.scale_b}
    return {
        "a": x.a,
        "b": x.b,
        "c": x.c,
        "d": d,
        **scales,
        "why": x.why,
        "classes": np.array(x.classes),
        "instruction": np.array(name),
    }


def file_name(name: str) -> str:
    return name.replace("::", "_") + ".npz"


def capture(
    gpu: Gpu,
    arch: str,
    chosen: list[Form],
    ops: list[Operation],
    options: argparse.Namespace,
    sass: dict[str, dict[str, int]],
) -> list[str]:
    """Capture every chosen form and operation into the folder; returns the sentences of those refused."""
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "machine.json"
    machine = json.loads(manifest.read_text()) if manifest.exists() else {"files": {}}
    if machine.get("device", gpu.name) != gpu.name:
        raise CaptureError(
            f"{folder} holds vectors of {machine['device']}, this GPU is {gpu.name}: choose another folder"
        )
    files, refused = machine["files"], []
    for number, form in enumerate(chosen):
        ins = row(arch, form)
        try:
            gpu.check_placement(number, form)
            x = cases.generate(ins, options.tiles or tiles_for(ins, form), options.seed)
            d = gpu.run_repeatedly(number, form, x)
        except Refused as why:
            print(f"REFUSED {why}", flush=True)
            refused.append(str(why))
            continue
        path = folder / file_name(form.name)
        np.savez_compressed(path, **arrays_of(x, d, form.name))
        files[path.name] = {
            "instruction": form.name,
            "ptx": form.ptx,
            "sass": sass.get(form.name, {}),
            "rows": int(d.size),
            "tiles": len(x),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        print(f"{form.name}: {len(x)} tiles, {d.size:,} dot products, {path.stat().st_size // 1024} KB", flush=True)
    for number, op in enumerate(ops):
        try:
            arrays = gpu.run_operation(number, op, options.seed)
        except Refused as why:
            print(f"REFUSED {why}", flush=True)
            refused.append(str(why))
            continue
        path = folder / operation_file(op)
        np.savez_compressed(path, **arrays, operation=np.array(op.name))
        files[path.name] = {
            "operation": op.name,
            "sass": sass.get(op.name, {}),
            "rows": int(arrays["y"].size),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        print(f"{op.name}: {arrays['y'].size:,} results{' and a sweep' * ('sums' in arrays)}", flush=True)
    machine = {
        "kind": "captured",
        "arch": arch,
        "device": gpu.name,
        "compute_capability": f"{gpu.major}.{gpu.minor}",
        "driver": driver_version(),
        "cuda_driver": gpu.cuda_driver,
        "toolkit": toolkit_version(),
        "tool": f"tools/capture.py {VERSION}",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "tools/capture.py", *sys.argv[1:]]),
        "seed": options.seed,
        "launches": 3,
        "licence": LICENCE,
        "files": dict(sorted(files.items())),
    }
    manifest.write_text(json.dumps(machine, indent=1) + "\n")
    print(f"{len(files)} files, {sum(f.stat().st_size for f in folder.glob('*.npz')) / 1e6:.1f} MB in {folder}")
    return refused


def compare(gpu: Gpu, arch: str, chosen: list[Form], options: argparse.Namespace) -> list[str]:
    """Fresh tiles, GPU against emulator; a sentence per form that differs, whose tiles go to folder/differences."""
    bad = []
    for number, form in enumerate(chosen):
        ins = row(arch, form)
        if ins is form:
            print(f"{form.name}: the emulator has no row for it")
            continue
        total, wrong, kept, by_class = 0, 0, [], Counter()
        try:
            gpu.check_placement(number, form)
            for batch, start in enumerate(range(0, options.compare, 4096)):
                x = cases.generate(ins, min(4096, options.compare - start), options.seed + 1 + batch, probes=batch == 0)
                d = gpu.run_repeatedly(number, form, x)
                want = ins.codes(x.a, x.b, x.c, x.scale_a, x.scale_b, engine=options.engine)
                total, wrong = total + d.size, wrong + np.count_nonzero(d != want)
                whole = {**arrays_of(x, d, form.name), "emulator": want}
                per_tile = {key: array for key, array in whole.items() if key not in ("classes", "instruction")}
                for tile in np.flatnonzero((d != want).any((1, 2))):
                    by_class[x.classes[x.why[tile]]] += np.count_nonzero(d[tile] != want[tile])
                    kept.append({key: array[tile] for key, array in per_tile.items()})
                kept = kept[:32]
        except (Refused, emulator.EmulatorError) as why:
            print(f"{form.name}: {why}", flush=True)
            bad.append(f"{form.name}: {why}")
            continue
        if not wrong:
            print(f"{form.name}: {total:,} equal", flush=True)
            continue
        bad.append(f"{form.name}: {wrong:,} of {total:,} differ ({', '.join(f'{k} {v}' for k, v in by_class.items())})")
        print(bad[-1], flush=True)
        place = options.folder / "differences"
        place.mkdir(parents=True, exist_ok=True)
        stacked = {key: np.stack([tile[key] for tile in kept]) for key in kept[0]}
        np.savez_compressed(
            place / file_name(form.name), **stacked, classes=whole["classes"], instruction=whole["instruction"]
        )
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Names and file format: golden/README.md"
    )
    parser.add_argument("folder", type=Path, help="golden folder to write, e.g. golden/sm_90-NVIDIA_H100_80GB_HBM3")
    parser.add_argument(
        "--arch", choices=ARCHITECTURES, help="compile for this architecture (default: that of the GPU)"
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="only forms whose name matches")
    parser.add_argument("--tiles", type=int, help="tiles per form (default: by the size of a tile)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=8, help="n of the wgmma forms (default 8)")
    parser.add_argument(
        "--compare", type=int, metavar="N", help="do not store: N fresh tiles per form, GPU against emulator"
    )
    parser.add_argument("--engine", help="the emulator's engine for --compare (default: its own choice)")
    parser.add_argument("--compile-only", action="store_true", help="compile and stop; needs no GPU")
    options = parser.parse_args()
    try:
        return run(options)
    except CaptureError as why:
        print(f"capture: {why}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    arch = options.arch or (None if options.compile_only else gpu_arch())
    if arch is None:
        raise CaptureError(f"--compile-only needs --arch, one of {', '.join(ARCHITECTURES)}")
    if options.n % 8 or not 8 <= options.n <= 256:
        raise CaptureError(f"--n {options.n}: wgmma takes n = 8, 16, ... 256")
    chosen = [form for form in forms(arch, options.n) if re.search(options.only, form.name)]
    ops = [op for op in operations(arch) if re.search(options.only, op.name) and not options.compare]
    if not chosen and not ops:
        raise CaptureError(f"no form of {arch} matches {options.only!r}")
    build = options.folder / "build" if options.compile_only else Path(tempfile.mkdtemp(prefix="capture-"))
    library = compile_forms(chosen, ops, arch, build)
    print(f"{len(chosen)} forms and {len(ops)} operations compiled for {arch}: {library}", flush=True)
    if options.compile_only:
        return 0
    gpu = Gpu(library)
    here = f"sm_{gpu.major}{gpu.minor}"
    if here != arch:
        raise CaptureError(f"this GPU, {gpu.name}, is {here}; kernels for {arch} do not run on it")
    failed = (
        compare(gpu, arch, chosen, options)
        if options.compare
        else capture(gpu, arch, chosen, ops, options, opcodes(library, chosen, ops))
    )
    verdict = "differ" if options.compare else "refused"
    print("\n".join([f"{len(failed)} of {len(chosen) + len(ops)} {verdict}", *failed]))
    return 1 if failed else 0


def gpu_arch() -> str:
    """sm_XY of GPU 0, from nvidia-smi."""
    smi = shutil.which("nvidia-smi")
    done = smi and subprocess.run(
        [smi, "--query-gpu=compute_cap", "--format=csv,noheader"], capture_output=True, text=True
    )
    found = re.match(r"(\d+)\.(\d+)", done.stdout) if done else None
    if not found:
        raise CaptureError("nvidia-smi reports no GPU: say --arch, and --compile-only on a machine without one")
    return f"sm_{found[1]}{found[2]}"


if __name__ == "__main__":
    raise SystemExit(main())
