"""EfficientNet-lite (Tan & Le 2019, 1905.11946; lite: Liu 2020): the eye that has seen ImageNet.

What differs from a residual network: a block is inverted. A cheap 1 x 1 convolution widens, a depthwise one
(a filter a channel) looks at neighbours, another 1 x 1 narrows again; the direct connection runs between the
narrow ends (Sandler 2018, 1801.04381). Ten times fewer multiply-adds for the same answers. `lite` leaves out
what phones find hard: no squeeze-and-excitation, and relu6 in place of swish.

      x ---- expand 1x1 -- relu6 ---- depthwise k x k -- relu6 ---- project 1x1 ----(+)---- y
      |       (B, e C, h, w)            (B, e C, h', w')             (B, C', h', w')  |
      +---------------------------- where C = C' and h = h' -------------------------+

Names of weights are those of `efficientnet-lite-pytorch`, after lukemelas/EfficientNet-PyTorch: its file is
read as it is. Its pictures are (x - 127) / 128 of pixels 0 to 255: MEAN, DEVIATION of pixels 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.dense import Recorder, unrecorded

MEAN, DEVIATION = 127 / 255, 128 / 255
"""Of each channel, pixels from 0 to 1, as the pretrained weights want them."""
SIZE = 224
"""Pixels of a side that lite0 was trained on."""
STEM, HEAD = 32, 1280  # channels of the first and of the last convolution, which lite never scales
MOMENTUM, EPS = 0.01, 1e-3  # of batch norm


class Stage(NamedTuple):
    """Blocks of one kind; the first has the stride and changes the channels."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = {
    "lite0": (  # table 1 of the paper at its smallest
        Stage(1, 3, 1, 1, 16),
        Stage(2, 3, 2, 6, 24),
        Stage(2, 5, 2, 6, 40),
        Stage(3, 3, 2, 6, 80),
        Stage(3, 5, 1, 6, 112),
        Stage(4, 5, 2, 6, 192),
        Stage(1, 3, 1, 6, 320),
    ),
    "tiny": (Stage(1, 3, 1, 1, 8), Stage(2, 3, 2, 2, 8), Stage(1, 5, 2, 2, 16)),
}


