"""Emit vectors: the lines of Python once more, on an array of rows for every number.

A chain over many rows has as many array steps as nodes, and laying out a step takes a millisecond.
The lines that run it on floats run on arrays as well, if they neither branch on a number nor change
one in place: `if` becomes `where`, `d += x` becomes `d = d + x`, and functions are NumPy's. What is
computed where a condition is false is selected away afterwards. A branch not taken has the adjoint
0.0 then, and not none: where that may have met infinity, the caller runs it otherwise
(program.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operations import Conditional, Operation, constant_power, power, take_of
from . import runtime
from .dependence import MAYBE, SURELY, rule_of
from .emit_scalars import LineWriter
from .line_text import Number, text
from .record import COMPUTED, Graph


def vector_source(
    graph: Graph, parameters: int, input_names: Sequence[str], wrt_inputs: bool
) -> tuple[str, dict[str, Any], bool]:
    """As `scalar_source`, where x are (rows,) arrays, and whether results may be doubtful.

    Outputs and gradients are (rows,) arrays, or floats where no row differs.
    """
    writer = _VectorWriter(graph, parameters, input_names, wrt_inputs)
    source, names = writer.source()
    return source, {**names, "where": np.where}, writer.doubtful


class _VectorWriter(LineWriter):
    """A writer of lines on arrays.

    doubtful  whether an adjoint that does not exist may have passed for 0.0
    """

    branches = False

    def find_dependence(self) -> None:
        super().find_dependence()
        graph, rows = self.graph, self.graph.rows
        maybe = [i for i, way in enumerate(self.reached) if way == MAYBE and self.wanted[i]]
        # 0.0 times a number is 0.0, but 0.0 times infinity is not
        self.doubtful = any(
            rule_of(rows[graph.op[i]], len(graph.operands_of(i))).numbers is None
            for i in maybe
            if graph.kind[i] == COMPUTED
        )
        self.reached = [SURELY if way == MAYBE else way for way in self.reached]

    def choice(self, condition: Any, a: Any, b: Any, size: int) -> Number:
        return Number(self, f"where({text(condition)}, {text(a)}, {text(b)})", 3, size)

    def increased(self, target: str, sign: str, amount: Number) -> str:
        return f"{target} = {target} {sign} {text(amount, 2)}"

    def slopes_of_numbers(self, row: Operation, numbers: str, count: int) -> list[Conditional]:
        found = []
        for position in range(count):
            names = [f"slope{len(self.names)}", f"exists{len(self.names)}"]
            self.names.update(zip(names, runtime.slopes_by_element(row, position), strict=True))
            slope, exists = (Number(self, f"{name}({numbers})") for name in names)
            found.append(Conditional(exists, slope))
        return found

    def implementation(self, row: Operation, what: str) -> Any:
        if row is take_of:
            return runtime.take_by_row
        if row in (power, constant_power):  # NumPy's other one takes roots by sqrt: nan at -inf
            return np.float_power
        return row.on_arrays
