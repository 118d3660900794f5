"""Rolling: where the text of a program repeats itself, it becomes a loop.

    h_4 = U @ x0[3] + b                 for t in range(1, 28):
    h_5 = W @ h_3 + h_4                     h_4[t] = U @ x0[t + 2] + b
    h_6 = tanh(h_5)                         h_5[t] = W @ h_6[t - 1] + h_4[t]
    h_7 = U @ x0[4] + b                     h_6[t] = tanh(h_5[t])
    ...

Lines repeat if they differ in nothing but whole numbers that advance evenly, those at the end of
names among them: then the names are one, indexed by t, wherever they occur. A loop runs the lines
that it stands for, in their order. It leaves out what lines mean: source.py and textbook.py write
them; loops in programs of single numbers are found in the graph (loops.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

TURNS = 4  # at least
SAVED = 8  # lines at least
LONGEST = 400  # lines in a turn
CANDIDATES = 6  # periods that are tried
# whole numbers, at the end of a name or alone, but no part of 0.25 or 1e-05
_NUMBER = re.compile(
    r"(?<=[A-Za-z_])(?:0|[1-9]\d*)(?!\d)|(?<![\w.])(?<!\de[-+])(?:0|[1-9]\d*)(?![\w.])"
)
_WORD = re.compile(r"[A-Za-z_]\w*|\d[\w.]*")
# and texts, which are left alone; attributes such as .T are no names
_NAME = re.compile(r"""'[^']*'|"[^"]*"|(?<![\w.])[A-Za-z_]\w*""")


class Line(NamedTuple):
    """A statement, and a comment behind it."""

    code: str
    note: str = ""


class Family(NamedTuple):
    """Names base1, base4, base7 ... that are name[t]: `number` is at `at`, +-stride one on."""

    name: str
    stride: int
    number: int
    at: int
    sign: int

    def index_of(self, number: int) -> int:
        return self.at + self.sign * (number - self.number) // self.stride

    def way(self, step: int) -> int:
        """Where the index goes, 1 or -1, when the number advances by this."""
        return self.sign if step > 0 else -self.sign


class Advance(NamedTuple):
    """What differs between the turns of a loop: the number at start:stop of a line of the first.

    base  what is before it if it belongs to a name; "" if it stands alone
    """

    start: int
    stop: int
    base: str
    number: int
    step: int


class Group(NamedTuple):
    """Names of a loop that may be of one family: their numbers advance by +-stride each turn.

    sign      where the first of them goes, 1 or -1
    latest    the number that is furthest that way in the first turn
    numbers   those of all turns
    reach     how many turns before the first one it begins
    """

    base: str
    stride: int
    advances: list[Advance]
    sign: int
    latest: int
    numbers: list[int]
    reach: int


class Loop(NamedTuple):
    """Lines from `first` on, `period` a turn; t starts at `t` and goes on by `way`, 1 or -1."""

    first: int
    period: int
    turns: int
    t: int
    way: int
    body: list[list[Advance]]

    @property
    def stop(self) -> int:
        """The line behind it."""
        return self.first + self.period * self.turns

    @property
    def range(self) -> str:
        last = self.t + self.way * (self.turns - 1)
        whole = f"range({min(self.t, last)}, {max(self.t, last) + 1})"
        return whole if self.way > 0 else f"reversed({whole})"


class Rolled(NamedTuple):
    """A text, and the loops in it in order."""

    lines: Sequence[Line]
    loops: list[Loop]


