"""Scores of numbers: squared errors, absolute ones, and the share of the variance that is explained."""

from __future__ import annotations

import numpy as np

from sadari.metrics.metric import Metric, column, first


def _squared_error(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return column(np.square(_error(predictions, targets)))


def _absolute_error(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return column(np.abs(_error(predictions, targets)))


def _explained(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    centred = targets.astype(np.float64) - targets.mean(dtype=np.float64)  # so that no digits cancel below
    return np.stack([np.square(_error(predictions, targets)), np.square(centred), centred], axis=1)


def _r2(means: np.ndarray) -> np.ndarray:
    left, squares, mean = np.moveaxis(means, -1, 0)
    spread = squares - np.square(mean)
    # a constant target has nothing to explain: 1 when met exactly, else 0 (scikit-learn's convention)
    return np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), np.where(left > 0, 0.0, 1.0))


def _error(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return predictions.astype(np.float64) - targets.astype(np.float64)


METRICS = (
    Metric(
        "rmse",
        "regress",
        False,
        ("RMSE", "RMSE"),
        (
            "root mean squared error: the square root of the mean of (prediction - target)², in the "
            "target's units",
            "평균 제곱근 오차: (예측 - 목표)²의 평균에 제곱근을 씌운 값, 단위는 목표와 같다",
        ),
        _squared_error,
        lambda means: np.sqrt(means[..., 0]),
    ),
    Metric(
        "mae",
        "regress",
        False,
        ("MAE", "MAE"),
        (
            "mean absolute error: the mean of |prediction - target|, in the target's units",
            "평균 절대 오차: |예측 - 목표|의 평균, 단위는 목표와 같다",
        ),
        _absolute_error,
        first,
    ),
    Metric(
        "r2",
        "regress",
        True,
        ("R²", "R²"),
        (
            "R²: the share of the target's variance that is explained, 1 - squared error / variance; "
            "the mean scores 0",
            "결정 계수 R²: 목표의 분산 가운데 설명한 몫, 1 - 제곱 오차 / 분산. 평균만 답하면 0",
        ),
        _explained,
        _r2,
    ),
)
