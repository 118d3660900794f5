"""From Graphviz source to pictures: `Drawing` shows and saves itself, whatever is installed.

A picture is made by the first layout engine that is there: the program `dot` on the PATH, or
pygraphviz 2 and later, whose wheels carry Graphviz as a library. Without either a drawing still
shows its text tree and one line that says how to get pictures. Text becomes a label only through
`label_text` and `cell_text`, which keep it text. What is drawn, drawing.py and its neighbors say.
"""

from __future__ import annotations

import base64
import html
import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import graphviz  # type: ignore[import-untyped]

from .files import write_whole

BACKGROUND = "#fbfbf9"  # opaque, so that dark text can be read in light and in dark notebooks
_OTHER_PICTURES = {".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ps", ".eps"}
ADVICE = "(for pictures: pip install 'micrograd_scratch[draw]', or install Graphviz's dot)"
PICTURES = {".svg": "svg", ".png": "png", ".pdf": "pdf"}
_LONGEST_LABEL, _LONGEST_CELL = 60, 200
_WIDEST_SHRUNK = 1000.0  # points; text could not be read if wider pictures were shrunk to a page


class NoLayoutEngine(graphviz.ExecutableNotFound):  # type: ignore[misc]
    """Neither `dot` nor pygraphviz is there to make a picture."""

    def __init__(self) -> None:
        RuntimeError.__init__(self, f"found neither dot nor pygraphviz >= 2 {ADVICE}")


class Drawing(graphviz.Digraph):  # type: ignore[misc]
    """A `graphviz.Digraph` that shows itself: as a picture in notebooks, as text in terminals.

    Everything a Digraph does it does too, with the same arguments; `str()` is the DOT source.

    tree  the drawing as text, which is also its `repr`
    """

    tree: str = ""

    def pipe(self, format: str | None = None, *arguments: Any, **options: Any) -> Any:
        """The picture's bytes (or text, with `encoding=`), as `graphviz.Digraph.pipe`.

        NoLayoutEngine, a graphviz.ExecutableNotFound, if there is nothing to make it with.
        """
        if shutil.which("dot") is not None:
            return super().pipe(format, *arguments, **options)
        engine = self.graph_attr.get("layout") or options.get("engine") or self.engine
        picture = render_with_library(self.source, format or self.format, engine)
        encoding = options.get("encoding")
        return picture.decode(encoding) if encoding else picture

    def save(
        self,
        filename: os.PathLike[str] | str | None = None,
        directory: os.PathLike[str] | str | None = None,
        *,
        skip_existing: bool | None = False,
    ) -> str:
        """Write a picture if the name ends in .svg, .png or .pdf, and the DOT source otherwise.

        ValueError for the suffix of another kind of picture.
        The file appears complete or not at all. Arguments and answer, the path, are those of
        `graphviz.Digraph.save`, which writes source under any name; `render()` and `view()`,
        which call it with `skip_existing=None` to write the source they render, still get that.
        """
        suffix = Path(filename or self.filename).suffix.lower()
        if suffix in _OTHER_PICTURES:
            raise ValueError(f"{filename} is no .svg, .png or .pdf, in which drawings are saved")
        if skip_existing is None or (suffix not in PICTURES and suffix != ".dot"):
            return super().save(filename, directory=directory, skip_existing=skip_existing)
        path = Path(self.directory if directory is None else directory, filename or self.filename)
        if not (skip_existing and path.exists()):
            as_picture = suffix in PICTURES
            content = self.pipe(PICTURES[suffix]) if as_picture else self.source.encode("utf-8")
            write_whole(path, content)
        return str(path)

    def copy(self) -> Drawing:
        twin: Drawing = super().copy()
        twin.tree = self.tree
        return twin

    @property
    def svg(self) -> str:
        """The picture as the text of an SVG file."""
        return str(self.pipe("svg", encoding="utf-8"))

    def __repr__(self) -> str:
        return (self.tree or self.source) + ("" if layout_engine() else f"\n{ADVICE}")

    def _repr_mimebundle_(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None, **_: Any
    ) -> dict[str, Any]:
        return mimebundle(self, include, exclude)

    def _repr_html_(self) -> str:
        bundle = mimebundle(self)
        return str(bundle.get("text/html") or f"<pre>{html.escape(bundle['text/plain'])}</pre>")


