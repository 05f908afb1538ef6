"""The C engine's door: csrc through cffi, opened on first use. No logic.

`dots` is the engine and `product` the fast one for a whole matrix product; csrc/emulator.h says what they compute.
`engine_c.lib` and `engine_c.ffi` are cffi's; where there are none, asking for one raises EngineUnavailable, saying why.
"""

import functools
import importlib
import pathlib
from typing import Any

import numpy as np

from emulator.errors import EngineUnavailable
from emulator.instructions import Instruction
from emulator.record import Conversion, format_record, record
from emulator.rounding import MODES

_REASON = pathlib.Path(__file__).with_name("_c_build.txt")  # written by setup.py where the C library was not built


@functools.cache
def _open() -> tuple[Any, str]:
    """(the compiled module, "") or (None, why there is none)."""
    try:
        return importlib.import_module("emulator._c"), ""
    except ImportError as error:
        if _REASON.exists():
            return None, _REASON.read_text(encoding="utf-8").strip()
        if isinstance(error, ModuleNotFoundError) and error.name == "emulator._c":
            return None, f"it has not been built for {_REASON.parent}: run `pip install -e .` in the folder above"
        return None, f"it was built but does not load: {error}"


def available() -> bool:
    """Is the C library here?"""
    return _open()[0] is not None


def why_not() -> str:
    """Why the C library is not here, as the end of a sentence ("runs on Numba, because ..."); empty where it is."""
    return _open()[1]


def __getattr__(name: str) -> Any:
    if name not in ("lib", "ffi"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_library(), name)


def _library() -> Any:
    module, why = _open()
    if module is None:
        raise EngineUnavailable(f"the C engine is not available: {why}; use engine='numba'")
    return module


def _row(ins: Instruction) -> tuple[Any, Any, Any]:
    """cffi's ffi and lib, and the row of `ins` as an `emu_row *`."""
    module = _library()
    row = vars(ins).get("_record")          # kept with the instruction, as cached_property keeps what follows from it
    if row is None:
        row = vars(ins)["_record"] = record(ins)
    return module.ffi, module.lib, module.ffi.from_buffer("emu_row *", row)


def _why(status: int) -> str:
    module = _library()
    return module.ffi.string(module.lib.emu_why(status)).decode()


def _check(status: int, ins: Instruction) -> None:
    if status:
        raise EngineUnavailable(f"the C engine cannot do {ins}: {_why(status)}")


_LANES = 8          # independent dot products from which computing them side by side pays


def dots(ins: Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray, scale_a: np.ndarray | None,
         scale_b: np.ndarray | None, d: np.ndarray) -> None:
    """Fill d (B, m, n) from contiguous codes a (B, m, k), b (B, n, k), c (B, m, n) and scales (B, m or n, k / block).

    k is a multiple of ins.k: the instruction is chained. Raises EngineUnavailable for a row that C cannot do exactly.
    """
    ffi, lib, row = _row(ins)
    view = ffi.from_buffer                  # refuses what is not contiguous
    codes = (view(a), view(b), view(c), ffi.NULL if scale_a is None else view(scale_a),
             ffi.NULL if scale_b is None else view(scale_b), view(d, require_writable=True))
    if d.size == len(d) >= _LANES:
        _check(lib.emu_rows(row, len(d), a.shape[2], *codes), ins)
    else:
        _check(lib.emu_dots(row, *a.shape[:2], *b.shape[1:], *codes), ins)


def product(ins: Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray | None, scale_a: np.ndarray | None,
            scale_b: np.ndarray | None, d: np.ndarray) -> None:
    """Fill d (m, n) from codes a (m, k), b (k, n), c (m, n) or None, and scales (m, k / block) and (k / block, n).

    Each may have one more dimension in front, the batch, of d's size. Any strides; k is any: the rest of the last
    instruction is zero. Raises as `dots` does.
    """
    ffi, lib, row = _row(ins)

    def matrix(x: np.ndarray | None) -> Any:
        if x is None:
            return ffi.NULL
        codes = ffi.from_buffer(x) if x.flags.c_contiguous else ffi.cast("void *", x.ctypes.data)
        return ffi.new("emu_matrix *", (codes, *x.strides) if x.ndim == 3 else (codes, 0, *x.strides))

    _check(lib.emu_matmul(row, len(d) if d.ndim == 3 else 1, a.shape[-2], b.shape[-1], a.shape[-1],
                          *map(matrix, (a, b, c, scale_a, scale_b, d))), ins)


