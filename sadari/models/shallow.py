"""Shallow network: exactly one hidden layer (Prince, Understanding Deep Learning, 2023, ch. 3; Cybenko 1989).

What differs from the rung below (the line, or logistic): between input and output stand D hidden units, each
a line bent by an activation. With relu on one input the answer is piecewise linear with at most D + 1 pieces,
so more units bend more.

        x ---- hidden.0 ---- act ---- output ---- y
      (B, C)    (B, D)      (B, D)     (B, O)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from sadari.layers.activations import find_activation
from sadari.layers.dense import Recorder, check_config, initialise, unrecorded


@dataclass(frozen=True)
class ShallowConfig:
    """Settings of a `Shallow` network."""

    width: int = 100
    """Units D of the hidden layer: the more, the more flexible the curve."""
    activation: str = "relu"
    """What bends each unit: relu, tanh, sigmoid, gelu, silu, leaky-relu, or linear (which bends nothing)."""
    dropout: float = 0.0
    """Share of hidden units silenced at random in each training step; the rest grow by 1 / (1 - share)."""

    def __post_init__(self) -> None:
        check_config(self)


class Shallow(nn.Module):
    """y = W2 act(W1 x + b1) + b2."""

    Config: ClassVar = ShallowConfig
    TINY: ClassVar = ShallowConfig(width=4)
    residual: ClassVar[bool] = False

    def __init__(self, config: ShallowConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.ModuleList([nn.Linear(inputs, config.width)])
        self.output = nn.Linear(config.width, outputs)
        self.direct = None
        self.activation = find_activation(config.activation).module()
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)

    def forward(self, features: Float[Tensor, "B C"], rec: Recorder | None = None) -> Float[Tensor, "B O"]:
        rec = rec or unrecorded
        z = rec("pre0", self.hidden[0](features))  # (B, D) one line a unit
        h = rec("hidden0", self.dropout(self.activation(z)))  # (B, D) each bent
        return rec("output", self.output(h))  # (B, O) weighed and added

    @staticmethod
    def parameter_count(config: ShallowConfig, inputs: int, outputs: int) -> int:
        """D (C + 1) + O (D + 1): 3 D + 1 for one input and one output."""
        return config.width * (inputs + 1) + outputs * (config.width + 1)

    @staticmethod
    def macs(config: ShallowConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for one row: C D + D O, one a weight."""
        return config.width * (inputs + outputs)
