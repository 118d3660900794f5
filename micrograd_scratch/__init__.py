"""micrograd_scratch: write scalars, see every derivative, watch the matrix equations fall out.

    from micrograd_scratch import Value, MLP, exp, compile, draw

The engine loads at once and needs only the standard library; whatever needs NumPy or graphviz
loads when its name is first used.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .anomalies import AnomalyError, detect_anomaly
from .derivatives import grad, hessian, hvp, jacobian, jvp
from .engine import Constant, Value, no_grad, recompute
from .functions import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    ceil,
    clip,
    cosh,
    elu,
    erf,
    erfc,
    exp2,
    expm1,
    floor,
    floor_divide,
    fmod,
    gelu,
    gelu_tanh,
    hardtanh,
    hypot,
    leaky_relu,
    log1p,
    log2,
    log10,
    log_softmax,
    logaddexp,
    logit,
    logsigmoid,
    logsumexp,
    mish,
    relu6,
    remainder,
    selu,
    silu,
    sinh,
    softmax,
    softplus,
    softsign,
    square,
    step,
    tan,
    trunc,
)
from .operations import (
    copysign,
    cos,
    detach,
    dot,
    exp,
    log,
    maximum,
    minimum,
    operation,
    relu,
    sigmoid,
    sign,
    sin,
    sqrt,
    take,
    tanh,
    total,
    where,
)

if TYPE_CHECKING:
    from . import comparison, data, export, finite_difference, losses, nn, optim
    from .animation import animate
    from .compiler import Program, compile
    from .diagnosis import diagnose
    from .drawing import draw
    from .explanation import downstream, explain
    from .network import Network, activation
    from .network_drawing import draw_network
    from .nn import MLP, Layer, Module, Neuron
    from .training import DivergedError, History, fit
    from .weights import WeightsError, load, save

__version__ = "0.1.0"

# What loads when it is first asked for: name -> the module that has it ("" for a module itself).
_LATER = {
    **dict.fromkeys(("compile", "Program"), "compiler"),
    **dict.fromkeys(("comparison", "data", "export", "finite_difference"), ""),
    **dict.fromkeys(("losses", "nn", "optim"), ""),
    **dict.fromkeys(("MLP", "Layer", "Module", "Neuron"), "nn"),
    "animate": "animation",
    "diagnose": "diagnosis",
    "draw": "drawing",
    **dict.fromkeys(("downstream", "explain"), "explanation"),
    **dict.fromkeys(("Network", "activation"), "network"),
    "draw_network": "network_drawing",
    **dict.fromkeys(("DivergedError", "History", "fit"), "training"),
    **dict.fromkeys(("WeightsError", "load", "save"), "weights"),
}
_NOT_STARRED = {"compile"}  # importable, but `import *` must not shadow the builtin

__all__ = [  # noqa: PLE0604
    *(
        name
        for name, what in globals().items()
        if not (name.startswith("_") or name in _NOT_STARRED or isinstance(what, ModuleType))
    ),
    *(name for name in _LATER if name not in _NOT_STARRED),
]
for _name in ("annotations", "import_module", "ModuleType", "TYPE_CHECKING", "Any"):
    __all__.remove(_name)


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_LATER[name] or name}", __name__)
    answer = getattr(module, name) if _LATER[name] else module
    globals()[name] = answer
    return answer


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
