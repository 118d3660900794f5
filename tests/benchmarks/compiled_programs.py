"""How fast compiled programs are: beside NumPy by hand, PyTorch eager, and the scalars themselves.

    python tests/benchmarks/compiled_programs.py [--full] [--profile] [moons mlp gpt recurrent small
                                                 scaling]

A call is one value and gradient. Every figure is of things that were first found to agree, then
timed alternately in one process with equal numbers of threads (one, or BENCHMARK_THREADS); ratios
are medians over rounds, times that stand for themselves the smallest. The last table sets what was
aimed at beside what was measured.

--full     longer races, and the scaling up to 1,000,000 nodes whatever it takes
--profile  where a program's time goes, line by line of its source

Needs `pip install ".[test]" torch`; what is not installed is left out, and named.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import racing  # before NumPy: it sets the number of threads
from racing import Targets, agree, race
from training_step import machine

# isort: split
import by_hand
import line_profile
import numpy as np
import recordings

from micrograd_scratch import MLP, Value, data, losses, recompute
from micrograd_scratch import compile as compiled

CHILD = sys.argv[1:2] == ["--child"]  # a process that compiles one graph: nothing else in memory
TORCH = find_spec("torch") is not None and not CHILD
if TORCH:
    import in_torch

BENCHMARKS = ("moons", "mlp", "gpt", "recurrent", "small", "scaling")
SECONDS = {False: 3.0, True: 15.0}  # of a race, by --full


def main() -> int:
    if CHILD:
        print(json.dumps(compile_one(sys.argv[2], int(sys.argv[3]))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--full", action="store_true", help="longer races, larger graphs")
    parser.add_argument("--profile", action="store_true", help="programs line by line")
    options = parser.parse_args()
    names = options.names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(unknown)}")

    print(machine())
    print(f"NumPy {np.__version__}, PyTorch {in_torch.torch.__version__ if TORCH else 'missing'}")
    print(f"threads: {', '.join(f'{name} {count}' for name, count in threads().items())}")
    targets = Targets()
    for name in names:
        start = time.perf_counter()
        print(f"\n---- {name}")
        globals()[name](targets, options)
        print(f"({time.perf_counter() - start:.0f} s)")
    print(f"\n{targets}")
    return 0


def threads() -> dict[str, int]:
    """The number of threads that each library says it uses, and what was asked for."""
    counts = {"asked for": racing.THREADS}
    if find_spec("threadpoolctl"):
        from threadpoolctl import threadpool_info

        counts |= {pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()}
    if TORCH:
        counts["torch"] = in_torch.torch.get_num_threads()
    return counts


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and the seconds it took."""
    gc.collect()
    start = time.perf_counter()
    made = make()
    return made, time.perf_counter() - start


def passes(program: Any) -> Any:
    """The passes run when an answer is first asked for: all of them, and CPython's compiler."""
    execution = program._execution(1, False)
    return getattr(execution, "run", execution)


def eager_gradient(output: Value, parameters: list[Value]) -> list[float]:
    """What `backward` leaves in the parameters' `.grad`."""
    for p in parameters:
        p.grad = 0.0
    output.backward()
    return [p.grad for p in parameters]


def show_profile(options: argparse.Namespace, program: Any, call: Callable[[], Any]) -> None:
    if options.profile:
        print(line_profile.table(program, call))


def scalar_step(parameters: list[Value], record: Callable[[], Value]) -> Any:
    """Record, backward: what the scalar engine does for one value and gradient."""

    def step() -> float:
        for p in parameters:
            p.grad = 0.0
        loss = record()
        loss.backward()
        return loss.data

    return step


