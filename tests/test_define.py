"""Units that a user defines: columns mean what the vendors' rows mean, every engine agrees, and two can be diffed."""

import json
from itertools import product

import numpy as np
import pytest
from click.testing import CliRunner

import emulator
from emulator import BadGolden, BadOperand, BadUnit, EngineUnavailable, cases, cli, define, exact, golden, unit_diff
from emulator.exact import METHODS

TOML = """
shape = "m16n8k16"
a = "float16"
b = {exp_bits = 4, frac_bits = 3, specials = "fn"}
d = "float32"
terms = 4
frac = 20
carry = 5
rounding = "rz"
"""


def same(unit, row, tiles=24):
    x = cases.generate(row, tiles)
    operands = x.a, x.b, x.c, x.scale_a, x.scale_b
    return np.array_equal(unit.codes(*operands), row.codes(*operands))


@pytest.mark.parametrize("arch, name", [
    ("sm_70", "mma.m8n8k4.f16.f16.f16.f16"), ("sm_80", "mma.m16n8k16.f32.bf16.bf16.f32"),
    ("sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3"), ("sm_90", "mma.m16n8k32.f16.e5m2.e5m2.f16"),
    ("sm_120", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3"), ("sm_80", "mma.m8n8k4.f64.f64.f64.f64.rz"),
    ("sm_120", "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e2m1.f32.ue8m0"),
    ("sm_80", "mma.m16n8k32.s32.s8.u8.s32.satfinite"), ("sm_90", "mma.m8n8k4.f32.f16.f16.f32"),
    ("gfx908", "v_mfma_f32_4x4x4f16"), ("gfx90a", "v_mfma_f32_4x4x2bf16"), ("gfx942", "v_mfma_f32_4x4x4_16b_bf16"),
    ("gaudi2", "mme.fp32.fp8_152"), ("gaudi3", "mme.fp32.tf32")])
def test_a_row_made_of_a_row_is_that_row(arch, name):
    row = emulator.instruction(arch, name)
    unit = define("copy", base=row)
    assert same(unit, row) and same(define("again", base=unit), row)
    assert same(define(**json.loads(json.dumps(emulator.row_of(unit)))), row)


def test_the_vendors_rows_from_scratch():
    """Khattak and Mikaitis: A100 sums 8 products and C over 24 bits, H100 16 over 25; FP8 mma.sync of H100 is two sums."""
    common = dict(a="f16", b="f16", d="f32", rounding="rz")
    assert same(define("a100", shape="m16n8k16", terms=8, frac=24, carry=6, **common),
                emulator.instruction("sm_80", "mma.m16n8k16.f32.f16.f16.f32"))
    assert same(define("h100", shape="m16n8k16", frac=25, floor=-133, **common),
                emulator.instruction("sm_90", "mma.m16n8k16.f32.f16.f16.f32"))
    order = [[k for k in range(32) if k % 4 // 2 == half] for half in (0, 1)]
    for d, rounding in (("f32", "rz"), ("f16", "rne")):
        fp8 = define("fp8", shape="m16n8k32", a="e4m3", b="e4m3", d=d, order=order, frac=25, carry=7, rounding=rounding, join="last")
        assert same(fp8, emulator.instruction("sm_90", f"mma.m16n8k32.{d}.e4m3.e4m3.{d}"))


SMALL = {"shape": "m2n2k8", "a": "f16", "b": "e5m2", "d": "f16", "terms": 3, "frac": 12}


@pytest.mark.sanitize
@pytest.mark.parametrize("join, order", list(product(("with", "each", "last"), ("descending", "strided", [[7, 0, 3], [1, 2, 4, 6], [5]]))))
def test_every_engine_rearranges_and_joins_as_the_specification(join, order):
    unit = define("small", **SMALL, join=join, order=order)
    x = cases.generate(unit, 33)
    want = unit.codes(x.a, x.b, x.c, engine="exact")
    for engine in (None, "numba", "c") if emulator.unit.engines.engine_c.available() else (None, "numba"):
        np.testing.assert_array_equal(unit.codes(x.a, x.b, x.c, engine=engine), want)
    assert exact.dot(unit, x.a[7, 1].tolist(), x.b[7, :, 0].tolist(), int(x.c[7, 1, 0])) == want[7, 1, 0]
    a, b = np.concatenate(x.a.view(np.float16)[:6], 1)[:, :20], np.concatenate(x.b[:6]).view(emulator.unit.arrays.carriers(unit.b)[0])[:20]
    got, slow = (emulator.matmul(a, b, on=unit, engine=engine) for engine in (None, "exact"))
    np.testing.assert_array_equal(got.view("u2"), slow.view("u2"))


def one(unit, products, c=0.0):
    a, b = (np.array([pair[side] for pair in products], np.float16) for side in (0, 1))
    return float(unit.dot(a, b, np.asarray(c, np.float32)))


def test_columns_by_hand():
    """Results worked out from the definitions of the columns."""
    row = {"shape": "m8n8k4", "a": "f16", "b": "f16", "d": "f32", "frac": 10, "rounding": "rz"}
    big, u = (2.0 ** 10, 1), 1.0                    # addends are cut to a multiple of 1
    for cut, tiny in (("rz", 0), ("rd", -u), ("rne", 0), ("ru", 0), ("ro", -u)):
        assert one(define("x", **row, cut=cut), [big, (-1024, 1), (-0.25, 1)]) == tiny
    for cut, tiny in (("rz", 0), ("rd", 0), ("rne", u), ("ru", u), ("ro", u)):
        assert one(define("x", **row, cut=cut), [big, (-1024, 1), (0.75, 1)]) == tiny
    assert one(define("x", **{**row, "frac": None}), [big, (-1024, 1), (2.0 ** -24, 2.0 ** -24)]) == 2.0 ** -48
    pair = [(2048, 1), (1, 1), (-2048, 1), (1, 1)]
    assert one(define("x", **row, terms=2, order="descending"), pair) == 0       # -2048 + 1, then 2048 and 1: both ones cut
    assert one(define("x", **row, terms=2, order="strided"), pair) == 2          # the big ones meet first
    assert one(define("x", **row, order=[[0, 2, 1], [3]]), pair) == 1
    half = [(0.25, 1)] * 4
    for join, d in (("with", 1024), ("each", 1024 + 1), ("last", 1024 + 1)):     # C = 1024 cuts what lies below 1
        assert one(define("x", **row, terms=2, join=join), half, 1024.0) == d
    assert one(define("x", **row, terms=2, join="each", add="ru"), [(2.0 ** -20, 1)] * 4, 1.0) == 1 + 2 ** -19 + 2 ** -19
    assert one(define("x", **{**row, "frac": 30}, precision=3), [(1, 1), (0.1875, 1)]) == 1.125
    f16 = {**row, "d": "f16", "frac": 12, "rounding": "rne"}
    low = [(2.0 ** -12, 2.0 ** -13), (2.0 ** -23, 2.0 ** -10)]                   # half a unit, and 2**-33
    assert define("x", **f16, floor=-21).dot(*np.array(low, np.float16).T).view("u2") == 1
    assert define("x", **f16, floor=-20).dot(*np.array(low, np.float16).T).view("u2") == 0


def test_toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    unit = emulator.load_unit(path)
    assert (unit.name, unit.terms, unit.adder.frac, unit.floor, unit.b.max_code) == ("mine", 4, 20, -131, 0x7E)
    assert unit.evidence == "assumed: defined by its user"
    told = CliRunner().invoke(cli.main, ["explain", str(path), "--a", "1,2", "--b", "1,0x38", "--c", "2^-21"])
    assert told.exit_code == 0 and "user mine" in told.output and "d = 0x40400000 3.0" in told.output
    made = CliRunner().invoke(cli.main, ["golden", "generate", str(tmp_path / "out"), str(path), "sm_80", "mma.m16n8k8.f32.f16.f16.f32",
                                         "--tiles", "7"])
    assert made.exit_code == 0 and "2 files, 1,792 rows" in made.output
    replayed = CliRunner().invoke(cli.main, ["verify", str(tmp_path / "out")])
    assert replayed.exit_code == 0 and "generated: 2 sets, 1,792 rows, every bit equal" in replayed.output
    path.write_text(TOML.replace("frac = 20", "frac = 21"))
    diff = CliRunner().invoke(cli.main, ["diff-units", str(path), "sm_80", "mma.m16n8k8.f32.f16.f16.f32"])
    assert diff.exit_code == 2 and "user mine has b = mine.b" in diff.output
    diff = CliRunner().invoke(cli.main, ["diff-units", str(path), str(path)])
    assert diff.exit_code == 0 and "no difference found in" in diff.output


def test_methods_and_functions():
    unit = define("ieee", shape="m8n8k4", a="f16", b="f16", d="f32", method="simt_f32")
    assert same(unit, emulator.instruction("sm_90", "mma.m8n8k4.f32.f16.f16.f32"))

    def first(ins, a, b, c, sa, sb, trace):
        """The first product alone."""
        return exact.encode(ins.d, exact.multiply(a[0], b[0]))
    unit = define("first", shape="m8n8k4", a="f16", b="f16", d="f32", method=first)
    assert one(unit, [(3, 5), (1, 1)]) == 15 and "first: The first product alone" in str(emulator.explain(unit, [0], [0]))
    with pytest.raises(EngineUnavailable, match="user first runs on engine='exact' alone: no other has its method"):
        unit.dot(np.ones(1, np.float16), np.ones(1, np.float16), engine="c")
    with pytest.raises(BadGolden, match="user first is a Python function, which a golden folder cannot hold"):
        golden.generate("nowhere", [unit])


ROW = {"shape": "m8n8k4", "a": "f16", "b": "f16", "d": "f32"}


@pytest.mark.parametrize("columns, sentence", [
    ({**ROW, "shape": "8x8x4"}, "bad: shape is '8x8x4'; it takes m, n and k: m16n8k16"),
    ({**ROW, "fraction": 3}, "unexpected keyword argument 'fraction'; the columns are name, "),
    ({"shape": "m8n8k4"}, "missing 3 required keyword-only arguments: 'a', 'b', and 'd'"),
    ({**ROW, "a": "f17"}, "bad: a: 'f17' is not a number format"),
    ({**ROW, "a": {"exp_bits": 3}}, "bad: a: Float.__init__() missing"),
    ({**ROW, "a": "s8"}, "bad: a, b, c, d are int8, float16, float32, float32; they are all integers, or all floats"),
    ({**ROW, "d": "e2m1"}, "bad: d is 'float4_e2m1fn'; it takes a format that has a NaN"),
    ({**ROW, "frac": 2.5}, "bad: frac is 2.5; it takes a whole number"),
    ({**ROW, "terms": 0}, "bad: terms is 0; a fused sum takes at least one product"),
    ({**ROW, "join": "first"}, "bad: join is 'first'; it takes with each last"),
    ({**ROW, "cut": "sr"}, "bad: cut is 'sr'; it takes rne rna rz rd ru ro"),
    ({**ROW, "order": [[0, 1], [1, 2, 3]]}, "as lists of k, one a group, it names each of 0..3 once"),
    ({**ROW, "order": "random"}, "it takes ascending descending strided, or lists of k"),
    ({**ROW, "method": "magic"}, f"bad: method is 'magic'; it takes {' '.join(METHODS)}, or a function"),
    ({**ROW, "carry": 3, "floor": -128}, "bad: floor is -128 and carry 3; floor = -126 - carry, so give one of them"),
    ({**ROW, "block": 4}, "bad: scale is None and block 4; block scales take both"),
    ({"base": "sm_90"}, "base is 'sm_90'; it takes an architecture and an instruction"),
])
def test_bad_rows_are_refused_by_name(columns, sentence):
    with pytest.raises(BadUnit) as refusal:
        define("bad", **columns)
    assert sentence in str(refusal.value)


def test_bad_files(tmp_path):
    (tmp_path / "x.toml").write_text("terms = = 3")
    with pytest.raises(BadUnit, match="x.toml cannot be read: "):
        emulator.load_unit(tmp_path / "x.toml")
    (tmp_path / "x.toml").write_text('shape = "m1n1"')
    with pytest.raises(BadUnit, match="x.toml: x: "):
        emulator.load_unit(tmp_path / "x.toml")
    assert "'sm_90' is no unit; a unit is ARCH" in CliRunner().invoke(cli.main, ["diff-units", "sm_90"]).output
    assert "names 1 units; this takes 2" in CliRunner().invoke(cli.main, ["diff-units", "sm_90", "mma.m16n8k8.f32.f16.f16.f32"]).output


@pytest.mark.parametrize("x, y, numbers", [
    ("sm_80 mma.m16n8k16.f32.f16.f16.f32", "sm_90 mma.m16n8k16.f32.f16.f16.f32", 2),                # 24 or 25 bits
    ("sm_90 mma.m16n8k32.f32.e4m3.e4m3.f32", "sm_90 wgmma.m64n8k32.f32.e4m3.e4m3", 2),              # 25 or 13
    ("sm_90 mma.m16n8k16.f16.f16.f16.f16", {"carry": 8}, 2),                                        # the floor
    ("sm_90 mma.m16n8k16.f32.f16.f16.f32", {"cut": "rd"}, 2),
    ("sm_80 mma.m16n8k32.s32.s8.s8.s32", "sm_80 mma.m16n8k32.s32.s8.s8.s32.satfinite", 2),
])
def test_the_smallest_difference(x, y, numbers):
    """So many numbers differ from zero, each a power of two, among products and C; and they do differ."""
    first = emulator.instruction(*x.split())
    second = define("y", base=x, **y) if isinstance(y, dict) else emulator.instruction(*y.split())
    found = unit_diff(first, second, tries=256)
    a, b, (c,), *_ = found.row
    assert sum(1 for pair in zip(a, b) if all(pair)) + (c != 0) == numbers and not found.equal
    assert found.d == tuple(exact.dot(unit, a, b, c) for unit in (first, second)) and found.d[0] != found.d[1]
    sigs = [exact.decode(fmt, code).sig for fmt, codes in ((first.a, a), (first.b, b), (first.c, (c,))) for code in codes]
    assert all(sig & (sig - 1) == 0 for sig in sigs)
    told = str(found)
    assert str(first) in told and str(second) in told and "  k 0: " in told and "emulator explain UNIT --a 0x" in told


def test_no_difference():
    x, y = (emulator.instruction(arch, "mma.m16n8k16.f32.f16.f16.f32") for arch in ("sm_90", "sm_100"))
    found = unit_diff(x, y, tries=64)
    assert found.equal and f"no difference found in {found.tried:,} inputs" in str(found)
    with pytest.raises(BadOperand, match="has a = float16, sm_90 mma.m16n8k8.f32.tf32.tf32.f32 tfloat32; only units over the same"):
        unit_diff(x, emulator.instruction("sm_90", "mma.m16n8k8.f32.tf32.tf32.f32"))
