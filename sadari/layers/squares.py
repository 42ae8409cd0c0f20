"""Least squares in as few passes over the rows as will do, and as precise as an orthogonal factorisation.

The products of all columns with each other come from one pass over the rows, at the speed of a matrix
product, but they square the condition number, and so lose sight of directions in which columns nearly
coincide. Those directions, scaled up, are looked at in another pass (as Cholesky-QR repeats itself, Yamamoto
et al. 2015, Fukaya et al. 2020; by eigenvectors here, so that the rank shows), and the answer is refined by
its own residual (corrected semi-normal equations, Bjorck 1987). Most tables need one pass.

    pass      (X - mean) T  ->  products of columns  ->  singular values, and T of the directions seen badly
    refine    w  ->  residual r = y - X w  ->  X' r  ->  w + T T' X' r
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sadari.errors import SadariError
from sadari.layers.rows import Sums, over_rows

EPS, SINGLE = float(np.finfo(np.float64).eps), float(np.finfo(np.float32).eps)
PASSES = 4  # two see singular values down to 1e-14 of the largest, enough for the rank of most tables
SMALL = 1 << 13  # cells of a table whose singular values are found faster than products are told apart
REFINABLE = 1e-8  # relative error that one refinement brings down to rounding


@dataclass(frozen=True)
class Solution:
    """What `least_squares` found."""

    weights: np.ndarray  # (C,)
    intercept: float
    rank: int
    condition: float
    passes: int


def least_squares(X: np.ndarray, y: np.ndarray, ridge: float = 0.0, precision: float = EPS) -> Solution:
    """Weights (C,) and intercept that minimise |y - X w - b|^2 + ridge |w|^2, X (N, C) of any float type.

    1. one pass over all columns  2. another over the directions that it saw badly, until none is left
    3. solve  4. refine by the residual, to relative `precision`  5. take the shortest of equal answers
    """
    N, C = X.shape
    # columns that coincide to the rounding of their own type count as coinciding; in float64 as lstsq has it
    tolerance = max(EPS * max(N, C), 0.0 if X.dtype == np.float64 else 4 * SINGLE)
    if N <= C or (X.size <= SMALL and ridge == 0):
        return _at_once(X, y, ridge, tolerance)
    # 1. all directions, the columns centred and at length 1
    table = _Table(X, y)
    products, cancelled = table.products()
    length = np.sqrt(products.diagonal())
    length[length == 0] = 1.0
    products /= length[:, None] * length
    length, target_length = length[:C], float(length[C])
    penalty = ridge / length**2
    gram = products[:C, :C]
    if ridge > 0:
        gram = gram + np.diag(penalty)
    values, axes = np.linalg.eigh(gram)
    sigma, axes = _roots(values[::-1]), axes[:, ::-1]  # falling
    seen = _divide(axes.T @ products[:C, C], sigma)  # (k,) the target along each direction
    # 2. below `floor` a singular value is rounding; above, its direction is known to (floor / sigma)^2
    top, noise = float(sigma[0]), 4 * math.sqrt(C) * EPS
    floor = math.sqrt(noise * cancelled) * top
    error, passes = 0.0, 1
    while True:
        if floor <= tolerance * top or passes == PASSES:
            there = sigma > tolerance * top
            sigma, axes, seen = sigma[there], axes[:, there], seen[there]
        good = int(np.count_nonzero(sigma >= floor / math.sqrt(REFINABLE)))
        error = max(error, (floor / float(sigma[good - 1])) ** 2 if good else 0.0)
        if good == len(sigma) or passes == PASSES:
            break
        spread = np.maximum(sigma, floor)
        inverse = axes / spread  # (C, k) directions at length 1, the poor ones last
        poor = inverse[:, good:]
        across, among = table.along(poor / length[:, None])
        shared = poor.T @ (penalty[:, None] * inverse)
        S, b = np.eye(len(sigma)), seen.copy()
        S[good:] = (across / length) @ inverse + shared
        S[good:, good:] = among[:-1, :-1] + shared[:, good:]
        S[:good, good:] = S[good:, :good].T
        b[good:] = among[:-1, -1] / target_length
        values, V = np.linalg.eigh(S)
        roots = _roots(values)
        triangle = (roots[:, None] * V.T * spread) @ axes.T  # (k, C): X at length 1 = orthonormal @ triangle
        left, sigma, right = np.linalg.svd(triangle, full_matrices=False)
        axes, seen = right.T, left.T @ _divide(V.T @ b, roots)
        floor *= math.sqrt(noise)
        passes += 1
    # 3. solve in the directions that are there
    rank = len(sigma)
    back = axes / sigma / length[:, None]  # (C, rank), such that (X - mean) back is nearly orthonormal
    weights = back @ seen * target_length
    # 4. refine
    size = float(np.linalg.norm(seen)) * target_length
    missing = error * size
    for _ in range(2):
        if missing <= precision * size:
            break
        change = back.T @ (table.gradient(weights) - ridge * weights)
        weights += back @ change
        missing = error * float(np.linalg.norm(change))
        passes += 1
    # 5. of all answers that fit equally well the shortest, in the features' own units
    if rank < C:
        weights = _shortest(weights, axes, length)
    condition = top / float(sigma[-1]) if rank else 1.0
    return Solution(weights, table.target_mean - float(weights @ table.mean), rank, condition, passes)


def _roots(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(values, 0.0))


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b is."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _at_once(X: np.ndarray, y: np.ndarray, ridge: float, tolerance: float) -> Solution:
    """By the singular values of the table itself: for a small one, or one with no more rows than columns."""
    N, C = X.shape
    centre, target_centre = X.mean(axis=0, dtype=np.float64), float(y.mean(dtype=np.float64))
    X, y = X - centre, y - target_centre
    length = np.sqrt(np.einsum("nc,nc->c", X, X))
    _check_finite(np.append(length, target_centre))
    length[length <= math.sqrt(N) * 4 * EPS * np.abs(centre)] = np.inf  # constant but for rounding
    if ridge > 0:
        length = np.ones(C)
    left, sigma, right = np.linalg.svd(X / length, full_matrices=False)
    rank = int(np.count_nonzero(sigma > tolerance * sigma[0]))
    left, sigma, axes = left[:, :rank], sigma[:rank], right[:rank].T
    weights = axes @ ((y @ left) * sigma / (sigma**2 + ridge)) / length
    if rank < C:
        weights = _shortest(weights, axes, length)
    condition = float(sigma[0] / sigma[-1]) if rank else 1.0
    rank = C if ridge > 0 else rank
    return Solution(weights, target_centre - float(weights @ centre), rank, condition, 1)


def _shortest(weights: np.ndarray, axes: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Of all weights (C,) that fit equally well the shortest: the part along the rows of X.

    Those rows are spanned by `axes` (C, rank) of the columns at length 1, at their true `length` (C,).
    """
    along = np.linalg.qr(np.where(np.isinf(length), 0.0, length)[:, None] * axes)[0]
    return along @ (along.T @ weights)


