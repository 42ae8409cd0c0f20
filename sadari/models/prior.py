"""Prior: the ground of `classify`. It looks at no feature and says how frequent each class is.

What differs from `mean`: the constant is a logit a class, so that the probabilities are the shares of the
classes among the training rows, the likeliest constant answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.losses import CLASSES, STEEPEST, Loss


@dataclass(frozen=True)
class PriorConfig:
    """Nothing to set."""


class Prior(nn.Module):
    """The same logits for every row: log shares of the classes, or log odds of class 1 with one output."""

    Config: ClassVar = PriorConfig
    TINY: ClassVar = PriorConfig()

    def __init__(self, config: PriorConfig, inputs: Any, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.constant = nn.Parameter(torch.zeros(outputs))

    def forward(
        self, features: Float[Tensor, "B ..."], rec: Callable[[str, Tensor], Tensor] | None = None
    ) -> Float[Tensor, "B O"]:
        answer = self.constant.expand(len(features), -1)  # (B, O)
        return answer if rec is None else rec("output", answer)

    def can_solve(self, loss: Loss) -> bool:
        """True for every loss over classes."""
        return loss.name in CLASSES

    @torch.no_grad()
    def solve(self, features: Any, targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Set the logits of highest likelihood. Returns facts as every `solve`; no feature is read.

        A class without a row would ask for a log of zero: it stops at -30, a share of 1e-13.
        """
        classes = max(loss.outputs, 2)
        shares = np.bincount(targets.numpy(), minlength=classes) / len(targets)
        shares = (1 - loss.smoothing) * shares + loss.smoothing / classes  # what smoothed labels add up to
        logits = np.log(np.maximum(shares, np.exp(-STEEPEST)))
        constant = logits[1:] - logits[:1] if loss.name == "binary" else logits
        self.constant.copy_(torch.from_numpy(constant))
        return {"iterations": 1, "rank": 0, "condition": 1.0, "converged": True, "notes": []}

    @staticmethod
    def parameter_count(config: PriorConfig, inputs: Any, outputs: int) -> int:
        """O: one logit a class, or one for two classes."""
        return outputs

    @staticmethod
    def macs(config: PriorConfig, inputs: Any, outputs: int) -> int:
        """0: nothing is multiplied."""
        return 0
