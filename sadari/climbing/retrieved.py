"""What is found by every rung that brings pictures and captions into one space: recalls by way and language,
and what a few captions of the test part bring up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from sadari.data.caption_arrays import CaptionArrays
from sadari.data.prepare import Prepared
from sadari.layers.nearest import top
from sadari.metrics.match import summary
from sadari.scoring import found_ranks

QUERIES, FOUND = 10, 6  # captions that search, and pictures shown of what each finds

Vectors = tuple[Float32[np.ndarray, "N D"], Float32[np.ndarray, "K D"]]


def recalls(vectors: Vectors, part: CaptionArrays, languages: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Every number of `metrics.match.summary`, of all captions under "" and of each language by itself."""
    table = {"": summary(found_ranks(*vectors, part))}
    if len(languages) > 1:
        for place, language in enumerate(languages):
            if (part.languages == place).any():
                table[language] = summary(found_ranks(*vectors, part, place))
    return table


def queries(part: CaptionArrays) -> Int64[np.ndarray, " Q"]:
    """Captions (rows of `tokens`) of pictures spread evenly over a part, each language in turn."""
    pictures = len(part.starts) - 1
    count = min(QUERIES, pictures)
    spoken = np.unique(part.languages)
    firsts = np.stack([part.firsts(int(language)) for language in spoken])
    rows = np.arange(count) * pictures // count
    chosen = firsts[np.arange(count) % len(spoken), rows]
    return np.where(chosen < 0, part.starts[rows], chosen)


def searched(vectors: Vectors, prepared: Prepared) -> list[dict[str, Any]]:
    """What `queries` of the test part find among its pictures, the nearest first, and which is right."""
    table: Any = prepared.table
    part: Any = prepared.test
    asked = queries(part)
    owners = np.repeat(np.arange(len(part.starts) - 1), np.diff(part.starts))
    _, found = top(vectors[1][asked], vectors[0], min(FOUND, len(vectors[0])))
    told = []
    for caption, rows in zip(asked, found, strict=True):
        same = owners[part.wordings == part.wordings[caption]]
        right = np.isin(rows, same) | (part.subjects[rows] == part.subjects[owners[caption]])
        told.append(
            {
                "text": part.texts[int(caption)],
                "found": [
                    {"row": int(row), "name": table.names[prepared.split.test[row]], "right": bool(hit)}
                    for row, hit in zip(rows, right, strict=True)
                ],
            }
        )
    return told
