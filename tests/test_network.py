"""Networks wired by hand, and activations made of any Python function."""

import math
import pickle
import random

import numpy as np
import pytest

from micrograd_scratch import (
    MLP,
    Network,
    Value,
    activation,
    compile,
    data,
    draw_network,
    finite_difference,
    fit,
    grad,
    jvp,
    optim,
    sigmoid,
    tanh,
)
from micrograd_scratch.collapsing import find_parts


def wired(*connections, seed=3, kind="sigmoid"):
    """Inputs a, b and the neurons that "source target" names; the last target is the output."""
    net = Network(random.Random(seed))
    net.add_input("a")
    net.add_input("b")
    names = dict.fromkeys(name for pair in connections for name in pair.split())
    for name in names:
        if name not in ("a", "b"):
            net.add_neuron(name, activation=kind)
    for pair in connections:
        net.connect(*pair.split())
    net.set_outputs(connections[-1].split()[-1])
    return net


SKIPPING = ("a h", "b h", "h out", "a out", "b out")


# ---------------------------------------------------------------- what it computes
def test_a_network_computes_its_formula():
    net = wired(*SKIPPING, kind="tanh")
    w = {name: p.data for name, p in net._named().items()}
    net.wiring["h"].bias.data = w["h.bias"] = 0.3

    def formula(a, b):
        h = math.tanh(w["h.a"] * a + w["h.b"] * b + 0.3)
        return math.tanh(w["out.h"] * h + w["out.a"] * a + w["out.b"] * b)

    assert net([0.5, -2.0]).data == pytest.approx(formula(0.5, -2.0), rel=1e-14)
    x = [Value(0.5), Value(-2.0)]
    net(x).backward()
    expected = finite_difference.gradient(formula, [0.5, -2.0])
    assert [v.grad for v in x] == pytest.approx(expected, rel=1e-7)


def test_neurons_are_computed_after_their_sources_however_they_were_added():
    net = Network(random.Random(0))
    net.add_neuron("out", activation="linear")
    net.add_neuron("late", activation="linear", bias=None)
    net.add_input("x")
    net.connect("late", "out", 3.0)
    net.connect("x", "late", 2.0)
    net.set_outputs("out", "late", "x")
    assert [v.data for v in net([5.0])] == [30.0, 10.0, 5.0]
    assert len(net.parameters()) == 3  # out's bias, and two weights


def test_a_neuron_without_connections_is_its_bias():
    net = Network()
    net.add_neuron("n", activation="linear", bias=0.25)
    net.set_outputs("n")
    assert net([]).data == 0.25


def test_weights_may_be_shared_and_are_listed_once():
    net = wired("a h", "h out")
    shared = net.connect("b", "out", net.wiring["h"].weights["a"])
    assert net.parameters().count(shared) == 1
    assert len(net.parameters()) == 4


def test_a_chain_of_thousands_is_no_deeper_than_python_can_go():
    net = Network(random.Random(0))
    before = net.add_input("x")
    for _ in range(5000):
        name = net.add_neuron(activation="linear", bias=None)
        net.connect(before, name, 1.0)
        before = name
    net.set_outputs(before)
    assert net([0.5]).data == 0.5
    with pytest.raises(ValueError, match="cycle n0 -> n1"):
        net.connect(before, "n0")


def test_an_activation_of_values_is_taken_as_it_is():
    net = wired("a out", kind=lambda x: tanh(x) * x)
    s = net.wiring["out"].weights["a"].data * 0.5
    assert net([0.5, 0.0]).data == pytest.approx(math.tanh(s) * s, rel=1e-14)


# ---------------------------------------------------------------- editing
def test_weights_are_drawn_from_the_generator_given():
    assert numbers(wired(*SKIPPING)) == numbers(wired(*SKIPPING))
    assert numbers(wired(*SKIPPING)) != numbers(wired(*SKIPPING, seed=4))
    assert all(-1 < x < 1 for x in numbers(wired(*SKIPPING)))


def numbers(net):
    return [p.data for p in net.parameters()]


def test_what_is_not_removed_keeps_its_weight():
    net = wired(*SKIPPING)
    before = net.state_dict()
    net.add_neuron("new", activation="relu")
    net.connect("a", "new")
    net.connect("new", "out")
    net.disconnect("b", "out")
    after = net.state_dict()
    assert {name: after.get(name) for name in before} == {**before, "out.b": None}
    net.remove("new")
    assert net.state_dict() == {k: v for k, v in before.items() if k != "out.b"}
    net.remove("b")
    assert net.inputs == ["a"] and net.state_dict().keys() == {
        "h.a",
        "h.bias",
        "out.h",
        "out.a",
        "out.bias",
    }
    assert math.isfinite(net([1.0]).data)


