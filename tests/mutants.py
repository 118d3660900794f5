"""Deliberate mistakes in the engine, as data: the suite has to notice every one of them.

A mutant changes one place: `old`, which occurs once in the file, becomes `new`. Each is a mistake
that somebody writing an autograd engine has made. As an exercise: apply one, take the hint, and
find an expression whose gradient it spoils before running the tests.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One mistake: a name, the file in the package, the text it replaces, and a hint."""

    name: str
    file: str
    old: str
    new: str
    hint: str


ENGINE = [
    (
        "first-operand-assigns",
        "a.grad += adjoint * slope_a",
        "a.grad = adjoint * slope_a",
        "A Value may be used more than once.",
    ),
    (
        "second-operand-assigns",
        "b.grad += adjoint * slope_b",
        "b.grad = adjoint * slope_b",
        "x * x reaches x by two roads.",
    ),
    (
        "many-operands-assign",
        "p.grad += adjoint * slope\n\n",
        "p.grad = adjoint * slope\n\n",
        "Both branches of a where can be the same Value, or share one.",
    ),
    (
        "second-operand-drops-the-adjoint",
        "b.grad += adjoint * slope_b",
        "b.grad += slope_b",
        "Right as long as what comes later has slope 1.",
    ),
    (
        "many-operands-drop-the-adjoint",
        "p.grad += adjoint * slope\n\n",
        "p.grad += slope\n\n",
        "Why are operations tested with an upstream gradient of 1.7?",
    ),
    (
        "partials-swapped",
        "slope_a, slope_b = row.partials(",
        "slope_b, slope_a = row.partials(",
        "Addition cannot tell. Which operation can?",
    ),
    (
        "visits-constants-in-pairs",
        "if slope_b is not None and type(b) is not Constant:",
        "if slope_b is not None:",
        "Numbers are no unknowns: what does a Constant's .grad say afterwards?",
    ),
    (
        "weights-of-a-dot-assign",
        "w.grad += adjoint * x.data",
        "w.grad = adjoint * x.data",
        "The same Value can stand in a total twice.",
    ),
    (
        "visits-constants-selected",
        "if slope is not None and type(p) is not Constant:",
        "if slope is not None:",
        "where(c, x, 5.0).",
    ),
    (
        "visits-constants-among-many",
        "if type(x) is not Constant:",
        "if True:",
        "As before, with dot.",
    ),
    (
        "constants-are-values",
        "    return Constant(x)",
        "    return Value(x)",
        "Does 2 * x have one leaf or two?",
    ),
    (
        "order-forgotten",
        "for node in reversed(nodes):\n        adjoint",
        "for node in nodes:\n        adjoint",
        "An adjoint must be complete before it is passed on.",
    ),
    (
        "parents-after-children",
        "stack += (node, None, b, a)",
        "order.append(node)\n                stack += (b, a)",
        "In which order do shared nodes come?",
    ),
    (
        "one-parent-in-order-is-enough",
        "stack += (node, None, b)",
        "order.append(node)",
        "A shortcut must not skip the second operand's history.",
    ),
    (
        "equal-nodes-merged",
        "__hash__ = object.__hash__  # by identity",
        "__hash__ = lambda self: hash(self.data)  # by number",
        "Two parameters can happen to hold the same number.",
    ),
    (
        "operands-reflected",
        "return record(row, other, self, number(other.data, self.data))",
        "return record(row, self, other, number(other.data, self.data))",
        "2 - x is not x - 2, and neither is its derivative.",
    ),
    (
        "gradients-not-restored",
        "deque(restore, maxlen=0)",
        "pass",
        "What is left behind when a rule raises half-way?",
    ),
    (
        "interrupts-not-caught",
        "except BaseException:\n            deque(restore",
        "except Exception:\n            deque(restore",
        "Ctrl-C is not an Exception.",
    ),
    (
        "gradients-restored-one-by-one",
        "deque(restore, maxlen=0)",
        "[_ for _ in restore]",
        "Where can a second, impatient Ctrl-C strike between two bytecodes?",
    ),
    (
        "gradients-replaced",
        "_set_grads(nodes, map(add, before, map(_GET_GRAD, nodes)))",
        "_set_grads(nodes, list(map(_GET_GRAD, nodes)))",
        "backward() twice gives twice the gradient: that is the contract.",
    ),
    (
        "accumulators-not-zeroed",
        "_set_grads(nodes, repeat(0.0))",
        "pass",
        "The old gradient is not an adjoint.",
    ),
    (
        "branch-not-taken-visited",
        "a, b = None, _dependencies(node)",
        "pass",
        "0 * inf is nan.",
    ),
    (
        "dot-shortcut-not-crossed",
        "w.grad += adjoint * x.data",
        "w.grad += adjoint * w.data",
        "The weight's partial is the input.",
    ),
    (
        "dot-shortcut-forgets-the-bias",
        "parents[-1].grad += adjoint",
        "parents[-1].grad += 0.0",
        "A neuron has one parameter more than inputs.",
    ),
    (
        "recompute-stops-at-the-roots",
        "for node in topological_order(*roots):",
        "for node in roots:",
        "What lies between a leaf and a root?",
    ),
    (
        "no-grad-records",
        "return observing(_forget, last=True)",
        "return observing(lambda node: node, last=True)",
        "What is the result's type within no_grad()?",
    ),
    (
        "context-never-left",
        "mine.remove(self)",
        "pass",
        "State that outlives its with statement.",
    ),
    (
        "deepcopy-shares-parents",
        "tuple(memo[id(p)] for p in node.parents)",
        "node.parents",
        "Where does the copy's gradient go?",
    ),
    (
        "copy-loses-the-gradient",
        "twin.data, twin.grad, twin.label = node.data, node.grad, node.label",
        "twin.data, twin.grad, twin.label = node.data, 0.0, node.label",
        "A copy is equal in everything.",
    ),
    (
        "history-pickled-away",
        "        if self.parents:\n            raise",
        "        if False:\n            raise",
        "Losing a history without a word is the worst way.",
    ),
]

