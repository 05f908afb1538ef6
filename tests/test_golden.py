"""Golden folders: a round trip keeps every bit, a damaged folder is refused in a clear sentence, a difference is found."""

import hashlib
import io
import json
import zipfile

import ml_dtypes
import numpy as np
import pytest

from emulator import engine_c, golden
from emulator.errors import BadGolden
from emulator.golden import Vectors
from emulator.matlab import import_matlab

ENGINES = ["exact", "numba", *(["c"] if engine_c.available() else [])]
NAME = "mma.m16n8k16.f32.f16.f16.f32"
MACHINE = {"kind": "captured", "arch": "sm_80", "device": "NVIDIA A100", "driver": "580.1", "toolkit": "13.0", "tool": "by hand",
           "date": "2026-11-22", "command": "none", "licence": "MIT"}


def halves(*rows):
    return np.array(rows, np.float16).view(np.uint16)


def words(*values):
    return np.array(values, np.float32).view(np.uint32)


def rows():
    """Two dot products of four with answers worked out by hand: MMA-Sim's equation 10 on A100, and 1 * 2 + 3 = 5."""
    return Vectors(halves([-(2.0**13), -0.5, -0.25, -0.125], [1, 0, 0, 0]), halves([2.0**10, 1, 1, 1], [2, 0, 0, 0]),
                   words(2.0**23, 3), words(-0.5, 5), why=np.array([1, 0], np.uint8), classes=("random", "align-edge"))


