"""diagnose: its numbers against Values, and what it says of networks that are ill on purpose."""

import math
import random

import numpy as np
import pytest

from micrograd_scratch import (
    MLP,
    Network,
    Value,
    activation,
    data,
    diagnose,
    dot,
    fit,
    log,
    losses,
    operation,
    optim,
)
from micrograd_scratch.diagnosis import _kind
from micrograd_scratch.functions import elu, gelu, leaky_relu, silu, softplus
from micrograd_scratch.operations import cos, detach, exp, negative, relu, sigmoid, sin, tanh


def network(sizes, seed=0, **options):
    return MLP(sizes[0], list(sizes[1:]), rng=random.Random(seed), **options)


def rows(count=40, features=3, classes=2, seed=0):
    rng = np.random.RandomState(seed)
    return rng.randn(count, features), rng.randint(0, classes, count)


def said(diagnosis):
    return [finding.what for finding in diagnosis.findings]


# ---------------------------------------------------------------- the numbers
@pytest.mark.parametrize("kind", ["sigmoid", "tanh", "relu"])
def test_the_numbers_are_those_of_values(kind):
    X, Y = rows()
    model = network((3, 4, 5, 2), activation=kind)
    optimizer = optim.SGD(0.1)
    diagnosis = diagnose(model, X, Y, "cross_entropy", optimizer)
    mean = sum(losses.cross_entropy(model(x), int(y)) for x, y in zip(X.tolist(), Y, strict=True))
    mean = mean / len(X)
    mean.backward()
    assert diagnosis.loss == pytest.approx(mean.data, rel=1e-12)
    assert diagnosis.anomaly == ""
    slope_of = {
        "sigmoid": lambda y: y * (1 - y),
        "tanh": lambda y: 1 - y * y,
        "relu": lambda y: y > 0,
    }
    signals = X
    for layer, report in zip(model.layers, diagnosis.layers, strict=True):
        signals = np.array([[v.data for v in layer(list(x))] for x in signals.tolist()])
        weights = np.array([p.data for p in layer.parameters()])
        gradient = np.array([p.grad for p in layer.parameters()])
        assert report.parameters == len(weights)
        assert report.weight == pytest.approx(size(weights), rel=1e-12)
        assert report.gradient == pytest.approx(size(gradient), rel=1e-9)
        assert report.update == pytest.approx(0.1 * size(gradient) / size(weights), rel=1e-9)
        assert report.activation == pytest.approx(size(signals), rel=1e-12)
        if layer is not model.layers[-1]:
            slopes = slope_of[kind](signals)
            assert report.activations == kind and report.units == len(layer.neurons)
            assert report.slope == pytest.approx(np.mean(slopes), rel=1e-9)
            assert report.dead == int((slopes == 0).all(axis=0).sum())
    assert [layer.name for layer in diagnosis.layers] == ["1", "2", "3"]
    assert diagnosis.layers[-1].units == 0 and math.isnan(diagnosis.layers[-1].slope)


@pytest.mark.parametrize(
    "rule", [lambda y, x: ((x > 0) + (x > 1),), lambda y, x: ((x > 0) - (x > 1),)]
)
def test_slopes_of_rules_that_count_comparisons(rule):
    kinked = operation("kinked", lambda x: max(x, 0.0) + max(x - 1.0, 0.0), rule)
    X, Y = rows()
    model = network((3, 4, 1), activation=kinked)
    sums = [dot(n.w, x, n.b).data for x in X.tolist() for n in model.layers[0].neurons]
    slopes = [abs(rule(None, x)[0]) for x in sums]
    report = diagnose(model, X, 2 * Y - 1, "hinge").layers[0]
    assert report.slope == pytest.approx(np.mean(slopes))


def size(array):
    return math.sqrt(np.mean(np.square(array)))


def test_nothing_is_changed():
    X, Y = rows()
    model = network((3, 4, 2), activation="sigmoid")
    for p in model.parameters():
        p.grad = 0.25
    before = [(p.data, p.grad) for p in model.parameters()]
    diagnose(model, X, Y, "cross_entropy")
    diagnose(model, X, Y, lambda p, y: log(p[0] - p[0]) * y)
    assert [(p.data, p.grad) for p in model.parameters()] == before


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (sigmoid, "bounded"), (tanh, "bounded"), (relu, "rectifier"), (gelu, "rectifier"),
        (silu, "rectifier"), (softplus, "rectifier"), (elu, "rectifier"), (leaky_relu, "other"),
        (sin, "other"), (cos, "other"), (exp, "other"), (negative, "linear"), (detach, "linear"),
        (activation(lambda x: float(x > 0), lambda x: max(0.0, 1 - abs(x))), "bounded"),
        (activation(lambda x: float(x > 0), 1), "linear"),
    ],
)  # fmt: skip
def test_activations_are_told_by_their_slopes(row, kind):
    assert _kind(row) == kind


