"""Use a run of pictures: one photo, several, a folder of them, rows of a table, or what Python has in hand.

Each core decodes some pictures and answers them, while others decode theirs; no more of them are in memory
than the cores are at work on. A picture that cannot be read has no answer and is named. Only where none can
be read is there an error.
"""

from __future__ import annotations

import io
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sadari.data.decode_image import without_warnings
from sadari.data.image_columns import full_path, pictures_of
from sadari.data.image_files import walk
from sadari.data.spec_images import ImageSpec
from sadari.data.text_rows import existing
from sadari.engines_pictures import Answer, Engine, Precision, answering
from sadari.errors import SadariError
from sadari.lang import Note
from sadari.predict.writing import added, check_ending, columns_of, side_by_side, write_frames
from sadari.runs import Run

if TYPE_CHECKING:
    from PIL import Image

TEXTS = {
    "broken": (
        "{count:,} of {rows:,} pictures cannot be read and have no prediction: {first}",
        "그림 {rows:,}장 가운데 {count:,}장은 읽을 수 없어 예측이 없습니다: {first}",
    ),
    "others": (
        "{count:,} files in {name} are no pictures and are left out: {first}",
        "{name} 안의 파일 {count:,}개는 그림이 아니어서 뺐습니다: {first}",
    ),
    "links": (
        "{count:,} links in {name} are not followed: {first}",
        "{name} 안의 링크 {count:,}개는 따라가지 않았습니다: {first}",
    ),
}
PATH = "path"
"""The column that names the pictures of a folder."""
TOGETHER = 64  # pictures that a core decodes and answers at a time, at most
PIXELS = 1 << 25  # bytes of their pixels, at most
_NAMED = 3  # of those that cannot be read
# modes that files for pictures do not hold, and what takes their place
_INSTEAD = {"HSV": "RGB", "LAB": "RGB", "YCbCr": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}


@dataclass
class Broken:
    """Counts pictures, and those that cannot be read with why; several threads may report."""

    count: int = 0
    rows: int = 0
    first: dict[int, str] = field(default_factory=dict)
    """What the first of them in their order are called."""
    why: str = ""
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def saw(self, rows: int, failures: dict[int, str], names: Sequence[str], start: int = 0) -> None:
        """`rows` pictures were looked at, the first of them number `start`; failures by their place."""
        with self._lock:
            self.rows += rows
            self.count += len(failures)
            for place, why in failures.items():
                if not self.first or start + place < min(self.first):
                    self.why = why
                self.first[start + place] = names[place]
            self.first = dict(sorted(self.first.items())[:_NAMED])

    def check(self) -> None:
        """Raise SadariError with the first reason where there were pictures, and none could be read."""
        if self.rows and self.count == self.rows:
            raise SadariError(
                self.why if self.rows == 1 else f"no picture can be read; the first: {self.why}"
            )

    def notes(self) -> list[Note]:
        """What is to be said of those that could not be read."""
        if not self.count:
            return []
        first = ", ".join(self.first.values()) + ", ..." * (self.count > len(self.first))
        return [Note.of(TEXTS, "broken", "warning", count=self.count, rows=self.rows, first=first)]


def predict_pictures(
    run: Run,
    pictures: Any,
    probabilities: bool = False,
    notes: list[Note] | None = None,
    *,
    engine: Engine = "sadari",
    precision: Precision = "fp32",
) -> pl.DataFrame:
    """Answer pictures: a frame with `prediction`, and `probability of CLASS` columns if asked for.

    pictures  a folder, whose frame also names each picture by its `path` in it; a picture's path; its file's
              bytes; a PIL image; an array uint8 of pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); a
              sequence of any of these, or an array (N, H, W, C)

    They are made the run's size as in training. What cannot be read of several has null for a prediction,
    and `notes` gets a note of it. `engine` and `precision` say whose products answer, and in what numbers
    (`sadari.engines_pictures`). Raises SadariError where none of the pictures can be read.
    """
    if run.kind != "images":
        raise SadariError(f"this run predicts {run.spec.target} of {run.kind} data; give it a frame of rows")
    broken = Broken()
    frames: Iterator[pl.DataFrame]
    if isinstance(pictures, str | Path) and str(pictures) and Path(pictures).is_dir():
        names = _inside(Path(pictures))[0]
        paths = [Path(pictures) / name for name in names]
        answer = answer_of(run, engine, precision, len(paths))
        frames = _streamed(run, paths, names, probabilities, broken, answer)
    else:
        several = _several(pictures)
        names = [_called(picture, number) for number, picture in enumerate(several, 1)]
        answer = answer_of(run, engine, precision, len(several))
        frames = (frame.drop(PATH) for frame in _streamed(run, several, names, probabilities, broken, answer))
    found = [*frames]
    if not found:
        raise SadariError("no picture is given; give at least one")
    broken.check()
    if notes is not None:
        notes += broken.notes()
    return pl.concat(found)


