"""Packed lines say what the lines say, follow their weights, and leave the model as it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sadari.layers import packed as module
from sadari.layers.packed import Packed, can_pack, packed
from sadari.layers.tied import TiedHead


def needs_packing() -> None:
    if not can_pack(nn.Linear(256, 256)):
        pytest.skip("this torch brings no oneDNN")


class Model(nn.Module):
    """Lines at several depths, a tied head, and one line in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(300, 64)
        self.inner = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
        self.again = self.inner[0]
        self.norm, self.small, self.none = nn.LayerNorm(64), nn.Linear(64, 2), None
        self.head = TiedHead(self.embedding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.inner(x)) + self.again(x)[..., :64]
        return torch.cat((self.head(y), self.small(y)), -1)


@settings(deadline=None, max_examples=60)
@given(
    inputs=st.sampled_from([1, 2, 33, 64, 256]),
    outputs=st.sampled_from([1, 17, 128, 300, 5000]),
    shape=st.lists(st.integers(0, 9), max_size=3),
    bias=st.booleans(),
    least=st.sampled_from([1, module.PAYS]),
    seed=st.integers(0, 99),
)
def test_says_what_the_line_says(inputs, outputs, shape, bias, least, seed) -> None:
    """Of any number of rows in any shape, none too; whether or not a product is done by oneDNN."""
    torch.manual_seed(seed)
    line = nn.Linear(inputs, outputs, bias)
    x = torch.randn(*shape, inputs)
    if not can_pack(line):
        return
    before = module.PAYS
    try:
        module.PAYS = least
        twin = Packed(line)
    finally:
        module.PAYS = before
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(twin(x), line(x), rtol=1e-5, atol=1e-5)
            every_other = torch.randn(*shape, 2 * inputs)[..., ::2]
            torch.testing.assert_close(twin(every_other), line(every_other), rtol=1e-5, atol=1e-5)


def test_a_model_is_left_as_it_was() -> None:
    needs_packing()
    model, x = Model().train(), torch.randn(2, 40, 64)
    names, parts = list(model.state_dict()), list(model.modules())
    twin = packed(model)
    assert [type(part) for part in twin.inner] == [Packed, nn.ReLU, Packed] and type(twin.head) is Packed
    assert twin.norm is model.norm and twin.embedding is model.embedding and twin.small is model.small
    assert twin.head.weight is model.embedding.weight and twin.head.bias is model.head.bias
    assert list(model.state_dict()) == names and list(model.modules()) == parts and model.training
    with torch.inference_mode():
        torch.testing.assert_close(twin(x), model(x), rtol=1e-5, atol=1e-5)
    model(x).sum().backward()
    twin(x).sum().backward()  # gradients go through the lines themselves
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_is_laid_out_once_and_anew_when_the_weight_changes() -> None:
    needs_packing()
    line, x = nn.Linear(256, 512), torch.randn(64, 256)
    first = Packed(line)
    assert Packed(line).laid is first.laid
    with torch.no_grad():
        line.weight.neg_()
        second = Packed(line)
        assert second.laid is not first.laid
        torch.testing.assert_close(second(x), line(x), rtol=1e-5, atol=1e-5)
        line.weight = nn.Parameter(torch.ones(512, 256))
        torch.testing.assert_close(Packed(line)(x), line(x), rtol=1e-5, atol=1e-4)
    line = nn.Linear(256, 512)
    with torch.inference_mode():
        made = Packed(line)
    with torch.no_grad():  # outside that mode
        torch.testing.assert_close(made(x), line(x), rtol=1e-5, atol=1e-5)


def test_another_part_is_put_in_its_place() -> None:
    model = Model()
    head = nn.Identity()
    assert packed(model, {"head": head}).head is head and type(model.head) is TiedHead
    plain = nn.Sequential(nn.ReLU())
    assert packed(plain) is plain  # nothing to lay out


def test_is_left_out_where_it_cannot_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    assert not can_pack(nn.Linear(4, 10))  # too small
    assert not can_pack(nn.Linear(256, 256).double())
    assert not can_pack(nn.Linear(256, 256, device="meta"))
    assert not can_pack(Other(256, 256))
    assert not can_pack(None)
    with torch.inference_mode():
        assert not can_pack(nn.Linear(256, 256))
    watched = nn.Linear(256, 256)
    watched.register_forward_hook(lambda *about: None)
    assert not can_pack(watched)
    monkeypatch.setattr(module, "OPERATORS", ("no_such_operator",))
    model = nn.Sequential(nn.Linear(256, 256))
    assert packed(model) is model
