"""Trace: `compile(f)` records what a function of Values does, and is never silently wrong.

A recorded graph has no memory of Python's own control flow. So while f runs, every truth of a
Value (`if x > 0`, `sorted`, `max`) is noted as a guard: the graph holds for rows whose guards turn
out the same, and other rows get a graph of their own. Reading a number out (`.data`, `.item()`) is
an error that names the line, since that number would be frozen. A second run with every leaf nudged
finds what neither catches, such as random numbers: those must come in as inputs.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import engine
from ..engine import Constant, Value, observing, remember_line, source_line, topological_order
from .program import Program
from .record import record

MOST_PATHS = 200  # different outcomes of the guards, before giving up

_lock = threading.Lock()
_slot: Any = Value.__dict__["data"]  # the descriptor that reads and writes a Value's number


class TraceError(RuntimeError):
    """The function cannot be compiled as it is written; the message says where and what to do."""


class _Trace:
    """What one run of a function did with Values."""

    def __init__(self) -> None:
        self.made: list[Value] = []  # leaves that the function itself made
        self.guards: list[Value] = []
        self.truths: list[bool] = []


@contextmanager
def _watching(trace: _Trace) -> Iterator[None]:
    """Note this thread's truths, new leaves and reads of `.data`. Costs nothing outside of it."""
    thread = threading.get_ident()
    truth, init = Value.__bool__, Value.__init__

    def read(value: Value) -> float:
        frame = sys._getframe(1)
        if threading.get_ident() == thread and (
            not frame.f_code.co_filename.startswith(engine._PACKAGE)
            or frame.f_code is Value.item.__code__
        ):
            while frame.f_code.co_filename.startswith(engine._PACKAGE) and frame.f_back:
                frame = frame.f_back
            raise TraceError(
                f"{frame.f_code.co_filename}:{frame.f_lineno} reads the number of a Value, which "
                "would be frozen in the compiled program: use detach(x) for a number without "
                "gradient, where(condition, a, b) or maximum(a, b) for a choice"
            )
        return float(_slot.__get__(value))

    def noted_truth(value: Value) -> bool:
        outcome = _slot.__get__(value) != 0.0
        if threading.get_ident() == thread and type(value) is not Constant:
            trace.guards.append(value)
            trace.truths.append(outcome)
        return outcome

    def noted_init(value: Value, *arguments: Any, **options: Any) -> None:
        init(value, *arguments, **options)
        if threading.get_ident() == thread:
            trace.made.append(value)

    kind: Any = Value  # its attributes are exchanged for the time of the trace
    kind.data = property(read, lambda value, number: _slot.__set__(value, number))
    kind.__bool__, kind.__init__ = noted_truth, noted_init
    try:
        with observing(_remember):
            yield
    finally:
        kind.data, kind.__bool__, kind.__init__ = _slot, truth, init


def _remember(node: Value) -> Value:
    remember_line(node)
    return node


class _Path:
    """The program for one outcome of the guards."""

    def __init__(
        self,
        outputs: list[Value],
        single: bool,
        trace: _Trace,
        leaves: list[Value],
        described: list[tuple[str, tuple[int, ...]]],
        parameters: list[Value],
        dtype: str,
    ) -> None:
        self.truths = np.array(trace.truths, dtype=bool)
        self.outputs, self.single, self.deciders = outputs, single, trace.guards
        self.leaves, self.described, self.dtype = leaves, described, dtype
        self.build(parameters)

    def build(self, parameters: list[Value]) -> None:
        """The programs for these parameters (another path may have brought new ones)."""

        def program(results: list[Value], single: bool) -> Program:
            graph = record(results, self.leaves, parameters)
            return Program(graph, parameters, self.described, single, self.dtype)

        self.program = program(self.outputs, self.single)
        self.guards = program(self.deciders, False) if self.deciders else None

    def holds(self, arrays: list[np.ndarray], theta: Any) -> np.ndarray:
        """(rows,) for which rows every guard turns out as it did when this was recorded."""
        if self.guards is None:
            return np.ones(len(arrays[0]) if arrays else 1, dtype=bool)
        found = self.guards(*arrays, parameters=theta) != 0.0
        return np.all(np.atleast_2d(found) == self.truths, axis=1)


