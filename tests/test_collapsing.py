"""Large graphs as few boxes: which nodes a box stands for, and that none is lost."""

import random

import pytest
from pictures import Picture

from micrograd_scratch import MLP, Layer, Module, Neuron, Value, data, draw, losses
from micrograd_scratch.collapsing import CollapsedPicture, find_owners, find_parts
from micrograd_scratch.engine import topological_order


def network(sizes=(2, 16, 16, 1), **options):
    return MLP(sizes[0], list(sizes[1:]), rng=random.Random(1), **options)


def batch_loss(model, samples=20):
    """The loss of micrograd's demonstration: hinge over a batch, and L2."""
    X, Y = data.moons(samples)
    scores = [model(x) for x in X]
    hinges = [(1 + -(2 * y - 1) * score).relu() for y, score in zip(Y, scores, strict=True)]
    loss = sum(hinges) * (1.0 / len(hinges))
    return loss + 1e-4 * sum(p * p for p in model.parameters())


def collapsed(root, modules, by_layer=True, merged=False):
    nodes = topological_order(root)
    owner = find_owners(nodes, find_parts(modules, by_layer))
    parameters = set(modules.parameters())
    return CollapsedPicture([root], nodes, owner, parameters, merged)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("by_layer", [False, True])
def test_every_node_is_in_one_box_and_every_operand_on_one_edge(by_layer, merged):
    model = network((2, 3, 2, 1))
    loss = batch_loss(model, 6)
    picture = collapsed(loss, model, by_layer, merged)
    nodes = [node for box in picture.boxes for node in box.nodes]
    assert len(nodes) == len(set(nodes)) == len(topological_order(loss))
    inside = sum(
        p in set(box.nodes) for box in picture.boxes for node in box.nodes for p in node.parents
    )
    operands = sum(len(node.parents) for node in topological_order(loss))
    assert sum(picture.edges.values()) + inside == operands


def test_what_a_neuron_owns():
    model = network((2, 3, 1), activation="tanh")
    loss = (model([0.5, -1.0]) - 1.0) ** 2
    parts = find_parts(model, by_layer=False)
    assert [part.title for part in parts] == [
        "neuron 1.0", "neuron 1.1", "neuron 1.2", "neuron 2.0",
    ]  # fmt: skip
    owner = find_owners(topological_order(loss), parts)
    mine = [node.op for node, part in owner.items() if part is parts[0]]
    assert sorted(mine) == ["", "", "", "dot", "tanh"]
    last = [node.op for node, part in owner.items() if part is parts[3]]
    assert sorted(last) == ["", "", "", "", "dot"]  # linear: the loss is none of it


def test_neurons_of_other_make_are_found_too():
    """Elementwise, with an activation of several operations: micrograd's way of writing it."""

    class Elementwise(Neuron):
        def __call__(self, x):
            total = sum((w * xi for w, xi in zip(self.w, x, strict=True)), self.b)
            return total * (total * 0.5).sigmoid()

    neurons = [Elementwise(2, rng=random.Random(i)) for i in range(2)]
    xs = [Value(0.5), Value(-0.5)]
    result = neurons[0](xs) * neurons[1](xs)
    parts = find_parts(neurons, by_layer=False)
    owner = find_owners(topological_order(result), parts)
    for neuron, part in zip(neurons, parts, strict=True):
        operations = [node.op for node, its in owner.items() if its is part and node.parents]
        assert sorted(operations) == ["*", "*", "*", "*", "+", "+", "sigmoid"]
        assert set(neuron.parameters()) <= {node for node, its in owner.items() if its is part}
    assert result not in owner


def test_what_uses_parameters_otherwise_is_not_the_modules():
    model = network((2, 3, 1))
    penalty = sum(p * p for p in model.parameters())
    loss = model([1.0, 2.0]) + penalty
    owner = find_owners(topological_order(loss), find_parts(model, by_layer=True))
    assert not any(node.op in ("*", "+") for node in owner)


def test_weight_decay_of_elementwise_neurons_is_not_theirs():
    """w * w is no step of a neuron that computes w * x."""

    class Elementwise(Neuron):
        def __call__(self, x):
            return sum((w * xi for w, xi in zip(self.w, x, strict=True)), self.b).tanh()

    neuron = Elementwise(3, rng=random.Random(0))
    penalty = sum(p * p for p in neuron.parameters())
    loss = neuron([1.0, 2.0, 3.0]) + penalty
    owner = find_owners(topological_order(loss), find_parts(neuron, by_layer=False))
    assert sorted(node.op for node in owner if node.parents) == ["*"] * 3 + ["+"] * 3 + ["tanh"]


def test_activations_that_branch_are_owned_on_both_sides():
    def kinked(x):
        return x * 2.0 if x > 0 else x.exp()

    neurons = [Neuron(1, activation=kinked, rng=random.Random(i)) for i in range(4)]
    outputs = [neuron([x]) for neuron in neurons for x in (1.0, -1.0)]
    assert {output.op for output in outputs} == {"*", "exp"}
    owner = find_owners(topological_order(*outputs), find_parts(neurons, by_layer=False))
    assert all(output in owner for output in outputs)


def test_recurrent_networks_apply_their_layer_to_its_own_outputs():
    layer = Layer(3, 2, activation="tanh", rng=random.Random(0))
    state = [Value(0.0), Value(0.0)]
    for x in (0.5, -1.0, 2.0, 0.25):
        state = layer([*state, x])
    loss = state[0] * state[1]
    picture = collapsed(loss, layer)
    box = next(box for box in picture.boxes if box.part is not None)
    assert sum(bool(node.parents) for node in box.nodes) == 4 * 2 * 2


