"""Lines of Python on arrays of rows: what they look like, and when programs run so.

That their answers are right is also for the tests of every form to say: test_compiler.py and others
run all of theirs on "vectors".
"""

import numpy as np
import pytest
from engines import carried_out_as

import micrograd_scratch as mg
from micrograd_scratch import (
    MLP,
    Value,
    erf,
    log,
    losses,
    minimum,
    sin,
    sqrt,
    square,
    take,
    tanh,
    total,
    where,
)
from micrograd_scratch.compiler import program as program_module
from micrograd_scratch.compiler.execution import Arrays, Lines, Vectors


def chain(turns, step):
    """A chain that begins with an input, and its parameter."""
    r, x = Value(2.9), Value(0.3)
    y = x
    for _ in range(turns):
        y = step(r, y)
    return mg.compile(y, inputs=[x], parameters=[r])


def of_rows(program, X, theta):
    """Mean and mean gradient of single rows, which run as lines on floats."""
    with carried_out_as("lines"):
        found = [program.value_and_grad(row[None], parameters=theta) for row in X]
    return np.mean([value for value, _ in found]), np.mean([g for _, g in found], axis=0)


@pytest.fixture
def vectors():
    with carried_out_as("vectors"):
        yield


@pytest.mark.parametrize(
    "step",
    [
        lambda r, y: r * y * (1.0 - y),
        lambda r, y: y + 0.01 * sin(r * y),
        lambda r, y: where(y > 0.5, r - y, sin(r + y)),
    ],
)
def test_a_chain_over_many_rows_needs_no_steps(step, monkeypatch):
    monkeypatch.setattr(program_module, "schedule", None)  # steps would take a millisecond each
    program = chain(3_000, step)
    X, theta = np.random.default_rng(0).uniform(0.2, 0.4, 64), np.array([2.5])
    value, g = program.value_and_grad(X, parameters=theta)
    assert type(program._execution(64, False)) is Vectors
    expected = of_rows(program, X, theta)
    assert value == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(g, expected[1], rtol=1e-9)
    single = [program(x, parameters=theta) for x in X.tolist()]
    np.testing.assert_allclose(program(X, parameters=theta), single, rtol=1e-9)


def test_what_runs_how():
    program = chain(1_000, lambda r, y: sin(r * y))
    assert type(program._execution(1, False)) is Lines
    model, x, label = MLP(8, [16, 4]), [Value(0.0) for _ in range(8)], Value(0.0)
    loss = losses.cross_entropy(model(x), label)
    program = mg.compile(loss, inputs=[x, label], parameters=model.parameters())
    assert type(program._execution(256, True)) is Arrays


def lorenz(steps):
    """Three coordinates that are always read together: as many gathers as steps."""
    x, p = [Value(1.0), Value(1.0), Value(1.0)], [Value(10.0), Value(28.0), Value(8.0 / 3.0)]
    a, b, c = x
    for _ in range(steps):
        da, db, dc = p[0] * (b - a), a * (p[1] - c) - b, a * b - p[2] * c
        a, b, c = a + 0.01 * da, b + 0.01 * db, c + 0.01 * dc
    return mg.compile(a * a + b * b + c * c, inputs=[x], parameters=p)


def test_few_numbers_read_from_many_steps_run_as_lines():
    program = lorenz(30)
    assert [program._way(rows) for rows in (1, 16, 64, 1000)] == [Lines, Lines, Vectors, Vectors]
    model, x = MLP(2, [4, 4, 1], activation="tanh"), [Value(0.0), Value(0.0)]
    program = mg.compile(model(x), inputs=[x], parameters=model.parameters())
    assert [program._way(rows) for rows in (64, 1000)] == [Arrays, Arrays]


def test_the_source_changes_no_number_in_place_and_does_not_branch(vectors):
    program = chain(100, lambda r, y: where(y > 0.5, r - y, r * sin(r + y)))
    source = program._execution(8, False).source
    assert "+=" not in source and "-=" not in source
    assert " if " not in source and "if " not in source and "where(" in source


def test_truths_are_numbers(vectors):
    x, a = Value(0.3), Value(1.0)
    count = (x > 0.0) + (x < 1.0) + (x == 0.5)
    program = mg.compile(a * count - (x > 0.2), inputs=[x], parameters=[a])
    X = np.array([-1.0, 0.3, 0.5, 2.0])
    np.testing.assert_array_equal(program(X), [1.0, 1.0, 2.0, 0.0])
    value, g = program.value_and_grad(X)
    assert value == 1.0 and g.tolist() == [1.75]


