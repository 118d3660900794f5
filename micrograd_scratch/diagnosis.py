"""Why a training does not get on: `diagnose(model, X, Y, loss)` says it in words, table and plot.

Layer by layer: how large activations and gradients are, how many sigmoids are saturated and ReLUs
dead, how far one update moves the weights, and the first operation that is not finite. Layers are
read off the recorded graph, so that hand-wired networks and plain formulas have them too. It leaves
out the course of a training (that is `fit`'s history) and any change to the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import optim
from .compiler import compile
from .compiler.execution import is_finite
from .compiler.runtime import slopes_by_element
from .engine import Value, topological_order
from .operations import Operation
from .tables import Result, Table
from .training import (
    Array,
    Loss,
    as_values,
    checked_data,
    compile_loss,
    find_anomaly,
    find_loss,
    find_optimizer,
    parameters_of,
)

SATURATED = 0.01  # a slope below this share of the activation's largest


@dataclass(frozen=True)
class LayerReport:
    """A layer in numbers; sizes are root mean squares, nan where there is nothing to measure.

    activations  names of its activations, "" if none is one that saturates or rectifies
    units        how many of these
    activation   size of the outputs
    slope        mean slope of the activations: what each passes on of a gradient
    saturated    share of (row, unit) whose slope is below 1 % of the largest
    dead         units that have slope 0 at every row
    alike        whether all units (more than one) give the same
    weight       size of the parameters
    gradient     size of the gradient of the mean loss by them
    update       size of one update of the optimizer over that of the parameters
    """

    name: str
    parameters: int
    activations: str
    units: int
    activation: float
    slope: float
    saturated: float
    dead: int
    alike: bool
    weight: float
    gradient: float
    update: float


@dataclass(frozen=True)
class Finding:
    """Something that stands out, and what to try."""

    what: str
    advice: str


@dataclass(frozen=True, repr=False)
class Diagnosis(Result):
    """What `diagnose` found; prints as a table and words.

    loss      the mean over the rows
    anomaly   the first operation that is not finite, with its line; "" if all are
    findings  what stands out, the most urgent first
    """

    rows: int
    loss: float
    anomaly: str
    layers: tuple[LayerReport, ...]
    findings: tuple[Finding, ...]

    def tables(self) -> list[Table]:
        heads = (
            "layer", "activation", "parameters", "weight", "gradient", "update/weight", "output",
            "slope", "saturated", "dead",
        )  # fmt: skip
        rows = [
            (
                layer.name,
                layer.activations or "-",
                f"{layer.parameters:,}",
                *map(_short, (layer.weight, layer.gradient, layer.update, layer.activation)),
                _short(layer.slope),
                "-" if math.isnan(layer.saturated) else f"{layer.saturated:.0%}",
                f"{layer.dead} of {layer.units}" if layer.units else "-",
            )
            for layer in self.layers
        ]
        title = f"Diagnosis on {self.rows:,} rows, mean loss {self.loss:.4g}"
        note = "Sizes are root mean squares; slope is the mean derivative of the activations."
        words = [Table(f"{i}. {f.what}", note=f.advice) for i, f in enumerate(self.findings, 1)]
        return [Table(title, heads, rows, note, left=2), *words]

    def plot(self, ax: Any = None) -> Any:
        """Sizes by layer on a logarithmic axis; returns matplotlib's axes."""
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots()
        names = [layer.name for layer in self.layers]
        for label, marker in (
            ("activation", "o"),
            ("slope", "v"),
            ("weight", "s"),
            ("gradient", "D"),
            ("update", "^"),
        ):
            sizes = [getattr(layer, label) or math.nan for layer in self.layers]
            shown = "update / weight" if label == "update" else label
            ax.plot(names, sizes, marker=marker, label=shown)
        ax.set(yscale="log", xlabel="layer", ylabel="size")
        ax.set_title("Activations and gradients by layer")
        ax.legend(fontsize="small")
        return ax


