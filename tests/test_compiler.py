"""Compiled programs: right on every graph that people record, and well-behaved when called.

Every model of recorded_models.py runs as arrays, as lines of Python and in single precision,
against the scalar graph. Then what a program promises beside its numbers: shapes, errors, purity,
pickles, threads, bits. Random graphs are in test_compiler_random.py, hard arguments in
test_compiled_edge_cases.py, `compile(f)` in the tests of traces.
"""

import ast
import gc
import keyword
import math
import pickle
import random
import re
import threading
import warnings

import numpy as np
import pytest
from engines import Model, assert_agree, carried_out_as, check, compiled, eager, flat
from recorded_models import MODELS, big_transformer, chain, classifier, irregular, vector

import micrograd_scratch as mg
from micrograd_scratch import (
    MLP,
    Value,
    compile,
    dot,
    log,
    losses,
    operation,
    sin,
    sqrt,
    tanh,
    total,
    where,
)
from micrograd_scratch.compiler import execution
from micrograd_scratch.compiler import program as program_module
from micrograd_scratch.operations import only_if

FORMS = ("arrays", "lines", "vectors")
every_form = pytest.mark.parametrize("form", FORMS)


every_model = pytest.mark.parametrize("name", MODELS)


# ---------------------------------------------------------------- the same numbers as eager
@pytest.mark.parametrize(("name", "form"), [(name, form) for name in MODELS for form in FORMS])
def test_a_model(name, form):
    check(MODELS[name](), rows=5, form=form)


@every_model
def test_a_model_at_one_row_and_in_single_precision(name):
    check(MODELS[name](), rows=1)
    check(MODELS[name](), rows=4, dtype="float32", form="arrays")


@pytest.mark.parametrize("kind", ["sin", "affine", "sum", "mixed", "dot"])
def test_chains_of_ten_thousand(kind):
    check(chain(kind))


def test_the_transformer_of_the_targets():
    model = big_transformer()
    program = model.compile()
    assert program.graph.count() > 50_000
    check(model)


def test_an_irregular_graph_of_ten_thousand_nodes():
    check(irregular(4_000, 5), form="arrays")


def test_a_wide_layer():
    model = MLP(60, [40, 10], activation="sigmoid", rng=random.Random(0))
    x, target = vector(60, random.Random(1)), Value(3.0)
    loss = losses.cross_entropy(model(x), target)
    parameters = {f"layer {i}": layer.parameters() for i, layer in enumerate(model.layers)}

    def feed(rng, rows):
        return [rng.normal(size=(rows, 60)), rng.integers(0, 10, rows).astype(float)]

    for rows in (1, 2, 33):
        check(Model(loss, parameters, [x, target], feed), rows)
        check(Model(loss, parameters, [x, target], feed), rows, "float32")


def test_nested_inputs_keep_their_shape():
    model = MODELS["attention"]()
    x = model.feed(np.random.default_rng(0), 4)[0]
    program = model.compile()
    assert x.shape == (4, 3, 4) and program(x).shape == (4,)
    assert program.value_and_grad(x, wrt="inputs")[1].shape == (4, 3, 4)
    assert program.value_and_grad(x[0], wrt="inputs")[1].shape == (3, 4)
    assert program(x[0]) == pytest.approx(program(x)[0], rel=1e-12)


# ---------------------------------------------------------------- shapes
def test_shapes_of_answers():
    x, y, w = vector(2, random.Random(0)), Value(1.0), Value(2.0)
    one = compile(tanh(x[0] * w + x[1]) * y, inputs=[x, y])
    several = compile([x[0] * w, x[1] + y, w * 2], inputs=[x, y])
    X, Y = np.arange(6.0).reshape(3, 2), np.ones(3)
    assert one(X, Y).shape == (3,) and type(one(X[0], 1.0)) is float
    assert several(X, Y).shape == (3, 3) and several(X[0], 1.0).shape == (3,)
    np.testing.assert_array_equal(several(X, Y)[:, 2], [4.0] * 3)
    assert compile([w * 2])().shape == (1,)
    value, g = one.value_and_grad(X, Y)
    assert type(value) is float and g.shape == (1,)
    gx, gy = one.value_and_grad(X, Y, wrt="inputs")[1]
    assert gx.shape == (3, 2) and gy.shape == (3,)
    assert one([[1, 2], [3, 4]], [1, 1]).shape == (2,)  # lists of ints will do
    assert one.parameters == [w] and one.value_and_grad(X[0], 1.0)[1].shape == (1,)


def test_an_input_without_rows_is_shared():
    x, y, w = vector(2, random.Random(0)), vector(2, random.Random(1)), Value(2.0)
    program = compile(tanh(dot(x, y) * w), inputs=[x, y])
    X, shared = np.random.default_rng(0).normal(size=(4, 2)), np.array([0.3, -0.7])
    spread = np.tile(shared, (4, 1))
    for form in FORMS:
        with carried_out_as(form):
            np.testing.assert_array_equal(program(X, shared), program(X, spread))
            for got, expected in zip(
                program.value_and_grad(X, shared), program.value_and_grad(X, spread), strict=True
            ):
                np.testing.assert_array_equal(got, expected)


def test_as_many_rows_as_cells_is_not_ambiguous():
    """A (2,) array for an input of 2 is one row; a (2,) array for a single Value is two."""
    x, y = vector(2, random.Random(0)), Value(1.0)
    program = compile(x[0] - x[1] * y, inputs=[x, y])
    assert program([5.0, 1.0], [2.0, 3.0]).tolist() == [3.0, 2.0]
    with pytest.raises(ValueError, match="2 rows.*3"):
        program([[5.0, 1.0]] * 3, [2.0, 3.0])


