"""Capture golden vectors from this CPU: what its AMX, AVX512-BF16 and VNNI instructions answer.

    python tools/capture_x86.py golden/x86_64-xeon            # every row of the table that this CPU has
    python tools/capture_x86.py /tmp/xeon --tiles 100

The instructions run in the C library (csrc/silicon_live.c), operands are those of emulator.live, every class in turn.
Each launch runs three times, into outputs that were filled differently, and must repeat itself.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import shlex
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emulator import Unit, __version__, golden, instruction, live  # noqa: E402
from emulator.instructions import table  # noqa: E402


def cpu() -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def vectors(ins: Unit, tiles: int, seed: int) -> golden.Vectors:
    """Whole tiles of a tile instruction, or as many times 16 lanes of a vector instruction."""
    classes = live.classes(ins)
    shapes = [(tiles, ins.m, ins.k), (tiles, ins.k, ins.n), (tiles, ins.m, ins.n)]
    if ins.m == 1:
        shapes = [(16 * tiles, ins.k)] * 2 + [(16 * tiles,)]
    parts = [live.cases(ins, [(len(range(i, shape[0], len(classes))), *shape[1:]) for shape in shapes], name, (seed, i))
             for i, name in enumerate(classes)]
    a, b, c = (np.concatenate(part) for part in zip(*parts))
    why = np.repeat(np.arange(len(classes)), [len(part[2]) for part in parts]).astype(np.uint8)
    answers = [live.execute_dots(ins, a, b, c) for _ in range(3)]
    if any((answers[0] != again).any() for again in answers[1:]):
        sys.exit(f"{ins} does not repeat itself")
    return golden.Vectors(a, b, c, answers[0], why=why, classes=classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiles", type=int, default=30, help="per floating-point instruction, a fifth for integers")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    names = [name for name in live.available() if name in table("x86_64")]
    if not names:
        sys.exit(live.lacking())
    found = cpu()
    machine = {
        "kind": "captured", "arch": "x86_64",
        "device": f"{found['model name']}: family {found['cpu family']}, model {found['model']}, "
                  f"stepping {found['stepping']}" + ", as a hypervisor reports it" * ("hypervisor" in found["flags"]),
        "driver": f"{platform.system()} {platform.release().partition('-')[0]}, microcode {found['microcode']}",
        "toolkit": f"emulator {__version__}, csrc/silicon_live.c", "tool": "tools/capture_x86.py",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]), "licence": "MIT", "seed": given.seed,
        "cpu_flags": " ".join(flag for flag in found["flags"].split() if flag.startswith(("amx", "avx", "f16c"))),
    }
    sets = []
    for name in names:
        ins = instruction("x86_64", name)
        scale = 1 if ins.d.name == "float32" else 5
        sets.append(({"instruction": name}, vectors(ins, given.tiles * (1 if ins.m > 1 else 4) // scale, given.seed)))
    for golden_set in golden.write(given.folder, machine, sets):
        replay = golden_set.replay()
        print(f"{golden_set.instruction:10} {golden_set.rows:>7,} rows, {replay.mismatches} differ from the emulator")


if __name__ == "__main__":
    main()
