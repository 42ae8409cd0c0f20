"""What networks for pictures share: windows with their sizes, costs and fields of view, and first weights.

A window of k x k pixels that moves by s over a picture with p zeros at each edge:

    n  ->  floor((n + 2 p - k) / s) + 1      places along a side
    r  ->  r + (k - 1) j                     pixels of the picture that one place sees
    j  ->  j s                               pixels of the picture between two places

(Dumoulin & Visin 2016, 1603.07285; Araujo et al. 2019, Computing Receptive Fields).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers import gathered
from sadari.layers.dense import Recorder, unrecorded

Shape = tuple[int, int, int]
"""(C, H, W) of pictures."""
PHOTO = 160  # pixels of a side from which `auto` means the paper's network, made for 224
Laws = dict[str, tuple[str, float]]


@dataclass(frozen=True)
class Window:
    """A convolution, or a pooling where `outputs` is 0."""

    kernel: int
    stride: int = 1
    padding: int = 0
    inputs: int = 0
    outputs: int = 0
    groups: int = 1
    """Parts that the channels fall into, each seen by its own share of the filters."""
    bias: bool = True
    norm: bool = False
    """Whether batch normalisation follows."""
    ceil: bool = False
    """Whether a pooling keeps the odd last row and column, in a window of their own."""

    def size(self, n: int) -> int:
        """Places along a side of n pixels; below 1 where the window does not fit."""
        span = n + 2 * self.padding - self.kernel
        return (-(-span // self.stride) if self.ceil else span // self.stride) + 1

    @property
    def parameters(self) -> int:
        """k^2 C / groups a filter, a bias where there is one, scale and shift of the norm."""
        each = self.kernel**2 * self.inputs // self.groups + self.bias + 2 * self.norm
        return self.outputs * each

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds for one picture whose answer has height x width places: one a weight and place."""
        return height * width * self.outputs * (self.kernel**2 * self.inputs // self.groups)

    def layer(self) -> Convolution:
        """The convolution itself."""
        return Convolution(
            self.inputs, self.outputs, self.kernel, self.stride, self.padding,
            groups=self.groups, bias=self.bias,
        )  # fmt: skip

    def pool(self) -> nn.MaxPool2d:
        """The pooling itself: the largest value of each window."""
        return nn.MaxPool2d(self.kernel, self.stride, self.padding, ceil_mode=self.ceil)


@dataclass(frozen=True)
class Field:
    """What the places of a stage are, and what one of them sees of the picture."""

    stage: str
    channels: int
    size: tuple[int, int]
    """Places along height and width."""
    reach: int
    """Pixels r along a side of the square that one place sees; it may stand out over the picture's edge."""
    jump: int
    """Pixels j between the middles of two neighbours' squares."""
    start: float
    """Where the middle of the first place's square lies, in pixels from the picture's edge."""


Stages = Sequence[tuple[str, Sequence[Window]]]
"""Names and the windows passed one after another, along the longest way."""


def fields(stages: Stages, inputs: Shape) -> list[Field]:
    """The field of view after each stage, for pictures (C, H, W)."""
    channels, height, width = inputs
    reach, jump, start = 1, 1, 0.5
    found = []
    for name, windows in stages:
        for window in windows:
            height, width = window.size(height), window.size(width)
            reach += (window.kernel - 1) * jump
            start += ((window.kernel - 1) / 2 - window.padding) * jump
            jump *= window.stride
            channels = window.outputs or channels
        found.append(Field(name, channels, (height, width), reach, jump, start))
    return found


def window_costs(stages: Stages, inputs: Shape) -> tuple[int, int]:
    """Parameters of all windows, and multiply-adds for one picture (C, H, W)."""
    _, height, width = inputs
    parameters = macs = 0
    for _, windows in stages:
        for window in windows:
            height, width = window.size(height), window.size(width)
            parameters += window.parameters
            macs += window.macs(height, width)
    return parameters, macs


def dense_costs(sizes: Sequence[int]) -> tuple[int, int]:
    """Parameters and multiply-adds of dense layers, given the units at their ends: D, D, O."""
    macs = sum(a * b for a, b in pairwise(sizes))
    return macs + sum(sizes[1:]), macs


def check_size(stages: Stages, inputs: Shape, variant: str, remedy: str) -> None:
    """SadariError where a window finds no place to stand in such pictures."""
    _, height, width = inputs
    if min(inputs) < 1:
        raise SadariError(
            f"pictures of {inputs} channels, height and width: each is at least 1; give (3, 64, 64)"
        )
    least = next(n for n in range(1, 1 << 12) if _fits(stages, n))
    if min(height, width) < least:
        raise SadariError(
            f"pictures of {width} x {height} pixels are too small for {variant}, whose windows need {least} "
            f"a side; use --size {least} or more, or {remedy}"
        )


def _fits(stages: Stages, n: int) -> bool:
    for _, windows in stages:
        for window in windows:
            n = window.size(n)
            if n < 1:
                return False
    return True


def choose(variant: str, inputs: Shape, paper: str, small: str) -> str:
    """The variant that is meant: `auto` is the paper's for photographs, else the small one."""
    return variant if variant != "auto" else paper if min(inputs[1:]) >= PHOTO else small


def check_settings(variant: str, known: Iterable[str], width: float, dropout: float = 0.0) -> None:
    """SadariError when a setting is outside what a network can be built with."""
    if variant != "auto" and variant not in known:
        raise SadariError(f"variant {variant!r} is unknown; use one of: auto, {', '.join(known)}")
    if not 0 < width <= 16:
        raise SadariError(f"width {width}: the share of the channels lies above 0, up to 16; use width=1.0")
    if not 0 <= dropout < 1:
        raise SadariError(f"dropout {dropout}: the share dropped lies in [0, 1); use dropout=0.5")


def share(channels: int, width: float) -> int:
    """Channels times the width multiplier, an even number, so that two groups can part it; 2 at the least."""
    return channels if width == 1 else max(2, 2 * round(channels * width / 2))


class Convolution(nn.Conv2d):
    """A convolution whose weights are drawn once, by `initialise`, and trained as is fastest."""

    def reset_parameters(self) -> None:
        """Left to `initialise`: torch's own draw would be thrown away, which takes VGG half a second."""

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        """torch's, as products where these pay."""
        plain = self.bias is None and self.groups == 1 and self.dilation == (1, 1)
        if plain and not isinstance(self.padding, str):
            how = self.stride, self.padding
            if gathered.pays(x, self.weight, *how):
                return gathered.convolved(x, self.weight, *how)
        return super().forward(x)


class Dense(nn.Linear):
    """A dense layer whose weights are drawn once, by `initialise`."""

    def reset_parameters(self) -> None:
        """Left to `initialise`."""


class Norm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015, 1502.03167), which one value a channel does not break."""

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """By the batch's mean and variance in training; by the running ones else, or of a single value."""
        if self.training and x.numel() == x.shape[1]:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(x)


