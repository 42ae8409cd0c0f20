"""A network for pictures with its norms folded away and its weights laid out, for use without gradients.

A norm that follows a convolution and knows its statistics is a line a channel, and a line after a product is
a product with other weights (Jacob et al. 2018, 1712.05877, section 3.2):

    norm(W * x + b) = s (W * x + b - m) / sqrt(v + eps) + t  =  (W g) * x + (b - m) g + t
    g = s / sqrt(v + eps)

What bends a convolution's or a line's answer, and what is added to it, is done before the answer leaves the
processor, and weights are laid out once, in oneDNN's own order (as `layers.packed` does for lines):

    conv - norm - relu                     conv'
    conv - norm --(+)-- relu               conv' , written over what is added, when nobody else wants that
    shortcut ------+

Nothing has to be known about a network: what it does is taken from `layers.calls`, once for each shape of
pictures. What has no faster form is done as it is written, and what cannot be written down is left to the
network itself. The laid out weights are a copy, kept as long as the network.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.layers.calls import NORM, WINDOW, Call, Calls, Value, calls_of, leaves
from sadari.layers.packed import ROWS
from sadari.layers.program import NOT, RELU, RELU6, Asis, Bend, Laid, Program, Step

OPERATORS = (
    "_convolution_pointwise", "_convolution_pointwise_", "_linear_pointwise",
    "_reorder_convolution_weight", "_reorder_linear_weight", "_get_mkldnn_serialized_md",
)  # fmt: skip
SHAPES = 8  # of pictures that a network's steps are kept for: the usual batch, the last, and some more
SIDES = ("padding", "stride", "dilation")  # as oneDNN's operators take them
AT_HAND, ROOM = 56 << 20, 112 << 20  # bytes: glibc gives back what lies free beyond 64 MB
PAD = ("input", "pad", "mode", "value")
ADDS = ("add", "__add__", "__radd__")
MAKING = threading.RLock()  # threads that answer side by side lay a network's weights out once

Answer = Callable[[Tensor], Tensor]
Norm = tuple[Tensor, Tensor, Tensor | None, Tensor | None, float]
"""Mean, variance, scale, shift and eps."""


@dataclass
class Kept:
    """What is known of a network, as long as its weights stay as they are."""

    state: tuple[Any, ...]
    programs: OrderedDict[Any, Program | None] = field(default_factory=OrderedDict)
    """By precision, the pictures' shape and threads, the last used last; None where there is none."""
    laid: dict[Any, tuple[Tensor, Tensor | None]] = field(default_factory=dict)
    """Weights and biases by what they are made of."""
    hungriest: dict[Any, int] = field(default_factory=dict)
    """By a picture's shape, numbers that one call reads and makes of it."""


KEPT: WeakKeyDictionary[nn.Module, Kept] = WeakKeyDictionary()


