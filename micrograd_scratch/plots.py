"""Pictures with matplotlib: each function draws one result and returns the axes.

`ax=` takes axes of your own; without it a new figure is made. `save_pictures` writes a whole
comparison to a folder. It leaves out graphs and networks, which are drawn by Graphviz (drawing.py).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .comparison import Comparison, Gradients, Growth, Shares, StepSizes, Training

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
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for part, draw in PICTURES.items():
        figure = Figure(figsize=(7.2, 4.8), layout="constrained")
        draw(getattr(comparison, part), ax=figure.subplots())
        for extension in formats:
            path = place / f"{part}.{extension}"
            with tempfile.TemporaryDirectory(dir=place) as scratch:  # removed whatever happens
                fresh = Path(scratch) / path.name
                figure.savefig(fresh, dpi=150)
                os.replace(fresh, path)
            paths.append(path)
    return paths


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(7.2, 4.8), layout="constrained")[1]


def _finished(ax: Any) -> Any:
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small")
    return ax