def test_a_removed_name_can_be_used_again_and_a_removed_way_is_no_cycle():
    net = wired("a h", "h out")
    net.disconnect("h", "out")
    net.connect("out", "h")
    net.remove("h")
    net.add_neuron("h")
    net.connect("h", "out")
    assert net._order() == ["h", "out"]


def test_removing_an_output_leaves_no_output():
    net = wired("a h", "h out")
    net.remove("out")
    with pytest.raises(ValueError, match="set_outputs"):
        net([1.0, 2.0])


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda n: n.connect("out", "h"), ValueError, "'out' to 'h' .* cycle h -> out -> h"),
        (lambda n: n.connect("h", "h"), ValueError, "cycle h -> h"),
        (lambda n: n.connect("zz", "h"), KeyError, "no 'zz'"),
        (lambda n: n.connect("a", "zz"), KeyError, "no 'zz'"),
        (lambda n: n.connect("h", "a"), ValueError, "'a' is an input"),
        (lambda n: n.connect("a", "h"), ValueError, "'a' and 'h' are connected"),
        (lambda n: n.connect("b", "out", "heavy"), TypeError, "'heavy'"),
        (lambda n: n.connect("b", "h", Value(1) + 1), ValueError, "the result of"),
        (lambda n: n.disconnect("b", "out"), KeyError, "'b' and 'out' are not connected"),
        (lambda n: n.disconnect("zz", "out"), KeyError, "no 'zz'"),
        (lambda n: n.disconnect("b", "a"), ValueError, "'a' is an input"),
        (lambda n: n.remove("zz"), KeyError, "no 'zz'"),
        (lambda n: n.add_input("h"), ValueError, "'h' is there already"),
        (lambda n: n.add_neuron("a"), ValueError, "'a' is there already"),
        (lambda n: n.add_neuron("x.y"), ValueError, "'x.y' is no name"),
        (lambda n: n.add_neuron("bias"), ValueError, "'bias' is no name"),
        (lambda n: n.add_neuron(""), ValueError, "'' is no name"),
        (lambda n: n.add_neuron(3), ValueError, "3 is no name"),
        (lambda n: n.add_neuron("c", activation="zork"), ValueError, "zork"),
        (lambda n: n.add_neuron("c", bias="x"), TypeError, "'x'"),
        (lambda n: n.set_outputs("zz"), KeyError, "no 'zz'"),
        (lambda n: n.set_outputs(["h", "out"]), KeyError, r"no \['h', 'out'\]: there are"),
        (lambda n: n.set_outputs(), ValueError, "at least"),
        (lambda n: n.set_outputs("h", "h"), ValueError, "each of them once"),
        (lambda n: n.load_state_dict({"h.a": 1.0}), KeyError, "missing .*'out.h'"),
        (lambda n: n.load_state_dict({**n.state_dict(), "h.a": "x"}), TypeError, "'x'"),
    ],
)  # fmt: skip
def test_what_is_refused_names_the_neuron_and_changes_nothing(edit, error, message):
    net = wired("a h", "h out")
    before = repr(net), net.state_dict(), net._order(), net([0.3, 0.4]).data
    with pytest.raises(error, match=message) as caught:
        edit(net)
    assert "\n" not in str(caught.value)
    assert (repr(net), net.state_dict(), net._order(), net([0.3, 0.4]).data) == before


def test_a_wrong_number_of_inputs_is_refused_with_their_names():
    with pytest.raises(ValueError, match=r"2 inputs \(a, b\), got 3"):
        wired("a h", "h out")([1, 2, 3])
    with pytest.raises(TypeError, match=r"2 inputs \(a, b\), got 1.0"):
        wired("a h", "h out")(1.0)


def test_names_are_given_where_none_is():
    net = Network()
    assert [net.add_input(), net.add_input(), net.add_neuron(), net.add_neuron()] == [
        "x0", "x1", "n0", "n1",
    ]  # fmt: skip
    net.remove("n0")
    assert net.add_neuron() == "n2" and net.add_neuron("n3") == "n3" and net.add_neuron() == "n4"


