"""Pictures with captions as a table: the picture, and a column of captions for each language.

    image                 caption.en                           caption.ko             group
    photos/17.jpg         ["red apple", "an apple, cut"]       ["빨간 사과"]            apple

What is odd in a source and what is done with it:

CSV, TSV, Parquet, JSONL  columns called as captions are, with a language or without (`caption_columns`)
Parquet of Hugging Face   pictures as {bytes, path}; also a folder of files by part, where test stays the test
folder with sidecars      `a.jpg` beside `a.txt`, `a.ko.txt`: a caption a line; or `metadata.jsonl`, `.csv`
WebDataset tars           jpg, txt, ko.txt and json of a sample; when no memory holds them, the first of them
a path in several rows    one picture with all their captions (said)
no caption                the picture is left out (said); refused when it is most of them
a book for a caption      cut after 10,000 characters (said)
a broken picture          left out by name (said); more than 5 % of them: refused
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sadari.data.caption_columns import CAPTION, Captions, column_of, merged
from sadari.data.caption_sources import gather
from sadari.data.caption_tables import IMAGE, Gathered
from sadari.data.image_cache import bar
from sadari.data.image_files import Told, survey
from sadari.data.images import TEXTS as OF_IMAGES
from sadari.data.images import ImageTable
from sadari.data.table import Table
from sadari.data.text_rows import TEXTS as OF_TEXTS
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "folded": (
        "{count:,} rows name a picture that an earlier row names; their captions are put together",
        "앞의 행과 같은 그림을 가리키는 {count:,}행은 캡션을 한 그림으로 모았습니다",
    ),
    "no caption": (
        "{count:,} of {rows:,} pictures have no caption and are left out: {first}",
        "그림 {rows:,}장 가운데 캡션이 없는 {count:,}장은 뺐습니다: {first}",
    ),
    "cut": (
        "{count:,} captions are longer than {most:,} characters and are cut (of {first})",
        "{most:,}자를 넘는 캡션 {count:,}개는 그 뒤를 잘랐습니다(그림: {first})",
    ),
    "languages": (
        "captions by language: {counts}",
        "언어별 캡션 수: {counts}",
    ),
}
LONGEST = 10_000
"""Characters of a caption; no text encoder reads as many."""
_MOST_BROKEN = 0.05
_NAMED = 3  # of those that are left out


@dataclass(frozen=True)
class CaptionTable(ImageTable):
    """A table of pictures with captions: `image`, lists of captions by language, and other columns."""

    captions: tuple[str, ...] = field(default=(), compare=False)
    """The columns of captions: caption, caption.ko."""
    named: tuple[str, ...] = field(default=(), compare=False)
    """The source's own columns that were asked for; empty: all that look like captions."""
    shards: tuple[str, ...] = field(default=(), compare=False)
    """Of which these are only the first pairs; empty where all are here."""
    pairs: int = field(default=0, compare=False)
    """About how many pairs those shards have."""


def open_captions(
    source: str | Path | pl.DataFrame | Table | Sequence[str | Path],
    *,
    image: str | None = None,
    caption: str | Sequence[str] | None = None,
    memory: int = 2 << 30,
    cache: Path | None = None,
    told: Told | None = None,
) -> CaptionTable:
    """A table whose first column is the picture, followed by its captions, one List(String) for a language.

    `source` is a table of paths or of files' bytes, a folder, WebDataset shards (one or many, addresses too),
    a built-in's name or a frame; `image` and `caption` (one or several) name a table's columns. Columns of
    numbers and texts stay behind the captions, `group` first. Each picture is looked at, or known from the
    last time; the fingerprint is the same for the same pictures and captions anywhere.
    Raises SadariError for anything that holds no captioned pictures, naming what is wrong and what to do.
    """
    named = (caption,) if isinstance(caption, str) else tuple(caption or ())
    found = gather(source, image, named, memory, cache)
    notes = list(found.notes)
    found = _folded(found, notes)
    found = _captioned(found, notes)
    found = _cut(found, notes)
    with bar("look", told) as show:
        seen = survey(found.pictures, found.names, cache=cache, told=show)
    found, looks = _sound(found, seen.looks, seen.failures, notes)
    frame, columns = _frame(found)
    if len(columns) > 1:
        counts = ", ".join(f"{name} {int(frame[name].list.len().sum()):,}" for name in columns)
        notes.append(Note.of(TEXTS, "languages", counts=counts))
    if "group" in frame.columns and not found.table.task:
        notes.append(Note.of(OF_TEXTS, "group"))
    return CaptionTable(
        name=found.table.name,
        source=found.table.source,
        frame=frame.lazy(),
        schema=dict(frame.schema),
        rows=frame.height,
        fingerprint=_fingerprint(frame, found.names, looks, found.test),
        streamed=found.stream is not None,
        target=columns[0],
        task="match",
        licence=found.table.licence,
        official_test=found.test,
        notes=(*found.table.notes, *notes),
        looks=looks,
        names=tuple(found.names),
        cache=cache,
        captions=columns,
        named=named,
        shards=found.stream[0] if found.stream else (),
        pairs=found.stream[1] if found.stream else 0,
    )