def test_an_index_out_of_range_names_the_input(vectors):
    x, index, w = Value(0.3), Value(0.0, label="label"), [Value(1.0), Value(2.0)]
    program = mg.compile(x * take(w, index), inputs=[x, index], parameters=w)
    assert program(np.ones(3), [0, 1, 1]).tolist() == [1.0, 2.0, 2.0]
    assert program.value_and_grad(np.ones(3), [0, 1, 1])[1].tolist() == pytest.approx(
        [1 / 3, 2 / 3]
    )
    for wrong in (2, -1, 0.5):
        with pytest.raises(IndexError, match="label"):
            program.value_and_grad(np.ones(3), [0, wrong, 1])


def test_a_branch_not_taken_may_be_infinite(vectors):
    x, a = Value(0.3), Value(2.0)
    y = where(x > 0.0, log(a * x), a * x)
    program = mg.compile(y, inputs=[x], parameters=[a])
    X = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(program(X), [-2.0, 0.0, np.log(4.0)])
    value, g = program.value_and_grad(X)
    assert value == pytest.approx((np.log(4.0) - 2.0) / 3)
    np.testing.assert_allclose(g, [(-1.0 + 0.0 + 0.5) / 3])
    np.testing.assert_allclose(program.value_and_grad(X, wrt="inputs")[1], [2 / 3, 2 / 3, 1 / 6])


def test_where_pythons_floats_raise(vectors):
    x, a = Value(0.3), Value(0.0)
    program = mg.compile(x + 1.0 / a, inputs=[x], parameters=[a])
    assert program(np.ones(3)).tolist() == [np.inf] * 3
    value, g = program.value_and_grad(np.ones(3))
    assert value == np.inf and g.tolist() == [-np.inf]


def test_numbers_have_64_bits(vectors):
    a, x = Value(float(np.float32(0.1))), Value(1.0)
    y = minimum([x, a / 3.0, erf(x) + 5.0]) * sin(tanh(x) * a)
    program = mg.compile(y, inputs=[x], parameters=[a], dtype="float32")
    g = program.value_and_grad(np.ones(200, "f4"))[1]
    y.backward()
    np.testing.assert_allclose(g, [a.grad], rtol=1e-5)
    assert g.dtype == np.float32 and program(np.ones(2, "f4")).dtype == np.float32


@pytest.mark.parametrize("rows", [1, 50])
def test_the_negative_of_a_truth_is_a_number(vectors, rows):
    q, x = Value(0.7), Value(0.6)
    for y in (-(x > 0.5) / q, -(x > 0.5) * q, q * -(x > 0.5) * 2.0, 1.0 - -(x > 0.5) - q):
        program = mg.compile(y, inputs=[x], parameters=[q])
        q.grad = 0.0
        y.backward()
        value, g = program.value_and_grad(np.full(rows, 0.6))
        assert value == pytest.approx(y.data) and g == pytest.approx([q.grad])


def test_a_singularity_in_many_rows_is_not_run_node_by_node(monkeypatch):
    a, x = Value(1.0), Value(0.3)
    y = x
    for _ in range(60):
        y = where(y > 0, sqrt(y), a * y)
    program = mg.compile(y, inputs=[x], parameters=[a])
    monkeypatch.setattr(program, "_interpreted", None)
    X = np.random.default_rng(0).normal(size=300)
    assert type(program._execution(300, False)) is Vectors
    value, g = program.value_and_grad(X)
    expected = np.where(X > 0, np.abs(X) ** 0.5**60, X)
    assert value == pytest.approx(expected.mean()) and np.isfinite(g).all()


def test_outputs_that_no_input_changes(vectors):
    x, a = [Value(0.3), Value(0.1)], Value(2.0)
    program = mg.compile([a * 3.0, x[1], total(x)], inputs=[x], parameters=[a])
    X = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert program(X).tolist() == [[6.0, 2.0, 3.0], [6.0, 4.0, 7.0]]
    penalty = mg.compile(square(a) + 0.0 * x[0], inputs=[x], parameters=[a])
    assert penalty.value_and_grad(X)[0] == 4.0 and penalty.value_and_grad(X)[1].tolist() == [4.0]
    by_input = penalty.value_and_grad(X, wrt="inputs")[1]
    assert by_input.shape == (2, 2) and not by_input.any()
