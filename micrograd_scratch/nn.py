"""Networks of Values: Neuron, Layer, MLP.

A neuron is one `dot` and an activation; a layer is a list of neurons on the same inputs; an MLP is
layers in a row. They run on one sample at a time: `compile` finds the matrices. It leaves out
losses (losses.py), update rules (optim.py), training (training.py) and free wiring (network.py).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from . import functions, operations
from .engine import Value, _set_data, as_value, dots
from .operations import Operation, as_float, dot, shown

Activation = str | Callable[[Any], Any]


class Module:
    """Anything with parameters. Subclasses give `parameters()`; the rest follows."""

    def parameters(self) -> list[Value]:
        """Every Value that training changes, in a fixed order."""
        return []

    def zero_grad(self) -> None:
        """Set every parameter's gradient to 0."""
        for p in self.parameters():
            p.grad = 0.0


class Neuron(Module):
    """activation(b + w0*x0 + w1*x1 + ...). `nonlin=False` is micrograd's word for linear.

    Weights are drawn from `rng` (the module random, or a random.Random of your own) as `init` says:
    "he" normal with variance 2/nin (He et al. 2015), "xavier" uniform in +-sqrt(6/(nin + nout))
    (Glorot and Bengio 2010), "uniform" in (-1, 1) as micrograd draws. The bias starts at 0.
    """

    def __init__(
        self,
        nin: int,
        nonlin: bool = True,
        *,
        activation: Activation = "relu",
        init: str = "he",
        rng: Any = random,
        nout: int = 1,
    ) -> None:
        if nonlin not in (True, False):
            raise TypeError(f"nonlin is {nonlin!r}: give True or False, or activation={nonlin!r}")
        self.activation = activation if nonlin else "linear"
        self._activate = applied(self.activation)
        _check_count("nin", nin)
        draw = initializer(init, nin, nout, rng)
        self.w = [Value(draw()) for _ in range(nin)]
        self.b = Value(0.0)

    def __call__(self, x: Sequence[Any]) -> Value:
        """The neuron's output, a Value, for nin inputs. ValueError if x is of another length."""
        check_length("neuron", len(self.w), x)
        return self._activate(dot(self.w, list(x), self.b))

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]

    def __repr__(self) -> str:
        return f"{_title(self.activation)}Neuron({len(self.w)})"


class Layer(Module):
    """nout neurons on the same nin inputs; "softmax" and "log_softmax" act on all of them."""

    def __init__(self, nin: int, nout: int, **options: Any) -> None:
        _check_count("nout", nout)
        activation = options.get("activation")
        self._of_layer = _OF_LAYER.get(activation) if isinstance(activation, str) else None
        if self._of_layer is not None:
            if nout == 1:
                raise ValueError(f"{activation} of 1 neuron is a constant: give 2, or 'sigmoid'")
            options["activation"] = "linear"
        self.neurons = [Neuron(nin, nout=nout, **options) for _ in range(nout)]
        self.activation = activation if self._of_layer else self.neurons[0].activation

    def __call__(self, x: Sequence[Any]) -> Any:
        """The outputs, a list of nout Values; one Value if nout is 1."""
        check_length("layer", len(self.neurons[0].w), x)
        xs = [as_value(xi) for xi in x]  # once, so that all neurons share their inputs
        if all(type(neuron) is Neuron for neuron in self.neurons):
            ws, bs = [n.w for n in self.neurons], [n.b for n in self.neurons]
            sums = dots(ws, xs, bs)
            outputs = [n._activate(z) for n, z in zip(self.neurons, sums, strict=True)]
        else:
            outputs = [neuron(xs) for neuron in self.neurons]
        if self._of_layer is not None:
            outputs = self._of_layer(outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def parameters(self) -> list[Value]:
        return [p for neuron in self.neurons for p in neuron.parameters()]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(str, self.neurons))}]"


