"""C source: the rows as C99, written by their own rules.

A row's value and partials are traced on carriers (carriers.py); only rows that branch on a number
or are rounded need a text of their own here, and those whose value is a function of Python's math
are <math.h>'s. No product is rearranged, so that + - * / and sqrt give the engine's bits. It leaves
out graphs and networks (c_functions.py), and float32.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from . import functions as f
from . import operations as o
from .carriers import Carrier, Writer
from .operations import Operation

_INFIX = {o.add, o.subtract, o.multiply, o.divide}
_COMPARISONS = {o.less, o.less_equal, o.greater, o.greater_equal, o.equal, o.not_equal}
# Rows that branch on a number, or are rounded: their C function.
_C_FUNCTIONS = {
    o.sign: "sign",
    o.maximum_of_two: "maximum",
    o.minimum_of_two: "minimum",
    f.floor: "floor",
    f.ceil: "ceil",
    f.trunc: "trunc",
    f.rounded: "rint",
    f.remainder: "remainder_of",
    f.floor_divide: "floor_divide",
    f.logit: "logit",
    f.logaddexp: "logaddexp",
}
_OF_MANY = {o.largest_of: "largest", o.smallest_of: "smallest"}
_HELPERS = {
    "sign": "static double sign(double x) { return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x; }",
    "maximum": "static double maximum(double a, double b) { return a > b || a != a ? a : b; }",
    "minimum": "static double minimum(double a, double b) { return a < b || a != a ? a : b; }",
    "remainder_of": """\
static double remainder_of(double a, double b) { /* of the sign of b, as in Python */
    const double r = fmod(a, b);
    return r == 0.0 ? copysign(0.0, b) : (r < 0.0) != (b < 0.0) ? r + b : r;
}""",
    "floor_divide": """\
static double floor_divide(double a, double b) { /* (a - a % b) / b, rounded to an integer */
    double r, q;
    if (b == 0.0) return a / b;
    r = fmod(a, b);
    q = (a - r) / b;
    if (r != 0.0 && (r < 0.0) != (b < 0.0)) q -= 1.0;
    if (q == 0.0) return copysign(0.0, a / b);
    return q - floor(q) > 0.5 ? floor(q) + 1.0 : floor(q);
}""",
    "logit": """\
static double logit(double x) {
    return 0.25 < x && x < 0.75 ? 2.0 * atanh(2.0 * x - 1.0) : log(x / (1.0 - x));
}""",
    "logaddexp": f"""\
static double logaddexp(double a, double b) {{
    if (a == b) return a + {math.log(2.0).hex()}; /* log 2 */
    return a != a || b != b ? NAN : (a > b ? a : b) + log1p(exp(-fabs(a - b)));
}}""",
    "largest": """\
static double largest(int n, const double *x) {
    double y = x[0];
    for (int i = 1; i < n; i++) if (x[i] > y || x[i] != x[i]) y = x[i];
    return y;
}""",
    "smallest": """\
static double smallest(int n, const double *x) {
    double y = x[0];
    for (int i = 1; i < n; i++) if (x[i] < y || x[i] != x[i]) y = x[i];
    return y;
}""",
    "taken": """\
