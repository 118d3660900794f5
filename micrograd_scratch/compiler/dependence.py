"""Dependence: which nodes backward visits, and what its rules read, before a line is written.

A partial may be None (no dependence), or exist under a condition that is only known when the
program runs. It leaves out the conditions themselves: emit_scalars.py writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..operations import (
    Conditional,
    Operation,
    Symbol,
    add,
    divide,
    dot_of,
    multiply,
    subtract,
)
from .record import COMPUTED, CONSTANT, Graph

NO, MAYBE, SURELY = range(3)  # whether backward reaches a node
_OPERATORS = {add, subtract, multiply, divide}


@dataclass(frozen=True)
class Rule:
    """A row's partials.

    exists   whether each exists
    reads    which of (y, *xs) each reads
    once     whether no call is used repeatedly
    numbers  the partials themselves, where they are the same for all (y, *xs)
    """

    exists: tuple[int, ...]
    reads: tuple[frozenset[int], ...]
    once: bool
    numbers: Sequence[float | None] | None = None


@lru_cache(maxsize=1000)
def rule_of(row: Operation, arity: int) -> Rule:
    symbols = [Symbol(str(position)) for position in range(arity + 1)]
    everything = frozenset(range(arity + 1))
    try:
        slopes = row.partials(*symbols)
    except TypeError:  # a rule that branches on numbers
        return Rule((MAYBE,) * arity, (everything,) * arity, True)
    reads = [_symbols_in([slope])[0] for slope in slopes] if arity <= 8 or row is dot_of else []
    together, once = _symbols_in(slopes)
    fixed = all(slope is None or isinstance(slope, float) for slope in slopes)
    reads = reads or [together] * arity
    return Rule(_existing(slopes), tuple(reads), once, slopes if fixed else None)


def _existing(slopes: Sequence[Any]) -> tuple[int, ...]:
    return tuple(
        NO if slope is None else MAYBE if isinstance(slope, Conditional) else SURELY
        for slope in slopes
    )


def _symbols_in(slopes: Sequence[Any]) -> tuple[frozenset[int], bool]:
    """The positions of the symbols in some expressions, and whether no call is used repeatedly."""
    found, seen, once, stack = set(), set(), True, list(slopes)
    while stack:
        x = stack.pop()
        if isinstance(x, Conditional):
            stack += x
        elif isinstance(x, Symbol):
            if id(x) in seen:
                once = once and (x.row is None or x.row in _OPERATORS)
                continue
            seen.add(id(x))
            stack += x.args
            if x.row is None:
                found.add(int(x.text))
    return frozenset(found), once


def dependence(graph: Graph, wrt: int) -> tuple[list[bool], list[int]]:
    """For every node: whether it depends on leaves of kind `wrt`; whether backward reaches it."""
    computed = np.flatnonzero(graph.kind == COMPUTED).tolist()
    start, every = graph.start.tolist(), graph.operands.tolist()
    wanted = graph.depends_on(wrt).tolist()
    reached = [NO] * len(graph)
    reached[int(graph.outputs[0])] = SURELY
    constant = (graph.kind == CONSTANT).tolist()
    op, selective = (
        graph.op.tolist(),
        [position > 0 and row.selective for position, row in enumerate(graph.rows)],
    )
    for node in reversed(computed):
        ours = reached[node]
        if not (ours and wanted[node]):
            continue
        parents = every[start[node] : start[node + 1]]
        if not selective[op[node]]:
            for p in parents:
                if reached[p] < ours:
                    reached[p] = ours
            continue
        row = graph.rows[op[node]]
        exists = rule_of(row, len(parents)).exists
        if any(constant[p] for p in parents):  # which may settle a condition
            xs = [float(graph.data[p]) if constant[p] else Symbol("") for p in parents]
            try:
                exists = _existing(row.partials(Symbol(""), *xs))
            except (TypeError, ArithmeticError):
                pass
        for p, way in zip(parents, exists, strict=True):
            reached[p] = max(reached[p], min(ours, way))
    return wanted, reached
