"""The operations: what each one computes, and how it differentiates - one row apiece.

A row is a public function. It takes floats and gives a float; it takes anything that carries
operations further (a `Value`, an array, a `Symbol`) and gives one of those. Its rule, `partials`, is
written once in plain arithmetic, `(y, *xs) -> (dy/dx1, dy/dx2, ...)`, so that the same line yields
numbers, a graph that can be differentiated again, array code and source text.

This file holds the constructor, the two small carriers that rules need, and the core rows. What it
leaves out: the graph and the chain rule (engine.py) and the rarer functions (functions.py), which
are made by the same constructor - and so are yours:

    cube = operation("cube", lambda x: x * x * x, lambda y, x: (3 * x * x,))

The vocabulary of every row: `y` is the answer, `x` (or `a, b`) the arguments.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Sequence
from functools import cached_property, reduce
from math import inf, nan
from types import FunctionType
from typing import Any, NamedTuple

Domain = tuple[float, float] | tuple[tuple[float, float], ...]


class Operation:
    """One operation: a name, its value on floats, and its partial derivatives.

    name      what drawings and messages call it; operators are named by their symbol
    value     floats -> float; it may raise ArithmeticError or ValueError where Python does
    partials  (y, *xs) -> one partial per argument, using only rows and `+ - * /`; `None` means
              that y does not depend on that argument, so nothing is propagated (0.0 is a number,
              and 0.0 * inf is nan)
    limit     the IEEE value where Python raises: a number, or a function of the arguments
    array     the value on NumPy arrays: a function, or the name of NumPy's; without it rows of
              this package are NumPy's function of their name, and yours run element by element
    textbook  the partials as books write them, where `partials` is longer to be exact everywhere
    domain    where tests sample arguments: (low, high), or one such pair per argument
    kinks     arguments at which there is no derivative, for tests to keep away from
    """

    def __init__(
        self,
        name: str,
        value: Callable[..., float],
        partials: Callable[..., tuple[Any, ...]],
        *,
        limit: float | Callable[..., float] = nan,
        array: str | Callable[..., Any] | None = None,
        textbook: Callable[..., tuple[Any, ...]] | None = None,
        domain: Domain = (-3.0, 3.0),
        kinks: tuple[float, ...] = (),
    ) -> None:
        self.name, self.value, self.partials, self.limit = name, value, partials, limit
        self.__name__ = name
        self.domain, self.kinks = domain, kinks
        self.textbook = textbook or partials
        self.names = _argument_names(partials)
        self.arity: int | None = None if self.names is None else len(self.names)
        self.__module__ = sys._getframe(1).f_globals["__name__"]  # where pickle looks for it
        if array is None:  # what NumPy has under a name of yours may be something else
            array = name if self.__module__.startswith(f"{__package__}.") else ""
        self.array = array

    def __repr__(self) -> str:
        return f"<operation {self.name}>"

    def __reduce__(self) -> str:
        for variable, row in vars(sys.modules[self.__module__]).items():
            if row is self:
                return variable  # pickled by name, as functions are
        raise TypeError(
            f"cannot pickle operation {self.name!r}: assign it at the top level of a module"
        )

    def __call__(self, *xs: Any, **named: Any) -> Any:
        """The operation as a function: of floats, Values, arrays, or whatever carries it."""
        if named or (len(xs) != self.arity and self.arity is not None):
            xs = self._arguments(xs, named)
        floats = True
        for x in xs:
            if type(x) is not float:
                floats = False
                carry = getattr(x, "__operation__", None)
                if carry is not None:
                    return carry(self, xs)
        if floats:  # as rules are run by backward: 0.5 us instead of 1.2
            return self.number(*xs)
        if any(getattr(x, "ndim", False) for x in xs):
            if any(getattr(x, "dtype", None) == "object" for x in xs):  # arrays of Values
                import numpy

                with numpy.errstate(all="ignore"):  # as silent as on Values one by one
                    return numpy.frompyfunc(self, len(xs), 1)(*xs)
            return self.on_arrays(*xs)
        return self.number(*map(as_float, xs))

    def _arguments(self, xs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments in order, those by name after the others; TypeError if they do not fit."""
        if self.names is None or {*self.names[len(xs) :]} != {*named} or len(xs) > len(self.names):
            takes = "any number" if self.names is None else ", ".join(self.names)
            given = f"{len(xs)} by position" + (f", {', '.join(named)} by name" if named else "")
            raise TypeError(f"operation {self.name!r} takes ({takes}), got {given}")
        return (*xs, *(named[name] for name in self.names[len(xs) :]))

    def number(self, *xs: float) -> float:
        """The value on floats, total: where Python raises, the IEEE limit."""
        try:
            return self.value(*xs)
        except (ArithmeticError, ValueError):
            return self.limit(*xs) if callable(self.limit) else self.limit

    def slopes(self, y: float, *xs: float) -> tuple[Any, ...]:
        """The partials on floats, total: if the rule raises, it runs once more on `Total`."""
        try:
            return self.partials(y, *xs)
        except (ArithmeticError, ValueError):
            slopes = self.partials(Total(y), *map(Total, xs))
            return tuple(None if slope is None else float(slope) for slope in slopes)

    def checked(self, slopes: Any, count: int) -> Any:
        """The slopes, if they are as many as the arguments; TypeError otherwise."""
        if not isinstance(slopes, (tuple, list)) or len(slopes) != count:
            shown = ", ".join(map(str, slopes)) if isinstance(slopes, (tuple, list)) else slopes
            raise TypeError(
                f"the partials of operation {self.name!r} are ({shown}): its rule has to return a "
                f"tuple of {count}, one for each argument"
            )
        return slopes

    @cached_property
    def on_arrays(self) -> Callable[..., Any]:
        """The value on NumPy arrays."""
        if callable(self.array):
            return self.array
        import numpy

        if hasattr(numpy, self.array):
            return getattr(numpy, self.array)
        # NumPy does not have it, nor anybody an operation of yours, whose array is ""
        return (self.array and of_scipy(self.array)) or by_element(self.number)

    @cached_property
    def selective(self) -> bool:
        """Whether a partial can be None, so that backward must ask before it visits a parent."""
        xs = [Symbol(f"x{i}") for i in range(5 if self.arity is None else self.arity)]
        try:
            slopes = self.partials(Symbol("y"), *xs)
        # A rule that reads its argument as a number, or takes another count, says it at a node.
        except (TypeError, ValueError, IndexError):
            return True
        slopes = self.checked(slopes, len(xs))
        return any(slope is None or isinstance(slope, Conditional) for slope in slopes)


