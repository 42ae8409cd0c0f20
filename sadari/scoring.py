"""What answers are compared with: surprise summed over texts, ranks found among vectors, own targets."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from sadari.metrics.match import Ranks, ranks


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


def found_ranks(
    image: Float32[np.ndarray, "N D"],
    text: Float32[np.ndarray, "K D"],
    part: Any,
    language: int | None = None,
) -> Ranks:
    """The ranks of a part's pictures among its captions and of these among those, all or in one language.

    `part` is a `CaptionArrays`, `image` and `text` the vectors of its N pictures and K captions, `language`
    the place of a column of captions; pictures without a caption in it are left out.
    """
    owners = np.repeat(np.arange(len(image)), np.diff(part.starts))
    if language is None:
        return ranks(image, text, owners, part.subjects, part.wordings)
    spoken = part.languages == language
    asked, rows = np.unique(owners[spoken], return_inverse=True)
    return ranks(image[asked], text[spoken], rows, part.subjects[asked], part.wordings[spoken])


def own_targets(prepared: Any, arrays: Any) -> np.ndarray:
    """Targets in their own units (N,), or class numbers; of a corpus, the bytes of each document; of pairs
    and captions, nothing."""
    if prepared.task == "match":
        return np.zeros(len(arrays.features))  # answers are ranks, which know what was right
    if prepared.task == "translate":
        return np.zeros(len(arrays.targets))  # answers are statistics that hold their references
    as_they_are = prepared.spec.classes or prepared.task == "language"
    return arrays.targets if as_they_are else prepared.spec.decode_target(arrays.targets)
