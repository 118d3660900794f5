"""Backpropagation as a moving picture: values flow forward, then gradients flow back.

`animate(loss)` is one SVG file that moves by itself, by style sheets alone, wherever an image can
stand: a README, a notebook, a slide. Printed, or where motion is unwanted, it is the still picture
of drawing.py with every number in its place. It leaves out the layout, which is Graphviz's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from .drawing import Picture, local_derivatives, nodes_to_draw
from .engine import Constant, Value, topological_order
from .rendering import (
    ADVICE,
    BACKGROUND,
    StandalonePicture,
    layout_engine,
    number_text,
    printable,
)

_MAX_NODES = 60  # a minute and a half to watch
_NAMESPACE = "http://www.w3.org/2000/svg"
_FORWARD, _BACKWARD = "#1d4ed8", "#b91c1c"
_HOLD = 3.0  # seconds that the whole picture stands at the end
_CAPTION_HEIGHT, _LEAST_WIDTH = 24, 480  # points
_CHARACTER = 5.8  # points: the mean width in captions, a little more than Helvetica's


class Animation(StandalonePicture):
    """An animated SVG that shows itself in notebooks; in terminals, its steps as text.

    svg    the SVG file's text; NoLayoutEngine if there is nothing to lay it out with
    steps  what happens, one line a step
    """

    def __init__(self, picture: _AnimatedPicture, seconds: float) -> None:
        self._picture, self._seconds = picture, seconds
        self.steps = [step.caption for step in picture.steps]

    @property
    def svg(self) -> str:
        return _animated(self._picture, self._seconds)

    def __repr__(self) -> str:
        return "\n".join([*self.steps] + ([] if layout_engine() else [ADVICE]))


def animate(value: Value, *, seconds: float = 0.9, max_nodes: int = _MAX_NODES) -> Animation:
    """The forward and the backward pass of a Value as a self-contained animated SVG.

    Forward, operation by operation, each number appears; back, in the reverse order, each operation
    passes its gradient on to its operands, multiplied by the local derivative on the edge. The
    gradients are those of `value` alone at the present numbers; no `.grad` is read or changed.

    seconds    for each step
    max_nodes  refuse more nodes than this with a ValueError
    """
    if not seconds > 0.0:
        raise ValueError(f"seconds must be more than 0, got {seconds}")
    if not isinstance(value, Value):
        raise TypeError(f"animate takes a Value, got {printable(repr(value))}")
    if isinstance(value, Constant):
        raise ValueError("a Constant has no history to animate")
    nodes_to_draw([value], None, max_nodes, "animate a part of it, or raise max_nodes=")
    return Animation(_AnimatedPicture(value), seconds)


class _Step(NamedTuple):
    """What happens at one time: at which operation, through which of its operands' edges."""

    node: Value
    caption: str
    color: str
    positions: Sequence[int]


class _AnimatedPicture(Picture):
    """A Picture with gradients of its own, and the order in which its numbers appear.

    steps      forward, then back; the first is number 1
    data_step  operation -> the step that computes it
    grad_step  node -> the step that completes its gradient
    """

    def __init__(self, root: Value) -> None:
        order = topological_order(root)
        adjoints = {root: 1.0}
        operations = [node for node in order if node.parents]
        self.steps = [
            _Step(node, _forward_caption(node), _FORWARD, range(len(node.parents)))
            for node in operations
        ]
        self.data_step = {node: i for i, node in enumerate(operations, 1)}
        seed = f"back: d {_name(root)} / d {_name(root)} = 1"
        self.steps.append(_Step(root, seed, _BACKWARD, ()))
        self.grad_step = {root: len(self.steps)}
        for node in reversed(operations):
            if node not in adjoints:
                continue
            passed = {}
            for position, slope in enumerate(local_derivatives(node)):
                p = node.parents[position]
                if slope is not None and not isinstance(p, Constant):
                    adjoints[p] = adjoints.get(p, 0.0) + adjoints[node] * slope
                    self.grad_step[p] = len(self.steps) + 1
                    passed[position] = slope
            caption = _backward_caption(node, adjoints[node], passed)
            self.steps.append(_Step(node, caption, _BACKWARD, list(passed)))
        self._adjoints = adjoints
        super().__init__([root], order, set())
        self.ran = True

    def grad_of(self, node: Value) -> float:
        return self._adjoints.get(node, 0.0)


def _forward_caption(node: Value) -> str:
    operands = [_name(p) for p in node.parents[:4]] + ["..."] * (len(node.parents) > 4)
    result = f"{printable(node.label, 20)} = " if node.label else ""
    return f"forward: {result}{node.op}({', '.join(operands)}) = {number_text(node.data)}"


def _backward_caption(node: Value, adjoint: float, passed: dict[int, float]) -> str:
    terms = [
        f"grad of {_name(node.parents[i])} += {number_text(adjoint)} * {number_text(slope)}"
        for i, slope in list(passed.items())[:3]
    ]
    more = [f"and {len(passed) - 3} more"] if len(passed) > 3 else []
    return f"back through {_name(node)}: " + ", ".join([*terms, *more] or ["nothing to pass on"])


def _name(node: Value) -> str:
    return printable(node.label or node.op or number_text(node.data), 20)


