"""Pictures as rows of pixels: logistic regression and one hidden layer, as for tables, trained by descent.

What differs from the rung below (nearest; for `shallow`, logistic): the pictures are not kept but summed up
in weights, one for each pixel and class, which drawn as a picture are the class's template. `shallow` has D
templates that all classes share, and each may be present or not. What differs from tables: C H W features in
place of a few, thousands of pictures, so that descent takes the place of Newton's
method; the loop's weight decay takes the place of the penalty.

      picture ---- flatten ----(--- hidden --- relu ---)---- output ---- logits
     (B, C, H, W)  (B, P)           (B, D)                    (B, O)

Neither knows that two pixels are neighbours: with all pixels in another order, the same in every picture,
they would learn the same. Alphabet: P = C H W pixels, D hidden units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.layers.activations import find_activation
from sadari.layers.dense import Recorder, check_config, unrecorded

Shape = tuple[int, int, int]
"""(C, H, W) of the pictures."""


@dataclass(frozen=True)
class PixelLogisticConfig:
    """Nothing to set: what holds the weights is the loop's weight decay."""


class PixelLogistic(nn.Module):
    """Logits W x + b of the pixels x: each class's row of W is a template (C, H, W)."""

    Config: ClassVar = PixelLogisticConfig
    TINY: ClassVar = PixelLogisticConfig()
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.001, "batch_size": 128, "augment": "none"}

    def __init__(self, config: PixelLogisticConfig, inputs: Shape, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.output = nn.Linear(math.prod(inputs), outputs)
        _begin(self.output, 0.1)

    def features(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B P"]:
        """The pixels in a row: channel by channel, row by row."""
        return pictures.flatten(1)

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        rec = rec or unrecorded
        return rec("output", self.output(rec("features", self.features(pictures))))

    @staticmethod
    def parameter_count(config: PixelLogisticConfig, inputs: Shape, outputs: int) -> int:
        """O (P + 1): a weight a pixel, and an intercept, for each logit."""
        return outputs * (math.prod(inputs) + 1)

    @staticmethod
    def macs(config: PixelLogisticConfig, inputs: Shape, outputs: int) -> int:
        """Multiply-adds for one picture: P O, one a weight."""
        return math.prod(inputs) * outputs


@dataclass(frozen=True)
class PixelShallowConfig:
    """Settings of a `PixelShallow` network; each field's text is the help of its flag."""

    width: int = 256
    """Units D of the hidden layer: templates that the classes share."""
    activation: str = "relu"
    """What bends each unit: relu, tanh, sigmoid, gelu, silu, leaky-relu, or linear (which bends nothing)."""
    dropout: float = 0.2
    """Share of hidden units silenced at random in each training step; the rest grow by 1 / (1 - share)."""

    def __post_init__(self) -> None:
        check_config(self)


class PixelShallow(nn.Module):
    """y = W2 act(W1 x + b1) + b2 of the pixels x."""

    Config: ClassVar = PixelShallowConfig
    TINY: ClassVar = PixelShallowConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.001, "batch_size": 128, "augment": "none"}

    def __init__(self, config: PixelShallowConfig, inputs: Shape, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(math.prod(inputs), config.width)
        self.output = nn.Linear(config.width, outputs)
        activation = find_activation(config.activation)
        self.activation = activation.module()
        self.dropout = nn.Dropout(config.dropout)
        _begin(self.hidden, activation.gain)
        _begin(self.output, 0.1)

    def _bent(self, pictures: Float[Tensor, "B C H W"], rec: Recorder) -> Float[Tensor, "B D"]:
        return self.activation(rec("pre0", self.hidden(pictures.flatten(1))))

    def features(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The hidden units."""
        return self._bent(pictures, unrecorded)

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        rec = rec or unrecorded
        return rec("output", self.output(self.dropout(rec("features", self._bent(pictures, rec)))))

    @staticmethod
    def parameter_count(config: PixelShallowConfig, inputs: Shape, outputs: int) -> int:
        """D (P + 1) + O (D + 1)."""
        return config.width * (math.prod(inputs) + 1) + outputs * (config.width + 1)

    @staticmethod
    def macs(config: PixelShallowConfig, inputs: Shape, outputs: int) -> int:
        """Multiply-adds for one picture: P D + D O, one a weight."""
        return config.width * (math.prod(inputs) + outputs)


@torch.no_grad()
def _begin(layer: nn.Linear, gain: float) -> None:
    """First weights, from torch's global generator.

    | parameter     | law                    | why                                             |
    |---------------|------------------------|-------------------------------------------------|
    | hidden.weight | normal, gain / sqrt(P) | level variance over standardised pixels         |
    | output.weight | normal, 0.1 / sqrt(..) | first answers near zero: every class as likely  |
    | biases        | zero                   |                                                 |
    """
    layer.weight.normal_(0.0, gain / math.sqrt(layer.in_features))
    layer.bias.zero_()
