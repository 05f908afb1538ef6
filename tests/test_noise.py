"""Philox against numpy and the known answers of its authors; the bit layouts of cvt.rs against their tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator import BadOperand, engine_c, noise


# Random123, tests/kat_vectors (philox4x32 10): counter, key, output
@pytest.mark.parametrize("counter, key, want", [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
])
def test_philox4x32_known_answers(counter, key, want):
    assert tuple(noise.philox4x32(np.array(counter), key).tolist()) == want


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, 40))
def test_philox4x64_is_numpys_stream(seed, start, count):
    generator = np.random.Philox(key=seed)
    generator.advance(start // 4)
    want = generator.random_raw(4 * 11)[start % 4:][:count]
    assert (noise.philox4x64(seed, start, count) == want).all()


def test_philox4x64_from_the_start():
    assert (noise.philox4x64(7, 0, 1000) == np.random.Philox(key=7).random_raw(1000)).all()
    assert (noise.philox4x64(7, 333, 20) == np.random.Philox(key=7).random_raw(353)[333:]).all()


@pytest.mark.sanitize
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**62), st.integers(0, 70), st.integers(0, 70))
def test_words_do_not_depend_on_chunks_or_engine(seed, start, first, second):
    whole = noise.words(seed, start, first + second)
    parts = noise.words(seed, start, first), noise.words(seed, start + first, second)
    assert (whole == np.concatenate(parts)).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_c, "available", lambda: False)
        assert (noise.words(seed, start, first + second) == whole).all()


def test_bad_seed():
    with pytest.raises(BadOperand, match=r"seed is -1; it takes 0..2\*\*64 - 1"):
        noise.words(-1, 0, 4)


def test_cvt_rs_layouts():
    word = np.array([0xABCD1234], np.uint32)
    assert noise.f16x2(word).tolist() == [[0x1234, 0x0BCD]]
    assert noise.bf16x2(word).tolist() == [[0x1234, 0xABCD]]
    assert noise.fp8x4(word).tolist() == [[0x1234, 0x1234, 0xABCD, 0xABCD]]
    reverse = [int(f"{half:016b}"[::-1], 2) for half in (0x1234, 0xABCD)]
    assert noise.e4m3x4_sm100(word).tolist() == [[0x1234, reverse[0], 0xABCD, reverse[1]]]
    assert noise.fp4x4(word).tolist() == [[0xCD34, 0xCD34, 0xAB12, 0xAB12]]
    words = np.random.default_rng(1).integers(0, 1 << 32, (3, 5), np.uint32)
    for layout, bits in noise.CVT_RS.values():
        found = layout(words)
        assert found.shape[:2] == (3, 5) and found.dtype == np.uint32 and int(found.max()) < 1 << bits