# ---------------------------------------------------------------- the SVG
def _animated(picture: _AnimatedPicture, seconds: float) -> str:
    """The picture's SVG with style sheets. What moves is opacity alone.

    Numbers are hidden until their step; colored copies of shapes, invisible in the still picture,
    show during a step what takes part in it; white copies hide a gradient's color until it is
    there.
    """
    source = picture.drawing(derivatives=True).svg
    svg = ElementTree.fromstring(source.replace(f'xmlns="{_NAMESPACE}"', ""))
    svg.set("xmlns", _NAMESPACE)
    groups = {group.get("id"): group for group in svg.iter("g")}
    for node in picture.nodes:
        _animate_node(picture, node, groups[picture.names[node]])
    for number, (node, _, color, positions) in enumerate(picture.steps, 1):
        name = picture.names[node]
        _copy_shapes(groups[name], f"at{number}", stroke=color, fill="none")
        for position in positions:
            _copy_shapes(groups[f"{name}.{position}"], f"at{number}", stroke=color)
        if color == _BACKWARD:
            for position in range(len(node.parents)):
                for text in groups[f"{name}.{position}"].iter("text"):
                    text.set("class", f"on{number}")
    _add_captions(svg, picture.steps)
    style = Element("style")
    style.text = _style_sheet(len(picture.steps), seconds)
    svg.insert(0, style)
    return ElementTree.tostring(svg, encoding="unicode")


def _animate_node(picture: _AnimatedPicture, node: Value, group: Element) -> None:
    """Hide the node's numbers until they are computed, and its color until its gradient is."""
    for what, text in zip(picture.lines(node), group.iter("text"), strict=True):
        if what == "data" and node.parents:
            text.set("class", f"on{picture.data_step[node]}")
        elif what == "grad":
            text.set("class", f"on{_shown_from(picture, node)}")
    if not isinstance(node, Constant):
        _copy_shapes(group, f"off{_shown_from(picture, node)}", fill="#ffffff")


def _shown_from(picture: _AnimatedPicture, node: Value) -> int:
    """The step at which the node's gradient appears: the last for one that nothing reaches."""
    return picture.grad_step.get(node, len(picture.steps))


def _copy_shapes(group: Element, name: str, **attributes: str) -> None:
    """Invisible copies of the group's shapes, over these and below its text, in that class."""
    shapes = [
        child
        for child in group
        if child.tag in ("path", "polygon", "polyline") and child.get("class") is None
    ]
    width = {"stroke-width": "2.5"} if "stroke" in attributes else {}
    for shape in shapes:
        look = {**shape.attrib, **attributes, **width, "class": name, "opacity": "0"}
        group.insert(list(group).index(shapes[-1]) + 1, Element(shape.tag, look))


def _add_captions(svg: Element, steps: Sequence[_Step]) -> None:
    """A line above the picture that says what each step does."""
    _, _, width, height = map(float, svg.get("viewBox", "").split())
    longest = 20 + _CHARACTER * max(len(step.caption) for step in steps)
    width, height = max(width, _LEAST_WIDTH, longest), height + _CAPTION_HEIGHT
    size = {"width": f"{width:g}pt", "height": f"{height:g}pt"}
    svg.attrib.update(size, viewBox=f"0 {-_CAPTION_HEIGHT} {width:g} {height:g}")
    card = {"width": f"{width:g}", "height": f"{height:g}", "fill": BACKGROUND}
    svg.insert(0, Element("rect", card, y=str(-_CAPTION_HEIGHT)))
    look = {"x": "10", "y": "-6", "font-family": "Helvetica,sans-serif", "font-size": "12"}
    for number, (_, caption, color, _) in enumerate(steps, 1):
        marks = {"fill": color, "opacity": "0", "class": f"at{number}"}
        text = Element("text", {**look, **marks})
        text.text = caption
        svg.append(text)


def _style_sheet(steps: int, seconds: float) -> str:
    """Three rules a step: on from it, off from it, and on during it."""
    whole = (steps + 1) * seconds + _HOLD

    def share(time: float) -> str:
        return f"{100 * time / whole:.3f}%"

    rules = [f"[class^=on],[class^=off],[class^=at]{{animation:{whole:g}s linear infinite}}"]
    fade = seconds / 4
    for step in range(1, steps + 1):
        come, there = share(step * seconds), share(step * seconds + fade)
        go, gone = share((step + 1) * seconds - fade), share((step + 1) * seconds)
        rules += [
            f"@keyframes on{step}{{0%,{come}{{opacity:0}}{there},100%{{opacity:1}}}}",
            f"@keyframes off{step}{{0%,{come}{{opacity:1}}{there},100%{{opacity:0}}}}",
            f"@keyframes at{step}{{0%,{come}{{opacity:0}}{there},{go}{{opacity:1}}"
            f"{gone},100%{{opacity:0}}}}",
            f".on{step}{{animation-name:on{step}}}.off{step}{{animation-name:off{step}}}"
            f".at{step}{{animation-name:at{step}}}",
        ]
    rules.append("@media print,(prefers-reduced-motion:reduce){*{animation:none!important}}")
    return "".join(rules)
