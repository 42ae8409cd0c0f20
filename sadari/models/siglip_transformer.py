"""The Transformers of SigLIP's two towers (Zhai et al. 2023, 2303.15343; reference: big_vision's vit.py).

    x --+-- layer_norm1 -- self_attn --(+)--+-- layer_norm2 -- fc1 -- gelu -- fc2 --(+)--        L times
        +--------------------------------+  +---------------------------------------+

What differs from CLIP's: every token sees every other, in captions too; of a caption the last place is read,
for which alone the last layer answers; of a picture all patches, by a probe (Lee et al. 2019, 1810.00825).
Names of weights are Hugging Face's: three matrices for queries, keys and values, but one in the probe's head.
Alphabet: N patches, T tokens, C width (of a picture D), I inner width, H heads.
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

EPS = 1e-6  # added to the variance in each layer norm
GELUS = {"tanh": "tanh", "exact": "none"}  # torch's names for them


class Attention(nn.Module):
    """Tokens look at one another, or the last one alone at all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Dense(width, width) for _ in range(4))

    def forward(
        self, x: Float[Tensor, "B T C"], plain: bool, last: bool
    ) -> tuple[Float[Tensor, "B S C"], Float[Tensor, "B H S T"] | None]:
        """S = T answers, or, of the last token, S = 1."""
        parts = (self.q_proj(x[:, -1:] if last else x), self.k_proj(x), self.v_proj(x))
        q, k, v = (split_heads(part, self.heads) for part in parts)
        out, weights = attend(q, k, v, plain=plain)
        return self.out_proj(merge_heads(out)), weights


class MLP(nn.Module):
    """fc2(gelu(fc1(x)))."""

    def __init__(self, width: int, inner: int, gelu: str) -> None:
        super().__init__()
        self.fc1, self.fc2 = Dense(width, inner), Dense(inner, width)
        self.gelu = GELUS[gelu]

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.gelu))


class Block(nn.Module):
    """1. look at all tokens  2. add  3. think about each alone  4. add."""

    def __init__(self, width: int, heads: int, inner: int, gelu: str) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(width, EPS)
        self.self_attn = Attention(width, heads)
        self.layer_norm2 = nn.LayerNorm(width, EPS)
        self.mlp = MLP(width, inner, gelu)

    def forward(
        self, x: Float[Tensor, "B T C"], plain: bool, last: bool
    ) -> tuple[Float[Tensor, "B S C"], Float[Tensor, "B H S T"] | None]:
        heads, weights = self.self_attn(self.layer_norm1(x), plain, last)
        x = (x[:, -1:] if last else x) + heads
        return x + self.mlp(self.layer_norm2(x)), weights


class Encoder(nn.Module):
    """Blocks, one on another."""

    def __init__(self, width: int, layers: int, heads: int, inner: int, gelu: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(width, heads, inner, gelu) for _ in range(layers))

    def forward(
        self, x: Float[Tensor, "B T C"], rec: Recorder | None, last: bool = False
    ) -> Float[Tensor, "B S C"]:
        """All tokens, or the last (S = 1), for which alone the last layer then answers, unless one looks."""
        plain, rec = rec is not None, rec or unrecorded
        x = rec("embedded", x)
        for i, block in enumerate(self.layers):
            x, weights = block(x, plain, last and not plain and i == len(self.layers) - 1)
            if weights is not None:
                rec(f"layer{i}.attention", weights)
            x = rec(f"layer{i}", x)
        return x[:, -1:] if last else x


class Head(nn.Module):
    """A learnt query, the probe, looks at all patches; then a dense pair is added."""

    def __init__(self, width: int, heads: int, inner: int, gelu: str) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        self.attention = SelfAttention(width, heads)  # one matrix makes queries, keys and values
        self.layernorm = nn.LayerNorm(width, EPS)
        self.mlp = MLP(width, inner, gelu)

    def forward(self, x: Float[Tensor, "B N D"], rec: Recorder | None) -> Float[Tensor, "B D"]:
        weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        (B, _, D), heads = x.shape, self.attention.heads
        q = split_heads(F.linear(self.probe, weight[:D], bias[:D]), heads).expand(B, -1, -1, -1)
        keys, values = F.linear(x, weight[D:], bias[D:]).chunk(2, dim=-1)
        out, weights = attend(q, split_heads(keys, heads), split_heads(values, heads), plain=rec is not None)
        if rec is not None and weights is not None:
            rec("pooling.attention", weights)  # (B, H, 1, N)
        pooled = self.attention.out_proj(merge_heads(out))  # (B, 1, D)
        return (pooled + self.mlp(self.layernorm(pooled))).squeeze(1)


