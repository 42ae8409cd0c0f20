"""Labelled pictures as a table: the picture, its class and, if there is one, its `group`.

What is odd in a source and what is done with it:

a folder of folders       the folder on the first level is the class, however deep the pictures lie in it
train/ val/ test/         parts: test (else val) is the official test, the last rows; classes are below them
CSV, TSV, Parquet, JSONL  a column of paths, relative to the file's folder, or of the files' bytes
Parquet of Hugging Face   {bytes, path} as either, ClassLabel numbers as their names; also a folder of shards
hidden, linked            passed over; links are said, and not followed, wherever they lead
files that are no picture by their names (or first bytes): left out, with the first of them (said)
pictures that are broken  left out by name (said); more than 5 % of them: refused
decomposed letters (NFD)  in names of classes: composed
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sadari.data import text_files
from sadari.data.image_cache import bar
from sadari.data.image_columns import Found, choose, class_names, folder_of, image_column, jsonl_has_images
from sadari.data.image_files import LOOKS, Survey, Told, holds_pictures, survey
from sadari.data.image_folders import holds_shards, of_folder, of_shards
from sadari.data.table import Table, open_table
from sadari.data.text_rows import SAMPLE, Oddities, as_written, existing, is_jsonl, rows_of
from sadari.data.text_rows import TEXTS as OF_TEXTS
from sadari.errors import SadariError
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Shaped

__all__ = ["ImageTable", "has_images", "image_column", "open_images"]

TEXTS = {
    "broken": (
        "{count:,} of {rows:,} pictures cannot be read and are left out: {first}",
        "그림 {rows:,}장 가운데 {count:,}장은 읽을 수 없어 뺐습니다: {first}",
    ),
    "held out": (
        "{count:,} pictures whose {column} is `{value}` are the test; training sees none of them, but the "
        "other {rest:,}",
        "{column} 값이 `{value}`인 그림 {count:,}장은 테스트로만 쓰고, 훈련은 나머지 {rest:,}장으로 합니다",
    ),
}
_MOST_BROKEN = 0.05
_NAMED = 3  # of those that are left out
_HELD = 8  # values that are named


@dataclass(frozen=True)
class ImageTable(Table):
    """A table of pictures, with what each of them is."""

    looks: Shaped[np.ndarray, " N"] = field(
        default_factory=lambda: np.zeros(0, LOOKS), compare=False, repr=False
    )
    """Records of `LOOKS`: hashes of content and pixels, size, colours."""
    names: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What each picture is called: its path as it was found or written, or its row."""
    cache: Path | None = None
    """Where decoded pixels are kept; None for the usual place."""


def open_images(
    source: str | Path | pl.DataFrame | Table,
    *,
    image: str | None = None,
    target: str | None = None,
    memory: int = 2 << 30,
    cache: Path | None = None,
    told: Told | None = None,
    hold_out: str | None = None,
) -> ImageTable:
    """A table whose first column is the picture and whose second is its label; a `group` is the third.

    `source` is a folder with a folder of pictures for each class, a table of paths or bytes, a built-in's
    name, or a frame; `image` and `target` name a table's columns. Each picture is looked at, or known from
    the last time (`survey`): those that are broken are left out, and the fingerprint is the same for the same
    pictures and labels anywhere. `hold_out`, COLUMN=VALUE, makes the rows with that value the official test:
    an artist, a camera or a hospital that no rung has seen. `told` is called as looking goes on, `cache` is
    where it is remembered.
    Raises SadariError for anything that holds no labelled pictures, naming what is wrong and what to do.
    """
    path = existing(source)
    column, value = _held(hold_out)
    if path is not None and path.is_dir():
        if column:
            raise SadariError(
                f"--hold-out {hold_out}: pictures in folders have no columns; put those to hold out into a "
                f"folder `test` beside `train`, or write a table with their paths"
            )
        found = of_shards(path, image, target) or of_folder(path, image, target)
    elif path is not None and is_jsonl(path):
        found = _of_jsonl(path, image, target, column)
    else:
        found = _of_table(source, image, target, memory, cache, column)
    name, pictures = found.table.name, found.frame.to_series(0)
    if found.frame.is_empty():
        raise SadariError(f"{name} has no row with a picture and a label; give some hundreds")
    if pictures.dtype == pl.String and (away := [name for name in found.names if "://" in name]):
        raise SadariError(f"{name} names addresses ({away[0]}); download the pictures first")
    with bar("look", told) as show:
        seen = survey(pictures.to_list(), found.names, cache=cache, told=show)
    found, looks = _sound(found, seen)
    if column:
        found, looks = _holding_out(found, looks, column, value)
    frame = found.frame
    if "group" in frame.columns[2:] and not found.table.task:
        found.notes.append(Note.of(OF_TEXTS, "group"))
    return ImageTable(
        name=name,
        source=found.table.source,
        frame=frame.lazy(),
        schema=dict(frame.schema),
        rows=frame.height,
        fingerprint=_fingerprint(frame, found.names, looks, found.test),
        streamed=False,
        target=frame.columns[1],
        task="classify",
        licence=found.table.licence,
        official_test=found.test,
        notes=(*found.table.notes, *found.notes),
        looks=looks,
        names=tuple(found.names),
        cache=cache,
    )