class Rolling:
    """The loops in several texts that share names.

    derivatives  whether dh_3 is the derivative of h_3, and has its index
    place        name -> the name of its family, and its index there
    """

    def __init__(self, derivatives: bool = False) -> None:
        self.derivatives = derivatives
        self.place: dict[str, tuple[str, int]] = {}
        self.families: dict[str, Family] = {}

    # -- finding
    def find(self, lines: Sequence[Line], at_end: bool = False, least: int = SAVED) -> Rolled:
        """The loops in a text; their names are one from now on.

        at_end  whether a turn rather ends where the repetition does than begins where it does
        least   lines that a loop has to save
        """
        numbers, runs = _repetitions(lines, least)
        found: list[Loop] = []
        for first, stop, period in runs:
            for loop in found:  # outside of these
                if loop.first < stop and first < loop.stop:
                    before, behind = (first, loop.first), (loop.stop, stop)
                    first, stop = max(before, behind, key=lambda part: part[1] - part[0])
            if stop - first < TURNS * period:
                continue
            first, turns = _aligned(lines, first, stop, period, at_end)
            # or all but a turn at one of its ends, which may not fit
            for begin, n in ((first, turns), (first, turns - 1), (first + period, turns - 1)):
                if n < TURNS or (n - 1) * period < least:
                    break
                body = self.advances(lines, numbers, begin, period)
                settled = None if body is None else self.settle(begin, period, n, body)
                if settled is not None:
                    found.append(settled)
                    break
        return Rolled(lines, sorted(found))

    def advances(
        self, lines: Sequence[Line], numbers: list[list[int]], first: int, period: int
    ) -> list[list[Advance]] | None:
        """What advances in the lines of a turn; None if that is neither name nor number."""
        body = []
        for i in range(first, first + period):
            code, found = lines[i].code, []
            words = list(_WORD.finditer(code))
            pairs = zip(_NUMBER.finditer(code), numbers[i], numbers[i + period], strict=True)
            for match, number, later in pairs:
                if number == later:
                    continue
                word = next(w for w in words if w.start() <= match.start() < w.end())
                before = code[: word.start()]
                quoted = before.count("'") % 2 or before.count('"') % 2
                if code[0] == "#" or quoted or word.end() != match.end():
                    return None
                base = code[word.start() : match.start()]
                found.append(Advance(*word.span(), base, number, later - number))
            body.append(found)
        return body

    def settle(self, first: int, period: int, turns: int, body: list[list[Advance]]) -> Loop | None:
        """The loop, if each of its names can have one place in one family, and no other has it."""
        groups = _grouped(body, turns)
        known = [self.known(group) for group in groups]
        way, starts, reach = 0, [0], 1  # most loops have a turn before them, not quite alike
        for group, family in zip(groups, known, strict=True):
            if family is None:
                reach = max(reach, group.reach)
            elif family.stride == group.stride:
                starts += [family.index_of(a.number) for a in group.advances]
                way = way or family.way(group.sign)
            else:
                return None
        way = way or 1
        at = max([*starts, reach if way > 0 else 0])
        placed: dict[str, tuple[str, int]] = {}
        families = []
        for group, family in zip(groups, known, strict=True):
            if family is None:
                name = f"{group.base}{group.latest}"
                family = Family(name, group.stride, group.latest, at, way * group.sign)
            families.append(family)
            numbers = [f"{group.base}{number}" for number in group.numbers]
            indices = map(family.index_of, group.numbers)
            # nothing else may be called what the family is
            for name, index in [(family.name, family.at), *zip(numbers, indices, strict=True)]:
                place = family.name, index
                if placed.setdefault(name, place) != place or index < 0 or hasattr(np, name):
                    return None
        if len(set(placed.values())) < len(placed):  # two names in one place
            return None
        if any(self.place.get(name, place) != place for name, place in placed.items()):
            return None
        self.place |= placed
        self.families |= {family.name: family for family in families}
        return Loop(first, period, turns, at, way, body)

    def known(self, group: Group) -> Family | None:
        """The family that one of these names is in; that of `h` for the derivatives `dh`."""
        for number in group.numbers:
            name = f"{group.base}{number}"
            if name in self.place:
                return self.families[self.place[name][0]]
            if self.derivatives and name[0] == "d" and name[1:] in self.place:
                of = self.families[self.place[name[1:]][0]]
                return of._replace(name="d" + of.name)
        return None

    def complete(self, names: Iterable[str]) -> None:
        """Give names the place that their derivatives have, if their family has none there."""
        filled = set(self.place.values())
        for name in names:
            family, index = self.place.get("d" + name, ("d", 0))
            place = family[1:], index
            if place[0] in self.families and name not in self.place and place not in filled:
                self.place[name] = place

    # -- writing, when all loops are found
    def text(self, rolled: Rolled) -> Iterator[Line]:
        """The lines, in which loops stand for what they repeat."""
        for loop, lines in self.parts(rolled):
            if loop:
                yield Line(f"for t in {loop.range}:")
            for line in lines:
                yield Line("    " + line.code, line.note) if loop else line

    def parts(self, rolled: Rolled) -> Iterator[tuple[Loop | None, list[Line]]]:
        """The lines between loops, and the loops with those of one turn."""
        at = 0
        for loop in [*rolled.loops, None]:
            straight = rolled.lines[at : loop and loop.first]
            yield None, [Line(self.renamed(line.code), line.note) for line in straight]
            if loop:
                pairs = zip(rolled.lines[loop.first :], loop.body, strict=False)
                yield loop, [Line(self.in_turn(x.code, body, loop), x.note) for x, body in pairs]
                at = loop.stop

    def sizes(self) -> dict[str, int]:
        """How long the list of each family is."""
        found = dict.fromkeys(self.families, 0)
        for family, index in self.place.values():
            found[family] = max(found[family], index + 1)
        return found

    def collected(self, values: dict[str, Any]) -> dict[str, Any]:
        """Values by name, in which those of a family are a list."""
        found: dict[str, Any] = {}
        sizes = self.sizes()
        for name, value in values.items():
            if name in self.place:
                family, index = self.place[name]
                found.setdefault(family, [None] * sizes[family])[index] = value
            else:
                found[name] = value
        return found

    def of(self, name: str) -> str:
        """The family that a name is in, or the name."""
        return self.place[name][0] if name in self.place else name

    def renamed(self, code: str) -> str:
        """Names as what they are called now."""
        if not self.place:
            return code
        return _NAME.sub(lambda found: self.name(found[0]), code)

    def name(self, name: str) -> str:
        """What is called `name` in straight lines."""
        if name not in self.place:
            return name
        family, index = self.place[name]
        return f"{family}[{index}]"

    def in_turn(self, code: str, body: Sequence[Advance], loop: Loop) -> str:
        """A line of the first turn as that of turn t."""
        out, at = [], 0
        for a in body:
            out.append(self.renamed(code[at : a.start]))
            if a.base:
                name, index = self.place[f"{a.base}{a.number}"]
                way = self.families[name].way(a.step)
                out.append(f"{name}[{_evenly(index, way, loop)}]")
            else:
                text = _evenly(a.number, a.step, loop)
                ends = code[: a.start].rstrip()[-1:], code[a.stop :].lstrip()[:1]
                plain = text == "t" or ends[0] in "[(:," and ends[1] in "]):,"
                out.append(text if plain else f"({text})")
            at = a.stop
        return "".join([*out, self.renamed(code[at:])])


