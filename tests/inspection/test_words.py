"""The words view: one-hot against embeddings, related pairs against random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sadari.charts import draw, png
from sadari.data.toy_words import NAMES, sentences
from sadari.data.words import read_words
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look
from sadari.inspection.words import RELATED, words_of
from sadari.models.word2vec import Word2Vec, Word2VecConfig
from sadari.vectors import WordVectors

PAIRS = [f"{country}:{capital}" for country, capital, _ in NAMES]


@pytest.fixture(scope="module")
def vectors() -> WordVectors:
    words = read_words(sentences(9000, fillers=300))
    model = Word2Vec(Word2VecConfig(width=40, threads=1), words.counts)
    model.train(words.stream)
    return WordVectors(words.names, model.into)


@pytest.mark.proof("embedding", "claim")
def test_related_words_are_nearer_than_random_ones_and_in_one_hot_all_are_equally_far(
    vectors: WordVectors,
) -> None:
    view = words_of(vectors, pairs=PAIRS)
    assert view.facts["better"] > 0.85
    assert view.facts["median_rank"] < 0.1 * view.facts["random_median_rank"]
    assert view.title[0].startswith("Related words are near: median rank ")
    one_hot = WordVectors(vectors.words, np.eye(len(vectors.words), dtype=np.float32))
    flat = words_of(one_hot, pairs=PAIRS)
    assert not flat.arrays["cosine"].any() and flat.facts["better"] == 0.5
    assert flat.title[0].startswith("Related words are no nearer than others here")


def test_all_pairs_are_told_with_their_ranks_not_only_the_best(vectors: WordVectors) -> None:
    view = words_of(vectors, pairs=PAIRS)
    assert sorted(map(":".join, view.facts["pairs"])) == sorted(PAIRS)
    assert (np.diff(view.arrays["cosine"]) <= 0).all()
    for (a, b), cosine, ab, ba in zip(
        view.facts["pairs"], *(view.arrays[name] for name in ("cosine", "rank_ab", "rank_ba")), strict=True
    ):
        near = [name for name, _ in vectors.near(a, len(vectors.words))]
        assert near.index(b) + 1 == ab
        assert [name for name, _ in vectors.near(b, ba)][-1] == a
        assert cosine == pytest.approx(vectors.similarity(a, b), abs=1e-6)
    worst = view.facts["pairs"][int(np.argmax(view.arrays["rank_ab"] + view.arrays["rank_ba"]))]
    assert worst[0] in view.see[0].split("the worst")[1]


def test_of_the_pairs_written_down_those_that_occur_are_shown() -> None:
    names = ["파일", "문서", "창", "화면", "은행", *(f"낱말{k}" for k in range(30))]
    vectors = WordVectors(names, np.random.default_rng(0).normal(size=(35, 5)).astype(np.float32))
    view = words_of(vectors)
    assert sorted(view.facts["pairs"]) == [["창", "화면"], ["파일", "문서"]]
    assert f"(2 of {len(RELATED)} occur)" in view.caption[0]
    assert len(set(RELATED)) == len(RELATED)
    bare = WordVectors(names[4:], vectors.matrix[4:])
    none = words_of(bare)
    assert none.facts["pairs"] == [] and f"None of the {len(RELATED)} pairs" in none.see[0]
    assert png(draw(none, "ko")).startswith(b"\x89PNG")


def test_the_neighbours_of_a_word(vectors: WordVectors) -> None:
    view = words_of(vectors, word="France", top=5)
    assert view.facts["near"] == [name for name, _ in vectors.near("France", 5)]
    assert view.facts["near"][0] in view.title[0] and view.arrays["word"][0] == "France"
    assert "One-hot knows no neighbours" in view.see[0]


def test_an_analogy_is_asked_with_colons(vectors: WordVectors) -> None:
    view = words_of(vectors, analogy="France:Paris:한국")
    assert view.facts["near"][0] == "서울"
    assert view.title == (
        "“France” is to “Paris” as “한국” is to “서울”",
        "“France”와(과) “Paris”의 관계는 “한국”와(과) “서울”의 관계",
    )


def test_the_map_is_the_two_directions_of_most_variation() -> None:
    draw_ = np.random.default_rng(1)
    matrix = draw_.normal(size=(60, 12)) * np.array([9, 4, *[0.1] * 10])
    names = [f"word{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(60)]
    vectors = WordVectors(names, matrix.astype(np.float32))
    view = words_of(vectors)
    rows = [vectors.index[word] for word in view.arrays["word"].tolist()]
    points = vectors.unit[rows] - vectors.unit[rows].mean(0)
    _, values, directions = np.linalg.svd(points, full_matrices=False)
    for name, direction in zip(("x", "y"), directions, strict=False):
        np.testing.assert_allclose(abs(view.arrays[name]), abs(points @ direction), atol=1e-4)
    assert view.facts["explained"] == pytest.approx((values[:2] ** 2).sum() / (values**2).sum(), abs=1e-4)


@pytest.mark.parametrize("options", [{"pairs": PAIRS}, {"word": "한국"}, {"analogy": "France:Paris:한국"}])
@pytest.mark.parametrize("width", [680, 340])
def test_it_is_drawn_in_both_languages(vectors: WordVectors, options: dict[str, Any], width: int) -> None:
    view = words_of(vectors, **options)
    for lang in ("en", "ko"):
        assert "{" not in view.say("title", lang) + view.say("caption", lang) + view.say("see", lang)
    assert png(draw(view, "ko", width)).startswith(b"\x89PNG")


@pytest.mark.proof("embedding", "inside")
@pytest.mark.proof("rnn", "inside")
@pytest.mark.proof("lstm", "inside")
@pytest.mark.proof("attention", "inside")
@pytest.mark.proof("transformer", "inside")
@pytest.mark.parametrize("rung", ["embedding", "rnn", "lstm", "attention", "transformer"])
def test_runs_show_the_vectors_of_their_embedding(rung: str, tmp_path: Path) -> None:
    run = fit(rung, "toy-topics", out=tmp_path / "run", budget="3steps", reading={"tokenizer": "words"})
    view = look(run, "words", word="rain", top=4)
    tokens = run.spec.tokenizer
    table = {tokens.token(k): k for k in range(tokens.size)}
    model: Any = run.model
    weight = (model.encoder.embeddings.word_embeddings if rung == "transformer" else model.embedding).weight
    units = (weight / weight.norm(dim=1, keepdim=True)).detach()
    cosines = units @ units[table["rain"]]
    for name, cosine in zip(view.facts["near"], view.arrays["cosine"], strict=True):
        assert cosine == pytest.approx(float(cosines[table[name]]), abs=1e-5)
    assert not any(name.startswith("<|") for name in view.arrays["word"].tolist())


def test_mistakes_are_answered(vectors: WordVectors) -> None:
    for options, message in (
        ({"word": "Frankreich"}, "there is no vector for 'Frankreich'"),
        ({"analogy": "a:b"}, "--analogy 'a:b' is not 3 words with colons between; write it as"),
        ({"pairs": ["a b"]}, "--pairs 'a b' is not 2 words with colons between"),
        ({"word": "a", "analogy": "a:b:c"}, "--word and --analogy were both given; give one of them"),
        ({"top": 2}, "--top 2: give 3 or more"),
    ):
        with pytest.raises(SadariError, match=message):
            words_of(vectors, **options)  # type: ignore[arg-type]
    with pytest.raises(SadariError, match="a vocabulary of 2 words is too small to look at"):
        words_of(WordVectors(["a", "b"], np.ones((2, 2), np.float32)))


def test_a_folder_is_looked_at_as_it_was_written(vectors: WordVectors, tmp_path: Path) -> None:
    path = vectors.save(tmp_path / "vectors.bin")
    again = words_of(WordVectors.load(path), word="France")
    np.testing.assert_array_equal(again.arrays["cosine"], words_of(vectors, word="France").arrays["cosine"])
