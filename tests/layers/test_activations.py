"""Each activation equals torch's module, forward and backward, and its gain keeps variance level."""

from __future__ import annotations

import math

import pytest
import torch

from sadari.errors import SadariError
from sadari.layers.activations import ACTIVATIONS, find_activation


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_forward_and_derivative_equal_the_module_of_torch(name: str) -> None:
    activation = ACTIVATIONS[name]
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64, requires_grad=True)
    upstream = torch.linspace(-1, 2, 1001, dtype=torch.float64)
    expected = activation.module()(x)
    (slope,) = torch.autograd.grad(expected, x, upstream)

    buffer = x.detach().clone()
    out = buffer if activation.keeps == "y" else torch.empty_like(buffer)
    y = activation.forward(buffer, out)
    assert y is out
    torch.testing.assert_close(y, expected.detach(), rtol=0, atol=1e-14)
    into = torch.empty_like(buffer)
    assert activation.backward(upstream, y if activation.keeps == "y" else buffer, into) is into
    torch.testing.assert_close(into, slope, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", [name for name, a in ACTIVATIONS.items() if a.law == "he"])
def test_the_gain_makes_the_second_moment_of_a_standard_normal_one(name: str) -> None:
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    moment = torch.trapezoid(ACTIVATIONS[name].module()(z).square() * density, z).item()
    assert ACTIVATIONS[name].gain == pytest.approx(1 / math.sqrt(moment), rel=1e-4)


def test_an_unknown_name_is_answered_with_those_that_exist() -> None:
    with pytest.raises(SadariError, match=r"no activation 'step'; choose one of relu, tanh, .*, linear"):
        find_activation("step")
