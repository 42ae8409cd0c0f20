"""GPT: a Transformer that foretells the next token (Radford 2018, 2019; Touvron 2023, 2302.13971).

What differs from the rung below (lstm): no state is handed from token to token. Each token looks back at
every earlier one by attention, so that all T are learnt from at once, and what was read long ago is as near
as the last word. The price: a token costs more the longer the text before it, and there is a longest text.

      tokens -- embedding (+ positions) --+--(+)--+--(+)-- ... -- norm -- head -- logits
                                          |   |   |   |
                                  norm - attention |   |       round each attention and each
                                              norm - feed      feed-forward part, L times

The options span two families, whose weights are read by `GPT.from_reference`: GPT-2 (learned positions,
LayerNorm, GELU, biases, tied vocabulary; reference code openai/gpt-2) and Llama (rotary positions, RMSNorm,
SwiGLU, grouped heads; reference code meta-llama/llama, in the layout of Hugging Face's transformers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.attention import attend, check_heads
from sadari.layers.dense import Recorder, unrecorded
from sadari.models.gpt_names import FAST, READERS, SLOW, STRETCHED_FROM
from sadari.reference import adopt, opened

CHOICES = {
    "positions": ("learned", "rotary"),
    "norm": ("layernorm", "rmsnorm"),
    "activation": ("gelu", "gelu_new", "swiglu"),
}


@dataclass(frozen=True)
class GPTConfig:
    """Settings of a `GPT`."""

    layers: int = 3
    """Blocks L of attention and feed-forward, one after another."""
    width: int = 128
    """Size C of a token's vector."""
    heads: int = 4
    """Heads H of attention, each with C / H numbers of the width."""
    kv_heads: int = 0
    """Heads of keys and values, a divisor of the heads, which share them in groups; 0 = one for each head."""
    inner: int = 0
    """Units F of each feed-forward part; 0 = 4 C, or 8 C / 3 for swiglu, which has three matrices for two."""
    context: int = 256
    """Tokens that the model can look back on, the present one included."""
    positions: str = "learned"
    """How a token knows its place: learned (a vector a place), rotary (queries and keys turned by it)."""
    norm: str = "layernorm"
    """What levels the numbers before each part: layernorm, or rmsnorm (no mean taken off, no shift)."""
    activation: str = "gelu_new"
    """What bends the feed-forward units: gelu, gelu_new (by tanh, as GPT-2), swiglu (gated, as Llama)."""
    bias: bool = True
    """Whether the layers have biases beside their weights."""
    tied: bool = True
    """Whether one matrix serves both to look tokens up and to tell them apart at the end."""
    dropout: float = 0.0
    """Share of numbers silenced at random in each step: in attention, after each part and at the entrance."""
    epsilon: float = 1e-5
    """What the norms add to the variance."""
    rotary_base: float = 10000.0
    """Length of the slowest rotary wave, in tokens over 2 pi."""
    stretch: float = 1.0
    """How much longer slow rotary waves are made, as Llama 3 does to see 8 to 32 times further; 1 = none."""

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise SadariError(
                    f"{name} {getattr(self, name)!r} is unknown; use one of: {', '.join(known)}"
                )
        if self.layers < 1:
            raise SadariError(f"layers {self.layers}: a GPT needs at least 1 block; use layers=4")
        check_heads(self.width, self.heads)
        if self.kv_heads < 0 or self.heads % self.groups:
            raise SadariError(
                f"kv_heads {self.kv_heads}: {self.heads} heads cannot share them evenly; use a divisor of "
                f"{self.heads}, or kv_heads=0 for one each"
            )
        if self.positions == "rotary" and self.size % 2:
            raise SadariError(
                f"width {self.width} over {self.heads} heads makes {self.size} numbers a head; rotary "
                f"positions turn them in pairs; use width={2 * self.width}"
            )
        if self.inner < 0:
            raise SadariError(
                f"inner {self.inner}: a feed-forward part has units; use inner=0 to let it follow"
            )
        if self.context < 1:
            raise SadariError(f"context {self.context}: a token sees at least itself; use context=256")
        if not 0.0 <= self.dropout < 1.0:
            raise SadariError(f"dropout {self.dropout}: the share dropped lies in [0, 1); use dropout=0.1")
        for name in ("epsilon", "rotary_base", "stretch"):
            if not 0 < getattr(self, name) < math.inf:
                usual = {"epsilon": "1e-5", "rotary_base": "10000", "stretch": "1"}[name]
                raise SadariError(f"{name} {getattr(self, name)}: it is above 0; use {name}={usual}")

    @property
    def groups(self) -> int:
        """Heads G of keys and values."""
        return self.kv_heads or self.heads

    @property
    def size(self) -> int:
        """Numbers D of a head."""
        return self.width // self.heads

    @property
    def units(self) -> int:
        """Feed-forward units F; for swiglu a multiple of 8."""
        gated = -(-self.width // 3) * 8
        return self.inner or (gated if self.activation == "swiglu" else 4 * self.width)


_LLAMA = {
    "positions": "rotary",
    "norm": "rmsnorm",
    "activation": "swiglu",
    "bias": False,
    "rotary_base": 500000.0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {"layers": 12, "width": 768, "heads": 12, "context": 1024},
    "gpt2-medium": {"layers": 24, "width": 1024, "heads": 16, "context": 1024},
    "gpt2-large": {"layers": 36, "width": 1280, "heads": 20, "context": 1024},
    "gpt2-xl": {"layers": 48, "width": 1600, "heads": 25, "context": 1024},
    "llama": {**_LLAMA, "layers": 16, "width": 2048, "heads": 32, "kv_heads": 8, "inner": 8192,
              "context": 131072, "stretch": 32.0},  # Llama 3.2 1B
    "llama-3b": {**_LLAMA, "layers": 28, "width": 3072, "heads": 24, "kv_heads": 8, "inner": 8192,
                 "context": 131072, "stretch": 32.0},
}  # fmt: skip


@dataclass
class Cache:
    """What a text has left in a GPT, so that its next token costs one token's work.

    A step fills it in place: use what `step` returns, and no older one.
    """

    keys: list[Tensor]
    """A layer's keys (B, G, S, D) in its first `length` places; the rest is room for what comes."""
    values: list[Tensor]
    """Likewise."""
    tokens: Tensor
    """The tokens in view (B, n); kept for learned positions only, where they may have to be read again."""
    length: int = 0
    """Places filled."""
    read: int = 0
    """Tokens of the text so far."""

    def room(self, more: int, keep: int) -> None:
        """Make room for so many further tokens: double it, or move up when it holds twice what is kept."""
        size = self.keys[0].shape[2]
        if self.length + more <= size:
            return
        kept = min(self.length, keep)
        size = max(size, min(2 * size, 2 * keep), kept + more)
        for part in (self.keys, self.values):
            for i, old in enumerate(part):
                part[i] = old.new_empty(*old.shape[:2], size, old.shape[3])
                part[i][:, :, :kept] = old[:, :, self.length - kept : self.length]
        self.length = kept

    def add(self, layer: int, k: Tensor, v: Tensor, seen: int) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values (B, G, T, D); returns those in view, the last `seen`."""
        end = self.length + k.shape[2]
        self.keys[layer][:, :, self.length : end] = k
        self.values[layer][:, :, self.length : end] = v
        first = max(0, end - seen)
        return self.keys[layer][:, :, first:end], self.values[layer][:, :, first:end]


class Attention(nn.Module):
    """Every token looks at itself and at those before it; queries, keys and values come from one product."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        H, G, D = config.heads, config.groups, config.size
        self.qkv = nn.Linear(config.width, (H + 2 * G) * D, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        turn: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        remember: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None,
        plain: bool,
    ) -> tuple[Float[Tensor, "B T C"], Tensor | None]:
        (B, T, C), (H, G, D) = x.shape, (self.config.heads, self.config.groups, self.config.size)
        qkv = self.qkv(x).view(B, T, H + 2 * G, D).transpose(1, 2)  # (B, H + 2 G, T, D)
        if turn is None:
            q, k, v = qkv.split((H, G, G), dim=1)
        else:
            q, k = rotate(qkv[:, : H + G], *turn).split((H, G), dim=1)
            v = qkv[:, H + G :]
        if remember is not None:
            k, v = remember(k, v)  # (B, G, S, D)
        dropout = self.config.dropout if self.training else 0.0
        if T == 1 and not plain:  # a group's heads as so many queries of one key head: nothing is repeated
            q = q.reshape(B, G, H // G, D)
            y, weights = attend(q, k, v, dropout=dropout)
        else:
            if mask is None and not plain and by_products_is_faster(q, k):
                y, weights = attend_by_products(q, k, v, dropout), None
            else:
                y, weights = attend(q, k, v, mask, causal=mask is None, dropout=dropout, plain=plain)
            y = y.transpose(1, 2)  # (B, T, H, D)
        return self.out(y.reshape(B, T, C)), weights


SCORES = 1 << 25  # weights of attention written down at once, at most


def by_products_is_faster(q: Float[Tensor, "B H T D"], k: Float[Tensor, "B G S D"]) -> bool:
    """True for bf16 on a processor, where torch's fused kernel spends most of its time converting numbers.

    Measured on a Zen 5 of two cores, forward and backward: 5 to 40 times as long at 64 to 256 tokens, still
    1.4 times at 2048.
    """
    return q.dtype == torch.bfloat16 and q.device.type == "cpu" and q[..., 0].numel() * k.shape[2] <= SCORES


def attend_by_products(
    q: Float[Tensor, "B H T D"], k: Float[Tensor, "B G S D"], v: Float[Tensor, "B G S D"], dropout: float
) -> Float[Tensor, "B H T D"]:
    """Causal attention as two batched products with a softmax between them."""
    (B, H, T, D), S = q.shape, k.shape[2]
    if k.shape[1] != H:
        k, v = (part.repeat_interleave(H // part.shape[1], dim=1) for part in (k, v))
    q, k, v = (part.reshape(B * H, -1, D) for part in (q, k, v))
    future = torch.full((T, S), -math.inf, dtype=q.dtype, device=q.device).triu(1 + S - T)
    weights = torch.baddbmm(future, q, k.transpose(1, 2), alpha=1 / math.sqrt(D)).softmax(-1)  # (B H, T, S)
    if dropout:
        weights = F.dropout(weights, dropout)
    return torch.bmm(weights, v).view(B, H, T, D)


class FeedForward(nn.Module):
    """Each token by itself: down(act(up(x))), or down(silu(gate) * up) with both from one product."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gated = config.activation == "swiglu"
        self.approximate = "tanh" if config.activation == "gelu_new" else "none"
        self.up = nn.Linear(config.width, config.units * (1 + self.gated), bias=config.bias)
        self.down = nn.Linear(config.units, config.width, bias=config.bias)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        x = self.up(x)  # (B, T, F), or gate and up side by side
        if self.gated:
            gate, x = x.chunk(2, dim=-1)
            return self.down(F.silu(gate) * x)
        return self.down(F.gelu(x, approximate=self.approximate))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed(norm(x))."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = make_norm(config), make_norm(config)
        self.attention, self.feed = Attention(config), FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        turn: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        remember: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        plain: bool = False,
    ) -> tuple[Float[Tensor, "B T C"], Tensor | None]:
        y, weights = self.attention(self.norm1(x), turn, mask, remember, plain)
        x = x + self.dropout(y)
        return x + self.dropout(self.feed(self.norm2(x))), weights


class GPT(nn.Module):
    """Logits of the token after each; `start`, `step` and `reorder` write on with a cache."""

    Config: ClassVar = GPTConfig
    TINY: ClassVar = GPTConfig(layers=2, width=16, heads=2, context=32)
    TRAINING: ClassVar[dict[str, Any]] = {
        "learning_rate": 2e-3,
        "batch_size": 4,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "warmup": 0.05,
        "clip": 1.0,
    }
    carries: ClassVar[bool] = False

    def __init__(self, config: GPTConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        if config.tied and inputs != outputs:
            raise SadariError(f"{inputs} tokens in and {outputs} out cannot share one matrix; use tied=False")
        self.config = config
        C = config.width
        self.embedding = None if config.tied else nn.Embedding(inputs, C)
        self.positions = nn.Embedding(config.context, C) if config.positions == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = make_norm(config)
        self.head = nn.Linear(C, outputs, bias=False)
        self._turns: tuple[Tensor, Tensor] | None = None
        initialise(self)

    @property
    def context(self) -> int:
        """The longest stretch that is learnt from at once."""
        return self.config.context

    @property
    def table(self) -> Float[Tensor, "V C"]:
        """A vector a token, as they are looked up; the head's own weight where tied."""
        return self.head.weight if self.embedding is None else self.embedding.weight

    def forward(self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B T V"]:
        output = self.head(self.hidden(tokens, rec=rec)[0])  # (B, T, V)
        return output if rec is None else rec("output", output)

    def hidden(
        self, tokens: Int[Tensor, "B T"], state: Cache | None = None, rec: Recorder | None = None
    ) -> tuple[Float[Tensor, "B T C"], Cache | None]:
        """What the head reads. With a `state` the tokens go on from those that are in it.

        1. embed  2. L blocks  3. norm. Learned positions end at the context: SadariError for a longer text.
        With rotary ones each token looks back on the last `context` tokens, however many there are.
        """
        plain, rec = rec is not None, rec or unrecorded
        T, context = tokens.shape[1], self.config.context
        begin = 0 if state is None else state.read
        if self.positions is not None and begin + T > context:
            raise SadariError(
                f"{begin + T} tokens are more than the {context} places that were learned; give the last "
                f"{context}, or train with context={begin + T}"
            )
        x = F.embedding(tokens.clamp(min=0), self.table)  # (B, T, C)
        if self.positions is not None:
            x = x + self.positions.weight[begin : begin + T]
        x = rec("embedded", self.dropout(x))
        turn = self._turn(begin, T) if self.positions is None else None
        if state is not None:
            state.room(T, context - 1)
        seen = min(begin, context - 1) + T  # keys in view of any of these tokens
        mask = band(T, seen, context, x.device) if seen > context and T > 1 else None
        for i, block in enumerate(self.blocks):
            remember = None if state is None else _remember(state, i, seen)
            x, weights = block(x, turn, mask, remember, plain)
            if weights is not None:
                rec(f"layer{i}.attention", weights)  # (B, H, T, S)
            x = rec(f"layer{i}", x)
        if state is not None:
            state.length += T
            state.read += T
        return rec("hidden", self.norm(x)), state

    def start(self, batch: int) -> Cache:
        """A state in which nothing has been read, for so many texts."""
        config, weight = self.config, self.head.weight
        room = min(64, config.context)
        keys, values = (
            [weight.new_empty(batch, config.groups, room, config.size) for _ in range(config.layers)]
            for _ in range(2)
        )
        return Cache(keys, values, torch.empty(batch, 0, dtype=torch.int64, device=weight.device))

    def step(self, tokens: Int[Tensor, "B T"], state: Cache) -> tuple[Float[Tensor, "B V"], Cache]:
        """Read T further tokens; returns the logits after the last, and the state.

        Past the context the oldest are dropped. Rotary positions slide: each token sees the last `context`.
        Learned ones cannot slide, since every token would change its place: when the context is full, its
        last half is read anew from place 0, so that a long text costs two tokens' work a token at most.
        """
        if self.positions is not None:
            tokens, state = self._fit(tokens, state)
        for piece in tokens.split(self.config.context, dim=1):
            h, _ = self.hidden(piece, state)  # (B, T, C)
        return self.head(h[:, -1]), state

    def reorder(self, state: Cache, rows: Int[Tensor, " B"]) -> Cache:
        """The state of these texts of its batch, in this order; a text may be taken twice or not at all."""
        keys, values = ([part[rows] for part in parts] for parts in (state.keys, state.values))
        return Cache(keys, values, state.tokens[rows], state.length, state.read)

    def _fit(self, tokens: Tensor, state: Cache) -> tuple[Tensor, Cache]:
        """The tokens to read, and the state to read them in, so that they fit the learned places."""
        context, before = self.config.context, state.tokens.shape[1]
        text = torch.cat((state.tokens, tokens), dim=1)  # (B, in view + T)
        hop = context + 1 - max(1, context // 2)  # places by which the view moves on when it is full
        hops = -(-max(0, text.shape[1] - context) // hop)
        if hops:
            text, before, state = text[:, hops * hop :], 0, self.start(len(tokens))
        state.tokens = text
        return text[:, before:], state

    def _turn(self, begin: int, count: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (count, D) of the places from `begin` on; made once, and more when a text is
        longer."""
        end, device = begin + count, self.head.weight.device
        if self._turns is None or len(self._turns[0]) < end or self._turns[0].device != device:
            self._turns = turns(self.config, max(2 * end, 64), device)
        return self._turns[0][begin:end], self._turns[1][begin:end]

    @staticmethod
    def parameter_count(config: GPTConfig, inputs: int, outputs: int) -> int:
        """V C a vocabulary (one where tied), context C for learned places, L blocks, and the norms.

        A block has (H + 2 G) D C + C^2 weights of attention and 2 C F of feed-forward (3 C F for swiglu), a
        bias for each output of these, and two norms of C scales (and C shifts for layernorm).
        """
        C, F = config.width, config.units
        gates = 2 if config.activation == "swiglu" else 1
        qkv, norm = (config.heads + 2 * config.groups) * config.size, _norm_size(config)
        block = C * (qkv + C) + C * F * (gates + 1) + 2 * norm
        if config.bias:
            block += qkv + C + gates * F + C
        places = config.context * C if config.positions == "learned" else 0
        return config.layers * block + norm + places + outputs * C + (0 if config.tied else inputs * C)

    @staticmethod
    def macs(config: GPTConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a token that sees `length` tokens: its weights, and 2 C for each seen a layer."""
        C, F = config.width, config.units
        gates = 2 if config.activation == "swiglu" else 1
        qkv = (config.heads + 2 * config.groups) * config.size
        seen = min(length, config.context)
        return config.layers * (C * (qkv + C) + C * F * (gates + 1) + 2 * C * seen) + C * outputs

    @classmethod
    def from_reference(
        cls,
        source: str | Path | Mapping[str, Tensor],
        kind: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> GPT:
        """A GPT with the weights of transformers' GPT-2 or Llama, in their number type; a copy of them.

        source    a folder with config.json and *.safetensors (one file, or several and their index), or
                  tensors by name, as `state_dict()` of GPT2LMHeadModel or LlamaForCausalLM gives them
        kind      "gpt2" or "llama"; None = what `model_type` of the settings says
        settings  the content of config.json; only needed beside a state

        Raises SadariError where something of it is missing or is what this model cannot do.
        """
        tensors, settings = opened(source, settings)
        kind = kind or str(settings.get("model_type"))
        if kind not in READERS:
            raise SadariError(f"{kind!r} is no layout that is read here; there are: {', '.join(READERS)}")
        fields, state = READERS[kind](settings, tensors)
        config = GPTConfig(**fields)
        inputs = len(state["head.weight"] if config.tied else state["embedding.weight"])
        with torch.device("meta"):
            model = cls(config, inputs, len(state["head.weight"]))
        adopt(model, state)
        return model


def make_norm(config: GPTConfig) -> nn.Module:
    """The norm that a config names, over the width."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.width, eps=config.epsilon)
    return nn.LayerNorm(config.width, eps=config.epsilon, bias=config.bias)


def _norm_size(config: GPTConfig) -> int:
    return config.width * (2 if config.norm == "layernorm" and config.bias else 1)


def speeds(config: GPTConfig, device: torch.device | None = None) -> Float[Tensor, " D/2"]:
    """The angle by which each pair of a head turns a token: base^(-2 i / D) for pair i.

    `stretch` slows the waves that are longer than a context of 8192, as Llama 3.1 does.
    """
    D = config.size
    speed = config.rotary_base ** -(torch.arange(0, D, 2, device=device).float() / D)  # (D / 2,)
    if config.stretch != 1:
        rounds = STRETCHED_FROM * speed / (2 * math.pi)  # made within that context
        kept = ((rounds - SLOW) / (FAST - SLOW)).clamp(0, 1)
        speed = speed * (kept + (1 - kept) / config.stretch)
    return speed


def turns(config: GPTConfig, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (count, D) of rotary positions (Su 2021, 2104.09864), halves alike."""
    angle = torch.arange(count, device=device).float()[:, None] * speeds(config, device)  # (count, D / 2)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Float[Tensor, "B H T D"], cos: Float[Tensor, "T D"], sin: Float[Tensor, "T D"]) -> Tensor:
    """Turn the pairs (x_i, x_(i + D/2)) of each head: a product then tells how far apart two tokens are."""
    a, b = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-b, a), dim=-1) * sin).to(x.dtype)


def band(count: int, seen: int, context: int, device: torch.device) -> Tensor:
    """Which of the `seen` keys each of the last `count` tokens looks at: its own and context - 1 before."""
    back = torch.arange(seen - count, seen, device=device)[:, None] - torch.arange(seen, device=device)
    return (back >= 0) & (back < context)  # (T, S)


def _remember(state: Cache, layer: int, seen: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return lambda k, v: state.add(layer, k, v, seen)


def laws(model: GPT) -> dict[str, tuple[str, float]]:
    """The law of each parameter at birth: name -> (law, standard deviation or value).

    | parameter                          | law                        | why                                |
    |------------------------------------|----------------------------|------------------------------------|
    | head, embedding, positions         | normal, 0.02               | GPT-2: first logits near zero, the |
    | qkv, up                            | normal, 0.02               | first loss about ln V              |
    | out, down: what a branch adds      | normal, 0.02 / sqrt(2 L)   | 2 L branches sum to one's variance |
    | biases                             | constant, 0                |                                    |
    | norms' scales                      | constant, 1                |                                    |
    """
    table = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            table[name] = ("constant", float("norm" in name and name.endswith("weight")))
        else:
            branch = name.endswith(("out.weight", "down.weight"))
            table[name] = ("normal", 0.02 / math.sqrt(2 * model.config.layers) if branch else 0.02)
    return table


@torch.no_grad()
def initialise(model: GPT) -> None:
    """Draw every parameter by its law from torch's global generator (`torch.manual_seed`)."""
    table = laws(model)
    for name, parameter in model.named_parameters():
        law, value = table[name]
        if law == "normal":
            parameter.normal_(0.0, value)
        else:
            parameter.fill_(value)
