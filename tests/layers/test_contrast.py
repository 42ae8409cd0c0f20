"""The contrast losses in tiles: equal to the plain way over all pairs at once, their gradients too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.layers import contrast
from sadari.layers.contrast import pull, sigmoid_loss, softmax_loss

KINDS = ("softmax", "sigmoid")


def case(
    B: int, D: int, scale: float, groups: int = 0, seed: int = 0, dtype: Any = torch.float32
) -> list[Any]:
    """Leaves image, text, scale and bias, and ids."""
    random = torch.Generator().manual_seed(seed)
    sides = [torch.randn(B, D, generator=random, dtype=torch.float64) for _ in range(2)]
    image, text = (F.normalize(side, dim=-1).to(dtype).requires_grad_() for side in sides)
    numbers = (torch.tensor(value, dtype=dtype, requires_grad=True) for value in (scale, -0.5 * scale))
    return [image, text, *numbers, torch.randint(groups, (B,), generator=random) if groups else None]


def plain(kind: str, leaves: list[Any], ids: Tensor | None) -> Tensor:
    """The papers' formulas over all B x B pairs, written anew."""
    image, text, scale, bias = leaves
    B = len(image)
    own = torch.eye(B, dtype=torch.bool)
    known = torch.zeros_like(own) if ids is None else (ids[:, None] == ids[None]) & ~own
    logits = scale * image @ text.t()
    if kind == "sigmoid":
        signs = 2.0 * own - 1
        return -F.logsigmoid(signs * (logits + bias)).masked_fill(known, 0).sum() / B
    logits = logits.masked_fill(known, -torch.inf)
    rows, columns = logits.log_softmax(1).diagonal(), logits.log_softmax(0).diagonal()
    return -(rows + columns).mean() / 2


def ours(kind: str, leaves: list[Any], ids: Tensor | None, chunk: int = 0) -> Tensor:
    image, text, scale, bias = leaves
    if kind == "softmax":
        return softmax_loss(image, text, scale, ids, chunk)
    return sigmoid_loss(image, text, scale, bias, ids, chunk)


def both(kind: str, loss: Tensor, leaves: list[Any], upstream: float = 1.0) -> list[Tensor]:
    leaves = leaves[: 4 if kind == "sigmoid" else 3]
    return [
        loss.detach(),
        *torch.autograd.grad(loss * upstream, [leaf for leaf in leaves if leaf.requires_grad]),
    ]


def same(mine: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-5) -> None:
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("kind", KINDS)
@given(
    B=st.integers(1, 40),
    D=st.integers(1, 9),
    scale=st.sampled_from([0.0, 1.0, 14.3, 100.0]),
    groups=st.sampled_from([0, 1, 3, 40]),
    chunk=st.integers(0, 45),
    upstream=st.sampled_from([1.0, 0.0, 3.5]),
    seed=st.integers(0, 9),
    precise=st.booleans(),
)
def test_equals_the_plain_loss_and_its_gradients_in_any_tiles(
    kind, B, D, scale, groups, chunk, upstream, seed, precise
) -> None:
    *leaves, ids = case(B, D, scale, groups, seed, torch.float64 if precise else torch.float32)
    mine = both(kind, ours(kind, leaves, ids, chunk), leaves, upstream)
    same(mine, both(kind, plain(kind, leaves, ids), leaves, upstream), 1e-9 if precise else 1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [10.0, 100.0])
