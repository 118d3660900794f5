"""Stages: what the graph looks like after every pass, the collapse from scalars to matrices.

A stage is a small graph of boxes: all nodes of one operation after recording and fusing, one group
after scheduling, one array step after the layout. `draw` renders it; here is only what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .factor import unique
from .record import COMPUTED, CONSTANT, INPUT, PARAMETER, Graph
from .steps import Layout

_LEAVES = {CONSTANT: "constants", PARAMETER: "parameters", INPUT: "inputs"}


@dataclass(frozen=True)
class Box:
    """One box of a stage: how many scalar nodes it stands for, and the shape of its answer."""

    label: str
    nodes: int
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stage:
    """The graph after one pass.

    name   of the pass
    nodes  how many scalar nodes are computed
    boxes  what is computed together, leaves first; edges are (from box, to box)
    """

    name: str
    nodes: int
    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        steps = sum(box.label not in _LEAVES.values() for box in self.boxes)
        return f"{self.name}: {self.nodes:,} scalar nodes in {steps:,} boxes"

    def _repr_mimebundle_(self, *formats: Any, **kinds: Any) -> dict[str, Any]:
        return show(self, *formats, **kinds)


def show(compiled: Any, *formats: Any, **kinds: Any) -> dict[str, Any]:
    """What notebooks show of a program or of stages: the picture, or else the text."""
    from ..program_drawing import bundle_of  # here, so that compiling needs no graphviz

    return bundle_of(compiled, *formats, **kinds)


class Stages(tuple[Stage, ...]):
    """All stages in order; prints as a table."""

    def __str__(self) -> str:
        lines = [f"{'after':<10} {'scalar nodes':>12} {'boxes':>7}"]
        for stage in self:
            steps = sum(box.label not in _LEAVES.values() for box in stage.boxes)
            lines.append(f"{stage.name:<10} {stage.nodes:>12,} {steps:>7,}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_mimebundle_(self, *formats: Any, **kinds: Any) -> dict[str, Any]:
        return show(self, *formats, **kinds)


def stages(recorded: Graph, fused: Graph, groups: Sequence[np.ndarray], layout: Layout) -> Stages:
    """The stages of a program."""
    found = [_by_operation("record", recorded), _by_operation("fuse", fused)]
    owner = np.full(len(fused), -1)
    for number, group in enumerate(groups):
        owner[group] = number
    labels = [fused.rows[fused.op[group[0]]].name for group in groups]
    found.append(_boxes("group", fused, owner, labels))
    steps = [step for step, _ in layout.boxes()]
    for number, step in enumerate(steps):
        owner[step.nodes[step.nodes >= 0]] = number
    labels = [step.row.name for step in steps]
    shapes = [step.nodes.shape for step in steps]
    found.append(_boxes("lay out", fused, owner, labels, shapes))
    return Stages(found)


def _by_operation(name: str, graph: Graph) -> Stage:
    operations = unique(graph.op[graph.kind == COMPUTED])
    owner = np.where(graph.kind == COMPUTED, np.searchsorted(operations, graph.op), -1)
    return _boxes(name, graph, owner, [graph.rows[op].name for op in operations])


def _boxes(
    name: str,
    graph: Graph,
    owner: np.ndarray,
    labels: Sequence[str],
    shapes: Sequence[tuple[int, ...]] = (),
) -> Stage:
    """The stage in which node i belongs to box owner[i], and leaves to one box of their kind."""
    kinds = [kind for kind in _LEAVES if np.any((graph.kind == kind) & _used(graph))]
    box = owner + len(kinds)
    for position, kind in enumerate(kinds):
        box[graph.kind == kind] = position
    counts = np.bincount(box[(box >= 0) & _used(graph)], minlength=len(kinds) + len(labels))
    boxes = [Box(_LEAVES[kind], int(counts[i])) for i, kind in enumerate(kinds)]
    for i, label in enumerate(labels):
        boxes.append(Box(label, int(counts[len(kinds) + i]), tuple(shapes[i]) if shapes else ()))
    source = box[graph.operands]
    target = np.repeat(box, np.diff(graph.start))
    edges = np.unique(np.stack([source, target]), axis=1).T
    return Stage(name, graph.count(), tuple(boxes), tuple((int(a), int(b)) for a, b in edges))


def _used(graph: Graph) -> np.ndarray:
    return graph.uses() > 0
