"""Pairs of shards that no memory holds, as they are learnt from: read, decoded and forgotten, over and over.

    shards --- read in a drawn order --- some pairs --- without what is held out --- pixels, tokens, ids

The first pairs of the shards, as many as memory has room for, are prepared as any other data: pixels' mean,
tokenizer, lengths, validation and test come from them. Training then reads all shards, those first pairs too,
and passes over every picture whose file is one of validation or test.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.data.caption_arrays import CaptionArrays, subjects_of, wordings_of
from sadari.data.caption_columns import column_of
from sadari.data.caption_sources import Pair, pairs_of
from sadari.data.decode_image import without_warnings
from sadari.data.shards import Shards
from sadari.data.spec_captions import CaptionSpec
from sadari.data.split import joined
from sadari.errors import SadariError
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Int32, Int64, UInt8

TEXTS = {
    "no picture": (
        "{count:,} samples of the shards have no picture and were passed over",
        "샤드의 표본 {count:,}개는 그림이 없어 건너뛰었습니다",
    ),
    "no caption": (
        "{count:,} samples of the shards have no caption and were passed over",
        "샤드의 표본 {count:,}개는 캡션이 없어 건너뛰었습니다",
    ),
    "broken": (
        "{count:,} of {rows:,} pictures of the shards cannot be read and were passed over: {first} (a "
        "picture counts in each pass)",
        "샤드의 그림 {rows:,}장 가운데 {count:,}장은 읽을 수 없어 건너뛰었습니다: {first} (한 번 훑을 "
        "때마다 다시 셉니다)",
    ),
    "left": (
        "{count:,} shards break off and were left there: {first}",
        "샤드 {count:,}개는 중간에 깨져 있어 거기까지만 읽었습니다: {first}",
    ),
}
BROKEN, ENOUGH = 0.05, 200  # share of pictures that may be unreadable, once so many were read


@dataclass
class CaptionStream:
    """All pairs of shards but those held out, some at a time; several threads may encode."""

    urls: tuple[str, ...]
    spec: CaptionSpec
    held: frozenset[bytes]
    """Digests of the files of validation and test pictures."""
    pairs: int
    """About how many the shards have."""
    read: int = 0
    """Pictures that were to be decoded."""
    broken: int = 0
    left: Counter[str] = field(default_factory=Counter)
    """Samples that are no pairs, by why."""
    failures: list[str] = field(default_factory=list)
    """Of shards that break off."""
    first: str = ""
    """Why the first broken picture is none."""
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def forget(self) -> None:
        """Begin to count anew: a climb trains one rung after another on the same stream."""
        self.read = self.broken = 0
        self.left, self.failures, self.first = Counter(), [], ""

    def shards(self, seed: int) -> Shards:
        """Their samples in the order of a seed."""
        return Shards(self.urls, seed=seed, skip_broken=True)

    def trained(self, samples: Shards) -> Iterator[Pair]:
        """The pairs of an epoch that may be learnt from."""
        for pair in pairs_of(samples, self.left):
            if digest(pair.picture) not in self.held:
                yield pair
        self.failures = samples.failures

    def encode(
        self, pairs: Sequence[Pair], seed: Sequence[int]
    ) -> tuple[UInt8[np.ndarray, "B H W C"], Int32[np.ndarray, "B T"], Int64[np.ndarray, " B"]]:
        """Pixels, tokens of a caption each, and equal numbers where a pair is true of another's.

        The captions are drawn as `CaptionArrays.drawn` draws them. A picture that cannot be read is passed
        over. Raises SadariError when these are more than a few.
        """
        spec, pixels, kept = self.spec, [], []
        with without_warnings():
            for pair in pairs:
                try:
                    pixels.append(spec.pictures.decode(pair.picture, pair.key))
                    kept.append(pair)
                except SadariError as error:
                    self._failed(str(error))
        self._saw(len(pairs))
        size = (spec.size, spec.size, spec.pictures.channels)
        said = [self._captions(pair) for pair in kept]
        draw = np.random.default_rng(list(seed))
        chosen = []
        for captions in said:
            languages = sorted({language for language, _ in captions})
            spoken = languages[int(draw.integers(len(languages)))]
            own = [place for place, (language, _) in enumerate(captions) if language == spoken]
            chosen.append(own[int(draw.integers(len(own)))])
        texts = [captions[place][1] for captions, place in zip(said, chosen, strict=True)]
        looks = np.array([list(digest(one.tobytes())) for one in pixels], np.uint8).reshape(-1, 32)
        wordings = [int(found[place]) for found, place in zip(wordings_of(said), chosen, strict=True)]
        ids = joined(subjects_of(looks, said, len(spec.captions)), np.array(wordings, np.int64))
        return (
            np.stack(pixels) if pixels else np.empty((0, *size), np.uint8),
            spec.encode_captions(texts),
            ids,
        )

    def notes(self) -> list[Note]:
        """What was passed over."""
        found = [
            Note.of(TEXTS, key, "warning", count=self.left[key]) for key in TEXTS if self.left.get(key, 0)
        ]
        if self.broken:
            found.append(
                Note.of(TEXTS, "broken", "warning", count=self.broken, rows=self.read, first=self.first)
            )
        if self.failures:
            count, first = len(self.failures), self.failures[0]
            found.append(Note.of(TEXTS, "left", "warning", count=count, first=first))
        return found

    def _captions(self, pair: Pair) -> list[tuple[int, str]]:
        """Captions of the columns that are known, each with the number of its column."""
        columns = {name: place for place, name in enumerate(self.spec.captions)}
        named = ((columns.get(column_of(language)), texts) for language, texts in pair.captions.items())
        return sorted((place, text) for place, texts in named if place is not None for text in texts)

    def _failed(self, why: str) -> None:
        with self._lock:
            self.broken += 1
            self.first = self.first or why

    def _saw(self, count: int) -> None:
        with self._lock:
            self.read += count
        if self.read >= ENOUGH and self.broken > BROKEN * self.read:
            raise SadariError(
                f"{self.broken:,} of {self.read:,} pictures of the shards cannot be read, and more than "
                f"{BROKEN:.0%} are too many; the first: {self.first}"
            )


@dataclass(frozen=True)
class StreamedArrays(CaptionArrays):
    """The first pictures to train on, and the stream of them all."""

    stream: CaptionStream = field(kw_only=True)


def digest(content: bytes) -> bytes:
    """Of a file's bytes, or of pixels: the same for the same."""
    return blake2b(content, digest_size=32).digest()


def held_out(pictures: Iterable[bytes]) -> frozenset[bytes]:
    """Digests of the files that are not to be learnt from."""
    return frozenset(map(digest, pictures))