class Folded:
    """The answers of a network for pictures: see `folded`."""

    def __init__(self, model: nn.Module, kept: Kept | None, precision: str) -> None:
        self.model, self.kept, self.precision = model, kept, precision
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def __call__(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O"]:
        program = self.program(pictures)
        if program is not None:
            return program(pictures)
        if self.precision == "fp32":
            return self.model(pictures)
        with torch.autocast(pictures.device.type, torch.bfloat16):
            return self.model(pictures).float()

    def program(self, pictures: Float[Tensor, "B C H W"]) -> Program | None:
        """The steps for pictures of such a shape; None where the network itself has to be asked."""
        usable = pictures.dtype == torch.float32 and pictures.device.type == "cpu" and len(pictures)
        if self.kept is None or not usable or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return None
        key = (self.precision, pictures.shape, torch.get_num_threads())
        with MAKING:
            programs = self.kept.programs
            if key not in programs:
                done = _calls(self.model, pictures.shape)
                programs[key] = None if done is None else _program(done, self.kept, self.dtype)
            programs.move_to_end(key)
            found = programs[key]
            while len(programs) > SHAPES:
                programs.popitem(last=False)
            return found

    def blocks(self, count: int, shape: tuple[int, int, int]) -> int:
        """In how many blocks so many pictures (C, H, W) are best answered; 0 where that cannot be told.

        In one where what a call reads and makes of them finds room in memory that glibc keeps at hand. Else
        in several that fill `ROOM`, in which weights are read less often: with `heap.kept_memory`.
        """
        if self.kept is None:
            return 0
        with MAKING:
            if shape not in self.kept.hungriest:
                done = _calls(self.model, (1, *shape))
                self.kept.hungriest[shape] = 0 if done is None else max(done.hungriest, 1)
        each = self.kept.hungriest[shape] * self.dtype.itemsize
        if not each or not count:
            return 0
        together = ROOM // each
        if count * each <= AT_HAND or together == 0:
            return 1 if together else count
        return max(-(-count // together), min(count, 2))


def folded(model: nn.Module, precision: str = "fp32") -> Folded:
    """A twin of a network for pictures, for use without gradients: of its answers alone.

    The network itself is left alone, and does the work where there is nothing to win: without convolutions,
    in training, off the processor, under autograd, and when somebody listens to one of its parts. Twins are
    cheap: make one for each use, and change no weight while it is in use.

    precision   fp32; or bf16: of weights, and of what lies between products, whose own sums are float32
    """
    state = _state(model)
    if state is None:
        return Folded(model, None, precision)
    with MAKING:
        kept = KEPT.get(model)
        if kept is None or kept.state != state:
            kept = KEPT[model] = Kept(state)
    return Folded(model, kept, precision)


def can_fold() -> bool:
    """Whether torch brings what this needs here, which oneDNN does."""
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


def _state(model: nn.Module) -> tuple[Any, ...] | None:
    """Where each weight lies, and its version, which torch counts up at each change; None where a network has
    to be asked itself. Norms change their statistics without counting up, but they count the batches."""
    found: list[tuple[int, int, int]] = []
    windows, waiting = False, [model]
    while waiting:
        part = waiting.pop()
        if part.training or part._forward_hooks or part._forward_pre_hooks:
            return None
        windows = windows or isinstance(part, nn.Conv2d)
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is None:
                continue
            if tensor.is_inference() or tensor.device.type != "cpu":  # the former have no versions
                return None
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                return None
            found.append((id(tensor), tensor.data_ptr(), tensor._version))
        waiting += [inner for inner in part._modules.values() if inner is not None]
    return tuple(found) if windows and can_fold() else None


def _calls(model: nn.Module, shape: tuple[int, ...]) -> Calls | None:
    try:
        return calls_of(model, shape)
    except Exception:  # whatever a network may do that has no place in a list: it can still do it itself
        return None


@torch.no_grad()
def _program(done: Calls, kept: Kept, dtype: torch.dtype) -> Program:
    """What a network does with pictures of a shape, in its faster form."""
    with torch.inference_mode(False):  # what is kept is of use outside that mode too
        steps = _taken_in(done, kept, dtype)
    _write_over(steps, done.last)
    return Program(steps, done.last)


def _taken_in(done: Calls, kept: Kept, dtype: torch.dtype) -> list[Step]:
    """Each convolution and line with what follows it taken in, where the last of that stood."""
    calls = done.calls
    users: dict[int, list[int]] = {done.last: [-1]}
    for i, call in enumerate(calls):
        for place in call.reads:
            users.setdefault(place, []).append(i)
    makers = {place: i for i, call in enumerate(calls) for place in call.makes}
    steps: dict[int, Step] = {}
    gone: set[int] = set()

    def following(i: int) -> int:
        """The one call that reads what call `i` gives; -1 if there are more, or none."""
        own = users.get(calls[i].makes[0], [])
        return own[0] if len(own) == 1 and own[0] not in gone else -1

    for i, call in enumerate(calls):
        product = _product(call)
        if product is None:
            continue
        source, weight, bias, window = product
        chain, norm, other, bend = [i], None, -1, NOT
        before = makers.get(source, -1)
        if window and before >= 0 and following(before) == i and (edges := _edges(calls[before])):
            chain, source = [before, i], calls[before].reads[0]
            window = ([own + more for own, more in zip(window[0], edges, strict=True)], *window[1:])
        if window and (j := following(chain[-1])) >= 0 and (norm := _norm(calls[j])) is not None:
            chain.append(j)
        if window and (j := following(chain[-1])) >= 0:
            other = _added(calls[j], calls[chain[-1]].makes[0], done.shapes)
            chain += [j] if other >= 0 else []
        if (j := following(chain[-1])) >= 0:
            found = _bend(calls[j], "sum" if other >= 0 else call.name)
            chain, bend = (chain, bend) if found is None else ([*chain, j], found)
        laid = _lay(kept, weight, bias, norm, window, done.shapes[source], dtype)
        steps[chain[-1]] = Laid(*laid, window, source, calls[chain[-1]].makes[0], bend, other)
        gone |= {*chain}
    for i, call in enumerate(calls):
        if i not in gone:
            steps[i] = Asis(call, mixed=dtype != torch.float32)
    return [steps[i] for i in sorted(steps)]


def _write_over(steps: list[Step], last: int) -> None:
    """Let a sum be written over what is added, where that is a product's own answer that nobody reads later,
    or may look at through another name."""
    makers = {place: step for step in steps for place in step.makes}
    readers: dict[int, list[Step]] = {}
    for step in steps:
        for place in step.reads:
            readers.setdefault(place, []).append(step)
    for step in steps:
        if isinstance(step, Laid) and isinstance(makers.get(step.other), Laid):
            own = readers[step.other]
            alone = own[-1] is step and all(isinstance(reader, Laid) for reader in own)
            step.over = alone and step.other not in (step.source, last)


def _product(call: Call) -> tuple[int, Tensor, Tensor | None, tuple[Any, ...]] | None:
    """Place of what is multiplied, weight, bias and window of a product that can be laid out."""
    if call.name not in ("conv2d", "linear"):
        return None
    given = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1} | call.given(WINDOW)
    x, weight, bias = given["input"], given["weight"], given["bias"]
    if not isinstance(x, Value) or isinstance(weight, Value) or isinstance(bias, Value):
        return None
    if call.name == "linear":
        return x.place, weight, bias, ()
    if isinstance(given["padding"], str):
        return None
    sides = (given[name] for name in SIDES)
    pairs = [[side, side] if isinstance(side, int) else [*side] for side in sides]
    return x.place, weight, bias, (*pairs, given["groups"])


def _edges(call: Call) -> list[int] | None:
    """Zeros that a call sets above and below, and left and right, where they are as many on both sides."""
    given = {"mode": "constant", "value": None} | call.given(PAD)
    pads = given.get("pad", ())
    if call.name != "pad" or len(pads) != 4 or given["mode"] != "constant" or given["value"] not in (None, 0):
        return None
    left, right, above, below = pads
    return [above, left] if above == below and left == right and min(pads) >= 0 else None


def _norm(call: Call) -> Norm | None:
    """Mean, variance, scale, shift and eps of a norm that knows its statistics."""
    given = {"weight": None, "bias": None, "eps": 1e-5} | call.given(NORM)
    mean, variance, scale, shift = found = [given.get(name) for name in NORM[1:5]]
    if call.name != "batch_norm" or mean is None or variance is None or Value in map(type, found):
        return None
    return mean, variance, scale, shift, given["eps"]


def _bend(call: Call, of_what: str) -> Bend | None:
    """What a call does with each number by itself, where a product's answer can be bent so."""
    rest = [value for value in leaves((call.args[1:], call.kwargs)) if value is not False]
    if call.name == "relu" and not rest:
        return RELU
    if of_what == "conv2d" and ((call.name, rest) in (("relu6", []), ("hardtanh", [0.0, 6.0]))):
        return RELU6
    if of_what == "linear" and call.name == "gelu" and rest in ([], ["none"], ["tanh"]):
        return "gelu", [], rest[0] if rest else "none"
    return None


def _added(call: Call, mine: int, shapes: dict[int, torch.Size]) -> int:
    """The place of what a call adds to `mine`, if it adds something else of the same shape; else -1."""
    places = call.reads
    if call.name not in ADDS or call.kwargs or len(places) != 2:
        return -1
    other = places[1 - places.index(mine)]
    return other if other != mine and shapes[other] == shapes[mine] else -1


def _lay(
    kept: Kept,
    weight: Tensor,
    bias: Tensor | None,
    norm: Norm | None,
    window: tuple[Any, ...],
    shape: torch.Size,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None]:
    """The weight with the norm in it as oneDNN wants it for inputs of a shape, and the bias.

    How many pictures there are makes no difference to it, but for one alone on several threads.
    """
    parts: tuple[Any, ...] = () if norm is None else (*map(id, norm[:4]), norm[4])
    made_of = (id(weight), id(bias), parts, str(window), dtype)
    key = (*made_of, shape[1:], shape[0] == 1, torch.get_num_threads())
    if key in kept.laid:
        return kept.laid[key]
    if norm is not None:
        mean, variance, scale, shift, eps = norm
        gain = (variance.double() + eps).rsqrt() * (1 if scale is None else scale)
        moved = -mean if bias is None else bias - mean
        bias = (moved * gain + (0 if shift is None else shift)).float()
        weight = (weight * gain.view(-1, 1, 1, 1)).float()
    weight, bias = weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype)
    if window:
        laid = torch.ops.mkldnn._reorder_convolution_weight(weight, *window, shape)
    else:
        laid = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    form = bytes(torch.ops.mkldnn._get_mkldnn_serialized_md(laid).tolist())
    kept.laid[key] = kept.laid.setdefault((*made_of, form), (laid, bias))  # one copy of each form
    return kept.laid[key]
