"""Retrieval: ranks against counting them all, the numbers against their definitions, intervals that hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadari.errors import SadariError
from sadari.metrics import Metric, Resamples, bootstrap, compare, match
from sadari.metrics.match import CUTS, EDGES, METRICS, ranks, summary

BY_NAME = {metric.name: metric for metric in METRICS}


def embedded(
    pictures: int, most: int = 1, width: int = 8, seed: int = 0, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, captions near them in any order, and whose these are; each picture has one at least."""
    draw = np.random.default_rng(seed)
    owners = draw.permutation(np.repeat(np.arange(pictures), draw.integers(1, most + 1, pictures)))
    image = draw.standard_normal((pictures, width))
    text = image[owners] + noise * draw.standard_normal((len(owners), width))
    return _unit(image), _unit(text), owners


def _unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def counted(
    image: np.ndarray,
    text: np.ndarray,
    owners: np.ndarray,
    right: Callable[[int, int], bool] | None = None,
    once: list[int] | None = None,
) -> tuple[list[int], list[int]]:
    """Ranks of pictures among captions, or those of `once`, and of captions, one comparison after another."""
    scores = (image.astype(np.float64) @ text.T.astype(np.float64)).astype(np.float32)
    right = right or (lambda picture, caption: bool(owners[caption] == picture))
    true = np.array([[right(i, j) for j in range(len(text))] for i in range(len(image))])

    def of(row: np.ndarray, mine: np.ndarray) -> int:
        return 1 + int((~mine & (row >= row[mine].max())).sum())

    return (
        [of(row[once or ...], mine[once or ...]) for row, mine in zip(scores, true, strict=True)],
        [of(row, mine) for row, mine in zip(scores.T, true.T, strict=True)],
    )


def apart(found: np.ndarray, owners: np.ndarray) -> tuple[list[int], list[int]]:
    """The ranks of pictures, and of captions in their own order."""
    seen = np.zeros(found.shape[0], int)
    captions = []
    for owner in owners:
        seen[owner] += 1
        captions.append(int(found[owner, seen[owner]]))
    return found[:, 0].tolist(), captions


