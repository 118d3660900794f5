"""Chains that repeat: found as loops, written as loops, equal to the eager engine to the bit."""

import random

import numpy as np
import pytest
from engines import carried_out_as

import micrograd_scratch as mg
from micrograd_scratch import Value, cos, detach, maximum, sin, tanh, total, where
from micrograd_scratch.compiler import emit_scalars, interpret, line_places, loops
from micrograd_scratch.compiler.loops import Stretch, stretches


def compiled(output, inputs=(), parameters=None):
    with carried_out_as("lines"):
        program = mg.compile(output, inputs=[list(inputs)] if inputs else None,
                             parameters=parameters)  # fmt: skip
        program.source  # noqa: B018  chooses the lines while these are asked for
    return program


def eager(output, leaves):
    for leaf in leaves:
        leaf.grad = 0.0
    output.backward()
    return [leaf.grad for leaf in leaves]


def assert_equal_to_eager(output):
    program = compiled(output)
    value, gradient = program.value_and_grad()
    assert value == program() == output.data
    assert gradient.tolist() == eager(output, program.parameters)
    return program.source


def found(output):
    return [s for s in stretches(mg.compile(output).graph) if s.turns > 1]


def logistic(turns):
    r, x = Value(2.9), Value(0.3)
    for _ in range(turns):
        x = r * x * (1.0 - x)
    return x


def test_the_source_of_a_repeating_chain_is_a_loop(monkeypatch):
    monkeypatch.setattr(loops, "BODY", 1)
    source = assert_equal_to_eager(logistic(100))
    assert source.splitlines()[16:] == [
        "def run(p, x):",
        "    p0, p1, = p",
        "    v0 = p0 * p1",
        "    v1 = 1.0 - p1",
        "    v2 = v0 * v1",
        "    v3 = p0 * v2",
        "    v4 = 1.0 - v2",
        "    v5 = v3 * v4",
        "    w5 = v5",
        "    saved6 = []",
        "    for _ in range(98):",
        "        v6 = p0 * w5",
        "        v7 = 1.0 - w5",
        "        v8 = v6 * v7",
        "        saved6.append((w5, v6, v7))",
        "        w5 = v8",
        "    y = v8",
        "    g0 = 0.0",
        "    d299 = 1.0",
        "    e5 = d299",
        "    for w5, v6, v7 in reversed(saved6):",
        "        d8 = e5",
        "        e5 = -d8 * v6",
        "        d6 = d8 * v7",
        "        g0 += d6 * w5",
        "        e5 += d6 * p0",
        "    d5 = e5",
        "    d2 = -d5 * v3",
        "    d3 = d5 * v4",
        "    g0 += d3 * v2",
        "    d2 += d3 * p0",
        "    g1 = -d2 * v0",
        "    d0 = d2 * v1",
        "    g0 += d0 * p1",
        "    g1 += d0 * p0",
        "    return y, [g0, g1]",
    ]


def test_loops_and_what_is_between_them():
    assert stretches(mg.compile(logistic(5)).graph) == [Stretch(0, 15, 15)]  # too short for a loop
    whole = stretches(mg.compile(logistic(1000)).graph)
    assert [s.turns > 1 for s in whole] == [False, True, False]
    assert [s.start for s in whole[1:]] == [s.stop for s in whole[:-1]]
    assert whole[-1].stop == 3000


def test_source_and_work_do_not_grow_with_the_chain():
    short, long = compiled(logistic(1000)).source, compiled(logistic(4000)).source
    assert abs(len(short.splitlines()) - len(long.splitlines())) < 20


def test_fibonacci_looks_two_turns_back(monkeypatch):
    monkeypatch.setattr(loops, "BODY", 1)
    a, b = Value(1.0), Value(1.0)
    for _ in range(90):
        a, b = b, a + b
    source = assert_equal_to_eager(b)
    assert [s.length for s in found(b)] == [2]  # as many periods as operands reach back
    assert "        v3 = w1 + w2\n        v4 = w2 + v3\n" in source


def test_a_period_of_several_operations():
    x, c = Value(0.3), Value(1.1)
    for _ in range(50):
        x = sin(x) * c
        x = cos(x) + c
    assert_equal_to_eager(x)
    assert found(x)[0].length % 4 == 0


def test_interleaved_recurrences():
    x, v, h = Value(1.0), Value(0.0), Value(0.01)
    for _ in range(100):
        v = v - h * x
        x = x + h * v
    assert_equal_to_eager(x)
    (loop,) = found(x)
    assert loop.length == 8


def test_leaves_and_numbers_of_their_own_for_every_turn():
    rng = random.Random(0)
    x, inputs = Value(0.1), [Value(rng.gauss(0.0, 1.0)) for _ in range(90)]
    w = Value(0.4)
    for entering in inputs:
        x = tanh(w * x + entering) * rng.random()
    source = assert_equal_to_eager(x)
    assert "p[i" in source and "table0" in source


def test_a_second_loop_reads_the_first_backwards():
    x, c, states = Value(0.3), Value(0.9), []
    for _ in range(100):
        x = sin(x * c)
        states.append(x)
    y = x
    for state in reversed(states):
        y = y * c + state
    source = assert_equal_to_eager(y)
    assert len(found(y)) == 2 and "v[i0]" in source


