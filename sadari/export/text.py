"""The models of texts and series as ONNX nodes, one function a model, in the order of its own forward.

They are not traced, as the dense ones are: how long a text is must stay open, recurrent layers have operators
of their own (whose gates stand in the order i o f c, torch's in i f g o), and of attention's two ways the
plain one is written. Every number of texts, of tokens and, but for learned positions, every length will do.

Alphabet: N texts, T tokens, C width, W = ways C, H heads, G heads of keys, D head size, V vocabulary, O
outputs. `tokens` (N, T) int64 has -1 where a text is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sadari.export.graph import Graph
from sadari.layers.recurrent import ways, weights_of
from sadari.models.attention import Attention
from sadari.models.embedding import Embedding
from sadari.models.encoder import FineTune, Probe, SentenceClassifier
from sadari.models.gpt import GPT, speeds
from sadari.models.lstm import LSTM, LSTMLanguage, LSTMSeries
from sadari.models.one_hot import OneHot
from sadari.models.rnn import RNN, RNNLanguage, RNNSeries
from sadari.models.transformer import BASE, SMALL, Encoder, Transformer

LEAST = float(torch.finfo(torch.float32).min)  # a score that becomes no weight

# ---------------------------------------------------------------------- labelled texts


def one_hot(graph: Graph, model: OneHot, tokens: str) -> str:
    """W x + b: the columns of W of the text's different tokens (or of all, for counts), added."""
    if not model.config.counts:
        T = _size(graph, tokens, 1)
        tokens, _ = graph.add_several("TopK", 2, tokens, T, axis=1, largest=0)  # sorted
        first = _slice(graph, tokens, 0, 1, axis=1)
        before = graph.add(  # one less than the first, so that it is another
            "Concat", graph.add("Sub", first, whole(graph, 1)), _slice(graph, tokens, 0, -1, axis=1), axis=1
        )
        repeated = graph.add("Equal", tokens, before)
        tokens = graph.add("Where", repeated, whole(graph, -1), tokens)
    columns = graph.add("Transpose", graph.weight(model.linear.weight), perm=[1, 0])  # (V, O)
    bags = graph.add("ReduceSum", _embed(graph, columns, tokens), whole(graph, [1]), keepdims=0)
    return graph.add("Add", bags, graph.weight(model.linear.bias))


def embedding(graph: Graph, model: Embedding, tokens: str) -> str:
    """A line in the mean of the words' vectors."""
    return linear(graph, model.output, bag(graph, model.embedding, tokens))


def bag(graph: Graph, table: nn.Embedding, tokens: str) -> str:
    """The mean of the words' vectors (N, C); zero for a text of none."""
    return _mean(graph, _embed(graph, graph.weight(table.weight), tokens), tokens)


def recurrent(graph: Graph, model: RNN | LSTM, tokens: str) -> str:
    """A line in the states in which the directions end, zeros for an empty text."""
    x = _embed(graph, graph.weight(model.embedding.weight), tokens)
    core = model.rnn if isinstance(model, RNN) else model.lstm
    _, ends = read(graph, core, x, _lengths(graph, tokens))
    some = _float(graph, graph.add("Greater", _lengths(graph, tokens), whole(graph, 0)))  # (N, 1)
    return linear(graph, model.output, graph.add("Mul", ends, some))


def series(graph: Graph, model: RNNSeries | LSTMSeries, features: str) -> str:
    """As `recurrent`, each step a number: features (N, T)."""
    x = linear(graph, model.enter, graph.add("Unsqueeze", features, whole(graph, [-1])))
    _, ends = read(graph, model.rnn if isinstance(model, RNNSeries) else model.lstm, x)
    return linear(graph, model.output, ends)


def attention(graph: Graph, model: Attention, tokens: str) -> str:
    """A line in the LSTM's states, weighed by their scores."""
    x = _embed(graph, graph.weight(model.embedding.weight), tokens)
    states, _ = read(graph, model.lstm, x, _lengths(graph, tokens))  # (N, T, W)
    scores = linear(graph, model.query, graph.add("Tanh", linear(graph, model.key, states)))  # (N, T, 1)
    scores = graph.add("Transpose", scores, perm=[0, 2, 1])  # (N, 1, T)
    real = graph.add("Unsqueeze", _real(graph, tokens), whole(graph, [1]))
    pooled = graph.add("MatMul", _weights(graph, scores, real), states)  # (N, 1, W)
    return linear(graph, model.output, graph.add("Squeeze", pooled, whole(graph, [1])))


