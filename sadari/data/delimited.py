"""What a text file of rows is made of before a value is read: encoding, separator, column names, ragged rows.

Polars reads UTF-8 only, fills short rows with gaps in silence, and does not say in which line a row is too
long. So a file is looked through in blocks (1 GB in about 3 s), and what polars cannot read is first copied
into what it can.
"""

from __future__ import annotations

import atexit
import codecs
import csv
import gzip
import hashlib
import io
import shutil
import tempfile
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from sadari.errors import SadariError

_BLOCK = 1 << 22
_HEAD = 1 << 16
_SEPARATORS = ",;\t|"
# First bytes, in UTF-8, of conjoining jamo and combining accents: letters that macOS writes in parts.
_PARTS = (b"\xe1\x84", b"\xcc", b"\xcd")
csv.field_size_limit(1 << 30)  # a cell of a megabyte is odd, not wrong


@dataclass(frozen=True)
class Delimited:
    """A file of rows, ready for polars."""

    path: Path
    """The file as the user named it."""
    text: Path
    """The same rows in plain UTF-8: the file itself, or a copy that lives as long as the program."""
    digest: str
    """Hexadecimal SHA-256 of the unpacked content."""
    separator: str
    names: tuple[str, ...]
    """Names of the columns: trimmed, composed (NFC), an empty one called after its place."""
    bytes: int
    """Length of the text."""
    blank: int
    """Blank lines at the end."""
    even: bool
    """There is no quote sign, and as many separators as rows of full length have: no row is short."""


@dataclass(frozen=True)
class _Look:
    """What one pass over the raw content shows."""

    encoding: str
    digest: str
    packed: bool
    decomposed: bool
    """Some letters are written in parts (NFD); the copy composes them."""
    returns: bool
    """Lines end with a carriage return alone."""

    @property
    def plain(self) -> bool:
        return self.encoding == "utf-8" and not (self.packed or self.decomposed or self.returns)


def survey(path: Path) -> Delimited:
    """Look through a CSV or TSV file, gzipped or not.

    Raises SadariError for a file that is empty, cut off, binary, of unknown encoding, or without usable
    names.
    """
    look = _look(path)
    text = path if look.plain else _copy(path, look)
    with open(text, "rb") as file:
        head = file.read(_HEAD)
    separator = _separator(path, head)
    names = _names(path, text, separator)
    size, newlines, separators, quoted, tail = 0, 0, 0, False, b""
    for block in _blocks(text):
        view = np.frombuffer(block, np.uint8)
        size += len(block)
        newlines += int(np.count_nonzero(view == ord("\n")))
        separators += int(np.count_nonzero(view == ord(separator)))
        quoted = quoted or b'"' in block
        tail = (tail + block)[-_HEAD:]
    ends = tail[len(tail.rstrip(b"\r\n")) :].count(b"\n")
    rows = newlines - ends + 1
    even = not quoted and separators == (len(names) - 1) * rows
    return Delimited(path, text, look.digest, separator, names, size, max(0, ends - 1), even)


def ragged(file: Delimited) -> tuple[int, int] | None:
    """The first row whose number of fields is not the header's: its line and its fields. Reads row by row."""
    for line, row in _rows(file.text, file.separator):
        if row and len(row) != len(file.names):
            return line, len(row)
    return None


def unclosed(file: Delimited) -> int | None:
    """The line of the last quote that opens and is never closed, else None."""
    start = None
    with open(file.text, "rb") as lines:
        for at, line in enumerate(lines, 1):
            if line.count(b'"') % 2:
                start = at if start is None else None
    return start


def _look(path: Path) -> _Look:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    digest, first, line, decomposed = hashlib.sha256(), b"", 1, False
    decoder, failed, wide = codecs.getincrementaldecoder("utf-8")(), 0, False
    for block in _blocks(path):
        first = first or block[:_HEAD]
        wide = first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        if not wide and b"\0" in block:
            at = line + block[: block.index(b"\0")].count(b"\n")
            raise SadariError(
                f"{path} has a NUL byte in line {at:,}, so it is no text; save the table as CSV in UTF-8"
            )
        if not (wide or failed):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                failed = line + error.object[: error.start].count(b"\n")
        decomposed = decomposed or any(part in block for part in _PARTS)
        digest.update(block)
        line += block.count(b"\n")
    if not first.strip():
        raise SadariError(f"{path} is empty; a table needs a line of column names and rows below it")
    encoding = "utf-16" if wide else "utf-8"
    if not wide and (failed := failed or _cut(decoder, line)):
        encoding = "cp949"
        if other := _undecodable(path, encoding):
            raise SadariError(
                f"{path} is neither UTF-8 (line {failed:,}) nor CP949/EUC-KR (line {other:,}); save it as "
                f"UTF-8"
            )
    returns = b"\r" in first and b"\n" not in first
    return _Look(encoding, digest.hexdigest(), packed, decomposed and encoding == "utf-8", returns)


