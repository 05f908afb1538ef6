"""The mutation net: move each column of each row one step; some directed or golden vector must object.

What nothing objects to yet is listed in unpinned.txt, which must say exactly what is found here and may only shrink.
`python tests/test_mutation.py > tests/unpinned.txt` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from directed import all_rows, directed

from emulator import ARCHS, engines, golden
from emulator.formats import Float
from emulator.instructions import Instruction, find, generic, golden_root

UNPINNED = Path(__file__).with_name("unpinned.txt")
METHOD_STEP = {"chain": "fp8_through_f16", "fp8_through_f16": "chain", "exact_groups": "chain", "simt_f32": "fma_chain",
               "simt_f16": "simt_f32", "fma_chain": "simt_f32", "xor_popc": "and_popc", "and_popc": "xor_popc",
               "integer": "and_popc", "exact_sums": "flushed_pairs", "flushed_pairs": "exact_sums",
               "cut_then_floor": "even_and_odd", "even_and_odd": "cut_then_floor",
               "digit_chain": "sum_then_c", "sum_then_c": "digit_chain", "two_chains": "odd_then_even", "odd_then_even": "two_chains",
               "odd_pairs": "fused_pairs", "fused_pairs": "odd_pairs", "scaled_sum": "fma_chain", "arm_fma": "power_fma",
               "power_fma": "arm_fma", "power_pairs": "fused_pairs"}

UNROUNDED = ("xor_popc", "and_popc", "integer", "simt_f32", "simt_f16", "two_chains", "odd_then_even", "odd_pairs", "fused_pairs",
             "scaled_sum", "arm_fma", "power_fma", "power_pairs")           # methods that do not read the row's rounding


def mutants(row: Instruction) -> Iterator[tuple[str, Instruction]]:
    """(column, row with that column moved one step), for every column that means something in the row."""
    if row.adder:
        frac = row.adder.frac
        for column, values in (("bus", (row.adder.bus // 2, row.adder.bus * 2)),
                               ("frac", (frac - 1, frac + 1) if frac else (None, None)),         # None: nothing is cut
                               ("carry", (row.adder.carry - 1, row.adder.carry + 1) if frac else (row.adder.carry,) * 2)):
            for name, value in zip((f"{column}-", f"{column}+"), values):
                moved = replace(row, adder=replace(row.adder, **{column: value}))
                unused = (column == "bus" and row.method in ("exact_groups", "fp8_through_f16")        # they count for themselves
                          or column == "carry" and row.method == "sum_then_c" or not moved.terms)
                if not unused and (moved.terms, moved.floor, moved.adder.frac) != (row.terms, row.floor, row.adder.frac):
                    yield name, moved
    if row.method not in UNROUNDED:
        yield "rounding", replace(row, rnd={"rz": "rne", "rne": "rz", "rd": "rz", "ru": "rz"}[row.rounding])
    if row.method == "integer":
        yield "saturate", replace(row, saturate=not row.saturate)
    if not (row.method == "chain" and row.block):
        yield "method", replace(row, method=METHOD_STEP[row.method])
    for operand in ("a", "b", "c", "d", "scale"):
        fmt = getattr(row, operand)
        if isinstance(fmt, Float):
            yield f"{operand}.bias", replace(row, **{operand: replace(fmt, bias=fmt.bias + 1)})
            if operand != "d" and fmt.specials in ("ieee", "fn", "fnuz"):
                yield f"{operand}.specials", replace(row, **{operand: replace(fmt, specials="finite")})
            if fmt.low_pad:
                yield f"{operand}.low_pad", replace(row, **{operand: replace(fmt, low_pad=0, frac_bits=fmt.frac_bits + fmt.low_pad)})
        elif fmt is not None and fmt.bits > 1 and operand in "ab":
            yield f"{operand}.signed", replace(row, **{operand: replace(fmt, signed=not fmt.signed)})


def batches(row: Instruction) -> Iterator[tuple]:
    """The row's vectors as (a, b, c, scale_a, scale_b, d) of codes, a batch of rows at a time: directed, then golden."""
    vectors = directed(row)
    scaled = bool(row.block)
    kinds = (row.a, row.b, row.c, row.scale, row.scale, row.d)
    columns = zip(*((v.a, v.b, v.c, v.scale_a, v.scale_b, v.want) for v in vectors))
    a, b, c, sa, sb, d = (np.array(x, fmt.code_dtype) if fmt else None for x, fmt in zip(columns, kinds))
    yield (a[:, None], b[:, None], c[:, None, None], sa[:, None] if scaled else None, sb[:, None] if scaled else None,
           d[:, None, None])
    for vectors in golden_vectors().get((row.arch, generic(row.name)), ()):
        places = np.arange(min(vectors.d.size, 500))
        a, b, c, sa, sb = vectors.dots(places)
        a, b = (np.pad(x, ((0, 0), (0, row.k - x.shape[1]))) for x in (a, b))
        yield (a[:, None], b[:, None], c[:, None, None], None if sa is None else sa[:, None],
               None if sb is None else sb[:, None], vectors.d.flat[places][:, None, None])


@cache
def golden_vectors() -> dict[tuple[str, str], list[golden.Vectors]]:
    """The vectors in golden/ by architecture and generic instruction name."""
    found: dict[tuple[str, str], list[golden.Vectors]] = {}
    for folder in golden.folders(golden_root()):
        for each in golden.read(folder):
            found.setdefault((each.unit.arch, generic(each.unit.name)), []).append(each.load())
    return found


def objects(batches: list[tuple], moved: Instruction) -> bool:
    """Does some vector tell the moved row apart?"""
    run = engines.choose("exact")           # the fast engines refuse rows that no machine could have
    for *operands, want in batches:
        got = np.empty_like(want)
        run(moved, *operands, got)
        if (got != want).any():
            return True
    return False


_SEEN: dict = {}


def unpinned(row: Instruction) -> list[str]:
    """The columns of a row that nothing objects to. Rows with the same arithmetic and vectors share one answer."""
    vectors = list(batches(row))
    arithmetic = replace(row, arch="", name="", m=0, n=0, sources=(), recorded="", note="")
    key = arithmetic, b"".join(x.tobytes() for batch in vectors for x in batch if x is not None)
    if key not in _SEEN:
        _SEEN[key] = [column for column, moved in mutants(row) if not objects(vectors, moved)]
    return _SEEN[key]


def unpinned_lines(arch: str) -> list[str]:
    return [f"{row} {column}" for row in all_rows() if row.arch == arch for column in unpinned(row)]


@pytest.mark.parametrize("arch", ARCHS)
def test_every_column_is_pinned_or_listed(arch):
    found = unpinned_lines(arch)
    listed = [line for line in UNPINNED.read_text().splitlines() if line.startswith(f"{arch} ")]
    assert not sorted(set(found) - set(listed)), "nothing pins these columns any more"
    assert not sorted(set(listed) - set(found)), "these are pinned now: take them off the list"


@pytest.mark.parametrize("row", [find("sm_90", "mma.m16n8k16.f32.f16.f16.f32"), find("sm_80", "mma.m16n8k16.f32.bf16.bf16.f32")], ids=str)
def test_the_net_catches_and_the_row_passes(row):
    """The net itself: the row agrees with its vectors, and each adder column moved is caught."""
    assert not objects(list(batches(row)), row)
    assert not {"bus-", "frac-", "frac+", "rounding", "method"} & set(unpinned(row))


if __name__ == "__main__":
    print("\n".join(line for arch in ARCHS for line in unpinned_lines(arch)))
