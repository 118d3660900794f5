"""Every row of the table, found by itself: a new operation brings its own test.

A row is compared, at points of its `domain` away from its `kinks`, with derivatives that know
nothing of its rule: mpmath's, 50 digits long, where mpmath has the function (by its name, or in
WRITTEN below), and extrapolated differences of the row's own value where it has not.
"""

import functools
import inspect
import itertools
import math
import pickle
import random
import sys
from fractions import Fraction

import numpy as np
import pytest

import micrograd_scratch as mg
from micrograd_scratch import Constant, Value, functions, operations
from micrograd_scratch.operations import Conditional, Operation, Symbol, Total, operation

mpmath = pytest.importorskip("mpmath")
mpmath.mp.dps = 50

UPSTREAM = 1.7  # with 1, a forgotten factor would go unseen
POINTS = 40
INF, NAN = math.inf, math.nan
SPECIAL = [
    *(NAN, INF, -INF, 0.0, -0.0, 5e-324, -5e-324, 1.79e308, -1.79e308),
    *(1e-200, -1e200),
    *(1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 710.0, -746.0),
]


def rows_of(*modules):
    """{variable: row} of every operation that the modules define."""
    return {
        name: row
        for module in modules
        for name, row in vars(module).items()
        if isinstance(row, Operation) and row.__module__ == module.__name__
    }


ROWS = rows_of(operations, functions)
every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)

# How mpmath spells the rows that it does not have under their own name.
mp = mpmath
WRITTEN = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "neg": lambda x: -x,
    "**": lambda a, b: mp.power(a, b),
    "<": lambda a, b: mp.mpf(a < b),
    "<=": lambda a, b: mp.mpf(a <= b),
    ">": lambda a, b: mp.mpf(a > b),
    ">=": lambda a, b: mp.mpf(a >= b),
    "==": lambda a, b: mp.mpf(a == b),
    "!=": lambda a, b: mp.mpf(a != b),
    "where": lambda c, a, b: a if c else b,
    "detach": lambda x: x,
    "abs": lambda x: abs(x),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "relu": lambda x: max(x, mp.mpf(0)),
    "maximum": lambda a, b: max(a, b),
    "minimum": lambda a, b: min(a, b),
    "max": lambda *xs: max(xs),
    "min": lambda *xs: min(xs),
    "dot": lambda w, v, x, y, bias: bias + w * x + v * y,
    "total": lambda *xs: sum(xs),
    "take": lambda index, *values: values[int(index)],
    "exp2": lambda x: mp.power(2, x),
    "log2": lambda x: mp.log(x, 2),
    "square": lambda x: x * x,
    "logit": lambda x: mp.log(x / (1 - x)),
    "softplus": lambda x: mp.log(1 + mp.exp(x)),
    "logsigmoid": lambda x: -mp.log(1 + mp.exp(-x)),
    "logaddexp": lambda a, b: mp.log(mp.exp(a) + mp.exp(b)),
    "leaky_relu": lambda x: x if x > 0 else x * mp.mpf(0.01),
    "elu": lambda x: x if x > 0 else mp.expm1(x),
    "selu": lambda x: (
        mp.mpf(1.0507009873554805) * (x if x > 0 else mp.mpf(1.6732632423543772) * mp.expm1(x))
    ),
    "gelu": lambda x: x * mp.ncdf(x),
    "gelu_tanh": lambda x: (
        x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3)))
    ),
    "silu": lambda x: x / (1 + mp.exp(-x)),
    "mish": lambda x: x * mp.tanh(mp.log(1 + mp.exp(x))),
    "softsign": lambda x: x / (1 + abs(x)),
    "relu6": lambda x: min(max(x, mp.mpf(0)), mp.mpf(6)),
    "hardtanh": lambda x: min(max(x, mp.mpf(-1)), mp.mpf(1)),
    "trunc": lambda x: mp.floor(x) if x > 0 else mp.ceil(x),
    "round": lambda x: mp.nint(x),
    "step": lambda x: mp.mpf(x > 0),
    "copysign": lambda a, b: abs(a) * mp.sign(b),
    "//": lambda a, b: mp.floor(a / b),
    "%": lambda a, b: a - b * mp.floor(a / b),
    "fmod": lambda a, b: a - b * (mp.floor(a / b) if a * b > 0 else mp.ceil(a / b)),
    "clip": lambda x, low, high: min(max(x, low), high),
}
# Arguments that a row declares to be without a derivative, whatever its value does.
STOPPED = {
    operations.detach: 0,
    operations.constant_power: 1,
    operations.where: 0,
    operations.take_of: 0,
}


