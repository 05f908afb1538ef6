"""The instruction table: legality as ptxas enforces it, derived columns, names, evidence."""

import re
from pathlib import Path

import pytest

from emulator import ARCHS, UnknownInstruction, find, instruction, table
from emulator.instructions import ADDERS, SOURCES, legal_n

LEGALITY = Path(__file__).with_name("ptx_legality.txt").read_text().splitlines()
COLUMNS = LEGALITY[1].split()[2:]
# the architectures of the table stand for their feature-complete targets
TARGET = {"sm_75": "sm_75", "sm_80": "sm_80", "sm_86": "sm_86", "sm_89": "sm_89", "sm_90": "sm_90a", "sm_100": "sm_100a",
          "sm_120": "sm_120a"}
BLOCK = {"mxf8f6f4 1X": "kind::mxf8f6f4.scale_vec::1X", "mxf4 2X": "kind::mxf4.scale_vec::2X",
         "mxf4nvf4 2X": "kind::mxf4nvf4.scale_vec::2X", "mxf4nvf4 4X": "kind::mxf4nvf4.scale_vec::4X"}


def name_of(form: str) -> str | None:
    """The table's name of a form as the legality file words it; None for forms that are no arithmetic of their own."""
    form = re.sub(r" \(.*\)", "", form)
    words = form.split()
    if words[0] == "wgmma":
        types = words[2] if words[2].count(".") == 2 else words[2] + "." + words[2].split(".")[1]
        return f"wgmma.{words[1]}.{types}"
    if words[0] == "tcgen05.mma":
        kinds = {"f16": "m64n8k16.kind::f16.f32.f16.f16", "tf32": "m64n8k8.kind::tf32.f32.tf32.tf32",
                 "f8f6f4": "m64n8k32.kind::f8f6f4.f32.e4m3.e4m3", "i8": "m64n8k32.kind::i8.s32.s8.s8",
                 "mxf8f6f4": "m128n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.ue8m0",
                 "mxf4": "m128n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.ue8m0",
                 "mxf4nvf4": "m128n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.ue4m3"}
        return None if "block" in form and "scale" not in form else "tcgen05.mma." + kinds[words[1]]
    shape, rest = words[1], " ".join(words[2:])
    for spelling, kind in BLOCK.items():
        if rest.startswith(spelling):
            types = rest[len(spelling):].split()
            ab = types[0] if len(types) == 2 else "e2m1.e2m1"
            return f"mma.{shape}.{kind}.f32.{ab}.f32.{types[-1]}"
    rest = rest.replace("row.row", "").replace("row.col", "").replace("col.row", "").replace("col.col", "").strip()
    if rest in ("tf32", "f64", "f64 .rz"):
        d, ab = ("f32", "tf32") if rest == "tf32" else ("f64", "f64")
        return f"mma.{shape}{'.rz' * rest.endswith('rz')}.{d}.{ab}.{ab}.{d}"
    if match := re.fullmatch(r"(s8|s4|b1) ?(.*)", rest):
        return f"mma.{shape}.s32.{match[1]}.{match[1]}.s32" + f".{match[2]}" * bool(match[2])
    return f"mma.{shape}." + rest.replace(" ", ".")


FORMS = [(line.split(" ", 1)[0], name_of(line.split(" ", 1)[1])) for line in LEGALITY[2:]]


@pytest.mark.parametrize("arch", TARGET)
def test_what_is_legal_where(arch):
    column = COLUMNS.index(TARGET[arch])
    checked = 0
    for verdict, name in FORMS:
        if name is None:
            continue
        checked += 1
        if verdict[column] == "Y":
            assert find(arch, name).arch == arch
        else:
            with pytest.raises(UnknownInstruction):
                find(arch, name)
    assert checked > 70


def rows():
    return [row for arch in ARCHS for row in table(arch).values()]


