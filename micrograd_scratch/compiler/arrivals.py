"""Arrivals: which terms of the adjoint are still to be added to which cells.

An operand that is no view sends its adjoint to cells here and there. Adding it there and then reads
and writes every cell once per use; instead the terms stay where they are, and a block of cells
fetches all of its terms when its turn comes (19 -> 7 ns a node a row in an irregular graph at 256
rows). This file only keeps the books; the lines are in adjoints.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cells import shows_once
from .factor import ranked
from .steps import Layout, Operand

ONE_BY_ONE = 3  # terms of a cell that have a slab of their own: 0.97 of the time


class Arrivals:
    """For every block of cells: the pairs (cell, where its term lies).

    wanted  operand -> where in its grid it wants adjoints, and for which cells of its space
    """

    def __init__(
        self, layout: Layout, wanted: Callable[[Operand], tuple[np.ndarray, np.ndarray]]
    ) -> None:
        spaces = range(len(layout.sizes))
        awaited: list[list[np.ndarray]] = [[np.empty(0, dtype=int)] for _ in spaces]
        counts = [0 for _ in spaces]
        self.senders: dict[Operand, list[tuple[np.ndarray, slice]]] = {}  # where in `terms`
        for operand in (operand for step in layout.steps for operand in step.operands):
            if operand.cells is not None and not shows_once(operand):
                space, (here, cells) = operand.space, wanted(operand)
                awaited[space].append(cells)
                part = slice(counts[space], counts[space] + len(cells))
                self.senders.setdefault(operand, []).append((here, part))
                counts[space] = part.stop
        every = [np.concatenate(cells) for cells in awaited]
        self.order = [np.argsort(cells, kind="stable") for cells in every]
        self.cells = [cells[order] for cells, order in zip(every, self.order, strict=True)]
        self.terms = [np.full(count, -1) for count in counts]
        self.starts = [
            np.array([0, *(block.view[1] for block in layout.blocks(space)), max(size, 1)])
            for space, size in enumerate(layout.sizes)
        ]

    def send(self, operand: Operand, at: np.ndarray) -> None:
        """Note where the terms of an operand's adjoint lie, in the shape of its grid."""
        here, part = self.senders[operand].pop()
        self.terms[operand.space][part] = at.reshape(-1)[here]

    def fetch(self, space: int, cell: int) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (cells, at) of the block of a cell, by ascending cell."""
        block = int(np.searchsorted(self.starts[space], cell, side="right"))
        low, high = np.searchsorted(self.cells[space], self.starts[space][block - 1 : block + 1])
        at = self.terms[space][self.order[space][low:high]]
        sent = at >= 0
        return self.cells[space][low:high][sent], at[sent]


def in_slabs(
    cells: np.ndarray, at: np.ndarray, nothing: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Pairs in ascending order of cells: the different cells, and their terms slab by slab.

    Those cells come first that have most terms, so that a slab, (m, k), has m terms more of the
    first k cells: one, one, one, three, six ... terms, that there be few. What is missing lies at
    `nothing`.
    """
    found, starts, _, counts = ranked(cells)
    order = np.argsort(-counts, kind="stable")
    starts, counts = starts[order], counts[order]
    slabs, begin, end, most = [], 0, 1, counts.max(initial=0)
    while begin < most:
        some = counts > begin
        term = np.arange(begin, end)[:, None]
        place = np.minimum(starts[some] + term, len(at) - 1)
        slabs.append(np.where(term < counts[some], at[place], nothing))
        begin, end = end, min(end + 1 if end < ONE_BY_ONE else 2 * end, most)
    return found[order], slabs
