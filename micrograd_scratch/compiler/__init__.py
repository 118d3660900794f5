"""The compiler: a recorded scalar graph becomes the matrix program a person would have written.

    record -> fuse -> split -> schedule -> lay out (factor) -> emit -> source

A pass is a plain function of what the one before it found, and has a file of its own. In reading
order, each file knowing only those before it:

    record        Values become arrays: a Graph
    interpret     a Graph run node by node: the reference
    differences   chains of differences become differences of sums,
    fuse          sums of products become dots
    split         what needs leaves alone is a dot of its own
    factor        dots become matrix products, when layout asks
    pieces        or products of pieces
    schedule      which nodes are computed together: groups
    steps         what programs consist of: steps, whose operands are views of cells
    cells         truths about cells
    gathers       what is no view is read from where that is cheap
    layout        groups become steps, and nodes cells
    dependence    for lines of Python, row by row: what backward visits,
    loops         and what repeats
    line_text     numbers as text,
    line_places   where they stand,
    emit_scalars  and those lines
    views         for arrays: the text of a view,
    runtime       and what the source calls besides NumPy
    emit_vectors  the lines of Python on arrays of rows
    names         what parameters and inputs are called
    writer        the lines of a program, and the arrays that they name,
    memory        where their temporaries lie
    arrivals      adjoints that wait to be added up,
    loans         adjoints that equal another,
    adjoints      and the lines that add them up
    reach         which adjoints there are, where conditions decide
    forms         the lines of a step, forward and backward,
    products      also of matrices
    emit          those of all steps
    rolling       lines that repeat, as loops
    source        their text
    execution     what runs it
    tangent       forward mode, as a Graph
    reading       for people: what arrays are called,
    textbook      and the steps as a person would write them
    stages        the graph after every pass
    program       what people call
    trace         functions of Values

`compile` is the way in: here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..engine import Value, topological_order
from .program import Program
from .record import leaves_in_use, record
from .trace import TracedProgram, TraceError

__all__ = ["Program", "TraceError", "TracedProgram", "compile"]


def compile(
    outputs: Any,
    inputs: Sequence[Any] | None = None,
    parameters: Sequence[Value] | None = None,
    dtype: str = "float64",
) -> Any:
    """A `Program` that computes recorded outputs, and their gradients, at array speed.

    outputs     a Value, or a list of Values; or a function of Values that returns either, which
                is recorded when the program is first called, and checked (see trace.py)
    inputs      Values, lists of Values or nested lists of equal lengths: what a call passes arrays
                for, with an axis of rows in front; recorded once, for one row. The outputs need
                not depend on all of them
    parameters  the leaves by which gradients are taken; default: every leaf that is neither an
                input nor a constant, in the order in which they were first computed with
    dtype       "float64" or "float32"

    A recorded graph is what was computed, once: an `if` on a Value's number was decided when it was
    recorded, and a number read from `.data` is a constant now. With `parameters=`, every other leaf
    that is no input keeps the number it has when compiled: the program does not see its `.data`
    change later. What is to change is given as an input or a parameter.
    """
    if np.dtype(dtype) not in (np.dtype("float64"), np.dtype("float32")):
        raise ValueError(f"dtype is 'float64' or 'float32', not {dtype!r}")
    if parameters is not None:
        parameters = _listed("parameters", parameters)
        for parameter in parameters:
            _check_value("a parameter", parameter)
        _check_once("parameters", parameters)
    if callable(outputs):
        if inputs is not None:
            raise TypeError("compile(f) finds its inputs at the first call: leave `inputs` out")
        return TracedProgram(outputs, parameters, dtype)
    if isinstance(outputs, Value):
        results, single = [outputs], True
    else:
        results, single = _listed("outputs", outputs), False
    for result in results:
        _check_value("an output", result)
    described, leaves = [], []
    for position, given in enumerate(_listed("inputs", () if inputs is None else inputs)):
        cells, shape = _flatten(given)
        label = cells[0].label.partition("[")[0] if cells else ""
        described.append((label or f"input {position}", shape))
        leaves += cells
    _check_once("inputs", leaves)
    fed = set(leaves)
    if not results:
        raise ValueError("there is nothing to compile: pass at least one output")
    both = [parameter for parameter in parameters or () if parameter in fed]
    if both:
        raise ValueError(f"{both[0]!r} is both an input and a parameter: choose one")
    nodes = topological_order(*results)
    if parameters is None:
        parameters = [leaf for leaf in leaves_in_use(nodes, results) if leaf not in fed]
    graph = record(results, leaves, parameters, nodes)
    return Program(graph, parameters, described, single, dtype)


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, Value) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is {given!r}: pass a list of Values")
    return list(given)


def _check_value(what: str, given: Any) -> None:
    if not isinstance(given, Value):
        raise TypeError(f"{what} must be a Value, got {type(given).__name__}")


def _check_once(name: str, values: Sequence[Value]) -> None:
    if len(set(values)) < len(values):
        twice = next(value for value, count in Counter(values).items() if count > 1)
        raise ValueError(f"{twice!r} occurs twice among the {name}: pass it once")


def _flatten(given: Any) -> tuple[list[Value], tuple[int, ...]]:
    """The Values of a nested list in order, and its shape."""
    if isinstance(given, Value):
        return [given], ()
    if not isinstance(given, Iterable) or isinstance(given, str):
        _check_value("an input", given)
    parts = [_flatten(item) for item in given]
    if not parts or any(shape != parts[0][1] for _, shape in parts):
        raise ValueError("an input is a Value, or lists of Values that are all of one length")
    return [cell for cells, _ in parts for cell in cells], (len(parts), *parts[0][1])