static double taken(double index, int n, const double *x) { /* nan where there is no such index */
    return index >= 0.0 && index < n && index == floor(index) ? x[(int)index] : NAN;
}""",
}
_MATH = set(  # what <math.h> of C99 has under the name that Python's math has
    "acos acosh asin asinh atan atan2 atanh cbrt copysign cos cosh erf erfc exp exp2 expm1 fabs "
    "fmod hypot lgamma log log10 log1p log2 nextafter pow sin sinh sqrt tan tanh".split()
)


class CWriter(Writer):
    """Collects the lines of C functions, and the helper functions that they call."""

    language = "C"

    def __init__(self) -> None:
        self.helpers: dict[str, str] = {}  # name -> source, callees first
        # (row, arity, which partial) -> a function's name, and which arguments it takes
        self.names: dict[tuple[Operation, int, Any], tuple[str, list[str]]] = {}
        self.lines: list[str] = []
        self.known: dict[str, str] = {}  # expression -> the variable that holds it
        self.count = 0

    def mark(self) -> Any:
        return len(self.lines), dict(self.known), self.count

    def rewind(self, mark: Any) -> None:
        length, self.known, self.count = mark
        del self.lines[length:]

    def apply(self, row: Operation, xs: Sequence[Any]) -> Any:
        if row is o.where and not isinstance(xs[0], Carrier):
            return xs[1] if xs[0] else xs[2]
        expression = self.expression(row, xs)
        if row in _INFIX or row in _COMPARISONS or row in (o.negative, o.where, o.detach):
            return Carrier(self, expression)
        return Carrier(self, self.variable(expression))  # a call: once

    def variable(self, expression: str) -> str:
        if expression not in self.known:
            self.count += 1
            self.known[expression] = f"t{self.count}"
            self.lines.append(f"const double t{self.count} = {bare(expression)};")
        return self.known[expression]

    def expression(self, row: Operation, xs: Sequence[Any]) -> str:
        """The value of the row at xs, as C."""
        texts = [text(x) for x in xs]
        if row in _INFIX:
            return f"({texts[0]} {row.name} {texts[1]})"
        if row in _COMPARISONS:
            return f"(double)({texts[0]} {row.name} {texts[1]})"
        if row is o.negative:
            return f"(-{texts[0]})"
        if row is o.where:
            return f"({condition(texts[0])} ? {texts[1]} : {texts[2]})"
        if row is o.detach:
            return texts[0]
        if row is o.total_of:
            return f"({' + '.join(['0.0', *texts])})"
        if row is o.dot_of:
            n = len(texts) // 2
            terms = [f"{a} * {b}" for a, b in zip(texts[:n], texts[n:], strict=False)]
            return f"({' + '.join([*texts[2 * n :], *terms]) or '0.0'})"
        if row is o.take_of:
            return f"{self.helper('taken')}({texts[0]}, {array(texts[1:])})"
        if row in _OF_MANY:
            return f"{self.helper(_OF_MANY[row])}({array(texts)})"
        name = _C_FUNCTIONS.get(row)
        if name is None and getattr(row.value, "__module__", None) == "math":
            name = row.value.__name__ if row.value.__name__ in _MATH else None
        if name is not None:
            return f"{self.helper(name)}({', '.join(texts)})"
        return self.function(row, "", names_for(len(xs)), texts)

    def helper(self, name: str) -> str:
        if name in _HELPERS:
            self.helpers.setdefault(name, _HELPERS[name])
        return name

    def function(self, row: Operation, partial: Any, names: list[str], texts: list[str]) -> str:
        """A call of the function that computes a row's value, or one of its partials."""
        key = (row, len(names), partial)
        if key not in self.names:
            outside, self.lines, self.known = (self.lines, self.known), [], {}
            count, self.count = self.count, 0
            try:
                xs = [Carrier(self, name) for name in names]
                if partial == "":
                    answer = text(self.value_of(row, xs))
                else:
                    answer = text(row.partials(*xs)[partial])
                body = [*without_unused(self.lines, answer), f"return {bare(answer)};"]
            finally:
                (self.lines, self.known), self.count = outside, count
            word = row.name if row.name.isidentifier() else row.array
            name = "op_" + re.sub(r"\W", "_", str(word), flags=re.ASCII)
            name += "" if partial == "" else f"_slope{partial or ''}"
            name += f"_{len(self.names)}" if name in self.helpers else ""
            used = set(re.findall(r"\w+", " ".join(body)))
            kept = [x for x in names if x in used]
            given = ", ".join(f"double {x}" for x in kept) or "void"
            self.helpers[name] = block(f"static double {name}({given})", body)
            self.names[key] = name, kept
        name, kept = self.names[key]
        given = ", ".join(t for x, t in zip(names, texts, strict=True) if x in kept)
        return f"{name}({given})"

    def slopes(self, row: Operation, y: Any, xs: Sequence[Any]) -> list[Any]:
        """The partials of a row at xs: None, floats, carriers, or Conditionals of these.

        Those that call functions become a function of their own, those that do not stand in line.
        """
        mark = self.mark()
        try:
            slopes = list(row.partials(y, *xs))
        except (ArithmeticError, ValueError):  # of constants, as 1.0 / 0.0: C computes it
            self.rewind(mark)
            xs = [Carrier(self, text(x)) for x in xs]
            slopes = list(row.partials(y, *xs))
        called = len(self.lines) > mark[0]
        if row.arity is None or row.selective or not called:
            return slopes
        self.rewind(mark)
        operands, names = [text(x) for x in (y, *xs)], ["y", *names_for(len(xs))]
        return [
            Carrier(self, self.function(row, k, names, operands))
            if isinstance(slope, Carrier)
            else slope
            for k, slope in enumerate(slopes)
        ]


