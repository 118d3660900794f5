"""Networks as columns of neurons: `draw_network(model)`.

Edges are colored and weighted by their weights (or by the gradients of these), neurons by their
activation for an input. What is drawn is a list of `Unit`s. Any module can be drawn that has a
method `units(x)` which returns them, or `layers`, or `neurons` with weights `w` and a bias `b`. It
leaves out the graph that a network computes: that is drawing.py's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .drawing import (
    BORDERS,
    blank_drawing,
    color_of,
    largest_size,
    legend_table,
    mix,
    scale_cells,
)
from .engine import Value
from .rendering import BACKGROUND, Drawing, label_text, number_text, printable

_MAX_WIDTH = 16
_COLUMN, _ROW = 110.0, 46.0  # points between neurons
_FAINT, _WEIGHT_POSITIVE, _WEIGHT_NEGATIVE = "#d5d9df", "#1d4ed8", "#c2410c"


class Unit(NamedTuple):
    """An input or a neuron of a network, for `draw_network`.

    name        what it is called, "x0" or "1.3"; a unit of a free-form network may have any
    column      0 for inputs, and for a neuron more than for any of its sources
    sources     (position of a unit in the list, weight of the connection), () for an input
    bias        the bias, None if there is none
    activation  the activation's name, "" for an input
    output      the number it puts out for the input given, None without one
    """

    name: str
    column: int
    sources: Sequence[tuple[int, Value]] = ()
    bias: Value | None = None
    activation: str = ""
    output: float | None = None


def draw_network(
    model: Any,
    x: Sequence[Any] | None = None,
    *,
    gradients: bool = False,
    max_width: int = _MAX_WIDTH,
    legend: bool = True,
) -> Drawing:
    """The network's neurons in columns, inputs on the left, as a Digraph that shows itself.

    x          one input, as the model takes it: neurons are colored by their activations for it
    gradients  color and weight the connections by the gradients of their weights instead
    max_width  a layer of more neurons is shown by its first and last ones, and how many more it has

    Blue is positive and orange negative, for weights as for activations; a thicker line is a
    larger weight. TypeError for a model that has none of `units`, `layers`, `neurons` and `w`.
    """
    if max_width < 3:
        raise ValueError(f"max_width must be at least 3, got {max_width}")
    units = model.units(x) if hasattr(model, "units") else _units_of_layers(model, x)
    columns: dict[int, list[int]] = {}
    for i, unit in enumerate(units):
        columns.setdefault(unit.column, []).append(i)
    shown: dict[int, tuple[float, float]] = {}  # position of a unit -> place in the picture
    drawing = blank_drawing()
    tallest = max(min(len(column), max_width) for column in columns.values())
    apart = _COLUMN + 8 * tallest  # room for the lines of tall columns
    for at, column in sorted(columns.items()):
        kept, hidden = _elide(column, max_width)
        top = (tallest - len(kept) - bool(hidden)) / 2
        for row, i in enumerate(kept):
            below_the_gap = bool(hidden) and row >= len(kept) // 2
            shown[i] = at * apart, -(top + row + below_the_gap) * _ROW
        if hidden:
            place = at * apart, -(top + len(kept) // 2) * _ROW
            gap = {"shape": "box", "style": "filled", "color": BACKGROUND, "pos": _pos(place)}
            drawing.node(f"more{at}", f"{hidden} more", fillcolor=BACKGROUND, **gap)
    adjacent = all(
        unit.column == units[source].column + 1 for unit in units for source, _ in unit.sources
    )
    # neurons have their places, unless lines would run through neurons in between
    drawing.graph_attr.update({"layout": "nop", "splines": "line"} if adjacent else {})
    drawing.graph_attr["outputorder"] = "edgesfirst"
    largest = largest_size(unit.output for unit in units if unit.output is not None)
    last = max(columns)
    for i, place in shown.items():
        unit = units[i]
        kind = "operation" if unit.sources else "input"
        style = BORDERS["result" if unit.column == last else kind]
        text = printable(unit.name, 20) if unit.output is None else format(unit.output, ".2g")
        shape = _CIRCLE if len(text) <= _FITS else _OVAL
        fill = "#ffffff" if unit.output is None else color_of(unit.output, largest)
        attributes = {**style, "fillcolor": fill, "style": "filled"}
        drawing.node(f"n{i}", label_text(text), pos=_pos(place), **shape, **attributes)
    weights = [w for unit in units for _, w in unit.sources]
    heaviest = largest_size(w.grad if gradients else w.data for w in weights)
    connections = [
        (w.grad if gradients else w.data, source, target)
        for target in shown
        for source, w in units[target].sources
        if source in shown
    ]
    for number, source, target in sorted(connections, key=lambda connection: abs(connection[0])):
        drawing.edge(f"n{source}", f"n{target}", **_connection(number, heaviest))
    drawing.tree = _text(units, columns, max_width, gradients)
    if legend:
        what = "gradients of weights" if gradients else "weights"
        drawing.graph_attr["label"] = _legend(what, heaviest, largest, drawing.tree.split("\n")[0])
    return drawing


_FITS = 8  # characters
_CIRCLE = {"shape": "circle", "width": "0.55", "fixedsize": "true", "fontsize": "8"}
_OVAL = {"shape": "oval", "width": "0.55", "height": "0.5", "fontsize": "8"}


def _units_of_layers(model: Any, x: Sequence[Any] | None) -> list[Unit]:
    """The units of a module with `layers`, with `neurons`, or of one neuron."""
    layers = getattr(model, "layers", [model])
    groups = [getattr(layer, "neurons", [layer]) for layer in layers]
    if not all(hasattr(neuron, "w") for neurons in groups for neuron in neurons):
        raise TypeError(
            f"cannot draw {printable(repr(model))} as a network: it needs layers of neurons with "
            "weights w and a bias b, or a method units(x) that lists draw_network's Units"
        )
    inputs = len(groups[0][0].w)
    outputs: Any = [None] * inputs if x is None else list(x)
    if len(outputs) != inputs:
        raise ValueError(f"the network takes {inputs} inputs, got {len(outputs)}")
    units = [Unit(f"x{i}", 0, output=_number(output)) for i, output in enumerate(outputs)]
    before = range(inputs)
    for number, (layer, neurons) in enumerate(zip(layers, groups, strict=True), 1):
        outputs = [None] * len(neurons) if x is None else layer(outputs)
        outputs = [outputs] if isinstance(outputs, Value) else outputs
        activation = getattr(layer, "activation", "")
        name = str(getattr(activation, "__name__", activation))
        start = len(units)
        for i, (neuron, output) in enumerate(zip(neurons, outputs, strict=True)):
            sources = list(zip(before, neuron.w, strict=True))
            unit = Unit(f"{number}.{i}", number, sources, neuron.b, name, _number(output))
            units.append(unit)
        before = range(start, len(units))
    return units


def _number(output: Any) -> float | None:
    return output.data if isinstance(output, Value) else output


def _elide(column: list[int], max_width: int) -> tuple[list[int], int]:
    """The units of a column that are shown, and how many are not."""
    if len(column) <= max_width:
        return column, 0
    first = (max_width - 1) // 2
    last = max_width - 1 - first
    return column[:first] + column[-last:], len(column) - first - last


def _pos(place: tuple[float, float]) -> str:
    return f"{place[0]:g},{place[1]:g}"


def _connection(number: float, largest: float) -> dict[str, str]:
    """How an edge looks that carries the number."""
    share = min(abs(number) / largest, 1.0) if largest and number == number else 0.0
    color = mix(_FAINT, _WEIGHT_POSITIVE if number > 0 else _WEIGHT_NEGATIVE, share**0.5)
    return {"color": color, "penwidth": f"{0.4 + 2.6 * share:.2f}", "arrowhead": "none"}


_TIGHT = 'CELLSPACING="0" CELLPADDING="0"'


def _legend(what: str, heaviest: float, largest: float, summary: str) -> str:
    cells = [f"<TD>{what}</TD>"]
    for share in (-1.0, -0.25, 0.25, 1.0):
        look = _connection(share, 1.0)
        size = f'FIXEDSIZE="TRUE" WIDTH="16" HEIGHT="{math.ceil(float(look["penwidth"]))}"'
        line = f'<TR><TD {size} BGCOLOR="{look["color"]}"></TD></TR>'
        cells.append(f'<TD><TABLE BORDER="0" CELLBORDER="0" {_TIGHT}>{line}</TABLE></TD>')
        cells.append(f"<TD>{number_text(share * heaviest)}</TD>")
    if largest:
        cells += ["<TD>activations</TD>", *scale_cells(largest, (-1.0, 0.0, 1.0))]
    return legend_table([cells], summary)


def _text(
    units: Sequence[Unit], columns: dict[int, list[int]], max_width: int, gradients: bool
) -> str:
    """The network as text: a summary, then a line for each neuron shown."""
    summary = []
    lines = []
    for _, column in sorted(columns.items()):
        inputs = "input" if len(column) == 1 else "inputs"
        activations = dict.fromkeys(units[i].activation or inputs for i in column)
        summary.append(f"{len(column)} {'/'.join(activations)}")
        kept, hidden = _elide(column, max_width)
        for row, i in enumerate(kept):
            if hidden and row == len(kept) // 2:
                lines.append(f"  ... {hidden} more ...")
            lines.append(_unit_text(units, units[i], gradients))
    return "\n".join([" -> ".join(summary), *lines])


def _unit_text(units: Sequence[Unit], unit: Unit, gradients: bool) -> str:
    words = [f"  {printable(unit.name)}"]
    if unit.output is not None:
        words.append(f"output {number_text(unit.output)}")
    if unit.bias is not None:
        words.append(f"bias {number_text(unit.bias.grad if gradients else unit.bias.data)}")
    terms = [
        f"{number_text(w.grad if gradients else w.data)}*{printable(units[source].name)}"
        for source, w in unit.sources[:4]
    ]
    if terms:
        more = f" and {len(unit.sources) - 4} more" if len(unit.sources) > 4 else ""
        words.append(f"{'weight gradients' if gradients else 'weights'} {', '.join(terms)}{more}")
    return "  ".join(words)
