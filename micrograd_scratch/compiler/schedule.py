"""Schedule: which nodes are computed together, and in which order.

A step computes nodes of one operation, of rows or not. Nodes are ready when their operands are
computed; the operation to go on with is that of the ready node with most still to come behind it,
and all that are ready of that operation go along: list scheduling by the critical path (Hu 1961),
with operations as the machines. The layers of a network, samples and documents of unequal length
fall into the same steps by themselves, and irregular graphs into few (127 where coloring nodes by
their roles found 289, the longest path having 33).

Sums over the same weights wait for one another as long as there is something more urgent: what a
recurrent network puts out at each step is one product after its last step.

It leaves out what the members of a group have in common: that is layout.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..operations import dot_of
from .factor import ranked, unique
from .record import COMPUTED, INPUT, PARAMETER, Graph

COUNTED = 3  # operands of a node that count in the price of a step; a dot has many


def schedule(graph: Graph) -> list[np.ndarray]:
    """Groups of node numbers: one operation each, every group after those it depends on."""

    def put(some: np.ndarray) -> None:
        of = int(kind[some[0]])
        ready.setdefault(of, []).append(some)
        most[of] = max(most.get(of, 0), int(height[some].max()))

    operand, owner = graph.dependences()
    kind = graph.op * 2 + graph.depends_on(INPUT)
    height, peers = graph.heights, _peers(graph)
    missing = np.bincount(peers)  # of those that wait for one another: how many are not ready
    missing[0] = 0
    # node i is an operand of users[first[i]:first[i + 1]], and waits for so many operands
    users = owner[np.argsort(operand, kind="stable")]
    first = np.concatenate([[0], np.cumsum(np.bincount(operand, minlength=len(graph)))])
    waits = np.bincount(owner, minlength=len(graph))
    mark = np.empty(len(graph), dtype=int)

    ready: dict[int, list[np.ndarray]] = {}  # kind -> nodes
    most: dict[int, int] = {}  # kind -> the largest height of these
    groups: list[np.ndarray] = []
    new = np.flatnonzero((graph.kind == COMPUTED) & (waits == 0))
    while True:
        for some in _by_kind(new, kind):
            put(some)
        np.subtract.at(missing, peers[new], 1)
        if not ready:
            return groups
        chosen = max(most, key=lambda of: (most[of], of))
        top = most.pop(chosen)
        nodes = np.concatenate(ready.pop(chosen))
        waiting = (missing[peers[nodes]] > 0) & (height[nodes] < top)
        if waiting.any():
            put(nodes[waiting])
            nodes = nodes[~waiting]
        nodes.sort()
        groups.append(nodes)
        # the users of all of these, in one array
        start, count = first[nodes], first[nodes + 1] - first[nodes]
        place = np.arange(count.sum()) + np.repeat(start - (np.cumsum(count) - count), count)
        found = users[place]
        np.subtract.at(waits, found, 1)
        new = found[waits[found] == 0]
        mark[new] = np.arange(len(new))  # each of them once
        new = new[mark[new] == np.arange(len(new))]


def _peers(graph: Graph) -> np.ndarray:
    """(n,) the same number, not 0, for dots over the same weights, of which none needs another.

    None does if all are equally high. The weights are told apart by the first.
    """
    peers = np.zeros(len(graph), dtype=int)
    if dot_of in graph.rows:
        nodes = np.flatnonzero(graph.op == graph.rows.index(dot_of))
        nodes = nodes[graph.kind[graph.operands[graph.start[nodes]]] == PARAMETER]
        which = ranked(graph.operands[graph.start[nodes]]).which
        height = graph.heights[nodes]
        one = np.empty(len(nodes), dtype=int)
        one[which] = height  # of those over the same weights, that of one
        differ = np.zeros(len(nodes), dtype=bool)
        differ[which[height != one[which]]] = True
        peers[nodes] = np.where(differ[which], 0, which + 1)
    return peers


def _by_kind(nodes: np.ndarray, kind: np.ndarray) -> list[np.ndarray]:
    """The nodes, split by their kinds."""
    kinds = kind[nodes]
    if not len(nodes) or (kinds == kinds[0]).all():
        return [nodes] * bool(len(nodes))
    order = np.argsort(kinds, kind="stable")
    return np.split(nodes[order], np.flatnonzero(np.diff(kinds[order])) + 1)


def longest_path(graph: Graph) -> int:
    """How many computed nodes depend on one another in a row."""
    return int(graph.heights[graph.kind == COMPUTED].max(initial=-1)) + 1


def count_operands(graph: Graph, groups: Sequence[np.ndarray]) -> tuple[int, int]:
    """How many operands the groups have, and how many of these come from several groups."""
    group = -1 - graph.kind  # leaves of a kind are a group
    for number, nodes in enumerate(groups):
        group[nodes] = number
    owner = np.repeat(np.arange(len(graph)), np.diff(graph.start))
    computed = np.flatnonzero(group[owner] >= 0)
    owner, source = owner[computed], group[graph.operands[computed]]
    operand = ranked(
        group[owner] * COUNTED + np.minimum(computed - graph.start[owner], COUNTED - 1)
    )
    other = source != source[operand.first][operand.which]
    return len(operand.found), len(unique(operand.which[other]))
