"""What networks for pictures are made of, as ONNX nodes; stored pixels in, as a spec's `decode` makes them.

Layers are translated one by one, as `network` meets them while it traces. A Vision Transformer, which asks
for its pictures' size as it goes, is translated whole, and so is the search for the nearest pictures.

Making a picture file a square of pixels stays outside: no runtime shrinks a JPEG as Pillow does, bit for bit.
`pixel_code.preprocess` is the code that does it, for whoever has Pillow and NumPy and nothing of ours.

Alphabet: N pictures, C channels, H x W pixels, T tokens, D width, P pixels after reducing, M stored pictures,
K neighbours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError
from sadari.export.graph import Graph
from sadari.export.text import attend, gelu, linear, norm, split_heads, whole
from sadari.layers.convolution import Convolution, Norm
from sadari.models.efficientnet import SameConv
from sadari.models.nearest import CLOSER, FLAT, SPARE, Nearest
from sadari.models.vit import AttentionPooling, SelfAttention, ViT

INPUT = "pictures"
EVEN = 2.0**36  # parts of 1 to which likeness is rounded
Size = tuple[int, int]
"""Height and width."""


def pixels(graph: Graph, spec: ImageSpec) -> str:
    """Add the input, uint8 [N, H, W, C]; returns (pixel / 255 - mean) / deviation, float (N, C, H, W)."""
    given = graph.input(INPUT, "uint8", ["N", spec.size, spec.size, spec.channels])
    mean, deviation = np.array([spec.mean, spec.deviation], np.float64)
    scaled = graph.add("Mul", graph.cast(given, "float"), graph.either(1 / (255 * deviation)))
    shifted = graph.add("Add", scaled, graph.either(-mean / deviation))
    return graph.add("Transpose", shifted, perm=[0, 3, 1, 2])


class Features(nn.Module):
    """What a Vision Transformer makes of pictures, as a module, which the tracer can leave whole."""

    def __init__(self, network: ViT) -> None:
        super().__init__()
        self.network = network

    def features(self, pictures: Tensor, rec: Any = None) -> Tensor:
        """As the network's own, for whoever has it inside."""
        return self(pictures)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) to (B, D)."""
        return self.network.features(pictures)


def plain(model: nn.Module) -> nn.Module:
    """The model as it can be traced: adapters merged into their matrices, and no ViT's features asked for."""
    inside = [name for name, child in model.named_children() if isinstance(child, ViT)]
    adapted = any(map(parametrize.is_parametrized, model.modules()))
    if not (inside or adapted):
        return model
    model = copy.deepcopy(model)
    for module in list(model.modules()) if adapted else ():
        if parametrize.is_parametrized(module):
            names: Any = module.parametrizations
            merged = {name: getattr(module, name).detach() for name in names}
            # torch's own removal would take the weights away from the model that this is a copy of as well
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            for name, value in merged.items():
                module.register_parameter(name, nn.Parameter(value))
    for name in inside:
        setattr(model, name, Features(getattr(model, name)))
    return model


def sizes(model: nn.Module, shape: tuple[int, ...]) -> dict[nn.Module, Size]:
    """Height and width of what each layer is given that must know them, for pictures of `shape` (C, H, W)."""
    found: dict[nn.Module, Size] = {}

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        height, width = given[0].shape[-2:]
        found[layer] = height, width

    hooks = [layer.register_forward_pre_hook(look) for layer in model.modules() if type(layer) in SIZED]
    try:
        if hooks:
            with torch.inference_mode():
                model(torch.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return found


# ---------------------------------------------------------------------- layers


def convolution(graph: Graph, layer: nn.Conv2d, x: str, pads: list[int] | None = None) -> str:
    """Filters at each place; `pads` are zeros above, left, below, right."""
    if pads is None:
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            raise SadariError("this run cannot be exported to ONNX: padding has no translation but by zeros")
        pads = [*layer.padding, *layer.padding]
    bias = [] if layer.bias is None else [graph.weight(layer.bias)]
    return graph.add(
        "Conv", x, graph.weight(layer.weight), *bias,
        kernel_shape=list(layer.kernel_size), strides=list(layer.stride), pads=pads,
        dilations=list(layer.dilation), group=layer.groups,
    )  # fmt: skip


def same(graph: Graph, layer: SameConv, x: str, size: Size) -> str:
    """A convolution whose odd zero stands at the right and below."""
    rooms = zip(size, layer.stride, layer.kernel_size, strict=True)
    rows, columns = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n, stride, kernel in rooms)
    above, left = rows // 2, columns // 2
    return convolution(graph, layer, x, [above, left, rows - above, columns - left])


def batch_norm(graph: Graph, layer: nn.BatchNorm2d, x: str) -> str:
    """By the running mean and variance."""
    parts: Any = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
    return graph.add("BatchNormalization", x, *map(graph.weight, parts), epsilon=layer.eps)


