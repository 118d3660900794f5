"""Pictures with matplotlib: each function draws one result and returns the axes.

`ax=` takes axes of your own; without it a new figure is made. `save_pictures` writes a whole
comparison to a folder. It leaves out graphs and networks, which are drawn by Graphviz (drawing.py).
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .collapsing import find_parts
from .engine import as_value, no_grad
from .files import write_whole

if TYPE_CHECKING:
    from .comparison import Comparison, Gradients, Growth, Shares, StepSizes, Training

ADVICE = "pictures need matplotlib, the extra [plot]: pip install matplotlib"
# A method keeps its color in all pictures, an executor its line and marker. Okabe and Ito's
# palette (2008), whose colors also differ for the color-blind.
COLORS = {
    "reverse mode": "#009e73",
    "forward mode": "#56b4e9",
    "forward differences": "#e69f00",
    "central differences": "#d55e00",
    "forward": "#e69f00",
    "central": "#d55e00",
    "fourth": "#cc79a7",
    "complex": "#0072b2",
}
STEP_NAMES = {
    "forward": "forward difference",
    "central": "central difference",
    "fourth": "fourth-order difference",
    "complex": "complex step",
}
STYLES = {"Values": ("-", "o"), "floats": ("--", "s")}
OTHER_STYLE = (":", "^")
_SIZE = (7.2, 4.8)  # inches
CLASS_COLORS = ("#b35806", "#542788", "#009e73", "#56b4e9", "#e69f00", "#cc79a7")


def plot_gradients(gradients: Gradients, ax: Any = None) -> Any:
    """Exactness against cost of one gradient: bottom left is best."""
    ax = _axes(ax)
    for c in gradients.costs:
        _, marker = STYLES.get(c.executor, OTHER_STYLE)
        ax.scatter(
            c.seconds_per_gradient,
            c.largest_relative_error or 1e-17,  # a log axis has no place for an error of 0
            s=70,
            color=COLORS[c.method],
            marker=marker,
            label=f"{c.method}, {c.executor}",
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="seconds per gradient",
        ylabel="largest error, relative to the gradient",
        title=f"One gradient of {gradients.parameters:,} parameters, {gradients.batch_rows} rows",
    )
    return _finished(ax)


def plot_steps(steps: StepSizes, ax: Any = None) -> Any:
    """The V-curve: error against step by method, with reverse mode's error as a line."""
    ax = _axes(ax)
    for method, errors in steps.relative_errors.items():
        ax.plot(steps.steps, errors, ".-", color=COLORS[method], label=STEP_NAMES[method])
    ax.axhline(
        steps.reverse_relative_error or 1e-17,
        color=COLORS["reverse mode"],
        linestyle="--",
        label="reverse mode, no step",
    )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="step h",
        ylabel="relative error",
        title=f"Error of the slope by {steps.parameter} against the step",
    )
    return _finished(ax)


def plot_growth(growth: Growth, ax: Any = None) -> Any:
    """Seconds of one gradient against the number of parameters, with the fitted exponents."""
    ax = _axes(ax)
    for e in growth.exponents:
        line, marker = STYLES.get(e.executor, OTHER_STYLE)
        ax.plot(
            growth.parameters,
            [c.seconds_per_gradient for c in growth.of(e.method, e.executor)],
            linestyle=line,
            marker=marker,
            color=COLORS[e.method],
            label=f"{e.method}, {e.executor}: slope {e.of_seconds:.2f}",
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="parameters",
        ylabel="seconds per gradient",
        title="Cost of one gradient as the network grows",
    )
    return _finished(ax)