def test_the_gradient_of_a_chain_is_a_chain():
    x = Value(0.3)
    y = x
    for _ in range(60):
        y = sin(y) * 1.1
    (slope,) = mg.grad(y, [x])
    assert_equal_to_eager(slope)
    assert found(slope)


def test_conditions_in_a_loop():
    x, c = Value(0.3), Value(1.3)
    for _ in range(60):
        x = where(x > 1.0, x - c, detach(x) * c)
    assert_equal_to_eager(x)
    assert found(x)


def test_a_number_that_every_turn_leaves_for_later():
    w, s, costs = Value(0.5), Value(0.1), []
    for _ in range(100):
        s = sin(w * s + 1.0)
        costs.append(s * s)
    assert_equal_to_eager(total(costs) + s)
    assert_equal_to_eager(sum(costs))


def test_no_loop_where_nothing_repeats(monkeypatch):
    rng, x, c = random.Random(1), Value(0.5), Value(0.9)
    for _ in range(400):
        x = rng.choice((sin, cos, lambda x: x * c, lambda x: x + c, lambda x: c - x))(x)
    assert not found(x)
    assert "part_0" not in assert_equal_to_eager(x)
    monkeypatch.setattr(line_places, "SINGLE", 100)
    source = assert_equal_to_eager(x)
    assert "part_1" in source and "yield" in source


def test_signs_cancel_and_sums_subtract():
    """Exact, and an operation less for each: 4 % of a chain of sines, sums and differences."""
    a, b, x = Value(0.3), Value(0.7), Value(0.5)
    source = assert_equal_to_eager((a - cos(a - x * b)) * (b - cos(x)) / -cos(b))
    assert "(-" not in source and "+= -" not in source and "+ -" not in source
    assert " -= " in source


# what a turn does to (a, b), two numbers at hand, with the parameter c
KINDS = (
    lambda a, b, c: a * b,
    lambda a, b, c: a + b,
    lambda a, b, c: b - a,
    lambda a, b, c: sin(a),
    lambda a, b, c: tanh(a * b),
    lambda a, b, c: where(a > b, a * 0.5, b),
    lambda a, b, c: maximum(a, b),
    lambda a, b, c: mg.dot([a, c, a], [b, a, c]),
    lambda a, b, c: where(a > 0.0, a, detach(a)) * b,
    lambda a, b, c: mg.take([a, c, b], 1.0 * (b.data > 0)),
    lambda a, b, c: mg.sigmoid(a) / (2.0 + b * b),
    lambda a, b, c: total([a, c, a]),
)


def recurrence(rng):
    """A recurrence at random: several states, memory, leaves by the turn, results by the turn."""
    turns, states, memory = rng.randint(3, 30), rng.randint(1, 3), rng.randint(1, 4)
    parameters = [Value(rng.uniform(-1.0, 1.0)) for _ in range(3)]
    entering = [Value(rng.uniform(-1.0, 1.0)) for _ in range(2 * turns)]
    recipe = [(rng.choice(KINDS), rng.random(), rng.random()) for _ in range(rng.randint(1, 6))]
    begin = [*parameters, sin(parameters[0]), Value(0.3)]
    history = [[rng.choice(begin) for _ in range(states)] for _ in range(memory)]
    results = []
    for turn in range(turns):
        at_hand = [*parameters, *history[-1], *history[-memory], *entering[turn::turns]]
        at_hand += [history[-7][0]] if turn > 8 else []
        made = []
        for kind, i, j in recipe:
            a, b = (pool[int(k * len(pool))] for pool, k in (((made + at_hand), i), (at_hand, j)))
            new = kind(a, b, parameters[1])
            made.append(sin(new) if abs(new.data) > 4.0 else new)
        history.append([made[-1 - i % len(made)] for i in range(states)])
        results.append(history[-1][0] * history[-1][-1])
    output = history[-1][0] + rng.choice((sum, total))(results)
    if rng.random() < 0.5:  # a second loop over what the first has left
        for state in rng.choice((history, history[::-1])):
            output = sin(output * parameters[2] + state[0])
    return output, entering[:turns], parameters + entering[turns:]


@pytest.mark.parametrize("seed", range(120))
def test_recurrences_at_random(seed, monkeypatch):
    rng = random.Random(seed)
    for module, name, choices in (
        (loops, "SAVED", (1, 8, 64)), (loops, "BODY", (1, 8)), (loops, "MOST", (6, 400)),
        (line_places, "LINES", (3, 10, 40, 200)), (line_places, "UNPACKED", (0, 2, 64)),
        (emit_scalars, "SIZE", (0, 12)), (line_places, "SINGLE", (0, 100, 2_000)),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, rng.choice(choices))
    output, inputs, parameters = recurrence(rng)
    program = compiled(output, inputs, parameters)
    monkeypatch.delattr(interpret, "adjoints")  # what is tested are the lines
    x = np.array([leaf.data for leaf in inputs])
    expected = eager(output, [*parameters, *inputs])
    with carried_out_as("lines"):
        value, gradient = program.value_and_grad(x)
        again, by_inputs = program.value_and_grad(x, wrt="inputs")
        assert value == again == program(x) == output.data
    np.testing.assert_allclose([*gradient, *by_inputs], expected, rtol=1e-12,
                               atol=1e-13 * np.abs(expected).max())  # fmt: skip
