"""detect_anomaly() around a compiled program: the first bad scalar node, its line, and its row."""

import inspect
import math

import numpy as np
import pytest
from engines import carried_out_as

import micrograd_scratch as mg
from micrograd_scratch import AnomalyError, Value, compile, detect_anomaly, log, sqrt, tanh, total

BAD = np.array([1.0, 4.0, -1.0, 0.0])  # log: fine, fine, nan, -inf
every_form = pytest.mark.parametrize("form", ["arrays", "lines", "vectors"])


def here():
    return inspect.currentframe().f_back.f_lineno


def message(call, *arguments, **options):
    with pytest.raises(AnomalyError) as caught, detect_anomaly():
        call(*arguments, **options)
    return str(caught.value)


@every_form
def test_a_graph_recorded_inside_the_context_has_its_lines(form):
    x, w = Value(1.0), Value(2.0)
    with detect_anomaly():
        y = log(x) * w + tanh(w)
        line = here() - 1
    program = compile(y, inputs=[x], parameters=[w])
    with carried_out_as(form):
        for call in (program, program.value_and_grad, program.backward):
            text = message(call, BAD)
            assert f"log(-1) at {__file__}:{line} is nan in row 2" in text
            assert "is -inf in row 0" in message(call, BAD[3:])
        with detect_anomaly():
            assert math.isfinite(program.value_and_grad(BAD[:2])[0])
        assert math.isnan(program(BAD)[2])  # without the context nothing is raised
    assert w.grad == 0.0


def test_a_graph_recorded_outside_names_the_operation_alone():
    x = Value(1.0)
    text = message(compile(1 / x, inputs=[x]), np.array([2.0, 0.0]))
    assert "/(1, 0) is inf in row 1" in text and ".py" not in text


def test_the_first_bad_node_is_named_not_its_followers():
    x = Value(1.0)
    program = compile(tanh(mg.exp(x) - mg.exp(x)) * 3 + 1, inputs=[x])
    assert "exp(1000) is inf in row 1" in message(program, np.array([1.0, 1000.0]))


@every_form
def test_adjoints(form):
    x, w = Value(1.0), Value(1.0)
    with detect_anomaly():
        y = sqrt(x * w) * 2
        line = here() - 1
    program = compile(y, inputs=[x], parameters=[w])
    with carried_out_as(form):
        text = message(program.value_and_grad, np.array([1.0, 0.0]))
        assert f"the adjoint of *(0, 1) at {__file__}:{line} is inf in row 1" in text
        with detect_anomaly():
            assert program(np.array([1.0, 0.0])).tolist() == [2.0, 0.0]  # forward it is fine


def test_without_inputs_and_with_other_parameters():
    w = Value(1.0)
    program = compile(log(w) * log(w))
    for _ in range(2):  # also when the quick way in is there
        program.value_and_grad()
        assert "log(-3) is nan" in message(program.value_and_grad, parameters=np.array([-3.0]))
    with detect_anomaly():
        program.value_and_grad()


def test_inputs_and_parameters_that_are_not_finite():
    x, w = Value(1.0), Value(2.0)
    program = compile(x * w, inputs=[x])
    assert "nan in row 1" in message(program, np.array([1.0, math.nan]))
    assert "inf" in message(program, np.array([1.0]), parameters=np.array([math.inf]))


# ---------------------------------------------------------------- traced
def test_a_traced_function_has_its_lines_whenever_it_was_traced():
    w = Value(2.0)

    def f(x):
        return log(x[0]) * w + x[1]

    line = inspect.getsourcelines(f)[1] + 1
    array = np.stack([BAD, BAD], axis=1)
    for rows in (array, array[::-1]):  # the traced row is fine, and is not
        before, fresh = compile(f), compile(f)
        before(np.ones((1, 2)))
        for program in (before, fresh):
            for call in (program, program.value_and_grad):
                text = message(call, rows)
                assert f"at {__file__}:{line} is " in text
                assert "row 2" in text if rows is array else "row 0" in text


def test_rows_of_several_paths_keep_their_numbers():
    program = compile(lambda x: log(x) if x > 5 else 1 / x)
    array = np.array([9.0, 1.0, 8.0, 2.0, 0.0])
    for call in (program, program.value_and_grad):
        assert "/(1, 0)" in message(call, array) and "row 4" in message(call, array)


def test_the_guards_of_other_rows_are_no_anomalies():
    def f(x):
        if x > 0 and log(x) > 1:
            return x * 2
        return x * 3

    program = compile(f)
    with detect_anomaly():
        assert program(np.array([9.0, -1.0, 0.0, 1.0])).tolist() == [18.0, -3.0, 0.0, 3.0]


def test_the_context_is_as_it_was_after_a_trace():
    program = compile(lambda x: total([x, x]))
    with detect_anomaly():
        program(np.ones(2))
        with pytest.raises(AnomalyError):
            log(Value(-1.0))
    log(Value(-1.0))
