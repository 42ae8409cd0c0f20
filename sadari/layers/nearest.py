"""The k nearest vectors, exactly: the greatest inner products of queries with all that are stored.

    s_qn = q . x_n            the k greatest of each q, of equals the first (of length 1: cosines)

Exact means in double precision, so that an answer hangs neither on the batch nor on the processor. For few
queries, where reading the vectors is what takes the time, everything is multiplied so. For many, products in
smaller numbers p_qn come first, and the error of each has a bound,

    float32   |p - s| <= D u |q| |x|                  in whatever order the D terms are added, u = 2^-24
                                                      (Higham 2002, Accuracy and Stability, eq. 3.5)
    8 bits    |p - s| <= |x| |q - q'| + |x - x'| |q'|      Cauchy and Schwarz on the rounding that took place

so that only rows with p + bound at least the k-th greatest p - bound are multiplied in full: k and a few in
float32, a few times k in 8 bits. Nothing is approximate: without the bound the same rows come out.

    a block of vectors -> products (B, Q) -> rows that the bound lets in -> in full -> the k best of each

Alphabet: N vectors, D their width, Q queries, k wanted, B vectors in a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import nn

from sadari.errors import SadariError
from sadari.layers.packed import can_pack
from sadari.layers.shortlist import STEPS, Rounded

FEW = 4  # queries up to which all products are made in double precision
BATCH = 64  # queries at once
BLOCK = 1024  # vectors at once: with their products near the second-level cache
ROOM = 512  # finds of a query that are kept before they are settled, or 4 k
UNIT = 2.0**-24  # u of float32
TERMS = 32  # roundings beside the sum's own: of the query, of the steps, of the bound itself
FLOOR = 2.0**-63  # length, times sqrt(D), that may vanish when squares are too small for float32
LONGEST = 1e18  # of a vector in float32: products beyond may overflow
SHARED = 1 << 22  # numbers from which a second thread earns its start
HELD = 1 << 20  # finds at once, of all queries of a batch

Vectors = Float32[np.ndarray, "N D"]
Found = tuple[Float32[np.ndarray, "Q K"], Int64[np.ndarray, "Q K"]]
Block = tuple[int, np.ndarray, tuple[np.ndarray, ...]]
"""First row, products (B, Q), and of each vector the step, the length and what rounding lost."""


def top(
    queries: Float32[np.ndarray, "Q D"], vectors: Vectors, k: int, rounded: Rounded | None = None
) -> Found:
    """The k greatest inner products of each query and their rows, greatest first, of equals the first row.

    queries   float32, or what becomes it
    vectors   float32 and contiguous, in memory or mapped from a file: they are read, never copied or written
    rounded   the vectors in 8 bits from `round_vectors`: the same answer, faster for many queries

    Scores (Q, min(k, N)) float32, rounded from double precision; rows int64. Threads are torch's number.
    SadariError where shapes do not fit, k is below 1, or a query or vector is no finite numbers.
    """
    asked, stored = _checked(queries, vectors, k)
    N, Q = len(stored), len(asked)
    k = min(k, N)
    if rounded is not None and rounded.values.shape != stored.shape:
        raise SadariError(
            f"{tuple(rounded.values.shape)} vectors in 8 bits for {stored.shape} in float32: they are not "
            f"the same; make them anew with round_vectors"
        )
    scores, rows = np.full((Q, k), -np.inf), np.full((Q, k), N, np.int64)
    batch = max(min(BATCH, HELD // max(k, 1)), 1)
    power = np.frexp(np.linalg.norm(asked, axis=1, keepdims=True))[1]
    units = np.ldexp(asked, -power)  # of length 0.5 to 1, no number rounded: their order is the same
    for first in range(0, Q if k else 0, batch):
        some = slice(first, first + batch)
        few = rounded is None and len(units[some]) <= FEW
        find = _sweep if few or k > N // 8 else partial(_shortlist, rounded=rounded)
        find(units[some], stored, scores[some], rows[some])
    order = np.lexsort((rows, -scores), axis=1)
    found, places = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    return np.ldexp(found, power).astype(np.float32), places


def round_vectors(vectors: Vectors) -> Rounded | None:
    """The vectors in 8 bits with what bounds the error, a quarter of their size; None where they do not help.

    They do not where the processor's 8-bit products are not exact, or a vector is too long for float32.
    SadariError where a vector is no finite numbers.
    """
    _, stored = _checked(np.zeros((0, np.shape(vectors)[-1]), np.float32), vectors, 1)
    if stored.shape[1] < 2 or not len(stored) or not has_exact_bytes():
        return None
    rounded = Rounded.of(torch.from_numpy(stored))
    if bool((rounded.length <= LONGEST).all()):
        return rounded
    _refuse(stored)
    return None


@cache
def has_exact_bytes() -> bool:
    """Whether torch's product of 8-bit numbers is that of whole numbers here, also where it is greatest.

    Some processors add pairs in 16 bits, which overflow.
    """
    if not hasattr(torch, "_int_mm"):
        return False
    for signs in ((1, 1), (1, -1), (-1, -1)):
        a, b = (torch.full((32, 64), 127 * sign, dtype=torch.int8) for sign in signs)
        if not bool((torch._int_mm(a, b.t()) == 64 * 127**2 * signs[0] * signs[1]).all()):
            return False
    return True


def _sweep(queries: np.ndarray, vectors: np.ndarray, scores: np.ndarray, rows: np.ndarray) -> None:
    """All in double precision, the vectors' parts on a thread each"""
    code, N = _code(), len(vectors)
    parts = min(torch.get_num_threads(), N) if vectors.size >= SHARED else 1
    if parts == 1:
        if code.sweep(queries, vectors, 0, N, scores, rows) >= 0:
            _refuse(vectors)
        return
    heaps = [(scores.copy(), rows.copy()) for _ in range(parts)]
    with ThreadPoolExecutor(parts) as pool:
        done = [
            pool.submit(code.sweep, queries, vectors, N * i // parts, N * (i + 1) // parts, *heaps[i])
            for i in range(parts)
        ]
    if any(part.result() >= 0 for part in done):
        _refuse(vectors)
    every, places = (np.concatenate(arrays, 1) for arrays in zip(*heaps, strict=True))
    best = np.lexsort((places, -every), axis=1)[:, : scores.shape[1]]
    scores[:], rows[:] = np.take_along_axis(every, best, 1), np.take_along_axis(places, best, 1)


def _shortlist(
    units: np.ndarray,
    vectors: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
    rounded: Rounded | None = None,
) -> None:
    """Those that the bound on smaller products lets in, in full; the queries are at most 1 long."""
    code, (Q, k) = _code(), scores.shape
    blocks, bounds = _products(units, vectors, rounded)
    places = max(ROOM, 4 * k)
    room = (
        np.empty((Q, places), np.float32),
        np.empty((Q, places), np.int64),
        np.zeros(Q, np.int64),
    )
    lows = np.full((Q, k), -np.inf, np.float32), np.full((Q, k), len(vectors), np.int64)
    found = (*lows, scores, rows, np.full(Q, -np.inf, np.float32))
    asked = (*bounds, units)
    for done, (first, raw, known) in enumerate(blocks, 1):
        if not known[1].max() <= LONGEST:  # nor if it is none
            scores[:], rows[:] = -np.inf, len(vectors)
            _sweep(units, vectors, scores, rows)
            return
        code.sift(raw, first, vectors, known, asked, room, found)
        if done & (done - 1) == 0:  # after 1, 2, 4, 8 ... blocks: few then get in, and few of them in vain
            code.settle_all(units, vectors, room, found)
    code.settle_all(units, vectors, room, found)


def _products(
    units: np.ndarray, vectors: np.ndarray, rounded: Rounded | None
) -> tuple[Iterator[Block], list[np.ndarray]]:
    """Products in smaller numbers, and of each query the step and what bounds the error of a product.

    A product times both steps is off by at most length x wide + lost x narrow, of a vector and a query.
    """
    Q, D = units.shape
    sums = (D + TERMS) * 2 * UNIT  # twice the least, so that the bound's own rounding is within it
    if rounded is None:
        scale, wide, narrow = np.ones(Q), np.full(Q, sums), np.zeros(Q)
        blocks = _float_blocks(units, vectors)
    else:
        scale = np.maximum(np.abs(units).max(1), FLOOR) / STEPS
        values = np.rint(units / scale[:, None])
        lost = np.linalg.norm(units - values * scale[:, None], axis=1)
        # lengths that were summed in float32 may fall short by as much as a product
        wide = (lost + TERMS * UNIT) * (1 + sums)
        narrow = np.linalg.norm(values, axis=1) * scale * (1 + sums)
        blocks = _byte_blocks(values, rounded)
    return blocks, [value.astype(np.float32) for value in (scale, wide, narrow)]


def _float_blocks(units: np.ndarray, vectors: np.ndarray) -> Iterator[Block]:
    """Products in float32: the queries are laid out once, as a layer's weights."""
    queries = torch.from_numpy(units.astype(np.float32))
    lay = can_pack(nn.Linear(64, 64)) and torch.get_float32_matmul_precision() == "highest"
    laid = torch.ops.mkldnn._reorder_linear_weight(queries, BLOCK) if lay else None
    code, floor = _code(), FLOOR * math.sqrt(vectors.shape[1])
    for first in range(0, len(vectors), BLOCK):
        block = vectors[first : first + BLOCK]
        length = np.empty(len(block), np.float32)
        code.lengths(block, length)
        known = np.ones(len(block), np.float32), length + np.float32(floor), np.zeros(len(block), np.float32)
        if laid is None:  # numpy's product is in float32 whatever torch is allowed to do
            yield first, block @ queries.numpy().T, known
        else:
            x = torch.from_numpy(block)
            yield (
                first,
                torch.ops.mkldnn._linear_pointwise.default(x, laid, None, "none", [], "").numpy(),
                known,
            )


def _byte_blocks(values: np.ndarray, rounded: Rounded) -> Iterator[Block]:
    """Products in 8 bits, as whole numbers."""
    queries = torch.from_numpy(values).to(torch.int8).t()
    floor = FLOOR * math.sqrt(values.shape[1])
    known = tuple(part.numpy() for part in (rounded.step, rounded.length + floor, rounded.lost + floor))
    for first in range(0, len(rounded.values), BLOCK):
        some = slice(first, first + BLOCK)
        yield first, torch._int_mm(rounded.values[some], queries).numpy(), tuple(part[some] for part in known)


def _checked(queries: Any, vectors: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The queries in float64, and the vectors as an array that torch and numba take."""
    stored = np.asarray(vectors)
    asked = np.asarray(queries)
    if stored.ndim != 2 or stored.dtype != np.float32:
        raise SadariError(
            f"vectors of shape {stored.shape} in {stored.dtype}: give a matrix (N, D) in float32, a row each"
        )
    if asked.ndim != 2 or asked.shape[1] != stored.shape[1]:
        raise SadariError(
            f"queries of shape {asked.shape} for vectors {stored.shape[1]} wide: give a matrix "
            f"(Q, {stored.shape[1]}), a row each"
        )
    if k < 1:
        raise SadariError(f"k {k}: at least 1 vector is found; give k=10")
    asked = asked.astype(np.float32).astype(np.float64)
    _refuse(asked, "query")
    stored = np.require(stored, requirements=("C", "A"))
    return asked, np.asarray(_Writable(stored))


class _Writable:
    """An array that may not be written, as one that may: torch and numba take no other without a word.

    Nothing here writes to it.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # kept as long as what looks through this
        where = {"data": (array.ctypes.data, False), "strides": None}
        self.__array_interface__ = {**array.__array_interface__, **where}


def _refuse(vectors: np.ndarray, what: str = "vector") -> None:
    """SadariError that names the first row that is no finite numbers, if there is one."""
    for first in range(0, len(vectors), BLOCK):
        bad = np.flatnonzero(~np.isfinite(vectors[first : first + BLOCK]).all(1))
        if len(bad):
            raise SadariError(
                f"{what} {first + bad[0]} holds NaN or infinity: only finite numbers can be compared; leave "
                f"that row out"
            )


@cache
def _code() -> ModuleType:
    """The compiled functions, which take a second to load."""
    from sadari.layers import nearest_kernel

    return nearest_kernel
