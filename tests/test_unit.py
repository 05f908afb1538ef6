"""Calling an instruction: shapes, batches, layouts, byte orders, and what is refused."""

import pickle

import ml_dtypes
import numpy as np
import pytest

import emulator
from emulator import BadOperand, EngineUnavailable, engine_c, engines

F16 = emulator.instruction("sm_90", "mma.m16n8k16.f32.f16.f16.f32")
FP8 = emulator.instruction("sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3")
NVFP4 = emulator.instruction("sm_120", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3")
S8 = emulator.instruction("sm_80", "mma.m16n8k32.s32.s8.s8.s32")
pytestmark = pytest.mark.sanitize


def draw(shape, dtype=np.float16, seed=0):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32).astype(dtype)


@pytest.fixture(params=["exact", "numba", "c"], autouse=True)
def engine(request, monkeypatch):
    """Every test runs on every engine; small integers, so the result is plain arithmetic."""
    if request.param == "c":
        request.getfixturevalue("c_engine")
    monkeypatch.setenv("EMULATOR_ENGINE", request.param)
    return request.param


def test_tile_rows_and_batches():
    a, b, c = draw((3, 1, 16, 16)), draw((2, 16, 8), seed=1), draw((16, 8), np.float32, 2)
    want = a.astype(np.float32) @ b.astype(np.float32) + c
    d = F16(a, b, c)
    assert d.dtype == np.float32 and d.shape == (3, 2, 16, 8)
    np.testing.assert_array_equal(d, want)
    np.testing.assert_array_equal(F16(a, b), want - c)
    np.testing.assert_array_equal(F16.dot(a[0, 0], b[0].T[:, None], c.T), want[0, 0].T)
    np.testing.assert_array_equal(F16.dot(a[0, 0, :, :5], b[0, :5, 0]), a[0, 0, :, :5].astype(np.float32) @ b[0, :5, 0])
    assert F16.dot(a[0, 0, 0], b[0, :, 0]).shape == ()


def test_layouts_byte_orders_and_read_only():
    a, b = draw((16, 16)), draw((16, 8), seed=1)
    want = F16(a, b)
    wide = np.zeros((32, 48), np.float16)
    wide[::2, ::3] = a
    frozen = a.copy()
    frozen.flags.writeable = False
    for view in (np.asfortranarray(a), wide[::2, ::3], a[::-1][::-1], a.astype(">f2"), frozen):
        np.testing.assert_array_equal(F16(view, b), want)
    assert (a == draw((16, 16))).all()


def test_the_short_way_of_a_plain_tile(engine, monkeypatch):
    """On C, contiguous tiles of the preferred types go straight there; all others go the long way, to the same bits."""
    rng = np.random.default_rng(5)
    tiles = [(F16, np.float16, {}), (FP8, ml_dtypes.float8_e4m3fn, {}), (S8, np.int8, {}),
             (NVFP4, ml_dtypes.float4_e2m1fn, {"scale_a": draw((16, 4), ml_dtypes.float8_e4m3fn, 3),
                                               "scale_b": draw((4, 8), ml_dtypes.float8_e4m3fn, 4)})]
    for ins, kind, scales in tiles:
        a, b = draw((ins.m, ins.k), kind), draw((ins.k, ins.n), kind, 1)
        c = rng.integers(-9, 9, (ins.m, ins.n)).astype(np.int32 if ins is S8 else np.float32)
        for given in ((a, b, c), (a, b)):
            want = ins(a[None], b, *given[2:], **scales)[0]
            np.testing.assert_array_equal(ins(*map(np.asfortranarray, given), **scales), want)
            with monkeypatch.context() as patch:
                if engine == "c":
                    patch.setattr("emulator.arrays.codes", None)
                got = ins(*given, **scales)
            np.testing.assert_array_equal(got, want)
            assert got.dtype == want.dtype and got.flags.writeable
    assert pickle.loads(pickle.dumps(F16)) == F16


def test_zero_size():
    assert F16(np.zeros((0, 16, 16), np.float16), np.zeros((16, 8), np.float16)).shape == (0, 16, 8)
    assert F16.dot(np.zeros((4, 0), np.float16), np.zeros((4, 0), np.float16), np.ones(4, np.float32)).tolist() == [1] * 4
    assert F16.dot(np.zeros((0, 16), np.float16), np.zeros((0, 16), np.float16)).shape == (0,)


