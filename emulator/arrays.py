"""numpy and ml_dtypes arrays <-> unsigned codes.

At the public boundary arrays are typed (float16, ml_dtypes.bfloat16, ...); inside, everything is unsigned codes.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import ml_dtypes
import numpy as np

from . import engine_c
from .errors import BadOperand
from .formats import Float, Format, Integer, number_format

__all__ = ["any_codes", "carriers", "check_codes", "codes", "from_codes", "pack", "unpack"]

# Formats without a numpy type of their own, and the types they travel in. UE4M3 ignores the sign of its carrier.
_CARRIERS = {"tfloat32": ("float32",), "float8_ue4m3": ("float8_e4m3fn", "uint8"), "uint1": ("uint1", "bool")}


@functools.cache
def carriers(fmt: Format) -> tuple[np.dtype, ...]:
    """The numpy types an array of `fmt` may have, the preferred one first; unsigned codes if it has none."""
    found = []
    for name in _CARRIERS.get(fmt.name, (fmt.name,)):
        kind = getattr(ml_dtypes, name, None) or getattr(np, name, None)
        if kind is None and name == "bool":
            kind = np.bool_
        if kind is not None:
            found.append(np.dtype(kind))
    return tuple(found) or (fmt.code_dtype,)


def codes(x: object, fmt: Format, name: str) -> np.ndarray:
    """The codes of array `x` in native byte order, in `fmt.code_dtype`; a view of it where that can be.

    `name` is what messages call the operand. Bits that the type ignores (the upper half of a float4 byte) are cleared.
    Raises BadOperand for any other type: nothing is converted silently.
    """
    array = np.asarray(x)
    allowed = carriers(fmt)
    if array.dtype == allowed[0] and fmt.bits >= 8:
        return array.view(fmt.code_dtype)
    native = array.dtype if array.dtype in allowed else array.dtype.newbyteorder("=")
    if native not in allowed:
        some = " or ".join(dict.fromkeys(t.name for t in allowed))
        hint = (f'Convert it first, and say how: emulator.convert({name}, "{fmt.name}", rounding="rne")'
                if isinstance(fmt, Float) else f"Pass {name}.astype({some}) if its values fit")
        reads = fmt.name if some == fmt.name else f"{fmt.name}, carried by {some}"
        raise BadOperand(f"{name} is {array.dtype.name} {array.shape}; this instruction reads {reads}. {hint}")
    unsigned = array.astype(native, copy=False).view(f"u{native.itemsize}").astype(fmt.code_dtype, copy=False)
    return unsigned & fmt.code_dtype.type((1 << fmt.bits) - 1) if fmt.bits < 8 else unsigned


def check_codes(x: object, fmt: Format, name: str) -> np.ndarray:
    """`x` as contiguous native codes in `fmt.code_dtype`; any integer array whose values fit the format's bits.

    Raises BadOperand, naming the first value that does not fit.
    """
    array = np.asarray(x)
    if array.dtype.kind not in "ui" or array.dtype.itemsize > 8:
        raise BadOperand(f"{name} is {array.dtype.name} {array.shape}; codes of {fmt} are unsigned integers of "
                         f"{fmt.bits} bits")
    if array.size and (array.dtype.itemsize * 8 > fmt.bits or array.dtype.kind == "i"):
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >> fmt.bits:
            raise BadOperand(f"{name} holds {low if low < 0 else hex(high)}; codes of {fmt} lie in "
                             f"0..{(1 << fmt.bits) - 1:#x}")
    return np.ascontiguousarray(array, fmt.code_dtype).reshape(array.shape)


def any_codes(x: object, fmt: Format, name: str) -> np.ndarray:
    """As `codes` for an array of one of the format's types, as `check_codes` for an array of codes."""
    typed = np.asarray(x).dtype.newbyteorder("=") in carriers(fmt)
    return codes(x, fmt, name) if typed else check_codes(x, fmt, name)


def from_codes(x: np.ndarray, fmt: Format) -> np.ndarray:
    """The typed array of the codes `x`; codes themselves where numpy and ml_dtypes have no such type."""
    carrier = carriers(fmt)[0]
    return (x if x.itemsize == carrier.itemsize else x.astype(f"u{carrier.itemsize}")).view(carrier)


