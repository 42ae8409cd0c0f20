"""Decoded pictures in raw files that are mapped: what was decoded once is found again.

    CACHE/decoded/<digest>/pixels       N x S x S x C bytes
                           index.json   source, rows, size, fit, channels, failures

The digest is of the pictures' contents, of how they are decoded, and of Pillow's version: a changed file
makes another one, a copy elsewhere the same. Folders are written beside their place and moved there in one
step. Those that were not used for 30 days go.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import PIL

from sadari import files
from sadari.data.decode_image import decode
from sadari.data.fetch import cache_folder
from sadari.data.image_files import MEMO, Told, content, side_by_side
from sadari.data.mapped import map_array
from sadari.data.split import Split
from sadari.data.tokens import PARTS
from sadari.errors import SadariError
from sadari.lang import default_lang, pick

if TYPE_CHECKING:
    from jaxtyping import UInt8

TEXTS = {
    "look": ("looking at pictures", "사진 살펴보기"),
    "decode": ("decoding pictures", "사진 풀기"),
}
PIXELS, INDEX = "pixels", "index.json"
_FORMAT = 1
_KEPT = 30 * 24 * 3600  # seconds without use
_STALE = 3600  # seconds after which an unfinished folder must be one of a process that died
_ROOM = 1.05  # of the bytes that are written must be free
_FEW = 200  # pictures that need no bar
_BLOCK = 1 << 10


def decoded(
    pictures: Sequence[str | bytes],
    contents: UInt8[np.ndarray, "N 32"],
    *,
    size: int,
    fit: str,
    channels: int,
    names: Sequence[str] | None = None,
    source: str = "",
    memory: int = 2 << 30,
    cache: Path | None = None,
    told: Told | None = None,
) -> tuple[UInt8[np.ndarray, "N H W C"], dict[int, str]]:
    """Pixels of pictures (paths, or files' bytes) mapped from the cache, decoded first if they are not there.

    `contents` are the SHA-256 of their files. With the pixels comes, by row, why a picture could not be
    decoded; its pixels are 0. `told` is called as decoding goes on, `names` are what errors call them.
    Raises SadariError when a file holds another content by now, and when the cache cannot be written.
    """
    names = names or [f"picture {row:,}" for row in range(1, len(pictures) + 1)]
    shape = (len(pictures), size, size, channels)
    about = {"rows": len(pictures), "size": size, "fit": fit, "channels": channels}

    def one(row: int) -> np.ndarray | str:
        read = content(pictures[row], names[row])
        if hashlib.sha256(read).digest() != contents[row].tobytes():
            raise SadariError(f"{names[row]} changed while the pictures were read; start again")
        try:
            return decode(read, size=size, fit=fit, channels=channels, name=names[row])
        except SadariError as error:
            return str(error)

    def write(folder: Path) -> None:
        failures = {}
        with open(folder / PIXELS, "wb") as file:
            for row, found in enumerate(side_by_side(one, range(len(pictures)), told)):
                if isinstance(found, str):
                    failures[row] = found
                    found = np.zeros(shape[1:], np.uint8)
                file.write(found.tobytes())
        files.write_json(folder / INDEX, {"source": source, **about, "failures": failures})

    key = json.dumps(["pixels", about]).encode() + contents.tobytes()
    folder = kept(key, int(np.prod(shape)), write, cache)
    index = files.read_json(folder / INDEX, "decoded pictures")
    failures = {int(row): str(reason) for row, reason in index["failures"].items()}
    return map_array(folder / PIXELS, np.uint8, shape, memory // 2), failures


def parts_of(
    pixels: UInt8[np.ndarray, "N H W C"], split: Split, memory: int, cache: Path | None
) -> list[UInt8[np.ndarray, "P H W C"]]:
    """The pixels of each part of the split: in memory or, above half of `memory`, mapped from the cache."""
    parts = [split.train, split.validation, split.test]
    shape = pixels.shape[1:]
    if sum(map(len, parts)) * int(np.prod(shape)) <= memory // 2:
        return [np.ascontiguousarray(pixels[rows]) for rows in parts]

    def write(folder: Path) -> None:
        for name, rows in zip(PARTS, parts, strict=True):
            with open(folder / name, "wb") as file:
                _copy(pixels, rows, file)
        files.write_json(folder / INDEX, {"parts": [len(rows) for rows in parts]})

    key = f"parts {split.fingerprint} {pixels.filename} {shape}".encode()  # type: ignore[attr-defined]
    folder = kept(key, sum(map(len, parts)) * int(np.prod(shape)), write, cache)
    return [
        map_array(folder / name, np.uint8, (len(rows), *shape), memory // 2)
        for name, rows in zip(PARTS, parts, strict=True)
    ]


def kept(key: bytes, size: int, write: Callable[[Path], None], cache: Path | None = None) -> Path:
    """The folder of `key` below CACHE/decoded, filled by `write` if it is not there; `size` bytes in files.

    Raises SadariError when it cannot be written, or there is no room for it. Nothing unfinished is left.
    """
    place = cache_folder(cache) / "decoded"
    made_by = f"{_FORMAT} {PIL.__version__} ".encode()
    folder = place / hashlib.sha256(made_by + key).hexdigest()[:32]
    try:
        if _whole(folder, size):
            os.utime(folder)
            return folder
        place.mkdir(parents=True, exist_ok=True)
        sweep(place)
        if (free := shutil.disk_usage(place).free) < size * _ROOM:
            raise SadariError(
                f"decoded pictures take {size / 1e6:,.0f} MB in {place}, which has {free / 1e6:,.0f} MB "
                "free; free some, name another folder in SADARI_CACHE, or make them smaller with --size"
            )
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=place, ignore_cleanup_errors=True) as fresh:
            write(Path(fresh))
            if folder.exists() and not _whole(folder, size):  # what a broken disk left
                shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process was faster with the same pictures
                os.rename(fresh, folder)
    except OSError as error:
        raise SadariError(
            f"cannot write decoded pictures below {place} ({error.strerror or error}); free some space, or "
            f"name another folder in SADARI_CACHE"
        ) from error
    if not _whole(folder, size):
        raise SadariError(f"{folder} cannot be written; name another folder in SADARI_CACHE")
    return folder


def sweep(place: Path, age: float = _KEPT) -> None:
    """Remove what was not used for `age` seconds below CACHE/decoded, and what died while being written."""
    now = time.time()
    memos = (place / MEMO).iterdir() if (place / MEMO).is_dir() else ()
    for path in [*place.iterdir(), *memos]:
        with suppress(OSError):
            unfinished = path.name.startswith(".")
            if path.name == MEMO or now - path.stat().st_mtime <= (_STALE if unfinished else age):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


@contextmanager
def bar(key: str, told: Told | None = None) -> Iterator[Told]:
    """What is to be told how far it is: `told`, or a bar on standard error where that is a terminal."""
    if told is not None or not sys.stderr.isatty():
        yield told or _nobody
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(pick(TEXTS, key, default_lang()), total=None, visible=False)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=total >= _FEW)

        yield show


def _nobody(done: int, total: int) -> None:
    """Nobody looks on."""


def _whole(folder: Path, size: int) -> bool:
    """Whether a folder was finished (its index is written last) and still has its bytes."""
    try:
        others = [path for path in folder.iterdir() if path.name != INDEX]
        return (folder / INDEX).is_file() and sum(path.stat().st_size for path in others) == size
    except OSError:
        return False


def _copy(pixels: np.ndarray, rows: np.ndarray, file: IO[bytes]) -> None:
    for start in range(0, len(rows), _BLOCK):
        file.write(pixels[rows[start : start + _BLOCK]].tobytes())