def largest(graph: Graph, layer: nn.MaxPool2d, x: str) -> str:
    """The largest value of each window."""
    kernel, stride, padding = ([n, n] if isinstance(n, int) else list(n)
                               for n in (layer.kernel_size, layer.stride, layer.padding))  # fmt: skip
    return graph.add(
        "MaxPool", x, kernel_shape=kernel, strides=stride, pads=padding * 2, ceil_mode=int(layer.ceil_mode)
    )


def local_norm(graph: Graph, layer: nn.LocalResponseNorm, x: str) -> str:
    """Neighbouring channels hold one another down."""
    return graph.add("LRN", x, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=float(layer.k))


def average(graph: Graph, layer: nn.AdaptiveAvgPool2d, x: str, size: Size) -> str:
    """Means over a grid of windows."""
    wanted = layer.output_size
    return _averaged(graph, x, size, (wanted, wanted) if isinstance(wanted, int) else tuple(wanted))  # type: ignore[arg-type]


def _averaged(graph: Graph, x: str, size: Size, grid: Size) -> str:
    """Rows and columns are two products with tables of shares, so that any grid will do."""
    if size == grid:
        return x
    if grid == (1, 1):
        return graph.add("GlobalAveragePool", x)
    down, across = (_shares(n, places) for n, places in zip(size, grid, strict=True))
    return graph.add("MatMul", graph.add("MatMul", graph.constant(down), x), graph.constant(across.T))


def _shares(n: int, places: int) -> np.ndarray:
    """(places, n): what each of n pixels is of each place's mean, as torch's adaptive pooling parts them."""
    table = np.zeros((places, n), np.float32)
    for place in range(places):
        start, end = place * n // places, -(-(place + 1) * n // places)
        table[place, start:end] = 1 / (end - start)
    return table


# ---------------------------------------------------------------------- whole models


def vit(graph: Graph, model: ViT, x: str) -> str:
    """Logits."""
    head: Any = model.heads["head"]
    return linear(graph, head, vit_features(graph, model, x))


def vit_features(graph: Graph, model: ViT, x: str) -> str:
    """The class token, or what the pooling query took, after all layers: (N, D)."""
    patch, (height, width) = model.sizes.patch, model.inputs[1:]
    x = convolution(graph, model.conv_proj, x, [0, 0, -height % patch, -width % patch])  # (N, D, h, w)
    x = graph.add("Transpose", graph.add("Reshape", x, whole(graph, [0, 0, -1])), perm=[0, 2, 1])
    if model.class_token is not None:
        x = graph.add("Concat", _each(graph, model.class_token, x), x, axis=1)
    encoder: Any = model.encoder
    x = graph.add("Add", x, graph.weight(encoder.pos_embedding))
    for block in encoder.layers.values():
        h = norm(graph, block.ln_1, x)
        x = graph.add("Add", x, _looked(graph, block.self_attention, h, h))
        inner = gelu(graph, linear(graph, block.mlp[0], norm(graph, block.ln_2, x)))
        x = graph.add("Add", x, linear(graph, block.mlp[3], inner))
    x = norm(graph, encoder.ln, x)
    if model.pooling is None:
        return graph.add("Gather", x, whole(graph, 0), axis=1)
    return _pooled(graph, model.pooling, x)


