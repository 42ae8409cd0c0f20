"""Prompts: the bare template is the recall of the metrics, the ensemble a mean, intervals over subjects."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sadari.charts import draw, png, svg
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.captioned import captioned
from sadari.inspection.prompts import read, resampled
from sadari.metrics.match import ranks
from tests.inspection.small_captions import RUNGS, check_words, marks, small


@pytest.mark.parametrize("rung", RUNGS)
def test_the_bare_template_scores_as_the_metrics_do(rung: str) -> None:
    run = small(rung)
    view = look(run, "prompts", templates=("{}", "a {}"))
    pairs = captioned(run, "test")
    image, text = (side.astype(np.float32) for side in pairs.vectors(run))
    found = ranks(image, text, np.arange(len(pairs)), pairs.subjects, pairs.wordings)
    assert view.arrays["score"][0] == pytest.approx((found[:, 0] == 1).mean(), abs=0.02)
    assert view.arrays["template"].tolist() == ["{}", "a {}", "ensemble"]
    assert (view.arrays["low"] <= view.arrays["score"]).all()
    assert (view.arrays["high"] >= view.arrays["score"]).all()


def test_an_ensemble_of_one_is_that_one() -> None:
    view = look(small("clip"), "prompts", templates=("{}",))
    assert view.arrays["score"][0] == view.arrays["score"][1]
    assert view.facts["gain"] == view.facts["gain_low"] == view.facts["gain_high"] == 0
    assert "no template is shown to be better" in view.title[0]


def test_templates_are_read_with_the_caption_in_its_place() -> None:
    run = small("bag-of-words")
    vectors, cut = read(run, ["red square", "blue frame"], ("{}", "a {}"))
    assert vectors.shape[:2] == (2, 2) and cut == 0
    wanted, _ = read(run, ["a red square", "a blue frame"], ("{}",))
    np.testing.assert_allclose(vectors[1], wanted[0], atol=1e-6)
    twice, _ = read(run, ["red square"], ("{} and {}",))
    said, _ = read(run, ["red square and red square"], ("{}",))
    np.testing.assert_allclose(twice, said, atol=1e-6)


def test_long_templates_are_cut_and_counted() -> None:
    run = small("clip")
    long = "red " * run.spec.length + "{}"
    view = look(run, "prompts", templates=(long,))
    assert view.facts["cut"] == view.facts["captions"]
    assert "longer than the run reads" in view.see[0] and "읽는 길이" in view.see[1]
    vectors, _ = read(run, ["red square", "blue frame"], (long,))
    np.testing.assert_allclose(vectors[0, 0], vectors[0, 1], atol=1e-6)  # what differs was cut off
    assert view.arrays["score"][1] <= view.arrays["score"][0]


def test_pictures_of_one_subject_are_one_witness() -> None:
    hits = np.array([[True, True, False, False, True, False]])
    alone, together = resampled(hits, np.arange(6)), resampled(hits, np.array([0, 0, 1, 1, 2, 3]))
    assert together.std() > alone.std()
    assert resampled(hits, np.zeros(6, int)).std() == 0
    assert alone.mean() == pytest.approx(0.5, abs=0.02)
    twice = resampled(np.concatenate([hits, hits]), np.arange(6))
    np.testing.assert_array_equal(twice[0], twice[1])  # the same resamples for all templates


def test_bad_templates_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small("clip")
    with pytest.raises(SadariError, match=r"--templates 'a picture' has no \{\} where the caption stands"):
        look(run, "prompts", templates=("a picture",))
    with pytest.raises(SadariError, match="15 templates with the bare one; 12 have room, leave some out"):
        look(run, "prompts", templates=tuple(f"{i} {{}}" for i in range(14)))
    some = captioned(run, "test").chosen([0])
    monkeypatch.setattr("sadari.inspection.prompts.captioned", lambda *_: some)
    with pytest.raises(SadariError, match="the test part has captions of 1 wording; take another --part"):
        look(run, "prompts")


@pytest.mark.parametrize("rung", ["bag-of-words", "siglip"])
def test_sentences_and_drawings_in_both_languages(rung: str) -> None:
    view = look(small(rung), "prompts", templates=("<b> {}", "{} 그림"))
    check_words(view)
    assert "nan" not in json.dumps(view.to_json()).lower()
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        chart.to_dict(validate=True)
        drawing = svg(chart)
        assert "NaN" not in marks(drawing) and "<b>" not in marks(drawing)
    assert png(chart)[:4] == b"\x89PNG"
