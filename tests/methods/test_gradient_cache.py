"""Gradient caching: parts of any size give the gradients of the whole batch, dropout included."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers.contrast import sigmoid_loss, softmax_loss
from sadari.methods import gradient_cache


class Towers(nn.Module):
    """Two small networks into one space, and the numbers of a contrast."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4))
        self.text = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4))
        self.scale, self.bias = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(-3.0))

    def forward(self, part: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return F.normalize(self.image(part[0]), dim=-1), F.normalize(self.text(part[1]), dim=-1)

    def softmax(self, image: Tensor, text: Tensor) -> Tensor:
        return softmax_loss(image, text, self.scale.exp())

    def sigmoid(self, image: Tensor, text: Tensor) -> Tensor:
        return sigmoid_loss(image, text, self.scale.exp(), self.bias)


def batch(B: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(B)
    return torch.randn(B, 6, generator=random), torch.randn(B, 5, generator=random)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


@given(cuts=st.sets(st.integers(1, 16)), kind=st.sampled_from(["softmax", "sigmoid"]))
def test_parts_of_any_size_give_the_gradients_of_the_whole(cuts, kind) -> None:
    torch.manual_seed(0)
    model, (image, text) = Towers(), batch(17)
    twin, ends = copy.deepcopy(model), [0, *sorted(cuts), 17]
    parts = [(image[a:b], text[a:b]) for a, b in itertools.pairwise(ends)]
    value = gradient_cache.backward(model, parts, getattr(model, kind))
    whole = getattr(twin, kind)(*twin((image, text)))
    whole.backward()
    assert not value.requires_grad
    torch.testing.assert_close(value, whole.detach())
    torch.testing.assert_close(gradients(model), gradients(twin))
    assert ("bias" in gradients(model)) == (kind == "sigmoid")


def test_dropout_leaves_out_the_same_both_times_and_chance_goes_on_as_if_once() -> None:
    torch.manual_seed(0)
    model, (image, text) = Towers(dropout=0.5), batch(12)
    twin, parts = copy.deepcopy(model), [(image[:5], text[:5]), (image[5:], text[5:])]
    torch.manual_seed(1)
    value = gradient_cache.backward(model, parts, model.softmax)
    after = torch.rand(3)
    torch.manual_seed(1)
    embedded = [twin(part) for part in parts]
    whole = twin.softmax(*(torch.cat(tower) for tower in zip(*embedded, strict=True)))
    whole.backward()
    assert torch.equal(after, torch.rand(3))
    torch.testing.assert_close(value, whole.detach())
    torch.testing.assert_close(gradients(model), gradients(twin))


def test_gradients_are_added_and_a_frozen_tower_gets_none() -> None:
    torch.manual_seed(0)
    model, whole = Towers(), batch(9)
    model.image.requires_grad_(False)
    gradient_cache.backward(model, [whole], model.sigmoid)
    once = {name: each.clone() for name, each in gradients(model).items()}
    assert once and not [name for name in once if name.startswith("image")]
    gradient_cache.backward(model, [whole], model.sigmoid)
    torch.testing.assert_close(gradients(model), {name: 2 * each for name, each in once.items()})


def test_holds_the_graph_of_one_part_at_a_time() -> None:
    """Between two parts of the second time no inner value of the first is alive."""
    model, (image, text), alive, most = Towers(), batch(12), 0, 0

    def counted(part: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        def pack(value: Tensor) -> Tensor:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return value

        def unpack(value: Tensor) -> Tensor:
            nonlocal alive
            alive -= 1
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return model(part)

    gradient_cache.backward(counted, [(image, text)], model.softmax)
    of_one, alive, most = most, 0, 0
    parts = [(image[k : k + 3], text[k : k + 3]) for k in range(0, 12, 3)]
    gradient_cache.backward(counted, parts, model.softmax)
    assert most == of_one > 0


def test_what_gives_no_gradients_is_refused() -> None:
    model, whole = Towers(), batch(4)
    with pytest.raises(SadariError, match=r"no part of a batch: .* give the whole batch as one"):
        gradient_cache.backward(model, [], model.softmax)
    sizes = iter([4, 3])

    def shrinking(part: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        size = next(sizes)
        return model((part[0][:size], part[1][:size]))

    with pytest.raises(SadariError, match=r"embedded as \[\(4, 4\), \(4, 4\)\], then as \[\(3, 4\)"):
        gradient_cache.backward(shrinking, [whole], model.softmax)
