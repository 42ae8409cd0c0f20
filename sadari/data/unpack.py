"""Archives opened without trust: only members asked for, only plain files, below one folder, up to a size.

Reads what package registries serve: .whl and .zip, .tar.* and .tgz, .deb (an `ar` archive with a tar in it).
Bytes are written by us, never by an archive library, so links, devices, owners and modes have no way in.
"""

from __future__ import annotations

import errno
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from sadari.errors import SadariError

_BLOCK = 1 << 20
_STREAM = 2 << 30  # bytes that may be decompressed from one archive on the way to the members that are wanted
# what the archive libraries raise for damaged bytes, found by damaging some: tests/data/test_unpack.py
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
_BROKEN = (*_DAMAGED, RuntimeError, TypeError, ValueError)


def unpack(
    archive: Path, folder: Path, take: tuple[str, ...], *, strip: str = "", limit: int = _STREAM
) -> None:
    """Write the members whose names match a pattern of `take` below `folder`, `strip` taken off.

    Raises SadariError for a broken archive, a pattern that nothing matches, a member that is a link or would
    land outside, and more than `limit` bytes. What was written until then stays: give a folder to throw away.
    """
    try:
        _copy(archive, folder, take, strip, limit)
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a full disk is no broken archive
            raise
        raise SadariError(f"{archive.name} is a broken archive ({error}); fetch it again") from error


def _copy(archive: Path, folder: Path, take: tuple[str, ...], strip: str, limit: int) -> None:
    written, taken = 0, set()
    for name, reader in _members(archive):
        pattern = next((pattern for pattern in take if fnmatch(name, pattern)), None)
        if pattern is None:
            continue
        path = folder / _inner_name(name.removeprefix(strip), archive)
        if reader is None or path.exists():
            what = "there twice" if reader else "a link or a device"
            raise SadariError(
                f"{archive.name} holds {name!r}, which is {what}; only plain files are unpacked"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with reader, open(path, "xb") as writer:
            while block := reader.read(_BLOCK):
                written += len(block)
                if written > limit:  # counted, since the size that an archive states may be a lie
                    raise SadariError(
                        f"{archive.name} unpacks to more than its {limit} bytes; nothing was kept"
                    )
                writer.write(block)
        taken.add(pattern)
    if missing := [pattern for pattern in take if pattern not in taken]:
        raise SadariError(
            f"{archive.name} holds nothing that is called {missing[0]!r}; is it another version?"
        )


def _inner_name(name: str, archive: Path) -> str:
    """`name` when it stays below the folder it is put in, on every system. Raises SadariError otherwise."""
    parts = name.split("/")
    if (
        not name
        or "" in parts
        or "." in parts
        or ".." in parts
        or any(sign in name for sign in ("\\", ":", "\0"))
    ):
        raise SadariError(
            f"{archive.name} holds a file {name!r}, which could land outside its folder; nothing was kept"
        )
    return name


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and bytes of each member but folders, of .whl .tar.gz .tgz .deb; None if it is no plain file."""
    with open(archive, "rb") as file:
        start = file.read(8)
        if start == b"!<arch>\n":
            _seek_data(file, archive)
        elif start.startswith(b"PK"):
            with zipfile.ZipFile(file) as pack:
                for info in pack.infolist():
                    if not info.is_dir():
                        # the upper half is the Unix mode, whose top tells the kind; 0 where it is unknown
                        plain = info.external_attr >> 28 in (0, 0o10)
                        yield info.filename, pack.open(info) if plain else None
            return
        else:
            file.seek(0)
        with tarfile.open(
            fileobj=file, mode="r|*"
        ) as tape:  # one way through: it is never decompressed twice
            for member in tape:
                if member.offset_data + member.size > _STREAM:
                    raise SadariError(
                        f"{archive.name} decompresses to more than {_STREAM >> 30} GiB; it was dropped"
                    )
                if not member.isdir():
                    reader = tape.extractfile(member) if member.isreg() else None
                    yield member.name.removeprefix("./"), reader


def _seek_data(file: IO[bytes], archive: Path) -> None:
    """Go to data.tar in a Debian package: an `ar` archive, whose members follow headers of 60 bytes."""
    while header := file.read(60):
        name, size = header[:16].decode("ascii", "replace").strip(" /"), header[48:58].strip()
        if len(header) < 60 or not size.isdigit():
            break
        if name.startswith("data.tar"):
            return
        file.seek(int(size) + int(size) % 2, os.SEEK_CUR)  # members start at even places
    raise SadariError(f"{archive.name} is not a Debian package that can be read: it has no data.tar")
