"""Compiled programs as pictures: their steps as a graph, and the collapse from scalars to steps.

`draw(program)` and `draw(stage)` are graphs of boxes, laid out by Graphviz. `draw(program.stages)`
is one picture of all stages, one above another, in which a dot is a scalar node: it is plain SVG
and needs no layout engine. It leaves out what the stages are (compiler/stages.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from .compiler.program import Program
from .compiler.stages import Box, Stage, Stages
from .compiler.trace import TracedProgram
from .drawing import BORDERS, LINE, MAX_NODES, TEXT, blank_drawing, mix
from .rendering import BACKGROUND, Drawing, StandalonePicture, label_text, printable

_LEAVES = {"constants": "constant", "parameters": "parameter", "inputs": "input"}
_MOST_LINES = 6  # of source in a box


def draw_compiled(
    compiled: object, max_nodes: int, rankdir: str, format: str
) -> Drawing | Collapse | None:
    """The picture of a program, of a stage or of all stages; None for anything else.

    A compiled function is drawn as the program of the first path taken; ValueError before that.
    """
    if isinstance(compiled, TracedProgram):
        if not compiled.programs:
            raise ValueError("the function is recorded when it is called: call it once, then draw")
        compiled = compiled.programs[0]
    if isinstance(compiled, Stages):
        return Collapse(compiled)
    if isinstance(compiled, Program):
        drawing = draw_program(compiled, max_nodes, rankdir)
    elif isinstance(compiled, Stage):
        drawing = draw_stage(compiled, max_nodes, rankdir)
    else:
        return None
    drawing.format = format
    return drawing


def bundle_of(compiled: Program | Stage | Stages, *formats: Any, **kinds: Any) -> dict[str, Any]:
    """What a notebook shows: the picture, or the text alone if it would have too many boxes."""
    try:
        drawing = draw_compiled(compiled, MAX_NODES, "TB", "svg")
    except ValueError as error:
        return {"text/plain": f"{compiled}\n({error})"}
    return drawing._repr_mimebundle_(*formats, **kinds)  # type: ignore[union-attr]


# ---------------------------------------------------------------- graphs of boxes
def draw_program(program: Program, max_nodes: int, rankdir: str) -> Drawing:
    """The steps of a program, each with its shape, its scalar nodes and the source it runs as.

    Inputs are a box; what else a step reads is told in the step. ValueError for more than
    `max_nodes` boxes.
    """
    stages = program.stages  # compiled by now, which gives the instructions their names
    code = program._compiled(False).code
    every = [[line.text() for line in step if not line.is_view] for step in code.forward]
    source = [sum(every[some], []) for _, some in code.layout.boxes()]
    drawing = draw_stage(stages[-1], max_nodes, rankdir, source)
    drawing.tree = str(program)
    return drawing


def draw_stage(
    stage: Stage, max_nodes: int, rankdir: str, source: Sequence[Sequence[str]] = ()
) -> Drawing:
    """One stage of a program: what is computed together, and what it reads.

    source  the lines that each box runs, leaves not counted
    """
    if len(stage.boxes) > max_nodes:
        raise ValueError(
            f"the stage {stage.name!r} has {len(stage.boxes)} boxes, more than {max_nodes}: "
            "draw(program.stages) shows its largest ones, or raise max_nodes="
        )
    drawing = blank_drawing()
    drawing.graph_attr["rankdir"] = rankdir
    leaves = sum(box.label in _LEAVES for box in stage.boxes)
    results = set(range(len(stage.boxes))) - {a for a, b in stage.edges if a != b}
    for number, box in enumerate(stage.boxes):
        if box.label in ("constants", "parameters"):
            continue
        read = [stage.boxes[a].label for a, b in stage.edges if b == number and a < leaves]
        read = [label for label in read if label != "inputs"]
        lines = [_title(box), _counted(box.nodes)]
        lines += [f"with {' and '.join(read)}"] if read else []
        code = list(source[number - leaves]) if source and number >= leaves else []
        hidden = len(code) - _MOST_LINES
        lines += [*code[:_MOST_LINES], f"... {hidden} more"] if hidden > 1 else code
        kind = _LEAVES.get(box.label) or ("result" if number in results else "operation")
        fill = "#ffffff" if number < leaves else mix("#ffffff", _color_of(box.label), 0.12)
        look = BORDERS[kind] | {"fillcolor": fill}
        drawing.node(f"n{number}", label_text(*lines), id=f"n{number}", **look)
    for a, b in stage.edges:
        if stage.boxes[a].label not in ("constants", "parameters"):
            drawing.edge(f"n{a}", f"n{b}")
    drawing.graph_attr["label"] = label_text(str(stage))
    drawing.tree = _listing(stage)
    return drawing


def _listing(stage: Stage) -> str:
    """The stage as text: a line a box, numbered, with the numbers of the boxes that it reads."""
    lines = [str(stage)]
    for number, box in enumerate(stage.boxes):
        read = ", ".join(str(a) for a, b in stage.edges if b == number)
        line = f"{number:>4}  {_title(box):<22} {box.nodes:>9,}"
        lines.append(line + f"  from {read}" * bool(read))
    return "\n".join(lines)


def _title(box: Box) -> str:
    return f"{printable(box.label)}  {_shape_text(box)}".rstrip()


def _shape_text(box: Box) -> str:
    return " × ".join(f"{length:,}" for length in box.shape)


def _counted(nodes: int) -> str:
    return f"{nodes:,} scalar node{'s' * (nodes != 1)}"


# ---------------------------------------------------------------- the collapse
_WIDTH, _CAPTIONS, _MARGIN = 860, 190, 20  # points: a README's column; the captions on the left
_AREA = _WIDTH - _CAPTIONS - 2 * _MARGIN  # the width for dots
_MIDDLE = (_CAPTIONS + _WIDTH - _MARGIN) / 2
_TALLEST = 190.0  # of the largest stage
_LARGEST_PITCH, _SMALLEST_PITCH = 8.0, 1.1  # from dot to dot; below it, areas instead of dots
_LONELY_PITCH = 3.5  # so that a single dot is seen
_GAP, _LABEL, _FUNNEL = 12.0, 30.0, 26.0  # between boxes; above a box; between stages
_MOST_BOXES = 48  # of a stage, the others are counted
_SAID = {  # what a pass does, and whether the number to remember is that of boxes
    "record": ("every number that was computed", "scalar nodes", False),
    "fuse": ("sums of products become dots", "scalar nodes", False),
    "group": ("what can run at the same time", "groups", True),
    "lay out": ("arrays, in the order they run", "steps", True),
}


class Collapse(StandalonePicture):
    """The stages of a program as one SVG that shows itself; in terminals, a table.

    svg  the SVG file's text. A dot is a scalar node, until there are too many: then areas are true.
    """

    needs_layout = False

    def __init__(self, stages: Stages) -> None:
        if not stages:
            raise ValueError("there are no stages to draw")
        self.stages = stages

    @property
    def svg(self) -> str:
        return _collapse(self.stages)

    def __repr__(self) -> str:
        return str(self.stages)


class _Field(NamedTuple):
    """A box as dots: blocks of rows of columns, in which `nodes` dots share the blocks evenly.

    (Of a box in which cells are empty, a masked product's, a stage does not say which.)
    """

    label: str
    below: str
    nodes: int
    blocks: int
    rows: int
    columns: int

    def width(self, pitch: float) -> float:
        """Of the dots or of the label, whichever is wider."""
        return max(self.columns * pitch, 5.8 * len(self.below), 6.8 * len(self.label))

    def height(self, pitch: float) -> float:
        return (self.blocks * (self.rows + 1) - 1) * pitch


_COLORS = {
    "*": "#2563eb", "+": "#d97706", "dot": "#7c3aed", "total": "#b45309", "relu": "#0d9488",
    "tanh": "#0d9488", "sigmoid": "#0d9488", "-": "#be185d", "/": "#be185d", "exp": "#4d7c0f",
}  # fmt: skip
_OTHERS = ("#0369a1", "#a21caf", "#15803d", "#9f1239", "#6d28d9", "#a16207")


def _color_of(label: str) -> str:
    """An operation's color, the same in all pictures."""
    return _COLORS.get(label) or _OTHERS[sum(label.encode()) % len(_OTHERS)]


def _collapse(stages: Stages) -> str:
    pitch = _pitch_of(max(stages, key=lambda stage: stage.nodes))
    svg = Element("svg", {"xmlns": "http://www.w3.org/2000/svg"})
    card = SubElement(svg, "rect", {"fill": BACKGROUND, "width": str(_WIDTH), "rx": "10"})
    steps = len(_computed(stages[-1]))
    become = "collapse into" if steps < stages[0].nodes else "remain"
    title = f"{_counted(stages[0].nodes)} {become} {steps:,} step{'s' * (steps != 1)}"
    _write(svg, title, _MARGIN, 38, 21, TEXT, weight="bold")
    dots = pitch >= _SMALLEST_PITCH
    scale = "each dot is one scalar node" if dots else "areas are to scale"
    leaves = [
        f"{box.nodes:,} {_LEAVES[box.label]}{'s' * (box.nodes != 1)}"
        for box in stages[0].boxes
        if box.label in _LEAVES
    ]
    _write(svg, f"{scale}; " + ", ".join(leaves), _MARGIN, 58, 12, LINE)
    y, above = 84.0, None
    for stage in stages:
        fields = [_field_of(box, stage, pitch) for box in _shown(stage)]
        lines = _in_lines(fields, pitch)
        extent = max(_line_width(line, pitch) for line in lines)
        left, right = _MIDDLE - extent / 2 - 8, _MIDDLE + extent / 2 + 8
        if above is not None:
            shape = f"M{above[0]:.1f} {y}H{above[1]:.1f}L{right:.1f} {y + _FUNNEL}H{left:.1f}Z"
            SubElement(svg, "path", {"d": shape, "fill": "#e9ebee"})
            y += _FUNNEL
        start = y
        panel = SubElement(svg, "rect", x=f"{left:.1f}", y=f"{start:.1f}", fill="#f1f2f4")
        y += 10
        for line in lines:
            x = _MIDDLE - _line_width(line, pitch) / 2
            for field in line:
                _draw_field(svg, field, x, y, pitch, dots)
                x += field.width(pitch) + _GAP
            y += _LABEL + max(field.height(pitch) for field in line) + 12
        y = max(y, start + 66)
        panel.attrib.update(width=f"{right - left:.1f}", height=f"{y - start:.1f}")
        _caption(svg, stage, (start + y) / 2)
        above = (left, right)
    height = f"{y + _MARGIN:.0f}"
    card.set("height", height)
    size = {"width": f"{_WIDTH}pt", "height": f"{height}pt", "viewBox": f"0 0 {_WIDTH} {height}"}
    svg.attrib.update(size)
    return ElementTree.tostring(svg, encoding="unicode")


def _pitch_of(stage: Stage) -> float:
    """The distance of dots at which the largest stage fills one line, or its share of several."""
    pitch = min(_LARGEST_PITCH, math.sqrt(_AREA * _TALLEST / max(stage.nodes, 1)))
    for _ in range(20):
        fields = [_field_of(box, stage, pitch) for box in _shown(stage)]
        if len(_in_lines(fields, pitch)) <= 1 + sum(f.width(0.0) for f in fields) / _AREA:
            break
        pitch *= 0.97
    return pitch


def _computed(stage: Stage) -> list[Box]:
    return [box for box in stage.boxes if box.label not in _LEAVES]


def _shown(stage: Stage) -> list[Box]:
    """The boxes of a stage, in order; of very many the largest, and one for all others."""
    boxes = _computed(stage)
    if len(boxes) <= _MOST_BOXES:
        return boxes
    largest = sorted(range(len(boxes)), key=lambda i: -boxes[i].nodes)[: _MOST_BOXES - 1]
    rest = len(boxes) - len(largest)
    others = stage.nodes - sum(boxes[i].nodes for i in largest)
    return [*(boxes[i] for i in sorted(largest)), Box(f"{rest:,} more", others)]


def _field_of(box: Box, stage: Stage, pitch: float) -> _Field:
    """As a matrix if it has a shape that fits; else as high as all boxes of the stage."""
    most_columns, most_rows = int(_AREA / pitch), max(int(_TALLEST / pitch), 1)
    if box.shape:
        columns, rows = box.shape[-1], (box.shape[-2] if len(box.shape) > 1 else 1)
        blocks = math.prod(box.shape[:-2])
        if columns <= most_columns and blocks * (rows + 1) <= most_rows + 1:
            cells = max(box.nodes, 1)
            return _Field(box.label, _shape_text(box), cells, blocks, rows, columns)
    rows = max(round(math.sqrt(stage.nodes * _TALLEST / _AREA)), 1)
    rows = min(rows, max(box.nodes, 1))
    columns = math.ceil(box.nodes / rows)
    below = _shape_text(box) or f"{box.nodes:,}"
    return _Field(box.label, below, max(box.nodes, 1), 1, rows, max(columns, 1))


def _in_lines(fields: Sequence[_Field], pitch: float) -> list[list[_Field]]:
    """The fields in order, a new line where one is full."""
    lines: list[list[_Field]] = [[]]
    for field in fields:
        if lines[-1] and _line_width([*lines[-1], field], pitch) > _AREA:
            lines.append([])
        lines[-1].append(field)
    return lines


def _line_width(line: Sequence[_Field], pitch: float) -> float:
    return sum(field.width(pitch) for field in line) + _GAP * (len(line) - 1)


def _draw_field(svg: Element, field: _Field, x: float, y: float, pitch: float, dots: bool) -> None:
    """Label, shape or count, and below them the dots: a dashed stroke for each row of them."""
    middle = x + field.width(pitch) / 2
    color = _color_of(field.label)
    _write(svg, printable(field.label, 16), middle, y + 10, 12, color, "middle", "bold")
    _write(svg, field.below, middle, y + 23, 10.5, TEXT, "middle")
    if field.nodes == 1:
        pitch = max(pitch, _LONELY_PITCH)
    left, top = middle - field.columns * pitch / 2, y + _LABEL
    strokes = []
    for block in range(field.blocks):
        rest = (field.nodes + block) // field.blocks
        for row in range(-(-rest // field.columns)):
            width = min(rest - row * field.columns, field.columns)
            line = top + (block * (field.rows + 1) + row + 0.5) * pitch  # an empty row between
            strokes.append(f"M{left:.2f} {line:.2f}h{(width - 0.25) * pitch:.2f}")
    look = {"fill": "none", "stroke": color, "d": "".join(strokes)}
    if dots:
        look |= {
            "stroke-width": f"{0.7 * pitch:.3f}",
            "stroke-dasharray": f"{0.7 * pitch:.4f} {0.3 * pitch:.4f}",
        }
    else:
        look |= {"stroke-width": f"{pitch:.3f}"}
    SubElement(svg, "path", look)


def _caption(svg: Element, stage: Stage, y: float) -> None:
    """On the left: the pass, the number to remember, what the pass does."""
    said, what, counts_boxes = _SAID.get(stage.name, ("", "boxes", True))
    number = len(_computed(stage)) if counts_boxes else stage.nodes
    _write(svg, stage.name, _MARGIN, y - 18, 12, LINE, weight="bold")
    _write(svg, f"{number:,}", _MARGIN, y + 6, 22, TEXT, weight="bold")
    width = sum(6.2 if character == "," else 12.3 for character in f"{number:,}")
    _write(svg, what, _MARGIN + width + 6, y + 6, 12, TEXT)
    _write(svg, said, _MARGIN, y + 24, 10.5, LINE)


def _write(
    svg: Element,
    text: str,
    x: float,
    y: float,
    size: float,
    color: str,
    anchor: str = "start",
    weight: str = "normal",
) -> None:
    look = {
        "x": f"{x:.1f}", "y": f"{y:.1f}", "font-size": f"{size:g}", "fill": color,
        "font-family": "Helvetica,Arial,sans-serif", "text-anchor": anchor, "font-weight": weight,
    }  # fmt: skip
    SubElement(svg, "text", look).text = text
