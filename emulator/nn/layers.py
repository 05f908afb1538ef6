"""Layers: each backward pass stands under its forward pass. Arrays and shapes, no graph.

Everything is float32. A matrix product goes through a `Products`, which says on which instruction and in which formats;
all else is float32 arithmetic in a written order (functions.py). T is the number of tokens or samples, whatever the
shape they come in; a backward function takes the gradient of the loss by the output first, and returns that by each
input. `name` is the layer's name, by which recipes and statistics know it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .functions import exp, log, mean, sigmoid, softmax, total
from .products import Products

__all__ = ["ACTIVATIONS", "attention", "attention_back", "cross_entropy", "embedding", "embedding_back", "layer_norm",
           "layer_norm_back", "linear", "linear_back", "mse", "rms_norm", "rms_norm_back"]

Array = np.ndarray
F32 = np.float32


# --- linear ----------------------------------------------------------------------------------------------------------

def linear(m: Products, name: str, x: Array, w: Array, b: Array | None = None) -> Array:
    """y (T, out) = x (T, in) w (in, out) + b (out)."""
    y = m("forward", name, x, w)
    return y if b is None else y + b


def linear_back(m: Products, name: str, dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """dx (T, in), dw (in, out) and db (out) from dy (T, out)."""
    return m("dgrad", name, dy, w.T), m.gradient(name, m("wgrad", name, x.T, dy)), total(dy, 0)


# --- embedding -------------------------------------------------------------------------------------------------------

def embedding(ids: Array, w: Array) -> Array:
    """Rows (..., d) of w (n, d), by integers ids (...) in 0..n-1."""
    return w[ids]


def embedding_back(dy: Array, ids: Array, n: int) -> Array:
    """dw (n, d) from dy (..., d): for each row the sum of its places, in ascending order."""
    dw = np.zeros((n, dy.shape[-1]), F32)
    np.add.at(dw, ids.reshape(-1), dy.reshape(-1, dy.shape[-1]))
    return dw


# --- norms -----------------------------------------------------------------------------------------------------------

EPSILON = F32(1e-5)


def layer_norm(x: Array, g: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
    """y (..., d) = (x - mean) / sqrt(variance + 1e-5) * g (d) + b (d), and what the backward pass needs."""
    centred = x - mean(x, -1)[..., None]
    inverse = F32(1) / np.sqrt(mean(centred * centred, -1)[..., None] + EPSILON)
    centred *= inverse
    return centred * g + b, (centred, inverse)


def layer_norm_back(dy: Array, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array, Array]:
    """dx (..., d), dg (d), db (d)."""
    normal, inverse = saved
    dn = dy * g
    dx = (dn - mean(dn, -1)[..., None] - normal * mean(dn * normal, -1)[..., None]) * inverse
    d = dy.shape[-1]
    return dx, total((dy * normal).reshape(-1, d), 0), total(dy.reshape(-1, d), 0)


def rms_norm(x: Array, g: Array) -> tuple[Array, tuple[Array, Array]]:
    """y (..., d) = x / sqrt(mean of squares + 1e-5) * g (d), and what the backward pass needs."""
    inverse = F32(1) / np.sqrt(mean(x * x, -1)[..., None] + EPSILON)
    normal = x * inverse
    return normal * g, (normal, inverse)


def rms_norm_back(dy: Array, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    """dx (..., d), dg (d)."""
    normal, inverse = saved
    dn = dy * g
    dx = (dn - normal * mean(dn * normal, -1)[..., None]) * inverse
    return dx, total((dy * normal).reshape(-1, dy.shape[-1]), 0)


# --- activations -----------------------------------------------------------------------------------------------------

def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, F32(0))


def relu_back(dy: Array, x: Array, y: Array) -> Array:
    """dx; 0 where x <= 0."""
    return dy * (x > 0)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return sigmoid(x)


def logistic_back(dy: Array, x: Array, y: Array) -> Array:
    """dx = dy y (1 - y)."""
    return dy * y * (F32(1) - y)


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def silu_back(dy: Array, x: Array, y: Array) -> Array:
    """dx = dy (s + y (1 - s)), s = sigmoid(x)."""
    s = sigmoid(x)
    return dy * (s + y * (F32(1) - s))


_CUBE, _SLOPE = F32(0.044715), F32(2 * 0.7978845608028654)      # 2 sqrt(2 / pi)


def gelu(x: Array) -> Array:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), which is x sigmoid of twice that angle."""
    return x * sigmoid(_SLOPE * (x + _CUBE * x * x * x))


