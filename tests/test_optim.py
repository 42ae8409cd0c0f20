from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sadari.errors import SadariError
from sadari.layers.stack import Stack
from sadari.models.deep import Deep, DeepConfig
from sadari.optim import SCHEDULES, SGD, AdamW, Group, Optimizer, clip_gradients, groups_of

STEPS = 100


def network(seed: int = 0) -> Deep:
    torch.manual_seed(seed)
    return Deep(DeepConfig(width=8), 5, 2)


def pull(model: nn.Module, step: int) -> None:
    """Gradients of a loss that changes from step to step."""
    features = torch.randn(16, 5, generator=torch.Generator().manual_seed(step))
    model.zero_grad(set_to_none=True)
    (model(features).square().mean() + model(features)[:, 0].mean()).backward()


def torch_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    weights = [p for p in model.parameters() if p.ndim >= 2]
    biases = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]


MAKERS = {
    "adamw": (
        lambda groups, rate: AdamW(groups, rate),
        lambda groups, rate: torch.optim.AdamW(groups, lr=rate),
    ),
    "sgd": (
        lambda groups, rate: SGD(groups, rate, 0.0),
        lambda groups, rate: torch.optim.SGD(groups, lr=rate),
    ),
    "momentum": (
        lambda groups, rate: SGD(groups, rate, 0.9),
        lambda groups, rate: torch.optim.SGD(groups, lr=rate, momentum=0.9),
    ),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_moves_as_torch_does(name: str, decay: float) -> None:
    ours, theirs = network(), network()
    make_ours, make_theirs = MAKERS[name]
    optimizer, reference = (
        make_ours(groups_of(ours, decay), 0.01),
        make_theirs(torch_groups(theirs, decay), 0.01),
    )
    base = [group["lr"] for group in reference.param_groups]
    for step in range(STEPS):
        factor = SCHEDULES["one-cycle"](step, STEPS, 0)
        pull(ours, step)
        optimizer.step(factor)
        pull(theirs, step)
        for group, rate in zip(reference.param_groups, base, strict=True):
            group["lr"] = rate * factor
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)
    assert not torch.equal(ours.output.weight, network().output.weight)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("rates", [None, [0.01, 0.03, 0.001]])
def test_a_stack_moves_as_its_members_do_alone(name: str, rates: list[float] | None) -> None:
    alone = [network(seed) for seed in range(3)]
    stack = Stack.of([network(seed) for seed in range(3)])
    make, _ = MAKERS[name]
    together = make(groups_of(stack, 0.1), 0.02 if rates is None else torch.tensor(rates))
    singles = [make(groups_of(m, 0.1), rates[k] if rates else 0.02) for k, m in enumerate(alone)]
    for step in range(STEPS):
        for k, (model, optimizer) in enumerate(zip(alone, singles, strict=True)):
            pull(model, step)
            for part, parameter in zip(
                stack.split(stack.flat.grad).values(), model.parameters(), strict=True
            ):
                part[k] = parameter.grad
            optimizer.step(0.5)
        together.step(0.5)
    for mine, other in zip(stack.unstack(), alone, strict=True):
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_biases_are_not_decayed() -> None:
    for model in (network(), Stack.of([network(), network(1)])):
        optimizer = AdamW(groups_of(model, 0.5), 0.1)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        before = [{n: v.clone() for n, v in m.named_parameters()} for m in each(model)]
        optimizer.step(1.0)
        for old, new in zip(before, each(model), strict=True):
            for name, value in new.named_parameters():
                shrunk = 1.0 if name.endswith("bias") else 1 - 0.1 * 0.5
                torch.testing.assert_close(value.detach(), old[name].detach() * shrunk)


def each(model: nn.Module) -> list[nn.Module]:
    return model.unstack() if isinstance(model, Stack) else [model]


@pytest.mark.parametrize("name", MAKERS)
def test_a_state_put_back_goes_on_with_the_same_bits(name: str) -> None:
    make, _ = MAKERS[name]
    straight, resumed = network(), network()
    first = make(groups_of(straight, 0.1), 0.01)
    second = make(groups_of(resumed, 0.1), 0.01)
    for step in range(10):
        pull(straight, step)
        first.step(1.0)
    resumed.load_state_dict(straight.state_dict())
    second.load({name: value.clone() for name, value in first.state().items()})
    for model, optimizer in ((straight, first), (resumed, second)):
        for step in range(10, 20):
            pull(model, step)
            optimizer.step(1.0)
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_frozen_parameters_stay() -> None:
    model = network()
    model.hidden[0].weight.requires_grad_(False)
    kept = model.hidden[0].weight.clone()
    pull(model, 0)
    AdamW(groups_of(model, 0.1), 0.1).step(1.0)
    assert torch.equal(model.hidden[0].weight, kept)


