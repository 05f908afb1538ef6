"""The C engine's door: csrc through cffi, opened on first use. No logic.

`engine_c.lib` and `engine_c.ffi` are cffi's; where there are none, asking for one raises EngineUnavailable, saying why.
"""

import functools
import importlib
import pathlib
from typing import Any

from emulator.errors import EngineUnavailable

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
