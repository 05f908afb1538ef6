"""Conversions and special functions for tools/capture.py: which PTX operations a GPU has, their inputs, kernels."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator

import numpy as np

from emulator import formats
from emulator.convert import boundaries

MOST = 20_000           # inputs of a conversion whose source has more codes than that
SAMPLES = 4096          # inputs of a function beside those that are numbers of float16
NARROW = ("e2m3", "e3m2", "e2m1")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One PTX operation on `lanes` numbers at a time; function: its float32 range is swept as well."""

    name: str
    source: str
    target: str
    lanes: int = 1
    random: bool = False
    function: bool = False

    a = property(lambda self: formats.number_format(self.source))
    d = property(lambda self: formats.number_format(self.target))


def operations(arch: str) -> Iterator[Operation]:
    """Every conversion and function that ptxas 13.0 takes for `arch` (PTX ISA, "cvt" and the approximations)."""
    sm = int(arch[3:])

    def cvt(target: str, source: str, words: str, lanes: int = 1, packed: bool = False) -> Operation:
        to = f"{target}x{lanes}" if lanes > 1 else target
        of = f"{source}x{lanes}" if packed else source
        return Operation(f"cvt.{words}.{to}.{of}", source, target, lanes, words.startswith("rs"))

    for target in ("f16", "bf16")[:1 + (sm >= 80)]:
        for words in ("rn", "rz", "rm", "rp", "rn.satfinite", "rz.satfinite", *["rn.relu"] * (sm >= 80)):
            yield cvt(target, "f32", words)
    if sm >= 80:
        directed = ("rn", "rz") * (sm >= 90) + ("rn.satfinite", "rz.satfinite") * (sm >= 100)
        for words in ("rna", "rna.satfinite", *directed):
            yield cvt("tf32", "f32", words)
    if sm >= 89:
        for narrow in ("e4m3", "e5m2"):
            for words in ("rn.satfinite", "rn.satfinite.relu"):
                yield cvt(narrow, "f32", words, 2)
                yield cvt(narrow, "f16", words, 2, packed=True)
            yield cvt("f16", narrow, "rn", 2, packed=True)
    if sm >= 100:
        for narrow in NARROW:
            yield cvt(narrow, "f32", "rn.satfinite", 2)
            yield cvt("f16", narrow, "rn", 2, packed=True)
        for words in ("rz", "rp", "rz.satfinite", "rp.satfinite"):
            yield cvt("ue8m0", "f32", words, 2)
            yield cvt("ue8m0", "bf16", words, 2, packed=True)
        yield cvt("bf16", "ue8m0", "rn", 2, packed=True)
    if sm == 100:
        for target in ("f16", "bf16"):
            for words in ("rs", "rs.satfinite"):
                yield cvt(target, "f32", words, 2)
        for narrow in ("e4m3", "e5m2", *NARROW):
            yield cvt(narrow, "f32", "rs.satfinite", 4)
    for name in ("ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos"):
        for ftz in ("", ".ftz"):
            yield Operation(f"{name}.approx{ftz}.f32", "f32", "f32", function=True)
    yield Operation("tanh.approx.f32", "f32", "f32", function=True)
    yield from (Operation(f"{name}.approx.f16", "f16", "f16", function=True) for name in ("ex2", "tanh"))
    if sm >= 90:
        for name in ("ex2.approx.ftz.bf16", "tanh.approx.bf16"):
            yield Operation(name, "bf16", "bf16", function=True)


@functools.cache
def _boundaries(source: str, target: str) -> np.ndarray:
    return boundaries(formats.number_format(source), formats.number_format(target))


