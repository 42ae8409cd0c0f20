"""Vision Transformer (Dosovitskiy et al. 2020, 2010.11929): a picture is a text of patches.

What differs from the rung below (resnet): no filter is slid over the picture. It is cut into patches, each of
which a line makes a token, and every token looks at every other from the first layer on. Where a patch stood
is told by a vector that is added, learnt like all else: that neighbours belong together, which a convolution
is built upon, it must find in the data. On few pictures it therefore loses, on many it wins.

    picture -- patches -- conv_proj --(+ positions)-- L x [ x + attend(ln_1 x); x + mlp(ln_2 x) ] -- ln --+
    (B,C,H,W)              (B, N, D)   a class token in front                                             |
                                                                    logits ---- heads.head ---- pooled ---+

Pooled is the class token (`class`), or what a learnt query takes from all patches: attention once more, and a
dense pair on top (`map`; Zhai et al. 2021, 2106.04560, as SigLIP's eye, 2303.15343).

Names of weights are torchvision's; Hugging Face's come in and go out by `import_huggingface` and
`export_huggingface`. Alphabet: N patches, T tokens (N, and 1 with a class token), D width, I inner width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.attention import attend, check_heads, merge_heads, split_heads
from sadari.layers.dense import Recorder, unrecorded
from sadari.models.vit_names import export_huggingface, import_huggingface, import_torchvision

__all__ = ["ViT", "ViTConfig", "export_huggingface", "import_huggingface", "import_torchvision"]


class Sizes(NamedTuple):
    """What a variant is made of."""

    patch: int
    """Pixels of a patch's side; 0 for about 8 x 8 patches a picture."""
    width: int
    layers: int
    heads: int
    inner: int


VARIANTS = {
    #                 patch width layers heads inner
    "vit-32": Sizes(0, 128, 6, 4, 256),  # after ViT-Lite (Hassani et al. 2021, 2104.05704, table 1)
    "vit-64": Sizes(0, 192, 6, 6, 384),
    "vit-ti16": Sizes(16, 192, 12, 3, 768),  # Touvron et al. 2020, 2012.12877, table 1
    "vit-s16": Sizes(16, 384, 12, 6, 1536),
    "vit-b16": Sizes(16, 768, 12, 12, 3072),  # the paper's, table 1
    "vit-b32": Sizes(32, 768, 12, 12, 3072),
    "vit-l16": Sizes(16, 1024, 24, 16, 4096),
}
LARGE, MIDDLE = 160, 48  # pixels of a side from which `auto` takes vit-ti16, and vit-64
GRID = 8  # patches of a side, about, that the small presets cut a picture into
POOLINGS = ("class", "map")
EPS = 1e-6  # added to the variance in each layer norm
Pictures = Float[Tensor, "B C H W"]


@dataclass(frozen=True)
class ViTConfig:
    """Settings of a `ViT`; each field's text is the help of its flag."""

    variant: str = "auto"
    """vit-32, vit-64, vit-ti16, vit-s16, vit-b16, vit-b32, vit-l16, or auto: by the pictures' size."""
    patch: int = 0
    """Pixels of a patch's side; 0 as the variant's."""
    width: int = 0
    """Size D of a token's vector; 0 as the variant's."""
    layers: int = 0
    """Layers L, each of attention and a dense pair; 0 as the variant's."""
    heads: int = 0
    """Heads of attention, each D / heads wide; 0 as the variant's."""
    pooling: str = "class"
    """What the answer is read from: class (a token of its own), or map (attention to all patches)."""
    drop_path: float = 0.1
    """Chance that the last layer's branches are left out for a picture in training; it grows from 0 along the
    depth (stochastic depth, Huang et al. 2016, 1603.09382), and costs no time, as dropping numbers does."""

    def __post_init__(self) -> None:
        if self.variant != "auto" and self.variant not in VARIANTS:
            raise SadariError(f"no variant {self.variant!r}; choose one of auto, {', '.join(VARIANTS)}")
        if self.pooling not in POOLINGS:
            raise SadariError(f"no pooling {self.pooling!r}; choose one of {', '.join(POOLINGS)}")
        for name in ("patch", "width", "layers", "heads"):
            if (value := getattr(self, name)) < 0:
                raise SadariError(f"{name} {value}: at least 1 is needed; use {name}=0 as usual")
        if not 0.0 <= self.drop_path < 1.0:
            raise SadariError(f"drop_path {self.drop_path}: a chance lies in [0, 1); use drop_path=0.1")