def test_every_row_has_evidence_from_a_named_source():
    for row in rows():
        assert row.evidence.startswith(("silicon: ", "published: ", "documented: ", "assumed: ")), row
        assert len(row.evidence) > 15 and set(row.sources) <= set(SOURCES), row


def test_shapes_and_scales_hang_together():
    for row in rows():
        assert (row.block > 0) == (row.scale is not None) and (not row.block or row.k % row.block == 0), row
        assert (row.adder is not None) == (row.method in (
            "chain", "exact_groups", "fp8_through_f16", "exact_sums", "flushed_pairs", "cut_then_floor", "even_and_odd",
            "digit_chain", "sum_then_c")), row
        assert row.n in legal_n(row) or row.n == 0


# Products per sum: FHMP 2021 (4, 8, 16 or more), KM section IV, XMMA table 4
@pytest.mark.parametrize("arch, name, terms, frac, floor, rounding, precision", [
    ("sm_70", "mma.m8n8k4.f32.f16.f16.f32", 4, 23, -131, "rz", 23),
    ("sm_70", "mma.m8n8k4.f16.f16.f16.f16", 4, 23, -19, "rne", 10),
    ("sm_75", "mma.m16n8k8.f32.f16.f16.f32", 8, 24, -132, "rz", 23),
    ("sm_80", "mma.m16n8k16.f16.f16.f16.f16", 8, 24, -20, "rne", 10),
    ("sm_80", "mma.m16n8k16.f32.bf16.bf16.f32", 8, 24, -132, "rz", 23),
    ("sm_80", "mma.m16n8k8.f32.tf32.tf32.f32", 4, 24, -132, "rz", 23),
    ("sm_89", "mma.m16n8k32.f32.e4m3.e5m2.f32", 16, 13, -132, "rz", 13),
    ("sm_89", "mma.m16n8k32.f16.e4m3.e4m3.f16", 16, 13, -20, "rne", 10),
    ("sm_90", "mma.m16n8k16.f16.f16.f16.f16", 16, 25, -21, "rne", 10),
    ("sm_90", "mma.m16n8k8.f32.tf32.tf32.f32", 8, 25, -133, "rz", 23),
    ("sm_90", "mma.m16n8k32.f32.e4m3.e4m3.f32", 16, 25, -133, "rz", 23),
    ("sm_90", "wgmma.m64n256k32.f32.e5m2.e4m3", 32, 13, -133, "rz", 13),
    ("sm_100", "tcgen05.mma.m64n8k32.kind::f8f6f4.f32.e5m2.e4m3", 32, 25, -133, "rz", 23),
    ("sm_100", "tcgen05.mma.m128n16k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.ue4m3", 4, 35, -139, "rz", 23),
    ("sm_120", "mma.m16n8k32.kind::f8f6f4.f16.e2m1.e3m2.f16", 32, 25, -21, "rne", 10),
    ("sm_120", "mma.m16n8k16.f32.e4m3.e4m3.f32", 16, 25, -133, "rz", 23),
    ("gfx908", "v_mfma_f32_32x32x8f16", 4, None, -126, "rne", None),                    # XMMA table 5, and mmasim 2.1.1
    ("gfx908", "v_mfma_f32_32x32x4bf16", 2, None, -126, "rne", None),
    ("gfx90a", "v_mfma_f32_16x16x16bf16_1k", 4, None, -126, "rne", None),
    ("gfx90a", "v_mfma_f32_16x16x8bf16", 2, None, -126, "rne", None),
    ("gfx942", "v_mfma_f32_4x4x4_16b_bf16", 4, 24, -126, "rne", 23),
    ("gfx942", "v_mfma_f32_32x32x8_f16", 8, 24, -126, "rne", 23),
    ("gfx942", "v_mfma_f32_16x16x8_xf32", 4, 24, -126, "rne", 23),
    ("gfx942", "v_mfma_f32_16x16x32_fp8_bf8", 16, 24, -126, "rne", 23),
    ("gaudi3", "mme.fp32.bf16", 8, 24, -132, "rz", 23),                 # fs_fma: N8_K4, N2_K4, N1_K4 and so on
    ("gaudi3", "mme.fp32.fp8_143.fp8_152", 8, 24, -132, "rz", 23),
    ("gaudi3", "mme.fp32.fp16.fp16", 2, 24, -132, "rz", 23),
    ("gaudi3", "mme.fp32.fp32.fp32", 1, 24, -132, "rz", 23),
    ("gaudi2", "mme.fp32.tf32", 4, 46, -126, "rne", 23),
    ("gaudi2", "mme.fp32.fp8_152", 16, 24, -126, "rne", 23),
    ("gaudi2", "mme.fp32.fp32", 2, 46, -126, "rne", 23),
])
def test_derived_columns(arch, name, terms, frac, floor, rounding, precision):
    row = find(arch, name)
    assert (row.terms, row.adder.frac, row.floor, row.rounding, row.precision) == (terms, frac, floor, rounding, precision)


