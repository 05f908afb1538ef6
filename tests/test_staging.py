"""Staging: what lies in shared memory is what convert and quantize define, packed, swizzled, with scales in 128 x 4."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emulator
from emulator import BadOperand, Stage, stage
from emulator.blocks import BLOCKS, to_128x4
from emulator.shared import scale_offsets, swizzle

X = np.random.default_rng(0).standard_normal((40, 256)).astype(np.float32) * 5


@given(st.sampled_from(["float16", "bf16", "tf32", "e4m3", "e5m2", "e2m1", "e3m2", "nvfp4", "mxfp4", "mxfp8_e5m2"]),
       st.sampled_from(["none", "32B", "64B", "128B", "128B_ATOM_32B", "128B_ATOM_32B_FLIP_8B", "128B_ATOM_64B"]))
@settings(deadline=None)
def test_staged_tiles_read_back(to, mode):
    how = Stage(to)
    k, mode = (128, "none") if how.element.bits == 6 else (256, mode)
    found = stage(X[:, :k], to, swizzle=mode)
    want = emulator.quantize(X[:, :k], to) if to in BLOCKS else emulator.convert(X[:, :k], to, profile="cuda")
    codes = want.codes if to in BLOCKS else want.view(f"u{want.itemsize}")
    np.testing.assert_array_equal(found.read(), codes)
    assert found.data.nbytes >= 40 * k * how.element.bits // 8
    if to in BLOCKS:
        scales = np.asarray(want.scales).view(np.uint8)
        np.testing.assert_array_equal(found.scales, to_128x4(scales))
        at = scale_offsets(40, want.scales.shape[1])
        np.testing.assert_array_equal(found.scales[at], scales)
    elif mode not in ("none", "128B"):
        assert (found.read("128B") != codes).any()


def test_bytes_as_hardware_packs_them():
    """Two FP4 a byte, the first low; four FP6 in three bytes; the scale is one float32 multiplication; 128B swizzle."""
    tile = np.zeros((8, 256), np.float32)
    tile[1, :4] = 1, -6, 0.5, 3
    found = stage(tile, "e2m1")
    assert found.data[swizzle(128, "128B"):][:2].tolist() == [0xF2, 0x51]
    six = stage(tile[:, :128], "e3m2", swizzle="none")
    assert six.panels.width == 96 and six.data[96:99].tolist() == list((12 | 0x36 << 6 | 0x08 << 12 | 0x12 << 18).to_bytes(3, "little"))
    assert stage(tile[:, :128], "e3m2", swizzle="128B", padded=True).panels.width == 128
    scaled = stage(X, "e4m3", scale=np.float32(1 / 3))
    np.testing.assert_array_equal(scaled.codes, emulator.convert(X * np.float32(1 / 3), "e4m3", profile="cuda").view(np.uint8))
    assert stage(X.astype(np.float32) * 1e6, "e4m3").codes.max() & 0x7F == 0x7E, "satfinite"


REFUSED = [
    (lambda: stage(X[0], "e4m3"), "tile is .256,.; it takes .rows, k."),
    (lambda: stage(X[:, :40], "e4m3"), "end on a multiple of 16 bytes"),
    (lambda: stage(X[:, :64], "e4m3"), "rows of 64 bytes; swizzle 128B takes multiples of 128"),
    (lambda: stage(X, "e4m3", swizzle="256B"), "swizzle '256B' is not one of"),
    (lambda: stage(X, "nvfp4", scale=2.0), "nvfp4 scales its blocks"),
    (lambda: stage(X, "int8"), "is no floating-point format"),
]


@pytest.mark.parametrize("call, sentence", REFUSED, ids=[s for _, s in REFUSED])
def test_refusals(call, sentence):
    with pytest.raises(BadOperand, match=sentence):
        call()