def predict_files(
    run: Run,
    given: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    probabilities: bool = False,
    told: Callable[[int], None] | None = None,
    notes: list[Note] | None = None,
    engine: Engine = "sadari",
    precision: Precision = "fp32",
) -> Path:
    """Write `path` and `prediction` of pictures: of every one in a folder and those below it, or of a list.

    Returns `out`; left out, FOLDER-predicted.csv beside the folder, or pictures-predicted.csv. `told` hears
    how many are done, and `notes` gets what is to be said of those that cannot be read, which have no
    prediction, and of what else is in a folder. `engine` and `precision` are as in `predict_pictures`.
    Raises SadariError when there is no picture, or none that can be read, or for a full disk.
    """
    said: list[Note] = []
    if isinstance(given, str | Path):
        folder, whole = Path(given), Path(given).resolve()
        out = Path(out) if out is not None else whole.with_name(f"{whole.name}-predicted.csv")
        names, said = _inside(folder)
    else:
        folder, names = Path(), [str(path) for path in given]
        out = Path(out or "pictures-predicted.csv")
    check_ending(out)
    broken = Broken()
    answer = answer_of(run, engine, precision, len(names))

    def frames() -> Iterator[pl.DataFrame]:
        done = 0
        paths = [folder / name for name in names]
        for frame in _streamed(run, paths, names, probabilities, broken, answer):
            yield frame
            done += frame.height
            if told is not None:
                told(done)
        broken.check()

    write_frames(out, {PATH: pl.String(), **added(run, probabilities)}, frames())
    if notes is not None:
        notes += [*broken.notes(), *said]
    return out


def answered(
    run: Run,
    pictures: Sequence[Any],
    names: Sequence[str],
    probabilities: bool,
    broken: Broken,
    start: int = 0,
    answer: Answer | None = None,
) -> list[pl.Series]:
    """The appended columns for some pictures, null for what cannot be read; `broken` hears of it.

    answer  what gives the probabilities for pixels; left out, the run itself
    """
    spec: ImageSpec = run.spec
    pixels = np.empty((len(pictures), spec.size, spec.size, spec.channels), np.uint8)
    failures: dict[int, str] = {}
    with without_warnings():
        for row, (picture, name) in enumerate(zip(pictures, names, strict=True)):
            try:
                pixels[row] = _pixels(spec, picture, name)
            except SadariError as error:
                failures[row] = str(error)
    broken.saw(len(pictures), failures, names, start)
    good = np.setdiff1d(np.arange(len(pictures)), [*failures])
    if not len(good):
        return [
            pl.Series(name, [None] * len(pictures), kind) for name, kind in added(run, probabilities).items()
        ]
    answer = answer or run.predictions
    columns = columns_of(run, answer(pixels[good]), probabilities)
    if not failures:
        return columns
    places = np.zeros(len(pictures), np.int64)
    places[good] = np.arange(len(good))
    known = pl.Series(places).set(pl.Series(np.isin(np.arange(len(pictures)), good, invert=True)), None)
    return [column.gather(known) for column in columns]


def with_paths(
    spec: ImageSpec, batch: pl.DataFrame, source: str | Path, name: str, start: int
) -> tuple[list[Any], list[str]]:
    """The pictures of a table's rows, paths from the folder of its file on, and what errors call them."""
    path = existing(source)
    folder = Path.cwd() if path is None else path.resolve().parent
    column = batch[spec.image]
    column = pictures_of(column, name) if column.dtype != pl.Null else column
    pictures = column.to_list()
    rows = [f"{name} row {row:,}" for row in range(start + 1, start + len(pictures) + 1)]
    if column.dtype != pl.String:
        return pictures, rows
    return [one and Path(full_path(one, folder)) for one in pictures], [
        one or row for one, row in zip(pictures, rows, strict=True)
    ]


