"""Padded tokens: where a text ends, and its embedding with nothing where nothing is written."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

PAD = -1  # no token of any tokenizer, so whatever a given one calls its padding does not matter here


def is_real(tokens: Int[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
    """True where a token is written, False where a shorter text is filled up."""
    return tokens >= 0


def embed(embedding: nn.Embedding, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
    """Each token's vector, zero where the text is over."""
    return embedding(tokens.clamp(min=0)) * is_real(tokens).unsqueeze(-1)


def trimmed(tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """The batch without the columns that lie behind its longest text; at least one is left."""
    longest = int(is_real(tokens).sum(-1).max()) if len(tokens) else 0
    return tokens[:, : max(longest, 1)]
