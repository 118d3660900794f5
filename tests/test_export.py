"""To PyTorch and back, to ONNX: the same outputs; and what happens without these libraries.

Outputs of PyTorch, of the eager engine and of onnxruntime are compared on the same rows, far out in
the tails as well. C is test_export_c.py's; files of weights are read here the way PyTorch's world
reads them.
"""

import math
import random
import re

import numpy as np
import pytest

import micrograd_scratch as mg
from micrograd_scratch import MLP, Value, compile, export

ACTIVATIONS = [
    *("relu", "sigmoid", "tanh", "softplus", "logsigmoid", "leaky_relu", "elu", "selu", "gelu"),
    *("gelu_tanh", "silu", "mish", "softsign", "relu6", "hardtanh", "linear", "sin", "exp", "erf"),
    *("square", "sign", "atan", "floor", "expm1"),
]
OUTPUTS = ["linear", "softmax", "log_softmax", "sigmoid", "tanh"]


def model_of(activation="tanh", output="linear", sizes=(3, 8, 7, 4), seed=0):
    return MLP(sizes[0], sizes[1:], activation, output, rng=random.Random(seed))


def rows_of(model, scale=3.0):
    """Rows near and far: activations are asked about both tails."""
    rng = np.random.default_rng(0)
    n = len(model.layers[0].neurons[0].w)
    return np.concatenate([rng.normal(size=(20, n)) * scale, np.zeros((1, n)), np.full((1, n), 30)])


def outputs_of(model, X):
    """The eager engine's outputs, (rows, nout)."""
    found = []
    for row in X.tolist():
        y = model([Value(x) for x in row])
        found.append([v.data for v in y] if isinstance(y, list) else [y.data])
    return np.array(found)


def assert_close(ours, theirs, tolerance=1e-12):
    scale = max(1.0, np.abs(theirs).max())
    assert np.abs(np.asarray(ours) - theirs).max() <= tolerance * scale


# ---------------------------------------------------------------- PyTorch
@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_to_torch_and_back(torch, activation, output):
    model = model_of(activation, output)
    X = rows_of(model, 0.5 if activation in ("exp", "square", "expm1") else 3.0)[:-1]
    exported = export.to_torch(model)
    assert isinstance(exported, torch.nn.Sequential)
    with torch.no_grad():
        assert_close(exported(torch.tensor(X)).numpy(), outputs_of(model, X))
    again = export.from_torch(exported)
    assert again.state_dict() == model.state_dict()
    assert [layer.activation for layer in again.layers] == [activation, activation, output]
    assert np.array_equal(outputs_of(again, X), outputs_of(model, X))
    labels = [p.label for p in model.parameters()]
    assert [p.label for p in again.parameters()] == labels


def test_state_dicts_have_the_same_names_and_are_exchanged(torch):
    model, other = model_of(), model_of(seed=1)
    exported = export.to_torch(other)
    assert list(exported.state_dict()) == list(model.state_dict())
    model.load_state_dict(exported.state_dict())
    assert model.state_dict() == other.state_dict()
    exported.load_state_dict(
        {k: torch.tensor(v, dtype=torch.float64) for k, v in model_of().state_dict().items()}
    )
    assert export.from_torch(exported).state_dict() == model_of().state_dict()


def test_torch_has_the_gradient_too(torch):
    model = model_of("gelu", "log_softmax")
    X = rows_of(model)[:5]
    exported = export.to_torch(model)
    loss = -exported(torch.tensor(X))[:, 2].mean()
    loss.backward()
    named = {name: p.grad for name, p in exported.named_parameters()}
    x = [Value(0.0) for _ in range(3)]
    program = compile(-model(x)[2], inputs=[x], parameters=model.parameters())
    value, gradient = program.value_and_grad(X)
    assert_close(value, loss.item())
    by_layer = []
    for k in range(3):
        weight, bias = named[f"{2 * k}.weight"].numpy(), named[f"{2 * k}.bias"].numpy()
        by_layer += [np.append(w, b) for w, b in zip(weight, bias, strict=True)]
    assert_close(gradient, np.concatenate(by_layer))


def test_float32_modules_both_ways(torch):
    model = model_of()
    exported = export.to_torch(model, dtype="float32")
    assert all(p.dtype == torch.float32 for p in exported.parameters())
    again = export.from_torch(exported)
    assert_close(outputs_of(again, rows_of(model)), outputs_of(model, rows_of(model)), 1e-5)
    assert export.to_torch(again, "float32").state_dict().keys() == exported.state_dict().keys()
    for p, q in zip(
        export.to_torch(again, "float32").parameters(), exported.parameters(), strict=True
    ):
        assert torch.equal(p, q)


