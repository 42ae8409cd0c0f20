"""What answers are compared with, and what the surprise at each token comes to for each text."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int


def document_scores(
    nats: Float[np.ndarray, " N"], starts: Int[np.ndarray, " D+1"]
) -> Float64[np.ndarray, "D 2"]:
    """Nats and tokens of each text, which the metrics of `language` read as its predictions.

    nats    -ln p of every token of a stream, each given those before it
    starts  text d is tokens starts[d] up to starts[d + 1], its end token included
    """
    lengths = np.diff(starts)
    texts = np.repeat(np.arange(len(lengths)), lengths)  # (N,) the text of each token
    sums = np.bincount(texts, nats[starts[0] : starts[-1]], minlength=len(lengths))
    return np.column_stack([sums, lengths]).astype(np.float64)


def own_targets(prepared: Any, arrays: Any) -> np.ndarray:
    """Targets in their own units (N,), or class numbers; of a corpus, the bytes of each document; of pairs,
    nothing."""
    if prepared.task == "translate":
        return np.zeros(len(arrays.targets))  # answers are statistics that hold their references
    as_they_are = prepared.spec.classes or prepared.task == "language"
    return arrays.targets if as_they_are else prepared.spec.decode_target(arrays.targets)
