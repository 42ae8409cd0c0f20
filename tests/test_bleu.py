"""BLEU and chrF equal sacrebleu's on any subset, ROUGE a plain reference, and the registered scores these."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from sadari import bleu as ours
from sadari.errors import SadariError
from sadari.metrics import METRICS, Resamples, beside, bootstrap, find_metric

SIGNS = "ab가나 ..,'-12\t\n&"
TEXT = st.text(st.sampled_from(SIGNS), max_size=40)


def sentences(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Hypotheses that are more or less right, some empty, some exact."""
    draw = random.Random(seed)
    words = ["the", "cat", "sat", "고양이가", "앉았다.", "on", "a", "mat,", "don't", "3.5"]
    references = [" ".join(draw.choices(words, k=draw.randint(1, 14))) for _ in range(count)]
    hypotheses = []
    for reference in references:
        sure = draw.random()
        kept = [word if draw.random() < sure else draw.choice(words) for word in reference.split()]
        hypotheses.append(" ".join(kept[: draw.randint(0, 14)]))
    return hypotheses, references


HYPOTHESES, REFERENCES = sentences(300)
STATISTICS = ours.statistics(HYPOTHESES, REFERENCES)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_texts_score_as_in_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = (list(side) for side in zip(*pairs, strict=True))
    sums = ours.statistics(hypotheses, references).sum(0)
    assert ours.bleu(sums) == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score, abs=1e-9)
    assert ours.chrf(sums) == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score, abs=1e-9)


@given(st.lists(st.integers(0, 299), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_subset_is_scored_by_its_rows_alone(rows: list[int]) -> None:
    hypotheses, references = [HYPOTHESES[i] for i in rows], [REFERENCES[i] for i in rows]
    some = STATISTICS[rows]
    theirs = {
        "bleu": sacrebleu.corpus_bleu(hypotheses, [references]).score,
        "chrf": sacrebleu.corpus_chrf(hypotheses, [references]).score,
    }
    for name, score in theirs.items():
        assert getattr(ours, name)(some.sum(0)) == pytest.approx(score, abs=1e-9)
        metric = METRICS[name]  # which is given means, and must find the sums again to smooth zero counts
        assert metric.score(some, np.zeros(len(some))) == pytest.approx(score, abs=1e-9)


def test_many_sums_at_once_are_scored_as_one_by_one() -> None:
    sums = np.stack([STATISTICS[:3].sum(0), STATISTICS.sum(0), STATISTICS[0] * 0])[None]  # (1, 3, K)
    for score in (ours.bleu, ours.chrf):
        assert score(sums).shape == (1, 3)
        assert score(sums)[0].tolist() == [float(score(each)) for each in sums[0]]
        assert score(sums)[0, 2] == 0


def plain_f(ours_: list, theirs: list, common: int) -> float:
    if not common:
        return 0.0
    precision, recall = common / len(ours_), common / len(theirs)
    return 2 * precision * recall / (precision + recall)


def plain_rouge(hypothesis: str, reference: str) -> list[float]:
    """ROUGE as one would write it down: n-grams struck off one by one, and the full table of the LCS."""
    h, r = hypothesis.lower().split(), reference.lower().split()
    scores = []
    for n in (1, 2):
        mine = [tuple(h[i : i + n]) for i in range(len(h) - n + 1)]
        theirs = [tuple(r[i : i + n]) for i in range(len(r) - n + 1)]
        left, common = list(theirs), 0
        for gram in mine:
            if gram in left:
                left.remove(gram)
                common += 1
        scores.append(plain_f(mine, theirs, common))
    return [*scores, plain_f(h, r, plain_lcs(h, r))]


def plain_lcs(one: list[str], other: list[str]) -> int:
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


@given(st.lists(st.sampled_from("abcd"), max_size=90), st.lists(st.sampled_from("abcd"), max_size=90))
@settings(max_examples=60, deadline=None)
def test_the_longest_common_subsequence_is_that_of_the_table(one: list[str], other: list[str]) -> None:
    assert ours.common_subsequence(one, other) == plain_lcs(one, other)


def test_rouge_is_the_mean_of_plain_ones() -> None:
    expected = 100 * np.mean([plain_rouge(*pair) for pair in zip(HYPOTHESES, REFERENCES, strict=True)], 0)
    found = [float(ours.rouge(STATISTICS.mean(0), name)) for name in ("rouge-1", "rouge-2", "rouge-l")]
    assert found == pytest.approx(expected.tolist(), abs=1e-12)
    assert METRICS["rouge-l"].score(STATISTICS, np.zeros(300)) == pytest.approx(expected[2])


def test_korean_words_are_those_between_spaces() -> None:
    means = ours.statistics(["나는 밥을 먹었다"], ["나는 Rice 먹었다"]).mean(0)
    assert ours.rouge(means, "rouge-1") == pytest.approx(200 / 3)
    assert ours.rouge(means, "rouge-2") == 0
    assert ours.rouge(means, "rouge-l") == pytest.approx(200 / 3)


def test_exact_is_to_the_letter_but_for_white_space_at_the_ends() -> None:
    means = ours.statistics(["네. ", "네", "Yes"], ["네.", "네.", "yes"]).mean(0)
    assert ours.exact(means) == pytest.approx(100 / 3)
    same = METRICS["exact"]
    rows = ours.statistics(["a", "b"] * 10, ["a", "c"] * 10)
    assert same.shares and same.score(rows, np.zeros(20)) == 0.5 and same.show(0.5) == "50.0%"


def test_the_right_translation_scores_a_hundred_and_none_scores_nothing() -> None:
    right = ours.statistics(REFERENCES, REFERENCES)
    none = ours.statistics([""] * 300, REFERENCES)
    zeros = np.zeros(300)
    for name, most in (("bleu", 100), ("chrf", 100), ("rouge-l", 100), ("exact", 1)):
        assert METRICS[name].score(right, zeros) == pytest.approx(most)
        assert METRICS[name].score(none, zeros) == 0
        assert METRICS[name].higher


def test_an_interval_of_bleu_lies_about_it() -> None:
    metric = find_metric(None, "translate")
    assert metric.name == "bleu" and beside(metric).name == "chrf" and beside(METRICS["chrf"]) is metric
    interval = bootstrap(metric, metric.contributions(STATISTICS, np.zeros(300)), Resamples(300))
    assert 0 < interval.low < interval.score < interval.high < 100
    assert interval.score == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)


def test_signatures_are_those_of_sacrebleu() -> None:
    version = f"version:{sacrebleu.__version__}"
    assert ours.signature("bleu") == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    assert ours.signature("chrf") == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}"
    assert ours.signature("rouge-l") == "nrefs:1|case:lower|tok:whitespace|f:1|type:l"
    assert ours.signature("exact") == "nrefs:1|case:mixed|space:stripped"
    with pytest.raises(SadariError, match="'ter' has no signature; choose one of: bleu, chrf, rouge-1"):
        ours.signature("ter")


def test_one_translation_is_needed_for_each_reference() -> None:
    with pytest.raises(SadariError, match="2 translations for 1 references; give one for each"):
        ours.statistics(["a", "b"], ["a"])
    assert ours.statistics([], []).shape == (0, ours.COLUMNS)
