"""The exceptions: each message names what came, what was allowed and what to do."""

__all__ = ["BadGolden", "BadOperand", "BadUnit", "EmulatorError", "EngineUnavailable", "Mismatch", "UnknownFormat",
           "UnknownInstruction"]


class EmulatorError(Exception):
    """Base of every error the emulator raises on purpose."""


class UnknownFormat(EmulatorError, LookupError):
    """No number format has that name, or a format was described inconsistently."""


class UnknownInstruction(EmulatorError, LookupError):
    """The architecture or the instruction is not in the table, or the instruction is not legal there."""


class BadOperand(EmulatorError, ValueError):
    """An operand has the wrong type, shape or value."""


class BadUnit(EmulatorError, ValueError):
    """A unit was described inconsistently (emulator.define)."""


class EngineUnavailable(EmulatorError, RuntimeError):
    """The engine asked for is not built, not installed, or cannot do this row."""


class BadGolden(EmulatorError, ValueError):
    """A golden folder is damaged, incomplete or not what its manifest says."""


class Mismatch(EmulatorError, AssertionError):
    """Results differ from what was expected."""
