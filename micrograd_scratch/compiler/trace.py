"""Trace: `compile(f)` records what a function of Values does, and is never silently wrong.

A recorded graph has no memory of Python's own control flow. So while f runs, every truth of a
Value (`if x > 0`, `sorted`, `max`) is noted as a guard: the graph holds for rows whose guards turn
out the same, and other rows get a graph of their own. Reading a number out (`.data`, `.item()`, an
f-string) or writing one in is an error that names the line, since it would happen once and never
again. A second run with every leaf nudged finds what neither catches, such as random numbers: those
must come in as inputs. What f reads from a closure or a global by name is compared at every call -
plain numbers by value, objects by identity - and f is traced anew when one has changed; it leaves
out what changes elsewhere in Python's state without being a Value: attributes, lists, files, the
clock.
"""

from __future__ import annotations

import copy
import gc
import inspect
import math
import pickle
import random
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from types import CodeType
from typing import Any

import numpy as np

from .. import anomalies, derivatives, engine, functions, operations
from ..anomalies import AnomalyError, remember_line, source_line
from ..engine import Constant, Value, topological_order
from .program import Program, _counted
from .record import leaves_in_use, record
from .stages import Stages
from .textbook import Textbook

MOST_PATHS = 200  # different outcomes of the guards, before giving up

_lock = threading.Lock()  # the class is one for all threads, so one function at a time is traced
_tracer: int | None = None  # the thread that does
_DATA: Any = Value.__dict__["data"]  # the descriptors that read and write a Value's numbers
_GRAD: Any = Value.__dict__["grad"]
# The files that record operations may read numbers, but for what hands them on to their caller.
_RECORDING = {m.__file__ for m in (engine, derivatives, anomalies, operations, functions)}
_SHOWING = {f.__code__ for f in (Value.item, Value.__format__, Value.__repr__)}
_HANDING_ON = _SHOWING | {
    f.__code__
    for f in (
        *(Value.backward, Value.__copy__, Value.__deepcopy__, Value.__reduce__),
        *(engine._clone, engine._set_data, engine.recompute, derivatives.jvp),
    )
}
_RUN_TO_RUN = "what changes from run to run (a random number, a counter) must come in as an input"


class TraceError(RuntimeError):
    """The function cannot be compiled as it is written; the message says where and what to do."""