def transformer(graph: Graph, model: Transformer, tokens: str) -> str:
    """A line in the mean of what the encoder makes of the tokens, or in what it makes of [CLS]."""
    if model.config.pooling == "mean":
        return linear(graph, model.output, _mean(graph, encoder(graph, model.encoder, tokens), tokens))
    none = graph.add("Mul", _slice(graph, tokens, 0, 1, axis=1), whole(graph, 0))
    cls = graph.add("Add", none, whole(graph, model.encoder.config.vocabulary - 1))  # (N, 1)
    h = encoder(graph, model.encoder, graph.add("Concat", cls, tokens, axis=1))
    return linear(graph, model.output, graph.add("Gather", h, whole(graph, 0), axis=1))


def sentence(graph: Graph, model: SentenceClassifier, tokens: str) -> str:
    """A line in the sentence's vector."""
    return linear(graph, model.output, vector(graph, model, tokens))


def vector(graph: Graph, model: SentenceClassifier, tokens: str) -> str:
    """The sentence's vector (N, C): mean or [CLS], of length 1 or as it is."""
    h = encoder(graph, model.encoder, tokens)
    if model.cls:
        some = _float(graph, _slice(graph, _real(graph, tokens), 0, 1, axis=1))  # (N, 1)
        pooled = graph.add("Mul", graph.add("Gather", h, whole(graph, 0), axis=1), some)
    else:
        pooled = _mean(graph, h, tokens)
    if model.normalise:
        length = graph.add("ReduceL2", pooled, whole(graph, [1]))
        pooled = graph.add("Div", pooled, graph.add("Max", length, graph.either(1e-12)))
    return pooled


# ---------------------------------------------------------------------- languages


def recurrent_language(graph: Graph, model: RNNLanguage, tokens: str) -> str:
    """Logits of the token after each, from the beginning."""
    x = graph.add("Gather", graph.weight(model.embedding.weight), tokens)
    x = graph.add("Mul", x, graph.either(model.scale))  # after, so that a tied matrix is in the file once
    states, _ = read(graph, model.core, x)
    return linear(graph, model.head, states)


def gpt(graph: Graph, model: GPT, tokens: str) -> str:
    """Logits of the token after each, from the beginning."""
    config, T = model.config, _size(graph, tokens, 1)
    H, G = config.heads, config.groups
    x = graph.add("Gather", graph.weight(model.table), graph.add("Max", tokens, whole(graph, 0)))
    if model.positions is not None:
        x = graph.add("Add", x, _slice(graph, graph.weight(model.positions.weight), 0, T, axis=0))
    places = graph.add("Range", whole(graph, 0), graph.add("Squeeze", T), whole(graph, 1))  # (T,)
    row, column = (graph.add("Unsqueeze", places, whole(graph, [axis])) for axis in (1, 0))
    back = graph.add("Sub", row, column)  # (T, T): how far key j lies behind query i
    past = graph.add("GreaterOrEqual", back, whole(graph, 0))
    mask = graph.add("And", past, graph.add("Less", back, whole(graph, config.context)))
    turn = None
    if model.positions is None:
        angle = graph.add("Mul", _float(graph, row), graph.constant(speeds(config).numpy()))  # (T, D / 2)
        turn = graph.add("Cos", angle), graph.add("Sin", angle)
    blocks: Any = model.blocks
    for block in blocks:
        qkv = linear(graph, block.attention.qkv, norm(graph, block.norm1, x))
        parts = whole(graph, [H, G, G])
        q, k, v = graph.add_several("Split", 3, split_heads(graph, qkv, H + 2 * G), parts, axis=1)
        if turn is not None:
            q, k = _rotate(graph, q, turn), _rotate(graph, k, turn)
        k, v = (_shared(graph, part, H, G) for part in (k, v))
        y = linear(graph, block.attention.out, attend(graph, q, k, v, mask, config.size))
        x = graph.add("Add", x, y)
        inner = linear(graph, block.feed.up, norm(graph, block.norm2, x))
        if block.feed.gated:
            gate, inner = graph.add_several("Split", 2, inner, axis=-1, num_outputs=2)
            inner = graph.add("Mul", graph.add("Mul", gate, graph.add("Sigmoid", gate)), inner)
        else:
            inner = gelu(graph, inner, block.feed.approximate)
        x = graph.add("Add", x, linear(graph, block.feed.down, inner))
    last: Any = model.norm
    return linear(graph, model.head, norm(graph, last, x))


