"""Transformer encoder (Vaswani 2017, 1706.03762) in BERT's layout (Devlin 2018, 1810.04805), as a classifier.

What differs from the rung below (attention): no recurrence. Every token looks at every other in one step, in
each layer anew, so that the way between two words is one step long wherever they stand, and all places are
computed at once. Where a token stands must then be told to it: a position's vector is added to its word's.

    post  x --+-- attention --(+)-- norm --+-- dense, gelu, dense --(+)-- norm --     (both papers)
              +----------------+           +-------------------------+

    pre   x --+-- norm -- attention --(+)--+-- norm -- dense, gelu, dense --(+)--     (Xiong 2020, 2002.04745;
              +------------------------+   +---------------------------------+         one more at the end)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.attention import SelfAttention, check_heads
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.tokens import embed, is_real

BASE = 10_000.0  # the slowest wave of the sinusoid has a length of 2 pi times this many places
# The size of words and places at birth. The norm behind them makes it 1 again, but the optimizer moves each
# number by about the learning rate: from a size of 1 a word needs fifty times as many steps to change. In 4
# epochs over 5,419 summaries, 11 topics: 0.655 right from a size of 1, 0.866 from this.
SMALL = 0.02


@dataclass(frozen=True)
class EncoderConfig:
    """The sizes of an encoder; the defaults are BERT base's."""

    vocabulary: int = 30_522
    """Tokens V of the vocabulary."""
    width: int = 768
    """Size C of a token's vector."""
    layers: int = 12
    """Layers L, each of attention and a dense pair."""
    heads: int = 12
    """Heads H of attention, each C / H wide."""
    inner: int = 3072
    """Units between the two dense layers of a pair."""
    positions: str = "learned"
    """How a place is told: learned, sinusoid, or none."""
    longest: int = 512
    """Places that learned positions have vectors for."""
    types: int = 2
    """Kinds of text that BERT tells apart (first and second of a pair); 0 for none. All text here is of
    kind 0."""
    dropout: float = 0.1
    """Share silenced at random in training, of the sum at the start and at the end of each branch."""
    norm: str = "post"
    """Where the layer norms stand: post (after each sum) or pre (at the start of each branch)."""
    eps: float = 1e-12
    """Added to the variance in each layer norm."""


class Embeddings(nn.Module):
    """The vectors of word, place and kind, added and normed."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        if config.positions == "learned":
            self.position_embeddings = nn.Embedding(config.longest, config.width)
        if config.types:
            self.token_type_embeddings = nn.Embedding(config.types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.config = config

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        T, config = tokens.shape[1], self.config
        x = embed(self.word_embeddings, tokens)  # (B, T, C)
        if config.types:
            x = x + self.token_type_embeddings.weight[0]
        if config.positions == "learned":
            if config.longest < T:
                raise SadariError(
                    f"a text of {T} tokens, but there are positions for {config.longest}; cut texts to "
                    f"that length, or use positions=sinusoid, which has no end"
                )
            x = x + self.position_embeddings.weight[:T]
        elif config.positions == "sinusoid":
            x = x + SMALL * sinusoid(T, config.width, x.device)
        return self.dropout(self.LayerNorm(x))


def sinusoid(length: int, width: int, device: torch.device | None = None) -> Float[Tensor, "T C"]:
    """Each place as waves: sin and cos of place / 10000^(2i / C) at 2i and 2i + 1 (Vaswani, section 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(BASE) / width))  # (C / 2)
    angles = torch.arange(length, device=device).unsqueeze(1) * rates  # (T, C / 2)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :width]


