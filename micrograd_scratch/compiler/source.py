"""Source: instructions and bound views become the text of a NumPy program.

`parameters(theta)`, `inputs(x0, ...)` and `gradients(g, ...)` name the views of what differs from
call to call; `buffers(u, v, gu, gv, rows, dtype)` names those of the numbers in between, makes the
temporaries, chooses functions by the kind of numbers, and returns `forward` and `backward`. Nothing
a user named is copied into the text but plain identifiers.
"""

from __future__ import annotations

import re

import numpy as np

from .emit import Code
from .factor import FIRST_INPUT
from .layout import Step
from .memory import place_temporaries


def source_of(code: Code) -> str:
    """The program's source: four functions of bindings around `forward` and `backward`."""
    forward = [line for step in code.forward for line in step]
    backward = [line for step in code.backward for line in step]
    temporaries = place_temporaries(forward, backward)
    lines = forward + backward
    used = {word for line in lines for word in _called(line.template)}
    chosen = [line for name, line in _CHOSEN.items() if name in used]
    used -= set(_CHOSEN)
    used |= {word for line in chosen for word in re.findall("multiply|matmul", line)}
    used |= {word for pair in code.bindings.get("buffers", []) for word in _called(pair[1])}
    bound = {f: [array.name for array, _ in code.bindings.get(f, [])] for f in _FUNCTIONS}
    imported = sorted(word for word in used | {"empty"} if hasattr(np, word))
    out = [f"from numpy import {', '.join([*imported, 'inf', 'nan'])}", ""]
    inputs = [f"x{i}" for i in range(len(code.layout.sizes) - FIRST_INPUT)]
    arguments = {
        "parameters": ["theta"],
        "inputs": inputs,
        "gradients": ["g", *("g" + name for name in inputs)],
    }
    for function, names in arguments.items():
        out += [f"def {function}({', '.join(names)}):"]
        out += [f"    {array.name} = {text}" for array, text in code.bindings.get(function, [])]
        out += [f"    return ({''.join(name + ', ' for name in bound[function])})", ""]
    out += ["def buffers(u, v, gu, gv, rows, dtype):"]
    out += [f"    {line}" for line in chosen]
    out += [f"    {array.name} = {text}" for array, text in code.bindings.get("buffers", [])]
    out += [f"    {name} = {text}" for name, text in temporaries]
    out += [f"    {line.text()}" for line in forward + backward if line.is_view]
    passed = bound["parameters"] + bound["inputs"]
    comments = [_comment(step) for step in code.layout.steps]
    out += ["", f"    def forward({', '.join(passed)}):"]
    for comment, lines in zip(comments, code.forward, strict=True):
        out += [f"        # {comment}"]
        out += [f"        {line.text()}" for line in lines if not line.is_view]
    out += ["        return", ""]
    out += [f"    def backward({', '.join([*passed, *bound['gradients'], 'seed'])}):"]
    for comment, lines in zip(["the result", *reversed(comments)], code.backward, strict=True):
        if lines:
            out += [f"        # back through {comment}"]
            out += [f"        {line.text()}" for line in lines if not line.is_view]
    out += ["        return", "", "    return forward, backward", ""]
    return "\n".join(out)


_FUNCTIONS = ("parameters", "inputs", "gradients", "buffers")
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