def _argument_names(partials: Callable[..., Any]) -> tuple[str, ...] | None:
    """The names of a rule's arguments after y, without defaults; None if there is a `*xs`."""
    if type(partials) is FunctionType:
        code, defaults = partials.__code__, len(partials.__defaults__ or ())
        names = code.co_varnames[1 : code.co_argcount - defaults]
        return None if code.co_flags & 4 else names  # 4: *xs
    import inspect  # for a functools.partial, a method, an object that is called

    every = list(inspect.signature(partials).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in every):
        return None
    return tuple(p.name for p in every[1:] if p.default is p.empty and p.kind is not p.VAR_KEYWORD)


operation = Operation  # the constructor as rows write it


def as_float(x: Any) -> float:
    """float(x) for anything that is one real number; TypeError with advice for the rest."""
    kind = getattr(getattr(x, "dtype", None), "kind", "f")  # of a NumPy scalar; torch has none
    real = hasattr(x, "__float__") and not isinstance(x, (str, bytes)) and kind in "biuf"
    if getattr(x, "ndim", False) or not real:
        mend = _ADVICE.get(type(x).__name__, "pass real numbers, one by one")
        raise TypeError(f"expected one real number, got {shown(x)}: {mend}")
    try:
        return float(x)
    except OverflowError:
        raise OverflowError(
            f"an int of {x.bit_length()} bits is too large for a float: scale it down first"
        ) from None


