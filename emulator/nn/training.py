"""Training runs: tasks, steps, checkpoints, samples. The same seed gives the same bits, on any engine and machine."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import instructions
from ..errors import BadOperand
from . import data
from .data import Data, choose
from .functions import key, softmax, uniform
from .models import MLP, Model, Transformer
from .optimizers import SGD, AdamW, Optimizer
from .products import Products
from .recipes import RECIPES, Recipe

__all__ = ["TASKS", "Run", "Task", "recipe_of", "train"]

Array = np.ndarray
F32 = np.float32


# --- tasks -----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Task:
    """A network, its data, and how it is trained. batch: samples, or for a text rows of `context` characters. The rate
    rises over `warmup` steps, then falls in a straight line to a tenth of `rate` at the last step."""

    data: Callable[[], Data]
    model: Callable[[Data, int], Model]
    optimizer: Callable[[Model], Optimizer]
    batch: int
    rate: float
    steps: int
    warmup: int = 0

    def rate_at(self, step: int, steps: int) -> float:
        rising = min(1.0, (step + 1) / (self.warmup + 1))
        return self.rate * min(rising, 1 - 0.9 * step / steps)


def _adamw(model: Model) -> AdamW:
    """Weight decay 0.1 for matrices, none for vectors."""
    return AdamW(np.concatenate([np.full(w.size, 0.1 if w.ndim > 1 else 0, F32) for w in model.weights.values()]))


TASKS = {
    "digits": Task(data.digits, lambda found, seed: MLP((64, 64, 32, 10), "relu", "cross_entropy", seed),
                   lambda model: SGD(model.weights.flat.size, momentum=0.9), batch=32, rate=0.05, steps=1500),
    "digits-sigmoid": Task(data.digits, lambda found, seed: MLP((64, 64, 32, 10), "sigmoid", "mse", seed),
                           lambda model: SGD(model.weights.flat.size, momentum=0.9), batch=32, rate=2.0, steps=3000),
    "text-small": Task(data.text, lambda found, seed: Transformer(len(found.letters), 32, 32, 2, 3, seed=seed), _adamw,
                       batch=16, rate=1e-2, steps=300, warmup=20),
    "text": Task(data.text, lambda found, seed: Transformer(len(found.letters), seed=seed), _adamw, batch=16, rate=3e-3,
                 steps=1500, warmup=50),
}


def recipe_of(recipe: str | Recipe) -> Recipe:
    """The recipe of that name. Raises BadOperand."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise BadOperand(f"recipe {recipe!r} is not known; the recipes are {', '.join(RECIPES)}")
    return RECIPES[recipe]


# --- runs ------------------------------------------------------------------------------------------------------------

