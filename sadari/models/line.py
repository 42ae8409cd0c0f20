"""Line: y = w x + b, one weight a feature (Legendre 1805; Gauss 1809; ridge: Hoerl & Kennard 1970).

What differs from the rung below (mean): it looks at the features, and weighs each of them.

Squared errors have a direct answer. The products of all columns with each other come from one pass over the
rows, at the speed of a matrix product, but they square the condition number, and so lose sight of directions
in which columns nearly coincide. Those directions, scaled up, are looked at in another pass (as Cholesky-QR
repeats itself, Yamamoto et al. 2015, Fukaya et al. 2020; by eigenvectors here, so that the rank shows), and
the answer is refined by its own residual (corrected semi-normal equations, Bjorck 1987). Most tables need one
pass.

    pass      (X - centre) T  ->  products of columns  ->  singular values, and T of the directions seen badly
    refine    w  ->  residual r = y - X w  ->  X' r  ->  w + T T' X' r
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.lang import Note, Texts
from sadari.layers.rows import Sums, over_rows, quiet_blas
from sadari.losses import Loss

TEXTS: Texts = {
    "rank": (
        "{spare} of {columns} columns only repeat others (rank {rank}): of all weights that fit "
        "equally well, the shortest were taken.",
        "열 {columns}개 가운데 {spare}개는 다른 열을 되풀이할 뿐이다(랭크 {rank}). 똑같이 잘 맞는 가중치 중 "
        "가장 짧은 것을 골랐다.",
    ),
}

EPS = float(np.finfo(np.float64).eps)
PASSES = 4  # two see singular values down to 1e-14 of the largest, enough for the rank of most tables
REFINABLE = 1e-8  # relative error that one refinement brings down to rounding


@dataclass(frozen=True)
class LineConfig:
    ridge: float = 0.0
    """Penalty on the squared weights, as scikit-learn's Ridge alpha; the intercept stays free; 0 is none."""
    method: str = "exact"
    """How squared errors are solved: exact (a factorisation), or gradient (descent, without ridge)."""

    def __post_init__(self) -> None:
        if not 0 <= self.ridge < math.inf:
            raise SadariError(f"ridge {self.ridge}: a penalty is 0 or more; use ridge=1.0, or 0 for none")
        if self.method not in ("exact", "gradient"):
            raise SadariError(f"method {self.method!r} is neither 'exact' nor 'gradient'; use method='exact'")
        if self.method == "gradient" and self.ridge > 0:
            raise SadariError(
                f"ridge {self.ridge} belongs to method 'exact'; with 'gradient' use the loop's weight_decay"
            )


