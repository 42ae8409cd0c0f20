"""EfficientNet-lite0: its authors' layout and counts, TensorFlow's padding, and the package's own answers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sadari.data.fetch import cached
from sadari.data.torch_file import as_safetensors
from sadari.errors import SadariError
from sadari.models.efficientnet import (
    DEVIATION,
    MEAN,
    SIZE,
    Block,
    EfficientNet,
    EfficientNetConfig,
    SameConv,
    Stage,
)

FULL, TINY = EfficientNetConfig(), EfficientNet.TINY
FILE = "efficientnet-lite0-57934424.pth"


def pictures(rows: int = 2, side: int = 64) -> Tensor:
    made = torch.randn(rows, 3, side, side, generator=torch.Generator().manual_seed(0))
    return made.contiguous(memory_format=torch.channels_last)


def shaken(model: nn.Module) -> None:
    """Norms that are no longer one and zero, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0.0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0.0, 0.2, generator=generator)


def plain(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """lite0 told once more, in functions and from the published table alone: kernel, stride, expansion,
    channels that go in and out, repeats (table 1 of the paper, width 32 to 1280, no squeeze, relu6).
    """

    def conv(name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        size, kernel = x.shape[-1], weight.shape[-1]
        pad = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        x = F.pad(x, (pad // 2, pad - pad // 2) * 2)
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def norm(name: str, x: Tensor) -> Tensor:
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-3)

    x = F.relu6(norm("_bn0", conv("_conv_stem", x, 2)))
    number, inputs = 0, 32
    for kernel, stride, expand, outputs, repeats in (
        (3, 1, 1, 16, 1),
        (3, 2, 6, 24, 2),
        (5, 2, 6, 40, 2),
        (3, 2, 6, 80, 3),
        (5, 1, 6, 112, 3),
        (5, 2, 6, 192, 4),
        (3, 1, 6, 320, 1),
    ):
        for repeat in range(repeats):
            before, name = x, f"_blocks.{number}"
            if expand > 1:
                x = F.relu6(norm(f"{name}._bn0", conv(f"{name}._expand_conv", x)))
            depthwise = state[f"{name}._depthwise_conv.weight"]
            assert depthwise.shape == (inputs * expand, 1, kernel, kernel)
            step = stride if repeat == 0 else 1
            x = F.relu6(norm(f"{name}._bn1", conv(f"{name}._depthwise_conv", x, step, inputs * expand)))
            x = norm(f"{name}._bn2", conv(f"{name}._project_conv", x))
            x = x + before if step == 1 and inputs == outputs else x
            number, inputs = number + 1, outputs
    x = F.relu6(norm("_bn1", conv("_conv_head", x)))
    return F.linear(x.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])


@pytest.mark.parametrize("side", [64, 57])
def test_equals_the_published_table_told_in_functions(side: int) -> None:
    torch.manual_seed(0)
    model = EfficientNet(FULL, (3, side, side), 7).eval()
    shaken(model)
    with torch.no_grad():
        torch.testing.assert_close(model(pictures(2, side)), plain(model.state_dict(), pictures(2, side)))


@pytest.mark.parametrize(("config", "outputs"), [(FULL, 1000), (FULL, 3), (TINY, 1)])
def test_counts_are_those_of_its_tensors_and_its_products(config: EfficientNetConfig, outputs: int) -> None:
    shape = (3, 50, 67)
    model = EfficientNet(config, shape, outputs).eval()
    count = sum(p.numel() for p in model.parameters())
    assert count == EfficientNet.parameter_count(config, shape, outputs)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, *shape))
    assert counter.get_total_flops() == 2 * EfficientNet.macs(config, shape, outputs)
    if (config, outputs) == (FULL, 1000):
        assert count == 4_652_008  # the package's own
        assert EfficientNet.macs(config, (3, SIZE, SIZE), 1000) == pytest.approx(390e6, rel=0.02)


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 3),
)
def test_padding_is_tensorflows(height: int, width: int, kernel: int, stride: int) -> None:
    """SAME: ceil(size / stride) answers, and of an odd number of zeros the last stands behind. By the sum."""
    torch.manual_seed(height)
    x, convolution = torch.randn(height, width), SameConv(1, 1, kernel, stride=stride, bias=False)
    weight = convolution.weight[0, 0].detach()
    down, right = math.ceil(height / stride), math.ceil(width / stride)
    above = max((down - 1) * stride + kernel - height, 0) // 2
    before = max((right - 1) * stride + kernel - width, 0) // 2
    expected = torch.zeros(down, right)
    for row, column, i, j in itertools.product(range(down), range(right), range(kernel), range(kernel)):
        y, z = row * stride + i - above, column * stride + j - before
        if 0 <= y < height and 0 <= z < width:
            expected[row, column] += weight[i, j] * x[y, z]
    with torch.no_grad():
        torch.testing.assert_close(convolution(x[None, None])[0, 0], expected, rtol=0, atol=1e-5)


