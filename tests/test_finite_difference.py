"""Finite differences against references of 50 digits; the checker against rules broken on purpose.

It leaves out the engine's own correctness: here the engine is only what the checker is tried on.
"""

import cmath
import copy
import math
import pickle
import random
import subprocess
import sys
import warnings

import mpmath
import numpy as np
import pytest

from micrograd_scratch import functions, operations
from micrograd_scratch.engine import Value
from micrograd_scratch.finite_difference import (
    STEPS,
    Derivative,
    check,
    check_model,
    derivative,
    gradient,
)
from micrograd_scratch.operations import Operation, operation

mpmath.mp.dps = 50
METHODS = list(STEPS)
REAL = ["forward", "central", "fourth", "ridders"]

# f on floats, f on complex numbers, f' in mpmath; well scaled around 1, as the default steps ask.
SMOOTH = {
    "sin": (math.sin, cmath.sin, mpmath.cos),
    "exp": (math.exp, cmath.exp, mpmath.exp),
    "tanh": (math.tanh, cmath.tanh, lambda x: mpmath.sech(x) ** 2),
    "log": (math.log, cmath.log, lambda x: 1 / x),
    "cube": (lambda x: x * x * x, lambda x: x * x * x, lambda x: 3 * x * x),
    "quotient": (lambda x: x / (1 + x * x),) * 2 + (lambda x: (1 - x * x) / (1 + x * x) ** 2,),
}
POINTS = [0.7, 1.3, 2.1]


def relative_errors(method, step=None):
    """Every function at every point, against mpmath."""
    errors = []
    for on_floats, on_complex, slope in SMOOTH.values():
        for x in POINTS:
            exact = slope(mpmath.mpf(x))
            f = on_complex if method == "complex" else on_floats
            found = derivative(f, x, method, step)
            errors.append(abs(float((mpmath.mpf(float(found)) - exact) / exact)))
    return sorted(errors)


