"""C made from graphs and networks: compiled with the system's compiler, equal to the engine.

Bit for bit where only + - * / sqrt, comparisons and choices occur, to 1e-13 elsewhere; warnings are
errors. All files of a kind go into one shared library, since starting the compiler is what takes
time. PyTorch and ONNX are test_export.py's.
"""

import ctypes
import math
import random
import shutil
import subprocess

import pytest
import recorded_models
import test_edge_cases as edge
from engines import flat
from test_random_graphs import ROWS

import micrograd_scratch as mg
from micrograd_scratch import MLP, Value, c_functions, engine, export, losses, operations

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
FLAGS = "-std=c99 -Wall -Wextra -pedantic -Werror -ffp-contract=off -shared -fPIC".split()
UPSTREAM = [1.7, -0.6, 0.45, 1.1]

# Rows whose C rounds nothing but + - * / and sqrt: their results are the engine's, bit for bit.
EXACT = {
    *("add", "subtract", "multiply", "divide", "negative", "sqrt", "square", "relu", "absolute"),
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "where", "detach"),
    *("sign", "step", "maximum_of_two", "minimum_of_two", "largest_of", "smallest_of", "clip"),
    *("dot_of", "total_of", "take_of", "leaky_relu", "relu6", "hardtanh", "softsign", "copysign"),
    *("floor", "ceil", "trunc", "rounded", "fmod", "remainder", "floor_divide"),
}
EXACT_ROWS = {ROWS[name] for name in EXACT} | {engine.LEAF}


def build(folder, *names, optimized="-O2"):
    """The files `<name>.c` of a folder as one library."""
    library = folder / "library.so"
    files = [str(folder / f"{name}.c") for name in names]
    command = ["cc", *FLAGS, optimized, *files, "-o", str(library), "-lm"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[:3000]
    return ctypes.CDLL(str(library))


def array(numbers):
    return (ctypes.c_double * max(len(numbers), 1))(*numbers)


def run(library, name, p, x, outputs, dy=None):
    """y, or (y, dp, dx), of the C functions."""
    y = array([math.nan] * outputs)
    if dy is None:
        getattr(library, f"{name}_value")(array(p), array(x), y)
        return list(y)[:outputs]
    dp, dx = array([math.nan] * len(p)), array([math.nan] * len(x))
    getattr(library, f"{name}_gradient")(array(p), array(x), array(dy), y, dp, dx)
    return list(y)[:outputs], list(dp)[: len(p)], list(dx)[: len(x)]


def eager(outputs, parameters, inputs, x, dy):
    """The same by the engine, at the numbers x."""
    for leaf, number in zip(inputs, x, strict=True):
        leaf.data = number
    engine.recompute(*outputs)
    for leaf in (*parameters, *inputs):
        leaf.grad = 0.0
    operations.dot(dy, outputs).backward()
    return [y.data for y in outputs], [p.grad for p in parameters], [p.grad for p in inputs]


def assert_same(got, expected, exact, what=""):
    """Equal bits (any nan is as good as another), or 1e-13 of the largest in the same array."""
    for ours, theirs in zip(got, expected, strict=True):
        finite = [abs(e) for e in theirs if math.isfinite(e)]
        scale = max(finite, default=0.0)
        for a, e in zip(ours, theirs, strict=True):
            if exact or not math.isfinite(e):
                assert a.hex() == e.hex() or (a != a and e != e), f"{what}: {a} for {e}"
            else:
                assert abs(a - e) <= 1e-13 * scale + 2e-323, f"{what}: {a} for {e}"


def check(library, name, outputs, parameters, inputs, points, exact, what=""):
    """C against the engine at every point, value and gradient."""
    dy = [UPSTREAM[k % 4] for k in range(len(outputs))]
    for x in points:
        expected = eager(outputs, parameters, inputs, x, dy)
        p = [leaf.data for leaf in parameters]
        got = run(library, name, p, x, len(outputs), dy)
        assert_same(got, expected, exact, f"{what or name} at {x[:4]}")
        assert_same([run(library, name, p, x, len(outputs))], [got[0]], True, name)


# ---------------------------------------------------------------- rows
def points_for(row, arity, rng):
    """Arguments in the row's domain, on kinks and ties, at infinities, nan and both zeros."""
    domain = row.domain if isinstance(row.domain[0], tuple) else (row.domain,) * arity
    points = [[rng.uniform(*pair) for pair in domain] for _ in range(20)]
    special = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 2.5, -1e300, 3e-310, 6.0]
    points += [[x] * arity for x in special]
    points += [[rng.choice(special) for _ in range(arity)] for _ in range(60)]
    return points


