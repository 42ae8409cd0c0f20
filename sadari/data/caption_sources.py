"""Captioned pictures in any source: tables, folders with sidecars, and WebDataset shards."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data import text_files
from sadari.data.caption_columns import Captions, caption_columns, captions_in, is_language, merged
from sadari.data.caption_tables import (
    IMAGE,
    PARTS,
    TEST,
    TRAIN,
    Gathered,
    of_jsonl,
    of_parquets,
    of_table,
    scalars,
)
from sadari.data.image_files import is_picture, walk
from sadari.data.image_folders import TEXTS as OF_FOLDERS
from sadari.data.shards import ENDINGS, Sample, Shards, shard_bytes
from sadari.data.table import Table
from sadari.data.text_rows import Oddities, existing, is_jsonl
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "no picture": (
        "{count:,} samples of {name} have no picture and are left out",
        "{name}의 표본 {count:,}개는 그림이 없어 뺐습니다",
    ),
    "no caption": (
        "{count:,} samples of {name} have no caption and are left out",
        "{name}의 표본 {count:,}개는 캡션이 없어 뺐습니다",
    ),
    "streamed": (
        "{name} holds about {pairs:,} pairs, more than memory has room for; the first {count:,} tell how to "
        "read them and hold validation and test, and training reads all others from the shards as it goes on",
        "{name}에는 쌍이 약 {pairs:,}개 있어 메모리에 다 들어가지 않습니다. 처음 {count:,}개로 읽는 법을 "
        "정하고 그 안에서 검증과 시험 부분을 떼며, 나머지는 훈련하면서 샤드에서 바로 읽습니다",
    ),
    "alone": (
        "{count:,} texts in {name} lie beside no picture of their name and are left out (the first: {first})",
        "{name} 안의 글 {count:,}개는 같은 이름의 그림이 없어 뺐습니다(처음: {first})",
    ),
}
_SIDECARS = (".txt", ".caption", ".json")
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_HEAD = 200
_BESIDE = 2 << 10  # bytes of a shard for each pair beside its picture: heads and captions, in blocks of 512
_LARGEST = 1 << 20  # bytes of a sidecar; more is no caption


@dataclass(frozen=True)
class Pair:
    """A picture of a stream, and its captions."""

    key: str
    picture: bytes = field(repr=False)
    """The file's bytes."""
    captions: Captions
    about: dict[str, Any] = field(default_factory=dict)
    """What else the sample's JSON says: its numbers and texts."""


def gather(
    source: str | Path | pl.DataFrame | Table | Sequence[str | Path],
    image: str | None,
    named: Sequence[str],
    memory: int,
    cache: Path | None,
) -> Gathered:
    """Pictures and captions of any source. `image` and `named` are the columns that were asked for."""
    path = existing(source)
    if is_shards(source):
        return _of_tars(source, memory)  # type: ignore[arg-type]
    if path is not None and path.is_dir():
        metadata = next((path / name for name in _METADATA if (path / name).is_file()), None)
        if metadata is None:
            return of_parquets(path, image, named) or _of_folder(path)
        path = metadata
        source = path
    if path is not None and path.is_file() and is_jsonl(path):
        return of_jsonl(path, image, named)
    return of_table(source, image, named, memory, cache)  # type: ignore[arg-type]


def is_shards(source: object) -> bool:
    """Whether a source names WebDataset shards: by the ends of names, or as a folder of them."""
    if isinstance(source, str | Path):
        name = str(source).lower()
        path = existing(source)
        if path is not None and path.is_dir():
            names = [name.lower() for name in os.listdir(path)]
            return any(name.endswith(ENDINGS) for name in names) and not any(map(is_picture, names))
        return name.endswith(ENDINGS)
    if isinstance(source, Sequence):
        return bool(source) and all(isinstance(one, str | Path) for one in source)
    return False


def holds_captions(path: Path) -> bool:
    """Whether a folder holds pictures with captions: shards, or sidecars beside most of them."""
    if is_shards(path) or not path.is_dir():
        return is_shards(path)
    walked = walk(path)
    stems = {_stem(name) for name in walked.others if name.lower().endswith(_SIDECARS)}
    head = walked.files[:_HEAD]
    beside = sum(_stem(file.relative_to(path).as_posix()) in stems for file in head)
    return beside > len(head) / 2


def pairs_of(samples: Iterable[Sample], left: Counter[str] | None = None) -> Iterator[Pair]:
    """The samples of shards that are a picture with captions; of the others, `left` counts why they are none.

    A picture is the part that ends as one; captions are the lines of txt and ko.txt, and what JSON says in
    keys that are called as captions are.
    """
    for sample in samples:
        pictures = [ending for ending in sample.parts if is_picture(f".{ending}")]
        captions, about = _captions_of(sample)
        why = "no picture" if not pictures else "no caption" if not captions else ""
        if why:
            if left is not None:
                left[why] += 1
            continue
        shortest = min(pictures, key=lambda ending: ending.count("."))  # jpg rather than mask.png
        yield Pair(sample.key, sample.parts[shortest], captions, about)


def _captions_of(sample: Sample) -> tuple[Captions, dict[str, Any]]:
    found: list[Captions] = []
    about: dict[str, Any] = {}
    for ending, content in sample.parts.items():
        language, _, last = ending.rpartition(".")
        if last in ("txt", "caption") and (not language or is_language(language)):
            found.append(captions_in(_text(content).splitlines(), language))
        elif ending == "json":
            captions, about = _of_object(_text(content))
            found.append(captions)
    return merged(found), about