# -- derivative and gradient -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "median", "largest"),
    [
        ("forward", 3e-8, 1e-7),
        ("central", 5e-11, 5e-10),
        ("fourth", 5e-13, 5e-12),
        ("ridders", 6e-15, 6e-14),
        ("complex", 2e-16, 3e-15),
    ],
)
def test_relative_errors_at_the_default_step(method, median, largest):
    errors = relative_errors(method)
    assert errors[len(errors) // 2] < median
    assert errors[-1] < largest


def test_each_method_is_better_than_the_one_before():
    middles = [relative_errors(method)[9] for method in METHODS]
    assert middles == sorted(middles, reverse=True)


@pytest.mark.parametrize(
    ("method", "order", "start"),
    [("forward", 1, 2**-6), ("central", 2, 2**-5), ("fourth", 4, 2**-3)],
)
def test_the_order_of_convergence_by_halving_the_step(method, order, start):
    errors = [
        abs(derivative(math.sin, 0.9, method, start / 2**k) - math.cos(0.9)) for k in range(4)
    ]
    for wide, narrow in zip(errors, errors[1:], strict=False):
        assert math.log2(wide / narrow) == pytest.approx(order, abs=0.15)


def test_the_complex_step_has_order_two_and_no_cancellation():
    errors = [
        abs(derivative(cmath.sin, 0.9, "complex", 2**-k) - math.cos(0.9)) for k in range(3, 7)
    ]
    for wide, narrow in zip(errors, errors[1:], strict=False):
        assert math.log2(wide / narrow) == pytest.approx(2, abs=0.05)
    for step in (1e-20, 1e-100, 1e-200, 1e-300):
        assert derivative(cmath.sin, 0.9, "complex", step) == pytest.approx(
            math.cos(0.9), rel=3e-16
        )


@pytest.mark.parametrize("method", METHODS)
def test_evaluations_are_counted_exactly(method):
    calls = 0

    def f(*xs):
        nonlocal calls
        calls += 1
        return sum((i + 1) * x * x for i, x in enumerate(xs))

    one = derivative(f, 0.3, method)
    assert one.evaluations == calls
    if method != "ridders":
        assert calls == {"forward": 2, "central": 2, "fourth": 4, "complex": 1}[method]
    calls = 0
    many = gradient(f, [0.1 * i for i in range(1, 8)], method)
    assert many.evaluations == calls
    if method != "ridders":
        assert calls == {"forward": 7 + 1, "central": 2 * 7, "fourth": 4 * 7, "complex": 7}[method]
    assert list(many) == pytest.approx([0.2 * (i + 1) ** 2 for i in range(7)], rel=1e-6)


@pytest.mark.parametrize("method", REAL)
@pytest.mark.parametrize("x", [0.0, 0.1, -0.1, 1.0, -1.0, 1e-300, 3.3e7, -1e16, 1e300])
def test_steps_are_representable_and_scaled(method, x):
    step = derivative(lambda t: t, x, method).step
    assert (x + step) - x == step != 0
    assert step == pytest.approx(STEPS[method] * max(1.0, abs(x)), rel=0.01)


@pytest.mark.parametrize("method", REAL)
@pytest.mark.parametrize("x", [-1.0, -1e-3, 0.1, 1 / 3, -1e9, 1e300, -5e-324])
def test_the_slope_of_a_line_is_exact_whatever_the_rounding_of_its_points(method, x):
    assert derivative(lambda t: 0.5 * t, x, method) == pytest.approx(0.5, rel=4e-16)


def test_results_are_plain_floats_and_lists_that_know_their_cost():
    d = derivative(math.exp, 0.0, "ridders")
    assert isinstance(d, float) and d + 1 == float(d) + 1 and f"{d:.3f}" == "1.000"
    assert repr(d) == repr(float(d))
    assert 0 < d.error < 1e-12 and d.step == 0.5
    for twin in (pickle.loads(pickle.dumps(d)), copy.deepcopy(d)):
        assert (twin, twin.evaluations, twin.step, twin.error) == (
            d,
            d.evaluations,
            d.step,
            d.error,
        )
    assert math.isnan(derivative(math.exp, 0.0).error)
    g = gradient(math.hypot, [3, 4], "fourth")
    assert isinstance(g, list) and isinstance(g[0], Derivative)
    assert g == pytest.approx([0.6, 0.8], rel=1e-11)
    assert pickle.loads(pickle.dumps(g)).evaluations == g.evaluations == 8
    assert gradient(lambda: 1.0, []) == []
    assert gradient(lambda xs: xs[0] * xs[1], [2.0, 3.0]) == pytest.approx([3, 2])  # one list


def test_ridders_error_bar_holds():
    held = total = 0
    for on_floats, _, slope in SMOOTH.values():
        for x in (0.3, 0.7, 1.3, 2.1, 3.7):
            found = derivative(on_floats, x, "ridders")
            wrong = abs(float(mpmath.mpf(float(found)) - slope(mpmath.mpf(x))))
            held, total = held + (wrong <= found.error), total + 1
            assert wrong <= 10 * found.error  # what the checker relies on
    assert held / total > 0.85


@pytest.mark.parametrize(
    ("f", "x", "slope"),
    [
        (math.log, 1e-4, 1e4),  # the first steps leave the domain
        (lambda x: x**0.5, 1e-4, 50.0),  # ... and are answered with complex numbers
        (lambda x: math.exp(-((1000 * x) ** 2)), 3e-4, -600 * math.exp(-0.09)),  # flat further out
        (lambda x: math.sin(1e4 * x), 0.3, 1e4 * math.cos(3e3)),
        (lambda x: 1e9 + math.sin(x), 0.3, math.cos(0.3)),
        (abs, 0.01, 1.0),
        (math.cos, 0.0, 0.0),
        (lambda x: 7, 1.0, 0.0),
    ],
)
def test_ridders_finds_its_step(f, x, slope):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = derivative(f, x, "ridders")
    assert found == pytest.approx(slope, rel=1e-5 if f(x) > 1e8 else 1e-10)


def test_a_negative_step_looks_to_the_left():
    assert derivative(abs, 0.0, "forward") == 1
    assert derivative(abs, 0.0, "forward", step=-1e-3) == -1


def test_numbers_of_all_kinds_and_values_go_in_and_come_out():
    assert derivative(lambda x: np.float32(2) * np.float32(x), 1.0, step=0.5) == 2
    assert derivative(lambda x: x > 0, 1.0) == 0
    assert derivative(lambda x: Value(x) ** 2, np.float64(3), "fourth") == pytest.approx(6)
    assert gradient(lambda a, b: a * b, [Value(2.0), True], "fourth") == pytest.approx([1, 2])
    seen = []
    derivative(lambda x: seen.append(type(x)) or x, np.float64(1.0))
    assert set(seen) == {float}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: derivative(math.sin, math.nan), ValueError, "x is nan"),
        (lambda: derivative(math.sin, math.inf), ValueError, "x is inf"),
        (lambda: derivative(math.sin, 1.0, step=0), ValueError, "step is 0.0"),
        (lambda: derivative(math.sin, 1.0, step=math.nan), ValueError, "step is nan"),
        (lambda: derivative(math.sin, 1.0, step=1e-20), ValueError, "vanishes beside x = 1.0"),
        (lambda: derivative(abs, 1.7e308, step=1e308), ValueError, "largest float"),
        (
            lambda: derivative(math.sin, 1.0, "centre"),
            ValueError,
            "forward, central, fourth, ridders, complex",
        ),
        (lambda: derivative(str, 1.0), TypeError, r"'1\.\d*' \(str\)"),
        (lambda: derivative(lambda x: None, 1.0), TypeError, "None"),
        (lambda: derivative(lambda x: [x], 1.0), TypeError, "list"),
        (lambda: derivative(math.sin, "1"), TypeError, "x is '1'"),
        (lambda: gradient(math.hypot, [1.0, None]), TypeError, r"xs\[1\] is None"),
        (lambda: derivative(math.sin, 1.0, "complex"), TypeError, "cmath.*ridders"),
        (lambda: derivative(abs, 1.0, "complex"), TypeError, "no abs"),
        (lambda: derivative(Value, 1.0, "complex"), TypeError, "no Value"),
        (
            lambda: derivative(lambda x: x if x > 0 else -x, 1.0, "complex"),
            TypeError,
            "no comparison",
        ),
        (lambda: check(lambda: 1.0), ValueError, "check needs a point"),
        (lambda: check(3.0, 1.0), TypeError, "f is 3.0 .*: give the function itself"),
        (lambda: derivative(2.0, 1.0), TypeError, "f is 2.0 .*: give the function itself"),
        (lambda: gradient(4.0, [1.0]), TypeError, "f is 4.0 .*: give the function itself"),
        (lambda: gradient(lambda a, b: a * b, 2.0, 3.0), TypeError, r"xs is 2.0 .*\[2.0, 3.0\]"),
        (lambda: check(lambda x: "no", 1.0), TypeError, "'no'"),
        (lambda: check(lambda x: x + random.random(), 1.0), ValueError, "randomness"),
        (lambda: check_model(lambda: Value(1.0), []), ValueError, "parameters is empty"),
        (lambda: check_model(2.0, [Value(1.0)]), TypeError, "loss is 2.0 .*: give the function"),
        (lambda: check_model(lambda: Value(1.0), 2.0), TypeError, "is 2.0 .* model.parameters"),
        (
            lambda: check_model(lambda: Value(1.0), [Value(1.0) + 1]),
            ValueError,
            r"\[0\] is not a leaf",
        ),
        (
            lambda: check_model(lambda: Value(1.0), [Value(1.0)], sample=0),
            ValueError,
            "sample is 0",
        ),
    ],
)
def test_errors_name_the_value_and_the_mend_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("f", "x", "text"),
    [
        (math.log, 0.1, "ValueError"),
        (lambda x: 1 / (x + 0.4), 0.1, "ZeroDivisionError"),
        (lambda x: math.exp(3000 * x), 0.1, "OverflowError"),
        (lambda x: x**0.5, 0.1, "complex number"),
    ],
)
def test_an_edge_within_the_step_gives_nan_and_says_why(f, x, text):
    with pytest.warns(RuntimeWarning, match=text):
        assert math.isnan(derivative(f, x, step=0.5))