class StandalonePicture:
    """An SVG that is made without `graphviz.Digraph`; it shows itself, its `repr` in terminals.

    needs_layout  whether `svg` is made with a layout engine
    """

    needs_layout = True

    @property
    def svg(self) -> str:
        """The SVG file's text."""
        raise NotImplementedError

    def save(self, filename: os.PathLike[str] | str) -> str:
        """Write the .svg file, complete or not at all; its path. ValueError for another suffix."""
        path = Path(filename)
        if path.suffix.lower() != ".svg":
            kind = type(self).__name__.lower()
            raise ValueError(f"this picture ({kind}) is saved as .svg, got {path.name!r}")
        write_whole(path, self.svg.encode("utf-8"))
        return str(path)

    def _repr_mimebundle_(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None, **_: Any
    ) -> dict[str, Any]:
        return mimebundle(self, include, exclude)


def mimebundle(
    drawing: Any, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
) -> dict[str, Any]:
    """What a notebook shows of something with `svg`: HTML with an <img>, the SVG, text. No raise.

    The <img> is shown by notebooks that are not trusted, too, and runs no scripts. PNG and JPEG
    are made if `include` asks for them, as in graphviz.
    """
    shown = {"text/plain", "text/html", "image/svg+xml"} if include is None else set(include)
    shown -= set(exclude or ())
    bundle: dict[str, Any] = {}
    try:
        bundle["text/plain"] = repr(drawing)
        if layout_engine() is not None or not getattr(drawing, "needs_layout", True):
            bundle["image/svg+xml"] = svg = drawing.svg
            bundle["text/html"] = as_image(svg)
            for format in {"image/png", "image/jpeg"} & shown if hasattr(drawing, "pipe") else ():
                bundle[format] = drawing.pipe(format.removeprefix("image/"))
    except Exception as error:  # text is better than a traceback where a picture is expected
        problem = f"(no picture: {type(error).__name__}: {error})"
        bundle["text/plain"] = f"{bundle.get('text/plain', '')}\n{problem}".lstrip()
    return {format: content for format, content in bundle.items() if format in shown}


def as_image(svg: str) -> str:
    """An HTML <img> with the SVG inside: shrunk to the page, or to be scrolled if very wide."""
    data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    width = re.search(r'<svg width="([\d.]+)pt"', svg)
    wide = width is not None and float(width[1]) > _WIDEST_SHRUNK
    image = (
        f'<img alt="computation graph" style="max-width:{"none" if wide else "100%"}" '
        f'src="data:image/svg+xml;base64,{data}">'
    )
    return f'<div style="overflow-x:auto">{image}</div>' if wide else image


# ---------------------------------------------------------------- layout engines
def layout_engine() -> str | None:
    """What pictures are made with: "dot", "pygraphviz", or None."""
    if shutil.which("dot") is not None:
        return "dot"
    try:
        version = metadata.version("pygraphviz")
    except metadata.PackageNotFoundError:
        return None
    return "pygraphviz" if int(version.split(".")[0]) >= 2 else None  # 1.x calls dot itself


_one_at_a_time = threading.Lock()  # Graphviz's library keeps its state in globals


def render_with_library(source: str, format: str, engine: str) -> bytes:
    """The picture by pygraphviz's Graphviz, in this process; NoLayoutEngine without it."""
    if layout_engine() != "pygraphviz":
        raise NoLayoutEngine
    import pygraphviz

    with _one_at_a_time:
        return bytes(pygraphviz.AGraph(string=source).draw(format=format, prog=engine))


# ---------------------------------------------------------------- text
def printable(text: Any, longest: int = _LONGEST_LABEL) -> str:
    """One line of text that XML can hold: controls and surrogates as escapes, the middle cut out.

    Newlines, NULs, lone surrogates and the marks that reverse a line's direction are shown as
    Python writes them: \\n, \\x00, \\ud800, \\u202e.
    """
    line = "".join(c if _shows(c) else c.encode("unicode_escape").decode() for c in str(text))
    if len(line) <= longest:
        return line
    tail = longest // 3
    return f"{line[: longest - tail - 3]}...{line[-tail:]}"


def _shows(character: str) -> bool:
    joins = character == "\u200d"  # inside emoji
    return character.isprintable() or joins or unicodedata.category(character) == "Zs"


def label_text(*lines: Any) -> str:
    """Lines of any text as a Graphviz label, in which they stay text.

    Graphviz reads backslashes and entities (`&lt;`) in labels, and takes what stands in angle
    brackets for markup.
    """
    escaped = (printable(line).replace("\\", "\\\\").replace("&", "&amp;") for line in lines)
    return graphviz.nohtml("\\n".join(escaped))


def cell_text(text: Any) -> str:
    """Any text for use within an HTML-like label, where Graphviz reads backslashes, too."""
    return html.escape(printable(text, _LONGEST_CELL)).replace("\\", "\\\\")


def number_text(x: Any) -> str:
    """A number in four digits, whatever somebody wrote into `.data` or `.grad`."""
    try:
        return format(x, ".4g")
    except (TypeError, ValueError):
        return printable(x)
