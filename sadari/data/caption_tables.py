"""Captioned pictures in tables, lines of JSON and the Parquet files of Hugging Face."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data import text_files
from sadari.data.caption_columns import Captions, caption_columns, captions_in, language_of, merged
from sadari.data.image_columns import IMAGE_NAMES, folder_of, full_path, image_column, pictures_of
from sadari.data.image_files import is_picture
from sadari.data.table import Table, open_table
from sadari.data.text_rows import Oddities, existing, rows_of
from sadari.errors import SadariError
from sadari.lang import Note

IMAGE = "image"
"""What the column of pictures is called in a table of captions."""
PARTS = {
    "parts": (
        "the {rows:,} pictures of the test in {name} are the test; the others are divided anew into training "
        "and validation",
        "{name}의 테스트 그림 {rows:,}장을 테스트로 쓰고, 나머지는 훈련과 검증으로 새로 나눕니다",
    ),
}
TRAIN, TEST = ("train", "training"), ("test", "testing")
_SHARD = re.compile(
    r"(?P<part>train|training|val|valid|validation|dev|test|testing)(-\d{5}-of-\d{5}.*)?\.parquet",
    re.IGNORECASE,
)
_MOSTLY = 0.9  # of a key's values must be pictures
_HEAD = 200


@dataclass(frozen=True)
class Gathered:
    """Pictures and their captions, as a source has them."""

    table: Table
    """Its name, source, licence and notes count; its rows do not."""
    pictures: Sequence[str | bytes | None]
    """Full paths, or files' bytes; None where one is missing."""
    names: list[str]
    """What each is called: its path as it was found or written, its key, or its row."""
    captions: list[Captions]
    others: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Columns of numbers and texts beside them; none, or as many rows."""
    test: int = 0
    """How many of the last rows are an official test."""
    notes: tuple[Note, ...] = ()
    stream: tuple[tuple[str, ...], int] | None = None
    """Shards of which these are only the first pairs, and about how many pairs they have."""

    def of(self, rows: Sequence[int]) -> Gathered:
        """Those rows alone, which are in ascending order."""
        tested = len(self.pictures) - self.test
        return replace(
            self,
            pictures=[self.pictures[row] for row in rows],
            names=[self.names[row] for row in rows],
            captions=[self.captions[row] for row in rows],
            others=self.others[list(rows)] if self.others.width else self.others,
            test=sum(row >= tested for row in rows),
        )


def of_table(
    source: str | Path | pl.DataFrame | Table,
    image: str | None,
    named: Sequence[str],
    memory: int,
    cache: Path | None,
) -> Gathered:
    """Pictures and captions of a table's rows; columns of numbers and texts stay beside them.

    `image` and `named` are the columns that were asked for. Raises SadariError where there is none of either.
    """
    table = source if isinstance(source, Table) else _opened(source, memory, cache)
    _check(table.name, list(table.schema), (image, *named))
    columns = _columns(table.name, list(table.schema), named)
    path = existing(table.source) if table.source else None
    plain = [name for name in columns if table.schema[name].is_numeric() or table.schema[name].is_temporal()]
    if path is not None and path.is_file() and plain:
        table = open_table(path, memory=memory, types=dict.fromkeys(plain, pl.String()))
    image = image or image_column(table) or _no_image(table.name, list(table.schema))
    frame = table.frame.select([image, *columns]).collect(engine="streaming")
    pictures = pictures_of(frame[image], table.name)
    folder = folder_of(table)
    names = [f"row {row:,}" for row in range(1, frame.height + 1)]
    held: list[Any] = pictures.to_list()
    if pictures.dtype == pl.String:
        _check_addresses(table.name, held)
        names = [_short(one, folder) or name for one, name in zip(held, names, strict=True)]
        held = [one and full_path(one, folder) for one in held]
    by_column = [
        [captions_in(value, language) for value in frame[name].to_list()]
        for name, language in columns.items()
    ]
    others = [
        name
        for name, dtype in table.schema.items()
        if name not in (image, IMAGE, *columns) and language_of(name) is None and _is_scalar(dtype)
    ]
    return Gathered(
        table,
        held,
        names,
        [merged(row) for row in zip(*by_column, strict=True)],
        table.frame.select(others).collect(engine="streaming") if others else pl.DataFrame(),
        table.official_test,
    )


def _opened(source: str | Path | pl.DataFrame, memory: int, cache: Path | None) -> Table:
    from sadari.data.builtin import BUILTIN, open_builtin

    if isinstance(source, str) and source in BUILTIN and existing(source) is None:
        frame, entry = open_builtin(source, cache)
        own = {name: getattr(entry, name) for name in ("task", "licence", "official_test")}
        return replace(open_table(frame, memory=memory), name=source, source=source, **own)
    return open_table(source, memory=memory)


def _check(name: str, columns: Sequence[str], asked: Iterable[str | None]) -> None:
    for one in asked:
        if one is not None and one not in columns:
            near = get_close_matches(one, columns, n=3, cutoff=0.5) or columns[:8]
            raise SadariError(f"{name} has no column {one!r}; near it: {', '.join(near)}")


def _columns(name: str, columns: Sequence[str], named: Sequence[str]) -> dict[str, str]:
    """The columns of captions, with their languages."""
    found = {one: language_of(one) or "" for one in named} or caption_columns(columns)
    if not found:
        raise SadariError(
            f"{name} has no column of captions ({', '.join(columns[:8])}); call it caption, or caption.ko "
            "and caption.en, or name it with --caption"
        )
    return found


def _no_image(name: str, columns: Sequence[str]) -> str:
    raise SadariError(
        f"{name} has no column of pictures ({', '.join(columns[:8])}): paths of files that are there, or "
        "their bytes; name one with --image"
    )


def _check_addresses(name: str, paths: Sequence[str | None]) -> None:
    if away := next((path for path in paths if path and "://" in path), None):
        raise SadariError(
            f"{name} names addresses ({away}); download the pictures first, or give WebDataset shards"
        )


def _is_scalar(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)


def _short(path: str | None, folder: Path) -> str:
    """A path without the folder, so that a table of full paths reads the same where it is copied to."""
    return (path or "").removeprefix(f"{folder}/")


def of_parquets(folder: Path, image: str | None, named: Sequence[str]) -> Gathered | None:
    """The rows of all Parquet files by part, as Hugging Face writes them, those of the test last."""
    for place in (folder, folder / "data"):
        files = sorted(os.listdir(place)) if place.is_dir() else []
        shards = [
            (match["part"].lower(), place / name) for name in files if (match := _SHARD.fullmatch(name))
        ]
        if shards:
            break
    else:
        return None
    parts = {part for part, _ in shards}
    tested = bool(parts & set(TRAIN))
    shards.sort(key=lambda shard: shard[0] in TEST)
    tables = [(part, open_table(path)) for part, path in shards]
    if any(table.schema != tables[0][1].schema for _, table in tables):
        raise SadariError(f"{folder}: its Parquet files have not the same columns; name one of them")
    rows = sum(table.rows for part, table in tables if tested and part in TEST)
    whole = replace(
        tables[0][1],
        name=folder.name,
        source=str(folder.resolve()),
        frame=pl.concat([table.frame for _, table in tables]),
        rows=sum(table.rows for _, table in tables),
        official_test=rows,
    )
    found = of_table(whole, image, named, 0, None)
    return replace(found, notes=(Note.of(PARTS, "parts", rows=rows, name=folder.name),)) if rows else found


# --------------------------------------------------------------------- lines of JSON


def of_jsonl(path: Path, image: str | None, named: Sequence[str]) -> Gathered:
    """Pictures and captions of the objects of a JSONL file; as for a table."""
    file, odd = text_files.look(path), Oddities(path.name)
    odd.add(file)
    rows = list(rows_of(file, odd))
    keys = list(dict.fromkeys(key for row in rows[:_HEAD] for key in row))
    _check(path.name, keys, (image, *named))
    columns = _columns(path.name, keys, named)
    image = image or _image_key(rows[:_HEAD], keys) or _no_image(path.name, keys)
    written = [value if isinstance(value := row.get(image), str) else None for row in rows]
    _check_addresses(path.name, written)
    folder = path.resolve().parent
    others = [key for key in keys if key not in (image, IMAGE, *columns) and language_of(key) is None]
    return Gathered(
        Table(path.name, str(path.resolve()), pl.LazyFrame(), {}, 0, "", False),
        [name and full_path(name, folder) for name in written],
        [name or f"row {row:,}" for row, name in enumerate(written, 1)],
        [merged(captions_in(row.get(name), language) for name, language in columns.items()) for row in rows],
        scalars(rows, others),
        notes=tuple(odd.said()),
    )


def jsonl_keys(path: Path) -> list[str]:
    """What the first objects of a JSONL file hold."""
    rows = islice(rows_of(text_files.look(path), Oddities(path.name)), _HEAD)
    return list(dict.fromkeys(key for row in rows for key in row))


def _image_key(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str | None:
    """The key whose values are pictures' names, one that is called so first."""
    for key in sorted(keys, key=lambda name: name.lower() not in IMAGE_NAMES):
        values = [value for row in rows if isinstance(value := row.get(key), str)]
        if values and sum(map(is_picture, values)) >= _MOSTLY * len(values):
            return key
    return None


def scalars(rows: Sequence[Mapping[str, Any]], keys: Iterable[str]) -> pl.DataFrame:
    """Columns of numbers where all values are, else of texts; keys of lists and objects are none."""
    columns = []
    for key in keys:
        values = [row.get(key) for row in rows]
        known = [value for value in values if value is not None]
        if not known or not all(isinstance(value, str | int | float) for value in known):
            continue
        if all(isinstance(value, bool) for value in known):
            columns.append(pl.Series(key, values, pl.Boolean))
        elif all(isinstance(value, int | float) for value in known):
            columns.append(pl.Series(key, [v if v is None else float(v) for v in values], pl.Float64))
        else:
            texts = [value if value is None else str(value) for value in values]
            columns.append(
                pl.Series(key, [t and t.encode("utf-8", "replace").decode() for t in texts], pl.String)
            )
    return pl.DataFrame(columns)
