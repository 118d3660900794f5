"""What a program shows of itself: `stages`, `print(program)`, and a source that can be read."""

import ast
import math
import random
import re

import numpy as np
import pytest
from engines import carried_out_as
from recorded_models import MODELS, classifier

from micrograd_scratch import MLP, Value, compile, dot, losses, sigmoid, tanh, total
from micrograd_scratch.compiler.stages import Stages

NAMES = ["record", "fuse", "group", "lay out"]
LEAVES = {"parameters", "inputs", "constants"}
small = pytest.mark.parametrize("name", ["classifier", "transformer", "recurrent", "embedding"])


def elementwise():
    """A layer of 8 neurons on 20 points, written with * and + alone: 20 * 8 * (4 + 3 + 1) nodes."""
    rng = random.Random(0)
    W = [[Value(rng.gauss(0, 1), label=f"W[{i},{j}]") for j in range(4)] for i in range(8)]
    b = [Value(0.1, label=f"b[{i}]") for i in range(8)]
    points = [[rng.gauss(0, 1) for _ in range(4)] for _ in range(20)]
    outputs = []
    for x in points:
        for row, bias in zip(W, b, strict=True):
            s = bias
            for w, v in zip(row, x, strict=True):
                s = s + w * v
            outputs.append(sigmoid(s))
    return compile(total(outputs), parameters=[w for row in W for w in row] + b)


def computed(stage):
    return [box for box in stage.boxes if box.label not in LEAVES]


# ---------------------------------------------------------------- stages
def test_the_collapse():
    stages = elementwise().stages
    assert isinstance(stages, Stages) and [stage.name for stage in stages] == NAMES
    record, fuse, group, lay_out = stages
    assert record.nodes == 20 * 8 * 9 + 1 and fuse.nodes == 20 * 8 * 2 + 1
    assert {(box.label, box.nodes) for box in computed(record)} == {
        ("*", 640), ("+", 640), ("sigmoid", 160), ("total", 1),
    }  # fmt: skip
    assert {(box.label, box.nodes) for box in computed(fuse)} >= {("dot", 160), ("sigmoid", 160)}
    assert len(computed(group)) == len(computed(lay_out)) == 3
    assert sorted(np.prod(box.shape) for box in computed(lay_out)) == [1, 160, 160]
    assert lay_out.nodes == fuse.nodes


@small
def test_every_node_is_in_a_box_and_edges_run_forward(name):
    program = MODELS[name]().compile()
    for stage in program.stages:
        boxes = computed(stage)
        assert sum(box.nodes for box in boxes) == stage.nodes
        assert all(0 <= a < len(stage.boxes) > b >= 0 for a, b in stage.edges)
        targets = {b for _, b in stage.edges}
        for position, box in enumerate(stage.boxes):
            assert (box.label in LEAVES) == (position not in targets)
            assert box.nodes > 0
    record, fuse, group, lay_out = program.stages
    assert record.nodes == program.graph.count()
    assert all(a < b for a, b in group.edges) and all(a < b for a, b in lay_out.edges)
    assert fuse.nodes == group.nodes == lay_out.nodes <= record.nodes
    for box in computed(lay_out):
        assert np.prod(box.shape) >= box.nodes


def test_stages_print_as_a_table():
    stages = elementwise().stages
    text = str(stages)
    assert repr(stages) == text and len(text.splitlines()) == 5
    for name, line in zip(NAMES, text.splitlines()[1:], strict=True):
        assert line.startswith(name)
    assert text.splitlines()[1].split()[-2:] == ["1,441", "4"]
    assert str(stages[0]) == "record: 1,441 scalar nodes in 4 boxes"


def test_stages_do_not_change_what_a_program_computes():
    program, other = classifier().compile(), classifier().compile()
    arrays = classifier().feed(np.random.default_rng(0), 3)
    _ = program.stages, str(program), program.source
    assert program(*arrays).tolist() == other(*arrays).tolist()


