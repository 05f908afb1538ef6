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
from .formats import FORMATS, Float, Integer, Table, number_format
from .fragments import Fragment, copy_fragment, fragment
from .instructions import ARCHS, find, table
from .kernels import Kernel, Run
from .matmul import IN_ORDER, Promote, Schedule, SplitK, matmul
from .quantize import SCHEMES, quantize
from .rounding import Policy
from .shared import SharedMemory, swizzle
from .staging import Stage, Staged, stage
from .trace import Trace
from .unit import Unit, instruction

__all__ = ["ARCHS", "BLOCKS", "FORMATS", "IN_ORDER", "PROFILES", "SCHEMES", "BadGolden", "BadOperand", "BadUnit",
           "BlockArray", "BlockFormat", "Comparison", "Defined", "EmulatorError", "EngineUnavailable", "Explanation",
           "Float", "Fragment", "Integer", "Kernel", "Mismatch", "Policy", "Promote", "Report", "Run", "Schedule",
           "SharedMemory", "SplitK", "Stage", "Staged", "Table", "Trace", "Unit", "UnitDiff", "UnknownFormat",
           "UnknownInstruction", "arithmetic", "compare", "convert", "copy_fragment", "define", "differences", "exact",
           "explain", "find", "fragment", "golden", "instruction", "load_unit", "matmul", "number_format", "quantize",
           "row_of", "stage", "swizzle", "table", "unit_diff"]
__version__ = "0.1.0"
