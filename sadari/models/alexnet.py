"""AlexNet (Krizhevsky 2012, ImageNet Classification with Deep CNNs; Krizhevsky 2014, 1404.5997).

What differs from the rung below (shallow): a unit looks at a small window instead of the whole picture, and
the same weights look through every window: what was learnt in one corner is known in all of them, for a
thousandth of the weights. Pooling keeps the largest answer nearby, so that each layer sees further than the
last. Dense layers come only at the end, with half their units silenced at random.

    picture - conv1 - pool1 - conv2 - pool2 - conv3 - conv4 - conv5 - pool5 ---- fc6 ---- fc7 ---- logits
      224      55      27      27      13      13      13      13      6       (B, D)   (B, D)    (B, O)

alexnet      the later paper's single tower, in torchvision's layout: 61,100,840 parameters for 1,000 classes
two-tower    the net of 2012: filters in two groups, one for each of two graphics cards, that meet only at
             conv3 and in the dense layers; neighbouring channels hold one another down. 60,965,224 parameters
alexnet-64   the single tower in small, for pictures of 24 to 96 pixels: windows of 5 x 5 first, padded pools
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from sadari.layers.convolution import (
    Dense,
    Field,
    Laws,
    Shape,
    Stages,
    Trunk,
    Window,
    check_settings,
    check_size,
    checked,
    choose,
    dense_costs,
    fields,
    initialise,
    laws,
    share,
    window_costs,
)
from sadari.layers.dense import Recorder, unrecorded


@dataclass(frozen=True)
class Layout:
    """The numbers of one variant."""

    channels: tuple[int, int, int, int, int]
    first: tuple[int, int, int]
    """Kernel, stride and padding of conv1; conv2 is 5 x 5, the others 3 x 3, moved by 1 and padded."""
    grid: int
    """Places along a side of what fc6 reads: averages, were there others."""
    units: int
    """Of fc6 and of fc7."""
    padding: int = 0
    """Edge round each pooling, which is 3 x 3, moved by 2."""
    towers: bool = False
    """Whether it is the net of 2012, of two groups, with local response normalisation."""


VARIANTS = {
    "alexnet": Layout((64, 192, 384, 256, 256), (11, 4, 2), grid=6, units=4096),
    "two-tower": Layout((96, 256, 384, 384, 256), (11, 4, 2), grid=6, units=4096, towers=True),
    "alexnet-64": Layout((48, 96, 144, 96, 96), (5, 2, 2), grid=2, units=512, padding=1),
}
POOLED = (1, 2, 5)  # convolutions that a pooling follows
GROUPED = (2, 4, 5)  # those of 2012 whose filters see half the channels; their biases began at 1
NORMED = ("conv1", "conv2")  # those of 2012 that local response normalisation follows


@dataclass(frozen=True)
class AlexNetConfig:
    """Settings of an `AlexNet`."""

    variant: str = "auto"
    """Which net: alexnet, two-tower (of 2012), alexnet-64 (small), or auto: alexnet from 160 pixels a side,
    else the small one."""
    width: float = 1.0
    """Channels and dense units, as a share of the variant's own."""
    dropout: float = 0.5
    """Share of dense units silenced at random in each training step; the rest grow by 1 / (1 - share)."""

    def __post_init__(self) -> None:
        check_settings(self.variant, VARIANTS, self.width, self.dropout)


