"""Emit scalars: a graph with little in common among its nodes becomes plain Python arithmetic.

An array call costs half a microsecond before it computes anything, a line of Python about 30 ns.
So a small expression, a long chain and an irregular graph run as straight lines on floats, a node
each, with the chain rule written out. Functions are kept to LINES nodes, since CPython compiles
long ones slowly; what passes from one to the next lies in lists.

The lines raise where Python's floats do: the caller then runs the graph node by node
(interpret.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operations import (
    Conditional,
    Operation,
    Symbol,
    add,
    divide,
    dot_of,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    multiply,
    negative,
    not_equal,
    subtract,
    take_of,
    total_of,
    where,
)
from .record import COMPUTED, CONSTANT, INPUT, PARAMETER, Graph

LINES = 1000
TERMS = 50  # of a sum, in one line
_INFIX = {add, subtract, multiply, divide, less, less_equal, greater, greater_equal, equal}
_INFIX |= {not_equal}


class Number(Symbol):
    """A float in the program: an operation on it is text, a function call a line of its own."""

    __slots__ = ("writer",)

    def __init__(self, writer: _Writer, text: str) -> None:
        super().__init__(text)
        self.writer = writer

    def __operation__(self, row: Operation, xs: Sequence[Any]) -> Any:
        return self.writer.apply(row, xs)


def scalar_source(
    graph: Graph,
    parameters: int,
    inputs: int,
    wrt_inputs: bool = False,
    input_names: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """Source of `forward(p, x)` and `run(p, x)`, and the functions that it calls, by name.

    p and x are sequences of so many parameters and inputs. forward gives the outputs as a tuple;
    run gives output 0, and its gradient as a list: by the parameters, or the inputs, whose names
    (one per input cell) stand in messages.
    """
    return _Writer(graph, wrt_inputs, input_names).source({PARAMETER: parameters, INPUT: inputs})


class _Writer:
    def __init__(self, graph: Graph, wrt_inputs: bool, input_names: Sequence[str]) -> None:
        self.graph, self.wrt = graph, INPUT if wrt_inputs else PARAMETER
        self.kind, self.slot = graph.kind.tolist(), graph.slot.tolist()
        self.start, self.operands = graph.start.tolist(), graph.operands.tolist()
        self.nodes = np.flatnonzero(graph.kind == COMPUTED).tolist()
        self.rank = {node: i for i, node in enumerate(self.nodes)}
        self.single = len(self.nodes) <= LINES
        self.functions: dict[tuple[Operation, str], str] = {}
        self.index_names = {self.element("x", i): name for i, name in enumerate(input_names)}
        self.needed: set[int] = set()  # ranks of the numbers that rules and results read
        self.wanted = self.find_wanted()

    def find_wanted(self) -> list[bool]:
        """Whether a node depends on what gradients are taken by."""
        wanted = [kind == self.wrt for kind in self.kind]
        for node in self.nodes:
            wanted[node] = any(wanted[p] for p in self.operands_of(node))
        return wanted

    def operands_of(self, node: int) -> list[int]:
        return self.operands[self.start[node] : self.start[node + 1]]

    # -- text
    def value(self, node: int) -> Any:
        kind = self.kind[node]
        if kind == CONSTANT:
            return float(self.graph.data[node])
        if kind != COMPUTED:
            return Number(self, self.element("p" if kind == PARAMETER else "x", self.slot[node]))
        self.needed.add(self.rank[node])
        return Number(self, self.local("v", node))

    def element(self, name: str, position: int) -> str:
        return f"{name}{position}" if self.single else f"{name}[{position}]"

    def call(self, row: Operation, xs: Sequence[Any]) -> str:
        """The row applied to xs, as an expression."""
        texts = [text(x) for x in xs]
        if row is where:
            return f"({texts[1]} if {texts[0]} else {texts[2]})"
        if row is negative:
            return f"(-{texts[0]})"
        if row in _INFIX:
            return f"({texts[0]} {row.name} {texts[1]})"
        if row is total_of:
            return f"({' + '.join(texts)})"
        if row is dot_of:
            n = len(texts) // 2
            terms = [f"{a} * {b}" for a, b in zip(texts[:n], texts[n:], strict=False)]
            return f"({' + '.join([*texts[2 * n :], *terms])})"
        name = f"f{len(self.functions)}_{identifier(row.name)}"
        name = self.functions.setdefault((row, "value"), name)
        if row is take_of:  # an index out of range is to name the input
            texts.append(f"name={self.index_names.get(texts[0], 'index')!r}")
        return f"{name}({', '.join(texts)})"

    def apply(self, row: Operation, xs: Sequence[Any]) -> Any:
        """An operation inside a rule: function calls go to a variable, once."""
        if row is where and not isinstance(xs[0], Number):
            return xs[1] if xs[0] else xs[2]
        expression = self.call(row, xs)
        if row in _INFIX or row in (where, negative):
            return Number(self, expression)
        if expression not in self.known:
            self.count += 1
            self.known[expression] = f"t{self.count}"
            self.line(f"t{self.count} = {expression}")
        return Number(self, self.known[expression])

    def line(self, source: str) -> None:
        self.lines.append(self.indent + source)

    # -- one piece of the graph
    def begin(self, start: int, stop: int) -> None:
        self.piece = (start, stop)
        self.lines: list[str] = []
        self.known: dict[str, str] = {}
        self.indent, self.count = "    ", 0

    def forward(self) -> None:
        for node in self.nodes[self.piece[0] : self.piece[1]]:
            row = self.graph.rows[self.graph.op[node]]
            xs = [self.value(p) for p in self.operands_of(node)]
            if row in (total_of, dot_of) and len(xs) > TERMS:
                self.long_sum(f"v{self.rank[node]}", row, xs)
                continue
            expression = self.call(row, xs)
            self.line(f"v{self.rank[node]} = {expression}")
            self.known.setdefault(expression, f"v{self.rank[node]}")

    def long_sum(self, name: str, row: Operation, xs: list[Any]) -> None:
        """A sum in several lines, from left to right: CPython's parser recurses over terms."""
        terms = [text(x) for x in xs]
        if row is dot_of:
            n = len(xs) // 2
            pairs = zip(terms[:n], terms[n:], strict=False)
            terms = [*terms[2 * n :], *(f"{a} * {b}" for a, b in pairs)]
        for i in range(0, len(terms), TERMS):
            start = [name] if i else []
            self.line(f"{name} = {' + '.join([*start, *terms[i : i + TERMS]])}")

    def backward(self) -> None:
        for node in reversed(self.nodes[self.piece[0] : self.piece[1]]):
            if node not in self.arrived or not self.wanted[node]:
                continue
            row = self.graph.rows[self.graph.op[node]]
            guarded = node in self.conditional
            before = dict(self.known)
            if guarded:
                self.line(f"if {self.local('r', node)}:")
                self.indent += "    "
                self.line("pass")
            parents = self.operands_of(node)
            slopes = self.slopes(row, [self.value(node), *(self.value(p) for p in parents)])
            for p, slope in zip(parents, slopes, strict=True):
                if slope is not None and self.wanted[p]:
                    self.pass_on(node, p, slope, guarded)
            if guarded:
                self.indent, self.known = self.indent[:-4], before

    def slopes(self, row: Operation, numbers: list[Any]) -> Sequence[Any]:
        """The partials as numbers and text, from (y, *xs)."""
        try:
            return row.partials(*numbers)
        except TypeError:  # a rule that branches on numbers: called as it is
            name = self.functions.setdefault((row, "slopes"), f"f{len(self.functions)}_slopes")
            found = []
            for position in range(len(numbers) - 1):
                self.count += 1
                call = f"{name}({', '.join(map(text, numbers))})"
                self.line(f"t{self.count} = {call}[{position}]")
                slope = Number(self, f"t{self.count}")
                found.append(Conditional(Number(self, f"t{self.count} is not None"), slope))
            return found

    def local(self, name: str, node: int) -> str:
        rank = self.rank[node]
        here = self.piece[0] <= rank < self.piece[1]
        return f"{name}{rank}" if here else f"{name}[{rank}]"

    def pass_on(self, node: int, p: int, slope: Any, guarded: bool) -> None:
        """parent's adjoint += adjoint * slope, where the slope exists."""
        indent = self.indent
        if isinstance(slope, Conditional):
            condition, slope = slope
            self.line(f"if {text(condition)}:")
            self.indent += "    "
        guarded = guarded or self.indent != indent
        term = f"d{self.rank[node]}"
        if isinstance(slope, Number) or slope not in (1.0, -1.0):
            term = f"{term} * {text(slope)}"
        elif slope == -1.0:
            term = f"-{term}"
        if self.kind[p] != COMPUTED:
            target = self.element("g", self.slot[p])
            key: Any = ("g", p)
            first = self.single and key not in self.arrived
        else:
            target, key = self.local("d", p), p
            here = self.rank[p] >= self.piece[0]
            first = here and p not in self.arrived
            if guarded and (p not in self.arrived or p in self.conditional):
                self.conditional.add(p)
                if first:
                    self.starts.append(f"    {self.local('r', p)} = False")
            if p in self.conditional:
                self.line(f"{self.local('r', p)} = True")
        self.arrived.add(key)
        if first and guarded:
            self.starts.append(f"    {target} = 0.0")
            first = False
        self.line(f"{target} {'=' if first else '+='} {term}")
        self.indent = indent

    # -- all of it
    def source(self, sizes: dict[int, int]) -> tuple[str, dict[str, Any]]:
        self.arrived: set[Any] = {int(self.graph.outputs[0])}
        self.conditional: set[int] = set()
        write = self.single_source if self.single else self.pieces_source
        lines = write(sizes)
        constants = {"inf": float("inf"), "nan": float("nan")}
        names = {
            name: row.value if what == "value" else row.slopes
            for (row, what), name in self.functions.items()
        }
        return "\n".join(lines) + "\n", {**constants, **names}

    def results(self) -> list[str]:
        """The outputs as text, read outside of every piece."""
        self.piece = (0, len(self.nodes)) if self.single else (0, 0)
        return [text(self.value(int(node))) for node in self.graph.outputs]

    def single_source(self, sizes: dict[int, int]) -> list[str]:
        self.starts: list[str] = []
        unpack = []
        for name, kind in (("p", PARAMETER), ("x", INPUT)):
            if sizes[kind]:
                names = ", ".join(f"{name}{i}" for i in range(sizes[kind]))
                unpack.append(f"    {names}, = {name}")
        self.begin(0, len(self.nodes))
        self.forward()
        forward, results = self.lines, self.results()
        root = int(self.graph.outputs[0])
        self.lines = []
        seed = [f"    {self.local('d', root)} = 1.0"] if root in self.rank else []
        if self.kind[root] == self.wrt:
            seed = [f"    g{self.slot[root]} = 1.0"]
            self.arrived.add(("g", root))
        self.backward()
        given = {self.slot[p[1]] for p in self.arrived if isinstance(p, tuple)}
        gradient = [f"g{i}" if i in given else "0.0" for i in range(sizes[self.wrt])]
        return [
            "def forward(p, x):", *unpack, *forward, f"    return ({', '.join(results)},)", "",
            "def run(p, x):", *unpack, *forward, *seed, *self.starts, *self.lines,
            f"    return {results[0]}, [{', '.join(gradient)}]",
        ]  # fmt: skip

    def pieces_source(self, sizes: dict[int, int]) -> list[str]:
        n = len(self.nodes)
        pieces = [(i, min(i + LINES, n)) for i in range(0, n, LINES)]
        root = int(self.graph.outputs[0])
        self.arrived = {root}
        backward: list[str] = []
        self.needed.clear()
        for k, (start, stop) in reversed(list(enumerate(pieces))):
            self.begin(start, stop)
            self.starts = []
            nodes = self.nodes[start:stop]
            loads = [f"    d{self.rank[i]} = d[{self.rank[i]}]" for i in nodes if i in self.arrived]
            loads += [
                f"    r{self.rank[i]} = r[{self.rank[i]}]" for i in nodes if i in self.conditional
            ]
            before = self.needed.copy()
            self.backward()
            here = sorted(i for i in self.needed - before if start <= i < stop)
            here += sorted(i for i in before if start <= i < stop)
            loads += [f"    v{i} = v[{i}]" for i in here]
            backward += [f"def backward_{k}(p, x, v, d, r, g):", "    pass", *loads, *self.starts]
            backward += [*self.lines, ""]
        results = self.results()
        saved, forward = self.needed.copy(), []
        for start, stop in pieces:
            self.begin(start, stop)
            self.needed.clear()
            self.forward()
            saved |= {i for i in self.needed if i < start}
            forward.append(self.lines)
        out: list[str] = []
        for k, (start, stop) in enumerate(pieces):
            stores = [f"    v[{i}] = v{i}" for i in range(start, stop) if i in saved]
            if len(stores) == stop - start:
                names = ", ".join(f"v{i}" for i in range(start, stop))
                stores = [f"    v[{start}:{stop}] = ({names},)"]
            out += [f"def forward_{k}(p, x, v):", *forward[k], *stores, ""]
        order = range(len(pieces))
        by_itself = self.kind[root] == self.wrt  # an output that is itself a parameter
        root_gradient = [f"    g[{self.slot[root]}] = 1.0"] if by_itself else []
        seed = f"    d[{self.rank[root]}] = 1.0" if root in self.rank else "    pass"
        return [
            *out,
            *backward,
            "def forward(p, x, v=None):",
            f"    v = [0.0] * {n} if v is None else v",
            *(f"    forward_{k}(p, x, v)" for k in order),
            f"    return ({', '.join(results)},)",
            "",
            "def run(p, x):",
            f"    v, d, r, g = [0.0] * {n}, [0.0] * {n}, [False] * {n}, [0.0] * {sizes[self.wrt]}",
            "    y = forward(p, x, v)",
            *root_gradient,
            seed,
            *(f"    backward_{k}(p, x, v, d, r, g)" for k in reversed(order)),
            "    return y[0], g",
        ]


def text(x: Any) -> str:
    """A number or a name as source."""
    if isinstance(x, Number):
        return x.text
    number = repr(float(x))
    return f"({number})" if number[0] == "-" else number


def identifier(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
