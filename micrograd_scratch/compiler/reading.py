"""Reading: what a textbook calls arrays, and the expressions for what its steps read.

An operand is a whole array, a box or a turn of one, regular cells of one as slices, or else it is
gathered from several by an index. Each way to read has one to send a derivative back. It leaves out
what is computed: textbook.py.
"""

from __future__ import annotations

import ast
import builtins
import keyword
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np

from .cells import by_row as has_rows
from .cells import places
from .factor import FIRST_INPUT, FREE, LITERAL, ROWS, SHIFT, THETA, unique
from .pieces import of_rows
from .rolling import Line
from .steps import RESERVED, Layout, Operand, regular_form
from .views import view_text

_TAKEN = ("theta", "g", "rows", "padding", "t")  # what the text calls its own


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


class Reader:
    """The names, arrays and lines of a text, and how operands are read in it.

    names       address -> the name of the parameters that start there
    kinds       name -> what it was to be called, in the order in which they were given
    inputs      the variable of every input
    parameters  the variables that are parts of theta, and what picks them from it
    namespace   the arrays and functions that the text names
    imported    what it calls of NumPy's
    lines       its statements
    """

    def __init__(
        self, layout: Layout, names: dict[int, str], inputs: Sequence[tuple[str, int]]
    ) -> None:
        self.layout, self.names = layout, names
        self.taken: dict[str, int] = dict.fromkeys(_TAKEN, 1)
        self.kinds: dict[str, str] = {}
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

    # -- names and lines
    def variable(self, name: str, space: int, cells: np.ndarray, wanted: bool) -> Variable:
        """An array with these cells, places in a space."""
        made = Variable(name, (space << SHIFT) + cells, has_rows(space), wanted)
        self.owners[space].append(made)
        return made

    def unique(self, kind: str) -> str:
        """The name, or one with a number behind it; neither it nor its derivative's is taken."""
        name = self.free(kind)
        self.kinds[name] = kind
        return name

    def free(self, name: str) -> str:
        """A name that is not taken; it is from now on."""
        number = self.taken.get(name, 0) + 1
        self.taken[name] = number
        if hasattr(builtins, name) or hasattr(np, name) or keyword.iskeyword(name):
            return self.free(f"{name}_{number + 1}")
        if number > 1 or "d" + name in self.taken:
            return self.free(f"{name}_{max(number, 2)}")
        self.taken["d" + name] = 1  # its derivative
        return name

    def constant(self, kind: str, value: Any) -> str:
        """The name of something that the text does not say."""
        name = self.unique(kind)
        self.namespace[name] = value
        return name

    def renumbered(self, used: set[str], from_one: bool = False) -> dict[str, str]:
        """New names for those in use, and for their derivatives, in which no number is left out.

        from_one  h_1, h_2 instead of h, h_2 if there are several: all of them may be in a loop
        """
        self.taken = dict.fromkeys(_TAKEN, 1)
        kept = {n: kind for n, kind in self.kinds.items() if n in used or "d" + n in used}
        found = {name: self.free(kind) for name, kind in kept.items()}
        several = {kind for name, kind in kept.items() if found[name] != kind} if from_one else ()
        for name, kind in kept.items():
            first = f"{kind}_1"
            if found[name] == kind in several and not {first, "d" + first} & self.taken.keys():
                found[name] = first
        return found | {"d" + name: "d" + new for name, new in found.items()}

    def numpy(self, name: str) -> str:
        """The name of one of NumPy's functions."""
        self.imported.add(name)
        return name

    def line(self, target: str, text: str, sign: str = "=", comment: str = "") -> None:
        """A statement, without the parentheses that it does not need."""
        self.lines.append(Line(f"{target} {sign} {plain(text)}", comment))

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
        else:
            stack = self.stacked(of, axes)
            if stack is not None:
                return stack
        return self.gathered(of, axes, operand)

    def holders(self, cells: np.ndarray) -> list[Variable]:
        """The variables that may have some of these cells, of one space."""
        space = int(cells.flat[0]) >> SHIFT
        every = self.owners[space]
        if space not in (FREE, ROWS):
            return every
        # those of steps lie one behind the other
        low, high = (
            bisect_right(every, cell, key=_first_cell)
            for cell in (int(cells.min()), int(cells.max()))
        )
        return every[max(low - 1, 0) : high]

    def own(self, space: int, made: Variable) -> None:
        """Note a variable that a step makes."""
        insort(self.owners[space], made, key=_first_cell)

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
            found = view_text(flat, start, cells.shape, strides, variable.by_row, size)
            found = found.replace(f"{flat}[0:{size}].reshape", f"{name}.reshape")
            turned = ".transpose(1, 0)"
            return found.removesuffix(turned) + ".T" if found.endswith(turned) else found

        if "strided" in text(variable.name):
            return None
        return text(variable.name), lambda term: variable.partial.append(
            f"{text('{d}')}[...] += {term}"
        )

    def stacked(self, cells: np.ndarray, axes: tuple[int, ...]) -> Reading | None:
        """Rows of several arrays, such as the weights of several gates, one upon the other."""
        pieces = of_rows(cells.reshape(len(cells), -1)) if 0 < cells.ndim < 3 else []
        forms = [regular_form(cells[rows], self.layout.sizes) for rows in pieces]
        if not pieces or None in forms or len({form[0] for form in forms if form}) > 1:
            return None
        parts = [
            self.read(Operand(cells[rows].shape, cells[rows], regular=form))
            for rows, form in zip(pieces, forms, strict=True)
        ]
        if any(len(part.axes) < cells.ndim for part in parts):
            return None
        name, shape = self.unique("r"), " x ".join(map(str, cells.shape))
        text = f"{self.numpy('concatenate')}([{', '.join(part.text for part in parts)}])"
        self.line(name, text, comment=shape)

        def send(term: str) -> None:
            whole = term if term.isidentifier() else self.unique("s")
            if whole != term:
                self.line(whole, term)
            for rows, part in zip(pieces, parts, strict=True):
                if part.send is not None:
                    part.send(f"{whole}[{rows.start}:{rows.stop}]")

        wanted = any(part.send is not None for part in parts)
        return Reading(name, axes, parts[0].by_row, send if wanted else None)

    def gathered(self, cells: np.ndarray, axes: tuple[int, ...], operand: Operand) -> Reading:
        """Cells that lie here and there, also in several variables."""
        flat = cells.reshape(-1)
        sources: list[Variable] = []
        index, size = np.full(flat.size, -1), 0
        for space in unique(flat >> SHIFT).tolist():
            here = flat[flat >> SHIFT == space]
            for variable in [self.theta] if space == THETA else self.holders(here):
                place = places_in(variable, flat)
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
                term, whole = self.unique("s"), term
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


