"""The same network trained for the same seconds with each gradient.

It leaves out good training: no schedule, no momentum, one learning rate for all (training.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..optim import SGD
from ..tables import Result, Table, seconds_text
from .executors import EXECUTORS, Executor, contenders
from .gradients import Stopwatch, pieces
from .problem import Problem, accuracy


@dataclass(frozen=True)
class TrainingRun:
    """One contender's training: its accuracy on held-out rows after so many seconds.

    steps is how many gradients it finished; gradient_seconds is what one took in a trial before.
    """

    method: str
    executor: str
    steps: int
    held_out_accuracy: float
    gradient_seconds: float
    seconds: list[float]
    accuracies: list[float]


@dataclass(frozen=True, repr=False)
class Training(Result):
    """What `compare_training` measured: every contender from the same start on the same batches."""

    sizes: tuple[int, ...]
    seconds_each: float
    batch_rows: int
    learning_rate: float
    held_out_rows: int
    untrained_accuracy: float
    runs: list[TrainingRun]

    def tables(self) -> list[Table]:
        rows = [
            (
                run.method,
                run.executor,
                seconds_text(run.gradient_seconds),
                f"{run.steps:,}",
                f"{run.held_out_accuracy:.1%}",
            )
            for run in self.runs
        ]
        return [
            Table(
                f"5. The same network after {self.seconds_each:.1f} seconds of training by each",
                ("method", "runs on", "a gradient", "steps", "accuracy"),
                rows,
                f"Accuracy on {self.held_out_rows} digits held out; untrained "
                f"{self.untrained_accuracy:.1%}. Batches of {self.batch_rows}, SGD with learning "
                f"rate {self.learning_rate:g}, the same start and the same batches for all. 0 "
                "steps: a gradient, timed in a short trial, does not fit into the time.",
                left=2,
            )
        ]


def compare_training(
    problem: Problem,
    batch_rows: int = 32,
    seconds: float = 18.0,
    learning_rate: float = 0.5,
    executors: Sequence[type[Executor]] | None = None,
) -> Training:
    """Train the same network by every method for the same time; all together take `seconds`.

    A short trial first shows who would need more than a third of them for one gradient: those
    contenders are not run, and have 0 steps. Only gradients and updates are on the clock.
    """
    end = time.perf_counter() + seconds
    X, Y = problem.batch(batch_rows)
    trials: dict[tuple[str, type[Executor]], float] = {}
    for method, kind in contenders(executors or EXECUTORS):
        executor = kind(problem.sizes)
        executor.use(X, Y)
        watch = Stopwatch(method, executor, problem.theta, range(len(problem.theta)), repeats=3)
        watch.run(seconds / 60)
        trials[method, kind] = watch.cost().seconds_per_gradient
    runners = [entry for entry, trial in trials.items() if trial < seconds / 3]
    each = max(0.0, end - time.perf_counter()) / max(1, len(runners))
    runs = []
    for (method, kind), trial in trials.items():
        allowed = each if (method, kind) in runners else 0.0
        steps, times, curve = _train(problem, method, kind, batch_rows, allowed, learning_rate)
        runs.append(TrainingRun(method, kind.name, steps, curve[-1], trial, times, curve))
    held = len(problem.Y_held)
    return Training(problem.sizes, each, len(Y), learning_rate, held, curve[0], runs)


def _train(
    problem: Problem,
    method: str,
    kind: type[Executor],
    batch_rows: int,
    seconds: float,
    learning_rate: float,
) -> tuple[int, list[float], list[float]]:
    """Steps finished in the seconds; a curve of at most some hundred points: seconds, accuracy."""

    def measure() -> float:
        return accuracy(problem.sizes, theta, problem.X_held, problem.Y_held)

    theta, executor, optimizer = problem.theta, kind(problem.sizes), SGD(learning_rate)
    generator = np.random.RandomState(problem.seed)
    state, steps, clock = None, 0, 0.0
    times, accuracies = [0.0], [measure()]
    while clock < seconds:
        rows = generator.permutation(len(problem.Y))[:batch_rows]
        gradient = np.empty(len(theta))
        start = time.perf_counter() - clock
        executor.use(problem.X[rows], problem.Y[rows])
        executor.load(theta)
        for indices, slopes in pieces(method, executor, theta, range(len(theta))):
            gradient[list(indices)] = slopes
            if time.perf_counter() - start > seconds:  # a part of a gradient is worth nothing
                clock = seconds
                break
        else:
            theta, state = optimizer.update(theta, gradient, state)
            clock, steps = time.perf_counter() - start, steps + 1
        if clock >= min(seconds, times[-1] + seconds / 100):
            times.append(clock)
            accuracies.append(measure())
    return steps, times, accuracies
