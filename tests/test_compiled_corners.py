"""Corners of compiled programs: small graphs that look like common ones, and are not.

Each is a few lines that could be taken for something simpler: lists that overlap, nodes that no
derivative reaches beside others, a negative zero, names that are numbered already. All are
compared with the Values themselves, as arrays and as lines of Python.
"""

import random
import sys
import threading
import time

import numpy as np
import pytest
from engines import carried_out_as

import micrograd_scratch as mg
from micrograd_scratch import (
    MLP,
    Value,
    atan2,
    copysign,
    detach,
    dot,
    exp,
    floor,
    maximum,
    sign,
    sin,
    sqrt,
    square,
    step,
    take,
    tanh,
    total,
    where,
)

DISTANCE = mg.operation(
    "distance", lambda a, b: abs(a - b), lambda y, a, b: ((a > b) - (a < b), (a < b) - (a > b))
)
NEGATIVE = mg.operation(
    "negative", lambda a, b: -max(a - b, 0.0), lambda y, a, b: (-(a > b), (a > b) + 0.0 * b)
)
MIDDLE = mg.operation("middle", lambda a, b: 0.5 * a + 0.5 * b, lambda y, a, b: (0.5, 0.5))


@pytest.fixture(params=["arrays", "lines", "vectors"], autouse=True)
def form(request):
    with carried_out_as(request.param):
        yield request.param


def check(output, parameters, inputs=(), row=(), rows=3):
    """A compiled value and gradient against the Values', at the same row several times."""
    for p in parameters:
        p.grad = 0.0
    output.backward()
    program = mg.compile(output, inputs=list(inputs), parameters=parameters)
    fed = [np.repeat(np.asarray(x, float)[None], rows, axis=0) for x in row]
    value, gradient = program.value_and_grad(*fed)
    assert value == pytest.approx(output.data, rel=1e-12, nan_ok=True)
    np.testing.assert_allclose(gradient, [p.grad for p in parameters], rtol=1e-12)
    return program


def leaves(*numbers):
    return [Value(number) for number in numbers]


# ---------------------------------------------------------------- what arrays share
def test_values_taken_from_lists_that_overlap_share_their_gradients():
    w, (x, i, j) = leaves(0.0, 0.1, 0.2, 0.3), leaves(0.5, 1.0, 0.0)
    h = [tanh(a * x) for a in w]
    y = 2 * take(h[0:3], i) + 3 * take(h[1:4], j)
    check(y, w, [x, i, j], [0.5, 1.0, 0.0], rows=60)


def test_a_dot_that_only_its_bias_makes_differ_by_row_stands_beside_others():
    w, x = leaves(*(0.3 * k + 0.1 for k in range(8))), leaves(0.5, -0.7)
    y = dot(w[:2], x, w[3]) + dot(w[2:4], x, w[0]) + dot(w[4:6], w[6:8], x[0])
    check(y, w, [x], [[0.5, -0.7]], rows=40)


def test_the_gradient_may_be_written_over_an_input():
    w, x = leaves(0.1, 0.4, 0.7), leaves(0.0, 0.2, 0.4)
    y = square(dot(w, x)) + total([sin(a) * b for a, b in zip(w, x, strict=True)])
    program = mg.compile(y, inputs=[x], parameters=w)
    X = np.random.default_rng(0).normal(size=(300, 3))
    expected = program.value_and_grad(X)[1]
    np.testing.assert_array_equal(program.value_and_grad(X, out=X[1])[1], expected)


