"""Small runs of translate for the views of pairs: reversed numbers, fitted once a process."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sadari.data.toy_pairs import reverse
from sadari.fitting import fit
from sadari.runs import Run

HOME = tempfile.TemporaryDirectory(prefix="small-pairs-", ignore_cleanup_errors=True)
SIZES: dict[str, dict[str, Any]] = {
    "lookup": {},
    "rnn": {"width": 32, "dropout": 0.0},
    "lstm": {"width": 32, "dropout": 0.0},
    "lstm-attention": {"width": 32, "dropout": 0.0},
    "transformer": {"width": 32, "heads": 2, "layers": 2, "dropout": 0.0},
}


@cache
def small(rung: str, steps: int = 120, name: str = "", **settings: Any) -> Run:
    """A run on strings of 1 to 8 numbers below 10 and the same from back to front."""
    folder = Path(HOME.name)
    data = folder / "reversed.csv"
    if not data.exists():
        reverse(1500, longest=8, numbers=10).write_csv(data)
    training = {} if rung == "lookup" else {"learning_rate": 0.01, "precision": "fp32", **settings}
    return fit(
        rung,
        data,
        task="translate",
        kind="pairs",
        target="reversed",
        reading={"tokenizer": "words"},
        out=folder / (name or f"{rung}-{steps}"),
        budget=f"{steps}steps",
        model=SIZES[rung],
        train=training,
    )


class Mirror(nn.Module):
    """Writes its source from back to front and says so: `alignment` is the anti-diagonal to the letter."""

    def __init__(self, size: int, end: int) -> None:
        super().__init__()
        self.size, self.end = size, end
        self.config = SimpleNamespace()

    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        weights = torch.zeros(len(source), target.shape[1], source.shape[1])
        for row, length in enumerate((source >= 0).sum(1).tolist()):
            for step in range(target.shape[1]):
                weights[row, step, max(length - 2 - step, 0)] = 1.0
        return weights

    def start(self, source: Tensor) -> tuple[Tensor, int]:
        return source, 0

    def step(self, tokens: Tensor, state: tuple[Tensor, int]) -> tuple[Tensor, tuple[Tensor, int]]:
        source, done = state[0], state[1] + tokens.shape[1]
        logits = torch.full((len(source), self.size), -20.0)
        for row, length in enumerate((source >= 0).sum(1).tolist()):
            place = length - 1 - done
            logits[row, source[row, place] if place >= 0 else self.end] = 0.0
        return logits, (source, done)

    def reorder(self, state: tuple[Tensor, int], rows: Tensor) -> tuple[Tensor, int]:
        return state[0][rows], state[1]
