"""Logistic: one line a class, made probabilities (Cox 1958; softmax regression, McFadden 1974).

What differs from the rung below (prior): the logits are lines in the features, not constants. The optimum is
found by Newton's method, in `sadari.layers.newton`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.lang import Note, Texts
from sadari.layers.newton import CERTAIN, fit_logistic
from sadari.layers.rows import quiet_blas
from sadari.losses import CLASSES, Loss

TEXTS: Texts = {
    "separable": (
        "The features tell all training rows apart without a mistake, so that without a penalty the weights "
        "would grow for ever: they were stopped where every row is as good as certain. Set a penalty.",
        "특성만으로 훈련 행이 하나도 틀리지 않고 갈린다. 벌점이 없으면 가중치가 끝없이 커지므로, 모든 행이 "
        "거의 확실해진 곳에서 멈췄다. penalty를 정하라.",
    ),
    "slow": (
        "The search stopped after {iterations} steps, short of the usual closeness to the optimum.",
        "{iterations}걸음 뒤, 최적점에 평소만큼 가까워지기 전에 멈췄다.",
    ),
}


@dataclass(frozen=True)
class LogisticConfig:
    """Settings of logistic regression; each field's text is the help of its flag."""

    penalty: float = 1.0
    """Penalty on half the squared weights, as scikit-learn's 1 / C; intercepts stay free; 0 is none."""
    method: str = "exact"
    """How weights are found: exact (Newton, to the optimum), or gradient (descent to the same)."""

    def __post_init__(self) -> None:
        if not 0 <= self.penalty < math.inf:
            raise SadariError(
                f"penalty {self.penalty}: a penalty is 0 or more; use penalty=1.0, or 0 for none"
            )
        if self.method not in ("exact", "gradient"):
            raise SadariError(f"method {self.method!r} is neither 'exact' nor 'gradient'; use method='exact'")


class Logistic(nn.Module):
    """Logits W x + b: one for two classes, else one a class."""

    Config: ClassVar = LogisticConfig
    TINY: ClassVar = LogisticConfig()

    def __init__(self, config: LogisticConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(inputs, outputs)

    def forward(
        self, features: Float[Tensor, "B C"], rec: Callable[[str, Tensor], Tensor] | None = None
    ) -> Float[Tensor, "B O"]:
        output = self.linear(features)  # (B, O)
        return output if rec is None else rec("output", output)

    def penalty(self) -> Float[Tensor, ""]:
        """What the squared weights add to the sum of losses, for descent: penalty / 2 times their sum."""
        return self.config.penalty / 2 * self.linear.weight.square().sum()

    def can_solve(self, loss: Loss) -> bool:
        """True for the losses over classes by the exact method."""
        return loss.name in CLASSES and self.config.method == "exact"

    @torch.no_grad()
    def solve(self, features: Float[Tensor, "N C"], targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Set the weights that minimise the sum of losses plus penalty / 2 times the squared weights.

        In row blocks, so that features may be mapped from a file; sums in float64. Returns `iterations`,
        `objective`, `converged` and `notes`; one says when classes separate and no penalty holds the weights.
        SadariError when a feature is not finite.
        """
        penalty = self.config.penalty
        rows, columns = features.shape
        with (
            quiet_blas(rows, columns * loss.outputs),
            np.errstate(invalid="ignore", over="ignore"),
        ):  # is refused later
            answer = fit_logistic(features.numpy(), targets.numpy(), loss.outputs, penalty, loss.smoothing)
        self.linear.weight.copy_(torch.from_numpy(answer.weights))
        self.linear.bias.copy_(torch.from_numpy(answer.intercepts))
        notes = []
        if penalty == 0 and loss.smoothing == 0 and answer.objective < CERTAIN:
            notes.append(Note.of(TEXTS, "separable", "warning"))
        elif not answer.converged:
            notes.append(Note.of(TEXTS, "slow", "warning", iterations=answer.steps))
        return {
            "iterations": answer.steps,
            "objective": answer.objective,
            "converged": answer.converged,
            "notes": notes,
        }

    @staticmethod
    def parameter_count(config: LogisticConfig, inputs: int, outputs: int) -> int:
        """O (C + 1): a weight a feature, and an intercept, for each logit."""
        return outputs * (inputs + 1)

    @staticmethod
    def macs(config: LogisticConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for one row: C O, one a weight."""
        return inputs * outputs
