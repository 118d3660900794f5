"""Networks wired by hand: inputs and neurons with names, connected one by one, in any acyclic way.

    net = Network()
    net.add_input("a"); net.add_input("b")
    net.add_neuron("hidden", activation="sigmoid")
    net.add_neuron("out", activation="sigmoid")
    for source, target in [("a", "hidden"), ("b", "hidden"), ("hidden", "out"), ("a", "out")]:
        net.connect(source, target)
    net.set_outputs("out")

It is called, trained by `fit` and drawn by `draw_network` as other modules are. `activation` makes
any Python function of a float an activation, stairs included. Left out: layers (nn.py), and cycles.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from . import functions, operations
from .engine import Value, _set_data, as_value
from .nn import Activation, Module, applied, check_length, find_activation
from .operations import Operation, as_float, dot


class Network(Module):
    """Neurons and connections that are added and removed by name, also between trainings.

    A neuron is activation(bias + the sum of weight * source over its connections). Weights that are
    not given are drawn from `rng` (the module random, or a random.Random of your own), uniformly
    from (-1, 1). What is not removed keeps its weight. KeyError for an unknown name, ValueError for
    one that is taken or a connection that would close a cycle; the network is then unchanged.
    """

    def __init__(self, rng: Any = random) -> None:
        self.rng = rng
        self.inputs: list[str] = []
        self.wiring: dict[str, Wired] = {}
        self.outputs: list[str] = []
        self._sorted: list[str] | None = None  # the neurons' names, sources first

    # -- editing
    def add_input(self, name: str | None = None) -> str:
        """A new input, the last in what a call takes; returns its name, x0, x1, ... by default."""
        name = self._new_name(name, "x", len(self.inputs))
        self.inputs.append(name)
        return name

    def add_neuron(
        self,
        name: str | None = None,
        *,
        activation: Activation = "tanh",
        bias: float | Value | None = 0.0,
    ) -> str:
        """A new neuron without connections; returns its name, n0, n1, ... by default.

        activation  a name ("sigmoid", "relu", "linear", ...) or a function; see `activation`
        bias        where it starts; a Value to share one; None for a neuron without
        """
        find_activation(activation)  # refuses an unknown name
        start = None if bias is None else _parameter(bias)
        name = self._new_name(name, "n", len(self.wiring))
        if start is not None and not start.label:
            start.label = f"{name}.bias"
        self.wiring[name] = Wired(activation, start)
        self._sorted = None
        return name

    def connect(self, source: str, target: str, weight: float | Value | None = None) -> Value:
        """A connection from an input or a neuron to a neuron; returns its weight, a Value.

        weight  where it starts; a Value to share one; None draws one
        """
        self._check_known(source)
        neuron = self._neuron(target)
        if source in neuron.weights:
            raise ValueError(f"{source!r} and {target!r} are connected: disconnect them first")
        way = self._way(target, source)
        if way:
            raise ValueError(
                f"connecting {source!r} to {target!r} would close the cycle "
                f"{' -> '.join([*way, target])}: a network must be acyclic"
            )
        w = _parameter(self.rng.uniform(-1.0, 1.0) if weight is None else weight)
        w.label = w.label or f"{target}.{source}"
        neuron.weights[source] = w
        if source in self.wiring:
            self.wiring[source].targets.append(target)
        self._sorted = None
        return w

    def disconnect(self, source: str, target: str) -> None:
        """Remove a connection."""
        self._check_known(source)
        if source not in self._neuron(target).weights:
            raise KeyError(f"{source!r} and {target!r} are not connected")
        del self.wiring[target].weights[source]
        if source in self.wiring:
            self.wiring[source].targets.remove(target)
        self._sorted = None

    def remove(self, name: str) -> None:
        """Remove an input or a neuron, with its connections; it is no output any more."""
        self._check_known(name)
        if name in self.inputs:
            self.inputs.remove(name)
        else:
            del self.wiring[name]
        for neuron in self.wiring.values():
            neuron.weights.pop(name, None)
            neuron.targets = [target for target in neuron.targets if target != name]
        self.outputs = [output for output in self.outputs if output != name]
        self._sorted = None

    def set_outputs(self, *names: str) -> None:
        """Which neurons or inputs a call returns, in this order."""
        for name in names:
            self._check_known(name)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"outputs are {names}: name each of them once, and one at least")
        self.outputs = list(names)

    # -- use
    def __call__(self, x: Sequence[Any]) -> Any:
        """The output, a Value, or a list of them if there are several; x in the inputs' order."""
        if not self.outputs:
            raise ValueError("the network has no outputs: name them with set_outputs(...)")
        values = self._values(x)
        answers = [values[name] for name in self.outputs]
        return answers[0] if len(answers) == 1 else answers

    def parameters(self) -> list[Value]:
        """Weights, then bias, of each neuron as they were added; a shared Value once."""
        return list(dict.fromkeys(self._named().values()))

    def units(self, x: Sequence[Any] | None = None) -> list[Any]:
        """What `draw_network` draws: inputs first, then neurons by columns."""
        from .network_drawing import Unit

        numbers: dict[str, Any] = {} if x is None else self._values(x)
        columns = dict.fromkeys(self.inputs, 0)
        for name in self._order():
            depths = [columns[source] for source in self.wiring[name].weights]
            columns[name] = 1 + max(depths, default=0)
        names = sorted(columns, key=columns.__getitem__)
        place = {name: i for i, name in enumerate(names)}
        units = []
        for name in names:
            output = numbers[name].data if name in numbers else None
            if name in self.inputs:
                units.append(Unit(name, 0, output=output))
                continue
            neuron = self.wiring[name]
            sources = [(place[source], w) for source, w in neuron.weights.items()]
            shown = str(getattr(neuron.activation, "__name__", neuron.activation))
            units.append(Unit(name, columns[name], sources, neuron.bias, shown, output))
        return units

    def state_dict(self) -> dict[str, float]:
        """Every parameter's number: weights as target.source, biases as target.bias."""
        return {name: p.data for name, p in self._named().items()}

    def load_state_dict(self, state: Any) -> None:
        """Take every parameter from `state`, all or nothing; KeyError for names that do not fit."""
        named = self._named()
        missing = [name for name in named if name not in state]
        unknown = [name for name in state if name not in named]
        if missing or unknown:
            raise KeyError(f"the state does not fit: missing {missing}, unknown {unknown}")
        numbers = [as_float(state[name]) for name in named]
        _set_data(list(named.values()), numbers)

    def __repr__(self) -> str:
        neurons = [f"{name} = {_described(neuron)}" for name, neuron in self.wiring.items()]
        return (
            f"Network of inputs [{', '.join(self.inputs)}], neurons [{'; '.join(neurons)}], "
            f"outputs [{', '.join(self.outputs)}]"
        )

    # -- how
    def _values(self, x: Sequence[Any]) -> dict[str, Value]:
        """The Value of every input and neuron."""
        check_length("network", len(self.inputs), x, self.inputs)
        values = {name: as_value(number) for name, number in zip(self.inputs, x, strict=True)}
        for name in self._order():
            neuron = self.wiring[name]
            sources = [values[source] for source in neuron.weights]
            summed = as_value(dot(list(neuron.weights.values()), sources, neuron.bias))
            values[name] = applied(neuron.activation)(summed)
        return values

    def _order(self) -> list[str]:
        """The neurons' names, sources first, otherwise as they were added (Kahn 1962)."""
        if self._sorted is None:
            waiting = {
                name: sum(source in self.wiring for source in neuron.weights)
                for name, neuron in self.wiring.items()
            }
            order = [name for name, count in waiting.items() if count == 0]
            for name in order:  # grows while it is walked
                for target in self.wiring[name].targets:
                    waiting[target] -= 1
                    if waiting[target] == 0:
                        order.append(target)
            self._sorted = order
        return self._sorted

    def _way(self, start: str, end: str) -> list[str]:
        """Names on a way along connections from `start` to `end`; [] if there is none."""
        before, stack = {start: ""}, [start]
        while stack:
            name = stack.pop()
            if name == end:
                way = [name]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            for target in self.wiring[name].targets if name in self.wiring else ():
                if target not in before:
                    before[target] = name
                    stack.append(target)
        return []

    def _named(self) -> dict[str, Value]:
        named: dict[str, Value] = {}
        for name, neuron in self.wiring.items():
            named |= {f"{name}.{source}": w for source, w in neuron.weights.items()}
            if neuron.bias is not None:
                named[f"{name}.bias"] = neuron.bias
        return named

    def _neuron(self, name: str) -> Wired:
        self._check_known(name)
        if name in self.inputs:
            raise ValueError(f"{name!r} is an input: connections lead to neurons")
        return self.wiring[name]

    def _check_known(self, name: str) -> None:
        if not (isinstance(name, str) and self._is_known(name)):
            raise KeyError(f"there is no {name!r}: there are {[*self.inputs, *self.wiring]}")

    def _is_known(self, name: str) -> bool:
        return name in self.wiring or name in self.inputs

    def _new_name(self, name: str | None, prefix: str, number: int) -> str:
        if name is None:
            while self._is_known(f"{prefix}{number}"):
                number += 1
            return f"{prefix}{number}"
        if not isinstance(name, str) or not name or name == "bias" or "." in name:
            raise ValueError(f"{name!r} is no name: give a string without dots, and not 'bias'")
        if self._is_known(name):
            raise ValueError(f"{name!r} is there already: give another name")
        return name


