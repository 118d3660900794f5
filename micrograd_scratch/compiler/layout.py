"""Lay out: every group becomes array steps, and every operand a view of numbered cells.

A cell is one number (one per row, for what depends on inputs) in one of five spaces. Cells are
numbered in the order of the operands that they are computed from, so that most operands turn out
regular; what does not is gathered. A group of dots is split into matrix products (factor.py), and
these into pieces where what they read lies apart (pieces.py).

A step may compute more cells than the graph has nodes: a grid at least half full is filled up
("dead" cells), and tuples of unequal length are padded with a cell that holds 0. `Layout.padded`
says so where it matters, because 0 * inf is then a number that the scalar graph never met.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from typing import Any, NamedTuple

import numpy as np

from ..operations import (
    Operation,
    add,
    dot_of,
    largest_of,
    multiply,
    smallest_of,
    take_of,
    total_of,
)
from .factor import (
    FIRST_INPUT,
    FREE,
    HOLE,
    LITERAL,
    ROWS,
    SHIFT,
    THETA,
    factor,
    host,
    ranked,
    unique,
)
from .gathers import gather_once
from .pieces import of_terms, one_by_one
from .record import CONSTANT, INPUT, PARAMETER, Graph
from .steps import (
    COPY,
    HIGHEST,
    LOWEST,
    MULTIPLY_ADD,
    ZERO,
    Layout,
    Operand,
    Step,
    grid_steps,
    regular_form,
)

FEW = 3  # terms that are added up elementwise, rather than along an axis
_PADDING = {total_of: ZERO, largest_of: LOWEST, smallest_of: HIGHEST}


class Factors(NamedTuple):
    """The operands of a step of dots, and its form."""

    form: str
    left: Operand
    right: Operand


def lay_out(
    graph: Graph, groups: Sequence[np.ndarray], parameters: int, inputs: Sequence[int]
) -> Layout:
    """The steps that compute `groups`, given how many parameters and cells of every input."""
    return gather_once(_Layouter(graph, parameters, inputs).run(groups))


class _Layouter:
    """Lays out, group by group."""

    def __init__(self, graph: Graph, parameters: int, inputs: Sequence[int]) -> None:
        self.graph = graph
        self.layout = Layout()
        self.layout.sizes[THETA] = parameters
        self.layout.sizes += inputs
        self.by_row = graph.depends_on(INPUT)
        self.uses = graph.uses()
        self.cell = np.full(len(graph), HOLE)
        self.bias = np.full(len(graph), HOLE)  # of a dot, while it is laid out
        nodes = graph.kind == PARAMETER
        self.cell[nodes] = (THETA << SHIFT) + graph.slot[nodes]
        nodes = graph.kind == INPUT
        ends = np.cumsum(inputs)
        which = np.searchsorted(ends, graph.slot[nodes], side="right")
        starts = ends - np.array(inputs, dtype=int)
        self.cell[nodes] = (FIRST_INPUT + which << SHIFT) + graph.slot[nodes] - starts[which]
        constants = np.flatnonzero(graph.kind == CONSTANT)
        if len(constants):  # equal numbers are one cell: the first of them
            bits = ranked(graph.data[constants].view(np.int64))
            self.cell[constants] = (LITERAL << SHIFT) + constants[bits.first[bits.which]]
        self.blocks: dict[int, list[tuple[int, tuple[int, ...]]]] = {FREE: [], ROWS: []}

    def run(self, groups: Sequence[np.ndarray]) -> Layout:
        for nodes in groups:
            row = self.graph.rows[self.graph.op[nodes[0]]]
            lengths = self.graph.start[nodes + 1] - self.graph.start[nodes]
            if row is dot_of:
                self.products(nodes, lengths)
                continue
            for length in unique(lengths) if row not in _PADDING else [lengths.max()]:
                some = nodes if row in _PADDING else nodes[lengths == length]
                operands = self.operands_of(some, int(length), _PADDING.get(row, ZERO))
                if row in _PADDING:
                    self.fold(row, some, operands)
                elif row is take_of:
                    self.take(row, some, operands)
                else:
                    self.map(row, some, operands)
        self.layout.outputs = self.cell[self.graph.outputs]
        return self.layout

    def operands_of(self, nodes: np.ndarray, length: int, padding: int) -> np.ndarray:
        """(n, length) addresses, padded with a reserved cell where a node has fewer operands."""
        start, stop = self.graph.start[nodes, None], self.graph.start[nodes + 1, None]
        index = start + np.arange(length)
        cells = self.cell[self.graph.operands[np.minimum(index, stop - 1)]]
        short = index >= stop
        if short.any():
            self.layout.padded = True
            cells[short] = (self.buffer(nodes) << SHIFT) + padding
        return cells

    def buffer(self, nodes: np.ndarray) -> int:
        """The space that these nodes' cells are in."""
        return ROWS if self.by_row[nodes[0]] else FREE

    # -- results
    def allocate(self, nodes: np.ndarray, once: bool) -> Operand:
        """A block of new cells in the shape of `nodes` (-1: dead), if `once` for all rows."""
        live = nodes >= 0
        space = FREE if once else self.buffer(nodes[live])
        out = self.layout.new_cells(nodes.shape, space)
        self.blocks[space].append((out.view[1], nodes.shape))
        self.cell[nodes[live]] = out.addresses[live]
        return out

    def operand(self, cells: np.ndarray) -> Operand:
        """The simplest form of an operand with these addresses; holes may be anything."""
        for axis in range(cells.ndim):  # an axis along which nothing changes is broadcast
            if cells.shape[axis] > 1:
                first = cells.max(axis, keepdims=True)
                if ((cells == first) | (cells == HOLE)).all():
                    cells = first
        return self.matrix(cells)

    def matrix(self, cells: np.ndarray) -> Operand:
        """The operand with these addresses, every axis in full."""
        live = cells.reshape(-1) if cells.min() != HOLE else cells[cells != HOLE]
        if _is_constant(live):
            filled = np.where(cells == HOLE, live[0], cells)
            bits = self.graph.data.view(np.int64)[filled - (LITERAL << SHIFT)]  # 0.0 is not -0.0
            for axis in range(bits.ndim):
                first = bits.take([0], axis=axis)
                if bits.shape[axis] > 1 and np.all(bits == first):
                    bits = first
            return Operand(cells.shape, literal=bits.view(np.float64))
        regular = regular_form(cells, self.layout.sizes)
        dead = None
        if regular is None:
            if len(live) < cells.size:  # dead members read a live cell, which is a sane number
                dead = cells == HOLE
                cells = np.where(dead, live[0], cells)
            fixed = cells >> SHIFT == LITERAL
            if fixed.any():
                numbers = np.zeros(cells.shape)
                numbers[fixed] = self.graph.data[cells[fixed] - (LITERAL << SHIFT)]
                return Operand(cells.shape, cells=cells, literal=numbers, dead=dead)
        else:
            space, offset, strides = regular
            cells = (space << SHIFT) + offset + grid_steps(cells.shape, strides)
        return Operand(cells.shape, cells=cells, regular=regular, dead=dead)

    # -- forms
    def map(self, row: Operation, nodes: np.ndarray, operands: np.ndarray) -> None:
        """Elementwise: the members take the grid of the operand that varies most."""
        position, shape = self.grid(operands)
        if len(shape) == 1 and len(position) == shape[0]:
            order = np.argsort(position)
            columns = [cells[order] for cells in operands.T]
            irregular = [
                not (_is_constant(cells) or regular_form(cells, self.layout.sizes))
                for cells in columns
            ]
            shape = self.split(list(compress(columns, irregular)), len(order))
            # if there is nothing to keep in order: what is used equally often, side by side
            if len(shape) == 1 and all(irregular):
                order = order[np.argsort(-self.uses[nodes[order]], kind="stable")]
                position[order] = np.arange(len(order))
        grid = np.full(math.prod(shape), -1)
        grid[position] = nodes
        arranged = []
        for cells in operands.T:
            holes = np.full(grid.size, HOLE)
            holes[position] = cells
            arranged.append(self.operand(holes.reshape(shape)))
        self.add("map", row, arranged, grid.reshape(shape))

    def grid(self, operands: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
        """For n members with k operands each: a position in a grid for every member, its shape."""
        n = len(operands)
        variety = [
            0 if cells[0] >> SHIFT == LITERAL else len(unique(cells)) for cells in operands.T
        ]
        for k in sorted(range(len(variety)), key=lambda k: -variety[k]):
            if variety[k] < n:
                break
            found = self.block_grid(operands[:, k])
            if found is not None:
                return found
        varied = [k for k in range(len(variety)) if variety[k] > 1]
        if len(varied) >= 2 and max(variety) < n:  # such as x[i] * y[j] for all i and j
            a, b = sorted(varied, key=lambda k: -variety[k])[:2]
            i, j = (ranked(operands[:, k]).which for k in (a, b))
            shape = (int(i.max()) + 1, int(j.max()) + 1)
            place = i * shape[1] + j
            if shape[0] * shape[1] <= 2 * n and len(unique(place)) == n:
                return place, shape
        order = np.lexsort(operands.T[np.argsort(variety, kind="stable")])
        position = np.empty(n, dtype=int)
        position[order] = np.arange(n)
        return position, (n,)

    def split(self, operands: list[np.ndarray], n: int) -> tuple[int, ...]:
        """For n members in a row: (n,), or two axes if an operand repeats within or between runs.

        A scale per token, say, beside the coordinates of all tokens in one row of cells. The
        operands are the irregular ones.
        """
        for cells in operands if n >= 4 else ():
            change, again = cells != cells[0], cells == cells[0]
            run = int(np.argmax(change)) if change.any() else n
            period = int(np.argmax(again[1:])) + 1 if again[1:].any() else n
            for width in (run, period):
                if 1 < width < n and n % width == 0:
                    grid = cells.reshape(n // width, width)
                    same = (grid == grid[:, :1]).all() or (grid == grid[:1]).all()
                    if same or regular_form(grid, self.layout.sizes):
                        return n // width, width
        return (n,)

    def block_of(self, cells: np.ndarray) -> np.ndarray:
        """What is the same for the cells of one block, or of one space without blocks."""
        found = cells >> SHIFT << SHIFT
        for space, blocks in self.blocks.items():
            here = cells >> SHIFT == space
            starts = np.array([(space << SHIFT) + start for start, _ in blocks])
            found[here] += np.searchsorted(starts, cells[here], side="right")
        return found

    def block_grid(self, cells: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]] | None:
        """Positions within the box of one block that these different cells fill to a half."""
        n, low, high = len(cells), int(cells.min()), int(cells.max())
        space = low >> SHIFT
        if high >> SHIFT != space:
            return None
        offset = low - (space << SHIFT)
        for start, shape in reversed(self.blocks.get(space, [])):
            if start <= offset:
                if high - (space << SHIFT) < start + math.prod(shape):
                    axes = np.stack(np.unravel_index(cells - (space << SHIFT) - start, shape))
                    axes = axes - axes.min(axis=1, keepdims=True)
                    box = tuple(int(extent) + 1 for extent in axes.max(axis=1))
                    if math.prod(box) <= 2 * n:
                        return np.ravel_multi_index(tuple(axes), box), box
                break
        if high - low + 1 <= 2 * n:  # several blocks, one behind the other
            return cells - low, (high - low + 1,)
        return None

    def fold(self, row: Operation, nodes: np.ndarray, operands: np.ndarray) -> None:
        """A total, max or min over the last axis.

        The total of what all rows share is a step of its own: a penalty, say, beside the loss.
        """
        shared = ~_is_by_row(operands)
        few = int(shared[0].sum()) <= FEW or row is not total_of
        if not (few or shared.all()) and (shared == shared[0]).all():
            of_shared = self.matrix(operands[:, shared[0]])
            self.add("fold", row, [of_shared], nodes, part=True)
            operands = np.hstack([operands[:, ~shared[0]], self.cell[nodes, None]])
            if operands.shape[1] == 2:
                self.map(add, nodes, operands)
                return
        order = np.lexsort((operands[:, -1], operands[:, 0]))
        operand = self.matrix(operands[order])
        if operand.regular is None:  # the order of what is added up does not matter
            operand = self.matrix(np.sort(operands[order], axis=1))
        self.add("fold", row, [operand], nodes[order])

    def take(self, row: Operation, nodes: np.ndarray, operands: np.ndarray) -> None:
        """values[index], where the first operand is the index: a grid of indices x value lists."""
        for product in factor(operands[:, :1], operands[:, 1:], nodes):
            index, values = self.matrix(product.left), self.matrix(product.right)
            self.add("take", row, [index, values], product.nodes)

    def products(self, nodes: np.ndarray, lengths: np.ndarray) -> None:
        """Dots: matrix products, or elementwise where there is one term only."""
        biased = lengths % 2 == 1
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]] = []
        zero = (self.buffer(nodes) << SHIFT) + ZERO
        for with_bias in (True, False):
            some, sizes = nodes[biased == with_bias], lengths[biased == with_bias]
            if not len(some):
                continue
            buckets = [some[sizes == size] for size in unique(sizes)]
            every = np.concatenate(buckets)
            left, right, bias = [], [], []
            for bucket, size in zip(buckets, unique(sizes).tolist(), strict=True):
                cells = self.operands_of(bucket, size, ZERO)
                left.append(cells[:, : size // 2])
                right.append(cells[:, size // 2 : 2 * (size // 2)])
                bias.append(cells[:, -1])
            biases = np.concatenate(bias)
            for a, b, which in host(left, right, zero, self.block_of):
                for cells in (a, b):
                    pads = cells == zero
                    if pads.any():
                        self.layout.padded = True
                        # a tuple that is the same for all rows stays so
                        once = ~_each_by_row(np.where(pads, (FREE << SHIFT) + ZERO, cells))
                        cells[pads & once[:, None]] = (FREE << SHIFT) + ZERO
                found.append((every[which], a, b, biases[which] if with_bias else None))
        # first what parameters alone make, such as a penalty: its adjoint then comes last,
        # when there is something to add it to
        found.sort(key=lambda dots: not (_of_theta(dots[1]) and _of_theta(dots[2])))
        for dots in found:
            self.product(*dots)

    def product(
        self, nodes: np.ndarray, left: np.ndarray, right: np.ndarray, bias: np.ndarray | None
    ) -> None:
        """Dots of one length: left and right (n, K) addresses."""
        if left.shape[1] == 0:  # nothing but a bias
            assert bias is not None
            self.map(COPY, nodes, bias[:, None])
            return
        if left.shape[1] == 1:
            columns = [left, right] if bias is None else [left, right, bias[:, None]]
            self.map(multiply if bias is None else MULTIPLY_ADD, nodes, np.hstack(columns))
            return
        if bias is not None:
            self.bias[nodes] = bias
        if bias is not None and _by_row(bias):
            # where nothing else differs from row to row, there are no matrices of rows
            alone = ~(_each_by_row(left) | _each_by_row(right))
            if alone.any():
                both, biases = [left[alone], right[alone]], self.operand(bias[alone])
                self.add("inner", dot_of, [*map(self.matrix, both), biases], nodes[alone])
            left, right, nodes = left[~alone], right[~alone], nodes[~alone]
        by_row = bias is not None and _by_row(bias)
        for found in factor(left, right, nodes) if len(nodes) else ():
            a, b, grid = found.left, found.right, found.nodes
            if _by_row(a) and not _by_row(b):  # what all rows share stands left: W @ X
                a, b, grid = b, a, grid.swapaxes(1, 2)
            if grid.shape[0] > 1 and grid.shape[1:] == (1, 1):
                a, b, grid = a[:, 0], b[:, 0], grid[:, 0, 0]
                self.sums(self.factors("inner", a, b, by_row), grid, bias is not None)
                continue
            if len(grid) == 1:
                a, b, grid = a[0], b[0], grid[0]
            self.sums(self.factors("product", a, b, by_row), grid, bias is not None)

    def factors(
        self, form: str, left: np.ndarray, right: np.ndarray, by_row: bool
    ) -> list[Factors]:
        """left (..., K) and right (..., K) as operands; in pieces along K if these are views.

        W @ h + U @ x where [W U] would be gathered for every step of a recurrent network (0.52 to
        0.99 of the time), and where [h x] would by row, from several spaces (0.83 to 1.2 of it);
        g * h + (1 - g) * n rather than an axis of two (0.92 to 1.00). First come those that are
        the same for all rows; by_row tells whether the sums start with something that is not.
        """
        whole = self.pair(form, left, right)
        a, b = whole.left, whole.right
        mixed = not b.is_view and _varies([b]) and len(b.spaces) > 1
        pieces: list[slice] = []
        if np.array_equal(left, right):  # x . x is quicker whole
            pass
        elif form == "inner" and left.shape[-1] <= FEW:
            pieces = one_by_one(left)
        elif max(left.size, right.size) > left.shape[-1]:  # more than a single dot
            if mixed or not a.is_view or form == "inner" and not b.is_view:
                pieces = of_terms(left, right)
        found = [self.pair(form, left[..., k], right[..., k]) for k in pieces]
        # parameters may lie here and there: if they do so again and again, they are gathered once
        views = all(
            b.is_view and (a.is_view or mixed and _of_theta(a.addresses)) for _, a, b in found
        )
        # what all rows share stands left in a product
        views &= not any(f == "product" and _varies([a]) > _varies([b]) for f, a, b in found)
        varies = [_varies([a, b]) for _, a, b in found]
        if not found or not views or by_row and not all(varies):
            return [whole]
        return [found[i] for i in np.argsort(varies, kind="stable")]

    def pair(self, form: str, left: np.ndarray, right: np.ndarray) -> Factors:
        """left and right (..., K) as the operands of a step, in the simplest form there is."""
        if form == "inner" and left.shape[-1] == 1:
            return Factors("map", self.operand(left[..., 0]), self.operand(right[..., 0]))
        if form == "inner" and (right == right[:1]).all():  # with one and the same
            form, right = "product", right[:1]
        if form == "inner":
            return Factors(form, self.matrix(left), self.matrix(right))
        return Factors(form, self.matrix(left), self.matrix(right.swapaxes(-1, -2)))

    def sums(self, factors: list[Factors], grid: np.ndarray, biased: bool) -> None:
        """Dots: a step for each piece of their terms, which adds to the one before."""
        known = self.bias if biased else None
        for form, left, right in factors:
            # matrices, where others of these dots are a list
            nodes = grid[:, None] if form == "product" and grid.ndim == 1 else grid
            operands = [left, right]
            if known is not None:
                operands.append(self.operand(np.where(nodes >= 0, known[nodes], HOLE)))
            row = dot_of
            if form == "map":
                row = multiply if known is None else MULTIPLY_ADD
            self.add(form, row, operands, nodes, part=right is not factors[-1].right)
            known = self.cell

    def add(
        self,
        form: str,
        row: Operation,
        operands: list[Operand],
        nodes: np.ndarray,
        part: bool = False,
    ) -> None:
        # dead cells of elementwise steps concern nobody: their adjoints are selected (forms.py)
        self.layout.padded |= form != "map" and bool((nodes < 0).any())
        out = self.allocate(nodes, part and not _varies(operands))
        self.layout.steps.append(Step(form, row, operands, out, nodes, part))


def _is_constant(cells: np.ndarray) -> bool:
    return int(cells[0]) >> SHIFT == LITERAL and bool((cells >> SHIFT == LITERAL).all())


def _of_theta(cells: np.ndarray) -> bool:
    return bool((cells >> SHIFT == THETA).all())


def _by_row(cells: np.ndarray) -> bool:
    return bool(_each_by_row(cells).any())


def _varies(operands: Sequence[Operand]) -> bool:
    """Whether any of them holds a number for every row."""
    return any(x.cells is not None and _by_row(x.cells) for x in operands)


def _each_by_row(cells: np.ndarray) -> np.ndarray:
    """Whether any in the last axis holds a number for every row."""
    return _is_by_row(cells).any(-1)


def _is_by_row(cells: np.ndarray) -> Any:
    """The same cell by cell."""
    spaces = cells >> SHIFT
    return (spaces == ROWS) | (spaces >= FIRST_INPUT)
