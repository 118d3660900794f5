"""Record: Values become flat arrays, the form in which the other passes read and write a graph.

A `Graph` numbers its nodes so that every node comes after its operands. It leaves out how numbers
are computed: that is in the rows of operations.py, which the graph refers to by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..engine import LEAF, Value, _lines, source_line, topological_order
from ..operations import Operation

COMPUTED, CONSTANT, PARAMETER, INPUT = range(4)


@dataclass(frozen=True)
class Graph:
    """A scalar graph of n nodes with m operands.

    rows      the operations that occur; rows[0] is the leaf
    op        (n,) the position in `rows` of what computes a node
    start     (n + 1,) node i has the operands operands[start[i]:start[i + 1]]
    operands  (m,) node numbers, each smaller than that of the node it belongs to
    kind      (n,) COMPUTED, CONSTANT, PARAMETER or INPUT
    slot      (n,) for a parameter or an input: its position among them
    data      (n,) the number a node held when it was recorded (what a constant is)
    outputs   node numbers
    lines     node number -> "file:line", where that is known
    """

    rows: list[Operation]
    op: np.ndarray
    start: np.ndarray
    operands: np.ndarray
    kind: np.ndarray
    slot: np.ndarray
    data: np.ndarray
    outputs: np.ndarray
    lines: dict[int, str]

    def __len__(self) -> int:
        return len(self.op)

    def operands_of(self, node: int) -> np.ndarray:
        return self.operands[self.start[node] : self.start[node + 1]]

    def uses(self) -> np.ndarray:
        """(n,) how often a node is an operand or an output."""
        used = np.bincount(self.operands, minlength=len(self))
        np.add.at(used, self.outputs, 1)
        return used

    def count(self) -> int:
        """How many nodes are computed."""
        return int((self.kind == COMPUTED).sum())


def record(outputs: Sequence[Value], inputs: Sequence[Value], parameters: Sequence[Value]) -> Graph:
    """The graph behind the outputs. A leaf that is neither input nor parameter is a constant."""
    for name, leaves in (("input", inputs), ("parameter", parameters)):
        for position, leaf in enumerate(leaves):
            if leaf.parents:
                raise ValueError(
                    f"{name} {position} is the result of {leaf.op!r}, not a leaf: pass the leaves "
                    "it was computed from"
                )
    nodes = topological_order(*outputs)
    number = {node: i for i, node in enumerate(nodes)}
    rows: dict[Operation, int] = {LEAF: 0}
    op = [rows.setdefault(node.row, len(rows)) for node in nodes]
    operands: list[int] = []
    ends = [0]
    for node in nodes:
        operands.extend(map(number.__getitem__, node.parents))
        ends.append(len(operands))
    start = np.array(ends)
    kind = np.where(np.diff(start) > 0, COMPUTED, CONSTANT)
    slot = np.full(len(nodes), -1)
    for leaf_kind, leaves in ((PARAMETER, parameters), (INPUT, inputs)):
        for position, leaf in enumerate(leaves):
            if leaf in number:
                kind[number[leaf]], slot[number[leaf]] = leaf_kind, position
    lines = {i: line for i, node in enumerate(nodes) if _lines and (line := source_line(node))}
    return Graph(
        list(rows),
        np.array(op),
        start,
        np.array(operands, dtype=int),
        kind,
        slot,
        np.array([node.data for node in nodes]),
        np.array([number[output] for output in outputs]),
        lines,
    )
