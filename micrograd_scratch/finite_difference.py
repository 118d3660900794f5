"""Derivatives measured from function values alone, and the checker that tests autodiff by them.

`derivative` and `gradient` nudge the inputs of any function of floats, in five ways; `check` and
`check_model` compare what reverse mode says with what nudging shows. This file imports nothing of
the package (the checker fetches `Value` when it runs, only to feed functions that want Values) and
knows no rule of differentiation, so it cannot share a bug with the engine.

It leaves out Hessians, functions with several outputs, and adaptive choice of the plain methods'
step: it uses the textbook step, eps**(1/2), eps**(1/3) or eps**(1/5) times max(1, |x|), which is
best where f and its higher derivatives are of one size.
"""

from __future__ import annotations

import inspect
import math
import numbers
import random
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, isfinite, isnan, nan
from typing import Any, Self

EPSILON = sys.float_info.epsilon

# The default step of each method, times max(1, |x|). Ridders starts wide and shrinks; the complex
# step suffers no cancellation, so it may be as small as it likes.
STEPS = {
    "forward": EPSILON ** (1 / 2),
    "central": EPSILON ** (1 / 3),
    "fourth": EPSILON ** (1 / 5),
    "ridders": 0.5,
    "complex": 1e-100,
}
# Not 2: a function whose period divides h would give the same wrong answer row after row.
RIDDERS_SHRINK = 1.6
RIDDERS_ROWS = 80


class Derivative(float):
    """A float that remembers its `evaluations` of f, the `step` taken and its absolute `error`.

    For Ridders `step` is the first one, and `error` the error bar; the others have none: nan.
    """

    evaluations: int
    step: float
    error: float

    def __new__(
        cls, value: float, evaluations: int = 0, step: float = nan, error: float = nan
    ) -> Self:
        self = super().__new__(cls, value)
        self.evaluations, self.step, self.error = evaluations, step, error
        return self


class Gradient(list[Derivative]):
    """A list of `Derivative`s; `evaluations` counts every call of f, shared ones included."""

    def __init__(self, derivatives: Iterable[Derivative] = (), evaluations: int = 0) -> None:
        super().__init__(derivatives)
        self.evaluations = evaluations


def derivative(
    f: Callable[[float], Any], x: float, method: str = "central", step: float | None = None
) -> Derivative:
    """df/dx at x, from values of f alone.

    >>> import math
    >>> slope = derivative(math.sin, 0.0, method="fourth")
    >>> round(slope, 12), slope.evaluations
    (1.0, 4)

    Methods and their evaluations: "forward" (2; a negative step looks to the left), "central" (2),
    "fourth" (4), "ridders" (1, and 2 a row until rounding drowns the error bar; Ridders 1982,
    Advances in Engineering Software 4(2), 75-76; the first step should span a stretch on which f is
    smooth and not flat) and "complex" (1; Squire and Trapp 1998, SIAM Review 40(1), 110-112; only
    for analytic f that accept complex numbers, never abs or .real). A `step` of your own is taken
    as it is, not scaled; either way it is rounded to one that x + step represents.

    f gets a plain float and returns a number, or a Value, whose `.data` is read. Where it raises an
    ArithmeticError or ValueError, or turns complex ((-8) ** 0.5), it counts as nan there: Ridders
    steps back into the domain, the others return nan with a RuntimeWarning. If f raises at every
    point, its exception is yours.

    Raises ValueError for an unknown method, an x that is not finite, a step that is 0 or vanishes
    beside x; TypeError if f returns something else than a number, or cannot do the complex step.
    """
    _check_function(f)
    probe = _Probe(lambda index, value: f(value))
    return _finish(probe, [_differentiate(probe, 0, _number(x, "x"), method, step)])[0]


