"""How long an epoch of `fit` takes: beside NumPy by hand, PyTorch eager, and the bare program.

    python tests/benchmarks/training_epoch.py [--rows 60000] [--rounds 3] [--batch 32]

The networks are 784-16-16-10 and 784-128-64-10 (sigmoids, cross-entropy, gradient descent) on
random rows of MNIST's size. Everyone starts from the same weights, takes the rows in the same order
in float64, on one thread (or BENCHMARK_THREADS), and has to arrive at the same mean loss. They take
turns, one epoch each a round, so that each round gives a ratio; the table has their median and
range. Seconds are the process's own: what else the machine does is not counted. "bare" is the
program's value_and_grad and the optimizer's update, with nothing around them: what fit adds is the
difference. Compiling is not in the epoch; it is printed by itself.

Needs NumPy; PyTorch is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = os.environ.get("BENCHMARK_THREADS", "1")
for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = THREADS  # before NumPy is loaded

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2]))

from micrograd_scratch import MLP, fit, losses, optim  # noqa: E402
from micrograd_scratch.training import compile_loss  # noqa: E402

RATE, SEED = 0.1, 0
NETWORKS = ([784, 16, 16, 10], [784, 128, 64, 10])
Epoch = Callable[[], tuple[float, float]]  # -> seconds, mean loss


def network(sizes: list[int]) -> MLP:
    rng = random.Random(SEED)
    return MLP(sizes[0], sizes[1:], activation="sigmoid", init="xavier", rng=rng)


def batches(rows: int, batch: int) -> Any:
    order = np.random.RandomState(SEED).permutation(rows)
    return [order[start : start + batch] for start in range(0, rows, batch)]


# ---------------------------------------------------------------- the epoch, by each contender
def by_fit(sizes: list[int], X: Any, Y: Any, batch: int) -> tuple[float, float]:
    stamps: list[float] = []

    def stamp(history: Any) -> None:
        stamps.append(time.process_time())

    model = network(sizes)
    history = fit(
        model, X, Y, loss="cross_entropy", optimizer=optim.SGD(RATE), epochs=2, batch_size=batch,
        callbacks=[stamp], progress=False, seed=SEED,
    )  # fmt: skip
    return stamps[1] - stamps[0], history.loss[0]  # the second is a whole epoch and no compiling


def bare(sizes: list[int], X: Any, Y: Any, batch: int) -> Epoch:
    model = network(sizes)
    started = time.process_time()
    program = compile_loss(model, losses.cross_entropy, X, Y)
    theta = np.array([p.data for p in model.parameters()])
    gradient = np.empty_like(theta)
    program.value_and_grad(X[:batch], Y[:batch], parameters=theta, out=gradient)
    print(f"  compiled in {time.process_time() - started:.2f} s")
    optimizer = optim.SGD(RATE)

    def epoch() -> tuple[float, float]:
        point, total = theta.copy(), 0.0
        started = time.process_time()
        for rows in batches(len(X), batch):
            x, y = X[rows], Y[rows]
            value, _ = program.value_and_grad(x, y, parameters=point, out=gradient)
            point[:], _ = optimizer.update(point, gradient, None)
            total += value * len(rows)
        return time.process_time() - started, total / len(X)

    return epoch


def by_hand(sizes: list[int], X: Any, Y: Any, batch: int) -> Epoch:
    state = network(sizes).state_dict()
    arrays = [np.array(array) for array in state.values()]

    def epoch() -> tuple[float, float]:
        W1, b1, W2, b2, W3, b3 = (array.copy() for array in arrays)
        total = 0.0
        started = time.process_time()
        for rows in batches(len(X), batch):
            x, y = X[rows], Y[rows]
            n = np.arange(len(rows))
            h1 = 1.0 / (1.0 + np.exp(-(x @ W1.T + b1)))
            h2 = 1.0 / (1.0 + np.exp(-(h1 @ W2.T + b2)))
            z = h2 @ W3.T + b3
            z -= z.max(axis=1, keepdims=True)
            e = np.exp(z)
            s = e.sum(axis=1, keepdims=True)
            total += (np.log(s)[:, 0] - z[n, y]).sum()
            dz = e / s
            dz[n, y] -= 1.0
            dz /= len(rows)
            d2 = dz @ W3 * h2 * (1.0 - h2)
            d1 = d2 @ W2 * h1 * (1.0 - h1)
            W3 -= RATE * (dz.T @ h2)
            b3 -= RATE * dz.sum(axis=0)
            W2 -= RATE * (d2.T @ h1)
            b2 -= RATE * d2.sum(axis=0)
            W1 -= RATE * (d1.T @ x)
            b1 -= RATE * d1.sum(axis=0)
        return time.process_time() - started, total / len(X)

    return epoch


def by_torch(sizes: list[int], X: Any, Y: Any, batch: int) -> Epoch:
    import torch

    torch.set_num_threads(int(THREADS))
    state = {
        k: torch.tensor(v, dtype=torch.float64) for k, v in network(sizes).state_dict().items()
    }
    x_all, y_all = torch.from_numpy(X), torch.from_numpy(Y)

    def epoch() -> tuple[float, float]:
        pairs = zip(sizes, sizes[1:], strict=False)
        modules = [m for i, o in pairs for m in (torch.nn.Linear(i, o), torch.nn.Sigmoid())][:-1]
        model = torch.nn.Sequential(*modules).double()
        model.load_state_dict(state)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        order = [torch.from_numpy(rows) for rows in batches(len(X), batch)]
        total = 0.0
        started = time.process_time()
        for rows in order:
            loss = torch.nn.functional.cross_entropy(model(x_all[rows]), y_all[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        return time.process_time() - started, total / len(X)

    return epoch


# ---------------------------------------------------------------- measuring
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    rng = np.random.default_rng(SEED)
    X, Y = rng.random((options.rows, 784)), rng.integers(0, 10, options.rows)
    for sizes in NETWORKS:
        print(f"{'-'.join(map(str, sizes))}, {options.rows:,} rows, {options.batch} a step")
        data = sizes, X, Y, options.batch
        contenders: dict[str, Epoch] = {
            "NumPy by hand": by_hand(*data),
            "fit": lambda data=data: by_fit(*data),  # type: ignore[misc]
            "bare": bare(*data),
        }
        try:
            contenders["PyTorch eager"] = by_torch(*data)
        except ImportError:
            print("  PyTorch is not installed: left out")
        measured: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(options.rounds):
            names = list(contenders)
            reached = {}
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                seconds, reached[name] = contenders[name]()
                measured[name].append(seconds)
            assert max(reached.values()) - min(reached.values()) < 1e-9, reached
        print(f"  {'':<14} {'seconds':>8}   times NumPy by hand (median, range)")
        for name, times in measured.items():
            ratios = [t / hand for t, hand in zip(times, measured["NumPy by hand"], strict=True)]
            middle, seconds = statistics.median(ratios), statistics.median(times)
            print(
                f"  {name:<14} {seconds:8.2f}   {middle:.2f}  ({min(ratios):.2f}-{max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
