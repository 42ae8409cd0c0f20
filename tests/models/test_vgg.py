"""VGG: the paper's and torchvision's numbers, and the same answers as written out layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.models.vgg import VARIANTS, VGG, VGGConfig, import_torchvision

PHOTO = (3, 224, 224)
# table 1 of the paper: columns A, B, D and E; M pools
TABLE = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
TOTALS = {
    "vgg11": 132_863_336, "vgg13": 133_047_848, "vgg16": 138_357_544, "vgg19": 143_667_240,
    "vgg11-bn": 132_868_840, "vgg13-bn": 133_053_736, "vgg16-bn": 138_365_992, "vgg19-bn": 143_678_248,
}  # fmt: skip
GIGAMACS = {"vgg11": 7.609, "vgg13": 11.308, "vgg16": 15.470, "vgg19": 19.632}  # torchvision's table


def built(variant: str, size: int = 32, outputs: int = 5) -> VGG:
    """A narrow one, ready to answer, whose biases and norms do something."""
    torch.manual_seed(0)
    model = VGG(VGGConfig(variant=variant, width=1 / 16), (3, size, size), outputs).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.1)
    nn.init.normal_(model.classifier[-1].weight)
    return model


@pytest.mark.parametrize("variant", TOTALS)
def test_totals_are_the_published_ones(variant: str) -> None:
    config = VGGConfig(variant=variant)
    with torch.device("meta"):
        model = VGG(config, PHOTO, 1000)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == VGG.parameter_count(config, PHOTO, 1000) == TOTALS[variant]
    macs = VGG.macs(config, PHOTO, 1000) / 1e9
    assert macs == pytest.approx(GIGAMACS[variant.removesuffix("-bn")], abs=6e-4)


def test_fields_of_view_of_the_sixteen_layers() -> None:
    with torch.device("meta"):
        model = VGG(VGGConfig(variant="vgg16"), PHOTO, 1000)
    fields = {field.stage: field for field in model.fields()}
    assert (fields["conv5_3"].reach, fields["pool5"].reach) == (196, 212)
    assert (fields["conv1_1"].reach, fields["conv1_2"].reach, fields["pool5"].size) == (3, 5, (7, 7))


def written_out(model: VGG, table: str, pictures: Tensor) -> Tensor:
    """Table 1, from left to right, with torchvision's numbers of layers."""
    w, x, at = model.state_dict(), pictures, 0
    norm = "features.1.running_mean" in w
    for entry in table.split():
        if entry == "M":
            x, at = F.max_pool2d(x, 2), at + 1
            continue
        x = F.conv2d(x, w[f"features.{at}.weight"], w[f"features.{at}.bias"], padding=1)
        if norm:
            kept = (
                w[f"features.{at + 1}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
            )
            x = F.batch_norm(x, *kept)
        x, at = x.relu(), at + 2 + norm
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    for at in (0, 3):
        x = F.linear(x, w[f"classifier.{at}.weight"], w[f"classifier.{at}.bias"]).relu()
    return F.linear(x, w["classifier.6.weight"], w["classifier.6.bias"])


@pytest.mark.proof("vgg", "parity")
@pytest.mark.parametrize("norm", ["", "-bn"])
@pytest.mark.parametrize("variant", TABLE)
def test_equals_the_papers_table_written_out(variant: str, norm: str) -> None:
    model = built(variant + norm, size=39)
    pictures = torch.randn(3, 3, 39, 39)
    expected = written_out(model, TABLE[variant], pictures)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(pictures), expected, rtol=0, atol=1e-5)


def test_names_its_values_by_block_and_place() -> None:
    seen: dict[str, Tensor] = {}
    model = built("vgg11-64", size=28)
    model(torch.randn(2, 3, 28, 28), lambda name, value: seen.setdefault(name, value))
    assert list(seen) == [
        "conv1_1", "pool1", "conv2_1", "pool2", "conv3_1", "conv3_2", "pool3", "conv4_1", "conv4_2", "pool4",
        "conv5_1", "conv5_2", "fc6", "fc7", "features", "output",
    ]  # fmt: skip
    assert all((seen[name] >= 0).all() for name in list(seen)[:-1])  # what is named has been bent
    assert [seen[f"pool{i}"].shape[-1] for i in (1, 2, 3, 4)] == [14, 7, 4, 2]  # the odd row is kept


def test_layers_are_as_many_as_the_names_say() -> None:
    for name in VARIANTS:
        with torch.device("meta"):
            model = VGG(VGGConfig(variant=name), PHOTO, 10)
        weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(weighted) == int(name.removeprefix("vgg").split("-")[0])


def test_torchvisions_weights_fit_by_name_and_shape() -> None:
    source, model = built("vgg13-bn"), built("vgg13-bn")
    state = {name: value for name, value in source.state_dict().items() if "num_batches" not in name}
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    model.load_state_dict(import_torchvision(state, model))
    pictures = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(pictures), source(pictures))
    with pytest.raises(SadariError, match=r"the weights hold no 'features.1.weight'; they are of another"):
        import_torchvision(built("vgg13").state_dict(), model)


@pytest.mark.parametrize("variant", ["vgg11", "vgg11-bn"])
def test_equals_torchvision_where_it_is_installed(variant: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    theirs = getattr(torchvision.models, variant.replace("-", "_"))(num_classes=4).eval()
    ours = VGG(VGGConfig(variant=variant), (3, 32, 32), 4).eval()
    ours.load_state_dict(import_torchvision(theirs.state_dict(), ours))
    pictures = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(pictures), theirs(pictures), rtol=0, atol=1e-5)
