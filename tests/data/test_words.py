"""Words split, counted and numbered."""

from __future__ import annotations

import numpy as np
import pytest

from sadari.data import words as module
from sadari.data.words import END, read_words
from sadari.errors import SadariError


def test_words_of_any_script_apostrophes_within_and_particles_attached() -> None:
    words = read_words(["은행은 은행이, the bank's no. 2 — café_au_lait! don’t 'quoted'"], min_count=1)
    expected = ["은행은", "은행이", "the", "bank's", "no", "2", "café_au_lait", "don’t", "quoted"]
    assert words.names == expected and words.total == 9


def test_the_most_frequent_come_first_and_lines_end_sentences() -> None:
    words = read_words(["b a a", "", "rare\n\na b a"], min_count=2)
    assert words.names == ["a", "b"] and words.counts.tolist() == [4, 2]
    assert words.stream.tolist() == [1, 0, 0, END, 0, 1, 0, END]  # no empty lines, also where all was rare
    assert words.rare == 1


def test_small_letters_where_they_are_asked_for() -> None:
    assert read_words(["The the THE"], min_count=1).names == ["The", "the", "THE"]
    assert read_words(["The the THE"], min_count=1, lower=True).counts.tolist() == [3]


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"w{(k * row) % 13}" for k in range(40)) for row in range(50)]
    whole = read_words(texts)
    monkeypatch.setattr(module, "_BLOCK", 64)
    pieces = read_words(iter(texts))
    assert pieces.names == whole.names
    np.testing.assert_array_equal(pieces.stream, whole.stream)


def test_a_text_without_frequent_words_is_refused() -> None:
    with pytest.raises(SadariError, match=r"no word occurs 5 times \(the most frequent: 2\); give more text"):
        read_words(["a a b"])
    with pytest.raises(SadariError, match=r"the most frequent: 0\)"):
        read_words(["...", "!"])
