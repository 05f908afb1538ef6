"""Conversions and special functions of golden folders: read, check, replay against what the emulator has of them.

A file of this kind holds one PTX operation (`cvt.rn.satfinite.e4m3x2.f32`, `ex2.approx.f32`): golden/README.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import arrays
from .compare import Comparison
from .convert import convert
from .errors import BadGolden, UnknownFormat
from .formats import Float, number_format
from .golden import manifest_of, open_file

__all__ = ["OperationSet", "model", "read"]

_ROUNDINGS = {"rn": "rne", "rz": "rz", "rm": "rd", "rp": "ru", "rna": "rna"}      # PTX ISA, "Rounding modifiers"


@dataclass(frozen=True)
class OperationSet:
    """One operation of a golden folder. rows: how many results it holds."""

    path: Path
    arch: str
    operation: str
    rows: int
    sha256: str
    source: str

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    def load(self) -> dict[str, np.ndarray]:
        """x and y (N, lanes), codes of the operation's formats; random (N,) uint32 where it rounds stochastically; sums
        (256,) where all of float32 was swept. Raises BadGolden."""
        found = open_file(str(self), self.path, self.sha256)
        target, source, lanes, random = _parse(str(self), self.operation)
        x, y, words = found.get("x"), found.get("y"), found.get("random")
        right = x is not None and y is not None and x.shape == y.shape == (len(x), lanes) and y.size == self.rows
        right = right and (x.dtype, y.dtype, random) == (source.code_dtype, target.code_dtype, words is not None)
        if not right or (random and (words.shape, words.dtype) != (x.shape[:1], np.uint32)):
            told = ", ".join(f"{key} {array.dtype.name} {array.shape}" for key, array in found.items())
            raise BadGolden(f"{self} holds {told or 'nothing'}; {self.operation} takes x {source.code_dtype.name} and "
                            f"y {target.code_dtype.name}, both (N, {lanes}), {self.rows} results"
                            f"{', and random' * random}")
        return found

    def replay(self) -> Comparison | None:
        """What the emulator makes of x against y; None for an operation that it does not model. Raises BadGolden."""
        found = self.load()
        want = model(self.operation, found["x"])
        return None if want is None else Comparison(want, found["y"], _parse(str(self), self.operation)[0], "y")


def _parse(name: str, operation: str) -> tuple[Float, Float, int, bool]:
    """Target, source, numbers at a time, and whether random words are read."""
    words = operation.split(".")
    try:
        if words[0] != "cvt":
            only = number_format(words[-1])
            return only, only, 1, False                             # type: ignore[return-value]
        (target, lanes), (source, _) = (re.fullmatch(r"(.+?)(?:x(\d))?", word).groups() for word in words[-2:])
        return number_format(target), number_format(source), int(lanes or 1), "rs" in words  # type: ignore[return-value]
    except (UnknownFormat, TypeError, ValueError):
        raise BadGolden(f"{name}: {operation!r} is no operation: cvt.<rounding>...<to>.<from> or <function>...<format>"
                        ) from None


def model(operation: str, x: np.ndarray) -> np.ndarray | None:
    """The codes that a conversion makes of codes `x`, by convert's profile cuda; None where nothing published says:
    stochastic rounding, .relu of a negative zero, the functions."""
    words = operation.split(".")
    if words[0] != "cvt" or "rs" in words or "relu" in words:
        return None
    target, source, _, _ = _parse(operation, operation)
    if words[1:] == ["rna", "tf32", "f32"]:     # integer work: SASS of CUDA 13.0
        magnitude = x & np.uint32(0x7FFFFFFF)
        return (x + np.where(magnitude < 0x7F800000, np.uint32(0x1000), np.uint32(0))) & np.uint32(0xFFFFE000)
    overflow = "saturate" if "satfinite" in words else None
    made = convert(x.astype(source.code_dtype), target, source=source, profile="cuda", overflow=overflow,
                   rounding=_ROUNDINGS[words[1]])
    return arrays.codes(made, target, "y")


def read(folder: str | Path) -> list[OperationSet]:
    """The operations of one golden folder, by its manifest. Raises BadGolden."""
    folder = Path(folder)
    manifest, said = manifest_of(folder)
    if manifest.name != "machine.json":
        return []
    try:
        return [OperationSet(folder / file, str(entry.get("arch") or said["arch"]), str(entry["operation"]),
                             int(entry["rows"]), str(entry["sha256"]), f"{said['kind']}: {folder.name}")
                for file, entry in said["files"].items() if "operation" in entry]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadGolden(f"{manifest}: {error!r}") from None
