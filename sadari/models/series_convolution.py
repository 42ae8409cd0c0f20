"""Convolution over a series: short filters slid along it (Waibel 1989; LeCun 1989; as here Greydanus 2020).

What differs from the rung below (deep): a unit sees a few neighbouring places and not all, and the same
weights look at every place, so that a shape is learnt once wherever it stands. Layers with a stride halve the
series, so that later filters see wider. What differs from the rung above (rnn): every place is answered at
once, and how far it sees is fixed.

    series ---- conv_0 -- relu ---- conv_1 -- relu ---- conv_2 -- relu ---- flatten ---- output
    (B, T)        (B, C, T_1)         (B, C, T_2)         (B, C, T_3)       (B, C T_3)   (B, O)

    T_out = floor((T + 2 pad - kernel) / stride) + 1

Layers are those of the authors of mnist1d (2011.14439): 25 channels, kernels 5, 3, 3, stride 2, padding 1:
40 -> 19 -> 10 -> 5 places, 5,210 parameters for ten classes, 94 % right. Dropout is ours: 96 % and not 95.
Alphabet: T places, C channels, L layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.dense import Recorder, unrecorded


@dataclass(frozen=True)
class SeriesConvolutionConfig:
    """Settings of a `SeriesConvolution`; each field's text is the help of its flag."""

    channels: int = 25
    """Filters C of each layer."""
    layers: int = 3
    """Layers L of filters, each of which reads what the one below found."""
    kernel: int = 5
    """Neighbouring places that a filter of the first layer sees."""
    then: int = 3
    """Neighbouring places that a filter of the later layers sees."""
    stride: int = 2
    """Places that a filter moves on by: 2 halves the series in each layer."""
    padding: int = 1
    """Zeros put before and behind what a layer reads."""
    dropout: float = 0.2
    """Share of what the last layer found that is silenced at random in each training step."""

    def __post_init__(self) -> None:
        for name in ("channels", "layers", "kernel", "then", "stride"):
            if getattr(self, name) < 1:
                usual = type(self).__dataclass_fields__[name].default
                raise SadariError(f"{name} {getattr(self, name)}: at least 1 is needed; use {name}={usual}")
        if self.padding < 0:
            raise SadariError(f"padding {self.padding}: zeros are added, never taken; use padding=1")
        if not 0.0 <= self.dropout < 1.0:
            raise SadariError(f"dropout {self.dropout}: the share dropped lies in [0, 1); use dropout=0.1")

    def lengths(self, inputs: int) -> list[int]:
        """Places that each layer gives of a series of `inputs`. SadariError when one has nothing to read."""
        places, found = inputs, []
        for layer in range(self.layers):
            room = places + 2 * self.padding - self.window(layer)
            if room < 0:
                raise SadariError(
                    f"a series of {inputs} places is too short: layer {layer + 1} of {self.layers} has "
                    f"{places} left and sees {self.window(layer)} at once; use layers={max(layer, 1)}, a "
                    f"smaller kernel, or stride=1"
                )
            places = room // self.stride + 1
            found.append(places)
        return found

    def window(self, layer: int) -> int:
        """Places that a filter of that layer, from 0, sees of the layer below."""
        return self.then if layer else self.kernel


class SeriesConvolution(nn.Module):
    """A series' class or number: layers of filters, and a line on all that the last one found."""

    Config: ClassVar = SeriesConvolutionConfig
    TINY: ClassVar = SeriesConvolutionConfig(channels=4, layers=2, kernel=3, stride=1, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.02, "batch_size": 32}

    def __init__(self, config: SeriesConvolutionConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        last = config.lengths(inputs)[-1]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(
                config.channels if layer else 1,
                config.channels,
                config.window(layer),
                stride=config.stride,
                padding=config.padding,
            )
            for layer in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.channels * last, outputs)
        _initialise(self)

    def features(self, series: Float[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B D"]:
        """What the last layer found, all places of the first channel first."""
        rec = rec or unrecorded
        x = series.unsqueeze(1)  # (B, 1, T)
        for layer, convolution in enumerate(self.convolutions):
            x = rec(f"hidden{layer}", rec(f"pre{layer}", convolution(x)).relu())  # (B, C, T_layer)
        return rec("features", x.flatten(1))  # (B, C T_L)

    def forward(self, series: Float[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B O"]:
        output = self.output(self.dropout(self.features(series, rec)))
        return output if rec is None else rec("output", output)

    @staticmethod
    def parameter_count(config: SeriesConvolutionConfig, inputs: int, outputs: int) -> int:
        """C (kernel + 1), then C (C then + 1) a layer, then O (C T_L + 1)."""
        C = config.channels
        filters = C * (config.kernel + 1) + (config.layers - 1) * C * (C * config.then + 1)
        return filters + outputs * (C * config.lengths(inputs)[-1] + 1)

    @staticmethod
    def macs(config: SeriesConvolutionConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for one series: T_layer a filter's weight, those on padding too, and the answer's."""
        C, lengths = config.channels, config.lengths(inputs)
        filters = [
            (C if layer else 1) * C * config.window(layer) * places for layer, places in enumerate(lengths)
        ]
        return sum(filters) + C * lengths[-1] * outputs


@torch.no_grad()
def _initialise(model: SeriesConvolution) -> None:
    """First weights, from torch's global generator.

    | parameter             | law                          | why                               |
    |-----------------------|------------------------------|-----------------------------------|
    | convolutions.i.weight | normal, sqrt(2 / (i kernel)) | level variance (He 2015)          |
    | output.weight         | normal, 0.1 / sqrt(C T_L)    | first answers near zero           |
    | every bias            | zero                         |                                   |
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d):
            module.weight.normal_(0.0, math.sqrt(2 / module.weight[0].numel()))
        elif isinstance(module, nn.Linear):
            module.weight.normal_(0.0, 0.1 / math.sqrt(module.in_features))
        if isinstance(module, nn.Conv1d | nn.Linear):
            assert module.bias is not None
            module.bias.zero_()
