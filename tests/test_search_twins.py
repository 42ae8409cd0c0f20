"""A packed twin is kept while its model stays as it is, and made anew at any change."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from sadari.layers.packed import Packed
from sadari.search.twins import KEPT, twin_of, with_part


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0
        self.body = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))
        self.head = nn.Linear(64, 80)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.scale * self.body(x))


def in_place(model: Any) -> None:
    model.body[0].weight.mul_(2)


def other_numbers(model: Any) -> None:
    model.body[2].bias.data = torch.ones(64)


def other_parameter(model: Any) -> None:
    model.head.weight = nn.Parameter(torch.ones(80, 64))


def other_part(model: Any) -> None:
    model.body[1] = nn.ReLU()


def other_setting(model: Any) -> None:
    model.scale = 3.0


def another_copied(model: Any) -> None:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})


CHANGES = [in_place, other_numbers, other_parameter, other_part, other_setting, another_copied]


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_a_changed_model_has_another_twin(change: Any) -> None:
    torch.manual_seed(0)
    model, x = Model().eval(), torch.randn(200, 64)
    twin = twin_of(model)
    assert isinstance(twin.body[0], Packed) and twin_of(model) is twin
    before = twin(x)
    torch.testing.assert_close(before, model(x))
    change(model)
    assert twin_of(model) is not twin
    torch.testing.assert_close(twin_of(model)(x), model(x))
    assert not torch.allclose(model(x), before)


@torch.no_grad()
def test_a_part_is_exchanged_in_another_twin() -> None:
    model = Model().eval()
    twin, head = twin_of(model), nn.Identity()
    other = with_part(twin, "head", head)
    assert other.head is head and other.body is twin.body
    assert isinstance(twin.head, Packed) and type(model.head) is nn.Linear


@pytest.mark.parametrize("kind", [Model, nn.Tanh])  # one that is its own twin too
def test_no_model_is_held(kind: type[nn.Module]) -> None:
    model = kind().eval()
    seen, count = weakref.ref(model), len(KEPT)
    twin_of(model)
    assert len(KEPT) == count + (kind is Model)
    del model
    gc.collect()
    assert seen() is None and len(KEPT) == count


def test_parameters_whose_changes_are_not_counted_are_read_anew() -> None:
    with torch.inference_mode():
        model = Model().eval()
        assert twin_of(model) is not twin_of(model) or model not in KEPT
    assert model not in KEPT
