"""How fast is it: every family of rows on every engine, as ratios to numpy's float32 matmul, measured side by side.

    make bench                          (or: emulator bench, python tools/bench.py)
    emulator bench --json new.json --against old.json       exit status 1 where a ratio grew by more than --slack

A repeat measures float32 and the emulator one after the other, and gives one ratio; the table shows medians over the
repeats. EMULATOR_THREADS (default 1) holds for both: CPU time of the one thread, or wall time of many. The last column
says how many times faster the GPU is that the row is named after, at the peak that its maker documents. Products beyond
2048^3 are measured once, in slabs of rows, with a progress bar on a terminal.
"""

from __future__ import annotations

import os

THREADS = int(os.environ.setdefault("EMULATOR_THREADS", "1"))
for _library in ("OPENBLAS", "OMP", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = str(THREADS)            # read when numpy, torch, numba are first imported

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
from tqdm import tqdm  # noqa: E402

import emulator  # noqa: E402
from emulator import Integer, engine_c  # noqa: E402

# family: architecture, instruction, and the dense peak in 1e12 operations a second (a MAC is two) of V100 SXM2, A100,
# L40S, H100 SXM, B200 and RTX 5090 (with F32 sums), by NVIDIA's data sheets and the RTX Blackwell architecture paper.
FAMILIES = {
    "f16, Hopper": ("sm_90", "wgmma.m64n64k16.f32.f16.f16", 989),
    "bf16, Hopper": ("sm_90", "wgmma.m64n64k16.f32.bf16.bf16", 989),
    "tf32, Hopper": ("sm_90", "wgmma.m64n64k8.f32.tf32.tf32", 495),
    "f16, Ampere": ("sm_80", "mma.m16n8k16.f32.f16.f16.f32", 312),
    "f16, Volta": ("sm_70", "mma.m8n8k4.f32.f16.f16.f32", 125),
    "f16 into f16, Hopper": ("sm_90", "wgmma.m64n64k16.f16.f16.f16", 989),
    "fp8, Ada": ("sm_89", "mma.m16n8k32.f32.e4m3.e4m3.f32", 733),
    "fp8, Hopper wgmma": ("sm_90", "wgmma.m64n64k32.f32.e4m3.e4m3", 1979),
    "fp8, Hopper mma.sync": ("sm_90", "mma.m16n8k32.f32.e4m3.e4m3.f32", None),
    "fp8, Blackwell": ("sm_100", "tcgen05.mma.m128n64k32.kind::f8f6f4.f32.e4m3.e4m3", 4500),
    "fp6, Blackwell": ("sm_100", "tcgen05.mma.m128n64k32.kind::f8f6f4.f32.e3m2.e3m2", 4500),
    "fp4, Blackwell": ("sm_100", "tcgen05.mma.m128n64k32.kind::f8f6f4.f32.e2m1.e2m1", 4500),
    "mxfp8": ("sm_120", "mma.m16n8k32.kind::mxf8f6f4.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0", 419),
    "mxfp4": ("sm_120", "mma.m16n8k64.kind::mxf4.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0", 1676),
    "nvfp4": ("sm_120", "mma.m16n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3", 1676),
    "int8": ("sm_80", "mma.m16n8k32.s32.s8.s8.s32", 624),
    "int8, satfinite": ("sm_80", "mma.m16n8k32.s32.s8.s8.s32.satfinite", 624),
    "f64": ("sm_80", "mma.m8n8k4.f64.f64.f64.f64", 19.5),
}
ISAS = ("portable", "avx2", "avx512", "avx512fp16")
LARGE, SLAB = 2048, 1024            # beyond the one, the other's rows at a time
clock = time.process_time if THREADS == 1 else time.perf_counter
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
        yield "numba", "numba", 2


def measure(size: int, repeats: int, families: tuple[str, ...], isas: tuple[str, ...]) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    for label, engine, smaller in engines(isas):
        for family in families:
            *name, peak = FAMILIES[family]
            ins = emulator.instruction(*name)
            n = max(64, size // smaller)
            a, b, scales = operands(ins, n, rng)
            x = rng.standard_normal((2, min(n, LARGE), min(n, LARGE))).astype(np.float32)
            work = partial(emulator.matmul, a, b, on=ins, engine=engine, **scales)
            if n > LARGE:
                took = seconds(partial(slabs, ins, a, b, scales, engine, family))
                ratio = took / seconds(lambda x=x: x[0] @ x[1])
            else:
                took, ratio = compare(repeats, lambda x=x: x[0] @ x[1], work)
            speed = n**3 / took / 1e9
            yield {"family": family, "engine": label, "size": n, "gmacs": speed,
                   "ratio": ratio * (x.shape[1] / n) ** 3, "instruction": str(ins),
                   "gpu": peak and peak * 500 / speed}


def slabs(ins: emulator.Unit, a: np.ndarray, b: np.ndarray, scales: dict[str, Any], engine: str, what: str) -> None:
    """The product, SLAB rows of A at a time: what is left shows on a terminal."""
    for i in tqdm(range(0, len(a), SLAB), desc=what, unit="slab", disable=None, leave=False):
        part = {name: x[i:i + SLAB] if name == "scale_a" else x for name, x in scales.items()}
        emulator.matmul(a[i:i + SLAB], b, on=ins, engine=engine, **part)


def scaling(repeats: int) -> Iterator[tuple[str, float]]:
    """How the C engine's speed changes with threads and size: ratios of medians, wall time, best instruction set."""
    if not engine_c.available():
        return
    ins = emulator.instruction(*FAMILIES["f16, Hopper"][:2])
    rng = np.random.default_rng(0)
    large, small = (operands(ins, n, rng)[:2] for n in (1024, 128))

    def took(given: tuple, threads: int, times: int = 1) -> float:        # as long for all sizes: clocks change
        stamps = [time.perf_counter()]
        for _ in range(times):
            emulator.matmul(*given, on=ins, engine="c", threads=threads)
            stamps.append(time.perf_counter())
        return statistics.median(np.diff(stamps))

    took(large, 2)
    found = [(took(large, 1, 3), took(large, 2, 3), took(small, 1, 500)) for _ in range(repeats)]
    yield "two threads, times as fast as one", statistics.median(one / two for one, two, _ in found)
    yield "rate of 128^3 by that of 1024^3", statistics.median(one / 512 / tiny for one, _, tiny in found)


def calls(repeats: int, count: int) -> Iterator[tuple[str, float]]:
    """Small calls, in microseconds: what one instruction costs, and `count` dot products."""
    ins = emulator.instruction("sm_90", "mma.m16n8k16.f32.f16.f16.f32")
    a, b, c = np.ones((16, 16), np.float16), np.ones((16, 8), np.float16), np.ones((16, 8), np.float32)

    def median(work: Callable[[], object], times: int) -> float:
        work()
        return statistics.median(seconds(lambda: [work() for _ in range(times)]) for _ in range(repeats)) / times * 1e6

    yield "numpy: a 16 x 16 float32 matmul", median(partial(np.matmul, *np.ones((2, 16, 16), np.float32)), 1000)
    yield "one mma.m16n8k16 call", median(lambda: ins(a, b, c), 1000)
    for k, name in ((16, "mma.m16n8k16.f32.f16.f16.f32"), (32, "wgmma.m64n8k32.f32.e4m3.e4m3")):
        unit = emulator.instruction("sm_90", name)
        rows = np.ones((count, k), emulator.arrays.carriers(unit.a)[0])
        yield f"{count:,} rows of {k} ({unit.a}) in a .dot call", median(lambda u=unit, x=rows: u.dot(x, x), 1)
    if importlib.util.find_spec("mmasim") and importlib.util.find_spec("torch"):
        import mmasim.nv_ptx
        import torch

        model = mmasim.nv_ptx.MMA("Hopper", "m16n8k16.f32.f16.f16.f32")
        tensors = torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(c)
        yield "peer: mmasim, the same mma.m16n8k16", median(lambda: model(*tensors), 1)


def peers(size: int, repeats: int) -> Iterator[Row]:
    """Programs that compute the same bits, where they are installed, and torch, which does not."""
    if not importlib.util.find_spec("torch"):
        return
    import torch

    torch.set_num_threads(THREADS)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, size, size)).astype(np.float32)

    def row(family: str, n: int, work: Callable[[], object], same: str = "") -> Row:
        took, ratio = compare(repeats, lambda: x[0] @ x[1], work)
        return {"family": family, "engine": "peer", "size": n, "gmacs": n**3 / took / 1e9,
                "ratio": ratio * (size / n) ** 3, "instruction": "", "gpu": None, "same": same}

    if importlib.util.find_spec("mmaemu"):
        import mmaemu

        n = min(size, 256)
        a, b = (torch.from_numpy(m[:n, :n].copy()).to(torch.float8_e4m3fn) for m in x)
        yield row("mmaemu", n, lambda: mmaemu.accumulate(a, b, use_fast_accum=True, splitk=1), "fp8, Hopper wgmma")
    if importlib.util.find_spec("mmasim"):
        import mmasim.nv_ptx

        model = mmasim.nv_ptx.MMA("Hopper", "m16n8k16.f32.f16.f16.f32")
        tile = torch.zeros(16, 16, dtype=torch.float16), torch.zeros(16, 8, dtype=torch.float16), torch.zeros(16, 8)
        yield row("mmasim, tile by tile", 16, lambda: [model(*tile), model(*tile)], "f16, Hopper")
    for name in ("float32", "bfloat16", "float16"):
        a, b = (torch.from_numpy(m).to(getattr(torch, name)) for m in x)
        yield row(f"torch {name} (not the bits)", size, lambda a=a, b=b: a @ b)


