"""Words of a corpus, counted and numbered: what word2vec reads.

A word is a run of letters, digits and underscores of any script, an apostrophe within it included, as the
tokenizer of words has it. Korean particles stay attached:
은행은 and 은행이 are two words beside 은행, each with a vector of its own. Lines end sentences.
"""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from sadari.errors import SadariError

END = -1  # in the stream of numbers: a line is over
_WORD = re.compile(r"\w+(?:['’][^\W\d_]+)*|\n")  # one pass finds words and the ends of lines
_BLOCK = 1 << 22  # characters that are split at once


@dataclass(frozen=True)
class Words:
    """A corpus as numbers of words, the most frequent word 0."""

    names: list[str]
    """The vocabulary (V), by falling count; equal counts in the order of the text."""
    counts: np.ndarray
    """(V,) int64: how often each occurs."""
    stream: np.ndarray
    """(N,) int32: the text as numbers, END at the end of each line, rare words gone; mapped from a temporary
    file, so that a text larger than memory has room.
    """
    rare: int
    """Words of the text, each counted as often as it occurs, that were below `min_count`."""

    @property
    def total(self) -> int:
        """Words of the text that are in the vocabulary."""
        return int(self.counts.sum())


def read_words(documents: Iterable[str], min_count: int = 5, lower: bool = False) -> Words:
    """Split, count and number the words of `documents`; those met less than `min_count` times are dropped.

    They are dropped before any window is laid, as in word2vec.c, so that their neighbours close ranks.
    Raises SadariError when no word is left.
    """
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__  # a new word gets the next number
    assert numbers["\n"] == 0
    counts = np.zeros(1, np.int64)
    with tempfile.TemporaryFile(prefix="sadari-words-") as file:
        for block in _blocks(documents):
            found = _WORD.findall(block.lower() if lower else block)
            ids = np.fromiter(map(numbers.__getitem__, found), np.int32, len(found))
            ids.tofile(file)
            counts = np.bincount(ids, minlength=len(numbers)) + np.pad(
                counts, (0, len(numbers) - len(counts))
            )
        counts[0] = 0  # the end of a line is no word
        order = np.argsort(-counts, kind="stable")
        kept = int((counts >= max(min_count, 1)).sum())
        if not kept:
            raise SadariError(
                f"no word occurs {min_count} times (the most frequent: {counts.max():,}); give more text or "
                f"a smaller --min-count"
            )
        rename = np.full(len(counts), END - 1, np.int32)
        rename[order[:kept]] = np.arange(kept, dtype=np.int32)
        rename[0] = END
        stream = _renamed(file, rename)
    names = list(numbers)
    total = int(counts.sum())
    kept_counts = counts[order[:kept]]
    return Words(
        [names[number] for number in order[:kept]], kept_counts, stream, total - int(kept_counts.sum())
    )


def _renamed(file: IO[bytes], rename: np.ndarray) -> np.ndarray:
    """The numbers in `file` by their new names, without those that have none and without empty lines."""
    with tempfile.TemporaryFile(prefix="sadari-words-") as out:
        file.seek(0)
        last = END
        while len(ids := np.fromfile(file, np.int32, _BLOCK)):
            ids = rename[ids]
            ids = ids[ids >= END]
            if not len(ids):
                continue
            before = np.concatenate([np.array([last], np.int32), ids[:-1]])
            ids, last = ids[(ids != END) | (before != END)], int(ids[-1])
            ids.tofile(out)
        out.flush()
        return np.memmap(out, np.int32, "c")  # outlives the handle; writable, as the kernel was compiled for


def _blocks(documents: Iterable[str]) -> Iterator[str]:
    """Whole documents together, a line's end behind each, about `_BLOCK` characters at a time."""
    held, size = [], 0
    for document in documents:
        held.append(document)
        size += len(document) + 1
        if size >= _BLOCK:
            yield "\n".join(held) + "\n"
            held, size = [], 0
    if held:
        yield "\n".join(held) + "\n"
