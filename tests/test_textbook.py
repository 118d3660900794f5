"""The textbook form of programs: it runs, agrees with the scalar graph, and reads like a book."""

import ast
import builtins
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from engines import assert_agree, eager
from recorded_models import MODELS
from test_compiler_random import KINDS, strands

import micrograd_scratch as mg
from micrograd_scratch import MLP, Value, dot, exp, losses, operation, relu, tanh, total

_ROOT = mg.__path__[0].rpartition("/")[0]
GUARDED = ("guarded", "irregular")  # a branch not taken is not finite: a book multiplies it by 0


def statements(program):
    """The lines, without comments."""
    lines = str(program.textbook).splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]


@pytest.mark.parametrize("name", [name for name in MODELS if name not in GUARDED])
def test_it_gives_the_numbers_of_the_scalar_graph(name):
    model = MODELS[name]()
    model.outputs = model.results[0]
    program = model.compile()
    arrays = model.feed(np.random.default_rng(3), 4)
    expected = eager(model, arrays)
    mean, gradient = program.textbook([p.data for p in model.leaves], *arrays)
    assert_agree(mean, expected.mean, what="mean")
    assert_agree(gradient, expected.gradient, what="gradient")


def names_of(source):
    """What the text reads, what it writes, what it imports, and what it says is in .namespace."""
    nodes = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Name, ast.alias))
    ]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    written = {node.id for node in names if isinstance(node.ctx, ast.Store)} - {"_"}
    imported = {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    listed = re.findall(r"# (?:arrays|functions) in .namespace: (.*?)(?: and \d+ more)?\n", source)
    return read, written, imported, {name for line in listed for name in line.split(", ")}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_named_that_is_not_read_and_all_is_explained(name):
    model = MODELS[name]()
    model.outputs = model.results[0]
    book = model.compile().textbook
    read, written, imported, listed = names_of(book.source)
    assert written <= read and imported <= read and listed <= read
    given = read - written - imported - set(dir(builtins)) - {"theta", *written}
    given -= {x.name for x in book.inputs}
    assert given <= set(book.namespace)
    assert given == listed or "more" in book.source.partition("from")[0]


def test_what_was_read_for_nothing_is_left_out():
    a = [Value(1.0, label="a"), Value(2.0, label="b"), Value(3.0, label="c")]
    program = mg.compile(a[2] * a[1] + a[0] * a[2] + a[1] * a[0], parameters=a)
    assert statements(program)[2:6] == [
        "r = reshape(theta, -1)[index]",
        "r_2 = reshape(theta, -1)[index_2]",
        "result = r @ r_2",
        "dresult = 1.0",
    ]
    assert program.textbook([1.0, 2.0, 3.0])[1].tolist() == [5.0, 4.0, 3.0]


def test_padding_is_one_of_its_arrays():
    x, w = [Value(0.1 * i) for i in range(4)], Value(2.0)
    parts = [mg.logsumexp([w * a for a in x[:n]]) for n in (2, 4)]
    text = str(mg.compile(parts[0] + parts[1], parameters=[w]).textbook)
    assert "# arrays in .namespace: padding, c, index," in text
    text = str(mg.compile(mg.logsumexp([w * a for a in x]), parameters=[w]).textbook)
    assert "# arrays in .namespace: c\n" in text


def test_a_clip_has_one_name_and_is_imported():
    def text(clipped):
        w = [Value(0.1 * i - 0.35) for i in range(8)]
        h = w
        for _ in range(6):
            h = [clipped(x) * tanh(y) for x, y in zip(h, [*h[1:], h[0]], strict=True)]
        program = mg.compile(total(h), parameters=w)
        theta = [x.data for x in w]
        expected = program.value_and_grad()
        assert_agree(program.textbook(theta)[1], expected[1], what="gradient")
        return str(program.textbook)

    assert "import add, broadcast_to, clip, " in text(lambda x: mg.clip(x, -0.2, 0.2))
    found = text(lambda x: mg.clip(x, 0.0, 0.2))  # NumPy makes -0.0 of it where x is -0.0
    assert "from micrograd_scratch import clip as clip_2\n" in found
    assert "clip_3" not in found and "clip_2[" not in found


def test_functions_of_ones_own_are_explained_and_named_once():
    bent = operation("bent", lambda x: max(x, 0.5 * x), lambda y, x: (1.0 if x > 0 else 0.5,))
    h = w = Value(0.3)
    for _ in range(12):
        h = tanh(bent(h) * w - 0.1)
    program = mg.compile(h, parameters=[w])
    assert "# functions in .namespace: bent, slope, slope_2\n" in str(program.textbook)
    assert "bent[" not in str(program.textbook) and "slope[" not in str(program.textbook)
    assert program.textbook([0.3])[1] == pytest.approx(program.value_and_grad()[1], rel=1e-13)


def test_equal_arrays_are_one():
    n, k = 12, Value(0.1, label="k")
    u = parameters = [Value(0.1 * i, label=f"u[{i}]") for i in range(n)]
    for _ in range(20):
        u = [u[i] + k * (u[i - 1] - 2 * u[i] + u[(i + 1) % n]) for i in range(n)]
    program = mg.compile(total([a * a for a in u]), parameters=[k, *parameters])
    book = program.textbook
    assert "# arrays in .namespace: index, index_2\n" in str(book) and "[index[" not in str(book)
    theta = [p.data for p in program.parameters]
    assert_agree(book(theta)[1], program.value_and_grad()[1], what="gradient")


def derivatives_of(y, parameters):
    """The lines behind `dresult`, if they give the right numbers."""
    program = mg.compile(y, parameters=parameters)
    found = program.textbook([p.data for p in parameters])
    assert_agree(found[1], program.value_and_grad()[1], what="gradient")
    lines = statements(program)
    return lines[lines.index("dresult = 1.0") + 1 : lines.index("g = zeros_like(theta)")]


def test_powers_and_products_have_no_ones():
    a, b = Value(3.0, label="a"), Value(2.0, label="b")
    assert derivatives_of(exp(a**2) * b, [a, b])[-1] == "da = dh * (2.0 * a)"
    assert derivatives_of(exp(a**1) + b, [a, b])[-1] == "da = dh"
    found = derivatives_of(total([exp(a) ** k * b for k in (3, 1)]), [a, b])
    assert not any("** 1.0" in line or "1.0 *" in line or "* 1.0" in line for line in found)
    cells = [a * b, exp(a), exp(b)]
    for weights in ([1.0, 0.5, 1.0], [1.0, 1.0, 0.25]):
        lines = statements(mg.compile(tanh(dot(weights, cells)), parameters=[a, b]))
        assert not any("* 1.0" in line or "1.0 * " in line for line in lines)


def test_a_matrix_that_is_turned_twice_is_not_turned():
    n = 5
    C = [[Value(0.1 * abs(i - j) + 0.01 * i, label="C") for j in range(n)] for i in range(n)]
    K, v = [[exp(-c) for c in row] for row in C], [1.0] * n
    for _ in range(3):
        u = [0.1 / dot(row, v) for row in K]
        v = [0.1 / dot(list(column), u) for column in zip(*K, strict=True)]
    program = mg.compile(total(v), parameters=sum(C, []))
    text = str(program.textbook)
    assert "h_2.reshape(5, 5).T @ h_" in text and "h_2.reshape(5, 5) @ dh_" in text
    assert ".T.T" not in text and "transpose" not in text
    found = program.textbook([c.data for c in sum(C, [])])
    assert_agree(found[1], program.value_and_grad()[1], what="gradient")


def network(activation="sigmoid"):
    model = MLP(3, [4, 2], activation=activation)
    x, t = [Value(0.0, label=f"x{i}") for i in range(3)], [Value(0.0) for _ in range(2)]
    loss = losses.squared_error(model(x), t)
    return mg.compile(loss, inputs=[x, t], parameters=model.parameters())


def test_a_network_reads_like_a_book():
    found = statements(network())
    for line in (
        "W1 = theta[0:16].reshape(4, 4)[:, :3]",
        "b1 = theta[3:16:4]",
        "z1 = W1 @ x0 + b1[:, None]",
        "a1 = sigmoid(z1)",
        "z2 = W2 @ a1 + b2[:, None]",
        "da1 = W2.T @ dz2",
        "dz1 = da1 * (a1 * (1.0 - a1))",
        "dW1 = dz1 @ x0.T",
        "db1 = dz1.sum(1)",
        "g[3:16:4] += db1",
    ):
        assert line in found


def test_a_recurrent_network_reads_as_backpropagation_through_time():
    found = statements(MODELS["recurrent_rows"]().compile())
    ahead = found.index("for t in range(1, 9):")
    assert found[ahead - 3 : ahead + 3] == [
        "h = einsum('rk,ckn->rcn', U, x0.reshape(9, 3, -1)) + b[:, None, None]",
        "z[0] = h[:, 0]",
        "a[0] = tanh(z[0])",
        "for t in range(1, 9):",
        "z[t] = W @ a[t - 1] + h[:, t]",
        "a[t] = tanh(z[t])",
    ]
    back = found.index("for t in reversed(range(1, 9)):")
    assert found[back + 1 : back + 3] == [
        "dz[t] = da[t] * (1.0 - a[t] * a[t])",
        "da[t - 1] = W.T @ dz[t]",
    ]
    assert "dW = sum(dz[t] @ a[t - 1].T for t in reversed(range(1, 9)))" in found
    assert "dU = einsum('rcn,ckn->rk', dh, x0.reshape(9, 3, -1))" in found
    assert "db = dh.sum((1, 2))" in found


def test_a_first_state_of_zeros_adds_nothing():
    W, b, x = [[Value(0.1 * i - 0.2 * j) for i in range(3)] for j in range(3)], Value(0.5), Value(0)
    h = [0.0] * 3
    for _ in range(2):
        h = [tanh(dot(row, h, b + x)) for row in W]
    parameters = [*(w for row in W for w in row), b]
    program, X = mg.compile(total(h), [[x]], parameters), np.array([[0.3], [-0.7]])
    text = [line for line in statements(program) if "@" in line]
    assert len(text) == 3 and "0.0 *" not in str(program.textbook)  # W @ h, and back by W and by h
    value, gradient = program.value_and_grad(X)
    found, slopes = program.textbook([p.data for p in parameters], X)
    assert found == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(slopes, gradient, rtol=1e-12)


def test_a_bias_alone_has_the_axis_of_rows():
    p, x = [Value(0.5), Value(1.5)], [Value(0.1), Value(0.2)]
    dots = [dot([0.0, 0.0], x, b) for b in p]
    program = mg.compile(total([dots[0] * tanh(x[0]), dots[1] * x[1], *dots]), [x], p)
    X = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    value, gradient = program.value_and_grad(X)
    found, slopes = program.textbook([b.data for b in p], X)
    assert found == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(slopes, gradient, rtol=1e-13)


def test_a_chain_of_thousands_is_a_short_text():
    x, r = 0.3, Value(2.5)
    for _ in range(4000):
        x = r * x * (1 - x)
    program = mg.compile(x, parameters=[r])
    assert len(statements(program)) < 40
    mean, gradient = program.textbook([2.5])
    expected, slope = program.value_and_grad(parameters=[2.5])
    assert (mean, gradient[0]) == pytest.approx((expected, slope[0]), rel=1e-12)


def test_what_several_steps_gather_is_read_by_row():
    x = [Value(0.1 * i) for i in range(5)]
    w = [[Value(0.3 - 0.1 * i * j) for j in range(4)] for i in range(9)]
    h = [exp(a) for a in x]
    mixed, y = [h[3], h[0], h[4], h[1]], 0.5
    for rows in (w[:3], w[3:6], w[6:]):
        y = total([tanh(mg.dot([k * y for k in row], mixed)) for row in rows])
    program = mg.compile(y, inputs=[x], parameters=[k for row in w for k in row])
    assert "gather" in [step.row.name for step in program._layout.steps]
    X = np.random.default_rng(0).normal(size=(6, 5))
    theta = [p.data for p in program.parameters]
    mean, gradient = program.textbook(theta, X)
    expected, slopes = program.value_and_grad(X)
    assert_agree(mean, expected, what="mean")
    assert_agree(gradient, slopes, what="gradient")


def test_a_bias_by_row_on_numbers_alone():
    x, w = [Value(1.0), Value(2.0)], Value(3.0)
    program = mg.compile(mg.dot([2.0, 2.0], [0.5, 0.5], x[0]) * w, inputs=[x], parameters=[w])
    assert program.textbook([3.0], [[1.0, 2.0]]) == (9.0, [3.0])


@pytest.mark.parametrize("name", ["range", "sum", "len", "t", "tanh", "lambda"])
def test_an_operation_of_ones_own_may_be_called_anything(name):
    double = operation(name, lambda x: 2 * x, lambda y, x: (2.0,))
    w, h = Value(0.3), Value(0.1)
    for _ in range(9):
        h = tanh(double(w) * h + 0.1)
    program = mg.compile(h, parameters=[w])
    mean, gradient = program.textbook([0.3])
    w.grad = 0.0
    h.backward()
    assert (mean, gradient[0]) == pytest.approx((h.data, w.grad), rel=1e-12)


def test_it_is_a_program_of_its_own(tmp_path):
    program = network("relu")
    theta, X, T = np.linspace(-1, 1, 26), np.ones((5, 3)), np.zeros((5, 2))
    expected, gradient = program.value_and_grad(X, T, parameters=theta)
    (tmp_path / "book.py").write_text(str(program.textbook))
    script = (
        "import numpy as np, book; "
        "mean, g = book.value_and_grad(np.linspace(-1, 1, 26), np.ones((5, 3)), np.zeros((5, 2))); "
        "print(*[float(x) for x in (mean, *g)])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": f"{tmp_path}:{_ROOT}"},
    )  # fmt: skip
    numbers = [float(word) for word in ran.stdout.split()]
    np.testing.assert_allclose(numbers, [expected, *gradient], rtol=1e-13)


