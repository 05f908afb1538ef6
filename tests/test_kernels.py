"""Tiled GEMMs through shared memory and fragments: the bits of matmul, counts derived by hand, mistakes that show."""

from functools import cache

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import emulator
from emulator import BadOperand, Kernel, Promote, SplitK, Stage, StreamK, arrays, cases, cli
from emulator.formats import Integer
from emulator.fragments import fragment

pytestmark = pytest.mark.usefixtures("c_engine")          # too large for Numba

F16, BF16, TF32 = (("sm_80", f"mma.m16n8k{k}.f32.{t}.{t}.f32") for k, t in ((16, "f16"), (16, "bf16"), (8, "tf32")))
NVF4_120 = "sm_120", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3"
MXF4_120 = "sm_120", "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0"
MXF8_120 = "sm_120", "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e2m1.f32.ue8m0"
NVF4_100 = "sm_100", "tcgen05.mma.m128n64k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.ue4m3"
MXF8_100 = "sm_100", "tcgen05.mma.m128n32k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e2m3.ue8m0"
FP8_90 = "sm_90", "wgmma.m64n64k32.f32.e4m3.e4m3"
HALF_90 = "sm_90", "wgmma.m64n64k16.f32.f16.f16"

# instruction, the kernel's choices, the schedule
KERNELS = [
    (F16, {}, None), (F16, {"major_b": "MN"}, SplitK(3)), (F16, {"swizzle": "none", "pad": 16, "tile": (64, 48, 32)}, None),
    (F16, {"swizzle": "32B", "tile": (32, 32, 16), "warps": (1, 2)}, SplitK(2, serial=True, tile=32)),
    (BF16, {"swizzle": "64B", "tile": (64, 64, 32)}, None), (BF16, {"major_b": "MN", "swizzle": "none", "stages": 3}, None),
    (TF32, {}, SplitK(5)), (TF32, {"tile": (128, 64, 64), "swizzle": "64B"}, None),
    (("sm_80", "mma.m16n8k8.f32.f16.f16.f32"), {"major_b": "MN"}, None),
    (("sm_75", "mma.m16n8k8.f16.f16.f16.f16"), {}, None), (("sm_75", "mma.m8n8k16.s32.s8.u8.s32"), {}, None),
    (("sm_80", "mma.m16n8k64.s32.u4.s4.s32"), {}, None), (("sm_80", "mma.m16n8k256.s32.b1.b1.s32.xor.popc"), {}, None),
    (("sm_89", "mma.m16n8k32.f32.e4m3.e5m2.f32"), {}, Promote(64)), (("sm_120", "mma.m16n8k32.f32.e4m3.e4m3.f32"), {}, None),
    (("sm_120", "mma.m16n8k32.kind::f8f6f4.f32.e2m1.e3m2.f32"), {}, None),
    (("sm_120", "mma.m16n8k32.kind::f8f6f4.f16.e2m3.e5m2.f16"), {"swizzle": "none", "pad": 48}, None),
    (NVF4_120, {}, None), (NVF4_120, {"tile": (64, 32, 64), "swizzle": "32B"}, SplitK(2)), (MXF4_120, {}, None),
    (MXF8_120, {}, None),
    (FP8_90, {}, Promote(128)), (FP8_90, {"swizzle": "32B"}, None), (HALF_90, {"major_b": "MN"}, None),
    (HALF_90, {"major_b": "MN", "swizzle": "none"}, None), (HALF_90, {"swizzle": "none", "tile": (64, 128, 64)}, SplitK(3)),
    (("sm_90", "wgmma.m64n24k16.f32.bf16.bf16"), {"swizzle": "64B"}, None), (("sm_90", "wgmma.m64n8k8.f32.tf32.tf32"), {}, None),
    (("sm_90", "wgmma.m64n32k32.f16.e5m2.e4m3"), {}, None), (("sm_90", "wgmma.m64n16k32.s32.s8.u8"), {}, None),
    (NVF4_100, {}, None), (MXF8_100, {}, None), (("sm_100", "tcgen05.mma.m64n32k32.kind::f8f6f4.f16.e5m2.e2m1"), {}, None),
    (("sm_100", "tcgen05.mma.m128n16k16.kind::f16.f32.bf16.bf16"), {"major_b": "MN", "tile": (128, 64, 64)}, SplitK(2)),
    (("sm_100", "tcgen05.mma.m128n16k8.kind::tf32.f32.tf32.tf32"), {"swizzle": "128B_ATOM_32B"}, None),
]
ids = [f"{ins[1]}-{kernel}-{schedule}" for ins, kernel, schedule in KERNELS]


