"""Random graphs with forced sharing: against PyTorch, and against themselves.

Hypothesis draws programs: leaves, then steps that apply a row to earlier nodes. Every row of the
table gets graphs in which it occurs; operands are squashed into the row's domain, nodes are used
again and again, and several results are weighed unequally. Losses of whole networks are checked by
their Taylor remainder. Single operations are tested in test_operations.py.
"""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import micrograd_scratch as mg
from micrograd_scratch import MLP, Constant, Value, engine, functions, losses, operations
from micrograd_scratch.operations import Operation, operation

ROWS = {
    name: row
    for module in (operations, functions)
    for name, row in vars(module).items()
    if isinstance(row, Operation) and row.__module__ == module.__name__
}
WEIGHTS = (1.7, -0.6, 0.45, 1.1)  # of the results: none is 1
GRAPHS = 8  # drawn for every row


# ---------------------------------------------------------------- drawing programs
@st.composite
def programs(draw, row):
    """(leaf numbers, steps): step (name, operands) appends a node; operands count from the end."""
    number = st.floats(-2.0, 2.0).map(lambda x: math.copysign(max(abs(x), 0.01), x))
    leaves = draw(st.lists(number, min_size=2, max_size=4))
    names = [*draw(st.lists(st.sampled_from(list(ROWS)), min_size=2, max_size=8)), row]
    names.insert(draw(st.integers(0, len(names) - 1)), row)  # once inside, once at the end
    steps = []
    for name in names:
        count = arity(name)
        steps.append((name, draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))))
    return leaves, steps


def arity(name):
    return ROWS[name].arity or {"dot_of": 5, "take_of": 4}.get(name, 3)


def run(program, apply, leaves, softsign):
    """The program's nodes: `apply(name, operands)` computes a step, with numbers or tensors.

    Every node stays within (-3, 3), where most rows are at home: they get the nodes themselves.
    """
    _, steps = program
    nodes = list(leaves)

    def append(node):
        nodes.append(node if abs(node.item()) <= 3 else 3 * softsign(node))

    for name, back in steps:
        operands = [nodes[-1 - min(b, len(nodes) - 1)] for b in back]
        append(apply(name, squashed(name, operands, softsign)))
        if len(nodes) % 3 == 0:  # forced sharing: a node that uses its neighbors twice
            append(nodes[-1] * nodes[0] + nodes[-1] * 0.3 - nodes[1] * nodes[-1])
    return nodes


