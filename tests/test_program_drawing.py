"""Pictures of compiled programs: parsed, and compared with the stages dot by dot."""

import os
import random
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT
from pictures import NAMESPACE, Picture, screenshot, use_engine

from micrograd_scratch import MLP, Value, compile, draw, losses, total
from micrograd_scratch.compiler.stages import Box, Stage, Stages
from micrograd_scratch.program_drawing import Collapse


def elementwise(layer, xs):
    """A layer as micrograd writes it: a chain of products and sums for each neuron."""
    return [sum((w * x for w, x in zip(n.w, xs, strict=True)), n.b) for n in layer.neurons]


def moons_program(samples=20, hidden=6):
    rng = random.Random(0)
    model = MLP(2, [hidden, 1], rng=rng)
    hinges = []
    for _ in range(samples):
        x = [Value(rng.uniform(-1, 1)) for _ in range(2)]
        h = [a.relu() for a in elementwise(model.layers[0], x)]
        hinges.append(losses.hinge(elementwise(model.layers[1], h)[0], rng.choice([-1.0, 1.0])))
    loss = total(hinges) * (1 / samples) + 1e-4 * losses.l2(model.parameters())
    return compile(loss, parameters=model.parameters())


def program_with_inputs():
    model = MLP(3, [4, 1], rng=random.Random(0))
    x, y = [Value(0.5) for _ in range(3)], Value(1.0)
    return compile(losses.squared_error(model(x), y), [x, y], model.parameters())


@pytest.fixture(scope="module")
def program():
    return moons_program()


def dots(path):
    """How many dashes the strokes of a field have."""
    dash, gap = map(float, path.get("stroke-dasharray").split())
    lengths = re.findall(r"h([\d.]+)", path.get("d"))
    return sum(round((float(length) + 0.25 * (dash + gap)) / (dash + gap)) for length in lengths)


def fields(svg):
    """(label, what stands below it, dots) of every field of a collapse, from top to bottom."""
    root = Picture(svg).root
    strokes = [e for e in root.iter(f"{NAMESPACE}path") if e.get("stroke") is not None]
    labels = [e.text for e in root.iter(f"{NAMESPACE}text") if e.get("text-anchor") == "middle"]
    pairs = zip(labels[::2], labels[1::2], strict=True)
    return [(*pair, dots(s)) for pair, s in zip(pairs, strokes, strict=True)]


def computed(stage):
    return [box for box in stage.boxes if box.label not in ("constants", "parameters", "inputs")]


# ---------------------------------------------------------------- graphs of boxes
@pytest.mark.parametrize("make", [moons_program, program_with_inputs])
def test_a_program_is_drawn_step_by_step(make):
    program = make()
    last = program.stages[-1]
    drawing = draw(program)
    picture = Picture(drawing.svg)
    inputs = [box for box in last.boxes if box.label == "inputs"]
    assert len(picture.nodes) == len(computed(last)) + len(inputs)
    for number, box in enumerate(last.boxes):
        if box.label in ("constants", "parameters"):
            assert f"n{number}" not in picture.nodes
            continue
        words = picture.words(picture.nodes[f"n{number}"])
        assert words.startswith(" ".join([box.label, " × ".join(map(str, box.shape))]).strip())
        assert f"{box.nodes:,} scalar node" in words
        for kind in ("constants", "parameters"):
            reads = any(last.boxes[a].label == kind for a, b in last.edges if b == number)
            assert (kind in words) == reads
    drawn = [edge.find(f"{NAMESPACE}title").text for edge in picture.edges.values()]
    hidden = {i for i, box in enumerate(last.boxes) if box.label in ("constants", "parameters")}
    assert sorted(drawn) == sorted(f"n{a}->n{b}" for a, b in last.edges if a not in hidden)
    assert drawing.tree == str(program)


def test_a_step_shows_the_lines_it_runs_as(program):
    picture = Picture(draw(program).svg)
    text = [" ".join(picture.texts(node)) for node in picture.nodes.values()]
    assert any("matmul(W1, " in words and "b1" in words for words in text)
    assert not any("object at" in words for words in text)
    source = " ".join(compile_lines(program))
    for node in picture.nodes.values():
        for line in picture.texts(node):
            assert "(" not in line or line in source


def compile_lines(program):
    """The source of the arrays, whatever form the program runs in."""
    return [line.strip() for line in program._compiled(False).source.splitlines()]