# ---------------------------------------------------------------------- what they are made of


def read(graph: Graph, core: nn.RNNBase, x: str, lengths: str | None = None) -> tuple[str, str]:
    """The last layer's states (N, T, W), zeros behind a text's end, and those in which it ends (N, W).

    `lengths` (N, 1) of the texts; an empty one is read as one step long, since not every engine takes 0.
    """
    steps = graph.add("Transpose", x, perm=[1, 0, 2])  # (T, N, C), the operators' own order
    until = ""
    if lengths is not None:
        until = graph.add("Max", graph.add("Squeeze", lengths, whole(graph, [1])), whole(graph, 1))
        until = graph.cast(until, "int32")
    ends = ""
    for layer in range(core.num_layers):
        own = [weights_of(core, layer, back) for back in range(ways(core))]
        inward, onward = (
            graph.constant(torch.stack([_gates(core, way[k]) for way in own]).numpy()) for k in (0, 1)
        )
        biases = [torch.cat([_gates(core, way[2]), _gates(core, way[3])]) for way in own]
        states, ends = graph.add_several(
            "LSTM" if isinstance(core, nn.LSTM) else "RNN",
            2, steps, inward, onward, graph.constant(torch.stack(biases).numpy()), until,
            hidden_size=core.hidden_size,
            direction="bidirectional" if core.bidirectional else "forward",
        )  # fmt: skip
        by_text = graph.add("Transpose", states, perm=[0, 2, 1, 3])  # (T, N, ways, C)
        steps = graph.add("Reshape", by_text, whole(graph, [0, 0, -1]))  # (T, N, W)
    ends = graph.add("Reshape", graph.add("Transpose", ends, perm=[1, 0, 2]), whole(graph, [0, -1]))
    return graph.add("Transpose", steps, perm=[1, 0, 2]), ends


def _gates(core: nn.RNNBase, weight: Tensor) -> Tensor:
    """An LSTM's weights with the gates as ONNX has them."""
    if not isinstance(core, nn.LSTM):
        return weight.detach()
    i, f, g, o = weight.detach().chunk(4)
    return torch.cat([i, o, f, g])


