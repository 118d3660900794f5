"""Animated backpropagation: what shows when, that it stands by itself, and the still picture."""

import os
import random
import re
from pathlib import Path

import pytest
from pictures import ENGINES, NAMESPACE, Picture, screenshot, use_engine

from micrograd_scratch import MLP, Value, animate, draw, where
from micrograd_scratch.engine import topological_order


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch, tmp_path):
    use_engine(request.param, monkeypatch, tmp_path)
    return request.param


def example():
    a, b, c = Value(2.0, label="a"), Value(-3.0, label="b"), Value(10.0, label="c")
    d = a * b + c
    d.label = "d"
    result = (d * 0.1 + a).tanh()
    result.label = "L"
    return result, a, b, c


def classes(element):
    """The classes of an element's texts, by what they say; "" for what always shows."""
    return {
        "".join(text.itertext()).split()[0]: text.get("class", "")
        for text in element.iter(f"{NAMESPACE}text")
    }


def test_steps_in_text():
    result, *_ = example()
    assert repr(animate(result)).splitlines() == [
        "forward: *(a, b) = -6",
        "forward: d = +(*, c) = 4",
        "forward: *(d, 0.1) = 0.4",
        "forward: +(*, a) = 2.4",
        "forward: L = tanh(+) = 0.9837",
        "back: d L / d L = 1",
        "back through L: grad of + += 1 * 0.03238",
        "back through +: grad of * += 0.03238 * 1, grad of a += 0.03238 * 1",
        "back through *: grad of d += 0.03238 * 0.1",
        "back through d: grad of * += 0.003238 * 1, grad of c += 0.003238 * 1",
        "back through *: grad of a += 0.003238 * -3, grad of b += 0.003238 * 2",
    ]


def test_what_appears_when(engine):
    result, *_ = example()
    picture = Picture(animate(result).svg)
    shown = {picture.words(node).split()[0]: classes(node) for node in picture.nodes.values()}
    operations = len([node for node in topological_order(result) if node.parents])
    assert shown["a"]["data"] == ""  # leaves have their numbers from the start
    assert shown["d"]["data"] == "on2" and shown["L"]["data"] == "on5"
    # a gradient appears when the last operation that uses the node has passed its share on
    assert shown["L"]["grad"] == f"on{operations + 1}"
    assert shown["a"]["grad"] == shown["b"]["grad"] == f"on{operations + 6}"
    assert shown["c"]["grad"] == f"on{operations + 5}"
    # and the local derivative on an edge when the gradient passes it
    labels = {picture.words(edge): classes(edge) for edge in picture.edges.values()}
    assert labels["-3"] == {"-3": "on11"} and labels["0.1"] == {"0.1": "on9"}


@pytest.mark.parametrize("seed", range(3))
def test_every_number_appears_after_what_it_is_computed_from(seed):
    model = MLP(2, [2, 1], activation="tanh", rng=random.Random(seed))
    loss = (model([Value(0.5), Value(-1.0)]) - 1.0) ** 2
    animation = animate(loss)
    picture, known = animation._picture, animation._picture.data_step
    nodes = topological_order(loss)
    for node in nodes:
        for p in node.parents:
            assert known.get(p, 0) < known[node]
            if p in picture.grad_step and p is not node:
                assert picture.grad_step[p] > picture.grad_step[node]
    loss.backward()
    for node in nodes:
        if node in picture.grad_step:
            assert picture.grad_of(node) == node.grad


def test_gradients_are_its_own():
    result, a, *_ = example()
    a.grad, result.grad = 123456.0, 0.0
    words = Picture(animate(result).svg).words()
    assert "1.235e+05" not in words and "not run" not in words
    assert a.grad == 123456.0 and result.grad == 0.0


def test_what_no_gradient_reaches():
    x = Value(2.0, label="x")
    y = where(x > 0, x * 3.0, x * 5.0)
    animation = animate(y)
    assert len(animation.steps) == 4 + 1 + 2  # back through where and the branch taken
    picture = Picture(animation.svg)
    assert len(picture.nodes) == len(topological_order(y))


def test_it_stands_by_itself(engine):
    result, *_ = example()
    svg = animate(result).svg
    picture = Picture(svg)
    assert picture.tags() <= {"svg", "style", "rect", "g", "title", "polygon", "path", "text"}
    assert not re.search(r"href|url\(|@import|<script|<\?xml-stylesheet|\bon\w+=", svg)
    assert svg.count('xmlns="') == 1
    sheet = picture.root.find(f"{NAMESPACE}style").text
    assert "@media print,(prefers-reduced-motion:reduce){*{animation:none!important}}" in sheet
    steps = len(animate(result).steps)
    used = {element.get("class") for element in picture.root.iter()} - {
        None,
        "graph",
        "node",
        "edge",
    }
    for name in used:
        kind, number = re.fullmatch(r"(on|off|at)(\d+)", name).groups()
        assert 1 <= int(number) <= steps
        assert f"@keyframes {name}{{" in sheet and f".{name}{{animation-name:{name}}}" in sheet


