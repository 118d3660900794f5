"""One derivative as the sum over all ways from a leaf to the result, and what one nudge recomputes.

The chain rule, unrolled: dy/dx is the sum, over every path from x to y, of the product of the local
derivatives along it (Bauer 1974, "Computational graphs and rounding error", SIAM J. Numer. Anal.
11). There can be more paths than atoms; `explain` finds the strongest ones, the number of all, and
their sum in one walk. It leaves out how graphs are drawn: that is drawing.py's.
"""

from __future__ import annotations

import heapq
import html
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .derivatives import only_values
from .drawing import MAX_NODES, Picture, local_derivatives, nodes_to_draw
from .engine import Constant, Value, topological_order
from .rendering import Drawing, mimebundle, number_text, printable

_LARGEST_GRAPH = 300_000  # nodes
_LONGEST_PATH = 10  # nodes of a path in text


class Path(NamedTuple):
    """One way from a leaf to a result.

    nodes    the Values on it, the leaf first
    slopes   the local derivative of each by the one before, one fewer than nodes
    product  what the path adds to the derivative: the slopes multiplied, from the leaf on
    edges    (node, position of the operand), which tells x * x's two edges from x apart
    """

    nodes: list[Value]
    slopes: list[float]
    product: float
    edges: list[tuple[Value, int]]

    def __str__(self) -> str:
        names = [_name(node) for node in self.nodes]
        factors = [_factor(slope) for slope in self.slopes] or ["1"]
        shown = " * ".join(_shortened(factors))
        return f"{number_text(self.product)} = {shown}   along {' -> '.join(_shortened(names))}"


class Explanation:
    """The derivative of `value` by `leaf`, path by path; shows itself as text and as a picture.

    derivative  the sum over all paths, as `backward` would add to `leaf.grad`
    count       how many paths there are, a float: exact to 2**53
    paths       the strongest ones, strongest first
    rest        what the paths that are not listed add
    """

    def __init__(
        self, value: Value, leaf: Value, derivative: float, count: float, paths: list[Path]
    ) -> None:
        self.value, self.leaf, self.derivative = value, leaf, derivative
        self.count, self.paths = count, paths
        self.rest = derivative - sum(path.product for path in paths)

    def __str__(self) -> str:
        ratio = f"d {_name(self.value)} / d {_name(self.leaf)}"
        if not self.paths:
            return f"{ratio} = 0: no path leads from the one to the other"
        many = self.count > 1
        total = f"the sum over {self.count:.12g} paths" if many else "over a single path"
        lines = [f"{ratio} = {number_text(self.derivative)}, {total}"]
        lines += [f"  {path}" for path in self.paths]
        hidden = self.count - len(self.paths)
        if hidden > 0:
            paths = f"{hidden:.12g} weaker path{'s' * (hidden > 1)}"
            lines.append(f"  {number_text(self.rest)} from {paths}")
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def drawing(self) -> Drawing:
        """The graph with the paths highlighted; of a large graph, only what lies on them."""
        edges = {edge for path in self.paths for edge in path.edges}
        lit = {self.value, self.leaf}.union(*(path.nodes for path in self.paths))
        note = str(self).splitlines()[0]
        return _highlighted(self.value, lit, edges, MAX_NODES, note, derivatives=True)

    @property
    def svg(self) -> str:
        """The drawing as the text of an SVG file."""
        return self.drawing.svg

    def save(self, filename: os.PathLike[str] | str) -> str:
        """Write the drawing as .svg, .png, .pdf or .dot; the path."""
        return self.drawing.save(filename)

    def _repr_mimebundle_(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None, **_: Any
    ) -> dict[str, Any]:
        bundle = mimebundle(self, include, exclude)
        if "text/html" in bundle:
            text = f'<pre style="font-family:monospace">{html.escape(str(self))}</pre>'
            bundle["text/html"] = text + bundle["text/html"]
        return bundle


