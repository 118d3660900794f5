"""Random graphs, compiled: both engines, every row of the table, single values and rows.

Hypothesis draws programs as in test_random_graphs.py: leaves, then steps that apply a row to
earlier nodes, operands squashed into the row's domain, nodes shared again and again. What is drawn
here besides: several strands of the same steps (so that groups and grids form), tuples of unequal
length, and which leaves are inputs, parameters or plain numbers.
"""

import math
import random

import numpy as np
import pytest
from engines import ENGINES, Model, assert_agree, check, flat
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_models import irregular

import micrograd_scratch as mg
from micrograd_scratch import Value, functions, operations
from micrograd_scratch.operations import Operation

FORMS = ("arrays", "lines", "vectors")
ROWS = {
    name: row
    for module in (operations, functions)
    for name, row in vars(module).items()
    if isinstance(row, Operation) and row.__module__ == module.__name__
}
WEIGHTS = (1.7, -0.6, 0.45)  # of the results: none is 1


# ---------------------------------------------------------------- every row of the table
@st.composite
def programs(draw, row):
    """(leaf numbers, steps): step (row, operands) appends a node; operands count from the end."""
    numbers = st.floats(-2.0, 2.0).map(lambda x: math.copysign(max(abs(x), 0.01), x))
    names = [row, *draw(st.lists(st.sampled_from(list(ROWS)), min_size=1, max_size=5)), row]
    steps = []
    for name in names:
        count = ROWS[name].arity or draw(st.integers(2, 5))
        steps.append((name, draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))))
    return draw(st.lists(numbers, min_size=2, max_size=4)), steps


def applied(name, operands):
    """The row of that name, its operands squashed into its domain."""
    row = ROWS[name]
    domain = row.domain
    pairs = domain if isinstance(domain[0], tuple) else (domain,) * len(operands)
    xs = [
        (low + high) / 2 + (high - low) / 2 * mg.softsign(x)
        for x, (low, high) in zip(operands, pairs, strict=True)
    ]
    if name == "take_of":
        xs[0] = mg.floor(mg.clip(1 + xs[0], 0, len(xs) - 2))
    if name == "where":
        xs[0] = xs[0] > 0.3
    if name == "constant_power":
        xs[1] = mg.detach(xs[1])  # its exponent is a number
    return row(*xs)


