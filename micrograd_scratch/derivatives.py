"""Derivatives: what one walk over a recorded graph gives besides `Value.backward`.

`grad` is the chain rule run on Values: its answers are recorded, and can be differentiated again,
which is all that `jacobian`, `hessian` and `hvp` do. `jvp` runs the rule forwards, on numbers. It
leaves out derivatives of functions that record nothing: finite_difference.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from . import operations as o
from .engine import Value, as_value, looking, paired, topological_order
from .operations import Conditional, shown, where


def grad(y: Value, xs: Value | Sequence[Value]) -> Any:
    """dy/dx for every x, as Values that can be differentiated again. (One Value for one x.)

    The chain rule of `backward`, run on Values. An x that y does not depend on gets a 0. The graph
    it records holds wherever a `where` turns out: a node that is only reached under a condition
    carries that condition, and what it passes on is selected by it rather than multiplied.
    """
    targets = [xs] if isinstance(xs, Value) else _listed("xs", xs)
    only_values(y, targets)
    order = topological_order(y)
    wanted = set(targets)  # the nodes that depend on an x: nothing else needs an adjoint
    for node in order:
        if not wanted.isdisjoint(node.parents):
            wanted.add(node)
    adjoints: dict[Value, Any] = {y: 1.0}
    reach: dict[Value, Any] = {}  # node -> the condition under which it is reached; absent: always
    for node in reversed(order):
        if node not in adjoints or not node.parents or node not in wanted:
            continue
        slopes = node.row.partials(node, *node.parents)
        for p, slope in paired(node, slopes):
            if slope is None or p not in wanted:
                continue
            condition = reach.get(node)
            if isinstance(slope, Conditional):
                condition = _both(condition, slope.condition)
                slope = slope.partial
            term = _product(adjoints[node], slope)
            if condition is not None:
                term = where(condition, term, 0.0)
            if p not in adjoints:
                adjoints[p] = term
                if condition is not None:
                    reach[p] = condition
            else:
                adjoints[p] = adjoints[p] + term
                if p in reach:
                    reach[p] = _either(reach[p], condition)
                    if reach[p] is None:
                        del reach[p]
    answers = [as_value(adjoints.get(x, 0.0)) for x in targets]
    return answers[0] if isinstance(xs, Value) else answers


def _product(adjoint: Any, slope: Any) -> Any:
    """adjoint * slope, without a node where the rule itself says 1 or -1."""
    for a, b in ((adjoint, slope), (slope, adjoint)):
        if type(b) is float and b in (1.0, -1.0):
            return a if b == 1.0 else -a
    return adjoint * slope


def _both(a: Any, b: Any) -> Any:
    return b if a is None else where(a, b, 0.0)


def _either(a: Any, b: Any) -> Any:
    return None if b is None else where(a, a, b)


def jacobian(ys: Iterable[Value], xs: Iterable[Value]) -> list[list[Value]]:
    """The matrix of dy_i/dx_j, shape (len ys, len xs), by one backward pass a row."""
    xs = _listed("xs", xs)
    return [grad(y, xs) for y in _listed("ys", ys)]


def hessian(y: Value, xs: Iterable[Value]) -> list[list[Value]]:
    """The matrix of second derivatives of y, by one backward pass a row. Shape (len xs, len xs)."""
    xs = _listed("xs", xs)
    return jacobian(grad(y, xs), xs)


def hvp(y: Value, xs: Iterable[Value], v: Iterable[Any]) -> list[Value]:
    """The Hessian of y times a vector v, at the cost of two backward passes (Pearlmutter 1994)."""
    xs, v = _listed("xs", xs), _listed("v", v)
    if len(xs) != len(v):
        raise ValueError(f"hvp needs a number in v for each x, got {len(xs)} and {len(v)}")
    return grad(as_value(o.dot(grad(y, xs), v)), xs)


def jvp(y: Any, xs: Iterable[Value], tangents: Iterable[float]) -> Any:
    """Forward mode: the derivative of y along a direction, sum_i dy/dx_i * tangent_i, as a float.

    xs and tangents have equal lengths. For a list of results, a list. One forward walk costs about
    as much as one evaluation, and gives one directional derivative of every result.
    """
    results = [y] if isinstance(y, Value) else _listed("y", y)
    xs, tangents = _listed("xs", xs), _listed("tangents", tangents)
    if len(xs) != len(tangents):
        raise ValueError(f"jvp needs a tangent for each x, got {len(xs)} and {len(tangents)}")
    for result in results:
        only_values(result, xs)
    tangent: dict[Value, float] = {}
    for x, t in zip(xs, tangents, strict=True):
        tangent[x] = tangent.get(x, 0.0) + t
    look = looking()
    for node in topological_order(*results):
        if node.parents:
            slopes = node.row.slopes(node.data, *[p.data for p in node.parents])
            terms = [
                slope * tangent[p]
                for p, slope in paired(node, slopes)
                if slope is not None and p in tangent
            ]
            if node in tangent:  # an x that is itself computed from others
                terms.append(tangent[node])
            if terms:
                tangent[node] = o.total_of.value(*terms)
                if look is not None:
                    look(node, tangent[node], "the tangent of ")
    answers = [float(tangent.get(result, 0.0)) for result in results]
    return answers[0] if isinstance(y, Value) else answers


def only_values(y: Any, xs: Sequence[Any]) -> None:
    """TypeError unless y and every x is a Value."""
    for name, value in (("y", y), *(("x", x) for x in xs)):
        if not isinstance(value, Value):
            raise TypeError(
                f"{name} is {shown(value)}, but derivatives are of one Value y, by Values x: pass "
                "the Values themselves, y first"
            )


def _listed(name: str, values: Iterable[Any]) -> list[Any]:
    """The values as a list; TypeError for what is none."""
    if not hasattr(values, "__iter__"):
        raise TypeError(f"{name} is {shown(values)}: give a list, such as [{name[0]}]")
    return list(values)
