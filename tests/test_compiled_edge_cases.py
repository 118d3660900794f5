"""Every hard argument of edge_cases.json, compiled: each engine gives what the eager one gives.

The upstream gradient is 1.7. Arguments come as an array theta, and all arguments of a function
together as the rows of one program; programs run as arrays and as lines of Python. What the eager
answers ought to be is in test_edge_cases.py.
"""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from engines import ENGINES, Model, assert_agree, carried_out_as, check, eager
from test_edge_cases import CASES, LEFT_OUT, UPSTREAM, WRITTEN, number

import micrograd_scratch as mg
from micrograd_scratch import Value, functions, operations
from micrograd_scratch.operations import Operation

SHARED = [case for case in CASES if case["fn"] not in LEFT_OUT]


def function_of(case):
    """The case's function of its arguments, times the upstream gradient."""
    function = WRITTEN.get(case["fn"]) or getattr(mg, case["fn"])
    const = [number(case["const"])] if "const" in case else []
    return lambda *xs: UPSTREAM * function(*xs, *const)


def kind_of(case):
    return case["fn"], case.get("const"), len(case["args"])


@cache
def program_of(kind, form):
    """One program for all cases of a kind, recorded at the first one's arguments."""
    first = next(case for case in SHARED if kind_of(case) == kind)
    leaves = [Value(number(x)) for x in first["args"]]
    return mg.compile(function_of(first)(*leaves), parameters=leaves)


@pytest.mark.parametrize("case", SHARED, ids=lambda case: f"{case['id']}-{case['fn']}")
def test_case(case):
    arguments = [number(x) for x in case["args"]]
    value, gradient = ENGINES["eager"](function_of(case), arguments)
    for form in ("arrays", "lines", "vectors"):
        with carried_out_as(form):
            program = program_of(kind_of(case), form)
            got, slopes = program.value_and_grad(parameters=np.array(arguments))
            assert_agree(program(parameters=np.array(arguments)), value, what=f"{form}: call")
        assert_agree(got, value, what=f"{form}: value")
        for i, (ours, theirs) in enumerate(zip(slopes, gradient, strict=True)):
            assert_agree(ours, theirs, what=f"{form}: d/dx{i}")


@pytest.mark.parametrize("form", ["arrays", "lines", "vectors"])
@pytest.mark.parametrize("name", sorted({case["fn"] for case in SHARED}))
def test_all_arguments_of_a_function_as_rows(name, form):
    """One row's nan or infinity must not reach another row."""
    cases = sorted((c for c in SHARED if c["fn"] == name), key=lambda c: repr(kind_of(c)))
    for _, group in itertools.groupby(cases, kind_of):
        some = list(group)
        table = np.array([[number(x) for x in case["args"]] for case in some])
        xs = [Value(x) for x in table[0]]
        program = mg.compile([function_of(some[0])(*xs)], inputs=[xs])
        as_rows(program, form, function_of(some[0]), table)


def as_rows(program, form, build, table):
    """The program's rows against the eager engine, and each row's gradient by its inputs."""
    xs = [Value(x) for x in table[0]]
    # the mean's 1/rows makes the smallest subnormal numbers 0
    table = table[~((table != 0) & (abs(table) < 1e-300)).any(axis=1)]
    model = Model(build(*xs), {}, [xs])
    expected = eager(model, [table])
    with carried_out_as(form):
        values = program(table)[:, 0]
        _, slopes = model.compile().value_and_grad(table, wrt="inputs")
    for r in range(len(table)):
        assert_agree(values[r], expected.values[r, 0], what=f"value at {table[r]}")
        for i in range(table.shape[1]):  # the mean divides by the number of rows: back by it
            assert_agree(
                slopes[r, i] * len(table),
                expected.by_inputs[0][r, i] * len(table),
                what=f"slope {i} at {table[r]}",
            )


# ---------------------------------------------------------------- every row of the table
ROWS = {
    name: row
    for module in (operations, functions)
    for name, row in vars(module).items()
    if isinstance(row, Operation) and row.__module__ == module.__name__
}
INF, NAN = math.inf, math.nan
SPECIAL = [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -3.0, 710.0, -746.0, 1e200, -1e-200]


def special_points(row):
    count = row.arity or 4
    numbers = SPECIAL if count < 3 else SPECIAL[:6]
    points = itertools.product(numbers, repeat=count)
    if row is operations.take_of:
        points = ((float(i % 3), *p[1:]) for i, p in enumerate(points))
    return np.array(list(itertools.islice(points, 0, None, 1 if count < 4 else 7)))


@pytest.mark.parametrize("form", ["arrays", "lines", "vectors"])
@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_table_at_special_numbers(name, form):
    row, table = ROWS[name], special_points(ROWS[name])

    def build(*xs):
        return UPSTREAM * row(*xs)

    xs = [Value(x) for x in table[0]]
    as_rows(mg.compile([build(*xs)], inputs=[xs]), form, build, table)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_table_over_its_domain(name):
    """In both precisions, as rows and as parameters side by side."""
    row = ROWS[name]
    pairs = row.domain if isinstance(row.domain[0], tuple) else (row.domain,) * (row.arity or 4)
    rng = np.random.default_rng(0)
    table = np.array([rng.uniform(low, high, 60) for low, high in pairs]).T
    if row is operations.take_of:
        table[:, 0] = rng.integers(0, 3, 60)
    xs = [Value(x) for x in table[0]]
    model = Model(UPSTREAM * row(*xs), {}, [xs], lambda rng, rows: [table])
    check(model)
    if row.name not in ("%", "fmod", "//"):  # which jump where rounding may fall to either side
        check(model, dtype="float32")
    side_by_side = [[Value(x) for x in point] for point in table]
    made = [row(*point) * (UPSTREAM + i) for i, point in enumerate(side_by_side)]
    leaves = {f"x{i}": [point[i] for point in side_by_side] for i in range(table.shape[1])}
    check(Model(mg.total(made), leaves), form="arrays")
