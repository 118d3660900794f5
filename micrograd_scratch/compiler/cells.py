"""Cells: truths about them, and what an address says.

A cell is one number of a program (layout.py): an address is its space, and its place there. This
file leaves out which cells there are, and the numbers in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .factor import FIRST_INPUT, FREE, ROWS, SHIFT, THETA
from .steps import Operand


def by_row(space: int) -> bool:
    """Whether the cells of a space hold a number for every row."""
    return space == ROWS or space >= FIRST_INPUT


def places(addresses: Any) -> Any:
    """Where in their spaces cells are: of an address, or an array of them."""
    return addresses & (1 << SHIFT) - 1


def spread(cells: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cells broadcast to a shape; NumPy takes 4 us to find that it is theirs."""
    return cells if cells.shape == shape else np.broadcast_to(cells, shape)


def shows_once(operand: Operand) -> bool:
    """Whether an operand is a view that shows no cell twice."""
    return operand.regular is not None and operand.once


def buffer_of(space: int) -> str:
    """What the source calls all cells of a space."""
    return {THETA: "theta", FREE: "u", ROWS: "v"}.get(space, f"x{space - FIRST_INPUT}")


class Marks:
    """A truth for every cell; marks[space] are those of a space."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.spaces = [np.zeros(size, dtype=bool) for size in sizes]

    def __getitem__(self, space: int) -> np.ndarray:
        return self.spaces[space]

    def of(self, operand: Operand) -> np.ndarray:
        """The marks of an operand's cells, which are in one space, in its shape."""
        return self[operand.space][places(operand.addresses)]

    def mark(self, operand: Operand) -> None:
        """Mark all cells of an operand, if there are any."""
        if operand.addresses.size:
            self[operand.space][places(operand.addresses)] = True
