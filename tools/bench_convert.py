"""Speed of conversion on one core, beside numpy copying the same input and ml_dtypes doing the same.

    python tools/bench_convert.py [million elements]

Medians of interleaved rounds, in million elements per second; `copy` is numpy.copyto into an array that is there,
`fresh` is x.copy(), which like every conversion returns new memory. A row ends with its ratio to copy and to ml_dtypes.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from emulator import Float, convert
from emulator.arrays import pack

ROUNDS = 9


def cases(x: np.ndarray) -> list[tuple[str, Callable[[], Any], Callable[[], Any] | None]]:
    """(name, ours, ml_dtypes' or None)."""
    wide = x.astype(np.float64)
    bits = np.random.default_rng(1).integers(0, 1 << 16, x.size, np.uint32)
    fp8, half, brain = (x.astype(t) for t in (ml_dtypes.float8_e4m3fn, np.float16, ml_dtypes.bfloat16))
    mine = Float("mine", 6, 5)

    def to(name: str, **choices: Any) -> tuple[str, Callable[[], Any], Callable[[], Any]]:
        return (f"float32 -> {name}" + "".join(f" {choice}" for choice in choices.values()),
                lambda: convert(x, name, **choices), lambda: x.astype(getattr(ml_dtypes, name)))

    return [
        to("float8_e4m3fn"), to("float8_e4m3fn", overflow="saturate"), to("float8_e5m2"), to("float8_e4m3fnuz"),
        to("float8_e8m0fnu", profile="cuda"), to("bfloat16"),
        ("float32 -> float16", lambda: convert(x, "float16"), lambda: x.astype(np.float16)),
        to("float6_e3m2fn"), to("float4_e2m1fn"), to("float4_e2m1fn", nan="max"),
        ("float32 -> e2m1 packed", lambda: pack(convert(x, "e2m1")), lambda: x.astype(ml_dtypes.float4_e2m1fn)),
        ("float32 -> a Float of 12 bits", lambda: convert(x, mine), None),
        ("float32 -> e4m3 rz", lambda: convert(x, "e4m3", "rz"), None),
        ("float32 -> e4m3 sr, bits given", lambda: convert(x, "e4m3", "sr", random=bits, random_bits=16), None),
        ("float32 -> e4m3 sr, seed", lambda: convert(x, "e4m3", "sr", seed=1), None),
        ("float64 -> e4m3", lambda: convert(wide, "e4m3"), lambda: wide.astype(ml_dtypes.float8_e4m3fn)),
        ("float64 -> bfloat16", lambda: convert(wide, "bf16"), lambda: wide.astype(ml_dtypes.bfloat16)),
        ("e4m3 -> float32", lambda: convert(fp8, "f32"), lambda: fp8.astype(np.float32)),
        ("float16 -> float32", lambda: convert(half, "f32"), lambda: half.astype(np.float32)),
        ("bfloat16 -> float32", lambda: convert(brain, "f32"), lambda: brain.astype(np.float32)),
        ("float16 -> e4m3", lambda: convert(half, "e4m3"), lambda: half.astype(ml_dtypes.float8_e4m3fn)),
    ]


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    size = int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 4 << 20
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    there = np.empty_like(x)
    print(f"{size / 1e6:.1f} million elements, median of {ROUNDS}, million elements/s")
    print(f"{'':32} {'ours':>7} {'copy':>7} {'fresh':>7} {'ml_dtypes':>9} {'/copy':>6} {'/ml_dtypes':>10}")
    for name, ours, theirs in cases(x):
        took: dict[str, list[float]] = {"ours": [], "copy": [], "fresh": [], "ml_dtypes": []}
        for _ in range(ROUNDS):
            for what, call in (("ours", ours), ("copy", lambda: np.copyto(there, x)), ("fresh", x.copy),
                               ("ml_dtypes", theirs)):
                if call:
                    start = time.perf_counter()
                    call()
                    took[what].append(time.perf_counter() - start)
        speed = {what: size / statistics.median(times) / 1e6 for what, times in took.items() if times}
        peer = speed.get("ml_dtypes")
        print(f"{name:32} {speed['ours']:7.0f} {speed['copy']:7.0f} {speed['fresh']:7.0f} "
              f"{f'{peer:9.0f}' if peer else '        -'} {speed['ours'] / speed['copy']:6.2f} "
              f"{speed['ours'] / peer if peer else float('nan'):10.1f}")


if __name__ == "__main__":
    main()
