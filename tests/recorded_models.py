"""Graphs that people record: networks, sequences, attention, derivatives of derivatives, wild ones.

Every function of MODELS gives a fresh `Model` (engines.py), the same one each time. Networks are
written as people write them, plainly and differently from each other. It leaves out what is asked
of them.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from engines import Model, flat

import micrograd_scratch as mg
from micrograd_scratch import (
    MLP,
    Value,
    cos,
    dot,
    exp,
    log,
    losses,
    maximum,
    minimum,
    relu,
    sigmoid,
    sin,
    softmax,
    sqrt,
    take,
    tanh,
    total,
    where,
)

Vector = list[Value]
Matrix = list[Vector]


def vector(n: int, rng: random.Random, scale: float = 0.5, label: str = "") -> Vector:
    name = f"{label}[{{}}]" if label else ""
    return [Value(rng.gauss(0, scale), label=name.format(i)) for i in range(n)]


def matrix(
    rows: int, columns: int, rng: random.Random, scale: float = 0.5, label: str = ""
) -> Matrix:
    return [vector(columns, rng, scale, f"{label}[{i}]" if label else "") for i in range(rows)]


def linear(weights: Matrix, x: Sequence[Any], bias: Sequence[Any] | None = None) -> Vector:
    biases = bias or [None] * len(weights)
    return [dot(row, x, b) for row, b in zip(weights, biases, strict=True)]


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator, int], list[np.ndarray]]:
    """A feed of standard normal numbers: one array (rows, *shape) for every shape."""
    return lambda rng, rows: [rng.normal(size=(rows, *shape)) for shape in shapes]


# ---------------------------------------------------------------- networks of one sample
def mlp(activation: str = "sigmoid", output: str = "linear") -> Model:
    """5-7-6-3 by nn.MLP, squared error to targets that are inputs."""
    model = MLP(5, [7, 6, 3], activation=activation, output=output, rng=random.Random(0))
    x, target = vector(5, random.Random(1), label="x"), vector(3, random.Random(2), label="t")
    loss = losses.squared_error(model(x), target)
    return Model(loss, {"all": model.parameters()}, [x, target], normal((5,), (3,)))


def classifier() -> Model:
    """5-7-4, softmax cross-entropy with the class as an input; layers as parameter arrays."""
    rng = random.Random(0)
    W1, b1 = matrix(7, 5, rng, label="W1"), vector(7, rng, label="b1")
    W2, b2 = matrix(4, 7, rng, label="W2"), vector(4, rng, label="b2")
    x, target = vector(5, rng, label="x"), Value(1.0, label="target")
    hidden = [tanh(h) for h in linear(W1, x, b1)]
    loss = losses.cross_entropy(linear(W2, hidden, b2), target)
    parameters = {"W1": flat(W1), "b1": b1, "W2": flat(W2), "b2": b2}
    return Model(
        loss,
        parameters,
        [x, target],
        lambda rng, rows: [rng.normal(size=(rows, 5)), rng.integers(0, 4, rows).astype(float)],
    )


def several_outputs() -> Model:
    """Logits, a hidden unit, an input, a parameter, a constant, and one of them twice."""
    rng = random.Random(0)
    W, b, x = matrix(4, 3, rng), vector(4, rng), vector(3, rng)
    hidden = [sigmoid(h) for h in linear(W, x, b)]
    alone = tanh(W[0][0] * b[1])  # does not depend on a row
    outputs = [*hidden, x[1], W[2][0], Value(2.5), hidden[0], alone, total(hidden)]
    return Model(outputs, {"W": flat(W), "b": b}, [x], normal((3,)))


def attention() -> Model:
    """Causal attention over three tokens, in rows: one input of shape (3, 4)."""
    rng = random.Random(0)
    x = matrix(3, 4, rng)
    Wq, Wk, Wv = (matrix(4, 4, rng) for _ in range(3))
    q, k, v = ([linear(W, token) for token in x] for W in (Wq, Wk, Wv))
    out = []
    for t in range(3):
        p = softmax([dot(q[t], k[s]) * 0.5 for s in range(t + 1)])
        out += [tanh(dot(p, [v[s][d] for s in range(t + 1)])) for d in range(4)]
    parameters = {"q": flat(Wq), "k": flat(Wk), "v": flat(Wv)}
    return Model(total(out), parameters, [x], normal((3, 4)))


def two_headed_rows() -> Model:
    """Full attention with two heads and residuals on (4, 6) inputs, loss against (4, 6) targets."""
    rng = random.Random(5)
    x, target = matrix(4, 6, rng), matrix(4, 6, rng)
    Wq, Wk, Wv, Wo = (matrix(6, 6, rng, 0.4) for _ in range(4))
    q, k, v = ([linear(W, token) for token in x] for W in (Wq, Wk, Wv))
    out = []
    for t in range(4):
        heads = []
        for h in (0, 3):
            p = softmax([dot(q[t][h : h + 3], k[s][h : h + 3]) for s in range(4)])
            heads += [dot(p, [v[s][h + d] for s in range(4)]) for d in range(3)]
        out.append([a + b for a, b in zip(linear(Wo, heads), x[t], strict=True)])
    loss = total([losses.squared_error(o, t) for o, t in zip(out, target, strict=True)]) / 24
    parameters = {"q": flat(Wq), "k": flat(Wk), "v": flat(Wv), "o": flat(Wo)}
    return Model(loss, parameters, [x, target], normal((4, 6), (4, 6)))


def embedding() -> Model:
    """A table fed by token numbers, positions added, and the table itself as the output matrix."""
    rng = random.Random(1)
    table, positions, W = matrix(6, 4, rng), matrix(3, 4, rng), matrix(4, 4, rng)
    tokens = [Value(float(i), label=f"tokens[{i}]") for i in range(3)]
    target = Value(2.0, label="target")
    mixed = [0.0] * 4
    for token, position in zip(tokens, positions, strict=True):
        e = [take([row[d] for row in table], token) + position[d] for d in range(4)]
        mixed = [m + tanh(h) for m, h in zip(mixed, linear(W, e), strict=True)]
    loss = losses.cross_entropy(linear(table, mixed), target)
    return Model(
        loss,
        {"table": flat(table), "positions": flat(positions), "W": flat(W)},
        [tokens, target],
        lambda rng, rows: [
            rng.integers(0, 6, (rows, 3)).astype(float),
            rng.integers(0, 6, rows).astype(float),
        ],
    )


def computed_index() -> Model:
    """take at an index computed from an input, of values that are inputs, parameters, computed."""
    rng = random.Random(2)
    x, w = vector(4, rng), vector(5, rng)
    index = mg.floor(mg.clip(abs(x[0]) * 2, 0, 3))
    a = take(w[:4], index)
    b = take(x, index) * w[4]
    c = take([tanh(xi * wi) for xi, wi in zip(x, w[:4], strict=True)], 3 - index)
    d = take([Value(0.3), 1.5, w[0], x[2]], index)
    loss = sin(a) + b * c + d * d
    return Model(loss, {"w": w}, [x], normal((4,)))


def convolution_rows() -> Model:
    """Two layers of windows over a strip of 12, with borders, stride 1 and then 2."""
    rng = random.Random(3)
    x, w, v = vector(12, rng), vector(3, rng), vector(4, rng)
    bias = Value(0.1)
    first = []
    for i in range(12):
        low, high = max(0, i - 1), min(12, i + 2)
        first.append(relu(dot(w[low - i + 1 : high - i + 1], x[low:high], bias)))
    second = [tanh(dot(v, first[i : i + 4])) for i in range(0, 9, 2)]
    loss = dot(second, second)
    return Model(loss, {"w": w, "v": v, "bias": [bias]}, [x], normal((12,)))


def biases_by_row() -> Model:
    """Products of what has no rows, whose biases have: one dot, and a matrix of them."""
    rng = random.Random(27)
    w, x = vector(3, rng), vector(4, rng)
    W, V = matrix(2, 3, rng), matrix(4, 3, rng)
    table = [tanh(dot(row, column, xi)) for row in W for column, xi in zip(V, x, strict=True)]
    return Model(
        sin(dot(w, w, x[0])) * total(table), {"w": w, "W": flat(W), "V": flat(V)}, [x], normal((4,))
    )


def residual_tower() -> Model:
    """Ten residual blocks with rms normalization, all of one shape, every weight its own."""
    rng = random.Random(4)
    x = vector(4, rng)
    blocks = [(matrix(6, 4, rng), matrix(4, 6, rng)) for _ in range(10)]
    h: list[Value] = list(x)
    for up, down in blocks:
        scale = (dot(h, h) / 4 + 1e-5) ** -0.5
        inner = [mg.gelu(u) for u in linear(up, [hi * scale for hi in h])]
        h = [a + b for a, b in zip(h, linear(down, inner), strict=True)]
    parameters = {f"block {i}": flat(block) for i, block in enumerate(blocks)}
    return Model(losses.squared_error(h, x[::-1]), parameters, [x], normal((4,)))


def guarded() -> Model:
    """Singularities behind `where`, with data on both sides of every branch."""
    rng = random.Random(6)
    x, w = vector(4, rng, 1.0), vector(4, rng)
    a = where(x[0] > 0, sqrt(x[0]), 0.0) * w[0]
    b = where(x[1] != 0, w[1] / x[1], w[1])
    c = where(x[2] > 0, x[2] * log(x[2]), 0.0) + w[2] * x[2]
    safe = where(x[3] < 1, exp(1 / (x[3] - 1)), 0.0) * w[3]
    nested = where(x[0] > 0, where(x[1] > 0, sqrt(x[0] * x[1]), sqrt(-x[1] * x[0])), w[3])

    def feed(rng: np.random.Generator, rows: int) -> list[np.ndarray]:
        corners = np.array([[-1.0, 0.0, 0.0, 1.0], [0.0, 2.0, -1.0, 2.0], [1.0, -1.0, 1.0, -3.0]])
        return [np.concatenate([corners, rng.normal(size=(max(rows - 3, 0), 4))])[:rows]]

    return Model(a + b * c + safe + nested * nested, {"w": w}, [x], feed)


def extremes() -> Model:
    """max, min, clip and their ties: inputs are whole numbers."""
    rng = random.Random(7)
    x, w = vector(4, rng), vector(3, rng)
    loss = (
        maximum(x) * w[0]
        + minimum([*x, w[1]]) * 1.7
        + maximum(x[0], x[1]) * minimum(x[2], x[3])
        + mg.clip(x[0], -1, 1) * w[2]
        + maximum(x[0], x[1], 0.0) * maximum(x[1], w[0], x[1])
    )
    return Model(
        loss, {"w": w}, [x], lambda rng, rows: [rng.integers(-2, 3, (rows, 4)).astype(float)]
    )


def free_of_rows() -> Model:
    """An output that no input reaches, beside inputs that are not used."""
    rng = random.Random(8)
    w, x = vector(3, rng), vector(2, rng)
    return Model(tanh(total(w)) * 2.0, {"w": w}, [x], normal((2,)))


# ---------------------------------------------------------------- whole data sets in one graph
def elementwise_moons(samples: int = 20) -> Model:
    """2-8-8-1 written as sum(w*x), operands in either order, hinge loss and L2, all unrolled."""
    rng = random.Random(9)
    layers = [(matrix(n, m, rng), vector(n, rng)) for m, n in ((2, 8), (8, 8), (8, 1))]
    data, targets = mg.data.moons(samples, 0.1, 0)
    terms = []
    for sample, target in zip(data, targets, strict=True):
        h: list[Any] = [float(x) for x in sample]
        for number, (W, b) in enumerate(layers):
            if number % 2:
                h = [
                    sum((x * w for x, w in zip(h, row, strict=True)), bi)
                    for row, bi in zip(W, b, strict=True)
                ]
            else:
                h = [
                    sum(w * x for w, x in zip(row, h, strict=True)) + bi
                    for row, bi in zip(W, b, strict=True)
                ]
            if number < 2:
                h = [relu(hi) for hi in h]
        terms.append(relu(1 + -(2.0 * float(target) - 1.0) * h[0]))
    parameters = {
        f"{name}{i}": flat(p)
        for i, layer in enumerate(layers)
        for name, p in zip("Wb", layer, strict=True)
    }
    penalty = 1e-4 * sum(p * p for array in parameters.values() for p in array)
    return Model(sum(terms) * (1.0 / samples) + penalty, parameters)


def data_as_leaves() -> Model:
    """A data set whose numbers are plain Values, parameters named explicitly."""
    rng = random.Random(10)
    W, b, v = matrix(5, 3, rng), vector(5, rng), vector(5, rng)
    data = [(vector(3, rng), Value(float(i % 2))) for i in range(9)]
    terms = []
    for x, target in data:
        logit = dot(v, [tanh(h) for h in linear(W, x, b)])
        terms.append(losses.binary_cross_entropy(logit, target))
    return Model(total(terms) / len(terms), {"W": flat(W), "b": b, "v": v})


def convolution() -> Model:
    """Three filters over a strip of 20 data leaves, borders cut, then pooled by pairs."""
    rng = random.Random(11)
    filters, strip = matrix(3, 5, rng), [rng.gauss(0, 1) for _ in range(20)]
    bias = vector(3, rng)
    out = []
    for w, b in zip(filters, bias, strict=True):
        row = []
        for i in range(20):
            low, high = max(0, i - 2), min(20, i + 3)
            row.append(relu(dot(w[low - i + 2 : high - i + 2], strip[low:high], b)))
        out += [maximum(row[i], row[i + 1]) for i in range(0, 20, 2)]
    return Model(dot(out, out), {"filters": flat(filters), "bias": bias})


def picture_convolution() -> Model:
    """A 3x3 filter over a 7x6 picture with borders, elementwise code, a 2x2 filter on top."""
    rng = random.Random(12)
    filter3, filter2 = matrix(3, 3, rng), matrix(2, 2, rng)
    picture = matrix(7, 6, rng)
    first = []
    for i in range(7):
        first.append([])
        for j in range(6):
            terms = [
                filter3[a][b] * picture[i + a - 1][j + b - 1]
                for a in range(3)
                for b in range(3)
                if 0 <= i + a - 1 < 7 and 0 <= j + b - 1 < 6
            ]
            first[-1].append(tanh(sum(terms)))
    second = [
        sigmoid(total([filter2[a][b] * first[i + a][j + b] for a in (0, 1) for b in (0, 1)]))
        for i in range(6)
        for j in range(5)
    ]
    parameters = {"filter3": flat(filter3), "filter2": flat(filter2), "picture": flat(picture)}
    return Model(total(second), parameters)


def recurrent(lengths: Sequence[int] = (5, 7, 3, 1)) -> Model:
    """An Elman network unrolled over sequences of unequal length; the state starts as numbers."""
    rng = random.Random(13)
    W, U = matrix(6, 3, rng), matrix(6, 6, rng, 0.3)
    b, out = vector(6, rng), vector(6, rng)
    terms = []
    for length in lengths:
        h: list[Any] = [0.0] * 6
        for _ in range(length):
            x = [rng.gauss(0, 1) for _ in range(3)]
            h = [
                tanh(sum((w * xi for w, xi in zip(W[i], x, strict=True)), b[i]) + dot(U[i], h))
                for i in range(6)
            ]
        terms.append((dot(out, h) - 1) ** 2)
    return Model(total(terms), {"W": flat(W), "U": flat(U), "b": b, "out": out})


def recurrent_rows(joined: bool = False) -> Model:
    """An Elman network on rows of 9 steps of (3,): W h + U x + b, or [U W] [x, h] + b."""
    rng = random.Random(21)
    xs, b, out = matrix(9, 3, rng), vector(5, rng, label="b"), vector(5, rng)
    W, U = matrix(5, 5, rng, 0.3, label="W"), matrix(5, 3, rng, label="U")
    both = [[*u, *w] for u, w in zip(U, W, strict=True)]
    h: list[Any] = [0.0] * 5
    for x in xs:
        if joined:
            h = [tanh(dot(both[i], [*x, *h], b[i])) for i in range(5)]
        else:
            terms = [
                [w * k for w, k in zip([*W[i], *U[i]], [*h, *x], strict=True)] for i in range(5)
            ]
            h = [tanh(sum(terms[i]) + b[i]) for i in range(5)]
    parameters = {"both": flat(both)} if joined else {"W": flat(W), "U": flat(U)}
    loss = losses.squared_error(dot(out, h), 0.5)
    return Model(loss, {**parameters, "b": b, "out": out}, [xs], normal((9, 3)))


def weights_as_rows() -> Model:
    """A net with a shortcut on the four cases of XOR, where what differs by row are its weights."""
    rng = random.Random(23)
    knobs, extra = vector(7, rng), vector(2, rng)
    a, b, bias, c, d, e, last = knobs
    terms = []
    for x, y in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
        h = tanh(dot([a, b], [x, y], bias))
        out = sigmoid(dot([c, d, e], [h, x, y], last))
        terms.append((out - (x != y)) ** 2 + extra[0] * h * extra[1])
    return Model(total(terms) / 4, {"extra": extra}, [knobs], normal((7,)))


def gated_rows(n: int = 4) -> Model:
    """An LSTM (Hochreiter and Schmidhuber 1997, with Gers' forget gate) on rows of 8 steps of (2,).

    The cost is taken at every step, against what comes next.
    """
    rng = random.Random(22)
    xs = matrix(8, 2, rng)
    gates = {
        k: (matrix(n, n, rng, 0.4, f"W{k}"), matrix(n, 2, rng, 0.6, f"U{k}"), vector(n, rng))
        for k in "ifog"
    }
    out, start = matrix(2, n, rng), vector(n, rng)
    h: list[Any] = list(start)
    c: list[Any] = [0.0] * n
    terms = []
    for now, then in itertools.pairwise(xs):
        z = {
            k: [dot(W[i], h) + dot(U[i], now, b[i]) for i in range(n)]
            for k, (W, U, b) in gates.items()
        }
        i, f, o = ([sigmoid(x) for x in z[k]] for k in "ifo")
        c = [fk * ck + ik * tanh(gk) for fk, ck, ik, gk in zip(f, c, i, z["g"], strict=True)]
        h = [ok * tanh(ck) for ok, ck in zip(o, c, strict=True)]
        terms.append(losses.squared_error(linear(out, h), then))
    parameters = {k: [*flat(W), *flat(U), *b] for k, (W, U, b) in gates.items()}
    return Model(
        total(terms) / 7, {**parameters, "out": flat(out), "start": start}, [xs], normal((8, 2))
    )


def gated(lengths: Sequence[int] = (4, 6)) -> Model:
    """A GRU (Cho et al. 2014) unrolled over two sequences; the first state is learned."""
    rng = random.Random(14)
    names = ("update", "reset", "candidate")
    W = {name: matrix(5, 8, rng) for name in names}
    start = vector(5, rng)
    terms = []
    for length in lengths:
        h: list[Any] = list(start)
        for _ in range(length):
            x = [rng.gauss(0, 1) for _ in range(3)]
            z = [sigmoid(a) for a in linear(W["update"], x + h)]
            r = [sigmoid(a) for a in linear(W["reset"], x + h)]
            inner = x + [ri * hi for ri, hi in zip(r, h, strict=True)]
            c = [tanh(a) for a in linear(W["candidate"], inner)]
            h = [(1 - zi) * hi + zi * ci for zi, hi, ci in zip(z, h, c, strict=True)]
        terms.append(dot(h, h))
    return Model(total(terms), {**{name: flat(W[name]) for name in names}, "start": start})


class Transformer:
    """One block: rms normalization, causal attention, no biases; tied: logits by the table.

    `linear` is how W x is written: by `dot`, or element by element.
    """

    def __init__(
        self,
        *sizes: int,
        tied: bool,
        linear: Callable[[Matrix, Sequence[Any]], Vector] = linear,
    ) -> None:
        width, self.heads, hidden, symbols = sizes
        rng = random.Random(15)
        self.tied, self.linear = tied, linear
        shapes = {
            "tokens": (symbols, width),
            "positions": (10, width),
            **dict.fromkeys(("q", "k", "v", "o"), (width, width)),
            "up": (hidden, width),
            "down": (width, hidden),
            "logits": (symbols, width),
        }
        if tied:
            del shapes["logits"]
        self.weights = {name: matrix(*shape, rng, 0.3) for name, shape in shapes.items()}

    def loss(self, document: Sequence[int]) -> Value:
        """The mean cross-entropy of every next symbol."""
        w, linear = self.weights, self.linear
        size = len(w["q"]) // self.heads
        keys: list[Vector] = []
        values: list[Vector] = []
        terms = []
        for t, (symbol, following) in enumerate(zip(document, document[1:], strict=False)):
            x = [a + b for a, b in zip(w["tokens"][symbol], w["positions"][t], strict=True)]
            normed = rms(x)
            q = linear(w["q"], normed)
            keys.append(linear(w["k"], normed))
            values.append(linear(w["v"], normed))
            mixed = []
            for h in range(0, len(q), size):
                scores = [dot(q[h : h + size], k[h : h + size]) / math.sqrt(size) for k in keys]
                p = softmax(scores)
                mixed += [dot(p, [v[d] for v in values]) for d in range(h, h + size)]
            x = [a + b for a, b in zip(linear(w["o"], mixed), x, strict=True)]
            inner = [relu(u) for u in linear(w["up"], rms(x))]
            x = [a + b for a, b in zip(linear(w["down"], inner), x, strict=True)]
            p = softmax(linear(w["tokens" if self.tied else "logits"], x))
            terms.append(-log(p[following]))
        return total(terms) / len(terms)


def rms(x: Vector) -> Vector:
    scale = (dot(x, x) / len(x) + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def transformer(
    documents: Sequence[Sequence[int]] = ((0, 3, 1, 5, 2), (0, 4), (0, 1, 6)), tied: bool = True
) -> Model:
    """Documents of unequal length in one graph, width 8; the table is the output matrix too."""
    network = Transformer(8, 2, 12, 7, tied=tied)
    loss = total([network.loss(document) for document in documents])
    return Model(loss, {name: flat(w) for name, w in network.weights.items()})


def big_transformer() -> Model:
    """The one of the targets: width 16, 4 heads, 64 hidden, 27 symbols, 7 tokens, elementwise."""

    def spelled_out(weights: Matrix, x: Sequence[Any]) -> Vector:
        return [sum(w * xi for w, xi in zip(row, x, strict=True)) for row in weights]

    network = Transformer(16, 4, 64, 27, tied=False, linear=spelled_out)
    loss = network.loss([0, 5, 13, 13, 1, 26, 9, 0])
    return Model(loss, {name: flat(w) for name, w in network.weights.items()})


# ---------------------------------------------------------------- derivatives of derivatives
def gradient_norm() -> Model:
    """The squared length of a network's gradient, by grad(): a graph through every rule twice."""
    rng = random.Random(16)
    W, b, v = matrix(4, 3, rng), vector(4, rng), vector(4, rng)
    x = [0.3, -1.2, 0.7]
    y = tanh(dot(v, [mg.softplus(h) for h in linear(W, x, b)]))
    slopes = mg.grad(y, [*flat(W), *b])
    return Model(dot(slopes, slopes), {"W": flat(W), "b": b, "v": v})


def hessian_vector_product() -> Model:
    """Every component of H v of a small network's loss, as outputs."""
    rng = random.Random(17)
    W, v = matrix(4, 2, rng), vector(4, rng)
    data = [([rng.gauss(0, 1), rng.gauss(0, 1)], rng.choice([-1.0, 1.0])) for _ in range(5)]
    loss = total([mg.softplus(-t * dot(v, [tanh(h) for h in linear(W, x)])) for x, t in data])
    leaves = [*flat(W), *v]
    direction = [rng.gauss(0, 1) for _ in leaves]
    return Model(mg.hvp(loss, leaves, direction), {"W": flat(W), "v": v})


def physics() -> Model:
    """u'' + u = f at a point that is an input, u a network: third derivatives in all."""
    rng = random.Random(18)
    w, b, v = vector(5, rng, 1.0), vector(5, rng), vector(5, rng)
    x = Value(0.4, label="x")
    u = dot(v, [tanh(wi * x + bi) for wi, bi in zip(w, b, strict=True)])
    curvature = mg.grad(mg.grad(u, x), x)
    residual = (curvature + u - cos(3 * x)) ** 2
    return Model(residual, {"w": w, "b": b, "v": v}, [x], normal(()))


def gradient_through_where() -> Model:
    """A recorded gradient across where and take, run on rows that take the other branches."""
    rng = random.Random(19)
    x, w = vector(3, rng), vector(3, rng)
    y = where(x[0] > 0, sqrt(abs(x[0])) * w[0], exp(x[0] * w[1])) + take(
        [w[0] * w[1], w[1] * x[2], w[2] * w[2]], mg.floor(mg.clip(x[1] + 1.5, 0, 2))
    )
    slopes = mg.grad(y, w)
    return Model(dot(slopes, slopes) + y, {"w": w}, [x], normal((3,)))


# ---------------------------------------------------------------- odd shapes
def handful() -> Model:
    x, y = Value(0.7, label="x"), Value(-1.3, label="y")
    return Model(x * y + sin(x) / (y * y + 1), {"x": [x], "y": [y]})


def constants_only() -> Model:
    """An output computed from numbers alone; a parameter that it does not use."""
    a, b = Value(2.0), Value(3.0)
    return Model(exp(a * b - 1) / 4, {"unused": [Value(1.0)]})


def repeated_operands() -> Model:
    """The same node as both operands, in one total, on both sides of a dot, and as its bias."""
    rng = random.Random(20)
    w = vector(4, rng)
    a = w[0] * w[1]
    loss = a + a + a * a + total([a, a, w[2], w[2]]) + dot(w, w, w[0]) + dot([w[1]] * 3, [a] * 3)
    loss = loss + maximum([w[3], w[3], w[0]]) + maximum(a, a) + (w[2] + w[2]) * (w[2] - w[2])
    return Model(loss + a / a, {"w": w})


def equal_dots() -> Model:
    """Dots of the same tuples with other biases and none, and of tuples in another order."""
    rng = random.Random(21)
    w, x, b = vector(4, rng), vector(4, rng), vector(3, rng)
    dots = [dot(w, x, bi) for bi in b] + [dot(w, x), dot(w, x), dot(x, w), dot(w[::-1], x[::-1])]
    dots += [dot(w[:3], x[:3], b[0]), dot(w[1:], x[1:]), dot(w[::2], x[::2]), dot(w, x[::-1])]
    return Model(total([sin(d) * (i + 1) for i, d in enumerate(dots)]), {"w": w, "x": x, "b": b})


def sums_that_share() -> Model:
    """Sums and products used more than once, so that not every tree may be taken apart."""
    rng = random.Random(22)
    w, x = vector(5, rng), vector(5, rng)
    products = [a * b for a, b in zip(w, x, strict=True)]
    s1 = sum(products[:3])
    s2 = s1 + products[3]
    s3 = products[2] + s2 + products[4] + 0.0
    s4 = (w[0] + w[1]) + (w[2] + (w[3] + w[4]))
    s5 = 1.0 + w[0] * x[1] + 0.0 + x[2] * w[1] + w[3] + 2.0 * w[2]
    return Model(tanh(s1) * s2 + s3 * s4 + s5 * s2 - s1, {"w": w, "x": x})


def ragged_sums() -> Model:
    """Totals, dots, maxima and sums of every length from none to nine."""
    rng = random.Random(23)
    w, x = vector(9, rng), vector(9, rng)
    terms = [Value(0.5) * w[0]]
    for n in range(1, 10):
        terms.append(tanh(total(w[:n])))
        terms.append(tanh(dot(w[:n], x[9 - n :])))
        terms.append(tanh(maximum([xi * w[0] for xi in x[:n]])))
        terms.append(tanh(minimum(w[9 - n :])))
        terms.append(tanh(sum(xi * xi for xi in x[:n])))
    terms.append(mg.operations.dot_of(w[3]))  # a bias and nothing else
    return Model(total(terms), {"w": w, "x": x})


def chain(kind: str = "sin", length: int = 10_000) -> Model:
    """Operations that depend on one another, thousands deep."""
    x, a = Value(0.6), Value(0.999)
    y: Value = x * 1.0
    for i in range(length):
        if kind == "sin":
            y = sin(y)
        elif kind == "affine":
            y = y * a + 0.001
        elif kind == "sum":
            y = y + (x if i % 2 else a)
        elif kind == "mixed":
            y = (tanh(y), y * a, y - 0.1, y + x, where(y > 0, y, -y), maximum(y, 0.3))[i % 6]
        else:
            y = dot([a, x], [y, 0.01])
    return Model(y, {"x": [x], "a": [a]})


def outer_products() -> Model:
    """x_i * y_j, x_i + y_j, x_i ** y_j and a sum over all; divisions by the row's norm."""
    rng = random.Random(24)
    x = [Value(rng.uniform(0.5, 2.0)) for _ in range(6)]
    y = [Value(rng.uniform(-1.0, 1.0)) for _ in range(5)]
    table = [[a * b + (a + b) ** 2 - a**b for b in y] for a in x]
    norms = [sqrt(dot(row, row)) for row in table]
    scaled = [[t / n for t in row] for row, n in zip(table, norms, strict=True)]
    columns = [total([row[j] for row in scaled]) for j in range(5)]
    return Model(dot(columns, [sin(c) for c in columns]), {"x": x, "y": y})


def triangular() -> Model:
    """Forward substitution with a triangular matrix: rows of every length, each on the last."""
    rng = random.Random(25)
    n = 8
    L = [
        [Value(rng.gauss(0, 0.4)) for _ in range(i)] + [Value(rng.uniform(1, 2))] for i in range(n)
    ]
    b = vector(n, rng)
    x: Vector = []
    for i in range(n):
        x.append((b[i] - dot(L[i][:i], x)) / L[i][i] if i else b[0] / L[0][0])
    return Model(dot(x, x), {"L": flat(L), "b": b})


def matrix_power() -> Model:
    """A matrix times itself, transposed and not, by dots on rows and columns; its trace."""
    rng = random.Random(26)
    A = matrix(4, 4, rng)
    B = [[dot(A[i], [A[k][j] for k in range(4)]) for j in range(4)] for i in range(4)]
    C = [[dot(B[i], A[j]) for j in range(4)] for i in range(4)]
    D = [
        [dot([B[k][i] for k in range(4)], [C[k][j] for k in range(4)]) for j in range(4)]
        for i in range(4)
    ]
    return Model(total([D[i][i] for i in range(4)]) + total(D[0]) * C[1][2], {"A": flat(A)})


def irregular(nodes: int = 400, seed: int = 0) -> Model:
    """A random acyclic graph over many rows; every new node may use any before it."""
    rng = random.Random(seed)
    leaves = [Value(rng.uniform(-1.5, 1.5)) for _ in range(10)]
    made: list[Value] = list(leaves)
    unary = [exp, sin, cos, tanh, sigmoid, relu, abs, mg.softplus, mg.gelu, mg.silu, mg.erf]
    unary += [lambda x: x * x + 0.5, lambda x: log(x * x + 1), lambda x: 2.0 - x, lambda x: x / 3]
    unary += [lambda x: x**3, lambda x: -x, lambda x: 1 / (2 + x * x), mg.logsigmoid, mg.elu]
    binary = [
        lambda a, b: a + b,
        lambda a, b: a * b,
        lambda a, b: a - b,
        lambda a, b: a / (b * b + 1),
        maximum,
        minimum,
        lambda a, b: where(a > b, a, b * 2),
        lambda a, b: mg.hypot(a, b + 3.1),
        lambda a, b: where(a > 0, sqrt(a), b),
        mg.logaddexp,
        lambda a, b: (a * a + 0.3) ** b,
    ]
    for _ in range(nodes):
        kind = rng.random()
        if kind < 0.4:
            fresh = rng.choice(unary)(rng.choice(made))
        elif kind < 0.8:
            fresh = rng.choice(binary)(rng.choice(made), rng.choice(made))
        elif kind < 0.9:
            some = [rng.choice(made) for _ in range(rng.randint(1, 5))]
            which = rng.randrange(5)
            if which == 0:
                fresh = total(some) * 0.3
            elif which == 1:
                fresh = maximum(some)
            elif which == 2:
                fresh = minimum(some)
            else:
                fresh = mg.logsumexp(some) if which == 3 else softmax(some)[0]
        else:
            n = rng.randint(1, 4)
            left, right = ([rng.choice(made) for _ in range(n)] for _ in range(2))
            fresh = dot(left, right, rng.choice([None, rng.choice(made)]))
        made.append(tanh(fresh))
    return Model(total(made[-20:]), {"leaves": leaves})


MODELS: dict[str, Callable[[], Model]] = {
    **{f"mlp-{a}": (lambda a=a: mlp(a)) for a in ("sigmoid", "tanh", "relu", "gelu")},
    "mlp-relu-sigmoid": lambda: mlp("relu", "sigmoid"),
    **{
        f.__name__: f
        for f in (
            *(classifier, several_outputs, attention, two_headed_rows, embedding, computed_index),
            *(convolution_rows, biases_by_row, residual_tower, guarded, extremes, free_of_rows),
            *(elementwise_moons, data_as_leaves, convolution, picture_convolution, recurrent),
            *(recurrent_rows, gated_rows, weights_as_rows),
            *(gated, transformer, gradient_norm, hessian_vector_product, physics),
            *(gradient_through_where, handful, constants_only, repeated_operands, equal_dots),
            *(sums_that_share, ragged_sums, outer_products, triangular, matrix_power, irregular),
        )
    },
    "recurrent_rows-joined": lambda: recurrent_rows(joined=True),
    "transformer-untied": lambda: transformer(tied=False),
    **{f"chain-{k}": (lambda k=k: chain(k, 300)) for k in ("sin", "affine", "sum", "mixed", "dot")},
}
