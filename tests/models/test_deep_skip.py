"""Deep-skip: equal to torch modules wired by hand, counted by its formulas, trainable where deep is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.layers.activations import ACTIVATIONS
from sadari.layers.stack import Stack
from sadari.losses import make_loss
from sadari.models.deep import Deep, DeepConfig
from sadari.models.deep_skip import DeepSkip, DeepSkipConfig


class Round(nn.Module):
    """h + inner(h): He's residual block, as a module of its own."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.inner(h)


@pytest.mark.proof("deep-skip", "parity")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equals_residual_blocks_of_torch_and_a_line_beside_them(activation: str) -> None:
    torch.manual_seed(0)
    model = DeepSkip(DeepSkipConfig(width=16, layers=3, activation=activation), 6, 2)
    nn.init.normal_(model.direct.weight)
    bend = ACTIVATIONS[activation].module
    chain = nn.Sequential(
        nn.Linear(6, 16), bend(), Round(nn.Linear(16, 16), bend()), Round(nn.Linear(16, 16), bend()),
        nn.Linear(16, 2),
    )  # fmt: skip
    line = nn.Linear(6, 2, bias=False)
    reference = [*chain.parameters(), *line.parameters()]
    for ours, theirs in zip(model.parameters(), reference, strict=True):
        theirs.data.copy_(ours.data)
    features = torch.randn(40, 6)
    expected = chain(features) + line(features)
    torch.testing.assert_close(model(features), expected, rtol=0, atol=1e-5)
    gradients = torch.autograd.grad(expected.square().mean(), reference)
    ours = torch.autograd.grad(model(features).square().mean(), list(model.parameters()))
    for ours_, theirs in zip(ours, gradients, strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=0, atol=1e-5)


@given(
    width=st.integers(1, 30),
    layers=st.integers(1, 5),
    inputs=st.integers(1, 20),
    outputs=st.integers(1, 8),
)
def test_formulas_count_the_parameters_and_the_multiply_adds(width, layers, inputs, outputs) -> None:
    config = DeepSkipConfig(width=width, layers=layers)
    tensors = [p.shape for p in DeepSkip(config, inputs, outputs).parameters()]
    assert DeepSkip.parameter_count(config, inputs, outputs) == sum(shape.numel() for shape in tensors)
    assert DeepSkip.macs(config, inputs, outputs) == sum(s.numel() for s in tensors if len(s) == 2)


def test_names_its_inner_values() -> None:
    model = DeepSkip(DeepSkipConfig(width=4, layers=2), 3, 2)
    seen: dict[str, Tensor] = {}
    answer = model(torch.randn(7, 3), lambda name, value: seen.setdefault(name, value))
    assert list(seen) == ["pre0", "hidden0", "pre1", "hidden1", "output"]
    torch.testing.assert_close(seen["hidden1"], seen["hidden0"] + seen["pre1"].relu())
    assert torch.equal(seen["output"], answer)


@pytest.mark.proof("deep-skip", "claim")
def test_is_the_line_where_its_layers_are_silent() -> None:
    model = DeepSkip(DeepSkipConfig(width=8, layers=5), 6, 2)
    nn.init.normal_(model.direct.weight)
    nn.init.zeros_(model.output.weight)
    features = torch.randn(30, 6)
    torch.testing.assert_close(model(features), features @ model.direct.weight.T)


DEPTHS = (5, 20, 30)


def trained(model_class: Any, config: Any, layers: int) -> float:
    """Median of five starts: training error after 400 steps of SGD with momentum, all depths alike."""
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    y = (2 * x[:, 0]).sin() * x[:, 1] + x[:, 2].square() - 1
    y = (y - y.mean()) / y.std()
    stack = Stack.of([model_class(config(width=10, layers=layers), 8, 1) for _ in range(5)])
    optimizer, loss = torch.optim.SGD([stack.flat], lr=0.03, momentum=0.9), make_loss("squared")
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 400)
        rows = torch.randint(512, (64,))
        stack.gradients(x[rows], y[rows], loss)
        optimizer.step()
    return 2 * loss(stack(x), y.expand(5, -1)).mean(1).median().item()  # share of the target's variance


@pytest.mark.proof("deep-skip", "claim")
def test_trains_at_depths_where_the_plain_network_degrades() -> None:
    plain = [trained(Deep, DeepConfig, layers) for layers in DEPTHS]
    skip = [trained(DeepSkip, DeepSkipConfig, layers) for layers in DEPTHS]
    assert plain[0] < 0.25 and skip[0] < 0.25  # five layers: both learn
    assert plain[1] > 2 * plain[0] and plain[2] > 2 * plain[0]  # more layers leave more training error
    assert plain[2] > 0.8  # thirty: next to nothing is learnt
    assert max(skip[1:]) < 1.2 * skip[0]  # with direct connections depth does no harm
    assert max(skip[1:]) < 0.5 * min(plain[1:])


def correlation(model_class: Any, config: Any, layers: int) -> float:
    """Of the slope dy/dx with itself ten of 256 points further along [-2, 2]: median of ten starts."""
    found = []
    for seed in range(10):
        torch.manual_seed(seed)
        model = model_class(config(width=100, layers=layers), 1, 1)
        x = torch.linspace(-2, 2, 256)[:, None].requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x)
        slope = slope[:, 0] - slope.mean()
        found.append((slope[:-10] * slope[10:]).mean() / slope.square().mean())
    return torch.stack(found).median().item()


@pytest.mark.proof("deep-skip", "claim")
def test_depth_shatters_the_gradient_of_the_plain_network_only() -> None:
    """Balduzzi 2017 (1702.08591): with depth the plain network's gradient comes to look like white noise."""
    plain = [correlation(Deep, DeepConfig, layers) for layers in (2, 50)]
    skip = [correlation(DeepSkip, DeepSkipConfig, layers) for layers in (2, 50)]
    assert plain[0] > 0.7 and plain[1] < 0.4
    assert min(skip) > 0.8
