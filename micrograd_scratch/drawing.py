"""The computation graph as a picture that the chain rule can be read off.

`draw(loss)` gives one node per Value - label, operation, number, gradient - colored by the sign and
size of its gradient, and one edge per operand. Graphs of more than a few hundred nodes say nothing
as pictures: collapsing.py draws them by neuron and layer. Networks as such are drawn by
network_drawing.py, motion by animation.py, single paths by explanation.py; files and notebooks are
rendering.py's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .anomalies import source_line
from .engine import Constant, Value
from .rendering import BACKGROUND, Drawing, cell_text, label_text, number_text, printable

if TYPE_CHECKING:
    from .compiler.program import Program
    from .compiler.stages import Stage, Stages
    from .compiler.trace import TracedProgram
    from .program_drawing import Collapse

MAX_NODES = 200  # beyond this a scalar graph is unreadable, and dot needs over a second

# Colors: dark text (#1f2937) on each of the fills has a contrast of at least 7 to 1.
TEXT, LINE = "#1f2937", "#6b7280"
POSITIVE, NEGATIVE, NOT_RUN, NOT_FINITE = "#6fb1f7", "#f9a36f", "#eceef1", "#f6e05e"
BORDERS = {  # how the border tells what a node is: attributes of the node, and of a legend cell
    "result": {"color": "#111827", "penwidth": "3", "style": "rounded,filled"},
    "operation": {"color": LINE, "penwidth": "1", "style": "rounded,filled"},
    "input": {"color": "#0f766e", "penwidth": "2", "style": "filled"},
    "parameter": {"color": "#7c3aed", "penwidth": "2", "style": "filled", "peripheries": "2"},
    "module": {"color": "#7c3aed", "penwidth": "2", "style": "rounded,filled", "peripheries": "2"},
    "constant": {"color": LINE, "penwidth": "1", "style": "dashed,filled"},
}
_ADVICE = "limit depth=, collapse neurons and layers with modules=model, or raise max_nodes="
_ON_THE_EDGES = (  # in two lines: a longer one would stretch the legend's boxes
    "on the edges: local derivatives,\nwhich the gradient is multiplied by on its way back"
)
T = TypeVar("T")
_LABEL_OF_PARAMETER = re.compile(r"[Wb]\d+\[\d+(,\d+)?\]")  # as MLP labels them


@overload
def draw(value: Stages) -> Collapse: ...


@overload
def draw(
    value: Value | Sequence[Value] | Program | TracedProgram | Stage,
    *,
    depth: int | None = None,
    max_nodes: int = MAX_NODES,
    modules: Any = None,
    collapse: str | None = None,
    parameters: Iterable[Value] = (),
    derivatives: bool = False,
    legend: bool = True,
    rankdir: str | None = None,
    format: str = "svg",
) -> Drawing: ...


def draw(
    value: Any,
    *,
    depth: int | None = None,
    max_nodes: int = MAX_NODES,
    modules: Any = None,
    collapse: str | None = None,
    parameters: Iterable[Value] = (),
    derivatives: bool = False,
    legend: bool = True,
    rankdir: str | None = None,
    format: str = "svg",
) -> Drawing | Collapse:
    """The computation graph of a Value (or of several) as a `graphviz.Digraph` that shows itself.

    A compiled program is drawn as its steps with their shapes (a compiled function, once called, as
    the program of the first path taken), one of its stages as its boxes, and `program.stages` as
    the collapse from scalars to steps; of what follows, these take `max_nodes`, `rankdir` and
    `format`.

    depth        draw only what is at most this many operations away from the value
    max_nodes    refuse to draw more nodes than this
    modules      a Module, or several: draw each of their neurons or layers as one node, and all
                 nodes that play the same part (for each sample of a batch, say) as one
    collapse     "neuron" or "layer"; by default neurons if that can still be read
    parameters   leaves to be shown as parameters rather than inputs, besides those of the modules
                 and those labelled as an MLP labels them (W1[0,1], b1[0])
    derivatives  write the local derivative on each edge: a node's gradient is the sum, over the
                 edges that leave it, of derivative times the gradient at the other end
    rankdir      "LR" left to right, "TB" top to bottom; graphs lie and programs stand by default
    format       of `render()`; notebooks show SVG, and `.save(name)` goes by the name's suffix

    An operand used twice has two edges. Dashed edges pass no gradient on. `backward` counts as not
    run if the gradient of the value drawn is 0. ValueError for a graph that is too large.

    >>> x = Value(3.0, label="x")
    >>> y = x * x
    >>> y.backward()
    >>> draw(y)
    *  data 9  grad 1
    ├─ x  data 3  grad 6
    └─ x  data 3  grad 6
    """
    if rankdir not in (None, "LR", "RL", "TB", "BT"):
        raise ValueError(f"rankdir is LR, RL, TB or BT, got {rankdir!r}")
    if not isinstance(value, (Value, list)):
        from .program_drawing import draw_compiled

        drawing = draw_compiled(value, max_nodes, rankdir or "TB", format)
        if drawing is not None:
            return drawing
    try:
        roots = [value] if isinstance(value, Value) else list(value)
    except TypeError:
        network = ": draw_network(model) draws one" if hasattr(value, "parameters") else ""
        got = printable(repr(value))
        raise TypeError(f"draw takes a Value or several, got {got}{network}") from None
    for root in roots:
        if not isinstance(root, Value):
            raise TypeError(f"draw takes a Value or several, got {printable(repr(root))}")
    if modules is not None:
        if depth is not None or derivatives:
            raise ValueError("depth= and derivatives= need single nodes: leave out modules=")
        from .collapsing import draw_collapsed

        drawing = draw_collapsed(roots, modules, collapse, max_nodes, set(parameters), legend)
    elif collapse is not None:
        raise ValueError(f"collapse={collapse!r} needs the modules: draw(loss, modules=model)")
    else:
        nodes = nodes_to_draw(roots, depth, max_nodes)
        picture = Picture(roots, nodes, set(parameters))
        drawing = picture.drawing(derivatives=derivatives, legend=legend)
    drawing.graph_attr["rankdir"] = rankdir or "LR"
    drawing.format = format
    return drawing


def nodes_to_draw(
    roots: Sequence[Value],
    depth: int | None,
    max_nodes: int,
    advice: str = _ADVICE,
) -> list[Value]:
    """What is at most `depth` operations above the roots, nearest first, if that is few enough.

    Stops counting at `max_nodes`, so that a graph of millions of nodes is refused at once.
    """
    if depth is not None and depth < 0:
        raise ValueError(f"depth must be at least 0, got {depth}")
    nodes: list[Value] = []
    level = dict.fromkeys(roots)
    seen = set(level)
    distance = 0
    while level and len(nodes) <= max_nodes:
        nodes += level
        if distance == depth:
            break
        distance += 1
        level = dict.fromkeys(p for node in level for p in node.parents if p not in seen)
        seen.update(level)
    if len(nodes) > max_nodes:
        raise ValueError(
            f"the graph has more than {max_nodes} nodes, too many for a picture: {advice}"
        )
    return nodes


class Picture:
    """How the Values of one drawing look: all share the scale of the gradients' colors.

    ran  whether backward has run from a root. Gradients are 0.0 before it and the root's own is
         1.0 after it, so a root whose gradient is 0 has not been run.
    """

    def __init__(
        self, roots: Sequence[Value], nodes: Sequence[Value], parameters: set[Value]
    ) -> None:
        self.roots, self.nodes, self.parameters = roots, nodes, parameters
        self.names = {node: f"n{i}" for i, node in enumerate(nodes)}
        self.ran = any(root.grad != 0.0 for root in roots)
        self.largest = largest_size(map(self.grad_of, nodes))
        self._roots = set(roots)

    def kind(self, node: Value) -> str:
        """result, operation, constant, parameter or input."""
        if isinstance(node, Constant):
            return "constant"
        if node.parents:
            return "result" if node in self._roots else "operation"
        named = _LABEL_OF_PARAMETER.fullmatch(str(node.label)) is not None
        return "parameter" if named or node in self.parameters else "input"

    def grad_of(self, node: Value) -> float:
        """The gradient that is shown."""
        return node.grad

    def gradient(self, node: Value) -> str:
        """The gradient as text."""
        grad = self.grad_of(node)
        return number_text(grad) if self.ran or grad != 0.0 else "not run"

    def fill(self, node: Value) -> str:
        """The color of the gradient."""
        grad = self.grad_of(node)
        if isinstance(node, Constant) or not (self.ran or grad != 0.0):
            return NOT_RUN
        return color_of(grad, self.largest)

    def lines(self, node: Value) -> dict[str, str]:
        """What the node says, line by line: name (its label and operation), data, grad, more."""
        lines = {}
        if node.label or node.op:
            lines["name"] = " = ".join(filter(None, [printable(node.label), node.op]))
        lines["data"] = f"data {number_text(node.data)}"
        if not isinstance(node, Constant):
            lines["grad"] = f"grad {self.gradient(node)}"
        hidden = sum(p not in self.names for p in node.parents)  # by `depth`
        if hidden:
            lines["more"] = f"{hidden} operand{'s' * (hidden > 1)} not drawn"
        return lines

    def drawing(
        self,
        *,
        derivatives: bool = False,
        legend: bool = True,
        lit: set[Value] | None = None,
        lit_edges: set[tuple[Value, int]] | None = None,
        note: str = "",
    ) -> Drawing:
        """The drawing, with an edge for every operand of every node that is drawn.

        lit, lit_edges  what to highlight, edges as (node, position of the operand); the rest pales
        note            a line of text below the picture
        """
        drawing = blank_drawing()
        for node in self.nodes:
            pale = lit is not None and node not in lit
            style = self._style(node, pale)
            name = self.names[node]
            drawing.node(name, label_text(*self.lines(node).values()), id=name, **style)
        for node in self.nodes:
            slopes = local_derivatives(node, derivatives)
            for position, p in enumerate(node.parents):
                if p in self.names:
                    edge = (self.names[p], self.names[node])
                    bright = None if lit_edges is None else (node, position) in lit_edges
                    style = edge_style(slopes[position], derivatives, bright)
                    drawing.edge(*edge, id=f"{self.names[node]}.{position}", **style)
        if legend or note:
            kinds = {self.kind(node) for node in self.nodes}
            drawing.graph_attr["label"] = legend_label(
                [kind for kind in BORDERS if kind in kinds] if legend else [],
                self.largest if self.ran else None,
                derivatives,
                note,
            )
        drawing.tree = self.tree(derivatives)
        return drawing

    def _style(self, node: Value, pale: bool) -> dict[str, str]:
        style = BORDERS[self.kind(node)]
        if pale:
            return style | {"fillcolor": BACKGROUND, "color": "#d1d5db", "penwidth": "1"}
        return style | {"fillcolor": self.fill(node)}

    def tree(self, derivatives: bool = False) -> str:
        """The graph as text, results first, every node with its operands once."""

        def operands(node: Value) -> list[tuple[str, Value]]:
            slopes = local_derivatives(node, derivatives)
            return [
                (f"[{slope_text(slope)}] " if derivatives else "", p)
                for p, slope in zip(node.parents, slopes, strict=True)
                if p in self.names
            ]

        text = text_tree(self.roots, operands, self.line)
        return text if self.ran else f"{text}\n(backward has not run from here)"

    def line(self, node: Value) -> str:
        """One node of the text tree: name, operation, number, gradient, source line if known."""
        lines = self.lines(node)
        name = lines.pop("name", self.kind(node))
        where = [f"at {source_line(node)}"] if source_line(node) else []
        return "  ".join([name, *lines.values(), *where])


def text_tree(
    roots: Sequence[T], operands: Callable[[T], list[tuple[str, T]]], line: Callable[[T], str]
) -> str:
    """A graph as a tree of text, roots first; what was told already is only named again.

    operands  what stands below something, each with what is written before it
    line      what is written for something, its name first, two spaces behind it
    """
    lines: list[str] = []
    told: set[T] = set()
    # what is still to be told: (node, what stands before it, what stands before its operands)
    stack = [(root, "", "") for root in reversed(roots)]
    while stack:
        node, before, below = stack.pop()
        below_it = operands(node)
        if node in told and below_it:
            lines.append(f"{before}{line(node).split('  ')[0]}  (above)")
            continue
        told.add(node)
        lines.append(before + line(node))
        branches = ["├─ "] * (len(below_it) - 1) + ["└─ "]
        further = ["│  "] * (len(below_it) - 1) + ["   "]
        stack += [
            (operand, below + branch + mark, below + space)
            for (mark, operand), branch, space in zip(below_it, branches, further, strict=False)
        ][::-1]
    return "\n".join(lines)


# ---------------------------------------------------------------- the looks of nodes and edges
def blank_drawing() -> Drawing:
    """A Drawing with the colors and fonts that all pictures share, and nothing in it."""
    return Drawing(
        format="svg",
        graph_attr={
            "rankdir": "LR", "bgcolor": BACKGROUND, "pad": "0.2", "nodesep": "0.2",
            "ranksep": "0.4", "fontname": "Helvetica", "fontsize": "10", "fontcolor": TEXT,
            "labelloc": "b",
        },
        node_attr={
            "shape": "box", "fontname": "Helvetica", "fontsize": "11", "fontcolor": TEXT,
            "margin": "0.1,0.05", "width": "0.3", "height": "0.3",
        },
        edge_attr={
            "color": LINE, "arrowsize": "0.6", "fontname": "Helvetica", "fontsize": "10",
            "fontcolor": TEXT,
        },
    )  # fmt: skip


def edge_style(slope: Any, derivatives: bool, bright: bool | None) -> dict[str, str]:
    """Attributes of an edge with that local derivative; `bright` highlights it, or pales it."""
    style = {}
    if derivatives:
        style["label"] = label_text(slope_text(slope))
    if slope is None:
        style["style"] = "dashed"
    if bright is not None:
        style |= {"color": "#b91c1c", "penwidth": "2.5"} if bright else {"color": "#d1d5db"}
    return style


def slope_text(slope: Any) -> str:
    """A local derivative as text."""
    return "none" if slope is None else number_text(slope)


def local_derivatives(node: Value, wanted: bool = True) -> Sequence[Any]:
    """d node / d parent for each parent, None for no dependence.

    If the numbers are not wanted, they are only computed where one could be None, and 0.0 stands
    for the others.
    """
    if not node.parents or not (wanted or node.row.selective):
        return [0.0] * len(node.parents)
    return node.row.slopes(node.data, *[p.data for p in node.parents])


def largest_size(numbers: Iterable[Any]) -> float:
    """The largest finite absolute value, 0.0 if there is none."""
    return max((abs(x) for x in map(as_number, numbers) if math.isfinite(x)), default=0.0)


def as_number(x: Any) -> float:
    """x as a float, nan if it is none: people write None into `.grad`."""
    try:
        return float(x)
    except (TypeError, ValueError):
        return math.nan


def color_of(number: Any, largest: float) -> str:
    """Blue for positive, orange for negative, white for 0, yellow for nan and infinities.

    The strength goes by the square root, so that a gradient of a hundredth of the largest is seen.
    """
    x = as_number(number)
    if not math.isfinite(x):
        return NOT_FINITE
    share = math.sqrt(abs(x) / largest) if largest else 0.0
    return mix("#ffffff", POSITIVE if x > 0 else NEGATIVE, min(share, 1.0))


def mix(start: str, end: str, share: float) -> str:
    """The color `share` of the way from start to end, each "#rrggbb"."""
    pairs = zip(bytes.fromhex(start[1:]), bytes.fromhex(end[1:]), strict=True)
    return "#" + bytes(round(a + (b - a) * share) for a, b in pairs).hex()


def legend_label(
    kinds: Sequence[str], largest: float | None, derivatives: bool = False, note: str = ""
) -> str:
    """The legend as an HTML-like label: the kinds that occur, the scale of the gradients' colors.

    largest  the gradient at the scale's ends; None if backward has not run
    """
    rows = []
    if kinds:
        cells = [_kind_cell(kind) for kind in kinds]
        if largest is None:
            cells.append(f'<TD BGCOLOR="{NOT_RUN}">backward has not run from here</TD>')
        else:
            shares = (-1.0, -0.25, 0.0, 0.25, 1.0) if largest else (0.0,)
            cells += ["<TD>gradient</TD>", *scale_cells(largest, shares)]
        rows.append(cells)
    if derivatives:
        note = "\n".join([_ON_THE_EDGES, note]) if note else _ON_THE_EDGES
    return legend_table(rows, note)


def scale_cells(largest: float, shares: Sequence[float]) -> list[str]:
    """These shares of the largest number, each on its color."""
    numbers = [share * largest for share in shares]
    return [f'<TD BGCOLOR="{color_of(x, largest)}">{number_text(x)}</TD>' for x in numbers]


def legend_table(rows: Sequence[Sequence[str]], note: str) -> str:
    """Rows of cells, and the lines of a note below them, as an HTML-like label."""
    width = len(rows[0]) if rows else 1
    lines = [[f'<TD COLSPAN="{width}">{cell_text(line)}</TD>'] for line in note.splitlines()]
    table = "".join(f"<TR>{''.join(cells)}</TR>" for cells in [*rows, *lines])
    return f'<<TABLE BORDER="0" CELLSPACING="4" CELLPADDING="3" CELLBORDER="0">{table}</TABLE>>'


def _kind_cell(kind: str) -> str:
    border = BORDERS[kind]
    style = ",".join(word for word in border["style"].split(",") if word != "filled")
    styled = f' STYLE="{style}"' if style else ""
    width = 1 if border["penwidth"] == "1" else 2
    return f'<TD BORDER="{width}" COLOR="{border["color"]}"{styled}>{kind}</TD>'
