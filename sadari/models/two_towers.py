"""What all models of pictures and captions share: a scale and a bias of their own, and what is checked.

    picture -- encode_image -- x --+
                                   |  scale x . y (+ bias)      softmax: which caption of the batch is it?
    caption -- encode_text --- y --+                            sigmoid: is this pair a pair?

Similarities of vectors of length 1 lie in [-1, 1], too near one another for either loss: the scale, learnt as
its log, spreads them; the bias of the sigmoid loss begins where nearly all pairs are none.
Alphabet: B batch, T tokens of a caption, D width of the shared space, C H W a picture's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.dense import Recorder, unrecorded

MOST = math.log(100)  # of logit_scale with softmax (CLIP, 2103.00020, section 2.5)
LOSSES = {"softmax": (math.log(1 / 0.07), None), "sigmoid": (math.log(10), -10.0)}  # first scale and bias
Pictures = Float[Tensor, "B C H W"]
Captions = Int[Tensor, "B T"]
Embeddings = Float[Tensor, "B D"]


class TwoTowers(nn.Module):
    """What is the same whatever the towers are; they give `encode_image` and `encode_text`."""

    config: Any
    logit_scale: nn.Parameter
    encode_image: Any
    encode_text: Any

    def forward(
        self, pictures: Pictures, tokens: Captions, rec: Recorder | None = None
    ) -> tuple[Embeddings, Embeddings]:
        """Both, of length 1. A recorder's names begin with `image.` or `text.`."""
        image = self.encode_image(pictures, under(rec, "image"))
        text = self.encode_text(tokens, under(rec, "text"))
        rec = rec or unrecorded
        return rec("image", F.normalize(image, dim=-1)), rec("text", F.normalize(text, dim=-1))

    def scale(self) -> Float[Tensor, ""]:
        """What similarities are multiplied by: exp(logit_scale), with softmax held at 100 or less."""
        return held(self.logit_scale, self.training and self.config.contrast == "softmax")


def check_contrast(contrast: str) -> None:
    """SadariError for a loss that joins no pictures and captions."""
    if contrast not in LOSSES:
        raise SadariError(f"--contrast {contrast!r} is no loss of pairs; choose one of {', '.join(LOSSES)}")


def temperature(loss: str, shape: tuple[int, ...] = ()) -> tuple[nn.Parameter, nn.Parameter | None]:
    """The log of the scale and, for sigmoid, the bias, as they begin: ln(1 / 0.07) (CLIP, section 2.5), or
    ln 10 and -10 (SigLIP, section 3.2)."""
    scale, bias = LOSSES[loss]
    log_scale = nn.Parameter(torch.full(shape, scale))
    return log_scale, None if bias is None else nn.Parameter(torch.full(shape, bias))


def held(log_scale: nn.Parameter, holding: bool) -> Float[Tensor, ""]:
    """The scale; a parameter that a step of training has pushed beyond ln 100 is first set back to it."""
    if holding:
        with torch.no_grad():
            log_scale.clamp_(max=MOST)
    return log_scale.exp().squeeze()


def under(rec: Recorder | None, name: str) -> Recorder | None:
    """A recorder of what lies inside a part of this name; None for none."""
    return None if rec is None else lambda inner, value: rec(f"{name}.{inner}", value)


def check_ids(tokens: Captions, vocabulary: int) -> None:
    """SadariError for a token that the model has no vector for, and for a caption of none."""
    if tokens.numel() and int(tokens.max()) >= vocabulary:
        raise SadariError(
            f"token {int(tokens.max())} is beyond the model's vocabulary of {vocabulary}, 0 to "
            f"{vocabulary - 1}; use the tokenizer that belongs to the model"
        )
    if len(rows := (tokens < 0).all(-1).nonzero()):
        raise SadariError(f"caption {int(rows[0]) + 1} has no token; leave such pairs out")
