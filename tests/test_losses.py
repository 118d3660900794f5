"""Losses against PyTorch's, against their definitions, and far out where those overflow."""

import math

import numpy as np
import pytest

import micrograd_scratch as mg
from micrograd_scratch import Value, losses

LOGITS = [0.3, -1.2, 2.1, 0.0]
UPSTREAM = 1.7


def value_and_gradient(loss, numbers):
    xs = [Value(x) for x in numbers]
    y = loss(xs)
    (UPSTREAM * y).backward()
    return y.data, [x.grad / UPSTREAM for x in xs]


def agrees_with_pytorch(ours, theirs, numbers):
    torch = pytest.importorskip("torch")
    value, gradient = value_and_gradient(ours, numbers)
    x = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
    y = theirs(torch, torch.nn.functional, x)
    y.backward()
    assert value == pytest.approx(float(y.detach()), rel=1e-14, abs=1e-300)
    assert gradient == pytest.approx(x.grad.tolist(), rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("target", range(4))
def test_cross_entropy_of_a_class(target):
    def theirs(torch, F, x):
        return F.cross_entropy(x[None], torch.tensor([target]))

    for t in (target, Value(target), np.int64(target), float(target)):
        agrees_with_pytorch(lambda xs, t=t: losses.cross_entropy(xs, t), theirs, LOGITS)
    agrees_with_pytorch(
        lambda xs: losses.cross_entropy(xs, target), theirs, [900.0, -900.0, 30.0, 899.0]
    )


def test_cross_entropy_of_probabilities():
    target = [0.1, 0.2, 0.6, 0.1]

    def theirs(torch, F, x):
        return F.cross_entropy(x[None], torch.tensor([target], dtype=torch.float64))

    for t in (target, tuple(target), np.array(target), [Value(p) for p in target]):
        agrees_with_pytorch(lambda xs, t=t: losses.cross_entropy(xs, t), theirs, LOGITS)
    with pytest.raises(ValueError, match="3 predictions do not fit 2 targets"):
        losses.cross_entropy([Value(0.0)] * 3, [0.5, 0.5])


@pytest.mark.parametrize("bad", [4, -1, 1.5, Value(4), Value(0.5)])
def test_cross_entropy_of_a_class_that_is_none(bad):
    with pytest.raises(IndexError, match="0 to 3"):
        losses.cross_entropy([Value(x) for x in LOGITS], bad)


def test_cross_entropy_far_out():
    value, gradient = value_and_gradient(lambda xs: losses.cross_entropy(xs, 0), [1e308, 1e308])
    assert value == pytest.approx(math.log(2)) and gradient == pytest.approx([-0.5, 0.5])
    value, gradient = value_and_gradient(lambda xs: losses.cross_entropy(xs, 1), [1000.0, 0.0])
    assert value == 1000.0 and gradient == [1.0, -1.0]


@pytest.mark.parametrize("target", [0, 1, 0.3, Value(1.0)])
@pytest.mark.parametrize("logit", [-800.0, -30.0, -0.5, 0.0, 1.5, 40.0, 800.0])
def test_binary_cross_entropy(logit, target):
    number = target.data if isinstance(target, Value) else target

    def theirs(torch, F, x):
        t = torch.tensor([number], dtype=torch.float64)
        return F.binary_cross_entropy_with_logits(x, t)

    def ours(xs):
        return losses.binary_cross_entropy(xs[0], target)

    if abs(logit) < 20 or abs(logit) == 800 and number == 0.3:
        agrees_with_pytorch(ours, theirs, [logit])
    value, gradient = value_and_gradient(ours, [logit])
    p = mg.sigmoid(logit)
    assert gradient[0] == pytest.approx(p - number, rel=1e-12, abs=0) or abs(logit) > 20
    assert math.isfinite(value) and value >= 0.0
    if number == 1 and logit == 40.0:  # kept, where 1 - sigmoid would have rounded to 0
        assert gradient[0] == pytest.approx(-math.exp(-40.0), rel=1e-12, abs=0)


def test_squared_errors():
    target = [0.5, -1.0, 2.0, 0.25]

    def total(torch, F, x):
        return F.mse_loss(x, torch.tensor(target, dtype=torch.float64), reduction="sum")

    def mean(torch, F, x):
        return F.mse_loss(x, torch.tensor(target, dtype=torch.float64))

    agrees_with_pytorch(lambda xs: losses.squared_error(xs, target), total, LOGITS)
    agrees_with_pytorch(lambda xs: losses.mean_squared_error(xs, target), mean, LOGITS)
    assert losses.squared_error(Value(3.0), 1.0).data == 4.0
    assert losses.mean_squared_error(Value(3.0), 1).data == 4.0
    assert losses.mean_squared_error([3.0, 1.0], [1.0, 1.0]) == 2.0
    with pytest.raises(ValueError, match="2.*3"):
        losses.squared_error([Value(1.0), Value(2.0)], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="nothing"):
        losses.mean_squared_error([], [])


@pytest.mark.parametrize(
    ("score", "target", "value", "slope"),
    [(0.3, 1, 0.7, -1), (0.3, -1, 1.3, 1), (2.0, 1, 0.0, 0), (-2.0, -1, 0.0, 0), (1.0, 1, 0.0, 0)],
)
def test_hinge(score, target, value, slope):
    got, gradient = value_and_gradient(lambda xs: losses.hinge(xs[0], target), [score])
    assert got == pytest.approx(value, rel=1e-15, abs=0) and gradient == [slope]


def test_l2_is_one_node():
    xs = [Value(x) for x in LOGITS]
    y = losses.l2(xs)
    assert y.data == pytest.approx(sum(x * x for x in LOGITS), rel=1e-15, abs=0)
    assert set(y.parents) == set(xs)
    (UPSTREAM * y).backward()
    assert [x.grad for x in xs] == pytest.approx(
        [UPSTREAM * 2 * x for x in LOGITS], rel=1e-15, abs=0
    )
    assert losses.l2([]) == 0.0


def test_losses_of_floats_are_floats():
    for y in (
        losses.squared_error(1.5, 1.0),
        losses.binary_cross_entropy(0.3, 1),
        losses.cross_entropy(LOGITS, 2),
        losses.cross_entropy(LOGITS, [0.25] * 4),
        losses.hinge(0.3, -1),
        losses.l2(LOGITS),
    ):
        assert type(y) is float


def test_arrays_are_lists():
    xs, ts = [1.0, 2.0, -0.5], [0.5, 2.5, 0.0]
    values = np.array([Value(x) for x in xs])
    for loss in (losses.squared_error, losses.mean_squared_error, losses.cross_entropy):
        assert loss(np.array(xs), np.array(ts)) == loss(xs, ts)
        assert loss(values, np.array(ts)).data == loss(xs, ts)


def test_a_list_against_a_number_is_refused():
    for wrong in (([1.0, 2.0], 1.0), (1.0, [1.0]), ([1.0], Value(1.0)), (Value(1.0), np.ones(1))):
        with pytest.raises(TypeError, match="a list of .* one number|one number, .* a list of"):
            losses.squared_error(*wrong)


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy, losses.hinge])
def test_a_loss_of_two_numbers_says_so_of_lists(loss):
    x = Value(0.5)
    for wrong in (([x], 1.0), ((x,), [1.0]), (x, [1.0, 0.0])):
        with pytest.raises(TypeError, match=f"{loss.__name__} takes two numbers, .* a list of"):
            loss(*wrong)


def test_cross_entropy_of_a_single_logit_names_the_loss_for_that():
    for logit in (0.5, Value(0.5)):
        with pytest.raises(TypeError, match="got .*0.5.*: for a single logit use binary_cross"):
            losses.cross_entropy(logit, 0)
