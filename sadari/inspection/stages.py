"""The stages of a convolutional network as windows, read from the modules that it is made of.

A stage is what a recorder is given by one name: a convolution, a pooling, or a block of a residual network.
Its windows are passed one after another; those of a block's shortcut run beside them and see less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sadari.errors import SadariError
from sadari.layers.convolution import Field, Shape, Window, fields

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


def stages_of(model: Any) -> list[Stage]:
    """The stages of a network with `stages`: names and modules, in the order in which they are passed."""
    found = []
    for name, module in model.stages:
        parts = [(path, window) for path, part in module.named_modules() if (window := window_of(part))]
        branch = tuple(window for path, window in parts if not path.startswith(ASIDE))
        aside = tuple(window for path, window in parts if path.startswith(ASIDE))
        found.append(Stage(name, branch, aside))
    return found


def window_of(module: nn.Module) -> Window | None:
    """A convolution or largest-value pooling as a window; None for any other layer."""
    if isinstance(module, nn.Conv2d):
        kernel, stride, padding = map(_side, (module.kernel_size, module.stride, module.padding))
        return Window(
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
    """What a place of each stage sees of pictures (C, H, W), along the branches."""
    return fields([(stage.name, stage.branch) for stage in stages], inputs)


def unpadded(stages: Sequence[Stage]) -> list[Stage]:
    """The same windows without zeros round what they read."""
    return [
        replace(stage, branch=tuple(replace(window, padding=0) for window in stage.branch))
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
