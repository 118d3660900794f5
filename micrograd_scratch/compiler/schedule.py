"""Schedule: which nodes are computed together, and in which order.

Nodes are colored by their operation and, round by round, by the set of their operands' colors, so
that a color is a role in the program ("a neuron of the second layer") whatever the arity. Roles
depend on one another; roles that depend on themselves (a recurrent state) form a strongly connected
component. A node's time is its component's rank, and within the component its depth: samples and
documents of unequal length fall into the same steps, which plain depth would keep apart.

It leaves out what the members of a group have in common: that is layout.py.
"""

from __future__ import annotations

import numpy as np

from .record import COMPUTED, INPUT, Graph

ROUNDS = (0, 1, 2, 3)  # rounds of coloring that are tried; the fewest steps win


def schedule(graph: Graph) -> list[np.ndarray]:
    """Groups of node numbers: one operation each, every group after those it depends on."""
    computed = np.flatnonzero(graph.kind == COMPUTED)
    if not len(computed):
        return []
    by_row = depends_on_inputs(graph)
    candidates = (_times(graph, rounds, by_row) for rounds in ROUNDS)
    best = min(candidates, key=lambda times: times.max())[computed]
    order = np.argsort(best, kind="stable")
    return np.split(computed[order], np.flatnonzero(np.diff(best[order])) + 1)


def depends_on_inputs(graph: Graph) -> np.ndarray:
    """(n,) whether a node has one number per row rather than one for all rows."""
    depends = (graph.kind == INPUT).tolist()
    if any(depends):
        operands, start = graph.operands.tolist(), graph.start.tolist()
        for node in np.flatnonzero(graph.kind == COMPUTED).tolist():
            for operand in operands[start[node] : start[node + 1]]:
                if depends[operand]:
                    depends[node] = True
                    break
    return np.array(depends, dtype=bool)


def _times(graph: Graph, rounds: int, by_row: np.ndarray) -> np.ndarray:
    """(n,) the position of every node's group, -1 for leaves."""
    color = _colors(graph, rounds, by_row)
    owner = np.repeat(np.arange(len(graph)), np.diff(graph.start))
    inside = graph.kind[graph.operands] == COMPUTED
    operand, owner = graph.operands[inside], owner[inside]
    colors = int(color.max()) + 1
    edges = np.unique(color[operand] * colors + color[owner])
    component, rank = _components(colors, (edges // colors).tolist(), (edges % colors).tolist())
    depth = _depths(len(graph), operand, owner, component[color])
    key = np.stack([rank[color], depth, graph.op, by_row])
    key[:, graph.kind != COMPUTED] = -1
    return _ranked(key) - 1 if np.any(graph.kind != COMPUTED) else _ranked(key)


def _ranked(key: np.ndarray) -> np.ndarray:
    """(n,) the rank of every column of `key` (k, n), compared from the top row down."""
    code = np.zeros(key.shape[1], dtype=np.int64)
    for row in key:
        _, dense = np.unique(row, return_inverse=True)
        _, code = np.unique(code * (int(dense.max()) + 1) + dense, return_inverse=True)
    return code


def _colors(graph: Graph, rounds: int, by_row: np.ndarray) -> np.ndarray:
    color = _ranked(np.stack([graph.op, graph.kind, by_row]))
    nodes = np.flatnonzero(np.diff(graph.start))  # those with operands
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        # A set of colors as the union of random bit patterns. Two sets may in principle fall
        # together, which merges two roles: the schedule stays correct, since depth decides.
        patterns = rng.integers(0, 2**63, int(color.max()) + 1, dtype=np.int64)
        patterns &= rng.integers(0, 2**63, len(patterns), dtype=np.int64)
        union = np.zeros(len(graph), dtype=np.int64)
        if len(nodes):
            starts = graph.start[nodes]
            union[nodes] = np.bitwise_or.reduceat(patterns[color[graph.operands]], starts)
        color = _ranked(np.stack([color, union]))
    return color


def _components(n: int, source: list[int], target: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Strongly connected components of n colors, and the longest path to each component.

    Tarjan (1972), without recursion. Returns (component, rank), both (n,).
    """
    following: list[list[int]] = [[] for _ in range(n)]
    for a, b in zip(source, target, strict=True):
        following[a].append(b)
    index, low, component = [-1] * n, [0] * n, [-1] * n
    path: list[int] = []
    count = found = 0
    for root in range(n):
        if index[root] >= 0:
            continue
        work = [(root, iter(following[root]))]
        index[root] = low[root] = count
        count += 1
        path.append(root)
        while work:
            node, targets = work[-1]
            for b in targets:
                if index[b] < 0:
                    index[b] = low[b] = count
                    count += 1
                    path.append(b)
                    work.append((b, iter(following[b])))
                    break
                if component[b] < 0:
                    low[node] = min(low[node], index[b])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    while True:
                        member = path.pop()
                        component[member] = found
                        if member == node:
                            break
                    found += 1
    # Tarjan finishes a component after all that follow it: larger numbers come first
    rank = [0] * found
    for a, b in sorted(zip(source, target, strict=True), key=lambda e: -component[e[0]]):
        if component[a] != component[b]:
            rank[component[b]] = max(rank[component[b]], rank[component[a]] + 1)
    return np.array(component), np.array(rank)[component]


def _depths(n: int, operand: np.ndarray, owner: np.ndarray, component: np.ndarray) -> np.ndarray:
    """(n,) the longest path to a node among nodes of its own component."""
    depth = [0] * n
    within = component[operand] == component[owner]
    for a, b in zip(operand[within].tolist(), owner[within].tolist(), strict=True):
        if depth[a] >= depth[b]:
            depth[b] = depth[a] + 1
    return np.array(depth)
