"""Weights in files: `save(model, path)` and `load(model, path)`, as safetensors or JSON.

The path's suffix decides: `.safetensors` is what PyTorch's world exchanges weights in (the
safetensors library writes and reads it), `.json` can be read by eye. Names are PyTorch's where the
model has them (`state_dict`). Saving is atomic: whoever reads the path sees the old file or the new
one. Loading is all or nothing: a file that does not fit leaves the model untouched. Left out: the
model's form (its code is that), an optimizer's memory, and pickle, which runs what a file says.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from .engine import _set_data
from .files import write_whole
from .nn import shape_of
from .operations import shown

FORMATS = (".safetensors", ".json")


class WeightsError(ValueError):
    """A file of weights that is damaged or does not fit the model: names file and reason."""


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write the model's weights in float64, atomically.

    ValueError for another suffix than .safetensors and .json, or for a weight that is not finite;
    FileNotFoundError for a folder that is not there; ImportError without the safetensors library.
    Nothing is written then.
    """
    place = _checked_path(path)
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{place}: there is no folder {place.parent}, create it first")
    state = state_of(model)
    for name, array in state.items():
        _check_finite(place, name, array)
    if place.suffix == ".json":
        text = json.dumps(state, indent=1, allow_nan=False)
        content = text.encode()
    else:
        import numpy as np

        arrays = {name: np.array(array, dtype=np.float64) for name, array in state.items()}
        content = _safetensors().save(arrays)
    write_whole(place, content)


def load(model: Any, path: str | os.PathLike[str]) -> None:
    """Take the model's weights from a file that `save` or PyTorch's world wrote, all or nothing.

    WeightsError, and an untouched model, for a file that is truncated or damaged, whose names or
    shapes are not the model's, or that holds a number that is not finite; it says what differs.
    """
    place = _checked_path(path)
    content = place.read_bytes()
    given = _read_json(place, content) if place.suffix == ".json" else _read(place, content)
    expected = state_of(model)
    missing = [name for name in expected if name not in given]
    unknown = sorted(name for name in given if name not in expected)  # a file has no order
    if missing or unknown:
        raise WeightsError(
            f"{place} does not fit the model: it lacks {_some(missing)} and has {_some(unknown)} "
            "that the model does not know"
        )
    for name, array in expected.items():
        shape, wanted = shape_of(given[name]), shape_of(array)
        if shape != wanted:
            raise WeightsError(f"{place}: {name} has shape {shape}, but the model needs {wanted}")
        _check_finite(place, name, given[name])
    if hasattr(model, "load_state_dict"):
        model.load_state_dict(given)
        return
    _set_data(list(model.parameters()), [float(number) for number in given["parameters"]])


def state_of(model: Any) -> dict[str, Any]:
    """name -> nested lists of numbers: its `state_dict()`, or all parameters as one list."""
    if hasattr(model, "state_dict"):
        state: dict[str, Any] = model.state_dict()
        return state
    if not callable(getattr(model, "parameters", None)):
        raise TypeError(f"{type(model).__name__} has neither state_dict() nor parameters()")
    return {"parameters": [p.data for p in model.parameters()]}


def _checked_path(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path is {shown(path)}: write save(model, path) and load(model, path)")
    place = Path(path)
    if place.suffix not in FORMATS:
        raise ValueError(f"{place}: weights are saved as {' or '.join(FORMATS)}, by their suffix")
    return place


def _safetensors() -> Any:
    try:
        from safetensors import numpy as safetensors_numpy
    except ImportError as error:
        raise ImportError(
            "the safetensors library is not installed: pip install safetensors (the extra "
            "[export]), or save as .json"
        ) from error
    return safetensors_numpy


def _read(place: Path, content: bytes) -> dict[str, Any]:
    library = _safetensors()
    from safetensors import SafetensorError

    try:
        arrays = library.load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = f"type {error} is not read" if isinstance(error, KeyError) else str(error)
        raise WeightsError(f"{place} is no whole safetensors file: {reason}") from error
    return {name: array.tolist() for name, array in arrays.items()}


def _read_json(place: Path, content: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twice!r} is there twice")
        return dict(pairs)

    try:
        given = json.loads(content, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{place} is no whole JSON file of weights: {error}") from error
    if not isinstance(given, dict):
        raise WeightsError(f"{place} holds a {type(given).__name__}, not names with numbers")
    return given


def _check_finite(place: Path, name: str, array: Any) -> None:
    for number in _numbers(array):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise WeightsError(f"{place}: {name} holds {number!r}, which is no number")
        if not -sys.float_info.max <= number <= sys.float_info.max:
            raise WeightsError(f"{place}: {name} holds a number that is not finite")


def _numbers(array: Any) -> list[Any]:
    return [x for item in array for x in _numbers(item)] if isinstance(array, list) else [array]


def _some(names: list[str]) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
