"""Differences: what is subtracted bit by bit is added up first, and subtracted at once.

    ((loss - a) - b) - c   ->   loss - ((a + b) + c)

That sum is one step, as that of `loss + a + b + c` is; a chain of differences would be as many as
it has terms (300 logarithms: 0.16 of the time). It leaves out short chains, which may well take a
small difference of large numbers, and sums with many terms of either sign: the two sums might be
much larger than what they differ by.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..operations import add, subtract
from .record import Graph

FEW = 8  # terms that are subtracted, at least
MOST = 2  # terms that they are subtracted from, at most


def subtract_sums(graph: Graph) -> Graph:
    """The same outputs, where chains of differences are differences of sums."""
    if subtract not in graph.rows:
        return graph
    rows = graph.rows if add in graph.rows else [*graph.rows, add]
    plus, minus = rows.index(add), rows.index(subtract)
    either = (graph.op == plus) | (graph.op == minus)
    # the nodes inside a tree of sums and differences are used once, by another such node
    inner = np.zeros(len(graph), dtype=bool)
    owner = np.repeat(np.arange(len(graph)), np.diff(graph.start))
    inner[graph.operands[either[owner]]] = True
    inner &= either & (graph.uses() == 1)
    differences = np.flatnonzero(inner & (graph.op == minus))
    if len(differences) < FEW - 1:
        return graph

    operands, op = graph.operands.copy(), graph.op.copy()
    key = np.arange(len(graph))  # where nodes come: those inside a tree right before its root
    parent = np.zeros(len(graph), dtype=int)
    parent[graph.operands[either[owner]]] = owner[either[owner]]
    for root in _roots(differences, inner, parent):
        inside, signs = _tree(graph, root, inner, minus)
        added, taken = ([t for t, sign in signs if sign == which] for which in (1, -1))
        if len(taken) < FEW or len(added) > MOST:
            continue
        key[inside] = root
        ends = []
        for terms in (added, taken):  # each sum takes as many nodes as it has terms, less one
            end = terms[0]
            for term in terms[1:]:
                node = inside.pop(0)
                operands[graph.start[node] : graph.start[node] + 2] = end, term
                op[node], end = plus, node
            ends.append(end)
        operands[graph.start[root] : graph.start[root] + 2] = ends
        op[root] = minus
    return _in_order(replace(graph, rows=rows, op=op, operands=operands), key)


def _roots(nodes: np.ndarray, inner: np.ndarray, parent: np.ndarray) -> list[int]:
    """The roots of the trees that these inner nodes are in."""
    roots, seen, inside, above = set(), set(), inner.tolist(), parent.tolist()
    for node in nodes.tolist():
        while inside[node] and node not in seen:
            seen.add(node)
            node = above[node]
        if not inside[node]:
            roots.add(node)
    return sorted(roots)


def _tree(
    graph: Graph, root: int, inner: np.ndarray, minus: int
) -> tuple[list[int], list[tuple[int, int]]]:
    """The nodes inside a tree, ascending, and its terms from left to right, each with its sign."""
    inside, terms, waiting = [], [], [(root, 1)]
    while waiting:
        node, sign = waiting.pop()
        if node != root and not inner[node]:
            terms.append((node, sign))
            continue
        if node != root:
            inside.append(node)
        first, second = graph.operands_of(node).tolist()
        waiting += (second, -sign if graph.op[node] == minus else sign), (first, sign)
    return sorted(inside), terms


def _in_order(graph: Graph, key: np.ndarray) -> Graph:
    """The graph with its nodes in the order of a key, and as they were where that is the same."""
    order = np.argsort(key, kind="stable")
    number = np.empty(len(graph), dtype=int)
    number[order] = np.arange(len(graph))
    lengths = np.diff(graph.start)[order]
    start = np.concatenate([[0], np.cumsum(lengths)])
    at = np.arange(start[-1]) + np.repeat(graph.start[order] - start[:-1], lengths)
    return replace(
        graph,
        op=graph.op[order],
        start=start,
        operands=number[graph.operands[at]],
        kind=graph.kind[order],
        slot=graph.slot[order],
        data=graph.data[order],
        outputs=number[graph.outputs],
        lines={int(number[i]): line for i, line in graph.lines.items()},
    )