def _first_cell(variable: Variable) -> int:
    return int(variable.cells.flat[0])


def plain(code: str) -> str:
    """Without the parentheses that it does not need."""
    return ast.unparse(ast.parse(code))


def tuple_of(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"({', '.join(items)})"


def places_in(variable: Variable, flat: np.ndarray) -> np.ndarray:
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
    place = places_in(variable, cells.reshape(-1))
    if (place < 0).any():
        return None
    box: list[Any] = []
    shape = variable.cells.shape
    for at, n in zip(np.unravel_index(place, shape) if shape else (), shape, strict=True):
        low, high = int(at.min()), int(at.max())
        box.append(low if low == high and n > 1 else slice(low, high + 1))
    own = variable.cells[tuple(box)]
    whole = own.shape == shape
    if not whole:
        part = ", ".join(map(_index, box, shape))
    text = variable.name + ("" if whole else f"[{part}]")
    rows = (own.ndim,) if variable.by_row else ()
    change = back = ""
    if own.shape != cells.shape or not np.array_equal(own, cells):
        turns = permutations(range(own.ndim)) if own.ndim < 4 else []
        turn = next((t for t in turns if np.array_equal(own.transpose(t), cells)), None)
        if turn is not None:
            change = f".transpose({tuple_of([str(i) for i in (*turn, *rows)])[1:-1]})"
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
            variable.partial.append(f"{{d}}[{part}] += {term}")

    return text + change, send


def _index(x: int | slice, size: int) -> str:
    if isinstance(x, int):
        return str(x)
    return ":" if (x.start, x.stop) == (0, size) else f"{x.start}:{x.stop}"
