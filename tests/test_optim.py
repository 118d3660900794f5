"""Update rules against PyTorch (live, and stored numbers of one run), purity, `step`, schedules."""

import copy
import math
import pickle
import sys

import numpy as np
import pytest
from conftest import interrupted

from micrograd_scratch.optim import (
    SGD,
    Adam,
    AdamW,
    Optimizer,
    constant_schedule,
    cosine_schedule,
    step_schedule,
)

BEGIN = [1.5, -0.25, 3.0]
BETAS = {"betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}
NESTEROV = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
CASES = [  # rule, its arguments, PyTorch 2.13's float64 parameters after 50 steps of `slope`
    (SGD, {"lr": 0.05}, [0.6134634629114374, -1.1614781260181868, 3.044087177296443]),
    (
        SGD,
        {"lr": 0.05, "weight_decay": 0.1},
        [0.553957654495579, -1.0231446871803673, 2.929087524539875],
    ),
    (
        SGD,
        {"lr": 0.05, "momentum": 0.9},
        [0.5120960418139632, -1.9144378285596237, 2.9975637722118593],
    ),
    (
        SGD,
        {"lr": 0.05, **NESTEROV},
        [0.5040961825247287, -1.4194651265753735, 2.937320312171697],
    ),
    (Adam, {"lr": 0.1}, [0.5191016323606285, -1.9577359085064834, 3.007144957880249]),
    (Adam, {"lr": 0.1, **BETAS}, [0.45582685946005386, -1.4732655545131186, 2.882668842309384]),
    (AdamW, {"lr": 0.1}, [0.5159795133037891, -1.916186662724463, 2.997489489830397]),
    (AdamW, {"lr": 0.1, **BETAS}, [0.46422142749463213, -1.5225243090406197, 2.9036431145112007]),
]
every_rule = pytest.mark.parametrize(
    "rule, arguments, expected", CASES, ids=[f"{rule.__name__}{given}" for rule, given, _ in CASES]
)


def slope(theta, time):
    """The gradient of a quadratic bowl that wobbles in time."""
    target, curvature = np.array([0.5, -2.0, 3.0]), np.array([1.0, 0.3, 2.5])
    return curvature * (theta - target) + math.sin(time)


def arrays_of(state):
    """The arrays that a rule's state holds."""
    parts = state if isinstance(state, tuple) else (state,)
    return [part for part in parts if isinstance(part, np.ndarray)]


class Parameter:
    """What `step` needs of a Value, and no more."""

    __slots__ = ("data", "grad")

    def __init__(self, data, grad=0.0):
        self.data, self.grad = data, grad


# ---- the numbers ---------------------------------------------------------------------------------


@every_rule
def test_fifty_updates_give_pytorchs_stored_numbers(rule, arguments, expected):
    optimizer, theta, state = rule(**arguments), np.array(BEGIN), None
    for time in range(50):
        theta, state = optimizer.update(theta, slope(theta, time), state)
    np.testing.assert_allclose(theta, expected, rtol=1e-12, atol=0)


@every_rule
def test_pytorch_agrees_at_every_step(rule, arguments, expected):
    torch = pytest.importorskip("torch")
    generator = np.random.RandomState(7)
    theta = generator.normal(size=(4, 3))
    theirs = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    reference = getattr(torch.optim, rule.__name__)([theirs], **arguments)
    optimizer, state = rule(**arguments), None
    for time in range(50):
        gradient = generator.normal(size=(4, 3)) * 10.0 ** generator.randint(-3, 3)
        if time == 25:  # a schedule may change the rate at any time
            optimizer.lr = reference.param_groups[0]["lr"] = arguments["lr"] / 3
        theirs.grad = torch.tensor(gradient)
        reference.step()
        theta, state = optimizer.update(theta, gradient, state)
        np.testing.assert_allclose(theta, theirs.detach().numpy(), rtol=1e-12, atol=1e-14)


@every_rule
def test_floats_and_arrays_agree(rule, arguments, expected):
    optimizer, array, array_state = rule(**arguments), np.array(BEGIN), None
    floats, states = list(BEGIN), [None] * 3
    for time in range(50):
        gradient = slope(array, time)
        array, array_state = optimizer.update(array, gradient, array_state)
        each = zip(floats, gradient.tolist(), states, strict=True)
        pairs = [optimizer.update(*one) for one in each]
        floats, states = map(list, zip(*pairs, strict=True))
    assert all(type(number) is float for number in floats)
    np.testing.assert_allclose(array, floats, rtol=1e-13, atol=0)


@every_rule
def test_update_reads_its_arguments_and_keeps_none(rule, arguments, expected):
    optimizer = rule(**arguments)
    theta, gradient = np.array(BEGIN), np.array([1.0, -2.0, 0.5])
    state = None
    for _ in range(3):  # the first update makes the state, later ones read it
        given = [theta, gradient, *arrays_of(state)]
        before = [array.copy() for array in given]
        for array in given:
            array.flags.writeable = False
        fresh, fresh_state = optimizer.update(theta, gradient, state)
        again, again_state = optimizer.update(theta, gradient, state)
        np.testing.assert_array_equal(fresh, again)
        for array, old in zip(given, before, strict=True):
            np.testing.assert_array_equal(array, old)
            for result in [fresh, *arrays_of(fresh_state)]:
                assert not np.shares_memory(array, result)
        theta, state = fresh, fresh_state


@every_rule
def test_float32_stays_float32(rule, arguments, expected):
    optimizer = rule(**arguments)
    optimizer.lr = np.float64(arguments["lr"])  # as a schedule written with NumPy gives it
    theta, state = np.array(BEGIN, np.float32), None
    for _ in range(2):
        theta, state = optimizer.update(theta, np.ones(3, np.float32), state)
    assert theta.dtype == np.float32
    assert all(array.dtype == np.float32 for array in arrays_of(state))


def test_adam_survives_zero_gradients_and_huge_ones():
    assert Adam().update(1.0, 0.0, None)[0] == 1.0
    assert Adam().update(1.0, 1e200, None)[0] == 1.0  # its square is inf, no OverflowError
    assert Adam(eps=sys.float_info.min).update(1.0, 0.0, None)[0] == 1.0
    assert math.isnan(Adam().update(1.0, math.nan, None)[0])


# ---- step ----------------------------------------------------------------------------------------


@every_rule
def test_step_does_what_update_does(rule, arguments, expected):
    optimizer, parameters = rule(**arguments), [Parameter(data) for data in BEGIN]
    for time in range(50):
        gradient = slope(np.array([each.data for each in parameters]), time)
        for parameter, number in zip(parameters, gradient.tolist(), strict=True):
            parameter.grad = number
        optimizer.step(iter(parameters))
    np.testing.assert_allclose([each.data for each in parameters], expected, rtol=1e-12, atol=0)


def test_step_trains_values():
    from micrograd_scratch import Value

    w, optimizer = Value(0.0), Adam(lr=0.1)
    for _ in range(300):
        loss = (w - 3) * (w - 3)
        w.grad = 0.0
        loss.backward()
        optimizer.step([w])
    assert abs(w.data - 3) < 1e-3


@pytest.mark.parametrize("wrong", [None, "1.0", np.ones(1), 1j])
def test_a_wrong_gradient_is_named_before_anything_changes(wrong):
    optimizer = SGD(0.1, momentum=0.9)
    parameters = [Parameter(1.0, 1.0), Parameter(2.0, 1.0), Parameter(3.0, wrong)]
    with pytest.raises(TypeError, match=r"gradient of parameter 2 is .*backward\(\)"):
        optimizer.step(parameters)
    assert [each.data for each in parameters] == [1.0, 2.0, 3.0]
    parameters[2].grad = 1  # an int, as micrograd's zero_grad writes, is fine
    optimizer.step(parameters)
    assert [each.data for each in parameters] == [0.9, 1.9, 2.9]  # and no velocity was kept
    with pytest.raises(TypeError, match="gradient of parameter 0 is None"):
        optimizer.step([type("NoGradient", (), {"data": 1.0})()])


def test_an_interrupt_at_any_line_leaves_all_as_before_or_all_as_after():
    def stepped(interrupt_at):
        optimizer = SGD(0.1, momentum=0.9)
        parameters = [Parameter(float(number), 1.0) for number in range(4)]
        optimizer.step(parameters)
        events = interrupted(lambda: optimizer.step(parameters), interrupt_at)
        return [p.data for p in parameters] + [state for _, state in optimizer._memory], events

    after, count = stepped(interrupt_at=-1)
    outcomes = [stepped(interrupt_at)[0] for interrupt_at in range(1, count + 1)]
    before = outcomes[0]
    assert before != after and count > 30
    assert all(outcome in (before, after) for outcome in outcomes)
    assert after in outcomes  # some interrupts did come late


def test_state_belongs_to_its_parameter():
    optimizer, one, other = SGD(1.0, momentum=0.5), Parameter(0.0, 1.0), Parameter(0.0, 1.0)
    optimizer.step([one])  # velocity 1
    optimizer.step([other])  # one keeps its velocity while only the other moves
    optimizer.step([other, one])  # in another order: both velocities 1.5
    assert (one.data, other.data) == (-2.5, -2.5)
    for _ in range(100):  # new objects, perhaps at the same address: no velocity to inherit
        fresh = Parameter(0.0, 1.0)
        optimizer.step([fresh])
        assert fresh.data == -1.0
        del fresh


def test_a_parameter_listed_twice_moves_once():
    shared = Parameter(1.0, 1.0)
    SGD(0.25).step([shared, shared])
    assert shared.data == 0.75


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_of_model_and_optimizer_goes_on_alike(copied):
    parameters, optimizer = [Parameter(1.0, 0.5), Parameter(2.0, -0.5)], Adam(0.1)
    optimizer.step(parameters)
    copies, copied_optimizer = copied((parameters, optimizer))
    for each in (parameters, copies):
        each[0].grad = 0.25
    optimizer.step(parameters)
    copied_optimizer.step(copies)
    assert [each.data for each in copies] == [each.data for each in parameters]


def test_a_rule_of_ones_own_is_one_method():
    class SignDescent(Optimizer):
        def update(self, theta, gradient, state):
            return theta - self.lr * ((gradient > 0) - (gradient < 0)), None

    parameter = Parameter(1.0, -7.0)
    SignDescent(lr=0.5).step([parameter])
    assert parameter.data == 1.5
    with pytest.raises(NotImplementedError, match="Optimizer has no update rule"):
        Optimizer(0.1).step([parameter])


# ---- hyperparameters and schedules ---------------------------------------------------------------


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: SGD(-0.1), "lr is -0.1"),
        (lambda: SGD(math.nan), "lr is nan"),
        (lambda: SGD("0.1"), "lr is '0.1'"),
        (lambda: SGD(0.1, momentum=1.0), "momentum is 1.0"),
        (lambda: SGD(0.1, momentum=-0.5), "momentum is -0.5"),
        (lambda: SGD(0.1, weight_decay=-1), "weight_decay is -1"),
        (lambda: SGD(0.1, nesterov=True), "nesterov is True"),
        (lambda: Adam(lr=math.inf), "lr is inf"),
        (lambda: Adam(betas=(0.9, 1.0)), "betas is 1.0"),
        (lambda: Adam(betas=(-0.1, 0.9)), "betas is -0.1"),
        (lambda: Adam(betas=0.9), "betas is 0.9"),
        (lambda: Adam(betas=(0.9,)), r"betas is \(0.9,\)"),
        (lambda: Adam(eps=0.0), "eps is 0.0"),
        (lambda: Adam(weight_decay=None), "weight_decay is None"),
        (lambda: AdamW(weight_decay=-0.01), "weight_decay is -0.01"),
        (lambda: setattr(SGD(0.1), "lr", -1), "lr is -1"),
        (lambda: constant_schedule(-1), "lr is -1"),
        (lambda: step_schedule(0.1, every=0, factor=0.5), "every is 0"),
        (lambda: step_schedule(0.1, every=1.5, factor=0.5), "every is 1.5"),
        (lambda: step_schedule(0.1, every=1, factor=0), "factor is 0"),
        (lambda: cosine_schedule(0.1, epochs=0), "epochs is 0"),
        (lambda: cosine_schedule(0.1, epochs=5, minimum=-1), "minimum is -1"),
        (lambda: cosine_schedule(0.1, epochs=5, minimum=0.2), "minimum is 0.2"),
    ],
)
def test_a_bad_hyperparameter_is_named_with_its_value_and_mend(make, name):
    with pytest.raises(ValueError, match=rf"^{name}.*: give .*") as caught:
        make()
    assert "\n" not in str(caught.value)