def tiles(count=2):
    """Tiles of small integers: exact in float32, so numpy's product is the answer."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-8, 9, (count, *shape)).astype(np.float32) for shape in ((16, 16), (16, 8), (16, 8)))
    return Vectors(a.astype(np.float16).view(np.uint16), b.astype(np.float16).view(np.uint16), c.view(np.uint32),
                   (a @ b + c).view(np.uint32))


def scaled():
    """MXFP4 with ones everywhere: 64 products of 1, scales 2 and 1/4 on the two halves: 32 * 2 + 32 / 4 = 72."""
    one, sa, sb = 0x2, [0x80, 0x7D], [0x7F, 0x7F]
    return Vectors(np.full((1, 16, 64), one, np.uint8), np.full((1, 64, 8), one, np.uint8), words(*[0] * 128).reshape(1, 16, 8),
                   words(*[72] * 128).reshape(1, 16, 8), np.full((1, 16, 2), sa, np.uint8),
                   np.full((1, 8, 2), sb, np.uint8).swapaxes(1, 2))


SCALED = "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0"


@pytest.fixture
def folder(tmp_path):
    golden.write(tmp_path / "a100", MACHINE, [({"instruction": NAME}, rows())])
    return tmp_path / "a100"


def rewrite(folder, edit=None, **said):
    """Change the arrays of the one file, or what its entry says, with the hash made right again."""
    path = folder / f"{NAME}.npz"
    with np.load(path) as file:
        found = dict(file)
    if edit:
        edit(found)
    np.savez_compressed(path, **found)
    manifest = json.loads((folder / "machine.json").read_text())
    manifest["files"][path.name] |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **said}
    (folder / "machine.json").write_text(json.dumps(manifest))


def refused(folder):
    with pytest.raises(BadGolden) as caught:
        golden.check(folder)
    return str(caught.value)


# --- what is right ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("arch", "name", "vectors", "count"), [
    ("sm_80", NAME, rows, 2), ("sm_80", NAME, tiles, 256), ("sm_120", SCALED, scaled, 128)])
def test_round_trip(tmp_path, arch, name, vectors, count):
    wrote = vectors()
    (found,) = golden.write(tmp_path / "new", MACHINE, [({"instruction": name, "arch": arch}, wrote)])
    assert (found.arch, found.instruction, found.rows, found.device) == (arch, name, count, "NVIDIA A100")
    assert found.path.name == name.replace("::", "_") + ".npz" and ":" not in found.path.name
    loaded = found.load()
    for key in ("a", "b", "c", "d", "scale_a", "scale_b", "why"):
        one, other = getattr(loaded, key), getattr(wrote, key)
        assert (one is None and other is None) or (one.dtype == other.dtype and np.array_equal(one, other)), key
    assert loaded.classes == wrote.classes


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("arch", "name", "vectors"), [
    ("sm_80", NAME, rows), ("sm_80", NAME, tiles), ("sm_120", SCALED, scaled)])
def test_replay(tmp_path, arch, name, vectors, engine):
    (found,) = golden.write(tmp_path / "new", MACHINE, [({"instruction": name, "arch": arch}, vectors())])
    for limit in (None, 0, 7):
        replay = found.replay(engine, limit)
        assert replay.equal and replay.story == "" and replay.compared == min(limit or found.rows, found.rows)


def test_a_wrong_bit_is_found_and_told(folder):
    def edit(found):
        found["d"][0] ^= 1

    rewrite(folder, edit)
    (found,) = golden.read(folder)
    replay = found.replay("exact")
    assert (replay.equal, replay.mismatches, replay.compared) == (False, 1, 2)
    assert replay.story.splitlines() == [
        "1 of 2 elements of d differ (float32)",
        "  d[0]  got 0xbf000000 -0.5  want 0xbf000001 -0.50000006  (+1 ulp)",
        "  the first is of class 'align-edge'",
        f"  emulator explain sm_80 {NAME} --a 0xf000,0xb800,0xb400,0xb000 --b 0x6400,0x3c00,0x3c00,0x3c00 --c 0x4b000000"]


def test_a_wrong_bit_in_a_tile_is_found_where_it_is(tmp_path):
    vectors = tiles()
    vectors.d[1, 9, 3] ^= 1
    (found,) = golden.write(tmp_path / "new", MACHINE, [({"instruction": NAME}, vectors)])
    replay = found.replay("exact")
    assert replay.comparison.first == (1, 9, 3) and replay.mismatches == 1
    a, b = (",".join(f"{code:#06x}" for code in codes) for codes in (vectors.a[1, 9], vectors.b[1, :, 3]))
    assert replay.story.endswith(f"--a {a} --b {b} --c {vectors.c[1, 9, 3]:#010x}")


def test_a_sample_sees_whole_tiles(tmp_path):
    """All of D wrong: every sampled element differs, wherever it lies."""
    vectors = tiles()
    vectors.d[...] ^= 1
    (found,) = golden.write(tmp_path / "new", MACHINE, [({"instruction": NAME}, vectors)])
    replay = found.replay("exact", 50)
    assert replay.compared == replay.mismatches == 50
    assert len(set(np.argwhere(replay.comparison.got != vectors.d)[:, 2])) == 8


def test_big_endian_codes_are_codes(folder):
    def edit(found):
        found["a"] = found["a"].astype(">u2")

    rewrite(folder, edit)
    assert golden.check(folder)[0].replay("exact").equal


# --- what is damaged --------------------------------------------------------------------------------------------------

def test_changed_file(folder):
    path = folder / f"{NAME}.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "the file was changed or damaged" in refused(folder)


@pytest.mark.parametrize("keep", [0, 1, 100, -30])
def test_truncated_file(folder, keep):
    path = folder / f"{NAME}.npz"
    path.write_bytes(path.read_bytes()[:keep])
    assert "the file was changed or damaged" in refused(folder)
    manifest = json.loads((folder / "machine.json").read_text())
    manifest["files"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "machine.json").write_text(json.dumps(manifest))
    assert "is not an .npz file, or it is truncated" in refused(folder)


def test_damaged_inside_the_zip(folder):
    """The manifest agrees with the bytes, but they do not unpack."""
    path = folder / f"{NAME}.npz"
    with zipfile.ZipFile(path) as file:
        start = file.infolist()[0].header_offset
    data = bytearray(path.read_bytes())
    data[start + 60:start + 70] = bytes(10)
    path.write_bytes(data)
    manifest = json.loads((folder / "machine.json").read_text())
    manifest["files"][path.name]["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "machine.json").write_text(json.dumps(manifest))
    assert "cannot be read" in refused(folder)


def test_pickles_are_refused(folder):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    path = folder / f"{NAME}.npz"
    packed = io.BytesIO()
    np.save(packed, np.array([Trap()], object), allow_pickle=True)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("trap.npy", packed.getvalue())
    manifest = json.loads((folder / "machine.json").read_text())
    manifest["files"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "machine.json").write_text(json.dumps(manifest))
    assert "cannot be read: Object arrays cannot be loaded when allow_pickle=False" in refused(folder)


@pytest.mark.parametrize(("edit", "sentence"), [
    (lambda x: x.pop("d"), "takes a, b, c, d"),
    (lambda x: x.update(e=x["d"]), "holds a, b, c, classes, d, e, instruction, why"),
    (lambda x: x.update(scale_a=x["a"]), "takes a, b, c, d"),
    (lambda x: x.update(a=x["a"].astype(np.uint32)), "a is uint32; codes of float16 are stored as uint16"),
    (lambda x: x.update(a=x["a"].view(np.int16)), "a is int16; codes of float16 are stored as uint16"),
    (lambda x: x.update(d=x["d"].view(np.float32)), "d is float32; codes of float32 are stored as uint32"),
    (lambda x: x.update(b=x["b"][:, :3]), "b (2, 3)"),
    (lambda x: x.update(c=x["c"][:1]), "c (1,)"),
    (lambda x: x.update(a=np.zeros((2, 17), np.uint16), b=np.zeros((2, 17), np.uint16)), "rows: a, b (N, k' <= 16)"),
    (lambda x: x.update(d=x["d"].reshape(1, 2), c=x["c"].reshape(1, 2)), "d (1, 2)"),
    (lambda x: x.update(d=x["d"][0]), "d ()"),
    (lambda x: x.update(why=np.array([0, 2], np.uint8)), "why is an unsigned index into classes"),
    (lambda x: x.update(why=np.array([0, -1], np.int8)), "why is int8 (2,)"),
    (lambda x: x.update(why=np.zeros(3, np.uint8)), "why is uint8 (3,)"),
    (lambda x: x.pop("classes"), "only one of why and classes"),
    (lambda x: x.update(instruction=np.array("mma.m16n8k8.f32.f16.f16.f32")), "holds vectors of 'mma.m16n8k8.f32"),
])
def test_wrong_arrays(folder, edit, sentence):
    rewrite(folder, edit)
    assert sentence in refused(folder)


def test_codes_out_of_range(tmp_path):
    vectors = scaled()
    vectors.a[0, 3, 5] = 16
    with pytest.raises(BadGolden, match="a holds 0x10; codes of float4_e2m1fn lie in 0..0xf"):
        golden.write(tmp_path / "new", MACHINE, [({"instruction": SCALED, "arch": "sm_120"}, vectors)])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("said", "sentence"), [
    ({"rows": 3}, "d has 2 elements, the manifest says 3 rows"),
    ({"rows": "2"}, "rows '2'"),
    ({"sha256": "abc"}, "64 hex digits"),
    ({"instruction": "mma.m16n8k16.f32.f16.f16.f64"}, "sm_80 has no mma.m16n8k16.f32.f16.f16.f64"),
    ({"instruction": 7}, "sm_80 has no 7;"),
    ({"arch": "sm_999"}, "architecture 'sm_999' is not modelled"),
    ({"device": ""}, "'device' of"),
])
def test_wrong_entries(folder, said, sentence):
    rewrite(folder, **said)
    assert sentence in refused(folder)


@pytest.mark.parametrize(("edit", "sentence"), [
    (lambda m: m.update(kind="guessed"), "has kind 'guessed'; the kinds are captured, published, imported"),
    (lambda m: m.pop("driver"), "does not say 'driver'"),
    (lambda m: m.pop("kind"), "does not say 'kind'"),
    (lambda m: m.pop("files"), "does not say 'files'"),
    (lambda m: m.update(files=[]), "a value is of the wrong kind"),
    (lambda m: m["files"].update({"../other.npz": m["files"][f"{NAME}.npz"]}), "'../other.npz' is not the name of an .npz file"),
    (lambda m: m["files"].update({"other.npz": m["files"][f"{NAME}.npz"]}), "names other.npz, which is missing"),
    (lambda m: m["files"].clear(), f"holds {NAME}.npz, which machine.json does not name"),
])
def test_wrong_manifest(folder, edit, sentence):
    manifest = json.loads((folder / "machine.json").read_text())
    edit(manifest)
    (folder / "machine.json").write_text(json.dumps(manifest))
    assert sentence in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\xff"])
def test_a_manifest_that_is_none(folder, text):
    (folder / "machine.json").write_bytes(text.encode("latin-1"))
    assert "machine.json" in refused(folder)


def test_a_folder_where_a_file_should_be(folder, tmp_path):
    (folder / f"{NAME}.npz").unlink()
    (folder / f"{NAME}.npz").mkdir()
    assert "cannot be read" in refused(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadGolden, match="cannot be written"):
        golden.write(tmp_path / "file", MACHINE, [({"instruction": NAME}, rows())])


def test_no_folder(tmp_path):
    assert "has no machine.json" in refused(tmp_path)
    with pytest.raises(BadGolden, match="is no folder"):
        golden.folders(tmp_path / "nothing")


def test_nothing_is_overwritten(folder):
    with pytest.raises(BadGolden, match="already holds .npz files"):
        golden.write(folder, MACHINE, [({"instruction": NAME}, rows())])


def test_two_sets_of_one_name(tmp_path):
    with pytest.raises(BadGolden, match="two sets are called"):
        golden.write(tmp_path / "new", MACHINE, [({"instruction": NAME}, rows()), ({"instruction": NAME}, rows())])


# --- the recorded rows ------------------------------------------------------------------------------------------------

def test_an_index(tmp_path, monkeypatch):
    """The index.json of the recorded-gpu folder is the other manifest."""
    np.savez(tmp_path / "x.npz", **{key: getattr(rows(), key) for key in "abcd"})
    entry = {"file": "x.npz", "gpu": "A100", "arch": "sm_80", "instruction": NAME, "rows": 2,
             "sha256": hashlib.sha256((tmp_path / "x.npz").read_bytes()).hexdigest()}
    (tmp_path / "index.json").write_text(json.dumps([entry]))
    monkeypatch.setenv("RECORDED_GPU", str(tmp_path))
    assert golden.recorded_root() == tmp_path and tmp_path in golden.folders()
    (found,) = golden.check(tmp_path)
    assert (found.kind, found.source) == ("recorded", "recorded: A100 [KM]") and found.replay("exact").equal
    monkeypatch.setenv("RECORDED_GPU", str(tmp_path / "nothing"))
    with pytest.raises(BadGolden, match="where no index.json lies"):
        golden.recorded_root()


@pytest.mark.parametrize("engine", ENGINES)
def test_recorded_rows(engine):
    place = golden.recorded_root()
    if place is None:
        pytest.skip("the recorded GPU rows are not here (../shared/recorded-gpu, or RECORDED_GPU)")
    sets = golden.check(place)
    assert len(sets) == 32 and sum(found.rows for found in sets) == 128_000
    for found in sets:
        replay = found.replay(engine, 20 if engine == "exact" else None)
        assert replay.equal, f"{found}: {replay.story}"


# --- MATLAB-tensor-core -----------------------------------------------------------------------------------------------

def bits(*values):
    return "".join(f"{int(word):032b}\n" for word in words(*values))


def hexes(*lines):
    return "".join(" ".join(f"{int(word):08x}" for word in words(*line)) + " \n" for line in lines)


def put(root, gpu, kind, result, a, b, c, d):
    """The files of one recording, as MATLAB-tensor-core lays them out."""
    place = root / gpu / kind
    place.mkdir(parents=True, exist_ok=True)
    (place / f"a_{gpu}_{kind}.txt").write_text(hexes(*a))
    (place / f"b_{gpu}_{kind}.txt").write_text(hexes(*b))
    (place / f"c_{gpu}_fp32.txt").write_text(bits(*c))
    (place / f"d_{gpu}_{result}.txt").write_text(bits(*d))


A8, B8 = [-(2.0**13), -0.5, -0.25, -0.125, 0, 0, 0, 0], [2.0**10, 1, 1, 1, 0, 0, 0, 0]      # MMA-Sim, equation 10


def test_import(tmp_path):
    """Every kind of file, with answers from MMA-Sim's table 8 or worked out by hand; all of them replay."""
    root = tmp_path / "checkout" / "model_validation"
    put(root, "A100", "fp16", "fp32", [A8, [1] * 8], [B8, [2] * 8], [2.0**23, 0.5], [-0.5, 16.5])
    put(root, "A100", "tf32", "fp32", [A8[:4]], [B8[:4]], [2.0**23], [-0.5])
    put(root, "H200", "bf16", "fp32", [A8 * 2], [B8[:4] + [0] * 12], [2.0**23], [-0.75])
    put(root, "V100", "fp16", "fp16", [[1, 0, 0, 0]], [[1, 0, 0, 0]], [2.0**-11 + 2.0**-22], [1])
    put(root, "Ada", "E5M2", "fp32", [A8 * 4], [B8 + [0] * 24], [2.0**23], [0])
    put(root, "H100", "E4M3", "fp32", [[1] * 32], [[1] * 32], [7], [32])                   # by wgmma: C is not read
    put(root, "B200", "E4M3", "fp32", [[1] * 32], [[1] * 32], [2.0**-23], [32])            # mma.sync: 32 + 2^-23
    put(root, "H200", "E5M2", "fp32", [[1] + [0] * 31], [[1] + [0] * 31], [2.0**-23], [1 + 2.0**-23])     # mma.sync
    (root.parent / "LICENSE").write_text("BSD-2-Clause")
    sets = import_matlab(tmp_path / "checkout", tmp_path / "out")
    assert {(found.device, found.arch, found.instruction, found.rows) for found in sets} == {
        ("A100", "sm_80", "mma.m16n8k16.f32.f16.f16.f32", 2), ("A100", "sm_80", "mma.m16n8k8.f32.tf32.tf32.f32", 1),
        ("H200", "sm_90", "mma.m16n8k16.f32.bf16.bf16.f32", 1), ("V100", "sm_70", "mma.m8n8k4.f16.f16.f16.f16", 1),
        ("Ada", "sm_89", "mma.m16n8k32.f32.e5m2.e5m2.f32", 1), ("H100", "sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3", 1),
        ("B200", "sm_100", "mma.m16n8k32.f32.e4m3.e4m3.f32", 1), ("H200", "sm_90", "mma.m16n8k32.f32.e5m2.e5m2.f32", 1)}
    for found in golden.check(tmp_path / "out"):
        assert found.kind == "imported" and found.replay("exact").equal, found.replay("exact").story
    (v100,) = (found.load() for found in sets if found.device == "V100")
    assert v100.c.tolist() == [0x1000] and v100.d.tolist() == [0x3C00]          # C rounded to float16, 2^-11
    (h100,) = (found.load() for found in sets if found.device == "H100")
    assert h100.c.tolist() == [0] and h100.a.tolist() == [[0x38] * 32]
    assert (tmp_path / "out" / "LICENSE").read_text() == "BSD-2-Clause"


