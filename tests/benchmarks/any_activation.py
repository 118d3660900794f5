"""Discontinuous activations: a difference of one node against differences of the whole network.

    python tests/benchmarks/any_activation.py [--steps 100]

A 2-8-8-1 network of stairs (quarters of a sigmoid) learns 100 moons. Its gradient comes from one
backward pass, in which each node of stairs is a difference across a width; or, as one would do
without that, from central differences of the whole loss, one parameter at a time, with three steps.
Both run the same compiled program. The table has what a gradient costs, the share of parameters
whose gradient is not 0 before training, and how far the same number of Adam's steps gets. As for
most networks there are starts from which it goes worse: the figures are of one.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from micrograd_scratch import MLP, activation, data, losses, optim, sigmoid  # noqa: E402
from micrograd_scratch.training import accuracy, compile_loss, compile_prediction  # noqa: E402

WIDTH, RATE = 0.5, 0.02
stairs = activation(lambda x: math.floor(4.0 * x) / 4.0, width=WIDTH, name="stairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    X, Y = data.moons(100, noise=0.1)
    X, Y = np.asarray(X), 2.0 * Y - 1.0
    model = MLP(
        2, [8, 8, 1], activation=lambda x: stairs(sigmoid(2.0 * x)), init="xavier",
        rng=random.Random(0),
    )  # fmt: skip
    start = np.array([p.data for p in model.parameters()])
    loss = compile_loss(model, losses.hinge, X, Y)
    predict = compile_prediction(model, X)

    def mean(theta: Any) -> float:
        return float(loss(X, Y, parameters=theta).mean())

    def differences(step: float) -> Callable[[Any], Any]:
        def gradient(theta: Any) -> Any:
            g = np.empty_like(theta)
            for i in range(len(theta)):
                nudge = np.zeros_like(theta)
                nudge[i] = step
                g[i] = (mean(theta + nudge) - mean(theta - nudge)) / (2.0 * step)
            return g

        return gradient

    def backward(theta: Any) -> Any:
        return loss.value_and_grad(X, Y, parameters=theta)[1]

    contenders = {f"one backward pass, {stairs!r}": (backward, "1 and 1 back")}
    for step in (1e-5, 0.05, 0.5):
        contenders[f"the whole network, +-{step:g}"] = (differences(step), str(2 * len(start)))
    print(f"{len(start)} parameters, {steps} steps of Adam({RATE}) on 100 moons")
    print(
        f"{'gradient by':<44} {'evaluations':>12} {'ms':>8} {'not 0':>6} {'loss':>6} {'right':>6}"
    )
    for name, (gradient, evaluations) in contenders.items():
        reached = np.count_nonzero(gradient(start)) / len(start)
        theta, state, optimizer = start, None, optim.Adam(RATE)
        started = time.perf_counter()
        for _ in range(steps):
            theta, state = optimizer.update(theta, gradient(theta), state)
        each = 1e3 * (time.perf_counter() - started) / steps
        right = accuracy(predict(X, parameters=theta), Y)
        figures = f"{each:8.2f} {reached:6.0%} {mean(theta):6.3f} {right:6.0%}"
        print(f"{name:<44} {evaluations:>12} {figures}", flush=True)


if __name__ == "__main__":
    main()