def test_a_shared_value_collects_its_derivatives():
    a, b = Value(2.0, label="a"), Value(3.0, label="b")
    program = mg.compile(a * b + exp(a), parameters=[a, b])
    mean, gradient = program.textbook([2.0, 3.0])
    assert mean == pytest.approx(6 + np.exp(2)) and gradient == pytest.approx([3 + np.exp(2), 2])


def test_operations_of_your_own_and_rules_that_branch():
    cube = operation("cube", lambda x: x**3, lambda y, x: (3.0 * x * x,))
    bent = operation("bent", lambda x: max(x, 0.5 * x), lambda y, x: (1.0 if x > 0 else 0.5,))
    xs = [Value(0.1 * i - 0.45) for i in range(10)]
    program = mg.compile(total([cube(x) * bent(x) for x in xs]), parameters=xs)
    theta = np.array([x.data for x in xs])
    mean, gradient = program.textbook(theta)
    slope = np.where(theta > 0, 1.0, 0.5)
    assert mean == pytest.approx(np.sum(theta**3 * slope * theta))
    assert gradient == pytest.approx(4 * theta**3 * slope)


def test_labels_cannot_speak():
    x = [Value(1.0, label="__import__('os')"), Value(2.0, label="exp")]
    program = mg.compile(relu(x[0] * x[1]), inputs=[x[1]], parameters=[x[0]])
    assert "import os" not in str(program.textbook) and "__import__" not in str(program.textbook)
    assert program.textbook([3.0], [2.0]) == (6.0, [2.0])


