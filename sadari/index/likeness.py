"""What lies twice or apart among vectors, exactly: both read off each one's nearest others.

Duplicates are joined along chains: where a is like b and b like c, all three are one group, though a and c
may be less alike (single linkage; Sibson 1973). An outlier's nearest others are far (Ramaswamy et al. 2000).
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from jaxtyping import Float32, Int64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sadari.errors import SadariError
from sadari.layers.nearest import round_vectors, top

BLOCK = 4096  # vectors whose nearest are found at once
FIRST = 8  # nearest that are looked at before it is known whether there are more


def duplicate_groups(vectors: Float32[np.ndarray, "N D"], threshold: float) -> list[Int64[np.ndarray, " G"]]:
    """Groups of rows that are joined by inner products of at least `threshold`, each with two rows or more.

    Rows rise within a group, and groups by their first rows. Vectors are of length 1, the threshold above 0
    and at most 1. Takes N^2 D multiply-adds in 8 bits: for 100,000 of width 512 half a minute. SadariError
    where the threshold is outside.
    """
    if not 0 < threshold <= 1:
        raise SadariError(
            f"threshold {threshold}: likeness is a cosine, and of duplicates above 0 and at most 1; give 0.95"
        )
    if not len(vectors):
        return []
    first, of = _single(vectors)
    single = vectors[first]
    one, other = _pairs(single, threshold - 1e-6)  # of itself a vector in float32 may fall short of 1
    links = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(len(single),) * 2)
    group = connected_components(links, directed=False)[1][of]
    order = np.argsort(group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return sorted((rows for rows in groups if len(rows) > 1), key=lambda rows: int(rows[0]))


def apartness(vectors: Float32[np.ndarray, "N D"], neighbours: int) -> Float32[np.ndarray, " N"]:
    """The mean inner product of each with its nearest others, as many as there are: low for an outlier.

    SadariError where there is no other vector.
    """
    if len(vectors) < 2:
        raise SadariError(f"{len(vectors)} vectors: an outlier lies apart from others; add more to the index")
    near = min(neighbours, len(vectors) - 1)
    rounded, means = round_vectors(vectors), []
    for first in range(0, len(vectors), BLOCK):
        scores, rows = top(vectors[first : first + BLOCK], vectors, near + 1, rounded)
        itself = rows == np.arange(first, first + len(rows))[:, None]
        itself[~itself.any(1), -1] = True  # where others are as near, the last of them counts for it
        means.append(scores[~itself].reshape(len(rows), near).mean(1))
    return np.concatenate(means)


def _single(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each vector, and which of these each row is: the same is searched once only."""
    known: dict[bytes, int] = {}
    of = [known.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), len(known)) for row in vectors]
    return np.unique(of, return_index=True)[1], np.array(of)


def _pairs(vectors: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """All pairs at least so alike, some of them twice."""
    rounded, ones, others = round_vectors(vectors), [], []
    for first in range(0, len(vectors), BLOCK):
        open_, k = np.arange(first, min(first + BLOCK, len(vectors))), FIRST
        while len(open_):
            scores, rows = top(vectors[open_], vectors, k, rounded)
            near = scores >= threshold
            more = near[:, -1] & (rows.shape[1] < len(vectors))  # there may be others as near
            near[more] = False
            ones.append(np.repeat(open_, near.sum(1)))
            others.append(rows[near])
            open_, k = open_[more], 8 * k
    return np.concatenate(ones), np.concatenate(others)