def gradient(
    f: Callable[..., Any], xs: Sequence[float], method: str = "central", step: float | None = None
) -> Gradient:
    """The partial derivatives of f(*xs), one for each of xs; otherwise as `derivative`.

    f may also take the n inputs as one list, if n > 1: it then has one argument, and not n.
    Evaluations for n inputs: n + 1 forward, 2n central, 4n fourth, n complex.

    >>> gradient(lambda a, b: a * b, [2.0, 3.0], method="forward").evaluations
    3
    """
    _check_function(f)
    if not hasattr(xs, "__iter__"):
        raise TypeError(f"xs is {_show(xs)}: list the numbers, as in gradient(f, [2.0, 3.0])")
    point = [_number(x, f"xs[{index}]") for index, x in enumerate(xs)]
    call: Callable[..., Any] = f if _takes(f, len(point)) else lambda *values: f(list(values))
    probe = _Probe(lambda index, value: call(*point[:index], value, *point[index + 1 :]))
    slopes = [_differentiate(probe, index, x, method, step) for index, x in enumerate(point)]
    return _finish(probe, slopes)


def _check_function(f: Any, name: str = "f") -> None:
    if not callable(f):
        raise TypeError(f"{name} is {_show(f)}: give the function itself, without calling it")


def _takes(f: Callable[..., Any], count: int) -> bool:
    """Whether f can be called with so many arguments, rather than with one list of them."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):  # a function in C that does not say
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


# -- The five methods ------------------------------------------------------------------------------


class _Probe:
    """f with input `index` moved to `value`, as a float; counts evaluations, remembers failures."""

    def __init__(self, f: Callable[[int, Any], Any]) -> None:
        self.f = f
        self.evaluations = self.failures = 0
        self.failure: Exception | None = None
        self.center: float | None = None

    def __call__(self, index: int, value: Any, read: Callable[[Any], float] | None = None) -> float:
        self.evaluations += 1
        try:
            return (read or _number)(self.f(index, value))
        except (ArithmeticError, ValueError) as error:
            self.failures += 1
            self.failure = error
            return nan

    def here(self, index: int, x: float) -> float:
        """f at the unmoved point, evaluated once for all inputs."""
        if self.center is None:
            self.center = self(index, x)
        return self.center


def _finish(probe: _Probe, slopes: list[Derivative]) -> Gradient:
    """The slopes with their total cost; trouble in f is passed on, never swallowed."""
    if probe.failure is not None:
        if probe.failures == probe.evaluations:
            raise probe.failure
        if any(map(isnan, slopes)):
            text = f"{type(probe.failure).__name__}: {probe.failure}"
            warnings.warn(f"nan, because f failed at a nudged point ({text})", RuntimeWarning, 3)
    return Gradient(slopes, probe.evaluations)


def _differentiate(
    probe: _Probe, index: int, x: float, method: str, step: float | None
) -> Derivative:
    h, error, before = _step(x, method, step), nan, probe.evaluations

    def f(value: float) -> float:
        return probe(index, value)

    if method == "forward":
        slope = (f(x + h) - probe.here(index, x)) / h
    elif method == "central":
        slope = _central(f, x, h)
    elif method == "fourth":
        slope = (4 * _central(f, x, h) - _central(f, x, 2 * h)) / 3  # cancels the h**2 term
    elif method == "ridders":
        slope, error = _ridders(f, x, h, probe.here(index, x))
    else:
        slope = _complex_step(probe, index, x, h)
    return Derivative(slope, probe.evaluations - before, h, error)


def _step(x: float, method: str, step: float | None) -> float:
    """The given step, or the method's best, made representable: (x + step) - x == step."""
    if method not in STEPS:
        raise ValueError(f"unknown method {method!r}: use {', '.join(STEPS)}")
    if not isfinite(x):
        raise ValueError(f"x is {x}: a finite difference needs a finite point")
    h = STEPS[method] * max(1.0, abs(x)) if step is None else _number(step, "step")
    if h == 0 or not isfinite(h):
        raise ValueError(f"step is {h}: pass a finite number that is not 0, or None for the best")
    if method == "complex":
        return h  # it goes into the imaginary part, where nothing rounds it
    moved = (x + h) - x
    if moved == 0:
        raise ValueError(f"step {h} vanishes beside x = {x}: pass at least {math.ulp(x)}")
    if not isfinite(moved):
        raise ValueError(f"x = {x} plus step {h} is beyond the largest float: pass a smaller step")
    return moved


def _central(f: Callable[[float], float], x: float, h: float) -> float:
    above, below = x + h, x - h
    return (f(above) - f(below)) / (above - below)  # not 2 * h: x - h may have been rounded


