"""Random bits for stochastic rounding: counter based, a pure function of a seed and a position.

Philox4x32-10 and Philox4x64-10 of Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", doi
10.1145/2063384.2063405. No state is carried, so the bits of element i are the same for any number of threads, engine or
chunking. Below them, the bits that NVIDIA's stochastic conversions give each element of a packed word: PTX ISA,
instruction cvt, rounding modifier .rs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import engine_c
from .errors import BadOperand

__all__ = ["CVT_RS", "philox4x32", "philox4x64", "words"]

_ROUNDS = 10


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 1 << 64:
        raise BadOperand(f"seed is {seed}; it takes 0..2**64 - 1")


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 of counters (..., 4) of 32-bit words, the lowest first: as many uint32 (..., 4)."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    low = np.uint64(0xFFFFFFFF)
    for i in range(_ROUNDS):
        k0, k1 = (np.uint64((k + i * step) & 0xFFFFFFFF) for k, step in zip(key, (0x9E3779B9, 0xBB67AE85)))
        p, q = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = q >> np.uint64(32) ^ c1 ^ k0, q & low, p >> np.uint64(32) ^ c3 ^ k1, p & low
    return np.stack([c0, c1, c2, c3], -1).astype(np.uint32)


def philox4x64(seed: int, start: int, count: int) -> np.ndarray:
    """Words start..start + count of the Philox4x64-10 stream of numpy.random.Philox(key=seed), as uint64.

    Word w is output w % 4 for counter w // 4 + 1: numpy counts up before it computes. Raises BadOperand for a bad seed.
    """
    _check_seed(seed)
    generator = np.random.Philox(key=seed)
    generator.advance(start // 4)
    return generator.random_raw(start % 4 + count)[start % 4:]


def words(seed: int, start: int, count: int) -> np.ndarray:
    """Words start..start + count of the Philox4x32-10 stream with key `seed` (0..2**64 - 1), as uint32.

    Word w is output w % 4 for counter w // 4; so also counts cuRAND's Philox4_32_10 generator, sequence 0.
    Raises BadOperand for a bad seed.
    """
    _check_seed(seed)
    if engine_c.available():
        found = np.empty(count, np.uint32)
        engine_c.philox4x32(seed, start, found)
        return found
    block = np.arange(start // 4, -(-(start + count) // 4), dtype=np.uint64)
    counter = np.zeros((block.size, 4), np.uint64)
    counter[:, 0], counter[:, 1] = block & np.uint64(0xFFFFFFFF), block >> np.uint64(32)
    return philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[start % 4:][:count]


# --- PTX cvt.rs: rbits, one 32-bit word per packed result, to the bits of each element ------------------------------

def _fields(rbits: np.ndarray, *fields: tuple[int, int]) -> np.ndarray:
    """The (shift, width) fields of each word, along a new last axis."""
    word = np.asarray(rbits, np.uint32)
    return np.stack([word >> np.uint32(shift) & np.uint32((1 << width) - 1) for shift, width in fields], -1)


def f16x2(rbits: np.ndarray) -> np.ndarray:
    """cvt.rs.f16x2.f32 d, a, b: 13 bits each, b rbits[12:0] and a rbits[28:16] (PTX ISA)."""
    return _fields(rbits, (0, 13), (16, 13))


def bf16x2(rbits: np.ndarray) -> np.ndarray:
    """cvt.rs.bf16x2.f32 d, a, b: 16 bits each, b rbits[15:0] and a rbits[31:16] (PTX ISA)."""
    return _fields(rbits, (0, 16), (16, 16))


def fp8x4(rbits: np.ndarray) -> np.ndarray:
    """cvt.rs to e4m3x4, e5m2x4, e2m3x4, e3m2x4 of {a, b, e, f}: f and e share rbits[15:0], b and a rbits[31:16].

    The PTX ISA documents the sharing and not in which order an element uses its bits; here all use them as they lie.
    """
    return _fields(rbits, (0, 16), (0, 16), (16, 16), (16, 16))


def e4m3x4_sm100(rbits: np.ndarray) -> np.ndarray:
    """fp8x4 as found on sm_100a for e4m3x4: e and a, the high ones of their pairs, use the 16 bits in reverse order.

    REVERSE ENGINEERED, not documented: published with FlashInfer and a CuTe DSL NVFP4 kernel, compared bit by bit there
    on a device; not confirmed here.
    """
    bits = fp8x4(rbits)
    swapped = bits[..., 1::2]
    for shift, mask in ((1, 0x5555), (2, 0x3333), (4, 0x0F0F), (8, 0x00FF)):
        swapped = swapped >> np.uint32(shift) & np.uint32(mask) | (swapped & np.uint32(mask)) << np.uint32(shift)
    bits[..., 1::2] = swapped
    return bits


def fp4x4(rbits: np.ndarray) -> np.ndarray:
    """cvt.rs to e2m1x4 of {a, b, e, f}: f and e share rbits[7:0] and [23:16], b and a rbits[15:8] and [31:24].

    The PTX ISA documents which bytes, not their order: ASSUMED here is the upper byte first, 16 bits, used as they lie.
    """
    low, high = _fields(rbits, (0, 8), (8, 8)), _fields(rbits, (16, 8), (24, 8))
    return np.repeat(high << np.uint32(8) | low, 2, axis=-1)


# By name: the layout and how many bits an element gets. Elements come in memory order: the lowest bits of the packed
# result first, that is PTX's operands from the last to the first.
CVT_RS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "f16x2": (f16x2, 13), "bf16x2": (bf16x2, 16), "fp8x4": (fp8x4, 16), "e4m3x4_sm100": (e4m3x4_sm100, 16),
    "fp4x4": (fp4x4, 16),
}
