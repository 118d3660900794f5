"""From Graphviz source to pictures: text stays text, every engine, files, and notebooks."""

import base64
import html
import inspect
import os
import re
import subprocess
import sys

import graphviz
import pytest
from graphviz.quoting import quote
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import ENGINES, Picture, use_engine

from micrograd_scratch import Value, animate, draw, explain
from micrograd_scratch.rendering import (
    ADVICE,
    Drawing,
    NoLayoutEngine,
    cell_text,
    label_text,
    layout_engine,
    printable,
)

NASTY = [
    '"', "'", "\\", "\\\\", '\\"', "\\N", "\\G", "\\n", "\\l", "a\\", "{b}|<c>", "<b>x</b>",
    "<", ">", "<>", "<<TABLE></TABLE>>", "<script>alert(1)</script>", "&", "&lt;b&gt;", "&amp;lt;",
    "&#60;", "&nbsp;", "]]>", "<!-- x -->", "-->", "a\nb", "\n", "\r\n", "a\tb", "a\x00b", "\x00",
    "\x7f\x1b[0m", "\ud800", "\ufffe", "\u202eevil", "\u2028", "∂L/∂w", "naïve", "损失", "🧠",
    "👩\u200d🔬", "% {} $x$", "node", "digraph { a }", "x; } digraph {", "-4.2", 'onload="x"',
    "javascript:alert(1)", "=cmd", "http://example.org/", " lead", "trail ", "/*", "//", "#",
    "strict", "x" * 5000, "a" + "\n" * 99,
]  # fmt: skip


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch, tmp_path):
    use_engine(request.param, monkeypatch, tmp_path)
    return request.param


def check_labels(labels):
    """A graph with these labels: parsed, every label is the text of its node and nothing more."""
    leaves = [Value(1.0, label=label) for label in labels]
    drawing = draw(sum(leaves, Value(0.0)), max_nodes=1000, legend=False)
    picture = Picture(drawing.svg)
    assert picture.tags() <= {"svg", "g", "title", "polygon", "path", "text"}
    for element in picture.root.iter():
        assert not any(
            "href" in attribute or attribute.startswith("on") for attribute in element.attrib
        )
    names = [picture.texts(node)[0] for node in picture.nodes.values()]
    shown = sorted(" ".join(name.split()) for name in names if name not in ("+", "data 0"))
    assert shown == sorted(" ".join(printable(label).split()) for label in labels)
    assert len(picture.nodes) == 2 * len(labels) + 1


def test_labels_are_text(engine):
    check_labels(NASTY)


@settings(max_examples=15)
@given(
    st.lists(
        st.text(min_size=1, max_size=30).filter(lambda label: label.strip() not in ("", "+")),
        min_size=20,
        max_size=40,
    )
)
def test_any_labels_are_text(labels):
    check_labels(labels)


@pytest.mark.parametrize("label", NASTY)
def test_labels_are_text_in_notes_and_notebooks(label):
    x = Value(2.0, label=label)
    explanation = explain(x * x, x)
    words = Picture(explanation.svg).words()
    name = printable(label, 30)
    assert " ".join(f"/ d {name} = 4".split()) in words
    shown = explanation._repr_mimebundle_()["text/html"]
    assert html.escape(f"/ d {name} = 4") in shown
    assert set(re.findall(r"<(\w+)", shown)) == {"pre", "img"}
    still = animate(x * x).svg
    assert Picture(still).tags() <= {
        "svg",
        "style",
        "rect",
        "g",
        "title",
        "polygon",
        "path",
        "text",
    }


def test_other_formats_hold_the_same_text(engine, tmp_path):
    x = sum((Value(1.0, label=label) for label in NASTY), Value(0.0))
    drawing = draw(x, max_nodes=1000)
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for suffix, start in starts.items():
        path = tmp_path / f"picture.{suffix}"
        drawing.save(path)
        assert path.read_bytes().startswith(start)