def _ridders(f: Callable[[float], float], x: float, h: float, center: float) -> tuple[float, float]:
    """Central differences at shrinking steps, extrapolated to 0: the best entry and its error bar.

    Column j of the table cancels the error terms up to h**(2*j). An entry's error is how far it is
    from its two ancestors, and never less than the rounding of f divided by the step. That floor
    also says when to stop: once it exceeds the best error so far, smaller steps cannot win. Steps
    that lead out of the domain, or that show no change beside f(x), the center, because f is flat
    out there, start the table anew.
    """
    best, best_error, row = nan, inf, list[float]()
    size = abs(center) if isfinite(center) else 0.0
    widest_flat = STEPS["central"] * max(1.0, abs(x))  # what is flat from here on is taken for flat
    for _ in range(RIDDERS_ROWS):
        above, below = x + h, x - h
        if above == below:
            break
        high, low = f(above), f(below)
        rounding = EPSILON * max(abs(high), abs(low), size)
        noise = rounding / abs(h)
        new_row = [(high - low) / (above - below)]
        flat = abs(high - low) <= rounding and abs(h) > widest_flat
        if flat or not isfinite(new_row[0]):
            row = []
        else:
            for j, ancestor in enumerate(row):
                factor = RIDDERS_SHRINK ** (2 * j + 2)
                new_row.append((factor * new_row[j] - ancestor) / (factor - 1))
                error = max(abs(new_row[-1] - new_row[j]), abs(new_row[-1] - ancestor), noise)
                if error <= best_error:
                    best, best_error = new_row[-1], error
            row = new_row
            if noise >= best_error:
                break
        h /= RIDDERS_SHRINK
    return best, best_error


def _complex_step(probe: _Probe, index: int, x: float, h: float) -> float:
    """Im f(x + ih) / h: nothing is subtracted, so nothing is lost."""

    def imaginary(result: Any) -> float:
        if isinstance(result, numbers.Complex) and not isinstance(result, numbers.Real):
            return float(result.imag)
        raise TypeError(f"f({x} + {h}j) gave {_show(result)}")

    try:
        return probe(index, complex(x, h), imaginary) / h
    except TypeError as error:
        raise TypeError(
            f"the complex step needs an f that takes and returns complex numbers (cmath, no abs, "
            f"no comparison, no Value): {error}; use method='ridders' instead"
        ) from error


def _number(result: Any, name: str = "f's result") -> float:
    """A float from a number or from anything whose `.data` is one, such as a Value."""
    if isinstance(result, numbers.Real):
        return float(result)
    data = getattr(result, "data", None)
    if isinstance(data, (int, float)):
        return float(data)
    if isinstance(result, numbers.Complex):  # (-8) ** 0.5: f has left the real numbers
        raise _NotReal(f"{name} is the complex number {result}")
    raise TypeError(f"{name} is {_show(result)}: it has to be a number or a Value")


class _NotReal(ArithmeticError):
    """A function of floats answered with a complex number."""


def _show(thing: Any) -> str:
    text = repr(thing)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(thing).__name__})"


# -- The checker -----------------------------------------------------------------------------------

UPSTREAM = 0.7  # check with another upstream gradient than 1, or a rule that drops it goes unseen
PRECISE = 1e-6  # relative error at which the first look suffices
INFORMATIVE = 1e-5  # relative error beyond which agreement proves little
SAFETY = 10  # error bars are estimates; believe them times this
SETTLING = 16  # steps at which quotients are watched settling
SETTLING_SHRINK = 7.3  # from one to the next: not 8, for the same reason as RIDDERS_SHRINK


@dataclass(frozen=True)
class Row:
    """One input of a checked function: both numbers and what to make of them.

    Verdicts that pass: "ok"; "zero" (autodiff says 0, the finite difference is noise); "kink" (the
    derivatives from left and right differ, and autodiff lies between); "edge" (f exists on one side
    only or has a vertical tangent, and autodiff agrees); "jump" (f is discontinuous here, there is
    nothing to compare); "unsure" (they agree as far as rounding in f lets a finite difference see,
    which is not far, or differences settle at no step). Verdicts that fail: "WRONG"; "nan" (f is
    not finite at the point or on both sides of it).
    """

    name: str
    x: float
    autodiff: float
    finite_difference: float
    error: float  # of the finite difference, absolute, estimated
    verdict: str
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict not in ("WRONG", "nan")

    @property
    def relative_error(self) -> float:
        """|autodiff - finite difference| / the larger of them; 0 if equal, inf with nan."""
        size = max(abs(self.autodiff), abs(self.finite_difference))
        if self.autodiff == self.finite_difference:
            return 0.0
        gap = abs(self.autodiff - self.finite_difference)
        return gap / size if isfinite(gap) else inf


