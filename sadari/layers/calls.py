"""What a network does with pictures, written down as a list of calls that can be done again.

The network is shown pictures that have a shape and no numbers: a single zero, looked at as a whole batch. Its
own code runs, and what it asks torch for is written down instead of done, but for its shape:

    F.relu(self.bn1(self.conv1(x)))      1 = conv2d(0, weight ...)   2 = batch_norm(1, ...)   3 = relu(2)

Only what hangs on shapes alone is taken, so that the list holds for all pictures of that shape. A network
that asks for anything else, that reads a number or changes a tensor in place, has no list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SAME = (
    "relu", "relu6", "hardtanh", "gelu", "silu", "sigmoid", "tanh", "softmax", "contiguous",
    "batch_norm", "layer_norm", "local_response_norm",
)  # fmt: skip
"""Whose answer has the shape of what they are given."""
PLACES = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "interpolate")
"""Which see each channel by itself."""
BOTH = ("add", "__add__", "__radd__", "sub", "__sub__", "mul", "__mul__", "__rmul__")
"""Of two tensors, number by number."""
LIGHT = (
    "flatten", "unflatten", "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze", "expand",
    "chunk", "cat", "pad", "mean", "__getitem__",
)  # fmt: skip
"""Which take no time, and are done with the zeros."""
ASKED = ("__get__", "dim", "size", "numel", "__len__")
"""For what hangs on the shape, or on the kind of numbers."""
WINDOW = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
DROPOUT = ("input", "p", "training", "inplace")
ONE = 1  # picture and channel that are looked at in place of all


class Unlisted(Exception):
    """What a network does cannot be written down."""


class Value(NamedTuple):
    """The place of a tensor that is made on the way; pictures are at 0."""

    place: int


@dataclass
class Call:
    """One thing that torch is asked for."""

    function: Callable[..., Any]
    args: Any
    """With a `Value` for each tensor that is made on the way."""
    kwargs: Any
    out: Any
    """A `Value` for each tensor that comes out, in the form in which they do."""

    @property
    def name(self) -> str:
        """What torch calls it."""
        return getattr(self.function, "__name__", "")

    def given(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Its arguments by these names."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs

    @property
    def reads(self) -> list[int]:
        """Places that it reads."""
        return [value.place for value in leaves((self.args, self.kwargs)) if isinstance(value, Value)]

    @property
    def makes(self) -> list[int]:
        """Places that it fills."""
        return [value.place for value in leaves(self.out) if isinstance(value, Value)]


@dataclass(frozen=True)
class Calls:
    """What a network does."""

    calls: list[Call]
    last: int
    """The place of its answer."""
    shapes: dict[int, torch.Size]
    """Of the tensor at each place."""

    @property
    def hungriest(self) -> int:
        """The most numbers that one call reads and makes, those of weights aside."""
        return max((self._numbers(call) for call in self.calls), default=0)

    def _numbers(self, call: Call) -> int:
        return sum(self.shapes[place].numel() for place in (*call.reads, *call.makes))


@torch.no_grad()
def calls_of(model: nn.Module, shape: torch.Size | tuple[int, ...]) -> Calls:
    """What a network, not in training, does with pictures (B, C, H, W) in float32 on the processor.

    Raises Unlisted, or what the network raises at pictures that are zeros.
    """
    with torch.inference_mode(False):
        watch = _Watch({id(tensor) for tensor in (*model.parameters(), *model.buffers())}, _hollow(shape))
        with watch:
            answer = model(watch.alive[0])
    if not isinstance(answer, Tensor) or id(answer) not in watch.places:
        raise Unlisted("the answer is no tensor that was made on the way")
    return Calls(watch.calls, watch.places[id(answer)], {i: one.shape for i, one in enumerate(watch.alive)})


def leaves(value: Any) -> Iterator[Any]:
    """What lies in tuples, lists and dicts, however deep."""
    if isinstance(value, Value) or not isinstance(value, tuple | list | dict):
        yield value
        return
    for inner in value.values() if isinstance(value, dict) else value:
        yield from leaves(inner)


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same tuples, lists and dicts, with what lies in them changed."""
    if isinstance(value, dict):
        return {name: mapped(inner, change) for name, inner in value.items()}
    if isinstance(value, list):
        return [mapped(inner, change) for inner in value]
    if isinstance(value, tuple) and not isinstance(value, Value):
        return tuple(mapped(inner, change) for inner in value)
    return change(value)