def test_a_function_that_always_raises_raises():
    with pytest.raises(ValueError, match="math domain error|nonnegative|positive"):
        derivative(math.log, -1.0)
    with pytest.raises(KeyError):  # what is not arithmetic is never swallowed
        derivative(lambda x: {}[x], 1.0)


def test_the_module_imports_nothing_of_ours():
    code = (
        "import sys, importlib.util as u;"
        f"s = u.spec_from_file_location('alone', {sys.modules[derivative.__module__].__file__!r});"
        "m = u.module_from_spec(s); sys.modules['alone'] = m; s.loader.exec_module(m);"
        "bad = {n for n in sys.modules if n.split('.')[0] in ('micrograd_scratch', 'numpy')};"
        "assert not bad, bad; assert abs(m.derivative(lambda x: x * x, 3.0) - 6) < 1e-8"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- check -----------------------------------------------------------------------------------------

# Rows whose derivative is cut on purpose in an argument that their value depends on.
CUT = {"detach"}
ROWS = {
    name: row
    for module in (operations, functions)
    for name, row in vars(module).items()
    if isinstance(row, Operation) and row.arity and row.name not in CUT and name != "constant_power"
}
SCALES = (1.0, 1e-200, 1e200)


def sampled(row, rng):
    pairs = row.domain if isinstance(row.domain[0], tuple) else [row.domain] * row.arity
    return [rng.uniform(*pair) for pair in pairs]


def bend(row, factor):
    """The row with partials off by a factor."""

    def partials(y, *xs):
        return tuple(None if p is None else p * factor for p in row.partials(y, *xs))

    bent = Operation(row.name, row.value, partials, limit=row.limit)
    bent.arity = row.arity
    return bent


@pytest.mark.parametrize("name", ROWS)
def test_no_false_alarm_on_any_row_at_any_scale(name):
    rng = random.Random(name)
    for _ in range(10):
        xs = sampled(ROWS[name], rng)
        for scale in SCALES:
            report = check(lambda *v, s=scale: ROWS[name](*v) * s, *xs)
            assert report, report


@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0, 2.0, 0.0, math.nan])
@pytest.mark.parametrize("name", ROWS)
def test_a_rule_off_by_a_thousandth_fails(name, factor):
    rng, bent = random.Random(name), bend(ROWS[name], factor)
    for _ in range(4):
        xs = sampled(ROWS[name], rng)
        for scale in SCALES:
            whole = check(lambda *v, s=scale: ROWS[name](*v) * s, *xs)
            broken = check(lambda *v, s=scale: bent(*v) * s, *xs)
            for good, bad in zip(whole.rows, broken.rows, strict=True):
                if good.verdict == "ok" and good.autodiff != 0:
                    assert bad.verdict == "WRONG", broken


