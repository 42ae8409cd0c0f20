"""Line: the first rung that looks at the features. y = w x + b (Legendre 1805; ridge: Hoerl & Kennard 1970)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.losses import Loss


@dataclass(frozen=True)
class LineConfig:
    ridge: float = 0.0
    """Penalty on the squared weights, not on the intercept, in units of scikit-learn's `Ridge(alpha)`; 0 is none."""
    method: str = "exact"
    """How the weights are found: exact (one factorisation), or gradient (descent in the training loop)."""

    def __post_init__(self) -> None:
        if not 0 <= self.ridge < float("inf"):
            raise SadariError(f"ridge {self.ridge}: a penalty is 0 or more; use ridge=1.0, or 0 for none")
        if self.method not in ("exact", "gradient"):
            raise SadariError(f"method {self.method!r} is neither 'exact' nor 'gradient'; use method='exact'")


class Line(nn.Module):
    """y = W x + b, one weight a feature."""

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
        """True for squared errors by the exact method; other losses go through the training loop."""
        return loss.name == "squared" and self.config.method == "exact"

    @torch.no_grad()
    def solve(
        self, features: Float[Tensor, "N C"], targets: Float[Tensor, " N"], loss: Loss
    ) -> dict[str, Any]:
        X, y = features.numpy().astype(np.float64), targets.numpy().astype(np.float64)
        mean, target_mean = X.mean(0), y.mean()
        X -= mean
        w = np.linalg.lstsq(
            np.vstack([X, np.sqrt(self.config.ridge) * np.eye(X.shape[1])]),
            np.concatenate([y - target_mean, np.zeros(X.shape[1])]),
        )[0]
        self.linear.weight.copy_(torch.from_numpy(w))
        self.linear.bias.fill_(target_mean - w @ mean)
        return {"iterations": 1, "rank": X.shape[1], "condition": 1.0, "converged": True, "notes": []}

    @staticmethod
    def parameter_count(config: LineConfig, inputs: int, outputs: int) -> int:
        """O (C + 1): a weight a feature, and an intercept."""
        return outputs * (inputs + 1)

    @staticmethod
    def macs(config: LineConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for one row: C O, one a weight."""
        return inputs * outputs


def step_bound(features: Float[Tensor, "N C"]) -> float:
    """The rate below which gradient descent on the mean squared loss lands: 2 / largest eigenvalue of its Hessian."""
    X = features.double()
    A = torch.cat([X, torch.ones(len(X), 1, dtype=X.dtype)], 1)
    return 2.0 / float(torch.linalg.eigvalsh(A.T @ A / len(X))[-1])