class _Trace:
    """One run of a function on Values: what it was given, what it did with them, its answer.

    numbers  what leaves are taken to hold in this run, where that is not their own `.data`
    lines    whether nodes remember their lines; those of a run that is only compared need not
    """

    def __init__(self, numbers: dict[Value, float], lines: bool = True) -> None:
        self.numbers, self.lines = numbers, lines
        self.leaves: list[Value] = []  # the inputs
        self.described: list[tuple[str, tuple[int, ...]]] = []
        self.made: set[Value] = set()  # leaves that the function itself made
        self.recorded: set[Value] = set()
        self.guards: list[Value] = []
        self.truths: list[bool] = []
        self.outputs: list[Value] = []
        self.single = True
        self.error: TraceError | None = None  # kept, should the function catch it

    def run(self, function: Callable[..., Any], row: list[np.ndarray]) -> None:
        names = _names(function, len(row))
        self.described = [(name, x.shape) for name, x in zip(names, row, strict=True)]
        arguments = [self._values(x.tolist(), name) for x, name in zip(row, names, strict=True)]
        with self._watching():
            answer = function(*arguments)
        if self.error is not None:
            raise self.error
        if isinstance(answer, np.ndarray):
            answer = answer.tolist()
        self.single = isinstance(answer, Value)
        outputs = [answer] if isinstance(answer, Value) else answer
        if (
            not isinstance(outputs, (list, tuple))
            or not outputs
            or not all(isinstance(output, Value) for output in outputs)
        ):
            raise TypeError(
                f"the function must return a Value or a list of Values, got {answer!r} "
                "(a constant is written Value(0.0))"
            )
        self.outputs = list(outputs)

    @cached_property
    def order(self) -> list[Value]:
        """All that outputs and guards were computed from."""
        return topological_order(*self.outputs, *self.guards)

    @cached_property
    def outside(self) -> list[Value]:
        """The leaves that existed before, in the order in which they are first computed with."""
        new = {*self.made, *self.leaves}
        used = leaves_in_use(self.order, [*self.outputs, *self.guards])
        return [leaf for leaf in used if leaf not in new]

    def refuse_stale(self) -> None:
        """TraceError if a guard was decided by a node from before, at numbers no longer so."""
        fresh: dict[Value, float] = {}
        for node in topological_order(*self.guards):
            if not node.parents:
                fresh[node] = self.numbers.get(node, node.data)
            elif node in self.recorded:
                fresh[node] = node.data
            else:
                fresh[node] = float(node.row.number(*[fresh[p] for p in node.parents]))
                if fresh[node] != node.data and fresh[node] == fresh[node]:
                    raise TraceError(
                        f"a branch depends on the result of {node.op!r}, computed before at other "
                        "numbers: compute it inside the function"
                    )

    def _values(self, nested: Any, name: str) -> Any:
        """Numbers in nested lists as Values in nested lists: x[0,0], x[0,1] ..."""
        if isinstance(nested, list):
            start = name[:-1] + "," if name.endswith("]") else name + "["
            return [self._values(item, f"{start}{i}]") for i, item in enumerate(nested)]
        self.leaves.append(Value(nested, label=name))
        return self.leaves[-1]

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Note this thread's truths and new leaves, and refuse reads. Costs nothing outside."""
        thread = threading.get_ident()
        truth, init, numbers = Value.__bool__, Value.__init__, self.numbers

        def refuse(message: str) -> None:
            self.error = self.error or TraceError(message)
            raise self.error

        def check(frame: Any, act: str) -> None:
            if threading.get_ident() != thread:
                return
            shows = frame.f_code in _SHOWING
            while frame.f_code in _HANDING_ON:
                frame = frame.f_back
            if shows and frame.f_code.co_filename.startswith(anomalies._PACKAGE):
                return  # the package's own messages
            while frame.f_code.co_filename.startswith((anomalies._PACKAGE, copy.__file__)):
                frame = frame.f_back
            refuse(
                f"{frame.f_code.co_filename}:{frame.f_lineno} {act} of a Value, which would be "
                "frozen in the compiled program: use detach(x) for a number without gradient, "
                "where(condition, a, b) or maximum(a, b) for a choice, take(values, index)"
            )

        def watched(slot: Any, read: str, written: str) -> property:
            def get(value: Value) -> float:
                frame = sys._getframe(1)
                code = frame.f_code
                if code.co_filename not in _RECORDING or code in _HANDING_ON:
                    check(frame, read)
                if slot is _DATA and value in numbers and threading.get_ident() == thread:
                    return numbers[value]
                return float(slot.__get__(value))

            def put(value: Value, number: float) -> None:
                frame = sys._getframe(1)
                code = frame.f_code
                if code.co_filename not in _RECORDING or code in _HANDING_ON:
                    check(frame, written)
                slot.__set__(value, number)

            return property(get, put)

        def noted_truth(value: Value) -> bool:
            if threading.get_ident() != thread:
                return bool(_DATA.__get__(value) != 0.0)
            outcome = bool(numbers.get(value, _DATA.__get__(value)) != 0.0)
            if type(value) is not Constant:
                self.guards.append(value)
                self.truths.append(outcome)
            return outcome

        def noted_init(value: Value, *arguments: Any, **options: Any) -> None:
            init(value, *arguments, **options)
            if threading.get_ident() == thread:
                self.made.add(value)

        def noted_node(node: Value) -> Value:
            if self.lines:
                remember_line(node)
            self.recorded.add(node)
            if len(engine._observers[thread]) > 1 and engine.is_observed_by(engine._forget):
                if any(type(p) is not Constant for p in node.parents):
                    refuse(
                        f"{source_line(node)} computes inside no_grad(), which would freeze the "
                        "number in the compiled program: use detach(x)"
                    )
            return node

        kind: Any = Value  # its attributes are exchanged for the time of the trace
        try:
            kind.data = watched(_DATA, "reads the number", "writes the number")
            kind.grad = watched(_GRAD, "reads the gradient", "writes the gradient")
            kind.__bool__, kind.__init__ = noted_truth, noted_init
            with _observed_only_by(noted_node):
                yield
        finally:
            kind.data, kind.grad, kind.__bool__, kind.__init__ = _DATA, _GRAD, truth, init


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which looks at all nodes anew while their number grows.

    A third of the time of 50,000. Nothing in a graph is garbage before it is compiled.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _observed_only_by(*observers: Callable[[Value], Value]) -> Iterator[None]:
    """This thread's nodes go through these, whatever no_grad() or detect_anomaly() is around."""
    thread = threading.get_ident()
    with engine._observers_lock:
        before = engine._observers.get(thread)
        engine._observers[thread] = [engine.observing(observe) for observe in observers]
        engine._observe = engine._observe_all
    try:
        yield
    finally:
        with engine._observers_lock:
            del engine._observers[thread]
            if before is not None:
                engine._observers[thread] = before
            engine._observe = engine._observe_all if engine._observers else None


