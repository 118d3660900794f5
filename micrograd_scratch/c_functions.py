"""C functions: a recorded graph, or an MLP, as C99 that computes what the engine computes.

A graph becomes straight lines, a node each, in functions of at most LINES nodes; an MLP becomes
loops over its layers. Sums run in the engine's order. How a node's operation is written is
c_source.py's part, what to export is export.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from .c_source import CWriter, bare, block, condition, constant, text, without_unused
from .carriers import Carrier
from .compiler.record import COMPUTED, CONSTANT, INPUT, PARAMETER, Graph
from .export import activation_of, recorded
from .nn import MLP
from .operations import Conditional, Operation, dot_of

LINES = 200  # nodes in a C function: at 1,000 of them gcc takes twice as long for each


class GraphFunctions:
    """The C functions of one graph: `lines` hold them, `name_value` and `name_gradient`."""

    def __init__(
        self,
        writer: CWriter,
        graph: Graph,
        name: str,
        counts: tuple[int, int],  # of parameters and inputs, used or not
        linkage: str = "",
    ) -> None:
        self.writer, self.graph, self.name, self.linkage = writer, graph, name, linkage
        self.parameters, self.inputs = counts
        self.kind, self.slot = graph.kind.tolist(), graph.slot.tolist()
        self.start, self.operands = graph.start.tolist(), graph.operands.tolist()
        self.outputs = graph.outputs.tolist()
        self.single = graph.count() <= LINES
        self.conditional: set[int] = set()  # nodes reached only under a condition

    def operands_of(self, node: int) -> list[int]:
        return self.operands[self.start[node] : self.start[node + 1]]

    def row(self, node: int) -> Operation:
        return self.graph.rows[self.graph.op[node]]

    def value(self, node: int) -> Any:
        kind = self.kind[node]
        if kind == CONSTANT:
            return float(self.graph.data[node])
        if kind != COMPUTED:
            letter = "p" if kind == PARAMETER else "x"
            return Carrier(self.writer, f"{letter}[{self.slot[node]}]")
        return Carrier(self.writer, self.cell("v", node))

    def cell(self, letter: str, node: int) -> str:
        return f"{letter}{node}" if self.single else f"{self.name}_{letter}[{node}]"

    def slopes(self, node: int) -> list[Any]:
        xs = [self.value(p) for p in self.operands_of(node)]
        return self.writer.slopes(self.row(node), self.value(node), xs)

    # -- which nodes, in which order
    def dependencies(self) -> dict[int, list[int]]:
        """For each computed node, the operands that a derivative may pass to."""
        found = {}
        for node, kind in enumerate(self.kind):
            if kind == COMPUTED:
                mark = self.writer.mark()
                parents = zip(self.operands_of(node), self.slopes(node), strict=True)
                found[node] = [
                    p for p, slope in parents if slope is not None and self.kind[p] != CONSTANT
                ]
                self.writer.rewind(mark)
        return found

    def backward_order(self, dependencies: dict[int, list[int]]) -> list[int]:
        """The computed nodes in the order in which the engine's `backward` takes them.

        Its depth-first walk does not go through operands without dependence, so neither may this:
        otherwise a node's adjoint would be added up in another order.
        """
        order: list[int] = []
        seen: set[int] = set()
        stack = [(node, False) for node in reversed(self.outputs)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack += [(p, False) for p in reversed(dependencies.get(node, ()))]
        return [node for node in reversed(order) if self.kind[node] == COMPUTED]

    # -- lines
    def forward_lines(self, nodes: Sequence[int]) -> list[str]:
        writer = self.writer
        self.begin()
        for node in nodes:
            xs = [self.value(p) for p in self.operands_of(node)]
            declare = "const double " if self.single else ""
            expression = bare(writer.expression(self.row(node), xs))
            writer.lines.append(f"{declare}{self.cell('v', node)} = {expression};")
        return writer.lines

    def begin(self) -> None:
        self.writer.lines, self.writer.known, self.writer.count = [], {}, 0
        self.starts: list[str] = []

    def backward_lines(self, nodes: Sequence[int], first: bool) -> list[str]:
        writer = self.writer
        self.begin()
        if first:
            self.seed()
        for node in nodes:
            if node not in self.arrived or node not in self.wanted:
                continue
            guarded, before = node in self.conditional, dict(writer.known)
            if guarded:
                writer.lines.append(f"if ({self.cell('r', node)}) {{")
            parents = list(zip(self.operands_of(node), self.slopes(node), strict=True))
            if self.row(node) is dot_of:  # the engine takes w0, x0, w1, x1, ..., and then the bias
                n = len(parents) // 2
                pairs = zip(parents[:n], parents[n:], strict=False)
                parents = [*(p for pair in pairs for p in pair), *parents[2 * n :]]
            for p, slope in parents:
                if slope is not None and p in self.wanted:
                    self.pass_on(self.cell("d", node), p, slope, guarded)
            if guarded:
                writer.lines.append("}")
                writer.known = before
        return without_unused([*self.starts, *writer.lines])

    def seed(self) -> None:
        for k, node in enumerate(self.outputs):
            if node in self.wanted:
                self.pass_on(f"dy[{k}]", node, 1.0, False)

    def pass_on(self, adjoint: str, p: int, slope: Any, guarded: bool) -> None:
        """parent's adjoint += adjoint * slope, where the slope exists."""
        under = ""
        if isinstance(slope, Conditional):
            under, slope = condition(text(slope.condition)), slope.partial
        if isinstance(slope, Carrier) or slope not in (1.0, -1.0):
            term = f"{adjoint} * {text(slope)}"
        else:
            term = adjoint if slope == 1.0 else f"-{adjoint}"
        if self.kind[p] != COMPUTED:
            letter = "dp" if self.kind[p] == PARAMETER else "dx"
            added = f"{letter}[{self.slot[p]}] += {term};"
        else:
            first, d = p not in self.arrived, self.cell("d", p)
            if first and (guarded or under):
                self.conditional.add(p)
                if self.single:
                    self.starts += [f"double {d} = 0.0;", f"int {self.cell('r', p)} = 0;"]
            self.arrived.add(p)
            added = f"{d} += {term};"
            if first and self.single and p not in self.conditional:
                added = f"double {d} = {term};"
            if p in self.conditional:
                added = f"{added} {self.cell('r', p)} = 1;"
        self.writer.lines.append(f"if ({bare(under)}) {{ {added} }}" if under else added)

    # -- functions
    def source(self, gradient: bool) -> list[str]:
        """The functions' source, a list of texts."""
        nodes = [node for node, kind in enumerate(self.kind) if kind == COMPUTED]
        parts = [nodes] if self.single else list(pieces(nodes))
        forward = [self.forward_lines(part) for part in parts]
        results = [f"y[{k}] = {text(self.value(n))};" for k, n in enumerate(self.outputs)]
        value, grad = (signature(self.name, i, self.linkage) for i in (False, True))
        out: list[str] = []
        if not self.single:
            out.append(f"static double {self.name}_v[{len(self.graph)}];")
            out += self.part_functions("forward", "const double *p, const double *x", forward)
            forward = [[f"{self.name}_forward{k}(p, x);" for k in range(len(forward))]]
        out.append(block(value, [*forward[0], *results]))
        if not gradient:
            return out
        backward = self.gradient_parts()
        sizes = (("p", self.parameters), ("x", self.inputs))
        zero = [f"for (long i = 0; i < {n}; i++) d{a}[i] = 0.0;" for a, n in sizes if n]
        if not self.single:
            given = "const double *p, const double *x, const double *dy, double *dp, double *dx"
            cells = [f"{self.name}_d"] + [f"{self.name}_r"] * bool(self.conditional)
            out += [f"static double {cells[0]}[{len(self.graph)}];"]
            out += [f"static unsigned char {cell}[{len(self.graph)}];" for cell in cells[1:]]
            zero.append(
                f"for (long i = 0; i < {len(self.graph)}; i++) "
                f"{' = '.join(f'{cell}[i]' for cell in cells)} = 0;"
            )
            out += self.part_functions("backward", given, backward)
            calls = [f"{self.name}_backward{k}(p, x, dy, dp, dx);" for k in range(len(backward))]
            backward = [calls]
        out.append(block(grad, [*forward[0], *results, *zero, *backward[0]]))
        return out

    def gradient_parts(self) -> list[list[str]]:
        """The backward lines of every function; afterwards `conditional` and `wanted` are known."""
        dependencies = self.dependencies()
        self.wanted = {n for n, k in enumerate(self.kind) if k in (PARAMETER, INPUT)}
        for node, parents in dependencies.items():
            if not self.wanted.isdisjoint(parents):
                self.wanted.add(node)
        self.arrived: set[int] = set()
        self.conditional.clear()
        order = self.backward_order(dependencies)
        parts = [order] if self.single else list(pieces(order))
        return [self.backward_lines(part, part is parts[0]) for part in parts]

    def part_functions(self, name: str, given: str, parts: list[list[str]]) -> list[str]:
        return [
            block(f"static void {self.name}_{name}{k}({given})", lines)
            for k, lines in enumerate(parts)
        ]

    def unconditional(self) -> bool:
        """Whether a derivative, at all numbers, reaches every input: after `gradient_parts`."""
        self.gradient_parts()
        passes = set().union(*self.dependencies().values())
        inputs = {n for n, kind in enumerate(self.kind) if kind == INPUT}
        return not self.conditional and inputs <= passes | set(self.outputs)


