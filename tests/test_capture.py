"""The GPU capture tool, as far as a machine without a GPU can test it: its forms, its kernels' compilation, its cases."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emulator import ARCHS, cases, instruction, table
from emulator.exact import decode

TOOL = Path(__file__).resolve().parent.parent / "tools" / "capture.py"
spec = importlib.util.spec_from_file_location("capture", TOOL)
capture = sys.modules["capture"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(capture)


@pytest.mark.parametrize("arch", capture.ARCHITECTURES)
def test_it_runs_every_row_but_tcgen05(arch):
    """And nothing else: .rn is the default rounding under another name."""
    rows = {name.replace("nNk", "n8k") for name in table(arch) if not name.startswith("tcgen05") and ".rn." not in name}
    assert {form.name for form in capture.forms(arch)} == rows
    nvidia = {arch for arch in ARCHS if arch.startswith("sm_")}
    assert set(capture.ARCHITECTURES) == nvidia - {"sm_70"}             # which the toolkit no longer compiles for


@pytest.mark.parametrize("arch", [pytest.param(arch, marks=[pytest.mark.exhaustive] * (arch != "sm_90"))
                                  for arch in capture.ARCHITECTURES])
@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not installed")
def test_every_kernel_compiles(arch, tmp_path):
    done = subprocess.run([sys.executable, str(TOOL), str(tmp_path), "--arch", arch, "--compile-only"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"forms compiled for {arch}" in done.stdout


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