class TracedProgram:
    """`compile(f)`: f takes Values (lists of them for arrays of more than one axis) for one row.

    Called with arrays whose first axis is rows. `parameters` are the leaves f uses that existed
    before; it is known after the first call, or given to `compile`.
    """

    def __init__(
        self, function: Callable[..., Any], parameters: Sequence[Value] | None, dtype: str
    ) -> None:
        self.function, self.dtype = function, dtype
        self._parameters = None if parameters is None else list(parameters)
        self._fixed = parameters is not None
        self._paths: dict[Any, list[_Path]] = {}

    @property
    def parameters(self) -> list[Value]:
        """The Values by which gradients are taken, in the order of theta."""
        if self._parameters is None:
            raise RuntimeError("the parameters are known after the first call: call the program")
        return self._parameters

    @property
    def programs(self) -> list[Program]:
        """One program for every path through the function that has been taken."""
        return [path.program for paths in self._paths.values() for path in paths]

    @property
    def source(self) -> str:
        """The sources of all paths taken so far."""
        return "\n\n".join(program.source for program in self.programs)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.programs)) or "not called yet"

    def __call__(self, *inputs: Any, parameters: Any = None) -> Any:
        """The outputs: (rows,) for a function that returns a Value, (rows, m) for a list of m."""
        arrays, rows = self._arrays(inputs)
        out: Any = None
        for path, chosen in self._split(arrays, rows, parameters):
            part = path.program(*[x[chosen] for x in arrays], parameters=parameters)
            if out is None:
                out = np.empty((rows, *np.shape(part)[1:]), self.dtype)
            out[chosen] = part
        return out

    def value_and_grad(
        self, *inputs: Any, parameters: Any = None, out: Any = None, wrt: str = "parameters"
    ) -> tuple[float, Any]:
        """The mean over rows and its gradient; see `Program.value_and_grad`."""
        arrays, rows = self._arrays(inputs)
        total, gradient = 0.0, None
        for path, chosen in self._split(arrays, rows, parameters):
            share = len(chosen) / rows
            part = [x[chosen] for x in arrays]
            value, g = path.program.value_and_grad(*part, parameters=parameters, wrt=wrt)
            total += share * value
            if wrt == "inputs":
                parts = g if isinstance(g, list) else [g]
                if gradient is None:
                    gradient = [np.zeros(x.shape, self.dtype) for x in arrays]
                for whole, piece in zip(gradient, parts, strict=True):
                    whole[chosen] = share * piece
            else:
                gradient = share * g if gradient is None else gradient + share * g
        if wrt == "inputs":
            assert gradient is not None
            return total, gradient[0] if len(gradient) == 1 else gradient
        if out is not None:
            out[...] = gradient
            gradient = out
        return total, gradient

    def backward(self, *inputs: Any) -> float:
        """Add the mean's gradient to the `.grad` of the Values; returns the mean."""
        value, g = self.value_and_grad(*inputs)
        after = [p.grad + d for p, d in zip(self.parameters, g.tolist(), strict=True)]
        engine._set_grads(self.parameters, after)
        return value

    def assign(self, theta: Any) -> None:
        """Write an array of parameters into the Values' `.data`."""
        self.programs[0].assign(theta)

    # -- tracing
    def _arrays(self, inputs: Sequence[Any]) -> tuple[list[np.ndarray], int]:
        arrays = [np.asarray(x, self.dtype) for x in inputs]
        for position, x in enumerate(arrays):
            if x.ndim == 0:
                raise ValueError(f"input {position} is a number: the first axis must be rows")
            if len(x) != len(arrays[0]):
                raise ValueError(
                    f"input {position} has shape {x.shape}, but input 0 has {arrays[0].shape}: "
                    "both need the same number of rows"
                )
        rows = len(arrays[0]) if arrays else 1
        if rows == 0:
            raise ValueError("there are no rows: a mean over nothing is undefined")
        return arrays, rows

    def _split(
        self, arrays: list[np.ndarray], rows: int, theta: Any
    ) -> list[tuple[_Path, np.ndarray]]:
        """Every row with the path that it takes; paths not seen before are traced."""
        paths = self._paths.setdefault(tuple(x.shape[1:] for x in arrays), [])
        left, found, tried, traced = np.arange(rows), [], 0, False
        while len(left):
            if tried == len(paths):
                if len(paths) >= MOST_PATHS:
                    raise TraceError(
                        f"the function takes more than {MOST_PATHS} different paths: write the "
                        "choice with where(condition, a, b) or maximum(a, b)"
                    )
                paths.append(self._trace([x[left[0]] for x in arrays], theta))
                traced = True
            path = paths[tried]
            tried += 1
            holds = path.holds([x[left] for x in arrays], theta)
            if traced and not holds[0]:  # decided by the last bit: eager and compiled differ
                holds[0] = True
            if holds.any():
                found.append((path, left[holds]))
                left = left[~holds]
            traced = False
        return found

    def _trace(self, row: list[np.ndarray], theta: Any) -> _Path:
        with _lock:
            before = None
            if theta is not None and self._parameters is not None:
                before = [p.data for p in self._parameters]  # guards are decided at theta
                for p, number in zip(self._parameters, np.asarray(theta).tolist(), strict=True):
                    p.data = number
            try:
                outputs, single, trace, leaves, described = self._run(row)
                parameters = self._find_parameters(outputs, trace, leaves)
                self._run_nudged(row, outputs, trace, leaves, parameters)
            finally:
                if before is not None:
                    for p, number in zip(self._parameters or [], before, strict=True):
                        p.data = number
        return _Path(outputs, single, trace, leaves, described, parameters, self.dtype)

    def _run(self, row: list[np.ndarray]) -> tuple[Any, ...]:
        leaves: list[Value] = []
        arguments = [_as_values(x.tolist(), leaves) for x in row]
        described = [(f"input {i}", x.shape) for i, x in enumerate(row)]
        trace = _Trace()
        with _watching(trace):
            answer = self.function(*arguments)
        single = isinstance(answer, Value)
        outputs = [answer] if single else answer
        if not isinstance(outputs, (list, tuple)) or not all(
            isinstance(output, Value) for output in outputs
        ):
            raise TypeError(f"the function must return a Value or a list of Values, got {answer!r}")
        return list(outputs), single, trace, leaves, described

    def _find_parameters(
        self, outputs: list[Value], trace: _Trace, leaves: list[Value]
    ) -> list[Value]:
        """The leaves that existed before the trace."""
        new = {*trace.made, *leaves}
        found = [
            leaf
            for leaf in topological_order(*outputs, *trace.guards)
            if not leaf.parents and type(leaf) is not Constant and leaf not in new
        ]
        if not self._fixed:
            known = self._parameters or []
            new_ones = set(found) - set(known)
            self._parameters = known + [leaf for leaf in found if leaf in new_ones]
            if known and new_ones:
                for paths in self._paths.values():
                    for path in paths:
                        path.build(self._parameters)
        return self.parameters

    def _run_nudged(
        self,
        row: list[np.ndarray],
        outputs: list[Value],
        trace: _Trace,
        leaves: list[Value],
        parameters: list[Value],
    ) -> None:
        """Run once more at slightly other numbers: the same graph and constants must come out."""
        before = [p.data for p in parameters]
        rng = np.random.default_rng(0)
        try:
            for size in (1e-3, 1e-6, 1e-9, 0.0):
                nudges = 1.0 + size * rng.uniform(0.5, 1.0, len(parameters))
                for p, number, nudge in zip(parameters, before, nudges.tolist(), strict=True):
                    p.data = number * nudge
                nudged = [x * (1.0 + size * rng.uniform(0.5, 1.0, x.shape)) for x in row]
                whole = [np.array_equal(x, np.round(x)) for x in row]  # classes, indices
                nudged = [x if w else y for x, y, w in zip(row, nudged, whole, strict=True)]
                try:
                    again, _, other, _, _ = self._run(nudged)
                except IndexError:
                    continue
                if other.truths == trace.truths:
                    break
            else:
                raise TraceError(
                    "two runs at the same numbers took different branches: what differs between "
                    "them (a random number, a counter) must come in as an input"
                )
        finally:
            for p, number in zip(parameters, before, strict=True):
                p.data = number
        _compare(outputs, again, leaves, parameters)


