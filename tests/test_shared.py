"""Shared memory: bank conflicts derived by hand, swizzles and descriptors against CuTe's formulas, copies, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emulator
from emulator import BadOperand, UnknownInstruction
from emulator.fragments import copy_fragment, fragment
from emulator.shared import (
    SWIZZLES,
    Access,
    Descriptor,
    Panels,
    SharedMemory,
    TensorMap,
    access,
    degrees,
    instruction_descriptor,
    pad16,
    scale_offsets,
    swizzle,
    unpad16,
)
from emulator.sm import MACHINES

LANES = np.arange(32)

# --- conflicts -----------------------------------------------------------------------------------------------------------

# name, addresses of the lanes, width, phases, wavefronts, ways: each derived by hand in its comment
HAND = [
    ("32-bit, consecutive words", LANES * 4, 4, 1, 1, 1),
    ("32-bit, one word for all: broadcast", LANES * 0, 4, 1, 1, 1),
    ("32-bit, stride 2 words: banks 0, 2, .. 30 twice", LANES * 8, 4, 1, 2, 2),
    ("32-bit, a column of 32 float32 wide rows: one bank", LANES * 128, 4, 1, 32, 32),
    ("32-bit, the same padded to 33: all banks", LANES * 132, 4, 1, 1, 1),
    ("32-bit, stride 3 words: odd, all banks", LANES * 12, 4, 1, 1, 1),
    ("16-bit, two lanes in each word: 16 words", LANES * 2, 2, 1, 1, 1),
    ("8-bit, a column of rows of 128 bytes", LANES * 128, 1, 1, 32, 32),
    ("64-bit, consecutive: each half warp takes 32 banks", LANES * 8, 8, 2, 2, 1),
    ("64-bit, stride 16: lanes i and i + 8 of a half share banks", LANES * 16, 8, 2, 4, 2),
    ("64-bit, stride 128: 16 lanes in two banks", LANES * 128, 8, 2, 32, 16),
    ("64-bit, stride 136: 34 words, so lane i starts at bank 2i", LANES * 136, 8, 2, 2, 1),
    ("128-bit, consecutive: 8 lanes take 32 banks", LANES * 16, 16, 4, 4, 1),
    ("128-bit, stride 32: lanes i and i + 4 share banks", LANES * 32, 16, 4, 8, 2),
    ("128-bit, stride 128: 8 lanes in four banks", LANES * 128, 16, 4, 32, 8),
    ("128-bit, stride 144: lane i starts at bank 4i", LANES * 144, 16, 4, 4, 1),
    ("128-bit, one address for all", LANES * 0, 16, 4, 4, 1),
    ("32-bit, only lanes 0 and 16, in one bank", np.where(LANES % 16, -1, LANES * 8), 4, 1, 2, 2),
    ("nobody", LANES * 0 - 1, 4, 0, 0, 0),
]


@pytest.mark.parametrize("name, addresses, width, phases, wavefronts, ways", HAND, ids=[h[0] for h in HAND])
def test_conflicts_by_hand(name, addresses, width, phases, wavefronts, ways):
    found = access(addresses, width)
    assert (found.phases, found.wavefronts, found.ways) == (phases, wavefronts, ways)
    assert found.conflicts == wavefronts - phases and found.bytes == width * (addresses >= 0).sum()


def tile_rows(panels, first=0, byte=0):
    """Addresses a ldmatrix.x4 of a 16 x 32 byte tile gives: lanes 0-7, 8-15, .. rows 0-7, 8-15 of two 16-byte columns."""
    return panels.address(first + LANES % 16, byte + LANES // 16 * 16)


@pytest.mark.parametrize("name, panels, wavefronts, ways", [
    ("rows of 128 bytes, no swizzle: 8 rows in one 16-byte group of banks", Panels(64, 128, 128), 32, 8),
    ("128B swizzle: row r in group r XOR k", Panels(64, 128, 128, "128B"), 4, 1),
    ("rows padded to 144 bytes", Panels(64, 128, 128, pad=16), 4, 1),
    ("rows padded to 160 bytes: groups 2r mod 8, twice", Panels(64, 128, 128, pad=32), 8, 2),
    ("rows of 64 bytes: two groups of four rows", Panels(64, 64, 64), 16, 4),
    ("64B swizzle", Panels(64, 64, 64, "64B"), 4, 1),
    ("rows of 32 bytes: 2r mod 8", Panels(64, 32, 32), 8, 2),
    ("32B swizzle", Panels(64, 32, 32, "32B"), 4, 1),
    ("16-byte rows, one on the other", Panels(64, 32, 16), 4, 1),
    ("32B swizzle where 128B is needed: groups r % 2, four rows in each", Panels(64, 128, 128, "32B"), 16, 4),
])
def test_ldmatrix_conflicts_by_hand(name, panels, wavefronts, ways):
    """An fp16 tile 64 wide is the first case: 8-way without a swizzle, none with the 128B one."""
    memory = SharedMemory(panels.size, "sm_80")
    memory.ldmatrix(tile_rows(panels), "ldmatrix.m8n8.x4.b16")
    found = memory.log["ldmatrix"]
    assert (found.phases, found.wavefronts, found.ways) == (4, wavefronts, ways)


@given(st.lists(st.integers(-1, 255), min_size=1, max_size=32), st.sampled_from([1, 2, 4, 8, 16]))
def test_conflicts_are_counted_as_defined(places, width):
    """The definition, word by word, in sets."""
    addresses = np.array(places) * np.where(np.array(places) < 0, 1, width)
    per = 32 if width <= 4 else 128 // width
    wavefronts = phases = 0
    for start in range(0, len(places), per):
        banks = [set() for _ in range(32)]
        for address in addresses[start:start + per]:
            for byte in range(address, address + width) if address >= 0 else ():
                banks[byte // 4 % 32].add(byte // 4)
        phases += any(banks)
        wavefronts += max(map(len, banks))
    found = access(addresses, width)
    assert (found.phases, found.wavefronts) == (phases, wavefronts)
    assert degrees(addresses, width).sum() >= wavefronts


def test_conflicts_against_tensor_layouts():
    layouts = pytest.importorskip("tensor_layouts", reason="tensor-layouts, the judge, is not installed")
    from tensor_layouts.analysis import bank_conflicts
    for stride in range(1, 70):
        theirs = bank_conflicts(layouts.Layout(32, stride), element_bytes=4)["max_ways"]
        assert access(LANES * 4 * stride, 4).ways == theirs
    assert access(np.stack([LANES * 4, LANES * 128]), 4) == Access(256, 2, 2, 33, 32)


# --- swizzles --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", SWIZZLES)
def test_swizzles_permute_each_pattern(mode):
    _, span, repeat = SWIZZLES[mode]
    at = np.arange(4096)
    out = swizzle(at, mode)
    assert (swizzle(out, mode) == at).all() and (out // repeat == at // repeat).all()
    assert (out[repeat:2 * repeat] == out[:repeat] + repeat).all()
    assert (out // 128 == at // 128).all(), "no byte leaves its 128-byte row"
    if mode != "none":
        assert any((out[:half] + half != out[half:2 * half]).any() for half in [repeat // 2])


def test_swizzles_against_cute():
    layouts = pytest.importorskip("tensor_layouts", reason="tensor-layouts, the judge, is not installed")
    for mode, (b, m, s) in {"none": (0, 4, 3), "32B": (1, 4, 3), "64B": (2, 4, 3), "128B": (3, 4, 3),
                            "128B_ATOM_32B": (2, 5, 2)}.items():
        theirs = layouts.Swizzle(b, m, s)
        assert [theirs(x) for x in range(2048)] == swizzle(np.arange(2048), mode).tolist()


def test_swizzles_of_newer_forms():
    """From PTX's tables: 64-byte halves swap on odd rows; 8-byte halves swap on odd rows."""
    assert [int(swizzle(x, "128B_ATOM_64B")) for x in (0, 64, 128, 192, 256)] == [0, 64, 192, 128, 256]
    flip = swizzle(np.arange(0, 512, 8), "128B_ATOM_32B_FLIP_8B")
    plain = swizzle(np.arange(0, 512, 8), "128B_ATOM_32B")
    odd = np.arange(0, 512, 8) // 128 % 2
    np.testing.assert_array_equal(flip, plain ^ 8 * odd)
    assert int(swizzle(128 + 1024 * 3 + 128, "128B", base=1)) == 128 + 1024 * 3 + 128 + 16
    with pytest.raises(BadOperand, match="swizzle '256B' is not one of none, 32B"):
        swizzle(0, "256B")


