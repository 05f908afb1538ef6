"""The benchmark: its table, its JSON, and the guard that compares two of them. Small products; no figure is judged."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("c_engine")           # whose figures they are


def bench(*arguments):
    return subprocess.run([sys.executable, "-m", "emulator", "bench", *map(str, arguments)], capture_output=True, text=True,
                          cwd=ROOT)


def test_the_table_its_json_and_the_guard(tmp_path):
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    small = "--size", 64, "--repeat", 1, "--isa", "portable", "--family", "nvfp4"
    done = bench(*small, "--json", new)
    assert done.returncode == 0, done.stderr
    figures = json.loads(new.read_text())
    mine = [row for row in figures["rows"] if row["family"] == "nvfp4"]
    assert [row["engine"] for row in mine] == ["c, portable", "numba"]
    assert all(row["gmacs"] > 0 and row["ratio"] > 0 and row["gpu"] > 1 and row["size"] == 64 for row in mine)
    assert mine[0]["instruction"] == "sm_120 mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3"
    assert figures["threads"] == 1 and all(x > 0 for x in (*figures["ratios"].values(), *figures["calls"].values()))
    for row in figures["rows"]:
        assert f"{row['family']:32}{row['engine']:15}{row['size']:6}{row['gmacs']:8.2f}{row['ratio']:11.2f}" in done.stdout
    assert "one mma.m16n8k16 call" in done.stdout and "64,000 rows of 32 (float8_e4m3fn) in a .dot call" in done.stdout

    old.write_text(json.dumps({"rows": [{**row, "ratio": row["ratio"] / 1e6} for row in figures["rows"]]}))
    done = bench(*small, "--against", old)
    assert done.returncode == 1
    assert "slower than before:\n  nvfp4 on c, portable: " in done.stderr and "x float32, was 0.0" in done.stderr


def test_slower(monkeypatch):
    for name in ("EMULATOR_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")               # which the tool sets when it is imported
    tool = runpy.run_path(str(ROOT / "tools" / "bench.py"))
    old = [{"family": "f16", "engine": "c", "size": 64, "ratio": 5.0}, {"family": "f16", "engine": "c", "size": 128, "ratio": 1.0}]
    assert tool["slower"]([{**old[0], "ratio": 6.4}, {**old[0], "family": "new"}], old, 1.3) == []
    assert tool["slower"]([{**old[0], "ratio": 6.6}], old, 1.3) == ["f16 on c: 6.60 x float32, was 5.00"]


def test_bad_options():
    assert "'fast' is not one of" in bench("--isa", "fast").stderr


def test_conversion_has_a_table_of_its_own(tmp_path):
    found = tmp_path / "convert.json"
    done = bench("convert", "--size", 0.02, "--repeat", 1, "--no-torch", "--json", found)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(found.read_text())["rows"]}
    assert rows["float32 -> mxfp4, packed"]["goal"] == 400 and "float32 -> nvfp4, packed" in done.stdout