@dataclass(frozen=True)
class Report:
    """The outcome of a check: true if every input passed, and a table when printed."""

    title: str
    rows: list[Row]
    evaluations: int
    shown: int = 20

    def __bool__(self) -> bool:
        return all(row.passed for row in self.rows)

    @property
    def failures(self) -> list[Row]:
        return [row for row in self.rows if not row.passed]

    @property
    def largest_relative_error(self) -> float:
        """Over the inputs where a finite difference can tell: not at kinks, nor for zeros."""
        measured = [row for row in self.rows if row.verdict in ("ok", "WRONG", "nan")]
        return max((row.relative_error for row in measured), default=0.0)

    def __str__(self) -> str:
        heads = ("input", "at", "autodiff", "finite difference", "difference", "verdict")
        table = [heads]
        for row in self.rows[: self.shown]:
            both = (f"{row.x:.8g}", f"{row.autodiff:.12g}", f"{row.finite_difference:.12g}")
            gap = f"{row.autodiff - row.finite_difference:.1e}"
            note = f"  {row.note}" if row.note else ""
            table.append((row.name, *both, gap, row.verdict + note))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        widths[-1] = 0
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
        if len(self.rows) > self.shown:
            lines.append(f"... and {len(self.rows) - self.shown:,} more")
        passed = len(self.rows) - len(self.failures)
        summary = (
            f"{self.title}: {passed:,} of {len(self.rows):,} passed, largest relative error "
            f"{self.largest_relative_error:.1e}, {self.evaluations:,} evaluations"
        )
        return "\n".join([summary, *lines])

    __repr__ = __str__


def check(f: Callable[..., Any], *xs: Any, tolerance: float = 1e-6) -> Report:
    """Compare the gradient of f, a function of Values, with finite differences at xs.

    The report prints as a table and is true if all inputs passed: |autodiff - finite difference|
    within `tolerance` times the larger plus ten error bars, or a kink with autodiff's answer
    between the derivatives from left and right. Values in xs are copied; no `.grad` changes. Nan is
    reported, not raised. Functions that repeat or jump within some thousandths of max(1, |x|), such
    as x % 1e-6, are too fine to be measured.

    Raises ValueError without xs, or if f gives two answers at one point; TypeError if f gives no
    number.

    >>> bool(check(lambda x, y: x * y + x, 2.0, 3.0))
    True
    """
    from micrograd_scratch.engine import Value

    _check_function(f)
    if not xs:
        raise ValueError("check needs a point, as in check(f, 0.5, 2.0), or see check_model")
    names = _input_names(f, xs)
    point = [_number(x, name) for x, name in zip(xs, names, strict=True)]
    leaves = [Value(x, label=name) for x, name in zip(point, names, strict=True)]

    def nudged(index: int, value: float) -> Any:
        moved = [*point[:index], value, *point[index + 1 :]]
        return f(*(Value(x, label=name) for x, name in zip(moved, names, strict=True)))

    answer = f(*leaves)
    slopes = _reverse(answer, leaves)
    title = f"{getattr(f, '__name__', 'f')}({', '.join(names)})"
    probe = _Probe(nudged)
    inputs = zip(range(len(xs)), names, point, slopes, strict=True)
    return Report(title, _examine_all(probe, answer, inputs, tolerance), probe.evaluations)


