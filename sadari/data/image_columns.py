"""Which column of a table holds pictures, as paths or as bytes, and which one their labels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import polars as pl

from sadari.data import text_files
from sadari.data.columns import as_text
from sadari.data.decode_image import begins_as_one
from sadari.data.image_files import is_picture
from sadari.data.table import Table, check_columns
from sadari.data.text import LABEL_NAMES
from sadari.data.text_rows import Oddities, existing, rows_of
from sadari.data.tokenizers import clean_text
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "column": (
        "the pictures are those that column `{column}` names; for a table without them: --kind table",
        "그림은 `{column}` 열이 가리키는 파일입니다. 그림 없이 표로 읽으려면 --kind table을 쓰십시오",
    ),
}
IMAGE_NAMES = ("image", "img", "picture", "photo", "file", "filename", "file_name", "path", "그림", "사진")
_MOSTLY = 0.9  # of a column's values must be pictures
_HEAD = 200  # rows that are looked at
_LOOKED_FOR = 20  # paths of which one at least should be there


@dataclass
class Found:
    """Pictures and labels as a source has them."""

    table: Table
    """Its name, source and licence count; its rows do not."""
    frame: pl.DataFrame
    """Picture (a path in full, or bytes), label, and perhaps `group`."""
    names: list[str]
    """What each picture is called: its path as it was found or written, or its row."""
    test: int = 0
    """How many of the last rows are an official test."""
    notes: list[Note] = field(default_factory=list)


def image_column(table: Table, target: str | None = None) -> str | None:
    """The column of a table that names pictures or holds their bytes; None when there is none.

    Nine of ten values must be pictures: by the ends of their names or by their first bytes. Paths of which
    none is there are names, not pictures, as long as the table has other columns to learn from.
    """
    head = _head(table)
    found = _candidates(head, target)
    if not found:
        return None
    others = [name for name in table.schema if name not in (*found, target, "group")]
    if head.schema[found[0]] != pl.Binary and len(others) > (target is None):
        paths = pictures_of(head[found[0]], table.name).drop_nulls().head(_LOOKED_FOR)
        if paths.dtype == pl.String and not any(_is_there(path, folder_of(table)) for path in paths):
            return None
    return found[0]


def jsonl_has_images(path: Path) -> bool:
    """Whether the first objects of a JSONL file name pictures."""
    try:
        rows = list(islice(rows_of(text_files.look(path), Oddities("")), _HEAD))
    except SadariError:
        return False
    columns = {
        key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)
    }
    return any(
        _mostly(map(is_picture, [v for v in values if isinstance(v, str)])) for values in columns.values()
    )


def choose(
    table: Table,
    image: str | None,
    target: str | None,
    folder: Path,
    classes: Mapping[str, Sequence[str]] | None = None,
    also: str | None = None,
) -> Found:
    """Picture, label and group of a table, and the column `also`, paths made full from `folder`.

    `classes` are names for the numbers in columns. Raises SadariError for a name that is no column, and when
    there is no column of pictures, or none of labels.
    """
    names, notes = list(table.schema), []
    check_columns(table.name, names, image, target, also)
    if image is not None and image == target:
        raise SadariError(f"{image!r} is both the picture and the target; choose another --target")
    target = target or (table.target if table.target != image else None)
    if image is None:
        image = next(iter(_candidates(_head(table), target)), None)
        if image is None:
            raise SadariError(
                f"{table.name} has no column of pictures ({', '.join(names[:8])}): paths that end as "
                f"pictures do, or their bytes; name one with --image"
            )
        if not table.task:
            notes.append(Note.of(TEXTS, "column", column=image))
    target = target or _label_column(table.name, [name for name in names if name != also], image)
    wanted = [image, target, *(name for name in ("group", also) if name in names)]
    wanted = list(dict.fromkeys(wanted))
    frame = table.frame.select(wanted).collect(engine="streaming")
    pictures = pictures_of(frame[image], table.name)
    labels = _labels(frame[target], table.name, (classes or {}).get(target, ()))
    columns = [pictures, labels, *(_labels(frame[name], table.name) for name in wanted[2:])]
    called = [f"row {row:,}" for row in range(1, frame.height + 1)]
    if pictures.dtype == pl.String:
        called = [
            name if path is None else _short(path, folder)
            for name, path in zip(called, pictures, strict=True)
        ]
        full = [None if path is None else full_path(path, folder) for path in pictures]
        columns[0] = pl.Series(image, full, pl.String)
    return Found(table, pl.DataFrame(columns), called, notes=notes)


def pictures_of(column: pl.Series, name: str) -> pl.Series:
    """A column of pictures as paths (String) or as bytes (Binary), whatever it is kept in.

    Raises SadariError when it is neither; `name` is the table's.
    """
    dtype = column.dtype
    if isinstance(dtype, pl.Struct):
        parts = {part.name: column.struct.field(part.name) for part in dtype.fields}
        held = parts.get("bytes")
        if (
            held is not None
            and held.dtype == pl.Binary
            and ("path" not in parts or held.null_count() < len(held))
        ):
            return held.alias(column.name)
        column = parts.get("path", column).alias(column.name)
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype not in (pl.String, pl.Binary):
        raise SadariError(
            f"{name}: column {column.name} is {dtype}, neither paths nor pictures; name another with --image"
        )
    return column


def class_names(path: Path) -> dict[str, list[str]]:
    """The names of the numbers in columns of a Parquet file, where Hugging Face has written them into it."""
    try:
        features = json.loads(pl.read_parquet_metadata(path)["huggingface"])["info"]["features"]
        return {
            column: [str(name) for name in about["names"]]
            for column, about in features.items()
            if about.get("_type") == "ClassLabel" and about.get("names")
        }
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    except (OSError, pl.exceptions.PolarsError):
        return {}


def folder_of(table: Table) -> Path:
    """What paths in a table are relative to: its file's folder, or where the program runs."""
    path = existing(table.source) if table.source else None
    return Path.cwd() if path is None else path if path.is_dir() else path.parent


