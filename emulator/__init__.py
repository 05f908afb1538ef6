"""Accelerator number hardware, bit for bit: number formats, and matrix units instruction by instruction."""

from . import arithmetic, exact, golden
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
from .formats import FORMATS, Float, Integer, number_format
from .fragments import Fragment, copy_fragment, fragment
from .instructions import ARCHS, find, table
from .matmul import IN_ORDER, Promote, Schedule, SplitK, matmul
from .quantize import SCHEMES, quantize
from .rounding import Policy
from .shared import SharedMemory, swizzle
from .unit import Unit, instruction

__all__ = ["ARCHS", "BLOCKS", "FORMATS", "IN_ORDER", "PROFILES", "SCHEMES", "BadGolden", "BadOperand", "BadUnit",
           "BlockArray", "BlockFormat", "Comparison", "Defined", "EmulatorError", "EngineUnavailable", "Explanation",
           "Float", "Fragment", "Integer", "Mismatch", "Policy", "Promote", "Report", "Schedule", "SharedMemory",
           "SplitK", "Unit", "UnitDiff", "UnknownFormat", "UnknownInstruction", "arithmetic", "compare", "convert",
           "copy_fragment", "define", "differences", "exact", "explain", "find", "fragment", "golden", "instruction",
           "load_unit", "matmul", "number_format", "quantize", "row_of", "swizzle", "table", "unit_diff"]
__version__ = "0.1.0"