class PictureEmbeddings(nn.Module):
    """Patches and their places."""

    def __init__(self, inputs: Shape, patch: int, width: int) -> None:
        super().__init__()
        self.grid = (inputs[1] // patch, inputs[2] // patch)
        self.patch_embedding = Convolution(inputs[0], width, patch, patch)
        self.position_embedding = nn.Embedding(math.prod(self.grid), width)

    def forward(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N D"]:
        """Pixels behind the last patch are left; on another grid than its own, places are interpolated."""
        x = self.patch_embedding(pictures)  # (B, D, h, w)
        positions: Tensor = self.position_embedding.weight
        if (grid := (x.shape[2], x.shape[3])) != self.grid:
            positions = resize_positions(positions.unsqueeze(0), self.grid, grid)
        return x.flatten(2).transpose(1, 2) + positions


class VisionModel(nn.Module):
    """Pictures to vectors (B, D)."""

    def __init__(
        self, inputs: Shape, patch: int, width: int, layers: int, heads: int, inner: int, gelu: str
    ) -> None:
        super().__init__()
        self.embeddings = PictureEmbeddings(inputs, patch, width)
        self.encoder = Encoder(width, layers, heads, inner, gelu)
        self.post_layernorm = nn.LayerNorm(width, EPS)
        self.head = Head(width, heads, inner, gelu)

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B D"]:
        """1. cut and add places  2. think  3. let the probe look."""
        return self.head(self.post_layernorm(self.encoder(self.embeddings(pictures), rec)), rec)


class CaptionEmbeddings(nn.Module):
    """Tokens and their places."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(length, width)

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        return self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]


class TextModel(nn.Module):
    """Captions (B, T), all of them full, to vectors (B, D)."""

    def __init__(
        self, vocabulary: int, length: int, width: int, layers: int, heads: int, inner: int, outputs: int,
        gelu: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embeddings = CaptionEmbeddings(vocabulary, length, width)
        self.encoder = Encoder(width, layers, heads, inner, gelu)
        self.final_layer_norm = nn.LayerNorm(width, EPS)
        self.head = Dense(width, outputs)

    def forward(self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B D"]:
        """1. embed  2. think  3. read the last place."""
        x = self.encoder(self.embeddings(tokens), rec, last=True)  # (B, 1, C)
        return self.head(self.final_layer_norm(x)).squeeze(1)


def vision_costs(inputs: Shape, patch: int, width: int, layers: int, inner: int) -> tuple[int, int]:
    """Of a `VisionModel`: parameters, and multiply-adds for a picture (C, H, W)."""
    N, cut = (inputs[1] // patch) * (inputs[2] // patch), inputs[0] * patch * patch * width
    layer, each, one = _layer_costs(N, width, inner)
    parameters = cut + width + N * width + 2 * width + layers * layer + (layer - 2 * width + width)
    return parameters, N * cut + layers * each + one


def text_costs(
    vocabulary: int, length: int, width: int, layers: int, inner: int, outputs: int
) -> tuple[int, int]:
    """Of a `TextModel`: parameters, and multiply-adds for a caption, filled up."""
    layer, each, one = _layer_costs(length, width, inner)
    parameters = (vocabulary + length + 2) * width + layers * layer + outputs * (width + 1)
    return parameters, (layers - 1) * each + one + width * outputs


def _layer_costs(tokens: int, width: int, inner: int) -> tuple[int, int, int]:
    """Parameters of a layer; its multiply-adds for all tokens, and for one that looks at all."""
    T, C = tokens, width
    parameters = 4 * C * (C + 1) + 2 * C * inner + inner + C + 4 * C
    every = T * (4 * C * C + 2 * C * inner) + 2 * T * T * C
    one = 2 * T * C * C + 2 * C * C + 2 * C * inner + 2 * T * C
    return parameters, every, one