# ---------------------------------------------------------------- calls like the one before
def test_a_call_like_the_one_before_is_checked_where_it_differs():
    w, x, label = leaves(0.1, 0.4, 0.7), leaves(0.0, 0.2, 0.4), Value(1.0)
    y = square(dot(w, x)) - take([sin(a * b) for a, b in zip(w, x, strict=True)], label)
    program = mg.compile(y, inputs=[x, label], parameters=w)
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(300, 3)), rng.integers(0, 3, 300)
    theta, g = rng.normal(size=3), np.empty(3)

    def call(*inputs, out=g):
        return program.value_and_grad(*inputs, parameters=theta, out=out)

    def same(found, *inputs):
        value, gradient = program.value_and_grad(*inputs, parameters=theta.copy())
        assert found[0] == value
        np.testing.assert_array_equal(found[1], gradient)

    for _ in range(3):
        same(call(X, labels), X, labels)
    for other in (X[::-1], np.asfortranarray(X), X.tolist(), X.astype(np.float32)):
        call(X, labels)
        same(call(other, labels), other, labels)
    for other in (labels.astype(float), labels[:, None].T[0], labels.astype(object)):
        call(X, labels)
        same(call(X, other), X, other)
    call(X, labels)
    same(call(X[:7], labels[:7]), X[:7], labels[:7])
    call(X, labels)
    same(call(X[0], labels), X[0], labels)  # shared by all rows
    for wrong, error in (
        (labels + 1, IndexError),
        (labels + 0.5, IndexError),
        (labels + 0j, TypeError),
        (labels[1:], ValueError),
        (np.stack([labels, labels], axis=1), ValueError),
    ):
        call(X, labels)
        with pytest.raises(error, match="input 1"):
            call(X, wrong)
    call(X, labels)
    with pytest.raises(ValueError, match="2 inputs"):
        call(X)
    with pytest.raises(mg.AnomalyError), mg.detect_anomaly():
        call(X * np.inf, labels)
    g[:] = 5.0
    theta *= 2.0  # the same arrays with other numbers
    X += 1.0
    same(call(X, labels), X, labels)
    expected = program.value_and_grad(X, labels, parameters=theta)[1]
    np.testing.assert_array_equal(call(X, labels, out=theta)[1], expected)


@pytest.mark.parametrize("rows", [1, 300])
def test_a_gradient_over_an_input_of_the_same_shape_as_before(rows):
    w, x = leaves(0.1, 0.4, 0.7), leaves(0.0, 0.2, 0.4)
    program = mg.compile(square(dot(w, x)) + sin(w[0] * x[1]), inputs=[x], parameters=w)
    memory, theta = np.random.default_rng(0).normal(size=(rows + 1, 3)), np.full(3, 0.3)
    out = memory[rows]
    for start in (0, 0, 1):  # the last lies over `out`
        X = memory[start : start + rows]
        expected = program.value_and_grad(X.copy(), parameters=theta)[1]
        found = program.value_and_grad(X, parameters=theta, out=out)[1]
        np.testing.assert_array_equal(found, expected)


def test_a_matrix_without_rows_is_one_row_each_time():
    x, w = [leaves(0.1, 0.2), leaves(0.3, 0.4), leaves(0.5, 0.6)], leaves(1.0, 2.0)
    program = mg.compile(total([sin(dot(w, row)) for row in x]), inputs=[x], parameters=w)
    X, theta, g = np.arange(6.0).reshape(3, 2), np.array([0.3, -0.2]), np.empty(2)
    found = [program.value_and_grad(X, parameters=theta, out=g)[0] for _ in range(3)]
    assert found == [found[0]] * 3
    assert found[0] == pytest.approx(np.sin(X @ theta).sum(), rel=1e-12)


def test_parameters_that_a_call_without_gradient_has_seen_may_be_overwritten():
    w, x = leaves(0.1, 0.4, 0.7), leaves(0.0, 0.2, 0.4)
    program = mg.compile(square(dot(w, x)) + sin(w[0] * x[1]), inputs=[x], parameters=w)
    X, g = np.random.default_rng(0).normal(size=(300, 3)), np.empty(3)
    theta = np.array([0.3, 0.2, 0.1])
    for _ in range(2):
        expected = program.value_and_grad(X, parameters=theta, out=g)[1].copy()
    g[:] = theta
    program(X, parameters=g)
    np.testing.assert_array_equal(program.value_and_grad(X, parameters=g, out=g)[1], expected)


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_arrays_that_were_given_another_shape_in_place():
    w, x = leaves(0.1, 0.4), leaves(0.0, 0.2)
    program = mg.compile(sin(dot(w, x)), inputs=[x], parameters=w)
    X, theta, g = np.ones((300, 2)), np.ones(2), np.empty(2)
    for array, what in ((theta, "parameters"), (g, "out")):
        for _ in range(2):
            program.value_and_grad(X, parameters=theta, out=g)
        array.shape = (2, 1)
        with pytest.raises(ValueError, match=what):
            program.value_and_grad(X, parameters=theta, out=g)
        array.shape = (2,)


