"""The compiled step for few rows says what torch's says; its parts do what numpy does; it is used when it pays."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.layers import step_kernel, steps
from sadari.layers.packed import packed
from sadari.layers.rounded import Eighths, can_round
from sadari.layers.shortlist import Rounded, Shortlist
from sadari.models.translator import ROOM, Translator, TranslatorConfig
from sadari.search import Searching, search

START, END = 1, 2
V, W = 20, 37  # source and target tokens


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after many steps: the code is compiled and used."""
    monkeypatch.setattr(steps.Done, "steps", steps.COMPILES)


def build(config: TranslatorConfig, seed: int = 0) -> Translator:
    """A model whose every number is drawn, biases and norms too, so that a mix-up of any two shows."""
    torch.manual_seed(seed)
    model = Translator(config, W if config.share else V, W)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape) + (parameter == 1))
    return model.eval()


# ---------------------------------------------------------------------- the step


@settings(deadline=None, max_examples=60)
@given(
    heads=st.sampled_from([1, 2, 4]),
    size=st.sampled_from([3, 4, 8, 9, 16]),
    inner=st.sampled_from([5, 32, 50]),
    depth=st.integers(1, 3),
    choices=st.fixed_dictionaries(
        {
            "activation": st.sampled_from(["relu", "swish", "gelu"]),
            "positions": st.sampled_from(["halves", "interleaved"]),
            "begin": st.sampled_from(["zero", "word"]),
            **{name: st.booleans() for name in ("norm_first", "scaled", "share", "tied", "bias")},
        }
    ),
    sources=st.sampled_from([1, 2]),
    each=st.integers(1, 4),
    padded=st.booleans(),
    laid=st.booleans(),
    seed=st.integers(0, 99),
)
def test_says_what_a_pass_over_the_whole_target_says(
    heads, size, inner, depth, choices, sources, each, padded, laid, seed
) -> None:
    config = TranslatorConfig(
        layers=1, decoder_layers=depth, width=heads * size + heads * size % 2, heads=heads, inner=inner, **choices
    ) if heads * size % 2 == 0 else TranslatorConfig(layers=1, decoder_layers=depth, width=heads * size, heads=heads, inner=inner, **choices)
    model = build(config, seed)
    source = torch.randint(3, V, (sources, 6))
    if padded:
        source[-1, 2:], source[0, 3] = -1, -1
    rows = torch.arange(sources).repeat_interleave(each)
    target = torch.randint(3, W, (len(rows), 5))
    target[:, 0] = START
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        expected = model(source[rows], target)
        patch.setattr(steps.Done, "steps", steps.COMPILES)
        used = packed(model) if laid else model
        state = used.reorder(used.start(source), rows)
        assert state.few is not None
        patch.setattr(steps.StepLayer, "__call__", None)  # is not called
        for t, column in enumerate(target.split(1, dim=1)):
            logits, state = used.step(column, state)
            torch.testing.assert_close(logits, expected[:, t], rtol=1e-4, atol=2e-5)
