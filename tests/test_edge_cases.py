"""Every hard argument of edge_cases.json: values and gradients as NUMERICS decided them.

The file holds, for each case, what PyTorch and JAX answer and what this package returns. Every case
runs eagerly with an upstream gradient of 1.7, through `backward`, through `grad`, and `jvp`.
"""

import json
import math
from pathlib import Path

import pytest

import micrograd_scratch as mg
from micrograd_scratch import Value, losses

CASES = json.loads((Path(__file__).parent / "edge_cases.json").read_text())["cases"]
UPSTREAM = 1.7


# Functions of the file that are not named like ours: how they are written here.
WRITTEN = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda x: -x,
    "abs": abs,
    "round": round,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "pow": lambda a, b: a**b,
    "pow_const": lambda x, c: x**c,
    "pow_rconst": lambda x, c: c**x,
    "abs_via_pow": lambda x: (x**2) ** 0.5,
    "sqrt_of_square": lambda x: mg.sqrt(x * x),
    "reciprocal": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / mg.sqrt(x),
    "relu_max0": lambda x: mg.maximum(x, 0.0),
    "relu_where": lambda x: mg.where(x > 0, x, 0.0),
    "max_reduce": lambda *xs: mg.maximum(list(xs)),
    "min_reduce": lambda *xs: mg.minimum(list(xs)),
    "max_chain": lambda a, b, c: mg.maximum(mg.maximum(a, b), c),
    "max_xx": lambda x: mg.maximum(x, x),
    "gelu_erf": mg.gelu,
    "logsumexp": lambda *xs: mg.logsumexp(list(xs)),
    "logsumexp_naive": lambda *xs: mg.log(mg.total([mg.exp(x) for x in xs])),
    "softmax0": lambda *xs: mg.softmax(list(xs))[0],
    "log_softmax0": lambda *xs: mg.log_softmax(list(xs))[0],
    "cross_entropy0": lambda *xs: losses.cross_entropy(list(xs), 0),
    "bce_logits": lambda x, t: losses.binary_cross_entropy(x, t),
    "clip_-1_1": lambda x: mg.clip(x, -1, 1),
    "clip3": mg.clip,
    "hinge": lambda x: losses.hinge(x, 1),
    "huber1": lambda x: mg.where(abs(x) <= 1, 0.5 * x * x, abs(x) - 0.5),
    "mse_to_1": lambda x: losses.squared_error(x, 1.0),
    "where_sqrt": lambda x: mg.where(x > 0, mg.sqrt(x), 0.0),
    "where_sqrt_safe": lambda x: mg.where(x > 0, mg.sqrt(mg.where(x > 0, x, 1.0)), 0.0),
    "where_log": lambda x: mg.where(x > 0, mg.log(x), 0.0),
    "where_div": lambda x: mg.where(x != 0, 1 / x, 0.0),
    "where_exp": lambda x: mg.where(x < 1, mg.exp(x), x),
    "where_xlogx": lambda x: mg.where(x > 0, x * mg.log(x), 0.0),
    "xlogx_naive": lambda x: x * mg.log(x),
    "mul_mask_sqrt": lambda x: (x > 0) * mg.sqrt(x),
    "x_div_x": lambda x: x / x,
    "x_minus_x": lambda x: x - x,
    "x_times_x": lambda x: x * x,
    "x_pow_x": lambda x: x**x,
}
# Not in the contract: a probability's cross-entropy (ours is defined on logits), x * log(y).
LEFT_OUT = {"bce_prob", "xlogy"}


def number(text):
    return float(text) if isinstance(text, str) else text


def same(ours, theirs, rtol):
    if math.isnan(theirs):
        return math.isnan(ours)
    if rtol == 0 or math.isinf(theirs) or theirs == 0:
        return ours == theirs
    return abs(ours - theirs) <= max(rtol * abs(theirs), 2e-323)  # a few subnormals


def gradients(function, arguments, const):
    """The value and the gradients by three roads, each with the upstream gradient."""
    roads = {}
    xs = [Value(x) for x in arguments]
    y = function(*xs, *const)
    assert isinstance(y, Value)
    (UPSTREAM * y).backward()
    roads["backward"] = [x.grad for x in xs]
    roads["grad"] = [x.data for x in mg.grad(UPSTREAM * y, xs)]
    if len(xs) == 1:  # a zero tangent beside an infinite partial is nan, as it should be
        roads["jvp"] = [mg.jvp(UPSTREAM * y, xs, [1.0])]
    return y.data, roads


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['fn']}")
def test_case(case):
    if case["fn"] in LEFT_OUT:
        pytest.skip("not in the contract")
    function = WRITTEN.get(case["fn"]) or getattr(mg, case["fn"])
    arguments = [number(x) for x in case["args"]]
    const = [number(case["const"])] if "const" in case else []
    value, roads = gradients(function, arguments, const)
    answers = [case, case["torch"], case["jax"]] if case["level"] == "choice" else [case]
    complaints = [complaint(case, answer, value, roads) for answer in answers]
    assert None in complaints, complaints[0]


def complaint(case, answer, value, roads):
    """What differs from one of the accepted answers; None if nothing does."""
    if not same(value, number(answer["value"]), case["rtol"]):
        return f"value {value}"
    if case["fn"] in ("add", "sub", "mul", "div", "neg", "abs", "copysign") and value == 0:
        if math.copysign(1, value) != math.copysign(1, number(answer["value"])):
            return f"the sign of {value}"
    if case["level"] == "value_only":
        return None
    expected = [0.0 if g is None else UPSTREAM * number(g) for g in answer["grads"] or []]
    for road, ours in roads.items():
        for got, want in zip(ours, expected, strict=False):
            if not same(got, want, max(case["rtol"], 4e-16)):
                return f"{road} {got}, expected {want}"
    return None


def test_the_file_covers_the_contract():
    assert len(CASES) == 844
    assert sum(case["fn"] not in LEFT_OUT for case in CASES) > 835