def weighed(program, leaves):
    """A weighted sum of three nodes of the program, which share nearly everything."""
    nodes = list(leaves)
    for name, back in program[1]:
        fresh = applied(name, [nodes[-1 - min(b, len(nodes) - 1)] for b in back])
        nodes.append(fresh)
        if len(nodes) % 3 == 0:
            nodes.append(fresh * nodes[0] + fresh * 0.3 - nodes[1] * fresh)
    return mg.dot(WEIGHTS, [nodes[-1], nodes[-2] * nodes[0], nodes[len(nodes) // 2] + nodes[1]])


def check_every_engine(program):
    def build(*leaves):
        return weighed(program, leaves)

    expected = ENGINES["eager"](build, program[0])
    for engine, answer in ENGINES.items():
        got = answer(build, program[0])
        assert_agree(got[0], expected[0], what=f"{engine}: value")
        assert_agree(got[1], expected[1], what=f"{engine}: gradient")


@settings(max_examples=25)
@given(st.sampled_from(list(ROWS)).flatmap(programs))
def test_every_engine_agrees(program):
    check_every_engine(program)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_every_engine_agrees_on_graphs_with_every_row(name):
    settings(max_examples=15)(given(programs(name))(check_every_engine))()


# ---------------------------------------------------------------- strands of equal steps
# Of two nodes p and q, two equally long lists of nodes s and t, and the weights w.
KINDS = [
    lambda p, q, s, t, w: mg.dot(w[: len(s)], t[: len(w)]),
    lambda p, q, s, t, w: mg.dot(w[: len(s)], t[: len(w)], p),
    lambda p, q, s, t, w: mg.dot(s, t),
    lambda p, q, s, t, w: mg.tanh(mg.total(s)),
    lambda p, q, s, t, w: mg.maximum(s) * q,
    lambda p, q, s, t, w: mg.tanh(mg.minimum(s) + p),
    lambda p, q, s, t, w: mg.take(t, (p > 0) * (len(t) - 1)),
    lambda p, q, s, t, w: mg.where(p > q, mg.sqrt(abs(p)), q * w[0]),
    lambda p, q, s, t, w: mg.where(p > 0, mg.log(p), mg.sin(q)),
    lambda p, q, s, t, w: sum(a * b for a, b in zip(s, t, strict=True)),
    lambda p, q, s, t, w: sum(s) + p * 0.5,
    lambda p, q, s, t, w: mg.softmax(s)[-1],
    lambda p, q, s, t, w: mg.logsumexp(s) - mg.softplus(p),
    lambda p, q, s, t, w: mg.softsign(p) / (1 + q * q),
    lambda p, q, s, t, w: mg.sigmoid(p) ** 2 - q,
]


def strand(steps, x, w):
    """A node made from the leaves x and the weights w by drawn steps: few kinds, many members."""
    nodes = [*x, *w]
    for kind, a, b, n in steps:
        s, t = ([nodes[(first + i) % len(nodes)] for i in range(n)] for first in (a, b))
        nodes.append(mg.softsign(KINDS[kind](s[0], t[0], s, t, w)))
    return nodes[-1] + 0.3 * nodes[len(nodes) // 2]


steps_of_strands = st.lists(
    st.tuples(
        st.integers(0, len(KINDS) - 1), st.integers(0, 30), st.integers(0, 30), st.integers(1, 5)
    ),
    min_size=2,
    max_size=9,
)
roles = st.lists(st.sampled_from(["input", "parameter", "number"]), min_size=4, max_size=4)


def strands(steps, roles, lengths, seed):
    """The same steps on several samples; strand i stops after lengths[i] of them."""
    rng = random.Random(seed)
    w = [Value(rng.gauss(0, 1), label=f"w[{i}]") for i in range(3)]
    x = [
        [Value(round(rng.gauss(0, 1), 1) if seed % 2 else rng.gauss(0, 1)) for _ in range(3)]
        for _ in range(3)
    ]
    made = [strand(steps[:length], xi, w) for xi, length in zip(x, lengths, strict=True)]
    groups = {"w": w, "x0": x[0], "x1": x[1], "x2": x[2]}
    inputs = [g for g, role in zip(groups.values(), roles, strict=True) if role == "input"]
    parameters = {
        name: g
        for (name, g), role in zip(groups.items(), roles, strict=True)
        if role == "parameter"
    }
    return Model(
        mg.total([m * (i + 0.7) for i, m in enumerate(made)]),
        {"all": flat(list(parameters.values()))},
        inputs,
        lambda rng, rows: [np.round(rng.normal(size=(rows, 3)), seed % 2 + 1) for _ in inputs],
    )


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40)
@given(
    steps_of_strands,
    roles,
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.integers(0, 9),
    st.integers(1, 4),
)
def test_strands(form, steps, roles, lengths, seed, rows):
    check(strands(steps, roles, lengths, seed), rows, form=form)


@settings(max_examples=40)
@given(steps_of_strands, roles, st.integers(0, 9))
def test_strands_in_single_precision(steps, roles, seed):
    model = strands(steps[:4], roles, [9, 9, 9], seed)
    check(model, 3, "float32", "arrays")


# ---------------------------------------------------------------- tuples of every make
@st.composite
def tuples_of_cells(draw):
    """Lists of (left, right, bias) positions among few cells: windows, strides, repeats, chance."""
    dots = []
    for _ in range(draw(st.integers(1, 8))):
        n = draw(st.integers(1, 5))
        sides = []
        for _ in range(2):
            start, stride = draw(st.integers(0, 11)), draw(st.sampled_from([0, 1, 1, 1, 2, 3, -1]))
            chance = draw(st.booleans()) and draw(st.booleans())
            if chance:
                sides.append(draw(st.lists(st.integers(0, 11), min_size=n, max_size=n)))
            else:
                sides.append([(start + i * stride) % 12 for i in range(n)])
        shifts = draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
        bias = draw(st.sampled_from([None, 0, 7]))
        for shift in shifts:  # the same tuple slid along
            dots.append(([(i + shift) % 12 for i in sides[0]], sides[1], bias))
    return dots


@settings(max_examples=50)
@given(
    tuples_of_cells(),
    st.sampled_from(["pp", "pi", "ip", "ii", "pc", "ci", "cc"]),
    st.sampled_from(["dot", "sum", "product", "total", "max", "take"]),
)
def test_dots_and_folds_of_any_tuples(dots, spaces, how):
    rng = random.Random(len(dots))
    leaves_a, leaves_b = ([Value(rng.gauss(0, 1)) for _ in range(12)] for _ in "ab")
    a, b = (
        [mg.tanh(x * 0.9) for x in leaves] if space == "c" else leaves  # p, i or computed
        for space, leaves in zip(spaces, (leaves_a, leaves_b), strict=True)
    )
    made = []
    for left, right, bias in dots:
        xs, ys = [a[i] for i in left], [b[i] for i in right]
        start = None if bias is None else a[bias]
        if how == "dot":
            made.append(mg.dot(xs, ys, start))
        elif how == "sum":
            terms = [x * y if i % 2 else y * x for i, (x, y) in enumerate(zip(xs, ys, strict=True))]
            made.append(sum(terms) if start is None else sum(terms, start))
        elif how == "product":
            made.append(xs[0] * ys[-1] - xs[-1] / (2 + abs(ys[0])))
        elif how == "total":
            made.append(mg.total([*xs, *ys]))
        elif how == "max":
            made.append(mg.maximum(xs) - mg.minimum(ys))
        else:
            index = mg.floor(mg.clip(2 * ys[0], 0, len(xs) - 1))
            made.append(mg.take(xs, index) * mg.take(ys, len(ys) - 1 - index))
    loss = mg.total([mg.tanh(m) * (0.3 + 0.1 * i) for i, m in enumerate(made)])
    fed = [
        leaves for space, leaves in zip(spaces, (leaves_a, leaves_b), strict=True) if space == "i"
    ]
    parameters = [*leaves_a, *leaves_b] if not fed else [leaves_a, leaves_b][spaces[0] == "i"]
    parameters = [] if len(fed) == 2 else parameters
    model = Model(loss, {"all": parameters}, fed)
    model.feed = lambda rng, rows: [rng.normal(size=(rows, 12)) for _ in fed]
    check(model, 3, form="arrays")


# ---------------------------------------------------------------- larger ones
@pytest.mark.parametrize("form", ["", *FORMS])
@pytest.mark.parametrize("seed", range(3))
def test_irregular_graphs(form, seed):
    model = irregular(150, seed)
    check(model, form=form)
    leaves = model.leaves
    model.inputs, model.parameters = [leaves[:3], leaves[3]], {"rest": leaves[4:]}
    model.feed = lambda rng, rows: [
        rng.uniform(-1.5, 1.5, (rows, 3)),
        rng.uniform(-1.5, 1.5, rows),
    ]
    check(model, 4, form=form)


# ---------------------------------------------------------------- numbers that are not finite
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30)
@given(
    steps_of_strands,
    roles,
    st.lists(st.sampled_from([math.inf, -math.inf, math.nan, 0.0, -0.0]), min_size=1, max_size=3),
    st.integers(0, 9),
)
def test_infinite_numbers_and_nan_flow_the_same(form, steps, roles, special, seed):
    model = strands(steps, roles, [9, 4, 6], seed)
    rng = random.Random(seed)
    for number in special:  # among the leaves, and among the rows
        rng.choice([*model.leaves, Value(0.0)]).data = number
    feed = model.feed

    def with_specials(draw, rows):
        arrays = feed(draw, rows)
        for array in arrays:
            array[draw.integers(0, rows), draw.integers(0, 3)] = special[-1]
        return arrays

    model.feed = with_specials
    mg.recompute(model.outputs)
    check(model, 3, form=form)