def test_from_a_module_written_by_hand(torch):
    nn = torch.nn
    module = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.5)),
        nn.Linear(4, 6, bias=False),
        nn.ReLU(),
        nn.Linear(6, 3),
        nn.Linear(3, 2),
        nn.Softmax(dim=1),
    ).double()
    module.eval()
    model = export.from_torch(module)
    X = np.random.default_rng(0).normal(size=(9, 5))
    with torch.no_grad():
        assert_close(outputs_of(model, X), module(torch.tensor(X)).numpy())
    assert [layer.activation for layer in model.layers] == ["tanh", "relu", "linear", "softmax"]
    assert model.layers[1].neurons[2].w[1].label == "W2[2,1]"
    assert len(export.from_torch(nn.Linear(3, 2)).parameters()) == 8


def test_importing_weights_leaves_the_random_numbers_alone(torch):
    module = export.to_torch(model_of())
    random.seed(5)
    expected = random.Random(5).random()
    export.from_torch(module)
    assert random.random() == expected


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda nn: [nn.Conv2d(1, 1, 3)],
            TypeError,
            r"module '0' \(Conv2d\) is nothing an MLP has",
        ),
        (
            lambda nn: [nn.Tanh(), nn.Linear(2, 1)],
            TypeError,
            r"'0' \(Tanh\) does not follow a Linear",
        ),
        (lambda nn: [nn.Linear(2, 1), nn.Tanh(), nn.ReLU()], TypeError, r"'2' \(ReLU\) does not"),
        (lambda nn: [nn.Linear(2, 1), nn.LeakyReLU(0.2)], ValueError, "negative_slope"),
        (lambda nn: [nn.Linear(2, 1), nn.Softplus(beta=2)], ValueError, "beta"),
        (lambda nn: [nn.Linear(2, 3), nn.Linear(2, 1)], ValueError, "Linear 1 takes 2.*gets 3"),
        (lambda nn: [], TypeError, "has no Linear"),
    ],
)
def test_modules_that_are_no_mlp_are_named(torch, build, error, message):
    with pytest.raises(error, match=message):
        export.from_torch(torch.nn.Sequential(*build(torch.nn)))


def test_what_torch_does_not_have_is_named(torch):
    with pytest.raises(TypeError, match="no activation .*gudermann"):
        gudermann = mg.operation("gudermann", lambda x: x, lambda y, x: (1.0,))
        export.to_torch(model_of(gudermann))
    with pytest.raises(TypeError, match="to_torch takes an MLP.*Layer"):
        export.to_torch(mg.Layer(2, 3))


def test_torch_loads_our_files_with_all_keys_matched(torch, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    from micrograd_scratch import load, save

    model = model_of()
    save(model, tmp_path / "weights.safetensors")
    module = export.to_torch(model_of(seed=1))
    state = safetensors.load_file(tmp_path / "weights.safetensors")
    assert str(module.load_state_dict(state)) == "<All keys matched successfully>"
    with torch.no_grad():
        X = rows_of(model)
        assert_close(module(torch.tensor(X)).numpy(), outputs_of(model, X))
    safetensors.save_file(
        export.to_torch(model_of(seed=2)).state_dict(), tmp_path / "2.safetensors"
    )
    load(model, tmp_path / "2.safetensors")
    assert model.state_dict() == model_of(seed=2).state_dict()


# ---------------------------------------------------------------- ONNX
def bent(x):
    return mg.where(x < 1.0, mg.tanh(x) + 0.1 * x, mg.maximum(x, 2.0) ** 0.5 - 0.1)


cube = mg.operation("cube", lambda x: x * x * x, lambda y, x: (3.0 * x * x,))
# those that need an operation which onnxruntime has in float32 alone
ONLY_FLOAT32 = {"gelu", "erf", "atan"}


def run_onnx(path, X, dtype):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["x"]
    return session.run(None, {"x": X.astype(dtype)})[0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, bent, cube])
