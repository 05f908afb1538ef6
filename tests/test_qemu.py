"""Arm's and IBM's rows against QEMU in user mode: an emulator written by others, no machine."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from emulator import instruction, live
from emulator.instructions import DOCUMENTS, table

HERE = Path(__file__).resolve().parent
TARGETS = {"armv9-a": ("aarch64", ["-march=armv8.6-a"], ["-cpu", "max"]), "power10": ("ppc64le", ["-mcpu=power10"], ["-cpu", "power10"])}
COMPILER = {"aarch64": "aarch64-linux-gnu-gcc", "ppc64le": "powerpc64le-linux-gnu-gcc"}
ROWS = [(arch, name) for arch in TARGETS for name, row in table(arch).items() if "QEMU" in row.sources]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """(arch, name, count, a, b, c) -> the bytes of D."""
    made = {}

    def build(arch):
        target, flags, options = TARGETS[arch]
        lacking = [tool for tool in (f"qemu-{target}", COMPILER[target]) if not shutil.which(tool)]
        if lacking:
            pytest.skip(f"{' and '.join(lacking)} not installed")
        program = tmp_path_factory.mktemp("qemu") / target
        subprocess.run([COMPILER[target], "-O1", "-static", *flags, HERE / f"qemu_{target}.c", "-o", program], check=True)
        made[arch] = [f"qemu-{target}", *options, program]

    def run(arch, *arguments, data=b""):
        if arch not in made:
            build(arch)
        return subprocess.run([*made[arch], *map(str, arguments)], input=data, capture_output=True, check=True).stdout

    return run


def launches(row, name, vector, count, kind, seed):
    """Operands of `count` launches as a (count, m, k), b (count, k, n), c (count, m, n), and the machine's bytes for them.

    Vector instructions are m = n = 1 here, with all lanes of a register in `count`.
    """
    if row.m == 1:                                              # each lane has an A and a B
        lanes = 4
        shapes = [(count * lanes, row.k)] * 2 + [(count * lanes,)]
        a, b, c = live.cases(row, shapes, kind, (seed,))
        if name.startswith("bfmlal"):                           # the even or the odd elements of eight
            spread = [np.zeros((count * lanes, 2), x.dtype) for x in (a, b)]
            for to, x in zip(spread, (a, b)):
                to[:, int(name.endswith("t"))] = x[:, 0]
            left, right = spread
        else:
            left, right = a, b
        return (a[:, None], b[..., None], c[:, None, None]), (left, right, c)
    m, n = row.m, row.n
    if name.startswith(("bfmopa", "fmopa")):
        m = n = vector * 8 // row.d.bits
    a, b, c = live.cases(row, [(count, m, row.k), (count, row.k, n), (count, m, n)], kind, (seed,))
    return (a, b, c), (a, b.swapaxes(1, 2), c)


@pytest.mark.parametrize("arch, name", ROWS, ids=[name for _, name in ROWS])
@pytest.mark.parametrize("outputs", [8_000, pytest.param(120_000, marks=pytest.mark.exhaustive)])
def test_the_row_is_what_qemu_computes(machine, arch, name, outputs):
    row = instruction(arch, name)
    vector = int(machine(arch)) if arch == "armv9-a" else 16
    assert "QEMU" in DOCUMENTS and row.evidence.startswith("documented")
    per = (vector // 4) ** 2 if "mopa" in name else 16 if arch == "power10" else 4
    for seed, kind in enumerate(live.classes(row)):
        count = -(-outputs // (per * len(live.classes(row))))
        (a, b, c), operands = launches(row, name, vector, count, kind, seed)
        data = b"".join(b"".join(np.ascontiguousarray(part).tobytes() for part in launch)
                        for launch in zip(*(np.ascontiguousarray(x).reshape(count, -1) for x in operands)))
        got = np.frombuffer(machine(arch, name, count, data=data), row.d.code_dtype).reshape(c.shape)
        want = row._run((a, b, c, None, None), None)
        differ = np.argwhere(got != want)
        assert not differ.size, (kind, len(differ), got.size, [int(x) for x in differ[0]], hex(got[tuple(differ[0])]),
                                 hex(want[tuple(differ[0])]), [hex(x) for x in a[tuple(differ[0][:2])]],
                                 [hex(x) for x in b[differ[0][0], :, differ[0][2]]], hex(c[tuple(differ[0])]))
