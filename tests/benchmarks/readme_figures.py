"""The README's pictures and its table of measured speeds, made anew.

    python tests/benchmarks/readme_figures.py                   both pictures, notebooks/pictures/
    python tests/benchmarks/compiled_programs.py > measured.txt
    python tests/benchmarks/readme_figures.py measured.txt      the table, from that output

The table shows every figure that compiled_programs.py sets beside a target, how the scalars do, and
the machine it names; what misses its target is bold. Nothing is measured here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TREE = Path(__file__).parents[2]
sys.path.insert(0, str(TREE))  # this tree, installed or not
PICTURES = TREE / "notebooks" / "pictures"
START, END = "<!-- measured -->\n", "<!-- end of measured -->\n"
TARGET = re.compile(r"^(\S.*?) +(\S+) +(\S+)  (met|MISSED)$", re.MULTILINE)
NOTE = re.compile(r"^(\S.*?) +- +(\S+)$", re.MULTILINE)
SCALARS = re.compile(r"^garbage collector (\w+)\n((?:  .*\n)+)", re.MULTILINE)
NETWORK = re.compile(r"([\d-]+), (\d+) rows, (float\d\d)")
BY_HAND, BY_TORCH = "by hand", "PyTorch eager"
TASKS = {  # what compiled_programs.py calls a task -> what the README calls it
    "moons": "2-16-16-1 on 100 moons, unrolled elementwise: 65,077 nodes",
    "gpt, elementwise": "transformer, 7 tokens, elementwise: 53,698 nodes",
    "gpt, with dot": "the same, recorded with `dot`: 3,620 nodes",
}


def main() -> int:
    if len(sys.argv) > 1:
        measured = Path(sys.argv[1]).read_text(encoding="utf-8")
        readme = TREE / "README.md"
        before, rest = readme.read_text(encoding="utf-8").split(START)
        after = rest.split(END)[1]
        readme.write_text(before + START + tables(measured) + END + after, encoding="utf-8")
        return 0
    PICTURES.mkdir(exist_ok=True)
    for name, svg in {"collapse": collapse(), "backpropagation": backpropagation()}.items():
        (PICTURES / f"{name}.svg").write_text(svg + "\n", encoding="utf-8")
    return 0


# ---------------------------------------------------------------- pictures
def collapse() -> str:
    """The stages of the loss of 2-16-16-1 over 100 moons, written line by line as in micrograd."""
    import random

    from recordings import moons

    from micrograd_scratch import MLP, compile, data, draw

    X, labels = data.moons(100, noise=0.1, seed=1)
    model = MLP(2, [16, 16, 1], init="uniform", rng=random.Random(1337))
    loss = moons(model, X.tolist(), (2.0 * labels - 1.0).tolist())
    svg: str = draw(compile(loss, parameters=model.parameters()).stages).svg
    return svg


def backpropagation() -> str:
    """The README's first function at its point: values forward, then gradients back."""
    from micrograd_scratch import Value, animate, relu, sqrt

    a, b = Value(2.0, label="a"), Value(3.0, label="b")
    c = relu(a * b + 1)
    c.label = "c"
    f = c / a + sqrt(b * c)
    f.label = "f"
    return animate(f).svg.rstrip()


# ---------------------------------------------------------------- the table
def tables(measured: str) -> str:
    """Markdown: the machine, ratios task by task, and whatever else had a target."""
    machine, libraries, _ = measured.split("\n", 2)
    ratios: dict[str, dict[str, list[tuple[float, float]]]] = {}
    others, met = [], 0
    targets = TARGET.findall(measured)
    for what, target, figure, verdict in targets:
        met += verdict == "met"
        setting, _, ratio = what.rpartition(": ")
        contender = ratio.rpartition(" / ")[2]
        task = _task(setting)
        if task and contender in (BY_HAND, BY_TORCH):
            pairs = ratios.setdefault(task, {}).setdefault(contender, [])
            pairs.append((float(figure), float(target)))
        else:
            text = "not reached" if figure == "nan" else _short(float(figure))
            others.append((what, target, _bold(text, verdict != "met")))
    others += [(what, "", _short(float(figure))) for what, figure in NOTE.findall(measured)]
    for collector, rows in SCALARS.findall(measured):
        for name, ratio in re.findall(r"^  (.+?) / compiled +(\d+)$", rows, re.MULTILINE):
            what = f"moons: {name}, collector {collector} / compiled"
            others.append((what, "", _short(float(ratio))))
    lines = [
        f"Measured on {machine} with {libraries},",
        f"on one thread; {met} of {len(targets)} targets were met, and what misses its target is "
        "**bold**. Smaller is",
        "faster, except where scalars are divided by what they compile to. 10 us a call are taken",
        "off where sigmoid networks are divided by NumPy, as the target has it.",
        "",
        f"| compiled, divided by | {BY_HAND}, NumPy | target | {BY_TORCH} | target |",
        "|---|---:|---:|---:|---:|",
    ]
    for task, by in ratios.items():
        cells = [cell for name in (BY_HAND, BY_TORCH) for cell in _cells(by.get(name, []))]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    lines += ["", "| and | measured | target |", "|---|---:|---:|"]
    lines += [f"| {what} | {figure} | {target} |" for what, target, figure in others]
    return "\n".join(lines) + "\n"


def _task(setting: str) -> str:
    if network := NETWORK.fullmatch(setting):
        return f"{network[1]}, {network[3]}, at 1, 32, 256 rows"
    return TASKS.get(setting, "")


def _cells(pairs: list[tuple[float, float]]) -> tuple[str, str]:
    """The figures, and the target they share."""
    figures = ", ".join(_bold(f"{figure:.2f}", figure > target) for figure, target in pairs)
    return figures, f"{pairs[0][1]:g}" if pairs else ""


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100.0 else f"{figure:.3g}"


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


if __name__ == "__main__":
    sys.exit(main())
