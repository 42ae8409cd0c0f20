"""Runs on pictures for the views that open networks for them: made at once, without data and fitting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sadari.data.spec_images import ImageSpec
from sadari.layers.dense import Recorder, unrecorded
from sadari.runs import Run
from sadari.tasks import build, loss_for, make_task

CLASSES = ("apple", "개", "zebra")


def planted(
    rung: str,
    side: int,
    *,
    classes: tuple[str, ...] = CLASSES,
    channels: int = 3,
    model: nn.Module | None = None,
    **settings: Any,
) -> Run:
    """A run of a rung with its first weights, or of `model`, on squares of `side` pixels."""
    mean, deviation = (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels]
    spec = ImageSpec("label", "image", classes, side, "squash", channels, mean, deviation)
    loss = loss_for(spec)
    model = model or build(rung, "classify", settings, spec.width, loss, 0, "images")
    config = {"rung": rung, "kind": "images", "task": "classify", "seed": 0, "model": settings}
    task = make_task("images", "classify", loss, spec)
    return Run(Path("planted"), config, {"notes": []}, spec, model.eval(), task)


def picture(path: Path, side: int = 40, seed: int = 0) -> str:
    """A file of noise in colours, smooth enough that neighbours are alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR).save(path)
    return str(path)


class Chain(nn.Module):
    """Windows one after another, the mean of each channel, a line: the smallest network that has stages."""

    def __init__(self, layers: list[nn.Module], outputs: int, bend: bool = True) -> None:
        super().__init__()
        self.layers, self.bend = nn.ModuleList(layers), bend
        channels = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)][-1]
        self.output = nn.Linear(channels, outputs)

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        return [(f"stage{i}", layer) for i, layer in enumerate(self.layers)]

    def forward(self, pictures: Tensor, rec: Recorder | None = None) -> Tensor:
        rec = rec or unrecorded
        x = pictures
        for name, layer in self.stages:
            x = layer(x)
            x = rec(name, torch.relu(x) if self.bend else x)
        return rec("output", self.output(rec("features", x.mean((2, 3)))))