def test_labels_that_the_source_has_a_use_for_get_an_underscore():
    labels = ["f1", "h1", "t", "f", "theta", "exp", "p", "g", "seed", "rows", "d", "x0", "h", "z1"]
    labels += ["dh", "h_", "dh_", "t_", "h_1", "h_2", "h__2", "index", "rows_", "s", "ties", "T"]
    w = [
        [Value(0.1 * i - 0.2 * j, label=label) for j in range(3)] for i, label in enumerate(labels)
    ]
    x = [Value(0.0) for _ in range(3)]
    y = x
    for row in w:
        y = [tanh(a * b + c) for a, b, c in zip(row, y, [*y[1:], dot(row, y)], strict=True)]
    parameters = [p for row in w for p in row]
    program = mg.compile(total(y), inputs=[x], parameters=parameters)
    book, X = program.textbook, np.random.default_rng(0).normal(size=(4, 3))
    theta = [p.data for p in parameters]
    found = program.value_and_grad(X)
    plain = mg.compile(total(y), inputs=[x], parameters=parameters)
    for p in parameters:
        p.label = ""
    assert_agree(plain.value_and_grad(X)[1], found[1], what="gradient")
    assert_agree(book(theta, X)[1], found[1], what="gradient")
    text = [line.strip() for line in str(book).splitlines()]
    for label in ("f1", "h1", "t", "f", "theta", "exp", "p", "g", "seed", "rows", "x0"):
        assert any(line.startswith(f"{label}_ = theta[") for line in text)
    assert not any(line.startswith("p = theta[") for line in text)


