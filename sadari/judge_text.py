"""The judges from outside the ladders of text, which no verdict names: counted words, and counted n-grams.

Labelled texts: tf-idf and logistic regression, scikit-learn's own, on the raw texts of the same split. It
reads words and pairs of words, or runs of two to four letters within words, which suits a language that glues
endings to its words, as Korean does: the validation texts choose.
Corpora: an interpolated n-gram with modified Kneser-Ney smoothing (Chen & Goodman 1999), on the same tokens
as the rungs, its order chosen on the validation texts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from threadpoolctl import threadpool_limits

from sadari.data.prepare import Prepared
from sadari.judge import Judged
from sadari.metrics import METRICS
from sadari.models.n_gram import UNKNOWN, NGram, NGramConfig
from sadari.price import Price, microseconds, peak_memory
from sadari.scoring import document_scores

READINGS: dict[str, dict[str, Any]] = {
    # scikit-learn's own pattern passes over words of one letter, which in Korean and Chinese say much
    "words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "letters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}
STRENGTHS = (10.0, 30.0, 100.0, 3.0, 1.0)  # scikit-learn's C, the inverse of a penalty, likeliest first
MANY = 1000  # texts from which a word that one text alone has is left out: half the time, no worse
ORDERS = range(2, 7)


def judge_text(prepared: Prepared, *, seconds: float | None = None, seed: int = 0) -> Judged:
    """Fit tf-idf and logistic regression on prepared texts with labels.

    Reading and strength are those with the fewest errors on the validation texts, ties broken by the loss,
    among as many as `seconds` allow (None: six), and at least one. Its price is that of answering counted
    texts, as the rungs' is that of encoded ones. `facts`: `reading`, `strength`, `features`, `tried`.
    """
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401  their import is not part of the price

    began = time.perf_counter()
    with peak_memory() as peak, threadpool_limits(1):  # products of sparse rows run on one thread anyway
        tried: list[_Fitted] = []
        for reading, strength in _ways(tried):
            spent = time.perf_counter() - began
            known = [one for one in tried if one.counted.reading == reading]
            # letters take about four times as long as words, to count and to weigh
            expected = known[-1].seconds if known else 4 * spent
            if tried and seconds is not None and spent + expected > seconds:
                continue
            counted = known[0].counted if known else _Counted.of(prepared, reading)
            tried.append(_Fitted.of(prepared, counted, strength, seed))
        best = min(tried, key=lambda one: one.faults)
        spent = time.perf_counter() - began
    counted, weights, constants = best.counted, best.model.coef_, best.model.intercept_
    one, many = microseconds(best.answer, _Rows(counted.validation))
    features = weights.shape[1]
    price = Price(
        parameters=weights.size + constants.size + features,  # a weight of each word as well, its idf
        macs=round(counted.validation.nnz / counted.validation.shape[0] * len(weights)),
        train_seconds=spent,
        microseconds_per_example=one,
        microseconds_at_256=many,
        bytes=weights.nbytes + constants.nbytes + counted.bytes,
        peak_memory=peak.bytes,
    )
    facts = {
        "reading": counted.reading,
        "strength": best.strength,
        "features": features,
        "tried": len(tried),
    }
    return Judged(best.answer(counted.validation), best.answer(counted.test), 0, price, facts)


def judge_language(prepared: Prepared, *, seconds: float | None = None, seed: int = 0) -> Judged:
    """Count n-grams of a prepared corpus, smoothed after Kneser and Ney.

    From order 2 on, each is tried until the validation texts cost no less, or `seconds` are over. Answers are
    nats and tokens of each text (D, 2). It draws nothing by lot, so `seed` changes nothing; its price is
    that of the next token after a history. `facts`: `order`, `n_grams` and `discounts` of each order.
    """
    train, validation, test = (_stream(prepared, part) for part in ("train", "validation", "test"))
    began = time.perf_counter()
    with peak_memory() as peak:
        best, facts, lowest = None, {}, np.inf
        for tries, order in enumerate(ORDERS):
            spent = time.perf_counter() - began
            if best is not None and seconds is not None and spent * (1 + 1 / tries) > seconds:
                break
            model = NGram(NGramConfig(order, "kneser-ney"), prepared.spec.width, prepared.spec.width)
            solved = model.solve_stream(train.tokens)
            nats = -model.log_probabilities(validation.tokens)
            if nats.sum() >= lowest:
                break
            best, lowest = model, nats.sum()
            kept = document_scores(nats, validation.starts)
            facts = {"order": order, "n_grams": solved["n_grams"], "discounts": solved["discounts"]}
        spent = time.perf_counter() - began
    assert best is not None  # ORDERS is not empty, and a sum of nats is finite
    reach = best.config.order - 1
    read = np.concatenate([np.full(reach, UNKNOWN), validation.tokens[: 1 << 16]])  # as many as are timed
    histories = torch.from_numpy(np.lib.stride_tricks.sliding_window_view(read, reach).copy())
    one, many = microseconds(lambda rows: best.step(rows, best.start(len(rows))), histories)
    buffers = dict(best.named_buffers())
    price = Price(
        parameters=sum(tensor.numel() for name, tensor in buffers.items() if not name.startswith("keys")),
        macs=0,  # probabilities are looked up
        train_seconds=spent,
        microseconds_per_example=one,
        microseconds_at_256=many,
        bytes=sum(tensor.nbytes for tensor in buffers.values()),
        peak_memory=peak.bytes,
    )
    answer = document_scores(-best.log_probabilities(test.tokens), test.starts)
    return Judged(kept, answer, 0, price, facts)


@dataclass(frozen=True)
class _Counted:
    """The texts of each part as sparse rows, a number for each word that the training texts have."""

    reading: str
    train: Any
    validation: Any
    test: Any
    bytes: int
    """Of the words and what each weighs."""

    @classmethod
    def of(cls, prepared: Prepared, reading: str) -> _Counted:
        from scipy.sparse import csr_array
        from sklearn.feature_extraction.text import TfidfVectorizer

        spec: Any = prepared.spec
        column = prepared.table.frame.select(spec.text).collect().to_series().cast(pl.String)
        rows = [getattr(prepared.split, part) for part in ("train", "validation", "test")]
        train, *others = [column.gather(part).fill_null("").to_list() for part in rows]
        least = 2 if len(train) >= MANY else 1
        vectorizer = TfidfVectorizer(min_df=least, sublinear_tf=True, **READINGS[reading])
        try:
            parts = [vectorizer.fit_transform(train), *map(vectorizer.transform, others)]
        except (
            ValueError
        ):  # there is not one word to count, so all that is left is how frequent each class is
            nothing = [csr_array((len(part), 1)) for part in rows]
            return cls(reading, nothing[0], nothing[1], nothing[2], bytes=0)
        words = sum(len(word.encode()) for word in vectorizer.vocabulary_)
        return cls(reading, parts[0], parts[1], parts[2], words + vectorizer.idf_.nbytes)


@dataclass(frozen=True)
class _Fitted:
    """Logistic regression on counted texts, and what it got wrong of the validation texts."""

    counted: _Counted
    strength: float
    model: Any
    classes: int
    faults: tuple[float, float]
    """Share of errors, and loss."""
    seconds: float
    """That the weights took."""

    @classmethod
    def of(cls, prepared: Prepared, counted: _Counted, strength: float, seed: int) -> _Fitted:
        from sklearn.linear_model import LogisticRegression

        # its usual solver, lbfgs, takes four times as long to the same weights
        model = LogisticRegression(C=strength, solver="newton-cg", tol=1e-5, max_iter=1000, random_state=seed)
        began = time.perf_counter()
        model.fit(counted.train, prepared.train.targets)
        spent = time.perf_counter() - began
        fitted = cls(counted, strength, model, len(prepared.spec.classes or ()), (0.0, 0.0), spent)
        said, targets = fitted.answer(counted.validation), prepared.validation.targets
        errors = 1 - METRICS["accuracy"].score(said, targets)
        return replace(fitted, faults=(errors, METRICS["log-loss"].score(said, targets)))

    def answer(self, rows: Any) -> np.ndarray:
        """Probabilities (N, K) of counted texts."""
        probabilities = np.zeros((rows.shape[0], self.classes))
        probabilities[:, self.model.classes_] = self.model.predict_proba(rows)
        return probabilities


@dataclass(frozen=True)
class _Rows:
    """Sparse rows with a length, which scipy's have not."""

    rows: Any

    def __len__(self) -> int:
        return self.rows.shape[0]

    def __getitem__(self, numbers: np.ndarray) -> Any:
        return self.rows[numbers]


def _ways(tried: list[_Fitted]) -> Iterator[tuple[str, float]]:
    """What to try: either reading, then the better one with more and with less strength."""
    for reading in READINGS:
        yield reading, STRENGTHS[0]
    better = min(tried, key=lambda one: one.faults).counted.reading
    for strength in STRENGTHS[1:]:
        yield better, strength


def _stream(prepared: Prepared, part: str) -> Any:
    """The stream of one part: `tokens` (N,), `starts` (D + 1,)."""
    return getattr(prepared, part)
