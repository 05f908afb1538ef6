"""Against mmasim 2.1.1 (Xie et al., arXiv 2511.10909), an independent model: every row both know, bit for bit."""

import itertools

import numpy as np
import pytest

mmasim = pytest.importorskip("mmasim.nv_ptx", reason="mmasim (and torch) is not installed: pip install mmasim torch")
torch = pytest.importorskip("torch", reason="torch is not installed")

from emulator import cases, instruction, table  # noqa: E402

NAMES = {"sm_70": "Volta", "sm_75": "Turing", "sm_80": "Ampere", "sm_89": "Ada Lovelace", "sm_90": "Hopper",
         "sm_100": "Blackwell", "sm_120": "RTX Blackwell"}
TORCH = {"float64": torch.float64, "float32": torch.float32, "tfloat32": torch.float32, "float16": torch.float16,
         "bfloat16": torch.bfloat16, "float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2,
         "float8_e8m0fnu": torch.float8_e8m0fnu, "float8_ue4m3": torch.float8_e4m3fn}


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
        got = got.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[got.element_size()]).numpy().view(want.dtype)
        if row.method == "fma_chain":               # mmasim keeps the host's NaN
            nan = (want[i] & row.d.magnitude) > row.d.inf_code
            got = np.where(nan & ((got & row.d.magnitude) > row.d.inf_code), want[i], got)
        np.testing.assert_array_equal(got, want[i], err_msg=f"tile {i}, class {x.classes[x.why[i]]}")


def test_there_are_rows_to_compare():
    assert len(ROWS) > 300 and {row.arch for row, _ in ROWS} == set(NAMES)
    assert len(list(itertools.groupby(ROWS, key=lambda pair: pair[0].arch))) == len(NAMES)