def test_layers_of_a_network_written_by_elements():
    """w * x + b on plain Values: two layers, found without any module."""

    class Plain:
        def __init__(self):
            rng = random.Random(0)
            self.hidden = [[Value(rng.gauss(0, 1)) for _ in range(4)] for _ in range(5)]
            self.last = [Value(rng.gauss(0, 1)) for _ in range(6)]

        def __call__(self, x):
            a, b, c = x
            h = [sigmoid(p * a + q * b + r * c + s) for p, q, r, s in self.hidden]
            return sum((w * v for w, v in zip(self.last, h, strict=False)), self.last[-1])

        def parameters(self):
            return [v for row in self.hidden for v in row] + self.last

    X, Y = rows()
    first, second = diagnose(Plain(), X, Y, "binary_cross_entropy").layers
    assert (first.parameters, first.units, first.activations) == (20, 5, "sigmoid")
    assert (second.parameters, second.units) == (6, 0)


def test_layers_of_a_wired_network_with_a_skip_connection():
    net = Network(random.Random(0))
    net.add_input("a")
    net.add_neuron("h", activation="tanh")
    net.add_neuron("out", activation="linear")
    for source, target in (("a", "h"), ("h", "out"), ("a", "out")):
        net.connect(source, target)
    net.set_outputs("out")
    first, second = diagnose(net, [[0.5], [1.0]], [1.0, 0.0], "squared_error").layers
    assert (first.parameters, first.activations, second.parameters) == (2, "tanh", 3)


def test_a_softmax_output_belongs_to_the_last_layer():
    X, Y = rows()
    model = network((3, 4, 2), activation="relu", output="softmax")
    layers = diagnose(model, X, np.eye(2)[Y], "squared_error").layers
    assert [layer.parameters for layer in layers] == [16, 10]
    outputs = np.array([[v.data for v in model(x)] for x in X.tolist()])
    assert layers[-1].activation == pytest.approx(size(outputs), rel=0.5)


# ---------------------------------------------------------------- what it says
def test_a_healthy_network_has_nothing_that_stands_out():
    X, Y = rows()
    assert said(diagnose(network((3, 8, 8, 2), init="he"), X, Y, "cross_entropy")) == [
        "Nothing stands out"
    ]


def test_why_are_the_gradients_so_tiny():
    X, Y = rows()
    model = network((3, 8, 8, 8, 8, 2), activation="sigmoid", init="xavier")
    diagnosis = diagnose(model, X, Y, "cross_entropy", optim.SGD(0.01))
    (vanish,) = [f for f in diagnosis.findings if "Gradients vanish" in f.what]
    ratio = diagnosis.layers[-1].gradient / diagnosis.layers[0].gradient
    assert f"{ratio:,.0f} times smaller" in vanish.what and "at most 0.25" in vanish.advice
    assert all(0.2 < layer.slope <= 0.25 for layer in diagnosis.layers[:-1])


def test_why_does_it_take_fifty_thousand_epochs():
    X, Y = data.xor()
    model = network((2, 2, 1), activation="sigmoid", output="sigmoid", init="xavier")
    diagnosis = diagnose(model, X, Y, "squared_error", optim.SGD(0.01))
    (slow,) = [f for f in diagnosis.findings if "hardly move" in f.what]
    slowest = min(layer.update for layer in diagnosis.layers)
    assert "1" in slow.what and f"{1 / slowest:,.0f} such steps" in slow.advice
    quicker = diagnose(model, X, Y, "squared_error", optim.Adam(0.01))
    assert not any("hardly move" in what for what in said(quicker))


def test_saturated_sigmoids_and_inputs_out_of_scale():
    X, Y = rows()
    model = network((3, 8, 2), activation="sigmoid", init="uniform")
    diagnosis = diagnose(model, 1000 * X, Y, "cross_entropy")
    assert diagnosis.layers[0].saturated > 0.9
    assert any(what.startswith("Inputs reach") for what in said(diagnosis))
    assert any(
        f"{diagnosis.layers[0].saturated:.0%} of its sigmoid" in what for what in said(diagnosis)
    )
    assert diagnose(model, X, Y, "cross_entropy").layers[0].saturated < 0.1


def test_dead_relus_are_counted_over_all_rows():
    X, Y = rows()
    model = network((3, 6, 2), activation="relu")
    for neuron in model.layers[0].neurons[:2]:
        neuron.b.data = -100.0
    model.layers[0].neurons[2].b.data = -2.5  # rarely alive is not dead
    for w, number in zip(model.layers[0].neurons[2].w, (2.0, 2.0, 2.0), strict=True):
        w.data = number
    diagnosis = diagnose(model, X, Y, "cross_entropy")
    assert diagnosis.layers[0].dead == 2
    assert "Layer 1: 2 of 6 relu are dead" in said(diagnosis)


