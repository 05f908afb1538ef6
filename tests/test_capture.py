"""The GPU capture tool, as far as a machine without a GPU can test it: its forms, its kernels' compilation, its cases."""

import argparse
import ctypes
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from emulator import ARCHS, cases, cli, golden, instruction, operations, table
from emulator.exact import decode
from emulator.operations import model

TOOL = Path(__file__).resolve().parent.parent / "tools" / "capture.py"
spec = importlib.util.spec_from_file_location("capture", TOOL)
capture = sys.modules["capture"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(capture)


@pytest.mark.parametrize("arch", capture.ARCHITECTURES)
def test_it_runs_every_row(arch):
    """And nothing else: .rn is the default rounding under another name, and block-scaled tcgen05 has m = 128 alone."""
    rows = {name.replace("nNk", "n16k" if "m128" in name else "n8k") for name in table(arch)
            if ".rn." not in name and not ("m64" in name and "kind::mx" in name)}
    assert {form.name for form in capture.forms(arch)} == rows
    assert set(capture.ARCHITECTURES) == {a for a in ARCHS if a.startswith("sm_")} - {"sm_70"}      # which nvcc dropped


# PTX ISA: kind::f16 f32 += bf16 * bf16, M 64, N 8; kind::mxf8f6f4 of e2m3 and e2m1, M 128, N 16, ue8m0
@pytest.mark.parametrize("name, word", [
    ("tcgen05.mma.m64n8k16.kind::f16.f32.bf16.bf16", 1 << 4 | 1 << 7 | 1 << 10 | 1 << 17 | 4 << 24),
    ("tcgen05.mma.m128n16k32.kind::mxf8f6f4.scale_vec::1X.f32.e2m3.e2m1.ue8m0", 3 << 7 | 5 << 10 | 2 << 17 | 1 << 23 | 8 << 24),
    ("tcgen05.mma.m128n16k32.kind::i8.s32.s8.u8.satfinite", 2 << 4 | 1 << 3 | 1 << 7 | 2 << 17 | 8 << 24)])
def test_instruction_descriptors(name, word):
    (form,) = (form for form in capture.forms("sm_100") if form.name == name)
    assert capture.instruction_descriptor(form) == word


FEW = r"m16n8k8\.f32\.f16|m64n8k32\.f32\.e4m3\.e4m3|tcgen05.mma.(m64n8k8|m64n8k32.*f32.e2m1.e3m2|m128n16k64.*ue4m3)|cvt.*(e2m1|e4m3x2.f32)|^ex2"


@pytest.mark.parametrize("arch, only", [
    *(pytest.param(arch, FEW, id=f"{arch}-few") for arch in capture.ARCHITECTURES),
    *(pytest.param(arch, "", marks=pytest.mark.exhaustive, id=f"{arch}-all") for arch in capture.ARCHITECTURES)])
@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not installed")
def test_the_kernels_compile(arch, only, tmp_path):
    done = subprocess.run([sys.executable, str(TOOL), str(tmp_path), "--arch", arch, "--compile-only", "--only", only],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"operations compiled for {arch}" in done.stdout


class FakeLibrary:
    """The compiled kernels, were the GPU an emulator: the forms answer as their rows, conversions as convert does."""

    def __init__(self, forms, ops, flaw=None):
        self.forms, self.ops, self.flaw, self.launches = forms, ops, flaw, 0

    @staticmethod
    def view(pointer, dtype, *shape):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype).reshape(shape)

    def run_form(self, number, tiles, host, sizes):
        form, self.launches = self.forms[number], self.launches + 1
        shapes = [(form.a, form.m, form.k), (form.b, form.k, form.n), (form.c, form.m, form.n)]
        chunks = form.k // form.block if form.block else 0
        shapes += [(form.scale, form.m, chunks), (form.scale, chunks, form.n)] if chunks else []
        row = instruction("sm_100", form.name)
        operands = [self.view(host[i], fmt.code_dtype, tiles, *shape) for i, (fmt, *shape) in enumerate(shapes)]
        self.view(host[5], form.d.code_dtype, tiles, form.m, form.n)[...] = row.codes(*operands)
        if self.flaw == "repeat" and self.launches % 3 == 0:
            self.view(host[5], form.d.code_dtype, tiles, form.m, form.n)[0, 0, 0] ^= 1

    def run_operation(self, number, n, x, random, y, sums):
        op = self.ops[number.value]
        if y.value is None:
            self.view(sums.value, np.uint64, 256)[...] = np.arange(256)
            return
        codes = self.view(x.value, np.uint32, n.value, op.lanes).astype(op.a.code_dtype)
        made = model(op.name, codes)
        self.view(y.value, np.uint32, n.value, op.lanes)[...] = 1 if made is None else made
        if self.flaw == "result":
            self.view(y.value, np.uint32, n.value, op.lanes)[3] ^= 1


def fake(tmp_path, only, flaw=None):
    forms = [form for form in capture.forms("sm_100") if re.search(only, form.name)]
    ops = [op for op in capture.operations("sm_100") if re.search(only, op.name)]
    gpu = capture.Gpu.__new__(capture.Gpu)
    gpu.library, gpu.name, gpu.major, gpu.minor, gpu.cuda_driver = FakeLibrary(forms, ops, flaw), "Fake", 10, 0, "13.0"
    options = argparse.Namespace(folder=tmp_path / "fake", tiles=3, seed=0)
    return capture.capture(gpu, "sm_100", forms, ops, options, {op.name: {"F2FP": 1} for op in ops}), options.folder


SOME = (r"tcgen05.mma.(m64n8k16.kind::f16.f32.f16|m128n16k64.*nvf4.*4X.*ue4m3)|"
        r"cvt.(rn.satfinite.e4m3x2.f32|rna.tf32|rz.ue8m0x2.f32|rn.f16x2.e2m1x2|rs.satfinite.e2m1x4)|^tanh.approx.(f32|f16)")


def test_what_surrounds_a_launch(tmp_path):
    """Forms, conversions and functions captured from a GPU that answers as the emulator does; the folder verifies."""
    refused, folder = fake(tmp_path, SOME)
    assert not refused
    machine = json.loads((folder / "machine.json").read_text())
    assert machine["kind"] == "captured" and len(machine["files"]) == 9
    assert machine["files"]["cvt.rna.tf32.f32.npz"]["sass"] == {"F2FP": 1}
    assert len(golden.check(folder)) == 2 and len(operations.read(folder)) == 7
    told = CliRunner().invoke(cli.main, ["verify", str(folder), "--engine", "c", "--sample", "1"])
    assert told.exit_code == 0, told.output
    assert "equal  sm_100 cvt.rn.satfinite.e4m3x2.f32" in told.output
    assert "stored sm_100 tanh.approx.f32 69,632 rows  captured: fake  not modelled" in told.output
    assert "stored sm_100 cvt.rs.satfinite.e2m1x4.f32" in told.output
    with np.load(folder / "tanh.approx.f32.npz") as found:
        assert found["sums"].tolist() == list(range(256)) and set(found["x"][:65536, 0]) >= {0, 0x3F800000, 0xFF800000}
    with np.load(folder / "cvt.rs.satfinite.e2m1x4.f32.npz") as found:
        assert found["random"].shape == found["x"].shape[:1] and {0, 0xFFFFFFFF} <= set(found["random"].tolist())
    as_json = CliRunner().invoke(cli.main, ["verify", str(folder), "--engine", "c", "--json"])
    assert len(json.loads(as_json.output)["operations"]) == 7


def test_what_is_wrong_is_refused_or_told(tmp_path):
    refused, folder = fake(tmp_path, "m64n8k16.kind::f16.f32.f16", "repeat")
    assert len(refused) == 1 and "did not repeat; refused" in refused[0]
    _, folder = fake(tmp_path / "two", "cvt.rn.satfinite.e4m3x2.f32", "result")
    told = CliRunner().invoke(cli.main, ["verify", str(folder)])
    assert told.exit_code == 1 and "DIFFER sm_100 cvt.rn.satfinite.e4m3x2.f32" in told.output and "2 of 4," in told.output
    path = folder / "cvt.rn.satfinite.e4m3x2.f32.npz"
    path.write_bytes(path.read_bytes()[:-1])
    told = CliRunner().invoke(cli.main, ["verify", str(folder)])
    assert told.exit_code == 1 and "the file was changed or damaged" in told.output


def test_conversions_by_hand():
    """PTX ISA, "cvt": what each form makes of a number; NVIDIA's canonical NaN."""
    def one(operation, *codes):
        return [int(y) for y in model(operation, np.array([codes])).ravel()]
    assert one("cvt.rn.satfinite.e4m3x2.f32", 0x3F800000, 0x7F800000) == [0x38, 0x7E]
    assert one("cvt.rz.f16.f32", 0x477FF000) == [0x7BFF] and one("cvt.rn.f16.f32", 0x477FF000) == [0x7C00]
    assert one("cvt.rn.satfinite.f16.f32", 0x477FF000) == [0x7BFF] and one("cvt.rn.bf16.f32", 0xFFC00001) == [0x7FFF]
    assert one("cvt.rp.ue8m0x2.f32", 0x3F800001, 0xBF800000) == [0x80, 0x7F]
    assert one("cvt.rna.tf32.f32", 0x3F801000) == [0x3F802000] and one("cvt.rna.tf32.f32", 0x7F800001) == [0x7F800000]
    assert one("cvt.rn.f16x2.e2m1x2", 0x7, 0x9) == [0x4600, 0xB800]
    assert model("cvt.rs.satfinite.e4m3x4.f32", np.zeros((1, 4))) is None and model("tanh.approx.f16", np.zeros((1, 1))) is None


@pytest.mark.parametrize("arch", capture.ARCHITECTURES)
def test_operations_have_inputs_in_every_lane(arch):
    names = [op.name for op in capture.operations(arch)]
    assert len(names) == len(set(names)) and {"cvt.rn.f16.f32", "ex2.approx.f32", "tanh.approx.f16"} <= set(names)
    assert any(".rs." in name for name in names) == (arch == "sm_100")      # ptxas 13.0: sm_100a alone of these
    assert any("e4m3" in name for name in names) == (int(arch[3:]) >= 89)
    for op in capture.operations(arch):
        if op.source != "f32":
            x, random = capture.inputs(op, 0)
            assert set(x.ravel().tolist()) == set(range(1 << op.a.bits)) and random is None


@pytest.mark.parametrize("arch, name", [("sm_90", "mma.m16n8k16.f32.bf16.bf16.f32"), ("sm_90", "wgmma.m64n8k32.f16.e4m3.e5m2"),
                                        ("sm_120", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3"),
                                        ("sm_80", "mma.m16n8k64.s32.s4.u4.s32")])
def test_cases_are_repeatable_legal_and_varied(arch, name):
    ins = instruction(arch, name)
    x, again = (cases.generate(ins, 40, seed=3) for _ in range(2))
    assert len(x) == 40 and set(x.why) >= {0, 1}
    for kind in ("a", "b", "c", "scale_a", "scale_b"):
        one, two = getattr(x, kind), getattr(again, kind)
        assert (one is None and two is None) or np.array_equal(one, two)
    assert x.a.shape == (40, ins.m, ins.k) and x.b.shape == (40, ins.k, ins.n) and x.c.shape == (40, ins.m, ins.n)
    assert int(x.a.max()) < 1 << ins.a.bits and len(np.unique(x.a)) > min(8, 1 << ins.a.bits >> 1)
    if ins.c.name == "float32":                     # every class of C: zeros of both signs, specials, numbers
        kinds = {(decode(ins.c, int(code)).kind, code == 0) for code in np.unique(x.c)[::17]}
        assert {kind for kind, _ in kinds} >= {"finite"}
        assert {0, 0x80000000, 0x7F800000} <= {int(code) for code in np.unique(x.c)}
