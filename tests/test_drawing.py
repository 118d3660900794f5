"""Drawings of graphs: real pictures, parsed and compared with the graph."""

import os
import random
import re
from operator import add, mul
from pathlib import Path

import pytest
from pictures import ENGINES, NAMESPACE, Picture, screenshot, use_engine

from micrograd_scratch import MLP, Value, detect_anomaly, dot, draw, draw_network, where
from micrograd_scratch.drawing import NOT_FINITE, NOT_RUN, TEXT, color_of
from micrograd_scratch.engine import Constant, topological_order


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch, tmp_path):
    use_engine(request.param, monkeypatch, tmp_path)
    return request.param


def example():
    """Karpathy's example, with an operand used twice."""
    a, b, c = Value(2.0, label="a"), Value(-3.0, label="b"), Value(10.0, label="c")
    e = a * b
    e.label = "e"
    d = e + c
    result = (d * -0.2 + a * a).tanh()
    result.label = "L"
    return result, a, b, c


def random_graph(seed, size):
    """A graph of about `size` nodes, with shared operands and constants."""
    rng = random.Random(seed)
    values = [Value(rng.uniform(-1, 1), label=f"x{i}") for i in range(4)]
    while len(topological_order(values[-1])) < size:
        a, b = rng.choice(values[-6:]), rng.choice(values[-6:])
        operations = (mul, add, lambda a, b: a - 0.5, lambda a, b: dot([a, b], [b, a]))
        values.append(rng.choice(operations)(a, b))
    return values[-1]


def breadth_first(root):
    nodes = [root]
    for node in nodes:
        nodes += dict.fromkeys(p for p in node.parents if p not in set(nodes))
    return nodes


def edge_ends(picture):
    """The (from, to) of every edge, by the titles that Graphviz writes."""
    return sorted(edge.find(f"{NAMESPACE}title").text for edge in picture.edges.values())


@pytest.mark.parametrize("seed", range(4))
def test_one_node_per_value_and_one_edge_per_operand(engine, seed):
    root = random_graph(seed, 40)
    root.backward()
    graph = topological_order(root)
    picture = Picture(draw(root).svg)
    assert len(picture.nodes) == len(graph)
    assert len(picture.edges) == sum(len(node.parents) for node in graph)
    nodes = breadth_first(root)  # the order of their names
    for i, node in enumerate(nodes):
        words = picture.words(picture.nodes[f"n{i}"])
        assert f"data {node.data:.4g}" in words
        assert (f"grad {node.grad:.4g}" in words) == (type(node) is Value)
        assert node.op in words.split() or not node.parents
        assert node.label in words
    number = {node: i for i, node in enumerate(nodes)}
    expected = sorted(f"n{number[p]}->n{number[node]}" for node in nodes for p in node.parents)
    assert edge_ends(picture) == expected


def test_an_operand_used_twice_has_two_edges():
    x = Value(3.0)
    assert edge_ends(Picture(draw(x * x).svg)) == ["n1->n0", "n1->n0"]


def test_backward_that_has_not_run_is_not_shown_as_zero():
    result, a, *_ = example()
    before = Picture(draw(result).svg)
    assert "grad not run" in before.words()
    assert "backward has not run from here" in before.words()
    assert "grad 0" not in before.words()
    assert "grad 0" not in draw(result).tree and "has not run" in draw(result).tree
    zero = (result * 0.0) + 1.0
    zero.backward()
    after = Picture(draw(zero).svg)
    assert "not run" not in after.words()
    assert "grad 0" in after.words()


def test_gradients_of_another_root_are_shown_beside_those_that_have_not_run():
    x = Value(2.0, label="x")
    y = x * 3.0
    y.backward()
    later = y + Value(1.0, label="z")
    words = Picture(draw(later).svg).words()
    assert "x data 2 grad 3" in words
    assert "z data 1 grad not run" in words