class MLP(Module):
    """A multilayer perceptron: nin inputs, then layers of the sizes given.

    >>> model = MLP(2, [16, 16, 1], activation="tanh", rng=random.Random(0))
    >>> len(model.parameters())
    337

    activation  of every layer but the last: a name ("relu", "sigmoid", "tanh", ...) or a function
    output      of the last layer: the same, or "softmax" / "log_softmax"
    init, rng   as in Neuron; parameters are labelled W1[row,column] and b1[row] by layer
    """

    def __init__(
        self,
        nin: int,
        nouts: Sequence[int],
        activation: Activation = "relu",
        output: Activation = "linear",
        init: str = "he",
        rng: Any = random,
    ) -> None:
        if not isinstance(nouts, Sequence) or not nouts:
            raise ValueError(
                f"nouts is {nouts!r}: list the size of every layer, as in MLP(2, [16, 16, 1])"
            )
        if not (isinstance(activation, str) and activation in _OF_LAYER):
            find_activation(activation)  # which a single layer would not use
        sizes = [nin, *nouts]
        last = len(nouts) - 1
        self.layers = [
            Layer(
                sizes[i],
                sizes[i + 1],
                activation=output if i == last else activation,
                init=init,
                rng=rng,
            )
            for i in range(len(nouts))
        ]
        for k, layer in enumerate(self.layers, 1):
            for row, neuron in enumerate(layer.neurons):
                neuron.b.label = f"b{k}[{row}]"
                for column, w in enumerate(neuron.w):
                    w.label = f"W{k}[{row},{column}]"

    def __call__(self, x: Sequence[Any]) -> Any:
        """One Value, or a list of them when the last layer has several neurons."""
        check_length("network", len(self.layers[0].neurons[0].w), x)
        out: Any = x
        for i, layer in enumerate(self.layers):
            out = layer([out] if i and isinstance(out, Value) else out)
        return out

    def parameters(self) -> list[Value]:
        return [p for layer in self.layers for p in layer.parameters()]

    def state_dict(self) -> dict[str, list[Any]]:
        """Weights (nout x nin) and biases (nout) as nested lists, named as nn.Sequential would."""
        return {
            name: [[w.data for w in row] for row in rows] if matrix else [b.data for b in rows]
            for name, rows, matrix in self._named()
        }

    def load_state_dict(self, state: Any) -> None:
        """Take every parameter from `state` (nested lists, arrays or tensors), all or nothing.

        KeyError for missing or unknown names, ValueError for a shape or a number that does not
        fit; the model is then unchanged.
        """
        named = list(self._named())
        expected, given = [name for name, _, _ in named], list(state)
        if set(expected) != set(given):
            missing = [name for name in expected if name not in given]
            unknown = [name for name in given if name not in expected]
            raise KeyError(f"the state does not fit: missing {missing}, unknown {unknown}")
        numbers: list[float] = []
        values: list[Value] = []
        for name, rows, matrix in named:
            array = state[name].tolist() if hasattr(state[name], "tolist") else state[name]
            shape, wanted = shape_of(array), shape_of(rows)
            if shape != wanted:
                raise ValueError(f"{name} has shape {shape}, but the model needs {wanted}")
            values += [v for row in rows for v in row] if matrix else rows
            numbers += map(as_float, [x for row in array for x in row] if matrix else array)
        _set_data(values, numbers)

    def _named(self) -> Iterator[tuple[str, list[Any], bool]]:
        """("0.weight", rows of Values, True), ("0.bias", Values, False), ("2.weight", ...), ..."""
        index = 0
        for layer in self.layers:
            yield f"{index}.weight", [neuron.w for neuron in layer.neurons], True
            yield f"{index}.bias", [neuron.b for neuron in layer.neurons], False
            index += 1 if layer.activation == "linear" else 2  # an activation is a module there

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(str, self.layers))}]"


_OF_LAYER = {"softmax": functions.softmax, "log_softmax": functions.log_softmax}


def find_activation(activation: Activation) -> Callable[[Any], Any]:
    """The function of that name (any operation of one argument), or the function itself."""
    if callable(activation):
        return activation
    if activation == "linear":
        return linear
    row = getattr(operations, str(activation), None) or getattr(functions, str(activation), None)
    if not (isinstance(row, Operation) and row.arity == 1):
        raise ValueError(
            f"no activation is called {activation!r}: use linear, relu, sigmoid, tanh or another "
            "operation of one argument, or pass a function"
        )
    return getattr(Value, activation, row)  # the method spares a look at the argument


def applied(activation: Activation) -> Callable[[Any], Any]:
    """The function of that name, or the function itself, which is watched if it is not ours.

    A function of floats, which would lose the gradient without a word, is a TypeError.
    """
    found = find_activation(activation)
    ours = isinstance(activation, (str, Operation)) or found is linear
    return found if ours else partial(_watched, found)


def _watched(function: Callable[[Any], Any], x: Any) -> Any:
    name = getattr(function, "__name__", repr(function))
    mend = f"give activation({name}, derivative), which takes any function of floats"
    try:
        y = function(x)
    except TypeError as error:
        raise TypeError(f"the activation {name} does not take a Value ({error}): {mend}") from error
    if not isinstance(y, Value):
        raise TypeError(f"the activation {name} gives {y!r}, which has no gradient: {mend}")
    return y


def linear(x: Any) -> Any:
    """x itself: no activation."""
    return x


def initializer(init: str, nin: int, nout: int, rng: Any) -> Callable[[], float]:
    """A function that draws one weight of a layer with nin inputs and nout outputs."""
    if not callable(getattr(rng, "gauss" if init == "he" else "uniform", None)):
        raise TypeError(f"rng is {rng!r}: give random.Random(0), or another seed")
    if init == "he":
        deviation = math.sqrt(2.0 / nin)
        return lambda: rng.gauss(0.0, deviation)
    if init == "xavier":
        bound = math.sqrt(6.0 / (nin + nout))
        return lambda: rng.uniform(-bound, bound)
    if init == "uniform":
        return lambda: rng.uniform(-1.0, 1.0)
    raise ValueError(f"no initialization is called {init!r}: use 'he', 'xavier' or 'uniform'")


def _check_count(name: str, count: int) -> None:
    if not hasattr(count, "__index__") or count < 1:  # NumPy's are whole numbers, too
        raise ValueError(f"{name} must be a whole number of at least 1, got {count!r}")


def check_length(what: str, expected: int, x: Sequence[Any], names: Sequence[str] = ()) -> None:
    """ValueError unless x lists so many inputs (which have these names); TypeError for no list."""
    try:
        given: Any = len(x)
    except TypeError:
        given = shown(x)
    if given != expected:
        error = ValueError if isinstance(given, int) else TypeError
        called = f" ({', '.join(names)})" if names else ""
        raise error(
            f"the {what} takes {expected} inputs{called}, got {given}: list those of one row"
        )


def shape_of(nested: Any, axes: int = 8) -> tuple[int, ...] | str:
    """The lengths of nested lists; "ragged" if they differ, or have more axes than that."""
    if not isinstance(nested, (list, tuple)):
        return ()
    shapes = [shape_of(item, axes - 1) if axes else "ragged" for item in nested]
    if any(shape != shapes[0] or shape == "ragged" for shape in shapes):
        return "ragged"
    return (len(nested), *(shapes[0] if shapes else ()))


def _title(activation: Activation) -> str:
    if activation == "relu":
        return "ReLU"
    name = activation if isinstance(activation, str) else getattr(activation, "__name__", "Custom")
    return name.capitalize()
