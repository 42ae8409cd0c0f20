"""Transformer (Vaswani 2017, 1706.03762): one text into another by attention alone, an encoder and a decoder.

What differs from the rung below (lstm-attention): no recurrence, in either half. All S source tokens look at
one another at once; each target token looks at those before it and, in every layer, at the whole source; and
all T target tokens are learnt from in one pass. Where a token stands must be told to it: waves are added.

    source -- embedding + place --+-- all -----(+)-- norm --+-- feed ---(+)-- norm -- L times
                                  +-------------+           +------------+               |
                                                               +----- keys and values ---+
                                                               |
    target -- embedding + place --+-- causal --(+)-- norm --+-- cross --(+)-- norm --+-- feed --(+)-- norm --
                                  +-------------+           +------------+           +-----------+  L times

With `norm_first` each norm stands at the start of its branch instead, and one more at each half's end (Xiong
2020, 2002.04745). Reference code: tensorflow/tensor2tensor, and marian-nmt/marian, whose weights, in the
layout of Hugging Face's transformers, `Translator.from_marian` reads and `sadari.marian.to_marian` writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.attention import attend, check_heads, merge_heads, split_heads
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.steps import StepLayer, can_step, few_rows
from sadari.layers.tied import make_head
from sadari.layers.tokens import PAD, embed, is_real
from sadari.marian import read_marian
from sadari.reference import adopt

CHOICES = {
    "activation": ("relu", "swish", "gelu"),
    "positions": ("halves", "interleaved"),
    "begin": ("zero", "word"),
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "swish": F.silu, "gelu": F.gelu}
SLOWEST = 10_000.0  # the longest wave is 2 pi times this many places long
ROOM = 32  # tokens that a new cache has room for; it is doubled when it is full
STRIDE = 16  # a reordered cache has room for the next multiple of so many


@dataclass(frozen=True)
class TranslatorConfig:
    """Settings of a `Translator`."""

    layers: int = 2
    """Layers L of the encoder, each of attention and a feed-forward part."""
    decoder_layers: int = 0
    """Layers of the decoder, which is what takes the time when translating; 0 = as many as the encoder."""
    width: int = 192
    """Size C of a token's vector."""
    heads: int = 4
    """Heads H of each attention, with C / H numbers of the width each."""
    inner: int = 0
    """Units F of each feed-forward part; 0 = 4 C."""
    activation: str = "relu"
    """What bends the feed-forward units: relu (as the paper), swish (as Marian), or gelu."""
    norm_first: bool = True
    """Whether norms stand at the start of each branch, which learns faster from few pairs and trains deep
    stacks, or behind each sum (as the paper)."""
    positions: str = "halves"
    """Where a place's waves stand in the width: halves (sines, then cosines; as Marian) or interleaved (as
    the paper). Untrained weights know no difference."""
    begin: str = "zero"
    """What the decoder begins from: zero (its place alone, as Marian), or word (START has a vector)."""
    scaled: bool = True
    """Whether a token's vector is read sqrt(C) times as large as it is kept, beside waves of size one."""
    share: bool = False
    """Whether source and target have one table of vectors; for one vocabulary on both sides."""
    tied: bool = True
    """Whether the target's table also tells tokens apart at the end."""
    bias: bool = True
    """Whether each target token has a number of its own added to its logit (as Marian; zero at birth)."""
    dropout: float = 0.1
    """Share silenced at random in training: of words with their places, and of each branch's end."""

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise SadariError(f"no {name} {getattr(self, name)!r}; choose one of {', '.join(known)}")
        check_heads(self.width, self.heads)
        if self.layers < 1:
            raise SadariError(f"layers {self.layers}: a source is read by at least 1 layer; use layers=3")
        if self.decoder_layers < 0:
            raise SadariError(
                f"decoder_layers {self.decoder_layers}: a target is written by at least 1 layer; use "
                f"decoder_layers=0 for as many as the encoder has"
            )
        if self.inner < 0:
            raise SadariError(f"inner {self.inner}: a feed-forward part has units; use inner=0 for 4 widths")
        if not 0.0 <= self.dropout < 1.0:
            raise SadariError(f"dropout {self.dropout}: the share dropped lies in [0, 1); use dropout=0.1")

    @property
    def depth(self) -> int:
        """Layers of the decoder."""
        return self.decoder_layers or self.layers

    @property
    def units(self) -> int:
        """Feed-forward units F."""
        return self.inner or 4 * self.width


