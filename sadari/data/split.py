"""Which rows are trained on, which are chosen by, and which are kept for the score."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sadari.errors import SadariError


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