def encoder(graph: Graph, model: Encoder, tokens: str) -> str:
    """A vector (N, T, C) for each token."""
    config, T = model.config, _size(graph, tokens, 1)
    x = _embed(graph, graph.weight(model.embeddings.word_embeddings.weight), tokens)
    if config.types:
        x = graph.add(
            "Add", x, graph.constant(model.embeddings.token_type_embeddings.weight[0].detach().numpy())
        )
    if config.positions == "learned":
        places = graph.weight(model.embeddings.position_embeddings.weight)
        x = graph.add("Add", x, _slice(graph, places, 0, T, axis=0))
    elif config.positions == "sinusoid":
        x = graph.add("Add", x, graph.add("Mul", _sinusoid(graph, T, config.width), graph.either(SMALL)))
    x = norm(graph, model.embeddings.LayerNorm, x)
    mask = graph.add("Unsqueeze", _real(graph, tokens), whole(graph, [1, 2]))  # (N, 1, 1, T)
    pre, layers = config.norm == "pre", model.encoder
    modules: Any = layers.layer
    for layer in modules:
        looking, thinking = layer.attention.output, layer.output
        h = norm(graph, looking.LayerNorm, x) if pre else x
        own = layer.attention.self
        q, k, v = (
            split_heads(graph, linear(graph, part, h), own.heads) for part in (own.query, own.key, own.value)
        )
        heads = attend(graph, q, k, v, mask, config.width // own.heads)
        x = graph.add("Add", x, linear(graph, looking.dense, heads))
        x = x if pre else norm(graph, looking.LayerNorm, x)
        h = norm(graph, thinking.LayerNorm, x) if pre else x
        inner = gelu(graph, linear(graph, layer.intermediate.dense, h))
        x = graph.add("Add", x, linear(graph, thinking.dense, inner))
        x = x if pre else norm(graph, thinking.LayerNorm, x)
    return norm(graph, layers.LayerNorm, x) if pre else x


def _sinusoid(graph: Graph, T: str, width: int) -> str:
    """(T, C): sine and cosine of each place by turns, as `sadari.models.transformer.sinusoid`."""
    rates = torch.exp(torch.arange(0, width, 2) * (-np.log(BASE) / width)).float()
    places = graph.add("Range", whole(graph, 0), graph.add("Squeeze", T), whole(graph, 1))
    column = _float(graph, graph.add("Unsqueeze", places, whole(graph, [1])))  # (T, 1)
    angle = graph.add(
        "Unsqueeze", graph.add("Mul", column, graph.constant(rates.numpy())), whole(graph, [-1])
    )
    both = graph.add("Concat", graph.add("Sin", angle), graph.add("Cos", angle), axis=-1)  # (T, C / 2, 2)
    waves = graph.add("Reshape", both, whole(graph, [0, -1]))
    return _slice(graph, waves, 0, width, axis=1)  # an odd width has one sine more than cosines


def attend(graph: Graph, q: str, k: str, v: str, mask: str | None, size: int) -> str:
    """softmax(Q K' / sqrt(D)) V of all heads, side by side: (N, T, C)."""
    scores = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 1, 3, 2]))  # (N, H, T, T)
    scores = graph.add("Mul", scores, graph.either(size**-0.5))
    y = graph.add("MatMul", _weights(graph, scores, mask), v)  # (N, H, T, D)
    return graph.add("Reshape", graph.add("Transpose", y, perm=[0, 2, 1, 3]), whole(graph, [0, 0, -1]))


def _weights(graph: Graph, scores: str, mask: str | None) -> str:
    """Scores as weights over the last axis: only where the mask is true, and none where it is nowhere."""
    if mask is None:
        return graph.add("Softmax", scores, axis=-1)
    weights = graph.add("Softmax", graph.add("Where", mask, scores, graph.either(LEAST)), axis=-1)
    return graph.add("Where", mask, weights, graph.either(0.0))


def split_heads(graph: Graph, x: str, heads: int) -> str:
    """(N, T, H D) -> (N, H, T, D)."""
    return graph.add("Transpose", graph.add("Reshape", x, whole(graph, [0, 0, heads, -1])), perm=[0, 2, 1, 3])