class Wired:
    """A neuron of a `Network`: its activation, its bias or None, and what it is connected to."""

    def __init__(self, activation: Activation, bias: Value | None) -> None:
        self.activation, self.bias = activation, bias
        self.weights: dict[str, Value] = {}  # name of a source -> weight
        self.targets: list[str] = []


def _parameter(number: Any) -> Value:
    if not isinstance(number, Value):
        return Value(number)
    if number.parents:
        raise ValueError(f"{number!r} is the result of {number.op!r}: give a number or a leaf")
    return number


def _described(neuron: Wired) -> str:
    name = getattr(neuron.activation, "__name__", neuron.activation)
    terms = [*neuron.weights, *(["bias"] if neuron.bias is not None else [])]
    return f"{name}({' + '.join(terms) or 0})"


# ---------------------------------------------------------------- activations of your own
def activation(
    function: Callable[[float], float],
    derivative: Callable[[float], float] | float | None = None,
    *,
    width: float = 1e-5,
    name: str | None = None,
) -> CustomActivation:
    """Any Python function of a float as an activation, with the derivative you choose for it.

    derivative  a function of a float: exact, or a surrogate slope; a number: the same everywhere,
                1 is straight-through (Bengio, Leonard and Courville 2013); None: the difference of
                `function` across `width`, (f(x + width/2) - f(x - width/2)) / width, of this one
                node. A wide difference is a slope even for stairs
    name        in drawings; default: the function's

    It is an operation: it takes floats, Values and arrays (element by element), and compiles.

    >>> stairs = activation(math.floor, width=1.0)
    >>> stairs
    floor[slope across 1]
    """
    if not callable(function):
        raise TypeError(f"an activation is a function of a float, not {function!r}")
    return CustomActivation(function, derivative, width, name)


