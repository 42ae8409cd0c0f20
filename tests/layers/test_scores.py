"""Attention scores: the papers' formulas written out in numpy, counted, and blind to what is not written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sadari.errors import SadariError
from sadari.layers.scores import SCORES, blocked, check_score, make_score, score_macs, score_parameters

KINDS = [("additive", False), ("additive", True), ("dot", False), ("general", False)]
EVERY_KIND = pytest.mark.parametrize(("score", "coverage"), KINDS)


def reference(score, parameters: dict[str, np.ndarray], s, h, past) -> np.ndarray:
    """One score after another: e (T, S) of states s (T, C) over places h (S, W)."""
    e = np.zeros((len(s), len(h)))
    for t, state in enumerate(s):
        for place, read in enumerate(h):
            if score == "dot":
                e[t, place] = state @ read
            elif score == "general":
                e[t, place] = state @ (parameters["key.weight"] @ read)
            else:
                inner = parameters["query.weight"] @ state
                inner = inner + parameters["key.weight"] @ read + parameters["key.bias"]
                if "past.weight" in parameters:
                    inner = inner + parameters["past.weight"][:, 0] * past[place]
                e[t, place] = parameters["energy.weight"][0] @ np.tanh(inner)
    return e


@given(
    kind=st.sampled_from(KINDS),
    width=st.integers(1, 6),
    ways=st.integers(1, 2),
    steps=st.integers(1, 4),
    places=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_equals_the_papers_formulas(kind, width: int, ways: int, steps: int, places: int, seed: int) -> None:
    score, coverage = kind
    across = width if score == "dot" else ways * width
    torch.manual_seed(seed)
    layer = make_score(score, width, across, coverage).double()
    s, h = torch.randn(3, steps, width).double(), torch.randn(3, places, across).double()
    past = torch.rand(3, places).double()
    parameters = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    ours = layer(s, layer.keys(h), past).detach().numpy()
    for row in range(3):
        theirs = reference(score, parameters, s[row].numpy(), h[row].numpy(), past[row].numpy())
        np.testing.assert_allclose(ours[row], theirs, atol=1e-12)
    count = sum(p.numel() for p in layer.parameters())
    assert count == score_parameters(score, width, across, coverage)
    queries, keys = width * width * (score == "additive"), across * width * (score != "dot")
    pairs = steps * places * width * (1 + coverage)
    assert (
        score_macs(score, width, across, places, steps, coverage) == places * keys + steps * queries + pairs
    )


@EVERY_KIND
def test_its_gradient_is_that_of_the_formula(score: str, coverage: bool) -> None:
    """tanh is taken in place: the gradient must not notice."""
    torch.manual_seed(0)
    layer = make_score(score, 4, 4, coverage).double()
    inputs = [torch.randn(2, n, 4, dtype=torch.double, requires_grad=True) for n in (3, 5)]
    past = torch.rand(2, 5, dtype=torch.double, requires_grad=coverage)

    def scored(s: Tensor, h: Tensor, past: Tensor) -> Tensor:
        return layer(s, layer.keys(h), past)

    assert torch.autograd.gradcheck(scored, (*inputs, past))
    scored(*inputs, past).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())


def test_without_a_past_coverage_is_the_additive_score() -> None:
    layer, s, h = make_score("additive", 4, 8, True), torch.randn(2, 3, 4), torch.randn(2, 5, 8)
    nothing = layer(s, layer.keys(h), torch.zeros(2, 5))
    torch.testing.assert_close(layer(s, layer.keys(h)), nothing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nobody_looks_where_nothing_is_written(dtype: torch.dtype) -> None:
    real = torch.tensor([[True, True, False], [False, False, False]])
    added = blocked(real, torch.zeros(1, dtype=dtype))
    assert added.dtype == dtype and added.shape == (2, 1, 3)
    weights = (torch.tensor([5.0, -90.0, 100.0], dtype=dtype) + added).softmax(-1)
    assert not weights[0, :, 2].any() and weights[0].sum() == 1
    assert weights.isfinite().all()


def test_what_cannot_be_is_refused_with_a_remedy() -> None:
    assert SCORES == ("additive", "dot", "general")
    with pytest.raises(SadariError, match="no score 'cosine'; choose one of additive, dot, general"):
        make_score("cosine", 4, 4)
    with pytest.raises(SadariError, match=r"score dot .* 4 numbers by one of 8.*use score=general, or dire"):
        check_score("dot", 4, 8)
    with pytest.raises(SadariError, match=r"score general has no place for coverage, .*use score=additive"):
        check_score("general", 4, 8, coverage=True)