class Line(nn.Module):
    """y = W x + b."""

    Config: ClassVar = LineConfig
    TINY: ClassVar = LineConfig()

    def __init__(self, config: LineConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(inputs, outputs)

    def forward(
        self, features: Float[Tensor, "B C"], rec: Callable[[str, Tensor], Tensor] | None = None
    ) -> Float[Tensor, "B O"]:
        output = self.linear(features)  # (B, O)
        return output if rec is None else rec("output", output)

    def can_solve(self, loss: Loss) -> bool:
        """True for squared errors by the exact method; every other loss goes through the loop."""
        return loss.name == "squared" and self.config.method == "exact"

    @torch.no_grad()
    def solve(
        self, features: Float[Tensor, "N C"], targets: Float[Tensor, " N"], loss: Loss
    ) -> dict[str, Any]:
        """Set the weights that minimise the sum of squared errors plus `ridge` times the squared weights.

        In float64, in row blocks, so that features may be mapped from a file. Columns that coincide give the
        weights of least norm, as `numpy.linalg.lstsq` does, and a note. Returns `iterations` (passes over the
        rows), `rank`, `condition` (of the columns centred and at equal length), `converged` and `notes`.
        SadariError when a value is not finite.
        """
        weight = self.linear.weight
        precision = EPS if weight.dtype == torch.float64 else 1e-9
        with quiet_blas(), np.errstate(invalid="ignore", over="ignore"):  # what is not finite is named
            answer = least_squares(features.numpy(), targets.numpy(), self.config.ridge, precision)
        weight.copy_(torch.from_numpy(answer.weights))
        self.linear.bias.fill_(answer.intercept)
        notes = []
        columns = features.shape[1]
        if answer.rank < columns:
            note = Note.of(TEXTS, "rank", spare=columns - answer.rank, columns=columns, rank=answer.rank)
            notes.append(note)
        return {
            "iterations": answer.passes,
            "rank": answer.rank,
            "condition": answer.condition,
            "converged": True,
            "notes": notes,
        }

    @staticmethod
    def step_bound(features: Float[Tensor, "N C"]) -> float:
        """The learning rate below which gradient descent on the mean squared loss lands: 2 / lambda_max.

        lambda_max is the largest eigenvalue of the loss's Hessian, A' A / N with A = [features, 1].
        """
        X = features.numpy()
        N, C = X.shape
        ones = np.broadcast_to(1.0, N)  # the intercept's column, in the place of the targets
        with quiet_blas():
            products = _products(X, ones, np.zeros(C + 1))[: C + 1, : C + 1]
            return float(2 * N / np.linalg.eigvalsh(products)[-1])

    @staticmethod
    def parameter_count(config: LineConfig, inputs: int, outputs: int) -> int:
        """O (C + 1): a weight a feature, and an intercept."""
        return outputs * (inputs + 1)

    @staticmethod
    def macs(config: LineConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for one row: C O, one a weight."""
        return inputs * outputs


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
    if N <= C:
        return _wide(X, y, ridge)
    # columns that coincide to the rounding of their own type count as coinciding; in float64 as lstsq has it
    tolerance = max(EPS * N, 0.0 if X.dtype == np.float64 else 4 * float(np.finfo(X.dtype).eps))
    # 1. all directions, the columns centred and at length 1
    centre, products, cancelled = _centred_products(X, y)
    length = np.sqrt(products.diagonal())
    length[length == 0] = 1.0
    products /= length[:, None] * length
    length, target_length = length[:C], float(length[C])
    penalty = ridge / length**2
    gram = products[:C, :C] + np.diag(penalty)
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
        across, among = _products_along(X, y, centre, poor / length[:, None])
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
    back = axes / sigma / length[:, None]  # (C, rank), such that (X - centre) back is nearly orthonormal
    weights = back @ seen * target_length
    # 4. refine
    size = float(np.linalg.norm(seen)) * target_length
    missing = error * size
    for _ in range(2):
        if missing <= precision * size:
            break
        change = back.T @ (_gradient(X, y, centre, weights) - ridge * weights)
        weights += back @ change
        missing = error * float(np.linalg.norm(change))
        passes += 1
    # 5. of all answers that fit equally well the shortest, in the features' own units
    if rank < C:
        null = np.linalg.qr(axes, mode="complete")[0][:, rank:]  # (C, C - rank)
        null = np.linalg.qr(null / length[:, None])[0]
        weights -= null @ (null.T @ weights)
    condition = top / float(sigma[-1]) if rank else 1.0
    return Solution(weights, float(centre[C] - weights @ centre[:C]), rank, condition, passes)


def _roots(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(values, 0.0))


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b is."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _wide(X: np.ndarray, y: np.ndarray, ridge: float) -> Solution:
    """No more rows than columns: the singular values of the centred table itself, which then is small."""
    C = X.shape[1]
    centre, target_centre = X.mean(axis=0, dtype=np.float64), float(y.mean(dtype=np.float64))
    _check_finite(np.append(centre, target_centre))
    left, sigma, right = np.linalg.svd(X - centre, full_matrices=False)
    there = sigma > C * EPS * sigma[0]
    left, sigma, right = left[:, there], sigma[there], right[there]
    weights = right.T @ (left.T @ (y - target_centre) * sigma / (sigma**2 + ridge))
    rank = C if ridge > 0 else len(sigma)
    condition = float(sigma[0] / sigma[-1]) if len(sigma) else 1.0
    return Solution(weights, target_centre - float(weights @ centre), rank, condition, 1)


def _check_finite(columns: np.ndarray) -> None:
    """SadariError when what was computed of a column (C + 1, the target last) is not finite."""
    finite = np.isfinite(columns)
    if not finite.all():
        where = "the target" if finite[:-1].all() else f"column {finite.argmin()} of the features"
        raise SadariError(
            f"{where} holds a value that is not finite, or too large; give numbers without gaps"
        )


def _centred_products(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Means of the columns of [X, y] (C + 1,), their centred products (C + 1, C + 1), and the largest share
    of a column's square that the centring took away."""
    N = len(X)
    # a centre from some rows is near enough for the exact one to follow from the pass without cancellation
    some = slice(None, None, max(N // 1024, 1))
    centre = np.append(X[some].mean(axis=0, dtype=np.float64), y[some].mean(dtype=np.float64))
    raw = _products(X, y, centre)
    squares, sums = raw.diagonal()[:-1].copy(), raw[-1, :-1]
    shift = sums / N
    products = raw[:-1, :-1] - np.outer(shift, sums)
    variation = products.diagonal()
    constant = variation <= 64 * EPS * squares + N * (4 * EPS * centre) ** 2
    _check_finite(variation)
    products[constant] = products[:, constant] = 0.0
    kept = ~constant
    cancelled = float(np.max(squares[kept] / variation[kept], initial=1.0))
    return centre + shift, products, cancelled


def _products(X: np.ndarray, y: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Products of all columns of [X - centre, y - centre, 1] with each other, (C + 2, C + 2)."""
    N, C = X.shape

    def visit(blocks: Iterator[slice]) -> Sums:
        total, columns = np.zeros((C + 2, C + 2)), np.ones((0, 0))
        for rows in blocks:
            n = rows.stop - rows.start
            if len(columns) < n:
                columns = np.ones((n, C + 2))
            block = columns[:n]
            np.subtract(X[rows], centre[:C], out=block[:, :C])
            np.subtract(y[rows], centre[C], out=block[:, C])
            total += block.T @ block
        return (total,)

    return over_rows(visit, N, C + 2)[0]


def _products_along(
    X: np.ndarray, y: np.ndarray, centre: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """With Z = (X - centre) directions (N, k): centred products Z' X (k, C), and of [Z, y] (k + 1, k + 1)."""
    N, C = X.shape
    k = directions.shape[1]

    def visit(blocks: Iterator[slice]) -> Sums:
        across, among = np.zeros((k + 2, C)), np.zeros((k + 2, k + 2))
        moved, columns = np.empty((0, 0)), np.empty((0, 0))
        for rows in blocks:
            n = rows.stop - rows.start
            if len(columns) < n:
                moved, columns = np.empty((n, C)), np.ones((n, k + 2))
            block, along = moved[:n], columns[:n]
            np.subtract(X[rows], centre[:C], out=block)
            np.matmul(block, directions, out=along[:, :k])
            np.subtract(y[rows], centre[C], out=along[:, k])
            across += along.T @ block
            among += along.T @ along
        return across, among

    across, among = over_rows(visit, N, C)
    # steep directions magnify what rounding left of the means
    across = across[:k] - np.outer(among[:k, -1], across[-1] / N)
    return across, among[:-1, :-1] - np.outer(among[:-1, -1], among[:-1, -1] / N)


def _gradient(X: np.ndarray, y: np.ndarray, centre: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(X - centre)' r of the residual r = (y - centre) - (X - centre) w."""
    N, C = X.shape

    def visit(blocks: Iterator[slice]) -> Sums:
        total, moved, pair = np.zeros((2, C + 1)), np.empty((0, 0)), np.empty((0, 0))
        for rows in blocks:
            n = rows.stop - rows.start
            if len(moved) < n:
                moved, pair = np.empty((n, C)), np.ones((2, n))
            block, residual = np.subtract(X[rows], centre[:C], out=moved[:n]), pair[0, :n]
            np.subtract(y[rows], centre[C], out=residual)
            residual -= block @ weights
            total[:, :C] += pair[:, :n] @ block
            total[0, C] += residual.sum()
        return (total,)

    (total,) = over_rows(visit, N, C)
    return total[0, :C] - total[1, :C] * (total[0, C] / N)  # what rounding left of the means, taken out
