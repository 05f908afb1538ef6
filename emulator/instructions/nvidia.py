"""NVIDIA's adders, and every instruction over them, one row each; PTX names parse to rows."""

from __future__ import annotations

import itertools
import re
from typing import Any

from ..formats import number_format
from .row import Adder, Instruction

__all__ = ["ADDERS", "ARCHS", "NOT_MODELLED", "canonical", "legal_n", "rows"]

# KM section IV and its models; XMMA table 4; FHMP for the extra bits of A100. The carry width is the smallest that
# holds the widest group's sum (16 products of at most 4, plus C: 16 * 4 + 2 < 2**7).
ADDERS = {adder.name: adder for adder in (
    Adder("volta", 64, 23, 5),
    Adder("ampere", 128, 24, 6),            # Turing, Ampere and Ada alike
    Adder("ada_fp8", 128, 13, 6),
    Adder("hopper", 256, 25, 7),            # Hopper and Blackwell alike
    Adder("hopper_fp8", 256, 13, 7),
    Adder("blackwell_fp4", 256, 35, 13),
)}

ARCHS = {
    "sm_70": ("Volta", "volta v100"),
    "sm_75": ("Turing", "turing t4 rtx20 sm_75a"),
    "sm_80": ("Ampere", "ampere a100 a30"),
    "sm_86": ("Ampere (GA10x)", "a2 a10 a40 rtx30"),
    "sm_89": ("Ada", "ada l4 l40 l40s rtx40"),
    "sm_90": ("Hopper", "hopper h100 h200 gh200 sm_90a"),
    "sm_100": ("Blackwell", "blackwell b200 gb200 sm_100a sm_100f"),
    "sm_120": ("RTX Blackwell", "rtx-blackwell rtx50 sm_120a sm_120f"),
}
NOT_MODELLED = {
    "sm_103": "its fp4 path takes K = 96 and nobody has published its bits",
    "sm_110": "only two of its rows are known, from one public report",
    "sm_121": "nobody has published its bits; sm_120 is its nearest relative",
}


# --- the rows --------------------------------------------------------------------------------------------------------

_SHAPE = re.compile(r"m(\d+)n(\d+|N)k(\d+)")
_FP8 = ("e4m3", "e5m2")
_F8F6F4 = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")
_RECORDED = {"sm_70": "V100", "sm_80": "A100", "sm_86": "A2", "sm_89": "RTX 1000 Ada", "sm_90": "H100",
             "sm_100": "B200"}
_FP4_NOTE = "[XMMA]'s reading: groups of 16, one window; [TC5] differs for C between scale and product exponents"
_WGMMA_N = tuple(range(8, 257, 8))
_INTEGER_N = (8, 16, 24, *range(32, 257, 16))       # PTX, "wgmma.mma_async" and "tcgen05.mma": integer and bit forms


def _pairs(types: tuple[str, ...]) -> list[str]:
    return [f"{a}.{b}" for a, b in itertools.product(types, repeat=2)]


def _row(arch: str, op: str, shape: str, types: str, method: str, adder: str | None = None, *, kind: str = "",
         vec: int = 0, scale: str = "", rnd: str = "", suffix: str = "", recorded: bool = False,
         sources: str = "", note: str = "") -> Instruction:
    """One Instruction; `types` is d.a.b.c as PTX writes it, or d.a.b where C has D's type; n may be N (any legal n)."""
    m, n, k = _SHAPE.fullmatch(shape).groups()  # type: ignore[union-attr]
    name = f"{op}.{shape}" + f".kind::{kind}" * bool(kind) + f".scale_vec::{vec}X" * bool(vec) + f".{rnd}" * bool(rnd)
    name += f".{types}" + f".{scale}" * bool(scale) + f".{suffix}" * bool(suffix)
    d, a, b, c = (number_format(t) for t in (types.split(".") + types.split(".")[:1])[:4])
    return Instruction(arch, name, int(m), 0 if n == "N" else int(n), int(k), a, b, c, d, method,
                       ADDERS[adder] if adder else None, number_format(scale) if scale else None,  # type: ignore[arg-type]
                       int(k) // vec if vec else 0, {"rm": "rd", "rp": "ru", "rn": "rne"}.get(rnd, rnd) or None,
                       suffix == "satfinite", tuple(sources.split()), _RECORDED[arch] if recorded else "", note)