class Stand:
    """The least that check_model needs of a Value: exp of a leaf, times a constant."""

    def __init__(self, data, parents=(), factor=1.0, remembers=True):
        self.data, self.parents, self.factor, self.remembers = data, parents, factor, remembers
        self.grad, self.label = 0.0, ""

    def exp(self, remembers):
        return Stand(math.exp(self.data), (self,), remembers=remembers)

    def __mul__(self, factor):
        return Stand(self.data * factor, (self,), factor)

    def backward(self):
        (answer,) = self.parents
        upstream = self.factor if answer.remembers else 1.0
        answer.parents[0].grad += upstream * answer.data


@pytest.mark.parametrize("remembers", [True, False])
def test_a_rule_that_drops_the_gradient_from_above_fails(remembers):
    leaf = Stand(0.4)
    report = check_model(lambda: leaf.exp(remembers), [leaf])
    assert bool(report) == remembers
    assert report.rows[0].finite_difference == pytest.approx(math.exp(0.4), rel=1e-10)


def test_the_report_is_a_table_with_both_numbers():
    def loss(weight, bias):
        return (weight * 2 + bias).tanh()

    report = check(loss, 0.5, -0.3)
    assert report and report.failures == []
    text = str(report)
    assert repr(report) == text and all(line == line.rstrip() for line in text.splitlines())
    summary, head, first, second = text.splitlines()
    assert summary.startswith("loss(weight, bias): 2 of 2 passed, largest relative error ")
    assert head.split("  ")[0] == "input" and "finite difference" in head and "verdict" in head
    slope = 1 - math.tanh(0.7) ** 2
    assert first.split()[0] == "weight" and f"{2 * slope:.10g}"[:9] in first.split()[2]
    assert first.split()[2][:9] == first.split()[3][:9]
    assert second.split()[0] == "bias" and second.endswith("ok")
    assert report.rows[0].autodiff == pytest.approx(2 * slope, rel=1e-15)
    assert report.largest_relative_error < 1e-9
    assert report.evaluations == 1 + 2 * 4


