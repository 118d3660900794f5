"""One suite, every engine: what the engine promises about numbers, asked of compiled programs too.

Values and gradients of every row against mpmath, random graphs against PyTorch, and the behavior of
conditions, detached values, sharing and second derivatives that test_engine.py and
test_operations.py check eagerly. Each test takes an engine from engines.ENGINES: the scalar graph,
or a program whose leaves are parameters or rows, run as arrays or as lines of Python.
"""

import itertools
import math
import random

import numpy as np
import pytest
from engines import ENGINES, assert_agree

import micrograd_scratch as mg
from micrograd_scratch import Value, functions, operations
from micrograd_scratch.operations import Operation

mpmath = pytest.importorskip("mpmath")
UPSTREAM = 1.7
INF, NAN = math.inf, math.nan
every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
ROWS = {
    name: row
    for module in (operations, functions)
    for name, row in vars(module).items()
    if isinstance(row, Operation) and row.__module__ == module.__name__
}
SMOOTH = [
    *("exp", "log", "sqrt", "sin", "cos", "tanh", "expm1", "log1p", "log10", "tan", "asin"),
    *("acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "atan2", "hypot"),
]


# ---------------------------------------------------------------- against what is exact
@every_engine
def test_smooth_rows_are_exact(engine):
    """Values and slopes by mpmath: 1e-13 of the value, which is some ulps of NumPy's functions."""
    for name in SMOOTH:
        row, exact = ROWS[name], getattr(mpmath, name)
        pairs = row.domain if isinstance(row.domain[0], tuple) else (row.domain,) * row.arity
        rng = random.Random(name)
        for _ in range(3):
            point = [rng.uniform(low, high) for low, high in pairs]
            value, gradient = engine(lambda *xs: UPSTREAM * row(*xs), point)  # noqa: B023
            assert value == pytest.approx(UPSTREAM * float(exact(*point)), rel=1e-13)
            for i, slope in enumerate(gradient):
                order = tuple(int(j == i) for j in range(len(point)))
                with mpmath.workdps(40):
                    derivative = mpmath.diff(exact, tuple(point), order)
                assert slope == pytest.approx(UPSTREAM * float(derivative), rel=1e-12)


EXPRESSIONS = {
    "quotient": lambda a, b: (a + 2 * b) / (a * a + b * b + 1) - a / b,
    "powers": lambda a, b: (a * a) ** b + a**3 - 2.0**b + (b * b) ** 0.5,
    "shared": lambda a, b: (lambda s: s * s + s / (1 + s * s) - b * s)(mg.tanh(a * b)),
    "network": lambda a, b: mg.sigmoid(
        mg.dot([a, b, 0.5], [mg.relu(a + 1), mg.silu(b), mg.gelu(a - b)], a)
    ),
    "entropy": lambda a, b: -mg.log_softmax([a, b, a * b])[1] + mg.logsumexp([a, 2 * b]),
    "extremes": lambda a, b: mg.maximum(a, b, a * b) * mg.minimum([a, b]) + mg.clip(a, -1, 1),
    "norms": lambda a, b: mg.sqrt(a * a + b * b) + abs(a - b) + mg.hypot(a, 2 * b),
    "branches": lambda a, b: mg.where(a > b, mg.exp(a - b), mg.log(b - a + 1)) * b,
}


@every_engine
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_against_pytorch(engine, name):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    theirs = {
        "quotient": EXPRESSIONS["quotient"],
        "powers": EXPRESSIONS["powers"],
        "shared": lambda a, b: (lambda s: s * s + s / (1 + s * s) - b * s)(torch.tanh(a * b)),
        "network": lambda a, b: torch.sigmoid(
            a + a * torch.relu(a + 1) + b * F.silu(b) + 0.5 * F.gelu(a - b)
        ),
        "entropy": lambda a, b: (
            -torch.log_softmax(torch.stack([a, b, a * b]), 0)[1]
            + torch.logsumexp(torch.stack([a, 2 * b]), 0)
        ),
        "extremes": lambda a, b: (
            torch.stack([a, b, a * b]).amax() * torch.stack([a, b]).amin() + torch.clamp(a, -1, 1)
        ),
        "norms": lambda a, b: torch.sqrt(a * a + b * b) + abs(a - b) + torch.hypot(a, 2 * b),
        "branches": lambda a, b: (torch.exp(a - b) if a > b else torch.log(b - a + 1)) * b,
    }[name]
    for point in [(0.7, -1.3), (-0.4, 0.9), (2.1, 0.3), (-1.5, -0.2)]:
        tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in point]
        expected = UPSTREAM * theirs(*tensors)
        expected.backward()
        build = EXPRESSIONS[name]
        value, gradient = engine(lambda *xs: UPSTREAM * build(*xs), point)  # noqa: B023
        assert value == pytest.approx(float(expected), rel=1e-12)
        assert_agree(gradient, [float(t.grad) for t in tensors])