def exact_function(row):
    """mpmath's version of the row, or None."""
    known = WRITTEN.get(row.name) or getattr(mpmath, row.name, None)
    return known if callable(known) else None


def argument_count(row):
    return {"dot": 5}.get(row.name, 3) if row.arity is None else row.arity


def intervals(row):
    """(low, high) for every argument."""
    domain = row.domain
    return domain if isinstance(domain[0], tuple) else (domain,) * argument_count(row)


def sample(row, count=POINTS, seed=0):
    """Points of the domain that keep away from the kinks, and from jumps at whole numbers."""
    draw = random.Random(f"{row.name} {seed}")
    points = []
    while len(points) < count:
        point = [draw.uniform(low, high) for low, high in intervals(row)]
        if row.name == "take":
            point[0] = float(draw.randrange(len(point) - 1))
        if row.name == "where":
            point[0] = float(draw.randrange(2))
        if any(abs(x - kink) < 1e-3 for x in point for kink in row.kinks):
            continue
        if (
            any(abs(a - b) < 1e-3 for a, b in itertools.combinations(point, 2))
            and row.name != "where"
        ):
            continue
        points.append(point)
    return points


def extrapolated(function, x):
    """The derivative by Richardson's extrapolation of central differences, to about 1e-11."""
    table = []
    for k in range(6):
        h = 0.05 / 2**k
        table.append((function(x + h) - function(x - h)) / (2 * h))
    for order in range(1, 6):
        table = [
            (4**order * finer - coarser) / (4**order - 1)
            for coarser, finer in itertools.pairwise(table)
        ]
    return table[0]


def exact_partial(row, point, i, order=1):
    """d^order row / d x_i^order at the point; and a tolerance, or None where it is exact."""
    if STOPPED.get(row) == i:
        return mpmath.mpf(0), None
    exact = exact_function(row)
    if exact is None:
        assert order == 1
        return extrapolated(lambda x: row.number(*point[:i], x, *point[i + 1 :]), point[i]), 1e-8
    point = [mpmath.mpf(x) for x in point]
    step = mpmath.mpf(10) ** -12  # at 50 digits: central differences good to 24 of them
    return (
        mpmath.diff(
            lambda x: mpmath.mpf(exact(*point[:i], x, *point[i + 1 :])), point[i], order, h=step
        ),
        None,
    )


def ulps(got, exact):
    """How many units in got's last place it lies from the exact number."""
    if exact == 0:
        return 0.0 if abs(got) < 1e-20 else INF
    return abs(float((mpmath.mpf(got) - exact) / math.ulp(float(exact))))


def steps_of_rule(row):
    """How many operations the longest of the row's partials takes."""
    symbols = [Symbol(f"x{i}") for i in range(argument_count(row))]
    slopes = row.partials(Symbol("y"), *symbols)
    return max(str(_plain(slope)).count("(") for slope in slopes)


def conditioning(row, point, order):
    """|x f'(x) / f(x)| of the row's derivative of that order, which magnifies rounding; or 1."""
    if row.arity != 1 or exact_function(row) is None:
        return 1.0
    here = exact_partial(row, point, 0, order)[0] if order else exact_function(row)(point[0])
    slope = exact_partial(row, point, 0, order + 1)[0]
    return max(1.0, abs(float(point[0] * slope / here))) if here else 1.0


def _plain(slope):
    """A partial without its condition, and 0 where there is no dependence."""
    if isinstance(slope, Conditional):
        return np.where(slope.condition, slope.partial, 0.0) if _is_array(slope) else slope.partial
    return 0.0 if slope is None else slope


