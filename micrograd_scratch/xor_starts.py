"""Do more parameters get stuck less? The share of random starts from which XOR is not learned.

A network 2-n-1 of sigmoids, squared error and plain gradient descent, as `train xor` has them. All
starts of a width are trained at once: the network is compiled with its parameters as the inputs, so
that a row is a start. It leaves out every other problem.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .compiler import compile
from .data import xor
from .losses import squared_error
from .nn import MLP
from .operations import total
from .tables import Result, Table

LEARNING_RATE, EPOCHS = 5.0, 3000  # what `train xor` does by default


@dataclass(frozen=True)
class Width:
    """Of `starts` networks with so many hidden neurons, how many did not learn XOR."""

    hidden: int
    parameters: int
    starts: int
    stuck: int
    seconds: float

    @property
    def share(self) -> float:
        """The share of starts that got stuck."""
        return self.stuck / self.starts

    @property
    def deviation(self) -> float:
        """The standard deviation of that share, from so many starts."""
        return (self.share * (1.0 - self.share) / self.starts) ** 0.5


@dataclass(frozen=True, repr=False)
class XorStarts(Result):
    """What `xor_starts` measured, by width; prints as a table."""

    widths: tuple[Width, ...]
    epochs: int
    learning_rate: float

    def tables(self) -> list[Table]:
        heads = ("hidden", "parameters", "starts", "stuck", "share stuck", "seconds")
        rows = [
            (
                str(w.hidden),
                str(w.parameters),
                str(w.starts),
                str(w.stuck),
                f"{w.share:.1%} +- {w.deviation:.1%}",
                f"{w.seconds:.1f}",
            )
            for w in self.widths
        ]
        note = (
            f"Stuck: after {self.epochs:,} steps of gradient descent with learning rate "
            f"{self.learning_rate:g}, some row of XOR is still on the wrong side of 0.5."
        )
        return [Table("Random starts that do not learn XOR", heads, rows, note, left=0)]

    def plot(self, ax: Any = None) -> Any:
        """The share stuck against the width, with its standard deviation; matplotlib's axes."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots()
        hidden = [w.hidden for w in self.widths]
        shares = [100 * w.share for w in self.widths]
        ax.errorbar(hidden, shares, [100 * w.deviation for w in self.widths], fmt="o-", capsize=4)
        ax.set(
            xlabel="hidden neurons",
            ylabel="% of starts stuck",
            title=f"XOR from {self.widths[0].starts} random starts a width",
            ylim=(0, None),
            xticks=hidden,
        )
        return ax


def xor_starts(
    widths: Sequence[int] = (2, 3, 4, 6, 8),
    starts: int = 400,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> XorStarts:
    """Train networks 2-n-1 from so many starts (Xavier's, start k from seed + k) for each width."""
    found = []
    for hidden in widths:
        started = time.perf_counter()
        stuck = starts - int(_learned(hidden, starts, epochs, learning_rate, seed).sum())
        parameters = 4 * hidden + 1
        found.append(Width(hidden, parameters, starts, stuck, time.perf_counter() - started))
    return XorStarts(tuple(found), epochs, learning_rate)


def xor_network(hidden: int, seed: int) -> MLP:
    """2-hidden-1, sigmoids throughout, Xavier's weights."""
    rng = random.Random(seed)
    return MLP(2, [hidden, 1], activation="sigmoid", output="sigmoid", init="xavier", rng=rng)


def _learned(
    hidden: int, starts: int, epochs: int, learning_rate: float, seed: int
) -> np.ndarray[Any, Any]:
    """(starts,) whether each ends with all four rows on their side of 0.5."""
    X, Y = xor()
    model = xor_network(hidden, seed)
    answers = [model(x) for x in X.tolist()]
    losses = [squared_error(a, y) for a, y in zip(answers, Y.tolist(), strict=True)]
    parameters = model.parameters()
    loss = compile(total(losses) / len(X), inputs=[parameters], parameters=[])
    theta = np.array(
        [[p.data for p in xor_network(hidden, seed + k).parameters()] for k in range(starts)]
    )
    for _ in range(epochs):
        # the gradient is that of the mean over rows, and a row depends on its own loss alone
        _, gradient = loss.value_and_grad(theta, wrt="inputs")
        theta = theta - learning_rate * starts * gradient
    predictions = compile(answers, inputs=[parameters], parameters=[])(theta)
    learned: np.ndarray[Any, Any] = ((predictions > 0.5) == (Y > 0.5)).all(axis=1)
    return learned
