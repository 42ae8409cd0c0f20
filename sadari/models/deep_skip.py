"""Deep network with skips (He 2015, 1512.03385; Prince 2023, Understanding Deep Learning, ch. 11).

What differs from the rung below (deep): each hidden layer after the first adds to what it was given instead
of replacing it, so that the gradient reaches the first layer undiminished through the sum, and twenty layers
train as readily as two; and the input reaches the output by a line of its own, so that the network is the
line rung plus what bends it.

      x ---- hidden.0 - act --+-- hidden.i - act --(+)-- ... ---- output --(+)-- y
      |                       |                     |                       |
      |                       +---------------------+  round each layer     |
      +------------------------------ direct -------------------------------+
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
class DeepSkipConfig:
    """Settings of a `DeepSkip` network."""

    width: int = 100
    """Units D of each hidden layer."""
    layers: int = 4
    """Hidden layers L: the first maps the input to the width, each of the others adds to what it is given."""
    activation: str = "relu"
    """What bends each unit: relu, tanh, sigmoid, gelu, silu, leaky-relu, or linear (which bends nothing)."""
    dropout: float = 0.0
    """Share of each branch's units silenced at random in each step; the rest grow by 1 / (1 - share)."""

    def __post_init__(self) -> None:
        check_config(self)


class DeepSkip(nn.Module):
    """h = act(W_0 x + b_0), then h = h + act(W_i h + b_i) for each further layer, then y = W h + b + V x."""

    Config: ClassVar = DeepSkipConfig
    TINY: ClassVar = DeepSkipConfig(width=4, layers=3)
    residual: ClassVar[bool] = True

    def __init__(self, config: DeepSkipConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        sizes = [inputs] + [config.width] * config.layers
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.output = nn.Linear(config.width, outputs)
        self.direct = nn.Linear(inputs, outputs, bias=False)
        self.activation = find_activation(config.activation).module()
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)

    def forward(self, features: Float[Tensor, "B C"], rec: Recorder | None = None) -> Float[Tensor, "B O"]:
        rec = rec or unrecorded
        h = features  # (B, C)
        for i, layer in enumerate(self.hidden):
            z = rec(f"pre{i}", layer(h))  # (B, D)
            branch = self.dropout(self.activation(z))  # (B, D)
            h = rec(f"hidden{i}", branch if i == 0 else h + branch)  # (B, D) the stream, kept and added to
        return rec("output", self.output(h) + self.direct(features))  # (B, O)

    @staticmethod
    def parameter_count(config: DeepSkipConfig, inputs: int, outputs: int) -> int:
        """D (C + 1) + (L - 1) D (D + 1) + O (D + 1), as deep, plus C O for the direct connection."""
        D, L = config.width, config.layers
        return D * (inputs + 1) + (L - 1) * D * (D + 1) + outputs * (D + 1) + inputs * outputs

    @staticmethod
    def macs(config: DeepSkipConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for one row: C D + (L - 1) D^2 + D O + C O, one a weight."""
        D, L = config.width, config.layers
        return inputs * D + (L - 1) * D * D + D * outputs + inputs * outputs