def has_images(path: Path) -> bool:
    """Whether a folder, or a file of lines, is one of pictures."""
    if path.is_dir():
        return holds_pictures(path) or holds_shards(path)
    return is_jsonl(path) and jsonl_has_images(path)


def _of_table(
    source: str | Path | pl.DataFrame | Table,
    image: str | None,
    target: str | None,
    memory: int,
    cache: Path | None,
    also: str | None,
) -> Found:
    table = source if isinstance(source, Table) else _opened(source, image, memory, cache)
    path = existing(table.source) if table.source else None
    classes = class_names(path) if path is not None and path.suffix in (".parquet", ".pq") else {}
    found = choose(table, image, target, folder_of(table), classes, also)
    found.test = table.official_test
    return found


def _opened(source: str | Path | pl.DataFrame, image: str | None, memory: int, cache: Path | None) -> Table:
    return open_table(source, memory=memory, types={image: pl.String()} if image else None, cache=cache)


def _of_jsonl(path: Path, image: str | None, target: str | None, also: str | None) -> Found:
    file, notes = text_files.look(path), Oddities(path.name)
    notes.add(file)
    rows = list(rows_of(file, notes))
    keys = dict.fromkeys(key for row in islice(rows, SAMPLE) for key in row)
    columns = {key: [_plain(row.get(key)) for row in rows] for key in keys}
    frame = pl.LazyFrame(columns, schema=dict.fromkeys(keys, pl.String))
    schema = dict(frame.collect_schema())
    table = Table(path.name, str(path.resolve()), frame, schema, len(rows), "", False)
    found = choose(table, image, target, path.resolve().parent, also=also)
    found.notes[:0] = notes.said()
    return found


def _plain(value: Any) -> str | None:
    """A value of JSON as text that a frame can hold."""
    written = as_written(value)
    return None if written is None else written.encode("utf-8", "replace").decode()


def _sound(found: Found, seen: Survey) -> tuple[Found, np.ndarray]:
    """Without the pictures that cannot be read. Raises SadariError when they are more than a few."""
    if not seen.failures:
        return found, seen.looks
    rows, count = found.frame.height, len(seen.failures)
    if count > _MOST_BROKEN * rows:
        raise SadariError(
            f"{found.table.name}: {count:,} of {rows:,} pictures cannot be read, and more than "
            f"{_MOST_BROKEN:.0%} are too many; the first: {next(iter(seen.failures.values()))}"
        )
    broken = np.array(list(seen.failures), np.int64)
    good = np.setdiff1d(np.arange(rows), broken)
    first = ", ".join(found.names[row] for row in broken[:_NAMED])
    said = Note.of(TEXTS, "broken", "warning", count=count, rows=rows, first=first)
    kept = Found(
        found.table,
        found.frame[good],
        [found.names[row] for row in good],
        int((good >= rows - found.test).sum()),
        [*found.notes, said],
    )
    return kept, seen.looks[good]


def _held(hold_out: str | None) -> tuple[str | None, str]:
    """Column and value. Raises SadariError for what is not written so."""
    if not hold_out:
        return None, ""
    column, equals, value = (part.strip() for part in hold_out.partition("="))
    if not (column and equals and value):
        raise SadariError(f"--hold-out {hold_out!r}: say a column and a value, such as artist=noto")
    return column, value


def _holding_out(found: Found, looks: np.ndarray, column: str, value: str) -> tuple[Found, np.ndarray]:
    """With the rows of that value last, as the official test, which takes the place of any other.

    Raises SadariError when no row has the value, or all have.
    """
    frame = found.frame
    held = (frame[column].cast(pl.String) == value).fill_null(False).to_numpy()
    if not 0 < held.sum() < len(held):
        counts = frame[column].drop_nulls().value_counts(sort=True)
        there = ", ".join(f"{name} ({count:,})" for name, count in counts.head(_HELD).rows())
        raise SadariError(
            f"--hold-out {column}={value}: {'all' if held.all() else 'no'} pictures have that value; "
            f"there are {there}"
        )
    order = np.argsort(held, kind="stable")
    frame = frame[order] if column in (*frame.columns[:2], "group") else frame[order].drop(column)
    said = Note.of(
        TEXTS, "held out", count=int(held.sum()), column=column, value=value, rest=int((~held).sum())
    )
    names = [found.names[row] for row in order]
    return Found(found.table, frame, names, int(held.sum()), [*found.notes, said]), looks[order]


def _fingerprint(frame: pl.DataFrame, names: Sequence[str], looks: np.ndarray, test: int) -> str:
    """Of names, labels, groups and contents: the same wherever the pictures lie."""
    digest = hashlib.sha256(f"images {frame.height} {test} ".encode())
    for name, *others in zip(names, *frame.get_columns()[1:], strict=True):
        digest.update(json.dumps([unicodedata.normalize("NFC", name), *others]).encode())
    digest.update(np.ascontiguousarray(looks["content"]).tobytes())
    return digest.hexdigest()