def test_every_stage_is_drawn(program):
    for stage in program.stages:
        picture = Picture(draw(stage).svg)
        assert len(picture.nodes) == len(computed(stage))
        assert str(stage) in picture.words()
        lines = draw(stage).tree.splitlines()
        assert len(lines) == 1 + len(stage.boxes)
        for line, box in zip(lines[1:], stage.boxes, strict=True):
            assert box.label in line and f"{box.nodes:,}" in line
    first = draw(program.stages[0])  # operations that use each other: cycles
    assert "n2 -> n3" in first.source and "n3 -> n2" in first.source


def test_direction_and_format_of_programs(program):
    assert draw(program).graph_attr["rankdir"] == "TB"
    drawing = draw(program, rankdir="LR", format="png")
    assert drawing.graph_attr["rankdir"] == "LR" and drawing.pipe()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="'sideways'"):
        draw(program, rankdir="sideways")


def test_too_many_boxes_are_refused(program):
    with pytest.raises(ValueError, match="more than 5: .*program.stages.*max_nodes="):
        draw(program, max_nodes=5)


def test_what_is_neither_value_nor_program():
    with pytest.raises(TypeError, match=r"draw takes a Value or several, got 3\.0"):
        draw(3.0)
    model = MLP(2, [1])
    with pytest.raises(TypeError, match=r"got MLP of .*: draw_network\(model\) draws one"):
        draw(model)
    assert len(Picture(draw((Value(1.0), Value(2.0))).svg).nodes) == 2


def test_a_compiled_function_is_drawn_as_the_first_path_taken():
    w = Value(2.0, label="w")
    traced = compile(lambda x: x.tanh() * w if x > 0 else x.exp())
    with pytest.raises(ValueError, match="call it once"):
        draw(traced)
    traced([1.0, -1.0])
    drawing = draw(traced, rankdir="LR")
    assert drawing.tree == draw(traced.programs[0]).tree and "tanh" in drawing.tree
    assert drawing.graph_attr["rankdir"] == "LR"


# ---------------------------------------------------------------- the collapse
def test_a_dot_for_every_scalar_node(program):
    collapse = draw(program.stages)
    assert isinstance(collapse, Collapse)
    found = fields(collapse.svg)
    boxes = [box for stage in program.stages for box in computed(stage)]
    assert [(label, count) for label, _, count in found] == [(b.label, b.nodes) for b in boxes]
    for (_, below, _), box in zip(found, boxes, strict=True):
        assert below == (" × ".join(map(str, box.shape)) or f"{box.nodes:,}")
    words = Picture(collapse.svg).words()
    steps = len(computed(program.stages[-1]))
    nodes = program.stages[0].nodes
    assert f"{nodes:,} scalar nodes collapse into {steps} steps" in words
    assert "each dot is one scalar node" in words
    assert all(stage.name in words for stage in program.stages)


def test_the_collapse_stays_inside_the_card(program):
    large = Stages([Stage("record", 3 * 10**6, (Box("*", 10**6), Box("+", 2 * 10**6)), ())])
    tall = Stages([Stage("lay out", 50_000, (Box("dot", 50_000, (50_000, 1)),), ())])
    deep = Stages([Stage("lay out", 24, (Box("dot", 24, (2, 3, 4)),), ())])
    one = Stages([Stage("record", 1, (Box("exp", 1),), ())])
    for stages in (program.stages, program_with_inputs().stages, large, tall, deep, one):
        root = Picture(draw(stages).svg).root
        _, _, width, height = map(float, root.get("viewBox").split())
        for path in root.iter(f"{NAMESPACE}path"):
            if path.get("stroke") is None:
                continue
            for x, y, length in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)", path.get("d")):
                assert 190 <= float(x) and float(x) + float(length) <= width - 8
                assert 0 < float(y) < height
        for text in root.iter(f"{NAMESPACE}text"):
            assert 0 < float(text.get("y")) < height


def test_matrices_have_their_shapes(program):
    last = program.stages[-1]
    root = Picture(draw(program.stages).svg).root
    strokes = [e for e in root.iter(f"{NAMESPACE}path") if e.get("stroke") is not None]
    for box, path in zip(computed(last), strokes[-len(computed(last)) :], strict=True):
        rows = path.get("d").count("M")
        assert rows == (box.shape[-2] if len(box.shape) > 1 else 1)


def test_batches_of_matrices_stand_apart():
    stages = Stages([Stage("lay out", 24, (Box("dot", 24, (2, 3, 4)),), ())])
    (path,) = [
        e for e in Picture(draw(stages).svg).root.iter(f"{NAMESPACE}path") if e.get("stroke")
    ]
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h", path.get("d"))]
    gaps = [b - a for a, b in pairwise(heights)]
    assert len(heights) == 6 and gaps[2] == pytest.approx(2 * gaps[0])


