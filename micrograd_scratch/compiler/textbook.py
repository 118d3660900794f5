"""Textbook: the steps of a program as the NumPy that stands in a textbook.

    z1 = W1 @ x + b1[:, None]
    a1 = relu(z1)
    ...
    dz1 = da1 * (z1 > 0)
    dW1 = dz1 @ x.T
    db1 = dz1.sum(1)

The same steps as those that emit.py writes with bound views and `out=`, for reading: every step is
one expression and a new array, samples are columns, `da` is the derivative of the mean by `a`. It
runs and gives the same numbers. A derivative is written in its textbook form where the row has one,
a * (1 - a) for a sigmoid. It leaves out what guards the executed form: numbers that are not finite,
also where no derivative reaches them (a branch not taken is multiplied by 0, which is nan if it is
infinite), and indices out of range.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np

from ..operations import (
    Conditional,
    Operation,
    Symbol,
    detach,
    largest_of,
    negative,
    smallest_of,
    total_of,
    where,
)
from . import runtime
from .adjoints import depends_on
from .cells import by_row as has_rows
from .cells import places
from .factor import FIRST_INPUT, FREE, LITERAL, ROWS, SHIFT, THETA, unique
from .layout import COPY, MULTIPLY_ADD, RESERVED, Layout, Operand, Step
from .names import name_of_step
from .rolling import Line, Rolled, Rolling
from .views import view_text

# The axes of left, right and answer of a product, by its form and number of axes
_LETTERS = {
    ("product", 2): ("rk", "kc", "rc"), ("product", 3): ("brk", "bkc", "brc"),
    ("inner", 1): ("ik", "ik", "i"), ("take", 2): ("rk", "ck", "rc"),
    ("take", 3): ("brk", "bck", "brc"),
}  # fmt: skip
SHORT = 4  # numbers whose products are written one by one
FEW = 4  # terms of a derivative, which are no loop
TERMS = 12  # ... in a line: Python reads no line of 400
_FOLDS = {total_of: "sum", largest_of: "max", smallest_of: "min"}


@dataclass(eq=False)
class Variable:
    """An array with a name: a step's result, parameters, an input.

    cells    their addresses, in its shape (without the axis of rows, which is the last)
    by_row   whether it has that axis
    wanted   whether a derivative by it is asked for
    terms    of its derivative, in its shape
    partial  statements that add to places in the derivative {d}
    """

    name: str
    cells: np.ndarray
    by_row: bool
    wanted: bool
    terms: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)


@dataclass
class Reading:
    """How an operand is read: an expression, the axes it has, and where its derivative goes.

    axes  those of the operand along which it varies, in order; by_row adds one for rows at the end
    send  adds a term, an expression of the same shape, to the derivatives of what is read
    """

    text: str
    axes: tuple[int, ...] = ()
    by_row: bool = False
    send: Callable[[str], None] | None = None


class Name(Symbol):
    """An expression that rules compute with."""

    __slots__ = ("book",)

    def __init__(self, book: Textbook, text: str) -> None:
        super().__init__(text)
        self.book = book

    def __operation__(self, row: Operation, xs: Sequence[Any]) -> Any:
        return Name(self.book, self.book.applied(row, xs))


class Textbook:
    """A program as a textbook has it: `print` shows its source, and calling it runs that.

    names   address -> the name of the parameters that start there
    inputs  the name of every input, and its number of cells
    """

    def __init__(
        self, layout: Layout, names: dict[int, str], inputs: Sequence[tuple[str, int]]
    ) -> None:
        self.layout, self.names = layout, names
        self.taken: dict[str, int] = dict.fromkeys(("theta", "g", "rows", "padding"), 1)
        self.namespace: dict[str, Any] = {"padding": np.array(RESERVED)}
        self.imported: set[str] = set()
        self.owners: list[list[Variable]] = [[] for _ in layout.sizes]
        self.theta = self.variable("theta", THETA, np.arange(layout.sizes[THETA]), True)
        for space in (FREE, ROWS):
            self.variable("padding", space, np.arange(len(RESERVED)), False).by_row = False
        self.inputs = [
            self.variable(self.unique(name), FIRST_INPUT + i, np.arange(size).squeeze(), False)
            for i, (name, size) in enumerate(inputs)
        ]
        self.parameters: list[tuple[Variable, str]] = []
        self.lines: list[Line] = []
        self.sums: dict[str, list[Line]] = {}  # comment of a line -> the many terms that it is
        self.results = [self.forward(step) for step in layout.steps]
        self.result = self.read(Operand((1,), layout.outputs[:1], regular=(0, 0, (0,))))
        self.ahead, self.lines = self.lines, []
        self.backward()
        self.source = self.whole_source()
        exec(compile(self.source, "<textbook>", "exec"), self.namespace)

    def __call__(self, theta: Any, *inputs: Any) -> tuple[float, np.ndarray]:
        """The mean over rows, and its gradient by the parameters.

        theta (parameters,), inputs (rows, cells of the input).
        """
        with np.errstate(all="ignore"):
            return self.namespace["value_and_grad"](np.asarray(theta, float), *inputs)

    def __str__(self) -> str:
        return self.source

    __repr__ = __str__

    # -- names and expressions
    def variable(self, name: str, space: int, cells: np.ndarray, wanted: bool) -> Variable:
        made = Variable(name, (space << SHIFT) + cells, has_rows(space), wanted)
        self.owners[space].append(made)
        return made

    def unique(self, name: str) -> str:
        number = self.taken.get(name, 0) + 1
        self.taken[name] = number
        if number > 1 or "d" + name in self.taken:
            return self.unique(f"{name}_{max(number, 2)}")
        self.taken["d" + name] = 1  # its derivative
        return name

    def constant(self, kind: str, value: Any) -> str:
        name = self.unique(kind)
        self.namespace[name] = value
        return name

    def numpy(self, name: str) -> str:
        self.imported.add(name)
        return name

    def applied(self, row: Operation, xs: Sequence[Any]) -> str:
        """A row applied to expressions and numbers."""
        texts = [str(x) for x in xs]
        if row is where and not isinstance(xs[0], Name):
            return texts[1] if xs[0] else texts[2]
        if row is negative:
            return f"(-{texts[0]})"
        if row is detach:
            return texts[0]
        if row in (MULTIPLY_ADD, COPY):  # the layout's own, which are arithmetic
            return str(row.value(*xs))
        if not row.name.isidentifier():
            return f"({texts[0]} {row.name} {texts[1]})"
        if isinstance(row.array, str) and hasattr(np, row.array):
            name = self.numpy(row.array)
        else:
            name = row.name
            if self.namespace.get(name) is not row:
                name = self.constant(name, row)
        return f"{name}({', '.join(texts)})"

    def line(self, target: str, text: str, sign: str = "=", comment: str = "") -> None:
        """A statement, without the parentheses that it does not need."""
        self.lines.append(Line(f"{target} {sign} {_plain(text)}", comment))

    # -- reading operands
    def read(self, operand: Operand, kind: str = "c") -> Reading:
        """The operand, without axes along which it is all the same. Constants are called `kind`."""
        of = operand.literal if operand.cells is None else operand.cells
        assert of is not None
        for axis, n in enumerate(of.shape):
            first = of.take([0], axis=axis)
            if n > 1 and np.all(of == first):
                of = first
        axes = tuple(axis for axis, n in enumerate(of.shape) if n > 1)
        of = of.reshape([of.shape[axis] for axis in axes])
        if operand.cells is None:
            text = self.constant(kind, of) if axes else repr(float(of))
            return Reading(text, axes)
        if operand.regular is not None:
            space = int(of.flat[0]) >> SHIFT
            if space == THETA:
                self.name_parameters(of)
            strides = [operand.regular[2][axis] for axis in axes]
            for variable in self.holders(of):
                found = _part(variable, of) or self.strided(variable, of, strides)
                if found is not None:
                    text, send = found
                    return Reading(text, axes, variable.by_row, send if variable.wanted else None)
        if operand.dead is not None or operand.literal is not None:  # these are in full
            axes = tuple(axis for axis, n in enumerate(operand.shape) if n > 1)
            of = operand.cells.squeeze()
        return self.gathered(of, axes, operand)

    def holders(self, cells: np.ndarray) -> list[Variable]:
        """The variables that may have some of these cells, of one space."""
        space = int(cells.flat[0]) >> SHIFT
        every = self.owners[space]
        if space not in (FREE, ROWS):
            return every
        # those of steps lie one behind the other
        low, high = (
            bisect_right(every, cell, key=lambda variable: int(variable.cells.flat[0]))
            for cell in (int(cells.min()), int(cells.max()))
        )
        return every[max(low - 1, 0) : high]

    def name_parameters(self, cells: np.ndarray) -> None:
        """A variable for the parameters that an operand reads, unless one has them."""
        if any(_part(variable, cells) for variable, _ in self.parameters):
            return
        text = _slices(cells, self.theta.cells.size)
        if text and cells.size < self.theta.cells.size:
            name = self.unique(self.names.get(int(cells.flat[0]), "p"))
            made = Variable(name, cells, False, True)
            self.owners[THETA].insert(0, made)
            self.parameters.append((made, text))

    def strided(
        self, variable: Variable, cells: np.ndarray, strides: list[int]
    ) -> tuple[str, Callable[[str], None]] | None:
        """Cells at regular distances in one variable, as slices, reshapes and turns of it."""
        own = variable.cells.reshape(-1)
        start, size = int(cells.flat[0] - own[0]), own.size
        in_order = np.array_equal(own, own[0] + np.arange(size))
        if variable is self.theta or not in_order or start < 0 or cells.max() > own[-1]:
            return None

        def text(name: str) -> str:
            flat = f"{name}.reshape({size}, -1)" if variable.by_row else f"{name}.reshape(-1)"
            return view_text(flat, start, cells.shape, strides, variable.by_row, size)

        if "strided" in text(variable.name):
            return None
        return text(variable.name), lambda term: variable.partial.append(
            f"{text('{d}')}[...] += {term}"
        )

    def gathered(self, cells: np.ndarray, axes: tuple[int, ...], operand: Operand) -> Reading:
        """Cells that lie here and there, also in several variables."""
        flat = cells.reshape(-1)
        sources: list[Variable] = []
        index, size = np.full(flat.size, -1), 0
        for space in unique(flat >> SHIFT).tolist():
            here = flat[flat >> SHIFT == space]
            for variable in [self.theta] if space == THETA else self.holders(here):
                place = _places(variable, flat)
                inside = place >= 0
                if space != LITERAL and inside.any():
                    index[inside] = size + place[inside]
                    sources.append(variable)
                    size += variable.cells.size
        by_row = any(v.by_row for v in sources)
        texts = []
        for v in sources:
            shape = f"({v.cells.size}, {-1 if v.by_row else 1})" if by_row else "-1"
            text = f"{self.numpy('reshape')}({v.name}, {shape})"
            if by_row and not v.by_row and len(sources) > 1:
                text = f"{self.numpy('broadcast_to')}({text}, ({v.cells.size}, rows))"
            texts.append(text)
        text = texts[0]
        if len(texts) > 1:
            text = f"{self.numpy('concatenate')}([{', '.join(texts)}])"
        live = index >= 0
        text += f"[{self.constant('index', np.maximum(index, 0).reshape(cells.shape))}]"
        if not live.all():  # some are constants
            assert operand.literal is not None
            numbers = operand.literal.reshape(cells.shape)
            tail = "[..., None]" if by_row else ""
            given = self.constant("given", ~live.reshape(cells.shape)) + tail
            constant = self.constant("c", numbers) + tail
            text = f"{self.numpy('where')}({given}, {constant}, {text})"
        if operand.dead is not None:
            live &= ~operand.dead.reshape(-1)
        name = self.unique("r")
        self.line(name, text)

        def send(term: str) -> None:
            start = 0
            if len(sources) > 1:
                term, whole = self.unique("t"), term
                self.line(term, whole)
            rows = ", -1" if by_row else ""
            for v in sources:
                here = np.flatnonzero(live & (index >= start) & (index < start + v.cells.size))
                at = index[here] - start
                start += v.cells.size
                if v.wanted and len(here):
                    chosen = f"({term}).reshape({flat.size}{rows})"
                    if len(here) < flat.size:
                        chosen += f"[{self.constant('index', here)}]"
                    if by_row and not v.by_row:
                        chosen += ".sum(1)"
                    if not v.cells.ndim:
                        v.terms.append(f"{chosen}.sum(0)")
                        continue
                    own = f"{v.cells.size}, -1" if v.by_row else "-1"
                    place = self.constant("index", at)
                    v.partial.append(
                        f"{self.numpy('add')}.at({{d}}.reshape({own}), {place}, {chosen})"
                    )

        wanted = any(v.wanted for v in sources)
        return Reading(name, axes, by_row, send if wanted else None)

    # -- forward
    def forward(self, step: Step) -> tuple[Step, Variable, list[Reading]]:
        step = self.in_terms(step)
        kind = "x" if step.form == "product" else "c"
        readings = [self.read(operand, kind) for operand in step.operands]
        assert step.out.cells is not None
        cells = step.out.cells.squeeze()
        space = step.out.spaces[0]
        text = getattr(self, step.form)(step, readings, space == ROWS)
        result = cells.size == 1 and int(cells.reshape(-1)[0]) == self.layout.outputs[0]
        name = self.unique("result" if result else name_of_step(step, readings[0].text))
        depends = depends_on(step.row, len(readings))
        wanted = any(r.send and d for r, d in zip(readings, depends, strict=True))
        made = Variable(name, cells, space == ROWS, wanted)
        self.owners[space].append(made)
        shape = " x ".join([*map(str, cells.shape), *["rows"] * made.by_row]) or "1"
        self.line(name, text, comment=f"{step.row.name}: {step.stands_for}, {shape}")
        return step, made, readings

    def in_terms(self, step: Step) -> Step:
        """A product of a few numbers from several variables, each an operand of its own."""
        width = step.operands[0].shape[-1]
        if step.form != "product" or step.nodes.size > 1 or width > SHORT or len(step.operands) > 2:
            return step
        for operand in step.operands:
            cells = np.empty(0, dtype=int) if operand.cells is None else operand.cells.reshape(-1)
            if len(unique(cells >> SHIFT)) == 1:
                if any((_places(variable, cells) >= 0).all() for variable in self.holders(cells)):
                    continue
            if len(cells):
                pairs = zip(*map(_one_by_one, step.operands), strict=True)
                return replace(step, form="terms", operands=[one for two in pairs for one in two])
        return step

    def placed(self, step: Step, r: Reading, by_row: bool) -> str:
        """An operand with axes of length 1 where the step's grid has more than it."""
        has = [axis in r.axes for axis, n in enumerate(step.out.shape) if n > 1]
        has += [r.by_row] * by_row
        return _with_axes(r.text, has)

    def symbols(self, step: Step, readings: list[Reading], by_row: bool) -> list[Any]:
        """The operands of an elementwise step: numbers, and expressions of its grid."""
        found: list[Any] = []
        for operand, r in zip(step.operands, readings, strict=True):
            if operand.cells is None and not r.axes:
                found.append(float(r.text))
            else:
                found.append(Name(self, self.placed(step, r, by_row)))
        return found

    def map(self, step: Step, readings: list[Reading], by_row: bool) -> str:
        text = self.applied(step.row, self.symbols(step, readings, by_row))
        grid = [axis for axis, n in enumerate(step.out.shape) if n > 1]
        if all(any(axis in r.axes for r in readings) for axis in grid):
            return text
        return self.spread(step, text, by_row)

    def spread(self, step: Step, text: str, by_row: bool) -> str:
        """What is the same along axes of the step's grid, in all of that grid."""
        shape = [str(n) for n in step.out.shape if n > 1] + ["rows"] * by_row
        return f"{self.numpy('broadcast_to')}({text}, ({', '.join(shape)},))"

    def fold(self, step: Step, readings: list[Reading], by_row: bool) -> str:
        (r,) = readings
        *grid, width = step.operands[0].shape
        if len(grid) in r.axes:
            text = f"{r.text}.{_FOLDS[step.row]}({r.axes.index(len(grid))})"
        else:
            text = f"{width} * {r.text}" if step.row is total_of else r.text
        has = [axis in r.axes for axis, n in enumerate(grid) if n > 1]
        if all(has):
            return text
        return self.spread(step, _with_axes(f"({text})", [*has, *[True] * by_row]), by_row)

    def product(self, step: Step, readings: list[Reading], by_row: bool) -> str:
        a, b = readings[:2]
        rows = a.by_row or b.by_row
        of_a, of_b, out = self.letters(step, readings, rows)
        text = self.contraction(step, a.text, of_a, b.text, of_b, out)
        terms = step.operands[0].shape[-1]
        if "k" not in of_a + of_b and terms > 1:  # they are all the same
            text = f"{terms} * ({text})"
        if len(readings) == 2:
            return text
        if by_row and not rows:
            text = f"({text})[..., None]"
        return f"{text} + {self.placed(step, readings[2], by_row)}"

    inner = product

    def terms(self, step: Step, readings: list[Reading], by_row: bool) -> str:
        pairs = zip(readings[::2], readings[1::2], strict=True)
        return " + ".join(f"{a.text} * {b.text}" for a, b in pairs)

    def take(self, step: Step, readings: list[Reading], by_row: bool) -> str:
        """values[index] as the product with a row that has a 1 at the index and 0 elsewhere."""
        index, values = readings
        width = step.operands[1].shape[-1]
        places = f"{self.numpy('arange')}({width})" + "[:, None]" * index.by_row
        tail = ("[..., None, :]" if index.by_row else "[..., None]") if index.axes else ""
        name = self.unique("chosen")
        self.line(name, f"{index.text}{tail} == {places}")
        index.text = name
        of_a, of_b, out = self.letters(step, readings, by_row)
        return self.contraction(step, name, of_a, values.text, of_b, out)

    def letters(self, step: Step, readings: list[Reading], rows: bool) -> tuple[str, str, str]:
        """The axes of left, right and answer as letters; n is that of rows."""
        names = _LETTERS[step.form, len(step.out.shape)]
        found = [
            "".join(names[which][axis] for axis in r.axes) + "n" * r.by_row
            for which, r in enumerate(readings[:2])
        ]
        if step.form == "take":  # the axis of what an index may be
            found[0] = found[0].removesuffix("n") + "k" + "n" * readings[0].by_row
        out = zip(names[2], step.out.shape, strict=True)
        return found[0], found[1], "".join(x for x, n in out if n > 1) + "n" * rows

    def sizes(self, step: Step) -> dict[str, str]:
        """How long the axes are."""
        names = _LETTERS[step.form, len(step.out.shape)]
        shapes = (step.operands[0].shape, step.operands[1].shape, step.out.shape)
        found = {"n": "rows"}
        for letters, shape in zip(names, shapes, strict=True):
            found |= {x: str(n) for x, n in zip(letters, shape, strict=True) if n > 1}
        return found

    def contraction(self, step: Step, a: str, of_a: str, b: str, of_b: str, out: str) -> str:
        """The product of two arrays, summed over the letters that `out` has not.

        As a person would write it: with @ for matrices, else with einsum. `out` may have letters
        along which the product is the same.
        """
        own = "".join(x for x in out if x in of_a + of_b)
        if own != out:
            text = self.contraction(step, a, of_a, b, of_b, own)
            spread = ", ".join(":" if x in own else "None" for x in out)
            shape = ", ".join(self.sizes(step)[x] for x in out)
            placed = f"({text})[{spread}]" if own else text
            return f"{self.numpy('broadcast_to')}({placed}, ({shape},))"
        lost = {x for x in of_a + of_b if x not in out}
        if not lost:
            if len(of_a) == len(of_b) == 1 < len(out):
                first, second = (a, b) if of_a + of_b == out else (b, a)
                return f"{self.numpy('outer')}({first}, {second})"
            if all("".join(x for x in out if x in of) == of for of in (of_a, of_b)):
                factors = [
                    _with_axes(t, [x in of for x in out]) for t, of in ((a, of_a), (b, of_b))
                ]
                return " * ".join(factors)
        gone = [x for x in of_a if x in of_b and x in lost]
        if of_a == of_b and len(of_a) == 2 and len(lost) == 1:  # every row with its own
            return f"({a} * {b}).sum({of_a.index(gone[0])})"
        lead = out[:1] if len(of_a) == len(of_b) == len(out) == 3 else ""
        if len(lost) == len(gone) == 1 and of_a[: len(lead)] == of_b[: len(lead)] == lead:
            (k,) = gone
            a_rest, b_rest = of_a.replace(k, "")[len(lead) :], of_b.replace(k, "")[len(lead) :]
            if len(a_rest) < 2 and len(b_rest) < 2 and a_rest + b_rest != out[len(lead) :]:
                a, of_a, b, of_b, a_rest, b_rest = b, of_b, a, of_a, b_rest, a_rest
            if len(a_rest) < 2 and len(b_rest) < 2 and lead + a_rest + b_rest == out:
                turn = ".swapaxes(1, 2)" if lead else ".T"
                left = a if of_a[-1] == k else _turned(a, turn)
                right = b if of_b[len(lead)] == k else _turned(b, turn)
                return f"{left} @ {right}"
        array, of, number = (b, of_b, a) if of_b else (a, of_a, b)
        if "" in (of_a, of_b) and "".join(x for x in of if x not in lost) == out:
            return f"{number} * {array}.sum({_tuple([str(of.index(x)) for x in of if x in lost])})"
        return f"{self.numpy('einsum')}('{of_a},{of_b}->{out}', {a}, {b})"

    # -- backward
    def backward(self) -> None:
        if self.result.send is not None:
            share = f"{self.numpy('full')}(rows, 1 / rows)" if self.result.by_row else "1.0"
            self.result.send(share)
        for step, made, readings in reversed(self.results):
            if made.terms or made.partial:
                d = Name(self, self.derivative(made))
                getattr(self, "back_" + step.form)(step, made, readings, d)
        for variable in reversed([v for v, _ in self.parameters] + [self.theta]):
            if variable.terms or variable.partial:
                self.derivative(variable)

    def derivative(self, variable: Variable) -> str:
        """The lines that add up the terms of a derivative; its name."""
        name = "d" + variable.name
        if not variable.partial:
            if len(variable.terms) > FEW:
                self.lines.append(Line(f"{name} = 0", f"sum {len(self.sums)}"))
                self.sums[self.lines[-1].note] = [Line(_plain(term)) for term in variable.terms]
            else:
                self.line(name, " + ".join(variable.terms))
            return name
        self.line(name, f"{self.numpy('zeros')}({variable.name}.shape)")
        for term in variable.terms:
            self.line(name, term, "+=")
        self.lines += [Line(_plain(statement.format(d=name))) for statement in variable.partial]
        return name

    def back_map(self, step: Step, made: Variable, readings: list[Reading], d: Name) -> None:
        xs = self.symbols(step, readings, made.by_row)
        slopes: Sequence[Any]
        try:
            slopes = step.row.textbook(Name(self, made.name), *xs)
        except TypeError:  # a rule that branches on numbers: element by element
            slopes = self.by_element(step.row, made, xs)
        for r, slope in zip(readings, slopes, strict=True):
            if r.send is None or slope is None:
                continue
            condition = None
            if isinstance(slope, Conditional):
                condition, slope = slope
            term = d if type(slope) is float and slope == 1.0 else d * slope
            if type(slope) is float and slope == -1.0:
                term = -d
            if condition is not None:
                term = Name(self, f"{self.numpy('where')}({condition}, {term}, 0.0)")
            r.send(self.reduced(str(term), step, made, r))

    def by_element(self, row: Operation, made: Variable, xs: list[Any]) -> list[Any]:
        slopes = []
        arguments = ", ".join(map(str, [made.name, *xs]))
        for position in range(len(xs)):
            slope, exists = (
                Name(self, f"{self.constant('slope', np.vectorize(f, [float]))}({arguments})")
                for f in runtime.slope_of(row, position)
            )
            slopes.append(Conditional(exists != 0, slope))
        return slopes

    def back_fold(self, step: Step, made: Variable, readings: list[Reading], d: Name) -> None:
        (r,) = readings
        *grid, width = step.operands[0].shape
        if r.send is None:
            return
        dy = self.reduced(str(d), step, made, r)
        if len(grid) not in r.axes:
            r.send(f"{width} * {dy}" if step.row is total_of else dy)
            return
        axis = r.axes.index(len(grid))
        has = [True] * axis + [False] + [True] * (len(r.axes) - axis - 1 + r.by_row)
        dy = _with_axes(dy, has)
        if step.row is total_of:
            r.send(f"{self.numpy('broadcast_to')}({dy}, {r.text}.shape)")
            return
        ties = self.unique("ties")  # what is largest together shares the derivative
        self.line(ties, f"{r.text} == {r.text}.{_FOLDS[step.row]}({axis}, keepdims=True)")
        r.send(f"{dy} * {ties} / {ties}.sum({axis}, keepdims=True)")

    def reduced(self, term: str, step: Step, made: Variable, r: Reading) -> str:
        """A term of the step's grid, summed over the axes along which an operand is the same."""
        kept = [axis for axis, n in enumerate(step.out.shape) if n > 1]
        gone = [str(kept.index(axis)) for axis in kept if axis not in r.axes]
        gone += [str(len(kept))] * (made.by_row and not r.by_row)
        return f"({term}).sum({_tuple(gone)})" if gone else term

    def back_product(self, step: Step, made: Variable, readings: list[Reading], d: Name) -> None:
        a, b = readings[:2]
        rows = a.by_row or b.by_row
        of_a, of_b, out = self.letters(step, readings, rows)
        dy = f"{d}.sum(-1)" if made.by_row and not rows else str(d)
        terms = step.operands[0].shape[-1]
        if "k" not in of_a + of_b and step.form != "take" and terms > 1:
            dy = f"({terms} * {dy})"
        if step.form != "take" and a.send is not None:
            a.send(self.contraction(step, dy, out, b.text, of_b, of_a))
        if b.send is not None:
            b.send(self.contraction(step, a.text, of_a, dy, out, of_b))
        if len(readings) == 3 and readings[2].send is not None:
            readings[2].send(self.reduced(str(d), step, made, readings[2]))

    back_inner = back_take = back_product

    def back_terms(self, step: Step, made: Variable, readings: list[Reading], d: Name) -> None:
        for a, b in zip(readings[::2], readings[1::2], strict=True):
            for one, other in ((a, b), (b, a)):
                if one.send is not None:
                    over_rows = ".sum()" * (made.by_row and not one.by_row)
                    one.send(f"({d} * {other.text}){over_rows}")

    # -- all of it
    def whole_source(self) -> str:
        rolling = Rolling(derivatives=True)
        # what is computed decides which names are one; that of its parts comes after
        ahead = rolling.find(self.ahead, at_end=True)
        back = rolling.find(self.lines)
        sums = {note: rolling.find(terms, least=FEW) for note, terms in self.sums.items()}
        parameters = rolling.find(self.parameter_lines())
        namespace = rolling.collected(self.namespace)
        names = [x.name for x in self.inputs]
        out = [Line(f"rows = len({names[0]})")] if names else []
        for x in self.inputs:
            turned = f"{self.numpy('reshape')}({x.name}, (rows, -1)).T"
            out.append(Line(f"{x.name} = {turned}" + "[0]" * (x.cells.ndim == 0)))
        by_size: dict[int, list[str]] = {}
        for name, size in rolling.sizes().items():
            if name not in namespace:
                by_size.setdefault(size, []).append(name)
        for size, many in by_size.items():
            lists = f"([None] * {size} for _ in range({len(many)}))"
            lists = f"[None] * {size}" if len(many) == 1 else lists
            out.append(Line(f"{', '.join(many)} = {lists}"))
        out += [*rolling.text(parameters), Line(""), *rolling.text(ahead), Line("")]
        out += [Line("# the derivative by everything, last step first")]
        for line in rolling.text(back):
            out += _summed(line, rolling, sums[line.note]) if line.note in sums else [line]
        out += [Line(""), Line(f"g = {self.numpy('zeros_like')}(theta)")]
        for v, text in [(self.theta, "[:]"), *self.parameters]:
            if v.terms or v.partial:
                part = text if text.endswith("]") else text + "[...]"
                out.append(Line(f"g{part} += {rolling.name('d' + v.name)}"))
        mean = ".mean()" if self.result.by_row else ""
        out.append(Line(f"return {rolling.renamed(self.result.text)}{mean}, g"))
        head = f"def value_and_grad({', '.join(['theta', *names])}):"
        text = "\n".join([head, *map(_indented, out)])
        self.namespace = namespace
        from .. import __dict__ as public

        ours = sorted(n for n, x in namespace.items() if public.get(n) is x)
        arrays = [n for n, x in namespace.items() if isinstance(x, np.ndarray | list)]
        top = [f"# arrays in .namespace: {', '.join(arrays[1:])}"] * (len(arrays) > 1)
        top += [f"from numpy import {', '.join(sorted(self.imported))}"]
        top += [f"from micrograd_scratch import {', '.join(ours)}"] * bool(ours)
        numbers = [n for n in ("inf", "nan") if re.search(rf"\b{n}\b", text)]
        top += [f"from math import {', '.join(numbers)}"] * bool(numbers)
        return "\n".join([*top, "", "", text])

    def parameter_lines(self) -> list[Line]:
        found = []
        for v, text in self.parameters:
            shape = " x ".join(map(str, v.cells.shape)) or "1"
            found.append(Line(f"{v.name} = theta{text}", shape))
        return found


