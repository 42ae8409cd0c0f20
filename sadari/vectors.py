"""Word vectors: neighbours, analogies, and the file formats of word2vec, which gensim and others read too.

text     a line "V C", then a line a word: the word and its C numbers, spaces between
binary   a line "V C", then for each word: the word, a space, C float32 in little-endian order
"""

from __future__ import annotations

import io
import json
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sadari import files
from sadari.errors import SadariError

BINARY, TEXT, ABOUT = "vectors.bin", "vectors.txt", "embed.json"
"""What a folder of `sadari embed` holds: the vectors in one format, and what made them."""
_LONGEST = 10_000  # bytes of a word
_ROWS = 4096  # written at once


@dataclass(frozen=True)
class WordVectors:
    """Words with a vector each, the most frequent first as word2vec files have them."""

    words: list[str]
    """(V) each once, without white space."""
    matrix: np.ndarray
    """(V, C) float32, finite."""
    about: dict[str, Any] = field(default_factory=dict, repr=False)
    """What made them, where that is known: settings, data, the loss of each epoch."""
    path: Path | None = None
    """The folder or file that they were loaded from or written to."""

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or len(self.words) != len(self.matrix) or not self.matrix.size:
            raise SadariError(
                f"{len(self.words):,} words with a matrix of shape {self.matrix.shape}: give one row of "
                f"numbers for each word"
            )

    @cached_property
    def index(self) -> dict[str, int]:
        """Each word's row."""
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def unit(self) -> np.ndarray:
        """(V, C) float32: the rows at length 1; a row of zeros stays."""
        lengths = np.linalg.norm(self.matrix, axis=1, keepdims=True)
        return self.matrix / np.where(lengths > 0, lengths, 1)

    def __contains__(self, word: str) -> bool:
        return word in self.index

    def row(self, word: str) -> int:
        """The word's row. Raises SadariError with words spelt nearly so when it has none."""
        if word in self.index:
            return self.index[word]
        near = get_close_matches(word, self.words[:50_000], n=3)
        meant = f"did you mean {' or '.join(near)}?" if near else "words met too rarely have no vector"
        raise SadariError(f"there is no vector for {word!r} among {len(self.words):,} words; {meant}")

    def similarity(self, a: str, b: str) -> float:
        """Cosine of two words' vectors, from -1 to 1."""
        return float(self.unit[self.row(a)] @ self.unit[self.row(b)])

    def near(self, word: str, k: int = 10) -> list[tuple[str, float]]:
        """The k words whose vectors point most nearly where `word`'s does, with their cosines."""
        return self._nearest(self.unit[self.row(word)], k, [self.row(word)])

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """a is to b as c is to what? The k words nearest to b - a + c, the three left out, with cosines.

        Each of the three counts by its direction alone (3CosAdd, Levy & Goldberg 2014), as in gensim.
        """
        rows = [self.row(word) for word in (a, b, c)]
        target = self.unit[rows[1]] - self.unit[rows[0]] + self.unit[rows[2]]
        length = float(np.linalg.norm(target))
        return self._nearest(target / (length or 1.0), k, rows)

    def _nearest(self, target: np.ndarray, k: int, without: Sequence[int]) -> list[tuple[str, float]]:
        cosines = self.unit @ target
        cosines[list(without)] = -np.inf
        k = max(0, min(k, len(self.words) - len(set(without))))
        order = np.argsort(-cosines, kind="stable")[:k]
        return [(self.words[row], float(cosines[row])) for row in order]

    def matrix_for(self, tokens: Sequence[str], dim: int) -> tuple[np.ndarray, np.ndarray]:
        """First weights for an embedding of `tokens` (T): (T, dim) float32, zero where `found` (T,) is False.

        A token that has no vector as it is written is looked up in small letters.
        Raises SadariError when the vectors are not `dim` wide.
        """
        width = self.matrix.shape[1]
        if width != dim:
            raise SadariError(
                f"these vectors have {width} numbers a word, the embedding {dim}; use --width {width}"
            )
        rows = [self.index.get(token, self.index.get(token.lower(), -1)) for token in tokens]
        found = np.array(rows, dtype=np.int64) >= 0
        matrix = np.zeros((len(tokens), dim), np.float32)
        matrix[found] = self.matrix[[row for row in rows if row >= 0]]
        return matrix, found

    def save(self, path: str | Path, binary: bool | None = None) -> Path:
        """Write the word2vec format, binary where `binary` says so or the name ends in .bin, else text.

        Text has the shortest digits that read back to the same float32. Raises SadariError for a word that
        the format cannot hold (with white space in it, or empty) and when the disk does not take it.
        """
        path = Path(path)
        for word in self.words:
            if not word or word.split() != [word]:
                raise SadariError(
                    f"the word {word!r} is empty or holds white space, by which word2vec's formats end "
                    f"words; leave it out"
                )
        if binary is None:
            binary = path.suffix == ".bin"
        content = self._binary() if binary else self._text()
        files.write_atomic(path, content)
        return path

    def _binary(self) -> bytes:
        out = io.BytesIO()
        out.write(b"%d %d\n" % self.matrix.shape)
        for word, row in zip(self.words, self.matrix.astype("<f4"), strict=True):
            out.write(word.encode() + b" " + row.tobytes())
        return out.getvalue()

    def _text(self) -> bytes:
        out = io.StringIO()
        out.write("{} {}\n".format(*self.matrix.shape))
        for first in range(0, len(self.words), _ROWS):
            rows = np.ascontiguousarray(self.matrix[first : first + _ROWS]).astype(str).tolist()
            for word, row in zip(self.words[first : first + _ROWS], rows, strict=True):
                out.write(f"{word} {' '.join(row)}\n")
        return out.getvalue().encode()

    @classmethod
    def load(cls, path: str | Path, binary: bool | None = None) -> WordVectors:
        """Read a file in either format (told by its content unless `binary` says), or a folder of ours.

        Raises SadariError, with the place, when a file is cut off, promises more than it holds, or has a word
        twice, a word that is not UTF-8, or a number that is none.
        """
        path = Path(path)
        folder, about = path, {}
        if path.is_dir():
            about = files.read_json(path / ABOUT, "a folder of word vectors")
            path = next((path / name for name in (BINARY, TEXT) if (path / name).is_file()), path / BINARY)
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                words, width = _header(file.readline(100), path)
                if binary is None:
                    binary = not _looks_like_text(file.read(1 << 16), width)
                least = words * ((4 if binary else 2) * width + 2) - 1  # a letter and a space; a line's end
                begin = _after_header(file)
                if size - begin < least:
                    raise SadariError(
                        f"{path} promises {words:,} words of {width:,} numbers but is too short for them "
                        f"({size:,} bytes); get the whole file"
                    )
                read = _read_binary if binary else _read_text
                names, matrix = read(file, begin, words, width, path)
        except OSError as error:
            raise SadariError(
                f"cannot read word vectors from {path} ({error.strerror}); give the folder or file that "
                f"`sadari embed` wrote, or a word2vec file"
            ) from error
        if len(set(names)) < len(names):
            seen: set[str] = set()
            twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise SadariError(f"{path} has the word {twice!r} twice; keep one of its vectors")
        broken = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if len(broken):
            raise SadariError(
                f"{path}: the vector of {names[broken[0]]!r} (word {broken[0] + 1:,}) has a number that is "
                f"not finite; leave the word out"
            )
        return cls(names, matrix, about, folder)


