"""Directed vectors for Intel's floating-point rows, with results derived by hand from the SDM's Operation sections and
IEEE 754-2019; which NaN comes out and when a result is flushed is what Intel CPUs answer (golden/x86_64-*)."""

from __future__ import annotations

from collections.abc import Iterator

from directed import Vector, code, vector

from emulator.instructions import Instruction

INDEFINITE, INF, TOP, MINUS = 0xFFC00000, 0x7F800000, 0x7F7FFFFF, 1 << 31


def vectors(row: Instruction) -> Iterator[Vector]:
    yield from _common(row)
    yield from (_tile if row.method == "two_chains" else _pair)(row)
    if row.a.name == "bfloat16":
        yield from _bfloat16(row)


def nan(row: Instruction, frac: int, sign: int = 0) -> tuple[tuple[str, int], int]:
    """A signalling NaN of A or B as a code, and the float32 that it becomes."""
    quiet = sign << 31 | 0x7FC00000 | frac << (23 - row.a.frac_bits)
    return ("code", sign << 15 | row.a.inf_code | frac), quiet


def _common(row: Instruction) -> Iterator[Vector]:
    inf, minus_inf = ("code", row.a.inf_code), ("code", row.a.inf_code | row.a.sign)
    one = code(row.d, 1)
    yield vector(row, "nothing", 0)
    yield vector(row, "every k counts once", code(row.d, row.k + 1), {k: (1, 1) for k in range(row.k)}, one)
    yield vector(row, "exact cancellation is +0", 0, {0: (1, 1), 1: (1, -1)}, 0)
    yield vector(row, "and against C", 0, {0: (1, -1)}, one)
    yield vector(row, "to nearest: three quarters of a unit", code(row.d, 2.0 ** 24) + 1, {0: (1.5, 1)}, code(row.d, 2.0 ** 24))
    yield vector(row, "ties to even", code(row.d, 2.0 ** 24), {0: (1, 1)}, code(row.d, 2.0 ** 24))
    yield vector(row, "ties to even, up", code(row.d, 2.0 ** 24) + 2, {0: (1, 1)}, code(row.d, 2.0 ** 24) + 1)
    yield vector(row, "a subnormal C counts as zero", 0, {}, 0x007FFFFF)
    yield vector(row, "C alone stays", 0x00800001, {}, 0x00800001)
    for c, want in ((0x7F812345, 0x7FC12345), (0xFF800001, 0xFFC00001), (0x7FD00000, 0x7FD00000)):
        yield vector(row, "a NaN C is made quiet and kept", want, {}, c)
    for sign in (0, 1):
        came, want = nan(row, 3, sign)
        for k in (0, 1, row.k - 1):
            yield vector(row, "a NaN operand is made quiet, widened and kept", want, {k: (came, 1)}, one)
            yield vector(row, "also against zero", want, {k: (0, came)}, one)
    came, other = nan(row, 3), nan(row, 5)
    yield vector(row, "of two NaN factors A's", came[1], {0: (came[0], other[0])})
    yield vector(row, "the even k goes before the odd", came[1], {0: (came[0], 1), 1: (other[0], 1)})
    yield vector(row, "whichever it is", other[1], {0: (1, other[0]), 1: (came[0], 1)})
    yield vector(row, "Inf * 0", INDEFINITE, {0: (inf, 0)})
    yield vector(row, "0 * Inf", INDEFINITE, {1: (0, inf)})
    yield vector(row, "Inf * 1", INF, {1: (inf, 1)}, one)
    yield vector(row, "-Inf * 1", INF | MINUS, {0: (minus_inf, 1)}, one)
    yield vector(row, "Inf - Inf among products", INDEFINITE, {0: (inf, 1), 1: (minus_inf, 1)})
    yield vector(row, "Inf - Inf against C", INDEFINITE, {1: (inf, 1)}, INF | MINUS)
    yield vector(row, "Inf + Inf", INF, {1: (inf, 1)}, INF)
    yield vector(row, "C infinite", INF | MINUS, {0: (1, 1)}, INF | MINUS)


