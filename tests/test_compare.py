"""compare: every bit counts, and the story tells where."""

import ml_dtypes
import numpy as np
import pytest

from emulator.compare import compare
from emulator.errors import BadOperand, Mismatch, UnknownFormat
from emulator.formats import Float


def words(*codes):
    """float32 array of these bit patterns."""
    return np.array(codes, np.uint32).view(np.float32)


def test_the_story_of_the_design():
    want = np.ones((16, 8), np.float32)
    got = want.copy()
    got[3, 5] = np.nextafter(np.float32(1), np.float32(2))
    found = compare(got, want)
    assert (found.equal, found.mismatches, found.total, found.first) == (False, 1, 128, (3, 5))
    assert str(found) == ("1 of 128 elements of d differ (float32)\n"
                          "  d[3, 5]  got 0x3f800001 1.00000012  want 0x3f800000 1.0  (+1 ulp)")
    with pytest.raises(Mismatch) as caught:
        found.check()
    assert str(caught.value) == str(found)


def test_equal():
    x = words(0x7FC00001, 0x80000000, 0x3F800000)
    found = compare(x, x.copy())
    assert found.equal and found.first is None and not found.mismatches
    assert str(found) == "all 3 elements of d are equal (float32)"
    found.check()


@pytest.mark.parametrize(("got", "want", "why"), [
    (0x7FC00001, 0x7FC00000, "another NaN"),
    (0xFFC00000, 0x7FC00000, "another NaN"),
    (0x7FFFFFFF, 0x7F800000, "got NaN"),
    (0x7F800000, 0x7FFFFFFF, "want NaN"),
    (0x80000000, 0x00000000, "the sign of zero"),
    (0x80000001, 0x00000001, "-2 ulp"),                 # through both zeros, which are one number
    (0x00000001, 0x80000000, "+1 ulp"),
    (0x7F800000, 0x7F7FFFFF, "+1 ulp"),                 # infinity lies one step past the largest
    (0xBF800001, 0xBF800000, "-1 ulp"),                 # away from zero is down on the negative side
    (0x40000000, 0x3F800000, "+8,388,608 ulp"),
])
def test_what_tells_codes_apart(got, want, why):
    found = compare(words(got), words(want))
    assert not found.equal and str(found).endswith(f"({why})")


@pytest.mark.parametrize(("fmt", "got", "want", "why"), [
    ("float8_e4m3fnuz", 0x80, 0x00, "got NaN"),
    ("float8_e4m3fn", 0x7F, 0xFF, "another NaN"),
    ("tf32", 0x3F801000, 0x3F800000, "bits the format ignores"),
    ("tf32", 0x3F802000, 0x3F800000, "+1 ulp"),
    ("int8", 0x80, 0x7F, "-255"),                       # -128 against 127
    ("uint1", 1, 0, "+1"),
    (Float("tiny", 2, 1), 0b0110, 0b0101, "+1 ulp"),
])
def test_codes_with_a_format(fmt, got, want, why):
    dtype = np.uint32 if fmt == "tf32" else np.uint8
    found = compare(np.array([0, got], dtype), np.array([0, want], dtype), fmt)
    assert found.first == (1,) and str(found).endswith(f"({why})")


@pytest.mark.parametrize("dtype", [
    np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2,
    ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e8m0fnu, np.int32, np.int8, np.uint8, np.uint64])
def test_every_bit_of_every_type(dtype):
    size = np.dtype(dtype).itemsize
    want = np.zeros(3, f"u{size}")
    for bit in range(8 * size):
        got = want.copy()
        got[1] ^= np.uint64(1 << bit).astype(got.dtype)
        found = compare(got.view(dtype), want.view(dtype))
        assert (found.mismatches, found.first) == (1, (1,)), bit


def test_narrow_types_ignore_the_bits_they_do_not_have():
    stored = np.array([0x3, 0xF3], np.uint8).view(ml_dtypes.float4_e2m1fn)
    assert compare(stored[:1], stored[1:]).equal
    assert not compare(np.array([3], np.uint8).view(ml_dtypes.float4_e2m1fn), stored[:1] * 2).equal


def test_layouts():
    want = np.arange(24, dtype=np.float32).reshape(4, 6)
    for got in (np.asfortranarray(want), want.astype(">f4"), np.repeat(want, 2, 1)[:, ::2], want[::-1][::-1]):
        assert compare(got, want).equal
    got = want.astype(">f4")
    got[2, 1] += 1
    got.flags.writeable = False
    assert compare(got, want).first == (2, 1)
    assert compare(got.T, want.T).first == (1, 2)


def test_scalars_and_nothing():
    found = compare(np.float32(2), np.float32(1))
    assert found.first == () and "  d  got 0x40000000 2.0  want 0x3f800000 1.0" in str(found)
    none = compare(np.zeros((0, 3), np.float16), np.zeros((0, 3), np.float16))
    assert none.equal and none.total == 0 and str(none) == "d has no elements (float16)"


def test_codes_and_arrays_of_one_format_mix():
    ones = np.ones(2, ml_dtypes.bfloat16)
    assert compare([0x3F80, 0x3F80], ones, "bfloat16").equal
    assert compare(ones, np.array([0x3F80, 0x3F81], np.uint16), "bf16").first == (1,)


def test_only_the_first_few_are_told():
    found = compare(np.zeros(1000, np.float32), np.ones(1000, np.float32), name="x")
    lines = str(found).splitlines()
    assert lines[0] == "1,000 of 1,000 elements of x differ (float32)"
    assert len(lines) == 10 and lines[-1] == "  ... and 992 more"


@pytest.mark.parametrize(("got", "want", "fmt", "sentence"), [
    (np.zeros(3, np.float32), np.zeros(4, np.float32), None,
     "got is (3,) and want is (4,); only arrays of one shape can be compared"),
    (np.zeros(3, np.float32), np.zeros(3), None, "got is float32 and want is float64; convert one"),
    (np.zeros(3, complex), np.zeros(3, complex), None, "got and want are complex128; that is no number format"),
    (np.zeros(3, np.float64), np.zeros(3, np.uint16), "f16", "got is float64 (3,); it takes float16"),
    (np.zeros(3, np.uint8), np.full(3, 16, np.uint8), "e2m1", "want holds 0x10; codes of float4_e2m1fn lie in 0..0xf"),
    (np.zeros(3, np.int32), np.zeros(3, np.int32), "f32", "got is int32 (3,); it takes float32"),
])
def test_refusals(got, want, fmt, sentence):
    with pytest.raises(BadOperand) as caught:
        compare(got, want, fmt)
    assert sentence in str(caught.value)


def test_unknown_format():
    with pytest.raises(UnknownFormat, match="'e9m9' is not a number format"):
        compare([0], [0], "e9m9")
