"""Networks: names, shapes, labels, errors, initialization, states - and PyTorch's numbers."""

import copy
import math
import pickle
import random
import statistics

import numpy as np
import pytest

import micrograd_scratch as mg
from micrograd_scratch import MLP, Layer, Module, Neuron, Value
from micrograd_scratch.engine import topological_order


def model(**options):
    return MLP(3, [4, 2], rng=random.Random(0), **options)


# ---------------------------------------------------------------- shapes and names
def test_a_call_gives_a_value_or_a_list():
    one, two = MLP(3, [4, 1], rng=random.Random(0)), model()
    assert isinstance(one([1.0, 2.0, 3.0]), Value)
    y = two([1.0, Value(2.0), 3])
    assert isinstance(y, list) and len(y) == 2 and all(isinstance(v, Value) for v in y)
    assert isinstance(MLP(1, [1, 1, 1])([2.0]), Value)
    assert isinstance(two(np.array([1.0, 2.0, 3.0])), list)
    assert isinstance(Layer(3, 1)([1, 2, 3]), Value) and len(Layer(3, 2)([1, 2, 3])) == 2
    assert isinstance(Neuron(2)([1.0, 2.0]), Value)


def test_parameters_go_neuron_by_neuron_weights_then_bias():
    m = model()
    neurons = [n for layer in m.layers for n in layer.neurons]
    expected = [p for n in neurons for p in (*n.w, n.b)]
    assert all(a is b for a, b in zip(m.parameters(), expected, strict=True))
    assert len(expected) == 3 * 4 + 4 + 4 * 2 + 2
    assert [p.label for p in m.parameters()][:5] == [
        "W1[0,0]",
        "W1[0,1]",
        "W1[0,2]",
        "b1[0]",
        "W1[1,0]",
    ]
    assert m.parameters()[-1].label == "b2[1]" and m.parameters()[-3].label == "W2[1,2]"
    assert all(n.b.data == 0.0 for n in neurons)
    assert len(MLP(64, [16, 10]).parameters()) == 1210
    assert Module().parameters() == []


def test_a_neuron_is_one_dot_and_an_activation():
    neuron = Neuron(3, rng=random.Random(0), activation="tanh")
    y = neuron([1.0, 2.0, 3.0])
    assert y.op == "tanh" and y.parents[0].op == "dot" and len(y.parents[0].parents) == 7
    expected = math.tanh(neuron.w[0].data + 2 * neuron.w[1].data + 3 * neuron.w[2].data)
    assert y.data == pytest.approx(expected, rel=1e-15, abs=0)
    assert Neuron(3, nonlin=False)([1.0, 2.0, 3.0]).op == "dot"
    assert Neuron(3)([1.0, 2.0, 3.0]).op == "relu"


def test_all_neurons_of_a_layer_share_their_inputs():
    outputs = Layer(2, 3)([1.0, 2.0])
    inputs = [{p for p in topological_order(y) if not p.parents} for y in outputs]
    assert len(inputs[0] & inputs[1] & inputs[2]) == 2


def test_zero_grad():
    m = model()
    mg.total(m([1.0, 2.0, 3.0])).backward()
    assert any(p.grad for p in m.parameters())
    m.zero_grad()
    assert [p.grad for p in m.parameters()] == [0.0] * 26


def test_a_module_of_your_own():
    class Twice(Module):
        def __init__(self):
            self.inner = model()

        def parameters(self):
            return self.inner.parameters()

    m = Twice()
    mg.total(m.inner([1.0, 2.0, 3.0])).backward()
    m.zero_grad()
    assert not any(p.grad for p in m.parameters())


def test_representations_name_activations():
    assert repr(Neuron(2)) == "ReLUNeuron(2)" and repr(Neuron(2, nonlin=False)) == "LinearNeuron(2)"
    assert repr(MLP(1, [1, 1], activation="tanh")) == (
        "MLP of [Layer of [TanhNeuron(1)], Layer of [LinearNeuron(1)]]"
    )