_ADVICE = {
    "str": "convert it with float(...)",
    "bytes": "convert it with float(...)",
    "complex": "use its .real and .imag",
    "NoneType": "was a return statement forgotten?",
    "ndarray": "make a Value of each element",
}


def shown(x: Any) -> str:
    """What x is, for a message: one line of at most 60 characters."""
    text = f"an array of shape {x.shape}" if getattr(x, "ndim", False) else repr(x)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def of_scipy(name: str) -> Callable[..., Any] | None:
    """SciPy's special function of that name, 10 ns an element, if it has one and is installed."""
    try:
        import scipy.special
    except ImportError:
        return None
    return getattr(scipy.special, name, None)


def by_element(function: Callable[..., float]) -> Callable[..., Any]:
    """A function of floats on NumPy arrays: every element by itself, about 0.1 us each."""
    import numpy

    def on_arrays(*xs: Any) -> Any:
        if len(xs) < 60:  # as many as NumPy makes a ufunc of
            return numpy.asarray(numpy.frompyfunc(function, len(xs), 1)(*xs), float)
        columns = numpy.stack(numpy.broadcast_arrays(*xs))
        numbers = [function(*x) for x in columns.reshape(len(xs), -1).T.tolist()]
        return numpy.array(numbers, float).reshape(columns.shape[1:])

    return on_arrays


# ---------------------------------------------------------------- what rules are computed with
class Total(float):
    """A float whose `/` never raises: the second try of a rule that met a division by zero."""

    __slots__ = ()

    # fmt: off
    def __add__(self, other: float) -> Total: return Total(float(self) + other)
    def __sub__(self, other: float) -> Total: return Total(float(self) - other)
    def __mul__(self, other: float) -> Total: return Total(float(self) * other)
    def __neg__(self) -> Total: return Total(-float(self))
    def __truediv__(self, other: float) -> Total: return Total(divide(float(self), float(other)))
    def __rsub__(self, other: float) -> Total: return Total(other - float(self))
    def __rtruediv__(self, other: float) -> Total: return Total(divide(float(other), float(self)))
    # fmt: on
    __radd__, __rmul__ = __add__, __mul__

    def __operation__(self, row: Operation, xs: Sequence[float]) -> Any:
        answer = row.number(*map(float, xs))
        return Total(answer) if isinstance(answer, float) else answer


class Symbol:
    """A name that rules compute with: `str(exp(Symbol("x")) * 2)` is `"(exp(x) * 2)"`."""

    __slots__ = ("text", "row", "args")

    def __init__(self, text: str, row: Operation | None = None, args: Sequence[Any] = ()) -> None:
        self.text, self.row, self.args = text, row, tuple(args)

    def __operation__(self, row: Operation, xs: Sequence[Any]) -> Symbol:
        if row.name.isidentifier():
            return Symbol(f"{row.name}({', '.join(map(str, xs))})", row, xs)  # exp(x)
        return Symbol(f"({xs[0]} {row.name} {xs[1]})", row, xs)  # (a + b)

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        raise TypeError("a rule cannot branch on its argument: use where(), or a comparison as 0/1")

    # fmt: off
    def __add__(self, other: Any) -> Symbol: return add(self, other)
    def __sub__(self, other: Any) -> Symbol: return subtract(self, other)
    def __mul__(self, other: Any) -> Symbol: return multiply(self, other)
    def __truediv__(self, other: Any) -> Symbol: return divide(self, other)
    def __radd__(self, other: Any) -> Symbol: return add(other, self)
    def __rsub__(self, other: Any) -> Symbol: return subtract(other, self)
    def __rmul__(self, other: Any) -> Symbol: return multiply(other, self)
    def __rtruediv__(self, other: Any) -> Symbol: return divide(other, self)
    def __neg__(self) -> Symbol: return negative(self)
    def __lt__(self, other: Any) -> Symbol: return less(self, other)
    def __le__(self, other: Any) -> Symbol: return less_equal(self, other)
    def __gt__(self, other: Any) -> Symbol: return greater(self, other)
    def __ge__(self, other: Any) -> Symbol: return greater_equal(self, other)
    def __eq__(self, other: Any) -> Symbol: return equal(self, other)  # type: ignore[override]
    def __ne__(self, other: Any) -> Symbol: return not_equal(self, other)  # type: ignore[override]
    # fmt: on
    __hash__ = object.__hash__


