"""What is asked of pictures: a class. A table's task, with everything between stored pixels and a network.

1. change     in training only: the random changes of `augment.py`, on whole numbers
2. blend      likewise: mixup or cutmix, whose loss is share * loss(a) + (1 - share) * loss(b)
3. scale      (pixel / 255 - mean) / deviation of the pixel's channel, by the spec
4. turn       channels before places, as networks take them, while memory keeps a pixel's channels together

Pixels stay single bytes until a batch needs them: a quarter of the memory, and quicker to move.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from sadari.augment import Mixed, Operation, cutmix, mixup, parse
from sadari.data.spec_images import ImageSpec
from sadari.heap import kept_memory
from sadari.layers.folded import folded
from sadari.losses import Loss
from sadari.tasks import Batch, Monitor, Penalised, TableTask, macs_of

PIXELS = 1 << 17  # of the pictures that are answered together: 128 of 32 x 32, 2 of 224 x 224
SCORED_MACS, SCORED_PICTURES = 1 << 39, 256  # multiply-adds of a look at pictures, and pictures at the least


class ImageTask(TableTask):
    """`classify` pictures. A batch is `{"features": (B, H, W, C) uint8, "targets": (B,) class numbers}`."""

    def __init__(
        self, name: str, loss: Loss, spec: ImageSpec, monitor: Monitor = "auto", rows: int = 0
    ) -> None:
        super().__init__(name, loss, monitor, rows)
        self.spec = spec
        self.changes: tuple[Operation, ...] = ()
        self.mixup = self.cutmix = 0.0

    @property
    def inputs(self) -> tuple[int, int, int]:
        """(C, H, W), as networks take a picture."""
        return self.spec.width

    def configure(self, config: Any) -> None:
        """Take what a `TrainConfig` says of changes and blends; until then there are none.

        Raises SadariError for a change that there is not.
        """
        self.changes = parse(config.augment)
        self.mixup, self.cutmix = config.mixup, config.cutmix

    def tensors(self, features: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Pixels, 0 to 255, as a network takes them."""
        return normalised(features, self.spec)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`"loss"`: the mean over the pictures, changed and blended where the model is in training."""
        features, targets = batch["features"], batch["targets"]
        mixed = Mixed(targets, targets, 1.0)
        if model.training and features.device.type != "meta":  # on which only shapes are counted
            features, mixed = self.drawn(features, targets)
        output = model(self.tensors(features))
        loss = self.loss(output, mixed.targets).mean()
        if mixed.share < 1:
            loss = mixed.share * loss + (1 - mixed.share) * self.loss(output, mixed.others).mean()
        if self.rows and isinstance(model, Penalised):
            loss = loss + model.penalty() / self.rows
        return {"loss": loss}

    @torch.no_grad()
    def drawn(
        self, features: UInt8[Tensor, "B H W C"], targets: Shaped[Tensor, " B"]
    ) -> tuple[Shaped[Tensor, "B H W C"], Mixed]:
        """A batch as training sees it this time. Of mixup and cutmix, where both are asked for, either."""
        for change in self.changes:
            features = change(features)
        if self.cutmix and (not self.mixup or torch.rand(()) < 0.5):
            return cutmix(features, targets, self.cutmix)
        if self.mixup:
            return mixup(features, targets, self.mixup)
        return features, Mixed(targets, targets, 1.0)

    def score(self, model: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        """As for rows; with a model that takes long, over some of the pictures, evenly spread."""
        net: Any = model
        count = len(arrays["targets"])
        each = macs_of(type(net), net.config, self.inputs, self.loss.outputs) if hasattr(net, "macs") else 1
        most = max(SCORED_MACS // max(each, 1), SCORED_PICTURES)
        if count > most:
            chosen = torch.arange(most) * count // most
            arrays = {name: array[chosen] for name, array in arrays.items()}
        return super().score(model, arrays)

    @torch.no_grad()
    def outputs(self, model: nn.Module, features: Tensor, precision: str = "fp32") -> Tensor:
        """As for rows, by a twin of the network with its norms folded away (`layers.folded`).

        precision   of the network's numbers: fp32, or bf16, faster where the processor multiplies such
        """
        answer, count = folded(model, precision), len(features)
        blocks = answer.blocks(count, self.inputs) or -(-count // self.together)
        found = torch.empty(count, self.loss.outputs)
        with kept_memory() if blocks > 1 else nullcontext():
            for i in range(blocks):
                rows = slice(i * count // blocks, (i + 1) * count // blocks)
                found[rows] = answer(self.tensors(features[rows]))
        return found

    def blocks(self, features: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Pictures to answer together, no more of them than `PIXELS` allows, as networks take them."""
        step = self.together
        for start in range(0, len(features), step):
            rows = slice(start, start + step)
            yield rows, self.tensors(features[rows])

    @property
    def together(self) -> int:
        """How many pictures are answered together at most."""
        return max(PIXELS // self.spec.size**2, 1)


class Pictures:
    """Stored pixels seen as scaled numbers, for what reads all of them outside the loop.

    A slice, or picture numbers, are scaled when they are asked for, so that a mapped file never lies in
    memory as floats.
    """

    def __init__(self, features: UInt8[Tensor, "N H W C"], spec: ImageSpec) -> None:
        self.features, self.spec = features, spec

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (len(self.features), *self.spec.width)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | Tensor) -> Float[Tensor, "B C H W"]:
        return normalised(self.features[rows], self.spec)


def normalised(features: Shaped[Tensor, "B H W C"], spec: ImageSpec) -> Float[Tensor, "B C H W"]:
    """(pixel / 255 - mean) / deviation of each channel; a pixel's channels lie together (channels_last)."""
    scale, shift = _line(spec.mean, spec.deviation, features.device)
    return torch.addcmul(shift, features.to(torch.float32), scale).permute(0, 3, 1, 2)


@cache
def _line(
    mean: tuple[float, ...], deviation: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Slope and intercept of the normalisation, (C,) each."""
    middle, spread = torch.tensor([mean, deviation], dtype=torch.float64).unbind()
    return (1 / (255 * spread)).float().to(device), (-middle / spread).float().to(device)
