"""Built-in texts: the toys hold what they promise, and the readers read what was fetched."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from sadari.data import builtin_text, fetch, toy_text
from sadari.data.builtin import BUILTIN, open_builtin
from sadari.data.corpus import open_corpus
from sadari.data.prepare_text import prepare_text
from sadari.data.text import open_texts
from sadari.errors import SadariError

TOYS = ["toy-topics", "toy-order", "toy-recall", "toy-grammar"]
FETCHED = [name for name, entry in BUILTIN.items() if entry.kind == "text" and entry.fetched]


def words_tell(name: str) -> float:
    """Accuracy on test rows of a linear classifier that counts words."""
    prepared = prepare_text(name)
    frame = prepared.table.frame.collect()
    train, test = frame[prepared.split.train], frame[prepared.split.test]
    count = CountVectorizer(token_pattern=r"[^\s.]+", lowercase=False)
    model = LogisticRegression(max_iter=500).fit(
        count.fit_transform(train["text"].to_list()), train[prepared.spec.target]
    )
    return float(model.score(count.transform(test["text"].to_list()), test[prepared.spec.target]))


@pytest.mark.parametrize("name", TOYS)
def test_the_listing_of_toys_tells_the_truth(name: str) -> None:
    frame, entry = open_builtin(name)
    assert frame.height == entry.rows and 400 <= entry.rows <= 3000 and entry.how == "made on the spot"
    assert (entry.target is None) == (entry.task == "language")
    assert frame.columns[: 1 + (entry.target is not None)] == [
        "text",
        *([entry.target] if entry.target else []),
    ]
    assert frame.equals(open_builtin(name)[0])
    letters = "".join(frame["text"])
    assert any("가" <= letter <= "힣" for letter in letters) and any(
        "a" <= letter <= "z" for letter in letters
    )


def test_words_tell_topics_and_seasons_but_not_order() -> None:
    assert words_tell("toy-topics") > 0.95
    assert words_tell("toy-recall") > 0.95
    assert 0.4 <= words_tell("toy-order") <= 0.6


def test_order_is_told_by_order_alone() -> None:
    frame = toy_text.order()
    for _, pair in frame.group_by("group"):
        one, other = (Counter(text.removesuffix(".").split()) for text in pair["text"])
        assert one == other and sorted(pair["order"]) == ["down", "up"]
    first = ["up" if text.index("위") < text.index("아래") else "down" for text in frame["text"]]
    assert first == frame["order"].to_list()


def test_recall_asks_for_the_first_word_after_a_long_filler() -> None:
    frame = toy_text.recall(40, filler=100)
    for text, season in frame.iter_rows():
        first, *rest = text.split()
        assert first == season and len(rest) == 100 and season not in rest


def test_grammar_keeps_its_rules() -> None:
    for text in toy_text.grammar(400)["text"]:
        for sentence in text.removesuffix(".").split(". "):
            words = sentence.split()
            if words[0] == "The":
                verb = next(
                    place
                    for place, word in enumerate(words)
                    if word.rstrip("s") in ("see", "like", "find", "follow")
                )
                many = words[verb - 1].endswith("s") or words[verb - 1] == "children"
                assert many != words[verb].endswith("s"), sentence
            else:
                assert words[-1] in ("본다", "찾는다", "좋아한다", "따라간다"), sentence


# Readers, on files of their form.


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which every set counts as fetched."""
    monkeypatch.setattr(fetch, "cached", lambda name, cache: Path("cache", name))
    return Path("cache")


