"""Gathers: what is read from here and there is first brought to where reading it is cheap.

An operand that is no view is gathered, cell by cell, by every step that reads it. Two passes over
the steps make that less work: what several steps gather alike is gathered once; and what lies in
another space than the rest (a parameter beside hidden states, an input beside the zeros at its
border) is copied to that space once, so that every gather is a single `take`. They leave out how
cells come to lie apart: layout.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .cells import Marks, by_row, places
from .factor import FREE, HOLE, LITERAL, ROWS, SHIFT, THETA, unique
from .steps import GATHER, RESERVED, Layout, Operand, Step, regular_form

OFTEN = 3  # steps that read the same irregular operand: it is gathered once


def gather_once(layout: Layout) -> Layout:
    """The same steps, where what OFTEN of them or more gather alike is gathered before them."""
    keys = {
        operand: (operand.shape, operand.addresses.tobytes())
        for step in layout.steps
        for operand in step.operands
        if step.form != "map" and not operand.is_view
        if operand.literal is None and operand.dead is None
    }
    times = Counter(keys[o] for step in layout.steps for o in step.operands if o in keys)
    if max(times.values(), default=0) < OFTEN:
        return layout
    found = replace(layout, steps=[], sizes=list(layout.sizes))
    gathered: dict[object, Operand] = {}
    for step in layout.steps:
        operands = []
        for operand in step.operands:
            key = keys.get(operand)
            if key is not None and times[key] >= OFTEN:
                if key not in gathered:
                    gathered[key] = _gather(found, operand, max(FREE, _home(operand)))
                operand = gathered[key]
            operands.append(operand)
        found.steps.append(replace(step, operands=operands))
    return found


def in_one_space(layout: Layout) -> Layout:
    """The same steps, where what they gather lies in one space, which is not that of an input.

    Of an input all would be transposed for every `take`.
    """
    homes = {
        operand: _home(operand)
        for step in layout.steps
        for operand in step.operands
        if not operand.is_view and operand.spaces != [_home(operand)]
    }
    if not homes:
        return layout
    found = replace(layout, steps=[], sizes=list(layout.sizes), copied={})
    made = Marks(layout.sizes)
    for space, marks in enumerate(made.spaces):
        marks[:] = space not in (FREE, ROWS)
    strangers = {
        home: _Strangers([o for o, own in homes.items() if own == home], home)
        for home in (FREE, ROWS)
    }
    for each in strangers.values():  # what is there from the start: its adjoint comes last
        each.copy(found, made)
    for step in layout.steps:
        operands = [
            strangers[homes[o]].at_home(o, found, made) if o in homes else o for o in step.operands
        ]
        made.mark(step.out)
        found.steps.append(replace(step, operands=operands))
    return found


class _Strangers:
    """What scattered operands of one home read from other spaces.

    cells    (n,) its addresses, ascending
    copies   (n,) those of its copies at home; HOLE as long as there is none
    numbers  (n,) the numbers of what are constants
    """

    def __init__(self, operands: Sequence[Operand], home: int) -> None:
        self.home = home
        found = [o.addresses[o.addresses >> SHIFT != home] for o in operands]
        self.cells = _filled_up(unique(np.concatenate([np.empty(0, dtype=int), *found])))
        self.copies = np.full(len(self.cells), HOLE)
        self.numbers = np.zeros(len(self.cells))
        for operand in operands:
            if operand.literal is not None:
                fixed = operand.addresses >> SHIFT == LITERAL
                at = np.searchsorted(self.cells, operand.addresses[fixed])
                self.numbers[at] = operand.literal[fixed]
        padding = (self.cells >> SHIFT == FREE) & (places(self.cells) < len(RESERVED))
        self.copies[padding] = (home << SHIFT) + places(self.cells[padding])

    def at_home(self, operand: Operand, layout: Layout, made: Marks) -> Operand:
        """The operand with all its cells at home, once those that are `made` have been copied."""
        cells = operand.addresses.copy()
        strange = cells >> SHIFT != self.home
        at = np.searchsorted(self.cells, cells[strange])
        if (self.copies[at] == HOLE).any():
            self.copy(layout, made)
        cells[strange] = self.copies[at]
        regular = regular_form(cells, layout.sizes) if strange.all() else None
        return Operand(operand.shape, cells, regular=regular, dead=operand.dead)

    def copy(self, layout: Layout, made: Marks) -> None:
        """Copy what is there by now, also for the steps that follow."""
        waiting = self.copies == HOLE
        for space in unique(self.cells[waiting] >> SHIFT).tolist():
            here = np.flatnonzero(waiting & (self.cells >> SHIFT == space))
            if space == LITERAL:
                source = Operand(here.shape, literal=self.numbers[here])
            else:
                here = here[made[space][places(self.cells[here])]]
                if not len(here):
                    continue
                cells = self.cells[here]
                source = Operand(cells.shape, cells, regular=regular_form(cells, layout.sizes))
            self.copies[here] = _gather(layout, source, self.home).addresses
            pairs = zip(self.copies[here].tolist(), self.cells[here].tolist(), strict=True)
            layout.copied.update(pairs)


def _home(operand: Operand) -> int:
    """The space in which a scattered operand is to lie."""
    if any(map(by_row, operand.spaces)):
        return ROWS
    return THETA if operand.spaces == [THETA] else FREE


def _filled_up(cells: np.ndarray) -> np.ndarray:
    """Addresses; with all between them, where half of those of a parameter or an input are there.

    A view is copied in half the time of a gather.
    """
    parts = []
    for space in unique(cells >> SHIFT).tolist():
        part = cells[cells >> SHIFT == space]
        if space not in (FREE, ROWS, LITERAL) and part[-1] - part[0] < 2 * len(part):
            part = np.arange(part[0], part[-1] + 1)
        parts.append(part)
    return np.concatenate([cells[:0], *parts])


def _gather(layout: Layout, operand: Operand, space: int) -> Operand:
    """The new block that a step, which is added to those of the layout, copies an operand to."""
    out = layout.new_cells(operand.shape, space)
    nodes = np.zeros(operand.shape, dtype=int)
    layout.steps.append(Step("map", GATHER, [operand], out, nodes, part=True))
    return out