@pytest.fixture(scope="module")
def rows_library(tmp_path_factory):
    """One function for every row of the table."""
    folder = tmp_path_factory.mktemp("rows")
    made = {}
    for name, row in ROWS.items():
        arity = row.arity or {"dot_of": 5, "take_of": 4}.get(name, 3)
        inputs = [Value(1.0 + (name != "take_of") * i / 4) for i in range(arity)]
        y = row(*inputs)
        export.to_c(y, folder / f"{name}.c", inputs=inputs, gradient=True)
        made[name] = row, inputs, y
    return build(folder, *made), made


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_table_has_a_form_in_c(name, rows_library):
    library, made = rows_library
    row, inputs, y = made[name]
    points = points_for(row, len(inputs), random.Random(name))
    if name == "take_of":  # the engine refuses an index that is none
        points = [[float(k % 3), *x[1:]] for k, x in enumerate(points)]
    check(library, name, [y], [], inputs, points, name in EXACT)


def test_the_rows_held_to_the_bit_are_in_the_table():
    assert set(ROWS) >= EXACT


# ---------------------------------------------------------------- every hard argument
def edge_functions():
    """(function, const) -> (a name, its cases)."""
    found = {}
    for case in edge.CASES:
        if case["fn"] not in edge.LEFT_OUT:
            key = case["fn"], case.get("const"), len(case["args"])
            found.setdefault(key, (f"case{len(found)}", []))[1].append(case)
    return found


@pytest.fixture(scope="module")
def edge_library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edge")
    made = {}
    for (fn, const, count), (name, _) in edge_functions().items():
        function = edge.WRITTEN.get(fn) or getattr(mg, fn)
        inputs = [Value(0.5 + i) for i in range(count)]
        y = function(*inputs, *([] if const is None else [edge.number(const)]))
        export.to_c(y, folder / f"{name}.c", inputs=inputs, gradient=True)
        made[name] = inputs, y
    return build(folder, *made), made


@pytest.mark.parametrize("key", edge_functions(), ids=lambda key: f"{key[0]}-{key[1]}-{key[2]}")
def test_edge_cases(key, edge_library):
    library, made = edge_library
    name, cases = edge_functions()[key]
    inputs, y = made[name]
    points = [[edge.number(x) for x in case["args"]] for case in cases]
    rows = {node.row for node in engine.topological_order(y)}
    check(library, name, [y], [], inputs, points, rows <= EXACT_ROWS, key)


# ---------------------------------------------------------------- recorded graphs
def random_exact(seed):
    """A graph of operations that have to agree to the bit, each node shared by several."""
    rng = random.Random(seed)
    inputs = [Value(rng.uniform(-2, 2)) for _ in range(4)]
    parameters = [Value(rng.uniform(-2, 2)) for _ in range(4)]
    nodes = [*inputs, *parameters]
    binary = [
        lambda a, b: a + b * 0.3,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / (b * b + 0.7),
        mg.maximum,
        mg.minimum,
        lambda a, b: mg.sqrt(a * a + 0.1) * b,
        lambda a, b: mg.relu(a) + abs(b),
    ]
    for _ in range(60):
        some = [rng.choice(nodes[-9:]) for _ in range(4)]
        kind = rng.randrange(4)
        if kind == 0:
            y = mg.dot(some[:2], some[2:], rng.choice([None, nodes[0]]))
        elif kind == 1:
            y = mg.maximum(some) + mg.total(some) * 0.25
        else:
            y = rng.choice(binary)(some[0], some[1])
        nodes.append(mg.clip(y, -3, 3) * 0.9)
    return nodes[-4:], parameters, inputs


