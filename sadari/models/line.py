"""Line: y = w x + b, one weight a feature (Legendre 1805; Gauss 1809; ridge: Hoerl & Kennard 1970).

What differs from the rung below (mean): it looks at the features, and weighs each of them. Squared errors
have a direct answer, found in `sadari.layers.squares`; the same model can be trained by gradient descent too.
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

from sadari.errors import SadariError
from sadari.lang import Note, Texts
from sadari.layers.rows import quiet_blas
from sadari.layers.squares import EPS, largest_curvature, least_squares
from sadari.losses import Loss

TEXTS: Texts = {
    "rank": (
        "{spare} of {columns} columns only repeat others (rank {rank}): of all weights that fit equally "
        "well, the shortest were taken.",
        "열 {columns}개 가운데 {spare}개는 다른 열을 되풀이할 뿐이다(랭크 {rank}). 똑같이 잘 맞는 가중치 중 "
        "가장 짧은 것을 골랐다.",
    ),
}


@dataclass(frozen=True)
class LineConfig:
    """Settings of the line; each field's text is the help of its flag."""

    ridge: float = 0.0
    """Penalty on the squared weights, as scikit-learn's Ridge alpha; the intercept stays free; 0 is none."""
    method: str = "exact"
    """How squared errors are solved: exact (a factorisation), or gradient (descent to the same answer)."""

    def __post_init__(self) -> None:
        if not 0 <= self.ridge < math.inf:
            raise SadariError(f"ridge {self.ridge}: a penalty is 0 or more; use ridge=1.0, or 0 for none")
        if self.method not in ("exact", "gradient"):
            raise SadariError(f"method {self.method!r} is neither 'exact' nor 'gradient'; use method='exact'")


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

    def penalty(self) -> Float[Tensor, ""]:
        """What the squared weights add to the sum of losses, for descent: ridge / 2 times their sum."""
        return self.config.ridge / 2 * self.linear.weight.square().sum()

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
        with quiet_blas(*features.shape), np.errstate(invalid="ignore", over="ignore"):  # is named later
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
        with quiet_blas(*features.shape):
            return 2 / largest_curvature(features.numpy())

    @staticmethod
    def parameter_count(config: LineConfig, inputs: int, outputs: int) -> int:
        """O (C + 1): a weight a feature, and an intercept."""
        return outputs * (inputs + 1)

    @staticmethod
    def macs(config: LineConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for one row: C O, one a weight."""
        return inputs * outputs