def test_adders_hold_their_own_widest_sum():
    """The largest sum of a row, in units of 2**E, fits its adder's carry bits: significands are below 2, C below 2."""
    for row in rows():
        if row.method == "exact_groups":
            assert row.terms * 16 * 6 * 6 * 1.875 ** 2 + 2 < 2 ** row.adder.carry, row     # E2M1 reaches 6, UE4M3 1.875
        elif row.method in ("chain", "fp8_through_f16", "digit_chain"):
            product = (2 - 2.0 ** -row.a.frac_bits) * (2 - 2.0 ** -row.b.frac_bits)
            assert row.terms * product + 2 < 2 ** row.adder.carry, row
    assert len(ADDERS) == 6


def test_ptx_spellings_mean_the_same_row():
    same = [
        ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "mma.m16n8k16.f32.bf16.bf16.f32", "a100"),
        ("mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.u8.s32", "mma.m16n8k32.s32.s8.u8.s32.satfinite", "sm_80"),
        ("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.xor.popc", "mma.m16n8k256.s32.b1.b1.s32.xor.popc", "sm_80"),
        ("wgmma.mma_async.sync.aligned.m64n16k32.f32.e4m3.e4m3", "wgmma.m64n16k32.f32.e4m3.e4m3", "sm_90a"),
        ("mma.sync.aligned.kind::f8f6f4.m16n8k32.row.col.f32.e2m1.e3m2.f32",
         "mma.m16n8k32.kind::f8f6f4.f32.e2m1.e3m2.f32", "rtx50"),
        ("mma.sync.aligned.m16n8k64.row.col.kind::mxf4.block_scale.f32.e2m1.e2m1.f32.ue8m0",
         "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0", "sm_120a"),
        ("mma.sync.aligned.kind::mxf8f6f4.block_scale.m16n8k32.row.col.f32.e4m3.e4m3.f32.ue8m0",
         "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0", "sm_120"),
        ("tcgen05.mma.cta_group::1.m128n32k64.kind::mxf4nvf4.block16.f32.e2m1.e2m1.ue4m3",
         "tcgen05.mma.m128n32k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.ue4m3", "b200"),
        ("tcgen05.mma.m128n32k64.kind::mxf4nvf4.block32.f32.e2m1.e2m1.ue8m0",
         "tcgen05.mma.m128n32k64.kind::mxf4nvf4.scale_vec::2X.f32.e2m1.e2m1.ue8m0", "b200"),
        ("mma.sync.aligned.m8n8k4.row.col.rz.f64.f64.f64.f64", "mma.m8n8k4.rz.f64.f64.f64.f64", "sm_80"),
        ("v_mfma_f32_32x32x8_f16", "v_mfma_f32_32x32x8f16", "mi100"),
        ("__builtin_amdgcn_mfma_f32_32x32x8f16", "v_mfma_f32_32x32x8f16", "gfx90a"),
        ("mfma_f32_16x16x16_bf16_1k", "v_mfma_f32_16x16x16bf16_1k", "mi250x"),
        ("v_mfma_f32_32x32x8f16", "v_mfma_f32_32x32x8_f16", "mi300x"),
        ("v_mfma_f32_4x4x4bf16_1k", "v_mfma_f32_4x4x4_16b_bf16", "gfx942"),       # LLVM: MC/AMDGPU/mai-gfx942.s
        ("v_mfma_f64_4x4x4f64", "v_mfma_f64_4x4x4_4b_f64", "gfx942"),
        ("llvm.amdgcn.mfma.f32.16x16x32.fp8.bf8", "v_mfma_f32_16x16x32_fp8_bf8", "gfx942"),
        ("v_mfma_f32_16x16x8xf32", "v_mfma_f32_16x16x8_xf32", "gfx942"),
    ]
    for spelled, name, arch in same:
        assert find(arch, spelled) == find(arch, name) and find(arch, name).name == name


