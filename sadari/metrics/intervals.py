"""An interval round a score, and a fair comparison of two: the bootstrap (Efron 1979), paired row by row.

A score on resampled rows is one product, weights (R, N) @ contributions (N, J). The same resamples serve
every rung, so that what two rungs share cancels in their difference.

Alphabet: N rows, K classes, J contributions a row, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from sadari.errors import SadariError
from sadari.metrics.metric import Metric

RESAMPLES = 2000
# more rows than this are drawn in blocks: the spread of a mean is the same, the weights stay at 33 MB
BLOCKS = 4096
LEVEL = 0.95


class Resamples:
    """How often each row is drawn in each of R resamples of N rows, with replacement.

    Above `BLOCKS` rows, blocks of random rows are drawn instead of single ones. `nudge` counts two imagined
    rows, drawn along: one that speaks for the better rung and one against it.
    """

    def __init__(self, rows: int, resamples: int = RESAMPLES, seed: int = 0):
        if rows < 2:
            raise SadariError(f"{rows} rows to score on: an interval needs at least 2; give more rows")
        draw = np.random.default_rng(seed)
        blocks = min(rows, BLOCKS)
        self.rows = rows
        self.block = draw.permutation(rows) % blocks if rows > blocks else None  # (N,) the block of each row
        picks = draw.integers(blocks + 2, size=(resamples, blocks + 2))
        counts = np.stack([np.bincount(pick, minlength=blocks + 2) for pick in picks])
        self.counts = counts[:, :blocks].astype(np.float32)  # (R, blocks)
        self.nudge = (counts[:, blocks] - counts[:, blocks + 1]).astype(np.float64)  # (R,)

    def units(self, contributions: np.ndarray) -> np.ndarray:
        """What is drawn: contributions (N, J) summed over each block, rows counted last (blocks, J + 1)."""
        rows = np.column_stack([contributions, np.ones(len(contributions))])
        if self.block is None:
            return rows
        return np.stack([np.bincount(self.block, column) for column in rows.T], axis=1)

    def scores(self, metric: Metric, contributions: np.ndarray) -> np.ndarray:
        """The metric on every resample (R,)."""
        units = self.units(contributions)
        return metric.reduce(_means(self.counts @ units))

    def without(self, metric: Metric, contributions: np.ndarray) -> np.ndarray:
        """The metric with one unit left out, for each unit (the jackknife)."""
        units = self.units(contributions)
        return metric.reduce(_means(units.sum(0) - units))

    @cached_property
    def width(self) -> float:
        """By what factor a bootstrap spread is too small for few rows (Hesterberg 2015, arXiv 1411.5279,
        section 4.3)."""
        units = self.counts.shape[1]
        return float(np.sqrt(units / (units - 1)) * stats.t.ppf(0.975, units - 1) / stats.norm.ppf(0.975))


def _means(sums: np.ndarray) -> np.ndarray:
    """Sums with the number of rows last (..., J + 1) -> means (..., J)."""
    return sums[..., :-1] / np.maximum(sums[..., -1:], 1)


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval."""

    score: float
    low: float
    high: float


def bootstrap(metric: Metric, contributions: np.ndarray, resamples: Resamples) -> Interval:
    """The score of contributions (N, J) and its 95 % interval.

    Shares of right answers get Wilson's interval, since resampling 20 right rows out of 20 never shows a
    wrong one. All else gets the bias-corrected and accelerated bootstrap (Efron 1987), widened for few rows.
    """
    score = float(metric.reduce(contributions.mean(0)))
    if metric.shares:
        return Interval(score, *_wilson(contributions))
    drawn = resamples.scores(metric, contributions)
    bias = stats.norm.ppf(np.clip(np.mean(drawn < score) + np.mean(drawn == score) / 2, 0.001, 0.999))
    left = resamples.without(metric, contributions)
    slope = left.mean() - left
    spread = np.square(slope).sum()
    skew = (slope**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    edge = stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2]) * resamples.width
    share = stats.norm.cdf(bias + (bias + edge) / np.maximum(1 - skew * (bias + edge), 0.05))
    low, high = np.quantile(drawn, share)
    return Interval(score, float(min(low, score)), float(max(high, score)))


def _wilson(contributions: np.ndarray) -> tuple[float, float]:
    """Wilson's interval (1927) for a share; for a mean of shares, the classes' own intervals put together by
    the squares of their distances (Zou & Donner 2008, "MOVER")."""
    hits, rows = np.split(contributions.sum(0), 2)  # (K,)
    hits, rows = hits[rows > 0], rows[rows > 0]
    share, z = hits / rows, stats.norm.ppf((1 + LEVEL) / 2)
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    low, high = share - (middle - half), (middle + half) - share  # distances from the shares
    mean = share.mean()
    reach_low, reach_high = np.sqrt(np.square(low).sum()), np.sqrt(np.square(high).sum())
    return float(max(mean - reach_low / len(rows), 0)), float(min(mean + reach_high / len(rows), 1))


@dataclass(frozen=True)
class Comparison:
    """How much better one rung is than another on the same rows; above 0 means better, whatever the metric's
    direction."""

    gain: float
    low: float
    high: float
    error: float
    """The standard error of the gain, over resamples of the rows that both answered."""
    better: float
    """The probability that it is better at all: the share of resamples in which it is."""


def compare(metric: Metric, one: np.ndarray, other: np.ndarray, resamples: Resamples) -> Comparison:
    """`one` against `other` (contributions (N, J) of the same rows): the paired gain, its 95 % interval and
    probability.

    Shares of right answers move in whole rows, and a resample of three rows that all speak for one side never
    shows the other. So two imagined rows are drawn along, one for each side (after Agresti & Min 2005, who
    add half a row to each cell of the table of two classifiers): without them a difference that is not there
    passes 0.95 too often.
    """
    sign = 1 if metric.higher else -1
    gain = sign * float(metric.reduce(one.mean(0)) - metric.reduce(other.mean(0)))
    drawn = sign * (resamples.scores(metric, one) - resamples.scores(metric, other))
    if metric.shares:
        classes = one.shape[1] // 2
        drawn = drawn + resamples.nudge / (classes * np.maximum(one[:, classes:].sum(0), 1).min())
    else:
        drawn = gain + (drawn - gain) * resamples.width
    slack = 1e-9 * float(np.abs(drawn).max())  # equal sums, added up in another order
    better = np.mean(drawn > slack) + np.mean(np.abs(drawn) <= slack) / 2
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Comparison(gain, float(low), float(high), float(drawn.std()), float(better))
