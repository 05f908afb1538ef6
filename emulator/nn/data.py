"""The two data sets, both on the machine already: scikit-learn's handwritten digits, and the text of Python's help.

Every choice among them (split, batches) comes from functions.key and noise.words: the same seed, the same data.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

import numpy as np

from .. import noise
from ..errors import BadOperand
from .functions import key

__all__ = ["Data", "choose", "digits", "text"]

Array = np.ndarray
F32 = np.float32


class Data(NamedTuple):
    """Inputs and targets to learn from and to be tested on; `letters`: of a text, the characters by number."""

    x: Array
    target: Array
    test_x: Array
    test_target: Array
    letters: str = ""


def choose(seed: int, name: str, step: int, count: int, below: int) -> Array:
    """`count` integers (count) in 0..below-1, words of the stream of (seed, name, step)."""
    words = noise.words(key(seed, name, step), 0, count).astype(np.uint64)
    return (words * np.uint64(below) >> np.uint64(32)).astype(np.int64)


def digits() -> Data:
    """1797 handwritten digits of 8x8 pixels, x (n, 64) float32 in 0..1, target (n): 1437 to learn, 360 to be tested on.

    The optical recognition set of Alpaydin and Kaynak (UCI, 1998), as scikit-learn ships it; the split is the same for
    every seed. Raises BadOperand where scikit-learn is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError:
        raise BadOperand("the digits come with scikit-learn, which is not installed: pip install scikit-learn (or this "
                         "package's extra, train)") from None
    found = datasets.load_digits()
    order = np.argsort(noise.words(key(0, "digits"), 0, len(found.target)), kind="stable")
    x, target = (found.data[order] / 16).astype(F32), found.target[order].astype(np.int64)
    return Data(x[:1437], target[:1437], x[1437:], target[1437:])


def text(context: int = 64) -> Data:
    """The help topics of the running Python, pydoc_data.topics, in the order of their names: English, some 700,000
    characters. x and target are the same long row of integers (n), the last tenth of it to test on.

    The topics grow from one Python to the next, so losses and weights compare within one version alone. Raises
    BadOperand where they are too short for a context, or left out of the installation.
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        raise BadOperand("the text is Python's own pydoc_data.topics, which this installation lacks") from None
    return characters("\n".join(topics[name] for name in sorted(topics)), context)


def characters(whole: str, context: int) -> Data:
    """Any text as `text` gives its own; its characters are numbered in the order of their code points."""
    letters = "".join(sorted(set(whole)))
    number = {letter: i for i, letter in enumerate(letters)}
    ids = np.array([number[letter] for letter in whole], np.int64)
    cut = len(ids) * 9 // 10
    if len(ids) - cut <= context:
        raise BadOperand(f"a text of {len(ids)} characters is too short: a tenth of it must exceed {context}")
    return Data(ids[:cut], ids[:cut], ids[cut:], ids[cut:], letters)
