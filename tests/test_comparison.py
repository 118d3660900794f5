"""The comparison: its reference, its counts and its errors; that its budgets extrapolate honestly.

No test asserts a time. What takes time in earnest is run with budgets of a fraction of a second,
and where the outcome would depend on the machine, with a clock that ticks once a look.
"""

import cmath
import json
import math
import types
from decimal import Decimal

import mpmath
import numpy as np
import pytest

from micrograd_scratch import finite_difference
from micrograd_scratch.comparison import (
    PlainFloats,
    Problem,
    ThroughValues,
    compare,
    compare_gradients,
    compare_growth,
    compare_shares,
    compare_steps,
    compare_training,
    digits_problem,
    gradients,
    growth,
    race,
    reference_gradient,
    shares,
)
from micrograd_scratch.comparison.executors import contenders
from micrograd_scratch.comparison.problem import accuracy, network_loss
from micrograd_scratch.engine import topological_order
from micrograd_scratch.tables import without_nan


def problem(*sizes, rows=40, seed=0):
    """Classes that a line separates, in the first coordinate."""
    generator = np.random.RandomState(7)
    X = generator.uniform(-1, 1, size=(2 * rows, sizes[0]))
    Y = (X[:, 0] > 0).astype(int)
    return Problem(sizes, X[:rows], Y[:rows], X[rows:], Y[rows:], seed)


TINY = problem(3, 2, 2)  # 14 parameters
DEEP = problem(3, 4, 3, 2)
PARAMETERS = 14
NUDGES = {"forward differences": (PARAMETERS + 1, 0), "central differences": (2 * PARAMETERS, 0)}
WORK = {"reverse mode": (1, 1), "forward mode": (1, PARAMETERS), **NUDGES}


def executor_for(kind, task, rows=5):
    executor = kind(task.sizes)
    executor.use(*task.batch(rows))
    executor.load(task.theta)
    return executor


# -- the problem and its reference -----------------------------------------------------------------


def test_digits_problem_is_the_one_announced():
    pytest.importorskip("sklearn")
    task = digits_problem()
    assert task.sizes == (64, 16, 10) and len(task.theta) == 1210
    assert len(task.Y) + len(task.Y_held) == 1797 and len(task.Y_held) == 359
    assert sorted(set(task.Y)) == list(range(10)) and 0 <= task.X.min() < task.X.max() <= 1


@pytest.mark.parametrize("task", [TINY, DEEP], ids=["one hidden layer", "two"])
def test_both_executors_compute_the_same_loss(task):
    one, other = (executor_for(kind, task).evaluate() for kind in (ThroughValues, PlainFloats))
    assert one == pytest.approx(other, rel=1e-14) and one > 0


@pytest.mark.parametrize("task", [TINY, DEEP], ids=["one hidden layer", "two"])
def test_reference_agrees_with_mpmath_and_with_nudges_in_a_hundred_digits(task):
    X, Y = (array.tolist() for array in task.batch(4))
    theta = task.theta.tolist()
    ours = reference_gradient(task.sizes, theta, X, Y)
    assert len(ours) == len(theta) and all(isinstance(slope, Decimal) for slope in ours)
    with mpmath.workdps(60):
        theirs = reference_gradient(task.sizes, theta, X, Y, mpmath.mpf, mpmath.exp)
        for a, b in zip(ours, theirs, strict=True):
            assert abs(mpmath.mpf(str(a)) - b) < mpmath.mpf("1e-45")
    with mpmath.workdps(100):  # the formula itself, by central differences with a step of 1e-30
        h = mpmath.mpf("1e-30")
        for index in range(len(theta)):
            moved = [mpmath.mpf(t) for t in theta]
            ends = []
            for step in (h, -h):
                moved[index] = mpmath.mpf(theta[index]) + step
                ends.append(network_loss(task.sizes, moved, X, Y, mpmath))
            slope = (ends[0] - ends[1]) / (2 * h)
            assert abs(slope - mpmath.mpf(str(ours[index]))) < mpmath.mpf("1e-45")


def test_float_loss_takes_complex_parameters():
    theta = [complex(t) for t in TINY.theta]
    theta[0] += 1e-100j
    slope = network_loss(TINY.sizes, theta, *TINY.batch(5), functions=cmath).imag / 1e-100
    exact = reference_gradient(TINY.sizes, TINY.theta, *TINY.batch(5))[0]
    assert slope == pytest.approx(float(exact), rel=1e-14)