def explain(value: Value, leaf: Value, *, paths: int = 5) -> Explanation:
    """The derivative of `value` by `leaf` as the sum over paths, with the strongest `paths` ones.

    Runs at the numbers the nodes hold now and changes no `.grad`. ValueError for a Constant, which
    has no derivative, and for a graph of more than 300,000 nodes.

    >>> x = Value(3.0, label="x")
    >>> explain(x * x + x, x)
    d + / d x = 7, the sum over 3 paths
      3 = 3 * 1   along x -> * -> +
      3 = 3 * 1   along x -> * -> +
      1 = 1   along x -> +
    """
    if paths < 1:
        raise ValueError(f"paths must be at least 1, got {paths}")
    only_values(value, [leaf])
    if isinstance(leaf, Constant):
        raise ValueError(f"{_name(leaf)} is a Constant: only Values have a derivative")
    nodes_to_draw([value], None, _LARGEST_GRAPH, "explain a part of it")  # refuses what is larger
    # of each node that the leaf reaches: its derivative by the leaf, the number of paths, and the
    # strongest as (product, node, position, slope, the path to that operand)
    derivative, count = {leaf: 1.0}, {leaf: 1.0}
    strongest: dict[Value, list[_Chain]] = {leaf: [(1.0, leaf, 0, 1.0, None)]}
    for node in topological_order(value):
        if node is leaf or not any(p in count for p in node.parents):
            continue
        slopes = local_derivatives(node)
        reached = [
            (position, p, slope)
            for position, (p, slope) in enumerate(zip(node.parents, slopes, strict=True))
            if slope is not None and p in count
        ]
        if not reached:
            continue
        derivative[node] = sum(derivative[p] * slope for _, p, slope in reached)
        count[node] = sum(count[p] for _, p, _ in reached)
        strongest[node] = heapq.nlargest(
            paths,
            (
                (chain[0] * slope, node, position, slope, chain)
                for position, p, slope in reached
                for chain in strongest[p]
            ),
            key=_strength,
        )
    found = [_path(chain) for chain in strongest.get(value, [])]
    return Explanation(value, leaf, derivative.get(value, 0.0), count.get(value, 0.0), found)


_Chain = tuple[float, Value, int, Any, Any]


def _strength(chain: _Chain) -> float:
    size = abs(chain[0])
    return size if size == size else float("inf")  # nan spoils the sum: show it first


def _path(chain: _Chain | None) -> Path:
    """The Path of a linked chain, whose last node comes first."""
    product = chain[0] if chain is not None else 1.0
    nodes, slopes, edges = [], [], []
    while chain is not None:
        _, node, position, slope, chain = chain
        nodes.append(node)
        if chain is not None:
            slopes.append(slope)
            edges.append((node, position))
    return Path(nodes[::-1], slopes[::-1], product, edges[::-1])


def downstream(value: Value, leaf: Value, *, max_nodes: int = MAX_NODES) -> Drawing:
    """The graph of `value` with everything highlighted that a change of `leaf` makes stale.

    That is what `recompute` has to compute anew, whether or not a gradient flows through it. Of a
    graph of more than `max_nodes` nodes only this is drawn. ValueError if `value` does not depend
    on the leaf, and if there is too much to draw.
    """
    only_values(value, [leaf])
    nodes_to_draw([value], None, _LARGEST_GRAPH, "draw a part of it")
    stale = {leaf}
    operations = 0
    for node in topological_order(value):
        operations += bool(node.parents)
        if not stale.isdisjoint(node.parents):
            stale.add(node)
    if value not in stale:
        raise ValueError(f"{_name(value)} does not depend on {_name(leaf)}")
    edges = {(node, i) for node in stale for i, p in enumerate(node.parents) if p in stale}
    note = f"a change of {_name(leaf)} recomputes {len(stale) - 1} of {operations} operations"
    return _highlighted(value, stale, edges, max_nodes, note)


def _highlighted(
    value: Value,
    lit: set[Value],
    edges: set[tuple[Value, int]],
    max_nodes: int,
    note: str,
    derivatives: bool = False,
) -> Drawing:
    """The graph with these nodes and edges highlighted; only these, if it is too large."""
    try:
        nodes = nodes_to_draw([value], None, max_nodes)
    except ValueError:
        nodes = [node for node in topological_order(value) if node in lit]
        if len(nodes) > max_nodes:
            raise ValueError(
                f"{len(nodes)} nodes would be highlighted, more than {max_nodes}: "
                "draw a part of the graph"
            ) from None
    picture = Picture([value], nodes, set())
    return picture.drawing(lit=lit, lit_edges=edges, note=note, derivatives=derivatives)


# ---------------------------------------------------------------- words
def _name(node: Value) -> str:
    return printable(node.label or node.op or number_text(node.data), 30)


def _factor(slope: float) -> str:
    text = number_text(slope)
    return f"({text})" if text.startswith("-") else text


def _shortened(words: Sequence[str]) -> list[str]:
    """The words, or the first and last of very many with how many there are between them."""
    if len(words) <= _LONGEST_PATH:
        return list(words)
    half = _LONGEST_PATH // 2
    return [*words[:half], f"({len(words) - 2 * half} more)", *words[-half:]]