class AlexNet(nn.Module):
    """Five convolutions, three dense layers; the tensors' names are torchvision's."""

    Config: ClassVar = AlexNetConfig
    TINY: ClassVar = AlexNetConfig(variant="alexnet-64", width=0.1, dropout=0.0)
    # 6,000 of MNIST's digits, 16 passes: 1.7 to 2.3 % wrong from 0.0005 to 0.002; SGD at 0.03 learns nothing
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 1e-3, "batch_size": 64}

    def __init__(self, config: AlexNetConfig, inputs: Shape, outputs: int) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        self.variant = chosen(config, inputs)
        layout, windows = VARIANTS[self.variant], _windows(config, inputs)
        check_size(windows, inputs, self.variant, "variant=alexnet-64")
        self.avgpool = nn.AdaptiveAvgPool2d(layout.grid)
        layers: list[nn.Module] = []
        names: dict[str, str] = {}
        self._places: dict[str, int] = {}
        for name, (window,) in windows:
            self._places[name] = len(layers)
            layers += [window.layer(), nn.ReLU()] if window.outputs else [window.pool()]
            names[f"features.{len(layers) - 1}"] = name
            if layout.towers and name in NORMED:
                # torch divides alpha by the 5 channels of a neighbourhood, the paper does not
                layers.append(nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0))
                names[f"features.{len(layers) - 1}"] = name.replace("conv", "norm")
        fc6, fc7, fc8 = (Dense(a, b) for a, b in pairwise(_units(config, inputs, outputs)))
        p = config.dropout
        if layout.towers:  # the answers of both dense layers are dropped
            dense = [fc6, nn.ReLU(), nn.Dropout(p), fc7, nn.ReLU(), nn.Dropout(p), fc8]
        else:  # what both dense layers read
            dense = [nn.Dropout(p), fc6, nn.ReLU(), nn.Dropout(p), fc7, nn.ReLU(), fc8]
        self.features, self.classifier = Trunk(*layers), nn.Sequential(*dense)
        self.features.after = (self.avgpool, self.classifier)
        names |= {f"classifier.{dense.index(fc) + 1}": name for fc, name in ((fc6, "fc6"), (fc7, "fc7"))}
        self.features.names = names
        initialise(self, _laws_of_2012(self) if layout.towers else laws(self))

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        """Logits; with a recorder also conv1 ... pool5 (B, c, h, w), fc6, fc7 and features (B, D)."""
        rec = rec or unrecorded
        h = rec("features", self.features(pictures, rec))  # (B, D)
        return rec("output", self.classifier[-1](h))  # (B, O)

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        """The convolutions and poolings, by the names that `fields` and a recorder give them."""
        return [(name, self.features[place]) for name, place in self._places.items()]

    def fields(self) -> list[Field]:
        """What a place of each stage sees of the picture."""
        return fields(_windows(self.config, self.inputs), self.inputs)

    @staticmethod
    def parameter_count(config: AlexNetConfig, inputs: Shape, outputs: int) -> int:
        """k^2 C / groups + 1 for each filter, and fan-in + 1 for each dense unit."""
        dense, _ = dense_costs(_units(config, inputs, outputs))
        return window_costs(_windows(config, inputs), inputs)[0] + dense

    @staticmethod
    def macs(config: AlexNetConfig, inputs: Shape, outputs: int) -> int:
        """Multiply-adds for one picture: one for each weight of a filter at each place, and dense weight."""
        _, dense = dense_costs(_units(config, inputs, outputs))
        return window_costs(_windows(config, inputs), inputs)[1] + dense


def chosen(config: AlexNetConfig, inputs: Shape) -> str:
    """The variant for pictures (C, H, W)."""
    return choose(config.variant, inputs, "alexnet", "alexnet-64")


def import_torchvision(state: Mapping[str, Tensor], model: AlexNet) -> dict[str, Tensor]:
    """Tensors of torchvision's AlexNet for this one, checked; SadariError where they are of another."""
    return checked(state, model)


def _windows(config: AlexNetConfig, inputs: Shape) -> Stages:
    layout = VARIANTS[chosen(config, inputs)]
    stages = []
    before = inputs[0]
    for i, channels in enumerate(layout.channels, 1):
        kernel, stride, padding = layout.first if i == 1 else (5, 1, 2) if i == 2 else (3, 1, 1)
        channels = share(channels, config.width)
        groups = 2 if layout.towers and i in GROUPED else 1
        stages.append((f"conv{i}", [Window(kernel, stride, padding, before, channels, groups)]))
        if i in POOLED:
            stages.append((f"pool{i}", [Window(3, 2, layout.padding)]))
        before = channels
    return stages


def _units(config: AlexNetConfig, inputs: Shape, outputs: int) -> list[int]:
    layout = VARIANTS[chosen(config, inputs)]
    units = share(layout.units, config.width)
    return [share(layout.channels[-1], config.width) * layout.grid**2, units, units, outputs]


def _laws_of_2012(model: AlexNet) -> Laws:
    """Weights normal, 0.01; biases 1 in conv2, conv4, conv5, fc6 and fc7, which gives relu something to pass,
    else 0 (section 5 of the paper)."""
    places = [f"features.{model._places[f'conv{i}']}" for i in GROUPED]
    ones = {f"{place}.bias" for place in (*places, "classifier.0", "classifier.3")}
    table = {}
    for name, _ in model.named_parameters():
        table[name] = ("normal", 0.01) if name.endswith("weight") else ("constant", float(name in ones))
    return table