def block_of(spec: ImageSpec, rows: int) -> int:
    """How many of `rows` pictures a core takes at a time."""
    return max(min(rows, TOGETHER, PIXELS // math.prod(spec.width)), 1)


def answer_of(run: Run, engine: Engine, precision: Precision, count: int | None = None) -> Answer:
    """What answers `count` pictures (None: many), as they are streamed here."""
    cores = os.cpu_count() or 1
    size = block_of(run.spec, count or TOGETHER)
    blocks = cores if count is None else -(-count // size)
    return answering(run, engine, precision, size, min(blocks, cores))


def _streamed(
    run: Run,
    pictures: Sequence[Any],
    names: Sequence[str],
    probabilities: bool,
    broken: Broken,
    answer: Answer | None = None,
) -> Iterator[pl.DataFrame]:
    """Names and answers of pictures, some at a time, in their order."""
    size = block_of(run.spec, len(pictures))
    blocks = (slice(first, first + size) for first in range(0, len(pictures), size))

    def work(rows: slice, start: int) -> pl.DataFrame:
        path = pl.Series(PATH, names[rows], pl.String)
        found = answered(run, pictures[rows], names[rows], probabilities, broken, start, answer)
        return pl.DataFrame([path, *found])

    if len(pictures) == 1:  # not worth a thread
        return iter([work(slice(0, 1), 0)])
    return side_by_side(work, ((block, size) for block in blocks))


def _inside(folder: Path) -> tuple[list[str], list[Note]]:
    """The pictures below a folder by their paths in it, and what is to be said of other files there."""
    walked = walk(folder)
    if not walked.files:
        raise SadariError(
            f"{folder} holds no pictures (JPEG, PNG, WebP, GIF, BMP, TIFF); name the folder that does"
        )
    said = []
    for key, left in (("others", walked.others), ("links", walked.links)):
        if left:
            first = ", ".join(left[:_NAMED]) + ", ..." * (len(left) > _NAMED)
            said.append(Note.of(TEXTS, key, count=len(left), name=folder.resolve().name, first=first))
    return [path.relative_to(folder).as_posix() for path in walked.files], said


def _several(pictures: Any) -> Sequence[Any]:
    """Pictures one by one."""
    if isinstance(pictures, np.ndarray):
        return list(pictures) if pictures.ndim == 4 else [pictures]
    if isinstance(pictures, Sequence | pl.Series) and not isinstance(pictures, str | bytes):
        return list(pictures)
    return [pictures]


def _called(picture: Any, number: int) -> str:
    return (isinstance(picture, str | Path) and str(picture)) or f"picture {number:,}"


def _pixels(spec: ImageSpec, picture: Any, name: str) -> np.ndarray:
    """Pixels (H, W, C) of the run's size. Raises SadariError for what is no picture, or cannot be read."""
    if isinstance(picture, np.ndarray):
        if picture.dtype == np.uint8 and picture.shape == (spec.size, spec.size, spec.channels):
            return picture
        picture = _of_array(picture, name)
    elif picture is None or picture == "":
        raise SadariError(f"{name} has no {spec.image}; leave the row out")
    if not isinstance(picture, str | Path | bytes):
        picture = _encoded(picture, name)
    return spec.decode(picture, name)


def _of_array(pixels: np.ndarray, name: str) -> Image.Image:
    """An array of pixels as Pillow has it."""
    from PIL import Image

    shape = pixels.shape
    if pixels.dtype != np.uint8:
        raise SadariError(f"{name} is an array of {pixels.dtype}; give pixels as uint8, from 0 to 255")
    if not (len(shape) in (2, 3) and min(shape) and (len(shape) == 2 or shape[2] in (1, 3, 4))):
        raise SadariError(
            f"{name} is an array of shape {shape}; give (height, width), or 1, 3 or 4 channels more"
        )
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if shape[2:] == (1,) else pixels))


def _encoded(picture: Any, name: str) -> bytes:
    """A PIL image as a file, so that it takes the way that files take."""
    from PIL import Image, ImageOps

    if not isinstance(picture, Image.Image):
        raise SadariError(
            f"{name} is {type(picture).__name__}, no picture; give a path, bytes, a PIL image or an array"
        )
    upright = ImageOps.exif_transpose(picture)
    if upright.mode in _INSTEAD:
        upright = upright.convert(_INSTEAD[upright.mode])
    elif "transparency" in upright.info:
        upright = upright.convert("RGBA")
    file = io.BytesIO()
    upright.save(file, "TIFF")
    return file.getvalue()
