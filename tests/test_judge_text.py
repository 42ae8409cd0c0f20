"""The judges of text: scikit-learn's own tf-idf + logistic, and Kneser-Ney at the order new texts want."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from sadari.data.prepare import Prepared
from sadari.data.prepare_text import prepare_language, prepare_text
from sadari.judge_text import READINGS, STRENGTHS, judge_language, judge_text
from sadari.metrics import METRICS
from sadari.models.n_gram import NGram, NGramConfig


@pytest.fixture(scope="module")
def topics() -> Prepared:
    return prepare_text("toy-topics")


@pytest.fixture(scope="module")
def grammar() -> Prepared:
    return prepare_language("toy-grammar")


def errors(prepared: Prepared, said: np.ndarray) -> float:
    return float(np.mean(said.argmax(1) != prepared.validation.targets))


def theirs(prepared: Prepared, reading: str, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn by the book, with its usual solver: probabilities of validation and test texts."""
    frame = prepared.table.frame.collect()
    split = prepared.split
    texts = [
        frame[prepared.spec.text][rows].to_list() for rows in (split.train, split.validation, split.test)
    ]
    vectorizer = TfidfVectorizer(sublinear_tf=True, **READINGS[reading])
    counted = vectorizer.fit_transform(texts[0])
    model = LogisticRegression(C=strength, max_iter=3000, tol=1e-8).fit(counted, prepared.train.targets)
    return tuple(model.predict_proba(vectorizer.transform(part)) for part in texts[1:])  # type: ignore[return-value]


def test_it_is_scikit_learns_model_and_the_best_of_those_tried(topics: Prepared) -> None:
    judged = judge_text(topics)
    facts = judged.facts
    validation, test = theirs(topics, facts["reading"], facts["strength"])
    np.testing.assert_allclose(judged.test, test, atol=5e-3)
    np.testing.assert_allclose(judged.validation, validation, atol=5e-3)
    assert facts["tried"] == len(READINGS) + len(STRENGTHS) - 1
    best = errors(topics, judged.validation)
    for reading in READINGS:
        assert best <= errors(topics, theirs(topics, reading, STRENGTHS[0])[0])
    for strength in STRENGTHS:
        assert best <= errors(topics, theirs(topics, facts["reading"], strength)[0])


def test_words_that_tell_are_found_and_order_is_not(topics: Prepared) -> None:
    """Ends of words too: in Korean the same word stands with many endings."""
    right = METRICS["accuracy"].score(judge_text(topics).test, topics.test.targets)
    assert right > 0.9
    draw = np.random.default_rng(0)
    stems, endings = ("먹", "읽"), ["었지만", "어서", "으니까", "고서도", "으면서", "더라도", "거나", "는데"]
    rows = [
        (stems[k] + e + f"{draw.integers(1000)}", str(k)) for k in (0, 1) for e in endings for _ in range(8)
    ]
    glued = prepare_text(pl.DataFrame(rows, schema=["text", "verb"], orient="row"))
    judged = judge_text(glued)
    assert judged.facts["reading"] == "letters" and errors(glued, judged.validation) == 0


def test_it_has_a_price(topics: Prepared) -> None:
    judged = judge_text(topics)
    price, features = judged.price, judged.facts["features"]
    assert price.parameters == 3 * (features + 1) + features
    assert 0 < price.macs < 3 * 100 and price.bytes > 8 * price.parameters
    assert price.microseconds_per_example > price.microseconds_at_256 > 0


def test_without_time_one_way_is_tried(topics: Prepared) -> None:
    assert judge_text(topics, seconds=0).facts["tried"] == 1
    assert judge_text(topics, seconds=0).facts["reading"] == "words"


def test_texts_without_a_word_are_answered_by_the_shares_of_the_classes(topics: Prepared) -> None:
    empty = topics.table.frame.with_columns(pl.lit(" ").alias(topics.spec.text))
    judged = judge_text(replace(topics, table=replace(topics.table, frame=empty)))
    shares = np.bincount(topics.train.targets) / len(topics.train.targets)
    np.testing.assert_allclose(judged.test, np.tile(shares, (len(judged.test), 1)), atol=1e-3)


def test_a_class_that_no_training_text_has_gets_no_probability(topics: Prepared) -> None:
    spec = replace(topics.spec, classes=("aha", *topics.spec.classes))
    parts = {
        part: replace(getattr(topics, part), targets=getattr(topics, part).targets + 1)
        for part in ("train", "validation", "test")
    }
    judged = judge_text(replace(topics, spec=spec, **parts), seconds=0)
    assert judged.test.shape[1] == 4 and np.all(judged.test[:, 0] == 0)
    np.testing.assert_allclose(judged.test.sum(1), 1)


def test_the_order_is_the_one_that_new_texts_want(grammar: Prepared) -> None:
    judged = judge_language(grammar)
    bits = METRICS["bits-per-byte"]
    best = bits.score(judged.validation, grammar.validation.targets)
    costs = {}
    for order in range(2, judged.facts["order"] + 2):
        model = NGram(NGramConfig(order, "kneser-ney"), grammar.spec.width, grammar.spec.width)
        model.solve_stream(grammar.train.tokens)
        costs[order] = -model.log_probabilities(grammar.validation.tokens).sum()
        if order == judged.facts["order"]:
            said = -model.log_probabilities(grammar.test.tokens).sum()
    assert min(costs, key=lambda order: costs[order]) == judged.facts["order"] > 2
    assert judged.test.shape == (grammar.test.documents, 2) and judged.test[:, 0].sum() == pytest.approx(said)
    assert judged.test[:, 1].sum() == len(grammar.test.tokens)
    assert best < bits.score(judge_language(grammar, seconds=0).validation, grammar.validation.targets)


def test_counts_have_a_price_and_facts(grammar: Prepared) -> None:
    judged = judge_language(grammar, seconds=0)
    price, facts = judged.price, judged.facts
    assert facts["order"] == 2 and facts["n_grams"][0] == grammar.spec.width and len(facts["discounts"]) == 2
    assert price.parameters == facts["n_grams"][1] + 2 * grammar.spec.width and price.macs == 0
    assert price.bytes == 4 * price.parameters + 8 * facts["n_grams"][1]
    assert price.microseconds_per_example > price.microseconds_at_256 > 0


@pytest.mark.slow
def test_wiki_topics_are_told_as_data_md_says() -> None:
    """0.909 with four fifths of the texts to learn from, here three fifths: nearly as much."""
    prepared = prepare_text("wiki")
    judged = judge_text(prepared, seconds=0)
    assert METRICS["accuracy"].score(judged.test, prepared.test.targets) > 0.875


@pytest.mark.slow
def test_kneser_and_neys_smoothing_beats_the_rungs_on_korean() -> None:
    """On texts that training has not seen, at every order of the rung."""
    prepared = prepare_language("homeassistant-ko")
    judged = judge_language(prepared)
    for order in (2, 3, 4, 5, 6):
        model = NGram(NGramConfig(order), prepared.spec.width, prepared.spec.width)
        model.solve_stream(prepared.train.tokens)
        assert judged.test[:, 0].sum() < -model.log_probabilities(prepared.test.tokens).sum()
