"""Both towers of pictures with captions as ONNX nodes: pixels, or tokens, in; vectors of length 1 out.

The seeing towers are those of `towers`; the reading ones are here, translated whole in the order of their own
forward, since how long a caption is must stay open. Tokens have -1 where a caption is over.

    bag-of-words   the mean of the words' vectors
    clip           causal layers, of which the place of the caption's end is read
    siglip         filled up to its fixed length, of which the last place is read
    locked         the reader's vector, made level, and a line

Alphabet: N captions, T tokens, C width, H heads, D width of the shared space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.export import MOST, pictures, towers
from sadari.export.graph import Graph
from sadari.export.text import attend, bag, gelu, linear, norm, split_heads, vector, whole
from sadari.models.bag_of_words import BagOfWords
from sadari.models.clip import CLIP, HIGHEST, LAST
from sadari.models.locked import Locked
from sadari.models.siglip import SigLIP

if TYPE_CHECKING:
    from sadari.runs import Run

VECTORS, TOKENS = "vectors", "tokens"
LEAST = 1e-12  # below which a length is taken for it, as torch's `normalize` does


def image_model(run: Run) -> onnx.ModelProto:
    """`pictures`, uint8 [N, H, W, C], to `vectors`, float [N, D]. SadariError where it is beyond 2 GB."""
    graph, spec = Graph(), run.spec.pictures
    seen = SEEING[type(run.model)](graph, run.model, pictures.pixels(graph, spec))
    shape = f"[N, {spec.size}, {spec.size}, {spec.channels}]"
    return _model(run, graph, seen, f"pictures, uint8 {shape}, as image_preprocess.py makes them of files")


def text_model(run: Run) -> onnx.ModelProto:
    """`tokens`, int64 [N, T], to `vectors`, float [N, D]. SadariError where it is beyond 2 GB."""
    graph = Graph()
    read = READING[type(run.model)](graph, run.model, graph.input(TOKENS, "int64", ["N", "T"]))
    how = f"at most {run.spec.length} a caption, shorter ones filled up with -1 at the right"
    return _model(run, graph, read, f"tokens, int64 [N, T], by tokenizer.json, {how}")


def _model(run: Run, graph: Graph, features: str, given: str) -> onnx.ModelProto:
    graph.output(VECTORS, unit(graph, features), "float", ["N", "D"])
    if (size := sum(constant.ByteSize() for constant in graph.constants)) > MOST:
        raise SadariError(
            f"an ONNX file ends at 2 GB, and a tower of this run takes {size / 1e9:.1f} GB; use --to "
            f"safetensors"
        )
    said = (
        f"A tower of a Sadari run, rung {run.rung}, task match.\n\nInput: {given}.\nOutput: {VECTORS}, float "
    )
    made = graph.model(f"sadari {run.rung}", f"{said}[N, D], of length 1. README.md beside it says the rest.")
    onnx.checker.check_model(made, full_check=True)
    return made


# ---------------------------------------------------------------------- reading towers


def bag_of_words(graph: Graph, model: BagOfWords, tokens: str) -> str:
    """(N, D): means of the words' vectors."""
    return bag(graph, model.words, tokens)


def clip(graph: Graph, model: CLIP, tokens: str) -> str:
    """(N, D): what the layers make of each caption's end."""
    places = graph.add(
        "Range", whole(graph, 0), graph.add("Squeeze", _length(graph, tokens)), whole(graph, 1)
    )
    row, column = (graph.add("Unsqueeze", places, whole(graph, [axis])) for axis in (1, 0))
    past = graph.add("GreaterOrEqual", row, column)  # (T, T)
    x = graph.add("Gather", graph.weight(model.token_embedding.weight), _written(graph, tokens))
    there = graph.add("Gather", graph.weight(model.positional_embedding), places)
    x = graph.add("Add", x, there)
    blocks: Any = model.transformer.resblocks
    for block in blocks:
        h, attention = norm(graph, block.ln_1, x), block.attn
        parts = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
        q, k, v = (split_heads(graph, _dense(graph, *part, h), attention.heads) for part in parts)
        width = attention.out_proj.in_features // attention.heads
        x = graph.add("Add", x, linear(graph, attention.out_proj, attend(graph, q, k, v, past, width)))
        inner = linear(graph, block.mlp["c_fc"], norm(graph, block.ln_2, x))
        inner = _quick(graph, inner) if block.quick else gelu(graph, inner)
        x = graph.add("Add", x, linear(graph, block.mlp["c_proj"], inner))
    at = graph.cast(graph.add("Equal", _ends(graph, model, tokens, column), column), "float")  # (N, T)
    # one row of ones and zeros a caption takes its end out: a product that every engine has
    own = graph.add("MatMul", graph.add("Unsqueeze", at, whole(graph, [1])), x)  # (N, 1, C)
    own = norm(graph, model.ln_final, graph.add("Squeeze", own, whole(graph, [1])))
    return graph.add("MatMul", own, graph.weight(model.text_projection))