def test_threads_call_again_with_arrays_of_their_own():
    w, x = leaves(0.1, 0.4, 0.7), leaves(0.0, 0.2, 0.4)
    program = mg.compile(square(dot(w, x)) + sin(w[0] * x[1]), inputs=[x], parameters=w)
    X, thetas = np.random.default_rng(0).normal(size=(300, 3)), np.eye(3)
    expected = [program.value_and_grad(X, parameters=theta)[1] for theta in thetas]
    wrong = []

    def work(theta, right):
        g = np.empty(3)
        for _ in range(200):
            program.value_and_grad(X, parameters=theta, out=g)
            if (g != right).any():
                wrong.append(g.copy())

    pairs = list(zip(thetas, expected, strict=True))
    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("rows", [1, 32])
def test_an_adjoint_that_waits_may_be_a_sum_that_waits(rows):
    """Terms of equal size go to scattered cells from one place behind all adjoints."""
    x, w = leaves(*[0.0] * 6), Value(0.5)
    h = [tanh(w * a) for a in x]
    s = [h[i] + h[j] for i, j in ((0, 1), (2, 0), (3, 4), (5, 1), (2, 2))]
    loss = total([where(s[-1] > 0, sin(q), 0.0) for q in s[:-1]])
    for leaf in x:
        leaf.data = 0.7
    mg.recompute(loss)
    check(loss, [w], [x], [[0.7] * 6], rows)
    y = [tanh(a) for a in x]
    pairs = zip((0, 3, 1, 3, 4, 0, 2), (1, 1, 4, 0, 2, 2, 3), strict=True)
    check(total([sin(MIDDLE(y[i], y[j])) for i, j in pairs]), x)


# ---------------------------------------------------------------- what is not reached
@pytest.mark.parametrize(
    "end",
    [lambda x: step(x - 1), detach, floor, sign, round, lambda x: x > 1.0],
    ids=["step", "detach", "floor", "sign", "round", "comparison"],
)
def test_an_infinite_slope_that_no_derivative_reaches_stays_out(end):
    a = leaves(4.0, 0.0)
    check(sqrt(a[0]) + end(sqrt(a[1])), a)
    b, z = Value(2.0), Value(0.0)
    check(b * sqrt(a[0]) + end(sqrt(b * z)), [b], [z], [0.0], rows=100)
    program = mg.compile(sqrt(a[0]) + end(sqrt(a[1])), inputs=[a], parameters=[])
    _, gradient = program.value_and_grad(np.tile([4.0, 0.0], (50, 1)), wrt="inputs")
    np.testing.assert_allclose(gradient, np.tile([0.25, 0.0], (50, 1)) / 50, rtol=1e-12)


def test_nor_does_one_that_is_several_steps_away():
    a = leaves(4.0, 0.0)
    check(sin(sqrt(a[0])) + sign(sin(sqrt(a[1]))), a)
    a, z, b = leaves(1.0, 2.0), leaves(0.1, 0.2), leaves(1000.0, 1000.0)
    check(tanh(dot(z, z)) + sign(tanh(dot([exp(x) for x in b], z))), z + b)
    check(maximum([a[0], a[1]]) + sign(maximum([sqrt(a[0] - 1), sqrt(a[1] - 2)])), a)


SQUARED_IF_POSITIVE = mg.operation(
    "squared_if_positive",
    lambda x: x * x if x > 0.0 else 0.0,
    lambda y, x: (mg.operations.only_if(x > 0.0, 2.0 * x),),
    array=lambda x: where(x > 0.0, x * x, 0.0),
)


def test_a_condition_of_its_own_beside_what_is_not_reached():
    a = leaves(-1.0, 2.0, 3.0)
    end, other, third = map(SQUARED_IF_POSITIVE, a)
    check(sqrt(end) + sign(other) + third, a)  # an infinite adjoint of `end`, which stays there


