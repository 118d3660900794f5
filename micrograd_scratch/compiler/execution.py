"""Execution: the source that the passes wrote becomes functions, and runs.

There are three ways. Arrays run in the buffers of one thread for one number of rows; lines of
Python run on floats, row by row; and the same lines run on an array of rows for every number. Which
of them it is, and what happens to numbers that are not finite: program.py.
"""

from __future__ import annotations

import math
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import runtime
from .cells import places
from .emit import emit
from .emit_scalars import scalar_source
from .emit_vectors import vector_source
from .factor import FREE, ROWS, SHIFT, THETA
from .gathers import in_one_space
from .names import names_of
from .record import Graph
from .source import source_of
from .steps import RESERVED

if TYPE_CHECKING:
    from .program import Program

MOST_CELLS = 20_000_000  # rows are run in pieces, so that the buffers stay below 160 MB
MOST_ROWS = 4_096  # ... and an array of rows in the cache
_RUNTIME = ("strided", "take_values", "locate", "put_values", "turned_matmul", "layer")
Rows = list[np.ndarray]  # (rows, cells) of every input
Again = Callable[[Sequence[Any], Any, Any], "tuple[float, np.ndarray] | None"]


class Execution:
    """A program as source that runs, for one choice of what gradients are taken by.

    source     the source
    padded     whether numbers of the graph may have met zeros that are not in it
    doubtful   whether that, or an adjoint that does not exist and passed for 0.0, may have made a
               gradient nan
    most_rows  that are run at once
    raises     what Python's floats raise where others have inf or nan

    Both methods take theta (parameters,) and the inputs as (rows, cells of the input).
    """

    source: str
    raises: tuple[type[Exception], ...] = (ArithmeticError, ValueError)
    padded = doubtful = False
    most_rows = sys.maxsize

    def outputs(self, theta: np.ndarray, inputs: Rows, out: np.ndarray) -> None:
        """Write the outputs to `out`, (rows, m)."""
        raise NotImplementedError

    def value_and_grad(
        self, theta: np.ndarray, inputs: Rows, g: np.ndarray, gx: Rows, share: float
    ) -> float:
        """Output 0 summed over rows; its gradient times `share` in g, or gx if there are any."""
        raise NotImplementedError

    def again(self, inputs: Sequence[Any], cells: Sequence[int], rows: int) -> Again | None:
        """value_and_grad of arguments like these, whose checks hold for them.

        again(inputs, theta, out) gives None if they are not alike.
        """
        return None