def _check_finite(columns: np.ndarray) -> None:
    """SadariError when what was computed of a column (C + 1, the target last) is not finite."""
    finite = np.isfinite(columns)
    if not finite.all():
        where = "the target" if finite[:-1].all() else f"column {finite.argmin()} of the features"
        raise SadariError(
            f"{where} holds a value that is not finite, or too large; give numbers without gaps"
        )


def largest_curvature(X: np.ndarray) -> float:
    """The largest eigenvalue of A' A / N with A = [X, 1], X (N, C): of the mean squared loss, half of each
    squared error, the second derivative where it bends most."""
    table = _Table(X, np.zeros(len(X)))
    table.mean[:] = 0.0
    products = np.delete(np.delete(table.raw(), -2, 0), -2, 1)  # without the target
    return float(np.linalg.eigvalsh(products)[-1] / len(X))


class _Table:
    """Passes over the rows of features X (N, C) and target y (N,), in blocks.

    Where X is not far from zero, a block is X as it is, else X less its mean; `rest` is the part of the mean
    that is still in the blocks.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        self.X, self.y = X, y
        # means of some rows are near enough for the exact ones to follow without cancellation
        step = max(len(X) // 1024, 1)
        some = X[::step]
        self.mean: np.ndarray = some.mean(axis=0, dtype=np.float64)
        self.target_mean = float(y[::step].mean(dtype=np.float64))
        self.near = step > 1 and bool((np.abs(self.mean) <= some.std(axis=0, dtype=np.float64)).all())
        if self.near:
            self.mean[:] = 0.0
        self.rest: np.ndarray = np.zeros(X.shape[1])

    def _blocks(self, slices: Iterator[slice]) -> Iterator[tuple[slice, np.ndarray]]:
        buffer = np.empty((0, 0))
        for rows in slices:
            block = self.X[rows]
            if block.dtype != np.float64 or not self.near:
                buffer = buffer if len(buffer) >= len(block) else np.empty(block.shape)
                np.copyto(buffer[: len(block)], block)  # the fastest way from one float type to another
                block = buffer[: len(block)]
                if not self.near:
                    block -= self.mean
            yield rows, block

    def raw(self) -> np.ndarray:
        """Products of the columns of [block, y - mean, 1] with each other, (C + 2, C + 2)."""
        C = self.X.shape[1]

        def visit(slices: Iterator[slice]) -> Sums:
            total, pair = np.zeros((C + 2, C + 2)), np.ones((2, 0))
            for rows, block in self._blocks(slices):
                pair = pair if pair.shape[1] == len(block) else np.ones((2, len(block)))
                np.subtract(self.y[rows], self.target_mean, out=pair[0])
                total[:C, :C] += block.T @ block
                total[C, :C] += pair[0] @ block  # one by one, faster than both at once
                total[C + 1, :C] += pair[1] @ block
                total[C:, C:] += pair @ pair.T
            return (total,)

        (total,) = over_rows(visit, len(self.X), C + 2)
        total[:C, C:] = total[C:, :C].T
        return total

    def products(self) -> tuple[np.ndarray, float]:
        """Centred products of [X, y] (C + 1, C + 1), and the largest share of a column's square that centring
        took away. Makes the means exact."""
        raw, N = self.raw(), len(self.X)
        squares, sums = raw.diagonal()[:-1], raw[-1, :-1]
        shift = sums / N
        products = raw[:-1, :-1] - shift[:, None] * sums
        variation = products.diagonal()
        _check_finite(variation)
        rounding = N * (4 * EPS * np.append(self.mean, self.target_mean)) ** 2
        constant = variation <= 64 * EPS * squares + rounding
        cancelled = float(_divide(squares, np.where(constant, 0.0, variation)).max(initial=1.0))
        if constant.any():
            products[constant] = products[:, constant] = 0.0
        self.mean, self.target_mean = self.mean + shift[:-1], self.target_mean + float(shift[-1])
        if self.near:
            self.rest = self.mean
        return products, cancelled

    def along(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """With Z = (X - mean) directions (N, k): centred products Z' X (k, C), and of [Z, y]."""
        C, k = directions.shape
        rest = self.rest @ directions

        def visit(slices: Iterator[slice]) -> Sums:
            across, among = np.zeros((k + 2, C)), np.zeros((k + 2, k + 2))
            columns = np.ones((0, k + 2))
            for rows, block in self._blocks(slices):
                columns = columns if len(columns) == len(block) else np.ones((len(block), k + 2))
                np.matmul(block, directions, out=columns[:, :k])
                columns[:, :k] -= rest
                np.subtract(self.y[rows], self.target_mean, out=columns[:, k])
                across += columns.T @ block
                among += columns.T @ columns
            return across, among

        across, among = over_rows(visit, len(self.X), C + k)
        # steep directions magnify what rounding left of the means
        across = across[:k] - np.outer(among[:k, -1], across[-1] / len(self.X))
        return across, among[:-1, :-1] - np.outer(among[:-1, -1], among[:-1, -1] / len(self.X))

    def gradient(self, weights: np.ndarray) -> np.ndarray:
        """(X - mean)' r of the residual r = (y - mean) - (X - mean) w."""
        C = len(weights)
        base = self.target_mean - float(self.rest @ weights)

        def visit(slices: Iterator[slice]) -> Sums:
            total, level, left = np.zeros(C), np.zeros(1), np.zeros(C)
            for rows, block in self._blocks(slices):
                residual = self.y[rows] - base
                residual -= block @ weights
                total += residual @ block
                level += residual.sum()
                if not self.near:
                    left += block.sum(axis=0)  # what rounding left of a far mean
            return total, level, left

        total, level, left = over_rows(visit, len(self.X), C)
        return total - (self.rest + left / len(self.X)) * level
