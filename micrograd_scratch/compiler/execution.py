"""Execution: the source that the passes wrote becomes functions, and runs with buffers of its own.

Arrays run in the buffers of one thread for one number of rows; lines of Python run row by row and
need none. Which of the two it is, and what happens to numbers that are not finite: program.py.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import interpret, runtime
from .cells import places
from .emit import emit
from .emit_scalars import scalar_source
from .emit_vectors import vector_source
from .factor import FREE, ROWS, SHIFT
from .layout import RESERVED, lay_out
from .names import names_of
from .source import source_of

if TYPE_CHECKING:
    from .program import Program

MOST_CELLS = 20_000_000  # rows are run in pieces, so that the buffers stay below 160 MB
MOST_ROWS = 4_096
_RUNTIME = ("strided", "take_values", "locate", "put_values", "turned_matmul", "layer")


class Arrays:
    """A program as NumPy source, for one choice of what gradients are taken by."""

    def __init__(self, program: Program, wrt_inputs: bool) -> None:
        fused, groups = program._groups()
        sizes = [math.prod(shape) for _, shape in program.inputs]
        self.layout = lay_out(fused, groups, len(program.parameters), sizes)
        names = names_of(program.parameters, [name for name, _ in program.inputs])
        self.code = emit(self.layout, names, wrt_inputs, backward=program.single)
        self.source = source_of(self.code)
        self.data = fused.data
        self.doubtful = self.layout.padded or self.code.doubtful
        cells = self.layout.sizes[ROWS] + self.code.gradient_sizes[ROWS]
        self.most_rows = max(1, MOST_CELLS // cells)
        self.output = int(self.layout.outputs[0])
        self.unwritten = self.code.unwritten if len(self.code.unwritten) else None
        self.namespace = {name: getattr(runtime, name) for name in _RUNTIME}
        for name, value in self.code.globals.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                value = value.astype(program.dtype)
            self.namespace[name] = value
        exec(compile(self.source, "<compiled program>", "exec"), self.namespace)


class Buffers:
    """The buffers of one thread for one number of rows, and the functions bound to them."""

    def __init__(self, compiled: Arrays, rows: int, dtype: np.dtype[Any]) -> None:
        self.compiled, self.rows, self.functions = compiled, rows, compiled.namespace
        sizes, gradient_sizes = compiled.layout.sizes, compiled.code.gradient_sizes
        self.u, gu = np.zeros(sizes[FREE], dtype), np.zeros(gradient_sizes[FREE], dtype)
        self.v, gv = (np.zeros((s[ROWS], rows), dtype) for s in (sizes, gradient_sizes))
        for cell, number in enumerate(RESERVED):
            self.u[cell] = self.v[cell] = number
        bind = self.functions["buffers"]
        self._forward, self._backward = bind(self.u, self.v, gu, gv, rows, dtype)
        self.theta = self.g = np.empty(0)  # what the views below are of
        self.parameters: tuple[Any, ...] = ()
        self.gradients: tuple[Any, ...] = ()

    def bind(self, theta: np.ndarray, inputs: list[np.ndarray]) -> None:
        if theta is not self.theta:  # views of the same array are bound once
            self.theta, self.parameters = theta, self.functions["parameters"](theta)
        self.arrays = [x.T for x in inputs]
        self.inputs = self.functions["inputs"](*self.arrays)

    def forward(self, theta: np.ndarray, inputs: list[np.ndarray]) -> None:
        """Compute every cell, of parameters theta and inputs (rows, cells of the input)."""
        self.bind(theta, inputs)
        with np.errstate(all="ignore"):
            self._forward(*self.parameters, *self.inputs)

    def value_and_grad(
        self, theta: np.ndarray, inputs: list[Any], g: np.ndarray, gx: Sequence[Any], seed: float
    ) -> float:
        """The output summed over rows; its gradient, times the seed, in g (and gx)."""
        if gx or g is not self.g:
            by_inputs = [x.T for x in gx] or [None] * len(inputs)
            self.g, self.gradients = g, self.functions["gradients"](g, *by_inputs)
        for x in gx:
            x.fill(0.0)
        if self.compiled.unwritten is not None:
            g[self.compiled.unwritten] = 0.0
        self.bind(theta, inputs)
        with np.errstate(all="ignore"):
            self._forward(*self.parameters, *self.inputs)
            self._backward(*self.parameters, *self.inputs, *self.gradients, seed)
            number = self.cell(self.compiled.output)
            if number.ndim == 0:
                return float(number) * self.rows
            return number.item() if self.rows == 1 else float(np.add.reduce(number))

    def expect(self, inputs: Sequence[Any], cells: Sequence[int]) -> bool:
        """Note what the inputs are like; False if others like them might need more checks."""
        self.kinds = [(x.shape, x.dtype) for x in inputs if isinstance(x, np.ndarray)]
        return len(self.kinds) == len(inputs) and all(
            x.dtype.kind in "biuf" and x.size == self.rows * n
            for x, n in zip(inputs, cells, strict=True)
        )

    def again(self, inputs: Sequence[Any], theta: Any, g: Any) -> tuple[float, np.ndarray] | None:
        """`Mine.again`: 40 us instead of 44 for 64-32-10 at 32 rows."""
        if theta is not self.theta or g is not self.g or len(inputs) != len(self.kinds):
            return None
        arrays = []
        for x, (shape, dtype) in zip(inputs, self.kinds, strict=True):
            if type(x) is not np.ndarray or x.shape != shape or x.dtype is not dtype:
                return None
            if dtype is not theta.dtype:
                x = x.astype(theta.dtype)
            elif may_overlap(x, g):
                return None
            arrays.append(x if len(shape) == 2 else x.reshape(self.rows, -1))
        value = self.value_and_grad(theta, arrays, g, (), 1.0 / self.rows) / self.rows
        if self.compiled.doubtful and not (math.isfinite(value) and is_finite(g)):
            return None
        return value, g

    def cell(self, address: int) -> Any:
        """The number at an address, or (rows,) of them."""
        spaces = self.theta, self.u, self.v, self.compiled.data, *self.arrays
        return spaces[address >> SHIFT][places(address)]

    def read_outputs(self, out: np.ndarray) -> None:
        """Write the outputs to `out`, (rows, m)."""
        for j, address in enumerate(self.compiled.layout.outputs.tolist()):
            out[:, j] = self.cell(address)


class Lines:
    """The functions of a program written as lines of Python, each compiled when first called.

    CPython takes 7 us a line, and who asks for gradients does not call `forward`.
    """

    def __init__(self, program: Program, wrt_inputs: bool) -> None:
        self.graph, self.lock = program.graph, threading.Lock()
        names = [name for name, shape in program.inputs for _ in range(math.prod(shape))]
        self.write(program.graph, len(program.parameters), len(names), wrt_inputs, names)
        *self.parts, self.forward_text, self.run_text = self.source.split("\n\n")

    def write(self, *arguments: Any) -> None:
        """Write the source."""
        self.source, self.namespace = scalar_source(*arguments)

    def function(self, name: str, text: str) -> Any:
        """One of the functions, and what it calls."""
        with self.lock:  # for whom comes second, the parts are there when it gets on
            while self.parts:  # one by one: all at once would take 10 kB a line
                exec(compile(self.parts.pop(), "<compiled program>", "exec"), self.namespace)
            exec(compile(text, "<compiled program>", "exec"), self.namespace)
            return self.namespace[name]

    @cached_property
    def run(self) -> Any:
        """run(p, x) -> output 0, and its gradient as a list. Raises where Python's floats do."""
        return self.function("run", self.run_text)

    @cached_property
    def run_forward(self) -> Any:
        """run_forward(p, x) -> the outputs. Raises where Python's floats do."""
        return self.function("forward", self.forward_text)

    def forward(self, p: list[float], x: list[float]) -> Any:
        """The outputs."""
        try:
            return self.run_forward(p, x)
        except (ArithmeticError, ValueError):
            numbers = interpret.evaluate(self.graph, p, x)
            return [numbers[node] for node in self.graph.outputs.tolist()]