def _is_array(slope):
    return isinstance(slope.condition, np.ndarray)


# ---------------------------------------------------------------- values and partials
def check_row(row, points=None):
    """AssertionError unless the row's value and partials are the exact ones, by every road."""
    assert isinstance(row, Operation)
    value_limit = 2 if inspect.isbuiltin(row.value) else 8
    limit = 2 if steps_of_rule(row) <= 2 else 8
    exact = exact_function(row)
    for point in points or sample(row):
        xs = [Value(x) for x in point]
        y = row(*xs)
        assert y.data == row(*point) or row(*point) != row(*point)
        if exact is not None:
            error = ulps(y.data, mpmath.mpf(exact(*map(mpmath.mpf, point))))
            assert error <= value_limit * conditioning(row, point, 0), (point, y, error)
        (UPSTREAM * y).backward()
        through_graph = mg.grad(UPSTREAM * y, xs)
        for i, x in enumerate(xs):
            derivative, tolerance = exact_partial(row, point, i)
            expected = mpmath.mpf(UPSTREAM) * derivative
            if tolerance is None:
                error = ulps(x.grad, expected)  # one of them from the product with UPSTREAM
                assert error <= 1 + limit * conditioning(row, point, 1), (point, i, x.grad, error)
            else:
                assert abs(x.grad - expected) <= tolerance * max(1, abs(expected)), (point, i)
            assert through_graph[i].data == x.grad
            tangents = [float(j == i) for j in range(len(xs))]
            assert mg.jvp(UPSTREAM * y, xs, tangents) == pytest.approx(x.grad, rel=1e-15, abs=0)


@every_row
def test_value_and_partials_are_exact(row):
    check_row(row)


@every_row
def test_second_derivatives_are_exact(row):
    if exact_function(row) is None:
        pytest.skip("mpmath does not have it")
    for point in sample(row, 8, seed=1):
        for i in range(len(point)):
            xs = [Value(x) for x in point]
            first = mg.grad(UPSTREAM * row(*xs), xs)[i]
            if not isinstance(first, Constant):
                first.backward()
            expected = mpmath.mpf(UPSTREAM) * exact_partial(row, point, i, order=2)[0]
            assert abs(xs[i].grad - expected) <= 1e-13 * max(1, abs(expected)), (point, i)


@every_row
def test_mixed_second_derivatives_are_symmetric(row):
    if argument_count(row) < 2 or row in STOPPED:
        pytest.skip("it has one argument that counts")
    for point in sample(row, 5, seed=2):
        xs = [Value(x) for x in point]
        table = mg.hessian(UPSTREAM * row(*xs), xs)
        for i, j in itertools.combinations(range(len(xs)), 2):
            assert table[i][j].data == pytest.approx(table[j][i].data, rel=1e-13, abs=1e-14)


@every_row
def test_the_same_rule_serves_arrays(row):
    points = sample(row)
    columns = [np.array(column) for column in zip(*points, strict=True)]
    y = row.on_arrays(*columns)
    expected = [row.number(*point) for point in points]
    np.testing.assert_allclose(np.asarray(y, float), expected, rtol=1e-14, atol=1e-300)
    if row.name != "take":  # its first argument picks: as a function it is called take(list, index)
        np.testing.assert_array_equal(row(*columns), y)
    slopes = row.partials(y, *columns)
    by_point = [row.slopes(row.number(*point), *point) for point in points]
    for slope, expected in zip(slopes, zip(*by_point, strict=True), strict=True):
        got = np.broadcast_to(np.asarray(_plain(slope), float), len(points))
        expected = np.array([0.0 if e is None else e for e in expected], float)
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("installed", [True, False])
def test_special_functions_of_arrays_are_scipys_where_it_is_installed(monkeypatch, installed):
    special = pytest.importorskip("scipy.special")
    if not installed:
        monkeypatch.setitem(sys.modules, "scipy.special", None)
    x = np.array([*np.linspace(-6.0, 6.0, 25), INF, -INF, NAN, -0.0])
    for row in (functions.erf, functions.erfc):
        monkeypatch.delitem(vars(row), "on_arrays", raising=False)
        assert (row.on_arrays is getattr(special, row.name)) == installed
        np.testing.assert_allclose(row(x), [row.number(a) for a in x.tolist()], rtol=1e-13)
        del vars(row)["on_arrays"]


