"""Space: gap and map by other formulas, and the weights that training began from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sadari.charts import draw, png, svg
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.captioned import captioned
from sadari.inspection.space import begun, main_directions, space_of
from sadari.metrics.match import ranks
from tests.inspection.small_captions import RUNGS, check_words, marks, small


@given(rows=st.integers(3, 12), width=st.integers(1, 6), seed=st.integers(0, 50))
def test_the_map_is_that_of_the_singular_values(rows: int, width: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(rows, width))
    centred = values - values.mean(0)
    axes, explained = main_directions(centred)
    _, sizes, wanted = np.linalg.svd(centred, full_matrices=False)
    assert axes.shape == (width, 2)
    assert explained == pytest.approx((sizes[:2] ** 2).sum() / (sizes**2).sum())
    for k in range(min(2, width)):
        np.testing.assert_allclose(abs(axes[:, k] @ wanted[k]), 1.0, atol=1e-6)
        assert axes[np.abs(axes[:, k]).argmax(), k] > 0
    np.testing.assert_allclose(main_directions(-centred)[0], axes, atol=1e-9)  # the sign is fixed


@pytest.mark.parametrize("rung", ["bag-of-words", "clip"])
def test_the_numbers_are_those_of_other_formulas(rung: str) -> None:
    run = small(rung)
    pairs = captioned(run, "test")
    image, text = pairs.vectors(run)
    found = space_of(pairs, image, text)
    assert found.gap == pytest.approx(np.sqrt(((image.mean(0) - text.mean(0)) ** 2).sum()))
    assert found.pair == pytest.approx(np.trace(image @ text.T) / len(pairs))
    known = (pairs.subjects[:, None] == pairs.subjects) | (pairs.wordings[:, None] == pairs.wordings)
    assert found.other == pytest.approx((image @ text.T)[~known].mean())
    rows = np.arange(len(pairs))
    single = (image.astype(np.float32), text.astype(np.float32))
    wanted = ranks(*single, rows, pairs.subjects, pairs.wordings)[:, 0] == 1
    assert found.right == pytest.approx(wanted.mean(), abs=0.02)
    # on the map the distance of the two means is the gap's part in these two directions, never more
    assert np.linalg.norm(found.centres[0] - found.centres[1]) <= found.gap + 1e-9
    np.testing.assert_allclose(found.centres[0], found.image.mean(0), atol=1e-9)


@pytest.mark.parametrize("rung", RUNGS)
def test_before_is_what_training_began_from(rung: str) -> None:
    """A run whose rate is next to nothing ends where it began."""
    still = small(rung, 1, f"still-{rung}", learning_rate=1e-12, weight_decay=0.0)
    first = begun(still, captioned(still, "test"))
    assert first is not None
    wanted = dict(still.model.named_parameters())
    for name, parameter in first.named_parameters():
        torch.testing.assert_close(parameter, wanted[name], atol=1e-6, rtol=1e-5)
    facts = look(still, "space").facts
    assert facts["gap"] == pytest.approx(facts["before"]["gap"], abs=1e-4)


def test_training_brings_pairs_together() -> None:
    facts = look(small("bag-of-words", 200), "space").facts
    before = facts["before"]
    assert facts["pair"] - facts["other"] > before["pair"] - before["other"] + 0.1
    assert facts["right"] > before["right"]


def test_a_locked_run_without_its_reader_is_shown_as_it_is(tmp_path: Path) -> None:
    run: Any = small("locked", 1, "orphan")
    texts = Path(run.config["model"]["texts"])
    away = tmp_path / "away"
    shutil.move(texts, away)
    try:
        view = look(run, "space")
    finally:
        shutil.move(away, texts)
    assert view.facts["before"] is None and "before_image_x" not in view.arrays
    assert "are no longer here" in view.caption[0] and "받아 쓴 인코더가 여기에 없다" in view.caption[1]
    check_words(view)
    svg(draw(view, "ko", NARROW))


def test_two_pairs_are_no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small("clip")
    some = captioned(run, "test").chosen([0, 1])
    monkeypatch.setattr("sadari.inspection.space.captioned", lambda *_, **__: some)
    with pytest.raises(SadariError, match="2 pairs in the test part; a map needs 3, take another --part"):
        look(run, "space")


@pytest.mark.parametrize("rung", ["clip", "siglip"])
def test_sentences_and_drawings_in_both_languages(rung: str) -> None:
    view = look(small(rung), "space", part="train")
    check_words(view)
    assert "nan" not in json.dumps(view.to_json()).lower()
    assert len(view.arrays["image_x"]) == len(view.arrays["caption"])
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        chart.to_dict(validate=True)
        assert "NaN" not in marks(svg(chart))
    assert png(chart)[:4] == b"\x89PNG"
