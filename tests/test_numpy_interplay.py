"""NumPy and Values: scalars on either side, object arrays, and which ufuncs keep the history.

Arrays of Values are a convenience of NumPy's object arrays; speed comes from `compile`.
"""

import operator

import numpy as np
import pytest

import micrograd_scratch as mg
from micrograd_scratch import Value

# ufunc: how Value calls the operation it becomes
ONE = {
    **dict.fromkeys(("abs", "absolute", "fabs"), "abs"),
    **{f: f for f in ("exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt")},
    **{f: f for f in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{"arc" + f: "a" + f for f in ("sin", "cos", "tan", "sinh", "tanh")},
    **{f: f for f in ("floor", "ceil", "trunc")},
    "rint": "round",
    "negative": "neg",
    "square": "*",
    "reciprocal": "/",
}
TWO = {
    **{"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/"},
    **{"power": "**", "remainder": "%", "mod": "%", "floor_divide": "//"},
    **{"arctan2": "atan2", "hypot": "hypot", "fmod": "fmod"},
}
COMPARISONS = {
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
}
ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
ARITHMETIC += [operator.mod, operator.floordiv]


def values(*numbers):
    return np.array([Value(x) for x in numbers])


@pytest.mark.parametrize("name", ONE)
def test_a_ufunc_of_one_argument_is_the_operation(name):
    ufunc = getattr(np, name)
    for x in (0.3, 0.7):
        for y in (ufunc(Value(x)), ufunc(values(x))[0]):
            assert type(y) is Value and y.op == ONE[name]
            assert y.data == pytest.approx(float(ufunc(x)), rel=1e-15, abs=0)
    assert np.arccosh(Value(2.0)).op == "acosh" and (+values(1.0))[0].data == 1.0


@pytest.mark.parametrize("name", TWO)
def test_a_ufunc_of_two_arguments_is_the_operation(name):
    ufunc = getattr(np, name)
    expected = pytest.approx(float(ufunc(2.3, 0.7)), rel=1e-15, abs=0)
    a, b = Value(2.3), Value(0.7)
    for y in (ufunc(a, b), ufunc(a, 0.7), ufunc(values(2.3), b)[0], ufunc(values(2.3), [0.7])[0]):
        assert type(y) is Value and y.op == TWO[name] and y.data == expected


@pytest.mark.parametrize("number", [np.float64(2.5), np.float32(2.5), np.int64(3), np.array(2.5)])
def test_numpy_scalars_on_either_side(number):
    v = Value(1.7)
    for apply in ARITHMETIC:
        for y, expected in [
            (apply(v, number), apply(1.7, float(number))),
            (apply(number, v), apply(float(number), 1.7)),
        ]:
            assert type(y) is Value and type(y.data) is float
            assert y.data == pytest.approx(expected, rel=1e-15, abs=0)
            y.backward()
            assert v.grad != 0.0 or apply is operator.floordiv
            v.grad = 0.0


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_with_numpy_scalars_stay_in_the_graph(name):
    """NumPy by itself would turn `np.float64(1) < v` into a plain bool, and lose the condition."""
    compare, ufunc = COMPARISONS[name], getattr(np, name)
    for number in (np.float64(1.0), np.int64(2), np.float32(3.0)):
        v = Value(2.0)
        for y, expected in [
            (compare(number, v), compare(float(number), 2.0)),
            (compare(v, number), compare(2.0, float(number))),
            (ufunc(number, v), compare(float(number), 2.0)),
            (ufunc(v, v), compare(2.0, 2.0)),
        ]:
            assert type(y) is Value and y.data == float(expected) and any(p is v for p in y.parents)


def test_arrays_of_any_shape_are_left_to_numpy():
    v = Value(2.0)
    for array in (np.ones(3), np.ones((2, 2)), np.ones((1, 1), dtype=int)):
        for y in (v * array, array * v, v + array, array - v, v / array, array**v, v**array):
            assert isinstance(y, np.ndarray) and y.dtype == object and y.shape == array.shape
            assert all(type(e) is Value for e in y.flat)
    with pytest.raises(TypeError, match="each element"):
        Value(np.ones(3))


def test_linear_algebra_on_object_arrays():
    draw = np.random.default_rng(0)
    W, x = draw.normal(size=(3, 4)), draw.normal(size=4)
    Wv, xv = np.vectorize(Value)(W), np.vectorize(Value)(x)
    loss = np.tanh(Wv @ xv).sum() * 1.7
    assert loss.data == pytest.approx(1.7 * np.tanh(W @ x).sum(), rel=1e-14, abs=0)
    loss.backward()
    delta = 1.7 * (1 - np.tanh(W @ x) ** 2)
    np.testing.assert_allclose(
        [[w.grad for w in row] for row in Wv], np.outer(delta, x), rtol=1e-13
    )
    np.testing.assert_allclose([v.grad for v in xv], W.T @ delta, rtol=1e-13)
    assert (W @ xv)[0].data == pytest.approx((W @ x)[0], rel=1e-14, abs=0)
    assert np.dot(xv, xv).data == pytest.approx(x @ x, rel=1e-14, abs=0)
    assert xv.mean().data == pytest.approx(x.mean(), rel=1e-14, abs=0)
    assert (Wv * 2 + xv)[1, 2].data == W[1, 2] * 2 + x[2]
    assert np.cumsum(xv)[-1].data == pytest.approx(x.sum(), rel=1e-14, abs=0)


def test_the_largest_of_an_array_is_one_of_its_values():
    xs = values(1.0, 3.0, 2.0)
    assert xs.max() is xs[1] and xs.min() is xs[0] and np.sort(xs)[1] is xs[2]
    assert np.argmax(xs) == 1


@pytest.mark.parametrize(
    "name", ["cbrt", "logaddexp2", "heaviside", "deg2rad", "isnan", "nextafter"]
)
def test_ufuncs_without_an_operation_are_refused(name):
    ufunc = getattr(np, name)
    with pytest.raises(TypeError):
        ufunc(*[Value(0.5)] * ufunc.nin)


def test_an_array_of_values_does_not_turn_into_floats():
    with pytest.raises(TypeError, match=r"\.data"):
        values(1.0, 2.0).astype(float)
    with pytest.raises(TypeError, match=r"\.data"):
        np.array([Value(1.0)], dtype=float)


@pytest.mark.parametrize("f", [mg.sigmoid, mg.relu, mg.erf, mg.gelu, mg.exp, mg.softplus])
def test_the_functions_of_the_package_take_arrays_of_values(f):
    xs = values(0.0, -1.5, 2.5)
    for x, y in zip(xs, f(xs), strict=True):
        assert (y.op, y.data, y.parents) == (f.name, f(x.data), (x,))
    assert (mg.hypot(xs, 2.0)[1] + mg.hypot(2.0, xs)[1]).data == 5.0  # beside a number


def test_only_comparisons_with_a_value_itself_are_recorded():
    xs, numbers, v = values(1.0, 9.0), np.array([1.0, 9.0]), Value(3.0)
    for compare in COMPARISONS.values():
        for array in (xs, numbers):
            both = (*compare(array, v), *compare(v, array))
            assert all(isinstance(y, Value) for y in both)
            assert [y.data for y in both] == [*compare(numbers, 3.0), *compare(3.0, numbers)]
        for other in (3.0, numbers, xs):
            assert compare(xs, other).dtype == bool


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_silent():
    """As our own operators are, NumPy's number on the left or its function around a Value."""
    low, zero, high = Value(-1.0), Value(0.0), Value(1e300)
    two = np.array([0.0, 1.0])
    found = [
        np.float64(-8.0) ** Value(1 / 3),
        np.float64(0.0) / zero,
        np.float64(np.inf) * zero,
        np.sqrt(low),
        np.arcsin(Value(2.0)),
        (two / zero)[0],
        (values(0.0, 1.0) / zero)[0],
        mg.sqrt(values(-1.0))[0],
    ]
    assert all(np.isnan(y.data) for y in found)
    assert np.square(high).data == (np.float64(1e300) * high).data == np.inf


def test_long_doubles_and_divmod_on_either_side():
    v = Value(3.0)
    for two in (np.longdouble(2), np.float64(2), np.int8(2), 2):
        for operation in (*ARITHMETIC, *COMPARISONS.values()):
            expected = operation(2.0, 3.0), operation(3.0, 2.0)
            assert (operation(two, v).data, operation(v, two).data) == expected
        assert [y.data for y in (*divmod(two, v), *divmod(v, two))] == [0.0, 2.0, 1.0, 1.0]
    assert (np.array([2, 3], np.longdouble) @ values(4.0, 5.0)).data == 23.0
    assert [y.data for y in np.array([2, 3], np.longdouble) * v] == [6.0, 9.0]