def test_block_scales():
    a, b = draw((16, 64), ml_dtypes.float4_e2m1fn), draw((64, 8), ml_dtypes.float4_e2m1fn, 1)
    sa = np.full((16, 4), 2, ml_dtypes.float8_e4m3fn)
    sb = np.full((4, 8), 0.5, ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(NVFP4(a, b, scale_a=sa, scale_b=sb), a.astype(np.float32) @ b.astype(np.float32))
    row = NVFP4.dot(a, b[:, 0], scale_a=sa * 0 - sa, scale_b=sb[:, 0])      # UE4M3 ignores the sign
    np.testing.assert_array_equal(row, a.astype(np.float32) @ b[:, 0].astype(np.float32))


def test_integers_and_codes():
    a, b = draw((16, 32), np.int8), draw((32, 8), np.int8, 1)
    want = a.astype(np.int32) @ b.astype(np.int32)
    assert S8(a, b).dtype == np.int32
    np.testing.assert_array_equal(S8(a, b), want)
    codes = S8.codes(a.view(np.uint8), b.view(np.uint8).astype(np.int64))
    assert codes.dtype == np.uint32
    np.testing.assert_array_equal(codes.view(np.int32), want)


def test_sub_byte_types_ignore_the_rest_of_their_byte():
    f4 = emulator.instruction("sm_100", "tcgen05.mma.m64n8k32.kind::f8f6f4.f32.e2m1.e2m1")
    a, b = draw((64, 32), ml_dtypes.float4_e2m1fn), draw((32, 8), ml_dtypes.float4_e2m1fn, 1)
    dirty = (a.view(np.uint8) | 0xA0).view(ml_dtypes.float4_e2m1fn)
    np.testing.assert_array_equal(f4(dirty, b), a.astype(np.float32) @ b.astype(np.float32))


def test_matmul_with_tails():
    a, b, c = draw((2, 21, 37)), draw((37, 13), seed=1), draw((21, 13), np.float32, 2)
    want = a.astype(np.float32) @ b.astype(np.float32) + c
    np.testing.assert_array_equal(emulator.matmul(a, b, c, on=F16), want)
    np.testing.assert_array_equal(emulator.matmul(a[0], np.asfortranarray(b), on=F16), want[0] - c)
    assert emulator.matmul(a[:, :, :0], b[:0], on=F16).tolist() == np.zeros((2, 21, 13)).tolist()


BAD = [
    (lambda: F16(draw((16, 16), np.float32), draw((16, 8))),
     'a is float32 (16, 16); this instruction reads float16. Convert it first, and say how: emulator.convert(a, "float16", rounding="rne")'),
    (lambda: F16(draw((16, 16)), draw((8, 16))),
     "b is (8, 16); sm_90 mma.m16n8k16.f32.f16.f16.f32 takes (..., k, n) with ... any batch, that is (..., 16, 8)"),
    (lambda: F16(draw((16, 16)), draw((16, 8)), draw((8, 16), np.float32)), "c is (8, 16); "),
    (lambda: F16(draw(16), draw((16, 8))), "a is (16,); "),
    (lambda: F16(draw((2, 16, 16)), draw((3, 16, 8))), "the batch dimensions (2,) (3,) do not broadcast together"),
    (lambda: F16.dot(draw((4, 17)), draw((4, 17))), "takes rows of one length k' <= 16 from each"),
    (lambda: F16.dot(draw((4, 8)), draw((4, 7))), "a is (4, 8) and b is (4, 7); a dot product of sm_90 mma.m16n8k16"),
    (lambda: F16(draw((16, 16)), draw((16, 8)), scale_a=draw((16, 1))),
     "scale_a is given; sm_90 mma.m16n8k16.f32.f16.f16.f32 has no scales"),
    (lambda: NVFP4(draw((16, 64), ml_dtypes.float4_e2m1fn), draw((64, 8), ml_dtypes.float4_e2m1fn)),
     "needs it: one float8_ue4m3 per 16 elements of k"),
    (lambda: S8(draw((16, 32), np.int16), draw((32, 8), np.int8)), "a is int16 (16, 32); this instruction reads int8. Pass a.astype(int8)"),
    (lambda: F16.codes(np.zeros((16, 16), np.float16), np.zeros((16, 8), np.uint16)), "codes of float16 are unsigned integers of 16 bits"),
    (lambda: F16.codes(np.full((16, 16), 70000), np.zeros((16, 8), np.uint16)), "a holds 0x11170; codes of float16 lie in 0..0xffff"),
    (lambda: F16.codes(np.full((16, 16), -1), np.zeros((16, 8), np.uint16)), "a holds -1; codes of float16 lie in 0..0xffff"),
    (lambda: emulator.matmul(draw((4, 5)), draw((4, 5)), on=F16), "a is (4, 5) and b is (4, 5); a product takes (..., M, K) and (..., K, N)"),
    (lambda: emulator.matmul(draw((4, 5)), draw((5, 4)), draw((5, 5), np.float32), on=F16), "c is (5, 5); the product is (..., 4, 4)"),
]


@pytest.mark.parametrize("call, sentence", BAD, ids=[sentence[:40] for _, sentence in BAD])
def test_bad_operands_are_refused_by_name(call, sentence):
    with pytest.raises(BadOperand) as refusal:
        call()
    assert sentence in str(refusal.value)


def test_engines_by_name(monkeypatch):
    a, b = draw((16, 16)), draw((16, 8), seed=1)
    with pytest.raises(EngineUnavailable, match="engine 'cuda' is not known; the engines are exact, numba, c"):
        F16(a, b, engine="cuda")
    monkeypatch.setenv("EMULATOR_ENGINE", "fast")
    with pytest.raises(EngineUnavailable, match="'fast' .from EMULATOR_ENGINE. is not known"):
        F16(a, b)
    monkeypatch.delenv("EMULATOR_ENGINE")
    assert engines.default() == ("c" if engine_c.available() else "numba")
    monkeypatch.setattr(engine_c, "_open", lambda: (None, "no C compiler worked"))
    with pytest.raises(EngineUnavailable, match="the C engine is not available: no C compiler worked; use engine='numba'"):
        F16(a, b, engine="c")
