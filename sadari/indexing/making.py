"""Making an index: what is new or has changed is decoded, embedded and put in it, many at a time."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from sadari.data.decode_image import decode, without_warnings
from sadari.data.listed import Listed, list_pictures
from sadari.data.text_rows import existing
from sadari.errors import SadariError
from sadari.index import Index
from sadari.index.address import check_options, place
from sadari.index.lance import libraries
from sadari.indexing.encoder import (
    Encoder,
    Precision,
    check_made,
    check_precision,
    check_run,
    encoder_of,
    pictures_of,
    reading_of,
    settled,
)
from sadari.lang import Note
from sadari.predict.pictures import Broken, block_of
from sadari.predict.writing import side_by_side
from sadari.runs import Run

TEXTS = {
    "done": (
        "{new:,} pictures are new, {changed:,} have changed, {same:,} are as they were",
        "새 그림 {new:,}장, 바뀐 그림 {changed:,}장, 그대로인 그림 {same:,}장",
    ),
    "broken": (
        "{count:,} of {rows:,} pictures cannot be read and are left out: {first}",
        "그림 {rows:,}장 가운데 {count:,}장은 읽을 수 없어 뺐습니다: {first}",
    ),
    "gone": (
        "{count:,} pictures of the index are no longer there: {first}; --prune takes them out",
        "색인의 그림 {count:,}장이 이제 없습니다: {first}. --prune을 주면 색인에서 뺍니다",
    ),
    "pruned": (
        "{count:,} pictures that are no longer there were taken out: {first}",
        "이제 없는 그림 {count:,}장을 색인에서 뺐습니다: {first}",
    ),
    "bf16": (
        "the encoder's products are in bf16; a vector's cosine with that of fp32 is {cosine:.5f} on average; "
        "--precision fp32 keeps every digit",
        "인코더의 곱셈을 bf16으로 했습니다. fp32로 만든 벡터와의 코사인은 평균 {cosine:.5f}입니다. "
        "모든 자릿수를 지키려면 --precision fp32를 주십시오",
    ),
    "fp32": (
        "the encoder's products are in fp32; a vector's cosine with that of bf16 is {cosine:.5f} on average; "
        "--precision bf16 is faster",
        "인코더의 곱셈을 fp32로 했습니다. bf16으로 만든 벡터는 이와의 코사인이 평균 {cosine:.5f}입니다. "
        "더 빠르게 하려면 --precision bf16을 주십시오",
    ),
}
STAMP, THUMBNAIL = "stamp", "thumbnail"
TOGETHER, SECONDS = 1024, 30.0  # pictures, or seconds of work, that one step puts in the index
SMALL, SIDE = 1 << 14, 192  # bytes of a picture that is its own thumbnail; pixels of other thumbnails' sides
_NAMED = 3


@dataclass(frozen=True)
class Indexed:
    """What `index` did."""

    folder: Path | str
    """Where the index is; a text where that is an address."""
    index: Index
    new: int
    changed: int
    same: int
    gone: tuple[str, ...]
    """Ids that the index has and the source has not, or not readable any more."""
    notes: list[Note]


def index(
    pictures: str | Path,
    run: Run | str | Path,
    folder: str | Path | None = None,
    *,
    image: str | None = None,
    caption: Sequence[str] = (),
    prune: bool = False,
    precision: Precision = "auto",
    storage: Mapping[str, str] | None = None,
    told: Callable[[int, int], None] | None = None,
    memory: int = 2 << 30,
    cache: Path | None = None,
) -> Indexed:
    """Put pictures in the index of a folder, which is made where there is none.

    pictures   a folder, with those below it; a table with a column of paths or bytes; a built-in's name
    run        of pictures with captions, or of pictures alone with an eye: the same at every call
    folder     of the index, or an address as s3://bucket/index; else `index_folder(pictures)`
    prune      take out what the source no longer has
    precision  of the encoder's numbers: fp32, bf16, or auto: bf16 where the processor has it and vectors are
               nearly the same (`encoder.settled`); an index that is there goes on as it began
    storage    options of an address (`sadari.index.address`), such as keys; they are kept nowhere
    told       hears how many are embedded, and of how many

    Captions and columns of numbers and texts stand beside each picture. Stopped at any moment, the same call
    goes on from there. Raises SadariError where there are no pictures, for a run that makes no vectors of
    them, for an index of other pictures or of another run, and where lancedb is not installed.
    """
    libraries()
    check_precision(precision)
    run = run if isinstance(run, Run) else Run.load(run)
    encoder_of(run)  # says now what is wrong with the run
    folder = place(folder) if folder is not None else index_folder(pictures)
    check_options(folder, storage)
    opened = _opened(folder, storage)
    if opened is not None:
        check_made(opened, folder)
        check_run(opened, run, folder)
    listed = list_pictures(pictures, image=image, caption=caption, memory=memory, cache=cache)
    about = {
        "pictures": listed.source,
        "folder": str(listed.folder),
        "run": str(run.path.resolve()),
        "rung": run.rung,
        "kind": run.kind,
        "weights": run.result["weights"],
        "reading": reading_of(run),
        "spec": run.spec.to_json(),
    }
    if opened is not None and opened.about["pictures"] != listed.source:
        raise SadariError(
            f"{folder} is the index of {opened.about['pictures']}, not of {listed.source}: an index holds "
            "the pictures of one source; choose another folder with --out"
        )
    stored = opened.values(STAMP) if opened is not None else {}
    rows = [
        row
        for row, (name, stamp) in enumerate(zip(listed.ids, listed.stamps, strict=True))
        if not stamp or stored.get(name) != stamp
    ]
    broken, added = Broken(), set[int]()
    kind, cosine = settled(run, listed, rows, precision, opened)
    encode = encoder_of(run, kind)
    writer = _Writer(opened, folder, {**about, "precision": kind, "cosine": cosine}, listed, storage)
    try:
        for frame in _embedded(run, encode, listed, rows, broken):
            writer.take(frame)
            added.update(frame["row"])
            if told is not None:
                told(broken.rows, len(rows))
    finally:
        writer.write()  # what is embedded is kept, whatever happened
    if writer.index is None:
        broken.check()
    assert writer.index is not None  # some picture could be read
    there = {name for row, name in enumerate(listed.ids) if row in added or name in stored}
    there -= {listed.ids[row] for row in rows if row not in added}
    gone = tuple(name for name in stored if name not in there)
    if prune and gone:
        writer.index.remove(gone)
    new = sum(listed.ids[row] not in stored for row in added)
    counts: dict[str, Any] = {"new": new, "changed": len(added) - new, "same": len(listed.ids) - len(rows)}
    notes = [Note.of(TEXTS, "done", **counts), *listed.notes]
    if added and opened is None and cosine != 1 and (kind == "bf16" or precision == "auto"):
        notes.append(Note.of(TEXTS, kind, cosine=cosine))
    if broken.count:
        count, first = broken.count, _first([*broken.first.values()], broken.count)
        notes.append(Note.of(TEXTS, "broken", "warning", count=count, rows=len(listed.ids), first=first))
    if gone:
        key = "pruned" if prune else "gone"
        notes.append(Note.of(TEXTS, key, count=len(gone), first=_first(gone, len(gone))))
    return Indexed(folder, writer.index, gone=gone, notes=notes, **counts)


def _first(names: Sequence[str], count: int) -> str:
    """The first of `count` names."""
    return ", ".join(names[:_NAMED]) + ", ..." * (count > min(len(names), _NAMED))


def index_folder(pictures: str | Path) -> Path:
    """Where the index of pictures lies unless it is said: NAME-index beside them; of a built-in, here."""
    path = existing(pictures)
    if path is None:
        return Path(f"{Path(str(pictures)).name}-index")
    whole = path.resolve()
    name = whole.name if whole.is_dir() else whole.name.removesuffix(".gz").rpartition(".")[0] or whole.name
    return path.parent / f"{name}-index" if path.name not in ("", "..") else whole.with_name(f"{name}-index")


def _opened(folder: Path | str, storage: Mapping[str, str] | None) -> Index | None:
    """The index of a folder, None where there is none yet. Raises SadariError where something else is."""
    if isinstance(folder, str):
        return Index.find(folder, storage)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not (folder / "items.lance").is_dir():
        raise SadariError(f"{folder} is there and no index; choose another folder with --out")
    return Index.open(folder)


def _embedded(
    run: Run, encode: Encoder, listed: Listed, rows: list[int], broken: Broken
) -> Iterator[pl.DataFrame]:
    """Row, vector and thumbnail of what can be read, each core decoding and embedding some at a time."""
    spec = pictures_of(run)
    size = block_of(spec, len(rows)) if rows else 1

    def work(block: list[int], start: int) -> pl.DataFrame:
        pixels = np.empty((len(block), spec.size, spec.size, spec.channels), np.uint8)
        failures, small = dict[int, str](), list[bytes | None]()
        with without_warnings():
            for place, row in enumerate(block):
                picture, name = listed.pictures[row], listed.ids[row]
                try:
                    if picture is None:
                        raise SadariError(f"{name} has no picture; leave the row out")
                    pixels[place] = spec.decode(picture, name)
                    small.append(_thumbnail(picture) if isinstance(picture, bytes) else None)
                except SadariError as error:
                    failures[place] = str(error)
                    small.append(None)
        good = np.setdiff1d(np.arange(len(block)), [*failures])
        vectors = encode(pixels[good]) if len(good) else np.zeros((0, 1), np.float32)
        length = np.linalg.norm(vectors, axis=1)
        for place in good[~(np.isfinite(length) & (length > 0))]:
            failures[int(place)] = (
                f"{listed.ids[block[place]]} has no direction in the run's space; leave it out"
            )
        broken.saw(len(block), failures, [listed.ids[row] for row in block], start)
        sound = np.isfinite(length) & (length > 0)
        return pl.DataFrame(
            [
                pl.Series("row", np.array(block)[good[sound]], pl.Int64),
                pl.Series("vector", vectors[sound]),
                pl.Series(THUMBNAIL, [small[place] for place in good[sound]], pl.Binary),
            ]
        )

    blocks = (rows[first : first + size] for first in range(0, len(rows), size))
    return side_by_side(work, ((block, len(block)) for block in blocks))


def _thumbnail(picture: bytes) -> bytes:
    """A small file of the same picture."""
    if len(picture) <= SMALL:
        return picture
    file = io.BytesIO()
    Image.fromarray(decode(picture, size=SIDE, fit="pad")).save(file, "JPEG", quality=85)
    return file.getvalue()


def _inside(picture: str | bytes | None, folder: Path) -> str | None:
    """The path of a picture from the folder on, or in full where it lies elsewhere; bytes have none."""
    return picture.removeprefix(f"{folder}{os.sep}") if isinstance(picture, str) else None


class _Writer:
    """Puts what is embedded in the index, many at a time; the first makes it."""

    def __init__(
        self,
        index: Index | None,
        folder: Path | str,
        about: dict[str, Any],
        listed: Listed,
        storage: Mapping[str, str] | None,
    ) -> None:
        self.index, self.folder, self.about, self.listed = index, folder, about, listed
        self.storage = storage
        self.waiting: list[pl.DataFrame] = []
        self.since = time.monotonic()

    def take(self, frame: pl.DataFrame) -> None:
        if frame.height:
            self.waiting.append(frame)
        if sum(map(len, self.waiting)) >= TOGETHER or time.monotonic() - self.since > SECONDS:
            self.write()

    def write(self) -> None:
        """Add all that waits, in one step."""
        if not self.waiting:
            return
        whole = pl.concat(self.waiting)
        rows, vectors, listed = whole["row"].to_list(), whole["vector"].to_numpy(), self.listed
        if self.index is None:
            self.index = Index.create(self.folder, vectors.shape[1], self.about, self.storage)
        columns = {name: [values[row] for row in rows] for name, values in listed.columns.items()}
        columns[THUMBNAIL] = whole[THUMBNAIL].to_list()
        columns = {
            name: values
            for name, values in columns.items()
            if name in self.index.columns or any(value is not None for value in values)  # else of no type
        }
        files = [_inside(listed.pictures[row], listed.folder) for row in rows]
        self.index.add(
            [listed.ids[row] for row in rows],
            vectors,
            files,
            [listed.captions[row] for row in rows],
            **{STAMP: [listed.stamps[row] for row in rows]},
            **columns,
        )
        self.waiting, self.since = [], time.monotonic()
