"""What the compiler sees of adjoints: which are surely reached, which are others' (loans), and
which lines nobody reads. That gradients are right is for the tests of compiled programs to say.
"""

import math
import random
import re

import numpy as np
import pytest
from test_compiler_passes import laid_out

import micrograd_scratch as mg
from micrograd_scratch import Value, dot, exp, losses, sin, sqrt, take, tanh, total, where
from micrograd_scratch.compiler.reach import is_doubtful


def leaves(count, seed=0):
    rng = random.Random(seed)
    return [Value(rng.uniform(0.5, 1.5)) for _ in range(count)]


def doubtful(make):
    """Whether a function of five parameters and an index gives a doubtful program."""
    xs, index = leaves(5), Value(2.0)
    _, layout = laid_out(make(xs, index), [index], xs)
    return is_doubtful(layout)


# ---------------------------------------------------------------- reach
@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda xs, i: total(map(exp, xs)), False),
        (lambda xs, i: take(xs, i), False),  # times 1
        (lambda xs, i: -take(xs, i) * 3.0, False),
        (lambda xs, i: take([-x for x in xs], i), False),
        (lambda xs, i: take([sqrt(x) for x in xs], i), True),
        (lambda xs, i: take([x * x for x in xs], i), True),
        (lambda xs, i: where(xs[0] > i, sqrt(xs[1]), xs[2]), True),
        (lambda xs, i: where(xs[0] > i, xs[1], xs[2]), False),
        # reached without a condition as well
        (lambda xs, i: (lambda ys: take(ys, i) + total(ys))([sqrt(x) for x in xs]), False),
        (lambda xs, i: losses.cross_entropy([x * xs[0] for x in xs], i), False),
        # the square root is in every value of the list, so in the one that is taken
        (lambda xs, i: (lambda s: take([x - s for x in xs], i))(sqrt(xs[0])), False),
        (lambda xs, i: (lambda s: take([x - s for x in xs[1:]] + xs[:1], i))(sqrt(xs[0])), True),
    ],
)
def test_a_program_is_doubtful_if_a_zero_may_meet_infinity(make, expected):
    assert doubtful(make) == expected


def test_what_is_not_reached_stays_clean_beside_infinite_slopes():
    xs, index = leaves(5), Value(0.0)
    program = mg.compile(take([sqrt(x) for x in xs], index), inputs=[index], parameters=xs)
    theta = np.array([0.0, 1.0, 4.0, 0.0, 9.0])
    _, g = program.value_and_grad([2.0, 1.0], parameters=theta)
    np.testing.assert_array_equal(g, [0.0, 0.25, 0.125, 0.0, 0.0])


def test_a_cross_entropy_that_overflowed_is_not_interpreted(monkeypatch):
    """Training that diverges should at least fail fast: node by node is 1,000 times slower."""
    xs, index = leaves(5), Value(0.0)
    loss = losses.cross_entropy([x * xs[0] for x in xs], index)
    program = mg.compile(loss, inputs=[index], parameters=xs)
    monkeypatch.setattr(program, "_interpreted", None)
    _, g = program.value_and_grad(np.zeros(300), parameters=np.full(5, np.nan))
    assert np.isnan(g).all()


# ---------------------------------------------------------------- loans and what nobody reads
def backward_of(output, parameters):
    source = mg.compile(output, parameters=parameters)._compiled(False).source
    return source.partition("def backward")[2]


def test_equal_adjoints_are_not_copied():
    a, b = leaves(200), leaves(200, seed=1)
    sums = [sin(x) + exp(y) for x, y in zip(a, b, strict=True)]
    text = backward_of(total(sums), [*a, *b])
    assert "copyto(" not in text and "add(" not in text


def test_a_lent_adjoint_is_added_to_in_a_place_of_its_own():
    a = leaves(200)
    h = [exp(x) for x in a]
    twice = [x + sin(x) for x in h]
    program = mg.compile(total(twice), parameters=a)
    text = program._compiled(False).source.partition("def backward")[2]
    assert "copyto(" not in text and text.count("add(") == 1
    theta = np.array([x.data for x in a])
    slopes = np.exp(theta) * (1.0 + np.cos(np.exp(theta)))
    np.testing.assert_allclose(program.value_and_grad(parameters=theta)[1], slopes, rtol=1e-12)


@pytest.mark.parametrize(
    "function, overwritten",  # multiplications that write over the adjoint that they read
    [
        (lambda x: tanh(sin(exp(x))), 2),
        (lambda x: sin(x) * tanh(x), 1),  # the other operand wants it, too
        (lambda x: sin(x) + tanh(sin(x)), 0),  # both operands of + read one adjoint
    ],
)
def test_an_adjoint_is_written_over_the_one_it_is_computed_from(function, overwritten):
    rng = np.random.default_rng(0)
    X, x, weights = rng.normal(size=(5, 40)), [Value(0.0) for _ in range(40)], leaves(40)
    output = total([function(v) * w for w, v in zip(weights, x, strict=True)])
    program = mg.compile(output, inputs=[x], parameters=weights)
    _, g = program.value_and_grad(X, wrt="inputs")
    source = program._compiled(True).source
    place = dict(re.findall(r"(\w+) = (gv\[\S+)", source))
    calls = re.findall(r"multiply\((\w+), \w+, (\w+)\)", source.partition("def backward")[2])
    assert sum(a in place and place[a] == place.get(b) for a, b in calls) == overwritten
    for numbers, found in zip(X.tolist(), g, strict=True):
        values = [Value(number) for number in numbers]
        y = total([function(v) * w for w, v in zip(weights, values, strict=True)])
        expected = [d.data / 5 for d in mg.grad(y, values)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_partials_by_constants_are_left_out():
    a = leaves(200)
    text = backward_of(total([exp(x) / 3.0 for x in a]), a)
    assert "negative(" not in text and "divide(" not in text


def test_a_dot_with_itself_has_one_product():
    a = leaves(200)
    text = backward_of(dot(a, a), a)
    assert text.count("multiply(") == 2 and "add(" not in text  # by two, and by the adjoint
    program = mg.compile(dot(a, a), parameters=a)
    theta = np.array([x.data for x in a])
    value, g = program.value_and_grad(parameters=theta)
    np.testing.assert_allclose(g, 2.0 * theta, rtol=1e-15)
    assert math.isclose(value, theta @ theta, rel_tol=1e-13)
