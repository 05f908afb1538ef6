"""Accelerator number hardware, bit for bit: number formats, and matrix units instruction by instruction."""

import importlib
from typing import TYPE_CHECKING, Any

from . import exact, integers
from .blocks import BLOCKS, BlockArray, BlockFormat
from .compare import Comparison, compare
from .convert import PROFILES, Report, convert, differences
from .define import Defined, define, load_unit, row_of
from .differ import UnitDiff, unit_diff
from .errors import (
    BadGolden,
    BadOperand,
    BadUnit,
    EmulatorError,
    EngineUnavailable,
    Mismatch,
    UnknownFormat,
    UnknownInstruction,
)
from .explain import Explanation, explain
from .formats import FORMATS, Float, Integer, Table, number_format
from .instructions import ARCHS, find, table
from .matmul import IN_ORDER, Promote, Schedule, SplitK, StreamK, matmul
from .probe import Finding, match, probe
from .quantize import SCHEMES, quantize
from .rounding import Policy
from .unit import Unit, instruction

if TYPE_CHECKING:
    from . import arithmetic, golden
    from .fragments import Fragment, copy_fragment, fragment
    from .judge import Verdict, check_kernel
    from .kernels import Kernel, Run
    from .limits import FormatInfo, finfo
    from .shared import SharedMemory, swizzle
    from .staging import Stage, Staged, stage
    from .trace import Trace

__all__ = ["ARCHS", "BLOCKS", "FORMATS", "IN_ORDER", "PROFILES", "SCHEMES", "BadGolden", "BadOperand", "BadUnit",
           "BlockArray", "BlockFormat", "Comparison", "Defined", "EmulatorError", "EngineUnavailable", "Explanation",
           "Finding", "Float", "FormatInfo", "Fragment", "Integer", "Kernel", "Mismatch", "Policy", "Promote",
           "Report", "Run", "Schedule", "SharedMemory", "SplitK", "Stage", "Staged", "StreamK", "Table", "Trace",
           "Unit", "UnitDiff", "UnknownFormat", "UnknownInstruction", "Verdict", "arithmetic", "check_kernel",
           "compare", "convert", "copy_fragment", "define", "differences", "exact", "explain", "find", "finfo",
           "fragment", "golden", "instruction", "integers", "load_unit", "match", "matmul", "number_format", "probe",
           "quantize", "row_of", "stage", "swizzle", "table", "unit_diff"]
__version__ = "0.1.0"

# Rooms that most programs never enter, and their names here: imported when one is first used.
_LATER = {"arithmetic": "",
          "fragments": "Fragment copy_fragment fragment",
          "golden": "",
          "judge": "Verdict check_kernel",
          "kernels": "Kernel Run",
          "limits": "FormatInfo finfo",
          "shared": "SharedMemory swizzle",
          "staging": "Stage Staged stage",
          "trace": "Trace"}


def __getattr__(name: str) -> Any:
    for room, names in _LATER.items():
        if name == room or name in names.split():
            module = importlib.import_module(f".{room}", __name__)
            return module if name == room else getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