def pieces(nodes: list[int]) -> Iterator[list[int]]:
    """The nodes, LINES at a time."""
    for i in range(0, len(nodes), LINES):
        yield nodes[i : i + LINES]


def signature(name: str, gradient: bool, linkage: str = "") -> str:
    if not gradient:
        return f"{linkage}void {name}_value(const double *p, const double *x, double *y)"
    return (
        f"{linkage}void {name}_gradient(const double *p, const double *x, const double *dy,\n"
        "    double *y, double *dp, double *dx)"
    )


# ---------------------------------------------------------------- a network
_LAYER_FORWARD = """\
/* z[i] = bias + w0*x0 + w1*x1 + ...; p holds, unit by unit, the weights and then the bias */
static void layer_forward(long inputs, long units, const double *p, const double *x, double *z) {
    for (long i = 0; i < units; i++, p += inputs + 1) {
        double sum = p[inputs];
        for (long j = 0; j < inputs; j++) sum += p[j] * x[j];
        z[i] = sum;
    }
}"""
_LAYER_BACKWARD = """\
/* dz -> dp and dx, in the order in which the engine adds: the last unit first */
static void layer_backward(long inputs, long units, const double *p, const double *x,
                           const double *dz, double *dp, double *dx) {
    for (long j = 0; j < inputs; j++) dx[j] = 0.0;
    for (long i = units - 1; i >= 0; i--) {
        const double *w = p + i * (inputs + 1), d = dz[i];
        double *dw = dp + i * (inputs + 1);
        for (long j = 0; j < inputs; j++) {
            dw[j] = 0.0 + d * x[j];
            dx[j] += d * w[j];
        }
        dw[inputs] = 0.0 + d;
    }
}"""


