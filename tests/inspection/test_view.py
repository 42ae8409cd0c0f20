"""A view survives JSON, speaks two languages, and refuses what is none."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.errors import SadariError
from sadari.inspection.view import View, say

WORDS = ("title", "제목"), ("caption", "설명"), ("see", "볼 것")


def view_of(arrays: dict[str, np.ndarray], **facts: Any) -> View:
    return View("curve", *WORDS, arrays, facts, {"x": ("length", "길이")})


@given(st.lists(st.floats(allow_infinity=False, width=32), max_size=9), st.text())
def test_json_gives_the_same_view_back(values: list[float], fact: str) -> None:
    arrays = {
        "x": np.array(values),
        "grid": np.arange(6.0, dtype=np.float32).reshape(2, 3),
        "rows": np.array([1, 2**40]),
        "names": np.array(["가", "b.c[0]"]),
    }
    view = view_of(arrays, fact=fact, numbers=[1, 2.5, None])
    read = View.from_json(json.loads(json.dumps(view.to_json(), allow_nan=False)))
    assert read.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read.arrays[name].shape == array.shape
        assert read.arrays[name].dtype.kind == array.dtype.kind
        np.testing.assert_array_equal(read.arrays[name], array)
    assert (read.title, read.caption, read.see) == WORDS
    assert read.facts == view.facts and read.labels == view.labels


def test_what_is_not_finite_is_null_in_json_and_nan_when_read() -> None:
    content = view_of(
        {"x": np.array([1.0, np.nan, np.inf])}, bad=np.float64("inf"), tuple=(1, np.int64(2))
    ).to_json()
    assert content["arrays"]["x"]["values"] == [1.0, None, None]
    assert content["facts"] == {"bad": None, "tuple": [1, 2]}
    assert np.isnan(View.from_json(content).arrays["x"][1:]).all()


@pytest.mark.parametrize("spoil", ["view", "title", "arrays", "labels"])
def test_json_that_is_no_view_is_refused(spoil: str) -> None:
    content = view_of({"x": np.zeros(2)}).to_json()
    del content[spoil]
    with pytest.raises(SadariError, match=f"this JSON holds no view.*{spoil}.*write it again"):
        View.from_json(content)


def test_words_and_labels_come_in_the_language_asked_for() -> None:
    view = view_of({"x": np.zeros(1), "y": np.zeros(1)})
    assert [view.say(part, "ko") for part in ("title", "caption", "see")] == ["제목", "설명", "볼 것"]
    assert view.label("x", "en") == "length" and view.label("x", "ko") == "길이"
    assert view.label("y", "ko") == "y"


def test_sentences_are_filled_with_short_numbers_and_never_read_a_value_as_a_place() -> None:
    texts = {"key": ("{value} of {rows} in {name}", "{name}의 {rows} 중 {value}")}
    english, korean = say(texts, "key", value=-0.123456, rows=12345, name=("{rows}", "{value}"))
    assert english == "−0.123 of 12,345 in {rows}"
    assert korean == "{value}의 12,345 중 −0.123"