def _summed(line: Line, rolling: Rolling, terms: Rolled) -> list[Line]:
    """A derivative of many terms: as sums over t, and the rest a few in a line."""
    name = line.code.partition(" ")[0]
    found = [
        f"sum({part.code} for t in {loop.range})" if loop else part.code
        for loop, parts in rolling.parts(terms) for part in parts
    ]  # fmt: skip
    return [
        Line(f"{name} = {' + '.join([name] * (i > 0) + found[i : i + TERMS])}")
        for i in range(0, len(found), TERMS)
    ]


def _indented(line: Line) -> str:
    """A line of the function, with its comment behind it."""
    code = f"    {line.code}".rstrip()
    return f"{code:<52}  # {line.note}" if line.note else code


def _with_axes(text: str, has: list[bool]) -> str:
    """An array with axes of length 1 where it has none; NumPy adds leading ones by itself."""
    if not any(has) or all(has[has.index(True) :]):
        return text
    return f"{text}[{', '.join(':' if own else 'None' for own in has[has.index(True) :])}]"


def _turned(text: str, turn: str) -> str:
    return text.removesuffix(turn) if text.endswith(turn) else text + turn


def _one_by_one(operand: Operand) -> list[Operand]:
    cells = np.full(operand.shape, LITERAL << SHIFT) if operand.cells is None else operand.cells
    literal = 0.0 if operand.literal is None else operand.literal
    numbers = np.broadcast_to(literal, operand.shape).reshape(-1)
    found = []
    for cell, number in zip(cells.reshape(-1), numbers, strict=True):
        if cell >> SHIFT == LITERAL:
            found.append(Operand((1,), literal=np.array([number])))
        else:
            found.append(Operand((1,), cells=np.array([cell]), regular=(0, 0, (0,))))
    return found


