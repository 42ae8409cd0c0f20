"""RNN (Elman 1990; as a language model Mikolov et al. 2010): words read in turn into one state.

What differs from the rung below (embedding; n-gram for language): a text is not a heap of words but a
sequence. Each step makes a new state out of the word and the state before, with the same weights at every
step, so that the order counts, and so that histories that mean the same can share what they know.

      word t ---- W ---(+)--- tanh --- state t ----+---- the next step, the layer above, the answer
                        |                          |
                        +------ U -- state t - 1 --+
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers import recurrent
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.recurrent import State, check_recurrent, core_macs, core_parameters, initialise, make_core
from sadari.layers.tied import make_head
from sadari.layers.tokens import embed, is_real


class RNNCell:
    """One step in the open: h = tanh(W x + b + U h + b')."""

    def __init__(self, rnn: nn.RNN, layer: int = 0, back: int = 0) -> None:
        self.W, self.U, self.b, self.b_ = recurrent.weights_of(rnn, layer, back)

    def __call__(self, x: Float[Tensor, "B C"], state: State, rec: Recorder = unrecorded) -> State:
        (h,) = state
        z = rec("pre", F.linear(x, self.W, self.b) + F.linear(h, self.U, self.b_))  # (B, C)
        return (rec("hidden", z.tanh()),)


@dataclass(frozen=True)
class RNNConfig:
    """Settings of a recurrent network that answers once a text or a series."""

    width: int = 64
    """Size C of the state h, and of the vector of each word."""
    layers: int = 1
    """Layers L: each reads the states of the one below."""
    directions: int = 2
    """2 reads forwards and, by weights of its own, backwards, and puts both ends side by side; 1 forwards."""
    dropout: float = 0.2
    """Share silenced at random of what goes from layer to layer and to the answer; never of what a state
    keeps."""

    def __post_init__(self) -> None:
        check_recurrent(self)


class RNN(nn.Module):
    """A text's class: embed its tokens, read them in turn, answer from the state after the last."""

    Config: ClassVar = RNNConfig
    TINY: ClassVar = RNNConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.001, "clip": 1.0}

    def __init__(self, config: RNNConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(inputs, config.width)
        self.rnn: nn.RNN = make_core(nn.RNN, config)
        self.output = nn.Linear(config.directions * config.width, outputs)
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)

    def forward(
        self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None, plain: bool = False
    ) -> Float[Tensor, "B O"]:
        """Logits; `plain` reads with the readable cell, whose values the recorder is given."""
        rec = rec or unrecorded
        real = is_real(tokens)
        x = rec("embedded", embed(self.embedding, tokens))  # (B, T, C)
        cell = RNNCell if plain else None
        states, _ = recurrent.read(self.rnn, self.dropout(x), real.sum(-1), cell=cell, rec=rec)  # (B, T, W)
        last = rec("last", recurrent.last_states(self.rnn, rec("states", states), real))  # (B, W)
        return rec("output", self.output(self.dropout(last)))  # (B, O)

    @staticmethod
    def parameter_count(config: RNNConfig, inputs: int, outputs: int) -> int:
        """V C, then ways C (i + C + 2) a layer that reads i numbers, then O (ways C + 1)."""
        C, D = config.width, config.directions
        return inputs * C + core_parameters(1, C, config.layers, D) + outputs * (D * C + 1)

    @staticmethod
    def macs(config: RNNConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a text of `length` tokens: one a weight at each step, and the answer's."""
        C, D = config.width, config.directions
        return length * core_macs(1, C, config.layers, D) + D * C * outputs


class RNNSeries(nn.Module):
    """As RNN, for numbers in their order: each step reads one, by a line instead of an embedding."""

    Config: ClassVar = RNNConfig
    TINY: ClassVar = RNNConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.003, "clip": 1.0}

    def __init__(self, config: RNNConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Linear(1, config.width)
        self.rnn: nn.RNN = make_core(nn.RNN, config)
        self.output = nn.Linear(config.directions * config.width, outputs)
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)

    def forward(
        self, features: Float[Tensor, "B T"], rec: Recorder | None = None, plain: bool = False
    ) -> Float[Tensor, "B O"]:
        """One answer a row; `plain` reads with the readable cell, whose values the recorder is given."""
        rec = rec or unrecorded
        x = rec("embedded", self.enter(features.unsqueeze(-1)))  # (B, T, C)
        cell = RNNCell if plain else None
        states, _ = recurrent.read(self.rnn, x, cell=cell, rec=rec)  # (B, T, W)
        every = torch.ones_like(features, dtype=torch.bool)
        last = rec("last", recurrent.last_states(self.rnn, rec("states", states), every))  # (B, W)
        return rec("output", self.output(self.dropout(last)))  # (B, O)

    @staticmethod
    def parameter_count(config: RNNConfig, inputs: int, outputs: int) -> int:
        """2 C to enter, then ways C (i + C + 2) a layer that reads i numbers, then O (ways C + 1)."""
        C, D = config.width, config.directions
        return 2 * C + core_parameters(1, C, config.layers, D) + outputs * (D * C + 1)

    @staticmethod
    def macs(config: RNNConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for a row of T `inputs`: one a weight at each step, and the answer's."""
        C, D = config.width, config.directions
        return inputs * (C + core_macs(1, C, config.layers, D)) + D * C * outputs


@dataclass(frozen=True)
class RNNLanguageConfig:
    """Settings of a recurrent language model."""

    width: int = 256
    """Size C of the state h, and of the vector of each token."""
    layers: int = 1
    """Layers L: each reads the states of the one below."""
    dropout: float = 0.0
    """Share silenced at random of what enters each layer and of what leaves the last (Zaremba 2014); never
    of what a state keeps. More for little text and many passes."""
    tied: bool = True
    """Write a token with the vector that it is read with (Press & Wolf 2016): V C fewer weights."""

    def __post_init__(self) -> None:
        check_recurrent(self)


class RNNLanguage(nn.Module):
    """The next token from a state that has read all those before; the LSTM's differs in its core alone."""

    Config: ClassVar = RNNLanguageConfig
    TINY: ClassVar = RNNLanguageConfig(width=8)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.003, "clip": 1.0}
    carries: ClassVar[bool] = True
    context: ClassVar[int | None] = None
    core_class: ClassVar[Any] = nn.RNN
    core_name: ClassVar[str] = "rnn"
    cell: ClassVar[Any] = RNNCell
    gates: ClassVar[int] = 1

    rnn: nn.RNN

    def __init__(self, config: RNNLanguageConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        if inputs != outputs:
            raise SadariError(f"{inputs} tokens read but {outputs} written: a language has one vocabulary")
        self.config = config
        self.embedding = nn.Embedding(inputs, config.width)
        setattr(self, self.core_name, make_core(self.core_class, config))  # under torch's usual name
        self.head = make_head(self.embedding, config.tied)
        self.scale = math.sqrt(config.width) if config.tied else 1.0  # small to write with, large to read
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)

    @property
    def core(self) -> nn.RNNBase:
        """The recurrent layers."""
        return getattr(self, self.core_name)

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        state: State | None = None,
        rec: Recorder | None = None,
        plain: bool = False,
    ) -> tuple[Float[Tensor, "B T C"], State]:
        """The last layer's states, and the state to go on from; `state` None is the beginning."""
        rec = rec or unrecorded
        x = rec("embedded", self.embedding(tokens) * self.scale)  # (B, T, C)
        cell = self.cell if plain else None
        states, state = recurrent.read(self.core, self.dropout(x), state=state, cell=cell, rec=rec)
        return rec("states", self.dropout(states)), state

    def forward(
        self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None, plain: bool = False
    ) -> Float[Tensor, "B T V"]:
        """Logits from the beginning; those at t foretell token t + 1."""
        logits = self.head(self.hidden(tokens, None, rec, plain)[0])
        return logits if rec is None else rec("output", logits)

    def start(self, batch: int) -> State:
        """The state before the first token: zeros, each part (L, B, C)."""
        return recurrent.start(self.core, batch)

    def step(self, tokens: Int[Tensor, "B T"], state: State) -> tuple[Float[Tensor, "B V"], State]:
        """Read T tokens more; logits of the one after them."""
        states, state = self.hidden(tokens, state)
        return self.head(states[:, -1]), state

    def reorder(self, state: State, rows: Int[Tensor, " b"]) -> State:
        """The state of those rows, in that order."""
        return tuple(part[:, rows] for part in state)

    @classmethod
    def parameter_count(cls, config: RNNLanguageConfig, inputs: int, outputs: int) -> int:
        """V C, once if tied, else twice; V biases; G C (i + C + 2) a layer that reads i numbers, G gates."""
        C = config.width
        return inputs * (C * (1 if config.tied else 2) + 1) + core_parameters(cls.gates, C, config.layers)

    @classmethod
    def macs(cls, config: RNNLanguageConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for one token, however long the context: one a weight, those of the head included."""
        return core_macs(cls.gates, config.width, config.layers) + config.width * outputs
