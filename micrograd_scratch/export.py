"""Export: leave with everything - to PyTorch and back, to ONNX, to C.

    export.to_torch(model)                  a torch.nn.Sequential with the same weights
    export.from_torch(module)               an MLP from one
    export.to_onnx(model, "digits.onnx")
    export.to_c(model, "digits.c", gradient=True)

PyTorch and onnx are imported when they are asked for. The C is written in c_functions.py, the ONNX
in onnx_graph.py; files of weights are weights.py's. It leaves out optimizers and training.
"""

from __future__ import annotations

import math
import os
import random
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import functions, operations
from .engine import Value
from .nn import MLP, Layer, Neuron, find_activation
from .operations import Operation

if TYPE_CHECKING:
    from .compiler import Program

# an activation here -> the module in torch.nn, and its arguments
_MODULES: dict[Any, tuple[str, dict[str, Any]]] = {
    "relu": ("ReLU", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {"beta": 1.0, "threshold": 40.0}),  # at torch's 20 off by 2e-9
    "logsigmoid": ("LogSigmoid", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": 0.01}),
    "elu": ("ELU", {"alpha": 1.0}),
    "selu": ("SELU", {}),
    "gelu": ("GELU", {"approximate": "none"}),
    "gelu_tanh": ("GELU", {"approximate": "tanh"}),
    "silu": ("SiLU", {}),
    "mish": ("Mish", {}),
    "softsign": ("Softsign", {}),
    "relu6": ("ReLU6", {}),
    "hardtanh": ("Hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    "softmax": ("Softmax", {"dim": -1}),
    "log_softmax": ("LogSoftmax", {"dim": -1}),
}
_NO_CHANGE = ("Identity", "Dropout", "Flatten")  # for one sample's vector, after training
# arguments that mean the same here
_ALIKE: dict[str, dict[Any, Any]] = {"dim": {-1: 1}, "threshold": {20.0: 40.0}}


# ---------------------------------------------------------------- PyTorch
def to_torch(model: MLP, dtype: str = "float64") -> Any:
    """A torch.nn.Sequential of Linear layers and activations, with the model's weights.

    It maps (rows, nin) to (rows, nout), and its state_dict has the names of ours. TypeError for an
    activation that torch has neither as a module nor, under its name, as a function.
    """
    torch = _library("torch", "see pytorch.org for the build you want")
    modules: list[Any] = []
    for layer in _plain(model, "to_torch").layers:
        inputs, units = len(layer.neurons[0].w), len(layer.neurons)
        modules.append(torch.nn.Linear(inputs, units, dtype=getattr(torch, dtype)))
        name = _name_of(layer.activation)
        if name in _MODULES:
            kind, arguments = _MODULES[name]
            modules.append(getattr(torch.nn, kind)(**arguments))
        elif name != "linear":
            modules.append(_elementwise(torch, name))
    exported = torch.nn.Sequential(*modules)
    state = {k: torch.tensor(v, dtype=torch.float64) for k, v in model.state_dict().items()}
    exported.load_state_dict(state)
    return exported


def from_torch(module: Any) -> MLP:
    """An MLP with the weights and outputs of a torch.nn.Sequential of Linear and activations.

    Sequentials may be nested; Dropout, Identity and Flatten are left out. A Linear without bias
    gets one of 0. TypeError for a module that an MLP does not have, ValueError for one with
    arguments that differ from ours; both name the module.
    """
    torch = _library("torch", "see pytorch.org for the build you want")
    linear: list[Any] = []
    activations: list[str] = []
    for name, part in module.named_modules():
        kind = type(part).__name__
        if isinstance(part, torch.nn.Sequential) or kind in _NO_CHANGE:
            continue
        if isinstance(part, torch.nn.Linear):
            linear.append(part)
            activations.append("linear")
            continue
        activation = _activation_from(name, part)
        if not linear or activations[-1] != "linear":
            raise TypeError(
                f"module {name!r} ({kind}) does not follow a Linear: in an MLP, each layer has one "
                "activation"
            )
        activations[-1] = activation
    if not linear:
        raise TypeError(f"{type(module).__name__} has no Linear: give a Sequential of them")
    model = MLP(
        linear[0].in_features,
        [part.out_features for part in linear],
        activations[0],
        activations[-1],
        rng=random.Random(0),  # the numbers are overwritten
    )
    for k, (part, activation) in enumerate(zip(linear, activations, strict=True)):
        before = model.layers[k]
        if part.in_features != len(before.neurons[0].w):
            raise ValueError(
                f"Linear {k} takes {part.in_features} inputs, but gets {len(before.neurons[0].w)}"
            )
        if before.activation != activation:
            sizes = part.in_features, part.out_features
            model.layers[k] = Layer(*sizes, activation=activation, rng=random.Random(0))
            for fresh, old in zip(model.layers[k].parameters(), before.parameters(), strict=True):
                fresh.label = old.label
    arrays: list[Any] = []
    for part in linear:
        arrays.append(part.weight.detach())
        arrays.append([0.0] * part.out_features if part.bias is None else part.bias.detach())
    model.load_state_dict(dict(zip(model.state_dict(), arrays, strict=True)))
    return model


def _activation_from(name: str, part: Any) -> str:
    """Our name for one of torch's modules."""
    kind = type(part).__name__
    found = [ours for ours, (theirs, _) in _MODULES.items() if theirs == kind]
    if not found:
        if isinstance(getattr(part, "row", None), str):
            return str(part.row)  # to_torch made it
        supported = ", ".join(sorted({theirs for theirs, _ in _MODULES.values()}))
        raise TypeError(
            f"module {name!r} ({kind}) is nothing an MLP has: it has Linear, {supported}"
        )
    for ours in found:
        given = {argument: getattr(part, argument) for argument in _MODULES[ours][1]}
        given = {k: _ALIKE.get(k, {}).get(x, x) for k, x in given.items()}
        wanted = {k: _ALIKE.get(k, {}).get(x, x) for k, x in _MODULES[ours][1].items()}
        if given == wanted:
            return str(ours)
    raise ValueError(
        f"module {name!r} is {part}, but {found[0]} is {kind}({_MODULES[found[0]][1]})"
    )


def _elementwise(torch: Any, name: Any) -> Any:
    """A module of the function in torch that has the activation's name."""
    function = getattr(torch, name, None) if isinstance(name, str) else None
    if function is None:
        raise TypeError(
            f"torch has no activation {name!r}: use one of {', '.join(sorted(_MODULES))}, or any "
            "function that torch has under the same name"
        )
    body = {"row": name, "forward": lambda self, x: function(x)}
    return type(name.capitalize(), (torch.nn.Module,), body)()


# ---------------------------------------------------------------- ONNX
def to_onnx(model: MLP, path: str | os.PathLike[str], dtype: str = "float64") -> None:
    """Write the model as ONNX: an input "x" (rows, nin), an output "y" (rows, nout).

    Activations may be any rows or functions of Values that come down to what ONNX has; TypeError,
    naming the operation, for others. In float64, onnxruntime runs all but a few: for one that
    needs erf (gelu), or an inverse of sin, cos, tan, sinh, cosh or tanh, take "float32".
    """
    onnx = _library("onnx", "pip install 'micrograd_scratch[export]'")
    from .onnx_graph import onnx_model

    content = onnx_model(onnx, _plain(model, "to_onnx"), dtype).SerializeToString()
    Path(path).write_bytes(content)


# ---------------------------------------------------------------- C
def to_c(
    source: Any,
    path: str | os.PathLike[str],
    *,
    gradient: bool = False,
    inputs: Any = None,
    parameters: Sequence[Value] | None = None,
) -> None:
    """Write one file of C99 that needs <math.h> alone, and on request holds the gradient.

    source      a model (an MLP becomes loops over its layers), outputs that were computed - a Value
                or a list, as for `compile` - or a compiled program
    path        the file; its stem begins the names: digits.c has digits_value, digits_gradient
    inputs      of a model other than an MLP: how many numbers it takes; of outputs: Values, or
                lists of Values, in the order of x
    parameters  the leaves that make up p; default: the model's, each once, or every leaf that is no
                input

    The C takes parameters and inputs as arrays and keeps the engine's order of operations. Compiled
    without fused multiplication and without -ffast-math it gives the engine's bits for + - * / and
    sqrt, other functions are the C library's. TypeError naming the operation for a row of yours
    that has no form in C (see carriers.py).

    Of a graph with more than 200 nodes, intermediate numbers are static: one thread at a time.
    """
    from . import c_functions as c
    from .c_source import CWriter
    from .compiler import Program, compile

    place = Path(path)
    name = re.sub(r"\W", "_", place.stem, flags=re.ASCII)
    name = f"_{name}" if name[:1].isdigit() else name
    writer = CWriter()
    functions: Any = None
    if isinstance(source, MLP):
        inputs = len(source.layers[0].neurons[0].w)
        counts = inputs, len(source.layers[-1].neurons)
        if parameters is None and _is_plain(source):
            functions = c.NetworkFunctions(writer, source, name)
            numbers = [p.data for p in source.parameters()]
            if gradient and not functions.unconditional():
                functions = None
    if functions is None:
        if isinstance(source, Program):
            program = source
        elif callable(source):
            if not isinstance(inputs, int):
                raise TypeError(f"to_c needs to know how many inputs {source!r} takes: inputs=2")
            own: list[Value] = getattr(source, "parameters", list)()
            program = recorded(
                source, inputs, list(dict.fromkeys(own)) if parameters is None else parameters
            )
        else:
            program = compile(source, inputs, parameters)
        taken = sum(math.prod(shape) for _, shape in program.inputs)
        numbers = [p.data for p in program.parameters]
        writer = CWriter()
        functions = c.GraphFunctions(writer, program.graph, name, (len(numbers), taken))
        counts = taken, len(program.graph.outputs)
    sources = functions.source(gradient)
    place.write_text(c.c_file(name, writer, sources, numbers, counts, gradient), encoding="ascii")


# ---------------------------------------------------------------- what these share
def _library(name: str, mend: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ImportError(f"{name} is not installed: {mend}") from None


def recorded(function: Callable[..., Any], inputs: int, parameters: Sequence[Value]) -> Program:
    """The program of a function of a list of Values. ValueError if it branches on a number."""
    from .compiler import compile

    traced = compile(lambda xs: function(xs), parameters=parameters)
    traced([[0.5] * inputs])
    program = traced.plain
    if program is None:
        raise ValueError(
            f"{function!r} branches on a number, which a recorded graph does not hold: choose by "
            "where(condition, a, b) or maximum(a, b)"
        )
    return program


def activation_of(layer: Layer) -> tuple[Any, Callable[[Any], Any], int]:
    """What distinguishes the layer's activation, the function of a list, and the list's length."""
    activation: Any = layer.activation
    if activation in ("softmax", "log_softmax"):
        units = len(layer.neurons)
        return (activation, units), getattr(functions, activation), units
    function = find_activation(activation)
    return (function, 1), lambda xs: function(xs[0]), 1


def _is_plain(model: MLP) -> bool:
    """Whether an MLP is called as written in nn.py, with every parameter used once."""
    parameters = model.parameters()
    return (
        type(model).__call__ is MLP.__call__
        and len(set(parameters)) == len(parameters)
        and all(type(layer) is Layer for layer in model.layers)
        and all(
            type(neuron) is Neuron and neuron.activation == layer.neurons[0].activation
            for layer in model.layers
            for neuron in layer.neurons
        )
    )


def _plain(model: Any, wanted: str) -> MLP:
    if not isinstance(model, MLP) or not _is_plain(model):
        what = repr(model) if not isinstance(model, MLP) else "this one is wired otherwise"
        raise TypeError(f"{wanted} takes an MLP as it was built, {what}: use to_c or state_dict()")
    return model


def _name_of(activation: Any) -> Any:
    """The name of an activation; of a row of ours, that of the operation; others as they are."""
    ours = (*vars(operations).values(), *vars(functions).values())
    if not isinstance(activation, Operation) or activation not in ours:
        return activation  # LeCun's tanh is not PyTorch's
    return activation.name
