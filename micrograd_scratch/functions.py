"""The rest of the functions: rows made by the same constructor, and what derives from rows.

operations.py explains what a row is. Rules here keep both tails (exp(-|x|) rather than 1 - y * y),
do not overflow inside, and follow PyTorch's conventions at kinks, but for hypot(0, 0), whose slopes
are 0 here and nan there. It leaves out losses (losses.py).
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterable
from math import copysign as _copysign
from math import inf, nan
from typing import Any

from .operations import (
    _rounded,
    absolute,
    detach,
    divide,
    exp,
    log,
    maximum,
    maximum_of_two,
    minimum_of_two,
    operation,
    sigmoid,
    sign,
    sqrt,
    tanh,
    total,
    where,
)

_LN2, _LN10 = math.log(2.0), math.log(10.0)
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017
_LARGEST = sys.float_info.max
_FAR = 1e3  # beyond it sigmoid, erfc and the like are 0 or 1 in float64; keeps inf * 0 out


def _bounded(x: Any) -> Any:
    return minimum_of_two(maximum_of_two(x, -_FAR), _FAR)


def _softplus(x: float) -> float:
    return math.log1p(math.exp(-abs(x))) + (x if x > 0 or x != x else 0.0)


def _softplus_array(x: Any) -> Any:
    return log1p(exp(-absolute(x))) + maximum_of_two(x, 0.0)


def _logit(x: float) -> float:
    if 0.25 < x < 0.75:
        return 2.0 * math.atanh(2.0 * x - 1.0)  # 2x - 1 is exact here
    return math.log(x / (1.0 - x))


def _logaddexp(a: float, b: float) -> float:
    if a == b:
        return a + _LN2  # also at two equal infinities, whose difference is nan
    return max(a, b) + math.log1p(math.exp(-abs(a - b))) if a == a and b == b else nan


def _clip(x: Any, low: Any, high: Any) -> Any:
    return minimum_of_two(maximum_of_two(x, low), high)


def _clip_partials(y: Any, x: Any, low: Any, high: Any) -> tuple[Any, ...]:
    crossed = high < low  # then high wins
    return (
        (low <= x) * (x <= high),
        (x < low) * (low <= high) * (low != high),
        (x > high) + (x <= high) * crossed,
    )


def _atan2_partials(y: Any, a: Any, b: Any) -> tuple[Any, ...]:
    r = hypot(a, b) + (a == 0) * (b == 0)  # at the origin both partials are 0
    far = r == inf
    return where(far, 0.0, b / r / r), where(far, 0.0, -a / r / r)


def _hypot_partials(y: Any, a: Any, b: Any) -> tuple[Any, ...]:
    r = y + (y == 0)  # at the origin both partials are 0
    return a / r, b / r


def _gelu(x: float) -> float:
    return 0.5 * max(x, -_FAR) * math.erfc(-x * math.sqrt(0.5)) if x == x else nan


def _fmod_partials(y: Any, a: Any, b: Any) -> tuple[Any, Any]:
    # a / b itself may round up to the next whole number: fmod(0.9, 0.1) goes 8 times, not 9
    return 1.0, -where(y == y, rounded((a - y) / b), trunc(a / b))


def _gelu_partials(y: Any, x: Any) -> tuple[Any]:
    x = _bounded(x)
    return (0.5 * erfc(-x * math.sqrt(0.5)) + x * exp(-0.5 * x * x) / math.sqrt(2 * math.pi),)


_GELU_C, _GELU_D = 2.0 * math.sqrt(2.0 / math.pi), 0.044715  # Hendrycks and Gimpel 2016


def _gelu_tanh(x: Any) -> Any:
    bounded = _bounded(x)
    s = sigmoid(_GELU_C * (bounded + _GELU_D * bounded * bounded * bounded))
    return maximum_of_two(x, -_FAR) * s


def _gelu_tanh_partials(y: Any, x: Any) -> tuple[Any]:
    x = _bounded(x)
    inner = _GELU_C * (x + _GELU_D * x * x * x)
    s = sigmoid(inner)
    return (s + x * s * sigmoid(-inner) * _GELU_C * (1.0 + 3.0 * _GELU_D * x * x),)


def _silu(x: Any) -> Any:
    return maximum_of_two(x, -_FAR) * sigmoid(x)


def _silu_partials(y: Any, x: Any) -> tuple[Any]:
    x = _bounded(x)
    s = sigmoid(x)
    return (s + x * s * sigmoid(-x),)


def _mish(x: Any) -> Any:
    return maximum_of_two(x, -_FAR) * tanh(softplus(x))


def _mish_partials(y: Any, x: Any) -> tuple[Any]:
    x = _bounded(x)
    t = tanh(softplus(x))
    return (t + x * (1.0 - t * t) * sigmoid(x),)


# fmt: off
expm1       = operation("expm1", math.expm1,  lambda y, x: (exp(x),),           limit=inf)
exp2        = operation("exp2",  math.exp2,   lambda y, x: (y * _LN2,),         limit=inf)
log1p       = operation("log1p", math.log1p,  lambda y, x: (where(x < -1, nan, 1.0 / (1.0 + x)),),
                        limit=lambda x: -inf if x == -1 else nan, domain=(-0.9, 5))
log2        = operation("log2",  math.log2,   lambda y, x: (where(x < 0, nan, 1.0 / (x * _LN2)),),
                        limit=lambda x: -inf if x == 0 else nan, domain=(0.1, 5))
log10       = operation("log10", math.log10,  lambda y, x: (where(x < 0, nan, 1.0 / (x * _LN10)),),
                        limit=lambda x: -inf if x == 0 else nan, domain=(0.1, 5))
square      = operation("square", lambda x: x * x, lambda y, x: (2.0 * x,))

tan         = operation("tan",   math.tan,    lambda y, x: (1.0 + y * y,),      domain=(-1.2, 1.2))
asin        = operation("asin",  math.asin,   lambda y, x: (1.0 / sqrt((1.0 - x) * (1.0 + x)),),
                        array="arcsin", domain=(-0.9, 0.9))
acos        = operation("acos",  math.acos,   lambda y, x: (-1.0 / sqrt((1.0 - x) * (1.0 + x)),),
                        array="arccos", domain=(-0.9, 0.9))
atan        = operation("atan",  math.atan,   lambda y, x: (1.0 / (1.0 + x * x),), array="arctan")
sinh        = operation("sinh",  math.sinh,   lambda y, x: (cosh(x),),          limit=lambda x: _copysign(inf, x))
cosh        = operation("cosh",  math.cosh,   lambda y, x: (sinh(x),),          limit=inf)
asinh       = operation("asinh", math.asinh,  lambda y, x: (1.0 / hypot(x, 1.0),), array="arcsinh")
acosh       = operation("acosh", math.acosh,  lambda y, x: (1.0 / (sqrt(x - 1.0) * sqrt(x + 1.0)),),
                        array="arccosh", domain=(1.2, 5))
atanh       = operation("atanh", math.atanh,  lambda y, x: (where(absolute(x) > 1, nan, 1.0 / ((1.0 - x) * (1.0 + x))),),
                        array="arctanh", limit=lambda x: _copysign(inf, x) if abs(x) == 1 else nan, domain=(-0.9, 0.9))
atan2       = operation("atan2", math.atan2,  _atan2_partials,                  array="arctan2", domain=((0.2, 3), (-3, 3)))
hypot       = operation("hypot", math.hypot,  _hypot_partials,                  domain=((0.2, 3), (-3, 3)))

logit       = operation("logit", _logit,      lambda y, x: (where(absolute(2.0 * x - 1.0) > 1, nan, 1.0 / (x * (1.0 - x))),),
                        array=lambda x: log(x / (1.0 - x)), domain=(0.05, 0.95),
                        limit=lambda x: inf if x == 1 else -inf if x == 0 else nan)
softplus    = operation("softplus", _softplus, lambda y, x: (sigmoid(x),),      array=_softplus_array)
logsigmoid  = operation("logsigmoid", lambda x: -_softplus(-x), lambda y, x: (sigmoid(-x),),
                        array=lambda x: -softplus(-x))
logaddexp   = operation("logaddexp", _logaddexp, lambda y, a, b: (sigmoid(a - b), sigmoid(b - a)))

leaky_relu  = operation("leaky_relu", lambda x: x if x > 0 else 0.01 * x, lambda y, x: (where(x > 0, 1.0, 0.01),),
                        array=lambda x: maximum_of_two(x, 0.01 * x), kinks=(0,))
elu         = operation("elu",   lambda x: x if x > 0 else math.expm1(x), lambda y, x: (exp(minimum_of_two(x, 0.0)),),
                        array=lambda x: maximum_of_two(x, expm1(minimum_of_two(x, 0.0))))
selu        = operation("selu",  lambda x: _SELU_SCALE * (x if x > 0 else _SELU_ALPHA * math.expm1(x)),
                        lambda y, x: (where(x > 0, _SELU_SCALE, _SELU_SCALE * _SELU_ALPHA * exp(minimum_of_two(x, 0.0))),),
                        array=lambda x: _SELU_SCALE * where(x > 0, x, _SELU_ALPHA * expm1(minimum_of_two(x, 0.0))), kinks=(0,))
gelu        = operation("gelu",  _gelu,       _gelu_partials,
                        array=lambda x: 0.5 * maximum_of_two(x, -_FAR) * erfc(-_bounded(x) * math.sqrt(0.5)))
gelu_tanh   = operation("gelu_tanh", _gelu_tanh, _gelu_tanh_partials, array=_gelu_tanh)
silu        = operation("silu",  _silu,       _silu_partials,                    array=_silu)
mish        = operation("mish",  _mish,       _mish_partials,                    array=_mish)
softsign    = operation("softsign", lambda x: x / (1.0 + abs(x)),
                        lambda y, x: ((1.0 + 0.0 * y) / ((1.0 + absolute(x)) * (1.0 + absolute(x))),),  # nan if y is
                        array=lambda x: x / (1.0 + absolute(x)))
relu6       = operation("relu6", lambda x: 0.0 if x <= 0 else 6.0 if x >= 6 else x, lambda y, x: ((x > 0) * (x < 6),),
                        array=lambda x: minimum_of_two(maximum_of_two(x, 0.0), 6.0), kinks=(0, 6), domain=(-3, 9))
hardtanh    = operation("hardtanh", lambda x: -1.0 if x <= -1 else 1.0 if x >= 1 else x, lambda y, x: ((x > -1) * (x < 1),),
                        array=lambda x: minimum_of_two(maximum_of_two(x, -1.0), 1.0), kinks=(-1, 1))
erf         = operation("erf",   math.erf,    lambda y, x: (2.0 / math.sqrt(math.pi) * exp(-x * x),), domain=(-1.5, 1.5))
erfc        = operation("erfc",  math.erfc,   lambda y, x: (-2.0 / math.sqrt(math.pi) * exp(-x * x),), domain=(-1.5, 1.5))

floor       = operation("floor", _rounded(math.floor), lambda y, x: (None,),    limit=lambda x: x)
ceil        = operation("ceil",  _rounded(math.ceil),  lambda y, x: (None,),    limit=lambda x: x)
trunc       = operation("trunc", _rounded(math.trunc), lambda y, x: (None,),    limit=lambda x: x)
rounded     = operation("round", _rounded(round),      lambda y, x: (None,),    limit=lambda x: x, array="rint")
step        = operation("step",  lambda x: 1.0 if x > 0 else 0.0 if x <= 0 else x, lambda y, x: (None,), kinks=(0,),
                        array=lambda x: maximum_of_two(sign(x), 0.0))
floor_divide = operation("//",   operator.floordiv, lambda y, a, b: (None, None), array="floor_divide",
                        limit=divide, domain=((-3, 3), (0.5, 3)))
remainder   = operation("%",     operator.mod, lambda y, a, b: (1.0, -floor_divide(a, b)),
                        array="remainder", domain=((-3, 3), (0.5, 3)))
fmod        = operation("fmod",  math.fmod,   _fmod_partials, domain=((-3, 3), (0.5, 3)))
clip        = operation("clip",  _clip,       _clip_partials,                    array=_clip,
                        domain=((-3, 3), (-2, -1), (1, 2)))
# fmt: on


# ---------------------------------------------------------------- derived, on lists
def _shift(xs: list[Any]) -> Any:
    """The maximum, kept finite: what holds exp() in range, without being differentiated."""
    return detach(clip(maximum(xs), -_LARGEST, _LARGEST))


def _listed(name: str, xs: Iterable[Any]) -> list[Any]:
    """xs as a list; an error that names the function if it is one number, or empty."""
    if not hasattr(xs, "__iter__"):
        raise TypeError(f"{name} takes a list, got {xs!r}: list the numbers, as in {name}([a, b])")
    xs = list(xs)
    if not xs:
        raise ValueError(f"the {name} of nothing: give it at least one number")
    return xs


def logsumexp(xs: Iterable[Any]) -> Any:
    """log(exp(x0) + exp(x1) + ...) of a list, without overflow."""
    xs = _listed("logsumexp", xs)
    shift = _shift(xs)
    return log(total([exp(x - shift) for x in xs])) + shift


def softmax(xs: Iterable[Any]) -> list[Any]:
    """exp(x) / (exp(x0) + exp(x1) + ...) for every x of a list, without overflow."""
    xs = _listed("softmax", xs)
    shift = _shift(xs)
    powers = [exp(x - shift) for x in xs]
    normalizer = total(powers)
    return [divide(power, normalizer) for power in powers]  # of floats, too, 0 / 0 is nan


def log_softmax(xs: Iterable[Any]) -> list[Any]:
    """The logarithms of `softmax`, exact where softmax itself would round to 0."""
    xs = _listed("log_softmax", xs)
    largest = detach(maximum(xs))
    shifted = [x - largest for x in xs]
    log_normalizer = log(total([exp(x) for x in shifted]))
    return [x - log_normalizer for x in shifted]
