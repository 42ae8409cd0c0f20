"""Scores of texts against their references, from the statistics that `sadari.bleu` counts of each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sadari import bleu
from sadari.metrics.metric import Metric, mean_share


def _counted(statistics: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Statistics (N, K) of each translation, and behind them N: a mean times that is a sum again."""
    return np.column_stack([statistics, np.full(len(statistics), float(len(statistics)))])


def _of_sums(score: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda means: score(means[..., :-1] * means[..., -1:])


def _same(statistics: np.ndarray, targets: np.ndarray) -> np.ndarray:
    hit = statistics[:, bleu.EXACT]
    return np.stack([hit, np.ones(len(hit))], axis=1)


METRICS = (
    Metric(
        "bleu",
        "translate",
        True,
        ("BLEU", "BLEU"),
        (
            "BLEU, 0 to 100: how many of the translations' one to four words in a row stand in the "
            "reference, as a geometric mean, less where the translations are shorter; one reference, "
            "case kept, words cut as 13a, zero counts smoothed by halves (sacrebleu's default)",
            "BLEU(0~100): 번역문에서 이어진 한 단어부터 네 단어까지가 참조 번역에 얼마나 있는지의 기하 "
            "평균으로, 번역문이 짧으면 깎는다. 참조 번역 하나, 대소문자 구별, 단어는 13a 로 자르고 0인 "
            "수는 반씩 줄여 메운다(sacrebleu 의 기본 설정)",
        ),
        _counted,
        _of_sums(bleu.bleu),
        most=100.0,
    ),
    Metric(
        "chrf",
        "translate",
        True,
        ("chrF", "chrF"),
        (
            "chrF2, 0 to 100: how many runs of one to six characters the translations share with the "
            "reference, recall counting twice as much as precision (sacrebleu's default); needs no "
            "words, so it is just to Korean endings",
            "chrF2(0~100): 이어진 한 글자부터 여섯 글자까지를 번역문과 참조 번역이 얼마나 함께 "
            "가지는지를 재며, 재현율을 정밀도의 두 배로 친다(sacrebleu 의 기본 설정). 단어로 자르지 "
            "않으므로 조사와 어미가 붙는 한국어에 알맞다",
        ),
        _counted,
        _of_sums(bleu.chrf),
        most=100.0,
    ),
    Metric(
        "rouge-l",
        "translate",
        True,
        ("ROUGE-L", "ROUGE-L"),
        (
            "ROUGE-L, 0 to 100: F of the longest common subsequence of words, averaged over the texts; "
            "words between white space, in lower case",
            "ROUGE-L(0~100): 가장 긴 공통 단어열로 구한 F를 글마다 평균한 값. 단어는 공백으로 자르고 "
            "대소문자는 구별하지 않는다",
        ),
        lambda statistics, targets: statistics,
        bleu.rouge,
        most=100.0,
    ),
    Metric(
        "exact",
        "translate",
        True,
        ("exact match", "완전 일치"),
        (
            "exact match: the share of answers that are their reference to the letter",
            "완전 일치: 답이 참조와 글자까지 같은 비율",
        ),
        _same,
        mean_share,
        shares=True,
    ),
)
