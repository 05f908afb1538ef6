"""Accelerator number hardware, bit for bit: number formats, and matrix units instruction by instruction."""

from . import exact
from .errors import (
    BadGolden,
    BadOperand,
    EmulatorError,
    EngineUnavailable,
    Mismatch,
    UnknownFormat,
    UnknownInstruction,
)
from .formats import FORMATS, Float, Integer, number_format
from .instructions import ARCHS, find, table
from .matmul import matmul
from .unit import Unit, instruction

__all__ = ["ARCHS", "FORMATS", "BadGolden", "BadOperand", "EmulatorError", "EngineUnavailable", "Float", "Integer",
           "Mismatch", "Unit", "UnknownFormat", "UnknownInstruction", "exact", "find", "instruction", "matmul",
           "number_format", "table"]
__version__ = "0.1.0"