class Conditional(NamedTuple):
    """A partial that exists where `condition` is true, and is None elsewhere."""

    condition: Any
    partial: Any


def only_if(condition: Any, partial: Any) -> Any:
    """`partial` where the condition holds, None (no dependence) where it does not."""
    if hasattr(condition, "__operation__") or getattr(condition, "ndim", False):
        return Conditional(condition, partial)
    return partial if condition else None


# ---------------------------------------------------------------- the table
def _power_limit(a: float, b: float) -> float:
    """math.pow where it raises: 0 to a negative power, overflow, or a negative base's root."""
    if a != 0.0 and b != math.floor(b):
        return nan if a < 0.0 else inf
    odd = abs(math.fmod(b, 2.0)) == 1.0
    return math.copysign(inf, a) if odd else inf


def _power_slope(a: Any, b: Any) -> Any:
    return where(b == 0, 0.0, b * power(a, b - 1.0))


def _power_exponent_slope(y: Any, a: Any, b: Any) -> Any:
    return where((a == 0) * (b >= 0), 0.0, y * log(a))  # 0 ** b stays 0, whatever log(0) is


def _dot(*operands: float) -> float:
    n = len(operands) // 2
    # -0.0 + x is x, whatever the sign of x
    y = operands[-1] if len(operands) % 2 else -0.0 if n else 0.0
    for w, x in zip(operands[:n], operands[n:], strict=False):  # a bias is left over at the end
        y += w * x
    return y


def _dot_partials(y: Any, *operands: Any) -> tuple[Any, ...]:
    n = len(operands) // 2
    return operands[n : 2 * n] + operands[:n] + (1.0,) * (len(operands) % 2)


def _total(*xs: float) -> float:
    y = 0.0
    for x in xs:
        y += x
    return y


def _largest(*xs: float) -> float:
    y = xs[0]
    for x in xs:
        if x > y or x != x:
            y = x
    return y


def _smallest(*xs: float) -> float:
    return -_largest(*(-x for x in xs))


def _share_of_ties(y: Any, *xs: Any) -> tuple[Any, ...]:
    ties = [x == y for x in xs]
    count = total_of(*ties)
    return tuple(divide(tie, count) for tie in ties)


def _taken(index: float, *values: float, name: str = "index") -> float:
    return values[checked_index(index, len(values), name)]


def _taken_array(index: Any, *values: Any) -> Any:
    y = values[0]
    for i in range(1, len(values)):
        y = where(index == i, values[i], y)
    return y


def checked_index(index: float, bound: int, name: str = "index") -> int:
    """`index` as an int in range(bound); IndexError naming it and the bound otherwise."""
    if bound == 0:
        raise IndexError(f"{name} {index:g} into nothing: there are no values to take from")
    if not (0 <= index < bound and index == int(index)):
        raise IndexError(f"{name} {index:g} is not one of the integers 0 to {bound - 1}")
    return int(index)


def _sigmoid(x: float) -> float:
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    t = math.exp(x)
    return t / (1.0 + t)


def _sigmoid_array(x: Any) -> Any:
    t = exp(-absolute(x))  # exp(-|x|) never overflows and keeps both tails
    return maximum_of_two(t, x >= 0) / (1.0 + t)


def _sigmoid_partials(y: Any, x: Any) -> tuple[Any]:
    t = exp(-absolute(x))
    return (t / ((1.0 + t) * (1.0 + t)),)  # y * (1 - y) with its tails