class Trunk(nn.Sequential):
    """Layers under torchvision's numbers that, when called, end at what the last layer reads.

    torchvision calls the convolutions `features` and numbers the dense layers apart, under `classifier`. Here
    a network's `features(pictures)` is (B, D), so that after the convolutions the dense ones, which belong to
    the network, are passed through too, all but the last.
    """

    after: tuple[nn.Module, nn.Sequential] | None = None
    """The averaging and the dense layers; a tuple, so that they are not registered here."""
    names: Mapping[str, str] = MappingProxyType({})
    """Layers ("features.1", "classifier.2") whose values a recorder is given, and under what name."""

    def forward(self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None) -> Tensor:
        """Features (B, D)."""
        rec = rec or unrecorded
        x = pictures
        for i, layer in enumerate(self):
            x = self._named(f"features.{i}", layer(x), rec)  # (B, c, h, w)
        if self.after is None:
            return x
        pool, dense = self.after
        x = pool(x).flatten(1)
        for i, layer in enumerate(list(dense)[:-1]):
            x = self._named(f"classifier.{i}", layer(x), rec)  # (B, D)
        return x

    def _named(self, path: str, value: Tensor, rec: Recorder) -> Tensor:
        return rec(self.names[path], value) if path in self.names else value


def laws(model: nn.Module) -> Laws:
    """The law of each parameter at birth: name -> (law, standard deviation or value).

    | parameter                        | law                      | why                                     |
    |----------------------------------|--------------------------|-----------------------------------------|
    | weights of a layer before a relu | normal, sqrt(2 / fan-in) | level variance (He 2015, 1502.01852)    |
    | weight of the last layer         | normal, 0.1 / sqrt(D)    | first answers near zero: the loss is    |
    |                                  |                          | about ln O                              |
    | scale of a norm                  | constant, 1              |                                         |
    | shift of a norm, biases          | constant, 0              |                                         |
    """
    table: Laws = {}
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            scale = 0.1 / math.sqrt(fan_in) if module is last else math.sqrt(2 / fan_in)
            table[f"{path}.weight"] = ("normal", scale)
        elif isinstance(module, nn.BatchNorm2d):
            table[f"{path}.weight"] = ("constant", 1.0)
        if getattr(module, "bias", None) is not None:
            table[f"{path}.bias"] = ("constant", 0.0)
    return table


@torch.no_grad()
def initialise(model: nn.Module, table: Laws) -> None:
    """Draw every parameter by its law from torch's global generator (`torch.manual_seed`)."""
    for name, parameter in model.named_parameters():
        law, value = table[name]
        if law == "normal":
            parameter.normal_(0.0, value)
        else:
            parameter.fill_(value)


def checked(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors, if they are the model's by name and shape; SadariError naming the first that is not.

    Counts of batches, which old files lack and nothing reads, are filled in.
    """
    own = model.state_dict()
    found = {name: value for name, value in state.items()}
    for name, value in own.items():
        if name not in found and name.endswith("num_batches_tracked"):
            found[name] = torch.zeros_like(value)
        if name not in found:
            raise SadariError(f"the weights hold no {name!r}; they are of another network or variant")
        if found[name].shape != value.shape:
            raise SadariError(
                f"{name} is {tuple(found[name].shape)} in the weights, {tuple(value.shape)} here; build the "
                f"network with their variant, channels and number of classes"
            )
    foreign = next((name for name in found if name not in own), None)
    if foreign is not None:
        raise SadariError(f"the weights hold {foreign!r}, which this network lacks; use another variant")
    return found