# --- descriptors -----------------------------------------------------------------------------------------------------------

def test_descriptor_bits():
    """The fields written out: 128B code 1 in bits 63:62 of wgmma, 2 in 63:61 of tcgen05, which also sets bit 46."""
    plain = Descriptor(0x400, 16, 1024, "128B")
    assert plain.encode() == 1 << 62 | 64 << 32 | 1 << 16 | 0x40 == 0x4000004000010040
    assert Descriptor(0x400, 16, 1024, "128B", "tcgen05").encode() == 2 << 61 | 1 << 46 | 64 << 32 | 1 << 16 | 0x40
    assert Descriptor.decode(0x4000004000010040) == plain and "128B" in str(plain)
    for kind, code in (("wgmma", 1 << 14), ("wgmma", 1 << 60), ("tcgen05", 0), ("tcgen05", 3 << 61 | 1 << 46)):
        with pytest.raises(BadOperand, match=f"is no {kind} descriptor"):
            Descriptor.decode(code, kind)


@given(st.integers(0, 2 ** 14 - 1), st.integers(0, 2 ** 14 - 1), st.integers(0, 2 ** 14 - 1), st.integers(0, 7),
       st.sampled_from([("wgmma", m) for m in ("none", "32B", "64B", "128B")]
                       + [("tcgen05", m) for m in ("none", "32B", "64B", "128B", "128B_ATOM_32B")]), st.booleans())