def as_numpy(x: Any) -> np.ndarray:
    """Any array as a numpy or ml_dtypes array with the same bits: numpy's own, torch tensors (bfloat16, FP8, E8M0 and
    packed FP4, of which two lie in each byte, among them), and what speaks DLPack or numpy's protocols.

    Raises BadOperand for what does none of it.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        found = x.detach().cpu().contiguous()
        name = str(found.dtype).removeprefix("torch.")
        same = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(found.element_size())
        if name == "float4_e2m1fn_x2":
            return unpack(found.view(torch.uint8).numpy(), 4).view(ml_dtypes.float4_e2m1fn)
        dtype = getattr(ml_dtypes, name, None) or getattr(np, name, None)
        if same is None or dtype is None:
            raise BadOperand(f"a torch tensor of {found.dtype}; no numpy or ml_dtypes type has its bits")
        return found.view(same).numpy().view(dtype)
    if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__"):
        return np.asarray(x)
    try:
        return np.from_dlpack(x)
    except (TypeError, RuntimeError, BufferError):          # a type DLPack has and numpy has not, or another device
        found = np.asarray(x.get() if hasattr(x, "get") else x)
        if found.dtype == object:
            raise BadOperand(f"{type(x).__name__} is no array that numpy can read; copy it to the host first") from None
        return found


def pack(x: object, bits: int | None = None) -> np.ndarray:
    """The codes of `x` along its last axis as a stream of bits in bytes, shape (..., ceil(k * bits / 8)).

    x: a typed array (float4_e2m1fn, float6_e3m2fn, int4 ...), whose format says the bits, or an array of codes, with
    `bits` from 1 to 8. The first code lies in the lowest bits, the order of CUDA's and ONNX's packed FP4; bits that are
    left over are zero. Raises BadOperand.
    """
    found: np.ndarray
    array = np.asarray(x)
    if bits is None:
        bits = number_format(array.dtype).bits
        found = np.ascontiguousarray(array).reshape(array.shape)
        found = found.view(np.uint8) if bits <= 8 else found
    else:
        _check_width(bits)
        found = check_codes(array, Integer("codes", bits, signed=False), "x")
    if not 1 <= bits <= 8 or found.ndim == 0:
        raise BadOperand(f"x is {array.dtype.name} {array.shape}; packing takes codes of 1 to 8 bits along an axis")
    rows = found.reshape(-1, found.shape[-1]) if found.size else found.reshape(0, found.shape[-1])
    packed = np.empty((len(rows), -(-found.shape[-1] * bits // 8)), np.uint8)
    if engine_c.available() and (len(rows) == 1 or found.shape[-1] * bits % 8 == 0):
        engine_c.pack(bits, rows, packed)           # rows that end on a byte are one stream
    elif found.size:
        spread = np.unpackbits(rows[..., None], axis=-1, count=bits, bitorder="little")
        packed[:] = np.packbits(spread.reshape(len(rows), -1), axis=-1, bitorder="little")
    return packed.reshape(*found.shape[:-1], packed.shape[-1])


def unpack(packed: np.ndarray, bits: int, count: int | None = None) -> np.ndarray:
    """The uint8 codes that `pack` put there: `count` along the last axis, or all that fit. Raises BadOperand."""
    _check_width(bits)
    array = np.ascontiguousarray(packed)
    if array.dtype != np.uint8 or array.ndim == 0:
        raise BadOperand(f"packed is {array.dtype.name} {array.shape}; unpacking takes an array of bytes, uint8")
    room = array.shape[-1] * 8 // bits
    count = room if count is None else count
    if not 0 <= count <= room:
        raise BadOperand(f"count is {count}; {array.shape[-1]} bytes hold 0..{room} codes of {bits} bits")
    shape = (*array.shape[:-1], count)
    found = np.empty(shape, np.uint8)
    if engine_c.available() and (array.ndim == 1 or count * bits == array.shape[-1] * 8):
        engine_c.unpack(bits, array, found)
        return found
    spread = np.unpackbits(array, axis=-1, count=count * bits, bitorder="little").reshape(*shape, bits)
    return np.packbits(spread, axis=-1, bitorder="little").reshape(shape)


def _check_width(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise BadOperand(f"bits is {bits}; a packed code has 1 to 8")