class Vectors(Lines):
    """The same lines, on (rows,) arrays.

    doubtful   whether an adjoint that does not exist may have passed for 0.0
    most_rows  that are run at once: what is in use stays in the cache, and there is memory for all
    """

    def write(self, *arguments: Any) -> None:
        self.source, self.namespace, self.doubtful = vector_source(*arguments)
        self.most_rows = max(1, min(MOST_ROWS, MOST_CELLS // (2 * len(self.graph))))

    def value_and_grad(
        self, p: list[float], x: np.ndarray, g: np.ndarray, gx: np.ndarray | None
    ) -> float:
        """Output 0 summed over rows; its gradient is added to g, or is gx, both of x's shape.

        x is (cells, rows). Raises where Python's floats do, which the parameters still are.
        """
        with np.errstate(all="ignore"):
            value, gradient = self.run(p, list(x))
            if gx is not None:
                for into, slope in zip(gx, gradient, strict=True):
                    into[:] = slope
            else:
                g += [_summed(slope, x.shape[1]) for slope in gradient]
            return _summed(value, x.shape[1])

    def outputs(self, p: list[float], x: np.ndarray, out: np.ndarray) -> None:
        """Write the outputs to `out`, (rows, m)."""
        with np.errstate(all="ignore"):
            for j, column in enumerate(self.run_forward(p, list(x))):
                out[:, j] = column


def _summed(x: Any, rows: int) -> float:
    """The sum over rows of what may be the same for all."""
    return float(np.add.reduce(x)) if np.ndim(x) else float(x) * rows


class Mine(threading.local):
    """What a program keeps for each thread.

    states  (by inputs, rows) -> buffers
    both    parameters and a tangent, for forward mode
    again   value_and_grad of arguments like those of the call before, whose checks hold for them:
            again(inputs, theta, out) gives None if they are not alike
    """

    def __init__(self) -> None:
        self.states: dict[tuple[bool, int], Buffers] = {}
        self.both: np.ndarray | None = None
        self.again: Callable[..., tuple[float, np.ndarray] | None] | None = None


def again_by_lines(run: Any, size: int) -> Any:
    """`again` of a small expression, which notices every check."""
    # `is`: 0.02 us less than a comparison; another object that is float64 takes the longer way
    array, float64, shape = np.ndarray, np.dtype(np.float64), (size,)
    # 0.14 us for 3 numbers where `out[:] =` takes 0.21, 6 for 1,000 instead of 15
    write: Any = struct.Struct(f"{size}d").pack_into

    def again(inputs: Any, theta: Any, out: Any) -> tuple[float, Any] | None:
        if type(theta) is not array or theta.shape != shape or theta.dtype is not float64:
            return None
        if inputs:
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


def is_finite(x: np.ndarray) -> bool:
    """Whether all numbers are finite: 10 us for 100,000, where isfinite().all() takes 20."""
    flat = x.reshape(-1)
    with np.errstate(all="ignore"):
        return math.isfinite(np.dot(flat, flat)) or bool(np.isfinite(flat).all())


def may_overlap(x: np.ndarray, out: np.ndarray) -> bool:
    """Whether two arrays may share memory: two that are no views do not."""
    return (x.base is not None or out.base is not None) and np.may_share_memory(x, out)
