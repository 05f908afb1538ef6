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
from emulator.record import record

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
    if not available():
        raise EngineUnavailable(f"the C engine is not here: {why_not()}")
    return getattr(_open()[0], name)


def _row(ins: Instruction) -> tuple[Any, Any, Any]:
    """cffi's ffi and lib, and the row of `ins` as an `emu_row *`."""
    module, why = _open()
    if module is None:
        raise EngineUnavailable(f"the C engine is not here: {why}")
    row = vars(ins).get("_record")          # kept with the instruction, as cached_property keeps what follows from it
    if row is None:
        row = vars(ins)["_record"] = record(ins)
    return module.ffi, module.lib, module.ffi.from_buffer("emu_row *", row)


def _check(status: int, ins: Instruction) -> None:
    if status:
        lib, ffi = _open()[0].lib, _open()[0].ffi
        raise EngineUnavailable(f"the C engine cannot do {ins}: {ffi.string(lib.emu_why(status)).decode()}")


def dots(ins: Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray, scale_a: np.ndarray | None,
         scale_b: np.ndarray | None, d: np.ndarray) -> None:
    """Fill d (B, m, n) from contiguous codes a (B, m, k), b (B, n, k), c (B, m, n) and scales (B, m or n, k / block).

    k is a multiple of ins.k: the instruction is chained. Raises EngineUnavailable for a row that C cannot do exactly.
    """
    ffi, lib, row = _row(ins)
    view = ffi.from_buffer                  # refuses what is not contiguous
    _check(lib.emu_dots(
        row, *a.shape[:2], *b.shape[1:], view(a), view(b), view(c), ffi.NULL if scale_a is None else view(scale_a),
        ffi.NULL if scale_b is None else view(scale_b), view(d, require_writable=True)), ins)


def product(ins: Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray | None, scale_a: np.ndarray | None,
            scale_b: np.ndarray | None, d: np.ndarray) -> None:
    """Fill d (m, n) from codes a (m, k), b (k, n), c (m, n) or None, and scales (m, k / block) and (k / block, n).

    Any strides; k is any: the rest of the last instruction is zero. Raises as `dots` does.
    """
    ffi, lib, row = _row(ins)

    def matrix(x: np.ndarray | None) -> Any:
        return ffi.NULL if x is None else ffi.new("emu_matrix *", (ffi.cast("void *", x.ctypes.data), *x.strides))

    _check(lib.emu_matmul(row, *a.shape[:1], *b.shape[::-1], *map(matrix, (a, b, c, scale_a, scale_b, d))), ins)


def limit_isa(name: str) -> str:
    """Let `product` use the kernels up to those of `name`: portable, avx2, avx512, avx512fp16; what it now uses."""
    module, why = _open()
    if module is None:
        raise EngineUnavailable(f"the C engine is not here: {why}")
    if module.lib.emu_limit_isa(name.encode()):
        raise EngineUnavailable(f"{name!r} is no instruction set; they are portable, avx2, avx512 and avx512fp16")
    return module.ffi.string(module.lib.emu_isa()).decode()
