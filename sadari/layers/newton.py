"""Newton's method for the logistic rung, in as few passes over the rows as will do (Nocedal & Wright 2006).

One pass gives the loss and its gradient and, at three times the price, while a block of rows is in cache, the
second derivatives. So

1. an eighth of the rows is solved first, and before it an eighth of that, only as well as so few can tell;
2. a large table takes the second derivatives of its eighth, corrected by how the gradient moves (BFGS), and
   computes its own only where these do not cut the distance to the optimum well;
3. with many classes, where all second derivatives are too many, each Newton step is solved by conjugate
   gradients, preconditioned by each class's own block, in single precision and no further than it pays
   (truncated Newton, Dembo & Steihaug 1983).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sadari.errors import SadariError
from sadari.layers.rows import Sums, over_rows

GAP = 1e-9  # distance from the least objective, relative, that the last step is expected to leave
STEPS = 200
CERTAIN = 0.5  # a sum of losses below log 2 puts every row on the right side of its boundary
WHOLE = 128  # weights up to which all second derivatives are kept, as one matrix
SMALL = 1 << 19  # cells of a table that is converted to float64 once, not in every pass: 4 MB
SHARE = 8  # one row in so many makes the table that is solved first
RUN = 16  # neighbouring rows that are taken together, so that memory is read in order
SAMPLED = 1 << 24  # cells of the largest such table, so that it fits in memory: 128 MB
ROWS_A_WEIGHT = 20  # rows that such a table needs for each weight
ENOUGH = 100  # rows a weight whose second derivatives, scaled up, will do for a larger table
HOLDS = 0.1  # a step that leaves more than this share of the distance asks for new second derivatives


@dataclass(frozen=True)
class Optimum:
    """What `fit_logistic` found."""

    weights: np.ndarray  # (O, C)
    intercepts: np.ndarray  # (O,)
    objective: float
    steps: int
    converged: bool


def fit_logistic(
    X: np.ndarray, y: np.ndarray, outputs: int, penalty: float, smoothing: float = 0.0
) -> Optimum:
    """Minimise the sum of losses plus penalty / 2 |W|^2 over X (N, C), classes y (N,), softmax or one logit.

    To be called within `quiet_blas`. SadariError when a feature is not finite.
    """
    N, C = X.shape
    some = X[:: max(N // 1024, 1)].astype(np.float64)
    centre = some.mean(axis=0)
    if (np.abs(centre) <= 4 * some.std(axis=0)).all():
        centre[:] = 0.0  # only far columns need to be moved
    W = np.zeros((outputs, C + 1))  # the intercept comes last
    inverse = None
    for rows in _samples(N, C, W.size):
        share = len(rows) / N
        table = _Table(X[rows], y[rows], centre, outputs, penalty * share, smoothing)
        W = _minimise(table, W, None, enough=0.05 * W.size)[0]  # so few rows tell no more
        enough = len(rows) >= ENOUGH * W.size or not table.whole  # to precondition, any will do
        inverse = table.inverse * share if enough else None
    table = _Table(X, y, centre, outputs, penalty, smoothing)
    W, objective, steps, converged = _minimise(table, W, inverse, enough=0.0)
    if outputs > 1:
        W = W - W.mean(axis=0)  # of all weights that give the same probabilities
    return Optimum(W[:, :C], W[:, C] - W[:, :C] @ centre, objective, steps, converged)


def _samples(rows: int, columns: int, weights: int) -> list[np.ndarray]:
    """Row numbers of samples, the smallest first: a run of rows from somewhere in each stretch."""
    samples = []
    stretch = SHARE * RUN
    while (runs := rows // stretch) * RUN >= max(ROWS_A_WEIGHT * weights, 1000):
        if runs * RUN * columns <= SAMPLED:
            starts = np.arange(runs) * stretch + np.random.default_rng(0).integers(0, stretch - RUN, runs)
            samples.append((starts[:, None] + np.arange(RUN)).ravel())
        stretch *= SHARE
    return samples[::-1]


def _minimise(
    table: _Table, W: np.ndarray, inverse: np.ndarray | None, enough: float
) -> tuple[np.ndarray, float, int, bool]:
    """Newton's method from W (O, C + 1) until the objective is within `enough`, or GAP, of its least.

    `inverse` is a first guess of the inverse of the second derivatives. Returns weights, objective, steps,
    and whether that was reached.
    """
    value, gradient = table.look(W, second=inverse is None)
    if not math.isfinite(value):
        raise SadariError("a feature holds a value that is not finite; give numbers without gaps")
    if inverse is not None:
        table.inverse = inverse
    own, gap = inverse is None, math.inf  # whether the second derivatives were computed here
    for taken in range(1, STEPS + 1):
        if table.free and value < CERTAIN:
            return W, value, taken, True
        goal = max(GAP * value, enough)
        step, rest = table.newton(gradient, gap, goal)
        slope = float(np.vdot(gradient, step))
        gap, before = -slope / 2, gap  # the decrease that a quadratic promises
        if max(rest, table.leaves(gap, before)) <= goal:
            W = W + step
            return W, table.look(W, second=False)[0] if table.small else value - gap, taken, gap >= 0
        stale = table.lazy and gap > HOLDS * before
        length, second = 1.0, table.due()
        while not stale and length > 1e-10:
            after, following = table.look(W + length * step, second)
            if after <= value + 1e-4 * length * slope + table.rounding * value:
                break
            stale = table.lazy and not own
            length /= 2
        else:
            if not stale:
                return W, value, taken, False
            value, gradient = table.look(W, second=True)
            own, gap = True, math.inf
            continue
        if table.lazy:
            table.learn(length * step, following - gradient)
        W, value, gradient = W + length * step, after, following
    return W, value, STEPS, False


class _Table:
    """The objective of one table of rows: D = C + 1 weights for each of O logits, the intercept last."""

    def __init__(
        self, X: np.ndarray, y: np.ndarray, centre: np.ndarray, outputs: int, penalty: float, smoothing: float
    ) -> None:
        self.rows, self.outputs, self.width = len(X), outputs, X.shape[1] + 1
        self.smoothing = smoothing
        self.free = penalty == 0 and smoothing == 0  # nothing holds the weights
        self.whole = outputs == 1 or outputs * self.width <= WHOLE
        self.small = small = X.size <= SMALL
        self.lazy = self.whole and not small  # second derivatives are kept from step to step
        self.X: np.ndarray = X - centre if small else X
        self.centre: np.ndarray = np.zeros(len(centre)) if small else centre
        self.moved = bool(self.centre.any())
        self.dtype = np.dtype(np.float64) if self.moved else self.X.dtype
        self.rounding = 1e-14 if self.dtype == np.float64 else 1e-9  # of the objective, relative
        self.y = y * (1 - smoothing) + smoothing / 2 if outputs == 1 else y
        self.ridge = np.full(self.width, penalty)
        self.ridge[-1] = 0.0
        self.inverse, self.turns = np.empty(0), 0
        if not self.whole:
            self.single = self.X.astype(np.float32) if small else self.X
            self.shares = np.empty((outputs, self.rows), np.float32)
            self.steepest = 0.0

    def _blocks(
        self, slices: Iterator[slice], X: np.ndarray, dtype: Any
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Each block of rows (n, C), as it lies in memory where that will do."""
        buffer = np.empty((0, 0), dtype)
        for rows in slices:
            if not self.moved and X.dtype == dtype:
                yield rows, X[rows]
                continue
            n = rows.stop - rows.start
            if len(buffer) < n:
                buffer = np.empty((n, X.shape[1]), dtype)
            if self.moved:
                np.subtract(X[rows], self.centre, out=buffer[:n], casting="same_kind")
            else:
                np.copyto(buffer[:n], X[rows], casting="same_kind")
            yield rows, buffer[:n]

    def look(self, W: np.ndarray, second: bool) -> tuple[float, np.ndarray]:
        """Objective and gradient (O, D) at W; with `second` also second derivatives, inverted."""
        outputs, D = W.shape
        size = outputs * D
        shape = (size, size) if self.whole else (outputs, D, D)
        weights, intercepts = W[:, :-1].astype(self.dtype), W[:, -1:]

        def visit(slices: Iterator[slice]) -> Sums:
            value, gradient, curvature = np.zeros(1), np.zeros((outputs, D)), np.zeros(shape if second else 0)
            for rows, A in self._blocks(slices, self.X, self.dtype):
                logits = np.add((A @ weights.T).T, intercepts, order="C")  # (O, n) float64
                if outputs == 1:
                    part, residual, shares = _binary(logits, self.y[rows])
                else:
                    part, residual, shares = _softmax(logits, self.y[rows], self.smoothing)
                value += part
                gradient[:, :-1] += residual.astype(self.dtype, copy=False) @ A
                gradient[:, -1] += residual.sum(axis=1)
                if not self.whole:
                    self.shares[:, rows] = shares
                if second:
                    _curvature(A, shares, curvature)
            return value, gradient, curvature

        reach = D + 4 * outputs + (size if second and self.whole else 0)
        value, gradient, curvature = over_rows(visit, self.rows, reach)
        if second and np.isfinite(value[0]):
            self._invert(curvature)
        return float(value[0]) + 0.5 * float(np.vdot(self.ridge * W, W)), gradient + self.ridge * W

    def due(self) -> bool:
        """Whether the next look should compute second derivatives: always where they cost little; those that
        only precondition, after as many turns of conjugate gradients as they cost."""
        return not self.lazy if self.whole else 4 * self.turns > self.width

    def _invert(self, curvature: np.ndarray) -> None:
        """Keep the inverse of second derivatives: of all (O D, O D), or of each class's block (O, D, D)."""
        if self.whole:
            four = curvature.reshape(self.outputs, self.width, self.outputs, self.width)
            if self.outputs > 1:
                # one line added to all logits changes no probability: give that direction curvature
                sizes = np.einsum("odod->d", four) / self.outputs
                np.einsum("odpd->opd", four)[...] += sizes
            np.einsum("odod->od", four)[...] += self.ridge
            diagonal = curvature.diagonal()
        else:
            np.einsum("odd->od", curvature)[...] += self.ridge
            diagonal = np.einsum("odd->od", curvature)
        largest = float(diagonal.max())
        if not math.isfinite(largest):
            raise SadariError("the features are too large for their second derivatives; standardise them")
        # a penalty that is more than rounding keeps them positive; else columns that coincide need a lift
        rounding = 1e-14 if self.whole else 1e-7  # the blocks were summed in single precision
        lift, lifted = 0.0 if self.ridge[0] > 100 * rounding * largest else rounding, curvature
        while True:
            try:
                if lift > 0:
                    lifted = curvature.copy()
                    np.einsum("...dd->...d", lifted)[...] += lift * np.where(diagonal > 0, diagonal, 1.0)
                    np.linalg.cholesky(lifted)  # fails where they are not positive
                inverse = np.linalg.inv(lifted)
                break
            except np.linalg.LinAlgError:
                lift = max(100 * lift, rounding)
        self.inverse = inverse if self.whole else inverse.astype(np.float32)
        self.turns = 0

    def learn(self, step: np.ndarray, change: np.ndarray) -> None:
        """Correct the inverse by how the gradient changed along a step (BFGS)."""
        s, y = step.ravel(), change.ravel()
        along = float(s @ y)
        if along > 0:
            moved = self.inverse @ y
            self.inverse += ((along + y @ moved) / along**2) * np.outer(s, s)
            self.inverse -= (np.outer(moved, s) + np.outer(s, moved)) / along

    def leaves(self, gap: float, before: float) -> float:
        """The gap to be expected after a step from `gap`, when the last one led there from `before`.

        Convergence is quadratic, and linear where second derivatives are kept from step to step.
        """
        return gap if before == math.inf else gap * min(gap / before, 1.0) ** (1 if self.lazy else 2)

    def newton(self, gradient: np.ndarray, before: float, goal: float) -> tuple[np.ndarray, float]:
        """The step (O, D) to the least of the quadratic at hand, and how far from it the step stops short.

        `before` is the gap from which the last step came, `goal` the gap at which the search may end.
        """
        if self.whole:
            return -(self.inverse @ gradient.ravel()).reshape(gradient.shape), 0.0
        ridge, inverse = self.ridge.astype(np.float32), self.inverse
        step = np.zeros(gradient.shape, np.float32)
        residual = -gradient.astype(np.float32)
        towards = np.matmul(inverse, residual[:, :, None])[:, :, 0]
        energy = first = float(np.vdot(residual, towards))
        self.steepest = max(self.steepest, first)
        last_one = self.leaves(first / 2, before) <= goal
        rest = goal if last_one else max(min(0.1, math.sqrt(first / self.steepest)) * first, goal)
        direction = towards
        for _ in range(gradient.size):
            if energy <= rest:
                break
            curved = self._curve(direction) + ridge * direction
            self.turns += 1
            bend = float(np.vdot(direction, curved))
            if bend <= 0:  # rounding: the row of directions has come to its end
                break
            length = energy / bend
            step += length * direction
            residual -= length * curved
            towards = np.matmul(inverse, residual[:, :, None])[:, :, 0]
            energy, last = float(np.vdot(residual, towards)), energy
            direction = towards + (energy / last) * direction
        return step.astype(np.float64), energy

    def _curve(self, V: np.ndarray) -> np.ndarray:
        """Second derivatives times V (O, D), at the probabilities of the last `look`."""
        weights, intercepts = np.ascontiguousarray(V[:, :-1]), V[:, -1:]

        def visit(slices: Iterator[slice]) -> Sums:
            total = np.zeros(V.shape, np.float32)
            for rows, A in self._blocks(slices, self.single, np.dtype(np.float32)):
                P = self.shares[:, rows]
                U = np.add((A @ weights.T).T, intercepts, order="C")  # (O, n)
                U -= np.einsum("on,on->n", P, U)
                U *= P
                total[:, :-1] += U @ A
                total[:, -1] += U.sum(axis=1)
            return (total,)

        return over_rows(visit, self.rows, self.width + 4 * self.outputs)[0]


