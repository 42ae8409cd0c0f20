"""Distilled: a small residual net that learns from the best model there is (Hinton 2015, 1503.02531).

What differs from the rungs below: nothing in the network, which is the smallest ResNet (He 2015, 1512.03385),
a megabyte. It is taught: beside the labels it is shown, for each picture, what a large model makes of it, and
how like the other classes that one finds it; see `methods/distill.py`. So a hundredth of the weights comes
near to the large model's answers, and the large one can stay at home.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sadari.models.resnet import ResNet, ResNetConfig


@dataclass(frozen=True)
class DistilledConfig(ResNetConfig):
    """Settings of a `Distilled` network: a ResNet's, small unless told otherwise."""

    variant: str = "resnet20"
    """Which net: resnet20, 32, 44, 56, 110, or those for photographs: resnet18, 34, 50, 101, 152."""


class Distilled(ResNet):
    """A ResNet that wants a teacher."""

    taught: ClassVar[bool] = True
    """Without another run to learn from it is not fitted."""
    Config: ClassVar = DistilledConfig
    TINY: ClassVar = DistilledConfig(width=0.25)
