"""The command line: what it prints, and how it refuses."""

import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

from emulator import convert, engine_c, golden, quantize
from emulator.cli import main
from emulator.golden import Vectors

NAME = "mma.m16n8k16.f32.f16.f16.f32"
MACHINE = {"kind": "captured", "arch": "sm_80", "device": "NVIDIA A100", "driver": "580.1", "toolkit": "13.0", "tool": "by hand",
           "date": "2026-11-22", "command": "none", "licence": "MIT"}


def run(*words, status=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def folder(tmp_path):
    """1 x 2 + 3 = 5, and 1 x 1 = 1."""
    a, b = np.array([[1], [1]], np.float16), np.array([[2], [1]], np.float16)
    c, d = np.array([3, 0], np.float32), np.array([5, 1], np.float32)
    vectors = Vectors(a.view(np.uint16), b.view(np.uint16), c.view(np.uint32), d.view(np.uint32))
    golden.write(tmp_path / "sm_80-A100", MACHINE, [({"instruction": NAME}, vectors)])
    return tmp_path / "sm_80-A100"


@pytest.fixture
def wrong(folder, tmp_path):
    """The same, one answer changed: the device said 5 and the emulator says 5, but the file now says 5 + 1 ulp."""
    (found,) = golden.read(folder)
    vectors = found.load()
    vectors.d[0] += 1
    golden.write(tmp_path / "wrong", MACHINE, [({"instruction": NAME}, vectors)])
    return tmp_path / "wrong"


# --- verify -----------------------------------------------------------------------------------------------------------

def test_verify(folder):
    assert run("verify", folder, "--engine", "exact").splitlines() == [
        f"equal  sm_80  {NAME}         2 rows  captured: sm_80-A100  (exact 2)",
        "",
        "captured: 1 sets, 2 rows, every bit equal",
        "engines: exact (a sample of 100 rows of each set)"]


def test_verify_takes_every_engine_there_is(folder):
    there = ["exact", "numba", *["c"] * engine_c.available()]
    assert f"({', '.join(f'{name} 2' for name in there)})" in run("verify", folder)
    assert "(numba 2)" in run("verify", folder, "--engine", "numba", "--engine", "numba")


def test_verify_samples_the_exact_engine(folder):
    assert "(exact 1 sampled, numba 2)" in run("verify", folder, "--engine", "exact", "--engine", "numba", "--sample", 1)
    assert "(exact 2)" in run("verify", folder, "--engine", "exact", "--sample", 0)


def test_verify_finds_a_difference_and_explains_it(wrong):
    told = run("verify", wrong, "--engine", "exact", status=1).splitlines()
    assert told[:4] == [
        f"DIFFER sm_80  {NAME}         2 rows  captured: wrong  (exact 1 of 2)",
        "  exact: 1 of 2 elements of d differ (float32)",
        "    d[0]  got 0x40a00000 5.0  want 0x40a00001 5.00000048  (-1 ulp)",
        f"    emulator explain sm_80 {NAME} --a 0x3c00 --b 0x4000 --c 0x40400000"]
    assert "captured: 1 sets, 2 rows, 1 sets DIFFER" in told
    assert run(*told[3].split()[1:]).splitlines()[-1] == "d = 0x40a00000 5.0"      # the command it prints runs


def test_verify_goes_on_past_a_bad_file(folder, tmp_path):
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken" / "machine.json").write_text("{")
    told = run("verify", tmp_path, "--engine", "exact", status=1)
    assert told.startswith("equal ") and "bad: " in told and "broken/machine.json cannot be read" in told


def test_verify_json(folder, wrong):
    found = json.loads(run("verify", folder, wrong, "--engine", "exact", "--json", status=1))
    assert (found["equal"], found["rows"], found["bad"], found["lacking"]) == (False, 4, [], [])
    good, bad = found["sets"]
    assert good["equal"] and good["engines"] == {"exact": {"compared": 2, "mismatches": 0, "story": ""}}
    assert not bad["equal"] and bad["engines"]["exact"]["mismatches"] == 1
    assert {key: good[key] for key in ("arch", "device", "instruction", "kind", "source", "rows")} == {
        "arch": "sm_80", "device": "NVIDIA A100", "instruction": NAME, "kind": "captured", "source": "captured: sm_80-A100",
        "rows": 2}


def test_verify_by_architecture(folder):
    assert "1 sets, 2 rows" in run("verify", folder, "--arch", "a100", "--engine", "exact")
    assert "nothing to verify for sm_90" in run("verify", folder, "--arch", "sm_90", status=2)
    assert "architecture 'z80' is not modelled" in run("verify", folder, "--arch", "z80", status=2)


def test_verify_says_what_it_lacks(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "recorded_root", lambda: None)
    monkeypatch.setenv("EMULATOR_GOLDEN", str(folder.parent))
    told = run("verify", "--engine", "exact")
    assert "every bit equal" in told and "lacking: the recorded GPU rows are not here" in told
    monkeypatch.setenv("EMULATOR_GOLDEN", str(tmp_path / "nothing"))
    told = run("verify", status=2)
    assert "nothing to verify; " in told and "golden/ is not here" in told and "the recorded GPU rows are not here" in told


def test_verify_without_an_engine(folder, monkeypatch):
    monkeypatch.setattr(engine_c, "available", lambda: False)
    monkeypatch.setattr(engine_c, "why_not", lambda: "no compiler was found")
    assert "emulator: engine c is not here: no compiler was found" in run("verify", folder, "--engine", "c", status=2)
    told = run("verify", folder)
    assert "(exact 2, numba 2)" in told and "lacking: engine c is not here: no compiler was found" in told


# --- golden -----------------------------------------------------------------------------------------------------------

def test_golden_check(folder):
    assert run("golden", "check", folder) == f"{folder}: 1 files, 2 rows, as the manifest says\n"
    path = folder / f"{NAME}.npz"
    path.write_bytes(path.read_bytes()[:-1])
    assert "the file was changed or damaged" in run("golden", "check", folder, status=2)
    assert "is no folder" in run("golden", "check", folder / "nothing", status=2)


def test_golden_import(tmp_path):
    place = tmp_path / "A100" / "fp16"
    place.mkdir(parents=True)
    for name, text in {"a_A100_fp16": "3f800000", "b_A100_fp16": "40000000", "c_A100_fp32": f"{0x40400000:032b}",
                       "d_A100_fp32": f"{0x40A00000:032b}"}.items():
        (place / f"{name}.txt").write_text(text + "\n")
    told = run("golden", "import", tmp_path / "A100", tmp_path / "out")
    assert NAME in told and f"emulator verify {tmp_path / 'out'}" in told
    assert "imported: 1 sets, 1 rows, every bit equal" in run("verify", tmp_path / "out", "--engine", "exact")
    assert "already holds .npz files" in run("golden", "import", tmp_path / "A100", tmp_path / "out", status=2)


# --- the tables -------------------------------------------------------------------------------------------------------

def test_instructions():
    told = run("instructions", "v100").splitlines()
    assert told[0] == "sm_70 Volta: 4 instructions" and len(told) == 6
    assert told[2].split()[:6] == ["mma.m8n8k4.f32.f16.f16.f32", "4", "23", "-131", "rz", "chain"]
    assert "silicon: recorded on V100 [KM]" in told[2]
    assert "architecture 'sm_60' is not modelled" in run("instructions", "sm_60", status=2)
    everything = json.loads(run("instructions", "--json"))
    assert {row["arch"] for row in everything} == {
        "sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "x86_64", "gfx908", "gfx90a", "gfx942",
        "gaudi2", "gaudi3", "armv9-a", "power10"}
    (row,) = (row for row in everything if row["name"] == "wgmma.m64nNk32.f32.e4m3.e4m3")
    assert (row["m"], row["n"], row["k"], row["terms"], row["frac"], row["floor"], row["rounding"]) == (
        64, "any legal n", 32, 32, 13, -133, "rz")


def test_formats():
    told = run("formats").splitlines()
    (row,) = (line for line in told if line.startswith("float8_e4m3fn "))
    assert row.split() == ["float8_e4m3fn", "8", "1", "4", "3", "7", "fn", "448.0", "0.015625", "ieee", "e4m3", "fp8_e4m3",
                           "e4m3fn"]
    (row,) = (line for line in told if line.startswith("int8 "))
    assert row.split() == ["int8", "8", "1", "127", "saturate", "s8"]
    (row,) = (line for line in told if line.startswith("nf4 "))
    assert row.split() == ["nf4", "4", "table", "1.0", "saturate"]


@pytest.mark.parametrize(("words", "lines"), [
    (("e4m3", "0x7e"), [
        "float8_e4m3fn 0x7e 448.0",
        "  sign     0",
        "  exponent 1111, 15 with bias 7",
        "  fraction 110",
        "  value    1.110 * 2^8 = 14 * 2^5 = 448.0",
        "  class    normal, the largest magnitude",
        "  below    0x7d 416.0",
        "  above    none"]),                            # 0x7f is NaN
    (("f16", "-0"), [
        "float16 0x8000 -0.0",
        "  sign     1",
        "  exponent 00000, 0 with bias 15",
        "  fraction 0000000000",
        "  value    -0.0000000000 * 2^-14 = 0 * 2^-24 = -0.0",
        "  class    zero",
        "  below    0x8001 -5.96046448e-08",
        "  above    0x0001 5.96046448e-08"]),
    (("f16", "0x8001"), [
        "float16 0x8001 -5.96046448e-08",
        "  sign     1",
        "  exponent 00000, 0 with bias 15",
        "  fraction 0000000001",
        "  value    -0.0000000001 * 2^-14 = -1 * 2^-24 = -5.9604644775390625e-08",
        "  class    subnormal",
        "  below    0x8002 -1.1920929e-07",
        "  above    0x0000 0.0"]),
    (("tf32", "0x3f801fff"), [
        "tfloat32 0x3f801fff 1.0",
        "  sign     0",
        "  exponent 01111111, 127 with bias 127",
        "  fraction 0000000000",
        "  ignored  1111111111111, the low 13",
        "  value    1.0000000000 * 2^0 = 1024 * 2^-10 = 1.0",
        "  class    normal",
        "  below    0x3f7fe000 0.999511719",
        "  above    0x3f802000 1.00097656"]),
    (("ue8m0", "2^-127"), [
        "float8_e8m0fnu 0x00 5.87747175e-39",
        "  exponent 00000000, 0 with bias 127",
        "  value    1 * 2^-127 = 1 * 2^-127 = 5.8774717541114375e-39",
        "  class    normal",
        "  below    none",
        "  above    0x01 1.17549435e-38"]),
    (("f32", "0x7fffffff"), [
        "float32 0x7fffffff nan",
        "  sign     0",
        "  exponent 11111111, 255 with bias 127",
        "  fraction 11111111111111111111111",
        "  class    NaN, the one that NVIDIA's matrix units return",
        "  below    none",
        "  above    none"]),
    (("e5m2", "-inf"), [
        "float8_e5m2 0xfc -inf",
        "  sign     1",
        "  exponent 11111, 31 with bias 15",
        "  fraction 00",
        "  class    infinity",
        "  below    none",
        "  above    0xfb -57344.0"]),
    (("s4", "-8"), ["int4 0x8 -8", "  bits     1000", "  below    none", "  above    0x9 -7"]),
])
def test_inspect(words, lines):
    assert run("inspect", *words).splitlines() == lines


@pytest.mark.parametrize(("words", "sentence"), [
    (("e4m3", "0.1"), "0.1 is not a float8_e4m3fn value; nearest: 0x1c 0.09375, 0x1d 0.1015625"),
    (("e4m3", "-0.1"), "-0.1 is not a float8_e4m3fn value; nearest: 0x9d -0.1015625, 0x9c -0.09375"),
    (("e4m3", "449"), "449 is not a float8_e4m3fn value; nearest: 0x7e 448.0."),
    (("f16", "65520"), "65520 is not a float16 value; nearest: 0x7bff 65504.0."),
    (("e4m3", "0x100"), "0x100 is wider than the 8 bits of float8_e4m3fn"),
    (("e4m3", "inf"), "float8_e4m3fn has no inf"),
    (("e2m1", "nan"), "float4_e2m1fn has no nan"),
    (("ue8m0", "-1"), "float8_e8m0fnu has no negative numbers"),
    (("e4m3fnuz", "-0"), "float8_e4m3fnuz has no negative zero"),
    (("s8", "128"), "128 is not one of the int8 values -128..127"),
    (("s8", "1.5"), "1.5 is not one of the int8 values -128..127"),
    (("e4m3", "two"), "'two' is neither a code (0x7e) nor a value (1.5, -2^-13, 3*2^4, 1e-3, inf, nan)"),
    (("f32", "2^999999999"), "is neither a code"),
    (("e9m9", "1"), "'e9m9' is not a number format"),
])
def test_inspect_refuses(words, sentence):
    told = run("inspect", *words, status=2)
    assert told.startswith("emulator: ") and sentence in told


def test_values_may_be_written_in_many_ways():
    for text in ("1.5", "+1.5", "3*2^-1", "15e-1", "0x3c", ".15e1", "1.5 "):
        assert run("inspect", "e4m3", text).startswith("float8_e4m3fn 0x3c 1.5\n")


# --- explain ----------------------------------------------------------------------------------------------------------

def test_explain():
    """MMA-Sim's equation 10 on Hopper."""
    told = run("explain", "h100", NAME, "--a", "-2^13,-0.5,-0.25,-0.125", "--b", "2^10,1,1,0x3c00", "--c", "2^23")
    assert "  k 3      -0.125  2^-3  -                           0|1\n" in told
    assert told.endswith("d = 0xbf400000 -0.75\n")


def test_explain_block_scales():
    """1 x 1 in both blocks, scaled by 4 x 2 and by 1 x 1: 8 + 1 = 9."""
    words = ["sm_120", "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0"]
    ones = ",".join(["1", *["0"] * 31] * 2)
    assert run("explain", *words, "--a", ones, "--b", ones, "--scale-a", "4,1", "--scale-b", "2,1").endswith(
        "d = 0x41100000 9.0\n")
    assert "0 scales of a" in run("explain", *words, "--a", "1", "--b", "1", status=2)


@pytest.mark.parametrize(("words", "sentence"), [
    (["--a", "1,0.1", "--b", "1,1"], "a[1]: 0.1 is not a float16 value; nearest: 0x2e66 0.0999755859, 0x2e67 0.100036621"),
    (["--a", "1,1", "--b", "1"], "2 codes of a and 1 of b"),
    (["--a", "1", "--b", "1", "--c", "2^128"], "c: 2^128 is not a float32 value; nearest: 0x7f7fffff 3.40282347e+38."),
    (["--a", "1", "--b", "1", "--scale-a", "1"], "scale_a is given; sm_90 mma.m16n8k16.f32.f16.f16.f32 has no block scales"),
    (["--a", "1,", "--b", "1,1"], "a[1]: '' is neither a code"),
])
def test_explain_refuses(words, sentence):
    told = run("explain", "h100", NAME, *words, status=2)
    assert told.startswith("emulator: ") and sentence in told


def test_explain_unknown():
    assert "sm_80 has no mma.m16n8k32.f32.e4m3.e4m3.f32; it exists on" in run(
        "explain", "a100", "mma.m16n8k32.f32.e4m3.e4m3.f32", "--a", "1", "--b", "1", status=2)


# --- the program ------------------------------------------------------------------------------------------------------

def test_convert_and_quantize_take_files(tmp_path):
    x, y, z = (tmp_path / name for name in ("x.npy", "y.npy", "z.npz"))
    numbers = np.random.default_rng(0).standard_normal((6, 70)).astype(np.float32)
    numbers[0, :2] = 1e9, -1e-9
    np.save(x, numbers)
    assert run("convert", x, "int4", "--out", y) == f"{x}: float32 (6, 70) -> {y}: int4, uint8 (6, 70)\n" + \
        "{} saturated, {} flushed\n".format(*(getattr(convert(numbers, "int4", return_report=True)[1], n) for n in ("saturated", "flushed")))
    assert np.load(y).max() < 16 and (np.load(y) == convert(numbers, "int4").view(np.uint8) % 16).all()
    run("convert", y, "float16", "--from", "int4", "--out", tmp_path / "back.npy")
    assert (np.load(tmp_path / "back.npy") == convert(numbers, "int4").astype(np.float16)).all()
    run("quantize", x, "nvfp4", "--axis", 0, "--block", 4, "--out", z)
    q, found = quantize(numbers, "nvfp4", axis=0, block=4), np.load(z)
    assert (found["codes"] == q.codes).all() and found["tensor_scale"] == q.tensor_scale
    assert (found["scales"] == q.scales.view(np.uint8)).all() and found["scales"].shape == (2, 70)
    run("quantize", x, "uint8", "--channel", 0, "--out", z)
    q, found = quantize(numbers, "uint8", channel=0), np.load(z)
    assert (found["zero_points"] == q.zero_points).all() and (found["codes"] == q.elements).all()
    assert "scale 0.007874016" in run("quantize", 1, "int8") and "zero point 127" in run("quantize", 1, -1, "uint8")


@pytest.mark.parametrize("words, sentence", [
    (["convert", "X.npy", "e4m3"], "X.npy is a file; say where the result goes: --out FILE.npy"),
    (["quantize", "X.npy", "mxfp4"], "X.npy is a file; say where the result goes: --out FILE.npz"),
    (["convert", "1", "e4m3", "--out", "y.npy"], "--out is for the numbers of a file, FILE.npy; typed ones are printed"),
    (["quantize", "X.npy", "mxfp4", "--out", "OUT/y.npy"], "y.npy; it takes a file that ends in .npz, in a folder that is there"),
    (["convert", "X.npy", "e4m3", "--out", "OUT/none/y.npy"], "it takes a file that ends in .npy, in a folder that is there"),
    (["convert", "none.npy", "e4m3", "--out", "OUT/y.npy"], "none.npy is no array that numpy can read: "),
    (["convert", "X.npy", "e4m3", "--out", "OUT/y.npy"], "X.npy holds |V2, which says no format"),
    (["convert", "X.npy", "e2m1", "--from", "bf16", "--out", "OUT/y.npy"], "x[1] is 0x7fc0 nan: float4_e2m1fn has no NaN"),
    (["quantize", "1", "int8", "--block", "4"], "int8 takes no block; it takes group, channel, axis and rule"),
    (["quantize", "1", "mxfp4", "--channel", "0"], "mxfp4 takes no channel; it takes block, axis, rule, mode and two-level"),
])
def test_files_are_refused_before_anything_is_written(words, sentence, tmp_path):
    np.save(tmp_path / "X.npy", np.array([1, np.nan], ml_dtypes.bfloat16))
    words = [word.replace("X.npy", f"{tmp_path}/X.npy").replace("OUT", str(tmp_path)) for word in words]
    assert sentence in run(*words, status=2) and [file.name for file in tmp_path.iterdir()] == ["X.npy"]


def test_python_m_emulator():
    done = subprocess.run([sys.executable, "-m", "emulator", "inspect", "e4m3", "0x100"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("emulator: the number: 0x100 is wider")
    done = subprocess.run([sys.executable, "-m", "emulator", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "verify" in done.stdout and done.stdout.startswith("Usage: emulator ")


def test_help_is_light():
    """--help imports neither numba nor tqdm."""
    code = ("import sys; from emulator.cli import main; main(['--help'], standalone_mode=False); "
            "print({'numba', 'tqdm', 'click'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "{'click'}"