@every_engine
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_second_derivatives(engine, name):
    """The Hessian's first row: the engine differentiates a recorded gradient."""
    build = EXPRESSIONS[name]
    for point in [(0.7, -1.3), (2.1, 0.3)]:
        xs = [Value(x) for x in point]
        expected = mg.hessian(UPSTREAM * build(*xs), xs)[0]

        def slope(a, b):
            return mg.grad(UPSTREAM * build(a, b), a)

        value, gradient = engine(slope, point)
        assert value == pytest.approx(mg.grad(UPSTREAM * build(*xs), xs[0]).data, rel=1e-12)
        assert_agree(gradient, [e.data for e in expected])


# ---------------------------------------------------------------- dependence
@every_engine
def test_what_is_not_reached_gets_zero_and_never_nan(engine):
    for build, point, expected in [
        (lambda a, b: mg.where(a > 0, mg.sqrt(a), b), (-1.0, 2.0), (0.0, UPSTREAM)),
        (lambda a, b: mg.where(a > 0, mg.sqrt(a), b), (0.0, 2.0), (0.0, UPSTREAM)),
        (lambda a, b: mg.where(a != 0, b / a, 0.0), (0.0, 2.0), (0.0, 0.0)),
        (lambda a, b: mg.where(a > 0, a, b * INF), (1.0, 0.0), (UPSTREAM, 0.0)),
        (lambda a, b: mg.take([a, mg.log(b), 1 / b], 0 * mg.step(a)), (3.0, 0.0), (UPSTREAM, 0.0)),
        (lambda a, b: mg.detach(mg.sqrt(a)) * b, (0.0, 2.0), (0.0, 0.0)),
        (lambda a, b: mg.sign(1 / a) * b, (0.0, 2.0), (0.0, UPSTREAM)),
        (lambda a, b: mg.floor(mg.log(a)) + b, (0.0, 2.0), (0.0, UPSTREAM)),
        (lambda a, b: (mg.sqrt(a) > 0) * b, (0.0, 2.0), (0.0, 0.0)),
        (lambda a, b: mg.copysign(b, mg.sqrt(a)), (0.0, 2.0), (0.0, UPSTREAM)),
    ]:
        _, gradient = engine(lambda a, b: UPSTREAM * build(a, b), point)  # noqa: B023
        assert tuple(gradient) == expected, (point, gradient)


@every_engine
def test_a_node_reached_by_two_branches(engine):
    def build(a, b):
        inner = mg.log(a)  # -inf at 0, its slope infinite: reached by the second where only
        return mg.where(b > 0, inner, b) + mg.where(b > 1, b, mg.where(a > 0, inner * b, 0.0))

    for point in [(2.0, 0.5), (2.0, 3.0), (2.0, -1.0), (0.0, -1.0), (0.0, 2.0)]:
        expected = ENGINES["eager"](build, point)
        value, gradient = engine(build, point)
        assert_agree(value, expected[0])
        assert_agree(gradient[0], expected[1][0])
        assert_agree(gradient[1], expected[1][1])


@every_engine
def test_infinite_and_nan_partials_flow_as_ieee_says(engine):
    for build, point in [
        (lambda a, b: mg.sqrt(a) * b, (0.0, 0.0)),
        (lambda a, b: mg.sqrt(a) * b, (0.0, 2.0)),
        (lambda a, b: a / b, (1.0, 0.0)),
        (lambda a, b: a / b, (0.0, 0.0)),
        (lambda a, b: mg.log(a) * b, (0.0, 0.0)),
        (lambda a, b: mg.exp(a) - mg.exp(b), (1000.0, 1000.0)),
        (lambda a, b: mg.maximum(a, b), (NAN, 1.0)),
        (lambda a, b: mg.maximum([a, b]), (NAN, 1.0)),
        (lambda a, b: mg.minimum([a, b, 0.0]), (INF, -INF)),
        (lambda a, b: a**b, (-1.0, 0.5)),
        (lambda a, b: a**b, (0.0, -1.0)),
        (lambda a, b: mg.total([a, b, -b]), (INF, INF)),
        (lambda a, b: mg.dot([a, b], [b, a]), (INF, 0.0)),
        (lambda a, b: mg.softmax([a, b])[0], (1e308, 1e308)),
        (lambda a, b: mg.logsumexp([a, b]), (-INF, -INF)),
        (lambda a, b: mg.logsumexp([a, b]), (INF, 0.0)),
        (lambda a, b: mg.log_softmax([a, b])[1], (-INF, 0.0)),
    ]:
        expected = ENGINES["eager"](lambda a, b: UPSTREAM * build(a, b), point)  # noqa: B023
        value, gradient = engine(lambda a, b: UPSTREAM * build(a, b), point)  # noqa: B023
        assert_agree(value, expected[0], what=str(point))
        for ours, theirs in zip(gradient, expected[1], strict=True):
            assert_agree(ours, theirs, what=str(point))