@pytest.mark.parametrize(("file", "text", "sentence"), [
    ("A100/fp16/a_A100_fp16.txt", "3f800000 3f80000g\n", "row 1: '3f80000g' is not of the form"),
    ("A100/fp16/a_A100_fp16.txt", "3f800000 4000\n", "row 1: '4000' is not of the form"),
    ("A100/fp16/a_A100_fp16.txt", "3f800000 3f800000\n3f800000\n", "row 2 has 1 numbers, the first has 2"),
    ("A100/fp16/a_A100_fp16.txt", "3f800001 3f800000\n", "row 1: 0x3f800001 is no float16"),
    ("A100/fp16/a_A100_fp16.txt", "", "a_A100_fp16.txt is empty"),
    ("A100/fp16/a_A100_fp16.txt", hexes([1, 1], [1, 1]), "have 2, 1, 1 and 1 rows"),
    ("A100/fp16/d_A100_fp32.txt", "3f800000\n", "is not of the form [01]{32}"),
    ("A100/fp16/notes.txt", "hello", "notes.txt is not a file of MATLAB-tensor-core's model_validation"),
    ("A100/fp16/d_A100_bf16.txt", bits(1), "d_A100_bf16.txt is not a file of"),
    ("MI300X/fp16/d_MI300X_fp32.txt", bits(1), "d_MI300X_fp32.txt is not a file of"),
    ("V100/bf16/d_V100_fp32.txt", bits(1), "a_V100_bf16.txt is missing"),
    ("A100/tf32/a_A100_tf32.txt", "3f800001\n", None),                         # operands without results are not read
])
def test_import_refuses_by_name(tmp_path, file, text, sentence):
    put(tmp_path / "in", "A100", "fp16", "fp32", [[1, 2]], [[1, 2]], [0], [5])
    (tmp_path / "in" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "in" / file).write_text(text)
    if sentence is None:
        assert len(import_matlab(tmp_path / "in", tmp_path / "out")) == 1
        return
    with pytest.raises(BadGolden) as caught:
        import_matlab(tmp_path / "in", tmp_path / "out")
    assert sentence in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_import_of_nothing(tmp_path):
    with pytest.raises(BadGolden, match="holds no d_<GPU>_<fp32 or fp16>.txt"):
        import_matlab(tmp_path, tmp_path / "out")


def test_tf32_has_no_low_bits(tmp_path):
    put(tmp_path / "in", "A100", "tf32", "fp32", [[1 + 2.0**-11]], [[1]], [0], [1])
    with pytest.raises(BadGolden, match="holds numbers that are no tf32"):
        import_matlab(tmp_path / "in", tmp_path / "out")


def test_e4m3_codes(tmp_path):
    """448 is the largest; 464 is not a number of the format and is refused."""
    put(tmp_path / "in", "Ada", "E4M3", "fp32", [[448]], [[1]], [0], [448])
    (found,) = import_matlab(tmp_path / "in", tmp_path / "out")
    assert found.load().a.view(ml_dtypes.float8_e4m3fn).tolist() == [[448]]
    put(tmp_path / "in", "Ada", "E4M3", "fp32", [[464]], [[1]], [0], [448])
    with pytest.raises(BadGolden, match="is no float8_e4m3fn"):
        import_matlab(tmp_path / "in", tmp_path / "out2")
