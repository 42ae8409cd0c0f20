"""One-hot: a bag of words and a weight a word (Harris 1954 for the bag; Cox 1958 for the weights).

What differs from the rung below (prior): a text is read, as the set of tokens that occur in it. Each token is
a direction of its own, x = one-hot vectors added, so that every two words are equally far apart and what was
learnt about one says nothing about another; and their order is lost.

      "the cat sat"  ->  x = 0 0 1 0 0 1 0 ... 1 (V)  ->  W x + b, as logistic regression
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.optimize
import scipy.sparse
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.lang import Note, Texts
from sadari.layers.dense import Recorder
from sadari.layers.newton import CERTAIN
from sadari.layers.tokens import is_real
from sadari.losses import CLASSES, Loss

MOST = 1000  # steps of the direct search; a usual one takes 20 to 100
CLOSE = 1e-6  # of the objective at the start: a gradient so much shorter than it ends the search

TEXTS: Texts = {
    "separable": (
        "The words tell all training texts apart without a mistake, so that without a penalty their weights "
        "would grow for ever: they were stopped where every text is as good as certain. Set a penalty.",
        "단어만으로 훈련 글이 하나도 틀리지 않고 갈린다. 벌점이 없으면 가중치가 끝없이 커지므로, 모든 글이 "
        "거의 확실해진 곳에서 멈췄다. penalty를 정하라.",
    ),
    "slow": (
        "The search stopped after {iterations} steps, short of the usual closeness to the optimum.",
        "{iterations}걸음 뒤, 최적점에 평소만큼 가까워지기 전에 멈췄다.",
    ),
}


@dataclass(frozen=True)
class OneHotConfig:
    """Settings of a bag of words."""

    counts: bool = False
    """Count how often a token occurs in a text, instead of whether it does."""
    penalty: float = 1.0
    """Penalty on half the squared weights, as scikit-learn's 1 / C; intercepts stay free; 0 is none."""
    method: str = "exact"
    """How weights are found: exact (to the optimum, all texts at once), or gradient (descent to the same)."""

    def __post_init__(self) -> None:
        if not 0 <= self.penalty < math.inf:
            raise SadariError(
                f"penalty {self.penalty}: a penalty is 0 or more; use penalty=1.0, or 0 for none"
            )
        if self.method not in ("exact", "gradient"):
            raise SadariError(f"method {self.method!r} is neither 'exact' nor 'gradient'; use method='exact'")


class OneHot(nn.Module):
    """Logits W x + b of a text's bag x."""

    Config: ClassVar = OneHotConfig
    TINY: ClassVar = OneHotConfig()
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.01}

    def __init__(self, config: OneHotConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(inputs, outputs)
        nn.init.zeros_(self.linear.weight)  # a word that was never read says nothing
        nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B O"]:
        """W x + b as the sum of W's columns over the text's tokens: the zeros of x are never touched."""
        heap = tokens.sort(-1).values  # padding first, equal tokens side by side
        weight = is_real(heap)
        if not self.config.counts:
            weight[:, 1:] &= heap[:, 1:] != heap[:, :-1]
        output = F.embedding_bag(
            heap.clamp(min=0),
            self.linear.weight.t(),
            mode="sum",
            per_sample_weights=weight.to(self.linear.weight.dtype),
        )
        output = output + self.linear.bias  # (B, O)
        return output if rec is None else rec("output", output)

    def penalty(self) -> Float[Tensor, ""]:
        """What the squared weights add to the sum of losses, for descent: penalty / 2 times their sum."""
        return self.config.penalty / 2 * self.linear.weight.square().sum()

    def bags(self, tokens: Int[np.ndarray, "N T"]) -> scipy.sparse.csr_matrix:
        """x of each text as the rows of a sparse matrix (N, V), float64."""
        rows, places = np.nonzero(tokens >= 0)
        ones, shape = np.ones(len(rows)), (len(tokens), self.linear.in_features)
        matrix = scipy.sparse.csr_matrix((ones, (rows, tokens[rows, places])), shape)  # adds up equal tokens
        if not self.config.counts:
            matrix.data[:] = 1.0
        return matrix

    def can_solve(self, loss: Loss) -> bool:
        """True for the losses over classes by the exact method."""
        return loss.name in CLASSES and self.config.method == "exact"

    @torch.no_grad()
    def solve(self, tokens: Int[Tensor, "N T"], targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Set the weights that minimise the sum of losses plus penalty / 2 times the squared weights.

        L-BFGS over the sparse bags in float64. Returns `iterations`, `objective`, `converged` and `notes`.
        """
        X, penalty = self.bags(tokens.numpy()), self.config.penalty
        XT = X.T.tocsr()
        (N, V), outputs = X.shape, loss.outputs
        # a rare word bends the objective little and a common one much: in these units, all about equally
        unit = np.ones((V + 1, 1))
        unit[:V, 0] = 1 / np.sqrt(np.asarray(X.multiply(X).sum(0)).ravel() * 0.25 / outputs + penalty + 1e-3)
        unit[V] = 1 / math.sqrt(max(N, 1) * 0.25 / outputs)

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(V + 1, outputs) * unit
            W, b = weights[:V], weights[V]
            values, residual = loss.value_and_gradient(torch.from_numpy(X @ W + b), targets)
            R = residual.numpy()  # (N, O)
            slope = np.vstack([XT @ R + penalty * W, R.sum(0)]) * unit
            return float(values.sum()) + penalty / 2 * float((W * W).sum()), slope.ravel()

        def certain(intermediate_result: scipy.optimize.OptimizeResult) -> None:
            if penalty == 0 and loss.smoothing == 0 and intermediate_result.fun < CERTAIN:
                raise StopIteration

        begin = np.zeros((V + 1) * outputs)
        first = objective(begin)[0]
        found = scipy.optimize.minimize(
            objective,
            begin,
            jac=True,
            method="L-BFGS-B",
            callback=certain,
            options={"maxiter": MOST, "maxfun": 2 * MOST, "gtol": CLOSE * math.sqrt(first), "ftol": 0.0},
        )
        weights = found.x.reshape(V + 1, outputs) * unit
        self.linear.weight.copy_(torch.from_numpy(weights[:V].T))
        self.linear.bias.copy_(torch.from_numpy(weights[V]))
        separable = penalty == 0 and loss.smoothing == 0 and found.fun < CERTAIN
        notes = []
        if separable:
            notes.append(Note.of(TEXTS, "separable", "warning"))
        elif not found.success:
            notes.append(Note.of(TEXTS, "slow", "warning", iterations=found.nit))
        return {
            "iterations": int(found.nit),
            "objective": float(found.fun),
            "converged": bool(found.success) or separable,
            "notes": notes,
        }

    @staticmethod
    def parameter_count(config: OneHotConfig, inputs: int, outputs: int) -> int:
        """O (V + 1): a weight a token, and an intercept, for each logit."""
        return outputs * (inputs + 1)

    @staticmethod
    def macs(config: OneHotConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a text of `length` tokens: O each, since the zeros cost nothing."""
        return length * outputs
