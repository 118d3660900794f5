"""By hand: the benchmarks' functions as a good NumPy programmer writes them, value and gradient.

Each function here binds parameters `theta` and gradient `g` (flat arrays) once, as a training loop
would, and returns `step()`, which fills g and returns the loss. The networks allocate their large
arrays beforehand and write into them with `out=`; the transformer, whose arrays are tiny, writes
only the gradients in place. Networks keep W and b apart, each contiguous, layer after layer: their
own order of parameters, the one that is fastest for them (`neuron_order` converts). `textbook_*` is
the same without `out=`, as in a lecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Step = Callable[[], float]


def layers(flat: np.ndarray, sizes: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Views (W, b) of a flat array: W is (nout, nin), b (nout,)."""
    views, start = [], 0
    for nin, nout in zip(sizes, sizes[1:], strict=False):
        W = flat[start : start + nin * nout].reshape(nout, nin)
        b = flat[start + W.size : start + W.size + nout]
        views.append((W, b))
        start += W.size + b.size
    return views


def neuron_order(sizes: Sequence[int]) -> np.ndarray:
    """Where each of our parameters is in the order "neuron by neuron, weights then bias"."""
    parts, start = [], 0
    for nin, nout in zip(sizes, sizes[1:], strict=False):
        block = start + np.arange(nout * (nin + 1)).reshape(nout, nin + 1)
        parts += [block[:, :-1].ravel(), block[:, -1]]
        start += block.size
    return np.concatenate(parts)


# ---------------------------------------------------------------- moons: ReLUs, hinge loss, L2
def moons(
    theta: np.ndarray,
    g: np.ndarray,
    sizes: Sequence[int],
    X: np.ndarray,
    y: np.ndarray,
    decay: float,
) -> Step:
    """X is (samples, 2), y (samples,) of -1 and 1. Samples are columns, buffers preallocated."""
    (W1, b1), (W2, b2), (W3, b3) = layers(theta, sizes)
    (dW1, db1), (dW2, db2), (dW3, db3) = layers(g, sizes)
    b1, b2, b3 = b1[:, None], b2[:, None], b3[:, None]
    n = len(X)
    x = np.ascontiguousarray(X.T)
    xT = np.ascontiguousarray(X)
    slope = -y[None] / n
    h1, h2 = np.empty((sizes[1], n)), np.empty((sizes[2], n))
    d1, d2 = np.empty_like(h1), np.empty_like(h2)
    margin, delta = np.empty((1, n)), np.empty((1, n))

    def step() -> float:
        np.matmul(W1, x, out=h1)
        np.add(h1, b1, out=h1)
        np.maximum(h1, 0.0, out=h1)
        np.matmul(W2, h1, out=h2)
        np.add(h2, b2, out=h2)
        np.maximum(h2, 0.0, out=h2)
        np.matmul(W3, h2, out=margin)
        np.add(margin, b3, out=margin)
        np.multiply(margin, y, out=margin)
        np.subtract(1.0, margin, out=margin)
        np.maximum(margin, 0.0, out=margin)
        loss = margin.sum() / n + decay * (theta @ theta)

        np.multiply(margin > 0.0, slope, out=delta)
        np.matmul(delta, h2.T, out=dW3)
        delta.sum(1, out=db3)
        np.matmul(W3.T, delta, out=d2)
        np.multiply(d2, h2 > 0.0, out=d2)
        np.matmul(d2, h1.T, out=dW2)
        d2.sum(1, out=db2)
        np.matmul(W2.T, d2, out=d1)
        np.multiply(d1, h1 > 0.0, out=d1)
        np.matmul(d1, xT, out=dW1)
        d1.sum(1, out=db1)
        np.add(g, (2.0 * decay) * theta, out=g)
        return float(loss)

    return step


def textbook_moons(
    theta: np.ndarray,
    g: np.ndarray,
    sizes: Sequence[int],
    X: np.ndarray,
    y: np.ndarray,
    decay: float,
) -> Step:
    """The same, samples in rows, every result a new array."""
    (W1, b1), (W2, b2), (W3, b3) = layers(theta, sizes)
    gradients = layers(g, sizes)

    def step() -> float:
        h1 = np.maximum(X @ W1.T + b1, 0.0)
        h2 = np.maximum(h1 @ W2.T + b2, 0.0)
        margin = 1.0 - y * (h2 @ W3.T + b3)[:, 0]
        loss = np.maximum(margin, 0.0).mean() + decay * (theta**2).sum()

        delta3 = (-y * (margin > 0.0) / len(y))[:, None]
        delta2 = (delta3 @ W3) * (h2 > 0.0)
        delta1 = (delta2 @ W2) * (h1 > 0.0)
        deltas, inputs = (delta1, delta2, delta3), (X, h1, h2)
        for (dW, db), delta, h in zip(gradients, deltas, inputs, strict=True):
            dW[:] = delta.T @ h
            db[:] = delta.sum(0)
        g[:] += 2.0 * decay * theta
        return float(loss)

    return step


