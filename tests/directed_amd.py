"""Directed vectors for AMD's matrix instructions, with results derived by hand from the rules of MMA-Sim (arXiv 2511.10909
and mmasim 2.1.1); where sources contradict, a vector decides between them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from directed import Vector, _ffma, _specials, code, spread, vector

from emulator.instructions import Instruction

INF, NAN, MINUS = 0x7F800000, 0x7FFFFFFF, 1 << 31
GROUPS = {"gfx908": {"float16": 4, "bfloat16": 2}, "gfx90a": {"float16": 4, "bfloat16": 2},          # arXiv 2511.10909
          "gfx942": {"float16": 8, "bfloat16": 8, "tfloat32": 4, "float8_e4m3fnuz": 16, "float8_e5m2fnuz": 16}}


def vectors(row: Instruction) -> Iterator[Vector]:
    if row.method == "fma_chain":
        yield from _fma(row) if row.k > 1 else _ffma(row)
        return
    yield from _specials(row)
    yield from _groups(row)
    yield from {"exact_sums": _exact, "flushed_pairs": _flushed}.get(row.method, _floored)(row)


def two(e: int) -> Fraction:
    return Fraction(2) ** e


def products(row: Instruction, exponents: dict[int, int | tuple[int, int]]) -> dict[int, tuple[Fraction, Fraction]]:
    """{k: e} for a product 2**e, or {k: (factor, e)} for factor * 2**e."""
    found = {}
    for k, e in exponents.items():
        factor, e = e if isinstance(e, tuple) else (1, e)
        x, y = spread(row, e)
        found[k] = factor * x, y
    return found


def group(row: Instruction) -> int:
    return min(row.k, 4 if row.name.endswith("1k") else GROUPS[row.arch][row.a.name])


def _fma(row: Instruction) -> Iterator[Vector]:
    """F32: one fma after another, ascending k; IEEE 754-2019."""
    yield from _specials(row)
    last, c = row.k - 1, code(row.d, 2 ** 24)
    yield vector(row, "each k is rounded", c, {0: (1, 1), last: (1, 1)}, c)
    yield vector(row, "to nearest", c + 2, {last: (3, 1)}, c)
    yield vector(row, "ascending", 0, {0: (1, 1), last: (-2 ** 12, 2 ** 12)}, c)
    yield vector(row, "the product is not rounded", code(row.d, two(-46)), {0: (1 + two(-23), 1 + two(-23))}, code(row.d, -1 - two(-22)))
    yield vector(row, "subnormals are kept", 1, {0: (two(-100), two(-49))})
    yield vector(row, "subnormal operands too", code(row.d, two(-49)), {last: (("code", 1), two(100))})
    yield vector(row, "an infinity made on the way stays", INF, {0: (two(64), two(64)), last: (-two(64), two(64))})


def _groups(row: Instruction) -> Iterator[Vector]:
    """What the three generations share: groups of consecutive k, each of which ends in one rounding, to nearest.

    C is 2**14, of last bit 2**-9, and 2**-10 is half of that.
    """
    c, size = code(row.d, 2 ** 14), group(row)
    yield vector(row, "a tie, to even", c, products(row, {0: -10}), c)
    yield vector(row, "a tie, to even, up", c + 2, products(row, {0: -10}), c + 1)
    yield vector(row, "three quarters go up", c + 1, products(row, {0: (3, -11)}), c)
    for ks in ((size - 2, size - 1), (size // 2 - 1, size // 2)):
        yield vector(row, "two halves of one group make a unit", c + 1, products(row, dict.fromkeys(ks, -10)), c)
    if row.k > size:
        yield vector(row, "in two groups they are two ties", c, products(row, dict.fromkeys((size - 1, size), -10)), c)
        yield vector(row, "groups ascend", 0, products(row, {0: -10, row.k - 1: (-1, 14)}), c)
    for sign in (0, MINUS):
        for c in (0x00800000, 0x3F8003FF, 0x7F7FFFFF, 0x33333333):
            yield vector(row, "C passes through", c | sign, {}, c | sign)


def _exact(row: Instruction) -> Iterator[Vector]:
    """CDNA1: one sum without error (Li et al., arXiv 2403.00232, agree; MMA-Sim of January 2026 rounds pairs)."""
    c, top = code(row.d, 2 ** 14), 30
    yield vector(row, "no product is rounded against another", 0x35800000, products(row, {0: 25, 1: -20}), code(row.d, -two(25)))
    if group(row) == 4:
        yield vector(row, "MMA-Sim of January 2026 has 0x30800000", 0x35802000, products(row, {0: 25, 1: -20, 2: (-1, 25)}), code(row.d, two(-30)))
        yield vector(row, "78 places apart", code(row.d, two(-48)), products(row, {0: top, 1: (-1, top), 3: -48}))
    yield vector(row, "a hair above the tie", c + 1, products(row, {0: -10, 1: -40}), c)
    yield vector(row, "a hair below", c, products(row, {0: -10, 1: (-1, -40)}), c)
    yield vector(row, "below zero too", (c | MINUS) + 1, products(row, {0: (-1, -10), 1: (-1, -40)}), c | MINUS)
    yield vector(row, "the smallest C beside the largest products", 1, products(row, {0: top, 1: (-1, top)}), 1)
    yield vector(row, "and below zero", 1 | MINUS, products(row, {0: top, 1: (-1, top)}), 1 | MINUS)
    yield vector(row, "subnormal operands are kept", code(row.d, two(row.a.emin - row.a.frac_bits)), {1: (("code", 1), 1)})
    yield vector(row, "subnormal C", 0x80000005, {}, 0x80000005)
    if row.a.emax == 127:
        yield vector(row, "products beyond the range of F32 cancel", 1, products(row, {0: 254, 1: (-1, 254)}), 1)
        yield vector(row, "or are infinite", INF, products(row, {1: 128}))
        yield vector(row, "a quarter above the largest", 0x7F7FFFFF, products(row, {0: 102}), 0x7F7FFFFF)
        yield vector(row, "half above it", INF | MINUS, products(row, {0: (-1, 103)}), 0xFF7FFFFF)
        yield vector(row, "half of the smallest, to even", 0, products(row, {1: -150}))
        yield vector(row, "is rounded, so it has a sign", MINUS, products(row, {row.k - 1: (-1, -150)}))
        yield vector(row, "half of the smallest and a hair", 1, products(row, {0: -150, 1: -260}))


def _flushed(row: Instruction) -> Iterator[Vector]:
    """CDNA2: rounded products and sums, flushed (AMD, ROCm documentation of MI200's MFMA); (p0 + p1) + (p2 + p3) + C."""
    last, size, tiny = row.k - 1, group(row), ("code", row.a.sign | 1)
    yield vector(row, "a subnormal A counts as zero", 0, {0: (tiny, 8)})
    yield vector(row, "a subnormal B", 0, {last: (8, tiny)})
    yield vector(row, "even beside an infinity", NAN, {0: (tiny, ("code", row.b.inf_code))})
    yield vector(row, "the smallest normal operand is kept", code(row.d, two(row.a.emin)), {0: (two(row.a.emin), 1)})
    for c in (1, 0x007FFFFF, 0x807FFFFF):
        yield vector(row, "a subnormal C", 0, {}, c)
    yield vector(row, "products are added first, and rounded", 0, products(row, {0: 24, 1: 0}), code(row.d, -two(24)))
    if size == 4:
        yield vector(row, "MMA-Sim's exact sum (CDNA1) has 0x35802000", 0x30800000, products(row, {0: 25, 1: -20, 2: (-1, 25)}), code(row.d, two(-30)))
        yield vector(row, "p0 and p1 are neighbours", code(row.d, 1), products(row, {0: 24, 1: (-1, 24), 2: 0}))
        yield vector(row, "p2 and p3 too", code(row.d, 1), products(row, {2: 24, 3: (-1, 24), 0: 0}))
        yield vector(row, "a tree, no chain", code(row.d, 2 ** 24) + 1, products(row, {0: 24, 1: 0, 2: 0, 3: 0}))
    if row.a.emax == 127:
        yield vector(row, "a subnormal product is flushed", 0, products(row, {0: -127}))
        yield vector(row, "a normal one is not", 0x00800000, products(row, {0: -126}))
        yield vector(row, "a subnormal sum of products", 0, products(row, {0: (3, -127), 1: (-1, -126)}), 0)
        yield vector(row, "a subnormal sum with C keeps its sign", MINUS, products(row, {last: -126}), 0x80C00000)
        yield vector(row, "an infinite product", NAN, products(row, {0: 128, 1: (-1, 128)}))


def _floored(row: Instruction) -> Iterator[Vector]:
    """CDNA3: cut, floored, floored again, rounded to nearest; FP8 in an even and an odd half.

    C is 2**13 where it is large: one fraction bit of 24 is 2**-11, of 32 is 2**-19.
    """
    halves = row.method == "even_and_odd"
    p, q, r = (0, 2, 4) if halves else (0, 1, 2)            # of one sum
    c, subnormal = code(row.d, 2 ** 13), row.a.emin - row.a.frac_bits
    yield vector(row, "24 bits below the largest product are kept", code(row.d, two(-10)), products(row, {p: 14, q: (-1, 14), r: -10}))
    yield vector(row, "the next is cut", 0, products(row, {p: 14, q: (-1, 14), r: -11}))
    yield vector(row, "toward zero", 0, products(row, {p: 14, q: (-1, 14), r: (-1, -11)}))
    yield vector(row, "the sum of products is floored beside C", c - 1, products(row, {p: (-1, -12), q: (-1, -20)}), c)
    yield vector(row, "MMA-Sim of January 2026 rounds 31 bits of it to 2**13 - 2**-10", c - 1, products(row, {p: (-3, -12), q: -19}), c)
    yield vector(row, "31 bits of the normalised sum are kept", c + 1, products(row, {p: -11, q: -18}), c)
    yield vector(row, "the 32nd is floored", c, products(row, {p: -11, q: -19}), c)
    for tiny, far in ((-12, False), (-13, True), (-40, True)):
        lost = halves and far
        yield vector(row, "a C below 24 bits is floored" + " but for FP8, 26 places down" * halves, c if lost else c - 1,
                     products(row, {0: 13}), code(row.d, -two(tiny)))
        yield vector(row, "a positive one is lost", c, products(row, {0: 13}), code(row.d, two(tiny - 1)))
    yield vector(row, "a zero product has no exponent (MMA-Sim of January 2026: -126 and its partner's)", 1, {0: (0, two(7))}, 1)
    odd = products(row, {0: 14, 2: (-1, 14), 1: (-1, -20)})
    yield vector(row, "odd k are a sum of their own, floored" if halves else "one sum, cut", code(row.d, -two(-10)) if halves else 0, odd)
    odd = products(row, {1: 14, 3: (-1, 14), 2: (-1, -20)})
    yield vector(row, "even k too" if halves else "one sum, cut", code(row.d, -two(-10)) if halves else 0, odd)
    yield vector(row, "subnormal operands are kept", code(row.d, two(subnormal)), {1: (("code", 1 << row.a.low_pad), 1)})
    yield vector(row, "subnormal C", 0x80000005, {}, 0x80000005)
    if row.a.emax == 127:
        yield vector(row, "a product of 2**128 is infinite before the sum", NAN, products(row, {0: 128, 1: (-1, 128)}))
        yield vector(row, "with its sign (not in MATLAB-tensor-core)", INF | MINUS, products(row, {0: (-1, 128)}))
        yield vector(row, "a sum of 2**128 is not", code(row.d, two(127)), products(row, {0: 127, 1: 127}), code(row.d, -two(127)))
        yield vector(row, "unless it stays", INF, products(row, {0: 127, 1: 127}))
        yield vector(row, "no exponent below -126: 2**-157 is seen", 1, products(row, {0: -150, 1: -157}))
        yield vector(row, "2**-158 is floored", 0, products(row, {0: -150, 1: -158}))
        yield vector(row, "rounded to zero, so it has a sign", MINUS, products(row, {row.k - 1: (-1, -200)}))