def plot_shares(shares: Shares, ax: Any = None) -> Any:
    """The share of the graph that a nudge to one parameter recomputes, by layer."""
    ax = _axes(ax)
    names = [g.group for g in shares.groups]
    for offset, label, color, values in (
        (-0.2, "of the nodes", "#999999", [g.share_of_nodes for g in shares.groups]),
        (0.2, "of the work", "#d55e00", [g.share_of_operations for g in shares.groups]),
    ):
        places = [i + offset for i in range(len(names))]
        bars = ax.barh(places, [100 * v for v in values], height=0.4, color=color, label=label)
        ax.bar_label(bars, fmt="%.1f %%", padding=3)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(
        xlim=(0, 100),
        xlabel="% of the graph recomputed after one nudge",
        title="What one nudge changes, by layer",
    )
    return _finished(ax)


def plot_training(training: Training, ax: Any = None) -> Any:
    """Accuracy on held-out rows against seconds, of every contender that made a step."""
    ax = _axes(ax)
    for run in training.runs:
        if run.steps:
            line, marker = STYLES.get(run.executor, OTHER_STYLE)
            ax.plot(
                run.seconds,
                [100 * a for a in run.accuracies],
                drawstyle="steps-post",  # accuracy changes when a gradient is finished
                linestyle=line,
                marker=marker if len(run.seconds) < 20 else None,
                color=COLORS[run.method],
                label=f"{run.method}, {run.executor}: {run.steps:,} steps",
            )
    ax.set(
        ylim=(0, 100),
        xlabel="seconds of training",
        ylabel="% of held-out rows right",
        title="The same network, the same seconds",
    )
    return _finished(ax)


PICTURES: dict[str, Callable[..., Any]] = {  # attribute of a Comparison -> how it is drawn
    "gradients": plot_gradients,
    "steps": plot_steps,
    "growth": plot_growth,
    "shares": plot_shares,
    "training": plot_training,
}


def save_pictures(
    comparison: Comparison,
    folder: str | os.PathLike[str],
    formats: tuple[str, ...] = ("png", "svg"),
) -> list[Path]:
    """Write every part of a comparison as a picture; the paths written, folder created if missing.

    Each file appears whole or not at all. OSError if the folder cannot be written.
    """
    paths = []
    for part, draw in PICTURES.items():
        same = [Path(folder) / f"{part}.{extension}" for extension in formats]
        save_picture(partial(draw, getattr(comparison, part)), *same, dpi=150)
        paths += same
    return paths


