"""Fragments: laws on every instruction of the table, the formulas of the PTX text, CuTe's atoms as a second opinion."""

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import emulator
from emulator import ARCHS, BadOperand, UnknownInstruction, cli, fragments
from emulator.fragments import copy_fragment, fragment, movmatrix

COPIES = [f"{name}.x{n}" for name, row in fragments._copies(1).items() for n in row[5].split()]


def find(arch, name):
    return emulator.find(arch, name)


def every():
    """A fragment for every operand of every NVIDIA row, one of each layout."""
    seen = {}
    for arch in ARCHS:
        if not arch.startswith("sm_"):
            continue
        for row in emulator.table(arch).values():
            op = row.name.split(".")[0]
            if op not in ("mma", "wgmma", "tcgen05"):
                continue
            row = row if row.n else find(arch, row.name.replace("N", "24" if row.m == 64 else "48"))
            held = {"mma": "abcd" if not row.block else ("a", "b", "c", "d", "scale_a", "scale_b"), "wgmma": "acd",
                    "tcgen05": "cd"}[op]
            for operand in held:
                volta = op == "mma" and row.m == 8 and row.a.bits == 16 and operand in "ab"
                for layout in ("row", "col") if volta else ("",):
                    found = fragment(row, operand, layout)
                    key = (found.lanes, found.values, found.bits, found.place, found.shift, found.select)
                    seen.setdefault(key, found)
    return list(seen.values())


EVERY = every()


def test_many_layouts_were_found():
    assert len(EVERY) > 60


