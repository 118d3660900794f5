"""Loops: where a chain repeats itself, its nodes are written once, as the body of a loop.

The computed nodes stand in an order in which each comes after its operands. If from some node on
everything is as it was `period` nodes before - the same operations on operands equally far back,
on one and the same node, or on any leaf - that stretch is a loop, whatever it computes: a map that
is iterated, an integrator, momentum, a recurrent net. It leaves out what a loop looks like in
source: emit_scalars.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .factor import MIX
from .record import COMPUTED, CONSTANT, Graph

BODY = 8  # nodes at least: 36 ns an operation of the logistic map, 48 with 3 to a turn
MOST = 400  # nodes in a period
OTHER = 0x1E3779B97F4A7C15
SAVED = 64  # nodes that need not be written: a loop that saves fewer stays straight


class Stretch(NamedTuple):
    """Computed nodes start to stop, `length` at a time: a loop if that is not all of them."""

    start: int
    stop: int
    length: int

    @property
    def turns(self) -> int:
        return (self.stop - self.start) // self.length


def stretches(graph: Graph, *flags: Sequence[int]) -> list[Stretch]:
    """The computed nodes in order, as loops and what is between them.

    flags  (n,) of every node, what else has to be alike in all turns of a loop
    """
    computed = graph.kind == COMPUTED
    start = np.append(graph.start[:-1][computed], len(graph.operands))
    n = len(start) - 1
    rank = np.where(computed, np.cumsum(computed) - 1, -1)
    operands = rank[graph.operands] if len(graph.operands) else graph.operands
    codes = np.stack([graph.op, *flags, np.diff(graph.start)])[:, computed]
    kinds = graph.kind[graph.operands]
    found: list[tuple[int, int, int]] = []
    if n > SAVED:
        signature = _signature(graph, flags)[computed]
        for period in _periods(signature):
            found += _repetitions(period, signature, start, operands)
    loops: list[Stretch] = []
    for first, last, period in sorted(found, key=lambda run: (run[0] - run[1], run[2])):
        for a, b in _without(first, last, loops):
            loop = _loop(a, b, period, start, operands)
            if (loop.turns - 1) * loop.length >= SAVED and _turns_agree(loop, codes, kinds, start):
                loops.append(loop)
    whole, at = [], 0
    for loop in sorted(loops):
        whole += [Stretch(at, loop.start, loop.start - at), loop]
        at = loop.stop
    whole.append(Stretch(at, n, n - at))
    return [stretch for stretch in whole if stretch.start < stretch.stop]


def _signature(graph: Graph, flags: tuple[Sequence[int], ...]) -> np.ndarray:
    """(n,) a code of each node's operation, flags, and operands' kinds."""
    arity = np.diff(graph.start)
    signature = arity.astype(np.int64)
    for code in (graph.op, *flags):
        signature = signature * OTHER + np.asarray(code)
    place = np.arange(len(graph.operands)) - np.repeat(graph.start[:-1], arity)
    weight = _weights(place)
    terms = (graph.kind[graph.operands] + 1) * weight
    # where a constant decides what depends on what, it is part of the operation
    selective = np.array([row.arity != 0 and row.selective for row in graph.rows])
    decides = np.repeat(selective[graph.op], arity) & (graph.kind[graph.operands] == CONSTANT)
    terms[decides] += graph.data[graph.operands[decides]].view(np.int64) * weight[decides] * OTHER
    totals = np.concatenate([[0], np.cumsum(terms)])
    return signature * OTHER + totals[graph.start[1:]] - totals[graph.start[:-1]]


def _weights(place: np.ndarray) -> np.ndarray:
    """What an operand's code is multiplied by, by its place among the operands: MIX to a power."""
    return np.cumprod(np.full(place.max(initial=0) + 1, MIX))[place]