def test_an_operation_of_your_own_is_not_looked_for_in_scipy(monkeypatch):
    def refuse(name):
        raise AssertionError(name)

    monkeypatch.setattr(operations, "of_scipy", refuse)
    cubed = operation("cubed", lambda x: x * x * x, lambda y, x: (3.0 * x * x,))
    assert cubed(np.array([1.0, -2.0])).tolist() == [1.0, -8.0]


@every_row
def test_the_same_rule_writes_itself(row):
    symbols = [Symbol(f"x{i}") for i in range(argument_count(row))]
    y = row(*symbols)
    assert isinstance(y, Symbol) and all(str(x) in str(y) for x in symbols)
    for slope in row.partials(y, *symbols):
        text = str(_plain(slope))
        assert text and "object at" not in text
        assert text.count("(") == text.count(")")


# ---------------------------------------------------------------- at the edges
def special_points(row):
    count = argument_count(row)
    numbers = SPECIAL if count < 3 else SPECIAL[:11:2] if count == 3 else SPECIAL[:4]
    for point in itertools.product(numbers, repeat=count):
        yield (1.0, *point[1:]) if row.name == "take" else point


@every_row
def test_no_row_ever_raises(row):
    for point in special_points(row):
        y = row.number(*point)
        assert type(y) in (float, bool), (point, y)
        slopes = row.slopes(float(y), *point)
        assert len(slopes) == len(point)
        assert all(s is None or type(s) in (float, bool, int) for s in slopes), (point, slopes)


@every_row
def test_no_graph_ever_raises(row):
    for point in itertools.islice(special_points(row), 0, None, 3):
        xs = [Value(x) for x in point]
        y = UPSTREAM * row(*xs)
        y.backward()
        mg.jvp(y, xs, [1.0] * len(xs))
        for x, g in zip(xs, mg.grad(y, xs), strict=True):
            assert type(x.grad) is float
            assert g.data == x.grad or (g.data != g.data and x.grad != x.grad), (point, g, x.grad)


@every_row
def test_arrays_and_floats_agree_at_the_edges(row):
    points = list(special_points(row))
    columns = [np.array(column) for column in zip(*points, strict=True)]
    with np.errstate(all="ignore"):
        got = np.asarray(row.on_arrays(*columns), float)
    expected = np.array([row.number(*point) for point in points], float)
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-300)


ARITHMETIC = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "**": np.power}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_is_ieee(name):
    row = next(row for row in ROWS.values() if row.name == name)
    for a, b in itertools.product(SPECIAL, repeat=2):
        with np.errstate(all="ignore"):
            expected = float(ARITHMETIC[name](np.array([a]), np.array([b]))[0])
        got = row.number(a, b)
        if math.isfinite(expected) and expected and name == "**":
            assert got == pytest.approx(
                expected, rel=1e-15, abs=0
            )  # NumPy's power is not the C library's
        else:
            assert repr(got) == repr(expected), (a, b)


def test_quotients_are_correctly_rounded():
    assert Value(1.0) / 49.0 * 49 != 1 and (Value(1.0) / 49.0).data == 1 / 49
    for a, b in itertools.product(range(1, 60), repeat=2):
        assert (Value(a) / b).data == a / b  # a * b**-1 is not, for a quarter of the pairs


def test_the_slopes_of_remainders_count_exactly():
    rng = random.Random(0)
    tenths = [round(0.1 * k, 1) for k in range(-40, 41) if k]
    for _ in range(500):
        a, b = rng.choice(tenths), rng.choice(tenths)
        quotient = Fraction(a) / Fraction(b)  # 0.9 / 0.1 is a bit less than 9, and rounds to it
        assert functions.fmod.partials(math.fmod(a, b), a, b)[1] == -math.trunc(quotient)
        assert functions.remainder.partials(a % b, a, b)[1] == -math.floor(quotient)


