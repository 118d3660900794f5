"""Pieces: where dots are cut so that what they read need not be copied.

A sum over [h, x] is one over h and one over x, and the rows of [W; G] are those of W and those of
G: what lies in two places is no view, but its pieces are. Here is only where the pieces begin and
end, as far as addresses tell; layout.py makes steps of them if all turn out to be views.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .factor import HOLE, LITERAL, SHIFT, distinct

TERMS = 4  # pieces of a sum at most, each of which adds to what the others made
ROWS = 8  # ... of what stands one upon the other


def of_terms(left: np.ndarray, right: np.ndarray) -> list[slice]:
    """Pieces of left (..., K) and right (..., K), along K; none if there are too many.

    Within one, it is equally far from each cell to the next, in all rows.
    """
    ways = list(zip(_ways(left), _ways(right), strict=True))
    return _pieces(ways, [HOLE not in way for way in ways], TERMS)


def one_by_one(cells: np.ndarray) -> list[slice]:
    """The pieces of cells (..., K) that are single terms."""
    return [slice(k, k + 1) for k in range(cells.shape[-1])]


def of_rows(left: np.ndarray) -> list[slice]:
    """Pieces of left (R, K), along R: it is equally far from each row to the next, cell by cell."""
    ways = distinct(np.diff(left, axis=0))[1].tolist() if len(left) > 1 else []
    return _pieces(ways, [True] * len(ways), ROWS)


def _ways(cells: np.ndarray) -> list[int]:
    """(K-1,) from each of the cells (..., K) to the next; HOLE where rows or spaces differ."""
    rows = cells.reshape(-1, cells.shape[-1])
    spaces = rows >> SHIFT
    ways = np.diff(np.where(spaces == LITERAL, 0, rows))
    same = (ways == ways[0]) & (np.diff(spaces) == 0)
    return np.where(same.all(axis=0), ways[0], HOLE).tolist()


def _pieces(ways: list[Any], goes_on: list[bool], most: int) -> list[slice]:
    """A piece goes on as long as each way is the one before, if it is one."""
    bounds, inside = [0], False
    for k, way in enumerate(ways):
        inside = goes_on[k] and (not inside or way == ways[k - 1])
        if not inside:
            bounds.append(k + 1)
    bounds.append(len(ways) + 1)
    found = [slice(*ends) for ends in zip(bounds, bounds[1:], strict=False)]
    return found if 1 < len(found) <= most else []
