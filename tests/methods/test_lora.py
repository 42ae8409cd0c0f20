"""LoRA: nothing at first, nothing but the adapters after; merged, saved and loaded alone, it is the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.methods.lora import (
    CONFIG,
    WEIGHTS,
    adapted,
    adapters,
    inject,
    load_adapters,
    merge,
    save_adapters,
)
from sadari.models.efficientnet import EfficientNet
from sadari.models.vit import ViT


class Small(nn.Module):
    """Dense layers, convolutions with and without a stride, one split into groups, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.branch = nn.Sequential(nn.Conv2d(8, 6, 1, bias=False), nn.ReLU())
        self.query, self.head = nn.Linear(6, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.branch(self.norm(self.depth(F.relu(self.stem(x)))))
        return self.head(F.relu(self.query(x.mean((2, 3)))))


def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


def pictures(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def learn(model: nn.Module, steps: int = 3) -> None:
    """A few steps of whatever may learn."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(pictures()), torch.arange(5) % 4).backward()
        optimizer.step()


NAMES = {"stem.weight": (27, 8), "branch.0.weight": (8, 6), "query.weight": (6, 10), "head.weight": (10, 4)}


def test_at_first_nothing_changes_and_all_but_the_adapters_is_frozen() -> None:
    model, plain = inject(small(), 2, 4), small()
    assert torch.equal(model(pictures()), plain(pictures()))
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {
        f"{name.removesuffix('weight')}parametrizations.weight.0.lora_{part}"
        for name in NAMES
        for part in "AB"
    }


def test_learning_moves_the_adapters_and_leaves_the_base_bit_for_bit() -> None:
    model, plain = inject(small(), 2, 4), small().state_dict()
    learn(model.train())
    model.eval()
    assert not torch.allclose(model(pictures()), small()(pictures()), atol=1e-4)
    for name, value in model.state_dict().items():
        if "lora_" in name:
            assert value.any() and "norm" not in name
        elif "norm" not in name:  # whose statistics go on in training
            assert torch.equal(value, plain[name.replace("parametrizations.weight.original", "weight")]), name


def test_a_count_of_rank_times_both_ends() -> None:
    assert adapted(small()) == NAMES
    model = inject(small(), 3, 3)
    counted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted == sum(3 * (a + b) for a, b in NAMES.values())


@given(
    rank=st.integers(1, 5),
    alpha=st.floats(0.5, 20.0),
    kernel=st.sampled_from([1, 2, 3]),
    stride=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_the_change_is_a_small_path_beside_the_layer(
    rank: int, alpha: float, kernel: int, stride: int, seed: int
) -> None:
    """Two ways, same answer: the changed weight, and A then B beside the old one, as PEFT computes it."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 7, kernel, stride), "line": nn.Linear(5, 4)})
    plain = copy.deepcopy(model)
    inject(model, rank, alpha)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    saved = adapters(model)
    a, b = (saved[f"base_model.model.conv.lora_{part}.weight"] for part in "AB")
    assert a.shape == (rank, 3, kernel, kernel) and b.shape == (7, rank, 1, 1)
    x = torch.randn(2, 3, 6, 6)
    beside = plain["conv"](x) + alpha / rank * F.conv2d(F.conv2d(x, a, stride=stride), b)
    torch.testing.assert_close(model["conv"](x), beside, rtol=1e-4, atol=1e-4)
    a, b = (saved[f"base_model.model.line.lora_{part}.weight"] for part in "AB")
    assert a.shape == (rank, 5) and b.shape == (4, rank)
    x = torch.randn(2, 5)
    beside = plain["line"](x) + alpha / rank * F.linear(F.linear(x, a), b)
    torch.testing.assert_close(model["line"](x), beside, rtol=1e-4, atol=1e-4)


def test_merged_it_answers_the_same_with_an_ordinary_models_weights() -> None:
    model = inject(small(), 2, 4)
    learn(model)
    before = model(pictures())
    merged = merge(model)
    assert merged is model and merged.state_dict().keys() == small().state_dict().keys()
    torch.testing.assert_close(merged(pictures()), before, rtol=1e-5, atol=1e-5)
    assert type(merged.stem) is nn.Conv2d  # type: ignore[union-attr]
    inject(model, 1, 1)  # and it can begin again


@pytest.mark.parametrize(
    "model",
    [
        lambda: ViT(ViT.TINY, (3, 16, 16), 3),
        lambda: EfficientNet(EfficientNet.TINY, (3, 32, 32), 3),
    ],
    ids=["vit", "efficientnet"],
)
def test_networks_for_pictures_can_be_adapted(model: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = model().eval()
    side = 16 if isinstance(net, ViT) else 32
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        before = net(x)
        inject(net, 2, 4)
        assert torch.equal(net(x), before)
    net(x).sum().backward()
    found = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    assert found and all(grad is not None for grad in found.values())
    assert all(grad.any() for name, grad in found.items() if "lora_B" in name)  # type: ignore[union-attr]
    if isinstance(net, ViT):
        assert (
            "base_model.model.encoder.layers.encoder_layer_0.self_attention.in_proj.lora_A.weight"
            in adapters(net)
        )


def test_only_the_layers_that_are_named_are_adapted() -> None:
    assert list(adapted(small(), ["query", "branch.0"])) == ["branch.0.weight", "query.weight"]
    model = inject(small(), 2, 4, ["head"])
    assert {name.split(".")[2] for name in adapters(model)} == {"head"}


@pytest.mark.parametrize("injected", [True, False], ids=["in place", "on a plain model"])
def test_adapters_are_saved_and_loaded_alone(tmp_path: Path, injected: bool) -> None:
    model = inject(small(), 3, 6)
    learn(model)
    assert save_adapters(model, tmp_path, "small") == tmp_path
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 6.0)
    assert config["target_modules"] == ["stem", "branch.0", "query", "head"]
    names = {
        f"base_model.model.{layer}.lora_{part}.weight" for layer in config["target_modules"] for part in "AB"
    }
    assert set(load_file(tmp_path / WEIGHTS)) == names
    other = inject(small(), 3, 1) if injected else small()
    load_adapters(other, tmp_path)
    assert torch.equal(other(pictures()), model(pictures()))


def config(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | changes))

    return apply


def weights(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return apply


A = "base_model.model.query.lora_A.weight"
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (
        lambda folder: (folder / CONFIG).unlink(),
        "is not a folder of adapters: it has no adapter_c",
    ),
    "another method": (config(peft_type="IA3"), r"tells of no LoRA \(r 3, lora_alpha 6.0\); save it anew"),
    "rank": (config(r=0), "tells of no LoRA"),
    "alpha": (config(lora_alpha="x"), "tells of no LoRA"),
    "targets": (config(target_modules="all-linear"), "tells of no LoRA"),
    "no layer": (
        config(target_modules=["key"]),
        "no layer that can be adapted ends in 'key'; there are: stem,",
    ),
    "another rank": (config(r=2), "does not fit this model; give that of its adapters"),
    "no weights": (
        lambda folder: (folder / WEIGHTS).unlink(),
        "has no adapter_model.safetensors; save it as",
    ),
    "a pickle": (
        lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"),
        r"\(adapter_model.bin is not opened: such files can run code\)",
    ),
    "nothing": (lambda folder: (folder / WEIGHTS).write_bytes(b"x"), "cannot be read as safetensors"),
    "not finite": (
        weights(lambda t: t[A].fill_(torch.nan)),
        "query.lora_A.weight holds values that are not fin",
    ),
    "absent": (weights(lambda t: t.pop(A)), "query.lora_A.weight does not fit this model"),
    "a shape": (weights(lambda t: t.update({A: torch.zeros(3, 7)})), "query.lora_A.weight does not fit this"),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_folder_is_refused_with_its_fault(
    tmp_path: Path, fault: Callable[[Path], None], message: str
) -> None:
    save_adapters(inject(small(), 3, 6), tmp_path)
    fault(tmp_path)
    with pytest.raises(SadariError, match=message):
        load_adapters(small(), tmp_path)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    for rank, alpha in ((0, 1.0), (1, 0.0), (1, float("inf"))):
        with pytest.raises(
            SadariError, match=rf"rank {rank}, alpha .*: both are above 0; use rank=8, alpha=16"
        ):
            inject(small(), rank, alpha)
    with pytest.raises(SadariError, match="the model has adapters already; merge them first"):
        inject(inject(small(), 1, 1), 1, 1)
    with pytest.raises(SadariError, match="the model has no adapters to save; inject some first"):
        save_adapters(small(), tmp_path)