def test_kinds_are_told_apart():
    model = MLP(1, [1], rng=random.Random(0))
    x = Value(0.5, label="x")
    loss = model([x]) * 2.0
    free = Value(1.0, label="theta")
    loss = loss + free
    drawing = draw(loss, parameters=[free])
    looks = re.compile(r'label="(?:data )?(.*?)[\\"].*? color="(.*?)".*? style=(.*?)\]')
    borders = {name: look for name, *look in looks.findall(drawing.source)}
    assert borders["W1[0,0]"] == borders["b1[0]"] == borders["theta"]
    kinds = {tuple(borders[name]) for name in ("theta", "x", "2")}
    assert len(kinds) == 3
    words = Picture(drawing.svg).words()
    for kind in ("result", "operation", "parameter", "input", "constant"):
        assert kind in words
    assert "parameter" not in Picture(draw(x * 2.0).svg).words()


def test_colors_follow_sign_and_size():
    assert color_of(0.0, 1.0) == "#ffffff"
    assert color_of(1.0, 1.0) != color_of(-1.0, 1.0)
    assert color_of(float("nan"), 1.0) == color_of(float("inf"), 1.0) == NOT_FINITE
    reds = [int(color_of(g, 2.0)[1:3], 16) for g in (0.0, 0.02, 0.5, 2.0)]
    assert reds == sorted(reds, reverse=True) and len(set(reds)) == 4
    blues = [int(color_of(-g, 2.0)[5:7], 16) for g in (0.0, 0.02, 0.5, 2.0)]
    assert blues == sorted(blues, reverse=True) and len(set(blues)) == 4
    assert color_of(5.0, 0.0) == "#ffffff"  # no scale


def test_text_can_be_read_on_every_fill():
    def luminance(color):
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    fills = [color_of(share / 10, 1.0) for share in range(-10, 11)] + [NOT_RUN, NOT_FINITE]
    for fill in fills:
        contrast = (luminance(fill) + 0.05) / (luminance(TEXT) + 0.05)
        assert contrast >= 4.5  # WCAG 2, level AA


def test_local_derivatives_on_the_edges():
    a, b = Value(3.0, label="a"), Value(-4.0, label="b")
    y = a * b
    y.backward()
    drawing = draw(y, derivatives=True)
    picture = Picture(drawing.svg)
    labels = [picture.words(edge) for edge in picture.edges.values()]
    assert sorted(labels) == ["-4", "3"]
    assert "[-4] a" in drawing.tree and "[3] b" in drawing.tree
    assert not any(Picture(draw(y).svg).words(edge) for edge in Picture(draw(y).svg).edges.values())


def test_an_edge_without_derivative_is_dashed(engine):
    x = Value(2.0, label="x")
    y = where(x > 0, x * 3.0, x * 5.0)
    picture = Picture(draw(y, derivatives=True).svg)
    paths = {
        picture.words(edge): edge.find(f"{NAMESPACE}path").get("stroke-dasharray")
        for edge in picture.edges.values()
    }
    assert paths["none"] and not paths["3"]


def test_numbers_that_are_not_finite():
    x = Value(-1.0, label="x")
    y = x.log() + Value(float("inf"))
    y.backward()
    words = Picture(draw(y).svg).words()
    assert "data nan" in words and "grad nan" in words and "data inf" in words


def test_what_people_write_into_data_and_grad_is_shown():
    x = Value(1.0)
    y = x * 2
    y.grad, x.grad = 1, 7  # ints, as in micrograd
    assert "grad 7" in Picture(draw(y).svg).words()


def test_depth():
    x = Value(1.0, label="x")
    y = ((x + 1).exp() * 2).tanh()
    graph = topological_order(y)
    sizes = [len(Picture(draw(y, depth=depth).svg).nodes) for depth in range(6)]
    assert sizes == [1, 2, 4, 5, 7, 7] and sizes[-1] == len(graph)
    assert "1 operand not drawn" in Picture(draw(y, depth=0).svg).words()
    assert "2 operands not drawn" in draw(y, depth=1).tree
    with pytest.raises(ValueError, match="depth must be at least 0, got -1"):
        draw(y, depth=-1)