def _as_values(nested: Any, leaves: list[Value]) -> Any:
    if isinstance(nested, list):
        return [_as_values(item, leaves) for item in nested]
    leaves.append(Value(nested))
    return leaves[-1]


def _compare(
    first: list[Value], second: list[Value], leaves: list[Value], parameters: list[Value]
) -> None:
    """TraceError if two recordings differ in anything but the numbers of their leaves."""
    fed = {*leaves, *parameters}
    one, two = topological_order(*first), topological_order(*second)
    position = {node: i for i, node in enumerate(one)}
    position_two = {node: i for i, node in enumerate(two)}
    advice = "what changes from run to run (a random number, a counter) must come in as an input"
    for a, b in zip(one, two, strict=False):
        same = a.row is b.row and [position[p] for p in a.parents] == [
            position_two[p] for p in b.parents
        ]
        if not same:
            line = source_line(a) or source_line(b)
            raise TraceError(f"two runs recorded different operations at {line}: {advice}")
        constant = not a.parents and a not in fed
        if constant and a.data != b.data and not (math.isnan(a.data) and math.isnan(b.data)):
            users = [node for node in one if any(p is a for p in node.parents)]
            line = next((source_line(node) for node in users if source_line(node)), "a result")
            raise TraceError(
                f"the number {a.data} at {line} was {b.data} in a second run with nudged inputs: "
                f"{advice}, and a number computed from a Value must stay a Value"
            )
    if len(one) != len(two):
        raise TraceError(f"two runs recorded {len(one)} and {len(two)} nodes: {advice}")
