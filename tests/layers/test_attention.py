"""Attention: fused equals plain, masks hold, and torch's own MultiheadAttention gives the same."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.attention import SelfAttention, attend, check_heads, merge_heads, split_heads

B, H, S, D = 3, 4, 7, 8
LENGTHS = torch.tensor([7, 4, 0])  # the last text is empty


def parts(T: int = S, groups: int = H, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(T + groups)

    def draw(heads: int, places: int) -> Tensor:
        return torch.randn(B, heads, places, D, generator=generator).to(dtype).requires_grad_()

    return draw(H, T), draw(groups, S), draw(groups, S)


def mask_for(kind: str) -> Tensor | None:
    return None if kind == "none" else (torch.arange(S) < LENGTHS[:, None])[:, None, None]


@pytest.mark.parametrize("T", [S, 3, 1])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["none", "pads"])
@pytest.mark.parametrize("groups", [H, 2, 1])
def test_the_fused_path_equals_the_plain_one(T: int, causal: bool, kind: str, groups: int) -> None:
    """Outputs and gradients, with masks, in a text's future, through a cache and with shared keys."""
    given, mask = parts(T, groups), mask_for(kind)
    fused, none = attend(*given, mask, causal)
    plain, weights = attend(*given, mask, causal, plain=True)
    assert none is None and weights is not None and weights.shape == (B, H, T, S)
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-5)
    slopes = [torch.autograd.grad(out.square().sum(), given) for out in (fused, plain)]
    torch.testing.assert_close(*slopes, rtol=0, atol=2e-5)


def test_weights_sum_to_one_and_are_zero_where_nobody_may_look() -> None:
    q, k, v = parts(3)
    mask = mask_for("pads")
    assert mask is not None
    out, weights = attend(q, k, v, mask, causal=True, plain=True)
    assert weights is not None
    past = (
        torch.arange(S) <= torch.arange(S - 3, S)[:, None]
    )  # the last 3 of 7 places, each sees up to itself
    assert (weights.masked_select(~(mask & past)) == 0).all()
    torch.testing.assert_close(weights[:2].sum(-1), torch.ones(2, H, 3))
    assert (weights[2] == 0).all() and (out[2] == 0).all()  # who may look nowhere takes nothing


def test_by_hand() -> None:
    """Two keys at a right angle, one query along the first: weights e^(1/sqrt 2) to 1."""
    k = torch.eye(2).reshape(1, 1, 2, 2)
    out, weights = attend(k[:, :, :1], k, k, plain=True)
    e = math.exp(1 / math.sqrt(2))
    expected = torch.tensor([e / (e + 1), 1 / (e + 1)])
    torch.testing.assert_close(weights.flatten(), expected)  # type: ignore[union-attr]
    torch.testing.assert_close(out.flatten(), expected)


def test_bf16_on_a_processor_is_reckoned_in_single_precision() -> None:
    q, k, v = parts(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = attend(q, k, v, mask_for("pads"))
    exact, _ = attend(q.float(), k.float(), v.float(), mask_for("pads"))
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, exact.to(torch.bfloat16))


def test_dropout_leaves_the_weights_that_are_shown_alone() -> None:
    given = parts()
    _, weights = attend(*given, plain=True)
    torch.manual_seed(0)
    out, shown = attend(*given, dropout=0.5, plain=True)
    assert torch.equal(weights, shown)  # type: ignore[arg-type]
    assert not torch.allclose(out, attend(*given)[0])


@pytest.mark.parametrize("plain", [False, True])
def test_equals_torch_multihead_attention_on_copied_weights(plain: bool) -> None:
    torch.manual_seed(0)
    C = H * D
    reference = nn.MultiheadAttention(C, H, batch_first=True).eval()
    ours = SelfAttention(C, H)
    ours.requires_grad_(True)
    with torch.no_grad():
        for i, layer in enumerate((ours.query, ours.key, ours.value)):
            layer.weight.copy_(reference.in_proj_weight[i * C : (i + 1) * C])
            layer.bias.copy_(torch.randn(C))
            reference.in_proj_bias[i * C : (i + 1) * C] = layer.bias
    x = torch.randn(B, S, C)
    real = torch.arange(S) < torch.tensor([7, 4, 1])[:, None]
    expected, seen = reference(x, x, x, key_padding_mask=~real, average_attn_weights=False)
    out, weights = ours(x, real[:, None, None], plain=plain)
    torch.testing.assert_close(reference.out_proj(out), expected, rtol=0, atol=1e-5)
    if plain:
        torch.testing.assert_close(weights, seen, rtol=0, atol=1e-6)


def test_heads_are_cut_and_put_together() -> None:
    x = torch.arange(24.0).reshape(1, 2, 12)
    assert split_heads(x, 3)[0, 1, 0].tolist() == [4.0, 5.0, 6.0, 7.0]
    assert torch.equal(merge_heads(split_heads(x, 3)), x)


def test_widths_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(SadariError, match="width 30 is not divisible by 4 heads; use heads=3"):
        check_heads(30, 4)
    with pytest.raises(
        SadariError, match="width 0: attention needs at least 1 number a token; use width=128"
    ):
        check_heads(0, 1)
