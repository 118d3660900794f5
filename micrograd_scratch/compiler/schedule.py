"""Schedule: which nodes are computed together, and in which order.

Nodes are colored by their operation and, round by round, by the set of their operands' colors, so
that a color is a role in the program ("a neuron of the second layer") whatever the arity. Roles
depend on one another; roles that depend on themselves (a recurrent state) form a strongly connected
component. A node's time is its component's rank, and within the component its depth: samples and
documents of unequal length fall into the same steps, which plain depth would keep apart.

It leaves out what the members of a group have in common: that is layout.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .factor import unique
from .record import COMPUTED, INPUT, Graph

ROUNDS = 4  # of coloring that are tried, the first of them by operation alone; fewest steps win
ROLES = 2000  # dependences among colors, or one for 8 nodes: beyond, colors are nodes, not roles


def schedule(graph: Graph) -> list[np.ndarray]:
    """Groups of node numbers: one operation each, every group after those it depends on."""
    computed = np.flatnonzero(graph.kind == COMPUTED)
    if not len(computed):
        return []
    by_row = depends_on_inputs(graph)
    edges = _dependences(graph)
    depth = _depths(len(graph), *edges)
    best = None
    for color in _colorings(graph, by_row):
        between = _between(color, *edges)
        if best is not None and len(between) > max(ROLES, len(graph) // 8):
            break
        times = _times(graph, color, by_row, between, edges, depth)
        best = times if best is None else min(best, times, key=np.max)
        if best.max() <= depth.max():  # as few groups as nodes on a path: none can be saved
            break
    assert best is not None
    best = best[computed]
    order = np.argsort(best, kind="stable")
    return np.split(computed[order], np.flatnonzero(np.diff(best[order])) + 1)


def longest_path(graph: Graph) -> int:
    """How many computed nodes depend on one another in a row."""
    operand, owner = _dependences(graph)
    depth = _depths(len(graph), operand, owner)
    return int(depth[graph.kind == COMPUTED].max(initial=-1)) + 1


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


def _dependences(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """(m,) the computed operands of computed nodes, and the nodes that they belong to."""
    owner = np.repeat(np.arange(len(graph)), np.diff(graph.start))
    inside = graph.kind[graph.operands] == COMPUTED
    return graph.operands[inside], owner[inside]


def _between(color: np.ndarray, operand: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """(k, 2) which colors depend on which."""
    colors = int(color.max()) + 1
    return np.stack(np.divmod(unique(color[operand] * colors + color[owner]), colors), axis=1)


def _times(
    graph: Graph,
    color: np.ndarray,
    by_row: np.ndarray,
    between: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray],
    depth: np.ndarray,
) -> np.ndarray:
    """(n,) the position of every node's group, -1 for leaves; depth is that in the whole graph."""
    operand, owner = edges
    component, rank = _components(int(color.max()) + 1, *between.T.tolist())
    within = component[color[operand]] == component[color[owner]]
    if not within.all():
        depth = _depths(len(graph), operand[within], owner[within])
    key = rank[color] * (depth.max() + 1) + depth
    key = (key * len(graph.rows) + graph.op) * 2 + by_row
    key[graph.kind != COMPUTED] = -1
    return _ranked(key) - bool(np.any(graph.kind != COMPUTED))


def _ranked(key: np.ndarray) -> np.ndarray:
    """(n,) the rank of every number among all that occur."""
    return np.unique(key, return_inverse=True)[1]


def _colorings(graph: Graph, by_row: np.ndarray) -> Iterator[np.ndarray]:
    """(n,) colors from 0 on, finer from round to round."""
    color = _ranked((graph.op * 4 + graph.kind) * 2 + by_row)
    nodes = np.flatnonzero(np.diff(graph.start))  # those with operands
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        yield color
        # A set of colors as the union of random bit patterns. Two sets may in principle fall
        # together, which merges two roles: the schedule stays correct, since depth decides.
        patterns = rng.integers(0, 2**63, int(color.max()) + 1, dtype=np.int64)
        patterns &= rng.integers(0, 2**63, len(patterns), dtype=np.int64)
        union = np.zeros(len(graph), dtype=np.int64)
        if len(nodes):
            starts = graph.start[nodes]
            union[nodes] = np.bitwise_or.reduceat(patterns[color[graph.operands]], starts)
        color = _ranked(union * 0x5851F42D4C957F2D + color)


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


def _depths(n: int, operand: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """(n,) the longest path to a node along some of the graph's dependences."""
    depth = [0] * n
    for a, b in zip(operand.tolist(), owner.tolist(), strict=True):
        d = depth[a]
        if d >= depth[b]:
            depth[b] = d + 1
    return np.array(depth)
