"""Losses: pushes against gradients taken by autograd, the sum that others amount to, both languages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sadari.charts import draw, png, svg
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.captioned import captioned
from sadari.inspection.losses import amounts_to, balanced, pushed
from tests.inspection.small_captions import RUNGS, check_words, marks, small

COSINES = st.floats(-1, 1)


@given(
    u=COSINES, positive=COSINES, others=COSINES, scale=st.floats(1, 60), bias=st.floats(-20, 5),
    batch=st.integers(2, 40),
)  # fmt: skip
def test_pushes_are_gradients(
    u: float, positive: float, others: float, scale: float, bias: float, batch: int
) -> None:
    row = torch.tensor([positive, u, *[others] * (batch - 2)], dtype=torch.float64, requires_grad=True)
    F.cross_entropy(scale * row[None], torch.zeros(1, dtype=torch.int64)).backward()
    assert row.grad is not None
    softmax, sigmoid = pushed(u, positive, others, scale, bias, batch)
    assert softmax == pytest.approx(float(row.grad[1]) / scale, rel=1e-6, abs=1e-12)
    alone = torch.tensor(u, dtype=torch.float64, requires_grad=True)
    (-F.logsigmoid(-(scale * alone + bias))).backward()
    assert alone.grad is not None
    assert sigmoid == pytest.approx(float(alone.grad) / scale, rel=1e-6, abs=1e-12)


@given(st.lists(COSINES, min_size=1, max_size=30), st.floats(0.5, 80))
def test_what_others_amount_to_has_their_sum(false: list[float], scale: float) -> None:
    found = amounts_to(np.array(false), scale)
    assert min(false) - 1e-9 <= found <= max(false) + 1e-9
    wanted = np.exp(scale * np.array(false)).sum()
    assert len(false) * math.exp(scale * found) == pytest.approx(wanted, rel=1e-6)


def test_a_bias_that_is_not_there_gives_the_odds_of_a_batch() -> None:
    false = np.array([0.1, 0.2, 0.3])
    bias = balanced(false, 10.0, 64)
    assert 1 / (1 + math.exp(-10 * 0.2 - bias)) == pytest.approx(1 / 64)


@pytest.mark.parametrize("rung", RUNGS)
def test_a_settled_pair_stops_pulling(rung: str) -> None:
    run: Any = small(rung)
    view = look(run, "losses", part="train")
    facts, arrays = view.facts, view.arrays
    assert facts["settled"] >= facts["true_median"]
    row = facts["scale"] * np.array([facts["settled"], *[facts["others"]] * (facts["batch"] - 1)])
    assert facts["sure"] == pytest.approx(1 / np.exp(row - row[0]).sum())
    assert (arrays["softmax_settled"] <= arrays["softmax_median"] + 1e-12).all()
    for name in ("softmax_settled", "softmax_median", "sigmoid"):
        assert (np.diff(arrays[name]) >= 0).all() and 0 <= arrays[name].min() <= arrays[name].max() <= 1
    assert arrays["true"].sum() == pytest.approx(1) and arrays["false"].sum() == pytest.approx(1)
    assert facts["scale"] == pytest.approx(float(run.model.scale().detach()))
    assert facts["batch"] == 32
    own = rung == "siglip"
    assert (facts["loss"] == "sigmoid") == own and ("which this run has not" in view.caption[0]) != own
    if own:
        assert facts["bias"] == pytest.approx(float(run.model.logit_bias.detach()))


def test_medians_and_shares_are_those_of_the_pairs() -> None:
    run = small("clip")
    pairs = captioned(run, "test")
    image, text = pairs.vectors(run)
    false = (image @ text.T)[~pairs.true()]
    facts = look(run, "losses").facts
    assert facts["true_median"] == pytest.approx(np.median((image * text).sum(1)))
    assert facts["false_median"] == pytest.approx(np.median(false))
    assert facts["harder"] == pytest.approx((false > facts["true_median"]).mean())
    assert facts["work"] >= facts["harder"]  # what is nearer is pushed harder


def test_where_all_is_true_there_is_nothing_to_push(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small("clip")
    pairs = captioned(run, "test")
    alike = replace(pairs, subjects=np.zeros_like(pairs.subjects))
    monkeypatch.setattr("sadari.inspection.losses.captioned", lambda *_: alike)
    with pytest.raises(SadariError, match="all captions of the test part are true of all its pictures; take"):
        look(run, "losses")


@pytest.mark.parametrize("rung", RUNGS)
def test_sentences_and_drawings_in_both_languages(rung: str) -> None:
    view = look(small(rung), "losses")
    check_words(view)
    assert "nan" not in json.dumps(view.to_json()).lower()
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        chart.to_dict(validate=True)
        assert "NaN" not in marks(svg(chart))
    assert png(chart)[:4] == b"\x89PNG"
