"""What recurrent networks share: reading padded rows in one or two directions, their counts, first weights.

A network's core is a `torch.nn.RNN` or `torch.nn.LSTM`, so that weights of torch's own layouts go in and out
as they are. It is read by torch's fused kernel, or step by step by a cell that a person can read; both give
the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.dense import Recorder, unrecorded

State = tuple[Tensor, ...]
"""What a network remembers between two steps: (h,) of an RNN, (h, c) of an LSTM, each (L * ways, B, C)."""

FEW = 16  # rows up to which a single step is made without torch's kernel
Cell = Callable[..., State]
"""One step of one layer in one direction: (x (B, C), state, recorder) -> state, its parts each (B, C)."""


class RecurrentConfig(Protocol):
    """The settings that every recurrent network has."""

    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def dropout(self) -> float: ...


def check_recurrent(config: RecurrentConfig) -> None:
    """SadariError when a setting is outside what a recurrent network can be built with."""
    if config.width < 1:
        raise SadariError(f"width {config.width}: a state needs at least 1 number; use width=64")
    if config.layers < 1:
        raise SadariError(f"layers {config.layers}: a network needs at least 1 layer; use layers=1")
    if not 0.0 <= config.dropout < 1.0:
        raise SadariError(f"dropout {config.dropout}: the share dropped lies in [0, 1); use dropout=0.2")
    directions = getattr(config, "directions", 1)
    if directions not in (1, 2):
        raise SadariError(
            f"directions {directions}: a text is read forwards (1) or both ways (2); use directions=2"
        )


def make_core(kind: Any, config: RecurrentConfig, inputs: int = 0, directions: int = 0) -> Any:
    """A `torch.nn.RNN` or `torch.nn.LSTM` of the config's size.

    Its first layer reads `inputs` numbers (0: `width`), in so many `directions` (0: as the config says).
    """
    return kind(
        inputs or config.width,
        config.width,
        config.layers,
        batch_first=True,
        dropout=config.dropout if config.layers > 1 else 0.0,  # torch means: between layers
        bidirectional=(directions or getattr(config, "directions", 1)) == 2,
    )


def ways(core: nn.RNNBase) -> int:
    """Directions in which each layer reads: 1 or 2."""
    return 2 if core.bidirectional else 1


def weights_of(core: nn.RNNBase, layer: int, back: int = 0) -> list[Tensor]:
    """One layer's weights in one direction, in torch's order: weight_ih, weight_hh, bias_ih, bias_hh."""
    end = f"_l{layer}" + ("_reverse" if back else "")
    return [getattr(core, name + end) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


# ---------------------------------------------------------------------- reading


def start(core: nn.RNNBase, batch: int) -> State:
    """The state before the first step: zeros."""
    zero = weights_of(core, 0)[1].new_zeros(core.num_layers * ways(core), batch, core.hidden_size)
    return (zero, zero) if isinstance(core, nn.LSTM) else (zero,)


def read(
    core: nn.RNNBase,
    x: Float[Tensor, "B T C"],
    lengths: Int[Tensor, " B"] | None = None,
    state: State | None = None,
    cell: Callable[[Any, int, int], Cell] | None = None,
    rec: Recorder = unrecorded,
) -> tuple[Float[Tensor, "B T W"], State]:
    """The last layer's states at every step, W = ways C, and the state after the last step.

    lengths  real steps of each row, for reading backwards: a row is turned round by its own length, since
             padding that is read first would change its answer; None: all are T long. Packing rows does the
             same and takes twice as long on a processor, where it misses the fused kernel
    cell     makes the readable cell of a (core, layer, direction) and reads with that; None: fused
    rec      is given what the readable cells compute, as `name` + layer (+ `_back`), each (B, T, C)
    """
    state = start(core, len(x)) if state is None else state
    if cell is None and not core.bidirectional:
        if x.shape[1] == 1 and len(x) <= FEW and not (core.training or torch.is_grad_enabled()):
            return _one_step(core, x, state)
        output, after = core(x, state if isinstance(core, nn.LSTM) else state[0])
        return output, after if isinstance(core, nn.LSTM) else (after,)
    ends: list[State] = []
    for layer in range(core.num_layers):
        if layer:
            x = F.dropout(x, core.dropout, core.training)
        outputs = []
        for back in range(ways(core)):
            before = tuple(part[len(ends)] for part in state)  # each (B, C)
            given = turned(x, lengths) if back else x
            if cell is None:
                output, after = _fused(core, weights_of(core, layer, back), given, before)
            else:
                output, after, inner = _step_by_step(cell(core, layer, back), given, before)
                for name, value in inner.items():
                    value = turned(value, lengths) if back else value
                    rec(f"{name}{layer}" + ("_back" if back else ""), value)
            outputs.append(turned(output, lengths) if back else output)
            ends.append(after)
        x = torch.cat(outputs, -1)  # (B, T, W)
    return x, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _one_step(core: nn.RNNBase, x: Tensor, state: State) -> tuple[Tensor, State]:
    """A single step of every layer for a few rows, as a text is written.

    torch's kernel packs all weights anew at each call (torch 2.13, one row, width 512: 4,478 microseconds,
    this 122; at 64 rows it is ahead by half).
    """
    h, ends = x[:, 0], []
    for layer in range(core.num_layers):
        before = tuple(part[layer] for part in state)  # each (B, C)
        if isinstance(core, nn.LSTM):
            after: State = torch.lstm_cell(h, before, *weights_of(core, layer))
        else:
            after = (torch.rnn_tanh_cell(h, before[0], *weights_of(core, layer)),)
        h = after[0]
        ends.append(after)
    return h.unsqueeze(1), tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


def _fused(core: nn.RNNBase, weights: list[Tensor], x: Tensor, state: State) -> tuple[Tensor, State]:
    """One layer in one direction by torch's kernel."""
    begin = [part.unsqueeze(0) for part in state]
    about = (
        weights,
        True,
        1,
        0.0,
        core.training,
        False,
        True,
    )  # biases, layers, dropout, .., ways, batch first
    if isinstance(core, nn.LSTM):
        output, h, c = torch.lstm(x, begin, *about)
        return output, (h[0], c[0])
    output, h = torch.rnn_tanh(x, begin[0], *about)
    return output, (h[0],)


