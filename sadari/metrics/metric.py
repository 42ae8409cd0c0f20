"""What a metric is, and the few lines that the metrics of more than one task share.

Alphabet: N rows, K classes, J contributions a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sadari.lang import Lang


@dataclass(frozen=True)
class Metric:
    """A score: what a row contributes, and how means of contributions become the number."""

    name: str
    """What `--metric` calls it."""
    task: str
    """regress, classify, language or translate."""
    higher: bool
    """Whether higher is better."""
    title: tuple[str, str]
    """What sentences and tables call it: English, Korean."""
    definition: tuple[str, str]
    """The formula in words: English, Korean."""
    contributions: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(predictions (N,), probabilities (N, K), a text's nats and tokens (N, 2) or a translation's statistics
    (N, K); targets (N,)) -> (N, J) float64.
    """
    reduce: Callable[[np.ndarray], np.ndarray]
    """Means of contributions (..., J) -> scores (...)."""
    shares: bool = False
    """Whether it is a share of right answers, or a mean of such shares: then J = 2 K, hits and rows of each
    class.
    """
    digits: int = 3
    """Significant digits of the score, where it is no share."""
    most: float = 1.0
    """The best score that there is, where higher is better."""

    def score(self, predictions: np.ndarray, targets: np.ndarray) -> float:
        return float(self.reduce(self.contributions(predictions, targets).mean(0)))

    def call(self, lang: Lang) -> str:
        return self.title[lang == "ko"]

    def define(self, lang: Lang) -> str:
        return self.definition[lang == "ko"]

    def show(self, value: float) -> str:
        """The score as people read it: shares in per cent, all else with the metric's digits."""
        return f"{100 * value:.1f}%" if self.shares else number(value, self.digits)

    def show_gain(self, value: float, lang: Lang, unit: bool = True) -> str:
        """A difference of two scores: shares in percentage points, with or without the word."""
        if not self.shares:
            return number(value)
        return f"{100 * value:.1f}" + ("" if not unit else "%p" if lang == "ko" else " points")


def number(value: float, digits: int = 3) -> str:
    """So many significant digits; whole numbers from 1,000."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.{digits}g}"


def column(values: np.ndarray) -> np.ndarray:
    """One contribution a row: (N,) -> (N, 1)."""
    return values[:, None]


def first(means: np.ndarray) -> np.ndarray:
    """The mean of the only contribution: (..., 1) -> (...)."""
    return means[..., 0]


def mean_share(means: np.ndarray) -> np.ndarray:
    """The mean, over the classes that occur, of hits / rows."""
    hits, rows = np.split(means, 2, axis=-1)  # (..., K)
    present = rows > 0
    shares = np.divide(hits, rows, out=np.zeros_like(hits), where=present)
    return shares.sum(-1) / np.maximum(present.sum(-1), 1)
