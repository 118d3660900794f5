"""Update rules: SGD, Adam and AdamW, and learning-rate schedules.

A rule is one pure function in plain arithmetic, `update(theta, gradient, state)`: the same lines
run on one float, on a NumPy array of any shape, or on anything else with `+ - * / ** 0.5`. It
gives PyTorch's numbers. `step(parameters)` applies it to Values. A schedule is a function from the
epoch, counted from 0, to a learning rate: `optimizer.lr = schedule(epoch)`.

Left out: parameter groups (use two optimizers), and updates in place (an array is read, not
written; the caller keeps what `update` returns).
"""

import math
import operator
import sys
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain, repeat
from numbers import Real
from typing import Any

Numbers = Any  # a float or a NumPy array, the same for parameters and their gradient
State = Any  # None before the first update, then whatever the rule remembers


class Optimizer:
    """What the rules share: a settable `lr`, `step` on Values, and a repr of hyperparameters."""

    def __init__(self, lr: float) -> None:
        if isinstance(lr, (list, tuple)):  # of parameters, which PyTorch takes here
            raise TypeError(f"lr is a list of {len(lr)}: give a number, and parameters to step()")
        self.lr = lr
        self._memory: list[tuple[Any, State]] = []  # the parameters that step has seen

    @property
    def lr(self) -> float:
        """The learning rate, finite and at least 0; may be set at any time."""
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._lr = _number("lr", lr, 0.0)

    def update(self, theta: Numbers, gradient: Numbers, state: State) -> tuple[Numbers, State]:
        """The new parameters and the new state; `state` is None at first. Changes no argument."""
        raise NotImplementedError(f"{type(self).__name__} has no update rule: define update()")

    def step(self, parameters: Iterable[Any]) -> None:
        """Update the `.data` of every parameter (a Value) from its `.grad`, all or none.

        A TypeError names the first parameter whose gradient is no float, before any is changed;
        Ctrl-C too leaves all as before or all as after. A parameter listed twice moves once. What
        the rule remembers is kept here together with the parameter, so that no later object can
        be mistaken for it.
        """
        if not hasattr(parameters, "__iter__"):
            given = type(parameters).__name__
            raise TypeError(f"parameters is a {given}: give a list, such as model.parameters()")
        unique = {id(parameter): parameter for parameter in parameters}
        memory = {id(parameter): (parameter, state) for parameter, state in self._memory}
        fresh = []
        for position, (key, parameter) in enumerate(unique.items()):
            data, gradient = parameter.data, getattr(parameter, "grad", None)
            if not isinstance(gradient, (float, int)):
                label = getattr(parameter, "label", "")
                raise TypeError(
                    f"gradient of parameter {position}{label and f' ({label})'} is {gradient!r}, "
                    f"no float: call backward() before step()"
                )
            theta, state = self.update(data, gradient, memory.get(key, (None, None))[1])
            fresh.append(theta)
            memory[key] = parameter, state
        # One call in C, which an interrupt cannot tear: every .data, and our own memory last.
        owners = chain(unique.values(), [self])
        names = chain(repeat("data", len(fresh)), ["_memory"])
        deque(map(setattr, owners, names, [*fresh, list(memory.values())]), maxlen=0)

    def __repr__(self) -> str:
        others = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        shown = ", ".join(f"{name}={value!r}" for name, value in {"lr": self.lr, **others}.items())
        return f"{type(self).__name__}({shown})"


