"""The two networks: layers in a row for digits, and a transformer that reads characters.

Parameters are views into one array of float32, `flat`, and gradients likewise, so that an optimiser sees one array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import layers
from .functions import key, uniform
from .layers import ACTIVATIONS
from .products import Products

__all__ = ["MLP", "Model", "Parameters", "Transformer"]

Array = np.ndarray
F32 = np.float32


class Parameters(dict[str, Array]):
    """Arrays of float32 by name, views into `flat` in the order of `shapes`."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
        self.flat = np.zeros(int(ends[-1]), F32)
        super().__init__((name, self.flat[end - int(np.prod(shape)):end].reshape(shape))
                         for (name, shape), end in zip(shapes.items(), ends))


class Model:
    """A network: `weights` and `gradients`, and `loss(m, x, target)`, which fills the gradients.

    seed: of the weights. Matrices (in, out) start uniform with variance `gain` / in, or 0.02^2 for embeddings, drawn by
    functions.uniform; the gains of norms start as ones, all other vectors as zeros.
    """

    depth, context = 0, 0            # blocks, and characters that it sees at most; 0 where there are none

    def __init__(self, shapes: dict[str, tuple[int, ...]], seed: int, gain: dict[str, float]) -> None:
        self.weights, self.gradients = Parameters(shapes), Parameters(shapes)
        for name, w in self.weights.items():
            if w.ndim == 2:
                variance = 0.02**2 if name in ("token", "place") else gain.get(name.split(".")[-1], 1.0) / len(w)
                w[...] = (uniform(key(seed, name), w.shape) - F32(0.5)) * F32(np.sqrt(12 * variance))
            elif name.endswith(".g"):
                w[...] = 1

    def logits(self, m: Products, x: Array) -> Array:
        """The last layer's output (T, n) for inputs x."""
        raise NotImplementedError

    def loss(self, m: Products, x: Array, target: Array, scale: float = 1) -> float:
        """The loss on a batch; fills `gradients` with those of scale * loss."""
        raise NotImplementedError


class MLP(Model):
    """x (T, sizes[0]), through linear layers with an activation between them, to (T, sizes[-1]).

    loss "mse": of the activated outputs against a row of the identity (the classic network); "cross_entropy": of the
    outputs.
    """

    def __init__(self, sizes: tuple[int, ...], activation: str, loss: str, seed: int) -> None:
        self.activation, self.objective, self.sizes = activation, loss, sizes
        self.names = [f"layer{i}" for i in range(len(sizes) - 2)] + ["head"]
        shapes: dict[str, tuple[int, ...]] = {}
        for name, inputs, outputs in zip(self.names, sizes, sizes[1:]):
            shapes |= {f"{name}.w": (inputs, outputs), f"{name}.b": (outputs,)}
        super().__init__(shapes, seed, {"w": 2.0 if activation == "relu" else 1.0})

    def _forward(self, m: Products, x: Array) -> tuple[list[Array], list[Array]]:
        """Each layer's input, and its output before the activation."""
        inputs, outputs, forward = [x], [], ACTIVATIONS[self.activation][0]
        for name in self.names:
            outputs.append(layers.linear(m, name, inputs[-1], self.weights[f"{name}.w"], self.weights[f"{name}.b"]))
            inputs.append(forward(outputs[-1]))
        return inputs, outputs

    def logits(self, m: Products, x: Array) -> Array:
        return self._forward(m, x)[1][-1]

    def loss(self, m: Products, x: Array, target: Array, scale: float = 1) -> float:
        inputs, outputs = self._forward(m, x)
        back = ACTIVATIONS[self.activation][1]
        if self.objective == "mse":
            loss, d = layers.mse(inputs[-1], np.eye(self.sizes[-1], dtype=F32)[target])
            d = back(d * F32(scale), outputs[-1], inputs[-1])
        else:
            loss, d = layers.cross_entropy(outputs[-1], target)
            d *= F32(scale)
        for i in reversed(range(len(self.names))):
            name = self.names[i]
            dx, dw, db = layers.linear_back(m, name, d, inputs[i], self.weights[f"{name}.w"])
            self.gradients[f"{name}.w"][...], self.gradients[f"{name}.b"][...] = dw, db
            if i:
                d = back(dx, outputs[i - 1], inputs[i])
        return loss