@contextmanager
def _numbered(rows: np.ndarray) -> Iterator[None]:
    """An AnomalyError in row i of a part is one in row rows[i] of the whole."""
    try:
        yield
    except AnomalyError as error:
        text, _, row = str(error).rpartition(" ")
        raise AnomalyError(f"{text} {rows[int(row)]}") from None


class _Path:
    """The program for one outcome of the guards."""

    def __init__(self, trace: _Trace, parameters: list[Value], dtype: str) -> None:
        self.truths = np.array(trace.truths, dtype=bool)
        self.outputs, self.single, self.deciders = trace.outputs, trace.single, trace.guards
        self.leaves, self.described, self.dtype = trace.leaves, trace.described, dtype
        self.build(parameters)

    def build(self, parameters: list[Value]) -> None:
        """The programs for these parameters (another path may have brought new ones)."""
        self.parameters = parameters
        self.program = self._program(self.outputs, self.single)
        self.guards = self._program(self.deciders, False) if self.deciders else None

    def _program(self, results: list[Value], single: bool) -> Program:
        graph = record(results, self.leaves, self.parameters)
        return Program(graph, self.parameters, self.described, single, self.dtype)

    def holds(self, arrays: list[np.ndarray], theta: Any) -> np.ndarray:
        """(rows,) for which rows every guard turns out as it did when this was recorded."""
        rows = len(arrays[0]) if arrays else 1
        if self.guards is None:
            return np.ones(rows, dtype=bool)
        with _observed_only_by():  # of rows that go elsewhere, a guard may well be not finite
            try:
                found = self.guards(*arrays, parameters=theta) != 0.0
                return np.all(np.atleast_2d(found) == self.truths, axis=1)
            except IndexError:  # or out of range: then guard by guard, as the function asks them
                left = np.arange(rows)
                for decider, truth in zip(self.deciders, self.truths, strict=True):
                    guard = self._program([decider], False)
                    found = guard(*[x[left] for x in arrays], parameters=theta) != 0.0
                    left = left[np.atleast_2d(found)[:, 0] == truth]
                    if not len(left):
                        break
                return np.isin(np.arange(rows), left)


