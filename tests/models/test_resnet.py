"""ResNet: equal to transformers' on the same weights, the published numbers, and what shortcuts are for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.models.resnet import Block, ResNet, ResNetConfig, import_huggingface, import_torchvision

PHOTO, SMALL = (3, 224, 224), (3, 32, 32)
TOTALS = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160,
    "resnet152": 60_192_808, "resnet50-v1": 25_557_032, "resnet101-v1": 44_549_160,
    "resnet152-v1": 60_192_808,
}  # fmt: skip
SMALL_TOTALS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}
GIGAMACS = {"resnet18": 1.814, "resnet34": 3.664, "resnet50": 4.089, "resnet101": 7.801, "resnet152": 11.514}
REACH = {
    "resnet18": 435,
    "resnet34": 899,
    "resnet50": 427,
    "resnet50-v1": 483,
    "resnet101": 971,
    "resnet101-v1": 1027,
}


def stirred(model: nn.Module) -> nn.Module:
    """Norms that do something, ready to answer."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.eval()


def built(
    variant: str, inputs: tuple[int, int, int] = SMALL, outputs: int = 5, width: float = 0.25
) -> ResNet:
    torch.manual_seed(0)
    model = stirred(ResNet(ResNetConfig(variant=variant, width=width), inputs, outputs))
    assert isinstance(model, ResNet)
    return model


@pytest.mark.parametrize("variant", TOTALS)
def test_totals_are_the_published_ones(variant: str) -> None:
    config = ResNetConfig(variant=variant)
    with torch.device("meta"):
        model = ResNet(config, PHOTO, 1000)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == ResNet.parameter_count(config, PHOTO, 1000) == TOTALS[variant]
    if variant in GIGAMACS:
        assert ResNet.macs(config, PHOTO, 1000) / 1e9 == pytest.approx(GIGAMACS[variant], abs=6e-4)
    else:  # the picture is halved one convolution earlier
        assert ResNet.macs(config, PHOTO, 1000) < 0.98e9 * GIGAMACS[variant.removesuffix("-v1")]
    if variant in REACH:
        assert model.fields()[-1].reach == REACH[variant]
    assert model.fields()[-1].size == (7, 7)


@pytest.mark.parametrize(("layers", "total"), SMALL_TOTALS.items())
def test_totals_for_small_pictures_are_the_papers(layers: int, total: int) -> None:
    for name in (f"resnet{layers}", f"plain{layers}"):  # option A has no weights: a twin has as many
        config = ResNetConfig(variant=name)
        with torch.device("meta"):
            model = ResNet(config, SMALL, 10)
        assert (
            sum(p.numel() for p in model.parameters()) == ResNet.parameter_count(config, SMALL, 10) == total
        )
        weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(weighted) == layers
        assert [field.size[0] for field in model.fields()][:: (layers - 2) // 6] == [32, 32, 16, 8]


HUGGING = [
    ("resnet18", {"layer_type": "basic", "depths": [2, 2, 2, 2]}),
    ("resnet34", {"layer_type": "basic", "depths": [3, 4, 6, 3]}),
    ("resnet50", {"layer_type": "bottleneck", "depths": [3, 4, 6, 3]}),
    ("resnet50-v1", {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "downsample_in_bottleneck": True}),
]


def hugging(settings: dict[str, Any]) -> nn.Module:
    """transformers' network with an eighth of the channels."""
    import transformers

    torch.manual_seed(0)
    wide = 4 if settings["layer_type"] == "bottleneck" else 1
    sizes = {"embedding_size": 8, "hidden_sizes": [8 * wide * 2**i for i in range(4)]}
    model = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(num_labels=5, **sizes, **settings)
    )
    return stirred(model)


@pytest.mark.proof("resnet", "parity")
@pytest.mark.parametrize(("variant", "settings"), HUGGING, ids=[name for name, _ in HUGGING])
def test_logits_and_gradients_equal_transformers(variant: str, settings: dict[str, Any]) -> None:
    theirs: Any = hugging(settings)
    ours = ResNet(ResNetConfig(variant=variant, width=1 / 8), (3, 61, 64), 5).eval()
    ours.load_state_dict(import_torchvision(import_huggingface(theirs.state_dict()), ours))
    pictures, targets = torch.randn(3, 3, 61, 64), torch.arange(3)
    expected = theirs(pictures).logits
    scale = expected.detach().abs().max().clamp(min=1)
    torch.testing.assert_close(ours(pictures) / scale, expected / scale, rtol=0, atol=1e-5)
    pooled = theirs.resnet(pictures).pooler_output.flatten(1)
    torch.testing.assert_close(ours.features(pictures), pooled, rtol=1e-4, atol=1e-5)
    for logits in (expected, ours(pictures)):
        F.cross_entropy(logits, targets).backward()
    gradients = import_huggingface({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5)


def test_transformers_trunk_is_renamed_too_and_other_names_are_refused() -> None:
    theirs: Any = hugging(HUGGING[0][1])
    trunk = import_huggingface(theirs.resnet.state_dict())
    whole = import_huggingface(theirs.state_dict())
    assert trunk.keys() == whole.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(trunk[name], whole[name]) for name in trunk)
    with pytest.raises(
        SadariError, match=r"the weights hold 'vit.embeddings', which is no part of .* ResNet"
    ):
        import_huggingface({"vit.embeddings": torch.zeros(1)})
    ours = ResNet(ResNetConfig(variant="resnet34", width=1 / 8), SMALL, 5)
    with pytest.raises(
        SadariError, match=r"the weights hold no 'layer1.2.conv1.weight'; they are of another"
    ):
        import_torchvision(whole, ours)


