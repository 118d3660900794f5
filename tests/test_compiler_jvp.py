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

FORMS = ("arrays", "lines")
every_form = pytest.mark.parametrize("form", FORMS)
# At kinks of `guarded` the two modes still agree: they follow the same rules.


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
        way = directions if wrt == "parameters" else np.concatenate([np.ravel(t[r]) for t in directions])
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
