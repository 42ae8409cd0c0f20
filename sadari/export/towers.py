"""The seeing tower of two, and the names that it compares with, as ONNX nodes.

Each tower is translated whole, for pictures of the size that it has learnt on: CLIP's Vision Transformer and
ResNet, SigLIP's, the line of bag-of-words; the eye of a locked tower is traced as any other network is.

Alphabet: N pictures, T tokens, C width, H heads, D width of the shared space, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sadari.export import pictures
from sadari.export.graph import Graph
from sadari.export.text import attend, gelu, linear, norm, split_heads, whole
from sadari.models.clip_resnet import ModifiedResNet
from sadari.models.zero_shot import ZeroShot

LEAST = 1e-12  # below which a length is taken for it, as torch's `normalize` does


def zero_shot(graph: Graph, model: ZeroShot, x: str) -> str:
    """Logits (N, O): cosines with the names, spread by the scale."""
    tower: Any = model.backbone
    features = _TOWERS[model.words["network"]](graph, tower, x)
    length = graph.add("ReduceL2", features, whole(graph, [-1]))
    unit = graph.add("Div", features, graph.add("Max", length, graph.either(LEAST)))
    names = model.log_scale.detach().exp() * model.names.detach()
    if model.outputs == 1:
        names = names[1:] - names[:1]
    return graph.add("MatMul", unit, _constant(graph, names.t()))


def bag_of_words(graph: Graph, tower: Any, x: str) -> str:
    """Means of squares and a line."""
    small = pictures.average(graph, nn.AdaptiveAvgPool2d(tower.size), x, tower.inputs[1:])
    return linear(graph, tower.picture, graph.add("Flatten", small, axis=1))


def clip(graph: Graph, tower: Any, x: str) -> str:
    """(N, D), from the class token of a Vision Transformer or from a ResNet's pooling."""
    vision = tower.visual
    if isinstance(vision, ModifiedResNet):
        return clip_resnet(graph, vision, x)
    x = _patches(graph, vision.conv1, x)
    x = graph.add("Concat", _each(graph, vision.class_embedding.view(1, 1, -1), x), x, axis=1)
    x = norm(graph, vision.ln_pre, graph.add("Add", x, graph.weight(vision.positional_embedding)))
    for block in vision.transformer.resblocks:
        h = norm(graph, block.ln_1, x)
        x = graph.add("Add", x, _looked(graph, block.attn, h, h))
        inner = linear(graph, block.mlp["c_fc"], norm(graph, block.ln_2, x))
        inner = _quick(graph, inner) if block.quick else gelu(graph, inner)
        x = graph.add("Add", x, linear(graph, block.mlp["c_proj"], inner))
    own = norm(graph, vision.ln_post, graph.add("Gather", x, whole(graph, 0), axis=1))
    return graph.add("MatMul", own, graph.weight(vision.proj))


def clip_resnet(graph: Graph, vision: Any, x: str) -> str:
    """(N, D): convolutions, halved by averages, whose last places a query of their mean looks at."""

    def window(conv: nn.Conv2d, bn: nn.BatchNorm2d, given: str) -> str:
        return pictures.batch_norm(graph, bn, pictures.convolution(graph, conv, given))

    def halved(given: str, stride: int) -> str:
        sides = [stride, stride]
        return given if stride == 1 else graph.add("AveragePool", given, kernel_shape=sides, strides=sides)

    for i in (1, 2, 3):
        x = graph.add("Relu", window(getattr(vision, f"conv{i}"), getattr(vision, f"bn{i}"), x))
    x = halved(x, 2)
    for stage in range(1, vision.stages + 1):
        for block in getattr(vision, f"layer{stage}"):
            h = graph.add("Relu", window(block.conv1, block.bn1, x))
            h = halved(graph.add("Relu", window(block.conv2, block.bn2, h)), block.stride)
            h = window(block.conv3, block.bn3, h)
            if block.downsample is not None:
                x = window(block.downsample[0], block.downsample[1], halved(x, block.stride))
            x = graph.add("Relu", graph.add("Add", h, x))
    pool = vision.attnpool
    x = graph.add("Transpose", graph.add("Reshape", x, whole(graph, [0, 0, -1])), perm=[0, 2, 1])
    x = graph.add("Concat", graph.add("ReduceMean", x, whole(graph, [1]), keepdims=1), x, axis=1)
    x = graph.add("Add", x, graph.weight(pool.positional_embedding))
    first = graph.add("Gather", x, whole(graph, [0]), axis=1)
    parts = zip((first, x, x), (pool.q_proj, pool.k_proj, pool.v_proj), strict=True)
    q, k, v = (split_heads(graph, linear(graph, layer, part), pool.heads) for part, layer in parts)
    width = pool.q_proj.out_features // pool.heads
    pooled = linear(graph, pool.c_proj, attend(graph, q, k, v, None, width))
    return graph.add("Squeeze", pooled, whole(graph, [1]))


