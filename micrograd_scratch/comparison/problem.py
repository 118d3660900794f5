"""The problem that every comparison works on: a small network, its data, its loss and gradient.

The loss is written by hand here, once for floats (as fast as plain Python gets) and once with its
gradient for 50-digit arithmetic, so that neither can share a mistake with the engine. It leaves
out the loss through Values (executors.py).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import data
from ..nn import MLP

DIGITS = 50  # of the reference, so that what is left of a difference to it has 30
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Problem:
    """A tanh network for classification, with its data: what every comparison works on.

    sizes  neurons by layer, inputs first; X (rows, sizes[0]); Y (rows,) classes below sizes[-1]
    """

    sizes: tuple[int, ...]
    X: NDArray[Any] = field(repr=False)
    Y: NDArray[Any] = field(repr=False)
    X_held: NDArray[Any] = field(repr=False)
    Y_held: NDArray[Any] = field(repr=False)
    seed: int = 0

    @property
    def theta(self) -> Array:
        """The initial parameters, neuron by neuron, weights then bias (Glorot and Bengio 2010)."""
        return np.array([p.data for p in network(self.sizes, self.seed).parameters()])

    def batch(self, rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The first rows of the training data."""
        return self.X[:rows], self.Y[:rows]

    def resized(self, hidden: int) -> Problem:
        """The same problem for one hidden layer of that many neurons."""
        sizes = (self.sizes[0], hidden, self.sizes[-1])
        return Problem(sizes, self.X, self.Y, self.X_held, self.Y_held, self.seed)


def network(sizes: Sequence[int], seed: int = 0) -> MLP:
    """The network of a problem as Values."""
    return MLP(sizes[0], sizes[1:], activation="tanh", init="xavier", rng=random.Random(seed))


def digits_problem(seed: int = 0) -> Problem:
    """The 1,797 handwritten digits, a fifth of them held out, and a 64-16-10 network.

    ImportError with the mend if scikit-learn, which carries the images, is not installed.
    """
    (X, Y), (X_held, Y_held) = data.split(*data.digits(), held_out=0.2, seed=seed)
    return Problem((64, 16, 10), X, Y, X_held, Y_held, seed)


def network_loss(
    sizes: Sequence[int], theta: Sequence[Any], X: Any, Y: Any, functions: Any = math
) -> Any:
    """The mean cross-entropy over a batch, by hand: a forward pass as fast as plain Python gets.

    With `functions=cmath` it takes complex parameters, for the complex step.
    """
    layers, start = [], 0
    for nin, nout in zip(sizes, sizes[1:], strict=False):
        end = start + nout * (nin + 1)
        rows = range(start, end, nin + 1)
        layers.append([(theta[k : k + nin], theta[k + nin]) for k in rows])
        start = end
    *hidden_layers, last = layers
    tanh, exp, log = functions.tanh, functions.exp, functions.log
    loss = 0.0
    for x, y in zip(X, Y, strict=True):
        for layer in hidden_layers:
            x = [tanh(sum(map(mul, w, x), b)) for w, b in layer]
        logits = [sum(map(mul, w, x), b) for w, b in last]
        top = max(z.real for z in logits)  # so that exp cannot overflow
        loss += top + log(sum(exp(z - top) for z in logits)) - logits[y]
    return loss / len(Y)


def reference_gradient(
    sizes: Sequence[int],
    theta: Sequence[float],
    X: Any,
    Y: Any,
    number: Callable[[Any], Any] = Decimal,
    exp: Callable[[Any], Any] = Decimal.exp,
) -> list[Any]:
    """The gradient of `network_loss`, by hand, in 50 decimal digits and without the engine.

    Another arithmetic goes in as `number` and `exp`, such as mpmath's mpf and exp.
    """
    with localcontext(Context(prec=DIGITS)):
        weights, start = [], 0
        parameters = [number(float(t)) for t in theta]
        for nin, nout in zip(sizes, sizes[1:], strict=False):
            end = start + nout * (nin + 1)
            weights.append([parameters[k : k + nin + 1] for k in range(start, end, nin + 1)])
            start = end
        slopes = [[[number(0)] * len(row) for row in layer] for layer in weights]
        for x, y in zip(X, Y, strict=True):
            activations = [[number(float(xi)) for xi in x]]
            for depth, layer in enumerate(weights):
                z = [sum(map(mul, row, activations[-1]), row[-1]) for row in layer]
                if depth < len(weights) - 1:
                    z = [1 - 2 / (exp(2 * zi) + 1) for zi in z]  # tanh
                activations.append(z)
            powers = [exp(zi) for zi in activations.pop()]
            delta = [power / sum(powers) for power in powers]  # softmax - one-hot
            delta[int(y)] -= 1
            for depth in reversed(range(len(weights))):
                below = activations[depth]
                for row, d in zip(slopes[depth], delta, strict=True):
                    row[:] = [s + d * a for s, a in zip(row, [*below, 1], strict=True)]
                columns = list(zip(*weights[depth], strict=True))[:-1]
                back = [sum(map(mul, column, delta)) for column in columns]
                delta = [(1 - a * a) * g for a, g in zip(below, back, strict=True)]
        return [s / len(Y) for layer in slopes for row in layer for s in row]


def accuracy(sizes: Sequence[int], theta: Array, X: NDArray[Any], Y: NDArray[Any]) -> float:
    """The share of rows whose largest output is the right class."""
    start = 0
    for depth, (nin, nout) in enumerate(zip(sizes, sizes[1:], strict=False)):
        end = start + nout * (nin + 1)
        W = theta[start:end].reshape(nout, nin + 1)
        X = X @ W[:, :-1].T + W[:, -1]
        X, start = (X if depth == len(sizes) - 2 else np.tanh(X)), end
    return float(np.mean(X.argmax(axis=1) == Y))
