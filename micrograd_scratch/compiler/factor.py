"""Factor: many dot products on shared tuples are one matrix product.

A dot has a left and a right tuple of cells. Dots are the edges of a bipartite graph between
different left and different right tuples; in a connected component that is at least half full,
every left tuple is a row, every right tuple a column, and the dots are the cells of one product.
Components of equal shape are stacked. Tuples of unequal length are first hosted: one that is a
piece of a longer tuple (a prefix under a causal mask, the rest of a window at a border) is replaced
by that longer one, and its partner padded with a zero cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Addresses: the space in the high bits, the cell in the low ones; a hole is -1.
# Parameters, cells computed once for all rows, cells with a number per row, constants, and from
# FIRST_INPUT on one space for every input.
THETA, FREE, ROWS, LITERAL, FIRST_INPUT = range(5)
SHIFT = 40
HOLE = -1
OFTEN = 7  # times that a dot may occur before its repetitions are no matrices any more
MIX = 0x5851F42D4C957F2D  # odd: multiplying by it spreads a number over 64 bits (Knuth's MMIX)


@dataclass
class Product:
    """B products: left (B, R, K) times right (B, C, K) gives nodes (B, R, C), where -1 is dead."""

    left: np.ndarray
    right: np.ndarray
    nodes: np.ndarray


def factor(left: np.ndarray, right: np.ndarray, nodes: np.ndarray) -> list[Product]:
    """Products that contain the dots left[i] . right[i] (addresses, (n, K) each) of nodes (n,).

    left and right may have different widths (an index and the values that it takes from).
    """
    (lefts, i), (rights, j) = distinct(left), distinct(right)
    found: list[Product] = []
    while len(nodes):
        first = ranked(i * len(rights) + j).first
        found += _matrices(lefts, i[first], rights, j[first], nodes[first])
        if len(first) == len(nodes):
            break
        # what is left are dots that occur more than once (with another bias, say)
        i, j, nodes = (np.delete(x, first) for x in (i, j, nodes))
        if len(nodes) > OFTEN * len(first):  # the same few over and over again
            found.append(Product(lefts[i, None], rights[j, None], nodes[:, None, None]))
            break
    return found


def _matrices(
    lefts: np.ndarray, i: np.ndarray, rights: np.ndarray, j: np.ndarray, nodes: np.ndarray
) -> list[Product]:
    """Products that contain the dots lefts[i] . rights[j], no two of which are the same."""
    label = _connected(i, j, len(lefts), len(rights))
    stacks: dict[tuple[int, ...], list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}

    def one_by_one(some: np.ndarray) -> None:
        found = lefts[i[some], None], rights[j[some], None], nodes[some, None, None]
        stacks.setdefault((1, 1), []).append(found)

    alone = np.bincount(label)[label] == 1
    if alone.any():
        one_by_one(np.flatnonzero(alone))
    rest = np.flatnonzero(~alone)
    order = rest[np.argsort(label[rest], kind="stable")]
    pieces = np.split(order, np.flatnonzero(np.diff(label[order])) + 1) if len(rest) else []
    for piece in pieces:
        (rows, _, r, _), (columns, _, c, _) = ranked(i[piece]), ranked(j[piece])
        if len(rows) * len(columns) > 2 * len(piece):
            one_by_one(piece)
            continue
        grid = np.full((len(rows), len(columns)), -1)
        grid[r, c] = nodes[piece]
        stacks.setdefault(grid.shape, []).append(
            (lefts[None, rows], rights[None, columns], grid[None])
        )
    return [Product(*map(np.concatenate, zip(*found, strict=True))) for found in stacks.values()]


def distinct(tuples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of (n, K) addresses, in order, and the position of every row among them.

    Cells are ordered by address; tuples of constants, which have none, as they first occur.
    """
    _, first, which, _ = ranked(_hash(tuples))
    found = tuples[first]
    if not np.array_equal(found[which], tuples):  # 64 random bits fell together: compare in full
        found, first, which = np.unique(tuples, axis=0, return_index=True, return_inverse=True)
    constant = found[0, 0] >> SHIFT == LITERAL
    order = np.argsort(first) if constant else np.lexsort((found[:, -1], found[:, 0]))
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    return found[order], place[which.reshape(-1)]


def unique(numbers: np.ndarray) -> np.ndarray:
    """The different numbers, ascending: 4 us a call where np.unique takes 9."""
    ordered = np.sort(numbers, axis=None)
    first = np.empty(len(ordered), dtype=bool)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


class Ranked(NamedTuple):
    """The different numbers of (n,), and for each of them and of the n what there is to know.

    found   (m,) the different ones, ascending
    first   (m,) where each first occurs
    which   (n,) the position of each number in `found`
    counts  (m,) how often each occurs
    """

    found: np.ndarray
    first: np.ndarray
    which: np.ndarray
    counts: np.ndarray


