"""How a loss gets evaluated: through Values, by hand on floats, or by a compiled program.

Finite differences get the fastest there is, for a slow executor would be no argument against them;
another is a subclass and one entry in EXECUTORS. It leaves out the methods (gradients.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import losses
from ..compiler import compile
from ..derivatives import jvp
from ..engine import Value
from ..operations import total
from .problem import Array, network, network_loss


class Executor:
    """A way to evaluate a network's loss. It counts what it does.

    evaluations  forward passes so far; passes: derivative passes (backward, or forward mode)
    exact        the exact methods it knows: "reverse mode" needs `reverse`, "forward mode"
                 needs `forward`
    """

    name = ""
    exact: tuple[str, ...] = ()

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self.evaluations = self.passes = 0

    def use(self, X: Any, Y: Any) -> None:
        """The batch that the following evaluations are about."""
        self.X: Any = np.asarray(X).tolist()
        self.Y: Any = np.asarray(Y).tolist()

    def load(self, theta: Array) -> None:
        """Set all parameters."""
        self.theta: Any = theta.tolist()

    def nudge(self, index: int, value: float) -> None:
        """Set one parameter."""
        self.theta[index] = value

    def evaluate(self) -> float:
        """The loss at the present parameters."""
        raise NotImplementedError

    def reverse(self) -> Sequence[float]:
        """The gradient, by one evaluation and one backward pass."""
        raise NotImplementedError

    def forward(self) -> Callable[[int], float]:
        """A function that gives the derivative by one parameter, at one pass each."""
        raise NotImplementedError


class ThroughValues(Executor):
    """The loss as a graph of Values, recorded anew at each evaluation."""

    name = "Values"
    exact = ("reverse mode", "forward mode")

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self.model = network(sizes)
        self.parameters = self.model.parameters()

    def load(self, theta: Array) -> None:
        for p, t in zip(self.parameters, theta.tolist(), strict=True):
            p.data = t

    def nudge(self, index: int, value: float) -> None:
        self.parameters[index].data = value

    def loss(self) -> Value:
        """The recorded loss, a Value."""
        self.evaluations += 1
        rows = zip(self.X, self.Y, strict=True)
        terms = [losses.cross_entropy(self.model(x), y) for x, y in rows]
        return total(terms) / len(terms)

    def evaluate(self) -> float:
        return self.loss().data

    def reverse(self) -> list[float]:
        loss = self.loss()
        self.passes += 1
        self.model.zero_grad()
        loss.backward()
        return [p.grad for p in self.parameters]

    def forward(self) -> Callable[[int], float]:
        loss = self.loss()

        def slope(index: int) -> float:
            self.passes += 1
            return float(jvp(loss, [self.parameters[index]], [1.0]))

        return slope


class PlainFloats(Executor):
    """The forward pass by hand on floats (`network_loss`): nothing recorded, so only nudges."""

    name = "floats"

    def evaluate(self) -> float:
        self.evaluations += 1
        return float(network_loss(self.sizes, self.theta, self.X, self.Y))


class Compiled(Executor):
    """The loss of one row, recorded once and compiled: the batch is an array."""

    name = "compiled"
    exact = ("reverse mode",)

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        model = network(sizes)
        x, y = [Value(0.0) for _ in range(sizes[0])], Value(0.0, label="class")
        loss = losses.cross_entropy(model(x), y)
        self.program = compile(loss, inputs=[x, y], parameters=model.parameters())

    def use(self, X: Any, Y: Any) -> None:
        self.X, self.Y = np.asarray(X, dtype=float), np.asarray(Y, dtype=float)
        self.program.value_and_grad(self.X, self.Y)  # the passes run at the first call

    def load(self, theta: Array) -> None:
        self.theta = theta.copy()

    def evaluate(self) -> float:
        self.evaluations += 1
        return float(self.program(self.X, self.Y, parameters=self.theta).mean())

    def reverse(self) -> Sequence[float]:
        self.evaluations += 1
        self.passes += 1
        _, gradient = self.program.value_and_grad(self.X, self.Y, parameters=self.theta)
        return gradient  # an array: a list of 100,000 floats takes longer than the gradient


EXECUTORS: list[type[Executor]] = [ThroughValues, PlainFloats, Compiled]
NUDGING = {"forward differences": "forward", "central differences": "central"}


def contenders(executors: Sequence[type[Executor]]) -> list[tuple[str, type[Executor]]]:
    """Every (method, executor) there is, exact methods first."""
    exact = [(method, e) for e in executors for method in e.exact]
    return exact + [(method, e) for method in NUDGING for e in executors]
