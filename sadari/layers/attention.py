"""Attention: each query takes a weighted mean of values, the weights from its likeness to their keys.

    weights = softmax(Q K' / sqrt(D))    out = weights V        (Vaswani et al. 2017, 1706.03762, section 3.2)

Two ways to the same answer. The fused one never writes the weights down and is what training runs; the plain
one keeps them, so that people can look at them.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B G S D"],
    v: Float[Tensor, "B G S D"],
    mask: Bool[Tensor, ...] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    plain: bool = False,
) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B H T S"] | None]:
    """Scaled dot-product attention: the values' means, and the weights on the plain path (else None).

    mask     True where a query may look; any shape that broadcasts to (B, H, T, S)
    causal   query t of the last T places sees keys up to its own, S - T + t: right with a cache (T < S) too
    dropout  share of weights silenced at random; the weights returned are those before it
    G        key heads: H, or a divisor of it, each then shared by H / G neighbouring queries

    A query that may look nowhere, such as one of an empty text, takes zero.
    """
    T, S = q.shape[-2], k.shape[-2]
    if k.shape[1] != q.shape[1]:
        k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], dim=1) for part in (k, v))
    causal = causal and T > 1  # the one newest query sees every key
    if causal and (plain or mask is not None or T != S):
        past = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
        mask, causal = past if mask is None else mask & past, False
    if not plain:
        return _fused(q, k, v, mask, causal, dropout), None
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    if mask is None:
        weights = scores.softmax(-1)
    else:
        # the least number, not minus infinity: a row of nothing but that has no softmax
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~mask, 0.0)
    return F.dropout(weights, dropout) @ v, weights


def _fused(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, dropout: float
) -> Float[Tensor, "B H T D"]:
    """Torch's kernel; on a processor in single precision.

    There bf16 takes 1.4 to 2.6 times as long up to 230 tokens, and no less time up to 512.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
    with torch.autocast("cpu", enabled=False):
        q, k, v = q.float(), k.float(), v.float()
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal).to(torch.bfloat16)


def split_heads(x: Float[Tensor, "B T C"], heads: int) -> Float[Tensor, "B H T D"]:
    """The width cut into H heads of D = C / H neighbouring numbers each."""
    B, T, C = x.shape
    return x.view(B, T, heads, C // heads).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B H T D"]) -> Float[Tensor, "B T C"]:
    """The heads side by side again: the inverse of `split_heads`."""
    B, H, T, D = x.shape
    return x.transpose(1, 2).reshape(B, T, H * D)


def check_heads(width: int, heads: int) -> None:
    """SadariError unless the width can be cut into that many heads."""
    if heads < 1 or width < 1 or width % heads:
        near = min((h for h in range(1, max(width, 1) + 1) if width % h == 0), key=lambda h: abs(h - heads))
        raise SadariError(
            f"width {width} is not divisible by {heads} heads; use heads={near}"
            if width > 0
            else f"width {width}: attention needs at least 1 number a token; use width=128"
        )


class SelfAttention(nn.Module):
    """A text's tokens look at one another: H heads, each with queries, keys and values of its own.

    The heads' answers come out side by side (B, T, C); whoever owns this mixes them by a dense layer.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(
        self, x: Float[Tensor, "B T C"], mask: Bool[Tensor, ...] | None = None, plain: bool = False
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B H T T"] | None]:
        q, k, v = (split_heads(part(x), self.heads) for part in (self.query, self.key, self.value))
        dropout = self.dropout if self.training else 0.0
        out, weights = attend(q, k, v, mask, dropout=dropout, plain=plain)
        return merge_heads(out), weights
