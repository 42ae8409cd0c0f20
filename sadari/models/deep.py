"""Deep network: hidden layers one after another (Prince 2023, Understanding Deep Learning, ch. 4).

What differs from the rung below (shallow): L hidden layers of equal width instead of one. Each layer folds
the input of the next, so that one bend is used many times over: with relu on one input up to (D + 1)^L linear
pieces, where a shallow network has only one more than it has units (Montufar 2014, 1402.1869).

        x ---- [ hidden.i ---- act ] x L ---- output ---- y
      (B, C)          (B, D)                   (B, O)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from sadari.layers.activations import find_activation
from sadari.layers.dense import Recorder, check_config, initialise, unrecorded


@dataclass(frozen=True)
class DeepConfig:
    """Settings of a `Deep` network."""

    width: int = 100
    """Units D of each hidden layer."""
    layers: int = 2
    """Hidden layers L, one after another."""
    activation: str = "relu"
    """What bends each unit: relu, tanh, sigmoid, gelu, silu, leaky-relu, or linear (which bends nothing)."""
    dropout: float = 0.0
    """Share of hidden units silenced at random in each training step; the rest grow by 1 / (1 - share)."""

    def __post_init__(self) -> None:
        check_config(self)


class Deep(nn.Module):
    """h = act(W_i h + b_i) for each of L layers, then y = W h + b."""

    Config: ClassVar = DeepConfig
    TINY: ClassVar = DeepConfig(width=4, layers=2)
    residual: ClassVar[bool] = False

    def __init__(self, config: DeepConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        sizes = [inputs] + [config.width] * config.layers
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.output = nn.Linear(config.width, outputs)
        self.direct = None
        self.activation = find_activation(config.activation).module()
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)

    def forward(self, features: Float[Tensor, "B C"], rec: Recorder | None = None) -> Float[Tensor, "B O"]:
        rec = rec or unrecorded
        h = features  # (B, C)
        for i, layer in enumerate(self.hidden):
            z = rec(f"pre{i}", layer(h))  # (B, D)
            h = rec(f"hidden{i}", self.dropout(self.activation(z)))  # (B, D)
        return rec("output", self.output(h))  # (B, O)

    @staticmethod
    def parameter_count(config: DeepConfig, inputs: int, outputs: int) -> int:
        """D (C + 1) + (L - 1) D (D + 1) + O (D + 1): 3 D + 1 + (L - 1) D (D + 1) if C = O = 1."""
        D, L = config.width, config.layers
        return D * (inputs + 1) + (L - 1) * D * (D + 1) + outputs * (D + 1)

    @staticmethod
    def macs(config: DeepConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for one row: C D + (L - 1) D^2 + D O, one a weight."""
        D, L = config.width, config.layers
        return inputs * D + (L - 1) * D * D + D * outputs