@pytest.mark.parametrize("chunk", [0, 96])
def test_float32_is_as_near_to_float64_as_the_plain_way_is(kind, scale, chunk) -> None:
    *leaves, ids = case(300, 64, scale, 200)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    truth = both(kind, plain(kind, exact, ids), exact)
    theirs = both(kind, plain(kind, leaves, ids), leaves)
    for a, b, c in zip(both(kind, ours(kind, leaves, ids, chunk), leaves), theirs, truth, strict=True):
        assert (a - c).norm() <= 3 * (b - c).norm() + 1e-6 * c.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_settled_pairs_keep_their_small_gradients(kind) -> None:
    """Where each pair is found already, what is left of a gradient is no rounding of a sum that cancels."""
    image = torch.eye(64).requires_grad_()
    leaves = [image, torch.eye(64).requires_grad_(), *case(2, 2, 30.0)[2:4]]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    truth = both(kind, plain(kind, exact, None), exact)
    for a, b in zip(both(kind, ours(kind, leaves, None, 40), leaves), truth, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=3e-6 if kind == "softmax" else 1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_any_size_stay_finite(kind) -> None:
    for factor in (1e-20, 1.0, 40.0):
        image, text, scale, bias, _ = case(30, 8, 100.0)
        leaves = [(image * factor).detach().requires_grad_(), text, scale, bias]
        mine = both(kind, ours(kind, leaves, None, 7), leaves)
        assert all(each.isfinite().all() for each in mine)
        same(mine, both(kind, plain(kind, leaves, None), leaves), 1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [(0,), (1,), (2, 3), (0, 1), (0, 2), (1, 2, 3)])
def test_gives_gradients_only_to_what_asks_for_them(kind, frozen) -> None:
    *leaves, ids = case(21, 5, 10.0, 15)
    for which in frozen:
        leaves[which] = leaves[which].detach()
    same(both(kind, ours(kind, leaves, ids, 8), leaves), both(kind, plain(kind, leaves, ids), leaves))


@pytest.mark.parametrize("kind", KINDS)
def test_without_gradients_it_is_the_value_alone(kind) -> None:
    *leaves, ids = case(21, 5, 10.0, 15)
    with torch.no_grad():
        value = ours(kind, leaves, ids, 8)
    assert not value.requires_grad
    torch.testing.assert_close(value, plain(kind, leaves, ids).detach())


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_lowers_no_precision_and_embeddings_may_be_low(kind) -> None:
    *leaves, ids = case(50, 16, 100.0)
    with torch.autocast("cpu", torch.bfloat16):
        mine = both(kind, ours(kind, leaves, ids, 16), leaves)
    same(mine, both(kind, ours(kind, leaves, ids, 16), leaves))
    low = [leaf.detach().bfloat16().requires_grad_() for leaf in leaves[:2]] + leaves[2:]
    mine = both(kind, ours(kind, low, ids, 16), low)
    assert [each.dtype for each in mine[:4]] == [torch.float32, torch.bfloat16, torch.bfloat16, torch.float32]
    high = [leaf.detach().float().requires_grad_() for leaf in low]
    for a, b in zip(mine, both(kind, ours(kind, high, ids, 16), high), strict=True):
        torch.testing.assert_close(a.float(), b, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_of_known_positives_leaves_a_pair_alone(kind) -> None:
    """All pairs the same: softmax has nothing to tell apart, sigmoid the pairs themselves."""
    *leaves, _ = case(17, 4, 10.0)
    ids = torch.zeros(17, dtype=torch.int64)
    value = ours(kind, leaves, ids, 5)
    image, text, scale, bias = leaves
    alone = (
        F.softplus(-(scale * (image * text).sum(-1) + bias)).mean() if kind == "sigmoid" else torch.zeros(())
    )
    torch.testing.assert_close(value, alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_scale_and_bias_may_have_a_dimension_as_hugging_face_has_them(kind) -> None:
    image, text, scale, bias, _ = case(9, 4, 10.0)
    wide = [number.detach().reshape(1).requires_grad_() for number in (scale, bias)]
    gradients = both(kind, ours(kind, [image, text, *wide], None), [image, text, *wide])
    assert gradients[3].shape == (1,)
    flat = both(kind, ours(kind, [image, text, scale, bias], None), [image, text, scale, bias])
    same([each.reshape(flat[k].shape) for k, each in enumerate(gradients)], flat)


@pytest.mark.parametrize("kind", KINDS)
def test_holds_a_tile_and_never_all_pairs(kind, monkeypatch) -> None:
    """No product is larger than a tile."""
    B, D, side, held, made = 512, 4, 64, 0, contrast.product

    def watched(*given: Any) -> Tensor:
        nonlocal held
        tile = made(*given)
        held = max(held, tile.numel())
        return tile

    monkeypatch.setattr(contrast, "product", watched)
    *leaves, _ = case(B, D, 10.0)
    ours(kind, leaves, None, side).backward()
    assert held == side * side


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_no_weights_can_be_planned(kind) -> None:
    leaves = [each.detach().to("meta").requires_grad_() for each in case(6, 4, 10.0)[:4]]
    ours(kind, leaves, torch.zeros(6, dtype=torch.int64, device="meta")).backward()
    assert leaves[0].grad is not None and leaves[0].grad.shape == (6, 4)


def test_a_second_backward_pass_is_refused() -> None:
    image, text, scale, *_ = case(5, 3, 10.0)
    loss = softmax_loss(image, text, scale)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="given once; compute the loss again"):
        loss.backward()


def test_what_are_no_pairs_is_refused() -> None:
    image, text, scale, _, _ = case(5, 3, 10.0)
    with pytest.raises(SadariError, match=r"images \(5, 3\) and captions \(4, 3\).*give pairs"):
        softmax_loss(image, text[:4], scale)
    with pytest.raises(SadariError, match=r"images \(0, 3\).*a pair at least"):
        softmax_loss(image[:0], text[:0], scale)
    with pytest.raises(SadariError, match=r"scale \(2,\): it is one number"):
        softmax_loss(image, text, scale.expand(2))
    with pytest.raises(SadariError, match=r"ids \(4,\) of 5 pairs: give one each, \(5,\)"):
        sigmoid_loss(image, text, scale, scale, torch.arange(4))


@pytest.mark.parametrize("batch", [2, 6])
@pytest.mark.parametrize("positive", [1.0, 0.3])
def test_the_pull_on_a_negative_is_autograds(batch, positive) -> None:
    scale, bias, along = 10.0, -5.0, torch.linspace(-1, 1, 9)
    softmax, sigmoid = pull(along, scale, bias, positive, batch)
    for k, similarity in enumerate(along):
        pairs = (torch.eye(batch) * positive).index_put_((torch.tensor(0), torch.tensor(1)), similarity)
        pairs.requires_grad_()
        logits = scale * pairs
        rows, columns = logits.log_softmax(1).diagonal(), logits.log_softmax(0).diagonal()
        (towards,) = torch.autograd.grad(-(rows + columns).sum() / 2, pairs)
        torch.testing.assert_close(softmax[k], towards[0, 1])
        signs = 2 * torch.eye(batch) - 1
        (towards,) = torch.autograd.grad(-F.logsigmoid(signs * (scale * pairs + bias)).sum(), pairs)
        torch.testing.assert_close(sigmoid[k], towards[0, 1])


def test_a_settled_pair_stops_pulling_under_softmax_alone() -> None:
    settled, open_ = (pull(torch.tensor([0.2]), 20.0, -10.0, positive) for positive in (1.0, 0.2))
    assert settled[0] < 1e-4 * open_[0]
    assert settled[1] == open_[1]