def test_members_that_only_fill_up_a_grid_may_be_outside_of_a_domain(form, monkeypatch):
    """Their nan belongs to nobody: the gradient is finite, and not computed node by node."""
    n = 30
    w = leaves(*(-1.0 if k % 3 == 1 else 1.0 for k in range(n)))
    h = [tanh(a) for a in w]
    roots = total([sqrt(v) for k, v in enumerate(h) if k % 3 != 1])
    if form == "arrays":
        monkeypatch.delattr(mg.Program, "_interpreted")
    check(roots + total([square(v) for v in h[1::3]]), w)
    live = [v for k, v in enumerate(h) if k % 3 != 1]
    check(total([sin(sqrt(v)) for v in live]) + total([square(v) for v in h[1::3] + live[:10]]), w)
    half = total([where(v > 0, sqrt(v), v) for k, v in enumerate(h) if k % 3 != 2])
    check(half + total([square(v) for v in h[2::3]]), w)


@pytest.mark.parametrize("rows", [1, 30])
def test_what_is_not_taken_gets_nothing_of_an_infinite_adjoint(rows):
    w, (x, i, j) = leaves(0.0, 0.25, 0.5), leaves(1.0, 0.0, 2.0)
    several = sqrt(take(w, i)) + take(w, j)  # two indices into one list, the same for all rows
    check(several, w, [i, j], [0.0, 2.0], rows)
    of_rows = [x * p for p in w]
    y = sqrt(take(of_rows, i)) + take(of_rows, j) + sqrt(take([of_rows[2], *of_rows[:2]], j))
    check(y, w, [x, i, j], [1.0, 0.0, 2.0], rows)


# ---------------------------------------------------------------- constants
def test_a_rule_may_reckon_with_truths():
    a, b = leaves(*(0.1 * i for i in range(100))), leaves(*[0.5] * 100)
    for row in (DISTANCE, NEGATIVE):
        check(total([row(x, y) for x, y in zip(a, b, strict=True)]), [*a, *b])


def test_the_negative_of_a_truth_has_a_sign():
    a, b = leaves(1.0, 2.0)
    for negated in (-(a > b), (a > b) * -1.0, -((a > b) * 1.0), -((a > b) + (b < a))):
        check(copysign(b, negated) + a, [a, b])


@pytest.mark.parametrize("rows", [1, 100])
def test_zeros_of_both_signs_are_two_constants(rows):
    x = Value(3.0)
    check(2 * copysign(x, 0.0) + copysign(3 * x, -0.0), [], [x], [3.0], rows)
    check(atan2(0.0 * x, 0.0) + 2 * atan2(0.0 * x, -0.0), [], [x], [3.0], rows)
    program = mg.compile([x / 0.0, 2 * x / -0.0], inputs=[x])
    np.testing.assert_array_equal(program(np.full(rows, 3.0)), [[np.inf, -np.inf]] * rows)


def test_division_by_a_constant_zero_is_infinite():
    a = Value(2.0)
    assert mg.compile(Value(2.0) / 0.0)() == np.inf
    program = mg.compile(tanh(a / 0.0), parameters=[a])
    value, gradient = program.value_and_grad()
    assert value == 1.0 and np.isnan(gradient[0])  # 0 * inf, as the chain rule has it
    tanh(a / 0.0).backward()
    assert np.isnan(a.grad)
    assert program.jvp(tangent=[1.0])[0] == 1.0


def test_division_by_the_smallest_number_is_no_product_with_an_infinite_one():
    z = Value(1e-320)
    assert mg.compile(z / 5e-324, inputs=[z])(np.full(300, 1e-320))[0] == 2024.0
    assert mg.compile(z / 5e-324, inputs=[z])(np.zeros(300))[0] == 0.0


# ---------------------------------------------------------------- names, sizes, what is passed
def test_a_label_may_be_one_that_numbering_would_give():
    w = [Value(0.1, label="w") for _ in range(4)]
    q = [Value(0.3, label="w_2") for _ in range(3)]
    x = leaves(1.0, 1.0, 1.0, 1.0)
    y = dot(w, x) + total([tanh(a) for a in w[:2]]) + total([exp(a) for a in w[2:]])
    program = check(y + total([sin(a) for a in q]), w + q, [x], [np.ones(4)])
    assert str(program) and program.textbook is not None


def test_the_largest_of_many_values_is_compiled_in_linear_time(form):
    n = 3_000
    xs = leaves(*(k / n for k in range(n)))
    y = maximum(xs)
    for _ in range(100):
        y = sin(y) * 1.5
    program = check(y, xs)
    if form == "lines":
        assert len(program.source) < 400 * n  # each of n partials does not repeat n terms


