"""Exact search as compiled code: products in double precision, and the few rows that can be among the best.

`sweep` multiplies every vector with few queries as it streams by. `sift` reads products that were made in
smaller numbers and keeps the rows whose bound lets them in, and `settle` multiplies these in full.
A product in double precision sums in one fixed order wherever it stands, so that a pair of vectors has the
same score however it was found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sadari.layers.tiles import FLOAT, I32, Tile, compiled

DOUBLE = ir.DoubleType()
LANES, SUMS = 8, 4  # numbers in a vector, and sums side by side: the order that all products are made in
AHEAD = 8192 // 4  # numbers that are asked for ahead of the one at work
WHOLE = LANES * SUMS


@intrinsic
def whole(typing: Any, query: Any, vectors: Any, row: Any) -> Any:
    """query (D,) float64 . vectors[row] float32 as far as blocks of WHOLE numbers go."""
    narrow, wide = ir.VectorType(FLOAT, LANES), ir.VectorType(DOUBLE, LANES)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        make = Tile(context, builder, signature, values)
        q, matrix = make.array(0).data, make.array(1)
        _, (x,) = make.rows(matrix, make.number(2), 1)
        sums = make.sums(wide, SUMS)
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(wide, [wide] * 3), f"llvm.fmuladd.v{LANES}f64"
        )
        with make.over(make.length(matrix, 1), WHOLE) as (j, _):
            for part in range(0, WHOLE, 16):  # a line of the cache each
                make.ask(x, builder.add(j, ir.Constant(j.type, part)), AHEAD)
            for part, place in enumerate(sums):
                at = builder.add(j, ir.Constant(j.type, part * LANES))
                q_part = builder.load(builder.bitcast(builder.gep(q, [at]), wide.as_pointer()), align=8)
                x_part = builder.fpext(make.load(x, at, narrow), wide)
                builder.store(builder.call(multiply_add, [q_part, x_part, builder.load(place)]), place)
        a, b, c, d = (builder.load(place) for place in sums)
        total = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        halves = LANES
        while halves > 1:
            halves //= 2
            low, high = (make.picked(total, total, range(k, k + halves)) for k in (0, halves))
            total = builder.fadd(low, high)
        return builder.extract_element(total, I32(0))

    return types.float64(query, vectors, row), generate


def _strict(function: Any) -> Any:
    """Compiled with sums in the order they are written in."""
    return compiled(function, set())


@_strict
def product(query, vectors, row):
    """query (D,) float64 . vectors[row] (D,) float32, in double precision and one fixed order."""
    D = vectors.shape[1]
    total: Any = whole(query, vectors, row)  # type: ignore[call-arg]
    for i in range(D - D % WHOLE, D):
        total += query[i] * np.float64(vectors[row, i])
    return total


@_strict
def is_worse(score, row, other, other_row):
    """Whether a find stands behind another: a lower score, or as high a one further down."""
    return score < other or (score == other and row > other_row)


@_strict
def keep(scores, rows, score, row):
    """Put a find in the place of the worst of a heap (k,), the worst first, if it is better."""
    if not is_worse(scores[0], rows[0], score, row):
        return
    k, i = len(scores), 0
    while 2 * i + 1 < k:
        child = 2 * i + 1
        if child + 1 < k and is_worse(scores[child + 1], rows[child + 1], scores[child], rows[child]):
            child += 1
        if not is_worse(scores[child], rows[child], score, row):
            break
        scores[i], rows[i] = scores[child], rows[child]
        i = child
    scores[i], rows[i] = score, row


@_strict
def sweep(queries, vectors, first, last, scores, rows):
    """Every vector from `first` to `last` with every query (Q, D) float64; the k best of each are kept.

    scores, rows   heaps (Q, k)
    Returns the row of a vector that is no finite numbers, or -1.
    """
    for row in range(first, last):
        for q in range(len(queries)):
            score = product(queries[q], vectors, row)
            if not np.isfinite(score):
                return row
            if score > scores[q, 0]:
                keep(scores[q], rows[q], score, row)
    return -1


@compiled
def lengths(block, length):
    """The length of each vector of a block (B, D), summed in float32."""
    B, D = block.shape
    for r in range(B):
        total = np.float32(0)
        for i in range(D):
            total += block[r, i] * block[r, i]
        length[r] = np.sqrt(total)


@compiled
def sift(raw, first, vectors, known, asked, room, found):
    """Keep of a block those vectors that can be among the best by their bound.

    raw      (B, Q) products in smaller numbers, to be multiplied by a step of each vector and of each query
    known    of the block: step, length, and the length of what rounding lost, (B,) float32 each
    asked    of the queries: step, what `length` and `lost` are multiplied by for the bound, (Q,) float32
             each; and the queries themselves, (Q, D) float64
    room     bounds (Q, M) float32, rows (Q, M) and how many (Q,) there are
    found    heaps (Q, k): lower bounds float32 and their rows; scores and their rows; and (Q,) float32, the
             limit below which none is among the best
    """
    (steps, length, lost), (scale, wide, narrow, queries) = known, asked
    (bounds, places, count), (lows, low_rows, _, _, limit) = room, found
    B, Q = raw.shape
    for r in range(B):
        row = first + r
        step, a, b = steps[r], length[r], lost[r]
        hits = 0
        for q in range(Q):
            upper = np.float32(raw[r, q]) * (step * scale[q]) + (a * wide[q] + b * narrow[q])
            hits += upper >= limit[q]
        if hits == 0:
            continue
        for q in range(Q):
            value, margin = np.float32(raw[r, q]) * (step * scale[q]), a * wide[q] + b * narrow[q]
            if value + margin >= limit[q]:
                if count[q] == bounds.shape[1]:
                    settle(q, queries, vectors, room, found)
                bounds[q, count[q]], places[q, count[q]] = value + margin, row
                count[q] += 1
                if value - margin > lows[q, 0]:
                    keep(lows[q], low_rows[q], value - margin, row)
                    limit[q] = max(limit[q], lows[q, 0])


@_strict
def below(score):
    """A float32 that is not above a float64."""
    return np.float32(score - abs(score) * 1.2e-7 - 1e-38)  # 2^-23


@_strict
def settle(q, queries, vectors, room, found):
    """Multiply in full those of a query's finds that can still be among its best, and empty its room.

    The k-th best score then is a limit that no bound loosens.
    """
    (bounds, places, count), (_, _, scores, rows, limit) = room, found
    for i in np.argsort(-bounds[q, : count[q]]):
        if bounds[q, i] < scores[q, 0]:
            break
        row = places[q, i]
        keep(scores[q], rows[q], product(queries[q], vectors, row), row)
    limit[q] = max(limit[q], below(scores[q, 0]))
    count[q] = 0


@_strict
def settle_all(queries, vectors, room, found):
    """Settle all queries."""
    for q in range(len(queries)):
        settle(q, queries, vectors, room, found)
