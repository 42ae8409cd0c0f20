"""What networks of dense layers share: their outline, checks of their settings, their first weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.activations import find_activation

Recorder = Callable[[str, Tensor], Tensor]


def unrecorded(name: str, value: Tensor) -> Tensor:
    """The recorder of a model that nobody looks into."""
    return value


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

    config: DenseConfig
    hidden: nn.ModuleList
    output: nn.Linear
    direct: nn.Linear | None
    residual: bool


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
    """The law of each parameter at birth: name -> ("normal", deviation), ("uniform", bound) or ("zero", 0).

    | parameter        | law                               | why                                             |
    |------------------|-----------------------------------|-------------------------------------------------|
    | hidden.i.weight  | normal, gain / sqrt(fan-in)       | relu family: level variance (He 2015)       |
    |                  | normal, gain * sqrt(2 / (in+out)) | tanh, sigmoid, linear (Glorot & Bengio 2010)    |
    | .. on a residual | the same / (L - 1)                | the L - 1 branches sum to a factor, whatever L  |
    | hidden.0.bias    | uniform in +-gain                 | bends spread over standardised features; at     |
    |                  |                                   | zero, all bends of one feature sit at its mean  |
    | hidden.i.bias    | zero                              |                                                 |
    | output.weight    | normal, 0.1 / sqrt(D)             | first answers near zero, the target's mean      |
    | output.bias      | zero                              |                                                 |
    | direct.weight    | zero                              | adds only what descent asks of it               |
    """
    activation = find_activation(model.config.activation)
    table: dict[str, tuple[str, float]] = {}
    branches = len(model.hidden) - 1
    for i, layer in enumerate(model.hidden):
        assert isinstance(layer, nn.Linear)
        fan_in, fan_out = layer.in_features, layer.out_features
        fan = fan_in if activation.law == "he" else (fan_in + fan_out) / 2
        scale = 1 / branches if model.residual and i > 0 else 1.0
        table[f"hidden.{i}.weight"] = ("normal", scale * activation.gain / math.sqrt(fan))
        table[f"hidden.{i}.bias"] = ("uniform", activation.gain) if i == 0 else ("zero", 0.0)
    table["output.weight"] = ("normal", 0.1 / math.sqrt(model.output.in_features))
    table["output.bias"] = ("zero", 0.0)
    if model.direct is not None:
        table["direct.weight"] = ("zero", 0.0)
    return table


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw every parameter by its law from `generator`, or from torch's global one (`torch.manual_seed`)."""
    table = laws(model)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        law, scale = table[name]
        if law == "normal":
            parameter.normal_(0.0, scale, generator=generator)
        elif law == "uniform":
            parameter.uniform_(-scale, scale, generator=generator)
        else:
            parameter.zero_()
