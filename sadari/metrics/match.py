"""Scores of pictures and captions that look for each other, from the ranks at which the right ones are found.

    every picture against all captions    rank of the nearest right caption          1 is best
    every caption against all pictures    rank of the nearest right picture

`ranks` finds them: 1, and one more for every wrong one that is as near or nearer. So a model to which all is
alike, and which would be right by the order of rows alone, scores nothing. Right for a picture are the words
that are said of it, or of another picture of the same subject: `subjects` and `wordings` of
`data.caption_arrays`. Words that are said of many pictures stand among the captions once: five drawings of
one emoji must not fill the first five places. Likeness is the inner product, summed in double precision and
compared in single.

A row of the ranks is a picture with its captions, drawn together by the bootstrap: the captions of one
picture are found or missed together, and do not count as so many witnesses.

Alphabet: N pictures, K captions, M captions of the picture that has most, D width of the shared space.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from sadari.errors import SadariError
from sadari.metrics.metric import Metric, mean_share

CUTS = (1, 5, 10)  # of the recalls that papers report (Radford 2021, 2103.00020)
LOOKED = 64  # places among which the right one is looked for first; only where it is not, all are compared
BLOCK = 1 << 22  # products that are compared at once
SLACK = 1e-9  # for sums that were added up in another order
EDGES = np.unique(np.round(np.geomspace(1, 1e7, 141)).astype(np.int64))  # of ranks, 20 a tenfold
NAMES = {"both": "", "image": "image-to-text-", "text": "text-to-image-"}

Ranks = Int64[np.ndarray, "N 1+M"]
"""Of each picture: the rank of its nearest right caption, then of each caption of its own the rank of the
nearest right picture; 0 where it has no more captions."""


def ranks(
    image: Float32[np.ndarray, "N D"],
    text: Float32[np.ndarray, "K D"],
    owners: Int64[np.ndarray, " K"],
    subjects: Int64[np.ndarray, " N"] | None = None,
    wordings: Int64[np.ndarray, " K"] | None = None,
) -> Ranks:
    """The ranks of pictures among captions and of captions among pictures.

    owners     of each caption the picture (a row of `image`) that it belongs to
    subjects   the same number for pictures of the same thing; None: all differ
    wordings   the same number for captions of the same words; None: all differ

    Raises SadariError for a picture without a caption, a caption without a picture, and embeddings that do
    not fit one another or are no finite numbers.
    """
    pairs = _paired(len(image), len(text), owners, subjects, wordings)
    counts = np.bincount(owners, minlength=len(image))
    found = np.zeros((len(image), 1 + int(counts.max())), np.int64)
    once = np.unique(pairs.wordings, return_index=True)[1]

    def caption_right(picture: np.ndarray, caption: np.ndarray) -> np.ndarray:
        return pairs.right(picture, once[caption])

    def picture_right(caption: np.ndarray, picture: np.ndarray) -> np.ndarray:
        return pairs.right(picture, caption)

    found[:, 0] = _rank(image, text[once], caption_right)
    there = np.arange(1, found.shape[1]) <= counts[:, None]
    found[:, 1:][there] = _rank(text, image, picture_right)[np.argsort(owners, kind="stable")]
    return found


def summary(found: Ranks) -> dict[str, float]:
    """All that is reported of ranks: each of `METRICS` by its name, and the exact medians of either way."""
    table = {metric.name: metric.score(found, found) for metric in METRICS}
    ways = {"image": found[:, 0], "text": found[:, 1:][found[:, 1:] > 0]}
    return table | {f"{NAMES[way]}median-rank": float(np.median(own)) for way, own in ways.items()}


class _Pairs(NamedTuple):
    """Which pictures and captions are right for each other."""

    subjects: np.ndarray
    wordings: np.ndarray
    known: np.ndarray
    """Numbers of the pairs of a subject and a wording that is said of it, rising."""

    def right(self, pictures: np.ndarray, captions: np.ndarray) -> np.ndarray:
        """Whether each belongs to each, as shapes broadcast."""
        asked = self.subjects[pictures] * (int(self.wordings.max()) + 1) + self.wordings[captions]
        place = np.minimum(np.searchsorted(self.known, asked), len(self.known) - 1)
        return self.known[place] == asked


def _paired(
    pictures: int,
    captions: int,
    owners: np.ndarray,
    subjects: np.ndarray | None,
    wordings: np.ndarray | None,
) -> _Pairs:
    """`_Pairs`, checked."""
    if len(owners) != captions or (len(owners) and not 0 <= owners.min() <= owners.max() < pictures):
        raise SadariError(
            f"{len(owners)} owners for {captions} captions and {pictures} pictures: each caption needs the "
            f"row of its own picture, 0 to {pictures - 1}"
        )
    counts = np.bincount(owners, minlength=pictures)
    if not captions or counts.min() == 0:
        raise SadariError(
            f"picture {int(counts.argmin()) + 1} has no caption, so that nothing is right for it; leave such "
            f"pictures out"
        )
    subjects = np.arange(pictures) if subjects is None else np.unique(subjects, return_inverse=True)[1]
    wordings = np.arange(captions) if wordings is None else np.unique(wordings, return_inverse=True)[1]
    known = np.unique(subjects[owners] * (int(wordings.max()) + 1) + wordings)
    return _Pairs(subjects, wordings, known)


def _rank(
    queries: np.ndarray,
    items: np.ndarray,
    right: Callable[[np.ndarray, np.ndarray], np.ndarray],
    looked: int = LOOKED,
) -> Int64[np.ndarray, " Q"]:
    """The rank of the nearest right item of each query."""
    from sadari.layers.nearest import top  # brings torch, which no table of metrics needs

    scores, rows = top(queries, items, looked)  # (Q, k)
    hit = right(np.arange(len(queries))[:, None], rows)
    best = np.where(hit, scores, -np.inf).max(1)
    found = 1 + ((scores >= best[:, None]) & ~hit).sum(1)
    # behind the last one that was looked at there may be more that are as near
    left = np.flatnonzero((scores[:, -1] >= best) & (rows.shape[1] < len(items)))
    stored = items.T.astype(np.float64) if len(left) else items.T
    step = max(BLOCK // len(items), 1)
    for first in range(0, len(left), step):
        some = left[first : first + step]
        products = (queries[some].astype(np.float64) @ stored).astype(np.float32)
        hit = right(some[:, None], np.arange(len(items)))
        best = np.where(hit, products, -np.inf).max(1, keepdims=True)
        found[some] = 1 + ((products >= best) & ~hit).sum(1)
    return found.astype(np.int64)


def _weights(found: np.ndarray, way: str) -> np.ndarray:
    """How much each rank counts (N, 1 + M): a picture 1, a caption N / K; half of it where both ways count.

    The weights sum to N, so that N pictures are N witnesses however many captions each has.
    """
    there = (found > 0).astype(np.float64)
    there[:, 1:] *= len(found) / there[:, 1:].sum()
    if way == "both":
        return there / 2
    there[:, slice(1, None) if way == "image" else 0] = 0
    return there


def _recalled(found: np.ndarray, targets: np.ndarray, cut: int, way: str) -> np.ndarray:
    """Hits and rows of the only class (N, 2)."""
    weights = _weights(found, way)
    return np.stack([(weights * (found <= cut)).sum(1), weights.sum(1)], axis=1)


def _ranked(found: np.ndarray, targets: np.ndarray, way: str) -> np.ndarray:
    """How much of each picture's ranks is at most each of `EDGES`, and all of it (N, J + 1)."""
    weights = _weights(found, way)
    place = np.minimum(np.searchsorted(EDGES, np.maximum(found, 1)), len(EDGES) - 1)  # the first edge >= rank
    counts = np.zeros((len(found), len(EDGES)))
    np.add.at(counts, (np.arange(len(found))[:, None], place), weights)
    return np.column_stack([counts.cumsum(1), weights.sum(1)])