def test_random_edits_never_make_a_cycle_or_lose_a_neuron():
    rng = random.Random(0)
    net = Network(rng)
    net.add_input("x")
    refused = 0
    for _ in range(600):
        names = [*net.inputs, *net.wiring]
        edit = rng.choice(("add", "connect", "connect", "connect", "disconnect", "remove"))
        try:
            if edit == "add":
                net.add_neuron(activation="tanh")
            elif edit == "connect":
                net.connect(rng.choice(names), rng.choice(names))
            elif edit == "disconnect":
                net.disconnect(rng.choice(names), rng.choice(names))
            elif len(names) > 12:
                net.remove(rng.choice(names[1:]))
        except (ValueError, KeyError):
            refused += 1
        order = net._order()
        assert sorted(order) == sorted(net.wiring)
        place = {name: i for i, name in enumerate(order)}
        for name, neuron in net.wiring.items():
            assert all(place.get(source, -1) < place[name] for source in neuron.weights)
            for target in neuron.targets:
                assert name in net.wiring[target].weights
    assert refused > 50 and len(net.wiring) > 5


# ---------------------------------------------------------------- training and drawing
def test_it_is_trained_edited_and_trained_on():
    X, Y = data.xor()
    net = wired(*SKIPPING)
    options = {"loss": "squared_error", "optimizer": optim.SGD(5.0), "batch_size": None}
    first = fit(net, X, Y, epochs=3000, **options)
    assert first.loss[-1] < 0.01
    net.add_neuron("more", activation="tanh")
    net.connect("b", "more")
    net.connect("more", "out", 0.0)  # begins where it was
    more = fit(net, X, Y, epochs=500, metrics=["accuracy"], **options)
    assert more.loss[0] == pytest.approx(first.loss[-1], rel=0.05)
    assert more.accuracy[-1] == 1.0 and more.loss[-1] < more.loss[0]
    assert net.wiring["out"].weights["more"].data != 0.0


def test_it_is_drawn_with_its_names_and_activations():
    stairs = activation(lambda x: math.floor(4 * x) / 4, width=0.5, name="stairs")
    net = wired("a h", "b h", "h out", "a out", kind=stairs)
    drawing = draw_network(net, [0.2, 0.4])
    assert "2 inputs -> 1 stairs[slope across 0.5] -> 1 stairs[slope across 0.5]" in drawing.tree
    for name in ("a", "b", "h", "out"):
        assert f"  {name} " in drawing.tree
    units = net.units()
    assert [(unit.name, unit.column) for unit in units] == [
        ("a", 0),
        ("b", 0),
        ("h", 1),
        ("out", 2),
    ]
    assert units[2].sources == [
        (0, net.wiring["h"].weights["a"]),
        (1, net.wiring["h"].weights["b"]),
    ]
    assert units[3].bias is net.wiring["out"].bias


def test_other_tools_see_one_module():
    (part,) = find_parts(wired(*SKIPPING), by_layer=True)
    assert part.title == "network 1" and len(part.parameters) == 7


def test_its_repr_tells_the_wiring():
    assert repr(wired("a h", "h out", kind="relu")) == (
        "Network of inputs [a, b], neurons [h = relu(a + bias); out = relu(h + bias)], "
        "outputs [out]"
    )


# ---------------------------------------------------------------- activations of any kind
def stairs_of(x):
    return math.floor(4.0 * x) / 4.0


def cube_of(x):
    return x**3


def cube_slope(x):
    return 3.0 * x * x


def hat(x):
    return max(0.0, 1.0 - abs(x))


def test_an_exact_derivative_is_exact_and_can_be_differentiated_again():
    cube = activation(cube_of, cube_slope)
    x = Value(2.0)
    first = grad(cube(x), x)
    assert (cube(x).data, first.data) == (8.0, 12.0)
    assert grad(first, x).data == pytest.approx(12.0, rel=1e-8)  # a difference of the derivative
    assert jvp(cube(x), [x], [2.0]) == 24.0
    assert finite_difference.check(cube, 2.0)


@pytest.mark.parametrize("x", [-1.3, 0.1, 0.77])
def test_without_a_derivative_it_is_the_difference_across_the_width(x):
    smooth = activation(math.tanh)
    v = Value(x)
    smooth(v).backward()
    assert v.grad == pytest.approx(1 - math.tanh(x) ** 2, rel=1e-8)
    wide = activation(stairs_of, width=0.5)
    v = Value(x)
    wide(v).backward()
    assert v.grad == (stairs_of(x + 0.25) - stairs_of(x - 0.25)) / 0.5
    assert wide(v).data == stairs_of(x)


