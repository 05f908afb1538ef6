"""How fast is it: every family of rows on every engine, as ratios to numpy's float32 matmul, measured side by side.

    make bench                          (or: emulator bench, python tools/bench.py)
    emulator bench --json new.json --against old.json       exit status 1 where a ratio grew by more than --slack

A repeat measures float32 and the emulator one after the other, and gives one ratio; the table shows medians over the
repeats. EMULATOR_THREADS (default 1) holds for both: CPU time of the one thread, or wall time of many.
"""

from __future__ import annotations

import os

THREADS = int(os.environ.setdefault("EMULATOR_THREADS", "1"))
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = str(THREADS)            # read when numpy and torch are first imported

import importlib.util  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import click  # noqa: E402
import numpy as np  # noqa: E402

import emulator  # noqa: E402
from emulator import Integer, engine_c  # noqa: E402

FAMILIES = {
    "f16, Hopper": ("sm_90", "wgmma.m64n64k16.f32.f16.f16"),
    "bf16, Hopper": ("sm_90", "wgmma.m64n64k16.f32.bf16.bf16"),
    "tf32, Hopper": ("sm_90", "wgmma.m64n64k8.f32.tf32.tf32"),
    "f16, Ampere": ("sm_80", "mma.m16n8k16.f32.f16.f16.f32"),
    "f16, Volta": ("sm_70", "mma.m8n8k4.f32.f16.f16.f32"),
    "f16 into f16, Hopper": ("sm_90", "wgmma.m64n64k16.f16.f16.f16"),
    "fp8, Ada": ("sm_89", "mma.m16n8k32.f32.e4m3.e4m3.f32"),
    "fp8, Hopper wgmma": ("sm_90", "wgmma.m64n64k32.f32.e4m3.e4m3"),
    "fp8, Hopper mma.sync": ("sm_90", "mma.m16n8k32.f32.e4m3.e4m3.f32"),
    "fp8, Blackwell": ("sm_100", "tcgen05.mma.m128n64k32.kind::f8f6f4.f32.e4m3.e4m3"),
    "fp6, Blackwell": ("sm_100", "tcgen05.mma.m128n64k32.kind::f8f6f4.f32.e3m2.e3m2"),
    "fp4, Blackwell": ("sm_100", "tcgen05.mma.m128n64k32.kind::f8f6f4.f32.e2m1.e2m1"),
    "mxfp8": ("sm_120", "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0"),
    "mxfp4": ("sm_120", "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0"),
    "nvfp4": ("sm_120", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3"),
    "int8": ("sm_80", "mma.m16n8k32.s32.s8.s8.s32"),
    "int8, satfinite": ("sm_80", "mma.m16n8k32.s32.s8.s8.s32.satfinite"),
    "f64": ("sm_80", "mma.m8n8k4.f64.f64.f64.f64"),
}
ISAS = ("portable", "avx2", "avx512", "avx512fp16")
clock = time.thread_time if THREADS == 1 else time.perf_counter
Row = dict[str, Any]


def operands(ins: emulator.Unit, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Normal numbers, or any integers, of a square product; scales around 1 where it is block scaled."""
    def matrix(fmt: Any) -> np.ndarray:
        if isinstance(fmt, Integer):
            return rng.integers(fmt.min, fmt.max, (size, size), endpoint=True).astype(fmt.name)
        return emulator.convert(rng.standard_normal((size, size)), fmt, overflow="saturate")

    scales = {}
    if ins.block:
        blocks = -(-size // ins.block)
        code = rng.integers(-2, 3, (2, size * blocks)) + (ins.scale.bias << ins.scale.frac_bits)
        scales = {"scale_a": code[0].reshape(size, blocks).astype(np.uint8),
                  "scale_b": code[1].reshape(blocks, size).astype(np.uint8)}
        carrier = emulator.arrays.carriers(ins.scale)[0]
        scales = {name: x.view(carrier) for name, x in scales.items()}
    return matrix(ins.a), matrix(ins.b), scales


def seconds(work: Callable[[], object]) -> float:
    start = clock()
    work()
    return clock() - start


def compare(repeats: int, base: Callable[[], object], work: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of `work`, and the median of its ratio to `base` measured right before it."""
    work()
    times = [(seconds(base), seconds(work)) for _ in range(repeats)]
    return statistics.median(t for _, t in times), statistics.median(t / b for b, t in times)


def engines(isas: tuple[str, ...]) -> Iterator[tuple[str, str, int]]:
    """(label, engine, how much smaller a product it gets), having set the instruction set; the whole is put back."""
    for isa in isas if engine_c.available() else ():
        if engine_c.limit_isa(isa) == isa:
            yield f"c, {isa}", "c", 1
    if engine_c.available():
        engine_c.limit_isa(ISAS[-1])
    if importlib.util.find_spec("numba"):
        yield "numba", "numba", 8


def measure(size: int, repeats: int, families: tuple[str, ...], isas: tuple[str, ...]) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, size, size)).astype(np.float32)
    for engine_label, engine, smaller in engines(isas):
        for family in families:
            ins = emulator.instruction(*FAMILIES[family])
            n = max(64, size // smaller)
            a, b, scales = operands(ins, n, rng)
            work = partial(emulator.matmul, a, b, on=ins, engine=engine, **scales)
            took, ratio = compare(repeats, lambda: x[0] @ x[1], work)
            yield {"family": family, "engine": engine_label, "size": n, "gmacs": n**3 / took / 1e9,
                   "ratio": ratio * (size / n) ** 3, "instruction": str(ins)}


def calls(repeats: int) -> Iterator[tuple[str, float]]:
    """Small calls, in microseconds: what one instruction costs, and a million dot products."""
    ins = emulator.instruction("sm_90", "mma.m16n8k16.f32.f16.f16.f32")
    a, b = np.ones((16, 16), np.float16), np.ones((16, 8), np.float16)

    def median(work: Callable[[], object], count: int) -> float:
        work()
        return statistics.median(seconds(lambda: [work() for _ in range(count)]) for _ in range(repeats)) / count * 1e6

    yield "one mma.m16n8k16 call", median(lambda: ins(a, b), 1000)
    rows = np.ones((1_000_000, 16), np.float16)
    yield "a million rows of 16 in one .dot call", median(lambda: ins.dot(rows, rows), 1)
    if importlib.util.find_spec("mmasim") and importlib.util.find_spec("torch"):
        import mmasim.nv_ptx
        import torch

        model = mmasim.nv_ptx.MMA("Hopper", "m16n8k16.f32.f16.f16.f32")
        tensors = torch.from_numpy(a), torch.from_numpy(b), torch.zeros((16, 8))
        yield "peer: mmasim, the same mma.m16n8k16", median(lambda: model(*tensors), 1)


def peers(size: int, repeats: int) -> Iterator[Row]:
    """What a CPU does when nobody asks for a tensor core's bits."""
    if not importlib.util.find_spec("torch"):
        return
    import torch

    x = np.random.default_rng(0).standard_normal((2, size, size)).astype(np.float32)
    for name in ("float32", "bfloat16", "float16"):
        a, b = (torch.from_numpy(m).to(getattr(torch, name)) for m in x)
        took, ratio = compare(repeats, lambda: x[0] @ x[1], lambda a=a, b=b: a @ b)
        yield {"family": f"torch {name} (not the bits)", "engine": "peer", "size": size, "gmacs": size**3 / took / 1e9,
               "ratio": ratio, "instruction": ""}


def slower(rows: list[Row], old: list[Row], slack: float) -> list[str]:
    """Where a ratio grew beyond `slack` times what it was."""
    before = {(row["family"], row["engine"], row["size"]): row["ratio"] for row in old}
    found = ((row, before.get((row["family"], row["engine"], row["size"]))) for row in rows)
    return [f"{row['family']} on {row['engine']}: {row['ratio']:.2f} x float32, was {was:.2f}"
            for row, was in found if was and row["ratio"] > slack * was]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--size", default=1024, show_default=True, help="M = N = K.")
@click.option("--repeat", default=5, show_default=True, help="Repeats, of which the median counts.")
@click.option("--family", "families", multiple=True, type=click.Choice(list(FAMILIES)),
              help="Repeatable. Default: all.")
@click.option("--isa", "isas", multiple=True, type=click.Choice(ISAS), help="Repeatable. Default: all that are here.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="Compare with an earlier --json file.")
@click.option("--slack", default=1.3, show_default=True, help="How much a ratio may grow against it.")
def main(size: int, repeat: int, families: tuple[str, ...], isas: tuple[str, ...], report: Path | None,
         against: Path | None, slack: float) -> None:
    """Measure the speed of every family of instructions, as multiples of the time of a float32 matmul by numpy."""
    click.echo(f"{size}^3, {THREADS} thread{'s' * (THREADS > 1)}, medians of {repeat}; a MAC is one product\n")
    click.echo(f"{'':32}{'engine':15}{'GMAC/s':>8}{'x float32':>11}")
    rows = []
    for source in (measure(size, repeat, families or tuple(FAMILIES), isas or ISAS), peers(size, repeat)):
        for row in source:
            rows.append(row)
            click.echo(f"{row['family']:32}{row['engine']:15}{row['gmacs']:8.2f}{row['ratio']:11.2f}")
    timed = dict(calls(repeat))
    click.echo("\n" + "\n".join(f"{name:40}{value:12,.0f} us" for name, value in timed.items()))
    if report:
        report.write_text(json.dumps({"threads": THREADS, "rows": rows, "calls": timed}, indent=1) + "\n")
    worse = slower(rows, json.loads(against.read_text())["rows"], slack) if against else []
    if worse:
        sys.exit("slower than before:\n  " + "\n  ".join(worse))


if __name__ == "__main__":
    main()