def test_onnxruntime_computes_the_same(activation, dtype, tmp_path):
    pytest.importorskip("onnx")
    if activation in ONLY_FLOAT32 and dtype == "float64":
        pytest.skip("onnxruntime has no such operation in float64")
    model = model_of(activation)
    X = rows_of(model, 1.0 if activation in ("exp", "square", "expm1", cube) else 3.0)[:-1]
    if activation in ("floor", "sign") and dtype == "float32":
        X = np.round(X * 4) / 4 + 0.125
        for layer in model.layers:  # products that float32 holds: nothing rounds across a step
            for p in layer.parameters():
                p.data = round(p.data * 4) / 4
    export.to_onnx(model, tmp_path / "model.onnx", dtype)
    got = run_onnx(tmp_path / "model.onnx", X, dtype)
    assert got.dtype == dtype and got.shape == (len(X), 4)
    assert_close(got, outputs_of(model, X), 1e-12 if dtype == "float64" else 3e-5)


@pytest.mark.parametrize("activation", sorted(ONLY_FLOAT32))
def test_what_onnxruntime_lacks_in_float64_is_correct_by_the_reference(activation, tmp_path):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    model = model_of(activation)
    export.to_onnx(model, tmp_path / "model.onnx")
    X = rows_of(model)
    session = reference.ReferenceEvaluator(onnx.load(tmp_path / "model.onnx"))
    (got,) = session.run(None, {"x": X})
    assert_close(got, outputs_of(model, X), 1e-6)  # its erf is one of 7 digits


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_of_layers_in_onnx(output, tmp_path):
    pytest.importorskip("onnx")
    model = model_of("relu", output)
    export.to_onnx(model, tmp_path / "model.onnx")
    X = rows_of(model)
    assert_close(run_onnx(tmp_path / "model.onnx", X, "float64"), outputs_of(model, X))


def test_the_onnx_file_says_what_it_is(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = model_of(sizes=(3, 2, 1))
    export.to_onnx(model, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    weights = {t.name: onnx.numpy_helper.to_array(t).tolist() for t in graph.initializer}
    assert weights == model.state_dict()
    shape = [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["rows", 3]
    assert [node.op_type for node in graph.node] == ["Gemm", "Tanh", "Gemm", "Identity"]


def test_what_onnx_cannot_say_is_named(tmp_path):
    pytest.importorskip("onnx")
    zeta = mg.operation("zeta", lambda x: float(int(x)), lambda y, x: (1.0,))
    with pytest.raises(TypeError, match="operation 'zeta' has no form in ONNX"):
        export.to_onnx(model_of(zeta), tmp_path / "zeta.onnx")
    with pytest.raises(TypeError, match="to_onnx takes an MLP"):
        export.to_onnx(mg.Neuron(2), tmp_path / "neuron.onnx")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- libraries that are not there
MISSING = """
    import sys
    sys.modules[{library!r}] = None  # as if it were not installed
    from micrograd_scratch import MLP, export
    try:
        {call}
    except ImportError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("library", "call", "mend"),
    [
        ("torch", "export.to_torch(MLP(2, [1]))", r"torch is not installed: .*pytorch\.org"),
        ("torch", "export.from_torch(None)", r"torch is not installed: .*pytorch\.org"),
        ("onnx", "export.to_onnx(MLP(2, [1]), 'x.onnx')", r"onnx is not installed: .*\[export\]"),
    ],
)
def test_a_library_that_is_missing_is_one_line(library, call, mend, run_python):
    said = run_python(MISSING.format(library=library, call=call))
    assert "\n" not in said and re.fullmatch(mend + ".*", said)


def test_nothing_of_this_is_imported_before_it_is_asked_for(run_python):
    code = """
        import sys
        import micrograd_scratch
        from micrograd_scratch import MLP, export, fit
        export.to_c(MLP(2, [3, 1]), "/dev/null", gradient=True)
        fit(MLP(1, [1]), [[1.0], [2.0]], [1.0, 2.0], loss="squared_error", epochs=1, map=map)
        print({"torch", "onnx", "onnxruntime", "dask", "distributed", "joblib"} & set(sys.modules))
    """
    assert run_python(code) == "set()"


def test_an_activation_of_your_own_is_not_exported_as_its_namesake():
    pytest.importorskip("torch")

    def tanh(x):
        return 1.7159 * math.tanh(x * 2 / 3)

    for activation in (mg.activation(tanh), mg.operation("tanh", tanh, lambda y, x: (1.0,))):
        with pytest.raises(TypeError, match="torch has no activation .*tanh"):
            export.to_torch(MLP(2, [3, 1], activation=activation))
    assert "Tanh()" in str(export.to_torch(MLP(2, [3, 1], activation=mg.tanh)))