class NetworkFunctions:
    """The C functions of an MLP, as loops over its layers."""

    def __init__(self, writer: CWriter, model: MLP, name: str) -> None:
        self.name = name
        self.layers: list[tuple[int, int, int, GraphFunctions | None]] = []
        self.activations: dict[Any, GraphFunctions] = {}
        offset = 0
        for layer in model.layers:
            inputs, units = len(layer.neurons[0].w), len(layer.neurons)
            activation = None
            if layer.activation != "linear":
                key, function, length = activation_of(layer)
                if key not in self.activations:
                    graph = recorded(function, length, []).graph
                    inner = f"{name}_activation{len(self.activations)}"
                    self.activations[key] = GraphFunctions(
                        writer, graph, inner, (0, length), "static "
                    )
                activation = self.activations[key]
            self.layers.append((inputs, units, offset, activation))
            offset += units * (inputs + 1)

    def unconditional(self) -> bool:
        """Whether derivatives pass through the activations at all numbers: loops need that."""
        return all(activation.unconditional() for activation in self.activations.values())

    def source(self, gradient: bool) -> list[str]:
        """The functions' source, a list of texts."""
        out = [text for a in self.activations.values() for text in a.source(gradient)]
        last = len(self.layers) - 1
        forward: list[str] = []
        backward: list[str] = []
        arrays: list[tuple[str, int]] = []
        before = "x"
        for k, (inputs, units, offset, activation) in enumerate(self.layers):
            h = "y" if k == last else f"h{k}"
            z = h if activation is None else f"z{k}"
            dh = "dy" if k == last else f"dh{k}"
            dz = dh if activation is None else f"dz{k}"
            into = "dx" if k == 0 else f"dh{k - 1}"
            arrays += [(a, units) for a in dict.fromkeys((z, h)) if a != "y"]
            arrays += [(a, units) for a in dict.fromkeys((dz, dh)) if a != "dy"]
            at = f"[{offset}]"
            forward.append(f"layer_forward({inputs}, {units}, &p{at}, {before}, {z});")
            given = f"{inputs}, {units}, &p{at}, {before}, {dz}, &dp{at}, {into}"
            back = [f"layer_backward({given});"]
            if activation is not None:
                step = activation.inputs
                loop = f"for (long i = 0; i < {units}; i++) " if step < units else ""
                z, h, dz, dh = (f"&{a}[i]" if loop else a for a in (z, h, dz, dh))
                forward.append(f"{loop}{activation.name}_value(p, {z}, {h});")
                given = f"p, {z}, {dh}, {h}, dp, {dz}"
                back.insert(0, f"{loop}{activation.name}_gradient({given});")
            backward = back + backward
            before = f"h{k}"
        out.append(_LAYER_FORWARD)
        ahead = [f"double {name}[{n}];" for name, n in arrays if not name.startswith("d")]
        behind = [f"double {name}[{n}];" for name, n in arrays if name.startswith("d")]
        value, grad = (signature(self.name, i) for i in (False, True))
        out.append(block(value, [*ahead, *forward]))
        if gradient:
            out += [_LAYER_BACKWARD, block(grad, [*ahead, *behind, *forward, *backward])]
        return out


