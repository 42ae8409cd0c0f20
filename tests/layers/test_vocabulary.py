"""The vocabulary's loss in blocks: equal to cross_entropy of the whole, its gradients too."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sadari.layers import vocabulary
from sadari.layers.vocabulary import vocabulary_loss


def case(N: int, V: int, C: int, bias: bool, seed: int = 0) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    random = torch.Generator().manual_seed(seed)
    hidden, weight = (torch.randn(n, C, generator=random).requires_grad_() for n in (N, V))
    shift = torch.randn(V, generator=random).requires_grad_() if bias else None
    return hidden, weight, shift, torch.randint(V, (N,), generator=random)


def plain(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias), targets)


def both(loss: Tensor, *leaves: Tensor | None, scale: float = 1.0) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss * scale, [leaf for leaf in leaves if leaf is not None])]


@given(
    N=st.integers(1, 40),
    V=st.integers(1, 50),
    C=st.integers(1, 9),
    bias=st.booleans(),
    block=st.integers(0, 45),
    scale=st.sampled_from([1.0, 0.0, 3.5]),
    seed=st.integers(0, 9),
)
def test_equals_the_whole_loss_and_its_gradients_in_any_blocks(N, V, C, bias, block, scale, seed) -> None:
    hidden, weight, shift, targets = case(N, V, C, bias, seed)
    ours = both(vocabulary_loss(hidden, weight, shift, targets, block), hidden, weight, shift, scale=scale)
    theirs = both(plain(hidden, weight, shift, targets), hidden, weight, shift, scale=scale)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_logits_of_any_size_stay_finite() -> None:
    hidden, weight, _, targets = case(20, 30, 8, bias=False)
    for factor in (1e-30, 1.0, 300.0):
        ours = both(vocabulary_loss(hidden * factor, weight, None, targets, 7), hidden, weight)
        theirs = both(plain(hidden * factor, weight, None, targets), hidden, weight)
        for a, b in zip(ours, theirs, strict=True):
            assert a.isfinite().all()
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_under_autocast_as_close_to_float32_as_the_plain_way() -> None:
    hidden, weight, _, targets = case(256, 500, 64, bias=False)
    hidden = (hidden * 0.5).detach().requires_grad_()
    exact = both(plain(hidden, weight, None, targets), hidden, weight)
    with torch.autocast("cpu", torch.bfloat16):
        ours = both(vocabulary_loss(hidden, weight, None, targets, 100), hidden, weight)
        theirs = both(plain(hidden, weight, None, targets), hidden, weight)
    assert ours[0].dtype == torch.float32 and ours[2].dtype == torch.float32
    for a, b, truth in zip(ours, theirs, exact, strict=True):
        assert (a - truth).norm() <= 1.5 * (b - truth).norm() + 1e-3 * truth.norm()
        assert (a - truth).norm() < 0.02 * truth.norm()


def test_gives_gradients_only_to_what_asks_for_them() -> None:
    hidden, weight, shift, targets = case(9, 12, 4, bias=True)
    (towards,) = torch.autograd.grad(vocabulary_loss(hidden, weight.detach(), shift, targets), hidden)
    torch.testing.assert_close(
        towards, torch.autograd.grad(plain(hidden, weight.detach(), shift, targets), hidden)[0]
    )
    with torch.no_grad():
        value = vocabulary_loss(hidden, weight, shift, targets, 4)
    assert not value.requires_grad
    torch.testing.assert_close(value, plain(hidden, weight, shift, targets).detach())


def test_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The widest tensor that a loss makes, by torch's own profiler."""
    monkeypatch.setattr(vocabulary, "BLOCK", 500)
    hidden, weight, _, targets = case(64, 100, 2, bias=False)
    made = []
    mm = torch.mm

    def watched(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        made.append(out.shape)
        return mm(a, b, out=out)

    monkeypatch.setattr(torch, "mm", watched)
    vocabulary_loss(hidden, weight, None, targets).backward()
    assert set(made) <= {(5, 100), (4, 100)} and len(made) == 13


def test_tokens_may_be_32_bits() -> None:
    hidden, weight, _, targets = case(9, 12, 4, bias=False)
    short = vocabulary_loss(hidden, weight, None, targets.int())
    assert torch.equal(short, vocabulary_loss(hidden, weight, None, targets))