# ---------------------------------------------------------------- print(program)
@small
def test_the_printed_program_counts_what_it_stands_for(name):
    program = MODELS[name]().compile()
    header, *steps, last = str(program).splitlines()
    boxes = computed(program.stages[-1])
    assert len(steps) == len(boxes)
    for line, box in zip(steps, boxes, strict=True):
        assert line.split()[0] == box.label
        assert " x ".join(map(str, box.shape)) in line
        nodes, ahead, behind = (int(n.replace(",", "")) for n in line.split()[-3:])
        assert nodes == box.nodes and ahead >= 0 and behind >= 0
    assert any(int(line.split()[-2]) for line in steps)
    assert any(int(line.split()[-1]) for line in steps)
    assert last == f"{len(boxes)} steps for {program.graph.count():,} scalar nodes"
    assert "forward" in header and "backward" in header


# ---------------------------------------------------------------- source
def test_the_source_reads_as_the_textbook():
    with carried_out_as("arrays"):
        source = classifier().compile().source
    ast.parse(source)
    forward, backward = source.split("def backward")
    for name in ("W1", "b1", "W2", "b2"):  # parameters, and in the gradient dW1, db1 ...
        assert re.search(rf"\b{name}\b", forward) and re.search(rf"\bd{name}\b", backward)
    assert re.search(r"matmul\(W1\b", forward) or re.search(r"W1 @", forward)
    assert re.search(r"W2\.T|swapaxes|dW2", backward)
    assert "# dot: 7 scalar nodes, 7 x 1" in forward and "# tanh: 7 scalar nodes" in forward
    assert "# back through tanh" in backward
    assert max(map(len, source.splitlines()[1:])) <= 110  # the first line imports


@small
def test_every_step_has_its_comment_forward_and_names_are_defined(name):
    with carried_out_as("arrays"):
        program = MODELS[name]().compile()
        source = program.source
    # pieces of sums, "part of 8 scalar nodes", belong to the box that completes them
    steps = re.findall(r"^ +# (\S+): ([\d,]+) scalar node", source.split("def backward")[0], re.M)
    boxes = computed(program.stages[-1])
    assert steps == [(box.label, f"{box.nodes:,}") for box in boxes]
    assert not re.search(r"\bimport\b(?!.*\bnumpy\b|.* inf, nan)", source)
    assert not {"eval", "exec", "open", "__import__"} & set(re.findall(r"\w+", source))


@pytest.mark.parametrize("label", ["Wdd", "Wbs", "Wrray"])
def test_no_block_is_called_what_numpy_has(label):
    """z and a take the rest of a label: zdd, add."""
    W = [[Value(0.1 * i, label=label) for i in range(3)] for _ in range(3)]
    x = [Value(0.5) for _ in range(3)]
    h = [tanh(dot(row, x)) for row in W]
    with carried_out_as("arrays"):
        program = compile(total([tanh(a) + abs(a) for a in h]), inputs=[x])
        mean, _ = program.value_and_grad(np.full((2, 3), 0.5))
    assert mean == pytest.approx(sum(math.tanh(a.data) + abs(a.data) for a in h), rel=1e-12)


def test_a_recorded_network_and_its_unrolled_batch_read_alike():
    """The batch axis is found: 6 samples unrolled have the steps of one sample, not six times."""
    model = MLP(3, [4, 2], activation="tanh", rng=random.Random(0))
    rng = random.Random(1)
    samples = [[Value(rng.gauss(0, 1)) for _ in range(3)] for _ in range(6)]

    def cost(x):
        return losses.squared_error(model(x), [0.5, -0.5])

    one = compile(cost(samples[0]), parameters=model.parameters())
    six = compile(total([cost(x) for x in samples]), parameters=model.parameters())
    count_one, count_six = (len(computed(p.stages[-1])) for p in (one, six))
    assert count_one <= count_six <= count_one + 1
    assert six.graph.count() == 6 * one.graph.count() + 1


def test_scalar_lines_are_source_too():
    w = [Value(0.5, label="a"), Value(1.5, label="b")]
    with carried_out_as("lines"):
        program = compile(sigmoid(w[0] * w[1]))
        source = program.source
    ast.parse(source)
    assert "def forward" in source and "def run" in source
