"""Anomalies: the first number that is not finite is reported where it comes from.

Inside `detect_anomaly()` every node is checked as it is recorded or recomputed, and every adjoint
and tangent as it is passed on; for that, nodes remember the line of source that recorded them. It
leaves out compiled programs: those run their graph once more, node by node (compiler/program.py).
"""

from __future__ import annotations

import math
import os
import sys
import weakref
from collections.abc import Sequence
from typing import Any

from . import engine
from .engine import Value, _backward, observing


class AnomalyError(ArithmeticError):
    """A value or an adjoint that is not finite, or a graph whose numbers are out of date."""


def detect_anomaly() -> Any:
    """Within `with detect_anomaly():`, the first value or adjoint that is not finite raises.

    The AnomalyError names the operation, its operands and the source line that recorded it. Of a
    `backward()` it checks the adjoints, of `jvp` the tangents, of `recompute` the new values;
    `backward()` also refuses a graph whose leaves have changed since it was computed.
    """
    return observing(_check_value, walk_back=_backward_checked, look=_check_number)


def checking() -> bool:
    """Whether this thread is inside `detect_anomaly()`."""
    return engine.is_observed_by(_check_value)


def _check_value(node: Value) -> Value:
    remember_line(node)
    _check_number(node, node.data)
    return node


def _check_number(node: Value, number: float, of_what: str = "") -> None:
    if not math.isfinite(number):
        raise AnomalyError(f"{of_what}{describe(node)} is {number}")


def _backward_checked(nodes: Sequence[Value]) -> None:
    for node in nodes:
        if node.parents:
            now = float(node.row.number(*[p.data for p in node.parents]))
            if now != node.data and not (now != now and node.data != node.data):
                raise AnomalyError(
                    f"{describe(node)} holds {node.data} but is now {now}: call recompute() "
                    "after changing leaves"
                )
    reached = set(nodes)
    for node in reversed(nodes):
        _backward([node])
        for p in node.parents:
            if p in reached and not math.isfinite(p.grad):
                raise AnomalyError(
                    f"the adjoint of {p.label or p.data} became {p.grad} behind {describe(node)}, "
                    f"whose own adjoint is {node.grad}"
                )


# ---------------------------------------------------------------- source lines
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_lines: dict[int, tuple[weakref.ref[Value], str]] = {}  # only filled inside a context


def remember_line(node: Value) -> None:
    """Note the source line outside this package that is recording the node."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    key = id(node)
    line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    _lines[key] = (weakref.ref(node, lambda _: _lines.pop(key, None)), line)


def source_line(node: Value) -> str:
    """The "file:line" that recorded the node, "" if it was not recorded inside a context."""
    reference, line = _lines.get(id(node), (None, ""))
    return line if reference is not None and reference() is node else ""


def describe(node: Value) -> str:
    """One line that names a node: operation, operands, and the source line if it is known."""
    shown = [f"{p.label}={p.data:.6g}" if p.label else f"{p.data:.6g}" for p in node.parents[:6]]
    operands = ", ".join(shown) + (", ..." if len(node.parents) > 6 else "")
    line = source_line(node)
    return f"{node.op or 'leaf'}({operands})" + (f" at {line}" if line else "")
