"""A batch's gradient by several workers: anything with a `map` will do.

`ShardedGradient` cuts the rows of a batch into shards, has each worked on by `map`, and adds up
their gradients weighted by their rows, in order: the same number of shards gives the same bits,
whoever computed them. `map` may be concurrent.futures' Executor.map, multiprocessing's Pool.map,
Dask's Client.map (whose futures are waited for), Python's own, or yours: it takes a function and a
list. Left out: workers that keep data or parameters (every task carries both).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .compiler import Program

Map = Callable[..., Any]
Task = tuple[str, bytes | None, Any, Any, Any]  # key of the program, it pickled, theta, X, Y

_programs: dict[str, Program] = {}  # in a worker: those it has been sent
_MOST_PROGRAMS = 8


class ShardedGradient:
    """A program's `value_and_grad`, spread over workers.

    program  pickled here, once: a TypeError at once says what in it cannot be
    map      runs a function on a list of tasks, somewhere
    shards   pieces of a batch, by default as many as this machine has processors

    A worker that is lost costs a second attempt through `map`, and if that fails as well (a pool of
    processes is of no use after it has lost one) the shards are computed here from then on, with a
    warning. What a worker's own code raises is raised here as it was.
    """

    def __init__(self, program: Program, map: Map, shards: int | None = None) -> None:
        if not callable(map):
            raise TypeError(f"map is {map!r}: give a function such as executor.map")
        self.shards = shards or os.cpu_count() or 1
        if self.shards < 1:
            raise ValueError(f"shards is {shards!r}: give a whole number of at least 1")
        self._map: Map | None = map
        self._program, self._pickled = program, pickle.dumps(program)
        self._key = hashlib.sha256(self._pickled).hexdigest()
        self._sent = False

    def value_and_grad(
        self, X: Any, Y: Any, parameters: Any, out: Any
    ) -> tuple[float, np.ndarray[Any, Any]]:
        """The mean over rows, and its gradient written to `out`."""
        count = min(self.shards, len(X))
        edges = [len(X) * i // count for i in range(count + 1)]
        parts = [slice(start, stop) for start, stop in zip(edges, edges[1:], strict=False)]
        answers = self._answers([(parameters, X[part], Y[part]) for part in parts])
        out[:] = 0.0
        mean = 0.0
        for part, (value, gradient) in zip(parts, answers, strict=True):
            share = (part.stop - part.start) / len(X)
            mean += share * value
            out += share * gradient
        return mean, out

    def _answers(self, shards: list[tuple[Any, Any, Any]]) -> list[tuple[float, Any]]:
        # The pickled program, megabytes for 100,000 parameters, goes with the first batch; a worker
        # that does not have it (a new one, say) says so, and is sent its task once more with it.
        answers = self._run(shards, with_program=not self._sent)
        self._sent = True
        missing = [i for i, answer in enumerate(answers) if answer is None]
        if missing:
            again = self._run([shards[i] for i in missing], with_program=True)
            for i, answer in zip(missing, again, strict=True):
                answers[i] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _run(self, shards: list[tuple[Any, Any, Any]], with_program: bool) -> list[Any]:
        for attempt in (1, 2):
            if self._map is None:
                break
            pickled = self._pickled if with_program or attempt == 2 else None
            try:
                found = self._map(_work, [(self._key, pickled, *shard) for shard in shards])
                return [f.result() if hasattr(f, "result") else f for f in found]
            except Exception as error:  # not the work's own, which comes back as an answer
                lost = error
        if self._map is not None:
            self._map = None
            warnings.warn(
                f"workers were lost twice ({type(lost).__name__}: {lost}): training goes on in "
                "this process alone",
                RuntimeWarning,
                stacklevel=5,
            )
        return [self._program.value_and_grad(X, Y, parameters=theta) for theta, X, Y in shards]


def _work(task: Task) -> Any:
    """In a worker: (mean, gradient) of a shard; None without the program; what was raised."""
    key, pickled, theta, X, Y = task
    try:
        program = _programs.get(key)
        if program is None:
            if pickled is None:
                return None
            while len(_programs) >= _MOST_PROGRAMS:
                _programs.pop(next(iter(_programs)), None)
            program = _programs[key] = pickle.loads(pickled)
        return program.value_and_grad(X, Y, parameters=theta)
    except Exception as error:
        return _sendable(error)


def _sendable(error: Exception) -> Exception:
    """The exception itself if it survives the journey between processes, else one that does."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")
