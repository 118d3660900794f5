"""What one gradient costs and how exact it is, by every method.

Every contender, a method on an executor, does its gradient in pieces, taking turns with the others
until the seconds are over. What is not finished by then is extrapolated from the pieces that were,
and the result says how many. Left out: how the cost grows (growth.py), and second derivatives.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from typing import Any

from ..finite_difference import derivative
from ..tables import Result, Table, error_text, seconds_text
from .executors import EXECUTORS, NUDGING, Executor, contenders
from .problem import DIGITS, Array, Problem, reference_gradient

BURST = 0.003  # seconds of evaluations in a row, one at least
Piece = tuple[Sequence[int], Sequence[float]]


def pieces(method: str, executor: Executor, theta: Array, order: Sequence[int]) -> Iterator[Piece]:
    """One gradient, cut up so that it can be timed and stopped: (parameters, their slopes) each.

    A piece without parameters is what the method pays once, whatever their number.
    """
    if method == "reverse mode":
        slopes = executor.reverse()
        yield range(len(theta)), slopes
    elif method == "forward mode":
        slope = executor.forward()
        yield (), ()
        for index in order:
            yield (index,), (slope(index),)
    else:
        unmoved = math.nan  # central differences never ask for it
        if method == "forward differences":
            unmoved = executor.evaluate()
            yield (), ()
        for index in order:
            x = float(theta[index])

            def nudged(value: float, index: int = index, x: float = x) -> float:
                if value == x:
                    return unmoved
                executor.nudge(index, value)
                return executor.evaluate()

            slope_here = derivative(nudged, x, NUDGING[method])
            executor.nudge(index, x)
            yield (index,), (slope_here,)


class Stopwatch:
    """Runs one contender piece by piece; knows what a whole gradient takes."""

    def __init__(
        self, method: str, executor: Executor, theta: Array, order: Sequence[int], repeats: int
    ) -> None:
        self.method, self.executor, self.theta, self.order = method, executor, theta, order
        self.repeats, self.finished = repeats, 0  # whole gradients to measure at most
        self.slopes: dict[int, float] = {}
        # (seconds, evaluations, passes) of the pieces paid once, and of those with parameters
        self.once: list[tuple[float, int, int]] = []
        self.each: list[tuple[float, int, int]] = []
        self.evaluation_seconds: list[float] = []  # single evaluations, timed between the pieces
        self.parameters_each = 1
        self.running: Iterator[Piece] | None = None

    @property
    def done(self) -> bool:
        return self.finished >= self.repeats

    def run(self, seconds: float) -> None:
        """Go on for so many seconds; the first time for the pieces that a median needs."""
        executor, end = self.executor, time.perf_counter() + seconds
        executor.load(self.theta)
        self._time_evaluation()
        while not self.done:
            if self.running is None:
                self.running = pieces(self.method, executor, self.theta, self.order)
            before = time.perf_counter(), executor.evaluations, executor.passes
            piece = next(self.running, None)
            after = time.perf_counter(), executor.evaluations, executor.passes
            if piece is None:
                self.running, self.finished = None, self.finished + 1
                continue
            spent = (after[0] - before[0], after[1] - before[1], after[2] - before[2])
            indices, slopes = piece
            (self.each if indices else self.once).append(spent)
            self.parameters_each = len(indices) or self.parameters_each
            self.slopes.update(zip(indices, map(float, slopes), strict=True))
            if len(self.each) >= 3 and time.perf_counter() >= end:
                break
        self._time_evaluation()

    def _time_evaluation(self) -> None:
        self.executor.evaluate()  # not timed: it finds cold caches, which pieces in a row do not
        end = start = time.perf_counter()
        while end - start < BURST:  # nor do quick ones: 30 us instead of 110
            before = time.perf_counter()
            self.executor.evaluate()
            end = time.perf_counter()
            self.evaluation_seconds.append(end - before)

    def cost(self, error: float = math.nan) -> Cost:
        """A whole gradient: what is paid once, and the median piece times their number."""
        count = len(self.theta) // self.parameters_each
        once = _median_seconds(self.once) if self.once else 0.0
        _, evaluations_once, passes_once = self.once[0] if self.once else (0.0, 0, 0)
        _, evaluations, passes = self.each[0]
        return Cost(
            method=self.method,
            executor=self.executor.name,
            parameters=len(self.theta),
            seconds_per_gradient=once + count * _median_seconds(self.each),
            seconds_per_evaluation=statistics.median(self.evaluation_seconds),
            evaluations_per_gradient=evaluations_once + count * evaluations,
            passes_per_gradient=passes_once + count * passes,
            largest_relative_error=error,
            parameters_measured=len(self.slopes),
            gradients_measured=len(self.each) // count,
        )


def _median_seconds(spent: list[tuple[float, int, int]]) -> float:
    return statistics.median(seconds for seconds, _, _ in spent)


@dataclass(frozen=True)
class Cost:
    """What one gradient costs by one method on one executor, and how exact it is.

    evaluations are forward passes, passes are derivative passes (backward or forward mode).
    largest_relative_error is the largest |slope - exact| among the parameters measured, relative
    to the largest |exact| of the whole gradient (nan without a reference). The seconds are
    extrapolated if fewer parameters were measured than there are; the counts are per gradient.
    """

    method: str
    executor: str
    parameters: int
    seconds_per_gradient: float
    seconds_per_evaluation: float
    evaluations_per_gradient: int
    passes_per_gradient: int
    largest_relative_error: float
    parameters_measured: int
    gradients_measured: int

    @property
    def extrapolated(self) -> bool:
        return self.parameters_measured < self.parameters

    @property
    def in_evaluations(self) -> float:
        """The seconds of the gradient, in evaluations by the same executor."""
        return self.seconds_per_gradient / self.seconds_per_evaluation

    def time_text(self) -> str:
        """The seconds of the gradient, for tables: with a ~ if extrapolated."""
        return ("~" if self.extrapolated else "") + seconds_text(self.seconds_per_gradient)


@dataclass(frozen=True, repr=False)
class Gradients(Result):
    """What `compare_gradients` measured."""

    sizes: tuple[int, ...]
    parameters: int
    batch_rows: int
    costs: list[Cost]

    def tables(self) -> list[Table]:
        rows = []
        for c in self.costs:
            passes = f" + {c.passes_per_gradient:,}" if c.passes_per_gradient else ""
            digits = 1 if c.in_evaluations < 10 else 0
            rows.append(
                (
                    c.method,
                    c.executor,
                    c.time_text(),
                    f"{c.evaluations_per_gradient:,}{passes}",
                    f"{c.in_evaluations:,.{digits}f}",
                    error_text(c.largest_relative_error),
                    f"{c.parameters_measured:,}",
                )
            )
        shape = "-".join(map(str, self.sizes))
        return [
            Table(
                f"1. One gradient of a {shape} network ({self.parameters:,} parameters) "
                f"over {self.batch_rows} rows",
                ("method", "runs on", "time", "work", "evals", "error", "measured"),
                rows,
                "work: evaluations + derivative passes of one gradient, counted. evals: its time "
                "in evaluations by the same executor. error: the largest, relative to the "
                f"gradient's largest component, against a {DIGITS}-digit reference. measured: on "
                "how many of the parameters, drawn at random; ~ marks a time extrapolated from "
                "them. " + self.conclusion(),
                left=2,
            )
        ]

    def conclusion(self) -> str:
        """Why it is reverse mode that wins, with this measurement's numbers."""
        reverse = min(
            (c for c in self.costs if c.method == "reverse mode"),
            key=lambda c: c.seconds_per_gradient,
        )
        others = [c for c in self.costs if c.method != "reverse mode"]
        best = min(others, key=lambda c: c.seconds_per_gradient)
        return (
            f"Reverse mode wins because one backward pass gives all {self.parameters:,} slopes for "
            f"the time of {reverse.in_evaluations:.1f} evaluations, however many parameters there "
            "are; every other method, forward mode's exact one too, pays once per parameter: "
            f"{best.method} on {best.executor}, the fastest of them, took "
            f"{best.seconds_per_gradient / reverse.seconds_per_gradient:,.0f} times as long."
        )


