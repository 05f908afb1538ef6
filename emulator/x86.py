"""Intel's conversions and AVX512-FP16 arithmetic by mnemonic: those of `convert` and `arithmetic`, with Intel's NaN.

Each takes and returns arrays of unsigned codes. Of the operands that are NaN the first is the result, made quiet, sign
and leading fraction bits kept; a NaN that no operand brought is the "real indefinite", negative and without payload.
rounding is what MXCSR.RC or an embedded rounding says: rne rd ru rz; daz is MXCSR.DAZ. Where a function has no such
argument, MXCSR does not matter. Sources: Intel's manual, volume 2 ([SDM] of `exact`), and the CPU itself (`live`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import arithmetic
from .convert import convert
from .formats import FORMATS, Float

__all__ = ["INSTRUCTIONS", "ROUNDINGS", "Operation"]

_F32, _BF16, _F16 = (FORMATS[name] for name in ("float32", "bfloat16", "float16"))
ROUNDINGS = ("rne", "rd", "ru", "rz")       # bits 1:0 of the immediate of VCVTPS2PH, and MXCSR.RC

Array = np.ndarray


def _settled(to: Any, result: Array, *operands: tuple[Any, Array]) -> Array:
    """The codes of a typed result, every NaN replaced by Intel's: that of the first operand which is one."""
    codes = result.view(to.code_dtype)
    codes = np.where((codes & to.magnitude) > to.inf_code, to.code_dtype.type(to.sign | to.nan_code), codes)
    for fmt, x in reversed(operands):
        wide, up = x.astype(np.uint64), to.frac_bits - fmt.frac_bits
        frac = wide & np.uint64((1 << fmt.frac_bits) - 1)
        payload = frac << np.uint64(up) if up > 0 else frac >> np.uint64(-up)
        sign = (wide >> np.uint64(fmt.bits - 1)) << np.uint64(to.bits - 1)
        quiet = (sign | payload | np.uint64(to.nan_code)).astype(to.code_dtype)
        codes = np.where((x & fmt.magnitude) > fmt.inf_code, quiet, codes)
    return codes


def _converted(source: Any, to: Any, x: Array, rounding: str = "rne", daz: bool = False) -> Array:
    return _settled(to, convert(x, to, rounding, source=source, daz=daz), (source, x))


def vcvtneps2bf16(x: Array) -> Array:
    """float32 to bfloat16, to nearest; a subnormal counts as zero."""
    return _converted(_F32, _BF16, x, daz=True)


def vcvtne2ps2bf16(x: Array, y: Array) -> Array:
    """Two vectors (..., n) of float32 to one (..., 2 n) of bfloat16: the second operand in the low half."""
    return np.concatenate([vcvtneps2bf16(y), vcvtneps2bf16(x)], -1)


def vcvtps2ph(x: Array, immediate: int = 4, rounding: str = "rne", daz: bool = False) -> Array:
    """float32 to float16, rounded as the immediate says, or as MXCSR where its bit 2 is set; subnormals are made."""
    return _converted(_F32, _F16, x, rounding if immediate & 4 else ROUNDINGS[immediate & 3], daz)


def vcvtps2phx(x: Array, rounding: str = "rne", daz: bool = False) -> Array:
    """float32 to float16; subnormals are made."""
    return _converted(_F32, _F16, x, rounding, daz)


def vcvtph2ps(x: Array) -> Array:
    """float16 to float32: exact, subnormals too. VCVTPH2PSX gives the same."""
    return _converted(_F16, _F32, x)


def _arithmetic(operation: Callable[..., Array], rounding: str, priority: tuple[Array, ...], *operands: Array) -> Array:
    """An operation on float16; the first NaN in the order of `priority`."""
    return _settled(_F16, operation(*operands, source=_F16, rounding=rounding), *((_F16, x) for x in priority))


def vaddph(x: Array, y: Array, rounding: str = "rne") -> Array:
    """x + y in float16, subnormals kept."""
    return _arithmetic(arithmetic.add, rounding, (x, y), x, y)


def vsubph(x: Array, y: Array, rounding: str = "rne") -> Array:
    """x - y in float16, subnormals kept; a NaN keeps its sign."""
    return _arithmetic(arithmetic.sub, rounding, (x, y), x, y)


def vmulph(x: Array, y: Array, rounding: str = "rne") -> Array:
    """x * y in float16, subnormals kept."""
    return _arithmetic(arithmetic.mul, rounding, (x, y), x, y)


def vfmadd132ph(x: Array, y: Array, z: Array, rounding: str = "rne") -> Array:
    """x * z + y in float16, rounded once, subnormals kept."""
    return _arithmetic(arithmetic.fma, rounding, (x, z, y), x, z, y)


def vfmadd213ph(x: Array, y: Array, z: Array, rounding: str = "rne") -> Array:
    """y * x + z in float16, rounded once, subnormals kept."""
    return _arithmetic(arithmetic.fma, rounding, (y, x, z), y, x, z)


def vfmadd231ph(x: Array, y: Array, z: Array, rounding: str = "rne") -> Array:
    """y * z + x in float16, rounded once, subnormals kept."""
    return _arithmetic(arithmetic.fma, rounding, (y, z, x), y, z, x)


class Operation(NamedTuple):
    """An instruction: its function, the formats of its operands and of the result, and what of MXCSR it reads."""

    function: Callable[..., Array]
    operands: tuple[Float, ...]
    result: Float
    reads: tuple[str, ...] = ()


_ROWS: list[tuple[Callable[..., Array], tuple[Any, ...], Any, tuple[str, ...]]] = [
    (vcvtneps2bf16, (_F32,), _BF16, ()),
    (vcvtne2ps2bf16, (_F32, _F32), _BF16, ()),
    (vcvtps2ph, (_F32,), _F16, ("immediate", "rounding", "daz")),
    (vcvtps2phx, (_F32,), _F16, ("rounding", "daz")),
    (vcvtph2ps, (_F16,), _F32, ()),
    *((function, (_F16, _F16), _F16, ("rounding",)) for function in (vaddph, vsubph, vmulph)),
    *((function, (_F16, _F16, _F16), _F16, ("rounding",)) for function in (vfmadd132ph, vfmadd213ph, vfmadd231ph)),
]
INSTRUCTIONS: dict[str, Operation] = {row[0].__name__: Operation(*row) for row in _ROWS}
INSTRUCTIONS["vcvtph2psx"] = INSTRUCTIONS["vcvtph2ps"]
