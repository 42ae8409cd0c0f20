"""Attention scores: how well a place that was read fits what a decoder is about to write.

    additive   e = v . tanh(W s + U h + b)    Bahdanau et al. 2014, 1409.0473: a small network for each pair
    dot        e = s . h                      Luong et al. 2015, 1508.04025: both are of one size
    general    e = s . (U h)                  Luong et al. 2015: sizes may differ, and U learns what fits

s is the decoder's state at a step, h the encoder's at a place. What is made of h alone is its key: it is made
once a text, and each step then scores all keys.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sadari.errors import SadariError

# Added to the score of a place where nothing is written. Beside it every other score vanishes, so that the
# weight is exactly 0, and bf16 holds it: minus infinity would give a text of no tokens weights that are no
# numbers.
NOWHERE = -1e30


class Score(nn.Module):
    """Scores (B, T, S) of T states over S places."""

    def keys(self, memory: Float[Tensor, "B S W"]) -> Float[Tensor, "B S C"]:
        """What the scores need of each place."""
        raise NotImplementedError

    def forward(
        self,
        states: Float[Tensor, "B T C"],
        keys: Float[Tensor, "B S C"],
        past: Float[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T S"]:
        """`past` is the sum of the weights that each place had in earlier steps, for scores that ask."""
        raise NotImplementedError


class Additive(Score):
    """v . tanh(W s + U h + b), and w times the place's past inside tanh, where coverage is asked for.

    A place that was looked at can so be left alone later on (See et al. 2017, 1704.04368, equation 11; Tu et
    al. 2016, 1601.04811).
    """

    def __init__(self, width: int, across: int, coverage: bool = False) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(across, width)
        self.energy = nn.Linear(width, 1, bias=False)
        self.past = nn.Linear(1, width, bias=False) if coverage else None

    def keys(self, memory: Float[Tensor, "B S W"]) -> Float[Tensor, "B S C"]:
        return self.key(memory)

    def forward(
        self,
        states: Float[Tensor, "B T C"],
        keys: Float[Tensor, "B S C"],
        past: Float[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T S"]:
        if self.past is not None and past is not None:
            keys = keys + self.past(past.unsqueeze(-1))  # the same for all T states
        inner = self.query(states).unsqueeze(2) + keys.unsqueeze(1)  # (B, T, S, C)
        return self.energy(inner.tanh_()).squeeze(-1)


class Dot(Score):
    """s . h: nothing to learn, for states of one size."""

    def __init__(self, width: int, across: int) -> None:
        super().__init__()
        if across != width:
            raise SadariError(
                f"score dot multiplies a state of {width} numbers by one of {across}, which cannot be; use "
                "score=general, or directions=1"
            )

    def keys(self, memory: Float[Tensor, "B S W"]) -> Float[Tensor, "B S C"]:
        return memory

    def forward(
        self,
        states: Float[Tensor, "B T C"],
        keys: Float[Tensor, "B S C"],
        past: Float[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T S"]:
        return states @ keys.mT


class General(Dot):
    """s . (U h): the same after a linear map of what was read."""

    def __init__(self, width: int, across: int) -> None:
        super().__init__(width, width)
        self.key = nn.Linear(across, width, bias=False)

    def keys(self, memory: Float[Tensor, "B S W"]) -> Float[Tensor, "B S C"]:
        return self.key(memory)


SCORES = ("additive", "dot", "general")


def check_score(score: str, width: int, across: int, coverage: bool = False) -> None:
    """SadariError unless there is such a score for these sizes, and one that can take coverage if asked."""
    if score not in SCORES:
        raise SadariError(f"no score {score!r}; choose one of {', '.join(SCORES)}")
    if score == "dot":
        Dot(width, across)
    if coverage and score != "additive":
        raise SadariError(f"score {score} has no place for coverage, additive has; use score=additive")


def make_score(score: str, width: int, across: int, coverage: bool = False) -> Score:
    """The score of that name, of states of `width` numbers over places of `across`."""
    check_score(score, width, across, coverage)
    if score == "additive":
        return Additive(width, across, coverage)
    return (Dot if score == "dot" else General)(width, across)


def score_parameters(score: str, width: int, across: int, coverage: bool = False) -> int:
    """Weights of a score: C C + C (W + 1) + C, and C more with coverage; none; or C W."""
    additive = width * (width + across + 2 + coverage)
    return {"additive": additive, "dot": 0, "general": width * across}[score]


def score_macs(score: str, width: int, across: int, places: int, steps: int, coverage: bool = False) -> int:
    """Multiply-adds of S keys and T S scores: S W C + T C C + T S C (1 + coverage); T S C; S W C + T S C."""
    keys = 0 if score == "dot" else places * across * width
    query = steps * width * width if score == "additive" else 0
    return keys + query + steps * places * width * (1 + coverage)


def blocked(real: Bool[Tensor, "B S"], like: Tensor) -> Float[Tensor, "B 1 S"]:
    """What is added to the scores: 0 where something is written, `NOWHERE` elsewhere."""
    return torch.zeros_like(real, dtype=like.dtype).masked_fill_(~real, NOWHERE).unsqueeze(1)