def against_peers(rows: list[Row]) -> Iterator[tuple[str, float]]:
    """The best engine's throughput over the fastest peer's, where one computes the same bits."""
    for family in dict.fromkeys(row["same"] for row in rows if row.get("same")):
        ours = max((row["gmacs"] for row in rows if row["family"] == family), default=0)
        peer = max((row for row in rows if row.get("same") == family), key=lambda row: row["gmacs"])
        if ours:
            yield f"{family}, times the throughput of {peer['family']}", ours / peer["gmacs"]


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
    click.echo(f"{'':32}{'engine':15}{'size':>6}{'GMAC/s':>8}{'x float32':>11}{'its GPU':>11}")
    rows = []
    for source in (measure(size, repeat, families or tuple(FAMILIES), isas or ISAS), peers(min(size, LARGE), repeat)):
        for row in source:
            rows.append(row)
            gpu = f"{row['gpu']:9,.0f} x" if row["gpu"] else ""
            click.echo(f"{row['family']:32}{row['engine']:15}{row['size']:6}{row['gmacs']:8.2f}{row['ratio']:11.2f}{gpu:>11}")
    ratios = {**(dict(scaling(repeat)) if size >= 1024 else {}), **dict(against_peers(rows))}
    timed = dict(calls(repeat, min(size * 1000, 1_000_000)))
    click.echo("\n" + "\n".join(f"{name:64}{value:12,.2f}" for name, value in ratios.items()))
    click.echo("\n" + "\n".join(f"{name:64}{value:12,.1f} us" for name, value in timed.items()))
    if report:
        made = {"threads": THREADS, "rows": rows, "ratios": ratios, "calls": timed}
        report.write_text(json.dumps(made, indent=1) + "\n")
    worse = slower(rows, json.loads(against.read_text())["rows"], slack) if against else []
    if worse:
        sys.exit("slower than before:\n  " + "\n  ".join(worse))


if __name__ == "__main__":
    main()