def test_of_a_function():
    program = mg.compile(lambda x: x[0] * 2.0 + x[1])
    program(np.ones((3, 2)))
    mean, gradient = program.textbook(np.empty(0), np.ones((3, 2)))
    assert mean == 3.0 and len(gradient) == 0


def test_of_a_function_with_branches_every_row_goes_through_that_of_its_path():
    w = Value(2.0, label="w")
    program = mg.compile(lambda x: x * w if x > 0 else exp(x * w))
    with pytest.raises(RuntimeError, match="the textbook is known after the first call"):
        _ = program.textbook
    program.value_and_grad([-1.0])
    text = str(program.textbook).splitlines()
    assert text[0].startswith("# for rows where x > 0 (line ") and text[0][-9:] == " is False"
    assert program.textbook([2.0], [1.0]) == (2.0, [1.0])  # a path not taken before
    assert str(program.textbook).count("def value_and_grad") == 2
    x = np.array([-1.0, 1.0, 3.0])
    mean, gradient = program.textbook([0.5], x)
    expected, slopes = program.value_and_grad(x, parameters=[0.5])
    assert mean == pytest.approx(expected, rel=1e-14)
    assert gradient == pytest.approx(slopes, rel=1e-14)


def test_of_a_function_for_rows_of_several_shapes():
    program = mg.compile(lambda x: total(x) * 2.0)
    for n in (2, 3):
        program(np.ones((1, n)))
    assert [program.textbook([], np.ones((1, n)))[0] for n in (2, 3)] == [4.0, 6.0]
    assert "# for rows of shape (3,)\n" in str(program.textbook)