def _folded(found: Gathered, notes: list[Note]) -> Gathered:
    """Rows of one path as one picture with all their captions; those of the test stay in the test."""
    first: dict[tuple[str, bool], int] = {}
    together: dict[int, list[Captions]] = {}
    for row, picture in enumerate(found.pictures):
        key = (picture, row >= len(found.pictures) - found.test)
        place = first.setdefault(key, row) if isinstance(picture, str) else row  # type: ignore[arg-type]
        together.setdefault(place, []).append(found.captions[row])
    if count := len(found.pictures) - len(together):
        notes.append(Note.of(TEXTS, "folded", count=count))
        captions = [merged(together.get(row, ())) for row in range(len(found.pictures))]
        found = replace(found, captions=captions).of(list(together))
    return found


def _captioned(found: Gathered, notes: list[Note]) -> Gathered:
    """Without the pictures that have no caption. Raises SadariError when they are most."""
    name, rows = found.table.name, len(found.pictures)
    kept = [row for row, captions in enumerate(found.captions) if captions]
    if not rows:
        raise SadariError(f"{name} has no pictures with captions; give some hundreds")
    if count := rows - len(kept):
        left = [found.names[row] for row, captions in enumerate(found.captions) if not captions]
        first = ", ".join(left[:_NAMED])
        if count > rows / 2:
            raise SadariError(
                f"{name}: {count:,} of {rows:,} pictures have no caption (the first: {left[0]}); write "
                "them, or name their column with --caption"
            )
        notes.append(Note.of(TEXTS, "no caption", "warning", count=count, rows=rows, first=first))
    return found.of(kept)


def _cut(found: Gathered, notes: list[Note]) -> Gathered:
    """Captions of no more than `LONGEST` characters, cut at white space where there is any near."""
    count, first = 0, ""
    captions = []
    for name, by_language in zip(found.names, found.captions, strict=True):
        kept: Captions = {}
        for language, texts in by_language.items():
            long = sum(len(text) > LONGEST for text in texts)
            count, first = count + long, first or (name if long else "")
            kept[language] = list(dict.fromkeys(map(_beginning, texts))) if long else texts
        captions.append(kept)
    if count:
        notes.append(Note.of(TEXTS, "cut", "warning", count=count, most=LONGEST, first=first))
    return replace(found, captions=captions)


def _beginning(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    space = text.rfind(" ", LONGEST // 2, LONGEST + 1)
    return text[: space if space > 0 else LONGEST]


def _sound(
    found: Gathered, looks: np.ndarray, failures: dict[int, str], notes: list[Note]
) -> tuple[Gathered, np.ndarray]:
    """Without the pictures that cannot be read. Raises SadariError when they are more than a few."""
    if not failures:
        return found, looks
    rows, count = len(found.pictures), len(failures)
    if count > _MOST_BROKEN * rows:
        raise SadariError(
            f"{found.table.name}: {count:,} of {rows:,} pictures cannot be read, and more than "
            f"{_MOST_BROKEN:.0%} are too many; the first: {next(iter(failures.values()))}"
        )
    first = ", ".join(found.names[row] for row in list(failures)[:_NAMED])
    notes.append(Note.of(OF_IMAGES, "broken", "warning", count=count, rows=rows, first=first))
    good = [row for row in range(rows) if row not in failures]
    return found.of(good), looks[good]


def _frame(found: Gathered) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The table's columns, and which of them are captions."""
    languages = sorted({language for captions in found.captions for language in captions})
    columns: list[pl.Series] = [pl.Series(IMAGE, found.pictures)]
    for language in languages:
        texts = [captions.get(language, []) for captions in found.captions]
        columns.append(pl.Series(column_of(language), texts, pl.List(pl.String)))
    others = sorted(found.others.get_columns(), key=lambda column: column.name != "group")
    taken = {column.name for column in columns}
    columns += [column for column in others if column.name not in taken]
    return pl.DataFrame(columns), tuple(map(column_of, languages))


def _fingerprint(frame: pl.DataFrame, names: Sequence[str], looks: np.ndarray, test: int) -> str:
    """Of names, captions, other columns and contents: the same wherever the pictures lie."""
    digest = hashlib.sha256(f"captions {frame.columns[1:]} {frame.height} {test} ".encode())
    for name, row in zip(names, frame[:, 1:].iter_rows(), strict=True):
        digest.update(json.dumps([unicodedata.normalize("NFC", name), *row], default=str).encode())
    digest.update(np.ascontiguousarray(looks["content"]).tobytes())
    return digest.hexdigest()


def captions_of(frame: pl.DataFrame, columns: Sequence[str] = ()) -> list[list[tuple[int, str]]]:
    """The captions of each row, all languages one after another, each with the number of its column.

    `columns` are those of captions; by default all that are called so.
    """
    columns = columns or [name for name in frame.columns if name.split(".")[0] == CAPTION]
    by_column: list[list[Any]] = [frame[name].to_list() for name in columns]
    return [
        [(place, text) for place, texts in enumerate(row) for text in texts or ()]
        for row in zip(*by_column, strict=True)
    ]
