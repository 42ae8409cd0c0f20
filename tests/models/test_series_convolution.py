"""Convolution over a series: the authors' network for mnist1d, filters that look everywhere, counts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sadari.data.prepare import prepare
from sadari.errors import SadariError
from sadari.fitting import tensors
from sadari.losses import make_loss
from sadari.models.series_convolution import SeriesConvolution, SeriesConvolutionConfig
from sadari.tasks import TableTask
from sadari.train import TrainConfig, train


class Authors(nn.Module):
    """The convolutional network of greydanus/mnist1d, as its paper describes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, 25, 5, stride=2, padding=1)
        self.conv2 = nn.Conv1d(25, 25, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(25, 25, 3, stride=2, padding=1)
        self.linear = nn.Linear(125, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x.view(-1, 1, x.shape[-1])).relu()
        h = self.conv3(self.conv2(h).relu()).relu()
        return self.linear(h.view(h.shape[0], -1))


def test_is_the_authors_network() -> None:
    ours, theirs = SeriesConvolution(SeriesConvolutionConfig(), 40, 10).eval(), Authors()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(6, 40)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.parameter_count(ours.config, 40, 10) == sum(p.numel() for p in theirs.parameters()) == 5210


@given(
    inputs=st.integers(1, 60),
    outputs=st.integers(1, 4),
    layers=st.integers(1, 4),
    kernel=st.integers(1, 7),
    then=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
def test_counts_are_those_of_its_tensors_and_its_products(
    inputs: int, outputs: int, layers: int, kernel: int, then: int, stride: int, padding: int
) -> None:
    config = SeriesConvolutionConfig(3, layers, kernel, then, stride, padding)
    try:
        config.lengths(inputs)
    except SadariError as error:
        assert f"a series of {inputs} places is too short" in str(error)
        return
    model = SeriesConvolution(config, inputs, outputs)
    assert sum(p.numel() for p in model.parameters()) == model.parameter_count(config, inputs, outputs)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model(torch.randn(1, inputs)).shape == (1, outputs)
    assert counter.get_total_flops() == 2 * model.macs(config, inputs, outputs)


def test_a_shape_is_found_wherever_it_stands() -> None:
    """Moved by one stride of all layers, a shape amid zeros moves what the last layer finds by one place."""
    config = SeriesConvolutionConfig(channels=4, layers=2, padding=1)
    model = SeriesConvolution(config, 60, 1).eval()
    x = torch.zeros(1, 60)
    x[0, 20:28] = torch.randn(8)
    seen: list[Tensor] = []
    for series in (x, x.roll(4, 1)):
        model(series, rec=lambda name, value: (name == "hidden1" and seen.append(value)) or value)
    before, after = seen
    torch.testing.assert_close(after[..., 2:-2], before.roll(1, -1)[..., 2:-2])


def test_every_place_counts_and_names_are_given() -> None:
    torch.manual_seed(0)
    model = SeriesConvolution(SeriesConvolutionConfig(), 40, 10).eval()
    x, seen = torch.randn(3, 40, requires_grad=True), {}
    output = model(x, rec=lambda name, value: seen.setdefault(name, value))
    output.square().sum().backward()
    assert x.grad is not None and (x.grad[:, :39] != 0).all()  # the stride leaves the last place out
    assert list(seen) == [
        *("pre0", "hidden0", "pre1", "hidden1", "pre2", "hidden2"),
        *("features", "output"),
    ]
    torch.testing.assert_close(model.output(seen["features"]), output)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_settings_that_no_network_can_have_are_refused() -> None:
    with pytest.raises(SadariError, match="channels 0: at least 1 is needed; use channels=25"):
        SeriesConvolutionConfig(channels=0)
    with pytest.raises(SadariError, match="padding -1: zeros are added, never taken; use padding=1"):
        SeriesConvolutionConfig(padding=-1)
    with pytest.raises(SadariError, match=r"dropout 1.0: the share dropped lies in \[0, 1\)"):
        SeriesConvolutionConfig(dropout=1.0)
    with pytest.raises(
        SadariError, match="2 places is too short: layer 1 of 3 has 2 left and sees 5 at once"
    ):
        SeriesConvolution(SeriesConvolutionConfig(), 2, 1)


def test_reads_mnist1d_as_well_as_its_authors_report() -> None:
    """94 % in the paper (figure 4), with 4,000 training rows; here with 3,200, and early stopping on 800."""
    prepared = prepare("mnist1d", kind="series")
    torch.manual_seed(0)
    model = SeriesConvolution(SeriesConvolutionConfig(), 40, 10)
    task = TableTask("classify", make_loss("cross-entropy", classes=10))
    config = TrainConfig(**SeriesConvolution.TRAINING, epochs=60, threads=1)
    train(model, task, tensors(prepared.train), tensors(prepared.validation), config)
    test = tensors(prepared.test)
    model.eval()
    with torch.no_grad():
        right = model(test["features"]).argmax(1) == test["targets"]
    assert right.double().mean() > 0.94