def test_a_picture_is_halved_in_the_3_x_3_or_the_first_1_x_1() -> None:
    late, early = built("resnet50", (3, 64, 64)), built("resnet50-v1", (3, 64, 64))
    for name in ("layer2.0", "layer3.0", "layer4.0"):
        strides = [
            [model.get_submodule(f"{name}.conv{i}").stride[0] for i in (1, 2, 3)] for model in (late, early)
        ]
        assert strides == [[1, 2, 1], [2, 1, 1]]
    early.load_state_dict(
        late.state_dict()
    )  # the same names and shapes: loading one as the other shows no error
    pictures = torch.randn(2, 3, 64, 64)
    assert early(pictures).shape == late(pictures).shape
    assert (early(pictures) - late(pictures)).abs().max() > 0.01


def test_shortcuts_without_weights_take_every_second_pixel_and_add_zeros() -> None:
    model = built("resnet20", (3, 9, 9), width=1.0)
    block: Any = model.get_submodule("layer2.0")
    assert isinstance(block, Block) and block.downsample is None
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(2, 16, 9, 9)
    answer = block(x)
    assert answer.shape == (2, 32, 5, 5)
    assert torch.equal(
        answer[:, 8:24], x[:, :, ::2, ::2]
    )  # in the middle, as the usual implementation has it
    assert not answer[:, :8].any() and not answer[:, 24:].any()
    assert not built("plain20", (3, 9, 9), width=1.0).get_submodule("layer2.0").added


def test_without_its_shortcuts_a_network_is_its_plain_twin() -> None:
    model, plain = built("resnet32"), built("plain32")
    plain.load_state_dict(model.state_dict())
    pictures = torch.randn(2, 3, 32, 32)
    assert (model(pictures) - plain(pictures)).abs().max() > 0.01
    for module in model.modules():
        if isinstance(module, Block):
            module.added = False
    assert torch.equal(model(pictures), plain(pictures))


@pytest.mark.proof("resnet", "claim")
def test_a_deeper_plain_net_learns_worse_and_with_shortcuts_better() -> None:
    """Figure 6 of the paper in seconds: loss on training pictures, scikit-learn's handwritten digits."""
    digits = load_digits()
    pictures, targets = (
        torch.from_numpy(digits.images).float()[:, None] / 8 - 1,
        torch.from_numpy(digits.target),
    )

    def learnt(variant: str) -> float:
        torch.manual_seed(0)
        model = ResNet(ResNetConfig(variant=variant, width=0.5), (1, 8, 8), 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        losses = []
        for _ in range(100):
            rows = torch.randint(len(pictures), (32,))
            loss = F.cross_entropy(model(pictures[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return sum(losses[-20:]) / 20

    plain20, plain56, resnet56 = map(learnt, ("plain20", "plain56", "resnet56"))
    assert resnet56 < 0.7 * plain20 and plain20 < 0.7 * plain56


def test_names_its_values_by_stage_and_block() -> None:
    seen: dict[str, Tensor] = {}
    model = built("resnet18", (1, 40, 33))
    model(torch.randn(2, 1, 40, 33), lambda name, value: seen.setdefault(name, value))
    blocks = [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]
    assert list(seen) == ["conv1", "maxpool", *blocks, "features", "output"]
    assert all((seen[name] >= 0).all() for name in list(seen)[:-1])
    names = list(model.state_dict())
    assert names[0] == "conv1.weight" and names[-2:] == ["fc.weight", "fc.bias"]
    assert {"bn1.running_var", "layer2.0.downsample.0.weight", "layer2.0.downsample.1.bias"} <= {*names}


@pytest.mark.parametrize("variant", ["resnet18", "resnet50"])
def test_equals_torchvision_where_it_is_installed(variant: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    theirs = stirred(getattr(torchvision.models, variant)(num_classes=4))
    ours = ResNet(ResNetConfig(variant=variant), (3, 64, 64), 4).eval()
    ours.load_state_dict(import_torchvision(theirs.state_dict(), ours))
    pictures = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(pictures), theirs(pictures), rtol=1e-5, atol=1e-5)