def diagnose(
    model: Any, X: Any, Y: Any, loss: Loss, optimizer: optim.Optimizer | None = None
) -> Diagnosis:
    """What the model's layers do with these rows, and what stands in the way of learning.

    model, X, Y and loss as for `fit`; `optimizer`, default Adam() as there, is asked for its first
    update. Nothing is changed. Where the model's own code branches, layers are those of the first
    row. Errors as for `fit`, except that numbers which are not finite are a finding.
    """
    X, Y = checked_data(X, Y)
    loss = find_loss(loss)
    optimizer = find_optimizer(optimizer)
    parameters = parameters_of(model)
    theta = np.array([p.data for p in parameters])
    program = compile_loss(model, loss, X, Y)
    mean, gradient = program.value_and_grad(X, Y)
    anomaly = ""
    if not (math.isfinite(mean) and is_finite(gradient)):
        anomaly = find_anomaly(program, model, loss, X, Y)
    with np.errstate(all="ignore"):
        update = optimizer.update(theta, gradient, None)[0] - theta
        reports = tuple(
            _report(layer, X, theta, gradient, update) for layer in _layers(model, parameters, X)
        )
    rule = f"{type(optimizer).__name__}(lr={optimizer.lr:g})"
    findings = tuple(_findings(reports, anomaly, X, rule))
    return Diagnosis(len(X), float(mean), anomaly, reports, findings)


# ---------------------------------------------------------------- layers
@dataclass
class _Layer:
    """A layer of the recorded graph, and how to compute its activations."""

    name: str
    places: list[int]  # of its parameters in theta
    activations: list[Value]  # unary nodes
    outputs: list[Value]
    inputs: list[Value]  # the leaves that stand for a row


def _layers(model: Any, parameters: list[Value], X: Array) -> list[_Layer]:
    """The model's layers: a layer is what lies between one nonlinear function and the next."""
    x = as_values(X[0].tolist())
    prediction = model(x)
    roots = [prediction] if isinstance(prediction, Value) else list(prediction)
    place = {p: i for i, p in enumerate(parameters)}
    depth: dict[Value, int] = {}  # of a node that depends on parameters: the layer after it
    first: dict[Value, int] = {}  # parameter -> the layer that uses it
    unary: dict[int, list[Value]] = {}
    for node in topological_order(*roots):
        behind = [depth[p] for p in node.parents if p in depth]
        direct = [p for p in node.parents if p in place]
        if not behind and not direct:
            continue
        depth[node] = max(behind, default=1)
        for p in direct:
            first[p] = min(first.get(p, depth[node]), depth[node])
        if _kind(node.row) != "linear" and behind:
            unary.setdefault(depth[node], []).append(node)
            depth[node] += 1
    numbers = sorted(set(first.values()))
    layers = []
    for position, number in enumerate(numbers, 1):
        places = [place[p] for p in parameters if first.get(p) == number]
        activations = [v for v in unary.get(number, []) if _kind(v.row) in ("bounded", "rectifier")]
        outputs: Sequence[Value] = activations or unary.get(number, [])
        if number == numbers[-1] and not activations:
            outputs = roots
        layers.append(_Layer(f"{position}", places, activations, list(outputs), _flat(x)))
    return layers


def _kind(row: Operation) -> str:
    """ "bounded" (flat on both sides), "rectifier" (on one), "other" or "linear", by its slopes."""
    if row.arity != 1:
        return "linear"
    slopes = [_slope_at(row, x) for x in (-30.0, -0.5, 0.5, 30.0)]
    if any(slope is None for slope in slopes) or len(set(slopes)) == 1:
        return "linear"
    low, _, _, high = (abs(slope) < 1e-6 for slope in slopes)
    if low and high:
        return "bounded"
    return "rectifier" if low and abs(slopes[3]) < 1e6 else "other"


def _slope_at(row: Operation, x: float) -> Any:
    return row.slopes(row.number(x), x)[0]


def _flat(nested: Any) -> list[Value]:
    return [v for item in nested for v in _flat(item)] if isinstance(nested, list) else [nested]


