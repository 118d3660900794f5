"""The two engines asked the same question: the scalar graph node by node, and the compiled program.

`eager` and `compiled` answer for a recorded `Model` (recorded_models.py): outputs row by row, the
mean, its gradient by the parameters and by the inputs. `assert_agree` is the contract's meaning of
"the same": 1e-12 of the largest magnitude in the same array, nan where nan, inf where inf.
ENGINES answer for a function of a few numbers, so that one test runs on each of them.
It leaves out which graphs are asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import micrograd_scratch as mg
from micrograd_scratch import Value, engine
from micrograd_scratch.compiler.execution import Arrays, Execution, Lines, Vectors

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


@dataclass
class Model:
    """A recorded graph: outputs, named arrays of parameters, inputs, and how inputs are drawn.

    feed   (random generator, rows) -> one array of rows for every input
    """

    outputs: Value | list[Value]
    parameters: dict[str, list[Value]]
    inputs: list[Any] = field(default_factory=list)
    feed: Callable[[np.random.Generator, int], list[np.ndarray]] = lambda rng, rows: []

    @property
    def leaves(self) -> list[Value]:
        return [p for array in self.parameters.values() for p in array]

    @property
    def results(self) -> list[Value]:
        return [self.outputs] if isinstance(self.outputs, Value) else self.outputs

    def compile(self, dtype: str = "float64") -> mg.Program:
        return mg.compile(self.outputs, self.inputs, self.leaves, dtype)


@contextmanager
def carried_out_as(form: str) -> Iterator[None]:
    """Programs run as "arrays", "lines" of Python, lines on "vectors", or as is cheapest ("")."""
    with pytest.MonkeyPatch.context() as patch:
        if form:
            way = {"arrays": Arrays, "lines": Lines, "vectors": Vectors}[form]
            choose = mg.Program._way

            def forced(program: mg.Program, rows: int) -> type[Execution]:
                return way if program.graph.count() else choose(program, rows)

            patch.setattr(mg.Program, "_way", forced)
        yield


@dataclass
class Answers:
    """values (rows, outputs); for a single output its mean, and the mean's gradients."""

    values: np.ndarray
    mean: float | None = None
    gradient: np.ndarray | None = None
    by_inputs: list[np.ndarray] = field(default_factory=list)


def flat(given: Any) -> list[Value]:
    """The Values of a nested list, in order."""
    return [given] if isinstance(given, Value) else [v for item in given for v in flat(item)]


def eager(model: Model, arrays: Sequence[np.ndarray]) -> Answers:
    """The answers of the scalar graph, one row after the other; leaves are left as they were."""
    outputs, parameters = model.results, model.leaves
    cells = [flat(given) for given in model.inputs]
    rows = len(arrays[0]) if arrays else 1
    leaves = [*parameters, *(x for some in cells for x in some)]
    before = [(leaf.data, leaf.grad) for leaf in leaves]
    values = np.empty((rows, len(outputs)))
    gradient = np.zeros(len(parameters))
    by_inputs = [np.zeros((rows, len(some))) for some in cells]
    for r in range(rows):
        for some, array in zip(cells, arrays, strict=True):
            for x, number in zip(some, np.ravel(array[r]).tolist(), strict=True):
                x.data = float(number)
        engine.recompute(*outputs)
        values[r] = [y.data for y in outputs]
        if isinstance(model.outputs, Value) and not isinstance(model.outputs, mg.Constant):
            for leaf in leaves:
                leaf.grad = 0.0
            outputs[0].backward()
            gradient += np.array([p.grad for p in parameters]) / rows
            for some, by_input in zip(cells, by_inputs, strict=True):
                by_input[r] = [x.grad / rows for x in some]
    for leaf, (data, grad) in zip(leaves, before, strict=True):
        leaf.data, leaf.grad = data, grad
    engine.recompute(*outputs)
    if not isinstance(model.outputs, Value):
        return Answers(values)
    return Answers(values, float(values.mean()), gradient, by_inputs)


def compiled(
    model: Model, arrays: Sequence[np.ndarray], dtype: str = "float64", form: str = ""
) -> Answers:
    """The answers of the compiled program."""
    with carried_out_as(form):
        return _answers_of(model.compile(dtype), model, arrays, dtype)


def _answers_of(
    program: mg.Program, model: Model, arrays: Sequence[np.ndarray], dtype: str
) -> Answers:
    rows = len(arrays[0]) if arrays else 1
    values = np.reshape(program(*arrays), (rows, len(model.results)))
    if not isinstance(model.outputs, Value):
        return Answers(values)
    mean, gradient = program.value_and_grad(*arrays)
    by_inputs: Any = []
    if model.inputs:
        again, by_inputs = program.value_and_grad(*arrays, wrt="inputs")
        magnitude = np.abs(values[np.isfinite(values)]).max(initial=0.0)
        assert_agree(again, mean, TOLERANCE[dtype], "mean", magnitude)
        by_inputs = by_inputs if isinstance(by_inputs, list) else [by_inputs]
        by_inputs = [g.reshape(rows, -1) for g in by_inputs]
    return Answers(values, mean, gradient, by_inputs)


