"""LSTM with attention from one text to another: each word of the answer looks at all of the source.

What differs from the rung below (lstm): the encoder's states are kept, all of them. At each step the
decoder's state is scored against each, the scores become weights that sum to one, and the weighted sum, the
context, has a say in the next word. Nothing has to fit into one vector: a long text has more to look at.

      h_1  h_2  ...  h_S        e = score(s_t, h)    a = softmax(e)    context = a_1 h_1 + ... + a_S h_S
       |    |         |
      a_1  a_2  ...  a_S        h~_t = tanh(W [context; s_t] + b) ------ head ------ token t + 1
       +----+----+----+           |
               context            +----- read by the decoder at step t + 1 (input feeding)

The order is Luong's (2015, 1508.04025): first the decoder moves, then it looks. Bahdanau's (2014, 1409.0473)
looks with the state before; his score is here, his order is not, since with the other a decoder that is not
fed reads a whole target in one call. His first state, tanh of a map of the backward encoder's, is here a map
of both ends' (as JoeyNMT's bridge), for each layer's h and c.

Three routes to one answer:
    batched   without feeding or coverage: one call of the decoder, all steps look at once
    looped    a step after another, and in it only what depends on the step before
    plain     a step after another as it is written above, with cells that a person can read
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.layers import recurrent
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.recurrent import State, Steps, check_recurrent, under, weights_of
from sadari.layers.scores import blocked, check_score, make_score, score_macs, score_parameters
from sadari.layers.tokens import is_real
from sadari.models.lstm import LSTMCell
from sadari.models.seq2seq import LSTMTranslator


@dataclass(frozen=True)
class LSTMAttentionConfig:
    """Settings of an LSTM encoder-decoder with attention."""

    width: int = 256
    """Size C of the states of both networks, of each token's vector, and of what a score is made from."""
    layers: int = 1
    """Layers L of each of the two: each reads the states of the one below."""
    directions: int = 2
    """2 reads the source forwards and, by weights of its own, backwards, so that each state knows both sides
    of its word; 1 forwards. Writing has one."""
    dropout: float = 0.2
    """Share silenced at random of what enters each network, goes from layer to layer and to the head; never
    of what a state keeps or of what is fed to the next step."""
    score: str = "general"
    """How a state is scored against a place: additive (Bahdanau), dot or general (Luong)."""
    feeding: bool = True
    """Let each step read what the one before has made of its look (Luong 2015), so that it knows where it has
    looked. Without it a whole target is read at once, which takes less time."""
    coverage: bool = False
    """Let the additive score know how much each place was looked at before, against words said twice (See
    2017)."""
    tied: bool = True
    """Write a token with the vector that it is read with (Press & Wolf 2016): V C fewer weights."""
    share: bool = False
    """One table of vectors for both sides, where both have one vocabulary."""

    def __post_init__(self) -> None:
        check_recurrent(self)
        check_score(self.score, self.width, self.directions * self.width, self.coverage)


@dataclass(frozen=True)
class Looking:
    """What a decoder that looks back remembers between two steps; nothing in it is written into."""

    own: State
    """The decoder's h and c, each (L, B, C)."""
    fed: Float[Tensor, "B C"]
    """What the last step has made of its look."""
    past: Float[Tensor, "B S"]
    """The sum of the weights so far; zero where coverage is not asked for."""
    memory: Float[Tensor, "B S W"]
    """The encoder's states, zero where nothing is written."""
    keys: Float[Tensor, "B S C"]
    """What a score needs of them."""
    values: Float[Tensor, "B S C"]
    """What the context's half of `mix` makes of them: the sum of these is that of the memory, mixed."""
    blocked: Float[Tensor, "B 1 S"]
    """Added to the scores, so that nobody looks where nothing is written."""
    sentence: Int[Tensor, " B"]
    """Which source each row writes from: rows that move within their sentence need no copy of the above."""


