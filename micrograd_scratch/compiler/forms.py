"""Forms: the lines of a step, forward and backward: elementwise ones, folds and takes.

A form is to the program what a row is to the scalar graph: how the value is computed, and how the
adjoint of the answer goes to the operands. Matrix products, and dots one by one, are in
products.py; how adjoints that meet in one place are added up is in adjoints.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operations import (
    Conditional,
    Operation,
    equal,
    largest_of,
    multiply,
    negative,
    smallest_of,
    total_of,
    where,
)
from . import runtime
from .adjoints import Adjoints
from .cells import buffer_of, by_row, places, shows_once
from .factor import FIRST_INPUT, FREE, SHIFT, THETA
from .reach import Reach, is_finite_number
from .steps import Operand, Step
from .writer import Array, Instruction, Writer

PIECE = 512  # cells that are gathered at once to be added up: 1 MB for 256 rows
_FOLD = {largest_of: "maximum", smallest_of: "minimum"}


class Form:
    """A step in the source.

    out, operands  what the lines forward write and read
    written        these lines
    arrived        where the adjoint of the answer is, once backward has come here
    adjoint        the view of it
    reached        where the answer is reached, if that is not certain (reach.py)
    some           where an adjoint comes to at all, if not everywhere: elsewhere it is 0.0
    """

    selects = False  # whether what no adjoint has arrived at passes none on, not even 0.0 * inf
    full = True  # whether the operands are needed with every axis in full
    expands = True  # whether operands without rows get an axis for rows beside those that have them

    def __init__(self, writer: Writer, adjoints: Adjoints, reach: Reach, step: Step) -> None:
        self.writer, self.adjoints, self.reach, self.step = writer, adjoints, reach, step
        self.arrived: Operand
        self.adjoint: Array
        self.reached: Array | None = None
        self.some: np.ndarray | None = None
        writer.lines, writer.known = [], {}
        writer.name_block(step)
        self.out = writer.view(step.out)
        self.operands = [
            self.load(operand, self.full and position < 2, self.expands and self.out.by_row)
            for position, operand in enumerate(step.operands)
        ]
        self.forward()
        self.written, self.known = writer.lines, writer.known

    def forward(self) -> None:
        """Write the lines that compute `out`."""
        raise NotImplementedError

    def backward(self) -> None:
        """Write the lines that carry `adjoint` to those operands that want one."""
        raise NotImplementedError

    def pass_reach(self) -> None:
        """Write the lines that carry `reached` to the operands."""
        raise NotImplementedError

    def go_back(self) -> list[Instruction]:
        """The lines of backward; none if no adjoint has arrived."""
        writer, adjoints, out = self.writer, self.adjoints, self.step.out
        writer.lines, writer.known = [], self.known
        adjoints.collect(*out.view[:2])
        arrived = adjoints.written.of(out)
        if arrived.any():
            if not arrived.all():
                adjoints.fill(out.addresses)
            some = adjoints.comes.of(out) & (self.step.nodes >= 0)
            if not some.all():
                self.some = some
            self.reached = self.reach.of(out, some)
            self.arrived = adjoints.source(self.step)
            self.adjoint = writer.view(self.arrived, gradient=True)
            adjoints.equal = {self.adjoint: self.arrived.addresses}
            if not self.selects and (~some & (self.step.nodes >= 0)).any():
                self.reach.doubtful = True
            self.backward()
            self.pass_reach()
        return writer.lines

    # -- operands
    def load(self, operand: Operand, full: bool, expand: bool) -> Any:
        """What instructions read for an operand: a number, literal, view, or gathered copy."""
        writer = self.writer
        if operand.cells is None:
            assert operand.literal is not None
            if operand.literal.size == 1 and not full:
                return float(operand.literal.reshape(()))
            literal = np.broadcast_to(operand.literal, operand.shape) if full else operand.literal
            shape = literal.shape
            literal = np.ascontiguousarray(literal)[..., None] if expand else literal
            return Array(writer, shape, False, name=writer.constant(literal), expanded=expand)
        if operand.regular is not None:
            is_number = operand.cells.size == 1 < self.step.nodes.size and not full
            if is_number and operand.regular[0] in (THETA, FREE):
                # without axes: 0.27 us where an axis of one cell takes 0.70
                return writer.view(operand, suffix=".reshape(())")
            return writer.view(operand, expand=expand)
        return self.gather(operand, expand)

    def gather(self, operand: Operand, expand: bool) -> Array:
        """A temporary with the cells of an irregular operand, which lie in one space."""
        writer, space = self.writer, operand.space
        out = writer.temporary(operand.shape, by_row(space))
        index = writer.constant(places(operand.addresses), "index")
        writer.emit(f'{{0}}.take({index}, 0, {{out}}, "clip")', [writer.whole(space)], out)
        if expand and not out.by_row:
            expanded = Array(writer, operand.shape, False, expanded=True)
            return writer.emit("{out} = {0}[..., None]", [out], expanded)
        return out

    def with_axis(self, operand: Operand, gradient: bool = False) -> Array:
        """A block of answers, or of their adjoints, with an axis for what was summed over."""
        rows_last = by_row(operand.view[0])
        suffix = "[..., None, :]" if rows_last else "[..., None]"
        view = self.writer.view(operand, gradient, suffix=suffix)
        view.shape = (*operand.shape, 1)
        return view


class Map(Form):
    """Elementwise: the row's own value and partials, on arrays."""

    selects = True
    full = False

    def forward(self) -> None:
        row, operands = self.step.row, self.operands
        arrays = any(isinstance(x, Array) for x in operands)
        self.writer.store(row(*operands) if arrays else row.number(*operands), self.out)

    def backward(self) -> None:
        step, apply = self.step, self.writer.apply
        slopes: Sequence[Any]
        try:
            slopes = step.row.partials(self.out, *self.operands)
        except ArithmeticError:  # a constant that Python cannot divide by: NumPy can
            number = self.writer.number
            arrays = [x if isinstance(x, Array) else number(x) for x in self.operands]
            slopes = step.row.partials(self.out, *arrays)
        except TypeError:  # a rule that branches on numbers: element by element
            slopes = self.slopes_by_element(step.row, [self.out, *self.operands])
        some = None if self.some is None else self.truths(self.some)
        wanted = [
            (operand, slope)
            for operand, slope in zip(step.operands, slopes, strict=True)
            if slope is not None and self.adjoints.wants(operand)
        ]
        for n, (operand, slope) in enumerate(wanted, 1):
            reached = self.reached
            if isinstance(slope, Conditional):
                condition, slope = slope
                reached = condition if reached is None else apply(multiply, (reached, condition))
            if type(slope) is float and slope in (1.0, -1.0):
                term = self.adjoint if slope == 1.0 else apply(negative, (self.adjoint,))
            else:
                term = apply(multiply, (self.adjoint, slope))
            chosen, varies = reached, not is_finite_number(slope)
            if some is not None and reached is not None:
                reached = chosen = apply(multiply, (some, reached))
            elif some is not None and varies:
                chosen = some
            if chosen is not None and (varies or chosen is not self.reached):
                term = apply(where, (chosen, term, 0.0))
            spent = self.arrived if n == len(wanted) else None
            self.adjoints.add(operand, term, spent)
            self.reach.pass_to(operand, reached, self.some)

    def truths(self, where_true: np.ndarray) -> Array:
        """Truths that are known beforehand, as an array."""
        expand = self.out.by_row
        numbers = where_true[..., None] if expand else where_true
        name = self.writer.constant(numbers, "reached")
        return Array(self.writer, where_true.shape, False, True, name, expanded=expand)

    def slopes_by_element(self, row: Operation, xs: list[Any]) -> list[Any]:
        """The partials of a rule that only takes floats, about a microsecond each."""
        writer = self.writer
        with_rows = any(isinstance(x, Array) and x.by_row for x in xs)
        shape = np.broadcast_shapes(*(x.shape for x in xs if isinstance(x, Array)))
        reads = ", ".join(f"{{{i}}}" for i in range(len(xs)))
        found: list[Any] = []
        for position in range(len(xs) - 1):
            name = writer.unique("slopes")
            writer.globals[name] = runtime.slopes_by_element(row, position)
            slope = writer.temporary(shape, with_rows)
            exists = writer.temporary(shape, with_rows, boolean=True)
            writer.emit(f"{{out}}[...] = {name}[0]({reads})", xs, slope)
            writer.emit(f"{{out}}[...] = {name}[1]({reads})", xs, exists)
            found.append(Conditional(exists, slope))
        return found

    def pass_reach(self) -> None:
        pass  # done operand by operand, for a partial may have a condition of its own