def _mma(arch: str) -> list[Instruction]:
    """mma.sync of one architecture; what exists where is PTX ISA 9.7.14 as ptxas 13.0 enforces it."""
    version = int(arch[3:])
    hmma = "volta" if version == 70 else "ampere" if version < 90 else "hopper"
    recorded = arch in _RECORDED
    rows = []

    def add(shapes: str, types: list[str] | str, *args: str, **kwargs: Any) -> None:
        for shape, t in itertools.product(shapes.split(), types.split() if isinstance(types, str) else types):
            rows.append(_row(arch, "mma", shape, t, *args, **kwargs))

    # m8n8k4 F16: Volta's own; Turing has a Volta-compatible path; later it is CUDA-core code
    to_f32, to_f16 = "f32.f16.f16.f32 f32.f16.f16.f16", "f16.f16.f16.f16"
    if version < 80:
        for form in f"{to_f32} {to_f16}".split():
            seen = version == 70 and form != "f32.f16.f16.f16"
            add("m8n8k4", form, "chain", "volta", recorded=seen, sources="KM XMMA FHMP",
                note="" if version == 70 else "HMMA.884: [XMMA] since 2.1.0 takes Volta's adder; before, F = 24")
    else:
        add("m8n8k4", to_f32, "simt_f32", sources="SASS")
        add("m8n8k4", to_f16, "simt_f16", sources="SASS")
    if version >= 75:
        f16 = "f32.f16.f16.f32 f16.f16.f16.f16"
        turing = "[XMMA] finds groups of 8; Valpey et al. (arXiv 2502.15999) report a 5-term sum, which fits HMMA.884"
        add("m16n8k8", f16, "chain", hmma, sources="XMMA KM", note=turing if version == 75 else "")
    if version >= 80:
        add("m16n8k16", f16, "chain", hmma, recorded=recorded, sources="KM XMMA")
        add("m16n8k8", "f32.bf16.bf16.f32", "chain", hmma, sources="XMMA KM")
        add("m16n8k16", "f32.bf16.bf16.f32", "chain", hmma, recorded=recorded, sources="KM XMMA")
        tf32 = "recorded rows fill 4 of the 8 k; groups of 8 are [XMMA] and [KM]'s model" if version >= 90 else ""
        add("m16n8k4", "f32.tf32.tf32.f32", "chain", hmma, sources="XMMA KM")
        add("m16n8k8", "f32.tf32.tf32.f32", "chain", hmma, recorded=recorded, sources="KM XMMA", note=tf32)
        for rnd in ("", "rn", "rz", "rm", "rp"):
            shapes = "m8n8k4" + " m16n8k4 m16n8k8 m16n8k16" * (version >= 90)
            add(shapes, "f64.f64.f64.f64", "fma_chain", rnd=rnd, sources="PTX FHMP XMMA")

    # FP8: native on Ada and RTX Blackwell; unpacked to F16 on Hopper and Blackwell
    fp8 = [f"{d}.{ab}.{d}" for d in ("f32", "f16") for ab in _pairs(_FP8)]
    if version == 89:
        same = [t for t in fp8 if t.split(".")[1] == t.split(".")[2]]
        mixed = [t for t in fp8 if t not in same]
        add("m16n8k32", same, "chain", "ada_fp8", recorded=True, sources="KM XMMA EMU")
        add("m16n8k32", mixed, "chain", "ada_fp8", sources="EMU XMMA")
        add("m16n8k16", fp8, "chain", "ada_fp8", sources="EMU XMMA")
    elif version in (90, 100):
        for kind in ("", "f8f6f4")[:1 + (version == 100)]:
            for t in fp8:
                twins = t.split(".")[1] == t.split(".")[2]
                add("m16n8k32", t, "fp8_through_f16", "hopper", kind=kind, recorded=twins and not kind,
                    sources="KM SASS")
        add("m16n8k16", fp8, "fp8_through_f16", "hopper", sources="SASS",
            note="two HMMA.1688 and one IEEE add, read off the SASS for e4m3.e4m3 and e4m3.e5m2")
    elif version == 120:
        add("m16n8k16 m16n8k32", fp8, "chain", "hopper", sources="XMMA KM")
        add("m16n8k32", [f"{d}.{ab}.{d}" for d in ("f32", "f16") for ab in _pairs(_F8F6F4)], "chain", "hopper",
            kind="f8f6f4", sources="XMMA KM")
        add("m16n8k32", [f"f32.{ab}.f32" for ab in _pairs(_F8F6F4)], "chain", "hopper", kind="mxf8f6f4", vec=1,
            scale="ue8m0", sources="XMMA")
        for kind, vec, scale in (("mxf4", 2, "ue8m0"), ("mxf4nvf4", 2, "ue8m0"), ("mxf4nvf4", 4, "ue4m3")):
            add("m16n8k64", "f32.e2m1.e2m1.f32", "exact_groups", "blackwell_fp4", kind=kind, vec=vec, scale=scale,
                sources="XMMA", note=_FP4_NOTE)

    # integers and bits
    clamp = "[TC5] finds one clamp of the exact sum on tcgen05; taken for mma.sync too"
    if version >= 75:
        bigger = version >= 80
        for types, shapes in ((_pairs(("s8", "u8")), "m8n8k16" + " m16n8k16 m16n8k32" * bigger),
                              (_pairs(("s4", "u4")), "m8n8k32" + " m16n8k32 m16n8k64" * bigger)):
            add(shapes, [f"s32.{ab}.s32" for ab in types], "integer", sources="PTX")
            add(shapes, [f"s32.{ab}.s32" for ab in types], "integer", suffix="satfinite", sources="PTX", note=clamp)
        add("m8n8k128" + " m16n8k128 m16n8k256" * bigger, "s32.b1.b1.s32", "xor_popc", suffix="xor.popc", sources="PTX")
        if bigger:
            add("m8n8k128 m16n8k128 m16n8k256", "s32.b1.b1.s32", "and_popc", suffix="and.popc", sources="PTX")
    return rows


