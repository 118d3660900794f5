"""How the error of a finite difference depends on its step: the V-shaped curve.

A large step pays for the curvature of the function, a small one for the rounding of its values.
It leaves out the adaptive method (Ridders), which chooses its steps itself.
"""

from __future__ import annotations

import cmath
import math
import time
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from operator import add
from typing import Any

from ..finite_difference import derivative
from ..tables import Result, Table, error_text
from .executors import ThroughValues
from .problem import DIGITS, Problem, network_loss, reference_gradient

STEP_METHODS = ("forward", "central", "fourth", "complex")


@dataclass(frozen=True, repr=False)
class StepSizes(Result):
    """What `compare_steps` measured. Errors are relative to the exact derivative; nan: no step.

    relative_errors             method -> the error at each of `steps`
    default_steps               method -> the step it takes when none is given
    default_relative_errors     method -> the error there
    """

    parameter: str
    x: float
    exact: str
    steps: list[float]
    relative_errors: dict[str, list[float]]
    default_steps: dict[str, float]
    default_relative_errors: dict[str, float]
    reverse_relative_error: float
    evaluations: int
    batch_rows: int

    def tables(self) -> list[Table]:
        best = {method: self.best(method) for method in STEP_METHODS}
        rows = []
        for i, h in enumerate(self.steps):
            starred = [m for m in STEP_METHODS if best[m][0] == h]
            if starred or abs(math.log10(h) - round(math.log10(h))) < 1e-9:
                marks = ["*" if method in starred else "" for method in STEP_METHODS]
                errors = [error_text(self.relative_errors[method][i]) for method in STEP_METHODS]
                rows.append((f"{h:.1e}", *map(add, marks, errors)))
        defaults = ", ".join(
            f"{m} {error_text(e)} at {self.default_steps[m]:.1e}"
            for m, e in self.default_relative_errors.items()
        )
        return [
            Table(
                f"2. Error of {self.parameter}'s slope against the step ({self.batch_rows} rows)",
                ("step", *STEP_METHODS),
                rows,
                f"Reverse mode's error: {error_text(self.reverse_relative_error)}, without a step "
                "to choose. *: each method's best step, known only because the answer is: "
                f"{self.exact[:34]}... Steps taken when none is given: {defaults}. The complex "
                "step is exact, needs a complex forward pass, and pays once per parameter.",
            )
        ]

    def best(self, method: str) -> tuple[float, float]:
        """The step with the smallest error, and that error."""
        pairs = zip(self.steps, self.relative_errors[method], strict=True)
        return min(((h, e) for h, e in pairs if e == e), key=lambda pair: pair[1])


def compare_steps(
    problem: Problem,
    batch_rows: int = 32,
    seconds: float = 4.0,
    index: int | None = None,
    per_decade: int = 3,
) -> StepSizes:
    """The error of finite differences against the step, from 1 down to 1e-16, for one parameter.

    Without an `index`, the first layer's weight with the largest derivative. The steps are
    tried in rounds, one a decade first: what the seconds do not suffice for is left out.
    """
    end = time.perf_counter() + seconds
    theta = problem.theta
    X, Y = (array.tolist() for array in problem.batch(batch_rows))
    exact_gradient = reference_gradient(problem.sizes, theta.tolist(), X, Y)
    if index is None:
        nin, nout = problem.sizes[:2]
        weights = [i for i in range(nout * (nin + 1)) if i % (nin + 1) < nin]
        index = max(weights, key=lambda i: abs(exact_gradient[i]))
    exact, x, moved = exact_gradient[index], float(theta[index]), theta.tolist()
    evaluations = 0

    def f(value: Any) -> Any:
        nonlocal evaluations
        evaluations += 1
        moved[index] = value
        functions = cmath if isinstance(value, complex) else math
        return network_loss(problem.sizes, moved, X, Y, functions)

    def error(slope: float) -> float:
        with localcontext(Context(prec=DIGITS)):
            return float(abs(Decimal(float(slope)) - exact) / abs(exact))

    executor = ThroughValues(problem.sizes)
    executor.use(X, Y)
    executor.load(theta)
    reverse_error = error(executor.reverse()[index])
    found: dict[int, dict[str, float]] = {}
    exponents = list(range(16 * per_decade + 1))
    for k in sorted(exponents, key=lambda k: k % per_decade):
        if k > 0 and time.perf_counter() >= end:
            break
        h = 10 ** (-k / per_decade)
        usable = [m for m in STEP_METHODS if m == "complex" or x + h != x]
        found[k] = {method: error(derivative(f, x, method, h)) for method in usable}
    tried = sorted(found)
    defaults = {method: derivative(f, x, method) for method in STEP_METHODS}
    return StepSizes(
        parameter=executor.parameters[index].label,
        x=x,
        exact=f"{exact:.40g}",
        steps=[10 ** (-k / per_decade) for k in tried],
        relative_errors={m: [found[k].get(m, math.nan) for k in tried] for m in STEP_METHODS},
        default_steps={method: slope.step for method, slope in defaults.items()},
        default_relative_errors={method: error(slope) for method, slope in defaults.items()},
        reverse_relative_error=reverse_error,
        evaluations=evaluations,
        batch_rows=len(Y),
    )