_PAPER = {
    "layers": 6,
    "norm_first": False,
    "positions": "interleaved",
    "begin": "word",
    "share": True,
    "bias": False,
}
VARIANTS: dict[str, dict[str, Any]] = {  # table 3 of the paper; with 37,000 shared tokens
    "base": {
        **_PAPER,
        "width": 512,
        "heads": 8,
        "inner": 2048,
    },  # 63,082,496 parameters, 44,138,496 in layers
    "big": {**_PAPER, "width": 1024, "heads": 16, "inner": 4096, "dropout": 0.3},  # 214,245,376; 176,357,376
}


@dataclass(frozen=True)
class Translation:
    """What a `Translator` remembers between two steps, for R rows of N sources: rows may share a source.

    A step writes into it: use what `step` or `reorder` returned last, and no older one.
    """

    cross: list[tuple[Tensor, Tensor]]
    """A decoder layer's keys and values (N, H, S, D) of the sources, made once."""
    real: Bool[Tensor, "N 1 1 S"] | None
    """Where a source token is; None where all are."""
    origin: Int[Tensor, " N"]
    """Which source of `start`'s these are."""
    each: int
    """Rows that each of the N has, one after another: R = N each."""
    past: Float[Tensor, "L 2 R H room D"]
    """Every decoder layer's keys and values of the target, in the first `length` places of the room."""
    length: int = 0
    """Target tokens read."""
    steps: tuple[StepLayer, ...] = ()
    """The decoder's layers for a token a row, where they can be written out."""
    few: Any = None
    """All of a step for few rows as compiled code (`layers.step_kernel.StepKernel`), where that pays."""


