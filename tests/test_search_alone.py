"""A source by itself is searched as it is among others: `Alone` against `Single` and `Beams`."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.search import Searching
from sadari.search.alone import Alone, _places
from sadari.search.beams import Beams
from sadari.search.single import Single

START, END = 0, 1


class Chain(nn.Module):
    """Odds by the last two tokens, which the state holds, so that a row that is mixed up shows."""

    def __init__(self, size: int, seed: int, coarse: bool) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(size + 1, size, size, generator=random)
        self.logits = nn.Parameter(logits.round() if coarse else logits)
        self.moved: list[list[int]] = []

    def start(self, source: Tensor) -> Tensor:
        return torch.full((len(source),), len(self.logits) - 1)

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        for column in tokens.T:
            before, state = state, column
        return self.logits[before, state], state

    def reorder(self, state: Tensor, rows: Tensor) -> Tensor:
        self.moved.append(rows.tolist())
        return state[rows]


@settings(deadline=None, max_examples=150)
@given(
    size=st.integers(2, 7),
    beam=st.integers(1, 6),
    best=st.integers(1, 6),
    penalty=st.sampled_from([0.0, 1.0]),
    most=st.integers(0, 8),
    never=st.sets(st.integers(0, 6), max_size=3),
    prefix=st.lists(st.integers(0, 1), max_size=2),
    coarse=st.booleans(),
    seed=st.integers(0, 999),
)
def test_alone_as_among_others(size, beam, best, penalty, most, never, prefix, coarse, seed) -> None:
    how = Searching(beam=beam, n_best=min(best, beam), length_penalty=penalty, max_tokens=most or 9)
    never = {token for token in never if token < size} - {END}
    model = Chain(size, seed, coarse and beam > 1)  # among equals either may be taken
    about: Any = model, torch.tensor([[2, END]]), [[START, *prefix]], how, END, never
    with torch.inference_mode():
        if beam == 1:
            expected = Single(*about, False, False).write()
            found = Alone(*about, False, False).greedy()
        else:
            expected = Beams(*about, False, True).write([0], None)
            found = Alone(*about, False, True).beams()
    assert [one.tokens for one in found[0]] == [one.tokens for one in expected[0]]
    for one, other in zip(found[0], expected[0], strict=True):
        assert one.logp == pytest.approx(other.logp, nan_ok=True)
        assert one.score == pytest.approx(other.score, nan_ok=True)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(1, 5))
def test_first_children_stay_where_they_can(parents: list[int], before: int) -> None:
    parents = [parent % before for parent in parents]
    places, was = _places(parents, before, 5)
    assert [was[place] for place in places] == parents
    assert len(set(places)) == len(parents) and len(was) == 5
    if before == 5:
        assert all(was[parent] == parent for parent in parents)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_said(bad: float) -> None:
    model = Chain(4, 0, False)
    with torch.no_grad():
        model.logits[-1, START, 2] = bad
    about: Any = model, torch.tensor([[2, END]]), [[START]], Searching(max_tokens=3), END, set(), False, False
    with torch.inference_mode(), pytest.raises(SadariError, match="are no finite numbers"):
        Alone(*about).greedy()