# ---------------------------------------------------------------- moons
def moons(targets: Targets, options: argparse.Namespace) -> None:
    """2-16-16-1 over 100 samples, unrolled, elementwise, hinge loss and L2."""
    sizes = (2, 16, 16, 1)
    X, labels = data.moons(100, noise=0.1, seed=1)
    y = 2.0 * labels - 1.0
    model = MLP(2, sizes[1:], init="uniform", rng=random.Random(1337))
    parameters = model.parameters()

    def record() -> Value:
        return recordings.moons(model, X.tolist(), y.tolist())

    loss, recording = timed(record)
    program, compiling = timed(lambda: compiled(loss, parameters=parameters))
    _, emitting = timed(lambda: passes(program))
    nodes = program.graph.count()
    print(
        f"{nodes:,} nodes; recorded in {recording:.2f} s, compiled in {compiling + emitting:.2f} s"
    )
    targets.at_most("moons: passes and emission, s", 1.0, compiling + emitting)

    theta = np.array([p.data for p in parameters])
    g = np.empty_like(theta)
    order = by_hand.neuron_order(sizes)

    def ours() -> float:
        return program.value_and_grad(parameters=theta, out=g)[0]

    contestants: dict[str, Callable[[], Any]] = {"compiled": ours}
    value = ours()
    agree("moons, value", value, loss.data, 1e-12)
    agree("moons, gradient", g, eager_gradient(loss, parameters), 1e-12)
    for name, make in (("by hand", by_hand.moons), ("textbook", by_hand.textbook_moons)):
        theirs, g_theirs = theta[order], np.empty_like(theta)
        step = make(theirs, g_theirs, sizes, X, y, recordings.DECAY)
        agree(f"{name}, value", step(), value)
        agree(f"{name}, gradient", g_theirs, g[order])
        contestants[name] = step
    if TORCH:
        step, tensors = in_torch.moons(
            by_hand.layers(theta[order], sizes), X, y, recordings.DECAY
        )  # fmt: skip
        agree("PyTorch, value", step(), value)
        agree("PyTorch, gradient", in_torch.gradient(tensors), g[order])
        contestants["PyTorch eager"] = step
    result = race(contestants, SECONDS[options.full])
    print(result)
    print("  by hand: preallocated, out= throughout; textbook: the same, a new array per operation")
    targets.at_most("moons: compiled / by hand", 1.0, result.ratio("compiled", "by hand"))
    if TORCH:
        ratio = result.ratio("compiled", "PyTorch eager")
        targets.at_most("moons: compiled / PyTorch eager", 0.25, ratio)
    show_profile(options, program, ours)

    scalars: dict[str, Callable[[], Any]] = {
        "compiled": ours,
        "our scalars": scalar_step(parameters, record),
    }
    if find_spec("micrograd"):
        scalars["micrograd"] = micrograd_step(model, X.tolist(), y.tolist(), value, g)
    else:
        print("without micrograd: it is not installed")
    for collector in ("off", "default"):
        result = race(scalars, SECONDS[options.full], collector)
        print(f"garbage collector {collector}")
        print(result)
        for name in list(scalars)[1:]:
            print(f"  {name + ' / compiled':44}{result.ratio(name, 'compiled'):12.0f}")


def micrograd_step(
    model: MLP, X: list[list[float]], y: list[float], value: float, g: np.ndarray
) -> Callable[[], float]:
    """The same network in micrograd itself, found to agree; recording included, as it has to."""
    from micrograd import nn
    from micrograd.engine import Value as Theirs

    theirs = nn.MLP(2, [len(layer.neurons) for layer in model.layers])
    for p, ours in zip(theirs.parameters(), model.parameters(), strict=True):
        p.data = ours.data

    def step() -> float:
        costs = [
            (1 + -yi * theirs([Theirs(number) for number in row])).relu()
            for row, yi in zip(X, y, strict=True)
        ]
        squares = sum(p * p for p in theirs.parameters())
        loss = sum(costs) * (1.0 / len(costs)) + recordings.DECAY * squares
        theirs.zero_grad()
        loss.backward()
        return loss.data

    agree("micrograd, value", step(), value)
    agree("micrograd, gradient", [p.grad for p in theirs.parameters()], g)
    return step


