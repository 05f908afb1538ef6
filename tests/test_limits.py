"""finfo against numpy's, ml_dtypes' and the values themselves; value tables; their commands."""

import itertools
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from test_formats import FLOATS, TYPED, _floats

from emulator import BadOperand, Float, cli, finfo
from emulator.exact import decode
from emulator.limits import values

NUMPY = ("bits eps epsneg max min tiny smallest_normal smallest_subnormal nmant nexp iexp machep negep minexp maxexp "
         "precision resolution").split()


@pytest.mark.parametrize("fmt", [f for f in FLOATS if f.name in TYPED], ids=str)
def test_the_fields_of_numpy_and_ml_dtypes(fmt):
    theirs = (np if fmt.name in ("float16", "float32", "float64") else ml_dtypes).finfo(TYPED[fmt.name])
    ours = finfo(fmt)
    for name in NUMPY:
        if name in ("precision", "resolution") and fmt.bits <= 8:
            continue                        # named: ml_dtypes has digits of its own there; ours are numpy's formula
        if name == "resolution":            # a number of the format there
            assert ours.resolution == pytest.approx(float(theirs.resolution), rel=float(ours.eps))
        else:
            assert float(getattr(ours, name)) == float(getattr(theirs, name)), name
    assert ours.dtype == theirs.dtype


@settings(max_examples=25)
@given(_floats())
def test_limits_are_those_of_the_values(fmt):
    info, numbers = finfo(fmt), [decode(fmt, code) for code in range(1 << fmt.bits)]
    finite = {(-1) ** n.negative * n.sig * Fraction(2) ** n.exp for n in numbers if n.kind == "finite"}
    positive = sorted(v for v in finite if v > 0)
    assert (info.max, info.min, info.smallest_subnormal) == (positive[-1], min(finite), positive[0])
    assert info.finite_values == len(finite) and info.has_zero == (0 in finite)
    assert info.nan_codes == sum(n.kind == "nan" for n in numbers) and info.has_nan == (info.nan_codes > 0)
    assert info.has_inf == any(n.kind == "inf" for n in numbers)
    assert info.has_negative_zero == any(n.negative and n.kind == "finite" and not n.sig for n in numbers)
    assert info.has_subnormals == (0 < positive[0] < info.smallest_normal)
    whole = next(n for n in itertools.count(1) if Fraction(n) not in finite)
    assert info.largest_integer == whole - 1
    if 1 in finite:
        at = positive.index(1)
        assert at + 1 == len(positive) or positive[at + 1] - 1 == info.eps
        assert at == 0 or 1 - positive[at - 1] == info.epsneg
    assert info.binades == math.floor(math.log2(positive[-1])) - math.floor(math.log2(positive[0])) + 1
    ratio = positive[-1] / positive[0]
    assert info.dynamic_range_db == pytest.approx(20 * math.log10(ratio), abs=1e-9)
    if fmt.frac_bits:
        told = [f"{float(v):.{info.round_trip_digits - 1}e}" for v in positive]
        assert len(set(told)) == len(told)


def test_finfo_takes_what_numpy_does():
    x = np.ones(3, ml_dtypes.bfloat16)
    assert finfo("bf16") == finfo(x) == finfo(x[0]) == finfo(x.dtype) == finfo(ml_dtypes.bfloat16)
    assert finfo(Float("vast", 15, 40)).max == (2 - Fraction(1, 2**40)) * 2**16383
    assert (finfo("bf16").largest_integer, finfo("bf16").round_trip_digits, finfo("f32").round_trip_digits) == (256, 4, 9)
    for which in ("int8", "nf4"):
        with pytest.raises(BadOperand, match=f"{which} is no floating-point format; finfo is about those"):
            finfo(which)


def test_values():
    codes, numbers = values("e2m1")
    assert codes.tolist() == list(range(16)) and numbers[:8].tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert len(values("nf4")[0]) == 16 and values("int4")[1].tolist() == [*range(8), *range(-8, 0)]
    with pytest.raises(BadOperand, match="float32 has 32 bits; a table of values is for at most 16"):
        values("f32")


def run(*words, code=0):
    result = CliRunner().invoke(cli.main, words)
    assert result.exit_code == code, result.output
    return result.output


def test_commands():
    told = dict(line.split(None, 1) for line in run("formats", "e4m3").splitlines()[1:])
    assert (told["max"], told["nan_code"], told["largest_integer"]) == ("448", "0x7f", "16")
    assert run("formats", "e2m1", "--values").splitlines()[7] == "0x7 6.0"
    assert run("formats", "int2").split("\n")[2] == "0x2 -2"
    assert "--values is for one FORMAT" in run("formats", "--values", code=2)
