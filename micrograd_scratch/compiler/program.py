"""Program: a compiled graph that is called with arrays.

It holds the recorded graph; the passes run when an answer is first asked for, and once more after
unpickling. Numbers in between live in buffers that belong to a thread, so that one program runs in
several threads. It leaves out how graphs are recorded and functions traced: trace.py.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np

from .. import engine
from ..anomalies import AnomalyError, checking
from ..engine import Value, _set_data, _set_grads
from ..operations import shown
from . import interpret
from .differences import subtract_sums
from .execution import (
    Again,
    Arrays,
    Execution,
    Lines,
    Vectors,
    is_finite,
    may_overlap,
    one_row,
    write_row,
)
from .fuse import fuse
from .layout import lay_out
from .line_places import far_operands
from .names import names_of, safe_name
from .record import CONSTANT, INPUT, PARAMETER, Graph
from .rolling import Line, Rolling
from .schedule import COUNTED, count_operands, longest_path, schedule
from .split import split
from .stages import Stages, show, stages
from .steps import Layout
from .tangent import tangent_graph
from .textbook import Textbook

# Microseconds, forward and backward, which decide how a program runs. A step of arrays takes STEP,
# OPERAND for each of its operands, and GATHER for one that comes from several steps: among 20
# programs that is within 0.45 and 1.4 of the time. A node or an operand takes CELL in a step, LINE
# in a line of Python (twice that if it is far away), and VECTOR in a line on arrays of rows, of
# which there are MANY anyway. To write a step takes a millisecond: what STEP is for.
STEP, OPERAND, GATHER, CELL, LINE, VECTOR, MANY = 0.5, 1.0, 2.0, 0.005, 0.04, 0.4, 100.0
ROWS = 24  # from so many on, lines on arrays of rows take less than lines for one after another
MOST_STEPS = 2_000  # that are written for numbers which are not finite: it takes seconds
_Way = TypeVar("_Way", bound=Execution)


class Program:
    """What `compile` returns: value and gradient of a recorded graph, on arrays.

    parameters  the Values by which gradients are taken, in the order of theta
    source      the source: NumPy, or lines of Python
    """

    def __init__(
        self,
        graph: Graph,
        parameters: Sequence[Value],
        inputs: Sequence[tuple[str, tuple[int, ...]]],
        single: bool,
        dtype: str,
    ) -> None:
        self.graph, self.parameters, self.inputs = graph, list(parameters), list(inputs)
        self.single, self.dtype = single, np.dtype(dtype)
        self._cells = [math.prod(shape) for _, shape in self.inputs]
        self._lock = threading.Lock()
        self._written: dict[tuple[type[Execution], bool], Execution] = {}
        self._tangents: dict[bool, tuple[Program, bool]] = {}
        self._mine = _Mine()

    def __reduce__(self) -> Any:
        return Program, (self.graph, self.parameters, self.inputs, self.single, str(self.dtype))

    # -- what people call
    def __call__(self, *inputs: Any, parameters: Any = None) -> Any:
        """The outputs: (rows,) for a single output, (rows, m) for m; a float, (m,) without rows."""
        arrays, rows, has_rows = self._arrays(inputs)
        theta = self._theta(parameters)
        out = self._outputs(theta, arrays, rows)
        if self._execution(rows, False).padded and not np.isfinite(out).all():
            self._evaluate(theta, arrays, out)
        return self._shaped(out, has_rows)

    def _outputs(self, theta: np.ndarray, arrays: list[np.ndarray], rows: int) -> np.ndarray:
        """(rows, outputs), as source computes them."""
        self._look_for_anomalies(theta, arrays, False)
        out = np.empty((rows, len(self.graph.outputs)), self.dtype)
        run = self._execution(rows, False)
        try:
            for some in _pieces(rows, run.most_rows):
                run.outputs(theta, [x[some] for x in arrays], out[some])
        except run.raises:  # where Python's floats raise
            self._evaluate(theta, arrays, out)
        return out

    def _evaluate(self, theta: np.ndarray, arrays: list[np.ndarray], out: np.ndarray) -> None:
        """Write the outputs to `out`, node by node."""
        for r in range(len(out)):
            numbers = interpret.evaluate(self.graph, theta, one_row(arrays, r))
            with np.errstate(over="ignore"):
                out[r] = [numbers[node] for node in self.graph.outputs.tolist()]

    def _shaped(self, out: np.ndarray, has_rows: bool) -> Any:
        if self.single:
            return out[:, 0] if has_rows else float(out[0, 0])
        return out if has_rows else out[0]

    def value_and_grad(
        self, *inputs: Any, parameters: Any = None, out: Any = None, wrt: str = "parameters"
    ) -> tuple[float, Any]:
        """The mean over rows, and its gradient as one array in the order of `parameters`.

        parameters  an array theta to use instead of the Values' numbers: then the call is pure
        out         an array for the gradient, (len(parameters),)
        wrt         "parameters", or "inputs" for a gradient in the shape of each input: (rows, n)
        """
        again = self._mine.again
        watched = engine._observe is not None and checking()  # a call less: 0.06 us
        if again is not None and wrt == "parameters" and not watched:
            found = again(inputs, parameters, out)  # a small expression: 1.8 us a call
            if found is not None:
                return found
        if not self.single:
            count, one = len(self.graph.outputs), "compile([y]) is a list, give compile(y)"
            raise ValueError(
                f"value_and_grad needs a single output, not a list of {count}: "
                + (one if count == 1 else "compile a single loss")
            )
        if wrt not in ("parameters", "inputs"):
            raise ValueError(f"wrt is 'parameters' or 'inputs', not {wrt!r}")
        arrays, rows, has_rows = self._arrays(inputs)
        theta = self._theta(parameters)
        by_inputs = wrt == "inputs"
        self._look_for_anomalies(theta, arrays, True)
        g = self._gradient(out, wrt)
        if out is not None:  # backward reads the rest while it writes the gradient
            if np.may_share_memory(out, theta):
                theta = theta.copy()
            arrays = [x.copy() if may_overlap(x, out) else x for x in arrays]
        gx = [np.empty_like(x) for x in arrays] if by_inputs else []
        run = self._execution(rows, by_inputs)
        value = self._by(run, theta, arrays, rows, g, gx)
        if value is not None and not by_inputs:
            self._mine.again = run.again(inputs, self._cells, rows)
        if value is None and type(run) is Vectors:  # the others know what is reached
            few = len(self._groups) <= MOST_STEPS
            run = self._as(Arrays if few else Lines, by_inputs)
            value = self._by(run, theta, arrays, rows, g, gx)
        if value is None:
            value = self._interpreted(theta, arrays, rows, g, gx)
        return (value, g) if not by_inputs else (value, self._by_input(gx, has_rows))

    def _by_input(self, gx: list[np.ndarray], has_rows: bool) -> Any:
        """The gradients by the inputs, in the shapes of the inputs."""
        shaped = [
            x.reshape((len(x), *shape)) if has_rows else x.reshape(shape)
            for x, (_, shape) in zip(gx, self.inputs, strict=True)
        ]
        return shaped[0] if len(shaped) == 1 else shaped

    def backward(self, *inputs: Any) -> float:
        """Add the mean's gradient to the `.grad` of the Values; returns the mean."""
        value, g = self.value_and_grad(*inputs)
        after = [p.grad + d for p, d in zip(self.parameters, g.tolist(), strict=True)]
        _set_grads(self.parameters, after)
        return value

    def jvp(
        self, *inputs: Any, tangent: Any, parameters: Any = None, wrt: str = "parameters"
    ) -> tuple[Any, Any]:
        """Forward mode: the outputs, and their derivative along a direction.

        tangent  an array in the order of `parameters`; or wrt="inputs", and an array of the shape
                 of each input (a list of them if there are several)

        Both answers have the shape of a call's. The first call compiles a program for it: twice
        the graph, about as fast as value_and_grad.
        """
        if wrt not in ("parameters", "inputs"):
            raise ValueError(f"wrt is 'parameters' or 'inputs', not {wrt!r}")
        theta, along_inputs = self._theta(parameters), wrt == "inputs"
        if not along_inputs:
            tangent = self._real("tangent", tangent)
            if tangent.shape != theta.shape:
                raise ValueError(
                    f"tangent has shape {tangent.shape}, but the program has "
                    f"{len(self.parameters)} parameters"
                )
        arrays, rows, has_rows = self._arrays(inputs)
        program, conditional = self._along(along_inputs)
        both = theta
        if along_inputs:
            way = tangent if len(self.inputs) > 1 else [tangent]
            given = len(way) if isinstance(way, (list, tuple)) or np.ndim(way) else 0
            if given != len(self.inputs):
                raise ValueError(
                    f"tangent is {shown(way)}: give a list of {len(self.inputs)}, an array for "
                    "each input"
                )
            arrays, rows, has_rows = program._arrays([*inputs, *way])
        else:  # one array for all calls of a thread, whose views are bound once
            if self._mine.both is None:
                self._mine.both = np.empty(2 * len(theta), self.dtype)
            both = np.concatenate([theta, tangent], out=self._mine.both)
        out = program._outputs(both, arrays, rows)
        outputs = self.graph.outputs.tolist()
        doubtful = conditional or program._execution(rows, False).padded
        if doubtful and not np.isfinite(out).all():
            for r in range(rows):
                x = one_row(arrays, r)
                x, *along = np.split(x, 2) if along_inputs else (x,)
                numbers = interpret.evaluate(self.graph, theta, x)
                ways = (None, along[0]) if along_inputs else (tangent, None)
                found = interpret.tangents(self.graph, numbers, *ways)
                with np.errstate(over="ignore"):
                    out[r] = [numbers[i] for i in outputs] + [found[i] or 0.0 for i in outputs]
        values, tangents = np.split(out, 2, axis=1)
        return self._shaped(values, has_rows), self._shaped(tangents, has_rows)

    def _along(self, inputs: bool) -> tuple[Program, bool]:
        """The program of outputs and tangents, and whether some of these are conditional."""
        if inputs not in self._tangents:
            with self._lock:
                leaves = sum(math.prod(shape) for _, shape in self.inputs)
                leaves = leaves if inputs else len(self.parameters)
                graph, conditional = tangent_graph(self._fused, self._groups, leaves, inputs)
                parameters, fed = self.parameters, self.inputs
                if inputs:
                    fed = [*fed, *((f"tangent of {name}", shape) for name, shape in fed)]
                else:
                    names = [p.label.partition("[")[0] for p in parameters]
                    dots = {name: Value(0.0, label=name and f"{name}_dot") for name in set(names)}
                    parameters = [*parameters, *(dots[name] for name in names)]
                program = Program(graph, parameters, fed, False, str(self.dtype))
                program._fused = graph
                self._tangents[inputs] = program, conditional
        return self._tangents[inputs]

    def assign(self, theta: Any) -> None:
        """Write an array of parameters into the Values' `.data`, all at once."""
        self._theta(() if theta is None else theta)  # refuses what does not fit
        _set_data(self.parameters, np.asarray(theta, np.float64).tolist())  # not rounded to float32

    @property
    def source(self) -> str:
        """The source that runs: NumPy with every view bound beforehand, or lines of Python."""
        return self._execution(1, False).source

    @property
    def textbook(self) -> Textbook:
        """The same steps as a textbook writes them: z1 = W1 @ x + b1[:, None] and so on.

        It prints as source; called with (theta, X, Y), it runs. See textbook.py.
        """
        if not self.single:
            raise ValueError("a textbook's gradient is that of a single output: compile one")
        if self._fused.kind[self._fused.outputs[0]] == CONSTANT:
            raise ValueError("the output is a constant: a textbook is of something computed")
        names = names_of(self.parameters, [name for name, _ in self.inputs])
        inputs = [
            (safe_name(name) or f"x{i}", math.prod(shape))
            for i, (name, shape) in enumerate(self.inputs)
        ]
        return Textbook(self._layout, names, inputs)

    @property
    def stages(self) -> Stages:
        """The graph after every pass: node counts, and boxes that `draw` renders."""
        return stages(self.graph, self._fused, self._groups, self._layout)

    def __str__(self) -> str:
        code = self._compiled(False).code
        boxes, back = code.layout.boxes(), code.backward[:0:-1]
        title = f"{'step':<10} {'shape':<18} {'scalar nodes':>12} {'calls forward':>14}"
        table = []
        for step, some in boxes:
            live = int((step.nodes >= 0).sum())
            shape = " x ".join(map(str, step.nodes.shape))
            ahead, behind = (sum(map(len, every[some])) for every in (code.forward, back))
            row = f"{step.row.name:<10} {shape:<18} {live:>12,} {ahead:>14} {behind:>9}"
            table.append(Line("", row))
        lines = [f"{title} {'backward':>9}"]
        rolling = Rolling()
        for loop, rows in rolling.parts(rolling.find(table, at_end=True)):
            lines += [row.note + "  |" * bool(loop) for row in rows]
            if loop:
                lines[-1] += f" {loop.turns} times"
        lines.append(f"{len(boxes)} steps for {self.graph.count():,} scalar nodes")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"<Program of {self.graph.count()} scalar nodes, {len(self.parameters)} parameters, "
            f"{len(self.inputs)} inputs>"
        )

    def _repr_mimebundle_(self, *formats: Any, **kinds: Any) -> dict[str, Any]:
        return show(self, *formats, **kinds)

    # -- arguments
    def _theta(self, parameters: Any) -> np.ndarray:
        if parameters is None:
            numbers = np.array([p.data for p in self.parameters], np.float64)
            return numbers if self.dtype == np.float64 else self._real("parameters", numbers)
        if type(parameters) is np.ndarray and parameters.dtype == self.dtype:
            if parameters.shape == (len(self.parameters),) and parameters.flags.c_contiguous:
                return parameters
        theta = self._real("parameters", parameters)
        if theta.shape != (len(self.parameters),):
            raise ValueError(
                f"parameters has shape {theta.shape}, but the program has {len(self.parameters)}"
            )
        return np.ascontiguousarray(theta)

    def _real(self, name: str, given: Any) -> np.ndarray:
        """What was given as an array of the program's own kind of numbers."""
        try:
            array = np.asarray(given)
            if array.dtype == self.dtype:
                return array
            if array.dtype.kind == "c":
                raise TypeError(f"{name} holds complex numbers: pass real ones, such as its .real")
            for x in array.flat if array.dtype.kind == "O" else ():
                if x is None or isinstance(x, Value):
                    raise TypeError(f"{name} holds {shown(x)}: pass numbers")
            with np.errstate(over="ignore"):  # what is beyond float32 is infinite there
                return array.astype(self.dtype)
        except ValueError as error:
            raise ValueError(f"{name} must be an array of numbers ({error})") from None

    def _gradient(self, out: Any, wrt: str) -> np.ndarray:
        size = len(self.parameters)
        if out is not None and wrt == "inputs":
            raise ValueError(
                "out is for the gradient by parameters: leave it out with wrt='inputs', which "
                "makes an array for each input"
            )
        if out is None:
            return np.empty(size, self.dtype)
        if not isinstance(out, np.ndarray) or out.shape != (size,) or out.dtype != self.dtype:
            raise ValueError(f"out must be a {self.dtype} array of shape ({size},)")
        if not out.flags.c_contiguous:
            raise ValueError("out must be contiguous: make it with numpy.empty")
        return out

    def _arrays(self, inputs: Sequence[Any]) -> tuple[list[np.ndarray], int, bool]:
        """Every input as (rows, cells); the number of rows; whether any input had that axis."""
        if not inputs and not self.inputs:
            return [], 1, False
        if len(inputs) != len(self.inputs):
            names = ", ".join(name for name, _ in self.inputs) or "compile(..., inputs=) names them"
            raise ValueError(
                f"the program takes {_counted(len(self.inputs), 'input')} ({names}), got "
                f"{len(inputs)}"
            )
        arrays, rows, first = [], None, ""
        for x, (name, shape), cells in zip(inputs, self.inputs, self._cells, strict=True):
            array = x
            if type(x) is not np.ndarray or x.dtype is not self.dtype:
                array = self._real(name, x)
            own = array.ndim != len(shape)
            if array.shape[own:] != shape:
                wanted = ", ".join(["rows", *map(str, shape)]) + ("," if not shape else "")
                raise ValueError(
                    f"{name} has shape {array.shape}, but the program takes ({wanted})"
                )
            if own and rows is not None and len(array) != rows:
                raise ValueError(f"{name} has {len(array)} rows, but {first} has {rows}")
            if own:
                rows, first = len(array), name
            if array.ndim != 2 or not own:
                array = array.reshape(len(array) if own else 1, cells)
            arrays.append((array, own))
        if rows == 0:
            raise ValueError("there are no rows: a mean over nothing is undefined")
        count = 1 if rows is None else rows
        spread = [x if own else np.broadcast_to(x, (count, x.shape[1])) for x, own in arrays]
        return spread, count, rows is not None

    # -- running
    @cached_property
    def _fused(self) -> Graph:
        return split(fuse(subtract_sums(self.graph)))

    @cached_property
    def _groups(self) -> list[np.ndarray]:
        """The groups of the fused graph: what the array source is made from."""
        return schedule(self._fused)

    @cached_property
    def _layout(self) -> Layout:
        """The array steps that are made of the groups."""
        return lay_out(self._fused, self._groups, len(self.parameters), self._cells)

    @cached_property
    def _prices(self) -> tuple[float, float, float]:
        """For a row in lines, for all in lines on arrays, and the least that steps may take."""
        fused = self._fused
        size = fused.count() + len(fused.operands)
        by_row = LINE * (size + far_operands(fused)) - CELL * size
        each = min(len(fused.operands) / max(fused.count(), 1), COUNTED)  # operands of a node
        return by_row, MANY + VECTOR * size, (STEP + OPERAND * each) * longest_path(fused)

    @cached_property
    def _price_of_steps(self) -> float:
        """For all in steps of arrays, as far as the groups tell."""
        operands, gathered = count_operands(self._fused, self._groups)
        return STEP * len(self._groups) + OPERAND * operands + GATHER * gathered

    def _steps_take_less(self, price: float) -> bool:
        """Whether steps of arrays are expected to take less, found out with as little as can be."""
        if price < self._prices[2]:  # a chain has as many steps as nodes
            return False
        most = (STEP + COUNTED * (OPERAND + GATHER)) * len(self._groups)
        return price >= most or price >= self._price_of_steps

    def _way(self, rows: int) -> type[Execution]:
        """What so many rows are expected to take least time by."""
        lines, vectors = rows * self._prices[0], self._prices[1]
        if self._steps_take_less(min(lines, vectors)):
            return Arrays
        return Lines if rows < ROWS else Vectors

    def _execution(self, rows: int, wrt_inputs: bool) -> Execution:
        """What runs so many rows."""
        return self._as(self._way(rows), wrt_inputs)

    def _compiled(self, wrt_inputs: bool) -> Arrays:
        return self._as(Arrays, wrt_inputs)

    def _as(self, way: type[_Way], wrt_inputs: bool) -> _Way:
        """The program's source in one of three ways, written when first asked for."""
        key = way, wrt_inputs
        if key not in self._written:
            with self._lock:
                if key not in self._written:
                    self._written[key] = way(self, wrt_inputs)  # type: ignore[call-arg]
        return cast("_Way", self._written[key])

    def _by(
        self,
        run: Execution,
        theta: np.ndarray,
        arrays: list[np.ndarray],
        rows: int,
        g: np.ndarray,
        gx: list[Any],
    ) -> float | None:
        """The mean and its gradient, so many rows at a time as there is memory for.

        None where Python's floats raise, or where what is not finite may be wrong.
        """
        total = 0.0
        try:
            for some in _pieces(rows, run.most_rows):
                part, gx_part = ([x[some] for x in every] for every in (arrays, gx))
                into = g if some.start == 0 else np.empty_like(g)
                total += run.value_and_grad(theta, part, into, gx_part, 1.0 / rows)
                if some.start and not gx:
                    g += into
        except run.raises:
            return None
        if run.doubtful and not (math.isfinite(total) and all(map(is_finite, gx or [g]))):
            return None
        return total / rows

    def _look_for_anomalies(
        self, theta: np.ndarray, arrays: list[np.ndarray], backward: bool
    ) -> None:
        """Inside detect_anomaly(): AnomalyError at the first number that is not finite."""
        if not checking():
            return
        for r in range(len(arrays[0]) if arrays else 1):
            numbers = interpret.evaluate(self.graph, theta, one_row(arrays, r))
            for node, number in enumerate(numbers):
                if not math.isfinite(number):
                    raise AnomalyError(f"{self._describe(node, numbers)} is {number} in row {r}")
            if backward:
                found = interpret.adjoints(self.graph, numbers, int(self.graph.outputs[0]))
                for node in reversed(range(len(found))):
                    adjoint = found[node]
                    if adjoint is not None and not math.isfinite(adjoint):
                        raise AnomalyError(
                            f"the adjoint of {self._describe(node, numbers)} is {adjoint} "
                            f"in row {r}"
                        )

    def _describe(self, node: int, numbers: list[float]) -> str:
        operands = [f"{numbers[p]:.6g}" for p in self.graph.operands_of(node)]
        shown = ", ".join(operands[:6]) + (", ..." if len(operands) > 6 else "")
        line = self.graph.lines.get(node, "")
        name = self.graph.rows[self.graph.op[node]].name or "leaf"
        return f"{name}({shown or numbers[node]})" + (f" at {line}" if line else "")

    @np.errstate(all="ignore")
    def _interpreted(
        self, theta: np.ndarray, arrays: list[np.ndarray], rows: int, g: np.ndarray, gx: list[Any]
    ) -> float:
        """The mean and its gradient node by node, where arrays met a number that is not finite."""
        graph = self.graph
        total, output = 0.0, int(graph.outputs[0])
        parameters = np.flatnonzero(graph.kind == PARAMETER).tolist()
        inputs = np.flatnonzero(graph.kind == INPUT).tolist()
        g[:] = 0.0
        for r in range(rows):
            x = one_row(arrays, r)
            numbers = interpret.evaluate(graph, theta, x)
            total += numbers[output]
            adjoints = interpret.adjoints(graph, numbers, output)
            by_input = np.zeros(len(x))
            for nodes, into in ((parameters, g), (inputs, by_input)):
                for node in nodes:
                    into[graph.slot[node]] += (adjoints[node] or 0.0) / rows
            write_row(gx, r, by_input)
        return total / rows


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _pieces(rows: int, most: int) -> Iterator[slice]:
    """So many rows in pieces of equal length, of `most` rows at most."""
    length = -(-rows // -(-rows // most))
    for start in range(0, rows, length):
        yield slice(start, min(start + length, rows))


class _Mine(threading.local):
    """What a program keeps for each thread.

    both   parameters and a tangent, for forward mode
    again  value_and_grad of arguments like those of the call before (execution.py)
    """

    both: np.ndarray | None = None
    again: Again | None = None