@every_engine
def test_repeated_operands_and_deep_sharing(engine):
    assert engine(lambda x: x * x + x + x, [3.0])[1] == [8.0]
    assert engine(lambda x: mg.total([x, x, x]) + mg.dot([x, x], [x, x], x), [3.0])[1] == [16.0]

    def doubled(x):
        for _ in range(40):
            x = x + x
        return x

    assert engine(doubled, [1.0]) == (2.0**40, [2.0**40])
    assert engine(lambda x: mg.maximum([x, x, 1.0]), [1.0])[1] == [pytest.approx(2 / 3)]


@every_engine
def test_ties_and_kinks(engine):
    for build, point, expected in [
        (mg.maximum, (2.0, 2.0), (0.5, 0.5)),
        (mg.minimum, (2.0, 2.0), (0.5, 0.5)),
        (lambda a, b: mg.maximum([a, b, a]), (2.0, 2.0), (2 / 3, 1 / 3)),
        (lambda a, b: mg.relu(a) + b, (0.0, 0.0), (0.0, 1.0)),
        (lambda a, b: abs(a) + mg.leaky_relu(b), (0.0, 0.0), (0.0, 0.01)),
        (lambda a, b: mg.clip(a, -1, 1) + mg.hardtanh(b), (1.0, 1.0), (1.0, 0.0)),
        (lambda a, b: mg.hypot(a, b), (0.0, 0.0), (0.0, 0.0)),
        (lambda a, b: mg.atan2(a, b), (0.0, 0.0), (0.0, 0.0)),
        (lambda a, b: a**b, (0.0, 0.0), (0.0, 0.0)),
    ]:
        _, gradient = engine(lambda a, b: UPSTREAM * build(a, b), point)  # noqa: B023
        np.testing.assert_allclose(gradient, UPSTREAM * np.array(expected), rtol=1e-15)


@every_engine
def test_tails_are_kept(engine):
    for f, x, slope in [
        (mg.sigmoid, 40.0, 4.248354255291589e-18),
        (mg.sigmoid, -700.0, 9.859676543759770e-305),
        (mg.tanh, 20.0, 1.699341702116766e-17),
        (mg.softplus, -40.0, 4.248354255291589e-18),
        (mg.logsigmoid, 40.0, 4.248354255291589e-18),
        (mg.erfc, 10.0, -2 / math.sqrt(math.pi) * math.exp(-100.0)),
    ]:
        assert engine(f, [x])[1][0] == pytest.approx(slope, rel=1e-12)


@every_engine
def test_quotients_are_correctly_rounded(engine):
    for a, b in itertools.product((1.0, 7.0, 29.0), (3.0, 49.0)):
        assert engine(lambda x, y: x / y, [a, b])[0] == a / b


@every_engine
def test_the_taylor_remainder_falls_quadratically(engine):
    def loss(*w):
        hidden = [
            mg.tanh(mg.dot(w[3 * i : 3 * i + 2], [0.3, -1.2], w[3 * i + 2])) for i in range(3)
        ]
        return mg.logsumexp([*hidden, mg.dot(w[9:12], hidden)]) * UPSTREAM

    rng = random.Random(0)
    w, direction = [rng.gauss(0, 1) for _ in range(12)], [rng.gauss(0, 1) for _ in range(12)]
    value, gradient = engine(loss, w)
    along = math.fsum(g * d for g, d in zip(gradient, direction, strict=True))
    remainders = []
    for k in range(13):
        h = 0.1 / 2**k
        moved = [x + h * d for x, d in zip(w, direction, strict=True)]
        remainders.append(abs(ENGINES["eager"](loss, moved)[0] - value - h * along))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(remainders)]
    assert all(abs(slope - 2) < 0.05 for slope in slopes[5:]), slopes
