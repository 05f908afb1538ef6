"""The prober against machines it is told nothing of: their sums, their columns, and what no question settles."""

import numpy as np
import pytest
from click.testing import CliRunner

import emulator
from emulator import BadOperand, Mismatch, cli, define, golden, match, probe
from emulator.formats import number_format
from emulator.probe import tree_text


def ask(unit, **more):
    """The finding for a unit behind a function."""
    asked = []

    def machine(a, b, c):
        asked.append(len(a))
        return unit.dot_codes(a, b, c)
    found = probe(machine, a=unit.a, b=unit.b, c=unit.c, d=unit.d, k=unit.k, **more)
    assert sum(asked) >= found.asked > 300
    return found


KNOWN = [           # the sums: Fasi et al. 2021, Khattak and Mikaitis 2026, Xie et al. 2025, Intel's SDM
    ("sm_70", "mma.m8n8k4.f32.f16.f16.f32", "{C 0..3}", {"terms": 4, "frac": 23, "rounding": "rz"}, {"carry"}),
    ("sm_70", "mma.m8n8k4.f16.f16.f16.f16", "{C 0..3}", {"terms": 4, "frac": 23, "carry": 5, "rounding": "rne"}, set()),
    ("sm_80", "mma.m16n8k16.f32.f16.f16.f32", "{C 0..7} > {8..15}", {"terms": 8, "frac": 24, "rounding": "rz"}, {"carry"}),
    ("sm_80", "mma.m16n8k16.f32.bf16.bf16.f32", "{C 0..7} > {8..15}", {"terms": 8, "frac": 24, "carry": 6}, set()),
    ("sm_90", "mma.m16n8k16.f32.f16.f16.f32", "{C 0..15}", {"terms": 16, "frac": 25, "rounding": "rz"}, {"carry"}),
    ("sm_90", "mma.m16n8k16.f16.f16.f16.f16", "{C 0..15}", {"terms": 16, "frac": 25, "carry": 7, "rounding": "rne"}, set()),
    ("sm_90", "wgmma.m64n16k32.f32.e4m3.e4m3", "{C 0..31}", {"terms": 32, "frac": 13, "precision": 13}, {"carry", "precision"}),
    ("sm_90", "mma.m16n8k32.f16.e5m2.e5m2.f16",
     "{0 1 4 5 8 9 12 13 16 17 20 21 24 25 28 29} > {2 3 6 7 10 11 14 15 18 19 22 23 26 27 30 31} > C",
     {"terms": 16, "frac": 25, "join": "last", "add": "rne"}, {"carry"}),
    ("sm_90", "mma.m8n8k4.f32.f16.f16.f32", "0 > 1 > 2 > 3 > C", {"method": "simt_f32"}, set()),
    ("sm_80", "mma.m8n8k4.f64.f64.f64.f64", "C > 0 > 1 > 2 > 3", {"method": "fma_chain"}, set()),
    ("x86_64", "tdpbf16ps", "((0 > 2 > 4 > 6 > ... > 30) + (1 > 3 > 5 > 7 > ... > 31)) > C", {"method": "two_chains"}, set()),
    ("gfx908", "v_mfma_f32_32x32x8f16", "{C 0..3} > {4..7}", {"method": "exact_sums", "terms": 4, "rounding": "rne"}, set()),
    ("gfx90a", "v_mfma_f32_32x32x8f16", "((({0 1} + {2 3}) > C) + ({4 5} + {6 7}))", {"method": "flushed_pairs", "terms": 4}, set()),
    ("gfx942", "v_mfma_f32_32x32x8_f16", "{C 0..7}", {"method": "cut_then_floor", "terms": 8, "frac": 24}, set()),
    ("gfx942", "v_mfma_f32_32x32x16_fp8_bf8", "{C 0..15}", {"method": "even_and_odd", "terms": 16, "frac": 24}, set()),
    ("x86_64", "vdpbf16ps", "C > 1 > 0", {"method": "odd_then_even"}, set()),
]
SLOW = ("mma.m16n8k32.f16.e5m2.e5m2.f16", "mma.m8n8k4.f64.f64.f64.f64", "v_mfma_f32_32x32x16_fp8_bf8")


@pytest.mark.parametrize("arch, name, tree, columns, unsettled", [
    pytest.param(*row, id=f"{row[0]} {row[1]}", marks=[pytest.mark.exhaustive] * (row[1] in SLOW)) for row in KNOWN])
def test_it_finds_the_vendors_rows(arch, name, tree, columns, unsettled):
    unit = emulator.instruction(arch, name)
    found = ask(unit, tries=600)
    assert tree_text(found.tree, unit.k) == tree
    assert {key: found.columns.get(key) for key in columns} == columns
    assert set(found.unsettled) == unsettled and found.columns["method"] == unit.method
    assert (unit.arch, unit.name) in {(row.arch, row.name) for row in found.rows}
    told = str(found)
    assert tree in told and f"method {unit.method}" in told and f"  {unit}" in told