def ranked(numbers: np.ndarray) -> Ranked:
    """All that np.unique can tell, which would import masked arrays: 15 ms at a first compile."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    new = np.empty(len(numbers) + 1, dtype=bool)
    new[0] = new[-1] = True  # also behind the last
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:-1])
    bounds = new.nonzero()[0]
    starts = bounds[:-1]
    which = np.empty(len(numbers), dtype=int)
    which[order] = new[:-1].cumsum() - 1
    return Ranked(ordered[starts], order[starts], which, bounds[1:] - starts)


def _hash(tuples: np.ndarray) -> np.ndarray:
    """(n,) one number for each tuple, almost surely another one for another tuple."""
    weights = np.cumprod(np.full(tuples.shape[1], MIX, dtype=np.uint64))
    return (tuples.astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64)


def _connected(i: np.ndarray, j: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(n,) the number of the connected component of every edge (i, j): its smallest row."""
    row_label, column_label = np.arange(rows), np.full(columns, rows)
    while True:
        np.minimum.at(column_label, j, row_label[i])
        before = row_label[i]
        np.minimum.at(row_label, i, column_label[j])
        row_label = row_label[row_label]  # jump ahead, so that long components take few rounds
        if np.array_equal(before, row_label[i]):
            return before


def host(
    left: list[np.ndarray],
    right: list[np.ndarray],
    zero: int,
    block: Callable[[np.ndarray], np.ndarray],
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tuples of unequal length, bucketed by length, made equal where one is part of another.

    left[b] and right[b] are the (n_b, K_b) tuples of bucket b, K ascending; block says which block
    cells are in. Returns buckets (left, right, which) where `which` numbers the dots through all
    buckets in turn.
    """
    offsets = np.cumsum([0] + [len(tuples) for tuples in left])
    which = [np.arange(offsets[b], offsets[b + 1]) for b in range(len(left))]
    sides = (list(left), list(right))
    for longer in range(len(left) - 1, 0, -1):
        if not len(which[longer]):
            continue
        width = sides[0][longer].shape[1]
        guests, longest = [], [distinct(side[longer])[0] for side in sides]
        terms, padded_terms = len(which[longer]) * width, len(which[longer]) * width
        for b in range(longer):
            free = np.ones(len(which[b]), dtype=bool)
            for side in (0, 1):
                inside, start, hosts = _pieces(sides[side][b], longest[side])
                inside &= free & ~_stand_alone(block(hosts), start, sides[side][b].shape[1])
                if inside.any():
                    guests.append((b, side, np.flatnonzero(inside), start, hosts))
                    free &= ~inside
                    terms += int(inside.sum()) * sides[side][b].shape[1]
                    padded_terms += int(inside.sum()) * width
        if padded_terms > 2.5 * terms:  # more zeros than a causal mask has: not worth it
            continue
        for b, side, inside, start, hosts in guests:
            guest = sides[1 - side][b][inside]
            padded = np.full((len(inside), width), zero)
            columns = start[inside, None] + np.arange(guest.shape[1])
            padded[np.arange(len(padded))[:, None], columns] = guest
            sides[side][longer] = np.concatenate([sides[side][longer], hosts[inside]])
            sides[1 - side][longer] = np.concatenate([sides[1 - side][longer], padded])
            which[longer] = np.concatenate([which[longer], which[b][inside]])
        for b in {guest[0] for guest in guests}:
            gone = np.concatenate([g[2] for g in guests if g[0] == b])
            which[b] = np.delete(which[b], gone)
            for tuples in sides:
                tuples[b] = np.delete(tuples[b], gone, axis=0)
    return [(x, y, w) for x, y, w in zip(*sides, which, strict=True) if len(w)]


def _stand_alone(blocks: np.ndarray, start: np.ndarray, width: int) -> np.ndarray:
    """Which pieces of hosts, given the blocks of their cells (n, K), are all of some blocks.

    Such as h in [h, x], which a recurrent network reads in its next step, and its output as well:
    padding the output's weights would make a matrix that is nowhere, 3 times the time.
    """
    every, stop = np.arange(len(blocks)), start + width
    before = (start == 0) | (blocks[every, start - 1] != blocks[every, start])
    behind = blocks[every, np.minimum(stop, blocks.shape[1] - 1)] != blocks[every, stop - 1]
    return before & (behind | (stop == blocks.shape[1]))


def _pieces(short: np.ndarray, hosts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each short tuple: is it a piece of a host, where does it start, and in which."""
    width = short.shape[1]
    inside = np.zeros(len(short), dtype=bool)
    start = np.zeros(len(short), dtype=int)
    found = np.zeros((len(short), hosts.shape[1]), dtype=hosts.dtype)
    keys = _hash(short)
    for offset in range(hosts.shape[1] - width + 1):
        piece_keys = _hash(hosts[:, offset : offset + width])
        order = np.argsort(piece_keys)
        place = np.minimum(np.searchsorted(piece_keys[order], keys), len(order) - 1)
        match = order[place]
        same = (hosts[match, offset : offset + width] == short).all(axis=1) & ~inside
        inside |= same
        start[same], found[same] = offset, hosts[match[same]]
    return inside, start, found