def assert_agree(
    got: Any, expected: Any, tolerance: float = 1e-12, what: str = "", scale: float = 0.0
) -> None:
    """Equal to `tolerance` of the largest finite magnitude; nan and inf in their places.

    scale  a magnitude that counts besides: of the terms that a sum cancels
    """
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(got), finite, err_msg=what)
    np.testing.assert_array_equal(got[~finite], expected[~finite], err_msg=what)
    if finite.any():
        scale = max(scale, np.abs(expected[finite]).max())
        error = np.abs(got - expected)[finite].max()
        assert error <= tolerance * scale + 2e-323, (
            f"{what}: off by {error:.3g}, magnitude {scale:.3g}"
        )


def check(
    model: Model, rows: int = 5, dtype: str = "float64", form: str = "", seed: int = 0
) -> Answers:
    """AssertionError unless both engines agree on everything; returns the eager answers."""
    arrays = model.feed(np.random.default_rng(seed), rows)
    if dtype == "float32":  # both see the same, rounded numbers
        arrays = [x.astype(np.float32).astype(float) for x in arrays]
        for leaf in engine.topological_order(*model.results):
            if not leaf.parents:
                leaf.data = float(np.float32(leaf.data))
        engine.recompute(*model.results)
    expected, got = eager(model, arrays), compiled(model, arrays, dtype, form)
    tolerance = TOLERANCE[dtype]
    for j in range(len(model.results)):
        assert_agree(got.values[:, j], expected.values[:, j], tolerance, f"output {j}")
    if expected.gradient is not None:
        finite = np.where(np.isfinite(expected.values), expected.values, 0.0)
        assert_agree(got.mean, expected.mean, tolerance, "mean", np.abs(finite).max())
        start = 0
        for name, array in model.parameters.items():
            stop = start + len(array)
            assert_agree(
                got.gradient[start:stop], expected.gradient[start:stop], tolerance, f"d/d{name}"
            )
            start = stop
        for i, (ours, theirs) in enumerate(zip(got.by_inputs, expected.by_inputs, strict=True)):
            assert_agree(ours, theirs, tolerance, f"d/d input {i}")
    return expected


# ---------------------------------------------------------------- a function of a few numbers
Build = Callable[..., Any]


def _eagerly(build: Build, numbers: Sequence[float]) -> tuple[float, list[float]]:
    leaves = [Value(x) for x in numbers]
    y = build(*leaves)
    if not isinstance(y, mg.Constant):
        y.backward()
    return y.data, [x.grad for x in leaves]


def _as_parameters(build: Build, numbers: Sequence[float]) -> tuple[float, list[float]]:
    leaves = [Value(x) for x in numbers]
    y, gradient = mg.compile(build(*leaves), parameters=leaves).value_and_grad()
    return y, gradient.tolist()


def _as_theta(build: Build, numbers: Sequence[float]) -> tuple[float, list[float]]:
    """Recorded at other numbers (the same ones in reverse) than it runs at."""
    leaves = [Value(x) for x in reversed(numbers)]
    program = mg.compile(build(*leaves), parameters=leaves)
    y, gradient = program.value_and_grad(parameters=np.array(numbers, float))
    return y, gradient.tolist()


def _as_a_row(build: Build, numbers: Sequence[float]) -> tuple[float, list[float]]:
    """All numbers as inputs, each with an axis of rows of length 1."""
    return _as_a_row_and_parameters(build, numbers, 0)


def _mixed(build: Build, numbers: Sequence[float]) -> tuple[float, list[float]]:
    """The first number as a parameter, the others as inputs."""
    return _as_a_row_and_parameters(build, numbers, 1)


def _as_a_row_and_parameters(
    build: Build, numbers: Sequence[float], parameters: int
) -> tuple[float, list[float]]:
    leaves = [Value(x) for x in numbers]
    fed = leaves[parameters:]
    program = mg.compile(build(*leaves), inputs=fed, parameters=leaves[:parameters])
    columns = [np.array([x], float) for x in numbers[parameters:]]
    y, gradient = program.value_and_grad(*columns)
    assert_agree(np.reshape(program(*columns), ()), y)
    by_inputs: Any = []
    if fed:
        again, by_inputs = program.value_and_grad(*columns, wrt="inputs")
        assert_agree(again, y)
        by_inputs = by_inputs if isinstance(by_inputs, list) else [by_inputs]
    return y, [*gradient.tolist(), *(float(g[0]) for g in by_inputs)]


def _within(form: str, answer: Callable[..., Any]) -> Callable[..., tuple[float, list[float]]]:
    def run(build: Build, numbers: Sequence[float]) -> tuple[float, list[float]]:
        with carried_out_as(form):
            return answer(build, numbers)  # type: ignore[no-any-return]

    return run


# name -> (a function of Values, numbers) -> (its value, its gradient)
ENGINES = {
    "eager": _eagerly,
    **{
        f"{name}-{form}": _within(form, answer)
        for form in ("arrays", "lines", "vectors")
        for name, answer in (
            ("parameters", _as_parameters),
            ("theta", _as_theta),
            ("row", _as_a_row),
            ("mixed", _mixed),
        )
    },
}