def save_picture(draw: Callable[[Any], Any], *paths: Path, dpi: int | str = "figure") -> None:
    """Write what `draw` does with axes to every path, in the format of its suffix, as one whole."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(_SIZE, layout="constrained")
    draw(figure.subplots())
    for path in paths:
        picture = io.BytesIO()
        figure.savefig(picture, format=path.suffix[1:], dpi=dpi)
        write_whole(path, picture.getvalue())


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(ADVICE) from error
    return plt.subplots(figsize=_SIZE, layout="constrained")[1]


def _finished(ax: Any, beside: bool = False) -> Any:
    """A grid and a legend: beside the axes if it is long, since inside it would hide curves."""
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)
    entries = len(ax.get_legend_handles_labels()[0])
    if beside or entries > 5:
        ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    elif entries:
        ax.legend(fontsize="small")
    return ax


# ---------------------------------------------------------------- models and their training
def decision_boundary(
    model: Callable[..., Any],
    X: Sequence[Sequence[float]],
    Y: Sequence[float],
    ax: Any = None,
    *,
    threshold: float = 0.0,
    resolution: int = 60,
) -> Any:
    """What a model of two inputs answers over the plane, and the samples X (rows of two) on it.

    A model of one output is colored by its score, with a line where that is `threshold` (0.5 for
    probabilities); one of several outputs by the largest. It is called resolution**2 times, and
    nothing is recorded. Y holds the samples' classes. ValueError for rows of another length.
    """
    import numpy

    points = numpy.asarray(X, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"a decision boundary needs rows of 2 inputs, got shape {points.shape}")
    classes = sorted(set(numpy.asarray(Y).tolist()))
    margin = 0.1 * (points.max(axis=0) - points.min(axis=0)) + 0.1
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    across, up = (numpy.linspace(low[i], high[i], resolution) for i in (0, 1))
    with no_grad():
        answers = [model([x, y]) for y in up.tolist() for x in across.tolist()]
    ax = _axes(ax)
    if isinstance(answers[0], (list, tuple)):
        scores = numpy.array([[as_value(output).data for output in row] for row in answers])
        best = scores.argmax(axis=1).reshape(resolution, resolution)
        edges = numpy.arange(scores.shape[1] + 1) - 0.5
        fills = [CLASS_COLORS[i % len(CLASS_COLORS)] for i in range(scores.shape[1])]
        ax.contourf(across, up, best, levels=edges, colors=fills, alpha=0.3)
    else:
        scores = numpy.array([as_value(answer).data for answer in answers])
        field = scores.reshape(resolution, resolution)
        reach = max(float(numpy.abs(field - threshold).max()), 1e-12)
        levels = threshold + reach * numpy.linspace(-1.0, 1.0, 21)
        ax.contourf(across, up, field, levels=levels, cmap="PuOr", alpha=0.6)
        if field.min() < threshold < field.max():
            ax.contour(across, up, field, levels=[threshold], colors="black", linewidths=1.5)
    size = min(max(3000 / len(points), 22), 90)  # few points are drawn larger
    for i, label in enumerate(classes):
        rows = points[numpy.asarray(Y) == label]
        color = CLASS_COLORS[i % len(CLASS_COLORS)]
        ax.scatter(
            *rows.T, s=size, color=color, edgecolors="white", linewidths=0.8, label=f"{label:g}"
        )
    ax.set(xlabel="first input", ylabel="second input", title="What the model answers")
    return _finished(ax, beside=True)


def training_history(
    history: Mapping[str, Sequence[float]] | Sequence[float], ax: Any = None
) -> Any:
    """Curves over the epochs: a mapping from names to numbers, or the numbers of the loss.

    The axis is logarithmic if all numbers are positive and the largest is 50 times the smallest.
    """
    curves = dict(history) if isinstance(history, Mapping) else {"loss": history}
    if not any(len(numbers) for numbers in curves.values()):
        raise ValueError("the history is empty: train for an epoch first")
    ax = _axes(ax)
    for name, numbers in curves.items():
        ax.plot(range(1, len(numbers) + 1), numbers, label=name)
    every = [x for numbers in curves.values() for x in numbers if math.isfinite(x)]
    if every and min(every) > 0.0 and max(every) > 50.0 * min(every):
        ax.set_yscale("log")
    ax.set(xlabel="epoch", ylabel=", ".join(curves), title="Training")
    return _finished(ax)


def gradient_histograms(model: Any, ax: Any = None, *, bins: int = 40) -> Any:
    """How large the parameters' gradients are, layer by layer: vanishing ones lie to the left.

    The horizontal axis is the gradient's size on a logarithmic scale; gradients of exactly 0 (dead
    units, or backward has not run) have no place on it and are counted in the legend.
    """
    import numpy

    ax = _axes(ax)
    parts = find_parts(model, by_layer=True)
    sizes = {part: numpy.abs([float(p.grad) for p in part.parameters]) for part in parts}
    shown = numpy.concatenate([size[(size > 0) & numpy.isfinite(size)] for size in sizes.values()])
    low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.1, 1.0)
    edges = numpy.geomspace(low / 1.1, high * 1.1, bins + 1)
    for part, size in sizes.items():
        finite = numpy.isfinite(size)
        counts = {"of 0": int((size == 0.0).sum()), "not finite": int((~finite).sum())}
        left_out = [f"{count} {what}" for what, count in counts.items() if count]
        label = ", ".join([f"{part.title}: {len(size)}", *left_out])
        heights, _ = numpy.histogram(size[finite], edges)
        ax.stairs(heights, edges, label=label, linewidth=1.8)
    ax.set(xscale="log", xlabel="size of the gradient", ylabel="parameters")
    ax.set_ylim(bottom=0.0)
    ax.set_title("Gradients by layer")
    return _finished(ax)
