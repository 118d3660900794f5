"""Steps: what a layout consists of - cells, the operands that show them, and array steps.

Where cells lie at regular distances, an operand is a view: an offset and one stride per axis, which
covers slices, broadcasts, transposes and convolution windows. It leaves out how the nodes of a
graph become cells and steps: layout.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..operations import Operation, operation
from .factor import HOLE, SHIFT, unique

# Cells that every buffer starts with: what pads tuples of unequal length.
ZERO, LOWEST, HIGHEST = range(3)
RESERVED = (0.0, -np.inf, np.inf)
# a dot of one term and a bias, and of a bias alone, elementwise
MULTIPLY_ADD = operation(
    "dot",
    lambda a, b, c: a * b + c,
    lambda y, a, b, c: (b, a, 1.0),
    array=lambda a, b, c: a * b + c,
)
COPY = operation("dot", lambda x: x, lambda y, x: (1.0,), array=lambda x: x)
# of what the steps below would gather, or from elsewhere (gathers.py)
GATHER = operation("gather", lambda x: x, lambda y, x: (1.0,), array=lambda x: x)


@dataclass(eq=False)
class Operand:
    """Where a step finds one operand.

    shape    of the step's grid (for dots: the matrix), with 1 where the operand is broadcast
    cells    the addresses, in that shape; None if all are constants
    literal  the numbers where they are constants
    regular  (space, offset, strides) if the cells are a view
    dead     where no live member reads, if the cells are gathered
    """

    shape: tuple[int, ...]
    cells: np.ndarray | None = None
    literal: np.ndarray | None = None
    regular: tuple[int, int, tuple[int, ...]] | None = None
    dead: np.ndarray | None = None

    @property
    def addresses(self) -> np.ndarray:
        """The cells of an operand that is not all constants."""
        assert self.cells is not None
        return self.cells

    @property
    def view(self) -> tuple[int, int, tuple[int, ...]]:
        """The regular form of an operand that has one."""
        assert self.regular is not None
        return self.regular

    @property
    def is_view(self) -> bool:
        """Whether it is read where it is: a view, or one constant for all."""
        return self.cells is None or self.regular is not None

    @property
    def space(self) -> int:
        """The space of its cells, where they are in one."""
        return self.regular[0] if self.regular else int(self.addresses.flat[0]) >> SHIFT

    @cached_property
    def spaces(self) -> list[int]:
        """The spaces that its cells are in, ascending."""
        if self.regular is not None:
            return [self.regular[0]]
        return [] if self.cells is None else unique(self.cells >> SHIFT).tolist()

    @cached_property
    def once(self) -> bool:
        """Whether every cell occurs once."""
        return len(unique(self.addresses)) == self.addresses.size


@dataclass(eq=False)
class Step:
    """One group, or a part of it: `row` applied to `operands` gives the block of cells `out`.

    form     "map" (elementwise), "product" (matrices; operands left, right and perhaps a bias),
             "inner" (dots that share nothing, over the last axis of left and right),
             "fold" (total, max, min over the last axis of its one operand), "take"
    nodes    node numbers, in the shape of the block; -1 for dead cells
    part     whether these are only the first terms of sums that the next step goes on with
    """

    form: str
    row: Operation
    operands: list[Operand]
    out: Operand
    nodes: np.ndarray
    part: bool = False

    @property
    def stands_for(self) -> str:
        """How many scalar nodes it stands for, in words."""
        if self.row is GATHER:
            return "for steps below"
        live = int((self.nodes >= 0).sum())
        return f"{'part of ' * self.part}{live:,} scalar node{'s' * (live > 1)}"


@dataclass
class Layout:
    """All steps in order, the sizes of the spaces, and where the results lie.

    padded  whether dead cells, or what pads tuples, are numbers that the graph never met
    copied  the address of a copied cell -> the address that it was copied from (gathers.py)
    """

    steps: list[Step] = field(default_factory=list)
    sizes: list[int] = field(default_factory=lambda: [0, len(RESERVED), len(RESERVED), 0])
    outputs: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=int))
    padded: bool = False
    copied: dict[int, int] = field(default_factory=dict)

    def new_cells(self, shape: tuple[int, ...], space: int) -> Operand:
        """A block of new cells."""
        offset, size = self.sizes[space], math.prod(shape)
        self.sizes[space] += size
        cells = ((space << SHIFT) + offset + np.arange(size)).reshape(shape)
        strides = (n > 1 and s // cells.itemsize for n, s in zip(shape, cells.strides, strict=True))
        return Operand(shape, cells, regular=(space, offset, tuple(map(int, strides))))

    def blocks(self, space: int) -> list[Operand]:
        """What steps compute in a space, in the order of its cells."""
        found = [step.out for step in self.steps if step.out.view[0] == space]
        return sorted(found, key=lambda block: block.view[1])

    def boxes(self) -> list[tuple[Step, slice]]:
        """Every step that completes its nodes, and that with the steps before that begin to."""
        found, first = [], 0
        for i, step in enumerate(self.steps):
            if not step.part:
                found.append((step, slice(first, i + 1)))
                first = i + 1
        return found


def grid_steps(shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """sum_j strides[j] * index_j over a grid."""
    steps = np.zeros(shape, dtype=int)
    for axis, stride in enumerate(strides):
        steps += (np.arange(shape[axis]) * stride).reshape([-1] + [1] * (len(shape) - axis - 1))
    return steps


def regular_form(
    cells: np.ndarray, sizes: Sequence[int]
) -> tuple[int, int, tuple[int, ...]] | None:
    """(space, offset, strides) if the addresses are regular wherever they are not holes."""
    flat, shape = cells.reshape(-1), cells.shape
    live, first, strides = None, 0, []
    if flat.min() == HOLE:
        live = cells != HOLE
        first = int(live.argmax())
    for axis, extent in enumerate(shape):
        if extent == 1:
            stride: int | None = 0
        elif live is None:
            stride = int(flat[math.prod(shape[axis + 1 :])] - flat[0])
        else:
            stride = _stride(cells, live, axis)
        if stride is None:
            return None
        strides.append(stride)
    address = int(flat[first])
    offset = address - sum(
        int(i) * stride for i, stride in zip(np.unravel_index(first, shape), strides, strict=True)
    )
    ways = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
    if live is None and offset + sum(ways) != flat[-1]:  # most of what is irregular ends elsewhere
        return None
    same = offset + grid_steps(shape, tuple(strides)) == cells
    if not (same if live is None else same | ~live).all():
        return None
    space = address >> SHIFT
    offset -= space << SHIFT
    if offset + sum(w for w in ways if w < 0) < 0:
        return None
    if offset + sum(w for w in ways if w > 0) >= sizes[space]:
        return None
    return space, offset, tuple(strides)


def _stride(cells: np.ndarray, live: np.ndarray, axis: int) -> int | None:
    """From a cell to the next along an axis, as the first two that are no holes have it."""
    low, high = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
    both = live[low] & live[high]
    if not both.any():
        return None
    at = np.unravel_index(both.argmax(), both.shape)
    return int(cells[high][at] - cells[low][at])
