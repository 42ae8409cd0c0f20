"""Activations: one table from name to function, derivative and the gain that keeps variance level.

Both directions write into a buffer that is given, so that a step of training allocates nothing. The
derivative comes from the kernels that autograd itself uses (`torch.ops.aten.*_backward`), which read either
the output y or the input x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sadari.errors import SadariError

aten = torch.ops.aten
SLOPE = 0.01  # leaky-relu's slope below zero, torch's default


@dataclass(frozen=True)
class Activation:
    """One activation; x and y of any shape, `out` a buffer of that shape (x itself where `keeps` is "y")."""

    module: Callable[[], nn.Module]
    """The same function as a module of torch."""
    forward: Callable[[Tensor, Tensor], Tensor]
    """forward(x, out): y = activation(x), written into `out`."""
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]
    """backward(upstream, kept, out): derivative towards x, into `out`; kept is y or x as `keeps` says."""
    keeps: str
    """What the derivative reads: "y", so that y may overwrite x, or "x"."""
    law: str
    """Variance of the weights before it: "he" gain^2 / fan-in, "glorot" gain^2 * 2 / (fan-in + fan-out)."""
    gain: float
    """Factor of their standard deviation that keeps the second moment level from layer to layer."""


def _linear_forward(x: Tensor, out: Tensor) -> Tensor:
    return out if out is x else out.copy_(x)


def _linear_backward(upstream: Tensor, kept: Tensor, out: Tensor) -> Tensor:
    return out.copy_(upstream)


# Gains: sqrt(2) for relu (He 2015, 1502.01852, eq. 10), sqrt(2 / (1 + slope^2)) for its leaky form (eq. 15),
# 5/3 for tanh (torch.nn.init.calculate_gain), 1 where Glorot's analysis of the linear regime holds; gelu and
# silu are 1 / sqrt(E[f(z)^2]) for z standard normal, and a test integrates the whole "he" family.
ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(
        nn.ReLU,
        lambda x, out: torch.clamp_min(x, 0, out=out),
        lambda upstream, y, out: aten.threshold_backward.grad_input(upstream, y, 0, grad_input=out),
        keeps="y", law="he", gain=math.sqrt(2.0),
    ),
    "tanh": Activation(
        nn.Tanh,
        lambda x, out: torch.tanh(x, out=out),
        lambda upstream, y, out: aten.tanh_backward.grad_input(upstream, y, grad_input=out),
        keeps="y", law="glorot", gain=5.0 / 3.0,
    ),
    "sigmoid": Activation(
        nn.Sigmoid,
        lambda x, out: torch.sigmoid(x, out=out),
        lambda upstream, y, out: aten.sigmoid_backward.grad_input(upstream, y, grad_input=out),
        keeps="y", law="glorot", gain=1.0,
    ),
    "gelu": Activation(
        nn.GELU,
        lambda x, out: aten.gelu.out(x, out=out),
        lambda upstream, x, out: aten.gelu_backward.grad_input(upstream, x, grad_input=out),
        keeps="x", law="he", gain=1.5335,
    ),
    "silu": Activation(
        nn.SiLU,
        lambda x, out: aten.silu.out(x, out=out),
        lambda upstream, x, out: aten.silu_backward.grad_input(upstream, x, grad_input=out),
        keeps="x", law="he", gain=1.6765,
    ),
    "leaky-relu": Activation(
        lambda: nn.LeakyReLU(SLOPE),
        lambda x, out: aten.leaky_relu.out(x, SLOPE, out=out),
        lambda upstream, y, out: aten.leaky_relu_backward.grad_input(
            upstream, y, SLOPE, True, grad_input=out,
        ),
        keeps="y", law="he", gain=math.sqrt(2.0 / (1.0 + SLOPE**2)),
    ),
    "linear": Activation(nn.Identity, _linear_forward, _linear_backward, keeps="y", law="glorot", gain=1.0),
}  # fmt: skip


def find_activation(name: str) -> Activation:
    """The activation of that name; SadariError names those that exist."""
    if name not in ACTIVATIONS:
        raise SadariError(f"no activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
