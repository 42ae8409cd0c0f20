"""Texts as vectors of a pretrained sentence encoder: near each other where they mean something alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from sadari.data.spec_text import TextSpec, padded
from sadari.data.tokenizers import Tokenizer
from sadari.models.encoder import Probe, ProbeConfig
from sadari.pretrained import find_pretrained


def sentence_vectors(texts: Sequence[str], weights: str = "minilm") -> Float32[np.ndarray, "N C"]:
    """The vector of each text, as the encoder's makers reckon it: their tokens, pooling and length 1.

    weights   a built-in's name (`sadari data get minilm`) or a folder in the hub's layout

    An empty text has a vector too, of [CLS] and [SEP] alone. SadariError when the weights are not there or
    are faulty.
    """
    found = find_pretrained(weights)
    tokenizer = Tokenizer.from_json(found.tokenizer_json())
    spec = TextSpec("", "", (), tokenizer, found.most)
    tokens = padded([spec.cut(one) for one in tokenizer.encode(list(texts), special=True)])
    model = Probe(ProbeConfig(weights), tokenizer.size, 1).eval()
    return model.encode(torch.from_numpy(tokens)).numpy()
