"""Special values and directed vectors of every row: hand-derived results, on the specification."""

import random

import pytest
from directed import all_rows, directed

from emulator import exact
from emulator.formats import Float


@pytest.mark.parametrize("row", all_rows(), ids=str)
def test_directed_vectors(row):
    vectors = directed(row)
    assert len(vectors) >= 3
    wrong = [f"{v.why}: got {got:#x}, want {v.want:#x}" for v in vectors
             if (got := exact.dot(row, v.a, v.b, v.c, v.scale_a, v.scale_b)) != v.want]
    assert not wrong


@pytest.mark.parametrize("row", [row for row in all_rows() if not isinstance(row.d, Float)], ids=str)
def test_integer_rows_are_plain_arithmetic(row):
    """Random codes against Python: the sum of products and C, modulo 2**32 or clamped."""
    rng = random.Random(5)
    for c in (0, 0x7FFFFFFF, 0x80000000, rng.getrandbits(32)):
        a, b = ([rng.getrandbits(f.bits) for _ in range(row.k)] for f in (row.a, row.b))
        signed = [[x - (1 << f.bits) if f.signed and x >> (f.bits - 1) else x for x in xs]
                  for f, xs in ((row.a, a), (row.b, b))]
        total = (c ^ 1 << 31) - (1 << 31)
        total += sum(x ^ y for x, y in zip(a, b)) if "xor" in row.name else sum(x * y for x, y in zip(*signed))
        clamped = row.name.endswith((".satfinite", "ds"))           # PTX; Intel: vpdpbusds, vpdpwssds
        want = min(max(total, -1 << 31), (1 << 31) - 1) if clamped else total
        assert exact.dot(row, a, b, c) == want % (1 << 32)
