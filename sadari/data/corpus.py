"""Corpora: documents to learn a language from, of any size, read again and again from where they are."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sadari.data import text_files
from sadari.data.table import Table, check_columns, open_table
from sadari.data.text_rows import (
    JSONL,
    TEXT_NAMES,
    TEXTS,
    Oddities,
    existing,
    is_jsonl,
    longest_column,
    rows_of,
    text_key,
)
from sadari.data.tokenizers import clean_text
from sadari.errors import SadariError
from sadari.lang import Note

_STRETCHES = 100  # that a single file is cut into for the split: neighbours tell of the same things
_SHORTEST_CUT, _LONGEST_CUT = 2_000, 1 << 16  # characters of a document, at most


@dataclass(frozen=True)
class Corpus:
    """Documents to learn a language from, read again and again from where they are."""

    name: str
    """What to call it: a file's or a folder's name, or a built-in's."""
    source: str
    """What opens it again: a path made absolute, or a built-in's name; empty for texts in memory."""
    rows: int
    """Documents."""
    bytes: int
    """Of their text in UTF-8 and NFC, without what stood between them."""
    fingerprint: str
    """Hexadecimal digest of the documents in their order: the same for the same text, however encoded."""
    streamed: bool
    """Larger than the memory budget."""
    groups: np.ndarray = field(compare=False)
    """(rows,) int64: documents of one number stay in one part of the split: a file, an article, a stretch."""
    read: Callable[[], Iterator[str]] = field(compare=False, repr=False)
    """Begins to read from the start."""
    licence: str = ""
    notes: tuple[Note, ...] = ()
    """What was remarkable in reading it."""
    target: None = None
    task: str = "language"
    official_test: int = 0

    def documents(self) -> Iterator[str]:
        """Each document, none of them empty, in NFC."""
        return self.read()


_Read = Callable[["Oddities"], Iterator[tuple[str | None, bytes | None, bool]]]
"""Reads a source from its start: each text (None where there is none), what to group it by, and whether it is
a piece with more of the same text behind it."""