# ---------------------------------------------------------------- a file
def c_file(
    name: str,
    writer: CWriter,
    sources: Sequence[str],
    numbers: Sequence[float],
    counts: tuple[int, int],
    gradient: bool,
) -> str:
    """All of a C file: what it offers, the parameters' numbers, helpers, functions.

    counts  of inputs and outputs
    """
    helpers: list[str] = []
    below = "\n".join(sources)
    for helper, source in reversed(writer.helpers.items()):
        if re.search(rf"\b{helper}\(", below):
            helpers.insert(0, source)
            below += source
    sizes = zip(("INPUTS", "OUTPUTS", "PARAMETERS"), (*counts, len(numbers)), strict=True)
    texts = [constant(x).strip("()") for x in numbers] or ["0.0"]
    table = [f"    {', '.join(texts[i : i + 4])}," for i in range(0, len(texts), 4)]
    use = [
        f"/* Made by micrograd_scratch. C99, needs <math.h> alone: cc -std=c99 -O2 -c {name}.c",
        "   (-std=c99 keeps a * b + c from being fused, which would round differently).",
        "",
        f"   {name}_parameters  the parameters' numbers as they were when this was written",
        f"   {name}_value       y from parameters p and inputs x",
    ]
    if gradient:
        use += [
            f"   {name}_gradient    y, and from dy, the derivatives of some result by y (1.0 for y",
            "                      itself), those by the parameters, dp, and by the inputs, dx",
        ]
    use[-1] += " */"
    return "\n".join(
        [
            *use,
            "#include <math.h>",
            "",
            *(f"#define {name.upper()}_{what} {size}" for what, size in sizes),
            "",
            *(f"{signature(name, k)};" for k in ([False, True] if gradient else [False])),
            f"extern const double {name}_parameters[{max(len(numbers), 1)}];",
            "",
            f"const double {name}_parameters[{max(len(numbers), 1)}] = {{",
            *table,
            "};",
            "",
            "\n\n".join([*helpers, *sources]),
            "",
        ]
    )
