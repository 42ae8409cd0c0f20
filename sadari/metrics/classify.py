"""Scores of classes, from the probability given to each: shares of right answers, and the log loss."""

from __future__ import annotations

import numpy as np

from sadari.metrics.metric import Metric, column, first, mean_share

SMALLEST = float(np.finfo(np.float64).eps)  # probabilities are clipped here, as scikit-learn does


def _hits(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    hit = probabilities.argmax(1) == targets
    return np.stack([hit, np.ones(len(hit))], axis=1).astype(np.float64)


def _hits_by_class(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    rows = np.eye(probabilities.shape[1])[targets]  # (N, K)
    return np.concatenate([rows * (probabilities.argmax(1) == targets)[:, None], rows], axis=1)


def _log_loss(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    given = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return column(-np.log(np.clip(given, SMALLEST, 1 - SMALLEST)))


METRICS = (
    Metric(
        "accuracy",
        "classify",
        True,
        ("accuracy", "정확도"),
        (
            "accuracy: the share of rows whose most probable class is the right one",
            "정확도: 가장 그럴듯한 클래스가 정답인 행의 비율",
        ),
        _hits,
        mean_share,
        shares=True,
    ),
    Metric(
        "balanced-accuracy",
        "classify",
        True,
        ("balanced accuracy", "균형 정확도"),
        (
            "balanced accuracy: the share of right rows in each class, averaged over the classes",
            "균형 정확도: 클래스마다 맞힌 비율을 구해 클래스끼리 평균한 값",
        ),
        _hits_by_class,
        mean_share,
        shares=True,
    ),
    Metric(
        "log-loss",
        "classify",
        False,
        ("log loss", "로그 손실"),
        (
            "log loss: the mean of -ln(probability given to the right class)",
            "로그 손실: 정답 클래스에 준 확률의 -ln 을 평균한 값",
        ),
        _log_loss,
        first,
    ),
)