def test_float_loss_does_not_overflow():
    theta = 1e4 * TINY.theta
    assert math.isfinite(network_loss(TINY.sizes, theta.tolist(), *TINY.batch(5)))


def test_accuracy_counts_right_answers():
    right = 0
    executor = executor_for(ThroughValues, DEEP)
    for x, y in zip(DEEP.X_held.tolist(), DEEP.Y_held, strict=True):
        logits = [z.data for z in executor.model(x)]
        right += logits.index(max(logits)) == y
    assert accuracy(DEEP.sizes, DEEP.theta, DEEP.X_held, DEEP.Y_held) == right / len(DEEP.Y_held)


# -- one gradient ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "kind"), contenders([ThroughValues, PlainFloats]))
def test_a_gradient_costs_exactly_so_many_evaluations(method, kind):
    executor = executor_for(kind, TINY)
    order = list(reversed(range(PARAMETERS)))
    got = {}
    for indices, slopes in gradients.pieces(method, executor, TINY.theta, order):
        got.update(zip(indices, slopes, strict=True))
    assert (executor.evaluations, executor.passes) == WORK[method]
    exact = reference_gradient(TINY.sizes, TINY.theta, *TINY.batch(5))
    tolerance = 1e-14 if "mode" in method else 1e-6
    assert [got[i] for i in range(PARAMETERS)] == pytest.approx(
        [float(slope) for slope in exact], rel=0, abs=tolerance * float(max(map(abs, exact)))
    )


@pytest.mark.parametrize("method", NUDGES)
def test_nudges_are_those_of_the_package(method):
    executor = executor_for(PlainFloats, TINY)
    pieces = gradients.pieces(method, executor, TINY.theta, range(PARAMETERS))
    ours = [slope for _, slopes in pieces for slope in slopes]

    def loss(*theta):
        return network_loss(TINY.sizes, theta, *TINY.batch(5))

    name = gradients.NUDGING[method]
    assert ours == finite_difference.gradient(loss, TINY.theta.tolist(), method=name)
    assert executor.theta == TINY.theta.tolist()  # every nudge is taken back


def test_gradients_are_measured_whole_when_there_is_time():
    result = compare_gradients(TINY, batch_rows=5, seconds=2.0)
    assert [(c.method, c.executor) for c in result.costs] == [
        ("reverse mode", "Values"),
        ("forward mode", "Values"),
        ("reverse mode", "compiled"),
        ("forward differences", "Values"),
        ("forward differences", "floats"),
        ("forward differences", "compiled"),
        ("central differences", "Values"),
        ("central differences", "floats"),
        ("central differences", "compiled"),
    ]
    bounds = {  # what NUMERICS says to expect, within the decades that a network adds
        "reverse mode": (0.0, 1e-14),
        "forward mode": (0.0, 1e-14),
        "forward differences": (1e-10, 1e-6),
        "central differences": (1e-13, 1e-8),
    }
    for c in result.costs:
        assert c.parameters_measured == c.parameters == PARAMETERS and not c.extrapolated
        assert c.gradients_measured >= 1
        assert (c.evaluations_per_gradient, c.passes_per_gradient) == WORK[c.method]
        low, high = bounds[c.method]
        assert low <= c.largest_relative_error < high, c
        assert c.seconds_per_gradient > 0 and c.in_evaluations > 0
    assert "14 slopes" in str(result) and "~" not in str(result).split("work:")[0]


def test_error_is_the_largest_relative_to_the_largest_of_the_whole_gradient():
    exact = [Decimal(1), Decimal(-8), Decimal(2)]
    assert gradients._largest_error({0: 1.5, 2: 2.25}, exact) == 0.5 / 8
    assert gradients._largest_error({1: -8.0}, exact) == 0
    assert math.isnan(gradients._largest_error({1: -8.0}, ()))


def test_what_is_not_finished_is_extrapolated_and_says_so():
    task = problem(64, 16, 10)
    result = compare_gradients(task, batch_rows=32, seconds=0.05)
    reverse = [c for c in result.costs if c.method == "reverse mode"]
    for c in reverse:
        assert c.parameters_measured == 1210 and not c.extrapolated
    for c in (c for c in result.costs if c not in reverse and c.executor != "compiled"):
        assert 3 <= c.parameters_measured < 1210 and c.extrapolated and c.gradients_measured == 0
        counts = {"forward mode": (1, 1210), "forward differences": (1211, 0)}
        wanted = counts.get(c.method, (2420, 0))
        assert (c.evaluations_per_gradient, c.passes_per_gradient) == wanted
        assert f"~{c.time_text()[1:]}" in str(result)


