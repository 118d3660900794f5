"""Interpret: a recorded graph run node by node, exactly as the engine runs it.

The reference that compiled programs are tested against, and what they fall back on where arrays
cannot tell "not reached" from "0 times infinity": padding, conditions, and numbers that are not
finite. Python speed: about a microsecond a node and row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operations import Operation
from .record import COMPUTED, INPUT, PARAMETER, Graph


def evaluate(graph: Graph, theta: Any, x: Any) -> list[float]:
    """The number of every node, for one row of inputs."""
    numbers = graph.data.tolist()
    for kind, values in ((PARAMETER, theta), (INPUT, x)):
        for node in np.flatnonzero(graph.kind == kind).tolist():
            numbers[node] = float(values[graph.slot[node]])
    for node, row, operands in _computed(graph):
        numbers[node] = float(row.number(*[numbers[p] for p in operands]))
    return numbers


def adjoints(graph: Graph, numbers: list[float], output: int) -> list[float | None]:
    """The derivative of one output by every node; None where there is no dependence."""
    adjoint: list[float | None] = [None] * len(graph)
    adjoint[output] = 1.0
    for node, row, operands in reversed(list(_computed(graph))):
        arrived = adjoint[node]
        if arrived is None:
            continue
        slopes = row.slopes(numbers[node], *[numbers[p] for p in operands])
        for p, slope in zip(operands, slopes, strict=True):
            if slope is not None:
                adjoint[p] = (adjoint[p] or 0.0) + arrived * slope
    return adjoint


def tangents(graph: Graph, numbers: list[float], theta: Any, x: Any) -> list[float | None]:
    """The derivative of every node along a direction of parameters and inputs (forward mode).

    theta or x may be None: there is no dependence on them.
    """
    tangent: list[float | None] = [None] * len(graph)
    for kind, values in ((PARAMETER, theta), (INPUT, x)):
        for node in np.flatnonzero(graph.kind == kind).tolist() if values is not None else ():
            tangent[node] = float(values[graph.slot[node]])
    for node, row, operands in _computed(graph):
        slopes = row.slopes(numbers[node], *[numbers[p] for p in operands])
        for p, slope in zip(operands, slopes, strict=True):
            arrived = tangent[p]
            if slope is not None and arrived is not None:
                tangent[node] = (tangent[node] or 0.0) + slope * arrived
    return tangent


def _computed(graph: Graph) -> list[tuple[int, Operation, list[int]]]:
    start, operands = graph.start.tolist(), graph.operands.tolist()
    return [
        (node, graph.rows[graph.op[node]], operands[start[node] : start[node + 1]])
        for node in np.flatnonzero(graph.kind == COMPUTED).tolist()
    ]
