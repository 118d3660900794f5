"""Racing: functions that do the same thing, timed alternately in one process.

Importing it fixes the number of threads of BLAS and OpenMP (one, or BENCHMARK_THREADS), so import
it before NumPy. A round times every contestant once, in turn, in blocks of about a millisecond;
each round gives one ratio to each pair, and the median over hundreds of rounds is what is reported:
what the machine does besides hits both. It leaves out what is measured: compiled_programs.py.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

THREADS = int(os.environ.setdefault("BENCHMARK_THREADS", "1"))
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[_library + "_NUM_THREADS"] = str(THREADS)
sys.path.insert(0, str(Path(__file__).parents[2]))  # this tree, installed or not

BLOCK = 1e-3  # seconds: long beside the clock's reading, short beside the scheduler's slices


class Race:
    """The seconds a call took, contestant by contestant and round by round."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self.seconds = seconds

    def microseconds(self, name: str) -> float:
        return 1e6 * statistics.median(self.seconds[name])

    def smallest(self, name: str) -> float:
        """Microseconds a call in the best round: for figures that stand for themselves."""
        return 1e6 * min(self.seconds[name])

    def ratio(self, name: str, other: str, allowance: float = 0.0) -> float:
        """The median over rounds of `name` / `other`, after taking `allowance` seconds off."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return statistics.median((a - allowance) / b for a, b in pairs)

    def __str__(self) -> str:
        rounds = len(next(iter(self.seconds.values())))
        title = f"us a call over {rounds} rounds"
        lines = [f"  {title:44}{'median':>12}{'smallest':>12}"]
        for name in self.seconds:
            median = self.microseconds(name)
            lines.append(f"  {name:44}{median:12.1f}{self.smallest(name):12.1f}")
        return "\n".join(lines)


def race(
    contestants: dict[str, Callable[[], object]], seconds: float = 3.0, collector: str = "off"
) -> Race:
    """Time the contestants in turn for about so many seconds, at least three rounds.

    collector  "off" switches Python's garbage collector off and lets it run between the rounds;
               "default" leaves it as it is
    """
    counts = {}
    for name, call in contestants.items():
        once = _block(call, 1)
        if once < 0.02:
            once = min(_block(call, 1) for _ in range(5))
        counts[name] = max(1, int(BLOCK / once))
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    names, order = list(contestants), random.Random(0)
    end = time.perf_counter() + seconds
    gc.collect()
    if collector == "off":
        gc.freeze()  # what is there already need not be looked through after every round
        gc.disable()
    try:
        while time.perf_counter() < end or len(taken[names[0]]) < 3:
            for name in names:
                taken[name].append(_block(contestants[name], counts[name]))
            order.shuffle(names)  # who comes second finds the data that both read in the cache
            if collector == "off":
                gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    return Race(taken)


def _block(call: Callable[[], object], count: int) -> float:
    """The seconds a call, over `count` calls; caches as in a loop of such calls."""
    if count > 1:
        call()
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


class Targets:
    """What was aimed at and what was measured, printed at the end."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, bool]] = []
        self.others: list[tuple[str, float]] = []

    def note(self, what: str, measured: float) -> None:
        """A figure without a target."""
        self.others.append((what, measured))

    def at_most(self, what: str, limit: float, measured: float) -> None:
        self.rows.append((what, limit, measured, measured <= limit))

    def at_least(self, what: str, limit: float, measured: float) -> None:
        self.rows.append((what, limit, measured, measured >= limit))

    def __str__(self) -> str:
        lines = [f"{'':62}{'target':>10}{'measured':>10}"]
        for what, limit, measured, met in self.rows:
            lines.append(f"{what:62}{limit:10.4g}{measured:10.4g}  {'met' if met else 'MISSED'}")
        lines += [f"{what:62}{'-':>10}{measured:10.4g}" for what, measured in self.others]
        met = sum(row[-1] for row in self.rows)
        lines.append(f"{met} of {len(self.rows)} targets met")
        return "\n".join(lines)


def agree(what: str, ours: object, theirs: object, tolerance: float = 1e-9) -> None:
    """Stop unless two arrays differ by at most `tolerance` times the largest magnitude."""
    import numpy as np

    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    if a.shape != b.shape:
        raise SystemExit(f"{what}: shape {a.shape} against {b.shape}")
    worst = float(np.abs(a - b).max())
    if not worst <= tolerance * float(np.abs(b).max()):
        raise SystemExit(f"{what}: off by {worst:.3g}, the largest being {np.abs(b).max():.3g}")