def test_without_motion_it_is_the_still_picture(engine):
    """What an unanimated viewer shows: no opacity but of what only moves."""
    result, *_ = example()
    moving = Picture(animate(result).svg)
    result.backward()
    still = Picture(draw(result, derivatives=True).svg)
    for element in moving.root.iter():
        hidden = element.get("opacity") == "0"
        assert hidden == (element.get("class") or "").startswith(("at", "off"))
    visible = [
        "".join(text.itertext())
        for text in moving.root.iter(f"{NAMESPACE}text")
        if text.get("opacity") != "0"
    ]
    assert sorted(visible) == sorted(still.texts(still.root))


def test_arguments(tmp_path):
    x = Value(1.0, label="x")
    for _ in range(100):
        x = x * 0.9
    with pytest.raises(ValueError, match="more than 60 nodes.*max_nodes="):
        animate(x)
    assert len(animate(x, max_nodes=300).steps) == 201
    with pytest.raises(ValueError, match="seconds must be more than 0, got 0"):
        animate(x, seconds=0, max_nodes=300)
    with pytest.raises(TypeError, match=r"animate takes a Value, got \[Value"):
        animate([x])
    with pytest.raises(ValueError, match="a Constant has no history"):
        animate((x * 2.0).parents[1])
    with pytest.raises(ValueError, match=r"saved as \.svg, got 'x\.png'"):
        animate(x, max_nodes=300).save(tmp_path / "x.png")


def test_saving_and_seconds(tmp_path):
    result, *_ = example()
    path = animate(result, seconds=2.0).save(tmp_path / "folder" / "moving.svg")
    svg = Path(path).read_text()
    assert f"animation:{12 * 2.0 + 3.0:g}s linear infinite" in svg
    assert len(Picture(svg).nodes) == len(topological_order(result))


def test_long_captions_fit():
    moving = animate(MLP(6, [1], "tanh", rng=random.Random(1))([0.1] * 6))
    assert max(map(len, moving.steps)) > 100
    _, _, width, _ = map(float, Picture(moving.svg).root.get("viewBox").split())
    assert width > 10 + 5.5 * max(map(len, moving.steps))  # Helvetica's letters are 5.3 wide


def test_notebooks_show_an_image():
    result, *_ = example()
    bundle = animate(result)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/svg+xml"}
    assert bundle["text/html"].startswith("<img ")


def test_leaf():
    animation = animate(Value(3.0, label="x"))
    assert animation.steps == ["back: d x / d x = 1"]
    assert "data 3" in Picture(animation.svg).words()


@pytest.mark.slow
def test_screenshots_of_the_motion(tmp_path):
    """Frames of the animation in an <img>, and the frame for those who want no motion.

    Set PICTURES to a folder to keep the images.
    """
    Image = pytest.importorskip("PIL.Image")
    result, *_ = example()
    svg = animate(result).svg
    folder = Path(os.environ.get("PICTURES", tmp_path))

    def frame(name, style, *flags):
        (tmp_path / f"{name}.svg").write_text(svg.replace("</style>", f"{style}</style>"))
        page = tmp_path / f"{name}.html"
        page.write_text(f'<body style="background:#111"><img src="{name}.svg">')
        screenshot(page, folder / f"animation-{name}.png", (1300, 420), *flags)
        return Image.open(folder / f"animation-{name}.png").convert("RGB")

    def painted(image):
        return {color: count for count, color in image.getcolors(1 << 24)}

    at = "*{animation-delay:-%ss!important;animation-play-state:paused!important}"
    start = frame("start", at % 0.1)
    middle = frame("middle", at % 4.0)
    back = frame("back", at % 7.6)
    end = frame("end", at % (12 * 0.9 + 1.0))
    still = frame("still", "", "--force-prefers-reduced-motion")
    blue, red, strong = (0x1D, 0x4E, 0xD8), (0xB9, 0x1C, 0x1C), (0x6F, 0xB1, 0xF7)
    assert blue not in painted(start) and red not in painted(start)
    assert blue in painted(middle) and red not in painted(middle)
    assert red in painted(back) and blue not in painted(back)
    assert red not in painted(end) and painted(end)[strong] > painted(start)[strong]
    assert end.tobytes() == still.tobytes()