def test_inputs_are_named_by_label_then_signature_then_number():
    assert [r.name for r in check(lambda a, b: a * b, Value(2.0, label="w"), 3.0).rows] == [
        "w",
        "b",
    ]
    assert [r.name for r in check(lambda a, *vs: a * vs[1], 1.0, 2.0, 3.0).rows] == [
        "a",
        "vs0",
        "vs1",
    ]
    assert [r.name for r in check(lambda *xs: xs[0] + 1, 1).rows] == ["xs0"]


def test_check_leaves_every_grad_alone():
    x, weight = Value(2.0), Value(3.0)
    inside = weight * 1.5
    x.grad, weight.grad, inside.grad = 7.0, 8, 9.0
    assert check(lambda v: v * inside, x)
    assert (x.data, x.grad, weight.grad, inside.grad) == (2.0, 7.0, 8, 9.0)
    assert isinstance(weight.grad, int)


@pytest.mark.parametrize(
    ("f", "x", "left", "right"),
    [
        (lambda x: x.relu(), 0.0, 0, 1),
        (abs, 0.0, -1, 1),
        (lambda x: 5 * abs(x - 1) + x.exp(), 1.0, math.e - 5, math.e + 5),
        (lambda x: x.leaky_relu(), 0.0, 0.01, 1),
        (lambda x: x.hardtanh(), 1.0, 1, 0),
        (lambda x: x.clip(-1, 1), 1.0, 1, 0),
        (lambda x: operations.maximum(x, 0.3), 0.3, 0, 1),
    ],
)
@pytest.mark.parametrize("scale", SCALES)
def test_kinks_are_pointed_out_and_a_subgradient_passes(f, x, left, right, scale):
    report = check(lambda v: f(v) * scale, x)
    row = report.rows[0]
    assert report and row.verdict == "kink"
    assert f"kink at {x:g}: left " in str(report) and f"autodiff {row.autodiff:.6g}" in row.note
    numbers = [float(part.split()[-1]) for part in row.note.split(":")[1].split(",")]
    assert numbers[:2] == pytest.approx([left * scale, right * scale], rel=1e-5, abs=1e-9 * scale)


@pytest.mark.parametrize("slope", [-0.001, 1.001, 2.0, -1.0])
def test_at_a_kink_an_answer_outside_the_two_fails(slope):
    broken = operation("broken", lambda x: max(x, 0.0), lambda y, x: (slope,))
    report = check(lambda v: broken(v), 0.0)
    assert not report and report.failures[0].note.startswith("kink at 0: left 0, right 1")


@pytest.mark.parametrize("x", [1e-9, -1e-9, 1e-6, -1e-6, 1e-3, 0.2])
def test_a_kink_nearby_disturbs_nothing(x):
    assert check(lambda v: v.relu() + v, x)
    wrong = operation("wrong", lambda t: max(t, 0.0) + t, lambda y, t: (1.001 * (1 + (t > 0)),))
    if abs(x) >= 1e-6:
        assert not check(lambda v: wrong(v), x)


ALONG = (1.0, 0.3, -2.7, 0.01, 17.3, 0.777, 123.4)


@pytest.mark.parametrize("frequency", [1e4, 10**4.5, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10])
def test_a_derivative_is_measured_where_the_first_steps_see_many_periods(frequency):
    """At steps where sin(frequency * x) is anywhere, differences are no derivative."""
    for x in ALONG:
        for amplitude in (1.0, 1e-3):
            report = check(lambda x: amplitude * (frequency * x).sin() + x, x)  # noqa: B023
            assert report, report
            assert report.rows[0].verdict in ("ok", "unsure")


@pytest.mark.parametrize("factor", [2.0, 1.01, 0.99, 0.0, -1.0])
@pytest.mark.parametrize("frequency", [1e4, 10**4.5, 1e5, 1e6, 1e7, 1e8])
def test_mistakes_are_found_there_as_well(frequency, factor):
    broken = operation("broken", lambda x: x, lambda y, x: (factor,))
    for x in ALONG:
        assert not check(lambda x: (frequency * broken(x)).sin(), x)


def test_where_differences_never_settle_nothing_is_claimed():
    report = check(lambda x: (1e15 * x).sin(), 1.0)
    assert report.rows[0].verdict == "unsure" and "do not settle" in report.rows[0].note
    # the stairs of a sum that rounds do not count as that
    for factor in (2.0, 1.001, -1.0):
        broken = operation("broken", lambda x: x, lambda y, x: (factor,))  # noqa: B023
        for x in np.random.default_rng(0).uniform(-2.0, 2.0, 300).tolist():
            verdict = check(lambda x: broken(x) * broken(x) + 1e9 - 1e9, x).rows[0].verdict  # noqa: B023
            assert verdict == "WRONG"


