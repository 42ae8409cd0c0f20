"""What may be put in an index: vectors that have a direction, ids and names of columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from sadari.errors import SadariError

OWN = ("id", "vector", "path", "captions")
"""Columns that every index has."""


def units(vectors: np.ndarray, width: int) -> Float32[np.ndarray, "N D"]:
    """Vectors at length 1. SadariError for one of another width, and for one that has no direction."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise SadariError(
            f"vectors of shape {vectors.shape}: those of this index are {width} wide; use the "
            f"encoder that it was made with"
        )
    wide = vectors.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(length[:, 0]) | (length[:, 0] == 0))
    if len(bad):
        raise SadariError(
            f"vector {bad[0]} is zero, NaN or infinite: it has no direction to be compared by; leave it out"
        )
    return (wide / length).astype(np.float32)


def check_items(names: Sequence[Any], columns: Mapping[str, Any]) -> None:
    """Raise SadariError for ids that are none or stand twice, and for names that columns cannot have."""
    if bad := [name for name in names if not isinstance(name, str) or not name]:
        raise SadariError(f"id {bad[0]!r}: an id is a text that is not empty; give paths or numbers as text")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise SadariError(f"id {twice!r} is given twice: each item has its own; leave one out")
    if bad := [name for name in columns if name in OWN or not name.isidentifier() or name[0] == "_"]:
        raise SadariError(
            f"column {bad[0]!r}: a name is a word that starts with a letter and is none of "
            f"{', '.join(OWN)}; call it something else"
        )
