"""Pictures and their captions as arrays, and which pairs of a batch are true of each other.

What a picture has in common with others decides what a contrastive loss may push apart:

    subject   same pixels, or the same first caption in every language (one emoji, drawn by five artists)
    wording   same words in a caption, case and white space aside ("sunset", said of many pictures)

Two pairs of a batch whose subject or wording is the same are known positives: `known_positives` numbers them
alike, and both losses mask them, so that no model is taught that a true caption is false.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sadari.data.split import joined

if TYPE_CHECKING:
    from jaxtyping import Int32, Int64, UInt8

Said = Sequence[Sequence[tuple[int, str]]]
"""The captions of each picture with the places of their columns, in these places' order (`captions_of`)."""


@dataclass(frozen=True)
class CaptionArrays:
    """Pictures of one part with all their captions, in the table's order.

    Picture n has the captions `starts[n]` to `starts[n + 1]`: rows of `tokens`, K in all.
    """

    features: UInt8[np.ndarray, "N H W C"]
    """Pixels, 0 to 255; mapped from a file when they are many."""
    targets: Int32[np.ndarray, "K T"]
    """Tokens of the captions, PAD at the right."""
    starts: Int64[np.ndarray, " N1"]
    """Where each picture's captions begin, and behind the last, K."""
    languages: UInt8[np.ndarray, " K"]
    """Of each caption: the place of its column in the spec's `captions`."""
    subjects: Int64[np.ndarray, " N"]
    """The same number for pictures of the same thing, in all parts."""
    wordings: Int64[np.ndarray, " K"]
    """The same number for captions of the same words, in all parts."""
    texts: pl.Series
    """(K,) the captions as they are written."""

    @property
    def tokens(self) -> Int32[np.ndarray, "K T"]:
        return self.targets

    def firsts(self, language: int = 0) -> Int64[np.ndarray, " N"]:
        """The first caption (a row of `tokens`) of each picture in a language; -1 where it has none."""
        found = np.full(len(self.starts) - 1, -1, np.int64)
        owners = np.repeat(np.arange(len(found)), np.diff(self.starts))
        rows = np.flatnonzero(self.languages == language)[::-1]  # the first is written last
        found[owners[rows]] = rows
        return found

    def drawn(self, pictures: Int64[np.ndarray, " B"], draw: np.random.Generator) -> Int64[np.ndarray, " B"]:
        """One caption (a row of `tokens`) for each picture: a language that it has, then one of that."""
        begins, ends = self.starts[pictures], self.starts[pictures + 1]
        languages = int(self.languages.max(initial=0)) + 1
        counts = np.zeros((len(pictures), languages), np.int64)
        width = int((ends - begins).max(initial=0))
        place = begins[:, None] + np.arange(width)  # (B, most captions)
        real = place < ends[:, None]
        spoken = np.where(real, self.languages[np.where(real, place, 0)], 0).astype(np.int64)
        np.add.at(counts, (np.nonzero(real)[0], spoken[real]), 1)
        has = counts > 0
        nth = (draw.random(len(pictures)) * has.sum(1)).astype(np.int64)
        language = (has.cumsum(1) > nth[:, None]).argmax(1)
        before = np.where(np.arange(languages) < language[:, None], counts, 0).sum(1)
        own = counts[np.arange(len(pictures)), language]
        return begins + before + (draw.random(len(pictures)) * own).astype(np.int64)

    def known_positives(
        self, pictures: Int64[np.ndarray, " B"], captions: Int64[np.ndarray, " B"]
    ) -> Int64[np.ndarray, " B"]:
        """A number for each pair of a batch, the same for those that are true of each other.

        `pictures` are rows of `features`, `captions` rows of `tokens`: of the same subject, or of the same
        wording, or joined by others of the batch that are.
        """
        return joined(self.subjects[pictures], self.wordings[captions])


def subjects_of(pixels: UInt8[np.ndarray, "N 32"], captions: Said, columns: int) -> Int64[np.ndarray, " N"]:
    """A number for each picture, the same for the same pixels and for the same first captions.

    `pixels` are digests, `columns` is how many columns of captions there are. Pictures without a caption in
    one of them are like none by their words.
    """
    firsts = []
    for row, found in enumerate(captions):
        first = {column: _plain(text) for column, text in reversed(found)}
        firsts.append(tuple(sorted(first.items())) if len(first) == columns else row)
    numbers: dict[object, int] = {}
    words = np.array([numbers.setdefault(first, len(numbers)) for first in firsts], np.int64)
    return joined(codes_of(pixels), words)


def wordings_of(captions: Said) -> list[Int64[np.ndarray, " k"]]:
    """A number for each caption of each picture, the same for the same words."""
    numbers: dict[str, int] = {}
    return [
        np.array([numbers.setdefault(_plain(text), len(numbers)) for _, text in found], np.int64)
        for found in captions
    ]


def codes_of(digests: UInt8[np.ndarray, "N 32"]) -> Int64[np.ndarray, " N"]:
    """A number for each row, the same for the same digest."""
    whole = np.ascontiguousarray(digests).view("V32").ravel()
    return np.unique(whole, return_inverse=True)[1].astype(np.int64)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
