"""Write golden/published from the table below: results of real hardware that somebody has published.

    python tools/published.py [FOLDER]

Every number is typed from the publication that its row cites; nothing here is computed by the emulator.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ml_dtypes
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from emulator import golden  # noqa: E402

XMMA = "Xie et al., MMA-Sim, arXiv 2511.10909v2, table 8 and equation 10"
KM = "Khattak and Mikaitis, arXiv 2512.07004, section IV"
SA = "SageAttention2, arXiv 2411.10958, and SageAttention issue 287; DeepSeek-V3, arXiv 2412.19437, section 3.3.2"

KEYS = {XMMA: "[XMMA]", KM: "[KM]", SA: "[SA]"}

# One input, many answers. The exact result is -0.875.
A, B, C = (-2.0**13, -0.5, -0.25, -0.125), (2.0**10, 1, 1, 1), 2.0**23

# 1.5 x 1.5, 2^-23, 2^-24, 2^-24, whose sum is W = 2.25 + 2^-22
P, Q, W = (1.5, 2.0**-12, 2.0**-12, 2.0**-12), (1.5, 2.0**-11, 2.0**-12, 2.0**-12), 2.25 + 2.0**-22

# arch, instruction, a, b, c, d, citation. C and D are numbers, or 32-bit words as text.
ROWS = [
    ("sm_70", "mma.m8n8k4.f32.f16.f16.f32", A, B, C, 0.0, XMMA),                                     # Volta
    ("sm_75", "mma.m16n8k8.f32.f16.f16.f32", A, B, C, -0.5, XMMA),                                   # Turing
    ("sm_80", "mma.m16n8k8.f32.tf32.tf32.f32", A, B, C, -0.5, XMMA),                                 # Ampere
    ("sm_80", "mma.m16n8k16.f32.bf16.bf16.f32", A, B, C, -0.5, XMMA),
    ("sm_80", "mma.m16n8k16.f32.f16.f16.f32", A, B, C, -0.5, XMMA),
    ("sm_80", "mma.m8n8k4.f64.f64.f64.f64", A, B, C, -0.875, XMMA),                                  # any FP64
    ("sm_89", "mma.m16n8k8.f32.tf32.tf32.f32", A, B, C, -0.5, XMMA),                                 # Ada
    ("sm_89", "mma.m16n8k16.f32.bf16.bf16.f32", A, B, C, -0.5, XMMA),
    ("sm_89", "mma.m16n8k16.f32.f16.f16.f32", A, B, C, -0.5, XMMA),
    ("sm_89", "mma.m16n8k32.f32.e5m2.e5m2.f32", A, B, C, 0.0, XMMA),
    ("sm_90", "mma.m16n8k8.f32.tf32.tf32.f32", A, B, C, -0.75, XMMA),                                # Hopper
    ("sm_90", "mma.m16n8k16.f32.bf16.bf16.f32", A, B, C, -0.75, XMMA),
    ("sm_90", "mma.m16n8k16.f32.f16.f16.f32", A, B, C, -0.75, XMMA),
    ("sm_90", "wgmma.m64n8k8.f32.tf32.tf32", A, B, C, -0.75, XMMA),
    ("sm_90", "wgmma.m64n8k16.f32.bf16.bf16", A, B, C, -0.75, XMMA),
    ("sm_90", "wgmma.m64n8k16.f32.f16.f16", A, B, C, -0.75, XMMA),
    ("sm_90", "wgmma.m64n8k32.f32.e5m2.e5m2", A, B, C, 0.0, XMMA),
    ("sm_90", "mma.m8n8k4.f64.f64.f64.f64", A, B, C, -0.875, XMMA),                                  # any FP64
    ("sm_100", "tcgen05.mma.m64n8k8.kind::tf32.f32.tf32.tf32", A, B, C, -0.75, XMMA),                # Blackwell
    ("sm_100", "tcgen05.mma.m64n8k16.kind::f16.f32.bf16.bf16", A, B, C, -0.75, XMMA),
    ("sm_100", "tcgen05.mma.m64n8k16.kind::f16.f32.f16.f16", A, B, C, -0.75, XMMA),
    ("sm_100", "tcgen05.mma.m64n8k32.kind::f8f6f4.f32.e5m2.e5m2", A, B, C, -0.75, XMMA),
    ("sm_120", "mma.m16n8k8.f32.tf32.tf32.f32", A, B, C, -0.75, XMMA),                               # RTX Blackwell
    ("sm_120", "mma.m16n8k16.f32.bf16.bf16.f32", A, B, C, -0.75, XMMA),
    ("sm_120", "mma.m16n8k16.f32.f16.f16.f32", A, B, C, -0.75, XMMA),
    ("sm_120", "mma.m16n8k32.f32.e5m2.e5m2.f32", A, B, C, -0.75, XMMA),

    # V100: 2.25 as 1.5 x 1.5 keeps two addends of 2^-23, as 1 x 2.25 it loses them
    ("sm_70", "mma.m8n8k4.f32.f16.f16.f32", (1.5, 2.0**-12, 2.0**-12), (1.5, 2.0**-11, 2.0**-11), 0, W, KM),
    ("sm_70", "mma.m8n8k4.f32.f16.f16.f32", (1, 2.0**-12, 2.0**-12), (2.25, 2.0**-11, 2.0**-11), 0, 2.25, KM),
    # A100, 16 bits
    ("sm_80", "mma.m16n8k16.f32.f16.f16.f32", P, Q, 0, W, KM),
    ("sm_80", "mma.m16n8k16.f32.bf16.bf16.f32", P, Q, 0, W, KM),
    # L40S and Ada, FP8 (either format): 1, 2^-13, 2^-13; and c = 1 with two products of 2^-14
    ("sm_89", "mma.m16n8k32.f32.e4m3.e4m3.f32", (1, 2.0**-6, 2.0**-6), (1, 2.0**-7, 2.0**-7), 0, 1 + 2.0**-12, KM),
    ("sm_89", "mma.m16n8k32.f32.e5m2.e5m2.f32", (1, 2.0**-6, 2.0**-6), (1, 2.0**-7, 2.0**-7), 0, 1 + 2.0**-12, KM),
    ("sm_89", "mma.m16n8k32.f32.e4m3.e4m3.f32", (2.0**-7, 2.0**-7), (2.0**-7, 2.0**-7), 1, 1, KM),
    ("sm_89", "mma.m16n8k32.f32.e5m2.e5m2.f32", (2.0**-7, 2.0**-7), (2.0**-7, 2.0**-7), 1, 1, KM),
    # A100, FP64: c, p1, p2 in this order
    ("sm_80", "mma.m8n8k4.f64.f64.f64.f64", (2.0**-53, 1), (1, 1), 2.0**-53, 1 + 2.0**-52, KM),

    # The FP8 accumulator seen from C, A and B being zero: 13 fraction bits pass, the low ten bits are cleared
    *((arch, name, (0,), (0,), c, d, SA)
      for arch, name in (("sm_89", "mma.m16n8k32.f32.e4m3.e4m3.f32"), ("sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3"))
      for c, d in (("3f800000", "3f800000"), ("3f800400", "3f800400"), ("bf800400", "bf800400"),
                   ("40490c00", "40490c00"), ("3f800001", "3f800000"), ("3f8003ff", "3f800000"),
                   ("bf8007ff", "bf800400"), ("40490fdb", "40490c00"), ("c2f6e979", "c2f6e800"),
                   ("7149f2ca", "7149f000"))),
]

DTYPES = {"f64": np.float64, "f32": np.float32, "tf32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16,
          "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
MACHINE = {"kind": "published", "date": "2026-11-22", "tool": "tools/published.py",
           "command": "python tools/published.py", "licence": "facts, cited"}


def code(x: float | str, ptx_type: str) -> np.ndarray:
    """The code of a number, which the type must hold exactly; text is a code already."""
    dtype = np.dtype(DTYPES[ptx_type])
    if isinstance(x, str):
        return np.array(int(x, 16), f"u{dtype.itemsize}")
    y = np.array(x, dtype)
    if float(y) != x:
        raise ValueError(f"{x} is no {ptx_type}")
    return y.view(f"u{dtype.itemsize}")


def vectors(name: str, rows: list[tuple]) -> golden.Vectors:
    """The rows of one instruction; a row's class is its citation."""
    d_type, a_type, b_type = name.split(".")[-4:-1] if name.startswith("mma") else name.split(".")[-3:]
    k = max(len(row[2]) for row in rows)
    classes = tuple(dict.fromkeys(row[6] for row in rows))

    def table(column: int, ptx_type: str) -> np.ndarray:
        return np.array([[code(x, ptx_type) for x in (*row[column], *[0] * (k - len(row[column])))] for row in rows])

    return golden.Vectors(table(2, a_type), table(3, b_type), np.array([code(row[4], d_type) for row in rows]),
                          np.array([code(row[5], d_type) for row in rows]),
                          why=np.array([classes.index(row[6]) for row in rows], np.uint8), classes=classes)


def main(folder: Path) -> None:
    for old in (*folder.glob("*.npz"), *folder.glob("machine.json")):
        old.unlink()
    sets = []
    for arch, name in dict.fromkeys(row[:2] for row in ROWS):
        found = vectors(name, [row for row in ROWS if row[:2] == (arch, name)])
        sets.append(({"instruction": name, "arch": arch, "file": f"{arch}-{golden.file_name(name)}",
                      "source": " ".join(KEYS[cited] for cited in found.classes),
                      "citation": "; ".join(found.classes)}, found))
    written = golden.write(folder, MACHINE, sets)
    print(f"{len(written)} files, {sum(golden.rows for golden in written)} rows in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "golden" / "published")
