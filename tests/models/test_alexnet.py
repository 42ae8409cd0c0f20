"""AlexNet: its papers' and torchvision's numbers, and the same answers as written out layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.models.alexnet import AlexNet, AlexNetConfig, import_torchvision

PHOTO = (3, 224, 224)


def built(
    variant: str, inputs: tuple[int, int, int] = (3, 96, 96), outputs: int = 5, **settings: Any
) -> AlexNet:
    """A narrow one, ready to answer, whose biases do something."""
    torch.manual_seed(0)
    model = AlexNet(AlexNetConfig(variant=variant, width=1 / 8, **settings), inputs, outputs).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
        else:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return model


def test_totals_are_the_published_ones() -> None:
    assert AlexNet.parameter_count(AlexNetConfig(variant="alexnet"), PHOTO, 1000) == 61_100_840
    assert AlexNet.parameter_count(AlexNetConfig(variant="two-tower"), PHOTO, 1000) == 60_965_224
    assert (
        AlexNet.macs(AlexNetConfig(variant="alexnet"), PHOTO, 1000) == 714_188_480
    )  # 0.71 in torchvision's table
    with torch.device("meta"):
        model = AlexNet(AlexNetConfig(), PHOTO, 1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == 61_100_840
    fields = {field.stage: field for field in model.fields()}
    assert {name: field.reach for name, field in fields.items()} == {
        "conv1": 11, "pool1": 19, "conv2": 51, "pool2": 67, "conv3": 99, "conv4": 131, "conv5": 163,
        "pool5": 195,
    }  # fmt: skip
    assert [field.size[0] for field in fields.values()] == [55, 27, 27, 13, 13, 13, 13, 6]
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if "weight" in name}
    assert shapes == {
        "features.0.weight": (64, 3, 11, 11), "features.3.weight": (192, 64, 5, 5),
        "features.6.weight": (384, 192, 3, 3), "features.8.weight": (256, 384, 3, 3),
        "features.10.weight": (256, 256, 3, 3), "classifier.1.weight": (4096, 9216),
        "classifier.4.weight": (4096, 4096), "classifier.6.weight": (1000, 4096),
    }  # fmt: skip


@pytest.mark.proof("alexnet", "parity")
@pytest.mark.parametrize("size", [63, 96, 131])
def test_equals_torchvisions_layout_written_out(size: int) -> None:
    model = built("alexnet", (3, size, size))
    w = model.state_dict()
    pictures = torch.randn(3, 3, size, size)

    def conv(x: Tensor, at: int, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, w[f"features.{at}.weight"], w[f"features.{at}.bias"], stride, padding).relu()

    x = F.max_pool2d(conv(pictures, 0, 4, 2), 3, 2)
    x = F.max_pool2d(conv(x, 3, 1, 2), 3, 2)
    x = conv(conv(conv(x, 6, 1, 1), 8, 1, 1), 10, 1, 1)
    x = F.adaptive_avg_pool2d(F.max_pool2d(x, 3, 2), 6).flatten(1)
    for at in (1, 4):
        x = F.linear(x, w[f"classifier.{at}.weight"], w[f"classifier.{at}.bias"]).relu()
    torch.testing.assert_close(model.features(pictures), x, rtol=0, atol=1e-5)
    x = F.linear(x, w["classifier.6.weight"], w["classifier.6.bias"])
    torch.testing.assert_close(model(pictures), x, rtol=0, atol=1e-5)


def inhibited(a: Tensor) -> Tensor:
    """a / (2 + 1e-4 * sum of squares over the 5 channels around) ^ 0.75: section 3.3 of the paper."""
    channels = a.shape[1]
    rows = []
    for i in range(channels):
        around = a[:, max(0, i - 2) : min(channels, i + 3)]
        rows.append(a[:, i] / (2 + 1e-4 * around.square().sum(1)) ** 0.75)
    return torch.stack(rows, 1)


@pytest.mark.proof("alexnet", "parity")
def test_two_towers_equal_the_paper_of_2012_written_out() -> None:
    model = built("two-tower", (3, 67, 67))
    w = model.state_dict()
    pictures = 20 * torch.randn(2, 3, 67, 67)  # large, so that the squares count beside the 2

    def conv(x: Tensor, at: int, padding: int, stride: int = 1) -> Tensor:
        """Each half of the filters sees the half of the channels that it was made for."""
        weight, bias = w[f"features.{at}.weight"], w[f"features.{at}.bias"]
        parts = x.shape[1] // weight.shape[1]
        pairs = zip(x.chunk(parts, 1), weight.chunk(parts), bias.chunk(parts), strict=True)
        return torch.cat([F.conv2d(a, b, c, stride, padding) for a, b, c in pairs], 1).relu()

    x = F.max_pool2d(inhibited(conv(pictures, 0, 2, stride=4)), 3, 2)
    x = F.max_pool2d(inhibited(conv(x, 4, 2)), 3, 2)
    x = F.max_pool2d(conv(conv(conv(x, 8, 1), 10, 1), 12, 1), 3, 2)
    x = F.adaptive_avg_pool2d(x, 6).flatten(1)
    for at in (0, 3):
        x = F.linear(x, w[f"classifier.{at}.weight"], w[f"classifier.{at}.bias"]).relu()
    x = F.linear(x, w["classifier.6.weight"], w["classifier.6.bias"])
    torch.testing.assert_close(model(pictures), x, rtol=1e-4, atol=1e-4)
    grouped = [m.groups for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert grouped == [1, 2, 1, 2, 2]


def test_neighbouring_channels_are_inhibited_as_the_paper_says() -> None:
    """torch divides alpha by the size of the neighbourhood, the paper does not: it is made up for."""
    model = built("two-tower")
    norms = [module for module in model.modules() if isinstance(module, nn.LocalResponseNorm)]
    assert len(norms) == 2
    values = 100 * torch.randn(2, 9, 4, 4)
    for norm in norms:
        torch.testing.assert_close(norm(values), inhibited(values), rtol=1e-5, atol=1e-6)
    seen: dict[str, Tensor] = {}
    model(torch.randn(1, 3, 96, 96), lambda name, value: seen.setdefault(name, value))
    torch.testing.assert_close(seen["norm1"], inhibited(seen["conv1"]))
    assert list(seen) == [
        "conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5", "pool5",
        "fc6", "fc7", "features", "output",
    ]  # fmt: skip


def test_two_towers_begin_as_the_paper_says() -> None:
    torch.manual_seed(0)
    model = AlexNet(AlexNetConfig(variant="two-tower", width=1 / 4), (3, 67, 67), 5)
    ones = {
        f"{place}.bias"
        for place in ("features.4", "features.10", "features.12", "classifier.0", "classifier.3")
    }
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            assert parameter.std().item() == pytest.approx(0.01, rel=0.1), name
        else:
            assert (parameter == float(name in ones)).all(), name


@pytest.mark.parametrize(("variant", "dropped"), [("alexnet", "read"), ("two-tower", "answers")])
def test_dropout_only_stirs_training(variant: str, dropped: str) -> None:
    """torchvision drops what both dense layers read, the paper their answers."""
    model = built(variant, dropout=0.5)
    pictures = torch.randn(2, 3, 96, 96)
    assert torch.equal(model(pictures), model(pictures))
    model.train()
    assert not torch.equal(model(pictures), model(pictures))
    features = model.features(pictures)
    share = (features == 0).float().mean() - (model.eval().features(pictures) == 0).float().mean()
    assert share > 0.15 if dropped == "answers" else abs(share) < 0.15


def test_torchvisions_weights_fit_by_name_and_shape() -> None:
    source, model = built("alexnet"), built("alexnet")
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    model.load_state_dict(import_torchvision(source.state_dict(), model))
    pictures = torch.randn(2, 3, 96, 96)
    assert torch.equal(model(pictures), source(pictures))
    with pytest.raises(
        SadariError, match=r"classifier.6.weight is \(7, 512\) in the weights, \(5, 512\) here"
    ):
        import_torchvision(built("alexnet", outputs=7).state_dict(), model)


def test_equals_torchvision_where_it_is_installed() -> None:
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.alexnet(num_classes=4).eval()
    ours = AlexNet(AlexNetConfig(variant="alexnet"), (3, 96, 96), 4).eval()
    ours.load_state_dict(import_torchvision(theirs.state_dict(), ours))
    pictures = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(ours(pictures), theirs(pictures), rtol=0, atol=1e-5)