class Transformer(Model):
    """A decoder: x (B, T) integers below `vocabulary` to logits (B T, vocabulary), T at most `context`.

    `depth` blocks of width `width`: x += attention(norm(x)), x += MLP(norm(x)) with 4 width inside, then a norm and
    the head. Projections that end in the residual stream start smaller, by 1 / (2 depth) (GPT-2).
    """

    def __init__(self, vocabulary: int, context: int = 64, width: int = 64, heads: int = 2, depth: int = 4,
                 activation: str = "gelu", seed: int = 0) -> None:
        self.vocabulary, self.context, self.heads, self.depth, self.activation = (
            vocabulary, context, heads, depth, activation)
        shapes: dict[str, tuple[int, ...]] = {"token": (vocabulary, width), "place": (context, width)}
        for i in range(depth):
            shapes |= {f"blocks.{i}.{name}": shape for name, shape in {
                "norm1.g": (width,), "norm1.b": (width,), "qkv": (width, 3 * width), "out": (width, width),
                "norm2.g": (width,), "norm2.b": (width,), "up": (width, 4 * width), "up.b": (4 * width,),
                "down": (4 * width, width), "down.b": (width,)}.items()}
        shapes |= {"norm.g": (width,), "norm.b": (width,), "head": (width, vocabulary)}
        super().__init__(shapes, seed, {"out": 0.5 / depth, "down": 0.5 / depth})

    def _forward(self, m: Products, ids: Array) -> tuple[Array, list[Any]]:
        """The logits (B T, vocabulary), and what the backward pass needs."""
        w, (batch, tokens) = self.weights, ids.shape
        x = (layers.embedding(ids, w["token"]) + w["place"][:tokens]).reshape(batch * tokens, -1)
        kept: list[Any] = []
        for i in range(self.depth):
            at = f"blocks.{i}"
            n1, norm1 = layers.layer_norm(x, w[f"{at}.norm1.g"], w[f"{at}.norm1.b"])
            qkv = layers.linear(m, f"{at}.qkv", n1, w[f"{at}.qkv"])
            mixed, attention = layers.attention(m, f"{at}.attention", qkv.reshape(batch, tokens, -1), self.heads)
            mixed = mixed.reshape(batch * tokens, -1)
            x = x + layers.linear(m, f"{at}.out", mixed, w[f"{at}.out"])
            n2, norm2 = layers.layer_norm(x, w[f"{at}.norm2.g"], w[f"{at}.norm2.b"])
            up = layers.linear(m, f"{at}.up", n2, w[f"{at}.up"], w[f"{at}.up.b"])
            active = ACTIVATIONS[self.activation][0](up)
            x = x + layers.linear(m, f"{at}.down", active, w[f"{at}.down"], w[f"{at}.down.b"])
            kept.append((n1, norm1, attention, mixed, n2, norm2, up, active))
        last, norm = layers.layer_norm(x, w["norm.g"], w["norm.b"])
        kept.append((last, norm))
        return layers.linear(m, "head", last, w["head"]), kept

    def logits(self, m: Products, x: Array) -> Array:
        return self._forward(m, x)[0]

    def loss(self, m: Products, x: Array, target: Array, scale: float = 1) -> float:
        w, g, (batch, tokens) = self.weights, self.gradients, x.shape
        logits, kept = self._forward(m, x)
        loss, d = layers.cross_entropy(logits, target.reshape(-1))
        d *= F32(scale)
        last, norm = kept.pop()
        d, g["head"][...], _ = layers.linear_back(m, "head", d, last, w["head"])
        d, g["norm.g"][...], g["norm.b"][...] = layers.layer_norm_back(d, norm, w["norm.g"])
        for i in reversed(range(self.depth)):
            at = f"blocks.{i}"
            n1, norm1, attention, mixed, n2, norm2, up, active = kept.pop()
            dx, g[f"{at}.down"][...], g[f"{at}.down.b"][...] = layers.linear_back(m, f"{at}.down", d, active,
                                                                                  w[f"{at}.down"])
            dx = ACTIVATIONS[self.activation][1](dx, up, active)
            dx, g[f"{at}.up"][...], g[f"{at}.up.b"][...] = layers.linear_back(m, f"{at}.up", dx, n2, w[f"{at}.up"])
            dx, g[f"{at}.norm2.g"][...], g[f"{at}.norm2.b"][...] = layers.layer_norm_back(dx, norm2, w[f"{at}.norm2.g"])
            d = d + dx
            dx, g[f"{at}.out"][...], _ = layers.linear_back(m, f"{at}.out", d, mixed, w[f"{at}.out"])
            dx = layers.attention_back(m, f"{at}.attention", dx.reshape(batch, tokens, -1), attention)
            dx, g[f"{at}.qkv"][...], _ = layers.linear_back(m, f"{at}.qkv", dx.reshape(batch * tokens, -1), n1,
                                                            w[f"{at}.qkv"])
            dx, g[f"{at}.norm1.g"][...], g[f"{at}.norm1.b"][...] = layers.layer_norm_back(dx, norm1, w[f"{at}.norm1.g"])
            d = d + dx
        d = d.reshape(batch, tokens, -1)
        g["token"][...] = layers.embedding_back(d, x, self.vocabulary)
        g["place"][:tokens] = layers.total(d, 0)
        g["place"][tokens:] = 0
        return loss