class Run:
    """A network in training: `model`, its `optimizer`, the products `m`, the step, and the loss of each step so far.

    task: a key of TASKS, or (name, Task). recipe: a key of RECIPES, or a Recipe. arch: the recipe's, else sm_100.
    steps: how many the run has in all. Raises BadOperand for an unknown name.
    """

    def __init__(self, task: str | tuple[str, Task], recipe: str | Recipe, *, arch: str | None = None,
                 steps: int | None = None, seed: int = 0, engine: str | None = None,
                 threads: int | None = None) -> None:
        if isinstance(task, str) and task not in TASKS:
            raise BadOperand(f"task {task!r} is not known; the tasks are {', '.join(TASKS)}")
        self.name, self.task = (task, TASKS[task]) if isinstance(task, str) else task
        self.recipe, self.seed, self.step, self.seconds = recipe_of(recipe), seed, 0, 0.0
        arch = next(iter(instructions.table(arch).values())).arch if arch else None         # h100 is sm_90
        if arch and self.recipe.arch and arch != self.recipe.arch:
            raise BadOperand(f"recipe {self.recipe.name} is about {self.recipe.arch}; it does not run on {arch}")
        self.steps = self.task.steps if steps is None else steps
        self.data = self.task.data()
        self.model = self.task.model(self.data, key(seed, "weights"))
        self.optimizer = self.task.optimizer(self.model)
        self.m = Products(self.recipe, arch, depth=self.model.depth, seed=key(seed, "rounding"), engine=engine,
                          threads=threads)
        self.losses: list[float] = []
        self.loss_scale, self.good = (2.0**15 if self.recipe.loss_scale else 1.0), 0
        self._store()

    def advance(self) -> float:
        """One step; returns the loss before it."""
        start = time.perf_counter()
        self.m.step = self.step
        loss = self.model.loss(self.m, *self.batch(), self.loss_scale)
        if self._unscale():
            weights, gradients = self.model.weights.flat, self.model.gradients.flat
            self.optimizer.step(weights, gradients, self.task.rate_at(self.step, self.steps))
            self._store()
        self.step += 1
        self.losses.append(loss)
        self.seconds += time.perf_counter() - start
        return loss

    def batch(self) -> tuple[Array, Array]:
        """Inputs and targets of this step."""
        x, target, count = self.data.x, self.data.target, self.task.batch
        if not self.data.letters:
            chosen = choose(key(self.seed, "data"), "batch", self.step, count, len(x))
            return x[chosen], target[chosen]
        context = self.model.context
        starts = choose(key(self.seed, "data"), "batch", self.step, count, len(x) - context)
        return _rows(x, starts, context)

    def _unscale(self) -> bool:
        """Dynamic loss scaling: gradients divided by the scale; False, and half the scale, if one is not finite.

        The scale doubles after 200 good steps (of Micikevicius et al.'s choices: a power of two, so it rounds nothing).
        """
        if not self.recipe.loss_scale:
            return True
        gradients = self.model.gradients.flat
        if not np.isfinite(gradients).all():
            self.loss_scale, self.good = self.loss_scale / 2, 0
            return False
        gradients *= F32(1 / self.loss_scale)
        self.good += 1
        if self.good == 200:
            self.loss_scale, self.good = min(self.loss_scale * 2, 2.0**24), 0
        return True

    def _store(self) -> None:
        """Weights as the recipe keeps them."""
        if self.recipe.weights:
            flat = self.model.weights.flat
            flat[...] = self.recipe.weights(flat, -1, self.m.where("weights")).values(-1)

    def evaluate(self) -> dict[str, float]:
        """On unseen data: the loss (of a text in nats per character, of 64 rows), of digits also the accuracy."""
        kept = {name: x.copy() for name, x in self.m.memory.items()}
        try:
            return self._evaluate()
        finally:
            self.m.memory = kept

    def _evaluate(self) -> dict[str, float]:
        from .layers import cross_entropy

        x, target = self.data.test_x, self.data.test_target
        if self.data.letters:
            context = self.model.context
            x, target = _rows(x, np.linspace(0, len(x) - context - 1, 64).astype(np.int64), context)
            parts = [cross_entropy(self.model.logits(self.m, x[i:i + 16]), target[i:i + 16].reshape(-1))[0]
                     for i in range(0, 64, 16)]
            return {"loss": sum(parts) / len(parts)}
        logits = self.model.logits(self.m, x)
        return {"loss": cross_entropy(logits, target)[0], "accuracy": float((logits.argmax(-1) == target).mean())}

    def digest(self) -> str:
        """SHA-256 of the weights' bits, little endian."""
        return hashlib.sha256(self.model.weights.flat.astype("<f4").tobytes()).hexdigest()

    # --- checkpoints

    def save(self, path: str | Path) -> None:
        """All that the rest of the run depends on, an .npz of plain arrays; an older file stays until it is whole."""
        about = {"version": 1, "task": self.name, "recipe": self.recipe.name, "arch": self.m.arch, "seed": self.seed,
                 "steps": self.steps, "step": self.step, "loss_scale": self.loss_scale, "good": self.good,
                 "seconds": self.seconds, "data": _checksum(self.data)}
        arrays = {"about": np.array(json.dumps(about)), "weights": self.model.weights.flat,
                  "losses": np.array(self.losses)}
        arrays |= {f"optimizer/{name}": x for name, x in self.optimizer.state.items()}
        arrays |= {f"memory/{name}": x for name, x in self.m.memory.items()}
        path = Path(path)
        new = path.with_name(path.name + ".new")
        with new.open("wb") as file:
            np.savez(file, **arrays)                                    # type: ignore[arg-type]
        os.replace(new, path)

    @classmethod
    def load(cls, path: str | Path, *, recipe: Recipe | None = None, task: Task | None = None,
             engine: str | None = None, threads: int | None = None) -> Run:
        """The run as it was saved, to go on to the same bits. recipe, task: those of one's own that it was made with.

        Raises BadOperand for a file that is no checkpoint, or one of other data than are here.
        """
        about, arrays = _read(path)
        run = cls((about["task"], task) if task else about["task"], recipe or about["recipe"], arch=about["arch"],
                  steps=about["steps"], seed=about["seed"], engine=engine, threads=threads)
        if about["data"] != _checksum(run.data):
            raise BadOperand(f"{path}: its data are not those found here (a text changes with the version of Python, "
                             "digits with scikit-learn); a run goes on only with the same")
        for name in ("step", "loss_scale", "good", "seconds"):
            setattr(run, name, about[name])
        run.losses = arrays["losses"].tolist()
        run.model.weights.flat[...] = arrays["weights"]
        for name, x in run.optimizer.state.items():
            x[...] = arrays[f"optimizer/{name}"]
        run.m.memory = {name[len("memory/"):]: x for name, x in arrays.items() if name.startswith("memory/")}
        return run


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Array]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        if about["version"] != 1:
            raise BadOperand(f"{path}: a checkpoint of version {about['version']}; this program reads version 1")
        return about, arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadOperand(f"{path} is no checkpoint that emulator train wrote: {error!r}") from error


