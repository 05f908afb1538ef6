"""What a row of the instruction table is, and how it says what is known of it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ..errors import BadGolden
from ..formats import Float, Integer

__all__ = ["DOCUMENTS", "SOURCES", "Adder", "Instruction", "captures", "generic", "golden_root"]

SOURCES = {
    "KM": "Khattak and Mikaitis 2026, doi 10.1145/3830409; rows recorded on GPUs: MATLAB-tensor-core, BSD-2-Clause",
    "XMMA": "Xie et al. 2025, MMA-Sim, arXiv 2511.10909; its program mmasim 2.1.1",
    "TC5": "sf-tensor/tcgen05 at 8fce64d, B200 result words",
    "FHMP": "Fasi, Higham, Mikaitis, Pranesh 2021, doi 10.7717/peerj-cs.330",
    "PTX": "NVIDIA PTX ISA 9.0, sections 9.7.3 (fma), 9.7.14 and 9.7.16",
    "SASS": "the SASS that ptxas of CUDA 13.0 emits for the form, its CUDA-core steps being IEEE operations",
    "FTTN": "Li et al. 2024, FTTN, arXiv 2403.00232",
    "ROCM": "AMD ROCm documentation (MIOpen): MI200 MFMA behaviour, F16 and BF16 subnormals are flushed",
    "CDNA": "AMD instruction set manuals of MI100 (CDNA1), MI200 (CDNA2) and MI300 (CDNA3)",
    "GAUDI": "Intel's own model of the MME: HabanaAI/Intel_Gaudi3_Software at e6cef1c, coral-sim and mme_reference",
    "EMU": "mmaemu 0.1.0, RTX 4060 and H100 PCIe",
    "ARM": "Arm Architecture Reference Manual for A-profile (DDI 0487), shared pseudocode",
    "POWER": "Power ISA 3.1, VSX and MMA facilities",
    "QEMU": "an emulator, no machine: QEMU 7.2 in user mode computes the same bits",
    "SDM": "Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, and Instruction Set Extensions",
    "THOR": "public Jetson Thor report: BF16 K16 and MXFP8 K32 keep 25 fraction bits",
}

# What says how a machine computes without having measured it.
DOCUMENTS = ("PTX", "SASS", "SDM", "CDNA", "ARM", "POWER", "QEMU")


@dataclass(frozen=True)
class Adder:
    """A fused adder: `bus` bits of each operand per sum, `frac` fraction bits kept, `carry` integer bits."""

    name: str
    bus: int
    frac: Any                   # int; None where nothing is cut
    carry: int


@dataclass(frozen=True)
class Instruction:
    """One row: what the instruction is called and which arithmetic it runs.

    arch, name; m, n, k: shape; a, b, c, d: formats; method: the function of exact.METHODS that composes K; adder: None
    for IEEE and integer methods; scale: format of the block scales or None, block: elements of k per scale; rnd: an
    explicit rounding (FP64); saturate: clamp integers; sources: keys of SOURCES; recorded: the GPU whose published
    recording covers the row; note: which reading the row takes, where sources are silent or contradict.
    """

    arch: str
    name: str
    m: int
    n: int
    k: int
    a: Float | Integer
    b: Float | Integer
    c: Float | Integer
    d: Float | Integer
    method: str
    adder: Adder | None = None
    scale: Float | None = None
    block: int = 0
    rnd: str | None = None
    saturate: bool = False
    sources: tuple[str, ...] = ()
    recorded: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.arch} {self.name}"

    @cached_property
    def terms(self) -> int:
        """Products per fused sum: bus width over the width of an operand's container."""
        if self.adder is None:
            return 1
        if self.method == "exact_groups":
            return self.k // 16
        return min(self.k, self.adder.bus // (16 if self.method == "fp8_through_f16" else max(8, self.a.bits)))

    @cached_property
    def floor(self) -> int:
        """The alignment exponent never goes below this: emin of the output less the adder's carry bits."""
        return self.d.emin - self.adder.carry if self.adder else 0

    @cached_property
    def precision(self) -> int | None:
        """Fraction bits of the result: those of D, or fewer where the adder keeps fewer (FP8 on Ada and wgmma)."""
        return min(self.adder.frac, self.d.frac_bits) if self.adder and self.adder.frac is not None else None

    @cached_property
    def rounding(self) -> str:
        """The rounding of a fused sum: F32 results toward zero, F16 results to nearest even [FHMP]; IEEE steps rne."""
        return self.rnd or ("rz" if self.adder and self.d.name == "float32" else "rne")

    @cached_property
    def evidence(self) -> str:
        """How this row is known: `silicon: ...`, `published: ...`, `documented: ...` or `assumed: ...`."""
        captured = [f"{folder} ({rows:,} rows)" for folder, rows in captures().get((self.arch, generic(self.name)), ())]
        if captured or self.recorded:
            return "silicon: " + ", ".join(captured + [f"recorded on {self.recorded} [KM]"] * bool(self.recorded))
        measured = [key for key in self.sources if key not in DOCUMENTS]
        kind = "published" if measured else "documented" if self.sources else "assumed"
        return f"{kind}: " + (" ".join(f"[{key}]" for key in self.sources) or self.note)


# --- evidence from captured vectors ----------------------------------------------------------------------------------

def golden_root() -> Path | None:
    """The folder of golden vectors: EMULATOR_GOLDEN, or golden/ beside the package in a checkout; None without one."""
    place = Path(os.environ.get("EMULATOR_GOLDEN") or Path(__file__).resolve().parents[2] / "golden")
    return place if place.is_dir() else None


@cache
def captures() -> dict[tuple[str, str], list[tuple[str, int]]]:
    """(arch, generic name) -> folders with vectors captured on silicon and their rows, from golden/*/machine.json."""
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    root = golden_root()
    for manifest in sorted(root.glob("*/machine.json")) if root else ():
        try:
            machine = json.loads(manifest.read_text(encoding="utf-8"))
            for entry in machine["files"].values() if machine["kind"] == "captured" else ():
                if "operation" in entry:        # a conversion or a function: no row of the table
                    continue
                key = machine["arch"], generic(entry["instruction"])
                found.setdefault(key, []).append((f"golden/{manifest.parent.name}", entry["rows"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadGolden(f"{manifest}: {error!r}; see what emulator golden check {manifest.parent} says") from error
    return found


def generic(name: str) -> str:
    """The name under which the table keeps an instruction: n written N for wgmma and tcgen05."""
    return re.sub(r"(?<=m\d{2}|\d{3})n\d+k", "nNk", name) if name.startswith(("wgmma", "tcgen05")) else name