def test_what_is_gathered_for_several_rows_that_are_alike():
    w, x = [Value(0.1 * i + 0.1) for i in range(9)], [Value(0.5), Value(0.25)]
    h = [exp(v) for v in w]
    s = [h[i] for i in (0, 3, 4, 8)]
    dots = [tanh(dot(s, s, bias)) for bias in x]
    loss = total([dot(s, h[i : i + 4], y) for i, y in enumerate(dots)])
    program, X = mg.compile(loss, [x], w), np.array([[0.5, 0.25], [1.0, -1.0]])
    value, gradient = program.value_and_grad(X)
    found, slopes = program.textbook([p.data for p in w], X)
    assert found == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(slopes, gradient, rtol=1e-12)


def test_a_constant_is_refused():
    with pytest.raises(ValueError, match="the output is a constant"):
        _ = mg.compile(mg.engine.as_value(1.0), parameters=[Value(2.0)]).textbook


def test_several_outputs_are_refused():
    with pytest.raises(ValueError, match="single output"):
        print(MODELS["several_outputs"]().compile().textbook)


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed):
    rng = random.Random(seed)
    steps = [
        (rng.randrange(len(KINDS)), rng.randrange(31), rng.randrange(31), rng.randint(1, 5))
        for _ in range(rng.randint(2, 14))
    ]
    roles = [rng.choice(["input", "parameter", "number"]) for _ in range(4)]
    model = strands(steps, roles, [rng.randint(1, 14) for _ in range(3)], seed)
    model.outputs = model.results[0]
    arrays = model.feed(np.random.default_rng(seed), 3)
    expected = eager(model, arrays)
    mean, gradient = model.compile().textbook([p.data for p in model.leaves], *arrays)
    assert_agree(mean, expected.mean, 1e-10, "mean")
    finite = np.isfinite(gradient)  # a book multiplies the branch not taken by 0
    assert 2 * finite.sum() >= finite.size
    assert_agree(gradient[finite], expected.gradient[finite], 1e-10, "gradient")


def test_a_derivative_of_many_terms():
    a, b = Value(0.7, label="a"), Value(0.3, label="b")
    xs = [Value(0.0, label=f"x[{i}]") for i in range(500)]
    h = a
    for x in xs:
        h = tanh(h * a + x * b)
    program = mg.compile(h * h, inputs=[xs])
    arrays = np.random.default_rng(0).uniform(-1.0, 1.0, (3, len(xs)))
    mean, gradient = program.textbook(np.array([0.7, 0.3]), arrays)
    expected = program.value_and_grad(arrays)
    assert_agree(mean, expected[0], what="mean")
    assert_agree(gradient, expected[1], what="gradient")


def test_a_label_that_is_a_keyword():
    rate, w = Value(0.5, label="lambda"), Value(2.0, label="in")
    mean, gradient = mg.compile(rate * w, inputs=[rate]).textbook(np.array([2.0]), np.ones(3))
    assert mean == 2.0 and gradient.tolist() == [1.0]