def test_too_large_is_refused_by_names_of_the_remedies():
    y = random_graph(1, 210)
    for remedy in ("depth=", "max_nodes=", "modules=model", "200 nodes"):
        with pytest.raises(ValueError, match=remedy):
            draw(y)
    assert len(Picture(draw(y, max_nodes=300).svg).nodes) == len(topological_order(y))


def test_a_million_nodes_are_refused_and_a_part_of_them_is_drawn():
    """Without recursion: the chain is a thousand times deeper than Python's stack."""
    v = Value(1.0)
    for _ in range(1_000_000):
        v = v + v
    with pytest.raises(ValueError, match="more than 200 nodes"):
        draw(v)
    with pytest.raises(ValueError, match="more than 300000 nodes"):
        draw(v, modules=MLP(2, [1]))
    assert len(Picture(draw(v, depth=3).svg).nodes) == 4


def test_several_results():
    x = Value(1.0, label="x")
    y, z = x * 2, x * 3
    z.backward()
    drawing = draw([y, z])
    assert len(Picture(drawing.svg).nodes) == 5
    assert drawing.tree.count("*  data") == 2


def test_arguments_that_are_no_use_are_named():
    x = Value(1.0)
    with pytest.raises(TypeError, match=r"draw takes a Value or several, got 3\.0"):
        draw([x, 3.0])
    with pytest.raises(ValueError, match="'sideways'"):
        draw(x, rankdir="sideways")
    with pytest.raises(ValueError, match=r"needs the modules"):
        draw(x, collapse="layer")


def test_direction():
    result, *_ = example()
    wide, tall = (
        Picture(draw(result, rankdir=direction, legend=False).svg).root
        for direction in ("LR", "TB")
    )
    assert float(wide.get("width")[:-2]) > float(tall.get("width")[:-2])


def test_no_legend():
    result, *_ = example()
    assert "operation" not in Picture(draw(result, legend=False).svg).words()


def test_text_tree():
    a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    y = a * b + 1
    y.label = "y"
    y.backward()
    assert draw(y * y).tree.splitlines() == [
        "*  data 25  grad not run",
        "├─ y = +  data -5  grad 1",
        "│  ├─ *  data -6  grad 1",
        "│  │  ├─ a  data 2  grad -3",
        "│  │  └─ b  data -3  grad 2",
        "│  └─ constant  data 1",
        "└─ y = +  (above)",
        "(backward has not run from here)",
    ]


def test_source_lines_are_told_where_they_are_known():
    with detect_anomaly():
        y = Value(1.0) * 2
    assert re.search(r"at .*test_drawing\.py:\d+", draw(y).tree)


def test_constants_and_leaves_can_be_drawn_alone():
    for value in (Constant(1.5), Value(1.5)):
        picture = Picture(draw(value).svg)
        assert len(picture.nodes) == 1 and not picture.edges
        assert "1.5" in picture.words()


@pytest.mark.slow
@pytest.mark.parametrize("background", ["#ffffff", "#111111"])
def test_screenshot_of_a_notebook(background, tmp_path):
    """What a browser paints of the notebook's HTML: a card with colored nodes on any background.

    Set PICTURES to a folder to keep the images.
    """
    Image = pytest.importorskip("PIL.Image")
    result, *_ = example()
    result.backward()
    model = MLP(2, [16, 16, 1], rng=random.Random(1))
    loss = (model([0.5, -1.0]) - 1) ** 2
    loss.backward()
    drawings = (
        draw(result, derivatives=True),
        draw(loss, modules=model),
        draw_network(model, [0.5, -1.0]),
    )
    outputs = [drawing._repr_mimebundle_()["text/html"] for drawing in drawings]
    page = tmp_path / "page.html"
    page.write_text(f'<body style="background:{background}">{"<br>".join(outputs)}')
    image = Path(os.environ.get("PICTURES", tmp_path)) / f"notebook-{background[1:]}.png"
    screenshot(page, image, (1500, 1900))
    painted = Image.open(image).convert("RGB")
    colors = {f"#{bytes(color).hex()}" for _, color in painted.getcolors(1 << 24)}
    assert {background, "#fbfbf9", "#6fb1f7"} <= colors  # page, card, the largest gradient