F16 = {"a": "f16", "b": "f16", "d": "f32", "shape": "m1n1k6"}
OWN = [
    ({**F16, "terms": 2}, "{C 0 1} > {2 3} > {4 5}", {"rounding": "rne", "precision": 23}),         # CDNA1: nothing is cut
    ({**F16, "terms": 3, "frac": 20, "order": "descending", "cut": "rd", "precision": 17}, "{C 3..5} > {0..2}",
     {"frac": 20, "cut": "rd", "precision": 17}),
    ({**F16, "order": [[1, 0, 5], [2, 4, 3]], "frac": 21, "join": "each", "add": "rz"}, "(({0 1 5} > C) + {2..4})",
     {"frac": 21, "join": "each", "add": "rz"}),
    ({**F16, "a": "e4m3", "b": "e5m2", "d": "f16", "terms": 3, "frac": 14, "order": "strided", "join": "last", "add": "ru",
      "rounding": "rd", "carry": 3}, "{0 2 4} > {1 3 5} > C", {"frac": 14, "rounding": "rd", "join": "last", "add": "ru"}),
]


@pytest.mark.parametrize("row, tree, columns", OWN, ids=[tree for _, tree, _ in OWN])
def test_it_finds_units_that_nobody_built(row, tree, columns):
    unit = define("own", **row)
    found = ask(unit, tries=20)
    assert f"sum          {tree}\n" in str(found) and not found.rows
    assert {key: found.columns.get(key) for key in columns} == columns
    rng = np.random.default_rng(1)
    fresh = [rng.integers(0, 1 << fmt.bits, (200, *shape)) for fmt, shape in ((unit.a, (6,)), (unit.b, (6,)), (unit.c, ()))]
    np.testing.assert_array_equal(found.unit.dot_codes(*fresh), unit.dot_codes(*fresh))


def test_what_it_does_not_know():
    hopper = emulator.instruction("sm_90", "mma.m16n8k16.f32.f16.f16.f32")

    def faulty(a, b, c):
        d = hopper.dot_codes(a, b, c)
        return np.where(a[:, 3] & 3 == 3, d ^ 1, d)
    found = probe(faulty, a="f16", b="f16", d="f32", k=16, tries=100)
    told = str(found)
    assert found.unit is None and "no unit known here gives every answer; the nearest:" in told
    assert "answers differ, first 0x" in told and "sum          {C 0..15}" in told


def test_bad_machines():
    answers = iter(range(10 ** 9))
    with pytest.raises(Mismatch, match="the machine does not repeat its answers"):
        probe(lambda a, b, c: np.array([next(answers) for _ in a], np.uint32), a="f16", b="f16", d="f32", k=4)
    with pytest.raises(BadOperand, match="the machine answers float64 .*; for N = 30 it is to answer unsigned codes of float32"):
        probe(lambda a, b, c: np.zeros(3), a="f16", b="f16", d="f32", k=4)
    with pytest.raises(BadOperand, match="sums of integers are exact, so there is no row to find"):
        probe(None, a="s8", b="s8", d="s32", k=4)


def test_captured_answers_and_the_command_line(tmp_path):
    """Fifty random rows say little; the directed ones, all."""
    unit = emulator.instruction("sm_80", "mma.m16n8k8.f32.f16.f16.f32")
    golden.generate(tmp_path / "out", [unit], tiles=60)
    told = CliRunner().invoke(cli.main, ["probe", str(tmp_path / "out"), "--arch", "sm_80", "--only", "f16.f16"])
    assert told.exit_code == 0 and "  sm_80 mma.m16n8k8.f32.f16.f16.f32\n" in told.output
    assert "frac         24\n" in told.output and "carry        6      unsettled; as well: 0, 1, " in told.output
    formats = {x: number_format(y) for x, y in zip("abd", ("f16", "f16", "f32"))}
    a, b = np.full((2, 50, 8), 0x3C00)
    vague = match(a, b, np.zeros(50, int), np.full(50, 0x41000000), **formats)
    assert len(vague.rows) > 1 and set(vague.unsettled) >= {"frac", "cut", "carry"} and vague.tree is None
    live = CliRunner().invoke(cli.main, ["probe", "sm_70", "mma.m8n8k4.f16.f16.f16.f16"])
    assert live.exit_code == 0 and "sum          {C 0..3}\n" in live.output
    refused = CliRunner().invoke(cli.main, ["probe", "sm_120", "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0"])
    assert refused.exit_code == 2 and "is block scaled; probe takes units without scales" in refused.output
