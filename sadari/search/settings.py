"""What a search is told, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from sadari.errors import SadariError


class Translator(Protocol):
    """A model that reads a source and writes a target."""

    def start(self, source: Tensor) -> Any: ...
    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]: ...
    def reorder(self, state: Any, rows: Tensor) -> Any: ...


@dataclass(frozen=True)
class Searching:
    """How a target is looked for; each field's text is the help of its flag."""

    beam: int = 1
    """Unfinished targets followed at once: 1 = greedy, the likeliest token each time; often 4 or 5."""
    length_penalty: float = 1.0
    """How far long targets are favoured: a log-probability is divided by ((5 + length) / 6) to this power."""
    n_best: int = 1
    """Targets given for each source, the best first; at most the beam, unless they are drawn."""
    groups: int = 1
    """Parts of the beam that keep off one another's tokens, for targets that differ; they divide the beam."""
    diversity: float = 0.5
    """What a token costs a group (in nats) for each beam of an earlier group that took it at this step."""
    max_tokens: int = 0
    """Tokens written at most, END aside; 0 = what the training pairs had for such a source."""
    temperature: float = 0.0
    """0 = search; above, draw tokens: 1 = by the model's own odds, below = nearer to the likeliest."""
    top_k: int = 0
    """Draw from so many likeliest tokens only; 0 = from all."""
    top_p: float = 1.0
    """Draw from the fewest likeliest tokens whose odds sum to this share; 1 = from all."""
    seed: int = 0
    """Start of the random choices: the same seed draws the same for the same source, wherever it stands."""
    no_repeat: int = 0
    """Never write so many tokens in a row that stand in the target already; 0 = may repeat."""

    def __post_init__(self) -> None:
        for name, least in (("beam", 1), ("n_best", 1), ("groups", 1)):
            if getattr(self, name) < least:
                raise SadariError(f"{name} {getattr(self, name)} is below {least}; use {name}={least}")
        for name in (
            "max_tokens",
            "top_k",
            "no_repeat",
            "seed",
            "length_penalty",
            "diversity",
            "temperature",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                usual = self.__dataclass_fields__[name].default
                raise SadariError(f"{name} {getattr(self, name)}: it is 0 or more; use {name}={usual}")
        if not 0 < self.top_p <= 1:
            raise SadariError(f"top_p {self.top_p}: the share lies in (0, 1]; use top_p=0.95, or 1 for all")
        if self.temperature and self.beam > 1:
            raise SadariError(
                f"a beam of {self.beam} searches and temperature {self.temperature} draws; use one of them"
            )
        if not self.temperature and self.n_best > self.beam:
            raise SadariError(
                f"n_best {self.n_best} is above the beam of {self.beam}, which finds no more; use "
                f"beam={self.n_best}"
            )
        if self.beam % self.groups:
            raise SadariError(
                f"a beam of {self.beam} has no {self.groups} equal groups; use beam="
                f"{-(-self.beam // self.groups) * self.groups}"
            )

    def penalty(self, length: Any) -> Any:
        """What the log-probability of a target of `length` tokens, END included, is divided by."""
        return ((5 + length) / 6) ** self.length_penalty


@dataclass(frozen=True)
class Found:
    """A target."""

    tokens: list[int]
    """Without START and END, with the forced prefix."""
    logp: float
    """Sum of the log-probabilities of what was written after the prefix, END included."""
    score: float
    """`logp` over the length penalty; the prefix has no part in the length."""
    alignment: Tensor | None = None
    """(T, S): where each token looked in the source, END included."""


@dataclass(frozen=True)
class Candidate:
    """One way to go on that a step looked at."""

    parent: int
    """The beam that it continues, by its place before this step."""
    token: int
    logp: float
    """Sum up to this token."""
    fate: Literal["kept", "finished", "pruned"]
    beam: int = -1
    """Its place after this step, if kept."""


@dataclass(frozen=True)
class Step:
    """A step of one sentence: its best candidates, in each group from the best down."""

    sentence: int
    step: int
    candidates: list[Candidate]
