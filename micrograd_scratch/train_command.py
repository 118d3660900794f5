"""`python -m micrograd_scratch train xor|moons|digits|mnist`: a network trained before your eyes.

    xor     2-2-1, sigmoids, squared error, plain gradient descent: the smallest demonstration
    moons   2-16-16-1, ReLUs, hinge loss: micrograd's demonstration
    digits  64-32-10, ReLUs, cross-entropy: handwritten digits of 8x8, a fifth held out
    mnist   784-128-64-10, sigmoids, cross-entropy: those of 28x28, with their own test rows

Every default can be changed by an option. It leaves out anything that `fit` does not do.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HELD_OUT = 0.2


@dataclass(frozen=True)
class Task:
    """The defaults of a demonstration; batch None is all rows."""

    about: str
    hidden: tuple[int, ...]
    activation: str
    loss: str
    optimizer: str
    rate: float
    epochs: int
    batch: int | None


TASKS = {
    "xor": Task("exclusive or", (2,), "sigmoid", "squared_error", "sgd", 5.0, 3000, None),
    "moons": Task("two moons", (16, 16), "relu", "hinge", "adam", 0.02, 100, 25),
    "digits": Task("digits of 8x8", (32,), "relu", "cross_entropy", "adam", 0.005, 30, 32),
    "mnist": Task("digits of 28x28", (128, 64), "sigmoid", "cross_entropy", "adam", 0.002, 5, 32),
}
INIT = {"relu": "he", "leaky_relu": "he", "elu": "he", "gelu": "he", "silu": "he"}  # else Xavier's


def add_subparser(commands: Any) -> None:
    """Add `train` to what `argparse.ArgumentParser.add_subparsers` returned."""
    parser = commands.add_parser(
        "train",
        help="train a network on XOR, two moons or handwritten digits",
        description="Train a network and say how well it does. Without options: "
        + "; ".join(f"{name} {_defaults(task)}" for name, task in TASKS.items())
        + ".",
    )
    add = parser.add_argument
    add("task", choices=TASKS, help="what to learn")
    add("--hidden", type=_sizes, metavar="N,N", help="neurons in the hidden layers, such as 16,16")
    add("--activation", metavar="NAME", help="of the hidden layers: sigmoid, tanh, relu, ...")
    add("--loss", choices=("squared_error", "cross_entropy"), help="for digits and mnist")
    add("--optimizer", choices=("sgd", "adam"), help="what makes a step of a gradient")
    add("--lr", type=_rate, metavar="X", help="learning rate")
    add("--epochs", type=_count, metavar="N", help="how often every row is seen")
    add("--batch", type=_count, metavar="N", help="rows in one step")
    add("--seed", type=seed, default=0, metavar="N", help="of weights, order and noise (default 0)")
    add("--folder", type=Path, metavar="DIR", help="where MNIST's files are (default: the cache)")
    add("--starts", type=_count, metavar="N", help="xor: how many of N starts get stuck, by width")
    add("--diagnose", action="store_true", help="say what stands in the way of learning, if any")
    add("--save", type=Path, metavar="FILE", help="write the weights: .safetensors or .json")
    add("--plot", type=Path, metavar="FILE", help="draw the losses: .png, .svg or .pdf")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run, program=parser.prog)


def run(options: argparse.Namespace) -> int:
    """The command; its exit code: 0, 2 for what the user can mend, 130 after Ctrl-C."""
    try:
        _check(options)
        return _starts(options) if options.starts else _train(options)
    except (ArithmeticError, ValueError, OSError, ImportError) as error:
        print(f"{options.program}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _check(options: argparse.Namespace) -> None:
    """What would fail after the training is refused before it."""
    if options.starts and options.task != "xor":
        raise ValueError(f"--starts is for xor, not for {options.task}: leave it out")
    if options.folder is not None and options.task != "mnist":
        raise ValueError(f"--folder is for mnist, not for {options.task}: leave it out")
    if options.loss is not None and options.task in ("xor", "moons"):
        raise ValueError(f"--loss is for digits and mnist, not for {options.task}: leave it out")
    for path, suffixes in (
        (options.save, (".safetensors", ".json")),
        (options.plot, (".png", ".svg", ".pdf")),
    ):
        if path is not None and path.suffix not in suffixes:
            raise ValueError(f"{path}: give a file that ends with {', '.join(suffixes)}")
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"{path}: there is no folder {path.parent}, create it first")
    if options.plot is not None and find_spec("matplotlib") is None:
        from .plots import ADVICE

        raise ImportError(ADVICE)
    if options.save is not None and options.save.suffix == ".safetensors":
        from .weights import _safetensors

        _safetensors()


def _train(options: argparse.Namespace) -> int:
    from . import optim
    from .nn import MLP
    from .training import fit

    (X, Y), held = _data(options)
    task = TASKS[options.task]
    kind = options.loss or task.loss
    hidden = options.hidden or task.hidden
    activation = options.activation or task.activation
    classes = X.shape[1] > 2  # digits: ten outputs, else one
    output = "sigmoid" if kind == "squared_error" else "linear"
    model = MLP(
        X.shape[1],
        [*hidden, 10 if classes else 1],
        activation=activation,
        output=output,
        init=INIT.get(activation, "xavier"),
        rng=random.Random(options.seed),
    )
    rate = options.lr or task.rate
    adam = (options.optimizer or task.optimizer) == "adam"
    optimizer: optim.Optimizer = optim.Adam(rate) if adam else optim.SGD(rate)
    Y, held = _targets(kind, classes, Y), held and (held[0], _targets(kind, classes, held[1]))
    sizes = "-".join(map(str, (X.shape[1], *hidden, 10 if classes else 1)))
    title = (
        f"{options.task}: a {sizes} network of {len(model.parameters()):,} parameters, "
        f"{activation}, {kind}, {optimizer!r}"
    )

    def say(text: str) -> None:
        if not options.json:
            print(text, flush=True)

    say(textwrap.fill(title, 80, break_on_hyphens=False))
    if options.task == "xor":
        say(f"\n{_gradients(model, X, Y)}\n")
    history = fit(
        model,
        X,
        Y,
        loss=kind,
        optimizer=optimizer,
        epochs=options.epochs or task.epochs,
        batch_size=options.batch or task.batch,
        validation=held,
        metrics=["accuracy"],
        seed=options.seed,
    )
    if options.json:
        last = history[-1] if history.epochs else {}
        about = {"task": options.task, "network": sizes, "seed": options.seed}
        counts = {"epochs": history.epochs, "steps": history.steps, "stopped": history.stopped}
        print(json.dumps({**about, **counts, **last}, indent=2))
    elif history.epochs:
        say(_result(history))
    if options.task == "xor":
        say(_answers(model, X, Y))
    if options.diagnose:
        from .diagnosis import diagnose

        say(f"\n{diagnose(model, X[:1000], Y[:1000], kind, optimizer)}")
    if options.save is not None:
        from .weights import save

        save(model, options.save)
        say(f"weights in {options.save}")
    if options.plot is not None and history.epochs:
        from .plots import save_picture

        save_picture(lambda ax: history.plot(ax=ax), options.plot)
        say(f"picture in {options.plot}")
    return 130 if history.stopped == "interrupted" else 0


def _data(options: argparse.Namespace) -> tuple[tuple[Any, Any], tuple[Any, Any] | None]:
    """Rows to train on, and rows held out, if any."""
    from . import data

    if options.task == "xor":
        return data.xor(), None
    if options.task == "moons":
        return data.moons(100, noise=0.1, seed=options.seed), None
    if options.task == "mnist":
        try:
            train = data.mnist(options.folder)
            return train, data.mnist(options.folder, split="test")
        except data.DataError as error:
            if options.folder is not None:
                raise
            print(f"{options.program}: {error}. Training on digits instead.", file=sys.stderr)
            options.task = "digits"
    return data.split(*data.digits(), held_out=HELD_OUT, seed=options.seed)


def _targets(loss: str, classes: bool, Y: Any) -> Any:
    """The targets in the form that the loss takes."""
    import numpy

    if loss == "hinge":
        return 2 * Y - 1
    return numpy.eye(10)[Y] if classes and loss == "squared_error" else Y


def _gradients(model: Any, X: Any, Y: Any) -> str:
    """Each weight's derivative before training: by one backward pass, and by nudging it."""
    from .engine import recompute
    from .losses import squared_error
    from .operations import total
    from .tables import Table, as_text

    rows = zip(X.tolist(), Y.tolist(), strict=True)
    loss = total([squared_error(model(x), y) for x, y in rows]) / len(X)
    model.zero_grad()
    loss.backward()
    lines, step = [], 1e-5
    for p in model.parameters():
        at, nudged = p.data, []
        for p.data in (at + step, at - step):
            recompute(loss)
            nudged.append(loss.data)
        p.data = at
        slope = (nudged[0] - nudged[1]) / (2 * step)
        lines.append((p.label, f"{at:.6f}", f"{p.grad:.10f}", f"{slope:.10f}"))
    evaluations = 2 * len(lines)
    note = f"The third column took one pass back, the last one {evaluations} evaluations."
    heads = ("parameter", "value", "backward", "one at a time")
    return as_text([Table("Derivatives of the loss before training", heads, lines, note)])


