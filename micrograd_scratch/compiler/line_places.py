"""Line places: where the numbers of a program of plain Python stand.

A number is a local variable of its function; what passes between functions, or between the turns of
a loop, lies in lists. This file divides the graph into functions and says, of every node, what it
is called where it is read. It leaves out the lines: emit_scalars.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .dependence import MAYBE, dependence
from .factor import unique
from .loops import Stretch, stretches
from .record import COMPUTED, CONSTANT, INPUT, PARAMETER, Graph

SINGLE = 2_000  # nodes in one function: 120 ns a node where parts take 190; 40 MB to compile
LINES = 200  # nodes in each of several
UNPACKED = 64  # parameters, or inputs, that are all variables
# What an operand in a loop is: a leaf; a node outside, of this turn, of the turn before; or others,
# which are read from lists.
_LEAF, _SAME, _HERE, _BEFORE, _LISTED = range(5)


class Place(NamedTuple):
    """Where a node's number stands, as seen from where it is read; "" for what is not wanted.

    at       the place in the lists, where other functions or turns read it and add to its adjoint
    outside  of the loop that is being written
    once     whether the adjoint is a single term
    """

    value: str
    adjoint: str = ""
    reached: str = ""
    at: str = ""
    outside: bool = False
    once: bool = False


def far_operands(graph: Graph) -> int:
    """About how many operands are computed by another function than the one that reads them."""
    computed = graph.kind == COMPUTED
    if computed.sum() <= SINGLE:
        return 0
    rank = np.cumsum(computed)
    distance = np.repeat(rank, np.diff(graph.start)) - rank[graph.operands]
    return int(((distance > LINES) & computed[graph.operands]).sum())


class Places:
    """The functions of a program, and where its numbers stand.

    parts      what each function computes: stretches, of lines or of turns of a loop
    stretch    the one that is being written
    """

    stretch: Stretch
    in_straight: bool  # whether it is no loop

    def __init__(
        self, graph: Graph, parameters: int, input_names: Sequence[str], wrt_inputs: bool
    ) -> None:
        self.graph, self.input_names = graph, input_names
        self.wrt = INPUT if wrt_inputs else PARAMETER
        self.sizes = {PARAMETER: parameters, INPUT: len(input_names)}
        self.names: dict[str, Any] = {"inf": float("inf"), "nan": float("nan")}
        self.tables: dict[bytes, str] = {}
        self.kind, self.slot, self.data = (x.tolist() for x in (graph.kind, graph.slot, graph.data))
        self.find_dependence()
        self.stretches = stretches(graph, self.wanted, self.reached)

        # from here on a computed node is known by its rank among these
        nodes = np.flatnonzero(graph.kind == COMPUTED)
        self.count = len(nodes)
        rank = np.full(len(graph), -1)
        rank[nodes] = np.arange(self.count)
        self.nodes, self.rank = nodes.tolist(), rank.tolist()
        self.start = np.append(graph.start[nodes], len(graph.operands))
        self.first_operand, self.operands = self.start.tolist(), graph.operands.tolist()
        self.ranks = rank[graph.operands]  # (m,) of the operands, -1 for leaves
        self.root = int(graph.outputs[0])
        owner = np.repeat(np.arange(self.count), np.diff(self.start))
        user = np.full(self.count, -1)
        user[self.ranks[self.ranks >= 0]] = owner[self.ranks >= 0]
        self.user = user.tolist()
        self.rows = [graph.rows[op] for op in graph.op[nodes].tolist()]
        self.uses = graph.uses()[nodes].tolist()

        written = sum(stretch.length for stretch in self.stretches)
        self.parts = list(_parts(self.stretches, LINES if written > SINGLE else SINGLE))
        self.single = len(self.parts) == 1
        self.saved: dict[Stretch, list[str]] = {}  # what backward reads of each turn
        self.find_homes()
        self.find_listed()

    def find_dependence(self) -> None:
        """Which nodes want adjoints, and which backward reaches."""
        self.wanted, self.reached = dependence(self.graph, self.wrt)

    def unpacks(self, kind: int) -> bool:
        """Whether all parameters, or inputs, are variables."""
        return self.sizes[kind] <= UNPACKED

    def begin(self, part: list[Stretch]) -> None:
        """Start a function that computes these stretches."""
        self.first = part[0].start if part else 0
        self.loops = [stretch for stretch in part if stretch.turns > 1]
        self.columns: dict[str, str] = {}  # what a loop goes through, and the variable for it
        self.places: dict[int, Place] = {}
        self.leaves: dict[int, Place] = {}
        self.own_places: dict[int, Place] = {}  # those of straight lines
        self.operand_places: dict[int, list[Place | float | str]] = {}  # also of straight lines
        self.read: Counter[int] = Counter()  # how often what may be worth a variable is read
        for first, stop, length in part:
            a, b = self.first_operand[first], self.first_operand[first + length]
            self.read.update(self.operands[a:b] * (1 if stop == first + length else 2))

    def find_homes(self) -> None:
        """How loops read their operands, and the rank that stands for each node in lists."""
        home = np.arange(self.count)  # of a node in a loop: the same node in the first turn
        inside = np.zeros(self.count, dtype=bool)  # of a loop, and read through lists only
        self.relations: dict[Stretch, list[int]] = {}
        self.carried: dict[Stretch, list[int]] = {}
        for loop in self.stretches:
            first, stop, length = loop
            if loop.turns == 1:
                continue
            used = self.ranks_read(loop)
            relation = np.full(used.shape[1], _LISTED)
            moves = (np.diff(used, axis=0) == length).all(0) & (used[0] >= first - length)
            relation[moves] = np.where(used[0] < first, _BEFORE, _HERE)[moves]
            relation[(used == used[0]).all(0)] = _SAME
            relation[used[0] < 0] = _LEAF
            self.relations[loop] = relation.tolist()
            self.carried[loop] = unique(used[0][relation == _BEFORE]).tolist()
            home[first:stop] = first + np.arange(stop - first) % length
            inside[first:stop] = True
            last = np.array(self.carried[loop], dtype=int) + (stop - first)
            home[last], inside[last] = last, False  # still in its variable afterwards
        self.home, self.inside = home, inside.tolist()

    def ranks_read(self, stretch: Stretch) -> np.ndarray:
        """(turns, operands of a turn) the ranks of the operands, -1 for leaves."""
        a, b = self.start[stretch.start], self.start[stretch.stop]
        return self.ranks[a:b].reshape(stretch.turns, -1)

    def find_listed(self) -> None:
        """Which numbers pass through lists; and which of them are read there by a loop's turn."""
        listed, in_turns = (np.zeros(self.count, dtype=bool) for _ in range(2))
        inside = np.array(self.inside, dtype=bool)

        def reads(first: int, used: np.ndarray) -> None:
            """A function that begins with node `first` reads these."""
            listed[self.home[used[(used < first) | inside[used]]]] = True

        for part in self.parts:
            for stretch in part:
                used = self.ranks_read(stretch)
                if stretch.turns > 1:
                    relation = np.array(self.relations[stretch])
                    in_turns[self.home[used[:, relation == _LISTED]]] = True
                    used = np.append(used[0][relation == _SAME], self.carried[stretch]).astype(int)
                reads(part[0].start, used[used >= 0])
        outputs = np.array([self.rank[node] for node in self.graph.outputs.tolist()])
        reads(0 if self.single else self.count, outputs[outputs >= 0])
        self.listed, self.in_turns = (listed | in_turns).tolist(), in_turns.tolist()

    def leaf(self, node: int) -> Place:
        """A parameter or an input."""
        if node not in self.leaves:
            kind, slot = self.kind[node], self.slot[node]
            name, g = "p" if kind == PARAMETER else "x", "g" if kind == self.wrt else ""
            if not self.unpacks(kind) and self.read[node] < 2:
                self.leaves[node] = Place(f"{name}[{slot}]", g and f"g[{slot}]")
            else:
                self.leaves[node] = Place(f"{name}{slot}", g and f"g{slot}", outside=True)
        return self.leaves[node]

    def place(self, j: int) -> Place:
        """Node j, as read from outside of a loop that it may belong to."""
        if j not in self.places:
            self.places[j] = self.place_of(j)
        return self.places[j]

    def place_of(self, j: int) -> Place:
        node = self.nodes[j]
        d = "d" if self.wanted[node] else ""
        r = "r" if self.reached[node] == MAYBE else ""
        if self.inside[j] or (j < self.first and self.read[node] < 2):
            return Place(f"v[{j}]", d and f"d[{j}]", r and f"r[{j}]")
        if j < self.first:  # made a local variable for the time of this function
            return Place(f"v{j}", d and f"d{j}", r and f"r[{j}]", outside=True)
        loop = self.loop_of(j)
        i = j if loop is None else loop.start + (j - loop.start) % loop.length
        if self.in_turns[j]:
            return Place(f"v{i}", d and f"d[{j}]", r and f"r[{j}]")
        # the last turn's own line adds what is in the list, if every turn's does
        at = str(j) if self.listed[j] and (i == j or not self.listed[i]) else ""
        return Place(f"v{i}", d and f"d{j}", r and f"r{j}", at, outside=True)

    def loop_of(self, j: int) -> Stretch | None:
        for loop in self.loops:
            if loop.start <= j < loop.stop:
                return loop
        return None

    def own(self, i: int) -> Place:
        """Node i of the stretch that is being written: in a loop, of this turn."""
        once = self.uses[i] == 1 and not self.listed[i]
        if self.in_straight:
            if i not in self.own_places:
                value, adjoint, reached, at, _, _ = self.place(i)
                self.own_places[i] = Place(value, adjoint, reached, at, once=once)
            return self.own_places[i]
        node = self.nodes[i]
        d = f"d{i}" if self.wanted[node] else ""
        r = f"r{i}" if self.reached[node] == MAYBE else ""
        every = range(i, self.stretch.stop, self.stretch.length)
        return Place(f"v{i}", d, r, self.column(every) if self.listed[i] else "", once=once)

    def operand(self, i: int, k: int) -> Place | float | str:
        """Operand k of node i: a number, the name of one that changes by turn, or a place."""
        at = self.first_operand[i] + k
        node, stretch = self.operands[at], self.stretch
        j = self.rank[node]
        if self.in_straight:
            if j < 0:
                leaf = self.kind[node]
                return self.data[node] if leaf == CONSTANT else self.leaf(node)
            return self.own(j) if j >= stretch.start else self.place(j)
        first, stop, length = stretch
        relation = self.relations[stretch][at - self.first_operand[first]]
        if relation == _SAME:
            return self.place(j)
        if relation == _HERE:
            return self.own(j)
        if relation == _BEFORE:
            node = self.nodes[j + length]
            maybe = self.reached[node] == MAYBE
            return Place(f"w{j}", f"e{j}" if self.wanted[node] else "", f"q{j}" if maybe else "")
        turns = slice(at, self.first_operand[stop], len(self.relations[stretch]))
        if relation == _LEAF:
            return self.leaf_of_turns(self.graph.operands[turns])
        index = self.column(self.ranks[turns])
        wanted = any(self.wanted[node] for node in self.operands[turns])
        maybe = any(self.reached[node] == MAYBE for node in self.operands[turns])
        return Place(f"v[{index}]", f"d[{index}]" if wanted else "", f"r[{index}]" if maybe else "")

    def places_of(self, i: int) -> list[Place | float | str]:
        """The operands of node i, as `operand` gives them; found once for straight lines."""
        if i not in self.operand_places:
            count = self.first_operand[i + 1] - self.first_operand[i]
            found = [self.operand(i, k) for k in range(count)]
            if not self.in_straight:
                return found
            self.operand_places[i] = found
        return self.operand_places[i]

    def leaf_of_turns(self, nodes: np.ndarray) -> Place | float | str:
        kind = self.kind[nodes[0]]
        if kind == CONSTANT:
            data = self.graph.data[nodes]
            alike = (data.view(np.int64) == data.view(np.int64)[0]).all()
            return float(data[0]) if alike else self.column(data)
        slots = self.graph.slot[nodes]
        if (slots == slots[0]).all():
            return self.leaf(int(nodes[0]))
        index = self.column(slots)
        name = "p" if kind == PARAMETER else "x"
        return Place(f"{name}[{index}]", f"g[{index}]" if kind == self.wrt else "")

    def column(self, numbers: np.ndarray | range) -> str:
        """The loop's variable that takes these numbers, turn by turn."""
        letter = "i"
        if not isinstance(numbers, range):
            letter = "c" if numbers.dtype == float else "i"
            first, step, last = numbers[0], numbers[1] - numbers[0], numbers[-1]
            if letter == "i" and step and (np.diff(numbers) == step).all():
                numbers = range(int(first), int(last + step), int(step))
        if isinstance(numbers, range):
            source = str(numbers)
        else:
            source = self.tables.setdefault(numbers.tobytes(), f"table{len(self.tables)}")
            self.names[source] = numbers.tolist()
        return self.columns.setdefault(source, f"{letter}{len(self.columns)}")


def _parts(whole: Iterable[Stretch], most: int) -> Iterable[list[Stretch]]:
    """The stretches in runs of about `most` nodes to write: what goes into one function."""
    part: list[Stretch] = []
    room = most
    for stretch in whole:
        if stretch.turns > 1:
            if stretch.length > room and part:
                yield part
                part, room = [], most
            part.append(stretch)
            room -= stretch.length
            continue
        at = stretch.start
        while at < stretch.stop:
            if room <= 0:
                yield part
                part, room = [], most
            taken = min(room, stretch.stop - at)
            part.append(Stretch(at, at + taken, taken))
            at, room = at + taken, room - taken
    yield part