class CustomActivation(Operation):
    """What `activation` returns: an operation whose repr tells its slope."""

    def __init__(
        self,
        function: Callable[[float], float],
        derivative: Callable[[float], float] | float | None,
        width: float,
        name: str | None,
    ) -> None:
        if not (isinstance(width, (int, float)) and 0.0 < width < math.inf):
            raise ValueError(f"width is {width!r}: give a finite number above 0")
        self.function, self.derivative, self.width = function, derivative, float(width)
        self.given_name = name
        own = str(name or getattr(function, "__name__", ""))
        own = own if own.isidentifier() else "custom"
        super().__init__(own, function, self._rule(), array=_array_of(function))
        self.__name__ = f"{self.name}[slope {self._slope_text()}]"

    def number(self, *xs: float) -> float:
        try:  # not by super().number(*xs): compiled programs call this for every element
            y = self.value(*xs)
        except (ArithmeticError, ValueError):
            return math.nan
        return y if type(y) is float else as_float(y)  # an int, a bool or NumPy's number as well

    def _rule(self) -> Callable[[Any, Any], tuple[Any]]:
        """The partials: like every row's, they compute with operations."""
        if self.derivative is None:
            half, width = self.width / 2.0, self.width
            return lambda y, x: ((self(x + half) - self(x - half)) / width,)
        if callable(self.derivative):  # its own derivative, if one is wanted, is a difference
            slope = CustomActivation(self.derivative, None, self.width, None)
            return lambda y, x: (slope(x),)
        number = as_float(self.derivative)
        return lambda y, x: (number,)

    def _slope_text(self) -> str:
        if self.derivative is None:
            return f"across {self.width:g}"
        if callable(self.derivative):
            name = getattr(self.derivative, "__name__", "")
            return f"by {name if name.isidentifier() else 'its derivative'}"
        return f"{self.derivative:g}"

    def __repr__(self) -> str:
        return self.__name__

    def __reduce__(self) -> Any:
        return CustomActivation, (self.function, self.derivative, self.width, self.given_name)


def _array_of(function: Callable[..., float]) -> str | Callable[..., Any]:
    """The form for arrays of a row with that very function, such as math.sin; "" if there is none.

    The name says nothing: LeCun's tanh is not NumPy's.
    """
    for row in (*vars(operations).values(), *vars(functions).values()):
        if isinstance(row, Operation) and row.value is function:
            return row.array
    return ""
