"""Judging kernels: schedules are told apart and named, lost elements found, traces end in the element they trace."""

import ml_dtypes
import numpy as np
import pytest

import emulator
from emulator import IN_ORDER, BadOperand, Promote, SplitK, StreamK, arrays, check_kernel
from emulator.judge import Candidate, family

pytestmark = pytest.mark.usefixtures("c_engine")          # too large for Numba

FP8 = emulator.instruction("sm_90", "wgmma.m64n64k32.f32.e4m3.e4m3")
F16 = emulator.instruction("sm_80", "mma.m16n8k16.f32.f16.f16.f32")
RNG = np.random.default_rng(0)
A8, B8 = (emulator.convert(RNG.standard_normal(shape) * 3, "e4m3", profile="cuda") for shape in ((120, 512), (512, 100)))
A16, B16 = (RNG.standard_normal(shape).astype(np.float16) for shape in ((120, 500), (500, 100)))
C = RNG.standard_normal((120, 100)).astype(np.float32)

SCHEDULES = [
    (IN_ORDER, "in order"), (SplitK(3), "split-K 3, parts of 192 k"), (SplitK(2, tile=128), "split-K 2, parts of 256 k"),
    (Promote(128), "promotion every 128 k"), (SplitK(16), "split-K 16, parts of 32 k, or promotion every 32 k"),
]


@pytest.mark.parametrize("schedule, name", SCHEDULES, ids=[name for _, name in SCHEDULES])
def test_the_schedule_is_found(schedule, name):
    found = check_kernel(emulator.matmul(A8, B8, on=FP8, schedule=schedule), A8, B8, on=FP8)
    assert found.equal and len(found.schedules) == 1 and name in found.schedules[0]
    assert not found.unexplained and found.trace == "" and f"by 1 of {len(found.mismatches)} schedules" in str(found)
    assert found.mismatches[found.schedules[0]] == 0 and len(found.mismatches) == len(family(FP8, 512))
    assert check_kernel(emulator.matmul(A8, B8, on=FP8, schedule=schedule), A8, B8, on=FP8, schedule=schedule).equal


def test_orders_of_tiles():
    """Descending tiles, the ragged one first, and warps that share a tile's K, written out as chains of their own."""
    def chain(parts, c=None):
        for lo, hi in parts:
            c = emulator.matmul(A16[:, lo:hi], B16[lo:hi], c, on=F16)
        return c

    down = chain([(lo, min(lo + 64, 500)) for lo in range(448, -1, -64)])
    assert check_kernel(down, A16, B16, on=F16).schedules == ["tiles of 64 k, descending"]
    a, b = A16[:, :384], B16[:384]
    halves = [chain([(lo + 64 * w, lo + 64 * w + 64) for lo in range(0, 384, 128)]) for w in (0, 1)]
    assert check_kernel(halves[0] + halves[1], a, b, on=F16).schedules == ["slice-K over 2 warps, tiles of 128 k"]


def test_c_and_epilogues():
    """C in the accumulator or added at the end; a 16-bit output, serial split-K, alpha."""
    start = emulator.matmul(A16, B16, C, on=F16)
    assert check_kernel(start, A16, B16, C, on=F16).schedules == ["in order"]
    last = emulator.matmul(A16, B16, C, on=F16, beta=1)
    assert check_kernel(last, A16, B16, C, on=F16).schedules == ["in order, C added at the end"]
    half = emulator.matmul(A16, B16, on=F16, out="bfloat16", schedule=SplitK(4, serial=True, tile=64))
    assert half.dtype == ml_dtypes.bfloat16
    assert check_kernel(half, A16, B16, on=F16).schedules == ["serial split-K 4, parts of 128 k"]
    scaled = emulator.matmul(A16, B16, on=F16, alpha=0.3, schedule=SplitK(2))
    assert check_kernel(scaled, A16, B16, on=F16, alpha=0.3).schedules == ["split-K 2, parts of 256 k, or promotion every 256 k"]
    assert not check_kernel(scaled, A16, B16, on=F16).equal
    ints = emulator.instruction("sm_80", "mma.m16n8k32.s32.s8.s8.s32")
    x = RNG.integers(-9, 9, (40, 64), np.int8)
    assert check_kernel(emulator.matmul(x, x.T, on=ints), x, x.T, on=ints).equal


