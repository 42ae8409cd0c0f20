"""A decoder's step for few rows as compiled code, without a call to torch: see `layers.steps`.

Its floor is reading every weight once (`layers.tiles`): 11 MB in a third-level cache took 120 microseconds
for 1 row and 185 for 5, where torch's 40 small calls took 330 and 580. numba compiles it once an install.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sadari.layers.likeliest import LEAST, PIECES, are_finite, ranked, shortlist
from sadari.layers.tiles import AHEAD, FLOAT, TALL, WIDTH, Tile, compiled

__all__ = ["PIECES", "are_finite", "layer_step", "line", "move", "norm", "ranked", "shortlist", "words"]


def _tile(rows: int) -> Any:
    vector = ir.VectorType(FLOAT, WIDTH)

    @intrinsic
    def tile(typing: Any, x: Any, first: Any, weight: Any, output: Any, y: Any) -> Any:
        """y[r, o] = x[r] . weight[o] for `rows` r from `first` and TALL o, as far as whole vectors go."""

        def generate(context, builder, signature, values):
            make = Tile(context, builder, signature, values)
            matrix = make.array(2)
            names, weights = make.rows(matrix, make.number(3), TALL)
            _, inputs = make.rows(make.array(0), make.number(1), rows)
            _, answers = make.rows(make.array(4), make.number(1), rows)
            sums = [make.sums(vector, TALL) for _ in range(rows)]
            with make.over(make.length(matrix, 1), WIDTH) as (j, _):
                for w in weights:
                    make.ask(w, j, AHEAD // 4)
                parts = [make.load(w, j, vector) for w in weights]
                for row, places in zip(inputs, sums, strict=True):
                    part = make.load(row, j, vector)
                    for w, place in zip(parts, places, strict=True):
                        make.multiply_add(part, w, place)
            for places, answer in zip(sums, answers, strict=True):
                make.store(make.folded(places), answer, names)
            return context.get_dummy_value()

        return types.void(x, first, weight, output, y), generate

    return tile


tile1, tile2, tile3, tile4, tile5, tile6 = map(_tile, range(1, 7))


@compiled
def line(x, parts, y):
    """y (R, O) = x (R, C) weight (O, C) + bias (O,), rows in blocks of at most 6."""
    weight, bias = parts
    (R, C), outputs = x.shape, len(weight)
    for o in range(0, outputs, TALL):
        r = 0
        while r < R:
            left = R - r
            n = left if left <= 6 else 6 if left >= 10 else (left + 1) // 2
            if n == 1:
                tile1(x, r, weight, o, y)
            elif n == 2:
                tile2(x, r, weight, o, y)
            elif n == 3:
                tile3(x, r, weight, o, y)
            elif n == 4:
                tile4(x, r, weight, o, y)
            elif n == 5:
                tile5(x, r, weight, o, y)
            else:
                tile6(x, r, weight, o, y)
            r += n
    for r in range(R):
        for o in range(outputs):
            y[r, o] += bias[o]
        for o in range(outputs if C % WIDTH else 0):
            for i in range(C - C % WIDTH, C):
                y[r, o] += x[r, i] * weight[o, i]


@compiled
def norm(x, parts, eps, y):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, for rows (R, C); y may be x."""
    weight, bias = parts
    R, C = x.shape
    for r in range(R):
        mean = square = np.float32(0)
        for i in range(C):
            mean += x[r, i]
        mean /= np.float32(C)
        for i in range(C):
            square += (x[r, i] - mean) * (x[r, i] - mean)
        scale = np.float32(1) / np.sqrt(square / np.float32(C) + np.float32(eps))
        for i in range(C):
            y[r, i] = (x[r, i] - mean) * scale * weight[i] + bias[i]


@compiled
def attend(q, k, v, hidden, scores, y):
    """y (D,) = softmax(q k / sqrt(D)) v over the S places that are not hidden, if any may be; else 0."""
    S, D = k.shape
    some = len(hidden) > 0
    scale, best = np.float32(1) / np.sqrt(np.float32(D)), LEAST
    for s in range(S):
        score, key = np.float32(0), k[s]
        for i in range(D):
            score += q[i] * key[i]
        scores[s] = score * scale
        if scores[s] > best and not (some and hidden[s]):
            best = scores[s]
    total = np.float32(0)
    for i in range(D):
        y[i] = np.float32(0)
    for s in range(S):
        if some and hidden[s]:
            continue
        share, value = np.exp(scores[s] - best), v[s]
        total += share
        for i in range(D):
            y[i] += share * value[i]
    if total > 0:
        for i in range(D):
            y[i] /= total


@compiled
def bend(x, kind):
    """relu, swish or gelu of each number, in place."""
    for r in range(len(x)):
        row = x[r]
        for i in range(len(row)):
            if kind == 0:
                row[i] = np.float32(0) if row[i] < 0 else row[i]
            elif kind == 1:
                row[i] /= np.float32(1) + np.exp(-row[i])
            else:
                share = math.erf(row[i] * np.float32(0.5**0.5))
                row[i] *= np.float32(0.5) * (np.float32(1) + np.float32(share))