def test_printable():
    assert printable("a\nb\x00\ud800\u202e") == r"a\nb\x00\ud800\u202e"
    assert printable("👩\u200d🔬 naïve") == "👩\u200d🔬 naïve"
    assert printable(3.5) == "3.5"
    long = printable("".join(map(str, range(1000))), longest=40)
    assert len(long) == 40 and long.startswith("0123456789") and long.endswith("999")
    assert "..." in long
    assert label_text("<b>", "&\\N") == "<b>\\n&amp;\\\\N"
    assert quote(label_text("<b>")) == '"<b>"'  # not markup to Graphviz
    assert cell_text("<&\\N") == "&lt;&amp;\\\\N"


# ---------------------------------------------------------------- engines
def test_layout_engines(monkeypatch, tmp_path):
    use_engine("pygraphviz", monkeypatch, tmp_path)
    assert layout_engine() == "pygraphviz"
    monkeypatch.setattr("micrograd_scratch.rendering.metadata.version", lambda name: "1.14")
    assert layout_engine() is None
    monkeypatch.setattr("micrograd_scratch.rendering.metadata.version", lambda name: "10.0")
    assert layout_engine() == "pygraphviz"


def test_without_an_engine_there_is_a_tree_and_one_line(monkeypatch, tmp_path):
    use_engine(None, monkeypatch, tmp_path)
    x = Value(3.0, label="x")
    for shown in (draw(x * x), explain(x * x, x), animate(x * x)):
        bundle = shown._repr_mimebundle_()
        assert set(bundle) == {"text/plain"}
    drawing = draw(x * x)
    *tree, line = drawing._repr_mimebundle_()["text/plain"].splitlines()
    assert "\n".join(tree) == drawing.tree
    assert line == ADVICE and "pip install" in line
    assert repr(drawing).splitlines()[-1] == ADVICE
    assert repr(animate(x * x)).splitlines()[-1] == ADVICE
    assert drawing._repr_html_().startswith("<pre>")
    for suffix in ("svg", "png", "pdf"):
        with pytest.raises(NoLayoutEngine, match=r"neither dot nor pygraphviz >= 2.*pip install"):
            drawing.save(tmp_path / f"x.{suffix}")
        assert not (tmp_path / f"x.{suffix}").exists()
    with pytest.raises(graphviz.ExecutableNotFound):
        drawing.pipe("svg")
    assert os.path.exists(drawing.save(tmp_path / "x.dot"))


