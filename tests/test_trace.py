"""compile(f): guards, errors with a line, and never a number that is silently wrong.

Every function here is checked against itself, run eagerly row by row. It leaves out the numbers of
plain programs: test_compiler.py.
"""

import copy
import inspect
import pickle
import random
import threading
import time

import numpy as np
import pytest

import micrograd_scratch as mg
from micrograd_scratch import MLP, Value, compile, dot, losses, relu, tanh, total
from micrograd_scratch.compiler import TraceError

X = np.array([[0.5, -1.5], [-0.3, 0.7], [2.5, 1.2], [-2.0, -0.1], [0.9, 0.8]])
ATTRIBUTES = ("data", "grad", "__bool__", "__init__")
ORIGINAL = {name: Value.__dict__[name] for name in ATTRIBUTES}


@pytest.fixture(autouse=True)
def restored():
    """Whatever happens in a trace, the class is as it was."""
    yield
    assert all(Value.__dict__[name] is ORIGINAL[name] for name in ATTRIBUTES)


def as_values(nested):
    return [as_values(x) for x in nested] if isinstance(nested, list) else Value(nested)


def check(f, arrays, parameters, program=None):
    """Values, gradients by parameters and by inputs are those of f, run row by row."""
    program = program or compile(f, parameters=parameters)
    rows = [[as_values(a[r].tolist()) for a in arrays] for r in range(len(arrays[0]))]
    answers = [f(*row) for row in rows]
    np.testing.assert_allclose(program(*arrays), [y.data for y in answers], rtol=1e-12, atol=1e-12)
    expected = np.mean([[g.data for g in mg.grad(y, parameters)] for y in answers], axis=0)
    mean, g = program.value_and_grad(*arrays)
    assert mean == pytest.approx(np.mean([y.data for y in answers]), rel=1e-12)
    np.testing.assert_allclose(g, expected, rtol=1e-12, atol=1e-12)
    out = np.full(len(parameters), np.nan)
    assert program.value_and_grad(*arrays, out=out)[1] is out
    np.testing.assert_array_equal(out, g)
    _, by_inputs = program.value_and_grad(*arrays, wrt="inputs")
    by_inputs = by_inputs if len(arrays) > 1 else [by_inputs]
    for position, found in enumerate(by_inputs):
        for r, (row, y) in enumerate(zip(rows, answers, strict=True)):
            leaves = row[position] if isinstance(row[position], list) else [row[position]]
            slopes = [d.data / len(rows) for d in mg.grad(y, leaves)]
            np.testing.assert_allclose(found[r].reshape(-1), slopes, rtol=1e-12, atol=1e-12)
    return program


# ---------------------------------------------------------------- truths of every kind
def branch(x, w):
    return x[0] * w[0] if x[0] > 0 else x[1] * w[1]


def both(x, w):
    return tanh(x[0]) * w[0] if x[0] > 0 and x[1] > 0 else w[1] * x[0]


def either(x, w):
    return x[1] * w[0] if x[0] > w[0] or not x[1] < 0.5 else w[1] * x[0]


def loop(x, w):
    y, turns = x[0] * x[0] + w[0] * w[0] + 3, 0
    while y > 1:
        y, turns = y / 2, turns + 1
    return y * turns + w[1]


def ordered(x, w):
    smallest, *_, largest = sorted([x[0] * w[0], x[1], w[1]])
    return smallest * 3 + largest


def builtin(x, w):
    return max(x[0], x[1] * w[0], w[1]) * 2 + min(x) * w[0]


def chained(x, w):
    return x[0] * w[0] if -1 < x[0] <= x[1] < 2 else w[1] * x[1]


def counted(x, w):
    return w[0] * sum(1 for v in x if v > 0) + x[0] * w[1]


def asserted(x, w):
    assert x[0] < 100
    return x[0] * w[0] + w[1]


def truth(x, w):
    return x[0] * w[0] if mg.relu(x[0]) else w[1] * w[1]


def matched(x, w):
    return w[0] if 0.5 in x else x[0] * w[1]


def any_all(x, w):
    return w[0] * x[0] if any(v > 1 for v in x) else w[1] if all(v < 0 for v in x) else x[1]


KINDS = [branch, both, either, loop, ordered, builtin, chained, counted, asserted, truth, matched]


@pytest.mark.parametrize("kind", [*KINDS, any_all], ids=lambda f: f.__name__)
def test_truths(kind):
    w = [Value(0.6), Value(-1.1)]
    program = check(lambda x: kind(x, w), [X], w)
    assert program.plain is None
    for order in ([4, 3, 2, 1, 0], [2], [0, 0, 3]):
        check(lambda x: kind(x, w), [X[order]], w, program)


