"""Similarity: the matrix is the product of the run's own vectors, its share counted over again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.charts import draw, png, svg
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.captioned import Captioned, captioned, right
from tests.inspection.small_captions import RUNGS, check_words, marks, small


def pictures(subjects: list[int], wordings: list[int]) -> Captioned:
    N = len(subjects)
    return Captioned(
        np.zeros((N, 2, 2, 3), np.uint8),
        np.zeros((N, 1), np.int32),
        [str(i) for i in range(N)],
        np.arange(N) + 1,
        np.array(subjects),
        np.array(wordings),
    )


@pytest.mark.parametrize("rung", [pytest.param(r, marks=pytest.mark.proof(r, "inside")) for r in RUNGS])
def test_the_matrix_is_that_of_the_runs_vectors(rung: str) -> None:
    run = small(rung)
    view = look(run, "similarity", count=8)
    part: Any = run.data().test
    image, text = run.vectors(part)
    rows = np.searchsorted(run.data().split.test + 1, view.arrays["number"])
    wanted = image[rows] @ text[part.starts[rows]].T
    np.testing.assert_allclose(view.arrays["cosine"], wanted, atol=1e-5)
    assert view.arrays["caption"].tolist() == part.texts[part.starts[rows]].to_list()
    assert len(set(part.subjects[rows])) == len(rows) == len(set(view.arrays["caption"].tolist()))
    assert view.facts["share"] == np.mean(wanted.argmax(1) == np.arange(len(rows)))
    assert (view.arrays["nearest"] == wanted.argmax(1)).all()


@pytest.mark.parametrize("rung", ["clip", "siglip"])
def test_probabilities_are_the_losss_and_change_no_order(rung: str) -> None:
    run: Any = small(rung)
    plain, told = look(run, "similarity"), look(run, "similarity", values="probability")
    cosine, value = plain.arrays["cosine"].astype(float), told.arrays["value"].astype(float)
    scale = float(run.model.scale().detach())
    if rung == "clip":
        wanted = np.exp(scale * cosine) / np.exp(scale * cosine).sum(1, keepdims=True)
        assert told.facts["kind"] == "softmax" and told.facts["bias"] is None
    else:
        wanted = 1 / (1 + np.exp(-scale * cosine - float(run.model.logit_bias.detach())))
        assert told.facts["kind"] == "sigmoid"
    np.testing.assert_allclose(value, wanted, rtol=1e-4)
    assert plain.facts["share"] == told.facts["share"]
    np.testing.assert_array_equal(plain.arrays["nearest"], told.arrays["nearest"])


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20),
    count=st.integers(1, 9),
)
def test_chosen_pictures_share_nothing(rows: list[tuple[int, int]], count: int) -> None:
    subjects, wordings = (list(column) for column in zip(*rows, strict=True))
    chosen = pictures(subjects, wordings).distinct(count)
    assert 1 <= len(chosen) <= count
    assert len(set(chosen.subjects)) == len(set(chosen.wordings)) == len(chosen)
    assert (np.diff(chosen.numbers) > 0).all()
    np.testing.assert_array_equal(chosen.true(), np.eye(len(chosen), dtype=bool))


def test_as_near_is_not_nearer() -> None:
    level = np.ones((3, 1)) @ np.ones((1, 3))
    assert not right(level, np.ones((3, 3)), np.eye(3, dtype=bool)).any()
    assert right(np.eye(3), np.eye(3), np.eye(3, dtype=bool)).all()
    assert right(level, np.ones((3, 3)), np.ones((3, 3), bool)).all()  # where nothing is false


def test_a_language_may_be_chosen() -> None:
    run = small("clip")
    korean = captioned(run, "test", language="ko")
    assert all(any("가" <= letter <= "힣" for letter in text) for text in korean.texts)
    assert all(text.isascii() for text in captioned(run, "test").texts)
    view = look(run, "similarity", language="ko")
    assert not view.arrays["caption"][0].isascii()


def test_bad_options_are_refused() -> None:
    run = small("clip")
    with pytest.raises(SadariError, match="--count 1: a matrix has 2 to 16 pictures; use --count 10"):
        look(run, "similarity", count=1)
    with pytest.raises(SadariError, match="--values angle: a cell shows a cosine or a probability"):
        look(run, "similarity", values="angle")
    with pytest.raises(SadariError, match="part 'all' is no part of the split; choose train, validation"):
        look(run, "similarity", part="all")
    with pytest.raises(SadariError, match="--language fr: no column of captions has it; there are: en, ko"):
        look(run, "similarity", language="fr")
    with pytest.raises(SadariError, match="no option --bins; its options: --part, --count, --values"):
        look(run, "similarity", bins=3)


def test_one_subject_is_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small("clip")
    some = captioned(run, "test").distinct(1)
    monkeypatch.setattr("sadari.inspection.similarity.captioned", lambda *_, **__: some)
    with pytest.raises(SadariError, match="the test part has pictures of 1 subject; a matrix needs 2"):
        look(run, "similarity")


def test_a_language_that_no_picture_has_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = small("clip")
    prepared = run.data()
    english = replace(prepared.test, languages=np.zeros_like(prepared.test.languages))
    monkeypatch.setattr(type(run), "data", lambda _: replace(prepared, test=english))
    with pytest.raises(SadariError, match="no picture of the test part has a caption in ko; leave out"):
        look(run, "similarity", language="ko")


@pytest.mark.parametrize("values", ["cosine", "probability"])
@pytest.mark.parametrize("rung", ["bag-of-words", "siglip"])
def test_sentences_and_drawings_in_both_languages(rung: str, values: str) -> None:
    view = look(small(rung), "similarity", values=values)
    check_words(view)
    assert "nan" not in json.dumps(view.to_json()).lower()
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        chart.to_dict(validate=True)
        drawing = svg(chart)
        assert drawing.count("data:image/png") == len(view.arrays["caption"]) and "NaN" not in marks(drawing)
    assert png(chart)[:4] == b"\x89PNG"


def test_captions_with_odd_characters_stay_words() -> None:
    view = look(small("clip"), "similarity", count=3)
    view.arrays["caption"] = np.array(["<b>a.b[0]", "b'\"\\", "x" * 300])
    assert "<b>" not in svg(draw(view, "en"))
