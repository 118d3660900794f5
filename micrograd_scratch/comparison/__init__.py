"""Autodiff against finite differences, measured on one network: the package's main argument.

Five questions, each a function that returns a dataclass (print it, or give it to plots.py):

    compare_gradients   what one gradient costs and how exact it is, by every method
    compare_steps       how a finite difference's error depends on its step
    compare_growth      how the cost of a gradient grows with the number of parameters
    compare_shares      which part of the graph one nudged parameter changes
    compare_training    how far training gets in the same seconds

`compare` asks all five on handwritten digits. The reference is neither side's: the gradient by
hand in 50-digit `decimal` arithmetic, which comes with Python and rounds correctly (the tests
compare it with mpmath's).
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..tables import Result, Table, without_nan
from .executors import EXECUTORS, Compiled, Executor, PlainFloats, ThroughValues
from .gradients import Cost, Gradients, compare_gradients
from .growth import Exponent, Growth, compare_growth
from .problem import Problem, digits_problem, reference_gradient
from .race import Training, TrainingRun, compare_training
from .shares import Share, Shares, compare_shares
from .steps import StepSizes, compare_steps

__all__ = [
    "Comparison", "Compiled", "Cost", "Executor", "Exponent", "EXECUTORS", "Gradients", "Growth",
    "PlainFloats", "Problem", "Share", "Shares", "StepSizes", "ThroughValues", "Training",
    "TrainingRun", "compare", "compare_gradients", "compare_growth", "compare_shares",
    "compare_steps", "compare_training", "digits_problem", "reference_gradient",
]  # fmt: skip


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """What `compare` measured: all five parts, and on what."""

    version: str
    python: str
    machine: str
    seed: int
    training_rows: int
    held_out_rows: int
    seconds_taken: float
    gradients: Gradients
    steps: StepSizes
    growth: Growth
    shares: Shares
    training: Training

    def tables(self) -> list[Table]:
        about = Table(
            "Autodiff against finite differences, on handwritten digits",
            note=f"micrograd_scratch {self.version}, Python {self.python}, {self.machine}; "
            f"{self.training_rows:,} images to learn from, {self.held_out_rows:,} held out, seed "
            f"{self.seed}; {self.seconds_taken:.0f} seconds.",
        )
        parts = (self.gradients, self.steps, self.growth, self.shares, self.training)
        return [about, *(table for part in parts for table in part.tables())]

    def as_dict(self) -> dict[str, Any]:
        """Everything measured, for json.dumps: no nan or infinity, but None."""
        return without_nan(asdict(self))


def compare(
    problem: Problem | None = None,
    seconds: float = 35.0,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    executors: Sequence[type[Executor]] | None = None,
) -> Comparison:
    """Autodiff against finite differences on handwritten digits: the five comparisons in a row.

    seconds   for all of the measuring; each part keeps to its share, give or take one piece of work
    progress  is called with a line of text before each part

    ValueError for a time that is not above 0; ImportError without scikit-learn, if no problem is
    given.
    """
    from .. import __version__

    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds}: give a number above 0, such as 35")
    start = time.perf_counter()
    problem = problem or digits_problem(seed)
    progress("1/5 one gradient, by every method")
    gradients = compare_gradients(problem, seconds=0.25 * seconds, executors=executors)
    progress("2/5 the error against the step")
    steps = compare_steps(problem, seconds=0.1 * seconds)
    progress("3/5 the cost as the network grows")
    growth = compare_growth(problem, seconds=0.2 * seconds, executors=executors)
    progress("4/5 the share of the graph that a nudge recomputes")
    shares = compare_shares(problem)
    progress("5/5 training for the same seconds")
    training = compare_training(problem, seconds=0.4 * seconds, executors=executors)
    return Comparison(
        version=__version__,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        seed=problem.seed,
        training_rows=len(problem.Y),
        held_out_rows=len(problem.Y_held),
        seconds_taken=time.perf_counter() - start,
        gradients=gradients,
        steps=steps,
        growth=growth,
        shares=shares,
        training=training,
    )
