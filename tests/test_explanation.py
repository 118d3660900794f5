"""A derivative as the sum over paths, against `grad`, against enumeration, and as a picture."""

import math
import random
from operator import add, mul

import pytest
from pictures import NAMESPACE, Picture

from micrograd_scratch import MLP, Value, downstream, explain, recompute, where
from micrograd_scratch.engine import Constant, topological_order


def all_paths(value, leaf):
    """Every path's product, by plain recursion."""
    if value is leaf:
        return [1.0]
    slopes = value.row.slopes(value.data, *[p.data for p in value.parents])
    return [
        product * slope
        for p, slope in zip(value.parents, slopes, strict=True)
        if slope is not None
        for product in all_paths(p, leaf)
    ]


def random_graph(seed, size=14):
    rng = random.Random(seed)
    values = [Value(rng.uniform(-2, 2), label=f"x{i}") for i in range(3)]
    for _ in range(size):
        a, b = rng.choice(values[-5:]), rng.choice(values[-5:])
        step = rng.choice((mul, add, lambda a, b: a.tanh(), lambda a, b: a - b * 0.5))
        values.append(step(a, b))
    leaves = [node for node in topological_order(values[-1]) if not node.parents and node.label]
    return values[-1], rng.choice(leaves)


@pytest.mark.parametrize("seed", range(20))
def test_the_strongest_paths_of_all(seed):
    value, leaf = random_graph(seed)
    products = sorted(all_paths(value, leaf), key=abs, reverse=True)
    explanation = explain(value, leaf, paths=3)
    assert explanation.count == len(products)
    shown = [abs(path.product) for path in explanation.paths]
    assert shown == pytest.approx([abs(product) for product in products[:3]], rel=1e-12)
    assert explanation.derivative == pytest.approx(math.fsum(products), rel=1e-9, abs=1e-12)
    rest = math.fsum(products) - sum(path.product for path in explanation.paths)
    assert explanation.rest == pytest.approx(rest, rel=1e-9, abs=1e-12)
    value.backward()
    assert explanation.derivative == pytest.approx(leaf.grad, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_each_path_is_a_path(seed):
    value, leaf = random_graph(seed)
    seen = set()
    for path in explain(value, leaf, paths=10).paths:
        assert path.nodes[0] is leaf and path.nodes[-1] is value
        product = 1.0
        for (node, position), slope, before in zip(
            path.edges, path.slopes, path.nodes, strict=False
        ):
            assert node.parents[position] is before
            slopes = node.row.slopes(node.data, *[p.data for p in node.parents])
            assert slopes[position] == slope
            product *= slope
        assert product == path.product
        seen.add(tuple((id(node), position) for node, position in path.edges))
    assert len(seen) == len(explain(value, leaf, paths=10).paths)  # none twice


def test_text():
    x = Value(3.0, label="x")
    square = x * x
    square.label = "s"
    y = square * 2 + x
    y.label = "y"
    assert str(explain(y, x)).splitlines() == [
        "d y / d x = 13, the sum over 3 paths",
        "  6 = 3 * 2 * 1   along x -> s -> * -> y",
        "  6 = 3 * 2 * 1   along x -> s -> * -> y",
        "  1 = 1   along x -> y",
    ]
    assert str(explain(y, x, paths=2)).splitlines()[-1] == "  1 from 1 weaker path"
    assert repr(explain(x.tanh(), x)).startswith("d tanh / d x = 0.009866, over a single path")
    negative = -x
    assert "-1 = (-1)   along x -> neg" in str(explain(negative, x))


def test_no_path_and_the_leaf_itself():
    x, z = Value(3.0, label="x"), Value(1.0, label="z")
    y = x.exp()
    assert explain(y, z).derivative == 0.0 and not explain(y, z).paths
    assert str(explain(y, z)) == "d exp / d z = 0: no path leads from the one to the other"
    assert explain(x, x).derivative == 1.0 and explain(x, x).count == 1
    assert "no dependence" not in str(explain(x.detach(), x))
    assert explain(x.detach(), x).count == 0


def test_the_branch_not_taken_is_no_path():
    x = Value(2.0, label="x")
    y = where(x > 0, x * 3.0, x * 5.0)
    explanation = explain(y, x)
    assert explanation.derivative == 3.0 and explanation.count == 1


def test_no_gradient_is_read_or_changed():
    value, leaf = random_graph(3)
    for node in topological_order(value):
        node.grad = 123.0
    explain(value, leaf)
    downstream(value, leaf)
    assert all(node.grad == 123.0 for node in topological_order(value))


def test_more_paths_than_atoms():
    x = Value(1.0, label="x")
    y = x
    for _ in range(300):
        y = y * 0.5 + y * 0.5
    explanation = explain(y, x)
    assert explanation.count == 2.0**300
    assert explanation.derivative == 1.0
    assert "the sum over 2.03703597633e+90 paths" in str(explanation)
    assert "more)" in str(explanation)  # the middle of a path of 601 nodes


def test_long_chains_do_not_recurse():
    y = x = Value(1.0)
    for _ in range(50_000):
        y = y + 1.0
    assert explain(y, x).paths[0].product == 1.0
    for _ in range(300_000):
        y = y + 1.0
    with pytest.raises(ValueError, match="more than 300000 nodes"):
        explain(y, x)


def test_arguments():
    x = Value(1.0)
    with pytest.raises(ValueError, match="paths must be at least 1, got 0"):
        explain(x, x, paths=0)
    with pytest.raises(ValueError, match="2 is a Constant"):
        explain(x * 2.0, (x * 2.0).parents[1])
    for show in (explain, downstream):
        with pytest.raises(TypeError, match="x is 'w', .*: pass the Values themselves"):
            show(x * 2.0, "w")
        with pytest.raises(TypeError, match="y is 2.0, .*: pass the Values themselves"):
            show(2.0, x)
    with pytest.raises(ValueError, match="y does not depend on z"):
        downstream(Value(1.0, label="y"), Value(1.0, label="z"))


# ---------------------------------------------------------------- pictures
def red_edges(drawing):
    picture = Picture(drawing.svg)
    return {
        name
        for name, edge in picture.edges.items()
        if edge.find(f"{NAMESPACE}path").get("stroke") == "#b91c1c"
    }


def test_paths_are_highlighted():
    x, z = Value(3.0, label="x"), Value(2.0, label="z")
    y = (x * x + z * x).tanh()
    explanation = explain(y, x, paths=2)
    drawing = explanation.drawing
    assert len(red_edges(drawing)) == len(
        {edge for path in explanation.paths for edge in path.edges}
    )
    everything = Picture(drawing.svg)
    assert len(everything.nodes) == len(topological_order(y))
    assert "the sum over 3 paths" in everything.words()
    assert red_edges(explain(y, Value(1.0)).drawing) == set()


def test_of_a_large_graph_the_paths_are_drawn():
    model = MLP(2, [16, 16, 1], activation="tanh", rng=random.Random(1))
    loss = (model([0.5, -1.0]) - 1.0) ** 2
    explanation = explain(loss, model.parameters()[0], paths=5)
    picture = Picture(explanation.svg)
    assert len(picture.nodes) == len({node for path in explanation.paths for node in path.nodes})
    assert "operands not drawn" in picture.words()


def test_a_path_too_long_to_draw_is_told_in_text(tmp_path):
    y = x = Value(1.0, label="x")
    for _ in range(500):
        y = y + 1.0
    explanation = explain(y, x)
    bundle = explanation._repr_mimebundle_()
    assert bundle["text/plain"].startswith("d + / d x = 1, over a single path")
    with pytest.raises(ValueError, match="501 nodes would be highlighted, more than 200"):
        explanation.save(tmp_path / "x.svg")


def test_saving(tmp_path):
    x = Value(1.0, label="x")
    path = explain(x * x, x).save(tmp_path / "x.svg")
    assert len(Picture(open(path).read()).nodes) == 2


def test_downstream_is_what_a_change_makes_stale():
    for seed in range(8):
        value, leaf = random_graph(seed)
        nodes = topological_order(value)
        before = {node: node.data for node in nodes}
        leaf.data += 0.37
        recompute(value)
        changed = {node for node in nodes if node.data != before[node]}
        drawing = downstream(value, leaf)
        picture = Picture(drawing.svg)
        lit = {
            name
            for name, node in picture.nodes.items()
            if next(shape for shape in node if shape.get("stroke")).get("stroke") != "#d1d5db"
        }
        assert len(picture.nodes) == len(nodes)
        assert len(changed) == len(lit)  # continuous operations: what depends on it changes
        operations = sum(bool(node.parents) for node in nodes)
        assert f"recomputes {len(lit) - 1} of {operations} operations" in picture.words()
        assert len(red_edges(drawing)) == sum(
            p in changed for node in nodes for p in node.parents if node in changed
        )


def test_downstream_of_a_constant_and_through_conditions():
    x = Value(2.0, label="x")
    y = where(x > 0, 1.0, 5.0)
    assert "recomputes 2 of 2" in Picture(downstream(y, x).svg).words()
    constant = next(p for p in y.parents if isinstance(p, Constant))
    assert "recomputes 1 of 2" in Picture(downstream(y, constant).svg).words()
