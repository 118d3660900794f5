"""fit: the numbers it reaches, what it writes when, how it stops, and work spread over others."""

import functools
import io
import math
import os
import pickle
import random
import signal
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from micrograd_scratch import (
    MLP,
    AnomalyError,
    DivergedError,
    History,
    Value,
    data,
    fit,
    log,
    losses,
    optim,
    sigmoid,
    sqrt,
    training,
)
from micrograd_scratch.compiler import TraceError
from micrograd_scratch.compiler.execution import is_finite
from micrograd_scratch.progress import Progress
from micrograd_scratch.sharding import ShardedGradient
from micrograd_scratch.training import accuracy, compile_loss


def network(sizes=(2, 5, 1), seed=0, **options):
    return MLP(sizes[0], list(sizes[1:]), rng=random.Random(seed), **options)


def numbers(model):
    return [p.data for p in model.parameters()]


def moons(rows=60):
    X, Y = data.moons(rows, noise=0.1, seed=1)
    return X, 2 * Y - 1


def trained_by_hand(model, X, Y, loss, optimizer, epochs, size, seed=0):
    """The same training on Values alone: no compiler, no array of parameters."""
    order = np.random.RandomState(seed)
    curve = []
    for _ in range(epochs):
        rows = np.arange(len(X)) if size >= len(X) else order.permutation(len(X))
        total = 0.0
        for start in range(0, len(X), size):
            batch = rows[start : start + size]
            terms = [loss(model([Value(x) for x in X[i]]), Value(Y[i])) for i in batch]
            mean = sum(terms) / len(batch)
            for p in model.parameters():
                p.grad = 0.0
            mean.backward()
            optimizer.step(model.parameters())
            total += mean.data * len(batch)
        curve.append(total / len(X))
    return curve


# ---------------------------------------------------------------- the numbers
@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.SGD(0.1),
        lambda: optim.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        lambda: optim.Adam(0.01),
        lambda: optim.AdamW(0.01),
    ],
)
@pytest.mark.parametrize("size", [7, 16, None])
def test_it_trains_as_values_do(make, size):
    X, Y = moons(23)  # 23 rows: the last batch is a smaller one
    one, two = network(activation="tanh"), network(activation="tanh")
    history = fit(
        one, X, Y, loss="squared_error", optimizer=make(), epochs=3, batch_size=size, seed=5
    )
    loss = losses.squared_error
    curve = trained_by_hand(two, X, Y, loss, make(), 3, size or len(X), seed=5)
    assert history.loss == pytest.approx(curve, rel=1e-12)
    assert numbers(one) == pytest.approx(numbers(two), rel=1e-10)
    assert history.steps == 3 * math.ceil(23 / (size or 23))


def test_classes_are_index_inputs():
    rng = np.random.RandomState(0)
    X, Y = rng.rand(20, 3), rng.randint(0, 4, 20)
    one, two = network((3, 5, 4)), network((3, 5, 4))
    history = fit(one, X, Y, loss="cross_entropy", optimizer=optim.SGD(0.1), epochs=2, batch_size=6)
    curve = trained_by_hand(two, X, Y, losses.cross_entropy, optim.SGD(0.1), 2, 6)
    assert history.loss == pytest.approx(curve, rel=1e-12)
    assert numbers(one) == pytest.approx(numbers(two), rel=1e-10)


def test_targets_may_be_lists():
    X, Y = data.xor()
    both = np.stack([Y, 1 - Y], axis=1)
    model = network((2, 6, 2), activation="tanh")
    history = fit(model, X, both, loss="squared_error", optimizer=optim.Adam(0.05), epochs=300,
                  batch_size=None, metrics=["accuracy"])  # fmt: skip
    assert history.loss[-1] < 1e-3
    assert history.accuracy[-1] == 1.0


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not():
    X, Y = moons()
    results = []
    for seed in (3, 3, 4):
        model = network()
        history = fit(model, X, Y, loss="hinge", epochs=4, batch_size=16, seed=seed)
        results.append((numbers(model), history.loss))
    assert results[0] == results[1]
    assert results[0] != results[2]


class Clipped(optim.SGD):
    """A rule that looks at all numbers at once: an array cut in pieces would move differently."""

    def update(self, theta, gradient, state):
        return super().update(theta, gradient / np.linalg.norm(gradient), state)