def test_extrapolation_is_once_plus_the_median_piece_times_the_number(monkeypatch):
    ticks = iter(range(10**6))
    clock = types.SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(gradients, "time", clock)
    executor = executor_for(PlainFloats, TINY)
    watch = gradients.Stopwatch("forward differences", executor, TINY.theta, range(PARAMETERS), 1)
    watch.run(0.0)
    cost = watch.cost()  # one look at the clock before and one after each piece: a second each
    assert cost.parameters_measured == 3 and cost.extrapolated
    assert cost.seconds_per_gradient == 1 + PARAMETERS
    assert cost.seconds_per_evaluation == 1 and cost.in_evaluations == 1 + PARAMETERS


def test_an_executor_more_is_a_contender_more():
    class Faster(PlainFloats):
        name = "faster"

    result = compare_gradients(TINY, 5, seconds=0.2, executors=[ThroughValues, Faster])
    assert {c.executor for c in result.costs} == {"Values", "faster"}


# -- the step --------------------------------------------------------------------------------------


def test_error_against_step_is_a_v():
    result = compare_steps(TINY, batch_rows=5, seconds=20.0)
    assert len(result.steps) == 49 and result.steps[0] == 1.0 and result.steps[-1] == 1e-16
    errors = {}
    for method, column in result.relative_errors.items():
        errors[method] = dict(zip(result.steps, column, strict=True))
    # A method of order p gains a factor of 10**p a decade as long as its formula is the trouble ...
    for method, order in (("forward", 1), ("central", 2), ("fourth", 4), ("complex", 2)):
        assert math.log10(errors[method][0.1] / errors[method][0.01]) == pytest.approx(
            order, abs=0.3
        )
    # ... and then rounding takes over, except for the complex step.
    best = {method: result.best(method)[1] for method in errors}
    assert best["complex"] < 1e-15 < best["fourth"] < best["central"] < best["forward"] < 1e-6
    assert errors["complex"][1e-16] < 1e-14
    for method in ("forward", "central", "fourth"):
        assert errors[method][1e-14] > 1e-3
        assert result.default_relative_errors[method] < 1e4 * best[method]
    assert result.reverse_relative_error < 1e-14
    assert result.default_steps["complex"] == 1e-100


def test_steps_reference_has_more_than_thirty_digits():
    result = compare_steps(TINY, batch_rows=5, seconds=0.1, index=4)
    with mpmath.workdps(60):
        X, Y = TINY.batch(5)
        exact = reference_gradient(TINY.sizes, TINY.theta, X, Y, mpmath.mpf, mpmath.exp)[4]
        assert abs(mpmath.mpf(result.exact) / exact - 1) < mpmath.mpf("1e-38")
    assert result.parameter == "W1[1,0]" and result.x == TINY.theta[4]


def test_steps_counts_its_evaluations_and_skips_steps_that_vanish():
    tasks = (problem(1, 1, 2, seed=seed) for seed in range(100))
    task = next(task for task in tasks if max(abs(task.theta)) > 1)  # so that x + 1e-16 is x
    index = int(np.argmax(np.abs(task.theta)))
    result = compare_steps(task, batch_rows=2, seconds=20.0, index=index, per_decade=1)
    assert math.isnan(result.relative_errors["central"][-1])
    assert not math.isnan(result.relative_errors["complex"][-1])
    vanished = sum(map(math.isnan, result.relative_errors["central"]))
    everywhere = 2 + 2 + 4 + 1  # forward, central, fourth, complex
    assert result.evaluations == everywhere * (17 + 1) - vanished * (everywhere - 1)
    assert "-" in str(result).splitlines()[-8]


def test_steps_errors_are_relative_to_the_derivative_itself():
    result = compare_steps(TINY, batch_rows=5, seconds=0.0, index=4)  # one step: 1
    theta, losses = TINY.theta, []
    for step in (1.0, 0.0):
        theta[4] = TINY.theta[4] + step
        losses.append(network_loss(TINY.sizes, theta.tolist(), *TINY.batch(5)))
    exact = float(result.exact)
    wanted = abs(losses[0] - losses[1] - exact) / abs(exact)
    assert result.relative_errors["forward"] == [pytest.approx(wanted, rel=1e-9)]


def test_steps_without_time_tries_one_at_least():
    result = compare_steps(TINY, batch_rows=5, seconds=0.0)
    assert result.steps == [1.0] and "1.0e+00" in str(result)


