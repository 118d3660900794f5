"""Loans: an adjoint that equals another is not copied until something is added to it.

Backward through `a + b` the adjoints of both operands are the adjoint of the sum, and through a
total that of every term is the adjoint of the total. Where an operand is the whole block of an
earlier step, that step reads the later one's adjoint in place of its own.
"""

from __future__ import annotations

import numpy as np

from .cells import Marks, shows_once, spread
from .factor import FREE, ROWS, SHIFT, unique
from .steps import Layout, Operand, regular_form


class Loans:
    """Whose adjoint stands for which block's.

    open      block -> its view, and what it reads
    borrowed  the cells of all blocks that have ever been there
    """

    def __init__(self, layout: Layout) -> None:
        self.sizes = layout.sizes
        self.blocks = {space: layout.blocks(space) for space in (FREE, ROWS)}
        self.starts = {
            space: np.array([block.view[1] for block in blocks], dtype=np.int64)
            for space, blocks in self.blocks.items()
        }
        self.open: dict[Operand, tuple[Operand, Operand]] = {}
        self.borrowed = Marks(layout.sizes)

    def block(self, operand: Operand) -> Operand | None:
        """The block that consists of this operand's cells, each of them once."""
        blocks = self.touched(operand.addresses) if shows_once(operand) else []
        whole = len(blocks) == 1 and operand.addresses.size == blocks[0].addresses.size
        return blocks[0] if whole else None

    def touched(self, cells: np.ndarray) -> list[Operand]:
        """The blocks that these cells belong to."""
        found = []
        for space, blocks in self.blocks.items():
            at = cells[cells >> SHIFT == space] - (space << SHIFT)
            numbers = unique(np.searchsorted(self.starts[space], at, side="right") - 1)
            found += [blocks[number] for number in numbers[numbers >= 0].tolist()]
        return found

    def lend(self, operand: Operand, cells: np.ndarray) -> bool:
        """Let an operand read its adjoint at these addresses, if it is a whole block."""
        block = self.block(operand)
        cells = spread(cells, operand.shape)
        regular = regular_form(cells, self.sizes)
        if block is None or block in self.open or regular is None:
            return False
        self.borrowed.mark(block)
        self.open[block] = operand, Operand(operand.shape, cells, regular=regular)
        return True

    def source(self, block: Operand, operand: Operand) -> Operand | None:
        """What a borrowing block reads, arranged as an operand of its cells; None if not a view."""
        own, lender = self.open[block]
        first = block.addresses.min()
        cells = np.empty(block.addresses.size, dtype=np.int64)
        cells[own.addresses - first] = lender.addresses
        cells = cells[operand.addresses - first]
        regular = regular_form(cells, self.sizes)
        return None if regular is None else Operand(operand.shape, cells, regular=regular)