class _Watch(TorchFunctionMode):
    """Writes down what torch is asked for, in its order."""

    def __init__(self, weights: set[int], first: Tensor) -> None:
        super().__init__()
        self.weights = weights
        self.calls: list[Call] = []
        self.alive = [first]  # by place; kept, so that no two have one id
        self.places = {id(first): 0}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        call = Call(func, args, kwargs or {}, None)
        if call.name in ASKED:
            out = func(*args, **call.kwargs)
            if any(isinstance(value, Tensor) for value in leaves(out)):
                raise Unlisted("a tensor is looked at in another way")
            return out
        if call.name == "dropout" and not call.given(DROPOUT)["training"]:
            return call.given(DROPOUT)["input"]
        out = _shaped(call)
        call.args, call.kwargs = mapped((call.args, call.kwargs), self._place)
        call.out = mapped(out, self._new)
        self.calls.append(call)
        return out

    def _place(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in self.places:
            return Value(self.places[id(value)])
        if id(value) in self.weights:
            return value
        raise Unlisted("a tensor is neither a weight nor made on the way")

    def _new(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            raise Unlisted("something else than tensors comes out")
        self.places[id(value)] = len(self.alive)
        self.alive.append(value)
        return Value(len(self.alive) - 1)


def _hollow(shape: Any) -> Tensor:
    """A tensor of a shape that takes no memory."""
    return torch.zeros(()).expand(shape)


def _shaped(call: Call) -> Any:
    """Zeros of the shape of what a call gives. Raises Unlisted for one that is not known to hang on shapes
    alone, or that changes something in place."""
    first: Any = call.args[0] if call.args else None
    rest = call.args[1:]
    if call.kwargs.get("inplace") or (call.name in SAME and rest and rest[-1] is True):
        raise Unlisted(f"{call.name} changes a tensor in place")
    if call.name in ("conv2d", "linear"):
        return _product(call.name, call.given(WINDOW))
    if call.name == "batch_norm" and call.given(NORM).get("training"):
        raise Unlisted("a norm takes its statistics from the batch")
    if call.name in SAME:
        return _hollow(first.shape)
    if call.name in PLACES and first.ndim == 4:
        seen = call.function(first[:ONE, :ONE], *rest, **call.kwargs)
        if isinstance(seen, Tensor):
            return _hollow((*first.shape[:2], *seen.shape[2:]))
    if call.name in BOTH:
        both = torch.broadcast_tensors(*(value for value in call.args if isinstance(value, Tensor)))
        return _hollow(both[0].shape)
    if call.name == "scaled_dot_product_attention":
        return _hollow((*first.shape[:-1], rest[1].shape[-1]))
    if call.name in LIGHT and not any(isinstance(value, Tensor) for value in leaves(rest)):
        return call.function(*call.args, **call.kwargs)
    raise Unlisted(f"{call.name} is not known to hang on shapes alone")


def _product(name: str, given: Mapping[str, Any]) -> Tensor:
    """Zeros of the shape of what a convolution or a line gives."""
    x, weight = given["input"], given["weight"]
    if name == "linear":
        return _hollow((*x.shape[:-1], weight.shape[0]))
    parts = {"stride": 1, "padding": 0, "dilation": 1} | {n: v for n, v in given.items() if n in WINDOW[3:6]}
    seen = F.conv2d(_hollow((ONE, ONE, *x.shape[2:])), _hollow((ONE, ONE, *weight.shape[2:])), **parts)
    return _hollow((x.shape[0], weight.shape[0], *seen.shape[2:]))