@pytest.mark.parametrize(
    ("f", "x", "verdict"),
    [
        (lambda x: x.sqrt(), 0.0, "edge"),
        (lambda x: x**1.5, 0.0, "edge"),
        (lambda x: x.asin(), 1.0, "edge"),
        (lambda x: x.sign(), 0.0, "jump"),
        (lambda x: x.floor(), 2.0, "jump"),
        (lambda x: x % 1, 3.0, "jump"),
        (lambda x: x.log(), 1e-12, "ok"),
        (lambda x: x.log(), 1e-300, "ok"),
        (lambda x: 1 / x, -1e-9, "ok"),
        (lambda x: (x * 1e6).sin(), 0.3, "ok"),
        (lambda x: (x * 1e9).tanh(), 0.0, "ok"),
        (lambda x: (-((x * 1000) ** 2)).exp(), 3e-4, "ok"),
        (lambda x: x * x, 1e150, "ok"),
        (lambda x: x / 1e300, 1e300, "ok"),
        (lambda x: x.elu(), 0.0, "ok"),
        (lambda x: x**15, 0.0, "zero"),
        (lambda x: x.floor(), 2.5, "ok"),
        (lambda x: 1e10 + x.sin(), 0.3, "unsure"),
        (lambda x: 3.0, 1.0, "ok"),
        (lambda x: x, 1.0, "ok"),
        (lambda x: x.data**2, 1.0, "WRONG"),  # the graph was cut
        (lambda x: abs(x).sqrt(), 0.0, "WRONG"),  # autodiff: 0 * inf
        (lambda x: x.log(), -1.0, "nan"),
        (lambda x: x.exp(), 710.0, "nan"),
        (lambda x: x * 2, math.nan, "nan"),
        (lambda x: x * 2, math.inf, "nan"),
    ],
)
def test_hard_places(f, x, verdict):
    report = check(f, x)
    assert report.rows[0].verdict == verdict, report
    assert bool(report) == (verdict not in ("WRONG", "nan"))
    assert verdict in str(report)


def test_random_expressions_with_sharing_never_fail_and_fail_when_bent():
    """Deep compositions: correct ones pass, and one bent sine deep inside is found."""
    sines = {"whole": operations.sin, "bent": bend(operations.sin, 1.01)}

    def expression(seed, sine):
        def f(*leaves):
            rng, pool = random.Random(seed), list(leaves)
            for _ in range(25):
                a, b = rng.choice(pool), rng.choice(pool)
                ways = (
                    lambda a, b: a * b,
                    lambda a, b: (a - b).tanh(),
                    lambda a, b: sine(a) + 0.5 * b,
                    lambda a, b: a / (1.5 + b * b),
                    lambda a, b: (0.3 * a).exp().log1p() - b.sigmoid(),
                    lambda a, b: operations.maximum(a, b * 0.5).tanh(),
                )
                pool.append(rng.choice(ways)(a, b))
            return sine(pool[-1]) + operations.total([p.tanh() for p in pool[-6:]])

        return f

    felt = 0
    for seed in range(60):
        rng = random.Random(1000 + seed)
        xs = [rng.uniform(-2, 2) for _ in range(3)]
        report = check(expression(seed, sines["whole"]), *xs)
        assert report, report
        bent = check(expression(seed, sines["bent"]), *xs)
        if any(
            abs(good.autodiff - bad.autodiff) > 0.001 * abs(good.autodiff)
            for good, bad in zip(report.rows, bent.rows, strict=True)
        ):
            felt += 1
            assert not bent, bent
    assert felt > 50


# -- check_model -----------------------------------------------------------------------------------


def small_model(activation=operations.tanh):
    """A 2-3-1 network on four points as (parameters, loss)."""
    rng = random.Random(3)
    parameters = [Value(rng.uniform(-1, 1)) for _ in range(13)]

    def loss():
        w, answer = parameters, 0.0
        for a, b, target in ((0.0, 0.3, 1), (0.2, 1.0, -1), (1.0, 0.1, -1), (1.0, 0.9, 1)):
            hidden = [activation(w[i] * a + w[3 + i] * b + w[6 + i]) for i in range(3)]
            score = w[12] + w[9] * hidden[0] + w[10] * hidden[1] + w[11] * hidden[2]
            answer = answer + (score - target) ** 2
        return answer

    return parameters, loss


