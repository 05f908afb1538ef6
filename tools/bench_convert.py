"""Speed of conversion and quantisation on one core, beside numpy copying the same input, ml_dtypes, torch and
microxcaling (github.com/microsoft/microxcaling, where `import mx` finds it; it returns numbers, not codes).

    emulator bench convert [--size MILLIONS] [--repeat N] [--json FILE]      (or: python tools/bench_convert.py)

A round measures each row's candidates one after the other; figures are medians over the rounds, in million elements per
second of the input. `copy` is numpy.copyto into an array that is there; everything else makes new memory. `/copy` and
`/peer` are ours over it and over the fastest peer; `goal` is what the row is held to, where it is, as a rate or, where
memory is too slow for that, as half of copy. At the end a few rows on two cores, over one; copying shows what the
memory allows there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import ml_dtypes
import numpy as np
from tqdm import tqdm

from emulator import Float, convert, quantize
from emulator.arrays import pack
from emulator.threads import spread

Call = Callable[[], Any]


def cases(x: np.ndarray, with_torch: bool) -> list[tuple[str, int, Call, dict[str, Call]]]:
    """(name, goal or 0, ours, peers)."""
    wide = x.astype(np.float64)
    bits = np.random.default_rng(1).integers(0, 1 << 16, x.shape, np.uint32)
    fp8, half, brain = (x.astype(t) for t in (ml_dtypes.float8_e4m3fn, np.float16, ml_dtypes.bfloat16))
    mine = Float("mine", 6, 5)
    torch: Any = __import__("torch") if with_torch and importlib.util.find_spec("torch") else None
    if torch:
        torch.set_num_threads(1)

    def cast(source: np.ndarray, name: str) -> dict[str, Call]:
        kind = getattr(ml_dtypes, name, None) or np.dtype(name)
        peers: dict[str, Call] = {"ml_dtypes": lambda: source.astype(kind)}
        if torch and hasattr(torch, name) and source.dtype.name in ("float32", "float64", "float16"):
            tensor, to = torch.from_numpy(source), getattr(torch, name)
            peers["torch"] = lambda: tensor.to(to)
        return peers

    def to(name: str, goal: int, source: np.ndarray = x, **choices: Any) -> tuple[str, int, Call, dict[str, Call]]:
        said = "".join(f" {choice}" for choice in choices.values())
        return f"{source.dtype} -> {name}{said}", goal, lambda: convert(source, name, **choices), cast(source, name)

    def blocks(scheme: str, goal: int, **options: Any) -> tuple[str, int, Call, dict[str, Call]]:
        said = "".join(f" {option}" for option in options.values())
        return f"float32 -> {scheme}{said}, packed", goal, lambda: quantize(x, scheme, **options).packed, mx(scheme)

    def mx(scheme: str) -> dict[str, Call]:
        element = scheme.removeprefix("mx")
        if not torch or scheme == "nvfp4" or not importlib.util.find_spec("mx"):
            return {}
        ops, specs = importlib.import_module("mx.mx_ops"), importlib.import_module("mx.specs").get_default_mx_specs()
        return {"mx": lambda: ops.quantize_mx_op(torch.from_numpy(x), specs, element, 32, [-1], "even")}

    def in_cache(name: str) -> tuple[str, int, Call, dict[str, Call]]:
        def again(call: Call) -> Call:
            return lambda: deque((call() for _ in range(16)), 0)        # as many in all, each into the same memory

        small = x[:len(x) // 16]
        return (f"float32 -> {name}, in cache", 0, again(lambda: convert(small, name)),
                {peer: again(call) for peer, call in cast(small, name).items()})

    sr: dict[str, Any] = {"rounding": "sr", "random": bits, "random_bits": 16}
    return [
        to("float8_e4m3fn", 1000), to("float8_e4m3fn", 1000, overflow="saturate"), to("float8_e5m2", 1000),
        to("float8_e4m3fnuz", 1000), to("float8_e8m0fnu", 0, profile="cuda"), to("bfloat16", 0),
        in_cache("bfloat16"), to("float16", 0), to("float6_e3m2fn", 0), to("float4_e2m1fn", 0),
        ("float32 -> e2m1, packed", 800, lambda: pack(convert(x, "e2m1")), cast(x, "float4_e2m1fn")),
        ("float32 -> a Float of 12 bits", 450, lambda: convert(x, mine), {}),
        ("float32 -> e4m3 rz", 0, lambda: convert(x, "e4m3", "rz"), {}),
        ("float32 -> e4m3 sr, bits given", 300, lambda: convert(x, "e4m3", **sr), {}),
        ("float32 -> e4m3 sr, seed", 0, lambda: convert(x, "e4m3", "sr", seed=1), {}),
        to("float8_e4m3fn", 500, wide), to("bfloat16", 500, wide),
        to("float32", 1000, fp8), to("float32", 1000, half), to("float32", 1000, brain), to("float8_e4m3fn", 0, half),
        blocks("mxfp4", 400), blocks("mxfp4", 400, rule="rceil"), blocks("mxfp8_e4m3", 0), blocks("mxfp6_e2m3", 0),
        blocks("nvfp4", 300), blocks("nvfp4", 0, mode="te"), blocks("nvfp4", 0, block=(16, 16)),
        *((f"float32 -> {each} -> float32", 0, lambda each=each: quantize(x, each).dequantize(), mx(each))
          for each in ("mxfp4", "mxfp8_e4m3")),
        *((f"{each} -> float32", 0, quantize(x, each).dequantize, {})
          for each in ("mxfp4", "mxfp8_e4m3", "nvfp4", "int8")),
    ]


def measure(calls: dict[str, Call], repeats: int) -> dict[str, float]:
    """Median seconds of each, interleaved."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--size", default=4.0, show_default=True, help="Million elements.")
