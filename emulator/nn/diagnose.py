"""What quantisation does to a network: counts and errors by tensor, layer, knob and depth; runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..exact import decode
from ..formats import Float, number_format
from .casts import Blocks, Cast, Operand, Plain, Scaled
from .products import Products
from .recipes import FP32, Gemm, Recipe
from .training import Run

__all__ = ["Compared", "Counts", "Statistics", "compare", "depth", "figure", "knobs", "sensitivity", "table"]

Array = np.ndarray
F32 = np.float32


# --- what became of the numbers --------------------------------------------------------------------------------------

@dataclass
class Counts:
    """Of quantised numbers: how many, beyond the range (saturated or infinite), flushed to zero, NaN; and the sums of
    squares of the error and of the numbers, from finite ones."""

    elements: int = 0
    saturated: int = 0
    flushed: int = 0
    nan: int = 0
    error: float = 0.0
    square: float = 0.0

    @property
    def relative(self) -> float:
        """The relative error of the tensor: root of the sum of squared errors over that of the numbers."""
        return float(np.sqrt(self.error / self.square)) if self.square else 0.0

    def add(self, x: Array, operand: Operand, axis: int) -> None:
        """Count array x and what became of it."""
        y = operand.values(axis).astype(np.float64)
        wide = (x if operand.source is None else operand.source).astype(np.float64)
        lost = np.abs(wide) - np.abs(y)
        bad = ~np.isfinite(wide)
        beyond = ~bad & (~np.isfinite(y) | (_is_largest(operand) & (lost > _half_step(operand) * np.abs(y))))
        fine = ~bad & np.isfinite(y)
        self.elements += x.size
        self.saturated += int(beyond.sum() + np.isinf(wide).sum())
        self.flushed += int((fine & (wide != 0) & (y == 0)).sum())
        self.nan += int(np.isnan(wide).sum())
        self.error += float(((wide - y)[fine] ** 2).sum())
        self.square += float((wide[fine] ** 2).sum())

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(x + y for x, y in zip(vars(self).values(), vars(other).values())))


def _is_largest(operand: Operand) -> Array:
    fmt = number_format(operand.format)
    if isinstance(fmt, Float):
        number = decode(fmt, fmt.max_code)
        return np.abs(operand.codes.astype(np.float64)) == number.sig * 2.0 ** number.exp
    return np.abs(operand.codes) == np.abs(operand.codes).max(initial=1)


def _half_step(operand: Operand) -> float:
    """Half the distance of the two largest numbers, relative to the largest: what nearest rounding may lose there."""
    fmt = number_format(operand.format)
    if isinstance(fmt, Float):
        number = decode(fmt, fmt.max_code)
        return 2.0 ** fmt.emax * 2.0 ** -(fmt.frac_bits + 1) / (number.sig * 2.0 ** number.exp)
    return 0.5 / max(1, int(np.abs(operand.codes).max(initial=1)))


class Statistics:
    """Counts by (layer, role, side) of a network's products; give it to Products as `watch`."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str], Counts] = {}

    def __call__(self, role: str, name: str, side: str, x: Array, operand: Operand) -> None:
        self.counts.setdefault((name, role, side), Counts()).add(x, operand, -1 if side == "a" else -2)

    def by_tensor(self) -> dict[str, Counts]:
        """Summed to activations, weights and gradients of the linear layers, and what attention multiplies."""
        found: dict[str, Counts] = {}
        for (name, role, side), counts in self.counts.items():
            tensor = tensor_of(name, role, side)
            found[tensor] = found.get(tensor, Counts()) + counts
        return found


def tensor_of(name: str, role: str, side: str) -> str:
    """Which kind of tensor is operand `side` (a or b) of a product."""
    if ".attention." in name:
        return "attention"
    return {"forwarda": "activations", "wgrada": "activations", "forwardb": "weights", "dgradb": "weights"}.get(
        role + side, "gradients")


# --- runs side by side -----------------------------------------------------------------------------------------------