def _median(means: np.ndarray) -> np.ndarray:
    """The least rank that half do not exceed, read off a straight line between the edges round it."""
    shares = means[..., :-1] / means[..., -1:]
    place = (shares >= 0.5 - SLACK).argmax(-1)[..., None]
    above = np.take_along_axis(shares, place, -1)
    below = np.where(place > 0, np.take_along_axis(shares, np.maximum(place - 1, 0), -1), 0.0)
    last, edge = np.where(place > 0, EDGES[place - 1], 0), EDGES[place]
    way = (0.5 - below) / (above - below)
    return np.minimum(np.ceil(last + (edge - last) * way - SLACK), edge)[..., 0]


WAYS = {  # what is behind the name, and what is counted: English, Korean
    "both": (
        ("", ""),
        (
            "the mean of two shares, of pictures and of captions, whose",
            "그림과 설명 양쪽에서 구한 비율의 평균",
        ),
    ),
    "image": (
        (", image to text", "(그림→설명)"),
        ("the share of pictures whose", "그림 가운데 그런 것의 비율"),
    ),
    "text": (
        (", text to image", "(설명→그림)"),
        ("the share of captions whose", "설명 가운데 그런 것의 비율"),
    ),
}


def _recall(cut: int, way: str) -> Metric:
    (english, korean), (share, of) = WAYS[way]
    return Metric(
        f"{NAMES[way]}recall@{cut}",
        "match",
        True,
        (f"recall@{cut}{english}", f"재현율@{cut}{korean}"),
        (
            f"recall@{cut}{english}: {share} right partner is among the {cut} nearest of all; a wrong one "
            f"that is just as near counts as nearer",
            f"재현율@{cut}{korean}: 전체에서 가장 가까운 {cut}개 안에 짝이 드는지를 보아, {of}. 똑같이 "
            f"가까운 틀린 것은 더 가까운 것으로 친다",
        ),
        partial(_recalled, cut=cut, way=way),
        mean_share,
        shares=True,
    )


METRICS = (
    *(_recall(cut, way) for way in WAYS for cut in CUTS),
    Metric(
        "median-rank",
        "match",
        False,
        ("median rank", "순위 중앙값"),
        (
            "median rank: the place among all, 1 being best, at which half of the searches have found the "
            "right partner, both ways counting alike; above 11 to within an eighth",
            "순위 중앙값: 검색의 절반이 짝을 찾는 순위(1이 가장 좋다). 두 방향을 똑같이 치며, 11을 넘으면 "
            "8분의 1 이내로 어림한다",
        ),
        partial(_ranked, way="both"),
        _median,
    ),
)
