"""Embedding: the average of a text's word vectors, and a line from it.

What differs from the rung below (one-hot): a word is no direction of its own but C numbers that are learnt,
so that words which say the same come to lie near each other, and share what is learnt about one of them. The
vectors may be learnt beforehand, from text without labels (Mikolov et al. 2013, 1301.3781; `sadari embed`).
The order is still lost. As a classifier it is fastText without its n-grams (Joulin et al. 2016, 1607.01759).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.recurrent import initialise
from sadari.layers.tokens import embed, is_real


@dataclass(frozen=True)
class EmbeddingConfig:
    """Settings of an averaged embedding."""

    width: int = 128
    """Numbers C that each word becomes."""
    dropout: float = 0.2
    """Share of the average silenced at random in each step; the rest grow by 1 / (1 - share)."""
    vectors: str = ""
    """A file of word vectors (word2vec's text or binary form) to begin from; it says how wide they are."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SadariError(f"width {self.width}: a word needs at least 1 number; use width=128")
        if not 0.0 <= self.dropout < 1.0:
            raise SadariError(f"dropout {self.dropout}: the share dropped lies in [0, 1); use dropout=0.2")


class Embedding(nn.Module):
    """Logits W (mean of e over the text's tokens) + b."""

    Config: ClassVar = EmbeddingConfig
    TINY: ClassVar = EmbeddingConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.01}

    def __init__(self, config: EmbeddingConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(inputs, config.width)
        self.output = nn.Linear(config.width, outputs)
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)

    def forward(self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B O"]:
        rec = rec or unrecorded
        lengths = is_real(tokens).sum(-1, keepdim=True)  # (B, 1)
        vectors = rec("embedded", embed(self.embedding, tokens))  # (B, T, C), zero where the text is over
        mean = rec("mean", vectors.sum(1) / lengths.clamp(min=1))  # (B, C)
        return rec("output", self.output(self.dropout(mean)))  # (B, O)

    @torch.no_grad()
    def start_from(self, matrix: Float[Tensor, "V C"], found: Bool[Tensor, " V"]) -> None:
        """Take over the vectors of the tokens that were `found` in a file; the others keep theirs.

        SadariError when the file's vectors are not `width` long.
        """
        if matrix.shape[1] != self.config.width:
            raise SadariError(
                f"the vectors are {matrix.shape[1]} long, the embedding {self.config.width}; "
                f"use width={matrix.shape[1]}"
            )
        self.embedding.weight[found] = matrix[found].to(self.embedding.weight.dtype)

    @staticmethod
    def parameter_count(config: EmbeddingConfig, inputs: int, outputs: int) -> int:
        """V C + O (C + 1)."""
        return inputs * config.width + outputs * (config.width + 1)

    @staticmethod
    def macs(config: EmbeddingConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a text of `length` tokens: C each to add them up, and C O."""
        return length * config.width + config.width * outputs