def _shared(graph: Graph, x: str, heads: int, groups: int) -> str:
    """(N, G, T, D) -> (N, H, T, D): each head of keys serves H / G neighbouring heads of queries."""
    if heads == groups:
        return x
    x = graph.add("Unsqueeze", x, whole(graph, [2]))
    x = graph.add("Expand", x, whole(graph, [1, 1, heads // groups, 1, 1]))
    shape = graph.add("Shape", x)
    rest = graph.add("Slice", shape, whole(graph, [3]), whole(graph, [5]))
    return graph.add("Reshape", x, graph.add("Concat", whole(graph, [0, heads]), rest, axis=0))


def _rotate(graph: Graph, x: str, turn: tuple[str, str]) -> str:
    """The pairs (x_i, x_(i + D/2)) of each head turned by their place's angle."""
    cos, sin = turn
    a, b = graph.add_several("Split", 2, x, axis=-1, num_outputs=2)
    first = graph.add("Sub", graph.add("Mul", a, cos), graph.add("Mul", b, sin))
    second = graph.add("Add", graph.add("Mul", b, cos), graph.add("Mul", a, sin))
    return graph.add("Concat", first, second, axis=-1)


def linear(graph: Graph, layer: nn.Linear, x: str) -> str:
    """x W' + b over the last axis."""
    y = graph.add("MatMul", x, graph.add("Transpose", graph.weight(layer.weight), perm=[1, 0]))
    return y if layer.bias is None else graph.add("Add", y, graph.weight(layer.bias))


def norm(graph: Graph, layer: nn.LayerNorm | nn.RMSNorm, x: str) -> str:
    """Layer norm, or by the root of the mean square alone, over the last axis."""
    scale, epsilon = graph.weight(layer.weight), float(layer.eps or 0.0)
    if isinstance(layer, nn.LayerNorm):
        shift = [] if layer.bias is None else [graph.weight(layer.bias)]
        return graph.add("LayerNormalization", x, scale, *shift, axis=-1, epsilon=epsilon)
    square = graph.add("ReduceMean", graph.add("Mul", x, x), whole(graph, [-1]))
    root = graph.add("Sqrt", graph.add("Add", square, graph.either(epsilon)))
    return graph.add("Mul", graph.add("Div", x, root), scale)


def gelu(graph: Graph, x: str, approximate: str = "none") -> str:
    """x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2, or its form by tanh; ONNX has both from opset 20 on."""
    if approximate == "tanh":
        cubed = graph.add("Mul", graph.add("Mul", graph.add("Mul", x, x), x), graph.either(0.044715))
        inner = graph.add("Mul", graph.add("Add", x, cubed), graph.either((2 / np.pi) ** 0.5))
        half = graph.add("Tanh", inner)
    else:
        half = graph.add("Erf", graph.add("Mul", x, graph.either(0.5**0.5)))
    return graph.add("Mul", graph.add("Mul", x, graph.either(0.5)), graph.add("Add", half, graph.either(1.0)))


def _real(graph: Graph, tokens: str) -> str:
    return graph.add("GreaterOrEqual", tokens, whole(graph, 0))


def _lengths(graph: Graph, tokens: str) -> str:
    """Tokens of each text (N, 1), int64."""
    return graph.add("ReduceSum", graph.cast(_real(graph, tokens), "int64"), whole(graph, [1]))


def _embed(graph: Graph, table: str, tokens: str) -> str:
    """Rows of a table (V, C) for tokens: (N, T, C), zeros where a text is over."""
    rows = graph.add("Gather", table, graph.add("Max", tokens, whole(graph, 0)))
    real = graph.add("Unsqueeze", _float(graph, _real(graph, tokens)), whole(graph, [-1]))
    return graph.add("Mul", rows, real)


def _mean(graph: Graph, x: str, tokens: str) -> str:
    """The mean of x (N, T, C) over the tokens that are there; zero for a text of none."""
    real = graph.add("Unsqueeze", _float(graph, _real(graph, tokens)), whole(graph, [-1]))
    sums = graph.add("ReduceSum", graph.add("Mul", x, real), whole(graph, [1]), keepdims=0)
    some = graph.add("Max", _lengths(graph, tokens), whole(graph, 1))
    return graph.add("Div", sums, _float(graph, some))


def _size(graph: Graph, x: str, axis: int) -> str:
    """How long an axis is, (1,) int64."""
    return graph.add("Gather", graph.add("Shape", x), whole(graph, [axis]))


def _slice(graph: Graph, x: str, start: int, end: str | int, axis: int) -> str:
    until = end if isinstance(end, str) else whole(graph, [end])
    return graph.add("Slice", x, whole(graph, [start]), until, whole(graph, [axis]))


def whole(graph: Graph, value: int | list[int]) -> str:
    """Whole numbers as a constant."""
    return graph.either(value, np.int64)


def _float(graph: Graph, value: str) -> str:
    return graph.cast(value, "float")


CLASSIFIERS: dict[type[nn.Module], Callable[..., str]] = {
    OneHot: one_hot,
    Embedding: embedding,
    RNN: recurrent,
    LSTM: recurrent,
    RNNSeries: series,
    LSTMSeries: series,
    Attention: attention,
    Transformer: transformer,
    Probe: sentence,
    FineTune: sentence,
}
LANGUAGES: dict[type[nn.Module], Callable[..., str]] = {
    RNNLanguage: recurrent_language,
    LSTMLanguage: recurrent_language,
    GPT: gpt,
}
