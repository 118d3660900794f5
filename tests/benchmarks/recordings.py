"""Recordings: the benchmarks' functions in scalars, as someone who knows micrograd writes them.

Elementwise: a neuron is `sum(w*x ...)`, a data set is a loop over samples, a transformer a loop
over tokens (after Karpathy's microgpt, 2026). Nothing here knows that it will be compiled.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from micrograd_scratch import Value, cos, dot, exp, log, maximum, sin, softmax, tanh, total
from micrograd_scratch.losses import cross_entropy
from micrograd_scratch.nn import MLP

DECAY = 1e-4


def moons(model: MLP, X: Sequence[Sequence[float]], y: Sequence[float]) -> Value:
    """Mean hinge loss and L2 of a ReLU network over a data set, line by line micrograd's demo."""

    def score(x: list[Value]) -> Value:
        for layer in model.layers:
            sums = [sum((w * xi for w, xi in zip(n.w, x, strict=True)), n.b) for n in layer.neurons]
            x = sums if layer is model.layers[-1] else [s.relu() for s in sums]
        return x[0]

    costs = [
        (1 + -yi * score([Value(number) for number in row])).relu()
        for row, yi in zip(X, y, strict=True)
    ]
    return sum(costs) * (1.0 / len(costs)) + DECAY * sum(p * p for p in model.parameters())


class Transformer:
    """One block: attention with a causal mask, and an MLP of ReLUs; no biases, RMS norms.

    shapes       name -> (rows, columns) of each matrix, in the order of `parameters`
    elementwise  whether a product is `sum(w*x ...)`, as in microgpt, or a `dot`
    """

    def __init__(
        self,
        symbols: int = 27,
        width: int = 16,
        heads: int = 4,
        positions: int = 16,
        elementwise: bool = True,
        seed: int = 0,
    ) -> None:
        self.heads, self.size, self.elementwise = heads, width // heads, elementwise
        square = (width, width)
        self.shapes = {
            "embedding": (symbols, width),
            "position": (positions, width),
            **dict.fromkeys(("query", "key", "value", "projection"), square),
            "forward": (4 * width, width),
            "back": (width, 4 * width),
            "logits": (symbols, width),
        }
        rng = random.Random(seed)
        self.matrices = {
            name: [[Value(rng.gauss(0.0, 0.3)) for _ in range(columns)] for _ in range(rows)]
            for name, (rows, columns) in self.shapes.items()
        }
        self.parameters = [p for rows in self.matrices.values() for row in rows for p in row]

    def loss(self, tokens: Sequence[int]) -> Value:
        """The mean of -log p(next token) along a document."""
        m, keys, values, costs = self.matrices, [], [], []
        for position, token in enumerate(tokens[:-1]):
            embedded = zip(m["embedding"][token], m["position"][position], strict=True)
            stream = self.normalized([a + b for a, b in embedded])
            x = self.normalized(stream)
            query = self.linear(m["query"], x)
            keys.append(self.linear(m["key"], x))
            values.append(self.linear(m["value"], x))
            mixed = []
            for head in range(self.heads):
                own = slice(head * self.size, (head + 1) * self.size)
                scores = [self.sum(query[own], key[own]) / self.size**0.5 for key in keys]
                weights = softmax(scores)
                for j in range(own.start, own.stop):
                    mixed.append(self.sum(weights, [value[j] for value in values]))
            stream = self.added(self.linear(m["projection"], mixed), stream)
            hidden = [h.relu() for h in self.linear(m["forward"], self.normalized(stream))]
            stream = self.added(self.linear(m["back"], hidden), stream)
            probabilities = softmax(self.linear(m["logits"], stream))
            costs.append(-log(probabilities[tokens[position + 1]]))
        return sum(costs) / len(costs)

    def sum(self, ws: Sequence[Any], xs: Sequence[Any]) -> Any:
        if self.elementwise:
            return sum(w * x for w, x in zip(ws, xs, strict=True))
        return dot(ws, xs)

    def linear(self, W: Sequence[Sequence[Value]], x: Sequence[Any]) -> list[Any]:
        return [self.sum(row, x) for row in W]

    def normalized(self, x: list[Any]) -> list[Any]:
        scale = (self.sum(x, x) / len(x) + 1e-5) ** -0.5
        return [xi * scale for xi in x]

    @staticmethod
    def added(x: list[Any], y: list[Any]) -> list[Any]:
        return [a + b for a, b in zip(x, y, strict=True)]


