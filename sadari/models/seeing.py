"""What all rungs with an eye have: which eye it is, how it is shown pictures, and what it makes of many.

An eye is a network that has learnt elsewhere, without its last layer (`models.eye`). Its features of all
training pictures take longer than whatever is then made of them, so they are kept from one rung to the next.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.dense import Recorder
from sadari.models.eye import (
    class_of,
    described,
    features_of,
    fill,
    make_eye,
    read_words,
    settings_of,
    shape_of,
)
from sadari.models.foreign_eye import check_side
from sadari.pretrained_images import FOREIGN

Shape = tuple[int, int, int]
LAST: dict[str, tuple[Tensor, float]] = {}  # of the pictures seen last: features and seconds, by what decides
ANY_SIZE = ("resnet", "efficientnet")  # which average over places, however many there are
LARGER, LEAST = 7, 96  # halves of a picture's own side, and pixels, that these are shown at the least
LARGEST = 4096  # and at the most
BLOCK = 1 << 18  # pixels of the pictures that are looked at together


class Pictures(Protocol):
    """Normalised pictures, as a tensor (N, C, H, W) or as what gives one for a slice."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> Float[Tensor, "B C H W"]: ...


@dataclass(frozen=True)
class EyeConfig:
    """Which eye: what every rung with one is told; each field's text is the help of its flag."""

    weights: str = "efficientnet-lite0"
    """The eye: efficientnet-lite0 (`sadari data get efficientnet-lite0`), a run of pictures, a folder of the
    hub (a ResNet or a ViT; any other with `pip install 'sadari[hub]'`), timm:NAME or a folder of timm's
    (`sadari[timm]`), as timm:resnet50.a1_in1k, or "" for one that has seen nothing."""
    side: int = 0
    """Pixels of a side that the eye is shown; 0 is what it learnt on, and less of small pictures for a
    network that takes any size."""
    backbone: str = ""
    """The network, as `network=resnet variant=resnet18 ...`; empty: as its weights say."""

    def __post_init__(self) -> None:
        if not 0 <= self.side <= LARGEST:
            raise SadariError(f"side {self.side}: give up to {LARGEST:,} pixels, or side=0 to have it chosen")
        if not self.backbone:
            object.__setattr__(self, "backbone", described(self.weights))
        words = read_words(self.backbone)  # so that a mistake is said here
        if words["network"] == "shallow" and self.side not in (0, int(words["size"])):
            raise SadariError(
                f"side {self.side}: the eye has a weight for each pixel of {words['size']} a side; use side=0"
            )
        if words["network"] in FOREIGN and self.side not in (0, int(words["size"])):
            check_side(settings_of(words), shape_of(words), self.side)


class Seeing(nn.Module):
    """An eye, and how it is shown pictures: what all rungs with one have."""

    def __init__(self, config: EyeConfig, inputs: Shape) -> None:
        super().__init__()
        self.config: Any = config
        self.words = read_words(config.backbone)
        self.backbone, self.width = make_eye(self.words, inputs[0])

    def fill(self) -> None:
        """Put the pretrained weights in, if there are any."""
        if self.config.weights:
            fill(self.backbone, self.words, self.config.weights)

    def features(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B D"]:
        """What the eye makes of each picture."""
        return features_of(self.backbone, pictures, rec)

    @torch.no_grad()
    def encode(self, pictures: Pictures, bf16: bool = False) -> Float[Tensor, "N D"]:
        """The features of any number of pictures, without gradients or dropout, a block at a time."""
        out = torch.empty(len(pictures), self.width)
        was_training = self.training
        self.eval()
        for rows, block in _blocks(pictures):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out[rows] = self.features(block).float()
        self.train(was_training)
        return out

    def encoded(self, pictures: Pictures, bf16: bool) -> tuple[Float[Tensor, "N D"], float]:
        """`encode` and the seconds that it took, or what it gave last if it was asked the same: a climb fits
        the probe and then begins fine-tune from the same features.
        """
        digest = hashlib.sha256(f"{bf16} {self.config.backbone}".encode())
        for value in (*self.backbone.state_dict().values(), *(block for _, block in _blocks(pictures))):
            digest.update(f"{tuple(value.shape)}".encode())
            digest.update(value.contiguous().numpy())
        key = digest.hexdigest()
        if key not in LAST:
            began = time.perf_counter()
            features = self.encode(pictures, bf16)
            LAST.clear()
            LAST[key] = features, time.perf_counter() - began
        return LAST[key]

    @classmethod
    def pictures(cls, config: EyeConfig, own: int) -> dict[str, Any]:
        """How the eye is to be shown pictures whose own side is so many pixels: settings of `resized`.

        Small ones are enlarged only so far as it was seen to help: digits of 8 pixels are told apart by
        EfficientNet-lite at 96 pixels as well as at 128 or 224, in a fifth of the time; emoji of 64 are not.
        """
        words = read_words(config.backbone)
        size = int(words["size"])
        enough = max(LARGER * own // 2, LEAST) if words["network"] in ANY_SIZE else size
        side = config.side or min(enough, size)
        mean, deviation = (tuple(map(float, words[name].split(","))) for name in ("mean", "deviation"))
        return {"size": side, "channels": int(words["channels"]), "mean": mean, "std": deviation}

    @staticmethod
    def macs(config: EyeConfig, inputs: Shape, outputs: int) -> int:
        """Multiply-adds for one picture: the network's."""
        words = read_words(config.backbone)
        return class_of(words).macs(settings_of(words), inputs, outputs)


def has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; elsewhere it is slower than single precision."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in known)


def _blocks(pictures: Pictures) -> Iterator[tuple[slice, Float[Tensor, "B C H W"]]]:
    """The pictures in blocks, and which they are."""
    height, width = pictures[0:1].shape[-2:]
    rows = max(BLOCK // (height * width), 1)
    for first in range(0, len(pictures), rows):
        block = slice(first, min(first + rows, len(pictures)))
        yield block, pictures[block]
