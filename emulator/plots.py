"""Pictures, by matplotlib (the extra `plot`): formats, fragments, swizzles, use of banks; saved as SVG or PNG.

Each function draws a Figure; `save` writes it. Nothing is shown on a screen and no global state is touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .convert import convert
from .errors import BadOperand, EngineUnavailable
from .formats import number_format
from .fragments import Fragment
from .limits import values
from .shared import BANKS, SWIZZLES, access, degrees, swizzle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_banks", "draw_errors", "draw_fragment", "draw_spacing", "draw_swizzle", "save"]

Array = np.ndarray
_LABELLED = 1200        # cells up to which each has its label


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of that many inches, and its axes. Raises EngineUnavailable without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EngineUnavailable(f"pictures need matplotlib ({error}); pip install 'emulator[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def save(figure: Figure, out: str | Path) -> None:
    """Write a figure as what the file's name ends in: .svg or .png; the same figure gives the same bytes.

    Raises BadOperand for another ending.
    """
    kind = Path(out).suffix.lower()
    if kind not in (".svg", ".png"):
        raise BadOperand(f"{out}: pictures are written as .svg or .png")
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "emulator", "svg.fonttype": "none"}):
        figure.savefig(out, dpi=160, metadata={"Date": None} if kind == ".svg" else {"Software": None})


def cells(axes: Axes, colours: Array, labels: Array | None, title: str, across: str, down: str, most: int,
          colormap: str = "hsv") -> None:
    """A matrix of coloured cells with labels, the axes being its columns and rows."""
    rows, columns = colours.shape
    axes.pcolormesh(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, colours, cmap=colormap, vmin=0, vmax=most,
                    alpha=0.55, edgecolors="white", linewidth=0.3)
    if labels is not None:
        for (row, column), label in np.ndenumerate(labels):
            axes.text(column, row, label, ha="center", va="center", fontsize=5)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(down, fontsize=8)
    axes.tick_params(labelsize=6)
    axes.locator_params(integer=True)


def draw_fragment(of: Fragment) -> Figure:
    """Each element in the colour of its lane, labelled lane:register, and .bit where several share a register."""
    figure, axes = new_figure(min(24.0, 2 + 0.42 * of.cols), min(24.0, 1.2 + 0.3 * of.rows))
    lane = of.inverse // of.index.shape[1]
    several = of.word > (of.place or of.bits)
    labels = None
    if of.rows * of.cols <= _LABELLED:
        places = (of.where(row, column) for row, column in np.ndindex(of.rows, of.cols))
        texts = [f"{t}:{r}" + f".{bit}" * several for t, r, bit in places]
        labels = np.array(texts).reshape(of.rows, of.cols)
    cells(axes, lane % 32, labels, f"{of}\nlane:register" + ".bit" * several, "column", "row", 32)
    return figure


def draw_swizzle(mode: str, rows: int = 16) -> Figure:
    """Which piece of 8 or 16 bytes of which 128-byte row lies where in shared memory. Raises BadOperand."""
    unit = 8 if "FLIP" in mode else 16
    at = swizzle(np.arange(0, rows * 128, unit), mode)      # its own inverse: where from is where to
    figure, axes = new_figure(1 + 0.55 * 128 // unit, 1.2 + 0.3 * rows)
    source = at.reshape(rows, 128 // unit)
    labels = np.array([f"{x // 128}: {x % 128}" for x in at]).reshape(source.shape)
    cells(axes, source % 128 // unit, labels, f"swizzle {mode}, repeats every {SWIZZLES[mode][2]} bytes\nrow: byte of "
          "what lies there", f"{unit} bytes of a row, 4 bytes a bank", "128-byte row", 128 // unit)
    return figure


def draw_banks(addresses: Any, width: int, title: str = "") -> Figure:
    """Words that each bank gives in each phase of warp accesses (shared.access): one is free, each more a conflict."""
    words, cost = degrees(addresses, width), access(addresses, width)
    figure, axes = new_figure(2 + 0.3 * BANKS, 1.2 + 0.35 * len(words))
    head = (f"{title}\n" * bool(title) + f"{width} bytes a lane: {cost.phases} phases, {cost.wavefronts} wavefronts, "
            f"{cost.conflicts} conflicts, {cost.ways}-way")
    labels = np.where(words > 0, words.astype(str), "")
    cells(axes, words, labels, head, "bank", "phase", max(8, cost.ways), "YlOrRd")
    return figure


# --- formats ----------------------------------------------------------------------------------------------------------

def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure, axes = new_figure(8, 5)
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def draw_spacing(formats: Iterable[Any]) -> Figure:
    """The distance from each positive number to the next, as a share of the number, on logarithmic axes. Formats of at
    most 16 bits. Raises BadOperand."""
    figure, axes = _axes("Distance to the next number", "number", "distance / number")
    for fmt in map(number_format, formats):
        numbers = values(fmt)[1]
        numbers = np.unique(numbers[np.isfinite(numbers) & (numbers > 0)])
        axes.plot(numbers[:-1], np.diff(numbers) / numbers[:-1], label=f"{fmt}", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.legend()
    return figure


def draw_errors(formats: Iterable[Any], x: Any = None, **options: Any) -> Figure:
    """A histogram of the relative errors of converting x (default: 100,000 normally distributed numbers, always the
    same) to each format, exact ones left out; options as `convert` takes them, but that it saturates unless told
    otherwise. Raises BadOperand."""
    x = np.random.default_rng(0).standard_normal(100_000) if x is None else np.asarray(x, np.float64).reshape(-1)
    x = x[np.isfinite(x) & (x != 0)]
    figure, axes = _axes("Relative error of a conversion", "|error / number|", "share of numbers")
    for fmt in map(number_format, formats):
        found = convert(convert(x, fmt, **{"overflow": "saturate", **options}), "float64", source=fmt)
        relative = np.abs(found - x) / np.abs(x)                # 1 where a number became zero
        share, mean = np.full(x.size, 1 / max(x.size, 1)), float(np.sqrt(np.mean(relative**2)))
        axes.hist(relative, np.exp2(np.arange(-30, 1.26, 0.25)), weights=share, histtype="step",
                  label=f"{fmt}, root mean square {mean:.2g}")
    axes.set_xscale("log", base=2)
    axes.legend()
    return figure
