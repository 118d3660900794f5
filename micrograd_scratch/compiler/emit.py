"""Emit: the steps become NumPy source, value and gradient, with every view bound beforehand.

The source has four functions: `parameters(theta)`, `inputs(x0, ...)` and `gradients(g, ...)` name
the views of what differs from call to call; `buffers(u, v, gu, gv)` names those of the numbers in
between and returns `forward` and `backward`, which consist of calls that write into such views.
Binding is most of the speed: a view costs 0.28 us, a small array operation 0.5.

An operation's value and its partials are traced through the rows' own rules, on `Array`s that note
each operation as an instruction; what the value computed is not computed again for the partials.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operations import (
    Conditional,
    Operation,
    Symbol,
    add,
    constant_power,
    divide,
    equal,
    greater,
    greater_equal,
    largest_of,
    less,
    less_equal,
    maximum_of_two,
    minimum_of_two,
    multiply,
    negative,
    not_equal,
    power,
    smallest_of,
    total_of,
    where,
)
from . import runtime
from .arrivals import Arrivals, by_count
from .emit_scalars import identifier
from .factor import FIRST_INPUT, FREE, LITERAL, ROWS, SHIFT, THETA
from .layout import RESERVED, Layout, Operand, Step, grid_steps
from .loans import Loans
from .reach import is_doubtful

MOST_ONES = 10_000  # beyond it sums are pairwise, which is more exact than a product with ones
_COMPARISONS = {less, less_equal, greater, greater_equal, equal, not_equal}


class Array(Symbol):
    """An array in the program: what instructions read and write.

    shape    of its grid, without the axis of rows
    by_row   whether it has that axis (the last)
    boolean  whether its elements are truths
    expanded whether it has an axis of length 1 in place of rows
    name     its name in the source; given last to temporaries, which share memory
    """

    __slots__ = ("code", "shape", "by_row", "boolean", "name", "expanded")

    def __init__(
        self,
        code: Code,
        shape: Sequence[int],
        by_row: bool,
        boolean: bool = False,
        name: str = "",
        expanded: bool = False,
    ) -> None:
        super().__init__(name)
        self.code, self.shape, self.by_row = code, tuple(shape), by_row
        self.boolean, self.name, self.expanded = boolean, name, expanded

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two temporaries have in common that can share memory."""
        return not self.name, self.shape, self.by_row, self.boolean, self.expanded

    def __operation__(self, row: Operation, xs: Sequence[Any]) -> Any:
        return self.code.apply(row, xs)


class Instruction:
    """One line: `template` with {0}, {1}, ... for what it reads and {out} for what it writes."""

    __slots__ = ("template", "reads", "out")

    def __init__(self, template: str, reads: Sequence[Any], out: Array) -> None:
        self.template, self.reads, self.out = template, list(reads), out

    @property
    def is_view(self) -> bool:
        """Whether it only names a view of a temporary, which is bound once like the others."""
        return self.template.startswith("{out} = {0}")

    def text(self) -> str:
        """The line in the source."""
        names = [x.name if isinstance(x, Array) else repr(x) for x in self.reads]
        return self.template.format(*names, out=self.out.name)