def test_one_argument_out_of_its_domain_has_a_nan_gradient():
    for f, x in [
        (mg.log, -1.0),
        (mg.log1p, -2.0),
        (mg.log2, -1.0),
        (mg.log10, -1.0),
        (mg.sqrt, -1.0),
    ]:
        v = Value(x)
        (UPSTREAM * f(v)).backward()
        assert math.isnan(v.grad)
    for f, x in [
        (mg.asin, 2.0),
        (mg.acos, -2.0),
        (mg.acosh, 0.5),
        (mg.atanh, 2.0),
        (mg.logit, 1.5),
    ]:
        v = Value(x)
        (UPSTREAM * f(v)).backward()
        assert math.isnan(v.grad)


# ---------------------------------------------------------------- the functions of several
def test_dot_adds_from_left_to_right():
    ws, xs = [1e16, 1.0, -1e16], [1.0, 1.0, 1.0]
    assert mg.dot(ws, xs) == 0.0 and mg.dot(ws, xs, 1.0) == 0.0 and mg.dot(ws, xs, 3.0) == 4.0
    assert mg.dot([], []) == 0.0 and mg.dot([], [], 2.5) == 2.5
    assert mg.total([1e16, 1.0, -1e16]) == 0.0 and mg.total([]) == 0.0
    y = mg.dot([Value(w) for w in ws], xs, 3.0)
    assert y.data == 4.0 and len(y.parents) == 7


def test_dot_names_both_lengths():
    with pytest.raises(ValueError, match="2 and 3"):
        mg.dot([1.0, 2.0], [1.0, 2.0, 3.0])


def test_extremes_of_two_several_and_a_list():
    a, b, c = Value(1.0), Value(3.0), Value(3.0)
    for expression, expected in [
        (mg.maximum(a, b), (0, 1, 0)),
        (mg.maximum(b, c), (0, 0.5, 0.5)),
        (mg.maximum(a, b, c), (0, 0.5, 0.5)),
        (mg.maximum([a, b]), (0, 1, 0)),
        (mg.minimum(a, b, c), (1, 0, 0)),
        (mg.minimum([b, c]), (0, 0.5, 0.5)),
        (a.maximum(b), (0, 1, 0)),
        (a.minimum(b), (1, 0, 0)),
    ]:
        assert [g.data for g in mg.grad(UPSTREAM * expression, [a, b, c])] == [
            UPSTREAM * e for e in expected
        ]
    for f in (mg.maximum, mg.minimum):
        with pytest.raises(ValueError, match="of nothing"):
            f([])
    assert math.isnan(mg.maximum(0.0, NAN)) and math.isnan(mg.minimum([0.0, NAN]))


@pytest.mark.parametrize("f", [mg.softmax, mg.log_softmax, mg.logsumexp])
def test_what_is_for_lists_names_itself_when_it_gets_none(f):
    for single in (1.0, Value(1.0), None):
        with pytest.raises(TypeError, match=rf"^{f.__name__} takes a list, got .*\[a, b\]"):
            f(single)
    with pytest.raises(ValueError, match=f"the {f.__name__} of nothing"):
        f([])


def test_take_and_dot_say_what_they_take():
    for wrong in ((0, [1.0, 2.0]), (Value(1.0), 0), (Value(1.0), [1.0])):
        with pytest.raises(TypeError, match=r"take\(values, index\) takes a list first, got "):
            mg.take(*wrong)
    with pytest.raises(TypeError, match=r"^total takes a list, got Value\(.*\): list the numbers"):
        mg.total(Value(1.0))
    model = mg.MLP(2, [100, 1])
    with pytest.raises(TypeError, match="two sequences, got MLP .{56} and MLP .{56}: for"):
        mg.dot(model, model)


def test_take_by_number_and_by_value():
    values = [Value(1.0), Value(2.0), Value(3.0)]
    assert mg.take(values, 1) is values[1]
    index = Value(2)
    y = mg.take(values, index)
    assert y.data == 3.0 and mg.take([4.0, 5.0], 0) == 4.0
    (UPSTREAM * y).backward()
    assert [v.grad for v in (*values, index)] == [0, 0, UPSTREAM, 0]
    for bad in (3, -1, 0.5, Value(3), Value(-1.0), Value(0.5)):
        with pytest.raises(IndexError, match="0 to 2"):
            mg.take(values, bad)