class Branch(nn.Module):
    """How a branch ends: mixed by a dense layer, dropped, added to the stream; and its norm."""

    def __init__(self, inputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.pre = config.norm == "pre"

    def before(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """What the branch begins from."""
        return self.LayerNorm(x) if self.pre else x

    def forward(self, h: Float[Tensor, "B T I"], x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        x = x + self.dropout(self.dense(h))
        return x if self.pre else self.LayerNorm(x)


class Attention(nn.Module):
    """The first half of a layer; the words `self` and `output` are BERT's."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        # weights of attention are never dropped: the fused path cannot on a processor, and the way round it
        # takes 2 to 4 times as long (64 to 256 tokens)
        self.self = SelfAttention(config.width, config.heads)
        self.output = Branch(config.width, config)


class Intermediate(nn.Module):
    """The wide dense layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.inner)


class Layer(nn.Module):
    """1. look at all tokens  2. add  3. think about each alone  4. add."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = Branch(config.inner, config)

    def forward(
        self, x: Float[Tensor, "B T C"], mask: Bool[Tensor, "B 1 1 T"] | None, plain: bool
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B H T T"] | None]:
        heads, weights = self.attention.self(self.attention.output.before(x), mask, plain)
        x = self.attention.output(heads, x)  # (B, T, C)
        inner = F.gelu(self.intermediate.dense(self.output.before(x)))  # (B, T, I)
        return self.output(inner, x), weights


class Layers(nn.Module):
    """The layers, one on another."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.layers))
        if config.norm == "pre":
            self.LayerNorm = nn.LayerNorm(config.width, config.eps)


class Encoder(nn.Module):
    """Tokens (B, T), PAD where a text is over, to a vector for each; parameters are named as BERT's are."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Layers(config)

    def forward(self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B T C"]:
        """With a recorder, each layer's weights (B, H, T, T) too, under `layer{i}.attention`."""
        plain, rec = rec is not None, rec or unrecorded
        mask = is_real(tokens)[:, None, None, :]  # (B, 1, 1, T): nobody looks at what is not written
        x = rec("embedded", self.embeddings(tokens))
        for i, layer in enumerate(self.encoder.layer):
            x, weights = layer(x, mask, plain)
            if weights is not None:
                rec(f"layer{i}.attention", weights)
            x = rec(f"layer{i}", x)
        return self.encoder.LayerNorm(x) if self.config.norm == "pre" else x

    @staticmethod
    def parameter_count(config: EncoderConfig) -> int:
        """(V + places + kinds + 2) C, L times 4 C (C + 1) + 2 C I + I + 5 C, and 2 C more if pre."""
        C, inner = config.width, config.inner
        places = config.longest if config.positions == "learned" else 0
        start = (config.vocabulary + places + config.types) * C + 2 * C
        layer = 4 * C * (C + 1) + 2 * C * inner + inner + C + 4 * C
        return start + config.layers * layer + 2 * C * (config.norm == "pre")

    @staticmethod
    def macs(config: EncoderConfig, length: int) -> int:
        """Multiply-adds for a text of T tokens: L T (4 C^2 + 2 C I), and 2 L T^2 C for all looking at all."""
        C, T = config.width, length
        return config.layers * T * (4 * C * C + 2 * C * config.inner + 2 * T * C)


def mean_of(x: Float[Tensor, "B T C"], real: Bool[Tensor, "B T"]) -> Float[Tensor, "B C"]:
    """The mean over the tokens that are there; zero for a text of none."""
    real = real.unsqueeze(-1)
    return (x * real).sum(1) / real.sum(1).clamp(min=1)


@dataclass(frozen=True)
class TransformerConfig:
    """Settings of a `Transformer`."""

    width: int = 128
    """Size C of a token's vector."""
    heads: int = 4
    """Heads H of attention, each C / H wide: so many things can be looked for at once in each layer."""
    layers: int = 1
    """Layers L, each of attention and a dense pair; a few thousand texts are read no better by two."""
    inner: int = 0
    """Units between the two dense layers of a pair; 0 for 4 times the width."""
    dropout: float = 0.1
    """Share silenced at random in training, of the sum at the start and at the end of each branch."""
    norm: str = "pre"
    """Where the layer norms stand: pre (trains without a long warm-up) or post (as in the papers)."""
    positions: str = "sinusoid"
    """How a place is told: sinusoid (waves without an end), learned (up to `longest`), or none."""
    longest: int = 512
    """Places that learned positions have vectors for."""
    pooling: str = "mean"
    """What the answer is read from: mean (of all tokens), or cls (a token of its own before the text)."""

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)
        if self.layers < 1:
            raise SadariError(f"layers {self.layers}: a transformer needs at least 1 layer; use layers=1")
        if self.inner < 0:
            raise SadariError(
                f"inner {self.inner}: a dense layer has at least 1 unit; use inner=0 for 4 widths"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise SadariError(f"dropout {self.dropout}: the share dropped lies in [0, 1); use dropout=0.1")
        if self.longest < 1:
            raise SadariError(
                f"longest {self.longest}: positions reach over at least 1 token; use longest=512"
            )
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                given = getattr(self, name)
                raise SadariError(f"no {name} {given!r}; choose one of {', '.join(known)}")

    def encoder(self, vocabulary: int) -> EncoderConfig:
        """The sizes of the encoder inside."""
        return EncoderConfig(
            vocabulary=vocabulary + (self.pooling == "cls"),
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            inner=self.inner or 4 * self.width,
            positions=self.positions,
            longest=self.longest + (self.pooling == "cls"),
            types=0,
            dropout=self.dropout,
            norm=self.norm,
            eps=1e-5,
        )


CHOICES = {
    "norm": ("pre", "post"),
    "positions": ("sinusoid", "learned", "none"),
    "pooling": ("mean", "cls"),
}


class Transformer(nn.Module):
    """Logits: a line in the mean of what the encoder makes of each token, or in what it makes of [CLS]."""

    Config: ClassVar = TransformerConfig
    TINY: ClassVar = TransformerConfig(width=8, heads=2, layers=2, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {
        "learning_rate": 1e-3,
        "batch_size": 32,
        "clip": 1.0,
        "warmup": 0.05,
        "schedule": "cosine",
    }

    def __init__(self, config: TransformerConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder(inputs))
        self.output = nn.Linear(config.width, outputs)
        initialise(self)

    def forward(self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B O"]:
        cls = self.config.pooling == "cls"
        if cls:
            tokens = F.pad(tokens, (1, 0), value=self.encoder.config.vocabulary - 1)  # (B, 1 + T)
        h = self.encoder(tokens, rec)  # (B, T, C)
        rec = rec or unrecorded
        pooled = rec("pooled", h[:, 0] if cls else mean_of(h, is_real(tokens)))  # (B, C)
        return rec("output", self.output(pooled))

    @staticmethod
    def parameter_count(config: TransformerConfig, inputs: int, outputs: int) -> int:
        """The encoder's (with one token more for cls), and O (C + 1)."""
        return Encoder.parameter_count(config.encoder(inputs)) + outputs * (config.width + 1)

    @staticmethod
    def macs(config: TransformerConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a text of `length` tokens: the encoder's, and C O."""
        places = length + (config.pooling == "cls")
        return Encoder.macs(config.encoder(inputs), places) + config.width * outputs


def laws(model: Transformer) -> dict[str, tuple[str, float]]:
    """The law of each parameter at birth: name -> (law, standard deviation).

    | parameter                      | law                    | why                                      |
    |--------------------------------|------------------------|------------------------------------------|
    | embeddings.word_embeddings     | normal, 0.02           | see `SMALL`                              |
    | embeddings.position_embeddings | normal, 0.02           | as large as the words, and as the waves  |
    | query, key, value              | normal, 1 / sqrt(C)    | level variance                           |
    | attention.output.dense         | normal, 1 / sqrt(2LC)  | the 2 L branches sum to one              |
    | intermediate.dense             | normal, sqrt(2 / C)    | as the relu family (He 2015)             |
    | output.dense                   | normal, 1 / sqrt(2LI)  | the 2 L branches sum to one              |
    | output (the classifier)        | normal, 0.1 / sqrt(C)  | first answers near the classes' shares   |
    | LayerNorm.weight, every bias   | one, zero              |                                          |
    """
    sizes = model.encoder.config
    C, branches = sizes.width, 2 * sizes.layers
    deviations = {
        "word_embeddings": SMALL,
        "position_embeddings": SMALL,
        "query": C**-0.5,
        "key": C**-0.5,
        "value": C**-0.5,
        "attention.output.dense": (branches * C) ** -0.5,
        "intermediate.dense": (2 / C) ** 0.5,
        "output.dense": (branches * sizes.inner) ** -0.5,
    }
    table = {"output.weight": ("normal", 0.1 * C**-0.5)}
    for name, _ in model.named_parameters():
        owner, part = name.rsplit(".", 1)
        if owner.endswith("LayerNorm") and part == "weight":
            table[name] = ("one", 0.0)
        elif part == "bias":
            table[name] = ("zero", 0.0)
        elif name not in table:
            table[name] = "normal", next(s for end, s in deviations.items() if owner.endswith(end))
    return table


@torch.no_grad()
def initialise(model: Transformer) -> None:
    """Draw every parameter by its law from torch's global generator (`torch.manual_seed`)."""
    table = laws(model)
    for name, parameter in model.named_parameters():
        law, deviation = table[name]
        if law == "normal":
            parameter.normal_(0.0, deviation)
        else:
            parameter.fill_(float(law == "one"))
