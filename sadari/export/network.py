"""A network and its loss's prediction as ONNX nodes: traced by torch.fx, each operation found in one table.

torch.onnx would do it too, but needs a package more, takes seconds and prints warnings; what the rungs of a
table are made of fits on this page, the layers of pictures in `pictures`, and the models of texts and series
are translated whole, in `text`. An operation that is not in the table is an error, never a guess.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from sadari.errors import SadariError
from sadari.export import pictures, text, towers
from sadari.export.graph import Graph
from sadari.layers.convolution import Dense
from sadari.losses import Loss
from sadari.models.mean import Mean
from sadari.models.prior import Prior
from sadari.models.zero_shot import ZeroShot

END = np.iinfo(np.int64).max  # of a slice without one


class _Whole(nn.Module):
    """From features to what the loss makes of the output: a number in model space, or probabilities."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, features: Tensor) -> Tensor:
        return self.loss.predict(self.model(features))


class _Tracer(fx.Tracer):
    """Does not look into a module that has a translation of its own."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return type(module) in MODULES


def convert(
    graph: Graph, model: nn.Module, loss: Loss, features: str, shape: tuple[int, ...] | None = None
) -> str:
    """Add the nodes that turn `features` (N, C), or tokens (N, T), into predictions; returns them, float (N,)
    or (N, classes). Of pictures (N, C, H, W), `shape` is (C, H, W).

    Raises SadariError for a model with an operation that has no translation.
    """
    whole = _Whole(pictures.plain(model), loss).eval()
    traced = _Tracer().trace(whole)
    sizes = pictures.sizes(whole, shape) if shape else {}
    modules = dict(whole.named_modules())
    values: dict[fx.Node, Any] = {}

    def value(argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return values[argument]
        return type(argument)(map(value, argument)) if isinstance(argument, tuple | list) else argument

    for node in traced.nodes:
        arguments, options = value(node.args), {key: value(given) for key, given in node.kwargs.items()}
        if node.op == "placeholder":
            values[node] = features
        elif node.op == "get_attr":
            values[node] = _tensor(graph, operator.attrgetter(node.target)(whole))
        elif node.op == "output":
            return arguments[0]
        else:
            target: Any = modules[node.target] if node.op == "call_module" else node.target
            options |= {"size": sizes[target]} if target in sizes else {}
            values[node] = _translation(target)(graph, *arguments, **options)
    raise AssertionError("torch.fx gives every graph an output")


def _translation(target: Any) -> Callable[..., Any]:
    if isinstance(target, nn.Module):
        translate = MODULES[type(target)]  # the tracer looks into all others
        return lambda graph, *arguments, **options: translate(graph, target, *arguments, **options)
    if target not in FUNCTIONS:
        name = getattr(target, "__name__", target)
        raise SadariError(
            f"this run cannot be exported to ONNX: its model uses {name}, which has no translation yet"
        )
    return FUNCTIONS[target]


def _tensor(graph: Graph, value: Tensor) -> str:
    return graph.constant(value.detach().numpy())


def _linear(graph: Graph, layer: nn.Linear, x: str) -> str:
    bias = [] if layer.bias is None else [_tensor(graph, layer.bias)]
    return graph.add("Gemm", x, _tensor(graph, layer.weight), *bias, transB=1)


def _constant(graph: Graph, model: Mean | Prior, x: str) -> str:
    """The ground rungs: the same answer (O) for each row of x (N, C)."""
    rows = graph.add("Slice", graph.add("Shape", x), *(graph.constant(np.array([k])) for k in (0, 1)))
    shape = graph.add("Concat", rows, graph.constant(np.array([len(model.constant)])), axis=0)
    return graph.add("Expand", _tensor(graph, model.constant), shape)


def _gelu(graph: Graph, layer: nn.GELU, x: str) -> str:
    """In its exact form."""
    if layer.approximate != "none":
        raise SadariError(
            f"gelu in its {layer.approximate} form has no translation to ONNX yet; use the exact one"
        )
    return text.gelu(graph, x)


def _select(graph: Graph, x: str, index: Any) -> str:
    """x[..., k]: one column of the last axis; x[:, a:b:s]: stretches of the first axes."""
    parts = index if isinstance(index, tuple) else (index,)
    if len(parts) == 2 and parts[0] is Ellipsis and isinstance(parts[1], int):
        return graph.add("Gather", x, graph.constant(np.array(parts[1])), axis=-1)
    if not all(isinstance(part, slice) for part in parts):
        raise SadariError(f"this run cannot be exported to ONNX: [{index}] has no translation yet")
    cut = {axis: part for axis, part in enumerate(parts) if part != slice(None)}
    bounds = [(part.start or 0, END if part.stop is None else part.stop, part.step or 1, axis)
              for axis, part in cut.items()]  # fmt: skip
    starts, ends, steps, axes = (text.whole(graph, list(column)) for column in zip(*bounds, strict=True))
    return graph.add("Slice", x, starts, ends, axes, steps)


def _pad(
    graph: Graph, x: str, pads: Sequence[int], mode: str = "constant", value: float | None = None
) -> str:
    """Zeros around the last axes, which torch names from the last one on: (left, right, above, below ...)."""
    if mode != "constant" or value:
        raise SadariError(f"this run cannot be exported to ONNX: padding by {mode} has no translation yet")
    ends = list(zip(pads[::2], pads[1::2], strict=True))[::-1]
    axes = text.whole(graph, list(range(-len(ends), 0)))
    both = text.whole(graph, [end[side] for side in (0, 1) for end in ends])
    return graph.add("Pad", x, both, graph.either(0.0), axes)


def _mean(graph: Graph, x: str, axes: Sequence[int]) -> str:
    return graph.add("ReduceMean", x, text.whole(graph, list(axes)), keepdims=0)


def _one(op: str) -> Callable[..., str]:
    return lambda graph, x: graph.add(op, x)


def _two(op: str) -> Callable[..., str]:
    return lambda graph, x, y: graph.add(op, graph.either(x), graph.either(y))


def _of(op: str) -> Callable[..., str]:
    return lambda graph, layer, x: graph.add(op, x)


MODULES: dict[type[nn.Module], Callable[..., str]] = {
    nn.Linear: _linear,
    nn.Conv1d: pictures.convolution,
    nn.ReLU: _of("Relu"),
    nn.Tanh: _of("Tanh"),
    nn.Sigmoid: _of("Sigmoid"),
    nn.GELU: _gelu,
    nn.SiLU: lambda graph, layer, x: graph.add("Mul", x, graph.add("Sigmoid", x)),
    nn.LeakyReLU: lambda graph, layer, x: graph.add("LeakyRelu", x, alpha=layer.negative_slope),
    nn.Identity: lambda graph, layer, x: x,
    Mean: _constant,
    Prior: _constant,
    nn.Dropout: lambda graph, layer, x: x,  # in use, nothing is dropped
    Dense: _linear,
    **text.CLASSIFIERS,
    **pictures.LAYERS,
    ZeroShot: towers.zero_shot,
}

FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((operator.add, torch.add, "add"), _two("Add")),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), _two("Sub")),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), _two("Mul")),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), _one("Neg")),
    **dict.fromkeys((torch.exp, "exp"), _one("Exp")),
    "clamp": lambda graph, x, max: graph.add("Min", x, graph.either(max)),
    **dict.fromkeys((torch.sigmoid, "sigmoid"), _one("Sigmoid")),
    **dict.fromkeys((torch.softmax, "softmax"), lambda graph, x, dim: graph.add("Softmax", x, axis=dim)),
    torch.cat: lambda graph, values, dim=0: graph.add("Concat", *values, axis=dim),
    operator.getitem: _select,
    **dict.fromkeys((nn.functional.relu, "relu"), lambda graph, x, inplace=False: graph.add("Relu", x)),
    nn.functional.relu6: lambda graph, x, inplace=False: graph.add("Clip", x, *map(graph.either, (0.0, 6.0))),
    nn.functional.pad: _pad,
    "flatten": lambda graph, x, first: graph.add("Flatten", x, axis=first),
    "mean": _mean,
    "unsqueeze": lambda graph, x, dim: graph.add("Unsqueeze", x, text.whole(graph, [dim])),
}