class TracedProgram:
    """`compile(f)`: f takes Values (lists of them for arrays of more than one axis) for one row.

    Called with arrays whose first axis is rows. `parameters` are the leaves f uses that existed
    before; it is known after the first call, or given to `compile`: then other leaves are
    constants, and f is traced anew when one of them has changed.
    """

    def __init__(
        self, function: Callable[..., Any], parameters: list[Value] | None, dtype: str
    ) -> None:
        self.function, self.dtype = function, dtype
        self._parameters, self._fixed = parameters, parameters is not None
        self._forget_paths()

    def _forget_paths(self) -> None:
        self._paths: dict[Any, list[_Path]] = {}
        self._constants: dict[Value, float] = {}  # leaves from before that are no parameters
        self._read = _around(self.function)

    def __reduce__(self) -> Any:
        raise TypeError(
            "a compiled function is not pickled, since its Python function cannot be: pickle "
            "`.plain`, the program of its only path"
        )

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
    def plain(self) -> Program | None:
        """The program, if there is one for all rows: one path was taken, and nothing decides it."""
        paths = [path for paths in self._paths.values() for path in paths]
        return paths[0].program if len(paths) == 1 and not paths[0].deciders else None

    @property
    def source(self) -> str:
        """The sources of all paths taken so far."""
        return "\n\n".join(program.source for program in self.programs)

    @property
    def textbook(self) -> Textbook | Textbooks:
        """As a textbook writes it: for a function with branches, every path taken so far."""
        if not self.programs:
            raise RuntimeError("the textbook is known after the first call: call the program")
        return Textbooks(self) if self.plain is None else self.plain.textbook

    @property
    def stages(self) -> Stages:
        """The stages of all paths taken so far, one path after the other."""
        return Stages(stage for program in self.programs for stage in program.stages)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.programs)) or "not called yet"

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        programs = self.programs
        if not programs:
            return f"<TracedProgram of {name}, not called yet>"
        inputs = ", ".join(given for given, _ in programs[0].inputs)
        return f"<TracedProgram of {name}({inputs}), {_counted(len(programs), 'path')} so far>"

    def __call__(self, *inputs: Any, parameters: Any = None) -> Any:
        """The outputs: (rows,) for a function that returns a Value, (rows, m) for a list of m."""
        return self._over_paths(inputs, parameters, lambda p, x: p(*x, parameters=parameters))

    def jvp(self, *inputs: Any, tangent: Any, parameters: Any = None) -> tuple[Any, Any]:
        """The outputs and their derivative along a direction; see `Program.jvp`."""

        def both(program: Program, part: list[np.ndarray]) -> np.ndarray:
            return np.stack(program.jvp(*part, tangent=tangent, parameters=parameters), axis=-1)

        found = self._over_paths(inputs, parameters, both)
        return found[..., 0], found[..., 1]

    def value_and_grad(
        self, *inputs: Any, parameters: Any = None, out: Any = None, wrt: str = "parameters"
    ) -> tuple[float, Any]:
        """The mean over rows and its gradient; see `Program.value_and_grad`."""
        arrays, rows = self._arrays(inputs)
        paths = self._split(arrays, rows, parameters)
        if len(paths) == 1:
            program = paths[0][0].program
            return program.value_and_grad(*arrays, parameters=parameters, out=out, wrt=wrt)
        total, gradient = 0.0, paths[0][0].program._gradient(out, wrt)
        gradient.fill(0.0)
        by_inputs = [np.zeros(x.shape, self.dtype) for x in arrays]
        for path, chosen in paths:
            share = len(chosen) / rows
            part = [x[chosen] for x in arrays]
            with _numbered(chosen):
                value, g = path.program.value_and_grad(*part, parameters=parameters, wrt=wrt)
            total += share * value
            if wrt == "parameters":
                gradient += share * g
            else:
                for whole, piece in zip(by_inputs, g if len(arrays) > 1 else [g], strict=True):
                    whole[chosen] = share * piece
        if wrt == "parameters":
            return total, gradient
        return total, by_inputs[0] if len(by_inputs) == 1 else by_inputs

    def backward(self, *inputs: Any) -> float:
        """Add the mean's gradient to the `.grad` of the Values; returns the mean."""
        value, g = self.value_and_grad(*inputs)
        after = [p.grad + d for p, d in zip(self.parameters, g.tolist(), strict=True)]
        engine._set_grads(self.parameters, after)
        return value

    def assign(self, theta: Any) -> None:
        """Write an array of parameters into the Values' `.data`."""
        numbers = _at(self.parameters, theta)
        engine._set_data(list(numbers), list(numbers.values()))

    # -- rows and paths
    def _over_paths(self, inputs: Sequence[Any], theta: Any, run: Callable[..., Any]) -> Any:
        """What run(program, arrays) gives on every path, put together by row."""
        arrays, rows = self._arrays(inputs)
        paths = self._split(arrays, rows, theta)
        if len(paths) == 1:
            return run(paths[0][0].program, arrays)
        whole: Any = None
        for path, chosen in paths:
            with _numbered(chosen):
                part = run(path.program, [x[chosen] for x in arrays])
            if whole is None:
                whole = np.empty((rows, *part.shape[1:]), part.dtype)
            whole[chosen] = part
        return whole

    def _arrays(self, inputs: Sequence[Any]) -> tuple[list[np.ndarray], int]:
        arrays: list[np.ndarray] = []
        for position, given in enumerate(inputs):
            try:
                with np.errstate(over="ignore"):  # what is beyond float32 is infinite there
                    x = np.asarray(given, self.dtype)
            except (TypeError, ValueError) as error:
                raise type(error)(
                    f"{self._name(position)} must be an array of numbers with rows first ({error}; "
                    "for Values call the function itself)"
                ) from None
            if x.ndim == 0:
                raise ValueError(f"{self._name(position)} is a number: the first axis must be rows")
            if arrays and len(x) != len(arrays[0]):
                raise ValueError(
                    f"{self._name(position)} has shape {x.shape}, but {self._name(0)} has "
                    f"{arrays[0].shape}: both need the same number of rows"
                )
            arrays.append(x)
        rows = len(arrays[0]) if arrays else 1
        if rows == 0:
            raise ValueError("there are no rows: a mean over nothing is undefined")
        return arrays, rows

    def _name(self, position: int) -> str:
        return _names(self.function, position + 1)[position]

    def _split(
        self, arrays: list[np.ndarray], rows: int, theta: Any
    ) -> list[tuple[_Path, np.ndarray]]:
        """Every row with the path that it takes; paths not seen before are traced."""
        changed = _changes(self._read, _around(self.function))
        if any(type(x) not in _PLAIN for x in changed) and not self._fixed:
            self._parameters = None  # another model, say
        if changed or any(leaf.data != number for leaf, number in self._constants.items()):
            self._forget_paths()
        paths = self._paths.setdefault(tuple(x.shape[1:] for x in arrays), [])
        left, found = np.arange(rows), []
        known = list(paths)
        while len(left):
            path = known.pop(0) if known else None
            traced = path is None
            if path is None:
                path = self._trace([x[left[0]] for x in arrays], paths, theta)
            part = arrays if len(left) == rows else [x[left] for x in arrays]
            holds = path.holds(part, theta)
            if traced:  # else decided by the last bit, in which eager and compiled differ
                holds[0] = True
            if holds.any():
                found.append((path, left[holds]))
                left = left[~holds]
        return found

    # -- tracing
    def _trace(self, row: list[np.ndarray], paths: list[_Path], theta: Any) -> _Path:
        """The path that a row takes: a new one among `paths`, unless it is known."""
        global _tracer
        if _tracer == threading.get_ident():
            raise TraceError(
                "a compiled function is called inside another: call the plain function there"
            )
        with _lock:
            _tracer = threading.get_ident()
            try:
                with _uncollected():
                    return self._traced(row, paths, theta)
            finally:
                _tracer = None

    def _traced(self, row: list[np.ndarray], paths: list[_Path], theta: Any) -> _Path:
        numbers: dict[Value, float] = {}
        if theta is not None and self._parameters is not None:
            numbers = _at(self._parameters, theta)  # what guards are decided at
        randomness = _randomness(self.function)
        trace = self._run(row, numbers)
        parameters = self._with_new(trace)
        if theta is not None and self._parameters is None:
            numbers = _at(parameters, theta)
            trace = self._run(row, numbers)
            parameters += [leaf for leaf in self._with_new(trace) if leaf not in numbers]
        if _randomness(self.function) != randomness:
            raise TraceError("the function draws random numbers: they must come in as inputs")
        trace.refuse_stale()
        self._run_nudged(row, trace, parameters)
        for known in paths:
            if np.array_equal(known.truths, trace.truths):
                return known
            if (known.single, len(known.outputs)) != (trace.single, len(trace.outputs)):
                raise TraceError(
                    f"the function returns {_amount(known)} for some rows and {_amount(trace)} for "
                    "others: return as many for all"
                )
        if len(paths) >= MOST_PATHS:
            raise TraceError(
                f"the function takes more than {MOST_PATHS} different paths: write the choice with "
                "where(condition, a, b) or maximum(a, b)"
            )
        if self._parameters is not None and len(parameters) > len(self._parameters):
            for others in self._paths.values():
                for path in others:
                    path.build(parameters)
        self._parameters = parameters
        fed = set(parameters)
        self._constants |= {p: p.data for p in trace.outside if p not in fed}
        self._read = _around(self.function)
        path = _Path(trace, parameters, self.dtype)
        paths.append(path)
        return path

    def _run(
        self, row: list[np.ndarray], numbers: dict[Value, float], lines: bool = True
    ) -> _Trace:
        trace = _Trace(numbers, lines)
        trace.run(self.function, row)
        return trace

    def _with_new(self, trace: _Trace) -> list[Value]:
        """The parameters, and after them those that this run is the first to use."""
        known = list(self._parameters or [])
        if self._fixed:
            return known
        before = set(known)
        return known + [leaf for leaf in trace.outside if leaf not in before]

    def _run_nudged(self, row: list[np.ndarray], trace: _Trace, parameters: list[Value]) -> None:
        """Run once more at slightly other numbers: the same graph and constants must come out."""
        rng = np.random.default_rng(0)
        for size in (1e-3, 1e-6, 1e-9, 0.0):
            numbers = {}
            for p, u in zip(parameters, rng.uniform(0.5, 1.0, len(parameters)), strict=True):
                number = trace.numbers.get(p, p.data)
                numbers[p] = number + size * float(u) * (number or size > 1e-6)  # off 0, at first
            nudged = [x * (1.0 + size * rng.uniform(0.5, 1.0, x.shape)) for x in row]
            # whole numbers may be classes or indices, which have nothing in between
            nudged = [np.where(x == np.round(x), x, y) for x, y in zip(row, nudged, strict=True)]
            try:
                again = self._run(nudged, numbers, lines=False)
            except TraceError:
                raise
            except Exception:  # a branch that refuses the numbers
                if not size:
                    raise
                continue
            if again.truths == trace.truths:
                return _compare(trace, again, parameters)
        raise TraceError(f"two runs at the same numbers took different branches: {_RUN_TO_RUN}")