# ---------------------------------------------------------------- text
def block(head: str, lines: Sequence[str]) -> str:
    """A function: its head, `(void)` for arguments it does not use, and its lines."""
    arguments = re.findall(r"\*(\w+)", head)
    used = set(re.findall(r"\b(?:p|x|y|dy|dp|dx)\b", "\n".join(lines)))
    unused = [f"(void){name};" for name in arguments if name not in used]
    body: list[str] = []
    indent = "    "
    for line in [*unused, *lines]:
        if line == "}":
            indent = indent[:-4]
        body += wrapped(indent + line)
        if line.endswith("{"):
            indent += "    "
    return "\n".join([f"{head} {{", *body, "}"])


def wrapped(line: str) -> Iterator[str]:
    """A long line in several, broken at blanks."""
    indent = line[: len(line) - len(line.lstrip())]
    while len(line) > 100 and (at := line.rfind(" ", len(indent) + 8, 100)) > 0:
        yield line[:at]
        line = f"{indent}    {line[at + 1 :]}"
    yield line


def without_unused(lines: list[str], after: str = "") -> list[str]:
    """The lines without variables t1, t2, ... that nothing reads."""
    used, kept = set(re.findall(r"\bt\d+\b", after)), []
    for line in reversed(lines):
        defined = re.match(r"const double (t\d+) = ", line)
        if defined is None or defined[1] in used:
            used |= set(re.findall(r"\bt\d+\b", line))
            kept.append(line)
    return kept[::-1]


def text(x: Any) -> str:
    """A carrier or a number as C."""
    return x.text if isinstance(x, Carrier) else constant(float(x))


def constant(x: float) -> str:
    """A float as C, exactly: hexadecimal, or decimal where that is exact and short, as 0.5."""
    if math.isfinite(x):
        digits = repr(x)
        if len(digits) > 8 or Fraction(digits) != x:
            digits = x.hex()
    else:
        digits = "NAN" if x != x else "-INFINITY" if x < 0 else "INFINITY"
    return f"({digits})" if digits[0] == "-" else digits


def condition(c: str) -> str:
    """What decides: a comparison itself, a number by being different from 0."""
    return c.removeprefix("(double)") if c.startswith("(double)(") else f"({c} != 0.0)"


def bare(expression: str) -> str:
    """An expression without the parentheses around all of it."""
    if not expression.startswith("("):
        return expression
    depth = 0
    for i, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return expression[1:-1] if i == len(expression) - 1 else expression
    return expression


def array(texts: Sequence[str]) -> str:
    return f"{len(texts)}, (const double[]){{{', '.join(texts)}}}"


def names_for(count: int) -> list[str]:
    return {1: ["x"], 2: ["a", "b"]}.get(count, [f"x{i}" for i in range(count)])
