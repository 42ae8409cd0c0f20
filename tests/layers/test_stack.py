"""A stack's explicit gradients are autograd's, and a stack of K is K networks."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers import stack as stacking
from sadari.layers.activations import ACTIVATIONS
from sadari.layers.stack import Stack, stackable
from sadari.losses import Loss, make_loss
from sadari.models.deep import Deep, DeepConfig
from sadari.models.deep_skip import DeepSkip, DeepSkipConfig
from sadari.models.line import Line
from sadari.models.shallow import Shallow, ShallowConfig

C = 5
LOSSES = {
    "squared": make_loss("squared"),
    "gaussian": make_loss("gaussian"),
    "absolute": make_loss("absolute"),
    "huber": make_loss("huber", delta=0.5),
    "poisson": make_loss("poisson"),
    "binary": make_loss("binary", classes=2, smoothing=0.1),
    "cross-entropy": make_loss("cross-entropy", classes=4, smoothing=0.1),
}
CLASSES = {"binary": 2, "cross-entropy": 4}


def networks(kind: str, members: int, outputs: int = 1, **settings: Any) -> list[nn.Module]:
    model_class, config = {
        "shallow": (Shallow, ShallowConfig),
        "deep": (Deep, DeepConfig),
        "deep-skip": (DeepSkip, DeepSkipConfig),
    }[kind]
    if kind != "shallow":
        settings = {"layers": 3, **settings}
    return [model_class(config(**{"width": 7, **settings}), C, outputs) for _ in range(members)]


def rows(loss: str, *lead: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    features = torch.randn(*lead, C, dtype=dtype)
    if loss in CLASSES:
        return features, torch.randint(CLASSES[loss], lead)
    if loss == "poisson":
        return features, torch.poisson(torch.ones(lead)).to(dtype)
    return features, torch.randn(lead, dtype=dtype)


class SameMasks(nn.Module):
    """The dropout that a stack has just drawn, for the plain module of one member."""

    def __init__(self, stack: Stack, size: int, member: int) -> None:
        super().__init__()
        masks = stack._workspaces[size].masks
        self.masks = iter(masks if stack.members == 1 else [mask[member] for mask in masks])

    def forward(self, h: Tensor) -> Tensor:
        return h * next(self.masks)


def assert_equals_autograd(
    models: list[nn.Module], stack: Stack, x: Tensor, y: Tensor, loss: Loss, near: float
) -> None:
    """`stack`, made of `models`, against a backward of each of them; x (K, B, C), y (K, B)."""
    values = stack.gradients(x, y, loss)
    gradients = stack.split(stack.flat.grad)
    for k, model in enumerate(models):
        if stack.dropout > 0:
            model.dropout = SameMasks(stack, x.shape[1], k)
        model.zero_grad()
        expected = loss(model(x[k]), y[k]).mean()
        expected.backward()
        torch.testing.assert_close(values[k], expected.detach(), rtol=near, atol=near)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name][k], parameter.grad, rtol=near, atol=near, msg=name)


@pytest.mark.parametrize("members", [1, 2, 4])
@pytest.mark.parametrize("kind", ["shallow", "deep", "deep-skip"])
def test_gradients_equal_autograd_for_every_activation_loss_and_dropout(kind: str, members: int) -> None:
    torch.manual_seed(0)
    for activation, (name, loss), dropout in product(ACTIVATIONS, LOSSES.items(), (0.0, 0.3)):
        for dtype, near, sizes in ((torch.float64, 1e-10, (16, 3, 16)), (torch.float32, 1e-5, (16,))):
            models = networks(kind, members, loss.outputs, activation=activation, dropout=dropout)
            models = [model.to(dtype) for model in models]
            stack = Stack.of(models)
            for size in sizes:  # an odd last batch, and back
                assert_equals_autograd(models, stack, *rows(name, members, size, dtype=dtype), loss, near)


@given(
    kind=st.sampled_from(["shallow", "deep", "deep-skip"]),
    members=st.integers(1, 4),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    width=st.integers(1, 9),
    layers=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_gradients_equal_autograd_for_any_sizes(kind, members, sizes, width, layers, seed) -> None:
    torch.manual_seed(seed)
    depth = {} if kind == "shallow" else {"layers": layers}
    models = [model.double() for model in networks(kind, members, width=width, **depth)]
    stack = Stack.of(models)
    for size in sizes:  # more sizes than workspaces are kept
        assert_equals_autograd(models, stack, *rows("squared", members, size), LOSSES["squared"], 1e-10)
    assert len(stack._workspaces) <= stacking.WORKSPACES


@pytest.mark.parametrize("kind", ["shallow", "deep", "deep-skip"])
def test_a_stack_of_three_trains_as_three_stacks_of_one(kind: str) -> None:
    torch.manual_seed(1)
    models = networks(kind, 3)
    apart = [Stack.of([copy.deepcopy(model)]) for model in models]
    together = Stack.of(models)
    x, y = rows("squared", 3, 40, dtype=torch.float32)
    for stack, part in [(together, slice(0, 3)), *((s, slice(k, k + 1)) for k, s in enumerate(apart))]:
        optimizer = torch.optim.SGD([stack.flat], lr=0.05)
        for _ in range(20):
            stack.gradients(x[part], y[part], LOSSES["squared"])
            optimizer.step()
    one_by_one = torch.cat([stack.flat.detach() for stack in apart])
    torch.testing.assert_close(together.flat.detach(), one_by_one, rtol=0, atol=1e-6)


def test_training_by_the_stack_is_training_by_autograd() -> None:
    torch.manual_seed(2)
    (plain,) = networks("deep-skip", 1)
    stack = Stack.of([copy.deepcopy(plain)])
    x, y = rows("squared", 64, dtype=torch.float32)
    plainly = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.0)
    stacked = torch.optim.AdamW([stack.flat], lr=0.01, weight_decay=0.0)
    for i in range(50):
        batch = slice(i % 4 * 16, i % 4 * 16 + 16)
        plainly.zero_grad()
        LOSSES["squared"](plain(x[batch]), y[batch]).mean().backward()
        plainly.step()
        stack.gradients(x[batch], y[batch], LOSSES["squared"])  # one batch for all members
        stacked.step()
    (written,) = stack.unstack()
    assert written.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(written.state_dict()[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("kind", ["shallow", "deep", "deep-skip"])
def test_answers_equal_the_plain_modules_whole_or_in_blocks(kind: str, members: int, monkeypatch) -> None:
    torch.manual_seed(3)
    models = networks(kind, members, outputs=2, dropout=0.5)
    stack = Stack.of(models).eval()
    own, shared = torch.randn(members, 50, C), torch.randn(50, C)
    for rows_a_block in (1000, 8):
        monkeypatch.setattr(stacking, "BLOCK", rows_a_block * members * 7)
        for features in (own, shared, shared[:0]):
            answers = stack(features)
            assert answers.shape == (members, features.shape[-2], 2)
            for k, model in enumerate(models):
                expected = model.eval()(features[k] if features.ndim == 3 else features)
                torch.testing.assert_close(answers[k], expected.detach(), rtol=0, atol=1e-6)


def test_one_batch_for_all_members_is_the_same_batch_given_to_each() -> None:
    torch.manual_seed(4)
    stack = Stack.of(networks("deep", 3))
    x, y = rows("squared", 12, dtype=torch.float32)
    values = stack.gradients(x, y, LOSSES["squared"])
    gradient = stack.flat.grad.clone()
    again = stack.gradients(x.repeat(3, 1, 1), y.repeat(3, 1), LOSSES["squared"])
    torch.testing.assert_close(values, again, rtol=0, atol=1e-6)
    torch.testing.assert_close(stack.flat.grad, gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["shallow", "deep", "deep-skip"])
def test_gradients_without_dropout_while_evaluating(kind: str) -> None:
    torch.manual_seed(8)
    models = [model.double().eval() for model in networks(kind, 2, dropout=0.4)]
    stack = Stack.of(models)
    x, y = rows("squared", 2, 11)
    stack.train().gradients(x, y, LOSSES["squared"])  # leaves dropped values in the buffers
    values = stack.eval().gradients(x, y, LOSSES["squared"])
    gradients = stack.split(stack.flat.grad)
    for k, model in enumerate(models):
        expected = LOSSES["squared"](model(x[k]), y[k]).mean()
        expected.backward()
        torch.testing.assert_close(values[k], expected.detach(), rtol=0, atol=1e-12)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name][k], parameter.grad, rtol=0, atol=1e-12, msg=name)


def test_a_step_allocates_no_second_gradient_and_keeps_answers_apart() -> None:
    stack = Stack.of(networks("shallow", 2))
    gradient = stack.flat.grad
    x, y = rows("squared", 2, 9, dtype=torch.float32)
    first, second = stack(x), stack(x + 1)
    assert not torch.equal(first, second)
    stack.gradients(x, y, LOSSES["squared"])
    assert stack.flat.grad is gradient and gradient.any()


@pytest.mark.parametrize("members", [1, 3])
def test_a_copied_cast_or_cleared_stack_finds_its_new_weights(members: int) -> None:
    torch.manual_seed(5)
    stack = Stack.of(networks("deep-skip", members))
    x, y = rows("squared", members, 8)
    stack.gradients(x.float(), y.float(), LOSSES["squared"])
    twin = copy.deepcopy(stack)
    with torch.no_grad():
        twin.flat += 1.0
    stack.load_state_dict({"flat": twin.flat.detach()})
    torch.testing.assert_close(stack(x.float()), twin(x.float()), rtol=0, atol=0)
    stack.zero_grad(set_to_none=True)
    twin.double()
    ours = stack.gradients(x.float(), y.float(), LOSSES["squared"])
    theirs = twin.gradients(x, y, LOSSES["squared"])
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)
    assert stack.flat.grad.any() and twin.flat.grad.dtype == torch.float64


def test_inference_mode_leaves_buffers_that_training_can_still_write() -> None:
    stack = Stack.of(networks("deep", 2, activation="gelu"))
    x, y = rows("squared", 2, 6, dtype=torch.float32)
    with torch.inference_mode():
        stack(x)
    stack.gradients(x, y, LOSSES["squared"])
    assert stack.flat.grad.any()


def test_dropout_is_inverted_off_in_evaluation_and_drawn_by_its_generator() -> None:
    torch.manual_seed(6)
    stack = Stack.of(networks("shallow", 2, width=50, dropout=0.25))
    stack.generator = torch.Generator().manual_seed(9)
    x = torch.randn(2, 400, C)
    stack.train()
    dropped = stack(x)
    mask = torch.stack(stack._workspaces[400].masks)
    assert sorted(mask.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert (mask > 0).float().mean().item() == pytest.approx(0.75, abs=0.01)
    stack.generator.manual_seed(9)
    assert torch.equal(stack(x), dropped)
    assert not torch.equal(stack(x), dropped)
    average = torch.stack([stack(x) for _ in range(400)]).mean(0)
    stack.eval()
    assert torch.equal(stack(x), stack(x))
    assert (average - stack(x)).abs().mean() < 0.1 * (dropped - stack(x)).abs().mean()  # E[out] = in


@pytest.mark.parametrize("dropout", [1e-9, 0.99999999])
def test_dropout_rates_at_either_end_stay_finite(dropout: float) -> None:
    torch.manual_seed(7)
    stack = Stack.of(networks("shallow", 1, dropout=dropout)).train()
    assert stack(torch.randn(20, C)).isfinite().all()


def test_unstack_gives_back_the_models_with_their_own_keys() -> None:
    models = networks("deep-skip", 2)
    stack = Stack.of(models)
    with torch.no_grad():
        stack.flat += 1.0
    back = stack.unstack()
    assert [a is b for a, b in zip(back, models, strict=True)] == [True, True]
    keys = ["hidden.0.weight", "hidden.0.bias", "hidden.1.weight", "hidden.1.bias", "hidden.2.weight"]
    keys += ["hidden.2.bias", "output.weight", "output.bias", "direct.weight"]
    assert list(back[0].state_dict()) == keys
    for k, model in enumerate(back):
        for name, view in stack.split(stack.flat.detach()).items():
            assert torch.equal(model.state_dict()[name], view[k])


def test_what_cannot_be_stacked_is_refused() -> None:
    line = Line(Line.Config(), C, 1)
    assert not stackable(line)
    assert all(stackable(networks(kind, 1)[0]) for kind in ("shallow", "deep", "deep-skip"))
    with pytest.raises(SadariError, match="no models to stack; give at least one"):
        Stack.of([])
    with pytest.raises(SadariError, match="cannot stack Line; stack shallow, deep or deep-skip networks"):
        Stack.of([line])
    with pytest.raises(SadariError, match=r"cannot stack Deep .* on Shallow .*; members share class, config"):
        Stack.of(networks("shallow", 1) + networks("deep", 1, layers=1))
    with pytest.raises(SadariError, match=r"cannot stack Shallow .*width=8.* on Shallow .*width=7"):
        Stack.of(networks("shallow", 1) + networks("shallow", 1, width=8))
