"""The recorder: a model called with one hands over its inner values by name, and computes the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Recorder:
    """Keeps each value under the name that the model gives it, in the order in which it was computed."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if self.values.get(name, value) is not value:  # an eye and the model round it may name the same one
            raise ValueError(
                f"the model gave the name {name!r} to two values; each inner value needs its own"
            )
        self.values[name] = value
        return value


def record(model: nn.Module, features: Tensor) -> dict[str, Tensor]:
    """Run rows (B, C) through a model without a gradient and return its inner values, each (B, ...)."""
    recorder = Recorder()
    with torch.no_grad():
        model(features, recorder)
    return {name: value.detach() for name, value in recorder.values.items()}
