"""Products: the lines of dots, forward and backward: as matrices, or one by one.

The textbook's rules are dW = dy @ X.T and dX = W.T @ dy. Most of this file is about writing them in
one call each: what is a row, a column or a single dot, and where columns and rows of input are one
axis. Which dots make up a matrix is found in factor.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operations import multiply
from .cells import by_row, shows_once
from .factor import FIRST_INPUT, FREE, ROWS, THETA
from .forms import Form
from .steps import Operand
from .writer import Array


class _Dots(Form):
    """What both forms of dots share."""

    def add_multiples(self, spread: Array, sides: Sequence[Operand], values: list[Array]) -> None:
        """The adjoints of both sides of dots: the dots' own, times the other side."""
        apply, adjoints = self.writer.apply, self.adjoints
        if values[0] is values[1] and adjoints.wants(sides[0]):  # x . x
            once, smaller = values[0], spread
            if spread.shape == (1,):
                once, smaller = spread, values[0]
            term = apply(multiply, (apply(multiply, (smaller, 2.0)), once))
            adjoints.add(sides[0], term)
            return
        for side, other in ((sides[0], values[1]), (sides[1], values[0])):
            if adjoints.wants(side):
                adjoints.add(side, apply(multiply, (spread, other)))

    def add_to_bias(self) -> None:
        """The adjoint of the bias is that of the dots."""
        for bias in self.step.operands[2:]:
            if self.adjoints.wants(bias):
                self.adjoints.add(bias, self.adjoint)

    def pass_reach_to(self, left: Array | None, right: Array | None) -> None:
        """Note where both sides are reached; the bias is where the dots are."""
        if self.reached is not None:
            self.reach.doubt(self.step.operands[:2])
        for operand, reached in zip(self.step.operands, (left, right, self.reached), strict=False):
            self.reach.pass_to(operand, reached)


class Inner(_Dots):
    """Dots that share nothing: elementwise products, added up over the last axis."""

    def forward(self) -> None:
        out, writer = self.out, self.writer
        products = writer.apply(multiply, self.operands[:2])
        sums = out
        if out.by_row and not products.by_row:  # the same for all rows, up to the bias
            sums = writer.temporary(out.shape, False, expanded=True)
        writer.sum(products, [len(out.shape)], sums, keep=False)
        for bias in self.operands[2:]:
            writer.emit("add({0}, {1}, {out})", [sums, bias], out)

    def backward(self) -> None:
        spread = self.with_axis(self.arrived, gradient=True)
        self.add_multiples(spread, self.step.operands, self.operands)
        self.add_to_bias()

    def pass_reach(self) -> None:
        spread = self.reach.with_axis(self.step.out, self.reached)
        self.pass_reach_to(spread, spread)