def _tanh_partials(y: Any, x: Any) -> tuple[Any]:
    t = exp(-2.0 * absolute(x))
    return (4.0 * t / ((1.0 + t) * (1.0 + t)),)  # 1 - y * y with its tails


def _rounded(f: Callable[[float], int]) -> Callable[[float], float]:
    return lambda x: math.copysign(float(f(x)), x)  # ceil(-0.5) is -0.0


# fmt: off
add            = operation("+",  operator.add,     lambda y, a, b: (1.0, 1.0),           array="add")
subtract       = operation("-",  operator.sub,     lambda y, a, b: (1.0, -1.0),          array="subtract")
multiply       = operation("*",  operator.mul,     lambda y, a, b: (b, a),               array="multiply")
divide         = operation("/",  operator.truediv, lambda y, a, b: (1.0 / b, -y / b),    array="divide",
                           limit=lambda a, b: a * math.copysign(inf, b), domain=((-3, 3), (0.5, 3)))
negative       = operation("neg", operator.neg,    lambda y, x: (-1.0,),                 array="negative")
power          = operation("**", math.pow,         lambda y, a, b: (_power_slope(a, b), _power_exponent_slope(y, a, b)),
                           array="power", limit=_power_limit, domain=((0.5, 3), (-2, 2)))
constant_power = operation("**", math.pow,         lambda y, a, b: (_power_slope(a, b), None),
                           array="power", limit=_power_limit, domain=((0.5, 3), (-2, 2)))

less           = operation("<",  operator.lt,      lambda y, a, b: (None, None),         array="less")
less_equal     = operation("<=", operator.le,      lambda y, a, b: (None, None),         array="less_equal")
greater        = operation(">",  operator.gt,      lambda y, a, b: (None, None),         array="greater")
greater_equal  = operation(">=", operator.ge,      lambda y, a, b: (None, None),         array="greater_equal")
equal          = operation("==", operator.eq,      lambda y, a, b: (None, None),         array="equal")
not_equal      = operation("!=", operator.ne,      lambda y, a, b: (None, None),         array="not_equal")
where          = operation("where", lambda c, a, b: a if c else b,
                           lambda y, condition, a, b: (None, only_if(condition != 0, 1.0), only_if(condition == 0, 1.0)))
detach         = operation("detach", float,        lambda y, x: (None,),                 array="positive")

exp            = operation("exp",  math.exp,       lambda y, x: (y,),        limit=inf)
log            = operation("log",  math.log,       lambda y, x: (where(x < 0, nan, 1.0 / x),),
                           textbook=lambda y, x: (1.0 / x,), limit=lambda x: -inf if x == 0 else nan, domain=(0.1, 5))
sqrt           = operation("sqrt", math.sqrt,      lambda y, x: (0.5 / y,),  domain=(0.1, 5))
sin            = operation("sin",  math.sin,       lambda y, x: (cos(x),))
cos            = operation("cos",  math.cos,       lambda y, x: (-sin(x),))
tanh           = operation("tanh", math.tanh,      _tanh_partials, textbook=lambda y, x: (1.0 - y * y,))
sigmoid        = operation("sigmoid", _sigmoid,    _sigmoid_partials,        array=_sigmoid_array,
                           textbook=lambda y, x: (y * (1.0 - y),))
relu           = operation("relu", lambda x: 0.0 if x <= 0 else x, lambda y, x: (x > 0,), kinks=(0,),
                           array=lambda x: maximum_of_two(x, 0.0))
sign           = operation("sign", lambda x: 1.0 if x > 0 else -1.0 if x < 0 else x, lambda y, x: (None,), kinks=(0,))
copysign       = operation("copysign", math.copysign, lambda y, a, b: (sign(a) * copysign(1.0, b), None))
absolute       = operation("abs",  math.fabs,      lambda y, x: (sign(x),),  kinks=(0,))