def _checksum(found: Data) -> int:
    return zlib.crc32(np.ascontiguousarray(found.x).tobytes(), zlib.crc32(found.letters.encode()))


def _rows(ids: Array, starts: Array, context: int) -> tuple[Array, Array]:
    """Inputs and targets (B, context): characters from each start on, and those after them."""
    places = starts[:, None] + np.arange(context + 1)
    rows = ids[places]
    return rows[:, :-1], rows[:, 1:]


def train(task: str | tuple[str, Task], recipe: str | Recipe, **choices: Any) -> Run:
    """A whole run, as Run(task, recipe, ...) and `advance` make it."""
    run = Run(task, recipe, **choices)
    while run.step < run.steps:
        run.advance()
    return run


def generate(run: Run, length: int, *, prompt: str = "The ", temperature: float = 0.8, seed: int = 0) -> Iterator[str]:
    """Characters that a text run writes after `prompt`, one by one. temperature 0: always the likeliest.

    Raises BadOperand for a run of another task, a letter that the text does not have, or a negative temperature.
    """
    return _letters(run, length, *_prompt(run, prompt, temperature), temperature, seed)


def _prompt(run: Run, prompt: str, temperature: float) -> tuple[list[int], str]:
    letters = run.data.letters
    if not letters:
        raise BadOperand(f"a run of {run.name} writes no text; generate takes one of text")
    strange = sorted(set(prompt) - set(letters))
    if not prompt or strange or temperature < 0:
        raise BadOperand(f"prompt is {prompt!r} and temperature {temperature}; they take characters of the text"
                         + f", not {''.join(strange)!r}," * bool(strange) + " and a number of 0 or more")
    return [letters.index(letter) for letter in prompt], letters


def _letters(run: Run, length: int, ids: list[int], letters: str, temperature: float, seed: int) -> Iterator[str]:
    chances = uniform(key(seed, "generate"), (length,))
    for chance in chances:
        logits = run.model.logits(run.m, np.array([ids[-run.model.context:]]))[-1]
        if temperature:
            sums = np.cumsum(softmax(logits[None] * F32(1 / temperature))[0], dtype=np.float64)
            ids.append(min(int(np.searchsorted(sums, chance * sums[-1], side="right")), len(letters) - 1))
        else:
            ids.append(int(logits.argmax()))
        yield letters[ids[-1]]
