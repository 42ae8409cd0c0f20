"""Attention: an LSTM whose states are all looked at, each by its weight.

What differs from the rung below (lstm): the answer is not made from the last state alone, which would have to
hold everything. Each state is given a score, the scores become weights that sum to one, and the answer is
made from the weighted sum; so the first word is as near to the answer as the last. The score is the additive
one of Bahdanau et al. 2014 (1409.0473), asked by one learnt query as in Yang et al. 2016.

      h_1   h_2   ...   h_T          s_t = v . tanh(W h_t + b)       a = softmax(s)
       |     |           |
      a_1   a_2         a_T          pooled = a_1 h_1 + ... + a_T h_T ---- output
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.layers import recurrent
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.recurrent import check_recurrent, core_macs, core_parameters, initialise, make_core
from sadari.layers.tokens import embed, is_real
from sadari.models.lstm import LSTMCell


@dataclass(frozen=True)
class AttentionConfig:
    """Settings of an LSTM with attention over its states."""

    width: int = 64
    """Size C of the state h and of the cell c, of each word's vector, and of what a score is made from."""
    layers: int = 1
    """Layers L: each reads the states of the one below."""
    directions: int = 2
    """1 reads forwards; 2 also backwards by weights of its own, so that each state knows both sides."""
    dropout: float = 0.2
    """Share silenced at random of what goes from layer to layer and to the answer; never of what a state
    or a cell keeps."""

    def __post_init__(self) -> None:
        check_recurrent(self)


class Attention(nn.Module):
    """A text's class: embed its tokens, read them in turn, weigh all states, answer from their sum."""

    Config: ClassVar = AttentionConfig
    TINY: ClassVar = AttentionConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.01, "clip": 1.0}

    def __init__(self, config: AttentionConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        across = config.directions * config.width
        self.embedding = nn.Embedding(inputs, config.width)
        self.lstm: nn.LSTM = make_core(nn.LSTM, config)
        self.key = nn.Linear(across, config.width)
        self.query = nn.Linear(config.width, 1, bias=False)
        self.output = nn.Linear(across, outputs)
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)

    def forward(
        self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None, plain: bool = False
    ) -> Float[Tensor, "B O"]:
        """Logits; `plain` reads with the readable cell, whose values the recorder is given.

        1. embed  2. recur  3. score  4. weigh  5. answer
        """
        rec = rec or unrecorded
        real = is_real(tokens)
        x = rec("embedded", embed(self.embedding, tokens))  # (B, T, C)
        cell = LSTMCell if plain else None
        states, _ = recurrent.read(self.lstm, self.dropout(x), real.sum(-1), cell=cell, rec=rec)
        states = rec("states", states)  # (B, T, W)
        scores = self.query(self.key(states).tanh()).squeeze(-1)  # (B, T)
        # the lowest number instead of minus infinity, so that a text without any token has finite weights
        scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)
        weights = rec("attention", scores.softmax(-1) * real)  # (B, T), zero on padding
        pooled = rec("pooled", torch.einsum("bt,btw->bw", weights, states))  # (B, W)
        return rec("output", self.output(self.dropout(pooled)))  # (B, O)

    @staticmethod
    def parameter_count(config: AttentionConfig, inputs: int, outputs: int) -> int:
        """V C, the LSTM's, C (W + 1) + C for the scores, O (W + 1) for the answer; W = ways C."""
        C, W = config.width, config.directions * config.width
        core = core_parameters(4, C, config.layers, config.directions)
        return inputs * C + core + C * (W + 2) + outputs * (W + 1)

    @staticmethod
    def macs(config: AttentionConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a text of `length` tokens: the LSTM's, the score's and the sum's at each step."""
        C, W = config.width, config.directions * config.width
        step = core_macs(4, C, config.layers, config.directions) + C * W + C + W
        return length * step + W * outputs
