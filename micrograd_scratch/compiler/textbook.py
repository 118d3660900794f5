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
infinite) or where they are multiplied by zeros, and indices out of range.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..functions import clip
from ..operations import (
    Conditional,
    Operation,
    Symbol,
    constant_power,
    detach,
    largest_of,
    multiply,
    negative,
    power,
    smallest_of,
    total_of,
    where,
)
from . import runtime
from .adjoints import depends_on
from .factor import LITERAL, ROWS, SHIFT, unique
from .names import name_of_step
from .reading import Reader, Reading, Variable, places_in, plain, tuple_of
from .rolling import Line, Rolled, Rolling, names_in, renamed
from .steps import COPY, GATHER, MULTIPLY_ADD, Layout, Operand, Step

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


class Name(Symbol):
    """An expression that rules compute with."""

    __slots__ = ("book",)

    def __init__(self, book: Textbook, text: str) -> None:
        super().__init__(text)
        self.book = book

    def __operation__(self, row: Operation, xs: Sequence[Any]) -> Any:
        short = _shorter(row, xs)
        return Name(self.book, self.book.applied(row, xs)) if short is None else short


class Textbook(Reader):
    """A program as a textbook has it: `print` shows its source, and calling it runs that.

    names   address -> the name of the parameters that start there
    inputs  the name of every input, and its number of cells
    """

    def __init__(
        self, layout: Layout, names: dict[int, str], inputs: Sequence[tuple[str, int]]
    ) -> None:
        super().__init__(layout, names, inputs)
        self.sums: dict[str, list[Line]] = {}  # comment of a line -> the many terms that it is
        self.slopes: dict[tuple[Operation, int], list[str]] = {}  # functions of rules that branch
        self.results = [self.forward(step) for step in layout.steps]
        self.result = self.read(Operand((1,), layout.outputs[:1], regular=(0, 0, (0,))))
        self.ahead, self.lines = self.lines, []
        self.backward()
        self.prune()
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

    # -- expressions
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
        elif row is clip and all(type(x) is float and x for x in xs[1:]):  # at 0, signs differ
            name = self.numpy("clip")
        else:
            name = self.function(row.name, row)
        return f"{name}({', '.join(texts)})"

    def function(self, kind: str, function: Any) -> str:
        """The one name of a function."""
        name = next((n for n, x in self.namespace.items() if x is function), "")
        return name or self.constant(kind, function)

    # -- forward
    def forward(self, step: Step) -> tuple[Step, Variable, list[Reading]]:
        step = self.in_terms(step)
        kind = "x" if step.form == "product" else "c"
        readings = [self.read(operand, kind) for operand in step.operands]
        assert step.out.cells is not None
        cells = step.out.cells.squeeze()
        space = step.out.spaces[0]
        depends = depends_on(step.row, len(readings))
        wanted = any(r.send and d for r, d in zip(readings, depends, strict=True))
        if step.row is GATHER:  # it has its name
            (r,) = readings
            name = r.text
            if self.misses_axes(step, readings):
                name = self.unique("r")
                self.line(name, self.spread(step, self.placed(step, r, r.by_row), r.by_row))
            made = Variable(name, cells, r.by_row, wanted)
            self.own(space, made)
            return step, made, readings
        text = getattr(self, step.form)(step, readings, space == ROWS)
        result = cells.size == 1 and int(cells.reshape(-1)[0]) == self.layout.outputs[0]
        first = re.sub(r"_\d+$", "", readings[0].text)  # the same for all turns of a loop
        name = self.unique("result" if result else name_of_step(step, first))
        made = Variable(name, cells, space == ROWS, wanted)
        self.own(space, made)
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
                if any((places_in(variable, cells) >= 0).all() for variable in self.holders(cells)):
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
        return self.spread(step, text, by_row) if self.misses_axes(step, readings) else text

    def misses_axes(self, step: Step, readings: list[Reading]) -> bool:
        """Whether the step's grid has axes that no operand has."""
        grid = [axis for axis, n in enumerate(step.out.shape) if n > 1]
        return not all(any(axis in r.axes for r in readings) for axis in grid)

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
        if _adds_nothing(readings):
            only_bias = replace(step, row=COPY, operands=step.operands[2:])
            text = self.map(only_bias, readings[2:], by_row)
            return self.spread(step, text, by_row) if by_row > readings[2].by_row else text
        rows = a.by_row or b.by_row
        of_a, of_b, out = self.letters(step, readings, rows)
        text = self.contraction(step, a.text, of_a, b.text, of_b, out)
        terms = step.operands[0].shape[-1]
        if "k" not in of_a + of_b and terms > 1:  # they are all the same
            text = f"{terms} * ({text})"
        if len(readings) == 2:
            return text
        if by_row and not rows and out:
            text = f"({text})[..., None]"
        return f"{text} + {self.placed(step, readings[2], by_row)}"

    inner = product

    def terms(self, step: Step, readings: list[Reading], by_row: bool) -> str:
        pairs = zip(readings[::2], readings[1::2], strict=True)
        return " + ".join(_product([a.text, b.text]) for a, b in pairs)

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
                return _product(factors)
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
            axes = tuple_of([str(axis) for axis, x in enumerate(of) if x in lost])
            return _product([number, f"{array}.sum({axes})"])
        (a, of_a), (b, of_b) = _unturned(a, of_a), _unturned(b, of_b)
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
                self.sums[self.lines[-1].note] = [Line(plain(term)) for term in variable.terms]
            else:
                self.line(name, " + ".join(variable.terms))
            return name
        self.line(name, f"{self.numpy('zeros')}({variable.name}.shape)")
        for term in variable.terms:
            self.line(name, term, "+=")
        self.lines += [Line(plain(statement.format(d=name))) for statement in variable.partial]
        return name

    def back_map(self, step: Step, made: Variable, readings: list[Reading], d: Name) -> None:
        xs = self.symbols(step, readings, made.by_row)
        slopes: Sequence[Any]
        try:
            slopes = step.row.textbook(Name(self, made.name), *xs)
        except TypeError:  # a rule that branches on numbers: element by element
            slopes = self.by_element(step.row, made, xs)
        for r, slope in zip(readings, slopes, strict=True):
            if r.send is None or slope is None or str(slope) == "0.0":
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
            if (row, position) not in self.slopes:
                self.slopes[row, position] = [
                    self.constant("slope", np.vectorize(f, [float]))
                    for f in runtime.slope_of(row, position)
                ]
            slope, exists = (
                Name(self, f"{name}({arguments})") for name in self.slopes[row, position]
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
        return f"({term}).sum({tuple_of(gone)})" if gone else term

    def back_product(self, step: Step, made: Variable, readings: list[Reading], d: Name) -> None:
        a, b = readings[:2]
        rows = a.by_row or b.by_row
        of_a, of_b, out = self.letters(step, readings, rows)
        dy = f"{d}.sum(-1)" if made.by_row and not rows else str(d)
        terms = step.operands[0].shape[-1]
        if "k" not in of_a + of_b and step.form != "take" and terms > 1:
            dy = f"({terms} * {dy})"
        nothing = _adds_nothing(readings)
        if step.form != "take" and a.send is not None and not nothing:
            a.send(self.contraction(step, dy, out, b.text, of_b, of_a))
        if b.send is not None and not nothing:
            b.send(self.contraction(step, a.text, of_a, dy, out, of_b))
        if len(readings) == 3 and readings[2].send is not None:
            readings[2].send(self.reduced(str(d), step, made, readings[2]))

    back_inner = back_take = back_product

    def back_terms(self, step: Step, made: Variable, readings: list[Reading], d: Name) -> None:
        for a, b in zip(readings[::2], readings[1::2], strict=True):
            for one, other in ((a, b), (b, a)):
                if one.send is not None:
                    over_rows = ".sum()" * (made.by_row and not one.by_row)
                    one.send(f"({_product([str(d), other.text])}){over_rows}")

    # -- all of it
    def prune(self) -> None:
        """Leave out what nobody reads: lines, parameters, arrays, and numbers behind names."""
        used = {self.theta.name, *names_in(self.result.text)}
        used |= {"d" + v.name for v, _ in self.parameters if v.terms or v.partial}
        used |= {"d" + self.theta.name}
        for lines in (self.lines, self.ahead):
            kept = []
            for line in reversed(lines):
                target, *read = names_in(line.code.removeprefix("add.at("))
                if target in used:
                    kept.append(line)
                    used.update(read)
                    for term in self.sums.get(line.note, []):
                        used.update(names_in(term.code))
            lines[:] = reversed(kept)
        self.parameters = [
            (v, text) for v, text in self.parameters if {v.name, "d" + v.name} & used
        ]
        used |= {x.name for x in self.inputs}
        names = self.renumbered(used, from_one=True)
        for some in (self.lines, self.ahead, *self.sums.values()):
            some[:] = [Line(renamed(line.code, names), line.note) for line in some]
        self.result.text = renamed(self.result.text, names)
        for variable in [*self.inputs, *(v for v, _ in self.parameters)]:
            variable.name = names[variable.name]
        self.namespace = {
            names.get(name, name): x for name, x in self.namespace.items() if name in used
        }
        self.kinds = {names[name]: kind for name, kind in self.kinds.items() if name in names}

    def whole_source(self) -> str:
        rolling = Rolling(derivatives=True)
        # what is computed decides which names are one; that of its parts comes after
        ahead = rolling.find(self.ahead, at_end=True)
        back = rolling.find(self.lines)
        sums = {note: rolling.find(terms, least=FEW) for note, terms in self.sums.items()}
        parameters = rolling.find(self.parameter_lines())
        rolling.complete(self.kinds)
        namespace = rolling.collected(self.namespace)
        arguments = [x.name for x in self.inputs]
        out = [Line(f"rows = len({arguments[0]})")] if arguments else []
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
        out += rolling.text(parameters)
        out += [*[Line("")] * bool(out), *rolling.text(ahead), Line("")]
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
        for name, x in namespace.items():
            first = (
                next((y for y in x if y is not None), None) if name in rolling.families else None
            )
            if first is not None and all(_key(y) == _key(first) for y in x if y is not None):
                namespace[name] = first  # a list of what is always the same
                indexed = re.compile(rf"\b{name}\[[^]]*\]")
                out = [Line(indexed.sub(name, line.code), line.note) for line in out]
        names = self.tidied(namespace, out)
        out = [Line(renamed(line.code, names), line.note) for line in out]
        head = renamed(f"def value_and_grad({', '.join(['theta', *arguments])}):", names)
        return "\n".join([*self.header(out), "", "", head, *map(_indented, out)])

    def tidied(self, namespace: dict[str, Any], lines: list[Line]) -> dict[str, str]:
        """New names, numbered without gaps, of which equal arrays have one. Sets .namespace."""
        used = {name for line in lines for name in names_in(line.code)}
        first: dict[Any, str] = {}
        same = {
            name: first.setdefault(_key(x), name) for name, x in namespace.items() if name in used
        }
        names = self.renumbered({same.get(name, name) for name in used})
        self.namespace = {names.get(name, name): namespace[name] for name in first.values()}
        return names | {name: names.get(one, one) for name, one in same.items()}

    def header(self, lines: list[Line]) -> list[str]:
        """Where the text has what it names from."""
        from .. import __dict__ as public

        used = {name for line in lines for name in names_in(line.code)}
        ours: list[str] = []
        rest: dict[str, list[str]] = {"arrays": [], "functions": []}
        for name, x in self.namespace.items():
            one = next(y for y in x if y is not None) if isinstance(x, list) else x
            theirs = getattr(x, "name", "")
            if theirs and public.get(theirs) is x:
                ours.append(theirs if theirs == name else f"{theirs} as {name}")
            else:
                rest["arrays" if isinstance(one, np.ndarray) else "functions"].append(name)
        top = []
        for what, names in rest.items():
            more = f" and {len(names) - TERMS} more" * (len(names) > TERMS)
            top += [f"# {what} in .namespace: {', '.join(names[:TERMS])}{more}"] * bool(names)
        numbers = [name for name in ("inf", "nan") if name in used]
        for module, found in (
            ("numpy", sorted(self.imported & used)),
            ("micrograd_scratch", sorted(ours)),
            ("math", numbers),
        ):
            top += [f"from {module} import {', '.join(found)}"] * bool(found)
        return top

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


def _key(x: Any) -> Any:
    """What is equal for arrays that are the same; everything else is what it is."""
    if isinstance(x, list):
        return tuple(map(_key, x))
    return (x.shape, x.dtype.str, x.tobytes()) if isinstance(x, np.ndarray) else id(x)


def _shorter(row: Operation, xs: Sequence[Any]) -> Any:
    """What a derivative is without the ones in it; None if there are none to leave out."""
    texts = [str(x) for x in xs]
    if row in (power, constant_power) and texts[1] in ("0.0", "1.0"):
        return xs[0] if texts[1] == "1.0" else 1.0  # x ** 1 -> x, x ** 0 -> 1
    if row is multiply and "1.0" in texts:
        return xs[1 - texts.index("1.0")]  # 1 * x -> x
    return None


def _product(factors: Sequence[str]) -> str:
    """The product without ones."""
    return " * ".join([factor for factor in factors if factor != "1.0"] or ["1.0"])


def _indented(line: Line) -> str:
    """A line of the function, with its comment behind it."""
    code = f"    {line.code}".rstrip()
    return f"{code:<52}  # {line.note}" if line.note else code


def _adds_nothing(readings: list[Reading]) -> bool:
    """Whether a dot is with zeros, such as a network's first state, and has a bias."""
    return len(readings) == 3 and "0.0" in (readings[0].text, readings[1].text)


def _with_axes(text: str, has: list[bool]) -> str:
    """An array with axes of length 1 where it has none; NumPy adds leading ones by itself."""
    if not any(has) or all(has[has.index(True) :]):
        return text
    return f"{text}[{', '.join(':' if own else 'None' for own in has[has.index(True) :])}]"


def _unturned(text: str, letters: str) -> tuple[str, str]:
    """An expression that ends in .transpose(...) without that, and the letters of its axes."""
    found = re.fullmatch(r"(.*)\.transpose\(([\d, ]+)\)", text)
    if found is None:
        return text, letters
    axes = [int(axis) for axis in found[2].split(", ")]
    return found[1], "".join(letters[axes.index(i)] for i in range(len(axes)))


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