# ---------------------------------------------------------------- classifiers
def mlp(targets: Targets, options: argparse.Namespace) -> None:
    """Sigmoid layers and softmax cross-entropy, recorded for one row, at several."""
    rng = np.random.default_rng(0)
    print(f"  {'us a call':34}{'compiled':>10}{'by hand':>10}{'PyTorch':>10}{'(c-10)/h':>10}"
          f"{'c/torch':>10}")  # fmt: skip
    for sizes in ((784, 128, 64, 10), (784, 16, 16, 10), (64, 32, 10)):
        name = "-".join(map(str, sizes))

        def recorded(sizes: tuple[int, ...] = sizes) -> tuple[MLP, Any, list[Value], Value]:
            model = MLP(
                sizes[0], sizes[1:], activation="sigmoid", init="xavier", rng=random.Random(0)
            )  # fmt: skip
            x, label = [Value(0.0) for _ in range(sizes[0])], Value(0.0)
            return model, losses.cross_entropy(model(x), label), x, label

        (model, loss, x, label), recording = timed(recorded)
        parameters = model.parameters()
        order = by_hand.neuron_order(sizes)
        for dtype in ("float64", "float32"):
            program, compiling = timed(
                lambda: compiled(loss, inputs=[x, label], parameters=parameters, dtype=dtype)  # noqa: B023
            )
            _, emitting = timed(lambda: passes(program))  # noqa: B023
            if sizes == (784, 128, 64, 10):
                seconds = recording + compiling + emitting
                what = f"mlp: recording and compiling {name}, {dtype}, s"
                targets.at_most(what, 2.0, seconds)
            theta = np.array([p.data for p in parameters], dtype)
            for rows in (1, 32, 256):
                X = rng.normal(size=(rows, sizes[0])).astype(dtype)
                labels = rng.integers(0, sizes[-1], rows)
                setting = f"{name}, {rows} rows, {dtype}"
                try:
                    contestants, call = classifiers(program, sizes, theta, order, X, labels)
                except (TypeError, ValueError) as error:  # a program that fails is a missed target
                    print(f"  {setting:34}{error}")
                    targets.at_most(f"{setting}: runs", 1.0, math.nan)
                    continue
                result = race(contestants, SECONDS[options.full] / 3)
                by_numpy = result.ratio("compiled", "by hand", allowance=10e-6)
                columns = [result.microseconds(c) for c in contestants]
                by_torch = result.ratio("compiled", "PyTorch eager") if TORCH else math.nan
                columns += [math.nan] * (3 - len(columns))
                figures = "".join(f"{column:10.1f}" for column in columns)
                print(f"  {setting:34}{figures}{by_numpy:10.2f}{by_torch:10.2f}", flush=True)
                targets.at_most(f"{setting}: (compiled - 10 us) / by hand", 1.1, by_numpy)
                if TORCH:
                    targets.at_most(f"{setting}: compiled / PyTorch eager", 1.0, by_torch)
                show_profile(options, program, call)


def classifiers(
    program: Any,
    sizes: tuple[int, ...],
    theta: np.ndarray,
    order: np.ndarray,
    X: np.ndarray,
    labels: np.ndarray,
) -> tuple[dict[str, Callable[[], Any]], Callable[[], Any]]:
    g = np.empty_like(theta)
    theirs, g_theirs = theta[order], np.empty_like(theta)

    def ours() -> float:
        return program.value_and_grad(X, labels, parameters=theta, out=g)[0]

    contestants: dict[str, Callable[[], Any]] = {
        "compiled": ours,
        "by hand": by_hand.classifier(theirs, g_theirs, sizes, X, labels),
    }
    tolerance = 1e-9 if theta.dtype == np.float64 else 1e-4
    value = ours()
    agree("by hand, value", contestants["by hand"](), value, tolerance)
    agree("by hand, gradient", g_theirs, g[order], tolerance)
    if TORCH:
        step, tensors = in_torch.classifier(by_hand.layers(theirs, sizes), X, labels)
        agree("PyTorch, value", step(), value, tolerance)
        agree("PyTorch, gradient", in_torch.gradient(tensors), g[order], tolerance)
        contestants["PyTorch eager"] = step
    return contestants, ours