DERIVATIVES = [
    (
        "graph-assigns",
        "adjoints[p] = adjoints[p] + term",
        "adjoints[p] = term",
        "The chain rule is written twice: on numbers, and on graphs.",
    ),
    (
        "condition-multiplied",
        "term = where(condition, term, 0.0)",
        "term = condition * term",
        "Selecting is not multiplying by 0 or 1.",
    ),
    (
        "nested-condition-forgotten",
        "condition = _both(condition, slope.condition)",
        "condition = slope.condition",
        "A where inside the branch of a where that is not taken.",
    ),
    (
        "second-road-forgotten",
        "reach[p] = _either(reach[p], condition)",
        "pass",
        "A node may be reached under a condition, and also always.",
    ),
    (
        "sign-lost-in-graphs",
        "return a if b == 1.0 else -a",
        "return a",
        "An optimization for slopes of 1 or -1, and half of it.",
    ),
    (
        "repeated-input-assigns",
        "tangent[x] = tangent.get(x, 0.0) + t",
        "tangent[x] = t",
        "jvp(y, [x, x], [1, 0.5]) moves x by 1.5.",
    ),
    (
        "computed-input-forgotten",
        "terms.append(tangent[node])",
        "pass",
        "An x may itself be computed from another x.",
    ),
]

ANOMALIES = [
    (
        "stale-graph-accepted",
        "if now != node.data and",
        "if False and",
        "detect_anomaly() should notice leaves that changed since.",
    ),
]

OPERATIONS = [
    (
        "product-swapped",
        "lambda y, a, b: (b, a)",
        "lambda y, a, b: (a, b)",
        "d(ab)/da is not a. When does nobody notice?",
    ),
    (
        "difference-adds",
        "lambda y, a, b: (1.0, -1.0)",
        "lambda y, a, b: (1.0, 1.0)",
        "What does the second operand do to a difference?",
    ),
    (
        "quotient-sign",
        "(1.0 / b, -y / b)",
        "(1.0 / b, y / b)",
        "A larger divisor makes a smaller quotient.",
    ),
    (
        "quotient-drops-a-factor",
        "(1.0 / b, -y / b)",
        "(1.0 / b, -1.0 / b)",
        "Right where the quotient is 1.",
    ),
    (
        "power-drops-the-exponent",
        "0.0, b * power(a, b - 1.0))",
        "0.0, power(a, b - 1.0))",
        "Right for the exponent 1, where one would test last.",
    ),
    (
        "power-drops-the-value",
        "0.0, y * log(a))",
        "0.0, log(a))",
        "d(a**b)/db.",
    ),
    (
        "negative-base-overflows-upward",
        "odd = abs(math.fmod(b, 2.0)) == 1.0",
        "odd = False",
        "(-1e200) ** 3.",
    ),
    (
        "logarithm-of-zero-is-nan",
        "limit=lambda x: -inf if x == 0 else nan",
        "limit=nan",
        "Arithmetic is total, and has limits.",
    ),
    (
        "logarithm-trains-on",
        "where(x < 0, nan, 1.0 / x)",
        "1.0 / x",
        "log(-1) is nan: what should its slope be?",
    ),
    (
        "cosine-off-by-a-thousandth",
        "lambda y, x: (-sin(x),)",
        "lambda y, x: (-1.001 * sin(x),)",
        "Training would hide it; a checker must not.",
    ),
    (
        "sigmoid-loses-its-tail",
        "return (t / ((1.0 + t) * (1.0 + t)),)",
        "return (y * (1.0 - y),)",
        "The textbook's formula, at x = 40.",
    ),
    (
        "tanh-loses-its-tail",
        "return (4.0 * t / ((1.0 + t) * (1.0 + t)),)",
        "return (1.0 - y * y,)",
        "The textbook's formula, at x = 20.",
    ),
    (
        "relu-at-zero",
        "lambda y, x: (x > 0,)",
        "lambda y, x: (x >= 0,)",
        "A kink needs a convention, and all must share it.",
    ),
    (
        "tie-goes-to-both",
        "(1.0 - (a < b) - 0.5 * (a == b), 1.0 - (b < a) - 0.5 * (a == b))",
        "(1.0 - (a < b), 1.0 - (b < a))",
        "maximum(x, x) has slope 1.",
    ),
    (
        "ties-of-many-not-shared",
        "tuple(divide(tie, count) for tie in ties)",
        "tuple(ties)",
        "The same for a list.",
    ),
    (
        "no-dependence-is-zero",
        "return partial if condition else None",
        "return partial if condition else 0.0",
        "0.0 is a number, and 0.0 * inf is nan.",
    ),
    (
        "detach-is-zero",
        'lambda y, x: (None,),                 array="positive"',
        'lambda y, x: (0.0,),                  array="positive"',
        "Detached from an infinite slope.",
    ),
    (
        "where-takes-one-branch-twice",
        "only_if(condition == 0, 1.0)",
        "only_if(condition != 0, 1.0)",
        "Which partial belongs to which branch?",
    ),
    (
        "take-multiplies",
        "only_if(index == i, 1.0) for i",
        "(index == i) for i",
        "The elements not taken get no gradient at all.",
    ),
    (
        "dot-partials-not-crossed",
        "operands[n : 2 * n] + operands[:n]",
        "operands[:n] + operands[n : 2 * n]",
        "The weight's partial is the input.",
    ),
    (
        "copysign-forgets-a-sign",
        "(sign(a) * copysign(1.0, b), None)",
        "(copysign(1.0, b), None)",
        "|a| is in there.",
    ),
    (
        "bias-forgotten",
        "(1.0,) * (len(operands) % 2)",
        "(0.0,) * (len(operands) % 2)",
        "A neuron has one parameter more than inputs.",
    ),
    (
        "second-try-gives-up",
        "slopes = self.partials(Total(y), *map(Total, xs))",
        "slopes = (nan,) * len(xs)",
        "The slope of sqrt at 0 is infinite, not unknown.",
    ),
]

