"""CLIP (Radford et al. 2021, 2103.00020): a picture and its caption are neighbours in one space.

What differs from the rung below (bag-of-words): both towers read, the picture's as a Vision Transformer (or a
ResNet) and the caption's as a Transformer in which each token sees those before it, so that the last has seen
the whole. What differs from `vit`: no line in classes. What a picture shows is asked by sentences, also such
as nobody trained on.

    picture -- patches -- conv1 --(+ positions)-- ln_pre -- L x block -- class token -- ln_post -- proj --+
                          class token in front                                                            |
                                                                        similarity exp(logit_scale) x . y |
    caption -- token_embedding --(+ positions)-- L x causal block -- end token -- ln_final -- projection -+

    block     x + attn(ln_1 x), then x + c_proj(gelu(c_fc(ln_2 x)))

Names of weights are OpenAI's (openai/CLIP, model.py); others come and go by `models/clip_names.py`.
Alphabet: N patches, T tokens of a caption, D width of the shared space, C H W a picture's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.attention import check_heads
from sadari.layers.convolution import Shape, checked
from sadari.layers.dense import Recorder
from sadari.layers.tokens import is_real
from sadari.models.clip_names import RESNETS, State, imported, settings_of
from sadari.models.clip_resnet import ModifiedResNet, resnet_costs
from sadari.models.clip_transformer import Transformer, VisionTransformer, layers_costs, vit_costs
from sadari.models.two_towers import (
    Captions,
    Embeddings,
    Pictures,
    TwoTowers,
    check_contrast,
    check_ids,
    temperature,
)


class Sizes(NamedTuple):
    """What a variant is made of."""

    patch: int
    """Pixels of a patch's side; 0 for about 8 x 8 patches a picture."""
    width: int
    """Of the picture's tokens; of a ResNet's first stage."""
    layers: int
    heads: int
    text_width: int
    text_layers: int
    text_heads: int
    dimension: int
    depths: tuple[int, ...] = ()
    """Blocks of a ResNet's stages; empty for a Vision Transformer."""


VARIANTS = {
    #                    patch width layers heads  text: width layers heads  D
    "clip-64": Sizes(0, 128, 4, 2, 128, 2, 2, 128),
    "vit-b32": Sizes(32, 768, 12, 12, 512, 12, 8, 512),  # the paper's, table 20
    "vit-b16": Sizes(16, 768, 12, 12, 512, 12, 8, 512),
    "vit-l14": Sizes(14, 1024, 24, 16, 768, 12, 12, 768),
    "vit-l14-336": Sizes(14, 1024, 24, 16, 768, 12, 12, 768),
    "rn50": Sizes(0, 64, 0, 32, 512, 12, 8, 1024, RESNETS["rn50"]),  # table 19
    "rn101": Sizes(0, 64, 0, 32, 512, 12, 8, 512, RESNETS["rn101"]),
    "rn50x4": Sizes(0, 80, 0, 40, 640, 12, 10, 640, RESNETS["rn50x4"]),
}
LARGE = 160  # pixels of a side from which `auto` takes vit-b32
GRID = 4  # patches of a side, about, that the small preset cuts a picture into
LAST = -1  # ends that are no token's number
HIGHEST = -2


@dataclass(frozen=True)
class CLIPConfig:
    """Settings of a `CLIP`; each field's text is the help of its flag."""

    variant: str = "auto"
    """clip-64, vit-b32, vit-b16, vit-l14, vit-l14-336, rn50, rn101, rn50x4, or auto: vit-b32 from 160 pixels
    a side, else clip-64."""
    patch: int = 0
    """Pixels of a patch's side; 0 as the variant's."""
    width: int = 0
    """Size of a patch's vector, or channels of a ResNet's first stage; 0 as the variant's."""
    layers: int = 0
    """Layers that read a picture; 0 as the variant's. A ResNet's are the variant's."""
    heads: int = 0
    """Heads of attention for pictures; 0 as the variant's."""
    text_width: int = 0
    """Size of a caption's token's vector; 0 as the variant's."""
    text_layers: int = 0
    """Layers that read a caption; 0 as the variant's."""
    text_heads: int = 0
    """Heads of attention for captions; 0 as the variant's."""
    dimension: int = 0
    """Width D of the shared space; 0 as the variant's."""
    context: int = 77
    """Tokens of the longest caption; a fit takes that of the captions."""
    end: int = LAST
    """Number of the token that ends a caption, whose place is read; or -1: what is written last, before PAD;
    or -2: the highest number in it, as OpenAI's tokenizer has it."""
    quick_gelu: bool = False
    """Whether gelu is x sigmoid(1.702 x), as OpenAI's own weights want it; with the other they are worse."""
    contrast: str = "softmax"
    """What both towers learn by: softmax (each picks its partner out of the batch) or sigmoid (each pair
    alone is told to belong together or not; SigLIP's, with a bias)."""

    def __post_init__(self) -> None:
        if self.variant != "auto" and self.variant not in VARIANTS:
            raise SadariError(f"no variant {self.variant!r}; choose one of auto, {', '.join(VARIANTS)}")
        names = ("patch", "width", "layers", "heads", "text_width", "text_layers", "text_heads", "dimension")
        for name in names:
            if (value := getattr(self, name)) < 0:
                raise SadariError(f"{name} {value}: at least 1 is needed; use {name}=0 as usual")
        if self.end < HIGHEST:
            raise SadariError(f"end {self.end}: no token has this number; use end=-1 for what is last")
        if self.context < 1:
            raise SadariError(f"context {self.context}: a caption has at least its end; use context=77")
        check_contrast(self.contrast)


