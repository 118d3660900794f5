"""Program: a compiled graph that is called with arrays."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine import Value, _set_grads
from . import interpret, runtime
from .emit import Code, source_of
from .factor import FIRST_INPUT, FREE, LITERAL, ROWS, SHIFT, THETA
from .fuse import fuse
from .layout import RESERVED, lay_out
from .record import Graph
from .schedule import schedule


class Program:
    """What `compile` returns: value and gradient of a recorded graph, on arrays."""

    def __init__(
        self,
        graph: Graph,
        parameters: Sequence[Value],
        shapes: Sequence[tuple[int, ...]],
        single: bool,
        dtype: str = "float64",
    ) -> None:
        self.graph, self.parameters, self.shapes = graph, list(parameters), list(shapes)
        self.single, self.dtype = single, np.dtype(dtype)
        self._threads = threading.local()
        self._codes: dict[bool, tuple[Code, str, Any]] = {}

    # -- compiling, when first needed
    def _code(self, wrt_inputs: bool = False) -> tuple[Code, str, Any]:
        if wrt_inputs not in self._codes:
            fused = fuse(self.graph)
            sizes = [int(np.prod(shape)) for shape in self.shapes]
            self.layout = lay_out(fused, schedule(fused), len(self.parameters), sizes)
            code = Code(self.layout, self._names(), wrt_inputs)
            source = source_of(code)
            namespace = {
                "strided": runtime.strided,
                "take_values": runtime.take_values,
                "put_values": runtime.put_values,
                "broadcast_to": np.broadcast_to,
            }
            for name, value in code.globals.items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    value = value.astype(self.dtype)
                namespace[name] = value
            exec(compile(source, "<program>", "exec"), namespace)
            self._codes[wrt_inputs] = code, source, namespace
        return self._codes[wrt_inputs]

    def _names(self) -> dict[int, str]:
        return {}

    @property
    def source(self) -> str:
        return self._code()[1]
