"""Source: instructions and bound views become the text of a NumPy program.

`parameters(theta)`, `inputs(x0, ...)` and `gradients(g, ...)` name the views of what differs from
call to call; `buffers(u, v, gu, gv, rows, dtype)` names those of the numbers in between, makes the
temporaries, chooses functions by the kind of numbers, and returns `forward` and `backward`. Nothing
a user named is copied into the text but plain identifiers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .emit import Code
from .factor import FIRST_INPUT
from .memory import place_temporaries
from .rolling import Line, Rolling, repeats
from .steps import Step
from .writer import Instruction


def source_of(code: Code) -> tuple[str, dict[str, Any]]:
    """The program's source: four functions of bindings around `forward` and `backward`.

    Also the literals, index arrays and functions that it names.
    """
    forward = [line for step in code.forward for line in step]
    backward = [line for step in code.backward for line in step]
    temporaries = place_temporaries(forward, backward)
    comments = [_comment(step) for step in code.layout.steps]
    behind = [f"back through {what}" for what in ("the result", *reversed(comments))]
    bound = {function: code.bindings.get(function, []) for function in _ARGUMENTS}
    made = {f: [array.name for array, _ in pairs] for f, pairs in bound.items()}
    texts = {"forward": _lines(comments, code.forward), "backward": _lines(behind, code.backward)}
    texts |= {f: [f"{array.name} = {text}" for array, text in pairs] for f, pairs in bound.items()}
    for name, text in temporaries:
        made["buffers"].append(name)
        texts["buffers"].append(f"{name} = {text}")
    for line in forward + backward:
        if line.is_view:
            made["buffers"].append(line.out.name)
            texts["buffers"].append(line.text())
    rolling = Rolling()
    if repeats(comments):
        makers = dict.fromkeys(code.globals, "") | {name: f for f in made for name in made[f]}
        rolling, texts = _rolled(texts, makers)

    used = {word for line in forward + backward for word in _called(line.template)}
    chosen = [line for name, line in _CHOSEN.items() if name in used]
    used -= set(_CHOSEN)
    used |= {word for line in chosen for word in re.findall("multiply|matmul", line)}
    used |= {word for _, text in bound["buffers"] for word in _called(text)}
    imported = sorted(word for word in used | {"empty"} if hasattr(np, word))
    out = [f"from numpy import {', '.join([*imported, 'inf', 'nan'])}", ""]
    inputs = [f"x{i}" for i in range(len(code.layout.sizes) - FIRST_INPUT)]
    every = {"inputs": inputs, "gradients": ["g" + name for name in inputs]}
    # names of one family are one argument
    names = {f: list(dict.fromkeys(rolling.of(x.name) for x, _ in bound[f])) for f in bound}
    sizes = rolling.sizes()
    for function, arguments in _ARGUMENTS.items():
        out += [f"def {function}({', '.join([*arguments, *every.get(function, [])])}):"]
        out += [f"    {line}" for line in chosen if function == "buffers"]
        families = dict.fromkeys(map(rolling.of, made[function])) if sizes else ()
        out += [f"    {name} = [None] * {sizes[name]}" for name in families if name in sizes]
        out += [f"    {line}" for line in texts[function]]
        if function != "buffers":
            out += [f"    return ({''.join(name + ', ' for name in names[function])})", ""]
    passed = [*names["parameters"], *names["inputs"]]
    for function, arguments in (
        ("forward", passed),
        ("backward", [*passed, *names["gradients"], "seed"]),
    ):
        out += ["", f"    def {function}({', '.join(arguments)}):"]
        out += [f"        {line}" for line in texts[function]]
        out += ["        return"]
    out += ["", "    return forward, backward", ""]
    return "\n".join(out), rolling.collected(code.globals)


def _rolled(
    texts: dict[str, list[str]], makers: dict[str, str]
) -> tuple[Rolling, dict[str, list[str]]]:
    """All texts in loops; as they are if names of one family are made in two functions.

    makers  name -> the function that makes it
    """
    rolling = Rolling()
    rolled = {
        f: rolling.find([Line(code) for code in text], at_end=f == "forward")
        for f, text in texts.items()
    }
    where: dict[str, str] = {}
    for name, (family, _) in rolling.place.items():
        if name in makers and where.setdefault(family, makers[name]) != makers[name]:
            return Rolling(), texts
    return rolling, {f: [line.code for line in rolling.text(rolled[f])] for f in texts}


def _lines(comments: Sequence[str], steps: Sequence[Sequence[Instruction]]) -> list[str]:
    """The lines of every step, behind its comment."""
    out = []
    for comment, lines in zip(comments, steps, strict=True):
        if lines:
            out.append(f"# {comment}")
            out += [line.text() for line in lines if not line.is_view]
    return out


_ARGUMENTS = {
    "parameters": ["theta"],
    "inputs": [],
    "gradients": ["g"],
    "buffers": ["u", "v", "gu", "gv", "rows", "dtype"],
}
# what lines call that depends on the rows and the kind of numbers, or needs a word
_CHOSEN = {
    "outer": "outer = multiply if rows == 1 else matmul  # 60 us instead of 191 for 128 x 784",
    "feed": "feed = matmul if dtype.itemsize == 8 else turned_matmul",
    "layer": "# layer(dy, x, ones, row, dW, db, ...): dW = dy @ x and db = dy @ ones",
}


def _comment(step: Step) -> str:
    grid = " x ".join(map(str, step.nodes.shape))
    return f"{step.row.name}: {step.stands_for}, {grid}"


def _called(text: str) -> list[str]:
    """The functions that a line calls by name (not as methods)."""
    return re.findall(r"(?<![\w.])([A-Za-z_]\w*)(?=\(|\.reduce)", text)
