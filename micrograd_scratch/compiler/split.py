"""Split: what a sum of products has of leaves alone is a sum of its own, ahead of the rest.

    dot([*u, *w], [*x, *h], b)   ->   dot(w, h, dot(u, x, b))

A recurrent network computes W h + U x + b at every step, but U x + b needs no state: apart, it is
one product for all steps, and so are the derivatives of U and b. It leaves out sums of fewer than
FEW terms on either side, where another step costs more than it saves.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..operations import dot_of
from .record import COMPUTED, Graph

FEW = 2


def split(graph: Graph) -> Graph:
    """The same outputs, where sums over leaves and over computed numbers are two."""
    if dot_of not in graph.rows:
        return graph
    dots = np.flatnonzero(graph.op == graph.rows.index(dot_of))
    start, lengths = graph.start[dots], np.diff(graph.start)[dots]
    terms, biased = lengths // 2, lengths % 2 == 1
    # every term: the dot that it belongs to, and where its factors are
    dot = np.repeat(np.arange(len(dots)), terms)
    first = np.arange(len(dot)) + np.repeat(start - (np.cumsum(terms) - terms), terms)
    second = first + terms[dot]
    leaf = graph.kind != COMPUTED
    factors = graph.operands[first], graph.operands[second]
    ahead = leaf[factors[0]] & leaf[factors[1]]
    fit = ~biased | leaf[graph.operands[start + lengths - 1]]
    in_two = fit & _halved(dot, ahead, len(dots))
    # weights of computed numbers are so too where they meet a first state that is given
    late = np.zeros(len(graph), dtype=bool)
    for factor in factors:
        late[factor[in_two[dot] & ~ahead]] = True
    ahead &= ~(late[factors[0]] | late[factors[1]])
    in_two = fit & _halved(dot, ahead, len(dots))
    if not in_two.any():
        return graph
    ahead &= in_two[dot]
    bias = (start + lengths - 1)[in_two & biased]
    return _apart(graph, dots[in_two], np.concatenate([first[ahead], second[ahead], bias]))


def _halved(dot: np.ndarray, ahead: np.ndarray, count: int) -> np.ndarray:
    """(count,) whether a dot has enough terms that are `ahead`, and enough that are not."""
    ahead_of, others = (np.bincount(dot[which], minlength=count) for which in (ahead, ~ahead))
    return (ahead_of >= FEW) & (others >= FEW)


def _apart(graph: Graph, dots: np.ndarray, moved: np.ndarray) -> Graph:
    """The graph where each dot has lost some operands to a new one, which became its bias."""
    new = np.zeros(len(graph), dtype=int)
    new[dots] = 1
    number = np.arange(len(graph)) + np.cumsum(new)  # the new one comes right before
    owner = np.repeat(number, np.diff(graph.start))
    owner[moved] -= 1
    owner = np.concatenate([owner, number[dots]])
    operands = np.concatenate([number[graph.operands], number[dots] - 1])

    def filled(old: np.ndarray, value: float) -> np.ndarray:
        found = np.full(len(graph) + len(dots), value, dtype=old.dtype)
        found[number] = old
        return found

    return replace(
        graph,
        op=filled(graph.op, graph.op[dots[0]]),
        start=np.concatenate(
            [[0], np.cumsum(np.bincount(owner, minlength=len(graph) + len(dots)))]
        ),
        operands=operands[np.argsort(owner, kind="stable")],
        kind=filled(graph.kind, COMPUTED),
        slot=filled(graph.slot, -1),
        data=filled(graph.data, math.nan),
        outputs=number[graph.outputs],
        lines={int(number[i]): line for i, line in graph.lines.items()},
    )
