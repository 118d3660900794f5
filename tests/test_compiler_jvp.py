"""Forward mode of compiled programs: against the scalar graph's own, and against the gradient.

On every model of recorded_models.py, as arrays and as lines of Python: `jvp` of a program is the
engine's `jvp` row by row, along parameters and along inputs; and <J t, 1/rows> = <gradient, t>,
which ties forward mode to backward without a third opinion.
"""

import math
import threading

import numpy as np
import pytest
from engines import Model, assert_agree, carried_out_as, flat
from recorded_models import MODELS, classifier

import micrograd_scratch as mg
from micrograd_scratch import Value, compile, dot, log, operation, recompute, sin, sqrt, where
from micrograd_scratch.compiler import interpret
from micrograd_scratch.compiler.record import record
from micrograd_scratch.compiler.schedule import schedule
from micrograd_scratch.compiler.tangent import tangent_graph

FORMS = ("arrays", "lines", "vectors")
every_form = pytest.mark.parametrize("form", FORMS)


def along(model: Model, arrays, directions, wrt):
    """(values, tangents), each (rows, outputs), by the scalar engine, row after row."""
    cells = [flat(given) for given in model.inputs]
    xs = model.leaves if wrt == "parameters" else [x for some in cells for x in some]
    values, tangents = [], []
    for r in range(len(arrays[0]) if arrays else 1):
        for some, array in zip(cells, arrays, strict=True):
            for x, number in zip(some, np.ravel(array[r]).tolist(), strict=True):
                x.data = float(number)
        recompute(*model.results)
        way = directions
        if wrt == "inputs":
            way = np.concatenate([np.ravel(t[r]) for t in directions])
        values.append([y.data for y in model.results])
        tangents.append(mg.jvp(model.results, xs, np.asarray(way).tolist()))
    return np.array(values), np.array(tangents)


@pytest.mark.parametrize(("name", "form"), [(name, form) for name in MODELS for form in FORMS])
def test_both_directions_on_every_model(name, form):
    model = MODELS[name]()
    rng = np.random.default_rng(3)
    arrays = model.feed(rng, 3)
    ways = {"parameters": rng.normal(size=len(model.leaves))}
    if arrays:
        ways["inputs"] = [rng.normal(size=x.shape) for x in arrays]
    with carried_out_as(form):
        program = model.compile()
        for wrt, way in ways.items():
            tangent = way[0] if wrt == "inputs" and len(way) == 1 else way
            values, tangents = program.jvp(*arrays, tangent=tangent, wrt=wrt)
            expected, expected_tangents = along(model, arrays, way, wrt)
            assert np.shape(values) == np.shape(tangents) == np.shape(program(*arrays))
            values, tangents = (np.reshape(a, expected.shape) for a in (values, tangents))
            for j in range(expected.shape[1]):
                assert_agree(values[:, j], expected[:, j])
                scale = np.abs(expected_tangents[:, j]).max()
                assert_agree(tangents[:, j], expected_tangents[:, j], 1e-12, wrt, scale)
            if isinstance(model.outputs, Value):
                _, gradient = program.value_and_grad(*arrays, wrt=wrt)
                gradient = gradient if isinstance(gradient, list) else [gradient]
                way = way if isinstance(way, list) else [way]
                terms = [(g * t).sum() for g, t in zip(gradient, way, strict=True)]
                size = sum(np.abs(g * t).sum() for g, t in zip(gradient, way, strict=True))
                assert_agree(tangents.mean(), sum(terms), 1e-12, "transpose", size)


@every_form
def test_single_precision(form):
    model = classifier()
    arrays = model.feed(np.random.default_rng(0), 4)
    tangent = np.random.default_rng(1).normal(size=len(model.leaves))
    with carried_out_as(form):
        expected = model.compile().jvp(*arrays, tangent=tangent)
        got = model.compile("float32").jvp(*arrays, tangent=tangent)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == np.float32
        assert_agree(ours, theirs, 1e-5, scale=float(np.abs(theirs).max()))


# ---------------------------------------------------------------- the graph
def test_the_tangent_of_a_product_and_a_sum():
    """y = w * x + b along (w, b): y' = w' * x + b', two nodes; x has no tangent."""
    w, x, b = Value(2.0), Value(3.0), Value(5.0)
    graph = record([w * x + b], [x], [w, b])
    tangents, conditional = tangent_graph(graph, schedule(graph), 2)
    assert not conditional
    assert tangents.count() == graph.count() + 2
    numbers = interpret.evaluate(tangents, [2.0, 5.0, 10.0, 100.0], [3.0])
    assert [numbers[i] for i in tangents.outputs] == [11.0, 130.0]


def test_partials_that_nobody_asks_for_are_not_in_the_graph():
    w, x = Value(2.0), Value(3.0)
    graph = record([w**x], [x], [w])
    tangents, _ = tangent_graph(graph, schedule(graph), 1)
    assert "log" not in {row.name for row in tangents.rows}  # dy/dx is y * log(w)


def test_a_layer_and_its_tangent_are_one_product():
    """W x and W' x: the compiler finds that they share x."""
    W = [[Value(0.1 * (i + j)) for j in range(3)] for i in range(4)]
    x = [Value(0.0) for _ in range(3)]
    program = compile([dot(row, x) for row in W], [x], [w for row in W for w in row])
    program.jvp(np.ones((5, 3)), tangent=np.ones(12))
    along = program._along(False)[0]
    [step] = along._compiled(False).layout.steps
    assert step.form == "product" and step.nodes.shape == (8, 1)
    assert "p = theta[0:24].reshape(8, 3)" in along._compiled(False).source