class Code:
    """All instructions of a program, and the views, literals and functions that they name."""

    def __init__(
        self,
        layout: Layout,
        names: dict[int, str],
        wrt_inputs: bool = False,
        backward: bool = True,
    ) -> None:
        self.layout, self.names = layout, names
        self.wrt_parameters, self.wrt_inputs = backward, backward and wrt_inputs
        self.lines: list[Instruction] = []
        self.gradient_sizes = list(layout.sizes)  # with what waits to be added up
        self.known: dict[Any, Any] = {}  # (row, operands) -> its answer, within one step
        self.views: dict[Any, Array] = {}
        self.key_of: dict[Array, Any] = {}  # of views
        self.taken: dict[str, int] = {}
        self.bindings: dict[str, list[tuple[Array, str]]] = {}  # function -> views and their text
        self.globals: dict[str, Any] = {}  # literals, index arrays and functions
        self.unsure = is_doubtful(layout)  # whether reach has to be kept account of
        self.doubtful = False  # whether an adjoint that does not exist may have passed for 0.0
        self.forward: list[list[Instruction]] = []
        self.contexts: list[tuple[dict[Any, Any], Array, list[Any]]] = []
        for step in layout.steps:
            self.lines, self.known = [], {}
            out = self.view(step.out)
            operands = [self.load(operand, step, out) for operand in step.operands]
            getattr(self, "forward_" + step.form)(step, out, operands)
            self.forward.append(self.lines)
            self.contexts.append((self.known, out, operands))
        self.backward: list[list[Instruction]] = []
        self.find_backward()
        self.prune()

    def prune(self) -> None:
        """Leave out what nobody reads: instructions, copies, and names of views."""
        every = [*self.forward, *self.backward]
        views = {line.out: line.reads[0] for lines in every for line in lines if line.is_view}
        used: set[Any] = set()
        same: dict[Any, Array] = {}  # a copy -> its original, which nobody reads any more
        for lines in reversed(every):
            kept = []
            for line in reversed(lines):
                out, reads = line.out, [x for x in line.reads if isinstance(x, Array)]
                if not (out.name or out in used or views.get(out) in used):
                    continue
                if line.template == "copyto({out}, {0})" and not out.name and reads:
                    if not (reads[0] in used or reads[0] in views) and reads[0].kind == out.kind:
                        same[out] = reads[0]
                        used.add(reads[0])
                        continue
                used.update([out, *reads])
                kept.append(line)
            lines[:] = reversed(kept)
        for copy, original in reversed(same.items()):  # an original may itself be a copy
            same[copy] = same.get(original, original)
        for line in (line for lines in every for line in lines):
            line.out = same.get(line.out, line.out)
            line.reads = [same.get(x, x) for x in line.reads]
        named = {self.views.get(("reach", space)) for space in (FREE, ROWS)}  # in other texts
        for function, pairs in self.bindings.items():
            self.bindings[function] = [pair for pair in pairs if pair[0] in used]
            for array, _ in self.bindings[function]:
                if array not in named:
                    array.name = self.unique(array.name)

    def find_backward(self) -> None:
        """The lines that carry adjoints back, last step first."""
        layout = self.layout
        self.written = [np.zeros(size, dtype=bool) for size in layout.sizes]
        self.needed = [np.zeros(size, dtype=bool) for size in layout.sizes]
        self.minds = [np.zeros(size, dtype=bool) for size in layout.sizes]  # whether it is reached
        self.needed[THETA][:] = self.wrt_parameters
        for space in range(FIRST_INPUT, len(layout.sizes)):
            self.needed[space][:] = self.wrt_inputs
        for step in layout.steps:
            depends = dependence(step.row, len(step.operands))
            if any(d and self.wants(o) for d, o in zip(depends, step.operands, strict=True)):
                self.mark(self.needed, step.out)
            inner = any(
                self.cells(self.minds, o).any() for o in step.operands if o.cells is not None
            )
            if inner or step.form == "map" and multiplies(step):
                self.mark(self.minds, step.out)
        blocks: dict[int, list[int]] = {space: [0] for space in range(len(layout.sizes))}
        for step in layout.steps:
            blocks[step.out.spaces[0]].append(first_cell(step.out))
        self.arrivals = Arrivals({space: np.array(starts) for space, starts in blocks.items()})
        self.certain = [np.zeros(size, dtype=bool) for size in layout.sizes]
        self.reach: Array | None = None  # of the step's block, where that is not certain
        self.lies: dict[Array, tuple[int, np.ndarray]] = {}  # terms that wait -> their cells
        self.loans = Loans(layout)
        self.arrived: Operand  # where the adjoint of the step that is gone through is
        self.at_adjoint: dict[Array, Any] = {}  # arrays that are that adjoint -> their cells
        self.lines, self.known = [], {}
        for cell in layout.outputs.tolist():
            if cell >> SHIFT != LITERAL:
                space, at = cell >> SHIFT, cell & (1 << SHIFT) - 1
                output = Operand((1,), np.array([cell]), regular=(space, at, (1,)))
                self.mark(self.certain, output)
                if self.wants(output):  # the mean over rows, of what may be the same for all
                    by_row = space == ROWS or space >= FIRST_INPUT
                    self.add_to(
                        output, Array(self, (1,), by_row, name="seed" + " * rows" * (not by_row))
                    )
        self.backward.append(self.lines)
        for step, context in zip(reversed(layout.steps), reversed(self.contexts), strict=True):
            self.lines, (self.known, out, operands) = [], context
            self.collect(step.out.spaces[0], first_cell(step.out))
            arrived = self.cells(self.written, step.out)
            if arrived.any():
                self.fill(step.out.cells)
                self.reach = self.reach_of(step.out, arrived)
                self.arrived = self.adjoint_of(step)
                adjoint = self.view(self.arrived, gradient=True)
                self.at_adjoint = {adjoint: self.arrived.cells}
                getattr(self, "backward_" + step.form)(step, out, operands, adjoint)
                if step.form != "map":
                    self.pass_on(step)
            self.backward.append(self.lines)
        for space in (THETA, *range(FIRST_INPUT, len(layout.sizes))):
            self.collect(space, 0)
        self.unwritten = np.flatnonzero(~self.written[THETA])

    # -- cells
    def cells(self, marks: list[np.ndarray], operand: Operand) -> np.ndarray:
        """The marks of an operand's cells, in its shape."""
        assert operand.cells is not None
        found = np.zeros(operand.cells.shape, dtype=bool)
        for space in operand.spaces:
            if space != LITERAL:
                here = operand.cells >> SHIFT == space
                found[here] = marks[space][operand.cells[here] & (1 << SHIFT) - 1]
        return found

    def mark(self, marks: list[np.ndarray], operand: Operand) -> None:
        assert operand.cells is not None
        for space in operand.spaces:
            if space != LITERAL:
                here = operand.cells[operand.cells >> SHIFT == space]
                marks[space][here & (1 << SHIFT) - 1] = True

    def wants(self, operand: Operand) -> bool:
        """Whether an adjoint of this operand is of use."""
        return operand.cells is not None and bool(self.cells(self.needed, operand).any())

    # -- names
    def constant(self, value: np.ndarray, kind: str = "constant") -> str:
        """The name of an array that never changes."""
        name = f"{kind}{len(self.globals)}"
        self.globals[name] = value
        return name

    def view(
        self,
        operand: Operand,
        gradient: bool = False,
        expand: bool = False,
        suffix: str = "",
        label: str = "",
    ) -> Array:
        """The bound view of a regular operand, or of its adjoint.

        expand  gives cells without rows an axis for rows, of length 1
        suffix  is what else to do to the view, once, such as .swapaxes(-1, -2)
        """
        assert operand.regular is not None
        key = (operand.regular, operand.shape, gradient, expand, suffix)
        if key not in self.views:
            space, offset, strides = operand.regular
            by_row = space == ROWS or space >= FIRST_INPUT
            buffer = {THETA: "theta", FREE: "u", ROWS: "v"}.get(space, f"x{space - FIRST_INPUT}")
            if gradient:
                buffer = "g" if space == THETA else "g" + buffer
            size = (self.gradient_sizes if gradient else self.layout.sizes)[space]
            text = view_text(buffer, offset, operand.shape, strides, by_row, size)
            if expand and not by_row:
                text += "[..., None]"
            function = "buffers"
            if space == THETA:
                function = "gradients" if gradient else "parameters"
            elif space >= FIRST_INPUT:
                function = "gradients" if gradient else "inputs"
            name = ("d" if gradient else "") + self.name_of(operand)
            expanded = expand and not by_row
            self.views[key] = Array(self, operand.shape, by_row, name=name, expanded=expanded)
            self.key_of[self.views[key]] = key
            self.bind(self.views[key], text + suffix, function)
        return self.views[key]

    def bind(self, array: Array, text: str, function: str = "buffers") -> Array:
        """Have a function of bindings name this array, which the text makes."""
        self.bindings.setdefault(function, []).append((array, text))
        return array

    def name_of(self, operand: Operand) -> str:
        """What a view is called: after the parameters in it, if all of them have one name."""
        space, offset, strides = operand.view
        if space >= FIRST_INPUT:
            return f"x{space - FIRST_INPUT}_"
        last = offset + sum((n - 1) * s for n, s in zip(operand.shape, strides, strict=True))
        first_name, last_name = (self.names.get((space << SHIFT) + at) for at in (offset, last))
        if first_name and first_name == last_name:
            return first_name
        return "p" if space == THETA else "h"

    def unique(self, name: str) -> str:
        """The name, or the name with a number behind it, that is not yet taken."""
        number = self.taken.get(name, 0) + 1
        self.taken[name] = number
        candidate = name if number == 1 else f"{name}_{number}"
        if candidate in _RESERVED or keyword.iskeyword(candidate) or candidate in self.globals:
            return self.unique(name)
        return candidate

    # -- instructions
    def emit(self, template: str, reads: Sequence[Any], out: Array) -> Array:
        self.lines.append(Instruction(template, reads, out))
        return out

    def temporary(
        self, shape: Sequence[int], by_row: bool, boolean: bool = False, expanded: bool = False
    ) -> Array:
        return Array(self, shape, by_row, boolean, expanded=expanded)

    def load(self, operand: Operand, step: Step, out: Array) -> Any:
        """What instructions read for an operand: a number, literal, view, or gathered copy."""
        # matrices and folds need every axis in full; a bias does not
        whole = step.form != "map" and not (len(step.operands) == 3 and operand is step.operands[2])
        expand = out.by_row and step.form != "product"
        if operand.cells is None:
            assert operand.literal is not None
            if operand.literal.size == 1 and not whole:
                return float(operand.literal.reshape(()))
            literal = np.broadcast_to(operand.literal, operand.shape) if whole else operand.literal
            literal = np.ascontiguousarray(literal)[..., None] if expand else literal
            shape = operand.shape if whole else operand.literal.shape
            return Array(self, shape, False, name=self.constant(literal), expanded=expand)
        if operand.regular is not None:
            number = operand.cells.size == 1 < step.nodes.size and not whole
            if number and operand.regular[0] in (THETA, FREE):
                # without axes: 0.27 us where an axis of one cell takes 0.70
                return self.view(operand, suffix=".reshape(())")
            return self.view(operand, expand=expand)
        return self.gather(operand, expand)

    def gather(self, operand: Operand, expand: bool) -> Array:
        """A temporary with the cells of an irregular operand."""
        assert operand.cells is not None
        by_row = any(space == ROWS or space >= FIRST_INPUT for space in operand.spaces)
        out = self.temporary(operand.shape, by_row)
        flat = operand.cells.reshape(-1)
        # first all cells, as if they were in the space that most are in; then the exceptions
        inside = {space: np.flatnonzero(flat >> SHIFT == space) for space in operand.spaces}
        alike = [s for s in inside if s != LITERAL and (s in (THETA, FREE)) != by_row]
        main = max(alike, key=lambda space: len(inside[space]))
        index = np.zeros(flat.size, dtype=int)
        index[inside[main]] = flat[inside[main]] & (1 << SHIFT) - 1
        index = index.reshape(operand.shape)
        text = f'take({{0}}, {self.constant(index, "index")}, 0, {{out}}, "clip")'
        self.emit(text, [self.whole(main)], out)
        for space, here in inside.items():
            if space == main:
                continue
            if space == LITERAL:
                assert operand.literal is not None
                numbers = operand.literal.reshape(-1)[here]
                source = Array(self, numbers.shape, False, name=self.constant(numbers))
                chosen = "{0}"
            else:
                source = self.whole(space)
                chosen = f"{{0}}[{self.constant(flat[here] & (1 << SHIFT) - 1, 'index')}]"
            tail = "[:, None]" if by_row and not source.by_row else ""
            line = "{out}.reshape(" + (f"{flat.size}, -1" if by_row else "-1") + ")"
            self.emit(f"{line}[{self.constant(here, 'index')}] = {chosen}{tail}", [source], out)
        if expand and not by_row:
            expanded = Array(self, operand.shape, False, expanded=True)
            return self.emit("{out} = {0}[..., None]", [out], expanded)
        return out

    def whole(self, space: int, gradient: bool = False) -> Array:
        """All cells of a space."""
        size = self.layout.sizes[space]
        return self.view(Operand((size,), regular=(space, 0, (1,))), gradient)

    # -- tracing the rules of rows
    def apply(self, row: Operation, xs: Sequence[Any]) -> Any:
        """The row applied to arrays and numbers: what held the answer before, or instructions."""
        if row is where and not isinstance(xs[0], Array):
            return xs[1] if xs[0] else xs[2]
        if row in (power, constant_power) and not isinstance(xs[1], Array):
            if xs[1] == 1.0:
                return xs[0]
            if xs[1] == 2.0:
                return self.apply(multiply, (xs[0], xs[0]))
        if row is divide and not isinstance(xs[1], Array) and math.frexp(xs[1])[0] in (0.5, -0.5):
            return self.apply(multiply, (xs[0], 1.0 / xs[1]))  # exact for a power of two
        key = (row, *xs)
        if key not in self.known:
            if callable(row.array):
                self.known[key] = row.array(*xs)
            else:
                self.known[key] = self.instruction(row, xs)
        return self.known[key]

    def instruction(self, row: Operation, xs: Sequence[Any]) -> Array:
        arrays = [x for x in xs if isinstance(x, Array)]
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        by_row = any(x.by_row for x in arrays)
        expanded = not by_row and any(x.expanded for x in arrays)
        if row is where:
            condition = xs[0]
            if not condition.boolean:
                condition = self.apply(not_equal, (condition, 0.0))
            out = self.temporary(shape, by_row, expanded=expanded)
            self.emit("copyto({out}, {0})", [xs[2]], out)
            return self.emit("copyto({out}, {0}, where={1})", [xs[1], condition], out)
        truths = all(isinstance(x, Array) and x.boolean for x in xs)
        boolean = row in _COMPARISONS or truths and row in (multiply, add)
        out = self.temporary(shape, by_row, boolean, expanded)
        name = str(row.array)
        if row in (power, constant_power) and not isinstance(xs[1], Array) and xs[1] == 0.5:
            name = "float_power"  # power takes the sqrt, which is nan at -inf where C's pow is inf
        reads = ", ".join(f"{{{i}}}" for i in range(len(xs)))
        if row in (maximum_of_two, minimum_of_two):
            # against an array of that number NumPy has a vector loop: 0.5 us instead of 1.4 for
            # 1,600 elements; and it no longer takes their `out` by position
            xs = [
                x if isinstance(x, Array) else self.filled(x, shape, by_row, expanded) for x in xs
            ]
            return self.emit(f"{name}({reads}, out={{out}})", xs, out)
        if hasattr(np, name):
            xs = [x if isinstance(x, Array) else self.number(x) for x in xs]
            return self.emit(f"{name}({reads}, {{out}})", xs, out)
        name = self.unique(f"{identifier(row.name)}_")  # NumPy does not have it: element by element
        self.globals[name] = row.on_arrays
        return self.emit(f"{{out}}[...] = {name}({reads})", xs, out)

    def number(self, number: float) -> Array:
        """A number as an array without axes, bound once: 0.24 us a call instead of 0.43."""
        number = float(number)
        key = ("number", repr(number))
        if key not in self.views:
            name = _NUMBERS.get(number) or "c" + re.sub("[-+.]", "_", repr(number))
            self.views[key] = Array(self, (), False, name=name)
            self.bind(self.views[key], f"array({number!r}, dtype)")
        return self.views[key]

    def filled(self, number: float, shape: Sequence[int], by_row: bool, expanded: bool) -> Array:
        """An array that holds one number, bound once."""
        key = ("filled", float(number), tuple(shape), by_row, expanded)
        if key not in self.views:
            tail = ["rows"] if by_row else ["1"] if expanded else []
            text = f"full(({', '.join([*map(str, shape), *tail])},), {float(number)!r}, dtype)"
            self.views[key] = Array(self, shape, by_row, name="filled", expanded=expanded)
            self.bind(self.views[key], text)
        return self.views[key]

    def store(self, answer: Any, out: Array) -> None:
        """Have `answer` written to the view `out`: by the instruction that makes it, if it can."""
        if not isinstance(answer, Array):
            self.emit("{out}.fill({0})", [float(answer)], out)
        elif self.fresh(answer) and (answer.shape, answer.by_row) == (out.shape, out.by_row):
            self.replace(answer, out)
        else:
            self.emit("copyto({out}, {0})", [answer], out)

    def replace(self, answer: Array, out: Array) -> None:
        """Have this step's instructions write to `out` what they would write to `answer`."""
        for line in self.lines:
            line.reads = [out if x is answer else x for x in line.reads]
            line.out = out if line.out is answer else line.out
        self.known = {
            tuple(out if x is answer else x for x in key): out if found is answer else found
            for key, found in self.known.items()
        }

    def fresh(self, answer: Array) -> bool:
        """Whether it is a temporary that an instruction of this step makes, as its last operand."""
        makers = [line for line in self.lines if line.out is answer]
        return (
            not answer.name
            and bool(makers)
            and not any(line.is_view and line.reads[0] is answer for line in self.lines)
            and all(re.search(r"\{out\}(?![.\[ ])", line.template) for line in makers)
        )

    # -- forward, by form
    def forward_map(self, step: Step, out: Array, operands: list[Any]) -> None:
        self.store(step.row(*operands) if _any_array(operands) else step.row.number(*operands), out)

    def forward_fold(self, step: Step, out: Array, operands: list[Any]) -> None:
        axis = len(out.shape)
        if step.row is total_of:
            self.sum(operands[0], [axis], out, keep=False)
        else:
            self.emit(f"{_FOLD[step.row]}.reduce({{0}}, {axis}, None, {{out}})", operands, out)

    def sum(self, term: Array, axes: list[int], out: Array, keep: bool = True) -> None:
        """Add up along axes, of which the one behind the last is that of rows.

        A product with ones where the array is a matrix to whose rows or columns that comes down:
        0.45 us instead of 1.0 for 7 x 16, 2.6 instead of 5.7 for 128 x 256.
        """
        rows = len(term.shape)
        long = [a for a, n in enumerate(term.shape) if n > 1] + [rows] * term.by_row
        summed, kept = [a for a in long if a in axes], [a for a in long if a not in axes]
        number = math.prod(term.shape[a] for a in summed if a < rows)
        leading = bool(summed and kept) and summed[-1] < kept[0]
        trailing = bool(summed) and (not kept or kept[-1] < summed[0])
        if (leading or trailing) and number <= MOST_ONES and not (term.boolean or out.boolean):
            lines = f"{number}, -1" if leading else f"{math.prod(term.shape) // number}, -1"
            matrix, sums = self.reshaped(term, lines), self.reshaped(out, "-1")
            if matrix is not None and sums is not None:
                ones = self.ones(number, rows in summed, vector=True)
                factors = [ones, matrix] if leading else [matrix, ones]
                self.emit("dot({0}, {1}, {out})", factors, sums)
                return
        axis = axes[0] if len(axes) == 1 else tuple(axes)
        self.emit(f"add.reduce({{0}}, {axis}, None, {{out}}{', True' * keep})", [term], out)

    def reshaped(self, array: Array, shape: str) -> Array | None:
        """A contiguous array of a program's own memory in another shape, or None."""
        if array in self.key_of:
            (space, offset, _), extents, gradient, *_ = self.key_of[array]
            if space not in (FREE, ROWS) or not self.in_one_piece(array):
                return None
            line = Operand((math.prod(extents),), regular=(space, offset, (1,)))
            return self.view(line, gradient, suffix=f".reshape({shape})")
        makers = [line for line in self.lines if line.out is array]
        if array.name or any(line.template.startswith("{out} =") for line in makers):
            return None
        view = Array(self, (), array.by_row)
        return self.emit(f"{{out}} = {{0}}.reshape({shape})", [array], view)

    def forward_product(self, step: Step, out: Array, operands: list[Any]) -> None:
        left, right = operands[:2]
        vectors = self.vectors(step, out)
        if vectors is not None:
            number = self.view(step.out, suffix=".reshape(())")
            self.emit("dot({0}, {1}, {out})", vectors, number)
        elif left.by_row and right.by_row:
            self.emit("einsum('...rkt,...kct->...rct', {0}, {1}, out={out})", [left, right], out)
        else:
            factors, target = [left, self.merged(step, 1, right)], self.flat(step.out)
            product = "dot" if self.is_thin(step, 1, target) else "matmul"
            self.emit(f"{product}({{0}}, {{1}}, {{out}})", factors, target)
        if len(operands) == 3:
            bias = operands[2]
            if out.by_row and isinstance(bias, Array) and not bias.by_row:
                bias = self.load(
                    step.operands[2], Step("map", step.row, [], step.out, step.nodes), out
                )
            self.emit("add({0}, {1}, {out})", [out, bias], out)

    def is_thin(self, step: Step, which: int, target: Array) -> bool:
        """Whether a product, or its adjoint by one operand, has a single row or column.

        dot is then faster than matmul, 0.46 us instead of 0.89 for 1 x 16 by 16 x 100, an outer
        product 0.97 instead of 2.60; but it wants a target in one piece.
        """
        if len(step.out.shape) > 2 or not self.in_one_piece(target):
            return False
        (rows, columns), inner = step.out.shape, step.operands[0].shape[1]
        return which == 2 or 1 in (rows, inner) or columns == 1 and step.out.view[0] == FREE

    def in_one_piece(self, array: Array) -> bool:
        """Whether an array's cells lie one behind the other in memory."""
        if array not in self.key_of:
            return not array.name
        (space, _, strides), extents, *_ = self.key_of[array]
        cells = grid_steps(extents, strides).reshape(-1)
        return space < FIRST_INPUT and bool((cells == np.arange(cells.size)).all())

    def vectors(self, step: Step, out: Array) -> list[Array] | None:
        """Both sides of a single dot as vectors, if the same for all rows and not gathered."""
        sides = step.operands[:2]
        if out.shape != (1, 1) or out.by_row:
            return None
        if not all(side.cells is None or side.regular is not None for side in sides):
            return None
        return [
            self.view(as_row(side)) if side.cells is not None else self.literal_row(side)
            for side in sides
        ]

    def literal_row(self, operand: Operand) -> Array:
        literal = np.broadcast_to(operand.literal, operand.shape).reshape(-1)  # type: ignore[arg-type]
        return Array(self, literal.shape, False, name=self.constant(literal.copy()))

    def forward_inner(self, step: Step, out: Array, operands: list[Any]) -> None:
        products = self.apply(multiply, operands[:2])
        sums = out
        if out.by_row and not products.by_row:  # the same for all rows, up to the bias
            sums = self.temporary(out.shape, False, expanded=True)
        self.sum(products, [len(out.shape)], sums, keep=False)
        if len(operands) == 3:
            self.emit("add({0}, {1}, {out})", [sums, operands[2]], out)

    def flat(self, operand: Operand, gradient: bool = False) -> Array:
        """A block of products as matrices: its columns and its rows-of-input in one axis."""
        space, offset, strides = operand.view
        if space in (THETA, FREE):
            return self.view(operand, gradient)
        if operand.shape[-1] == 1:
            one_axis_less = Operand(operand.shape[:-1], regular=(space, offset, strides[:-1]))
            return self.view(one_axis_less, gradient)
        lead = ", ".join(map(str, operand.shape[:-1]))
        return self.view(operand, gradient, suffix=f".reshape({lead}, -1)")

    def merged(self, step: Step, which: int, array: Array, gradient: bool = False) -> Array:
        """The right matrices (K, C) with rows as (K, C * rows); a copy if they do not lie so."""
        operand = step.operands[which]
        if not array.by_row:
            return array
        if operand.regular is not None and (operand.shape[-1] == 1 or operand.regular[2][-1] == 1):
            return self.flat(operand, gradient)
        lead = ", ".join(map(str, operand.shape[:-1]))
        if array.name:  # a view that does not merge
            copy = self.temporary(operand.shape, True)
            array = self.emit("copyto({out}, {0})", [array], copy)
        merged = Array(self, (*operand.shape[:-1], operand.shape[-1]), True)
        return self.emit(f"{{out}} = {{0}}.reshape({lead}, -1)", [array], merged)

    def forward_take(self, step: Step, out: Array, operands: list[Any]) -> None:
        index, values = operands
        width = step.operands[1].shape[-1]
        spaces = step.operands[0].spaces
        name = self.names.get(spaces[0] << SHIFT, "index") if spaces else "index"
        found = self.located(step, out)
        if found is not None:
            place, at, buffer = found
            stride = f"{step.operands[1].view[2][-1]}" + " * rows" * out.by_row
            self.emit(
                f"locate({{0}}, {width}, {stride}, {{1}}, {{out}}, {name!r})", [index, place], at
            )
            self.emit('{0}.take({1}, None, {out}, "clip")', [buffer, at], out)
            return
        self.emit(
            f"take_values({{0}}, {{1}}, {width}, {{out}}, {out.by_row}, {name!r})",
            [index, values],
            out,
        )

    def located(
        self, step: Step, out: Array, gradient: bool = False
    ) -> tuple[Array, Array, Array] | None:
        """If a take reads one value of each list, and the lists are a view: where the lists start
        in their buffer, where the values taken are, and the buffer, all on a single axis.
        """
        regular, (lists, indices, columns) = step.operands[1].regular, step.nodes.shape
        if indices > 1 or regular is None or regular[0] != (ROWS if out.by_row else FREE):
            return None
        buffer, key = "v" if out.by_row else "u", ("located", step)
        if key not in self.views:
            strides = (regular[2][0], 0, regular[2][1])
            shape = (lists, indices, columns)
            numbered = f"arange({buffer}.size).reshape({buffer}.shape)"
            tail = ", rows" if out.by_row else ""
            self.views[key] = Array(self, shape, out.by_row, name="place")
            text = f"strided({numbered}, {regular[1]}, {shape}, {strides}).copy()"
            self.bind(self.views[key], text)
            self.views[key, "at"] = Array(self, shape, out.by_row, name="at")
            self.bind(self.views[key, "at"], f"empty(({lists}, {indices}, {columns}{tail}), int)")
        if gradient:
            buffer = "g" + buffer
        if buffer not in self.views:
            self.views[buffer] = Array(self, (), out.by_row, name=f"{buffer}_")
            self.bind(self.views[buffer], f"{buffer}.reshape(-1)")
        return self.views[key], self.views[key, "at"], self.views[buffer]

    # -- backward, by form
    def backward_map(self, step: Step, out: Array, operands: list[Any], adjoint: Array) -> None:
        slopes: Sequence[Any]
        try:
            slopes = step.row.partials(out, *operands)
        except TypeError:  # a rule that branches on numbers: element by element
            slopes = self.slopes_by_element(step.row, [out, *operands])
        for operand, slope in zip(step.operands, slopes, strict=True):
            if slope is None or not self.wants(operand):
                continue
            reach = self.reach
            if isinstance(slope, Conditional):
                condition, slope = slope
                reach = condition if reach is None else self.apply(multiply, (reach, condition))
            if type(slope) is float and slope in (1.0, -1.0):
                term = adjoint if slope == 1.0 else self.apply(negative, (adjoint,))
            else:
                term = self.apply(multiply, (adjoint, slope))
            if reach is not None and type(slope) is not float or reach is not self.reach:
                term = self.apply(where, (reach, term, 0.0))
            self.add_to(operand, term)
            self.pass_reach(operand, reach)

    def slopes_by_element(self, row: Operation, xs: list[Any]) -> list[Any]:
        """The partials of a rule that only takes floats, about a microsecond each."""
        by_row = any(isinstance(x, Array) and x.by_row for x in xs)
        shape = np.broadcast_shapes(*(x.shape for x in xs if isinstance(x, Array)))
        reads = ", ".join(f"{{{i}}}" for i in range(len(xs)))
        found: list[Any] = []
        for position in range(len(xs) - 1):
            name = self.unique("slopes")
            self.globals[name] = runtime.slopes_by_element(row, position)
            slope = self.temporary(shape, by_row)
            exists = self.temporary(shape, by_row, boolean=True)
            self.emit(f"{{out}}[...] = {name}[0]({reads})", xs, slope)
            self.emit(f"{{out}}[...] = {name}[1]({reads})", xs, exists)
            found.append(Conditional(exists, slope))
        return found

    def backward_fold(self, step: Step, out: Array, operands: list[Any], adjoint: Array) -> None:
        if not self.wants(step.operands[0]):
            return
        shape = (*out.shape, 1)
        spread = self.with_axis(self.arrived, gradient=True)
        self.at_adjoint[spread] = self.arrived.addresses[..., None]
        if step.row is not total_of:  # the adjoint is shared among those that tie for the extreme
            answer = self.with_axis(step.out)
            ties = self.apply(equal, (operands[0], answer))
            count = self.temporary(shape, out.by_row)
            axis = -2 if out.by_row else -1
            self.emit(f"add.reduce({{0}}, {axis}, float, {{out}}, True)", [ties], count)
            share = self.emit("divide({0}, {1}, {out})", [spread, count], count)
            spread = self.apply(multiply, (share, ties))
        self.add_to(step.operands[0], spread)

    def with_axis(self, operand: Operand, gradient: bool = False) -> Array:
        """A block of answers, or of their adjoints, with an axis for what was summed over."""
        by_row = self.view(operand, gradient).by_row
        suffix = "[..., None, :]" if by_row else "[..., None]"
        view = self.view(operand, gradient, suffix=suffix)
        view.shape = (*operand.shape, 1)
        return view

    def backward_inner(self, step: Step, out: Array, operands: list[Any], adjoint: Array) -> None:
        spread = self.with_axis(self.arrived, gradient=True)
        self.add_multiples(spread, step.operands, operands)
        if len(operands) == 3 and self.wants(step.operands[2]):
            self.add_to(step.operands[2], adjoint)

    def add_multiples(self, spread: Array, sides: Sequence[Operand], values: list[Array]) -> None:
        """The adjoints of both sides of dots: the dots' own, times the other side."""
        if values[0] is values[1] and self.wants(sides[0]):  # x . x
            once, smaller = values[0], spread
            if spread.shape == (1,):
                once, smaller = spread, values[0]
            term = self.apply(multiply, (self.apply(multiply, (smaller, 2.0)), once))
            self.add_to(sides[0], term)
            return
        for side, other in ((sides[0], values[1]), (sides[1], values[0])):
            if self.wants(side):
                self.add_to(side, self.apply(multiply, (spread, other)))

    def backward_product(self, step: Step, out: Array, operands: list[Any], adjoint: Array) -> None:
        left, right = operands[:2]
        both = left.by_row and right.by_row
        vectors = self.vectors(step, out)
        if vectors is not None:
            spread = self.view(as_row(self.arrived), gradient=True, suffix=".reshape(())")
            self.add_multiples(spread, [as_row(o) for o in step.operands[:2]], vectors)
            if len(operands) == 3 and self.wants(step.operands[2]):
                self.add_to(step.operands[2], adjoint)
            return
        joined = self.joined(step, right)
        for which, pattern in ((0, "...rct,...kct->...rkt"), (1, "...rkt,...rct->...kct")):
            operand = step.operands[which]
            if not self.wants(operand):
                continue
            if joined is not None and which == 0:
                self.add_layer(step, self.transposed(self.merged(step, 1, right)), joined)
                continue
            if both:
                factors = [adjoint, right] if which == 0 else [left, adjoint]
                term = self.temporary(operand.shape, True)
                self.emit(f"einsum('{pattern}', {{0}}, {{1}}, out={{out}})", factors, term)
                self.add_to(operand, term)
                continue
            dy = self.flat(self.arrived, gradient=True)
            if which == 0:
                factors = [dy, self.transposed(self.merged(step, 1, right))]
                if step.out.shape[-1] == 1:  # one column: of one row, an outer product
                    self.add_product(
                        step, which, factors, False, "outer" if right.by_row else "multiply"
                    )
                    continue
            else:
                factors = [self.transposed(left), dy]
            by_row = right.by_row and which == 1
            self.add_product(step, which, factors, by_row)
        if len(step.operands) == 3 and self.wants(step.operands[2]) and joined is None:
            bias = step.operands[2]
            rows, columns = step.out.shape[-2:]
            regular = bias.regular is not None and bias.regular[0] in (THETA, FREE)
            if not both and regular and bias.shape == (rows, 1) and (columns > 1 or out.by_row):
                # the sum over a row, as a product with ones: 4 us instead of 10 for 128 x 256
                dy = self.flat(self.arrived, gradient=True)
                self.add_product(step, 2, [dy, self.ones(columns, out.by_row)], False)
            else:
                self.add_to(bias, adjoint)

    def joined(self, step: Step, right: Array) -> Operand | None:
        """The matrix [W b] of a layer fed by rows, if both lie so and have no adjoint yet."""
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
        if not (self.assignable(weights) and self.assignable(bias)):
            return None
        return Operand((rows, width + 1), regular=(THETA, offset, (width + 1, 1)))

    def add_layer(self, step: Step, inputs: Array, joined: Operand) -> None:
        """The adjoints of W and b, together: of one row they are a single product."""
        weights, _, bias = step.operands
        self.mark(self.written, weights)
        self.mark(self.written, bias)
        row = Array(self, (1, joined.shape[1]), False, name="row")
        self.bind(row, f"full((1, {joined.shape[1]}), 1.0, dtype)")
        dW, db, both = (self.view(o, gradient=True) for o in (weights, bias, joined))
        both.name = dW.name + db.name.removeprefix("d")
        dy = self.flat(self.arrived, gradient=True)
        reads = [dy, inputs, self.ones(1, True), row, dW, db]
        self.emit("layer({0}, {1}, {2}, {3}, {4}, {5}, {out})", reads, both)

    def ones(self, columns: int, by_row: bool, vector: bool = False) -> Array:
        """A column of ones, or a vector, for every column and row of a block, bound once."""
        key = ("ones", columns, by_row, vector)
        if key not in self.views:
            length = f"{columns} * rows" if by_row else f"{columns}"
            self.views[key] = Array(self, (columns, 1), False, name="ones")
            shape = length if vector else f"({length}, 1)"
            self.bind(self.views[key], f"full({shape}, 1.0, dtype)")
        return self.views[key]

    def add_product(
        self, step: Step, which: int, factors: list[Any], by_row: bool, product: str = "matmul"
    ) -> None:
        """The adjoint of one matrix: written where it belongs if nothing is there yet."""
        operand = step.operands[which]
        regular = operand.regular
        if self.assignable(operand) and (
            not by_row  # else the target must take columns and rows as one axis
            or operand.shape[-1] == 1
            or (regular[2][-1] == 1 and regular[0] == ROWS)  # type: ignore[index]
        ):
            self.mark(self.written, operand)
            out = self.view(operand, gradient=True)
            target = self.merged(step, which, out, gradient=True) if by_row else out
            if product == "matmul" and self.is_thin(step, which, target):
                product = "dot"
            self.emit(f"{product}({{0}}, {{1}}, {{out}})", factors, target)
            return
        term = self.temporary(operand.shape, by_row)
        if by_row:
            lead = ", ".join(map(str, operand.shape[:-1]))
            self.emit(f"matmul({{0}}, {{1}}, {{out}}.reshape({lead}, -1))", factors, term)
        else:
            self.emit(f"{product}({{0}}, {{1}}, {{out}})", factors, term)
        self.add_to(operand, term)

    def transposed(self, array: Array) -> Array:
        """The last two axes exchanged, as a view of what is bound or of a temporary."""
        if array in self.key_of:
            regular, shape, gradient, expand, suffix = self.key_of[array]
            operand = Operand(shape, regular=regular)
            axes = len(shape) + (array.by_row and not suffix)
            turn = ".T" if axes == 2 else ".swapaxes(-1, -2)"
            return self.view(operand, gradient, expand, suffix + turn)
        if array.name:  # a literal
            return Array(
                self,
                array.shape,
                False,
                name=self.constant(self.globals[array.name].swapaxes(-1, -2)),
            )
        turned = Array(self, array.shape, array.by_row)
        return self.emit("{out} = {0}.swapaxes(-1, -2)", [array], turned)

    def backward_take(self, step: Step, out: Array, operands: list[Any], adjoint: Array) -> None:
        index, values = operands
        operand = step.operands[1]
        if not self.wants(operand):
            return
        found = self.located(step, out, gradient=True)
        if found is not None:
            assign = "="
            if self.assignable(operand):
                self.mark(self.written, operand)
                self.emit("{out}.fill(0.0)", [], self.view(operand, gradient=True))
            else:
                self.settle_all(operand)
                self.fill(operand.cells)
                assign = "+="
            self.emit(f"{{out}}[{{0}}] {assign} {{1}}", [found[1], adjoint], found[2])
        else:
            by_row = isinstance(values, Array) and values.by_row
            term = self.temporary(operand.shape, by_row)
            self.emit(
                f"put_values({{0}}, {{1}}, {operand.shape[-1]}, {{out}}, {out.by_row})",
                [index, adjoint],
                term,
            )
            self.add_to(operand, term)

    # -- adding up adjoints
    def adjoint_of(self, step: Step) -> Operand:
        """Where the adjoint of a step's block is: there, or where a block that it equals has it."""
        if step.out in self.loans.open:
            source = self.loans.source(step.out, step.out)
            # a matrix product wants cells that lie one behind the other
            if source is not None and not (step.form == "product" and _scattered(source)):
                return source
            self.settle(step.out)
        return step.out

    def settle_all(self, operand: Operand) -> None:
        """Copy what any block that this operand has cells of has read elsewhere."""
        for block in self.loans.touched(operand.addresses) if self.loans.open else ():
            if block in self.loans.open:
                self.settle(block)

    def settle(self, block: Operand) -> None:
        """Copy the adjoint that a block has read elsewhere."""
        own, source = self.loans.open.pop(block)
        self.emit(
            "copyto({out}, {0})", [self.view(source, gradient=True)], self.view(own, gradient=True)
        )

    def assignable(self, operand: Operand) -> bool:
        """Whether an adjoint may be written to these cells rather than added."""
        if operand.regular is None or self.cells(self.written, operand).any():
            return False
        assert operand.cells is not None
        return len(np.unique(operand.cells)) == operand.cells.size

    def fill(self, cells: np.ndarray | None) -> None:
        """Zeros in those of the cells that no adjoint has been written to."""
        assert cells is not None
        for space in np.unique(cells >> SHIFT).tolist():
            if space == LITERAL:
                continue
            at = np.unique(cells[cells >> SHIFT == space] & (1 << SHIFT) - 1)
            empty = at[~self.written[space][at] & self.needed[space][at]]
            if len(empty):
                self.written[space][empty] = True
                if space != THETA and empty[-1] - empty[0] + 1 == len(empty):
                    index = f"{empty[0]}:{empty[-1] + 1}"
                else:
                    index = self.constant(empty, "index")
                self.emit(
                    f"{{0}}[{index}] = 0.0", [self.whole(space, True)], self.whole(space, True)
                )

    def add_to(self, operand: Operand, term: Array) -> None:
        """Add an adjoint, of the step's grid, to the adjoint of an operand."""
        assert operand.cells is not None
        by_row = any(space == ROWS or space >= FIRST_INPUT for space in operand.spaces)
        spread = [a for a, n in enumerate(operand.shape) if n == 1 and term.shape[a] > 1]
        over_rows = term.by_row and not by_row
        if self.assignable(operand):
            self.mark(self.written, operand)
            at = self.at_adjoint.get(term)
            if at is not None and not spread and term.by_row == by_row:
                if self.loans.lend(operand, at):
                    return
            out = self.view(operand, gradient=True, expand=term.by_row)
            if spread or over_rows:
                self.sum(term, spread + [len(term.shape)] * over_rows, out)
            elif term.name.startswith("seed"):
                self.emit(f"{{out}}.fill({term.name})", [], out)
            else:
                self.store(term, out)
                # what is added to it later is not what a rule computed
                self.known = {key: x for key, x in self.known.items() if x is not out}
            return
        block = self.loans.block(operand)
        if block is not None and block in self.loans.open and not spread and not over_rows:
            source = self.loans.source(block, operand)
            if source is not None:
                del self.loans.open[block]
                out = self.view(operand, gradient=True)
                self.emit("add({0}, {1}, {out})", [self.view(source, gradient=True), term], out)
                return
        self.settle_all(operand)
        regular = operand.regular is not None
        once = regular and len(np.unique(operand.cells)) == operand.cells.size
        if once:
            self.fill(operand.cells)
        if spread or over_rows:
            sums = self.temporary(operand.shape, term.by_row and not over_rows, False, over_rows)
            self.sum(term, spread + [len(term.shape)] * over_rows, sums)
            term = sums
        if once:
            out = self.view(operand, gradient=True, expand=term.by_row or term.expanded)
            self.emit("add({0}, {1}, {out})", [out, term], out)
            return
        for space in operand.spaces:
            if space != LITERAL:
                self.scatter(operand, space, term)

    def scatter(self, operand: Operand, space: int, term: Array) -> None:
        """Send an adjoint to those cells of an irregular operand that are in one space."""
        here, at = self.wanted(operand, space)
        if len(here):
            source, lies = self.kept(term)
            lies = np.broadcast_to(lies, operand.shape).reshape(-1)  # it may be broadcast
            self.arrivals.send(space, at, source, lies[here])

    def wanted(self, operand: Operand, space: int) -> tuple[np.ndarray, np.ndarray]:
        """Where in its grid an operand wants an adjoint for a cell of this space, and which."""
        assert operand.cells is not None
        flat = operand.cells.reshape(-1)
        at = flat & (1 << SHIFT) - 1
        inside = flat >> SHIFT == space
        if space in (FREE, ROWS):  # what pads is not anybody's
            inside &= at >= len(RESERVED)
        if operand.dead is not None:
            inside &= ~operand.dead.reshape(-1)
        here = np.flatnonzero(inside & self.needed[space][np.where(inside, at, 0)])
        return here, at[here]

    def kept(self, term: Array) -> tuple[int, np.ndarray]:
        """Where a term of an adjoint stays until it is fetched: a space, cells in its shape."""
        if term not in self.lies:
            regular, _, gradient, _, suffix = self.key_of.get(term, (None, None, False, None, ""))
            if gradient and not suffix.endswith((".T", ".swapaxes(-1, -2)")):  # itself an adjoint
                space, offset, strides = regular
                cells = offset + grid_steps(self.key_of[term][1], strides)
            else:
                view, space, cells = self.spare(term.shape, term.by_row, term.expanded)
                self.store(term, view)
            self.lies[term] = space, cells.reshape(term.shape)
        return self.lies[term]

    def spare(
        self, shape: Sequence[int], by_row: bool, expand: bool = False
    ) -> tuple[Array, int, np.ndarray]:
        """New cells behind the adjoints: their view, space and numbers."""
        space = ROWS if by_row else FREE
        offset, size = self.gradient_sizes[space], math.prod(shape)
        self.gradient_sizes[space] += size
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        operand = Operand(tuple(shape), regular=(space, offset, tuple(strides)))
        view = self.view(operand, gradient=True, expand=expand)
        return view, space, offset + np.arange(size)

    def collect(self, space: int, cell: int) -> None:
        """Add up what was sent to the block of a cell."""
        by_row = space == ROWS or space >= FIRST_INPUT
        for cells, at in by_count(*self.arrivals.fetch(space, cell, ROWS)):
            if by_row:
                self.deliver(space, cells, ROWS, at, "add.reduce({0}, 0, None, {out})")
            else:  # what all rows share gets the sum over rows
                terms = self.temporary(at.shape, True)
                self.fetch(ROWS, at, terms)
                sums, _, lie = self.spare(cells.shape, False)
                self.emit("add.reduce({0}, (0, -1), None, {out})", [terms], sums)
                self.arrivals.send(space, cells, FREE, lie)
        cells, at = self.arrivals.fetch(space, cell, FREE)
        if len(cells):
            # a column of numbers in one call; with rows, that would go number by number: 4 ns
            # instead of 0.4 for each
            found, starts = np.unique(cells, return_index=True)
            pieces = f"add.reduceat({{0}}, {self.constant(starts, 'index')}, 0, None, {{out}})"
            self.deliver(space, found, FREE, at[None] if len(found) == len(at) else at, pieces)

    def deliver(
        self, space: int, cells: np.ndarray, source: int, at: np.ndarray, total: str
    ) -> None:
        """Add terms to cells: at (1, c) of one each, else what `total` makes of those fetched."""
        self.settle_all(Operand(cells.shape, (space << SHIFT) + cells))
        fresh = not self.written[space][cells].any()
        if not fresh:
            self.fill((space << SHIFT) + cells)
        self.written[space][cells] = True
        single = at.ndim == 2 and len(at) == 1
        at = at[0] if single else at
        together = int(cells[-1] - cells[0]) + 1 == len(cells)
        by_row = space == ROWS or space >= FIRST_INPUT
        if together:
            block = Operand(cells.shape, regular=(space, int(cells[0]), (1,)))
            into = self.view(block, gradient=True)
        out = into if together and fresh else self.temporary(cells.shape, by_row)
        terms = out if single else self.temporary(at.shape, by_row)
        self.fetch(source, at, terms)
        if not single:
            self.emit(total, [terms], out)
        if not together:
            whole, index = self.whole(space, gradient=True), self.constant(cells, "index")
            self.emit(f"{{0}}[{index}] {'=' if fresh else '+='} {{1}}", [whole, out], whole)
        elif not fresh:
            self.emit("add({0}, {1}, {out})", [into, out], into)

    def fetch(self, source: int, at: np.ndarray, out: Array) -> Array:
        """The terms at these cells of a space, gathered."""
        buffer = Array(self, (), source == ROWS, name="gv" if source == ROWS else "gu")
        index = self.constant(at, "index")
        return self.emit(f'take({{0}}, {index}, 0, {{out}}, "clip")', [buffer], out)

    # -- reach: what an adjoint of 0.0 does not tell, whether there is one
    def reach_of(self, out: Operand, arrived: np.ndarray) -> Array | None:
        """Where a block of cells is reached; None if it is wherever an adjoint has arrived."""
        if not self.unsure:
            return None
        certain = self.cells(self.certain, out)
        if not (arrived & ~certain).any():
            return None
        reach = self.reach_view(out)
        if certain.any():
            index = self.constant(np.flatnonzero(certain), "index")
            flat = f"{{0}}.reshape({certain.size}" + ", -1" * reach.by_row + ")"
            self.emit(f"{flat}[{index}] = True", [reach], reach)
        return reach

    def reach_view(self, operand: Operand, suffix: str = "") -> Array:
        """The truths of a block of cells, whether they are reached."""
        assert operand.regular is not None
        space, offset, strides = operand.regular
        whole, key = self.all_reach(space), ("reach", operand.regular, operand.shape, suffix)
        if key not in self.views:
            by_row, size = whole.by_row, self.layout.sizes[space]
            text = view_text(whole.name, offset, operand.shape, strides, by_row, size)
            made = Array(self, operand.shape, by_row, True, "r" + self.name_of(operand))
            self.views[key] = self.bind(made, text + suffix)
        return self.views[key]

    def all_reach(self, space: int) -> Array:
        """The truths of all cells of a space; at first they are not reached."""
        key, size, by_row = ("reach", space), self.layout.sizes[space], space == ROWS
        if key not in self.views:
            whole = Array(self, (size,), by_row, True, "rv" if by_row else "ru")
            self.bind(whole, f"empty(({size},{' rows' * by_row}), bool)")
            self.backward[0].insert(0, Instruction("{out}.fill(False)", [], whole))
            self.views[key] = whole
        return self.views[key]

    def pass_reach(self, operand: Operand, reach: Array | None) -> None:
        """Note that an operand is reached where its user is; None is everywhere."""
        spaces = [space for space in operand.spaces if space in (FREE, ROWS)]
        if not (self.unsure and spaces and self.wants(operand)):
            return
        assert operand.cells is not None
        if reach is None or not self.cells(self.minds, operand).any():
            self.doubtful |= reach is not None
            self.mark(self.certain, operand)
            return
        over_rows = reach.by_row and spaces == [FREE]
        spread = [a for a, n in enumerate(operand.shape) if n == 1 and reach.shape[a] > 1]
        if spread or over_rows:
            text = _any(spread, over_rows, reach)
            by_row = reach.by_row and not over_rows
            shape = [1 if axis in spread else n for axis, n in enumerate(reach.shape)]
            found = self.temporary(shape, by_row, True, over_rows or reach.expanded)
            reach = self.emit(text, [reach], found)
        if operand.regular is None or len(np.unique(operand.cells)) < operand.cells.size:
            for space in spaces:
                self.scatter_reach(operand, space, reach)
            return
        expand = reach.expanded and spaces == [FREE]
        target = self.reach_view(operand, "[..., None]" if expand else "")
        self.emit("logical_or({0}, {1}, {out})", [target, reach], target)

    def scatter_reach(self, operand: Operand, space: int, reach: Array) -> None:
        """The same for the cells in one space of an operand that is no view."""
        here, at = self.wanted(operand, space)
        if not len(here):
            return
        whole, count = self.all_reach(space), math.prod(reach.shape)
        lies = np.arange(count).reshape(reach.shape)
        lies = np.broadcast_to(lies, operand.shape).reshape(-1)[here]
        order = np.argsort(at, kind="stable")
        cells, starts = np.unique(at[order], return_index=True)
        terms = f"{{1}}.reshape({count}, -1)[{self.constant(lies[order], 'index')}]"
        if not whole.by_row:
            terms = f"logical_or.reduce({terms}, 1)"
        if len(cells) < len(at):
            terms = f"logical_or.reduceat({terms}, {self.constant(starts, 'index')}, 0)"
        self.emit(f"{{0}}[{self.constant(cells, 'index')}] |= {terms}", [whole, reach], whole)

    def pass_on(self, step: Step) -> None:
        """The reach of what was not computed elementwise."""
        values, bias = step.operands[:2], step.operands[2:]
        reaches: list[Array | None] = [None, None]
        if self.unsure and (self.reach is not None or step.form == "take"):
            inner = any(space in (FREE, ROWS) for o in values for space in o.spaces)
            self.doubtful |= inner and step.row is not total_of  # they multiply what is not reached
        if self.reach is not None and step.form == "product":
            for which, axis in ((0, len(step.out.shape) - 1), (1, len(step.out.shape) - 2)):
                shape = [1 if a == axis else n for a, n in enumerate(step.out.shape)]
                found = self.temporary(shape, self.reach.by_row, True)
                text = _any([axis], False, self.reach)
                reaches[which] = self.emit(text, [self.reach], found)
        elif self.reach is not None and step.form in ("fold", "inner"):
            suffix = "[..., None, :]" if self.reach.by_row else "[..., None]"
            spread = self.reach_view(step.out, suffix)
            spread.shape = (*step.out.shape, 1)
            reaches = [spread, spread]
        for operand, reach in zip(values, reaches, strict=False):
            self.pass_reach(operand, reach)
        for operand in bias:
            self.pass_reach(operand, self.reach)


