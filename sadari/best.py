"""Early stopping: the best weights so far are kept, and put back at the end."""

from __future__ import annotations

import math
from collections.abc import Container

import torch
from torch import Tensor, nn


class Best:
    """The weights with the best (lowest) validation score so far and its age, each member by itself."""

    def __init__(self, model: nn.Module, members: int, patience: int) -> None:
        named = (*model.named_parameters(), *model.named_buffers())
        self.live = {name: value.detach() for name, value in named}
        self.kept = {name: value.clone() for name, value in self.live.items()}
        self.patience = patience or math.inf
        self.score = torch.full((members,), math.inf, dtype=torch.float64)
        self.step = torch.zeros(members, dtype=torch.int64)
        self.waited = torch.zeros(members, dtype=torch.int64)  # evaluations since the best

    def update(self, scores: Tensor, step: int) -> None:
        """Take in an evaluation (K,). A member out of patience has stopped, whatever comes later."""
        scores = scores.double().cpu()
        better = (scores < self.score) & (self.waited < self.patience)
        self.waited += 1
        self.waited[better] = 0
        if not better.any():
            return
        self.score[better] = scores[better]
        self.step[better] = step
        for name, value in self.live.items():
            if len(better) == 1:
                self.kept[name].copy_(value)
            else:
                self.kept[name][better] = value[better]

    def out(self, died: Container[int]) -> bool:
        """Whether every member is out of patience or dead."""
        return all(wait >= self.patience or k in died for k, wait in enumerate(self.waited.tolist()))

    def restore(self) -> None:
        """Put the kept weights back into the model."""
        for name, value in self.live.items():
            value.copy_(self.kept[name])

    def state(self) -> dict[str, Tensor]:
        """Everything here, by name, not copied."""
        kept = {f"kept.{name}": value for name, value in self.kept.items()}
        return {"score": self.score, "step": self.step, "waited": self.waited, **kept}
