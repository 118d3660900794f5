"""Tangent: forward mode as a graph - beside every node, its derivative along a direction.

    y' = dy/dx1 * x1' + dy/dx2 * x2' + ...

The rules of the rows are traced as they are for backward, but as nodes of the graph, for all
members of a group at once. What comes out is a graph like any other, and the passes that follow
make a program of it: `W @ X` gets `dW @ X + W @ dX` beside it, and nothing here knows of matrices.

It leaves out reach: a tangent that exists under a condition is 0.0 elsewhere, and 0.0 * inf is nan.
`conditional` says that there is such a one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..operations import (
    Conditional,
    Operation,
    Symbol,
    add,
    dot_of,
    multiply,
    negative,
    operation,
    take_of,
    total_of,
    where,
)
from .factor import unique
from .record import COMPUTED, CONSTANT, INPUT, PARAMETER, Graph
from .runtime import slope_of

NONE = -1  # in place of a node: there is no tangent


def tangent_graph(
    graph: Graph, groups: Sequence[np.ndarray], leaves: int, by_inputs: bool = False
) -> tuple[Graph, bool]:
    """A graph of the outputs and their tangents, and whether some exist under a condition only.

    leaves  how many parameters (or inputs) there are: that of number i has its tangent at
            number leaves + i
    """
    writer = _Writer(graph, leaves, INPUT if by_inputs else PARAMETER)
    for nodes in groups:
        writer.group(nodes)
    return writer.graph(), writer.conditional


class Column(Symbol):
    """One number of all members of a group: as their nodes, or as a row of others (`args`).

    nodes    (n,); None until they are needed
    numbers  (n,) if they are constants
    """

    __slots__ = ("writer", "nodes", "numbers")

    def __init__(
        self,
        writer: _Writer,
        nodes: np.ndarray | None = None,
        numbers: np.ndarray | None = None,
        row: Operation | None = None,
        args: Sequence[Any] = (),
    ) -> None:
        super().__init__("column", row, args)
        self.writer, self.nodes, self.numbers = writer, nodes, numbers

    def __operation__(self, row: Operation, xs: Sequence[Any]) -> Any:
        return self.writer.apply(row, xs)


class _Writer:
    def __init__(self, graph: Graph, leaves: int, kind: int) -> None:
        self.before, self.size = graph, len(graph)
        self.rows = {row: position for position, row in enumerate(graph.rows)}
        self.conditional = False
        self.constants: dict[float, int] = {}
        # of what is added: (op, operands (n, k), kind, slot, data, nodes it was added for)
        self.added: list[tuple[int, np.ndarray, int, np.ndarray, np.ndarray, np.ndarray]] = []
        self.members = np.flatnonzero(graph.kind == kind)
        self.known: dict[Any, Any] = {}  # (row, arguments) -> its answer, within one group
        self.tangent = np.full(len(graph), NONE)
        slots = leaves + graph.slot[self.members]
        self.tangent[self.members] = self.leaves(kind, slots, np.zeros(len(slots)))

    def graph(self) -> Graph:
        """What was there, what was added, and the outputs of both."""
        zero = self.leaves(CONSTANT, np.array([-1]), np.zeros(1))
        along = self.tangent[self.before.outputs]
        outputs = np.concatenate([self.before.outputs, np.where(along == NONE, zero, along)])
        g = self.before
        codes, operands, kinds, slots, data, sources = zip(*self.added, strict=True)
        counts = [len(xs) for xs in operands]
        lengths = np.repeat([xs.shape[1] for xs in operands], counts)
        lines, node = dict(g.lines), len(g)
        for nodes, count in zip(sources, counts, strict=True):
            if g.lines and len(nodes) == count:
                new = enumerate(nodes.tolist(), node)
                lines |= {i: g.lines[source] for i, source in new if source in g.lines}
            node += count
        return replace(
            g,
            rows=list(self.rows),
            op=np.concatenate([g.op, np.repeat(codes, counts)]),
            start=np.concatenate([g.start, g.start[-1] + np.cumsum(lengths)]),
            operands=np.concatenate([g.operands, *(xs.reshape(-1) for xs in operands)]),
            kind=np.concatenate([g.kind, np.repeat(kinds, counts)]),
            slot=np.concatenate([g.slot, *slots]),
            data=np.concatenate([g.data, *data]),
            outputs=outputs,
            lines=lines,
        )

    # -- nodes
    def leaves(self, kind: int, slots: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        no_operands = np.empty((len(slots), 0), dtype=int)
        return self._add(0, no_operands, kind, slots, numbers)

    def node(self, row: Operation, operands: Sequence[np.ndarray]) -> np.ndarray:
        """New nodes: the row of operands, each (n,)."""
        xs = np.stack(operands, axis=1)
        code = self.rows.setdefault(row, len(self.rows))
        return self._add(code, xs, COMPUTED, np.full(len(xs), -1), np.zeros(len(xs)))

    def _add(self, code: int, xs: np.ndarray, kind: int, slots: Any, numbers: Any) -> np.ndarray:
        self.added.append((code, xs, kind, slots, numbers, self.members))
        self.size += len(xs)
        return np.arange(self.size - len(xs), self.size)

    def constant(self, number: float) -> np.ndarray:
        """One constant, for every member."""
        if number not in self.constants:
            [self.constants[number]] = self.leaves(CONSTANT, np.array([-1]), np.array([number]))
        return np.full(len(self.members), self.constants[number])

    def nodes(self, x: Any) -> np.ndarray:
        """The nodes of a column or of a number, made when first asked for."""
        if not isinstance(x, Column):
            return self.constant(float(x))
        if x.nodes is None:
            if x.numbers is not None:
                x.nodes = self.leaves(CONSTANT, np.full(len(x.numbers), -1), x.numbers)
            else:
                assert x.row is not None
                x.nodes = self.node(x.row, [self.nodes(arg) for arg in x.args])
        return x.nodes

    def apply(self, row: Operation, xs: Sequence[Any]) -> Any:
        """The row of columns and numbers, as a column: constant if all of them are."""
        numbers = [x.numbers if isinstance(x, Column) else np.array([x]) for x in xs]
        if row is where and numbers[0] is not None and (numbers[0] == numbers[0][0]).all():
            return xs[1] if numbers[0][0] else xs[2]
        key = (row, *xs)
        if key not in self.known:
            constants = [column for column in numbers if column is not None]
            if len(constants) < len(xs):
                self.known[key] = Column(self, row=row, args=xs)
            else:
                columns = [np.broadcast_to(column, len(self.members)) for column in constants]
                found = [row.number(*map(float, x)) for x in zip(*columns, strict=True)]
                self.known[key] = Column(self, numbers=np.array(found, float))
        return self.known[key]

    # -- tangents
    def group(self, nodes: np.ndarray) -> None:
        """The tangents of one group: of those alike in length, and in which operands have one."""
        row, start = self.before.rows[self.before.op[nodes[0]]], self.before.start
        lengths = start[nodes + 1] - start[nodes]
        for length in unique(lengths).tolist():
            some = nodes[lengths == length]
            operands = self.before.operands[start[some][:, None] + np.arange(length)]
            has = self.tangent[operands] != NONE
            if (has == has[0]).all():  # np.unique takes 100 us
                patterns, which = has[:1], np.zeros(len(some), dtype=int)
            else:
                patterns, which = np.unique(has, axis=0, return_inverse=True)
            for position, pattern in enumerate(patterns):
                alike = which.reshape(-1) == position
                self.members, self.known = some[alike], {}
                xs = list(operands[alike].T)
                ts = [self.tangent[x] if has else None for x, has in zip(xs, pattern, strict=True)]
                if pattern.any():
                    self.tangent[self.members] = self.along(row, xs, ts)

    def along(self, row: Operation, xs: list[np.ndarray], ts: list[Any]) -> Any:
        """The tangent of a row of operands xs with tangents ts, None for some; or NONE."""
        if row is dot_of:
            return self.along_dot(xs, ts)
        if row is total_of:
            return self.node(row, [t for t in ts if t is not None])
        if row in (where, take_of):  # a choice among values: the same choice among tangents
            self.conditional = True
            zero = self.constant(0.0)
            return self.node(row, [xs[0], *(zero if t is None else t for t in ts[1:])])
        terms = list(self.terms(row, xs, ts))
        if len(terms) > 2:
            return self.node(total_of, terms)
        return self.node(add, terms) if len(terms) == 2 else terms[0] if terms else NONE

    def along_dot(self, xs: list[np.ndarray], ts: list[Any]) -> Any:
        """b' + w'.x + w.x', in two dots: each has the form of the one that it comes from."""
        n = len(xs) // 2
        answer = ts[-1] if len(xs) % 2 else None
        for own, others in ((ts[:n], xs[n : 2 * n]), (ts[n : 2 * n], xs[:n])):
            pairs = [(t, x) for t, x in zip(own, others, strict=True) if t is not None]
            if pairs:
                both = [t for t, _ in pairs], [x for _, x in pairs]
                bias = [] if answer is None else [answer]
                answer = self.node(dot_of, [*both[0], *both[1], *bias])
        return answer

    def terms(self, row: Operation, xs: list[np.ndarray], ts: list[Any]) -> Iterator[np.ndarray]:
        """slope * tangent, for every operand with both."""
        kinds, data = self.before.kind, self.before.data
        y, *columns = (
            Column(self, x, data[x] if (kinds[x] == CONSTANT).all() else None)
            for x in (self.members, *xs)
        )
        slopes: Sequence[Any]
        try:
            slopes = row.partials(y, *columns)
        except TypeError:  # a rule that branches on numbers: called as it is
            slopes = [self.by_element(row, k, [y, *columns]) for k in range(len(xs))]
        for slope, t in zip(slopes, ts, strict=True):
            if slope is None or t is None:
                continue
            condition = None
            if isinstance(slope, Conditional):
                self.conditional = True
                condition, slope = slope
            if type(slope) is float and slope == 1.0:
                term = t
            elif type(slope) is float and slope == -1.0:
                term = self.node(negative, [t])
            else:
                term = self.node(multiply, [self.nodes(slope), t])
            if condition is not None:
                term = self.node(where, [self.nodes(condition), term, self.constant(0.0)])
            yield term

    def by_element(self, row: Operation, position: int, columns: list[Column]) -> Conditional:
        """A partial as a row of its own, that is not differentiated further."""
        found = []
        for name, value in zip(("exists", "slope"), slope_of(row, position)[::-1], strict=True):
            of_numbers = operation(name, value, lambda y, *xs: (None,) * len(xs))
            found.append(Column(self, row=of_numbers, args=columns))
        return Conditional(*found)
