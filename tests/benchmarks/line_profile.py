"""Where a compiled program's time goes, line by line of its source.

A clock is read after every statement of the functions that the source defines, which is dear beside
small array operations: 0.1 us each, taken off again. It leaves out what is spent outside the
source (checking arguments, binding views), and says how much that is. Programs that run as lines
of Python on floats are profiled by function.
"""

from __future__ import annotations

import ast
import cProfile
import pstats
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

CALLS, SECONDS, MOST_LINES = 300, 2.0, 24


class _Marking(ast.NodeTransformer):
    """`_mark(line)` after every statement of the functions within `buffers`, `_mark(0)` first."""

    def __init__(self) -> None:
        self.inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        outermost, self.inside = not self.inside, True
        node.body = [self.visit(s) if isinstance(s, ast.FunctionDef) else s for s in node.body]
        self.inside = not outermost
        if outermost:
            return node
        body = [_mark(0)]
        for statement in node.body:
            if not isinstance(statement, ast.Return):
                body += [statement, _mark(statement.lineno)]
            else:
                body.append(statement)
        node.body = body
        return node


def _mark(line: int) -> ast.stmt:
    return ast.parse(f"_mark({line})").body[0]


def table(program: Any, call: Callable[[], Any]) -> str:
    """The lines that take most, in microseconds a call, of a program that `call` calls."""
    inner = program._compiled(False)
    tree = ast.fix_missing_locations(_Marking().visit(ast.parse(inner.source)))
    marks: list[tuple[int, int]] = []  # (line, nanoseconds when it ended)

    def mark(line: int, now: Callable[[], int] = time.perf_counter_ns) -> None:
        marks.append((line, now()))

    def start_anew() -> None:
        """Have buffers made anew, for they bind the functions."""
        inner.mine, program._mine = threading.local(), type(program._mine)()

    plain, inner.namespace = inner.namespace, {**inner.namespace, "_mark": mark}
    exec(compile(tree, "<marked program>", "exec"), inner.namespace)
    try:
        start_anew()
        for _ in range(3):
            call()
        if not marks:
            return _by_function(call)
        overhead = _overhead(mark, marks)
        runs: list[Counter[int]] = []
        size = len(inner.source.splitlines())
        calls = max(3, min(CALLS, 100_000 // size, int(SECONDS / _seconds(call))))
        for _ in range(calls):
            marks.clear()
            call()
            spent: Counter[int] = Counter()
            for (_, before), (line, after) in pairwise(marks):
                spent[line] += after - before - overhead if line else 0
            runs.append(spent)
    finally:
        inner.namespace = plain
        start_anew()
    whole = statistics.median(_seconds(call) for _ in range(calls)) * 1e6
    # the median, since a line that is interrupted looks a hundred times as slow as it is
    each = {line: statistics.median(run[line] for run in runs) / 1e3 for line in runs[0] if line}
    lines = inner.source.splitlines()
    inside = sum(each.values())
    report = [
        f"  profile: {whole:.1f} us a call, {inside:.1f} within {len(each)} lines, "
        f"{whole - inside:.1f} outside the source"
    ]
    for line, us in sorted(each.items(), key=lambda pair: -pair[1])[:MOST_LINES]:
        text = lines[line - 1].strip()[:90]
        report.append(f"  {us:9.2f} us {us / inside:6.1%}  {line:5d}: {text}")
    kinds: Counter[str] = Counter()
    for line, us in each.items():
        kinds[lines[line - 1].strip().partition("(")[0].partition(" = ")[0][:20]] += us
    largest = ", ".join(f"{kind} {us:.1f}" for kind, us in kinds.most_common(8))
    report.append(f"  by call, us: {largest}")
    return "\n".join(report)


def _by_function(call: Callable[[], Any]) -> str:
    """What Python's own profiler says, for programs that run as lines of Python on floats."""
    calls = max(3, min(CALLS, int(SECONDS / _seconds(call))))
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(calls):
        call()
    profiler.disable()
    rows = [
        (own / calls * 1e6, f"{Path(file).name}:{line} {name}")
        for (file, line, name), (_, _, own, _, _) in pstats.Stats(profiler).stats.items()
    ]
    report = [f"  profile: lines of Python; us a call within each function, of {calls} calls"]
    report += [f"  {us:9.2f} us  {where}" for us, where in sorted(rows, reverse=True)[:8]]
    return "\n".join(report)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _overhead(mark: Callable[[int], None], marks: list[tuple[int, int]]) -> int:
    """Nanoseconds that a mark adds to the line before it."""
    marks.clear()
    for _ in range(1_000):
        mark(1)
    return int(statistics.median(b - a for (_, a), (_, b) in pairwise(marks)))
