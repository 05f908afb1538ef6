"""Float32 functions whose bits depend on nothing but their input.

Every step is one IEEE 754 operation of float32 (add, subtract, multiply, divide, square root), as a CUDA core does it,
and every sum has a written order; numpy's own exp, tanh and BLAS differ between CPUs, so none of them is used. They are
not the bits of CUDA's math library, whose exp goes through the special function unit; the errors are as small: below
2 ulp, as CUDA states for expf (CUDA C++ Programming Guide, "Mathematical functions").
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from .. import noise

__all__ = ["exp", "key", "log", "mean", "sigmoid", "softmax", "total", "uniform"]

Array = np.ndarray
F32 = np.float32
_CHUNK = 1 << 14                    # elements at a time, so that the steps of a function meet in the cache


def _in_chunks(step: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """`step`, a function of elements, over an array of float32 of any shape."""
    def whole(x: Array) -> Array:
        flat = np.ascontiguousarray(x, F32).reshape(-1)
        y = np.empty_like(flat)
        with np.errstate(all="ignore"):
            for i in range(0, flat.size, _CHUNK):
                y[i:i + _CHUNK] = step(flat[i:i + _CHUNK])
        return y.reshape(x.shape)
    whole.__doc__ = step.__doc__
    return whole


# --- sums ------------------------------------------------------------------------------------------------------------

def total(x: Array, axis: int) -> Array:
    """The sum along an axis: halves are added until one is left, as the threads of a warp do it by shuffles."""
    x = np.moveaxis(x, axis, 0)
    if not len(x):
        return np.zeros(x.shape[1:], F32)
    while len(x) > 1:
        half = (len(x) + 1) // 2
        upper = x[half:]
        x = np.concatenate([x[:len(upper)] + upper, x[len(upper):half]]) if len(x) % 2 else x[:half] + upper
    return x[0]


def mean(x: Array, axis: int) -> Array:
    """The sum along an axis times 1 / n."""
    return total(x, axis) * F32(1 / x.shape[axis])


# --- exp, log --------------------------------------------------------------------------------------------------------

_LOG2E, _LN2_HIGH, _LN2_LOW = F32(1.4426950408889634), F32(0.693359375), F32(-2.12194440e-4)
_EXP = [F32(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
                         5.0000001201e-1)]          # (exp(r) - 1 - r) / r^2, |r| <= ln(2) / 2 (Moshier, Cephes, expf)
_LOWEST, _HIGHEST = F32(-86.643394), F32(88.72283)  # -125 ln 2, and the last that is finite
_ROUND = F32(1.5 * 2**23)                           # its ulp is 1: adding it rounds to an integer in the low bits


def _exp(x: Array) -> Array:
    """e**x to within 1 ulp; 0 where that is below 2**-125, infinite beyond float32. x: float32, any shape."""
    r = np.maximum(x, _LOWEST)
    np.minimum(r, _HIGHEST, out=r)
    n = r * _LOG2E
    n += _ROUND
    power = n.view(np.int32) << 23                  # n where it counts, in the place of an exponent
    n -= _ROUND
    y = n * _LN2_HIGH                               # exact: n has 8 bits, the constant 10
    r -= y
    np.multiply(n, _LN2_LOW, out=y)
    r -= y
    np.multiply(r, _EXP[0], out=y)
    for c in _EXP[1:]:
        y += c
        y *= r
    y *= r
    y += r
    y += F32(1)
    bits = y.view(np.int32)
    bits += power
    low, high = x.min(), x.max()
    if not low >= _LOWEST:
        np.copyto(y, 0, where=x < _LOWEST)
    if not high <= _HIGHEST:
        np.copyto(y, np.inf, where=x > _HIGHEST)
    if low != low:
        np.copyto(y, x, where=x != x)
    return y


exp = _in_chunks(_exp)


@_in_chunks
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) of float32, any shape."""
    y = _exp(-x)
    y += F32(1)
    return np.divide(F32(1), y, out=y)


def log(x: Array) -> Array:
    """The natural logarithm of normal float32 numbers above 0, any shape: computed in float64 by steps that are IEEE's,
    then rounded to float32."""
    sig, e = np.frexp(np.asarray(x, np.float64))
    low = sig < 0.70710678118654752
    sig, e = np.where(low, sig * 2, sig), e - low
    z = (sig - 1) / (sig + 1)                       # log(sig) = 2 atanh(z), |z| < 0.1716
    square, series = z * z, np.zeros_like(z)
    for odd in range(21, 0, -2):
        series = series * square + 1 / odd
    return (e * 0.69314718055994531 + 2 * z * series).astype(F32)


def softmax(x: Array) -> Array:
    """exp(x - max) / sum along the last axis, (..., n); masked places are -inf, and no row is all masked."""
    y = exp(x - x.max(axis=-1, keepdims=True))
    y /= total(y, -1)[..., None]
    return y


# --- random numbers --------------------------------------------------------------------------------------------------

def key(seed: int, *names: object) -> int:
    """A seed of 64 bits for each (seed, names): a counter of Philox made of a checksum of the names."""
    name = "/".join(map(str, names)).encode()
    counter = np.array([zlib.crc32(name), zlib.adler32(name), len(name), 0], np.uint64)
    low, high = noise.philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).tolist()[:2]
    return high << 32 | low


def uniform(seed: int, shape: tuple[int, ...]) -> Array:
    """Float32 numbers k * 2**-24 in [0, 1), from the words of noise.words."""
    words = noise.words(seed, 0, int(np.prod(shape)))
    return ((words >> np.uint32(8)).astype(F32) * F32(2**-24)).reshape(shape)