class Textbooks:
    """The textbooks of a function with branches: one for each path, under the outcome it is for.

    Called with (theta, X, Y), every row goes through that of its path.
    """

    def __init__(self, traced: TracedProgram) -> None:
        self.traced = traced
        self._books: dict[Program, Textbook] = {}
        every = [(shapes, path) for shapes, paths in traced._paths.items() for path in paths]
        shown = [f"# {_outcome(*one)}\n{self._of(one[1].program)}" for one in every]
        self.source = "\n\n\n".join(shown)

    def __call__(self, theta: Any, *inputs: Any) -> tuple[float, np.ndarray]:
        """The mean over rows, and its gradient by the parameters."""
        arrays, rows = self.traced._arrays(inputs)
        mean, gradient = 0.0, np.zeros(np.shape(theta))
        for path, chosen in self.traced._split(arrays, rows, theta):
            value, slopes = self._of(path.program)(theta, *[x[chosen] for x in arrays])
            mean += len(chosen) / rows * value
            gradient += len(chosen) / rows * slopes
        return mean, gradient

    def _of(self, program: Program) -> Textbook:
        if program not in self._books:
            self._books[program] = program.textbook
        return self._books[program]

    def __str__(self) -> str:
        return self.source

    __repr__ = __str__


def _outcome(shapes: tuple[tuple[int, ...], ...], path: _Path) -> str:
    """For which rows a path is: of what shapes, and where its guards turn out as they did."""
    conditions = [
        f"{_condition(guard)} is {bool(truth)}"
        for guard, truth in zip(path.deciders, path.truths, strict=True)
    ]
    conditions = list(dict.fromkeys(conditions))  # the same may be asked often
    more = f" and {len(conditions) - 4} more" * (len(conditions) > 4)
    where = f" where {', '.join(conditions[:4])}{more}" * bool(conditions)
    of = f" of shape {' and '.join(map(str, shapes))}" * any(shapes)  # not where all are numbers
    return f"for rows{of}{where}"


