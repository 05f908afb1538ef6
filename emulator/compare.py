"""Bit-for-bit comparison of two arrays, and the story of the first differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import arrays, show
from .errors import BadOperand, Mismatch, UnknownFormat
from .exact import decode
from .formats import Float, Format, Integer, Table, number_format

__all__ = ["Comparison", "any_codes", "compare"]

_TOLD = 8       # differences that the story tells


@dataclass(frozen=True, eq=False)
class Comparison:
    """What compare() found: got and want are codes of `fmt`, of one shape."""

    got: np.ndarray
    want: np.ndarray
    fmt: Format
    name: str = "d"

    @property
    def total(self) -> int:
        return self.got.size

    @property
    def mismatches(self) -> int:
        return int(np.count_nonzero(self.got != self.want))

    @property
    def equal(self) -> bool:
        return not self.mismatches

    @property
    def first(self) -> tuple[int, ...] | None:
        """Index of the first difference in C order; None if there is none."""
        found = _indices(self.got, self.want, 1)
        return found[0] if found else None

    def check(self) -> None:
        """Raise Mismatch, with the story, unless every bit is equal."""
        if not self.equal:
            raise Mismatch(str(self))

    def __str__(self) -> str:
        elements = f"{self.total:,} element{'s' * (self.total != 1)} of {self.name}"
        if self.equal:
            return f"{f'all {elements} are equal' if self.total else f'{self.name} has no elements'} ({self.fmt})"
        lines = [f"{self.mismatches:,} of {elements} differ ({self.fmt})"]
        for index in _indices(self.got, self.want, _TOLD):
            got, want = int(self.got[index]), int(self.want[index])
            place = f"{self.name}[{', '.join(map(str, index))}]" if index else self.name
            lines.append(f"  {place}  got {show.describe(self.fmt, got)}  want {show.describe(self.fmt, want)}"
                         f"  ({_distance(self.fmt, got, want)})")
        if self.mismatches > _TOLD:
            lines.append(f"  ... and {self.mismatches - _TOLD:,} more")
        return "\n".join(lines)


def compare(got: object, want: object, fmt: str | Format | None = None, name: str = "d") -> Comparison:
    """Compare two arrays of one shape bit for bit: NaN payloads and the sign of zero count.

    got, want: numpy or ml_dtypes arrays of one type, in any memory layout and byte order; or, with `fmt`, codes of that
    format (or arrays of its type). `name` is what the story calls the arrays.
    Raises BadOperand where shapes or types differ.
    """
    shapes, types = zip(*((x.shape, x.dtype.newbyteorder("=")) for x in map(np.asarray, (got, want))))
    if shapes[0] != shapes[1]:
        raise BadOperand(f"got is {shapes[0]} and want is {shapes[1]}; only arrays of one shape can be compared")
    if fmt is None and types[0] != types[1]:
        raise BadOperand(f"got is {types[0].name} and want is {types[1].name}; convert one, or pass unsigned codes of "
                         "both and the format: compare(got, want, fmt)")
    try:
        fmt = number_format(types[0] if fmt is None else fmt)
    except UnknownFormat:
        if fmt is not None:
            raise
        raise BadOperand(f"got and want are {types[0].name}; that is no number format. Pass unsigned codes and the "
                         "format: compare(got, want, fmt)") from None
    return Comparison(any_codes(got, fmt, "got"), any_codes(want, fmt, "want"), fmt, name)


def any_codes(x: object, fmt: Format, name: str) -> np.ndarray:
    """The codes of `x`: an array of the format's own type, or already codes (unsigned integers, Python integers).

    Raises BadOperand for anything else: values are never converted.
    """
    array = np.asarray(x)
    own = array.dtype.newbyteorder("=") in arrays.carriers(fmt)
    unsigned = array.dtype.kind == "u" or (array.dtype.kind == "i" and not isinstance(x, (np.ndarray, np.generic)))
    if not own and not unsigned:
        raise BadOperand(f"{name} is {array.dtype.name} {array.shape}; it takes {fmt} ("
                         f"{' or '.join(carrier.name for carrier in arrays.carriers(fmt))}), or unsigned codes of it")
    return arrays.any_codes(array, fmt, name)


def _indices(got: np.ndarray, want: np.ndarray, count: int) -> list[tuple[int, ...]]:
    places = np.flatnonzero((got != want).ravel())[:count]
    return [tuple(int(i) for i in np.unravel_index(place, got.shape)) for place in places]


def _distance(fmt: Format, got: int, want: int) -> str:
    """How far apart two different codes are: `+1 ulp`, counted in codes, or what else tells them apart."""
    x, y = decode(fmt, got), decode(fmt, want)
    if isinstance(fmt, Table):
        return f"{got - want:+,} places in the table"
    if isinstance(fmt, Integer):
        return f"{(-x.sig if x.negative else x.sig) - (-y.sig if y.negative else y.sig):+,}"
    if "nan" in (x.kind, y.kind):
        return "another NaN" if x.kind == y.kind else "got NaN" if x.kind == "nan" else "want NaN"
    steps = _rank(fmt, got) - _rank(fmt, want)
    if steps:
        return f"{steps:+,} ulp"
    return "the sign of zero" if x.negative != y.negative else "bits the format ignores"


def _rank(fmt: Float, code: int) -> int:
    """The place of a code among the numbers: consecutive codes are one apart, both zeros are 0."""
    magnitude = (code & fmt.magnitude) >> fmt.low_pad
    return -magnitude if code & fmt.sign else magnitude
