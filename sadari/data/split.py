"""Which rows are trained on, which are chosen by, and which are kept for the score."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sadari.errors import SadariError

_FEW_GROUPS = 5


@dataclass(frozen=True)
class Split:
    """Row numbers of a table, int64, each part in file order, no row in two parts."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the three parts."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            digest.update(len(part).to_bytes(8, "little") + part.astype("<i8").tobytes())
        return digest.hexdigest()

    def of(self, kept: np.ndarray) -> Split:
        """The same split said in the row numbers `kept`, of which this one counted the places."""
        return Split(kept[self.train], kept[self.validation], kept[self.test])


def split_rows(
    rows: int,
    seed: int,
    *,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    official_test: int = 0,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
) -> Split:
    """Divide rows at random into training, validation and test by `fractions`; a seed gives one split.

    `strata` (N,): a class for each row; each part then holds each class in nearly the same share, and
    training at least one row of every class as long as there is room. `groups` (N,): rows of one group stay
    together. With `official_test`, the last so many rows are the test, and a fifth of the others is for
    validation. Raises SadariError when a part would be empty: fewer than three rows or groups.
    """
    free = rows - official_test
    if official_test:
        fractions = (0.8, 0.2, 0.0)
    unit, size = (
        np.arange(free),
        np.ones(free, np.int64),
    )  # what is dealt out: rows one by one, or whole groups
    if groups is not None:
        _, unit, size = np.unique(groups[:free], return_inverse=True, return_counts=True)
    parts = 2 if official_test else 3
    if len(size) < parts:
        what = "rows with a target" if groups is None else "groups"
        raise SadariError(
            f"{len(size)} {what} cannot be divided into {parts} parts; at least {parts} are needed, hundreds "
            f"to learn"
        )
    stratum = (
        np.zeros(len(size), np.int64) if strata is None else _unit_strata(strata[:free], unit, len(size))
    )
    order = _order(stratum, np.random.default_rng(seed))
    before = np.cumsum(size[order])  # rows up to and with each unit
    first = int(np.clip(np.searchsorted(before, fractions[0] * free + 0.5), 1, len(size) - parts + 1))
    second = len(size)
    if not official_test:
        second = int(
            np.clip(np.searchsorted(before, sum(fractions[:2]) * free + 0.5), first + 1, len(size) - 1)
        )
    part = np.full(len(size), 2, np.int8)
    part[order[:first]], part[order[first:second]] = 0, 1
    part = part[unit]  # (N,)
    test = np.arange(free, rows) if official_test else np.flatnonzero(part == 2)
    return Split(np.flatnonzero(part == 0), np.flatnonzero(part == 1), test)


def deal_groups(groups: np.ndarray, share: float, most: int, seed: int) -> Split:
    """A split of rows with group numbers (N,): a `share` each, and `most` rows, to validation and to test.

    Groups that would fill a quarter of such a part train, unless hardly any other is there: what is chosen by
    and scored should be many things. Raises SadariError for fewer than three groups.
    """
    free = np.flatnonzero(~in_large(groups, share))
    if len(np.unique(groups[free])) < _FEW_GROUPS:
        free = np.arange(len(groups))
    part = min(0.25, share * len(groups) / len(free))
    dealt = split_rows(len(free), seed, groups=groups[free], fractions=(1 - 2 * part, part, part)).of(free)
    validation, test = (_at_most(rows, groups, most) for rows in (dealt.validation, dealt.test))
    train = np.setdiff1d(np.arange(len(groups)), np.concatenate([validation, test]))
    return Split(train, validation, test)


def in_large(groups: np.ndarray, share: float) -> np.ndarray:
    """(N,) whether a row's group has more than two rows and more than a quarter of a `share` of all."""
    return np.bincount(groups)[groups] > max(2.0, share * len(groups) / 4)


def with_training(split: Split, together: np.ndarray) -> tuple[Split, int]:
    """The split with groups (N,) that stand in several parts moved to training whole; how many rows came."""
    part = np.empty(len(together), np.int8)
    for number, rows in enumerate((split.train, split.validation, split.test)):
        part[rows] = number
    first, last = np.full(len(part), 2, np.int8), np.zeros(len(part), np.int8)
    np.minimum.at(first, together, part)
    np.maximum.at(last, together, part)
    moves = (first != last)[together] & (part > 0)
    part[moves] = 0
    return Split(*(np.flatnonzero(part == number) for number in range(3))), int(moves.sum())


def _at_most(rows: np.ndarray, groups: np.ndarray, most: int) -> np.ndarray:
    """The rows of as many whole groups as go into `most`, one group at least."""
    _, first, unit, sizes = np.unique(
        groups[rows], return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first, kind="stable")
    stays = np.empty(len(sizes), bool)
    stays[order] = np.cumsum(sizes[order]) <= most
    stays[order[0]] = True
    return rows[stays[unit]]


def joined(*labels: np.ndarray) -> np.ndarray:
    """Group numbers (N,) of rows that share a label in any of `labels` (N,), by one step or by many.

    To be split by: two rows of one group may have no label in common, but rows of two groups have none.
    """
    first, *others = (np.unique(column, return_inverse=True)[1].astype(np.int64) for column in labels)
    if not others:
        return first
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([int(codes.max(initial=-1)) + 1 for codes in (first, *others)])  # a node is a label
    ends = np.concatenate([start + codes for start, codes in zip(starts, others, strict=False)])
    edges = np.tile(first, len(others)), ends
    graph = coo_array((np.ones(len(ends), np.int8), edges), shape=(int(starts[-1]), int(starts[-1])))
    return connected_components(graph, directed=False)[1][first].astype(np.int64)


def _unit_strata(strata: np.ndarray, unit: np.ndarray, units: int) -> np.ndarray:
    """The most common class of each unit."""
    codes = np.unique(strata, return_inverse=True)[1]
    if len(codes) == units:
        alone = np.empty_like(codes)
        alone[unit] = codes
        return alone
    counts = np.zeros((units, codes.max() + 1), np.int64)
    np.add.at(counts, (unit, codes), 1)
    return counts.argmax(1)


def _order(stratum: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Units so ordered that any stretch holds each stratum in its share; one of each comes first."""
    shuffled = draw.permutation(len(stratum))
    shuffled = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    sizes = np.bincount(stratum)
    rank = np.arange(len(stratum)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = (rank + np.repeat(draw.random(len(sizes)), sizes)) / np.repeat(sizes, sizes)  # 0 to 1
    place[rank == 0] = -1  # a class that training has never seen cannot be learnt
    return shuffled[np.argsort(place, kind="stable")]
