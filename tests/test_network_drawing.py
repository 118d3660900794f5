"""Drawings of networks: neurons, connections, colors, elision, and modules of any kind."""

import random

import pytest
from pictures import ENGINES, NAMESPACE, Picture, use_engine

from micrograd_scratch import MLP, Layer, Neuron, Value, draw_network
from micrograd_scratch.network_drawing import Unit


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch, tmp_path):
    use_engine(request.param, monkeypatch, tmp_path)
    return request.param


def network(*sizes, **options):
    return MLP(sizes[0], list(sizes[1:]), rng=random.Random(1), **options)


def place(element):
    """Where a circle is, and how far it reaches."""
    shape = element.find(f"{NAMESPACE}ellipse")
    return float(shape.get("cx")), float(shape.get("cy")), float(shape.get("rx"))


def test_neurons_stand_in_columns(engine):
    model = network(2, 5, 3, 1)
    picture = Picture(draw_network(model).svg)
    assert len(picture.nodes) == 2 + 5 + 3 + 1
    assert len(picture.edges) == 2 * 5 + 5 * 3 + 3 * 1
    columns = {}
    for node in picture.nodes.values():
        x, y, radius = place(node)
        columns.setdefault(round(x), []).append((y, picture.words(node), radius))
    names = [[name for _, name, _ in sorted(column)] for _, column in sorted(columns.items())]
    assert names == [
        ["x0", "x1"],
        ["1.0", "1.1", "1.2", "1.3", "1.4"],
        ["2.0", "2.1", "2.2"],
        ["3.0"],
    ]
    for column in columns.values():  # none touches the next, and all columns have one center
        heights = sorted(y for y, _, _ in column)
        gaps = [b - a for a, b in zip(heights, heights[1:], strict=False)]
        assert all(gap > 2 * column[0][2] for gap in gaps)
    centers = {round(sum(y for y, _, _ in column) / len(column)) for column in columns.values()}
    assert max(centers) - min(centers) <= 1


def test_activations_for_an_input():
    model = network(2, 3, 2, activation="tanh")
    x = [0.5, -2.0]
    hidden = model.layers[0](x)
    expected = [0.5, -2.0, *(h.data for h in hidden), *(y.data for y in model(x))]
    drawing = draw_network(model, x)
    picture = Picture(drawing.svg)
    shown = [float(picture.words(node)) for node in picture.nodes.values()]
    assert sorted(shown) == pytest.approx(sorted(expected), rel=0.06)
    fills = [
        (float(picture.words(node)), node.find(f"{NAMESPACE}ellipse").get("fill"))
        for node in picture.nodes.values()
    ]
    for number, fill in fills:
        red, blue = int(fill[1:3], 16), int(fill[5:7], 16)
        assert (blue > red) == (number > 0)
    assert f"x1  output {x[1]:.4g}" in drawing.tree
    assert draw_network(model, [Value(0.5), Value(-2.0)]).source == drawing.source


def test_softmax_outputs_are_probabilities():
    drawing = draw_network(network(2, 3, output="softmax"), [1.0, 2.0])
    outputs = [float(line.split("output ")[1].split()[0]) for line in drawing.tree.splitlines()[3:]]
    assert sum(outputs) == pytest.approx(1.0, abs=1e-3)


def connections(drawing):
    """(color, width) of every edge of an SVG, by its title."""
    picture = Picture(drawing.svg)
    return {
        edge.find(f"{NAMESPACE}title").text: (
            edge.find(f"{NAMESPACE}path").get("stroke"),
            float(edge.find(f"{NAMESPACE}path").get("stroke-width", 1.0)),
        )
        for edge in picture.edges.values()
    }


def test_connections_show_weights_or_gradients():
    model = network(1, 2)
    big, small = model.layers[0].neurons
    big.w[0].data, small.w[0].data = -4.0, 1.0
    big.w[0].grad, small.w[0].grad = 0.1, -0.4
    weights = connections(draw_network(model))
    gradients = connections(draw_network(model, gradients=True))

    def positive(color):
        return int(color[5:7], 16) > int(color[1:3], 16)

    assert not positive(weights["n0->n1"][0]) and positive(weights["n0->n2"][0])
    assert positive(gradients["n0->n1"][0]) and not positive(gradients["n0->n2"][0])
    assert weights["n0->n1"][1] > weights["n0->n2"][1]
    assert gradients["n0->n1"][1] < gradients["n0->n2"][1]
    assert "weights -4*x0" in draw_network(model).tree
    assert "weight gradients 0.1*x0" in draw_network(model, gradients=True).tree