@pytest.mark.parametrize(
    "optimizer",
    [
        optim.SGD(0.1),
        optim.SGD(0.1, momentum=0.9, nesterov=True),
        optim.SGD(0.1, weight_decay=0.5),
        optim.Adam(0.1, weight_decay=0.5),
        optim.AdamW(0.1),
        Clipped(0.1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_array_moves_in_place_and_in_pieces_to_the_bits_of_update(optimizer, dtype, monkeypatch):
    monkeypatch.setattr(training, "_PIECE", 7)
    rng = np.random.RandomState(0)
    theta, gradient = rng.randn(2, 20).astype(dtype)
    move, expected, state = training._mover(optimizer, theta, gradient), theta.copy(), None
    for step in range(4):
        gradient[:] = rng.randn(20)
        if step == 2:  # as a callback may
            optimizer.lr, optimizer.momentum = 0.05, 0.5
        expected, state = optimizer.update(expected, gradient, state)
        move()
        assert theta.tobytes() == expected.tobytes()


def test_every_epoch_has_an_order_of_its_own_and_every_row_once():
    X = np.arange(10.0).reshape(-1, 1)
    order = np.random.RandomState(0)
    epochs = [
        np.concatenate([x for x, _ in training._batches(X, X, 4, order)])[:, 0] for _ in range(2)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0].tolist() != epochs[1].tolist()


def test_global_random_state_is_neither_read_nor_changed():
    X, Y = moons()
    np.random.seed(1)
    random.seed(1)
    before = np.random.get_state()[1].tolist(), random.getstate()
    fit(network(), X, Y, loss="hinge", epochs=1)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before


def test_float32_stays_close():
    X, Y = moons()
    one, two = network(), network()
    fit(one, X, Y, loss="hinge", optimizer=optim.SGD(0.05), epochs=2, dtype="float32")
    fit(two, X, Y, loss="hinge", optimizer=optim.SGD(0.05), epochs=2)
    assert numbers(one) == pytest.approx(numbers(two), abs=1e-4)
    assert numbers(one) != numbers(two)


# ---------------------------------------------------------------- models
class Plain:
    """Nothing of ours but Values: a logistic regression."""

    def __init__(self, size):
        self.w = [Value(0.0) for _ in range(size)]
        self.b = Value(0.0)

    def __call__(self, x):
        return sum((w * xi for w, xi in zip(self.w, x, strict=True)), self.b)

    def parameters(self):
        return [*self.w, self.b]


def test_any_callable_with_parameters_is_trained():
    rng = np.random.RandomState(0)
    X = rng.randn(80, 2)
    Y = (X[:, 0] - 2 * X[:, 1] > 0.3).astype(int)
    model = Plain(2)
    history = fit(model, X, Y, loss="binary_cross_entropy", optimizer=optim.SGD(2.0), epochs=100,
                  batch_size=None, metrics=["accuracy"])  # fmt: skip
    assert history.accuracy[-1] >= 0.97
    assert model.w[0].data > 0 > model.w[1].data


def test_a_loss_may_regularize():
    X, Y = moons(20)

    def loss(score, y):
        return losses.hinge(score, y) + 0.1 * losses.l2(model.parameters())

    model = network()
    reference = network()
    fit(model, X, Y, loss=loss, optimizer=optim.SGD(0.1), epochs=2, batch_size=None)

    def same(score, y):
        return losses.hinge(score, y) + 0.1 * losses.l2(reference.parameters())

    trained_by_hand(reference, X, Y, same, optim.SGD(0.1), 2, 20)
    assert numbers(model) == pytest.approx(numbers(reference), rel=1e-10)


class Branching(Plain):
    """Takes another way for negative first inputs."""

    def __call__(self, x):
        return super().__call__(x) if x[0] > 0 else -self.w[1] * x[1]


def test_a_model_that_branches_on_its_input_takes_the_right_branch_in_every_row():
    X, Y = moons(20)
    one, two = Branching(2), Branching(2)
    for model in (one, two):
        model.w[0].data, model.w[1].data = 0.5, -0.25
    optimizers = optim.SGD(0.1), optim.SGD(0.1)
    fit(one, X, Y, loss="squared_error", optimizer=optimizers[0], epochs=2, batch_size=6)
    trained_by_hand(two, X, Y, losses.squared_error, optimizers[1], 2, 6)
    assert numbers(one) == pytest.approx(numbers(two), rel=1e-10)


def test_a_model_that_reads_a_number_is_refused_with_its_line():
    class Reading(Plain):
        def __call__(self, x):
            return self.w[0] * x[0].data  # the line

    with pytest.raises(TraceError, match=r"test_training.py:\d+ reads the number"):
        fit(Reading(1), [[1.0]], [1.0], loss="squared_error", epochs=1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": lambda x: x}, TypeError, "parameters()"),
        ({"X": np.zeros(4)}, ValueError, r"reshape\(-1, 1\)"),
        ({"X": np.zeros((3, 2))}, ValueError, r"\(3, 2\) and Y \(4,\)"),
        ({"X": np.zeros((0, 2)), "Y": []}, ValueError, "at least one"),
        ({"X": [[0, 1], [0, math.nan], [1, 1], [1, 0]]}, ValueError, r"X\[1, 1\] is nan"),
        ({"Y": [0, 1, math.inf, 0]}, ValueError, r"Y\[2\] is inf"),
        ({"X": [["a", "b"]] * 4}, TypeError, "X holds 'a': give .* numbers$"),
        ({"X": [[0, 1], [1, 0], [1, 1], [1]]}, ValueError, "X has rows of unequal lengths"),
        ({"Y": ["cat", "dog"] * 2}, TypeError, r"Y holds 'cat': .* numpy.unique\(Y"),
        ({"Y": None}, TypeError, "Y holds None"),
        ({"model": MLP}, TypeError, "MLP is a class: give a model"),
        ({"loss": "corss_entropy"}, ValueError, "corss_entropy.*cross_entropy"),
        ({"loss": "l2"}, ValueError, "'l2'"),
        ({"loss": "hinge"}, ValueError, r"Y has 0: .* 2 \* Y - 1"),
        ({"loss": "binary_cross_entropy", "Y": [0, 1, 2, 0]}, ValueError, "Y has 2"),
        ({"loss": lambda p, y: 1.0}, TypeError, "must be a Value"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"epochs": 2.5}, ValueError, "epochs is 2.5"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"patience": -1}, ValueError, "patience is -1"),
        ({"metrics": ["f1"]}, ValueError, "'f1'"),
        ({"optimizer": "adam"}, TypeError, "optimizer is 'adam': give"),
        ({"optimizer": optim.Adam}, TypeError, r"such as Adam\(0.01\)"),
        ({"map": 3}, TypeError, "executor.map"),
        ({"map": map, "shards": -2}, ValueError, "shards is -2"),
        ({"validation": ([[1, 2]], [1, 2])}, ValueError, "as many rows"),
        ({"validation": 0.2}, TypeError, r"validation is 0.2: give a pair \(X, Y\)"),
        ({"validation": np.zeros((4, 2))}, TypeError, r"validation is an array of shape \(4, 2\)"),
        ({"validation": ([[1]], [1])}, ValueError, r"X of validation has shape \(1, 1\), but"),
        ({"validation": ([[1, 2]], [[1]])}, ValueError, r"Y of validation has shape \(1, 1\), but"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(change, error, message):
    X, Y = data.xor()
    arguments = {"model": network(), "X": X, "Y": Y, "loss": "squared_error", **change}
    with pytest.raises(error, match=message) as caught:
        fit(**arguments)
    assert "\n" not in str(caught.value)


def test_validation_targets_are_those_of_the_loss():
    X, Y = moons()
    with pytest.raises(ValueError, match="hinge takes targets of -1 and 1, Y has 0"):
        fit(network(), X, Y, loss="hinge", epochs=1, validation=(X, (Y + 1) / 2))


def test_a_class_out_of_range_is_named():
    with pytest.raises(IndexError, match="7 is not one of the integers 0 to 2"):
        fit(network((2, 3)), np.ones((4, 2)), [0, 1, 7, 2], loss="cross_entropy", batch_size=None)


def test_lists_against_numbers_are_explained():
    with pytest.raises(TypeError) as caught:
        fit(network((2, 3)), np.ones((4, 2)), [0, 1, 2, 2], loss="squared_error")
    (note,) = caught.value.__notes__
    assert "a list of 3" in note and "numpy.eye(10)[Y]" in note
    for loss in ("squared_error", "hinge"):
        with pytest.raises(TypeError) as caught:
            fit(network((2, 1)), np.ones((4, 2)), np.ones((4, 1)), loss=loss)
        assert "a list of 1" in caught.value.__notes__[0] and "Y[:, 0]" in caught.value.__notes__[0]
    with pytest.raises(ValueError) as caught:
        fit(network((2, 3)), np.ones((4, 2)), np.ones((4, 1)), loss="cross_entropy")
    assert caught.value.__notes__[0].endswith("for one number a row give Y[:, 0]")


def test_one_metric_and_one_callback_need_no_list():
    X, Y = moons()
    seen = []
    for metric in ("accuracy", accuracy):
        history = fit(
            network(), X, Y, loss="hinge", epochs=1, metrics=metric, callbacks=seen.append
        )
        assert 0.0 <= history.accuracy[0] <= 1.0 and seen[-1] is history


# ---------------------------------------------------------------- what is written when
def test_values_are_written_before_callbacks_and_hold_the_epochs_weights():
    X, Y = moons()
    model, reference, seen = network(), network(), []
    fit(
        model, X, Y, loss="hinge", epochs=3, callbacks=[lambda history: seen.append(numbers(model))]
    )
    for epochs, weights in enumerate(seen, 1):
        reference = network()
        fit(reference, X, Y, loss="hinge", epochs=epochs)
        assert numbers(reference) == weights
    assert numbers(model) == seen[-1]


def test_a_callback_that_returns_true_stops_and_all_callbacks_run():
    X, Y = moons()
    calls = []
    history = fit(
        network(), X, Y, loss="hinge", epochs=9,
        callbacks=[lambda h: h.epochs == 2, lambda h: calls.append(h[-1]["loss"])],
    )  # fmt: skip
    assert history.stopped == "callback" and history.epochs == 2
    assert calls == history.loss


def test_a_callback_that_raises_leaves_the_epochs_weights():
    X, Y = moons()
    model, reference = network(), network()

    def fail(history):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fit(model, X, Y, loss="hinge", epochs=5, callbacks=[fail])
    fit(reference, X, Y, loss="hinge", epochs=1)
    assert numbers(model) == numbers(reference)


@pytest.fixture
def interruptible():
    """Ctrl-C is heard, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_returns_the_history_and_keeps_the_last_complete_step(interruptible):
    X, Y = moons(64)

    class Interrupted(optim.SGD):
        def update(self, theta, gradient, state):
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 7:  # in the second epoch of four steps
                signal.raise_signal(signal.SIGINT)
            return super().update(theta, gradient, state)

    model = network()
    weights = []

    class Counting(optim.SGD):
        def update(self, theta, gradient, state):
            weights.append(theta.tolist())
            return super().update(theta, gradient, state)

    options = {"loss": "hinge", "epochs": 3, "batch_size": 16}
    history = fit(model, X, Y, optimizer=Interrupted(0.1), **options)
    fit(network(), X, Y, optimizer=Counting(0.1), **options)
    assert history.stopped == "interrupted"
    assert (history.epochs, history.steps) == (1, 6)
    assert numbers(model) == weights[6]  # what the seventh step began with


def test_a_real_interrupt_at_any_moment_leaves_weights_of_some_step(interruptible):
    """Signals from another thread, at random moments: never a mixture of two steps."""
    X, Y = moons(64)
    every: set[tuple[float, ...]] = set()

    class Remembering(optim.SGD):
        def update(self, theta, gradient, state):
            every.add(tuple(theta.tolist()))
            new = super().update(theta, gradient, state)
            every.add(tuple(new[0].tolist()))
            return new

    interrupted = 0
    for attempt in range(12):
        model = network()
        every.add(tuple(numbers(model)))
        started = threading.Event()
        timer = threading.Thread(
            target=lambda e=started, d=0.003 * attempt: (
                e.wait(5), time.sleep(d), os.kill(os.getpid(), signal.SIGINT)
            )
        )  # fmt: skip
        timer.start()
        try:
            history = fit(
                model, X, Y, loss="hinge", optimizer=Remembering(0.01), epochs=100_000,
                batch_size=16, callbacks=[lambda h, e=started: e.set()],
            )  # fmt: skip
        finally:
            timer.join()
        interrupted += history.stopped == "interrupted"
        assert tuple(numbers(model)) in every
        assert len(history.loss) == len(history.seconds) == history.epochs
        every.clear()
    assert interrupted == 12


def test_shared_parameters_are_trained_once():
    class Tied(Plain):
        def parameters(self):
            return [*self.w, self.b, *self.w]

    X, Y = moons(20)
    one, two = Tied(2), Plain(2)
    for model in (one, two):
        fit(model, X, Y, loss="squared_error", optimizer=optim.SGD(0.1), epochs=2)
    assert numbers(one)[:3] == numbers(two)


# ---------------------------------------------------------------- not finite
def diverging(score, y):
    return log(score - y)  # the line that is named


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched():
    X, Y = data.xor()
    model = network()
    for p in model.parameters():
        p.grad = 0.5
    before = numbers(model)
    line = diverging.__code__.co_firstlineno + 1
    with pytest.raises(
        DivergedError, match=rf"loss is .*step 1, epoch 1: log.*py:{line}"
    ) as caught:
        fit(model, X, Y, loss=diverging, epochs=5)
    assert numbers(model) == before
    assert {p.grad for p in model.parameters()} == {0.5}
    assert isinstance(caught.value, AnomalyError)
    assert caught.value.history.epochs == 0


def test_a_learning_rate_that_is_too_large_leaves_the_last_finite_weights():
    X, Y = moons()
    model = network((2, 4, 1), activation="linear")
    with pytest.raises(DivergedError, match="smaller learning rate") as caught:
        fit(model, X, Y, loss="squared_error", optimizer=optim.SGD(1e3), epochs=500)
    assert all(map(math.isfinite, numbers(model)))
    assert caught.value.history.steps > 3


def test_where_only_the_sum_over_rows_overflows_that_is_said():
    model = Plain(1)
    model.w[0].data = 1.0
    said = "loss is inf in step 1, epoch 1: every row .* is finite, but the sum over rows is not;"
    with pytest.raises(DivergedError, match=said):
        fit(model, [[1.0]] * 4, [0.0] * 4, loss=lambda p, y: p * 1e308)


def test_a_gradient_that_is_not_finite_stops_though_the_loss_is():
    model = Plain(1)
    with pytest.raises(DivergedError, match="a gradient is not finite.*sqrt"):
        fit(model, [[1.0], [2.0]], [0.0, 0.0], loss=lambda p, y: sqrt(p * p), epochs=1)
    assert numbers(model) == [0.0, 0.0]


def test_numbers_whose_sum_overflows_are_finite():
    assert is_finite(np.full(4, 1e308))
    assert not is_finite(np.array([1e308, math.inf]))


# ---------------------------------------------------------------- validation, patience, schedule
def test_validation_is_measured_at_the_epochs_weights():
    X, Y = moons()
    held = data.moons(30, noise=0.2, seed=9)
    held = held[0], 2 * held[1] - 1
    model = network()
    history = fit(model, X, Y, loss="hinge", epochs=3, validation=held, metrics=["accuracy"])
    scores = np.array([model(x).data for x in held[0].tolist()])
    expected = np.maximum(0, 1 - held[1] * scores).mean()
    assert history.validation_loss[-1] == pytest.approx(expected, rel=1e-12)
    assert history.validation_accuracy[-1] == ((scores > 0) == (held[1] > 0)).mean()
    assert len(history.validation_accuracy) == len(history.accuracy) == 3


def test_patience_stops_and_keeps_the_best_weights():
    X, Y = moons()
    held = X[:10], -Y[:10]  # the opposite: the better it learns, the worse this gets
    model, seen = network(), []
    history = fit(
        model, X, Y, loss="hinge", optimizer=optim.SGD(0.1), epochs=50, validation=held, patience=4,
        callbacks=[lambda h: seen.append(numbers(model))],
    )  # fmt: skip
    best = int(np.argmin(history.validation_loss))
    assert history.stopped == "patience"
    assert history.best_epoch == best == history.epochs - 5
    assert numbers(model) == seen[best] != seen[-1]


def test_patience_without_validation_watches_the_loss_and_may_not_be_needed():
    X, Y = moons()
    history = fit(network(), X, Y, loss="hinge", epochs=5, patience=3)
    assert history.stopped == "epochs" and history.best_epoch == int(np.argmin(history.loss))


def test_a_schedule_sets_the_rate_of_every_epoch():
    X, Y = moons(20)
    schedule = optim.step_schedule(0.2, every=1, factor=0.5)
    one, two = network(), network()
    history = fit(one, X, Y, loss="hinge", optimizer=optim.SGD(9.0), epochs=3, batch_size=None,
                  schedule=schedule)  # fmt: skip
    assert history.learning_rate == [0.2, 0.1, 0.05]
    for rate in history.learning_rate:
        fit(two, X, Y, loss="hinge", optimizer=optim.SGD(rate), epochs=1, batch_size=None)
    assert numbers(one) == pytest.approx(numbers(two), rel=1e-12)


def test_metrics_of_your_own_get_arrays():
    X, Y = moons()

    def spread(predictions, targets):
        assert predictions.shape == targets.shape == (60,)
        return predictions.max() - predictions.min()

    history = fit(network(), X, Y, loss="hinge", epochs=2, metrics=[spread])
    assert history.spread[-1] > 0


@pytest.mark.parametrize(
    ("predictions", "targets", "threshold", "expected"),
    [
        ([0.2, 0.7, 0.6, 0.4], [0, 1, 0, 1], None, 0.5),
        ([-0.2, 0.7, -0.6, 0.4], [-1, 1, 1, 1], None, 0.75),
        ([-0.2, 0.1], [0, 1], 0.0, 1.0),
        ([[0.2, 0.7, 0.1], [0.9, 0.0, 0.1]], [1, 2], None, 0.5),
        ([[0.2, 0.8], [0.9, 0.1]], [[0, 1], [1, 0]], None, 1.0),
        ([[0.9], [0.2]], [[1], [0]], None, 1.0),
    ],
)
def test_accuracy(predictions, targets, threshold, expected):
    assert accuracy(predictions, targets, threshold) == expected


def test_a_logit_is_compared_with_zero():
    X, Y = np.array([[1.0], [-1.0]]), np.array([1.0, 0.0])
    model = Plain(1)
    model.w[0].data = 0.1  # logits of 0.1 and -0.1: right, though below 0.5
    history = fit(model, X, Y, loss="binary_cross_entropy", optimizer=optim.SGD(0.0), epochs=1,
                  metrics=["accuracy"])  # fmt: skip
    assert history.accuracy == [1.0]


# ---------------------------------------------------------------- history
def test_the_history_is_floats_by_name_and_by_epoch():
    X, Y = moons()
    history = fit(network(), X, Y, loss="hinge", epochs=3, metrics=["accuracy"])
    assert history["loss"] is history.loss
    assert history[-1] == {name: curve[-1] for name, curve in history.items()}
    assert list(history) == ["loss", "accuracy", "learning_rate", "seconds"]
    assert all(type(x) is float for curve in history.values() for x in curve)
    assert history.seconds == sorted(history.seconds)
    assert "3 epochs" in repr(history) and "loss" in repr(history)
    with pytest.raises(AttributeError, match="no 'validation_loss': it has loss, accuracy"):
        history.validation_loss  # noqa: B018
    with pytest.raises(KeyError, match="no 'validation_loss': it has loss, accuracy"):
        history["validation_loss"]
    again = pickle.loads(pickle.dumps(history))
    assert isinstance(again, History) and again.loss == history.loss


def test_the_history_plots_what_is_named():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    X, Y = moons()
    held = X[:5], Y[:5]
    history = fit(network(), X, Y, loss="hinge", epochs=3, validation=held, metrics=["accuracy"])
    losses_shown = history.plot(ax=figure.add_subplot())
    assert {line.get_label() for line in losses_shown.lines} == {"loss", "validation_loss"}
    accuracies = history.plot("accuracy", ax=figure.add_subplot())
    assert list(accuracies.lines[0].get_ydata()) == history.accuracy


# ---------------------------------------------------------------- progress
class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_only(monkeypatch):
    pytest.importorskip("tqdm")
    X, Y = moons()
    terminal, pipe = Terminal(), io.StringIO()
    for stream, progress in ((terminal, True), (pipe, True)):
        monkeypatch.setattr(sys, "stderr", stream)
        fit(network(), X, Y, loss="hinge", epochs=3, progress=progress)
    assert "step" in terminal.getvalue() and pipe.getvalue() == ""
    quiet = Terminal()
    monkeypatch.setattr(sys, "stderr", quiet)
    fit(network(), X, Y, loss="hinge", epochs=3, progress=False)
    assert quiet.getvalue() == ""


def test_progress_works_where_there_is_no_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with Progress(3) as progress:
        progress(1)


def test_a_stored_notebook_keeps_no_dead_widget_and_no_progress():
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    root = os.path.dirname(os.path.dirname(os.path.abspath(training.__file__)))
    code = f"""
import sys
sys.path.insert(0, {root!r})
from micrograd_scratch import MLP, data, fit
X, Y = data.xor()
history = fit(MLP(2, [3, 1]), X, Y, loss="squared_error", epochs=300, batch_size=None)
print(history.epochs)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (cell,) = notebook.cells
    shown = [output for output in cell.outputs if output.output_type == "stream"]
    assert [output.text for output in shown] == ["300\n"]
    others = [output.get("data", {}) for output in cell.outputs if output not in shown]
    assert all(not mime for mime in others)
    assert "widgets" not in notebook.metadata


# ---------------------------------------------------------------- spread over workers
def gradients(shards, map=map, rows=50, sizes=(4, 6, 3)):
    """The gradient of one process, and that of shards."""
    rng = np.random.RandomState(0)
    X, Y = rng.rand(rows, sizes[0]), rng.randint(0, sizes[-1], rows).astype(float)
    model = network(sizes)
    program = compile_loss(model, losses.cross_entropy, X, Y)
    theta = np.array(numbers(model))
    value, g = program.value_and_grad(X, Y, parameters=theta)
    out = np.empty_like(g)
    sharded = ShardedGradient(program, map, shards)
    mean, same = sharded.value_and_grad(X, Y, parameters=theta, out=out)
    assert same is out
    return (value, g), (mean, out)


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 50, 64])
@pytest.mark.parametrize("rows", [50, 3, 1])
def test_shards_add_up_to_the_gradient_of_one_process(shards, rows):
    (value, g), (mean, out) = gradients(shards, rows=rows)
    assert mean == pytest.approx(value, rel=1e-12)
    assert np.abs(out - g).max() <= 1e-12 * np.abs(g).max()


def joblib_map(function, tasks):
    joblib = pytest.importorskip("joblib")
    return joblib.Parallel(n_jobs=2)(joblib.delayed(function)(task) for task in tasks)


def futures_map(function, tasks):
    """As Dask's Client.map: a list of futures."""
    futures = []
    for task in tasks:
        future = Future()
        future.set_result(function(task))
        futures.append(future)
    return futures


@pytest.mark.parametrize("kind", ["processes", "threads", "pool", "joblib", "futures", "builtin"])
def test_training_over_a_map_reaches_the_same_weights(kind):
    from multiprocessing import get_context

    X, Y = moons(50)
    alone, spread = network(activation="tanh"), network(activation="tanh")
    options = {"loss": "squared_error", "epochs": 3, "batch_size": 16}
    fit(alone, X, Y, **options)
    with (
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes,
        ThreadPoolExecutor(2) as threads,
    ):
        pool = get_context("spawn").Pool(2) if kind == "pool" else None
        chosen = {
            "processes": processes.map, "threads": threads.map, "pool": pool and pool.map,
            "joblib": joblib_map, "futures": futures_map, "builtin": map,
        }[kind]  # fmt: skip
        fit(spread, X, Y, map=chosen, shards=3, **options)
        if pool is not None:
            pool.terminate()
    assert numbers(spread) == pytest.approx(numbers(alone), rel=1e-11)


def test_dask_spreads_the_work():
    distributed = pytest.importorskip("distributed")
    X, Y = moons(40)
    alone, spread = network(), network()
    options = {"loss": "hinge", "epochs": 1, "batch_size": 20}
    fit(alone, X, Y, **options)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        fit(spread, X, Y, map=client.map, shards=2, **options)
    assert numbers(spread) == pytest.approx(numbers(alone), rel=1e-11)


def test_the_same_number_of_shards_gives_the_same_bits_whoever_computes():
    X, Y = moons(40)
    results = []
    with ThreadPoolExecutor(3) as threads:
        for chosen in (map, threads.map):
            model = network()
            fit(model, X, Y, loss="hinge", epochs=2, map=chosen, shards=3)
            results.append(numbers(model))
    assert results[0] == results[1]


def test_the_program_is_sent_once_and_again_to_a_worker_that_lacks_it():
    from micrograd_scratch import sharding

    sent = []

    def forgetful(function, tasks):
        sent.append([task[1] is not None for task in tasks])
        if len(sent) == 2:
            sharding._programs.clear()  # a new worker
        return map(function, tasks)

    X, Y = moons(30)
    alone, spread = network(), network()
    options = {"loss": "hinge", "epochs": 1, "batch_size": 10}
    fit(alone, X, Y, **options)
    fit(spread, X, Y, map=forgetful, shards=2, **options)
    assert numbers(spread) == pytest.approx(numbers(alone), rel=1e-11)
    assert sent == [[True, True], [False, False], [True, True], [False, False]]


def dying(function, tasks, state):
    state.append(len(tasks))
    if state == [2, 2]:
        raise ConnectionError("a worker went away")
    return map(function, tasks)


def test_a_lost_worker_costs_a_retry():
    X, Y = moons(30)
    alone, spread, state = network(), network(), []
    options = {"loss": "hinge", "epochs": 1, "batch_size": 10}
    fit(alone, X, Y, **options)
    fit(spread, X, Y, map=functools.partial(dying, state=state), shards=2, **options)
    assert numbers(spread) == pytest.approx(numbers(alone), rel=1e-11)
    assert state == [2, 2, 2, 2]  # three batches, one of them twice


def test_a_pool_that_broke_is_replaced_by_this_process_with_a_warning():
    X, Y = moons(30)
    alone, spread = network(), network()
    options = {"loss": "hinge", "epochs": 2, "batch_size": 10}
    fit(alone, X, Y, **options)
    with ProcessPoolExecutor(2) as executor:
        calls = []

        def breaking(function, tasks):
            calls.append(len(tasks))
            if len(calls) == 2:
                for pid in list(executor._processes):
                    os.kill(pid, signal.SIGKILL)
            return executor.map(function, tasks)

        with pytest.warns(RuntimeWarning, match="BrokenProcessPool.*this process alone"):
            fit(spread, X, Y, map=breaking, shards=2, **options)
    assert numbers(spread) == pytest.approx(numbers(alone), rel=1e-11)
    assert len(calls) == 3  # the second batch twice, and never again


def test_a_workers_exception_arrives_with_its_own_message():
    X, Y = np.ones((6, 2)), np.array([0, 1, 2, 0, 1, 9])
    with (
        ProcessPoolExecutor(2) as executor,
        pytest.raises(IndexError, match="9 is not one of the integers 0 to 2"),
    ):
        fit(network((2, 3)), X, Y, loss="cross_entropy", batch_size=None, map=executor.map)


def test_an_exception_that_cannot_travel_is_told_in_words():
    from micrograd_scratch.sharding import _sendable

    class Local(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    assert str(_sendable(Local(1, 2))) == "Local: 1 and 2"
    assert type(_sendable(KeyError("x"))) is KeyError


def test_what_cannot_be_pickled_is_said_before_training():
    from micrograd_scratch import operation

    local = operation("local", lambda x: 2 * x, lambda y, x: (2.0,))
    with pytest.raises(TypeError, match="cannot pickle operation 'local'"):
        fit(network(), *moons(8), loss=lambda p, y: local(p) * y, map=map)


def test_a_loss_that_is_not_finite_is_found_over_a_map_as_well():
    with pytest.raises(DivergedError, match="log"):
        fit(network(), *data.xor(), loss=diverging, map=map, shards=2)


# ---------------------------------------------------------------- what is claimed
def test_moons_are_learned_completely():
    X, Y = data.moons(100, noise=0.1, seed=0)
    model = network((2, 16, 16, 1))
    history = fit(model, X, 2 * Y - 1, loss="hinge", optimizer=optim.Adam(0.02), batch_size=25,
                  metrics=["accuracy"])  # fmt: skip
    assert history.accuracy[-1] == 1.0


def test_digits_are_read():
    pytest.importorskip("sklearn")
    (X, Y), held = data.split(*data.digits())
    history = fit(network((64, 32, 10)), X, Y, loss="cross_entropy", optimizer=optim.Adam(0.005),
                  epochs=30, validation=held, metrics=["accuracy"])  # fmt: skip
    assert history.validation_accuracy[-1] >= 0.96


def test_sigmoid_networks_of_the_other_projects_learn():
    """784-16-16-10 and 784-128-64-10 in small: sigmoids with squared error, and with softmax."""
    pytest.importorskip("sklearn")
    (X, Y), (X_held, Y_held) = data.split(*data.digits())
    model = network((64, 16, 16, 10), activation="sigmoid", output=sigmoid, init="xavier")
    history = fit(model, X, np.eye(10)[Y], loss="squared_error", optimizer=optim.Adam(0.01),
                  epochs=30, validation=(X_held, np.eye(10)[Y_held]),
                  metrics=["accuracy"])  # fmt: skip
    assert history.validation_accuracy[-1] >= 0.9
    model = network((64, 128, 64, 10), activation="sigmoid", init="xavier")
    history = fit(model, X, Y, loss="cross_entropy", optimizer=optim.Adam(0.005), epochs=10,
                  validation=(X_held, Y_held), metrics=["accuracy"])  # fmt: skip
    assert history.validation_accuracy[-1] >= 0.93
