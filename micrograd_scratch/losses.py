"""Losses: functions of Values (and of floats), one sample at a time.

`score`, `logit` and `logits` are what a network gives before any sigmoid or softmax: a loss that
takes those stays exact where the probability itself would round to 0 or 1. Averaging over samples
is left to the caller (sum them and divide), to `compile` and to `fit`, which do it for you.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .functions import log_softmax, softplus, square
from .operations import dot, relu, take, total


def squared_error(prediction: Any, target: Any) -> Any:
    """(prediction - target)**2; of two lists, the sum over their elements."""
    if not (_is_list(prediction) or _is_list(target)):
        return square(prediction - target)
    if not (_is_list(prediction) and _is_list(target)):
        raise TypeError(
            f"the prediction is {_form(prediction)}, but the target {_form(target)}: give two "
            "numbers, or two lists"
        )
    _check_lengths(prediction, target)
    return total([square(p - t) for p, t in zip(prediction, target, strict=True)])


def mean_squared_error(prediction: Any, target: Any) -> Any:
    """The squared error averaged over the elements of one sample's output."""
    count = len(prediction) if _is_list(prediction) else 1
    if count == 0:
        raise ValueError("the mean squared error of nothing: give it at least one prediction")
    return squared_error(prediction, target) / count


def binary_cross_entropy(logit: Any, target: Any) -> Any:
    """-log p(target) where p = sigmoid(logit); target is 0, 1 or a probability between them.

    Written on the logit with softplus(x) = log(1 + exp(x)), which neither overflows nor takes
    the logarithm of a rounded 0.
    """
    _check_numbers("binary_cross_entropy", logit, target)
    return target * softplus(-logit) + (1.0 - target) * softplus(logit)


def cross_entropy(logits: Sequence[Any], target: Any) -> Any:
    """-log softmax(logits)[target].

    target is a class (an int, or a Value when it is an input of a compiled program), or a list of
    probabilities, one per class. IndexError for a class that is out of range.
    """
    if not hasattr(logits, "__iter__"):
        raise TypeError(
            f"cross_entropy takes a list of logits, one per class, got {logits!r}: for a single "
            "logit use binary_cross_entropy"
        )
    log_probabilities = log_softmax(logits)
    if _is_list(target):
        _check_lengths(log_probabilities, target)
        return -dot(target, log_probabilities)
    return -take(log_probabilities, target)


def hinge(score: Any, target: Any) -> Any:
    """max(0, 1 - target * score) for target -1 or 1: a margin of 1 costs nothing (Vapnik 1995)."""
    _check_numbers("hinge", score, target)
    return relu(1.0 - target * score)


def l2(parameters: Sequence[Any]) -> Any:
    """The sum of squares of the parameters, as one node; multiply by the strength you want."""
    return dot(parameters, parameters)


def _check_lengths(predictions: Sequence[Any], targets: Sequence[Any]) -> None:
    if len(predictions) != len(targets):
        raise ValueError(
            f"{len(predictions)} predictions do not fit {len(targets)} targets: give as many"
        )


def _check_numbers(name: str, prediction: Any, target: Any) -> None:
    if isinstance(prediction, (list, tuple)) or isinstance(target, (list, tuple)):
        raise TypeError(
            f"{name} takes two numbers, but the prediction is {_form(prediction)} and the target "
            f"{_form(target)}: give one of each"
        )


def _is_list(x: Any) -> bool:
    return isinstance(x, (list, tuple)) or bool(getattr(x, "ndim", False))


def _form(x: Any) -> str:
    return f"a list of {len(x)}" if _is_list(x) else "one number"