@click.option("--repeat", default=9, show_default=True, help="Rounds, of which the median counts.")
@click.option("--torch/--no-torch", "with_torch", default=True, help="Beside torch, where it is installed.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to this file.")
def main(size: float, repeat: int, with_torch: bool, report: Path | None) -> None:
    """Measure the speed of conversion and quantisation beside numpy's copy, ml_dtypes, torch and microxcaling."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    columns = 1024
    x = np.random.default_rng(0).standard_normal((max(16, round(size * 1e6 / columns)), columns)).astype(np.float32)
    there = np.empty_like(x)
    table, rows, two_cores = cases(x, with_torch), [], {}
    if cores:
        os.sched_setaffinity(0, {cores[-1]})
    click.echo(f"{x.size / 1e6:.1f} million elements on one core, medians of {repeat}, million elements/s")
    click.echo(f"{'':44} {'ours':>6} {'copy':>6} {'peer':>6}           {'/copy':>6} {'/peer':>6}   goal")
    for name, goal, ours, peers in tqdm(table, leave=False, disable=None):
        took = measure({"ours": ours, "copy": lambda: np.copyto(there, x), **peers}, repeat)
        speed = {what: x.size / seconds / 1e6 for what, seconds in took.items()}
        peer = max(peers, key=lambda what: speed[what], default="")
        met = not goal or speed["ours"] >= goal or speed["ours"] >= speed["copy"] / 2
        rows.append({"name": name, "goal": goal, "met": met, **{what: round(rate, 1) for what, rate in speed.items()}})
        tqdm.write(f"{name:44} {speed['ours']:6.0f} {speed['copy']:6.0f} "
                   + (f"{speed[peer]:6.0f} {peer:9}" if peer else f"{'-':>6} {'':9}")
                   + f" {speed['ours'] / speed['copy']:6.2f} "
                   + (f"{speed['ours'] / speed[peer]:6.1f}" if peer else " " * 6)
                   + (f" {goal:6}{'' if met else ' MISSED'}" if goal else ""))
    if len(cores) > 1:
        click.echo("two cores over one:")
        halves = [slice(0, len(x) // 2), slice(len(x) // 2, None)]
        copy = "numpy's copy, in halves", 1000, lambda: spread(lambda part: np.copyto(there[part], x[part]), halves), {}
        for name, goal, ours, _ in (copy, *table):
            if goal in (300, 400, 800, 1000) and "e5m2" not in name:
                one = measure({"ours": ours}, repeat)["ours"]
                os.sched_setaffinity(0, set(cores[-2:]))
                two = measure({"ours": ours}, repeat)["ours"]
                os.sched_setaffinity(0, {cores[-1]})
                click.echo(f"{name:44} {one / two:6.2f}")
                two_cores[name] = round(one / two, 3)
    if report:
        report.write_text(json.dumps({"elements": x.size, "rows": rows, "two_cores": two_cores}, indent=1) + "\n")


if __name__ == "__main__":
    main()
