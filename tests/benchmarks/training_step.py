"""How long a training step takes: micrograd, xad, and two ways to write it here.

    python tests/benchmarks/training_step.py [--rounds 5] [--steps 4] [ENGINE ...]

The step is that of micrograd's demo: a 2-16-16-1 network of ReLUs, 100 moons samples, hinge loss
and L2, gradient, update. Every engine runs in fresh processes, in turn with the others, with the
garbage collector as Python sets it and with it switched off; each round gives one ratio to each
engine, and the table their median and range. All engines have to arrive at the same losses. It
measures Python against Python (and xad's C++), one sample at a time: no arrays, no compiler.

Needs `pip install ".[test]" xad`; an engine that is not installed is left out, and named.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ENGINES = {
    "micrograd": "micrograd itself, from PyPI",
    "elementwise": "micrograd's nn.py on our Value",
    "mlp": "our MLP, a neuron being one dot",
    "xad": "xad, elementwise, recorded and differentiated in C++",
}
COMPARED = (  # how many times faster the second is than the first
    ("micrograd", "elementwise"),
    ("micrograd", "mlp"),
    ("xad", "elementwise"),
    ("xad", "mlp"),
)
NEURONS, RATE, DECAY, SEED = [16, 16, 1], 0.05, 1e-4, 1337


# ---------------------------------------------------------------- the step, engine by engine
def micrograd(X: list[list[float]], Y: list[float]) -> Callable[[], float]:
    from micrograd.engine import Value
    from micrograd.nn import MLP

    random.seed(SEED)
    model = MLP(2, NEURONS)

    def step() -> float:
        inputs = [list(map(Value, row)) for row in X]
        scores = list(map(model, inputs))
        losses = [(1 + -y * score).relu() for y, score in zip(Y, scores, strict=True)]
        loss = sum(losses) * (1.0 / len(losses)) + DECAY * sum(p * p for p in model.parameters())
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= RATE * p.grad
        return loss.data

    return step


def elementwise(X: list[list[float]], Y: list[float]) -> Callable[[], float]:
    """The same code, and micrograd's own nn.py, once `micrograd.engine` is ours."""
    import micrograd as package

    import micrograd_scratch.engine

    package.engine = sys.modules["micrograd.engine"] = micrograd_scratch.engine
    return micrograd(X, Y)


def mlp(X: list[list[float]], Y: list[float]) -> Callable[[], float]:
    from micrograd_scratch import MLP, losses, total

    model = MLP(2, NEURONS, init="uniform", rng=random.Random(SEED))

    def step() -> float:
        costs = [losses.hinge(model(row), y) for row, y in zip(X, Y, strict=True)]
        loss = total(costs) / len(costs) + DECAY * losses.l2(model.parameters())
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= RATE * p.grad
        return loss.data

    return step


def xad(X: list[list[float]], Y: list[float]) -> Callable[[], float]:
    import xad.adj_1st as adj_1st  # not `from xad`: the C++ module of that name has less
    from xad.math import max as maximum

    rng = random.Random(SEED)
    tape = adj_1st.Tape()
    tape.activate()
    layers = [
        [
            ([adj_1st.Real(rng.uniform(-1, 1)) for _ in range(m)], adj_1st.Real(0.0))
            for _ in range(n)
        ]
        for m, n in zip([2, *NEURONS], NEURONS, strict=False)
    ]
    parameters = [p for layer in layers for w, b in layer for p in (*w, b)]
    tape.registerInputs(parameters)

    def score(x: list) -> adj_1st.Real:
        for layer in layers[:-1]:
            x = [
                maximum(sum((wi * xi for wi, xi in zip(w, x, strict=True)), b), 0.0)
                for w, b in layer
            ]
        ((w, b),) = layers[-1]
        return sum((wi * xi for wi, xi in zip(w, x, strict=True)), b)

    def step() -> float:
        tape.newRecording()
        costs = [maximum(1.0 - y * score(row), 0.0) for row, y in zip(X, Y, strict=True)]
        loss = sum(costs) * (1.0 / len(costs)) + DECAY * sum(p * p for p in parameters)
        tape.registerOutput(loss)
        loss.derivative = 1.0
        tape.computeAdjoints()
        updated = [p.value - RATE * p.derivative for p in parameters]
        tape.clearAll()
        parameters[:] = map(adj_1st.Real, updated)
        refill = iter(parameters)
        for layer in layers:
            layer[:] = [([next(refill) for _ in w], next(refill)) for w, _ in layer]
        tape.registerInputs(parameters)
        return loss.value

    return step