@pytest.fixture(scope="module")
def graphs_library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    made = {}
    for name, make in recorded_models.MODELS.items():
        model = make()
        word = f"graph_{len(made)}"
        made[name] = word, model.results, model.leaves, [flat(x) for x in model.inputs], model.feed
        export.to_c(
            model.results,
            folder / f"{word}.c",
            inputs=model.inputs,
            parameters=model.leaves,
            gradient=True,
        )
    for seed in range(12):
        outputs, parameters, inputs = random_exact(seed)
        word = f"exact_{seed}"
        made[word] = word, outputs, parameters, [inputs], recorded_models.normal((4,))
        export.to_c(
            outputs, folder / f"{word}.c", inputs=[inputs], parameters=parameters, gradient=True
        )
    # thousands of lines: -O1 takes half the time
    return build(folder, *(word for word, *_ in made.values()), optimized="-O1"), made


@pytest.mark.parametrize("name", [*recorded_models.MODELS, *(f"exact_{k}" for k in range(12))])
def test_recorded_graphs(name, graphs_library):
    import numpy as np

    library, made = graphs_library
    word, outputs, parameters, inputs, feed = made[name]
    arrays = feed(np.random.default_rng(0), 4)
    rows = len(arrays[0]) if arrays else 1
    points = [[float(x) for a in arrays for x in np.ravel(a[r])] for r in range(rows)]
    inputs = [x for some in inputs for x in some]
    exact = {node.row for node in engine.topological_order(*outputs)} <= EXACT_ROWS
    assert exact or not name.startswith("exact")
    check(library, word, outputs, parameters, inputs, points, exact)


def test_a_graph_of_many_functions_has_the_bits_of_one_of_few(tmp_path, monkeypatch):
    made = {}
    for k, model in enumerate(
        [recorded_models.guarded(), recorded_models.irregular(120), recorded_models.attention()]
    ):
        for lines in (1000, 7):
            monkeypatch.setattr(c_functions, "LINES", lines)
            name = f"graph{k}_{lines}"
            export.to_c(
                model.results,
                tmp_path / f"{name}.c",
                inputs=model.inputs,
                parameters=model.leaves,
                gradient=True,
            )
            made[name] = model
        assert "backward1" in (tmp_path / f"{name}.c").read_text()
    library = build(tmp_path, *made)
    for name, model in made.items():
        inputs = [x for given in model.inputs for x in flat(given)]
        rng = random.Random(0)
        p = [leaf.data for leaf in model.leaves]
        for _ in range(5):
            x = [rng.gauss(0, 1) for _ in inputs]
            got = run(library, name, p, x, len(model.results), [1.7])
            other = run(library, name.split("_")[0] + "_1000", p, x, len(model.results), [1.7])
            assert_same(got, other, True, name)


def test_a_deep_graph(tmp_path):
    """A chain of 6,000 nodes: no recursion, and functions that a compiler copes with."""
    model = recorded_models.chain("affine", 3_000)
    export.to_c(model.outputs, tmp_path / "deep.c", parameters=model.leaves, gradient=True)
    check(build(tmp_path, "deep"), "deep", model.results, model.leaves, [], [[]], exact=True)


def test_the_branch_not_taken_contributes_nothing(tmp_path):
    x = Value(1.0)
    y = mg.where(x > 0, mg.sqrt(x) * 3.0, mg.log(-x) / x)
    export.to_c(y, tmp_path / "branch.c", inputs=[x], gradient=True)
    library = build(tmp_path, "branch")
    points = [[4.0], [0.0], [-2.0], [math.inf], [math.nan]]
    check(library, "branch", [y], [], [x], points, exact=False)
    assert run(library, "branch", [], [4.0], 1, [1.0])[2] == [0.75]


# ---------------------------------------------------------------- networks
ACTIVATIONS = [
    *("linear", "relu", "sigmoid", "tanh", "softplus", "logsigmoid", "leaky_relu", "elu", "selu"),
    *("gelu", "gelu_tanh", "silu", "mish", "softsign", "relu6", "hardtanh", "sin", "exp", "erf"),
    *("square", "step", "log", "atan"),
]
OUTPUTS = ["softmax", "log_softmax", "tanh"]


def swish(x):
    return x * mg.sigmoid(1.5 * x)


def guarded_root(x):
    return mg.where(x > 0, mg.sqrt(x), 0.1 * x)


