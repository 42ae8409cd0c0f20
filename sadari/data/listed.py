"""Pictures that are to be found again: of a folder, a table or a built-in, with all that is said of them.

folder of pictures              each by its path in the folder; a text beside one is its captions
table of paths, or of bytes     each by its path, or by its row; captions and other columns go along
metadata.csv, shards, a built-in, Parquet of Hugging Face   as they are read for training (`captions`)

Captions are not needed. A picture's stamp changes when its file, or what is said of it, does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data.builtin import BUILTIN, open_builtin
from sadari.data.caption_columns import Captions, caption_columns
from sadari.data.caption_sources import gather, holds_captions, is_shards
from sadari.data.image_columns import folder_of, full_path, image_column, pictures_of
from sadari.data.image_files import walk
from sadari.data.image_folders import TEXTS as OF_FOLDERS
from sadari.data.table import Table, check_columns, open_table
from sadari.data.text_rows import existing, is_jsonl
from sadari.errors import SadariError
from sadari.lang import Note

_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_NAMED = 3  # of what is left out
_OWN = ("id", "vector", "path", "captions", "stamp", "thumbnail")  # columns of an index


@dataclass(frozen=True)
class Listed:
    """Pictures in their order, N of each but `columns` and `notes`."""

    source: str
    """The folder or file in full, or the name of a built-in."""
    folder: Path
    """What paths that are not full start from."""
    pictures: list[str | bytes | None]
    """Full paths, or files' bytes; None where one is missing."""
    ids: list[str]
    """Path from `folder` on, key or row; no two are the same."""
    stamps: list[str] = field(repr=False)
    """Of a picture, what it is known unchanged by; "" where there is no such file."""
    captions: list[list[str]]
    """In all languages, one after another."""
    columns: dict[str, list[Any]]
    """What else is said, by names that an index takes."""
    notes: tuple[Note, ...] = ()


def list_pictures(
    source: str | Path,
    *,
    image: str | None = None,
    caption: Sequence[str] = (),
    memory: int = 2 << 30,
    cache: Path | None = None,
) -> Listed:
    """The pictures of a source; none is decoded. `image` and `caption` are the columns that were asked for.

    Raises SadariError where there are none, naming what is wrong and what to do.
    """
    path = existing(source)
    if path is not None and path.is_dir() and not is_shards(path):
        metadata = next((path / name for name in _METADATA if (path / name).is_file()), None)
        if metadata is None and (listed := _folder(path)) is not None:
            return listed
        path = metadata or path
    if path is None and source not in BUILTIN and not is_shards(source):
        raise SadariError(
            f"no pictures at {source}; check the path of a folder or a table, or name a built-in "
            "(`sadari data`)"
        )
    if is_shards(source) or (path is not None and (path.is_dir() or is_jsonl(path))):
        found = gather(path or source, image, caption, memory, cache)
        root = path or Path.cwd()
        columns, captions = found.others, found.captions
        pictures, names = list(found.pictures), found.names
        notes: Sequence[Note] = found.notes
    else:
        table = _table(path or str(source), memory, cache)
        root = folder_of(table)
        pictures, names, captions, columns, notes = _rows(table, image, caption, memory, cache)
    if not pictures:
        raise SadariError(f"{source} has no rows; give a table of pictures")
    root = root if root.is_dir() else root.parent
    called = str(path.resolve()) if path is not None else str(source)
    return _listed(called, root.resolve(), pictures, names, captions, columns, tuple(notes))


def _folder(folder: Path) -> Listed | None:
    """The pictures below a folder that have no captions; None where it is to be read in another way."""
    walked = walk(folder)
    if not walked.files:
        if any(name.lower().endswith(".parquet") for name in walked.others):
            return None
        raise SadariError(
            f"{folder} holds no pictures (JPEG, PNG, WebP, GIF, BMP, TIFF); name the folder that does"
        )
    if holds_captions(folder):
        return None
    notes = []
    for key, left in (("links", walked.links), ("others", walked.others)):
        if left:
            first = ", ".join(left[:_NAMED]) + ", ..." * (len(left) > _NAMED)
            notes.append(Note.of(OF_FOLDERS, key, count=len(left), name=folder.resolve().name, first=first))
    names = [path.relative_to(folder).as_posix() for path in walked.files]
    whole = folder.resolve()
    pictures: list[str | bytes | None] = [str(whole / name) for name in names]
    return _listed(str(whole), whole, pictures, names, [{}] * len(names), pl.DataFrame(), tuple(notes))