def _cut(decoder: codecs.IncrementalDecoder, line: int) -> int:
    """The last line's number when the text ends within a letter, else 0."""
    try:
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return line
    return 0


def _undecodable(path: Path, encoding: str) -> int:
    """The first line that is not in the encoding, or 0."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    for block in _blocks(path):
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            return line + block[: error.start].count(b"\n")
        line += block.count(b"\n")
    return _cut(decoder, line)


def _copy(path: Path, look: _Look) -> Path:
    """The file as plain UTF-8, in a folder that goes when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="sadari-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    decoder, rest = codecs.getincrementaldecoder(look.encoding)(), ""
    try:
        with open(folder / "rows.csv", "wb") as out:
            for block in _blocks(path):
                text = rest + decoder.decode(block)
                text = text.replace("\r", "\n") if look.returns else text
                cut = text.rfind("\n") + 1  # a letter's parts never stand in two lines
                text, rest = text[:cut], text[cut:]
                out.write((unicodedata.normalize("NFC", text) if look.decomposed else text).encode())
            rest += decoder.decode(b"", True)
            out.write((unicodedata.normalize("NFC", rest) if look.decomposed else rest).encode())
    except UnicodeDecodeError as error:
        raise SadariError(
            f"{path} is not valid {look.encoding.upper()} ({error.reason}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise SadariError(
            f"cannot unpack {path} into {folder} ({error.strerror}); free some space"
        ) from error
    return folder / "rows.csv"


def _blocks(path: Path) -> Iterator[bytes]:
    """The content in blocks, unpacked where it is gzipped."""
    try:
        with _open(path) as file:
            while block := file.read(_BLOCK):
                yield block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SadariError(f"{path} is a damaged gzip file ({error}); copy or download it again") from error


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]


def _rows(text: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line on which it begins."""
    with open(text, encoding="utf-8-sig", newline="") as file:
        reader, start = csv.reader(file, delimiter=separator), 1
        for row in reader:
            yield start, row
            start = reader.line_num + 1


def _separator(path: Path, head: bytes) -> str:
    """The separator that cuts the first lines into as many fields as the header; else a comma or a tab."""
    text = head.decode("utf-8-sig", errors="ignore")
    whole = text[: text.rfind("\n") + 1] if len(head) == _HEAD else text
    usual = "\t" if ".tsv" in path.name.lower() else ","
    best, agreed, most = usual, 0.0, 1
    for separator in sorted(_SEPARATORS, key=lambda mark: mark != usual):
        rows = csv.reader(io.StringIO(whole or text, newline=""), delimiter=separator)
        widths = [len(row) for row in rows if row]
        fields = widths[0] if widths else 1
        share = widths.count(fields) / max(1, len(widths))
        if fields > 1 and (share > agreed + 0.05 or (share > agreed - 0.05 and fields > most)):
            best, agreed, most = separator, share, fields
    return best


def _names(path: Path, text: Path, separator: str) -> tuple[str, ...]:
    """The column names of the first row, clean and each of them once."""
    row = next((row for _, row in _rows(text, separator)), [])
    names = [unicodedata.normalize("NFC", name.strip()) for name in row]
    if not any(names):
        raise SadariError(
            f"{path} begins with a blank line; its first line must hold the names of the columns"
        )
    names = [name or f"column {place}" for place, name in enumerate(names, 1)]
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        places = " and ".join(str(place) for place, name in enumerate(names, 1) if name == twice)
        raise SadariError(
            f"{path} calls columns {places} {twice!r} alike; give each column a name of its own"
        )
    # whole numbers may be names (years, pixels); a fraction among nothing but numbers is a row of values
    if all(is_number(name) for name in names) and any("." in name for name in names):
        raise SadariError(
            f"{path} begins with numbers ({', '.join(names[:3])}); write a line of column names above"
        )
    return tuple(names)


def is_number(text: str) -> bool:
    """Whether a text is a number as it is written, such as 12, -0.5 or 1e3."""
    try:
        float(text)
    except ValueError:
        return False
    return True