def test_rates_of_members_need_a_stack() -> None:
    with pytest.raises(SadariError, match="2 learning rates for 8 networks; give one a member of a stack"):
        AdamW([Group([network().hidden[0].weight])], torch.tensor([0.1, 0.2]))


def test_an_optimizer_must_say_how_it_moves() -> None:
    weight = torch.zeros(2, requires_grad=True)
    weight.grad = torch.ones(2)
    with pytest.raises(NotImplementedError):
        Optimizer([Group([weight])], 0.1).step(1.0)


def test_clipping_is_torchs_and_each_members_own() -> None:
    model, reference = network(), network()
    pull(model, 0)
    pull(reference, 0)
    clip_gradients(list(model.parameters()), 0.1)
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)

    flat = nn.Parameter(torch.zeros(3, 4))
    flat.grad = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.3, 0.4, 0.0, 0.0], [math.nan, 1.0, 0.0, 0.0]])
    clip_gradients([flat], 1.0, members=3)
    torch.testing.assert_close(flat.grad[0], torch.tensor([0.6, 0.8, 0.0, 0.0]))
    torch.testing.assert_close(flat.grad[1], torch.tensor([0.3, 0.4, 0.0, 0.0]))


@given(st.sampled_from(list(SCHEDULES)), st.integers(1, 2000), st.floats(0, 0.9))
def test_schedules_stay_between_zero_and_one(name: str, steps: int, share: float) -> None:
    factors = [SCHEDULES[name](step, steps, round(share * steps)) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_shapes_of_the_schedules() -> None:
    def at(name: str, step: int, warmup: int = 0) -> float:
        return SCHEDULES[name](step, 1000, warmup)

    assert [at("constant", step) for step in (0, 500, 999)] == [1.0, 1.0, 1.0]
    assert at("cosine", 0) == 1.0
    assert at("cosine", 500) == pytest.approx(0.5)
    assert at("cosine", 999) == pytest.approx(0, abs=1e-5)
    assert [at("warmup", step, 99) for step in (0, 49, 99)] == [0.01, 0.5, 1.0]
    assert at("warmup", 550, 100) == pytest.approx(0.5)
    assert at("warmup", 999, 100) == pytest.approx(1 / 900)
    assert at("cosine", 0, 99) == pytest.approx(0.01)
    assert at("one-cycle", 0) == pytest.approx(1 / 25)
    assert at("one-cycle", 300) == 1.0
    assert at("one-cycle", 650) == pytest.approx(0.5)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("gradients", [torch.channels_last, torch.contiguous_format])
def test_a_weight_moves_alike_however_its_numbers_lie(
    name: str, layout: torch.memory_format, gradients: torch.memory_format
) -> None:
    """3 x 3 x 3 x 3: of this shape a mistaken order would go unseen but for the values."""
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(3, 3, 3, 3, generator=draw)
    ours, theirs = (nn.Parameter(start.clone(memory_format=form)) for form in (layout, gradients))
    make_ours, make_theirs = MAKERS[name]
    optimizer = make_ours([Group([ours], 0.1, None)], 0.01)
    reference = make_theirs([{"params": [theirs], "weight_decay": 0.1}], 0.01)
    for _ in range(5):
        slope = torch.randn(3, 3, 3, 3, generator=draw)
        ours.grad, theirs.grad = (slope.clone(memory_format=form) for form in (gradients, layout))
        optimizer.step(1.0)
        reference.step()
    torch.testing.assert_close(ours.data, theirs.data, atol=1e-6, rtol=1e-6)
    assert ours.is_contiguous(memory_format=layout)
    kept = optimizer.state()
    other = make_ours([Group([nn.Parameter(start.clone(memory_format=layout))], 0.1, None)], 0.01)
    other.load(kept)
    assert all(torch.equal(value, kept[name]) for name, value in other.state().items())