def test_wide_layers_are_elided_with_their_count(engine):
    model = network(40, 30, 2)
    drawing = draw_network(model)
    picture = Picture(drawing.svg)
    assert len(picture.nodes) == (15 + 1) + (15 + 1) + 2
    assert len(picture.edges) == 15 * 15 + 15 * 2
    words = picture.words()
    assert "25 more" in words and "15 more" in words
    assert "40 inputs -> 30 relu -> 2 linear" in words
    assert {"x0", "x39", "1.0", "1.29"} <= set(words.split())
    assert "... 25 more ..." in drawing.tree
    # the count stands alone in its row: the neurons before it above, those after it below
    heights = {}
    for node in picture.nodes.values():
        shape = node.find(f"{NAMESPACE}ellipse")
        if shape is None:
            shape = node.find(f"{NAMESPACE}text")
            heights[picture.words(node)] = float(shape.get("y"))
        else:
            heights[picture.words(node)] = float(shape.get("cy"))
    inputs = [name for name in heights if name.startswith("x")] + ["25 more"]
    inputs.sort(key=heights.__getitem__)
    assert inputs == [f"x{i}" for i in range(7)] + ["25 more"] + [f"x{i}" for i in range(32, 40)]
    rows = [heights[name] for name in inputs]
    assert min(b - a for a, b in zip(rows, rows[1:], strict=False)) > 30
    every = Picture(draw_network(model, max_width=40).svg)
    assert len(every.nodes) == 72 and "more" not in every.words()
    few = Picture(draw_network(model, max_width=3).svg)
    assert len(few.nodes) == 3 + 3 + 2
    with pytest.raises(ValueError, match="max_width must be at least 3, got 2"):
        draw_network(model, max_width=2)


def test_parts_of_networks():
    assert len(Picture(draw_network(Layer(3, 2)).svg).nodes) == 5
    words = Picture(draw_network(Neuron(3)).svg).words()
    assert "3 inputs -> 1 relu" in words


class FreeForm:
    """A network with a connection that jumps over a column."""

    def units(self, x=None):
        outputs = [None] * 4 if x is None else [x[0], x[1], 0.5, -0.5]
        w = [Value(1.0), Value(-2.0), Value(0.5), Value(3.0)]
        return [
            Unit("height", 0, output=outputs[0]),
            Unit("<b>&\\N", 0, output=outputs[1]),
            Unit("h", 1, [(0, w[0]), (1, w[1])], Value(0.1), "tanh", outputs[2]),
            Unit("out", 2, [(0, w[2]), (2, w[3])], None, "linear", outputs[3]),
        ]


def test_free_form_networks_need_only_units(engine):
    drawing = draw_network(FreeForm())
    picture = Picture(drawing.svg)
    assert sorted(map(picture.words, picture.nodes.values())) == ["<b>&\\N", "h", "height", "out"]
    assert len(picture.edges) == 4
    assert "2 inputs -> 1 tanh -> 1 linear" in picture.words()
    outputs = Picture(draw_network(FreeForm(), [1.0, 2.0]).svg)
    assert {"1", "2", "0.5", "-0.5"} <= set(outputs.words().split())


def test_what_is_no_network_is_named():
    with pytest.raises(TypeError, match=r"cannot draw 3 as a network: it needs layers"):
        draw_network(3)
    with pytest.raises(ValueError, match="takes 2 inputs, got 3"):
        draw_network(network(2, 1), [1.0, 2.0, 3.0])


def test_the_legend_shows_the_lines_it_names():
    picture = Picture(draw_network(network(1, 2)).svg)
    assert "1 input -> 2" in picture.words()
    (label,) = [g for g in picture.root.iter(f"{NAMESPACE}g") if g.get("class") == "graph"]
    swatches = [e.get("fill") for e in label.findall(f"{NAMESPACE}polygon")][1:]
    assert len(swatches) == len(set(swatches)) == 4


def test_weights_that_are_not_finite_do_not_hide_the_others():
    model = network(2, 2)
    model.layers[0].neurons[0].w[0].data = float("nan")
    model.layers[0].neurons[0].w[1].data = float("inf")
    assert len(Picture(draw_network(model, [1.0, 1.0]).svg).edges) == 4