class SGD(Optimizer):
    """Gradient descent, with momentum if wanted: theta -= lr * velocity.

    velocity = momentum * velocity + gradient; `nesterov` looks one step ahead, gradient +
    momentum * velocity. `weight_decay` adds weight_decay * theta to the gradient (an L2 penalty).
    Sources: Polyak 1964; Sutskever, Martens, Dahl and Hinton, ICML 2013, in PyTorch's form.
    ValueError names a bad hyperparameter.

    >>> SGD(0.5).update(3.0, 2.0, None)
    (2.0, None)
    """

    def __init__(
        self, lr: float, momentum: float = 0, nesterov: bool = False, weight_decay: float = 0
    ) -> None:
        super().__init__(lr)
        self.momentum = _number("momentum", momentum, 0.0, 1.0)
        self.nesterov = bool(nesterov)
        self.weight_decay = _number("weight_decay", weight_decay, 0.0)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is True with momentum 0: give a momentum above 0, e.g. 0.9")

    def update(self, theta: Numbers, gradient: Numbers, state: State) -> tuple[Numbers, State]:
        """`state` is the velocity, shaped like theta; it stays None without momentum."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * theta
        if not self.momentum:
            return theta - self.lr * gradient, None
        velocity = self.momentum * (0.0 if state is None else state) + gradient
        direction = gradient + self.momentum * velocity if self.nesterov else velocity
        return theta - self.lr * direction, velocity


class Adam(Optimizer):
    """Steps of about lr in every coordinate: the mean gradient over its root mean square.

    Both means decay (`betas`) and are corrected for having begun at 0; `eps` is added to the root.
    `weight_decay` adds weight_decay * theta to the gradient, as an L2 penalty would. Source:
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    ValueError names a bad hyperparameter.
    """

    def __init__(
        self,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(lr)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"betas is {betas!r}: give two numbers, e.g. (0.9, 0.999)")
        self.betas = tuple(_number("betas", beta, 0.0, 1.0) for beta in betas)
        self.eps = _number("eps", eps, sys.float_info.min)  # 0 would divide 0 by 0
        self.weight_decay = _number("weight_decay", weight_decay, 0.0)

    def update(self, theta: Numbers, gradient: Numbers, state: State) -> tuple[Numbers, State]:
        """`state` is (updates so far, mean gradient, mean square of the gradient)."""
        if self.weight_decay:
            gradient = gradient + self.weight_decay * theta
        return self._move(theta, gradient, state)

    def _move(self, theta: Numbers, gradient: Numbers, state: State) -> tuple[Numbers, State]:
        count, mean, square = (0, 0.0, 0.0) if state is None else state
        decay, square_decay = self.betas
        count += 1
        mean = decay * mean + (1 - decay) * gradient
        square = square_decay * square + (1 - square_decay) * gradient * gradient
        # The corrections are numbers, so they go to the numbers lr and eps instead of the arrays
        # (the more efficient order at the end of the paper's section 2).
        root = (1 - square_decay**count) ** 0.5
        rate = self.lr * root / (1 - decay**count)
        return theta - rate * mean / (square**0.5 + self.eps * root), (count, mean, square)


class AdamW(Adam):
    """Adam whose weight decay does not pass through the means: theta *= 1 - lr * weight_decay.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    def __init__(
        self,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay)

    def update(self, theta: Numbers, gradient: Numbers, state: State) -> tuple[Numbers, State]:
        """`state` as Adam's."""
        if self.weight_decay:
            theta = theta * (1 - self.lr * self.weight_decay)
        return self._move(theta, gradient, state)


# The rules that move every number by itself, so that an array may be updated piece by piece.
ELEMENTWISE = (SGD.update, Adam.update, AdamW.update)


# ---- learning-rate schedules ---------------------------------------------------------------------


def constant_schedule(lr: float) -> Callable[[int], float]:
    """The same learning rate at every epoch."""
    lr = _number("lr", lr, 0.0)
    return lambda epoch: lr


def step_schedule(lr: float, every: int, factor: float) -> Callable[[int], float]:
    """`lr`, multiplied by `factor` (above 0) after each `every` epochs.

    >>> [step_schedule(1.0, every=2, factor=0.5)(epoch) for epoch in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    lr, every = _number("lr", lr, 0.0), _whole("every", every)
    factor = _number("factor", factor, sys.float_info.min)
    return lambda epoch: lr * factor ** (epoch // every)


def cosine_schedule(lr: float, epochs: int, minimum: float = 0) -> Callable[[int], float]:
    """From `lr` at epoch 0 down half a cosine to `minimum` at epoch `epochs`, which then stays.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, without restarts.
    """
    lr, epochs = _number("lr", lr, 0.0), _whole("epochs", epochs)
    minimum = _number("minimum", minimum, 0.0)
    if minimum > lr:
        raise ValueError(f"minimum is {minimum}, above the lr of {lr}: give one from 0 to {lr}")

    def rate(epoch: int) -> float:
        share = min(epoch, epochs) / epochs
        return minimum + (lr - minimum) * (1 + math.cos(math.pi * share)) / 2

    return rate


def _number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """`value` as a float in low <= value < high, or a ValueError that names it."""
    # A float even from NumPy: a np.float64 here would turn float32 parameters into float64.
    number = float(value) if isinstance(value, Real) else math.nan
    if not low <= number < high:
        below = "" if high == math.inf else f" and below {high:g}"
        raise ValueError(f"{name} is {value!r}: give a finite number of at least {low:g}{below}")
    return number


def _whole(name: str, value: Any) -> int:
    """`value` as an int of at least 1, or a ValueError that names it."""
    try:
        whole = operator.index(value)
    except TypeError:
        whole = 0
    if whole < 1:
        raise ValueError(f"{name} is {value!r}: give a whole number of at least 1")
    return whole