def results(nodes):
    """Four results that share nearly everything."""
    return [
        nodes[-1],
        nodes[-2] * nodes[0],
        nodes[len(nodes) // 2] + nodes[1],
        nodes[-1] * nodes[-2],
    ]


def squashed(name, operands, softsign):
    """The operands inside the domain of the row: the nodes themselves where it is (-3, 3)."""
    domain = ROWS[name].domain
    pairs = domain if isinstance(domain[0], tuple) else (domain,) * len(operands)
    return [
        x if (low, high) == (-3, 3) else (low + high) / 2 + (high - low) / 2 * softsign(x)
        for x, (low, high) in zip(operands, pairs, strict=True)
    ]


def on_values(name, xs):
    if name == "take_of":
        xs[0] = float(len(xs) % 3)
    if name == "where":
        xs[0] = xs[0] > 0.3
    if name == "constant_power":
        xs[1] = mg.detach(xs[1])  # its exponent is a number
    return ROWS[name](*xs)


def record(program):
    """(leaves, results) as Values."""
    leaves = [Value(x) for x in program[0]]
    return leaves, results(run(program, on_values, leaves, mg.softsign))


def close(got, expected, scale=0.0, tolerance=1e-9):
    """Equal at the relative tolerance, where a sum that cancels is seen against its terms."""
    if not math.isfinite(expected):
        return repr(got) == repr(expected)
    return abs(got - expected) <= tolerance * max(abs(expected), 1e-3 * scale, 1e-12)


# ---------------------------------------------------------------- against PyTorch
def torch_operations(torch):
    """The rows in PyTorch, by the variable that holds ours; others go by their name."""
    F = torch.nn.functional

    def clip(x, low, high):
        return torch.clamp(x, low, high)

    return {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "divide": lambda a, b: a / b,
        "negative": lambda x: -x,
        "power": torch.pow,
        "constant_power": lambda a, b: torch.pow(a, b.detach()),
        "less": lambda a, b: (a < b).double(),
        "less_equal": lambda a, b: (a <= b).double(),
        "greater": lambda a, b: (a > b).double(),
        "greater_equal": lambda a, b: (a >= b).double(),
        "equal": lambda a, b: (a == b).double(),
        "not_equal": lambda a, b: (a != b).double(),
        "where": lambda c, a, b: torch.where(c > 0.3, a, b),
        "detach": lambda x: x.detach(),
        "absolute": torch.abs,
        "maximum_of_two": torch.maximum,
        "minimum_of_two": torch.minimum,
        "largest_of": lambda *xs: torch.stack(xs).amax(),
        "smallest_of": lambda *xs: torch.stack(xs).amin(),
        "total_of": lambda *xs: torch.stack(xs).sum(),
        "dot_of": lambda a, b, x, y, bias: bias + a * x + b * y,
        "take_of": lambda index, *xs: torch.stack(xs)[(len(xs) + 1) % 3],
        "softplus": F.softplus,
        "logsigmoid": F.logsigmoid,
        "leaky_relu": F.leaky_relu,
        "elu": F.elu,
        "selu": F.selu,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "silu": F.silu,
        "mish": F.mish,
        "softsign": lambda x: x / (1 + torch.abs(x)),
        "relu6": F.relu6,
        "hardtanh": F.hardtanh,
        "rounded": torch.round,
        "step": lambda x: (x > 0).double(),
        "floor_divide": lambda a, b: torch.div(a, b, rounding_mode="floor"),
        "clip": clip,
    }


@pytest.mark.parametrize("name", ROWS)
def test_against_pytorch(name):
    torch = pytest.importorskip("torch")
    known = torch_operations(torch)
    if name not in known and not hasattr(torch, name):
        pytest.skip("PyTorch does not have it")

    def on_tensors(name, operands):
        return (known.get(name) or getattr(torch, name))(*operands)

    @settings(max_examples=GRAPHS)
    @given(programs(name))
    def agrees(program):
        if any(step not in known and not hasattr(torch, step) for step, _ in program[1]):
            return  # it holds a row that is not PyTorch's
        leaves, ours = record(program)
        tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in program[0]]
        theirs = results(run(program, on_tensors, tensors, known["softsign"]))
        for y, expected in zip(ours, theirs, strict=True):
            assert close(y.data, float(expected.detach()))
        loss = sum(w * t for w, t in zip(WEIGHTS, theirs, strict=True))
        first = torch.autograd.grad(loss, tensors, create_graph=True, materialize_grads=True)
        expected = [float(g.detach()) for g in first]
        scale = max(map(abs, expected))

        y = mg.dot(WEIGHTS, ours)
        y.backward()
        assert all(close(x.grad, e, scale) for x, e in zip(leaves, expected, strict=True))
        gradient = mg.grad(y, leaves)
        assert all(close(g.data, e, scale) for g, e in zip(gradient, expected, strict=True))
        tangents = [0.7, -1.3, 0.4, 1.9][: len(leaves)]
        along = sum(t * e for t, e in zip(tangents, expected, strict=True))
        assert close(mg.jvp(y, leaves, tangents), along, scale)

        second = [0.0] * len(leaves)  # the Hessian times the tangents
        slope = sum(t * g for t, g in zip(tangents, first, strict=True))
        if slope.requires_grad:
            by = torch.autograd.grad(slope, tensors, materialize_grads=True)
            second = [float(g) for g in by]
        scale = max(map(abs, [*filter(math.isfinite, second), scale]))
        for got, e in zip(mg.hvp(y, leaves, tangents), second, strict=True):
            # PyTorch's second derivative of copysign(0, b) is nan
            assert close(got.data, e, scale, 1e-8) or e != e

    agrees()


# ---------------------------------------------------------------- against themselves
@pytest.mark.parametrize("name", ROWS)
def test_forward_and_reverse_mode_are_transposes(name):
    """<J x, y> = <x, J' y> for the Jacobian J of four results."""

    @settings(max_examples=GRAPHS)
    @given(programs(name), st.randoms(use_true_random=False))
    def transposed(program, draw):
        leaves, ys = record(program)
        tangents = [draw.uniform(-1, 1) for _ in leaves]
        weights = [draw.uniform(-1, 1) for _ in ys]
        terms = [w * t for w, t in zip(weights, mg.jvp(ys, leaves, tangents), strict=True)]
        mg.dot(weights, ys).backward()
        other = [x.grad * t for x, t in zip(leaves, tangents, strict=True)]
        size = sum(map(abs, terms + other))
        assert abs(sum(terms) - sum(other)) <= 1e-12 * size

    transposed()