def _table(source: str | Path, memory: int, cache: Path | None) -> Table:
    if isinstance(source, Path):
        return open_table(source, memory=memory)
    frame, entry = open_builtin(source, cache)
    return replace(open_table(frame, memory=memory), name=source, source=source, licence=entry.licence)


def _rows(
    table: Table, image: str | None, caption: Sequence[str], memory: int, cache: Path | None
) -> tuple[list[str | bytes | None], list[str], list[Captions], pl.DataFrame, Sequence[Note]]:
    """Pictures, names, captions and other columns of a table, which may have no captions."""
    names = list(table.schema)
    check_columns(table.name, names, image, *caption)
    image = image or image_column(table)
    if image is None:
        raise SadariError(
            f"{table.name} has no column of pictures ({', '.join(names[:8])}): paths of files that are "
            "there, or their bytes; name one with --image"
        )
    if caption or caption_columns(name for name in names if name != image):
        found = gather(table, image, caption, memory, cache)
        return list(found.pictures), found.names, found.captions, found.others, found.notes
    plain = [name for name, dtype in table.schema.items() if name != image and _is_scalar(dtype)]
    frame = table.frame.select([image, *plain]).collect(engine="streaming")
    held: list[Any] = pictures_of(frame[image], table.name).to_list()
    called = [f"row {row:,}" for row in range(1, frame.height + 1)]
    if any(isinstance(one, str) for one in held):
        called = [one or name for one, name in zip(held, called, strict=True)]
        held = [one and full_path(one, folder_of(table)) for one in held]
    return held, called, [{}] * frame.height, frame.drop(image), ()


def _is_scalar(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)


def _listed(
    source: str,
    folder: Path,
    pictures: list[str | bytes | None],
    names: Sequence[str],
    captions: Sequence[Captions],
    others: pl.DataFrame,
    notes: tuple[Note, ...],
) -> Listed:
    """One row a picture: rows of one path are put together, and names that are there twice told apart."""
    rows: dict[str, list[int]] = {}
    for row, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        called = name if isinstance(picture, str) or name not in rows else f"{name} ({row + 1:,})"
        rows.setdefault(_text(called), []).append(row)
    firsts = [of[0] for of in rows.values()]
    said = [list(dict.fromkeys(text for row in of for text in _all(captions[row]))) for of in rows.values()]
    columns: dict[str, list[Any]] = {}
    for column in others.get_columns():
        column = column.cast(pl.String) if column.dtype in (pl.Categorical, pl.Enum) else column
        name, values = _name(column.name), column.to_list()
        while name in columns:
            name += "_"
        columns[name] = [values[row] for row in firsts]
    kept = [pictures[row] for row in firsts]
    stamps = [
        _stamp(picture, [texts, *(values[row] for values in columns.values())])
        for row, (picture, texts) in enumerate(zip(kept, said, strict=True))
    ]
    return Listed(source, folder, kept, list(rows), stamps, said, columns, notes)


def _all(captions: Captions) -> Iterable[str]:
    return (text for texts in captions.values() for text in texts)


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _name(name: str) -> str:
    """A column's name as one word that starts with a letter and is no column that an index has."""
    word = re.sub(r"\W+", "_", name).strip("_")
    if not word.isidentifier():
        word = f"column_{word}"
    return f"{word}_" if word.lower() in _OWN else word


def _stamp(picture: str | bytes | None, said: list[Any]) -> str:
    """Of a picture's bytes, or of its file's size and time, and of what is said of it."""
    try:
        if isinstance(picture, bytes):
            what = hashlib.sha256(picture).hexdigest()
        else:
            about = os.stat(picture or "")
            what = f"{about.st_size} {about.st_mtime_ns}"
    except (OSError, ValueError):
        return ""
    return hashlib.blake2b(json.dumps([what, said], default=str).encode(), digest_size=12).hexdigest()
