"""A layer written out for a token a row says what the layer says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sadari.layers.packed import packed
from sadari.models.translator import Translator, TranslatorConfig

START = 1


@settings(deadline=None, max_examples=40)
@given(
    heads=st.sampled_from([1, 2, 4]),
    size=st.integers(1, 5),
    first=st.booleans(),
    activation=st.sampled_from(["relu", "swish", "gelu"]),
    padded=st.booleans(),
    each=st.sampled_from([1, 3]),
    laid=st.booleans(),
    seed=st.integers(0, 99),
)
def test_with_it_as_without(heads, size, first, activation, padded, each, laid, seed) -> None:
    assume(heads * size >= 8)  # a norm of two numbers is a step: it makes any rounding large
    torch.manual_seed(seed)
    config = TranslatorConfig(
        layers=1, decoder_layers=2, width=heads * size, heads=heads, norm_first=first, activation=activation
    )
    model = Translator(config, 20, 30).eval()
    source = torch.randint(3, 20, (4, 6))
    if padded:
        source[1, 2:], source[3] = -1, -1  # a short one, and an empty one
    rows = torch.arange(4).repeat_interleave(each)
    target = torch.randint(3, 30, (len(rows), 5))
    target[:, 0] = START
    with torch.inference_mode():
        expected = model(source[rows], target)
        used = packed(model) if laid else model
        state = used.reorder(used.start(source), rows)
        assert len(state.steps) == 2
        for t, column in enumerate(target.split(1, dim=1)):
            logits, state = used.step(column, state)
            torch.testing.assert_close(logits, expected[:, t], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["gradients", "training", "double", "autocast"])
def test_is_left_out_where_it_says_something_else(way: str) -> None:
    model = Translator(Translator.TINY, 20, 30).eval()
    source = torch.randint(3, 20, (2, 4))
    with torch.no_grad():
        assert model.start(source).steps
    if way == "training":
        model.train()
    if way == "double":
        model.double()
    with torch.set_grad_enabled(way == "gradients"), torch.autocast("cpu", enabled=way == "autocast"):
        assert not model.start(source).steps