def test_parameters_go_to_step_as_a_list():
    for rule in (SGD, Adam, AdamW):
        with pytest.raises(TypeError, match="lr is a list of 2: .* parameters to step"):
            rule([Parameter(1.0, 1.0), Parameter(2.0, 1.0)])
    for wrong, kind in ((Parameter(1.0, 1.0), "Parameter"), (SGD(0.1).step, "method")):
        with pytest.raises(TypeError, match=rf"parameters is a {kind}: .* model.parameters\(\)"):
            SGD(0.1).step(wrong)


def test_repr_shows_the_hyperparameters():
    optimizer = SGD(0.1, momentum=0.9)
    optimizer.lr = 0.05
    assert repr(optimizer) == "SGD(lr=0.05, momentum=0.9, nesterov=False, weight_decay=0.0)"
    shown = "AdamW(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)"
    assert repr(AdamW()) == shown
    assert repr(eval(shown)) == shown


def test_schedules_by_hand():
    assert [constant_schedule(0.1)(epoch) for epoch in (0, 99)] == [0.1, 0.1]
    stairs = step_schedule(8.0, every=3, factor=0.5)
    assert [stairs(epoch) for epoch in range(8)] == [8.0, 8.0, 8.0, 4.0, 4.0, 4.0, 2.0, 2.0]
    wave = cosine_schedule(1.0, epochs=4, minimum=0.2)
    half = math.sqrt(0.5)
    expected = [1.0, 0.6 + 0.4 * half, 0.6, 0.6 - 0.4 * half, 0.2, 0.2]
    np.testing.assert_allclose([wave(epoch) for epoch in range(6)], expected, rtol=1e-15)


def test_schedules_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    kinds = torch.optim.lr_scheduler
    for ours, theirs in [
        (step_schedule(0.3, 4, 0.7), lambda sgd: kinds.StepLR(sgd, 4, 0.7)),
        (cosine_schedule(0.3, 20, 0.01), lambda sgd: kinds.CosineAnnealingLR(sgd, 20, 0.01)),
    ]:
        sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
        scheduler = theirs(sgd)
        for epoch in range(21):
            assert ours(epoch) == pytest.approx(sgd.param_groups[0]["lr"], rel=1e-12)
            sgd.step()
            scheduler.step()