def test_steps_choose_the_steepest_weight_of_the_first_layer():
    exact = reference_gradient(TINY.sizes, TINY.theta, *TINY.batch(5))
    weights = [0, 1, 2, 4, 5, 6]  # 3 and 7 are biases
    steepest = max(weights, key=lambda i: abs(exact[i]))
    assert compare_steps(TINY, 5, 0.0).x == TINY.theta[steepest]


# -- growth ----------------------------------------------------------------------------------------


def test_growth_counts_operations_and_fits_exponents():
    hidden = (2, 4, 8, 16, 32, 64)
    result = compare_growth(TINY, hidden, seconds=0.5)
    assert result.parameters == [h * 4 + 2 * (h + 1) for h in hidden]
    # one hidden neuron more: a dot of 7 operands, a tanh, and two operands in each of 2 outputs
    base = result.operations[0] - 2 * 12
    assert result.operations == [base + 12 * h for h in hidden]
    n, evaluation = result.parameters, result.operations
    for e in result.exponents:
        work = {
            "reverse mode": [2 * w for w in evaluation],
            "forward mode": [(1 + k) * w for k, w in zip(n, evaluation, strict=True)],
            "forward differences": [(1 + k) * w for k, w in zip(n, evaluation, strict=True)],
            "central differences": [2 * k * w for k, w in zip(n, evaluation, strict=True)],
        }[e.method]
        assert e.of_operations == pytest.approx(growth.fitted_exponent(n, work), rel=1e-12)
        if e.method == "reverse mode":
            assert 0.7 < e.of_operations <= 1
        else:  # one exponent more, whatever the network
            assert 1.7 < e.of_operations <= 2
    assert len(result.of("reverse mode", "Values")) == len(hidden)
    assert "14 to 386 parameters" in str(result)


def test_growth_spans_two_decades_by_default():
    sizes = [hidden * 65 + 10 * (hidden + 1) for hidden in growth.HIDDEN]
    assert sizes[0] == 1060 and sizes[-1] >= 100 * sizes[0]


def test_fitted_exponent():
    assert growth.fitted_exponent([1, 10, 100], [3, 300, 30000]) == pytest.approx(2.0)
    assert math.isnan(growth.fitted_exponent([10], [1.0]))


# -- shares ----------------------------------------------------------------------------------------


def test_shares_of_a_network_counted_by_hand():
    # One row through 2-2-2. Nodes (operands): 2 hidden dots (5 each) and 2 tanh (1 each); 2 output
    # dots (5 each); max (2), detach (1), 2 differences to it (2 each), 2 exp (1 each), total (2),
    # log (1), a difference (2) for the right class; neg (1); total (1) and / (2): the mean.
    result = compare_shares(problem(2, 2, 2), batch_rows=1)
    assert (result.nodes, result.operations) == (18, 40)
    counted = {g.group: (g.parameters, g.nodes, g.operations) for g in result.groups}
    hidden = 18 - 2, 40 - 6  # all but the other hidden neuron's dot and tanh
    output = 18 - 5, 40 - 17  # all but the hidden layer and the other output's dot
    assert counted == {
        "W1": (4, *hidden),
        "b1": (2, *hidden),
        "W2": (4, *output),
        "b2": (2, *output),
    }
    # Operands that change behind a hidden neuron: 1 of its dot, 1 of tanh, 1 in each output's dot,
    # and all of the rest but the number of rows: 2 + 1 + 4 + 2 + 2 + 1 + 2 + 1 + 1 + 1. Behind an
    # output: 1 of its dot, 1 of the max, 1, 3 of the differences to it, 2 + 2 + 1, then 2, and 3.
    touched = {g.group: g.touched_operations for g in result.groups}
    assert touched == {"W1": 21, "b1": 21, "W2": 16, "b2": 16}
    assert result.groups[0].share_of_nodes == 16 / 18
    assert result.groups[2].share_of_operations == 23 / 40
    assert result.evaluations_recomputing_all == 13
    assert result.evaluations_recomputing_changed_nodes == 1 + (6 * 34 + 6 * 23) / 40
    assert result.evaluations_recomputing_changed_operands == 1 + (6 * 21 + 6 * 16) / 40


def test_sums_over_all_parameters_are_exact():
    executor = executor_for(ThroughValues, DEEP, rows=3)
    order = [node for node in topological_order(executor.loss()) if node.parents]
    each = [shares._changes(p, order) for p in executor.parameters]
    result = compare_shares(DEEP, batch_rows=3)
    work, touched = (
        sum(column) / result.operations for column in list(zip(*each, strict=True))[1:]
    )
    assert result.evaluations_recomputing_changed_nodes == pytest.approx(1 + work, rel=1e-12)
    assert result.evaluations_recomputing_changed_operands == pytest.approx(1 + touched, rel=1e-12)


