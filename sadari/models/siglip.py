"""SigLIP (Zhai et al. 2023, 2303.15343): CLIP whose pairs are told apart one by one.

What differs from the rung below (clip): the loss asks of each picture and each caption alone whether they
belong together, so that a batch has no need to be large, nor to be gathered on one machine. The picture is
read by a learnt query that attends to all patches, with no class token; in the caption every token sees every
other, and the last of a fixed number of places is read, most often one of the padding.

    picture -- patches --(+ positions)-- L x block -- post_layernorm -- head: a probe attends, fc1, fc2 ---+
                                                                                                           |
                                                          sigmoid(exp(logit_scale) x . y + logit_bias) ----+
                                                                                                           |
    caption -- padded to `context` --(+ positions)-- L x block -- final_layer_norm -- last place -- head ---+

    block     x + self_attn(layer_norm1 x), then x + fc2(gelu(fc1(layer_norm2 x)))

Names of weights are Hugging Face's; open_clip's come and go by `models/siglip_names.py`. Reference code:
google-research/big_vision, models/vit.py and models/proj/image_text. Alphabet: N patches, T = `context`
tokens of a caption, D width of the shared space and of a patch, I inner width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.attention import check_heads
from sadari.layers.convolution import Shape, checked
from sadari.layers.dense import Recorder
from sadari.layers.tokens import PAD, is_real, trimmed
from sadari.models.siglip_names import State, imported, settings_of
from sadari.models.siglip_transformer import GELUS, TextModel, VisionModel, text_costs, vision_costs
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
    """Of a patch's vector, and of the shared space."""
    layers: int
    heads: int
    inner: int
    text_width: int
    text_layers: int
    text_heads: int
    text_inner: int
    context: int
    """Tokens that every caption is filled up to."""


VARIANTS = {
    #                patch width layers heads inner  text: width layers heads inner  context
    "siglip-64": Sizes(0, 128, 4, 2, 512, 128, 2, 2, 512, 32),
    "b16-224": Sizes(16, 768, 12, 12, 3072, 768, 12, 12, 3072, 64),
    "l16-256": Sizes(16, 1024, 24, 16, 4096, 1024, 24, 16, 4096, 64),
    "so400m-p14-384": Sizes(14, 1152, 27, 16, 4304, 1152, 27, 16, 4304, 64),  # Alabdulmohsin 2023, 2305.13035
}
LARGE = 160  # pixels of a side from which `auto` takes b16-224
GRID = 4  # patches of a side, about, that the small preset cuts a picture into


@dataclass(frozen=True)
class SigLIPConfig:
    """Settings of a `SigLIP`; each field's text is the help of its flag."""

    variant: str = "auto"
    """siglip-64, b16-224, l16-256, so400m-p14-384, or auto: b16-224 from 160 pixels a side, else
    siglip-64."""
    patch: int = 0
    """Pixels of a patch's side; 0 as the variant's."""
    width: int = 0
    """Size D of a patch's vector, and of the shared space; 0 as the variant's."""
    layers: int = 0
    """Layers that read a picture; 0 as the variant's."""
    heads: int = 0
    """Heads of attention for pictures; 0 as the variant's."""
    inner: int = 0
    """Units between the two dense layers of a pair, for pictures; 0 as the variant's."""
    text_width: int = 0
    """Size of a caption's token's vector; 0 as the variant's."""
    text_layers: int = 0
    """Layers that read a caption; 0 as the variant's."""
    text_heads: int = 0
    """Heads of attention for captions; 0 as the variant's."""
    text_inner: int = 0
    """Units between the two dense layers of a pair, for captions; 0 as the variant's."""
    context: int = 0
    """Tokens that every caption is filled up to, which is what its time goes by; 0 as the variant's. A fit
    takes that of the captions."""
    pad: int = 1
    """Number of the token that fills a caption up; in Google's vocabulary 1, which also ends it. A fit takes
    the one that ends the captions."""
    gelu: str = "tanh"
    """How gelu is reckoned: tanh (as Google's and Hugging Face's) or exact; weights want their own."""
    contrast: str = "sigmoid"
    """What both towers learn by: sigmoid (each pair alone is told to belong together or not) or softmax (each
    picks its partner out of the batch; CLIP's, without a bias)."""

    def __post_init__(self) -> None:
        if self.variant != "auto" and self.variant not in VARIANTS:
            raise SadariError(f"no variant {self.variant!r}; choose one of auto, {', '.join(VARIANTS)}")
        for name in Sizes._fields:
            if (value := getattr(self, name)) < 0:
                raise SadariError(f"{name} {value}: at least 1 is needed; use {name}=0 as usual")
        if self.gelu not in GELUS:
            raise SadariError(f"no gelu {self.gelu!r}; choose one of {', '.join(GELUS)}")
        check_contrast(self.contrast)