def chosen(config: CLIPConfig, inputs: Shape) -> Sizes:
    """The sizes that a config means for pictures (C, H, W). SadariError when heads do not divide a width."""
    side = min(inputs[1:])
    name = config.variant
    if name == "auto":
        name = "vit-b32" if side >= LARGE else "clip-64"
    base = VARIANTS[name]
    given: dict[str, Any] = {name: value for name in base._fields if (value := getattr(config, name, 0))}
    sizes = base._replace(**given)
    if sizes.depths:
        check_heads(32 * sizes.width, sizes.heads)
    else:
        sizes = sizes._replace(patch=sizes.patch or min(max(round(side / GRID), 2), side))
        check_heads(sizes.width, sizes.heads)
        if sizes.patch > side:
            raise SadariError(
                f"patch {sizes.patch}: pictures of {side} pixels have no such patch; use patch=0 or "
                f"variant=clip-64"
            )
    check_heads(sizes.text_width, sizes.text_heads)
    return sizes


class CLIP(TwoTowers):
    """Embeddings of pictures and of captions, near each other where they belong together."""

    Config: ClassVar = CLIPConfig
    TINY: ClassVar = CLIPConfig(
        variant="clip-64", width=16, layers=2, heads=2, text_width=16, text_layers=2, text_heads=2,
        dimension=8, context=16,
    )  # fmt: skip
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 5e-4, "batch_size": 128, "clip": 1.0}

    def __init__(self, config: CLIPConfig, inputs: Shape, vocabulary: int) -> None:
        super().__init__()
        self.config, self.inputs, self.vocabulary = config, inputs, vocabulary
        sizes = self.sizes = chosen(config, inputs)
        W, layers, heads, D = sizes.width, sizes.layers, sizes.heads, sizes.dimension
        self.visual: nn.Module
        if sizes.depths:
            self.visual = ModifiedResNet(inputs, sizes.depths, W, heads, D)
        else:
            self.visual = VisionTransformer(inputs, sizes.patch, W, layers, heads, D, config.quick_gelu)
        C = sizes.text_width
        self.token_embedding = nn.Embedding(vocabulary, C)
        self.positional_embedding = nn.Parameter(torch.empty(config.context, C))
        self.transformer = Transformer(C, sizes.text_layers, sizes.text_heads, config.quick_gelu)
        self.ln_final = nn.LayerNorm(C)
        self.text_projection = nn.Parameter(torch.empty(C, sizes.dimension))
        self.logit_scale, self.logit_bias = temperature(config.contrast)
        _initialise(self)

    def encode_image(self, pictures: Pictures, rec: Recorder | None = None) -> Embeddings:
        """Pictures of any size, not normalised (as OpenAI's). With a recorder each layer's weights too
        (B, H, T, T), under `layer{i}.attention`; a ResNet's pooling (B, H, 1, T) under `pooling.attention`.
        """
        return self.visual(pictures, rec)

    def encode_text(self, tokens: Captions, rec: Recorder | None = None, trim: bool = True) -> Embeddings:
        """Captions, not normalised; what stands behind a caption's end (PAD, or anything) changes nothing.

        `trim` leaves out the columns behind the longest caption, which no end has seen. SadariError where a
        caption is longer than `context`.
        """
        end = self.ends(tokens)
        if trim and len(tokens):
            tokens = tokens[:, : int(end.max()) + 1]
        if tokens.shape[1] > self.config.context:
            raise SadariError(
                f"a caption of {tokens.shape[1]} tokens, but there are positions for {self.config.context}; "
                f"cut captions to that length, or fit with context={tokens.shape[1]}"
            )
        x = self.token_embedding(tokens.clamp(min=0)) + self.positional_embedding[: tokens.shape[1]]
        return self.ln_final(self.transformer(x, end, True, rec)) @ self.text_projection

    def ends(self, tokens: Captions) -> Int[Tensor, " B"]:
        """Where each caption ends: its first token `end`, or its last, or its highest."""
        end, places = self.config.end, torch.arange(tokens.shape[1], device=tokens.device)
        if end == LAST:
            return (places * is_real(tokens)).amax(-1)
        return (tokens if end == HIGHEST else (tokens == end).to(torch.int8)).argmax(-1)

    def check_tokens(self, tokens: Captions) -> None:
        """SadariError where a tokenizer does not fit: ids beyond the vocabulary, a caption without end."""
        check_ids(tokens, self.vocabulary)
        if self.config.end >= 0 and len(rows := (tokens != self.config.end).all(-1).nonzero()):
            raise SadariError(
                f"caption {int(rows[0]) + 1} has no token {self.config.end}, by which its end is known; "
                f"set end to what the tokenizer writes last, or -1 for whatever is last"
            )

    @classmethod
    def from_weights(cls, state: State, *, quick_gelu: bool, end: int = HIGHEST) -> CLIP:
        """A CLIP with a copy of OpenAI's, Hugging Face's or open_clip's weights, in single precision.

        quick_gelu  which gelu they were trained with, which no weight tells: OpenAI's own with the quick one
        end         Hugging Face's `eos_token_id`, unless that is 2: then, and for others, -2, the highest

        SadariError where a weight is missing, or of another shape than the rest have it.
        """
        state = imported(state)
        settings, inputs, vocabulary = settings_of(state)
        with torch.device("meta"):
            model = cls(CLIPConfig(**settings, quick_gelu=quick_gelu, end=end), inputs, vocabulary)
        found = checked(state, model)
        copied = {
            name: value.detach().to(torch.float32 if value.is_floating_point() else value.dtype, copy=True)
            for name, value in found.items()
        }
        model.load_state_dict(copied, assign=True)
        return model.requires_grad_(True)

    @staticmethod
    def parameter_count(config: CLIPConfig, inputs: Shape, vocabulary: int) -> int:
        """A layer of width C has 12 C^2 + 13 C. Picture: C P^2 W + W + (1 + N) W + 4 W + W D and L layers, or
        a ResNet's; caption: V C + T C + 2 C + C D and its layers; and the scale, and a bias with sigmoid.
        """
        sizes = chosen(config, inputs)
        image, _ = _picture_costs(sizes, inputs)
        C, D = sizes.text_width, sizes.dimension
        layers, _ = layers_costs(sizes.text_layers, config.context, C)
        text = layers + (vocabulary + config.context + 2 + D) * C
        return image + text + 1 + (config.contrast == "sigmoid")

    @staticmethod
    def macs(config: CLIPConfig, inputs: Shape, vocabulary: int, length: int = 0) -> int:
        """Multiply-adds for a picture and a caption of `length` tokens (0: the longest).

        N C P^2 W for patches; a layer of T tokens, width C: 12 T C^2 + 2 T^2 C, but the last, which answers
        for one token: 2 T C^2 + 10 C^2 + 2 T C; then W D, or C D.
        """
        sizes = chosen(config, inputs)
        _, image = _picture_costs(sizes, inputs)
        T, C = length or config.context, sizes.text_width
        _, text = layers_costs(sizes.text_layers, T, C)
        return image + text + C * sizes.dimension