def _binary(z: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Sum of log(1 + e^z) - y z over z (1, n), its derivative p - y, and p, all without overflow."""
    e = np.exp(-np.abs(z))
    value = np.log1p(e).sum() + np.maximum(z, 0.0).sum() - z[0] @ y
    p = np.where(z < 0, e, 1.0) / (1.0 + e)
    return float(value), p - y, p


def _softmax(z: np.ndarray, y: np.ndarray, smoothing: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Sum of log sum e^z - z_y over the rows of z (O, n), its derivative, and the probabilities."""
    outputs, n = z.shape
    z -= z.max(axis=0)
    p = np.exp(z)
    total = p.sum(axis=0)
    p /= total
    own = (y, np.arange(n))
    value = np.log(total).sum() - (1 - smoothing) * z[own].sum()
    residual = p.copy()
    residual[own] -= 1 - smoothing
    if smoothing > 0:
        value -= smoothing / outputs * z.sum()
        residual -= smoothing / outputs
    return float(value), residual, p


def _curvature(A: np.ndarray, p: np.ndarray, total: np.ndarray) -> None:
    """Add to `total` the second derivatives of rows A (n, C) with probabilities p (O, n), all or by class."""
    (n, C), outputs = A.shape, len(p)
    D = C + 1
    if outputs == 1:
        scaled = np.empty((n, D))
        scaled[:, C] = np.sqrt(p[0] * (1 - p[0]))
        np.multiply(A, scaled[:, C:], out=scaled[:, :C])
        total += scaled.T @ scaled
        return
    if total.ndim == 2:
        mixed = np.empty((n, outputs, D))
        mixed[:, :, C] = p.T
        np.multiply(A[:, None, :], mixed[:, :, C:], out=mixed[:, :, :C])
        wide = mixed.reshape(n, outputs * D)
        total -= wide.T @ wide
        ones = np.empty((n, D))
        ones[:, :C], ones[:, C] = A, 1.0
        diagonal = (ones.T @ wide).reshape(D, outputs, D).transpose(1, 0, 2)  # (O, D, D)
        np.einsum("odoe->ode", total.reshape(outputs, D, outputs, D))[...] += diagonal
        return
    ones = np.empty((n, D), np.float32)
    ones[:, :C], ones[:, C] = A, 1.0
    if p.min() == p.max():  # as at the start, where all classes share one block
        total += p[0, 0] * (1 - p[0, 0]) * (ones.T @ ones)
        return
    roots = np.sqrt(p * (1 - p)).astype(np.float32)
    for k in range(outputs):
        scaled = ones * roots[k][:, None]
        total[k] += scaled.T @ scaled