def test_softmax_and_logsumexp():
    xs = [Value(x) for x in (1.0, 2.0, 4.0)]
    exact = [mpmath.exp(x) for x in (1, 2, 4)]
    for p, logp, e in zip(mg.softmax(xs), mg.log_softmax(xs), exact, strict=True):
        assert p.data == pytest.approx(float(e / sum(exact)), rel=1e-15, abs=0)
        assert logp.data == pytest.approx(float(mpmath.log(e / sum(exact))), rel=1e-15, abs=0)
    y = mg.logsumexp(xs)
    assert y.data == pytest.approx(float(mpmath.log(sum(exact))), rel=1e-15, abs=0)
    (UPSTREAM * y).backward()
    for x, e in zip(xs, exact, strict=True):
        assert x.grad == pytest.approx(UPSTREAM * float(e / sum(exact)), rel=1e-14, abs=0)
    assert mg.softmax([1e308, 1e308]) == [0.5, 0.5]
    assert mg.logsumexp([1000.0, 1000.0]) == pytest.approx(1000 + math.log(2))
    assert mg.log_softmax([0.0, 1000.0]) == [-1000.0, 0.0]
    assert all(map(math.isnan, mg.softmax([-INF, -INF])))  # 0 / 0 of floats does not raise


def test_take_of_numbers_is_what_it_is_among_values():
    for numbers in ([1, 2, 3], (1, True, 3), [1.0, 2], np.array([1.0, 2.0])):
        y = mg.take(numbers, 1)
        assert type(y) is float and y == float(numbers[1])
    v = Value(1.0)
    y = mg.take([v, 2], 1)  # like the maximum of them
    assert isinstance(y, Value) and y.data == 2.0 and mg.take([v, 2], np.int64(0)) is v
    y.backward()
    assert v.grad == 0.0
    assert mg.take([[1, 2], [v, 4]], 1) == [v, 4]  # a row of a matrix
    with pytest.raises(TypeError, match="expected one real number, got None"):
        mg.take([1.0, None], 1)


def test_functions_of_a_list_take_whatever_can_be_walked():
    numbers = [1.0, 3.0, 2.0]
    for f in (mg.softmax, mg.log_softmax, mg.logsumexp, mg.maximum, mg.minimum, mg.total):
        assert f(iter(numbers)) == f(np.array(numbers)) == f(tuple(numbers)) == f(numbers)
    with pytest.raises(TypeError, match="'1'"):
        mg.take(numbers, "1")


def test_a_refused_argument_is_named_in_one_short_line():
    for bad in ([np.zeros((2, 2))], "x" * 10**6, [Value(1.0)] * 1000):
        with pytest.raises(TypeError, match="one real number, got") as caught:
            mg.exp(bad)
        assert len(str(caught.value)) < 150 and "\n" not in str(caught.value)


def test_functions_of_floats_give_floats():
    for f in (mg.exp, mg.tanh, mg.relu, mg.gelu, mg.erf, mg.sigmoid):
        assert type(f(0.5)) is float and type(f(1)) is float and type(f(np.float64(0.5))) is float
    assert type(mg.where(True, 1.0, 2.0)) is float and mg.maximum(1, 2) == 2.0
    assert mg.clip(5, -1, 1) == 1.0 and type(mg.clip(5, -1, 1)) is float
    with pytest.raises(TypeError, match="one real number"):
        mg.exp("1")


