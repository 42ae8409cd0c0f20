"""Picture files as they are found, and what each is: looked at once, remembered until the file changes.

1. walk     a folder's files: pictures by their names (or, without an ending, by their first bytes)
2. survey   each read once: SHA-256 of its bytes, size, colours, and what tells it from others (`Look`)
3. memo     kept in the cache by path, size and times, so that a second opening reads no picture
"""

from __future__ import annotations

import hashlib
import os
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import PIL
import polars as pl

from sadari.data import text_files
from sadari.data.decode_image import LOOK, SUFFIXES, begins_as_one, look, without_warnings
from sadari.data.fetch import cache_folder
from sadari.errors import SadariError

if TYPE_CHECKING:
    from jaxtyping import Shaped

Told = Callable[[int, int], None]
"""Called with how many are done, and of how many."""
LOOKS = np.dtype(
    [
        ("content", "u1", 32),  # SHA-256 of the file
        ("pixels", "u1", 32),  # of its pixels
        ("bits", "<u8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("channels", "u1"),
        ("small", "u1", LOOK * LOOK),
    ]
)
"""A `Look` as a record, with what the file's bytes hash to."""
MEMO = "looks"
"""Folder below the cache's `decoded`."""
_FORMAT = 1
_MOST_FILES = 5_000_000
_MOST_BYTES = 1 << 30
_SETTLED = 2_000_000_000  # nanoseconds: a file changed twice within the clock's grain looks unchanged
_BLOCK = 256
_SOME = 500  # files that are looked at to tell what a folder is one of
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Walk:
    """What is below a folder."""

    files: list[Path] = field(default_factory=list)
    """Pictures, sorted by their paths; those that are hidden are not among them."""
    links: list[str] = field(default_factory=list)
    """Links are never followed: they may lead out of the folder, or round in a circle."""
    others: list[str] = field(default_factory=list)
    """What is no picture, by its name or its first bytes."""


@dataclass(frozen=True)
class Survey:
    """What pictures are, in their order."""

    looks: Shaped[np.ndarray, " N"]
    """Records of `LOOKS`; zero where a picture cannot be read."""
    failures: dict[int, str]
    """Why, by row."""


def walk(folder: Path) -> Walk:
    """The pictures below a folder. What begins with a dot is passed over.

    Raises SadariError for a folder of more than five million files, and for one that may not be read.
    """
    found = Walk()
    for path, kind in _below(folder):
        if kind == "picture":
            found.files.append(path)
        else:
            (found.links if kind == "link" else found.others).append(path.relative_to(folder).as_posix())
    found.files.sort(key=lambda path: unicodedata.normalize("NFC", path.relative_to(folder).as_posix()))
    return found


def holds_pictures(folder: Path) -> bool:
    """Whether the first files below a folder are pictures rather than texts."""
    pictures = texts = 0
    for path, kind in islice(_below(folder), _SOME):
        pictures += kind == "picture"
        texts += path.name.lower().removesuffix(".gz").endswith(text_files.SUFFIXES)
    return pictures > 0 and pictures >= texts


def is_picture(name: str) -> bool:
    """Whether a file's name ends as a picture's does."""
    return name.lower().endswith(SUFFIXES)


def survey(
    pictures: Sequence[str | bytes | None],
    names: Sequence[str],
    *,
    cache: Path | None = None,
    told: Told | None = None,
) -> Survey:
    """Look at pictures, paths or files' bytes; at those that the memo knows only by their size and times.

    `names` are what failures call them. `told` is called as it goes on, `cache` is where the memo is.
    """
    looks = np.zeros(len(pictures), LOOKS)
    failures = {row: f"{names[row]} is missing" for row, one in enumerate(pictures) if one is None}
    stamps: dict[int, tuple[str, int, int, int]] = {}
    for row, picture in enumerate(pictures):
        try:
            if picture is not None:
                stamps[row] = _stamp(picture)
        except FileNotFoundError:
            failures[row] = f"{names[row]} is not there; check the path"
        except (OSError, ValueError) as error:
            failures[row] = f"{names[row]} cannot be read ({getattr(error, 'strerror', '') or error})"
    place = cache_folder(cache) / "decoded" / MEMO / f"{_memo_name(pictures, list(stamps.values()))}.parquet"
    known = _remembered(place)
    unknown = []
    for row, stamp in stamps.items():
        if (record := known.get(stamp)) is not None:
            looks[row] = record
        else:
            unknown.append(row)
    here = time.time_ns()
    found = side_by_side(lambda row: _look_at(pictures[row], names[row]), unknown, told)  # type: ignore[arg-type]
    for row, seen in zip(unknown, found, strict=True):
        if isinstance(seen, str):
            failures[row] = seen
        else:
            looks[row] = seen
    if unknown:
        kept = [row for row in stamps if row not in failures and here - max(stamps[row][2:]) > _SETTLED]
        _remember(place, [stamps[row] for row in kept], looks[kept])
    return Survey(looks, dict(sorted(failures.items())))


def content(picture: str | bytes, name: str) -> bytes:
    """The bytes of a picture's file. Raises SadariError when they cannot be read, or are too many."""
    if isinstance(picture, bytes):
        return picture
    try:
        with open(picture, "rb") as file:
            read = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise SadariError(f"{name} cannot be read ({error.strerror}); mend or remove it") from error
    if len(read) > _MOST_BYTES:
        raise SadariError(f"{name} has more than {_MOST_BYTES >> 30} GiB; make it smaller first")
    return read


def side_by_side(work: Callable[[T], R], items: Sequence[T], told: Told | None = None) -> Iterator[R]:
    """Results in the items' order, found by a thread for each core: Pillow decodes without Python's lock."""
    with without_warnings(), ThreadPoolExecutor(min(cores(), 16)) as pool:
        for start in range(0, len(items), _BLOCK):
            yield from pool.map(work, items[start : start + _BLOCK])
            if told is not None:
                told(min(start + _BLOCK, len(items)), len(items))


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files below a folder, each a picture, a link or other; in the order of their names, level by level."""
    waiting, seen = [folder], 0
    while waiting:
        place = waiting.pop(0)
        try:
            with os.scandir(place) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            raise SadariError(
                f"{place} cannot be read ({error.strerror}); change its rights or leave it out"
            ) from error
        for entry in entries:
            seen += 1
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                yield path, "link"
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            else:
                yield path, "picture" if _is_one(entry) else "other"
        if seen > _MOST_FILES:
            raise SadariError(f"{folder} holds more than {_MOST_FILES:,} files; name a smaller folder")


def _is_one(entry: os.DirEntry[str]) -> bool:
    if not entry.is_file(follow_symlinks=False) or any("\ud800" <= sign <= "\udfff" for sign in entry.path):
        return False  # a device; a name that is no UTF-8
    if "." in entry.name:
        return is_picture(entry.name)
    try:
        with open(entry.path, "rb") as file:
            return begins_as_one(file.read(16))
    except OSError:
        return False


def _stamp(picture: str | bytes) -> tuple[str, int, int, int]:
    """What a picture is known again by: path, size and times, or the hash of its bytes."""
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest(), len(picture), 0, 0
    about = os.stat(picture)
    if not os.path.isfile(picture):
        raise OSError("a folder or a device")
    return picture, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _look_at(picture: str | bytes, name: str) -> np.ndarray | str:
    """A record of `LOOKS`, or why there is none."""
    try:
        read = content(picture, name)
        seen = look(read, name=name)
    except SadariError as error:
        return str(error)
    record = np.zeros((), LOOKS)
    record["content"] = np.frombuffer(hashlib.sha256(read).digest(), np.uint8)
    record["pixels"] = np.frombuffer(seen.pixels, np.uint8)
    record["bits"], record["channels"] = seen.bits, seen.channels
    record["width"], record["height"] = seen.width, seen.height
    record["small"] = np.frombuffer(seen.small, np.uint8)
    return record


# --------------------------------------------------------------------- the memo


def _memo_name(pictures: Sequence[str | bytes | None], stamps: Sequence[tuple[str, int, int, int]]) -> str:
    """One memo for the folder that all files are in, or for just these bytes."""
    paths = [picture for picture in pictures if isinstance(picture, str)]
    said = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else repr(stamps)
    key = f"{_FORMAT} {PIL.__version__} {said}"  # another Pillow may decode a little differently
    return hashlib.sha256(os.fsencode(key)).hexdigest()[:32]


def _remembered(place: Path) -> dict[tuple[str, int, int, int], np.ndarray]:
    """Records by stamp; none where there is no memo, or a broken one."""
    try:
        frame = pl.read_parquet(place)
        packed = b"".join(frame["look"])
        looks = np.frombuffer(packed, LOOKS)
        stamps = frame.select("path", "size", "modified", "changed").rows()
        os.utime(place)
        return dict(zip(stamps, looks, strict=True))
    except (OSError, pl.exceptions.PolarsError, ValueError, TypeError):
        return {}


def _remember(place: Path, stamps: Sequence[tuple[str, int, int, int]], looks: np.ndarray) -> None:
    """Keep the records, and as many others of the same memo; a cache that cannot be written is none."""
    fresh = dict(zip(stamps, looks, strict=True))
    named = {stamp[0] for stamp in stamps}
    others = {stamp: record for stamp, record in _remembered(place).items() if stamp[0] not in named}
    fresh |= dict(islice(others.items(), len(fresh)))
    rows = [(*stamp, record.tobytes()) for stamp, record in fresh.items()]
    schema = {
        "path": pl.String,
        "size": pl.Int64,
        "modified": pl.Int64,
        "changed": pl.Int64,
        "look": pl.Binary,
    }
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    with suppress(OSError, pl.exceptions.PolarsError):
        place.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows, schema, orient="row").write_parquet(temporary)
        os.replace(temporary, place)