class LSTMAttention(LSTMTranslator):
    """Bidirectional LSTM, attention, LSTM."""

    Config: ClassVar[Any] = LSTMAttentionConfig
    TINY: ClassVar = LSTMAttentionConfig(width=8, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.003, "clip": 1.0}

    def _complete(self) -> None:
        config, C = self.config, self.config.width
        across = config.directions * C
        self.scores = make_score(config.score, C, across, config.coverage)
        self.mix = nn.Linear(across + C, C)  # of the context, and of the decoder's state

    @classmethod
    def _reads(cls, config: Any) -> int:
        return config.width * (2 if config.feeding else 1)

    # ------------------------------------------------------------------ reading

    def first_state(
        self, source: Int[Tensor, "B S"], rec: Recorder = unrecorded, plain: bool = False
    ) -> Looking:
        """The source read, its keys and values made, as the state before START."""
        real = is_real(source)
        states, vector = self.encode(source, rec, plain)
        memory = states * real.unsqueeze(-1)
        return Looking(
            own=self.bridged(vector, rec),
            fed=memory.new_zeros(len(source), self.config.width),
            past=memory.new_zeros(source.shape),
            memory=memory,
            keys=self.scores.keys(memory),
            values=F.linear(memory, self.mix.weight[:, : memory.shape[-1]]),
            blocked=blocked(real, memory),
            sentence=torch.arange(len(source), device=source.device),
        )

    def reorder(self, state: Looking, rows: Int[Tensor, " b"]) -> Looking:
        """The state of those rows, in that order; what belongs to the source is moved only if it must be."""
        sentence = state.sentence[rows]
        moved = {"fed": state.fed[rows], "past": state.past[rows], "sentence": sentence}
        if not torch.equal(sentence, state.sentence):
            moved |= {name: getattr(state, name)[rows] for name in ("memory", "keys", "values", "blocked")}
        return replace(state, own=tuple(part[:, rows] for part in state.own), **moved)

    # ------------------------------------------------------------------ writing

    def decode(
        self, target: Int[Tensor, "B T"], state: Looking, rec: Recorder = unrecorded, plain: bool = False
    ) -> tuple[Float[Tensor, "B T C"], Looking]:
        """What each step has made of its look, and the state to go on from."""
        rec = under("decoder", rec)
        x = self.embedded(target, rec)  # (B, T, C)
        if plain:
            return self._plain(x, state, rec)
        looped = self.config.feeding or self.config.coverage
        looks, weights, state = (self._looped if looped else self._batched)(x, state)
        rec("weights", weights * (state.blocked == 0))  # of a text of no tokens: zero
        return rec("looks", looks), state

    def _batched(self, x: Float[Tensor, "B T C"], state: Looking) -> tuple[Tensor, Tensor, Looking]:
        """1. move through all steps  2. score all of them  3. weigh  4. mix."""
        s, own = recurrent.read(self.decoder, x, state=state.own)  # (B, T, C)
        weights = (self.scores(s, state.keys) + state.blocked).softmax(-1)  # (B, T, S)
        looks = (weights @ state.values + self._mixed(s)).tanh()  # (B, T, C)
        return looks, weights, replace(state, own=own)

    def _looped(self, x: Float[Tensor, "B T C"], state: Looking) -> tuple[Tensor, Tensor, Looking]:
        """As `_batched`, one step after another: with what the step before saw, or where it has looked."""
        feeding, coverage = self.config.feeding, self.config.coverage
        fed, past = state.fed, state.past
        looks, weights = [], []
        if feeding:
            moves = _Moves(self.decoder, x, state.own)
        else:  # only the weights depend on the step before
            states, own = recurrent.read(self.decoder, x, state=state.own)
        for t in range(x.shape[1]):
            s = (moves(t, fed) if feeding else states[:, t]).unsqueeze(1)  # (B, 1, C)
            a = (self.scores(s, state.keys, past) + state.blocked).softmax(-1)  # (B, 1, S)
            fed = (a @ state.values + self._mixed(s)).tanh().squeeze(1)  # (B, C)
            looks.append(fed)
            weights.append(a)
            if coverage:
                past = past + a.squeeze(1)
        state = replace(state, own=moves.own(), fed=fed) if feeding else replace(state, own=own)
        return torch.stack(looks, 1), torch.cat(weights, 1), replace(state, past=past)

    def _mixed(self, s: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """The half of `mix` that reads the decoder's state."""
        return F.linear(s, self.mix.weight[:, -s.shape[-1] :], self.mix.bias)

    def _plain(
        self, x: Float[Tensor, "B T C"], state: Looking, rec: Recorder
    ) -> tuple[Float[Tensor, "B T C"], Looking]:
        """The readable route: 1. read  2. move  3. score  4. weigh  5. sum  6. mix, at each step."""
        steps = Steps()
        cells = [LSTMCell(self.decoder, layer) for layer in range(self.decoder.num_layers)]
        h, c = (list(part) for part in state.own)
        fed, past = state.fed, state.past
        for t in range(x.shape[1]):
            s = torch.cat([x[:, t], fed], -1) if self.config.feeding else x[:, t]
            for layer, cell in enumerate(cells):
                named = _numbered(steps, layer)
                s = F.dropout(s, self.decoder.dropout, self.training) if layer else s
                h[layer], c[layer] = cell(s, (h[layer], c[layer]), named)
                s = h[layer]  # (B, C)
            e = self.scores(s.unsqueeze(1), state.keys, past) + state.blocked
            e = steps("scores", e.squeeze(1))  # (B, S)
            a = steps("weights", e.softmax(-1) * (state.blocked == 0).squeeze(1))
            context = steps("context", torch.einsum("bs,bsw->bw", a, state.memory))
            fed = steps("looks", self.mix(torch.cat([context, s], -1)).tanh())
            past = past + a if self.config.coverage else past
        whole = {name: rec(name, value) for name, value in steps.whole().items()}
        own = (torch.stack(h), torch.stack(c))
        fed = fed if self.config.feeding else state.fed
        return whole["looks"], replace(state, own=own, fed=fed, past=past)

    def alignment(self, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"]) -> Float[Tensor, "B T S"]:
        """The weights of each step over the source: those at t belong to the token t + 1 of the target.

        They sum to one, and are zero where nothing is written (everywhere, for a source of no tokens).
        """
        seen: dict[str, Tensor] = {}
        self.decode(target, self.first_state(source), lambda name, value: seen.setdefault(name, value))
        return seen["decoder.weights"]

    # ------------------------------------------------------------------ counting

    @classmethod
    def parameter_count(cls, config: Any, inputs: int, outputs: int) -> int:
        """As the rung below, with a decoder that reads 2 C if fed; C (ways C + C + 1) to mix; the score's:
        additive C (ways C + C + 2), and C for coverage; general ways C C; dot none."""
        C, across = config.width, config.directions * config.width
        score = score_parameters(config.score, C, across, config.coverage)
        return super().parameter_count(config, inputs, outputs) + C * (across + C + 1) + score

    @classmethod
    def macs(cls, config: Any, inputs: int, outputs: int, length: int = 1) -> int:
        """As the rung below; T T C of scores and T T C of sums, and what makes keys, values and mixes."""
        C, across, T = config.width, config.directions * config.width, length
        score = score_macs(config.score, C, across, T, T, config.coverage)
        return super().macs(config, inputs, outputs, T) + score + T * C * (across + C) + T * T * C


class _Moves:
    """A decoder that reads what it is fed, moved step by step with as few operations as that can be told in.

    What the embedding makes of the first layer's gates is made for all steps beforehand.
    """

    def __init__(self, lstm: nn.LSTM, x: Float[Tensor, "B T C"], own: State) -> None:
        C = lstm.hidden_size
        W, U, b, b_ = weights_of(lstm, 0)
        self.gates = F.linear(x, W[:, :C], b + b_).unbind(1)  # T times (B, 4 C)
        self.fed, self.back = W[:, C:].t(), [U.t()]  # each (C, 4 C)
        self.upper: list[tuple[Tensor, Tensor]] = []
        for layer in range(1, lstm.num_layers):
            W, U, b, b_ = weights_of(lstm, layer)
            self.upper.append((W, b + b_))
            self.back.append(U.t())
        self.h, self.c = (list(part) for part in own)  # of each layer, (B, C)
        self.dropout = lstm.dropout if lstm.training else 0.0

    def __call__(self, t: int, fed: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """The last layer's state after step t."""
        self._move(0, torch.addmm(self.gates[t], fed, self.fed))
        for layer, (weight, bias) in enumerate(self.upper, 1):
            self._move(layer, F.linear(F.dropout(self.h[layer - 1], self.dropout), weight, bias))
        return self.h[-1]

    def _move(self, layer: int, given: Float[Tensor, "B G"]) -> None:
        c, C = self.c[layer], self.c[layer].shape[-1]
        gates = torch.addmm(given, self.h[layer], self.back[layer])  # (B, 4 C), in torch's order i, f, g, o
        i, f, _, o = gates.sigmoid().chunk(4, -1)  # each (B, C)
        self.c[layer] = c = torch.addcmul(f * c, i, gates[:, 2 * C : 3 * C].tanh())
        self.h[layer] = o * c.tanh()

    def own(self) -> State:
        return torch.stack(self.h), torch.stack(self.c)


def _numbered(steps: Steps, layer: int) -> Recorder:
    """A recorder that is given a layer's values and calls them by its number."""
    return lambda name, value: steps(f"{name}{layer}", value)