def tile(ins: Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray | None, scale_a: np.ndarray | None,
         scale_b: np.ndarray | None, d: np.ndarray) -> None:
    """`product` of one instruction for the least cost. Raises ValueError for an array that is not contiguous."""
    ffi, lib, row = _row(ins)
    view, null = ffi.from_buffer, ffi.NULL
    _check(lib.emu_tile(row, ins.m, ins.n, view(a), view(b), null if c is None else view(c),
                        null if scale_a is None else view(scale_a), null if scale_b is None else view(scale_b),
                        view(d)), ins)


def limit_isa(name: str) -> str:
    """Let `product` use the kernels up to those of `name`: portable, avx2, avx512, avx512fp16; what it now uses."""
    module = _library()
    if module.lib.emu_limit_isa(name.encode()):
        raise EngineUnavailable(f"{name!r} is no instruction set; they are portable, avx2, avx512 and avx512fp16")
    return module.ffi.string(module.lib.emu_isa()).decode()


@functools.lru_cache(64)
def _conversion(how: Conversion) -> Any:
    """The struct emu_conversion."""
    policy = how.policy
    return _library().ffi.new("emu_conversion *", {
        "from": format_record(how.source), "to": format_record(how.target), "rounding": MODES.index(policy.rounding),
        "random_bits": policy.random_bits, "ftz": policy.ftz, "daz": policy.daz,
        "ignores_sign": not how.target.signed and policy.negative == "abs",
        **{name: [code or 0 for code in getattr(how, name)] for name in ("nan", "infinity", "over", "zero")}})


def converts(how: Conversion, x: np.ndarray, random: np.ndarray | None, y: np.ndarray,
             counts: np.ndarray | None, every: bool = True) -> None:
    """Fill codes y from codes x, both contiguous and one-dimensional; random holds uint32, one per element, or is None.

    counts: int64, one per record.COUNTS, to add to; None is faster, and so is `every` false, where only what the policy
    refuses is sure to be counted. Raises EngineUnavailable for a format that C cannot do exactly.
    """
    module = _library()
    view, null = module.ffi.from_buffer, module.ffi.NULL
    status = module.lib.emu_convert(
        _conversion(how), x.size, view(x), null if random is None else view("uint32_t *", random), view(y),
        null if counts is None else view("int64_t *", counts), every)
    if status:
        raise EngineUnavailable(f"the C engine cannot convert {how.source} to {how.target}: {_why(status)}")


def amax(x: np.ndarray, top: np.ndarray) -> None:
    """Fill `top` (blocks) with the largest magnitudes of contiguous x (blocks, size), both float32 or both float64."""
    module = _library()
    module.lib.emu_amax(x.dtype.itemsize, *x.shape, module.ffi.from_buffer(x), module.ffi.from_buffer(top))


def above(x: np.ndarray, bounds: np.ndarray, found: np.ndarray) -> None:
    """Fill uint8 `found` (blocks, size) with how many of its block's bounds (blocks, count) each of x is above; x and
    bounds are contiguous, float32 or float64. Raises EngineUnavailable for more than 255 bounds."""
    module = _library()
    view = module.ffi.from_buffer
    status = module.lib.emu_above(x.dtype.itemsize, *x.shape, bounds.shape[1], view(x), view(bounds),
                                  view("uint8_t *", found))
    if status:
        raise EngineUnavailable(f"the C engine cannot compare with {bounds.shape[1]} bounds: {_why(status)}")


def converts_by_powers(how: Conversion, x: np.ndarray, up: int, scale_of: np.ndarray, divisor_of: np.ndarray,
                       random: np.ndarray | None, y: np.ndarray, scales: np.ndarray) -> bool:
    """Fill codes y and uint8 scales of float32 x (blocks, size), each scale following from its block's amax as at
    emu_convert_by_powers; False, with rubbish in them, where C cannot: a block has a NaN, or a divisor is none."""
    module = _library()
    view = module.ffi.from_buffer
    return not module.lib.emu_convert_by_powers(
        _conversion(how), *x.shape, view("float *", x), up, view("uint8_t *", scale_of), view("double *", divisor_of),
        module.ffi.NULL if random is None else view("uint32_t *", random), view(y), view("uint8_t *", scales))


