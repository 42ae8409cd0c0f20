"""The judge from outside the ladder: gradient boosting, so that no rung is flattered by weak company.

scikit-learn's histogram gradient boosting (after LightGBM, Ke et al. 2017) on the same split, the same
encoded rows and the same budget, with the number of trees chosen on the same validation rows. It is no rung:
the verdict never names it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from sadari.data.prepare import Arrays, Prepared
from sadari.price import Price, microseconds, peak_memory

NAME = "gradient boosting"
ROUND = 10  # trees grown between two looks at the clock, at least
PATIENCE = 20  # trees without a better validation loss before it stops
# encoded values from which more than one thread pays; on a busy machine they wait 30 times as long
LARGE = 1_000_000
MOST = 1000  # trees at most: at the learning rate 0.1 of scikit-learn more are never wanted


@dataclass(frozen=True)
class Judged:
    """What the judge answered, as rungs answer: numbers in the target's units (N,), or probabilities (N,
    K).
    """

    validation: np.ndarray
    test: np.ndarray
    trees: int
    """Boosting rounds kept; each is one tree, or one a class."""
    price: Price
    facts: dict[str, Any] = field(default_factory=dict)
    """What else was chosen on the validation rows, by name: plain numbers and words."""


def judge(prepared: Prepared, *, seconds: float | None = None, seed: int = 0) -> Judged:
    """Fit gradient boosting on a prepared table within `seconds` (None: until the validation loss stops
    falling).
    """
    kind = _kind(prepared)
    began = time.perf_counter()
    with peak_memory() as peak, threadpool_limits(None if prepared.train.features.size > LARGE else 1):
        model = _grow(kind, prepared, seconds, seed)
        spent = time.perf_counter() - began
        validation, test = (
            _answer(model, prepared, part.features) for part in (prepared.validation, prepared.test)
        )

    def answer(features: np.ndarray) -> np.ndarray:
        return _answer(model, prepared, features)

    one, many = microseconds(answer, prepared.validation.features)
    nodes = [tree.nodes for trees in model._predictors for tree in trees]
    price = Price(
        parameters=sum(map(len, nodes)),
        macs=0,  # a tree compares, it does not multiply
        train_seconds=spent,
        microseconds_per_example=one,
        microseconds_at_256=many,
        bytes=sum(array.nbytes for array in nodes),
        peak_memory=peak.bytes,
    )
    return Judged(validation, test, model.n_iter_, price)


def _kind(prepared: Prepared) -> Any:
    """The model's class; its import is not part of the price."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    return HistGradientBoostingClassifier if prepared.spec.classes else HistGradientBoostingRegressor


def _grow(kind: Any, prepared: Prepared, seconds: float | None, seed: int) -> Any:
    """The model with as many trees as had the best validation loss.

    Grown in rounds from where it stood; the seed is fixed, so the model of fewer trees is grown again, not
    cut back.
    """
    train, validation = prepared.train, prepared.validation
    began = time.perf_counter()
    model = kind(max_iter=ROUND, early_stopping=False, warm_start=True, random_state=seed)
    losses: list[float] = []
    while True:
        model.fit(train.features, train.targets)
        losses += [
            _loss(model, said, validation) for said in islice(_stages(model, validation), len(losses), None)
        ]
        best = int(np.argmin(losses)) + 1
        more = max(ROUND, len(losses) // 4)  # growing rounds: each looks at all trees so far
        late = seconds is not None and _time(began, len(losses), more) > seconds
        if len(losses) - best >= PATIENCE or len(losses) >= MOST or late:
            break
        model.set_params(max_iter=len(losses) + more)
    if best == model.n_iter_:
        return model
    return kind(max_iter=best, early_stopping=False, random_state=seed).fit(train.features, train.targets)


def _time(began: float, trees: int, more: int) -> float:
    """Seconds after another round, and after growing the model again."""
    return 2 * (time.perf_counter() - began) * (1 + more / trees)


def _stages(model: Any, arrays: Arrays) -> Iterator[np.ndarray]:
    """Answers after 1, 2, 3 ... boosting rounds."""
    staged = model.staged_predict_proba if hasattr(model, "staged_predict_proba") else model.staged_predict
    return staged(arrays.features)


def _loss(model: Any, said: np.ndarray, arrays: Arrays) -> float:
    """Squared error, or log loss; a class that was not in the training rows counts as given a tiny
    probability.
    """
    if said.ndim == 1:
        return float(np.mean(np.square(said - arrays.targets)))
    column = np.searchsorted(model.classes_, arrays.targets).clip(max=len(model.classes_) - 1)
    known = model.classes_[column] == arrays.targets
    given = np.where(known, said[np.arange(len(said)), column], 0.0)
    return float(-np.log(given.clip(1e-15)).mean())


def _answer(model: Any, prepared: Prepared, features: np.ndarray) -> np.ndarray:
    """Predictions as the rungs make them."""
    if not prepared.spec.classes:
        return prepared.spec.decode_target(model.predict(features))
    probabilities = np.zeros((len(features), len(prepared.spec.classes)))
    probabilities[:, model.classes_] = model.predict_proba(features)
    return probabilities