def test_notebook_display_never_raises(monkeypatch):
    x = Value(3.0, label="x")
    drawing = draw(x * x)

    def broken(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr(Drawing, "pipe", broken)
    bundle = drawing._repr_mimebundle_()
    assert set(bundle) == {"text/plain"}
    assert bundle["text/plain"].startswith(drawing.tree)
    assert bundle["text/plain"].endswith("(no picture: OSError: no more processes)")
    assert "no more processes" in drawing._repr_html_()
    bad = Drawing()
    bad.body.append("this is { not dot")
    monkeypatch.undo()
    assert "no picture" in bad._repr_mimebundle_()["text/plain"]


def test_what_people_write_into_values_does_not_break_the_display():
    x = Value(3.0)
    y = x * x
    x.data, x.grad, x.label = "three", None, 7
    words = Picture(draw(y)._repr_mimebundle_()["image/svg+xml"]).words()
    assert "7 data three grad None" in words


# ---------------------------------------------------------------- notebooks
def test_notebook_bundle(engine):
    x = Value(3.0, label="x")
    drawing = draw(x * x)
    bundle = drawing._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/svg+xml"}
    assert bundle["text/plain"] == drawing.tree
    assert set(re.findall(r"<(\w+)", bundle["text/html"])) == {"img"}
    data = re.search(r'src="data:image/svg\+xml;base64,([^"]*)"', bundle["text/html"]).group(1)
    assert base64.b64decode(data).decode() == bundle["image/svg+xml"]
    picture = Picture(bundle["image/svg+xml"])
    assert len(picture.nodes) == 2 and len(picture.edges) == 2
    # nothing that scripts, and no style that a viewer could strip
    assert not picture.tags() & {"script", "style", "a", "foreignObject", "image"}
    card = picture.root.find(".//{http://www.w3.org/2000/svg}polygon")
    assert card.get("fill") == "#fbfbf9"  # opaque: dark text can be read in a dark notebook


def test_wide_pictures_scroll_rather_than_shrink():
    x = Value(1.0)
    assert "max-width:100%" in draw(x)._repr_mimebundle_()["text/html"]
    for _ in range(30):
        x = x.tanh()
    wide = draw(x)._repr_mimebundle_()["text/html"]
    assert wide.startswith('<div style="overflow-x:auto"><img') and "max-width:none" in wide


def test_notebook_bundle_as_asked_for():
    x = Value(3.0)
    drawing = draw(x * x)
    assert set(drawing._repr_mimebundle_(include=["image/svg+xml"])) == {"image/svg+xml"}
    assert set(drawing._repr_mimebundle_(exclude=["text/html"])) == {"text/plain", "image/svg+xml"}
    png = drawing._repr_mimebundle_(include=["image/png"])
    assert set(png) == {"image/png"} and png["image/png"].startswith(b"\x89PNG")
    assert drawing._repr_mimebundle_(include=[]) == {}


# ---------------------------------------------------------------- Digraph and files
def test_a_drawing_is_a_digraph():
    assert issubclass(Drawing, graphviz.Digraph)
    assert inspect.signature(Drawing) == inspect.signature(graphviz.Digraph)
    drawing = Drawing("name", node_attr={"shape": "box"}, format="png")
    drawing.node("a")
    drawing.edge("a", "b")
    assert str(drawing) == drawing.source
    assert "a -> b" in drawing.source
    assert repr(drawing) == drawing.source
    assert drawing.pipe().startswith(b"\x89PNG")
    assert isinstance(drawing.pipe("svg", encoding="utf-8"), str)
    twin = draw(Value(1.0)).copy()
    assert isinstance(twin, Drawing) and twin.tree


@pytest.mark.parametrize("name", ["y.jpg", "y.GIF", "y.eps"])
def test_pictures_of_other_kinds_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"is no \.svg, \.png or \.pdf"):
        draw(Value(1.0)).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_arguments_of_save_render_and_pipe_are_those_of_graphviz():
    for name in ("save", "render", "copy"):
        ours = inspect.signature(getattr(Drawing, name)).parameters
        theirs = inspect.signature(getattr(graphviz.Digraph, name)).parameters
        assert list(ours) == list(theirs)


def test_render_still_renders(tmp_path):
    drawing = draw(Value(1.0))
    if layout_engine() != "dot":
        pytest.skip("render() is graphviz's own: it needs dot")
    assert drawing.render(tmp_path / "a.gv", format="png") == str(tmp_path / "a.gv.png")
    assert (tmp_path / "a.gv").read_text() == drawing.source
    # the source that render() keeps is source whatever it is called
    assert drawing.render(tmp_path / "c.svg", format="png") == str(tmp_path / "c.svg.png")
    assert (tmp_path / "c.svg").read_text() == drawing.source
    drawing.render(outfile=tmp_path / "b.svg")
    assert "<svg" in (tmp_path / "b.svg").read_text()


def test_saving_by_suffix(engine, tmp_path):
    x = Value(3.0, label="x")
    drawing = draw(x * x)
    starts = {
        ".svg": b"<?xml",
        ".png": b"\x89PNG",
        ".pdf": b"%PDF",
        ".dot": b"digraph",
        ".SVG": b"<?xml",
    }
    for suffix, start in starts.items():
        path = tmp_path / "folder" / f"picture{suffix}"
        assert drawing.save(path) == str(path)
        assert path.read_bytes().startswith(start)
    assert drawing.save("picture.svg", directory=tmp_path) == str(tmp_path / "picture.svg")
    assert drawing.save(tmp_path / "source.gv") == str(tmp_path / "source.gv")
    assert (tmp_path / "source.gv").read_text() == drawing.source
    (tmp_path / "picture.svg").write_text("old")
    drawing.save(tmp_path / "picture.svg", skip_existing=True)
    assert (tmp_path / "picture.svg").read_text() == "old"
    assert not list(tmp_path.rglob(".*"))


def test_nothing_is_loaded_before_it_is_needed():
    code = (
        "import sys, micrograd_scratch; assert 'graphviz' not in sys.modules;"
        "from micrograd_scratch import draw, animate, explain, downstream, draw_network;"
        "assert callable(draw) and callable(animate) and callable(explain);"
        "assert 'graphviz' in sys.modules and 'pygraphviz' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