def check_model(
    loss: Callable[[], Any],
    parameters: Iterable[Any],
    *,
    sample: int | None = None,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> Report:
    """Compare the gradient of `loss()`, which builds the loss anew, with finite differences.

    `check_model(lambda: loss(model), model.parameters())` nudges every parameter, or `sample` of
    them drawn with `seed`, through its `.data`, and puts it back even if loss raises; no `.grad`
    changes. A parameter costs 4 evaluations where the loss is smooth, up to 210 where it is not.
    The report lists the worst first, named by label or index.

    Raises ValueError for no parameters, one that is not a leaf, or a loss that gives two answers at
    one point.
    """
    _check_function(loss, "loss")
    if not hasattr(parameters, "__iter__"):
        raise TypeError(f"parameters is {_show(parameters)}: pass model.parameters()")
    parameters = list(parameters)
    if not parameters:
        raise ValueError("parameters is empty: pass model.parameters()")
    for index, parameter in enumerate(parameters):
        if getattr(parameter, "parents", ()):
            raise ValueError(f"parameters[{index}] is not a leaf: nudging it would change nothing")
    chosen = list(range(len(parameters)))
    title = f"{getattr(loss, '__name__', 'loss')}, {len(chosen):,} parameters"
    if sample is not None:
        if sample < 1:
            raise ValueError(f"sample is {sample}: pass a number of parameters, 1 or more, or None")
        chosen = sorted(random.Random(seed).sample(chosen, min(sample, len(chosen))))
        title += f" ({len(chosen):,} of them, seed {seed})"

    def nudged(index: int, value: float) -> Any:
        parameter, original = parameters[index], parameters[index].data
        try:
            parameter.data = value
            return _number(loss(), "the loss")
        finally:
            parameter.data = original

    answer = loss()
    slopes = _reverse(answer, parameters)
    probe = _Probe(nudged)
    inputs = (
        (i, parameters[i].label or f"parameters[{i}]", float(parameters[i].data), slopes[i])
        for i in chosen
    )
    rows = _examine_all(probe, answer, inputs, tolerance)
    order = ("WRONG", "nan", "unsure", "jump", "edge", "kink", "ok", "zero")
    rows.sort(key=lambda row: (order.index(row.verdict), -row.relative_error))
    return Report(title, rows, probe.evaluations)


def _input_names(f: Callable[..., Any], xs: Sequence[Any]) -> list[str]:
    """The label of each Value; without one the name in f's signature; without that x0, x1, ..."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # some built-in functions have no signature
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "x")
    names = names[: len(xs)] + [f"{rest}{i}" for i in range(len(xs) - len(names))]
    return [getattr(x, "label", "") or name for x, name in zip(xs, names, strict=True)]


def _reverse(answer: Any, leaves: Sequence[Any]) -> list[float]:
    """The gradient by reverse mode; every `.grad` in the graph is put back, other leaves' too."""
    if not hasattr(answer, "backward"):
        _number(answer)
        return [0.0] * len(leaves)  # f gave a plain number: autodiff sees a constant
    root = answer * UPSTREAM
    seen = {id(node): node for node in leaves}
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) not in seen or node is root:
            seen[id(node)] = node
            stack.extend(node.parents)
    saved = [(node, node.grad) for node in seen.values()]
    try:
        for node in seen.values():
            node.grad = 0.0
        root.backward()
        return [float(leaf.grad) / UPSTREAM for leaf in leaves]
    finally:
        for node, grad in saved:
            node.grad = grad


def _examine_all(
    probe: _Probe,
    answer: Any,
    inputs: Iterable[tuple[int, str, float, float]],
    tolerance: float,
) -> list[Row]:
    rows = []
    for index, name, x, autodiff in inputs:
        first, again = _number(answer), probe.here(index, x)
        if first != again and not (isnan(first) and isnan(again)):
            raise ValueError(f"f gave {first} and then {again} at one point: fix its randomness")
        slope, error, verdict, note = _examine(probe, index, x, autodiff, tolerance)
        if isnan(autodiff) and verdict == "WRONG":
            note = "autodiff gives nan where f is finite"
        if isnan(slope) and probe.failure is not None:
            note += f"; f raised {type(probe.failure).__name__}: {probe.failure}"
        rows.append(Row(name, x, autodiff, slope, error, verdict, note))
    return rows