maximum_of_two = operation("maximum", lambda a, b: a if a > b or a != a else b,
                           lambda y, a, b: (1.0 - (a < b) - 0.5 * (a == b), 1.0 - (b < a) - 0.5 * (a == b)))
minimum_of_two = operation("minimum", lambda a, b: a if a < b or a != a else b,
                           lambda y, a, b: (1.0 - (a > b) - 0.5 * (a == b), 1.0 - (b > a) - 0.5 * (a == b)))

# of any number of arguments; the functions below give them their public form
dot_of         = operation("dot",   _dot,          _dot_partials,         array=_dot)
total_of       = operation("total", _total,        lambda y, *xs: (1.0,) * len(xs), array=_total)
largest_of     = operation("max",   _largest,      _share_of_ties,        array=lambda *xs: reduce(maximum_of_two, xs))
smallest_of    = operation("min",   _smallest,     _share_of_ties,        array=lambda *xs: reduce(minimum_of_two, xs))
take_of        = operation("take",  _taken,        array=_taken_array,    partials=
                           lambda y, index, *values: (None, *(only_if(index == i, 1.0) for i in range(len(values)))))
# fmt: on


# ---------------------------------------------------------------- rows of many, as functions
def dot(ws: Sequence[Any], xs: Sequence[Any], bias: Any = None) -> Any:
    """bias + w0*x0 + w1*x1 + ..., added from left to right: one neuron is one `dot`.

    ws and xs have equal lengths (ValueError otherwise); floats, Values or a mixture.
    """
    if not (hasattr(ws, "__len__") and hasattr(xs, "__len__")):
        given = f"{shown(ws)} and {shown(xs)}"
        raise TypeError(f"dot takes two sequences, got {given}: for numbers use *")
    if len(ws) != len(xs):
        raise ValueError(f"dot needs as many weights as inputs, got {len(ws)} and {len(xs)}")
    return dot_of(*ws, *xs) if bias is None else dot_of(*ws, *xs, bias)


def total(xs: Sequence[Any]) -> Any:
    """The sum of a sequence, from left to right, as one node."""
    if not hasattr(xs, "__iter__"):
        raise TypeError(f"total takes a list, got {shown(xs)}: list the numbers, as in total([a])")
    return total_of(*xs)


def maximum(*xs: Any) -> Any:
    """The largest of two, of several, or of a list; nan if any is nan.

    A tie splits the gradient equally. Where an argument is nan, maximum(a, b) passes the gradient
    on to both with slope 1, and the maximum of a list or of several passes on nan (as PyTorch).
    """
    return _extreme(maximum_of_two, largest_of, xs)


def minimum(*xs: Any) -> Any:
    """The smallest of two, of several, or of a list; ties and nan as in `maximum`."""
    return _extreme(minimum_of_two, smallest_of, xs)


def _extreme(of_two: Operation, of_many: Operation, xs: tuple[Any, ...]) -> Any:
    if len(xs) == 2:
        return of_two(*xs)
    values = list(xs[0]) if len(xs) == 1 and hasattr(xs[0], "__iter__") else xs
    if not values:
        raise ValueError(f"the {of_two.name} of nothing: give it at least one number")
    return of_many(*values)


def take(values: Sequence[Any], index: Any) -> Any:
    """values[index], where the index may be a Value - an input of a compiled program, say.

    The other elements get no gradient at all. IndexError, with the index and the bound, if it is
    out of range or not an integer; negative indices are out of range.
    """
    if not hasattr(values, "__len__"):
        raise TypeError(f"take(values, index) takes a list first, got {shown(values)}")
    if not hasattr(index, "__operation__"):
        value = values[checked_index(as_float(index), len(values))]
        if hasattr(value, "__operation__") or hasattr(value, "__len__"):  # or a row of a matrix
            return value
        return take_of(float(index), *values)  # a number, beside Values perhaps
    if getattr(index, "label", "") and not hasattr(values, "ndim"):
        checked_index(index.data, len(values), index.label)  # to name it, if it is out of range
    return take_of(index, *values)