def names_in(code: str) -> list[str]:
    """The names in a line, in order."""
    return [name for name in _NAME.findall(code) if name[0] not in "'\""]


def renamed(code: str, names: dict[str, str]) -> str:
    """The line with other names."""
    return _NAME.sub(lambda found: names.get(found[0], found[0]), code)


def repeats(lines: Sequence[str]) -> bool:
    """Whether any lines of a text, as they are, repeat often enough for a loop."""
    return bool(_repetitions([Line("", line) for line in lines], least=TURNS)[1])


def _grouped(body: list[list[Advance]], turns: int) -> list[Group]:
    """The names of a loop, by what they begin with and how they advance."""
    found: dict[tuple[str, int, int], list[Advance]] = {}
    for advance in (a for line in body for a in line if a.base):
        stride = abs(advance.step)
        found.setdefault((advance.base, stride, advance.number % stride), []).append(advance)
    groups = []
    for (base, stride, _), advances in found.items():
        step = advances[0].step
        sign = 1 if step > 0 else -1
        latest = sign * max(sign * a.number for a in advances if a.step == step)
        numbers = [n for a in advances for n in range(a.number, a.number + turns * a.step, a.step)]
        reach = max((latest - number) * sign // stride for number in numbers)
        groups.append(Group(base, stride, advances, sign, latest, numbers, reach))
    return groups


def _evenly(number: int, step: int, loop: Loop) -> str:
    """A number that is `number` in the first turn and grows by `step`, written with t."""
    factor = step * loop.way
    rest = number - factor * loop.t
    if factor == -1:
        return f"{rest} - t"
    text = "t" if factor == 1 else f"{factor} * t"
    return text if rest == 0 else f"{text} {'+' if rest > 0 else '-'} {abs(rest)}"


def _aligned(
    lines: Sequence[Line], first: int, stop: int, period: int, at_end: bool
) -> tuple[int, int]:
    """Where a loop over these lines best begins, and its turns: at a comment if there are any."""
    comments = any(line.code.startswith("#") for line in lines[first : first + period])

    def merit(start: int) -> tuple[bool, int, int]:
        begins = lines[start].code.startswith("#") or not comments
        return begins, (stop - start) // period, start if at_end else -start

    first = max(range(first, first + period), key=merit)
    return first, (stop - first) // period


def _repetitions(
    lines: Sequence[Line], least: int
) -> tuple[list[list[int]], list[tuple[int, int, int]]]:
    """The numbers in every line, and (first, stop, period) where lines repeat, largest first."""
    numbers = [[int(n) for n in _NUMBER.findall(line.code)] for line in lines]
    kinds: dict[Line, int] = {}
    seen: dict[int, int] = {}
    distances: Counter[int] = Counter()
    ids = []
    for i, line in enumerate(lines):
        kind = kinds.setdefault(Line(_NUMBER.sub("0", line.code), line.note), len(kinds))
        ids.append(kind)
        if kind in seen:
            distances[i - seen[kind]] += 1
        seen[kind] = i
    found = []
    for period, count in distances.most_common(CANDIDATES):
        if count >= TURNS - 1 and period <= LONGEST:
            for first, stop in _stretches(ids, numbers, period):
                turns = (stop - first) // period
                if turns >= TURNS and (turns - 1) * period >= least:
                    found.append((first, stop, period))
    found.sort(key=lambda run: (run[0] - run[1] + run[2], run[2]))
    return numbers, found


def _stretches(ids: list[int], numbers: list[list[int]], period: int) -> Iterator[tuple[int, int]]:
    """Maximal (first, stop) where all is as it was `period` lines before, but what advances."""
    first = 0
    before: list[list[int]] = [[] for _ in range(period)]
    for i in range(period, len(ids)):
        if ids[i] != ids[i - period]:
            if i - first > period:
                yield first, i
            first = i + 1 - period
            continue
        steps = [b - a for a, b in zip(numbers[i - period], numbers[i], strict=True)]
        if i - first >= 2 * period and steps != before[i % period]:
            yield first, i
            first = i - period
        before[i % period] = steps
    if len(ids) - first > period:
        yield first, len(ids)
