"""Reach: whether arrays could meet "0 times infinity" where the scalar graph has no product.

A partial that is None, always or under a condition, leaves a node unreached, and scalar code does
not visit it. Arrays carry a 0.0 there instead, and 0.0 * inf is nan. So a program is doubtful if an
adjoint that may be such a 0.0 is multiplied by anything but a constant. An adjoint to which more
arrives without a condition is surely reached; so is one that collects from every value of a list
that one is taken of, such as the logsumexp in a cross-entropy, whose gradient is not doubtful.

Where the analysis leaves a doubt (`is_doubtful`), a program carries truths beside its adjoints,
from the conditions to the steps that multiply elementwise, and there selects the product by them
(`Reach`). Products of matrices are not selected: for them the program stays doubtful, and what is
not finite is computed anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operations import Conditional, Symbol, total_of
from .adjoints import Adjoints, broadcast_axes
from .cells import Marks, buffer_of, by_row, places, shows_once, spread
from .factor import FREE, LITERAL, ROWS, SHIFT, ranked
from .steps import Layout, Operand, Step
from .views import view_text
from .writer import Array, Instruction, Writer

# What reaches a cell: nothing, something for sure, perhaps something; from FIRST on, one member of
# a list that one is taken of: FIRST + LONGEST * list + member.
NOTHING, SURELY, PERHAPS, FIRST = range(4)
LONGEST = 1 << 32


def is_doubtful(layout: Layout) -> bool:
    """Whether a gradient needs to be computed anew, scalar by scalar, if it is not finite."""
    if not any(map(_leaves_out, layout.steps)):
        return False
    reach = _Analysis(layout)
    return any(reach.is_doubtful(step) for step in reversed(layout.steps))


class _Analysis:
    def __init__(self, layout: Layout) -> None:
        self.of_cell = [np.full(size, NOTHING) for size in layout.sizes]
        self.lengths: list[int] = []  # of the lists that one value is taken of
        for cell in layout.outputs[layout.outputs >> SHIFT != LITERAL].tolist():
            self.of_cell[cell >> SHIFT][places(cell)] = SURELY

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
            if unsure and not is_finite_number(slope):
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
        known, at = self.of_cell[operand.space], places(operand.cells)
        if (found == SURELY).all():
            known[at] = SURELY
            return
        at, found = (x.reshape(-1) for x in np.broadcast_arrays(at, found))
        known[at[found == SURELY]] = SURELY
        at, found = at[found > SURELY], found[found > SURELY]
        if not len(at):
            return
        if (found >= FIRST).any():
            members = np.unique(np.stack([at, found])[:, found >= FIRST], axis=1)
            members[1] = (members[1] - FIRST) // LONGEST
            (into, lists), count = np.unique(members, axis=1, return_counts=True)
            known[into[count == np.array(self.lengths, dtype=int)[lists]]] = SURELY
        _, _, which, times = ranked(at)
        alone = (times[which] == 1) & (known[at] == NOTHING)
        known[at[~alone]] = np.where(known[at[~alone]] == SURELY, SURELY, PERHAPS)
        known[at[alone]] = found[alone]


def _leaves_out(step: Step) -> bool:
    """Whether a step may leave a cell that it reads unreached."""
    if step.form == "take":
        return True
    slopes = zip(_slopes(step), step.operands, strict=True) if step.row.selective else ()
    return any(
        operand.cells is not None and (slope is None or isinstance(slope, Conditional))
        for slope, operand in slopes
    )


def _slopes(step: Step) -> Sequence[Any]:
    """For every operand: None, a number, `Conditional`, or a Symbol for what multiplies."""
    count, anything = len(step.operands), Symbol("slope")
    if step.form == "take":
        return None, 1.0
    if step.form == "fold":  # ties for the largest share it: by 0 / 0 if it is nan
        return (1.0 if step.row is total_of else anything,)
    if step.form in ("product", "inner"):
        return (anything, anything, 1.0)[:count]
    return _partials(step, [anything] * count)


def _partials(step: Step, xs: Sequence[Any]) -> Sequence[Any]:
    """The partials of an elementwise step: None, a number, `Conditional`, or a Symbol."""
    try:
        return step.row.partials(Symbol("y"), *xs)
    except TypeError:  # a rule that branches on its numbers
        return [Conditional(Symbol("condition"), Symbol("slope"))] * len(xs)


class Reach:
    """The truths that tell an adjoint of 0.0 from none, and the lines that carry them.

    unsure    whether there is anything to tell
    doubtful  whether an adjoint that does not exist may have passed for 0.0
    certain   cells that are reached wherever an adjoint has arrived
    minds     cells that lead to a step that has to know
    matters   cells that lead to any product at all
    resets    what comes before all other lines of backward
    """

    def __init__(self, writer: Writer, adjoints: Adjoints) -> None:
        self.writer, self.adjoints, layout = writer, adjoints, writer.layout
        self.unsure, self.doubtful = is_doubtful(layout), False
        self.certain, self.minds, self.matters = (Marks(layout.sizes) for _ in range(3))
        self.resets: list[Instruction] = []
        for step in layout.steps if self.unsure else ():
            operands = [operand for operand in step.operands if operand.cells is not None]
            multiplies = _multiplies(step)
            if any(self.minds.of(operand).any() for operand in operands) or multiplies:
                self.minds.mark(step.out)
            if any(self.matters.of(o).any() for o in operands) or multiplies or step.form != "map":
                self.matters.mark(step.out)

    def of(self, out: Operand, arrived: np.ndarray) -> Array | None:
        """Where a block of cells is reached; None if it is wherever an adjoint has arrived."""
        if not self.unsure:
            return None
        certain = self.certain.of(out) & arrived
        if not (arrived & ~certain).any():
            return None
        reached = self.view(out)
        if certain.any():
            index = self.writer.constant(np.flatnonzero(certain), "index")
            flat = f"{{0}}.reshape({certain.size}" + ", -1" * reached.by_row + ")"
            self.writer.emit(f"{flat}[{index}] = True", [reached], reached)
        return reached

    def with_axis(self, out: Operand, reached: Array | None) -> Array | None:
        """The truths of a block with an axis for what was summed over; None is everywhere."""
        if reached is None:
            return None
        spread = self.view(out, "[..., None, :]" if reached.by_row else "[..., None]")
        spread.shape = (*out.shape, 1)
        return spread

    def view(self, operand: Operand, suffix: str = "") -> Array:
        """The truths of a block of cells, whether they are reached."""
        writer, (space, offset, strides) = self.writer, operand.view
        whole, key = self.whole(space), ("reach", operand.regular, operand.shape, suffix)
        if key not in writer.bound:
            with_rows, size = whole.by_row, writer.layout.sizes[space]
            text = view_text(whole.name, offset, operand.shape, strides, with_rows, size)
            made = Array(writer, operand.shape, with_rows, True, "r" + writer.name_of(operand))
            writer.bound[key] = writer.bind(made, text + suffix)
        return writer.bound[key]

    def whole(self, space: int) -> Array:
        """The truths of all cells of a space; at first they are not reached."""
        writer, key = self.writer, ("reach", space)
        if key not in writer.bound:
            size, with_rows = writer.layout.sizes[space], by_row(space)
            whole = Array(writer, (size,), with_rows, True, "r" + buffer_of(space))
            writer.bind(whole, f"empty(({size},{' rows' * with_rows}), bool)")
            self.resets.insert(0, Instruction("{out}.fill(False)", [], whole))
            writer.bound[key] = whole
        return writer.bound[key]

    def doubt(self, operands: Sequence[Operand]) -> None:
        """Note that what may not be reached was multiplied on its way to these operands."""
        self.doubtful |= self.unsure and any(operand.cells is not None for operand in operands)

    def reduced(self, reached: Array, axes: list[int]) -> Array:
        """Whether anything is reached along axes, of which the one behind the last is of rows."""
        axis = axes[0] if len(axes) == 1 else tuple(axes)
        over_rows = len(reached.shape) in axes
        shape = [1 if a in axes else n for a, n in enumerate(reached.shape)]
        expanded = over_rows or reached.expanded
        found = self.writer.temporary(shape, reached.by_row and not over_rows, True, expanded)
        line = f"logical_or.reduce({{0}}, {axis}, None, {{out}}, True)"
        return self.writer.emit(line, [reached], found)

    def pass_to(
        self, operand: Operand, reached: Array | None, some: np.ndarray | None = None
    ) -> None:
        """Note that an operand is reached where its user is; None is everywhere.

        some  where the user has an adjoint at all, if not everywhere; `reached` is nowhere else
        """
        if not (self.unsure and self.adjoints.wants(operand)):
            return
        space = operand.space
        if space not in (FREE, ROWS):
            return
        if reached is None or not self.minds.of(operand).any():
            self.doubtful |= reached is not None
            cells = operand.addresses
            if some is not None:
                cells = spread(cells, some.shape)[some]
            self.certain.mark(Operand(cells.shape, cells))
            return
        axes = broadcast_axes(operand, reached, with_rows=space == ROWS)
        if axes:
            reached = self.reduced(reached, axes)
        if not shows_once(operand):
            self.scatter(operand, reached)
            return
        expand = reached.expanded and space == FREE
        target = self.view(operand, "[..., None]" if expand else "")
        self.writer.emit("logical_or({0}, {1}, {out})", [target, reached], target)

    def scatter(self, operand: Operand, reached: Array) -> None:
        """The same for the cells of an operand that is no view."""
        here, at = self.adjoints.wanted(operand)
        matters = self.matters[operand.space][at]
        self.certain[operand.space][at[~matters]] = True
        here, at = here[matters], at[matters]
        if not len(here):
            return
        whole, count = self.whole(operand.space), math.prod(reached.shape)
        writer = self.writer
        lies = np.arange(count).reshape(reached.shape)
        lies = np.broadcast_to(lies, operand.shape).reshape(-1)[here]
        order = np.argsort(at, kind="stable")
        cells, starts, _, _ = ranked(at[order])
        terms = f"{{1}}.reshape({count}, -1)[{writer.constant(lies[order], 'index')}]"
        if not whole.by_row:
            terms = f"logical_or.reduce({terms}, 1)"
        if len(cells) < len(at):
            terms = f"logical_or.reduceat({terms}, {writer.constant(starts, 'index')}, 0)"
        line = f"{{0}}[{writer.constant(cells, 'index')}] |= {terms}"
        writer.emit(line, [whole, reached], whole)


def _multiplies(step: Step) -> bool:
    """Whether an elementwise step's operands get products with what varies, or is infinite."""
    if step.form != "map":
        return False
    finite = [o.literal is not None and np.isfinite(o.literal).all() for o in step.operands]
    fixed = [o.cells is None and f for o, f in zip(step.operands, finite, strict=True)]
    slopes = _partials(step, [1.0 if f else Symbol("x") for f in fixed])
    slopes = [slope.partial if isinstance(slope, Conditional) else slope for slope in slopes]
    operands = zip(slopes, step.operands, strict=True)
    return any(isinstance(slope, Symbol) for slope, o in operands if o.cells is not None)


def is_finite_number(slope: Any) -> bool:
    """Whether a partial is a number by which an adjoint of 0.0 stays 0.0."""
    return isinstance(slope, (int, float)) and math.isfinite(slope)
