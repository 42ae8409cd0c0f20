"""RNN and LSTM from one text to another: what was read is one vector, and the answer is written from it.

What differs from the rung below (lookup): the answer is made, word by word, not found. One network, the
encoder, reads the source; its last states are all that a second one, the decoder, starts from (Cho et al.
2014, 1406.1078; Sutskever et al. 2014, 1409.3215). The decoder is a language model with a beginning: it reads
what stands in the target so far and foretells the next token.

      source   s_1 -- s_2 -- ... -- s_S -- vector -- bridge -- t_1 -- t_2 -- ... -- END
                                                                |      |
                                                              START   t_1            what it reads

The vector has the same size for three words and for three hundred: a book is closed before it is translated.

Choices that the two papers leave open. The vector is the last layer's state in which each direction ends,
2 C numbers; Sutskever hands over every layer's state and cell, but of a padded batch a fused kernel gives the
cells behind the padding only. The bridge is tanh(V vector), Cho's, for each layer's state and each layer's
cell. The vector is given to the decoder's first step only, as Sutskever has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers import recurrent
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.recurrent import (
    State,
    check_recurrent,
    core_macs,
    core_parameters,
    initialise,
    make_core,
    under,
)
from sadari.layers.tied import make_head
from sadari.layers.tokens import embed, is_real
from sadari.models.lstm import LSTMCell
from sadari.models.rnn import RNNCell


@dataclass(frozen=True)
class Seq2SeqConfig:
    """Settings of a recurrent network that reads one text and writes another."""

    width: int = 256
    """Size C of the states of both networks, and of the vector of each token."""
    layers: int = 1
    """Layers L of each of the two: each reads the states of the one below."""
    directions: int = 2
    """2 reads the source forwards and, by weights of its own, backwards; 1 forwards. Writing has one."""
    dropout: float = 0.2
    """Share silenced at random of what enters each network, goes from layer to layer and to the head; never
    of what a state keeps."""
    tied: bool = True
    """Write a token with the vector that it is read with (Press & Wolf 2016): V C fewer weights."""
    share: bool = False
    """One table of vectors for both sides, where both have one vocabulary."""
    reverse: bool = False
    """Read the source from its end, so that its first words stand nearest to the answer's first (Sutskever
    2014). With 2 directions the source is read from both ends anyway."""

    def __post_init__(self) -> None:
        check_recurrent(self)


class Seq2Seq(nn.Module):
    """An encoder, a bridge and a decoder; RNNTranslator and LSTMTranslator say what they are made of."""

    Config: ClassVar[Any] = Seq2SeqConfig
    core: ClassVar[type[nn.RNNBase]]
    cell: ClassVar[Any]
    gates: ClassVar[int]
    """Products that a step makes: 4 of an LSTM, 1 of an RNN."""
    parts: ClassVar[int]
    """Vectors that a layer keeps: h and c of an LSTM, h of an RNN."""

    def __init__(self, config: Any, inputs: int, outputs: int) -> None:
        super().__init__()
        if config.share and inputs != outputs:
            raise SadariError(
                f"share: {inputs} tokens read but {outputs} written, and one table serves one vocabulary; "
                "use share=false, or one vocabulary for both sides"
            )
        C, across = config.width, config.directions * config.width
        self.config = config
        self.embedding = nn.Embedding(outputs, C)  # of the target, and of the source too where shared
        self.source_embedding = None if config.share else nn.Embedding(inputs, C)
        self.encoder: Any = make_core(self.core, config)
        self.bridge = nn.Linear(across, self.parts * config.layers * C)
        self.decoder: Any = make_core(self.core, config, self._reads(config), directions=1)
        self.head = make_head(self.embedding, config.tied)
        self.scale = math.sqrt(C) if config.tied else 1.0  # small to write with, large to read
        self.dropout = nn.Dropout(config.dropout)
        self._complete()
        initialise(self)

    def _complete(self) -> None:
        """Layers that a rung above adds."""

    @classmethod
    def _reads(cls, config: Any) -> int:
        """Numbers that the decoder's first layer reads at a step."""
        return config.width

    # ------------------------------------------------------------------ reading

    def encode(
        self, source: Int[Tensor, "B S"], rec: Recorder = unrecorded, plain: bool = False
    ) -> tuple[Float[Tensor, "B S W"], Float[Tensor, "B W"]]:
        """The last layer's states, W = ways C, and the one vector: that in which each direction ends."""
        rec, real = under("encoder", rec), is_real(source)
        lengths = real.sum(-1)
        table = self.embedding if self.source_embedding is None else self.source_embedding
        x = rec("embedded", embed(table, source) * self.scale)  # (B, S, C)
        if getattr(self.config, "reverse", False):
            x = recurrent.turned(x, lengths)
        cell = self.cell if plain else None
        states, _ = recurrent.read(self.encoder, self.dropout(x), lengths, cell=cell, rec=rec)
        states = rec("states", states)
        return states, rec("vector", recurrent.last_states(self.encoder, states, real))

    def bridged(self, vector: Float[Tensor, "B W"], rec: Recorder = unrecorded) -> State:
        """The decoder's first state, its parts each (L, B, C)."""
        first = rec("bridge", self.bridge(vector).tanh()).to(self.bridge.weight.dtype)  # (B, parts L C)
        B, C = len(first), self.config.width
        return tuple(first.view(B, self.parts, -1, C).permute(1, 2, 0, 3).contiguous())

    def first_state(self, source: Int[Tensor, "B S"], rec: Recorder = unrecorded, plain: bool = False) -> Any:
        """The source read, as the state before START."""
        return self.bridged(self.encode(source, rec, plain)[1], rec)

    # ------------------------------------------------------------------ writing

    def embedded(self, target: Int[Tensor, "B T"], rec: Recorder) -> Float[Tensor, "B T C"]:
        """What the decoder reads of the target."""
        return self.dropout(rec("embedded", embed(self.embedding, target) * self.scale))

    def decode(
        self, target: Int[Tensor, "B T"], state: Any, rec: Recorder = unrecorded, plain: bool = False
    ) -> tuple[Float[Tensor, "B T C"], Any]:
        """The states that foretell the token after each one, and the state to go on from."""
        rec = under("decoder", rec)
        x, cell = self.embedded(target, rec), self.cell if plain else None
        return recurrent.read(self.decoder, x, state=state, cell=cell, rec=rec)

    def hidden(
        self,
        source: Int[Tensor, "B S"],
        target: Int[Tensor, "B T"],
        rec: Recorder | None = None,
        plain: bool = False,
    ) -> Float[Tensor, "B T C"]:
        """What the head makes logits of; `plain` reads with the readable cells, for the recorder."""
        rec = rec or unrecorded
        states, _ = self.decode(target, self.first_state(source, rec, plain), rec, plain)
        return rec("states", self.dropout(states))

    def forward(
        self,
        source: Int[Tensor, "B S"],
        target: Int[Tensor, "B T"],
        rec: Recorder | None = None,
        plain: bool = False,
    ) -> Float[Tensor, "B T V"]:
        """Logits under teacher forcing: the target begins with START, those at t foretell token t + 1.

        PAD (-1) fills up both at the right.
        """
        logits = self.head(self.hidden(source, target, rec, plain))
        return logits if rec is None else rec("output", logits)

    def start(self, source: Int[Tensor, "B S"]) -> Any:
        """The state before START; its size does not depend on the source's."""
        return self.first_state(source)

    def step(self, tokens: Int[Tensor, "B T"], state: Any) -> tuple[Float[Tensor, "B V"], Any]:
        """Read T tokens more of the target; logits of the one after them."""
        states, state = self.decode(tokens, state)
        return self.head(self.dropout(states[:, -1])), state

    def reorder(self, state: Any, rows: Int[Tensor, " b"]) -> Any:
        """The state of those rows, in that order."""
        return tuple(part[:, rows] for part in state)

    # ------------------------------------------------------------------ counting

    @classmethod
    def parameter_count(cls, config: Any, inputs: int, outputs: int) -> int:
        """The tables' (V + V') C, or V C if shared; V biases, and V C more unless tied; both networks'.

        A network has G C (i + C + 2) a layer and direction that reads i numbers (G gates: 4 or 1), the
        bridge (ways C + 1) L C, twice that for an LSTM.
        """
        C, L, D = config.width, config.layers, config.directions
        tables = (outputs if config.share else inputs + outputs) * C
        head = outputs * (1 if config.tied else C + 1)
        encoder = core_parameters(cls.gates, C, L, D)
        decoder = core_parameters(cls.gates, C, L, inputs=cls._reads(config))
        return tables + head + encoder + (D * C + 1) * cls.parts * L * C + decoder

    @classmethod
    def macs(cls, config: Any, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a pair of `length` tokens a side: one a weight at each step, and the bridge's."""
        C, L, D = config.width, config.layers, config.directions
        encoder = core_macs(cls.gates, C, L, D)
        decoder = core_macs(cls.gates, C, L, inputs=cls._reads(config))
        return length * (encoder + decoder + C * outputs) + D * C * cls.parts * L * C


class RNNTranslator(Seq2Seq):
    """Both networks are plain RNNs."""

    TINY: ClassVar[Any] = Seq2SeqConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.003, "clip": 1.0}
    core, cell, gates, parts = nn.RNN, RNNCell, 1, 1


class LSTMTranslator(Seq2Seq):
    """Both networks are LSTMs: a cell keeps what an RNN's state has forgotten."""

    TINY: ClassVar[Any] = Seq2SeqConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.003, "clip": 1.0}
    core, cell, gates, parts = nn.LSTM, LSTMCell, 4, 2
