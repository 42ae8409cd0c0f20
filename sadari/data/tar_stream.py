"""A tar archive read from front to back, member by member, trusting nothing that it says of itself.

    512 bytes   512 bytes ...   512 bytes   512 bytes ...    two blocks of zeros
    [ header ][ content, padded ][ header ][ content, padded ] ... [ end ]

POSIX ustar and pax, GNU and V7, plain or in gzip. Nothing is ever written, so a name is only a name: `../x`
and `/etc/passwd` are keys like others. Links, devices and folders are passed over. Refused in one line,
before memory is asked for: a member of more bytes than it may have, a header whose checksum is wrong, names
without end, an archive that is cut off, and gzip that grows beyond a hundred times its size.

What differs from `tarfile` of the standard library: limits, and where a member begins, so that reading can go
on from there. Global pax headers are read and not heeded, sparse files are passed over.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple, Protocol

from sadari.errors import SadariError

BLOCK = 512
MOST_BYTES = 1 << 28
"""Of a member, unless told otherwise."""
_LONGEST_NAME = 1 << 16  # bytes of a header that only holds a name
_PLAIN = (b"0", b"\0", b"7")
_TEXTS = (b"L", b"K", b"x", b"g", b"X")  # headers of names for the next member, or for all
_END = bytes(BLOCK)
_READ = 1 << 16
_AT_ONCE = 1 << 24  # what is stated may not be there: no memory for it before it is
_GROWTH, _GROWS_FROM = 100, 1 << 26
_PACKED = {b"\x28\xb5\x2f\xfd": "Zstandard", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}


class Member(NamedTuple):
    """A plain file of an archive."""

    name: str
    content: bytes
    begins: int
    """Bytes of the archive (unpacked) before its first header: where reading may start."""


class _Source(Protocol):
    def read(self, size: int) -> bytes: ...

    def skip(self, size: int) -> None: ...


def members(file: IO[bytes], name: str, *, start: int = 0, most: int = MOST_BYTES) -> Iterator[Member]:
    """The plain files of an open archive from byte `start` on, which is a `begins` of an earlier reading.

    `name` is what errors call the archive. Raises SadariError where it is broken, hostile or no tar.
    """
    source = _opened(file, name, start)
    place, begins, long = start, start, ""
    while True:
        header = source.read(BLOCK)
        if header == _END or (not header and place > 0):  # some writers leave the end away
            return
        if len(header) < BLOCK:
            raise SadariError(f"{name} is cut off after {place + len(header):,} bytes; copy it again")
        size, kind = _checked(header, name, place), header[156:157]
        place += BLOCK
        padded = size + -size % BLOCK
        if kind in _TEXTS:
            if size > _LONGEST_NAME:
                raise SadariError(
                    f"{name} has a name of {size:,} bytes at byte {place:,}; it was not made by tar"
                )
            text = _whole(source, size, padded, name, place)
            long = _named(kind, text, name, place) or long
        elif kind in _PLAIN:
            if size > most:
                raise SadariError(
                    f"{name} holds {_shown(long or _name(header))} of {size:,} bytes, and {most:,} are the "
                    "most; leave it out"
                )
            yield Member(long or _name(header), _whole(source, size, padded, name, place), begins)
            long = ""
        else:
            skipped = padded if kind not in b"123456" else 0  # links and devices have no content
            if skipped > most:
                raise SadariError(
                    f"{name} states {size:,} bytes at byte {place:,}; it is no archive of samples"
                )
            source.skip(skipped)
            padded, long = skipped, ""
        place += padded
        if kind not in _TEXTS:
            begins = place


def _checked(header: bytes, name: str, place: int) -> int:
    """The size that a header states. Raises SadariError when the header is none."""
    stated = _number(header[148:156])
    signs = sum(header) - sum(header[148:156]) + 8 * 0x20
    size = _number(header[124:136])
    if stated != signs or size is None or size < 0:
        if place == 0:
            raise SadariError(f"{name} is no tar archive; give shards as .tar or .tar.gz")
        raise SadariError(f"{name} is broken at byte {place:,} (a header's checksum is wrong); make it again")
    return size


def _number(field: bytes) -> int | None:
    """A number in octal digits or, where the first bit is set, in bytes."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    try:
        return int(field.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        return None


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0", 1)[0]):
        name = prefix + b"/" + name
    return name.decode("utf-8", "replace")


def _named(kind: bytes, text: bytes, name: str, place: int) -> str:
    """The name that a header of names gives the next member; empty where it gives none."""
    if kind == b"L":
        return text.split(b"\0", 1)[0].decode("utf-8", "replace")
    if kind not in (b"x", b"X"):
        return ""
    found = ""
    while text.strip(b"\0"):
        length, _, _ = text.partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(text):
            raise SadariError(f"{name} is broken at byte {place:,} (a pax header is none); make it again")
        record, text = text[: int(length)], text[int(length) :]
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        if key == b"path":
            found = value.decode("utf-8", "replace")
        elif key == b"size" or key.startswith(b"GNU.sparse"):
            raise SadariError(
                f"{name} has a member of over 8 GiB, or with holes, at byte {place:,}; leave it out"
            )
    return found


def _whole(source: _Source, size: int, padded: int, name: str, place: int) -> bytes:
    content = source.read(padded)
    if len(content) < size:
        raise SadariError(
            f"{name} is cut off: of {size:,} bytes from byte {place:,} on, {len(content):,} are there; copy "
            "it again"
        )
    return content[:size]


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


# --------------------------------------------------------------------- bytes, plain and packed


def _opened(file: IO[bytes], name: str, start: int) -> _Source:
    """The archive's bytes from `start` on."""
    first = file.read(6)
    for magic, what in _PACKED.items():
        if first.startswith(magic):
            raise SadariError(f"{name} is packed by {what}; give shards as .tar or .tar.gz")
    if first.startswith(b"\x1f\x8b"):
        packed = _Packed(file, first, name)
        packed.skip(start)
        return packed
    plain = _Plain(file, first)
    plain.skip(start)
    return plain


class _Plain:
    """A file, with the bytes that were looked at in front."""

    def __init__(self, file: IO[bytes], first: bytes) -> None:
        self._file, self._first = file, first

    def read(self, size: int) -> bytes:
        head, self._first = self._first[:size], self._first[size:]
        parts = [head] if head else []
        missing = size - len(head)
        while missing and (part := self._file.read(min(missing, _AT_ONCE))):  # a network may give less
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip(self, size: int) -> None:
        head, self._first = self._first[:size], self._first[size:]
        missing = size - len(head)
        if missing and self._file.seekable():
            self._file.seek(missing, io.SEEK_CUR)
            return
        while missing and (part := self._file.read(min(missing, _READ))):
            missing -= len(part)


class _Packed:
    """What gzip unpacks to, never more of it in memory than was asked for."""

    def __init__(self, file: IO[bytes], first: bytes, name: str) -> None:
        self._file, self._name = file, name
        self._rest, self._unpacker = first, zlib.decompressobj(31)
        self._taken, self._given = len(first), 0

    def read(self, size: int) -> bytes:
        parts = []
        while size and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        while size and (part := self._some(min(size, _READ))):
            size -= len(part)

    def _some(self, most: int) -> bytes:
        """Between one and `most` bytes; none at the end."""
        while True:
            if self._unpacker.eof:
                self._rest = self._unpacker.unused_data or self._read()
                if not self._rest.strip(b"\0"):
                    return b""
                self._unpacker = zlib.decompressobj(31)  # a gzip may be several, one after another
            self._rest = self._rest or self._read()
            if not self._rest:
                raise SadariError(f"{self._name} is cut off: its gzip has no end; copy it again")
            try:
                part = self._unpacker.decompress(self._rest, most)
            except zlib.error as error:
                raise SadariError(f"{self._name} is a damaged gzip ({error}); copy it again") from error
            self._rest = self._unpacker.unconsumed_tail
            self._given += len(part)
            if self._given > max(_GROWS_FROM, _GROWTH * self._taken):
                raise SadariError(
                    f"{self._name} unpacks to over {_GROWTH} times its size, as no pictures do; it was left"
                )
            if part:
                return part

    def _read(self) -> bytes:
        read = self._file.read(_READ)
        self._taken += len(read)
        return read