def test_a_layer_that_acts_on_all_its_neurons():
    model = network((2, 3, 2), output="softmax")
    loss = -model([0.5, -1.0])[0].log()
    picture = collapsed(loss, model)
    words = [picture.box_lines(box)[0] for box in picture.boxes]
    # the steps from the neurons to the probabilities are in the layer's box, log and neg outside
    assert "layer 2" in words and "log" in words and "neg" in words
    assert not {"exp", "total", "/"} & set(words)


def test_modules_without_neurons_are_one_box():
    class Scale(Module):
        def __init__(self):
            self.factor = Value(2.0)

        def parameters(self):
            return [self.factor]

        def __call__(self, x):
            return self.factor * x

    scale = Scale()
    y = scale(Value(3.0, label="x")).exp()
    y.backward()
    words = Picture(draw(y, modules=scale).svg).words()
    assert "scale 1 1 parameter 1 operation outputs 6" in words
    assert "exp" in words


def test_the_loss_of_a_2_16_16_1_network_is_one_readable_picture():
    model = network()
    loss = (model([0.5, -1.0]) - 1.0) ** 2
    loss.backward()
    picture = Picture(draw(loss, modules=model).svg)
    assert len(picture.nodes) == 9  # 3 layers, 2 inputs, -, 1, **, 2
    words = picture.words()
    assert "layer 1 16 neurons, relu, 48 parameters" in words
    assert f"outputs {model([0.5, -1.0]).data:.4g}" in words
    grads = [p.grad for p in model.layers[1].parameters()]
    assert f"grad of parameters {min(grads):.4g} to {max(grads):.4g}" in words


def test_a_batch_is_drawn_by_roles():
    model = network()
    loss = batch_loss(model, 100)
    loss.backward()
    drawing = draw(loss, modules=model)
    picture = Picture(drawing.svg)
    assert len(topological_order(loss)) > 8000 and len(picture.nodes) < 30
    words = picture.words()
    assert "100 nodes" in words and "200 constants" in words
    assert "3200 operations" in words  # 16 dots and 16 relus, 100 times
    assert "layer 1" in drawing.tree and "100 nodes" in drawing.tree


def test_sums_written_as_chains_are_one_box():
    xs = [Value(float(i), label="x") for i in range(60)]
    model = network((1, 1))
    result = sum(model([x]).exp() for x in xs) * 2.0
    picture = collapsed(result, model, merged=True)
    sums = [box for box in picture.boxes if box.nodes[0].op == "+"]
    assert [len(box.nodes) for box in sums] == [60]
    exps = [box for box in picture.boxes if box.nodes[0].op == "exp"]
    assert [len(box.nodes) for box in exps] == [60]


def test_labels_are_never_merged_away():
    model = network((1, 1))
    outputs = [model([float(i)]) * 2.0 for i in range(60)]
    outputs[7].label = "seven"
    words = Picture(draw(losses.mean_squared_error(outputs, [0.0] * 60), modules=model).svg).words()
    assert "seven = *" in words and "59 nodes" in words


def test_collapse_chooses_the_level():
    model = network((2, 4, 1))
    loss = (model([0.5, -1.0]) - 1.0) ** 2
    by_neuron = Picture(draw(loss, modules=model).svg)
    assert len(by_neuron.nodes) == 5 + 6
    by_layer = Picture(draw(loss, modules=model, collapse="layer").svg)
    assert len(by_layer.nodes) == 2 + 6
    assert "neuron 2.0" in by_neuron.words() and "layer 2" in by_layer.words()
    large = network()
    loss = large([0.5, -1.0]) ** 2
    neurons = Picture(draw(loss, modules=large, collapse="neuron").svg)
    assert len(neurons.nodes) == 33 + 4
    with pytest.raises(ValueError, match="'neuron' or 'layer', got 'network'"):
        draw(loss, modules=large, collapse="network")
    with pytest.raises(ValueError, match="leave out modules="):
        draw(loss, modules=large, depth=3)
    with pytest.raises(ValueError, match="leave out modules="):
        draw(loss, modules=large, derivatives=True)


def test_several_modules_and_parts_of_them():
    first, second = Layer(2, 3, rng=random.Random(0)), Neuron(3, rng=random.Random(1))
    y = second(first([0.5, 1.0]))
    assert "layer 1" in Picture(draw(y, modules=[first, second], collapse="layer").svg).words()
    words = Picture(draw(y, modules=[first, second]).svg).words()
    assert "neuron 1.2" in words and "neuron 2" in words


def test_numbers_on_edges_are_explained_where_there_are_any():
    model = MLP(2, [3, 1], rng=random.Random(0))
    by_neuron = Picture(draw(model([1.0, 2.0]), modules=model).svg).words()
    assert "nodes in 6 boxes" in by_neuron and "on the edges" not in by_neuron
    by_layer = Picture(draw(model([1.0, 2.0]), modules=model, collapse="layer").svg).words()
    assert "nodes in 4 boxes; on the edges: how many operands" in by_layer


def test_backward_that_has_not_run_is_said():
    model = network()
    words = Picture(draw(model([1.0, 2.0]), modules=model).svg).words()
    assert "grad of parameters not run" in words and "grad 0" not in words


def test_what_cannot_be_collapsed_is_named():
    with pytest.raises(TypeError, match=r"modules= takes a Module or several, got 3"):
        draw(Value(1.0), modules=3)
    model = network((2, 3, 1))
    x = Value(1.0)
    for i in range(60):
        x = (x * float(i)).exp() + model([x, x])
    with pytest.raises(ValueError, match=r"boxes, more than 20.*max_nodes="):
        draw(x, modules=model, max_nodes=20)