def converts_over(how: Conversion, x: np.ndarray, divisors: np.ndarray, random: np.ndarray | None, y: np.ndarray,
                  counts: np.ndarray | None) -> None:
    """As `converts`, of x (blocks, size) over float64 divisors (blocks). Raises EngineUnavailable for other divisors
    than those of emu_convert_over."""
    module = _library()
    view, null = module.ffi.from_buffer, module.ffi.NULL
    status = module.lib.emu_convert_over(
        _conversion(how), x.size, x.shape[1], view(x), view("double *", divisors),
        null if random is None else view("uint32_t *", random), view(y),
        null if counts is None else view("int64_t *", counts))
    if status:
        raise EngineUnavailable(f"the C engine cannot convert {how.source} over these divisors to {how.target}: "
                                f"{_why(status)}")


def scaled(x: np.ndarray, values: np.ndarray, zeros: np.ndarray | None, scales: np.ndarray, factor: float,
           y: np.ndarray) -> None:
    """Fill float32 y with (values[x] - zero) * scale * factor; x are bytes, as many for each of the float32 scales and
    zeros (or None)."""
    module = _library()
    view, size = module.ffi.from_buffer, x.size // max(1, scales.size)
    module.lib.emu_scaled(x.size, size, view("uint8_t *", x), view("float *", values),
                          module.ffi.NULL if zeros is None else view("float *", zeros), view("float *", scales), factor,
                          view("float *", y))


def errors(x: np.ndarray, y: np.ndarray, values: np.ndarray, scales: np.ndarray, squared: bool,
           factors: tuple[float, float] | None = None) -> np.ndarray:
    """What each block (blocks, size) of x loses as codes y with these float64 values and scales: emu_errors, or with
    `factors` and all of float32 emu_errors_32."""
    module, found = _library(), np.empty(len(x), scales.dtype)
    view, kind = module.ffi.from_buffer, "double *" if factors is None else "float *"
    operands = view("uint8_t *", y), view(kind, values), view(kind, scales)
    if factors is None:
        module.lib.emu_errors(x.dtype.itemsize, *x.shape, view(x), *operands, squared, view(kind, found))
    else:
        module.lib.emu_errors_32(*x.shape, view(kind, x), *operands, *factors, squared, view(kind, found))
    return found


def accumulate(to: Conversion, back: Conversion, terms: np.ndarray, random: np.ndarray | None, totals: np.ndarray,
               lost: np.ndarray | None, codes: np.ndarray, counts: np.ndarray) -> None:
    """Add float64 terms (steps, places) to totals and fill codes: emu_accumulate."""
    module = _library()
    view, null = module.ffi.from_buffer, module.ffi.NULL
    status = module.lib.emu_accumulate(
        _conversion(to), _conversion(back), *terms.shape, view("double *", terms),
        null if random is None else view("uint32_t *", random), view("double *", totals),
        null if lost is None else view("double *", lost), view(codes), view("int64_t *", counts))
    if status:
        raise EngineUnavailable(f"the C engine cannot add in {to.target}: {_why(status)}")


def philox4x32(seed: int, start: int, words: np.ndarray) -> None:
    """Fill uint32 `words` with noise.words(seed, start, words.size)."""
    module = _library()
    module.lib.emu_philox4x32(seed, start, words.size, module.ffi.from_buffer("uint32_t *", words))


def pack(bits: int, codes: np.ndarray, packed: np.ndarray) -> None:
    """Fill the bytes `packed` with the codes, a byte each, of `bits` bits; the first code lies lowest."""
    module = _library()
    view = module.ffi.from_buffer
    module.lib.emu_pack(bits, codes.size, view("uint8_t *", codes), view("uint8_t *", packed))


def unpack(bits: int, packed: np.ndarray, codes: np.ndarray) -> None:
    """Fill `codes`, a byte each, from the bytes `packed`."""
    module = _library()
    view = module.ffi.from_buffer
    module.lib.emu_unpack(bits, codes.size, view("uint8_t *", packed), view("uint8_t *", codes))