def _periods(signature: np.ndarray) -> list[int]:
    """The commonest distances from a node, with some before it, to the last that looked so."""
    periods: set[int] = set()
    window, width = signature, 1
    while width <= 64 and len(window) > SAVED:
        order = np.argsort(window, kind="stable")
        distance = np.diff(order)[np.diff(window[order]) == 0]
        counts = np.bincount(distance[distance <= MOST], minlength=2)
        common = np.argsort(-counts, kind="stable")[:3]
        periods.update(common[counts[common] > SAVED // 2].tolist())
        for _ in range(2):  # windows of 1, 4, 16, 64 nodes
            window = window[width:] * MIX + window[:-width]
            width *= 2
    return sorted(periods)


def _repetitions(
    period: int, signature: np.ndarray, start: np.ndarray, operands: np.ndarray
) -> Iterator[tuple[int, int, int]]:
    """Maximal (start, stop, period) in which each node is like the one a period before."""
    alike = np.zeros(len(signature), dtype=bool)
    alike[period:] = signature[period:] == signature[:-period]
    nodes = np.flatnonzero(alike)
    if len(nodes) < SAVED:
        return
    arity = start[nodes + 1] - start[nodes]
    ends = np.cumsum(arity)
    place = np.arange(ends[-1]) - np.repeat(ends - arity, arity)
    now = operands[np.repeat(start[nodes], arity) + place]
    before = operands[np.repeat(start[nodes - period], arity) + place]
    # an operand keeps its distance (1), stays the same node (2), does neither (3); or is a leaf
    relation = np.where(now == before, 2, np.where(now - before == period, 1, 3))
    relation[now < 0] = 0
    way = np.zeros(len(signature), dtype=np.int64)
    given = np.full(len(signature), -1)  # the last operand that has to come before the loop
    given[nodes] = np.maximum.reduceat(np.where(relation == 3, now, -1), ends - arity)
    way[nodes] = np.add.reduceat(relation * _weights(place), ends - arity)
    changed = np.zeros(len(signature), dtype=bool)
    changed[period:] = alike[period:] & alike[:-period] & (way[period:] != way[:-period])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], alike, [False]])))
    for first, last in edges.reshape(-1, 2).tolist():
        if last - first < SAVED:
            continue
        doubtful = changed[first:last] | (given[first:last] >= first)
        for i in (first + np.flatnonzero(doubtful)).tolist():
            if (changed[i] and i - period >= first) or given[i] >= first:
                yield first, i, period  # from here on the operands relate in another way
                first = i
        yield first, last, period


def _turns_agree(loop: Stretch, codes: np.ndarray, kinds: np.ndarray, start: np.ndarray) -> bool:
    """Whether what signatures stand for is the same in all turns, as it is but for a collision."""
    nodes = codes[:, loop.start : loop.stop].reshape(len(codes), loop.turns, -1)
    operands = kinds[start[loop.start] : start[loop.stop]]
    return bool((nodes == nodes[:, :1]).all()) and bool(
        (operands.reshape(loop.turns, -1) == operands[: len(operands) // loop.turns]).all()
    )


def _without(first: int, last: int, loops: list[Stretch]) -> Iterator[tuple[int, int]]:
    """What is left of first..last outside of the loops."""
    for loop in sorted(loops):
        if loop.start < last and first < loop.stop:
            if first < loop.start:
                yield first, loop.start
            first = loop.stop
    if first < last:
        yield first, last


def _loop(first: int, last: int, period: int, start: np.ndarray, operands: np.ndarray) -> Stretch:
    """The loop that begins where the fewest numbers are kept from one turn to the next.

    A body is as many periods as operands reach back, so that they are of the same turn or the one
    before, and at least BODY nodes.
    """
    if last - first < 2 * period:
        return Stretch(first, first, period)
    once = start[first + period] - start[first]
    used, later = operands[start[first] :][:once], operands[start[first + period] :][:once]
    moves = (used >= 0) & (later - used == period)
    owner = np.repeat(np.arange(first, first + period), np.diff(start[first : first + period + 1]))
    source, reach = used[moves] % period, (owner - used)[moves]
    farthest = np.zeros(period, dtype=np.int64)  # the last use of what is made at this position
    np.maximum.at(farthest, source, reach)
    kept = np.zeros(period, dtype=np.int64)  # by a loop that begins at this position
    for position in np.flatnonzero(farthest).tolist():
        whole, rest = divmod(int(farthest[position]), period)
        kept += whole
        kept[(position + 1 + np.arange(rest)) % period] += 1
    first += int(np.argmin(np.roll(kept, -first)))
    length = period * -(-max(BODY, min(int(farthest.max()), MOST)) // period)
    return Stretch(first, first + max(0, last - first) // length * length, length)