@cache
def unit(arch, name):
    return emulator.instruction(arch, name)


def typed(rng, fmt, shape, kind="normal"):
    """An array of a format: rounded normal numbers, or any bits at all."""
    if isinstance(fmt, Integer) or kind == "bits":
        codes = rng.integers(0, (1 << fmt.bits) - 1, shape, np.uint64, endpoint=True).astype(fmt.code_dtype)
        return arrays.from_codes(codes, fmt)
    return emulator.convert(rng.standard_normal(shape) * 3, fmt, profile="cuda")


def operands(ins, m, n, k, seed=0, kind="normal"):
    rng = np.random.default_rng([seed, m, n, k])
    given = {}
    for name, shape in (("scale_a", (m, -(-k // (ins.block or 1)))), ("scale_b", (-(-k // (ins.block or 1)), n))):
        if ins.block:
            low, high = (0, 255) if kind == "bits" else (122, 131) if "e8m0" in ins.scale.name else (40, 70)
            given[name] = arrays.from_codes(rng.integers(low, high, shape, np.uint8), ins.scale)
    return typed(rng, ins.a, (m, k), kind), typed(rng, ins.b, (k, n), kind), given


def check(ins, kernel, a, b, scales, schedule=None, c=None, **more):
    more |= {} if schedule is None else {"schedule": schedule}
    got = kernel(a, b, c, **scales, **more)
    emulator.compare(got.d, emulator.matmul(a, b, c, on=ins, **scales, **more)).check()
    return got.trace


@pytest.mark.parametrize("name, choices, schedule", KERNELS, ids=ids)
def test_kernels_reproduce_matmul(name, choices, schedule):
    """Ragged edges in M, N and K, and a C where the chain starts from one."""
    ins = unit(*name)
    kernel = Kernel(ins, **choices)
    m, n, k = kernel.tile[0] + 13, kernel.tile[1] + 7, 2 * kernel.tile[2] + ins.k + 3
    a, b, scales = operands(ins, m, n, k)
    c = None if schedule else typed(np.random.default_rng(1), ins.c, (m, n))
    check(ins, kernel, a, b, scales, schedule, c)
    if isinstance(schedule, SplitK):
        check(ins, kernel, a, b, scales, schedule, out="bfloat16", alpha=0.7)


@pytest.mark.parametrize("name", [F16, BF16, TF32, FP8_90, NVF4_120, NVF4_100], ids=lambda name: name[1])
@pytest.mark.parametrize("kind", ["bits", "cases"])
def test_adversarial_data(name, kind):
    """Any bits at all, NaN and infinities among them; the directed cases of each datapath against one another."""
    ins = unit(*name)
    if kind == "bits":
        a, b, scales = operands(ins, 150, 70, 500, kind="bits")
    else:
        found = cases.generate(ins, 4 if ins.m > 64 else 8, seed=3)
        a, b = (arrays.from_codes(np.concatenate(x, axis), fmt) for x, axis, fmt in ((found.a, 0, ins.a), (found.b, 1, ins.b)))
        scales = {} if not ins.block else {
            "scale_a": arrays.from_codes(np.concatenate(found.scale_a), ins.scale),
            "scale_b": arrays.from_codes(np.concatenate(found.scale_b, 1), ins.scale)}
    check(ins, Kernel(ins), a, b, scales)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_tiling(data):
    """Random tiles, warps, swizzles, stages, shapes: the bits depend on none of them."""
    name, across = data.draw(st.sampled_from([(F16, 8), (TF32, 8), (("sm_89", "mma.m16n8k32.f32.e5m2.e5m2.f32"), 8),
                                              (FP8_90, 64), (HALF_90, 64)]))
    ins = unit(*name)
    swizzle = data.draw(st.sampled_from(["none", "32B", "64B", "128B"]))
    warps = (data.draw(st.integers(1, 3)), 1 if across == 64 else data.draw(st.integers(1, 3)))
    tile = (warps[0] * ins.m * (1 if across == 64 else data.draw(st.integers(1, 2))),
            warps[1] * across * data.draw(st.integers(1, 2)),
            {"none": 32, "32B": 32, "64B": 64, "128B": 128}[swizzle] * data.draw(st.integers(1, 2)) * 8 // ins.a.bits)
    kernel = Kernel(ins, tile, warps, swizzle, data.draw(st.integers(1, 3)))
    m, n, k = (data.draw(st.integers(1, 2 * size)) for size in tile)
    a, b, _ = operands(ins, m, n, k, seed=4)
    check(ins, kernel, a, b, {}, data.draw(st.sampled_from([None, SplitK(2), Promote(ins.k * 4)])))


def test_stream_k():
    """Runs of k tiles that end inside output tiles; quantised on load, too."""
    for name, k in ((F16, 64), (NVF4_120, 256)):
        ins = unit(*name)
        a, b, scales = operands(ins, 140, 100, 3 * k)
        trace = check(ins, Kernel(ins), a, b, scales, StreamK(5, (128, 64, k)))
        assert trace.blocks == 5
    x, y = np.random.default_rng(8).standard_normal((2, 96, 96)).astype(np.float32)
    q, p = emulator.quantize(x, "nvfp4"), emulator.quantize(y, "nvfp4", axis=0)
    run = Kernel(ins)(x, y, stage_a=Stage("nvfp4"), stage_b=Stage("nvfp4"), schedule=StreamK(3, (64, 128, 64)))
    np.testing.assert_array_equal(run.d, emulator.matmul(q.elements, p.elements, on=ins, scale_a=q.scales, scale_b=p.scales,
                                                         schedule=StreamK(3, (64, 128, 64))))


def test_the_specification_through_a_kernel():
    ins = unit(*F16)
    a, b, _ = operands(ins, 16, 8, 40)
    kernel = Kernel(ins, (16, 8, 64), (1, 1))
    np.testing.assert_array_equal(kernel(a, b, engine="exact").d, kernel(a, b, engine="c").d)


def test_tiles_of_a_large_product():
    """Whole-model sizes by sampling thread blocks: each is that part of the whole."""
    ins = unit(*NVF4_100)
    kernel = Kernel(ins)
    a, b, scales = operands(ins, 300, 200, 512)
    c = np.ones((300, 200), np.float32)
    want = emulator.matmul(a, b, c, on=ins, **scales)
    for (rows, columns), run in kernel.sample(a, b, c, tiles=[(0, 0), (2, 3), (1, 2)], **scales):
        np.testing.assert_array_equal(run.d, want[rows, columns])
        assert run.trace.blocks == 1
    with pytest.raises(BadOperand, match="the product has 3 x 4 of them"):
        kernel.sample(a, b, tiles=[(3, 0)], **scales)
    x, y = np.random.default_rng(6).standard_normal((2, 512, 512)).astype(np.float32)
    staged = {"stage_a": Stage("nvfp4"), "stage_b": Stage("nvfp4")}
    whole = kernel(x, y, **staged)
    for (rows, columns), run in kernel.sample(x, y, tiles=[(3, 5)], **staged):
        np.testing.assert_array_equal(run.d, whole.d[rows, columns])
        assert run.tensor_scales == whole.tensor_scales
    ins = unit(*FP8_90)
    kernel, (a, b, _) = Kernel(ins), operands(ins, 200, 100, 256)
    schedule = Promote(128, np.random.default_rng(7).random((200, 2)).astype(np.float32), np.ones((2, 1), np.float32))
    want = emulator.matmul(a, b, on=ins, schedule=schedule)
    for (rows, columns), run in kernel.sample(a, b, tiles=[(1, 1)], schedule=schedule):
        np.testing.assert_array_equal(run.d, want[rows, columns])


# --- mistakes ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [F16, FP8_90, NVF4_120, NVF4_100], ids=lambda name: name[1])
def test_a_wrong_swizzle_on_one_side_is_wrong(name):
    ins = unit(*name)
    a, b, scales = operands(ins, 128, 64, 512)
    want = emulator.matmul(a, b, on=ins, **scales)
    for mode in ("64B", "32B"):
        got = Kernel(ins, read_swizzle=mode)(a, b, **scales).d
        assert np.mean(got != want) > 0.5
    np.testing.assert_array_equal(Kernel(ins, read_swizzle="128B")(a, b, **scales).d, want)


def test_a_fragment_of_another_shape_is_wrong():
    """Registers of an fp16 kernel taken for tf32's, A's for those of the transposed copy, D's for Volta's; FP4 not
    shifted into bits 5:2 of its byte; block scales from other lanes or bytes."""
    ins = unit(*F16)
    a, b, _ = operands(ins, 64, 64, 64)
    want = emulator.matmul(a, b, on=ins)
    swapped = fragment(ins, "a")
    swapped = type(swapped)("rows g and g + 8 swapped", 16, 16, 16, swapped.lanes, ((2, 0, 1), (2, 0, 8), (2, 8, 0)))
    transposed = type(swapped)("B as ldmatrix.trans leaves it", 16, 8, 16, ((4, 0, 2), (8, 1, 0)), ((2, 0, 1), (2, 8, 0)))
    accumulator = type(swapped)("D as (row, row + 8)", 16, 8, 32, ((4, 0, 2), (8, 1, 0)), ((2, 8, 0), (2, 0, 1)))
    for wrong in ({"a": swapped}, {"b": transposed}, {"d": accumulator}):
        assert np.mean(Kernel(ins, fragments=wrong)(a, b).d != want) > 0.4
    fp4 = unit("sm_120", "mma.m16n8k32.kind::f8f6f4.f32.e2m1.e2m1.f32")
    a, b, _ = operands(fp4, 64, 64, 64)
    low = fragment(fp4, "a")
    low = type(low)("FP4 in bits 3:0", 16, 32, 4, low.lanes, low.values, 8, 0)
    assert np.mean(Kernel(fp4, fragments={"a": low})(a, b).d != emulator.matmul(a, b, on=fp4)) > 0.9
    nvf4 = unit(*MXF4_120)
    a, b, scales = operands(nvf4, 64, 64, 256)
    wrong = {"scale_a": fragment(nvf4, "scale_a", byte_id=0)}                   # which byte-id 2 needs on odd steps
    assert np.mean(Kernel(nvf4, fragments=wrong)(a, b, **scales).d != emulator.matmul(a, b, on=nvf4, **scales)) > 0.9


# --- counts --------------------------------------------------------------------------------------------------------------

def test_counts_by_hand():
    """One thread block, 128 x 128 x 64 fp16, four warps of 64 x 64: 4 steps of K, 4 x 8 instructions each."""
    ins = unit(*F16)
    a, b, _ = operands(ins, 128, 128, 64)
    trace = Kernel(ins)(a, b, schedule=SplitK(3)).trace
    assert trace.blocks == 2 and trace.bytes["registers -> global"] == 2 * 128 * 128 * 4, "4 steps over 3: 2 and 2"
    trace = Kernel(ins)(a, b).trace
    # ldmatrix.x4: 4 pieces of 16 rows of A and 4 pairs of 8 columns of B, per warp and step
    assert trace.instructions == {ins.name: 4 * 4 * 4 * 8, "cp.async": 2 * 128 * 128 // 512, "ldmatrix": 4 * 4 * (4 + 4)}
    assert trace.flops == 2 * 128 * 128 * 64 and trace.blocks == 1
    assert trace.bytes == {"global -> shared": 2 * 128 * 64 * 2, "shared -> registers": 128 * 512,
                           "registers -> global": 128 * 128 * 4}
    assert trace.shared["ldmatrix"].wavefronts == 128 * 4 and trace.conflicts == 0
    plain = Kernel(ins, swizzle="none")(a, b).trace
    assert plain.shared["ldmatrix"].wavefronts == 128 * 32 and plain.shared["ldmatrix"].ways == 8
    assert plain.conflicts == 128 * 28, "rows of 128 bytes without a swizzle: eight ways; cp.async writes whole rows"
    assert Kernel(ins, swizzle="none", pad=16)(a, b).trace.conflicts == 0
    mixed = Kernel(ins, tile=(128, 128, 32), swizzle="none")(a, b).trace
    assert mixed.shared["ldmatrix"].ways == 4, "rows of 64 bytes: four ways"
    c = np.zeros((128, 128), np.float32)
    assert Kernel(ins)(a, b, c).trace.bytes["global -> registers"] == c.nbytes


def test_counts_of_descriptors():
    """wgmma reads both operands from shared memory: 64 x 32 bytes of A and n x 32 of B an instruction."""
    ins = unit(*FP8_90)
    a, b, _ = operands(ins, 128, 64, 256)
    trace = Kernel(ins)(a, b, schedule=Promote(128)).trace
    assert trace.instructions == {ins.name: 2 * 8, "TMA": 2 * 2}
    assert trace.bytes["global -> shared"] == (128 + 64) * 256
    assert trace.bytes["shared -> matrix unit"] == 8 * (128 * 32 + 64 * 32) and trace.blocks == 1


def test_occupancy_and_roofline():
    ins = unit(*F16)
    kernel = Kernel(ins)
    found = kernel.occupancy
    # two stages of 32 KB; 128 x 128 / 128 sums, two sets of 4 x 4 + 8 x 2 operands, 40 assumed
    assert (found.shared, found.registers, found.threads) == (65536, 128 + 64 + 40, 128)
    assert (found.blocks, found.limit) == (2, "shared memory"), "164 KB hold two of 64 + 1 KB"
    assert Kernel(ins, stages=1).occupancy.limit == "registers"
    wide = Kernel(ins, tile=(256, 128, 64))
    assert wide.occupancy.registers > 255 and "it spills" in str(wide.occupancy)
    trace = kernel(*operands(ins, 256, 128, 64)[:2]).trace
    assert trace.times()["math"] == 2 * 256 * 128 * 64 / (2048 * 108 * 1.41e9)
    assert trace.times()["dram"] == (256 * 64 * 2 + 64 * 128 * 2 + 256 * 128 * 4) / 1555e9
    assert sum(trace.energy().values()) > 0
    told = str(trace)
    for words in ("2 thread blocks of 128 x 128 x 64", "conflicts", "roofline on A100", "dram bound", "estimated"):
        assert words in told
    assert Kernel(unit(*NVF4_100)).occupancy.columns == 128, "64 columns of sums and 2 x 16 / 4 + 2 x 8 / 4 of scales"


# --- quantised on the way ------------------------------------------------------------------------------------------------

def test_quantise_on_load():
    """float32 or bfloat16 in global memory; the product is that of the whole operands converted beforehand."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((150, 300)).astype(np.float32), rng.standard_normal((300, 90)).astype(np.float32)
    ins, scale = unit(*FP8_90), 100.0
    run = Kernel(ins)(x, y, stage_a=Stage("e4m3", scale), stage_b=Stage("e4m3"), schedule=Promote(128))
    a, b = (emulator.convert(z, "e4m3", profile="cuda") for z in (x * np.float32(scale), y))
    np.testing.assert_array_equal(run.d, emulator.matmul(a, b, on=ins, schedule=Promote(128)))
    assert run.trace.bytes["global -> registers"] == 4 * 300 * (2 * 150 + 2 * 90) and "st.shared" in run.trace.instructions
    for name, scheme, options in ((NVF4_100, "nvfp4", {"mode": "te"}), (NVF4_120, "nvfp4", {}), (MXF4_120, "mxfp4", {"rule": "even"})):
        ins = unit(*name)
        kept = {"tensor_amax": float(np.abs(x).max())} if options else {}
        q = emulator.quantize(x, scheme, axis=-1, **options)
        p = emulator.quantize(y, scheme, axis=0)
        run = Kernel(ins)(x, y, stage_a=Stage(scheme, options=options | (kept if "mode" in options else {})), stage_b=Stage(scheme))
        want = emulator.matmul(q.elements, p.elements, on=ins, scale_a=q.scales, scale_b=p.scales)
        np.testing.assert_array_equal(run.d, want)
        assert run.tensor_scales == (q.tensor_scale, p.tensor_scale)
    ins = unit("sm_80", "mma.m16n8k16.f32.bf16.bf16.f32")
    run = Kernel(ins)(x, y, stage_a=Stage("bf16"), stage_b=Stage("bf16"))
    np.testing.assert_array_equal(run.d, emulator.matmul(*(emulator.convert(z, "bf16") for z in (x, y)), on=ins))


def test_command_line():
    run = lambda *words: CliRunner().invoke(cli.main, ["kernel", *words, "--shape", "64", "64", "128"])     # noqa: E731
    done = run(*F16, "--swizzle", "none", "--tile", "64", "64", "64", "--warps", "1", "2")
    assert done.exit_code == 0 and "the bits are those of matmul" in done.output and "roofline on A100" in done.output
    assert run(*MXF4_120, "--shape", "64", "64", "256").exit_code == 0 and run(*FP8_90, "--promote", "64").exit_code == 0
    wrong = run(*F16, "--read-swizzle", "64B")
    assert wrong.exit_code == 1 and "elements of d differ (float32)" in wrong.output


# --- refusals ------------------------------------------------------------------------------------------------------------

A, B, _ = operands(emulator.instruction(*F16), 16, 8, 16)
REFUSED = [
    (lambda: Kernel(unit(*F16), stages=6), "196,608 bytes of shared memory: a thread block of sm_80 has at most 163 KB"),
    (lambda: Kernel(unit("sm_75", "mma.m16n8k8.f32.f16.f16.f32"), stages=3), "of sm_75 has at most 64 KB"),
    (lambda: Kernel(unit("sm_80", "mma.m8n8k4.f64.f64.f64.f64")), "ldmatrix cannot fill its registers"),
    (lambda: Kernel(unit("sm_70", "mma.m8n8k4.f32.f16.f16.f32")), "ldmatrix cannot fill its registers"),
    (lambda: Kernel(unit(*F16), tile=(100, 128, 64)), "takes multiples of 32 x 16 x 16"),
    (lambda: Kernel(unit(*F16), tile=(128, 128, 48)), "is 96 bytes; swizzle 128B takes multiples of 128"),
    (lambda: Kernel(unit(*F16), swizzle="96B"), "swizzle '96B': kernels take none, 32B"),
    (lambda: Kernel(unit(*FP8_90), swizzle="128B_ATOM_32B")(*operands(unit(*FP8_90), 64, 64, 64)[:2]), "a wgmma descriptor with"),
    (lambda: Kernel(unit(*F16), tile=(256, 256, 16), swizzle="32B", warps=(8, 8)), "2048 threads and 0 columns"),
    (lambda: Kernel(unit("sm_100", "tcgen05.mma.m64n256k16.kind::f16.f32.f16.f16"), (192, 256, 64), stages=1), "1024 columns"),
    (lambda: Kernel(unit(*FP8_90), warps=(4, 1)), "one warpgroup for each 64 rows"),
    (lambda: Kernel(unit(*FP8_90), major_b="MN"), "MN where operands have 16 bits"),
    (lambda: Kernel(unit(*F16), pad=8), "a multiple of 16 bytes, for mma.sync without a swizzle"),
    (lambda: Kernel(unit(*NVF4_120), tile=(64, 64, 32)), "takes multiples of"),
    (lambda: Kernel(unit(*MXF8_120), tile=(64, 64, 32), swizzle="32B"), "K is a multiple of 128"),
    (lambda: Kernel(unit(*F16))(A, B.astype(np.float32)), "b is float32"),
    (lambda: Kernel(unit("sm_80", "mma.m16n8k16.f16.f16.f16.f16"))(A, B, alpha=2), "accumulates in float16; schedules"),
    (lambda: Kernel(unit(*F16))(A[None], B), "a kernel takes .M, K. and .K, N."),
    (lambda: Kernel(unit(*F16)).sample(A, B, tiles=[(0, 0)], schedule=StreamK(2)), "stream-K cuts K by the place"),
    (lambda: Kernel(unit(*F16))(A, B, scale_a=A), "scale_a is given; .* has no scales"),
    (lambda: Kernel(unit(*NVF4_120))(A, B), "scale_a is missing; .* needs one float8_ue4m3 per 16"),
    (lambda: Kernel(unit(*F16))(A, B, stage_a=Stage("e4m3")), "stage_a makes e4m3 of a; .* reads float16"),
    (lambda: Kernel(unit(*MXF4_120))(A, B, stage_a=Stage("nvfp4")), "with one float8_e8m0fnu per 32 of k"),
    (lambda: Kernel(unit(*F16), major_b="MN")(A, B.astype(np.float32), stage_b=Stage("f16")), "take major_b='K'"),
]


@pytest.mark.parametrize("call, sentence", REFUSED, ids=[s for _, s in REFUSED])
def test_refusals(call, sentence):
    with pytest.raises(BadOperand, match=sentence):
        call()


@pytest.mark.exhaustive
@pytest.mark.parametrize("name, choices, schedule", KERNELS, ids=ids)
def test_kernels_at_full_size(name, choices, schedule):
    ins = unit(*name)
    a, b, scales = operands(ins, 1024, 1024, 1024)
    check(ins, Kernel(ins, **choices), a, b, scales, schedule)


@pytest.mark.exhaustive
def test_a_tile_of_a_model():
    """4096 x 4096 x 14336, two thread blocks of each kernel."""
    for name in (F16, FP8_90, NVF4_100):
        ins = unit(*name)
        a, b, scales = operands(ins, 4096, 4096, 14336)
        for (rows, columns), run in Kernel(ins).sample(a, b, tiles=[(0, 3), (31, 31)], **scales):
            cut = {"scale_a": scales["scale_a"][rows], "scale_b": scales["scale_b"][:, columns]} if scales else {}
            np.testing.assert_array_equal(run.d, emulator.matmul(a[rows], b[:, columns], on=ins, **cut))
