"""LSTM (Hochreiter & Schmidhuber 1997; forget gate Gers et al. 2000): an RNN with a cell and three gates.

What differs from the rung below (rnn): beside the state h there is a cell c, which is added to instead of
being made anew, and three gates that write it, keep it and read it. What a gate keeps stays as it is for as
long as the gate stays open, and so does the gradient that teaches it; a plain state is squashed at every
step.

      c before ----(x)-------------(+)--------+----- c after
                    |               |         |
                 forget    input --(x)       tanh
                    |               |         |
      h before, x --+-- gates ----write      (x)-- output gate
                                              |
                                              +----- h after
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.layers import recurrent
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.recurrent import State, check_recurrent, core_macs, core_parameters, initialise, make_core
from sadari.layers.tokens import embed, is_real
from sadari.models.rnn import RNNLanguage, RNNLanguageConfig


class LSTMCell:
    """One step in the open: c = f c + i g, h = o tanh(c), each gate from W x + b + U h + b'."""

    def __init__(self, lstm: nn.LSTM, layer: int = 0, back: int = 0) -> None:
        self.W, self.U, self.b, self.b_ = recurrent.weights_of(lstm, layer, back)

    def __call__(self, x: Float[Tensor, "B C"], state: State, rec: Recorder = unrecorded) -> State:
        h, c = state
        i, f, g, o = (F.linear(x, self.W, self.b) + F.linear(h, self.U, self.b_)).chunk(4, -1)  # each (B, C)
        i, f, o = rec("input", i.sigmoid()), rec("forget", f.sigmoid()), rec("output", o.sigmoid())
        c = rec("cell", f * c + i * rec("write", g.tanh()))  # keep some, write some
        return rec("hidden", o * c.tanh()), c


@dataclass(frozen=True)
class LSTMConfig:
    """Settings of a recurrent network that answers once a text or a series."""

    width: int = 64
    """Size C of the state h and of the cell c, and of the vector of each word."""
    layers: int = 1
    """Layers L: each reads the states of the one below."""
    directions: int = 2
    """2 reads forwards and, by weights of its own, backwards, and puts both ends side by side; 1 forwards."""
    dropout: float = 0.2
    """Share silenced at random of what goes from layer to layer and to the answer; never of what a state
    or a cell keeps."""

    def __post_init__(self) -> None:
        check_recurrent(self)


class LSTM(nn.Module):
    """A text's class: embed its tokens, read them in turn, answer from the state after the last."""

    Config: ClassVar = LSTMConfig
    TINY: ClassVar = LSTMConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.01, "clip": 1.0}

    def __init__(self, config: LSTMConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(inputs, config.width)
        self.lstm: nn.LSTM = make_core(nn.LSTM, config)
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
        cell = LSTMCell if plain else None
        states, _ = recurrent.read(self.lstm, self.dropout(x), real.sum(-1), cell=cell, rec=rec)  # (B, T, W)
        last = rec("last", recurrent.last_states(self.lstm, rec("states", states), real))  # (B, W)
        return rec("output", self.output(self.dropout(last)))  # (B, O)

    @staticmethod
    def parameter_count(config: LSTMConfig, inputs: int, outputs: int) -> int:
        """V C, then ways 4 C (i + C + 2) a layer that reads i numbers, then O (ways C + 1)."""
        C, D = config.width, config.directions
        return inputs * C + core_parameters(4, C, config.layers, D) + outputs * (D * C + 1)

    @staticmethod
    def macs(config: LSTMConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a text of `length` tokens: one a weight at each step, and the answer's."""
        C, D = config.width, config.directions
        return length * core_macs(4, C, config.layers, D) + D * C * outputs


class LSTMSeries(nn.Module):
    """As LSTM, for numbers in their order: each step reads one, by a line instead of an embedding."""

    Config: ClassVar = LSTMConfig
    TINY: ClassVar = LSTMConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.01, "clip": 1.0, "batch_size": 100}

    def __init__(self, config: LSTMConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Linear(1, config.width)
        self.lstm: nn.LSTM = make_core(nn.LSTM, config)
        self.output = nn.Linear(config.directions * config.width, outputs)
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)

    def forward(
        self, features: Float[Tensor, "B T"], rec: Recorder | None = None, plain: bool = False
    ) -> Float[Tensor, "B O"]:
        """One answer a row; `plain` reads with the readable cell, whose values the recorder is given."""
        rec = rec or unrecorded
        x = rec("embedded", self.enter(features.unsqueeze(-1)))  # (B, T, C)
        cell = LSTMCell if plain else None
        states, _ = recurrent.read(self.lstm, x, cell=cell, rec=rec)  # (B, T, W)
        every = torch.ones_like(features, dtype=torch.bool)
        last = rec("last", recurrent.last_states(self.lstm, rec("states", states), every))  # (B, W)
        return rec("output", self.output(self.dropout(last)))  # (B, O)

    @staticmethod
    def parameter_count(config: LSTMConfig, inputs: int, outputs: int) -> int:
        """2 C to enter, then ways 4 C (i + C + 2) a layer that reads i numbers, then O (ways C + 1)."""
        C, D = config.width, config.directions
        return 2 * C + core_parameters(4, C, config.layers, D) + outputs * (D * C + 1)

    @staticmethod
    def macs(config: LSTMConfig, inputs: int, outputs: int) -> int:
        """Multiply-adds for a row of T `inputs`: one a weight at each step, and the answer's."""
        C, D = config.width, config.directions
        return inputs * (C + core_macs(4, C, config.layers, D)) + D * C * outputs


@dataclass(frozen=True)
class LSTMLanguageConfig(RNNLanguageConfig):
    """Settings of an LSTM language model: those of the RNN's; the cell is as wide as the state."""


class LSTMLanguage(RNNLanguage):
    """The next token from a state and a cell that have read all those before."""

    Config: ClassVar = LSTMLanguageConfig
    TINY: ClassVar = LSTMLanguageConfig(width=8)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.005, "clip": 1.0}
    core_class: ClassVar[Any] = nn.LSTM
    core_name: ClassVar[str] = "lstm"
    cell: ClassVar[Any] = LSTMCell
    gates: ClassVar[int] = 4

    lstm: nn.LSTM