def chosen(config: SigLIPConfig, inputs: Shape) -> Sizes:
    """The sizes that a config means for pictures (C, H, W). SadariError when heads do not divide a width."""
    side = min(inputs[1:])
    name = config.variant
    if name == "auto":
        name = "b16-224" if side >= LARGE else "siglip-64"
    base = VARIANTS[name]
    given: dict[str, Any] = {name: value for name in base._fields if (value := getattr(config, name))}
    sizes = base._replace(**given)
    sizes = sizes._replace(patch=sizes.patch or min(max(round(side / GRID), 2), side))
    check_heads(sizes.width, sizes.heads)
    check_heads(sizes.text_width, sizes.text_heads)
    if sizes.patch > side:
        raise SadariError(
            f"patch {sizes.patch}: pictures of {side} pixels have no such patch; use patch=0 or "
            f"variant=siglip-64"
        )
    return sizes


class SigLIP(TwoTowers):
    """Embeddings of pictures and of captions, and how likely two of them are a pair."""

    Config: ClassVar = SigLIPConfig
    TINY: ClassVar = SigLIPConfig(
        variant="siglip-64", width=16, layers=2, heads=2, inner=32, text_width=16, text_layers=2,
        text_heads=2, text_inner=32, context=16,
    )  # fmt: skip
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 5e-4, "batch_size": 128, "clip": 1.0}

    def __init__(self, config: SigLIPConfig, inputs: Shape, vocabulary: int) -> None:
        super().__init__()
        if not 0 <= config.pad < vocabulary:
            raise SadariError(
                f"pad {config.pad} is beyond the vocabulary of {vocabulary} tokens; set pad to the one that "
                f"fills captions up, such as their end"
            )
        self.config, self.inputs, self.vocabulary = config, inputs, vocabulary
        sizes = self.sizes = chosen(config, inputs)
        self.vision_model = VisionModel(
            inputs, sizes.patch, sizes.width, sizes.layers, sizes.heads, sizes.inner, config.gelu
        )
        self.text_model = TextModel(
            vocabulary, sizes.context, sizes.text_width, sizes.text_layers, sizes.text_heads,
            sizes.text_inner, sizes.width, config.gelu,
        )  # fmt: skip
        self.logit_scale, self.logit_bias = temperature(config.contrast, (1,))
        _initialise(self)

    def encode_image(self, pictures: Pictures, rec: Recorder | None = None) -> Embeddings:
        """Pictures of any size, not normalised. With a recorder each layer's weights too (B, H, N, N), under
        `layer{i}.attention`, and the probe's (B, H, 1, N) under `pooling.attention`.
        """
        return self.vision_model(pictures, rec)

    def encode_text(self, tokens: Captions, rec: Recorder | None = None) -> Embeddings:
        """Captions, not normalised, filled up with `pad` to `context`; PAD is `pad` too.

        SadariError where a caption is longer than `context`.
        """
        length = self.sizes.context
        if tokens.shape[1] > length:
            tokens = trimmed(tokens)
        if tokens.shape[1] > length:
            raise SadariError(
                f"a caption of {tokens.shape[1]} tokens, but there are positions for {length}; "
                f"cut captions to that length, or fit with context={tokens.shape[1]}"
            )
        full = F.pad(tokens, (0, length - tokens.shape[1]), value=PAD)  # (B, T)
        return self.text_model(full.masked_fill(~is_real(full), self.config.pad), rec)

    def check_tokens(self, tokens: Captions) -> None:
        """SadariError where a tokenizer does not fit: ids beyond the vocabulary, a caption of no token."""
        check_ids(tokens, self.vocabulary)

    @classmethod
    def from_weights(cls, state: State, *, gelu: str = "tanh", pad: int = 1) -> SigLIP:
        """A SigLIP with a copy of Hugging Face's or open_clip's weights, in single precision.

        gelu  which one they are used with: tanh with Hugging Face, exact with open_clip, which for the same
              weights of Google's differs by about a thousandth
        pad   the token that their tokenizer fills captions up with

        SadariError where a weight is missing, or of another shape than the rest have it.
        """
        state = imported(state)
        settings, inputs, vocabulary = settings_of(state)
        with torch.device("meta"):
            model = cls(SigLIPConfig(**settings, gelu=gelu, pad=pad), inputs, vocabulary)
        found = checked(state, model)
        copied = {name: value.detach().to(torch.float32, copy=True) for name, value in found.items()}
        model.load_state_dict(copied, assign=True)
        return model.requires_grad_(True)

    @staticmethod
    def parameter_count(config: SigLIPConfig, inputs: Shape, vocabulary: int) -> int:
        """A layer 4 C (C + 1) + 2 C I + I + 5 C. Picture: D (C P^2 + 1) + N D + 2 D, L layers, and the head,
        a layer less D; caption: V C + T C + 2 C + D (C + 1) and its layers; scale and bias.
        """
        sizes = chosen(config, inputs)
        (image, _), (text, _) = _costs(sizes, inputs, vocabulary)
        return image + text + 1 + (config.contrast == "sigmoid")

    @staticmethod
    def macs(config: SigLIPConfig, inputs: Shape, vocabulary: int, length: int = 0) -> int:
        """Multiply-adds for a picture and a caption, whose `length` does not matter: it is filled up.

        N C P^2 D for patches; a layer T (4 C^2 + 2 C I) + 2 T^2 C, but a caption's last, which answers for
        one place, 2 T C^2 + 2 C^2 + 2 C I + 2 T C, and alike the head, whose one query is the probe; C D.
        """
        (_, image), (_, text) = _costs(chosen(config, inputs), inputs, vocabulary)
        return image + text


def _costs(sizes: Sizes, inputs: Shape, vocabulary: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Parameters and multiply-adds, of pictures and of captions."""
    image = vision_costs(inputs, sizes.patch, sizes.width, sizes.layers, sizes.inner)
    text = text_costs(
        vocabulary, sizes.context, sizes.text_width, sizes.text_layers, sizes.text_inner, sizes.width
    )
    return image, text


@torch.no_grad()
def _initialise(model: SigLIP) -> None:
    """First weights, from torch's global generator: the variances of big_vision's vit.py.

    | parameter                         | law                       | why                                   |
    |-----------------------------------|---------------------------|---------------------------------------|
    | fc1, fc2                          | normal, sqrt(2 / (C + I)) | Glorot 2010                           |
    | all other matrices, probe, tables | normal, 1 / sqrt(fan-in)  | level variance; of a table, its width |
    | norms' weights, biases            | one, zero                 |                                       |
    """
    for name, parameter in model.named_parameters():
        if name.startswith("logit_"):
            continue
        if parameter.ndim == 1:
            parameter.fill_(float(name.endswith("weight")))
        elif ".mlp." in name:
            parameter.normal_(0.0, (2 / sum(parameter.shape)) ** 0.5)
        else:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5)
