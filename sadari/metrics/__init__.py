"""Every number with its definition, an interval round it, and a fair comparison of two.

A metric is what each row contributes (J numbers) and how the means of those contributions become the score:
rmse is the squared error of a row and a square root. `intervals` resamples these contributions.

metric.py                                                        what a metric is
regress.py, classify.py, language.py, translate.py, match.py     the metrics of each task
intervals.py                                                     resamples, intervals, comparisons
"""

from __future__ import annotations

import numpy as np

from sadari.errors import SadariError
from sadari.lang import Note
from sadari.metrics import classify, language, match, regress, translate
from sadari.metrics.intervals import Comparison, Interval, Resamples, bootstrap, compare
from sadari.metrics.metric import Metric, number

__all__ = [
    "METRICS",
    "Comparison",
    "Interval",
    "Metric",
    "Resamples",
    "beside",
    "bootstrap",
    "compare",
    "find_metric",
    "imbalance",
    "number",
]

TEXTS = {
    "imbalanced": (
        "{share:.0%} of the training rows are {label!r}: always saying so is already that accurate. Score "
        "with --metric balanced-accuracy if the rare classes matter.",
        "학습 행의 {share:.0%}가 {label!r}입니다. 늘 그렇게 답하기만 해도 그만큼 맞습니다. 드문 클래스가 "
        "중요하면 --metric balanced-accuracy 로 채점하십시오.",
    ),
}

METRICS: dict[str, Metric] = {
    metric.name: metric for task in (regress, classify, language, translate, match) for metric in task.METRICS
}
DEFAULT = {
    "regress": "rmse",
    "classify": "accuracy",
    "language": "bits-per-byte",
    "translate": "bleu",
    "match": "recall@1",
}
BESIDE = {  # any other: log-loss
    "rmse": "r2",
    "r2": "rmse",
    "mae": "r2",
    "log-loss": "accuracy",
    "bits-per-byte": "perplexity",
    "perplexity": "bits-per-byte",
    "bleu": "chrf",
    "chrf": "bleu",
    "rouge-l": "bleu",
    "exact": "bleu",
    **{metric.name: "recall@1" for metric in match.METRICS},
    "recall@1": "median-rank",
}


def find_metric(name: str | None, task: str) -> Metric:
    """The metric called `name`, or the task's own for None: rmse, accuracy, bits-per-byte, bleu or recall@1.

    Raises SadariError with the metrics of the task when there is no such one.
    """
    metric = METRICS.get(name or DEFAULT[task])
    if metric is None or metric.task != task:
        known = ", ".join(m.name for m in METRICS.values() if m.task == task)
        raise SadariError(f"--metric {name!r} does not score {task}; choose one of: {known}")
    return metric


def beside(metric: Metric) -> Metric:
    """A second number worth showing next to `metric`, of another nature."""
    return METRICS[BESIDE.get(metric.name, "log-loss")]


def imbalance(targets: np.ndarray, classes: tuple[str, ...]) -> Note | None:
    """A note when one class holds so many of the rows that accuracy flatters whoever always says it.

    That is: twice its fair share, and at least 60 %.
    """
    counts = np.bincount(targets, minlength=len(classes))
    share = counts.max() / counts.sum()
    if share < max(0.6, min(2 / len(classes), 0.8)):
        return None
    return Note.of(TEXTS, "imbalanced", "warning", share=float(share), label=classes[int(counts.argmax())])