# ---------------------------------------------------------------- arrays
class Arrays(Execution):
    """NumPy source, in buffers of every thread's own."""

    raises = (ArithmeticError,)  # a ValueError would be about shapes

    def __init__(self, program: Program, wrt_inputs: bool) -> None:
        self.layout = in_one_space(program._layout)
        names = names_of(program.parameters, [name for name, _ in program.inputs])
        self.code = emit(self.layout, names, wrt_inputs, backward=program.single)
        self.source, constants = source_of(self.code)
        self.data = program._fused.data
        self.padded = self.layout.padded
        self.doubtful = self.padded or self.code.doubtful
        cells = self.layout.sizes[ROWS] + self.code.gradient_sizes[ROWS]
        self.most_rows = max(1, MOST_CELLS // cells)
        self.output = int(self.layout.outputs[0])
        self.unwritten = self.code.unwritten if len(self.code.unwritten) else None
        self.namespace = {name: getattr(runtime, name) for name in _RUNTIME}
        for name, value in constants.items():
            self.namespace[name] = _as_kind(value, program.dtype)
        exec(compile(self.source, "<compiled program>", "exec"), self.namespace)
        self.dtype, self.mine = program.dtype, threading.local()

    def buffers(self, rows: int) -> Buffers:
        """This thread's buffers for so many rows."""
        mine: dict[Any, Buffers] = self.mine.__dict__
        if rows not in mine:
            if len(mine) > 8:  # batch sizes that changed: keep the memory of a few
                mine.pop(next(iter(mine)))
            mine[rows] = Buffers(self, rows)
        return mine[rows]

    def outputs(self, theta: np.ndarray, inputs: Rows, out: np.ndarray) -> None:
        self.buffers(len(out)).outputs(theta, inputs, out)

    def value_and_grad(
        self, theta: np.ndarray, inputs: Rows, g: np.ndarray, gx: Rows, share: float
    ) -> float:
        rows = len(inputs[0]) if inputs else 1
        return self.buffers(rows).value_and_grad(theta, inputs, g, gx, share)

    def again(self, inputs: Sequence[Any], cells: Sequence[int], rows: int) -> Again | None:
        if rows > self.most_rows:
            return None
        buffers = self.buffers(rows)
        return buffers.again if buffers.expect(inputs, cells) else None


def _as_kind(value: Any, dtype: np.dtype[Any]) -> Any:
    """Literals in the precision of a program; what is no literal as it is."""
    if isinstance(value, list):
        return [_as_kind(each, dtype) for each in value]
    is_literal = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(dtype) if is_literal else value


class Buffers:
    """The buffers of one thread for one number of rows, and the functions bound to them."""

    def __init__(self, compiled: Arrays, rows: int) -> None:
        self.compiled, self.rows, self.functions = compiled, rows, compiled.namespace
        self.dtype, self.size = compiled.dtype, (compiled.layout.sizes[THETA],)
        sizes, gradient_sizes = compiled.layout.sizes, compiled.code.gradient_sizes
        self.u, gu = (np.zeros(s[FREE], self.dtype) for s in (sizes, gradient_sizes))
        self.v, gv = (np.zeros((s[ROWS], rows), self.dtype) for s in (sizes, gradient_sizes))
        for cell, number in enumerate(RESERVED):
            self.u[cell] = self.v[cell] = number
        bind = self.functions["buffers"]
        self._forward, self._backward = bind(self.u, self.v, gu, gv, rows, self.dtype)
        self.theta = self.g = np.empty(0)  # what the views below are of
        self.parameters: tuple[Any, ...] = ()
        self.gradients: tuple[Any, ...] = ()

    def bind(self, theta: np.ndarray, inputs: list[np.ndarray]) -> None:
        if theta is not self.theta:  # views of the same array are bound once
            self.theta, self.parameters = theta, self.functions["parameters"](theta)
        self.arrays = [x.T for x in inputs]
        self.inputs = self.functions["inputs"](*self.arrays)

    def outputs(self, theta: np.ndarray, inputs: Rows, out: np.ndarray) -> None:
        self.bind(theta, inputs)
        with np.errstate(all="ignore"):
            self._forward(*self.parameters, *self.inputs)
        for j, address in enumerate(self.compiled.layout.outputs.tolist()):
            out[:, j] = self.cell(address)

    def value_and_grad(
        self, theta: np.ndarray, inputs: Rows, g: np.ndarray, gx: Rows, share: float
    ) -> float:
        if gx or g is not self.g:
            by_inputs: list[Any] = [x.T for x in gx] or [None] * len(inputs)
            self.g, self.gradients = g, self.functions["gradients"](g, *by_inputs)
        for x in gx:
            x.fill(0.0)
        if self.compiled.unwritten is not None:
            g[self.compiled.unwritten] = 0.0
        self.bind(theta, inputs)
        with np.errstate(all="ignore"):
            self._forward(*self.parameters, *self.inputs)
            self._backward(*self.parameters, *self.inputs, *self.gradients, share)
            number = self.cell(self.compiled.output)
            if number.ndim == 0:
                return float(number) * self.rows
            return number.item() if self.rows == 1 else float(np.add.reduce(number))

    def expect(self, inputs: Sequence[Any], cells: Sequence[int]) -> bool:
        """Note what the inputs are like; False if others like them might need more checks."""
        self.kinds = [(x.shape, x.dtype) for x in inputs if isinstance(x, np.ndarray)]
        self.checked = self.theta, self.g
        return len(self.kinds) == len(inputs) and all(
            x.dtype.kind in "biuf" and x.size == self.rows * n
            for x, n in zip(inputs, cells, strict=True)
        )

    def again(self, inputs: Sequence[Any], theta: Any, g: Any) -> tuple[float, np.ndarray] | None:
        """As in `Execution.again`: 40 us instead of 44 for 64-32-10 at 32 rows."""
        if theta is not self.checked[0] or g is not self.checked[1]:
            return None
        if theta.shape != self.size or g.shape != self.size or len(inputs) != len(self.kinds):
            return None  # somebody assigned to .shape
        arrays = []
        for x, (shape, dtype) in zip(inputs, self.kinds, strict=True):
            if type(x) is not np.ndarray or x.shape != shape or x.dtype is not dtype:
                return None
            if dtype is not self.dtype:
                with np.errstate(over="ignore"):
                    x = x.astype(self.dtype)
            elif may_overlap(x, g):
                return None
            one_row_each = len(shape) == 2 and shape[0] == self.rows
            arrays.append(x if one_row_each else x.reshape(self.rows, -1))
        value = self.value_and_grad(theta, arrays, g, [], 1.0 / self.rows) / self.rows
        if self.compiled.doubtful and not (math.isfinite(value) and is_finite(g)):
            return None
        return value, g

    def cell(self, address: int) -> Any:
        """The number at an address, or (rows,) of them."""
        spaces = self.theta, self.u, self.v, self.compiled.data, *self.arrays
        return spaces[address >> SHIFT][places(address)]


# ---------------------------------------------------------------- lines of Python
class _Functions(Execution):
    """Lines of Python, in functions that are each compiled when first called.

    CPython takes 7 us a line, and who asks for gradients does not call `forward`.
    """

    namespace: dict[str, Any]

    def __init__(self, program: Program, wrt_inputs: bool) -> None:
        names = [name for name, shape in program.inputs for _ in range(math.prod(shape))]
        self.write(program.graph, len(program.parameters), names, wrt_inputs)
        self.has_inputs, self.dtype = bool(program.inputs), program.dtype
        self.parameters = len(program.parameters)
        *self.parts, self.forward_text, self.run_text = self.source.split("\n\n")
        self.lock = threading.Lock()

    def write(self, graph: Graph, *leaves: Any) -> None:
        """Write the source."""
        raise NotImplementedError

    def function(self, name: str, text: str) -> Any:
        """One of the functions, and what it calls."""
        with self.lock:  # for whom comes second, the parts are there when it gets on
            while self.parts:  # one by one: all at once would take 10 kB a line
                exec(compile(self.parts.pop(), "<compiled program>", "exec"), self.namespace)
            exec(compile(text, "<compiled program>", "exec"), self.namespace)
            return self.namespace[name]

    @cached_property
    def run(self) -> Any:
        """run(p, x) -> output 0, and its gradient as a list."""
        return self.function("run", self.run_text)

    @cached_property
    def forward(self) -> Any:
        """forward(p, x) -> the outputs."""
        return self.function("forward", self.forward_text)


class Lines(_Functions):
    """Lines on floats, row by row."""

    def write(self, graph: Graph, *leaves: Any) -> None:
        self.source, self.namespace = scalar_source(graph, *leaves)

    @np.errstate(over="ignore")  # beyond float32, perhaps
    def outputs(self, theta: np.ndarray, inputs: Rows, out: np.ndarray) -> None:
        p = theta.tolist()
        for r in range(len(out)):
            out[r] = self.forward(p, one_row(inputs, r).tolist())

    @np.errstate(over="ignore")
    def value_and_grad(
        self, theta: np.ndarray, inputs: Rows, g: np.ndarray, gx: Rows, share: float
    ) -> float:
        p, total = theta.tolist(), 0.0
        sums = [0.0] * len(p)
        for r in range(len(inputs[0]) if inputs else 1):
            value, gradient = self.run(p, one_row(inputs, r).tolist())
            total += value
            if gx:
                write_row(gx, r, gradient)
            else:
                sums = [a + b for a, b in zip(sums, gradient, strict=True)]
        if not gx:
            g[:] = sums
        for summed in gx or [g]:
            summed *= share
        return total

    def again(self, inputs: Sequence[Any], cells: Sequence[int], rows: int) -> Again | None:
        if self.has_inputs or self.dtype != np.float64:
            return None
        return again_by_lines(self.run, self.parameters)


class Vectors(_Functions):
    """The same lines on arrays: a number per row for each, of 64 bits whatever the program's.

    Numbers of two precisions would differ where they are the same number.
    """

    def write(self, graph: Graph, *leaves: Any) -> None:
        self.source, self.namespace, self.doubtful = vector_source(graph, *leaves)
        self.most_rows = max(1, min(MOST_ROWS, MOST_CELLS // (2 * len(graph))))

    def outputs(self, theta: np.ndarray, inputs: Rows, out: np.ndarray) -> None:
        with np.errstate(all="ignore"):
            for j, column in enumerate(self.forward(_scalars(theta), _columns(inputs))):
                out[:, j] = column

    def value_and_grad(
        self, theta: np.ndarray, inputs: Rows, g: np.ndarray, gx: Rows, share: float
    ) -> float:
        rows = len(inputs[0]) if inputs else 1
        with np.errstate(all="ignore"):
            value, gradient = self.run(_scalars(theta), _columns(inputs))
            if not gx:
                g[:] = [_summed(slope, rows) * share for slope in gradient]
            slopes = iter(gradient)
            for x in gx:
                for column in x.T:
                    np.multiply(next(slopes), share, out=column)
            return _summed(value, rows)


def _scalars(theta: np.ndarray) -> list[np.float64]:
    """The parameters, as numbers whose division by 0 is infinite."""
    return list(theta.astype(np.float64))


def _columns(inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The cells of all inputs, (rows,) each."""
    return [np.ascontiguousarray(column, np.float64) for x in inputs for column in x.T]


def _summed(x: Any, rows: int) -> float:
    """The sum over rows of what may be the same for all."""
    return float(np.add.reduce(x)) if np.ndim(x) else float(x) * rows


def again_by_lines(run: Any, size: int) -> Again:
    """`Execution.again` for a small expression, which notices every check."""
    # `is`: 0.02 us less than a comparison; another object that is float64 takes the longer way
    array, float64, shape = np.ndarray, np.dtype(np.float64), (size,)
    # 0.14 us for 3 numbers where `out[:] =` takes 0.21, 6 for 1,000 instead of 15
    write: Any = struct.Struct(f"{size}d").pack_into

    def again(inputs: Any, theta: Any, out: Any) -> tuple[float, Any] | None:
        if type(theta) is not array or theta.shape != shape or theta.dtype is not float64 or inputs:
            return None
        try:
            value, gradient = run(theta.tolist(), ())
        except (ArithmeticError, ValueError):
            return None
        if out is None:
            return float(value), np.array(gradient)
        if type(out) is not array or out.shape != shape or out.dtype is not float64:
            return None
        try:
            write(out, 0, *gradient)
        except (TypeError, ValueError):  # it cannot be written to, or lies in several pieces
            return None
        return float(value), out

    return again


def one_row(arrays: list[np.ndarray], r: int) -> np.ndarray:
    """The cells of all inputs in row r."""
    return np.concatenate([x[r] for x in arrays]) if arrays else np.empty(0)


def write_row(gx: Sequence[np.ndarray], r: int, numbers: Any) -> None:
    """The numbers of all inputs of one row, to the arrays (rows, cells) of every input."""
    start = 0
    for x in gx:
        x[r] = numbers[start : start + x.shape[1]]
        start += x.shape[1]


def is_finite(x: np.ndarray) -> bool:
    """Whether all numbers are finite: 10 us for 100,000, where isfinite().all() takes 20."""
    flat = x.reshape(-1)
    with np.errstate(all="ignore"):
        return math.isfinite(np.dot(flat, flat)) or bool(np.isfinite(flat).all())


def may_overlap(x: np.ndarray, out: np.ndarray) -> bool:
    """Whether two arrays may share memory: two that are no views do not."""
    return (x.base is not None or out.base is not None) and np.may_share_memory(x, out)