def _step_by_step(cell: Cell, x: Tensor, state: State) -> tuple[Tensor, State, dict[str, Tensor]]:
    """One layer in one direction by its cell; also all that the cell names, each (B, T, C)."""
    steps, outputs = Steps(), []
    for t in range(x.shape[1]):
        state = cell(x[:, t], state, steps)
        outputs.append(state[0])
    return torch.stack(outputs, 1), state, steps.whole()


class Steps:
    """A recorder that is given a value of each step under one name, and makes one value of them all."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        self.values.setdefault(name, []).append(value)
        return value

    def whole(self) -> dict[str, Tensor]:
        """Each name's values side by side: (B, ...) a step to (B, T, ...)."""
        return {name: torch.stack(parts, 1) for name, parts in self.values.items()}


def under(name: str, rec: Recorder) -> Recorder:
    """A recorder for a part of a model: what it is given is called `name.` and its own name."""
    return lambda own, value: rec(f"{name}.{own}", value)


def turned(x: Float[Tensor, "B T C"], lengths: Int[Tensor, " B"] | None) -> Float[Tensor, "B T C"]:
    """Each row's real steps in the opposite order; its padding stays at the end."""
    if lengths is None:
        return x.flip(1)
    step = torch.arange(x.shape[1], device=x.device)
    last = lengths.unsqueeze(1) - 1
    source = torch.where(step <= last, last - step, step)  # (B, T)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))


def last_states(
    core: nn.RNNBase, states: Float[Tensor, "B T W"], real: Bool[Tensor, "B T"]
) -> Float[Tensor, "B W"]:
    """The state in which each direction ends: at the last real step forwards, at the first one backwards.

    Zero for a row without any step.
    """
    lengths = real.sum(-1)
    at = (lengths - 1).clamp(min=0).reshape(-1, 1, 1)
    end = states.gather(1, at.expand(-1, 1, states.shape[-1])).squeeze(1)  # (B, W)
    if core.bidirectional:
        C = core.hidden_size
        end = torch.cat([end[:, :C], states[:, 0, C:]], -1)
    return end * (lengths > 0).unsqueeze(-1)