@pytest.mark.parametrize("activation", [operations.tanh, operations.relu, functions.elu])
def test_a_whole_model_in_one_call(activation):
    parameters, loss = small_model(activation)
    for index, parameter in enumerate(parameters):
        parameter.grad = float(index)
    before = [(p.data, p.grad) for p in parameters]
    report = check_model(loss, parameters)
    assert report, report
    assert len(report.rows) == 13 and report.largest_relative_error < 1e-6
    assert [(p.data, p.grad) for p in parameters] == before


def test_a_broken_gradient_is_named_and_comes_first():
    parameters, loss = small_model()
    parameters[5].label = "culprit"
    report = check_model(lambda: loss() + (parameters[5] * 0.01).detach(), parameters)
    assert not report and [row.name for row in report.failures] == ["culprit"]
    assert report.rows[0].name == "culprit" and "WRONG" in str(report).splitlines()[2]
    assert {row.name for row in report.rows[1:]} == {f"parameters[{i}]" for i in range(13)} - {
        "parameters[5]"
    }
    errors = [row.relative_error for row in report.rows[1:] if row.verdict == "ok"]
    assert errors == sorted(errors, reverse=True)
    assert report.largest_relative_error == report.rows[0].relative_error


def test_an_activation_off_by_a_thousandth_fails_in_a_model():
    parameters, loss = small_model(bend(operations.tanh, 1.001))
    report = check_model(loss, parameters)
    assert {row.name for row in report.failures} >= {f"parameters[{i}]" for i in (3, 4, 5, 6, 7, 8)}


def test_sampling_is_seeded_and_said():
    parameters, loss = small_model()
    one, two = (check_model(loss, parameters, sample=4, seed=1) for _ in range(2))
    assert [r.name for r in one.rows] == [r.name for r in two.rows] and len(one.rows) == 4
    assert "13 parameters (4 of them, seed 1)" in str(one)
    others = {
        tuple(sorted(r.name for r in check_model(loss, parameters, sample=4, seed=s).rows))
        for s in range(8)
    }
    assert len(others) > 1
    assert len(check_model(loss, parameters, sample=99).rows) == 13


def test_long_reports_are_cut_and_count_what_they_leave_out():
    parameters = [Value(float(i)) for i in range(1, 1101)]
    report = check_model(lambda: operations.total(parameters) * 0.5, parameters[:40])
    assert str(report).endswith("... and 20 more")


@pytest.mark.parametrize("moment", range(2, 54, 7))
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_everything_is_put_back_when_the_loss_raises(moment, error):
    parameters, loss = small_model()
    for parameter in parameters:
        parameter.grad = 5.0
    before = [(p.data, p.grad) for p in parameters]
    calls = 0

    def failing():
        nonlocal calls
        calls += 1
        if calls == moment:
            raise error("stop")
        return loss()

    with pytest.raises(error):
        check_model(failing, parameters)
    assert calls == moment
    assert [(p.data, p.grad) for p in parameters] == before


def test_grads_are_put_back_when_backward_raises():
    x, other = Value(1.0), Value(2.0)
    x.grad, other.grad = 3.0, 4.0

    def explode(y, x):
        raise RuntimeError("no rule")

    broken = operation("broken", lambda x: x, explode)
    with pytest.raises(RuntimeError, match="no rule"):
        check_model(lambda: broken(x) * other, [x])
    assert (x.data, x.grad, other.grad) == (1.0, 3.0, 4.0)


def test_nan_and_unused_parameters_are_reported_not_raised():
    used, unused = Value(-1.0), Value(1.0)
    report = check_model(lambda: used.log(), [used, unused])
    assert not report and "f is nan here" in str(report)
    used.data = 2.0
    report = check_model(lambda: used.log(), [used, unused])
    assert report and report.rows[-1].autodiff == 0


def test_arithmetic_errors_in_the_loss_are_told():
    edge = Value(0.0)
    report = check_model(lambda: edge * 2 + math.sqrt(-abs(edge.data)), [edge])
    assert not report and "f raised ValueError" in str(report)
