"""Logistic: the first rung of `classify` that looks at the features (Cox 1958). A line a class, made probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.losses import CLASSES, Loss


@dataclass(frozen=True)
class LogisticConfig:
    penalty: float = 1.0
    """L2 penalty on the squared weights, not on the intercepts: 1 / C of scikit-learn; 0 is none."""
    method: str = "exact"
    """How the weights are found: exact (second-order, to the optimum), or gradient (in the training loop)."""

    def __post_init__(self) -> None:
        if not 0 <= self.penalty < float("inf"):
            raise SadariError(
                f"penalty {self.penalty}: a penalty is 0 or more; use penalty=1.0, or 0 for none"
            )
        if self.method not in ("exact", "gradient"):
            raise SadariError(f"method {self.method!r} is neither 'exact' nor 'gradient'; use method='exact'")


class Logistic(nn.Module):
    """Logits W x + b, one row of weights a class (one row in all for two classes)."""

    Config: ClassVar = LogisticConfig
    TINY: ClassVar = LogisticConfig()

    def __init__(self, config: LogisticConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(inputs, outputs)

    def forward(
        self, features: Float[Tensor, "B C"], rec: Callable[[str, Tensor], Tensor] | None = None
    ) -> Float[Tensor, "B O"]:
        output = self.linear(features)  # (B, O) logits
        return output if rec is None else rec("output", output)

    def can_solve(self, loss: Loss) -> bool:
        """True for the class losses by the exact method."""
        return loss.name in CLASSES and self.config.method == "exact"

    def solve(self, features: Float[Tensor, "N C"], targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        X = features.double()
        W = self.linear.weight.detach().double().mul(0).requires_grad_()
        b = self.linear.bias.detach().double().mul(0).requires_grad_()
        opt = torch.optim.LBFGS([W, b], max_iter=1000, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            opt.zero_grad()
            value = loss(X @ W.T + b, targets).sum() + 0.5 * self.config.penalty * (W * W).sum()
            value = value / len(X)
            value.backward()
            return value

        opt.step(closure)
        with torch.no_grad():
            self.linear.weight.copy_(W)
            self.linear.bias.copy_(b)
        return {"iterations": 1, "rank": X.shape[1], "condition": 1.0, "converged": True, "notes": []}

    @staticmethod
    def parameter_count(config: LogisticConfig, inputs: int, outputs: int) -> int:
        """O (C + 1): weights and an intercept for each logit."""
        return outputs * (inputs + 1)

    @staticmethod
    def macs(config: LogisticConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for one row: C O, one a weight."""
        return inputs * outputs
