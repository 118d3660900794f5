"""Large graphs as few boxes: one for each neuron or layer, one for all nodes of the same role.

`draw(loss, modules=model)` ends here. Which nodes a neuron made is found by running it once on
inputs of its own: an operation of the graph belongs to the neuron if it uses what the neuron owns
in a way that was seen there. What is left - the loss, say, for each of a hundred samples - is drawn
node by node if that can be read, and else nodes of the same operation on the same boxes become one.
It leaves out how nodes and edges look (drawing.py).

A module can be drawn so if it has `layers`, each a module; or `neurons`, each with its weights `w`
and callable on as many inputs; or else just `parameters()`: then it is one box, with the operations
that use its parameters directly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .drawing import (
    BORDERS,
    NOT_RUN,
    Picture,
    blank_drawing,
    color_of,
    legend_label,
    nodes_to_draw,
    text_tree,
)
from .engine import Value, topological_order
from .rendering import Drawing, label_text, number_text, printable

_LARGEST_GRAPH = 300_000  # nodes
_MOST_BOXES, _MOST_EDGES = 40, 120  # what can still be read
_LEAVES_APART = 4  # so many leaves of one use are drawn one by one

Depths = tuple[int | None, ...]


def draw_collapsed(
    roots: Sequence[Value],
    modules: Any,
    collapse: str | None,
    max_nodes: int,
    parameters: set[Value],
    legend: bool,
) -> Drawing:
    """The drawing of draw(value, modules=modules): the first way of collapsing that can be read.

    That is by neuron, then by layer; with the rest node by node, then with equal roles as one.
    ValueError if there are more than `max_nodes` boxes in the end.
    """
    if collapse not in (None, "neuron", "layer"):
        raise ValueError(f"collapse is 'neuron' or 'layer', got {collapse!r}")
    nodes_to_draw(
        roots,
        None,
        _LARGEST_GRAPH,
        "draw the loss of fewer samples, or limit depth= instead of giving modules=",
    )
    nodes = topological_order(*roots)
    for level in (collapse,) if collapse else ("neuron", "layer"):
        parts = find_parts(modules, level == "layer")
        owner = find_owners(nodes, parts)
        parameters = parameters.union(*(part.parameters for part in parts))
        for merged in (False, True):
            picture = CollapsedPicture(roots, nodes, owner, parameters, merged)
            if len(picture.boxes) <= _MOST_BOXES and len(picture.edges) <= _MOST_EDGES:
                return picture.drawing(legend=legend)
    if len(picture.boxes) > max_nodes:
        raise ValueError(
            f"the graph collapses into {len(picture.boxes)} boxes, more than {max_nodes}: "
            "use collapse='layer', draw the loss of fewer samples, or raise max_nodes="
        )
    return picture.drawing(legend=legend)


# ---------------------------------------------------------------- modules
class Part:
    """A neuron, a layer or another module: what it owns, and the steps it takes with that.

    steps    (operation, how deep in the module each operand is, None for what comes from outside),
             of every operation from the parameters, whose depth is 0, to the output; None if the
             module could not be run
    deepest  how deep the output is
    """

    def __init__(self, title: str, module: Any, inputs: int | None) -> None:
        self.title = title
        self.parameters: list[Value] = module.parameters()
        self.steps: set[tuple[str, Depths]] | None = None
        self.deepest = 1
        neurons = len(getattr(module, "neurons", ()))
        activation = getattr(module, "activation", "")
        words = [counted(neurons, "neuron")] if neurons else []
        words += [str(getattr(activation, "__name__", activation))] if activation else []
        self.details = ", ".join([*words, counted(len(self.parameters), "parameter")])
        if inputs is not None:
            self.steps = set()
            for number in (0.5, -0.5):  # an activation may branch on the sign
                self._record_steps(module([Value(number) for _ in range(inputs)]))

    def _record_steps(self, outputs: Any) -> None:
        inside = dict.fromkeys(self.parameters, 0)
        for node in topological_order(*([outputs] if isinstance(outputs, Value) else outputs)):
            depths = tuple([inside.get(p) for p in node.parents])
            known = [depth for depth in depths if depth is not None]
            if known:
                inside[node] = 1 + max(known)
                self.steps.add((node.op, depths))  # type: ignore[union-attr]
                self.deepest = max(self.deepest, inside[node])

    def depth_of(self, op: str, depths: Depths) -> int | None:
        """How deep in the module an operation on such operands is; None if it is not the module's.

        In a recurrent network, the module's own outputs are among its inputs.
        """
        if self.steps is None:
            return 1 if 0 in depths else None
        recurrent = tuple([None if depth == self.deepest else depth for depth in depths])
        for seen in (depths, recurrent):
            if (op, seen) in self.steps:
                return 1 + max(depth for depth in seen if depth is not None)
        return None


def find_parts(modules: Any, by_layer: bool) -> list[Part]:
    """The layers or the neurons of a module, or of several. TypeError for what is no module."""
    parts = []
    number = 0
    for module in modules if isinstance(modules, (list, tuple)) else [modules]:
        if not callable(getattr(module, "parameters", None)):
            raise TypeError(f"modules= takes a Module or several, got {printable(repr(module))}")
        for layer in getattr(module, "layers", [module]):
            number += 1
            neurons = list(getattr(layer, "neurons", ()))
            if neurons and not by_layer:
                for i, neuron in enumerate(neurons):
                    parts.append(Part(f"neuron {number}.{i}", neuron, len(neuron.w)))
            elif neurons:
                parts.append(Part(f"layer {number}", layer, len(neurons[0].w)))
            else:
                weights = getattr(layer, "w", None)
                name = f"{type(layer).__name__.lower()} {number}"
                parts.append(Part(name, layer, None if weights is None else len(weights)))
    return parts


def find_owners(nodes: Sequence[Value], parts: Sequence[Part]) -> dict[Value, Part]:
    """The part that each parameter and operation belongs to; `nodes` in topological order."""
    owner = {p: part for part in parts for p in part.parameters}
    inside = dict.fromkeys(owner, 0)
    for node in nodes:
        owners = [owner.get(p) for p in node.parents]
        for part in dict.fromkeys(owners):
            if part is not None:
                pairs = zip(node.parents, owners, strict=True)
                depths = tuple([inside[p] if whose is part else None for p, whose in pairs])
                depth = part.depth_of(node.op, depths)
                if depth is not None:
                    owner[node], inside[node] = part, depth
                    break
    return owner


# ---------------------------------------------------------------- roles
class Role:
    """What nodes are drawn as one for: the same operation on operands of the same roles."""

    def __init__(self, op: str = "", operands: frozenset[Any] = frozenset()) -> None:
        self.op, self.operands = op, operands


def find_roles(nodes: Sequence[Value], picture: CollapsedPicture) -> dict[Value, Any]:
    """The role of every node: the part that owns it, or a Role; `nodes` in topological order.

    A node that adds what its own operand added before has the role of that operand: a sum written
    as a chain of `+` is one box. Leaves have one role if they are many and used by the same roles.
    """
    roles: dict[Value, Any] = dict(picture.owner)
    known: dict[Any, Role] = {}
    for node in nodes:
        if node in roles:
            continue
        kind, label = picture.kind(node), str(node.label)
        operands = frozenset(roles[p] for p in node.parents)
        may_chain = kind == "operation" and not label
        for role in operands if may_chain else ():
            if isinstance(role, Role) and role.op == node.op and operands - {role} <= role.operands:
                roles[node] = role
                break
        else:
            key = (kind, label, node.op, operands)
            roles[node] = known.setdefault(key, Role(node.op if may_chain else "", operands))
    uses: dict[Value, set[Any]] = {}
    for node in nodes:
        for p in node.parents:
            if not p.parents and p not in picture.owner:
                uses.setdefault(p, set()).add(roles[node])
    alike: dict[Any, list[Value]] = {}
    for leaf, users in uses.items():
        alike.setdefault((roles[leaf], frozenset(users)), []).append(leaf)
    for leaves in alike.values():
        together = Role() if len(leaves) > _LEAVES_APART else None
        roles.update((leaf, together or leaf) for leaf in leaves)
    return roles


# ---------------------------------------------------------------- the picture
class Box:
    """Nodes that are drawn as one.

    outputs  those of them that are used outside, or are results
    """

    def __init__(self, name: str, part: Part | None) -> None:
        self.name, self.part = name, part
        self.nodes: list[Value] = []
        self.outputs: dict[Value, None] = {}

    @property
    def alone(self) -> Value | None:
        """The node, if there is one that stands for itself."""
        return self.nodes[0] if self.part is None and len(self.nodes) == 1 else None


class CollapsedPicture(Picture):
    """A Picture of boxes.

    owner  the part that each of its parameters and of its operations belongs to
    boxes  in topological order of their first nodes
    edges  (from, to) -> how many operands of the one are nodes of the other
    """

    def __init__(
        self,
        roots: Sequence[Value],
        nodes: Sequence[Value],
        owner: dict[Value, Part],
        parameters: set[Value],
        merged: bool,
    ) -> None:
        super().__init__(roots, nodes, parameters)
        self.owner = owner
        roles = find_roles(nodes, self) if merged else {n: self.owner.get(n, n) for n in nodes}
        by_role: dict[Any, Box] = {}
        for node in nodes:
            role = roles[node]
            if role not in by_role:
                part = role if isinstance(role, Part) else None
                by_role[role] = Box(f"n{len(by_role)}", part)
            by_role[role].nodes.append(node)
        self.boxes = list(by_role.values())
        self.edges: Counter[tuple[Box, Box]] = Counter()
        self.root_boxes = list(dict.fromkeys(by_role[roles[root]] for root in roots))
        for root in roots:
            by_role[roles[root]].outputs[root] = None
        for node in nodes:
            box = by_role[roles[node]]
            for p in node.parents:
                source = by_role[roles[p]]
                if source is not box:
                    source.outputs[p] = None
                    self.edges[source, box] += 1

    def box_kind(self, box: Box) -> str:
        """module, or the kind of the box's nodes."""
        return "module" if box.part is not None else self.kind(box.nodes[0])

    def box_lines(self, box: Box) -> list[str]:
        """What the box says, line by line."""
        if box.alone is not None:
            return list(self.lines(box.alone).values())
        first = box.nodes[0]
        if box.part is not None:
            operations = sum(bool(node.parents) for node in box.nodes)
            lines = [box.part.title, box.part.details, counted(operations, "operation")]
        else:
            name = " = ".join(filter(None, [printable(first.label), first.op]))
            what = "nodes" if first.op else f"{self.kind(first)}s"
            lines = [name] * bool(name) + [f"{len(box.nodes)} {what}"]
        data = [node.data for node in (box.outputs if box.part else box.nodes)]
        lines.append(f"{'outputs' if box.part else 'data'} {range_text(data)}")
        if grads := self.box_gradients(box):
            told = range_text(grads) if self.ran or any(grads) else "not run"
            lines.append(f"grad of parameters {told}" if box.part else f"grad {told}")
        return lines

    def box_gradients(self, box: Box) -> list[float]:
        """The gradients a box tells of: of a module's parameters, or of its nodes."""
        nodes = box.part.parameters if box.part is not None else box.nodes
        return [] if self.box_kind(box) == "constant" else [node.grad for node in nodes]

    def box_fill(self, box: Box) -> str:
        """The color of the box's largest gradient."""
        if box.alone is not None:
            return self.fill(box.alone)
        grads = self.box_gradients(box)
        if not grads or not (self.ran or any(grads)):
            return NOT_RUN
        return color_of(max(grads, key=abs), self.largest)

    def drawing(self, *, legend: bool = True, **_: Any) -> Drawing:
        """The drawing; edges between boxes of several nodes carry the number of operands."""
        drawing = blank_drawing()
        for box in self.boxes:
            style = BORDERS[self.box_kind(box)] | {"fillcolor": self.box_fill(box)}
            drawing.node(box.name, label_text(*self.box_lines(box)), **style)
        for (source, target), count in self.edges.items():
            if source.alone is not None and target.alone is not None:
                for _time in range(count):
                    drawing.edge(source.name, target.name)
            else:
                drawing.edge(source.name, target.name, f"{count:,}" if count > 1 else None)
        kinds = {self.box_kind(box) for box in self.boxes}
        if legend:
            boxes = f"{len(self.boxes)} box{'es' * (len(self.boxes) != 1)}"
            numbers = any(
                count > 1 and (source.alone is None or target.alone is None)
                for (source, target), count in self.edges.items()
            )
            drawing.graph_attr["label"] = legend_label(
                [kind for kind in BORDERS if kind in kinds],
                self.largest if self.ran else None,
                note=f"{len(self.nodes):,} nodes in {boxes}"
                + "; on the edges: how many operands they stand for" * numbers,
            )
        drawing.tree = self.tree()
        return drawing

    def tree(self, derivatives: bool = False) -> str:
        """The boxes as text, results first."""
        below: dict[Box, list[tuple[str, Box]]] = {box: [] for box in self.boxes}
        for (source, target), count in self.edges.items():
            below[target].append((f"[{count}] " if count > 1 else "", source))
        text = text_tree(self.root_boxes, below.__getitem__, self.box_line)
        return text if self.ran else f"{text}\n(backward has not run from here)"

    def box_line(self, box: Box) -> str:
        """One box of the text tree."""
        return self.line(box.alone) if box.alone is not None else "  ".join(self.box_lines(box))


def counted(count: int, what: str) -> str:
    """How many there are: counted(16, "neuron") is "16 neurons"."""
    return f"{count} {what}{'s' * (count != 1)}"


def range_text(numbers: Sequence[float]) -> str:
    """From the smallest to the largest, or the one number that they all are."""
    smallest, largest = number_text(min(numbers)), number_text(max(numbers))
    return smallest if smallest == largest else f"{smallest} to {largest}"