# ---------------------------------------------------------------------- counting


def core_parameters(gates: int, width: int, layers: int, directions: int = 1, inputs: int = 0) -> int:
    """Weights of a core: ways G C (i + C) and two biases, ways 2 G C, a layer that reads i numbers.

    The first reads `inputs` (0: C), each of the others what the one below writes.
    """
    reads = [inputs or width] + [directions * width] * (layers - 1)
    return sum(directions * gates * width * (i + width + 2) for i in reads)


def core_macs(gates: int, width: int, layers: int, directions: int = 1, inputs: int = 0) -> int:
    """Multiply-adds of one step: ways G C (i + C) a layer that reads i numbers (the first: `inputs` or C)."""
    reads = [inputs or width] + [directions * width] * (layers - 1)
    return sum(directions * gates * width * (i + width) for i in reads)


# ---------------------------------------------------------------------- first weights


def laws(model: nn.Module) -> dict[str, tuple[str, float]]:
    """The law of each parameter at birth: name -> (law, its number).

    | parameter         | law                     | why                                                     |
    |-------------------|-------------------------|---------------------------------------------------------|
    | embedding.weight  | normal, 0.1             | a word that was hardly ever read says hardly anything   |
    | .. of a language  | normal, 1               | every word tells something about the next               |
    | .. tied to a head | normal, 1 / sqrt(C)     | it is read sqrt(C) times as large (Vaswani 2017)        |
    | source_embedding  | as the language's       | both sides of a pair are read alike                     |
    | enter.weight      | normal, 1               | the number that a step reads has variance 1             |
    | weight_ih         | normal, 1 / sqrt(i)     | level variance; i numbers are read                      |
    | weight_hh         | orthogonal in each gate | a state neither grows nor fades by turning (Saxe 2013)  |
    | bias_ih           | zero; 1 for forget      | a cell keeps what it holds until it learns to forget    |
    |                   |                         | (Gers 2000; Jozefowicz 2015)                            |
    | bias_hh           | zero                    | it adds to the other                                    |
    | output, head      | normal, 0.1 / sqrt(i)   | first answers near the average; the loss of a language  |
    |                   |                         | model begins at ln V                                    |
    | query, key,       | normal, 1 / sqrt(i)     | attention's W, U and v: scores of variance 1            |
    | energy            |                         |                                                         |
    | bridge, mix       | normal, 1 / sqrt(i)     | level variance                                          |
    | scores.past       | zero                    | coverage begins as attention without it                 |
    | other biases      | zero                    |                                                         |
    """
    table: dict[str, tuple[str, float]] = {}
    tied = getattr(getattr(model, "config", None), "tied", None)  # None: no language model
    for name, parameter in model.named_parameters():
        owner, _, own = name.rpartition(".")
        if own.startswith("weight_hh"):
            table[name] = ("orthogonal", 1.0)
        elif own.startswith("bias_ih") and isinstance(model.get_submodule(owner), nn.LSTM):
            table[name] = ("forget", 1.0)
        elif "bias" in own or owner == "scores.past":
            table[name] = ("zero", 0.0)
        elif owner in ("embedding", "source_embedding"):
            small = 1 / math.sqrt(parameter.shape[1])
            table[name] = ("normal", {None: 0.1, False: 1.0, True: small}[tied])
        else:
            scale = 0.1 if owner in ("output", "head") else 1.0
            table[name] = ("normal", scale / math.sqrt(parameter.shape[1]))
    return table


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Draw every parameter by its law, from torch's generator (`torch.manual_seed`)."""
    table = laws(model)
    for name, parameter in model.named_parameters():
        law, number = table[name]
        if law == "normal":
            parameter.normal_(0.0, number)
        elif law == "orthogonal":
            for gate in parameter.split(parameter.shape[1]):
                nn.init.orthogonal_(gate)
        else:
            parameter.zero_()
            if law == "forget":
                parameter.chunk(4)[1].fill_(number)  # torch's order of gates is i, f, g, o