def documents(transformer: Transformer, lengths: Sequence[int], seed: int = 1) -> list[list[int]]:
    """Random documents; one of length n has n tokens to predict from, and one more at its end."""
    rng = random.Random(seed)
    symbols = transformer.shapes["embedding"][0]
    return [[rng.randrange(symbols) for _ in range(n + 1)] for n in lengths]


def recurrent(
    steps: int, inputs: int, size: int, outputs: int
) -> tuple[Value, list[Any], list[Value]]:
    """An Elman network (1990), elementwise, with a class at every step: the mean cross-entropy.

    Also its inputs, x (steps, inputs) and labels (steps,), and the parameters W, U, b, V, c.
    """
    rng = random.Random(4)
    shapes = ((size, size), (size, inputs), (1, size), (outputs, size), (1, outputs))
    W, U, [b], V, [c] = (
        [[Value(rng.gauss(0.0, 0.3)) for _ in range(columns)] for _ in range(rows)]
        for rows, columns in shapes
    )
    x = [[Value(0.0) for _ in range(inputs)] for _ in range(steps)]
    labels = [Value(0.0) for _ in range(steps)]
    h: list[Any] = [0.0] * size
    costs = []
    for x_t, label in zip(x, labels, strict=True):
        h = [
            tanh(sum(w * k for w, k in zip(W[i] + U[i], h + x_t, strict=True)) + b[i])
            for i in range(size)
        ]
        logits = [sum(v * k for v, k in zip(V[i], h, strict=True)) + c[i] for i in range(outputs)]
        costs.append(cross_entropy(logits, label))
    parameters = [p for row in (*W, *U, b, *V, c) for p in row]
    return sum(costs) / steps, [x, labels], parameters


def expression(a: Any, b: Any, c: Any) -> Any:
    """Twenty operations on three numbers."""
    u = a * b + c
    v = sin(u) * cos(u)
    w = (a - v) / (b * b + 1.0)
    z = tanh(w + u * v)
    return z * z + 0.5 * w - log(1.0 + exp(-c))


def logistic_chain(operations: int) -> tuple[Value, list[Value]]:
    """x <- r * x * (1 - x), again and again: arithmetic, every operation on the one before."""
    r, x = Value(2.9), Value(0.3)
    parameters = [r, x]
    for _ in range(operations // 3):
        x = r * x * (1.0 - x)
    return x, parameters


def mixed_chain(operations: int, seed: int = 2) -> tuple[Value, list[Value]]:
    """A chain of sines, sums and products in no regular order, with eight parameters."""
    rng = random.Random(seed)
    parameters = [Value(rng.uniform(0.7, 1.2)) for _ in range(8)]
    x = parameters[0]
    for _ in range(operations):
        p = rng.choice(parameters)
        x = rng.choice((sin(x), x * p, x + p, p - x) if abs(x.data) < 2.0 else (sin(x), cos(x)))
    return x, parameters


def irregular(nodes: int, leaves: int = 20, seed: int = 3) -> tuple[Value, list[Value]]:
    """A random DAG: 6 of 7 operations are + - * and maximum, the rest sin, tanh and exp.

    Operands are drawn from everything before; what grows beyond 2 is brought back by sin or tanh.
    """
    rng = random.Random(seed)
    parameters = [Value(rng.uniform(-1.0, 1.0)) for _ in range(leaves)]
    values, unused = list(parameters), set()
    while len(values) - leaves < nodes:
        a, b = rng.choice(values), rng.choice(values)
        kind = rng.randrange(7)
        if abs(a.data) > 2.0:
            new, operands = rng.choice((sin, tanh))(a), (a,)
        elif kind == 0:
            new, operands = rng.choice((sin, tanh, lambda x: exp(-x)))(a), (a,)
        elif kind < 3:
            new, operands = a * b, (a, b)
        elif kind < 5:
            new, operands = a + b, (a, b)
        elif kind == 5:
            new, operands = a - b, (a, b)
        else:
            new, operands = maximum(a, b), (a, b)
        values.append(new)
        unused.difference_update(operands)
        unused.add(new)
    return total([v for v in values if v in unused]), parameters