@given(
    pictures=st.integers(1, 25),
    most=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    coarse=st.booleans(),
    looked=st.sampled_from([1, 3, 64]),
)
@settings(max_examples=60, deadline=None)
def test_ranks_are_those_of_counting_them_all(
    pictures: int, most: int, seed: int, coarse: bool, looked: int
) -> None:
    image, text, owners = embedded(pictures, most, 3, seed)
    if coarse:  # whole numbers, so that many are just as near
        image, text = np.rint(image), np.rint(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(match._rank, "__defaults__", (looked,))
        patch.setattr(match, "BLOCK", 40)  # so that the last block is a ragged one
        found = ranks(image, text, owners)
    assert apart(found, owners) == counted(image, text, owners)
    assert (found > 0).sum() == pictures + len(text)


def test_what_is_said_of_the_same_subject_is_right_and_the_same_words_stand_once() -> None:
    image, text, _ = embedded(6, seed=3)
    owners, text = np.arange(6), text[[0, 1, 1, 3, 4, 4]]
    subjects, wordings = np.array([0, 0, 1, 2, 3, 4]), np.array([0, 1, 1, 2, 3, 3])
    found = ranks(image, text, owners, subjects, wordings)

    def right(i: int, j: int) -> bool:
        return any(subjects[k] == subjects[i] and wordings[k] == wordings[j] for k in range(6))

    assert right(0, 1) and right(0, 2) and right(2, 1) and not right(2, 0)
    assert apart(found, owners) == counted(image, text, owners, right, once=[0, 1, 3, 4])
    alone = ranks(image, text, owners)
    assert (found <= alone).all() and (found < alone).any()
    assert (found[:, 1:][3] == alone[:, 1:][3]).all()  # like none


def test_a_model_to_which_all_is_alike_scores_nothing() -> None:
    """Of equals the search gives the first: row 0 would always be right, and captions in order half."""
    image = np.tile(_unit(np.ones((1, 4))), (200, 1))
    found = ranks(image, image.copy(), np.arange(200))
    assert (found == 200).all()
    numbers = summary(found)
    assert numbers["recall@10"] == 0 and numbers["image-to-text-median-rank"] == 200
    duplicate = np.repeat(embedded(100)[0], 2, 0)  # each picture twice, and nobody can tell which is meant
    assert (ranks(duplicate, duplicate, np.arange(200)) == 2).all()


def test_numbers_are_their_definitions() -> None:
    image, text, owners = embedded(150, 5, seed=1, noise=1.5)
    found = ranks(image, text, owners)
    pictures, captions = map(np.array, counted(image, text, owners))
    numbers = summary(found)
    for cut in CUTS:
        one, other = np.mean(pictures <= cut), np.mean(captions <= cut)
        assert numbers[f"image-to-text-recall@{cut}"] == pytest.approx(one)
        assert numbers[f"text-to-image-recall@{cut}"] == pytest.approx(other)
        assert numbers[f"recall@{cut}"] == pytest.approx((one + other) / 2)
    assert numbers["image-to-text-median-rank"] == np.median(pictures)
    assert numbers["text-to-image-median-rank"] == np.median(captions)
    weights = np.repeat([1 / len(pictures), 1 / len(captions)], [len(pictures), len(captions)])
    pooled = np.concatenate([pictures, captions])
    least = min(rank for rank in pooled if weights[pooled <= rank].sum() >= 1 - 1e-9)
    assert numbers["median-rank"] == pytest.approx(least, rel=0.125)
    assert 0 < numbers["recall@1"] < numbers["recall@5"] < numbers["recall@10"] < 1


@given(found=st.lists(st.integers(1, 10**6), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_the_median_from_means_is_the_median(found: list[int]) -> None:
    exact = sorted(found)[(len(found) - 1) // 2]  # the least that half do not exceed
    both = np.repeat(np.array(found)[:, None], 2, 1)
    score = BY_NAME["median-rank"].score(both, both)
    assert exact / 1.125 <= score <= exact * 1.125 and (score == exact or exact > 11)
    assert EDGES[:11].tolist() == list(range(1, 12))


def test_a_picture_is_one_witness_however_many_captions_it_has() -> None:
    image, text, owners = embedded(80, seed=2)
    one = ranks(image, text, owners)
    again = np.column_stack([one, np.repeat(one[:, 1:], 4, 1)])  # each caption five times
    resamples = Resamples(80)
    for metric in METRICS:
        first, second = (metric.contributions(found, found) for found in (one, again))
        once, often = (astuple(bootstrap(metric, part, resamples)) for part in (first, second))
        assert once == pytest.approx(often)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_an_interval_holds_the_score_and_a_better_model_is_seen(metric: Metric) -> None:
    good, bad = (ranks(*embedded(120, 3, seed=5, noise=noise)) for noise in (1.0, 3.0))
    resamples = Resamples(120)
    parts = [metric.contributions(found, found) for found in (good, bad)]
    for found, part in zip((good, bad), parts, strict=True):
        interval = bootstrap(metric, part, resamples)
        assert interval.low <= interval.score <= interval.high and interval.low < interval.high
        assert interval.score == pytest.approx(metric.score(found, found))
        if metric.shares:
            assert interval.low >= 0 and interval.high <= 1
    assert compare(metric, parts[0], parts[1], resamples).better > 0.99
    same = compare(metric, parts[0], parts[0], resamples)
    assert same.gain == 0 and same.better == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", ["recall@1", "text-to-image-recall@5"])
def test_95_per_cent_of_the_intervals_hold_the_truth(name: str) -> None:
    """Both ways of a picture, and all its captions, hit and miss together: the hardest case."""
    draw, metric, held = np.random.default_rng(0), BY_NAME[name], 0
    for _ in range(400):
        hit = draw.random(60) < 0.7
        found = np.where(hit, 1, 50)[:, None].repeat(4, 1)
        interval = bootstrap(metric, metric.contributions(found, found), _Fixed)
        held += interval.low <= 0.7 <= interval.high
    assert 0.92 <= held / 400 <= 0.99


_Fixed = Resamples(60, resamples=2)  # shares take no resamples


def test_what_does_not_fit_is_named() -> None:
    image, text, owners = embedded(5)
    with pytest.raises(SadariError, match="picture 5 has no caption, so that nothing is right for it"):
        ranks(image, text, np.minimum(owners, 3))
    with pytest.raises(
        SadariError, match="4 owners for 5 captions and 5 pictures: each caption needs the row"
    ):
        ranks(image, text, owners[:4])
    with pytest.raises(SadariError, match="each caption needs the row of its own picture, 0 to 4"):
        ranks(image, text, owners + 1)
    broken = text.copy()
    broken[2, 0] = np.nan
    with pytest.raises(SadariError, match="vector 2 holds NaN or infinity"):
        ranks(image, broken, owners)
    with pytest.raises(SadariError, match="give a matrix"):
        ranks(image, text[:, :3], owners)