def test_one_row_equals_the_same_row_among_many():
    model = classifier()
    program = model.compile()
    arrays = model.feed(np.random.default_rng(0), 6)
    values = program(*arrays)
    for r in range(6):
        assert_agree(program(*[x[r : r + 1] for x in arrays]), values[r : r + 1])
        assert program(*[x[r] for x in arrays]) == pytest.approx(values[r], rel=1e-12)


@pytest.mark.parametrize("form", ["arrays", "vectors"])
@pytest.mark.parametrize("name", ["classifier", "embedding", "attention", "guarded", "extremes"])
def test_many_rows_are_run_in_pieces(name, form, monkeypatch):
    model = MODELS[name]()
    arrays = model.feed(np.random.default_rng(0), 50)
    whole = compiled(model, arrays, form=form)
    monkeypatch.setattr(execution, "MOST_CELLS", 20)
    cut = compiled(model, arrays, form=form)
    with carried_out_as(form):
        assert model.compile()._execution(50, False).most_rows < 50
    for got, expected in zip(vars(cut).values(), vars(whole).values(), strict=True):
        if isinstance(got, list):
            for ours, theirs in zip(got, expected, strict=True):
                assert_agree(ours, theirs)
        else:
            assert_agree(got, expected, 1e-12)


# ---------------------------------------------------------------- what is refused
def test_shapes_that_do_not_fit_name_the_input_and_both_shapes():
    x, y = vector(3, random.Random(0), label="pixels"), Value(1.0, label="target")
    program = compile(total(x) * y, inputs=[x, y])
    for bad in (np.ones((4, 2)), np.ones(4), np.ones((4, 3, 1)), 1.0, np.ones((0, 2))):
        with pytest.raises(ValueError, match="pixels") as caught:
            program(bad, np.ones(4))
        assert str(np.shape(bad)) in str(caught.value) and "(rows, 3)" in str(caught.value)
    with pytest.raises(ValueError, match=r"target.*5.*pixels.*4"):
        program(np.ones((4, 3)), np.ones(5))
    with pytest.raises(ValueError, match="takes 2 inputs.*pixels, target.*got 1"):
        program(np.ones((4, 3)))
    for call in (program, program.value_and_grad, program.backward):
        with pytest.raises(ValueError, match="no rows"):
            call(np.ones((0, 3)), np.ones(0))


def test_bad_arguments_are_refused():
    w = vector(3, random.Random(0))
    program = compile(dot(w, w))
    for call in (program, program.value_and_grad):
        for bad in (np.ones(2), np.ones((3, 1)), 1.0):
            with pytest.raises(ValueError, match="parameters has shape"):
                call(parameters=bad)
    for out in (np.empty(2), np.empty(3, np.float32), [0.0] * 3, np.empty(6)[::2]):
        with pytest.raises(ValueError, match="out must be"):
            program.value_and_grad(out=out)
    with pytest.raises(ValueError, match="'parameters' or 'inputs'"):
        program.value_and_grad(wrt="weights")
    with pytest.raises(ValueError, match="tangent has shape"):
        program.jvp(tangent=np.ones(2))
    for bad in (np.ones(4), None):
        with pytest.raises(ValueError, match="parameters has shape"):
            program.assign(bad)
    for out in (np.empty((4, 3)), np.empty(3)):
        with pytest.raises(ValueError, match="leave it out with wrt='inputs'"):
            program.value_and_grad(out=out, wrt="inputs")
    with pytest.raises(ValueError, match="single output, not a list of 2"):
        compile([w[0], w[1]]).value_and_grad()
    with pytest.raises(ValueError, match=r"not a list of 1: .*compile\(y\)"):
        compile([w[0]]).value_and_grad()
    with pytest.raises(ValueError, match=r"takes 1 input \(input 0\), got 2"):
        compile(w[0] * w[1], inputs=[w[0]])(1.0, 2.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [1, 4, 40])
def test_what_is_not_finite_or_beyond_float32_is_silent(rows):
    x, w = Value(0.7), Value(1.3)
    program = compile(dot([where(x > 0, 1 / x, 0.0), x], [w, w]), inputs=[x], parameters=[w])
    X = np.array([0.0, np.inf, -np.inf, 1.0] * rows)
    assert np.isnan(program.value_and_grad(X, wrt="inputs")[0])
    far = np.full(rows, 1e300)
    for y in (x * w, (x * w).exp(), dot([x, x * w], [w, w])):
        program = compile(y, inputs=[x], parameters=[w], dtype="float32")
        for _ in range(2):
            g = np.empty(1, np.float32)
            assert program.value_and_grad(far, parameters=[1e300], out=g)[0] == np.inf
            assert program.value_and_grad(far, wrt="inputs")[0] == np.inf
            assert (program(far) == np.inf).all() and (program(far.reshape(-1)) > 0).all()
            assert not np.isfinite(program.jvp(far, tangent=[1e300])[1]).any()
            assert not np.isnan(program.jvp(far, tangent=far, wrt="inputs")[0]).any()
    w.data = 1e300
    assert compile(w * 2.0, parameters=[w], dtype="float32")() == np.inf
    assert compile(lambda a: a * w, dtype="float32")(far)[0] == np.inf


def test_a_float32_program_assigns_the_numbers_given():
    w = Value(1.0)
    program = compile(w * 1.0, parameters=[w], dtype="float32")
    program.assign([0.1])
    assert w.data == 0.1 and type(w.data) is float and program() == np.float32(0.1)