def _report(layer: _Layer, X: Array, theta: Array, gradient: Array, update: Array) -> LayerReport:
    rows = X.reshape(len(X), -1)
    operands = [v.parents[0] for v in layer.activations]
    wanted = list(dict.fromkeys([*layer.outputs, *operands]))
    column = {v: i for i, v in enumerate(wanted)}
    numbers = compile(wanted, inputs=[layer.inputs])(rows)
    outputs = numbers[:, [column[v] for v in layer.outputs]]
    slopes, shares = np.empty((2, len(X), len(layer.activations)))
    for i, v in enumerate(layer.activations):
        xs, ys = numbers[:, column[v.parents[0]]], numbers[:, column[v]]
        slope, _ = slopes_by_element(v.row, 0)  # on arrays, comparisons would add as bools do
        slopes[:, i] = np.abs(slope(ys, xs))
        shares[:, i] = slopes[:, i] / max(abs(_slope_at(v.row, x)) for x in _GRID)
    units = len(layer.activations)
    rectifies = [_kind(v.row) == "rectifier" for v in layer.activations]
    bounded = shares[:, [not r for r in rectifies]]
    size = _size(theta[layer.places])
    return LayerReport(
        name=layer.name,
        parameters=len(layer.places),
        activations="/".join(dict.fromkeys(v.op for v in layer.activations)),
        units=units,
        activation=_size(outputs),
        slope=float(slopes.mean()) if units else math.nan,
        saturated=float((bounded < SATURATED).mean()) if bounded.size else math.nan,
        dead=int((shares < 1e-12).all(axis=0).sum()),
        alike=outputs.shape[1] > 1 and bool((outputs == outputs[:, :1]).all()),
        weight=size,
        gradient=_size(gradient[layer.places]),
        update=_size(update[layer.places]) / size if size else math.nan,
    )


_GRID = [i / 10 for i in range(-60, 61)]  # where an activation's largest slope is looked for


def _size(numbers: Array) -> float:
    """The root mean square; nan of nothing."""
    return float(np.sqrt(np.mean(np.square(numbers)))) if numbers.size else math.nan


# ---------------------------------------------------------------- words
def _findings(layers: Sequence[LayerReport], anomaly: str, X: Array, rule: str) -> list[Finding]:
    found = []
    if anomaly:
        found.append(
            Finding(
                f"Not finite: {anomaly}",
                "All other figures wait for that. Try a smaller learning rate, losses that take "
                "logits (binary_cross_entropy, cross_entropy) instead of the log of a probability, "
                "and inputs of about 1.",
            )
        )
    found += _about_inputs(X)
    for layer in layers:
        found += _about_units(layer)
    found += _about_outputs(layers)
    found += _about_gradients(layers)
    found += _about_updates(layers, rule)
    if not found:
        found.append(
            Finding(
                "Nothing stands out",
                "If the loss still does not fall: train longer, with a larger network, or look for "
                "labels that do not belong to their rows.",
            )
        )
    return found


def _about_inputs(X: Array) -> list[Finding]:
    largest = float(np.abs(X).max())
    if largest <= 10.0:
        return []
    what = f"Inputs reach {largest:.4g}"
    return [Finding(what, "Scale them to about 1: divide by the largest, or (X - mean) / std.")]


def _about_units(layer: LayerReport) -> list[Finding]:
    found = []
    if layer.saturated > 0.3:
        found.append(
            Finding(
                f"Layer {layer.name}: {layer.saturated:.0%} of its {layer.activations} outputs are "
                "saturated",
                "There the slope is below 1 % of the largest, and next to no gradient passes. Try "
                'smaller weights to begin with (init="xavier"), inputs scaled to about 1, or relu.',
            )
        )
    if layer.dead:
        found.append(
            Finding(
                f"Layer {layer.name}: {layer.dead} of {layer.units} {layer.activations} are dead",
                "Their slope is 0 for every row, so their weights cannot change any more. Try a "
                'smaller learning rate, init="he", or leaky_relu; new weights for a network that '
                "has them already.",
            )
        )
    if layer.alike and layer.dead < layer.units:  # what is dead gives 0 everywhere
        found.append(
            Finding(
                f"Layer {layer.name}: all units are alike",
                "Equal weights have equal gradients, so they stay equal: the layer counts as one "
                "unit. Draw the weights at random.",
            )
        )
    return found