def _examine(
    probe: _Probe, index: int, x: float, autodiff: float, tolerance: float
) -> tuple[float, float, str, str]:
    """Finite difference, its error, verdict and note; 4 evaluations where f is smooth, or more."""

    def f(value: float) -> float:
        return probe(index, value)

    def agrees() -> bool:
        slack = tolerance * max(abs(autodiff), abs(slope)) + SAFETY * error
        return autodiff == slope or abs(autodiff - slope) <= slack < inf

    center, scale = probe.here(index, x), max(1.0, abs(x))
    if not (isfinite(center) and isfinite(x)):
        return nan, inf, "nan", f"f is {center} here: there is no derivative"
    zoom = _Zoom(f, x, center)
    slope, error, smooth = zoom.first_look()
    if smooth and (error <= PRECISE * abs(slope) or slope == autodiff):
        if agrees():
            return slope, error, "ok", ""
        near, near_error = zoom.settled
        if not abs(near - slope) > SAFETY * error + near_error:  # also if it is nan
            return slope, error, "WRONG", ""

    # f is steep, noisy or not smooth. The second try is for a tiny x beside the edge of the domain.
    for size in sorted({scale, abs(x)}, reverse=True):
        candidate, candidate_error = _ridders(f, x, STEPS["ridders"] * size, center)
        sharper = _relative(candidate, candidate_error) < _relative(slope, error)
        if isnan(slope) or candidate_error < error or sharper:
            slope, error = candidate, candidate_error
        if agrees():
            break
    precise = error <= INFORMATIVE * abs(slope)
    if not (smooth and precise and agrees()):
        (left, left_error), (right, right_error) = zoom.limits()
        middle = left + (right - left) / 2
        if zoom.kink() and not (agrees() and abs(slope - middle) > 0.1 * abs(right - left)):
            note = f"kink at {x:g}: left {left:.6g}, right {right:.6g}, autodiff {autodiff:.6g}"
            # Any slope between the two is a subgradient: compare with the nearest.
            slope = min(max(autodiff, min(left, right)), max(left, right))
            error = max(left_error, right_error)
            return middle, error, "kink" if agrees() else "WRONG", note
        vertical = left == right and math.isinf(left)
        if vertical or not agrees():
            near, near_error = zoom.settled
            if isfinite(near):  # then f neither jumps here nor has a vertical tangent
                # the slope found at wider steps stands unless the two cannot both be right
                if not abs(near - slope) <= SAFETY * error + near_error or near_error < error:
                    slope, error = near, near_error
                if not agrees():
                    return slope, error, "WRONG", ""
                precise = error <= INFORMATIVE * abs(slope)
                note = "" if precise else f"rounding in f hides what is below {error:.1e}"
                return slope, error, "ok" if precise else "unsure", note
        if zoom.jump() and not (precise and agrees()):
            return nan, inf, "jump", f"f jumps at {x:g}: there is no derivative to compare"
        if isnan(left) and isnan(right) and not agrees():
            return nan, inf, "nan", f"f is not finite on either side of {x:g}"
        if vertical:
            slope, error = left, 0.0
            return slope, error, "edge" if agrees() else "WRONG", f"vertical tangent at {x:g}"
        if isnan(left) != isnan(right) and not agrees():
            slope, error = (right, right_error) if isnan(left) else (left, left_error)
            note = f"f exists only to the {'right' if isnan(left) else 'left'} of {x:g}"
            return slope, error, "edge" if agrees() else "WRONG", note
    if not agrees():
        if isfinite(autodiff) and zoom.scattered(slope, error):
            return slope, error, "unsure", "the differences do not settle: f changes too fast"
        return slope, error, "WRONG", ""
    if precise or autodiff == 0:
        return slope, error, "ok" if precise else "zero", ""
    return slope, error, "unsure", f"rounding in f hides what is below {error:.1e}"


def _relative(slope: float, error: float) -> float:
    return error / abs(slope) if slope and isfinite(slope) else inf