def test_what_is_not_a_graph_is_refused():
    x = Value(1.0)
    with pytest.raises(TypeError, match="must be a Value, got float"):
        compile([x, 1.0])
    with pytest.raises(ValueError, match="result of"):
        compile(x * 2, inputs=[x * 2])
    with pytest.raises(ValueError, match="result of"):
        compile(x * 2, parameters=[x * 2])
    with pytest.raises(ValueError, match="twice among the inputs"):
        compile(x * 2, inputs=[x, [x]])
    with pytest.raises(ValueError, match="one length"):
        compile(x * 2, inputs=[[[x], [Value(1.0), Value(2.0)]]])
    with pytest.raises((TypeError, ValueError)):
        compile(x * 2, dtype="int32")()


def test_a_value_that_is_input_and_parameter_is_refused():
    """Silently dropping its gradient, or its input, would be a wrong answer."""
    x = Value(2.0)
    with pytest.raises(ValueError):
        compile(x * x, inputs=[x], parameters=[x])


def test_a_parameter_named_twice_is_refused():
    x = Value(2.0)
    with pytest.raises(ValueError, match="twice"):
        compile(x * x, parameters=[x, x])


# ---------------------------------------------------------------- indices
def take_program():
    w = vector(4, random.Random(0))
    index = Value(0.0, label="token")
    return compile(mg.take(w, index) * w[0], inputs=[index], parameters=w), w


@every_form
@pytest.mark.parametrize("bad", [4.0, -1.0, 0.5, math.nan, math.inf, 1e300, -0.5])
def test_an_index_that_is_none_names_the_input_and_the_bound(form, bad):
    program, w = take_program()
    with carried_out_as(form):
        for call in (program, program.value_and_grad):
            with pytest.raises(IndexError, match="0 to 3") as caught:
                call(np.array([1.0, bad, 2.0]))
            assert "token" in str(caught.value)
            with pytest.raises(IndexError, match="0 to 3"):
                call(bad)
        assert program([3, 0]).tolist() == [w[3].data * w[0].data, w[0].data ** 2]


@every_form
def test_indices_from_several_inputs_are_named_apart(form):
    table = [vector(3, random.Random(i)) for i in range(5)]
    token, position = Value(0.0, label="token"), Value(0.0, label="position")
    columns = list(zip(*table, strict=True))
    products = [mg.take(c, token) * mg.take(c, position) for c in columns]
    program = compile(total(products), inputs=[token, position])
    with carried_out_as(form):
        for call in (program, program.value_and_grad):
            with pytest.raises(IndexError, match="position -1 is not .* 0 to 4"):
                call([0.0, 1.0], [1.0, -1.0])
            with pytest.raises(IndexError, match="token 5 is not .* 0 to 4"):
                call(5.0, 0.0)


@every_form
@pytest.mark.parametrize("label", ["{", "}}", "{0}", "{out}", "a'b"])
def test_an_index_is_named_by_its_label_whatever_that_is(form, label):
    index = Value(0.0, label=label)
    program = compile(mg.take(vector(4, random.Random(0)), index), inputs=[index])
    with carried_out_as(form), pytest.raises(IndexError) as caught:
        program([0.0, 4.0])
    assert str(caught.value) == f"{label} 4 is not one of the integers 0 to 3"


@every_form
def test_an_index_error_does_not_spoil_the_next_call(form):
    program, w = take_program()
    with carried_out_as(form):
        before = program.value_and_grad(np.array([1.0, 2.0]))
        with pytest.raises(IndexError):
            program.value_and_grad(np.array([1.0, 9.0]))
        after = program.value_and_grad(np.array([1.0, 2.0]))
    assert before[0] == after[0] and before[1].tolist() == after[1].tolist()


def test_eager_names_the_same_bound():
    with pytest.raises(IndexError, match="0 to 3"):
        mg.take(vector(4, random.Random(0)), Value(4.0))


# ---------------------------------------------------------------- parameters, gradients, Values
@every_form
def test_parameters_theta_is_pure(form):
    model = classifier()
    arrays = model.feed(np.random.default_rng(0), 5)
    program = model.compile()
    data = [p.data for p in model.leaves]
    for p in model.leaves:
        p.grad = 7.0
    theta = np.random.default_rng(1).normal(size=len(data))
    kept, fed = theta.copy(), [x.copy() for x in arrays]
    with carried_out_as(form):
        program(*arrays, parameters=theta)
        value, g = program.value_and_grad(*arrays, parameters=theta)
        program.value_and_grad(*arrays, parameters=theta, wrt="inputs")
        program.jvp(*arrays, tangent=theta, parameters=theta)
    assert [p.data for p in model.leaves] == data and {p.grad for p in model.leaves} == {7.0}
    np.testing.assert_array_equal(theta, kept)
    for x, before in zip(arrays, fed, strict=True):
        np.testing.assert_array_equal(x, before)
    for p, number in zip(model.leaves, theta.tolist(), strict=True):
        p.data = number
    expected = eager(model, arrays)
    assert_agree(value, expected.mean)
    assert_agree(g, expected.gradient)
    assert_agree(program.value_and_grad(*arrays, parameters=theta.tolist())[1], g)
    strided = np.repeat(theta, 2)[::2]
    assert_agree(program.value_and_grad(*arrays, parameters=strided)[1], g)


@every_form
def test_the_array_theta_may_change_between_calls(form):
    model = MODELS["mlp-tanh"]()
    arrays = model.feed(np.random.default_rng(0), 3)
    program = model.compile()
    theta = np.array([p.data for p in model.leaves])
    with carried_out_as(form):
        first = program.value_and_grad(*arrays, parameters=theta)
        theta *= 1.5  # in place: the same array, other numbers
        second = program.value_and_grad(*arrays, parameters=theta)
        fresh = program.value_and_grad(*arrays, parameters=theta.copy())
    assert first[0] != second[0] == fresh[0]
    np.testing.assert_array_equal(second[1], fresh[1])
    assert (first[1] != second[1]).any()  # what the first call returned was not overwritten


