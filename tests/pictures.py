"""Helpers for the tests of drawings: SVG files as data, machines without `dot`, and Chromium."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from micrograd_scratch.rendering import layout_engine

NAMESPACE = "{http://www.w3.org/2000/svg}"
ENGINES = ("dot", "pygraphviz")


class Picture:
    """What an SVG from Graphviz shows."""

    def __init__(self, svg: str) -> None:
        self.root = ElementTree.fromstring(svg)
        self.nodes = self.groups("node")  # id -> element
        self.edges = self.groups("edge")

    def groups(self, kind: str) -> dict[str, ElementTree.Element]:
        groups = [g for g in self.root.iter(f"{NAMESPACE}g") if g.get("class") == kind]
        named = {g.get("id"): g for g in groups}
        assert len(named) == len(groups)
        return named

    def texts(self, element: ElementTree.Element) -> list[str]:
        found = ["".join(text.itertext()) for text in element.iter(f"{NAMESPACE}text")]
        return [text.replace("\xa0", " ") for text in found]

    def words(self, element: ElementTree.Element | None = None) -> str:
        """All text, its runs joined."""
        texts = self.texts(self.root if element is None else element)
        return " ".join(" ".join(texts).split())

    def tags(self) -> set[str]:
        return {element.tag.removeprefix(NAMESPACE) for element in self.root.iter()}


def use_engine(name: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make this machine one with just that layout engine; skip if it has not got it."""
    if name == "dot":
        if shutil.which("dot") is None:
            pytest.skip("dot is not installed")
        return
    empty = tmp_path / "empty"
    empty.mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(empty))
    if name == "pygraphviz":
        if layout_engine() != "pygraphviz":
            pytest.skip("pygraphviz >= 2 is not installed")
    else:
        monkeypatch.setattr("micrograd_scratch.rendering.metadata.version", _no_version)


def _no_version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError

    raise PackageNotFoundError(name)


def screenshot(page: Path, image: Path, size: tuple[int, int], *flags: str) -> None:
    """What Chromium shows of a page, as a PNG file; skip where there is none."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={size[0]},{size[1]}",
            f"--screenshot={image}",
            *flags,
            page.as_uri(),
        ]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
