"""Pictures: the right numbers at the right place, on axes of one's own, written all or nothing."""

import dataclasses
import os
import sys

import pytest
from test_comparison import TINY

from micrograd_scratch.comparison import compare

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib.figure import Figure  # noqa: E402

from micrograd_scratch import plots  # noqa: E402


@pytest.fixture(scope="module")
def result():
    return compare(TINY, seconds=1.0)


def own_axes():
    return Figure().subplots()


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("part", plots.PICTURES)
def test_axes_of_ones_own_come_back_labelled(result, part):
    ax = own_axes()
    assert plots.PICTURES[part](getattr(result, part), ax=ax) is ax
    assert ax.get_title() and ax.get_xlabel() and ax.get_legend()


@pytest.mark.parametrize("part", plots.PICTURES)
def test_without_axes_a_figure_is_made(result, part):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    ax = plots.PICTURES[part](getattr(result, part))
    assert len(plt.get_fignums()) == len(before) + 1
    plt.close(ax.figure)


def test_gradients_show_cost_and_error(result):
    ax = plots.plot_gradients(result.gradients, ax=own_axes())
    points = [tuple(c.get_offsets()[0]) for c in ax.collections]
    assert points == [
        (c.seconds_per_gradient, c.largest_relative_error or 1e-17) for c in result.gradients.costs
    ]
    assert labels(ax)[0] == "reverse mode, Values" and len(labels(ax)) == 9
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_steps_show_every_method_and_reverse_mode(result):
    ax = plots.plot_steps(result.steps, ax=own_axes())
    *curves, reverse = ax.get_lines()
    for line, errors in zip(curves, result.steps.relative_errors.values(), strict=True):
        assert list(line.get_xdata()) == result.steps.steps
        assert list(line.get_ydata()) == pytest.approx(errors, nan_ok=True)
    assert list(reverse.get_ydata()) == [result.steps.reverse_relative_error or 1e-17] * 2
    assert labels(ax)[2:] == ["fourth-order difference", "complex step", "reverse mode, no step"]


def test_growth_shows_slopes(result):
    ax = plots.plot_growth(result.growth, ax=own_axes())
    for line, e in zip(ax.get_lines(), result.growth.exponents, strict=True):
        costs = result.growth.of(e.method, e.executor)
        assert list(line.get_xdata()) == result.growth.parameters
        assert list(line.get_ydata()) == [c.seconds_per_gradient for c in costs]
        assert line.get_label() == f"{e.method}, {e.executor}: slope {e.of_seconds:.2f}"


def test_shares_show_every_layer(result):
    ax = plots.plot_shares(result.shares, ax=own_axes())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["W1", "b1", "W2", "b2"]
    nodes, work = ([bar.get_width() for bar in bars] for bars in ax.containers[:2])
    assert nodes == [100 * g.share_of_nodes for g in result.shares.groups]
    assert work == [100 * g.share_of_operations for g in result.shares.groups]


def test_training_shows_who_made_a_step(result):
    ax = plots.plot_training(result.training, ax=own_axes())
    runs = [run for run in result.training.runs if run.steps]
    assert len(ax.get_lines()) == len(runs) > 0
    for line, run in zip(ax.get_lines(), runs, strict=True):
        assert list(line.get_ydata(orig=True)) == [100 * a for a in run.accuracies]


def test_an_executor_unknown_to_the_styles_is_drawn_too(result):
    costs = [dataclasses.replace(c, executor="compiled") for c in result.gradients.costs]
    ax = plots.plot_gradients(dataclasses.replace(result.gradients, costs=costs), ax=own_axes())
    assert labels(ax)[0] == "reverse mode, compiled"


def test_pictures_are_written_without_a_window_system(result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
    paths = plots.save_pictures(result, tmp_path / "new")
    assert sorted(paths) == sorted((tmp_path / "new").iterdir()) and len(paths) == 10
    for path in paths:
        head = path.read_bytes()[:100]
        assert head.startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")


def test_a_picture_that_fails_leaves_the_old_one(result, tmp_path, monkeypatch):
    old = tmp_path / "gradients.png"
    old.write_bytes(b"old")

    def fails(self, file, **options):
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(Figure, "savefig", fails)
    with pytest.raises(OSError, match="disk is full"):
        plots.save_pictures(result, tmp_path, formats=("png",))
    assert old.read_bytes() == b"old" and os.listdir(tmp_path) == ["gradients.png"]


def test_training_without_any_step_is_drawn_too(result):
    runs = [dataclasses.replace(run, steps=0) for run in result.training.runs]
    ax = plots.plot_training(dataclasses.replace(result.training, runs=runs), ax=own_axes())
    assert not ax.get_lines() and ax.get_legend() is None


def test_plots_load_matplotlib_only_when_they_draw(run_python):
    code = "import sys, micrograd_scratch.plots; print('matplotlib' in sys.modules)"
    assert run_python(code) == "False"