@every_form
def test_answers_are_not_views_of_what_the_next_call_overwrites(form):
    model = MODELS["mlp-tanh"]()
    rng = np.random.default_rng(0)
    one, two = model.feed(rng, 3), model.feed(rng, 3)
    program = model.compile()
    with carried_out_as(form):
        values, (_, g), (_, gx) = (
            program(*one),
            program.value_and_grad(*one),
            program.value_and_grad(*one, wrt="inputs"),
        )
        kept = [values.copy(), g.copy(), *[x.copy() for x in gx]]
        program(*two)
        program.value_and_grad(*two)
        program.value_and_grad(*two, wrt="inputs")
    for now, before in zip([values, g, *gx], kept, strict=True):
        np.testing.assert_array_equal(now, before)


@every_form
def test_out_receives_the_gradient(form):
    model = classifier()
    arrays = model.feed(np.random.default_rng(0), 5)
    program = model.compile()
    theta = np.array([p.data for p in model.leaves])
    with carried_out_as(form):
        expected = program.value_and_grad(*arrays, parameters=theta)[1]
        out = np.full(len(theta), np.nan)
        for _ in range(2):
            _, g = program.value_and_grad(*arrays, parameters=theta, out=out)
            assert g is out
            np.testing.assert_array_equal(out, expected)
        other = np.full(len(theta), 3.0)
        program.value_and_grad(*arrays, parameters=theta, out=other)
        np.testing.assert_array_equal(other, expected)


def test_backward_adds_to_grad_and_returns_the_mean():
    model = classifier()
    arrays = model.feed(np.random.default_rng(0), 5)
    program = model.compile()
    expected = eager(model, arrays)
    for p in model.leaves:
        p.grad = 1.0
    mean = program.backward(*arrays)
    program.backward(*arrays)
    assert type(mean) is float
    assert_agree(mean, expected.mean)
    assert_agree([p.grad - 1.0 for p in model.leaves], 2 * expected.gradient, 1e-11)
    assert all(type(p.grad) is float for p in model.leaves)
    assert all(x.grad == 0.0 for x in flat(model.inputs))


def test_a_program_reads_the_values_of_now():
    model = MODELS["transformer"]()
    program = model.compile()
    program.backward()
    for p in model.leaves:
        p.grad, p.data = 0.0, p.data * 0.9 + 0.01
    expected = eager(model, [])
    program.backward()
    assert_agree([p.grad for p in model.leaves], expected.gradient)
    assert_agree(program(), expected.mean)


def test_assign_writes_the_values():
    model = MODELS["mlp-tanh"]()
    program = model.compile()
    theta = np.linspace(-1, 1, len(model.leaves))
    program.assign(theta)
    assert [p.data for p in model.leaves] == theta.tolist()
    assert all(type(p.data) is float for p in model.leaves)


def test_parameters_are_in_order_of_first_use():
    a, b, c, x = (Value(n) for n in (1.0, 2.0, 3.0, 4.0))
    program = compile(tanh(b * x) + a * 3.0 + c * b, inputs=[x])
    assert [id(p) for p in program.parameters] == [id(b), id(a), id(c)]
    unused = Value(9.0)
    program = compile(a * b, parameters=[unused, b, a])
    value, g = program.value_and_grad()
    assert value == 2.0 and g.tolist() == [0.0, 1.0, 2.0]


@every_form
def test_an_unused_parameter_has_a_zero_gradient_whatever_was_in_out(form):
    a, unused = vector(200, random.Random(0)), Value(9.0)
    program = compile(total([sin(x) for x in a]), parameters=[unused, *a])
    with carried_out_as(form):
        out = np.full(201, np.nan)
        program.value_and_grad(out=out)
    assert out[0] == 0.0 and np.isfinite(out).all()


@every_form
def test_out_may_be_theta_itself(form):
    w = vector(40, random.Random(0))
    x = [Value(0.0) for _ in range(8)]
    h = [mg.tanh(mg.dot(w[8 * i : 8 * i + 8], x)) for i in range(4)]
    program = compile(mg.dot(w[32:36], h) * mg.dot(w[36:], h), inputs=[x], parameters=w)
    X, theta = np.random.default_rng(0).uniform(-1.0, 1.0, (5, 8)), np.linspace(-1.0, 1.0, 40)
    with carried_out_as(form):
        value, expected = program.value_and_grad(X, parameters=theta)
        for out in (theta.copy(), np.tile(theta, 2)[:40]):
            again, g = program.value_and_grad(X, parameters=out[:], out=out)
            assert again == value and g is out
            np.testing.assert_array_equal(out, expected)


