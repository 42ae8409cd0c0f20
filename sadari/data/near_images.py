"""Pictures that look alike without being the same: another size, another compression, a little lighter.

Two pictures are near when their 64-bit difference hashes differ in at most two bits, and the correlation of
their 16 x 16 grey pixels is at least 0.995: the hash alone takes one digit for another, for most of it is
black ground. Of crops of photographs it finds 90 % as GIF, 75 % at half or twice their size, 70 % as JPEG of
quality 80; of 10,000 handwritten digits it pairs 2. Flat pictures, which say too little, are near to none.

Hashes that differ in at most two bits have a neighbour in common that differs from either in at most one; so
all 65 such neighbours of each different hash are sorted, and what meets there is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int64, Shaped

ALIKE = 0.995
"""Correlation of 16 x 16 grey pixels from which on pictures are near."""
_FLAT = 4.0  # grey levels of deviation that a picture has at least
_AT_ONCE = 1 << 24  # comparisons that are held in memory


def near(
    first: Shaped[np.ndarray, " P"], second: Shaped[np.ndarray, " Q"]
) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]]:
    """Rows of `first` (records of `LOOKS`) that are near to one of `second`, and for each a row there."""
    own, other = _uneven(first), _uneven(second)
    if not (len(own) and len(other)):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    hashes, inverse = np.unique(
        np.concatenate([first["bits"][own], second["bits"][other]]), return_inverse=True
    )
    mine = _members(inverse[: len(own)], len(hashes))
    theirs = _members(inverse[len(own) :], len(hashes))
    one, two = _directions(first[own]), _directions(second[other])
    found = np.full(len(own), -1, np.int64)
    for a, b in _pairs(hashes, np.bincount(inverse[: len(own)], minlength=len(hashes)) > 0):
        here, there = mine[a], theirs[b]
        here = here[found[here] < 0]
        step = max(1, _AT_ONCE // max(1, len(there)))
        for start in range(0, len(here) if len(there) else 0, step):
            some = here[start : start + step]
            likeness = one[some] @ two[there].T
            best = likeness.argmax(1)
            good = likeness[np.arange(len(some)), best] >= ALIKE
            found[some[good]] = there[best[good]]
    rows = np.flatnonzero(found >= 0)
    return own[rows], other[found[rows]]


def _pairs(hashes: np.ndarray, wanted: np.ndarray) -> Iterator[tuple[int, int]]:
    """Numbers (a, b) of hashes at most two bits apart, a of those `wanted`; each once, a = b too."""
    flips = np.concatenate([np.zeros(1, np.uint64), np.uint64(1) << np.arange(64, dtype=np.uint64)])
    around = (hashes[:, None] ^ flips).ravel()  # (65 U,)
    order = np.argsort(around, kind="stable")
    owner, met = order // len(flips), around[order]
    ends = np.flatnonzero(np.append(met[1:] != met[:-1], True)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    pairs = [np.stack([np.arange(len(hashes))] * 2, 1)]
    for width in np.unique(ends - starts):
        if width > 1:  # all that meet in places of so many
            places = starts[ends - starts == width, None] + np.arange(width)
            meeting = owner[places]  # (M, width)
            left, right = np.nonzero(~np.eye(width, dtype=bool))
            pairs.append(np.stack([meeting[:, left].ravel(), meeting[:, right].ravel()], 1))
    every = np.unique(np.concatenate(pairs), axis=0)
    yield from map(tuple, every[wanted[every[:, 0]]].tolist())


def _members(codes: np.ndarray, count: int) -> list[np.ndarray]:
    """The places of each code."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=count))[:-1])


def _uneven(looks: np.ndarray) -> np.ndarray:
    """Rows of pictures that are not flat."""
    if not len(looks):
        return np.empty(0, np.int64)
    return np.flatnonzero((looks["small"].astype(np.float32).std(1) >= _FLAT) & (looks["bits"] != 0))


def _directions(looks: np.ndarray) -> np.ndarray:
    """(N, 256) grey pixels less their mean, of length 1."""
    small = looks["small"].astype(np.float32)
    small -= small.mean(1, keepdims=True)
    return small / np.linalg.norm(small, axis=1, keepdims=True)
