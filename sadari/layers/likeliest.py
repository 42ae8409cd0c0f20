"""The likeliest words of few rows as compiled code: of the logits, or of the state that they are made from.

`shortlist` is `layers.shortlist` for one row, `ranked` the likeliest of each row with what their odds sum to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sadari.layers.tiles import AHEAD, FLOAT, I8, I16, I32, TALL, Tile, compiled, compiled_for_numbers

WIDTH = 32  # 8-bit numbers that are worked on at once
STEPS, TINY = np.float32(127), np.float32(1e-30)  # of an 8-bit number to each side of zero; for 0 / 0
LEAST = np.float32(np.finfo(np.float32).min)
PIECES = 16  # of a vocabulary, as in `search.rows`


@intrinsic
def tile(typing: Any, x: Any, weight: Any, output: Any, y: Any) -> Any:
    """y[o] = x . weight[o] for TALL o, int16 by int8, as far as whole vectors go.

    Products of neighbours are added in pairs, for which processors have an instruction.
    """
    small, half = ir.VectorType(I8, WIDTH), ir.VectorType(I16, WIDTH)
    whole, pairs = ir.VectorType(I32, WIDTH), ir.VectorType(I32, WIDTH // 2)

    def generate(context, builder, signature, values):
        make = Tile(context, builder, signature, values)
        row, matrix, answers = make.array(0).data, make.array(1), make.array(3).data
        names, weights = make.rows(matrix, make.number(2), TALL)
        sums = make.sums(pairs, TALL)
        with make.over(make.length(matrix, 1), WIDTH) as (j, _):
            part = builder.sext(make.load(row, j, half), whole)
            for w, place in zip(weights, sums, strict=True):
                make.ask(w, j, AHEAD // 2)
                product = builder.mul(part, builder.sext(make.load(w, j, small), whole))
                even, odd = (make.picked(product, product, range(start, WIDTH, 2)) for start in (0, 1))
                builder.store(builder.add(builder.load(place), builder.add(even, odd)), place)
        make.store(builder.sitofp(make.folded(sums), ir.VectorType(FLOAT, TALL)), answers, names)
        return context.get_dummy_value()

    return types.void(x, weight, output, y), generate


@compiled
def are_finite(x):
    """Whether all of x (R, C) are finite numbers."""
    total = np.float32(0)
    for r in range(len(x)):
        for i in range(x.shape[1]):
            total += np.float32(0) if abs(x[r, i]) < np.inf else np.float32(1)
    return total == 0


@compiled_for_numbers
def shortlist(h, head, known, slack, logits):
    """`layers.shortlist` of one finite row h (C,): logits (V,), exact where a word can be the likeliest.

    known   its `Rounded` weight's values, step, lost and length; and what is never written
    """
    (weight, bias), (values, steps, lost, length, never) = head, known
    V, C = values.shape
    # 1. h in 8-bit numbers, held in 16
    largest = np.float32(0)
    for i in range(C):
        largest = abs(h[i]) if abs(h[i]) > largest else largest
    step = max(largest / STEPS, TINY)
    rounded = np.empty(C, np.int16)
    gone, kept = np.float32(0), np.float32(0)
    for i in range(C):
        value = np.rint(h[i] / step)
        rounded[i] = np.int16(value)
        gone += (h[i] - value * step) * (h[i] - value * step)
        kept += value * value
    gone, kept = np.sqrt(gone), np.sqrt(kept) * step
    loose = gone + slack * (gone + kept)
    # 2. the product with all words, and the least that the likeliest comes to
    for v in range(0, V, TALL):
        tile(rounded, values, v, logits)  # type: ignore[call-arg]
    for v in range(V if C % WIDTH else 0):
        for i in range(C - C % WIDTH, C):
            logits[v] += np.float32(np.int32(rounded[i]) * np.int32(values[v, i]))
    for v in range(V):
        logits[v] = logits[v] * (steps[v] * step) + bias[v]
    for v in never:
        logits[v] = LEAST
    least, widest = LEAST, np.float32(0)
    for v in range(V):
        margin = length[v] * loose + lost[v] * kept
        low = logits[v] - margin
        least = low if low > least else least
        widest = margin if margin > widest else widest
    # 3. in full where more is possible
    for v in range(V):
        if logits[v] + widest >= least and logits[v] + (length[v] * loose + lost[v] * kept) >= least:
            total, row = np.float32(0), weight[v]
            for i in range(C):
                total += h[i] * row[i]
            logits[v] = total + bias[v]
    for v in never:
        logits[v] = -np.inf


@compiled_for_numbers
def power(x):
    """e^x for x <= 0, to 4e-6 of it, in instructions on vectors: 2^n e^f, |f| at most half of log 2."""
    t = x * np.float32(1.44269504)
    t = t if t > np.float32(-126) else np.float32(-126)
    n = np.rint(t)
    f = (t - n) * np.float32(0.69314718)
    y = np.float32(1 / 720)
    for whole in (120.0, 24.0, 6.0, 2.0, 1.0, 1.0):
        y = y * f + np.float32(1 / whole)
    return y * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)  # n as an exponent


@compiled
def insert(values, tokens, value, token):
    """Put a value in its place among those that fall, behind its equals, if it is above the last."""
    k = len(values) - 1
    if value > values[k]:
        while k and value > values[k - 1]:
            values[k], tokens[k] = values[k - 1], tokens[k - 1]
            k -= 1
        values[k], tokens[k] = value, token


@compiled_for_numbers
def ranked(logits, values, tokens, sums):
    """The m largest of each row of finite logits (R, V), from the largest down, and the rows' logsumexp.

    values, tokens   (R, m), written: what they are, and where; V is at least m PIECES
    sums             (R,), written; where it is empty none is made
    """
    (R, V), m = logits.shape, tokens.shape[1]
    columns = -(-V // PIECES)
    best = np.empty(columns, np.float32)
    for r in range(R):
        row, value, token = logits[r], values[r], tokens[r]
        # 1. the m-th of the largest of V's columns, when it is laid in PIECES rows: below it nothing counts
        for j in range(columns):
            best[j] = row[j]
        for begin in range(columns, V, columns):
            piece = row[begin : begin + columns]
            for j in range(len(piece)):
                best[j] = piece[j] if piece[j] > best[j] else best[j]
        value[:] = -np.inf
        for j in range(columns):
            insert(value, token, best[j], j)
        least, largest = value[m - 1], np.float32(value[0])
        # 2. all that reach it
        value[:] = -np.inf
        for j in range(columns):
            if best[j] >= least:
                for v in range(j, V, columns):
                    if row[v] >= least:
                        insert(value, token, row[v], v)
        # 3. the sum of all
        if len(sums):
            total = np.float32(0)
            for v in range(V):
                total += power(row[v] - largest)
            sums[r] = largest + np.log(np.float64(total))