def _wgmma() -> list[Instruction]:
    """wgmma.mma_async of sm_90a (PTX ISA 9.7.15)."""
    rows = [_row("sm_90", "wgmma", f"m64nNk{k}", types, "chain", "hopper", sources="XMMA")
            for k, types in ((16, "f32.f16.f16"), (16, "f16.f16.f16"), (16, "f32.bf16.bf16"), (8, "f32.tf32.tf32"))]
    for d, ab in itertools.product(("f32", "f16"), _pairs(_FP8)):
        same = d == "f32" and ab in ("e4m3.e4m3", "e5m2.e5m2")
        rows.append(_row("sm_90", "wgmma", "m64nNk32", f"{d}.{ab}", "chain", "hopper_fp8", recorded=same,
                         sources="KM XMMA EMU" if same else "XMMA",
                         note="recorded with C = 0; a nonzero C is aligned and cut to 13 bits: [XMMA][EMU]" * same))
    for ab, suffix in itertools.product(_pairs(("s8", "u8")), ("", "satfinite")):
        rows.append(_row("sm_90", "wgmma", "m64nNk32", f"s32.{ab}", "integer", suffix=suffix, sources="PTX"))
    rows.append(_row("sm_90", "wgmma", "m64nNk256", "s32.b1.b1", "and_popc", suffix="and.popc", sources="PTX"))
    return rows