@compiled
def after(x, y, norm_, eps, first):
    """x + y in x; its norm where norms do not stand first."""
    R, C = x.shape
    for r in range(R):
        for i in range(C):
            x[r, i] += y[r, i]
    if not first:
        norm(x, norm_, eps, x)


@compiled
def words(tokens, table, place, size, x):
    """x (R, C) = place (C,) + size * the tokens' rows of `table`; a place alone for a token below 0.

    Returns False where the table has no such row.
    """
    for r in range(len(tokens)):
        token = tokens[r, 0]
        if token >= len(table):
            return False
        factor, row = (size, table[token]) if token >= 0 else (np.float32(0), table[0])
        for i in range(len(place)):
            x[r, i] = place[i] + factor * row[i]
    return True


@compiled
def layer_step(x, layer, past, number, length, k, v, hidden):
    """`StepLayer` of x (R, C), in place: the token's key and value are written into `past` at `length`.

    layer  weights and biases, the norms' eps, whether they stand first, what bends (0 relu, 1 swish, 2 gelu)
    past   (L, 2, R, H, room, D), of which this is layer `number`
    k, v   (N, H, S, D) of the sources; hidden   (N, S), or (0, 0) for none
    """
    weights, eps, first, kind = layer
    qkv_line, out, query, cross, up, down, norm1, norm2, norm3 = weights
    (R, C), H, D = x.shape, past.shape[3], past.shape[5]
    N, S = len(k), k.shape[2]
    y, z = np.empty((R, C), np.float32), np.empty((R, C), np.float32)
    scores = np.empty(max(S, length + 1), np.float32)
    none = hidden[:0].ravel()
    # 1. look at one's own text
    if first:
        norm(x, norm1, eps[0], z)
    qkv = np.empty((R, 3 * C), np.float32)
    line(z if first else x, qkv_line, qkv)
    for r in range(R):
        for h in range(H):
            own, to = past[number, 0, r, h], past[number, 1, r, h]
            for i in range(D):
                own[length, i] = qkv[r, C + h * D + i]
                to[length, i] = qkv[r, 2 * C + h * D + i]
            q = qkv[r, h * D : (h + 1) * D]
            attend(q, own[: length + 1], to[: length + 1], none, scores, y[r, h * D : (h + 1) * D])
    line(y, out, z)
    after(x, z, norm1, eps[0], first)
    # 2. look at the source: rows that share one stand side by side
    if first:
        norm(x, norm2, eps[1], z)
    q = np.empty((R, C), np.float32)
    line(z if first else x, query, q)
    for r in range(R):
        n = r // (R // N)
        away = hidden[n] if len(hidden) else none
        for h in range(H):
            attend(q[r, h * D : (h + 1) * D], k[n, h], v[n, h], away, scores, y[r, h * D : (h + 1) * D])
    line(y, cross, z)
    after(x, z, norm2, eps[1], first)
    # 3. think
    if first:
        norm(x, norm3, eps[2], z)
    inner = np.empty((R, len(up[0])), np.float32)
    line(z if first else x, up, inner)
    bend(inner, kind)
    line(inner, down, z)
    after(x, z, norm3, eps[2], first)


@compiled
def move(past, length, rows):
    """Row r of past (L, 2, R, H, room, D), as far as that is written, becomes row rows[r], which stays."""
    L, _, _, H, _, D = past.shape
    for layer in range(L):
        for kind in range(2):
            for r in range(len(rows)):
                if rows[r] != r:
                    for h in range(H):
                        old, new = past[layer, kind, rows[r], h], past[layer, kind, r, h]
                        for t in range(length):
                            for i in range(D):
                                new[t, i] = old[t, i]


def warm_up() -> None:
    """Load or compile what is used here: a few seconds once an install, then half of one in each process."""
    one, three, row = (np.zeros((n, 8), np.float32) for n in (8, 24, 1))
    many, number = np.zeros(24, np.float32), np.zeros(1, np.int64)
    pair, past, eps = (one, many[:8]), np.zeros((1, 2, 1, 1, 1, 8), np.float32), np.ones(3, np.float32)
    weights = (three, many), pair, pair, pair, pair, pair, *[(row[0], row[0])] * 3
    words(number.reshape(1, 1), one, row[0], np.float32(1), row.copy())
    layer = weights, eps, True, 0
    layer_step(row.copy(), layer, past, 0, 0, past[0, 0], past[0, 0], np.zeros((0, 0), np.bool_))
    norm(row, weights[-1], np.float32(1), row.copy())
    line(row, pair, row.copy())
    are_finite(row)
    known = np.zeros((8, 8), np.int8), many[:8], many[:8], many[:8], number
    shortlist(row[0], pair, known, np.float32(1), many[:8].copy())
    ranked(np.zeros((1, PIECES), np.float32), np.zeros((1, 1)), number.reshape(1, 1), np.zeros(1))
    move(past, 1, number)


def is_kept() -> bool:
    """Whether `warm_up` finds what an earlier process compiled."""
    folder = layer_step.stats.cache_path
    return bool(folder) and any(Path(folder).glob(f"*.{layer_step.__name__}-*.nbi"))