class Fold(Form):
    """A total, or the largest or smallest, over the last axis."""

    def load(self, operand: Operand, full: bool, expand: bool) -> Any:
        return None if self.is_long(operand) else super().load(operand, full, expand)

    def is_long(self, operand: Operand) -> bool:
        """Whether what is added up is gathered piece by piece, so that it stays in the cache."""
        long = self.out.by_row and operand.shape[-1] > PIECE
        return long and not operand.is_view and self.step.row is total_of

    def forward(self) -> None:
        row, out, operands, axis = self.step.row, self.out, self.operands, len(self.out.shape)
        if operands[0] is None:
            whole, writer = self.step.operands[0], self.writer
            for start in range(0, whole.shape[-1], PIECE):
                cells = whole.addresses[..., start : start + PIECE]
                part = writer.temporary(out.shape, True) if start else out
                writer.sum(self.gather(Operand(cells.shape, cells), False), [axis], part, False)
                if start:
                    writer.emit("add({0}, {1}, {out})", [out, part], out)
        elif row is total_of:
            self.writer.sum(operands[0], [axis], out, keep=False)
        else:
            line = f"{_FOLD[row]}.reduce({{0}}, {axis}, None, {{out}})"
            self.writer.emit(line, operands, out)

    def backward(self) -> None:
        step, writer = self.step, self.writer
        if not self.adjoints.wants(step.operands[0]):
            return
        spread = self.with_axis(self.arrived, gradient=True)
        self.adjoints.equal[spread] = self.arrived.addresses[..., None]
        if step.row is not total_of:  # the adjoint is shared among those that tie for the extreme
            ties = writer.apply(equal, (self.operands[0], self.with_axis(step.out)))
            count = writer.temporary((*self.out.shape, 1), self.out.by_row)
            axis = -2 if self.out.by_row else -1
            writer.emit(f"add.reduce({{0}}, {axis}, float, {{out}}, True)", [ties], count)
            share = writer.emit("divide({0}, {1}, {out})", [spread, count], count)
            spread = writer.apply(multiply, (share, ties))
        self.adjoints.add(step.operands[0], spread)

    def pass_reach(self) -> None:
        if self.reached is not None and self.step.row is not total_of:
            self.reach.doubt(self.step.operands)
        self.reach.pass_to(self.step.operands[0], self.reach.with_axis(self.step.out, self.reached))


