"""Code written for micrograd, with only its import changed.

Every program below runs on both packages (on ours alone where the PyPI package micrograd is not
installed) and has to give the same numbers. The boundary: nodes built by hand are refused.
"""

import importlib
import inspect
import random
import sys
import types

import pytest

from micrograd_scratch import Value, engine, nn

PACKAGES = ["micrograd", "micrograd_scratch"]


def run(source, package, *names):
    """What `source` leaves in the variables named, with PACKAGE as its import."""
    space = {}
    exec(source.replace("PACKAGE", package), space)
    return [space[name] for name in names]


def on_both(source, *names):
    """The same numbers from both; those of ours are returned."""
    ours = run(source, "micrograd_scratch", *names)
    if importlib.util.find_spec("micrograd"):
        theirs = run(source, "micrograd", *names)
        for a, b in zip(ours, theirs, strict=True):
            assert a == pytest.approx(b, rel=1e-12, abs=1e-14)
    return ours


EXPRESSION = """
from PACKAGE.engine import Value

a = Value(-3.0)
b = Value(1.5)
c = a + b
d = a * b + b**3
c += c + 1
c += 1 + c + (-a)
d += d * 2 + (b + a).relu()
d += 3 * d + (b - a).relu()
e = c - d
f = e**2
g = f / 2.0
g += 10.0 / f
h = -g - 1
h = 2 - h * 0.5
numbers = [v.data for v in (c, d, e, f, g, h)]
h.backward()
gradients = [a.grad, b.grad]
text = f"{h.data:.4f}"
"""


def test_expressions():
    numbers, gradients = on_both(EXPRESSION, "numbers", "gradients")
    assert len(numbers) == 6 and all(gradients)
    assert run(EXPRESSION, "micrograd_scratch", "text") == [f"{numbers[-1]:.4f}"]


TRAINING = """
import random
from PACKAGE.engine import Value
from PACKAGE.nn import MLP

random.seed(4)
model = MLP(2, [5, 5, 1])
FIRST
points = [(random.uniform(-1, 1), random.uniform(-1, 1)) for _ in range(12)]
targets = [1 if x * y > 0 else -1 for x, y in points]

def loss():
    inputs = [list(map(Value, row)) for row in points]
    scores = list(map(model, inputs))
    losses = [(1 + -yi * score).relu() for yi, score in zip(targets, scores)]
    data_loss = sum(losses) * (1.0 / len(losses))
    penalty = 1e-4 * sum((p * p for p in model.parameters()))
    total = data_loss + penalty
    accuracy = [(yi > 0) == (score.data > 0) for yi, score in zip(targets, scores)]
    return total, sum(accuracy) / len(accuracy)

history, accuracies = [], []
for k in range(15):
    total, accuracy = loss()
    model.zero_grad()
    total.backward()
    rate = 1.0 - 0.9 * k / 15
    for p in model.parameters():
        p.data -= rate * p.grad
    history.append(total.data)
    accuracies.append(accuracy)
parameters = [p.data for p in model.parameters()]
names = repr(model)
sizes = [len(layer.neurons) for layer in model.layers] + [len(model.layers[0].neurons[0].w)]
bias = model.layers[-1].neurons[0].b.data
"""
# micrograd draws its weights from (-1, 1); ours starts from the same ones
SAME_START = "for p in model.parameters(): p.data = random.uniform(-1, 1)"


def test_training_a_network():
    source = TRAINING.replace("FIRST", SAME_START)
    history, *_ = on_both(source, "history", "accuracies", "parameters", "sizes", "bias")
    assert history[-1] < history[0]
    if importlib.util.find_spec("micrograd"):
        names = [run(source, package, "names") for package in PACKAGES]
        assert names[0] == names[1]


def micrograds_network(engine_module):
    """micrograd's own nn.py on another engine: its source, with only its import changed."""
    theirs = pytest.importorskip("micrograd.nn")
    source = inspect.getsource(theirs)
    assert source.count("micrograd.engine") == 1
    module = types.ModuleType("micrograd_nn_on_another_engine")
    exec(source.replace("micrograd.engine", engine_module), module.__dict__)
    return module


def test_micrograds_own_network_runs_on_our_values():
    numbers = {}
    for engine_module in ("micrograd.engine", "micrograd_scratch.engine"):
        random.seed(1337)
        model = micrograds_network(engine_module).MLP(2, [16, 16, 1])
        x = [0.3, -1.2]
        score = model(x)
        loss = (1 - score * 0.7).relu() + 1e-4 * sum(p * p for p in model.parameters())
        model.zero_grad()
        loss.backward()
        numbers[engine_module] = [loss.data, *(p.grad for p in model.parameters())]
        assert repr(model).startswith("MLP of [Layer of [ReLUNeuron(2)")
    ours, theirs = numbers["micrograd_scratch.engine"], numbers["micrograd.engine"]
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-14)
    assert len(ours) == 338 and any(ours[1:])


DRAWING = """
from PACKAGE.engine import Value

def trace(root):
    nodes, edges = set(), set()
    def build(v):
        if v not in nodes:
            nodes.add(v)
            for child in v._prev:
                edges.add((child, v))
                build(child)
    build(root)
    return nodes, edges

x, y = Value(2.0), Value(3.0)
z = x * y + x
nodes, edges = trace(z)
counts = [len(nodes), len(edges)]
operations = sorted(n._op for n in nodes if n._op)
labels = sorted("%s data %.4f grad %.4f" % (n._op, n.data, n.grad) for n in nodes)
"""


def test_drawings_walk_prev_and_op():
    assert on_both(DRAWING, "counts") == [[4, 4]]
    for package in PACKAGES:
        if importlib.util.find_spec(package):
            operations, labels = run(DRAWING, package, "operations", "labels")
            assert operations == ["*", "+"] and labels[0] == " data 2.0000 grad 0.0000"


def test_names_signatures_and_attributes():
    assert engine.Value is Value
    for name in ("Module", "Neuron", "Layer", "MLP"):
        assert inspect.isclass(getattr(nn, name))
    neuron = nn.Neuron(3, nonlin=False)
    assert len(neuron.w) == 3 and isinstance(neuron.b, Value)
    assert repr(nn.Neuron(2, True)) == "ReLUNeuron(2)"
    layer = nn.Layer(3, 2, nonlin=True)
    assert [len(n.parameters()) for n in layer.neurons] == [4, 4]
    assert isinstance(nn.MLP(3, [2, 1]).layers, list)
    for p in layer.parameters():
        p.grad = 0  # an int, as micrograd's zero_grad writes
    sum(layer([1, 2, 3])).backward()
    assert all(type(p.grad) in (int, float) for p in layer.parameters())


def test_the_boundary_is_nodes_built_by_hand():
    a = Value(1.0)
    with pytest.raises(TypeError, match="adding an operation"):
        Value(2.0, (a,), "exp")
    with pytest.raises(TypeError):
        Value(2.0, _children=(a,), _op="exp")


def test_expressions_deeper_than_recursion_allows():
    x = y = Value(1.0)
    for _ in range(2 * sys.getrecursionlimit()):
        y = y + x
    y.backward()
    assert x.grad == 1.0 + 2 * sys.getrecursionlimit()