def test_none_is_no_number():
    a = Value(2.0)
    with pytest.raises(TypeError, match="parameters holds None"):
        mg.compile(a * a)(parameters=[None])
    with pytest.raises(TypeError, match="input 0 holds None"):
        mg.compile(a * a, inputs=[a])([1.0, None])


@pytest.mark.parametrize(
    ("make", "value", "slope"),
    [(lambda a: a * 3.0, 6.0, 3.0), (lambda a: a % 3.0, 2.0, 1.0), (lambda a: a, 2.0, 1.0)],
    ids=["product", "remainder", "leaf"],
)
def test_a_textbook_of_a_single_number(make, value, slope):
    a = Value(2.0)
    found, gradient = mg.compile(make(a), parameters=[a]).textbook(np.array([2.0]))
    assert found == value and gradient.tolist() == [slope]


def test_the_same_few_dots_over_and_over_again():
    model = MLP(2, [4, 1], "tanh", rng=random.Random(0))
    X = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] * 400
    loss = total([square(model(x)) for x in X])
    program = check(loss, model.parameters())
    assert len(program._compiled(False).layout.steps) < 20
    p, x, biases = leaves(0.1, 0.2), leaves(0.3, 0.4), leaves(*(0.001 * k for k in range(1500)))
    check(total([sin(dot(p, x, b)) for b in biases]), p + x + biases)


def test_an_out_in_several_pieces_is_refused_by_the_first_call_and_all_others():
    a, b = leaves(1.0, 2.0)
    program = mg.compile(a * b, parameters=[a, b])
    for _ in range(2):
        with pytest.raises(ValueError, match="contiguous"):
            program.value_and_grad(parameters=np.array([1.0, 2.0]), out=np.empty(4)[::2])
        program.value_and_grad(parameters=np.array([1.0, 2.0]))


def test_reciprocals_of_powers_of_two_are_numbers_of_32_bits_as_well():
    z = Value(0.0)
    program = mg.compile(z / 2.0**-140, inputs=[z], dtype="float32")
    assert program(np.full(300, 2.0**-145))[0] == 0.03125


def norm_slopes(y, *xs):
    return tuple(x / y for x in xs)


NORM = mg.operation("norm", lambda *xs: sum(x * x for x in xs) ** 0.5, norm_slopes)


@pytest.mark.parametrize("n", [3, 70])
def test_an_operation_of_your_own_on_many_numbers(n):
    w, x = leaves(*(0.1 * k + 0.1 for k in range(n))), Value(0.5)
    y = NORM(*(sin(a * x) for a in w)) + NORM(*(a + x for a in w))
    check(y, w, [x], [0.5], rows=40)


# ---------------------------------------------------------------- rows and branches not taken
def by_rows(output, inputs, rows, parameters=()):
    """The compiled gradients of some rows, by inputs and parameters, against the Values' own."""
    program = mg.compile(output, inputs=list(inputs), parameters=list(parameters))
    columns = [np.array(column, float) for column in zip(*rows, strict=True)]
    _, found = program.value_and_grad(*columns, wrt="inputs")
    _, by_parameters = program.value_and_grad(*columns)
    own, total_by_parameters = [], np.zeros(len(parameters))
    for row in rows:
        for leaf, number in zip(inputs, row, strict=True):
            leaf.data = float(number)
        mg.recompute(output)
        for leaf in (*inputs, *parameters):
            leaf.grad = 0.0
        output.backward()
        own.append([leaf.grad / len(rows) for leaf in inputs])
        total_by_parameters += [p.grad / len(rows) for p in parameters]
    found = np.stack(found if isinstance(found, list) else [found], axis=1)
    np.testing.assert_allclose(found, own, rtol=1e-12)
    np.testing.assert_allclose(by_parameters, total_by_parameters, rtol=1e-12)


def test_what_is_not_a_number_in_a_branch_not_taken():
    w, (c, x, y) = leaves(0.5, 0.25), leaves(1.0, 1.0, 2.0)
    rows = [[1.0, 1.0, 2.0], [0.0, np.nan, np.nan], [1.0, 0.5, 0.5]] * 20
    loss = where(c > 0, dot(w, [x, y]), 0.0) + where(c > 0, exp(x), 0.0)
    by_rows(loss, [c, x, y], rows, w)
    by_rows(where(c > 0, maximum([w[0], x, y]), 0.0), [c, x, y], rows, w)


