"""Convolutions as products: the windows are those of unfold, values and gradients those of torch's conv2d."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sadari.layers import gathered
from sadari.layers.convolution import Convolution


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(3, 7), st.integers(3, 6))
def test_windows_are_those_of_unfold(side: int, step: int, edge: int, height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    found = gathered.windows(x, (side, side), (step, step), (edge, edge))
    theirs = F.unfold(x, side, padding=edge, stride=step)  # (B, C k k, P)
    theirs = theirs.view(2, 3, side * side, -1).permute(0, 3, 2, 1).reshape(len(found), -1)
    assert torch.equal(found, theirs)


@pytest.mark.parametrize("stride, size", [(1, 4), (2, 8), (2, 7), (1, 1)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("learns", [True, False])
def test_values_and_gradients_are_those_of_torch(
    stride: int, size: int, layout: torch.memory_format, learns: bool
) -> None:
    torch.manual_seed(0)
    layer = Convolution(64, 48, 3, stride, 1, bias=False)
    torch.nn.init.normal_(layer.weight, 0.0, (2 / 576) ** 0.5)
    layer.to(memory_format=layout)
    x = torch.randn(5, 64, size, size).contiguous(memory_format=layout).requires_grad_(learns)
    found = []
    for way in (layer, lambda x: F.conv2d(x, layer.weight, None, stride, 1)):
        layer.zero_grad()
        x.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            assert gathered.pays(x, layer.weight, (stride, stride), (1, 1))
            y = way(x)
        slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        (y.float() * slope).sum().backward()
        found.append((y.float(), layer.weight.grad, x.grad if learns else y.float()))
    assert y.dtype == torch.bfloat16
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        gap = (ours - theirs).norm() / theirs.norm()
        assert gap < 4e-3, gap  # bf16 has eight bits: half of the last is 2e-3


def test_it_is_used_only_where_it_pays() -> None:
    weight, x = torch.randn(8, 64, 3, 3, requires_grad=True), torch.randn(2, 64, 4, 4)
    how = (1, 1), (1, 1)
    assert not gathered.pays(x, weight, *how)  # single precision
    with torch.autocast("cpu", torch.bfloat16):
        assert gathered.pays(x, weight, *how)
        assert not gathered.pays(torch.randn(2, 64, 9, 9), weight, *how)  # many places
        assert not gathered.pays(x, weight[:, :8], *how)  # few channels
        assert not gathered.pays(x, weight.detach(), *how)  # nothing is learnt
        assert not gathered.pays(x, torch.randn(8, 64, 1, 1, requires_grad=True), *how)
        with torch.no_grad():
            assert not gathered.pays(x, weight, *how)
    with torch.autocast("cpu", torch.float16):
        assert not gathered.pays(x, weight, *how)
