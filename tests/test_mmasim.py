"""Against mmasim 2.1.1 (Xie et al., arXiv 2511.10909), an independent model: every row both know, bit for bit."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

mmasim = pytest.importorskip("mmasim.nv_ptx", reason="mmasim (and torch) is not installed: pip install mmasim torch")
torch = pytest.importorskip("torch", reason="torch is not installed")

from mmasim import amd  # noqa: E402

from emulator import cases, instruction, table  # noqa: E402

NAMES = {"sm_70": "Volta", "sm_75": "Turing", "sm_80": "Ampere", "sm_89": "Ada Lovelace", "sm_90": "Hopper",
         "sm_100": "Blackwell", "sm_120": "RTX Blackwell"}
TORCH = {"float64": torch.float64, "float32": torch.float32, "tfloat32": torch.float32, "float16": torch.float16,
         "bfloat16": torch.bfloat16, "float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2,
         "float8_e8m0fnu": torch.float8_e8m0fnu, "float8_ue4m3": torch.float8_e4m3fn,
         "float8_e4m3fnuz": torch.float8_e4m3fnuz, "float8_e5m2fnuz": torch.float8_e5m2fnuz}
INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def peer(row):
    """mmasim's operation of the same name, or None."""
    op, rest = ("tcgen05", row.name.removeprefix("tcgen05.mma.")) if "tcgen05" in row.name else row.name.split(".", 1)
    if row.block:
        vec = f".scale_vec::{row.k // row.block}X"
        rest = rest.replace(vec, f".block{row.block}")
    kind = {"mma": ("MMA", "MMABlockScale"), "wgmma": ("WGMMA",) * 2, "tcgen05": ("TCGen05MMA", "TCGen05MMABlockScale")}[op]
    try:
        return getattr(mmasim, kind[row.block > 0])(NAMES[row.arch], rest)
    except AssertionError:
        return None


def tensor(codes, fmt, packed=False):
    if fmt.name == "float8_ue4m3":
        codes = codes & 0x7F                        # mmasim takes the sign bit for a sign
    if fmt.name not in TORCH:
        return torch.from_numpy(codes << 2 * (fmt.bits == 4 and not packed))      # e2m1 sits in bits 5:2 of its byte
    signed = codes.view(codes.dtype.str.replace("u", "i"))
    return torch.from_numpy(np.ascontiguousarray(signed)).view(TORCH[fmt.name])


ROWS = [instruction(arch, row.name.replace("nNk", "n16k")) for arch in NAMES for row in table(arch).values()
        if row.method in ("chain", "exact_groups", "fma_chain") and row.k > 1]
ROWS = [(row, found) for row in ROWS if (found := peer(row))]


@pytest.mark.parametrize("row, model", ROWS, ids=[str(row) for row, _ in ROWS])
def test_bit_for_bit(row, model):
    x = cases.generate(row, 3, seed=7)
    want = row.codes(x.a, x.b, x.c, x.scale_a, x.scale_b)
    for i, (a, b, c) in enumerate(zip(x.a, x.b, x.c)):
        if row.method == "exact_groups":            # two e2m1 to a byte
            a, b = a[:, ::2] | a[:, 1::2] << 4, b[::2] | b[1::2] << 4
        scales = [tensor(s[i], row.scale) for s in (x.scale_a, x.scale_b)] if row.block else []
        packed = row.method == "exact_groups"
        got = model(tensor(a, row.a, packed), tensor(b, row.b, packed), tensor(c, row.c), *scales)
        got = got.contiguous().view(INTEGER[got.element_size()]).numpy().view(want.dtype)
        if row.method == "fma_chain":               # mmasim keeps the host's NaN
            nan = (want[i] & row.d.magnitude) > row.d.inf_code
            got = np.where(nan & ((got & row.d.magnitude) > row.d.inf_code), want[i], got)
        np.testing.assert_array_equal(got, want[i], err_msg=f"tile {i}, class {x.classes[x.why[i]]}")


def test_there_are_rows_to_compare():
    assert len(ROWS) > 300 and {row.arch for row, _ in ROWS} == set(NAMES)
    assert len(list(itertools.groupby(ROWS, key=lambda pair: pair[0].arch))) == len(NAMES)


# --- AMD -------------------------------------------------------------------------------------------------------------

MFMA = [instruction(arch, row.name) for arch in ("gfx908", "gfx90a", "gfx942") for row in table(arch).values()
        if row.d.name != "int32"]
CDNA = {"gfx908": "CDNA1", "gfx90a": "CDNA2", "gfx942": "CDNA3"}


def same_mfma(row, tiles, seed, size=8):
    """Tiles of `size` by `size`, whatever the name says: an element does not depend on its place. NaN is NaN."""
    model = amd.MFMA(CDNA[row.arch], row.name.removeprefix("v_mfma_"))
    assert (model.m, model.n, model.k, model.a_type, model.b_type) == (row.m, row.n, row.k, TORCH[row.a.name], TORCH[row.b.name])
    row = replace(row, m=size, n=size)
    rng, x = np.random.default_rng(seed), cases.generate(row, tiles, seed)
    a, b, c = (np.concatenate((codes, rng.integers(0, (1 << f.bits) - 1, (1, *codes.shape[1:]), np.uint64, True).astype(codes.dtype)))
               for codes, f in ((x.a, row.a), (x.b, row.b), (x.c, row.c)))          # and a tile of any bits
    if row.method == "even_and_odd":                # mmasim takes the exponent of an infinite or NaN C for -1, and drops it
        c = np.where((c & row.c.magnitude) > row.c.max_code, c.dtype.type(0), c)
    want = row.codes(a, b, c)
    for i in range(len(a)):
        got = model(tensor(a[i], row.a), tensor(b[i], row.b), tensor(c[i], row.c)).contiguous()
        got = got.view(INTEGER[got.element_size()]).numpy().view(want.dtype)
        nan = ((got & row.d.magnitude) > row.d.inf_code) & ((want[i] & row.d.magnitude) > row.d.inf_code)
        np.testing.assert_array_equal(np.where(nan, want[i], got), want[i], err_msg=f"{row}, tile {i}")


@pytest.mark.parametrize("row", MFMA, ids=str)
def test_mfma(row):
    same_mfma(row, tiles=13, seed=3)


@pytest.mark.exhaustive
@pytest.mark.parametrize("row", MFMA, ids=str)
def test_mfma_on_many_cases(row):
    for seed in range(3):
        same_mfma(row, tiles=130, seed=seed, size=16)


def test_every_mfma_of_mmasim_has_a_row():
    """mmasim has no integers, and every other name."""
    for arch, names in amd.isa_mfma.arch_mfma_suffix.items():
        ours = {row.name for row in MFMA if CDNA[row.arch] == arch}
        assert ours == {f"v_mfma_{name}" for name in names}
