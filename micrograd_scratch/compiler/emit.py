"""Emit: the steps become instructions, value and gradient, with every view bound beforehand.

Binding is most of the speed: a view costs 0.28 us, a small array operation 0.5. So every line is a
call that writes into a view or a temporary, and what lines name is bound once: what there is
(writer.py), each form of step (forms.py, products.py), how adjoints meet (adjoints.py, reach.py).
Here the steps are gone through, forward and back; how it all becomes text: source.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .adjoints import Adjoints
from .cells import by_row, places
from .factor import FIRST_INPUT, FREE, LITERAL, ROWS, SHIFT, THETA
from .forms import Fold, Map, Take
from .products import Inner, Product
from .reach import Reach
from .steps import Layout, Operand
from .writer import Array, Instruction, Writer

_FORMS = {"map": Map, "fold": Fold, "take": Take, "product": Product, "inner": Inner}


@dataclass
class Code:
    """All instructions of a program, and the views, literals and functions that they name.

    forward         the lines of every step
    backward        the lines that start it, then those of every step, the last step first
    bindings        function -> the arrays that it names, and the text that makes them
    globals         literals, index arrays and functions, by name
    gradient_sizes  the sizes of the spaces, with what waits to be added up
    unwritten       the parameters that no adjoint is written to
    doubtful        whether an adjoint that does not exist may have passed for 0.0
    """

    layout: Layout
    forward: list[list[Instruction]]
    backward: list[list[Instruction]]
    bindings: dict[str, list[tuple[Array, str]]]
    globals: dict[str, Any]
    gradient_sizes: list[int]
    unwritten: np.ndarray
    doubtful: bool


def emit(layout: Layout, names: dict[int, str], wrt_inputs: bool, backward: bool = True) -> Code:
    """The instructions of a layout's steps.

    names       what is called how: the addresses of parameters and inputs
    wrt_inputs  whether inputs want gradients as well
    backward    whether anything does
    """
    writer = Writer(layout, names)
    adjoints = Adjoints(writer, backward, backward and wrt_inputs)
    reach = Reach(writer, adjoints)
    forms = [_FORMS[step.form](writer, adjoints, reach, step) for step in layout.steps]
    ahead = [form.written for form in forms]
    back = [_start(writer, adjoints, reach), *(form.go_back() for form in reversed(forms))]
    for space in (THETA, *range(FIRST_INPUT, len(layout.sizes))):
        adjoints.collect(space, 0)
    back[0][:0] = reach.resets
    _prune(writer, [*ahead, *back])
    unwritten = np.flatnonzero(~adjoints.written[THETA])
    sizes = writer.gradient_sizes
    return Code(
        layout, ahead, back, writer.bindings, writer.globals, sizes, unwritten, reach.doubtful
    )


def _start(writer: Writer, adjoints: Adjoints, reach: Reach) -> list[Instruction]:
    """The lines that give the result an adjoint: its share in the mean over rows."""
    writer.lines, writer.known = [], {}
    for cell in writer.layout.outputs.tolist():
        if cell >> SHIFT != LITERAL:
            space, at = cell >> SHIFT, places(cell)
            output = Operand((1,), np.array([cell]), regular=(space, at, (1,)))
            reach.certain.mark(output)
            if adjoints.wants(output):
                seed = "seed" if by_row(space) else "seed * rows"  # may be the same for all
                adjoints.add(output, Array(writer, (1,), by_row(space), name=seed))
    return writer.lines


def _prune(writer: Writer, every: list[list[Instruction]]) -> None:
    """Leave out what nobody reads: instructions, copies, and names of views."""
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
    named = {writer.bound.get(("reach", space)) for space in (FREE, ROWS)}  # in other texts
    for function, pairs in writer.bindings.items():
        writer.bindings[function] = [pair for pair in pairs if pair[0] in used]
        for array, _ in writer.bindings[function]:
            if array not in named:
                array.name = writer.unique(array.name)