def test_constants_are_computed_when_the_graph_is_made():
    """The slope of x ** 3 is 3 * x ** 2: neither `3 == 0` nor `3 - 1` is asked at run time."""
    x = Value(2.0)
    graph = record([x**3.0], [], [x])
    tangents, _ = tangent_graph(graph, schedule(graph), 1)
    assert [tangents.rows[op].name for op in tangents.op if op] == ["**", "**", "*", "*"]


# ---------------------------------------------------------------- hard arguments
@every_form
def test_a_singularity_behind_where_stays_behind_it(form):
    """The branch not taken is infinite, or raises; what is reached conditionally meets inf."""
    x, w = Value(1.0), Value(2.0)
    guarded = where(x > 0, log(x) * w + sqrt(x), w * x)
    steep = sqrt(where(x > 0, x * w, 0.0))  # at x <= 0 the slope of sqrt is inf, and w not reached
    for output in (guarded, steep, guarded + steep):
        with carried_out_as(form):
            program = compile(output, [x], [w])
            rows = np.array([1.0, 0.0, -2.0, 4.0])
            for wrt, tangent in (("parameters", np.array([0.5])), ("inputs", np.full(4, 0.5))):
                values, tangents = program.jvp(rows, tangent=tangent, wrt=wrt)
                for number, value, got in zip(rows.tolist(), values, tangents, strict=True):
                    x.data = number
                    recompute(output)
                    assert value == pytest.approx(output.data, rel=1e-12)
                    of = w if wrt == "parameters" else x
                    assert got == pytest.approx(mg.jvp(output, [of], [0.5]), rel=1e-12)


def test_a_rule_that_branches_on_numbers():
    def slopes(y, a, b):
        return (2.0 * a if a > 0 else None, 1.0)

    bent = operation("bent", lambda a, b: (a * a if a > 0 else 0.0) + b, slopes)
    x, w = Value(1.0), Value(2.0)
    program = compile(sin(bent(w * x, x)), [x], [w])
    rows = np.array([1.5, -0.5, 2.5])
    for form in FORMS:
        with carried_out_as(form):
            values, tangents = program.jvp(rows, tangent=np.array([3.0]))
        inner = np.where(rows > 0, (2.0 * rows) ** 2, 0.0) + rows
        np.testing.assert_allclose(values, np.sin(inner), rtol=1e-14)
        slope = np.where(rows > 0, 2.0 * (2.0 * rows) * rows, 0.0)
        np.testing.assert_allclose(tangents, np.cos(inner) * slope * 3.0, rtol=1e-14)


@every_form
def test_overflow_is_infinite_as_in_the_scalar_graph(form):
    x, w = Value(1.0), Value(1.0)
    y = mg.exp(w * x) + w
    with carried_out_as(form):
        values, tangents = compile(y, [x], [w]).jvp(np.array([1.0, 1000.0]), tangent=[1.0])
    assert values[1] == tangents[1] == math.inf
    assert tangents[0] == pytest.approx(math.e + 1.0, rel=1e-15)


@every_form
def test_anomalies_are_found(form):
    x, w = Value(1.0), Value(1.0)
    with carried_out_as(form):
        program = compile(sqrt(w * x), [x], [w])
        program.jvp(np.array([0.0, 1.0]), tangent=[1.0])
        with mg.detect_anomaly(), pytest.raises(mg.AnomalyError, match=r"is (inf|nan) in row 0"):
            program.jvp(np.array([0.0, 1.0]), tangent=[1.0])


# ---------------------------------------------------------------- calls
def test_shapes_and_refusals():
    model = MODELS["two-headed-rows"]() if "two-headed-rows" in MODELS else classifier()
    arrays = model.feed(np.random.default_rng(0), 2)
    program = model.compile()
    tangent = np.ones(len(model.leaves))
    value, along = program.jvp(*(x[0] for x in arrays), tangent=tangent)
    assert type(value) is type(along) is float
    values, alongs = program.jvp(*arrays, tangent=tangent.tolist())
    assert values[0] == pytest.approx(value, rel=1e-12)
    assert alongs[0] == pytest.approx(along, rel=1e-12)
    with pytest.raises(ValueError, match="'parameters' or 'inputs'"):
        program.jvp(*arrays, tangent=tangent, wrt="weights")
    with pytest.raises(ValueError, match="tangent has shape"):
        program.jvp(*arrays, tangent=tangent[:-1])
    with pytest.raises(ValueError, match="takes 2 inputs"):
        program.jvp(arrays[0], tangent=tangent)
    wrong = [np.zeros_like(arrays[0]), np.zeros((2, 99))]
    with pytest.raises(ValueError, match="tangent of .* has shape"):
        program.jvp(*arrays, tangent=wrong, wrt="inputs")
    for single in (arrays[:1], 1.0, np.float64(1.0)):
        with pytest.raises(ValueError, match="tangent is .*: give a list of 2, an array for each"):
            program.jvp(*arrays, tangent=single, wrt="inputs")


def test_threads_have_directions_of_their_own():
    model = classifier()
    arrays = model.feed(np.random.default_rng(0), 3)
    program = model.compile()
    ways = np.random.default_rng(1).normal(size=(4, len(model.leaves)))
    expected = [program.jvp(*arrays, tangent=way)[1] for way in ways]
    wrong = []

    def work(k):
        for _ in range(50):
            if not np.array_equal(program.jvp(*arrays, tangent=ways[k])[1], expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_answers_of_an_earlier_call_stay():
    w = Value(2.0)
    program = compile(w * w)
    first = program.jvp(tangent=[1.0])
    second = program.jvp(tangent=[3.0])
    assert first == (4.0, 4.0) and second == (4.0, 12.0)