def test_guards_follow_the_parameters():
    w = [Value(0.6), Value(-1.1)]

    def f(x):
        return x[0] * w[0] if w[1] * x[1] > w[0] else x[1] * w[1] * w[1]

    program = check(f, [X], w)
    for theta in ([-0.5, 0.3], [2.0, 2.0], [0.0, 0.0]):
        pure = program.value_and_grad(X, parameters=np.array(theta))
        program.assign(theta)
        check(f, [X], w, program)
        again = program.value_and_grad(X)
        assert pure[0] == again[0] and pure[1].tolist() == again[1].tolist()


def test_the_first_call_is_traced_at_theta():
    w = Value(1.0)
    program = compile(lambda x: x * w if w > 0 else x * w * w * 10)
    assert program(np.ones(2), parameters=np.array([-2.0])).tolist() == [40.0, 40.0]
    assert w.data == 1.0 and program(np.ones(1)).tolist() == [1.0]
    with pytest.raises(ValueError, match=r"parameters has shape \(2,\)"):
        compile(lambda x: x * w)(np.ones(2), parameters=np.ones(2))


def test_another_path_may_bring_parameters():
    w, v = Value(2.0), Value(3.0)
    program = compile(lambda x: x * w if x > 0 else x * v)
    assert program.value_and_grad(np.array([1.0]))[1].tolist() == [1.0]
    assert program.parameters == [w]
    value, g = program.value_and_grad(np.array([1.0, -1.0]))
    assert program.parameters == [w, v] and (value, g.tolist()) == (-0.5, [0.5, -0.5])


def test_a_guard_that_is_out_of_range_for_other_rows():
    w = [Value(1.0), Value(-2.0)]

    def f(x, i):
        if i < 2:
            return x * 2 if mg.take(w, i) > 0 else x * 3
        return x * 4

    program = compile(f, parameters=w)
    assert program(np.ones(4), np.array([0.0, 5.0, 1.0, 9.0])).tolist() == [2, 4, 3, 4]


def test_nan_and_the_edge_of_a_guard():
    program = compile(lambda x: x * 2 if x > 0.3 else x * 5, parameters=[])
    found = program(np.array([np.nan, np.inf, 0.3, np.nextafter(0.3, 1)]))
    assert np.isnan(found[0]) and found[1:3].tolist() == [np.inf, 1.5]
    assert found[3] == 2 * np.nextafter(0.3, 1)


def test_a_row_on_the_edge_does_not_make_a_path_each_time():
    w = [Value(0.1), Value(0.2), Value(0.3)]
    program = compile(lambda x: x if dot(w, [1.0, 1.0, 1.0]) == x else -x, dtype="float32")
    for _ in range(3):
        program(np.array([0.1 + 0.2 + 0.3]))
    assert len(program.programs) <= 2


def test_too_many_paths(monkeypatch):
    monkeypatch.setattr("micrograd_scratch.compiler.trace.MOST_PATHS", 5)

    def f(x):
        y = x
        while y > 1:
            y = y / 2
        return y

    with pytest.raises(TraceError, match="more than 5 different paths"):
        compile(f)(2.0 ** np.arange(10))


# ---------------------------------------------------------------- numbers that would be frozen
def jvp_inside(x, w):
    return x * mg.jvp(relu(w * x), [x], [1.0])


def gradient_inside(x, w):
    relu(x * w).backward()
    return x * w


READS = {
    "data": lambda x, w: w * x.data,
    "item": lambda x, w: w * x.item(),
    "parameter": lambda x, w: x * w.data,
    "getattr": lambda x, w: w * getattr(x, "data"),  # noqa: B009
    "format": lambda x, w: w * x * len(f"{x:.0f}"),
    "str": lambda x, w: w * x * len(f"{x}"),
    "repr": lambda x, w: w * x * len(repr([x])),
    "grad": lambda x, w: x * w.grad,
    "jvp": jvp_inside,
    "backward": gradient_inside,
    "write": lambda x, w: setattr(w, "data", 3.0) or w * x,
    "zero_grad": lambda x, w: setattr(w, "grad", 0.0) or w * x,
    "pickle": lambda x, w: w * x * len(pickle.dumps(x)),
    "copy": lambda x, w: w * copy.copy(x),
    "deepcopy": lambda x, w: w * copy.deepcopy(x * 2),
}