def _about_outputs(layers: Sequence[LayerReport]) -> list[Finding]:
    large = [layer for layer in layers if layer.activation > 100.0]
    if not large:
        return []
    return [
        Finding(
            f"{_named(large)} put{_s(large)} out numbers of size {_short(large[-1].activation)}",
            'Try smaller weights to begin with (init="he" for relu, "xavier" for sigmoid and tanh) '
            "and a smaller learning rate.",
        )
    ]


def _about_gradients(layers: Sequence[LayerReport]) -> list[Finding]:
    found = []
    none = [layer for layer in layers if layer.gradient == 0.0]
    for layer in none:
        found.append(
            Finding(
                f"Layer {layer.name} gets no gradient at all",
                "Everything behind it is flat, dead or detached: see what the layers after it say.",
            )
        )
    if len(layers) < 2 or none or not all(math.isfinite(layer.gradient) for layer in layers):
        return found
    ratio = layers[0].gradient / layers[-1].gradient
    slopes = [layer.slope for layer in layers if not math.isnan(layer.slope)]
    passed = math.prod(slopes)
    if ratio < 0.02:
        found.append(
            Finding(
                f"Gradients vanish: layer {layers[0].name}'s are {1 / ratio:,.0f} times smaller "
                f"than layer {layers[-1].name}'s",
                f"On its way back a gradient is multiplied by the slope of every activation; here "
                f"these average {', '.join(map(_short, slopes))}, together {_short(passed)} (a "
                "sigmoid's is at most 0.25). Try relu or tanh, fewer layers, or Adam, which "
                "scales each parameter's gradient by itself.",
            )
        )
    if ratio > 50:
        found.append(
            Finding(
                f"Gradients explode: layer {layers[0].name}'s are {ratio:,.0f} times larger than "
                f"layer {layers[-1].name}'s",
                'Try smaller weights to begin with (init="he" for relu, "xavier" for sigmoid and '
                "tanh) and a smaller learning rate.",
            )
        )
    return found


def _about_updates(layers: Sequence[LayerReport], rule: str) -> list[Finding]:
    """Healthy updates are about a thousandth of the weights (Karpathy, makemore 3, 2022)."""
    found = []
    # below 1e-8 there is no gradient to speak of, which is another finding
    slow = sorted((x for x in layers if 1e-8 < x.update < 1e-4), key=lambda layer: layer.update)
    others = "" if rule.startswith("Adam") else ", or Adam"
    if slow:
        found.append(
            Finding(
                f"{_named(slow)} hardly move{_s(slow)}: one step of {rule} changes layer "
                f"{slow[0].name} by {_short(slow[0].update)} of its size",
                f"It would take about {1 / slow[0].update:,.0f} such steps to change it by as much "
                "as it is; about 1,000 are usual. Try a larger learning rate, smaller batches for "
                f"more steps an epoch{others}.",
            )
        )
    fast = sorted((x for x in layers if x.update > 0.1), key=lambda layer: -layer.update)
    if fast:
        found.append(
            Finding(
                f"{_named(fast)} jump{_s(fast)}: one step of {rule} changes layer {fast[0].name} "
                f"by {_short(fast[0].update)} of its size",
                "About 0.001 is usual. Try a smaller learning rate.",
            )
        )
    return found


def _named(layers: Sequence[LayerReport]) -> str:
    """ "Layer 2", "Layers 1, 2"."""
    names = sorted((layer.name for layer in layers), key=int)
    return f"Layer{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _s(layers: Sequence[LayerReport]) -> str:
    return "" if len(layers) > 1 else "s"


def _short(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:.2g}"