def test_a_dead_layer_is_not_called_alike_or_slow():
    X, Y = rows()
    model = network((3, 6, 2), activation="relu")
    for neuron in model.layers[0].neurons:
        neuron.b.data = -100.0
    diagnosis = diagnose(model, X, Y, "cross_entropy", optim.Adam(0.001))
    assert "Layer 1: 6 of 6 relu are dead" in said(diagnosis)
    assert not any("alike" in what for what in said(diagnosis))
    assert not any("or Adam" in finding.advice for finding in diagnosis.findings)


def test_equal_weights_make_equal_units():
    X, Y = rows()
    model = network((3, 4, 1), activation="tanh")
    for p in model.parameters():
        p.data = 0.1
    diagnosis = diagnose(model, X, Y, "binary_cross_entropy")
    assert "Layer 1: all units are alike" in said(diagnosis)


def test_no_gradient_and_steps_that_are_too_large():
    X, Y = rows()
    model = network((3, 4, 2), activation="relu")
    for neuron in model.layers[0].neurons:
        neuron.b.data = -100.0
    what = said(diagnose(model, X, Y, "cross_entropy", optim.SGD(50.0)))
    assert "Layer 1 gets no gradient at all" in what
    assert any(w.startswith("Layer 2 jumps: one step of SGD(lr=50)") for w in what)


def test_exploding_gradients_and_outputs():
    X, Y = rows()
    model = network((3, 8, 8, 8, 8, 2), activation="tanh", init="xavier")
    for layer, factor in zip(model.layers, (1e-3, 6, 6, 6, 6), strict=True):
        for p in layer.parameters():
            p.data *= factor
    diagnosis = diagnose(model, X, Y, "cross_entropy")
    ratio = diagnosis.layers[0].gradient / diagnosis.layers[-1].gradient
    assert any(f"layer 1's are {ratio:,.0f} times larger" in what for what in said(diagnosis))
    model = network((3, 8, 8, 2), activation="relu")
    for layer in model.layers[1:]:
        for p in layer.parameters():
            p.data *= 30
    diagnosis = diagnose(model, X, Y, "cross_entropy")
    assert diagnosis.layers[1].activation < 100 < diagnosis.layers[2].activation
    assert any(what.startswith("Layer 3 puts out") for what in said(diagnosis))


def not_finite(score, y):
    return log(score - score) * y  # the line


def test_the_first_operation_that_is_not_finite_comes_first_with_its_line():
    X, Y = rows()
    diagnosis = diagnose(network((3, 4, 1)), X, Y, not_finite)
    line = not_finite.__code__.co_firstlineno + 1
    assert f"test_diagnosis.py:{line}" in diagnosis.anomaly and "log(0)" in diagnosis.anomaly
    assert diagnosis.findings[0].what == f"Not finite: {diagnosis.anomaly}"


def test_what_fit_reports_diagnose_explains():
    X, Y = rows()
    model = network((3, 4, 1), activation="linear")
    with pytest.raises(ArithmeticError, match="diagnose"):
        fit(model, X, Y, loss="squared_error", optimizer=optim.SGD(1e6), epochs=500)
    assert diagnose(model, X, Y, "squared_error", optim.SGD(1e6)).findings


# ---------------------------------------------------------------- how it shows
def test_it_prints_as_a_table_and_words():
    X, Y = rows()
    model = network((3, 8, 8, 8, 8, 2), activation="sigmoid", init="xavier")
    text = str(diagnose(model, X, Y, "cross_entropy", optim.SGD(0.01)))
    assert text.startswith("Diagnosis on 40 rows, mean loss ")
    assert "update/weight" in text and "1. Gradients vanish" in text and "\n5 " in text
    assert text == repr(diagnose(model, X, Y, "cross_entropy", optim.SGD(0.01)))


def test_it_plots_every_layer():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    X, Y = rows()
    diagnosis = diagnose(network((3, 4, 4, 2), activation="sigmoid"), X, Y, "cross_entropy")
    ax = diagnosis.plot(figure.subplots())
    curves = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert curves["gradient"] == [layer.gradient for layer in diagnosis.layers]
    assert curves["slope"][0] == diagnosis.layers[0].slope and math.isnan(curves["slope"][2])
    assert ax.get_yscale() == "log"


def test_errors_are_those_of_fit():
    X, Y = rows()
    with pytest.raises(ValueError, match="corss"):
        diagnose(network((3, 2)), X, Y, "corss_entropy")
    with pytest.raises(TypeError, match=r"optimizer is 'adam': give .* Adam\(0.01\)"):
        diagnose(network((3, 2)), X, Y, "cross_entropy", "adam")
    with pytest.raises(TypeError, match=r"parameters\(\)"):
        diagnose(lambda x: x, X, Y, "squared_error")