@pytest.mark.parametrize("name", ROWS)
def test_the_chain_rule_on_numbers_and_on_graphs_agree(name):
    @settings(max_examples=GRAPHS)
    @given(programs(name))
    def agree(program):
        leaves, ys = record(program)
        y = mg.dot(WEIGHTS, ys)
        reached = [
            n for n in engine.topological_order(y, reached_only=True) if not isinstance(n, Constant)
        ]
        y.backward()
        largest = max(abs(n.grad) for n in reached)
        for node, g in zip(reached, mg.grad(y, reached), strict=True):
            assert close(g.data, node.grad, largest, 1e-13)
        before = [x.grad for x in leaves]
        y.backward()  # accumulates exactly
        assert [x.grad for x in leaves] == [2 * b for b in before]
        for x in leaves:
            x.data += 0.125
        gradient = mg.grad(y, leaves)
        engine.recompute(y, *gradient)
        again, fresh_ys = record((program[0], program[1]))
        for x in again:
            x.data += 0.125
        fresh = mg.dot(WEIGHTS, fresh_ys)
        engine.recompute(fresh)
        assert fresh.data == y.data
        fresh.backward()
        scale = max(abs(x.grad) for x in again)
        for g, x in zip(gradient, again, strict=True):  # recorded at other numbers, recomputed
            assert close(g.data, x.grad, scale, 1e-12)

    agree()


# ---------------------------------------------------------------- whole losses
def taylor_slopes(loss, parameters, draw, halvings=15):
    """log2 of successive |f(x + h d) - f(x) - h g.d|: 2 each where g is the gradient."""
    f0 = loss()
    for p in parameters:
        p.grad = 0.0
    f0.backward()
    start = [p.data for p in parameters]
    direction = [draw.gauss(0, 1) for _ in parameters]
    along = math.fsum(p.grad * d for p, d in zip(parameters, direction, strict=True))
    remainders = []
    for k in range(halvings + 1):
        h = 0.1 / 2**k
        for p, x, d in zip(parameters, start, direction, strict=True):
            p.data = x + h * d
        remainders.append(abs(loss().data - f0.data - h * along))
    for p, x in zip(parameters, start, strict=True):
        p.data = x
    assert remainders[-1] > 1e-15 * max(1.0, abs(f0.data)) * 20, "sunk into rounding"
    return [math.log2(a / b) for a, b in zip(remainders, remainders[1:], strict=False)]


def network_loss(activation, output, per_sample):
    """(function that gives the loss of a small network on 8 samples, the parameters)."""
    draw = random.Random(f"{activation} {output}")
    outputs = 3 if per_sample is losses.cross_entropy else 1
    model = MLP(2, [5, outputs], activation=activation, output=output, init="xavier", rng=draw)
    samples = [
        ([draw.gauss(0, 1), draw.gauss(0, 1)], draw.randrange(outputs + 1)) for _ in range(8)
    ]

    def loss():
        terms = [per_sample(model(x), min(t, max(outputs - 1, 1))) for x, t in samples]
        return mg.total(terms) / len(terms) + 0.01 * losses.l2(model.parameters())

    return loss, model.parameters()


WHOLE = [
    ("tanh", "linear", losses.cross_entropy),
    ("softplus", "linear", losses.binary_cross_entropy),
    ("gelu", "tanh", losses.mean_squared_error),
    ("silu", "sigmoid", losses.squared_error),
    ("mish", "linear", lambda score, target: mg.logsumexp([0.0, 1.0 - score * (2 * target - 1)])),
]


@pytest.mark.parametrize(("activation", "output", "per_sample"), WHOLE)
def test_taylor_remainders_of_whole_losses_fall_quadratically(activation, output, per_sample):
    loss, parameters = network_loss(activation, output, per_sample)
    slopes = taylor_slopes(loss, parameters, random.Random(5))
    assert all(abs(slope - 2) < 0.05 for slope in slopes[5:]), slopes


def off_by(fraction):
    return operation("off", math.tanh, lambda y, x: ((1.0 + fraction) * (1.0 - y * y),))


@pytest.mark.parametrize("fraction", [1e-2, 1e-3, 1e-4])
def test_a_wrong_rule_fails_the_taylor_test(fraction):
    loss, parameters = network_loss(off_by(fraction), "linear", losses.cross_entropy)
    slopes = taylor_slopes(loss, parameters, random.Random(5))
    assert not all(abs(slope - 2) < 0.05 for slope in slopes[5:])
    loss, parameters = network_loss(off_by(0.0), "linear", losses.cross_entropy)
    slopes = taylor_slopes(loss, parameters, random.Random(5))
    assert all(abs(slope - 2) < 0.05 for slope in slopes[5:])