def test_a_blocks_direct_connection_is_there_where_nothing_changes() -> None:
    assert Block(8, Stage(1, 3, 1, 2, 8), 1).direct
    assert not Block(8, Stage(1, 3, 2, 2, 8), 2).direct and not Block(8, Stage(1, 3, 1, 2, 9), 1).direct


def test_blocks_are_left_out_at_random_in_training_and_their_mean_stays() -> None:
    """A row keeps its block with 1 - drop, and it then counts 1 / (1 - drop); looked at, none is left out."""
    block = Block(8, Stage(1, 3, 1, 2, 8), 1).eval()
    x = torch.randn(1, 8, 6, 6).expand(4000, -1, -1, -1)
    with torch.no_grad():
        whole = block(x[:1], 0.4) - x[:1]
        block.training = True  # the block's own switch: its norms stay as they are
        part = (block(x, 0.4) - x) / whole
    kept = part.flatten(1).mean(1)
    torch.testing.assert_close(
        kept.unique().sort().values[[0, -1]], torch.tensor([0, 1 / 0.6]), atol=1e-3, rtol=0
    )
    assert (kept > 0.5).double().mean().item() == pytest.approx(0.6, abs=0.03)


def test_names_what_it_makes_and_is_drawn_from_the_seed() -> None:
    torch.manual_seed(2)
    model, seen = EfficientNet(TINY, (3, 64, 64), 3).eval(), {}
    output = model(pictures(), rec=lambda name, value: seen.setdefault(name, value))
    assert list(seen) == ["stem", "block0", "block1", "block2", "block3", "maps", "features", "output"]
    assert seen["maps"].shape == (2, 1280, 8, 8) and torch.equal(output, model(pictures()))
    torch.testing.assert_close(model._fc(model.features(pictures())), output)
    torch.testing.assert_close(seen["features"], model.maps(pictures()).mean((2, 3)))
    torch.manual_seed(2)
    again = EfficientNet(TINY, (3, 64, 64), 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_learns_a_batch_by_heart() -> None:
    torch.manual_seed(0)
    model, x, y = EfficientNet(TINY, (3, 32, 32), 3), pictures(6, 32), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(30):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
    assert loss.item() < 0.1


def test_settings_that_no_network_can_have_are_refused() -> None:
    with pytest.raises(SadariError, match="no variant 'b0'; choose one of lite0, tiny"):
        EfficientNetConfig(variant="b0")
    with pytest.raises(
        SadariError, match=r"drop_connect 1.0: a share lies in \[0, 1\); use drop_connect=0.2"
    ):
        EfficientNetConfig(drop_connect=1.0)


def fetched() -> EfficientNet:
    """With the package's weights, where they were fetched; else the test is skipped."""
    from safetensors.torch import load_file

    try:
        file = as_safetensors(cached("efficientnet-lite0") / FILE)
    except SadariError as error:
        pytest.skip(str(error))
    model = EfficientNet(FULL, (3, SIZE, SIZE), 1000).eval()
    model.load_state_dict(load_file(file))
    return model


@pytest.mark.parametrize("side", [SIZE, 128])
def test_equals_the_packages_own_code_on_its_weights(side: int) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install efficientnet-lite-pytorch")
    model = fetched()
    theirs = package.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(pictures(2, side)), theirs.eval()(pictures(2, side)))


def test_sees_a_daisy_with_the_pictures_it_was_made_for() -> None:
    """(x - 127) / 128 is what it knows. Class 985 of ImageNet."""
    from sklearn.datasets import load_sample_image

    raw = np.array(load_sample_image("flower.jpg"))  # (427, 640, 3)
    x = torch.from_numpy(raw[:, 106:533]).permute(2, 0, 1).unsqueeze(0).float()
    x = F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close((x / 255 - MEAN) / DEVIATION, (x - 127) / 128)
    with torch.no_grad():
        shares = fetched()((x / 255 - MEAN) / DEVIATION).softmax(1)
    assert shares.argmax().item() == 985
