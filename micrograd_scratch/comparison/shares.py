"""Which part of the graph a nudge to one parameter changes, counted: no time is measured here.

It answers the objection that a finite difference need not evaluate everything again.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..engine import Value, topological_order
from ..tables import Result, Table
from .executors import ThroughValues
from .problem import Problem


@dataclass(frozen=True)
class Share:
    """What a nudge to one parameter of a group ("W1": first layer's weights) changes in the graph.

    nodes are those computed from it; operations all their operands; touched_operations only those
    of their operands that change. Shares are of the whole graph's.
    """

    group: str
    parameters: int
    nodes: float
    operations: float
    touched_operations: float
    share_of_nodes: float
    share_of_operations: float


@dataclass(frozen=True, repr=False)
class Shares(Result):
    """What `compare_shares` counted, exactly: no time is measured.

    The three last say what a whole gradient by forward differences costs, in evaluations: if each
    nudge recomputes everything, only the nodes it changes, or only the operands it changes.
    """

    sizes: tuple[int, ...]
    batch_rows: int
    nodes: int
    operations: int
    groups: list[Share]
    evaluations_recomputing_all: float
    evaluations_recomputing_changed_nodes: float
    evaluations_recomputing_changed_operands: float

    def tables(self) -> list[Table]:
        rows = [
            (
                g.group,
                f"{g.parameters:,}",
                f"{g.nodes:,.0f}",
                f"{g.share_of_nodes:.1%}",
                f"{g.operations:,.0f}",
                f"{g.share_of_operations:.1%}",
            )
            for g in self.groups
        ]
        return [
            Table(
                f"4. What one nudge recomputes, of {self.nodes:,} nodes with "
                f"{self.operations:,} operands ({self.batch_rows} rows)",
                ("layer", "parameters", "nodes", "of nodes", "operands", "of operands"),
                rows,
                "A nudge changes all that is computed from it: little behind the last layer, much "
                "behind the first. A gradient by forward differences takes "
                f"{self.evaluations_recomputing_all:,.0f} evaluations if each nudge recomputes "
                f"everything, the work of {self.evaluations_recomputing_changed_nodes:,.1f} if "
                "only the nodes that change, and of "
                f"{self.evaluations_recomputing_changed_operands:,.1f} if even a long sum is "
                "corrected by its changed operands alone. Reverse mode visits every operand once "
                "on the way up and once on the way back: 2.",
            )
        ]


def compare_shares(problem: Problem, batch_rows: int = 32) -> Shares:
    """The share of the recorded graph that a nudge to one parameter changes, by layer.

    The first weight of a neuron stands for its other parameters, which go into the same sums; a
    layer's numbers are the means over its neurons.
    """
    executor = ThroughValues(problem.sizes)
    executor.use(*problem.batch(batch_rows))
    order = [node for node in topological_order(executor.loss()) if node.parents]
    nodes, operations = len(order), sum(len(node.parents) for node in order)
    groups = []
    for depth, layer in enumerate(executor.model.layers, 1):
        weights = sum(len(neuron.w) for neuron in layer.neurons)
        changes = [_changes(neuron.w[0], order) for neuron in layer.neurons]
        changed, work, touched = map(statistics.mean, zip(*changes, strict=True))
        for name, number in ((f"W{depth}", weights), (f"b{depth}", len(layer.neurons))):
            proportions = changed / nodes, work / operations
            groups.append(Share(name, number, changed, work, touched, *proportions))
    count = len(executor.parameters)
    changed_operations = sum(g.parameters * g.operations for g in groups)
    touched_operations = sum(g.parameters * g.touched_operations for g in groups)
    return Shares(
        sizes=problem.sizes,
        batch_rows=min(batch_rows, len(problem.Y)),
        nodes=nodes,
        operations=operations,
        groups=groups,
        evaluations_recomputing_all=1.0 + count,
        evaluations_recomputing_changed_nodes=1 + changed_operations / operations,
        evaluations_recomputing_changed_operands=1 + touched_operations / operations,
    )


def _changes(leaf: Value, order: Sequence[Value]) -> tuple[int, int, int]:
    """Of a graph in topological order: the nodes computed from the leaf, how many operands they
    have, and how many of those are computed from it themselves.
    """
    reached, nodes, operations, touched = {leaf}, 0, 0, 0
    for node in order:
        changed = sum(p in reached for p in node.parents)
        if changed:
            reached.add(node)
            nodes, operations = nodes + 1, operations + len(node.parents)
            touched += changed
    return nodes, operations, touched