# ---------------------------------------------------------------- one process
def measure(engine: str, collector: str, steps: int) -> dict[str, object]:
    """Seconds per step (mean of `steps`, after one that is not timed), and every step's loss."""
    from micrograd_scratch import data

    X, labels = data.moons(100, noise=0.1, seed=1)
    step = globals()[engine](X.tolist(), [2.0 * y - 1.0 for y in labels.tolist()])
    losses, seconds = [step()], 0.0
    if collector == "off":
        gc.disable()
    for _ in range(steps):
        if collector == "off":
            gc.collect()  # the cycles that the last step left; not timed
        start = time.perf_counter()
        losses.append(step())
        seconds += time.perf_counter() - start
    return {"seconds": seconds / steps, "losses": losses}


# ---------------------------------------------------------------- all of them, in turn
def run(engine: str, collector: str, steps: int) -> dict[str, object]:
    command = [sys.executable, __file__, "--child", engine, collector, str(steps)]
    child = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    if child.returncode:
        raise RuntimeError(child.stderr.strip().splitlines()[-1])
    return json.loads(child.stdout)


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        sys.path.insert(0, str(Path(__file__).parents[2]))  # this tree, installed or not
        print(json.dumps(measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help=", ".join(ENGINES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="timed steps per process")
    options = parser.parse_args()
    engines = options.engines or list(ENGINES)
    if unknown := set(engines) - set(ENGINES):
        parser.error(f"no engine is called {', '.join(unknown)}: choose from {', '.join(ENGINES)}")

    print(machine())
    print(f"a training step, 2-16-16-1 on 100 samples; {options.rounds} rounds of "
          f"{options.steps} steps in fresh processes, in turn")  # fmt: skip
    for collector in ("default", "off"):
        results: dict[str, list[dict]] = {engine: [] for engine in engines}
        for _ in range(options.rounds):
            for engine in list(results):
                try:
                    results[engine].append(run(engine, collector, options.steps))
                except RuntimeError as error:
                    print(f"without {engine}: {error}")
                    del results[engine]
        report(collector, results)
    return 0


def report(collector: str, results: dict[str, list[dict]]) -> None:
    reference = next(iter(results.values()))[0]["losses"]
    for engine, runs in results.items():
        for ours in runs:
            for a, b in zip(ours["losses"], reference, strict=True):
                if not math.isclose(a, b, rel_tol=1e-9):
                    raise SystemExit(f"{engine} computes a loss of {a}, another engine {b}")
    print(f"\ngarbage collector {collector}{'':21}ms a step, median (range)")
    for engine, runs in results.items():
        print(f"  {ENGINES[engine]:54}{spread([1e3 * r['seconds'] for r in runs])}")
    for slow, fast in COMPARED:
        if slow in results and fast in results:
            pairs = zip(results[slow], results[fast], strict=True)
            ratios = [a["seconds"] / b["seconds"] for a, b in pairs]
            print(f"  {slow + ' / ' + fast:54}{spread(ratios)}")


def spread(numbers: list[float]) -> str:
    return f"{statistics.median(numbers):8.2f} ({min(numbers):.2f} to {max(numbers):.2f})"


def machine() -> str:
    """The processor and the Python that runs."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.split(": ", 1)[1] for line in lines if "model name" in line), name)
    return f"{name}, {platform.python_implementation()} {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