def compare_gradients(
    problem: Problem,
    batch_rows: int = 32,
    seconds: float = 10.0,
    executors: Sequence[type[Executor]] | None = None,
) -> Gradients:
    """One gradient of the loss over a batch, by every method: seconds, evaluations, exactness.

    The contenders take turns, so that a busy moment of the machine hits all of them.
    """
    theta = problem.theta
    X, Y = problem.batch(batch_rows)
    exact = reference_gradient(problem.sizes, theta.tolist(), X, Y)
    costs = measure(problem, theta, X, Y, seconds, executors or EXECUTORS, exact)
    return Gradients(problem.sizes, len(theta), len(Y), costs)


def measure(
    problem: Problem,
    theta: Array,
    X: Any,
    Y: Any,
    seconds: float,
    executors: Sequence[type[Executor]],
    exact: Sequence[Decimal] = (),
    repeats: int = 20,
) -> list[Cost]:
    """The cost of one gradient for every contender, all within so many seconds."""
    end = time.perf_counter() + seconds
    ready = {kind: kind(problem.sizes) for kind in executors}
    for executor in ready.values():
        executor.use(X, Y)
    order = list(range(len(theta)))
    random.Random(problem.seed).shuffle(order)
    watches = [
        Stopwatch(method, ready[kind], theta, order, repeats if method == "reverse mode" else 1)
        for method, kind in contenders(executors)
    ]
    turn = seconds / len(watches) / 10
    while True:
        unfinished = [watch for watch in watches if not watch.done]
        for watch in unfinished:
            watch.run(min(turn, max(0.0, end - time.perf_counter())))
        if not unfinished or time.perf_counter() >= end:
            break
    return [watch.cost(_largest_error(watch.slopes, exact)) for watch in watches]


def _largest_error(slopes: dict[int, float], exact: Sequence[Decimal]) -> float:
    if not exact:
        return math.nan
    with localcontext(Context(prec=DIGITS)):
        largest = max(map(abs, exact))
        return float(max(abs(Decimal(s) - exact[i]) for i, s in slopes.items()) / largest)