def _of_object(text: str) -> tuple[Captions, dict[str, Any]]:
    """What a JSON object says as captions, and its other numbers and texts."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}, {}
    if not isinstance(content, dict):
        return {}, {}
    columns = caption_columns(content)
    captions = merged(captions_in(content[name], language) for name, language in columns.items())
    others = {name: value for name, value in content.items() if name not in columns}
    return captions, {name: value for name, value in others.items() if isinstance(value, str | int | float)}


def _text(content: bytes) -> str:
    content = content[:_LARGEST].removeprefix(b"\xef\xbb\xbf")
    for encoding in ("utf-8", "cp949"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("utf-8", "replace")


# --------------------------------------------------------------------- a folder with sidecars


def _of_folder(folder: Path) -> Gathered:
    """Pictures with texts of the same name beside them; a folder `test` beside `train` is the test."""
    folder = Path(os.path.abspath(folder))
    walked = walk(folder)
    inside = [path.relative_to(folder).as_posix() for path in walked.files]
    if not inside:
        raise SadariError(
            f"{folder} holds no pictures (JPEG, PNG, WebP, GIF, BMP, TIFF) and no shards; name the folder "
            "that does"
        )
    stems = {_without_suffix(name) for name in inside}
    texts: dict[str, list[Captions]] = {}
    alone, others, odd = [], [], Oddities(folder.name)
    for name in walked.others:
        if not name.lower().endswith(_SIDECARS):
            others.append(name)
            continue
        stem, language = _without_suffix(name), ""
        before, _, last = stem.rpartition(".")
        if stem not in stems and before in stems and is_language(last):
            stem, language = before, last.lower()
        if stem in stems:
            texts.setdefault(stem, []).append(_sidecar(folder / name, language, odd))
        else:
            alone.append(name)
    if not texts:
        raise SadariError(
            f"{folder} has {len(inside):,} pictures and no captions; put a text beside each, such as "
            f"{_without_suffix(inside[0])}.txt, or name a table of both"
        )
    tops = {name.split("/")[0].lower() for name in inside if "/" in name}
    tested = bool(tops & set(TRAIN) and tops & set(TEST))
    is_test = [tested and name.split("/")[0].lower() in TEST for name in inside]
    order = sorted(range(len(inside)), key=lambda row: is_test[row])
    notes = odd.said()
    for key, left in (("links", walked.links), ("others", others)):
        if left:
            first = ", ".join(left[:1])
            notes.append(Note.of(OF_FOLDERS, key, "warning", count=len(left), name=folder.name, first=first))
    if alone:
        notes.append(Note.of(TEXTS, "alone", "warning", count=len(alone), name=folder.name, first=alone[0]))
    if any(is_test):
        notes.append(Note.of(PARTS, "parts", rows=sum(is_test), name=folder.name))
    return Gathered(
        Table(folder.name, str(folder), pl.LazyFrame(), {}, 0, "", False),
        [str(walked.files[row]) for row in order],
        [inside[row] for row in order],
        [merged(texts.get(_without_suffix(inside[row]), ())) for row in order],
        test=sum(is_test),
        notes=tuple(notes),
    )


def _sidecar(path: Path, language: str, odd: Oddities) -> Captions:
    """The captions of a text, one a line, or of a JSON object; none where it is no text, or a book."""
    if path.stat().st_size > _LARGEST or path.stat().st_size == 0:
        return {}
    file = odd.look(path)
    if file is None:
        return {}
    odd.add(file)
    text = text_files.whole(file)
    return _of_object(text)[0] if path.suffix.lower() == ".json" else captions_in(text.splitlines(), language)


def _without_suffix(name: str) -> str:
    return name.rpartition(".")[0] if "." in name.rpartition("/")[2] else name


def _stem(name: str) -> str:
    """A name without what follows the first dot of its last part."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


# --------------------------------------------------------------------- tar shards


def _of_tars(source: str | Path | Sequence[str | Path], memory: int) -> Gathered:
    """All pairs of shards in memory, or as many of the first as have room there."""
    stream, left = Shards(source, shuffle=0), Counter[str]()
    name = Path(str(source)).name if isinstance(source, str | Path) else f"{len(stream.urls)} shards"
    pairs: list[Pair] = []
    size, every = 0, None
    for pair in pairs_of(stream, left):
        if pairs and size + len(pair.picture) > memory // 2:
            every = _about(stream.urls, len(pairs), size)
            break
        pairs.append(pair)
        size += len(pair.picture)
    notes = [] if every is None else [Note.of(TEXTS, "streamed", name=name, pairs=every, count=len(pairs))]
    notes += [
        Note.of(TEXTS, key, "warning", count=left[key], name=name)
        for key in ("no picture", "no caption")
        if left[key]
    ]
    path = existing(source)
    again = str(path.resolve()) if path else str(source) if isinstance(source, str | Path) else ""
    keys = dict.fromkeys(key for pair in pairs for key in pair.about)
    keep = [key for key in keys if key not in ("key", IMAGE)]
    return Gathered(
        Table(name, again, pl.LazyFrame(), {}, 0, "", False),
        [pair.picture for pair in pairs],
        [pair.key for pair in pairs],
        [pair.captions for pair in pairs],
        scalars([pair.about for pair in pairs], keep),
        notes=tuple(notes),
        stream=None if every is None else (tuple(stream.urls), every),
    )


def _about(urls: Sequence[str], pairs: int, size: int) -> int:
    """About how many pairs shards hold, of which the first have pictures of `size` bytes."""
    return round(pairs * sum(map(shard_bytes, urls)) / (size + pairs * _BESIDE))