def _looked(graph: Graph, layer: SelfAttention, q: str, x: str) -> str:
    """What queries (N, Q, D) take from tokens (N, T, D), mixed: (N, Q, D)."""
    D, heads = layer.out_proj.in_features, layer.heads
    parts = zip((q, x, x), layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
    q, k, v = (split_heads(graph, _dense(graph, weight, bias, part), heads) for part, weight, bias in parts)
    return linear(graph, layer.out_proj, attend(graph, q, k, v, None, D // heads))


def _pooled(graph: Graph, layer: AttentionPooling, x: str) -> str:
    """What one learnt query takes from all patches (N, T, D), and a dense pair on top: (N, D)."""
    pooled = _looked(graph, layer.attention, _each(graph, layer.probe, x), x)  # (N, 1, D)
    mlp: Any = layer.mlp
    inner = gelu(graph, linear(graph, mlp["fc1"], norm(graph, layer.layernorm, pooled)))
    pooled = graph.add("Add", pooled, linear(graph, mlp["fc2"], inner))
    return graph.add("Squeeze", pooled, whole(graph, [1]))


def _each(graph: Graph, token: Tensor, x: str) -> str:
    """A token (1, 1, D) for each picture of x (N, T, D)."""
    count = graph.add("Slice", graph.add("Shape", x), whole(graph, [0]), whole(graph, [1]))
    shape = graph.add("Concat", count, whole(graph, [1, token.shape[-1]]), axis=0)
    return graph.add("Expand", graph.weight(token), shape)


def _dense(graph: Graph, weight: Tensor, bias: Tensor, x: str) -> str:
    return graph.add(
        "Add",
        graph.add("MatMul", x, graph.constant(weight.detach().T.contiguous().numpy())),
        graph.constant(bias.detach().numpy()),
    )


def nearest(graph: Graph, model: Nearest, x: str) -> str:
    """Logarithms of the classes' shares of the votes of the nearest pictures, which are in the file.

    As in the model, those that may be nearest are found in single precision and put in order in double.
    """
    count = min(int(model.k), len(model.pictures))
    several = min(count + SPARE, len(model.pictures))
    units = _unit(graph, _averaged(graph, x, model.inputs[1:], model.reduced))  # (N, P)
    stored = graph.constant(model._stored(slice(None)).numpy())  # (M, P), unit vectors too
    rough = graph.add("MatMul", units, graph.add("Transpose", stored, perm=[1, 0]))  # (N, M)
    _, near = graph.add_several("TopK", 2, rough, whole(graph, [several]))
    near, _ = graph.add_several("TopK", 2, near, whole(graph, [several]), largest=0)  # in training order
    others = graph.cast(graph.add("Gather", stored, near), "double")  # (N, K, P)
    mine = graph.add("Unsqueeze", graph.cast(units, "double"), whole(graph, [1]))
    exact = graph.add("ReduceSum", graph.add("Mul", others, mine), whole(graph, [2]), keepdims=0)
    # a picture that is stored twice is summed twice, and engines may not sum alike; rounded, it is equal
    exact = graph.add("Round", graph.add("Mul", exact, graph.either(EVEN, np.float64)))
    exact = graph.add("Div", exact, graph.either(EVEN, np.float64))
    likeness, place = graph.add_several("TopK", 2, exact, whole(graph, [count]))
    labels = graph.constant(model.labels.numpy())
    labels = graph.add("Gather", labels, graph.add("GatherElements", near, place, axis=1))
    logs = _votes(graph, model, units, likeness, labels)
    if model.outputs > 1:
        return logs
    one, other = (graph.add("Gather", logs, whole(graph, [k]), axis=1) for k in (1, 0))
    return graph.add("Sub", one, other)


def _votes(graph: Graph, model: Nearest, units: str, likeness: str, labels: str) -> str:
    """ln p of each class (N, classes); a picture of one colour is like none, and none votes."""
    bright = graph.add("ReduceMax", graph.add("Abs", units), whole(graph, [1]))
    seen = graph.cast(graph.add("Greater", bright, graph.either(0.0)), "float")  # (N, 1)
    closer = graph.add("Mul", likeness, graph.either(CLOSER, np.float64))
    weights = graph.cast(graph.add("Add", closer, graph.either(1.0, np.float64)), "float")
    weights = graph.add("Mul", weights, seen)  # (N, K)
    hot = graph.add("OneHot", labels, whole(graph, [len(model.shares)]), graph.either([0.0, 1.0]), axis=-1)
    hot = graph.add("Mul", hot, graph.add("Unsqueeze", weights, whole(graph, [-1])))
    votes = graph.add("ReduceSum", hot, whole(graph, [1]), keepdims=0)
    trust = model.trust * model.shares
    most = graph.add(
        "Add", graph.add("ReduceSum", weights, whole(graph, [1])), graph.either(trust.sum().item())
    )
    given = graph.add("Add", votes, graph.constant(trust.numpy()))
    return graph.add("Log", graph.add("Div", given, most))


def _unit(graph: Graph, x: str) -> str:
    """Rows less their mean, of length 1; zero where hardly anything is left."""
    x = graph.add("Flatten", x, axis=1)
    x = graph.add("Sub", x, graph.add("ReduceMean", x, whole(graph, [1])))
    length = graph.add("ReduceL2", x, whole(graph, [1]))
    flat = graph.either(FLAT)
    ones = graph.add("Div", x, graph.add("Max", length, flat))
    return graph.add("Where", graph.add("Greater", length, flat), ones, graph.either(0.0))


SIZED: dict[type[nn.Module], Callable[..., str]] = {nn.AdaptiveAvgPool2d: average, SameConv: same}
"""Layers that must know the size of what they are given."""
LAYERS: dict[type[nn.Module], Callable[..., str]] = {
    **dict.fromkeys((nn.Conv2d, Convolution), convolution),
    **dict.fromkeys((nn.BatchNorm2d, Norm), batch_norm),
    nn.MaxPool2d: largest,
    nn.LocalResponseNorm: local_norm,
    ViT: vit,
    Features: lambda graph, layer, x: vit_features(graph, layer.network, x),
    Nearest: nearest,
    **SIZED,
}
