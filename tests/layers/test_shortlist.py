"""The shortlist names the same winner as the whole head, whatever the numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sadari.decode import GREEDY, Sampling, Writing
from sadari.layers import shortlist
from sadari.layers.shortlist import Shortlist, can_shortlist
from sadari.models.gpt import GPT, GPTConfig


def make(words: int, width: int, bias: bool, seed: int, spread: float) -> nn.Linear:
    torch.manual_seed(seed)
    head = nn.Linear(width, words, bias=bias)
    with torch.no_grad():
        head.weight.normal_(0, 1).mul_(torch.rand(words, 1) * spread + 0.01)  # words of very unequal lengths
        head.weight[torch.rand(words) < 0.1] = 0.0
    return head


@given(
    st.integers(2, 300),
    st.integers(2, 70),
    st.booleans(),
    st.integers(0, 999),
    st.sampled_from([0.01, 1, 50]),
)
def test_winner_is_exact_and_others_are_below(
    words: int, width: int, bias: bool, seed: int, spread: float
) -> None:
    head = make(words, width, bias, seed, spread)
    h = torch.randn(3, width) * spread
    never = [0] if seed % 2 else []
    found = Shortlist(head, never)(h)
    exact = head(h)
    exact[:, never] = -torch.inf
    best, place = found.max(1)
    torch.testing.assert_close(best, exact.max(1).values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(best, exact.gather(1, place.unsqueeze(1)).squeeze(1), rtol=1e-5, atol=1e-6)


def test_bound_is_not_a_guess() -> None:
    """A rival nearer than the rounding can tell is found: two words that differ in the last place alone."""
    torch.manual_seed(0)
    head = nn.Linear(64, 1000, bias=False)
    h = torch.randn(1, 64)
    with torch.no_grad():
        head.weight[10] = h[0]
        head.weight[700] = h[0] * (1 + 1e-5)
    assert Shortlist(head)(h).argmax() == 700


def test_numbers_that_are_none_are_passed_on() -> None:
    head = nn.Linear(8, 50)
    h = torch.full((1, 8), torch.nan)
    assert Shortlist(head)(h).isnan().all()


def test_changed_weights_are_rounded_anew() -> None:
    head = make(200, 16, False, 0, 1.0)
    h = torch.randn(1, 16)
    Shortlist(head)
    with torch.no_grad():
        head.weight.neg_()
    assert Shortlist(head)(h).argmax() == head(h).argmax()


def test_writes_the_same_with_it_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(width=64, layers=2, heads=2, context=64), 5000, 5000).eval()
    head = model.head
    assert can_shortlist(head)
    used = []
    monkeypatch.setattr("sadari.decode.Shortlist", lambda *a: used.append(a) or Shortlist(*a))

    def write(sampling: Sampling) -> list[list[int]]:
        with Writing(model, [[1, 2, 3], [7]], sampling, never=[4]) as writing:
            while writing.rows:
                writing.step()
        assert model.head is head
        return writing.texts

    found = write(Sampling(temperature=0, max_tokens=60))
    assert len(used) == 1
    assert write(Sampling(temperature=0, max_tokens=60, penalty=1.1)) and len(used) == 1
    monkeypatch.setattr("sadari.decode.can_shortlist", lambda head: False)
    assert write(Sampling(temperature=0, max_tokens=60)) == found and len(used) == 1
    assert GREEDY.likeliest and not Sampling(temperature=0, no_repeat=3).likeliest


def test_is_left_out_where_it_cannot_serve() -> None:
    assert not can_shortlist(nn.Linear(4, 10))  # too small
    assert not can_shortlist(nn.Linear(512, 1024).double())
    assert not can_shortlist(None)
    assert can_shortlist(nn.Linear(512, 1024))
    assert shortlist.LARGE <= 512 * 1024
