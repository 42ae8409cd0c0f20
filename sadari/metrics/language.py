"""Scores of a model of text: how surprised it is by texts, a byte or a token."""

from __future__ import annotations

import numpy as np

from sadari.metrics.metric import Metric


def _surprise(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Nats, tokens and bytes of each text."""
    return np.column_stack([scores, targets]).astype(np.float64)


def _bits_per_byte(means: np.ndarray) -> np.ndarray:
    nats, _, size = np.moveaxis(means, -1, 0)
    return nats / (size * np.log(2))


def _perplexity(means: np.ndarray) -> np.ndarray:
    nats, tokens, _ = np.moveaxis(means, -1, 0)
    return np.exp(nats / tokens)


METRICS = (
    Metric(
        "bits-per-byte",
        "language",
        False,
        ("bits per byte", "바이트당 비트"),
        (
            "bits per byte: the sum of -log2(probability given to each token) over the UTF-8 bytes of "
            "the texts, each text's end counted as one byte; what the model would compress a byte to, "
            "whatever the tokenizer",
            "바이트당 비트: 토큰마다 준 확률의 -log2 를 모두 더해 글의 UTF-8 바이트 수로 나눈 값(글의 "
            "끝도 한 바이트로 센다). 모델로 압축하면 한 바이트에 드는 비트이며, 토크나이저가 달라도 "
            "견줄 수 있다",
        ),
        _surprise,
        _bits_per_byte,
        digits=4,
    ),
    Metric(
        "perplexity",
        "language",
        False,
        ("perplexity", "퍼플렉시티"),
        (
            "perplexity: e to the mean of -ln(probability given to each token), among how many equally "
            "likely tokens the model hesitates; it depends on the tokenizer, so compare it only between "
            "models of the same one",
            "퍼플렉시티: 토큰마다 준 확률의 -ln 을 평균해 e의 지수로 올린 값. 똑같이 그럴듯한 토큰 몇 개 "
            "사이에서 망설이는 셈인지 나타낸다. 토크나이저에 따라 달라지므로 그것이 같은 모델끼리만 "
            "견준다",
        ),
        _surprise,
        _perplexity,
    ),
)
