"""Plots of models and their training: the right numbers at the right place, on one's own axes."""

import random

import pytest

from micrograd_scratch import MLP, Value, data

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import numpy  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from micrograd_scratch import plots  # noqa: E402


def own_axes():
    return Figure().subplots()


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_decision_boundary_of_one_output():
    X, Y = data.moons(20)
    calls = []

    def model(x):
        calls.append(tuple(x))
        return Value(x[0]) - 0.25  # the boundary is the line x = 0.25

    ax = own_axes()
    assert plots.decision_boundary(model, X, Y, ax, resolution=30) is ax
    assert len(calls) == 900
    points = numpy.array(X)
    assert (numpy.array(calls).min(axis=0) < points.min(axis=0)).all()
    assert (numpy.array(calls).max(axis=0) > points.max(axis=0)).all()
    line = ax.collections[1].get_paths()[0].vertices
    assert line[:, 0] == pytest.approx(0.25)
    shown = {len(c.get_offsets()) for c in ax.collections[2:]}
    assert shown == {10} and labels(ax) == ["0", "1"]
    # a threshold that no answer reaches: no line
    far = plots.decision_boundary(model, X, Y, own_axes(), resolution=10, threshold=99.0)
    assert len(far.collections) == 1 + 2


def test_decision_boundary_of_several_outputs():
    def model(x):
        return [Value(x[0]), -Value(x[0]), Value(-1e9)]

    X, Y = [[-1.0, 0.0], [1.0, 1.0], [2.0, 0.5]], [1, 0, 2]
    ax = plots.decision_boundary(model, X, Y, own_axes(), resolution=20)
    drawn = [path for path in ax.collections[0].get_paths() if len(path.vertices)]
    assert len(drawn) == 2  # the third answer is nowhere the largest
    assert drawn[0].vertices[:, 0].min() > -0.2 and drawn[1].vertices[:, 0].max() < 0.2
    assert labels(ax) == ["0", "1", "2"]


def test_the_model_records_nothing():
    model = MLP(2, [3, 1], rng=random.Random(0))
    outputs = []

    def watched(x):
        outputs.append(model(x))
        return outputs[-1]

    plots.decision_boundary(watched, [[0.0, 0.0], [1.0, 1.0]], [0, 1], own_axes(), resolution=5)
    assert all(not output.parents for output in outputs)


def test_decision_boundary_needs_two_inputs():
    with pytest.raises(ValueError, match=r"rows of 2 inputs, got shape \(2, 3\)"):
        plots.decision_boundary(lambda x: 0.0, [[1, 2, 3], [4, 5, 6]], [0, 1], own_axes())


def test_training_history():
    ax = plots.training_history({"loss": [3.0, 2.0, 1.0], "validation": [4.0, 3.0]}, own_axes())
    assert [list(line.get_ydata()) for line in ax.lines] == [[3.0, 2.0, 1.0], [4.0, 3.0]]
    assert [list(line.get_xdata()) for line in ax.lines] == [[1, 2, 3], [1, 2]]
    assert labels(ax) == ["loss", "validation"] and ax.get_yscale() == "linear"
    assert plots.training_history([100.0, 10.0, 1.0], own_axes()).get_yscale() == "log"
    assert plots.training_history([100.0, 10.0, 0.0], own_axes()).get_yscale() == "linear"
    diverged = plots.training_history([1.0, float("inf"), float("nan")], own_axes())
    assert diverged.get_yscale() == "linear"
    with pytest.raises(ValueError, match="the history is empty"):
        plots.training_history([], own_axes())


def test_gradient_histograms():
    model = MLP(2, [3, 2], rng=random.Random(0))
    first, second = (layer.parameters() for layer in model.layers)
    for i, p in enumerate(first):
        p.grad = 1e-6 * (i + 1)
    for p in second:
        p.grad = -0.5
    second[0].grad, second[1].grad, second[2].grad = 0.0, float("inf"), float("nan")
    ax = plots.gradient_histograms(model, own_axes(), bins=10)
    assert ax.get_xscale() == "log"
    heights = [patch.get_data().values for patch in ax.patches]
    assert [int(h.sum()) for h in heights] == [9, 5]
    assert heights[0][:3].sum() == 9 and heights[1][-1] == 5
    assert labels(ax) == ["layer 1: 9", "layer 2: 8, 1 of 0, 2 not finite"]


def test_gradient_histograms_before_backward():
    ax = plots.gradient_histograms(MLP(2, [3, 1]), own_axes())
    assert labels(ax) == ["layer 1: 9, 9 of 0", "layer 2: 4, 4 of 0"]


def test_without_axes_a_figure_is_made():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    ax = plots.training_history([1.0])
    assert len(plt.get_fignums()) == len(before) + 1
    plt.close(ax.figure)