# ---------------------------------------------------------------- sigmoid layers, cross-entropy
def classifier(
    theta: np.ndarray, g: np.ndarray, sizes: Sequence[int], X: np.ndarray, labels: np.ndarray
) -> Step:
    """X is (rows, sizes[0]), labels (rows,) classes. Preallocated; a single row has its products
    as broadcasts, which is what BLAS is slow at."""
    weights, gradients = layers(theta, sizes), layers(g, sizes)
    n, dtype = len(X), theta.dtype
    h = [X, *(np.empty((n, size), dtype) for size in sizes[1:])]
    d = [np.empty_like(a) for a in h]
    slope = [np.empty_like(a) for a in h]
    top, mass = np.empty((n, 1), dtype), np.empty((n, 1), dtype)
    everyone = np.arange(n)
    share = theta.dtype.type(1.0 / n)

    def step() -> float:
        for k, (W, b) in enumerate(weights, 1):
            a = h[k]
            np.matmul(h[k - 1], W.T, out=a)
            np.add(a, b, out=a)
            if k < len(weights):
                np.negative(a, out=a)
                np.exp(a, out=a)
                np.add(a, 1.0, out=a)
                np.reciprocal(a, out=a)
        logits, delta = h[-1], d[-1]
        np.max(logits, axis=1, keepdims=True, out=top)
        np.subtract(logits, top, out=logits)
        np.exp(logits, out=delta)
        np.sum(delta, axis=1, keepdims=True, out=mass)
        loss = (np.log(mass).sum() - logits[everyone, labels].sum()) / n

        np.multiply(delta, share / mass, out=delta)
        delta[everyone, labels] -= share
        for k in range(len(weights), 0, -1):
            dW, db = gradients[k - 1]
            if n == 1:
                np.multiply(d[k].T, h[k - 1], out=dW)
                db[:] = d[k][0]
            else:
                np.matmul(d[k].T, h[k - 1], out=dW)
                np.sum(d[k], axis=0, out=db)
            if k > 1:
                np.matmul(d[k], weights[k - 1][0], out=d[k - 1])
                np.subtract(1.0, h[k - 1], out=slope[k - 1])
                np.multiply(slope[k - 1], h[k - 1], out=slope[k - 1])
                np.multiply(d[k - 1], slope[k - 1], out=d[k - 1])
        return float(loss)

    return step


