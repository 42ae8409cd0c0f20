"""Mean: the ground of `regress`. It looks at no feature and says one constant (Prince 2023, ch. 5).

The constant is the one under which the training targets are likeliest: the mean for squared errors, the
median for absolute ones, the log of the mean for counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.losses import NUMBERS, STEEPEST, Huber, Loss


@dataclass(frozen=True)
class MeanConfig:
    """Nothing to set."""


class Mean(nn.Module):
    """The same answer for every row: y = constant."""

    Config: ClassVar = MeanConfig
    TINY: ClassVar = MeanConfig()

    def __init__(self, config: MeanConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.constant = nn.Parameter(torch.zeros(outputs))

    def forward(
        self, features: Float[Tensor, "B C"], rec: Callable[[str, Tensor], Tensor] | None = None
    ) -> Float[Tensor, "B O"]:
        answer = self.constant.expand(len(features), -1)  # (B, O)
        return answer if rec is None else rec("output", answer)

    def can_solve(self, loss: Loss) -> bool:
        """True for every loss over numbers."""
        return loss.name in NUMBERS

    @torch.no_grad()
    def solve(
        self, features: Float[Tensor, "N C"], targets: Float[Tensor, " N"], loss: Loss
    ) -> dict[str, Any]:
        """Set the constant of highest likelihood. Returns facts as every `solve`; no feature is read.

        A spread of zero, or counts that are all zero, would ask for a log of zero: it stops at -30.
        """
        loss.check(targets)
        constant = likeliest(targets.numpy().astype(np.float64), loss)
        self.constant.copy_(torch.from_numpy(np.array(constant)))
        return {"iterations": 1, "rank": 0, "condition": 1.0, "converged": True, "notes": []}

    @staticmethod
    def parameter_count(config: MeanConfig, inputs: int, outputs: int) -> int:
        """O: the mean alone, or mean and log variance."""
        return outputs

    @staticmethod
    def macs(config: MeanConfig, inputs: int, outputs: int) -> int:
        """0: nothing is multiplied."""
        return 0


def likeliest(targets: np.ndarray, loss: Loss) -> list[float]:
    """The outputs (O) under which numbers (N) are likeliest, were every row given the same."""
    mean = float(targets.mean())
    if loss.name == "gaussian":
        return [mean, _log(float(targets.var()))]
    if loss.name == "absolute":
        return [float(np.median(targets))]
    if isinstance(loss, Huber):
        return [_huber_centre(targets, loss.delta)]
    if loss.name == "poisson":
        return [_log(mean)]
    return [mean]


def _log(value: float) -> float:
    return max(math.log(value), -STEEPEST) if value > 0 else -STEEPEST


def _huber_centre(targets: np.ndarray, delta: float) -> float:
    """Where the errors, clipped to +-delta, sum to zero: Newton's method between two bounds that close in.

    The sum falls as the centre rises, in straight pieces: Newton ends exactly once it meets the right one.
    """
    low, high = float(targets.min()), float(targets.max())
    centre = float(np.median(targets))
    for _ in range(200):
        error = targets - centre
        pull = float(np.clip(error, -delta, delta).sum())
        if pull == 0:
            break
        low, high = (centre, high) if pull > 0 else (low, centre)
        inside = np.count_nonzero(np.abs(error) <= delta)
        step = centre + pull / inside if inside else math.inf
        following = step if low < step < high else (low + high) / 2
        if following == centre:
            break
        centre = following
    return centre