@dataclass(frozen=True)
class EfficientNetConfig:
    """Settings of an `EfficientNet`; each field's text is the help of its flag."""

    variant: str = "lite0"
    """lite0 (4.65 M parameters with 1,000 classes), or tiny, for trials."""
    dropout: float = 0.2
    """Share of features silenced at random in each training step."""
    drop_connect: float = 0.2
    """Chance that the last block of those with a direct connection is left out for a picture in training;
    it grows from 0 along the depth."""

    def __post_init__(self) -> None:
        if self.variant not in STAGES:
            raise SadariError(f"no variant {self.variant!r}; choose one of {', '.join(STAGES)}")
        for name in ("dropout", "drop_connect"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SadariError(f"{name} {getattr(self, name)}: a share lies in [0, 1); use {name}=0.2")


class SameConv(nn.Conv2d):
    """A convolution whose answer is ceil(size / stride) wide, the odd zero at the right and below.

    TensorFlow's rule, which the weights were learnt with; torch's own padding is the same on both sides.
    """

    def forward(self, input: Tensor) -> Tensor:
        pads = [
            max((-(-size // stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(input.shape[-2:], self.stride, self.kernel_size, strict=True)
        ]
        high, wide = pads
        if high or wide:
            input = F.pad(input, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        return super().forward(input)


class Block(nn.Module):
    """1. widen  2. look at neighbours, each channel by itself  3. narrow  4. add what came in."""

    def __init__(self, channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = channels * stage.expand
        if stage.expand > 1:
            self._expand_conv = SameConv(channels, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = SameConv(wide, wide, stage.kernel, stride=stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = SameConv(wide, stage.channels, 1, bias=False)
        self._bn2 = _norm(stage.channels)
        self.widens = stage.expand > 1
        self.direct = stride == 1 and channels == stage.channels

    def forward(self, x: Float[Tensor, "B C h w"], drop: float) -> Float[Tensor, "B D h2 w2"]:
        y = x
        if self.widens:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        if not self.direct:
            return y
        if self.training and drop > 0:  # stochastic depth (Huang et al. 2016, 1603.09382)
            kept = torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype) >= drop
            y = y * kept / (1 - drop)
        return x + y


class EfficientNet(nn.Module):
    """Logits: a line in the mean, over all places, of 1,280 channels."""

    Config: ClassVar = EfficientNetConfig
    TINY: ClassVar = EfficientNetConfig(variant="tiny", dropout=0.0, drop_connect=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 1e-3, "batch_size": 64}

    def __init__(self, config: EfficientNetConfig, inputs: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.config = config
        self._conv_stem = SameConv(inputs[0], STEM, 3, stride=2, bias=False)
        self._bn0 = _norm(STEM)
        blocks = list(_blocks(config))
        self._blocks = nn.ModuleList(Block(channels, stage, stride) for channels, stage, stride in blocks)
        self._conv_head = SameConv(blocks[-1][1].channels, HEAD, 1, bias=False)
        self._bn1 = _norm(HEAD)
        self._dropout = nn.Dropout(config.dropout)
        self._fc = nn.Linear(HEAD, outputs)
        _initialise(self)

    def maps(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B D h w"]:
        """The last convolution's answer, a place for each 32 x 32 pixels."""
        rec = rec or unrecorded
        x = rec("stem", F.relu6(self._bn0(self._conv_stem(pictures))))
        for i, block in enumerate(self._blocks):
            x = rec(f"block{i}", block(x, self.config.drop_connect * i / len(self._blocks)))
        return rec("maps", F.relu6(self._bn1(self._conv_head(x))))

    def features(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B D"]:
        """The mean of the maps over all places, (B, 1280)."""
        features = self.maps(pictures, rec).mean((2, 3))
        return features if rec is None else rec("features", features)

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        output = self._fc(self._dropout(self.features(pictures, rec)))
        return output if rec is None else rec("output", output)

    @staticmethod
    def parameter_count(config: EfficientNetConfig, inputs: tuple[int, int, int], outputs: int) -> int:
        """Of each convolution without a bias its weights, of each norm two a channel, and O (1280 + 1)."""
        count = inputs[0] * 9 * STEM + 2 * STEM
        last = STEM
        for channels, stage, _ in _blocks(config):
            wide = channels * stage.expand
            if stage.expand > 1:
                count += channels * wide + 2 * wide
            count += stage.kernel**2 * wide + 2 * wide + wide * stage.channels + 2 * stage.channels
            last = stage.channels
        return count + last * HEAD + 2 * HEAD + outputs * (HEAD + 1)

    @staticmethod
    def macs(config: EfficientNetConfig, inputs: tuple[int, int, int], outputs: int) -> int:
        """Multiply-adds for one picture: of each convolution its weights times the places of its answer,
        those on padding too; norms, which fold into them, not; and 1280 O.
        """
        h, w = -(-inputs[1] // 2), -(-inputs[2] // 2)
        count = inputs[0] * 9 * STEM * h * w
        last = STEM
        for channels, stage, stride in _blocks(config):
            wide = channels * stage.expand
            if stage.expand > 1:
                count += channels * wide * h * w
            h, w = -(-h // stride), -(-w // stride)
            count += (stage.kernel**2 * wide + wide * stage.channels) * h * w
            last = stage.channels
        return count + last * HEAD * h * w + HEAD * outputs


def _blocks(config: EfficientNetConfig) -> list[tuple[int, Stage, int]]:
    """Channels that come in, the stage, and the stride of each block."""
    found, channels = [], STEM
    for stage in STAGES[config.variant]:
        for repeat in range(stage.repeats):
            found.append((channels, stage, 1 if repeat else stage.stride))
            channels = stage.channels
    return found


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, EPS, MOMENTUM)


@torch.no_grad()
def _initialise(model: EfficientNet) -> None:
    """First weights, from torch's global generator.

    | parameter          | law                            | why                                      |
    |--------------------|--------------------------------|------------------------------------------|
    | convolutions       | normal, sqrt(2 / (k k out))    | as the authors; a norm follows           |
    |                    | depthwise: sqrt(2 / (k k))     |                                          |
    | _fc.weight         | normal, 0.1 / sqrt(1280)       | first answers near zero                  |
    | norms, biases      | one, zero                      |                                          |
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight.shape[0] * module.weight[0, 0].numel() // module.groups
            module.weight.normal_(0.0, (2 / fan) ** 0.5)
        elif isinstance(module, nn.Linear):
            module.weight.normal_(0.0, 0.1 * module.in_features**-0.5)
            module.bias.zero_()