def _plain(code: str) -> str:
    """Without the parentheses that it does not need."""
    return ast.unparse(ast.parse(code))


def _tuple(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"({', '.join(items)})"


def _places(variable: Variable, flat: np.ndarray) -> np.ndarray:
    """Where each of these addresses is among the variable's cells, -1 if it is not."""
    own = variable.cells.reshape(-1)
    order = np.argsort(own)
    place = order[np.minimum(np.searchsorted(own, flat, sorter=order), own.size - 1)]
    return np.where(own[place] == flat, place, -1)


def _slices(cells: np.ndarray, size: int) -> str:
    """What picks these cells, addresses, from a vector of all `size`; "" if slices cannot."""
    at = places(cells)
    start, stop = int(at.flat[0]), int(at.flat[-1]) + 1
    if at.ndim == 0:
        return f"[{start}]"
    steps = [int(np.diff(at, axis=axis).flat[0]) for axis in range(at.ndim)]
    expected = start + sum(
        np.arange(n).reshape([-1] + [1] * (at.ndim - axis - 1)) * step
        for axis, (n, step) in enumerate(zip(at.shape, steps, strict=True))
    )
    if min(steps) <= 0 or not np.array_equal(expected, at):
        return ""
    if at.ndim == 1:
        return f"[{start}:{stop}]" if steps[0] == 1 else f"[{start}:{stop}:{steps[0]}]"
    if at.ndim == 2 and steps[1] == 1 and steps[0] >= at.shape[1]:
        (rows, width), pitch = at.shape, steps[0]
        left = max(0, start + rows * pitch - size)  # of them, where the last row is the last there
        if left <= min(start, pitch - width):
            first = start - left
            whole = f"[{first}:{first + rows * pitch}].reshape({rows}, {pitch})"
            cut = f"{left}:{left + width}" if left else f":{width}"
            return whole if pitch == width else f"{whole}[:, {cut}]"
    return ""


def _part(variable: Variable, cells: np.ndarray) -> tuple[str, Callable[[str], None]] | None:
    """A variable, or a box of it, turned or reshaped into these cells: the expression, and where
    terms of a derivative by it go. None if it is not that."""
    place = _places(variable, cells.reshape(-1))
    if (place < 0).any():
        return None
    box: list[Any] = []
    shape = variable.cells.shape
    for at, n in zip(np.unravel_index(place, shape) if shape else (), shape, strict=True):
        low, high = int(at.min()), int(at.max())
        box.append(low if low == high and n > 1 else slice(low, high + 1))
    own = variable.cells[tuple(box)]
    whole = own.shape == shape
    text = variable.name + ("" if whole else f"[{', '.join(map(_index, box))}]")
    rows = (own.ndim,) if variable.by_row else ()
    change = back = ""
    if own.shape != cells.shape or not np.array_equal(own, cells):
        turns = permutations(range(own.ndim)) if own.ndim < 4 else []
        turn = next((t for t in turns if np.array_equal(own.transpose(t), cells)), None)
        if turn is not None:
            change = f".transpose({_tuple([str(i) for i in (*turn, *rows)])[1:-1]})"
            inverse = [turn.index(i) for i in range(own.ndim)]
            back = f".transpose({', '.join(map(str, [*inverse, *rows]))})"
            if own.ndim == 2 and not rows:
                change = back = ".T"
        elif own.size == cells.size and np.array_equal(own.reshape(-1), cells.reshape(-1)):
            change, back = (
                f".reshape({', '.join(map(str, [*shape, *[-1] * len(rows)])) or '()'})"
                for shape in (cells.shape, own.shape)
            )
            if own.size == 1 and not rows:
                back = ""  # the term may be a number: of one cell, that is the same
        else:
            return None

    def send(term: str) -> None:
        term = f"({term}){back}" if back else term
        if whole:
            variable.terms.append(term)
        else:
            variable.partial.append(f"{{d}}[{', '.join(map(_index, box))}] += {term}")

    return text + change, send


def _index(x: int | slice) -> str:
    return str(x) if isinstance(x, int) else f"{x.start}:{x.stop}"