class _Zoom:
    """f around x: its quotients to the left, to the right and across, at steps h, h/8, h/64, ..."""

    def __init__(self, f: Callable[[float], float], x: float, center: float) -> None:
        self.f, self.x, self.center = f, x, center
        self.left, self.right, self.across = list[float](), list[float](), list[float]()
        self.noise = list[float]()  # what rounding f by half a unit does to a quotient

    def closer(self, levels: int) -> list[float]:
        """Go to so many levels; the gaps between right and left, 0 in the end where f is smooth."""
        while len(self.left) < levels:
            step = STEPS["fourth"] * max(1.0, abs(self.x)) / 8 ** len(self.left)
            above, below = self.x + step, self.x - step
            high, low = self.f(above), self.f(below)
            self.left.append((self.center - low) / (self.x - below))
            self.right.append((high - self.center) / (above - self.x))
            self.across.append((high - low) / (above - below))
            self.noise.append(EPSILON * max(abs(self.center), abs(high), abs(low)) / step)
        return [right - left for left, right in zip(self.left, self.right, strict=True)]

    def first_look(self) -> tuple[float, float, bool]:
        """The slope, its error, and whether left and right meet."""
        wide_gap, near_gap = self.closer(2)
        wide, near = self.across
        slope = near + (near - wide) / 63  # their h**2 terms differ by a factor of 64
        bend = near_gap + (near_gap - wide_gap) / 7  # and the gaps' h terms by 8
        steepest = max(map(abs, self.left + self.right))
        smooth = abs(bend) <= INFORMATIVE * steepest + SAFETY * self.noise[1]
        return slope, abs(slope - near) + self.noise[1], smooth

    def kink(self) -> bool:
        """Whether the gap stays the same, and above the noise, as the step falls by 64."""
        *_, wide, near, nearest = self.closer(5)
        noise, allowed = self.noise[4], 0.01 * abs(nearest) + 4 * self.noise[4]
        steady = abs(wide - nearest) <= allowed and abs(near - nearest) <= allowed
        return steady and abs(nearest) > 100 * noise

    def jump(self) -> bool:
        """Whether a quotient grows as fast as the step falls: then f is not continuous."""
        return any(7 < self._growth(quotients) < 9 for quotients in (self.left, self.right))

    @cached_property
    def settled(self) -> tuple[float, float]:
        """The slope at which quotients settle as the step falls, and its error; nan, inf if none.

        Settled are four quotients whose gaps fall as those of a smooth function do, by 53, or are
        what rounding f and its argument explains. Of several such the most precise counts. Where f
        does not change by more than its rounding, nothing is seen.
        """
        best, best_error = nan, inf
        gaps, before = list[float](), nan
        for level in range(SETTLING):
            step = STEPS["fourth"] * max(1.0, abs(self.x)) / SETTLING_SHRINK**level
            above, below = self.x + step, self.x - step
            if above - below < 32 * math.ulp(self.x):
                break
            high, low = self.f(above), self.f(below)
            quotient = (high - low) / (above - below)
            size = max(abs(self.center), abs(high), abs(low))
            noise = EPSILON * (size + abs(self.x * quotient)) / step
            if not isfinite(quotient) or abs(high - low) <= SAFETY * EPSILON * size:
                gaps, before = [], nan
                continue
            gaps.append(abs(quotient - before))
            before = quotient
            falls = all(near <= wide / 16 + SAFETY * noise for wide, near in pairwise(gaps[-3:]))
            if len(gaps) > 3 and falls and gaps[-2] <= 0.25 * abs(quotient):
                error = gaps[-1] / (SETTLING_SHRINK**2 - 1) + noise
                if _relative(quotient, error) < _relative(best, best_error):
                    best, best_error = quotient, error
        return best, best_error

    def scattered(self, slope: float, error: float) -> bool:
        """Whether small steps contradict the slope, and change f about as much as wide ones do.

        (The stairs of an f that rounds inside contradict it as well, but are small.)
        """
        self.closer(5)
        return all(
            abs(self.across[i] - slope) > 0.1 * abs(slope) + SAFETY * (error + self.noise[i])
            and abs(self.across[i]) > 0.02 * 8**i * abs(self.across[0])
            for i in range(2, 5)
        )

    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The derivatives from left and right with their errors; infinite if they grow and grow."""
        self.closer(5)
        return self._limit(self.left), self._limit(self.right)

    def _limit(self, quotients: list[float]) -> tuple[float, float]:
        if self._growth(quotients) > 1.5:
            return math.copysign(inf, quotients[4]), 0.0
        correction = (quotients[3] - quotients[2]) / 7
        return quotients[3] + correction, abs(correction) + self.noise[3]

    def _growth(self, quotients: list[float]) -> float:
        """How much the quotient grows as the step falls by 8; 0 if the other side is steeper."""
        wide, near, nearest = map(abs, quotients[2:])
        if wide * near == 0 or any(abs(q) > 2 * nearest for q in (self.left[4], self.right[4])):
            return 0.0
        return min(near / wide, nearest / near)