def _tcgen05() -> list[Instruction]:
    """tcgen05.mma of sm_100a, cta_group::1 (PTX ISA 9.7.16). PTX names neither shape nor types; these names do."""
    rows = []

    def add(k: int, types: list[str], method: str, adder: str | None = None, **kwargs: Any) -> None:
        for m, t in itertools.product((64, 128), types):
            half = "PTX issues this kind with M = 128 only; this is half of it" if m == 64 and "scale" in kwargs else ""
            note = "; ".join(filter(None, (kwargs.get("note"), half)))
            rows.append(_row("sm_100", "tcgen05.mma", f"m{m}nNk{k}", t, method, adder, **{**kwargs, "note": note}))

    add(16, ["f32.f16.f16", "f16.f16.f16", "f32.bf16.bf16"], "chain", "hopper", kind="f16", sources="XMMA TC5 THOR")
    add(8, ["f32.tf32.tf32"], "chain", "hopper", kind="tf32", sources="XMMA TC5")
    add(32, [f"{d}.{ab}" for d in ("f32", "f16") for ab in _pairs(_F8F6F4)], "chain", "hopper", kind="f8f6f4",
        sources="XMMA TC5 KM")
    for suffix in ("", "satfinite"):
        add(32, [f"s32.{ab}" for ab in _pairs(("s8", "u8"))], "integer", kind="i8", suffix=suffix, sources="TC5 PTX")
    add(32, [f"f32.{ab}" for ab in _pairs(_F8F6F4)], "chain", "hopper", kind="mxf8f6f4", vec=1, scale="ue8m0",
        sources="XMMA TC5 THOR")
    for kind, vec, scale in (("mxf4", 2, "ue8m0"), ("mxf4nvf4", 2, "ue8m0"), ("mxf4nvf4", 4, "ue8m0"),
                             ("mxf4nvf4", 4, "ue4m3")):
        add(64, ["f32.e2m1.e2m1"], "exact_groups", "blackwell_fp4", kind=kind, vec=vec, scale=scale, sources="XMMA TC5",
            note=_FP4_NOTE)
    return rows


def rows(arch: str) -> list[Instruction]:
    """Every row of one of ARCHS."""
    f32 = number_format("float32")
    ffma = Instruction(arch, "fma.rn.f32", 1, 1, 1, f32, f32, f32, f32, "fma_chain", rnd="rne", sources=("PTX",))
    return _mma(arch) + (_wgmma() if arch == "sm_90" else []) + (_tcgen05() if arch == "sm_100" else []) + [ffma]


# --- names -----------------------------------------------------------------------------------------------------------

_NOISE = {"sync", "aligned", "row", "col", "block_scale", "mma_async", "cta_group::1"}


def canonical(arch: str, name: str) -> str:
    """A PTX or short spelling in this table's word order: op, shape, kind, scale_vec, rounding, types, suffix."""
    words = [w for w in name.strip().split(".") if w and w not in _NOISE]
    op = "tcgen05.mma" if words[:2] == ["tcgen05", "mma"] else words[0] if words else ""
    words = words[len(op.split(".")):]

    def take(pattern: str) -> str:
        found = next((w for w in words if re.fullmatch(pattern, w)), "")
        if found:
            words.remove(found)
        return found

    shape, kind = take(r"m\d+n(\d+|N)k\d+"), take("kind::.*")
    vec, block, rnd, satfinite = take("scale_vec::.*"), take(r"block\d+"), take("r[nzmp]"), take("satfinite")
    if shape and kind.startswith("kind::mx") and not vec:
        size = int(block[5:]) if block else 0 if kind == "kind::mxf4nvf4" else 32
        vec = f"scale_vec::{int(shape.rsplit('k', 1)[1]) // size}X" if size else ""
    return ".".join(w for w in (op, shape, kind, vec, rnd, *words, satfinite) if w)


def legal_n(row: Instruction) -> tuple[int, ...]:
    """The n an instruction may have (PTX ISA: "wgmma.mma_async", "tcgen05.mma", tables of shapes)."""
    if row.n:
        return (row.n,)
    n = _INTEGER_N if row.d.name == "int32" else _WGMMA_N
    return tuple(x for x in n if x % 16 == 0) if row.m == 128 and not row.block else n
