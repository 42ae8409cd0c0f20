"""VGG (Simonyan & Zisserman 2014, 1409.1556), also with batch normalisation (Ioffe 2015, 1502.03167).

What differs from the rung below (alexnet): every window is 3 x 3. Two of them one after another see 5 x 5,
three 7 x 7, for fewer weights and with a bend between them; so there is room for 11 to 19 layers. A pooling
of 2 x 2 halves the picture after each of five blocks, and the next block has twice the channels.

    picture - block1 - pool1 - block2 - pool2 - block3 - pool3 - ... - pool5 --- fc6 --- fc7 --- logits
      224      224      112     112      56      56       28    14       7     (B, D)  (B, D)   (B, O)

    a block:  ( 3 x 3 convolution -- norm, in the variants of -bn -- relu ) x 1 to 4

The paper could train the deeper ones only from weights of the 11-layer one; with norms they learn from
scratch. Tensors have torchvision's names; 138,357,544 parameters for vgg16 and 1,000 classes. vgg11-64 is
vgg11-bn in small, for pictures of 16 to 96 pixels, whose last block is not pooled.
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
    Norm,
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

    depths: tuple[int, int, int, int, int]
    """Convolutions of each block."""
    norm: bool = False
    channels: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    """Of each block."""
    pools: int = 5
    """Blocks that a pooling follows."""
    grid: int = 7
    """Places along a side of what fc6 reads: averages, were there others."""
    units: int = 4096
    """Of fc6 and of fc7."""
    ceil: bool = False
    """Whether a pooling keeps an odd last row and column: of a picture of 28 pixels none is lost."""


DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # A B D E
VARIANTS = {
    **{f"vgg{layers}": Layout(depths) for layers, depths in DEPTHS.items()},
    **{f"vgg{layers}-bn": Layout(depths, norm=True) for layers, depths in DEPTHS.items()},
    "vgg11-64": Layout(DEPTHS[11], True, (32, 64, 128, 256, 256), pools=4, grid=1, units=256, ceil=True),
}


@dataclass(frozen=True)
class VGGConfig:
    """Settings of a `VGG`."""

    variant: str = "auto"
    """Which net: vgg11, vgg13, vgg16, vgg19, each also with norms (vgg16-bn), vgg11-64 (small), or auto:
    vgg11-bn from 160 pixels a side, else the small one."""
    width: float = 1.0
    """Channels and dense units, as a share of the variant's own."""
    dropout: float = 0.5
    """Share of dense units silenced at random in each training step; the rest grow by 1 / (1 - share)."""

    def __post_init__(self) -> None:
        check_settings(self.variant, VARIANTS, self.width, self.dropout)


class VGG(nn.Module):
    """Five blocks of 3 x 3 convolutions, three dense layers; the tensors' names are torchvision's."""

    Config: ClassVar = VGGConfig
    TINY: ClassVar = VGGConfig(variant="vgg11-64", width=0.1, dropout=0.0)
    # 6,000 of MNIST's digits, 5 passes: 1.6 % wrong at 0.001 and 0.003; without norms the lower one is safer
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 1e-3, "batch_size": 32}

    def __init__(self, config: VGGConfig, inputs: Shape, outputs: int) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        self.variant = chosen(config, inputs)
        layout, windows = VARIANTS[self.variant], _windows(config, inputs)
        check_size(windows, inputs, self.variant, "variant=vgg11-64")
        self.avgpool = nn.AdaptiveAvgPool2d(layout.grid)
        layers: list[nn.Module] = []
        names: dict[str, str] = {}
        self._places: dict[str, int] = {}
        for name, (window,) in windows:
            self._places[name] = len(layers)
            if not window.outputs:
                layers.append(window.pool())
            else:
                norm = [Norm(window.outputs)] if window.norm else []
                layers += [window.layer(), *norm, nn.ReLU()]
            names[f"features.{len(layers) - 1}"] = name
        fc6, fc7, fc8 = (Dense(a, b) for a, b in pairwise(_units(config, inputs, outputs)))
        p = config.dropout
        dense = [fc6, nn.ReLU(), nn.Dropout(p), fc7, nn.ReLU(), nn.Dropout(p), fc8]
        self.features, self.classifier = Trunk(*layers), nn.Sequential(*dense)
        self.features.after = (self.avgpool, self.classifier)
        names |= {f"classifier.{dense.index(fc) + 1}": name for fc, name in ((fc6, "fc6"), (fc7, "fc7"))}
        self.features.names = names
        initialise(self, laws(self))

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        """Logits; with a recorder also conv1_1 ... pool5 (B, c, h, w), fc6, fc7 and features (B, D)."""
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
    def parameter_count(config: VGGConfig, inputs: Shape, outputs: int) -> int:
        """9 C + 1 for each filter, 2 more with a norm, and fan-in + 1 for each dense unit."""
        dense, _ = dense_costs(_units(config, inputs, outputs))
        return window_costs(_windows(config, inputs), inputs)[0] + dense

    @staticmethod
    def macs(config: VGGConfig, inputs: Shape, outputs: int) -> int:
        """Multiply-adds for one picture: one for each weight of a filter at each place, and dense weight."""
        _, dense = dense_costs(_units(config, inputs, outputs))
        return window_costs(_windows(config, inputs), inputs)[1] + dense


def chosen(config: VGGConfig, inputs: Shape) -> str:
    """The variant for pictures (C, H, W)."""
    return choose(config.variant, inputs, "vgg11-bn", "vgg11-64")


def import_torchvision(state: Mapping[str, Tensor], model: VGG) -> dict[str, Tensor]:
    """Tensors of torchvision's VGG for this one, checked; SadariError where they are of another variant."""
    return checked(state, model)


def _windows(config: VGGConfig, inputs: Shape) -> Stages:
    layout = VARIANTS[chosen(config, inputs)]
    stages = []
    before = inputs[0]
    for block, (depth, channels) in enumerate(zip(layout.depths, layout.channels, strict=True), 1):
        channels = share(channels, config.width)
        for i in range(1, depth + 1):
            stages.append((f"conv{block}_{i}", [Window(3, 1, 1, before, channels, norm=layout.norm)]))
            before = channels
        if block <= layout.pools:
            stages.append((f"pool{block}", [Window(2, 2, ceil=layout.ceil)]))
    return stages


def _units(config: VGGConfig, inputs: Shape, outputs: int) -> list[int]:
    layout = VARIANTS[chosen(config, inputs)]
    units = share(layout.units, config.width)
    return [share(layout.channels[-1], config.width) * layout.grid**2, units, units, outputs]