def chosen(config: ViTConfig, inputs: tuple[int, int, int]) -> Sizes:
    """The sizes that a config means for pictures (C, H, W). SadariError when heads do not divide the width.

    `auto` takes the smallest of the large ones: a ViT-B begun from nothing takes 14 times the arithmetic, and
    more pictures than people have who leave this open.
    """
    side = max(inputs[1:])
    name = config.variant
    if name == "auto":
        name = "vit-ti16" if side >= LARGE else "vit-64" if side >= MIDDLE else "vit-32"
    base = VARIANTS[name]
    width = config.width or base.width
    sizes = Sizes(
        patch=config.patch or base.patch or min(max(round(side / GRID), 2), side),
        width=width,
        layers=config.layers or base.layers,
        heads=config.heads or base.heads,
        inner=width * base.inner // base.width,
    )
    check_heads(sizes.width, sizes.heads)
    if sizes.patch > side:
        raise SadariError(f"patch {sizes.patch}: pictures of {side} pixels have no such patch; use patch=0")
    return sizes


class SelfAttention(nn.Module):
    """Tokens look at one another; one matrix makes queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B T D"], plain: bool
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T T"] | None]:
        parts = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (split_heads(part, self.heads) for part in parts)
        out, weights = attend(q, k, v, plain=plain)
        return self.out_proj(merge_heads(out)), weights


class Block(nn.Module):
    """1. look at all tokens  2. add  3. think about each alone  4. add."""

    def __init__(self, sizes: Sizes, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.ln_1 = nn.LayerNorm(sizes.width, EPS)
        self.self_attention = SelfAttention(sizes.width, sizes.heads)
        self.ln_2 = nn.LayerNorm(sizes.width, EPS)
        self.mlp = nn.Sequential(
            nn.Linear(sizes.width, sizes.inner),
            nn.GELU(),
            nn.Identity(),  # torchvision's dropout, which numbers the second line 3
            nn.Linear(sizes.inner, sizes.width),
        )

    def forward(
        self, x: Float[Tensor, "B T D"], plain: bool
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T T"] | None]:
        heads, weights = self.self_attention(self.ln_1(x), plain)
        x = x + self._some(heads)
        return x + self._some(self.mlp(self.ln_2(x))), weights

    def _some(self, branch: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The branch, in training only for some of the pictures, for which it then counts more."""
        if not self.training or self.drop == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop
        return branch * (kept / (1 - self.drop)).to(branch.dtype)


class Encoder(nn.Module):
    """Positions, the blocks one on another, and a last norm."""

    def __init__(self, sizes: Sizes, tokens: int, drop: float) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, sizes.width))
        drops = [drop * i / max(sizes.layers - 1, 1) for i in range(sizes.layers)]
        self.layers = nn.ModuleDict(
            {f"encoder_layer_{i}": Block(sizes, drops[i]) for i in range(sizes.layers)}
        )
        self.ln = nn.LayerNorm(sizes.width, EPS)

    def forward(
        self, x: Float[Tensor, "B T D"], positions: Float[Tensor, "1 T D"], rec: Recorder | None
    ) -> Float[Tensor, "B T D"]:
        plain, rec = rec is not None, rec or unrecorded
        x = rec("embedded", x + positions)
        for i, block in enumerate(self.layers.values()):
            x, weights = block(x, plain)
            if weights is not None:
                rec(f"layer{i}.attention", weights)
            x = rec(f"layer{i}", x)
        return self.ln(x)


