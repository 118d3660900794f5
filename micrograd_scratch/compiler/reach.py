"""Reach: whether arrays could meet "0 times infinity" where the scalar graph has no product.

A partial that is None, always or under a condition, leaves a node unreached, and scalar code does
not visit it. Arrays carry a 0.0 there instead, and 0.0 * inf is nan. So a program is doubtful if an
adjoint that may be such a 0.0 is multiplied by anything but a constant. An adjoint to which more
arrives without a condition is surely reached; so is one that collects from every value of a list
that one is taken of, such as the logsumexp in a cross-entropy, whose gradient is not doubtful.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operations import Conditional, Symbol
from .factor import LITERAL, SHIFT
from .layout import Layout, Operand, Step

# What reaches a cell: nothing, something for sure, perhaps something; from FIRST on, one member of
# a list that one is taken of: FIRST + LONGEST * list + member.
NOTHING, SURELY, PERHAPS, FIRST = range(4)
LONGEST = 1 << 32


def is_doubtful(layout: Layout) -> bool:
    """Whether a gradient needs to be computed anew, scalar by scalar, if it is not finite."""
    if not any(step.form == "take" or step.row.selective for step in layout.steps):
        return False
    reach = _Reach(layout)
    return any(reach.is_doubtful(step) for step in reversed(layout.steps))


class _Reach:
    def __init__(self, layout: Layout) -> None:
        self.of_cell = [np.full(size, NOTHING) for size in layout.sizes]
        self.lengths: list[int] = []  # of the lists that one value is taken of
        for cell in layout.outputs[layout.outputs >> SHIFT != LITERAL].tolist():
            self.of_cell[cell >> SHIFT][cell & (1 << SHIFT) - 1] = SURELY

    def is_doubtful(self, step: Step) -> bool:
        """Go back through one step: whether it multiplies what may not have been reached."""
        space, offset, _ = step.out.view
        arrived = self.of_cell[space][offset : offset + step.nodes.size].reshape(step.nodes.shape)
        if not arrived.any():
            return False
        arrived = np.where(arrived == NOTHING, PERHAPS, arrived)  # a 0.0 beside what is reached
        arrived = np.where(step.nodes < 0, NOTHING, arrived)
        unsure = bool((arrived > SURELY).any())
        for operand, slope in zip(step.operands, _slopes(step), strict=True):
            if slope is None:
                continue
            here = arrived
            if isinstance(slope, Conditional):
                slope, here = slope.partial, np.minimum(arrived, 1) * PERHAPS
            if unsure and not isinstance(slope, (int, float)):
                return True
            if step.form == "product":
                here = np.full(operand.shape, SURELY)
            elif step.form == "take":
                here = self.one_of_each(operand, arrived)
            elif step.form == "fold" or step.form == "inner" and isinstance(slope, Symbol):
                here = here[..., None]
            self.arrive(operand, here)
        return False

    def one_of_each(self, values: Operand, arrived: np.ndarray) -> np.ndarray:
        """What arrives at lists (B, C, width) if one value each is taken, R times: (B, R, C)."""
        lists, columns, width = values.shape
        number = np.arange(lists * columns).reshape(lists, columns, 1) + len(self.lengths)
        self.lengths += [width] * (lists * columns)
        surely = (arrived == SURELY).any(axis=1)[..., None]
        return np.where(surely, FIRST + LONGEST * number + np.arange(width), PERHAPS)

    def arrive(self, operand: Operand, found: np.ndarray) -> None:
        """Note at an operand's cells what arrives there."""
        if operand.cells is None:
            return
        shape = np.broadcast_shapes(operand.shape, found.shape)
        cells, found = (np.broadcast_to(x, shape).reshape(-1) for x in (operand.cells, found))
        for space in operand.spaces:
            here = (cells >> SHIFT == space) & (found != NOTHING)
            if space == LITERAL or not here.any():
                continue
            known, at, what = self.of_cell[space], cells[here] & (1 << SHIFT) - 1, found[here]
            known[at[what == SURELY]] = SURELY
            at, what = at[what > SURELY], what[what > SURELY]
            members = np.unique(np.stack([at, what])[:, what >= FIRST], axis=1)
            members[1] = (members[1] - FIRST) // LONGEST
            (into, lists), count = np.unique(members, axis=1, return_counts=True)
            known[into[count == np.array(self.lengths, dtype=int)[lists]]] = SURELY
            _, which, times = np.unique(at, return_inverse=True, return_counts=True)
            alone = (times[which] == 1) & (known[at] == NOTHING)
            known[at[~alone]] = np.where(known[at[~alone]] == SURELY, SURELY, PERHAPS)
            known[at[alone]] = what[alone]


def _slopes(step: Step) -> Sequence[Any]:
    """For every operand: None, a number, `Conditional`, or a Symbol for what multiplies."""
    count, anything = len(step.operands), Symbol("slope")
    if step.form == "take":
        return None, 1.0
    if step.form == "fold":
        return (1.0,)  # ties for the largest share it, by finite numbers
    if step.form in ("product", "inner"):
        return (anything, anything, 1.0)[:count]
    try:
        return step.row.partials(Symbol("y"), *(Symbol(f"x{i}") for i in range(count)))
    except TypeError:  # a rule that branches on its numbers
        return [Conditional(anything, anything)] * count