def test_masked_matrices_share_their_dots():
    svg = draw(Stages([Stage("lay out", 40, (Box("dot", 40, (4, 4, 4)),), ())])).svg
    (path,) = [e for e in Picture(svg).root.iter(f"{NAMESPACE}path") if e.get("stroke")]
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h", path.get("d"))]
    gaps = [b - a for a, b in pairwise(heights)]
    assert dots(path) == 40 and len(heights) == 4 * 3  # ten dots each: rows of 4, 4 and 2
    assert [gap > 1.5 * min(gaps) for gap in gaps].count(True) == 3


def test_what_does_not_collapse_is_said():
    x = Value(0.5)
    words = Picture(draw(compile((x * x).sin()).stages).svg).words()
    assert "2 scalar nodes remain 2 steps" in words and "; 1 parameter " in words


def test_very_many_nodes_are_areas():
    boxes = (Box("*", 600_000), Box("+", 300_000))
    svg = draw(Stages([Stage("record", 900_000, boxes, ())])).svg
    assert "areas are to scale" in svg and "dasharray" not in svg and len(svg) < 100_000
    areas = []
    for path in Picture(svg).root.iter(f"{NAMESPACE}path"):
        lengths = re.findall(r"h([\d.]+)", path.get("d"))
        areas.append(float(path.get("stroke-width")) * sum(map(float, lengths)))
    assert areas[0] / areas[1] == pytest.approx(2.0, rel=0.02)


def test_very_many_boxes_are_counted():
    boxes = tuple(Box("dot", 1 + i % 60, (1 + i % 60,)) for i in range(300))
    stages = Stages([Stage("lay out", sum(box.nodes for box in boxes), boxes, ())])
    found = fields(draw(stages).svg)
    assert len(found) == 48 and found[-1][0] == "253 more"
    assert sum(count for *_, count in found) == stages[0].nodes


def test_operations_with_strange_names_stay_text():
    label = '<script>"&\\'
    stage = Stage("record", 2, (Box(label, 2),), ())
    for svg in (draw(stage).svg, draw(Stages([stage])).svg):
        picture = Picture(svg)
        assert "script" not in picture.tags()
        assert label in picture.words()


def test_saved_as_svg_only(program, tmp_path):
    path = draw(program.stages).save(tmp_path / "collapse.svg")
    assert Path(path).read_text() == draw(program.stages).svg
    with pytest.raises(ValueError, match=r"\.svg, got 'collapse\.png'"):
        draw(program.stages).save(tmp_path / "collapse.png")


def test_no_stages():
    with pytest.raises(ValueError, match="no stages"):
        draw(Stages([]))


# ---------------------------------------------------------------- notebooks
def test_programs_and_stages_show_themselves(program):
    for shown in (program, program.stages[0], program.stages):
        bundle = shown._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html", "image/svg+xml"}
        assert bundle["image/svg+xml"] == draw(shown).svg
        assert bundle["text/plain"].startswith(repr(draw(shown))[:40])


def test_the_collapse_needs_no_graphviz(program, monkeypatch, tmp_path):
    use_engine(None, monkeypatch, tmp_path)
    assert "image/svg+xml" in program.stages._repr_mimebundle_()
    assert set(program._repr_mimebundle_()) == {"text/plain"}


def test_a_program_too_large_to_draw_is_shown_as_text():
    stage = Stage("lay out", 300, tuple(Box("dot", 1) for _ in range(300)), ())
    bundle = stage._repr_mimebundle_()
    assert set(bundle) == {"text/plain"} and "more than 200" in bundle["text/plain"]


def test_compiling_does_not_import_graphviz():
    code = (
        "import sys; from micrograd_scratch import Value, compile\n"
        "x = Value(2.0)\n"
        "program = compile(x * x); print(program, program.stages)\n"
        "assert 'graphviz' not in sys.modules\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("background", ["#ffffff", "#0d1117"])
def test_screenshot_of_programs(background, program, tmp_path):
    """What a browser paints. Set PICTURES to a folder to keep the images."""
    Image = pytest.importorskip("PIL.Image")
    shown = (program.stages, program, program.stages[1])
    outputs = [each._repr_mimebundle_()["text/html"] for each in shown]
    page = tmp_path / "page.html"
    page.write_text(f'<body style="background:{background}">{"<br>".join(outputs)}')
    image = Path(os.environ.get("PICTURES", tmp_path)) / f"program-{background[1:]}.png"
    screenshot(page, image, (900, 2200))
    painted = Image.open(image).convert("RGB")
    colors = {f"#{bytes(color).hex()}" for _, color in painted.getcolors(1 << 24)}
    assert {background, "#fbfbf9", "#f1f2f4"} <= colors  # page, card, panels
