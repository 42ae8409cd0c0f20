"""ResNet (He 2015, 1512.03385): for photographs in torchvision's layout, and the paper's for small pictures.

What differs from the rung below (vgg): a block adds to what it is given instead of replacing it, so that the
gradient reaches the first layer undiminished through the sums. A plain net of 56 layers learns worse than
one of 20, on the training pictures too; with shortcuts it learns better. Only one dense layer is left: the
last maps are averaged over their places.

    basic        x --+-- 3 x 3 - norm - relu -- 3 x 3 - norm --(+)-- relu --
                     +--------------- shortcut -----------------+

    bottleneck   x --+-- 1 x 1 - norm - relu -- 3 x 3 - norm - relu -- 1 x 1 - norm --(+)-- relu --
                     +---------------------------- shortcut ---------------------------+

resnet18 34                basic, four stages of 64 to 512 channels; 1 x 1 shortcuts where sizes change
resnet50 101 152           bottlenecks to four times those channels, halving the picture in the 3 x 3 (v1.5,
                           as torchvision); resnet50-v1 and so on halve it in the first 1 x 1, as the paper
resnet20 32 44 56 110      basic, three stages of 16 to 64 channels, for pictures of about 32 pixels;
                           shortcuts have no weights: every second pixel, and zeros for new channels
plain18 plain20 and so on  the basic ones without shortcuts, which the paper compares with
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.convolution import (
    Dense,
    Field,
    Norm,
    Shape,
    Window,
    check_settings,
    check_size,
    checked,
    choose,
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

    depths: tuple[int, ...]
    """Blocks of each stage."""
    channels: tuple[int, ...] = (64, 128, 256, 512)
    """Of each stage's 3 x 3 convolutions."""
    bottleneck: bool = False
    """Whether a block is 1 x 1, 3 x 3, 1 x 1, the last with four times the channels."""
    late: bool = True
    """Whether a bottleneck halves the picture in its 3 x 3 (v1.5), not in its first 1 x 1 (v1)."""
    shortcut: str = "B"
    """A (zeros for new channels), B (1 x 1 convolution where sizes change), or none."""
    small: bool = False
    """Whether the net begins with 3 x 3 at full size, not with 7 x 7 and a pooling, which quarter it."""


PHOTOS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
VARIANTS: dict[str, Layout] = {}
for _layers, _depths in PHOTOS.items():
    VARIANTS[f"resnet{_layers}"] = Layout(_depths, bottleneck=_layers >= 50)
for _layers in (50, 101, 152):
    VARIANTS[f"resnet{_layers}-v1"] = replace(VARIANTS[f"resnet{_layers}"], late=False)