class Product(_Dots):
    """Matrix products: left (..., R, K) by right (..., K, C), and perhaps a bias."""

    expands = False

    def forward(self) -> None:
        writer, step, out = self.writer, self.step, self.out
        left, right = self.operands[:2]
        vectors = self.vectors()
        if vectors is not None:
            number = writer.view(step.out, suffix=".reshape(())")
            writer.emit("dot({0}, {1}, {out})", vectors, number)
        elif left.by_row and right.by_row:
            writer.emit("einsum('...rkt,...kct->...rct', {0}, {1}, out={out})", [left, right], out)
        else:
            factors, target = [left, self.merged(1, right)], self.flat(step.out)
            if self.is_thin(1, target):
                line = "dot({0}, {1}, {out})"
            elif self.is_fed():
                line = "feed({0}, {1}, {out})  # {0} @ {1}"
            else:
                line = "matmul({0}, {1}, {out})"
            writer.emit(line, factors, target)
        if len(self.operands) == 3:
            bias = self.operands[2]
            if out.by_row and isinstance(bias, Array) and not bias.by_row:
                bias = self.load(step.operands[2], full=False, expand=True)
            writer.emit("add({0}, {1}, {out})", [out, bias], out)

    def backward(self) -> None:
        writer, adjoints, step, out = self.writer, self.adjoints, self.step, self.out
        left, right = self.operands[:2]
        vectors = self.vectors()
        if vectors is not None:
            spread = writer.view(as_row(self.arrived), gradient=True, suffix=".reshape(())")
            self.add_multiples(spread, [as_row(o) for o in step.operands[:2]], vectors)
            self.add_to_bias()
            return
        both = left.by_row and right.by_row
        joined = self.joined(right)
        for which, pattern in ((0, "...rct,...kct->...rkt"), (1, "...rkt,...rct->...kct")):
            operand = step.operands[which]
            if not adjoints.wants(operand):
                continue
            if joined is not None and which == 0:
                self.add_layer(self.transposed(self.merged(1, right)), joined)
                continue
            if both:
                factors = [self.adjoint, right] if which == 0 else [left, self.adjoint]
                term = writer.temporary(operand.shape, True)
                writer.emit(f"einsum('{pattern}', {{0}}, {{1}}, out={{out}})", factors, term)
                adjoints.add(operand, term)
                continue
            dy = self.flat(self.arrived, gradient=True)
            if which == 0:
                factors = [dy, self.transposed(self.merged(1, right))]
                if step.out.shape[-1] == 1:  # one column: of one row, an outer product
                    product = "outer" if right.by_row else "multiply"
                    self.add_product(which, factors, False, product)
                    continue
            else:
                factors = [self.transposed(left), dy]
            self.add_product(which, factors, right.by_row and which == 1)
        if len(step.operands) == 3 and adjoints.wants(step.operands[2]) and joined is None:
            bias = step.operands[2]
            rows, columns = step.out.shape[-2:]
            regular = bias.regular is not None and bias.regular[0] in (THETA, FREE)
            if not both and regular and bias.shape == (rows, 1) and (columns > 1 or out.by_row):
                # the sum over a row, as a product with ones: 4 us instead of 10 for 128 x 256
                dy = self.flat(self.arrived, gradient=True)
                self.add_product(2, [dy, writer.ones(columns, out.by_row)], False)
            else:
                self.add_to_bias()

    def pass_reach(self) -> None:
        axes = len(self.step.out.shape)
        left, right = (
            self.reach.reduced(self.reached, [axis]) if self.reached is not None else None
            for axis in (axes - 1, axes - 2)
        )
        self.pass_reach_to(left, right)

    # -- matrices
    def is_thin(self, which: int, target: Array) -> bool:
        """Whether a product, or its adjoint by one operand, has a single row or column.

        dot is then faster than matmul, 0.46 us instead of 0.89 for 1 x 16 by 16 x 100, an outer
        product 0.97 instead of 2.60; but it wants a target in one piece.
        """
        out = self.step.out
        if len(out.shape) > 2 or not target.in_one_piece:
            return False
        (rows, columns), inner = out.shape, self.step.operands[0].shape[1]
        return which == 2 or 1 in (rows, inner) or columns == 1 and out.view[0] == FREE

    def is_fed(self) -> bool:
        """Whether it is a single product of a matrix by all rows of an input."""
        out, right = self.step.out, self.step.operands[1]
        single = len(out.shape) == 2 and out.shape[1] == 1
        return single and right.regular is not None and right.regular[0] >= FIRST_INPUT

    def vectors(self) -> list[Array] | None:
        """Both sides of a single dot as vectors, if the same for all rows, and views of as many."""
        sides = self.step.operands[:2]
        if self.out.shape != (1, 1) or self.out.by_row:
            return None
        if not all(side.cells is None or shows_once(side) for side in sides):
            return None
        return [
            self.writer.view(as_row(side)) if side.cells is not None else self.literal_row(side)
            for side in sides
        ]

    def literal_row(self, operand: Operand) -> Array:
        assert operand.literal is not None
        literal = np.broadcast_to(operand.literal, operand.shape).reshape(-1)
        return Array(self.writer, literal.shape, False, name=self.writer.constant(literal.copy()))

    def flat(self, operand: Operand, gradient: bool = False) -> Array:
        """A block of products as matrices: its columns and its rows-of-input in one axis."""
        space, offset, strides = operand.view
        if not by_row(space):
            return self.writer.view(operand, gradient)
        if operand.shape[-1] == 1:
            one_axis_less = Operand(operand.shape[:-1], regular=(space, offset, strides[:-1]))
            return self.writer.view(one_axis_less, gradient)
        lead = ", ".join(map(str, operand.shape[:-1]))
        return self.writer.view(operand, gradient, suffix=f".reshape({lead}, -1)")

    def merged(self, which: int, array: Array, gradient: bool = False) -> Array:
        """The right matrices (K, C) with rows as (K, C * rows); a copy if they do not lie so."""
        operand = self.step.operands[which]
        if not array.by_row:
            return array
        if operand.regular is not None and (operand.shape[-1] == 1 or operand.regular[2][-1] == 1):
            return self.flat(operand, gradient)
        lead = ", ".join(map(str, operand.shape[:-1]))
        if array.name:  # a view that does not merge
            copy = self.writer.temporary(operand.shape, True)
            array = self.writer.emit("copyto({out}, {0})", [array], copy)
        merged = Array(self.writer, (*operand.shape[:-1], operand.shape[-1]), True)
        return self.writer.emit(f"{{out}} = {{0}}.reshape({lead}, -1)", [array], merged)

    def transposed(self, array: Array) -> Array:
        """The last two axes exchanged, as a view of what is bound or of a temporary."""
        writer = self.writer
        if array.view is not None:
            regular, shape, gradient, expand, suffix, _ = array.view
            axes = len(shape) + (array.by_row and not suffix)
            turn = ".T" if axes == 2 else ".swapaxes(-1, -2)"
            return writer.view(Operand(shape, regular=regular), gradient, expand, suffix + turn)
        if array.name:  # a literal
            name = writer.constant(writer.globals[array.name].swapaxes(-1, -2))
            return Array(writer, array.shape, False, name=name)
        turned = Array(writer, array.shape, array.by_row)
        return writer.emit("{out} = {0}.swapaxes(-1, -2)", [array], turned)

    # -- their adjoints
    def add_product(
        self, which: int, factors: list[Any], with_rows: bool, product: str = "matmul"
    ) -> None:
        """The adjoint of one matrix: written where it belongs if nothing is there yet."""
        writer, operand = self.writer, self.step.operands[which]
        # with rows, the target must take columns and rows as one axis
        if self.adjoints.assignable(operand) and (
            not with_rows
            or operand.shape[-1] == 1
            or operand.view[2][-1] == 1
            and operand.view[0] == ROWS
        ):
            self.adjoints.written.mark(operand)
            out = writer.view(operand, gradient=True)
            target = self.merged(which, out, gradient=True) if with_rows else out
            if product == "matmul" and self.is_thin(which, target):
                product = "dot"
            writer.emit(f"{product}({{0}}, {{1}}, {{out}})", factors, target)
            return
        term = writer.temporary(operand.shape, with_rows)
        if with_rows:
            lead = ", ".join(map(str, operand.shape[:-1]))
            writer.emit(f"matmul({{0}}, {{1}}, {{out}}.reshape({lead}, -1))", factors, term)
        else:
            writer.emit(f"{product}({{0}}, {{1}}, {{out}})", factors, term)
        self.adjoints.add(operand, term)

    def joined(self, right: Array) -> Operand | None:
        """The matrix [W b] of a layer fed by rows, if both lie so and have no adjoint yet."""
        step = self.step
        if len(step.operands) < 3 or len(step.out.shape) > 2 or step.out.shape[1] > 1:
            return None
        weights, _, bias = step.operands
        regular = weights.regular is not None and bias.regular is not None
        if not (right.by_row and regular and bias.shape == (weights.shape[0], 1)):
            return None
        (rows, width), (space, offset, strides) = weights.shape, weights.view
        if strides[1] != 1 or (*bias.view[:2], space) != (THETA, offset + width, THETA):
            return None
        if rows > 1 and (strides[0], bias.view[2][0]) != (width + 1, width + 1):
            return None
        if not (self.adjoints.assignable(weights) and self.adjoints.assignable(bias)):
            return None
        return Operand((rows, width + 1), regular=(THETA, offset, (width + 1, 1)))

    def add_layer(self, inputs: Array, joined: Operand) -> None:
        """The adjoints of W and b, together: of one row they are a single product."""
        writer, (weights, _, bias) = self.writer, self.step.operands
        self.adjoints.written.mark(weights)
        self.adjoints.written.mark(bias)
        row = Array(writer, (1, joined.shape[1]), False, name="row")
        writer.bind(row, f"full((1, {joined.shape[1]}), 1.0, dtype)")
        dW, db, both = (writer.view(o, gradient=True) for o in (weights, bias, joined))
        both.name = dW.name + db.name.removeprefix("d")
        dy = self.flat(self.arrived, gradient=True)
        reads = [dy, inputs, writer.ones(1, True), row, dW, db]
        writer.emit("layer({0}, {1}, {2}, {3}, {4}, {5}, {out})", reads, both)


def as_row(operand: Operand) -> Operand:
    """A matrix of one row or one column, as the row of its cells."""
    if operand.cells is None or operand.regular is None:
        return operand
    space, offset, strides = operand.regular
    stride = strides[0] if operand.shape[0] > 1 else strides[1]
    return Operand(
        (operand.cells.size,), operand.cells.reshape(-1), None, (space, offset, (stride,))
    )