def networks():
    rng = random.Random(0)
    named = [(a, MLP(3, [5, 4, 2], activation=a, rng=rng)) for a in ACTIVATIONS]
    named += [(f"to_{a}", MLP(3, [4, 3], output=a, rng=rng)) for a in OUTPUTS]
    named += [(f.__name__, MLP(3, [5, 1], activation=f, rng=rng)) for f in (swish, guarded_root)]
    tied = MLP(3, [3, 3, 2], rng=rng)
    tied.layers[1].neurons[0].w = tied.layers[0].neurons[1].w
    named += [("tied", tied), ("single", MLP(1, [1], rng=rng)), ("deep", MLP(2, [3] * 9, rng=rng))]
    return dict(named)


@pytest.fixture(scope="module")
def networks_library(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("networks"), networks()
    for name, model in made.items():
        export.to_c(model, folder / f"net_{name}.c", gradient=True)
    return build(folder, *(f"net_{name}" for name in made)), made, folder


@pytest.mark.parametrize("name", networks())
def test_networks(name, networks_library):
    library, made, _ = networks_library
    model, rng = made[name], random.Random(1)
    inputs = [Value(0.0) for _ in range(len(model.layers[0].neurons[0].w))]
    outputs = model(inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    parameters = list(dict.fromkeys(model.parameters()))
    points = [[rng.gauss(0, 2) for _ in inputs] for _ in range(6)]
    points += [[0.0] * len(inputs), [math.inf] * len(inputs), [1e200, -1e200, 3.0][: len(inputs)]]
    exact = name in EXACT | {"linear", "tied", "single", "deep"}
    check(library, f"net_{name}", outputs, parameters, inputs, points, exact)


def test_which_networks_are_loops(networks_library):
    """All but those whose derivative may not exist, or whose wiring is another."""
    _, made, folder = networks_library
    lines = {
        name for name in made if "layer_backward" not in (folder / f"net_{name}.c").read_text()
    }
    assert lines == {"step", "guarded_root", "tied"}


def test_a_network_for_mnist_is_a_short_program(tmp_path):
    model = MLP(784, [128, 64, 10], rng=random.Random(0))
    export.to_c(model, tmp_path / "mnist.c", gradient=True)
    source = (tmp_path / "mnist.c").read_text()
    code = source.replace(source[source.index("[109386] = {") : source.index("};")], "")
    assert code.count("\n") < 110
    library = build(tmp_path, "mnist")
    rng = random.Random(1)
    inputs = [Value(rng.random()) for _ in range(784)]
    x = [v.data for v in inputs]
    check(library, "mnist", model(inputs), model.parameters(), inputs, [x], exact=True)


# ---------------------------------------------------------------- the file
def test_parameters_are_in_the_file_to_the_last_bit(tmp_path):
    rng = random.Random(0)
    numbers = [0.1, -1 / 3, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, -0.0, 3.0, 0.5]
    numbers += [rng.gauss(0, 1) * 10.0 ** rng.randint(-300, 300) for _ in range(50)]
    leaves = [Value(x) for x in numbers]
    export.to_c(mg.total(leaves), tmp_path / "numbers.c")
    library = build(tmp_path, "numbers")
    held = (ctypes.c_double * len(numbers)).in_dll(library, "numbers_parameters")
    assert [x.hex() for x in held] == [x.hex() for x in numbers]


def test_without_a_gradient_there_is_none(tmp_path):
    export.to_c(MLP(2, [3, 1]), tmp_path / "net.c")
    assert "gradient" not in (tmp_path / "net.c").read_text()
    assert not hasattr(build(tmp_path, "net"), "net_gradient")


def test_the_file_compiles_by_itself_and_beside_others_as_c_of_1999(tmp_path):
    for name in ("exp", "2-layers", "double"):  # taken names, and ones that are no name in C
        export.to_c(MLP(2, [3, 1], activation="gelu"), tmp_path / f"{name}.c", gradient=True)
    library = build(tmp_path, "exp", "2-layers", "double")
    for name in ("exp_value", "_2_layers_value", "double_gradient"):
        assert hasattr(library, name)


def test_modules_functions_programs_and_constants(tmp_path):
    a, b = Value(2.0), Value(3.0)
    layer = mg.Layer(2, 3, activation="tanh", rng=random.Random(0))
    export.to_c(layer, tmp_path / "layer.c", inputs=2, gradient=True)
    export.to_c(lambda x: mg.sin(x[0]) * x[1], tmp_path / "plain.c", inputs=2, gradient=True)
    program = mg.compile(a * b + mg.sqrt(b), inputs=[b])
    export.to_c(program, tmp_path / "program.c", gradient=True)
    export.to_c([Value(1.0) * 2.0, a, a], tmp_path / "odd.c", parameters=[a], gradient=True)
    library = build(tmp_path, "layer", "plain", "program", "odd")
    xs = [Value(0.3), Value(-0.7)]
    numbers = [0.3, -0.7]
    check(library, "layer", layer(xs), layer.parameters(), xs, [numbers], exact=False)
    check(library, "plain", [mg.sin(xs[0]) * xs[1]], [], xs, [numbers], exact=False)
    check(library, "program", [a * b + mg.sqrt(b)], [a], [b], [[4.0]], exact=True)
    y, dp, _ = run(library, "odd", [5.0], [], 3, [1.0, 10.0, 100.0])
    assert (y, dp) == ([2.0, 5.0, 5.0], [110.0])


# ---------------------------------------------------------------- rows of one's own
cube = mg.operation("cube", lambda x: x**3 + abs(x), lambda y, x: (3 * x * x + mg.sign(x),))
root = mg.operation("root", math.cbrt, lambda y, x: (1.0 / (3.0 * y * y),))
total_of_squares = mg.operation(
    "squares", lambda *xs: sum(x * x for x in xs), lambda y, *xs: tuple(2.0 * x for x in xs)
)
bump = mg.operation(
    "bump!",
    lambda x: math.exp(-x * x) if abs(x) < 2 else 0.0,
    lambda y, x: (-2.0 * x * y,),
    array=lambda x: mg.where(abs(x) < 2, mg.exp(-x * x), 0.0),
)


def test_rows_of_ones_own(tmp_path):
    xs = [Value(0.3), Value(-0.7), Value(2.5)]
    y = cube(xs[0]) * bump(xs[1]) + root(xs[2]) + total_of_squares(*xs) * bump(xs[0])
    export.to_c(y, tmp_path / "mine.c", inputs=xs, gradient=True)
    points = [[0.3, -0.7, 2.5], [2.5, 1.0, -3.0], [-1.0, -2.0, 1e-3]]
    check(build(tmp_path, "mine"), "mine", [y], [], xs, points, exact=False)


def test_a_row_that_cannot_be_written_is_named(tmp_path):
    zeta = mg.operation("zeta", lambda x: float(int(x)) if x > 0 else 0.0, lambda y, x: (1.0,))
    with pytest.raises(TypeError, match="operation 'zeta' has no form in C: .*array="):
        export.to_c(zeta(Value(2.5)), tmp_path / "zeta.c")
    assert not (tmp_path / "zeta.c").exists()


def test_a_model_that_branches_on_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="branches on a number.*where"):
        export.to_c(lambda x: x[0] if x[0] > 0 else -x[0], tmp_path / "abs.c", inputs=1)
    with pytest.raises(ValueError, match="branches on a number.*where"):
        export.to_c(MLP(1, [2, 1], activation=lambda x: x if x > 0 else 0.1 * x), tmp_path / "m.c")


def test_how_many_inputs_a_module_takes_must_be_said(tmp_path):
    with pytest.raises(TypeError, match="inputs=2"):
        export.to_c(mg.Layer(2, 3), tmp_path / "layer.c")


def test_losses_with_a_class_as_input(tmp_path):
    """On-device training: the loss as an output, the target as an input."""
    model = MLP(3, [4, 3], activation="tanh", rng=random.Random(0))
    x, target = [Value(0.1), Value(0.2), Value(0.3)], Value(1.0)
    loss = losses.cross_entropy(model(x), target)
    given = [x, target]
    export.to_c(
        loss, tmp_path / "loss.c", inputs=given, parameters=model.parameters(), gradient=True
    )
    points = [[0.5, -1.0, 2.0, float(k)] for k in range(3)]
    library = build(tmp_path, "loss")
    check(library, "loss", [loss], model.parameters(), [*x, target], points, exact=False)
    assert math.isnan(run(library, "loss", [0.1] * 31, [0.5, -1.0, 2.0, 7.0], 1)[0])