# ---------------------------------------------------------------- degenerate graphs
@every_form
def test_outputs_that_are_leaves(form):
    x, w, c = Value(3.0), Value(2.0), mg.Constant(5.0)
    X = np.array([1.0, 2.0, 6.0])
    with carried_out_as(form):
        for output, values, slope, by_x in [
            (x, X, 0.0, 1 / 3),
            (w, [2.0] * 3, 1.0, 0.0),
            (c, [5.0] * 3, 0.0, 0.0),
            (w * w, [4.0] * 3, 4.0, 0.0),
            (c * c, [25.0] * 3, 0.0, 0.0),
            (x * x, X * X, 0.0, None),
        ]:
            program = compile(output, inputs=[x], parameters=[w])
            np.testing.assert_array_equal(program(X), values)
            value, g = program.value_and_grad(X)
            assert value == pytest.approx(np.mean(values)) and g.tolist() == [slope]
            _, gx = program.value_and_grad(X, wrt="inputs")
            expected = 2 * X / 3 if by_x is None else [by_x] * 3
            np.testing.assert_allclose(gx, expected, rtol=1e-15)
        program = compile([x, w, c, x, w * x], inputs=[x], parameters=[w])
        np.testing.assert_array_equal(program(X)[1], [2.0, 2.0, 5.0, 2.0, 4.0])
        assert compile(w).value_and_grad()[1].tolist() == [1.0]
        other = sum(sin(w * i + x) for i in range(300))
        for leaf, values in [(x, X), (w, [2.0] * 3), (c, [5.0] * 3)]:
            program = compile([leaf, other], inputs=[x], parameters=[w])
            np.testing.assert_array_equal(program(X)[:, 0], values)
            assert program.jvp(X, tangent=np.ones(1))[1][0, 0] == (leaf is w)
        assert compile(c)() == 5.0 and len(compile(c).parameters) == 0
        try:  # no outputs: an empty answer or a refusal, nothing half-way
            assert compile([])().shape == (0,)
        except ValueError as refusal:
            assert "output" in str(refusal)


@every_form
def test_no_parameters_and_no_inputs(form):
    with carried_out_as(form):
        program = compile(mg.exp(mg.Constant(1.0)) * 2)
        value, g = program.value_and_grad()
        assert value == pytest.approx(2 * math.e, rel=1e-15) and g.shape == (0,)
        assert program.backward() == value


@every_form
def test_equal_nodes_are_not_confused(form):
    a, b = Value(1.0), Value(1.0)
    with carried_out_as(form):
        g = compile(tanh(a) * 2 + tanh(b) * 3 + tanh(a) * 5).value_and_grad()[1]
    assert_agree(g, [7 * (1 - math.tanh(1) ** 2), 3 * (1 - math.tanh(1) ** 2)])


def test_duplicate_outputs_and_an_output_inside_another():
    x = vector(300, random.Random(0))
    inner = [tanh(v) for v in x]
    last = dot(inner, inner)
    program = compile([last, inner[5], last, inner[5] * 2, x[7]])
    expected = [last.data, inner[5].data, last.data, inner[5].data * 2, x[7].data]
    for form in FORMS:
        with carried_out_as(form):
            assert_agree(program(), expected)


# ---------------------------------------------------------------- operations of one's own
def branch_on_number(y, x):
    return (1.0,) if x > 0 else (None,)


cube = operation("cube", lambda x: x * x * x, lambda y, x: (3.0 * x * x,))
vector_cube = operation(
    "vector_cube",
    lambda x: x * x * x,
    lambda y, x: (3.0 * x * x,),
    array=lambda x: x * x * x,
)
logarithm_or_zero = operation(
    "logarithm_or_zero",
    lambda x: math.log(x) if x > 0 else 0.0,
    lambda y, x: (only_if(x > 0, 1.0 / x),),
)
scaled = operation(
    "scaled", lambda a, b: a * round(b), lambda y, a, b: (mg.functions.rounded(b), None)
)
norm = operation(
    "norm", lambda *xs: math.sqrt(sum(x * x for x in xs)), lambda y, *xs: tuple(x / y for x in xs)
)
branching = operation("branching", lambda x: x if x > 0 else 0.0, branch_on_number)
raising = operation("raising", lambda x: math.sqrt(x), lambda y, x: (0.5 / y,), limit=-1.0)
strange = operation("x); import os; (", lambda x: x * 0.5, lambda y, x: (0.5,))
unicode = operation("größe²", lambda x: x * 0.25, lambda y, x: (0.25,))


@every_form
@pytest.mark.parametrize(
    "row",
    [cube, vector_cube, logarithm_or_zero, branching, raising, strange, unicode],
    ids=lambda row: row.name,
)
def test_an_operation_of_your_own(row, form):
    rng = random.Random(0)
    x, w = vector(6, rng, 1.0), vector(6, rng, 1.0)
    loss = total([tanh(row(a * b)) + row(b) * 0.5 for a, b in zip(x, w, strict=True)])
    check(Model(loss, {"w": w, "x": x}), form=form)
    model = Model(loss, {"w": w}, [x], lambda rng, rows: [rng.normal(size=(rows, 6))])
    check(model, 4, form=form)


@every_form
def test_operations_of_several_arguments_of_your_own(form):
    rng = random.Random(0)
    x, w = vector(6, rng, 1.0), vector(6, rng, 1.0)
    loss = total([scaled(a, 3 * b) for a, b in zip(x, w, strict=True)])
    loss = loss + norm(*x) + norm(*w[:3]) * norm(x[0]) + norm(x[1], w[1])
    check(Model(loss, {"w": w, "x": x}), form=form)
    model = Model(loss, {"w": w}, [x], lambda rng, rows: [rng.normal(size=(rows, 6))])
    check(model, 4, form=form)


