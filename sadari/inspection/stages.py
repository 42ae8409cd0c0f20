"""The stages of a convolutional network as windows, read from the modules that it is made of.

A stage is what a recorder is given by one name: a convolution, a pooling, or a block of a residual network.
Its windows are passed one after another; those of a block's shortcut run beside them and see less. Of a rung
from the foundation the network is its eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sadari.errors import SadariError
from sadari.layers.convolution import Field, Shape, Window, fields
from sadari.models.efficientnet import EfficientNet, SameConv

ASIDE = "downsample"  # the shortcut of a block, by torchvision's name


@dataclass(frozen=True)
class Stage:
    """One stage of a network."""

    name: str
    """As a recorder is given it."""
    branch: tuple[Window, ...]
    """Along the longest way."""
    aside: tuple[Window, ...] = ()
    """Of the shortcut, where it has weights."""

    @property
    def pools(self) -> bool:
        """Whether it only pools."""
        return all(window.outputs == 0 for window in self.branch)


@dataclass(frozen=True)
class SameWindow(Window):
    """A window whose answer is ceil(n / stride) wide, with as many zeros as that takes: TensorFlow's rule."""

    def size(self, n: int) -> int:
        """Places along a side of n pixels."""
        return -(-n // self.stride)

    def settled(self, n: int) -> Window:
        """What it is for a side of n pixels: half of the zeros before them, an odd one behind."""
        zeros = max((self.size(n) - 1) * self.stride + self.kernel - n, 0)
        return _plain(self, zeros // 2, ceil=zeros % 2 == 1)


def network_of(model: nn.Module) -> Any:
    """The network that is shown the pictures: the eye of a rung from the foundation, else the model."""
    return getattr(model, "backbone", model)


def modules_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of the stages, in the order in which they are passed.

    SadariError for a network that has none.
    """
    network = network_of(model)
    if isinstance(network, EfficientNet):
        blocks = network.get_submodule("_blocks").named_children()
        stem, head = (network.get_submodule(name) for name in ("_conv_stem", "_conv_head"))
        return [("stem", stem), *((f"block{i}", block) for i, block in blocks), ("maps", head)]
    if not hasattr(network, "stages"):
        raise SadariError(
            f"a {type(network).__name__} has no stages, as a network of convolutions has; look at filters"
        )
    return network.stages


def stages_of(model: nn.Module) -> list[Stage]:
    """The stages of a network in the order in which they are passed. SadariError for one that has none."""
    found = []
    for name, module in modules_of(model):
        parts = [(path, window) for path, part in module.named_modules() if (window := window_of(part))]
        branch = tuple(window for path, window in parts if not path.startswith(ASIDE))
        aside = tuple(window for path, window in parts if path.startswith(ASIDE))
        found.append(Stage(name, branch, aside))
    return found


def window_of(module: nn.Module) -> Window | None:
    """A convolution or largest-value pooling as a window; None for any other layer."""
    if isinstance(module, nn.Conv2d):
        kernel, stride, padding = map(_side, (module.kernel_size, module.stride, module.padding))
        return (SameWindow if isinstance(module, SameConv) else Window)(
            kernel, stride, padding, module.in_channels, module.out_channels, module.groups,
            module.bias is not None,
        )  # fmt: skip
    if isinstance(module, nn.MaxPool2d):
        kernel, stride, padding = map(_side, (module.kernel_size, module.stride, module.padding))
        return Window(kernel, stride, padding, ceil=module.ceil_mode)
    return None


def _side(size: Any) -> int:
    """Windows are squares: the side of (3, 3) is 3."""
    return size if isinstance(size, int) else size[0]


def fields_of(stages: Sequence[Stage], inputs: Shape) -> list[Field]:
    """What a place of each stage sees of pictures (C, H, W), H = W, along the branches."""
    n, settled = inputs[1], []
    for stage in stages:
        windows = []
        for window in stage.branch:
            windows.append(window.settled(n) if isinstance(window, SameWindow) else window)
            n = window.size(n)
        settled.append((stage.name, windows))
    return fields(settled, inputs)


def unpadded(stages: Sequence[Stage]) -> list[Stage]:
    """The same windows without zeros round what they read."""
    return [
        replace(stage, branch=tuple(_plain(window, 0, window.ceil) for window in stage.branch))
        for stage in stages
    ]


def unpooled(stages: Sequence[Stage]) -> list[Stage]:
    """The same without poolings; what moves convolutions by more than a pixel stays."""
    return [stage for stage in stages if not stage.pools]


def find_stage(stages: Sequence[str], asked: str | None) -> str | None:
    """The stage that is asked for, if one is. SadariError with those there are when it is none."""
    if asked is not None and asked not in stages:
        raise SadariError(f"--stage {asked!r} is no stage of this network; its stages: {', '.join(stages)}")
    return asked


def _plain(window: Window, padding: int, ceil: bool) -> Window:
    """The same window with so many zeros at each edge, whatever its own rule."""
    own = (window.kernel, window.stride, padding, window.inputs, window.outputs, window.groups, window.bias)
    return Window(*own, window.norm, ceil)
