"""Bag of words and a line on pixels: the ground of `match`, pictures and words in one space with no reading.

What it knows of a caption is which words are in it: each has a vector, and their mean is the caption's, in
whatever order they stand. What it knows of a picture is a line on its pixels, shrunk to about 16 a side: a
mean colour here or there. Both are learnt together, by the same loss as the rungs above; a rung that reads is
worth its arithmetic only where it matches better than this. After WSABIE (Weston et al. 2011), which joined
pictures and words by two matrices, there with a ranking loss.

    picture -- average of squares -- flatten -- picture: W x + b ---+
    (B,C,H,W)     (B, C, s, s)                                      |  exp(logit_scale) x . y (+ logit_bias)
    caption -- words: a vector each -- mean over its tokens --------+
     (B, T)

Alphabet: T tokens of a caption, V vocabulary, D width of the shared space, s pixels a side that are left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.convolution import Dense, Shape
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.tokens import embed, is_real
from sadari.models.encoder import mean_of
from sadari.models.two_towers import (
    Captions,
    Embeddings,
    Pictures,
    TwoTowers,
    check_contrast,
    check_ids,
    temperature,
)


@dataclass(frozen=True)
class BagOfWordsConfig:
    """Settings of a `BagOfWords`; each field's text is the help of its flag."""

    dimension: int = 192
    """Width D of the shared space."""
    pixels: int = 16
    """Pixels a side that pictures are shrunk to; smaller ones stay as they are."""
    contrast: str = "softmax"
    """What both towers learn by: softmax (each picks its partner out of the batch) or sigmoid (each pair
    alone is told to belong together or not)."""

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise SadariError(f"dimension {self.dimension}: at least 1 is needed; use dimension=192")
        if self.pixels < 1:
            raise SadariError(f"pixels {self.pixels}: a picture has at least 1 a side; use pixels=16")
        check_contrast(self.contrast)


class BagOfWords(TwoTowers):
    """Embeddings of pictures and of captions, each by one matrix."""

    Config: ClassVar = BagOfWordsConfig
    TINY: ClassVar = BagOfWordsConfig(dimension=8, pixels=4)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 1e-3, "batch_size": 256, "clip": 1.0}

    def __init__(self, config: BagOfWordsConfig, inputs: Shape, vocabulary: int) -> None:
        super().__init__()
        self.config, self.inputs, self.vocabulary = config, inputs, vocabulary
        self.size = shrunk(config, inputs)
        self.words = nn.Embedding(vocabulary, config.dimension)
        self.picture = Dense(inputs[0] * math.prod(self.size), config.dimension)
        self.logit_scale, self.logit_bias = temperature(config.contrast)
        _initialise(self)

    def encode_image(self, pictures: Pictures, rec: Recorder | None = None) -> Embeddings:
        """Pictures of any size, not normalised."""
        rec = rec or unrecorded
        small = rec("shrunk", F.adaptive_avg_pool2d(pictures, self.size))  # (B, C, s, s)
        return self.picture(small.flatten(1))

    def encode_text(self, tokens: Captions, rec: Recorder | None = None) -> Embeddings:
        """Captions, not normalised; PAD may stand anywhere. One of no token is zero."""
        rec = rec or unrecorded
        return mean_of(rec("words", embed(self.words, tokens)), is_real(tokens))

    def forward(
        self, pictures: Pictures, tokens: Captions, rec: Recorder | None = None
    ) -> tuple[Embeddings, Embeddings]:
        """Both, of length 1."""
        image, text = self.encode_image(pictures, rec), self.encode_text(tokens, rec)
        rec = rec or unrecorded
        return rec("image", F.normalize(image, dim=-1)), rec("text", F.normalize(text, dim=-1))

    def check_tokens(self, tokens: Captions) -> None:
        """SadariError where a tokenizer does not fit: ids beyond the vocabulary, a caption of no token."""
        check_ids(tokens, self.vocabulary)

    @staticmethod
    def parameter_count(config: BagOfWordsConfig, inputs: Shape, vocabulary: int) -> int:
        """V D for words, D (C s^2 + 1) for pixels; the scale, and a bias with sigmoid."""
        pixels = inputs[0] * math.prod(shrunk(config, inputs))
        return config.dimension * (vocabulary + pixels + 1) + 1 + (config.contrast == "sigmoid")

    @staticmethod
    def macs(config: BagOfWordsConfig, inputs: Shape, vocabulary: int, length: int = 0) -> int:
        """Multiply-adds for a picture and a caption: C s^2 D; words are looked up and added."""
        return config.dimension * inputs[0] * math.prod(shrunk(config, inputs))


def shrunk(config: BagOfWordsConfig, inputs: Shape) -> tuple[int, int]:
    """Rows and columns of pixels that are left of pictures (C, H, W)."""
    return min(config.pixels, inputs[1]), min(config.pixels, inputs[2])


@torch.no_grad()
def _initialise(model: BagOfWords) -> None:
    """First weights, from torch's global generator.

    | parameter      | law                    | why                                                         |
    |----------------|------------------------|-------------------------------------------------------------|
    | words          | normal, 1 / sqrt(D)    | length 1; small, so that a step of descent turns it         |
    | picture.weight | normal, 1 / sqrt(C ss) | level variance over standardised pixels                     |
    | picture.bias   | zero                   |                                                             |
    """
    model.words.weight.normal_(0.0, model.config.dimension**-0.5)
    model.picture.weight.normal_(0.0, model.picture.in_features**-0.5)
    model.picture.bias.zero_()