def test_straight_through_and_surrogate_slopes():
    step = activation(lambda x: float(x > 0), 1, name="step_through")
    x = Value(-3.0)
    y = step(x)
    y.backward()
    assert (y.data, x.grad) == (0.0, 1.0)
    surrogate = activation(lambda x: float(x > 0), hat)
    x = Value(0.25)
    surrogate(x).backward()
    assert x.grad == 0.75


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (activation(stairs_of, width=0.5), "stairs_of[slope across 0.5]"),
        (activation(cube_of, cube_slope), "cube_of[slope by cube_slope]"),
        (activation(cube_of, lambda x: 1.0), "cube_of[slope by its derivative]"),
        (activation(lambda x: x, 1), "custom[slope 1]"),
        (activation(lambda x: x, 0.5, name="half"), "half[slope 0.5]"),
    ],
)
def test_the_choice_shows(made, shown):
    assert repr(made) == shown
    assert shown.lower() in repr(MLP(1, [1, 1], activation=made)).lower()


def test_it_works_on_floats_arrays_and_compiled():
    wide = activation(stairs_of, width=0.5)
    assert wide(0.3) == 0.25
    assert wide(np.array([0.3, -0.3])).tolist() == [0.25, -0.5]
    model = MLP(3, [40, 1], activation=wide, rng=random.Random(0))
    x = [Value(0.0) for _ in range(3)]
    program = compile(model(x), inputs=[x], parameters=model.parameters())
    rows = np.random.RandomState(0).randn(50, 3)
    value, gradient = program.value_and_grad(rows)
    for p in model.parameters():
        p.grad = 0.0
    mean = sum(model(row) for row in rows.tolist()) / len(rows)
    mean.backward()
    assert value == pytest.approx(mean.data, rel=1e-12)
    eager = np.array([p.grad for p in model.parameters()])
    assert np.abs(gradient - eager).max() <= 1e-12 * np.abs(eager).max()


def test_functions_that_give_ints_and_functions_that_raise():
    rounding = activation(round, width=1.0)
    x = Value(1.6)
    rounding(x).backward()
    assert type(rounding(x).data) is float and x.grad == 1.0
    assert math.isnan(activation(math.log)(-1.0))


def test_it_pickles_with_its_function():
    for made in (activation(stairs_of, width=0.5), activation(cube_of, cube_slope)):
        again = pickle.loads(pickle.dumps(made))
        assert repr(again) == repr(made) and again(0.7) == made(0.7)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(activation(lambda x: x))


@pytest.mark.parametrize("width", [0.0, -1.0, math.inf, math.nan, "wide"])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(ValueError, match="width is"):
        activation(stairs_of, width=width)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="'relu'"):
        activation("relu")
    with pytest.raises(TypeError, match="'steep'"):
        activation(stairs_of, "steep")


def test_a_network_of_stairs_is_trained():
    """What its author gave up as too expensive: a discontinuous activation, in under a second."""
    X, Y = data.moons(100, noise=0.1, seed=0)
    wide = activation(stairs_of, width=0.5)
    rng = random.Random(0)
    model = MLP(2, [16, 16, 1], activation=lambda x: wide(sigmoid(2 * x)), init="xavier", rng=rng)
    history = fit(model, X, 2 * Y - 1, loss="hinge", optimizer=optim.Adam(0.02), epochs=60,
                  metrics=["accuracy"])  # fmt: skip
    assert history.accuracy[-1] >= 0.95
    assert history.loss[-1] < 0.5 * history.loss[0]


def test_a_neuron_without_anything_is_a_number():
    net = Network()
    net.add_neuron("lonely", activation="exp", bias=None)
    net.set_outputs("lonely")
    assert net([]).data == 1.0


def test_a_function_of_floats_has_to_be_made_an_activation():
    net = Network()
    net.add_input("x")
    net.add_neuron("stairs", activation=lambda x: 1.0 if x > 0 else 0.0)
    net.connect("x", "stairs", 1.0)
    net.set_outputs("stairs")
    with pytest.raises(TypeError, match=r"gives 1.0, which has no gradient: give activation\("):
        net([2.0])


def test_an_activation_gives_floats_whatever_its_function_gives():
    for function in (np.tanh, lambda x: x > 0, lambda x: int(x), math.floor):
        f, x = activation(function, width=1.0), Value(0.5)
        f(x).backward()
        assert {type(f(0.5)), type(f(x).data), type(x.grad)} == {float}