# ---------------------------------------------------------------- the transformer
def gpt(targets: Targets, options: argparse.Namespace) -> None:
    """A character transformer of one block, 7 tokens; and four documents in one graph."""
    for elementwise in (True, False):
        model = recordings.Transformer(elementwise=elementwise)
        tokens, *others = recordings.documents(model, (7, 5, 6, 4))
        way = "elementwise" if elementwise else "with dot"

        def record(model: Any = model, tokens: list[int] = tokens) -> Value:
            return model.loss(tokens)

        def record_four(model: Any = model, docs: Any = (tokens, *others)) -> Value:
            return sum(model.loss(document) for document in docs) / 4.0

        (program, ours, g), loss = transformer_program(way, model.parameters, record)
        theta = np.array([p.data for p in model.parameters])
        value = ours()
        agree("transformer, value", value, loss.data, 1e-12)
        agree("transformer, gradient", g, eager_gradient(loss, model.parameters), 1e-12)
        contestants: dict[str, Callable[[], Any]] = {"compiled": ours}
        g_theirs = np.empty_like(theta)
        contestants["by hand"] = by_hand.transformer(
            theta, g_theirs, model.shapes, model.heads, tokens
        )
        agree("by hand, value", contestants["by hand"](), value)
        agree("by hand, gradient", g_theirs, g)
        if TORCH:
            step, tensors = in_torch.transformer(
                by_hand.matrices(theta, model.shapes), model.heads, tokens
            )  # fmt: skip
            agree("PyTorch, value", step(), value)
            agree("PyTorch, gradient", in_torch.gradient(tensors), g)
            contestants["PyTorch eager"] = step
        (four, ours_four, g_four), loss = transformer_program(
            f"{way}, four documents", model.parameters, record_four
        )
        agree("four documents, value", ours_four(), loss.data, 1e-12)
        expected = eager_gradient(loss, model.parameters)
        agree("four documents, gradient", g_four, expected, 1e-12)
        del loss
        result = race(contestants, SECONDS[options.full])
        print(result)
        targets.at_most(f"gpt, {way}: compiled / by hand", 1.2, result.ratio("compiled", "by hand"))
        if TORCH:
            ratio = result.ratio("compiled", "PyTorch eager")
            targets.at_most(f"gpt, {way}: compiled / PyTorch eager", 0.35, ratio)
        # apart from the rest, whose rounds should be short
        result = race({"compiled": ours, "four documents": ours_four}, SECONDS[options.full])
        print(result)
        ratio = result.ratio("four documents", "compiled")
        targets.at_most(f"gpt, {way}: four documents / the longest of them", 2.5, ratio)
        scalars = scalar_step(model.parameters, record)
        result = race({"compiled": ours, "our scalars": scalars}, SECONDS[options.full])
        print(result)
        ratio = result.ratio("our scalars", "compiled")
        if elementwise:
            targets.at_least(f"gpt, {way}: our scalars, collector off / compiled", 400, ratio)
        else:
            print(f"  {'our scalars / compiled':44}{ratio:12.0f}")
        show_profile(options, program, ours)
        show_profile(options, four, ours_four)


def transformer_program(
    what: str, parameters: list[Value], record: Callable[[], Value]
) -> tuple[tuple[Any, Callable[[], float], np.ndarray], Value]:
    """(program, its call, the gradient it fills) and the recorded loss."""
    loss, recording = timed(record)
    program, compiling = timed(lambda: compiled(loss, parameters=parameters))
    _, emitting = timed(lambda: passes(program))
    print(
        f"{what}: {program.graph.count():,} nodes; recorded in {recording:.2f} s, "
        f"compiled in {compiling + emitting:.2f} s"
    )
    theta = np.array([p.data for p in parameters])
    g = np.empty_like(theta)
    return (program, lambda: program.value_and_grad(parameters=theta, out=g)[0], g), loss


