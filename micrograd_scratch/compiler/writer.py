"""Writer: the instructions of a program, and the arrays, views and literals that they name.

Every line reads and writes arrays that are bound beforehand: views of the buffers, temporaries
(which share memory: memory.py) and numbers. An operation's value and its partials are traced
through the rows' own rules, on `Array`s that note each operation as an instruction; what one step
has computed is not computed again. Which lines a step needs is for forms.py and products.py to say.
"""

from __future__ import annotations

import keyword
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..operations import (
    Operation,
    Symbol,
    add,
    constant_power,
    divide,
    maximum_of_two,
    minimum_of_two,
    multiply,
    not_equal,
    power,
    sqrt,
    where,
)
from .cells import buffer_of, by_row
from .factor import FIRST_INPUT, FREE, ROWS, SHIFT, THETA
from .line_text import COMPARISONS, identifier
from .names import name_of_step
from .steps import Layout, Operand, Step, grid_steps
from .views import view_text

_OF_TRUTHS = {*COMPARISONS, multiply, divide}  # that need not be made numbers
MOST_ONES = 10_000  # beyond it sums are pairwise, which is more exact than a product with ones
_NUMBERS = {0.0: "zero", 1.0: "one", 2.0: "two", 0.5: "half"}
_RESERVED = {"theta", "u", "v", "g", "gu", "gv", "ru", "rv", "seed", "rows", "dtype", "outer"}
_RESERVED |= {"layer", "parameters", "inputs", "gradients", "buffers", "forward", "backward"}
_RESERVED |= {"tu", "tv", "bu", "bv", "feed"}


class View(NamedTuple):
    """What a bound array looks at: cells in their regular form, or the adjoints of these.

    name  of adjoints, for those of several blocks may lie there one after the other
    """

    regular: tuple[int, int, tuple[int, ...]]
    shape: tuple[int, ...]
    gradient: bool
    expand: bool
    suffix: str
    name: str


