"""First weights follow their table of laws; settings outside the possible are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sadari.errors import SadariError
from sadari.layers.activations import ACTIVATIONS
from sadari.layers.dense import initialise, laws
from sadari.models.deep import Deep, DeepConfig
from sadari.models.deep_skip import DeepSkip, DeepSkipConfig
from sadari.models.shallow import Shallow, ShallowConfig

WIDE = [
    lambda activation: Shallow(ShallowConfig(width=2000, activation=activation), 40, 30),
    lambda activation: Deep(DeepConfig(width=300, layers=3, activation=activation), 40, 30),
    lambda activation: DeepSkip(DeepSkipConfig(width=300, layers=4, activation=activation), 40, 30),
]


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("build", WIDE, ids=["shallow", "deep", "deep-skip"])
def test_tensors_follow_the_table_of_laws(build: Any, activation: str) -> None:
    torch.manual_seed(0)
    model = build(activation)
    table = laws(model)
    assert list(table) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        law, deviation = table[name]
        if law == "zero":
            assert not parameter.any(), name
            continue
        few = 4 / (2 * parameter.numel()) ** 0.5  # four standard errors of a deviation
        assert parameter.std().item() == pytest.approx(deviation, rel=few), name
        assert abs(parameter.mean().item()) < 4 * deviation / parameter.numel() ** 0.5, name


def test_each_unit_of_one_feature_bends_amid_standardised_data() -> None:
    torch.manual_seed(0)
    layer = Shallow(ShallowConfig(width=5000), 1, 1).hidden[0]
    bends = (-layer.bias / layer.weight[:, 0]).detach()
    assert abs(bends.mean().item()) < 0.06
    assert bends.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("activation", [name for name, a in ACTIVATIONS.items() if a.law == "he"])
def test_a_deep_network_keeps_the_second_moment_level(activation: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(500, 20)
    model = Deep(DeepConfig(width=400, layers=12, activation=activation), 20, 1)
    sizes = moments(model, x)
    assert 0.4 < sizes["hidden11"] / sizes["hidden1"] < 2.5


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "sigmoid"])
def test_the_stream_of_deep_skip_does_not_grow_with_depth(activation: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 20)
    growth = []
    for layers in (3, 10, 50):
        config = DeepSkipConfig(width=100, layers=layers, activation=activation)
        sizes = moments(DeepSkip(config, 20, 1), x)
        growth.append(sizes[f"hidden{layers - 1}"] / sizes["hidden0"])
    assert all(0.5 < g < 5 for g in growth)
    assert growth[2] < 1.5 * growth[0]


def moments(model: torch.nn.Module, x: torch.Tensor) -> dict[str, float]:
    seen = {}

    def rec(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = value.square().mean().item()
        return value

    model(x, rec)
    return seen


def test_a_generator_or_the_global_seed_decides_every_weight() -> None:
    torch.manual_seed(3)
    by_global = Deep(DeepConfig(width=8), 5, 2)
    torch.manual_seed(3)
    again = Deep(DeepConfig(width=8), 5, 2)
    other = Deep(DeepConfig(width=8), 5, 2)
    assert all(torch.equal(a, b) for a, b in zip(by_global.parameters(), again.parameters(), strict=True))
    assert not torch.equal(by_global.output.weight, other.output.weight)
    initialise(again, torch.Generator().manual_seed(4))
    initialise(other, torch.Generator().manual_seed(4))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("config", [ShallowConfig, DeepConfig, DeepSkipConfig])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width 0: a hidden layer needs at least 1 unit; use width=100"),
        ({"dropout": 1.0}, r"dropout 1.0: the share dropped lies in \[0, 1\); use dropout=0.1"),
        ({"dropout": -0.1}, "dropout -0.1: the share dropped"),
        ({"activation": "cube"}, "no activation 'cube'; choose one of relu"),
    ],
)
def test_impossible_settings_are_refused(config: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        config(**settings)


@pytest.mark.parametrize("config", [DeepConfig, DeepSkipConfig])
def test_a_network_without_hidden_layers_is_refused(config: Any) -> None:
    with pytest.raises(SadariError, match="layers 0: a network needs at least 1 hidden layer; use layers=2"):
        config(layers=0)
