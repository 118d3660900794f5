"""Names: what parameters, inputs and computed blocks are called in a program's source.

A label is copied into the source only if it is a plain identifier; one that means something else
there gets an underscore.
What a program computes is called after what it is computed from. That no two things have one name
is for writer.py and textbook.py to see to.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Sequence

import numpy as np

from ..engine import Value
from . import runtime
from .factor import FIRST_INPUT, SHIFT, THETA
from .steps import Step

# what the source calls its own variables, or a gradient of one
_RESERVED = re.compile(
    r"d*([tshpxuvg]|gx|r[uvh]|index|constant|filled|f)?\d*(_\d*)*|seed|rows|dtype|theta"
)


def names_of(parameters: Sequence[Value], inputs: Sequence[str]) -> dict[int, str]:
    """Names for the views of parameters, by the address they start at: W1, b1 from W1[0,0] ...

    Also those of the inputs, for messages.
    """
    names = {FIRST_INPUT + i << SHIFT: name for i, name in enumerate(inputs)}
    safe: dict[str, str] = {}  # label -> name: there are few labels and many parameters
    for position, p in enumerate(parameters):
        label = p.label.partition("[")[0]
        if label not in safe:
            # what the source calls its own ends in no underscore
            own = label.isascii() and _RESERVED.fullmatch(label) and label.isidentifier()
            safe[label] = label + "_" if own else safe_name(label)
        if safe[label]:
            names[(THETA << SHIFT) + position] = safe[label]
    return names


def name_of_step(step: Step, first: str) -> str:
    """z1 for what W1 makes, a1 for what an activation makes of z1, and h for the rest.

    first  what the step's first operand is called
    """
    if step.form in ("product", "inner") and first[:1] == "W" and first.isalnum():
        return safe_name("z" + first[1:]) or "h"
    if step.form == "map" and len(step.operands) == 1 and first[:1] == "z" and first.isalnum():
        return safe_name("a" + first[1:]) or "h"
    return "h"


def safe_name(label: str) -> str:
    """The label as a variable that means nothing else in the source; "" if it cannot be one."""
    if not (label.isidentifier() and label.isascii()) or _RESERVED.fullmatch(label):
        return ""
    taken = any(hasattr(m, n) for m in (np, builtins, runtime) for n in (label, "d" + label))
    return label + "_" if taken or keyword.iskeyword(label) else label
