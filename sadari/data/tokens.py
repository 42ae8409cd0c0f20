"""A corpus as one long row of integers, tokenised once on all processors and then mapped, not read.

1. read       documents, in blocks of a few megabytes, while the block before is being tokenised
2. tokenise   a block at once: the library spreads it over the processors
3. write      each document, END behind it, to the file of its part of the split: two bytes a token

In memory are two blocks and three numbers a document, whatever the corpus holds.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from sadari.data.corpus import Corpus
from sadari.data.mapped import map_array
from sadari.data.tokenizers import Tokenizer
from sadari.errors import SadariError
from sadari.files import make_folder, read_json, write_json

if TYPE_CHECKING:
    from jaxtyping import Int64, Shaped

PARTS = ("train", "validation", "test")
_BLOCK = 1 << 21  # characters that are tokenised at once
_NARROW = 1 << 16  # below that many tokens, two bytes hold one


@dataclass(frozen=True)
class Stream:
    """Documents one after another, each with the END token behind it."""

    tokens: Shaped[np.ndarray, " N"]
    """Uint16 where the vocabulary is below 65,536, else int32; mapped from a file when there are many."""
    starts: Int64[np.ndarray, " D1"]
    """Document d is tokens[starts[d] : starts[d + 1]], its END included."""
    bytes: Int64[np.ndarray, " D"]
    """UTF-8 bytes of each document's text, and one for its END: what bits per byte divides by."""

    @property
    def features(self) -> Shaped[np.ndarray, " N"]:
        """The tokens, under the name that they have in every part of prepared data."""
        return self.tokens

    @property
    def targets(self) -> Int64[np.ndarray, " D"]:
        """The bytes."""
        return self.bytes

    @property
    def documents(self) -> int:
        return len(self.bytes)


def tokenise(
    corpus: Corpus, tokenizer: Tokenizer, part: np.ndarray, folder: Path | None, memory: int
) -> list[Stream]:
    """The streams of the parts 0, 1 and 2; `part` (D,) says of each document which is its own.

    With a `folder` they are raw files below it, found again under a name made of the content, the split and
    the tokenizer; without one they are in memory. Raises SadariError when the disk is full.
    """
    if folder is None:
        sink = _Memory(tokenizer.size)
        _run(corpus, tokenizer, part, sink)
        return sink.streams()
    said = json.dumps([corpus.fingerprint, hashlib.sha256(part.tobytes()).hexdigest(), tokenizer.fingerprint])
    place = folder / hashlib.sha256(said.encode()).hexdigest()[:32]

    def write(fresh: Path) -> None:
        with _Files(fresh) as files:
            _run(corpus, tokenizer, part, files)

    try:
        make_folder(place, write)
    except OSError as error:
        raise SadariError(
            f"cannot write the tokens of {corpus.name} to {folder} ({error.strerror}); free some space"
        ) from error
    return _map(place, tokenizer.size, memory)


def _kind(size: int) -> type:
    return np.uint16 if size < _NARROW else np.int32


def _run(corpus: Corpus, tokenizer: Tokenizer, part: np.ndarray, sink: _Memory | _Files) -> None:
    """Tokenise each document and give it to the sink; the next block is read in the meantime."""
    kind, end = _kind(tokenizer.size), tokenizer.end
    first = 0
    with ThreadPoolExecutor(1) as reader:
        blocks = _blocks(corpus)
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            here = part[first : first + len(block)]
            found = tokenizer.encode_flat(block, kind, end)
            sizes = np.array([len(text.encode()) + 1 for text in block], np.int64)
            sink.add(*found, sizes, here)
            first += len(block)
    if first != len(part):
        raise SadariError(f"{corpus.name} has changed while it was read; run it again")


def _blocks(corpus: Corpus) -> Iterator[list[str]]:
    block: list[str] = []
    size = 0
    for text in corpus.documents():
        block.append(text)
        size += len(text)
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


class _Sink:
    """Takes blocks of tokens apart into the three parts."""

    def __init__(self) -> None:
        self.lengths = [array("q") for _ in PARTS]
        self.bytes = [array("q") for _ in PARTS]

    def add(self, tokens: np.ndarray, lengths: np.ndarray, sizes: np.ndarray, part: np.ndarray) -> None:
        """The tokens of a block's documents one after another, how many each has, and its bytes."""
        owner = np.repeat(part, lengths)
        for number in range(len(PARTS)):
            mine = part == number
            self.put(number, tokens[owner == number])
            self.lengths[number].frombytes(lengths[mine].tobytes())
            self.bytes[number].frombytes(sizes[mine].tobytes())

    def put(self, number: int, tokens: np.ndarray) -> None:
        raise NotImplementedError

    def starts(self, number: int) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(np.array(self.lengths[number], np.int64))]).astype(np.int64)


class _Memory(_Sink):
    """The parts as arrays."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.tokens: list[list[np.ndarray]] = [[np.empty(0, _kind(size))] for _ in PARTS]

    def put(self, number: int, tokens: np.ndarray) -> None:
        self.tokens[number].append(tokens)

    def streams(self) -> list[Stream]:
        return [
            Stream(
                np.concatenate(self.tokens[number]),
                self.starts(number),
                np.array(self.bytes[number], np.int64),
            )
            for number in range(len(PARTS))
        ]


class _Files(_Sink):
    """The parts as raw files; `counts.json` comes last."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.stack = folder, ExitStack()
        self.files: list[BinaryIO] = []

    def __enter__(self) -> _Files:
        paths = [self.folder / f"{name}.tokens" for name in PARTS]
        self.files = [self.stack.enter_context(path.open("wb")) for path in paths]
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()
        if error[0] is None:
            for number, name in enumerate(PARTS):
                self.starts(number).tofile(self.folder / f"{name}.starts")
                np.array(self.bytes[number], np.int64).tofile(self.folder / f"{name}.bytes")
            write_json(
                self.folder / "counts.json", {name: len(self.bytes[n]) for n, name in enumerate(PARTS)}
            )

    def put(self, number: int, tokens: np.ndarray) -> None:
        self.files[number].write(tokens.tobytes())


def _map(place: Path, size: int, memory: int) -> list[Stream]:
    counts = read_json(place / "counts.json", "a folder of tokens")
    streams = []
    for name in PARTS:
        starts = np.fromfile(place / f"{name}.starts", np.int64)
        sizes = np.fromfile(place / f"{name}.bytes", np.int64)
        if len(sizes) != counts[name] or len(starts) != len(sizes) + 1:
            raise SadariError(
                f"{place} is damaged ({name} has {len(sizes):,} of {counts[name]:,} documents); delete it"
            )
        count = int(starts[-1])
        path = place / f"{name}.tokens"
        tokens = map_array(path, _kind(size), (count,), memory // 2) if count else np.empty(0, _kind(size))
        streams.append(Stream(tokens, starts, sizes))
    return streams