def _result(history: Any) -> str:
    last = history[-1]
    words = [f"loss {last['loss']:.4g}", f"accuracy {last['accuracy']:.2%}"]
    if "validation_accuracy" in last:
        words.append(f"on rows not trained on {last['validation_accuracy']:.2%}")
    steps = f"{history.epochs:,} epochs, {history.steps:,} steps, {last['seconds']:.2f} s"
    interrupted = " (interrupted)" if history.stopped == "interrupted" else ""
    return f"{', '.join(words)} after {steps}{interrupted}"


def _answers(model: Any, X: Any, Y: Any) -> str:
    """What the trained network says to the four rows of XOR, and what to do if it is stuck."""
    rows = list(zip(X.tolist(), Y.tolist(), strict=True))
    answers = [model(x).data for x, _ in rows]
    lines = [
        f"  {x[0]:.0f} xor {x[1]:.0f} = {y:.0f}: {answer:.4f}"
        for (x, y), answer in zip(rows, answers, strict=True)
    ]
    if any((answer > 0.5) != (y > 0.5) for (_, y), answer in zip(rows, answers, strict=True)):
        lines.append(
            "Not learned, which more --epochs mend unless it is stuck: then try another --seed or "
            "--hidden 4; --starts 400 counts how many starts get stuck."
        )
    return "\n".join(lines)


def _starts(options: argparse.Namespace) -> int:
    """How many random starts do not learn XOR, against the width."""
    from .xor_starts import xor_starts

    task = TASKS["xor"]
    widths = options.hidden or (2, 3, 4, 6, 8)
    found = xor_starts(
        widths,
        options.starts,
        epochs=options.epochs or task.epochs,
        learning_rate=options.lr or task.rate,
        seed=options.seed,
    )
    if options.json:
        shares = [{"hidden": w.hidden, "starts": w.starts, "stuck": w.stuck} for w in found.widths]
        print(json.dumps(shares, indent=2))
    else:
        print(found)
    if options.plot is not None:
        from .plots import save_picture

        save_picture(found.plot, options.plot)
    return 0


def _defaults(task: Task) -> str:
    sizes = "-".join(map(str, task.hidden))
    return f"learns {task.about} with {sizes} hidden, {task.activation}, {task.epochs} epochs"


# ---------------------------------------------------------------- arguments
def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= 10**8):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {10**8}")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(_count, text.split(",")))


def seed(text: str) -> int:
    """A seed, as every command takes it."""
    if not (text.isascii() and text.isdigit() and int(text[:11]) < 2**32):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to {2**32 - 1}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no learning rate above 0 and below 1e6")
    return rate