class Attention(nn.Module):
    """Tokens look at one another, or at what is remembered; queries, keys and values from one product."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        mask: Tensor | None,
        causal: bool,
        remember: Callable[[Tensor], Tensor] | None,
        plain: bool,
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B H T S"] | None]:
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, kv = qkv.split((1, 2))  # (1, B, H, T, D) and (2, B, H, T, D)
        if remember is not None:
            kv = remember(kv)  # (2, B, H, S, D)
        y, weights = attend(q[0], kv[0], kv[1], mask, causal, plain=plain)
        return self.out(merge_heads(y)), weights


class Cross(nn.Module):
    """Target tokens look at a source's; its keys and values are made apart, once a source."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.kv = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def project(self, memory: Float[Tensor, "N S C"]) -> tuple[Tensor, Tensor]:
        """Keys and values (N, H, S, D) of what the encoder made."""
        k, v = split_heads(self.kv(memory), 2 * self.heads).chunk(2, dim=1)
        return k, v

    def forward(
        self,
        x: Float[Tensor, "R T C"],
        source: tuple[Tensor, Tensor],
        real: Bool[Tensor, "N 1 1 S"] | None,
        plain: bool,
    ) -> tuple[Float[Tensor, "R T C"], Float[Tensor, "R H T S"] | None]:
        """Neighbouring rows that share a source (R is a multiple of N) are more queries to the same keys."""
        (R, T, C), N = x.shape, len(source[0])
        q = split_heads(self.query(x).view(N, R // N * T, C), self.heads)  # (N, H, R / N T, D)
        y, weights = attend(q, *source, real, plain=plain)
        if weights is not None and R != N:
            weights = weights.unflatten(2, (R // N, T)).transpose(1, 2).flatten(0, 1)  # (R, H, T, S)
        return self.out(merge_heads(y).view(R, T, C)), weights


class FeedForward(nn.Module):
    """Each token by itself: down(act(up(x)))."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.bend = ACTIVATIONS[config.activation]
        self.up = nn.Linear(config.width, config.units)
        self.down = nn.Linear(config.units, config.width)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.down(self.bend(self.up(x)))


class Layer(nn.Module):
    """1. look at one's own text  2. look at the source, in a decoder  3. think; each added to what was."""

    def __init__(self, config: TranslatorConfig, crossing: bool) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.norm1 = nn.LayerNorm(config.width)
        self.cross = Cross(config) if crossing else None
        self.norm2 = nn.LayerNorm(config.width) if crossing else None
        self.feed = FeedForward(config)
        self.norm3 = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.norm_first = config.norm_first

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        mask: Tensor | None = None,
        causal: bool = False,
        remember: Callable[[Tensor], Tensor] | None = None,
        source: tuple[Tensor, Tensor] | None = None,
        real: Tensor | None = None,
        plain: bool = False,
        rec: Recorder = unrecorded,
    ) -> Float[Tensor, "B T C"]:
        y, weights = self.attention(self._before(self.norm1, x), mask, causal, remember, plain)
        if weights is not None:
            rec("self", weights)
        x = self._after(self.norm1, x, y)
        if self.cross is not None and self.norm2 is not None and source is not None:
            y, weights = self.cross(self._before(self.norm2, x), source, real, plain)
            if weights is not None:
                rec("cross", weights)
            x = self._after(self.norm2, x, y)
        return self._after(self.norm3, x, self.feed(self._before(self.norm3, x)))

    def _before(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        return norm(x) if self.norm_first else x

    def _after(self, norm: nn.LayerNorm, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.dropout(y)
        return x if self.norm_first else norm(x)


class Translator(nn.Module):
    """Logits of each target token from those before it and the source; `start`, `step`, `reorder` write."""

    Config: ClassVar = TranslatorConfig
    TINY: ClassVar = TranslatorConfig(layers=2, width=16, heads=2, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 2e-3, "schedule": "warmup", "clip": 1.0}
    LOSS: ClassVar[dict[str, Any]] = {"smoothing": 0.1}
    parallel: ClassVar[bool] = True
    """All target tokens are read in one pass: scheduled sampling takes two passes, not a step a token."""

    def __init__(self, config: TranslatorConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        if config.share and inputs != outputs:
            raise SadariError(
                f"{inputs} source tokens and {outputs} target tokens cannot share one table; use share=False"
            )
        self.config = config
        C = config.width
        self.source_embedding = None if config.share else nn.Embedding(inputs, C)
        self.embedding = nn.Embedding(outputs, C)  # the target's
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(Layer(config, crossing=False) for _ in range(config.layers))
        self.encoder_norm = nn.LayerNorm(C) if config.norm_first else None
        self.layers = nn.ModuleList(Layer(config, crossing=True) for _ in range(config.depth))
        self.norm = nn.LayerNorm(C) if config.norm_first else None
        self.head = make_head(self.embedding, config.tied, config.bias)
        self._places: Tensor | None = None
        initialise(self)

    def forward(
        self,
        source: Int[Tensor, "B S"],
        target: Int[Tensor, "B T"],
        rec: Recorder | None = None,
        plain: bool = False,
    ) -> Float[Tensor, "B T V"]:
        output = self.head(self.hidden(source, target, rec, plain))  # (B, T, V)
        return output if rec is None else rec("output", output)

    def hidden(
        self,
        source: Int[Tensor, "B S"],
        target: Int[Tensor, "B T"],
        rec: Recorder | None = None,
        plain: bool = False,
    ) -> Float[Tensor, "B T C"]:
        """What the head reads, of all target tokens in one pass. PAD may stand anywhere in a source, and at
        the right of a target.

        With a recorder the attentions are written down too, as `plain` does: encoder.0.self (B, H, S, S),
        layers.0.self (B, H, T, T), layers.0.cross (B, H, T, S), and so on.
        """
        plain, rec = plain or rec is not None, rec or unrecorded
        memory, real = self.encode(source, rec, plain)
        x = rec("target", self._embed(self.embedding, self._opened(target)))
        for i, (layer, cross) in enumerate(zip(self.layers, self._project(memory), strict=True)):
            x = layer(x, None, True, None, cross, real, plain, _under(rec, f"layers.{i}"))
            x = rec(f"layers.{i}", x)
        return rec("hidden", x if self.norm is None else self.norm(x))

    def encode(
        self, source: Int[Tensor, "B S"], rec: Recorder = unrecorded, plain: bool = False
    ) -> tuple[Float[Tensor, "B S C"], Bool[Tensor, "B 1 1 S"] | None]:
        """What the encoder makes of each source token, and where there is one (None = everywhere)."""
        there = is_real(source)
        real = None if bool(there.all()) else there[:, None, None]  # (B, 1, 1, S), for every layer
        x = rec("source", self._embed(self.source_embedding or self.embedding, source))
        for i, layer in enumerate(self.encoder):
            x = rec(f"encoder.{i}", layer(x, real, plain=plain, rec=_under(rec, f"encoder.{i}")))
        return rec("memory", x if self.encoder_norm is None else self.encoder_norm(x)), real

    def start(self, source: Int[Tensor, "B S"]) -> Translation:
        """Read the sources, once, with every layer's keys and values of them; nothing is written yet."""
        memory, real = self.encode(source)
        cross = self._project(memory)
        B, H, _, D = cross[0][0].shape
        past = cross[0][0].new_empty(len(self.layers), 2, B, H, ROOM, D)
        steps: tuple[StepLayer, ...] = ()
        few = None
        if can_step(self, memory):
            cross = [(k.contiguous(), v.contiguous()) for k, v in cross]
            steps = tuple(map(StepLayer, self.layers))
            few = few_rows(self.layers, self.norm, self.embedding, self.head)
        return Translation(cross, real, torch.arange(B, device=past.device), 1, past, steps=steps, few=few)

    def step(
        self, tokens: Int[Tensor, "R T"], state: Translation
    ) -> tuple[Float[Tensor, "R V"], Translation]:
        """Write T further target tokens, START being the first; the logits of the next, and the state."""
        T, begin = tokens.shape[1], state.length
        past, end = state.past, begin + T
        if end > past.shape[4]:
            past = past.new_empty(*past.shape[:4], max(end, 2 * past.shape[4]), past.shape[5])
            past[..., :begin, :] = state.past[..., :begin, :]
        tokens = tokens if begin else self._opened(tokens)
        if T == 1 and state.few is not None and tokens.shape[0] <= state.few.rows:
            place = self._waves(end, past)[begin]
            logits = state.few(tokens, place, self._size, past, begin, state.cross, state.real)
            return logits, replace(state, past=past, length=end)
        x = self._embed(self.embedding, tokens, begin)  # (R, T, C)
        if T == 1 and state.steps:
            x, hidden = x[:, 0], None if state.real is None else ~state.real
            for step, own, cross in zip(state.steps, past, state.cross, strict=True):
                x = step(x, own, begin, cross, hidden)
        else:
            for i, layer in enumerate(self.layers):
                remember = _remember(past[i], begin, end)
                x = layer(x, None, True, remember, state.cross[i], state.real)
            x = x[:, -1]
        h = x if self.norm is None else self.norm(x)  # (R, C)
        return self.head(h), replace(state, past=past, length=end)

    def reorder(self, state: Translation, rows: Int[Tensor, " R"]) -> Translation:
        """The state of these rows, in this order; a row may be taken more than once or not at all.

        Rows that stay where they are cost nothing: where half of them do, only the others are written over,
        one by one. A source's keys and values are copied only when sources come or go, or its rows no longer
        stand side by side in equal numbers.
        """
        there, before = rows.tolist(), state.past.shape[2]
        moved = {i: row for i, row in enumerate(there) if i != row}
        if len(there) == before and not moved:
            return state
        rows = rows.to(state.past.device)
        past = state.past if len(there) == before else state.past[:, :, : len(there)]
        apart = len(there) <= before and not moved.keys() & set(moved.values())  # what is read stays
        if apart and state.few is not None and before <= state.few.rows:
            state.few.move(state.past, state.length, there)
        elif apart and 2 * len(moved) <= len(there):
            written = state.past[..., : state.length, :]
            for i, row in moved.items():
                written[:, :, i] = written[:, :, row]
        else:
            used = -(-(state.length + 1) // STRIDE) * STRIDE  # so much of the room is copied
            past = state.past[..., :used, :].index_select(2, rows)
        state = state if past is state.past else replace(state, past=past)
        if len(there) == before and all(i // state.each == row // state.each for i, row in moved.items()):
            return state
        index = rows // state.each  # of each new row, in the sources that are kept
        runs, counts = torch.unique_consecutive(state.origin[index], return_counts=True)
        each = len(rows) // max(len(runs), 1)
        if not bool((counts == each).all()):
            each = 1
        index = index[::each]
        origin = state.origin[index]
        if torch.equal(origin, state.origin):
            return replace(state, each=each)
        cross = [(k.index_select(0, index), v.index_select(0, index)) for k, v in state.cross]
        real = None if state.real is None else state.real.index_select(0, index)
        return replace(state, cross=cross, real=real, origin=origin, each=each)

    def alignment(
        self, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"], layer: int = -1
    ) -> Float[Tensor, "B T S"]:
        """What each target token looked at to tell the next: the mean over one decoder layer's heads.

        Rows sum to 1, with 0 on PAD. SadariError for a layer that is not there.
        """
        depth = len(self.layers)
        if not -depth <= layer < depth:
            raise SadariError(f"layer {layer}: the decoder has {depth}, from 0 to {depth - 1}; use layer=-1")
        wanted, found = f"layers.{layer % depth}.cross", []

        def rec(name: str, value: Tensor) -> Tensor:
            if name == wanted:
                found.append(value)
            return value

        self.hidden(source, target, rec)
        return found[0].mean(1)

    def _project(self, memory: Float[Tensor, "B S C"]) -> list[tuple[Tensor, Tensor]]:
        """Each decoder layer's keys and values (B, H, S, D) of the source."""
        crosses = (layer.cross for layer in self.layers if isinstance(layer, Layer))
        return [cross.project(memory) for cross in crosses if cross is not None]

    def _opened(self, target: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """START is read as PAD, whose vector is zero, unless it has a vector of its own."""
        return target if self.config.begin == "word" else F.pad(target[:, 1:], (1, 0), value=PAD)

    def _embed(self, table: nn.Embedding, tokens: Int[Tensor, "B T"], begin: int = 0) -> Tensor:
        """Words with their places, the first of which is `begin`."""
        x, end = embed(table, tokens), begin + tokens.shape[1]  # (B, T, C)
        return self.dropout(torch.add(self._waves(end, x)[begin:end], x, alpha=self._size))

    def _waves(self, count: int, like: Tensor) -> Float[Tensor, "T C"]:
        """At least so many places, where and as the numbers of `like` are."""
        places, kind = self._places, (like.device, like.dtype)
        if places is None or len(places) < count or (places.device, places.dtype) != kind:
            places = waves(max(2 * count, 64), self.config.width, self.config.positions).to(like)
            self._places = places
        return places

    @property
    def _size(self) -> float:
        """What a word's vector is multiplied by."""
        return math.sqrt(self.config.width) if self.config.scaled else 1.0

    @staticmethod
    def parameter_count(config: TranslatorConfig, inputs: int, outputs: int) -> int:
        """A table's V C for each vocabulary, V for the head's bias, and the layers.

        An attention has 4 C (C + 1), a feed-forward part 2 C F + F + C, a norm 2 C. A layer of the encoder
        has 1, 1 and 2 of these, one of the decoder 2, 1 and 3; norms stand at both ends if they come first.
        """
        C, units = config.width, config.units
        attention, feed, norm = 4 * C * (C + 1), 2 * C * units + units + C, 2 * C
        layers = config.layers * (attention + feed + 2 * norm) + config.depth * (
            2 * attention + feed + 3 * norm
        )
        tables = (0 if config.share else inputs * C) + outputs * C * (1 if config.tied else 2)
        return layers + 2 * norm * config.norm_first + tables + outputs * config.bias

    @staticmethod
    def macs(config: TranslatorConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a source and a target of T tokens each, taught in one pass.

        L T (4 C^2 + 2 C F + 2 T C) in the encoder, L T (8 C^2 + 2 C F + 4 T C) in the decoder, and T C V.
        """
        C, T, units = config.width, length, config.units
        encoder = 4 * C * C + 2 * C * units + 2 * T * C
        decoder = 8 * C * C + 2 * C * units + 4 * T * C
        return T * (config.layers * encoder + config.depth * decoder + C * outputs)

    @classmethod
    def from_marian(
        cls, source: str | Path | Mapping[str, Tensor], settings: Mapping[str, Any] | None = None
    ) -> Translator:
        """A Translator with the weights of transformers' MarianMTModel, in their number type; a copy of them.

        source    a folder with config.json and *.safetensors (one file, or several and their index), or
                  tensors by name, as `state_dict()` of MarianMTModel gives them
        settings  the content of config.json; only needed beside a state

        Marian's pad token is an ordinary row here, and begins a target, as START does (`begin="word"`); what
        fills up a shorter text is our PAD. `sadari.marian.read_marian` gives START's and END's numbers.
        Raises SadariError where something of it is missing or is what this model cannot do.
        """
        found = read_marian(source, settings)
        with torch.device("meta"):
            model = cls(TranslatorConfig(**found.config), found.inputs, found.outputs)
        adopt(model, found.state)
        return model


def waves(length: int, width: int, positions: str = "halves") -> Float[Tensor, "T C"]:
    """Each place as waves, sin and cos of place / 10000^(2i / C): by turns, or all sines before all cosines.

    In double precision until the end, as transformers reckons Marian's: at place 1000 a float32 angle is off
    by as much as 3e-5.
    """
    rates = SLOWEST ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)  # (C / 2,)
    angles = torch.arange(length, dtype=torch.float64).unsqueeze(1) * rates  # (T, C / 2)
    if positions == "interleaved":
        return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :width].float()
    return torch.cat((angles.sin(), angles[:, : width // 2].cos()), -1).float()


def _under(rec: Recorder, name: str) -> Recorder:
    """A recorder of what lies inside a part of this name."""
    return rec if rec is unrecorded else lambda inner, value: rec(f"{name}.{inner}", value)


def _remember(past: Float[Tensor, "2 R H room D"], begin: int, end: int) -> Callable[[Tensor], Tensor]:
    """Writes a layer's new keys and values (2, R, H, T, D) behind the old; gives all."""

    def remember(kv: Tensor) -> Tensor:
        past[:, :, :, begin:end] = kv
        return past[:, :, :, :end]

    return remember


def laws(model: Translator) -> dict[str, tuple[str, float]]:
    """The law of each parameter at birth: name -> (law, standard deviation or value).

    | parameter                     | law                       | why                                        |
    |-------------------------------|---------------------------|--------------------------------------------|
    | embeddings, a head of its own | normal, 1 / sqrt(C)       | read sqrt(C) times as large: size one, as  |
    |                               |                           | the waves; and first logits of size one    |
    | qkv, query, kv                | normal, 1 / sqrt(2 C)     | first scores near zero: all is looked at   |
    | out                           | normal, 1 / sqrt(C)       | level variance (Glorot 2010)               |
    | up, down                      | normal, sqrt(2 / (C + F)) | Glorot 2010                                |
    | norms' weights                | constant, 1               |                                            |
    | biases                        | constant, 0               |                                            |
    """
    C, units = model.config.width, model.config.units
    deviations = {
        "qkv": (2 * C) ** -0.5,
        "query": (2 * C) ** -0.5,
        "kv": (2 * C) ** -0.5,
        "out": C**-0.5,
        "up": (2 / (C + units)) ** 0.5,
        "down": (2 / (C + units)) ** 0.5,
    }
    table = {}
    for name, parameter in model.named_parameters():
        owner, part = name.split(".")[-2:]
        if parameter.ndim == 1:
            table[name] = ("constant", float("norm" in owner and part == "weight"))
        else:
            table[name] = ("normal", deviations.get(owner, C**-0.5))
    return table


@torch.no_grad()
def initialise(model: Translator) -> None:
    """Draw every parameter by its law from torch's global generator (`torch.manual_seed`)."""
    table = laws(model)
    for name, parameter in model.named_parameters():
        law, value = table[name]
        if law == "normal":
            parameter.normal_(0.0, value)
        else:
            parameter.fill_(value)
