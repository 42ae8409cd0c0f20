"""Patches: shares add up to the cosine, covering finds the place that counts, attention is the model's."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sadari.charts import draw, png, svg
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.captioned import captioned
from sadari.inspection.patches import correlation, grid_of, looked_at, maps_of
from tests.inspection.small_captions import RUNGS, check_words, marks, small


def test_of_a_line_shares_and_the_biass_add_up_to_the_cosine() -> None:
    run: Any = small("bag-of-words")
    some = captioned(run, "test").distinct(5)
    image, text = some.vectors(run)
    (maps,) = maps_of(run, some.pixels, [torch.from_numpy(text)])
    np.testing.assert_allclose(maps.cosine, (image * text).sum(1), atol=1e-6)
    vector = run.model.encode_image(run.task.tensors(torch.from_numpy(some.pixels))).detach().double()
    bias = (torch.from_numpy(text) @ run.model.picture.bias.double()) / vector.norm(dim=-1)
    np.testing.assert_allclose(maps.worth.sum((1, 2)) + bias.detach().numpy(), maps.cosine, atol=1e-6)
    assert maps.worth.shape[1:] == run.model.size


@pytest.mark.parametrize("rung", ["clip", "siglip", "locked"])
def test_covering_finds_the_one_place_that_counts(rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tower that looks at one place alone: its red against all else."""
    run: Any = small(rung)
    some = captioned(run, "test").distinct(3)
    h, w = grid_of(run, some.pixels.shape[1:3])
    side = some.pixels.shape[1] // h
    pixels = np.full_like(some.pixels, 30)
    pixels[:, side : 2 * side, :side, 0] = 250

    def seen(pictures: Tensor, rec: Any = None) -> Tensor:
        red = pictures[:, 0, side : 2 * side, :side].mean((1, 2))
        return torch.stack([red, torch.ones_like(red)], -1)

    monkeypatch.setattr(run.model, "encode_image", seen)
    (maps,) = maps_of(run, pixels, [torch.tensor([[1.0, 0.0]] * 3)])
    assert maps.worth.shape == (3, h, w)
    assert (maps.worth[:, 1, 0] > 0.1).all()
    maps.worth[:, 1, 0] = 0
    np.testing.assert_allclose(maps.worth, 0, atol=1e-6)


@pytest.mark.parametrize("rung", ["clip", "siglip"])
def test_what_was_looked_at_is_the_last_attention(rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = small(rung)
    pixels = captioned(run, "test").distinct(2).pixels
    found = looked_at(run, pixels)
    assert found is not None and (found > 0).all()
    sums = found.sum((1, 2))
    if rung == "siglip":  # the probe has no place of its own
        np.testing.assert_allclose(sums, 1.0, atol=1e-5)
    else:
        assert (sums < 1).all()
    h, w = found.shape[1:]

    def attend(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        weights = torch.zeros(*q.shape[:-1], k.shape[-2])
        weights[..., -w - 2] = 1.0
        return weights @ v, weights

    monkeypatch.setattr(f"sadari.models.{rung}_transformer.attend", attend)
    planted = looked_at(run, pixels)
    assert planted is not None and planted[0].argmax() == h * w - w - 2


@pytest.mark.parametrize("rung", ["bag-of-words", "locked"])
def test_what_cuts_no_patches_has_no_attention(rung: str) -> None:
    view = look(small(rung), "patches", count=2)
    assert "looked" not in view.arrays and view.facts["looked"] is None
    assert "looked in the last layer" not in view.caption[0]


def test_other_words_give_another_map_and_the_same_words_the_same() -> None:
    run = small("clip")
    one = look(run, "patches", count=3, caption="a red square")
    other = look(run, "patches", count=3, caption="파랑 줄무늬")
    assert not np.allclose(one.arrays["worth"], other.arrays["worth"])
    np.testing.assert_allclose(one.arrays["looked"], other.arrays["looked"])
    assert one.arrays["caption"].tolist() == ["a red square"] * 3
    assert "“a red square” has a cosine from" in one.title[0]
    again = look(run, "patches", count=3, caption="a red square")
    np.testing.assert_allclose(one.arrays["worth"], again.arrays["worth"])
    check_words(other)


def test_correlation_is_pearsons() -> None:
    draw_ = np.random.default_rng(0)
    one, other = draw_.normal(size=(4, 3, 3)), draw_.normal(size=(4, 3, 3))
    wanted = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, other, strict=True)])
    assert correlation(one, other) == pytest.approx(wanted)
    assert correlation(one, 3 * one + 1) == pytest.approx(1)
    assert correlation(one, np.ones_like(one)) == 0  # a level map says nothing


def test_bad_options_are_refused() -> None:
    run = small("clip")
    with pytest.raises(SadariError, match="--count 0: 1 to 12 pictures have room; use --count 6"):
        look(run, "patches", count=0)
    with pytest.raises(SadariError, match="the caption has no words to look for; give some with --caption"):
        look(run, "patches", caption="  ")


@pytest.mark.parametrize("rung", RUNGS)
def test_sentences_and_drawings_in_both_languages(rung: str) -> None:
    view = look(small(rung), "patches", count=3)
    check_words(view)
    assert "nan" not in json.dumps(view.to_json()).lower()
    heat = view.arrays["heat"]
    assert heat.shape == view.arrays["picture"].shape[:3] and heat.min() >= 0 and heat.max() <= 1 + 1e-6
    tiles = 3 if rung in ("clip", "siglip") else 2
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        chart.to_dict(validate=True)
        drawing = svg(chart)
        assert drawing.count("data:image/png") == 3 * tiles and "NaN" not in marks(drawing)
    assert png(chart)[:4] == b"\x89PNG"
    assert look(small(rung), "patches", count=1).facts["alike"] is None
