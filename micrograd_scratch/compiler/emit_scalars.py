"""Emit scalars: a graph with little in common among its nodes becomes plain Python arithmetic.

An array call costs half a microsecond before it computes anything, a line of Python about 30 ns.
So a small expression, a long chain and an irregular graph run as lines on floats, with the chain
rule written out: straight, or as a loop where the chain repeats (loops.py). Up to SINGLE nodes are
one function. CPython compiles longer ones slowly, so of more nodes LINES at a time are a function
of their own: a generator, whose local variables stay alive between its forward half and its
backward half. What passes between functions lies in lists.

    v3 = p0 * v2       a number, of node 3; d3 is its adjoint, r3 whether it was reached
    w2 = v8            ... of node 2 as the turn before left it; in backward e2, q2
    v[3], d[3], r[3]   ... where another function, or another turn of a loop, reads it

The lines raise where Python's floats do: the caller then runs the graph node by node
(interpret.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..operations import (
    Conditional,
    Operation,
    dot_of,
    multiply,
    negative,
    take_of,
    total_of,
    where,
)
from .dependence import MAYBE, rule_of
from .line_places import Place, Places
from .line_text import (
    LEVELS,
    Number,
    arithmetic,
    as_float,
    identifier,
    loop_line,
    names_in,
    terms_of,
    text,
    tuple_of,
)
from .loops import Stretch
from .record import COMPUTED, CONSTANT, INPUT, PARAMETER, Graph

TERMS = 50  # of a sum, in one line
SIZE = 12  # operations in one expression
LONGEST = 50  # ... where rules make it: CPython's compiler recurses over them


def scalar_source(
    graph: Graph, parameters: int, input_names: Sequence[str], wrt_inputs: bool
) -> tuple[str, dict[str, Any]]:
    """Source of `forward(p, x)` and `run(p, x)`, and what it uses, by name.

    p and x are sequences of so many parameters, and of a number for each input cell, whose names
    stand in messages. forward gives the outputs as a tuple; run gives output 0, and its gradient
    as a list: by the parameters, or the inputs.
    """
    return LineWriter(graph, parameters, input_names, wrt_inputs).source()


class LineWriter(Places):
    """What writes the lines. On arrays instead of floats: emit_vectors.py.

    functions  (row, what of it) -> its name in the program
    """

    branches = True  # whether a number can be asked for its truth

    # -- text
    def number(self, place: Place | float | str) -> Any:
        if isinstance(place, Place):
            return Number(self, place.value)
        return Number(self, place) if isinstance(place, str) else place

    def operands_as_numbers(self, i: int) -> list[Any]:
        found = []
        for place in self.places_of(i):
            name = place.value if isinstance(place, Place) else ""
            found.append(self.inlined[name] if name in self.inlined else self.number(place))
        return found

    def call(self, row: Operation, xs: Sequence[Any], index_name: str = "index") -> Number:
        """The row applied to xs."""
        size = 1
        for x in xs:
            if isinstance(x, Number):
                size += x.size
        if row is where:
            return self.choice(xs[0], as_float(xs[1]), as_float(xs[2]), size)
        if row is negative:
            x = xs[0]
            return (x if isinstance(x, Number) else Number(self, text(x, 3))).negative()
        if row in LEVELS:
            return arithmetic(self, row, xs[0], xs[1], size)
        xs = [as_float(x) for x in xs]
        if row in (total_of, dot_of):
            return Number(self, " + ".join(terms_of(row, xs)), 1, size)
        texts = [text(x) for x in xs]
        if row is take_of:  # an index out of range is to name the input
            texts.append(f"name={index_name!r}")
        return Number(self, f"{self.function(row, 'value')}({', '.join(texts)})", 3, size)

    def choice(self, condition: Any, a: Any, b: Any, size: int) -> Number:
        """a where the condition is true, and b elsewhere."""
        return Number(self, f"{text(a, 0)} if {text(condition, 0)} else {text(b, 0)}", -1, size)

    def function(self, row: Operation, what: str) -> str:
        """The name of a row's "value" or "slopes" in the program."""
        if (row, what) not in self.functions:
            name = identifier(row.name) if what == "value" else what
            self.functions[row, what] = f"f{len(self.functions)}_{name}"
        return self.functions[row, what]

    def apply(self, row: Operation, xs: Sequence[Any]) -> Any:
        """An operation inside a rule: a call that it uses repeatedly goes to a variable."""
        if row is where and not isinstance(xs[0], Number):
            return xs[1] if xs[0] else xs[2]
        if row in (total_of, dot_of) and len(xs) > TERMS:
            self.temporaries += 1
            self.long_sum(f"t{self.temporaries}", f"t{self.temporaries}", terms_of(row, xs))
            return Number(self, f"t{self.temporaries}")
        number = self.call(row, xs)
        plain = row in LEVELS or row in (where, negative)
        if (plain or number.text not in self.known and self.rule.once) and number.size <= LONGEST:
            return number
        if number.text not in self.known:
            self.temporaries += 1
            self.known[number.text] = f"t{self.temporaries}"
            self.line(f"t{self.temporaries} = {number.text}")
        return Number(self, self.known[number.text])

    def line(self, source: str) -> None:
        self.lines.append(self.indent + source)

    # -- forward
    def begin(self, part: list[Stretch]) -> None:
        super().begin(part)
        self.lines: list[str] = []
        self.indent, self.temporaries = "    ", 0
        self.known: dict[str, str] = {}  # function calls, and the variables that hold them
        self.known_in: dict[Stretch, dict[str, str]] = {}
        self.inlined: dict[str, Number] = {}  # variables that are not made: read only once
        self.deferred: dict[str, Number] = {}  # adjoints of a single term, until they are read
        self.needed = self.read_by_rules(part)

    def read_by_rules(self, part: list[Stretch]) -> set[int]:
        """The nodes whose numbers the backward lines of a part read."""
        needed: set[int] = set()
        for first, stop, length in part:
            for i in range(first, first + length):
                node = self.nodes[i]
                if not (self.reached[node] and self.wanted[node]):
                    continue
                parents = self.operands[self.first_operand[i] : self.first_operand[i + 1]]
                rule, numbers = rule_of(self.rows[i], len(parents)), [node, *parents]
                seen: frozenset[int] | None = None
                for parent, read in zip(parents, rule.reads, strict=True):
                    if self.wanted[parent] or stop > first + length:  # or may be in other turns
                        if read is not seen:  # that of all partials together is one object
                            needed.update(map(numbers.__getitem__, read))
                            seen = read
        return {self.rank[node] for node in needed}

    def forward(self, part: list[Stretch], saving: bool) -> list[str]:
        """The lines of a part; `saving` what its backward lines read of every turn of a loop."""
        self.begin(part)
        for stretch in part:
            self.stretch, self.in_straight = stretch, stretch.turns == 1
            if stretch.turns == 1:
                for i in range(stretch.start, stretch.stop):
                    self.compute(i)
                continue
            at, own = len(self.lines), self.known
            carried, name = self.carried[stretch], f"saved{stretch.start}"
            head = [f"    w{j} = {self.place(j).value}" for j in carried]
            self.columns = {}
            self.known, self.indent = {}, "        "
            for i in range(stretch.start, stretch.start + stretch.length):
                self.compute(i)
            saved = self.saved.get(stretch) if saving else None
            if saved:
                head.append(f"    {name} = []")
                self.line(f"{name}.append({tuple_of(saved)})")
            for j in carried:
                self.line(f"w{j} = v{j + stretch.length}")
            self.lines[at:at] = [*head, f"    {loop_line(self.columns, stretch.turns)}"]
            self.known_in[stretch], self.known, self.indent = self.known, own, "    "
            last = stretch.stop - stretch.start
            for j in carried:
                if self.listed[j + last] and not self.listed[j + stretch.length]:
                    self.line(f"v[{j + last}] = v{j + stretch.length}")
        return self.lines

    def compute(self, i: int) -> None:
        row = self.rows[i]
        xs = self.operands_as_numbers(i)
        name = f"v{i}"
        stored = f" = v[{self.own(i).at or i}]" if self.listed[i] else ""
        if row in (total_of, dot_of) and len(xs) > TERMS:
            self.long_sum(f"{name}{stored}", name, terms_of(row, xs))
            return
        expression = self.call(row, xs, self.index_name(i) if row is take_of else "")
        if expression.size <= SIZE and self.once_here(i):
            self.inlined[name] = expression
            return
        expression = as_float(expression)
        self.line(f"{name}{stored} = {expression.text}")
        self.known.setdefault(expression.text, name)

    def once_here(self, i: int) -> bool:
        """Whether a node is read once, by another of the same lines, and not by backward."""
        first, _, length = self.stretch
        if self.uses[i] != 1 or i in self.needed or self.listed[i]:
            return False
        if self.stretch.turns > 1 and i - length in self.carried[self.stretch]:
            return False
        return i < self.user[i] < first + length

    def index_name(self, i: int) -> str:
        node = self.operands[self.first_operand[i]]
        return self.input_names[self.slot[node]] if self.kind[node] == INPUT else "index"

    def long_sum(self, targets: str, name: str, terms: list[str]) -> None:
        """A sum in several lines, from left to right: CPython's parser recurses over terms."""
        for i in range(0, len(terms), TERMS):
            part = " + ".join([*([name] if i else []), *terms[i : i + TERMS]])
            self.line(f"{name if i + TERMS < len(terms) else targets} = {part}")

    # -- backward
    def backward(self, part: list[Stretch], seed: bool) -> list[str]:
        """The lines that follow `forward` of the same part; its output's adjoint is 1 if `seed`."""
        self.lines = []
        self.starts: list[str] = []
        self.outer_starts = self.starts
        self.arrived: set[str] = set()  # the adjoints that hold something
        self.saved = {}
        if seed:
            place = self.place(self.rank[self.root])
            self.line(f"{place.adjoint} = 1.0")
            self.arrived.add(place.adjoint)
        for stretch in reversed(part):
            self.stretch, self.in_straight = stretch, stretch.turns == 1
            if stretch.turns == 1:
                for i in reversed(range(stretch.start, stretch.stop)):
                    self.back_through(i)
            else:
                self.back_through_loop(stretch)
        return [f"    {start}" for start in self.starts] + self.lines

    def back_through_loop(self, loop: Stretch) -> None:
        first, stop, length = loop
        carried = [j for j in self.carried[loop] if self.is_reached(j + length)]
        maybe = {j for j in carried if self.reached[self.nodes[j + length]] == MAYBE}
        for j in carried:  # what has arrived at the last turn
            last = self.place(j + stop - first)
            through_list = self.listed[j + length] and "[" in last.adjoint
            d, r = ("", "") if through_list else self.arrived_at(last)
            self.line(f"e{j} = {d or 0.0}")
            if j in maybe:
                self.line(f"q{j} = {r or False}")
        self.arrived -= {f"e{j}" for j in carried}
        before, starts, known = self.lines, self.starts, self.known
        self.lines, self.starts, self.known = [], [], dict(self.known_in[loop])
        self.columns, self.indent = {}, "        "
        for j in carried:
            own = self.own(j + length)
            self.line(f"d{j + length} = e{j}{own.at and f' + d[{own.at}]'}")
            if j in maybe:
                self.line(f"r{j + length} = q{j}{own.at and f' or r[{own.at}]'}")
            self.arrived.add(own.adjoint)
        top, self.lines = self.lines, []
        for i in reversed(range(first, first + length)):
            self.back_through(i)
        for j in carried:
            if f"e{j}" not in self.arrived:  # nothing was passed on to the turn before
                self.starts.append(f"e{j} = 0.0")
                self.starts += [f"q{j} = False"] if j in maybe else []
        body = [*top, *(f"        {start}" for start in self.starts), *self.lines]
        mine = [*(f"w{j}" for j in self.carried[loop])]
        mine += [f"v{i}" for i in range(first, first + length)]
        used = names_in(body)
        self.saved[loop] = [name for name in mine if name in used]
        head = loop_line(self.columns, loop.turns, self.saved[loop], f"saved{first}")
        self.lines = [*before, f"    {head}", *(body or ["        pass"])]
        self.starts, self.known, self.indent = starts, known, "    "
        for j in carried:
            place = self.place(j)
            if place.adjoint:
                if j in maybe:
                    self.line(f"if q{j}:")
                    self.indent = "        "
                self.add(place, Number(self, f"e{j}"), j in maybe)
                self.indent = "    "

    def arrived_at(self, place: Place) -> tuple[str, str]:
        """The adjoint so far and whether the node was reached, as text; "" if nothing arrived."""
        if place.adjoint in self.arrived or "[" in place.adjoint:
            return place.adjoint, place.reached
        return (f"d[{place.at}]", f"r[{place.at}]") if place.at else ("", "")

    def is_reached(self, i: int) -> bool:
        node = self.nodes[i]
        return bool(self.reached[node] and self.wanted[node])

    def back_through(self, i: int) -> None:
        """Pass the adjoint of node i on to its operands."""
        if not self.is_reached(i):
            return
        name, own = f"d{i}", self.own(i)
        adjoint = self.deferred.pop(name, Number(self, name))
        if name not in self.arrived:
            d, r = self.arrived_at(own)
            if not d:  # it would be reached, but for a condition that is constant
                return
            self.line(f"{name} = {d}")
            if own.reached:
                self.line(f"r{i} = {r}")
        indent, known = self.indent, self.known
        if own.reached:
            self.known = dict(known)
            self.line(f"if r{i}:")
            self.indent += "    "
        before = len(self.lines)
        row, places = self.rows[i], self.places_of(i)
        self.rule = rule_of(row, len(places))
        slopes = self.rule.numbers
        if slopes is None:
            slopes = self.slopes(row, [Number(self, f"v{i}"), *map(self.number, places)])
        passed = [
            (place, slope)
            for place, slope in zip(places, slopes, strict=True)
            if isinstance(place, Place) and place.adjoint and slope is not None
        ]
        # the negative of a variable stays that, and is subtracted
        long = adjoint.size and not (adjoint.positive is not None and adjoint.size == 1)
        if long and len(passed) > 1 or adjoint.size > SIZE:
            self.line(f"{name} = {adjoint.text}")
            adjoint = Number(self, name)
        for place, slope in passed:
            self.pass_on(adjoint, place, slope, bool(own.reached))
        if own.reached and len(self.lines) == before:
            self.line("pass")
        self.indent, self.known = indent, known

    def slopes(self, row: Operation, numbers: list[Any]) -> Sequence[Any]:
        """The partials as numbers and text, from (y, *xs)."""
        try:
            return row.partials(*numbers)
        except ArithmeticError:  # a constant that Python cannot divide by: found at run time
            return row.partials(
                *(x if isinstance(x, Number) else Number(self, text(x, 3)) for x in numbers)
            )
        except TypeError:  # a rule that branches on numbers: called as it is
            return self.slopes_of_numbers(row, ", ".join(map(text, numbers)), len(numbers) - 1)

    def slopes_of_numbers(self, row: Operation, numbers: str, count: int) -> list[Conditional]:
        """So many partials, by a rule that is called as it is."""
        name, found = self.function(row, "slopes"), []
        for position in range(count):
            self.temporaries += 1
            self.line(f"t{self.temporaries} = {name}({numbers})[{position}]")
            slope = Number(self, f"t{self.temporaries}")
            exists = Number(self, f"t{self.temporaries} is not None", 0)
            found.append(Conditional(exists, slope))
        return found

    def pass_on(self, adjoint: Number, place: Place, slope: Any, guarded: bool) -> None:
        """The operand's adjoint += adjoint * slope, where the slope exists."""
        indent, condition = self.indent, None
        if isinstance(slope, Conditional):
            condition, slope = slope
            if self.branches:
                self.line(f"if {text(condition)}:")
                self.indent += "    "
                guarded = True
        term = adjoint
        if isinstance(slope, Number) or slope not in (1.0, -1.0):
            term = self.call(multiply, (adjoint, slope))
        elif slope == -1.0:
            term = self.call(negative, (adjoint,))
        if condition is not None and not self.branches:
            term = self.call(where, (condition, term, 0.0))
        if place.once and not guarded:
            self.deferred[place.adjoint] = term
            self.arrived.add(place.adjoint)
        else:
            self.add(place, term, guarded)
        self.indent = indent

    def add(self, place: Place, term: Number, guarded: bool) -> None:
        sign, amount = "+", term
        if term.positive is not None:
            sign, amount = "-", term.positive
        target, listed = place.adjoint, place.at and f"d[{place.at}]"
        if place.reached:
            self.line(f"{place.reached} = True")
        if target in self.arrived or "[" in target:
            self.line(self.increased(target, sign, amount))
            return
        self.arrived.add(target)
        if not guarded and (not place.outside or self.starts is self.outer_starts):
            both = f"{listed} {sign} {text(amount, 2)}"
            self.line(f"{target} = {both if listed else term.text}")
            return
        starts = self.outer_starts if place.outside else self.starts
        starts.append(f"{target} = {listed or 0.0}")
        if place.reached and "[" not in place.reached:
            starts.append(f"{place.reached} = {f'r[{place.at}]' if place.at else False}")
        self.line(self.increased(target, sign, amount))

    def increased(self, target: str, sign: str, amount: Number) -> str:
        """The line that adds a number to a variable, or subtracts it."""
        return f"{target} {sign}= {amount.text}"

    # -- all of it
    def source(self) -> tuple[str, dict[str, Any]]:
        self.functions: dict[tuple[Operation, str], str] = {}
        lines = self.single_source() if self.single else self.parts_source()
        for (row, what), name in self.functions.items():
            self.names[name] = self.implementation(row, what)
        return "\n".join(lines) + "\n", self.names

    def implementation(self, row: Operation, what: str) -> Any:
        """What a function of the program is."""
        return row.value if what == "value" else row.slopes

    def results(self) -> list[str]:
        """The outputs as text, read outside of every loop."""
        found = []
        for node in self.graph.outputs.tolist():
            if self.kind[node] == COMPUTED:
                found.append(self.place(self.rank[node]).value)
            elif self.kind[node] == CONSTANT:
                found.append(text(float(self.graph.data[node])))
            else:
                found.append(self.leaf(node).value)
        return found

    def adjoints(self, part: list[Stretch]) -> tuple[list[str], list[str], list[str]]:
        """The forward lines of a part, with and without what backward needs, and its backward."""
        # an output that is a leaf has nothing to go back through
        seed = self.single and self.rank[self.root] >= 0 and self.wanted[self.root]
        ahead = self.forward(part, False)
        behind = self.backward(part, seed)
        return ahead, self.forward(part, True) if self.saved else ahead, behind

    def loads(self) -> list[str]:
        """Local variables for what is read often, from lists."""
        places = [*self.places.values(), *self.leaves.values()]
        names = sorted((p.value[0], int(p.value[1:])) for p in places if p.outside)
        found, unpacked = [], set()
        for letter, kind in (("p", PARAMETER), ("x", INPUT)):
            if self.single and self.sizes[kind] and self.unpacks(kind):
                unpacked.add(letter)
                every = ", ".join(f"{letter}{i}" for i in range(self.sizes[kind]))
                found.append(f"    {every}, = {letter}")
        for letter, at in names:
            if letter not in unpacked and (letter != "v" or at < self.first):
                found.append(f"    {letter}{at} = {letter}[{at}]")
        return found

    def stores(self, letters: str) -> list[str]:
        """Add to the lists what was gathered in local variables, for other functions."""
        names = [name for name in self.arrived if "[" not in name and name[0] in letters]
        ours = [(int(n[1:]), n) for n in names if n[0] == "g" or int(n[1:]) < self.first]
        return [
            "    " + self.increased(f"{name[0]}[{at}]", "+", Number(self, name))
            for at, name in sorted(ours)
        ]

    def single_source(self) -> list[str]:
        ahead, saving, behind = self.adjoints(self.parts[0])
        results = self.results()
        value, size = results[0], self.sizes[self.wrt]
        if self.saved:  # backward takes the loop's variables back to earlier turns
            saving, value = [*saving, f"    y = {value}"], "y"
        if self.unpacks(self.wrt) and not any("g[" in line for line in behind):
            made: list[str] = []
            names = [f"g{i}" if f"g{i}" in self.arrived else "0.0" for i in range(size)]
            gradient = f"[{', '.join(names)}]"
        else:
            made, gradient = [f"    g = [0.0] * {size}"], "g"
            behind = behind + self.stores("g")

        def lists(lines: list[str]) -> list[str]:
            code = "\n".join(lines)
            zeros = {"v": 0.0, "d": 0.0, "r": False}
            return [
                f"    {name} = [{zero}] * {self.count}"
                for name, zero in zeros.items()
                if f"{name}[" in code
            ]

        return [
            "def forward(p, x):", *self.loads(), *lists([*ahead, *results]),
            *ahead, f"    return ({', '.join(results)},)", "",
            "def run(p, x):", *self.loads(),
            *lists([*saving, *behind, *results]), *made, *saving, *behind,
            f"    return {value}, {gradient}",
        ]  # fmt: skip

    def parts_source(self) -> list[str]:
        out: list[str] = []
        for k, part in enumerate(self.parts):
            _, ahead, behind = self.adjoints(part)
            behind = behind + self.stores("gd")
            out += [f"def part_{k}(p, x, v, d, r, g):", *self.loads(), *ahead]
            out += ["    yield", *behind, ""]
        self.first, self.loops, self.read = self.count, [], Counter()
        self.places, self.leaves = {}, {}
        results = [re.sub(r"^([px])(\d+)$", r"\1[\2]", result) for result in self.results()]
        root = self.rank[self.root]
        seed = [f"    d[{root}] = 1.0"] if root >= 0 else []  # a leaf: the first of several outputs
        n = self.count
        flags = f"[False] * {n}" if MAYBE in self.reached else "None"
        parts = ", ".join(f"part_{k}" for k in range(len(self.parts)))
        return [
            *out,
            "def forward(p, x):",
            f"    v = [0.0] * {n}",
            f"    for part in ({parts}):",
            "        next(part(p, x, v, None, None, None))",
            f"    return ({', '.join(results)},)",
            "",
            "def run(p, x):",
            f"    v, d, r = [0.0] * {n}, [0.0] * {n}, {flags}",
            f"    g = [0.0] * {self.sizes[self.wrt]}",
            f"    parts = [part(p, x, v, d, r, g) for part in ({parts})]",
            "    for part in parts:",
            "        next(part)",
            *seed,
            "    for part in reversed(parts):",
            "        next(part, None)",
            f"    return {results[0]}, g",
        ]
