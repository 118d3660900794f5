"""Record: Values become flat arrays, the form in which the other passes read and write a graph.

A `Graph` numbers its nodes so that every node comes after its operands. It leaves out how numbers
are computed: that is in the rows of operations.py, which the graph refers to by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from ..anomalies import _lines, source_line
from ..engine import LEAF, Constant, Value, topological_order
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

    def dependences(self) -> tuple[np.ndarray, np.ndarray]:
        """(m,) the computed operands of computed nodes, and the nodes that they belong to."""
        owner = np.repeat(np.arange(len(self)), np.diff(self.start))
        inside = self.kind[self.operands] == COMPUTED
        return self.operands[inside], owner[inside]

    def depends_on(self, kind: int) -> np.ndarray:
        """(n,) whether a node is a leaf of this kind, or computed from one."""
        depends = (self.kind == kind).tolist()
        if any(depends):
            operands, start = self.operands.tolist(), self.start.tolist()
            for node in np.flatnonzero(self.kind == COMPUTED).tolist():
                for operand in operands[start[node] : start[node + 1]]:
                    if depends[operand]:
                        depends[node] = True
                        break
        return np.array(depends, dtype=bool)

    @cached_property
    def heights(self) -> np.ndarray:
        """(n,) the longest path from a node to one that nothing depends on."""
        height = [0] * len(self)
        pairs = (side[::-1].tolist() for side in self.dependences())
        for operand, owner in zip(*pairs, strict=True):
            h = height[owner]
            if h >= height[operand]:
                height[operand] = h + 1
        return np.array(height)

    def count(self) -> int:
        """How many nodes are computed."""
        return int((self.kind == COMPUTED).sum())


def record(
    outputs: Sequence[Value],
    inputs: Sequence[Value],
    parameters: Sequence[Value],
    nodes: Sequence[Value] | None = None,
) -> Graph:
    """The graph behind the outputs. A leaf that is neither input nor parameter is a constant.

    nodes  all of them, every node after its operands, if they are known already
    """
    for name, leaves in (("input", inputs), ("parameter", parameters)):
        for position, leaf in enumerate(leaves):
            if leaf.parents:
                raise ValueError(
                    f"{name} {position} is the result of {leaf.op!r}, not a leaf: pass the leaves "
                    "it was computed from"
                )
    nodes = topological_order(*outputs) if nodes is None else nodes
    number = _Numbers(nodes)
    row = [node.row for node in nodes]
    rows = {row: position for position, row in enumerate(dict.fromkeys([LEAF, *row]))}
    start, operands = _operands(nodes, number)
    kind = np.where(np.diff(start) > 0, COMPUTED, CONSTANT)
    slot = np.full(len(nodes), -1)
    for leaf_kind, leaves in ((PARAMETER, parameters), (INPUT, inputs)):
        found = number.of(leaves)
        used = np.flatnonzero(found >= 0)
        kind[found[used]], slot[found[used]] = leaf_kind, used
    lines = (
        {i: line for i, node in enumerate(nodes) if (line := source_line(node))} if _lines else {}
    )
    return Graph(
        list(rows),
        np.fromiter(map(rows.__getitem__, row), int, len(nodes)),
        start,
        operands,
        kind,
        slot,
        np.fromiter([node.data for node in nodes], float, len(nodes)),
        number.of(outputs),
        lines,
    )


def leaves_in_use(nodes: Sequence[Value], outputs: Sequence[Value]) -> list[Value]:
    """The leaves but Constants, in the order in which the nodes, in their order, first use them.

    Those that are themselves outputs, and nothing else, come last.
    """
    operands = chain.from_iterable(node.parents for node in nodes)
    used = dict.fromkeys(chain((p for p in operands if p.row is LEAF), outputs))
    return [leaf for leaf in used if leaf.row is LEAF and type(leaf) is not Constant]


class _Numbers:
    """The positions of nodes, by what each is and not by what it holds.

    A table of all places in memory around them, page by page: no two objects begin within the same
    PLACE bytes. 0.25 us an operand of a million nodes, where a dictionary takes 0.7.
    """

    PLACE, PAGE = 4, 18  # bits: 16 bytes, 256 kB

    def __init__(self, nodes: Sequence[Value]) -> None:
        addresses = _addresses(nodes)
        pages = np.sort(addresses >> self.PAGE)
        self.pages = pages[np.diff(pages, prepend=-1) > 0]
        self.table = np.full(len(self.pages) + 1 << self.PAGE - self.PLACE, -1, dtype=np.int32)
        self.table[self._places(addresses)] = np.arange(len(nodes))

    def of(self, values: Sequence[Any]) -> np.ndarray:
        """(n,) the positions of n objects; -1 for what is not among the nodes."""
        return self.at(_addresses(values))

    def at(self, addresses: np.ndarray) -> np.ndarray:
        """The same for objects at these addresses."""
        return self.table[self._places(addresses)].astype(int)

    def _places(self, addresses: np.ndarray) -> np.ndarray:
        """Where in the table; behind the last page, for what is on none of them."""
        page = addresses >> self.PAGE
        found = np.minimum(np.searchsorted(self.pages, page), len(self.pages) - 1)
        found[self.pages[found] != page] = len(self.pages)
        return (found << self.PAGE - self.PLACE) + (
            (addresses & (1 << self.PAGE) - 1) >> self.PLACE
        )


def _addresses(objects: Sequence[Any]) -> np.ndarray:
    """(n,) where n objects lie."""
    return np.fromiter(map(id, objects), np.int64, len(objects))


def _operands(nodes: Sequence[Value], number: _Numbers) -> tuple[np.ndarray, np.ndarray]:
    """`start` and `operands` of a graph, column by column.

    One or two operands lie in the slots of a Value, more in a tuple (engine.py), which is no node.
    """
    count = len(nodes)
    first = number.at(np.fromiter([id(node._a) for node in nodes], np.int64, count))
    second = number.at(np.fromiter([id(node._b) for node in nodes], np.int64, count))
    tuples = [nodes[i]._b for i in np.flatnonzero(first < 0).tolist()]
    lengths = (first >= 0) * 1 + (second >= 0)
    lengths[first < 0] = list(map(len, tuples))
    start = np.concatenate([[0], np.cumsum(lengths)])
    operands = np.empty(start[-1], dtype=int)
    operands[start[:-1][first >= 0]] = first[first >= 0]
    operands[start[:-1][second >= 0] + 1] = second[second >= 0]
    operands[np.repeat(first < 0, lengths)] = number.of(list(chain.from_iterable(tuples)))
    return start, operands