class Array(Symbol):
    """An array in the program: what instructions read and write.

    shape    of its grid, without the axis of rows
    by_row   whether it has that axis (the last)
    boolean  whether its elements are truths
    expanded whether it has an axis of length 1 in place of rows
    name     its name in the source; given last to temporaries, which share memory
    view     what it looks at, if it is a view of cells
    """

    __slots__ = ("writer", "shape", "by_row", "boolean", "name", "expanded", "view")

    def __init__(
        self,
        writer: Writer,
        shape: Sequence[int],
        by_row: bool,
        boolean: bool = False,
        name: str = "",
        expanded: bool = False,
        view: View | None = None,
    ) -> None:
        super().__init__(name)
        self.writer, self.shape, self.by_row = writer, tuple(shape), by_row
        self.boolean, self.name, self.expanded, self.view = boolean, name, expanded, view

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two temporaries have in common that can share a name."""
        return not self.name, self.shape, self.by_row, self.boolean, self.expanded

    @property
    def in_one_piece(self) -> bool:
        """Whether its cells lie one behind the other in memory."""
        if self.view is None:
            return not self.name
        space, _, strides = self.view.regular
        cells = grid_steps(self.view.shape, strides).reshape(-1)
        return space < FIRST_INPUT and bool((cells == np.arange(cells.size)).all())

    def __operation__(self, row: Operation, xs: Sequence[Any]) -> Any:
        truths = all(isinstance(x, Array) and x.boolean for x in xs)
        if truths and row not in _OF_TRUTHS:  # in a rule they are numbers: two add up to 2
            xs = [self.writer.apply(multiply, (x, 1.0)) for x in xs]
        return self.writer.apply(row, xs)


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


class Writer:
    """What the lines of all steps are written with.

    lines     the instructions of the step at hand, forward or backward
    known     (row, operands) -> its answer, within that step
    bindings  function -> the arrays that it names, and the text that makes them
    globals   literals, index arrays and functions, by name
    """

    def __init__(self, layout: Layout, names: dict[int, str]) -> None:
        self.layout, self.names = layout, names
        self.lines: list[Instruction] = []
        self.known: dict[Any, Any] = {}
        self.bindings: dict[str, list[tuple[Array, str]]] = {}
        self.globals: dict[str, Any] = {}
        self.bound: dict[Any, Array] = {}  # what is bound once: views, numbers, ones
        self.gradient_sizes = list(layout.sizes)  # with what waits to be added up
        self.taken: dict[str, int] = {}
        # the blocks of cells computed so far: where they start, what they are called
        self.blocks: dict[int, tuple[list[int], list[str]]] = {FREE: ([], []), ROWS: ([], [])}
        # block -> what the one is called whose adjoint has been written over its own
        self.tenants: dict[tuple[int, int], str] = {}

    # -- names
    def constant(self, value: np.ndarray, kind: str = "constant") -> str:
        """The name of an array that never changes."""
        name = f"{kind}{len(self.globals)}"
        self.globals[name] = value
        return name

    def unique(self, name: str) -> str:
        """The name, or the name with a number behind it, that is not yet taken."""
        number = self.taken.get(name, 0) + 1
        self.taken[name] = number
        candidate = name if number == 1 else f"{name}_{number}"
        if candidate in _RESERVED or keyword.iskeyword(candidate) or candidate in self.globals:
            return self.unique(name)
        if number > 1:  # somebody's label may be just that
            return self.unique(candidate)
        return candidate

    def name_block(self, step: Step) -> None:
        """Note what the cells that a step computes are called."""
        first = step.operands[0]
        name = name_of_step(step, "" if first.regular is None else self.name_of(first))
        space, offset, _ = step.out.view
        starts, names = self.blocks[space]
        place = bisect_right(starts, offset)
        starts.insert(place, offset)
        names.insert(place, name)

    def name_of(self, operand: Operand, gradient: bool = False) -> str:
        """What a view is called: after the parameters in it, or the block that it is part of."""
        space, offset, strides = operand.view
        if space >= FIRST_INPUT:
            return f"x{space - FIRST_INPUT}_"
        last = offset + sum((n - 1) * s for n, s in zip(operand.shape, strides, strict=True))
        if space in self.blocks:
            starts, names = self.blocks[space]
            block = bisect_right(starts, offset)
            inside = last < self.layout.sizes[space]  # behind it, terms wait to be added up
            name = names[block - 1] if inside and 0 < block == bisect_right(starts, last) else "h"
            return self.tenants.get((space, block), name) if gradient else name
        first_name, last_name = (self.names.get((space << SHIFT) + at) for at in (offset, last))
        if first_name and first_name == last_name:
            return first_name
        return "p"

    def move_in(self, operand: Operand, spent: Operand) -> None:
        """Note that the adjoint of `operand` lies, from now on, where that of `spent` was."""
        space, offset, _ = spent.view
        self.tenants[space, bisect_right(self.blocks[space][0], offset)] = self.name_of(operand)

    # -- what is bound once
    def bind(self, array: Array, text: str, function: str = "buffers") -> Array:
        """Have a function of bindings name this array, which the text makes."""
        self.bindings.setdefault(function, []).append((array, text))
        return array

    def view(
        self,
        operand: Operand,
        gradient: bool = False,
        expand: bool = False,
        suffix: str = "",
    ) -> Array:
        """The bound view of a regular operand, or of its adjoint.

        expand  gives cells without rows an axis for rows, of length 1
        suffix  is what else to do to the view, once, such as .swapaxes(-1, -2)
        """
        name = "d" + self.name_of(operand, gradient) if gradient else ""
        space, offset, strides = operand.view
        # along an axis of one cell every stride is the same view
        strides = tuple(s if n > 1 else 0 for s, n in zip(strides, operand.shape, strict=True))
        regular, expanded = (space, offset, strides), expand and not by_row(space)
        view = View(regular, operand.shape, gradient, expanded, suffix, name)
        if view not in self.bound:
            buffer = buffer_of(space)
            if gradient:
                buffer = "g" if space == THETA else "g" + buffer
            size = (self.gradient_sizes if gradient else self.layout.sizes)[space]
            text = view_text(buffer, offset, operand.shape, strides, by_row(space), size)
            if expanded:
                text += "[..., None]"
            function = "buffers"
            if space == THETA:
                function = "gradients" if gradient else "parameters"
            elif space >= FIRST_INPUT:
                function = "gradients" if gradient else "inputs"
            name = name or self.name_of(operand)
            self.bound[view] = self.bind(
                Array(self, operand.shape, by_row(space), False, name, expanded, view),
                text + suffix,
                function,
            )
        return self.bound[view]

    def whole(self, space: int, gradient: bool = False) -> Array:
        """All cells of a space."""
        size = self.layout.sizes[space]
        return self.view(Operand((size,), regular=(space, 0, (1,))), gradient)

    def number(self, number: float) -> Array:
        """A number as an array without axes, bound once: 0.24 us a call instead of 0.43."""
        number = float(number)
        key = ("number", repr(number))
        if key not in self.bound:
            name = _NUMBERS.get(number) or "c" + re.sub("[-+.]", "_", repr(number))
            array = Array(self, (), False, name=name)
            self.bound[key] = self.bind(array, f"array({number!r}, dtype)")
        return self.bound[key]

    def filled(self, number: float, shape: Sequence[int], by_row: bool, expanded: bool) -> Array:
        """An array that holds one number, bound once."""
        key = ("filled", repr(float(number)), tuple(shape), by_row, expanded)
        if key not in self.bound:
            tail = ["rows"] if by_row else ["1"] if expanded else []
            text = f"full(({', '.join([*map(str, shape), *tail])},), {float(number)!r}, dtype)"
            array = Array(self, shape, by_row, name="filled", expanded=expanded)
            self.bound[key] = self.bind(array, text)
        return self.bound[key]

    def ones(self, columns: int, by_row: bool, vector: bool = False) -> Array:
        """A column of ones, or a vector, for every column and row of a block, bound once."""
        key = ("ones", columns, by_row, vector)
        if key not in self.bound:
            length = f"{columns} * rows" if by_row else f"{columns}"
            shape = length if vector else f"({length}, 1)"
            array = Array(self, (columns, 1), False, name="ones")
            self.bound[key] = self.bind(array, f"full({shape}, 1.0, dtype)")
        return self.bound[key]

    # -- instructions
    def emit(self, template: str, reads: Sequence[Any], out: Array) -> Array:
        """Add a line; returns what it writes."""
        self.lines.append(Instruction(template, reads, out))
        return out

    def temporary(
        self, shape: Sequence[int], by_row: bool, boolean: bool = False, expanded: bool = False
    ) -> Array:
        """A new array of the step's own."""
        return Array(self, shape, by_row, boolean, expanded=expanded)

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
        if array.view is not None:
            space, offset, _ = array.view.regular
            if space not in (FREE, ROWS) or not array.in_one_piece:
                return None
            line = Operand((math.prod(array.view.shape),), regular=(space, offset, (1,)))
            return self.view(line, array.view.gradient, suffix=f".reshape({shape})")
        makers = [line for line in self.lines if line.out is array]
        if array.name or any(line.template.startswith("{out} =") for line in makers):
            return None
        view = Array(self, (), array.by_row)
        return self.emit(f"{{out}} = {{0}}.reshape({shape})", [array], view)

    # -- answers that are written where they belong
    def store(self, answer: Any, out: Array) -> None:
        """Have `answer` written to the view `out`: by the instruction that makes it, if it can."""
        if not isinstance(answer, Array):
            self.emit("{out}.fill({0})", [float(answer)], out)
        elif self.is_fresh(answer) and (answer.shape, answer.by_row) == (out.shape, out.by_row):
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

    def is_fresh(self, answer: Array) -> bool:
        """Whether it is a temporary that an instruction of this step makes, as its last operand."""
        makers = [line for line in self.lines if line.out is answer]
        return (
            not answer.name
            and bool(makers)
            and not any(line.is_view and line.reads[0] is answer for line in self.lines)
            and all(re.search(r"\{out\}(?![.\[ ])", line.template) for line in makers)
        )

    # -- tracing the rules of rows
    def apply(self, row: Operation, xs: Sequence[Any]) -> Any:
        """The row applied to arrays and numbers: what held the answer before, or instructions."""
        if row is where and not isinstance(xs[0], Array):
            return xs[1] if xs[0] else xs[2]
        if row in (power, constant_power) and not isinstance(xs[1], Array) and xs[1] in _POWERS:
            return _POWERS[xs[1]](xs[0])
        if row is divide and not isinstance(xs[1], Array) and _is_power_of_two(xs[1]):
            return self.apply(multiply, (xs[0], 1.0 / xs[1]))  # exact
        key = (row, *(x if isinstance(x, Array) else repr(x) for x in xs))  # 0.0 is not -0.0
        if key not in self.known:
            if callable(row.array):
                self.known[key] = row.array(*xs)
            else:
                self.known[key] = self.instruction(row, xs)
        return self.known[key]

    def instruction(self, row: Operation, xs: Sequence[Any]) -> Array:
        """The answer of an instruction that applies a row of the table."""
        arrays = [x for x in xs if isinstance(x, Array)]
        shapes = {x.shape for x in arrays}
        shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)  # takes 4 us
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
        boolean = row in COMPARISONS or truths and row in (multiply, add)
        out = self.temporary(shape, by_row, boolean, expanded)
        name = str(row.array)
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
        name = self.unique(f"{identifier(row.name)}_")  # NumPy does not have it
        self.globals[name] = function = row.on_arrays
        if isinstance(function, np.ufunc):  # SciPy has it
            return self.emit(f"{name}({reads}, {{out}})", xs, out)
        return self.emit(f"{{out}}[...] = {name}({reads})", xs, out)


# Powers in other words: 0.2 to 1 ns a number, where NumPy's power takes 3 to 12.
_POWERS: dict[Any, Callable[[Any], Any]] = {
    -1.0: lambda x: 1.0 / x,
    0.5: lambda x: where(x == -math.inf, math.inf, sqrt(x) + 0.0),  # sqrt has nan and -0.0
    1.0: lambda x: x,
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    4.0: lambda x: x * x * (x * x),
}


def _is_power_of_two(x: float) -> bool:
    """Whether x is one whose reciprocal is a number of 32 bits, too."""
    return math.frexp(x)[0] in (0.5, -0.5) and 2.0**-120 < abs(x) < 2.0**120