def is_vectors(path: str | Path) -> bool:
    """True for a folder of `sadari embed`, and for a file that begins as a word2vec file does."""
    path = Path(path)
    if path.is_dir():
        return (path / ABOUT).is_file()
    try:
        with open(path, "rb") as file:
            _header(file.readline(100), path)
    except (OSError, SadariError):
        return False
    return True


def _header(line: bytes, path: Path) -> tuple[int, int]:
    parts = line.split()
    if line.endswith(b"\n") and len(parts) == 2 and all(part.isdigit() for part in parts):
        words, width = map(int, parts)
        if words and width:
            return words, width
    raise SadariError(
        f"{path} is no word2vec file: its first line is not two numbers, words and width; give a file in "
        f"word2vec's text or binary format"
    )


def _after_header(file: io.BufferedReader) -> int:
    file.seek(0)
    file.readline(100)
    return file.tell()


def _looks_like_text(sample: bytes, width: int) -> bool:
    """Whether what follows the header is a line of a word and `width` numbers (or the sample ends before)."""
    line, end, _ = sample.partition(b"\n")
    parts = line.split()
    if not end:
        parts = parts[:-1]  # the last one may be cut
    if len(parts) < 2 or (end and len(parts) != width + 1):
        return False
    try:
        [float(part) for part in parts[1:]]
    except ValueError:
        return False
    return True


def _name(raw: bytes, number: int, path: Path) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise SadariError(f"{path}: word {number:,} is not UTF-8 ({error.reason}); leave it out") from error


def _read_binary(
    file: io.BufferedReader, begin: int, words: int, width: int, path: Path
) -> tuple[list[str], np.ndarray]:
    names, matrix = [], np.empty((words, width), np.float32)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = begin
        for row in range(words):
            while content[at : at + 1] == b"\n":  # word2vec.c ends each vector with one, gensim does not
                at += 1
            space = content.find(b" ", at, at + _LONGEST)
            after = space + 1 + 4 * width
            if space < 0 or after > len(content):
                raise SadariError(
                    f"{path} is cut off or broken at word {row + 1:,} of {words:,}; get the whole file"
                )
            names.append(_name(content[at:space], row + 1, path))
            matrix[row] = np.frombuffer(content, "<f4", width, space + 1)
            at = after
    return names, matrix


def _read_text(
    file: io.BufferedReader, begin: int, words: int, width: int, path: Path
) -> tuple[list[str], np.ndarray]:
    names, matrix = [], np.empty((words, width), np.float32)
    file.seek(begin)
    for row, line in zip(range(words), _lines(file, _LONGEST + 64 * width), strict=False):
        parts = line.split()
        if len(parts) != width + 1:
            raise SadariError(
                f"{path}: line {row + 2:,} has {max(len(parts) - 1, 0):,} numbers behind its word, not "
                f"{width:,}; get the whole file"
            )
        names.append(_name(parts[0], row + 1, path))
        try:
            with np.errstate(over="ignore"):  # infinite then, which is refused
                matrix[row] = [float(part) for part in parts[1:]]
        except ValueError as error:
            raise SadariError(
                f"{path}: line {row + 2:,} holds something that is no number ({error}); mend that line"
            ) from error
    if len(names) < words:
        raise SadariError(f"{path} ends after {len(names):,} of {words:,} words; get the whole file")
    return names, matrix


def _lines(file: io.BufferedReader, longest: int) -> Iterator[bytes]:
    """Lines of at most `longest` bytes: one without end must not fill the memory."""
    while line := file.readline(longest):
        yield line


def write_folder(vectors: WordVectors, folder: Path, about: dict[str, Any], text: bool = False) -> None:
    """Write a folder that explains itself: the vectors, then `embed.json`, which makes it a finished one."""
    name = TEXT if text else BINARY
    vectors.save(folder / name)
    facts = {"format": 1, "vectors": name, "sha256": files.sha256(folder / name), **about}
    files.write_json(folder / ABOUT, json.loads(json.dumps(facts)))