for _layers in (20, 32, 44, 56, 110):  # 6 n + 2
    VARIANTS[f"resnet{_layers}"] = Layout(((_layers - 2) // 6,) * 3, (16, 32, 64), shortcut="A", small=True)
for _layers in (18, 34, 20, 32, 44, 56, 110):
    VARIANTS[f"plain{_layers}"] = replace(VARIANTS[f"resnet{_layers}"], shortcut="none")


@dataclass(frozen=True)
class ResNetConfig:
    """Settings of a `ResNet`."""

    variant: str = "auto"
    """Which net: resnet18, 34, 50, 101, 152 (50 and up also as resnet50-v1), for small pictures resnet20, 32,
    44, 56, 110; plain20 and so on without shortcuts; or auto: resnet18 from 160 pixels a side, else
    resnet20."""
    width: float = 1.0
    """Channels, as a share of the variant's own."""

    def __post_init__(self) -> None:
        check_settings(self.variant, VARIANTS, self.width)


@dataclass(frozen=True)
class Plan:
    """The windows of one block."""

    name: str
    branch: tuple[Window, ...]
    shortcut: Window | None = None
    """A 1 x 1 convolution round the branch, where there is one."""
    added: bool = True
    """Whether the block adds to what it is given."""

    @property
    def outputs(self) -> int:
        """Channels after it."""
        return self.branch[-1].outputs


class Block(nn.Module):
    """relu(branch(x) + shortcut(x)); where nothing is added, relu(branch(x))."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        first, second, *third = plan.branch
        self.conv1, self.bn1 = first.layer(), Norm(first.outputs)
        self.conv2, self.bn2 = second.layer(), Norm(second.outputs)
        self.conv3 = third[0].layer() if third else None
        self.bn3 = Norm(third[0].outputs) if third else None
        self.downsample = None
        if plan.shortcut:
            self.downsample = nn.Sequential(plan.shortcut.layer(), Norm(plan.shortcut.outputs))
        self.added = plan.added
        self.stride = first.stride * second.stride
        self.new = plan.branch[-1].outputs - first.inputs  # channels

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B c j k"]:
        """1. convolve, twice or three times  2. add what came in  3. bend."""
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.conv3 is not None and self.bn3 is not None:
            h = self.bn3(self.conv3(F.relu(h)))
        if self.added:
            h = h + self._shortcut(x)
        return F.relu(h)

    def _shortcut(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B c j k"]:
        if self.downsample is not None:
            return self.downsample(x)
        if self.stride > 1:  # option A: half of the zeros before the channels, half behind them
            x = x[:, :, :: self.stride, :: self.stride]
            return F.pad(x, (0, 0, 0, 0, self.new // 2, self.new // 2))
        return x


class ResNet(nn.Module):
    """Blocks in stages, an average, one dense layer; the tensors' names are torchvision's."""

    Config: ClassVar = ResNetConfig
    TINY: ClassVar = ResNetConfig(variant="resnet20", width=0.25)
    # 6,000 of MNIST's digits, 5 passes: 1.9 % wrong; by the paper's SGD at 0.1, 1.8 %
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 3e-3, "batch_size": 64}

    def __init__(self, config: ResNetConfig, inputs: Shape, outputs: int) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        self.variant = chosen(config, inputs)
        first, pool, plans = _plans(config, inputs)
        check_size(_ways(config, inputs), inputs, self.variant, "variant=resnet20")
        self.conv1, self.bn1 = first.layer(), Norm(first.outputs)
        self.maxpool = pool.pool() if pool else None
        for stage, members in groupby(plans, key=_stage_of):
            self.add_module(stage, nn.Sequential(*map(Block, members)))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = Dense(plans[-1].outputs, outputs)
        self._names = [plan.name for plan in plans]
        initialise(self, laws(self))

    def features(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B D"]:
        """The last maps, averaged over their places; a recorder gets conv1, maxpool, layer1.0 and so on."""
        rec = rec or unrecorded
        x = rec("conv1", F.relu(self.bn1(self.conv1(pictures))))  # (B, c, h, w)
        if self.maxpool is not None:
            x = rec("maxpool", self.maxpool(x))
        for name in self._names:
            x = rec(name, self.get_submodule(name)(x))
        return self.avgpool(x).flatten(1)

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        """Logits; with a recorder also what `features` names, and features (B, D)."""
        rec = rec or unrecorded
        return rec("output", self.fc(rec("features", self.features(pictures, rec))))

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        """First convolution, pooling and blocks, by the names that `fields` and a recorder give them."""
        return [(field.stage, self.get_submodule(field.stage)) for field in self.fields()]

    def fields(self) -> list[Field]:
        """What a place of each stage sees of the picture, along the branches."""
        return fields(_ways(self.config, self.inputs), self.inputs)

    @staticmethod
    def parameter_count(config: ResNetConfig, inputs: Shape, outputs: int) -> int:
        """k^2 C + 2 for each filter, its norm's two included, and (D + 1) O."""
        _, _, plans = _plans(config, inputs)
        counted, _ = window_costs(_ways(config, inputs), inputs)
        around = sum(plan.shortcut.parameters for plan in plans if plan.shortcut)
        return counted + around + (plans[-1].outputs + 1) * outputs

    @staticmethod
    def macs(config: ResNetConfig, inputs: Shape, outputs: int) -> int:
        """Multiply-adds for one picture: one for each weight of a filter at each place, and D O."""
        _, _, plans = _plans(config, inputs)
        ways = _ways(config, inputs)
        _, counted = window_costs(ways, inputs)
        sizes = {field.stage: field.size for field in fields(ways, inputs)}
        around = sum(plan.shortcut.macs(*sizes[plan.name]) for plan in plans if plan.shortcut)
        return counted + around + plans[-1].outputs * outputs


def chosen(config: ResNetConfig, inputs: Shape) -> str:
    """The variant for pictures (C, H, W)."""
    return choose(config.variant, inputs, "resnet18", "resnet20")


def import_torchvision(state: Mapping[str, Tensor], model: ResNet) -> dict[str, Tensor]:
    """Tensors of torchvision's ResNet for this one, checked; SadariError where they are of another."""
    return checked(state, model)


def import_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of transformers' ResNetForImageClassification, or ResNetModel, under the names here.

    SadariError for a name of another network.
    """
    return {_renamed(name): value for name, value in state.items()}


def _renamed(name: str) -> str:
    short = name.removeprefix("resnet.")
    if place := re.fullmatch(r"embedder\.embedder\.(convolution|normalization)\.(\w+)", short):
        return f"{'conv1' if place[1] == 'convolution' else 'bn1'}.{place[2]}"
    inside = re.fullmatch(
        r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:layer\.(\d+)|shortcut)\.(convolution|normalization)\.(\w+)",
        short,
    )
    if inside:
        stage, block, layer, kind, part = inside.groups()
        convolution = kind == "convolution"
        if layer is None:
            within = f"downsample.{0 if convolution else 1}"
        else:
            within = f"{'conv' if convolution else 'bn'}{int(layer) + 1}"
        return f"layer{int(stage) + 1}.{block}.{within}.{part}"
    if short.startswith("classifier.1."):
        return short.replace("classifier.1.", "fc.")
    raise SadariError(
        f"the weights hold {name!r}, which is no part of transformers' ResNet; give the weights of one"
    )


def _plans(config: ResNetConfig, inputs: Shape) -> tuple[Window, Window | None, list[Plan]]:
    """The first convolution, the pooling if there is one, and the blocks."""
    layout = VARIANTS[chosen(config, inputs)]
    before = share(layout.channels[0], config.width)
    size = (3, 1, 1) if layout.small else (7, 2, 3)
    first = Window(*size, inputs[0], before, bias=False, norm=True)
    plans: list[Plan] = []
    for stage, (depth, channels) in enumerate(zip(layout.depths, layout.channels, strict=True), 1):
        channels = share(channels, config.width)
        for i in range(depth):
            stride = 2 if stage > 1 and i == 0 else 1
            plans.append(_plan(f"layer{stage}.{i}", layout, before, channels, stride))
            before = plans[-1].outputs
    return first, None if layout.small else Window(3, 2, 1), plans


def _plan(name: str, layout: Layout, before: int, channels: int, stride: int) -> Plan:
    """One block, from `before` channels."""
    shapes = [(3, channels), (3, channels)]
    if layout.bottleneck:
        shapes = [(1, channels), (3, channels), (1, 4 * channels)]
    halving = 1 if layout.bottleneck and layout.late else 0
    branch, come = [], before
    for i, (kernel, outputs) in enumerate(shapes):
        moved = stride if i == halving else 1
        branch.append(Window(kernel, moved, kernel // 2, come, outputs, bias=False, norm=True))
        come = outputs
    shortcut = None
    if layout.shortcut == "B" and (stride > 1 or come != before):
        shortcut = Window(1, stride, 0, before, come, bias=False, norm=True)
    return Plan(name, tuple(branch), shortcut, layout.shortcut != "none")


def _ways(config: ResNetConfig, inputs: Shape) -> list[tuple[str, tuple[Window, ...]]]:
    """Stages with the windows along the branches."""
    first, pool, plans = _plans(config, inputs)
    begin = [("conv1", (first,)), *([("maxpool", (pool,))] if pool else [])]
    return [*begin, *((plan.name, plan.branch) for plan in plans)]


def _stage_of(plan: Plan) -> str:
    return plan.name.split(".")[0]