def _condition(guard: Value) -> str:
    """A guard as it may stand in a comment: x[0] > 0.0 (line 7), with ... for what is computed."""

    def shown(x: Value) -> str:
        number = f"{x.data:.6g}" if type(x) is Constant else "..."
        return x.label if re.fullmatch(r"\w[\w\[\], ]*", x.label) else number

    text = f" {guard.op} ".join(map(shown, guard.parents)) if len(guard.parents) == 2 else ""
    line = source_line(guard).rpartition(":")[2]
    return (text or shown(guard)) + f" (line {line})" * bool(line)


def _at(parameters: Sequence[Value], theta: Any) -> dict[Value, float]:
    """The parameters with the numbers of an array. ValueError if there are not as many."""
    numbers = np.asarray(theta, dtype=float)
    if numbers.shape != (len(parameters),):
        raise ValueError(
            f"parameters has shape {numbers.shape}, but the program has {len(parameters)}"
        )
    return dict(zip(parameters, numbers.tolist(), strict=True))


def _names(function: Callable[..., Any], count: int) -> list[str]:
    """What the function calls its first arguments, in its own words where they can be had."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a function written in C
        found = []
    names = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in found if p.kind is p.VAR_POSITIONAL), "input")
    return (names + [f"{rest} {i}" for i in range(count - len(names))])[:count]


def _amount(returned: Any) -> str:
    return "a Value" if returned.single else f"a list of {len(returned.outputs)}"


def _around(function: Callable[..., Any]) -> list[Any]:
    """What a function finds by name in its closure and among globals, also in what is within it."""
    cells = getattr(function, "__closure__", None) or ()
    there = getattr(function, "__globals__", {})
    names: dict[str, None] = {}  # in order
    codes = [getattr(function, "__code__", None)]
    while codes:
        code = codes.pop()
        names |= dict.fromkeys(getattr(code, "co_names", ()))
        codes += [x for x in getattr(code, "co_consts", ()) if isinstance(x, CodeType)]
    held = []
    for cell in cells:
        with suppress(ValueError):  # not assigned yet
            held.append(cell.cell_contents)
    return held + [there[name] for name in names if name in there]


_PLAIN = (bool, int, float, str)


def _changes(before: list[Any], now: list[Any]) -> list[Any]:
    """What a function found by name that is another number, or another object, by now."""
    if len(before) != len(now):
        return before + now
    return [
        x
        for x, y in zip(before, now, strict=True)
        if x is not y and (type(x) not in _PLAIN or type(x) is not type(y) or repr(x) != repr(y))
    ]


def _randomness(function: Callable[..., Any]) -> bytes:
    """The state of the global generators of random numbers, and of those it finds by name."""
    found = [x for x in _around(function) if isinstance(x, (random.Random, np.random.Generator))]
    states = [x.getstate() if isinstance(x, random.Random) else x.bit_generator for x in found]
    return pickle.dumps((random.getstate(), np.random.get_state(legacy=False), states))


def _compare(first: _Trace, second: _Trace, parameters: list[Value]) -> None:
    """TraceError if two recordings differ in anything but the numbers of their leaves."""
    fed = dict(zip(first.leaves, second.leaves, strict=True)) | {p: p for p in parameters}
    taken = set(fed.values())
    one, two = first.order, second.order
    position = {node: i for i, node in enumerate(one)}
    position_two = {node: i for i, node in enumerate(two)}
    for a, b in zip(one, two, strict=False):
        same = a.row is b.row and [position[p] for p in a.parents] == [
            position_two[p] for p in b.parents
        ]
        if not same:
            line = source_line(a) or source_line(b)
            raise TraceError(f"two runs recorded different operations at {line}: {_RUN_TO_RUN}")
        if a.parents:
            if a is b and a in first.recorded:
                raise TraceError(
                    f"the result of {a.op!r} at {source_line(a)} was kept from one run to the "
                    "next: compute it in each, or before the function is compiled"
                )
            continue
        if a is b and a in first.made:
            raise TraceError(
                f"the function makes the leaf {a!r} once and keeps it: make it before the "
                "function is compiled"
            )
        if fed.get(a, b) is not b or (a not in fed and b in taken):
            line = _line_of_use(a, one)
            raise TraceError(f"two runs used different leaves at {line}: {_RUN_TO_RUN}")
        if a not in fed and a.data != b.data and not (math.isnan(a.data) and math.isnan(b.data)):
            line = _line_of_use(a, one)
            raise TraceError(
                f"the number {a.data} at {line} was {b.data} in a second run with nudged inputs: "
                f"{_RUN_TO_RUN}, and a number computed from a Value must stay a Value"
            )
    ends, ends_two = [*first.outputs, *first.guards], [*second.outputs, *second.guards]
    if len(one) != len(two) or [position[x] for x in ends] != [position_two[x] for x in ends_two]:
        raise TraceError(
            f"two runs recorded {len(one)} and {len(two)} nodes in different order: {_RUN_TO_RUN}"
        )


def _line_of_use(leaf: Value, order: list[Value]) -> str:
    users = (node for node in order if any(p is leaf for p in node.parents))
    return next((source_line(node) for node in users if source_line(node)), "a result")