def test_what_only_a_condition_or_a_constant_reads_is_not_reached():
    c, d, b, u = leaves(0.0, 1.0, 0.0, 0.5)
    t = sqrt(b)
    rows = [[0.0, 1.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.25]] * 30
    by_rows(where(c, t, 1.0) + floor(where(d, t, 1.0)) + 0.0 * u, [c, d, b, u], rows)
    by_rows(sin(u) * detach(sin(t)) + where(c, t, 1.0) + 0.0 * d, [c, d, b, u], rows)


def test_members_that_fill_up_a_grid_reach_nobody():
    p, q, x = leaves(1.0, 1.0, 0.0)
    e = exp(x)
    n, s = where(p > 0, 0.0, e), where(q > 0, 2.0, sqrt(e - 1.0))
    y = total([where(n, n, 1.0), where(e > -5.0, e, 1.0), where(1.0, s, 1.0)])
    by_rows(y, [x], [[number] for number in np.linspace(-2.0, 0.0, 50)], [p, q])


def test_a_total_of_many_cells_here_and_there():
    rng, w, x = random.Random(0), leaves(0.5, -0.25), leaves(1.5)
    values = [sin(x[0] * (0.01 * i)) * w[i % 2] for i in range(1_300)]
    some = [v for v in values if rng.random() < 0.8]
    check(total([*some, *(exp(v) for v in some[::3])]), w, x, [1.5])


def test_a_penalty_in_a_total_beside_the_loss():
    w, x = leaves(*(0.1 * i - 0.3 for i in range(9))), leaves(0.5, -1.5)
    loss = square(dot(w[:2], x) - w[2])
    check(total([*w, loss]), w, x, [0.5, -1.5])
    check(total([loss, *(v * v for v in w), loss, exp(w[3])]), w, x, [0.5, -1.5])


def test_an_infinite_constant_is_a_slope_like_others():
    c, x, z = leaves(-1.0, 2.0, 3.0)
    check(step(x * np.inf) + tanh(z * np.inf) + c, [c, x])


def test_threads_may_compile_the_lines_of_a_program_at_once(form):
    rng, values = random.Random(0), leaves(0.3, 0.3, 0.3)
    inputs = values[:]
    while len(values) < 3_000:
        a, b = rng.choice(values[-8:]), rng.choice(values)
        values.append(rng.choice([tanh(a + b), sin(a * b), a * 0.5 + b * 0.3]))
    if form == "arrays":
        return
    program, failed = mg.compile(values[-1], inputs=[inputs]), []

    def call(forward):
        try:
            program(np.ones((1, 3))) if forward else program.value_and_grad(np.ones((1, 3)))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=call, args=(i % 2,)) for i in range(8)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("exponent", [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0])
def test_powers_in_other_words_are_the_same_at_the_edges(form, exponent):
    edges = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e308, -1e308, 1e-160, 1e77]
    x = Value(1.0)
    with carried_out_as(form):
        program = mg.compile(x**exponent, inputs=[x])
        values = program(edges)
        slopes = [program.value_and_grad([edge], wrt="inputs")[1][0] for edge in edges]
    for edge, value, slope in zip(edges, values, slopes, strict=True):
        leaf = Value(edge)
        y = leaf**exponent
        y.backward()
        np.testing.assert_allclose([value, slope], [y.data, leaf.grad], rtol=1e-15, atol=1e-323)
        assert value != value or np.signbit(value) == np.signbit(y.data)


@pytest.mark.parametrize("scipy_is_installed", [True, False])
def test_special_functions_with_scipy_and_without(monkeypatch, scipy_is_installed):
    if not scipy_is_installed:
        monkeypatch.setitem(sys.modules, "scipy.special", None)
    for row in (mg.erf, mg.erfc):
        monkeypatch.delitem(vars(row), "on_arrays", raising=False)
    w, x = leaves(0.3, -0.6), leaves(0.7)
    check(mg.erf(w[0] * x[0]) * mg.erfc(w[1] * x[0]) + mg.gelu(w[0] * x[0]), w, x, [0.7])
    for row in (mg.erf, mg.erfc):
        vars(row).pop("on_arrays", None)