_NUMBERS = {0.0: "zero", 1.0: "one", 2.0: "two", 0.5: "half"}
_RESERVED = {"theta", "u", "v", "g", "gu", "gv", "ru", "rv", "seed", "rows", "dtype", "outer"}
_RESERVED |= {"layer", "parameters", "inputs", "gradients", "buffers", "forward", "backward"}
_FOLD = {largest_of: "maximum", smallest_of: "minimum"}


def dependence(row: Operation, count: int) -> list[bool]:
    """For every operand: whether the row's partial is ever anything but None."""
    if not row.selective or row.arity is None:
        return [True] * count
    try:
        slopes = row.partials(Symbol("y"), *(Symbol(f"x{i}") for i in range(count)))
    except TypeError:
        return [True] * count
    return [slope is not None for slope in slopes]


def multiplies(step: Step) -> bool:
    """Whether the adjoints of an elementwise step's operands are products with what varies."""
    xs = [1.0 if o.cells is None else Symbol(f"x{i}") for i, o in enumerate(step.operands)]
    try:
        slopes = step.row.partials(Symbol("y"), *xs)
    except TypeError:
        return True
    slopes = tuple(slope[1] if isinstance(slope, Conditional) else slope for slope in slopes)
    operands = zip(slopes, step.operands, strict=True)
    return any(isinstance(slope, Symbol) for slope, o in operands if o.cells is not None)