def write(path: str, content: str) -> None:
    file = Path("cache", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")


def test_wiki_leaves_out_what_has_no_topic(cache: Path) -> None:
    articles = {
        "A": {"title": "A", "extract": "About a.", "topic": "Arts", "description": ""},
        "B": {"title": "B", "extract": "About b.", "topic": "Uncategorized", "description": ""},
        "C": {"title": "C", "extract": " ", "topic": "Arts", "description": ""},
    }
    write("wiki/summaries_en-us.json", json.dumps(articles))
    assert builtin_text.wiki(cache).rows() == [("About a.", "Arts", "A")]
    assert builtin_text.wiki_text(cache).rows() == [("A\nAbout a.", "A"), ("B\nAbout b.", "B")]
    write("wiki/summaries_en-us.json", "{")
    with pytest.raises(SadariError, match=r"summaries_en-us.json cannot be read"):
        builtin_text.wiki(cache)


def test_reviews_are_signs_of_ratings_grouped_by_review(cache: Path) -> None:
    write("reviews/movieReviewSnippets_GroundTruth.txt", "1\t2.2\tgood\n2\t-1\tbad\n3\t0\tneither\n")
    write("reviews/amazonReviewSnippets_GroundTruth.txt", "1_1\t0.5\tworks\n1_2\t-0.5\tbreaks\t\n")
    assert builtin_text.reviews(cache).rows() == [
        ("good", "positive", "movie 1"),
        ("bad", "negative", "movie 2"),
        ("works", "positive", "amazon 1"),
        ("breaks", "negative", "amazon 1"),
    ]


def test_help_reads_headings_and_paragraphs(cache: Path) -> None:
    page = (
        '<html><p>no id</p><h1 id="hd_id1" dir="auto">제목 &amp; 이름</h1>\n'
        '<p id="par_id2" class="x">첫 <span class="emph">강조</span><br>줄\n 끝</p>'
        '<p id="par_id3"><img alt="x"></p></html>'
    )
    write("libreoffice-help/ko/text/swriter/01/a.html", page)
    write("libreoffice-help/ko/text/scalc/empty.html", "<html></html>")
    write("libreoffice-help/en-US/text/scalc/b.html", '<p id="par_id1">Cells</p>')
    assert builtin_text.help_ko(cache).rows() == [
        ("제목 & 이름\n첫 강조 줄 끝", "swriter", "swriter/01/a.html")
    ]
    assert builtin_text.help_en_text(cache).rows() == [("Cells", "scalc/b.html")]


def test_korean_strings_of_a_component_are_one_document(cache: Path) -> None:
    content = {
        "a": {"b": "설정을 저장합니다", "c": "[%key:x%]"},
        "d": "OK",
        "e": ["목록"],
        "f": "설정을 저장합니다",
    }
    write("homeassistant/components/sun/translations/ko.json", json.dumps(content))
    write("homeassistant/components/moon/translations/ko.json", json.dumps({"a": "English only"}))
    assert builtin_text.homeassistant_ko(cache).rows() == [("설정을 저장합니다", "sun")]


def test_laws_are_articles_grouped_by_file(cache: Path) -> None:
    write("korean-law/kolaw/constitution.txt", "제1조 하나\n\n  제2조 둘\n둘째 줄\n\n\n")
    assert builtin_text.korean_law(cache).rows() == [
        ("제1조 하나", "constitution.txt"),
        ("제2조 둘\n둘째 줄", "constitution.txt"),
    ]


@pytest.mark.parametrize("name", FETCHED)
def test_fetched_texts_are_as_listed(name: str) -> None:
    entry = BUILTIN[name]
    try:
        fetch.cached(entry.source or name)
    except SadariError as error:
        if os.environ.get("CI") != "true":
            pytest.skip(str(error))
        fetch.get(entry.source or name)
    frame, _ = open_builtin(name)
    assert frame.columns == ["text", *([entry.target] if entry.target else []), "group"]
    assert frame.null_count().sum_horizontal().item() == 0 and (frame["text"].str.len_chars() > 0).all()
    if entry.task == "classify":
        assert frame.height == entry.rows
        table = open_texts(name)
        assert (table.target, table.licence) == (entry.target, entry.licence)
        assert 2 <= frame[entry.target or ""].n_unique() <= 11
    else:
        corpus = open_corpus(name)
        assert corpus.licence == entry.licence and corpus.bytes > 100_000
        assert len(np.unique(corpus.groups)) == frame["group"].n_unique()
        assert frame.height == entry.rows
    korean = pl.Series(["".join(frame["text"].head(200))]).str.count_matches("[가-힣]").item()
    assert (korean > 1000) == ("ko" in name)
