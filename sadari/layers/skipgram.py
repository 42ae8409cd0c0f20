"""The compiled steps of word2vec: numba turns them into the processor's vector instructions once an install.

Why it is fast: the negatives of a centre are drawn a sentence ahead and shared by the words of its window, so
that their rows come from memory once a centre, and early (`prefetch`); the inner loops run over a width
padded to whole vector registers; threads write into the same matrices without a lock (Hogwild, Recht et al.
2011, 1106.5730): two that meet at a row lose a little of one update, which the many others make up for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

SENTENCE = 1000  # words that are looked at together, as word2vec.c's MAX_SENTENCE_LENGTH
PAD_WIDTH = 32  # float32 numbers: two registers of 512 bits, four of 256
FAR = np.float32(
    30
)  # a score as wrong as this has a sigmoid of 0 in float32, and a loss that grows as a straight line


def _compiled(function: Callable[..., Any]) -> Any:
    """`function`, compiled at its first call and kept beside this file or in the user's cache."""
    options: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no place to write at all: compiled anew in each process
        return numba.njit(**options)(function)


@intrinsic
def prefetch(typing: Any, matrix: Any, row: Any) -> Any:
    """Ask for a row of a C-contiguous matrix before it is needed; nothing waits for it."""

    def generate(context, builder, signature, values):
        array = context.make_array(signature.args[0])(context, builder, values[0])
        pointer, i32, i64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
        ask = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32]), "llvm.prefetch.p0"
        )
        stride = cgutils.unpack_tuple(builder, array.strides)[0]
        start = builder.mul(context.cast(builder, values[1], signature.args[1], types.intp), stride)
        base = builder.gep(builder.bitcast(array.data, pointer), [start])
        with cgutils.for_range_slice(builder, i64(0), stride, i64(64)) as (offset, _):  # a line of the cache
            builder.call(ask, [builder.gep(base, [offset]), i32(1), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(matrix, row), generate


@_compiled
def draw(state):
    """32 random bits (xorshift64, Marsaglia 2003) as uint64; `state` (1,) uint64 is moved on."""
    x = state[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    state[0] = x
    return x >> np.uint64(32)


@_compiled
def draw_noise(state, share, other):
    """A word from the noise distribution, by Walker's alias method."""
    word = np.int32((draw(state) * np.uint64(len(share))) >> np.uint64(32))
    return word if draw(state) < share[word] else other[word]


FLOATS = ir.VectorType(ir.FloatType(), 16)  # one register of 512 bits, two of 256, four of 128
BLOCK = 2  # such vectors that are worked on side by side; PAD_WIDTH numbers


class _Rows:
    """Builds the instructions that read and write rows of C-contiguous float32 matrices, vector by vector."""

    def __init__(self, context: Any, builder: Any, signature: Any) -> None:
        self.context, self.builder, self.signature = context, builder, signature
        module, word = builder.module, ir.FloatType()
        self.fma = cgutils.get_or_insert_function(
            module, ir.FunctionType(FLOATS, [FLOATS] * 3), "llvm.fmuladd.v16f32"
        )
        self.sum = cgutils.get_or_insert_function(
            module, ir.FunctionType(word, [word, FLOATS]), "llvm.vector.reduce.fadd.v16f32"
        )

    def array(self, values: Any, place: int) -> Any:
        return self.context.make_array(self.signature.args[place])(self.context, self.builder, values[place])

    def item(self, array: Any, index: Any) -> Any:
        return self.builder.gep(array.data, [index])

    def row(self, matrix: Any, number: Any) -> Any:
        stride = cgutils.unpack_tuple(self.builder, matrix.strides)[0]
        start = self.builder.mul(self.builder.sext(number, ir.IntType(64)), stride)
        base = self.builder.bitcast(matrix.data, ir.IntType(8).as_pointer())
        return self.builder.bitcast(self.builder.gep(base, [start]), ir.FloatType().as_pointer())

    def place(self, row: Any, j: Any, b: int) -> Any:
        at = self.builder.add(j, ir.IntType(64)(16 * b))
        return self.builder.bitcast(self.builder.gep(row, [at]), FLOATS.as_pointer())

    def load(self, row: Any, j: Any, b: int) -> Any:
        return self.builder.load(self.place(row, j, b), align=4)

    def store(self, value: Any, row: Any, j: Any, b: int) -> None:
        self.builder.store(value, self.place(row, j, b), align=4)

    def spread(self, number: Any) -> Any:
        one = self.builder.insert_element(ir.Constant(FLOATS, ir.Undefined), number, ir.IntType(32)(0))
        order = ir.Constant(ir.VectorType(ir.IntType(32), 16), [0] * 16)
        return self.builder.shuffle_vector(one, ir.Constant(FLOATS, ir.Undefined), order)

    def add(self, a: Any, b: Any, c: Any) -> Any:
        return self.builder.call(self.fma, [a, b, c])


@intrinsic
def dots(typing: Any, x: Any, out: Any, outputs: Any, count: Any, scores: Any) -> Any:
    """scores[k] = x . out[outputs[k]] for k < count, two rows at a time so that x is loaded half as often."""

    def generate(context, builder, signature, values):
        rows, i64 = _Rows(context, builder, signature), ir.IntType(64)
        vector, matrix, names, found = (rows.array(values, place) for place in (0, 1, 2, 4))
        width = cgutils.unpack_tuple(builder, vector.shape)[0]
        number = context.cast(builder, values[3], signature.args[3], types.intp)
        last = builder.sub(number, i64(1))
        zero = ir.Constant(FLOATS, [0.0] * 16)
        with cgutils.for_range_slice(builder, i64(0), number, i64(2)) as (k, _):
            more = builder.add(k, i64(1))
            pair = (k, builder.select(builder.icmp_signed("<", more, last), more, last))
            both = [rows.row(matrix, builder.load(rows.item(names, one))) for one in pair]
            sums = [cgutils.alloca_once_value(builder, zero) for _ in range(2 * BLOCK)]
            for place in sums:
                builder.store(zero, place)
            with cgutils.for_range_slice(builder, i64(0), width, i64(16 * BLOCK)) as (j, _):
                for b in range(BLOCK):
                    part = rows.load(vector.data, j, b)
                    for r in range(2):
                        place = sums[r * BLOCK + b]
                        builder.store(rows.add(part, rows.load(both[r], j, b), builder.load(place)), place)
            for r in range(2):
                total = builder.load(sums[r * BLOCK])
                for b in range(1, BLOCK):
                    total = builder.fadd(total, builder.load(sums[r * BLOCK + b]))
                value = builder.call(rows.sum, [ir.FloatType()(0.0), total], fastmath=("fast",))
                builder.store(value, rows.item(found, pair[r]))
        return context.get_dummy_value()

    return types.void(x, out, outputs, count, scores), generate


@intrinsic
def move(typing: Any, x: Any, out: Any, outputs: Any, count: Any, gains: Any, error: Any) -> Any:
    """error = sum gains[k] y_k, and y_k += gains[k] x, for the rows y_k = out[outputs[k]], k < count."""

    def generate(context, builder, signature, values):
        rows, i64 = _Rows(context, builder, signature), ir.IntType(64)
        vector, matrix, names, given, made = (rows.array(values, place) for place in (0, 1, 2, 4, 5))
        width = cgutils.unpack_tuple(builder, vector.shape)[0]
        number = context.cast(builder, values[3], signature.args[3], types.intp)
        zero = ir.Constant(FLOATS, [0.0] * 16)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(BLOCK)]
        with cgutils.for_range_slice(builder, i64(0), width, i64(16 * BLOCK)) as (j, _):
            parts = [rows.load(vector.data, j, b) for b in range(BLOCK)]
            for place in sums:
                builder.store(zero, place)
            with cgutils.for_range(builder, number) as loop:
                row = rows.row(matrix, builder.load(rows.item(names, loop.index)))
                gain = rows.spread(builder.load(rows.item(given, loop.index)))
                for b in range(BLOCK):
                    y = rows.load(row, j, b)
                    builder.store(rows.add(gain, y, builder.load(sums[b])), sums[b])
                    rows.store(rows.add(gain, parts[b], y), row, j, b)
            for b in range(BLOCK):
                rows.store(builder.load(sums[b]), made.data, j, b)
        return context.get_dummy_value()

    return types.void(x, out, outputs, count, gains, error), generate


@_compiled
def pair(x, out, outputs, count, rate, error, scores):
    """Score `outputs[:count]`, the first true and the rest noise, against vector x (C,); move their rows.

    `error` (C,) becomes what x is to be moved by: rate times the ascent of the pair's log-likelihood. All
    rows are scored before the first one moves. Returns the loss before the move, in nats:
    -log s(x y_0) - sum log s(-x y_k), s the sigmoid.
    """
    dots(x, out, outputs, count, scores)  # type: ignore[call-arg]
    loss, product = 0.0, 1.0
    for k in range(count):
        margin = scores[k] if k == 0 else -scores[k]
        near = margin if margin > -FAR else -FAR  # not max(), which costs a third of the step
        grown = np.exp(-near)
        if product > 1e200:
            loss += np.log(product)
            product = 1.0
        product *= 1.0 + np.float64(grown)  # one logarithm for many factors
        loss += np.float64(near - margin)
        missing = rate * grown / (np.float32(1) + grown)  # rate times what the sigmoid lacks of 1
        scores[k] = missing if k == 0 else -missing
    move(x, out, outputs, count, scores, error)
    return loss + np.log(product)


@_compiled
def skip_step(into, out, window, m, outputs, count, rate, error, scores):
    """Skip-gram: each of the window's m words in turn predicts the outputs. The sum of their losses."""
    loss = 0.0
    for a in range(m):
        x = into[window[a]]
        loss += pair(x, out, outputs, count, rate, error, scores)
        for j in range(len(x)):
            x[j] += error[j]
    return loss


@_compiled
def bag_step(into, out, window, m, outputs, count, rate, error, scores, mean):
    """CBOW: the mean of the window's m words predicts the outputs; each gets the whole error. The loss."""
    width = len(mean)
    for j in range(width):
        mean[j] = np.float32(0)
    for a in range(m):
        x = into[window[a]]
        for j in range(width):
            mean[j] += x[j]
    for j in range(width):
        mean[j] /= np.float32(m)
    loss = pair(mean, out, outputs, count, rate, error, scores)
    for a in range(m):
        x = into[window[a]]
        for j in range(width):
            x[j] += error[j]
    return loss


@_compiled
def sweep(stream, keep, share, other, into, out, window, negative, bag, shared, rates, seed):
    """Train on a stretch of the stream; returns the sum of losses and the number of pairs that made it.

    stream    (N,) int32 numbers of words, -1 at the end of each line
    keep      (V,) uint64: a word stays when 32 random bits are below it
    share, other   (V,) uint64, int32: the alias table of the noise
    into, out (V, C) float32, C-contiguous: changed
    bag       CBOW instead of skip-gram;  shared: a centre's negatives serve all words of its window
    rates     (2,) float64: learning rate at the stretch's two ends
    """
    state = np.empty(1, np.uint64)
    state[0] = seed
    words = np.empty(SENTENCE, np.int32)
    drawn = np.empty((SENTENCE, negative + 1), np.int32)
    outputs = np.empty(negative + 1, np.int32)
    beside = np.empty(2 * window, np.int32)
    scores = np.empty(negative + 1, np.float32)
    error = np.empty(into.shape[1], np.float32)
    mean = np.empty(into.shape[1], np.float32)
    loss, pairs, i = 0.0, 0, 0
    while i < len(stream):
        # 1. a sentence, frequent words thinned out; the neighbours of one that is gone close ranks
        rate = np.float32(rates[0] + (rates[1] - rates[0]) * (i / len(stream)))
        n = 0
        while i < len(stream) and stream[i] >= 0 and n < SENTENCE:
            word = stream[i]
            i += 1
            if draw(state) < keep[word]:
                words[n] = word
                n += 1
        if i < len(stream) and stream[i] < 0:
            i += 1
        # 2. the noise of all its centres
        for t in range(n):
            drawn[t, 0] = words[t]
            for k in range(1, negative + 1):
                drawn[t, k] = draw_noise(state, share, other)
        for t in range(n):
            # 3. rows that the next centre will need
            if t + 1 < n:
                for k in range(negative + 1):
                    prefetch(out, drawn[t + 1, k])  # type: ignore[call-arg]
            if t + window + 1 < n:
                prefetch(into, words[t + window + 1])  # type: ignore[call-arg]
            # 4. a window of 1 to `window` words to each side
            reach = 1 + np.int64((draw(state) * np.uint64(window)) >> np.uint64(32))
            m = 0
            for u in range(max(0, t - reach), min(n, t + reach + 1)):  # type: ignore[call-overload]
                if u != t:
                    beside[m] = words[u]
                    m += 1
            if m == 0:
                continue
            # 5. the step; noise that is the centre itself is left out, as in word2vec.c
            outputs[0] = words[t]
            if bag or shared:
                count = 1
                for k in range(1, negative + 1):
                    if drawn[t, k] != words[t]:
                        outputs[count] = drawn[t, k]
                        count += 1
                if bag:
                    loss += bag_step(into, out, beside, m, outputs, count, rate, error, scores, mean)
                    pairs += 1
                else:
                    loss += skip_step(into, out, beside, m, outputs, count, rate, error, scores)
                    pairs += m
                continue
            for a in range(m):
                count = 1
                for _ in range(negative):
                    noise = draw_noise(state, share, other)
                    if noise != words[t]:
                        outputs[count] = noise
                        count += 1
                loss += skip_step(into, out, beside[a : a + 1], 1, outputs, count, rate, error, scores)
            pairs += m
    return loss, pairs


def warm_up(say: Callable[[], None] = lambda: None) -> None:
    """Load or compile the kernel; `say` is called when that takes over 1.5 s, as compiling does."""
    timer = threading.Timer(1.5, say)
    timer.start()
    try:
        one = aligned(1, 1)
        nothing = np.zeros(0, np.int32)
        bits = np.zeros(1, np.uint64)
        call = (bits, bits, np.zeros(1, np.int32), one, one.copy(), 1, 1, False, True)
        sweep(nothing, *call, np.zeros(2), np.uint64(1))
    finally:
        timer.cancel()


def aligned(rows: int, width: int) -> np.ndarray:
    """Zeros (rows, width padded to PAD_WIDTH) float32 that begin at a line of the cache."""
    padded = -(-width // PAD_WIDTH) * PAD_WIDTH
    raw = np.zeros(rows * padded + 16, np.float32)
    first = -(raw.ctypes.data // 4) % 16
    return raw[first : first + rows * padded].reshape(rows, padded)


def alias_table(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`draw_noise`'s table for noise in proportion to `weights` (V,): shares (V,) uint64, words (V,) int32.

    Each of V equal boxes holds at most two words: its own by its share, another above it (Walker 1977).
    """
    share = weights / weights.sum() * len(weights)
    other = np.arange(len(weights), dtype=np.int32)
    low, high = [int(i) for i in np.flatnonzero(share < 1)], [int(i) for i in np.flatnonzero(share >= 1)]
    while low and high:
        box, giver = low.pop(), high[-1]
        other[box] = giver
        share[giver] -= 1 - share[box]
        if share[giver] < 1:
            low.append(high.pop())
    return threshold(share), other


def threshold(probability: np.ndarray) -> np.ndarray:
    """What 32 random bits stay below with the given probabilities."""
    return np.round(np.clip(probability, 0, 1) * 2.0**32).astype(np.uint64)