def test_descriptors_decode_what_they_encode(start, leading, stride, base, kind, absolute):
    found = Descriptor(16 * start, 16 * leading, 16 * stride, kind[1], kind[0], base, absolute and kind[0] == "tcgen05")
    assert Descriptor.decode(found.encode(), kind[0]) == found


def test_instruction_descriptors():
    """cute::UMMA's bit fields, written out."""
    def of(name, **more):
        return instruction_descriptor(emulator.find("sm_100", f"tcgen05.mma.{name}"), **more)

    assert of("m128n256k16.kind::f16.f32.f16.f16") == 8 << 24 | 32 << 17 | 1 << 4 == 0x8400010
    assert of("m64n32k16.kind::f16.f32.bf16.bf16") == 4 << 24 | 4 << 17 | 1 << 10 | 1 << 7 | 1 << 4
    assert of("m64n8k32.kind::f8f6f4.f16.e5m2.e2m1", transpose_a=True) == 4 << 24 | 1 << 17 | 1 << 15 | 5 << 10 | 1 << 7
    assert of("m64n8k32.kind::i8.s32.s8.u8.satfinite") == 4 << 24 | 1 << 17 | 1 << 7 | 2 << 4 | 1 << 3
    nvf4 = "m128n64k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.ue4m3"
    assert of(nvf4, scale_id_a=2) == 2 << 29 | 8 << 24 | 8 << 17 | 1 << 10 | 1 << 7
    assert of("m128n64k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e3m2.ue8m0", scale_id_b=3, negate_b=True) == (
        8 << 24 | 1 << 23 | 8 << 17 | 1 << 14 | 4 << 10 | 3 << 4)


@given(st.sampled_from(["none", "32B", "64B", "128B"]), st.sampled_from([1, 2, 4]), st.sampled_from([8, 16, 64, 104]),
       st.sampled_from([32, 64, 128, 256]), st.integers(0, 3), st.sampled_from(["wgmma", "tcgen05"]))