def _picture_costs(sizes: Sizes, inputs: Shape) -> tuple[int, int]:
    """Parameters and multiply-adds of the picture's tower."""
    if sizes.depths:
        return resnet_costs(inputs, sizes.depths, sizes.width, sizes.dimension)
    return vit_costs(inputs, sizes.patch, sizes.width, sizes.layers, sizes.dimension)


@torch.no_grad()
def _initialise(model: CLIP) -> None:
    """First weights, from torch's global generator: OpenAI's `initialize_parameters`, whose laws for the
    caption's layers are taken for the picture's too, as Hugging Face does.

    | parameter                         | law                         | why                                  |
    |-----------------------------------|-----------------------------|--------------------------------------|
    | token_embedding, its positions    | normal, 0.02 and 0.01       | OpenAI's                             |
    | out_proj, mlp.c_proj              | normal, 1 / sqrt(2 L width) | the 2 L branches sum to one          |
    | mlp.c_fc                          | normal, 1 / sqrt(2 width)   | OpenAI's                             |
    | convolution of patches            | normal, 1 / sqrt(C P P)     | level variance                       |
    | a ResNet's convolutions           | normal, sqrt(2 / fan-in)    | as the relu family (He 2015)         |
    | bn3.weight of a ResNet's block    | zero                        | it begins as its shortcut            |
    | all other matrices and vectors    | normal, 1 / sqrt(width)     | OpenAI's                             |
    | other norms' weights, biases      | one, zero                   |                                      |
    """
    sizes = model.sizes
    towers = {True: (32 * sizes.width if sizes.depths else sizes.width, sizes.layers)}
    towers[False] = (sizes.text_width, sizes.text_layers)
    own = {"token_embedding.weight": 0.02, "positional_embedding": 0.01}
    for name, parameter in model.named_parameters():
        width, layers = towers[name.startswith("visual.")]
        if name.startswith("logit_"):
            continue
        if parameter.ndim == 1 and name != "visual.class_embedding":
            branch_end = ".layer" in name and name.endswith("bn3.weight")
            parameter.fill_(float(name.endswith("weight") and not branch_end))
        elif parameter.ndim == 4:
            parameter.normal_(0.0, math.sqrt((2 if sizes.depths else 1) / parameter[0].numel()))
        elif name.endswith(("out_proj.weight", "mlp.c_proj.weight")):
            parameter.normal_(0.0, (2 * layers * width) ** -0.5)
        else:
            doubled = 2 if name.endswith("c_fc.weight") else 1
            parameter.normal_(0.0, own.get(name, (doubled * width) ** -0.5))