# ---------------------------------------------------------------- singularities
@every_form
def test_where_guards_a_singularity_on_both_sides(form):
    x, w = vector(3, random.Random(0)), vector(3, random.Random(1))
    terms = [
        where(a > 0, mg.sqrt(a) * b + mg.log(a), b / (a - 1)) for a, b in zip(x, w, strict=True)
    ]
    X = np.array([[0.0, 1.0, -1.0], [4.0, 0.0, 0.0], [-2.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    model = Model(total(terms), {"w": w}, [x], lambda rng, rows: [X])
    answers = check(model, 4, form=form)
    assert np.isfinite(answers.gradient).all() and np.isfinite(answers.by_inputs[0]).all()
    second = [g * (i + 1) for i, g in enumerate(mg.grad(total(terms), x))]
    answers = check(Model(total(second), {"w": w}, [x], lambda rng, rows: [X]), 4, form=form)
    assert np.isfinite(answers.by_inputs[0]).all()


@every_form
def test_one_bad_row_does_not_change_the_others(form):
    x, w = Value(1.0), Value(0.5)
    program = compile([mg.log(x) * w, mg.exp(x), 1 / x], inputs=[x])
    good = program(np.array([1.0, 2.0, 3.0]))
    with carried_out_as(form):
        mixed = program(np.array([1.0, -2.0, 3.0, 0.0, 1000.0, np.nan, np.inf]))
    assert_agree(mixed[[0, 2]], good[[0, 2]])
    row = {r: mixed[r].tolist() for r in range(7)}
    assert math.isnan(row[1][0]) and row[3] == [-math.inf, 1.0, math.inf]
    assert row[4][1] == math.inf and all(map(math.isnan, row[5]))
    assert row[6] == [math.inf, math.inf, 0.0]


def test_no_warning_is_shown():
    x = vector(50, random.Random(0), 1.0)
    program = compile(total([mg.log(v) + 1 / (v * 0) + mg.exp(v * 1e4) for v in x]))
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        for form in FORMS:
            with carried_out_as(form):
                program()
                program.value_and_grad()


@every_form
def test_padding_never_meets_infinity(form):
    """Ragged sums and products of which some cells are infinite: 0 * inf of padding stays out."""
    w = vector(6, random.Random(0))
    x = [Value(v) for v in (1.0, math.inf, 2.0, -1.0, 0.5, 3.0)]
    dots = [dot(w[:n], x[:n]) for n in (1, 2, 3, 6)] + [dot(w[2:], x[2:]), total(x[2:5])]
    for i, output in enumerate(dots):
        check(Model([*dots, total([dots[0], dots[4]])], {"w": w, "x": x}), form=form)
        check(Model(tanh(output) if i % 2 else output, {"w": w, "x": x}), form=form)
    check(Model(total([tanh(dots[0]), tanh(dots[4]), dots[5]]), {"w": w, "x": x}), form=form)


# ---------------------------------------------------------------- text
LABELS = [
    *("W1[0,0]", "__import__('os').abort()", "größe", "a b", "a\nb = 1", "'''", '"', "\\", "#", ""),
    *("class", "None", "print", "__builtins__", "theta", "g", "u", "v", "rows", "seed", "dtype"),
    *("forward", "backward", "buffers", "parameters", "inputs", "gradients", "x0", "gx0", "x0_"),
    *("t0", "t1", "s0", "s7", "constant0", "index0", "index1", "h", "dh", "p", "dp", "dW", "d"),
    *("add", "exp", "tanh", "matmul", "multiply", "take", "copyto", "empty", "inf", "nan", "where"),
    *("strided", "take_values", "put_values", "broadcast_to", "erf", "erf_", "np", "float", "math"),
    *("return 1", "x[0]; y", "{0}", "{out}", "%s", "𝒲", "ﬁ", "_", "__", "a" * 300, "0", "1e5"),
]


def names_of(source):
    """Every name and attribute that the source would look up."""
    nodes = list(ast.walk(ast.parse(source)))
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {
        n.attr for n in nodes if isinstance(n, ast.Attribute)
    }


@every_form
def test_labels_are_text_and_nothing_else(form):
    for label in LABELS:
        for suffix in ("", "[0,{}]"):
            model = classifier()
            for leaves in [*model.parameters.values(), *map(flat, model.inputs)]:
                for i, leaf in enumerate(leaves):
                    leaf.label = label + suffix.format(i)
            arrays = model.feed(np.random.default_rng(0), 2)
            with carried_out_as(form):
                program = model.compile()
                values = program(*arrays)
                program.value_and_grad(*arrays)
                source = program.source
            np.testing.assert_allclose(values, eager(model, arrays).values[:, 0], rtol=1e-12)
            assert not names_of(source) & {"__import__", "abort", "os"}  # quoted at most


def test_names_of_parameters_appear_in_the_source():
    model = classifier()
    with carried_out_as("arrays"):
        source = model.compile().source
    for name in ("W1", "b1", "W2", "b2"):
        assert re.search(rf"\b{name}\b", source), source
    assert not any(re.search(rf"\b{word} =", source) for word in keyword.kwlist)
    assert max(map(len, source.splitlines())) < 400


def test_the_program_prints_its_steps():
    text = str(classifier().compile())
    assert "dot" in text and "7 x 1" in text and "tanh" in text
    assert re.search(r"\d+ steps for \d+ scalar nodes", text)
    assert "Program" in repr(classifier().compile())


# ---------------------------------------------------------------- pickles, threads, bits
def bits(answer):
    return [np.asarray(part).tobytes() for part in answer]


@every_form
@pytest.mark.parametrize("name", ["classifier", "transformer", "guarded", "embedding"])
def test_pickles_make_a_round_trip(name, form):
    model = MODELS[name]()
    arrays = model.feed(np.random.default_rng(0), 3)
    with carried_out_as(form):
        program = model.compile()
        untouched = pickle.loads(pickle.dumps(program))  # before it ever ran
        expected = program.value_and_grad(*arrays)
        again = pickle.loads(pickle.dumps(program))
        for copy in (untouched, again, pickle.loads(pickle.dumps(again, protocol=2))):
            assert bits(copy.value_and_grad(*arrays)) == bits(expected)
            assert copy.source == program.source and str(copy) == str(program)
            assert [p.data for p in copy.parameters] == [p.data for p in program.parameters]
    again.assign(np.zeros(len(again.parameters)))
    assert any(p.data for p in program.parameters)  # the copy has Values of its own


def test_a_deep_graph_pickles():
    program = chain("sin").compile()
    assert pickle.loads(pickle.dumps(program)).value_and_grad()[0] == program.value_and_grad()[0]


def test_a_program_with_an_operation_of_your_own_pickles():
    program = compile(cube(Value(2.0)))
    assert pickle.loads(pickle.dumps(program)).value_and_grad()[1].tolist() == [12.0]


@every_form
@pytest.mark.parametrize("name", ["classifier", "transformer", "embedding", "attention"])
def test_four_threads_give_the_bits_of_one(name, form):
    model = MODELS[name]()
    program = model.compile()
    rng = np.random.default_rng(0)
    size = len(model.leaves)
    jobs = [(model.feed(rng, 3 + i % 2), rng.normal(size=size) * 0.3) for i in range(4)]
    with carried_out_as(form):
        alone = [bits(program.value_and_grad(*a, parameters=t)) for a, t in jobs]
        program = model.compile()  # the passes run in the threads
        found = [[] for _ in jobs]
        start = threading.Barrier(4)

        def work(i):
            start.wait()
            arrays, theta = jobs[i]
            for _ in range(15):
                found[i].append(bits(program.value_and_grad(*arrays, parameters=theta)))
                program(*arrays, parameters=theta)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for i, answers in enumerate(found):
        assert len(answers) == 15 and all(answer == alone[i] for answer in answers)


@every_form
@pytest.mark.parametrize("name", ["classifier", "transformer", "irregular", "recurrent"])
def test_the_same_bits_twice(name, form):
    answers = []
    with carried_out_as(form):
        for _ in range(2):
            model = MODELS[name]()
            arrays = model.feed(np.random.default_rng(0), 4)
            program = model.compile()
            answers += [bits(program.value_and_grad(*arrays)) for _ in range(2)]
            answers[-1].append(program.source)
            answers[-2].append(program.source)
    assert all(answer == answers[0] for answer in answers)


def test_batch_sizes_may_alternate():
    model = classifier()
    program = model.compile()
    rng = np.random.default_rng(0)
    for rows in (3, 1, 7, 3, 2, 4, 5, 6, 8, 9, 10, 11, 12, 3, 1):
        arrays = model.feed(rng, rows)
        assert_agree(program.value_and_grad(*arrays)[1], eager(model, arrays).gradient)


def test_programs_are_freed():
    program = classifier().compile()
    program.value_and_grad(*classifier().feed(np.random.default_rng(0), 2))
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(20):
        fresh = classifier().compile()
        fresh.value_and_grad(*classifier().feed(np.random.default_rng(0), 2))
    del fresh
    gc.collect()
    assert len(gc.get_objects()) - before < 2000


# ---------------------------------------------------------------- driven from outside
def test_scipy_minimizes_a_program():
    optimize = pytest.importorskip("scipy.optimize")
    model = MODELS["elementwise_moons"]()
    program = model.compile()
    start = np.array([p.data for p in model.leaves])

    def value_and_gradient(theta):
        value, g = program.value_and_grad(parameters=theta)
        return value, g

    found = optimize.minimize(
        value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}
    )
    assert found.fun < 0.5 * value_and_gradient(start)[0]
    assert [p.data for p in model.leaves] == start.tolist()  # untouched until assigned
    program.assign(found.x)
    assert program() == pytest.approx(found.fun)


def test_scipy_agrees_on_the_gradient():
    optimize = pytest.importorskip("scipy.optimize")
    model = MODELS["transformer"]()
    program = model.compile()
    theta = np.array([p.data for p in model.leaves])
    error = optimize.check_grad(
        lambda t: program(parameters=t),
        lambda t: program.value_and_grad(parameters=t)[1],
        theta,
        direction="random",
        seed=0,
    )
    assert error < 1e-5


def test_gradient_descent_trains_a_network():
    model = MLP(2, [8, 1], activation="tanh", rng=random.Random(0))
    x, target = vector(2, random.Random(1)), Value(1.0)
    program = compile(
        losses.binary_cross_entropy(model(x), target), [x, target], model.parameters()
    )
    X, Y = map(np.array, mg.data.moons(60, 0.1, 0))
    theta = np.array([p.data for p in model.parameters()])
    g = np.empty_like(theta)
    first, _ = program.value_and_grad(X, Y, parameters=theta)
    for _ in range(300):
        program.value_and_grad(X, Y, parameters=theta, out=g)
        theta -= 1.0 * g
    last, _ = program.value_and_grad(X, Y, parameters=theta)
    assert last < 0.4 * first


# ---------------------------------------------------------------- reach
def _guards(x, w):
    """name -> one output; at x <= 0 a branch that is not taken is infinite, nan, or steep."""
    pairs = list(zip(x, w, strict=True))
    roots = [sqrt(a) for a in x]
    rooted = list(zip(pairs, roots, strict=True))
    return {
        "a logarithm": [where(a > 0, log(a * b), a * b) for a, b in pairs],
        "two functions deep": [where(a > 0, sqrt(log(1.0 + a)) * b, b) for a, b in pairs],
        "under two conditions": [
            where(a > 0, r, b) * where(a > 1, r * b, a) for (a, b), r in rooted
        ],
        "reached after all": [where(a > 0, r, b) + 0.0 * r for (a, b), r in rooted],
        "in no order": [where(x[k] > 0, roots[k], w[j]) for j, k in enumerate((3, 0, 2, 2, 1))],
        "spread over a grid": [where(a > 0, log(a) / b, b) for b in w for a in x],
        "a root of what is reached": [sqrt(where(a > 0, a * b, 1.0)) for a, b in pairs],
        "a total": [where(x[0] * x[1] > 0, total([1.0 / a for a in x[:2]]), w[0])],
        "without rows": [where(b > 0.5, log(b - 0.5), a) for a, b in pairs],
    }


@pytest.mark.parametrize("name", _guards([Value(1.0)] * 5, [Value(1.0)] * 5))
@pytest.mark.parametrize("rows", [1, 6])
def test_a_singularity_that_is_not_reached_costs_no_interpreter(name, rows, monkeypatch):
    rng = random.Random(5)
    x, w = vector(5, rng), [Value(b) for b in (0.3, 0.7, 0.4, 1.1, 0.9)]
    output = total([y * y for y in _guards(x, w)[name]])

    def feed(generator, rows):
        numbers = generator.integers(-2, 3, (rows, 5)).astype(float)
        numbers[0, :2] = -1.0, 0.0
        return [np.abs(numbers) + (numbers == 0) if name == "reached after all" else numbers]

    def refuse(*arguments):
        raise AssertionError("node by node")

    monkeypatch.setattr(program_module.Program, "_interpreted", refuse)
    check(Model(output, {"w": w}, [x], feed), rows, form="arrays")


def lecun_tanh(x):
    return 1.7159 * math.tanh(x * 2 / 3)


@pytest.mark.parametrize("name", ["tanh", "sin", "sinc", "sum", "sign", "positive", "clip"])
def test_what_numpy_has_under_the_name_of_your_operation_is_not_taken_for_it(name):
    lecun_tanh.__name__ = name
    slope = 1.7159 * 2 / 3
    yours = [
        mg.operation(name, lecun_tanh, lambda y, x: (slope * (1.0 - (y / 1.7159) * (y / 1.7159)),)),
        mg.activation(lecun_tanh),
    ]
    X = np.linspace(-3.0, 3.0, 120).reshape(40, 3)
    for row in yours:
        assert row(X) == pytest.approx(1.7159 * np.tanh(X * 2 / 3), rel=1e-14)
        model = mg.MLP(3, [40, 1], activation=row, rng=random.Random(0))
        x = [Value(0.1) for _ in range(3)]
        program = compile(model(x), inputs=[x], parameters=model.parameters())
        assert program(X) == pytest.approx([model(row).data for row in X.tolist()], rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: mg.compile(1.0), "outputs is 1.0"),
        (lambda a: mg.compile([a, 1.0]), "an output must be a Value, got float"),
        (lambda a: mg.compile(2 * a, inputs=a), "inputs is Value"),
        (lambda a: mg.compile(2 * a, inputs=[3.0]), "an input must be a Value, got float"),
        (lambda a: mg.compile(2 * a, inputs=["a"]), "an input must be a Value, got str"),
        (lambda a: mg.compile(2 * a, inputs=np.ones(2)), "an input must be a Value, got float64"),
        (lambda a: mg.compile(2 * a, parameters=a), "parameters is Value"),
        (lambda a: mg.compile(2 * a, parameters=[1.0]), "a parameter must be a Value, got float"),
        (lambda a: mg.compile(2 * a, inputs=[a])([1j]), "input 0 holds complex numbers"),
        (lambda a: mg.compile(2 * a)(parameters=[1j]), "parameters holds complex numbers"),
        (lambda a: mg.compile(2 * a, inputs=[a])(a), "input 0 holds Value.*: pass numbers"),
        (lambda a: mg.compile(2 * a)(parameters=[a]), "parameters holds Value.*: pass numbers"),
    ],
)
def test_what_is_no_value_is_named(call, message):
    with pytest.raises(TypeError, match=message):
        call(Value(1.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: mg.compile(a * b, inputs=[b, [a, b]]), "'b'.* occurs twice among the inputs"),
        (lambda a, b: mg.compile(a * b, parameters=[a, b, a]), "'a'.* twice among the parameters"),
        (lambda a, b: mg.compile(a * b, [a, b], [b]), "'b'.* is both an input and a parameter"),
        (lambda a, b: mg.compile(a * b)([1.0]), r"takes 0 inputs \(compile\(..., inputs=\) names"),
        (lambda a, b: mg.compile(a * b, [[a, b]])([[1, 2], [3]]), "a must be an array of numbers"),
        (lambda a, b: mg.compile(a * b, [a, b])([1], ["x"]), r"b must be .* numbers \(.*'x'"),
    ],
)
def test_values_given_twice_and_arrays_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(Value(1.0, label="a"), Value(2.0, label="b"))
    assert "\n" not in str(caught.value)


def test_inputs_may_be_an_array_of_values():
    a, b = Value(1.0), Value(2.0)
    assert mg.compile(a - b, inputs=np.array([b, a]))([1.0, 2.0], [5.0, 5.0]).tolist() == [4.0, 3.0]


def test_parameters_come_in_the_order_in_which_they_are_computed_with():
    model, x = MLP(2, [3, 2, 1]), [Value(0.3), Value(-0.2)]
    program, traced = mg.compile(model(x), inputs=[x]), mg.compile(model)
    traced([[0.3, -0.2]])
    for found in (program.parameters, traced.parameters):
        assert [id(p) for p in found] == [id(p) for p in model.parameters()]
    first, last, alone = Value(1.0), Value(2.0), Value(3.0)
    outputs = [alone, last * tanh(first * 2.0), mg.Constant(1.0)]
    assert [p.data for p in mg.compile(outputs).parameters] == [1.0, 2.0, 3.0]