def inputs(op: Operation, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """x (N, lanes) codes and the random words (N,) or None: every code of a source of 16 bits or fewer; of float32 the
    boundaries of the target, at most MOST; of a function every number of float16, and samples."""
    rng = np.random.default_rng([seed, len(op.name)])
    if op.function and op.source == "f32":
        half = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
        x = np.concatenate([half, rng.integers(0, 1 << 32, SAMPLES, np.uint32)])
    elif op.a.bits <= 16:
        x = np.arange(1 << op.a.bits, dtype=op.a.code_dtype)
    elif op.target == "tf32":                   # any 19 bits above an edge of what is dropped
        edges = np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF], np.uint32)
        x = rng.integers(0, 1 << 19, MOST, np.uint32) << 13 | rng.choice(edges, MOST)
    else:
        x = _boundaries(op.source, op.target)
        x = x if x.size <= MOST else x[np.sort(rng.choice(x.size, MOST, replace=False))]
        x = np.concatenate([x, rng.integers(0, 1 << 32, 2048, np.uint32)])
    if op.random:                               # each number with several words, the ends among them
        x = np.repeat(x[: MOST // 8], 8)
    x = np.concatenate([x, x[: -len(x) % op.lanes]])
    if op.lanes > 1:                            # every number in every lane
        x = np.concatenate([np.roll(x, lane) for lane in range(op.lanes if len(x) < 4096 else 1)])
    x = x.reshape(-1, op.lanes)
    words = rng.integers(0, 1 << 32, len(x), np.uint32)
    words[::8], words[1::8] = 0, 0xFFFFFFFF
    return x.astype(op.a.code_dtype), words if op.random else None


def operation_source(op: Operation, number: int) -> str:
    """The device function op_<number> on u32 codes, and its kernels."""
    a_bits, d_bits = max(8, op.a.bits), max(8, op.d.bits)
    nibbles = "e2m1" in op.name and op.lanes > 1            # packed in bytes without gaps
    a_bits, d_bits = (4 if nibbles and t == "e2m1" else bits for t, bits in ((op.source, a_bits), (op.target, d_bits)))
    packed_in = op.lanes > 1 and op.source != "f32"
    whole_in, whole_out = a_bits * op.lanes if packed_in else 32, d_bits * op.lanes
    letter = {8: "h", 16: "h", 32: "f" if op.target == "f32" else "r"}[whole_out]
    holder = {"h": "u16", "r": "u32", "f": "float"}[letter]
    if packed_in:
        given = "|".join(f"x[{i}] << {i * a_bits}" for i in range(op.lanes))
        operands = [f'"{"r" if whole_in == 32 else "h"}"(({"u32" if whole_in == 32 else "u16"})({given}))']
    elif op.source == "f32":
        operands = [f'"f"(__uint_as_float(x[{i}]))' for i in reversed(range(op.lanes))]
    else:
        operands = ['"h"((u16)x[0])']
    places = [f"%{i + 1}" for i in range(len(operands))]
    if op.lanes == 4:
        places = ["{" + ", ".join(places) + "}"]
    if op.random:
        operands.append('"r"(random)')
        places.append(f"%{len(operands)}")
    if whole_out == 8:
        body = f"{{ .reg .b8 t; {op.name} t, {', '.join(places)}; mov.b16 %0, {{t, 0}}; }}"
    elif whole_in == 8:
        body = f"{{ .reg .b8 t, u; mov.b16 {{t, u}}, %1; {op.name} %0, t; }}"
    else:
        body = f"{op.name} %0, {', '.join(places)};"
    result = "__float_as_uint(d)" if letter == "f" else "(u32)d"
    mask = f"{(1 << d_bits) - 1:#x}u"
    lines = [f"// {op.name}", f"__device__ void op_{number}(const u32 *x, u32 random, u32 *y) {{", f"    {holder} d;",
             f'    asm volatile("{body}" : "={letter}"(d) : {", ".join(operands)});']
    lines += [f"    y[{i}] = {result} >> {i * d_bits} & {mask};" for i in range(op.lanes)]
    return "\n".join([*lines, "}", f"OPERATION({number}, {op.lanes})"])


def table_source(chosen: list[Operation]) -> str:
    body = "\n\n".join(operation_source(op, i) for i, op in enumerate(chosen))
    rows = "\n".join(f'    {{"{op.name}", operation_{i}, sweep_{i}, {op.lanes}}},' for i, op in enumerate(chosen))
    rows = rows or '    {"", nullptr, nullptr, 1},'
    return f'{body}\n\nextern "C" const Operation operations[] = {{\n{rows}\n}};\n'


def file_name(op: Operation) -> str:
    return re.sub(r"[^\w.]", "_", op.name) + ".npz"