def test_the_public_face():
    ins = instruction("sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3")
    assert (ins.m, ins.n, ins.k, ins.a.name, ins.b.name, ins.c.name, ins.d.name) == (
        64, 8, 32, "float8_e4m3fn", "float8_e4m3fn", "float32", "float32")
    mixed = find("sm_70", "mma.m8n8k4.f32.f16.f16.f16")
    assert (mixed.c.name, mixed.d.name) == ("float16", "float32")
    nvfp4 = find("sm_120", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3")
    assert (nvfp4.block, nvfp4.scale.name) == (16, "float8_ue4m3")


@pytest.mark.parametrize("arch, name, sentence", [
    ("sm_80", "mma.m16n8k32.f32.e4m3.e4m3.f32",
     r"sm_80 has no mma.m16n8k32.f32.e4m3.e4m3.f32; it exists on sm_89, sm_90, sm_100, sm_120. sm_80 takes, among \d+: mma"),
    ("sm_90", "wgmma.m64n12k16.f32.f16.f16", r"n = 12 is not legal; wgmma.m64nNk16.f32.f16.f16 takes n = 8, 16, 24"),
    ("sm_90", "wgmma.m64n40k32.s32.s8.s8", r"n = 40 is not legal"),
    ("sm_100", "tcgen05.mma.m128n8k16.kind::f16.f32.f16.f16", r"n = 8 is not legal; .* takes n = 16, 32"),
    ("sm_90", "wgmma.m64nNk16.f32.f16.f16", "say which n"),
    ("sm_80", "mma.sp.m16n8k32.f32.f16.f16.f32", "sparse forms are not modelled: nobody has published"),
    ("sm_103", "mma.m16n8k16.f32.f16.f16.f32", "'sm_103' is not modelled: its fp4 path takes K = 96"),
    ("gfx950", "v_mfma_f32_16x16x32_f16", "'gfx950' is not modelled: AMD documents its formats .* but nobody has published"),
    ("mi355x", "v_mfma_f32_16x16x32_f16", "nobody has published how many products it sums at once"),
    ("gfx90a", "v_mfma_f32_16x16x32_fp8_fp8", "gfx90a has no v_mfma_f32_16x16x32_fp8_fp8; it exists on gfx942. gfx90a takes"),
    ("gfx942", "v_smfmac_f32_16x16x32_f16", "sparse forms are not modelled"),
    ("gaudi", "mme.fp32.bf16", "'gaudi' is not modelled: Intel's model of it"),
    ("gfx999", "v_mfma", "architecture 'gfx999' is not modelled; the architectures are sm_70, sm_75"),
    ("sm_90", "", "sm_90 has no ''; no architecture has it"),
])
def test_what_is_not_there_is_refused_by_name(arch, name, sentence):
    with pytest.raises(UnknownInstruction, match=sentence):
        find(arch, name)