def _tile(row: Instruction) -> Iterator[Vector]:
    """Two chains, C last."""
    big, one = 2.0 ** 12, code(row.d, 1)            # big * big is 2**24
    came, other = nan(row, 3), nan(row, 5)
    inf, minus_inf = ("code", row.a.inf_code), ("code", row.a.inf_code | row.a.sign)
    yield vector(row, "C = -0 meets the chains' +0", 0, {}, MINUS)
    yield vector(row, "also where every product is -0", 0, {k: (("code", row.a.sign), 1) for k in range(row.k)}, MINUS)
    yield vector(row, "C comes last", code(row.d, 2.0 ** 24 + 2), {0: (1, 1), 2: (1, 1)}, code(row.d, 2.0 ** 24))
    yield vector(row, "two chains", one, {0: (big, big), 1: (1, 1), 2: (-big, big)})
    yield vector(row, "the other too", one, {1: (big, big), 2: (1, 1), 3: (-big, big)})
    yield vector(row, "ascending k", 0, {0: (1, 1), 2: (big, big), 4: (-big, big)})
    yield vector(row, "ascending k, odd", 0, {row.k - 5: (1, 1), row.k - 3: (big, big), row.k - 1: (-big, big)})
    yield vector(row, "the chains are added before C", 0, {0: (big, big), 1: (1, 1)}, code(row.d, -2.0 ** 24))
    yield vector(row, "C's NaN goes first", 0x7FC00007, {0: (came[0], 1)}, 0x7F800007)
    yield vector(row, "the latest k of a chain goes first", other[1], {0: (came[0], 1), 2: (1, other[0])})
    yield vector(row, "an invalid even chain goes before a NaN of the odd one", INDEFINITE, {0: (inf, 0), 1: (came[0], 1)})
    yield vector(row, "a NaN before an invalid product stays", came[1], {0: (came[0], 1), 2: (inf, 0)})
    yield vector(row, "a NaN after an invalid product replaces it", came[1], {0: (inf, 0), 2: (came[0], 1)})
    yield vector(row, "Inf - Inf in a chain", INDEFINITE, {0: (inf, 1), 2: (minus_inf, 1)})
    if row.a.name == "float16":
        tiny = ("code", 1)                          # 2**-24
        yield vector(row, "a subnormal float16 counts", 0x33800000, {0: (tiny, 1)})
        yield vector(row, "on both sides", 0x27800000, {1: (tiny, tiny)})
        yield vector(row, "and is not zero beside an infinity", INF, {0: (tiny, inf)})


def _pair(row: Instruction) -> Iterator[Vector]:
    """Onto C: odd, then even."""
    big, one = 2.0 ** 12, code(row.d, 1)
    came = nan(row, 3)
    inf = ("code", row.a.inf_code)
    yield vector(row, "the odd k comes first", 0, {0: (-big, big), 1: (big, big)}, one)
    yield vector(row, "each is added to C alone", code(row.d, 2.0 ** 24), {0: (1, 1), 1: (1, 1)}, code(row.d, 2.0 ** 24))
    yield vector(row, "C = -0 and products -0", MINUS, {k: (("code", row.a.sign), 1) for k in (0, 1)}, MINUS)
    yield vector(row, "C = -0 and one product +0", 0, {0: (("code", row.a.sign), 1)}, MINUS)
    yield vector(row, "C's NaN goes last", came[1], {1: (1, came[0])}, 0x7F800007)
    yield vector(row, "but before an invalid product", 0x7FC00007, {0: (inf, 0)}, 0x7F800007)


def _bfloat16(row: Instruction) -> Iterator[Vector]:
    """The range of float32: subnormals and overflow."""
    half, low = 2.0 ** -63, 2.0 ** -75              # half * half is 2**-126; low * 2**-76 is 2**-151
    k = 2 if row.k > 2 else 0                       # of what is added to the product of k = j
    j = 0 if row.k > 2 else 1
    for first, second in ((("code", 1), 2.0 ** 127), (2.0 ** 127, ("code", 0x807F))):
        yield vector(row, "a subnormal operand counts as zero", 0, {0: (first, second)})
    yield vector(row, "even beside an infinity", INDEFINITE, {0: (("code", 0x7F80), ("code", 1))})
    yield vector(row, "the smallest normal number stays", 0x00800000, {j: (half, half)})
    yield vector(row, "what is less is flushed", 0, {j: (half / 2, half)})
    yield vector(row, "halfway below it is rounded up, and stays", 0x00800000, {j: (half, half), k: (-low, low / 2)})
    yield vector(row, "a hair less is rounded down, and flushed", 0, {j: (half, half), k: (-low * (1 + 2.0 ** -7), low / 2)})
    yield vector(row, "a flushed negative sum with C", MINUS, {0: (half, half)}, 0x80800001)
    yield vector(row, "an infinity made on the way stays", INF, {j: (2.0 ** 64, 2.0 ** 64), k: (-2.0 ** 64, 2.0 ** 64)})
    yield vector(row, "a quarter of a unit above the largest", TOP, {j: (2.0 ** 51, 2.0 ** 51)}, TOP)
    yield vector(row, "half a unit above the largest", INF, {j: (2.0 ** 51, 2.0 ** 52)}, TOP)
    yield vector(row, "and below the least", INF | MINUS, {j: (-2.0 ** 51, 2.0 ** 52)}, TOP | MINUS)
