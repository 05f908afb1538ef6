"""Optimisers over one flat array of weights, with float32 state.

Sources: Loshchilov and Hutter 2019, arXiv 1711.05101 (AdamW); Sutskever et al. 2013 (momentum), as PyTorch writes it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["SGD", "AdamW", "Optimizer"]

Array = np.ndarray
F32 = np.float32


class Optimizer(Protocol):
    """`state`: arrays by name, all that the next step depends on. `step` changes w in place."""

    state: dict[str, Array]

    def step(self, w: Array, g: Array, rate: float) -> None: ...


class SGD:
    """v = momentum v + g; w -= rate v. All float32 (n)."""

    def __init__(self, size: int, momentum: float = 0.0) -> None:
        self.momentum = F32(momentum)
        self.state = {"v": np.zeros(size, F32)} if momentum else {}

    def step(self, w: Array, g: Array, rate: float) -> None:
        if self.state:
            v = self.state["v"]
            v *= self.momentum
            v += g
            g = v
        w -= F32(rate) * g


class AdamW:
    """Adam with decoupled weight decay, float32 (n): w -= rate (mean / (1 - b1^t) / (sqrt(square / (1 - b2^t)) + eps) +
    decay w), decay being one number for each weight. Powers are products, one factor a step, in float64."""

    def __init__(self, decay: Array, betas: tuple[float, float] = (0.9, 0.99), epsilon: float = 1e-8) -> None:
        self.decay, self.betas, self.epsilon = decay, betas, F32(epsilon)
        self.state = {"mean": np.zeros_like(decay), "square": np.zeros_like(decay), "powers": np.ones(2)}

    def step(self, w: Array, g: Array, rate: float) -> None:
        mean, square, powers = self.state["mean"], self.state["square"], self.state["powers"]
        powers *= self.betas
        for average, new, beta in ((mean, g, self.betas[0]), (square, g * g, self.betas[1])):
            average *= F32(beta)
            average += F32(1 - beta) * new
        root = np.sqrt(square * F32(1 / (1 - powers[1])))
        root += self.epsilon
        update = mean * F32(1 / (1 - powers[0]))
        update /= root
        update += self.decay * w
        update *= F32(rate)
        w -= update
