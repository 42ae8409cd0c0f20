"""The Transformers of CLIP's two towers (Radford et al. 2021, 2103.00020, section 2.4).

    x --+-- ln_1 -- attn --(+)--+-- ln_2 -- c_fc -- gelu -- c_proj --(+)--        L times
        +------------------+    +------------------------------------+

What differs from `vit`'s block: tokens may see only those before them; gelu may be the quick one (Hendrycks &
Gimpel 2016, 1606.08415, section 2), x sigmoid(1.702 x); and since one token is read, the last layer answers
for that token alone, which leaves out most of its arithmetic. Around the picture's: patches without a bias, a
norm before the layers, and one matrix behind. Names of weights are OpenAI's.
Alphabet: N patches, T tokens, C width, H heads, D width of the shared space.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.layers.attention import attend, merge_heads, split_heads
from sadari.layers.convolution import Convolution, Dense, Shape
from sadari.layers.dense import Recorder, unrecorded
from sadari.models.vit import SelfAttention, resize_positions


class Attention(SelfAttention):
    """Tokens look at one another, or only at those before them; or one of them alone looks."""

    def forward(
        self, x: Float[Tensor, "B T C"], plain: bool, causal: bool = False, at: Tensor | None = None
    ) -> tuple[Float[Tensor, "B S C"], Float[Tensor, "B H T T"] | None]:
        """S = T answers, or S = 1: that of each text's token `at` (B,), for whom all keys are made too."""
        if at is None:
            parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
            q, k, v = (split_heads(part, self.heads) for part in parts)
            out, weights = attend(q, k, v, causal=causal, plain=plain)
            return self.out_proj(merge_heads(out)), weights
        C = x.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q = split_heads(F.linear(pick(x, at), weight[:C], bias[:C]), self.heads)
        keys, values = F.linear(x, weight[C:], bias[C:]).chunk(2, dim=-1)
        seen = torch.arange(x.shape[1], device=x.device) <= at[:, None, None, None] if causal else None
        out, _ = attend(q, split_heads(keys, self.heads), split_heads(values, self.heads), seen)
        return self.out_proj(merge_heads(out)), None


class Block(nn.Module):
    """1. look  2. add  3. think about each token alone  4. add."""

    def __init__(self, width: int, heads: int, quick: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": Dense(width, 4 * width), "c_proj": Dense(4 * width, width)})
        self.quick = quick

    def forward(
        self, x: Float[Tensor, "B T C"], plain: bool, causal: bool, at: Tensor | None
    ) -> tuple[Float[Tensor, "B S C"], Float[Tensor, "B H T T"] | None]:
        heads, weights = self.attn(self.ln_1(x), plain, causal, at)
        x = (x if at is None else pick(x, at)) + heads
        inner = self.mlp["c_fc"](self.ln_2(x))
        inner = inner * torch.sigmoid(1.702 * inner) if self.quick else F.gelu(inner)
        return x + self.mlp["c_proj"](inner), weights


class Transformer(nn.Module):
    """Blocks, one on another, of which one token is read."""

    def __init__(self, width: int, layers: int, heads: int, quick: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, quick) for _ in range(layers))

    def forward(
        self, x: Float[Tensor, "B T C"], at: Int[Tensor, " B"], causal: bool, rec: Recorder | None
    ) -> Float[Tensor, "B C"]:
        """The token `at`. Nothing reads the last layer's others: unless one looks, they are not reckoned."""
        plain, rec = rec is not None, rec or unrecorded
        x, last = rec("embedded", x), len(self.resblocks) - 1
        for i, block in enumerate(self.resblocks):
            alone = i == last and not plain
            x, weights = block(x, plain, causal, at if alone else None)
            if weights is not None:
                rec(f"layer{i}.attention", weights)
            x = rec(f"layer{i}", x)
        return (x if x.shape[1] == 1 else pick(x, at)).squeeze(1)


class VisionTransformer(nn.Module):
    """Pictures to vectors (B, D), read from a class token."""

    def __init__(
        self, inputs: Shape, patch: int, width: int, layers: int, heads: int, outputs: int, quick: bool
    ) -> None:
        super().__init__()
        self.grid = (inputs[1] // patch, inputs[2] // patch)
        self.conv1 = Convolution(inputs[0], width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + math.prod(self.grid), width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, quick)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, outputs))

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B D"]:
        """1. cut  2. add places  3. think  4. read the class token. Pixels behind the last patch are left."""
        x = self.conv1(pictures)  # (B, C, h, w)
        positions: Tensor = self.positional_embedding
        if (grid := (x.shape[2], x.shape[3])) != self.grid:
            positions = resize_positions(positions.unsqueeze(0), self.grid, grid).squeeze(0)
        own = self.class_embedding.expand(len(x), 1, -1)
        x = torch.cat([own, x.flatten(2).transpose(1, 2)], 1) + positions  # (B, 1 + N, C)
        first = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return self.ln_post(self.transformer(self.ln_pre(x), first, False, rec)) @ self.proj


def pick(x: Float[Tensor, "B T C"], at: Int[Tensor, " B"]) -> Float[Tensor, "B 1 C"]:
    """One token of each text."""
    return x[torch.arange(len(x), device=x.device), at].unsqueeze(1)


def layers_costs(layers: int, tokens: int, width: int) -> tuple[int, int]:
    """Parameters, 12 C^2 + 13 C a layer; multiply-adds, 12 T C^2 + 2 T^2 C, but of the last layer, whose one
    token is read, 2 T C^2 + 10 C^2 + 2 T C.
    """
    T, C = tokens, width
    each, last = 12 * T * C * C + 2 * T * T * C, 2 * T * C * C + 10 * C * C + 2 * T * C
    return layers * (12 * C * C + 13 * C), (layers - 1) * each + last


def vit_costs(inputs: Shape, patch: int, width: int, layers: int, outputs: int) -> tuple[int, int]:
    """Of a `VisionTransformer`: parameters, and multiply-adds for a picture (C, H, W)."""
    N = (inputs[1] // patch) * (inputs[2] // patch)
    cut = inputs[0] * patch * patch * width
    parameters, macs = layers_costs(layers, 1 + N, width)
    around = cut + width + (1 + N) * width + 4 * width + width * outputs
    return parameters + around, macs + N * cut + width * outputs