@dataclass
class Compared:
    """A finished run: its recipe, the losses of all steps, the loss on unseen data, seconds a step, and its counts."""

    recipe: str
    losses: list[float]
    loss: float
    seconds: float
    counts: dict[str, Counts]


def compare(task: Any, recipes: Sequence[str | Recipe], *, steps: int | None = None, seed: int = 0, every: int = 25,
            advance: Callable[[Run], float] = Run.advance, **choices: Any) -> Iterator[Compared]:
    """Train the task once for each recipe, from the same weights on the same batches; counts from each `every` steps.

    choices: as Run takes them. advance: does a step, for a progress bar.
    """
    for recipe in recipes:
        run = Run(task, recipe, steps=steps, seed=seed, **choices)
        statistics, watched = Statistics(), 0.0
        while run.step < run.steps:
            run.m.watch = statistics if run.step % every == 0 else None
            before = run.seconds
            advance(run)
            watched += run.seconds - before if run.m.watch else 0.0
        run.m.watch = None
        plain = run.steps - len(range(0, run.steps, every))
        yield Compared(run.recipe.name, run.losses, run.evaluate()["loss"],
                       (run.seconds - watched) / plain if plain else run.seconds / run.steps, statistics.by_tensor())


_TENSORS = ("activations", "weights", "gradients")


def table(found: Sequence[Compared], base: str = "fp32") -> str:
    """The final losses, their gap to `base`, shares of saturated / flushed / NaN numbers by tensor, and seconds."""
    losses = {each.recipe: each.loss for each in found}
    head = ["recipe", "loss", f"to {base}", *_TENSORS, "s/step"]
    rows = []
    for each in found:
        gap = f"{each.loss / losses[base] - 1:+.2%}" if base in losses else "-"
        shares = [_shares(each.counts.get(tensor)) for tensor in _TENSORS]
        rows.append([each.recipe, f"{each.loss:.4f}", gap, *shares, f"{each.seconds:.3f}"])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) if i in (0, 3, 4, 5) else cell.rjust(width)
                       for i, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in [head, *rows]]
    return "\n".join([*lines, "shares of numbers: saturated / flushed to zero / NaN"])


def _shares(counts: Counts | None) -> str:
    if counts is None or not counts.elements:
        return "-"
    return " / ".join(f"{share:.2%}" if share else "0"
                      for share in (x / counts.elements for x in (counts.saturated, counts.flushed, counts.nan)))