@pytest.mark.parametrize("kind", READS)
def test_reads_and_writes_name_their_line(kind):
    w, f = Value(2.0), READS[kind]
    line = inspect.getsourcelines(f)[1]
    with pytest.raises(TraceError, match=r"test_trace.py:(\d+) ") as caught:
        compile(lambda x: f(x, w))(np.ones(3))
    assert abs(int(str(caught.value).split(":")[1].split()[0]) - line) <= 1
    for word in ("detach", "where", "maximum"):
        assert word in str(caught.value)
    assert w.data == 2.0 and w.grad == 0.0


def test_a_read_that_is_caught_is_still_an_error():
    def f(x):
        try:
            return x * x.data
        except RuntimeError:
            return x * 3.0

    with pytest.raises(TraceError, match="reads the number"):
        compile(f)(np.ones(2))


@pytest.mark.parametrize("convert", [float, int, complex, range, np.float64])
def test_conversions_are_refused(convert):
    with pytest.raises(TypeError):
        compile(lambda x: x * convert(x))(np.ones(2))


GENERATORS = {
    "global": lambda x: x * random.random(),
    "coin": lambda x: x if random.random() < 2 else -x,
    "guard": lambda x: x if x > random.random() - 9 else -x,
    "numpy": lambda x: x * 1.0 if np.random.rand() < 2 else x,
    "time": lambda x: x * time.perf_counter(),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_what_changes_from_run_to_run(kind):
    with pytest.raises(TraceError, match="come in as"):
        compile(GENERATORS[kind])(np.full(2, 0.3))


def test_generators_of_ones_own_and_counters():
    rng, numpy_rng, seen = random.Random(0), np.random.default_rng(0), []

    def counted_guard(x):
        seen.append(0)
        return x if x > -len(seen) else -x

    def shuffled(x):
        pair = [x, tanh(x)]
        seen.append(0)
        return pair if len(seen) % 2 else pair[::-1]

    for f in (
        lambda x: x if rng.random() < 2 else -x,
        lambda x: x if numpy_rng.random() < 2 else -x,
        lambda x: x * len(seen) if not seen.append(0) else x,
        counted_guard,
        shuffled,
    ):
        with pytest.raises(TraceError, match="come in as"):
            compile(f)(np.full(2, 0.3))


def test_what_outlives_a_run():
    made, kept = [], []

    def lazy(x):
        if not made:
            made.append(Value(2.0))
        return x * made[0]

    def memo(x):
        if not kept:
            kept.append(x * 2)
        return kept[0] + x

    for f, message in ((lazy, "makes the leaf .* and keeps it"), (memo, "different leaves")):
        program = compile(f)
        with pytest.raises(TraceError, match=message):
            program(np.full(2, 0.3))
        with pytest.raises(RuntimeError):
            _ = program.parameters  # a trace that failed leaves nothing behind


def test_a_number_in_a_closure_may_change():
    scale, frozen = 2.0, Value(3.0)
    w = Value(5.0)
    program = compile(lambda x: x * w * scale * frozen, parameters=[w])
    assert program(np.ones(1)).tolist() == [30.0]
    scale = 4.0
    assert program(np.ones(1)).tolist() == [60.0]
    frozen.data = 1.0  # not a parameter, yet a Value
    assert program(np.ones(1)).tolist() == [20.0]


def test_a_branch_on_a_node_from_before_is_not_stale():
    w = Value(1.0)
    h = w * 2
    program = compile(lambda x: x if h > 0 else -x, parameters=[w])
    assert program(np.ones(1)).tolist() == [1.0]
    w.data = -1.0
    with pytest.raises(TraceError, match="compute it inside"):
        program(np.ones(1))


def test_contexts_around_and_inside():
    w = Value(0.0)
    program = compile(lambda x: x * w + w)
    with mg.no_grad():
        assert program(np.ones(2)).tolist() == [0.0, 0.0]
    assert program.value_and_grad(np.ones(2))[1].tolist() == [2.0]

    def inside(x):
        with mg.no_grad():
            c = x * 2
        return c * w

    with pytest.raises(TraceError, match=r"test_trace.py:\d+ computes inside no_grad"):
        compile(inside)(np.ones(2))


def test_one_compiled_function_inside_another():
    inner = compile(lambda x: x * 2)
    with pytest.raises(TypeError, match="call the function itself"):
        compile(lambda x: inner(x))(np.ones(2))
    with pytest.raises(TraceError, match="inside another"):
        compile(lambda x: x * inner(np.ones(1))[0])(np.ones(2))
    assert compile(lambda x: inner.function(x))(np.ones(2)).tolist() == [2.0, 2.0]


# ---------------------------------------------------------------- what f takes and returns
def test_what_f_returns():
    w = Value(2.0)
    assert compile(lambda x: x)(np.array([3.0, 4.0])).tolist() == [3.0, 4.0]
    assert compile(lambda x: w)(np.array([3.0, 4.0])).tolist() == [2.0, 2.0]
    assert compile(lambda x: Value(7.0))(np.ones(2)).tolist() == [7.0, 7.0]
    assert compile(lambda x: [x, w, x * w])(np.ones(2)).tolist() == [[1, 2, 2], [1, 2, 2]]
    assert compile(lambda x: np.array([x, w]))(np.ones(2)).tolist() == [[1, 2], [1, 2]]
    assert compile(lambda: w * 3)() == 6.0
    assert compile(lambda: [w, w * 3])().tolist() == [2.0, 6.0]
    for wrong in (3.0, None, [], [w, 1.0], "x", [[w]], {"a": w}):
        with pytest.raises(TypeError, match="must return a Value or a list"):
            compile(lambda x: wrong)(np.ones(2))  # noqa: B023
    for f in (lambda x: [x, x] if x > 0 else [x], lambda x: [x, x] if x > 0 else x):
        with pytest.raises(TraceError, match="list of 2 for some rows"):
            compile(f)(np.array([1.0, -1.0]))


def test_shapes():
    program = compile(lambda m, x: [dot(row, x) for row in m])
    M, V = np.arange(24.0).reshape(4, 2, 3), np.ones((4, 3))
    np.testing.assert_allclose(program(M, V), M.sum(axis=2))
    assert program(np.ones((2, 5, 1)), np.ones((2, 1))).shape == (2, 5)
    assert len(program.programs) == 2
    sums = compile(lambda m: total([total(row) for row in m]))
    assert sums.value_and_grad(M, wrt="inputs")[1].shape == M.shape


def test_wrong_arguments_name_the_input():
    program = compile(lambda pixels, y: total(pixels) * y)
    with pytest.raises(ValueError, match=r"y has shape \(3,\), but pixels has \(2, 4\)"):
        program(np.ones((2, 4)), np.ones(3))
    with pytest.raises(ValueError, match="y is a number"):
        program(np.ones((2, 4)), 1.0)
    with pytest.raises(ValueError, match="no rows"):
        program(np.ones((0, 4)), np.ones(0))
    with pytest.raises(TypeError, match="'y'"):
        program(np.ones((2, 4)))
    with pytest.raises(ValueError, match="single output"):
        compile(lambda x: [x]).value_and_grad(np.ones(1))
    with pytest.raises(ValueError, match="twice"):
        w = Value(1.0)
        compile(lambda x: x * w, parameters=[w, w])
    with pytest.raises(ValueError, match="dtype"):
        compile(lambda x: x, dtype="int32")


def test_classes_are_not_nudged_and_are_named():
    model = MLP(3, [5, 4], activation="tanh", rng=random.Random(0))
    program = compile(lambda x, y: losses.cross_entropy(model(x), y))
    rng = np.random.default_rng(0)
    inputs, classes = rng.normal(size=(6, 3)), np.array([0, 1, 2, 3, 1, 0])
    assert program(inputs, classes).shape == (6,) and program.plain is not None
    assert set(program.parameters) == set(model.parameters())
    for rows in (slice(None), slice(1)):
        for fresh in (program, compile(program.function)):
            with pytest.raises(IndexError, match="y 7 is not one of the integers 0 to 3"):
                fresh(inputs[rows], np.full(6, 7)[rows])
    mixed = compile(lambda x: mg.take([x[0], x[0] * 2], x[1]))  # a class among numbers
    assert mixed(np.array([[0.5, 1], [0.25, 0]])).tolist() == [1.0, 0.25]


def test_no_parameters_jvp_backward_text():
    program = compile(lambda x: x * x if x > 0 else x)
    value, g = program.value_and_grad(np.array([2.0, -1.0]))
    assert (value, g.shape) == (1.5, (0,))
    w = Value(3.0)
    program = compile(lambda x: x * w * w if x > 0 else x * w)
    assert str(program) == "not called yet" and program.source == ""
    values, along = program.jvp(np.array([2.0, -1.0]), tangent=[1.0])
    assert values.tolist() == [18.0, -3.0] and along.tolist() == [12.0, -1.0]
    assert program.backward(np.array([2.0, -1.0])) == 7.5 and w.grad == 5.5
    assert program.backward(np.array([2.0, -1.0])) == 7.5 and w.grad == 11.0
    assert len(program.programs) == 2 and "scalar node" in str(program)
    assert program.source.strip() and len(program.stages) == 8


def test_pickles():
    w = Value(3.0)
    program = compile(lambda x: x * w)
    program(np.ones(1))
    with pytest.raises(TypeError, match="plain"):
        pickle.dumps(program)
    assert pickle.loads(pickle.dumps(program.plain))(np.ones(2)).tolist() == [3.0, 3.0]


# ---------------------------------------------------------------- exceptions and threads
def test_exceptions_of_f_pass_through_and_leave_nothing():
    w = Value(2.0)

    def f(x):
        if x < 0:
            raise KeyError("negative")
        return x * w

    program = compile(f)
    with pytest.raises(KeyError, match="negative"):
        program(np.array([1.0, -1.0]))
    assert w.data == 2.0 and program(np.ones(2)).tolist() == [2.0, 2.0]
    assert Value(3.0).data == 3.0


def test_other_threads_see_nothing_of_a_trace():
    w, seen = Value(2.0), []
    inside, done = threading.Event(), threading.Event()

    def other():
        inside.wait(5)
        leaf = Value(5.0)
        seen.append((w.data, leaf.data, bool(leaf > 1), f"{w}", (w * leaf).data))
        done.set()

    def f(x):
        inside.set()
        done.wait(5)
        return x * w

    thread = threading.Thread(target=other)
    thread.start()
    program = compile(f)
    assert program(np.ones(1), parameters=None).tolist() == [2.0]
    thread.join()
    assert seen == [(2.0, 5.0, True, "Value(data=2.0, grad=0.0)", 10.0)]
    assert program.plain is not None  # the other thread's truth is no guard


def test_two_threads_call_one_program():
    w = [Value(0.6), Value(-1.1)]
    expected = compile(lambda x: loop(x, w))(X)
    program, answers = compile(lambda x: loop(x, w)), []
    threads = [threading.Thread(target=lambda: answers.append(program(X))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def test_another_object_under_a_name_that_the_function_reads_is_noticed():
    weight = mg.Value(2.0)
    program = mg.compile(lambda x: x * weight)
    assert program(np.ones(2)).tolist() == [2.0, 2.0] and program.parameters == [weight]
    weight = mg.Value(5.0)
    assert program(np.ones(2)).tolist() == [5.0, 5.0]
    assert len(program.parameters) == 1 and program.parameters[0] is weight
    fixed = mg.compile(lambda x: x * weight, parameters=[weight])
    assert fixed(np.ones(1)).tolist() == [5.0]
    before, weight = weight, mg.Value(7.0)
    assert fixed(np.ones(1)).tolist() == [7.0]
    assert fixed.value_and_grad(np.ones(1), parameters=[3.0]) == (7.0, [0.0])
    assert fixed.parameters[0] is before


SCALE = 2.0


def test_what_a_comprehension_or_an_inner_function_reads_is_noticed(monkeypatch):
    weight = mg.Value(1.0)

    def f(xs):
        return total([SCALE * v for v in xs]) + sum((weight * v for v in xs), mg.Value(0.0))

    program = mg.compile(f)
    assert program(np.ones((1, 3))).tolist() == [9.0]
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    assert program(np.ones((1, 3))).tolist() == [18.0]
    weight = mg.Value(2.0)
    assert program(np.ones((1, 3))).tolist() == [21.0] and program.parameters == [weight]


def test_the_sign_of_a_zero_is_noticed():
    zero = 0.0
    program = mg.compile(lambda x: x / zero)
    assert program([1.0]).tolist() == [np.inf]
    zero = -0.0
    assert program([1.0]).tolist() == [-np.inf]


def test_weights_are_not_loaded_while_a_function_is_traced():
    model = MLP(2, [1])
    state = model.state_dict()

    def f(x):
        model.load_state_dict(state)
        return model(x)

    with pytest.raises(TraceError, match=r"test_trace\.py:\d+ writes the number"):
        compile(f)(X)


def test_a_compiled_function_says_what_it_is():
    def slope(x, y):
        return x * y if x > 0 else x

    program = compile(slope)
    assert repr(program) == "<TracedProgram of slope, not called yet>"
    program([1.0], [2.0])
    assert repr(program) == "<TracedProgram of slope(x, y), 1 path so far>"
    program([1.0, -1.0], [2.0, 2.0])
    assert repr(program) == "<TracedProgram of slope(x, y), 2 paths so far>"
    assert repr(compile(MLP(2, [1]))) == "<TracedProgram of MLP, not called yet>"