def test_on_digits_even_the_smallest_recomputation_loses():
    task = problem(64, 16, 10)
    result = compare_shares(task, batch_rows=2)
    first, last = result.groups[0], result.groups[2]
    assert first.share_of_operations > 4 * last.share_of_operations
    reverse = 2  # in evaluations, counted
    assert result.evaluations_recomputing_changed_operands > 10 * reverse
    assert result.evaluations_recomputing_changed_nodes > 100 * reverse


# -- training --------------------------------------------------------------------------------------


@pytest.fixture
def ticking(monkeypatch):
    """A clock for training that goes on by a second at every look: the same on every machine."""
    ticks = iter(range(10**9))
    clock = types.SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(race, "time", clock)


def test_training_by_reverse_mode_learns(ticking):
    steps, times, curve = race._train(TINY, "reverse mode", ThroughValues, 20, 200.0, 0.5)
    assert steps == 100  # two looks a step
    assert curve[0] < 0.5 and curve[-1] > 0.85
    assert len(times) == len(curve) == 101 and times == sorted(times)


def test_every_method_takes_the_same_steps(ticking):
    finals = []
    for method, kind in contenders([ThroughValues, PlainFloats]):
        looks = (
            2 if method == "reverse mode" else PARAMETERS + 2
        )  # one for each piece, one at the end
        looks += method in ("forward mode", "forward differences")  # what is paid once
        _, _, curve = race._train(TINY, method, kind, 20, 10.0 * looks, 0.5)
        finals.append(curve[:6])
    assert all(curve == finals[0] for curve in finals)


def test_a_part_of_a_gradient_is_worth_nothing(ticking):
    steps, times, curve = race._train(TINY, "central differences", PlainFloats, 20, 5.0, 0.5)
    assert steps == 0 and times == [0.0, 5.0] and curve[0] == curve[1]


def test_training_leaves_out_who_cannot_finish():
    task = problem(64, 16, 10)
    result = compare_training(task, batch_rows=4, seconds=1.0)
    runs = {(run.method, run.executor): run for run in result.runs}
    assert len(runs) == 9
    for key in (("forward mode", "Values"), ("central differences", "Values")):
        assert runs[key].steps == 0 and runs[key].held_out_accuracy == result.untrained_accuracy
        assert runs[key].gradient_seconds > 1 / 3
        assert runs[key].seconds == [0.0]
    assert "0 steps" in str(result) and f"{result.untrained_accuracy:.1%}" in str(result)


def test_training_measures_everyone_who_can():
    result = compare_training(TINY, batch_rows=5, seconds=1.5)
    assert all(run.steps > 0 for run in result.runs)
    assert all(0 <= a <= 1 for run in result.runs for a in run.accuracies)
    assert {run.accuracies[0] for run in result.runs} == {result.untrained_accuracy}


# -- all of it -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    told = []
    return compare(TINY, seconds=1.0, progress=told.append), told


def test_compare_asks_all_five(whole):
    result, told = whole
    assert [line[:3] for line in told] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    text = str(result)
    for number in range(1, 6):
        assert f"\n{number}. " in text
    assert "Reverse mode wins because one backward pass gives all 14 slopes" in text
    assert repr(result) == text
    assert max(map(len, text.splitlines())) <= 80


def test_compare_as_json(whole):
    result, _ = whole
    told = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert told["gradients"]["costs"][0]["method"] == "reverse mode"
    assert told["gradients"]["costs"][0]["seconds_per_gradient"] > 0
    assert told["growth"]["costs"][0]["largest_relative_error"] is None  # nan: not measured there
    assert len(told["steps"]["steps"]) == len(told["steps"]["relative_errors"]["central"])
    assert told["shares"]["groups"][0]["group"] == "W1"
    assert max(run["steps"] for run in told["training"]["runs"]) > 0
    assert told["seconds_taken"] > 0 and told["seed"] == 0


def test_without_nan_keeps_everything_else():
    thing = {"a": (1, math.nan, [math.inf, "x", None, True]), "b": -0.5}
    assert without_nan(thing) == {"a": [1, None, [None, "x", None, True]], "b": -0.5}


@pytest.mark.parametrize("seconds", [0, -1.0, math.inf, math.nan])
def test_compare_refuses_impossible_times(seconds):
    with pytest.raises(ValueError, match="seconds is .* give a number above 0"):
        compare(TINY, seconds=seconds)