# ---------------------------------------------------------------- activations
def test_activations_by_name_by_function_and_of_a_layer():
    x = [0.5, -1.0, 2.0]
    for name in ("tanh", "sigmoid", "relu", "gelu", "silu", "softplus", "elu", "linear"):
        m = model(activation=name, output=name)
        ops = {v.op for v in m(x)}
        assert ops == ({"dot"} if name == "linear" else {name})
    by_name, by_function = model(activation="tanh"), model(activation=mg.tanh)
    assert [v.data for v in by_name(x)] == [v.data for v in by_function(x)]
    own = model(activation=lambda v: v * v)
    assert own(x)[0].data != by_name(x)[0].data
    logits = [v.data for v in model()(x)]
    assert [v.data for v in model(output="softmax")(x)] == mg.softmax(logits)
    assert [v.data for v in model(output="log_softmax")(x)] == mg.log_softmax(logits)
    assert sum(v.data for v in model(output="softmax")(x)) == pytest.approx(1.0)


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: model()([1.0, 2.0]), "3 inputs, got 2"),
        (lambda: Layer(3, 2)([1.0] * 4), "3 inputs, got 4"),
        (lambda: Neuron(3)([]), "3 inputs, got 0"),
        (lambda: MLP(3, []), "list the size of every layer"),
        (lambda: MLP(0, [1]), "nin .* at least 1, got 0"),
        (lambda: MLP(2, [3, 0]), "nout .* at least 1, got 0"),
        (lambda: MLP(2, [3, -1]), "got -1"),
        (lambda: model(init="zeros"), "'zeros'.*'he', 'xavier' or 'uniform'"),
        (lambda: model(activation="tahn"), "'tahn'"),
        (lambda: model(output="maximum_of_two"), "maximum_of_two"),
    ],
)
def test_errors_name_the_value_and_the_mend(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("take", [model(), Layer(3, 2), Neuron(3)])
def test_inputs_come_as_a_list_for_one_row(take):
    for single, shown in ((1.0, "1.0"), (Value(1.0), "Value"), (None, "None")):
        with pytest.raises(TypeError, match=f"takes 3 inputs, got {shown}.*: list those of one"):
            take(single)
    with pytest.raises(ValueError, match="takes 3 inputs, got 40: list those of one row"):
        take(np.zeros((40, 3)))


def test_an_activation_is_not_taken_for_a_truth():
    with pytest.raises(TypeError, match="nonlin is 'tanh': .* activation='tanh'"):
        Neuron(3, "tanh")
    assert repr(Neuron(3, np.bool_(False))) == "LinearNeuron(3)"


@pytest.mark.parametrize("output", ["softmax", "log_softmax"])
def test_softmax_of_one_neuron_is_refused(output):
    with pytest.raises(ValueError, match=f"^{output} of 1 neuron is a constant: .*'sigmoid'"):
        MLP(3, [4, 1], output=output)


def test_a_word_is_no_input():
    with pytest.raises(TypeError, match="float"):
        model()(["1", 2.0, 3.0])


# ---------------------------------------------------------------- initialization
def drawn(init, nin=200, nout=100):
    layer = MLP(nin, [nout], init=init, rng=random.Random(0)).layers[0]
    return [w.data for n in layer.neurons for w in n.w]


def test_initial_weights_have_the_variances_of_their_papers():
    for init, variance, bound in [
        ("he", 2 / 200, None),
        ("xavier", 2 / (200 + 100), math.sqrt(6 / 300)),
        ("uniform", 1 / 3, 1.0),
    ]:
        ws = drawn(init)
        assert len(ws) == 20_000 and len(set(ws)) == 20_000
        # the standard error of a variance of 20,000 draws is at most 1 %, of the mean 0.7 %
        assert statistics.pvariance(ws) == pytest.approx(variance, rel=0.05)
        assert abs(statistics.fmean(ws)) < 0.04 * math.sqrt(variance)
        if bound is not None:
            assert max(ws) <= bound and min(ws) >= -bound and max(ws) > 0.99 * bound
        beyond = sum(abs(w) > 2 * math.sqrt(variance) for w in ws) / len(ws)
        assert beyond == (pytest.approx(0.0455, abs=0.006) if bound is None else 0.0)


def test_the_same_seed_draws_the_same_network():
    assert model().state_dict() == model().state_dict()
    assert model().state_dict() != MLP(3, [4, 2], rng=random.Random(1)).state_dict()
    random.seed(5)
    a = MLP(3, [4, 2]).state_dict()
    random.seed(5)
    assert MLP(3, [4, 2]).state_dict() == a


def test_uniform_draws_in_micrograds_order():
    theirs = pytest.importorskip("micrograd.nn")
    random.seed(1337)
    expected = [p.data for p in theirs.MLP(2, [16, 16, 1]).parameters()]
    random.seed(1337)
    ours = MLP(2, [16, 16, 1], init="uniform")
    assert [p.data for p in ours.parameters()] == expected
    again = MLP(2, [16, 16, 1], init="uniform", rng=random.Random(1337))
    assert [p.data for p in again.parameters()] == expected


# ---------------------------------------------------------------- states
def test_states_make_the_round_trip():
    a, b = model(), MLP(3, [4, 2], rng=random.Random(9))
    assert list(a.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [len(row) for row in a.state_dict()["0.weight"]] == [3] * 4
    b.load_state_dict(a.state_dict())
    assert [p.data for p in a.parameters()] == [p.data for p in b.parameters()]
    values = b.parameters()
    b.load_state_dict({k: np.array(v) + 1 for k, v in a.state_dict().items()})
    assert [p.data for p in values] == [p.data + 1 for p in a.parameters()]
    assert list(MLP(1, [2, 2, 2], activation="linear").state_dict())[::2] == [
        "0.weight",
        "1.weight",
        "2.weight",
    ]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.pop("2.bias"), KeyError, "2.bias"),
        (lambda s: s.update(extra=[1.0]), KeyError, "extra"),
        (lambda s: s.update({"2.bias": [1.0]}), ValueError, r"2.bias has shape \(1,\).*\(2,\)"),
        (lambda s: s.update({"2.weight": [[1.0] * 2] * 4}), ValueError, r"\(4, 2\).*\(2, 4\)"),
        (lambda s: s["2.weight"][0].pop(), ValueError, "2.weight"),
        (lambda s: s.update({"2.bias": [1.0, "2"]}), TypeError, "'2'"),
        (lambda s: s.update({"2.bias": [1.0, None]}), TypeError, "None"),
        (lambda s: s.update({"2.bias": 1.0}), ValueError, "2.bias"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, error, message):
    m = model()
    state = {k: (np.array(v) + 1).tolist() for k, v in m.state_dict().items()}
    change(state)
    before = m.state_dict()
    with pytest.raises(error, match=message):
        m.load_state_dict(state)
    assert m.state_dict() == before


@pytest.mark.parametrize("activation", ["tanh", "linear"])
@pytest.mark.parametrize("init", ["he", "xavier"])
def test_states_and_gradients_are_pytorchs(activation, init):
    torch = pytest.importorskip("torch")
    m = model(activation=activation, init=init)
    layers = [torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)]
    if activation == "tanh":
        layers.insert(1, torch.nn.Tanh())
    theirs = torch.nn.Sequential(*layers).double()
    theirs.load_state_dict(
        {k: torch.tensor(v, dtype=torch.float64) for k, v in m.state_dict().items()}
    )
    x, weights = [0.3, -1.2, 2.0], [1.7, -0.6]
    y = mg.dot(weights, m(x))
    z = theirs(torch.tensor(x, dtype=torch.float64)) @ torch.tensor(weights, dtype=torch.float64)
    y.backward()
    z.backward()
    assert y.data == pytest.approx(float(z.detach()), rel=1e-14, abs=0)
    gradients = {name: p.grad.tolist() for name, p in theirs.named_parameters()}
    for layer, index in zip(m.layers, ("0", "2" if activation == "tanh" else "1"), strict=True):
        ours = [[w.grad for w in n.w] for n in layer.neurons]
        np.testing.assert_allclose(ours, gradients[f"{index}.weight"], rtol=1e-12)
        ours = [n.b.grad for n in layer.neurons]
        np.testing.assert_allclose(ours, gradients[f"{index}.bias"], rtol=1e-12)
    m.load_state_dict(theirs.state_dict())  # tensors are taken too