def open_corpus(
    source: str | Path | pl.DataFrame | Table | Sequence[str],
    *,
    text: str | None = None,
    memory: int = 2 << 30,
) -> Corpus:
    """The documents of a text file of any size, a folder of them, a column of a table, a built-in, or a list.

    A text file's documents are what empty lines part; a file without empty lines has one a line. It is cut
    into a hundred stretches, each of which stays in one part of the split. In a folder each file stays whole
    there; in JSONL, CSV and Parquet each row does, with the rows that repeat its text. `text` names their
    column. Everything is read once here, for counts and fingerprint, and nothing of it is kept in memory.
    Raises SadariError for a source that holds no text, naming what is wrong and what to do.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        texts = [clean_text(text) for text in source]
        return _scan("the texts", "", lambda _: _from_rows((text, None) for text in texts), memory)
    path = existing(source)
    if path is not None and path.is_dir():
        return _open_folder(path, text, memory)
    if path is not None and path.is_file() and is_jsonl(path):
        file = text_files.look(path)
        key = text or text_key(file)
        return _scan(path.name, str(path.resolve()), lambda notes: _from_jsonl(file, key, notes), memory, key)
    if path is not None and path.is_file() and not _is_table(path):
        file = text_files.look(path)
        return _scan(
            path.name, str(path.resolve()), lambda notes: _from_plain(file, notes), memory, one_file=True
        )
    return _open_column(source, text, memory)  # type: ignore[arg-type]


def _scan(
    name: str,
    source: str,
    read: _Read,
    memory: int,
    column: str = "",
    walk: text_files.Walk | None = None,
    one_file: bool = False,
) -> Corpus:
    """Read everything once: counts, fingerprint, groups, and what is worth saying."""
    notes, digest = Oddities(name), hashlib.sha256()
    groups, sizes = array("Q"), array("Q")
    empty = lost = cut = total = 0
    for text, group, goes_on in read(notes):
        if text is None:
            lost += 1
        elif not text:
            empty += 1
        else:
            content = text.encode() + b"\0"
            digest.update(content)
            if group is None:
                group = hashlib.blake2b(content, digest_size=8).digest()
            groups.append(int.from_bytes(group, "little"))
            sizes.append(len(content))
            total += len(content) - 1
            cut += goes_on
    if not total:
        raise SadariError(
            f"{name} holds no text ({lost + empty:,} rows without any); give a source with text in it"
        )
    said = notes.said(walk)
    for key, count in (("no string", lost), ("no document", empty), ("cut", cut)):
        if count:
            level = "warning" if key == "no string" else "info"
            said.append(Note.of(TEXTS, key, level, count=count, name=name, column=column))  # type: ignore[arg-type]
    codes = np.unique(np.frombuffer(groups, np.uint64), return_inverse=True)[1].astype(np.int64)
    if one_file:  # neighbours stay together
        before = np.cumsum(np.frombuffer(sizes, np.uint64).astype(np.int64))
        codes = (before - 1) * _STRETCHES // before[-1]
    return Corpus(
        name,
        source,
        len(codes),
        total,
        digest.hexdigest(),
        total > memory // 4,
        codes,
        lambda: (text for text, _, _ in read(Oddities(name)) if text),
        notes=tuple(said),
    )


def _from_plain(file: text_files.TextFile, notes: Oddities) -> Iterator[tuple[str, bytes, bool]]:
    """Documents of a text file; one longer than a hundredth of the file is cut, so that it can be split."""
    notes.add(file)
    longest = int(np.clip(file.size // _STRETCHES, _SHORTEST_CUT, _LONGEST_CUT))
    for text, goes_on in text_files.documents(file, longest):
        yield text, file.digest, goes_on


def _from_rows(rows: Iterable[tuple[str | None, Any]]) -> Iterator[tuple[str | None, bytes | None, bool]]:
    """Texts with the value that groups them, None for those of the same text."""
    for text, group in rows:
        if text is None or not (text := text.strip()):
            yield text, None, False
            continue
        said = text if group is None else f"\0{group}"
        key = hashlib.blake2b(said.encode(), digest_size=8).digest()
        for piece, goes_on in text_files.pieces(text, _LONGEST_CUT):
            yield piece, key, goes_on


def _from_jsonl(
    file: text_files.TextFile, key: str, notes: Oddities
) -> Iterator[tuple[str | None, bytes | None, bool]]:
    notes.add(file)
    values = ((row.get(key), row.get("group")) for row in rows_of(file, notes))
    return _from_rows((clean_text(text) if isinstance(text, str) else None, group) for text, group in values)


def _open_folder(folder: Path, text: str | None, memory: int) -> Corpus:
    walk = text_files.walk(folder, (*text_files.SUFFIXES, *JSONL))

    def read(notes: Oddities) -> Iterator[tuple[str | None, bytes | None, bool]]:
        for path in walk.files:
            if (file := notes.look(path)) is None:
                continue
            if is_jsonl(path):
                yield from _from_jsonl(file, text or text_key(file), notes)
            else:
                yield from _from_plain(file, notes)

    if not walk.files:
        raise SadariError(
            f"{folder} has no text files ({' '.join(text_files.SUFFIXES)}); name a folder that has"
        )
    return _scan(folder.name, str(folder.resolve()), read, memory, text or "", walk)


def _is_table(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".parquet", ".pq"))


def _open_column(source: str | Path | pl.DataFrame | Table, text: str | None, memory: int) -> Corpus:
    """The texts of a table's column; of a built-in, grouped as it says."""
    types = {text: pl.String()} if text else None
    table = source if isinstance(source, Table) else open_table(source, memory=memory, types=types)
    names = list(table.schema)
    check_columns(table.name, names, text)
    strings = [name for name, dtype in table.schema.items() if dtype == pl.String and name != "group"]
    column = (
        text
        or next((name for name in strings if name.lower() in TEXT_NAMES), None)
        or longest_column(table, strings)
    )
    if column is None or table.schema[column] != pl.String:
        raise SadariError(
            f"{table.name} has no column of text ({', '.join(names[:8])}); name one with --text"
        )
    chosen = [column] + ["group"] * ("group" in names and column != "group")

    def rows() -> Iterator[tuple[str | None, Any]]:
        for batch in table.frame.select(chosen).collect_batches(
            chunk_size=1 << 14, maintain_order=True, lazy=True
        ):
            texts = batch[column].to_list()
            groups = batch["group"].to_list() if len(chosen) > 1 else [None] * len(texts)
            yield from (
                (None if text is None else clean_text(text), group)
                for text, group in zip(texts, groups, strict=True)
            )

    corpus = _scan(table.name, table.source, lambda _: _from_rows(rows()), memory, column)
    return replace(corpus, licence=table.licence, notes=(*table.notes, *corpus.notes))
