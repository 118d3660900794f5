"""How the cost of a gradient grows with the number of parameters, by every method.

Counted and timed; what the seconds do not suffice for is extrapolated, as in gradients.py.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..engine import topological_order
from ..tables import Result, Table
from .executors import EXECUTORS, Executor, ThroughValues, contenders
from .gradients import Cost, measure
from .problem import Problem

HIDDEN = (14, 30, 65, 141, 304, 656, 1414)  # two decades: 1,060 to 106,060 parameters


@dataclass(frozen=True)
class Exponent:
    """cost ~ parameters**exponent, fitted in log-log: in seconds, in evaluations, in operations.

    `operations` counts one for every operand of every node, once a pass: it depends on no machine.
    """

    method: str
    executor: str
    of_seconds: float
    of_evaluations: float
    of_operations: float


@dataclass(frozen=True, repr=False)
class Growth(Result):
    """What `compare_growth` measured. `operations` is those of one evaluation at each size."""

    parameters: list[int]
    operations: list[int]
    batch_rows: int
    costs: list[Cost]
    exponents: list[Exponent]

    def tables(self) -> list[Table]:
        rows = []
        for e in self.exponents:
            mine = self.of(e.method, e.executor)
            first, last = mine[0], mine[-1]
            exponents = (e.of_seconds, e.of_evaluations, e.of_operations)
            rows.append(
                (
                    e.method,
                    e.executor,
                    first.time_text(),
                    last.time_text(),
                    *(f"{x:.2f}" for x in exponents),
                )
            )
        low, high = self.parameters[0], self.parameters[-1]
        return [
            Table(
                f"3. Cost of one gradient from {low:,} to {high:,} parameters, "
                f"{len(self.parameters)} sizes",
                ("method", "runs on", f"{low:,}", f"{high:,}", "time", "evals", "counted"),
                rows,
                "The last three columns are exponents k of cost ~ parameters^k, fitted in log-log: "
                "of the time, of the time in evaluations by the same executor, and of counted "
                "operations, which no machine disturbs. 1 and 0 mean that a gradient costs a "
                "constant number of evaluations, 2 and 1 that it costs as many as there are "
                "parameters. ~: extrapolated from a sample of the parameters.",
                left=2,
            )
        ]

    def of(self, method: str, executor: str) -> list[Cost]:
        """One contender's costs, by size."""
        return [c for c in self.costs if c.method == method and c.executor == executor]


def compare_growth(
    problem: Problem,
    hidden: Sequence[int] = HIDDEN,
    batch_rows: int = 1,
    seconds: float = 10.0,
    executors: Sequence[type[Executor]] | None = None,
) -> Growth:
    """The cost of one gradient as the hidden layer grows, and the power law that fits it.

    Each size gets a share of the seconds according to its parameters.
    """
    X, Y = problem.batch(batch_rows)
    costs: list[Cost] = []
    parameters, operations = [], []
    end = time.perf_counter() + seconds
    for position, size in enumerate(hidden):
        resized = problem.resized(size)
        theta = resized.theta
        recorder = ThroughValues(resized.sizes)
        recorder.use(X, Y)
        parameters.append(len(theta))
        operations.append(sum(len(node.parents) for node in topological_order(recorder.loss())))
        share = max(size, max(hidden) / 8) / sum(max(s, max(hidden) / 8) for s in hidden[position:])
        budget = share * (end - time.perf_counter())
        costs += measure(resized, theta, X, Y, budget, executors or EXECUTORS, repeats=10)
    exponents = []
    for method, kind in contenders(executors or EXECUTORS):
        mine = [c for c in costs if c.method == method and c.executor == kind.name]
        counted = [
            count * (c.evaluations_per_gradient + c.passes_per_gradient)
            for count, c in zip(operations, mine, strict=True)
        ]
        fits = (
            fitted_exponent(parameters, [c.seconds_per_gradient for c in mine]),
            fitted_exponent(parameters, [c.in_evaluations for c in mine]),
            fitted_exponent(parameters, counted),
        )
        exponents.append(Exponent(method, kind.name, *fits))
    return Growth(parameters, operations, len(Y), costs, exponents)


def fitted_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The least-squares slope of log cost over log size; nan for fewer than two sizes."""
    if len(sizes) < 2:
        return math.nan
    x, y = ([math.log(number) for number in numbers] for numbers in (sizes, costs))
    return statistics.linear_regression(x, y).slope