@settings(max_examples=60)
def test_descriptors_read_what_tma_wrote(mode, item, rows, width, where, kind):
    """K major: boxes of one swizzle span each, then LBO and SBO of the canonical layout; every step of 32 bytes."""
    rng = np.random.default_rng(rows * width)
    tile = rng.integers(0, 256, (rows, width), np.uint8)
    span, base = SWIZZLES[mode][1], where * 1024
    memory = SharedMemory(base + 2 * rows * width + 4096)
    if width < span:
        return
    box = rows * span
    for panel in range(width // span):
        at = base + panel * -(-box // 1024) * 1024 if span > 16 else base + panel * box
        TensorMap(tile, (rows, span), mode).copy(memory, at, 0, panel * span)
    for byte in range(0, width, 32):
        panel = byte // span
        start = base + panel * -(-box // 1024) * 1024 + byte % span if span > 16 else base + panel * box
        found = memory.read(Descriptor(start, box if span == 16 else 16, 8 * span, mode, kind), rows, 32 // item, item)
        np.testing.assert_array_equal(found, tile[:, byte:byte + 32])


@given(st.sampled_from(["none", "32B", "64B", "128B"]), st.sampled_from([16, 64, 128]), st.sampled_from([16, 32]))
@settings(max_examples=30)
def test_mn_major_descriptors(mode, columns, k):
    """B as (k, n), n contiguous, fp16: boxes of k x span."""
    x = np.random.default_rng(k * columns).integers(0, 1 << 16, (k, columns)).astype(np.uint16)
    span, memory = SWIZZLES[mode][1], SharedMemory(65536)
    if 2 * columns < span:
        return
    for panel in range(2 * columns // span):
        TensorMap(x, (k, span // 2), mode).copy(memory, panel * k * span, 0, panel * span // 2)
    offsets = (128, k * span) if mode == "none" else (k * span, 8 * span)
    found = memory.read(Descriptor(0, *offsets, mode), columns, k, 2, "MN")
    np.testing.assert_array_equal(found.view(np.uint16), x.T)


def test_a_wrong_swizzle_reads_other_elements():
    tile = np.arange(64 * 128, dtype=np.uint16).reshape(64, 128).view(np.uint8)[:, :128]
    memory = SharedMemory(64 * 128)
    TensorMap(np.ascontiguousarray(tile), (64, 128), "128B").copy(memory, 0, 0, 0)
    for mode in ("none", "32B", "64B"):
        assert (memory.read(Descriptor(0, 16, 1024, mode), 64, 32) != tile[:, :32]).any()
    rows = memory.ldmatrix(tile_rows(Panels(64, 128, 128)), "ldmatrix.m8n8.x4.b16")
    right = memory.ldmatrix(tile_rows(Panels(64, 128, 128, "128B")), "ldmatrix.m8n8.x4.b16")
    assert (rows != right).any()
    ins = emulator.find("sm_90", "mma.m16n8k16.f32.f16.f16.f32")
    np.testing.assert_array_equal(fragment(ins, "a").unpack(right),
                                  np.ascontiguousarray(tile).view(np.uint16)[:16, :16])


# --- copies ----------------------------------------------------------------------------------------------------------------

def test_stmatrix_inverts_ldmatrix():
    rng = np.random.default_rng(1)
    for name, arch in (("m8n8.x4.b16", "sm_90"), ("m8n8.x2.trans.b16", "sm_90"), ("m8n8.x1.b16", "sm_100")):
        memory, panels = SharedMemory(2048, arch, (3,)), Panels(16, 128, 128, "128B")
        words = rng.integers(0, 1 << 32, (3, 32, copy_fragment("ldmatrix." + name).registers), np.uint64).astype(np.uint32)
        memory.stmatrix(tile_rows(panels), words, "stmatrix." + name)
        np.testing.assert_array_equal(memory.ldmatrix(tile_rows(panels), "ldmatrix." + name), words)
    with pytest.raises(UnknownInstruction, match="sm_80 has no stmatrix"):
        SharedMemory(1024, "sm_80").stmatrix(LANES * 16, words, "stmatrix.m8n8.x1.b16")


@pytest.mark.parametrize("bits, name", [(6, "b6x16_p32"), (4, "b4x16_p64")])
def test_packed_ldmatrix(bits, name):
    """16 elements in 12 or 8 bytes of each 16; the padding is never read."""
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (16, 32), np.uint8)
    rows = pad16(codes, bits)
    np.testing.assert_array_equal(unpad16(rows, bits), codes)
    rows.reshape(16, 2, 16)[..., 2 * bits:] = 0xAB
    memory = SharedMemory(4096, "sm_120")
    memory.store(LANES * 16, rows.reshape(32, 16))
    words = memory.ldmatrix(LANES % 16 * 32 + LANES // 16 * 16, f"ldmatrix.m8n16.x4.b8x16.{name}")
    fp = {6: "e3m2", 4: "e2m1"}[bits]
    ins = emulator.find("sm_120", f"mma.m16n8k32.kind::f8f6f4.f32.{fp}.{fp}.f32")
    read = fragment(ins, "a").unpack(words << (2 if bits == 4 else 0))          # the shift CUTLASS does for e2m1
    np.testing.assert_array_equal(read, codes)
    square = memory.ldmatrix(LANES % 16 * 32 + LANES // 16 * 16, f"ldmatrix.m16n16.x2.trans.b8x16.{name}")
    np.testing.assert_array_equal(copy_fragment("ldmatrix.m16n16.x2.trans.b8").unpack(square),
                                  np.concatenate([codes[:, :16], codes[:, 16:]]))


def test_cp_async():
    memory = SharedMemory(512, "sm_80")
    source = np.arange(1, 513, dtype=np.uint16).astype(np.uint8).reshape(32, 16)
    memory.cp_async(LANES * 16, source, size=np.where(LANES == 3, 5, np.where(LANES == 4, 0, 16)), cache="cg")
    want = source.copy()
    want[3, 5:] = 0
    want[4] = 0
    np.testing.assert_array_equal(memory.data.reshape(32, 16), want)
    assert memory.log["cp.async"] == Access(512, 1, 4, 4, 1)
    for call, sentence in ((lambda: memory.cp_async(LANES * 8, source[:, :8], cache="cg"), "cp.async.cg of 8 bytes"),
                           (lambda: memory.cp_async(LANES * 2, source[:, :2]), ".ca copies 4, 8 or 16"),
                           (lambda: SharedMemory(512, "t4").cp_async(LANES * 16, source), "arrives with sm_80"),
                           (lambda: memory.store(LANES * 16 + 512, source), "this shared memory has 0x200 bytes"),
                           (lambda: memory.load(LANES * 4 + 2, 4), "0x2 is not a multiple of the 4 bytes")):
        with pytest.raises(BadOperand, match=sentence):
            call()


@given(st.integers(-9, 30), st.integers(-9, 40), st.integers(1, 3), st.sampled_from(["zero", "nan"]))
def test_boxes_fill_what_lies_outside(row, column, step, fill):
    x = np.random.default_rng(3).integers(0, 1 << 16, (24, 32)).astype(np.uint16)
    found = TensorMap(x, (7, 8), steps=(step, 1), fill=fill).read(row, column)
    outside = 0x7FFF if fill == "nan" else 0
    for i, j in np.ndindex(7, 8):
        r, c = row + i * step, column + j
        assert found[i, j] == (x[r, c] if 0 <= r < 24 and 0 <= c < 32 else outside)


def test_boxes_of_blocks():
    """Three blocks take three boxes of one tensor of rank 3 at once."""
    x = np.random.default_rng(4).integers(0, 256, (2, 20, 64), np.uint8)
    memory = SharedMemory(8 * 32, "sm_90", (3,))
    TensorMap(x, (1, 8, 32), "32B").copy(memory, 0, np.array([0, 1, 1]), np.array([0, 8, 16]), np.array([0, 32, 32]))
    for block, (z, r, c) in enumerate(((0, 0, 0), (1, 8, 32), (1, 16, 32))):
        want = np.zeros((8, 32), np.uint8)
        want[:max(0, min(8, 20 - r))] = x[z, r:r + 8, c:c + 32]
        at = swizzle(np.arange(256), "32B").reshape(8, 32)
        np.testing.assert_array_equal(memory.data[block][at], want)
    assert memory.log["TMA"].bytes == 3 * 256


X = np.zeros((16, 64), np.uint16)
BOXES = [
    (lambda: TensorMap(X, (8, 128), "128B"), "an inner box of 256 bytes; it takes a multiple of 16, with swizzle 128B at"),
    (lambda: TensorMap(X, (8, 4)), "an inner box of 8 bytes"),
    (lambda: TensorMap(X, (300, 8)), "1 to 256 in each dimension"),
    (lambda: TensorMap(X[:, :63], (8, 8)).read(0), "1 coordinates; this tensor has 2 dimensions"),
    (lambda: TensorMap(np.zeros((4, 9), np.uint16), (4, 8)), "strides .18, 2.; it takes contiguous elements inside"),
    (lambda: TensorMap(X.T, (8, 8)), "contiguous elements inside"),
    (lambda: TensorMap(X, (8, 8), steps=(9, 1)), "1 to 8 in each dimension"),
    (lambda: TensorMap(X.astype(float), (8, 8)), "float64; it takes unsigned codes"),
    (lambda: TensorMap(X, (8, 8), fill="one"), "zero or nan"),
    (lambda: TensorMap(X, (8, 8)).copy(SharedMemory(1024, "a100"), 0, 0, 0), "has no TMA; it arrives with sm_90"),
    (lambda: TensorMap(X, (8, 8)).copy(SharedMemory(1024), 16, 0, 0), "starts at a multiple of 128 bytes"),
    (lambda: TensorMap(X, (8, 8)).copy(SharedMemory(1024), 1024, 0, 0), "this shared memory has 0x400 bytes"),
    (lambda: Descriptor(8, 0, 0), "start is 0x8; it takes multiples of 16"),
    (lambda: Descriptor(0, 0, 0, "128B_ATOM_32B"), "a wgmma descriptor with swizzle 128B_ATOM_32B"),
    (lambda: Descriptor(0, 0, 0, base=8), "base offset is 8"),
    (lambda: Descriptor(0, 0, 0, absolute=True), "a mode of tcgen05"),
    (lambda: SharedMemory(1024).read(Descriptor(0, 16, 1024, "128B"), 64, 16, 2), "this shared memory has 0x400 bytes"),
    (lambda: access(LANES * 1.0, 4), "it takes integers"),
    (lambda: access(LANES, 3), "a lane moves 1, 2, 4, 8 or 16 bytes"),
    (lambda: instruction_descriptor(emulator.find("sm_90", "wgmma.m64n8k16.f32.f16.f16")), "has no instruction descriptor"),
]


@pytest.mark.parametrize("call, sentence", BOXES, ids=[s for _, s in BOXES])
def test_refusals(call, sentence):
    with pytest.raises(BadOperand, match=sentence):
        call()


# --- capacities, scales ----------------------------------------------------------------------------------------------------

def test_capacities():
    """CUTLASS names two of them in bytes: 232,448 for sm_90 and sm_100, 101,376 for sm_120."""
    for arch, most in (("sm_90", 232448), ("sm_100", 232448), ("sm_120", 101376), ("sm_70", 98304), ("sm_75", 65536),
                       ("sm_80", 163 * 1024), ("sm_89", 99 * 1024)):
        assert SharedMemory(most, arch).data.size == most
        with pytest.raises(BadOperand, match=rf"of {arch} has at most {most // 1024} KB, {most:,} bytes"):
            SharedMemory(most + 1, arch)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda row: row.arch)
def test_machines(machine):
    """Peak figures of the white papers, TFLOPS of fp16 with float32 sums, from SMs, clock and rate."""
    peak = {"sm_70": 125, "sm_75": 65, "sm_80": 312, "sm_86": 71, "sm_89": 165.2, "sm_90": 989.4, "sm_100": 2250,
            "sm_120": 209.5}[machine.arch]
    assert abs(machine.sms * machine.clock * machine.rates["16"] / 1000 / peak - 1) < 0.005
    assert machine.block <= machine.shared - machine.reserved
    for ins in emulator.table(machine.arch).values():
        rate = machine.rate(ins)
        assert rate is None or rate in machine.rates.values()


def test_scale_layout():
    """Row r, block c at (r % 32) * 16 + (r / 32) * 4 + c in 512 bytes of 128 x 4; a bijection on whole blocks."""
    at = scale_offsets(256, 8)
    assert sorted(at.ravel()) == list(range(2048))
    assert [int(at[r, c]) for r, c in ((0, 0), (1, 0), (32, 0), (127, 3), (0, 4), (128, 0))] == [
        0, 16, 4, 511, 512, 1024]


def test_types_pass_unchanged():
    """Bytes are moved, never read as numbers: NaN payloads of any type survive every path."""
    x = np.array([0x7F80000100000001, 0xFFF0000000000001] * 32, np.uint64)
    memory = SharedMemory(512)
    memory.store(LANES * 16, x.view(np.uint8).reshape(32, 16))
    np.testing.assert_array_equal(memory.load(LANES * 16, 16).view(np.uint64).ravel(), x)