def full_path(path: str, folder: Path) -> str:
    """A path as a table has it, from `folder` on; one that was written on Windows is read as such."""
    if "\\" in path and os.sep == "/" and not os.path.exists(folder / path):
        path = path.replace("\\", "/")
    return os.path.abspath(folder / path)


def _short(path: str, folder: Path) -> str:
    """A path without the folder, so that a table of full paths reads the same where it is copied to."""
    return path.removeprefix(f"{folder}/") if os.path.isabs(path) else path


def _head(table: Table) -> pl.DataFrame:
    """The first rows of those columns that may hold pictures."""
    names = [
        name
        for name, dtype in table.schema.items()
        if dtype in (pl.String, pl.Binary, pl.Categorical, pl.Enum) or isinstance(dtype, pl.Struct)
    ]
    return table.frame.select(names).head(_HEAD).collect()


def _candidates(head: pl.DataFrame, target: str | None) -> list[str]:
    """Columns of pictures, those first that are called so."""
    found = [name for name in head.columns if name != target and _is_image(head[name])]
    return sorted(found, key=lambda name: name.lower() not in IMAGE_NAMES)


def _is_image(column: pl.Series) -> bool:
    """Whether nearly all values of a column are pictures."""
    try:
        known = pictures_of(column, "").drop_nulls()
    except SadariError:
        return False
    if known.dtype == pl.Binary:
        return _mostly(begins_as_one(value[:16]) for value in known)
    return _mostly(map(is_picture, known))


def _mostly(signs: Iterable[bool]) -> bool:
    known = list(signs)
    return sum(known) > 0 and sum(known) >= _MOSTLY * len(known)


def _label_column(name: str, names: Sequence[str], image: str) -> str:
    others = [other for other in names if other not in (image, "group")]
    if not others:
        raise SadariError(f"{name} has pictures ({image}) and no labels; add a column of them")
    said = [other for other in others if other.lower() in LABEL_NAMES]
    return said[0] if said else others[-1]


def _labels(column: pl.Series, name: str, classes: Sequence[str] = ()) -> pl.Series:
    """Labels as text; numbers by their names in `classes`, where those below 0 are none."""
    if classes and column.dtype.is_integer():
        known = [
            None if v is None or v < 0 else classes[v] if v < len(classes) else str(v)
            for v in column.to_list()
        ]
        column = pl.Series(column.name, known, pl.String)
    labels = as_text(pl.col(column.name), column.dtype)
    if labels is None:
        raise SadariError(
            f"{name}: column {column.name} is {column.dtype}, which is no label; choose another --target"
        )
    texts = column.to_frame().select(labels.alias(column.name)).to_series()
    return pl.Series(column.name, [text and clean_text(text) for text in texts], pl.String)


def _is_there(path: str, folder: Path) -> bool:
    try:
        return os.path.exists(full_path(path, folder))
    except ValueError:  # a NUL in it
        return False
