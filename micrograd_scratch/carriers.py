"""Carriers: what a row's rule is run on to be written in another language.

A row speaks arithmetic, not a type (operations.py). Run on a `Carrier`, each of its operations asks
a `Writer` to note it down, in C (c_source.py) or as nodes of ONNX (onnx_graph.py). So whatever the
table holds can be exported, rows of your own included. It leaves out the languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .operations import Operation, Symbol, absolute, constant_power, power


class Writer:
    """Notes operations down. A language says how: `apply`, and what to forget of a failed trial."""

    language = ""

    def apply(self, row: Operation, xs: Sequence[Any]) -> Any:
        """The row applied to carriers and floats, as a carrier (or a float where that is known)."""
        raise NotImplementedError

    def mark(self) -> Any:
        """How far the writing has got."""
        raise NotImplementedError

    def rewind(self, mark: Any) -> None:
        """Forget what was written since that mark."""
        raise NotImplementedError

    def value_of(self, row: Operation, xs: Sequence[Any]) -> Any:
        """The row's value by its own function or its form for arrays, whichever can be followed.

        A function that branches on a number or calls C code cannot. TypeError if neither can.
        """
        for form in (row.value, row.array):
            if callable(form):
                mark = self.mark()
                try:
                    y = form(*xs)
                except (TypeError, AttributeError, ArithmeticError, ValueError):
                    self.rewind(mark)
                    continue
                if isinstance(y, (Carrier, int, float)):
                    return y
                self.rewind(mark)
        raise TypeError(
            f"operation {row.name!r} has no form in {self.language}: write its value with rows and "
            "+ - * /, or give it such a form as array="
        )


class Carrier(Symbol):
    """A name in the other language; an operation on it is noted down by its writer."""

    __slots__ = ("writer",)

    def __init__(self, writer: Writer, text: str) -> None:
        super().__init__(text)
        self.writer = writer

    def __operation__(self, row: Operation, xs: Sequence[Any]) -> Any:
        return self.writer.apply(row, xs)

    # Rules use neither, but values are Python functions and may.
    # fmt: off
    def __abs__(self) -> Any: return absolute(self)
    def __pow__(self, other: Any) -> Any: return constant_power(self, other)
    def __rpow__(self, other: Any) -> Any: return power(other, self)
    # fmt: on