@pytest.mark.parametrize("found", EVERY + [copy_fragment(name) for name in COPIES], ids=str)
def test_every_element_has_one_place(found):
    """Bijective between elements and the places that take part; unpack inverts pack; where() agrees with both."""
    used = found.index[found.index >= 0]
    assert sorted(used) == list(range(found.rows * found.cols))
    assert found.index.shape == (found.threads, found.registers * found.word // (found.place or found.bits))
    rng = np.random.default_rng(found.rows * 1000 + found.cols)
    codes = rng.integers(0, 1 << found.bits, (2, found.rows, found.cols), np.uint64, endpoint=False)
    codes = codes.astype(f"u{max(1, found.bits // 8)}")
    words = found.pack(codes)
    assert words.shape == (2, found.threads, found.registers) and words.dtype == f"u{found.word // 8}"
    np.testing.assert_array_equal(found.unpack(words), codes)
    for row, column in rng.integers(0, (found.rows, found.cols), (5, 2)):
        lane, register, bit = found.where(row, column)
        assert int(words[1, lane, register]) >> bit & ((1 << found.bits) - 1) == codes[1, row, column]
    noise = rng.integers(0, 1 << 32, words.shape, np.uint64).astype(words.dtype)
    np.testing.assert_array_equal(found.pack(found.unpack(found.pack(found.unpack(noise)))),
                                  found.pack(found.unpack(noise)))


@given(st.sampled_from(EVERY), st.data())
def test_pack_is_inverted_on_any_words(found, data):
    """Where every bit of a register belongs to an element, pack also inverts unpack."""
    words = np.array(data.draw(st.lists(st.integers(0, 2 ** 32 - 1), min_size=found.registers,
                                        max_size=found.registers)), f"u{found.word // 8}")
    words = np.broadcast_to(words, (found.threads, found.registers)).copy()
    if (found.index >= 0).all() and found.bits == (found.place or found.bits):
        np.testing.assert_array_equal(found.pack(found.unpack(words)), words)


# --- the formulas of PTX ISA 9.7.14 ------------------------------------------------------------------------------------

A16 = [("f16.f16.f16.f16", 8, 2), ("f32.f16.f16.f32", 16, 2), ("f32.bf16.bf16.f32", 16, 2), ("f32.tf32.tf32.f32", 4, 1),
       ("f32.tf32.tf32.f32", 8, 1), ("f32.e4m3.e4m3.f32", 16, 4), ("f32.e5m2.e4m3.f32", 32, 4), ("s32.s8.u8.s32", 32, 4),
       ("s32.s4.s4.s32", 32, 8), ("s32.u4.s4.s32", 64, 8)]


@pytest.mark.parametrize("types, k, e", A16)
def test_m16n8_as_the_text_has_it(types, k, e):
    """groupID = lane >> 2, threadID_in_group = lane % 4; element i of A, B and C as PTX's figures say."""
    ins = find("sm_89", f"mma.m16n8k{k}.{types}")
    a, b, d = (fragment(ins, x) for x in "abd")
    for lane in (0, 1, 6, 17, 31):
        g, q = lane >> 2, lane % 4
        for i, place in enumerate(a.index[lane]):
            assert divmod(place, k) == (g + 8 * (i // e % 2), q * e + i % e + 4 * e * (i // (2 * e)))
        for i, place in enumerate(b.index[lane]):
            assert divmod(place, 8) == (q * e + i % e + 4 * e * (i // e), g)
        assert [divmod(place, 8) for place in d.index[lane]] == [(g + 8 * (i >> 1), 2 * q + (i & 1)) for i in range(4)]
    assert (a.registers, b.registers, d.registers) == (16 * k // 32 // e, 8 * k // 32 // e, 2 if ins.d.bits == 16 else 4)


def test_figures():
    """Single cells read off figures of the PTX text and tables of the descriptors' data paths."""
    f64 = find("sm_90", "mma.m16n8k16.f64.f64.f64.f64")
    assert fragment(f64, "a").registers == 8 and fragment(f64, "a").where(8, 15) == (3, 7, 0)
    assert fragment(find("sm_70", "mma.m8n8k4.f32.f16.f16.f32"), "d").where(2, 6) == (2, 6, 0)
    assert fragment(find("sm_70", "mma.m8n8k4.f32.f16.f16.f32"), "d").where(8 + 5, 3) == (16 + 4 + 3, 1, 0)
    col = fragment(find("sm_70", "mma.m8n8k4.f16.f16.f16.f16"), "a", "col")
    assert col.where(6, 3) == (19, 1, 0) and col.where(24, 0) == (12, 0, 0)
    wide = fragment(find("sm_90", "wgmma.m64n256k16.f32.f16.f16"), "d")
    assert wide.registers == 128 and wide.where(63, 255) == (127, 127, 0) and wide.where(9, 8) == (4, 6, 0)
    mx = find("sm_120", "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e2m1.e4m3.f32.ue8m0")
    assert fragment(mx, "a").where(0, 1) == (0, 0, 10) and fragment(mx, "b").where(1, 0) == (0, 0, 8)
    assert fragment(find("sm_100", "tcgen05.mma.m64n16k16.kind::f16.f16.f16.f16"), "d").where(16, 3) == (32, 3, 0)
    assert [copy_fragment(f"tcgen05.ld.{shape}.x2").where(row, column) for shape, row, column in
            (("16x64b", 9, 3), ("16x128b", 9, 5), ("16x256b", 9, 9), ("16x32bx2", 9, 3))] == [
            (4 + 3, 1, 0), (4 + 1, 3, 0), (4, 7, 0), (25, 1, 0)]


def test_scale_selectors():
    """[PTX] block scaling: the lanes of thread-id-a and -b, the bytes of byte-id; other lanes stay out of it."""
    ins = find("sm_120", "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0")
    for thread, byte in np.ndindex(2, 4):
        found = fragment(ins, "scale_a", thread_id=thread, byte_id=byte)
        assert [found.where(row, 0) for row in (0, 7, 8, 15)] == [
            (2 * thread + lane, 0, 8 * byte) for lane in (0, 28, 1, 29)]
    for thread in range(4):
        assert fragment(ins, "scale_b", thread_id=thread, byte_id=2).where(0, 5) == (20 + thread, 0, 16)
    two = find("sm_120", "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0")
    assert fragment(two, "scale_b", byte_id=2).where(1, 0) == (0, 0, 24)
    scales = np.arange(16, dtype=np.uint8).reshape(16, 1) + 1
    words = fragment(ins, "scale_a", thread_id=1, byte_id=3).pack(scales)
    assert np.count_nonzero(words) == 16 and words[2, 0] == 1 << 24
    for bad in ({"thread_id": 2}, {"byte_id": 4}):
        with pytest.raises(BadOperand, match=r"takes thread_id in \[0, 1\] and byte_id in \[0, 1, 2, 3\]"):
            fragment(ins, "scale_a", **bad)
    with pytest.raises(BadOperand, match=r"byte_id in \[0, 2\]"):
        fragment(two, "scale_a", byte_id=1)


def test_movmatrix_transposes():
    x = np.arange(64, dtype=np.uint16).reshape(8, 8)
    eight = copy_fragment("ldmatrix.m8n8.x1.b16")
    np.testing.assert_array_equal(eight.unpack(movmatrix(eight.pack(x))), x.T)


def test_ldmatrix_fills_the_fragments_of_mma():
    """x4 of four 8 x 8 tiles of A, and trans of a row-major B, are what mma.m16n8k16 reads."""
    ins = find("sm_80", "mma.m16n8k16.f32.f16.f16.f32")
    a = np.arange(256, dtype=np.uint16).reshape(16, 16)
    tiles = np.concatenate([a[:8, :8], a[8:, :8], a[:8, 8:], a[8:, 8:]])
    np.testing.assert_array_equal(copy_fragment("ldmatrix.m8n8.x4.b16").pack(tiles), fragment(ins, "a").pack(a))
    b = np.arange(128, dtype=np.uint16).reshape(16, 8)
    np.testing.assert_array_equal(copy_fragment("ldmatrix.m8n8.x2.trans.b16").pack(b), fragment(ins, "b").pack(b))
    wrong = fragment(find("sm_80", "mma.m16n8k8.f32.tf32.tf32.f32"), "a").pack(a[:, :8].astype(np.uint32))
    assert (fragment(ins, "a").unpack(wrong) != a).any()


REFUSED = [
    (lambda: copy_fragment("ldmatrix.m8n8.x3.b16"), UnknownInstruction, "takes .x1, .x2, .x4"),
    (lambda: copy_fragment("ldmatrix.m8n16.x1.b8"), UnknownInstruction, "no such copy; there are ldmatrix.m8n8.b16"),
    (lambda: copy_fragment("stmatrix.m8n8.x4.b16", "sm_80"), UnknownInstruction, "sm_80 has no stmatrix"),
    (lambda: fragment(find("sm_90", "wgmma.m64n8k16.f32.f16.f16"), "b"), BadOperand, "reads b from shared memory"),
    (lambda: fragment(find("sm_80", "mma.m16n8k16.f32.f16.f16.f32"), "scale_a"), BadOperand, "has no operand 'scale_a'"),
    (lambda: fragment(find("sm_80", "mma.m16n8k16.f32.f16.f16.f32"), "a", "col"), BadOperand, "only a and b of m8n8k4"),
    (lambda: copy_fragment("ldmatrix.m8n8.x1.b16").pack(np.zeros((8, 4), np.uint16)), BadOperand, "packs unsigned codes"),
    (lambda: copy_fragment("ldmatrix.m8n8.x1.b16").unpack(np.zeros((32, 2), np.uint32)), BadOperand, "unpacks uint32"),
    (lambda: copy_fragment("ldmatrix.m8n8.x1.b16").where(8, 0), BadOperand, "lies outside"),
]


@pytest.mark.parametrize("call, error, sentence", REFUSED, ids=[s for *_, s in REFUSED])
def test_refusals(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_command_line():
    run = lambda *words: CliRunner().invoke(cli.main, ["fragments", *words])     # noqa: E731
    told = run("sm_90", "wgmma.m64n8k16.f32.f16.f16", "--operand", "d").output
    assert "64 x 8 elements of 32 bits, 128 lanes, 4 registers" in told and told.splitlines()[-1].split()[-1] == "127:3"
    told = run("blackwell", "ldmatrix.m16n16.x1.trans.b8").output
    assert told.splitlines()[2].split()[:3] == ["0", "0:0.0", "4:0.0"]
    assert "ldmatrix.m8n8" in run("sm_90", "ldmatrix.m8n8.x5.b16").output
    assert run("sm_80", "ldmatrix.m16n16.x1.trans.b8").exit_code == 2


# --- CuTe's own layouts ------------------------------------------------------------------------------------------------

def atoms(*wanted):
    nv = pytest.importorskip("tensor_layouts.atoms_nv", reason="tensor-layouts, the judge, is not installed")
    return [atom for name in wanted for atom in getattr(nv, name)]


def test_against_cute_mma_atoms():
    """Every dense mma.sync atom of CuTe that names a real instruction: A as m + k*M, B as n + k*N, C as m + n*M."""
    checked, broken, seen = 0, set(), set()
    for atom in atoms("MMA_ATOMS_SM70", "MMA_ATOMS_SM75", "MMA_ATOMS_SM80", "MMA_ATOMS_SM89", "MMA_ATOMS_SM90",
                      "MMA_ATOMS_SM120"):
        words = atom.ptx.split(".")
        arch = "sm_" + atom.name[2:].split("_")[0]
        try:
            ins = find(arch, atom.ptx)
        except UnknownInstruction:
            continue                                # complex, sparse, and names of no PTX instruction
        m, n, k = atom.shape_mnk
        for operand, layout, ours in (("a", atom.a_layout, (m, k)), ("b", atom.b_layout, (n, k)), ("d", atom.c_layout, (m, n))):
            major = {"a": words[4], "b": words[5]}.get(operand, "") if arch == "sm_70" else ""
            found = fragment(ins, operand, major)
            rows = ours[0] if operand != "b" else k
            if (same := (str(layout), found.lanes, found.values)) in seen:
                continue
            seen.add(same)
            lanes, values = (8 if arch == "sm_70" else 32), found.index.shape[1]
            if len({layout(lane, value) for lane, value in np.ndindex(lanes, values)}) < lanes * values:
                broken.add(f"{atom.name} {operand}")            # two lanes at one element: no fragment at all
                continue
            for lane, value in np.ndindex(found.index.shape):
                quad, t = divmod(lane, 4)
                lane_of_atom = lane if arch != "sm_70" else t + 4 * (quad // 4)
                place = int(found.index[lane, value])
                row, column = divmod(place - (quad % 4 * rows * found.cols if arch == "sm_70" else 0), found.cols)
                mn, other = (column, row) if operand == "b" else (row, column)
                assert layout(lane_of_atom, value) == mn + other * ours[0], (atom.name, operand, lane, value)
        checked += 1
    assert checked >= 41
    assert broken <= {"SM80_16x8x32_S32S4S4S32_TN b"}, "q steps by 4 of k there, where a lane holds 8"


def test_against_cute_wgmma_and_copies():
    nv = pytest.importorskip("tensor_layouts.atoms_nv", reason="tensor-layouts, the judge, is not installed")
    for n in (8, 24, 104, 256):
        found, layout = fragment(find("sm_90", f"wgmma.m64n{n}k16.f32.f16.f16"), "d"), nv.gmma_c_layout(n)
        assert all(layout(lane, value) == found.index[lane, value] // n + found.index[lane, value] % n * 64
                   for lane, value in np.ndindex(found.index.shape))
    for atom in nv.COPY_ATOMS_SM75 + nv.COPY_ATOMS_SM90:
        words = atom.ptx.split(".")
        found = copy_fragment(".".join([words[0], words[-3], *(w for w in words[3:-3]), words[-1]]))
        registers = atom.dst_layout_bits if words[0] == "ldmatrix" else atom.src_layout_bits
        for lane, value in np.ndindex(found.index.shape):       # bit 128 * row + 16 * column of the rows in memory
            assert registers(lane, 16 * value) == 16 * found.index[lane, value], atom.name
