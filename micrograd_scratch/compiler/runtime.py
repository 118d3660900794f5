"""What the emitted NumPy source calls besides NumPy: irregular views, and taking by an index."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..operations import Operation, by_element, checked_index, take_of


def strided(
    cells: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> np.ndarray:
    """The view of cells (n,) or (n, rows) at offset + sum_j strides[j] * index_j."""
    step = cells.strides[0]
    tail_shape, tail_strides = cells.shape[1:], cells.strides[1:]
    return as_strided(
        cells[offset:], shape + tail_shape, tuple(s * step for s in strides) + tail_strides
    )


def turned_matmul(W: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out = W @ x, where x.T are rows of input; by way of x.T @ W.T.

    OpenBLAS wants the larger matrix of 32-bit floats on the left if both lie row by row: 16 x 784
    by 256 rows take 107 us instead of 200. With 64 bits there is no such difference.
    """
    outputs, rows = out.shape
    if rows > outputs and x.strides[0] < x.strides[1]:
        # longer rows, for powers of two share lines of the cache: 10 us to copy, not 21
        turned = np.empty((rows, outputs + 16), out.dtype)[:, :outputs]
        np.matmul(x.T, W.T, turned)
        np.copyto(out, turned.T)
    else:
        np.matmul(W, x, out)


def layer(
    dy: np.ndarray,
    inputs: np.ndarray,
    ones: np.ndarray,
    row: np.ndarray,
    dW: np.ndarray,
    db: np.ndarray,
    dWb: np.ndarray,
) -> None:
    """A layer's gradient: dW = dy @ inputs and db = dy @ ones, which are the columns of dWb.

    One row is a single product, [dW db] = dy @ [inputs 1]: 26 us instead of 46 for 128 x 784. An
    outer product is fast by `dot` only, and `dot` writes to memory in one piece only.
    """
    if len(inputs) == 1:
        row[:, :-1] = inputs
        np.dot(dy, row, dWb)
    else:
        np.matmul(dy, inputs, dW)
        np.matmul(dy, ones, db)


def slope_of(row: Operation, position: int) -> tuple[Any, Any]:
    """Functions of floats y, *xs: a row's partial by one argument, 0 where None; and where not."""

    def slope(y: float, *xs: float) -> float:
        found = row.slopes(y, *xs)[position]
        return 0.0 if found is None else float(found)

    def exists(y: float, *xs: float) -> bool:
        return row.slopes(y, *xs)[position] is not None

    return slope, exists


def slopes_by_element(row: Operation, position: int) -> tuple[Any, Any]:
    """The same on arrays."""
    slope, exists = slope_of(row, position)
    return by_element(slope), by_element(exists)


def take_values(
    index: Any, values: Any, width: int, out: np.ndarray, by_row: bool, name: str | np.ndarray
) -> None:
    """out[..., r, c] = values[..., c, index[..., r, 0]]; all have rows last if `by_row`."""
    values, index = np.asarray(values), checked_indices(index, width, name)
    out[...] = values.reshape(-1)[_places(index, values.shape, by_row)]


def take_by_row(index: Any, *values: Any, name: str = "index") -> Any:
    """values[index] where both hold a number per row."""
    checked_indices(index, len(values), name)
    return take_of.on_arrays(index, *values)


def locate(
    index: np.ndarray,
    width: int,
    stride: int,
    place: np.ndarray,
    out: np.ndarray,
    name: str | np.ndarray,
) -> None:
    """out[..., r, c] = place[..., 0, c] + stride * index[..., r, 0]: where the values taken are."""
    if index.size == 1 and isinstance(name, str):  # 1.2 us instead of 5
        np.add(place, stride * checked_index(index.item(), width, name), out)
    else:
        np.multiply(checked_indices(index, width, name), stride, out)
        np.add(out, place, out)


def put_values(index: Any, adjoint: np.ndarray, out: np.ndarray, by_row: bool) -> None:
    """The adjoint of `take_values` by its values: out[..., c, k] sums over r with index k."""
    of_rows = (1,) * (by_row and out.ndim < adjoint.ndim)  # the values are the same for all rows
    at = _places(np.asarray(index).astype(np.int64), (*out.shape, *of_rows), by_row)
    at = np.broadcast_to(at, adjoint.shape).reshape(-1)
    out[...] = np.bincount(at, adjoint.reshape(-1), out.size).reshape(out.shape)


def _places(index: np.ndarray, shape: tuple[int, ...], by_row: bool) -> np.ndarray:
    """Where in lists (..., C, width) of numbers those at index (..., R, 1) lie: (..., R, C).

    All have rows last if `by_row`, or an axis of one.
    """
    return index * (shape[-1] if by_row else 1) + _starts(shape, by_row)


@lru_cache(maxsize=30)
def _starts(shape: tuple[int, ...], by_row: bool) -> np.ndarray:
    """Where each list begins: (..., 1, C)."""
    *outer, columns, width = shape[:-1] if by_row else shape
    first = np.arange(math.prod(outer) * columns).reshape(*outer, 1, columns) * width
    return first[..., None] * shape[-1] + np.arange(shape[-1]) if by_row else first


def checked_indices(index: Any, width: int, name: str | np.ndarray) -> np.ndarray:
    """The indices as integers; IndexError, with the bound, for the first that is not one.

    name  what to call them; or an array of names, each for as many indices as there are rows
    """
    numbers = np.asarray(index)
    integers = numbers.astype(np.int64)
    # what is no index differs from the one next to it: 1.8 us for 32 where bounds take 3.9
    if np.count_nonzero(_every_index(width, numbers.dtype).take(integers, mode="clip") != numbers):
        names = np.atleast_1d(name).repeat(numbers.size // np.size(name)).tolist()
        for number, called in zip(numbers.reshape(-1).tolist(), names, strict=True):
            checked_index(number, width, called)
    return integers


@lru_cache(maxsize=100)
def _every_index(width: int, dtype: np.dtype[Any]) -> np.ndarray:
    return np.arange(width, dtype=dtype)
