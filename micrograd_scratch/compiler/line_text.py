"""Line text: numbers as source, for programs of plain Python.

An operation on a `Number` is text with as few brackets and signs as can be. Where numbers stand is
line_places.py's to say, and which lines a program needs emit_scalars.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ..operations import (
    Operation,
    Symbol,
    add,
    divide,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    multiply,
    not_equal,
    subtract,
    total_of,
)

COMPARISONS = {less, less_equal, greater, greater_equal, equal, not_equal}
# How tightly an operator binds; a name or a call is 3, a conditional expression -1.
LEVELS = {add: 1, subtract: 1, multiply: 2, divide: 2, **dict.fromkeys(COMPARISONS, 0)}


class Number(Symbol):
    """A float in the program: an operation on it is text, a function call a line of its own.

    positive  what it is the negative of, so that signs cancel and sums subtract: both are exact
    """

    __slots__ = ("writer", "level", "size", "positive")

    def __init__(
        self,
        writer: Any,
        text: str,
        level: int = 3,
        size: int = 0,
        positive: Number | None = None,
    ) -> None:
        self.text, self.writer, self.level, self.size = text, writer, level, size
        self.positive = positive

    def negative(self) -> Number:
        """The same with the other sign."""
        if self.positive is not None:
            return self.positive
        positive = as_float(self)
        return Number(self.writer, f"-{text(positive, 2)}", 2, self.size + 1, positive)

    def __operation__(self, row: Operation, xs: Sequence[Any]) -> Any:
        return self.writer.apply(row, xs)


def is_truth(x: Any) -> bool:
    """Whether it is a comparison, which gives a bool."""
    return isinstance(x, Number) and x.level == 0


def as_float(x: Any) -> Any:
    """A truth as a number: the negative of False is 0, and has no sign."""
    return Number(x.writer, f"1.0 * {text(x, 2)}", 2, x.size + 1) if is_truth(x) else x


def text(x: Any, level: int = -1) -> str:
    """A number or a name as source, in brackets if it binds less tightly than `level`."""
    if isinstance(x, Number):
        return f"({x.text})" if x.level < level else x.text
    number = repr(float(x))
    return f"({number})" if number[0] == "-" and level > 1 else number


def arithmetic(writer: Any, row: Operation, a: Any, b: Any, size: int) -> Number:
    """a + b and the like, of so many operations."""
    level, minus = LEVELS[row], False
    if row is multiply and is_truth(a):
        a, b = b, a  # for a sign in front
    if level == 1 or is_truth(a):
        a, b = as_float(a), as_float(b)
    if isinstance(b, Number) and b.positive is not None and level:
        b, minus = b.positive, level == 2
        row = subtract if row is add else add if row is subtract else row
    if isinstance(a, Number) and a.positive is not None and level == 2:
        a, minus = a.positive, not minus
    source = f"{text(a, level or 1)} {row.name} {text(b, level + 1)}"
    number = Number(writer, source, level, size)
    return number.negative() if minus else number


def terms_of(row: Operation, xs: Sequence[Any]) -> list[str]:
    """The terms of a total or a dot, from left to right."""
    if row is total_of:
        return [text(x, 1 if i == 0 else 2) for i, x in enumerate(xs)]
    n = len(xs) // 2
    products = [f"{text(a, 2)} * {text(b, 3)}" for a, b in zip(xs[:n], xs[n:], strict=False)]
    return [*(text(bias, 1) for bias in xs[2 * n :]), *products]


def loop_line(
    columns: dict[str, str], turns: int, saved: Sequence[str] = (), name: str | None = None
) -> str:
    """`for ...:` over the columns; backward, over what was saved under a name as well."""
    variables, sources = list(columns.values()), list(columns)
    if name is not None:
        sources = [f"reversed({source})" for source in sources]
        if saved:
            several = len(saved) > 1 and variables
            variables.insert(0, f"({', '.join(saved)})" if several else ", ".join(saved))
            sources.insert(0, f"reversed({name})")
    if not variables:
        return f"for _ in range({turns}):"
    source = sources[0] if len(sources) == 1 else f"zip({', '.join(sources)})"
    return f"for {', '.join(variables)} in {source}:"


def tuple_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"({', '.join(names)})"


_NAME = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\b([a-z]\d+)\b")


def names_in(lines: Iterable[str]) -> set[str]:
    """The variables that lines mention."""
    return set(_NAME.findall("\n".join(lines))) - {""}


def identifier(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