class AttentionPooling(nn.Module):
    """One learnt query looks at all patches, then a dense pair is added: SigLIP's head, by its names."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, sizes.width))
        self.attention = SelfAttention(sizes.width, sizes.heads)
        self.layernorm = nn.LayerNorm(sizes.width, EPS)
        pair = {"fc1": nn.Linear(sizes.width, sizes.inner), "fc2": nn.Linear(sizes.inner, sizes.width)}
        self.mlp = nn.ModuleDict(pair)

    def forward(self, x: Float[Tensor, "B N D"], rec: Recorder | None) -> Float[Tensor, "B D"]:
        weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        D, heads = x.shape[-1], self.attention.heads
        q = split_heads(F.linear(self.probe.expand(len(x), -1, -1), weight[:D], bias[:D]), heads)
        keys, values = F.linear(x, weight[D:], bias[D:]).chunk(2, dim=-1)
        out, weights = attend(q, split_heads(keys, heads), split_heads(values, heads), plain=rec is not None)
        if rec is not None and weights is not None:
            rec("pooling.attention", weights)  # (B, H, 1, N)
        pooled = self.attention.out_proj(merge_heads(out))  # (B, 1, D)
        inner = F.gelu(self.mlp["fc1"](self.layernorm(pooled)))
        return (pooled + self.mlp["fc2"](inner)).squeeze(1)


class ViT(nn.Module):
    """Logits: a line in the class token, or in what the pooling query took, after L layers."""

    Config: ClassVar = ViTConfig
    TINY: ClassVar = ViTConfig(variant="vit-32", width=16, layers=2, heads=2, drop_path=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 1e-3, "batch_size": 64, "clip": 1.0}

    def __init__(self, config: ViTConfig, inputs: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        sizes = self.sizes = chosen(config, inputs)
        self.grid = _grid(sizes.patch, *inputs[1:])
        self.conv_proj = nn.Conv2d(inputs[0], sizes.width, sizes.patch, stride=sizes.patch)
        own = config.pooling == "class"
        self.class_token = nn.Parameter(torch.empty(1, 1, sizes.width)) if own else None
        self.encoder = Encoder(sizes, math.prod(self.grid) + own, config.drop_path)
        self.pooling = None if own else AttentionPooling(sizes)
        self.heads = nn.ModuleDict({"head": nn.Linear(sizes.width, outputs)})
        _initialise(self)

    def tokens(self, pictures: Pictures, rec: Recorder | None = None) -> Float[Tensor, "B T D"]:
        """Every token after the last layer and norm, the class token first if there is one.

        Pictures of any size: a last patch that reaches over the edge is filled with zeros, and on another
        grid of patches than the model's own, positions are interpolated.
        """
        P, (h, w) = self.sizes.patch, pictures.shape[-2:]
        grid = _grid(P, h, w)
        if (h % P, w % P) != (0, 0):
            pictures = F.pad(pictures, (0, -w % P, 0, -h % P))
        x = self.conv_proj(pictures).flatten(2).transpose(1, 2)  # (B, N, D)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1)  # (B, 1 + N, D)
        own = self.encoder.pos_embedding
        positions = own if grid == self.grid else resize_positions(own, self.grid, grid)
        return self.encoder(x, positions, rec)

    def features(self, pictures: Pictures, rec: Recorder | None = None) -> Float[Tensor, "B D"]:
        """The pooled vector of each picture. With a recorder, each layer's weights too (B, H, T, T), under
        `layer{i}.attention`, and the pooling query's (B, H, 1, N) under `pooling.attention`.
        """
        x = self.tokens(pictures, rec)
        pooled = x[:, 0] if self.pooling is None else self.pooling(x, rec)
        return pooled if rec is None else rec("features", pooled)

    def forward(self, pictures: Pictures, rec: Recorder | None = None) -> Float[Tensor, "B O"]:
        output = self.heads["head"](self.features(pictures, rec))
        return output if rec is None else rec("output", output)

    @staticmethod
    def parameter_count(config: ViTConfig, inputs: tuple[int, int, int], outputs: int) -> int:
        """D (C P^2 + 1) + T D, L times 4 D (D + 1) + 2 D I + I + 5 D, 2 D; with class D, or with map D +
        4 D (D + 1) + 2 D I + I + 3 D; and O (D + 1).
        """
        P, D, L, _, inner = chosen(config, inputs)
        N = math.prod(_grid(P, *inputs[1:]))
        dense = 4 * D * (D + 1) + 2 * D * inner + inner + D
        pooled = 2 * D if config.pooling == "class" else D + dense + 2 * D
        return D * (inputs[0] * P * P + 1) + N * D + L * (dense + 4 * D) + 2 * D + pooled + outputs * (D + 1)

    @staticmethod
    def macs(config: ViTConfig, inputs: tuple[int, int, int], outputs: int) -> int:
        """Multiply-adds for one picture: patches N C P^2 D; L T (4 D^2 + 2 D I) and 2 L T^2 D for all looking
        at all; D O; with map N 2 D^2 + 2 D^2 + 2 N D + 2 D I more.
        """
        (P, D, L, _, inner), own = chosen(config, inputs), config.pooling == "class"
        N = math.prod(_grid(P, *inputs[1:]))
        pooled = 0 if own else 2 * N * D * D + 2 * D * D + 2 * N * D + 2 * D * inner
        layer = (N + own) * (4 * D * D + 2 * D * inner) + 2 * (N + own) ** 2 * D
        return N * inputs[0] * P * P * D + L * layer + pooled + D * outputs


def resize_positions(
    positions: Float[Tensor, "1 T D"], grid: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "1 S D"]:
    """Position vectors for another grid of patches (rows, columns), by bicubic interpolation (2010.11929,
    section 3.2); that of a class token in front stays.
    """
    own = positions.shape[1] - math.prod(grid)
    if own not in (0, 1):
        raise SadariError(
            f"{positions.shape[1]} positions are not those of {grid[0]} x {grid[1]} patches, with or without "
            f"a class token; give the grid that they were learnt on"
        )
    front, places = positions[:, :own], positions[:, own:]
    plane = places.unflatten(1, grid).permute(0, 3, 1, 2)  # (1, D, h, w)
    plane = F.interpolate(plane, size=new, mode="bicubic", align_corners=False)
    return torch.cat([front, plane.flatten(2).transpose(1, 2)], 1)


def _grid(patch: int, height: int, width: int) -> tuple[int, int]:
    """Patches in a column and in a row, those over the edge included."""
    return -(-height // patch), -(-width // patch)


@torch.no_grad()
def _initialise(model: ViT) -> None:
    """First weights, from torch's global generator.

    | parameter                 | law                    | why                                          |
    |---------------------------|------------------------|----------------------------------------------|
    | conv_proj.weight          | normal, 1 / sqrt(CPP)  | level variance                               |
    | class_token, pos, probe   | normal, 0.02           | as the paper's                               |
    | in_proj_weight            | normal, 1 / sqrt(D)    | level variance                               |
    | out_proj, mlp.3           | normal, 1 / sqrt(2L .) | the 2 L branches sum to one                  |
    | mlp.0, fc1                | normal, sqrt(2 / D)    | as the relu family (He 2015)                 |
    | fc2                       | normal, 1 / sqrt(I)    | level variance                               |
    | heads.head.weight         | normal, 0.1 / sqrt(D)  | first answers near zero                      |
    | norms' weights, biases    | one, zero              |                                              |
    """
    sizes = model.sizes
    D, inner, branches = sizes.width, sizes.inner, 2 * sizes.layers
    laws = {
        "conv_proj.weight": model.conv_proj.weight[0].numel() ** -0.5,
        "in_proj_weight": D**-0.5,
        "out_proj.weight": (branches * D) ** -0.5,
        "mlp.0.weight": (2 / D) ** 0.5,
        "mlp.3.weight": (branches * inner) ** -0.5,
        "fc1.weight": (2 / D) ** 0.5,
        "fc2.weight": inner**-0.5,
        "head.weight": 0.1 * D**-0.5,
    }
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            deviation = next((value for end, value in laws.items() if name.endswith(end)), 0.02)
            parameter.normal_(0.0, deviation)
        else:
            norm = name.split(".")[-2] in ("ln", "ln_1", "ln_2", "layernorm")
            parameter.fill_(float(norm and name.endswith("weight")))