def test_block_scales():
    ins = emulator.instruction("sm_100", "tcgen05.mma.m128n64k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.ue4m3")
    x = RNG.standard_normal((2, 64, 320)).astype(np.float32)
    q, p = emulator.quantize(x[0], "nvfp4", axis=1), emulator.quantize(x[1].T, "nvfp4", axis=0)
    scales = {"scale_a": q.scales, "scale_b": p.scales}
    d = None
    for lo, hi in ((256, 320), (128, 256), (0, 128)):
        cut = {"scale_a": q.scales[:, lo // 16:hi // 16], "scale_b": p.scales[lo // 16:hi // 16]}
        d = emulator.matmul(q.elements[:, lo:hi], p.elements[lo:hi], d, on=ins, **cut)
    found = check_kernel(d, q.elements, p.elements, on=ins, **scales)
    assert "tiles of 128 k, descending" in found.schedules
    d[3, 4] = 7
    assert "scale 3" in check_kernel(d, q.elements, p.elements, on=ins, **scales).trace


@pytest.mark.parametrize("schedule", [None, Promote(128), IN_ORDER])
def test_a_lost_element(schedule):
    """One wrong element among all: found, the rest is explained, and the trace ends in what it should be."""
    d = emulator.matmul(A8, B8, on=FP8, schedule=schedule or Promote(128))
    want = d[7, 9]
    d[7, 9] = np.nextafter(d[7, 9], np.float32(np.inf))
    found = check_kernel(d, A8, B8, on=FP8, schedule=schedule)
    assert not found.equal and found.comparison.first == (7, 9) and found.unexplained == [(7, 9)]
    assert found.comparison.mismatches == 1
    told = str(found)
    assert "given by none of them: d[7, 9]" in told if schedule is None else "the schedule given does not give this" in told
    assert f"d[7, 9] by {found.best}" in told and "the last instruction, k 480..511" in told
    if schedule is not IN_ORDER:
        sums = [emulator.matmul(A8[7:8, lo:lo + 128], B8[lo:lo + 128, 9:10], on=FP8)[0, 0] for lo in range(0, 512, 128)]
        assert np.float32(0) + sums[0] + sums[1] + sums[2] + sums[3] == want
        assert all(f"{part.view(np.uint32):#010x}" in found.trace for part in sums)
        assert found.trace.splitlines()[-1].split()[2] == f"{sums[3].view(np.uint32):#010x}"
    else:
        assert found.trace.splitlines()[-1].split()[2] == f"{want.view(np.uint32):#010x}"


def test_outputs_of_several_schedules():
    """Stream-K splits some tiles and not others: no schedule gives all of d, each element has one."""
    d = emulator.matmul(A8, B8, on=FP8)
    d[64:] = emulator.matmul(A8[64:], B8, on=FP8, schedule=SplitK(2, tile=128))
    found = check_kernel(d, A8, B8, on=FP8)
    assert not found.equal and not found.unexplained and "follow different ones" in str(found)
    stream = StreamK(5, (64, 64, 64))                   # which tile has which parts depends on its place
    d = emulator.matmul(A8, B8, on=FP8, schedule=stream)
    assert check_kernel(d, A8, B8, on=FP8, schedule=stream).equal
    sums = [emulator.matmul(A8[119:, lo:hi], B8[lo:hi, 99:], on=FP8)[0, 0] for lo, hi in ((0, 128), (128, 512))]
    assert d[119, 99] == sums[0] + sums[1]                          # four tiles of 8, five runs of 7, 7, 6, 6, 6
    d[119, 99] += 1
    found = check_kernel(d, A8, B8, on=FP8, schedule=stream)
    assert found.unexplained == [(119, 99)] and "k 0..127, 4 instructions" in found.trace
    custom = [Candidate("mine", SplitK(5)), Candidate("in order")]
    assert set(check_kernel(d, A8, B8, on=FP8, among=custom).mismatches) == {"mine", "in order"}


def test_arrays_of_others():
    """torch and DLPack arrays, with every type that numpy lacks."""
    torch = pytest.importorskip("torch", reason="torch, the judge, is not installed")
    a, b = torch.from_numpy(A16.copy()), torch.from_numpy(B16.copy())
    d = torch.from_numpy(emulator.matmul(A16, B16, on=F16))
    assert check_kernel(d, a, b, on=F16, schedule=IN_ORDER).equal
    half = torch.from_numpy(np.array([[1.5, -2]], np.float32)).to(torch.bfloat16).requires_grad_()
    assert arrays.as_numpy(half.T).tolist() == [[1.5], [-2]] and arrays.as_numpy(half).dtype == ml_dtypes.bfloat16
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int8", "int64", "float64"):
        x = torch.tensor([1, 2, 4]).to(getattr(torch, name))
        assert arrays.as_numpy(x).dtype.name == name and arrays.as_numpy(x).astype(float).tolist() == [1, 2, 4]
    if hasattr(torch, "float4_e2m1fn_x2"):
        packed = torch.tensor([0x21, 0xF7], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
        assert arrays.as_numpy(packed).astype(float).tolist() == [0.5, 1, 6, -6]

    class Capsule:
        def __init__(self, x):
            self.x = x

        def __dlpack__(self, **more):
            return self.x.__dlpack__(**more)

        def __dlpack_device__(self):
            return self.x.__dlpack_device__()

    assert check_kernel(Capsule(emulator.matmul(A16, B16, on=F16)), Capsule(A16), Capsule(B16), on=F16).equal

    class Nothing:
        def __dlpack__(self, **more):
            raise BufferError

        def __dlpack_device__(self):
            return 2, 0

    with pytest.raises(BadOperand, match="Nothing is no array that numpy can read"):
        arrays.as_numpy(Nothing())
    with pytest.raises(BadOperand, match="torch tensor of torch.complex128"):
        arrays.as_numpy(torch.zeros(2, dtype=torch.complex128))


REFUSED = [
    (lambda: check_kernel(C, A16, B16[:, :9], on=F16), "d is .120, 100., a .120, 500. and b .500, 9."),
    (lambda: check_kernel(C, A16, B16, on=F16, among=[]), "it takes the schedules to try"),
    (lambda: check_kernel(C, A16.astype(np.float32), B16, on=F16), "a is float32"),
    (lambda: check_kernel(C, A16, B16, on=F16, schedule=Promote(100)), "it takes a multiple of the instruction's k"),
]


@pytest.mark.parametrize("call, sentence", REFUSED, ids=[s for _, s in REFUSED])
def test_refusals(call, sentence):
    with pytest.raises(BadOperand, match=sentence):
        call()
