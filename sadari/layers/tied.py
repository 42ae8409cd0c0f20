"""A head that writes each token with the vector that it is read with (Press & Wolf 2016, 1608.05859)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TiedHead(nn.Linear):
    """Logits h . e_v + b_v, where e_v is the embedding's vector of token v.

    The weight stays the embedding's own: it has one name in the state, is saved once and counted once.
    """

    def __init__(self, embedding: nn.Embedding, bias: bool = True) -> None:
        nn.Module.__init__(self)  # not Linear's, which would make a weight
        self.out_features, self.in_features = embedding.weight.shape
        self._embedding = (embedding,)  # in a tuple, where torch does not look for modules
        self.bias = nn.Parameter(torch.zeros(self.out_features)) if bias else None  # type: ignore[assignment]

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The embedding's (V, C)."""
        return self._embedding[0].weight


def make_head(embedding: nn.Embedding, tied: bool, bias: bool = True) -> nn.Linear:
    """From states of the embedding's width to logits of its tokens."""
    tokens, width = embedding.weight.shape
    return TiedHead(embedding, bias) if tied else nn.Linear(width, tokens, bias)