FUNCTIONS = [
    (
        "angle-turns-the-wrong-way",
        "-a / r / r",
        "a / r / r",
        "atan2(a, b) falls as b grows.",
    ),
    (
        "remainder-sign",
        "lambda y, a, b: (1.0, -floor_divide(a, b))",
        "lambda y, a, b: (1.0, floor_divide(a, b))",
        "a % b = a - b * (a // b).",
    ),
    (
        "fmod-is-remainder",
        "rounded((a - y) / b), trunc(a / b)",
        "floor_divide(a, b), trunc(a / b)",
        "They differ where the signs do.",
    ),
    (
        "logaddexp-swapped",
        "(sigmoid(a - b), sigmoid(b - a))",
        "(sigmoid(b - a), sigmoid(a - b))",
        "The larger one gets the larger share.",
    ),
    (
        "mish-forgets-the-inner-function",
        "(t + x * (1.0 - t * t) * sigmoid(x),)",
        "(t + x * (1.0 - t * t),)",
        "The chain rule inside a rule.",
    ),
    (
        "shift-of-infinities",
        "detach(clip(maximum(xs), -_LARGEST, _LARGEST))",
        "detach(maximum(xs))",
        "logsumexp of -inf alone: inf - inf is nan.",
    ),
    (
        "softmax-not-shifted",
        "powers = [exp(x - shift) for x in xs]",
        "powers = [exp(x) for x in xs]",
        "softmax([1000, 1000]).",
    ),
    (
        "clip-passes-at-no-bound",
        "(low <= x) * (x <= high)",
        "(low < x) * (x < high)",
        "The convention at a bound is to pass.",
    ),
]

NETWORKS = [
    (
        "zero-grad-does-nothing",
        "p.grad = 0.0",
        "pass",
        "Gradients accumulate, so they have to be cleared.",
    ),
    (
        "bias-first",
        "return [*self.w, self.b]",
        "return [self.b, *self.w]",
        "Saved parameters come back in the order they left in.",
    ),
]

LOSSES = [
    (
        "hinge-rewards-mistakes",
        "relu(1.0 - target * score)",
        "relu(1.0 + target * score)",
        "Which way does training go?",
    ),
    (
        "target-ignored",
        "(1.0 - target) * softplus(logit)",
        "softplus(logit)",
        "Right for target 0.",
    ),
]

MUTANTS = [
    Mutant(name, file, old, new, hint)
    for file, rows in [
        ("engine.py", ENGINE),
        ("derivatives.py", DERIVATIVES),
        ("anomalies.py", ANOMALIES),
        ("operations.py", OPERATIONS),
        ("functions.py", FUNCTIONS),
        ("nn.py", NETWORKS),
        ("losses.py", LOSSES),
    ]
    for name, old, new, hint in rows
]
