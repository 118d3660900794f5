"""ONNX graphs: an MLP as Gemm nodes, its activations as the primitives their rows are made of.

A row that ONNX has is one node; any other is traced on carriers (carriers.py) down to rows that it
has, which also gives runtimes float64 where they have such an operation in float32 alone. It leaves
out gradients, and graphs that are no MLP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import functions as f
from . import operations as o
from .carriers import Carrier, Writer
from .compiler.record import CONSTANT, INPUT, Graph
from .export import activation_of, recorded
from .nn import MLP
from .operations import Operation

OPSET, IR_VERSION = 17, 8  # of 2022: what runtimes of today all read

_COMPARISONS = {
    o.less: "Less",
    o.less_equal: "LessOrEqual",
    o.greater: "Greater",
    o.greater_equal: "GreaterOrEqual",
    o.equal: "Equal",
}
# A row as ONNX's operation, or in terms of rows that are.
_OPERATIONS: dict[Operation, str | Callable[..., Any]] = {
    o.add: "Add", o.subtract: "Sub", o.multiply: "Mul", o.divide: "Div", o.negative: "Neg",
    o.power: "Pow", o.constant_power: "Pow", o.exp: "Exp", o.log: "Log", o.sqrt: "Sqrt",
    o.sin: "Sin", o.cos: "Cos", f.tan: lambda x: o.sin(x) / o.cos(x), f.atan: "Atan",
    f.asin: "Asin", f.acos: "Acos", f.asinh: "Asinh", f.acosh: "Acosh", f.atanh: "Atanh",
    f.sinh: lambda x: 0.5 * o.exp(x) - 0.5 * o.exp(-x),
    f.cosh: lambda x: 0.5 * o.exp(x) + 0.5 * o.exp(-x),
    o.tanh: "Tanh", o.sigmoid: "Sigmoid", o.relu: "Relu", f.erf: "Erf",
    f.erfc: lambda x: 1.0 - f.erf(x), o.absolute: "Abs", o.sign: "Sign",
    o.maximum_of_two: "Max", o.minimum_of_two: "Min", o.largest_of: "Max", o.smallest_of: "Min",
    f.floor: "Floor", f.ceil: "Ceil", f.rounded: "Round",
    f.trunc: lambda x: o.sign(x) * f.floor(o.absolute(x)),
    f.remainder: lambda a, b: a - b * f.floor(a / b), f.floor_divide: lambda a, b: f.floor(a / b),
    f.expm1: lambda x: o.exp(x) - 1.0, f.log1p: lambda x: o.log(1.0 + x),
    f.exp2: lambda x: o.exp(math.log(2.0) * x), f.log2: lambda x: o.log(x) / math.log(2.0),
    f.log10: lambda x: o.log(x) / math.log(10.0), f.hypot: lambda a, b: o.sqrt(a * a + b * b),
    o.detach: "Identity",
    o.not_equal: lambda a, b: 1.0 - (a == b),
}  # fmt: skip


class OnnxWriter(Writer):
    """Collects nodes and constants."""

    language = "ONNX"

    def __init__(self, onnx: Any, dtype: str) -> None:
        self.onnx, self.dtype = onnx, np.dtype(dtype)
        self.kind = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}

    def mark(self) -> Any:
        return len(self.nodes)

    def rewind(self, mark: Any) -> None:
        del self.nodes[mark:]

    def node(self, kind: str, inputs: Sequence[str], output: str = "", **options: Any) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [output], **options))
        return output

    def name(self, x: Any) -> str:
        """The name of a carrier, or of a constant."""
        if isinstance(x, Carrier):
            return x.text
        name = f"constant {float(x)!r}"
        self.constants[name] = np.array(x, self.dtype)
        return name

    def apply(self, row: Operation, xs: Sequence[Any]) -> Any:
        if row is o.where:
            if not isinstance(xs[0], Carrier):
                return xs[1] if xs[0] else xs[2]
            zero = self.node("Equal", [self.name(xs[0]), self.name(0.0)])
            return Carrier(self, self.node("Where", [zero, self.name(xs[2]), self.name(xs[1])]))
        if row in _COMPARISONS:
            truth = self.node(_COMPARISONS[row], [self.name(x) for x in xs])
            return Carrier(self, self.node("Cast", [truth], to=self.kind))
        form = _OPERATIONS.get(row)
        if form is None:
            return self.value_of(row, xs)
        if isinstance(form, str):
            return Carrier(self, self.node(form, [self.name(x) for x in xs]))
        return form(*xs)

    def elementwise(self, graph: Graph, x: str) -> str:
        """The nodes of a graph with one input and one output, on all elements of x."""
        numbers: list[Any] = []
        for node, kind in enumerate(graph.kind.tolist()):
            if kind == CONSTANT:
                numbers.append(float(graph.data[node]))
            elif kind == INPUT:
                numbers.append(Carrier(self, x))
            else:
                operands = [numbers[p] for p in graph.operands_of(node).tolist()]
                row = graph.rows[graph.op[node]]
                known = not any(isinstance(p, Carrier) for p in operands)
                numbers.append(row.number(*operands) if known else self.apply(row, operands))
        return self.name(numbers[int(graph.outputs[0])])


def onnx_model(onnx: Any, model: MLP, dtype: str) -> Any:
    """The model as an onnx.ModelProto: x (rows, nin) -> y (rows, nout)."""
    writer = OnnxWriter(onnx, dtype)
    helper = onnx.helper
    state = {name: np.array(array, writer.dtype) for name, array in model.state_dict().items()}
    names, before = iter(state), "x"
    for layer in model.layers:
        before = writer.node("Gemm", [before, next(names), next(names)], transB=1)
        if layer.activation in ("softmax", "log_softmax"):
            kind = "Softmax" if layer.activation == "softmax" else "LogSoftmax"
            before = writer.node(kind, [before], axis=-1)
        elif layer.activation != "linear":
            _, function, length = activation_of(layer)
            before = writer.elementwise(recorded(function, length, []).graph, before)
    writer.node("Identity", [before], "y")
    sizes = len(model.layers[0].neurons[0].w), len(model.layers[-1].neurons)
    x, y = (
        helper.make_tensor_value_info(name, writer.kind, ["rows", size])
        for name, size in zip("xy", sizes, strict=True)
    )
    tensors = [
        onnx.numpy_helper.from_array(array, name)
        for name, array in {**state, **writer.constants}.items()
    ]
    graph = helper.make_graph(writer.nodes, "MLP", [x], [y], tensors)
    found = helper.make_model(
        graph,
        producer_name="micrograd_scratch",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(found)
    return found
