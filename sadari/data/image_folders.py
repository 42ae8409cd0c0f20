"""Folders of pictures: a folder for each class, perhaps in a folder for each part, or shards of Parquet."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from sadari.data.image_columns import Found, choose, class_names, image_column
from sadari.data.image_files import walk
from sadari.data.table import Table, open_table
from sadari.data.tokenizers import clean_text
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "links": (
        "{count:,} links in {name} are not followed (the first: {first})",
        "{name} 안의 링크 {count:,}개는 따라가지 않았습니다(처음: {first})",
    ),
    "others": (
        "{count:,} files in {name} are no pictures and are left out: {first}",
        "{name} 안의 파일 {count:,}개는 그림이 아니어서 뺐습니다: {first}",
    ),
    "outside": (
        "{count:,} pictures in {name} are in no class's folder and are left out (the first: {first})",
        "{name} 안의 그림 {count:,}장은 범주 폴더에 들어 있지 않아 뺐습니다(처음: {first})",
    ),
    "parts": (
        "the {rows:,} pictures of {folder} are the test; those of {others} are divided anew into training "
        "and validation",
        "{folder}의 그림 {rows:,}장을 테스트로 쓰고, {others}의 그림은 훈련과 검증으로 새로 나눕니다",
    ),
}
IMAGE, LABEL = "image", "label"
"""Names of the columns of a folder."""
_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation", "dev", "eval")
_TEST = ("test", "testing")
_PARTS = {*_TRAIN, *_VALIDATION, *_TEST}
_SHARD = re.compile(r"(?P<part>[a-z]+)(-\d{5}-of-\d{5}.*)?\.parquet", re.IGNORECASE)
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
_NAMED = 3  # of what is left out


def of_folder(folder: Path, image: str | None, target: str | None) -> Found:
    """The pictures below each class's folder, or below each class's folder in each part's.

    Raises SadariError when there are not two classes.
    """
    for name, own in ((image, IMAGE), (target, LABEL)):
        if name not in (None, own):
            raise SadariError(f"{folder} is a folder, whose column is {own}, not {name!r}; leave {name} out")
    folder = Path(os.path.abspath(folder))
    walked = walk(folder)
    inside = [path.relative_to(folder).parts for path in walked.files]
    tops = sorted({parts[0] for parts in inside if len(parts) > 1})
    part_of = _by_part(tops)
    depth = 1 if part_of else 0
    rows: list[tuple[bool, int]] = []  # whether it is of the test, and the number of the file
    outside = []
    for number, parts in enumerate(inside):
        if len(parts) < depth + 2 or (part_of and parts[0] not in part_of):
            outside.append("/".join(parts))
        else:
            rows.append((part_of.get(parts[0]) == "test", number))
    rows.sort()
    labels = [clean_text(inside[number][depth]) for _, number in rows]
    _check(folder, len(inside), sorted(set(labels)), tops)
    frame = pl.DataFrame(
        {IMAGE: [str(walked.files[number]) for _, number in rows], LABEL: labels},
        schema={IMAGE: pl.String, LABEL: pl.String},
    )
    names = ["/".join(inside[number]) for _, number in rows]
    found = Found(_named(folder), frame, names, sum(is_test for is_test, _ in rows))
    if found.test:
        found.notes.append(_parts_note(part_of, found.test))
    for key, left, shown in (
        ("links", walked.links, 1),
        ("others", walked.others, _NAMED),
        ("outside", outside, 1),
    ):
        if left:
            first = ", ".join(left[:shown])
            found.notes.append(Note.of(TEXTS, key, "warning", count=len(left), name=folder.name, first=first))
    return found


def of_shards(folder: Path, image: str | None, target: str | None) -> Found | None:
    """The rows of all Parquet files of a folder, those of the test last; None where there are none.

    Raises SadariError when their columns differ, or hold no pictures.
    """
    shards = _shards(folder)
    if not shards:
        return None
    part_of = _by_part(sorted({part for part, _ in shards}))
    shards.sort(key=lambda shard: part_of.get(shard[0]) == "test")
    tables = [(part, open_table(path)) for part, path in shards]
    if any(table.schema != tables[0][1].schema for _, table in tables):
        raise SadariError(f"{folder}: its Parquet files have not the same columns; name one of them")
    whole = Table(
        name=folder.name,
        source=str(folder.resolve()),
        frame=pl.concat([table.frame for _, table in tables]),
        schema=tables[0][1].schema,
        rows=sum(table.rows for _, table in tables),
        fingerprint="",
        streamed=False,
    )
    found = choose(whole, image, target, folder, class_names(shards[0][1]))
    found.test = sum(table.rows for part, table in tables if part_of.get(part) == "test")
    if found.test:
        found.notes.append(_parts_note(part_of, found.test))
    return found


def holds_shards(folder: Path) -> bool:
    """Whether a folder holds a set of pictures in Parquet files by part, as Hugging Face writes it."""
    shards = _shards(folder)
    try:
        return bool(shards) and image_column(open_table(shards[0][1])) is not None
    except SadariError:
        return False


def _by_part(tops: Sequence[str]) -> dict[str, str]:
    """train or test for each folder that is a part of a data set; nothing where folders are classes."""
    train = [top for top in tops if top.lower() in _TRAIN]
    validation = [top for top in tops if top.lower() in _VALIDATION]
    test = [top for top in tops if top.lower() in _TEST]
    if not train or not (validation or test):
        return {}
    if not test:
        validation, test = [], validation
    return dict.fromkeys([*train, *validation], "train") | dict.fromkeys(test, "test")


def _parts_note(part_of: dict[str, str], rows: int) -> Note:
    folder, others = (
        ", ".join(name for name, part in part_of.items() if part == wanted) for wanted in ("test", "train")
    )
    return Note.of(TEXTS, "parts", rows=rows, folder=folder, others=others)


def _check(folder: Path, pictures: int, classes: Sequence[str], tops: Sequence[str]) -> None:
    """Raise SadariError when there are no pictures, or not two classes of them."""
    if not pictures:
        raise SadariError(
            f"{folder} holds no pictures (JPEG, PNG, WebP, GIF, BMP, TIFF); name the folder that does"
        )
    if len(tops) == 1:
        below = [path.name for path in (folder / tops[0]).iterdir() if path.is_dir()]
        if len(below) > 1:
            raise SadariError(
                f"{folder} has pictures in one folder only ({tops[0]}), which has {len(below):,} folders; "
                f"name {folder / tops[0]}"
            )
    if {name.lower() for name in classes} <= _PARTS and classes:
        raise SadariError(
            f"{folder} has the folders {', '.join(classes)}, which are parts of a data set, not classes; put "
            f"a folder for each class in them"
        )
    if len(classes) < 2:
        tables = sorted(path for path in folder.iterdir() if path.name.endswith(_TABLES))
        raise SadariError(
            f"{folder} has {len(classes)} folders of pictures ({', '.join(classes) or 'none'}); put the "
            f"pictures of each class in a folder of its own"
            + "".join(f", or name the table of their labels: {path}" for path in tables[:1])
        )


def _shards(folder: Path) -> list[tuple[str, Path]]:
    """Parquet files by part, in a folder or its `data`: (part, file)."""
    for place in (folder, folder / "data"):
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        found = [(match["part"].lower(), place / name) for name in names if (match := _SHARD.fullmatch(name))]
        if found and all(part in _PARTS for part, _ in found):
            return found
    return []


def _named(folder: Path) -> Table:
    return Table(folder.name, str(folder.resolve()), pl.LazyFrame(), {}, 0, "", False)