# ---------------------------------------------------------------- a recurrent network
def recurrent(targets: Targets, options: argparse.Namespace) -> None:
    """An Elman network over 16 steps, a class at each of them: no targets."""
    steps, inputs, outputs = 16, 8, 27
    for size in (16, 64):
        loss, given, parameters = recordings.recurrent(steps, inputs, size, outputs)
        program = compiled(loss, inputs=given, parameters=parameters)
        theta = np.array([p.data for p in parameters])
        g, g_theirs = np.empty_like(theta), np.empty_like(theta)
        for rows in (1, 32):
            rng = np.random.default_rng(rows)
            X = rng.normal(size=(rows, steps, inputs))
            labels = rng.integers(0, outputs, (rows, steps))

            def ours(X: Any = X, labels: Any = labels) -> float:
                return program.value_and_grad(X, labels, parameters=theta, out=g)[0]  # noqa: B023

            step = by_hand.recurrent(theta, g_theirs, size, outputs, X, labels)
            contestants: dict[str, Callable[[], Any]] = {"compiled": ours, "by hand": step}
            value = ours()
            agree("recurrent by hand, value", step(), value)
            agree("recurrent by hand, gradient", g_theirs, g)
            if TORCH:
                shapes = {"W": (size, size), "U": (size, inputs), "b": (size, 1)}
                shapes |= {"V": (outputs, size), "c": (outputs, 1)}
                step, tensors = in_torch.recurrent(by_hand.matrices(theta, shapes), X, labels)
                agree("recurrent in PyTorch, value", step(), value)
                agree("recurrent in PyTorch, gradient", in_torch.gradient(tensors), g)
                contestants["PyTorch eager"] = step
            result = race(contestants, SECONDS[options.full] / 3)
            what = f"recurrent: {size} wide, {rows} rows"
            print(f"{what}; {program.graph.count():,} nodes\n{result}")
            for name in list(contestants)[1:]:
                targets.note(f"{what}, compiled / {name}", result.ratio("compiled", name))
            show_profile(options, program, ours)


# ---------------------------------------------------------------- handfuls, chains, irregular DAGs
def small(targets: Targets, options: argparse.Namespace) -> None:
    """Graphs in which there is nothing to batch, and one such graph over many rows."""
    numbers = [0.4, -0.7, 1.3]
    parameters = [Value(number) for number in numbers]
    program, ours, theta, g = scalar_program(recordings.expression(*parameters), parameters)
    g_theirs = np.empty(3)
    step = by_hand.expression(theta, g_theirs)
    agree("expression by hand, value", step(), ours())
    agree("expression by hand, gradient", g_theirs, g)
    result = race({"compiled": ours, "by hand, Python floats": step}, SECONDS[options.full] / 3)
    print(f"expression of {program.graph.count()} nodes\n{result}")
    targets.at_most("small: 20-node expression, us", 2.0, result.smallest("compiled"))
    show_profile(options, program, ours)

    for name, chain in (
        ("logistic chain", recordings.logistic_chain),
        ("mixed chain", recordings.mixed_chain),
    ):
        (output, parameters), recording = timed(lambda: chain(10_000))  # noqa: B023
        (program, ours, theta, g), compiling = timed(lambda: scalar_program(output, parameters))  # noqa: B023
        nodes = program.graph.count()
        result = race({"compiled": ours}, SECONDS[options.full] / 3)
        print(f"{name}: {nodes:,} nodes; compiled, with its check, in {compiling:.2f} s\n{result}")
        each = 1e3 * result.smallest("compiled") / 10_000
        targets.at_most(f"small: {name} of 10,000, ns an operation", 60, each)
        show_profile(options, program, ours)
        chain_over_rows(targets, options, name, output, parameters)

    output, parameters = recordings.irregular(20_000)
    (program, ours, theta, g), compiling = timed(lambda: scalar_program(output, parameters))
    nodes = program.graph.count()
    result = race({"compiled": ours}, SECONDS[options.full] / 3)
    print(f"irregular: {nodes:,} nodes; compiled, with its check, in {compiling:.2f} s\n{result}")
    each = 1e3 * result.smallest("compiled") / nodes
    targets.at_most("small: irregular DAG at one row, ns a node", 100, each)
    show_profile(options, program, ours)

    inputs, rest = parameters[:10], parameters[10:]
    program, compiling = timed(lambda: compiled(output, inputs=[inputs], parameters=rest))
    _, emitting = timed(lambda: passes(program))
    theta = np.array([p.data for p in rest])
    g = np.empty_like(theta)
    X = np.array([p.data for p in inputs]) + np.random.default_rng(0).normal(0.0, 0.1, (256, 10))

    def rows() -> float:
        return program.value_and_grad(X, parameters=theta, out=g)[0]

    means, gradients = [], []
    for row in X[:3]:  # the rest go through the same lines
        v, gradient = program.value_and_grad(row[None], parameters=theta)
        for p, number in zip(inputs, row.tolist(), strict=True):
            p.data = number
        recompute(output)
        agree("irregular DAG, value of a row", v, output.data)
        agree("irregular DAG, gradient of a row", gradient, eager_gradient(output, rest))
        means.append(v)
        gradients.append(gradient)
    v, gradient = program.value_and_grad(X[:3], parameters=theta)
    agree("irregular DAG, mean of rows", v, np.mean(means))
    agree("irregular DAG, mean gradient of rows", gradient, np.mean(gradients, 0))
    result = race({"compiled": rows}, SECONDS[options.full] / 3)
    print(f"irregular DAG at 256 rows; compiled in {compiling + emitting:.2f} s\n{result}")
    each = 1e3 * result.smallest("compiled") / nodes / 256
    targets.at_most("small: irregular DAG at 256 rows, ns a node a row", 5, each)
    show_profile(options, program, rows)


