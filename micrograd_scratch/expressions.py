"""Formulas typed by a user, as functions of Values: `exp(sin(x)) * tanh(x)`.

The text is parsed by `ast` and walked through an allow-list: numbers, variables, + - * / // % **,
comparisons, and the package's functions by name. Nothing is ever eval'd, and limits on length,
depth and exponents keep every formula quick. It leaves out lists, strings, attributes, indices,
conditionals (write `where(x > 0, a, b)`) and assignments.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
from collections.abc import Callable
from typing import Any

import micrograd_scratch

from . import functions, operations
from .operations import Operation

LONGEST = 500  # characters
DEEPEST = 50  # levels
LARGEST_POWER = 1000  # beyond it nearly every base gives 0 or infinity


class ExpressionError(ValueError):
    """A formula that is not understood: says what, where, and what to write."""


_BINARY: dict[type, tuple[Callable[[Any, Any], Any], Operation]] = {
    ast.Add: (operator.add, operations.add),
    ast.Sub: (operator.sub, operations.subtract),
    ast.Mult: (operator.mul, operations.multiply),
    ast.Div: (operator.truediv, operations.divide),
    ast.FloorDiv: (operator.floordiv, functions.floor_divide),
    ast.Mod: (operator.mod, functions.remainder),
    ast.Pow: (operator.pow, operations.power),
}
_COMPARE: dict[type, Operation] = {
    ast.Lt: operations.less,
    ast.LtE: operations.less_equal,
    ast.Gt: operations.greater,
    ast.GtE: operations.greater_equal,
    ast.Eq: operations.equal,
    ast.NotEq: operations.not_equal,
}
CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}


def _functions() -> dict[str, tuple[Callable[..., Any], int | None]]:
    """Name -> the function and how many arguments it takes; None: two or more."""
    exported = {name: getattr(micrograd_scratch, name) for name in micrograd_scratch.__all__}
    rows = {name: (f, f.arity) for name, f in exported.items() if isinstance(f, Operation)}
    return rows | {
        "abs": (operations.absolute, 1),
        "round": (functions.rounded, 1),
        "pow": (operations.power, 2),
        "maximum": (operations.maximum, None),
        "minimum": (operations.minimum, None),
    }


class Expression:
    """A parsed formula: call it with one number or Value for each of `names`, in that order.

    >>> from micrograd_scratch import Value
    >>> f = Expression("x * y + 1")
    >>> f.names, f(2.0, Value(3.0)).data
    (('x', 'y'), 7.0)

    ExpressionError says what is wrong with a formula that is not understood.
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self._functions = _functions()
        if len(self.text) > LONGEST:
            raise ExpressionError(
                f"the expression has {len(self.text)} characters: shorten it to {LONGEST}"
            )
        try:
            self._root = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            column = getattr(error, "offset", None)
            where = f" at column {column}" if column else ""
            raise ExpressionError(
                f"cannot read {_short(self.text)!r}{where}: write a formula such as exp(x) * y**2"
            ) from None
        self.names = tuple(self._check())
        self.__name__ = "f"

    def __call__(self, *values: Any) -> Any:
        return self._evaluate(self._root, dict(zip(self.names, values, strict=True)))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def _check(self) -> list[str]:
        """The variables in order of their first use; ExpressionError for all that is not allowed.

        Iterative, because the depth is only known once it has been walked.
        """
        names: dict[str, None] = {}
        stack: list[tuple[ast.expr, int]] = [(self._root, 1)]
        while stack:
            node, depth = stack.pop()
            if depth > DEEPEST:
                raise ExpressionError(f"the expression is nested more than {DEEPEST} levels deep")
            match node:
                case ast.Constant(value=bool() | str() | bytes() | complex() | None):  # "a", 2j
                    raise self._refusal(node, "only real numbers are understood")
                case ast.Constant(value=int() | float() as number):  # 2, 0.5
                    if not abs(number) < 1e308:
                        raise self._refusal(node, "give a number below 1e308")
                case ast.Name(id=name):  # x
                    if name in self._functions:
                        raise self._refusal(node, f"{name} is a function: write {name}(...)")
                    if name.startswith("_"):
                        raise self._refusal(node, "name a variable with letters, such as x")
                    if name not in CONSTANTS:
                        names[name] = None
                case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):  # -x
                    stack.append((operand, depth + 1))
                case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:  # x + y
                    if isinstance(op, ast.Pow):
                        self._check_power(right)
                    stack += [(right, depth + 1), (left, depth + 1)]
                case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                    stack += [(right, depth + 1), (left, depth + 1)]  # x < y
                case ast.Compare(ops=[_, _, *_]):  # 0 < x < 1
                    raise self._refusal(node, "write (0 < x) * (x < 1) for 0 < x < 1")
                case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):  # exp(x)
                    self._check_call(node, name, arguments)
                    stack += [(argument, depth + 1) for argument in reversed(arguments)]
                case ast.IfExp() | ast.BoolOp():  # a if x > 0 else b
                    raise self._refusal(node, "write where(condition, a, b), and * for 'and'")
                case _:
                    raise self._refusal(
                        node,
                        "only numbers, variables, + - * / // % **, comparisons and functions "
                        "such as exp(x) are understood",
                    )
        return list(names)

    def _check_power(self, exponent: ast.expr) -> None:
        if isinstance(exponent, ast.UnaryOp):
            exponent = exponent.operand
        if isinstance(exponent, ast.Constant) and isinstance(exponent.value, (int, float)):
            if abs(exponent.value) > LARGEST_POWER:
                raise self._refusal(exponent, f"give an exponent up to {LARGEST_POWER}")

    def _check_call(self, node: ast.expr, name: str, arguments: list[ast.expr]) -> None:
        if name not in self._functions:
            near = difflib.get_close_matches(name, self._functions) or sorted(self._functions)
            raise self._refusal(node, f"no function is called {name}; there is {', '.join(near)}")
        arity = self._functions[name][1]
        if len(arguments) != arity and (arity is not None or len(arguments) < 2):
            wanted = "two or more" if arity is None else arity
            raise self._refusal(node, f"{name} takes {wanted}, not {len(arguments)}")

    def _refusal(self, node: ast.expr, mend: str) -> ExpressionError:
        part = ast.get_source_segment(self.text, node) or self.text
        return ExpressionError(f"in the expression, {_short(part)!r}: {mend}")

    def _evaluate(self, node: ast.expr, values: dict[str, Any]) -> Any:
        match node:
            case ast.Constant(value=number):
                return float(number)  # type: ignore[arg-type]  # checked
            case ast.Name(id=name):
                return values[name] if name in values else CONSTANTS[name]
            case ast.UnaryOp(op=op, operand=operand):
                x = self._evaluate(operand, values)
                return operations.negative(x) if isinstance(op, ast.USub) else x
            case ast.BinOp(left=left, op=op, right=right):
                a, b = self._evaluate(left, values), self._evaluate(right, values)
                symbol, row = _BINARY[type(op)]
                # Between plain numbers the row: it is total where Python's operator raises.
                return row(a, b) if isinstance(a, float) and isinstance(b, float) else symbol(a, b)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return _COMPARE[type(op)](
                    self._evaluate(left, values), self._evaluate(right, values)
                )
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self._functions[name][0](*(self._evaluate(a, values) for a in arguments))
        raise AssertionError(f"{ast.dump(node)} passed the check")


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