def gelu_back(dy: Array, x: Array, y: Array) -> Array:
    """dx = dy (s + y (1 - s) u'), s = sigmoid(u), u the angle."""
    square = x * x
    s = sigmoid(_SLOPE * (x + _CUBE * square * x))
    square *= F32(3) * _CUBE
    square += F32(1)
    square *= _SLOPE
    return dy * (s + y * (F32(1) - s) * square)


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array, Array], Array]]] = {
    "relu": (relu, relu_back), "gelu": (gelu, gelu_back), "silu": (silu, silu_back),
    "sigmoid": (logistic, logistic_back),
}


# --- attention -------------------------------------------------------------------------------------------------------

class Attention(NamedTuple):
    """What the backward pass of attention needs: q, k, v and the probabilities p."""

    q: Array
    k: Array
    v: Array
    p: Array


def attention(m: Products, name: str, qkv: Array, heads: int) -> tuple[Array, Attention]:
    """Causal self-attention: qkv (B, T, 3 d), that is q, k, v of each head, to (B, T, d).

    y = softmax(q k^T / sqrt(d / heads)) v by head, each token seeing itself and those before it.
    """
    batch, tokens, width = qkv.shape
    q, k, v = np.ascontiguousarray(qkv.reshape(batch, tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4))
    scores = m("forward", f"{name}.scores", q, k.swapaxes(-1, -2))
    scores *= _inverse_root(q)
    scores += np.triu(np.full((tokens, tokens), -np.inf, F32), 1)
    p = softmax(scores)
    y = m("forward", f"{name}.values", p, v)
    return y.transpose(0, 2, 1, 3).reshape(batch, tokens, width // 3), Attention(q, k, v, p)


def attention_back(m: Products, name: str, dy: Array, saved: Attention) -> Array:
    """dqkv (B, T, 3 d) from dy (B, T, d)."""
    q, k, v, p = saved
    batch, heads, tokens, _ = q.shape
    dy = np.ascontiguousarray(dy.reshape(batch, tokens, heads, -1).transpose(0, 2, 1, 3))
    dp = m("dgrad", f"{name}.values", dy, v.swapaxes(-1, -2))
    dv = m("wgrad", f"{name}.values", p.swapaxes(-1, -2), dy)
    ds = p * (dp - total(p * dp, -1)[..., None])                # 0 where p is: what is masked stays so
    ds *= _inverse_root(q)
    dq = m("dgrad", f"{name}.scores", ds, k)
    dk = m("wgrad", f"{name}.scores", ds.swapaxes(-1, -2), q)
    return np.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4).reshape(batch, tokens, -1)


def _inverse_root(q: Array) -> np.float32:
    return F32(1) / np.sqrt(F32(q.shape[-1]))


# --- losses ----------------------------------------------------------------------------------------------------------

def mse(y: Array, target: Array) -> tuple[float, Array]:
    """The mean of (y - target)^2 over all elements, and dy."""
    d = y - target
    return float(total((d * d).reshape(-1), 0)) / d.size, d * F32(2 / d.size)


def cross_entropy(logits: Array, target: Array) -> tuple[float, Array]:
    """The mean of log(sum(exp(logits))) - logits[target], and d logits; logits (T, n), target (T) in 0..n-1."""
    rows, count = np.arange(len(target)), F32(1 / len(target))
    x = logits - logits.max(axis=-1, keepdims=True)
    p = exp(x)
    sums = total(p, -1)
    loss = float(total(log(sums) - x[rows, target], 0)) / len(target)
    p /= sums[:, None]
    p[rows, target] -= F32(1)
    p *= count
    return loss, p