# ---------------------------------------------------------------- a transformer of one block
def matrices(flat: np.ndarray, shapes: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """Named views of a flat array, one matrix after the other."""
    views, start = {}, 0
    for name, (rows, columns) in shapes.items():
        views[name] = flat[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
    return views


def transformer(
    theta: np.ndarray,
    g: np.ndarray,
    shapes: dict[str, tuple[int, int]],
    heads: int,
    tokens: Sequence[int],
) -> Step:
    """All positions at once; q, k and v are one product. Gradients of matrices go to g in place."""
    n = shapes["embedding"][1]
    shapes = {
        "qkv" if k == "query" else k: v for k, v in shapes.items() if k not in ("key", "value")
    }
    shapes["qkv"] = (3 * n, n)
    w, d = matrices(theta, shapes), matrices(g, shapes)
    given, wanted = np.array(tokens[:-1]), np.array(tokens[1:])
    T, size = len(given), n // heads
    scale = 1.0 / math.sqrt(size)
    everyone = np.arange(T)
    future = np.triu(np.full((T, T), -np.inf), 1)
    one_hot = np.zeros((shapes["embedding"][0], T))
    one_hot[given, everyone] = 1.0
    E, P, QKV, M = w["embedding"], w["position"][:T], w["qkv"], w["projection"]
    F, B, L = w["forward"], w["back"], w["logits"]
    d["position"][T:] = 0.0  # positions that this document does not reach
    dx_qkv = np.empty((T, 3 * n))
    dq, dk, dv = dx_qkv.reshape(T, 3, heads, size).transpose(1, 2, 0, 3)

    def normalized(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = 1.0 / np.sqrt(np.einsum("ij,ij->i", x, x) / n + 1e-5)[:, None]
        return x * s, s

    def back_normalized(dy: np.ndarray, y: np.ndarray, s: np.ndarray) -> np.ndarray:
        return s * (dy - y * (np.einsum("ij,ij->i", dy, y) / n)[:, None])

    def step() -> float:
        x1, s1 = normalized(E[given] + P)
        x2, s2 = normalized(x1)
        q, k, v = (x2 @ QKV.T).reshape(T, 3, heads, size).transpose(1, 2, 0, 3)
        p = q @ k.swapaxes(1, 2)
        p *= scale
        p += future
        p -= p.max(2, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(2, keepdims=True)
        mixed = (p @ v).swapaxes(0, 1).reshape(T, n)
        x3 = mixed @ M.T
        x3 += x1
        x4, s4 = normalized(x3)
        h = x4 @ F.T
        np.maximum(h, 0.0, out=h)
        x5 = h @ B.T
        x5 += x3
        z = x5 @ L.T
        z -= z.max(1, keepdims=True)
        dz = np.exp(z)
        mass = dz.sum(1, keepdims=True)
        loss = (np.log(mass).sum() - z[everyone, wanted].sum()) / T

        dz /= mass
        dz[everyone, wanted] -= 1.0
        dz *= 1.0 / T
        np.matmul(dz.T, x5, out=d["logits"])
        dx5 = dz @ L
        np.matmul(dx5.T, h, out=d["back"])
        dh = dx5 @ B
        dh *= h > 0.0
        np.matmul(dh.T, x4, out=d["forward"])
        dx3 = dx5 + back_normalized(dh @ F, x4, s4)
        np.matmul(dx3.T, mixed, out=d["projection"])
        dmixed = (dx3 @ M).reshape(T, heads, size).swapaxes(0, 1)
        dv[...] = p.swapaxes(1, 2) @ dmixed
        dp = dmixed @ v.swapaxes(1, 2)
        dp -= np.einsum("hij,hij->hi", dp, p)[..., None]
        dp *= p
        dp *= scale
        dq[...] = dp @ k
        dk[...] = dp.swapaxes(1, 2) @ q
        np.matmul(dx_qkv.T, x2, out=d["qkv"])
        dx1 = dx3 + back_normalized(dx_qkv @ QKV, x2, s2)
        dx0 = back_normalized(dx1, x1, s1)
        d["position"][:T] = dx0
        np.matmul(one_hot, dx0, out=d["embedding"])
        return float(loss)

    return step


# ---------------------------------------------------------------- a recurrent network
def recurrent(
    theta: np.ndarray,
    g: np.ndarray,
    size: int,
    outputs: int,
    X: np.ndarray,
    labels: np.ndarray,
) -> Step:
    """X is (rows, steps, inputs), labels (rows, steps); parameters W, U, b, V, c one by one.

    Rows are columns; what depends on no state, U x and all that V reads, is done for all steps.
    """
    rows, steps, inputs = X.shape
    shapes = {"W": (size, size), "U": (size, inputs), "b": (size, 1), "V": (outputs, size)}
    shapes["c"] = (outputs, 1)
    W, U, b, V, c = matrices(theta, shapes).values()
    dW, dU, db, dV, dc = matrices(g, shapes).values()
    x = np.ascontiguousarray(X.transpose(2, 1, 0).reshape(inputs, -1))  # steps * rows columns
    xT, hot = np.ascontiguousarray(x.T), np.zeros((outputs, steps * rows))
    hot[labels.T.reshape(-1), np.arange(steps * rows)] = 1.0
    h, z = np.zeros((steps + 1, size, rows)), np.empty((size, steps * rows))
    all_h, dz = np.empty((size, steps * rows)), np.empty((steps, size, rows))
    flat, before = np.empty((size, steps * rows)), np.empty((steps * rows, size))

    def step() -> float:
        np.matmul(U, x, z)
        np.add(z, b, z)
        for t in range(steps):
            now = h[t + 1]
            np.matmul(W, h[t], now)
            now += z[:, t * rows : (t + 1) * rows]
            np.tanh(now, now)
        all_h.reshape(size, steps, rows)[...] = h[1:].transpose(1, 0, 2)
        logits = V @ all_h
        logits += c
        logits -= logits.max(axis=0)
        p = np.exp(logits)
        total = p.sum(axis=0)
        loss = (np.log(total) - (logits * hot).sum(axis=0)).sum() / (steps * rows)
        p /= total
        p -= hot
        p /= steps * rows
        np.matmul(p, all_h.T, dV)
        np.sum(p, axis=1, keepdims=True, out=dc)
        from_outputs = V.T @ p
        for t in reversed(range(steps)):
            d = dz[t]
            np.multiply(h[t + 1], h[t + 1], d)
            np.subtract(1.0, d, d)
            arrived = from_outputs[:, t * rows : (t + 1) * rows]
            if t + 1 < steps:
                arrived = W.T @ dz[t + 1] + arrived
            d *= arrived
        flat.reshape(size, steps, rows)[...] = dz.transpose(1, 0, 2)
        before.reshape(steps, rows, size)[...] = h[:-1].transpose(0, 2, 1)
        np.matmul(flat, before, dW)
        np.matmul(flat, xT, dU)
        np.sum(flat, axis=1, keepdims=True, out=db)
        return float(loss)

    return step


# ---------------------------------------------------------------- twenty operations, on floats
def expression(theta: np.ndarray, g: np.ndarray) -> Step:
    """What `recordings.expression` computes, in Python's own floats."""

    def step() -> Any:
        a, b, c = theta.tolist()
        u = a * b + c
        sine, cosine = math.sin(u), math.cos(u)
        v = sine * cosine
        below = b * b + 1.0
        w = (a - v) / below
        z = math.tanh(w + u * v)
        e = math.exp(-c)
        f = z * z + 0.5 * w - math.log(1.0 + e)
        dt = 2.0 * z * (1.0 - z * z)  # by w + u * v
        dw = dt + 0.5
        dv = dt * u - dw / below
        du = dt * v + dv * (cosine * cosine - sine * sine)
        g[0] = du * b + dw / below
        g[1] = du * a - 2.0 * b * dw * w / below
        g[2] = du + e / (1.0 + e)
        return f

    return step