def first_cell(block: Operand) -> int:
    assert block.cells is not None
    return int(block.cells.reshape(-1)[0]) & (1 << SHIFT) - 1


def as_row(operand: Operand) -> Operand:
    """A matrix of one row or one column, as the row of its cells."""
    if operand.cells is None or operand.regular is None:
        return operand
    space, offset, strides = operand.regular
    stride = strides[0] if operand.shape[0] > 1 else strides[1]
    return Operand(
        (operand.cells.size,), operand.cells.reshape(-1), None, (space, offset, (stride,))
    )


def _scattered(operand: Operand) -> bool:
    """Whether an operand's cells lie otherwise than one behind the other."""
    return bool((np.diff(operand.addresses.reshape(-1)) != 1).any())


def _any(axes: list[int], over_rows: bool, term: Array) -> str:
    """Whether anything is true along the axes along which an operand is broadcast."""
    every = [*axes, len(term.shape)] if over_rows else axes
    axis = every[0] if len(every) == 1 else tuple(every)
    return f"logical_or.reduce({{0}}, {axis}, None, {{out}}, True)"


def _any_array(xs: Sequence[Any]) -> bool:
    return any(isinstance(x, Array) for x in xs)


def view_text(
    buffer: str, offset: int, shape: Sequence[int], strides: Sequence[int], by_row: bool, size: int
) -> str:
    """The expression for cells at offset + sum_j strides[j] * index_j, as slices where possible."""
    axes = sorted((a for a in range(len(shape)) if shape[a] > 1), key=lambda a: -strides[a])
    extents = [shape[a] for a in axes]
    steps = [strides[a] for a in axes]
    tail = ", -1" if by_row else ""
    if not axes:
        return f"{buffer}[{offset}:{offset + 1}].reshape({', '.join(map(str, shape))}{tail})"
    pitch = [steps[j - 1] // steps[j] if steps[j] > 0 else 0 for j in range(1, len(steps))]
    nested = steps[-1] == 1 and all(
        steps[j - 1] == pitch[j - 1] * steps[j] and pitch[j - 1] >= extents[j]
        for j in range(1, len(steps))
    )
    span = extents[0] * steps[0]
    whole = shape if axes == sorted(axes) and pitch == extents[1:] else None
    if nested and offset + span <= size:
        text = f"{buffer}[{offset}:{offset + span}]"
        if whole is not None:
            return text + (
                f".reshape({', '.join(map(str, shape))}{tail})" if len(shape) > 1 else ""
            )
        text += f".reshape({', '.join(map(str, [extents[0], *pitch]))}{tail})"
        cut = [":" if p == e else f":{e}" for p, e in zip(pitch, extents[1:], strict=True)]
        if any(c != ":" for c in cut):
            text += f"[:, {', '.join(cut)}]"
        order = [sorted(axes).index(a) for a in axes]
        if order != sorted(order):
            back = [order.index(k) for k in range(len(order))]
            text += f".transpose({', '.join(map(str, back + ([len(back)] if by_row else [])))})"
        if len(axes) < len(shape):
            text += "[" + ", ".join(":" if n > 1 else "None" for n in shape) + "]"
        return text
    return f"strided({buffer}, {offset}, {tuple(shape)}, {tuple(strides)})"