def chain_over_rows(
    targets: Targets,
    options: argparse.Namespace,
    name: str,
    output: Value,
    parameters: list[Value],
) -> None:
    """The same chain, where the last parameter is an input: 256 rows."""
    *rest, start = parameters
    X = start.data + np.random.default_rng(0).normal(0.0, 0.01, (256, 1))
    program = compiled(output, inputs=[[start]], parameters=rest)
    theta, g = np.array([p.data for p in rest]), np.empty(len(rest))

    def rows() -> float:
        return program.value_and_grad(X, parameters=theta, out=g)[0]

    _, compiling = timed(rows)  # all passes, and CPython's compiler
    value, _ = program.value_and_grad(X[:1], parameters=theta)
    start.data = float(X[0, 0])
    recompute(output)
    agree(f"{name}, value of a row", value, output.data)
    result = race({"compiled": rows}, SECONDS[options.full] / 3)
    print(f"{name} at 256 rows; first call in {compiling:.2f} s\n{result}")
    nodes = program.graph.count()
    targets.note(f"small: {name} at 256 rows, first call, us a node", 1e6 * compiling / nodes)
    each = 1e3 * result.smallest("compiled") / nodes / 256
    targets.note(f"small: {name} at 256 rows, ns an operation a row", each)


def scalar_program(
    output: Value, parameters: list[Value]
) -> tuple[Any, Callable[[], float], np.ndarray, np.ndarray]:
    """The program, its call, theta and the gradient; found to agree with the scalars."""
    program = compiled(output, parameters=parameters)
    theta = np.array([p.data for p in parameters])
    g = np.empty_like(theta)

    def ours() -> float:
        return program.value_and_grad(parameters=theta, out=g)[0]

    agree("value", ours(), output.data, 1e-12)
    agree("gradient", g, eager_gradient(output, parameters), 1e-12)
    return program, ours, theta, g


# ---------------------------------------------------------------- compile time and memory
def unrolled_moons(nodes: int) -> tuple[Value, list[Value]]:
    model = MLP(2, [16, 16, 1], init="uniform", rng=random.Random(0))
    X, labels = data.moons(max(1, round((nodes - 674) / 644)), noise=0.1, seed=1)
    return recordings.moons(model, X.tolist(), (2.0 * labels - 1.0).tolist()), model.parameters()