class Take(Form):
    """values[index]: the operands are a grid of indices and one of lists of values."""

    def forward(self) -> None:
        index, values = self.operands
        out, width, name = self.out, self.step.operands[1].shape[-1], self.index_name()
        self.located = self.locate()
        if self.located is not None:
            place, at = self.located
            stride = f"{self.step.operands[1].view[2][-1]}" + " * rows" * out.by_row
            line = f"locate({{0}}, {width}, {stride}, {{1}}, {{out}}, {name})"
            self.writer.emit(line, [index, place], at)
            buffer = self.buffer(gradient=False)
            self.writer.emit('{0}.take({1}, None, {out}, "clip")', [buffer, at], out)
        else:
            line = f"take_values({{0}}, {{1}}, {width}, {{out}}, {out.by_row}, {name})"
            self.writer.emit(line, [index, values], out)

    def index_name(self) -> str:
        """What messages call the indices, as source: their input, or an array of one for each."""
        cells, names = self.step.operands[0].cells, self.writer.names
        copied = self.writer.layout.copied
        flat = [] if cells is None else cells.reshape(-1).tolist()
        spaces = [copied.get(cell, cell) >> SHIFT for cell in flat]
        inputs = [names.get(s << SHIFT, "") * (s >= FIRST_INPUT) or "index" for s in spaces]
        if len(set(inputs)) > 1:
            return self.writer.constant(np.array(inputs), "index")
        name = repr(inputs[0] if inputs else "index")
        return name.replace("{", "{{").replace("}", "}}")  # the lines are templates

    def locate(self) -> tuple[Array, Array] | None:
        """If the lists are views that share nothing: where they start in their buffer, and where
        the values taken are.
        """
        values, (lists, indices, columns) = self.step.operands[1], self.step.nodes.shape
        with_rows, writer, regular = self.out.by_row, self.writer, values.regular
        if indices > 1 or regular is None or regular[0] != self.step.out.view[0]:
            return None
        if not shows_once(values):  # adjoints that meet in a cell would have to be added up
            return None
        buffer, tail = buffer_of(regular[0]), ", rows" * with_rows
        shape, strides = (lists, indices, columns), (regular[2][0], 0, regular[2][1])
        numbered = f"arange({buffer}.size).reshape({buffer}.shape)"
        place = writer.bind(
            Array(writer, shape, with_rows, name="place"),
            f"strided({numbered}, {regular[1]}, {shape}, {strides}).copy()",
        )
        at = writer.bind(
            Array(writer, shape, with_rows, name="at"),
            f"empty(({lists}, {indices}, {columns}{tail}), int)",
        )
        return place, at

    def buffer(self, gradient: bool) -> Array:
        """All numbers, or all adjoints, on a single axis."""
        writer, name = self.writer, "g" * gradient + buffer_of(self.step.out.view[0])
        if name not in writer.bound:
            array = Array(writer, (), self.out.by_row, name=f"{name}_")
            writer.bound[name] = writer.bind(array, f"{name}.reshape(-1)")
        return writer.bound[name]

    def backward(self) -> None:
        (index, values), operand = self.operands, self.step.operands[1]
        writer, adjoints = self.writer, self.adjoints
        if not adjoints.wants(operand):
            return
        if self.located is not None:
            buffer, assign = self.buffer(gradient=True), "="
            if adjoints.assignable(operand):
                adjoints.written.mark(operand)
                writer.emit("{out}.fill(0.0)", [], writer.view(operand, gradient=True))
            else:
                adjoints.settle(operand)
                adjoints.fill(operand.addresses)
                assign = "+="
            writer.emit(f"{{out}}[{{0}}] {assign} {{1}}", [self.located[1], self.adjoint], buffer)
        else:
            term = writer.temporary(operand.shape, isinstance(values, Array) and values.by_row)
            line = f"put_values({{0}}, {{1}}, {{out}}, {self.out.by_row})"
            writer.emit(line, [index, self.adjoint], term)
            adjoints.add(operand, term)

    def pass_reach(self) -> None:
        self.reach.doubt(self.step.operands)
        for operand in self.step.operands:
            self.reach.pass_to(operand, None)
