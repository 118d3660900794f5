"""Results as tables: aligned text for pipes and notebooks, rich's tables for terminals.

A result lists its `Table`s; how they look is decided here. It leaves out JSON, which is the
dataclasses as they are, and pictures (plots.py).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH = 80  # of text, in columns


@dataclass(frozen=True)
class Table:
    """A title, columns (the first `left` of them aligned left), and a note below."""

    title: str
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=(), repr=False)
    note: str = ""
    left: int = 1


class Result:
    """What the comparisons return: prints as its tables."""

    def tables(self) -> list[Table]:
        """The tables that show it."""
        raise NotImplementedError

    def __str__(self) -> str:
        return as_text(self.tables())

    __repr__ = __str__


def as_text(tables: Sequence[Table]) -> str:
    """The tables in plain text, a blank line between them."""
    blocks = []
    for table in tables:
        lines = [table.title]
        if table.heads:
            columns = zip(table.heads, *table.rows, strict=True)
            widths = [max(map(len, column)) for column in columns]
            for cells in (table.heads, ["-" * width for width in widths], *table.rows):
                aligned = [
                    cell.ljust(width) if i < table.left else cell.rjust(width)
                    for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
                ]
                lines.append("  ".join(aligned).rstrip())
        lines += textwrap.wrap(table.note, WIDTH)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def print_rich(tables: Sequence[Table], console: Any) -> None:
    """The tables on a rich Console."""
    from rich import box
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    for table in tables:
        console.print(Text(table.title, style="bold"))
        if table.heads:
            drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
            for i, head in enumerate(table.heads):
                drawn.add_column(Text(head), justify="left" if i < table.left else "right")
            for row in table.rows:
                drawn.add_row(*map(Text, row))  # Text: square brackets are no markup here
            console.print(drawn)
        if table.note:
            console.print(Padding(Text(table.note, style="dim"), (0, 0, 1, 0)))


def without_nan(thing: Any) -> Any:
    """Dictionaries and lists for JSON, which has no nan and no infinity: None instead."""
    if isinstance(thing, dict):
        return {key: without_nan(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [without_nan(value) for value in thing]
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing


def seconds_text(seconds: float) -> str:
    """A time in s or ms or us, to three digits: "47.3 ms", "1,210 s"."""
    if not math.isfinite(seconds):
        return "-"
    unit, size = ("s", 1.0) if seconds >= 1.0 else ("ms", 1e-3) if seconds >= 1e-3 else ("us", 1e-6)
    number = seconds / size
    return f"{number:,.{max(0, 2 - int(math.log10(max(number, 1))))}f} {unit}"


def error_text(error: float) -> str:
    """A relative error: "2.9e-16", "0" if there is none, "-" if it was not measured."""
    return "-" if math.isnan(error) else "0" if error == 0 else f"{error:.1e}"