def transformer_documents(nodes: int) -> tuple[Value, list[Value]]:
    """Documents of 2 to 6 tokens, until there are enough nodes, through a narrow transformer."""
    model = recordings.Transformer(symbols=5, width=4, heads=2, positions=6)
    lengths = [2 + i * i % 5 for i in range(max(1, round(nodes / 2_350)))]
    costs = [model.loss(document) for document in recordings.documents(model, lengths)]
    return sum(costs) / len(costs), model.parameters


FAMILIES: dict[str, Callable[[int], tuple[Value, list[Value]]]] = {
    "unrolled moons": unrolled_moons,
    "logistic chain": recordings.logistic_chain,
    "transformer documents": transformer_documents,
    "irregular DAG": recordings.irregular,
}


def compile_one(family: str, size: int) -> dict[str, float]:
    """Compile one graph in this (fresh) process: nodes, seconds, and megabytes.

    Memory is the process's largest resident set: after recording, and after compiling.
    """
    timed(lambda: passes(compiled(Value(1.0) * 2.0)))  # imports are not compiling
    (output, parameters), recording = timed(lambda: FAMILIES[family](size))
    before = _megabytes()
    start = time.perf_counter()
    program = compiled(output, parameters=parameters)
    passes(program)
    seconds = time.perf_counter() - start
    return {
        "nodes": program.graph.count(),
        "recording": recording,
        "seconds": seconds,
        "before": before,
        "peak": _megabytes(),
    }


def _megabytes() -> float:
    """The largest resident set so far; getrusage would count the process that started this one."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024.0
    except (OSError, IndexError):  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def scaling(targets: Targets, options: argparse.Namespace) -> None:
    """From 1e3 to 1e6 nodes: seconds and megabytes of compiling, each in a fresh process.

    The quickest of three; a million nodes once. The largest sizes are left out, and named, when the
    one before says they would take long.
    """
    patience = 1200.0 if options.full else 12.0
    print(f"  {'':24}{'nodes':>10}{'record s':>10}{'compile s':>11}{'us a node':>11}"
          f"{'peak MB':>9}{'added, kB a node':>18}")  # fmt: skip
    for family in FAMILIES:
        runs: list[dict[str, float]] = []
        for size in (1_000, 10_000, 100_000, 1_000_000):
            if runs and 10 * (runs[-1]["seconds"] + runs[-1]["recording"]) > patience:
                print(f"  {family:24}{size:10,}  left out: use --full")
                continue
            command = [sys.executable, __file__, "--child", family, str(size)]
            tries = []
            for _ in range(3 if size < 1_000_000 else 1):
                child = subprocess.run(command, capture_output=True, text=True)
                if child.returncode:
                    print(f"  {family:24}{size:10,}  {child.stderr.strip().splitlines()[-1]}")
                    break
                tries.append(json.loads(child.stdout))
            if not tries:
                continue
            run = min(tries, key=lambda run: run["seconds"])
            runs.append(run)
            print(
                f"  {family:24}{run['nodes']:10,}{run['recording']:10.2f}{run['seconds']:11.3f}"
                f"{1e6 * run['seconds'] / run['nodes']:11.2f}{run['peak']:9.0f}"
                f"{1024 * (run['peak'] - run['before']) / run['nodes']:18.2f}",
                flush=True,
            )
        if len(runs) < 2:
            continue
        logs = np.log([[run["nodes"], run["seconds"]] for run in runs[1:]])
        slope = np.polyfit(*logs.T, 1)[0] if len(logs) > 1 else math.nan
        added = [max(run["peak"] - run["before"], 1e-3) for run in runs[-2:]]
        memory = math.log(added[1] / added[0]) / math.log(runs[-1]["nodes"] / runs[-2]["nodes"])
        print(f"  {family:24}slopes in log-log: time {slope:.2f}, memory {memory:.2f}")
        most = max(1e6 * run["seconds"] / run["nodes"] for run in runs[1:])
        reached = f"{runs[-1]['nodes']:.0e}".replace("+0", "")
        targets.at_most(f"scaling: {family}, us a node up to {reached}", 5.0, most)
        targets.at_most(f"scaling: {family}, slope of time", 1.1, slope)


if __name__ == "__main__":
    sys.exit(main())
