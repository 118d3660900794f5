"""Arrivals: which terms of the adjoint are still to be added to which cells.

An operand that is no view sends its adjoint to cells here and there. Adding it there and then reads
and writes every cell once per use; instead the terms stay where they are, and a block of cells
fetches all of its terms when its turn comes (19 -> 7 ns a node a row in an irregular graph at 256
rows). This file only keeps the books; the lines are in adjoints.py.
"""

from __future__ import annotations

import numpy as np

from .factor import ranked


class Arrivals:
    """For every block of cells: the pairs (cell, where its term lies).

    starts  space -> the first cell of each of its blocks, ascending
    """

    def __init__(self, starts: dict[int, np.ndarray]) -> None:
        self.starts = starts
        self.waiting: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}

    def send(self, space: int, cells: np.ndarray, at: np.ndarray) -> None:
        """Note that cells[i] of `space` awaits the term at at[i], among the adjoints."""
        cells, at = in_order(cells, at)
        block = np.searchsorted(self.starts[space], cells, side="right")
        cuts = [0, *((block[1:] != block[:-1]).nonzero()[0] + 1).tolist(), len(cells)]
        for a, b in zip(cuts, cuts[1:], strict=False):
            if a < b:
                self.waiting.setdefault((space, int(block[a])), []).append((cells[a:b], at[a:b]))

    def fetch(self, space: int, cell: int) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (cells, at) of the block of a cell, by ascending cell."""
        block = int(np.searchsorted(self.starts[space], cell, side="right"))
        pairs = self.waiting.pop((space, block), [])
        if not pairs:
            return np.empty(0, dtype=int), np.empty(0, dtype=int)
        cells, at = map(np.concatenate, zip(*pairs, strict=True))
        return in_order(cells, at)


def in_order(cells: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs by ascending cell; those of one cell in the order in which they came."""
    order = np.argsort(cells, kind="stable")
    return cells[order], at[order]


def in_slabs(
    cells: np.ndarray, at: np.ndarray, nothing: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Pairs in ascending order of cells: the different cells, and their terms slab by slab.

    Those cells come first that have most terms, so that a slab, (m, k), has m terms more of the
    first k cells: one, one, two, four ... terms, that there be few. What is missing to a power of
    two lies at `nothing`.
    """
    found, starts, _, counts = ranked(cells)
    order = np.argsort(-counts, kind="stable")
    starts, counts = starts[order], counts[order]
    slabs, begin, end = [], 0, 1
    while begin < counts.max(initial=0):
        some = counts > begin
        term = np.arange(begin, end)[:, None]
        place = np.minimum(starts[some] + term, len(at) - 1)
        slabs.append(np.where(term < counts[some], at[place], nothing))
        begin, end = end, 2 * end
    return found[order], slabs