def siglip(graph: Graph, tower: Any, x: str) -> str:
    """(N, D), what the probe takes from all patches."""
    vision = tower.vision_model
    x = _patches(graph, vision.embeddings.patch_embedding, x)
    x = graph.add("Add", x, graph.weight(vision.embeddings.position_embedding.weight))
    for block in vision.encoder.layers:
        h, attention = norm(graph, block.layer_norm1, x), block.self_attn
        layers = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (split_heads(graph, linear(graph, layer, h), attention.heads) for layer in layers)
        width = attention.q_proj.out_features // attention.heads
        x = graph.add("Add", x, linear(graph, attention.out_proj, attend(graph, q, k, v, None, width)))
        x = graph.add("Add", x, _mlp(graph, block.mlp, norm(graph, block.layer_norm2, x)))
    x, head = norm(graph, vision.post_layernorm, x), vision.head
    pooled = _looked(graph, head.attention, _each(graph, head.probe, x), x)  # (N, 1, D)
    pooled = graph.add("Add", pooled, _mlp(graph, head.mlp, norm(graph, head.layernorm, pooled)))
    return graph.add("Squeeze", pooled, whole(graph, [1]))


def locked(graph: Graph, tower: Any, x: str) -> str:
    """(N, D): the eye's features, levelled, and a line."""
    from sadari.export.network import convert  # which has this module's table in its own

    class Eye(nn.Module):
        """The eye alone, as `convert` takes a model."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = tower.backbone

        def forward(self, shown: Tensor) -> Tensor:
            return self.backbone.features(shown)

    class AsItIs:
        """A loss that makes nothing of an output."""

        @staticmethod
        def predict(output: Tensor) -> Tensor:
            return output

    asked: Any = AsItIs()
    features = convert(graph, Eye().eval(), asked, x, tower.inputs)
    width = tower.image_projection.in_features
    level = graph.add(
        "LayerNormalization",
        features,
        graph.constant(np.ones(width, np.float32)),
        graph.constant(np.zeros(width, np.float32)),
        axis=-1,
        epsilon=1e-5,
    )
    return linear(graph, tower.image_projection, level)


_TOWERS: dict[str, Callable[[Graph, Any, str], str]] = {
    "bag-of-words": bag_of_words,
    "clip": clip,
    "siglip": siglip,
    "locked": locked,
}


# --------------------------------------------------------------------- helpers


def _patches(graph: Graph, layer: nn.Conv2d, x: str) -> str:
    """Patches side by side as tokens (N, T, C); pixels behind the last are left."""
    x = pictures.convolution(graph, layer, x)
    return graph.add("Transpose", graph.add("Reshape", x, whole(graph, [0, 0, -1])), perm=[0, 2, 1])


def _looked(graph: Graph, layer: Any, q: str, x: str) -> str:
    """What queries (N, Q, C) take from tokens (N, T, C), by one matrix for queries, keys and values."""
    parts = zip((q, x, x), layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
    made = []
    for given, weight, bias in parts:
        product = graph.add("MatMul", given, _constant(graph, weight.t()))
        made.append(split_heads(graph, graph.add("Add", product, _constant(graph, bias)), layer.heads))
    width = layer.out_proj.in_features // layer.heads
    return linear(graph, layer.out_proj, attend(graph, made[0], made[1], made[2], None, width))


def _mlp(graph: Graph, layer: Any, x: str) -> str:
    return linear(graph, layer.fc2, gelu(graph, linear(graph, layer.fc1, x), layer.gelu))


def _quick(graph: Graph, x: str) -> str:
    """x sigmoid(1.702 x)."""
    return graph.add("Mul", x, graph.add("Sigmoid", graph.add("Mul", x, graph.either(1.702))))


def _each(graph: Graph, token: Tensor, x: str) -> str:
    """A token (1, 1, C) for each picture of x (N, T, C)."""
    count = graph.add("Slice", graph.add("Shape", x), whole(graph, [0]), whole(graph, [1]))
    shape = graph.add("Concat", count, whole(graph, [1, token.shape[-1]]), axis=0)
    return graph.add("Expand", _constant(graph, token), shape)


@torch.no_grad()
def _constant(graph: Graph, value: Tensor) -> str:
    return graph.constant(value.detach().contiguous().numpy())
