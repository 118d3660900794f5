"""Fuse: trees of `+` over products become sums of products, so that elementwise code is a `dot`.

    ((b + w0*x0) + w1*x1) + w2*x2   ->   dot([w0, w1, w2], [x0, x1, x2], b)
    ((a + b) + c) + d               ->   total([a, b, c, d])

Only nodes used once disappear. Nothing is simplified by its value but the constant 0.0 that a sum
starts from, which is dropped: more would make members of a group look different (a one-term sum, a
product with 1) before groups have been found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..operations import add, dot_of, multiply, total_of
from .record import COMPUTED, CONSTANT, INPUT, PARAMETER, Graph

ONE = -1  # stands for a constant 1.0 until the nodes are numbered anew
# Which factor of a product stands first: weights, then data, then what was computed. A product
# written x*w among others written w*x must not keep its tuple of weights from being recognized.
_RANK = np.zeros(4, dtype=int)
_RANK[[PARAMETER, CONSTANT, INPUT, COMPUTED]] = range(4)
_PLAIN, _ZERO, _PRODUCT, _SUM = range(4)  # what a term of a sum is


def fuse(graph: Graph) -> Graph:
    """The same outputs from fewer nodes."""
    rows = list(graph.rows)
    if add not in rows:
        return graph
    plus, times = rows.index(add), rows.index(multiply) if multiply in rows else -1
    for row in (dot_of, total_of):
        if row not in rows:
            rows.append(row)
    dot, total = rows.index(dot_of), rows.index(total_of)

    left, right = (column.tolist() for column in _columns(graph))
    once = graph.uses() == 1
    rank = _RANK[graph.kind].tolist()
    # the root of a tree of sums is a sum that is not the single-use operand of another one
    inner = np.zeros(len(graph), dtype=bool)
    summands = graph.operands[np.repeat(graph.op == plus, np.diff(graph.start))]
    inner[summands] = (graph.op[summands] == plus) & once[summands]
    roles = np.full(len(graph), _PLAIN)
    roles[(graph.kind == CONSTANT) & (graph.data == 0.0)] = _ZERO
    roles[(graph.op == times) & once] = _PRODUCT
    roles[inner] = _SUM
    role = roles.tolist()

    new_op = graph.op.copy()
    new_operands: dict[int, list[int]] = {}
    gone = np.flatnonzero(inner).tolist()
    for node in np.flatnonzero((graph.op == plus) & ~inner).tolist():
        terms: list[int] = []  # of the tree below it, from left to right
        plain, first, second = [], [], []
        waiting = [right[node], left[node]]
        while waiting:
            t = waiting.pop()
            what = role[t]
            while what == _SUM:
                waiting.append(right[t])
                t = left[t]
                what = role[t]
            terms.append(t)
            if what == _PRODUCT:
                gone.append(t)
                a, b = left[t], right[t]
                if rank[a] > rank[b]:
                    a, b = b, a
                first.append(a)
                second.append(b)
            elif what == _PLAIN:  # sum() starts from 0: that term goes, and changes the arity only
                plain.append(t)
        if not first:
            if len(terms) > 2:  # of a single tree: what lies between is gone
                kept = plain or terms[:1]
                new_op[node] = plus if len(kept) == 2 else total
                new_operands[node] = kept
            continue
        if len(plain) > 1:  # one is the bias; several are products with 1
            first, second, plain = plain + first, [ONE] * len(plain) + second, []
        new_op[node], new_operands[node] = dot, first + second + plain
    lost = np.zeros(len(graph), dtype=bool)
    lost[gone] = True
    return _without(replace(graph, rows=rows, op=new_op), new_operands, lost)


def _columns(graph: Graph) -> Iterator[np.ndarray]:
    """(n,) the first operands of all nodes, and their second ones; of fewer than two, anything."""
    last = len(graph.operands) - 1
    return (graph.operands[np.minimum(graph.start[:-1] + k, last)] for k in range(2))


def _without(graph: Graph, new_operands: dict[int, list[int]], gone: np.ndarray) -> Graph:
    """The graph with some operands replaced and some nodes removed, and a constant 1.0 in front."""
    kept = np.flatnonzero(~gone)
    number = np.full(len(graph) + 1, len(graph) + 1)  # out of range, for what is gone
    number[kept] = np.arange(1, len(kept) + 1)
    number[ONE] = 0
    lengths = np.diff(graph.start)
    for node, operands in new_operands.items():
        lengths[node] = len(operands)
    start = np.concatenate([[0, 0], np.cumsum(lengths[kept])])
    position = np.empty(len(graph), dtype=int)
    position[kept] = start[1:-1]
    flat = np.empty(start[-1], dtype=int)
    replaced = gone.copy()
    replaced[list(new_operands)] = True
    as_before = ~np.repeat(replaced, np.diff(graph.start))
    shift = np.repeat(position - graph.start[:-1], np.diff(graph.start))
    flat[(np.arange(len(graph.operands)) + shift)[as_before]] = graph.operands[as_before]
    for node, operands in new_operands.items():
        flat[position[node] : position[node] + len(operands)] = operands
    lead = np.zeros(1, dtype=int)
    return replace(
        graph,
        op=np.concatenate([lead, graph.op[kept]]),
        start=start,
        operands=number[flat],
        kind=np.concatenate([lead + CONSTANT, graph.kind[kept]]),
        slot=np.concatenate([lead - 1, graph.slot[kept]]),
        data=np.concatenate([[1.0], graph.data[kept]]),
        outputs=number[graph.outputs],
        lines={int(number[i]): line for i, line in graph.lines.items() if not gone[i]},
    )