# ---------------------------------------------------------------- copies
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_models_are_copied_and_pickled(activation):
    m = model(activation=activation, output="softmax")
    x = [0.3, -1.2, 2.0]
    for twin in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert [v.data for v in twin(x)] == [v.data for v in m(x)]
        assert [p.label for p in twin.parameters()] == [p.label for p in m.parameters()]
        assert set(twin.parameters()).isdisjoint(m.parameters())
        twin.parameters()[0].data += 1.0
        assert twin.state_dict() != m.state_dict()


def test_sizes_are_refused_by_name_and_taken_from_numpy():
    assert len(MLP(np.int64(3), [np.int8(2)]).parameters()) == 8
    for wrong in (
        lambda: Neuron(0),
        lambda: Neuron(-1),
        lambda: MLP(2.5, [1]),
        lambda: MLP(2, [0]),
    ):
        with pytest.raises(ValueError, match="whole number of at least 1"):
            wrong()
    for wrong in (1, [], np.array([1])):
        with pytest.raises(ValueError, match="list the size of every layer"):
            MLP(2, wrong)


@pytest.mark.parametrize("wrong", [math.sin, lambda x: 1.0 if x > 0 else 0.0])
def test_an_activation_that_loses_the_gradient_is_refused(wrong):
    for model in (Neuron(2, activation=wrong), MLP(2, [2, 1], activation=wrong)):
        with pytest.raises(TypeError, match=r"the activation .*: give activation\("):
            model([1.0, 2.0])
    assert Neuron(2, activation=lambda x: x * x)([1.0, 2.0]).op == "*"
    for nothing in (None, 3):
        for make in (lambda: Neuron(2, activation=nothing), lambda: MLP(2, [1], nothing)):  # noqa: B023
            with pytest.raises(ValueError, match=f"no activation is called {nothing}"):
                make()


def test_an_activation_that_no_layer_uses_has_to_be_one():
    for sizes in ([1], [3, 1]):
        with pytest.raises(ValueError, match="no activation is called 'foo'"):
            MLP(2, sizes, activation="foo")
    assert MLP(2, [2], activation="softmax").layers[0].activation == "linear"


def test_an_operation_as_activation_has_its_name():
    assert repr(Neuron(2, activation=mg.tanh)) == "TanhNeuron(2)"
    copied = pickle.loads(pickle.dumps(MLP(2, [3, 1], activation=mg.tanh, rng=random.Random(0))))
    assert copied([1.0, 2.0]).data == MLP(2, [3, 1], "tanh", rng=random.Random(0))([1.0, 2.0]).data
