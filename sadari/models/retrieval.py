"""Retrieval: the pictures most like a new one vote, and likeness is what a foundation model sees in them.

What differs from `nearest`, far below: not pixels are compared but the features of an eye that has learnt
elsewhere, in which two cats are near each other wherever they sit. What differs from the rung above (probe):
nothing is weighed. New labelled pictures, and new classes, only have to be put to the others; so a search
engine over good features is the model to beat. With ever more pictures the error of the nearest falls to at
most twice the least that these features allow (Cover & Hart 1967).

    picture -- eye (as it came) -- features (B, D) -- less their mean, of length 1 -- nearest of N -- votes

The vote is `nearest`'s, to the letter, over D numbers in place of pixels; each is kept in 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sadari.errors import SadariError
from sadari.layers.dense import Recorder
from sadari.losses import CLASSES, Loss
from sadari.models.eye import SMALLEST
from sadari.models.nearest import Nearest, NearestConfig
from sadari.models.seeing import EyeConfig, Pictures, Seeing, has_bf16


@dataclass(frozen=True)
class RetrievalConfig(EyeConfig):
    """Settings of `Retrieval`; each field's text is the help of its flag."""

    neighbours: int = 0
    """Nearest pictures k that vote; 0 tries 1 to 50 on the training pictures, each left out in turn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours < 0:
            raise SadariError(
                f"neighbours {self.neighbours}: at least 1 picture votes; use neighbours=0 to have k chosen"
            )


class Retrieval(Seeing):
    """An eye, and a search through the features of the pictures that it was shown."""

    Config: ClassVar = RetrievalConfig
    TINY: ClassVar = RetrievalConfig(weights="", backbone=SMALLEST, neighbours=1)

    def __init__(self, config: RetrievalConfig, inputs: tuple[int, int, int], outputs: int) -> None:
        super().__init__(config, inputs)
        self.backbone.requires_grad_(False)
        self.memory = Nearest(NearestConfig(config.neighbours, side=1), (self.width, 1, 1), outputs)

    def train(self, mode: bool = True) -> Retrieval:
        """The eye never learns: what it gives for a picture is to stay the same."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        """Logits: the logarithms of the classes' shares of the votes."""
        features = self.features(pictures, rec)
        if rec is None:
            return self.memory(_as_pictures(features))
        output = self.memory(_as_pictures(features), rec)
        rec("features", features)  # the eye's, in place of the unit vectors that the search compares
        return output

    @torch.no_grad()
    def neighbours(
        self, pictures: Float[Tensor, "B C H W"], count: int
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """The `count` stored pictures that are most like each: likeness, then numbers; see `Nearest`."""
        return self.memory.neighbours(_as_pictures(self.features(pictures)), count)

    def can_solve(self, loss: Loss) -> bool:
        """True for every loss over classes: to keep the features is the solution."""
        return loss.name in CLASSES

    def solve(self, features: Pictures, targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Look at each picture once and keep what was seen; k is chosen as `Nearest.solve` does.

        In bf16 where the processor has it, at two to three times the speed.
        """
        self.fill()
        bf16 = has_bf16()
        seen, seconds = self.encoded(features, bf16)
        facts = self.memory.solve(_as_pictures(seen), targets, loss)
        pace = len(seen) / max(seconds, 1e-9)
        return {**facts, "encoding": "bf16" if bf16 else "fp32", "pictures_per_second": pace}

    @staticmethod
    def parameter_count(config: RetrievalConfig, inputs: tuple[int, int, int], outputs: int) -> None:
        """None: nothing is learnt, and how much is kept beside the eye's weights, the pictures decide."""

    @staticmethod
    def macs(config: EyeConfig, inputs: tuple[int, int, int], outputs: int) -> int:
        """The eye's multiply-adds for one picture; the search takes N D more, and N the pictures decide."""
        return Seeing.macs(config, inputs, 0)


def _as_pictures(features: Float[Tensor, "B D"]) -> Float[Tensor, "B D 1 1"]:
    """Features as pictures of one place and D channels."""
    return features.unsqueeze(-1).unsqueeze(-1)