@every_row
def test_every_row_is_a_method_or_operator(row):
    """The README promises one method line per operation; rows of many are functions only."""
    if row.arity is None or row.name in ("where", "maximum", "minimum"):
        pytest.skip("a function only")
    special = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "**": "pow", "//": "floordiv"}
    special |= {"%": "mod", "neg": "neg", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
    special |= {"==": "eq", "!=": "ne"}
    name = f"__{special[row.name]}__" if row.name in special else row.name
    point = sample(row, 1)[0]
    xs = [Value(x) for x in point]
    y = getattr(xs[0], name)(*xs[1:])
    assert y.data == float(row.number(*point)) and y.op == row.name
    assert len(y.parents) == row.arity and all(p is x for p, x in zip(y.parents, xs, strict=True))


# ---------------------------------------------------------------- what rules are computed with
def test_total_never_raises_and_equals_float_elsewhere():
    for a, b in itertools.product(SPECIAL, repeat=2):
        for got, expected in [
            (Total(a) + b, a + b),
            (a + Total(b), a + b),
            (Total(a) - b, a - b),
            (a - Total(b), a - b),
            (Total(a) * b, a * b),
            (a * Total(b), a * b),
            (-Total(a), -a),
            (Total(a) / b, operations.divide.number(a, b)),
            (a / Total(b), operations.divide.number(a, b)),
        ]:
            assert type(got) is Total
            assert got == expected or (got != got and expected != expected), (a, b)


def test_symbols_print_and_refuse_branches():
    x = Symbol("x")
    assert str(mg.exp(x) * 2) == "(exp(x) * 2)"
    assert str(1 - x / (x + 3.0)) == "(1 - (x / (x + 3.0)))"
    assert str(-x) == "neg(x)" and str(2 * x - 1) == "((2 * x) - 1)" and str(1 + x) == "(1 + x)"
    assert (
        str((x < 1) * (x <= 1) + (x > 1) * (x >= 1))
        == "(((x < 1) * (x <= 1)) + ((x > 1) * (x >= 1)))"
    )
    assert str((x == 1) * (1 / x)) == "((x == 1) * (1 / x))" and str(x != 1) == "(x != 1)"
    with pytest.raises(TypeError, match="cannot branch"):
        bool(x > 0)


def test_rules_use_no_power_and_no_remainder():
    for row in ROWS.values():
        source = inspect.getsource(row.partials.__code__)
        rule = source.split("lambda y", 1)[-1].split("array=")[0] if "lambda y" in source else ""
        assert "**" not in rule.replace('"**"', "") and " % " not in rule, row


# ---------------------------------------------------------------- a row of one's own
cube = operation("cube", lambda x: x * x * x, lambda y, x: (3.0 * x * x,))
wrong_cube = operation("wrong_cube", lambda x: x * x * x, lambda y, x: (3.003 * x * x,))
product_log = operation(
    "product_log",
    lambda a, b: a * math.log(b),
    lambda y, a, b: (mg.log(b), a / b),
    limit=-INF,
    domain=((-2, 2), (0.5, 3)),
)


@pytest.mark.parametrize("row", [cube, product_log])
def test_an_operation_of_your_own_is_one_row(row):
    check_row(row)
    test_the_same_rule_serves_arrays(row)
    test_the_same_rule_writes_itself(row)
    test_no_row_ever_raises(row)
    test_no_graph_ever_raises(row)
    assert pickle.loads(pickle.dumps(row)) is row


def test_an_operation_of_your_own_works_everywhere():
    assert cube(2) == 8.0 and repr(cube) == "<operation cube>" and cube.arity == 1
    x = Value(2.0)
    y = cube(x)
    assert y.op == "cube" and y.data == 8.0
    (UPSTREAM * y).backward()
    assert x.grad == UPSTREAM * 12
    assert mg.jvp(y, [x], [UPSTREAM]) == UPSTREAM * 12
    assert mg.hessian(y, [x])[0][0].data == 12.0
    assert mg.grad(mg.hessian(y, [x])[0][0], x).data == 6.0
    assert str(cube(Symbol("x"))) == "cube(x)"
    np.testing.assert_array_equal(cube(np.array([1.0, 2.0])), [1.0, 8.0])


def thousandth_more(slope):
    if isinstance(slope, Conditional):
        return Conditional(slope.condition, 1.001 * slope.partial)
    return None if slope is None else 1.001 * slope


def test_a_rule_wrong_by_a_thousandth_is_caught():
    with pytest.raises(AssertionError):
        check_row(wrong_cube)
    for row in ROWS.values():  # and so it is for every row of the table that has a derivative
        if not any(row.slopes(row.number(*p), *p) != (None,) * len(p) for p in sample(row, 3)):
            continue

        def off(y, *xs, rule=row.partials):
            return tuple(map(thousandth_more, rule(y, *xs)))

        wrong = Operation(
            row.name, row.value, off, limit=row.limit, domain=row.domain, kinks=row.kinks
        )
        wrong.arity = row.arity
        with pytest.raises(AssertionError):
            check_row(wrong, sample(row, 5))


def test_arguments_by_name():
    for x in (3.0, Value(3.0)):
        assert as_number(mg.clip(x, low=0, high=1)) == 1.0
        assert as_number(mg.clip(x, 4.0, high=5)) == 4.0
        assert as_number(mg.where(condition=x > 0, b=1.0, a=x)) == 3.0
    assert Value(3.0).clip(high=1, low=0).data == 1.0
    assert mg.clip(np.array([3.0, -1.0]), low=0, high=1).tolist() == [1.0, 0.0]


def as_number(x):
    return getattr(x, "data", x)


@pytest.mark.parametrize("x", [2.0, Value(2.0), np.array([2.0])], ids=["float", "Value", "array"])
def test_arguments_that_do_not_fit_are_refused_by_the_operations_name(x):
    for call, message in [
        (lambda: mg.clip(x, 1.0), r"'clip' takes \(x, low, high\), got 2 by position"),
        (lambda: mg.clip(x, 1.0, hight=2), r"'clip' takes .*got 2 by position, hight by name"),
        (lambda: mg.clip(x, 1.0, 2.0, low=0), r"'clip' takes .*got 3 by position, low by name"),
        (lambda: mg.log(x, 10.0), r"'log' takes \(x\), got 2"),  # math.log has a base
        (lambda: mg.exp(), r"'exp' takes \(x\), got 0"),
        (lambda: operations.total_of(x, start=1), r"'total' takes \(any number\).*start by name"),
    ]:
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(TypeError, match=r"exp\(\) takes 1"):
        Value(2.0).exp(3.0)


@pytest.mark.parametrize(
    "partials",
    [
        lambda y, a, b: (b,),
        lambda y, a, b: (b, a, a),
        lambda y, a, b: b,  # the comma forgotten
        lambda y, a, b: (b if a > 0 else 0.0,),  # a Symbol cannot be asked
        lambda y, a, b: b if a > 0 else 0.0,
    ],
)
def test_a_wrong_number_of_partials_is_refused_by_the_operations_name(partials):
    product = operation("product", lambda a, b: a * b, partials)
    x = Value(3.0)
    y = product(x, x + 1)
    for differentiate in (y.backward, lambda: mg.grad(y, x), lambda: mg.jvp(y, [x], [1.0])):
        with pytest.raises(TypeError, match="partials of operation 'product'.*tuple of 2"):
            differentiate()
    assert x.grad == 0.0


class Slope:
    def __call__(self, y, x):
        return (3 * x * x,)

    def method(self, y, x):
        return self(y, x)


@pytest.mark.parametrize(
    "partials",
    [
        Slope(),
        Slope().method,
        functools.partial(lambda n, y, x: (n * x * x,), 3),
        lambda y, x, n=3: (n * x * x,),
        functools.lru_cache(lambda y, x: (3 * x * x,)),
    ],
)
def test_partials_may_be_anything_that_is_called(partials):
    third_power = operation("third_power", lambda x: x * x * x, partials)
    x = Value(2.0)
    third_power(x).backward()
    assert third_power.arity == 1 and x.grad == 12.0
    assert mg.grad(mg.grad(third_power(x), x), x).data == 12.0
    many = operation(
        "many", lambda *xs: sum(xs), functools.partial(lambda y, *xs: (1.0,) * len(xs))
    )
    assert many.arity is None


def test_an_operation_that_no_module_holds_is_not_pickled():
    local = operation("local", lambda x: x, lambda y, x: (1.0,))
    with pytest.raises(TypeError, match="local.*top level"):
        pickle.dumps(local)
