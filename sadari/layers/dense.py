"""What networks of dense layers share: their outline, checks of their settings, their first weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.activations import find_activation

Recorder = Callable[[str, Tensor], Tensor]


def unrecorded(name: str, value: Tensor) -> Tensor:
    """The recorder of a model that nobody looks into."""
    return value


@runtime_checkable
class DenseConfig(Protocol):
    """The settings that every dense network has."""

    @property
    def width(self) -> int: ...
    @property
    def activation(self) -> str: ...
    @property
    def dropout(self) -> float: ...


@runtime_checkable
class DenseNetwork(Protocol):
    """A chain of dense layers, as `initialise` and `Stack` read it.

    h_0 = drop(act(hidden_0(x))), then h_i = drop(act(hidden_i(h_{i-1}))), plus h_{i-1} where `residual`; the
    answer is output(h), plus direct(x) where `direct` is a layer.
    """

    @property
    def config(self) -> DenseConfig: ...
    @property
    def hidden(self) -> nn.ModuleList: ...
    @property
    def output(self) -> nn.Linear: ...
    @property
    def direct(self) -> nn.Linear | None: ...
    @property
    def residual(self) -> bool: ...


def check_config(config: DenseConfig) -> None:
    """SadariError when a setting is outside what a network can be built with."""
    if config.width < 1:
        raise SadariError(f"width {config.width}: a hidden layer needs at least 1 unit; use width=100")
    layers = getattr(config, "layers", 1)
    if layers < 1:
        raise SadariError(f"layers {layers}: a network needs at least 1 hidden layer; use layers=2")
    if not 0.0 <= config.dropout < 1.0:
        raise SadariError(f"dropout {config.dropout}: the share dropped lies in [0, 1); use dropout=0.1")
    find_activation(config.activation)


def laws(model: DenseNetwork) -> dict[str, tuple[str, float]]:
    """The law of each parameter at birth: name -> (law, standard deviation).

    | parameter        | law                               | why                                             |
    |------------------|-----------------------------------|-------------------------------------------------|
    | hidden.0.weight  | normal, sqrt(0.5 / C)             | with the bias, w (x - x0) has variance 1 over   |
    |                  |                                   | standardised features                           |
    | hidden.0.bias    | bend, -w x0 with x0 normal        | each unit bends at a point x0 amid the data; at |
    |                  |                                   | zero, one feature's bends all sit at its mean   |
    | hidden.i.weight  | normal, gain / sqrt(D)            | relu family: level variance (He 2015)           |
    |                  | normal, gain * sqrt(2 / (D + D))  | tanh, sigmoid, linear (Glorot & Bengio 2010)    |
    | .. on a residual | the same / (L - 1)                | the L - 1 branches sum to a factor, whatever L  |
    | hidden.i.bias    | zero                              |                                                 |
    | output.weight    | normal, 0.1 / sqrt(D)             | first answers near zero, the target's mean      |
    | output.bias      | zero                              |                                                 |
    | direct.weight    | zero                              | adds only what descent asks of it               |
    """
    activation = find_activation(model.config.activation)
    first = cast(nn.Linear, model.hidden[0])
    inputs, width, branches = first.in_features, model.config.width, len(model.hidden) - 1
    table = {
        "hidden.0.weight": ("normal", math.sqrt(0.5 / inputs)),
        "hidden.0.bias": ("bend", math.sqrt(0.5)),
    }
    for i in range(1, len(model.hidden)):
        # between layers of equal width He's fan-in and Glorot's mean of fan-in and fan-out are the same
        scale = activation.gain / math.sqrt(width) / (branches if model.residual else 1)
        table[f"hidden.{i}.weight"], table[f"hidden.{i}.bias"] = ("normal", scale), ("zero", 0.0)
    table["output.weight"], table["output.bias"] = ("normal", 0.1 / math.sqrt(width)), ("zero", 0.0)
    if model.direct is not None:
        table["direct.weight"] = ("zero", 0.0)
    return table


@torch.no_grad()
def initialise(model: DenseNetwork, generator: torch.Generator | None = None) -> None:
    """Draw every parameter by its law from `generator`, or from torch's global one (`torch.manual_seed`)."""
    table = laws(model)
    for name, parameter in cast(nn.Module, model).named_parameters():
        law, deviation = table[name]
        if law == "normal":
            parameter.normal_(0.0, deviation, generator=generator)
        elif law == "bend":
            weight = cast(nn.Linear, model.hidden[0]).weight
            point = torch.empty_like(weight).normal_(generator=generator)
            parameter.copy_(-(weight * point).sum(1))
        else:
            parameter.zero_()
