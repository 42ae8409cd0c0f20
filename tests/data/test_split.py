"""Splits: every row once, one split a seed, classes in their shares, groups whole, official rows kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.data.split import Split, split_rows
from sadari.errors import SadariError


def parts(split: Split) -> list[np.ndarray]:
    return [split.train, split.validation, split.test]


@given(st.integers(3, 300), st.integers(0, 2**32 - 1))
def test_every_row_is_in_one_part_and_no_part_is_empty(rows: int, seed: int) -> None:
    split = split_rows(rows, seed)
    assert np.array_equal(np.sort(np.concatenate(parts(split))), np.arange(rows))
    for part in parts(split):
        assert len(part) > 0
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    assert abs(len(split.train) - 0.6 * rows) <= 1
    assert abs(len(split.test) - 0.2 * rows) <= 1


def test_the_seed_alone_decides() -> None:
    assert split_rows(500, 7).fingerprint == split_rows(500, 7).fingerprint
    assert len({split_rows(500, seed).fingerprint for seed in range(20)}) == 20


def test_the_fingerprint_knows_which_part_a_row_is_in() -> None:
    one, two = np.arange(2), np.arange(2, 4)
    assert Split(one, two, two).fingerprint != Split(two, one, two).fingerprint
    assert (
        Split(np.arange(3), np.arange(0), two).fingerprint
        != Split(np.arange(2), np.array([2]), two).fingerprint
    )


def test_every_row_has_the_same_chance() -> None:
    """Over 2,000 seeds each of 10 rows is trained on in 60 % of them, within 5 standard errors."""
    hits = np.zeros(10)
    for seed in range(2000):
        hits[split_rows(10, seed).train] += 1
    assert np.abs(hits / 2000 - 0.6).max() < 5 * np.sqrt(0.6 * 0.4 / 2000)


@given(
    st.lists(st.integers(0, 4), min_size=10, max_size=200).filter(lambda labels: len(set(labels)) > 1),
    st.integers(0, 1000),
)
def test_classes_keep_their_shares_and_none_is_missing_from_training(labels: list[int], seed: int) -> None:
    strata = np.array(labels)
    split = split_rows(len(strata), seed, strata=strata)
    assert set(strata[split.train]) == set(strata)
    for label in set(labels):
        count = (strata == label).sum()
        for part, share in zip(parts(split), (0.6, 0.2, 0.2), strict=True):
            assert abs((strata[part] == label).sum() - share * count) <= 2


@given(st.lists(st.integers(0, 12), min_size=10, max_size=200), st.integers(0, 1000), st.booleans())
def test_groups_are_kept_together(names: list[int], seed: int, stratified: bool) -> None:
    groups = np.array(names)
    if len(set(names)) < 3:
        return
    strata = np.arange(len(groups)) % 2 if stratified else None
    split = split_rows(len(groups), seed, groups=groups, strata=strata)
    sides = [set(groups[part]) for part in parts(split)]
    assert all(sides)
    assert sum(map(len, sides)) == len(set(names))
    assert sum(map(len, parts(split))) == len(groups)


def test_groups_may_be_text_and_reach_their_shares() -> None:
    groups = np.array([f"patient {row // 4}" for row in range(1000)])
    assert [len(part) for part in parts(split_rows(1000, 0, groups=groups))] == [600, 200, 200]


def test_official_test_rows_stay_the_test() -> None:
    strata = np.arange(1000) % 3
    split = split_rows(1000, 5, strata=strata, official_test=100)
    assert np.array_equal(split.test, np.arange(900, 1000))
    assert (len(split.train), len(split.validation)) == (720, 180)
    assert np.array_equal(np.sort(np.r_[split.train, split.validation]), np.arange(900))
    assert [(strata[split.validation] == label).sum() for label in range(3)] == [60, 60, 60]


def test_kept_rows_give_a_tables_own_numbers() -> None:
    kept = np.array([2, 3, 5, 8, 13])
    split = split_rows(5, 0)
    assert np.array_equal(split.of(kept).train, kept[split.train])
    assert np.array_equal(np.sort(np.concatenate(parts(split.of(kept)))), kept)


def test_too_few_rows_or_groups() -> None:
    with pytest.raises(SadariError, match="2 rows with a target cannot be divided into 3 parts; at least 3"):
        split_rows(2, 0)
    with pytest.raises(SadariError, match="2 groups cannot be divided into 3 parts"):
        split_rows(6, 0, groups=np.array([1, 1, 1, 2, 2, 2]))
    with pytest.raises(SadariError, match="1 rows with a target cannot be divided into 2 parts"):
        split_rows(10, 0, official_test=9)


def test_groups_of_one_row_keep_their_own_class() -> None:
    draw = np.random.default_rng(0)
    strata = np.arange(300) % 3
    split = split_rows(300, 0, strata=strata, groups=draw.permutation(300))
    for part in (split.train, split.validation, split.test):
        assert np.bincount(strata[part]).tolist() == [len(part) // 3] * 3