def _ends(graph: Graph, model: CLIP, tokens: str, column: str) -> str:
    """Where each caption ends (N, 1): as the model's `ends`."""
    if model.config.end == LAST:
        real = graph.cast(graph.add("GreaterOrEqual", tokens, whole(graph, 0)), "int64")
        return graph.add("ReduceMax", graph.add("Mul", real, column), whole(graph, [1]))
    if model.config.end == HIGHEST:
        return graph.add("ArgMax", graph.cast(tokens, "int32"), axis=1)
    found = graph.add("Equal", tokens, whole(graph, model.config.end))
    return graph.add("ArgMax", graph.cast(found, "int32"), axis=1)


def siglip(graph: Graph, model: SigLIP, tokens: str) -> str:
    """(N, D): the last place of each caption, filled up to `context`."""
    text, length = model.text_model, whole(graph, [model.sizes.context])
    missing = graph.add("Sub", length, _length(graph, tokens))  # below 0, columns of padding are cut off
    pads = graph.add("Concat", whole(graph, [0, 0, 0]), missing, axis=0)
    full = graph.add("Pad", tokens, pads, whole(graph, -1))  # (N, T)
    over = graph.add("Less", full, whole(graph, 0))
    full = graph.add("Where", over, whole(graph, model.config.pad), full)
    x = graph.add("Gather", graph.weight(text.embeddings.token_embedding.weight), full)
    x = graph.add("Add", x, graph.weight(text.embeddings.position_embedding.weight))
    blocks: Any = text.encoder.layers
    for block in blocks:
        h, own = norm(graph, block.layer_norm1, x), block.self_attn
        layers = (own.q_proj, own.k_proj, own.v_proj)
        q, k, v = (split_heads(graph, linear(graph, layer, h), own.heads) for layer in layers)
        heads = attend(graph, q, k, v, None, own.q_proj.out_features // own.heads)
        x = graph.add("Add", x, linear(graph, own.out_proj, heads))
        inner = linear(graph, block.mlp.fc1, norm(graph, block.layer_norm2, x))
        x = graph.add("Add", x, linear(graph, block.mlp.fc2, gelu(graph, inner, block.mlp.gelu)))
    last = graph.add("Gather", norm(graph, text.final_layer_norm, x), whole(graph, -1), axis=1)
    return linear(graph, text.head, last)


def locked(graph: Graph, model: Locked, tokens: str) -> str:
    """(N, D): the reader's vector, levelled, and a line."""
    read, line = vector(graph, model.reader, tokens), model.text_projection
    one, zero = (graph.constant(np.full(line.in_features, value, np.float32)) for value in (1, 0))
    level = graph.add("LayerNormalization", read, one, zero, axis=-1, epsilon=1e-5)
    return linear(graph, line, level)


SEEING: dict[type[nn.Module], Callable[[Graph, Any, str], str]] = {
    BagOfWords: towers.bag_of_words,
    CLIP: towers.clip,
    SigLIP: towers.siglip,
    Locked: towers.locked,
}
READING: dict[type[nn.Module], Callable[[Graph, Any, str], str]] = {
    BagOfWords: bag_of_words,
    CLIP: clip,
    SigLIP: siglip,
    Locked: locked,
}


# ---------------------------------------------------------------------- helpers


def unit(graph: Graph, x: str) -> str:
    """Rows of length 1."""
    length = graph.add("ReduceL2", x, whole(graph, [-1]))
    return graph.add("Div", x, graph.add("Max", length, graph.either(LEAST)))


def _length(graph: Graph, tokens: str) -> str:
    """T, (1,) int64."""
    return graph.add("Gather", graph.add("Shape", tokens), whole(graph, [1]))


def _written(graph: Graph, tokens: str) -> str:
    """Tokens as numbers of rows; of padding the first, which no end sees."""
    return graph.add("Max", tokens, whole(graph, 0))


def _quick(graph: Graph, x: str) -> str:
    """x sigmoid(1.702 x)."""
    return graph.add("Mul", x, graph.add("Sigmoid", graph.add("Mul", x, graph.either(1.702))))


@torch.no_grad()
def _dense(graph: Graph, weight: Tensor, bias: Tensor, x: str) -> str:
    product = graph.add("MatMul", x, graph.constant(weight.t().contiguous().numpy()))
    return graph.add("Add", product, graph.constant(bias.contiguous().numpy()))
