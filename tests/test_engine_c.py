"""What is specific to the C engine: the struct is the record, the enums are the tables, what it refuses, use without Python."""

import os
import pickle
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emulator import engine_c
from emulator.errors import EngineUnavailable
from emulator.exact import METHODS
from emulator.formats import FORMATS, SPECIALS, Float, Integer
from emulator.instructions import Adder, find
from emulator.record import FIELDS, FORMAT_FIELDS, record
from emulator.rounding import MODES, OVERFLOWS

pytestmark = [pytest.mark.sanitize, pytest.mark.usefixtures("c_engine")]

CSRC = Path(__file__).resolve().parent.parent / "csrc"
HMMA = find("sm_90", "mma.m16n8k16.f32.f16.f16.f32")
FP4 = find("sm_120", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3")
DMMA = find("sm_90", "mma.m16n8k4.f64.f64.f64.f64")
SIMT = find("sm_80", "mma.m8n8k4.f32.f16.f16.f32")
IMMA = find("sm_90", "mma.m16n8k32.s32.s8.s8.s32.satfinite")


def operands(row):
    """All zeros, for one element, and room for two instructions along k."""
    k = 2 * row.k
    scale = np.zeros((1, 1, k // row.block), row.scale.code_dtype) if row.block else None
    shapes = [(row.a, (1, 1, k)), (row.b, (1, 1, k)), (row.c, (1, 1, 1)), (row.d, (1, 1, 1))]
    a, b, c, d = (np.zeros(shape, f.code_dtype) for f, shape in shapes)
    return a, b, c, scale, scale, d


def status(row, k=None, fields=None, sizes=(1, 1, 1), scales=True):
    """What emu_dots returns for the row, with these fields of its record changed."""
    values, view, null = record(row).copy(), engine_c.ffi.from_buffer, engine_c.ffi.NULL
    for field, value in (fields or {}).items():
        values[FIELDS.index(field)] = value
    a, b, c, scale_a, scale_b, d = (null if x is None else view(x) for x in operands(row))
    return engine_c.lib.emu_dots(view("emu_row *", values), *sizes, k or row.k, a, b, c, scale_a if scales else null,
                                 scale_b, d)


# --- the two halves agree ------------------------------------------------------------------------------------------

def test_the_struct_is_the_record():
    ffi = engine_c.ffi
    places = {}
    for name, field in ffi.typeof("emu_row").fields:
        if field.type.kind == "struct":
            places |= {f"{name}_{inner}": field.offset + f.offset for inner, f in field.type.fields}
            assert tuple(inner for inner, _ in field.type.fields) == FORMAT_FIELDS
        else:
            places[name] = field.offset
    assert places == {name: 4 * i for i, name in enumerate(FIELDS)}
    assert ffi.sizeof("emu_row") == 4 * len(FIELDS) == record(HMMA).nbytes


@pytest.mark.parametrize("prefix, table", [("METHOD", METHODS), ("ROUND", MODES), ("OVERFLOW", OVERFLOWS),
                                           ("SPECIALS", SPECIALS)])
def test_the_enums_are_the_tables(prefix, table):
    start = f"EMU_{prefix}_"
    named = {name: getattr(engine_c.lib, name) for name in dir(engine_c.lib) if name.startswith(start)}
    assert named == {start + name.upper(): i for i, name in enumerate(table)}


# --- what it refuses -----------------------------------------------------------------------------------------------

def test_every_status_has_words():
    names = ["EMU_DONE", "EMU_NO_MEMORY", "EMU_BAD_SHAPE", "EMU_BAD_ROW", "EMU_TOO_WIDE", "EMU_NOT_IEEE"]
    words = [engine_c.ffi.string(engine_c.lib.emu_why(getattr(engine_c.lib, name))) for name in names]
    assert len(set(words)) == len(words) and all(words)
    assert engine_c.ffi.string(engine_c.lib.emu_why(99)) not in words


@pytest.mark.parametrize("row", [HMMA, FP4, DMMA, SIMT, IMMA], ids=str)
def test_rows_are_done(row):
    assert status(row) == status(row, k=2 * row.k) == status(row, sizes=(0, 1, 1)) == engine_c.lib.EMU_DONE


@pytest.mark.parametrize("why, row, change", [
    ("BAD_SHAPE", HMMA, {"k": 24}),
    ("BAD_SHAPE", HMMA, {"k": -16}),
    ("BAD_SHAPE", HMMA, {"k": (1 << 63) - 16}),
    ("BAD_SHAPE", HMMA, {"sizes": (1, -1, 1)}),
    ("BAD_SHAPE", FP4, {"scales": False}),
    ("BAD_ROW", HMMA, {"fields": {"method": len(METHODS)}}),
    ("BAD_ROW", HMMA, {"fields": {"method": -1}}),
    ("BAD_ROW", HMMA, {"fields": {"rounding": len(MODES)}}),
    ("BAD_ROW", HMMA, {"fields": {"k": 0}}),
    ("BAD_ROW", HMMA, {"fields": {"terms": 0}}),
    ("BAD_ROW", HMMA, {"fields": {"a_specials": len(SPECIALS)}}),
    ("BAD_ROW", HMMA, {"fields": {"a_exp_bits": 40, "a_bits": 64}}),
    ("BAD_ROW", HMMA, {"fields": {"a_is_float": 0}}),
    ("BAD_ROW", HMMA, {"fields": {"d_specials": list(SPECIALS).index("finite")}}),
    ("BAD_ROW", FP4, {"fields": {"block": 0}}),
    ("BAD_ROW", IMMA, {"fields": {"c_is_float": 1, "c_exp_bits": 8, "c_frac_bits": 23}}),
    ("TOO_WIDE", HMMA, {"fields": {"frac": 60}}),
    ("TOO_WIDE", HMMA, {"fields": {"floor": -(1 << 30)}}),
    ("TOO_WIDE", IMMA, {"fields": {"a_bits": 32}}),
    ("NOT_IEEE", DMMA, {"fields": {"rounding": MODES.index("rna")}}),
    ("NOT_IEEE", SIMT, {"fields": {"d_frac_bits": 22}}),
    ("NOT_IEEE", SIMT, {"fields": {"d_exp_bits": 5, "d_bias": 15, "d_low_pad": 3}}),
])
def test_what_it_cannot_do_has_a_status(why, row, change):
    assert status(row, **change) == getattr(engine_c.lib, f"EMU_{why}")


@pytest.mark.parametrize("change, words", [
    ({"adder": Adder("wide", 256, 60, 7)}, "more than 62"),
    ({"a": FORMATS["float64"]}, "more than 31 bits"),
    ({"d": Float("finite8", 5, 2, specials="finite")}, "describe no instruction"),
    ({"a": Integer("int8", 8)}, "describe no instruction"),
    ({"method": "simt_f32", "adder": None, "d": FORMATS["bfloat16"]}, "IEEE steps"),
])
def test_python_hears_of_it_by_name(change, words):
    row = replace(HMMA, **change)
    with pytest.raises(EngineUnavailable, match=f"the C engine cannot do sm_90 mma.m16n8k16.*{words}"):
        engine_c.dots(row, *operands(row))


def test_a_row_that_has_run_can_be_pickled():
    engine_c.dots(HMMA, *operands(HMMA))
    assert pickle.loads(pickle.dumps(HMMA)) == HMMA


# --- without Python ------------------------------------------------------------------------------------------------

STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Werror"]


@pytest.fixture(scope="module")
def compile_and_run(tmp_path_factory):
    cc = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not cc:
        pytest.skip("no C compiler")
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}   # make sanitize preloads libasan

    def run(text, flags=()):
        folder = tmp_path_factory.mktemp("c")
        (folder / "example.c").write_text(text)
        command = [*cc.split(), *STRICT, "-O2", "-ffp-contract=off", *flags, f"-I{CSRC}", "example.c",
                   *map(str, CSRC.glob("dot*.c")), "-lm", "-o", "example"]
        made = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return subprocess.run([folder / "example"], env=env, capture_output=True, text=True, check=True).stdout

    return run


def test_the_example_in_the_header_compiles_and_runs(compile_and_run):
    comment = (CSRC / "emulator.h").read_text().partition("*/")[0]
    lines = re.findall(r"^ \*     (.*)$", comment, re.MULTILINE)
    text = "\n".join(line for line in lines if not line.startswith("cc "))
    printed, = re.findall(r"// prints: (.*)", text)
    assert compile_and_run(text).strip() == printed
    assert len(text.splitlines()) < 16


# A caller that rounds up and flushes subnormals: 2^-1074 * 1 + 1, and 2^-1074 * 1 + 0 in double; 1 + 2^-24 in float.
ENVIRONMENT = """
#include <fenv.h>
#include <stdio.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif
#include "emulator.h"

int main(void)
{
    const emu_format f64 = {1, 64, 1, 11, 52, 1023, EMU_SPECIALS_IEEE, 0}, f32 = {1, 32, 1, 8, 23, 127, EMU_SPECIALS_IEEE, 0};
    const emu_format f16 = {1, 16, 1, 5, 10, 15, EMU_SPECIALS_IEEE, 0};
    const emu_row fma = {.method = EMU_METHOD_FMA_CHAIN, .k = 1, .terms = 1, .a = f64, .b = f64, .c = f64, .d = f64};
    const emu_row simt = {.method = EMU_METHOD_SIMT_F32, .k = 1, .terms = 1, .a = f16, .b = f16, .c = f32, .d = f32};
    uint64_t a = 1, one = UINT64_C(0x3ff) << 52, zero = 0, d[2];
    uint16_t x = 0x3c00;
    uint32_t c = 0x33800000, e;
    fesetround(FE_UPWARD);
#if defined(__SSE2__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
    unsigned before = _mm_getcsr();
#endif
    int status = emu_dots(&fma, 1, 1, 1, 1, &a, &one, &one, NULL, NULL, &d[0]);
    status |= emu_dots(&fma, 1, 1, 1, 1, &a, &one, &zero, NULL, NULL, &d[1]);
    status |= emu_dots(&simt, 1, 1, 1, 1, &x, &x, &c, NULL, NULL, &e);
    int kept = fegetround() == FE_UPWARD;
#if defined(__SSE2__)
    kept = kept && _mm_getcsr() == before;
#endif
    return printf("%d %d %016llx %016llx %08lx", status, kept, (unsigned long long)d[0], (unsigned long long)d[1],
                  (unsigned long)e) < 0;
}
"""


def test_the_floating_point_environment_is_neither_used_nor_changed(compile_and_run):
    assert compile_and_run(ENVIRONMENT) == "0 1 3ff0000000000000 0000000000000001 3f800000"


def test_version():
    assert engine_c.lib.emu_version() == engine_c.lib.EMU_VERSION
    assert engine_c.ffi.string(engine_c.lib.emu_parts()).split()[0] == b"portable"