def figure(found: Sequence[Compared], path: str | Path, title: str) -> None:
    """The losses by step, smoothed over 20 steps, into an image file. Needs matplotlib (the extra, train)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    page = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(page)
    axes = page.add_subplot(title=title, xlabel="step", ylabel="loss, mean of 20 steps")
    for each in found:
        span = min(20, len(each.losses))
        smooth = np.convolve(each.losses, np.full(span, 1 / span), "valid")
        axes.plot(np.arange(len(smooth)) + span, smooth, label=f"{each.recipe} {each.loss:.3f}", linewidth=1)
    axes.legend(title="loss on unseen data")
    page.savefig(path, dpi=150)


# --- one change at a time --------------------------------------------------------------------------------------------

def sensitivity(run: Run) -> list[tuple[str, float, float]]:
    """For each linear layer: (name, relative error of its quantised operands, the loss that its quantisation costs).

    The cost is how much higher the loss on unseen data is with this layer alone as the recipe does it, all others in
    float32. Layers that the recipe keeps are as it keeps them.
    """
    statistics = Statistics()
    run.m.watch = statistics
    run.m.step = run.step
    batch = run.batch()
    run.model.loss(run.m, *batch)
    run.m.watch = None
    layers = list(dict.fromkeys(name for name, _, _ in statistics.counts if ".attention." not in name))
    whole = _loss(run, Only(run.m, ""))
    found = []
    for name in layers:
        counts = sum((each for (layer, _, _), each in statistics.counts.items() if layer == name), Counts())
        found.append((name, counts.relative, _loss(run, Only(run.m, name)) - whole))
    return found


class Only(Products):
    """Products of which those in the layer of one name follow the recipe, and all others are float32."""

    def __init__(self, m: Products, name: str) -> None:
        super().__init__(m.recipe, m.arch, depth=m.depth, seed=m.seed, engine=m.engine, threads=m.threads)
        self.only, self.step = name, m.step

    def gemm(self, role: str, name: str) -> Gemm:
        return super().gemm(role, name) if name == self.only else FP32


def _loss(run: Run, m: Products) -> float:
    kept, run.m = run.m, m
    try:
        return run.evaluate()["loss"]
    finally:
        run.m = kept


def knobs(recipe: Recipe) -> dict[str, Recipe]:
    """Recipes that differ from this one in one knob of every product: its format, scale rule, rounding or accumulator.

    A knob is there where it means something: scale rules for scaled formats, promotion on sm_90.
    """
    def every(change: Callable[[Cast], Cast], **of: Any) -> Recipe:
        def gemm(x: Gemm) -> Gemm:
            return replace(x, a=change(x.a), b=change(x.b), **of)
        return replace(recipe, forward=gemm(recipe.forward), dgrad=gemm(recipe.dgrad), wgrad=gemm(recipe.wgrad))

    def with_field(**changes: Any) -> Callable[[Cast], Cast]:
        def change(cast: Any) -> Cast:
            known = {name: value for name, value in changes.items() if name in vars(cast)}
            inner = {"cast": change(cast.cast)} if "cast" in vars(cast) else {}
            return replace(cast, **known, **inner)
        return change

    casts = [getattr(getattr(recipe, role), side) for role in ("forward", "dgrad", "wgrad") for side in "ab"]
    casts = [getattr(cast, "cast", cast) for cast in casts]
    found = {"as it is": recipe, "rounding: sr": every(with_field(rounding="sr")),
             "rounding: toward zero": every(with_field(rounding="rz"))}
    if any(isinstance(cast, Scaled) for cast in casts):
        found |= {"format: bfloat16": every(lambda cast: Plain("bfloat16")),
                  "scale: power of two": every(with_field(power=True)), "scale: delayed": every(with_field(history=16)),
                  "scale: none": every(lambda cast: Plain(cast.format) if isinstance(cast, Scaled) else cast)}
    if any(isinstance(cast, Blocks) and cast.format.startswith("mx") for cast in casts):
        found |= {f"scale: {rule}": every(with_field(rule=rule)) for rule in ("floor", "ceil", "even", "rceil")}
    if (recipe.arch or "") == "sm_90":
        found["accumulator: promoted every 128"] = every(lambda cast: cast, promote=128)
        found["accumulator: never promoted"] = every(lambda cast: cast, promote=0)
    return {f"{recipe.name}, {name}": replace(each, name=f"{recipe.name}, {name}") for name, each in found.items()}


def depth(run: Run, x: Array | None = None) -> list[tuple[str, float]]:
    """How the error grows on the way through the network: for each product of the forward pass, in order, its result's
    relative distance to that of the same network in float32."""
    class Recorder(Products):
        def __call__(self, role: str, name: str, a: Array, b: Array) -> Array:
            y = super().__call__(role, name, a, b)
            seen.append((name, y.astype(np.float64)))
            return y

    x = run.data.test_x[:64] if x is None and not run.data.letters else run.batch()[0] if x is None else x
    results = []
    for recipe in (run.recipe, replace(run.recipe, forward=FP32, attention=FP32, kept=FP32)):
        seen: list[tuple[str, Array]] = []
        run.model.logits(Recorder(recipe, run.m.arch, depth=run.m.depth, seed=run.m.seed, engine=run.m.engine,
                                  threads=run.m.threads), x)
        results.append(seen)
    return [(name, float(np.linalg.norm(y - z) / np.linalg.norm(z))) for (name, y), (_, z) in zip(*results)]
